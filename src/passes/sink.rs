//! Moves operators on single elements in front of the transposes and reshapes before them, to the operator whose kernel can
//! end with them.

use super::pattern::Pattern;
use crate::Result;
use crate::graph::{Graph, Node, Value};
use crate::ops::Op;

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let mut changed = false;
    let mut from = 0;
    let next = |graph: &Graph, from: usize| {
        let pattern = Pattern::of(graph);
        (from..graph.nodes.len()).find_map(|n| Some((mover(&pattern, n)?, n)))
    };
    while let Some((before, n)) = next(graph, from) {
        swap(graph, before, n);
        // It may go on.
        (from, changed) = (n, true);
    }
    Ok(changed)
}

/// The node before operator `n`, if it moves elements of something whose kernel can end with the operator.
fn mover(pattern: &Pattern, n: usize) -> Option<usize> {
    let node = &pattern.graph.nodes[n];
    let (i, rank) = on_single_elements(pattern, node)?;
    let (before, mover) = pattern.only_data(node.inputs[i]?)?;
    if rank > output_rank(pattern, mover)? {
        return None;
    }
    let mut source = mover;
    while moves(source) {
        source = pattern.only_data(source.inputs.first().copied().flatten()?)?.1;
    }
    let fuses = source.op.operator().takes_epilogue() || maps_elements(source);
    (moves(mover) && fuses).then_some(before)
}

fn maps_elements(node: &Node) -> bool {
    matches!(
        node.op,
        Op::Unary(_)
            | Op::Activation(_)
            | Op::Binary(_)
            | Op::Clip(_)
            | Op::Cast(_)
            | Op::IsInf(_)
            | Op::Quantize(_)
            | Op::Dequantize(_)
    )
}

fn moves(node: &Node) -> bool {
    matches!(node.op, Op::Transpose(_) | Op::Reshape(_))
}

/// A rank that the result of a mover certainly has: that of its permutation, of a constant shape, or the declared one.
fn output_rank(pattern: &Pattern, mover: &Node) -> Option<usize> {
    let shape = mover.inputs.get(1).copied().flatten();
    let declared = pattern.graph.value(mover.outputs.first().copied().flatten()?).shape.as_ref();
    let known = match &mover.op {
        Op::Transpose(op) => op.fixed_perm().map(|perm| perm.len()),
        Op::Reshape(_) if mover.op_type == "Reshape" => {
            shape.and_then(|id| pattern.integers(id)).map(|shape| shape.len())
        }
        _ => None,
    };
    Some(known.or(declared.map(|shape| shape.len())).unwrap_or(0))
}

/// The one input whose elements the operator maps, if all others are constants of one element; and the greatest rank that
/// one of those has.
fn on_single_elements(pattern: &Pattern, node: &Node) -> Option<(usize, usize)> {
    if !maps_elements(node) {
        return None;
    }
    // A scale of one element in a list is one for an axis.
    let by_axis = matches!(node.op, Op::Quantize(_) | Op::Dequantize(_));
    let mut of = None;
    let mut rank = 0;
    for (i, input) in node.inputs.iter().enumerate() {
        let Some(id) = *input else { continue };
        match &pattern.graph.value(id).constant {
            Some(constant) if constant.len() == 1 => rank = rank.max(constant.shape().len()),
            None if of.is_none() => of = Some(i),
            _ => return None,
        }
    }
    let one_output = node.outputs.iter().flatten().count() == 1 && node.outputs.len() == 1;
    Some((of.filter(|_| one_output && !(by_axis && rank > 0))?, rank))
}

/// Lets operator `n` change places with the mover `before` it. Whoever wants the shape that it gave still has it.
fn swap(graph: &mut Graph, before: usize, n: usize) {
    let name = format!("{}.moved", graph.nodes[n].name);
    let inner = graph.add_value(Value { name, ..Value::default() });
    let mut mover = graph.nodes[before].clone();
    let operator = &mut graph.nodes[n];
    for input in operator.inputs.iter_mut().filter(|input| **input == mover.outputs[0]) {
        *input = mover.inputs[0];
    }
    mover.outputs[0] = operator.outputs[0].replace(inner);
    mover.inputs[0] = Some(inner);
    graph.nodes.insert(n + 1, mover);
}
