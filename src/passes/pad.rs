//! Lets a convolution do the padding with zeros of the Pad before it.

use super::pattern::Pattern;
use crate::Result;
use crate::graph::ValueId;
use crate::ops::{Attr, Graph, Op};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let pattern = Pattern::of(graph);
    let found: Vec<(usize, (Vec<i64>, ValueId))> =
        (0..graph.nodes.len()).filter_map(|n| Some((n, padded(&pattern, n)?))).collect();
    let changed = !found.is_empty();
    for (n, (pads, unpadded)) in found {
        let node = &mut graph.nodes[n];
        node.inputs[0] = Some(unpadded);
        node.set_attributes([("auto_pad", Attr::String("NOTSET".into())), ("pads", Attr::Ints(pads))])?;
    }
    Ok(changed)
}

/// The pads of convolution `n` together with those of the Pad before it, and the value that is padded, if nothing else uses
/// the Pad.
fn padded(pattern: &Pattern, n: usize) -> Option<(Vec<i64>, ValueId)> {
    let graph = pattern.graph;
    let Op::Conv(conv) = &*graph.nodes[n].op else { return None };
    let &[Some(x), Some(weights), ..] = &graph.nodes[n].inputs[..] else { return None };
    let (_, before) = pattern.only(x)?;
    let Op::Pad(pad) = &*before.op else { return None };
    let rank = graph.value(weights).constant.as_ref()?.shape().len();
    let input = |i: usize| before.inputs.get(i).copied().flatten();
    // An input that is no constant is not known here.
    let list = |i: usize| input(i).map_or(Some(None), |id| pattern.integers(id).map(Some));
    let fill = input(2).map_or(Some(None), |id| pattern.number(id).map(Some))?;
    let ends = pad.zeros(rank, [list(1)?, list(3)?], fill)?;
    let (&[(0, 0), (0, 0)], space) = ends.split_first_chunk::<2>()? else { return None };
    Some((conv.padded(space)?, input(0)?))
}
