//! com.microsoft.SparseAttention: causal attention with a cache, in which a query sees only some blocks of keys. Lists of blocks
//! for each block of queries say which; several heads may share a list. It becomes TensorScatter, RotaryEmbedding and Attention of
//! ONNX, with a mask made of the lists.
//!
//! History: com.microsoft 1. A cache is an input and an output here, where onnxruntime writes into it. Where the batches' lengths
//! differ, onnxruntime 1.31.1's CPU provider is right in head 0 alone, and is not followed in the others. Rows that only fill up
//! a shorter prompt mean nothing.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::group_query_attention::{operands, with_positions};
use super::multi_head_attention::{heads, join_heads};
use super::{Attr, DType, NodeDef, Op, Row, Why, microsoft, refuse, types};
use crate::graph::ValueId;

pub(crate) const ROWS: &[Row] = &[microsoft(
    "SparseAttention",
    types![T T T T T M M M M T T -> T T T; T: F16 F32 BF16, M: I32],
    parse,
    cases,
)];

const PAST_KEY: usize = 3;
const PAST_VALUE: usize = 4;
const ROW_STARTS: usize = 5;
const COLUMNS: usize = 6;
const TOTAL: usize = 7;
const LENGTHS: usize = 8;
const COS: usize = 9;
const SIN: usize = 10;

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let (a, mut body) = (def.attributes, Body::new(def));
    let (q_heads, kv_heads) = (heads(def, "num_heads")?, heads(def, "kv_num_heads")?);
    let block = match a.int_or("sparse_block_size", 0)? {
        block @ 1.. => block,
        block => refuse!("sparse_block_size is {block}, and must be positive"),
    };
    let [mut q, mut k, v] = operands(&mut body, q_heads, kv_heads)?;
    let lengths = lengths(&mut body, q)?;
    let new = body.size(q, 2)?;
    let first = body.node("Sub", &[lengths, new])?;
    let axes = body.list(&[1]);
    let (start, steps) = (body.node("Unsqueeze", &[first, axes])?, body.counted(new)?);
    let positions = body.node("Add", &[start, steps])?;
    if a.flag("do_rotary", false)? {
        let angles = [body.input(COS)?, body.input(SIN)?];
        [q, k] = with_positions(&mut body, [q, k], angles, positions)?;
    }
    let mut present = |new: ValueId, past: usize| {
        let past = body.input(past)?;
        body.with("TensorScatter", &[("axis", Attr::Int(2))], &[past, new, first])
    };
    let (k, v) = (present(k, PAST_KEY)?, present(v, PAST_VALUE)?);
    let seen = seen(&mut body, positions, k, (block, q_heads))?;
    let mut attributes = vec![("is_causal", Attr::Int(1))];
    if let Some(scale) = a.float("scale")?.filter(|scale| *scale != 0.0) {
        attributes.push(("scale", Attr::Float(scale)));
    }
    let inputs = [Some(q), Some(k), Some(v), Some(seen), None, None, Some(lengths)];
    let [y] = body.call("Attention", &attributes, &inputs)?;
    let y = join_heads(&mut body, y)?;
    body.finish(&[y, k, v])
}

/// For each batch, the number of keys up to its last query. In a first prompt that is the number of queries.
fn lengths(body: &mut Body, q: ValueId) -> Result<ValueId, Why> {
    let (total, new, flat) = (body.input(TOTAL)?, body.size(q, 2)?, body.list(&[-1]));
    let (total, lengths) = (body.cast(total, DType::I64)?, body.input(LENGTHS)?);
    let is_first = body.node("Equal", &[total, new])?;
    let lengths = body.node("Reshape", &[lengths, flat])?;
    let lengths = body.cast(lengths, DType::I64)?;
    body.node("Where", &[is_first, new, lengths])
}

