//! Puts the nodes of subgraphs in the place of nodes that, as constants say, run them at most once: an `If` whose condition is
//! known, a `Loop` of one iteration or of none. What is left has no cut there.

use crate::Result;
use crate::budget::Budget;
use crate::facts::node_error;
use crate::ops::{Graph, Node};

pub(super) fn run(graph: &mut Graph, budget: &Budget) -> Result<bool> {
    if !graph.nodes.iter().any(Node::runs_subgraphs) {
        return Ok(false);
    }
    let mut changed = false;
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    let mut left = std::mem::take(&mut graph.nodes);
    left.reverse();
    while let Some(node) = left.pop() {
        match node.inlined(graph, budget).map_err(|why| node_error(&node, &[], why))? {
            Some(inner) => {
                left.extend(inner.into_iter().rev());
                changed = true;
            }
            None => nodes.push(node),
        }
    }
    graph.nodes = nodes;
    Ok(changed)
}
