//! Moves operators on single elements to before the transposes and reshapes that precede them: to the operator whose kernel
//! can take them as an epilogue.

use super::pattern::Pattern;
use crate::Result;
use crate::graph::{Value, ValueId};
use crate::ops::{Graph, Maps, Node};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let mut changed = false;
    let mut from = 0;
    let next = |graph: &Graph, from: usize| {
        let pattern = Pattern::of(graph);
        (from..graph.nodes.len()).find_map(|n| Some((mover(&pattern, n)?, n)))
    };
    while let Some((before, n)) = next(graph, from) {
        swap(graph, before, n)?;
        // The operator may move further.
        (from, changed) = (n, true);
    }
    Ok(changed)
}

/// The node before operator `n`, if it moves elements of a value whose kernel can take the operator as an epilogue.
fn mover(pattern: &Pattern, n: usize) -> Option<usize> {
    let node = &pattern.graph.nodes[n];
    let (before, mover) = pattern.only_data(mapped(pattern, node)?)?;
    let mut source = mover;
    while source.op.operator().moves_elements() {
        source = pattern.only_data(source.inputs.first().copied().flatten()?)?.1;
    }
    let operator = source.op.operator();
    let fuses = operator.takes_epilogue() || operator.maps() != Maps::Nothing;
    (mover.op.operator().moves_elements() && fuses).then_some(before)
}

/// The input whose elements the operator maps, if all other inputs are scalars.
fn mapped(pattern: &Pattern, node: &Node) -> Option<ValueId> {
    let [Some(_)] = node.outputs[..] else { return None };
    let maps = node.op.operator().maps();
    if maps == Maps::Nothing {
        return None;
    }
    let constant = |id: &ValueId| pattern.graph.value(*id).constant.is_some();
    let (others, mapped): (Vec<ValueId>, Vec<ValueId>) =
        node.inputs.iter().flatten().partition(|id| constant(id));
    let [mapped] = mapped[..] else { return None };
    if maps != Maps::Any && node.inputs.first() != Some(&Some(mapped)) {
        return None;
    }
    let rank = if maps == Maps::FirstByAxis { 0 } else { pattern.least_rank(mapped) };
    others.iter().all(|&id| pattern.scalar(id, rank).is_some()).then_some(mapped)
}

/// Exchanges operator `n` and the mover `before` it. A use of the mover's shape still gets that shape. The value that is moved
/// may have fewer axes than the result, so the operator's scalars lose axes.
fn swap(graph: &mut Graph, before: usize, n: usize) -> Result<()> {
    // Names of values are unique, those of nodes need not be.
    let result = graph.nodes[n].outputs[0].map_or(String::new(), |id| graph.value(id).name.clone());
    for i in 0..graph.nodes[n].inputs.len() {
        let Some(id) = graph.nodes[n].inputs[i] else { continue };
        let Value { constant: Some(constant), .. } = graph.value(id) else { continue };
        if !constant.shape().is_empty() {
            let scalar = constant.reshaped(&[])?;
            let name = format!("{result}.scalar{i}");
            graph.nodes[n].inputs[i] = Some(graph.add_constant(name, scalar));
        }
    }
    let name = format!("{result}.moved");
    let inner = graph.add_value(Value { name, ..Value::default() });
    let mut mover = graph.nodes[before].clone();
    let operator = &mut graph.nodes[n];
    for input in operator.inputs.iter_mut().filter(|input| **input == mover.outputs[0]) {
        *input = mover.inputs[0];
    }
    mover.outputs[0] = operator.outputs[0].replace(inner);
    mover.inputs[0] = Some(inner);
    graph.nodes.insert(n + 1, mover);
    Ok(())
}
