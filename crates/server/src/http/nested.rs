//! Tensors as JSON whose lists lie in each other as the dimensions do, so that no shape need be said: the form of TensorFlow Serving,
//! KServe v1 and TorchServe. A scalar is no list. A string may be `{"b64": ...}`. Numbers that are not finite are the tokens `NaN`,
//! `Infinity` and `-Infinity`, which Python's `json` reads and writes too.

use std::borrow::Cow;
use std::ops::Range;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use half::{bf16, f16};
use sardonyx::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::v2::json::{self, elements, string_into, value_into};
use crate::{Failure, raw};

/// Base64 with or without `=` at its end, as TensorFlow Serving takes it.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The tokens that are no JSON, a longer one before its beginnings.
const NOT_FINITE: [&str; 5] = ["NaN", "Infinity", "-Infinity", "Inf", "-Inf"];

/// The lists that an answer without elements may have.
const EMPTY_LISTS: usize = 1 << 20;

/// A string as bytes.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct InBase64 {
    b64: String,
}

/// A body as JSON: numbers that are not finite become strings, which [`tensor`] reads as numbers.
pub(super) fn as_json(body: Bytes) -> Bytes {
    let mut json = Vec::new();
    let (mut at, mut copied, mut in_string) = (0, 0, false);
    while let Some(&byte) = body.get(at) {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => at += 1,
            b'N' | b'I' | b'-' if !in_string => {
                if let Some(token) = NOT_FINITE.iter().find(|token| body[at..].starts_with(token.as_bytes()))
                {
                    json.extend_from_slice(&body[copied..at]);
                    value_into(&mut json, token);
                    at += token.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return body;
    }
    json.extend_from_slice(&body[copied..]);
    json.into()
}

/// Whether a JSON value is an object of tensors by name, and no string as bytes.
pub(super) fn is_named(json: &str) -> bool {
    json.trim_start().starts_with('{') && serde_json::from_str::<InBase64>(json).is_err()
}

/// The tensor that a JSON value is.
///
/// # Errors
/// [`crate::Reason::Invalid`] if lists of a level differ in length, or an element is none of `dtype`.
pub(super) fn tensor(dtype: DType, json: &str) -> Result<Tensor, Failure> {
    let (shape, json) = match json.trim_start().starts_with('[') {
        true => (json::shape(json)?, Cow::Borrowed(json)),
        false => (Vec::new(), Cow::Owned(format!("[{json}]"))),
    };
    Ok(match dtype {
        DType::F32 => Tensor::from_vec(&shape, elements(&json, &shape, "FP32", number::<f32>)?)?,
        DType::F64 => Tensor::from_vec(&shape, elements(&json, &shape, "FP64", number::<f64>)?)?,
        DType::F16 => halves(dtype, &shape, elements(&json, &shape, "FP16", number::<f32>)?, |number| {
            f16::from_f32(number).to_le_bytes()
        })?,
        DType::BF16 => halves(dtype, &shape, elements(&json, &shape, "BF16", number::<f32>)?, |number| {
            bf16::from_f32(number).to_le_bytes()
        })?,
        DType::String => Tensor::from_strings(&shape, elements(&json, &shape, "text in UTF-8", text)?)?,
        dtype => json::tensor(dtype, &shape, &json)?,
    })
}

fn halves(
    dtype: DType,
    shape: &[usize],
    numbers: Vec<f32>,
    bytes: fn(f32) -> [u8; 2],
) -> Result<Tensor, Failure> {
    raw::tensor(dtype, shape, numbers.into_iter().flat_map(bytes).collect())
}

fn number<T: FromStr + Into<f64> + Copy>(token: &str) -> Option<T> {
    // What Rust reads as a number that is not finite is written in one of these ways, or is too great.
    match token.strip_prefix('"') {
        Some(token) => {
            let token = token.strip_suffix('"').filter(|token| NOT_FINITE.contains(token))?;
            token.parse().ok()
        }
        None => token.parse().ok().filter(|&number: &T| number.into().is_finite()),
    }
}

fn text(token: &str) -> Option<String> {
    if token.starts_with('{') {
        let InBase64 { b64 } = serde_json::from_str(token).ok()?;
        return String::from_utf8(BASE64.decode(b64).ok()?).ok();
    }
    serde_json::from_str(token).ok()
}

/// Refuses an output that has no element, and many lists.
///
/// # Errors
/// [`crate::Reason::Invalid`].
pub(super) fn refuse_endless(name: &str, tensor: &Tensor) -> Result<(), Failure> {
    let lists = tensor.shape().iter().take_while(|&&size| size > 0);
    let lists = lists.fold(1usize, |lists, &size| lists.saturating_mul(size));
    match tensor.is_empty() && lists > EMPTY_LISTS {
        true => Err(Failure::invalid(format!(
            "output '{name}' has the shape {:?}: no elements, and too many lists around them",
            tensor.shape()
        ))),
        false => Ok(()),
    }
}

/// Appends the output `name`. Strings of an output whose name ends in `_bytes` are written as bytes.
///
/// # Errors
/// [`crate::Reason::Invalid`] if its dtype has no form in JSON.
pub(super) fn write(out: &mut Vec<u8>, name: &str, tensor: &Tensor) -> Result<(), Failure> {
    part(out, name, tensor, tensor.shape(), 0..tensor.len())
}

/// Appends one row of the output `name`.
///
/// # Errors
/// As [`write`]; if there is no such row.
pub(super) fn write_row(out: &mut Vec<u8>, name: &str, tensor: &Tensor, row: usize) -> Result<(), Failure> {
    let Some((rows, inner)) = tensor.shape().split_first().filter(|(rows, _)| row < **rows) else {
        return Err(Failure::invalid(format!("output '{name}' has no row {row}")));
    };
    let size = tensor.len() / rows;
    part(out, name, tensor, inner, row * size..(row + 1) * size)
}

fn part(
    out: &mut Vec<u8>,
    name: &str,
    tensor: &Tensor,
    shape: &[usize],
    range: Range<usize>,
) -> Result<(), Failure> {
    let part = Part { tensor, shape, range };
    match tensor.dtype() {
        DType::Bool => part.write(out, |[byte]: &[u8; 1]| *byte != 0, value_into),
        DType::U8 => part.write(out, |bytes| u8::from_le_bytes(*bytes), value_into),
        DType::U16 => part.write(out, |bytes| u16::from_le_bytes(*bytes), value_into),
        DType::U32 => part.write(out, |bytes| u32::from_le_bytes(*bytes), value_into),
        DType::U64 => part.write(out, |bytes| u64::from_le_bytes(*bytes), value_into),
        DType::I8 => part.write(out, |bytes| i8::from_le_bytes(*bytes), value_into),
        DType::I16 => part.write(out, |bytes| i16::from_le_bytes(*bytes), value_into),
        DType::I32 => part.write(out, |bytes| i32::from_le_bytes(*bytes), value_into),
        DType::I64 => part.write(out, |bytes| i64::from_le_bytes(*bytes), value_into),
        DType::F16 => part.write(out, |bytes| f16::from_le_bytes(*bytes).to_f32(), float),
        DType::BF16 => part.write(out, |bytes| bf16::from_le_bytes(*bytes).to_f32(), float),
        DType::F32 => part.write(out, |bytes| f32::from_le_bytes(*bytes), float),
        DType::F64 => part.write(out, |bytes| f64::from_le_bytes(*bytes), float),
        DType::String => {
            let strings = tensor.strings().unwrap_or_default().get(part.range).unwrap_or_default();
            let as_bytes = name.ends_with("_bytes");
            lists(out, shape, strings, &|out, string: &String| match as_bytes {
                true => value_into(out, &InBase64 { b64: BASE64.encode(string) }),
                false => string_into(out, string),
            });
        }
        dtype => {
            return Err(Failure::invalid(format!("output '{name}' is {dtype}, which has no form in JSON")));
        }
    }
    Ok(())
}

/// Elements of a tensor that follow each other, and their shape.
struct Part<'a> {
    tensor: &'a Tensor,
    shape: &'a [usize],
    range: Range<usize>,
}

impl Part<'_> {
    fn write<const N: usize, T>(
        &self,
        out: &mut Vec<u8>,
        read: fn(&[u8; N]) -> T,
        write: fn(&mut Vec<u8>, &T),
    ) {
        let elements = self.tensor.bytes().as_chunks::<N>().0;
        let elements = elements.get(self.range.clone()).unwrap_or_default();
        lists(out, self.shape, elements, &|out, bytes| write(out, &read(bytes)));
    }
}

