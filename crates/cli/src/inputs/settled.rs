//! Inputs whose shapes are settled, before random ones are drawn and pictures are resized.

use sardonyx::{Device, Dim, Error, Known, Session, SessionOptions, ValueInfo, shown};

use super::random::{self, Source};
use super::sizes::{self, Chosen, Tried};
use super::{Content, FileInput, GivenInputs, NamedInput, shapes};
use crate::Failure;

/// The inputs of a run, with a shape each.
pub(crate) struct Settled<'g, 'm> {
    given: &'g GivenInputs<'m>,
    inputs: Vec<Shaped<'g>>,
    /// The sizes that nobody said.
    pub(crate) chosen: Vec<Chosen>,
    /// Whether other sizes could be chosen.
    open: bool,
    /// Why the device cannot take these shapes.
    refused: Option<Error>,
}

/// An input with its shape.
struct Shaped<'g> {
    info: &'g ValueInfo,
    shape: Vec<usize>,
    /// The file, unless the input is random.
    file: Option<&'g FileInput<'g>>,
}

impl Shaped<'_> {
    fn known(&self, source: &Source) -> Result<Known, Failure> {
        match self.file.map(|file| &file.content) {
            Some(Content::Array(tensor)) => Ok(Known::from(tensor)),
            Some(Content::Container(datum)) => Ok(Known::from(datum)),
            Some(Content::Picture(_)) => Ok(Known::from(self.shape.as_slice())),
            None => random::known(self.info, &self.shape, source),
        }
    }

    fn draw(&self, source: &Source) -> Result<NamedInput, Failure> {
        let name = self.info.name.clone();
        Ok(match self.file {
            None => {
                let (tensor, origin) = random::random(self.info, &self.shape, source)?;
                NamedInput { name, value: tensor.into(), origin }
            }
            Some(FileInput { content, origin, .. }) => {
                let value = match content {
                    Content::Array(tensor) => tensor.clone().into(),
                    Content::Container(datum) => datum.clone(),
                    Content::Picture(picture) => picture.tensor(&self.shape)?.into(),
                };
                NamedInput { name, value, origin: origin.clone() }
            }
        })
    }
}

impl Settled<'_, '_> {
    /// What planning needs: the values that files give, and of others the values where they are few, and the shapes.
    pub(crate) fn known(&self) -> Result<Vec<(&str, Known)>, Failure> {
        let known = |input: &Shaped<'_>| input.known(&self.given.source);
        self.inputs.iter().map(|input| Ok((input.info.name.as_str(), known(input)?))).collect()
    }

    /// The names and shapes of all inputs.
    pub(crate) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.inputs.iter().map(|input| (input.info.name.clone(), input.shape.clone())).collect()
    }

    /// The inputs for a run. Nothing is drawn for shapes that the device cannot take.
    pub(crate) fn draw(mut self) -> Result<Vec<NamedInput>, Failure> {
        if let Some(error) = self.refused.take() {
            return Err(self.advised(error));
        }
        self.inputs.iter().map(|input| input.draw(&self.given.source)).collect()
    }

    /// The failure of planning for these shapes: with the shapes, and how to say others.
    pub(crate) fn advised(&self, error: Error) -> Failure {
        let is_limit = matches!(error, Error::Limit { .. } | Error::OutOfMemory { .. });
        if !is_limit && !matches!(error, Error::Node { .. }) {
            return error.into();
        }
        let shapes: Vec<String> =
            self.shapes().iter().map(|(name, shape)| format!("{} {shape:?}", shown(name))).collect();
        let mut advice = format!("the inputs are {}", shapes.join(", "));
        if let Some(other) = self.other_sizes() {
            advice += &format!("; {other}{}", if is_limit { ", or another device: --device" } else { "" });
        }
        Failure::from(error).advised(&advice)
    }

    /// How to say other sizes than these, where the model leaves some open.
    fn other_sizes(&self) -> Option<String> {
        let dims = || self.inputs.iter().flat_map(|input| input.info.shape.iter().flatten());
        let named = dims().find_map(|dim| match dim {
            Dim::Symbol(name) => Some(format!("--dim '{}=N'", shown(name))),
            _ => None,
        });
        let open = |input: &&Shaped| {
            input.info.shape.as_ref().is_none_or(|dims| dims.iter().any(|dim| super::fixed(dim).is_none()))
        };
        let shape = self.inputs.iter().find(open).map(|input| {
            format!("--shape '{}={}'", shown(&input.info.name), shapes::written(&shapes::usual(input.info)))
        });
        let ways: Vec<String> = named.into_iter().chain(shape).collect();
        (!ways.is_empty()).then(|| format!("other sizes are said as {}", ways.join(" or ")))
    }
}

impl<'m> GivenInputs<'m> {
    /// The inputs with the sizes that the command line says, and those of `tried` for the rest.
    fn sized<'g>(&'g self, tried: Tried) -> Result<Settled<'g, 'm>, Failure> {
        let (mut sizes, mut chosen, mut inputs) = (self.sizes.clone(), Vec::new(), Vec::new());
        let mut open = false;
        for file in &self.files {
            let shape = match &file.content {
                Content::Array(tensor) => tensor.shape().to_vec(),
                Content::Container(_) => Vec::new(),
                Content::Picture(picture) => {
                    let said = self.said.get(file.info.name.as_str()).map(Vec::as_slice);
                    let (shape, sides) = picture.shape(file.info, said, &sizes, tried.picture)?;
                    open |= !sides.is_empty();
                    chosen.extend(sides.into_iter().filter(|side| side.changed).map(|side| side.chosen));
                    sizes.learn(file.info, &shape, &format!("--image {}", shown(&file.info.name)))?;
                    shape
                }
            };
            inputs.push(Shaped { info: file.info, shape, file: Some(file) });
        }
        let said = |info: &ValueInfo| self.said.get(info.name.as_str());
        let free: Vec<&ValueInfo> = self.open.iter().copied().filter(|info| said(info).is_none()).collect();
        let (shapes, more) = sizes.shapes(&free, tried)?;
        let mut shapes = shapes.into_iter();
        let shape = |info: &ValueInfo| said(info).cloned().or_else(|| shapes.next()).unwrap_or_default();
        let shapes: Vec<Vec<usize>> = self.open.iter().copied().map(shape).collect();
        random::check_size(&self.open, &shapes)?;
        inputs.extend(self.open.iter().zip(shapes).map(|(info, shape)| Shaped { info, shape, file: None }));
        open |= !more.is_empty();
        chosen.extend(more);
        Ok(Settled { given: self, inputs, chosen, open, refused: None })
    }
}

/// The first of the tried sizes for which `session` has a plan. Where nothing is left to choose there is one try.
pub(super) fn settle<'g, 'm>(
    given: &'g GivenInputs<'m>,
    session: &Session,
) -> Result<Settled<'g, 'm>, Failure> {
    let mut first = given.sized(sizes::TRIED[0])?;
    let on_reference = session.device().is_reference();
    if on_reference && !first.open {
        return Ok(first);
    }
    // The reference plans nothing, so that sizes are tried for the least that a GPU must have, if that has all operators.
    let model = first.given.model;
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
    if first.open {
        for &size in &sizes::TRIED[1..] {
            // With many open dimensions, larger sizes have too many elements.
            let Ok(next) = given.sized(size) else { continue };
            if next.shapes() == first.shapes() {
                continue;
            }
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
