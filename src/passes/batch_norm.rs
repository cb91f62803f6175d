//! Scales the weights and the bias of a convolution, or of a matrix product with a bias, by the batch normalisation after it.
//! With `s = scale / sqrt(var + epsilon)`, they become `W' = W * s` and `b' = (b - mean) * s + shift`, for each output
//! channel.

use super::Replacements;
use super::pattern::Pattern;
use crate::array::Array;
use crate::graph::{NodeId, ValueId};
use crate::ops::{Graph, Node, Op};
use crate::{DType, Error, Result, Tensor, heap};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let mut merged = vec![false; graph.nodes.len()];
    let mut replaced = Replacements::default();
    let pattern = Pattern::of(graph);
    let found: Vec<_> = (0..merged.len()).filter_map(|n| Some((n, convolution(&pattern, n)?))).collect();
    for (n, conv) in found {
        let before = &graph.nodes[conv.index()];
        heap::ask(format_args!("the new weights of node '{}'", before.name), copies(graph, before))?;
        if let Some(folded) = folded(graph, conv, n) {
            merged[n] = apply(graph, n, folded, &mut replaced)?;
        }
    }
    let mut merged = merged.into_iter();
    graph.nodes.retain(|_| !merged.next().unwrap_or(false));
    Ok(replaced.apply(graph))
}

struct Folded {
    conv: NodeId,
    dtype: DType,
    /// Of the weights.
    shape: Vec<usize>,
    weights: Vec<f64>,
    bias: Vec<f64>,
}

/// The dtype, the shape and the elements of a constant of float32 or float16.
fn numbers(graph: &Graph, id: Option<ValueId>) -> Option<(DType, Vec<usize>, Vec<f64>)> {
    let tensor = graph.value(id?).constant.as_ref()?;
    tensor.check_file().ok()?;
    let bytes = tensor.bytes();
    let elements = match tensor.dtype() {
        DType::F32 => bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned::<f32>).map(f64::from).collect(),
        DType::F16 => {
            let element = |pair: &[u8]| f64::from(half::f16::from_bits(bytemuck::pod_read_unaligned(pair)));
            bytes.chunks_exact(2).map(element).collect()
        }
        _ => return None,
    };
    Some((tensor.dtype(), tensor.shape().to_vec(), elements))
}

/// A constant of these numbers, if the dtype holds numbers of their size.
fn rounded(dtype: DType, shape: &[usize], numbers: Vec<f64>) -> Result<Option<Tensor>> {
    let most = if dtype == DType::F16 { f64::from(half::f16::MAX) } else { f64::INFINITY };
    let fits = numbers.iter().all(|number| number.abs() <= most || number.is_nan());
    let tensor = Array::float(dtype, shape, numbers).to_tensor();
    let tensor = tensor.map_err(|why| why.error("new weights", Error::Tensor))?;
    Ok(Some(tensor).filter(|_| fits))
}

/// How the weights of an operator are divided among its output channels.
struct Channels {
    count: usize,
    /// Weight `i` belongs to channel `i / inner % own + i / (inner * own * inputs) * own`.
    own: usize,
    inner: usize,
    inputs: usize,
}

impl Channels {
    fn of(op: &Op, weights: &[usize]) -> Option<Channels> {
        let size = |axes: &[usize]| axes.iter().product::<usize>();
        Some(match (op, weights) {
            (Op::Conv(_), &[count, ref inner @ ..]) => {
                Channels { count, own: count, inner: size(inner), inputs: 1 }
            }
            (Op::ConvTranspose(op), &[channels, own, ref kernel @ ..]) => {
                let inputs = channels.checked_div(op.group())?;
                Channels { count: own.checked_mul(op.group())?, own, inner: size(kernel), inputs }
            }
            (Op::Gemm(op), &[rows, columns]) => match op.weights_transposed()? {
                true => Channels { count: rows, own: rows, inner: columns, inputs: 1 },
                false => Channels { count: columns, own: columns, inner: 1, inputs: rows },
            },
            _ => return None,
        })
    }

