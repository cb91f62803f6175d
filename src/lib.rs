#![doc = include_str!("../README.md")]
// The texts of the stages are the command line's.
#![cfg_attr(not(feature = "cli"), allow(dead_code))]

mod array;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod bench;
mod binding;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod dtype;
mod error;
mod facts;
mod gpu;
mod graph;
mod kernels;
mod model;
mod onnx;
mod ops;
mod passes;
mod plan;
mod reference;
mod session;
mod shape;
mod small;
mod summary;
mod tensor;
#[cfg(test)]
mod tests;
mod verify;

pub use binding::{Binder, Binding, device_bytes};
pub use dtype::DType;
pub use error::{Error, Result, UnsupportedNode};
pub use gpu::{AdapterSummary, Counters, Device, DeviceOptions, Select, adapters};
pub use graph::Dim;
pub use model::{Model, ValueInfo};
pub use session::{Outputs, Session, SessionOptions};
pub use summary::{KernelTime, PlanSummary};
pub use tensor::{Element, Tensor};
pub use verify::{Cause, Divergence, Tolerances, ValueError, Verification, verify};

pub use wgpu;
