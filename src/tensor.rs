//! `Tensor`: dtype, shape and elements in host memory, as they stand in a file.

use std::sync::Arc;

use bytes::Bytes;

use crate::{DType, Error, Result};

/// A dense tensor in host memory: row-major, little-endian, elements packed as in ONNX's `raw_data`.
///
/// Cloning shares the elements.
///
/// ```
/// use sardonyx::{DType, Tensor};
/// let t = Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0])?;
/// assert_eq!(t.dtype(), DType::F32);
/// assert_eq!(t.to_vec::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Data,
}

#[derive(Clone, Debug, PartialEq)]
enum Data {
    Raw(Bytes),
    Text(Arc<[String]>),
}

/// A Rust type that is the element type of a [`Tensor`]: the numbers of Rust, and `half`'s `f16` and `bf16`.
///
/// ```
/// use sardonyx::{DType, Element};
/// assert_eq!(<i64 as Element>::DTYPE, DType::I64);
/// ```
pub trait Element: bytemuck::Pod {
    /// The dtype of tensors of this type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => { $(impl Element for $t { const DTYPE: DType = DType::$d; })* };
}
elements!(f32 => F32, f64 => F64, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64, u64 => U64,
    half::f16 => F16, half::bf16 => BF16);

/// The number of elements of `shape`, if it fits a `usize`.
pub(crate) fn checked_count(shape: &[usize]) -> Option<usize> {
    // A zero anywhere makes the tensor empty, however large the other dimensions are.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

impl Tensor {
    /// A tensor of `shape` with a copy of `values`.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the shape does not hold exactly `values.len()` elements.
    pub fn from_slice<T: Element>(shape: &[usize], values: &[T]) -> Result<Tensor> {
        Tensor::from_raw(T::DTYPE, shape, Bytes::copy_from_slice(bytemuck::cast_slice(values)))
    }

    /// A tensor over bytes in ONNX's raw form; nothing is copied.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the byte count is not that of the shape, or the dtype is string.
    ///
    /// ```
    /// use sardonyx::{DType, Tensor};
    /// assert!(Tensor::from_raw(DType::F16, &[3], vec![0u8; 6]).is_ok());
    /// assert!(Tensor::from_raw(DType::F16, &[3], vec![0u8; 5]).is_err());
    /// ```
    pub fn from_raw(dtype: DType, shape: &[usize], data: impl Into<Bytes>) -> Result<Tensor> {
        let data = data.into();
        if dtype == DType::String {
            return Err(Error::Tensor("strings have no raw form".into()));
        }
        let wanted = checked_count(shape).and_then(|n| dtype.bytes_of(n));
        if wanted != Some(data.len()) {
            return Err(Error::Tensor(format!(
                "{dtype}{shape:?} takes {} bytes, and {} were given",
                wanted.map_or("too many".into(), |n| n.to_string()),
                data.len()
            )));
        }
        Ok(Tensor { dtype, shape: shape.to_vec(), data: Data::Raw(data) })
    }

    /// A bool tensor.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the shape does not hold exactly `values.len()` elements.
    ///
    /// ```
    /// let t = sardonyx::Tensor::from_bools(&[2], &[true, false])?;
    /// assert_eq!(t.dtype(), sardonyx::DType::Bool);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn from_bools(shape: &[usize], values: &[bool]) -> Result<Tensor> {
        Tensor::from_raw(DType::Bool, shape, values.iter().map(|&b| u8::from(b)).collect::<Vec<_>>())
    }

    /// A string tensor.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the shape does not hold exactly `values.len()` elements.
    ///
    /// ```
    /// let t = sardonyx::Tensor::from_strings(&[1], vec!["onyx".into()])?;
    /// assert_eq!(t.strings(), Some(&["onyx".to_string()][..]));
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn from_strings(shape: &[usize], values: Vec<String>) -> Result<Tensor> {
        if checked_count(shape) != Some(values.len()) {
            return Err(Error::Tensor(format!("shape {shape:?} does not hold {} strings", values.len())));
        }
        Ok(Tensor { dtype: DType::String, shape: shape.to_vec(), data: Data::Text(values.into()) })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements; 1 for a scalar.
    pub fn len(&self) -> usize {
        // Checked when the tensor was made.
        checked_count(&self.shape).unwrap_or(0)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in ONNX's raw form; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Raw(bytes) => bytes,
            Data::Text(_) => &[],
        }
    }

    /// The bytes, shared.
    pub(crate) fn shared_bytes(&self) -> Bytes {
        match &self.data {
            Data::Raw(bytes) => bytes.clone(),
            Data::Text(_) => Bytes::new(),
        }
    }

    /// The strings of a string tensor.
    pub fn strings(&self) -> Option<&[String]> {
        match &self.data {
            Data::Raw(_) => None,
            Data::Text(strings) => Some(strings),
        }
    }

    /// A copy of the elements.
    ///
    /// # Errors
    /// [`Error::Tensor`] if `T` is not the tensor's element type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if T::DTYPE != self.dtype {
            return Err(Error::Tensor(format!("a {} tensor was read as {}", self.dtype, T::DTYPE)));
        }
        Ok(bytemuck::pod_collect_to_vec(self.bytes()))
    }

    /// A copy as an `ndarray` array.
    ///
    /// # Errors
    /// [`Error::Tensor`] if `T` is not the tensor's element type.
    ///
    /// ```
    /// use sardonyx::Tensor;
    /// let a = Tensor::from_slice(&[2, 1], &[1i64, 2])?.to_array::<i64>()?;
    /// assert_eq!(a[[1, 0]], 2);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn to_array<T: Element>(&self) -> Result<ndarray::ArrayD<T>> {
        ndarray::ArrayD::from_shape_vec(self.shape.clone(), self.to_vec()?)
            .map_err(|e| Error::Tensor(e.to_string()))
    }

    /// A tensor with a copy of an `ndarray` array's elements, in its logical order.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the array is too large.
    ///
    /// ```
    /// let t = sardonyx::Tensor::from_array(&ndarray::arr1(&[1.0f32, 2.0]))?;
    /// assert_eq!(t.shape(), [2]);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn from_array<T: Element, D: ndarray::Dimension>(array: &ndarray::Array<T, D>) -> Result<Tensor> {
        let values: Vec<T> = array.iter().copied().collect();
        Tensor::from_slice(array.shape(), &values)
    }

    /// The same elements under another shape.
    pub(crate) fn reshaped(&self, shape: &[usize]) -> Result<Tensor> {
        if checked_count(shape) != Some(self.len()) {
            return Err(Error::Tensor(format!("{:?} does not fit {shape:?}", self.shape)));
        }
        Ok(Tensor { shape: shape.to_vec(), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert!(Tensor::from_slice(&[3], &[1.0f32]).is_err());
        assert!(Tensor::from_raw(DType::F32, &[usize::MAX, 2], Vec::new()).is_err());
        assert!(Tensor::from_raw(DType::F32, &[usize::MAX, usize::MAX, 0], Vec::new()).is_ok());
        assert!(Tensor::from_raw(DType::I4, &[3], vec![0x21, 0x03]).is_ok());
    }

    #[test]
    fn wrong_type_is_an_error() {
        let t = Tensor::from_slice(&[], &[1.0f32]).unwrap();
        assert!(t.to_vec::<i32>().is_err());
    }
}
