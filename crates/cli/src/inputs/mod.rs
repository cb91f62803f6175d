//! A run's inputs: from arrays, tensors, pictures and sounds in files, or random. Every command takes them alike: what the command
//! line gives is read before anything is made of the model, and sizes are settled before random values are drawn.

mod media;
mod random;
mod settled;
mod shapes;
mod sizes;
mod wav;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};
use sardonyx::{DType, Datum, Dim, Error, InputError, Model, Session, Tensor, ValueInfo, shown};

use super::completions::{self, InputNames};
use super::{Failure, complain, counted, files, number, numpy};
use media::{MediaArgs, OpenPicture};
use random::Source;
use settled::Settled;
use shapes::ListedInputs;
use sizes::Sizes;
pub(super) use sizes::{Chosen, chosen_text, symbols};

/// The heading of these options in a command's help.
const HEADING: &str = "Inputs";

#[derive(Debug, clap::Args)]
pub(super) struct InputArgs {
    /// Inputs by name, from an .npz file.
    #[arg(long, value_name = "F.npz", help_heading = HEADING)]
    inputs: Option<PathBuf>,
    /// One input, from an .npy file or an ONNX value (.pb: a tensor, a sequence, an optional or a map); may be repeated. The name may
    /// be left out where there is one input.
    #[arg(short, long, value_name = "NAME=F.npy", help_heading = HEADING, add = ArgValueCompleter::new(InputNames))]
    input: Vec<String>,
    /// Convert arrays of another element type to the one that the model takes.
    #[arg(long, help_heading = HEADING)]
    cast: bool,
    /// The shape of an input that no file gives, and that is random then, or of a picture; may be repeated.
    #[arg(long, value_name = "NAME=1x3x224x224", help_heading = HEADING, add = ArgValueCompleter::new(InputNames))]
    shape: Vec<String>,
    /// The size of a dimension that the model calls NAME, in all inputs; may be repeated.
    #[arg(long, value_name = "NAME=N", help_heading = HEADING, add = ArgValueCandidates::new(completions::dimensions))]
    dim: Vec<String>,
    /// Decides the random inputs.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = HEADING, value_parser = number::whole::<0>, allow_negative_numbers = true)]
    seed: u64,
    #[command(flatten)]
    media: MediaArgs,
}

/// An input, and where it is from.
pub(super) struct NamedInput {
    pub(super) name: String,
    pub(super) value: Datum,
    pub(super) origin: Origin,
}

/// Where an input is from.
#[derive(Clone)]
pub(super) enum Origin {
    /// A file, and what it is if it is no array: `photo.jpg, 640 x 480 pixels`.
    File(PathBuf, Option<String>),
    /// Nowhere; in words, as `random` or `ones`.
    Made(&'static str),
}

impl Origin {
    /// What a line on the input says of it.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Origin::File(_, what) => what.as_deref(),
            Origin::Made(how) => Some(how),
        }
    }

    pub(super) fn is_random(&self) -> bool {
        matches!(self, Origin::Made(_))
    }
}

/// The inputs as a session takes them.
pub(super) fn named(inputs: &[NamedInput]) -> Vec<(&str, &Datum)> {
    inputs.iter().map(|input| (input.name.as_str(), &input.value)).collect()
}

/// The inputs for what takes tensors only, which `what` names.
pub(super) fn tensors<'i>(
    inputs: &'i [NamedInput],
    what: &str,
) -> Result<Vec<(&'i str, &'i Tensor)>, Failure> {
    let tensor = |input: &'i NamedInput| match input.value.tensor() {
        Some(tensor) => Ok((input.name.as_str(), tensor)),
        None => {
            let (name, kind) = (shown(&input.name), input.value.kind());
            Err(format!("input '{name}' is a {kind}, and {what} takes tensors only; `run` takes all").into())
        }
    };
    inputs.iter().map(tensor).collect()
}

