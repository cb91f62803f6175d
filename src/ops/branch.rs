//! If: one of two subgraphs, as a condition says.
//!
//! History: 1, 11, 13, 16, 19, 21, 23, 24, 25.

use std::sync::Arc;

use super::case::Case;
use super::{Array, Graph, Kind, NodeDef, Op, Operator, Row, Why, onnx, refuse, subgraph, types};
use crate::facts::Fact;

/// If. Input 0 is the condition; the captures of `otherwise`, then those of `then`, follow.
#[derive(Clone, Debug)]
pub(crate) struct If {
    pub(crate) then: Arc<Graph>,
    pub(crate) otherwise: Arc<Graph>,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("If", 1, types![bool -> [V]; V: ALL BF16@16 SMALL], parse, Vec::<Case>::new)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let (then, otherwise) = (subgraph(def, "then_branch")?, subgraph(def, "else_branch")?);
    for branch in [&then, &otherwise] {
        if !branch.inputs.is_empty() || branch.outputs.len() != def.listed.len() {
            let (inputs, outputs, wanted) = (branch.inputs.len(), branch.outputs.len(), def.listed.len());
            refuse!(
                "a branch has {inputs} inputs and {outputs} outputs, and must have none and the node's {wanted}"
            );
        }
    }
    Ok(If { then, otherwise }.into())
}

impl If {
    /// The branch that a condition chooses, and those of the node's inputs that it captures.
    pub(crate) fn chosen<'a, T>(&'a self, condition: bool, inputs: &'a [T]) -> (&'a Arc<Graph>, &'a [T]) {
        let captures = inputs.get(1..).unwrap_or_default();
        let (of_otherwise, of_then) = captures.split_at(self.otherwise.captures.len().min(captures.len()));
        if condition { (&self.then, of_then) } else { (&self.otherwise, of_otherwise) }
    }
}

impl Operator for If {
    fn subgraphs(&self) -> Vec<&Arc<Graph>> {
        vec![&self.otherwise, &self.then]
    }

    fn kinds(&self, inputs: &[Option<&Kind>]) -> Option<Vec<Kind>> {
        let of = |condition: bool| {
            let (body, captures) = self.chosen(condition, inputs);
            body.kinds_of_outputs(captures)
        };
        let known = |(then, otherwise)| if then == Kind::Tensor(None) { otherwise } else { then };
        Some(of(true).into_iter().zip(of(false)).map(known).collect())
    }

    fn shape_operands(&self) -> &[usize] {
        &[0]
    }

    fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        refuse!("its outputs' shapes depend on the branch that a run takes")
    }

    fn eval(&self, _: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        refuse!("it runs subgraphs")
    }
}
