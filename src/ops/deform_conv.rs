//! DeformConv: a convolution whose taps read between elements, each at the place that its own offset says, weighted by a mask.
//!
//! History: 19, 22 (bfloat16).

use super::accumulate::{Sink, in_parts};
use super::case::{self, Case, Tolerance};
use super::conv::{ConvSizes, add_bias, group};
use super::window::{Span, Window};
use super::{
    Array, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, optional, product, refuse, required,
    types,
};
use crate::facts::Fact;
use crate::kernels::deform_conv as kernel;
use crate::kernels::expr::Scalar;
use crate::kernels::gather::groups;
use crate::kernels::params;
use crate::plan::{Code, Lower};

/// Inputs: x, weights, offsets, bias, mask.
#[derive(Clone, Debug)]
pub(crate) struct DeformConv {
    window: Window,
    group: usize,
    /// The number of groups of input channels that share offsets.
    offset_groups: usize,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("DeformConv", 19, types![T T T T T -> T; T: FLOATS BF16@22], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let offset_groups = match def.attributes.int_or("offset_group", 1)? {
        groups if (1..1 << 30).contains(&groups) => groups as usize,
        groups => refuse!("offset_group {groups} is not a number of groups"),
    };
    Ok(DeformConv { window: Window::parse(def)?, group: group(def)?, offset_groups }.into())
}

/// The weighted mean of the four elements around (row, column); elements outside of the plane are zeros.
fn sample(plane: &[f64], [height, width]: [usize; 2], row: f64, column: f64) -> f64 {
    let at = |row: f64, column: f64| {
        let inside = row >= 0.0 && column >= 0.0 && row < height as f64 && column < width as f64;
        if inside { plane[row as usize * width + column as usize] } else { 0.0 }
    };
    let (r, c) = (row.floor(), column.floor());
    let (below, beside) = (row - r, column - c);
    let upper = at(r, c) * (1.0 - beside) + at(r, c + 1.0) * beside;
    let lower = at(r + 1.0, c) * (1.0 - beside) + at(r + 1.0, c + 1.0) * beside;
    upper * (1.0 - below) + lower * below
}

impl DeformConv {
    /// The sizes of the convolution, and the spans of its two axes.
    fn sizes(&self, x: &[usize], w: &[usize]) -> Result<(ConvSizes, [Span; 2]), Why> {
        let sizes = ConvSizes::of(&self.window, self.group, x, w)?;
        let [down, right] = sizes.spans[..] else {
            refuse!(
                "a deformable convolution over {} axes is not supported; over two it is",
                sizes.spans.len()
            )
        };
        if !x[1].is_multiple_of(self.offset_groups) {
            refuse!("{} offset groups do not divide {} channels", self.offset_groups, x[1]);
        }
        Ok((sizes, [down, right]))
    }
}

impl Operator for DeformConv {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, w, offsets) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        let (bias, mask) = (optional(inputs, 3), optional(inputs, 4));
        let (sizes, [down, right]) = self.sizes(&x.shape, &w.shape)?;
        if inputs.iter().flatten().any(|fact| fact.dtype != x.dtype) || !x.dtype.is_float() {
            refuse!("the inputs are not floats of one dtype");
        }
        let taps = self.offset_groups * down.kernel * right.kernel;
        let wanted = |each: usize| [sizes.batch, each * taps, down.output, right.output];
        if offsets.shape != wanted(2) {
            refuse!("the offsets are {offsets}, and {:?} are needed", wanted(2));
        }
        if let Some(mask) = mask.filter(|mask| mask.shape != wanted(1)) {
            refuse!("the mask is {mask}, and {:?} is needed", wanted(1));
        }
        if bias.is_some_and(|b| b.shape != [sizes.group * sizes.filters]) {
            refuse!("the bias has not one value for each of {} output channels", sizes.group * sizes.filters);
        }
        Ok(vec![Fact::new(x.dtype, sizes.shape())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, w, offsets) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        let mask = optional(inputs, 4).map(|mask| mask.floats()).transpose()?;
        let (sizes, [down, right]) = self.sizes(&x.shape, &w.shape)?;
        let (x_values, w_values, offsets) = (x.floats()?, w.floats()?, offsets.floats()?);
        let (channels, filters) = (sizes.group * sizes.channels, sizes.group * sizes.filters);
        let (space, places) = (down.input * right.input, down.output * right.output);
        let taps = down.kernel * right.kernel;
        let mut y = Vec::new();
        for (batch, filter, place) in (0..sizes.batch * filters * places)
            .map(|o| (o / places / filters, o / places % filters, o % places))
        {
            let mut sum = 0.0;
            for term in 0..sizes.channels * taps {
                let (channel, tap) = (filter / sizes.filters * sizes.channels + term / taps, term % taps);
                let shared =
                    (batch * self.offset_groups + channel * self.offset_groups / channels) * taps + tap;
                let at = |d: usize| offsets[(shared * 2 + d) * places + place];
                let row = (place / right.output * down.stride + tap / right.kernel * down.dilation) as f64;
                let column =
                    (place % right.output * right.stride + tap % right.kernel * right.dilation) as f64;
                let plane = &x_values[(batch * channels + channel) * space..][..space];
                let value = sample(
                    plane,
                    [down.input, right.input],
                    row - down.begin as f64 + at(0),
                    column - right.begin as f64 + at(1),
                );
                let weight = mask.map_or(1.0, |mask| mask[shared * places + place]);
                sum += w_values[filter * sizes.channels * taps + term] * value * weight;
            }
            y.push(sum);
        }
        if let Some(bias) = optional(inputs, 3) {
            add_bias(&mut y, &sizes.shape(), bias.floats()?);
        }
        Ok(vec![Array::float(x.dtype, &sizes.shape(), y)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?);
        let (sizes, [down, right]) = self.sizes(&x.shape, &w.shape)?;
        let terms = [sizes.channels, down.kernel, right.kernel];
        let sums = [sizes.batch, sizes.group * sizes.filters, down.output, right.output];
        Ok(of_elements(inputs, outputs).steps(&[sums, [2, terms[0], terms[1], terms[2]]].concat()))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        let (x, bias) = (cx.fact(0)?, cx.optional_fact(3));
        let (x_shape, scalar) = (&x.shape, Scalar::float_for(x.dtype));
        let (sizes, spans) = self.sizes(x_shape, &cx.fact(1)?.shape)?;
        let mut read = vec![cx.input(0)?, cx.input(1)?, cx.input(2)?];
        let mask = cx.optional_fact(4).is_some();
        if mask {
            read.push(cx.input(4)?);
        }
        let filters = sizes.group * sizes.filters;
        let places: usize = product(spans.iter().map(|span| span.output));
        let terms = sizes.channels * product(spans.iter().map(|span| span.kernel));
        let (count, limit) = (sizes.batch * filters * places, cx.target.max_iterations as usize);
        let shape = sizes.bias_shape();
        let finish = |code: &mut Code, value| {
            if bias.is_none() { Ok(value) } else { code.add_input(value, 3, &shape) }
        };
        let sink = Sink::Finished(&finish);
        in_parts(cx, (terms, limit), (filters, places), scalar, sink, |cx, (first, last), epilogue, y| {
            let channels = x_shape[1];
            let mut own =
                vec![count, filters, sizes.filters, channels, sizes.channels, channels / self.offset_groups];
            own.extend([first, last]);
            own.extend(
                spans.iter().flat_map(|s| [s.input, s.output, s.kernel, s.stride, s.dilation, s.begin]),
            );
            let params = params(own, epilogue.params)?;
            let tensors = read.iter().copied().chain(epilogue.tensors).chain([y]).collect();
            cx.call(
                kernel::DeformConv { scalar, mask, epilogue: epilogue.fused },
                tensors,
                params,
                groups(count),
            );
            Ok(())
        })
    }
}

fn cases() -> Vec<Case> {
    // Offsets of up to two elements, so that some taps read outside.
    let new = |name: &str, x: &[usize], w: &[usize], offsets: &[usize]| {
        Case::new("DeformConv", name)
            .tolerance(Tolerance::ACCUMULATION)
            .input(case::random(x))
            .constant(case::random(w))
            .input(case::uniform(offsets, -2.0, 2.0))
    };
    vec![
        new("plain", &[1, 3, 6, 7], &[4, 3, 3, 3], &[1, 18, 4, 5]),
        new("padded", &[2, 2, 5, 5], &[3, 2, 2, 2], &[2, 8, 6, 6]).ints("pads", &[1, 1, 1, 1]),
        new("strides", &[1, 4, 9, 8], &[2, 4, 3, 2], &[1, 12, 4, 4])
            .ints("strides", &[2, 2])
            .ints("pads", &[1, 0, 0, 1]),
        new("dilations", &[1, 2, 9, 9], &[2, 2, 2, 3], &[1, 12, 7, 5]).ints("dilations", &[2, 2]),
        new("bias", &[1, 3, 4, 4], &[5, 3, 2, 2], &[1, 8, 3, 3]).constant(case::random(&[5])),
        new("mask", &[1, 3, 4, 4], &[5, 3, 2, 2], &[1, 8, 3, 3]).absent().input(case::random(&[1, 4, 3, 3])),
        new("bias_and_mask", &[2, 3, 4, 4], &[5, 3, 2, 2], &[2, 8, 3, 3])
            .input(case::random(&[5]))
            .input(case::random(&[2, 4, 3, 3])),
        new("groups", &[1, 6, 5, 5], &[4, 3, 3, 3], &[1, 18, 3, 3]).int("group", 2),
        new("offset_groups", &[1, 6, 5, 5], &[4, 6, 2, 2], &[1, 24, 4, 4]).int("offset_group", 3),
        new("both_groups", &[1, 8, 5, 5], &[4, 4, 2, 2], &[1, 16, 4, 4])
            .int("group", 2)
            .int("offset_group", 2)
            .absent()
            .input(case::random(&[1, 8, 4, 4])),
        new("empty", &[0, 2, 4, 4], &[3, 2, 2, 2], &[0, 8, 3, 3]),
    ]
}
