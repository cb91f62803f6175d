//! Tensors padded along one dimension, and cut again.

use bytes::{Bytes, BytesMut};
use sardonyx::Tensor;

use crate::config::Lengths;
use crate::{Failure, Reason};

/// The inputs of a request, padded to the length `to`.
pub(super) fn padded(
    lengths: &Lengths,
    inputs: &[(String, Tensor)],
    to: usize,
) -> Result<Vec<(String, Tensor)>, Failure> {
    let input = |(name, tensor): &(String, Tensor)| {
        let tensor = match lengths.input(name) {
            Some(input) => pad(tensor, input.axis + 1, to, &input.pad)?,
            None => tensor.clone(),
        };
        Ok((name.clone(), tensor))
    };
    inputs.iter().map(input).collect()
}

fn pad(tensor: &Tensor, axis: usize, to: usize, value: &[u8]) -> Result<Tensor, Failure> {
    let mut shape = tensor.shape().to_vec();
    let from = shape.get(axis).copied().filter(|from| *from <= to);
    let from = from.ok_or_else(|| Failure::new(Reason::Internal, "an input has no length to pad"))?;
    let inner: usize = shape[axis + 1..].iter().product();
    let added = value.repeat((to - from) * inner);
    shape[axis] = to;
    let mut bytes = BytesMut::with_capacity(shape.iter().product::<usize>() * value.len());
    for part in tensor.bytes().chunks((from * inner * value.len()).max(1)) {
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(&added);
    }
    Ok(Tensor::from_raw(tensor.dtype(), &shape, Bytes::from(bytes))?)
}

/// The first `to` of the places along dimension `axis`, of which the tensor has `from`.
pub(super) fn cut(tensor: &Tensor, axis: usize, from: usize, to: usize) -> Result<Tensor, Failure> {
    let mut shape = tensor.shape().to_vec();
    match shape.get_mut(axis) {
        Some(size) if *size == from => *size = to,
        _ => {
            let text = format!(
                "the output was made as {shape:?} of inputs of the length {from}, so that dimension {axis} is not the length; correct \
                 the parameter length_outputs"
            );
            return Err(Failure::new(Reason::Internal, text));
        }
    }
    let inner: usize = shape[axis + 1..].iter().product();
    if let Some(strings) = tensor.strings() {
        let parts =
            strings.chunks((from * inner).max(1)).flat_map(|part| &part[..(to * inner).min(part.len())]);
        return Ok(Tensor::from_strings(&shape, parts.cloned().collect())?);
    }
    let width = tensor.dtype().bits() / 8;
    let mut bytes = BytesMut::with_capacity(shape.iter().product::<usize>() * width);
    for part in tensor.bytes().chunks((from * inner * width).max(1)) {
        bytes.extend_from_slice(&part[..(to * inner * width).min(part.len())]);
    }
    Ok(Tensor::from_raw(tensor.dtype(), &shape, Bytes::from(bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_padded_is_cut_again() {
        let tensor = Tensor::from_slice(&[2, 2, 3], &(0..12).collect::<Vec<i32>>()).unwrap();
        let longer = pad(&tensor, 1, 3, &(-1i32).to_le_bytes()).unwrap();
        assert_eq!(longer.shape(), [2, 3, 3]);
        let wanted = [0, 1, 2, 3, 4, 5, -1, -1, -1, 6, 7, 8, 9, 10, 11, -1, -1, -1];
        assert_eq!(longer.to_vec::<i32>().unwrap(), wanted);
        assert_eq!(cut(&longer, 1, 3, 2).unwrap(), tensor);
        let last = pad(&tensor, 2, 4, &7i32.to_le_bytes()).unwrap();
        assert_eq!(last.to_vec::<i32>().unwrap()[..8], [0, 1, 2, 7, 3, 4, 5, 7]);
        assert_eq!(cut(&last, 2, 4, 3).unwrap(), tensor);
        assert_eq!(pad(&tensor, 1, 2, &[0; 4]).unwrap(), tensor);
    }

    #[test]
    fn texts_are_cut() {
        let texts = Tensor::from_strings(&[2, 2], ["a", "b", "c", "d"].map(String::from).into()).unwrap();
        assert_eq!(cut(&texts, 1, 2, 1).unwrap().strings().unwrap(), ["a", "c"]);
    }

    #[test]
    fn other_sizes_are_refused() {
        let tensor = Tensor::from_slice(&[1, 4], &[0i32; 4]).unwrap();
        assert!(cut(&tensor, 1, 8, 3).unwrap_err().text.contains("length_outputs"));
        assert!(cut(&tensor, 2, 4, 3).is_err());
        assert!(pad(&tensor, 1, 3, &[0; 4]).is_err() && pad(&tensor, 2, 3, &[0; 4]).is_err());
    }
}
