//! ONNX files for tests, written without an exporter: `build` has the functions, `proto` the messages.

#![allow(dead_code, missing_docs)]

pub mod proto {
    #![allow(clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

#[path = "../../src/onnx/build.rs"]
pub mod build;
