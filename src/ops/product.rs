//! Lowering of every batched matrix product: it chooses the kernel, packs constants, and splits long sums.

use smallvec::SmallVec;

use super::accumulate::{Before, Sink, Source, in_parts, in_slices, sliced, slices};
use super::strides::Copy;
use super::{Why, product, refuse, strides};
use crate::kernels::expr::Scalar;
use crate::kernels::gemm::{Gemm, GemmTile, LanesLeft, LanesRight, LanesTile, SplitRight, SplitTile};
use crate::kernels::params;
use crate::kernels::shared::{Block, Shared, SharedLeft, SharedRight};
use crate::kernels::winograd::PLACES;
use crate::kernels::{Class, cost};
use crate::plan::{
    Always, Epilogue, Lower, Multiple, PackedDim, Packing, Rank, Reads, Same, TensorId, Tiling, Weighed,
};

/// `y[b][m][n] = sum over k of a[b][m][k] * b[b][k][n]`. Strides are in elements.
///
/// An example: attention scores of 12 heads, 128 queries and keys of depth 32, whose heads lie side by side in rows of 384
/// elements. `m` and `n` are 128, `k` is 32, and the batch dimension has size 12 and the stride 32 in both operands. `a` has a
/// `row` stride of 384 and a `column` stride of 1; the keys are read transposed, so `b` has a `row` stride of 1 and a `column`
/// stride of 384.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Batch dimensions, outermost first.
    pub(crate) batch: Vec<Batch>,
    pub(crate) a: Matrix,
    pub(crate) b: Matrix,
}

/// One batch dimension, with its stride in each operand; a stride of 0 repeats the operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Batch {
    pub(crate) size: usize,
    pub(crate) a: usize,
    pub(crate) b: usize,
}

/// One operand, with the strides of its matrices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub(crate) source: Source,
    /// The distance from one row to the next.
    pub(crate) row: usize,
    /// The distance from one column to the next.
    pub(crate) column: usize,
}

/// The batch dimensions without those of size 1, with neighbours merged where both operands allow it.
pub(crate) fn merge(batch: &[Batch]) -> Vec<Batch> {
    let mut merged: Vec<Batch> = Vec::new();
    for &inner in batch.iter().filter(|dim| dim.size != 1) {
        match merged.last_mut() {
            Some(outer) if outer.a == inner.a * inner.size && outer.b == inner.b * inner.size => {
                *outer = Batch { size: outer.size * inner.size, ..inner };
            }
            _ => merged.push(inner),
        }
    }
    merged
}

