//! com.microsoft.MultiHeadAttention, Attention and QAttention: attention of heads that lie in the last axis. Attention and
//! QAttention first make queries, keys and values of their input by one product. All three become the Attention of ONNX.
//!
//! History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::matmul_scaled::{Factor, floats};
use super::{Attr, DType, NodeDef, Op, Row, Tensor, Why, microsoft, refuse, types};
use crate::graph::ValueId;

pub(crate) const ROWS: &[Row] = &[
    microsoft(
        "MultiHeadAttention",
        types![T T T T M T T T M M -> T T T QK; T QK: F16 F32 BF16, M: I32],
        parse_multi_head,
        multi_head_cases,
    ),
    microsoft("Attention", types![T T T M T T M -> T T; T: F16 F32 BF16, M: I32], parse_attention, || {
        attention_cases()
    }),
    microsoft(
        "QAttention",
        types![T1 T2 T3 T3 T3 T4 T1 T2 T3 -> T3 T3; T1 T2: BYTES, T3: F16 F32, T4: I32],
        parse_quantized,
        quantized_cases,
    ),
];

/// The number of heads.
pub(super) fn heads(def: &NodeDef, name: &str) -> Result<i64, Why> {
    match def.attributes.int_or(name, 0)? {
        heads @ 1.. => Ok(heads),
        heads => refuse!("{name} is {heads}, and must be at least 1"),
    }
}

/// `[batch, length, heads * depth]` as `[batch, heads, length, depth]`.
pub(super) fn split_heads(body: &mut Body, x: ValueId, heads: i64) -> Result<ValueId, Why> {
    let x = body.of_rank(x, 3)?;
    let x = body.reshaped(x, &[0, 0, heads, -1])?;
    body.transposed(x, &[0, 2, 1, 3])
}

/// `[batch, heads, length, depth]` as `[batch, length, heads * depth]`.
pub(super) fn join_heads(body: &mut Body, x: ValueId) -> Result<ValueId, Why> {
    let x = body.transposed(x, &[0, 2, 1, 3])?;
    body.reshaped(x, &[0, 0, -1])
}

/// Queries, keys and values, `[batch, heads, length, depth]`, and the keys and values of earlier calls.
struct HeadOperands {
    qkv: [ValueId; 3],
    past: Option<[ValueId; 2]>,
    mask: Option<ValueId>,
    bias: Option<ValueId>,
}

/// The result, with the heads in its last axis, and the keys and values of all calls.
fn attention(body: &mut Body, def: &NodeDef, of: HeadOperands) -> Result<[ValueId; 3], Why> {
    let mut attributes = vec![("is_causal", Attr::Int(def.attributes.int_or("unidirectional", 0)?))];
    // 0 means that the scale follows from the depth.
    if let Some(scale) = def.attributes.float("scale")?.filter(|scale| *scale != 0.0) {
        attributes.push(("scale", Attr::Float(scale)));
    }
    let [q, k, v] = of.qkv;
    let mut bias = of.bias;
    if let Some(mask) = of.mask {
        let mask = masked(body, def, mask, [q, k], of.past)?;
        bias = Some(match bias {
            Some(bias) => body.node("Add", &[bias, mask])?,
            None => mask,
        });
    }
    let [past_k, past_v] = of.past.map_or([None; 2], |past| past.map(Some));
    let inputs = [Some(q), Some(k), Some(v), bias, past_k, past_v];
    let [y, k, v] = body.call("Attention", &attributes, &inputs)?;
    Ok([join_heads(body, y)?, k, v])
}

/// What is added to the scores where the mask hides a key. A mask is a length for each batch, or a number for each key, or for
/// each query and key. As in onnxruntime a row whose keys are all hidden takes its weights from the scores.
fn masked(
    body: &mut Body,
    def: &NodeDef,
    mask: ValueId,
    [q, k]: [ValueId; 2],
    past: Option<[ValueId; 2]>,
) -> Result<ValueId, Why> {
    let mut keys = body.size(k, 2)?;
    if let Some([past, _]) = past {
        let earlier = body.size(past, 2)?;
        keys = body.node("Add", &[keys, earlier])?;
    }
    let batches = body.size(q, 0)?;
    let [one, rest] = [1, -1].map(|size| body.list(&[size]));
    let dims = body.node("Shape", &[mask])?;
    let rank = body.node("Size", &[dims])?;
    let scalar = body.scalar(1i64);
    let of_lengths = body.node("Equal", &[rank, scalar])?;
    let lengths = body.joined(&[batches, one, one, one])?;
    let numbers = body.joined(&[batches, one, rest, keys])?;
    let shape = body.node("Where", &[of_lengths, lengths, numbers])?;
    let mask = body.node("Reshape", &[mask, shape])?;
    let places = body.counted(keys)?;
    let places = body.cast(places, DType::I32)?;
    let before = body.node("Less", &[places, mask])?;
    let zero = body.number(0.0, mask)?;
    let hidden = body.node("Equal", &[mask, zero])?;
    let shown = body.node("Not", &[hidden])?;
    let visible = body.node("Where", &[of_lengths, before, shown])?;
    let filter = def.attributes.float_or("mask_filter_value", -10_000.0)?;
    let (none, filter) = (body.number(0.0, q)?, body.number(filter, q)?);
    body.node("Where", &[visible, none, filter])
}

