//! Indices into a tensor: those below zero count from the back, and the reference refuses those that are out of range.

use super::{DType, Why, refuse};
use crate::array::Numbers;
use crate::facts::Fact;

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

/// Refuses those of a tensor's indices that are outside, as far as they are known while planning. `axes` are the sizes of the
/// axes that the elements of a tuple name, in turn: of none without elements is any index.
pub(crate) fn check(indices: &Fact, axes: &[usize]) -> Result<(), Why> {
    let known = indices.value.as_ref().map(|known| &known.array.data);
    match known {
        Some(Numbers::Int(values)) if !axes.is_empty() => {
            values.chunks_exact(axes.len()).try_for_each(|indices| tuple(indices, axes).map(|_| ()))
        }
        _ if indices.count() > 0 && axes.contains(&0) => {
            refuse!(
                "there are {} indices into axes of sizes {axes:?}, one of which is empty",
                indices.count()
            )
        }
        _ => Ok(()),
    }
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
