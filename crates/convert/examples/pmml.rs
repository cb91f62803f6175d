//! Converts a PMML file: `cargo run --example pmml IN.pmml OUT.onnx`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, from, to] = &arguments[..] else { return Err("usage: pmml IN.pmml OUT.onnx".into()) };
    std::fs::write(to, sardonyx_convert::from_pmml(&std::fs::read(from)?)?)?;
    Ok(())
}
