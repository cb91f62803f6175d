//! `Request` and `Response`: an inference in one form for every protocol.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sardonyx::Tensor;

/// One inference that a client asks for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The model's name.
    pub model: String,
    /// A version's number, such as `3`, or its label; empty for the version that the model's policy chooses.
    pub version: String,
    /// The client's own name of the request; the response repeats it.
    pub id: String,
    /// Parameters that mean nothing to the server.
    pub parameters: Parameters,
    /// The inputs, each name once.
    pub inputs: Vec<(String, Tensor)>,
    /// The outputs that the client wants; none stands for all.
    pub outputs: Vec<WantedOutput>,
    /// 1 is served first; 0 stands for the model's default level.
    pub priority: u64,
    /// How long the request may wait in the model's queue, where the model lets requests say so.
    pub timeout: Option<Duration>,
    /// When nobody waits for the answer any more.
    pub deadline: Option<Instant>,
    /// The sequence that the request is part of.
    pub sequence: Option<Sequence>,
    /// Who asks, as far as the server knows.
    pub tenant: Option<Arc<str>>,
}

/// An output that a client wants.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedOutput {
    /// The output's name.
    pub name: String,
    /// The number of classes with the greatest scores, as texts `score:index` or `score:index:label`; 0 for the tensor itself.
    pub classes: usize,
}

/// The place of a request in a sequence of requests that share state.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// The sequence's name: a number other than 0, or a text.
    pub id: SequenceId,
    /// Whether this is its first request.
    pub start: bool,
    /// Whether this is its last request.
    pub end: bool,
}

/// The name of a sequence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SequenceId {
    /// A number other than 0.
    Number(u64),
    /// A text that is not empty.
    Text(String),
}

/// Parameters of a request, a response or a tensor, by name.
pub type Parameters = BTreeMap<String, Parameter>;

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// A text.
    Text(String),
}

/// The answer to a [`Request`].
#[derive(Clone, Debug)]
pub struct Response {
    /// The model's name.
    pub model: String,
    /// The number of the version that has answered.
    pub version: String,
    /// The request's id.
    pub id: String,
    /// Parameters of the response.
    pub parameters: Parameters,
    /// The outputs, in the order in which they were wanted, or else in the model's.
    pub outputs: Vec<(String, Tensor)>,
}
