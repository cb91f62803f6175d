//! A run's inputs: from arrays, tensors, pictures and sounds in files, or random. Every command takes them alike.

mod media;
mod random;
mod shapes;
mod sizes;
mod wav;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};
use sardonyx::{Device, Error, Known, Model, Session, SessionOptions, Tensor, ValueInfo, shown};

use super::completions::{self, InputNames};
use super::{Failure, files, numpy};
use media::MediaArgs;
use random::Source;
use shapes::ListedInputs;
use sizes::Sizes;
pub(super) use sizes::{Chosen, symbols};

#[derive(Debug, clap::Args)]
pub(super) struct InputArgs {
    /// Inputs by name, from an .npz file.
    #[arg(long, value_name = "F.npz")]
    inputs: Option<PathBuf>,
    /// One input, from an .npy file or an ONNX tensor (.pb); may be repeated.
    #[arg(short, long, value_name = "NAME=F.npy", add = ArgValueCompleter::new(InputNames))]
    input: Vec<String>,
    #[command(flatten)]
    media: MediaArgs,
    /// Convert arrays of another element type to the one that the model takes.
    #[arg(long)]
    cast: bool,
    /// The shape of an input that no file gives, and that is random then; may be repeated.
    #[arg(long, value_name = "NAME=1x3x224x224", add = ArgValueCompleter::new(InputNames))]
    shape: Vec<String>,
    /// The size of a dimension that the model calls NAME, in all inputs; may be repeated.
    #[arg(long, value_name = "NAME=N", add = ArgValueCandidates::new(completions::dimensions))]
    dim: Vec<String>,
    /// Decides the random inputs.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
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

/// Inputs whose shapes are settled, before random ones are drawn.
pub(super) struct Settled<'m> {
    given: Vec<NamedInput>,
    random: Vec<(&'m ValueInfo, Vec<usize>)>,
    /// The sizes that nobody said.
    pub(super) chosen: Vec<Chosen>,
    source: Rc<Source>,
    /// Why the device cannot take these shapes.
    refused: Option<Error>,
}

impl Settled<'_> {
    /// What planning needs: the values that files give, and of others the values where they are few, and the shapes.
    pub(super) fn known(&self) -> Result<Vec<(&str, Known)>, Failure> {
        let given = self.given.iter().map(|input| Ok((input.name.as_str(), Known::from(&input.tensor))));
        let random = self
            .random
            .iter()
            .map(|(info, shape)| Ok((info.name.as_str(), random::known(info, shape, &self.source)?)));
        given.chain(random).collect()
    }

    /// The names and shapes of all inputs.
    pub(super) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let given = self.given.iter().map(|input| (input.name.clone(), input.tensor.shape().to_vec()));
        given.chain(self.random.iter().map(|(info, shape)| (info.name.clone(), shape.clone()))).collect()
    }

    /// The inputs for a run. Nothing is drawn for shapes that the device cannot take.
    pub(super) fn draw(self) -> Result<Vec<NamedInput>, Failure> {
        if let Some(error) = self.refused {
            return Err(error.into());
        }
        let mut inputs = self.given;
        for (info, shape) in self.random {
            let tensor = random::random(info, &shape, &self.source)?;
            inputs.push(NamedInput { name: info.name.clone(), tensor, random: true });
        }
        Ok(inputs)
    }

    /// A line on the sizes that were chosen, if there are any.
    pub(super) fn chosen_text(&self) -> Option<String> {
        chosen_text(&self.chosen)
    }
}

/// `batch 1, height 224 were chosen; ...`, if any were.
pub(super) fn chosen_text(chosen: &[Chosen]) -> Option<String> {
    let sizes: Vec<String> = chosen.iter().map(|(name, size)| format!("{name} {size}")).collect();
    let were = if sizes.len() == 1 { "was" } else { "were" };
    let how = "--dim NAME=N or --shape NAME=1x3x224x224 says another";
    (!sizes.is_empty()).then(|| format!("{} {were} chosen; {how}", sizes.join(", ")))
}

