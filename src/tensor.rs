//! `Tensor`: dtype, shape and elements in host memory, as a file has them.

pub(crate) mod mapped;
#[cfg(feature = "ndarray")]
mod ndarray;

use std::sync::Arc;

use bytes::Bytes;

use crate::{DType, Error, Result, heap};
use mapped::MappedFile;

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
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Elements,
    /// The mapped file in which the elements lie, if they lie in one.
    file: Option<Arc<MappedFile>>,
}

/// Equal dtypes, shapes and elements, wherever these lie.
impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        (self.dtype, &self.shape, &self.data) == (other.dtype, &other.shape, &other.data)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Elements {
    Raw(Bytes),
    Text(Arc<[String]>),
}

/// A Rust type that can be the element type of a [`Tensor`]: Rust's number types, and `f16` and `bf16` of `half`.
///
/// ```
/// use sardonyx::{DType, Element};
/// assert_eq!(<i64 as Element>::DTYPE, DType::I64);
/// ```
pub trait Element: bytemuck::Pod + Send + Sync {
    /// The dtype of tensors of this type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => { $(impl Element for $t { const DTYPE: DType = DType::$d; })* };
}
elements!(f32 => F32, f64 => F64, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64, u64 => U64,
    half::f16 => F16, half::bf16 => BF16);

/// The number of elements of `shape`; `None` if it does not fit a `usize`.
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
    /// [`Error::Tensor`] if the shape does not hold exactly `values.len()` elements; [`Error::OutOfMemory`].
    pub fn from_slice<T: Element>(shape: &[usize], values: &[T]) -> Result<Tensor> {
        Tensor::from_vec(shape, heap::copied(COPY, values)?)
    }

    /// A tensor of `shape` that takes over `values`; nothing is copied.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the shape does not hold exactly `values.len()` elements.
    ///
    /// ```
    /// let tokens = sardonyx::Tensor::from_vec(&[1, 3], vec![101i64, 2023, 102])?;
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn from_vec<T: Element>(shape: &[usize], values: Vec<T>) -> Result<Tensor> {
        Tensor::from_raw(T::DTYPE, shape, into_bytes(values))
    }

    /// A tensor of zeros; bools are `false`, and strings empty.
    ///
    /// # Errors
    /// [`Error::Tensor`] if `shape` has more elements than can be counted; [`Error::OutOfMemory`].
    ///
    /// ```
    /// use sardonyx::{DType, Tensor};
    /// assert_eq!(Tensor::zeros(DType::F32, &[2, 2])?.as_slice::<f32>()?, [0.0; 4]);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let too_large = || Error::Tensor(format!("{dtype}{shape:?} has too many elements"));
        let count = checked_count(shape).ok_or_else(too_large)?;
        if dtype == DType::String {
            let mut strings = heap::reserved("strings", count)?;
            strings.resize(count, String::new());
            return Tensor::from_strings(shape, strings);
        }
        let bytes = dtype.bytes_of(count).ok_or_else(too_large)?;
        // Whole words, so that the elements are aligned.
        let mut words = heap::reserved("zeros", bytes.div_ceil(8))?;
        words.resize(bytes.div_ceil(8), 0u64);
        Tensor::from_raw(dtype, shape, into_bytes(words).slice(..bytes))
    }

    /// A tensor over bytes in ONNX's raw form. Nothing is copied.
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
        Ok(Tensor { dtype, shape: shape.to_vec(), data: Elements::Raw(data), file: None })
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
        let mut bytes = heap::reserved(COPY, values.len())?;
        bytes.extend(values.iter().map(|&b| u8::from(b)));
        Tensor::from_raw(DType::Bool, shape, bytes)
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
        let (shape, data) = (shape.to_vec(), Elements::Text(values.into()));
        Ok(Tensor { dtype: DType::String, shape, data, file: None })
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
        // This was checked when the tensor was made.
        checked_count(&self.shape).unwrap_or(0)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in ONNX's raw form; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Elements::Raw(bytes) => bytes,
            Elements::Text(_) => &[],
        }
    }

    /// These bytes of the tensor, in the same memory, as a tensor of this shape.
    pub(crate) fn part(&self, bytes: std::ops::Range<usize>, shape: &[usize]) -> Result<Tensor> {
        match &self.data {
            Elements::Raw(data) if bytes.end <= data.len() => {
                let part = Tensor::from_raw(self.dtype, shape, data.slice(bytes))?;
                Ok(Tensor { file: self.file.clone(), ..part })
            }
            _ => Err(Error::Tensor(format!("{}{:?} has no such part", self.dtype, self.shape))),
        }
    }

    /// The tensor, whose elements lie in this file.
    pub(crate) fn in_file(self, file: Arc<MappedFile>) -> Tensor {
        Tensor { file: Some(file), ..self }
    }

    /// Fails if the elements lie in a file that has changed. Whoever reads the elements of a constant asks before.
    pub(crate) fn check_file(&self) -> Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.check())
    }

    /// Takes the elements out of the process's memory, if they lie in a file, where they are found again.
    pub(crate) fn release(&self) {
        if let (Some(file), Elements::Raw(bytes)) = (&self.file, &self.data) {
            file.release(bytes);
        }
    }

    /// The tensor, in memory of its own if it lies in a file.
    pub(crate) fn detached(&self) -> Result<Tensor> {
        self.check_file()?;
        match (&self.file, &self.data) {
            (Some(_), Elements::Raw(bytes)) => {
                Tensor::from_raw(self.dtype, &self.shape, heap::copied(COPY, bytes)?)
            }
            _ => Ok(self.clone()),
        }
    }

    /// The bytes, which the caller shares.
    pub(crate) fn shared_bytes(&self) -> Bytes {
        match &self.data {
            Elements::Raw(bytes) => bytes.clone(),
            Elements::Text(_) => Bytes::new(),
        }
    }

    /// The bytes in ONNX's raw form, without a copy; empty for strings. Where they are the tensor's alone and one vector of bytes, as
    /// those of most outputs that a GPU computes, [`Bytes::try_into_mut`] gives them to the caller.
    ///
    /// ```
    /// use sardonyx::{DType, Tensor};
    /// let bytes = Tensor::from_raw(DType::U8, &[2], vec![3, 4])?.into_bytes();
    /// assert!(bytes.try_into_mut().is_ok());
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn into_bytes(self) -> Bytes {
        match self.data {
            Elements::Raw(bytes) => bytes,
            Elements::Text(_) => Bytes::new(),
        }
    }

    /// The strings of a string tensor.
    pub fn strings(&self) -> Option<&[String]> {
        match &self.data {
            Elements::Raw(_) => None,
            Elements::Text(strings) => Some(strings),
        }
    }

    /// A copy of the elements.
    ///
    /// # Errors
    /// [`Error::Tensor`] if `T` is not the tensor's element type; [`Error::OutOfMemory`].
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.check_elements::<T>()?;
        let mut elements = heap::reserved(COPY, self.len())?;
        elements.extend(self.bytes().chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned::<T>));
        Ok(elements)
    }

    /// The elements, not copied, in row-major order.
    ///
    /// # Errors
    /// [`Error::Tensor`] if `T` is not the tensor's element type, or if the tensor was made of bytes ([`Tensor::from_raw`], a
    /// model's file) that begin at an address which is no multiple of an element's size. The outputs of a run are always aligned.
    ///
    /// ```
    /// let t = sardonyx::Tensor::from_slice(&[2], &[3i64, 4])?;
    /// assert_eq!(t.as_slice::<i64>()?, [3, 4]);
    /// assert!(t.as_slice::<f32>().is_err());
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        self.check_elements::<T>()?;
        match self.bytes() {
            [] => Ok(&[]),
            bytes => bytemuck::try_cast_slice(bytes).map_err(|_| {
                let size = align_of::<T>();
                Error::Tensor(format!("its bytes begin at no multiple of {size}; `to_vec` copies them"))
            }),
        }
    }

    fn check_elements<T: Element>(&self) -> Result<()> {
        if T::DTYPE != self.dtype {
            return Err(Error::Tensor(format!("a {} tensor was read as {}", self.dtype, T::DTYPE)));
        }
        Ok(())
    }

    /// The same elements under another shape.
    pub(crate) fn reshaped(&self, shape: &[usize]) -> Result<Tensor> {
        if checked_count(shape) != Some(self.len()) {
            return Err(Error::Tensor(format!("{:?} does not fit {shape:?}", self.shape)));
        }
        Ok(Tensor { shape: shape.to_vec(), ..self.clone() })
    }
}

