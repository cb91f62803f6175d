//! The tile of GPUs, which matrix products and convolutions share. A workgroup copies a few terms of both operands into
//! workgroup memory at a time, and all invocations that need an element read it there.

use minijinja::{Value, context};

use super::cost;
use super::expr::Scalar;
use super::fused::Fused;
use super::template;

/// A tile and how its operands are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shared {
    pub(crate) block: Block,
    pub(crate) left: SharedLeft,
    pub(crate) right: SharedRight,
}

/// A workgroup computes `bm` rows of `bn` columns, `bk` terms at a time, and an invocation `tm` rows of `tn` columns. With 64
/// x 64 results and 8 x 4 for an invocation, a workgroup has 8 * 16 = 128 invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Block {
    pub(crate) bm: usize,
    pub(crate) bn: usize,
    pub(crate) bk: usize,
    pub(crate) tm: usize,
    pub(crate) tn: usize,
}

/// How a workgroup loads the left operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SharedLeft {
    /// `[row tile][k / bk][row][k % bk]`, padded with zeros.
    Packed,
    /// Row-major, loaded in vectors of four terms; every row begins at a vector and consists of whole vectors.
    Vectors,
    /// Single elements; neighbouring invocations take neighbouring terms.
    Terms,
    /// Single elements; neighbouring invocations take neighbouring rows.
    Rows,
}

/// How a workgroup loads the right operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SharedRight {
    /// `[column tile][k][column % (bn / 4)][column / (bn / 4)]`, padded with zeros.
    Packed,
    /// Row-major, loaded in vectors of four columns; every row begins at a vector and consists of whole vectors.
    Vectors,
    /// Single elements; neighbouring invocations take neighbouring columns.
    Columns,
    /// Single elements; neighbouring invocations take neighbouring terms.
    Terms,
    /// The windows of an image. Terms are ordered by kernel row, kernel column, channel; the channels are padded to a multiple
    /// of `bk`.
    Image,
    /// The windows of an image. Terms are ordered by channel, kernel row, kernel column.
    FlatImage,
}

impl Block {
    /// From the tile with the most work per byte moved to the tile with the most workgroups. All fit WebGPU's floor: 256
    /// invocations and 16 KiB of workgroup memory.
    pub(crate) const ALL: [Block; 5] = [
        Block { bm: 128, bn: 64, bk: 16, tm: 8, tn: 8 },
        Block { bm: 64, bn: 64, bk: 16, tm: 8, tn: 4 },
        Block { bm: 32, bn: 32, bk: 16, tm: 4, tn: 4 },
        Block { bm: 16, bn: 64, bk: 16, tm: 4, tn: 4 },
        Block { bm: 64, bn: 16, bk: 16, tm: 4, tn: 4 },
    ];

    pub(crate) fn threads(self) -> usize {
        self.bm / self.tm * (self.bn / self.tn)
    }

    /// Workgroups for one product of `m` rows and `n` columns.
    pub(crate) fn groups(self, m: usize, n: usize) -> usize {
        m.div_ceil(self.bm) * n.div_ceil(self.bn)
    }

    /// The tile of `blocks` that takes least time.
    pub(crate) fn choose(blocks: &[Block], m: usize, n: usize, batches: usize) -> Block {
        let cost = |block: &Block| cost::block(*block, m, n, batches);
        blocks.iter().copied().min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or(Block::ALL[0])
    }

    /// Terms that one dispatch may add up. They are whole blocks of `bk` terms; a block takes one iteration, and one more for
    /// each vector of terms in it, and the stores at the end take `tm`.
    pub(crate) fn limit(self, max_iterations: u32) -> usize {
        let blocks = (max_iterations as usize).saturating_sub(self.tm) / (1 + self.bk / 4);
        blocks.max(1) * self.bk
    }
}

impl Shared {
    /// The kernel's function `main`. `names` are the names that the surrounding kernel has for its rows, its batches, and the
    /// left operand's stride from term to term. `prologue` is the binding of the operand that has one. `runs`: whether an
    /// invocation stores neighbouring results together.
    pub(super) fn main(
        &self,
        scalar: Scalar,
        epilogue: &Fused,
        prologue: &str,
        names: [&str; 3],
        runs: bool,
    ) -> String {
        template::render("gemm_shared", self.context(scalar, epilogue, prologue, names, runs))
    }

    fn context(
        &self,
        scalar: Scalar,
        epilogue: &Fused,
        prologue: &str,
        [m, batches, a_k]: [&str; 3],
        runs: bool,
    ) -> Value {
        let Block { bm, bn, bk, tm, tn } = self.block;
        let a_form = match self.left {
            SharedLeft::Packed => "packed",
            SharedLeft::Vectors => "vectors",
            SharedLeft::Terms => "terms",
            SharedLeft::Rows => "rows",
        };
        let b_form = match self.right {
            SharedRight::Packed => "packed",
            SharedRight::Vectors => "vectors",
            SharedRight::Columns => "columns",
            SharedRight::Terms => "terms",
            SharedRight::Image => "image",
            SharedRight::FlatImage => "flat",
        };
        let (stored, word) = (stored_rows(tm, epilogue), scalar.word());
        // Larger tiles have no registers left for it.
        let prefetch = tm * tn <= 16;
        context!(bm, bn, bk, tm, tn, a_form, b_form, stored, word, m, batches, a_k, prefetch, prologue, runs)
    }
}

impl SharedLeft {
    pub(super) fn is_vector(self) -> bool {
        matches!(self, SharedLeft::Packed | SharedLeft::Vectors)
    }
}

impl SharedRight {
    pub(super) fn is_vector(self) -> bool {
        matches!(self, SharedRight::Packed | SharedRight::Vectors)
    }
}

/// The number of an invocation's `rows` that are stored at a time. The code of the store, with the epilogue in it, is most of
/// what a driver has to compile.
fn stored_rows(rows: usize, epilogue: &Fused) -> usize {
    let most = if epilogue.expr.len() <= 12 { 4 } else { 2 };
    if rows.is_multiple_of(most) { most } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_products_get_small_tiles() {
        let choose = |m, n| {
            let Block { bm, bn, .. } = Block::choose(&Block::ALL, m, n, 1);
            (bm, bn)
        };
        assert_eq!(choose(2048, 2048), (128, 64));
        assert_eq!(choose(256, 256), (32, 32));
        assert_eq!(choose(12, 4096), (16, 64));
        assert_eq!(choose(65_536, 10), (64, 16));
    }

    #[test]
    fn every_tile_fits_the_floor_and_loads_evenly() {
        for block in Block::ALL {
            let Block { bm, bn, bk, .. } = block;
            let threads = block.threads();
            assert!(threads <= 256);
            assert!((bm * (bk + 4) + bk * (bn + 4)) * 4 <= 16 << 10);
            assert_eq!((bm * bk / 4 % threads, bk * bn / 4 % threads, threads % (bn / 4)), (0, 0, 0));
        }
    }
}
