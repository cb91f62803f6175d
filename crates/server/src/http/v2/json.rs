//! Tensors as JSON: lists of numbers, truth values or strings, flat or nested, in row-major order.
//!
//! A NaN is written as `null`, of which clients make a NaN again. JSON has no form that all clients read for infinite numbers, nor one
//! for the protocol's FP16 and BF16: these are refused, and go as binary data. `null` is refused in requests, since some clients write
//! it for infinite numbers too.

use std::fmt::Display;
use std::str::FromStr;

use sardonyx::{DType, Element, Tensor};

use crate::{Failure, datatype, raw};

/// The tensor of the elements in `text`, which is any JSON value.
///
/// # Errors
/// [`crate::Reason::Invalid`] if the value is no list, the lists of a level differ in length, there are more or fewer elements than in
/// `shape`, or an element is none of `dtype`.
pub(in crate::http) fn tensor(dtype: DType, shape: &[usize], text: &str) -> Result<Tensor, Failure> {
    Ok(match dtype {
        DType::Bool => Tensor::from_bools(shape, &elements(text, shape, "BOOL", truth)?)?,
        DType::String => Tensor::from_strings(
            shape,
            elements(text, shape, "BYTES", |token| serde_json::from_str(token).ok())?,
        )?,
        DType::U8 => numbers::<u8>(text, shape)?,
        DType::U16 => numbers::<u16>(text, shape)?,
        DType::U32 => numbers::<u32>(text, shape)?,
        DType::U64 => numbers::<u64>(text, shape)?,
        DType::I8 => numbers::<i8>(text, shape)?,
        DType::I16 => numbers::<i16>(text, shape)?,
        DType::I32 => numbers::<i32>(text, shape)?,
        DType::I64 => numbers::<i64>(text, shape)?,
        DType::F32 => {
            Tensor::from_vec(shape, elements(text, shape, "FP32", |token| finite(token, f32::is_finite))?)?
        }
        DType::F64 => {
            Tensor::from_vec(shape, elements(text, shape, "FP64", |token| finite(token, f64::is_finite))?)?
        }
        _ => return Err(only_binary(dtype)),
    })
}

/// Appends the elements of `tensor` to `out`, as one flat list.
///
/// # Errors
/// [`crate::Reason::Invalid`] if an element has no form in JSON.
pub(super) fn write(out: &mut Vec<u8>, tensor: &Tensor) -> Result<(), Failure> {
    match tensor.dtype() {
        DType::Bool => list(out, tensor.bytes(), |out, &byte| {
            out.extend_from_slice(if byte == 0 { b"false" } else { b"true" });
            Ok(())
        }),
        DType::String => list(out, tensor.strings().unwrap_or_default(), |out, string| {
            string_into(out, string);
            Ok(())
        }),
        DType::U8 => integers(out, tensor, u8::from_le_bytes),
        DType::U16 => integers(out, tensor, u16::from_le_bytes),
        DType::U32 => integers(out, tensor, u32::from_le_bytes),
        DType::U64 => integers(out, tensor, u64::from_le_bytes),
        DType::I8 => integers(out, tensor, i8::from_le_bytes),
        DType::I16 => integers(out, tensor, i16::from_le_bytes),
        DType::I32 => integers(out, tensor, i32::from_le_bytes),
        DType::I64 => integers(out, tensor, i64::from_le_bytes),
        DType::F32 => floats(
            out,
            tensor,
            |bytes| f32::from_le_bytes(bytes).into(),
            |out, x| value_into(out, &(x as f32)),
        ),
        DType::F64 => floats(out, tensor, f64::from_le_bytes, |out, x| value_into(out, &x)),
        dtype => Err(only_binary(dtype)),
    }
}

/// Appends `string` as JSON.
pub(in crate::http) fn string_into(out: &mut Vec<u8>, string: &str) {
    value_into(out, string);
}

/// Appends a value that always has a form in JSON.
pub(in crate::http) fn value_into<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // A vector takes all bytes, and numbers and strings have a form.
    let _ = serde_json::to_writer(out, value);
}

fn only_binary(dtype: DType) -> Failure {
    let name = datatype::name(dtype).unwrap_or("this datatype");
    Failure::invalid(format!("{name} has no form in JSON; use binary data"))
}

