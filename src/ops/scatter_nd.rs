//! ScatterND: slices are written at the places that tuples of indices name.
//!
//! History: 11, 13, 16 (reduction: add, mul), 18 (min, max).

use super::case::{self, Case, Tolerance};
use super::scatter::{Reduction, ScatterDim, locate, overwrite, reduce};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, indices, onnx, product, refuse, required, types};
use crate::facts::Fact;
use crate::kernels::scatter as kernel;
use crate::kernels::words;
use crate::plan::{Lower, Outside};

/// ScatterND.
#[derive(Clone, Debug)]
pub(crate) struct ScatterNd {
    reduction: Reduction,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("ScatterND", 11, types![T int64 T -> T; T: ALL BF16@13], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(ScatterNd { reduction: Reduction::parse(def)? }.into())
}

/// The sizes of the axes that a tuple indexes, the number of tuples, and the number of elements that a tuple names.
fn geometry(data: &[usize], places: &[usize], updates: &[usize]) -> Result<(Vec<usize>, usize, usize), Why> {
    let Some((&tuple, before)) = places.split_last() else { refuse!("the indices are a scalar") };
    if tuple > data.len() || updates != [before, &data[tuple..]].concat() {
        refuse!("indices of shape {places:?} and updates of {updates:?} do not fit data of {data:?}");
    }
    Ok((data[..tuple].to_vec(), product(before), product(&data[tuple..])))
}

impl Operator for ScatterNd {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (data, places, updates) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        indices::check_dtype(places.dtype)?;
        let (indexed, ..) = geometry(&data.shape, &places.shape, &updates.shape)?;
        indices::check(places, &indexed)?;
        if updates.dtype != data.dtype {
            refuse!("updates are {}, and the data {}", updates.dtype, data.dtype);
        }
        Ok(vec![Fact::new(data.dtype, data.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (data, places, updates) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        let (indexed, rows, inner) = geometry(&data.shape, &places.shape, &updates.shape)?;
        let (values, tuple) = (places.ints()?, indexed.len());
        let mut elements = Vec::with_capacity(rows * inner);
        for row in 0..rows {
            let place = indices::tuple(&values[row * tuple..(row + 1) * tuple], &indexed)?;
            elements.extend((0..inner).map(|i| place * inner + i));
        }
        Ok(vec![self.reduction.apply(data, updates, &elements)?])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (data, places, updates) = (cx.fact(0)?, cx.fact(1)?, cx.fact(2)?);
        let (indexed, rows, inner) = geometry(&data.shape, &places.shape, &updates.shape)?;
        cx.copy_input(0, 0)?;
        let (index, update, output) = (cx.places(1)?, cx.input(2)?, cx.output(0)?);
        let size: usize = product(&indexed);
        cx.reports_index(1, Outside::Axes(indexed.iter().copied().enumerate().collect()));
        let words: Vec<u32> = words(indexed.iter().copied())?;
        let destination = kernel::Destination::Tuple(indexed.len());
        let Reduction::Some(function) = self.reduction else {
            overwrite(cx, output, (destination, &words), (index, update), (size, rows, inner));
            return Ok(());
        };
        let located = locate(cx, (destination, &words), index, (rows, inner));
        let dims = [
            ScatterDim { size, limit: rows, index_stride: 1, update_stride: inner },
            ScatterDim { size: inner, limit: inner, index_stride: 0, update_stride: 1 },
        ];
        reduce(cx, function, data.dtype, (located, update), (&dims, 0))
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str| Case::new("ScatterND", case).tolerance(Tolerance::EXACT);
    let rows = || case::values(&[4, 1], &[1i64, 3, -1, 1]);
    let mut cases = vec![
        new("elements")
            .input(case::random(&[3, 4]))
            .input(case::values(&[3, 2], &[0i64, 1, -1, -2, 2, 3]))
            .input(case::random(&[3])),
        new("slices")
            .input(case::random(&[3, 4, 5]))
            .input(case::values(&[2, 1], &[2i64, 0]))
            .input(case::random(&[2, 4, 5])),
        new("twice the same").input(case::random(&[6, 3])).input(rows()).input(case::random(&[4, 3])),
        new("grid of tuples")
            .input(case::random(&[2, 3, 2]))
            .input(case::values(&[2, 1, 2], &[0i64, 1, 1, 2]))
            .input(case::random(&[2, 1, 2])),
        new("bool")
            .input(case::bools(&[3], &[true, false, true]))
            .input(case::values(&[1, 1], &[1i64]))
            .input(case::bools(&[1], &[true])),
        new("nothing")
            .input(case::random(&[3]))
            .input(case::values::<i64>(&[0, 1], &[]))
            .input(case::random(&[0])),
        new("constant data")
            .constant(case::random(&[4, 2]))
            .input(case::values(&[1, 1], &[2i64]))
            .input(case::random(&[1, 2])),
    ];
    for reduction in ["add", "mul", "min", "max"] {
        let new = |case: &str| {
            Case::new("ScatterND", &format!("{reduction}/{case}")).string("reduction", reduction)
        };
        cases.push(new("float32").input(case::random(&[6, 3])).input(rows()).input(case::random(&[4, 3])));
        for dtype in [DType::I32, DType::U8] {
            let numbers = |shape: &[usize]| case::converted(&case::integers(shape, 0, 200), dtype);
            let case = new(dtype.name()).tolerance(Tolerance::EXACT);
            cases.push(case.input(numbers(&[6, 3])).input(rows()).input(numbers(&[4, 3])));
        }
    }
    cases
}
