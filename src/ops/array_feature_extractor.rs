//! ai.onnx.ml ArrayFeatureExtractor: the columns of the last axis that input 1 names. A vector counts as one row.
//!
//! History: 1. An index counts from the start, and one that is negative is an error.

use super::case::{self, Case, Tolerance};
use super::scores::{ml, ml_case};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, product, refuse, required, types};
use crate::array::Numbers;
use crate::facts::Fact;
use crate::kernels::gather as kernel;
use crate::kernels::words;
use crate::plan::Lower;

/// Has no attributes.
#[derive(Clone, Debug)]
pub(crate) struct ArrayFeatureExtractor;

pub(crate) const ROWS: &[Row] =
    &[ml("ArrayFeatureExtractor", 1, types![T int64 -> T; T: F32 F64 INDICES STRING], parse, cases)];

fn parse(_: &NodeDef) -> Result<Op, Why> {
    Ok(ArrayFeatureExtractor.into())
}

/// The columns of data of this shape, and the result's shape where so many are taken.
fn geometry(data: &[usize], taken: usize) -> Result<(usize, Vec<usize>), Why> {
    let Some((&columns, outer)) = data.split_last() else { refuse!("a scalar has no columns") };
    let outer = if outer.is_empty() { &[1] } else { outer };
    Ok((columns, [outer, &[taken]].concat()))
}

fn place(index: i128, columns: usize) -> Result<usize, Why> {
    match usize::try_from(index) {
        Ok(index) if index < columns => Ok(index),
        _ => refuse!("column {index} is asked for, and there are {columns}"),
    }
}

impl Operator for ArrayFeatureExtractor {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (data, taken) = (required(inputs, 0)?, required(inputs, 1)?);
        let (columns, shape) = geometry(&data.shape, taken.count())?;
        if taken.count() > 0 && columns == 0 {
            refuse!("there are no columns to take");
        }
        if let Some(Numbers::Int(known)) = taken.value.as_ref().map(|known| &known.array.data) {
            known.iter().try_for_each(|&index| place(index, columns).map(|_| ()))?;
        }
        Ok(vec![Fact::new(data.dtype, shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (data, taken) = (required(inputs, 0)?, required(inputs, 1)?);
        let (columns, shape) = geometry(&data.shape, taken.len())?;
        let taken =
            taken.ints()?.iter().map(|&index| place(index, columns)).collect::<Result<Vec<_>, _>>()?;
        let source = |i: usize| Some(i / taken.len() * columns + taken[i % taken.len()]);
        Ok(vec![data.gather(&shape, source, None)])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let taken = cx.fact(1)?.count();
        let (columns, shape) = geometry(&cx.fact(0)?.shape, taken)?;
        let count = product(&shape);
        let places = cx.within(1, 0, columns as i64 - 1)?;
        let tensors = vec![cx.input(0)?, places, cx.output(0)?];
        let params = words([count, 1, taken, columns])?;
        cx.call(kernel::Gather::new(1, false), tensors, params, kernel::groups(count));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str| ml_case("ArrayFeatureExtractor", case).tolerance(Tolerance::EXACT);
    vec![
        new("matrix").input(case::random(&[4, 5])).input(case::list(&[4, 0, 4])),
        new("vector").input(case::random(&[5])).input(case::list(&[3])),
        new("constant").input(case::random(&[4, 5])).constant(case::list(&[2, 1])),
        new("table").constant(case::values(&[3], &[7i32, -1, 5])).input(case::list(&[2, 0, 1, 1])),
        new("rank 3").input(case::random(&[2, 3, 4])).input(case::values(&[1, 2], &[3i64, 1])),
        new("scalar index").input(case::random(&[4, 5])).input(case::values(&[], &[2i64])),
        new("none").input(case::random(&[4, 5])).input(case::list(&[])),
        new("int64").input(case::integers(&[3, 4], -9, 9)).input(case::list(&[1, 3])),
        new("int32")
            .input(case::converted(&case::integers(&[3, 4], -9, 9), DType::I32))
            .input(case::list(&[1])),
    ]
}