/// The failure of a run on these inputs: where one of them is the reason, its file is named.
pub(super) fn blamed(error: Error, inputs: &[NamedInput]) -> Failure {
    let name = match &error {
        Error::Input(
            InputError::Value { name, .. }
            | InputError::DType { name, .. }
            | InputError::Shape { name, .. }
            | InputError::Dimension { name, .. }
            | InputError::TooLarge { name, .. },
        ) => name,
        _ => return error.into(),
    };
    match inputs.iter().find(|input| input.name == *name).map(|input| &input.origin) {
        Some(Origin::File(path, _)) => {
            let path = path.clone();
            Failure::from(error).in_file(&path)
        }
        _ => error.into(),
    }
}

/// What a command line gives, with its files read and its names and shapes checked.
pub(super) struct GivenInputs<'m> {
    model: &'m Model,
    files: Vec<FileInput<'m>>,
    /// The shapes that --shape says.
    said: HashMap<&'m str, Vec<usize>>,
    /// The inputs that no file gives, and that need a value.
    open: Vec<&'m ValueInfo>,
    /// What --dim, --shape and arrays say of the model's dimensions.
    sizes: Sizes<'m>,
    source: Source,
    /// Whether the command line says anything of the inputs' sizes.
    pub(super) says_sizes: bool,
    /// How long reading took.
    pub(super) read_ms: f64,
}

/// An input in a file.
struct FileInput<'m> {
    info: &'m ValueInfo,
    origin: Origin,
    content: Content,
}

enum Content {
    Array(Tensor),
    /// A sequence, an optional or a map.
    Container(Datum),
    /// A picture, which becomes an array when its size is settled.
    Picture(Box<OpenPicture>),
}

