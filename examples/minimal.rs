//! Loads a model, runs it on zeros, and prints the outputs: `cargo run --example minimal -- model.onnx`

use sardonyx::{DType, Device, DeviceOptions, Dim, Model, Session, SessionOptions, Tensor, ValueInfo};

fn main() -> sardonyx::Result<()> {
    let Some(path) = std::env::args().nth(1) else {
        println!("usage: cargo run --example minimal -- model.onnx");
        return Ok(());
    };
    let model = Model::load(path)?;
    let device = Device::new(DeviceOptions::default())?;
    let session = Session::new(&device, &model, SessionOptions::default())?;

    let inputs: Vec<Tensor> = model.inputs().iter().map(zeros).collect::<Result<_, _>>()?;
    let named: Vec<(&str, &Tensor)> =
        model.inputs().iter().zip(&inputs).map(|(info, tensor)| (info.name.as_str(), tensor)).collect();
    println!("on {}:", device.name());
    for (name, tensor) in session.run(&named)? {
        println!("{name}: {}{:?}", tensor.dtype(), tensor.shape());
        if tensor.dtype() == DType::F32 {
            println!("  {:?} ...", tensor.to_vec::<f32>()?.iter().take(8).collect::<Vec<_>>());
        }
    }
    Ok(())
}

/// Zeros of the declared type and shape; an open size is 1.
fn zeros(info: &ValueInfo) -> sardonyx::Result<Tensor> {
    let size = |dim: &Dim| if let Dim::Known(size) = dim { *size } else { 1 };
    let shape: Vec<usize> = info.shape.iter().flatten().map(size).collect();
    Tensor::zeros(info.dtype.unwrap_or(DType::F32), &shape)
}
