//! ai.onnx.ml Binarizer: 1 where an element is greater than the threshold, else 0.
//!
//! History: 1.

use super::case::{self, Case, Tolerance};
use super::scores::{ml, ml_case};
use super::{Array, DType, Maps, NodeDef, Op, Operator, Row, Why, refuse, required, types};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn2, Reg};

/// The threshold.
#[derive(Clone, Debug)]
pub(crate) struct Binarizer(f32);

pub(crate) const ROWS: &[Row] = &[ml("Binarizer", 1, types![T -> T; T: F32 F64 INDICES], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    match def.attributes.float_or("threshold", 0.0)? {
        threshold if threshold.is_nan() => refuse!("the threshold is NaN"),
        threshold => Ok(Binarizer(threshold).into()),
    }
}

impl Operator for Binarizer {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let above = |x: f64| f64::from(x > f64::from(self.0));
        Ok(vec![required(inputs, 0)?.map(above, |x| i128::from(x > self.0.floor() as i128))])
    }

    fn maps(&self) -> Maps {
        Maps::First
    }

    fn is_cheap(&self) -> bool {
        true
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], _: DType) -> Option<Reg> {
        let x = required(inputs, 0).ok()?;
        let scalar = e.scalar(x);
        let threshold = match scalar {
            _ if scalar.is_float() => e.float(x, self.0.into()),
            // An infinite threshold becomes the greatest or least i128.
            _ => e.whole(scalar, self.0.floor() as i128),
        };
        let above = e.two(Fn2::Greater, x, threshold);
        let (one, zero) = (e.constant(scalar, 1.0), e.constant(scalar, 0.0));
        Some(e.select(above, one, zero))
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str, threshold: f32| {
        ml_case("Binarizer", case).float("threshold", threshold).tolerance(Tolerance::EXACT)
    };
    let x = [0.5f32, 1.0, 1.5, f32::NAN, f32::INFINITY, -0.0];
    vec![
        ml_case("Binarizer", "default").tolerance(Tolerance::EXACT).input(case::random(&[3, 7])),
        new("float32", 1.0).input(case::values(&[2, 3], &x)),
        new("scalar", -0.5).input(case::random(&[])),
        new("int64", 1.5).input(case::integers(&[3, 4], -3, 4)),
        new("int32", -1.0).input(case::converted(&case::integers(&[3, 4], -3, 4), DType::I32)),
        new("all", f32::NEG_INFINITY).input(case::integers(&[3, 4], -3, 4)),
        new("none", 1e30).input(case::integers(&[3, 4], -3, 4)),
    ]
}
