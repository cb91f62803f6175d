//! Attention: scaled dot products of queries with keys, softmax, weighted values; with masks, windows and a key-value cache.
//!
//! History: 23; 24 (`nonpad_kv_seqlen`, masks shorter than the keys); 25 (windows).

use super::attending::{Attending, lanes_tile, put};
use super::case::{self, Case, Tolerance};
use super::strides::{Copy, scatter};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Tensor, Types, Why, Work, of_elements, onnx, optional, product,
    refuse, required, types,
};
use crate::array::{Numbers, broadcast_index};
use crate::facts::Fact;
use crate::kernels::Class;
use crate::kernels::attention::{AttentionParams, AttentionTile, Mask, Scores, Unseen};
use crate::kernels::expr::Scalar;
use crate::plan::{Lower, TensorId};

/// The attributes.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    causal: bool,
    /// `None`: one over the root of the keys' depth.
    scale: Option<f32>,
    softcap: f32,
    /// The number of query heads where inputs have rank 3.
    q_heads: usize,
    kv_heads: usize,
    scores: Scores,
    /// The number of keys before, and after, its own key that a query sees; `None` for all.
    left: Option<usize>,
    right: Option<usize>,
}

const TYPES: Types = types![T1 T1 T2 U T1 T2 int64 -> T1 T1 T2 T1; T1 T2: FLOATS BF16, U: NUMBERS BF16 BOOL];

pub(crate) const ROWS: &[Row] = &[onnx("Attention", 23, TYPES, parse, cases)];

const MASK: usize = 3;
const PAST_KEY: usize = 4;
const PAST_VALUE: usize = 5;
const LENGTHS: usize = 6;

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let a = def.attributes;
    let scores = match a.int_or("qk_matmul_output_mode", 0)? {
        0 => Scores::Raw,
        1 => Scores::Capped,
        2 => Scores::Biased,
        3 => Scores::Softmax,
        mode => refuse!("qk_matmul_output_mode {mode} is not 0 to 3"),
    };
    let window = |name| a.int_or(name, -1).map(|size| usize::try_from(size).ok());
    let heads = |name| match usize::try_from(a.int_or(name, 0)?) {
        Ok(heads) => Ok(heads),
        Err(_) => refuse!("{name} is negative"),
    };
    Ok(Attention {
        causal: a.flag("is_causal", false)?,
        scale: a.float("scale")?,
        softcap: a.float_or("softcap", 0.0)?,
        q_heads: heads("q_num_heads")?,
        kv_heads: heads("kv_num_heads")?,
        scores,
        left: window("left_window_size")?,
        right: window("right_window_size")?,
    }
    .into())
}

/// The sizes of one attention.
#[derive(Clone, Copy, Debug, PartialEq)]
struct AttentionSizes {
    /// Whether the heads lie in the last axis: inputs and output then have rank 3.
    packed: bool,
    batches: usize,
    heads: usize,
    kv_heads: usize,
    rows: usize,
    /// The number of keys in the input, and of keys from earlier calls.
    new: usize,
    past: usize,
    depth: usize,
    depth_v: usize,
}

impl AttentionSizes {
    fn keys(&self) -> usize {
        self.past + self.new
    }

    fn y(&self) -> Vec<usize> {
        match self.packed {
            true => vec![self.batches, self.rows, self.heads * self.depth_v],
            false => vec![self.batches, self.heads, self.rows, self.depth_v],
        }
    }

    fn present(&self, depth: usize) -> Vec<usize> {
        vec![self.batches, self.kv_heads, self.keys(), depth]
    }

    fn scores(&self) -> Vec<usize> {
        vec![self.batches, self.heads, self.rows, self.keys()]
    }
}

/// Strides of batch, head and row of a tensor with `rows` rows of `depth` elements. In a packed tensor the heads of a row
/// adjoin.
fn strides(packed: bool, heads: usize, rows: usize, depth: usize) -> [usize; 3] {
    let own = if packed { [depth, heads * depth] } else { [rows * depth, depth] };
    [heads * rows * depth, own[0], own[1]]
}

