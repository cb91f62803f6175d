//! `Config`: how a model is served, as its `config.pbtxt` and its ONNX file say.
//!
//! A configuration has the fields of Triton's `ModelConfig` (`proto/model_config.proto`). It is written in protobuf's text form
//! (`config.pbtxt`), in TOML with the same keys (`sardonyx.toml`), or, in a request that loads a model, as JSON. What it leaves out:
//!
//! * `input`, `output`, and their `data_type` and `dims`: those of the ONNX file. If there is a batch, `dims` are without it.
//! * `max_batch_size`: 4, with `dynamic_batching`, if all inputs and outputs have the same first dimension, whose size each run may
//!   choose, and whose name is not that of a sequence, of time or of a picture's side; otherwise 0: requests are run as they come.
//!   A configuration that gives an input all `dims` of the ONNX file turns batches off.
//! * `default_model_filename`: `model.onnx`; `version_policy`: the latest version; `instance_group`: one run in flight on the
//!   server's first device.
//!
//! `parameters` with a meaning are in [`parameters`].

mod complete;
mod ensemble;
mod instances;
mod lengths;
mod name;
mod numbers;
pub mod parameters;
mod ports;
mod read;
mod refused;
mod scheduling;
mod sequences;
mod shown;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests;
mod traffic;
mod versions;
mod warmups;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sardonyx::DType;

pub(crate) use complete::{file, is_ensemble};
pub(crate) use ensemble::models as steps;
pub use lengths::{LengthInput, Lengths};
pub use name::check_name;
pub use read::{PBTXT, TOML, from_json, from_pbtxt, from_toml, read};
pub use shown::json;
pub(crate) use traffic::different_texts;
pub use traffic::{Shadow, Target, Traffic, Variant};

use crate::Failure;
use crate::proto::ModelConfig;
use crate::texts::Texts;

/// The files of one model.
pub trait Files {
    /// The contents of the file at `path` in the model's folder, such as `config.pbtxt` or `warmup/image`; `None` if there is
    /// none.
    ///
    /// # Errors
    /// If the path leads out of the folder, or the file cannot be read.
    fn read(&self, path: &str) -> Result<Option<Bytes>, Failure>;
}

/// How a model is served. It is complete: what the configuration leaves out has been taken from the ONNX file.
#[derive(Clone, Debug)]
pub struct Config {
    /// The model's name.
    pub name: String,
    /// The inputs, in the order of the configuration.
    pub inputs: Vec<Port>,
    /// The outputs, in the order of the configuration.
    pub outputs: Vec<Port>,
    /// The rows of a batch at most; 0 for a model whose first dimension is no batch: requests to it are never joined.
    pub max_batch: usize,
    /// In which order, and with which others, a request is run.
    pub scheduling: Scheduling,
    /// The versions that are served.
    pub versions: VersionPolicy,
    /// Labels of versions, such as `stable` for 3.
    pub version_labels: BTreeMap<String, u64>,
    /// Where the model runs, and how many runs may be in flight.
    pub instances: Vec<InstanceGroup>,
    /// What is run before the model is ready.
    pub warmups: Vec<Warmup>,
    /// Whether equal requests get the answer of the first.
    pub response_cache: bool,
    /// The name of the ONNX file in a version's folder.
    pub file: String,
    /// The sha256 in hexadecimal of each file that has one in the configuration, by its path in the model's folder.
    pub sha256: BTreeMap<String, String>,
    /// The bytes that the model may take on each device.
    pub device_memory_limit: Option<u64>,
    /// How requests of different lengths are joined, where the configuration says it.
    pub lengths: Option<Lengths>,
    /// The variants that share the requests that name no version, where the configuration names some.
    pub traffic: Option<Traffic>,
    /// How it takes texts and gives embeddings. What files say of this is read with a version.
    pub texts: Arc<Texts>,
    /// Parameters of the configuration, for the room that each belongs to.
    pub parameters: BTreeMap<String, String>,
    /// The complete configuration in Triton's form, as clients read it.
    pub shown: ModelConfig,
}

/// An input or an output.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// The name in the ONNX file.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The dimensions without that of the batch; `None` for one that each request may choose. A port of shape `[batch, 3, h]` has
    /// `[Some(3), None]`.
    pub dims: Vec<Option<usize>>,
    /// Whether a request may leave the input out.
    pub optional: bool,
    /// Whether requests with other sizes of this input may be in the same batch.
    pub ragged: bool,
    /// The names of the classes that an output has scores of.
    pub labels: Vec<String>,
}

