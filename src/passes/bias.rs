//! Adds a constant for each channel to the bias of the convolution before it, also where axes of its result are moved, added or
//! removed between the two: a convolution along one axis may be one of images of one row.

use super::Replacements;
use super::pattern::{Pattern, floats};
use crate::graph::ValueId;
use crate::ops::{Graph, Op};
use crate::{Result, Tensor};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let pattern = Pattern::of(graph);
    let found: Vec<(usize, AddedConstant)> =
        (0..graph.nodes.len()).filter_map(|n| Some((n, constant_after_convolution(&pattern, n)?))).collect();
    let mut replaced = Replacements::default();
    for (n, AddedConstant { convolution, sum, bias, result }) in found {
        let name = format!("{}.bias", graph.nodes[n].name);
        let bias = graph.add_constant(name, Tensor::from_slice(&[bias.len()], &bias)?);
        let convolution = &mut graph.nodes[convolution];
        convolution.inputs.resize(3, None);
        convolution.inputs[2] = Some(bias);
        // The addition stays in the graph, but nothing reads its result.
        replaced.add(sum, result);
    }
    Ok(replaced.apply(graph))
}

struct AddedConstant {
    convolution: usize,
    sum: ValueId,
    bias: Vec<f32>,
    result: ValueId,
}

/// The convolution before addition `n`, and the bias of the two together.
fn constant_after_convolution(pattern: &Pattern, n: usize) -> Option<AddedConstant> {
    let node = &pattern.graph.nodes[n];
    let (&[Some(a), Some(b)], &[Some(sum)]) = (&node.inputs[..], &node.outputs[..]) else { return None };
    if node.op_type != "Add" || pattern.uses(sum) == 0 {
        return None;
    }
    let constant = |id: ValueId| pattern.graph.value(id).constant.is_some();
    let (result, added) = if constant(b) { (a, b) } else { (b, a) };
    let (convolution, before, movers) = pattern.before_movers(result)?;
    let weights = pattern.graph.value(before.inputs.get(1).copied().flatten()?).constant.as_ref()?;
    let weights = weights.shape();
    let channels = match &*before.op {
        Op::Conv(_) => *weights.first()?,
        Op::ConvTranspose(op) => weights.get(1)?.checked_mul(op.group())?,
        _ => return None,
    };
    // One number for each channel, or one for all: `[..1, channels, 1, 1]` where nothing is moved.
    let shape = pattern.graph.value(added).constant.as_ref()?.shape();
    let axes = pattern.moved_axes(&movers, weights.len())?;
    let against = &axes[axes.len().checked_sub(shape.len())?..];
    if shape.iter().zip(against).any(|(&size, axis)| size != 1 && *axis != Some(1)) {
        return None;
    }
    let (_, added) = floats(pattern.graph, Some(added))?;
    if added.len() != channels && added.len() != 1 {
        return None;
    }
    let bias = match before.inputs.get(2).copied().flatten() {
        Some(id) => floats(pattern.graph, Some(id))?.1,
        None => vec![0.0; channels],
    };
    let added = |c: usize| added.get(c).or(added.first()).copied().unwrap_or(0.0);
    let bias: Vec<f32> =
        bias.iter().enumerate().map(|(c, b)| (f64::from(*b) + f64::from(added(c))) as f32).collect();
    (bias.len() == channels).then_some(AddedConstant { convolution, sum, bias, result })
}