fn truth(token: &str) -> Option<bool> {
    match token {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn finite<T: Copy + FromStr>(token: &str, is_finite: fn(T) -> bool) -> Option<T> {
    token.parse().ok().filter(|number| is_finite(*number))
}

fn numbers<T: Element + FromStr>(text: &str, shape: &[usize]) -> Result<Tensor, Failure> {
    let name = datatype::name(T::DTYPE).unwrap_or("");
    Ok(Tensor::from_vec(shape, elements(text, shape, name, |token| token.parse::<T>().ok())?)?)
}

/// The elements of the JSON value `text`, in order; `read` makes one of a token that is no list.
pub(in crate::http) fn elements<T>(
    text: &str,
    shape: &[usize],
    name: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Failure> {
    let count = raw::count(shape);
    let wrong_count = |found: &dyn Display| {
        Failure::invalid(format!("shape {shape:?} has {count} elements, and the data {found}"))
    };
    // An element takes a character, and one is between two.
    if count > text.len() / 2 {
        Lists::new(text)?;
        return Err(wrong_count(&"fewer"));
    }
    let mut elements = raw::reserved(count)?;
    walk(text, |token| {
        if elements.len() == count {
            return Err(wrong_count(&"more"));
        }
        let at = elements.len();
        elements.push(read(token).ok_or_else(|| no_element(at, token, name))?);
        Ok(())
    })?;
    match elements.len() {
        found if found == count => Ok(elements),
        found => Err(wrong_count(&found)),
    }
}

/// The lengths of the lists in the JSON value `text`, the outermost first: the shape of its elements.
///
/// # Errors
/// [`crate::Reason::Invalid`] if it is no list, or the lists of a level differ in length.
pub(in crate::http) fn shape(text: &str) -> Result<Vec<usize>, Failure> {
    let lists = walk(text, |_| Ok(()))?;
    Ok(lists.lengths.iter().map(|length| length.unwrap_or(0)).collect())
}

/// Calls `element` with each token that is no list.
fn walk(text: &str, mut element: impl FnMut(&str) -> Result<(), Failure>) -> Result<Lists, Failure> {
    let mut lists = Lists::new(text)?;
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', ',']);
        let Some(first) = rest.bytes().next() else { return Ok(lists) };
        match first {
            b'[' => lists.open()?,
            b']' => lists.close()?,
            _ => {
                let (token, tail) = rest.split_at(token_length(rest));
                rest = tail;
                lists.element()?;
                element(token)?;
                continue;
            }
        }
        rest = &rest[1..];
    }
}

fn no_element(at: usize, token: &str, name: &str) -> Failure {
    let shown: String = token.chars().take(40).collect();
    let more = if shown.len() < token.len() { "..." } else { "" };
    Failure::invalid(format!("element {at} is {shown}{more}, which is no {name}"))
}

/// The length of the token with which `text` begins: a string, an object, or everything before the next comma, bracket or space.
fn token_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(b'"') => string_length(bytes),
        Some(b'{') => {
            let (mut at, mut open) = (0, 0);
            while let Some(&byte) = bytes.get(at) {
                match byte {
                    b'"' => {
                        at += string_length(&bytes[at..]);
                        continue;
                    }
                    b'{' => open += 1,
                    b'}' if open == 1 => return at + 1,
                    b'}' => open -= 1,
                    _ => {}
                }
                at += 1;
            }
            bytes.len()
        }
        _ => bytes.iter().position(|byte| b",] \t\n\r".contains(byte)).unwrap_or(bytes.len()),
    }
}

/// The length of the string with which `bytes` begin.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The lists that are open, and the length that all lists of a level have.
struct Lists {
    /// How many lists are around each element.
    levels: usize,
    /// The elements so far of each open list, the outermost first.
    open: Vec<usize>,
    /// The length of the first list of each level that has ended.
    lengths: Vec<Option<usize>>,
}

impl Lists {
    fn new(text: &str) -> Result<Lists, Failure> {
        let opens = |c: &char| matches!(c, '[' | ' ' | '\t' | '\n' | '\r');
        let levels = text.chars().take_while(opens).filter(|c| *c == '[').count();
        match levels {
            0 => Err(Failure::invalid("the data is no list")),
            65.. => {
                Err(Failure::invalid("the data has lists in lists deeper than the 64 dimensions of a tensor"))
            }
            _ => Ok(Lists { levels, open: Vec::with_capacity(levels), lengths: vec![None; levels] }),
        }
    }

    fn ragged() -> Failure {
        Failure::invalid(
            "the data is ragged: the lists of one level have different lengths, or elements lie at different levels",
        )
    }

    fn open(&mut self) -> Result<(), Failure> {
        if self.open.len() == self.levels {
            return Err(Lists::ragged());
        }
        if let Some(around) = self.open.last_mut() {
            *around += 1;
        }
        self.open.push(0);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Failure> {
        let length = self.open.pop().ok_or_else(Lists::ragged)?;
        match self.lengths.get_mut(self.open.len()) {
            Some(Some(first)) if *first != length => Err(Lists::ragged()),
            Some(first) => {
                *first = Some(length);
                Ok(())
            }
            None => Err(Lists::ragged()),
        }
    }

    fn element(&mut self) -> Result<(), Failure> {
        let deepest = self.open.len() == self.levels;
        let around = self.open.last_mut().filter(|_| deepest).ok_or_else(Lists::ragged)?;
        *around += 1;
        Ok(())
    }
}

fn list<T>(
    out: &mut Vec<u8>,
    elements: &[T],
    mut write: impl FnMut(&mut Vec<u8>, &T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    out.push(b'[');
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, element)?;
    }
    out.push(b']');
    Ok(())
}

fn integers<const N: usize, T: serde::Serialize>(
    out: &mut Vec<u8>,
    tensor: &Tensor,
    read: fn([u8; N]) -> T,
) -> Result<(), Failure> {
    list(out, tensor.bytes().as_chunks::<N>().0, |out, bytes| {
        value_into(out, &read(*bytes));
        Ok(())
    })
}

fn floats<const N: usize>(
    out: &mut Vec<u8>,
    tensor: &Tensor,
    read: impl Fn([u8; N]) -> f64,
    write: impl Fn(&mut Vec<u8>, f64),
) -> Result<(), Failure> {
    list(out, tensor.bytes().as_chunks::<N>().0, |out, bytes| {
        match read(*bytes) {
            number if number.is_finite() => write(out, number),
            number if number.is_nan() => out.extend_from_slice(b"null"),
            _ => {
                return Err(Failure::invalid(
                    "it has an infinite number, which has no form in JSON; ask for binary data",
                ));
            }
        }
        Ok(())
    })
}