    /// The channel of weight `i`.
    fn channel(&self, i: usize) -> Option<usize> {
        let group = i.checked_div(self.inner * self.own * self.inputs)?;
        Some(i / self.inner % self.own + group * self.own)
    }
}

/// The node before node `n`, if `n` is the only use of its result and normalises its channels.
fn convolution(pattern: &Pattern, n: usize) -> Option<NodeId> {
    let node = &pattern.graph.nodes[n];
    let Op::BatchNorm(_) = &*node.op else { return None };
    let (conv, before, movers) = pattern.before_movers(node.inputs.first().copied().flatten()?)?;
    let weights = pattern.graph.value(before.inputs.get(1).copied().flatten()?).constant.as_ref()?;
    let axes = pattern.moved_axes(&movers, weights.shape().len())?;
    (axes.get(1) == Some(&Some(1))).then_some(NodeId(conv as u32))
}

/// The bytes of numbers of 64 bits, and of a tensor, for each element of the constants of `node`.
fn copies(graph: &Graph, node: &Node) -> u64 {
    let constants = node.inputs.iter().flatten().filter_map(|id| graph.value(*id).constant.as_ref());
    constants.map(|constant| constant.len() as u64 * 24).sum()
}

/// The new weights and bias of the node `conv` before node `n`, if `n` normalises with constants.
fn folded(graph: &Graph, conv: NodeId, n: usize) -> Option<Folded> {
    let node = &graph.nodes[n];
    let Op::BatchNorm(norm) = &*node.op else { return None };
    let epsilon = norm.inference_epsilon()?;
    let &[Some(_), scale, shift, mean, variance] = &node.inputs[..] else { return None };
    let before = &graph.nodes[conv.index()];
    let (dtype, shape, weights) = numbers(graph, before.inputs.get(1).copied().flatten())?;
    let by_channel = Channels::of(&before.op, &shape)?;
    let channels = by_channel.count;
    let vector = |id| {
        let (_, shape, numbers) = numbers(graph, id)?;
        (shape.last() == Some(&channels) && numbers.len() == channels).then_some(numbers)
    };
    let (scale, shift, mean, variance) = (vector(scale)?, vector(shift)?, vector(mean)?, vector(variance)?);
    let bias = match before.inputs.get(2).copied().flatten() {
        Some(id) => vector(Some(id))?,
        None => vec![0.0; channels],
    };
    let factors: Vec<f64> =
        scale.iter().zip(&variance).map(|(s, v)| s / (v + f64::from(epsilon)).sqrt()).collect();
    let scaled = |(i, w): (usize, f64)| Some(w * factors.get(by_channel.channel(i)?)?);
    let weights = weights.into_iter().enumerate().map(scaled).collect::<Option<_>>()?;
    let bias = (0..channels).map(|c| (bias[c] - mean[c]) * factors[c] + shift[c]).collect();
    Some(Folded { conv, dtype, shape, weights, bias })
}

/// Gives the node before node `n` the new weights, if their dtype holds them, and tells whether it did.
fn apply(graph: &mut Graph, n: usize, folded: Folded, replaced: &mut Replacements) -> Result<bool> {
    let Folded { conv, dtype, shape, weights, bias } = folded;
    let (Some(x), Some(y)) = (graph.nodes[n].inputs[0], graph.nodes[n].outputs[0]) else { return Ok(false) };
    let bias_shape = [bias.len()];
    let (Some(weights), Some(bias)) = (rounded(dtype, &shape, weights)?, rounded(dtype, &bias_shape, bias)?)
    else {
        return Ok(false);
    };
    let name = graph.nodes[n].name.clone();
    let weights = graph.add_constant(format!("{name}.weights"), weights);
    let bias = graph.add_constant(format!("{name}.bias"), bias);
    let conv = &mut graph.nodes[conv.index()];
    conv.inputs.resize(3, None);
    conv.inputs[1] = Some(weights);
    conv.inputs[2] = Some(bias);
    replaced.add(y, x);
    Ok(true)
}