impl InputArgs {
    /// The shapes of all inputs: those of the files, and of the others that have no default. Sizes that nobody says are those of
    /// `sizes::TRIED` that the model accepts first, in a plan of `session`.
    pub(super) fn settle<'m>(&self, model: &'m Model, session: &Session) -> Result<Settled<'m>, Failure> {
        let mut sizes = Sizes::said(model, &self.dim)?;
        let listed = ListedInputs::of(model);
        let said = self.said(&listed)?;
        let given = self.in_files(model, &listed)?;
        let by_name: HashMap<&str, &NamedInput> =
            given.iter().map(|input| (input.name.as_str(), input)).collect();
        let in_file = |info: &ValueInfo| by_name.contains_key(info.name.as_str());
        if let Some((info, _)) = said.iter().find(|(info, _)| in_file(info)) {
            return Err(format!("--shape '{}': a file gives this input", shown(&info.name)).into());
        }
        for info in model.inputs() {
            if let Some(input) = by_name.get(info.name.as_str()) {
                sizes.learn(info, input.tensor.shape(), &format!("input {}", shown(&info.name)))?;
            }
        }
        for (info, shape) in &said {
            sizes.learn(info, shape, &format!("--shape {}", shown(&info.name)))?;
        }
        // The first of several shapes of one input counts.
        let shape_by_name: HashMap<&str, &Vec<usize>> =
            said.iter().rev().map(|(info, shape)| (info.name.as_str(), shape)).collect();
        let shape_of = |info: &ValueInfo| shape_by_name.get(info.name.as_str()).copied();
        let wanted = |info: &&ValueInfo| !in_file(info) && (!info.has_default || shape_of(info).is_some());
        let open: Vec<&ValueInfo> = model.inputs().iter().filter(wanted).collect();
        if !given.is_empty() {
            let missing: Vec<&ValueInfo> =
                open.iter().copied().filter(|info| shape_of(info).is_none()).collect();
            self.refuse_missing(&missing, &given)?;
        }
        let free: Vec<&ValueInfo> = open.iter().copied().filter(|info| shape_of(info).is_none()).collect();
        let source = Rc::new(Source { seed: self.seed, bounds: model.index_bounds() });
        let of_size = |tried: (usize, usize)| -> Result<Settled<'m>, Failure> {
            let (shapes, chosen) = sizes.clone().shapes(&free, tried)?;
            let mut shapes = shapes.into_iter();
            let shapes: Vec<Vec<usize>> = open
                .iter()
                .map(|info| shape_of(info).cloned().or_else(|| shapes.next()).unwrap_or_default())
                .collect();
            random::check_size(&open, &shapes)?;
            let given = given.iter().map(|input| NamedInput {
                name: input.name.clone(),
                tensor: input.tensor.clone(),
                random: false,
            });
            let random = open.iter().copied().zip(shapes).collect();
            Ok(Settled { given: given.collect(), random, chosen, source: source.clone(), refused: None })
        };
        accepted(model, session, of_size)
    }

    /// The inputs for a run of `session`, and a line on the sizes that were chosen for them.
    pub(super) fn load(
        &self,
        model: &Model,
        session: &Session,
    ) -> Result<(Vec<NamedInput>, Option<String>), Failure> {
        let settled = self.settle(model, session)?;
        let chosen = settled.chosen_text();
        Ok((settled.draw()?, chosen))
    }

    /// The shapes that the command line gives.
    fn said<'m>(&self, listed: &ListedInputs<'m>) -> Result<Vec<(&'m ValueInfo, Vec<usize>)>, Failure> {
        let shape = |text: &String| {
            let (info, dims) = listed.split(text)?;
            let rank = info.shape.as_ref().map(Vec::len);
            let shape = shapes::dimensions(dims, rank);
            Ok((info, shape.map_err(|reason| format!("--shape {}: {reason}", shown(text)))?))
        };
        self.shape.iter().map(shape).collect()
    }

    fn in_files(&self, model: &Model, listed: &ListedInputs) -> Result<Vec<NamedInput>, Failure> {
        let dtype = |name: &str| listed.get(name)?.dtype;
        let mut inputs: Vec<NamedInput> = Vec::new();
        if let Some(path) = &self.inputs {
            let arrays = numpy::read_npz(path, &dtype, |names| known(model, listed, path, names))?;
            for (name, tensor) in arrays {
                let tensor =
                    listed.get(&name).map_or(Ok(tensor.clone()), |info| self.fitted(info, tensor, path))?;
                inputs.push(NamedInput { name, tensor, random: false });
            }
        }
        let named = inputs.iter().enumerate().map(|(i, input)| (input.name.clone(), i));
        let mut places: HashMap<String, usize> = named.collect();
        let mut give = |texts: &[String], read: &dyn Fn(&ValueInfo, &Path) -> Result<Tensor, Failure>| {
            texts.iter().try_for_each(|text| {
                let (info, path) = listed.split(text)?;
                let (name, tensor) = (info.name.clone(), read(info, Path::new(path))?);
                let input = NamedInput { name: name.clone(), tensor, random: false };
                match places.get(&name) {
                    Some(&place) => inputs[place] = input,
                    None => {
                        places.insert(name, inputs.len());
                        inputs.push(input);
                    }
                }
                Ok::<(), Failure>(())
            })
        };
        give(&self.input, &|info, path| self.fitted(info, array(info, path)?, path))?;
        give(&self.media.image, &|info, path| self.media.picture(info, path))?;
        give(&self.media.wav, &|info, path| self.media.sound(info, path))?;
        Ok(inputs)
    }

    /// The tensor in the dtype that the model takes.
    fn fitted(&self, info: &ValueInfo, tensor: Tensor, path: &Path) -> Result<Tensor, Failure> {
        match info.dtype {
            Some(dtype) if dtype != tensor.dtype() && self.cast => Ok(tensor.cast(dtype)?),
            Some(dtype) if dtype != tensor.dtype() => Err(files::failed(
                path,
                format!(
                    "input '{}': is {}, and the model takes {dtype}; --cast converts it",
                    shown(&info.name),
                    tensor.dtype()
                ),
            )),
            _ => Ok(tensor),
        }
    }

    /// Where files give some inputs, the others must be given too, or said to be random.
    fn refuse_missing(&self, missing: &[&ValueInfo], given: &[NamedInput]) -> Result<(), Failure> {
        let Some(first) = missing.first() else { return Ok(()) };
        let missing: Vec<String> = missing.iter().map(|info| info.to_string()).collect();
        let given: Vec<String> = given
            .iter()
            .map(|input| {
                format!("{}: {}{:?}", shown(&input.name), input.tensor.dtype(), input.tensor.shape())
            })
            .collect();
        let name = shown(&first.name);
        Err(format!(
            "the files give {}, and the model also takes {}: give that too (--inputs F.npz, -i '{name}=F.npy'), \
             or a --shape '{name}=...' for random values",
            given.join(", "),
            missing.join(", "),
        )
        .into())
    }
}

