//! The CPU reference: runs a graph node by node with the operators' `eval`. It is simple before it is fast. The GPU is checked
//! against it, so it shares little with lowering besides shapes (ARCHITECTURE lists it).

mod control;

use std::sync::Arc;

use crate::array::{Array, HostValue, Leaf};
use crate::budget::{Budget, Work};
use crate::error::Why;
use crate::facts::{Fact, check_sizes, error_of_node, node_error, texts};
use crate::graph::ValueId;
use crate::heap;
use crate::ops::{Graph, Node};
use crate::{Datum, Error, Interrupt, Result, Tensor};

/// The values of a finished run, by [`ValueId`].
pub(crate) struct Values(Vec<Held>);

/// A value, once it is there.
type Held = Option<HostValue>;

impl Values {
    /// The value, if it is a tensor.
    pub(crate) fn get(&self, id: ValueId) -> Option<&Array> {
        match self.0.get(id.index())? {
            Some(Datum::Tensor(Leaf::Array(array))) => Some(array),
            _ => None,
        }
    }

    /// The value, if it is a tensor.
    pub(crate) fn shared(&self, id: ValueId) -> Option<Arc<Array>> {
        self.value(id)?.array().ok()
    }

    fn value(&self, id: ValueId) -> Option<&HostValue> {
        self.0.get(id.index())?.as_ref()
    }
}

/// Runs `graph` on `inputs`, which are in the graph's order. All values are kept if `keep_all`; else only the outputs are.
pub(crate) fn run(graph: &Graph, inputs: &[Tensor], keep_all: bool, interrupt: &Interrupt) -> Result<Values> {
    let inputs: Vec<Datum> = inputs.iter().cloned().map(Datum::Tensor).collect();
    run_within(graph, &inputs, keep_all, interrupt, None)
}

/// As [`run`], where all nodes together take the steps of `budget`, and no node takes more than its bytes.
pub(crate) fn run_within(
    graph: &Graph,
    inputs: &[Datum],
    keep_all: bool,
    interrupt: &Interrupt,
    budget: Option<&Budget>,
) -> Result<Values> {
    let value = |(id, input): (&ValueId, &Datum)| {
        let value = input.try_map(&mut |tensor| Array::from_tensor(tensor).map(Leaf::from));
        Ok((*id, value.map_err(|why| Error::value(&graph.value(*id).name, why))?))
    };
    let given = graph.inputs.iter().zip(inputs).map(value).collect::<Result<_>>()?;
    Run { interrupt, budget }.graph(graph, given, keep_all)
}

/// What all graphs of a run share.
struct Run<'a> {
    interrupt: &'a Interrupt,
    budget: Option<&'a Budget>,
}

impl Run<'_> {
    /// The values of a graph, or of a subgraph, of which `given` are the inputs and the captures.
    fn graph(&self, graph: &Graph, given: Vec<(ValueId, HostValue)>, keep_all: bool) -> Result<Values> {
        let mut values: Vec<Held> = vec![None; graph.values.len()];
        let mut uses = graph.use_counts();
        given.into_iter().for_each(|(id, value)| values[id.index()] = Some(value));
        for (i, value) in graph.values.iter().enumerate() {
            if let (Some(tensor), true) = (&value.constant, uses[i] > 0) {
                tensor.check_file()?;
                let array =
                    Array::from_tensor(tensor).map_err(|why| of_value("constant", &value.name, why))?;
                values[i] = Some(array.into());
            }
        }
        for node in &graph.nodes {
            self.interrupt.check()?;
            let held: Vec<Held> =
                node.inputs.iter().map(|id| id.and_then(|id| values[id.index()].clone())).collect();
            for (id, value) in node.outputs.iter().zip(self.node(node, &held)?) {
                if let Some(id) = id {
                    values[id.index()] = Some(value);
                }
            }
            for id in node.inputs.iter().flatten() {
                uses[id.index()] = uses[id.index()].saturating_sub(1);
                if uses[id.index()] == 0 && !keep_all {
                    values[id.index()] = None;
                }
            }
        }
        Ok(Values(values))
    }

    fn node(&self, node: &Node, held: &[Held]) -> Result<Vec<HostValue>> {
        match control::outputs(node, held, self)? {
            Some(outputs) => Ok(outputs),
            None => on_host(node, held, self.budget),
        }
    }
}

