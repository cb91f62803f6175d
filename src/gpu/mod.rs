//! The device: this room and the interop in `binding.rs` are the only ones that name wgpu. It has buffers, pipelines, bind
//! groups and submissions, and knows nothing of ONNX.

mod adapters;
mod allocate;
mod device;
mod encoder;
mod executable;
mod failure;
mod frame;
mod growing;
mod iterations;
mod later;
mod plan_words;
mod preparing;
mod profile;
mod rows;
mod stopwatch;
mod tensor;
#[cfg(test)]
mod tests;
mod waiting;
mod weights;
pub(crate) mod words;

pub use adapters::{AdapterSummary, DeviceOptions, Select, adapters};
pub(crate) use allocate::{Account, Buffer, Resident};
pub(crate) use device::Gpu;
pub use device::{Counters, Device};
pub use encoder::Encoder;
pub(crate) use executable::{Bound, Costed, Executable};
pub(crate) use frame::{Frame, Frames, Unbound};
pub(crate) use iterations::{Feed, IterationList, Stretch};
pub(crate) use later::Later;
pub use tensor::{DeviceTensor, Input};
pub(crate) use weights::Weights;