impl InputArgs {
    /// Reads the files, and checks all names and shapes.
    pub(super) fn read<'m>(&self, model: &'m Model) -> Result<GivenInputs<'m>, Failure> {
        let start = Instant::now();
        if self.cast && self.inputs.is_none() && self.input.is_empty() {
            return Err("--cast converts arrays, and none is given: name some by --inputs or -i".into());
        }
        let mut sizes = Sizes::said(model, &self.dim)?;
        let listed = ListedInputs::of(model);
        let shapes = self.shapes(&listed)?;
        let files = self.files(model, &listed)?;
        for (info, _) in &shapes {
            let array = |file: &FileInput| matches!(file.content, Content::Array(_));
            if files.iter().any(|file| file.info.name == info.name && array(file)) {
                return Err(format!("--shape '{}': a file gives this input", shown(&info.name)).into());
            }
        }
        for file in &files {
            if let Content::Array(tensor) = &file.content {
                sizes.learn(file.info, tensor.shape(), &format!("input {}", shown(&file.info.name)))?;
            }
        }
        let mut said = HashMap::new();
        for (info, shape) in shapes {
            sizes.learn(info, &shape, &format!("--shape {}", shown(&info.name)))?;
            said.insert(info.name.as_str(), shape);
        }
        let in_file = |info: &ValueInfo| files.iter().any(|file| file.info.name == info.name);
        let wanted = |info: &&ValueInfo| {
            !in_file(info) && (!info.has_default || said.contains_key(info.name.as_str()))
        };
        let open: Vec<&ValueInfo> = model.inputs().iter().filter(wanted).collect();
        if !files.is_empty() {
            let missing = open.iter().filter(|info| !said.contains_key(info.name.as_str()));
            refuse_missing(&missing.copied().collect::<Vec<_>>(), &files)?;
        }
        Ok(GivenInputs {
            says_sizes: !(self.dim.is_empty() && said.is_empty() && files.is_empty()),
            read_ms: start.elapsed().as_secs_f64() * 1e3,
            source: Source { seed: self.seed, bounds: model.index_bounds() },
            model,
            files,
            said,
            open,
            sizes,
        })
    }

    /// The shapes that the command line gives.
    fn shapes<'m>(&self, listed: &ListedInputs<'m>) -> Result<Vec<(&'m ValueInfo, Vec<usize>)>, Failure> {
        let shape = |text: &String| {
            let (info, dims) = listed.split("--shape", text)?;
            let failed = |reason| format!("--shape {}: {reason}", shown(text));
            let shape = shapes::dimensions(dims, info).map_err(failed)?;
            match shapes::fits(info, &shape) {
                true => Ok((info, shape)),
                false => Err(failed(format!(
                    "the model takes {info}; a shape for it is written as {}",
                    shapes::example(info)
                ))
                .into()),
            }
        };
        self.shape.iter().map(shape).collect()
    }

    fn files<'m>(&self, model: &Model, listed: &ListedInputs<'m>) -> Result<Vec<FileInput<'m>>, Failure> {
        let mut all: Vec<FileInput<'m>> = Vec::new();
        if let Some(path) = &self.inputs {
            let dtype = |name: &str| listed.get(name)?.dtype;
            let advice = "give it as -i NAME=F.npy";
            for (name, tensor) in
                numpy::read_npz(path, &dtype, advice, |names| known(model, listed, path, names))?
            {
                let Some(info) = listed.get(&name) else { continue };
                all.push(self.array(info, tensor, path)?);
            }
        }
        // Of several files for one input, the last counts.
        let mut give = |file: FileInput<'m>| match all.iter_mut().find(|old| old.info.name == file.info.name)
        {
            Some(old) => *old = file,
            None => all.push(file),
        };
        for text in &self.input {
            let (info, path) = listed.split("-i", text)?;
            let path = Path::new(path);
            give(match info.container {
                None => self.array(info, array(info, path)?, path)?,
                Some(_) => {
                    let content = Content::Container(container(info, path)?);
                    FileInput { info, origin: Origin::File(path.into(), None), content }
                }
            });
        }
        for text in &self.media.image {
            let (info, path) = listed.split("--image", text)?;
            let picture = self.media.picture(info, Path::new(path))?;
            let origin = Origin::File(path.into(), Some(picture.text(Path::new(path))));
            give(FileInput { info, origin, content: Content::Picture(Box::new(picture)) });
        }
        for text in &self.media.wav {
            let (info, path) = listed.split("--wav", text)?;
            let (tensor, what) = self.media.sound(info, Path::new(path))?;
            let origin = Origin::File(path.into(), Some(what));
            give(FileInput { info, origin, content: Content::Array(tensor) });
        }
        Ok(all)
    }

    /// An array for an input, in the dtype that the model takes.
    fn array<'m>(&self, info: &'m ValueInfo, tensor: Tensor, path: &Path) -> Result<FileInput<'m>, Failure> {
        let refused = |why: String| files::failed(path, format!("input '{}': {why}", shown(&info.name)));
        let tensor = match info.dtype {
            Some(dtype) if dtype != tensor.dtype() => self.cast(tensor, dtype).map_err(refused)?,
            _ => tensor,
        };
        if !shapes::fits(info, tensor.shape()) {
            let (name, expected) = (info.name.clone(), info.shape.clone().unwrap_or_default());
            let given = tensor.shape().to_vec();
            return Err(files::failed(path, InputError::Shape { name, expected, given }));
        }
        Ok(FileInput { info, origin: Origin::File(path.into(), None), content: Content::Array(tensor) })
    }

    fn cast(&self, tensor: Tensor, dtype: DType) -> Result<Tensor, String> {
        let given = tensor.dtype();
        let wrong = format!("is {given}, and the model takes {dtype}");
        if [given, dtype].iter().any(|dtype| matches!(dtype, DType::C64 | DType::C128)) {
            return Err(format!("{wrong}; complex numbers are not converted: store their parts"));
        }
        if !self.cast {
            return Err(format!("{wrong}; --cast converts it"));
        }
        let cast =
            tensor.cast(dtype).map_err(|error| format!("{wrong}, and --cast cannot convert it: {error}"))?;
        warn_of_changes(&tensor, &cast);
        Ok(cast)
    }
}

/// Says where whole numbers are others than before they were cast. What floats lose is rounding, as one expects.
fn warn_of_changes(before: &Tensor, after: &Tensor) {
    let (Ok(old), Ok(new)) = (before.to_f64(), after.to_f64()) else { return };
    if after.dtype().is_float() {
        return;
    }
    let changed: Vec<(&f64, &f64)> = old.iter().zip(&new).filter(|(old, new)| old != new).collect();
    if let Some((old, new)) = changed.first() {
        complain(&format!(
            "warning: --cast changed {} on the way to {}: {} became {}",
            counted(changed.len(), "number"),
            after.dtype(),
            number::short(**old),
            number::short(**new)
        ));
    }
}

