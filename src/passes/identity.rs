//! Removes nodes that return their input: `Identity`, `Dropout` in inference, casts to the same dtype.

use super::Replacements;
use crate::Result;
use crate::ops::Graph;

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let uses = graph.use_counts();
    let mut replaced = Replacements::default();
    for node in &graph.nodes {
        let [Some(input), ..] = node.inputs[..] else { continue };
        let [Some(output), ref others @ ..] = node.outputs[..] else { continue };
        let alone = others.iter().flatten().count() == 0;
        if alone && uses[output.index()] > 0 && node.op.operator().passes_input_on() {
            replaced.add(output, input);
        }
    }
    Ok(replaced.apply(graph))
}
