//! Batched matrix products: `y[b][m][n] = epilogue(sum over k of a[b][m][k] * b[b][k][n])`, `y` dense and row-major.

use std::collections::BTreeSet;

use minijinja::context;
use smallvec::{SmallVec, smallvec};

use super::expr::Scalar;
use super::fused::{Fused, Prologue};
use super::shared::{Shared, SharedLeft, SharedRight};
use super::{Kernel, Slot, SlotElement, Spec, element, given, template, whole};

/// Invocations per workgroup of [`GemmTile::Strided`].
const WORKGROUP: usize = 64;

/// A batched matrix product. Tensors: a, b, the prologue's, the epilogue's, y. Params: [`Gemm::params`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gemm {
    pub(crate) scalar: Scalar,
    /// Batch dimensions, outermost first.
    pub(crate) batch: usize,
    pub(crate) tile: GemmTile,
    /// Whether the elements are 64-bit integers: the kernel then reports a sum or a product that does not fit 32 bits. Only
    /// strided tiles can.
    pub(crate) wide: bool,
    /// The prologue of `a` or of `b`.
    pub(crate) prologue: Prologue,
    pub(crate) epilogue: Fused,
    /// Whether neighbours are stored together.
    pub(crate) runs: bool,
}

/// What a workgroup computes, and how it reads its operands.
///
/// An example: a product `[64, 256] x [256, 256]`. lavapipe, with 8 lanes, may take `Lanes` of 32 rows and 2 vectors: 32 x 64
/// results for a subgroup. A GPU may take `Shared`, with a block of 32 x 32 results for a workgroup. With 4 rows on the left a
/// GPU takes `Split`: 4 x 32 results, and 16 invocations for each sum of one vector. `Strided` takes any operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum GemmTile {
    /// Any strides; an invocation computes `rows` rows of `columns` columns that are 64 columns (a workgroup's width) apart.
    Strided { rows: usize, columns: usize },
    /// For software devices with a known subgroup size.
    Lanes(LanesTile),
    /// For GPUs.
    Shared(Shared),
    /// For GPUs, where the left operand has few rows.
    Split(SplitTile),
}

/// A workgroup computes `rows` rows of [`SplitTile::COLUMNS`] columns, and its invocations share each sum: with 4 rows, 128
/// invocations are 8 vectors of columns by 16 slices of the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SplitTile {
    /// 1, 2, 4 or 8.
    pub(crate) rows: usize,
    /// Whether the rows of `a` begin at vectors and are whole vectors.
    pub(crate) left_vectors: bool,
    pub(crate) right: SplitRight,
}

/// How `b` lies in memory, for [`SplitTile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SplitRight {
    /// As in [`SharedRight::Packed`], for tiles of any size.
    Packed,
    /// Row-major; every row begins at a vector and consists of whole vectors.
    Vectors,
    /// Any strides; neighbouring invocations take neighbouring columns.
    Columns,
    /// Column-major; every column begins at a vector and consists of whole vectors.
    TermVectors,
    /// Any strides; neighbouring invocations take neighbouring terms.
    Terms,
}

impl SplitTile {
    pub(crate) const COLUMNS: usize = 32;

    /// The rows of the tile for a product of `m` rows; `None` above 8.
    pub(crate) fn rows(m: usize) -> Option<usize> {
        (1..=8).contains(&m).then(|| m.next_power_of_two())
    }

    /// The number of slices of a sum. The workgroup then has 128 invocations, or 64 where each holds 8 rows.
    pub(crate) fn slices(&self) -> usize {
        if self.rows > 4 { 8 } else { 16 }
    }

    /// Terms that one dispatch may add up.
    pub(crate) fn limit(&self, max_iterations: u32) -> usize {
        let slices = self.slices();
        4 * slices * (max_iterations as usize).saturating_sub(slices + 4).max(1)
    }
}

/// A subgroup computes `rows` rows of `lanes * 4 * vectors` columns: 8 lanes and 2 vectors are 64 columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LanesTile {
    pub(crate) lanes: usize,
    /// At most `lanes`, or a multiple of it.
    pub(crate) rows: usize,
    pub(crate) vectors: usize,
    pub(crate) left: LanesLeft,
    pub(crate) right: LanesRight,
    /// Whether `k` may be no multiple of 4.
    pub(crate) tail: bool,
}

/// How the rows of `a` lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LanesLeft {
    /// `[row tile][k / 4][row][k % 4]`, padded with zeros.
    Packed,
    /// Row-major; every row begins at a vector and consists of whole vectors.
    Vectors,
    /// Row-major.
    Scalars,
}

/// How `b` lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LanesRight {
    /// `[column tile][k][column]`, padded with zeros.
    Packed,
    /// Row-major; row 0 begins at a vector, and every row does if `aligned`.
    Rows { aligned: bool },
    /// Row-major.
    RowScalars,
    /// Column-major; every column begins at a vector and consists of whole vectors.
    Columns,
    /// Column-major.
    ColumnScalars,
}

