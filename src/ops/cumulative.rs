//! CumSum and CumProd: running sums and products along an axis.
//!
//! History: CumSum 11, 14; CumProd 26.

use super::axes;
use super::case::{self, Case, Tolerance};
use super::rows::plain;
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, onnx, product, refuse, required, types};
use crate::array::{Numbers, rows};
use crate::facts::Fact;
use crate::kernels::Class;
use crate::kernels::scan::{Scan, groups};
use crate::plan::{Epilogue, Lower, TensorId};

/// CumSum or CumProd.
#[derive(Clone, Debug)]
pub(crate) struct Cumulative {
    product: bool,
    exclusive: bool,
    reverse: bool,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("CumSum", 11, types![T T2 -> T; T: WORDS F32 F64 F16@14 BF16@14, T2: INDICES], parse, || {
        cases("CumSum")
    }),
    onnx("CumProd", 26, types![T T2 -> T; T: FLOATS WORDS BF16, T2: INDICES], parse, || cases("CumProd")),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Cumulative {
        product: def.op_type == "CumProd",
        exclusive: def.attributes.flag("exclusive", false)?,
        reverse: def.attributes.flag("reverse", false)?,
    }
    .into())
}

fn axis(list: &[i64], rank: usize) -> Result<usize, Why> {
    match list {
        [axis] => axes::axis(*axis, rank),
        _ => refuse!("the axis is one number, and {} were given", list.len()),
    }
}

/// A tensor seen as (outer, length, inner): `[2, 5, 3, 4]` along axis 1 is (2, 5, 12).
#[derive(Clone, Copy)]
struct AxisView {
    outer: usize,
    length: usize,
    inner: usize,
}

impl Operator for Cumulative {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() && !x.dtype.is_int() {
            refuse!("does not sum {}", x.dtype);
        }
        axis(&required(inputs, 1)?.i64s()?, x.rank())?;
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn shape_operands(&self) -> &[usize] {
        &[1]
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let axis = axis(&required(inputs, 1)?.i64s()?, x.shape.len())?;
        let rows = rows(&x.shape, &[axis]).map(|mut row| {
            if self.reverse {
                row.reverse();
            }
            row
        });
        Ok(vec![match &x.data {
            Numbers::Float(data) => {
                let combine = |a: f64, b: f64| if self.product { a * b } else { a + b };
                let identity = if self.product { 1.0 } else { 0.0 };
                Array::float(x.dtype, &x.shape, self.run(data, rows, identity, combine))
            }
            Numbers::Int(data) => {
                let wrap = |v: i128| crate::array::number::wrap_int(x.dtype, v);
                let combine = |a: i128, b: i128| wrap(if self.product { a.wrapping_mul(b) } else { a + b });
                Array::int(x.dtype, &x.shape, self.run(data, rows, i128::from(self.product), combine))
            }
            Numbers::Text(_) => refuse!("does not sum strings"),
        }])
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let x = cx.fact(0)?;
        let axis = axis(&cx.fact(1)?.i64s()?, x.rank())?;
        let count = |dims: &[usize]| product(dims);
        let view = AxisView {
            outer: count(&x.shape[..axis]),
            length: x.shape[axis],
            inner: count(&x.shape[axis + 1..]),
        };
        let epilogue = cx.epilogue(None)?;
        let (input, output) = (cx.input(0)?, cx.output(0)?);
        self.scan(cx, input, output, view, &epilogue);
        Ok(())
    }
}

impl Cumulative {
    fn run<T: Copy>(
        &self,
        data: &[T],
        rows: impl Iterator<Item = Vec<usize>>,
        identity: T,
        combine: impl Fn(T, T) -> T,
    ) -> Vec<T> {
        let mut y = vec![identity; data.len()];
        for row in rows {
            let mut total = identity;
            for i in row {
                let before = total;
                total = combine(total, data[i]);
                y[i] = if self.exclusive { before } else { total };
            }
        }
        y
    }

