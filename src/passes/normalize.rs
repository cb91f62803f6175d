//! Recognises a normalisation that is spelled out: `(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon)` becomes
//! `LayerNormalization`, and `x / sqrt(mean(x^2) + epsilon)` becomes `RMSNormalization`, both over the last axes. Scale and
//! bias stay as they are, and fuse; so these are Sardonyx's own operators, which have none.

use super::pattern::Pattern;
use crate::Result;
use crate::facts::node_error;
use crate::graph::ValueId;
use crate::ops::{Attr, Graph, Node, OWN_DOMAIN, Op};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let pattern = Pattern::of(graph);
    let found: Vec<(usize, SpelledOut)> =
        (0..graph.nodes.len()).filter_map(|n| Some((n, spelled_out(&pattern, n)?))).collect();
    for (n, found) in &found {
        let node = &mut graph.nodes[*n];
        let op = if found.centered { "LayerNormalization" } else { "RMSNormalization" };
        let attributes = [("axis", Attr::Int(found.axis)), ("epsilon", Attr::Float(found.epsilon))];
        let names = (node.name.clone(), format!("{OWN_DOMAIN}.{op}"), 1);
        let outputs = (node.outputs.clone(), &[true][..]);
        *node = Node::parse(names, attributes.into_iter().collect(), vec![Some(found.x)], outputs)
            .map_err(|why| node_error(node, &[], why))?;
    }
    Ok(!found.is_empty())
}

struct SpelledOut {
    x: ValueId,
    axis: i64,
    centered: bool,
    epsilon: f32,
}

/// The normalisation that ends in division `n`.
fn spelled_out(pattern: &Pattern, n: usize) -> Option<SpelledOut> {
    let node = &pattern.graph.nodes[n];
    let &[Some(difference), Some(deviation)] = &node.inputs[..] else { return None };
    if node.op_type != "Div" {
        return None;
    }
    let &[Some(sum)] = pattern.inputs_of(deviation, "Sqrt")? else { return None };
    let (variance, epsilon) = pattern.beside_constant(pattern.inputs_of(sum, "Add")?)?;
    let (squares, axis) = mean(pattern, variance)?;
    // The mean has at least as many axes as it was taken over.
    let epsilon = pattern.scalar(epsilon, pattern.least_rank(variance).max(axis.unsigned_abs() as usize))?;
    let (squared, factors) = square(pattern, squares)?;
    let same = squared == difference || differences(pattern, squared) == differences(pattern, difference);
    let subtracted = differences(pattern, difference);
    if squared != difference && (subtracted.is_none() || !same) {
        return None;
    }
    let plain = SpelledOut { x: difference, axis, centered: false, epsilon: epsilon as f32 };
    let Some((x, average)) = subtracted else { return Some(plain) };
    match mean(pattern, average) {
        // The differences disappear only if nothing else uses them.
        Some((of, over)) if of == x && over == axis => {
            let gone = match squared == difference {
                true => pattern.uses(difference) == 1 + factors,
                false => pattern.uses(difference) == 1 && pattern.uses(squared) == factors,
            };
            gone.then_some(SpelledOut { x, centered: true, ..plain })
        }
        _ => Some(plain),
    }
}

/// The operands of the subtraction that computes `id`.
fn differences(pattern: &Pattern, id: ValueId) -> Option<(ValueId, ValueId)> {
    match (&pattern.maker(id)?.1.op_type[..], &pattern.maker(id)?.1.inputs[..]) {
        ("Sub", &[Some(a), Some(b)]) => Some((a, b)),
        _ => None,
    }
}

/// The value whose square is `id`, and the number of times that the square names it.
fn square(pattern: &Pattern, id: ValueId) -> Option<(ValueId, usize)> {
    let (_, node) = pattern.only(id)?;
    match (&node.op_type[..], &node.inputs[..]) {
        ("Mul", &[Some(a), Some(b)]) if a == b => Some((a, 2)),
        ("Pow", &[Some(a), Some(power)]) if pattern.scalar(power, pattern.least_rank(a)) == Some(2.0) => {
            Some((a, 1))
        }
        _ => None,
    }
}

/// The value whose mean over its last axes is `id`, which keeps these axes with size 1; and the first of the axes, counted
/// from the end.
fn mean(pattern: &Pattern, id: ValueId) -> Option<(ValueId, i64)> {
    let (_, node) = pattern.maker(id)?;
    let (Op::Reduce(op), &[Some(x), ..]) = (&*node.op, &node.inputs[..]) else { return None };
    let given = node.inputs.get(1).copied().flatten().map(|axes| pattern.integers(axes));
    let mut axes = match given {
        Some(axes) => op.kept_mean(Some(axes?))?,
        None => op.kept_mean(None)?,
    };
    let rank = pattern.graph.value(x).shape.as_ref().map(|shape| shape.len() as i64);
    for axis in axes.iter_mut().filter(|axis| **axis >= 0) {
        *axis -= rank?;
    }
    axes.sort();
    let last = (-(axes.len() as i64)..0).eq(axes.iter().copied());
    (last && !axes.is_empty()).then_some((x, axes[0]))
}
