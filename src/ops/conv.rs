//! Conv: convolution (cross-correlation) over one or more spatial axes, with groups.
//!
//! History: 1, 11 (defaults spelled out), 22 (bfloat16).

use super::case::{self, Case, Tolerance};
use super::product::{Sink, Source, in_parts};
use super::window::{Span, Window};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, onnx, optional, refuse, required};
use crate::kernels::conv;
use crate::kernels::expr::Scalar;
use crate::plan::{Code, Fact, Lower};
use crate::reference::product;

#[derive(Clone, Debug)]
pub(crate) struct Conv {
    window: Window,
    group: usize,
}

pub(crate) const ROWS: &[Row] = &[onnx("Conv", 7, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Conv { window: Window::parse(def)?, group: group(def)? }.into())
}

/// The attribute `group`.
pub(crate) fn group(def: &NodeDef) -> Result<usize, Why> {
    match def.attributes.int_or("group", 1)? {
        group if (1..1 << 30).contains(&group) => Ok(group as usize),
        group => refuse!("group {group} is not a number of groups"),
    }
}

/// Sizes of a convolution.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) group: usize,
    /// Input and output channels of one group.
    pub(crate) channels: usize,
    pub(crate) filters: usize,
    pub(crate) spans: Vec<Span>,
}

impl Sizes {
    pub(crate) fn of(window: &Window, group: usize, x: &[usize], w: &[usize]) -> Result<Sizes, Why> {
        let (&[batch, x_channels, ref space @ ..], &[filters, channels, ref kernel @ ..]) = (x, w) else {
            refuse!("input and weights need a batch, a channel and a spatial axis");
        };
        if Some(x_channels) != channels.checked_mul(group) || filters % group != 0 {
            refuse!("{group} groups of weights {w:?} do not fit {x_channels} input channels");
        }
        let spans = window.spans(space, kernel)?;
        Ok(Sizes { batch, group, channels, filters: filters / group, spans })
    }

    /// The result's shape.
    pub(crate) fn shape(&self) -> Vec<usize> {
        let ends = [self.batch, self.group * self.filters];
        ends.into_iter().chain(self.spans.iter().map(|s| s.output)).collect()
    }

    /// The shape in which a vector over output channels broadcasts.
    pub(crate) fn bias_shape(&self) -> Vec<usize> {
        let ones = std::iter::repeat_n(1, self.spans.len());
        std::iter::once(self.group * self.filters).chain(ones).collect()
    }

    /// The reference's sum without bias.
    pub(crate) fn eval<T: product::Number>(&self, x: &[T], w: &[T]) -> Vec<T> {
        let (batch, groups, channels) = (self.batch, self.group, self.channels);
        product::Conv { batch, groups, channels, filters: groups * self.filters, spans: &self.spans }.run(x, w)
    }

    /// Emits the convolution.
    pub(crate) fn lower<'a>(
        &self,
        cx: &mut Lower<'a>,
        x: Source,
        w: Source,
        scalar: Scalar,
        sink: Sink<'_, 'a>,
    ) -> Result<(), Why> {
        let rank = self.spans.len();
        if rank > 3 {
            refuse!("a convolution over {rank} axes is not supported on the device; at most 3 are");
        }
        let size = |size: fn(&Span) -> usize| self.spans.iter().map(size).product::<usize>();
        let (input, output, taps) = (size(|s| s.input), size(|s| s.output), size(|s| s.kernel));
        let planes = self.batch * self.group;
        let filters = if self.filters < 8 { 1 } else { 8 };
        let groups = planes * self.filters.div_ceil(filters) * output.div_ceil(conv::Conv::PLACES);
        let (x, w) = (x.tensor(cx)?, w.tensor(cx)?);
        let terms = (self.channels * taps, cx.target.max_iterations as usize);
        let matrix = (self.group * self.filters, output);
        in_parts(cx, terms, matrix, scalar, sink, |cx, (first, last), epilogue, y| {
            let fixed = [planes, self.group, self.filters, self.channels, first, last, input, output, taps];
            let axes = self.spans.iter().flat_map(|s| [s.input, s.output, s.kernel, s.stride, s.dilation, s.begin]);
            let params = fixed.into_iter().chain(axes).map(|v| v as u32).chain(epilogue.params).collect();
            let tensors = [x, w].into_iter().chain(epilogue.tensors).chain([y]).collect();
            let kernel = conv::Conv { scalar, rank, filters, epilogue: epilogue.fused };
            cx.call(kernel, tensors, params, groups);
            Ok(())
        })
    }
}

/// Adds to each element of channel `c` (axis 1) `bias[c]`.
pub(crate) fn add_bias<T: product::Number>(y: &mut [T], shape: &[usize], bias: &[T]) {
    let plane: usize = shape[2..].iter().product();
    for (i, y) in y.iter_mut().enumerate() {
        *y += bias[i / plane % bias.len()];
    }
}

impl Operator for Conv {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, w, bias) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        let sizes = Sizes::of(&self.window, self.group, &x.shape, &w.shape)?;
        if x.dtype != w.dtype || bias.is_some_and(|b| b.dtype != x.dtype) || !x.dtype.is_float() {
            refuse!("the inputs are not floats of one dtype");
        }
        if bias.is_some_and(|b| b.shape != [sizes.group * sizes.filters]) {
            refuse!("the bias has not one value for each of {} output channels", sizes.group * sizes.filters);
        }
        Ok(vec![Fact::new(x.dtype, sizes.shape())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?);
        let sizes = Sizes::of(&self.window, self.group, &x.shape, &w.shape)?;
        let mut y = sizes.eval(x.floats()?, w.floats()?);
        if let Some(bias) = optional(inputs, 2) {
            add_bias(&mut y, &sizes.shape(), bias.floats()?);
        }
        Ok(vec![Array::float(x.dtype, &sizes.shape(), y)])
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (x, w, bias) = (cx.fact(0)?, cx.fact(1)?, cx.optional_fact(2));
        let sizes = Sizes::of(&self.window, self.group, &x.shape, &w.shape)?;
        let shape = sizes.bias_shape();
        let finish = |code: &mut Code, value| if bias.is_none() { Ok(value) } else { code.add_input(value, 2, &shape) };
        sizes.lower(cx, Source::Input(0), Source::Input(1), Scalar::F32, Sink::Finished(&finish))
    }
}