impl Attention {
    /// The parameters of a kernel over all keys and without a mask, in vectors of four elements or in single elements.
    fn params(&self, s: &AttentionSizes, vector: bool, (k, v): ([usize; 3], [usize; 3])) -> AttentionParams {
        let unit = if vector { 4 } else { 1 };
        let of = |strides: [usize; 3]| strides.map(|stride| stride / unit);
        AttentionParams {
            batches: s.batches,
            heads: s.heads,
            group: s.heads / s.kv_heads,
            rows: s.rows,
            keys: s.keys(),
            depth: s.depth / unit,
            depth_v: s.depth_v / unit,
            q: of(strides(s.packed, s.heads, s.rows, s.depth)),
            k: of(k),
            v: of(v),
            y: of(strides(s.packed, s.heads, s.rows, s.depth_v)),
            mask: [0; 4],
            scale: self.scale(s),
            softcap: self.softcap,
            set: 0.0,
            unset: f32::NEG_INFINITY,
            past: s.past,
            left: self.left.unwrap_or(AttentionParams::UNBOUNDED).min(AttentionParams::UNBOUNDED),
            right: self.right().unwrap_or(AttentionParams::UNBOUNDED).min(AttentionParams::UNBOUNDED),
            start: 0,
            end: s.keys(),
        }
    }

    fn sizes<'s>(&self, shape: impl Fn(usize) -> Option<&'s [usize]>) -> Result<AttentionSizes, Why> {
        let (Some(q), Some(k), Some(v)) = (shape(0), shape(1), shape(2)) else {
            refuse!("inputs 0 to 2 are required")
        };
        let past = shape(PAST_KEY);
        if past.is_some() != shape(PAST_VALUE).is_some() {
            refuse!("past_key and past_value go together");
        }
        let split = |shape: &[usize], heads: usize| match *shape {
            [b, h, s, d] => Ok([b, h, s, d]),
            [b, s, hidden] if heads > 0 && hidden % heads == 0 => Ok([b, heads, s, hidden / heads]),
            [_, _, hidden] => refuse!("{hidden} columns do not divide into {heads} heads"),
            _ => refuse!("queries, keys and values have rank 3 or 4, not {}", shape.len()),
        };
        let [batches, heads, rows, depth] = split(q, self.q_heads)?;
        let [k_batches, kv_heads, new, k_depth] = split(k, self.kv_heads)?;
        let [v_batches, v_heads, v_new, depth_v] = split(v, self.kv_heads)?;
        let sizes = AttentionSizes {
            packed: q.len() == 3,
            batches,
            heads,
            kv_heads,
            rows,
            new,
            past: past.and_then(|past| past.get(2).copied()).unwrap_or(0),
            depth,
            depth_v,
        };
        if (k_batches, k_depth) != (batches, depth) || (v_batches, v_heads, v_new) != (batches, kv_heads, new)
        {
            refuse!("queries {q:?}, keys {k:?} and values {v:?} do not fit together");
        }
        if kv_heads == 0 || heads % kv_heads != 0 {
            refuse!("{heads} query heads are no multiple of {kv_heads} key heads");
        }
        if q.len() != k.len() || q.len() != v.len() {
            refuse!("queries, keys and values have different ranks");
        }
        for (i, depth) in [(PAST_KEY, depth), (PAST_VALUE, depth_v)] {
            let fits = [batches, kv_heads, sizes.past, depth];
            if shape(i).is_some_and(|past| past != fits) {
                refuse!("the past has shape {:?}, not {fits:?}", shape(i).unwrap_or_default());
            }
        }
        if let Some(mask) = shape(MASK) {
            let full = sizes.scores();
            let skip = full.len().saturating_sub(mask.len());
            let fits = |(m, f): (&usize, &usize)| *m == *f || *m == 1;
            let Some((last, outer)) = mask.split_last() else { refuse!("the mask is a scalar") };
            if mask.len() > 4 || *last > sizes.keys() || !outer.iter().zip(&full[skip..]).all(fits) {
                refuse!("the mask {mask:?} does not broadcast to {full:?}");
            }
        }
        if shape(LENGTHS).is_some_and(|lengths| lengths != [batches]) {
            refuse!("nonpad_kv_seqlen has one number for each of {batches} batches");
        }
        Ok(sizes)
    }

    fn scale(&self, sizes: &AttentionSizes) -> f32 {
        self.scale.unwrap_or_else(|| 1.0 / (sizes.depth as f32).sqrt())
    }

    /// The number of keys after its own key that a query sees; 0 if the attention is causal.
    fn right(&self) -> Option<usize> {
        if self.causal { Some(0) } else { self.right }
    }
}

