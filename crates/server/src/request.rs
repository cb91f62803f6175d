//! `Request` and `Response`: an inference in one form for every protocol.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sardonyx::Tensor;

use crate::Failure;
use crate::access::Tenant;
use crate::serving::Held;
use crate::traffic::Preference;

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
    /// Which variant of the model the caller asks for.
    pub preference: Preference,
    /// Who asks, as far as the server knows.
    pub tenant: Option<Tenant>,
    /// Inputs that a run before has left on a device. No protocol gives such.
    pub held: Vec<(String, Held)>,
    /// The outputs that stay on the device, if the model's runs can leave them there.
    pub keep: Vec<String>,
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
#[derive(Clone, Debug, Default)]
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
    /// The outputs that have stayed on the device.
    pub held: Vec<(String, Held)>,
}

impl Request {
    /// Takes a parameter of a request: those that say when and in which sequence it is run are fields, all others are kept.
    ///
    /// # Errors
    /// [`Reason::Invalid`](crate::Reason::Invalid) if one of the former has another type or an impossible value.
    pub fn set_parameter(&mut self, name: &str, value: Parameter) -> Result<(), Failure> {
        let number = |value: &Parameter| match value {
            Parameter::Int(number) => u64::try_from(*number).ok(),
            // Older clients write numbers as texts.
            Parameter::Text(text) => text.parse().ok(),
            _ => None,
        };
        let wrong = |wanted: &str| Failure::invalid(format!("parameter '{name}' is {wanted}"));
        let sequence = || Sequence { id: SequenceId::Number(0), start: false, end: false };
        match (name, &value) {
            ("priority", value) => {
                self.priority = number(value).ok_or_else(|| wrong("a whole number from 0 on"))?
            }
            ("timeout", value) => {
                let micros = number(value).ok_or_else(|| wrong("a whole number of microseconds"))?;
                self.timeout = Some(Duration::from_micros(micros)).filter(|timeout| !timeout.is_zero());
            }
            ("sequence_id", Parameter::Text(text)) if !text.is_empty() => {
                self.sequence.get_or_insert_with(sequence).id = SequenceId::Text(text.clone());
            }
            ("sequence_id", Parameter::Text(_)) => {}
            ("sequence_id", value) => {
                let id = number(value).ok_or_else(|| wrong("a whole number or a text"))?;
                if id != 0 {
                    self.sequence.get_or_insert_with(sequence).id = SequenceId::Number(id);
                }
            }
            ("sequence_start" | "sequence_end", Parameter::Bool(false)) => {}
            ("sequence_start", Parameter::Bool(true)) => {
                self.sequence.get_or_insert_with(sequence).start = true
            }
            ("sequence_end", Parameter::Bool(true)) => self.sequence.get_or_insert_with(sequence).end = true,
            ("sequence_start" | "sequence_end", _) => return Err(wrong("true or false")),
            _ => {
                self.parameters.insert(name.to_string(), value);
            }
        }
        Ok(())
    }
}