/// What takes the memory of a tensor that is copied.
const COPY: &str = "a copy of a tensor";

/// The bytes of `values`, without a copy.
pub(crate) fn into_bytes<T: bytemuck::Pod + Send + Sync>(values: Vec<T>) -> Bytes {
    struct Owner<T>(Vec<T>);
    impl<T: bytemuck::Pod> AsRef<[u8]> for Owner<T> {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    Bytes::from_owner(Owner(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_taken_over() {
        let values = vec![1.0f64, 2.0];
        let place = values.as_ptr();
        let tensor = Tensor::from_vec(&[2], values).unwrap();
        assert_eq!(tensor.as_slice::<f64>().unwrap().as_ptr(), place);
    }

    #[test]
    fn slices_of_bytes_at_any_address() {
        let bytes = into_bytes(vec![0u64, 0, 0]);
        let aligned = Tensor::from_raw(DType::F64, &[2], bytes.slice(8..)).unwrap();
        assert_eq!(aligned.as_slice::<f64>().unwrap(), [0.0; 2]);
        let odd = Tensor::from_raw(DType::F64, &[2], bytes.slice(1..17)).unwrap();
        let error = odd.as_slice::<f64>().unwrap_err().to_string();
        assert_eq!(error, "tensor: its bytes begin at no multiple of 8; `to_vec` copies them");
        assert_eq!(odd.to_vec::<f64>().unwrap(), [0.0; 2]);
        assert!(Tensor::from_raw(DType::F64, &[0, 2], Bytes::new()).unwrap().as_slice::<f64>().is_ok());
    }

    #[test]
    fn zeros_of_every_type() {
        for dtype in (0..30).filter_map(DType::from_onnx) {
            let zeros = Tensor::zeros(dtype, &[3, 5]).unwrap();
            assert_eq!((zeros.dtype(), zeros.len()), (dtype, 15));
            assert!(zeros.bytes().iter().all(|byte| *byte == 0));
        }
        assert_eq!(Tensor::zeros(DType::F64, &[]).unwrap().as_slice::<f64>().unwrap(), [0.0]);
        assert!(Tensor::zeros(DType::F32, &[usize::MAX, 2]).is_err());
        assert!(Tensor::zeros(DType::F32, &[usize::MAX / 8]).is_err());
    }

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
