//! Generates the types of an ONNX file from `proto/onnx.proto`, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/onnx.proto");
    let schema = protox::compile(["onnx.proto"], ["proto"])?;
    // `bytes` fields as `bytes::Bytes`: tensors then share the memory of the file.
    prost_build::Config::new().bytes(["."]).compile_fds(schema)?;
    Ok(())
}