/// The blocks that the lists name, 1 where a block of queries sees a block of keys: `[lists, blocks, blocks]`.
fn blocks(body: &mut Body) -> Result<ValueId, Why> {
    let (starts, columns) = (body.input(ROW_STARTS)?, body.input(COLUMNS)?);
    let (starts, columns) = (body.of_rank(starts, 2)?, body.of_rank(columns, 2)?);
    let (starts, columns) = (body.cast(starts, DType::I64)?, body.cast(columns, DType::I64)?);
    let (one, end, two) = (body.list(&[1]), body.list(&[i64::MAX]), body.list(&[2]));
    let ends = body.node("Slice", &[starts, one, end, one])?;
    let count = body.size(ends, 1)?;
    // The row of each entry: as many rows end before it. Entries behind the last row only fill up.
    let length = body.size(columns, 1)?;
    let entries = body.counted(length)?;
    let ends = body.node("Unsqueeze", &[ends, two])?;
    let passed = body.node("LessOrEqual", &[ends, entries])?;
    let passed = body.cast(passed, DType::I64)?;
    let rows = body.with("ReduceSum", &[("keepdims", Attr::Int(0))], &[passed, one])?;
    let counts = body.node("Less", &[rows, count])?;
    let (none, places) = (body.list(&[0]), body.node("Mul", &[rows, count])?);
    let places = body.node("Add", &[places, columns])?;
    // What fills up goes to a place behind all blocks. A column that does not exist has no place, which is reported.
    let (least, below) =
        (body.node("GreaterOrEqual", &[columns, none])?, body.node("Less", &[columns, count])?);
    let exists = body.node("And", &[least, below])?;
    let all = body.node("Mul", &[count, count])?;
    let room = body.node("Add", &[all, one])?;
    let places = body.node("Where", &[exists, places, room])?;
    let places = body.node("Where", &[counts, places, all])?;
    let lists = body.size(starts, 0)?;
    let shape = body.joined(&[lists, room])?;
    let zeros = body.node("ConstantOfShape", &[shape])?;
    let (shape, seen) = (body.node("Shape", &[places])?, body.scalar(1f32));
    let ones = body.node("Expand", &[seen, shape])?;
    let seen = body.with("ScatterElements", &[("axis", Attr::Int(1))], &[zeros, places, ones])?;
    let seen = body.node("Slice", &[seen, none, all, one])?;
    let shape = body.joined(&[lists, count, count])?;
    body.node("Reshape", &[seen, shape])
}

/// Whether each query sees each key, but for the order of time: `[batch, heads, queries, keys]`.
fn seen(
    body: &mut Body,
    positions: ValueId,
    keys: ValueId,
    (block, q_heads): (i64, i64),
) -> Result<ValueId, Why> {
    let blocks = blocks(body)?;
    let (size, one, flat) = (body.scalar(block), body.list(&[1]), body.list(&[-1]));
    let rows = body.node("Div", &[positions, size])?;
    let rows = body.node("Reshape", &[rows, flat])?;
    let of_queries = body.with("Gather", &[("axis", Attr::Int(1))], &[blocks, rows])?;
    // The cache may have room behind the last block.
    let (length, count) = (body.size(keys, 2)?, body.size(blocks, 2)?);
    let columns = body.counted(length)?;
    let (columns, last) = (body.node("Div", &[columns, size])?, body.node("Sub", &[count, one])?);
    let columns = body.node("Min", &[columns, last])?;
    let all = body.with("Gather", &[("axis", Attr::Int(2))], &[of_queries, columns])?;
    // Heads take the lists in turn.
    let (lists, batch, queries) = (body.size(blocks, 0)?, body.size(positions, 0)?, body.size(positions, 1)?);
    let shape = body.joined(&[lists, batch, queries, length])?;
    let all = body.node("Reshape", &[all, shape])?;
    let all = body.transposed(all, &[1, 0, 2, 3])?;
    let heads = body.list(&[q_heads]);
    let turns = body.node("Div", &[heads, lists])?;
    let repeats = body.joined(&[one, turns, one, one])?;
    let all = body.node("Tile", &[all, repeats])?;
    body.cast(all, DType::Bool)
}

