//! Removes nodes that return their input: `Identity`, `Dropout` in inference, casts to the same dtype.

use super::replace_uses;
use crate::Result;
use crate::ops::Graph;

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let mut changed = false;
    for n in 0..graph.nodes.len() {
        let node = &graph.nodes[n];
        let [Some(input), ..] = node.inputs[..] else { continue };
        let [Some(output), ref others @ ..] = node.outputs[..] else { continue };
        if others.iter().flatten().count() == 0 && node.op.operator().passes_input_on() && input != output {
            let used = graph.use_counts()[output.index()] > 0;
            replace_uses(graph, output, input);
            changed |= used;
        }
    }
    Ok(changed)
}
