//! Inlining: the nodes of a subgraph take the place of a node that is known to run it once, or not at all.

use super::branch::If;
use super::composed::{in_place, passed_on};
use super::repeat::{self, Loop};
use super::{Attributes, DType, Graph, NEWEST_OPSET, Node, Op, Tensor, Why, optional};
use crate::budget::{Budget, Work};
use crate::facts::SMALL_CONSTANT;
use crate::graph::{Value, ValueId};
use crate::heap;

impl Node {
    /// The nodes that take the node's place, if the graph's constants say that its subgraph runs at most once.
    pub(crate) fn inlined(&self, graph: &mut Graph, budget: &Budget) -> Result<Option<Vec<Node>>, Why> {
        let constant = |i: usize| graph.value(optional(&self.inputs, i)?).constant.as_ref();
        match &*self.op {
            Op::If(branches) => match constant(0).and_then(flag) {
                Some(condition) => self.branch(branches, condition, graph, budget).map(Some),
                None => Ok(None),
            },
            Op::Loop(repeat) => {
                let goes_on = if self.inputs.get(1).is_some_and(Option::is_some) {
                    constant(1).and_then(flag)
                } else {
                    Some(true)
                };
                let count = constant(0).and_then(number);
                let own = &self.inputs[..repeat.own_inputs.min(self.inputs.len())];
                if own.iter().skip(2).any(Option::is_none) {
                    return Ok(None);
                }
                match (count, goes_on) {
                    (_, Some(false)) => self.no_iteration(repeat, graph),
                    (Some(count), _) if count <= 0 => self.no_iteration(repeat, graph),
                    (Some(1), Some(true)) => self.one_iteration(repeat, graph, budget).map(Some),
                    _ => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// The nodes of the branch that a condition chooses.
    pub(crate) fn branch(
        &self,
        branches: &If,
        condition: bool,
        graph: &mut Graph,
        budget: &Budget,
    ) -> Result<Vec<Node>, Why> {
        let (body, captures) = branches.chosen(condition, &self.inputs);
        charge(body, budget)?;
        let wanted = body.outputs.iter().zip(&self.outputs);
        let wanted = wanted.filter_map(|(own, output)| Some((*own, (*output)?))).collect();
        in_place(body, graph, &self.name, given(&body.captures, captures), wanted)
    }

    /// The nodes of the body of a Loop of one iteration.
    fn one_iteration(&self, repeat: &Loop, graph: &mut Graph, budget: &Budget) -> Result<Vec<Node>, Why> {
        let body = &repeat.body;
        charge(body, budget)?;
        let (own, captures) = self.inputs.split_at(repeat.own_inputs.min(self.inputs.len()));
        let number =
            graph.add_constant(format!("{}/iteration", self.name), Tensor::from_slice(&[], &[0i64])?);
        let goes_on =
            graph.add_constant(format!("{}/condition", self.name), Tensor::from_bools(&[], &[true])?);
        let first = graph.add_constant(format!("{}/axis", self.name), Tensor::from_slice(&[1], &[0i64])?);
        let formal: Vec<ValueId> = body.inputs.iter().chain(&body.captures).copied().collect();
        let carried = own.get(2..).unwrap_or_default();
        let actual = [&[Some(number), Some(goes_on)], carried, captures].concat();
        let (mut wanted, mut lists) = (Vec::new(), Vec::new());
        for (i, (own, output)) in body.outputs.iter().skip(1).zip(&self.outputs).enumerate() {
            let Some(output) = *output else { continue };
            if i < repeat.carried {
                wanted.push((*own, output));
                continue;
            }
            let name = format!("{}/{}", self.name, graph.value(output).name);
            let element = graph.add_value(Value { name: name.clone(), ..Value::default() });
            wanted.push((*own, element));
            let names = (name, "Unsqueeze".to_string(), NEWEST_OPSET);
            let inputs = vec![Some(element), Some(first)];
            lists.push(Node::parse(names, Attributes::default(), inputs, (vec![Some(output)], &[true]))?);
        }
        let mut nodes = in_place(body, graph, &self.name, given(&formal, &actual), wanted)?;
        nodes.append(&mut lists);
        Ok(nodes)
    }

    /// What is left of a Loop without iterations; `None` if its body does not declare what its lists are.
    fn no_iteration(&self, repeat: &Loop, graph: &mut Graph) -> Result<Option<Vec<Node>>, Why> {
        let declared = repeat.body.outputs.iter().skip(1 + repeat.carried).map(|id| repeat.body.value(*id));
        let (carried, lists) = self.outputs.split_at(repeat.carried.min(self.outputs.len()));
        let mut empty = Vec::new();
        for (declared, output) in declared.zip(lists) {
            let Some(output) = *output else { continue };
            match repeat::of_no_iterations(declared, 0) {
                Ok((dtype, shape)) => empty.push((output, Tensor::zeros(dtype, &shape)?)),
                Err(Why::Refused(_) | Why::TooWide(_)) => return Ok(None),
                Err(none) => return Err(none),
            }
        }
        let mut nodes = Vec::new();
        for (output, initial) in carried.iter().zip(self.inputs.iter().skip(2)) {
            if let (Some(output), Some(initial)) = (*output, *initial) {
                nodes.push(passed_on(graph, &self.name, initial, output)?);
            }
        }
        empty.into_iter().for_each(|(output, tensor)| graph.set_constant(output, tensor));
        Ok(Some(nodes))
    }
}

/// The pairs of what a body takes and what it is given.
fn given<'a>(
    formal: &'a [ValueId],
    actual: &'a [Option<ValueId>],
) -> impl Iterator<Item = (ValueId, ValueId)> + 'a {
    formal.iter().zip(actual).filter_map(|(formal, actual)| Some((*formal, (*actual)?)))
}

/// A bool of one element.
fn flag(tensor: &Tensor) -> Option<bool> {
    let is_flag = tensor.dtype() == DType::Bool && tensor.len() == 1;
    tensor.bytes().first().filter(|_| is_flag).map(|byte| *byte != 0)
}

/// An int64 of one element.
fn number(tensor: &Tensor) -> Option<i64> {
    let is_number = tensor.dtype() == DType::I64 && tensor.len() == 1;
    tensor.bytes().try_into().ok().filter(|_| is_number).map(i64::from_le_bytes)
}

/// Charges what a session holds of a subgraph: a file has a constant only once that many subgraphs read.
pub(crate) fn charge(graph: &Graph, budget: &Budget) -> Result<(), Why> {
    let constants = graph.values.iter().filter_map(|value| value.constant.as_ref());
    let known = constants.filter(|tensor| tensor.len() <= SMALL_CONSTANT);
    let arrays: Work = known.map(|tensor| Work::array(tensor.dtype(), tensor.shape())).sum();
    let bytes = arrays.bytes.saturating_add(heap::of_graph(graph.nodes.len(), graph.values.len()));
    budget.charge(Work::default(), bytes)
}