/// The first of the tried sizes for which `session` has a plan. Where nothing is left to choose there is one try.
fn accepted<'m>(
    model: &'m Model,
    session: &Session,
    of_size: impl Fn((usize, usize)) -> Result<Settled<'m>, Failure>,
) -> Result<Settled<'m>, Failure> {
    let mut first = of_size(sizes::TRIED[0])?;
    let on_reference = session.device().is_reference();
    if on_reference && first.chosen.is_empty() {
        return Ok(first);
    }
    // The reference plans nothing, so that sizes are tried for the least that a GPU must have, if that has all operators.
    let least = on_reference.then(|| Session::new(&Device::noop(), model, SessionOptions::default()));
    let session = match &least {
        Some(Ok(session)) => session,
        Some(Err(_)) => return Ok(first),
        None => session,
    };
    let mut refused = match tried(&first, session)? {
        None => return Ok(first),
        refused => refused,
    };
    if !first.chosen.is_empty() {
        for size in &sizes::TRIED[1..] {
            // With many open dimensions, larger sizes have too many elements.
            let Ok(next) = of_size(*size) else { continue };
            match tried(&next, session)? {
                None => return Ok(next),
                Some(Refusal::Other(_)) => break,
                Some(_) => {}
            }
        }
    }
    if let Some(Refusal::Size(error) | Refusal::Other(error)) = refused.take()
        && !on_reference
    {
        first.refused = Some(error);
    }
    Ok(first)
}

/// Why shapes are not taken.
enum Refusal {
    /// Outputs would have no elements.
    Empty,
    /// Other sizes may do.
    Size(Error),
    /// No size does.
    Other(Error),
}

fn tried(settled: &Settled, session: &Session) -> Result<Option<Refusal>, Failure> {
    Ok(match session.plan(&settled.known()?) {
        Ok(plan) => (plan.empty_outputs > 0).then_some(Refusal::Empty),
        Err(error @ (Error::Node { .. } | Error::Limit { .. })) => Some(Refusal::Size(error)),
        Err(error) => Some(Refusal::Other(error)),
    })
}

/// Reads an `.npy` or `.pb` file.
fn array(info: &ValueInfo, path: &Path) -> Result<Tensor, Failure> {
    match path.extension().is_some_and(|extension| extension == "pb") {
        true => Tensor::from_onnx(&files::read(path)?).map_err(|error| files::failed(path, error)),
        false => numpy::read_npy(path, info.dtype),
    }
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
