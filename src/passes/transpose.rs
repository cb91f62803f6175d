//! Merges a transpose with the transpose before it, and removes transposes that change nothing.

use super::Replacements;
use crate::Result;
use crate::ops::{Attr, Graph, Op};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let mut changed = false;
    let (producers, uses) = (graph.producers(), graph.use_counts());
    let mut replaced = Replacements::default();
    for n in 0..graph.nodes.len() {
        let node = &graph.nodes[n];
        let (Op::Transpose(op), [Some(input)], [Some(output)]) =
            (&*node.op, &node.inputs[..], &node.outputs[..])
        else {
            continue;
        };
        let (input, output) = (replaced.of(*input), *output);
        let Some(perm) = op.fixed_perm() else { continue };
        if perm.iter().enumerate().all(|(i, &axis)| i == axis) {
            if uses[output.index()] > 0 {
                replaced.add(output, input);
            }
            continue;
        }
        let before = producers[input.index()].map(|id| &graph.nodes[id.index()]);
        let Some((Op::Transpose(first), [Some(source)])) = before.map(|node| (&*node.op, &node.inputs[..]))
        else {
            continue;
        };
        let Some(first) = first.fixed_perm().filter(|first| first.len() == perm.len()) else { continue };
        let source = replaced.of(*source);
        let merged = perm.iter().map(|&axis| first[axis] as i64).collect();
        let node = &mut graph.nodes[n];
        node.inputs = vec![Some(source)];
        node.set_attributes([("perm", Attr::Ints(merged))])?;
        changed = true;
    }
    Ok(replaced.apply(graph) | changed)
}
