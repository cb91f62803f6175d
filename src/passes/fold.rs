//! Computes nodes whose inputs are all constants, with the reference. A budget keeps a small model from becoming a large or a
//! slow one: what it does not pay for is computed by each run.

use std::collections::HashMap;

use super::pattern::normalized;
use crate::Result;
use crate::Tensor;
use crate::array::{Array, longest};
use crate::budget::{Budget, Work};
use crate::error::{Why, refuse};
use crate::facts::{Fact, check_sizes, node_error, texts};
use crate::graph::ValueId;
use crate::ops::{Attributes, Graph, Maps, Node, Op};

pub(super) fn run(graph: &mut Graph, budget: &Budget) -> Result<bool> {
    let mut changed = false;
    let mut kept = Vec::with_capacity(graph.nodes.len());
    let mut repeated = HashMap::new();
    let packed = packed(graph);
    for node in std::mem::take(&mut graph.nodes) {
        let constant = node.inputs.iter().flatten().all(|id| graph.value(*id).constant.is_some());
        let draws = node.op.operator().draws();
        let packs = node.outputs.first().copied().flatten().is_some_and(|id| packed[id.index()]);
        let folded = constant && !draws && !packs && !matches!(*node.op, Op::Unsupported(_));
        // A node that refuses its inputs stays, and planning reports it.
        match folded.then(|| fold(graph, &node, budget)) {
            Some(Ok(tensors)) => {
                for (id, tensor) in node.outputs.iter().zip(tensors) {
                    if let Some(id) = id {
                        graph.set_constant(*id, tensor);
                    }
                }
                changed = true;
                continue;
            }
            Some(Err(none @ Why::NoMemory(_))) => return Err(node_error(&node, &[], none)),
            Some(Err(Why::Refused(_) | Why::TooWide(_))) | None => {}
        }
        let node = match repeats(graph, &node, &repeated, budget) {
            Ok(expand) => {
                changed = true;
                expand
            }
            Err(Why::Refused(_) | Why::TooWide(_)) => node,
            Err(none) => return Err(node_error(&node, &[], none)),
        };
        if let (Op::Expand(_), &[Some(element), Some(shape)], &[Some(output)]) =
            (&*node.op, &node.inputs[..], &node.outputs[..])
        {
            let constant = |id| graph.value(id).constant.as_ref();
            if constant(element).is_some_and(|element| element.len() == 1) && constant(shape).is_some() {
                repeated.insert(output, Repeated { element, shape });
            }
        }
        kept.push(node);
    }
    graph.nodes = kept;
    Ok(changed)
}

/// The most elements of a constant of which folding makes another with more bits, or the same elements in another order,
/// although the readers could pack it from where it lies.
pub(super) const FEW: usize = 1024;

/// For each value, whether it stays in the graph although it follows from constants alone: its elements are those of a large
/// constant, moved or in a wider dtype, and all its readers pack them from where that constant lies.
fn packed(graph: &Graph) -> Vec<bool> {
    let constant = |id: ValueId| graph.value(id).constant.as_ref();
    let mut fixed: Vec<bool> = graph.values.iter().map(|value| value.constant.is_some()).collect();
    let mut lies = vec![false; graph.values.len()];
    for node in &graph.nodes {
        if let Some((input, output)) = rearranged(graph, node)
            && (lies[input.index()] || constant(input).is_some_and(|tensor| tensor.len() > FEW))
        {
            (lies[output.index()], fixed[output.index()]) = (true, true);
        }
    }
    if !lies.contains(&true) {
        return lies;
    }
    graph.outputs.iter().for_each(|id| lies[id.index()] = false);
    let normalized = normalized(graph);
    for node in graph.nodes.iter().rev() {
        let moves = rearranged(graph, node).filter(|(_, output)| fixed[output.index()]);
        let computes = !node.inputs.iter().flatten().all(|id| fixed[id.index()])
            && !node.outputs.iter().flatten().any(|id| normalized[id.index()]);
        for (i, id) in node.inputs.iter().enumerate().filter_map(|(i, id)| Some((i, (*id)?))) {
            lies[id.index()] &= match moves {
                Some((input, output)) => input == id && lies[output.index()],
                None => computes && node.op.operator().packs(i),
            };
        }
    }
    // Where a row of these nodes begins with one that is folded, all are.
    for (input, output) in graph.nodes.iter().filter_map(|node| rearranged(graph, node)) {
        lies[output.index()] &= lies[input.index()] || constant(input).is_some();
    }
    lies
}

/// Input and output of a node that moves elements, or widens those of a constant, in the same way in all runs.
fn rearranged(graph: &Graph, node: &Node) -> Option<(ValueId, ValueId)> {
    let (&[Some(output)], (&first, others)) = (&node.outputs[..], node.inputs.split_first()?) else {
        return None;
    };
    let input = first?;
    let constant = |id: ValueId| graph.value(id).constant.as_ref();
    let fact = constant(input).map(|tensor| Fact::new(tensor.dtype(), tensor.shape()));
    let rearranges = node.op.operator().moves_elements() || node.widens_constant(graph, &[fact.as_ref()]);
    let same = others.iter().flatten().all(|id| constant(*id).is_some());
    (rearranges && same).then_some((input, output))
}

/// The inputs of an Expand of one element. Both are constants.
#[derive(Clone, Copy)]
struct Repeated {
    element: ValueId,
    shape: ValueId,
}

