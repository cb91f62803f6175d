//! com.microsoft.GroupQueryAttention: attention in which several heads of queries share a head of keys and values, with a cache of
//! earlier keys and values, and with positions that turn queries and keys. It becomes TensorScatter, RotaryEmbedding and
//! Attention of ONNX. A length that does not fit the cache, and a position outside of the table of angles, are reported by these.
//! Room in the cache beyond a batch's length keeps what it held, as where onnxruntime's past and present share a buffer;
//! otherwise onnxruntime clears it. Rows that only fill up a shorter prompt see the keys before them; onnxruntime hides the keys
//! of such rows. A cache may hold numbers of 8 bits, or two of 4 bits to a byte, centred at 8: new keys and values take part in
//! attention as the cache will hold them, rounded.
//!
//! History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::multi_head_attention::{heads, join_heads, split_heads};
use super::{Attr, DType, NodeDef, Op, Row, Tensor, Types, Why, microsoft, refuse, types};
use crate::graph::ValueId;

const TYPES: Types = types![
    T T T T_CACHE T_CACHE M M T T int64 T T T_KV_SCALE T_KV_SCALE T T -> T T_CACHE T_CACHE T;
    T: F16 F32 BF16, T_CACHE: F16 F32 BF16 F8E4M3FN BYTES, T_KV_SCALE: F32, M: I32
];

pub(crate) const ROWS: &[Row] = &[microsoft("GroupQueryAttention", TYPES, parse, cases)];

const PAST_KEY: usize = 3;
const PAST_VALUE: usize = 4;
const LENGTHS: usize = 5;
const TOTAL: usize = 6;
const COS: usize = 7;
const SIN: usize = 8;
const POSITIONS: usize = 9;
const BIAS: usize = 10;
const SINK: usize = 11;
const K_SCALE: usize = 12;
const V_SCALE: usize = 13;
const Q_NORM: usize = 14;
const K_NORM: usize = 15;

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let (a, mut body) = (def.attributes, Body::new(def));
    for (name, plain) in [("sliding_window_cache", 0), ("qk_output", 0)] {
        if !matches!(a.int_or(name, plain)?, value if value <= 0) {
            refuse!("{name} is not supported");
        }
    }
    let (q_heads, kv_heads) = (heads(def, "num_heads")?, heads(def, "kv_num_heads")?);
    let [mut q, mut k, v] = operands(&mut body, q_heads, kv_heads)?;
    for (x, i) in [(&mut q, Q_NORM), (&mut k, K_NORM)] {
        if let Some(weight) = body.optional(i) {
            let epsilon = ("epsilon", Attr::Float(a.float_or("qk_norm_epsilon", 1e-6)?));
            *x = body.with("RMSNormalization", &[epsilon], &[*x, weight])?;
        }
    }
    let lengths = total_lengths(&mut body, q)?;
    let new = body.size(q, 2)?;
    let first = body.node("Sub", &[lengths, new])?;
    if a.flag("do_rotary", false)? {
        let positions = positions(&mut body, q, first)?;
        let angles = [body.input(COS)?, body.input(SIN)?];
        [q, k] = with_positions(&mut body, [q, k], angles, positions)?;
    }
    let keys = Cache { past: PAST_KEY, scale: K_SCALE, kind: "k_quant_type", heads: kv_heads };
    let values = Cache { past: PAST_VALUE, scale: V_SCALE, kind: "v_quant_type", heads: kv_heads };
    let ([k, present_k], [v, present_v]) =
        (keys.with(&mut body, k, first)?, values.with(&mut body, v, first)?);
    let mut attributes = vec![("is_causal", Attr::Int(a.int_or("causal", 1)?))];
    match a.int_or("local_window_size", -1)? {
        -1 => {}
        // onnxruntime counts a query's own key.
        window @ 1.. => attributes.push(("left_window_size", Attr::Int(window - 1))),
        other => refuse!("local_window_size {other} is neither -1 nor positive"),
    }
    attributes.push(("softcap", Attr::Float(a.float_or("softcap", 0.0)?)));
    if let Some(scale) = a.float("scale")?.filter(|scale| *scale != 0.0) {
        attributes.push(("scale", Attr::Float(scale)));
    }
    let bias = body.optional(BIAS);
    let inputs = [Some(q), Some(k), Some(v), bias, None, None, Some(lengths)];
    let y = match (body.optional(SINK), a.int_or("smooth_softmax", 0)?) {
        (None, ..=0) => {
            let [y] = body.call("Attention", &attributes, &inputs)?;
            y
        }
        (sink, _) => {
            let sink = match sink {
                Some(sink) => body.reshaped(sink, &[1, -1, 1, 1])?,
                None => body.number(0.0, q)?,
            };
            attributes.push(("qk_matmul_output_mode", Attr::Int(2)));
            let [y, _, _, scores] = body.call("Attention", &attributes, &inputs)?;
            let share = share(&mut body, scores, sink)?;
            body.node("Mul", &[y, share])?
        }
    };
    let y = join_heads(&mut body, y)?;
    body.finish(&[y, present_k, present_v])
}

