//! A transposed convolution becomes convolutions, one for each phase of its results, and a DepthToSpace that puts the results in
//! their places. With stride 2 and 4x4 taps, result `2u + phase` along an axis is a sum of the taps `phase` and `2 + phase`, of inputs
//! `u` and `u - 1`. Where all phases have as many taps, one convolution computes all of them as channels; with stride 1 there is one
//! phase.
//!
//! The kernels of convolutions are the far better ones.

use super::pattern::Pattern;
use super::spelled::{Spelled, replace};
use crate::array::{Array, Span, ravel, unravel};
use crate::budget::{Budget, Work};
use crate::error::{Why, refuse};
use crate::facts::node_error;
use crate::graph::ValueId;
use crate::ops::{Attr, Attributes, Graph, Node, Op};
use crate::{DType, Result, Tensor, heap};

pub(super) fn run(graph: &mut Graph, budget: &Budget) -> Result<bool> {
    let pattern = Pattern::of(graph);
    let mut found = Vec::new();
    for (n, node) in graph.nodes.iter().enumerate() {
        let Some(phases) = Phases::of(&pattern, node) else { continue };
        let work = Work::default().steps(&[phases.weights.len()]);
        match budget.charge(work, phases.weights.bytes().len() as u64) {
            Ok(()) => found.push((n, phases)),
            Err(Why::Refused(_)) => {}
            Err(none) => return Err(node_error(node, &[], none)),
        }
    }
    replace(graph, found, |phases, graph, node| phases.nodes(graph, node).map(Some))
}

/// A transposed convolution over one axis or two.
struct Phases {
    /// `[channels, filters of a group, taps..]`.
    weights: Tensor,
    bias: Option<Tensor>,
    group: usize,
    /// That of each axis, and the number of its phases.
    stride: usize,
    axes: Vec<PhasedAxis>,
}

/// An axis of a transposed convolution.
struct PhasedAxis {
    taps: usize,
    stride: usize,
    /// 1 with a stride.
    dilation: usize,
    /// The results that are cut off before the first and after the last.
    cut: [usize; 2],
}

impl PhasedAxis {
    fn of(span: &Span, added: usize) -> Option<PhasedAxis> {
        let Span { kernel: taps, stride, dilation, begin, end, .. } = *span;
        // The last phases may reach less far than the first.
        let end = (end + taps.next_multiple_of(stride) - taps).checked_sub(added)?;
        let whole = stride == 1 || dilation == 1 && taps >= stride;
        whole.then_some(PhasedAxis { taps, stride, dilation, cut: [begin, end] })
    }

    fn taps_of(&self, phase: usize) -> usize {
        (self.taps - phase).div_ceil(self.stride)
    }

    /// The results of each phase that need not be computed, as they are cut off, before the first and after the last.
    fn spared(&self) -> [usize; 2] {
        let (most, least) = (self.taps_of(0), self.taps_of(self.stride - 1));
        [(self.cut[0], least), (self.cut[1], most)]
            .map(|(cut, taps)| (cut / self.stride).min((taps - 1) * self.dilation))
    }

    /// The pads of a phase's convolution, such that all phases have as many results.
    fn pads(&self, phase: usize) -> [usize; 2] {
        let [before, after] = self.spared();
        let reach = |phase: usize| (self.taps_of(phase) - 1) * self.dilation;
        [reach(phase) - before, reach(0) - after]
    }

    /// What is left to cut off.
    fn left(&self) -> [usize; 2] {
        let spared = self.spared();
        [0, 1].map(|side| self.cut[side] - spared[side] * self.stride)
    }
}

impl Phases {
    fn of(pattern: &Pattern, node: &Node) -> Option<Phases> {
        let Op::ConvTranspose(op) = &*node.op else { return None };
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        let constant = |id: ValueId| pattern.graph.value(id).constant.clone();
        let weights = constant(input(1)?)?;
        let bias = match input(2) {
            Some(id) => Some(constant(id)?),
            None => None,
        };
        let (&[channels, filters], kernel) = weights.shape().split_first_chunk::<2>()?;
        let spans = op.fixed_spans(kernel)?;
        let stride = spans.first()?.0.stride;
        let axes: Vec<PhasedAxis> =
            spans.iter().map(|(span, added)| PhasedAxis::of(span, *added)).collect::<Option<_>>()?;
        let dtype = matches!(weights.dtype(), DType::F32 | DType::F16 | DType::BF16);
        let fits = channels.is_multiple_of(op.group()) && filters > 0 && channels > 0;
        let biased = bias.as_ref().is_none_or(|bias| bias.shape() == [filters * op.group()]);
        let readable = std::iter::once(&weights).chain(&bias).all(|tensor| tensor.check_file().is_ok());
        let phases = Phases { weights, bias, group: op.group(), stride, axes };
        // A DepthToSpace puts results of two axes in their places. A stride of 3 would take nine convolutions.
        let placed = phases.axes.len() == 2 || stride == 1 && phases.axes.len() == 1;
        let few = phases.are_alike() || stride == 2;
        let alike = phases.axes.iter().all(|axis| axis.stride == stride);
        (dtype && fits && biased && readable && placed && few && alike).then_some(phases)
    }

