//! Serves ONNX models on GPUs.
#![recursion_limit = "256"] // The types of wgpu are deep where a future is to be `Send`.

pub mod classification;
pub mod config;
pub mod datatype;
mod failure;
pub mod grpc;
pub mod http;
pub mod listen;
pub mod metrics;
pub mod options;
mod parameters;
pub mod proto;
mod raw;
pub mod repository;
mod request;
mod server;
pub mod serving;
mod service;
pub mod settings;
pub mod shared_memory;

pub use failure::{Failure, Reason};
pub use options::{ControlMode, Flags, Options};
pub use request::{Parameter, Parameters, Request, Response, Sequence, SequenceId, WantedOutput};
pub use server::{Addresses, Server, run};
pub use service::Service;
