//! The crate's one error enum. Every error says where (file, node, opset, shapes), what, and what to do about it.

use std::fmt;
use std::path::PathBuf;

/// What can go wrong between a model file and its outputs.
///
/// ```
/// let error = sardonyx::Model::from_bytes(b"not a model".to_vec()).unwrap_err();
/// assert!(error.to_string().contains("not an ONNX model"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The bytes are not a protobuf of an ONNX model, or end too early.
    #[error("not an ONNX model: {0}")]
    Decode(String),
    /// The protobuf is well formed, but what it describes is no valid model.
    #[error("invalid model: {0}")]
    InvalidModel(String),
    /// External data could not be used: outside the model's folder, missing, or too short.
    #[error("external data of tensor '{tensor}': {reason}")]
    ExternalData {
        /// The initializer that refers to the data.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The model has operators that Sardonyx does not have. All of them are listed.
    #[error("{}", unsupported_text(.0))]
    Unsupported(Vec<UnsupportedNode>),
    /// A node cannot be computed with what it was given.
    #[error("node '{node}' ({op}, opset {opset}, inputs {inputs}): {reason}")]
    Node {
        /// The node's name, or the name of its first output.
        node: String,
        /// Operator, with its domain if that is not ONNX's own.
        op: String,
        /// The opset version that the model imports for the operator's domain.
        opset: i64,
        /// Dtypes and shapes of the node's inputs.
        inputs: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A tensor given by the caller does not fit the model's input.
    #[error("input '{name}': {reason}")]
    Input {
        /// The input's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A buffer given by the caller does not fit the model's output.
    #[error("output '{name}': {reason}")]
    Output {
        /// The output's name.
        name: String,
        /// What is wrong with the buffer.
        reason: String,
    },
    /// A tensor could not be made or converted.
    #[error("tensor: {0}")]
    Tensor(String),
    /// No device that can run a compute shader was found.
    #[error("no GPU adapter {wanted}: {hint}")]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// What to install or to change.
        hint: String,
    },
    /// The adapter lacks something that every kernel needs.
    #[error("adapter '{adapter}' is below the floor: {reason}")]
    BelowFloor {
        /// The adapter's name.
        adapter: String,
        /// The limit or feature that is missing.
        reason: String,
    },
    /// The device was lost (removed, reset by its driver, or destroyed). Make a new `Device` and `Session`.
    #[error("device lost: {0}; make a new Device and a new Session from the same Model")]
    DeviceLost(String),
    /// The device or the host has not the memory.
    #[error("out of memory: {what}{}", bytes_text(*.bytes))]
    OutOfMemory {
        /// What was to be allocated.
        what: String,
        /// How many bytes it takes; 0 if only the driver knows.
        bytes: u64,
    },
    /// Something is larger than the device allows.
    #[error("{what} is {value}, and the device allows {limit}")]
    Limit {
        /// What is too large.
        what: String,
        /// Its size.
        value: u64,
        /// The device's limit.
        limit: u64,
    },
    /// The driver or wgpu refused a call; a defect of Sardonyx or of the driver.
    #[error("gpu: {0}")]
    Gpu(String),
}

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A node whose operator, version or types are not supported.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct UnsupportedNode {
    /// The node's name, or the name of its first output.
    pub node: String,
    /// Operator, with its domain if that is not ONNX's own.
    pub op: String,
    /// The opset version that the model imports for the operator's domain.
    pub opset: i64,
    /// Why it is not supported.
    pub reason: String,
}

fn bytes_text(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(" needs {bytes} bytes") }
}

fn unsupported_text(nodes: &[UnsupportedNode]) -> String {
    let mut text = format!("{} unsupported node(s):", nodes.len());
    for node in nodes {
        text += &format!("\n  {} '{}' (opset {}): {}", node.op, node.node, node.opset, node.reason);
    }
    text
}

/// Why an operator refuses; the caller wraps it into [`Error::Node`] with the node's name and shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Why(pub(crate) String);

impl<T: Into<String>> From<T> for Why {
    fn from(reason: T) -> Why {
        Why(reason.into())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns early with a [`Why`] made by `format!`.
macro_rules! refuse {
    ($($arg:tt)*) => { return Err($crate::error::Why(format!($($arg)*))) };
}
pub(crate) use refuse;
