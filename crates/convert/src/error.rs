//! What may be wrong with a file.

/// Why a file cannot become an ONNX model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not of its format.
    #[error("{0}")]
    Malformed(String),
    /// The model for weights is no ONNX file.
    #[error("{0}")]
    Model(String),
    /// An element of a PMML file is wrong, or has no counterpart in ONNX.
    #[error("line {line}: {element}: {what}")]
    Element {
        /// The element's name.
        element: String,
        /// Its line in the file; the first is 1.
        line: u32,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Weights do not fit the model.
    #[error("{0}")]
    Mismatch(String),
    /// The model would be far larger than its file.
    #[error("the model would take more than {limit} {of}, out of proportion to its file")]
    TooLarge {
        /// The most that are made of this file.
        limit: usize,
        /// Of what.
        of: &'static str,
    },
}

/// A result, or why there is none.
pub type Result<T, E = Error> = std::result::Result<T, E>;
