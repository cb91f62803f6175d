//! Removes nodes whose outputs nobody uses. Values stay, so that ids do; unused constants let go of their elements.

use crate::Result;
use crate::graph::Graph;

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let mut used = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|id| used[id.index()] = true);
    let mut alive = vec![false; graph.nodes.len()];
    for (node, alive) in graph.nodes.iter().zip(&mut alive).rev() {
        *alive = node.outputs.iter().flatten().any(|id| used[id.index()]);
        if *alive {
            node.inputs.iter().flatten().for_each(|id| used[id.index()] = true);
        }
    }
    for (value, used) in graph.values.iter_mut().zip(&used) {
        if !used {
            value.constant = None;
        }
    }
    let before = graph.nodes.len();
    let mut alive = alive.into_iter();
    graph.nodes.retain(|_| alive.next().unwrap_or(true));
    Ok(graph.nodes.len() != before)
}
