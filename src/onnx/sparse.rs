//! Sparse tensors become dense ones, as no operator computes with the sparse form.

use super::external::External;
use super::proto::SparseTensorProto;
use super::tensor;
use crate::budget::{Budget, Work};
use crate::error::{Why, refuse};
use crate::heap;
use crate::shape::{MAX_RANK, extent};
use crate::tensor::checked_count;
use crate::{DType, Error, Result, Tensor};

/// The tensor and its name.
pub(super) fn import<'m>(
    proto: &'m SparseTensorProto,
    external: &mut External,
    budget: &Budget,
) -> Result<(&'m str, Tensor)> {
    let (Some(values), Some(indices)) = (&proto.values, &proto.indices) else {
        return Err(Error::invalid("a sparse tensor has no values or no indices"));
    };
    let name = values.name.as_str();
    let (values, indices) = (tensor::import(values, external)?, tensor::import(indices, external)?);
    let dense = dense(&values, &indices, &proto.dims, budget);
    let invalid = |reason| Error::invalid(format!("sparse tensor '{name}' {reason}"));
    let tensor = dense.map_err(|why| why.error(format_args!("sparse tensor '{name}'"), invalid))?;
    Ok((name, tensor))
}

fn dense(values: &Tensor, indices: &Tensor, dims: &[i64], budget: &Budget) -> Result<Tensor, Why> {
    let dtype = values.dtype();
    if dtype == DType::String || dtype.bits() < 8 {
        refuse!("holds {dtype}, which is not supported");
    }
    let width = dtype.bits() / 8;
    let Some(shape) = dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<usize>>>() else {
        refuse!("has the impossible shape {dims:?}");
    };
    if shape.len() > MAX_RANK || extent(&shape).is_none() {
        refuse!("has the impossible shape {dims:?}");
    }
    let Some(size) = checked_count(&shape).and_then(|count| count.checked_mul(width)) else {
        refuse!("is too large to be made dense: {dtype}{dims:?}");
    };
    let charged = budget.charge(Work::default().steps(&[size]), size as u64);
    charged
        .map_err(|over| over.map(|over| format!("is too large to be made dense, {dtype}{dims:?}: {over}")))?;
    let mut data = heap::reserved("its dense form", size)?;
    data.resize(size, 0);
    let places = places(indices, &shape, values.len())?;
    for (place, element) in places.into_iter().zip(values.bytes().chunks_exact(width)) {
        let start = place * width;
        match data.get_mut(start..start + width) {
            Some(target) => target.copy_from_slice(element),
            None => refuse!("has a value outside its shape {dims:?}"),
        }
    }
    Ok(Tensor::from_raw(dtype, &shape, data)?)
}

/// The element index of each value. The file gives these indices, or one coordinate for each dimension.
fn places(indices: &Tensor, shape: &[usize], count: usize) -> Result<Vec<usize>, Why> {
    let flat: Vec<i64> =
        indices.to_vec().map_err(|error| Why::from(error).map(|why| format!("has wrong indices: {why}")))?;
    let per_value = match indices.shape() {
        [n] if *n == count => 1,
        [n, rank] if *n == count && *rank == shape.len() => *rank,
        other => refuse!("has {count} values, and indices of shape {other:?}"),
    };
    let sizes = if per_value == 1 { &[checked_count(shape).unwrap_or(0)][..] } else { shape };
    let place = |index: &[i64]| {
        index.iter().zip(sizes).try_fold(0usize, |place, (&i, &size)| {
            let i = usize::try_from(i).ok().filter(|&i| i < size)?;
            place.checked_mul(size)?.checked_add(i)
        })
    };
    match flat.chunks_exact(per_value.max(1)).map(place).collect() {
        Some(places) => Ok(places),
        None => refuse!("has an index outside its shape {shape:?}"),
    }
}