fn cases() -> Vec<Case> {
    let conv = |name: &str, x: &[usize], w: &[usize]| {
        Case::new("Conv", name)
            .tolerance(Tolerance::ACCUMULATION)
            .input(case::random(x))
            .constant(case::random(w))
    };
    let bias = |case: Case, n: usize| case.constant(case::random(&[n]));
    let same = |case: Case, rank: usize| case.ints("pads", &vec![1; 2 * rank]);
    vec![
        conv("3x3", &[1, 3, 9, 11], &[8, 3, 3, 3]),
        bias(same(conv("3x3_padded", &[2, 5, 14, 13], &[20, 5, 3, 3]), 2), 20),
        bias(same(conv("3x3_stride2", &[1, 16, 15, 17], &[33, 16, 3, 3]), 2), 33).ints("strides", &[2, 2]),
        bias(conv("7x7_stride2", &[1, 3, 32, 32], &[16, 3, 7, 7]), 16).ints("strides", &[2, 2]).ints("pads", &[3, 3, 3, 3]),
        conv("dilated", &[1, 4, 12, 12], &[8, 4, 3, 3]).ints("dilations", &[2, 3]).ints("pads", &[2, 3, 2, 3]),
        conv("asymmetric", &[1, 2, 7, 5], &[3, 2, 3, 2]).ints("pads", &[1, 0, 2, 3]).ints("strides", &[2, 1]),
        conv("beyond", &[1, 1, 3, 3], &[1, 1, 3, 3]).ints("pads", &[4, 4, 4, 4]),
        bias(conv("1x1", &[1, 24, 14, 14], &[40, 24, 1, 1]), 40),
        bias(conv("1x1_odd", &[2, 23, 7, 7], &[70, 23, 1, 1]), 70),
        conv("1x1_stride2", &[1, 8, 9, 9], &[12, 8, 1, 1]).ints("strides", &[2, 2]),
        conv("1x1_padded", &[1, 8, 5, 5], &[12, 8, 1, 1]).ints("pads", &[1, 1, 1, 1]),
        bias(same(conv("depthwise", &[1, 12, 15, 14], &[12, 1, 3, 3]), 2), 12).int("group", 12),
        bias(same(conv("depthwise_stride2", &[2, 12, 15, 15], &[12, 1, 3, 3]), 2), 12).int("group", 12).ints("strides", &[2, 2]),
        same(conv("depthwise_multiplier", &[1, 6, 9, 9], &[12, 1, 3, 3]), 2).int("group", 6),
        bias(same(conv("groups", &[2, 8, 9, 10], &[24, 4, 3, 3]), 2), 24).int("group", 2),
        conv("same_upper", &[1, 2, 6, 7], &[4, 2, 4, 3]).string("auto_pad", "SAME_UPPER").ints("strides", &[2, 2]),
        conv("same_lower", &[1, 2, 6, 7], &[4, 2, 4, 3]).string("auto_pad", "SAME_LOWER"),
        conv("valid", &[1, 2, 6, 7], &[4, 2, 4, 3]).string("auto_pad", "VALID"),
        bias(same(conv("1d", &[2, 6, 33], &[9, 6, 3]), 1), 9),
        conv("1d_long", &[1, 1, 400], &[8, 1, 64]).ints("strides", &[4]),
        bias(same(conv("3d", &[1, 3, 5, 6, 7], &[8, 3, 3, 3, 3]), 3), 8).ints("strides", &[1, 2, 1]),
        conv("many_channels", &[1, 130, 6, 6], &[66, 130, 3, 3]),
        conv("whole", &[1, 20, 7, 7], &[30, 20, 7, 7]),
        same(conv("empty_batch", &[0, 3, 5, 5], &[8, 3, 3, 3]), 2),
        Case::new("Conv", "dynamic_weights")
            .tolerance(Tolerance::ACCUMULATION)
            .input(case::random(&[1, 3, 8, 8]))
            .input(case::random(&[4, 3, 3, 3]))
            .input(case::random(&[4])),
        Case::new("Conv", "float16")
            .opset(11)
            .tolerance(Tolerance { relative: 1e-3, absolute: 1e-3 })
            .input(case::converted(&case::random(&[1, 3, 8, 8]), DType::F16))
            .constant(case::converted(&case::random(&[4, 3, 3, 3]), DType::F16)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_every_tap_once() {
        let ones = |shape: &[usize]| Array::float(DType::F32, shape, vec![1.0; shape.iter().product()]);
        let attributes = crate::graph::Attributes(
            [("pads".to_string(), crate::graph::Attr::Ints(vec![1, 1, 1, 1]))].into_iter().collect(),
        );
        let def = NodeDef { op_type: "Conv", opset: 11, attributes: &attributes, inputs: &[true, true], outputs: &[true] };
        let op = parse(&def).unwrap();
        let y = op.operator().eval(&[Some(&ones(&[1, 2, 3, 3])), Some(&ones(&[1, 2, 3, 3]))]).unwrap();
        assert_eq!(y[0].floats().unwrap(), [8.0, 12.0, 8.0, 12.0, 18.0, 12.0, 8.0, 12.0, 8.0]);
    }
}
