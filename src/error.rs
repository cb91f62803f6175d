//! The only error type of the crate. Every error says where it happened (file, node, opset, shapes), what is wrong, and what
//! to do about it.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use crate::heap::NoMemory;
use crate::{DType, Dim, ValueInfo};

/// What can go wrong on the way from a model file to its outputs.
///
/// ```
/// let error = sardonyx::Model::from_bytes(b"not a model".to_vec()).unwrap_err();
/// assert!(error.to_string().contains("not an ONNX model"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {error}", path_text(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// A file of the model has changed since the model was loaded ([`FileAccess::Map`](crate::FileAccess::Map)).
    #[error(
        "{}: it has changed since the model was loaded: {reason}; load the model anew, or with `FileAccess::Read`",
        path_text(path)
    )]
    FileChanged {
        /// The file.
        path: PathBuf,
        /// What is different.
        reason: String,
    },
    /// The bytes are not a protobuf of an ONNX model, or end too early.
    #[error("{}not an ONNX model: {}", prefix(file), sentence(reason))]
    Decode {
        /// The model's file; `None` for bytes in memory.
        file: Option<PathBuf>,
        /// Where decoding ended, and why.
        reason: String,
    },
    /// The protobuf is well formed, but it describes no valid model.
    #[error("{}invalid model: {}", prefix(file), sentence(reason))]
    InvalidModel {
        /// The model's file; `None` for bytes in memory.
        file: Option<PathBuf>,
        /// What is contradictory.
        reason: String,
    },
    /// External data could not be used: outside the model's folder, missing, or too short.
    #[error("{}external data of tensor '{}': {}", prefix(file), shown(tensor), sentence(reason))]
    ExternalData {
        /// The model's file; `None` for bytes in memory.
        file: Option<PathBuf>,
        /// The initializer that refers to the data.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The model has operators that Sardonyx does not have. All of them are listed.
    #[error("{}", unsupported_text(.0))]
    Unsupported(Vec<UnsupportedNode>),
    /// A node cannot be computed from its inputs.
    #[error("node '{}' ({}, opset {opset}, inputs {inputs}): {}", shown(node), shown(op), sentence(reason))]
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
    /// An integer of 64 bits does not fit the 32 bits in which the session's device holds it: see
    /// [`IntegerBits`](crate::IntegerBits).
    #[error("{}: {}", sentence(what), sentence(reason))]
    TooWide {
        /// The input, the constant or the node.
        what: String,
        /// What does not fit, and what to do.
        reason: String,
    },
    /// The caller's inputs do not fit the model's.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The model does not have the output that the caller names, or a buffer of the caller does not fit it.
    #[error("output '{}': {}", shown(name), sentence(reason))]
    Output {
        /// The output's name.
        name: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The plan has no node of this name.
    #[error("node '{}': {}", shown(name), sentence(reason))]
    NoNode {
        /// The name that was asked for.
        name: String,
        /// What became of it, or names like it.
        reason: String,
    },
    /// A tensor could not be made or converted.
    #[error("tensor: {}", sentence(.0))]
    Tensor(String),
    /// No device that can run a compute shader was found.
    #[error("no GPU adapter {wanted}: {hint}")]
    NoAdapter {
        /// The device that was asked for.
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
    /// The device or the host does not have enough memory.
    #[error("out of memory: {}{}", sentence(what), bytes_text(*.bytes))]
    OutOfMemory {
        /// What was to be allocated.
        what: String,
        /// The number of bytes; 0 if only the driver knows.
        bytes: u64,
    },
    /// The work does not fit the limit that the program set ([`Device::set_memory_limit`]); nothing was allocated for it.
    ///
    /// [`Device::set_memory_limit`]: crate::Device::set_memory_limit
    #[error(
        "{} takes {} beside {} in use, and the memory limit is {}; raise it, or drop a session",
        sentence(what),
        ByteCount(*bytes),
        ByteCount(*in_use),
        ByteCount(*limit)
    )]
    MemoryLimit {
        /// What was to be allocated.
        what: String,
        /// The number of bytes.
        bytes: u64,
        /// The number of bytes that are in use and cannot be given up.
        in_use: u64,
        /// The limit.
        limit: u64,
    },
    /// A size exceeds what the device allows.
    #[error("{}", limit_text(what, *value, *limit, *in_bytes))]
    Limit {
        /// What is too large.
        what: String,
        /// Its size.
        value: u64,
        /// The device's limit.
        limit: u64,
        /// Whether both are numbers of bytes; otherwise of what the first field says.
        in_bytes: bool,
    },
    /// An [`Interrupt`](crate::Interrupt) of the device ended the work.
    #[error("interrupted")]
    Interrupted,
    /// The device cannot do what was asked: it lacks a feature, or is the CPU reference.
    #[error("device '{device}': {reason}")]
    Device {
        /// The device's name.
        device: String,
        /// What it lacks, and what to do.
        reason: String,
    },
    /// The driver or wgpu refused a call, which is a defect of Sardonyx or of the driver; or the text of a stage was asked of the
    /// wrong type ([`Model::explain`](crate::Model::explain), [`Session::explain`](crate::Session::explain)).
    #[error("gpu: {0}")]
    Gpu(String),
}

