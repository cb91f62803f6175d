#![doc = include_str!("../README.md")]

mod array;
mod binding;
mod budget;
mod compare;
mod convert;
mod datum;
mod dtype;
mod error;
mod events;
mod explain;
mod facts;
mod gpu;
mod graph;
mod heap;
#[cfg(any(test, feature = "internals"))]
#[doc(hidden)]
pub mod internals;
mod interrupt;
mod kernels;
mod model;
mod onnx;
mod ops;
mod outputs;
mod passes;
mod plan;
mod reference;
mod segments;
mod session;
mod shape;
mod small;
mod summary;
mod tensor;
#[cfg(test)]
mod tests;
mod verify;

pub use binding::{Binder, Binding, device_bytes};
pub use budget::Limits;
pub use compare::{Difference, Tolerance};
pub use datum::{Datum, Kind};
pub use dtype::DType;
pub use error::{Error, InputError, Result, Shown, UnsupportedNode, shown};
pub use explain::Stage;
pub use gpu::{
    AdapterSummary, Counters, Device, DeviceOptions, DeviceTensor, Encoder, Input, Select, adapters,
};
pub use interrupt::Interrupt;
pub use model::{LoadOptions, Model};
pub use onnx::FileAccess;
pub use outputs::Outputs;
pub use plan::{Explanation, Finding, Saving};
pub use session::{IntegerBits, Known, Session, SessionOptions};
pub use shape::{Dim, ValueInfo};
pub use summary::{HostNode, KernelTime, MemoryUse, ModelSummary, PlanSummary, SyncPoint};
pub use tensor::{Element, Tensor};
pub use verify::{Cause, Divergence, Tolerances, ValueError, Verification, verify};

/// What the stages of a model consist of, as values: see [`Model::report`] and [`Session::report`].
pub mod report {
    pub use crate::explain::StageReport;
    pub use crate::graph::{AttributeReport, GraphReport, NodeReport, ValueReport};
    pub use crate::plan::{
        ArgumentReport, BlockReport, CallReport, InsideReport, MemoryReport, OutputReport, PlaceReport,
        ProgramReport, ShaderReport, TensorReport,
    };
}

/// The inputs of a run by name, as tensors in host memory and on the device.
///
/// ```
/// use sardonyx::{Device, DeviceTensor, Tensor, inputs};
/// let x = Tensor::from_slice(&[1], &[1.0f32])?;
/// let state = DeviceTensor::new(&Device::reference(), &x)?;
/// let given = inputs! { "x" => &x, "state" => &state };
/// assert_eq!(given.len(), 2);
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[macro_export]
macro_rules! inputs {
    ($($name:expr => $value:expr),* $(,)?) => {{
        let inputs: [(&str, $crate::Input<'_>); _] = [$(($name, $crate::Input::from($value))),*];
        inputs
    }};
}

#[cfg(feature = "ndarray")]
pub use ndarray;
pub use {bytes, half, wgpu};