fn parse_multi_head(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    body.without(8, "past_sequence_length")?;
    body.without(9, "cache_indirection")?;
    let count = heads(def, "num_heads")?;
    let mut qkv = operands(&mut body)?;
    // Keys and values of their own may come in heads.
    let in_heads = match (body.optional(1), body.optional(2)) {
        (Some(k), Some(v)) => [None, Some(has_heads(&mut body, k)?), Some(has_heads(&mut body, v)?)],
        _ => [None; 3],
    };
    if let Some(bias) = body.optional(3) {
        let ends = qkv.map(|x| body.size(x, 2));
        let [queries, keys, _] = ends;
        let (zero, first, all) = (body.list(&[0]), queries?, body.list(&[i64::from(i32::MAX)]));
        let keys = keys?;
        let second = body.node("Add", &[first, keys])?;
        // What comes in heads has its bias: it takes the 0 behind all others.
        let (count, one) = (body.size(bias, 0)?, body.list(&[1]));
        let behind = body.node("Add", &[count, one])?;
        let biases = match in_heads[1] {
            Some(_) => {
                let nothing = body.constant(case::values(&[1], &[0f32]));
                let nothing = body.node("CastLike", &[nothing, bias])?;
                body.joined(&[bias, nothing])?
            }
            None => bias,
        };
        let bounds = [(zero, first), (first, second), (second, all)];
        for ((x, (mut from, mut to)), in_heads) in qkv.iter_mut().zip(bounds).zip(in_heads) {
            if let Some(in_heads) = in_heads {
                to = body.node("Min", &[to, count])?;
                from = body.node("Where", &[in_heads, count, from])?;
                to = body.node("Where", &[in_heads, behind, to])?;
            }
            let part = body.node("Slice", &[biases, from, to])?;
            *x = body.node("Add", &[*x, part])?;
        }
    }
    for (x, in_heads) in qkv.iter_mut().zip(in_heads) {
        if let Some(in_heads) = in_heads {
            *x = without_heads(&mut body, *x, in_heads, count)?;
        }
    }
    for x in &mut qkv {
        *x = split_heads(&mut body, *x, count)?;
    }
    let past = match (body.optional(6), body.optional(7)) {
        (Some(k), Some(v)) => Some([k, v]),
        (None, None) => None,
        _ => refuse!("past_key and past_value go together"),
    };
    let of = HeadOperands { qkv, past, mask: body.optional(4), bias: body.optional(5) };
    let outputs = attention(&mut body, def, of)?;
    body.finish(&outputs)
}

/// Whether keys or values are `[batch, heads, length, depth]`, and not `[batch, length, heads * depth]`.
fn has_heads(body: &mut Body, x: ValueId) -> Result<ValueId, Why> {
    let (dims, four) = (body.node("Shape", &[x])?, body.scalar(4i64));
    let rank = body.node("Size", &[dims])?;
    body.node("Equal", &[rank, four])
}

/// Keys or values as `[batch, length, heads * depth]`.
fn without_heads(body: &mut Body, x: ValueId, in_heads: ValueId, heads: i64) -> Result<ValueId, Why> {
    let (batch, heads, one) = (body.size(x, 0)?, body.list(&[heads]), body.list(&[1]));
    let heads = body.node("Where", &[in_heads, heads, one])?;
    let rest = body.with("Shape", &[("start", Attr::Int(-2))], &[x])?;
    let shape = body.joined(&[batch, heads, rest])?;
    let x = body.node("Reshape", &[x, shape])?;
    join_heads(body, x)
}

