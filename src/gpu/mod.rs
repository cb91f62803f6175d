//! The device: the only room that names wgpu. Buffers, pipelines, bind groups and submissions; no ONNX, no shapes.

mod adapters;
mod allocate;
mod device;
mod executable;
mod failure;
mod mapping;
#[cfg(test)]
mod tests;
mod weights;
pub(crate) mod words;

pub use adapters::{AdapterSummary, DeviceOptions, Select, adapters};
pub(crate) use device::Gpu;
pub use device::{Counters, Device};
pub(crate) use executable::{Bound, Executable, Frame};
pub(crate) use weights::Weights;
