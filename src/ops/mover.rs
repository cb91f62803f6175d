//! Movers: graphs that no model has, and that a session runs to move elements on the device: for lists of iterations, and for
//! sequences whose tensors lie there.

use super::scan::own_node;
use super::{Attr, Attributes, Graph, Tensor, Why};
use crate::graph::{Value, ValueId};

/// A graph that moves elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mover {
    /// Moves the first of `rank` axes to another place.
    FirstAxis { rank: usize, to: usize },
    /// The parts of a tensor that have these lengths along an axis. Parts of one element lose the axis, unless `keeps_axis`.
    Parts { axis: usize, lengths: Vec<usize>, keeps_axis: bool },
    /// That number of tensors, one after the other along an axis, or along a new one.
    Joined { count: usize, axis: usize, is_new: bool },
}

impl Mover {
    pub(crate) fn graph(&self) -> Result<Graph, Why> {
        let mut graph = Graph::default();
        match self {
            Mover::FirstAxis { rank, to } => {
                let mut permutation: Vec<i64> = (1..*rank as i64).collect();
                permutation.insert(*to, 0);
                let rows = input(&mut graph);
                let moved = node(&mut graph, "Transpose", ("perm", Attr::Ints(permutation)), vec![rows])?;
                graph.outputs.push(moved);
            }
            Mover::Parts { axis, lengths, keeps_axis } => {
                let whole = input(&mut graph);
                let sizes: Vec<i64> = lengths.iter().map(|&length| length as i64).collect();
                let sizes = graph.add_constant("lengths", Tensor::from_slice(&[sizes.len()], &sizes)?);
                let parts: Vec<ValueId> = (0..lengths.len()).map(|i| named(&mut graph, "part", i)).collect();
                let attributes = [("axis", Attr::Int(*axis as i64))].into_iter().collect();
                let split = own_node("Split", attributes, vec![Some(whole), Some(sizes)], &parts, &graph)?;
                graph.nodes.push(split);
                let axes = graph.add_constant("axes", Tensor::from_slice(&[1], &[*axis as i64])?);
                for part in parts {
                    let part = match keeps_axis {
                        true => part,
                        false => plain(&mut graph, "Squeeze", vec![part, axes])?,
                    };
                    graph.outputs.push(part);
                }
            }
            Mover::Joined { count, axis, is_new } => {
                let mut elements: Vec<ValueId> = (0..*count).map(|_| input(&mut graph)).collect();
                if *is_new {
                    let axes = graph.add_constant("axes", Tensor::from_slice(&[1], &[*axis as i64])?);
                    for element in &mut elements {
                        *element = plain(&mut graph, "Unsqueeze", vec![*element, axes])?;
                    }
                }
                let joined = node(&mut graph, "Concat", ("axis", Attr::Int(*axis as i64)), elements)?;
                graph.outputs.push(joined);
            }
        }
        Ok(graph)
    }
}

fn named(graph: &mut Graph, what: &str, i: usize) -> ValueId {
    graph.add_value(Value { name: format!("{what}_{i}"), ..Value::default() })
}

fn input(graph: &mut Graph) -> ValueId {
    let id = named(graph, "input", graph.inputs.len());
    graph.inputs.push(id);
    id
}

fn plain(graph: &mut Graph, op_type: &str, inputs: Vec<ValueId>) -> Result<ValueId, Why> {
    with(graph, op_type, Attributes::default(), inputs)
}

fn node(graph: &mut Graph, op_type: &str, attr: (&str, Attr), inputs: Vec<ValueId>) -> Result<ValueId, Why> {
    with(graph, op_type, [attr].into_iter().collect(), inputs)
}

/// The output of a node that is added.
fn with(
    graph: &mut Graph,
    op_type: &str,
    attributes: Attributes,
    inputs: Vec<ValueId>,
) -> Result<ValueId, Why> {
    let output = named(graph, "value", graph.nodes.len());
    let inputs = inputs.into_iter().map(Some).collect();
    let made = own_node(op_type, attributes, inputs, &[output], graph)?;
    graph.nodes.push(made);
    Ok(output)
}
