//! ConvTranspose: the gradient of a convolution with respect to its input.
//!
//! History: 1, 11 (defaults spelled out), 22 (bfloat16).

use super::accumulate::{Sink, in_parts};
use super::case::{self, Case, Tolerance};
use super::conv::{add_bias, group};
use super::division::Division;
use super::window::{Span, Window};
use super::{
    Array, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, optional, product, refuse, required,
    types,
};
use crate::array::product::DirectConv;
use crate::facts::Fact;
use crate::kernels::conv_transpose;
use crate::kernels::params;
use crate::plan::{Code, Lower};

#[derive(Clone, Debug)]
pub(crate) struct ConvTranspose {
    window: Window,
    group: usize,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("ConvTranspose", 1, types![T T T -> T; T: FLOATS BF16@22], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(ConvTranspose { window: Window::parse(def)?, group: group(def)? }.into())
}

/// The sizes. The spans are those of the convolution whose gradient this is, so `output` is the size of X.
struct TransposedSizes {
    batch: usize,
    /// Input and output channels of one group.
    channels: usize,
    filters: usize,
    spans: Vec<Span>,
    shape: Vec<usize>,
}

impl ConvTranspose {
    /// The number of groups into which the channels are divided.
    pub(crate) fn group(&self) -> usize {
        self.group
    }

    /// Kernel, stride, dilation and pads along each axis, where they follow from no size of the input, and the results that
    /// `output_padding` adds.
    pub(crate) fn fixed_spans(&self, kernel: &[usize]) -> Option<Vec<(Span, usize)>> {
        self.window.fixed_transposed(kernel)
    }

