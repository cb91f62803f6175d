//! LinearAttention: the recurrences of linear attention, gated and with the delta rule.
//!
//! History: 27.

use super::case::{self, Case, Tolerance};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, optional, product, refuse,
    required, types,
};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::kernels::linear_attention::{self, LinearAttentionParams};
use crate::plan::Lower;

/// The attributes.
#[derive(Clone, Debug)]
pub(crate) struct LinearAttention {
    /// Whether the state decays, by a factor for each step.
    gated: bool,
    /// Whether only that is written to the state which the state does not return for the key already (the delta rule).
    delta: bool,
    q_heads: usize,
    kv_heads: usize,
    /// 0: one over the root of the keys' depth.
    scale: f32,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("LinearAttention", 27, types![T T T S T T -> T S; T S: F16 BF16 F32], parse, cases)];

const PAST: usize = 3;
const DECAY: usize = 4;
const BETA: usize = 5;

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let (gated, delta) = match def.attributes.string_or("update_rule", "gated_delta")?.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => refuse!("update_rule '{other}' is none of linear, gated, delta, gated_delta"),
    };
    let heads = |name| match usize::try_from(def.attributes.int_or(name, 0)?) {
        Ok(heads) if heads > 0 => Ok(heads),
        _ => refuse!("{name} is missing, or not positive"),
    };
    let (q_heads, kv_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    if q_heads % kv_heads != 0 {
        refuse!("{q_heads} query heads are no multiple of {kv_heads} key heads");
    }
    if (def.has_input(DECAY), def.has_input(BETA)) != (gated, delta) {
        refuse!("decay is for gated rules, and beta for delta rules, and both are required there");
    }
    Ok(LinearAttention { gated, delta, q_heads, kv_heads, scale: def.attributes.float_or("scale", 0.0)? }
        .into())
}

impl LinearAttention {
    fn params<'s>(&self, shape: impl Fn(usize) -> Option<&'s [usize]>) -> Result<LinearAttentionParams, Why> {
        let (Some(&[batches, steps, q]), Some(k), Some(&[_, _, v])) = (shape(0), shape(1), shape(2)) else {
            refuse!("queries, keys and values have rank 3");
        };
        let (heads, group) = (self.kv_heads, self.q_heads / self.kv_heads);
        let (depth, depth_v) = (q / self.q_heads, v / heads);
        let fits = q == depth * self.q_heads
            && *k == [batches, steps, heads * depth]
            && shape(2) == Some(&[batches, steps, heads * depth_v])
            && shape(PAST).is_none_or(|past| past == [batches, heads, depth, depth_v]);
        if !fits {
            refuse!("queries, keys, values and state do not fit together");
        }
        let columns = |i| match shape(i) {
            None => Ok(0),
            Some(&[b, t, columns]) if (b, t) == (batches, steps) && columns > 0 => Ok(columns),
            Some(other) => refuse!("input {i} has shape {other:?}, not [{batches}, {steps}, ...]"),
        };
        let decay = match columns(DECAY)? {
            columns if columns == heads => [columns, 1, 0],
            0 => [0; 3],
            columns if columns == heads * depth => [columns, depth, 1],
            columns => refuse!("decay has {columns} columns, for {heads} heads of depth {depth}"),
        };
        let beta = match columns(BETA)? {
            columns if columns == heads => [columns, 1],
            columns if columns < 2 => [columns, 0],
            columns => refuse!("beta has {columns} columns, for {heads} heads"),
        };
        let scale = if self.scale == 0.0 { 1.0 / (depth as f32).sqrt() } else { self.scale };
        Ok(LinearAttentionParams {
            batches,
            steps,
            heads,
            group,
            depth,
            depth_v,
            decay,
            beta,
            start: 0,
            end: steps,
            scale,
        })
    }

    fn state(p: &LinearAttentionParams) -> [usize; 4] {
        [p.batches, p.heads, p.depth, p.depth_v]
    }

    fn y(p: &LinearAttentionParams) -> [usize; 3] {
        [p.batches, p.steps, p.heads * p.group * p.depth_v]
    }
}

