//! The CPU reference: runs a graph node by node with the operators' `eval`. It is simple before it is fast. The GPU is checked
//! against it, so it shares little with lowering besides shapes (ARCHITECTURE lists it).

mod control;

use std::sync::Arc;

use crate::array::Array;
use crate::budget::{Budget, Work};
use crate::error::Why;
use crate::facts::{Fact, check_sizes, node_error};
use crate::graph::ValueId;
use crate::heap;
use crate::ops::{Graph, Node};
use crate::{Error, Interrupt, Result, Tensor};

/// The values of a finished run, by [`ValueId`].
pub(crate) struct Values(Vec<Option<Arc<Array>>>);

impl Values {
    pub(crate) fn get(&self, id: ValueId) -> Option<&Array> {
        self.0.get(id.index()).and_then(|array| array.as_deref())
    }

    pub(crate) fn shared(&self, id: ValueId) -> Option<Arc<Array>> {
        self.0.get(id.index()).cloned().flatten()
    }
}

/// Runs `graph` on `inputs`, which are in the graph's order. All values are kept if `keep_all`; else only the outputs are.
pub(crate) fn run(graph: &Graph, inputs: &[Tensor], keep_all: bool, interrupt: &Interrupt) -> Result<Values> {
    run_within(graph, inputs, keep_all, interrupt, None)
}

/// As [`run`], where all nodes together take the steps of `budget`, and no node takes more than its bytes.
pub(crate) fn run_within(
    graph: &Graph,
    inputs: &[Tensor],
    keep_all: bool,
    interrupt: &Interrupt,
    budget: Option<&Budget>,
) -> Result<Values> {
    let array = |(id, tensor): (&ValueId, &Tensor)| {
        let array = Array::from_tensor(tensor).map_err(|why| Error::value(&graph.value(*id).name, why))?;
        Ok((*id, Arc::new(array)))
    };
    let given = graph.inputs.iter().zip(inputs).map(array).collect::<Result<_>>()?;
    Run { interrupt, budget }.graph(graph, given, keep_all)
}

/// What all graphs of a run share.
struct Run<'a> {
    interrupt: &'a Interrupt,
    budget: Option<&'a Budget>,
}

impl Run<'_> {
    /// The values of a graph, or of a subgraph, of which `given` are the inputs and the captures.
    fn graph(&self, graph: &Graph, given: Vec<(ValueId, Arc<Array>)>, keep_all: bool) -> Result<Values> {
        let mut values: Vec<Option<Arc<Array>>> = vec![None; graph.values.len()];
        let mut uses = graph.use_counts();
        given.into_iter().for_each(|(id, array)| values[id.index()] = Some(array));
        for (i, value) in graph.values.iter().enumerate() {
            if let (Some(tensor), true) = (&value.constant, uses[i] > 0) {
                tensor.check_file()?;
                let array =
                    Array::from_tensor(tensor).map_err(|why| of_value("constant", &value.name, why))?;
                values[i] = Some(Arc::new(array));
            }
        }
        for node in &graph.nodes {
            self.interrupt.check()?;
            let held: Vec<Option<Arc<Array>>> =
                node.inputs.iter().map(|id| id.and_then(|id| values[id.index()].clone())).collect();
            for (id, array) in node.outputs.iter().zip(self.node(node, &held)?) {
                if let Some(id) = id {
                    values[id.index()] = Some(array);
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

    fn node(&self, node: &Node, held: &[Option<Arc<Array>>]) -> Result<Vec<Arc<Array>>> {
        match control::outputs(node, held, self)? {
            Some(outputs) => Ok(outputs),
            None => Ok(node_within(node, held, self.budget)?.into_iter().map(Arc::new).collect()),
        }
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
    let charge = |work: Work| {
        match budget {
            Some(budget) => budget.charge(work, 0),
            // Without a budget, work must still not end the process where memory does not suffice.
            None => heap::ask("its work on the CPU reference", work.bytes).map_err(Why::from),
        }
        .map_err(refused)
    };
    if operator.shapes_depend_on_data() {
        charge(operator.work(&facts, &[]).map_err(refused)?)?;
    }
    // `eval` relies on this check.
    let outputs = node.op.infer(&facts).and_then(|outputs| check_sizes(&outputs).map(|()| outputs));
    charge(operator.work(&facts, &outputs.map_err(refused)?).map_err(refused)?)?;
    operator.eval(&inputs).map_err(refused)
}

/// The error of a node that refuses its inputs.
fn refused(node: &Node, held: &[Option<Arc<Array>>], why: Why) -> Error {
    let facts: Vec<Option<Fact>> = held.iter().map(|array| array.as_ref().map(Fact::of_shared)).collect();
    node_error(node, &facts.iter().map(Option::as_ref).collect::<Vec<_>>(), why)
}

/// The error of a value that is no tensor or no array.
fn of_value(kind: &str, name: &str, why: Why) -> Error {
    let refused = |reason| Error::Tensor(format!("{kind} '{name}': {reason}"));
    why.error(format_args!("{kind} '{name}'"), refused)
}

/// The graph's outputs of a finished run, as tensors.
pub(crate) fn outputs(graph: &Graph, values: &Values) -> Result<Vec<Tensor>> {
    let tensor = |id: &ValueId| {
        let name = &graph.value(*id).name;
        let array = values.get(*id).ok_or_else(|| Error::invalid(format!("nothing makes '{name}'")))?;
        array.to_tensor().map_err(|why| of_value("output", name, why))
    };
    graph.outputs.iter().map(tensor).collect()
}