    fn sizes(&self, x: &[usize], w: &[usize]) -> Result<TransposedSizes, Why> {
        let (&[batch, channels, ref space @ ..], &[w_channels, filters, ref kernel @ ..]) = (x, w) else {
            refuse!("input and weights need a batch, a channel and a spatial axis");
        };
        if channels != w_channels || channels % self.group != 0 {
            refuse!("{} groups of weights {w:?} do not fit {channels} input channels", self.group);
        }
        let Some(all) = filters.checked_mul(self.group) else { refuse!("too many output channels") };
        let spans = self.window.transposed(space, kernel)?;
        let shape = [batch, all].into_iter().chain(spans.iter().map(|s| s.input)).collect();
        Ok(TransposedSizes { batch, channels: channels / self.group, filters, spans, shape })
    }
}

/// The distance, in taps along an axis, between taps that reach the same places: with stride 6 and dilation 4, every third tap
/// does.
fn step(span: &Span) -> usize {
    let (mut a, mut b) = (span.stride, span.dilation);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    span.stride / a
}

/// The kernel's params for one axis.
fn axis(span: &Span) -> [usize; 7] {
    [span.output, span.input, span.kernel, span.stride, span.dilation, span.begin, step(span)]
}

impl Operator for ConvTranspose {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, w, bias) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        let sizes = self.sizes(&x.shape, &w.shape)?;
        if x.dtype != w.dtype || bias.is_some_and(|b| b.dtype != x.dtype) || !x.dtype.is_float() {
            refuse!("the inputs are not floats of one dtype");
        }
        if bias.is_some_and(|b| b.shape != [sizes.shape[1]]) {
            refuse!("the bias has not one value for each of {} output channels", sizes.shape[1]);
        }
        Ok(vec![Fact::new(x.dtype, sizes.shape)])
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        Division::of_first(axis, inputs, outputs.first()?, |axis| axis == 0)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?);
        let sizes = self.sizes(&x.shape, &w.shape)?;
        let conv = DirectConv {
            batch: sizes.batch,
            groups: self.group,
            channels: sizes.channels,
            filters: sizes.shape[1],
            spans: &sizes.spans,
        };
        let mut y = conv.run_transposed(x.floats()?, w.floats()?);
        if let Some(bias) = optional(inputs, 2) {
            add_bias(&mut y, &sizes.shape, bias.floats()?);
        }
        Ok(vec![Array::float(x.dtype, &sizes.shape, y)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?);
        let TransposedSizes { batch, channels, spans, shape, .. } = self.sizes(&x.shape, &w.shape)?;
        let size = |size: fn(&Span) -> usize| spans.iter().map(size).fold(1, usize::saturating_mul);
        let windows = [batch, shape[1], channels, size(|s| s.kernel), size(|s| s.output)];
        let elements = of_elements(inputs, outputs).temporary(windows[3], size_of::<[usize; 12]>());
        Ok(elements.steps(&windows))
    }

    fn packs(&self, i: usize) -> bool {
        i == 1
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (x, w, bias) = (cx.fact(0)?, cx.fact(1)?, cx.optional_fact(2));
        let sizes = self.sizes(&x.shape, &w.shape)?;
        let rank = sizes.spans.len();
        let Some(scalar) = cx.register(x.dtype) else { refuse!("the device has no {}", x.dtype) };
        if rank > 3 {
            refuse!(
                "a transposed convolution over {rank} axes is not supported on the device; at most 3 are"
            );
        }
        let filters = if sizes.filters < 8 { 1 } else { 8 };
        let (all, output) = (sizes.shape[1], product(&sizes.shape[2..]));
        let planes = sizes.batch * self.group;
        let groups = planes * sizes.filters.div_ceil(filters) * output.div_ceil(conv_transpose::PLACES);
        let axes: Vec<usize> = sizes.spans.iter().flat_map(axis).collect();
        let phases: usize = product(sizes.spans.iter().map(|span| span.kernel.div_ceil(step(span))));
        let size = |size: fn(&Span) -> usize| product(sizes.spans.iter().map(size));
        let (input, taps) = (size(|s| s.output), size(|s| s.kernel));
        let (x, w) = (cx.input(0)?, cx.input(1)?);
        let mut shape = vec![1; rank + 1];
        shape[0] = all;
        let finish = |code: &mut Code, value| {
            if bias.is_none() { Ok(value) } else { code.add_input(value, 2, &shape) }
        };
        // An invocation looks for its first tap along each axis, and then adds up the taps.
        let search: usize = sizes.spans.iter().map(|span| step(span).min(span.kernel)).sum();
        let limit = cx.target.max_iterations as usize;
        if search >= limit {
            refuse!("the kernel has more than {limit} taps on its axes");
        }
        let terms = (sizes.channels * phases, limit - search);
        in_parts(
            cx,
            terms,
            (all, output),
            scalar,
            Sink::Finished(&finish),
            |cx, (first, last), epilogue, y| {
                let fixed = [
                    planes,
                    self.group,
                    sizes.filters,
                    sizes.channels.max(1),
                    first,
                    last,
                    input,
                    output,
                    taps,
                ];
                let params = params(fixed.iter().chain(&axes).copied(), epilogue.params)?;
                let tensors = [x, w].into_iter().chain(epilogue.tensors).chain([y]).collect();
                let kernel =
                    conv_transpose::ConvTranspose { scalar, rank, filters, epilogue: epilogue.fused };
                cx.call(kernel, tensors, params, groups);
                Ok(())
            },
        )
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str, x: &[usize], w: &[usize]| {
        Case::new("ConvTranspose", name)
            .tolerance(Tolerance::ACCUMULATION)
            .input(case::random(x))
            .constant(case::random(w))
    };
    let bias = |case: Case, n: usize| case.constant(case::random(&[n]));
    vec![
        new("plain", &[1, 3, 5, 6], &[3, 4, 3, 3]),
        bias(new("doubling", &[2, 12, 5, 6], &[12, 9, 2, 2]), 9).ints("strides", &[2, 2]),
        bias(new("4x4", &[1, 6, 5, 7], &[6, 10, 4, 4]), 10)
            .ints("strides", &[2, 2])
            .ints("pads", &[1, 1, 1, 1]),
        new("stride3", &[1, 2, 4, 4], &[2, 3, 2, 2]).ints("strides", &[3, 3]),
        new("dilated", &[1, 2, 4, 5], &[2, 3, 3, 2]).ints("dilations", &[2, 3]).ints("strides", &[2, 2]),
        new("dilated_common", &[1, 2, 4, 5], &[2, 3, 3, 2])
            .ints("dilations", &[2, 4])
            .ints("strides", &[4, 2]),
        new("output_padding", &[1, 2, 3, 3], &[2, 3, 3, 3])
            .ints("strides", &[3, 2])
            .ints("output_padding", &[1, 1]),
        new("output_shape", &[1, 2, 3, 3], &[2, 3, 3, 3])
            .ints("strides", &[3, 2])
            .ints("output_shape", &[10, 8]),
        new("output_shape_small", &[1, 2, 3, 3], &[2, 3, 3, 3])
            .ints("strides", &[3, 2])
            .ints("output_shape", &[8, 4]),
        new("same_upper", &[1, 2, 3, 4], &[2, 3, 3, 3])
            .ints("strides", &[2, 2])
            .string("auto_pad", "SAME_UPPER"),
        new("same_lower", &[1, 2, 3, 4], &[2, 3, 3, 3])
            .ints("strides", &[2, 2])
            .string("auto_pad", "SAME_LOWER"),
        bias(new("groups", &[1, 6, 4, 5], &[6, 8, 3, 3]), 16).int("group", 2).ints("strides", &[2, 1]),
        bias(new("depthwise", &[1, 6, 4, 5], &[6, 1, 3, 3]), 6).int("group", 6).ints("strides", &[2, 2]),
        new("1d", &[2, 5, 9], &[5, 8, 4]).ints("strides", &[2]).ints("pads", &[1, 1]),
        new("3d", &[1, 3, 3, 4, 2], &[3, 2, 3, 2, 2]).ints("strides", &[2, 2, 2]),
        new("empty", &[0, 3, 3, 4], &[3, 2, 3, 2]),
    ]
}