/// A random input of this shape, where there is no model to say more of it; and what it is, in a word.
pub(super) fn drawn(info: &ValueInfo, shape: &[usize], seed: u64) -> Result<(Tensor, &'static str), Failure> {
    random::check_size(&[info], &[shape.to_vec()])?;
    let (tensor, origin) = random::random(info, shape, &Source { seed, bounds: Default::default() })?;
    match origin {
        Origin::Made(how) => Ok((tensor, how)),
        Origin::File(..) => Ok((tensor, "file")),
    }
}

impl<'m> GivenInputs<'m> {
    /// The shapes of all inputs. Sizes that nobody says are the first of some that `session` has a plan for.
    pub(super) fn settle<'g>(&'g self, session: &Session) -> Result<Settled<'g, 'm>, Failure> {
        settled::settle(self, session)
    }
}

/// Where files give some inputs, the others must be given too, or said to be random.
fn refuse_missing(missing: &[&ValueInfo], files: &[FileInput]) -> Result<(), Failure> {
    let Some(first) = missing.first() else { return Ok(()) };
    let missing: Vec<String> = missing.iter().map(|info| info.to_string()).collect();
    let given = files.iter().map(|file| match &file.content {
        Content::Array(tensor) => {
            format!("{}: {}{:?}", shown(&file.info.name), tensor.dtype(), tensor.shape())
        }
        Content::Picture(_) | Content::Container(_) => file.info.to_string(),
    });
    let name = shown(&first.name);
    Err(format!(
        "the files give {}, and the model also takes {}: give that too (--inputs F.npz, -i '{name}=F.npy'), \
         or a --shape '{name}=...' for random values",
        given.collect::<Vec<_>>().join(", "),
        missing.join(", "),
    )
    .into())
}

/// Reads a `.pb` file with a sequence, an optional or a map.
fn container(info: &ValueInfo, path: &Path) -> Result<Datum, Failure> {
    let bytes = files::read(path)?;
    Datum::from_onnx(&bytes, info).map_err(|error| {
        let what = format!("is no protobuf message of what the model takes, {info}");
        files::failed(path, format!("{what}: {error}; `Datum::to_onnx`, or the onnx package, writes one"))
    })
}

/// Reads an `.npy` or `.pb` file.
fn array(info: &ValueInfo, path: &Path) -> Result<Tensor, Failure> {
    if path.extension().is_none_or(|extension| extension != "pb") {
        return numpy::read_npy(path, info.dtype);
    }
    let bytes = files::read(path)?;
    Tensor::from_onnx(&bytes).map_err(|error| match (files::kind(&bytes), error) {
        (files::Kind::Unknown, Error::Decode { reason, .. } | Error::InvalidModel { reason, .. }) => {
            files::failed(path, format!("is no ONNX tensor (a TensorProto): {reason}"))
        }
        (files::Kind::Unknown, error) => files::failed(path, error),
        (kind, _) => files::failed(path, format!("is {kind}, and no ONNX tensor (a TensorProto)")),
    })
}

/// Refuses names that no input of the model has, all at once.
fn known(model: &Model, listed: &ListedInputs, path: &Path, names: &[String]) -> Result<(), Failure> {
    let unknown: Vec<&String> = names.iter().filter(|name| listed.get(name).is_none()).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let listed = |names: &[&String]| {
        names.iter().map(|name| format!("'{}'", shown(name))).collect::<Vec<_>>().join(", ")
    };
    let takes: Vec<String> = model.inputs().iter().map(|info| info.to_string()).collect();
    let all: Vec<&String> = names.iter().collect();
    Err(files::failed(
        path,
        format!(
            "{}: the model has no such input; the file holds {}, and the model takes {}",
            listed(&unknown),
            listed(&all),
            takes.join(", ")
        ),
    ))
}

/// The number of a dimension, where the model fixes it.
fn fixed(dim: &Dim) -> Option<usize> {
    match dim {
        Dim::Known(size) => Some(*size),
        _ => None,
    }
}
