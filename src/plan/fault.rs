//! What kernels report. A kernel that takes indices, or computes integers that may need more than 32 bits, writes one word
//! into the run's fault words where a value is out of range. The run then fails, and its error names the node and the value.

use std::sync::Arc;

use crate::Error;
use crate::error::{Why, shown};
use crate::graph::NodeId;
use crate::kernels::expr::BY_ZERO;
use crate::ops::{Graph, Node};

/// What one fault word means; 0 means that nothing was reported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// The first node of the unit whose kernel reports.
    pub(crate) node: NodeId,
    /// The node's inputs, as text.
    pub(crate) inputs: Arc<str>,
    pub(crate) report: Report,
}

/// What a kernel reports.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Report {
    /// The word is an index, as an i32: an element of input `input`.
    Index { input: usize, outside: Outside },
    /// The word is 1 plus a position in this list: there is the node whose result, a 64-bit integer, does not fit 32 bits. Or it
    /// is [`BY_ZERO`] plus the position of a node that divides an integer by 0.
    Arithmetic(Vec<NodeId>),
}

/// The range that a reported index is outside of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outside {
    /// The axes (number, size) of the tensor that is indexed, one for each index of a tuple: the tuple `[2, 900]` indexes the
    /// axes `[(0, 3), (1, 4)]`. On an axis of `size`, the indices from `-size` to `size - 1` are inside.
    Axes(Vec<(usize, usize)>),
    /// The numbers from the first to the second, both included.
    Range(i64, i64),
    /// Likewise; the word is a float32.
    Between(f32, f32),
}

impl Fault {
    /// The error of a run in which `word` was reported.
    pub(crate) fn error(&self, graph: &Graph, word: u32) -> Error {
        let first = &graph.nodes[self.node.index()];
        let (node, inputs, reason) = match &self.report {
            Report::Index { input, outside } => {
                (first, self.inputs.to_string(), outside.text(&value_name(graph, first, *input), word as i32))
            }
            Report::Arithmetic(nodes) => {
                let at = word.checked_sub(BY_ZERO).unwrap_or(word.saturating_sub(1));
                let at = nodes.get(at as usize).unwrap_or(&self.node);
                let node = &graph.nodes[at.index()];
                let inputs =
                    if *at == self.node { self.inputs.to_string() } else { "of a fused kernel".into() };
                if word < BY_ZERO {
                    let dtype = node.outputs.first().copied().flatten().and_then(|id| graph.value(id).dtype);
                    let dtype = dtype.map_or("64-bit integer", crate::DType::name);
                    let (name, op) = (shown(&node.name), shown(&node.op_type));
                    let what = format!("node '{name}' ({op}, opset {}, inputs {inputs})", node.opset);
                    let why = Why::too_wide(format_args!("a value of its {dtype} result"));
                    return why.error(what, Error::Gpu);
                }
                (node, inputs, "integer division by zero".into())
            }
        };
        Error::Node { node: node.name.clone(), op: node.op_type.clone(), opset: node.opset, inputs, reason }
    }
}

fn value_name(graph: &Graph, node: &Node, input: usize) -> String {
    let id = node.inputs.get(input).copied().flatten();
    id.map_or_else(|| format!("input {input}"), |id| format!("'{}'", graph.value(id).name))
}

impl Outside {
    fn text(&self, name: &str, index: i32) -> String {
        match self {
            Outside::Range(low, high) => format!("{index} in {name} is not from {low} to {high}"),
            Outside::Between(low, high) => {
                format!("{} in {name} is not from {low} to {high}", f32::from_bits(index as u32))
            }
            Outside::Axes(axes) => {
                let inside = |size: usize| (-(size as i64)..size as i64).contains(&i64::from(index));
                let outside = axes.iter().filter(|axis| !inside(axis.1));
                let axes: Vec<String> =
                    outside.map(|(axis, size)| format!("axis {axis} of {size} elements")).collect();
                format!("index {index} in {name} is outside of {}", axes.join(" or "))
            }
        }
    }
}
