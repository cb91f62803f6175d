//! The graph: flat arenas of nodes and values, as the model describes them. What a node computes is its operation `O`, of
//! which the graph knows nothing. Everywhere else the operation is an operator with parsed attributes, and `Graph` means
//! [`crate::ops::Graph`].
//!
//! This room knows neither protobuf nor devices. Values are in static single assignment: each has one producer. Nodes stand in
//! topological order. `verify` checks both, and runs after each pass.

mod attributes;
mod report;
mod text;

pub(crate) use attributes::{Attr, Attributes};
pub use report::{AttributeReport, GraphReport, NodeReport, ValueReport};

use crate::{DType, Dim, Error, Kind, Result, Tensor};

/// The index of a value in [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ValueId(pub(crate) u32);

/// The index of a node in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u32);

impl ValueId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl NodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What the model declares of a value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Value {
    pub(crate) name: String,
    /// Declared dtype; `None` where the model leaves it to inference.
    pub(crate) dtype: Option<DType>,
    /// Declared shape; `None` where not even the rank is declared.
    pub(crate) shape: Option<Vec<Dim>>,
    /// What the value is, if it is declared to be no tensor.
    pub(crate) container: Option<Kind>,
    /// The value itself, if it is an initializer, or the result of a node that was folded.
    pub(crate) constant: Option<Tensor>,
}

/// One operation applied to values.
#[derive(Clone, Debug)]
pub(crate) struct Node<O> {
    /// The node's name, or the name of its first output: never empty.
    pub(crate) name: String,
    /// `Softmax`, or `com.microsoft.Gelu` for another domain than ONNX's own.
    pub(crate) op_type: String,
    /// The opset version imported for the operator's domain.
    pub(crate) opset: i64,
    /// The attributes as the model, or a pass, declares them. `op` has been parsed from them.
    pub(crate) attributes: Attributes<O>,
    pub(crate) op: O,
    /// `None` for an optional input that is left out.
    pub(crate) inputs: Vec<Option<ValueId>>,
    /// `None` for an optional output that nothing reads.
    pub(crate) outputs: Vec<Option<ValueId>>,
}

/// A model's computation.
#[derive(Clone, Debug)]
pub(crate) struct Graph<O> {
    pub(crate) name: String,
    pub(crate) nodes: Vec<Node<O>>,
    pub(crate) values: Vec<Value>,
    /// Inputs that the caller gives.
    pub(crate) inputs: Vec<ValueId>,
    /// Constants for which the caller may give other values, each with the number of `inputs` that are listed before it;
    /// in the order in which they are listed.
    pub(crate) defaults: Vec<(usize, ValueId)>,
    pub(crate) outputs: Vec<ValueId>,
    /// In a subgraph (the body of `If`, `Loop`, `Scan`): values of the graph around it. The node that holds subgraphs takes
    /// these values as inputs after its own: for each subgraph, in the order of the attributes' names, its captures in this
    /// order. Constants are not captured but repeated, and share their elements.
    pub(crate) captures: Vec<ValueId>,
    /// Nodes in whose places others stand now. The dtypes of their inputs must still be those that their operations take.
    pub(crate) replaced: Vec<Node<O>>,
}

impl<O> Default for Graph<O> {
    fn default() -> Graph<O> {
        Graph {
            name: String::new(),
            nodes: Vec::new(),
            values: Vec::new(),
            inputs: Vec::new(),
            defaults: Vec::new(),
            outputs: Vec::new(),
            captures: Vec::new(),
            replaced: Vec::new(),
        }
    }
}

impl<O> Graph<O> {
    pub(crate) fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    pub(crate) fn add_value(&mut self, value: Value) -> ValueId {
        let id = ValueId(self.values.len() as u32);
        self.values.push(value);
        id
    }

