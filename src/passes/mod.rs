//! Passes: rewrites of the graph that hold for every shape. They run once, when a model meets a device, and must not change
//! what the reference computes. `verify` runs after each.
//!
//! Fusion into kernels is no pass: it needs shapes, and belongs to planning.

mod batch_norm;
mod bias;
mod blocks;
mod concat;
mod dead_code;
mod fold;
mod identity;
mod inline;
mod integers;
mod normalize;
mod pad;
mod pattern;
mod phases;
mod scales;
mod selection;
mod sink;
mod spelled;
mod tables;
#[cfg(test)]
mod tests;
mod transpose;
mod zeros;

use std::collections::HashMap;

use crate::budget::{Budget, Limits};
use crate::graph::ValueId;
use crate::ops::{Graph, composed};
use crate::{Result, heap};

/// A pass returns whether it changed anything.
type Pass = fn(&mut Graph, &Budget) -> Result<bool>;

const PASSES: &[(&str, Pass)] = &[
    // Before weights become floats.
    ("integers", integers::run),
    ("zeros", zeros::run),
    ("blocks", blocks::run),
    ("scales", |graph, _| scales::run(graph)),
    ("fold", fold::run),
    ("inline", inline::run),
    ("identity", |graph, _| identity::run(graph)),
    ("pad", |graph, _| pad::run(graph)),
    ("bias", |graph, _| bias::run(graph)),
    ("batch_norm", |graph, _| batch_norm::run(graph)),
    ("normalize", |graph, _| normalize::run(graph)),
    // After those that know transposed convolutions.
    ("phases", phases::run),
    ("concat", |graph, _| concat::run(graph)),
    ("selection", |graph, _| selection::run(graph)),
    ("tables", tables::run),
    ("sink", |graph, _| sink::run(graph)),
    ("transpose", |graph, _| transpose::run(graph)),
    ("dead_code", |graph, _| dead_code::run(graph)),
];

/// The most rounds of all passes: one pass may enable another, but not forever.
const MAX_ROUNDS: usize = 3;

/// Runs all passes, until none changes anything.
pub(crate) fn run(graph: Graph, limits: &Limits) -> Result<Graph> {
    run_within(graph, &Budget::new(limits))
}

/// As `run`, where several graphs share what their passes may cost.
pub(crate) fn run_within(mut graph: Graph, budget: &Budget) -> Result<Graph> {
    // Passes may fold the values of defaults into others, so the caller can no longer replace them.
    graph.defaults.clear();
    // First, so that all passes see the nodes of which such an operator consists.
    composed::expand(&mut graph)?;
    graph.verify()?;
    for _ in 0..MAX_ROUNDS {
        let mut changed = false;
        for (name, pass) in PASSES {
            heap::ask(
                format_args!("the pass '{name}'"),
                heap::of_graph(graph.nodes.len(), graph.values.len()),
            )?;
            changed |= pass(&mut graph, budget)?;
            graph.verify()?;
        }
        if !changed {
            break;
        }
    }
    Ok(graph)
}

/// Values that others are to replace. One walk over the graph replaces all of them.
#[derive(Default)]
struct Replacements(HashMap<ValueId, ValueId>);

impl Replacements {
    /// `new` is to replace `old`. If another value is to replace `new` as well, that has been added before.
    fn add(&mut self, old: ValueId, new: ValueId) {
        self.0.insert(old, self.of(new));
    }

    /// The value that replaces `id`; `id` itself if none does.
    fn of(&self, id: ValueId) -> ValueId {
        self.0.get(&id).copied().unwrap_or(id)
    }

    /// Replaces every use, also as a graph output. Returns whether there was anything to replace.
    fn apply(self, graph: &mut Graph) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let inputs = graph.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().flatten());
        inputs.chain(&mut graph.outputs).for_each(|id| *id = self.of(*id));
        true
    }
}