impl LanesTile {
    pub(crate) fn columns(&self) -> usize {
        let lost = if self.right == (LanesRight::Rows { aligned: false }) { 4 } else { 0 };
        self.lanes * 4 * self.vectors - lost
    }

    /// The products of registers that the inner loop adds up: 32 rows and one vector of 4 columns have 4 terms each, 512.
    pub(crate) fn products(&self) -> usize {
        self.rows * self.vectors * 16
    }

    /// The rows and vectors of the tiles to choose from for a product of `m` rows. If `fixed`, every shape has this number of
    /// rows: a product of 3 rows then takes a tile of 4. Otherwise other shapes may have more rows, and it takes a tile of
    /// `lanes` rows.
    pub(crate) fn candidates(lanes: usize, m: usize, fixed: bool) -> SmallVec<[(usize, usize); 5]> {
        match m {
            m if m > lanes => {
                [(4, 1), (2, 1), (3, 2), (2, 2), (4, 2)].map(|(rows, vectors)| (rows * lanes, vectors)).into()
            }
            m if fixed => smallvec![(m.max(1).next_power_of_two(), 2)],
            _ => smallvec![(lanes, 2)],
        }
    }
}

impl GemmTile {
    /// Whether `a`, and `b`, are read in vectors.
    fn vectors(self) -> (bool, bool) {
        match self {
            GemmTile::Strided { .. } => (false, false),
            GemmTile::Lanes(tile) => (
                tile.left != LanesLeft::Scalars,
                !matches!(tile.right, LanesRight::RowScalars | LanesRight::ColumnScalars),
            ),
            GemmTile::Shared(tile) => (tile.left.is_vector(), tile.right.is_vector()),
            GemmTile::Split(tile) => {
                (tile.left_vectors, !matches!(tile.right, SplitRight::Columns | SplitRight::Terms))
            }
        }
    }

    /// Rows and columns of the result that one workgroup computes.
    pub(crate) fn size(self) -> (usize, usize) {
        match self {
            GemmTile::Strided { rows, columns } => (rows, columns * WORKGROUP),
            GemmTile::Lanes(tile) => (tile.rows, tile.columns()),
            GemmTile::Shared(tile) => (tile.block.bm, tile.block.bn),
            GemmTile::Split(tile) => (tile.rows, SplitTile::COLUMNS),
        }
    }
}

impl Spec for Gemm {
    fn label(&self) -> String {
        let (rows, columns) = self.tile.size();
        let kind = match self.tile {
            GemmTile::Strided { .. } | GemmTile::Lanes(_) => "gemm",
            GemmTile::Shared(_) => "gemm_shared",
            GemmTile::Split(_) => "gemm_split",
        };
        format!("{kind}{rows}x{columns}")
    }

