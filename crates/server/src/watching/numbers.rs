//! The elements of tensors as numbers, whatever their dtype.

use sardonyx::{DType, Tensor};

/// A tensor of numbers, or of truth values as 0 and 1.
pub(super) struct Numbers<'a> {
    bytes: &'a [u8],
    size: usize,
    read: fn(&[u8]) -> f64,
}

impl Numbers<'_> {
    /// `None` for a dtype that has no numbers, or whose elements are smaller than a byte.
    pub(super) fn of(tensor: &Tensor) -> Option<Numbers<'_>> {
        let (size, read): (usize, fn(&[u8]) -> f64) = match tensor.dtype() {
            DType::F32 => (4, |bytes| f32::from_le_bytes(first(bytes)).into()),
            DType::F64 => (8, |bytes| f64::from_le_bytes(first(bytes))),
            DType::F16 => (2, |bytes| half::f16::from_le_bytes(first(bytes)).to_f64()),
            DType::BF16 => (2, |bytes| half::bf16::from_le_bytes(first(bytes)).to_f64()),
            DType::Bool | DType::U8 => (1, |bytes| u8::from_le_bytes(first(bytes)).into()),
            DType::U16 => (2, |bytes| u16::from_le_bytes(first(bytes)).into()),
            DType::U32 => (4, |bytes| u32::from_le_bytes(first(bytes)).into()),
            DType::U64 => (8, |bytes| u64::from_le_bytes(first(bytes)) as f64),
            DType::I8 => (1, |bytes| i8::from_le_bytes(first(bytes)).into()),
            DType::I16 => (2, |bytes| i16::from_le_bytes(first(bytes)).into()),
            DType::I32 => (4, |bytes| i32::from_le_bytes(first(bytes)).into()),
            DType::I64 => (8, |bytes| i64::from_le_bytes(first(bytes)) as f64),
            _ => return None,
        };
        Some(Numbers { bytes: tensor.bytes(), size, read })
    }

    /// The element at `index` in row-major order; NaN behind the last.
    pub(super) fn get(&self, index: usize) -> f64 {
        let start = index.saturating_mul(self.size);
        self.bytes.get(start..).filter(|bytes| bytes.len() >= self.size).map_or(f64::NAN, self.read)
    }

    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() / self.size
    }
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

/// What large tensors are known by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Summary {
    /// Of the finite elements; NaN without any.
    pub(super) mean: f64,
    /// The standard deviation of the finite elements, by their number and not one less.
    pub(super) std: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// The share of elements that are 0.
    pub(super) zeros: f64,
    /// The share of elements that are infinite or no numbers.
    pub(super) not_finite: f64,
}

/// The summary of `length` elements from `start` on. Of more than `most`, elements at equal distances stand for all.
pub(super) fn summary(numbers: &Numbers, start: usize, length: usize, most: usize) -> Summary {
    let step = length.div_ceil(most.max(1)).max(1);
    let (mut count, mut finite, mut zeros) = (0u32, 0u32, 0u32);
    // Welford's algorithm: sums of squares would cancel each other.
    let (mut mean, mut squares) = (0.0, 0.0);
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    for index in (0..length).step_by(step) {
        let value = numbers.get(start + index);
        count += 1;
        if value.is_finite() {
            finite += 1;
            let delta = value - mean;
            mean += delta / f64::from(finite);
            squares += delta * (value - mean);
            zeros += u32::from(value == 0.0);
            (min, max) = (min.min(value), max.max(value));
        }
    }
    if finite == 0 {
        (mean, squares, min, max) = (f64::NAN, f64::NAN, f64::NAN, f64::NAN);
    }
    let share = |of: u32| if count == 0 { 0.0 } else { f64::from(of) / f64::from(count) };
    Summary {
        mean,
        std: (squares / f64::from(finite.max(1))).sqrt(),
        min,
        max,
        zeros: share(zeros),
        not_finite: share(count - finite),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use super::*;

    #[test]
    fn every_dtype_has_its_numbers() {
        let bools = Tensor::from_bools(&[2], &[true, false]).unwrap();
        let halves = Tensor::from_slice(&[1], &[half::f16::from_f32(-0.5)]).unwrap();
        let tensors = [
            (bools, vec![1.0, 0.0]),
            (halves, vec![-0.5]),
            (Tensor::from_slice(&[2], &[i64::MIN, 7]).unwrap(), vec![i64::MIN as f64, 7.0]),
            (Tensor::from_slice(&[2], &[255u8, 1]).unwrap(), vec![255.0, 1.0]),
            (Tensor::from_slice(&[1], &[-3i16]).unwrap(), vec![-3.0]),
            (Tensor::from_slice(&[1], &[1.25f64]).unwrap(), vec![1.25]),
        ];
        for (tensor, expected) in tensors {
            let numbers = Numbers::of(&tensor).unwrap();
            assert_eq!((0..numbers.len()).map(|i| numbers.get(i)).collect::<Vec<_>>(), expected);
            assert!(numbers.get(9).is_nan());
        }
        assert!(Numbers::of(&Tensor::from_strings(&[1], vec!["a".into()]).unwrap()).is_none());
    }

    /// `numpy.mean` and `numpy.std` of [1, 2, 3, 0] are 1.5 and sqrt(1.25).
    #[test]
    fn summaries() {
        let values = [9.0f32, 1.0, 2.0, 3.0, 0.0, f32::NAN];
        let tensor = Tensor::from_slice(&[6], &values).unwrap();
        let numbers = Numbers::of(&tensor).unwrap();
        let found = summary(&numbers, 1, 5, 100);
        assert_eq!((found.mean, found.min, found.max), (1.5, 0.0, 3.0));
        assert!((found.std - 1.25f64.sqrt()).abs() < 1e-12);
        assert_eq!((found.zeros, found.not_finite), (0.2, 0.2));
        assert_eq!(summary(&numbers, 0, 6, 2).mean, 6.0, "elements 0 and 3 stand for all");
        let none = summary(&numbers, 5, 1, 10);
        assert!(none.mean.is_nan() && none.std.is_nan());
        assert_eq!(none.not_finite, 1.0);
    }
}
