//! Steps along an axis: reductions, normalisations, sums so far, the largest elements.

use super::Open;
use super::bounds::{Bounds, FUNCTION, GRID, ROUNDING};
use crate::graph::ValueId;
use crate::ops::{Attr, case};

/// The bounds of a reduction of `n` elements.
pub(super) fn reduced(op: &str, b: Bounds, n: usize) -> Bounds {
    let terms = n.max(1) as f64;
    match op {
        "ReduceSum" | "ReduceL1" => b.times(n),
        "ReduceMean" => Bounds::rounded(b.size, b.error + terms * ROUNDING * b.size),
        "ReduceSumSquare" => b.product(b).times(n),
        // Each term has an error, and all have the direction of the sum.
        "ReduceL2" => {
            let size = terms.sqrt() * b.size;
            Bounds::rounded(size, terms.sqrt() * b.error + terms * ROUNDING * size)
        }
        "ReduceLogSumExp" => Bounds::rounded(b.size + terms.ln(), b.error + 2.0 * FUNCTION),
        _ => b,
    }
}

pub(super) fn reduce(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axes = g.axes(&x);
    let ops = ["Sum", "Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp"];
    let op = format!("Reduce{}", g.dice.of(&ops));
    // For no elements, the results of some are infinite or NaN.
    let empty = x.shapes.iter().flatten().any(|shape| axes.iter().any(|&axis| shape[axis] == 0));
    if empty && !matches!(op.as_str(), "ReduceSum" | "ReduceL1" | "ReduceL2" | "ReduceSumSquare") {
        return None;
    }
    let bounds = reduced(&op, x.bounds, x.most(&axes));
    let keep = [("keepdims", Attr::Int(g.dice.below(2) as i64))];
    let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
    let list = g.list(&axes);
    g.node(&op, &keep, &[x.id, list], bounds)
}

/// Elements minus a value of their row.
pub(super) fn centered(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axes = g.axes(&x);
    if x.shapes.iter().flatten().any(|shape| axes.iter().any(|&axis| shape[axis] == 0)) {
        return None;
    }
    let op = g.dice.of(&["ReduceMean", "ReduceMax", "ReduceSum"]);
    let bounds = reduced(op, x.bounds, x.most(&axes));
    let list = g.list(&axes.iter().map(|&axis| axis as i64).collect::<Vec<_>>());
    let value = g.inner(op, &[], &[x.id, list])?;
    let id = g.inner("Sub", &[], &[x.id, value])?;
    g.take(&[x.id], &[(id, x.bounds.sum(bounds))])
}

pub(super) fn softmax(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)?;
    let op = g.dice.of(&["Softmax", "Softmax", "LogSoftmax"]);
    let bounds = match op {
        "Softmax" => Bounds::rounded(1.0, 2.0 * x.bounds.error + FUNCTION),
        _ => Bounds::rounded(2.0 * x.bounds.size + 10.0, 2.0 * x.bounds.error + 4.0 * FUNCTION),
    };
    g.node(op, &[("axis", Attr::Int(axis as i64))], &[x.id], bounds)
}

/// The bounds of normalised rows of `n` elements with a large epsilon. The slopes are at most `1 / sqrt(epsilon)` for the
/// difference, and as much times the size of the difference for the deviation.
fn normal(b: Bounds, n: usize) -> Bounds {
    let error = b.error + n as f64 * ROUNDING * b.size;
    Bounds::rounded(3.0 * b.size, 3.0 * error + 8.0 * b.size * b.size * error)
}

const EPSILON: (&str, Attr) = ("epsilon", Attr::Float(0.5));

pub(super) fn normalization(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let last = x.rank().checked_sub(1)?;
    let n = x.fixed(last).filter(|&n| n > 0)?;
    let scale = g.constant(&[n]);
    let bounds = normal(x.bounds, n).product(GRID);
    let op = g.dice.of(&["LayerNormalization", "RMSNormalization"]);
    let mut inputs = vec![x.id, scale];
    let mut bounds = Bounds::rounded(bounds.size, bounds.error);
    if op == "LayerNormalization" && g.dice.one_in(2) {
        inputs.push(g.constant(&[n]));
        bounds = bounds.sum(GRID);
    }
    g.node(op, &[("axis", Attr::Int(-1)), EPSILON], &inputs, bounds)
}

pub(super) fn spelled_out(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let last = x.rank().checked_sub(1)?;
    if x.sizes(last).any(|n| n == 0) {
        return None;
    }
    let (centered, power) = (g.dice.one_in(2), g.dice.one_in(2));
    let id = g.sketch.normalize(x.id, centered, power);
    g.take(&[x.id], &[(id, normal(x.bounds, x.most(&[last])))])
}

/// Normalisations over the axes after the channels.
pub(super) fn channels(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let c = if x.rank() < 3 { None } else { x.fixed(1) }.filter(|&c| c > 0)?;
    let spatial: Vec<usize> = (2..x.rank()).collect();
    if x.shapes.iter().flatten().any(|shape| shape[2..].contains(&0)) {
        return None;
    }
    let n = c * x.most(&spatial);
    let (scale, bias) = (g.constant(&[c]), g.constant(&[c]));
    let bounds = normal(x.bounds, n).product(GRID).sum(GRID);
    let bounds = Bounds::rounded(bounds.size, bounds.error);
    match g.dice.below(3) {
        0 => g.node("InstanceNormalization", &[EPSILON], &[x.id, scale, bias], bounds),
        1 => {
            let groups = ("num_groups", Attr::Int(if c % 2 == 0 { 2 } else { 1 }));
            g.node("GroupNormalization", &[EPSILON, groups], &[x.id, scale, bias], bounds)
        }
        _ => {
            let (mean, variance) = (g.constant(&[c]), g.sketch.constant(case::uniform(&[c], 0.5, 1.0)));
            let bounds = x.bounds.sum(GRID).product(GRID).sum(GRID);
            let bounds = Bounds::rounded(2.0 * bounds.size, 2.0 * bounds.error);
            g.node("BatchNormalization", &[EPSILON], &[x.id, scale, bias, mean, variance], bounds)
        }
    }
}

pub(super) fn cumulative(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)?;
    let at = g.sketch.constant(case::values(&[], &[axis as i64]));
    let flags =
        [("exclusive", Attr::Int(g.dice.below(2) as i64)), ("reverse", Attr::Int(g.dice.below(2) as i64))];
    g.node("CumSum", &flags, &[x.id, at], x.bounds.times(x.most(&[axis])))
}

pub(super) fn top_k(g: &mut Open) -> Option<()> {
    let x = g.pick_exact()?;
    let axis = g.axis(&x)? as i64;
    let k = g.dice.of(&[1, 2, 3]);
    let k = g.list(&[k]);
    let largest = ("largest", Attr::Int(g.dice.below(2) as i64));
    let first = g.node_of("TopK", &[("axis", Attr::Int(axis)), largest], &[Some(x.id), Some(k)], 2)?;
    let indices = g.inner("Cast", &[("to", Attr::Int(1))], &[ValueId(first.0 + 1)])?;
    let most = Bounds { size: x.most(&[axis as usize]) as f64, unit: 1.0, error: 0.0 };
    g.take(&[x.id], &[(first, x.bounds), (indices, most)])
}
