//! ONNX files for tests, written without an exporter: `build` has the functions, `proto` the messages.

pub use sardonyx::internals::{builder as build, proto};
