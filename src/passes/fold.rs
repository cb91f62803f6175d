//! Computes nodes whose inputs are all constants, with the reference. A budget keeps a small model from becoming a large one.

use crate::Result;
use crate::array::Array;
use crate::facts::Fact;
use crate::ops::{Graph, Op};

/// The most bytes of one folded value, and of all folded values of a model. That is enough for the largest weights that a
/// model computes instead of storing, and far below what a chain of `Expand` could ask for.
const ONE: usize = 512 << 20;
const ALL: usize = 1 << 30;

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let mut left = ALL;
    let mut changed = false;
    let mut kept = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes) {
        let constant = node.inputs.iter().flatten().all(|id| graph.value(*id).constant.is_some());
        let folded =
            if constant && !matches!(node.op, Op::Unsupported(_)) { fold(graph, &node, left) } else { None };
        match folded {
            None => kept.push(node),
            Some(tensors) => {
                for (id, tensor) in node.outputs.iter().zip(tensors) {
                    if let Some(id) = id {
                        left -= tensor.bytes().len().min(left);
                        graph.set_constant(*id, tensor);
                    }
                }
                changed = true;
            }
        }
    }
    graph.nodes = kept;
    Ok(changed)
}

/// The node's outputs, if they fit the budget. A node that refuses its inputs stays, and planning reports it.
fn fold(graph: &Graph, node: &crate::ops::Node, left: usize) -> Option<Vec<crate::Tensor>> {
    let operator = node.op.operator();
    let operands = operator.shape_operands();
    let mut facts = Vec::new();
    let by_value = |i: usize| operands.contains(&i) || operator.shapes_depend_on_data();
    for (i, input) in node.inputs.iter().enumerate() {
        facts.push(match input.and_then(|id| graph.value(id).constant.as_ref()) {
            None => None,
            Some(tensor) if by_value(i) => Some(Fact::of_array(Array::from_tensor(tensor).ok()?)),
            Some(tensor) => Some(Fact::new(tensor.dtype(), tensor.shape())),
        });
    }
    let facts: Vec<Option<&Fact>> = facts.iter().map(|fact| fact.as_ref()).collect();
    let outputs = operator.infer(&facts).ok()?;
    let bytes: usize = outputs.iter().map(|fact| fact.count().saturating_mul(4)).sum();
    if bytes > ONE.min(left) {
        return None;
    }
    let arrays: Vec<Option<Array>> = node
        .inputs
        .iter()
        .map(|input| {
            input.and_then(|id| graph.value(id).constant.as_ref()).map(Array::from_tensor).transpose()
        })
        .collect::<Result<_, _>>()
        .ok()?;
    let arrays: Vec<Option<&Array>> = arrays.iter().map(|array| array.as_ref()).collect();
    operator.eval(&arrays).ok()?.iter().map(|array| array.to_tensor().ok()).collect()
}