impl Product {
    /// Emits the product.
    pub(crate) fn lower<'a>(
        &self,
        cx: &mut Lower<'a>,
        scalar: Scalar,
        sink: Sink<'_, 'a>,
    ) -> Result<(), Why> {
        let product = self.simplified(cx);
        // The first output may be the labels of what is computed in floats.
        let wide = cx.is_wide(0) && !scalar.is_float();
        let chosen = match cx.target.class {
            _ if wide || scalar.is_wide() => None,
            Class::Cpu => product.lanes(cx)?,
            Class::Gpu => product.shared(cx)?,
        };
        let chosen = match chosen {
            Some(chosen) => chosen,
            None => product.strided(cx)?,
        };
        let ChosenTile { tile, a, ranges, batch, limit, slices, before } = chosen;
        let batch = cx.with_rank(Rank::Batch, batch, Batch { size: 1, a: 0, b: 0 });
        let matrix = (product.m, product.n);
        let dispatch = |cx: &mut Lower<'a>, (first, last), epilogue: Epilogue, output| {
            for ColumnRange { b, own, grid } in &ranges {
                let fixed = [product.m, product.n, first, last].into_iter().chain(own.iter().copied());
                let batches = batch.iter().flat_map(|dim| [dim.size, dim.a, dim.b]);
                let fused = before.params.iter().chain(&epilogue.params).copied();
                let params = params(fixed.chain(batches), fused)?;
                let others = before.tensors.iter().chain(&epilogue.tensors).copied();
                let tensors = [a, *b].into_iter().chain(others).chain([output]).collect();
                let (prologue, epilogue) = (before.prologue.clone(), epilogue.fused.clone());
                let gemm = Gemm { scalar, batch: batch.len(), tile, wide, prologue, epilogue, runs: false };
                cx.call_grid(gemm, tensors, params, *grid);
            }
            Ok(())
        };
        match slices {
            Some(slices) => {
                let size = product.batches() * product.m * product.n;
                in_slices(cx, (slices, size), scalar, sink, |cx, epilogue, partial| {
                    dispatch(cx, (0, product.k), epilogue, partial)
                })
            }
            None => in_parts(cx, (product.k, limit), matrix, scalar, sink, dispatch),
        }
    }

    /// A product with the same elements, with as few batch dimensions as possible, and without a result of one column.
    fn simplified(&self, cx: &mut Lower) -> Product {
        let mut product = Product { batch: merge(&self.batch), ..self.clone() };
        product.fold();
        if cx.always(Always::OneColumn, product.n == 1) {
            let Product { m, n, k, batch, a, b } = product;
            let transposed = |x: Matrix| Matrix { row: x.column, column: x.row, ..x };
            let batch = batch.iter().map(|dim| Batch { a: dim.b, b: dim.a, ..*dim }).collect();
            product = Product { m: n, n: m, k, batch, a: transposed(b), b: transposed(a) };
            product.fold();
        }
        // The stride of a single row or column may be any number; set to the dense one, it is read like that of several rows
        // or columns.
        if product.m == 1 {
            product.a.row = product.k * product.a.column;
        }
        let by_rows = cx.always(Always::ByRows, product.b.column == 1);
        if product.n == 1 && product.b.row == 1 && !by_rows {
            product.b.column = product.k;
        }
        product
    }

    /// Turns inner batch dimensions over which `b` repeats into rows.
    fn fold(&mut self) {
        while let Some(&Batch { size, a, b: 0 }) = self.batch.last() {
            if self.m == 1 {
                self.a.row = a;
            } else if a != self.m * self.a.row {
                return;
            }
            self.m *= size;
            self.batch.pop();
        }
    }

    fn batches(&self) -> usize {
        product(self.batch.iter().map(|dim| dim.size))
    }

    /// How the kernel reads the left operand: by lines that are its rows, where they are lines of memory.
    fn reads_left(&self) -> Reads {
        self.a.reads(self.a.row, self.a.column, self.n.div_ceil(64), self.batch.iter().map(|dim| dim.a))
    }

    /// How the kernel reads the right operand: by lines that are its rows, or its columns.
    fn reads_right(&self, by_rows: bool) -> Reads {
        let batch = self.batch.iter().map(|dim| dim.b);
        let Matrix { row, column, .. } = self.b;
        let (line, step) = if by_rows { (row, column) } else { (column, row) };
        self.b.reads(line, step, self.m.div_ceil(32), batch)
    }

    /// The kernel that takes any strides.
    fn strided(&self, cx: &mut Lower) -> Result<ChosenTile, Why> {
        let (a, mut before) = self.a.source.loaded(cx, "a", self.reads_left())?;
        let b = self.read_right(cx, &mut before, self.reads_right(true))?;
        let best = if self.m < 4 { (1, 1) } else { (8, 2) };
        let cost = |tile| cost::strided((self.m, self.n, self.k), self.batches(), tile);
        let (rows, columns) = cx.tile(Tiling::Strided, best, cost);
        let tile = GemmTile::Strided { rows, columns };
        let (rows, columns) = tile.size();
        let grid = cx.target.grid(self.m.div_ceil(rows) * self.n.div_ceil(columns) * self.batches());
        let own = vec![self.batches(), self.a.row, self.a.column, self.b.row, self.b.column];
        let limit = cx.target.max_iterations as usize;
        let ranges = vec![ColumnRange { b, own, grid }];
        Ok(ChosenTile { tile, a, ranges, batch: self.batch.clone(), limit, slices: None, before })
    }

    /// The kernel for software devices, if it fits.
    fn lanes(&self, cx: &mut Lower) -> Result<Option<ChosenTile>, Why> {
        let lanes = cx.target.subgroup as usize;
        if !matches!(lanes, 4 | 8) {
            return Ok(None);
        }
        let mut product = self.clone();
        let left = product.left(cx)?;
        let right = product.right(cx)?;
        let size = (self.m, self.n, self.k);
        let tail = !cx.multiple(Multiple::Terms, [self.k]);
        let fixed = cx.same(Same::Rows, self.m);
        let of = |(rows, vectors)| LanesTile { lanes, rows, vectors, left, right, tail };
        let cost = |tile| cost::lanes(&of(tile), size) * self.batches() as f64;
        let weighed = |tile| Weighed { tile, cost: cost(tile), products: of(tile).products() };
        let tiles: SmallVec<[Weighed; 5]> =
            LanesTile::candidates(lanes, self.m, fixed).into_iter().map(weighed).collect();
        if tiles.len() > 1 {
            cx.weigh(Tiling::Lanes, &tiles);
        }
        let Some(best) = cx.cheapest(Tiling::Lanes, tiles.iter().copied()) else { return Ok(None) };
        let tile = match left {
            LanesLeft::Packed => of(cx.only_tile(Tiling::Lanes, best)),
            _ => {
                // Weights are packed by columns.
                let (_, vectors) = cx.only_tile(Tiling::LanesColumns, (0, best.1));
                let alike = tiles.iter().copied().filter(|weighed| weighed.tile.1 == vectors);
                let best = cx.cheapest(Tiling::Lanes, alike).unwrap_or((lanes, vectors));
                of(cx.tile(Tiling::Lanes, best, cost))
            }
        };
        let groups = [self.n.div_ceil(tile.columns()), self.m.div_ceil(tile.rows), self.batches()];
        if groups.iter().any(|&n| n > cx.target.max_groups as usize) {
            return Ok(None);
        }
        let (a, mut before) = match left {
            LanesLeft::Packed => (product.pack_left(cx, tile.rows, 4)?, Before::default()),
            _ => product.a.source.loaded(cx, "a", product.reads_left())?,
        };
        let packed = match right {
            LanesRight::Packed => {
                product.pack_right(cx, Columns { tile: tile.columns(), terms: 4, apart: 1 })?
            }
            _ => {
                let by_rows = matches!(right, LanesRight::Rows { .. } | LanesRight::RowScalars);
                let reads = product.reads_right(by_rows);
                vec![(product.read_right(cx, &mut before, reads)?, groups[0])]
            }
        };
        let step = if product.b.column == 1 { product.b.row } else { product.b.column };
        let mut ranges = Vec::new();
        let mut first = 0;
        for (b, tiles) in packed {
            let own = vec![tile.rows, self.k.div_ceil(4), product.a.row, step, first];
            ranges.push(ColumnRange { b, own, grid: [tiles, groups[1], groups[2]].map(|n| n as u32) });
            first += tiles;
        }
        // An iteration adds up four terms, and the stores take one for each row and one for each vector of it.
        let stores = tile.rows * (tile.vectors + 1);
        let limit = 4 * (cx.target.max_iterations as usize).saturating_sub(stores);
        let tile = GemmTile::Lanes(tile);
        Ok(Some(ChosenTile { tile, a, ranges, batch: product.batch, limit, slices: None, before }))
    }

    /// How the left operand is read. If its rows are not contiguous in memory, it is copied.
    fn left(&mut self, cx: &mut Lower) -> Result<LanesLeft, Why> {
        if self.a.packable(cx, (self.m, self.k), self.batch.iter().map(|dim| dim.a)) {
            return Ok(LanesLeft::Packed);
        }
        if self.a.column != 1 && self.k != 1 {
            let strides =
                self.a.copy(cx, 0, (self.m, self.k), self.batch.iter().map(|dim| (dim.size, dim.a)))?;
            self.batch.iter_mut().zip(strides).for_each(|(dim, stride)| dim.a = stride);
        }
        let batch = self.batch.iter().map(|dim| dim.a);
        let vectors = cx.multiple(Multiple::Left, [self.k, self.a.row].into_iter().chain(batch));
        Ok(if vectors { LanesLeft::Vectors } else { LanesLeft::Scalars })
    }

    /// How the right operand is read.
    fn right(&mut self, cx: &mut Lower) -> Result<LanesRight, Why> {
        if self.b.packable(cx, (self.k, self.n), self.batch.iter().map(|dim| dim.b)) {
            return Ok(LanesRight::Packed);
        }
        if self.b.row != 1 && self.b.column != 1 {
            let strides =
                self.b.copy(cx, 1, (self.k, self.n), self.batch.iter().map(|dim| (dim.size, dim.b)))?;
            self.batch.iter_mut().zip(strides).for_each(|(dim, stride)| dim.b = stride);
        }
        let batch = cx.multiple(Multiple::RightBatch, self.batch.iter().map(|dim| dim.b));
        let lines = if self.b.column == 1 { [self.b.row, 0] } else { [self.b.column, self.k] };
        let vectors = cx.multiple(Multiple::Right, lines);
        Ok(match self.b.column {
            1 if batch => LanesRight::Rows { aligned: vectors },
            1 => LanesRight::RowScalars,
            _ if vectors && batch => LanesRight::Columns,
            _ => LanesRight::ColumnScalars,
        })
    }

    /// The kernels for GPUs, if invocations can share what they load.
    fn shared(&self, cx: &mut Lower) -> Result<Option<ChosenTile>, Why> {
        if cx.always(Always::ShortSum, self.k < 8) {
            return Ok(None);
        }
        let mut product = self.clone();
        let fixed = cx.same(Same::Rows, self.m);
        let split = self.split(cx, fixed);
        let reads = self.operand_reads(cx, split.is_some());
        let PackedTile { tile, limit, a, b, columns } = match split {
            Some(rows) => product.split_tile(cx, rows, fixed, reads)?,
            None => product.shared_tile(cx, reads)?,
        };
        let (a, mut before) = match a {
            Some(packed) => (packed, Before::default()),
            None => product.a.source.loaded(cx, "a", product.reads_left())?,
        };
        let elements = self.batches() * self.m * self.n;
        let slices = match tile {
            GemmTile::Shared(tile) if self.k <= limit => {
                let groups = tile.block.groups(self.m, self.n) * self.batches();
                slices(cx, tile.block, groups, (self.k, elements))
            }
            _ => None,
        };
        let b = match b {
            Some(ranges) => ranges,
            None => {
                let reads = product.reads_right(self.b.column == 1);
                vec![(product.read_right(cx, &mut before, reads)?, self.n.div_ceil(columns.tile))]
            }
        };
        let ranges = product.shared_ranges(cx, b, columns, tile, slices);
        Ok(Some(ChosenTile { tile, a, ranges, batch: product.batch, limit, slices, before }))
    }

    /// How a kernel for GPUs can read the operands; one that splits the sum packs no left operand.
    fn operand_reads(&self, cx: &mut Lower, splits: bool) -> OperandReads {
        let left_packed =
            !splits && self.a.packable(cx, (self.m, self.k), self.batch.iter().map(|dim| dim.a));
        let right_packed = self.b.packable(cx, (self.k, self.n), self.batch.iter().map(|dim| dim.b));
        let a_batch = self.batch.iter().map(|dim| dim.a);
        let left_whole = cx.multiple(Multiple::Left, [self.k, self.a.row].into_iter().chain(a_batch));
        let b_batch = self.batch.iter().map(|dim| dim.b);
        let b_rows = if self.b.column == 1 { [self.b.row, 0] } else { [self.b.column, self.k] };
        let right_whole = cx.multiple(Multiple::Right, b_rows.into_iter().chain(b_batch));
        OperandReads { left_packed, right_packed, left_whole, right_whole }
    }

    /// The tile of few rows, whose sum several invocations split.
    fn split_tile(
        &mut self,
        cx: &mut Lower,
        rows: usize,
        fixed: bool,
        reads: OperandReads,
    ) -> Result<PackedTile, Why> {
        let right = match self.b {
            _ if reads.right_packed => SplitRight::Packed,
            Matrix { column: 1, .. } if reads.right_whole => SplitRight::Vectors,
            Matrix { column: 1, .. } => SplitRight::Columns,
            Matrix { row: 1, .. } if reads.right_whole => SplitRight::TermVectors,
            Matrix { row: 1, .. } => SplitRight::Terms,
            _ => SplitRight::Columns,
        };
        let tile = SplitTile { rows, left_vectors: self.a.column == 1 && reads.left_whole, right };
        let mut columns = Columns { tile: SplitTile::COLUMNS, terms: 4, apart: SplitTile::COLUMNS / 4 };
        let mut b = None;
        if reads.right_packed {
            columns = self.split_packing(cx, fixed);
            b = Some(self.pack_right(cx, columns)?);
        }
        let limit = tile.limit(cx.target.max_iterations);
        Ok(PackedTile { tile: GemmTile::Split(tile), limit, a: None, b, columns })
    }

    /// The tile in workgroup memory.
    fn shared_tile(&mut self, cx: &mut Lower, reads: OperandReads) -> Result<PackedTile, Why> {
        let block = block(cx, (self.m, self.n), self.batches());
        let left = match self.a {
            _ if reads.left_packed => SharedLeft::Packed,
            Matrix { column: 1, .. } if reads.left_whole => SharedLeft::Vectors,
            Matrix { column: 1, .. } => SharedLeft::Terms,
            Matrix { row: 1, .. } => SharedLeft::Rows,
            _ => SharedLeft::Terms,
        };
        let right = match self.b {
            _ if reads.right_packed => SharedRight::Packed,
            Matrix { column: 1, .. } if reads.right_whole => SharedRight::Vectors,
            Matrix { column: 1, .. } => SharedRight::Columns,
            Matrix { row: 1, .. } => SharedRight::Terms,
            _ => SharedRight::Columns,
        };
        let columns = Columns::of(block);
        let a = reads.left_packed.then(|| self.pack_left(cx, block.bm, block.bk)).transpose()?;
        let b = reads.right_packed.then(|| self.pack_right(cx, columns)).transpose()?;
        let tile = GemmTile::Shared(Shared { block, left, right });
        Ok(PackedTile { tile, limit: block.limit(cx.target.max_iterations), a, b, columns })
    }

    /// One call for each range of columns. A packed strip belongs to one workgroup; where the sum is split, several workgroups
    /// may share a strip, or one workgroup may have several.
    fn shared_ranges(
        &self,
        cx: &Lower,
        b: Vec<(TensorId, usize)>,
        columns: Columns,
        tile: GemmTile,
        slices: Option<usize>,
    ) -> Vec<ColumnRange> {
        let (batches, blocks) = (self.batches(), self.k.div_ceil(columns.terms));
        let (tile_rows, tile_columns) = tile.size();
        let mut ranges = Vec::new();
        let mut first = 0;
        for (b, strips) in b {
            let tiles = (strips * columns.tile).div_ceil(tile_columns);
            let strides = [self.a.row, self.a.column, self.b.row, self.b.column];
            let mut own: Vec<usize> = [batches, tiles, first, blocks].into_iter().chain(strides).collect();
            own.extend(match tile {
                GemmTile::Shared(_) => sliced(slices, (self.k, columns.terms), batches * self.m * self.n),
                _ => [columns.tile / 4, strips, columns.terms],
            });
            let groups = tiles * self.m.div_ceil(tile_rows) * batches * slices.unwrap_or(1);
            ranges.push(ColumnRange { b, own, grid: cx.target.grid(groups) });
            first += strips;
        }
        ranges
    }

    /// The right operand's tensor. A kernel has one prologue, and the left operand may have it already.
    fn read_right(&self, cx: &mut Lower, before: &mut Before, reads: Reads) -> Result<TensorId, Why> {
        if !before.prologue.is_none() {
            return self.b.source.tensor(cx);
        }
        let (tensor, own) = self.b.source.loaded(cx, "b", reads)?;
        *before = own;
        Ok(tensor)
    }

    /// The rows of the kernel for few rows, if it is chosen.
    fn split(&self, cx: &mut Lower, fixed: bool) -> Option<usize> {
        let cost = |(rows, _)| cost::split((self.m, self.n, self.k), self.batches(), rows);
        let least = if fixed { 1 } else { 4 };
        let best = SplitTile::rows(self.m.max(least)).filter(|_| self.k >= 64).unwrap_or(0);
        Some(cx.tile(Tiling::Split, (best, 0), cost).0).filter(|&rows| rows > 0)
    }

    /// The order in which the right operand is packed where the sum is split: that of many rows, if other shapes may have
    /// many.
    fn split_packing(&self, cx: &mut Lower, fixed: bool) -> Columns {
        const MANY: usize = 64;
        match fixed {
            true => Columns { tile: SplitTile::COLUMNS, terms: 4, apart: SplitTile::COLUMNS / 4 },
            false => Columns::of(block(cx, (self.m.max(MANY), self.n), self.batches())),
        }
    }

    /// Packs the left operand as `[row tile][k / terms][row][k % terms]`.
    fn pack_left(&mut self, cx: &mut Lower, rows: usize, terms: usize) -> Result<TensorId, Why> {
        let Some(i) = self.a.source.input() else { refuse!("input 0 is no constant") };
        let (tiles, blocks) = (self.m.div_ceil(rows), self.k.div_ceil(terms));
        let dims = [('m', tiles, rows), ('k', blocks, terms), ('m', rows, 1), ('k', terms, 1)];
        let (packing, matrix) = self.a.packing(cx, i, ('m', self.m), ('k', self.k), &dims)?;
        let own = self.m * self.k;
        self.batch.iter_mut().for_each(|dim| dim.a = dim.a / own.max(1) * matrix);
        cx.packed(i, packing).ok_or_else(|| Why::from("input 0 is no constant"))
    }

    /// Packs the right operand in ranges of column tiles that each fit a binding; returns each range's tensor and number of
    /// tiles.
    fn pack_right(&mut self, cx: &mut Lower, columns: Columns) -> Result<Vec<(TensorId, usize)>, Why> {
        let Columns { tile, terms, apart } = columns;
        let Some(i) = self.b.source.input() else { refuse!("input 1 is no constant") };
        let tiles = self.n.div_ceil(tile);
        let k = self.k.next_multiple_of(terms);
        let tile_bytes = (k * tile * 4) as u64;
        let fit = (cx.target.max_binding / tile_bytes.max(1)).max(1) as usize;
        // Several matrices lie one after the other, and each must be whole.
        let fit = if self.batches() > 1 { tiles } else { fit };
        let mut ranges = Vec::new();
        let mut matrix = 0;
        for first in (0..tiles).step_by(fit) {
            let size = fit.min(tiles - first);
            let within = if apart == 1 {
                [('n', tile, 1), ('n', 1, 1)]
            } else {
                [('n', apart, 1), ('n', tile / apart, apart)]
            };
            let dims = [('n', size, tile), ('k', k, 1), within[0], within[1]];
            let (mut packing, own) = self.b.packing(cx, i, ('k', self.k), ('n', self.n), &dims)?;
            if first > 0 {
                packing.start = vec![0, 0, 0];
                packing.start[packing.dims[1].axis] = first * tile;
            }
            matrix = own;
            let packed = cx.packed(i, packing).ok_or_else(|| Why::from("input 1 is no constant"))?;
            ranges.push((packed, size));
        }
        let own = self.k * self.n;
        self.batch.iter_mut().for_each(|dim| dim.b = dim.b / own.max(1) * matrix);
        Ok(ranges)
    }
}

