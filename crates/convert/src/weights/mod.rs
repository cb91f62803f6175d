//! Weights of other files in place of a model's initializers.

mod model;
mod pickle;
mod safetensors;
mod torch;

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use crate::{Error, Result};

/// What became of the weights of a file, by name and in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WeightReport {
    /// Initializers that have the weights of the file now.
    pub replaced: Vec<String>,
    /// Initializers that the file has no weights for: they stay as they are.
    pub kept: Vec<String>,
    /// Weights of the file that are no initializer of the model.
    pub unused: Vec<String>,
}

/// The model with the weights of a file: of `.safetensors`, or of a state dictionary that PyTorch saved (`.pt`, `.pth`, a zip
/// archive). Each initializer of the model's own graph that has a weight of the same name takes that weight's elements; everything
/// else in the model stays, byte by byte. Where no name is in both and all of the file begin with one word and a dot, as `module.` that a
/// wrapper of PyTorch puts before them, they are taken without it. Nothing in the file is executed: a pickle is read by a list of what state dictionaries
/// are made of, and anything else in it is an error.
///
/// # Errors
///
/// [`Error::Model`] if the model is no ONNX file; [`Error::Malformed`] if the weights' file is not of its format, or holds what a
/// state dictionary does not;
/// [`Error::Mismatch`] if a weight has another shape or element type than the initializer of its name, or no name is in both;
/// [`Error::TooLarge`] if weights that share memory would make a model far larger than the files, or one above 2 GiB.
pub fn with_weights(model: impl Into<Bytes>, weights: &[u8]) -> Result<(Vec<u8>, WeightReport)> {
    let most = weights.len().saturating_mul(4).saturating_add(1 << 16);
    let weights = match weights.starts_with(b"PK") {
        true => torch::read(weights)?,
        false => safetensors::read(weights)?,
    };
    let model = model.into();
    let by_name = by_name(unwrapped(weights, &model::names(&model)?))?;
    model::replace(&model, &by_name, most)
}

/// The weights, without the word before all of their names if the model's names lack it.
fn unwrapped<'f>(mut weights: Vec<Weight<'f>>, names: &HashSet<String>) -> Vec<Weight<'f>> {
    let is_known = |weight: &Weight, from: usize| names.contains(&weight.name[from..]);
    // How many bytes of each name are left out; wrappers are few.
    let mut from = 0;
    for _ in 0..4 {
        if weights.iter().any(|weight| is_known(weight, from)) {
            break;
        }
        let word = weights.first().and_then(|first| first.name[from..].find('.')).map(|dot| from + dot + 1);
        let Some(to) = word else { return weights };
        let word = weights[0].name[..to].to_string();
        if !weights.iter().all(|weight| weight.name.starts_with(&word)) {
            return weights;
        }
        from = to;
    }
    if !weights.iter().any(|weight| is_known(weight, from)) {
        return weights;
    }
    for weight in &mut weights {
        weight.name.drain(..from);
    }
    weights
}

/// A tensor of a file.
#[derive(Debug)]
struct Weight<'f> {
    name: String,
    element: Element,
    shape: Vec<u64>,
    /// The elements from first to last of this memory, in the order of their strides.
    memory: &'f [u8],
    /// Distances of elements, if they do not lie one after the other.
    strides: Option<Vec<u64>>,
}

/// An element type: its number in ONNX, its name there, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Element {
    number: i32,
    name: &'static str,
    bytes: usize,
}

const ELEMENTS: [Element; 15] = [
    Element { number: 1, name: "float32", bytes: 4 },
    Element { number: 2, name: "uint8", bytes: 1 },
    Element { number: 3, name: "int8", bytes: 1 },
    Element { number: 4, name: "uint16", bytes: 2 },
    Element { number: 5, name: "int16", bytes: 2 },
    Element { number: 6, name: "int32", bytes: 4 },
    Element { number: 7, name: "int64", bytes: 8 },
    Element { number: 9, name: "bool", bytes: 1 },
    Element { number: 10, name: "float16", bytes: 2 },
    Element { number: 11, name: "float64", bytes: 8 },
    Element { number: 12, name: "uint32", bytes: 4 },
    Element { number: 13, name: "uint64", bytes: 8 },
    Element { number: 16, name: "bfloat16", bytes: 2 },
    Element { number: 17, name: "float8e4m3fn", bytes: 1 },
    Element { number: 19, name: "float8e5m2", bytes: 1 },
];

impl Element {
    fn named(name: &str) -> Option<Element> {
        ELEMENTS.into_iter().find(|element| element.name == name)
    }
}

/// The number of elements of a shape.
fn count(shape: &[u64]) -> Option<usize> {
    // A size of 0 must not hide an overflow of the others.
    let all = shape.iter().filter(|&&size| size > 0).try_fold(1u64, |n, &size| n.checked_mul(size))?;
    let all = usize::try_from(all).ok()?;
    Some(if shape.contains(&0) { 0 } else { all })
}

fn malformed(what: impl Into<String>) -> Error {
    Error::Malformed(what.into())
}

fn by_name(weights: Vec<Weight>) -> Result<BTreeMap<String, Weight>> {
    let mut named = BTreeMap::new();
    for weight in weights {
        if let Some(twice) = named.insert(weight.name.clone(), weight) {
            return Err(malformed(format!("two weights have the name '{}'", shown(&twice.name))));
        }
    }
    Ok(named)
}

/// A name in a message.
fn shown(name: &str) -> String {
    name.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}
