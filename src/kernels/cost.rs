//! What kernels take, estimated: lowering chooses among tiles by these, and among nothing else. All are microseconds of one
//! dispatch on an idle device, good for comparing two tiles of one kernel, not for predicting a run.
//!
//! An example: a product of 64x64x64 by tiles of 32 rows and 64 columns on 8 lanes is 2 tiles. Each takes 16 steps of 4 terms,
//! 2,240 cycles a step, and 18,400 cycles to begin and to store: 36 microseconds at 3 GHz.

use super::gemm;
use super::shared::Block;
use super::{Class, conv};

/// A time, in microseconds.
pub(crate) type Microseconds = f64;

/// Cycles in a microsecond.
const CYCLES: f64 = 3000.0;
/// Invocations that a GPU keeps in flight before more of them take longer: of sixteen cores, a thousand each.
const IN_FLIGHT: f64 = 16384.0;

/// What one more dispatch takes, with the wait for the one before it.
pub(crate) fn dispatch(class: Class) -> Microseconds {
    if class == Class::Cpu { 50.0 } else { 5.0 }
}

/// What a tile must save in a run to be worth a pipeline of its own, which takes half a second on software devices, and 50 ms on
/// GPUs, where others are compiled beside it.
pub(crate) fn worth_a_pipeline(class: Class) -> Microseconds {
    if class == Class::Cpu { 500.0 } else { 5.0 }
}

/// A product of `m` by `k` and `k` by `n` in registers of software devices; from the code that lavapipe makes: 11 cycles for a
/// lane's vector load, 70 for a register's store, and code beyond the instruction cache.
pub(crate) fn lanes(tile: &gemm::LanesTile, (m, n, k): (usize, usize, usize)) -> Microseconds {
    let products = (tile.rows * tile.vectors * 16) as f64;
    let penalty = if products > 1100.0 { 1.6 } else { 1.16 };
    let loads = (11 * tile.lanes * (tile.rows.div_ceil(tile.lanes) + 4 * tile.vectors)) as f64;
    let step = loads + penalty * products;
    let tiles = (m.div_ceil(tile.rows) * n.div_ceil(tile.columns())) as f64;
    let stores = (tile.rows * tile.vectors * 4 * 70) as f64;
    tiles * (k.div_ceil(4) as f64 * step + stores + 500.0) / CYCLES
}

/// A convolution in registers of software devices, as [`lanes`]. `size`: filters, terms of the sum but for the kernel's columns,
/// output rows and columns.
pub(crate) fn conv_lanes(
    tile: &conv::LanesForm,
    (filters, terms, height, width): (usize, usize, usize, usize),
) -> Microseconds {
    let reach = (tile.places - 1) * tile.stride + (tile.kernel - 1) * tile.dilation + 1;
    let products = (tile.rows * tile.places * tile.kernel) as f64;
    let penalty = if products > 1400.0 { 1.4 } else { 1.16 };
    let loads = (11 * tile.lanes * (tile.weights() + (reach + 6) / 4) + 4 * reach) as f64;
    let tiles = filters.div_ceil(tile.rows) * (height * width.div_ceil(tile.places)).div_ceil(tile.lanes);
    // Stores to many output planes at once miss the translation buffer.
    let scattered = tile.rows > 4 * tile.lanes && terms * tile.kernel < 512 && height * width > 1024;
    let stores = (70 * tile.rows * tile.places) as f64 * if scattered { 4.0 } else { 1.0 };
    tiles as f64 * (terms as f64 * (loads + penalty * products) + stores + 500.0) / CYCLES
}

/// One term of an invocation's sum in workgroup memory: products, words read, and its share of the loads, each worth four
/// products.
fn block_term(block: Block) -> Microseconds {
    let Block { bm, bn, tm, tn, .. } = block;
    ((tm * tn + tm + tn) as f64 + 4.0 * (bm + bn) as f64 / block.threads() as f64) / CYCLES
}

/// One term of all sums of `batches` products of `m` rows and `n` columns in workgroup memory. What fills the device `x` times
/// takes `1 + x` times as long as one invocation alone.
pub(crate) fn block(block: Block, m: usize, n: usize, batches: usize) -> Microseconds {
    let invocations = (block.groups(m, n) * batches * block.threads()) as f64;
    block_term(block) * (1.0 + invocations / IN_FLIGHT)
}

/// Sums of `terms` in workgroup memory on a device that they don't fill, in one piece or in `slices` that one more dispatch
/// adds up.
pub(crate) fn slices(block: Block, terms: usize, slices: Option<usize>) -> Microseconds {
    match slices {
        None => block_term(block) * terms as f64,
        Some(slices) => block_term(block) * (terms / slices.max(1)) as f64 + dispatch(Class::Gpu),
    }
}

/// A product over any strides: a sixteenth of a microsecond for a term of a tile, which is waited for, on 128 cores.
pub(crate) fn strided(
    (m, n, k): (usize, usize, usize),
    batches: usize,
    tile: (usize, usize),
) -> Microseconds {
    let (rows, columns) = tile;
    let tiles = m.div_ceil(rows) * n.div_ceil(columns * 64) * batches;
    (k * tiles * (1 + rows * columns / 8)) as f64 / 16.0 / 128.0
}

/// A product of few rows. The kernel for few rows reads the right operand once for each `rows`, at a terabyte a second; the one
/// in workgroup memory (0 rows) has too few workgroups to read it as fast, but reads it once, and computes 20 TFLOP/s.
pub(crate) fn split((m, n, k): (usize, usize, usize), batches: usize, rows: usize) -> Microseconds {
    let size = (k * n * batches) as f64;
    let read = size * 4e-6;
    match rows {
        0 => 4.0 * read + size * m as f64 * 1e-7,
        rows => read * (m.div_ceil(rows) * (8 + rows)) as f64 / 8.0,
    }
}

/// A reduction of `rows` that are cut into `parts`, each folded by `lanes` invocations that take `each` elements one after the
/// other, and `sharing` steps together.
pub(crate) fn fold(
    class: Class,
    (rows, parts, lanes): (usize, usize, usize),
    (each, sharing): (usize, usize),
) -> Microseconds {
    const STEP: Microseconds = 0.05;
    let busy = if class == Class::Cpu { 64 } else { 16384 };
    let rounds = (rows * lanes * parts).div_ceil(busy);
    ((each + sharing) * rounds) as f64 * STEP + if parts > 1 { dispatch(class) } else { 0.0 }
}
