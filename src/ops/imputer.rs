//! ai.onnx.ml Imputer: puts a given value in the place of one that stands for none, such as NaN.
//!
//! History: 1.

use super::case::{self, Case, Tolerance};
use super::scaler::check_columns;
use super::scores::{floats, ml, ml_case};
use super::{Array, Attr, DType, NodeDef, Op, Operator, Row, Why, refuse, required, types};
use crate::array::Numbers;
use crate::facts::Fact;
use crate::kernels::expr::{Fn1, Fn2, Scalar};
use crate::plan::Lower;

/// What is replaced, and by what: one value for all columns, or one for each.
#[derive(Clone, Debug)]
pub(crate) struct Imputer {
    float: (f32, Vec<f32>),
    int: (i64, Vec<i64>),
}

pub(crate) const ROWS: &[Row] = &[ml("Imputer", 1, types![T -> T; T: F32 F64 INDICES], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let attributes = def.attributes;
    let float = (
        attributes.float_or("replaced_value_float", 0.0)?,
        attributes.floats("imputed_value_floats")?.unwrap_or_default(),
    );
    let int = (
        attributes.int_or("replaced_value_int64", 0)?,
        attributes.ints("imputed_value_int64s")?.unwrap_or_default(),
    );
    Ok(Imputer { float, int }.into())
}

impl Operator for Imputer {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let (name, count) = match x.dtype.is_float() {
            true => ("imputed_value_floats", self.float.1.len()),
            false => ("imputed_value_int64s", self.int.1.len()),
        };
        if count == 0 {
            refuse!("'{name}' is missing, and the input is {}", x.dtype);
        }
        check_columns(count, &x.shape)?;
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        Ok(vec![match &x.data {
            Numbers::Int(values) => {
                let (replaced, by) = (i128::from(self.int.0), &self.int.1);
                let of = |(i, &x): (usize, &i128)| if x == replaced { by[i % by.len()].into() } else { x };
                Array::int(x.dtype, &x.shape, values.iter().enumerate().map(of).collect())
            }
            _ => {
                let (replaced, by) = (f64::from(self.float.0), &self.float.1);
                let stands_for_none = |x: f64| x == replaced || x.is_nan() && replaced.is_nan();
                let of =
                    |(i, &x): (usize, &f64)| if stands_for_none(x) { by[i % by.len()].into() } else { x };
                Array::float(x.dtype, &x.shape, x.floats()?.iter().enumerate().map(of).collect())
            }
        }])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        let (x, fact) = (cx.input(0)?, cx.fact(0)?);
        let scalar = cx.scalar(x);
        let (count, by) = if scalar.is_float() {
            let by: Vec<f64> = self.float.1.iter().copied().map(f64::from).collect();
            (by.len(), if scalar == Scalar::F64 { cx.doubles(&by)? } else { floats(cx, &by)? })
        } else if scalar.is_wide() {
            (self.int.1.len(), cx.longs(&self.int.1)?)
        } else {
            let word = |&value: &i64| match i32::try_from(value) {
                Ok(value) => Ok(value as u32),
                Err(_) => Err(Why::too_wide(value)),
            };
            let words = self.int.1.iter().map(word).collect::<Result<Vec<u32>, Why>>()?;
            (words.len(), cx.words(words.len(), || words)?)
        };
        cx.elementwise(0, &[(x, &fact.shape), (by, &[count])], |e, regs| {
            let replaced = match scalar {
                _ if scalar.is_float() && self.float.0.is_nan() => e.one(Fn1::IsNan, regs[0]),
                _ if scalar.is_float() => {
                    let replaced = e.float(regs[0], self.float.0.into());
                    e.two(Fn2::Equal, regs[0], replaced)
                }
                _ => {
                    let replaced = e.whole(scalar, self.int.0.into());
                    e.two(Fn2::Equal, regs[0], replaced)
                }
            };
            let by = e.bitcast(regs[1], scalar);
            e.select(replaced, by, regs[0])
        })
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str| ml_case("Imputer", case).tolerance(Tolerance::EXACT);
    let floats = |case: &str, replaced: f32, by: &[f32]| {
        new(case)
            .float("replaced_value_float", replaced)
            .attr("imputed_value_floats", Attr::Floats(by.to_vec()))
    };
    let ints = |case: &str, replaced: i64, by: &[i64]| {
        new(case).int("replaced_value_int64", replaced).ints("imputed_value_int64s", by)
    };
    let x = [f32::NAN, 1.0, -2.0, f32::NAN, f32::INFINITY, 1.0];
    let whole = || case::integers(&[6, 3], -2, 3);
    vec![
        floats("NaN", f32::NAN, &[7.0, -8.0]).input(case::values(&[3, 2], &x)),
        floats("number", 1.0, &[0.25, 0.5]).input(case::values(&[3, 2], &x)),
        floats("one for all", f32::NAN, &[7.0]).input(case::values(&[3, 2], &x)),
        floats("one row", f32::NAN, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).input(case::values(&[6], &x)),
        floats("empty", f32::NAN, &[7.0, 8.0]).input(case::random(&[0, 2])),
        ints("int64", 2, &[10, 20, -30]).input(whole()),
        ints("int32", -1, &[99]).input(case::converted(&whole(), DType::I32)),
        ints("never", 1 << 40, &[5]).input(whole()),
    ]
}
