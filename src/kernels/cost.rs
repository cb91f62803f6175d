//! Estimates of the time that kernels take. Lowering chooses among tiles by these estimates alone. Each is the time of one
//! dispatch on an idle device, in microseconds: good for comparing two tiles of one kernel, not for predicting a run.
//!
//! An example: a product of 64x64x64 by tiles of 32 rows and 64 columns on 8 lanes is 2 tiles. Each takes 16 steps of 4 terms,
//! 1,965 cycles a step, and 18,400 cycles to begin and to store: 33 microseconds at 3 GHz.

use super::gemm::{self, LanesRight};
use super::shared::Block;
use super::{Class, conv};

/// A time, in microseconds.
pub(crate) type Microseconds = f64;

/// Cycles in a microsecond.
const CYCLES: f64 = 3000.0;
/// Invocations that a GPU keeps in flight: sixteen cores with about a thousand each. More invocations take turns.
const IN_FLIGHT: f64 = 16384.0;

/// One more dispatch, with the wait for the dispatch before it.
pub(crate) fn dispatch(class: Class) -> Microseconds {
    if class == Class::Cpu { 50.0 } else { 5.0 }
}

/// What a tile must save in each run to be worth a pipeline of its own. A pipeline takes half a second on software devices,
/// and 50 ms on GPUs, which compile several at once.
pub(crate) fn worth_a_pipeline(class: Class) -> Microseconds {
    if class == Class::Cpu { 500.0 } else { 5.0 }
}

/// What a pipeline of a software device costs each of the 200 runs that should pay for it: lavapipe takes 50 ms, and 0.2 ms for
/// each product in its inner loop. Where another kernel has the same tile already, a sixth: the two may share a pipeline.
pub(crate) fn pipeline(products: usize, in_use: bool) -> Microseconds {
    (50_000.0 + 200.0 * products as f64) / if in_use { 1200.0 } else { 200.0 }
}

/// A product of `m` by `k` and `k` by `n` in registers of software devices. The numbers are measured on lavapipe: 7 cycles for
/// a lane's vector load, half a cycle for a value that all lanes get, one for a product, and 70 for a register's store. Above
/// 900 products of registers, a step outgrows the instruction cache.
pub(crate) fn lanes(tile: &gemm::LanesTile, (m, n, k): (usize, usize, usize)) -> Microseconds {
    let products = tile.products() as f64;
    let penalty = if products > 900.0 { 1.2 } else { 1.0 };
    let loads = 7 * tile.lanes * (tile.rows.div_ceil(tile.lanes) + 4 * tile.vectors);
    let step = loads as f64 + 2.0 * tile.rows as f64 + penalty * products;
    let tiles = (m.div_ceil(tile.rows) * n.div_ceil(tile.columns())) as f64;
    let stores = (tile.rows * tile.vectors * 4 * 70) as f64;
    // Rows of memory that are far apart: a strip of one vector uses little of each page.
    let far = matches!(tile.right, LanesRight::Rows { .. } | LanesRight::RowScalars) && n > 512;
    let misses = match tile.vectors {
        1 if far => 1.6,
        _ if far && tile.rows >= 4 * tile.lanes => 1.15,
        _ => 1.0,
    };
    tiles * (k.div_ceil(4) as f64 * step + stores + 500.0) * misses / CYCLES
}

/// The sizes of an attention for which [`attention_saves`] estimates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionSize {
    pub(crate) heads: usize,
    pub(crate) rows: usize,
    pub(crate) keys: usize,
    /// The elements of a key and a value.
    pub(crate) depths: [usize; 2],
    pub(crate) masked: bool,
    /// Whether the keys' elements lie apart, so that keys must be copied first.
    pub(crate) copied: bool,
}

/// What attention in registers of software devices saves a run, where it takes the place of two products and a softmax, and of what
/// adds a mask. The numbers are measured on lavapipe, for depths of 32 to 128 and 32 to 384 rows, in nanoseconds: of a score, of a
/// product that belongs to it, and of a copied element. A single row gains nothing, as most of its time is the loads of keys and values.
pub(crate) fn attention_saves(size: AttentionSize) -> Microseconds {
    let AttentionSize { heads, rows, keys, depths, masked, copied } = size;
    if rows == 1 {
        return 0.0;
    }
    let products = depths.iter().sum::<usize>() as f64;
    let mask = if masked { 4.0 } else { 0.0 };
    let copy = if copied { 15.0 * (keys * depths[0]) as f64 } else { 0.0 };
    let spelled = (rows * keys) as f64 * (12.0 + mask + 0.2 * products);
    let attention = (rows.next_multiple_of(16) * keys.next_multiple_of(32)) as f64 * (2.6 + 0.166 * products);
    heads as f64 * (spelled - attention - copy) / 1000.0 + 2.0 * dispatch(Class::Cpu)
}

/// What the pipeline of attention in registers costs each of the 200 runs that should pay for it, beside what the pipelines cost that
/// it replaces: lavapipe takes 0.3 s for each vector of a row's result that a lane keeps, and 0.35 s for a mask.
pub(crate) fn attention_pipeline(vectors: usize, masked: bool) -> Microseconds {
    1500.0 * vectors as f64 + if masked { 1750.0 } else { 0.0 }
}