/// The outputs of a node without subgraphs, whose inputs may be containers. What is charged is given back: the budget bounds
/// each node's bytes, and all nodes' steps.
pub(crate) fn on_host(node: &Node, held: &[Held], budget: Option<&Budget>) -> Result<Vec<HostValue>> {
    let operator = node.op.operator();
    if let Some(host) = operator.host() {
        let inputs: Vec<Option<&HostValue>> = held.iter().map(Option::as_ref).collect();
        let refused = |why| refused(node, held, why);
        charge(budget, host.work(&inputs).map_err(refused)?).map_err(refused)?;
        return host.apply(&inputs).map_err(refused);
    }
    if let (Some(Some(input)), true) = (held.first(), operator.passes_input_on())
        && !matches!(input, Datum::Tensor(_))
    {
        return Ok(vec![input.clone()]);
    }
    let arrays = held.iter().map(|value| value.as_ref().map(HostValue::array).transpose());
    let arrays: Vec<Option<Arc<Array>>> =
        arrays.collect::<Result<_, _>>().map_err(|why| refused(node, held, why))?;
    Ok(node_within(node, &arrays, budget)?.into_iter().map(HostValue::from).collect())
}

fn charge(budget: Option<&Budget>, work: Work) -> Result<(), Why> {
    match budget {
        Some(budget) => budget.charge(work, 0),
        // Without a budget, work must still not end the process where memory does not suffice.
        None => heap::ask("its work on the CPU reference", work.bytes).map_err(Why::from),
    }
}

/// The outputs of a node for these inputs.
pub(crate) fn node(node: &Node, held: &[Option<Arc<Array>>]) -> Result<Vec<Array>> {
    node_within(node, held, None)
}

fn node_within(node: &Node, held: &[Option<Arc<Array>>], budget: Option<&Budget>) -> Result<Vec<Array>> {
    let inputs: Vec<Option<&Array>> = held.iter().map(|array| array.as_deref()).collect();
    let facts: Vec<Option<Fact>> = held.iter().map(|array| array.as_ref().map(Fact::of_shared)).collect();
    let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let refused = |why| node_error(node, &facts, why);
    let operator = node.op.operator();
    let charge = |work: Work| charge(budget, work).map_err(refused);
    if operator.shapes_depend_on_data() {
        charge(operator.work(&facts, &[]).map_err(refused)?)?;
    }
    // `eval` relies on this check.
    let outputs = node.op.infer(&facts).and_then(|outputs| check_sizes(&outputs).map(|()| outputs));
    let outputs = outputs.map_err(refused)?;
    let longest = inputs.iter().flatten().map(|array| array.longest_text()).max().unwrap_or(0);
    let work = operator.work(&facts, &outputs).map_err(refused)?;
    charge(Work { bytes: work.bytes.saturating_add(texts(&outputs, longest)), ..work })?;
    operator.eval(&inputs).map_err(refused)
}

/// The error of a node that refuses its inputs.
fn refused(node: &Node, held: &[Held], why: Why) -> Error {
    let text = |value: &Held| value.as_ref().map_or("-".into(), HostValue::to_string);
    let shown: Vec<String> = held.iter().map(text).collect();
    error_of_node(node, &shown, why)
}

/// The error of a value that is no tensor or no array.
fn of_value(kind: &str, name: &str, why: Why) -> Error {
    let refused = |reason| Error::Tensor(format!("{kind} '{name}': {reason}"));
    why.error(format_args!("{kind} '{name}'"), refused)
}

/// The graph's outputs of a finished run.
pub(crate) fn values(graph: &Graph, values: &Values) -> Result<Vec<Datum>> {
    let datum = |id: &ValueId| {
        let name = &graph.value(*id).name;
        let value = values.value(*id).ok_or_else(|| Error::invalid(format!("nothing makes '{name}'")))?;
        value.try_map(&mut |leaf| leaf.array()?.to_tensor()).map_err(|why| of_value("output", name, why))
    };
    graph.outputs.iter().map(datum).collect()
}

/// The graph's outputs of a finished run, as tensors.
#[cfg(any(test, feature = "internals"))]
pub(crate) fn outputs(graph: &Graph, finished: &Values) -> Result<Vec<Tensor>> {
    let named = graph.outputs.iter().map(|id| graph.value(*id).name.as_str());
    named.zip(values(graph, finished)?).map(|(name, datum)| datum.into_tensor(name)).collect()
}
