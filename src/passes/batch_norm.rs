//! Scales the weights and the bias of a convolution, or of a matrix product with a bias, by the batch normalisation after it.
//! With `s = scale / sqrt(var + epsilon)`, they become `W' = W * s` and `b' = (b - mean) * s + shift`, for each output
//! channel.

use super::Replacements;
use super::pattern::floats;
use crate::graph::NodeId;
use crate::ops::{Graph, Node, Op};
use crate::{Result, Tensor, heap};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let (producers, uses) = (graph.producers(), graph.use_counts());
    let mut merged = vec![false; graph.nodes.len()];
    let mut replaced = Replacements::default();
    for (n, merged) in merged.iter_mut().enumerate() {
        let Some(conv) = convolution(graph, (&producers, &uses), n) else { continue };
        let before = &graph.nodes[conv.index()];
        heap::ask(format_args!("the new weights of node '{}'", before.name), copies(graph, before))?;
        if let Some(folded) = folded(graph, conv, n) {
            apply(graph, n, folded, &mut replaced)?;
            *merged = true;
        }
    }
    let mut merged = merged.into_iter();
    graph.nodes.retain(|_| !merged.next().unwrap_or(false));
    Ok(replaced.apply(graph))
}

struct Folded {
    conv: NodeId,
    weights: (Vec<usize>, Vec<f32>),
    bias: Vec<f32>,
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

/// The node before node `n`, if `n` is the only use of its result and normalises it.
fn convolution(graph: &Graph, (producers, uses): (&[Option<NodeId>], &[usize]), n: usize) -> Option<NodeId> {
    let node = &graph.nodes[n];
    let Op::BatchNorm(_) = &*node.op else { return None };
    let x = node.inputs.first().copied().flatten()?;
    producers[x.index()].filter(|_| uses[x.index()] == 1)
}

/// The bytes of the constants of `node`, three times: as they are, scaled, and as a tensor.
fn copies(graph: &Graph, node: &Node) -> u64 {
    let constants = node.inputs.iter().flatten().filter_map(|id| graph.value(*id).constant.as_ref());
    constants.map(|constant| constant.bytes().len() as u64 * 3).sum()
}

/// The new weights and bias of the node `conv` before node `n`, if `n` normalises with constants.
fn folded(graph: &Graph, conv: NodeId, n: usize) -> Option<Folded> {
    let node = &graph.nodes[n];
    let Op::BatchNorm(norm) = &*node.op else { return None };
    let epsilon = norm.inference_epsilon()?;
    let &[Some(_), scale, shift, mean, variance] = &node.inputs[..] else { return None };
    let before = &graph.nodes[conv.index()];
    let weights = floats(graph, before.inputs.get(1).copied().flatten())?;
    let by_channel = Channels::of(&before.op, &weights.0)?;
    let channels = by_channel.count;
    let by_column =
        |(shape, v): &(Vec<usize>, Vec<f32>)| shape.last() == Some(&channels) && v.len() == channels;
    let vector = |id| floats(graph, id).filter(by_column).map(|(_, v)| v);
    let (scale, shift, mean, variance) = (vector(scale)?, vector(shift)?, vector(mean)?, vector(variance)?);
    let bias = match before.inputs.get(2).copied().flatten() {
        Some(id) => vector(Some(id))?,
        None => vec![0.0; channels],
    };
    let factors: Vec<f64> = scale
        .iter()
        .zip(&variance)
        .map(|(s, v)| f64::from(*s) / (f64::from(*v) + f64::from(epsilon)).sqrt())
        .collect();
    let (shape, values) = weights;
    let scaled = |(i, w): (usize, &f32)| Some((f64::from(*w) * factors.get(by_channel.channel(i)?)?) as f32);
    let values = values.iter().enumerate().map(scaled).collect::<Option<_>>()?;
    let bias = (0..channels)
        .map(|c| ((f64::from(bias[c]) - f64::from(mean[c])) * factors[c] + f64::from(shift[c])) as f32)
        .collect();
    Some(Folded { conv, weights: (shape, values), bias })
}

fn apply(graph: &mut Graph, n: usize, folded: Folded, replaced: &mut Replacements) -> Result<()> {
    let channels = folded.bias.len();
    let weights = Tensor::from_vec(&folded.weights.0, folded.weights.1)?;
    let bias = Tensor::from_vec(&[channels], folded.bias)?;
    let name = graph.nodes[n].name.clone();
    let weights = graph.add_constant(format!("{name}.weights"), weights);
    let bias = graph.add_constant(format!("{name}.bias"), bias);
    let (Some(x), Some(y)) = (graph.nodes[n].inputs[0], graph.nodes[n].outputs[0]) else { return Ok(()) };
    let conv = &mut graph.nodes[folded.conv.index()];
    conv.inputs.resize(3, None);
    conv.inputs[1] = Some(weights);
    conv.inputs[2] = Some(bias);
    replaced.add(y, x);
    Ok(())
}
