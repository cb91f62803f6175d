//! The bytes of tensors as clients send and read them: row-major, little-endian, packed; each string after its length.
//!
//! All protocols use this form: the binary tensors of HTTP, the raw contents of gRPC, and shared memory.

use bytes::Bytes;
use sardonyx::{DType, Tensor};

use crate::{Failure, Reason, datatype};

/// The greatest number of dimensions of a tensor.
const RANK: usize = 64;

/// The dimensions that a request says, checked: there are 64 at most, none is negative, and the product of those other than 0 fits.
///
/// # Errors
/// [`Reason::Invalid`].
pub(crate) fn shape(sizes: &[i64]) -> Result<Vec<usize>, Failure> {
    if sizes.len() > RANK {
        return Err(Failure::invalid(format!("a shape of {} dimensions has more than {RANK}", sizes.len())));
    }
    let shape: Vec<usize> = sizes
        .iter()
        .map(|&size| {
            usize::try_from(size).map_err(|_| {
                Failure::invalid(format!("shape {sizes:?} has {size}; a request says every dimension's size"))
            })
        })
        .collect::<Result<_, _>>()?;
    let product = shape.iter().filter(|size| **size != 0).try_fold(1usize, |n, &size| n.checked_mul(size));
    match product {
        // No element takes more than 8 bytes, a string's place more than 32.
        Some(product) if product <= isize::MAX as usize / 32 => Ok(shape),
        _ => Err(Failure::invalid(format!("shape {sizes:?} has too many elements"))),
    }
}

/// The number of elements of a `shape` that [`shape`] has checked.
pub(crate) fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// A tensor of these `bytes`, which are not copied unless they are strings.
///
/// # Errors
/// [`Reason::Invalid`] if the number of bytes is not that of the shape, a bool is neither 0 nor 1, or a string is no UTF-8;
/// [`Reason::Unavailable`] if there is no memory for the strings.
pub(crate) fn tensor(dtype: DType, shape: &[usize], bytes: Bytes) -> Result<Tensor, Failure> {
    if dtype == DType::String {
        return Ok(Tensor::from_strings(shape, strings(&bytes, shape)?)?);
    }
    let wanted = dtype.bytes_of(count(shape));
    if wanted != Some(bytes.len()) {
        let name = datatype::name(dtype).unwrap_or("");
        let wanted = wanted.map_or("too many".into(), |n| n.to_string());
        return Err(Failure::invalid(format!(
            "{name} of shape {shape:?} takes {wanted} bytes, and {} are given",
            bytes.len()
        )));
    }
    if dtype == DType::Bool
        && let Some(at) = bytes.iter().position(|byte| *byte > 1)
    {
        return Err(Failure::invalid(format!("element {at} is the byte {}; a BOOL is 0 or 1", bytes[at])));
    }
    Ok(Tensor::from_raw(dtype, shape, bytes)?)
}

/// The bytes of a tensor, which are not copied unless they are strings.
///
/// # Errors
/// [`Reason::Internal`] if a string has more than 2³² − 1 bytes, whose length has no form.
pub(crate) fn bytes(tensor: Tensor) -> Result<Bytes, Failure> {
    let Some(strings) = tensor.strings() else { return Ok(tensor.into_bytes()) };
    let mut bytes = Vec::with_capacity(strings.iter().map(|string| 4 + string.len()).sum());
    for string in strings {
        let length = u32::try_from(string.len()).map_err(|_| {
            Failure::new(Reason::Internal, "an output has a string of more than 4294967295 bytes")
        })?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(string.as_bytes());
    }
    Ok(bytes.into())
}

fn strings(bytes: &[u8], shape: &[usize]) -> Result<Vec<String>, Failure> {
    let count = count(shape);
    let fewer = || {
        Failure::invalid(format!("BYTES of shape {shape:?} are {count} strings, and the bytes hold fewer"))
    };
    if count > bytes.len() / 4 {
        return Err(fewer());
    }
    let mut strings = reserved(count)?;
    let mut rest = bytes;
    for at in 0..count {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(fewer)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (string, tail) = tail.split_at_checked(length).ok_or_else(|| {
            let left = tail.len();
            Failure::invalid(format!("string {at} is said to have {length} bytes, and {left} are left"))
        })?;
        let string = std::str::from_utf8(string).map_err(|_| {
            Failure::invalid(format!("string {at} is no UTF-8, as the strings of a model are"))
        })?;
        strings.push(string.to_owned());
        rest = tail;
    }
    match rest.len() {
        0 => Ok(strings),
        left => Err(Failure::invalid(format!(
            "{left} bytes are left after the {count} strings of shape {shape:?}"
        ))),
    }
}

