//! QLinearConv: a convolution of quantised operands with a quantised result.
//!
//! History: 10.

use super::accumulate::Sink;
use super::case::{self, Case, Tolerance};
use super::conv::{ConvSizes, add_bias, group};
use super::quantized::{
    Spread, centred, channel_shape, check, greatest_sum, lower_centred, lower_requantized, requantized_sum,
    sum_scalar, sum_scale,
};
use super::window::Window;
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Types, Why, Work, of_array, of_elements, onnx, optional,
    refuse, required, types,
};
use crate::array::unravel;
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn2, Reg, Scalar};
use crate::plan::{Code, Lower};

/// Inputs: x, its scale and zero point, w, its scale and zero point, the result's scale and zero point, bias.
#[derive(Clone, Debug)]
pub(crate) struct QLinearConv {
    window: Window,
    group: usize,
}

const TYPES: Types = types![T1 float32 T1 T2 float32 T2 float32 T3 int32 -> T3; T1 T2 T3: BYTES];

pub(crate) const ROWS: &[Row] = &[onnx("QLinearConv", 10, TYPES, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(QLinearConv { window: Window::parse(def)?, group: group(def)? }.into())
}

impl QLinearConv {
    fn sizes(&self, x: &[usize], w: &[usize]) -> Result<ConvSizes, Why> {
        ConvSizes::of(&self.window, self.group, x, w)
    }
}

impl Operator for QLinearConv {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, w, zero) = (required(inputs, 0)?, required(inputs, 3)?, required(inputs, 7)?);
        check(x, optional(inputs, 2), |shape| shape.to_vec())?;
        check(w, optional(inputs, 5), |shape| channel_shape(shape, w.rank(), 0))?;
        if !matches!(zero.dtype, DType::I8 | DType::U8) {
            refuse!("a result of {} is not supported; only 8-bit integers are", zero.dtype);
        }
        let shape = self.sizes(&x.shape, &w.shape)?.shape();
        for i in [1, 4, 6, 7] {
            let given = required(inputs, i)?;
            if given.count() != 1 && given.shape != shape[1..2] {
                refuse!("input {i} has neither one value nor one for each of {} output channels", shape[1]);
            }
        }
        if optional(inputs, 8).is_some_and(|bias| bias.dtype != DType::I32 || bias.shape != shape[1..2]) {
            refuse!("the bias is not an int32 for each of {} output channels", shape[1]);
        }
        Ok(vec![Fact::new(zero.dtype, shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, w, zero) = (required(inputs, 0)?, required(inputs, 3)?, required(inputs, 7)?);
        let sizes = self.sizes(&x.shape, &w.shape)?;
        let data = centred(x, optional(inputs, 2), |shape| shape.to_vec())?;
        let weights = centred(w, optional(inputs, 5), |shape| channel_shape(shape, w.shape.len(), 0))?;
        let mut sums = sizes.eval(&data, &weights);
        if let Some(bias) = optional(inputs, 8) {
            add_bias(&mut sums, &sizes.shape(), bias.ints()?);
        }
        let shape = sizes.shape();
        let spread = |i: usize| Spread::of(inputs, i, |own| channel_shape(own, shape.len(), 1));
        let (x_scale, w_scale, y_scale, y_zero) = (spread(1)?, spread(4)?, spread(6)?, spread(7)?);
        let values = sums.into_iter().enumerate().map(|(i, sum)| {
            let at = unravel(i, &shape);
            let scale = sum_scale(x_scale.at(&at), w_scale.at(&at), y_scale.at(&at));
            requantized_sum(sum, scale, y_zero.at(&at) as i128, zero.dtype)
        });
        Ok(vec![Array::int(zero.dtype, &shape, values.collect())])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (x, w) = (required(inputs, 0)?, required(inputs, 3)?);
        let sizes = self.sizes(&x.shape, &w.shape)?;
        let sums = outputs.iter().map(of_array).sum::<Work>();
        // Operands without their zero points, and products of 128 bits.
        Ok(sizes.work(of_elements(inputs, outputs) + of_array(x) + of_array(w) + sums).times(4))
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (x, w, bias) = (cx.fact(0)?, cx.fact(3)?, cx.optional_fact(8));
        let (dtype, shape) = (cx.out(0)?.dtype, &cx.out(0)?.shape);
        let sizes = self.sizes(&x.shape, &w.shape)?;
        let zeros = [2, 5].map(|i| cx.optional_fact(i));
        let greatest = greatest_sum(cx, 3, 5, (sizes.terms(), 1))?;
        let scalar = sum_scalar([x, w], zeros, sizes.terms(), greatest);
        let data = lower_centred(cx, 0, 2, scalar, |shape| shape.to_vec())?;
        let weights = lower_centred(cx, 3, 5, scalar, |shape| channel_shape(shape, w.rank(), 0))?;
        let spread = |cx: &Lower, i: usize| cx.fact(i).map(|fact| channel_shape(&fact.shape, shape.len(), 1));
        let requantize = |e: &mut Builder, regs: &[Reg]| {
            let scales = e.mul(regs[1], regs[2]);
            let scale = e.two(Fn2::DivRounded, scales, regs[3]);
            let mut sum = e.convert(regs[0], Scalar::I32);
            if let Some(&bias) = regs.get(5) {
                sum = e.add(sum, bias);
            }
            let sum = e.convert(sum, Scalar::F32);
            lower_requantized(e, sum, scale, regs[4], dtype)
        };
        // A kernel that convolves has bindings for a scale of the weights and a bias, but not for more.
        let single =
            |i: usize| cx.optional_fact(i).is_some_and(|fact| fact.count() == 1 && fact.constant().is_some());
        if [1, 6, 7].into_iter().all(single) {
            let finish = |code: &mut Code<'_, '_>, sum: Reg| {
                let mut regs = vec![sum];
                for i in [1, 4, 6, 7] {
                    let under = spread(code.cx(), i)?;
                    regs.push(code.input(i, &under)?);
                }
                if bias.is_some() {
                    regs.push(code.input(8, &sizes.bias_shape())?);
                }
                Ok(requantize(&mut code.builder, &regs))
            };
            return sizes.lower(cx, data, weights, scalar, Sink::Finished(&finish));
        }
        let sums = cx.temporary(scalar, shape);
        sizes.lower(cx, data, weights, scalar, Sink::Tensor(sums))?;
        let mut operands = vec![(sums, shape.to_vec())];
        for i in [1, 4, 6, 7] {
            operands.push((cx.input(i)?, spread(cx, i)?));
        }
        if bias.is_some() {
            operands.push((cx.input(8)?, sizes.bias_shape()));
        }
        let operands: Vec<_> = operands.iter().map(|(tensor, shape)| (*tensor, shape.as_slice())).collect();
        cx.elementwise(0, &operands, requantize)
    }
}

fn cases() -> Vec<Case> {
    let bytes = |shape: &[usize], dtype: DType| {
        let (low, high) = if dtype == DType::I8 { (-128, 128) } else { (0, 256) };
        case::converted(&case::integers(shape, low, high), dtype)
    };
    let new = |name: &str, w: DType, channels: &[usize]| {
        Case::new("QLinearConv", name)
            .tolerance(Tolerance::EXACT)
            .input(bytes(&[1, 4, 7, 6], DType::U8))
            .input(case::uniform(&[], 0.01, 0.02))
            .input(bytes(&[], DType::U8))
            .constant(bytes(&[6, 2, 3, 3], w))
            .constant(case::uniform(channels, 0.01, 0.02))
            .constant(bytes(channels, w))
            .input(case::uniform(&[], 0.1, 0.2))
            .input(bytes(&[], DType::U8))
            .int("group", 2)
    };
    vec![
        new("uint8", DType::U8, &[]),
        new("channels", DType::I8, &[6]).ints("pads", &[1, 1, 1, 1]).ints("strides", &[2, 2]),
        Case::new("QLinearConv", "nine bits")
            .tolerance(Tolerance::EXACT)
            .input(bytes(&[2, 4, 7, 6], DType::U8))
            .constant(case::values(&[], &[0.013f32]))
            .constant(case::values(&[], &[117u8]))
            .constant(bytes(&[6, 2, 3, 3], DType::U8))
            .constant(case::uniform(&[6], 0.01, 0.02))
            .constant(case::values(&[6], &[113u8, 0, 255, 1, 128, 200]))
            .constant(case::values(&[], &[0.14f32]))
            .constant(case::values(&[], &[101u8]))
            .constant(case::values(&[6], &[-4000i32, 3000, 0, 1, 100_000, -5]))
            .int("group", 2)
            .ints("pads", &[1, 1, 1, 1]),
        new("bias", DType::I8, &[6]).constant(case::values(&[6], &[-4000i32, 3000, 0, 1, 1_000_000, -5])),
    ]
}
