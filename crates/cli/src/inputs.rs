//! A run's inputs: from `.npz` and `.npy` files, or random of a given shape.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Failure, numpy};
use sardonyx::{DType, Dim, Error, InputError, Model, Tensor, ValueInfo, shown};

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

/// What to do with dimensions that neither the model nor the caller fixes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// They are an error.
    Refuse,
    /// They get this size; the first of several is the batch, and gets 1.
    Are(usize),
}

/// An input, and whether it is random.
pub(super) struct NamedInput {
    pub(super) name: String,
    pub(super) tensor: Tensor,
    pub(super) random: bool,
}

/// The inputs as a session takes them.
pub(super) fn named(inputs: &[NamedInput]) -> Vec<(&str, &Tensor)> {
    inputs.iter().map(|input| (input.name.as_str(), &input.tensor)).collect()
}

impl InputArgs {
    /// All inputs of `model`: those of the files, and random ones for the others that have no default.
    pub(super) fn load(&self, model: &Model, unknown: Unknown) -> Result<Vec<NamedInput>, Failure> {
        let mut inputs = self.in_files(model)?;
        let said = self.said(model)?;
        let in_file = |info: &ValueInfo| inputs.iter().any(|input| input.name == info.name);
        if let Some((info, _)) = said.iter().find(|(info, _)| in_file(info)) {
            return Err(format!("--shape '{}': a file gives this input", shown(&info.name)).into());
        }
        let mut sizes = NamedSizes::default();
        for info in model.inputs() {
            let given = inputs.iter().filter(|input| input.name == info.name);
            given.for_each(|input| sizes.learn(info, input.tensor.shape()));
        }
        said.iter().for_each(|(info, shape)| sizes.learn(info, shape));
        let mut drawn = Vec::new();
        for info in model.inputs().iter().filter(|info| !in_file(info)) {
            let said = said.iter().find(|(other, _)| other.name == info.name).map(|(_, shape)| shape.clone());
            if info.has_default && said.is_none() {
                continue;
            }
            match said.or_else(|| sizes.declared(info, unknown)) {
                Some(shape) => drawn.push((info, shape)),
                None => return Err(missing(info).into()),
            }
        }
        check_size(&drawn)?;
        for (info, shape) in drawn {
            let tensor = random(info, &shape, self.seed)?;
            inputs.push(NamedInput { name: info.name.clone(), tensor, random: true });
        }
        Ok(inputs)
    }

    /// The shapes that the command line gives.
    fn said<'m>(&self, model: &'m Model) -> Result<Vec<(&'m ValueInfo, Vec<usize>)>, Failure> {
        let shape = |text: &String| {
            let (info, dims) = split(text, model)?;
            Ok((info, dimensions(dims).map_err(|reason| format!("--shape {text}: {reason}"))?))
        };
        self.shape.iter().map(shape).collect()
    }

    fn in_files(&self, model: &Model) -> Result<Vec<NamedInput>, Failure> {
        let dtype = |name: &str| model.inputs().iter().find(|info| info.name == name)?.dtype;
        let given = |(name, tensor)| NamedInput { name, tensor, random: false };
        let mut inputs = Vec::new();
        if let Some(path) = &self.inputs {
            inputs.extend(numpy::read_npz(path, &dtype, |name| known(model, name))?.into_iter().map(given));
        }
        for text in &self.input {
            let (info, path) = split(text, model)?;
            inputs.retain(|input| input.name != info.name);
            inputs.push(given((info.name.clone(), numpy::read_npy(Path::new(path), info.dtype)?)));
        }
        Ok(inputs)
    }
}

/// Refuses a name that no input of the model has.
fn known(model: &Model, name: &str) -> Result<(), Failure> {
    if model.inputs().iter().any(|info| info.name == name) {
        return Ok(());
    }
    let expected = model.inputs().iter().map(|info| info.name.clone()).collect();
    Err(Error::Input(InputError::Unknown { name: name.into(), expected }).into())
}

/// Splits `NAME=VALUE`. A name may contain `=` too, so the names of the model's inputs decide where.
fn split<'t, 'm>(text: &'t str, model: &'m Model) -> Result<(&'m ValueInfo, &'t str), Failure> {
    let found = text.match_indices('=').find_map(|(at, _)| {
        let info = model.inputs().iter().find(|info| info.name == text[..at])?;
        Some((info, &text[at + 1..]))
    });
    found.ok_or_else(|| {
        let names: Vec<String> = model.inputs().iter().map(|info| shown(&info.name).to_string()).collect();
        format!("'{text}' begins with no input's name and '='; the inputs are {}", names.join(", ")).into()
    })
}

