//! What the tests and benchmarks of Sardonyx share: models, arrays, devices, and clocks.
#![allow(missing_docs, clippy::unwrap_used)] // A test that cannot go on has failed.

pub mod arrays;
pub mod clock;
pub mod devices;
pub mod models;
pub mod onnx;