impl Operator for Attention {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let sizes = self.sizes(|i| optional(inputs, i).map(|fact| fact.shape.as_slice()))?;
        let (q, v) = (required(inputs, 0)?.dtype, required(inputs, 2)?.dtype);
        Ok(vec![
            Fact::new(q, sizes.y()),
            Fact::new(q, sizes.present(sizes.depth)),
            Fact::new(v, sizes.present(sizes.depth_v)),
            Fact::new(q, sizes.scores()),
        ])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let s = self.sizes(|i| optional(inputs, i).map(|array| array.shape.as_slice()))?;
        let (q, v) = (required(inputs, 0)?, required(inputs, 2)?);
        let keys = present(&s, required(inputs, 1)?, optional(inputs, PAST_KEY), s.depth)?;
        let values = present(&s, v, optional(inputs, PAST_VALUE), s.depth_v)?;
        let q_strides = strides(s.packed, s.heads, s.rows, s.depth);
        let y_strides = strides(s.packed, s.heads, s.rows, s.depth_v);
        let queries = q.floats()?;
        let mut y = vec![0.0; s.batches * s.heads * s.rows * s.depth_v];
        let mut stages = Vec::with_capacity(product(s.scores()));
        let at = |strides: [usize; 3], b, h, i| b * strides[0] + h * strides[1] + i * strides[2];
        for (b, h, i) in triples(s.batches, s.heads, s.rows) {
            let query = &queries[at(q_strides, b, h, i)..][..s.depth];
            let kv = (b * s.kv_heads + h / (s.heads / s.kv_heads)) * s.keys();
            let dot = |j: usize| -> f64 {
                let key = &keys[(kv + j) * s.depth..][..s.depth];
                query.iter().zip(key).map(|(a, b)| a * b).sum()
            };
            let raw: Vec<f64> = (0..s.keys()).map(|j| dot(j) * f64::from(self.scale(&s))).collect();
            let cap = f64::from(self.softcap);
            let capped: Vec<f64> = match self.softcap > 0.0 {
                true => raw.iter().map(|x| cap * (x / cap).tanh()).collect(),
                false => raw.clone(),
            };
            let mut bias = Vec::new();
            for j in 0..s.keys() {
                bias.push(self.bias(&s, inputs, [b, h, i, j])?);
            }
            let biased: Vec<f64> = capped.iter().zip(&bias).map(|(x, bias)| x + bias).collect();
            let weights = softmax(&biased, &bias);
            for (j, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
                for d in 0..s.depth_v {
                    y[at(y_strides, b, h, i) + d] += weight * values[(kv + j) * s.depth_v + d];
                }
            }
            stages.extend(match self.scores {
                Scores::Raw => raw,
                Scores::Capped => capped,
                Scores::Biased => biased,
                Scores::Softmax => weights,
            });
        }
        Ok(vec![
            Array::float(q.dtype, &s.y(), y),
            Array::float(q.dtype, &s.present(s.depth), keys),
            Array::float(v.dtype, &s.present(s.depth_v), values),
            Array::float(q.dtype, &s.scores(), stages),
        ])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let s = self.sizes(|i| optional(inputs, i).map(|fact| fact.shape.as_slice()))?;
        let scores = [s.batches, s.heads, s.rows, s.keys()];
        let product = [&scores[..], &[s.depth + s.depth_v]].concat();
        Ok(of_elements(inputs, outputs).steps(&scores).steps(&scores).products(&product))
    }

    fn computes_f64(&self) -> bool {
        true
    }

    // Lengths fit 32 bits.
    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let s = self.sizes({
            let facts = cx.facts();
            move |i| optional(&facts, i).map(|fact| fact.shape.as_slice())
        })?;
        let (k, k_strides) = lower_present(cx, &s, [1, PAST_KEY, 1], s.depth)?;
        let (v, v_strides) = lower_present(cx, &s, [2, PAST_VALUE, 2], s.depth_v)?;
        let mask = mask(cx)?;
        let mut tensors = vec![cx.input(0)?, k, v];
        if mask == Mask::Float {
            tensors.push(cx.input(MASK)?);
        }
        let double = tensors.iter().any(|&tensor| cx.scalar(tensor) == Scalar::F64);
        let scalar = if double { Scalar::F64 } else { Scalar::F32 };
        for tensor in &mut tensors {
            *tensor = widened(cx, *tensor, scalar);
        }
        if mask == Mask::Bool {
            tensors.push(cx.input(MASK)?);
        }
        if cx.optional_fact(LENGTHS).is_some() {
            tensors.push(cx.input(LENGTHS)?);
        }
        let vector = !double && s.depth % 4 == 0 && s.depth_v % 4 == 0;
        let params = AttentionParams {
            mask: cx.optional_fact(MASK).map_or([0; 4], |fact| mask_strides(&fact.shape)),
            ..self.params(&s, vector, (k_strides, v_strides))
        };
        let lengths = cx.optional_fact(LENGTHS).is_some();
        let softcap = self.softcap > 0.0;
        let tile = match cx.target.class {
            Class::Gpu if vector => AttentionTile::shared(params.depth.max(params.depth_v)),
            Class::Cpu if vector && cx.optional_out(3).is_none() => lanes_tile(cx, &params),
            _ => None,
        };
        let tile = tile.unwrap_or(AttentionTile::row(scalar));
        let attending = Attending { scalar, mask, lengths, softcap, vector, unseen: Unseen::Zeros };
        let stats = attending.lower(cx, tile, &tensors, params)?;
        if let Some(out) = cx.optional_out(3) {
            tensors.remove(2);
            tensors.extend(stats.filter(|_| self.scores == Scores::Softmax));
            let own = Scalar::float_for(out.dtype) == scalar;
            let output = if own { cx.output(3)? } else { cx.temporary(scalar, &out.shape) };
            tensors.push(output);
            let (scores, tile) = (Some(self.scores), AttentionTile::row(scalar));
            cx.call(attending.kernel(tile, scores), tensors, params.words()?, params.score_groups());
            if !own {
                put(cx, 3, output)?;
            }
        }
        Ok(())
    }
}