/// Queries and keys, turned by the angles of their positions, which are given as cosines and sines.
pub(super) fn with_positions(
    body: &mut Body,
    of: [ValueId; 2],
    [cos, sin]: [ValueId; 2],
    positions: ValueId,
) -> Result<[ValueId; 2], Why> {
    let interleaved = [("interleaved", Attr::Int(body.attributes().int_or("rotary_interleaved", 0)?))];
    let mut turned = |x| body.with("sardonyx.RotaryEmbedding", &interleaved, &[x, cos, sin, positions]);
    Ok([turned(of[0])?, turned(of[1])?])
}

/// The part of each row's weights that a sink leaves to the keys: the sink takes part in the softmax like the score of one more
/// key, but has no value.
fn share(body: &mut Body, scores: ValueId, sink: ValueId) -> Result<ValueId, Why> {
    let axes = body.list(&[-1]);
    let all = body.node("ReduceLogSumExp", &[scores, axes])?;
    let beyond = body.node("Sub", &[all, sink])?;
    body.node("Sigmoid", &[beyond])
}

/// The positions of the new tokens, one row for each batch or one for all. As in onnxruntime, a first prompt takes from the
/// positions that are given only the very first, and counts on from that.
fn positions(body: &mut Body, q: ValueId, first: ValueId) -> Result<ValueId, Why> {
    let (new, axes) = (body.size(q, 2)?, body.list(&[1]));
    let steps = body.counted(new)?;
    let Some(given) = body.optional(POSITIONS) else {
        let start = body.node("Unsqueeze", &[first, axes])?;
        return body.node("Add", &[start, steps]);
    };
    let (is_first, flat) = (is_first_prompt(body, q)?, body.list(&[-1]));
    let (zero, one) = (body.list(&[0]), body.list(&[1]));
    let flat = body.node("Reshape", &[given, flat])?;
    let start = body.node("Slice", &[flat, zero, one])?;
    let counted = body.node("Add", &[start, steps])?;
    body.node("Where", &[is_first, counted, given])
}

/// Whether all keys are new.
fn is_first_prompt(body: &mut Body, q: ValueId) -> Result<ValueId, Why> {
    let (total, new) = (body.input(TOTAL)?, body.size(q, 2)?);
    let total = body.cast(total, DType::I64)?;
    body.node("Equal", &[total, new])
}

/// Queries, keys and values, `[batch, heads, length, depth]`.
pub(super) fn operands(body: &mut Body, q_heads: i64, kv_heads: i64) -> Result<[ValueId; 3], Why> {
    let q = body.input(0)?;
    match (body.optional(1), body.optional(2)) {
        (Some(k), Some(v)) => Ok([
            split_heads(body, q, q_heads)?,
            split_heads(body, k, kv_heads)?,
            split_heads(body, v, kv_heads)?,
        ]),
        (None, None) => {
            let Some(all) = kv_heads.checked_mul(2).and_then(|kv| kv.checked_add(q_heads)) else {
                refuse!("{q_heads} and {kv_heads} heads are too many")
            };
            let packed = split_heads(body, q, all)?;
            let sizes = body.list(&[q_heads, kv_heads, kv_heads]);
            body.call("Split", &[("axis", Attr::Int(1))], &[Some(packed), Some(sizes)])
        }
        _ => refuse!("key and value go together"),
    }
}

