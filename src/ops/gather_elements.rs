//! GatherElements: every element of the result has its own index along one axis.
//!
//! History: 11, 13.

use super::case::{self, Case, Tolerance};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, axes, indices, onnx, refuse, required, types};
use crate::array::{ravel, strides, unravel};
use crate::facts::Fact;
use crate::kernels::gather::groups;
use crate::kernels::words;
use crate::kernels::{gather_elements as kernel, strided};
use crate::plan::{Lower, Outside};

/// GatherElements along `axis`.
#[derive(Clone, Debug)]
pub(crate) struct GatherElements {
    axis: i64,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("GatherElements", 11, types![T Tind -> T; T: ALL BF16@13, Tind: INDICES], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(GatherElements { axis: def.attributes.int_or("axis", 0)? }.into())
}

/// The axis. Data and indices must have the same rank, and indices may not be larger along the other axes.
pub(crate) fn checked_axis(axis: i64, data: &[usize], places: &[usize]) -> Result<usize, Why> {
    let axis = axes::axis(axis, data.len())?;
    let fits = |d: usize| d == axis || places[d] <= data[d];
    if places.len() != data.len() || !(0..data.len()).all(fits) {
        refuse!("indices of shape {places:?} do not fit data of shape {data:?} along axis {axis}");
    }
    Ok(axis)
}

/// (size, stride) of the elements in `data` that indices of shape `places` name, with neighbours merged, and the number of the
/// axis among these dimensions.
pub(crate) fn dims(data: &[usize], places: &[usize], axis: usize) -> (strided::Dims, usize) {
    let all: Vec<(usize, i64)> =
        places.iter().zip(strides(data)).map(|(&size, stride)| (size, stride as i64)).collect();
    let mut dims = strided::merge(&all[..axis]);
    let at = dims.len();
    dims.push(all[axis]);
    dims.extend(strided::merge(&all[axis + 1..]));
    (dims, at)
}

impl Operator for GatherElements {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (data, places) = (required(inputs, 0)?, required(inputs, 1)?);
        indices::check_dtype(places.dtype)?;
        let axis = checked_axis(self.axis, &data.shape, &places.shape)?;
        indices::check(places, &data.shape[axis..=axis])?;
        Ok(vec![Fact::new(data.dtype, places.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (data, places) = (required(inputs, 0)?, required(inputs, 1)?);
        let axis = checked_axis(self.axis, &data.shape, &places.shape)?;
        let picked = places.ints()?.iter().enumerate().map(|(i, &index)| {
            let mut at = unravel(i, &places.shape);
            at[axis] = indices::wrap(index, data.shape[axis])?;
            Ok(ravel(&at, &data.shape))
        });
        let picked = picked.collect::<Result<Vec<usize>, Why>>()?;
        Ok(vec![data.gather(&places.shape, |i| Some(picked[i]), None)])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (data, places) = (cx.fact(0)?, cx.fact(1)?);
        let axis = checked_axis(self.axis, &data.shape, &places.shape)?;
        let (dims, at) = dims(&data.shape, &places.shape, axis);
        let mut params = words([places.count(), data.shape[axis]])?;
        params.extend(dims.iter().flat_map(|&(size, stride)| [size as u32, stride as u32]));
        let tensors = vec![cx.input(0)?, cx.places(1)?, cx.output(0)?];
        cx.reports_index(1, Outside::Axes(vec![(axis, data.shape[axis])]));
        let spec = kernel::GatherElements { rank: dims.len(), axis: at, runs: false };
        cx.call(spec, tensors, params, groups(places.count()));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str| Case::new("GatherElements", case).tolerance(Tolerance::EXACT);
    vec![
        new("axis 0").input(case::random(&[3, 4])).input(case::integers(&[5, 4], -3, 3)),
        new("axis 1").int("axis", 1).input(case::random(&[3, 4])).input(case::integers(&[3, 2], -4, 4)),
        new("middle").int("axis", 1).input(case::random(&[2, 5, 3])).input(case::integers(&[2, 4, 3], 0, 5)),
        new("fewer").int("axis", -1).input(case::random(&[3, 4, 5])).input(case::integers(&[2, 3, 7], 0, 5)),
        new("rank 5").int("axis", 2).input(case::random(&[2, 3, 4, 2, 3])).input(case::integers(
            &[2, 2, 3, 2, 1],
            0,
            4,
        )),
        new("vector").input(case::random(&[6])).input(case::values(&[3], &[-1i32, 0, 5])),
        new("bool").input(case::bools(&[3], &[true, false, true])).input(case::list(&[1, 1, 2])),
        new("int64").input(case::integers(&[2, 3], -9, 9)).input(case::integers(&[4, 3], 0, 2)),
        new("float16").input(case::converted(&case::random(&[4, 2]), DType::F16)).input(case::integers(
            &[3, 2],
            -4,
            4,
        )),
        new("empty").input(case::random(&[3, 4])).input(case::values::<i64>(&[0, 4], &[])),
    ]
}