/// What is wrong with the inputs of a call, and what the model expects instead.
///
/// ```
/// use sardonyx::{Device, Error, InputError, Model, Session, Tensor};
/// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
/// # let session = Session::new(&Device::reference(), &Model::from_bytes(bytes)?, Default::default())?;
/// let x = Tensor::from_slice(&[1], &[1.0f32])?;
/// match session.run(&[("X", &x)]) {
///     Err(Error::Input(InputError::Unknown { name, expected })) => {
///         assert_eq!((name.as_str(), expected), ("X", vec!["x".to_string()]));
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// Inputs without a default are missing: all of them, as the model declares them.
    #[error("{}", missing_text(.0))]
    Missing(Vec<ValueInfo>),
    /// The model has no input of this name.
    #[error("input '{}': the model has no such input; it has {}", shown(name), join(expected.iter().map(|name| shown(name))))]
    Unknown {
        /// The name that was given.
        name: String,
        /// The names of the model's inputs.
        expected: Vec<String>,
    },
    /// One input is given two values.
    #[error("input '{}': is given twice", shown(name))]
    Twice {
        /// The input's name.
        name: String,
    },
    /// The input has another element type.
    #[error("input '{}': is {given}, and the model takes {expected}", shown(name))]
    DType {
        /// The input's name.
        name: String,
        /// The element type that the model expects.
        expected: DType,
        /// The element type that was given.
        given: DType,
    },
    /// The input has another number of dimensions, or another size where the model fixes one.
    #[error("input '{}': has shape {given:?}, and the model takes [{}]", shown(name), join(expected))]
    Shape {
        /// The input's name.
        name: String,
        /// The shape that the model expects.
        expected: Vec<Dim>,
        /// The shape that was given.
        given: Vec<usize>,
    },
    /// Two dimensions that have one name in the model differ in size.
    #[error(
        "input '{}': axis {axis} has size {given}, and axis {other_axis} of input '{}' has size {expected}; \
         the model calls both '{}', so they must be equal",
        shown(name),
        shown(other),
        shown(dimension)
    )]
    Dimension {
        /// The input's name.
        name: String,
        /// The axis of the input.
        axis: usize,
        /// The size of that axis.
        given: usize,
        /// The other input, which comes first in the model.
        other: String,
        /// The axis of the other input.
        other_axis: usize,
        /// The size of that axis.
        expected: usize,
        /// The name that the model gives both.
        dimension: String,
    },
    /// The input has more elements than Sardonyx can address.
    #[error(
        "input '{}': has shape {given:?}, whose sizes other than 0 make more than {limit} elements",
        shown(name)
    )]
    TooLarge {
        /// The input's name.
        name: String,
        /// The shape that was given.
        given: Vec<usize>,
        /// The most elements that an input may have.
        limit: usize,
    },
    /// The input's elements cannot be used: its value decides shapes, and it lies on the device, for example.
    #[error("input '{}': {}", shown(name), sentence(reason))]
    Value {
        /// The input's name.
        name: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The buffer cannot be used: it is too small, belongs to another device, or lacks the usage `STORAGE`.
    #[error("input '{}': {}", shown(name), sentence(reason))]
    Buffer {
        /// The input's name.
        name: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl Error {
    /// The error of a model that contradicts itself.
    pub(crate) fn invalid(reason: impl Into<String>) -> Error {
        Error::InvalidModel { file: None, reason: reason.into() }
    }

    /// The error of bytes that are no model.
    pub(crate) fn undecodable(reason: impl Into<String>) -> Error {
        Error::Decode { file: None, reason: reason.into() }
    }

    /// The error of an input whose elements cannot be used.
    pub(crate) fn value(name: &str, why: Why) -> Error {
        let refused = |reason| InputError::Value { name: name.into(), reason }.into();
        why.error(format_args!("input '{name}'"), refused)
    }

    /// The error of a model that was read from `path`.
    pub(crate) fn in_file(mut self, path: &Path) -> Error {
        if let Error::Decode { file, .. }
        | Error::InvalidModel { file, .. }
        | Error::ExternalData { file, .. } = &mut self
        {
            *file = Some(path.to_path_buf());
        }
        self
    }
}

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A node whose operator, version or types Sardonyx does not support.
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

fn prefix(file: &Option<PathBuf>) -> String {
    file.as_ref().map_or(String::new(), |path| format!("{}: ", path_text(path)))
}

fn path_text(path: &Path) -> String {
    sentence(&path.to_string_lossy()).to_string()
}

fn join<T: fmt::Display>(parts: impl IntoIterator<Item = T>) -> String {
    parts.into_iter().map(|part| part.to_string()).collect::<Vec<_>>().join(", ")
}

/// A name out of a file, as a message shows it: on one line, with no character that a terminal acts upon, and not at length. What
/// the sources call `\x1b[2Jx` becomes `\u{1b}[2Jx`, and the middle of a name of over 160 characters is left out.
///
/// All errors show names like this. Their fields hold the names as they are.
///
/// ```
/// assert_eq!(sardonyx::shown("\x1b]0;mine\x07\n").to_string(), r"\u{1b}]0;mine\u{7}\n");
/// assert!(sardonyx::shown(&"x".repeat(1_000_000)).to_string().len() < 200);
/// ```
pub fn shown(name: &str) -> Shown<'_> {
    Shown { text: name, most: 160 }
}

/// A sentence that may quote names out of a file, as a message shows it.
pub(crate) fn sentence(text: &str) -> Shown<'_> {
    Shown { text, most: 4096 }
}

