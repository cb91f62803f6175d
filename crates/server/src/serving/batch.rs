//! Requests as rows of one batch: their inputs are joined along the first dimension, and the outputs are cut again.

use bytes::{Bytes, BytesMut};
use sardonyx::{DType, Tensor};

use super::held::Value;
use super::place::Unrun;
use crate::{Failure, Reason};

/// The inputs of all requests, joined along the first dimension, with `padding` rows of zeros behind them. Inputs of a single
/// request without padding are taken as they are.
pub(super) fn join(
    mut requests: Vec<Vec<(String, Value)>>,
    padding: usize,
) -> Result<Vec<(String, Value)>, Unrun> {
    if requests.len() == 1 && padding == 0 {
        return Ok(requests.remove(0));
    }
    let Some(first) = requests.first() else { return Ok(Vec::new()) };
    let part = |inputs: &[(String, Value)], name: &str| {
        let found = inputs.iter().find(|(of, _)| of == name);
        found.map(|(_, value)| value.clone()).ok_or_else(|| lacks(name))
    };
    let joined = first.iter().map(|(name, _)| {
        let parts = requests.iter().map(|inputs| part(inputs, name)).collect::<Result<Vec<_>, _>>()?;
        Ok((name.clone(), Value::joined(&parts, padding)?))
    });
    joined.collect()
}

/// The parts of `output` that belong to requests of so many `rows` each.
pub(super) fn split(output: Tensor, rows: &[usize]) -> Result<Vec<Tensor>, Failure> {
    let (dtype, shape) = (output.dtype(), output.shape().to_vec());
    let Some((&all, inner)) = shape.split_first() else {
        return Err(Failure::new(Reason::Internal, "the output has no dimensions, and therefore no rows"));
    };
    let wanted = rows.iter().sum::<usize>();
    if all < wanted {
        let text =
            format!("the output has {all} rows for a batch of {wanted}; is its first dimension the batch?");
        return Err(Failure::new(Reason::Internal, text));
    }
    let elements = inner.iter().product::<usize>();
    let mut start = 0;
    let mut shape = |&rows: &usize| {
        let range = start * elements..(start + rows) * elements;
        start += rows;
        (range, [&[rows], inner].concat())
    };
    if let Some(strings) = output.strings() {
        let part = |rows| {
            let (range, shape) = shape(rows);
            Ok(Tensor::from_strings(&shape, strings[range].to_vec())?)
        };
        return rows.iter().map(part).collect();
    }
    let bytes = output.into_bytes();
    let width = dtype.bits() / 8;
    let part = |rows| {
        let (range, shape) = shape(rows);
        Ok(Tensor::from_raw(dtype, &shape, bytes.slice(range.start * width..range.end * width))?)
    };
    rows.iter().map(part).collect()
}

/// The rows of all parts, and `padding` rows of zeros.
pub(super) fn stack(parts: &[Tensor], padding: usize) -> Result<Tensor, Failure> {
    let inner = parts[0].shape().get(1..).unwrap_or_default();
    let rows = parts.iter().map(|part| part.shape().first().copied().unwrap_or(1)).sum::<usize>() + padding;
    let shape = [&[rows], inner].concat();
    let dtype = parts[0].dtype();
    if dtype == DType::String {
        let strings = parts.iter().flat_map(|part| part.strings().unwrap_or_default()).cloned();
        let padding = std::iter::repeat_n(String::new(), padding * inner.iter().product::<usize>());
        return Ok(Tensor::from_strings(&shape, strings.chain(padding).collect())?);
    }
    let size = dtype.bytes_of(shape.iter().product()).unwrap_or(0);
    let mut bytes = BytesMut::with_capacity(size);
    parts.iter().for_each(|part| bytes.extend_from_slice(part.bytes()));
    bytes.resize(size, 0);
    Ok(Tensor::from_raw(dtype, &shape, Bytes::from(bytes))?)
}

fn lacks(name: &str) -> Failure {
    Failure::new(Reason::Internal, format!("a request of the batch lacks input '{name}'"))
}