    /// Scans each row. Where rows are few or very long, three calls do it: they compute the totals of parts, scan those, and
    /// scan the parts.
    fn scan(&self, cx: &mut Lower, input: TensorId, output: TensorId, view: AxisView, epilogue: &Epilogue) {
        let scalar = cx.scalar(input);
        let rows = (view.outer * view.inner).max(1);
        let wanted = if cx.target.class == Class::Cpu { 64 } else { 16384 };
        let longest = cx.target.max_iterations as usize / 2;
        let worth = if view.length < 256 { 1 } else { (wanted / rows).min(view.length.isqrt()) };
        let parts = worth.max(view.length.div_ceil(longest)).max(1);
        let span = view.length.div_ceil(parts).max(1);
        let count = view.outer * parts * view.inner;
        let mut params: Vec<u32> =
            [count, view.length.max(1), view.inner, parts, span].map(|v| v as u32).into();
        let kernel = Scan {
            scalar,
            product: self.product,
            reverse: self.reverse,
            exclusive: self.exclusive,
            carry: parts > 1,
            wide: cx.is_wide(0),
            epilogue: Some(epilogue.fused.clone()),
            in_place: false,
        };
        let mut tensors = vec![input];
        if parts > 1 {
            let shape = [view.outer, parts, view.inner];
            let (totals, before) = (cx.temporary(scalar, &shape), cx.temporary(scalar, &shape));
            let totals_kernel = Scan { carry: false, exclusive: false, epilogue: None, ..kernel.clone() };
            cx.call(totals_kernel, vec![input, totals], params.clone(), groups(count));
            let over_parts = Cumulative { exclusive: true, reverse: false, ..self.clone() };
            over_parts.scan(cx, totals, before, AxisView { length: parts, ..view }, &plain(scalar));
            tensors.push(before);
        }
        params.extend(&epilogue.params);
        tensors.extend(&epilogue.tensors);
        tensors.push(output);
        cx.call(kernel, tensors, params, groups(count));
    }
}

fn cases(name: &'static str) -> Vec<Case> {
    let new = |case: &str| Case::new(name, case).tolerance(Tolerance::ACCUMULATION);
    // Near 1, so that long products stay in range.
    let (low, high) = if name == "CumProd" { (0.9, 1.1) } else { (-1.0, 1.0) };
    let x = |shape: &[usize]| case::uniform(shape, low, high);
    let axis = |axis: i64| case::values(&[], &[axis]);
    vec![
        new("vector").input(x(&[7])).constant(axis(0)),
        new("first").input(x(&[5, 3])).constant(axis(0)),
        new("middle").input(x(&[2, 5, 3])).constant(axis(1)),
        new("last").input(x(&[2, 3, 7])).constant(axis(-1)),
        new("axis_list").input(x(&[2, 7])).constant(case::values(&[1], &[1i32])),
        new("exclusive").int("exclusive", 1).input(x(&[2, 7])).constant(axis(1)),
        new("reverse").int("reverse", 1).input(x(&[2, 7])).constant(axis(1)),
        new("both").int("reverse", 1).int("exclusive", 1).input(x(&[2, 7, 2])).constant(axis(1)),
        new("long").input(x(&[2, 3000])).constant(axis(1)),
        new("long_both").int("reverse", 1).int("exclusive", 1).input(x(&[1, 1000, 3])).constant(axis(1)),
        new("empty").input(x(&[2, 0])).constant(axis(1)),
        new("no_rows").input(x(&[0, 2])).constant(axis(1)),
        new("axis_input").input(x(&[2, 3])).input(axis(0)),
        new("int32")
            .tolerance(Tolerance::EXACT)
            .input(case::values(&[2, 3], &[3i32, -4, 5, 6, 7, -8]))
            .constant(axis(1)),
        new("int64").tolerance(Tolerance::EXACT).input(case::integers(&[2, 9], -3, 4)).constant(axis(1)),
        new("uint32").tolerance(Tolerance::EXACT).input(case::values(&[3], &[3u32, 4, 5])).constant(axis(0)),
        new("float16").input(case::converted(&x(&[9]), DType::F16)).constant(axis(0)),
    ]
}
