//! ConvInteger: the convolution of 8-bit integers, from which zero points are subtracted, in 32 bits.
//!
//! History: 10.

use super::accumulate::Sink;
use super::case::{self, Case, Tolerance};
use super::conv::{ConvSizes, group};
use super::quantized::{centred, channel_shape, check, greatest_sum, lower_centred, sum_scalar};
use super::window::Window;
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_array, of_elements, onnx, optional, required,
    types,
};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::plan::Lower;

#[derive(Clone, Debug)]
pub(crate) struct ConvInteger {
    window: Window,
    group: usize,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("ConvInteger", 10, types![T1 T2 T1 T2 -> int32; T1 T2: BYTES], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(ConvInteger { window: Window::parse(def)?, group: group(def)? }.into())
}

impl ConvInteger {
    fn sizes(&self, x: &[usize], w: &[usize]) -> Result<ConvSizes, Why> {
        ConvSizes::of(&self.window, self.group, x, w)
    }
}

impl Operator for ConvInteger {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?);
        check(x, optional(inputs, 2), |shape| shape.to_vec())?;
        check(w, optional(inputs, 3), |shape| channel_shape(shape, w.rank(), 0))?;
        Ok(vec![Fact::new(DType::I32, self.sizes(&x.shape, &w.shape)?.shape())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?);
        let sizes = self.sizes(&x.shape, &w.shape)?;
        let data = centred(x, optional(inputs, 2), |shape| shape.to_vec())?;
        let weights = centred(w, optional(inputs, 3), |shape| channel_shape(shape, w.shape.len(), 0))?;
        Ok(vec![Array::int(DType::I32, &sizes.shape(), sizes.eval(&data, &weights))])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?);
        let sizes = self.sizes(&x.shape, &w.shape)?;
        let sums = outputs.iter().map(of_array).sum::<Work>();
        // Operands without their zero points, and products of 128 bits.
        Ok(sizes.work(of_elements(inputs, outputs) + of_array(x) + of_array(w) + sums).times(4))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (x, w) = (cx.fact(0)?, cx.fact(1)?);
        let sizes = self.sizes(&x.shape, &w.shape)?;
        let zeros = [2, 3].map(|i| cx.optional_fact(i));
        let sums = greatest_sum(cx, 1, 3, (sizes.terms(), 1))?;
        let scalar = sum_scalar([x, w], zeros, sizes.terms(), sums);
        let data = lower_centred(cx, 0, 2, scalar, |shape| shape.to_vec())?;
        let weights = lower_centred(cx, 1, 3, scalar, |shape| channel_shape(shape, w.rank(), 0))?;
        let sink = Sink::Finished(&|code, sum| Ok(code.builder.convert(sum, Scalar::I32)));
        sizes.lower(cx, data, weights, scalar, sink)
    }
}

fn cases() -> Vec<Case> {
    let unsigned = |shape: &[usize]| case::converted(&case::integers(shape, 0, 256), DType::U8);
    let signed = |shape: &[usize]| case::converted(&case::integers(shape, -128, 128), DType::I8);
    let least = |shape: &[usize]| case::converted(&case::integers(shape, -128, -125), DType::I8);
    let great = |name: &str, channels: usize| {
        let x = case::converted(&case::integers(&[1, channels, 5, 6], 253, 256), DType::U8);
        Case::new("ConvInteger", name).tolerance(Tolerance::EXACT).input(x)
    };
    let new = |name: &str| {
        Case::new("ConvInteger", name)
            .tolerance(Tolerance::EXACT)
            .input(unsigned(&[2, 4, 6, 7]))
            .ints("pads", &[1, 1, 1, 1])
            .int("group", 2)
    };
    vec![
        new("no_zero_point").constant(signed(&[6, 2, 3, 3])),
        new("scalar").constant(signed(&[6, 2, 3, 3])).input(unsigned(&[])),
        new("channels").input(signed(&[6, 2, 3, 3])).input(unsigned(&[1])).input(signed(&[6])),
        // Less their zero points, weights take 9 bits.
        new("nine bits")
            .constant(unsigned(&[6, 2, 3, 3]))
            .input(unsigned(&[]))
            .constant(case::values(&[6], &[113u8, 0, 255, 1, 128, 200])),
        // Odd sums above 2^24, which float32 does not hold, and sums just below.
        great("beyond float32", 80).constant(least(&[9, 80, 3, 3])),
        great("up to float32", 57).constant(least(&[9, 57, 3, 3])),
        great("dynamic beyond float32", 80).input(least(&[9, 80, 3, 3])),
        great("dynamic", 16).input(least(&[9, 16, 3, 3])),
        great("dynamic point", 300).input(least(&[9, 300, 1, 1])),
        great("constant point", 600).constant(least(&[9, 600, 1, 1])),
    ]
}
