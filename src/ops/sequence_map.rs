//! SequenceMap: a subgraph that runs for each element of a sequence.
//!
//! History: 17. Input 0 is a sequence. Each other input is a sequence of as many elements, of which the subgraph gets one, or a
//! tensor, which it gets as it is.

use std::sync::Arc;

use super::case::Case;
use super::host::element_kind;
use super::{Array, Datum, Graph, Kind, NodeDef, Op, Operator, Row, Why, onnx, refuse, subgraph, types};
use crate::facts::Fact;

/// SequenceMap. The captures follow the node's own inputs.
#[derive(Clone, Debug)]
pub(crate) struct SequenceMap {
    pub(crate) body: Arc<Graph>,
    /// The number of the node's inputs before the captures.
    pub(crate) own_inputs: usize,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("SequenceMap", 17, types![S [V "mixed"] -> [S]; S: CONTAINERS, V: ALL], parse, Vec::<Case>::new)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let body = subgraph(def, "body")?;
    if body.inputs.len() != def.inputs.len() || body.outputs.len() != def.listed.len() {
        let (inputs, outputs) = (body.inputs.len(), body.outputs.len());
        let (given, listed) = (def.inputs.len(), def.listed.len());
        refuse!("its body has {inputs} inputs and {outputs} outputs, and the node {given} and {listed}");
    }
    Ok(SequenceMap { body, own_inputs: def.inputs.len() }.into())
}

impl SequenceMap {
    /// The number of elements of the sequences among the node's own inputs.
    pub(crate) fn length<T>(&self, own: &[Option<Datum<T>>]) -> Result<usize, Why> {
        let Some(Some(Datum::Sequence(first))) = own.first() else { refuse!("input 0 must be a sequence") };
        for (i, input) in own.iter().enumerate() {
            if let Some(Datum::Sequence(other)) = input
                && other.len() != first.len()
            {
                refuse!("input {i} is a sequence of {}, and input 0 one of {}", other.len(), first.len());
            }
        }
        Ok(first.len())
    }

    /// What the subgraph takes for element `at` of the sequences.
    pub(crate) fn given<T: Clone>(
        &self,
        own: &[Option<Datum<T>>],
        at: usize,
    ) -> Result<Vec<Option<Datum<T>>>, Why> {
        let given = |input: &Option<Datum<T>>| match input {
            Some(Datum::Sequence(elements)) => Ok(elements.get(at).cloned()),
            Some(Datum::Tensor(_)) => Ok(input.clone()),
            _ => refuse!("an input is no sequence and no tensor"),
        };
        own.iter().map(given).collect()
    }

    /// The kinds of what the body takes: its inputs and its captures.
    pub(crate) fn given_kinds(&self, inputs: &[Option<&Kind>]) -> Vec<Kind> {
        let (own, captures) = inputs.split_at(self.own_inputs.min(inputs.len()));
        let of_own = own.iter().map(|kind| match kind {
            Some(Kind::Sequence(_)) => element_kind(*kind),
            kind => kind.cloned().unwrap_or(Kind::Tensor(None)),
        });
        of_own.chain(captures.iter().map(|kind| kind.cloned().unwrap_or(Kind::Tensor(None)))).collect()
    }
}

impl Operator for SequenceMap {
    fn subgraphs(&self) -> Vec<&Arc<Graph>> {
        vec![&self.body]
    }

    fn kinds(&self, inputs: &[Option<&Kind>]) -> Option<Vec<Kind>> {
        let given = self.given_kinds(inputs);
        let given: Vec<Option<&Kind>> = given.iter().map(Some).collect();
        Some(self.body.kinds_of_outputs(&given).into_iter().map(Kind::sequence_of).collect())
    }

    fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        refuse!("its outputs are sequences")
    }

    fn eval(&self, _: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        refuse!("it runs a subgraph")
    }
}
