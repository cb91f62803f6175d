//! Softmax, LogSoftmax, Hardmax.
//!
//! History: 1, 11 (negative axes; default axis 1; the input is flattened to a matrix at the axis), 13 (along one axis, by
//! default the last).

use super::axes;
use super::case::{self, Case, Tolerance};
use super::division::Division;
use super::rows::{Rows, element, position, value};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, onnx, refuse, required, types};
use crate::array::rows;
use crate::facts::Fact;
use crate::kernels::expr::{Fn1, Fn2, Scalar};
use crate::kernels::reduce::Combine;
use crate::plan::Lower;

/// Softmax, LogSoftmax or Hardmax, as `kind` says.
#[derive(Clone, Debug)]
pub(crate) struct Softmax {
    kind: SoftmaxKind,
    axis: i64,
    /// Whether all axes from `axis` on form one row.
    flatten: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum SoftmaxKind {
    Soft,
    Log,
    Hard,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("Softmax", 1, types![T -> T; T: FLOATS BF16@13], parse, || cases("Softmax")),
    onnx("LogSoftmax", 1, types![T -> T; T: FLOATS BF16@13], parse, || cases("LogSoftmax")),
    onnx("Hardmax", 1, types![T -> T; T: FLOATS BF16@13], parse, || cases("Hardmax")),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let kind = match def.op_type {
        "Softmax" => SoftmaxKind::Soft,
        "LogSoftmax" => SoftmaxKind::Log,
        _ => SoftmaxKind::Hard,
    };
    let flatten = def.opset < 13;
    let axis = def.attributes.int_or("axis", if flatten { 1 } else { -1 })?;
    Ok(Softmax { kind, axis, flatten }.into())
}

impl Softmax {
    /// Whether it is the Softmax of each row of a value of `rank` dimensions.
    pub(crate) fn is_of_rows(&self, rank: usize) -> bool {
        self.kind == SoftmaxKind::Soft && self.axes(rank).is_ok_and(|axes| axes[..] == [rank.wrapping_sub(1)])
    }

    fn axes(&self, rank: usize) -> Result<Vec<usize>, Why> {
        match self.flatten {
            true if self.axis == rank as i64 => Ok(vec![]),
            true => Ok((axes::axis(self.axis, rank)?..rank).collect()),
            false if rank == 0 && matches!(self.axis, 0 | -1) => Ok(vec![]),
            false => Ok(vec![axes::axis(self.axis, rank)?]),
        }
    }
}

impl Operator for Softmax {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() {
            refuse!("expected floats, got {}", x.dtype);
        }
        self.axes(x.rank())?;
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let axes = self.axes(inputs.first().copied().flatten()?.rank()).ok()?;
        Division::of_first(axis, inputs, outputs.first()?, |axis| !axes.contains(&axis))
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let data = x.floats()?;
        let mut y = vec![0.0; data.len()];
        for row in rows(&x.shape, &self.axes(x.shape.len())?) {
            let max = row.iter().map(|&i| data[i]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|&i| (data[i] - max).exp()).sum();
            let nan = row.iter().position(|&i| data[i].is_nan());
            let first = nan.or_else(|| row.iter().position(|&i| data[i] == max));
            for (place, &i) in row.iter().enumerate() {
                y[i] = match self.kind {
                    SoftmaxKind::Soft => (data[i] - max).exp() / sum,
                    SoftmaxKind::Log => data[i] - max - sum.ln(),
                    SoftmaxKind::Hard => f64::from(u8::from(first == Some(place))),
                };
            }
        }
        Ok(vec![Array::float(x.dtype, &x.shape, y)])
    }

    fn exponentiates(&self) -> bool {
        self.kind == SoftmaxKind::Soft
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
        let mut rows = Rows::new(cx, 0, &x.shape, &self.axes(x.rank())?)?;
        let output = cx.output(0)?;
        if self.kind == SoftmaxKind::Hard {
            super::arg::fold_position(&mut rows, Combine::Max, false);
            rows.element_result(output, |e| {
                let (here, first) = (position(e), value(e, 1, Scalar::I32));
                let found = e.two(Fn2::Equal, here, first);
                e.convert(found, float)
            });
            return rows.emit(cx);
        }
        // A NaN in the row makes the sum NaN, and with it the whole row.
        rows.fold(Combine::MaxNumber, |e| element(e, float), |_, max| max);
        let log = self.kind == SoftmaxKind::Log;
        let exp = |e: &mut _| {
            let (x, max) = (element(e, float), value(e, 0, float));
            let below = e.sub(x, max);
            e.one(Fn1::Exp, below)
        };
        rows.fold(Combine::Sum, exp, |e, sum| if log { e.one(Fn1::Log, sum) } else { sum });
        rows.element_result(output, |e| {
            let sum = value(e, 1, float);
            match log {
                true => {
                    let (x, max) = (element(e, float), value(e, 0, float));
                    let below = e.sub(x, max);
                    e.sub(below, sum)
                }
                false => {
                    let exp = exp(e);
                    e.two(Fn2::Div, exp, sum)
                }
            }
        });
        rows.emit(cx)
    }
}

fn cases(name: &'static str) -> Vec<Case> {
    let new = |case: &str| {
        let tolerance = if name == "Hardmax" { Tolerance::EXACT } else { Tolerance::TRANSCENDENTAL };
        Case::new(name, case).tolerance(tolerance)
    };
    let x = |shape: &[usize]| case::uniform(shape, -6.0, 6.0);
    let special = [1000.0, 999.0, f32::NEG_INFINITY, -1000.0, f32::NAN, 1.0, 3.0, 3.0];
    vec![
        new("last").input(x(&[3, 7])),
        new("first").int("axis", 0).input(x(&[5, 3])),
        new("middle").int("axis", -2).input(x(&[2, 9, 3])),
        new("rank5").int("axis", 3).input(x(&[2, 1, 2, 5, 3])),
        new("vector").input(x(&[130])),
        new("one").input(x(&[4, 1])),
        new("vectors").input(x(&[7, 64])),
        new("many_rows").input(x(&[600, 68])),
        new("many_rows_odd").input(x(&[601, 70])),
        new("wide").input(x(&[3, 1300])),
        new("long").input(x(&[2, 3000])),
        new("longest").input(x(&[1, 70_000])),
        new("long_columns").int("axis", 0).input(x(&[9000, 3])),
        new("empty_rows").input(x(&[3, 0])),
        new("no_rows").input(x(&[0, 3])),
        new("special").input(case::values(&[4, 2], &special)),
        new("flattened").opset(11).input(x(&[2, 3, 4])),
        new("flattened_at_2").opset(11).int("axis", 2).input(x(&[2, 3, 4])),
        new("float16").input(case::converted(&x(&[3, 9]), DType::F16)),
        new("bfloat16").input(case::converted(&x(&[3, 9]), DType::BF16)),
    ]
}