impl Attention {
    /// The number that is added to the score of query `i` and key `j`; minus infinity hides the key.
    fn bias(&self, s: &AttentionSizes, inputs: &[Option<&Array>], at: [usize; 4]) -> Result<f64, Why> {
        let [_, _, i, j] = at.map(|n| n as i128);
        let length = match optional(inputs, LENGTHS) {
            Some(lengths) => Some(lengths.ints()?[at[0]]),
            None => None,
        };
        let own = i + length.map_or(s.past as i128, |length| length - s.rows as i128);
        let outside = self.left.is_some_and(|left| j < own - left as i128)
            || self.right().is_some_and(|right| j > own + right as i128)
            || length.is_some_and(|length| j >= length);
        let mask = match optional(inputs, MASK) {
            Some(mask) if mask.shape.last().is_some_and(|&keys| at[3] >= keys) => f64::NEG_INFINITY,
            Some(mask) => {
                let rank = mask.shape.len();
                let outer = broadcast_index(&at[..3], &mask.shape[..rank - 1]);
                let index = outer * mask.shape[rank - 1] + at[3];
                match &mask.data {
                    Numbers::Float(v) => v[index],
                    Numbers::Int(v) if mask.dtype == DType::Bool && v[index] == 0 => f64::NEG_INFINITY,
                    Numbers::Int(_) if mask.dtype == DType::Bool => 0.0,
                    _ => refuse!("a mask of {} is not supported", mask.dtype),
                }
            }
            None => 0.0,
        };
        Ok(if outside { f64::NEG_INFINITY } else { mask })
    }
}

fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| (i, j, k))))
}

/// The softmax over the keys that are not hidden; zeros if all keys are hidden.
fn softmax(scores: &[f64], bias: &[f64]) -> Vec<f64> {
    let seen =
        || scores.iter().zip(bias).filter(|(_, bias)| **bias != f64::NEG_INFINITY).map(|(score, _)| *score);
    let top = seen().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = seen().map(|score| (score - top).exp()).sum();
    let weight = |(score, bias): (&f64, &f64)| match *bias == f64::NEG_INFINITY || top == f64::NEG_INFINITY {
        true => 0.0,
        false => (score - top).exp() / sum,
    };
    scores.iter().zip(bias).map(weight).collect()
}

/// The keys or values of all positions, past positions first: `[batch, head, position, depth]`.
fn present(s: &AttentionSizes, new: &Array, past: Option<&Array>, depth: usize) -> Result<Vec<f64>, Why> {
    let (new, new_strides) = (new.floats()?, strides(s.packed, s.kv_heads, s.new, depth));
    let past = past.map(|past| past.floats()).transpose()?.unwrap_or_default();
    let mut all = Vec::new();
    for (b, h, j) in triples(s.batches, s.kv_heads, s.keys()) {
        all.extend_from_slice(match j.checked_sub(s.past) {
            None => &past[((b * s.kv_heads + h) * s.past + j) * depth..][..depth],
            Some(j) => &new[b * new_strides[0] + h * new_strides[1] + j * new_strides[2]..][..depth],
        });
    }
    Ok(all)
}

/// The device tensor of [`present`], with its strides. It is the input itself where there is no past and nothing reads the
/// output. `inputs` are the numbers of the new part, of the past, and of the output.
fn lower_present(
    cx: &mut Lower,
    s: &AttentionSizes,
    [new, past, output]: [usize; 3],
    depth: usize,
) -> Result<(TensorId, [usize; 3]), Why> {
    let new_strides = strides(s.packed, s.kv_heads, s.new, depth);
    let source = cx.input(new)?;
    let wanted = cx.optional_out(output).is_some();
    if !wanted && s.past == 0 {
        return Ok((source, new_strides));
    }
    if wanted && s.past == 0 && !s.packed {
        cx.view(output, source, 0)?;
        return Ok((source, new_strides));
    }
    let whole = if wanted { cx.output(output)? } else { cx.temporary_like(source, &s.present(depth)) };
    // At most three copies are made, for keys and for values.
    let number = 3 * output;
    let mut dense = source;
    if s.packed {
        dense = if s.past == 0 {
            whole
        } else {
            cx.temporary_like(source, &[s.batches, s.kv_heads, s.new, depth])
        };
        let [batch, head, row] = new_strides;
        let dims = [(s.batches, batch as i64), (s.kv_heads, head as i64), (s.new, row as i64), (depth, 1)];
        super::strides::copy(cx, Copy { number, from: source, to: dense, base: 0, dims: &dims });
    }
    if s.past > 0 {
        let (heads, step, past_row) = (s.batches * s.kv_heads, (s.keys() * depth) as i64, s.past * depth);
        let (old, new_row) = (cx.input(past)?, s.new * depth);
        let dims = &[(heads, step), (past_row, 1)];
        scatter(cx, Copy { number: number + 1, from: old, to: whole, base: 0, dims });
        let dims = &[(heads, step), (new_row, 1)];
        scatter(cx, Copy { number: number + 2, from: dense, to: whole, base: past_row as i64, dims });
    }
    Ok((whole, strides(false, s.kv_heads, s.keys(), depth)))
}