/// Queries, keys and values, `[batch, length, heads * depth]`; keys and values of their own may have heads.
fn operands(body: &mut Body) -> Result<[ValueId; 3], Why> {
    let q = body.input(0)?;
    match (body.optional(1), body.optional(2)) {
        (Some(k), Some(v)) => Ok([q, k, v]),
        (Some(kv), None) => {
            let [k, v] = unpacked(body, kv)?;
            Ok([q, k, v])
        }
        _ => unpacked(body, q),
    }
}

/// The parts of `[batch, length, heads, N, depth]`, each `[batch, length, heads * depth]`.
fn unpacked<const N: usize>(body: &mut Body, packed: ValueId) -> Result<[ValueId; N], Why> {
    let (packed, sizes) = (body.of_rank(packed, 5)?, body.list(&[1; N]));
    let mut parts: [ValueId; N] =
        body.call("Split", &[("axis", Attr::Int(3))], &[Some(packed), Some(sizes)])?;
    for part in &mut parts {
        *part = body.reshaped(*part, &[0, 0, -1])?;
    }
    Ok(parts)
}

/// The attention of one product's parts.
fn of_product(mut body: Body, def: &NodeDef, product: ValueId, others: [usize; 3]) -> Result<Op, Why> {
    if def.attributes.flag("do_rotary", false)? || def.attributes.flag("past_present_share_buffer", false)? {
        refuse!("do_rotary and past_present_share_buffer are not supported");
    }
    let [mask, past, bias] = others;
    let count = heads(def, "num_heads")?;
    let sizes = def.attributes.ints("qkv_hidden_sizes")?.unwrap_or_default();
    let axis = ("axis", Attr::Int(-1));
    let mut qkv: [ValueId; 3] = if sizes.is_empty() {
        body.call("Split", &[axis, ("num_outputs", Attr::Int(3))], &[Some(product)])?
    } else {
        let sizes = body.list(&sizes);
        body.call("Split", &[axis], &[Some(product), Some(sizes)])?
    };
    for x in &mut qkv {
        *x = split_heads(&mut body, *x, count)?;
    }
    let axes = body.list(&[0]);
    let past = match body.optional(past) {
        Some(past) => {
            let halves = [("axis", Attr::Int(0)), ("num_outputs", Attr::Int(2))];
            let mut halves: [ValueId; 2] = body.call("Split", &halves, &[Some(past)])?;
            for half in &mut halves {
                *half = body.node("Squeeze", &[*half, axes])?;
            }
            Some(halves)
        }
        None => None,
    };
    let bias = if bias == 0 { None } else { body.optional(bias) };
    let of = HeadOperands { qkv, past, mask: body.optional(mask), bias };
    let [y, k, v] = attention(&mut body, def, of)?;
    if !body.wants(1) {
        return body.finish(&[y]);
    }
    let (k, v) = (body.node("Unsqueeze", &[k, axes])?, body.node("Unsqueeze", &[v, axes])?);
    let present = body.joined(&[k, v])?;
    body.finish(&[y, present])
}

fn parse_attention(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    body.without(6, "past_sequence_length")?;
    let (x, weights) = (body.input(0)?, body.input(1)?);
    let x = body.of_rank(x, 3)?;
    let mut product = body.node("MatMul", &[x, weights])?;
    if let Some(bias) = body.optional(2) {
        product = body.node("Add", &[product, bias])?;
    }
    of_product(body, def, product, [3, 4, 5])
}

fn parse_quantized(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let x = body.input(0)?;
    let x = body.of_rank(x, 3)?;
    let a = Factor { values: x, scale: body.input(3)?, zero: body.optional(6) };
    let b = Factor { values: body.input(1)?, scale: body.input(4)?, zero: body.optional(7) };
    let bias = body.input(2)?;
    let product = floats(&mut body, a, b, Some(bias))?;
    of_product(body, def, product, [5, 8, 0])
}

