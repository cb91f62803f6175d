//! Graphs that are put together node by node.

use crate::graph::{Value, ValueId};
use crate::ops::{self, Attr, Graph, Node, case};
use crate::{DType, Tensor};

/// A graph under construction, at the newest opset.
#[derive(Default)]
pub(crate) struct Sketch {
    pub(crate) graph: Graph,
}

impl Sketch {
    pub(crate) fn input(&mut self, name: &str) -> ValueId {
        let id =
            self.graph.add_value(Value { name: name.into(), dtype: Some(DType::F32), ..Value::default() });
        self.graph.inputs.push(id);
        id
    }

    pub(crate) fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("c{}", self.graph.values.len());
        self.graph.add_constant(name, tensor)
    }

    /// A constant without axes.
    pub(crate) fn scalar(&mut self, number: f32) -> ValueId {
        self.constant(case::values(&[], &[number]))
    }

    /// Adds a node with `outputs` outputs, whose ids follow one another; returns the first.
    pub(crate) fn nodes_of(
        &mut self,
        op_type: &str,
        attributes: &[(&str, Attr)],
        inputs: &[ValueId],
        outputs: usize,
    ) -> ValueId {
        let attributes = attributes.iter().map(|(name, attr)| (*name, attr.clone())).collect();
        let opset = ops::NEWEST_OPSET;
        let first = self.graph.values.len() as u32;
        let name = format!("v{first}");
        let outputs = (first..first + outputs as u32).map(|i| {
            self.graph.add_value(Value { name: format!("v{i}"), ..Value::default() });
            Some(ValueId(i))
        });
        let outputs: Vec<_> = outputs.collect();
        let inputs = inputs.iter().map(|&id| Some(id)).collect();
        let (names, listed) = ((name, op_type.to_string(), opset), vec![true; outputs.len()]);
        self.graph.nodes.push(Node::parse(names, attributes, inputs, (outputs, &listed)).unwrap());
        ValueId(first)
    }

    pub(crate) fn node(&mut self, op_type: &str, attributes: &[(&str, Attr)], inputs: &[ValueId]) -> ValueId {
        self.nodes_of(op_type, attributes, inputs, 1)
    }

    pub(crate) fn transpose(&mut self, x: ValueId, perm: &[i64]) -> ValueId {
        self.node("Transpose", &[("perm", Attr::Ints(perm.to_vec()))], &[x])
    }

    /// `x`, normalised by the mean (if `centered`) and the mean square of its last axis, in single steps.
    pub(crate) fn normalize(&mut self, x: ValueId, centered: bool, power: bool) -> ValueId {
        let axes = self.constant(case::list(&[-1]));
        let mut difference = x;
        if centered {
            let mean = self.node("ReduceMean", &[], &[x, axes]);
            difference = self.node("Sub", &[], &[x, mean]);
        }
        let square = match power {
            true => {
                let two = self.scalar(2.0);
                self.node("Pow", &[], &[difference, two])
            }
            false => self.node("Mul", &[], &[difference, difference]),
        };
        let variance = self.node("ReduceMean", &[], &[square, axes]);
        // A large epsilon, so that rounding errors are not amplified.
        let epsilon = self.scalar(0.5);
        let sum = self.node("Add", &[], &[variance, epsilon]);
        let deviation = self.node("Sqrt", &[], &[sum]);
        self.node("Div", &[], &[difference, deviation])
    }
}