/// The order of a packed right operand: `[column tile][k, padded to whole multiples of terms][column]`, where neighbours in
/// memory are columns that are `apart` apart. With a tile of 32 and 8 apart, the first columns are 0, 8, 16, 24, 1, 9, ...
#[derive(Clone, Copy)]
struct Columns {
    tile: usize,
    terms: usize,
    apart: usize,
}

impl Columns {
    fn of(block: Block) -> Columns {
        Columns { tile: block.bn, terms: block.bk, apart: block.bn / 4 }
    }
}

/// The tile of GPUs for products of `m` rows and `n` columns.
pub(crate) fn block(cx: &mut Lower, (m, n): (usize, usize), batches: usize) -> Block {
    let blocks = cx.target.blocks;
    let best = Block::choose(blocks, m, n, batches);
    let of = |(bm, bn)| blocks.iter().copied().find(|b| (b.bm, b.bn) == (bm, bn)).unwrap_or(best);
    of(cx.only_tile(Tiling::Shared, (best.bm, best.bn)))
}

/// The tile that was chosen for a product, with the arguments of its calls.
struct ChosenTile {
    tile: GemmTile,
    a: TensorId,
    ranges: Vec<ColumnRange>,
    batch: Vec<Batch>,
    /// The number of terms that one dispatch may add up.
    limit: usize,
    /// The number of slices into which the sum is cut; `None` if it is not cut.
    slices: Option<usize>,
    before: Before,
}

