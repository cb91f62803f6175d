//! What the tests and benchmarks of Sardonyx share: models, arrays, devices, clocks, and a harness for
//! tests by name.
#![allow(missing_docs, clippy::unwrap_used)] // A test that cannot go on has failed.

pub mod arrays;
pub mod clock;
pub mod devices;
pub mod dice;
pub mod hostile;
pub mod models;
pub mod onnx;
pub mod trials;
