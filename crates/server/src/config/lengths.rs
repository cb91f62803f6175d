//! Requests of different lengths in one batch, where the configuration says how a length is made up, and how it is cut again.

use std::collections::BTreeMap;

use sardonyx::DType;

use super::{Config, Port, Scheduling, parameters};

/// The buckets at most.
const MOST: usize = 64;

/// The greatest length of a bucket.
const LONGEST: usize = 1 << 20;

/// How requests of different lengths are joined: those of one bucket are padded to its length.
#[derive(Clone, Debug, PartialEq)]
pub struct Lengths {
    /// The lengths of the buckets, in ascending order. Longer requests are joined with those of the same length only.
    pub buckets: Vec<usize>,
    /// The inputs that have the length.
    pub inputs: Vec<LengthInput>,
    /// The outputs that have it, and which of their dimensions, without that of the batch, it is.
    pub outputs: BTreeMap<String, usize>,
}

/// An input that has the length.
#[derive(Clone, Debug, PartialEq)]
pub struct LengthInput {
    /// The input's name.
    pub name: String,
    /// The dimension that is the length, without that of the batch.
    pub axis: usize,
    /// The element that stands where a request has none, in little-endian order.
    pub pad: Vec<u8>,
}

impl Lengths {
    /// The length to which one is padded in company; `None` for one that is not padded.
    pub fn bucket(&self, length: usize) -> Option<usize> {
        self.buckets.iter().copied().find(|&bucket| bucket >= length && length > 0)
    }

