//! The device: the only room that names wgpu. Buffers, pipelines, bind groups and submissions; no ONNX, no shapes.

mod allocate;
mod device;
mod executable;
mod failure;
mod mapping;
#[cfg(test)]
mod tests;
mod weights;
pub(crate) mod words;

pub(crate) use device::Gpu;
pub use device::{AdapterSummary, Counters, Device, DeviceOptions, Select, adapters};
pub(crate) use executable::{Bound, Executable, Frame};
pub(crate) use weights::Weights;
