//! Concatenates the parts of an inner concatenation directly, where it is a part of another along the same axis.

use super::pattern::Pattern;
use crate::Result;
use crate::ops::{Graph, Op};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let mut changed = false;
    for n in 0..graph.nodes.len() {
        let Op::Concat(outer) = &graph.nodes[n].op else { continue };
        let pattern = Pattern::of(graph);
        let mut parts = Vec::new();
        for &part in &graph.nodes[n].inputs {
            let inner = part.and_then(|id| pattern.only(id)).map(|(_, node)| node);
            match inner.map(|node| (&node.op, &node.inputs)) {
                Some((Op::Concat(op), inner)) if op.axis() == outer.axis() => parts.extend(inner),
                _ => parts.push(part),
            }
        }
        if parts.len() > graph.nodes[n].inputs.len() {
            graph.nodes[n].inputs = parts;
            changed = true;
        }
    }
    Ok(changed)
}
