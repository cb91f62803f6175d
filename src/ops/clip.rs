//! Clip: limits every element to an interval. NaN stays NaN; a minimum above the maximum gives the maximum.
//!
//! History: 6 (`min` and `max` are attributes), 11 (optional inputs), 12 (integers), 13 (bfloat16).

use super::case::{self, Case, Tolerance};
use super::{Array, DType, Maps, NodeDef, Op, Operator, Row, Why, onnx, optional, refuse, required, types};
use crate::array::Numbers;
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn2, Reg};

/// The limits that version 6 has as attributes; later versions have inputs 1 and 2 instead.
#[derive(Clone, Debug)]
pub(crate) struct Clip {
    min: Option<f32>,
    max: Option<f32>,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("Clip", 1, types![T T T -> T; T: FLOATS NUMBERS@12 BF16@13], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    if def.opset >= 11 {
        return Ok(Clip { min: None, max: None }.into());
    }
    Ok(Clip { min: def.attributes.float("min")?, max: def.attributes.float("max")? }.into())
}

impl Operator for Clip {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        for limit in inputs.iter().skip(1).flatten() {
            if limit.count() != 1 || limit.dtype != x.dtype {
                refuse!("a limit must be one {}, got {limit}", x.dtype);
            }
        }
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let limit = |i, attribute: Option<f32>| match optional(inputs, i).map(|limit: &Array| &limit.data) {
            Some(Numbers::Float(v)) => (v.first().copied(), None),
            Some(Numbers::Int(v)) => (None, v.first().copied()),
            _ => (attribute.map(f64::from), None),
        };
        let (min, max) = (limit(1, self.min), limit(2, self.max));
        let float = |x: f64| {
            let raised = min.0.filter(|&min| x < min).unwrap_or(x);
            max.0.filter(|&max| raised > max).unwrap_or(raised)
        };
        let int = |x: i128| {
            let raised = min.1.filter(|&min| x < min).unwrap_or(x);
            max.1.filter(|&max| raised > max).unwrap_or(raised)
        };
        Ok(vec![x.map(float, int)])
    }

    fn maps(&self) -> Maps {
        Maps::First
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], _: DType) -> Option<Reg> {
        let mut x = required(inputs, 0).ok()?;
        let limits = [(1, self.min, Fn2::Max), (2, self.max, Fn2::Min)];
        for (i, attribute, function) in limits {
            let limit = optional(inputs, i).or_else(|| attribute.map(|value| e.float(x, value.into())));
            if let Some(limit) = limit {
                x = e.two(function, x, limit);
            }
        }
        Some(x)
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str| Case::new("Clip", case).tolerance(Tolerance::EXACT);
    let (low, high) = (case::values(&[], &[-0.5f32]), case::values(&[], &[0.25f32]));
    let x = || case::random(&[3, 7]);
    vec![
        new("both").input(x()).input(low.clone()).input(high.clone()),
        new("constants").input(x()).constant(low.clone()).constant(high.clone()),
        new("min").input(x()).input(low.clone()),
        new("max").input(x()).absent().input(high.clone()),
        new("neither").input(x()),
        new("crossed").input(x()).input(high.clone()).input(low.clone()),
        new("attributes").opset(6).float("min", -0.5).float("max", 0.25).input(x()),
        new("attribute").opset(10).float("max", 0.25).input(x()),
        new("scalar").input(case::random(&[])).input(low.clone()).input(high.clone()),
        new("empty").input(case::random(&[0, 3])).input(low.clone()).input(high.clone()),
        new("nan")
            .input(case::values(&[4], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0]))
            .input(low)
            .input(high),
        new("int8")
            .input(case::values(&[5], &[-128i8, -3, 0, 3, 127]))
            .input(case::values(&[], &[-2i8]))
            .input(case::values(&[], &[100i8])),
        new("int64")
            .input(case::values(&[4], &[-9i64, -3, 0, 300_000]))
            .constant(case::values(&[], &[-4i64]))
            .constant(case::values(&[], &[i64::MAX])),
    ]
}