    fn slots(&self) -> Vec<Slot> {
        let (a, b) = self.tile.vectors();
        let slot = |name: &'static str, vectors: bool| {
            Slot::read(name, element(self.prologue.scalar(name, self.scalar), vectors))
        };
        let mut slots = vec![slot("a", a), slot("b", b)];
        slots.extend(self.prologue.slots());
        slots.extend(self.epilogue.slots("e"));
        let result = self.epilogue.output();
        slots.push(Slot::write("y", if self.runs { SlotElement::Run(result, 4) } else { result.into() }));
        slots
    }

    fn in_runs(&self) -> Option<Kernel> {
        let neighbours = match self.tile {
            GemmTile::Lanes(tile) => matches!(tile.right, LanesRight::Packed | LanesRight::Rows { .. }),
            GemmTile::Shared(tile) => tile.right == SharedRight::Vectors,
            GemmTile::Strided { .. } | GemmTile::Split(_) => false,
        };
        neighbours.then(|| Gemm { runs: true, ..self.clone() }.into())
    }

    fn params(&self) -> Vec<String> {
        // Params of the kernels that number the tiles of all batches in one sequence.
        const TILES: &[&str] =
            &["batches", "tiles", "first_tile", "blocks", "a_row", "a_k", "b_k", "b_column"];
        let (tiles, own): (&[&str], &[&str]) = match self.tile {
            GemmTile::Strided { .. } => (&[], &["batches", "a_row", "a_k", "b_k", "b_column"]),
            GemmTile::Lanes(_) => (&[], &["rows", "k_blocks", "a_row", "b_step", "first_tile"]),
            GemmTile::Split(_) => (TILES, &["strip", "strips", "terms"]),
            GemmTile::Shared(_) => (TILES, &["slices", "span", "size"]),
        };
        let fixed = ["m", "n", "first", "last"].iter().chain(tiles).chain(own).map(|name| name.to_string());
        let batch =
            (0..self.batch).flat_map(|d| [format!("size{d}"), format!("a_batch{d}"), format!("b_batch{d}")]);
        fixed.chain(batch).chain(self.prologue.params()).chain(self.epilogue.params("e")).collect()
    }

    fn reports(&self) -> bool {
        self.wide || self.epilogue.expr.reports()
    }

    fn fits(&self, params: &[u32]) -> Result<(), &'static str> {
        const LAST: usize = 3;
        let one = |i: usize| params.get(i) == Some(&1);
        // The params that hold the strides of rows and terms of `a`, of terms and columns of `b`, and the size of the first
        // batch dimension.
        let (a_row, a_k, b_k, b_column, batch) = match self.tile {
            GemmTile::Strided { .. } => return Ok(()),
            GemmTile::Lanes(_) => (6, None, 7, 7, 9),
            GemmTile::Shared(_) | GemmTile::Split(_) => (8, Some(9), 10, 11, 15),
        };
        let batches = |own: usize| (0..self.batch).map(move |d| batch + 3 * d + own);
        let left = || whole(params, batches(1).chain([LAST, a_row])) && a_k.is_none_or(one);
        let begin = || whole(params, batches(2));
        let terms = || begin() && whole(params, [LAST, b_column]);
        let columns = || begin() && whole(params, [b_k]) && (b_k == b_column || one(b_column));
        let (left_vectors, right) = match self.tile {
            GemmTile::Lanes(tile) => {
                given("sums without a tail", tile.tail || whole(params, [LAST]))?;
                let right = match tile.right {
                    LanesRight::Rows { aligned } => begin() && (!aligned || columns()),
                    LanesRight::Columns => terms(),
                    _ => true,
                };
                (tile.left == LanesLeft::Vectors, right)
            }
            GemmTile::Shared(tile) => {
                (tile.left == SharedLeft::Vectors, tile.right != SharedRight::Vectors || columns())
            }
            GemmTile::Split(tile) => {
                let right = match tile.right {
                    SplitRight::Vectors => columns(),
                    SplitRight::TermVectors => terms() && one(b_k),
                    _ => true,
                };
                (tile.left_vectors, right)
            }
            GemmTile::Strided { .. } => (false, true),
        };
        given("rows of whole vectors on the left", !left_vectors || left())?;
        given("lines of whole vectors on the right", right)
    }

    fn takes_wide(&self) -> bool {
        matches!(self.tile, GemmTile::Strided { .. })
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let (word, prologue, runs) = (self.scalar.word(), self.prologue.operand(), self.runs);
        let sums = self.scalar.sums(self.wide);
        used.extend(sums.into_iter().flatten());
        let main = match self.tile {
            GemmTile::Strided { rows, columns } => template::render(
                "gemm_strided",
                context!(workgroup => WORKGROUP, rows, columns, word, prologue, sums),
            ),
            GemmTile::Lanes(LanesTile { lanes, rows, vectors, left, right, tail }) => {
                let left = match left {
                    LanesLeft::Packed => "packed",
                    LanesLeft::Vectors => "vectors",
                    LanesLeft::Scalars => "scalars",
                };
                let shifted = right == LanesRight::Rows { aligned: false };
                let right = match right {
                    LanesRight::Packed => "packed",
                    LanesRight::Rows { .. } => "rows",
                    LanesRight::RowScalars => "row_scalars",
                    LanesRight::Columns => "columns",
                    LanesRight::ColumnScalars => "column_scalars",
                };
                let memory = self.prologue.scalar("b", self.scalar).word();
                let context = context!(lanes, rows, vectors, a_form => left, right, shifted, tail, word, memory, prologue, runs);
                template::render("gemm_lanes", context)
            }
            GemmTile::Shared(tile) => {
                tile.main(self.scalar, &self.epilogue, prologue, ["p.m", "p.batches", "p.a_k"], runs)
            }
            GemmTile::Split(tile) => {
                let b_form = match tile.right {
                    SplitRight::Packed => "packed",
                    SplitRight::Vectors => "vectors",
                    SplitRight::Columns => "columns",
                    SplitRight::TermVectors => "term_vectors",
                    SplitRight::Terms => "terms",
                };
                let a_form = if tile.left_vectors { "vectors" } else { "terms" };
                let (rows, slices, columns) = (tile.rows, tile.slices(), SplitTile::COLUMNS);
                template::render(
                    "gemm_split",
                    context!(rows, slices, columns, a_form, b_form, word, prologue),
                )
            }
        };
        let (a, b) = self.tile.vectors();
        self.prologue.function(used)
            + &self.prologue.load_function(if prologue == "a" { a } else { b })
            + &self.epilogue.function("epilogue", "e", used)
            + &template::render("gemm_batch", context!(batch => self.batch))
            + &main
    }
}
