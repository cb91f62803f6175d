//! Moves operators on single elements to before the transposes and reshapes that precede them: to the operator whose kernel
//! can take them as an epilogue.

use super::pattern::{Links, MOST_MOVERS, Pattern};
use crate::Result;
use crate::graph::{NodeId, Value, ValueId};
use crate::ops::{Graph, Maps, NEWEST_OPSET, Node};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let mut links = Links::of(graph);
    let count = graph.nodes.len();
    let mut order = Vec::with_capacity(count);
    for n in 0..count {
        let copies = graph.nodes.len();
        loop {
            let pattern = Pattern { graph, links };
            let before = mover(&pattern, n);
            links = pattern.links;
            match before {
                Some(before) => swap(graph, &mut links, before, n)?,
                None => break,
            }
        }
        order.push(n);
        // The mover that the operator passed last follows it first.
        order.extend((copies..graph.nodes.len()).rev());
    }
    if graph.nodes.len() == count {
        return Ok(false);
    }
    let mut nodes: Vec<Option<Node>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
    graph.nodes = order.into_iter().filter_map(|n| nodes[n].take()).collect();
    Ok(true)
}

/// The node before operator `n`, if it moves elements of a value whose kernel can take the operator as an epilogue.
fn mover(pattern: &Pattern, n: usize) -> Option<usize> {
    let node = &pattern.graph.nodes[n];
    let (before, mover) = pattern.only_data(mapped(pattern, node)?)?;
    let mut source = mover;
    for _ in 0..=MOST_MOVERS {
        if !source.op.operator().moves_elements() {
            let operator = source.op.operator();
            let fuses = operator.takes_epilogue() || operator.maps() != Maps::Nothing;
            return (mover.op.operator().moves_elements() && fuses).then_some(before);
        }
        source = pattern.only_data(source.inputs.first().copied().flatten()?)?.1;
    }
    None
}

/// The input whose elements the operator maps, if all other inputs are scalars.
fn mapped(pattern: &Pattern, node: &Node) -> Option<ValueId> {
    let [Some(result)] = node.outputs[..] else { return None };
    let maps = node.op.operator().maps();
    if maps == Maps::Nothing || pattern.links.data_uses[result.index()] == 0 {
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

/// Exchanges operator `n` and the mover `before` it, of which a copy is added at the end of the nodes. A use of the mover's
/// shape still gets that shape. The value that is moved may have fewer axes than the result, so the operator's scalars lose
/// axes.
fn swap(graph: &mut Graph, links: &mut Links, before: usize, n: usize) -> Result<()> {
    // Names of values are unique, those of nodes need not be.
    let result = graph.nodes[n].outputs[0].map_or(String::new(), |id| graph.value(id).name.clone());
    for i in 0..graph.nodes[n].inputs.len() {
        let Some(id) = graph.nodes[n].inputs[i] else { continue };
        let Value { constant: Some(constant), .. } = graph.value(id) else { continue };
        if !constant.shape().is_empty() {
            let scalar = constant.reshaped(&[])?;
            let name = format!("{result}.scalar{i}");
            graph.nodes[n].inputs[i] = Some(graph.add_constant(name, scalar));
            links.add(None);
        }
    }
    let name = format!("{result}.moved");
    let inner = graph.add_value(Value { name, ..Value::default() });
    links.add(Some(NodeId(n as u32)));
    let mut mover = graph.nodes[before].clone();
    let (Some(moved), Some(source)) = (mover.outputs[0], mover.inputs[0]) else { return Ok(()) };
    let operator = &mut graph.nodes[n];
    for input in operator.inputs.iter_mut().filter(|input| **input == Some(moved)) {
        *input = Some(source);
    }
    mover.outputs[0] = operator.outputs[0].replace(inner);
    // The operator may make a dtype that only later versions move; since 13, these differ in nothing else.
    if mover.opset >= 13 {
        mover.opset = mover.opset.max(NEWEST_OPSET);
        mover.set_attributes([])?;
    }
    mover.inputs[0] = Some(inner);
    // Nothing needs the elements of `moved` any more, so the copy's uses of elements take the place of the mover's.
    links.uses[moved.index()] -= 1;
    links.data_uses[moved.index()] -= 1;
    links.uses[source.index()] += 1;
    mover.inputs[1..].iter().flatten().for_each(|id| links.uses[id.index()] += 1);
    let copy = NodeId(graph.nodes.len() as u32);
    mover.outputs.iter().flatten().for_each(|id| links.producers[id.index()] = Some(copy));
    graph.nodes.push(mover);
    Ok(())
}
