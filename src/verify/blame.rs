//! Why an output is off although every node is right by itself.

use std::collections::HashSet;

use super::Followed;
use super::errors::{allowed, compare, within};
use super::judge::Made;
use super::report::{Cause, Tolerances, ValueError};
use crate::graph::ValueId;
use crate::ops::Graph;

/// Why output `i` of a normal run is off although every node is right by itself.
pub(super) fn blame(
    alone: &Followed,
    followed: &[Made],
    fused: &Followed,
    judged: &[Made],
    (i, output): (usize, &ValueError),
    tolerances: Tolerances,
) -> Option<(Cause, ValueError)> {
    let (own, other) = (*alone.graph.outputs.get(i)?, *fused.graph.outputs.get(i)?);
    let explained = |origin: &Made| {
        let cause = if origin.steps { Cause::Flip } else { Cause::Accumulated };
        (cause, origin.value.clone())
    };
    // A run node by node shows the most. In a fused run, roundings happen at other places, and lead to errors of the same
    // size.
    let alone_origin = origin(&alone.graph, followed, own, tolerances.output);
    if output.relative_error <= 2.0 * output.accumulated_error
        && let Some(origin) = alone_origin
    {
        return Some(explained(origin));
    }
    if let Some(made) = judged.iter().find(|made| !made.value.is_right_alone(tolerances)) {
        return Some((Cause::Fused, made.value.clone()));
    }
    let (expected, rewritten) = (alone.expected.get(own)?, fused.expected.get(other)?.to_tensor().ok()?);
    let off = compare(&[expected], &rewritten, tolerances.output, 0.0).ok()?;
    let off = off.into_value(None, &alone.graph.value(own).name, expected);
    if !off.is_right_output(tolerances) {
        return Some((Cause::Rewritten, off));
    }
    alone_origin.or_else(|| origin(&fused.graph, judged, other, tolerances.output)).map(explained)
}

/// The first value beyond the tolerance on the way to `output`, if that is off. All values that its node reads are within it.
fn origin<'a>(graph: &Graph, made: &'a [Made], output: ValueId, tolerance: f64) -> Option<&'a Made> {
    let off = |made: &&Made| !within(made.value.accumulated_error, allowed(tolerance, made.value.dtype));
    made.iter().find(|made| made.id == output).filter(off)?;
    let mut needed = HashSet::from([output]);
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().flatten().any(|id| needed.contains(id)) {
            needed.extend(node.inputs.iter().flatten());
        }
    }
    made.iter().find(|made| needed.contains(&made.id) && off(made))
}