/// The Expand of one element that takes the place of a node over budget: of a ConstantOfShape, or of an operator that maps
/// such an Expand. Kernels read the element, and packed weights are made of it part by part, so that nobody holds the array as
/// a whole.
fn repeats(
    graph: &mut Graph,
    node: &Node,
    repeated: &HashMap<ValueId, Repeated>,
    budget: &Budget,
) -> Result<Node, Why> {
    let &[Some(output)] = &node.outputs[..] else { refuse!("it has several results") };
    let (element, shape) = match (&*node.op, &node.inputs[..]) {
        (Op::ConstantOfShape(operator), &[Some(shape)]) => {
            let facts = facts(node, &[graph.value(shape).constant.as_ref()], budget)?;
            node.op.infer(&facts.iter().map(Option::as_ref).collect::<Vec<_>>())?;
            (operator.value.to_tensor()?.reshaped(&[])?, shape)
        }
        _ => mapped(graph, node, repeated, budget)?,
    };
    let inputs = vec![Some(ValueId(graph.values.len() as u32)), Some(shape)];
    let names = (node.name.clone(), "Expand".to_string(), node.opset);
    let expand = Node::parse(names, Attributes::default(), inputs, (vec![Some(output)], &[true]))?;
    // An Expand takes fewer dtypes than other operators make.
    let facts = facts(&expand, &[Some(&element), graph.value(shape).constant.as_ref()], budget)?;
    expand.op.infer(&facts.iter().map(Option::as_ref).collect::<Vec<_>>())?;
    graph.add_constant(format!("{}.element", graph.value(output).name), element);
    Ok(expand)
}

/// The element and the shape of what an operator makes of a repeated element and of scalars.
fn mapped(
    graph: &Graph,
    node: &Node,
    repeated: &HashMap<ValueId, Repeated>,
    budget: &Budget,
) -> Result<(Tensor, ValueId), Why> {
    let maps = node.op.operator().maps();
    let of = |input: &Option<ValueId>| input.and_then(|id| repeated.get(&id)).copied();
    let found = node.inputs.iter().enumerate().find_map(|(i, input)| Some((i, of(input)?)));
    let Some((i, Repeated { element, shape })) = found.filter(|(i, _)| maps == Maps::Any || *i == 0) else {
        refuse!("it maps no repeated element")
    };
    let constant = |id: ValueId| graph.value(id).constant.as_ref();
    let (Some(before), Some(sizes)) = (constant(element), constant(shape)) else { refuse!("no constant") };
    let rank = if maps == Maps::FirstByAxis { 0 } else { sizes.len() };
    let scalar = |id: ValueId| constant(id).is_some_and(|one| one.len() == 1 && one.shape().len() <= rank);
    let others = || node.inputs.iter().enumerate().filter(|(other, _)| *other != i);
    if maps == Maps::Nothing || !others().all(|(_, other)| other.is_none_or(scalar)) {
        refuse!("its elements may differ");
    }
    let mut single = node.clone();
    single.inputs[i] = Some(element);
    match &fold(graph, &single, budget)?[..] {
        [after] => Ok((after.reshaped(before.shape())?, shape)),
        _ => refuse!("it has several results"),
    }
}

/// The node's outputs.
fn fold(graph: &Graph, node: &Node, budget: &Budget) -> Result<Vec<Tensor>, Why> {
    let inputs: Vec<Option<&Tensor>> =
        node.inputs.iter().map(|input| input.and_then(|id| graph.value(id).constant.as_ref())).collect();
    let facts = facts(node, &inputs, budget)?;
    let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let operator = node.op.operator();
    let outputs = node.op.infer(&facts)?;
    check_sizes(&outputs)?;
    let longest = inputs.iter().flatten().filter_map(|tensor| tensor.strings()).map(longest).max();
    let kept = outputs.iter().map(|fact| fact.dtype.bytes_of(fact.count()).unwrap_or(usize::MAX) as u64);
    let kept = kept.chain([texts(&outputs, longest.unwrap_or(0))]).fold(0, u64::saturating_add);
    budget.charge(operator.work(&facts, &outputs)?, kept)?;
    let arrays = inputs.iter().map(|input| input.map(Array::from_tensor).transpose());
    let arrays: Vec<Option<Array>> = arrays.collect::<Result<_, _>>()?;
    let arrays: Vec<Option<&Array>> = arrays.iter().map(Option::as_ref).collect();
    operator.eval(&arrays)?.iter().map(Array::to_tensor).collect()
}

/// The facts of a node's inputs, with the values that its inference needs.
fn facts(node: &Node, inputs: &[Option<&Tensor>], budget: &Budget) -> Result<Vec<Option<Fact>>, Why> {
    let operator = node.op.operator();
    let fact = |tensor: &Tensor| Fact::new(tensor.dtype(), tensor.shape());
    let operands = operator.shape_operands();
    let by_value = |i: usize| operands.contains(&i) || operator.shapes_depend_on_data();
    let read = inputs.iter().enumerate().filter(|(i, _)| by_value(*i)).filter_map(|(_, tensor)| *tensor);
    budget.charge(read.map(|tensor| Work::array(tensor.dtype(), tensor.shape())).sum(), 0)?;
    if operator.shapes_depend_on_data() {
        let facts: Vec<Option<Fact>> = inputs.iter().map(|tensor| tensor.map(fact)).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        budget.charge(operator.work(&facts, &[])?, 0)?;
    }
    let known = |(i, tensor): (usize, &Option<&Tensor>)| match tensor {
        None => Ok(None),
        Some(tensor) if by_value(i) => Array::from_tensor(tensor).map(|array| Some(Fact::of_array(array))),
        Some(tensor) => Ok(Some(fact(tensor))),
    };
    inputs.iter().enumerate().map(known).collect()
}
