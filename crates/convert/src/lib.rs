//! Other files as ONNX models. No runtime is needed: files go in, and the bytes of an ONNX model come out.
//!
//! * [`from_pmml`] converts a model of PMML: trees, ensembles, regressions, networks, scorecards, clusters, support vectors.
//! * [`with_weights`] puts the weights of safetensors or PyTorch into a model's initializers.

mod error;
mod graph;
mod pmml;
// What prost makes of proto/onnx.proto; the same text as in the library, of which this crate needs a part.
#[allow(dead_code, missing_docs, clippy::all)]
mod proto;
mod weights;

pub use error::{Error, Result};
pub use pmml::from_pmml;
pub use weights::{WeightReport, with_weights};
