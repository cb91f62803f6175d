//! Indices into a tensor: those below zero count from the back, and the reference refuses those that are out of range.

use super::{DType, Why, refuse};

/// `index` into an axis of `size`.
pub(crate) fn wrap(index: i128, size: usize) -> Result<usize, Why> {
    let at = if index < 0 { index + size as i128 } else { index };
    match usize::try_from(at) {
        Ok(at) if at < size => Ok(at),
        _ => refuse!("index {index} is out of range for an axis of {size}"),
    }
}

/// The element that a tuple of indices names, in a tensor of as many axes of `sizes`.
pub(crate) fn tuple(indices: &[i128], sizes: &[usize]) -> Result<usize, Why> {
    indices.iter().zip(sizes).try_fold(0, |at, (&index, &size)| Ok(at * size + wrap(index, size)?))
}

/// Indices are int32 or int64.
pub(crate) fn check_dtype(dtype: DType) -> Result<(), Why> {
    match dtype {
        DType::I32 | DType::I64 => Ok(()),
        other => refuse!("indices are {other}, and int32 or int64 is needed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_indices_count_from_the_back() {
        assert_eq!(wrap(-1, 3), Ok(2));
        assert_eq!(tuple(&[1, -3], &[2, 3]), Ok(3));
        assert!(wrap(3, 3).is_err() && wrap(-4, 3).is_err() && wrap(0, 0).is_err());
    }
}