/// An empty vector with room for `count` elements.
///
/// # Errors
/// [`Reason::Unavailable`] if there is no memory for them.
pub(crate) fn reserved<T>(count: usize) -> Result<Vec<T>, Failure> {
    let mut elements = Vec::new();
    elements.try_reserve_exact(count).map_err(|_| {
        Failure::new(Reason::Unavailable, "there is no memory for the request now; try again later")
    })?;
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_overflow() {
        assert_eq!(shape(&[2, 0, 3]).unwrap(), [2, 0, 3]);
        assert_eq!(shape(&[]).unwrap(), [0usize; 0]);
        assert!(shape(&[1 << 40, 0, 1 << 40]).unwrap_err().text.contains("too many elements"));
        assert!(shape(&[i64::MAX, 2]).unwrap_err().text.contains("too many elements"));
        assert_eq!(
            shape(&[1, -1]).unwrap_err().text,
            "shape [1, -1] has -1; a request says every dimension's size"
        );
        assert!(shape(&[1; 65]).unwrap_err().text.contains("65 dimensions"));
        assert_eq!(shape(&[1; 64]).unwrap().len(), 64);
    }

    #[test]
    fn numbers_are_not_copied() {
        let bytes = Bytes::from(vec![1, 0, 0, 0, 2, 0, 0, 0]);
        let place = bytes.as_ptr();
        let tensor = tensor(DType::I32, &[2], bytes).unwrap();
        assert_eq!(tensor.to_vec::<i32>().unwrap(), [1, 2]);
        assert_eq!(super::bytes(tensor).unwrap().as_ptr(), place);
    }

    #[test]
    fn wrong_sizes() {
        let failure = tensor(DType::I32, &[2], Bytes::from_static(&[0; 7])).unwrap_err();
        assert_eq!(failure.text, "INT32 of shape [2] takes 8 bytes, and 7 are given");
        let failure = tensor(DType::Bool, &[2], Bytes::from_static(&[1, 2])).unwrap_err();
        assert_eq!(failure.text, "element 1 is the byte 2; a BOOL is 0 or 1");
        assert!(tensor(DType::F16, &[0, 3], Bytes::new()).is_ok());
    }

    /// What tritonclient's `serialize_byte_tensor` makes of `np.array(["ab", "", "ö"], dtype=object)`.
    const STRINGS: &[u8] = b"\x02\0\0\0ab\0\0\0\0\x02\0\0\0\xc3\xb6";

    #[test]
    fn strings_with_their_lengths() {
        let tensor = tensor(DType::String, &[3], Bytes::from_static(STRINGS)).unwrap();
        assert_eq!(tensor.strings().unwrap(), ["ab", "", "ö"]);
        assert_eq!(bytes(tensor).unwrap(), STRINGS);
    }

    #[test]
    fn strings_that_do_not_fit() {
        let text = |shape: &[usize], bytes: &'static [u8]| {
            tensor(DType::String, shape, Bytes::from_static(bytes)).unwrap_err().text
        };
        assert_eq!(text(&[4], STRINGS), "BYTES of shape [4] are 4 strings, and the bytes hold fewer");
        assert_eq!(text(&[2], STRINGS), "6 bytes are left after the 2 strings of shape [2]");
        assert_eq!(text(&[1], b"\x05\0\0\0ab"), "string 0 is said to have 5 bytes, and 2 are left");
        assert_eq!(text(&[1], b"\x01\0\0\0\xff"), "string 0 is no UTF-8, as the strings of a model are");
        assert!(text(&[usize::MAX / 64], STRINGS).contains("hold fewer"));
    }
}
