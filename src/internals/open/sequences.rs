//! Steps of models of sequences: operands that differ from run to run, caches, attention, recurrent layers, positions.

use super::bounds::{Bounds, FUNCTION, ROUNDING};
use super::{OPEN, Open, OpenValue};
use crate::ops::{Attr, case};
use crate::{DType, Dim};

/// An operator whose shape operand is an input of the graph, with another value in each run.
pub(super) fn given(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)?;
    let op = g.dice.of(&["Slice", "Slice", "Pad", "Tile", "TopK"]);
    let length = match op {
        "Pad" => 2 * x.rank(),
        "Tile" => x.rank(),
        _ => 1,
    };
    let choices: &[i64] = match op {
        "Slice" => &[0, 1, 2, -3, 4],
        "Pad" => &[0, 0, 0, 1, 2],
        "Tile" => &[1, 1, 2],
        _ => &[1, 2, 3],
    };
    let runs = g.recipe.runs.len();
    let list = |g: &mut Open| (0..length).map(|_| g.dice.of(choices)).collect::<Vec<i64>>();
    let lists: Vec<Vec<i64>> = (0..runs).map(|_| list(g)).collect();
    let id = g.sketch.input(&format!("list{}", g.lists.len()));
    let value = &mut g.sketch.graph.values[id.index()];
    (value.dtype, value.shape) = (Some(DType::I64), Some(vec![Dim::Known(length)]));
    g.lists.push(lists);
    match op {
        "Slice" => {
            let lists = [i64::MAX, axis as i64].map(|n| g.list(&[n]));
            g.node(op, &[], &[x.id, id, lists[0], lists[1]], x.bounds)
        }
        "TopK" if !x.bounds.is_exact() => None,
        "TopK" => {
            let first = g.node_of(op, &[("axis", Attr::Int(axis as i64))], &[Some(x.id), Some(id)], 2)?;
            g.take(&[x.id], &[(first, x.bounds)])
        }
        _ => g.node(op, &[], &[x.id, id], x.bounds),
    }
}

/// Attention over a cache that grows, with heads of 4, spelled out.
pub(super) fn cache(g: &mut Open) -> Option<()> {
    let x = g.pick();
    if x.rank() != 3 || x.bounds.size > 100.0 {
        return None;
    }
    let heads = x.fixed(2).filter(|n| n % 4 == 0 && *n > 0)? / 4;
    let split = g.list(&[0, 0, heads as i64, -1]);
    let split = g.inner("Reshape", &[], &[x.id, split])?;
    let queries = g.sketch.transpose(split, &[0, 2, 1, 3]);
    // The cache has the batch of the graph's first input; where `x` has another batch, the model accepts no run.
    let past = (0..g.inputs.len()).find(|&i| g.inputs[i] == [OPEN, heads, OPEN + 2, 4]);
    let past = match past {
        Some(i) => g.values[i].clone(),
        None if g.inputs.len() < 3 && g.inputs.len() == g.values.len() => {
            let at = g.input(&[OPEN, heads, OPEN + 2, 4]);
            g.values[at].clone()
        }
        None => {
            // The keys are the value itself, doubled.
            OpenValue { id: queries, ..x.clone() }
        }
    };
    let keys = g.inner("Concat", &[("axis", Attr::Int(2))], &[past.id, queries])?;
    let turned = g.sketch.transpose(keys, &[0, 1, 3, 2]);
    let scores = g.inner("MatMul", &[], &[queries, turned])?;
    let scale = g.sketch.scalar(0.125);
    let scaled = g.inner("Mul", &[], &[scores, scale])?;
    let weights = g.inner("Softmax", &[("axis", Attr::Int(-1))], &[scaled])?;
    let mixed = g.inner("MatMul", &[], &[weights, keys])?;
    let back = g.sketch.transpose(mixed, &[0, 2, 1, 3]);
    let shape = g.list(&[0, 0, -1]);
    let id = g.inner("Reshape", &[], &[back, shape])?;
    let all = x.bounds.join(past.bounds);
    let score = 0.5 * (2.0 * all.size * all.error) + 4.0 * ROUNDING * all.size * all.size;
    // Each weight has an error of this size, and the weights add up to 1.
    let error = all.error + all.size * (2.0 * score + FUNCTION * 4.0);
    g.take(&[x.id, past.id], &[(id, Bounds::rounded(all.size, error))])
}

pub(super) fn attention(g: &mut Open) -> Option<()> {
    let x = g.pick();
    if x.rank() != 3 || x.bounds.size > 16.0 || x.sizes(1).any(|n| n == 0) {
        return None;
    }
    let heads = if x.fixed(2)? % 2 == 0 { 2 } else { 1 };
    let causal = ("is_causal", Attr::Int(g.dice.below(2) as i64));
    let attributes = [("q_num_heads", Attr::Int(heads)), ("kv_num_heads", Attr::Int(heads)), causal];
    let d = x.fixed(2)? as f64;
    let (size, error) = (x.bounds.size, x.bounds.error);
    let score = d.sqrt() * 2.0 * size * error + d * ROUNDING * size * size;
    let bounds = Bounds::rounded(size, error + size * (2.0 * score + 4.0 * FUNCTION));
    g.node("Attention", &attributes, &[x.id, x.id, x.id], bounds)
}

pub(super) fn recurrent(g: &mut Open) -> Option<()> {
    let x = g.pick();
    if x.rank() != 3 || x.most(&[0]) > 70 || x.bounds.size > 16.0 || x.sizes(0).any(|n| n == 0) {
        return None;
    }
    let width = x.fixed(2).filter(|&n| n > 0)?;
    let (op, gates) = g.dice.of(&[("RNN", 1), ("GRU", 3), ("LSTM", 4)]);
    let hidden = 4;
    let weights = |shape: &[usize]| case::uniform(shape, -0.2, 0.2);
    let (w, r) = (weights(&[1, gates * hidden, width]), weights(&[1, gates * hidden, hidden]));
    let (w, r) = (g.sketch.constant(w), g.sketch.constant(r));
    // Each step adds the error of its functions, and passes on a part of the error before it.
    let error = 8.0 * (width as f64 * 0.2 * x.bounds.error + 4.0 * FUNCTION);
    let size = if op == "LSTM" { 4.0 } else { 1.0 };
    g.node(op, &[("hidden_size", Attr::Int(hidden as i64))], &[x.id, w, r], Bounds::rounded(size, error))
}

/// Numbers along an axis, like positions.
pub(super) fn position(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let last = x.rank().checked_sub(1)?;
    let of = g.inner("Shape", &[], &[x.id])?;
    let at = g.sketch.constant(case::values(&[], &[last as i64]));
    let end = g.inner("Gather", &[("axis", Attr::Int(0))], &[of, at])?;
    let (zero, one) =
        (g.sketch.constant(case::values(&[], &[0i64])), g.sketch.constant(case::values(&[], &[1i64])));
    let range = g.inner("Range", &[], &[zero, end, one])?;
    let floats = g.inner("Cast", &[("to", Attr::Int(1))], &[range])?;
    let id = g.inner("Add", &[], &[x.id, floats])?;
    let numbers = Bounds { size: x.most(&[last]) as f64, unit: 1.0, error: 0.0 };
    g.take(&[x.id], &[(id, x.bounds.sum(numbers))])
}