fn multi_head_cases() -> Vec<Case> {
    let new = |name: &str, q: &[usize]| {
        let case = Case::new("MultiHeadAttention", name).of_microsoft().tolerance(Tolerance::TRANSCENDENTAL);
        case.int("num_heads", 2).input(case::random(q))
    };
    let three =
        |name: &str| new(name, &[2, 5, 16]).input(case::random(&[2, 7, 16])).input(case::random(&[2, 7, 24]));
    let in_heads = |name: &str| {
        new(name, &[2, 5, 16]).input(case::random(&[2, 2, 7, 8])).input(case::uniform(
            &[2, 2, 7, 8],
            -2.0,
            1.0,
        ))
    };
    let mask = |shape: &[usize]| case::converted(&case::integers(shape, 0, 2), DType::I32);
    vec![
        three("plain"),
        three("bias").constant(case::random(&[56])),
        three("mask").absent().input(mask(&[2, 7])),
        three("mask_of_rows").absent().input(mask(&[2, 5, 7])).input(case::random(&[1, 2, 5, 7])),
        three("lengths").absent().input(case::values(&[2], &[3i32, 7])),
        new("self", &[2, 5, 16])
            .input(case::random(&[2, 5, 16]))
            .input(case::random(&[2, 5, 16]))
            .absent()
            .absent()
            .absent()
            .input(case::random(&[2, 2, 3, 8]))
            .input(case::random(&[2, 2, 3, 8]))
            .int("unidirectional", 1)
            .outputs(3),
        in_heads("in_heads"),
        in_heads("in_heads_bias")
            .constant(case::random(&[48]))
            .absent()
            .absent()
            .absent()
            .absent()
            .outputs(3),
        new("packed", &[2, 5, 2, 3, 8]).float("scale", 0.2),
        new("packed_keys", &[2, 5, 16]).input(case::random(&[2, 7, 2, 2, 8])),
    ]
}

fn attention_cases() -> Vec<Case> {
    let new = |name: &str, columns: usize| {
        let case = Case::new("Attention", name).of_microsoft().tolerance(Tolerance::TRANSCENDENTAL);
        let case = case.int("num_heads", 2).input(case::random(&[2, 5, 12]));
        case.constant(case::random(&[12, columns])).constant(case::random(&[columns]))
    };
    vec![
        new("plain", 48),
        new("mask", 48).input(case::converted(&case::integers(&[2, 5], 0, 2), DType::I32)),
        new("sizes", 40).ints("qkv_hidden_sizes", &[16, 16, 8]).int("unidirectional", 1),
        new("past", 48)
            .input(case::converted(&case::integers(&[2, 8], 0, 2), DType::I32))
            .input(case::random(&[2, 2, 2, 3, 8]))
            .input(case::random(&[1, 1, 5, 8]))
            .int("unidirectional", 1)
            .outputs(2),
    ]
}

fn quantized_cases() -> Vec<Case> {
    let bytes = |shape: &[usize]| case::converted(&case::integers(shape, 0, 256), DType::U8);
    let scale = |shape: &[usize]| -> Tensor { case::uniform(shape, 0.002, 0.004) };
    let new = |name: &str, columns: &[usize]| {
        let case = Case::new("QAttention", name).of_microsoft().tolerance(Tolerance::TRANSCENDENTAL);
        let case = case.int("num_heads", 2).input(bytes(&[2, 5, 12])).constant(bytes(&[12, 48]));
        let case = case.constant(case::random(&[48])).constant(scale(&[])).constant(scale(columns));
        case.input(case::converted(&case::integers(&[2, 5], 0, 2), DType::I32))
    };
    vec![
        new("plain", &[]).constant(bytes(&[])).constant(bytes(&[])),
        new("columns", &[48]).constant(bytes(&[])).constant(bytes(&[48])).int("unidirectional", 1),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::evaluated;
    use super::*;

    /// As in onnxruntime, keys and values that come in heads have their bias already.
    #[test]
    fn keys_may_come_in_heads() {
        let new = |keys: &[usize], bias: Tensor| {
            let case = Case::new("MultiHeadAttention", "").of_microsoft().int("num_heads", 2);
            let numbers: Vec<f32> = (0..12).map(|i| (i * 5 % 12) as f32 * 0.1).collect();
            let rows = |at: &dyn Fn(usize) -> usize| (0..12).map(|i| numbers[at(i)]).collect::<Vec<f32>>();
            // `[1, 2 heads, 3 keys, 2]` from `[1, 3 keys, 2 heads * 2]`.
            let numbers = match keys.len() {
                4 => rows(&|i| i % 6 / 2 * 4 + i / 6 * 2 + i % 2),
                _ => rows(&|i| i),
            };
            let case = case.input(case::random(&[1, 2, 4]));
            case.input(case::values(keys, &numbers)).input(case::values(keys, &numbers)).input(bias)
        };
        let bias = |rest: f32| case::values(&[12], &[&[0.5, -1.0, 2.0, 0.25][..], &[rest; 8]].concat());
        let joined = evaluated(&new(&[1, 3, 4], bias(0.0)));
        assert_eq!(evaluated(&new(&[1, 2, 3, 2], bias(7.0))), joined);
        assert_ne!(evaluated(&new(&[1, 3, 4], bias(7.0))), joined);
    }
}