/// What [`shown`] returns.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    text: &'a str,
    /// The most characters that are shown of the text.
    most: usize,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.text.chars().count();
        if count <= self.most {
            return write_escaped(f, self.text.chars());
        }
        let (head, tail) = (self.most / 4 * 3, self.most / 4);
        write_escaped(f, self.text.chars().take(head))?;
        write!(f, "[{} characters]", count - head - tail)?;
        write_escaped(f, self.text.chars().skip(count - tail))
    }
}

fn write_escaped(f: &mut fmt::Formatter<'_>, text: impl Iterator<Item = char>) -> fmt::Result {
    for character in text {
        match character {
            '\'' | '"' | '\\' => f.write_char(character)?,
            other => write!(f, "{}", other.escape_debug())?,
        }
    }
    Ok(())
}

fn missing_text(missing: &[ValueInfo]) -> String {
    match missing {
        [one] => format!("input '{}': is missing; the model takes {one}", shown(&one.name)),
        all => format!("{} inputs are missing; the model takes {}", all.len(), join(all)),
    }
}

fn bytes_text(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(" needs {}", ByteCount(bytes)) }
}

fn limit_text(what: &str, value: u64, limit: u64, in_bytes: bool) -> String {
    let what = sentence(what);
    match in_bytes {
        true => format!("{what} takes {}, and the device allows {}", ByteCount(value), ByteCount(limit)),
        false => format!("{what} is {value}, and the device allows {limit}"),
    }
}