    pub(crate) fn add_constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        let id = self.add_value(Value { name: name.into(), ..Value::default() });
        self.set_constant(id, tensor);
        id
    }

    /// Makes the value a constant.
    pub(crate) fn set_constant(&mut self, id: ValueId, tensor: Tensor) {
        let value = &mut self.values[id.index()];
        value.dtype = Some(tensor.dtype());
        value.shape = Some(tensor.shape().iter().map(|&d| Dim::Known(d)).collect());
        value.constant = Some(tensor);
    }

    /// The bytes of all constants.
    pub(crate) fn constant_bytes(&self) -> usize {
        self.constants().map(|tensor| tensor.bytes().len()).fold(0, usize::saturating_add)
    }

    /// The elements of all constants.
    pub(crate) fn constant_elements(&self) -> usize {
        self.constants().map(Tensor::len).fold(0, usize::saturating_add)
    }

    fn constants(&self) -> impl Iterator<Item = &Tensor> {
        self.values.iter().filter_map(|value| value.constant.as_ref())
    }

    /// The node that computes each value; `None` for inputs and constants.
    pub(crate) fn producers(&self) -> Vec<Option<NodeId>> {
        let mut producers = vec![None; self.values.len()];
        for (n, node) in self.nodes.iter().enumerate() {
            for output in node.outputs.iter().flatten() {
                producers[output.index()] = Some(NodeId(n as u32));
            }
        }
        producers
    }

    /// The number of uses of each value, as a graph output too.
    pub(crate) fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        let of_nodes = self.nodes.iter().flat_map(|node| node.inputs.iter().flatten());
        for value in of_nodes.chain(&self.outputs) {
            counts[value.index()] += 1;
        }
        counts
    }

    /// The inputs and the constants that the caller may replace, in the model's order.
    pub(crate) fn listed_inputs(&self) -> Vec<ValueId> {
        let mut listed = Vec::with_capacity(self.inputs.len() + self.defaults.len());
        let mut defaults = self.defaults.iter().peekable();
        for (i, input) in self.inputs.iter().enumerate() {
            while let Some((_, id)) = defaults.next_if(|(place, _)| *place <= i) {
                listed.push(*id);
            }
            listed.push(*input);
        }
        listed.extend(defaults.map(|(_, id)| *id));
        listed
    }

    /// The same graph, in which the constants `given` are inputs.
    pub(crate) fn without_defaults(&self, given: &[ValueId]) -> Graph<O>
    where
        O: Clone,
    {
        let mut graph = self.clone();
        given.iter().for_each(|id| graph.values[id.index()].constant = None);
        graph.inputs = self.listed_inputs();
        graph.inputs.retain(|id| graph.values[id.index()].constant.is_none());
        graph.defaults.clear();
        graph
    }

    /// The graph that computes `outputs` instead of its own, without the nodes that none of them needs.
    pub(crate) fn selecting(mut self, outputs: Vec<ValueId>) -> Graph<O> {
        self.outputs = outputs;
        let needed = self.needed();
        self.nodes.retain(|node| node.outputs.iter().flatten().any(|id| needed[id.index()]));
        self.inputs.retain(|id| needed[id.index()]);
        self.defaults.clear();
        self
    }

    /// For each value, whether some output of the graph needs it.
    pub(crate) fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.values.len()];
        self.outputs.iter().for_each(|id| needed[id.index()] = true);
        for node in self.nodes.iter().rev() {
            if node.outputs.iter().flatten().any(|id| needed[id.index()]) {
                node.inputs.iter().flatten().for_each(|id| needed[id.index()] = true);
            }
        }
        needed
    }

    /// Checks that ids are in range, that each value has one producer, and that nodes stand in topological order.
    pub(crate) fn verify(&self) -> Result<()> {
        let invalid = |what: String| Err(Error::invalid(what));
        let in_range = |id: &ValueId| id.index() < self.values.len();
        let mut defined: Vec<bool> = self.values.iter().map(|v| v.constant.is_some()).collect();
        for input in self.inputs.iter().chain(&self.captures) {
            if !in_range(input) || std::mem::replace(&mut defined[input.index()], true) {
                return invalid("a graph input is defined twice".into());
            }
        }
        for node in &self.nodes {
            for input in node.inputs.iter().flatten() {
                if !in_range(input) || !defined[input.index()] {
                    let name = self.values.get(input.index()).map_or("?", |v| v.name.as_str());
                    return invalid(format!(
                        "node '{}' uses '{name}', which nothing before it makes",
                        node.name
                    ));
                }
            }
            for output in node.outputs.iter().flatten() {
                if !in_range(output) || std::mem::replace(&mut defined[output.index()], true) {
                    return invalid(format!("an output of node '{}' is defined twice", node.name));
                }
            }
        }
        for output in &self.outputs {
            if !in_range(output) || !defined[output.index()] {
                let name = self.values.get(output.index()).map_or("?", |v| v.name.as_str());
                return invalid(format!("nothing makes the graph output '{name}'"));
            }
        }
        Ok(())
    }
}
