//! Concatenates the parts of an inner concatenation directly, where it is a part of another along the same axis.

use super::pattern::Pattern;
use crate::Result;
use crate::graph::ValueId;
use crate::ops::{Graph, Op};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let pattern = Pattern::of(graph);
    let mut absorbed = vec![false; graph.nodes.len()];
    let mut joined = Vec::new();
    // The outermost come first, so that each part is looked at once, however deep it is.
    for n in (0..graph.nodes.len()).rev() {
        let Op::Concat(outer) = &*graph.nodes[n].op else { continue };
        if absorbed[n] {
            continue;
        }
        let parts = parts(&pattern, (n, outer.axis()), &mut absorbed);
        if parts.len() > graph.nodes[n].inputs.len() {
            joined.push((n, parts));
        }
    }
    let changed = !joined.is_empty();
    joined.into_iter().for_each(|(n, parts)| graph.nodes[n].inputs = parts);
    Ok(changed)
}

/// The parts of concatenation `n`, and in their places the parts of those that only it uses.
fn parts(pattern: &Pattern, (n, axis): (usize, i64), absorbed: &mut [bool]) -> Vec<Option<ValueId>> {
    let mut waiting: Vec<Option<ValueId>> = pattern.graph.nodes[n].inputs.iter().rev().copied().collect();
    let mut parts = Vec::with_capacity(waiting.len());
    while let Some(part) = waiting.pop() {
        match part.and_then(|id| pattern.only(id)).map(|(inner, node)| (inner, &*node.op, &node.inputs)) {
            Some((inner, Op::Concat(op), inputs)) if op.axis() == axis => {
                absorbed[inner] = true;
                waiting.extend(inputs.iter().rev());
            }
            _ => parts.push(part),
        }
    }
    parts
}
