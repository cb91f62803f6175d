//! LpNormalization: divides each row along one axis by its L1 or L2 norm.
//!
//! History: 1, 22 (a row of zeros stays zero).

use super::axes;
use super::case::{self, Case, Tolerance};
use super::rows::{Rows, element, value};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, onnx, refuse, required, types};
use crate::array::rows;
use crate::facts::Fact;
use crate::kernels::expr::{Fn1, Fn2, Scalar};
use crate::kernels::reduce::Combine;
use crate::plan::Lower;

/// The attributes.
#[derive(Clone, Debug)]
pub(crate) struct LpNormalization {
    axis: i64,
    squares: bool,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("LpNormalization", 1, types![T -> T; T: FLOATS BF16@22], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let squares = match def.attributes.int_or("p", 2)? {
        1 => false,
        2 => true,
        p => refuse!("p is {p}, and may be 1 or 2"),
    };
    Ok(LpNormalization { axis: def.attributes.int_or("axis", -1)?, squares }.into())
}

impl Operator for LpNormalization {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        axes::axis(self.axis, x.rank())?;
        if !x.dtype.is_float() {
            refuse!("expected floats, got {}", x.dtype);
        }
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let data = x.floats()?;
        let mut y = vec![0.0; data.len()];
        for row in rows(&x.shape, &[axes::axis(self.axis, x.shape.len())?]) {
            let norm = match self.squares {
                true => row.iter().map(|&i| data[i] * data[i]).sum::<f64>().sqrt(),
                false => row.iter().map(|&i| data[i].abs()).sum(),
            };
            row.iter().for_each(|&i| y[i] = if norm == 0.0 { 0.0 } else { data[i] / norm });
        }
        Ok(vec![Array::float(x.dtype, &x.shape, y)])
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
        let x = cx.fact(0)?;
        let float = Scalar::float_for(x.dtype);
        let mut rows = Rows::new(cx, 0, &x.shape, &[axes::axis(self.axis, x.rank())?])?;
        rows.fold(
            Combine::Sum,
            |e| {
                let x = element(e, float);
                if self.squares { e.mul(x, x) } else { e.one(Fn1::Abs, x) }
            },
            |e, sum| {
                let norm = if self.squares { e.one(Fn1::Sqrt, sum) } else { sum };
                // A row of zeros becomes 0 / 1.
                let (zero, one) = (e.float(norm, 0.0), e.float(norm, 1.0));
                let none = e.two(Fn2::Equal, norm, zero);
                e.select(none, one, norm)
            },
        );
        let output = cx.output(0)?;
        rows.element_result(output, |e| {
            let (x, norm) = (element(e, float), value(e, 0, float));
            e.two(Fn2::Div, x, norm)
        });
        rows.emit(cx)
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("LpNormalization", name).tolerance(Tolerance::ACCUMULATION);
    vec![
        new("last").input(case::random(&[3, 7])),
        new("first").int("axis", 0).input(case::random(&[5, 3])),
        new("l1").int("axis", 1).int("p", 1).input(case::random(&[2, 4, 3])),
        new("zeros").input(case::values(&[2, 2], &[0.0f32, 0.0, 3.0, -4.0])),
        new("empty").input(case::random(&[0, 4])),
        new("float16").input(case::converted(&case::random(&[3, 9]), DType::F16)),
    ]
}