/// A number of bytes in a unit that people read, and exactly: `1.5 KiB (1536 bytes)`. Numbers below 1024 have no unit.
pub(crate) struct ByteCount(pub(crate) u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ByteCount(count) = *self;
        let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.iter().find(|(_, size)| count >= *size) {
            Some((unit, size)) => write!(f, "{:.1} {unit} ({count} bytes)", count as f64 / *size as f64),
            None => write!(f, "{count} byte{}", if count == 1 { "" } else { "s" }),
        }
    }
}

fn unsupported_text(nodes: &[UnsupportedNode]) -> String {
    let mut text = format!("{} unsupported node{}:", nodes.len(), if nodes.len() == 1 { "" } else { "s" });
    for node in nodes {
        text += &format!(
            "\n  {} '{}' (opset {}): {}",
            shown(&node.op),
            shown(&node.node),
            node.opset,
            sentence(&node.reason)
        );
    }
    text
}

/// Of what an integer that is too wide does not fit.
pub(crate) const BITS32: &str = "the 32 bits in which the device computes; `IntegerBits` of the session's options says when it computes in 64, and \
     the CPU reference (`Device::reference()`) always computes in 64";

/// Why something cannot be made. The caller makes an error of it, such as an [`Error::Node`] with the node's name and shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is wrong, for this reason.
    Refused(String),
    /// An integer does not fit 32 bits.
    TooWide(String),
    /// Nothing is wrong with it, but the host lacks memory.
    NoMemory(NoMemory),
}

impl Why {
    /// `value` is an integer that does not fit the 32 bits of a plan.
    pub(crate) fn too_wide(value: impl fmt::Display) -> Why {
        Why::TooWide(format!("{value} does not fit {BITS32}"))
    }

    /// The error of `whole`: what `refused` makes of a reason.
    pub(crate) fn error(self, whole: impl fmt::Display, refused: impl FnOnce(String) -> Error) -> Error {
        match self {
            Why::Refused(reason) => refused(reason),
            Why::TooWide(reason) => Error::TooWide { what: whole.to_string(), reason },
            Why::NoMemory(none) => none.within(whole).into(),
        }
    }

    /// The same with a longer reason, which `longer` makes.
    pub(crate) fn map(self, longer: impl FnOnce(String) -> String) -> Why {
        match self {
            Why::Refused(reason) => Why::Refused(longer(reason)),
            Why::TooWide(reason) => Why::TooWide(longer(reason)),
            none => none,
        }
    }
}

impl<T: Into<String>> From<T> for Why {
    fn from(reason: T) -> Why {
        Why::Refused(reason.into())
    }
}

impl From<NoMemory> for Why {
    fn from(none: NoMemory) -> Why {
        Why::NoMemory(none)
    }
}

impl From<Error> for Why {
    fn from(error: Error) -> Why {
        match error {
            Error::OutOfMemory { what, bytes } => NoMemory { what, bytes }.into(),
            Error::TooWide { what, reason } => Why::TooWide(format!("{what}: {reason}")),
            other => Why::Refused(other.to_string()),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Refused(reason) | Why::TooWide(reason) => f.write_str(reason),
            Why::NoMemory(none) => Error::from(none.clone()).fmt(f),
        }
    }
}

/// Returns early with a [`Why`] whose text `format!` makes.
macro_rules! refuse {
    ($($arg:tt)*) => { return Err($crate::error::Why::Refused(format!($($arg)*))) };
}
pub(crate) use refuse;