/// A convolution in registers of software devices, as [`lanes`]. `size` has the filters, the terms of the sum divided by the
/// kernel's columns, the output rows and the output columns.
pub(crate) fn conv_lanes(
    tile: &conv::LanesForm,
    (filters, terms, height, width): (usize, usize, usize, usize),
) -> Microseconds {
    let reach = (tile.places - 1) * tile.stride + (tile.kernel - 1) * tile.dilation + 1;
    let products = tile.products() as f64;
    let penalty = if products > 700.0 { 1.5 } else { 1.2 };
    let loads = 7 * tile.lanes * (tile.weights() + (reach + 6) / 4) + 10 * reach + 100;
    let tiles = filters.div_ceil(tile.rows) * (height * width.div_ceil(tile.places)).div_ceil(tile.lanes);
    // Stores to many output planes at once miss the translation buffer.
    let scattered = tile.rows > 4 * tile.lanes && terms * tile.kernel < 512 && height * width > 1024;
    let stores = (70 * tile.rows * tile.places) as f64 * if scattered { 4.0 } else { 1.0 };
    tiles as f64 * (terms as f64 * (loads as f64 + penalty * products) + stores + 500.0) / CYCLES
}

/// How many of `height` output rows an invocation of a depthwise convolution computes, where `columns` invocations cover a
/// row of all planes. More rows load fewer input rows twice; fewer rows are more invocations, which should fill the device.
pub(crate) fn depthwise_rows(class: Class, columns: usize, height: usize) -> usize {
    let (invocations, least, most) = if class == Class::Cpu { (2048, 7, 256) } else { (32768, 2, 8) };
    let parts = (invocations / columns.max(1)).clamp(1, height.div_ceil(least).max(1));
    height.div_ceil(parts).clamp(1, most)
}

/// On software devices, Winograd's transforms of `tiles` tiles of `channels` and to `filters`, and the weights of its products,
/// which are four times those of the convolution. A tile of one channel takes 640 cycles on its way in and 460 on its way out, and
/// memory gives 10 bytes a nanosecond.
pub(crate) fn winograd(tiles: usize, (channels, filters): (usize, usize)) -> Microseconds {
    let transforms = (tiles * (640 * channels + 460 * filters)) as f64 / CYCLES;
    let weights = (36 * 4 * channels * filters) as f64 / 1e4;
    transforms + weights + 2.0 * dispatch(Class::Cpu)
}

/// The time in which an invocation adds up one term from workgroup memory: its products, the words that it reads there, and
/// its share of the loads into workgroup memory, where a loaded word costs as much as four products.
fn block_term(block: Block) -> Microseconds {
    let Block { bm, bn, tm, tn, .. } = block;
    ((tm * tn + tm + tn) as f64 + 4.0 * (bm + bn) as f64 / block.threads() as f64) / CYCLES
}

/// The time for one term of all sums of `batches` products of `m` rows and `n` columns in workgroup memory. Invocations that
/// fill the device `x` times take `1 + x` times as long as one alone: 32,768 invocations, twice what is in flight, take three
/// times.
pub(crate) fn block(block: Block, m: usize, n: usize, batches: usize) -> Microseconds {
    let invocations = (block.groups(m, n) * batches * block.threads()) as f64;
    block_term(block) * (1.0 + invocations / IN_FLIGHT)
}

/// Sums of `terms` terms in workgroup memory, of a product that does not fill the device: in one piece, or in `slices` pieces
/// whose results one more dispatch adds up.
pub(crate) fn slices(block: Block, terms: usize, slices: Option<usize>) -> Microseconds {
    match slices {
        None => block_term(block) * terms as f64,
        Some(slices) => block_term(block) * (terms / slices.max(1)) as f64 + dispatch(Class::Gpu),
    }
}

/// A product over any strides: a tile waits a sixteenth of a microsecond for each term, and 128 cores work at once.
pub(crate) fn strided(
    (m, n, k): (usize, usize, usize),
    batches: usize,
    tile: (usize, usize),
) -> Microseconds {
    let (rows, columns) = tile;
    let tiles = m.div_ceil(rows) * n.div_ceil(columns * 64) * batches;
    (k * tiles * (1 + rows * columns / 8)) as f64 / 16.0 / 128.0
}

/// A product of few rows. The kernel for few rows (`rows` of them) reads the right operand once for each `rows` rows, at a
/// terabyte a second. The kernel in workgroup memory (`rows` is 0) reads it once, but at a quarter of that speed, as it has
/// few workgroups, and computes 20 TFLOP/s.
pub(crate) fn split((m, n, k): (usize, usize, usize), batches: usize, rows: usize) -> Microseconds {
    let size = (k * n * batches) as f64;
    let read = size * 4e-6;
    match rows {
        0 => 4.0 * read + size * m as f64 * 1e-7,
        rows => read * (m.div_ceil(rows) * (8 + rows)) as f64 / 8.0,
    }
}

/// A product of few rows with weights of `bits` bits in blocks. The kernel for `few` rows takes the weights out of their words
/// again for each row: a software device needs 1.1 cycles for a weight, and a GPU reads a terabyte a second. The kernel for
/// many rows takes them out once for a tile of rows, each with a scale of its own.
pub(crate) fn block_product(
    class: Class,
    (m, n, k): (usize, usize, usize),
    bits: usize,
    few: bool,
) -> Microseconds {
    let weights = (n * k) as f64;
    match (class, few) {
        (Class::Cpu, true) => weights * m as f64 * 1.1 / CYCLES,
        (Class::Cpu, false) => weights * (5.5 * m.div_ceil(32) as f64 + 0.16 * m as f64) / CYCLES,
        (Class::Gpu, true) => weights * (m * bits) as f64 / 8e6,
        (Class::Gpu, false) => weights * (4 * bits + m) as f64 / 8e6,
    }
}

/// A reduction of `rows` rows, each cut into `parts`. Each part is folded by `lanes` invocations: an invocation takes `each`
/// elements one after the other, then the lanes need `sharing` steps to put their values together.
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
