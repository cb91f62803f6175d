//! A tensor's elements as numbers, as another type, and as codes.

use crate::array::{Array, number};
use crate::error::Why;
use crate::{DType, Error, Result, Tensor, heap, small};

impl Tensor {
    /// The elements as numbers. Integers beyond 2^53 are rounded; a bool is 0 or 1.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the elements are strings or complex numbers; [`Error::OutOfMemory`].
    ///
    /// ```
    /// use sardonyx::{DType, Tensor};
    /// let t = Tensor::from_raw(DType::I4, &[2], vec![0xf1])?;
    /// assert_eq!(t.to_f64()?, [1.0, -1.0]);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        Array::from_tensor(self).and_then(|array| array.to_f64()).map_err(refused)
    }

    /// The elements as another type, converted like ONNX's `Cast`: fractions are cut off towards zero, integers wrap, every
    /// number but 0 is `true`, and 8-bit floats saturate.
    ///
    /// # Errors
    /// [`Error::Tensor`] if a string is no number, or if either type is complex; [`Error::OutOfMemory`].
    ///
    /// ```
    /// use sardonyx::{DType, Tensor};
    /// let t = Tensor::from_slice(&[2], &[1.5f32, -300.0])?;
    /// assert_eq!(t.cast(DType::I64)?.to_vec::<i64>()?, [1, -300]);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn cast(&self, dtype: DType) -> Result<Tensor> {
        let array = Array::from_tensor(self).and_then(|array| number::cast(&array, dtype, true));
        array.and_then(|array| array.to_tensor()).map_err(refused)
    }

    /// A tensor of a type of at most 8 bits. `codes` has one byte for each element, with its code in the low bits; the
    /// elements are packed as ONNX packs them.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the type has more than 8 bits, or if the shape does not hold exactly `codes.len()` elements.
    ///
    /// ```
    /// use sardonyx::{DType, Tensor};
    /// let t = Tensor::from_codes(DType::U4, &[3], &[1, 2, 3])?;
    /// assert_eq!((t.bytes(), t.codes()?), (&[0x21, 0x03][..], vec![1, 2, 3]));
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn from_codes(dtype: DType, shape: &[usize], codes: &[u8]) -> Result<Tensor> {
        check_narrow(dtype)?;
        if shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size)) != Some(codes.len()) {
            return Err(Error::Tensor(format!("shape {shape:?} does not hold {} elements", codes.len())));
        }
        heap::ask("a tensor of codes", codes.len() as u64)?;
        Tensor::from_raw(dtype, shape, small::pack(codes, dtype.bits()))
    }

    /// The code of each element of a type of at most 8 bits, in the low bits of one byte.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the type has more than 8 bits, or is string; [`Error::OutOfMemory`].
    pub fn codes(&self) -> Result<Vec<u8>> {
        check_narrow(self.dtype())?;
        heap::ask("the codes of a tensor", self.len() as u64)?;
        Ok(small::unpack(self.bytes(), self.dtype().bits(), self.len()))
    }
}

fn check_narrow(dtype: DType) -> Result<()> {
    match dtype.bits() {
        1..=8 => Ok(()),
        _ => Err(Error::Tensor(format!("elements of {dtype} are not codes of at most 8 bits"))),
    }
}

fn refused(why: Why) -> Error {
    why.error("a conversion", Error::Tensor)
}
