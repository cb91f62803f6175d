//! The graph whose operations are operators. The rooms above `ops` mean this one when they say graph.

use std::collections::BTreeMap;

use super::broadcast::broadcast;
use super::{NodeDef, Op, Operation, Why};
use crate::Result;
use crate::facts::{Fact, node_error};
use crate::graph::{self, NodeId, Value, ValueId};
use crate::shape::MAX_RANK;

pub(crate) type Graph = graph::Graph<Operation>;

pub(crate) type Node = graph::Node<Operation>;

pub(crate) type Attr = graph::Attr<Operation>;

pub(crate) type Attributes = graph::Attributes<Operation>;

/// The most operators that lie between a table and the constants from which it is computed.
const DEEPEST_TABLE: usize = 8;

impl Graph {
    /// For each input whose elements are places along an axis of a constant: the length of the axis, the least of several.
    pub(crate) fn index_bounds(&self) -> BTreeMap<ValueId, usize> {
        let producers = self.producers();
        let input = |node: &Node, i: usize| node.inputs.get(i).copied().flatten();
        // The value whose elements these are: nodes may cast them, or move them. Each step goes to an earlier node.
        let origin = |mut id: ValueId| {
            while let Some(node) = producers[id.index()].map(|node| &self.nodes[node.index()])
                && (node.op.operator().moves_elements() || matches!(*node.op, Op::Cast(_)))
                && let Some(before) = input(node, 0)
            {
                id = before;
            }
            id
        };
        let mut bounds = BTreeMap::new();
        for node in &self.nodes {
            if node.op.operator().picks(MAX_RANK).is_none() {
                continue;
            }
            let Some(table) =
                input(node, 0).and_then(|id| self.constant_shape(&producers, id, DEEPEST_TABLE))
            else {
                continue;
            };
            let Some((indices, axis)) = node.op.operator().picks(table.len()) else { continue };
            let Some(id) = input(node, indices).map(origin).filter(|id| self.inputs.contains(id)) else {
                continue;
            };
            let bound = bounds.entry(id).or_insert(usize::MAX);
            *bound = table[axis].min(*bound);
        }
        bounds
    }

    /// The shape of a constant, or of what operators on single elements make of constants, as of weights in 8 bits and their scales.
    fn constant_shape(
        &self,
        producers: &[Option<NodeId>],
        id: ValueId,
        deepest: usize,
    ) -> Option<Vec<usize>> {
        if let Some(constant) = &self.value(id).constant {
            return Some(constant.shape().to_vec());
        }
        let node = &self.nodes[producers[id.index()]?.index()];
        let of = |i: usize| {
            let id = node.inputs.get(i).copied().flatten()?;
            self.constant_shape(producers, id, deepest.checked_sub(1)?)
        };
        match &*node.op {
            Op::Cast(_) | Op::Dequantize(_) => of(0),
            Op::Binary(_) => broadcast([of(0)?.as_slice(), &of(1)?]).ok().map(|shape| shape.to_vec()),
            _ => None,
        }
    }
}

impl Graph {
    /// For each value, whether planning computes it if it must: it follows from constants, from shapes, and from the inputs that
    /// `is_parameter` accepts. `on_device`: whether a device runs the node of this number.
    pub(crate) fn planned_values(
        &self,
        is_parameter: impl Fn(&Value) -> bool,
        on_device: impl Fn(usize) -> bool,
    ) -> Vec<bool> {
        let mut planned: Vec<bool> = self.values.iter().map(|value| value.constant.is_some()).collect();
        for id in &self.inputs {
            planned[id.index()] = is_parameter(self.value(*id));
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let all = || node.inputs.iter().flatten().all(|id| planned[id.index()]);
            let operator = node.op.operator();
            let follows = operator.reads_shapes_only() || !operator.draws() && all();
            if on_device(number) && follows {
                node.outputs.iter().flatten().for_each(|id| planned[id.index()] = true);
            }
        }
        planned
    }
}

impl Node {
    /// Whether the node only widens a constant of the model, so that kernels can convert the constant as they load it.
    pub(crate) fn widens_constant(&self, graph: &Graph, inputs: &[Option<&Fact>]) -> bool {
        let first = self.inputs.first().copied().flatten();
        first.is_some_and(|id| graph.value(id).constant.is_some()) && self.op.operator().widens(inputs)
    }

    /// Whether the reference or the session runs subgraphs for the node.
    pub(crate) fn runs_subgraphs(&self) -> bool {
        !self.op.operator().subgraphs().is_empty()
    }

    /// A node whose operator is parsed from its attributes. `listed`: for each output, whether the model names it.
    pub(crate) fn parse(
        (name, op_type, opset): (String, String, i64),
        attributes: Attributes,
        inputs: Vec<Option<ValueId>>,
        (outputs, listed): (Vec<Option<ValueId>>, &[bool]),
    ) -> Result<Node, Why> {
        let op = {
            let (domain, op_type) = op_type.rsplit_once('.').unwrap_or(("", &op_type));
            // The captures of subgraphs are the last inputs; the parser does not see them.
            let captures = attributes.0.values().map(|attr| match attr {
                Attr::Graph(graph) => graph.captures.len(),
                _ => 0,
            });
            let formal = inputs.len().saturating_sub(captures.sum());
            let given: Vec<bool> = inputs[..formal].iter().map(Option::is_some).collect();
            let wanted: Vec<bool> = outputs.iter().map(Option::is_some).collect();
            let def =
                NodeDef { op_type, opset, attributes: &attributes, inputs: &given, listed, outputs: &wanted };
            Operation::parse(domain, &def)?
        };
        Ok(Node { name, op_type, opset, attributes, op, inputs, outputs })
    }

    /// For each input, its value if the device reads its data, else `None`.
    pub(crate) fn data_inputs(&self) -> impl Iterator<Item = Option<ValueId>> {
        let operator = self.op.operator();
        self.inputs.iter().enumerate().map(move |(i, input)| input.filter(|_| operator.reads_data(i)))
    }

    /// Parses the operator again, with these attributes besides the others.
    pub(crate) fn set_attributes<const N: usize>(&mut self, new: [(&str, Attr); N]) -> Result<()> {
        let mut attributes = self.attributes.clone();
        attributes.0.extend(new.map(|(name, attr)| (name.to_string(), attr)));
        let listed: Vec<bool> = self.outputs.iter().map(Option::is_some).collect();
        let names = (self.name.clone(), self.op_type.clone(), self.opset);
        *self = Node::parse(names, attributes, self.inputs.clone(), (self.outputs.clone(), &listed))
            .map_err(|why| node_error(self, &[], why))?;
        Ok(())
    }
}

impl Graph {
    /// Gives the node a first output, unless its operator works without one.
    pub(crate) fn complete(&mut self, node: &mut Node) {
        if let Some(first @ None) = node.outputs.first_mut()
            && !node.op.operator().first_output_is_optional()
        {
            let name = format!("{}.unused", node.name);
            *first = Some(self.add_value(Value { name, ..Value::default() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::graph_of_case;
    use crate::internals::cases::listed_cases;

    /// A text with an address in it would differ from run to run.
    #[test]
    fn no_operator_prints_an_address() {
        for case in listed_cases() {
            let text = graph_of_case(&case).unwrap().to_string();
            assert!(!text.contains("0x"), "{text}");
        }
    }
}
