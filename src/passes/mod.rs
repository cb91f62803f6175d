//! Passes: rewrites of the graph that hold for every shape, made once when a model meets a device. What they may not
//! change is what the reference computes. `verify` runs after each.
//!
//! Fusion into kernels is not here: it needs shapes, and belongs to planning.

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

/// Rounds of all passes: one pass may make room for another, but never forever.
const MAX_ROUNDS: usize = 3;

/// Runs all passes until none changes anything.
pub(crate) fn run(mut graph: Graph) -> Result<Graph> {
    // What they are may be folded into others.
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

/// Makes every use of `old`, as a graph output too, a use of `new`.
fn replace_uses(graph: &mut Graph, old: ValueId, new: ValueId) {
    let inputs = graph.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().flatten());
    for id in inputs.chain(&mut graph.outputs).filter(|id| **id == old) {
        *id = new;
    }
}