pub(super) fn float<T: Serialize + Into<f64> + Copy>(out: &mut Vec<u8>, number: &T) {
    match (*number).into() {
        finite if finite.is_finite() => value_into(out, number),
        nan if nan.is_nan() => out.extend_from_slice(b"NaN"),
        infinite => out.extend_from_slice(if infinite > 0.0 { b"Infinity" } else { b"-Infinity" }),
    }
}

fn lists<T>(out: &mut Vec<u8>, shape: &[usize], elements: &[T], write: &impl Fn(&mut Vec<u8>, &T)) {
    let Some((&count, inner)) = shape.split_first() else {
        return elements.iter().for_each(|element| write(out, element));
    };
    let size = elements.len() / count.max(1);
    out.push(b'[');
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        lists(out, inner, &elements[at * size..(at + 1) * size], write);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dtype: DType, json: &'static str) -> Result<Tensor, Failure> {
        let json = as_json(Bytes::from_static(json.as_bytes()));
        tensor(dtype, std::str::from_utf8(&json).unwrap())
    }

    fn written(name: &str, tensor: &Tensor) -> String {
        let mut out = Vec::new();
        write(&mut out, name, tensor).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nesting_is_the_shape() {
        for (json, shape) in [
            ("1", &[][..]),
            ("[1, 2]", &[2]),
            ("[[1,2,3],\n[4,5,6]]", &[2, 3]),
            ("[]", &[0]),
            ("[[],[]]", &[2, 0]),
            ("[[[7]]]", &[1, 1, 1]),
        ] {
            for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I8, DType::U64] {
                assert_eq!(read(dtype, json).unwrap().shape(), shape, "{json}");
            }
        }
        for ragged in ["[[1],[2,3]]", "[[1],2]", "[1,[2]]", "[[],[1]]"] {
            assert!(read(DType::F32, ragged).unwrap_err().text.contains("ragged"), "{ragged}");
        }
        assert!(read(DType::I32, "[1.5]").unwrap_err().text.contains("element 0 is 1.5"));
        assert!(read(DType::F32, "[null]").is_err());
        assert!(read(DType::F32, "[1e39]").is_err());
        assert!(read(DType::F32, "[\"1\"]").is_err());
        assert!(read(DType::F32, "[{\"b64\":\"YQ==\"}]").is_err());
    }

    #[test]
    fn numbers_that_are_not_finite() {
        let tensor = read(DType::F32, "[NaN, Infinity,-Infinity,Inf,-Inf,-1]").unwrap();
        let numbers = tensor.to_vec::<f32>().unwrap();
        assert!(numbers[0].is_nan());
        assert_eq!(numbers[1..], [f32::INFINITY, -f32::INFINITY, f32::INFINITY, -f32::INFINITY, -1.0]);
        assert_eq!(written("y", &tensor), "[NaN,Infinity,-Infinity,Infinity,-Infinity,-1.0]");
        let half = read(DType::F16, "[[0.5],[-Infinity]]").unwrap();
        assert_eq!(half.bytes(), [0x00, 0x38, 0x00, 0xfc]);
        assert_eq!(written("y", &half), "[[0.5],[-Infinity]]");
        let kept = br#"{"a \" NaN":"\\Inf"}"#;
        assert_eq!(as_json(Bytes::from_static(kept)), &kept[..]);
        assert!(read(DType::I32, "[NaN]").is_err());
    }

    #[test]
    fn strings_and_their_bytes() {
        let tensor = read(DType::String, r#"["a,]", {"b64":"w7Y="}, { "b64" : "w7Y" },"\"NaN\""]"#).unwrap();
        assert_eq!(tensor.strings().unwrap(), ["a,]", "ö", "ö", "\"NaN\""]);
        assert_eq!(written("y", &tensor), r#"["a,]","ö","ö","\"NaN\""]"#);
        let tensor = read(DType::String, r#"{"b64":"w7Y="}"#).unwrap();
        assert_eq!(written("y_bytes", &tensor), r#"{"b64":"w7Y="}"#);
        for bad in
            [r#"[{"b64":"/w=="}]"#, r#"[{"b64":"?"}]"#, r#"[{"b64":1}]"#, r#"[{"a":{"b":"}"}}]"#, "[1]"]
        {
            assert!(read(DType::String, bad).is_err(), "{bad}");
        }
        assert!(is_named(r#"{"x":1}"#) && !is_named(r#"{"b64":"YQ=="}"#) && !is_named("[1]"));
    }

    #[test]
    fn rows_of_outputs() {
        let tensor = Tensor::from_vec(&[2, 1, 2], vec![1i64, 2, 3, 4]).unwrap();
        let mut out = Vec::new();
        write_row(&mut out, "y", &tensor, 1).unwrap();
        assert_eq!(out, b"[[3,4]]");
        assert!(write_row(&mut out, "y", &tensor, 2).is_err());
        assert_eq!(written("y", &Tensor::from_bools(&[2], &[true, false]).unwrap()), "[true,false]");
        let empty = Tensor::from_vec::<f32>(&[2, 0, 9], Vec::new()).unwrap();
        assert_eq!(written("y", &empty), "[[],[]]");
        assert!(refuse_endless("y", &empty).is_ok());
        let endless = Tensor::from_vec::<f32>(&[1 << 40, 0], Vec::new()).unwrap();
        assert!(refuse_endless("y", &endless).is_err());
    }
}
