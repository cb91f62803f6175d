//! Serves ONNX models on GPUs.

pub mod classification;
pub mod config;
pub mod datatype;
mod failure;
pub mod grpc;
pub mod http;
pub mod proto;
mod raw;
pub mod repository;
mod request;
pub mod serving;
mod service;
pub mod settings;
pub mod shared_memory;

pub use failure::{Failure, Reason};
pub use request::{Parameter, Parameters, Request, Response, Sequence, SequenceId, WantedOutput};
pub use service::Service;
