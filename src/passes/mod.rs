//! Passes: rewrites of the graph that hold for every shape. They run once, when a model meets a device, and must not change
//! what the reference computes. `verify` runs after each.
//!
//! Fusion into kernels is no pass: it needs shapes, and belongs to planning.

mod batch_norm;
mod bias;
mod concat;
mod dead_code;
mod fold;
mod identity;
mod normalize;
mod pad;
mod pattern;
mod sink;
#[cfg(test)]
mod tests;
mod transpose;

use crate::Result;
use crate::graph::ValueId;
use crate::ops::Graph;

/// A pass returns whether it changed anything.
type Pass = fn(&mut Graph) -> Result<bool>;

const PASSES: &[(&str, Pass)] = &[
    ("fold", fold::run),
    ("identity", identity::run),
    ("pad", pad::run),
    ("bias", bias::run),
    ("batch_norm", batch_norm::run),
    ("normalize", normalize::run),
    ("concat", concat::run),
    ("sink", sink::run),
    ("transpose", transpose::run),
    ("dead_code", dead_code::run),
];

/// The most rounds of all passes: one pass may enable another, but not forever.
const MAX_ROUNDS: usize = 3;

/// Runs all passes, until none changes anything.
pub(crate) fn run(mut graph: Graph) -> Result<Graph> {
    // Passes may fold the values of defaults into others, so the caller can no longer replace them.
    graph.defaults.clear();
    for _ in 0..MAX_ROUNDS {
        let mut changed = false;
        for (_, pass) in PASSES {
            changed |= pass(&mut graph)?;
            graph.verify()?;
        }
        if !changed {
            break;
        }
    }
    Ok(graph)
}

/// Makes every use of `old`, also as a graph output, a use of `new`.
fn replace_uses(graph: &mut Graph, old: ValueId, new: ValueId) {
    let inputs = graph.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().flatten());
    for id in inputs.chain(&mut graph.outputs).filter(|id| **id == old) {
        *id = new;
    }
}