/// In which order, and with which others, a request is run.
#[derive(Clone, Debug, PartialEq)]
pub enum Scheduling {
    /// Each request for itself, first come, first served.
    Single(QueuePolicy),
    /// Requests that wait together are run together.
    Batched(Batching),
    /// Requests of a sequence are run one after the other, with state that the server keeps.
    Sequences(Sequencing),
    /// Each request is run by other models.
    Ensemble(Vec<Step>),
}

/// How requests are joined.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batching {
    /// Numbers of rows that run well, in ascending order: a batch of such a size waits no longer.
    pub preferred: Vec<usize>,
    /// How long the oldest request may wait for others.
    pub delay: Duration,
    /// Whether answers leave in the order of the requests.
    pub keep_order: bool,
    /// The number of levels of priority; 1 is served first. 0 for a model without priorities.
    pub levels: u64,
    /// The level of requests that name none.
    pub default_level: u64,
    /// The limits of a level that has none of its own.
    pub policy: QueuePolicy,
    /// The limits of levels.
    pub policies: BTreeMap<u64, QueuePolicy>,
    /// Whether a batch is filled up with rows of zeros to the next preferred size.
    pub pad: bool,
}

/// The limits of a queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueuePolicy {
    /// The number of waiting requests at most; 0 for the server's own limit.
    pub max_size: usize,
    /// How long a request may wait.
    pub timeout: Option<Duration>,
    /// Whether a request may say a shorter time.
    pub may_shorten: bool,
    /// Whether a request that has waited too long is run after all others, and not refused.
    pub delays: bool,
}

/// How sequences are run.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequencing {
    /// How long a sequence may be silent before its state is dropped.
    pub idle: Duration,
    /// Inputs that the server fills with what it knows of the sequence.
    pub controls: Vec<Control>,
    /// Outputs that are inputs of the sequence's next request.
    pub states: Vec<State>,
    /// How many sequences may have state at once; requests of others wait.
    pub max_sequences: usize,
    /// How requests of different sequences are joined.
    pub batching: Batching,
}

/// An input that the server fills with what it knows of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// The input's name.
    pub input: String,
    /// Its element type.
    pub dtype: DType,
    /// What it tells.
    pub kind: ControlKind,
    /// What stands for no and for yes.
    pub no_yes: [f64; 2],
}

/// What a [`Control`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlKind {
    /// Whether the request is the sequence's first.
    Start,
    /// Whether the row holds a request.
    Ready,
    /// Whether the request is the sequence's last.
    End,
    /// The sequence's name.
    Id,
}

/// An output that is an input of the sequence's next request.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The input's name.
    pub input: String,
    /// The output's name.
    pub output: String,
    /// The element type.
    pub dtype: DType,
    /// The dimensions without that of the batch.
    pub dims: Vec<Option<usize>>,
    /// The value before the first request, as little-endian bytes; zeros if it is `None`.
    pub initial: Option<(Vec<usize>, Vec<u8>)>,
}

/// One model of an ensemble.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The model's name.
    pub model: String,
    /// Its version; `None` for the one that its policy chooses.
    pub version: Option<u64>,
    /// The ensemble's tensor for each input of the model.
    pub inputs: BTreeMap<String, String>,
    /// The ensemble's tensor for each output of the model.
    pub outputs: BTreeMap<String, String>,
}

/// Which versions of a model are served.
#[derive(Clone, Debug, PartialEq)]
pub enum VersionPolicy {
    /// The greatest numbers, so many.
    Latest(usize),
    /// All.
    All,
    /// These.
    Specific(Vec<u64>),
}

/// Runs of a model that may be in flight on one device.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceGroup {
    /// How many.
    pub count: usize,
    /// The kind of device.
    pub place: Placement,
}

/// The kind of device that a model runs on.
#[derive(Clone, Debug, PartialEq)]
pub enum Placement {
    /// The server's first device.
    Any,
    /// The server's devices with these numbers; all if there is none.
    Devices(Vec<usize>),
    /// The CPU reference.
    Reference,
}

/// A run before the model is ready.
#[derive(Clone, Debug, PartialEq)]
pub struct Warmup {
    /// Its name.
    pub name: String,
    /// The rows of its batch.
    pub rows: usize,
    /// How many times it is run.
    pub count: usize,
    /// The inputs.
    pub inputs: Vec<WarmupInput>,
}

/// An input of a [`Warmup`].
#[derive(Clone, Debug, PartialEq)]
pub struct WarmupInput {
    /// The input's name.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The dimensions without that of the batch.
    pub dims: Vec<usize>,
    /// The values.
    pub values: WarmupValues,
}

/// The values of a [`WarmupInput`].
#[derive(Clone, Debug, PartialEq)]
pub enum WarmupValues {
    /// Zeros.
    Zeros,
    /// Random values.
    Random,
    /// Elements in little-endian order, from a file in the model's `warmup` folder.
    Data(bytes::Bytes),
}