/// The floats of a tensor, in registers of type `scalar`.
fn widened(cx: &mut Lower, tensor: TensorId, scalar: Scalar) -> TensorId {
    if cx.scalar(tensor) == scalar {
        return tensor;
    }
    let shape = cx.shape(tensor).to_vec();
    let wide = cx.temporary(scalar, &shape);
    let dtype = if scalar == Scalar::F64 { DType::F64 } else { DType::F32 };
    cx.elementwise_to(wide, (dtype, &shape), &[(tensor, &shape)], |e, x| e.convert(x[0], scalar));
    wide
}

/// How a kernel reads the mask.
fn mask(cx: &Lower) -> Result<Mask, Why> {
    match cx.optional_fact(MASK).map(|fact| Scalar::of(fact.dtype)) {
        None => Ok(Mask::None),
        Some(Some(Scalar::Bool)) => Ok(Mask::Bool),
        Some(Some(Scalar::F32 | Scalar::F64)) => Ok(Mask::Float),
        _ => refuse!("the device has masks of bool and float types only"),
    }
}

/// Strides of batch, head and row in a mask, and the length of its rows.
fn mask_strides(shape: &[usize]) -> [usize; 4] {
    let mut strides = [0; 4];
    let mut stride = 1;
    for (d, &size) in shape.iter().rev().enumerate().take(4) {
        strides[3 - d] = if d == 0 {
            size
        } else if size == 1 {
            0
        } else {
            stride
        };
        stride *= size;
    }
    [strides[0], strides[1], strides[2], strides[3]]
}

