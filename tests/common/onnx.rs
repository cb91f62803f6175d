//! ONNX files for tests, written without an exporter: `build` has the functions, `proto` the messages.

#![allow(dead_code, missing_docs)]

#[path = "../../src/onnx/proto.rs"]
#[allow(clippy::all)]
pub mod proto;

#[path = "../../src/onnx/build.rs"]
pub mod build;