/// How a kernel for GPUs can read a product's operands.
#[derive(Clone, Copy)]
struct OperandReads {
    left_packed: bool,
    right_packed: bool,
    /// Sizes and strides of the left operand are multiples of 4 at every size.
    left_whole: bool,
    right_whole: bool,
}

/// A tile of a kernel for GPUs, and the operands that are packed for it.
struct PackedTile {
    tile: GemmTile,
    /// The terms that one call adds up at most.
    limit: usize,
    a: Option<TensorId>,
    /// Each range of columns, with its number of strips.
    b: Option<Vec<(TensorId, usize)>>,
    /// The order of the right operand's columns.
    columns: Columns,
}

/// The columns that one dispatch computes: all, unless the right operand is too large for one binding.
struct ColumnRange {
    b: TensorId,
    /// The params that only this tile has.
    own: Vec<usize>,
    grid: [u32; 3],
}

impl Matrix {
    /// How an operand is read whose lines are `line` elements apart in memory, and whose elements are `step` apart. Each is
    /// read `times` times.
    fn reads(&self, line: usize, step: usize, times: usize, mut batch: impl Iterator<Item = usize>) -> Reads {
        let whole = line > 0 && step == 1 && batch.all(|stride| stride.is_multiple_of(line));
        if whole { Reads::Lines { line, times } } else { Reads::Memory }
    }

