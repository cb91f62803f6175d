//! ArgMax and ArgMin: the position of the greatest or least element along one axis.
//!
//! History: 1, 11 (negative axes), 12 (`select_last_index`), 13 (bfloat16).

use super::axes;
use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare};
use super::reduce::reduced_shape;
use super::rows::{Rows, element, position, value};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, onnx, refuse, required, types};
use crate::array::{Numbers, rows};
use crate::facts::Fact;
use crate::kernels::expr::{Fn1, Fn2, Scalar};
use crate::kernels::reduce::Combine;
use crate::plan::Lower;

/// ArgMax or ArgMin.
#[derive(Clone, Debug)]
pub(crate) struct Arg {
    max: bool,
    axis: i64,
    keepdims: bool,
    last: bool,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("ArgMax", 1, types![T -> int64; T: NUMBERS BF16@13], parse, || cases("ArgMax")),
    onnx("ArgMin", 1, types![T -> int64; T: NUMBERS BF16@13], parse, || cases("ArgMin")),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Arg {
        max: def.op_type == "ArgMax",
        axis: def.attributes.int_or("axis", 0)?,
        keepdims: def.attributes.flag("keepdims", true)?,
        last: def.attributes.flag("select_last_index", false)?,
    }
    .into())
}

impl Operator for Arg {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let axis = axes::axis(self.axis, x.rank())?;
        let shape = reduced_shape(&x.shape, &[axis], self.keepdims);
        if x.shape[axis] == 0 && !shape.contains(&0) {
            refuse!("axis {axis} has no elements to choose from");
        }
        Ok(vec![Fact::new(DType::I64, shape)])
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let rank = inputs.first().copied().flatten()?.rank();
        let along = axes::axis(self.axis, rank).ok()?;
        let own = if self.keepdims || axis < along { axis } else { axis + 1 };
        let size = *outputs.first()?.shape.get(axis)?;
        (own != along).then_some(Division::of(size, vec![InputShare::along(own)]))
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let axis = axes::axis(self.axis, x.shape.len())?;
        // f64 holds integers of every type but the widest exactly; those are compared as i128.
        let better = |a: usize, b: usize| match &x.data {
            Numbers::Int(v) => {
                if self.max {
                    v[a] > v[b]
                } else {
                    v[a] < v[b]
                }
            }
            Numbers::Float(v) if v[b].is_nan() => false,
            Numbers::Float(v) if v[a].is_nan() => true,
            Numbers::Float(v) => {
                if self.max {
                    v[a] > v[b]
                } else {
                    v[a] < v[b]
                }
            }
            Numbers::Text(_) => false,
        };
        let place = |row: Vec<usize>| {
            let mut best = 0;
            for i in 1..row.len() {
                let tie = !better(row[best], row[i]);
                if better(row[i], row[best]) || self.last && tie {
                    best = i;
                }
            }
            best as i128
        };
        let shape = reduced_shape(&x.shape, &[axis], self.keepdims);
        Ok(vec![Array::int(DType::I64, &shape, rows(&x.shape, &[axis]).map(place).collect())])
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
        let mut rows = Rows::new(cx, 0, &x.shape, &[axes::axis(self.axis, x.rank())?])?;
        fold_position(&mut rows, if self.max { Combine::Max } else { Combine::Min }, self.last);
        let output = cx.output(0)?;
        let register = cx.register(DType::I64).unwrap_or(Scalar::I32);
        rows.row_result(output, |e| {
            let place = value(e, 1, Scalar::I32);
            e.convert(place, register)
        });
        rows.emit(cx)
    }
}

/// Adds two passes: one finds the greatest or least element, the other the first or last position that holds it (or NaN).
pub(crate) fn fold_position(rows: &mut Rows, combine: Combine, last: bool) {
    let scalar = rows.scalar();
    rows.fold(combine, |e| element(e, scalar), |_, best| best);
    let (first_of, none) = if last { (Combine::Max, -1.0) } else { (Combine::Min, f64::from(i32::MAX)) };
    rows.fold(
        first_of,
        |e| {
            let (x, best) = (element(e, scalar), value(e, 0, scalar));
            let mut found = e.two(Fn2::Equal, x, best);
            if scalar.is_float() {
                let nan = e.one(Fn1::IsNan, x);
                found = e.two(Fn2::Or, found, nan);
            }
            let (here, none) = (position(e), e.constant(Scalar::I32, none));
            e.select(found, here, none)
        },
        |_, place| place,
    );
}

fn cases(name: &'static str) -> Vec<Case> {
    let new = |case: &str| Case::new(name, case).tolerance(Tolerance::EXACT);
    let ties = [2.0, 3.0, 3.0, 2.0, 2.0, 1.0, f32::NAN, 0.0, f32::NAN];
    let infinite = [f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY, f32::INFINITY];
    vec![
        new("default").input(case::random(&[5, 3])),
        new("last").int("axis", -1).input(case::random(&[3, 7])),
        new("middle").int("axis", 1).int("keepdims", 0).input(case::random(&[2, 9, 3])),
        new("rank5").int("axis", 3).input(case::random(&[2, 1, 2, 5, 3])),
        new("ties").int("axis", 1).input(case::values(&[3, 3], &ties)),
        new("ties_last").int("axis", 1).int("select_last_index", 1).input(case::values(&[3, 3], &ties)),
        new("infinite").int("axis", 1).input(case::values(&[2, 2], &infinite)),
        new("vectors").int("axis", -1).input(case::random(&[7, 64])),
        new("many_rows").int("axis", -1).input(case::random(&[513, 36])),
        new("long").int("axis", -1).input(case::random(&[2, 70_000])),
        new("no_rows").int("axis", 1).input(case::random(&[0, 3])),
        new("int32").int("axis", 1).input(case::values(&[2, 3], &[-3i32, i32::MAX, 4, 9, i32::MIN, 1])),
        new("int64").int("axis", 1).input(case::integers(&[4, 9], -5, 5)),
        new("uint8").int("axis", 1).input(case::values(&[2, 3], &[0u8, 255, 4, 9, 0, 0])),
        new("float16").int("axis", 1).input(case::converted(&case::random(&[3, 9]), DType::F16)),
    ]
}
