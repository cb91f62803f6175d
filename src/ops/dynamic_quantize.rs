//! DynamicQuantizeLinear: a tensor in uint8, with the scale and the zero point that follow from its extremes.
//!
//! History: 11.

use super::case::{self, Case, Tolerance};
use super::quantize;
use super::rows::{Rows, element, plain, value};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, onnx, refuse, required, types};
use crate::array::number::round_float;
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg, Scalar};
use crate::kernels::reduce::Combine;
use crate::plan::{Lower, TensorId};

/// The operator has no attributes.
#[derive(Clone, Debug)]
pub(crate) struct DynamicQuantize;

pub(crate) const ROWS: &[Row] =
    &[onnx("DynamicQuantizeLinear", 11, types![float32 -> uint8 float32 uint8], parse, cases)];

fn parse(_: &NodeDef) -> Result<Op, Why> {
    Ok(DynamicQuantize.into())
}

impl Operator for DynamicQuantize {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if x.dtype != DType::F32 {
            refuse!("expected float32, got {}", x.dtype);
        }
        Ok(vec![
            Fact::new(DType::U8, x.shape.clone()),
            Fact::new(DType::F32, vec![]),
            Fact::new(DType::U8, vec![]),
        ])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let f32 = |value| round_float(DType::F32, value);
        let high = x.floats()?.iter().copied().fold(0.0, f64::max);
        let low = x.floats()?.iter().copied().fold(0.0, f64::min);
        let scale = f32(if high == low { 1.0 } else { f32(high - low) } / 255.0);
        let zero = f32(-low / scale).clamp(0.0, 255.0).round_ties_even();
        let quantized =
            x.floats()?.iter().map(|x| (f32(x / scale).round_ties_even() + zero).clamp(0.0, 255.0));
        Ok(vec![
            Array::int(DType::U8, &x.shape, quantized.map(|v| v as i128).collect()),
            Array::float(DType::F32, &[], vec![scale]),
            Array::int(DType::U8, &[], vec![zero as i128]),
        ])
    }

    fn first_output_is_optional(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let shape = &cx.fact(0)?.shape;
        let axes: Vec<usize> = (0..shape.len()).collect();
        let mut rows = Rows::new(cx, 0, shape, &axes)?;
        let with_zero = |function| {
            move |e: &mut Builder, folded: Reg| {
                let zero = e.f32(0.0);
                e.two(function, folded, zero)
            }
        };
        rows.fold(Combine::Max, |e| element(e, Scalar::F32), with_zero(Fn2::Max));
        rows.fold(Combine::Min, |e| element(e, Scalar::F32), with_zero(Fn2::Min));
        let (scale, zero) = (output(cx, 1, Scalar::F32)?, output(cx, 2, Scalar::U32)?);
        rows.row_result(scale, scale_of);
        rows.row_result(zero, |e| {
            let (scale, low) = (scale_of(e), value(e, 1, Scalar::F32));
            let part = e.two(Fn2::DivRounded, low, scale);
            let zero = e.one(Fn1::Neg, part);
            quantize::saturated(e, zero, None, DType::U8)
        });
        rows.emit_with(cx, &plain(Scalar::F32))?;
        if cx.optional_out(0).is_none() {
            return Ok(());
        }
        let x = cx.input(0)?;
        cx.elementwise(0, &[(x, shape), (scale, &[]), (zero, &[])], |e, regs| {
            let quotient = e.two(Fn2::DivRounded, regs[0], regs[1]);
            quantize::saturated(e, quotient, Some(regs[2]), DType::U8)
        })
    }
}

/// The tensor of output `i`, or a temporary if nothing reads that output.
fn output(cx: &mut Lower, i: usize, scalar: Scalar) -> Result<TensorId, Why> {
    if cx.optional_out(i).is_some() { cx.output(i) } else { Ok(cx.temporary(scalar, &[])) }
}

/// The scale, from the greatest and the least number.
fn scale_of(e: &mut Builder) -> Reg {
    let (high, low) = (value(e, 0, Scalar::F32), value(e, 1, Scalar::F32));
    let (span, one, steps) = (e.sub(high, low), e.f32(1.0), e.f32(255.0));
    let equal = e.two(Fn2::Equal, high, low);
    let span = e.select(equal, one, span);
    e.two(Fn2::DivRounded, span, steps)
}

fn cases() -> Vec<Case> {
    let new =
        |case: &str| Case::new("DynamicQuantizeLinear", case).outputs(3).tolerance(Tolerance::ARITHMETIC);
    vec![
        new("both signs").input(case::uniform(&[3, 7], -2.0, 5.0)),
        new("positive").input(case::uniform(&[17], 1.0, 5.0)),
        new("negative").input(case::uniform(&[2, 3], -5.0, -1.0)),
        new("zeros").input(case::uniform(&[4], 0.0, 0.0)),
        new("scalar").input(case::values(&[], &[3.0f32])),
        new("empty").input(case::uniform(&[0, 3], -1.0, 1.0)),
        new("large").input(case::uniform(&[70, 1000], -3.0, 2.0)),
        new("quantized alone").outputs(1).input(case::uniform(&[9], -2.0, 5.0)),
    ]
}