    /// Whether this is a constant that consists of whole matrices, so that they can be packed.
    fn packable(
        &self,
        cx: &Lower,
        (rows, columns): (usize, usize),
        batch: impl Iterator<Item = usize>,
    ) -> bool {
        let Some(i) = self.source.input() else { return false };
        let plain = (self.column == 1 || columns == 1) && self.row == columns;
        let transposed = (self.row == 1 || rows == 1) && self.column == rows;
        let whole = |stride: usize| stride.is_multiple_of((rows * columns).max(1));
        cx.is_constant(i) && (plain || transposed) && batch.into_iter().all(whole)
    }

    /// The packing of all matrices of input `i`, each into `dims` (axis by name, size, step), and the number of elements of
    /// one packed matrix.
    fn packing(
        &self,
        cx: &Lower,
        i: usize,
        rows: (char, usize),
        columns: (char, usize),
        dims: &[(char, usize, usize)],
    ) -> Result<(Packing, usize), Why> {
        let plain = (self.column == 1 || columns.1 == 1) && self.row == columns.1;
        let inner = if plain { [rows, columns] } else { [columns, rows] };
        let transformed = matches!(self.source, Source::Windows(_));
        let count = if transformed { PLACES } else { cx.fact(i)?.count() / (rows.1 * columns.1).max(1) };
        let mut packing = Packing {
            source: vec![count, inner[0].1, inner[1].1],
            transformed,
            dims: vec![PackedDim { axis: 0, size: count, step: 1 }],
            ..Packing::default()
        };
        for &(name, size, step) in dims {
            let axis = if name == inner[0].0 { 1 } else { 2 };
            packing.dims.push(PackedDim { axis, size, step });
        }
        Ok((packing, product(dims.iter().map(|dim| dim.1))))
    }

