//! Serves the ONNX models of a folder on GPUs, over HTTP and gRPC: the Open Inference Protocol with the extensions of Triton.
//!
//! `sardonyx serve` is this crate behind flags. [`Server::start`] is the same inside a program:
//!
//! ```no_run
//! use sardonyx_server::{Options, Server};
//!
//! # async fn serve() -> Result<(), String> {
//! let server = Server::start(Options::new(vec!["models".into()])).await?;
//! println!("HTTP on {:?}", server.addresses().http);
//! let answered = server.shut_down().await;
//! # Ok(())
//! # }
//! ```
//!
//! Every protocol translates to the calls of [`Service`], which a program may call too.
#![recursion_limit = "256"] // The types of wgpu are deep where a future is to be `Send`.

pub mod access;
mod access_log;
pub mod budget;
pub mod classification;
pub mod config;
pub mod datatype;
mod exchange;
mod failure;
pub mod grpc;
pub mod http;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod lambda;
pub mod listen;
mod machine;
pub mod metrics;
#[cfg(test)]
mod mutations;
pub mod options;
mod parameters;
pub mod proto;
mod raw;
pub mod repository;
mod request;
mod server;
mod service;
pub mod serving;
pub mod settings;
pub mod shared_memory;
mod status;
pub mod texts;
pub mod tls;
pub mod traces;
pub mod traffic;
pub mod watching;

pub use failure::{Failure, Reason};
pub use options::{ControlMode, Flags, Options};
pub use request::{Parameter, Parameters, Request, Response, Sequence, SequenceId, WantedOutput};
pub use server::{Addresses, Server, run};
pub use service::Service;