fn cases() -> Vec<Case> {
    let int32 = |shape: &[usize], values: &[i32]| case::values(shape, values);
    // Two lists for four blocks; the first is shorter.
    let lists = |case: Case| {
        case.constant(int32(&[2, 5], &[0, 1, 3, 5, 7, 0, 1, 3, 6, 8]))
            .constant(int32(&[2, 8], &[0, 0, 1, 1, 2, 1, 3, -1, 0, 0, 1, 0, 1, 2, 0, 3]))
    };
    let new = |name: &str, length: usize, lengths: &[i32], total: i32| {
        let case = Case::new("SparseAttention", name).of_microsoft().tolerance(Tolerance::TRANSCENDENTAL);
        let batch = lengths.len();
        let cache = || case::random(&[batch, 2, 64, 8]);
        let case = case.int("num_heads", 4).int("kv_num_heads", 2).int("sparse_block_size", 16).outputs(3);
        let case = case
            .input(case::random(&[batch, length, 32]))
            .input(case::random(&[batch, length, 16]))
            .input(case::uniform(&[batch, length, 16], -2.0, 1.0))
            .input(cache())
            .input(cache());
        lists(case).constant(int32(&[1], &[total])).input(int32(&[batch], lengths))
    };
    let angles = || case::uniform(&[64, 4], -1.0, 1.0);
    let rotary = |case: Case| case.int("do_rotary", 1).constant(angles()).constant(angles());
    let packed = Case::new("SparseAttention", "packed").of_microsoft().tolerance(Tolerance::TRANSCENDENTAL);
    let packed = packed.int("num_heads", 4).int("kv_num_heads", 2).int("sparse_block_size", 16);
    let packed = packed.input(case::random(&[1, 20, 64])).absent().absent();
    let cache = || case::random(&[1, 2, 64, 8]);
    let packed = lists(packed.input(cache()).input(cache()));
    vec![
        new("prompt", 50, &[50], 50),
        rotary(new("token", 1, &[21, 40], 40)),
        rotary(new("tokens", 3, &[33], 33)).int("rotary_interleaved", 1).float("scale", 0.5),
        packed.constant(int32(&[1], &[20])).input(int32(&[1], &[20])),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::evaluated;
    use super::*;

    /// One channel, blocks of one key, and keys of 0, so that a query takes the mean of the values that it sees: 1, 10, 100, 1000.
    fn prompt(starts: &[i32], columns: &[i32], heads: usize) -> Case {
        let case = Case::new("SparseAttention", "").of_microsoft().int("sparse_block_size", 1);
        let case = case.int("num_heads", heads as i64).int("kv_num_heads", 1);
        let row = |values: &[f32]| case::values(&[1, 4, values.len() / 4], values);
        let case = case.input(row(&vec![0.0; 4 * heads])).input(row(&[0.0; 4]));
        let case = case.input(row(&[1.0, 10.0, 100.0, 1000.0]));
        let cache = || case::values(&[1, 1, 4, 1], &[0.0f32; 4]);
        let lists = starts.len() / 5;
        let case = case.input(cache()).input(cache()).input(case::values(&[lists, 5], starts));
        let case = case.input(case::values(&[lists, columns.len() / lists], columns));
        case.input(case::values(&[1], &[4i32])).input(case::values(&[1], &[4i32]))
    }

    #[test]
    fn queries_see_the_blocks_of_their_lists() {
        let y = evaluated(&prompt(&[0, 1, 3, 4, 7], &[0, 0, 1, 2, 0, 1, 3, -1], 1));
        assert_eq!(y, [1.0, 5.5, 100.0, 337.0]);
    }

    /// Heads 0 and 2 take the first list, heads 1 and 3 the second. A list may name a block that is later than the query.
    #[test]
    fn heads_take_lists_in_turn() {
        let starts = [0, 1, 2, 3, 4, 0, 2, 3, 4, 5];
        let y = evaluated(&prompt(&starts, &[0, 1, 2, 3, -1, 0, 3, 0, 0, 0], 4));
        let expected = [1.0, 1.0, 1.0, 1.0, 10.0, 1.0, 10.0, 1.0, 100.0, 1.0, 100.0, 1.0];
        assert_eq!(y[..12], expected);
        assert_eq!(y[12..], [1000.0, 1.0, 1000.0, 1.0]);
    }

    #[test]
    fn blocks_that_do_not_exist_are_refused() {
        let why = case::evaluated(&prompt(&[0, 1, 2, 3, 4], &[0, 1, 4, 3], 1)).unwrap_err();
        assert!(why.contains('4') || why.contains("17"), "{why}");
    }
}
