//! GatherND: slices at the places that tuples of indices name.
//!
//! History: 11, 12 (batch_dims), 13.

use super::case::{self, Case, Tolerance};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, indices, onnx, product, refuse, required, types};
use crate::facts::Fact;
use crate::kernels::gather as kernel;
use crate::kernels::words;
use crate::plan::{Lower, Outside};

/// GatherND whose data and indices share `batch_dims` leading axes.
#[derive(Clone, Debug)]
pub(crate) struct GatherNd {
    batch_dims: usize,
}

pub(crate) const ROWS: &[Row] = &[onnx("GatherND", 11, types![T int64 -> T; T: ALL BF16@13], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    match usize::try_from(def.attributes.int_or("batch_dims", 0)?) {
        Ok(batch_dims) => Ok(GatherNd { batch_dims }.into()),
        Err(_) => refuse!("batch_dims is negative"),
    }
}

/// The sizes of the axes that the tuples index; the number of tuples, and the elements of a slice.
struct TupleGeometry {
    indexed: Vec<usize>,
    /// Tuples for each batch.
    entries: usize,
    /// Elements of the slice that a tuple names.
    inner: usize,
    shape: Vec<usize>,
}

impl GatherNd {
    fn geometry(&self, data: &[usize], places: &[usize]) -> Result<TupleGeometry, Why> {
        let batch = self.batch_dims;
        let Some((&tuple, before)) = places.split_last() else { refuse!("the indices are a scalar") };
        if batch > before.len() || batch + tuple > data.len() || data[..batch] != before[..batch] {
            refuse!("tuples of {tuple} behind {batch} batch axes do not fit data of shape {data:?}");
        }
        Ok(TupleGeometry {
            indexed: data[batch..batch + tuple].to_vec(),
            entries: product(&before[batch..]),
            inner: product(&data[batch + tuple..]),
            shape: [before, &data[batch + tuple..]].concat(),
        })
    }
}

impl Operator for GatherNd {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (data, places) = (required(inputs, 0)?, required(inputs, 1)?);
        indices::check_dtype(places.dtype)?;
        let geometry = self.geometry(&data.shape, &places.shape)?;
        indices::check(places, &geometry.indexed)?;
        Ok(vec![Fact::new(data.dtype, geometry.shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (data, places) = (required(inputs, 0)?, required(inputs, 1)?);
        let TupleGeometry { indexed, entries, inner, shape } = self.geometry(&data.shape, &places.shape)?;
        let values = places.ints()?;
        let tuple = indexed.len();
        let size: usize = product(&indexed);
        let rows: usize = product(&places.shape[..places.shape.len() - 1]);
        let picked = (0..rows).map(|row| {
            let within = indices::tuple(&values[row * tuple..(row + 1) * tuple], &indexed)?;
            Ok(row / entries * size + within)
        });
        let picked = picked.collect::<Result<Vec<usize>, Why>>()?;
        Ok(vec![data.gather(&shape, |i| Some(picked[i / inner] * inner + i % inner), None)])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let geometry = self.geometry(&cx.fact(0)?.shape, &cx.fact(1)?.shape)?;
        let count = cx.out(0)?.count();
        let own = [count, geometry.inner, geometry.entries];
        let params = words(own.iter().chain(&geometry.indexed).copied())?;
        let tensors = vec![cx.input(0)?, cx.places(1)?, cx.output(0)?];
        let axes = geometry.indexed.iter().enumerate().map(|(j, &size)| (self.batch_dims + j, size));
        cx.reports_index(1, Outside::Axes(axes.collect()));
        let spec = kernel::Gather::new(geometry.indexed.len(), true);
        cx.call(spec, tensors, params, kernel::groups(count));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str| Case::new("GatherND", case).tolerance(Tolerance::EXACT);
    let four = || case::values(&[2, 2], &[0i64, 1, -1, -2]);
    vec![
        new("elements").input(case::random(&[3, 4])).input(four()),
        new("slices").input(case::random(&[3, 4, 5])).input(four()),
        new("one index").input(case::random(&[3, 4])).input(case::values(&[2, 1, 1], &[2i64, -3])),
        new("batch")
            .int("batch_dims", 1)
            .input(case::random(&[2, 3, 4]))
            .input(case::values(&[2, 1], &[2i64, -3])),
        new("batch, many")
            .int("batch_dims", 2)
            .input(case::random(&[2, 2, 3, 4]))
            .input(case::values(&[2, 2, 3, 1], &[0i64, 1, 2, 2, 1, 0, -1, -1, -1, 0, 0, 1])),
        new("int32").input(case::converted(&case::integers(&[3, 4], -9, 9), DType::I32)).input(four()),
        new("bool").input(case::bools(&[2, 2], &[true, false, false, true])).input(four()),
        new("rank 5").input(case::random(&[2, 3, 2, 2, 3])).input(case::values(&[1, 4], &[1i64, -1, 0, 1])),
        new("empty").input(case::random(&[3, 4])).input(case::values::<i64>(&[0, 2], &[])),
    ]
}
