//! Spells out the operators whose results have as many elements as the data say, so that a device computes everything but the
//! number of elements: the host reads that, and plans what follows for it.

use crate::Result;
use crate::facts::node_error;
use crate::graph::ValueId;
use crate::ops::{Graph, Node, composed};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let planned = graph.planned_values(|_| false, |n| !graph.nodes[n].runs_subgraphs());
    let depends = |id: ValueId| !planned[id.index()];
    let chooses = |node: &Node| !node.op.operator().counted().is_empty();
    let kinds = if graph.nodes.iter().any(chooses) { graph.kinds() } else { Vec::new() };
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    let mut changed = false;
    for node in std::mem::take(&mut graph.nodes) {
        let counted = node.op.operator().counted();
        let mut counted = counted.iter().filter_map(|&i| node.inputs.get(i).copied().flatten());
        // The host runs a node on strings as it is.
        if !counted.any(depends) || node.runs_on_host(&kinds) {
            nodes.push(node);
            continue;
        }
        changed = true;
        let spelled = composed::written(graph, &node, |body| node.op.operator().spelled(body));
        nodes.append(&mut spelled.map_err(|why| node_error(&node, &[], why))?);
    }
    graph.nodes = nodes;
    Ok(changed)
}