/// For each batch, the number of keys up to its last query. In a first prompt, of which all queries are new, that is the number
/// of queries, also where the rest of a shorter prompt is filled up.
fn total_lengths(body: &mut Body, q: ValueId) -> Result<ValueId, Why> {
    let (last, is_first) = (body.input(LENGTHS)?, is_first_prompt(body, q)?);
    let (new, one, flat) = (body.size(q, 2)?, body.scalar(1i64), body.list(&[-1]));
    let last = body.node("Reshape", &[last, flat])?;
    let last = body.cast(last, DType::I64)?;
    let lengths = body.node("Add", &[last, one])?;
    body.node("Where", &[is_first, new, lengths])
}

/// The keys or the values of earlier calls, and how their cache holds numbers.
struct Cache {
    /// The input.
    past: usize,
    /// The input with the cache's scale or scales, which takes a shape of `[1, heads, 1, depth]`.
    scale: usize,
    /// The attribute that says whether the cache is quantised.
    kind: &'static str,
    heads: i64,
}

impl Cache {
    /// The keys or values of all calls, as attention and as the next call take them.
    fn with(&self, body: &mut Body, new: ValueId, first: ValueId) -> Result<[ValueId; 2], Why> {
        let kind = body.attributes().string_or(self.kind, "NONE")?;
        match (kind.as_str(), body.optional(self.past), body.optional(self.scale)) {
            ("NONE", cache, None) => {
                let all = match cache {
                    Some(cache) => present(body, cache, new, first)?,
                    None => new,
                };
                Ok([all, all])
            }
            ("PER_TENSOR" | "PER_CHANNEL", Some(cache), Some(scale)) => {
                self.quantized(body, new, first, cache, scale)
            }
            ("PER_TENSOR" | "PER_CHANNEL" | "NONE", ..) => {
                let (kind_name, past, scale) = (self.kind, self.past, self.scale);
                refuse!(
                    "a {kind_name} of {kind} needs the past cache (input {past}) and its scale (input {scale})"
                )
            }
            _ => refuse!("{} '{kind}' is none of NONE, PER_TENSOR, PER_CHANNEL", self.kind),
        }
    }

    /// The new keys or values take part in attention as the cache holds them: rounded.
    fn quantized(
        &self,
        body: &mut Body,
        new: ValueId,
        first: ValueId,
        cache: ValueId,
        scale: ValueId,
    ) -> Result<[ValueId; 2], Why> {
        let (depth, all) = (body.size(new, 3)?, body.list(&[-1]));
        let shape = body.list(&[1, self.heads, 1]);
        let shape = body.joined(&[shape, depth])?;
        let scale = body.node("Expand", &[scale, shape])?;
        let scales = body.node("Reshape", &[scale, all])?;
        let channels = body.node("Shape", &[scales])?;
        let numbers = body.cast(new, DType::F32)?;
        let numbers = body.transposed(numbers, &[0, 2, 1, 3])?;
        let numbers = body.reshaped(numbers, &[0, 0, -1])?;
        let by_channel = [("axis", Attr::Int(2))];
        let halves = match body.attributes().int_or("kv_cache_bit_width", 8)? {
            8 | 0 => false,
            4 => true,
            bits => refuse!("a kv_cache_bit_width of {bits} is neither 8 nor 4"),
        };
        let zero = body.scalar(if halves { f32::from(MIDDLE) } else { 0.0 });
        let zeros = body.node("Expand", &[zero, channels])?;
        let zeros = body.node("CastLike", &[zeros, cache])?;
        let mut numbers = body.with("QuantizeLinear", &by_channel, &[numbers, scales, zeros])?;
        if halves {
            // Two to a byte, the first in the lower bits.
            let (most, places) =
                (body.scalar(2 * MIDDLE - 1), body.constant(case::values(&[2], &[1i32, 16])));
            numbers = body.node("Min", &[numbers, most])?;
            numbers = body.cast(numbers, DType::I32)?;
            numbers = body.reshaped(numbers, &[0, 0, -1, 2])?;
            numbers = body.node("Mul", &[numbers, places])?;
            numbers = body.with("ReduceSum", &[("keepdims", Attr::Int(0))], &[numbers, all])?;
            numbers = body.cast(numbers, DType::U8)?;
        }
        let numbers = body.reshaped(numbers, &[0, 0, self.heads, -1])?;
        let numbers = body.transposed(numbers, &[0, 2, 1, 3])?;
        let present = present(body, cache, numbers, first)?;
        let values = if halves {
            let bits = [("bits", Attr::Int(4)), ("centred", Attr::Int(1))];
            body.with("sardonyx.UnpackedBits", &bits, &[present])?
        } else {
            body.cast(present, DType::F32)?
        };
        let values = body.node("Mul", &[values, scale])?;
        Ok([body.node("CastLike", &[values, new])?, present])
    }
}