impl Operator for LinearAttention {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let p = self.params(|i| optional(inputs, i).map(|fact| fact.shape.as_slice()))?;
        let dtype = required(inputs, 0)?.dtype;
        let state = optional(inputs, PAST).map_or(dtype, |past| past.dtype);
        Ok(vec![Fact::new(dtype, Self::y(&p)), Fact::new(state, Self::state(&p))])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let p = self.params(|i| optional(inputs, i).map(|array| array.shape.as_slice()))?;
        let floats = |i| optional(inputs, i).map(|array: &Array| array.floats()).transpose();
        let (q, past) = (required(inputs, 0)?, optional(inputs, PAST));
        let (queries, keys) = (q.floats()?, required(inputs, 1)?.floats()?);
        let values = required(inputs, 2)?.floats()?;
        let (decay, beta) = (floats(DECAY)?, floats(BETA)?);
        let size = p.depth * p.depth_v;
        let mut state = match past {
            Some(past) => past.floats()?.to_vec(),
            None => vec![0.0; p.batches * p.heads * size],
        };
        let mut y = vec![0.0; product(Self::y(&p))];
        for (own, s) in state.chunks_mut(size.max(1)).enumerate() {
            let (batch, head) = (own / p.heads, own % p.heads);
            for t in 0..p.steps {
                let row = batch * p.steps + t;
                let key = &keys[(row * p.heads + head) * p.depth..][..p.depth];
                let mut input = values[(row * p.heads + head) * p.depth_v..][..p.depth_v].to_vec();
                if let Some(decay) = decay {
                    for (i, s) in s.iter_mut().enumerate() {
                        *s *= decay[row * p.decay[0] + head * p.decay[1] + i / p.depth_v * p.decay[2]].exp();
                    }
                }
                if let Some(beta) = beta {
                    for (m, input) in input.iter_mut().enumerate() {
                        let known: f64 = (0..p.depth).map(|d| key[d] * s[d * p.depth_v + m]).sum();
                        *input = beta[row * p.beta[0] + head * p.beta[1]] * (*input - known);
                    }
                }
                for (i, s) in s.iter_mut().enumerate() {
                    *s += key[i / p.depth_v] * input[i % p.depth_v];
                }
                for g in 0..p.group {
                    let q_row = (row * p.heads + head) * p.group + g;
                    for m in 0..p.depth_v {
                        let products =
                            (0..p.depth).map(|d| queries[q_row * p.depth + d] * s[d * p.depth_v + m]);
                        y[q_row * p.depth_v + m] = f64::from(p.scale) * products.sum::<f64>();
                    }
                }
            }
        }
        let state_dtype = past.map_or(q.dtype, |past| past.dtype);
        Ok(vec![Array::float(q.dtype, &Self::y(&p), y), Array::float(state_dtype, &Self::state(&p), state)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let p = self.params(|i| optional(inputs, i).map(|fact| fact.shape.as_slice()))?;
        let state = [p.batches, p.heads, p.steps, p.depth, p.depth_v];
        // The state decays, is compared, grows, and is read by each query of the group.
        Ok(of_elements(inputs, outputs).steps(&[&state[..], &[3 + p.group]].concat()))
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let p = self.params({
            let facts = cx.facts();
            move |i| optional(&facts, i).map(|fact| fact.shape.as_slice())
        })?;
        if p.steps == 0 {
            refuse!("the device has no sequences of no steps");
        }
        let mut tensors = Vec::new();
        for i in 0..=BETA {
            if cx.optional_fact(i).is_some() {
                tensors.push(cx.input(i)?);
            }
        }
        // The state is not rounded between the steps.
        let state = cx.temporary(Scalar::F32, &Self::state(&p));
        tensors.extend([state, cx.output(0)?]);
        let kernel = linear_attention::LinearAttention {
            past: cx.optional_fact(PAST).is_some(),
            decay: self.gated,
            delta: self.delta,
        };
        let limit = cx.target.max_iterations as usize;
        let step = p.steps_per_call(limit);
        if step == 0 {
            refuse!("a head of {} elements takes more than {limit} steps", p.depth);
        }
        for start in (0..p.steps).step_by(step) {
            let params = LinearAttentionParams { start, end: p.steps.min(start + step), ..p };
            cx.call(kernel.clone(), tensors.clone(), params.words()?, params.groups());
        }
        if cx.optional_out(1).is_some() {
            cx.view(1, state, 0)?;
        }
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str, rule: &str, q: i64, kv: i64| {
        let case = Case::new("LinearAttention", case).outputs(2).string("update_rule", rule);
        case.tolerance(Tolerance::TRANSCENDENTAL).int("q_num_heads", q).int("kv_num_heads", kv)
    };
    // 2 batches, 5 steps, keys of depth 4, values of depth 3.
    let qkv = |case: Case, q: usize, kv: usize| {
        let part = |columns: usize| case::uniform(&[2, 5, columns], -0.6, 0.6);
        case.input(part(q * 4)).input(part(kv * 4)).input(part(kv * 3))
    };
    let rates = |columns: usize| case::uniform(&[2, 5, columns], 0.1, 0.9);
    let decay = |columns: usize| case::uniform(&[2, 5, columns], -0.9, -0.1);
    let past = |kv: usize| case::uniform(&[2, kv, 4, 3], -0.5, 0.5);
    let half = |shape: &[usize]| case::converted(&case::uniform(shape, -0.6, 0.6), DType::F16);
    vec![
        qkv(new("linear", "linear", 2, 2), 2, 2),
        qkv(new("scale", "linear", 2, 2).float("scale", 0.3), 2, 2).input(past(2)),
        qkv(new("gated", "gated", 2, 2), 2, 2).input(past(2)).input(decay(8)),
        qkv(new("gated by head", "gated", 2, 2), 2, 2).absent().input(decay(2)),
        qkv(new("delta", "delta", 2, 2), 2, 2).absent().absent().input(rates(2)),
        qkv(new("gated delta", "gated_delta", 4, 2), 4, 2).input(past(2)).input(decay(2)).input(rates(2)),
        qkv(new("one rate", "gated_delta", 3, 1), 3, 1).absent().input(decay(4)).input(rates(1)),
        qkv(new("result only", "linear", 1, 1).outputs(1), 1, 1),
        new("float16", "linear", 1, 1)
            .input(half(&[1, 3, 4]))
            .input(half(&[1, 3, 4]))
            .input(half(&[1, 3, 2])),
        new("many steps", "linear", 1, 1)
            .input(case::uniform(&[1, 600, 64], -0.2, 0.2))
            .input(case::uniform(&[1, 600, 64], -0.2, 0.2))
            .input(case::uniform(&[1, 600, 4], -0.2, 0.2))
            .tolerance(Tolerance::ACCUMULATION),
    ]
}
