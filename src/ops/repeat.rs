//! Loop: a subgraph that runs as often as a count and a condition say.
//!
//! History: 1, 11, 13, 16, 19, 21, 23, 24, 25.

use std::sync::Arc;

use super::case::Case;
use super::{
    Array, DType, Graph, Kind, NodeDef, Op, Operator, Row, Why, axes, onnx, refuse, subgraph, types,
};
use crate::Dim;
use crate::facts::Fact;
use crate::graph::Value;

/// Loop. Input 0 is the greatest number of iterations, input 1 the condition for the first of them, and then follow the initial
/// values of what is carried from one iteration to the next, and the captures. The body takes the iteration's number, the
/// condition, and the carried values; it computes the next condition, the next carried values, and one element of each list
/// that the node stacks along a new first axis.
#[derive(Clone, Debug)]
pub(crate) struct Loop {
    pub(crate) body: Arc<Graph>,
    /// The number of the node's inputs before the captures.
    pub(crate) own_inputs: usize,
    /// The number of carried values.
    pub(crate) carried: usize,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("Loop", 1, types![int64 bool [V] -> [V]; V: ALL BF16@16 SMALL], parse, Vec::<Case>::new)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let body = subgraph(def, "body")?;
    let carried = def.inputs.len().saturating_sub(2);
    if body.inputs.len() != carried + 2 {
        refuse!("its body has {} inputs, and must have {}", body.inputs.len(), carried + 2);
    }
    if body.outputs.len() != def.listed.len() + 1 || def.listed.len() < carried {
        let (outputs, listed) = (body.outputs.len(), def.listed.len());
        refuse!("its body has {outputs} outputs, the node {listed}, and {carried} values are carried");
    }
    Ok(Loop { body, own_inputs: def.inputs.len(), carried }.into())
}

/// The dtype and the shape of a list to which no iteration has added anything: those that the body declares of its elements, with
/// 0 for a size that it does not declare, and 0 along the new axis.
pub(crate) fn of_no_iterations(declared: &Value, axis: i64) -> Result<(DType, Vec<usize>), Why> {
    let Some(dtype) = declared.dtype else {
        refuse!("no iteration runs, and '{}' has no declared dtype", declared.name)
    };
    let size = |dim: &Dim| if let Dim::Known(size) = dim { *size } else { 0 };
    let mut shape: Vec<usize> = declared.shape.iter().flatten().map(size).collect();
    shape.insert(axes::axis(axis, shape.len() + 1)?, 0);
    Ok((dtype, shape))
}

impl Loop {
    /// The kinds of what the body takes: its inputs and its captures.
    pub(crate) fn given_kinds<'a>(&self, inputs: &[Option<&'a Kind>]) -> Vec<Option<&'a Kind>> {
        let carried = inputs.iter().skip(2).copied();
        [None, None].into_iter().chain(carried).collect()
    }
}

impl Operator for Loop {
    fn subgraphs(&self) -> Vec<&Arc<Graph>> {
        vec![&self.body]
    }

    fn kinds(&self, inputs: &[Option<&Kind>]) -> Option<Vec<Kind>> {
        let outputs = self.body.kinds_of_outputs(&self.given_kinds(inputs)).into_iter().skip(1);
        let known = |(i, kind): (usize, Kind)| match inputs.get(2 + i) {
            Some(Some(initial)) if i < self.carried && kind == Kind::Tensor(None) => (*initial).clone(),
            _ => kind,
        };
        Some(outputs.enumerate().map(known).collect())
    }

    fn shape_operands(&self) -> &[usize] {
        &[0, 1][..self.own_inputs.min(2)]
    }

    fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        refuse!("its outputs' shapes depend on the number of iterations")
    }

    fn eval(&self, _: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        refuse!("it runs a subgraph")
    }
}
