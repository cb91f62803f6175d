//! Indices into a tensor: a negative index counts from the end, and the reference refuses an index that is out of range.

use super::{DType, Why, refuse};
use crate::array::Numbers;
use crate::facts::Fact;

/// `index` on an axis of `size`, from the start.
pub(crate) fn wrap(index: i128, size: usize) -> Result<usize, Why> {
    let at = if index < 0 { index + size as i128 } else { index };
    match usize::try_from(at) {
        Ok(at) if at < size => Ok(at),
        _ => refuse!("index {index} is out of range for an axis of {size}"),
    }
}

/// The number of the element that a tuple of indices names, in a tensor whose axes have these sizes.
pub(crate) fn tuple(indices: &[i128], sizes: &[usize]) -> Result<usize, Why> {
    indices.iter().zip(sizes).try_fold(0, |at, (&index, &size)| Ok(at * size + wrap(index, size)?))
}

/// Refuses a tensor's indices that are out of range, if planning knows them. `axes` are the sizes of the axes that the
/// elements of a tuple name, in order. On an axis of size 0, every index is out of range.
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