fn cases() -> Vec<Case> {
    let new = |case: &str| Case::new("Attention", case).tolerance(Tolerance::TRANSCENDENTAL);
    let qkv = |case: Case, q: &[usize], k: &[usize], v: &[usize]| {
        case.input(case::uniform(q, -1.0, 1.0))
            .input(case::uniform(k, -0.9, 1.1))
            .input(case::uniform(v, -1.2, 1.3))
    };
    let plain = |case: &str| qkv(new(case), &[2, 3, 4, 8], &[2, 3, 6, 8], &[2, 3, 6, 8]);
    let odd = |case: &str| qkv(new(case), &[2, 3, 5, 7], &[2, 3, 6, 7], &[2, 3, 6, 9]);
    let packed = |case: &str, heads: i64, kv: i64| {
        let (q, kv_width) = ([2, 4, heads as usize * 8], kv as usize * 8);
        qkv(
            new(case).int("q_num_heads", heads).int("kv_num_heads", kv),
            &q,
            &[2, 6, kv_width],
            &[2, 6, kv_width],
        )
    };
    let floats = |shape: &[usize]| case::uniform(shape, -2.0, 1.0);
    let bools = |shape: &[usize]| {
        let count: usize = product(shape);
        // The first query sees no key.
        case::bools(shape, &(0..count).map(|i| i >= shape[shape.len() - 1] && i % 3 != 0).collect::<Vec<_>>())
    };
    // Exporters write the least number where a key is masked. The first query sees no key.
    let least = |shape: &[usize]| {
        let [rows, keys] = [shape[0], shape[1]];
        let masked = |i: usize| i < keys || i.is_multiple_of(3);
        let mask = (0..rows * keys).map(|i| if masked(i) { f32::MIN } else { 0.0 });
        case::values(shape, &mask.collect::<Vec<_>>())
    };
    let blocks = |case: &str| qkv(new(case), &[1, 2, 37, 40], &[1, 2, 70, 40], &[1, 2, 70, 24]);
    let past = |case: Case, past: usize| {
        case.input(case::uniform(&[2, 3, past, 8], -1.1, 0.7)).input(case::uniform(
            &[2, 3, past, 8],
            -0.8,
            1.0,
        ))
    };
    let lengths =
        |case: Case, lengths: [i64; 2]| case.absent().absent().absent().input(case::values(&[2], &lengths));
    let float16 = |tensor: Tensor| case::converted(&tensor, DType::F16);
    vec![
        plain("plain"),
        odd("odd"),
        packed("packed", 3, 3),
        packed("grouped", 4, 2).int("is_causal", 1),
        packed("one key head", 4, 1).float("scale", 0.1),
        plain("causal").int("is_causal", 1),
        plain("softcap").float("softcap", 0.7),
        plain("float mask").input(floats(&[4, 6])),
        plain("float mask, rank 4").input(floats(&[2, 1, 4, 6])).int("is_causal", 1),
        plain("bool mask").input(bools(&[4, 6])),
        odd("bool mask, rank 3").input(bools(&[3, 1, 6])),
        plain("short mask").input(floats(&[1, 5])),
        plain("row mask").input(bools(&[6])),
        plain("least mask").input(least(&[4, 6])),
        blocks("blocks"),
        blocks("blocks, causal").int("is_causal", 1),
        blocks("blocks, mask").input(floats(&[37, 70])).float("softcap", 3.0),
        blocks("blocks, row mask").input(floats(&[1, 70])),
        blocks("blocks, least mask").input(least(&[37, 70])),
        past(plain("past").absent(), 5).outputs(3),
        past(plain("past, causal").absent(), 5).int("is_causal", 1),
        past(packed("past, packed", 3, 3).absent(), 2).outputs(3).int("is_causal", 1),
        past(plain("empty past").absent(), 0).outputs(3),
        plain("present").outputs(3),
        packed("present, packed", 3, 3).outputs(3),
        lengths(plain("lengths"), [6, 3]),
        lengths(plain("lengths, causal"), [5, 2]).int("is_causal", 1),
        plain("window").int("left_window_size", 1).int("right_window_size", 2),
        past(plain("window, past").absent(), 3).int("left_window_size", 2).int("is_causal", 1),
        plain("raw scores").outputs(4).float("softcap", 0.5),
        odd("capped scores").outputs(4).float("softcap", 0.5).int("qk_matmul_output_mode", 1),
        plain("biased scores").input(floats(&[4, 6])).outputs(4).int("qk_matmul_output_mode", 2),
        plain("softmax").input(bools(&[4, 6])).outputs(4).int("qk_matmul_output_mode", 3),
        new("float16")
            .int("is_causal", 1)
            .input(float16(case::random(&[1, 2, 3, 8])))
            .input(float16(case::random(&[1, 2, 4, 8])))
            .input(float16(case::random(&[1, 2, 4, 8]))),
        qkv(new("many rows").int("is_causal", 1), &[1, 2, 130, 4], &[1, 2, 130, 4], &[1, 2, 130, 4]),
        qkv(new("wide"), &[1, 2, 9, 100], &[1, 2, 37, 100], &[1, 2, 37, 68]),
        qkv(new("widest").int("is_causal", 1), &[1, 1, 17, 128], &[1, 1, 33, 128], &[1, 1, 33, 128]),
        qkv(new("too wide"), &[1, 1, 5, 132], &[1, 1, 7, 132], &[1, 1, 7, 8]),
        qkv(new("one row"), &[2, 3, 1, 64], &[2, 3, 50, 64], &[2, 3, 50, 64]),
        qkv(new("many keys"), &[1, 1, 2, 64], &[1, 1, 9000, 64], &[1, 1, 9000, 64]),
        qkv(new("more keys"), &[1, 1, 2, 128], &[1, 1, 15_000, 128], &[1, 1, 15_000, 128]),
        qkv(new("no keys"), &[1, 2, 3, 4], &[1, 2, 0, 4], &[1, 2, 0, 4]),
        qkv(new("no rows"), &[1, 2, 0, 4], &[1, 2, 3, 4], &[1, 2, 3, 4]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_broadcast_by_stride() {
        assert_eq!(mask_strides(&[2, 1, 4, 6]), [24, 0, 6, 6]);
        assert_eq!(mask_strides(&[3, 1, 6]), [0, 6, 0, 6]);
        assert_eq!(mask_strides(&[6]), [0, 0, 0, 6]);
    }
}
