#![doc = include_str!("../README.md")]

mod array;
mod binding;
mod compare;
mod convert;
mod dtype;
mod error;
mod explain;
mod facts;
mod gpu;
mod graph;
#[cfg(any(test, feature = "internals"))]
#[doc(hidden)]
pub mod internals;
mod kernels;
mod model;
mod onnx;
mod ops;
mod outputs;
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
pub use compare::{Difference, Tolerance};
pub use dtype::DType;
pub use error::{Error, InputError, Result, UnsupportedNode};
pub use explain::Stage;
pub use gpu::{AdapterSummary, Counters, Device, DeviceOptions, Select, adapters};
pub use model::Model;
pub use outputs::Outputs;
pub use session::{Session, SessionOptions};
pub use shape::{Dim, ValueInfo};
pub use summary::{KernelTime, ModelSummary, PlanSummary};
pub use tensor::{Element, Tensor};
pub use verify::{Cause, Divergence, Tolerances, ValueError, Verification, verify};

#[cfg(feature = "ndarray")]
pub use ndarray;
pub use {bytes, half, wgpu};