    /// The input of this name, if it has the length.
    pub fn input(&self, name: &str) -> Option<&LengthInput> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// What the parameters say; `None` if they say nothing.
    pub(super) fn of(config: &Config) -> Result<Option<Lengths>, String> {
        let text =
            |key: &str| config.parameters.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
        let others = [parameters::LENGTH_INPUTS, parameters::LENGTH_MASK, parameters::LENGTH_OUTPUTS];
        let Some(buckets) = text(parameters::LENGTH_BUCKETS) else {
            return match others.iter().find(|key| config.parameters.contains_key(**key)) {
                Some(key) => {
                    Err(format!("the parameter {key} is given, and no {}", parameters::LENGTH_BUCKETS))
                }
                None => Ok(None),
            };
        };
        if config.max_batch == 0 || !matches!(config.scheduling, Scheduling::Batched(_)) {
            return Err(format!(
                "the parameter {} is given, and the model joins no requests; it needs dynamic_batching, and a max_batch_size above 0",
                parameters::LENGTH_BUCKETS
            ));
        }
        let buckets = sizes(buckets)?;
        let inputs = text(parameters::LENGTH_INPUTS).ok_or_else(|| {
            format!(
                "the parameter {} is given, and no {}, which says where the length is, and what is put there, such as \
                 'input_ids/0=0, attention_mask/0=0'",
                parameters::LENGTH_BUCKETS,
                parameters::LENGTH_INPUTS
            )
        })?;
        let inputs = list(inputs).map(|entry| input(config, entry)).collect::<Result<Vec<_>, _>>()?;
        if let Some((i, twice)) = inputs
            .iter()
            .enumerate()
            .find(|(i, input)| inputs[..*i].iter().any(|other| other.name == input.name))
        {
            return Err(format!(
                "the parameter {} has '{}' twice ({i})",
                parameters::LENGTH_INPUTS,
                twice.name
            ));
        }
        let mask = text(parameters::LENGTH_MASK);
        if !mask.is_some_and(|mask| inputs.iter().any(|input| input.name == mask)) {
            return Err(format!(
                "the parameter {} must name the input of {} that tells the model what is padding; a model without one gives other \
                 answers for padded requests",
                parameters::LENGTH_MASK,
                parameters::LENGTH_INPUTS
            ));
        }
        let outputs = outputs(config, text(parameters::LENGTH_OUTPUTS).unwrap_or_default())?;
        Ok(Some(Lengths { buckets, inputs, outputs }))
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn sizes(text: &str) -> Result<Vec<usize>, String> {
    let wrong = || {
        format!(
            "the parameter {} is '{}'; it is a list of up to {MOST} lengths in ascending order, such as '16, 32, 64'",
            parameters::LENGTH_BUCKETS,
            text.escape_default()
        )
    };
    let size = |entry: &str| entry.parse().ok().filter(|size| (1..=LONGEST).contains(size)).ok_or_else(wrong);
    let sizes = list(text).map(size).collect::<Result<Vec<usize>, _>>()?;
    match sizes.is_sorted_by(|a, b| a < b) && (1..=MOST).contains(&sizes.len()) {
        true => Ok(sizes),
        false => Err(wrong()),
    }
}

/// The open dimension `axis` of the port `name`, as `entry` of the parameter `key` names it.
fn dimension<'a>(
    ports: &'a [Port],
    key: &str,
    entry: &str,
    (name, axis): (&str, &str),
) -> Result<(&'a Port, usize), String> {
    let about = |text: String| format!("the parameter {key} has '{}': {text}", entry.escape_default());
    let port = ports.iter().find(|port| port.name == name);
    let port = port.ok_or_else(|| about("the model has none of this name".into()))?;
    let axis: usize =
        axis.parse().map_err(|_| about("the number of a dimension stands behind the slash".into()))?;
    match port.dims.get(axis) {
        Some(None) => Ok((port, axis)),
        _ => Err(about(format!(
            "dimension {axis}, without that of the batch, is none that each request chooses; the dims are {:?}",
            port.dims.iter().map(|dim| dim.map_or(-1, |dim| dim as i64)).collect::<Vec<_>>()
        ))),
    }
}

fn input(config: &Config, entry: &str) -> Result<LengthInput, String> {
    let key = parameters::LENGTH_INPUTS;
    let wrong = || {
        format!(
            "the parameter {key} has '{}'; write an input, its dimension without that of the batch, and what is put there, such as \
             input_ids/0=0",
            entry.escape_default()
        )
    };
    let (place, value) = entry.rsplit_once('=').ok_or_else(wrong)?;
    let place = place.trim().rsplit_once('/').ok_or_else(wrong)?;
    let (port, axis) = dimension(&config.inputs, key, entry, place)?;
    if port.optional {
        return Err(format!("the parameter {key} has '{}', which a request may leave out", port.name));
    }
    let value = value.trim();
    let pad = element(port.dtype, value).ok_or_else(|| {
        format!(
            "the parameter {key} has '{}' for '{}', which is no {}",
            value.escape_default(),
            port.name,
            port.dtype
        )
    })?;
    Ok(LengthInput { name: port.name.clone(), axis, pad })
}

fn outputs(config: &Config, text: &str) -> Result<BTreeMap<String, usize>, String> {
    let key = parameters::LENGTH_OUTPUTS;
    let mut outputs = BTreeMap::new();
    let mut without = Vec::new();
    for entry in list(text) {
        match entry.rsplit_once('/') {
            Some((name, "none")) => without.push(name),
            Some(place) => {
                let (port, axis) = dimension(&config.outputs, key, entry, place)?;
                outputs.insert(port.name.clone(), axis);
            }
            None => {
                return Err(format!(
                    "the parameter {key} has '{}'; write an output and its dimension without that of the batch, such as \
                     last_hidden_state/0",
                    entry.escape_default()
                ));
            }
        }
    }
    let is_open = |port: &&Port| port.dims.contains(&None);
    let is_named = |port: &Port| outputs.contains_key(&port.name) || without.contains(&port.name.as_str());
    match config.outputs.iter().filter(is_open).find(|port| !is_named(port)) {
        Some(port) => Err(format!(
            "output '{}' has a dimension that each run chooses; say in the parameter {key} which one is the length ('{}/0'), or that \
             none is ('{}/none')",
            port.name, port.name, port.name
        )),
        None => Ok(outputs),
    }
}

/// An element as little-endian bytes; `None` if the text is none.
fn element(dtype: DType, text: &str) -> Option<Vec<u8>> {
    macro_rules! bytes {
        ($type:ty) => {
            text.parse::<$type>().ok()?.to_le_bytes().to_vec()
        };
    }
    Some(match dtype {
        DType::F32 => bytes!(f32),
        DType::F64 => bytes!(f64),
        DType::F16 => half::f16::from_f32(text.parse().ok()?).to_le_bytes().to_vec(),
        DType::BF16 => half::bf16::from_f32(text.parse().ok()?).to_le_bytes().to_vec(),
        DType::I64 => bytes!(i64),
        DType::I32 => bytes!(i32),
        DType::I16 => bytes!(i16),
        DType::I8 => bytes!(i8),
        DType::U64 => bytes!(u64),
        DType::U32 => bytes!(u32),
        DType::U16 => bytes!(u16),
        DType::U8 => bytes!(u8),
        DType::Bool => match text {
            "0" | "false" => vec![0],
            "1" | "true" => vec![1],
            _ => return None,
        },
        _ => return None,
    })
}
