//! Graphs of which planning chooses the branches: each choice has a graph of its own, in which the branches' nodes stand in the
//! place of the `If` nodes. The host reads nothing for it that a run computes.

use std::sync::{Arc, PoisonError};

use super::entry::Entry;
use super::{Core, SessionOptions};
use crate::budget::Budget;
use crate::facts::{FactBase, InputFact, error_of_node, node_error};
use crate::graph::{NodeId, ValueId};
use crate::ops::{Graph, Op, inline};
use crate::segments::Choices;
use crate::{DType, Error, Result, passes};

/// The conditions of a graph's branches.
#[derive(Debug)]
pub(super) struct Decided {
    choices: Choices,
    base: FactBase,
    /// The values besides the outputs that are wanted.
    keep: Vec<ValueId>,
}

/// The graph that conditions choose.
#[derive(Debug)]
pub(super) struct Decision {
    /// The graph with the branches.
    of: Arc<Entry>,
    conditions: Vec<bool>,
    entry: Arc<Entry>,
}

impl Decision {
    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
}

/// What is known of a graph's input, with its value if that is asked for; `None` for what only a run knows.
pub(super) type InputFactOf<'a> = dyn Fn(usize, bool) -> Result<Option<InputFact>> + 'a;

/// The number of chosen graphs that a session keeps.
const MOST_DECISIONS: usize = 64;

impl Core {
    /// The graph that these conditions choose, from the cache, or made now.
    pub(super) fn decided(
        &self,
        of: &Arc<Entry>,
        decided: &Decided,
        conditions: Vec<bool>,
    ) -> Result<Arc<Entry>> {
        let mut decisions = self.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |own: &Decision| Arc::ptr_eq(&own.of, of) && own.conditions == conditions;
        if let Some(at) = decisions.iter().position(is_it)
            && let Some(found) = decisions.remove(at)
        {
            let entry = found.entry.clone();
            decisions.push_front(found);
            return Ok(entry);
        }
        let graph = Arc::new(decided.graph(&of.graph, &conditions, &self.options)?);
        let entry = Entry::new(graph, of.names.clone(), &self.device, &self.options, &decided.keep)?;
        let entry = Arc::new(entry);
        if let Some(plans) = &self.plans {
            plans.make_more_room_for(entry.plans_of_a_run());
        }
        decisions.push_front(Decision { of: of.clone(), conditions, entry: entry.clone() });
        decisions.truncate(MOST_DECISIONS);
        Ok(entry)
    }
}

impl Decided {
    pub(super) fn new(
        graph: &Graph,
        choices: Choices,
        options: &SessionOptions,
        keep: &[ValueId],
        budget: &Budget,
    ) -> Result<Decided> {
        for id in &choices.nodes {
            let node = &graph.nodes[id.index()];
            for body in node.op.operator().subgraphs() {
                inline::charge(body, budget).map_err(|why| node_error(node, &[], why))?;
            }
        }
        let base = FactBase::computing(&choices.conditions, &choices.conditions.outputs, &options.limits)?;
        Ok(Decided { choices, base, keep: keep.to_vec() })
    }

    /// The conditions of the branches for these inputs.
    pub(super) fn conditions(&self, graph: &Graph, fact: &InputFactOf) -> Result<Option<Vec<bool>>> {
        let computed = &self.choices.conditions;
        let mut known = Vec::with_capacity(computed.inputs.len());
        for (&i, id) in self.choices.inputs.iter().zip(&computed.inputs) {
            let demanded = self.base.is_demanded(*id);
            match fact(i, demanded)? {
                Some(fact) if fact.value.is_some() || !demanded => known.push(fact),
                _ => return Ok(None),
            }
        }
        let facts = self.base.bind(computed, &known, &self.base.budget())?;
        let mut conditions = Vec::with_capacity(computed.outputs.len());
        for (id, node) in computed.outputs.iter().zip(&self.choices.nodes) {
            let node = &graph.nodes[node.index()];
            let Some(fact) = facts.get(*id) else { return Ok(None) };
            if (fact.dtype, fact.count()) != (DType::Bool, 1) {
                let shown = [format!("{}{:?}", fact.dtype, fact.shape)];
                return Err(error_of_node(node, &shown, "its condition must be one bool".into()));
            }
            let array = fact.array().map_err(|why| node_error(node, &[Some(fact)], why))?;
            let value = array.i64s().map_err(|why| node_error(node, &[Some(fact)], why))?;
            conditions.push(value.first().is_some_and(|value| *value != 0));
        }
        Ok(Some(conditions))
    }

    /// The graph in which the nodes of the chosen branches stand in the place of the branching nodes.
    fn graph(&self, graph: &Graph, conditions: &[bool], options: &SessionOptions) -> Result<Graph> {
        let budget = Budget::new(&options.limits);
        let mut chosen = graph.clone();
        let mut nodes = Vec::with_capacity(graph.nodes.len());
        let mut decisions = self.choices.nodes.iter().zip(conditions).peekable();
        for (number, node) in std::mem::take(&mut chosen.nodes).into_iter().enumerate() {
            let decision = decisions.next_if(|(id, _)| **id == NodeId(number as u32));
            match (&*node.op, decision) {
                (Op::If(branches), Some((_, condition))) => {
                    let inner = node.branch(branches, *condition, &mut chosen, &budget);
                    nodes.append(&mut inner.map_err(|why| node_error(&node, &[], why))?);
                }
                _ => nodes.push(node),
            }
        }
        chosen.nodes = nodes;
        chosen.verify()?;
        // Passes drop values of which only the caller knows that they are wanted.
        match self.keep.is_empty() {
            true => passes::run_within(chosen, &budget),
            false => Ok(chosen),
        }
    }

    /// The error of what needs a plan, where a condition is not known.
    pub(super) fn undecided(&self, graph: &Graph) -> Error {
        let names = self.choices.inputs.iter().zip(&self.choices.conditions.inputs);
        let names = names.filter(|(_, id)| self.base.is_demanded(**id));
        let names: Vec<&str> = names.map(|(&i, _)| graph.value(graph.inputs[i]).name.as_str()).collect();
        Error::Gpu(format!(
            "which branch of the model a run takes depends on the value of {}; give it as a `Tensor`",
            names.join(", ")
        ))
    }
}