    /// Whether all phases have as many taps.
    fn are_alike(&self) -> bool {
        self.axes.iter().all(|axis| axis.taps.is_multiple_of(self.stride))
    }

    /// The weights of the convolution that computes the phases from `first` on, `count` along each axis: its filters are all these
    /// phases of the first filter, then of the second. Of each the last tap comes first.
    fn filters(&self, first: &[usize], count: usize) -> Result<Tensor, Why> {
        let weights = Array::from_tensor(&self.weights)?;
        let rank = self.axes.len();
        let (channels, filters) = (weights.shape[0] / self.group, weights.shape[1]);
        let taps: Vec<usize> =
            self.axes.iter().zip(first).map(|(axis, &phase)| axis.taps_of(phase)).collect();
        let shape = [&[self.group, filters], &vec![count; rank][..], &[channels], &taps].concat();
        let source = |i: usize| {
            let at = unravel(i, &shape);
            let tap = |d: usize| (taps[d] - 1 - at[3 + rank + d]) * self.stride + first[d] + at[2 + d];
            let of = [at[0] * channels + at[2 + rank], at[1]].into_iter().chain((0..rank).map(tap));
            Some(ravel(&of.collect::<Vec<_>>(), &weights.shape))
        };
        heap::ask(
            "the filters of a transposed convolution",
            2 * size_of::<f64>() as u64 * weights.len() as u64,
        )?;
        let all = self.group * filters * count.pow(rank as u32);
        let shape_of_conv = [&[all, channels], &taps[..]].concat();
        weights.gather(&shape, source, None).reshaped(&shape_of_conv).to_tensor()
    }

    /// The convolution of these filters (see `filters`), which computes the phases from `first` on.
    fn convolution(
        &self,
        spelled: &mut Spelled,
        [x, weights, bias]: [Option<ValueId>; 3],
        first: &[usize],
    ) -> Result<ValueId, Why> {
        let pads =
            |side: usize| self.axes.iter().zip(first).map(move |(axis, &phase)| axis.pads(phase)[side]);
        let dilations = self.axes.iter().map(|axis| axis.dilation as i64).collect();
        let attributes = [
            ("group", Attr::Int(self.group as i64)),
            ("pads", Attr::Ints(pads(0).chain(pads(1)).map(|pad| pad as i64).collect())),
            ("dilations", Attr::Ints(dilations)),
        ];
        spelled.node("Conv", attributes.into_iter().collect(), vec![x, weights, bias])
    }

    /// The nodes that take the place of `node`.
    fn nodes(&self, graph: &mut Graph, node: &Node) -> Result<Vec<Node>, Why> {
        let [Some(output)] = node.outputs[..] else { refuse!("it has several results") };
        let mut spelled = Spelled::new(graph, output);
        let (x, rank) = (node.inputs[0], self.axes.len());
        let count = if self.are_alike() { self.stride } else { 1 };
        let bias = match &self.bias {
            Some(bias) => {
                let (bias, phases) = (Array::from_tensor(bias)?, count.pow(rank as u32));
                let each = bias.gather(&[bias.len() * phases], |i| Some(i / phases), None);
                Some(spelled.constant("bias", each.to_tensor()?))
            }
            None => None,
        };
        let mut values = Vec::new();
        for i in 0..(self.stride / count).pow(rank as u32) {
            let first = unravel(i, &vec![self.stride / count; rank]);
            let weights = spelled.constant(&format!("weights{i}"), self.filters(&first, count)?);
            values.push(Some(self.convolution(&mut spelled, [x, Some(weights), bias], &first)?));
        }
        let (mut value, mode) = match values[..] {
            [Some(value)] => (value, "CRD"),
            _ => {
                let along = [("axis", Attr::Int(1))].into_iter().collect();
                (spelled.node("Concat", along, values)?, "DCR")
            }
        };
        if self.stride > 1 {
            let attributes =
                [("blocksize", Attr::Int(self.stride as i64)), ("mode", Attr::String(mode.into()))];
            value = spelled.node("DepthToSpace", attributes.into_iter().collect(), vec![Some(value)])?;
        }
        let left = |side: usize| self.axes.iter().map(move |axis| axis.left()[side] as i64);
        if left(0).chain(left(1)).any(|cut| cut > 0) {
            let ends = left(1).map(|cut| if cut > 0 { -cut } else { i64::MAX });
            let lists = [("starts", left(0).collect()), ("ends", ends.collect()), ("axes", vec![2, 3])];
            let mut inputs = vec![Some(value)];
            for (what, list) in lists {
                let list: Vec<i64> = list;
                inputs.push(Some(spelled.constant(what, Tensor::from_slice(&[rank], &list[..rank])?)));
            }
            spelled.node("Slice", Attributes::default(), inputs)?;
        }
        Ok(spelled.nodes_for(node, output))
    }
}
