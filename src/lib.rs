#![doc = include_str!("../README.md")]

mod dtype;
mod error;
mod graph;
mod kernels;
mod ops;
mod plan;
mod reference;
mod tensor;

pub use dtype::DType;
pub use error::{Error, Result, UnsupportedNode};
pub use graph::Dim;
pub use tensor::{Element, Tensor};

pub use wgpu;
