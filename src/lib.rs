#![doc = include_str!("../README.md")]

mod dtype;
mod error;
mod graph;
mod kernels;
mod model;
mod onnx;
mod ops;
mod plan;
mod reference;
mod tensor;

pub use dtype::DType;
pub use error::{Error, Result, UnsupportedNode};
pub use graph::Dim;
pub use model::{Model, ValueInfo};
pub use tensor::{Element, Tensor};

pub use wgpu;
