//! A run's inputs: from `.npz` and `.npy` files, or random of a given shape.

use std::path::{Path, PathBuf};

use super::{Failure, numpy};
use crate::ops::case::splitmix;
use crate::reference::Array;
use crate::{DType, Dim, Model, Tensor, ValueInfo};

#[derive(Debug, clap::Args)]
pub(super) struct InputArgs {
    /// Inputs by name, from an .npz file.
    #[arg(long, value_name = "F.npz")]
    inputs: Option<PathBuf>,
    /// One input, from an .npy file; may be repeated.
    #[arg(short, long, value_name = "NAME=F.npy")]
    input: Vec<String>,
    /// The shape of an input that no file gives, and that is random then; may be repeated.
    #[arg(long, value_name = "NAME=1x3x224x224")]
    shape: Vec<String>,
    /// Decides the random inputs.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Dimensions that neither the model nor the caller says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Are an error.
    Refuse,
    /// Are of this size; the first of several is the batch, and 1.
    Are(usize),
}

/// An input, and where it comes from.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) tensor: Tensor,
    pub(super) random: bool,
}

/// The inputs as a session takes them.
pub(super) fn named(inputs: &[Input]) -> Vec<(&str, &Tensor)> {
    inputs.iter().map(|input| (input.name.as_str(), &input.tensor)).collect()
}

impl InputArgs {
    /// All inputs of `model`: those of the files, and random ones for the rest.
    pub(super) fn load(&self, model: &Model, unknown: Unknown) -> Result<Vec<Input>, Failure> {
        let mut inputs = self.in_files(model)?;
        let mut shapes = Vec::new();
        for text in &self.shape {
            let (info, dims) = split(text, model)?;
            let shape = dimensions(dims);
            shapes.push((&info.name, shape.ok_or_else(|| format!("--shape {text}: '{dims}' is no shape"))?));
        }
        for info in model.inputs() {
            if inputs.iter().any(|input| input.name == info.name) {
                if shapes.iter().any(|(name, _)| **name == info.name) {
                    return Err(format!("--shape '{}': a file gives this input", info.name).into());
                }
                continue;
            }
            let given = shapes.iter().find(|(name, _)| **name == info.name).map(|(_, shape)| shape.clone());
            let shape = match given.or_else(|| declared(info, unknown)) {
                Some(shape) => shape,
                None => return Err(missing(info).into()),
            };
            let tensor = random(info, &shape, self.seed)?;
            inputs.push(Input { name: info.name.clone(), tensor, random: true });
        }
        Ok(inputs)
    }

    fn in_files(&self, model: &Model) -> Result<Vec<Input>, Failure> {
        let dtype = |name: &str| model.inputs().iter().find(|info| info.name == name)?.dtype;
        let given = |(name, tensor)| Input { name, tensor, random: false };
        let mut inputs = Vec::new();
        if let Some(path) = &self.inputs {
            inputs.extend(numpy::read_npz(path, &dtype)?.into_iter().map(given));
        }
        for text in &self.input {
            let (info, path) = split(text, model)?;
            inputs.retain(|input| input.name != info.name);
            inputs.push(given((info.name.clone(), numpy::read_npy(Path::new(path), info.dtype)?)));
        }
        Ok(inputs)
    }
}

/// Splits `NAME=VALUE`. Names may hold `=` too, so it is the model's inputs that decide where.
fn split<'a>(text: &'a str, model: &'a Model) -> Result<(&'a ValueInfo, &'a str), Failure> {
    let found = text.match_indices('=').find_map(|(at, _)| {
        let info = model.inputs().iter().find(|info| info.name == text[..at])?;
        Some((info, &text[at + 1..]))
    });
    found.ok_or_else(|| {
        let names: Vec<&str> = model.inputs().iter().map(|info| info.name.as_str()).collect();
        format!("'{text}' begins with no input's name and '='; the inputs are {}", names.join(", ")).into()
    })
}

/// The dimensions of `1x3x224x224`; nothing at all is a scalar.
fn dimensions(text: &str) -> Option<Vec<usize>> {
    text.split(['x', ',']).filter(|_| !text.is_empty()).map(|dim| dim.trim().parse().ok()).collect()
}

fn declared(info: &ValueInfo, unknown: Unknown) -> Option<Vec<usize>> {
    let dims = info.shape.as_ref()?;
    let size = |(axis, dim): (usize, &Dim)| match (dim, unknown) {
        (Dim::Known(size), _) => Some(*size),
        (_, Unknown::Refuse) => None,
        (_, Unknown::Are(_)) if axis == 0 && dims.len() > 1 => Some(1),
        (_, Unknown::Are(size)) => Some(size),
    };
    dims.iter().enumerate().map(size).collect()
}

fn missing(info: &ValueInfo) -> String {
    let shape = info.shape.iter().flatten().map(|dim| match dim {
        Dim::Known(size) => size.to_string(),
        _ => "1".into(),
    });
    let shape: Vec<String> = shape.collect();
    format!(
        "input {info} is not given, and its shape is not fixed: use --inputs F.npz, -i '{name}=F.npy', \
         or --shape '{name}={}' for random values",
        shape.join("x"),
        name = info.name,
    )
}

/// Values that most models can do something with: floats in -1..1, bytes of any value, other integers 0 or 1, as ids,
/// masks and lengths can be.
fn random(info: &ValueInfo, shape: &[usize], seed: u64) -> Result<Tensor, Failure> {
    let Some(dtype) = info.dtype else {
        return Err(format!("input {info} is no tensor, and cannot be random").into());
    };
    let count = crate::tensor::checked_count(shape).filter(|count| *count < 1 << 32);
    let Some(count) = count else { return Err(format!("input {info}: shape {shape:?} is too large").into()) };
    let mut state = info.name.bytes().fold(seed, |state, byte| state.wrapping_mul(31) ^ u64::from(byte));
    let mut next = || splitmix(&mut state);
    let array = match dtype {
        DType::String => Array::text(shape, vec!["a".into(); count]),
        DType::U8 | DType::I8 => {
            Array::int(dtype, shape, (0..count).map(|_| i128::from(next() as u8)).collect())
        }
        _ if dtype.is_float() => {
            let unit = |bits: u64| (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
            Array::float(dtype, shape, (0..count).map(|_| unit(next())).collect())
        }
        _ => Array::int(dtype, shape, (0..count).map(|_| i128::from(next() & 1)).collect()),
    };
    Ok(array.to_tensor().map_err(|why| format!("input {info}: {why}"))?)
}
