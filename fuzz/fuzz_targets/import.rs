//! Any bytes are a model or an error.
#![no_main]

use sardonyx::{Model, Tensor};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Model::from_bytes(bytes.to_vec());
    let _ = Tensor::from_onnx(bytes);
});
