//! Serves ONNX models on GPUs.
#![recursion_limit = "256"] // The types of wgpu are deep where a future is to be `Send`.

pub mod classification;
pub mod config;
pub mod datatype;
mod failure;
pub mod http;
mod parameters;
pub mod proto;
mod parameters;
mod raw;
mod request;
pub mod settings;
pub mod shared_memory;

pub use failure::{Failure, Reason};
pub use request::{Parameter, Parameters, Request, Response, Sequence, SequenceId, WantedOutput};
