//! ai.onnx.ml Normalizer: divides each row by its greatest value, by the sum of its sizes, or by the root of the sum of its
//! squares. A row for which that is 0 stays as it is.
//!
//! History: 1. As in ONNX Runtime, MAX takes the values as they are, not their sizes.

use super::case::{self, Case, Tolerance};
use super::rows::{Rows, element, value};
use super::scores::{matrix, ml, ml_case};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, refuse, required, types};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Scalar};
use crate::kernels::reduce::Combine;
use crate::plan::Lower;

/// The norm by which a row is divided.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Normalizer {
    Max,
    Sum,
    Root,
}

pub(crate) const ROWS: &[Row] =
    &[ml("Normalizer", 1, types![T -> float32; T: F32 F64 INDICES], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(match def.attributes.string_or("norm", "MAX")?.as_str() {
        "MAX" => Normalizer::Max,
        "L1" => Normalizer::Sum,
        "L2" => Normalizer::Root,
        other => refuse!("norm is '{other}', and may be MAX, L1 or L2"),
    }
    .into())
}

impl Operator for Normalizer {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        matrix(&x.shape)?;
        Ok(vec![Fact::new(DType::F32, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (_, columns) = matrix(&x.shape)?;
        let mut values = x.to_f64()?;
        for row in values.chunks_mut(columns.max(1)) {
            let norm = match self {
                Normalizer::Max => row.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                Normalizer::Sum => row.iter().map(|x| x.abs()).sum(),
                Normalizer::Root => row.iter().map(|x| x * x).sum::<f64>().sqrt(),
            };
            if norm != 0.0 {
                row.iter_mut().for_each(|x| *x /= norm);
            }
        }
        Ok(vec![Array::float(DType::F32, &x.shape, values)])
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn takes_prologue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        let float = Scalar::float_for(cx.fact(0)?.dtype);
        let (count, columns) = matrix(&cx.fact(0)?.shape)?;
        let mut rows = Rows::new(cx, 0, &[count, columns], &[1])?;
        let scalar = rows.scalar();
        let own = |e: &mut Builder| {
            let x = element(e, scalar);
            e.convert(x, float)
        };
        let combine = if matches!(self, Normalizer::Max) { Combine::MaxNumber } else { Combine::Sum };
        let term = |e: &mut Builder| {
            let x = own(e);
            match self {
                Normalizer::Max => x,
                Normalizer::Sum => e.one(Fn1::Abs, x),
                Normalizer::Root => e.mul(x, x),
            }
        };
        rows.fold(combine, term, |e, folded| {
            let norm = if matches!(self, Normalizer::Root) { e.one(Fn1::Sqrt, folded) } else { folded };
            let (zero, one) = (e.float(norm, 0.0), e.float(norm, 1.0));
            let none = e.two(Fn2::Equal, norm, zero);
            e.select(none, one, norm)
        });
        let output = cx.output(0)?;
        rows.element_result(output, |e| {
            let (x, norm) = (own(e), value(e, 0, float));
            let quotient = e.two(Fn2::Div, x, norm);
            e.convert(quotient, Scalar::F32)
        });
        rows.emit(cx)
    }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for norm in ["MAX", "L1", "L2"] {
        let new = |case: &str| {
            let case = ml_case("Normalizer", &format!("{norm}, {case}")).string("norm", norm);
            case.tolerance(Tolerance::ACCUMULATION)
        };
        let signs = [0.0f32, 0.0, 0.0, -1.0, -4.0, -0.5, 2.0, -8.0, 1.0];
        cases.extend([
            new("rows").input(case::random(&[5, 7])),
            new("signs").input(case::values(&[3, 3], &signs)),
            new("one row").input(case::random(&[9])),
            new("long").input(case::random(&[2, 5000])),
            new("empty").input(case::random(&[0, 4])),
            new("int64").input(case::integers(&[4, 6], -9, 9)),
            new("int32").input(case::converted(&case::integers(&[4, 6], -9, 9), DType::I32)),
        ]);
    }
    cases
}