/// The dimensions of `1x3x224x224`; an empty text is a scalar.
fn dimensions(text: &str) -> Result<Vec<usize>, String> {
    let size = |dim: &str| {
        let size = dim.trim().parse();
        size.map_err(|_| format!("'{dim}' is no size; a shape is written as 1x3x224x224"))
    };
    text.split(['x', ',']).filter(|_| !text.is_empty()).map(size).collect()
}

/// The sizes of named dimensions: all inputs share the size of a name.
#[derive(Default)]
struct NamedSizes<'m>(HashMap<&'m str, usize>);

impl<'m> NamedSizes<'m> {
    fn learn(&mut self, info: &'m ValueInfo, shape: &[usize]) {
        for (dim, &size) in info.shape.iter().flatten().zip(shape) {
            if let Dim::Symbol(name) = dim {
                self.0.entry(name).or_insert(size);
            }
        }
    }

    /// The shape that the model declares, with known sizes in place of names; `unknown` says what to do with the others.
    fn declared(&mut self, info: &'m ValueInfo, unknown: Unknown) -> Option<Vec<usize>> {
        let dims = info.shape.as_ref()?;
        let open = |axis: usize| match unknown {
            Unknown::Refuse => None,
            Unknown::Are(_) if axis == 0 && dims.len() > 1 => Some(1),
            Unknown::Are(size) => Some(size),
        };
        let size = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Known(size) => Some(*size),
            Dim::Symbol(name) => self.0.get(name.as_str()).copied().or_else(|| open(axis)),
            Dim::Unknown => open(axis),
        };
        let shape: Vec<usize> = dims.iter().enumerate().map(size).collect::<Option<_>>()?;
        self.learn(info, &shape);
        Some(shape)
    }
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
        name = shown(&info.name),
    )
}

/// The most elements of all random inputs together. They take 1 GiB as float32, and the reference computes with two to four
/// times as much. Larger inputs must come from a file.
const MOST_RANDOM: usize = 1 << 28;

/// The number of elements as which one string counts.
const TEXT: usize = 16;

fn check_size(drawn: &[(&ValueInfo, Vec<usize>)]) -> Result<(), Failure> {
    let mut left = MOST_RANDOM;
    for (info, shape) in drawn {
        let each = if info.dtype == Some(DType::String) { TEXT } else { 1 };
        let cost = numpy::count(shape).and_then(|count| count.checked_mul(each));
        left = cost.and_then(|cost| left.checked_sub(cost)).ok_or_else(|| {
            let limit = match each {
                1 => format!("{MOST_RANDOM} elements"),
                _ => format!("{} strings", MOST_RANDOM / TEXT),
            };
            format!(
                "input {info}: shape {shape:?} is too large for random values: all inputs together may have {limit}; \
                 say a smaller --shape, or give the input in a file (--inputs, -i)"
            )
        })?;
    }
    Ok(())
}

/// Elements that are drawn at once, as float64 takes more memory than most types. The number makes whole bytes of the
/// narrowest types.
const PIECE: usize = 1 << 16;

/// Values that most models accept: floats in -1..1, bytes of any value, other integers 0 or 1, which may be ids, masks or
/// lengths.
fn random(info: &ValueInfo, shape: &[usize], seed: u64) -> Result<Tensor, Failure> {
    let Some(dtype) = info.dtype else {
        return Err(format!("input {info} is no tensor, and cannot be random").into());
    };
    let count = numpy::count(shape).unwrap_or(0);
    if dtype == DType::String {
        return Ok(Tensor::from_strings(shape, vec!["a".into(); count])?);
    }
    let mut state = info.name.bytes().fold(seed, |state, byte| state.wrapping_mul(31) ^ u64::from(byte));
    let mut bytes = Vec::new();
    let failed = |why: &dyn std::fmt::Display| format!("input {info}: {why}");
    bytes.try_reserve_exact(dtype.bytes_of(count).unwrap_or(0)).map_err(|why| failed(&why))?;
    for start in (0..count).step_by(PIECE) {
        let piece = draw(dtype, PIECE.min(count - start), &mut state).map_err(|why| failed(&why))?;
        bytes.extend_from_slice(piece.bytes());
    }
    Ok(Tensor::from_raw(dtype, shape, bytes)?)
}

fn draw(dtype: DType, count: usize, state: &mut u64) -> sardonyx::Result<Tensor> {
    let mut next = || splitmix(state);
    let drawn = match dtype {
        DType::U8 | DType::I8 => {
            return Tensor::from_raw(dtype, &[count], (0..count).map(|_| next() as u8).collect::<Vec<_>>());
        }
        _ if dtype.is_float() => {
            let unit = |bits: u64| (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
            Tensor::from_slice(&[count], &(0..count).map(|_| unit(next())).collect::<Vec<_>>())?
        }
        _ => Tensor::from_slice(&[count], &(0..count).map(|_| (next() & 1) as u8).collect::<Vec<_>>())?,
    };
    drawn.cast(dtype)
}

/// The next number of SplitMix64.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
