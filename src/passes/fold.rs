//! Computes nodes whose inputs are all constants, with the reference. A budget keeps a small model from becoming a large or a
//! slow one: what it does not pay for is computed by each run.

use crate::Result;
use crate::Tensor;
use crate::array::{Array, longest};
use crate::budget::{Budget, Work};
use crate::error::{Why, refuse};
use crate::facts::{Fact, check_sizes, node_error, texts};
use crate::graph::ValueId;
use crate::ops::{Attributes, Graph, Node, Op};

pub(super) fn run(graph: &mut Graph, budget: &Budget) -> Result<bool> {
    let mut changed = false;
    let mut kept = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes) {
        let constant = node.inputs.iter().flatten().all(|id| graph.value(*id).constant.is_some());
        let folded = constant && !matches!(*node.op, Op::Unsupported(_));
        // A node that refuses its inputs stays, and planning reports it.
        match folded.then(|| fold(graph, &node, budget)) {
            Some(Ok(tensors)) => {
                for (id, tensor) in node.outputs.iter().zip(tensors) {
                    if let Some(id) = id {
                        graph.set_constant(*id, tensor);
                    }
                }
                changed = true;
            }
            Some(Err(Why::Refused(_))) => match spread(graph, &node, budget) {
                Ok(spread) => {
                    changed = true;
                    kept.push(spread);
                }
                Err(Why::Refused(_)) => kept.push(node),
                Err(none) => return Err(node_error(&node, &[], none)),
            },
            Some(Err(none)) => return Err(node_error(&node, &[], none)),
            None => kept.push(node),
        }
    }
    graph.nodes = kept;
    Ok(changed)
}

/// The Expand of one element that takes the place of a ConstantOfShape over budget: kernels read the element, and packed
/// weights are made of it part by part, so nobody holds the array as a whole.
fn spread(graph: &mut Graph, node: &Node, budget: &Budget) -> Result<Node, Why> {
    let (Op::ConstantOfShape(operator), &[Some(shape)], &[Some(output)]) =
        (&*node.op, &node.inputs[..], &node.outputs[..])
    else {
        refuse!("its elements may differ")
    };
    let shape_facts = facts(node, &[graph.value(shape).constant.as_ref()], budget)?;
    let shape_fact = shape_facts.first().and_then(Option::as_ref);
    node.op.infer(&[shape_fact])?;
    let element = operator.value.to_tensor()?.reshaped(&[])?;
    let name = format!("{}.element", graph.value(output).name);
    let inputs = vec![Some(ValueId(graph.values.len() as u32)), Some(shape)];
    let names = (node.name.clone(), "Expand".to_string(), node.opset);
    let spread = Node::parse(names, Attributes::default(), inputs, (vec![Some(output)], &[true]))?;
    // An Expand takes fewer dtypes.
    spread.op.infer(&[Some(&Fact::new(element.dtype(), [].as_slice())), shape_fact])?;
    graph.add_constant(name, element);
    Ok(spread)
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
