//! IsInf: where a float is infinite, of either sign or of one sign.
//!
//! History: 10, 20 (more types).

use super::case::{self, Case, Tolerance};
use super::{Array, DType, Maps, NodeDef, Op, Operator, Row, Why, onnx, refuse, required, types};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg, Scalar};

/// The signs whose infinity counts.
#[derive(Clone, Debug)]
pub(crate) struct IsInf {
    negative: bool,
    positive: bool,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("IsInf", 10, types![T1 -> bool; T1: F32 F64 FLOAT8@20 BF16@20 F16@20], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let flag = |name| def.attributes.flag(name, true);
    Ok(IsInf { negative: flag("detect_negative")?, positive: flag("detect_positive")? }.into())
}

impl Operator for IsInf {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() {
            refuse!("expected a float tensor, got {}", x.dtype);
        }
        Ok(vec![Fact::new(DType::Bool, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let test =
            |x: &f64| (self.negative && *x == f64::NEG_INFINITY) || (self.positive && *x == f64::INFINITY);
        Ok(vec![Array::bools(&x.shape, x.floats()?.iter().map(test).collect())])
    }

    fn maps(&self) -> Maps {
        Maps::First
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], _: DType) -> Option<Reg> {
        let x = required(inputs, 0).ok()?;
        Some(match (self.negative, self.positive) {
            (true, true) => {
                let (negative, positive) = (e.one(Fn1::IsNegInf, x), e.one(Fn1::IsPosInf, x));
                e.two(Fn2::Or, negative, positive)
            }
            (true, false) => e.one(Fn1::IsNegInf, x),
            (false, true) => e.one(Fn1::IsPosInf, x),
            (false, false) => e.constant(Scalar::Bool, 0.0),
        })
    }
}

fn cases() -> Vec<Case> {
    let x = || {
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, f32::MAX, f32::MIN];
        case::values(&[2, 3], &special)
    };
    let new = |case: &str| Case::new("IsInf", case).tolerance(Tolerance::EXACT);
    vec![
        new("both").input(x()),
        new("positive").int("detect_negative", 0).input(x()),
        new("negative").int("detect_positive", 0).input(x()),
        new("neither").int("detect_positive", 0).int("detect_negative", 0).input(x()),
        new("scalar").input(case::values(&[], &[f32::INFINITY])),
        new("empty").input(case::random(&[0, 3])),
        new("float16").input(case::converted(&x(), DType::F16)),
    ]
}
