//! Random graphs for property tests: chains and diamonds of pointwise operators, transposes, reductions, products and
//! identities over a few shapes, with several outputs.

use super::{Graph, Node, Value, ValueId};
use crate::graph::{Attr, Attributes};
use crate::ops::{self, NodeDef, case};
use crate::{DType, Tensor};

/// Makes graphs from a list of numbers, so that a failing one shrinks.
pub(crate) struct RandomGraph {
    pub(crate) graph: Graph,
    /// Values so far, with their shapes.
    values: Vec<(ValueId, Vec<usize>)>,
}

impl RandomGraph {
    /// A graph with one step for each number of `choices`.
    pub(crate) fn new(choices: &[u32]) -> RandomGraph {
        let mut random = RandomGraph { graph: Graph::default(), values: Vec::new() };
        for (i, shape) in [vec![3, 4], vec![3, 4], vec![1, 4]].into_iter().enumerate() {
            let value = Value { name: format!("in{i}"), dtype: Some(DType::F32), ..Value::default() };
            let id = random.graph.add_value(value);
            random.graph.inputs.push(id);
            random.values.push((id, shape));
        }
        for &choice in choices {
            random.step(choice);
        }
        let last = random.values.len();
        // Some inner values are outputs too.
        for (i, (id, _)) in random.values.iter().enumerate() {
            if i + 1 == last || i % 7 == 6 {
                random.graph.outputs.push(*id);
            }
        }
        random
    }

    /// Inputs for the graph.
    pub(crate) fn inputs(&self) -> Vec<Tensor> {
        vec![case::random(&[3, 4]), case::uniform(&[3, 4], 0.1, 1.0), case::random(&[1, 4])]
    }

    fn pick(&self, choice: u32) -> (ValueId, Vec<usize>) {
        // Mostly recent values, so that there are chains.
        let back = (choice as usize % 97) % self.values.len().min(6);
        self.values[self.values.len() - 1 - back].clone()
    }

    fn step(&mut self, choice: u32) {
        let (a, shape) = self.pick(choice / 16);
        let same: Vec<_> = self.values.iter().filter(|(_, s)| *s == shape).cloned().collect();
        let b = same[(choice / 2048) as usize % same.len()].0;
        let square = shape[0] == shape[1];
        match choice % 14 {
            0 => self.node("Relu", &[], &[a], shape),
            1 => self.node("Tanh", &[], &[a], shape),
            2 => self.node("Identity", &[], &[a], shape),
            3 => self.node("Add", &[], &[a, b], shape),
            4 => self.node("Mul", &[], &[a, b], shape),
            5 => self.node("Sub", &[], &[a, b], shape),
            6 => self.node("Sigmoid", &[], &[a], shape),
            7 => {
                let turned = vec![shape[1], shape[0]];
                self.node("Transpose", &[("perm", Attr::Ints(vec![1, 0]))], &[a], turned)
            }
            8 => {
                let constant = self.graph.add_constant("c", case::random(&[1, shape[1]]));
                self.node("Add", &[], &[a, constant], shape)
            }
            9 => {
                let constant = self.graph.add_constant("s", case::values(&[], &[0.5f32]));
                self.node("Mul", &[], &[constant, a], shape)
            }
            10 => self.node("Softmax", &[], &[a], shape),
            11 if square => self.node("MatMul", &[], &[a, b], shape),
            11 => {
                let columns = shape[1];
                let constant = self.graph.add_constant("w", case::random(&[columns, columns]));
                self.node("MatMul", &[], &[a, constant], shape)
            }
            12 => {
                let flat = self.graph.add_constant("shape", case::list(&[shape[1] as i64, -1]));
                let turned = vec![shape[1], shape[0]];
                self.node("Reshape", &[], &[a, flat], turned)
            }
            _ => {
                let constants = (0..2).map(|i| case::uniform(&[2, 2], 0.5, 1.0 + i as f32));
                let ids: Vec<_> = constants.map(|c| self.graph.add_constant("k", c)).collect();
                // Only for the folding pass: nothing else reads it.
                self.node("Add", &[], &ids, vec![2, 2]);
                self.values.pop();
            }
        }
    }

    fn node(&mut self, op_type: &str, attributes: &[(&str, Attr)], inputs: &[ValueId], shape: Vec<usize>) {
        let attributes = Attributes(attributes.iter().map(|(k, v)| (k.to_string(), v.clone())).collect());
        let opset = ops::NEWEST_OPSET;
        let given = vec![true; inputs.len()];
        let def = NodeDef { op_type, opset, attributes: &attributes, inputs: &given, outputs: &[true] };
        let op = ops::parse("", &def).unwrap();
        let name = format!("v{}", self.graph.values.len());
        let output = self.graph.add_value(Value { name: name.clone(), ..Value::default() });
        let inputs = inputs.iter().map(|&id| Some(id)).collect();
        let op_type = op_type.to_string();
        self.graph.nodes.push(Node { name, op_type, opset, op, inputs, outputs: vec![Some(output)] });
        self.values.push((output, shape));
    }
}
