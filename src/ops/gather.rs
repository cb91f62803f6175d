//! Gather: slices along one axis, picked by a tensor of indices.
//!
//! History: 1, 11 (negative indices), 13.

use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare};
use super::{
    Array, DType, NodeDef, OWN_DOMAIN, Op, Operator, Row, Why, axes, indices, onnx, product, required,
    strides, types,
};
use crate::facts::Fact;
use crate::kernels::gather as kernel;
use crate::kernels::words;
use crate::plan::{Always, Lower, Outside};

/// Gather along `axis`.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    axis: i64,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("Gather", 1, types![T Tind -> T; T: ALL BF16@13, Tind: INDICES], parse, cases),
    // Also of the dtypes that ONNX does not let Gather take.
    Row {
        domain: OWN_DOMAIN,
        name: "Gather",
        opsets: (1, 1),
        types: types![T Tind -> T; T: F16 F32 BF16 BYTES INT4 INT2 F4E2M1 FLOAT8, Tind: INDICES],
        parse,
        cases: Vec::new,
    },
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Gather { axis: def.attributes.int_or("axis", 0)? }.into())
}

impl Gather {
    /// The axis as the model gives it.
    pub(crate) fn axis(&self) -> i64 {
        self.axis
    }

    /// The axis, and the result's shape.
    fn geometry(&self, data: &[usize], indices: &[usize]) -> Result<(usize, Vec<usize>), Why> {
        let axis = axes::axis(self.axis, data.len())?;
        Ok((axis, [&data[..axis], indices, &data[axis + 1..]].concat()))
    }
}

impl Operator for Gather {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (data, places) = (required(inputs, 0)?, required(inputs, 1)?);
        indices::check_dtype(places.dtype)?;
        let (axis, shape) = self.geometry(&data.shape, &places.shape)?;
        indices::check(places, &data.shape[axis..=axis])?;
        Ok(vec![Fact::new(data.dtype, shape)])
    }

    fn picks(&self, rank: usize) -> Option<(usize, usize)> {
        axes::axis(self.axis, rank).ok().map(|axis| (1, axis))
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let (data, places) = (inputs.first().copied().flatten()?, inputs.get(1).copied().flatten()?);
        let along = axes::axis(self.axis, data.rank()).ok()?;
        let shares = match axis.checked_sub(along) {
            None => vec![InputShare::along(axis)],
            Some(axis) if axis < places.rank() => vec![InputShare::Whole, InputShare::along(axis)],
            Some(axis) => vec![InputShare::along(along + 1 + axis - places.rank())],
        };
        Some(Division::of(*outputs.first()?.shape.get(axis)?, shares))
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (data, places) = (required(inputs, 0)?, required(inputs, 1)?);
        let (axis, shape) = self.geometry(&data.shape, &places.shape)?;
        let size = data.shape[axis];
        let inner: usize = product(&data.shape[axis + 1..]);
        let picked = places.ints()?.iter().map(|&i| indices::wrap(i, size)).collect::<Result<Vec<_>, _>>()?;
        let source = |i: usize| {
            let (row, within) = (i / inner, i % inner);
            let (outer, n) = (row / picked.len(), row % picked.len());
            Some((outer * size + picked[n]) * inner + within)
        };
        Ok(vec![data.gather(&shape, source, None)])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (data, places, out) = (cx.fact(0)?, cx.fact(1)?, cx.out(0)?);
        let (axis, _) = self.geometry(&data.shape, &places.shape)?;
        let outer: usize = product(&data.shape[..axis]);
        let inner: usize = product(&data.shape[axis + 1..]);
        if let Some(known) = places.constant().filter(|_| cx.always(Always::SingleRow, places.count() == 1)) {
            let row = data.shape[axis] * inner;
            let at = indices::wrap(known.ints()?[0], data.shape[axis])? * inner;
            return strides::gather(cx, 0, at as i64, &[(outer, row as i64), (inner, 1)]);
        }
        let tensors = vec![cx.input(0)?, cx.places(1)?, cx.output(0)?];
        cx.reports_index(1, Outside::Axes(vec![(axis, data.shape[axis])]));
        let params = words([out.count(), inner, places.count(), data.shape[axis]])?;
        cx.call(kernel::Gather::new(1, false), tensors, params, kernel::groups(out.count()));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str| Case::new("Gather", case).tolerance(Tolerance::EXACT);
    let numbers = case::integers(&[4, 3], -100, 100);
    let typed = |dtype: DType| {
        let case = new(&dtype.to_string()).input(case::converted(&numbers, dtype));
        case.input(case::list(&[3, 0, -1]))
    };
    vec![
        new("rows").input(case::random(&[5, 4])).input(case::values(&[2, 2], &[0i64, -1, 4, 2])),
        new("axis 1").int("axis", 1).input(case::random(&[3, 5, 2])).input(case::list(&[4, 1, 1])),
        new("last axis")
            .int("axis", -1)
            .input(case::random(&[2, 3, 5]))
            .input(case::values(&[3], &[0i32, -5, 4])),
        new("scalar").input(case::random(&[3, 4])).input(case::values(&[], &[1i64])),
        new("constant scalar").input(case::random(&[3, 64])).constant(case::values(&[], &[-2i64])),
        new("unaligned scalar").input(case::random(&[3, 5])).constant(case::values(&[], &[1i64])),
        new("constant").int("axis", 1).input(case::random(&[3, 5])).constant(case::list(&[-1, 0])),
        new("vector").input(case::random(&[7])).input(case::values(&[], &[-7i64])),
        new("rank 6").int("axis", 3).input(case::random(&[2, 1, 2, 3, 2, 2])).input(case::list(&[2, 0])),
        new("no indices").input(case::random(&[3, 4])).input(case::list(&[])),
        new("no slices").input(case::random(&[3, 0])).input(case::list(&[1])),
        typed(DType::F16),
        typed(DType::I64),
        typed(DType::I8),
        typed(DType::U8),
        new("bool").input(case::bools(&[3], &[true, false, true])).input(case::list(&[2, 1])),
    ]
}