    /// Copies the matrices so that rows are contiguous, as copy `number` of the operator, and returns the new strides of the
    /// batch.
    fn copy(
        &mut self,
        cx: &mut Lower,
        number: usize,
        (rows, columns): (usize, usize),
        batch: impl DoubleEndedIterator<Item = (usize, usize)> + ExactSizeIterator,
    ) -> Result<Vec<usize>, Why> {
        let mut dims: Vec<(usize, i64)> = vec![(columns, self.column as i64), (rows, self.row as i64)];
        let mut stride = rows * columns;
        let mut strides = Vec::new();
        for (size, old) in batch.rev() {
            strides.push(if old == 0 { 0 } else { stride });
            if old != 0 {
                dims.push((size, old as i64));
                stride *= size;
            }
        }
        strides.reverse();
        dims.reverse();
        let from = self.source.tensor(cx)?;
        let to = cx.temporary_like(from, &[stride]);
        strides::copy(cx, Copy { number, from, to, base: 0, dims: &dims });
        *self = Matrix { source: Source::Tensor(to), row: columns, column: 1 };
        Ok(strides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::internals::cases::{Sizes, compared, inputs_of};
    use crate::internals::devices;
    use crate::kernels::Target;
    use crate::ops::case::{self, Case, Tolerance, graph_of_case};
    use crate::plan::tests::planned;

    #[test]
    fn batches_merge_where_both_operands_do() {
        let dim = |size, a, b| Batch { size, a, b };
        assert_eq!(merge(&[dim(2, 60, 30), dim(1, 9, 9), dim(3, 20, 10)]), [dim(6, 20, 10)]);
        assert_eq!(merge(&[dim(2, 60, 0), dim(3, 20, 0)]), [dim(6, 20, 0)]);
        assert_eq!(merge(&[dim(2, 60, 0), dim(3, 20, 10)]).len(), 2);
        assert_eq!(merge(&[]), []);
    }

    #[test]
    fn weights_beyond_a_binding_go_in_ranges_of_columns() {
        // 100 KiB of weights; everything else is smaller than a binding.
        let limit = 1 << 15;
        for (m, class) in [(3, Class::Gpu), (40, Class::Gpu), (3, Class::Cpu), (40, Class::Cpu)] {
            let case = Case::new("MatMul", "ranges")
                .tolerance(Tolerance::ACCUMULATION)
                .input(case::random(&[m, 128]))
                .constant(case::random(&[128, 200]));
            let target = Target { class, subgroup: 8, max_binding: limit, ..Target::FLOOR };
            let graph = graph_of_case(&case).unwrap();
            let plan = planned(&graph, &inputs_of(&case), &target).unwrap();
            assert!(plan.program.calls.len() > 1);
            for device in devices::each() {
                let device = device.with_target(|own| (own.class, own.max_binding) = (class, limit));
                // Only tiles that pack weights make ranges; a software device takes them only with a subgroup of 4 or 8.
                let ranges = class == Class::Gpu || matches!(device.gpu().unwrap().target.subgroup, 4 | 8);
                assert!(
                    !ranges || compared(&case, &device, Sizes::Fixed).unwrap().is_none(),
                    "{m} rows on {}",
                    device.name()
                );
            }
        }
    }
}
