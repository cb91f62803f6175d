//! Nodes that a pass writes in place of another.

use std::collections::HashMap;

use super::dead_code;
use crate::error::Why;
use crate::facts::node_error;
use crate::graph::{Value, ValueId};
use crate::ops::{Attr, Attributes, Graph, NEWEST_OPSET, Node};
use crate::{DType, Result, Tensor};

/// Puts the nodes that `spell` makes in the places of those that a pass has found, by their numbers. Where it makes none, the
/// node stays. Returns whether the graph has changed.
pub(super) fn replace<T>(
    graph: &mut Graph,
    found: Vec<(usize, T)>,
    spell: impl Fn(T, &mut Graph, &Node) -> Result<Option<Vec<Node>>, Why>,
) -> Result<bool> {
    let mut spelled = HashMap::new();
    for (n, what) in found {
        let node = graph.nodes[n].clone();
        if let Some(nodes) = spell(what, graph, &node).map_err(|why| node_error(&node, &[], why))? {
            spelled.insert(n, nodes);
        }
    }
    if spelled.is_empty() {
        return Ok(false);
    }
    let nodes = std::mem::take(&mut graph.nodes).into_iter().enumerate();
    graph.nodes = nodes.flat_map(|(n, node)| spelled.remove(&n).unwrap_or_else(|| vec![node])).collect();
    // Before other passes compute what nothing reads any more.
    dead_code::run(graph)?;
    Ok(true)
}

/// Nodes that take the place of another, whose output has this name.
pub(super) struct Spelled<'g> {
    name: String,
    pub(super) graph: &'g mut Graph,
    nodes: Vec<Node>,
}

impl<'g> Spelled<'g> {
    /// No nodes yet, of those that compute `output`.
    pub(super) fn new(graph: &'g mut Graph, output: ValueId) -> Spelled<'g> {
        Spelled { name: graph.value(output).name.clone(), graph, nodes: Vec::new() }
    }

    pub(super) fn constant(&mut self, what: &str, tensor: Tensor) -> ValueId {
        self.graph.add_constant(format!("{}.{what}", self.name), tensor)
    }

    /// The output of a new node.
    pub(super) fn node(
        &mut self,
        op_type: &str,
        attributes: Attributes,
        inputs: Vec<Option<ValueId>>,
    ) -> Result<ValueId, Why> {
        let name = format!("{}.{op_type}{}", self.name, self.nodes.len());
        let output = self.graph.add_value(Value { name: name.clone(), ..Value::default() });
        // Domains other than ONNX's have one version.
        let opset = if op_type.contains('.') { 1 } else { NEWEST_OPSET };
        let names = (name, op_type.to_string(), opset);
        self.nodes.push(Node::parse(names, attributes, inputs, (vec![Some(output)], &[true]))?);
        Ok(output)
    }

    /// The output of a new node of an operator with two operands and no attributes.
    pub(super) fn binary(&mut self, op_type: &str, [a, b]: [ValueId; 2]) -> Result<ValueId, Why> {
        self.node(op_type, Attributes::default(), vec![Some(a), Some(b)])
    }

    /// These numbers as float32.
    pub(super) fn float32(&mut self, numbers: ValueId) -> Result<ValueId, Why> {
        self.cast(numbers, DType::F32)
    }

    /// These numbers in another dtype.
    pub(super) fn cast(&mut self, numbers: ValueId, dtype: DType) -> Result<ValueId, Why> {
        let to = [("to", Attr::Int(dtype.onnx().into()))].into_iter().collect();
        self.node("Cast", to, vec![Some(numbers)])
    }

    /// The output of a copy of `node` with other inputs.
    pub(super) fn copy(&mut self, node: &Node, inputs: Vec<Option<ValueId>>) -> ValueId {
        let name = format!("{}.{}{}", self.name, node.op_type, self.nodes.len());
        let output = self.graph.add_value(Value { name: name.clone(), ..Value::default() });
        self.nodes.push(Node { name, inputs, outputs: vec![Some(output)], ..node.clone() });
        output
    }

    /// The nodes, of which the last computes `output` in place of `node`.
    pub(super) fn nodes_for(mut self, node: &Node, output: ValueId) -> Vec<Node> {
        if let Some(last) = self.nodes.last_mut() {
            last.outputs = vec![Some(output)];
            last.name.clone_from(&node.name);
        }
        self.nodes
    }
}
