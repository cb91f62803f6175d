//! Serves ONNX models on GPUs.

pub mod config;
pub mod datatype;
mod failure;
pub mod proto;
mod request;

pub use failure::{Failure, Reason};
pub use request::{Parameter, Parameters, Request, Response, Sequence, SequenceId, WantedOutput};
