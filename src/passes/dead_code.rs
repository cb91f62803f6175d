//! Removes nodes whose outputs nothing uses. Their values stay, so that ids do; unused constants free their elements.

use crate::Result;
use crate::ops::Graph;

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let needed = graph.needed();
    for (value, needed) in graph.values.iter_mut().zip(&needed) {
        if !needed {
            value.constant = None;
        }
    }
    let before = graph.nodes.len();
    graph.nodes.retain(|node| node.outputs.iter().flatten().any(|id| needed[id.index()]));
    Ok(graph.nodes.len() != before)
}