/// What stands for zero in four bits.
const MIDDLE: u8 = 8;

/// The keys or values of earlier calls, and from position `first` of each batch on the new ones.
fn present(body: &mut Body, cache: ValueId, new: ValueId, first: ValueId) -> Result<ValueId, Why> {
    // The cache has room for all batches: for the longest, or more if it had more already.
    let (total, flat) = (body.input(TOTAL)?, body.list(&[-1]));
    let total = body.cast(total, DType::I64)?;
    let total = body.node("Reshape", &[total, flat])?;
    let room = body.size(cache, 2)?;
    let missing = body.node("Sub", &[total, room])?;
    let none = body.list(&[0]);
    let missing = body.node("Max", &[missing, none])?;
    let zeros = body.list(&[0, 0, 0, 0, 0, 0]);
    let pads = body.joined(&[zeros, missing, none])?;
    let cache = body.node("Pad", &[cache, pads])?;
    body.with("TensorScatter", &[("axis", Attr::Int(2))], &[cache, new, first])
}

fn cases() -> Vec<Case> {
    let int32 = |shape: &[usize], values: &[i32]| case::values(shape, values);
    let angles = || case::uniform(&[16, 4], -1.0, 1.0);
    let new = |name: &str, length: usize, past: usize, last: &[i32], total: i32| {
        let case = Case::new("GroupQueryAttention", name).of_microsoft().tolerance(Tolerance::TRANSCENDENTAL);
        let batch = last.len();
        let cache = || -> Tensor { case::random(&[batch, 2, past, 8]) };
        case.int("num_heads", 4)
            .int("kv_num_heads", 2)
            .outputs(3)
            .input(case::random(&[batch, length, 32]))
            .input(case::random(&[batch, length, 16]))
            .input(case::uniform(&[batch, length, 16], -2.0, 1.0))
            .input(cache())
            .input(cache())
            .input(int32(&[batch], last))
            .constant(int32(&[], &[total]))
    };
    let rotary = |case: Case| case.int("do_rotary", 1).constant(angles()).constant(angles());
    let sink = |case: Case| {
        case.absent().absent().absent().absent().input(case::values(&[4], &[0.5f32, -1.0, 2.0, 0.0]))
    };
    let packed = Case::new("GroupQueryAttention", "packed").of_microsoft();
    // A cache that holds numbers of 8 bits, or two of 4 to a byte.
    let quantized = |name: &str, last: &[i32], dtype: DType, kind: &str, scale: &[usize]| {
        let (batch, halves) = (last.len(), dtype == DType::U8);
        let (depth, (low, high)) = if halves { (4, (0, 256)) } else { (8, (-100, 100)) };
        let cache = || case::converted(&case::integers(&[batch, 2, 6, depth], low, high), dtype);
        let (low, high) = if halves { (0.2, 0.4) } else { (0.01, 0.02) };
        let scale = || case::uniform(scale, low, high);
        let case = Case::new("GroupQueryAttention", name).of_microsoft().tolerance(Tolerance::TRANSCENDENTAL);
        let case = case
            .int("num_heads", 4)
            .int("kv_num_heads", 2)
            .int("kv_cache_bit_width", if halves { 4 } else { 8 })
            .string("k_quant_type", kind)
            .string("v_quant_type", kind)
            .outputs(3)
            .input(case::random(&[batch, 1, 32]))
            .input(case::random(&[batch, 1, 16]))
            .input(case::uniform(&[batch, 1, 16], -2.0, 1.0))
            .input(cache())
            .input(cache())
            .input(int32(&[batch], last))
            .constant(int32(&[], &[7]));
        (0..5).fold(case, |case, _| case.absent()).constant(scale()).constant(scale())
    };
    vec![
        quantized("int8_cache", &[6], DType::I8, "PER_TENSOR", &[1]),
        quantized("int8_cache_of_channels", &[3, 6], DType::I8, "PER_CHANNEL", &[1, 2, 1, 8]),
        quantized("int4_cache", &[6], DType::U8, "PER_TENSOR", &[1]),
        quantized("int4_cache_of_channels", &[3, 6], DType::U8, "PER_CHANNEL", &[1, 2, 1, 8]),
        quantized("float8_cache", &[6], DType::F8E4M3FN, "PER_TENSOR", &[1]),
        new("prompt", 5, 0, &[4, 4], 5),
        rotary(new("short_prompt", 5, 0, &[2, 4], 5)),
        rotary(new("token", 1, 6, &[6], 7)),
        rotary(new("lengths", 1, 6, &[3, 6], 7)).int("rotary_interleaved", 1),
        new("room", 2, 9, &[4, 6], 7).float("softcap", 3.0).float("scale", 0.4),
        new("window", 2, 6, &[7, 6], 8).int("local_window_size", 3),
        rotary(new("positions", 2, 4, &[5], 6)).input(case::values(&[1, 2], &[9i64, 1])),
        rotary(new("positions_of_a_prompt", 3, 0, &[2, 2], 3))
            .input(case::values(&[2, 3], &[2i64, 9, 9, 9, 9, 9])),
        sink(new("sink", 3, 0, &[2], 3)),
        sink(new("sink_of_a_token", 1, 6, &[3, 6], 7)).int("local_window_size", 3),
        new("smooth", 3, 0, &[2], 3).int("smooth_softmax", 1),
        packed
            .tolerance(Tolerance::TRANSCENDENTAL)
            .int("num_heads", 4)
            .int("kv_num_heads", 2)
            .input(case::random(&[2, 5, 64]))
            .absent()
            .absent()
            .absent()
            .absent()
            .input(int32(&[2], &[4, 4]))
            .constant(int32(&[1], &[5])),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::{evaluated, evaluated_output};
    use super::*;

    /// A token after two others, in a batch of one with one head of two channels.
    fn token(last: i32, total: i32) -> Case {
        let row = |values: [f32; 2]| case::values(&[1, 1, 2], &values);
        let past = |values: [f32; 4]| case::values(&[1, 1, 2, 2], &values);
        let case = Case::new("GroupQueryAttention", "token")
            .of_microsoft()
            .int("num_heads", 1)
            .int("kv_num_heads", 1);
        let case = case.input(row([1.0, 0.0])).input(row([0.5, 0.5])).input(row([7.0, 8.0]));
        let case = case.input(past([1.0, 2.0, 3.0, 4.0])).input(past([1.0, 2.0, 3.0, 4.0]));
        case.input(case::values(&[1], &[last])).input(case::values(&[], &[total]))
    }

    /// onnxruntime counts a query's own key in `local_window_size`: with 1, a query sees only that.
    #[test]
    fn a_window_holds_the_own_key() {
        assert_eq!(evaluated(&token(2, 3).int("local_window_size", 1)), [7.0, 8.0]);
    }

    /// The tables turn position 0 by no angle, and position 1 by a right angle.
    #[test]
    fn positions_may_be_given() {
        let table = |values: [f32; 2]| case::values(&[2, 1], &values);
        let case = token(2, 3).int("do_rotary", 1).input(table([1.0, 0.0])).input(table([0.0, 1.0]));
        let case = case.input(case::values(&[1, 1], &[1i64]));
        assert_eq!(evaluated_output(&case, 1), [1.0, 2.0, 3.0, 4.0, -0.5, 0.5]);
    }

    /// The own key has the score 1/2, and so has the sink, which takes half of the weight.
    #[test]
    fn a_sink_takes_its_share() {
        let own = token(2, 3).int("local_window_size", 1).float("scale", 1.0);
        let sink = own.clone().absent().absent().absent().absent().input(case::values(&[1], &[0.5f32]));
        assert_eq!(evaluated(&sink), [3.5, 4.0]);
        let smooth = evaluated(&own.int("smooth_softmax", 1));
        let share = 1.0 / (1.0 + f64::exp(-0.5));
        assert!((smooth[0] - 7.0 * share).abs() < 1e-6, "{smooth:?}");
    }

    /// New values follow the earlier ones, at the place that the length gives.
    #[test]
    fn new_values_follow_the_earlier_ones() {
        assert_eq!(evaluated_output(&token(2, 3), 2), [1.0, 2.0, 3.0, 4.0, 7.0, 8.0]);
        assert_eq!(evaluated_output(&token(1, 3), 2), [1.0, 2.0, 7.0, 8.0, 0.0, 0.0]);
    }
}
