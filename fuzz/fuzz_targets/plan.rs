//! A model that was decoded is planned, prepared and recorded for small inputs, or an error says why not; on a device that
//! validates every call and computes nothing.
#![no_main]

use std::sync::LazyLock;

use sardonyx::{DType, Device, Dim, Error, Model, Session, SessionOptions, Tensor, ValueInfo, wgpu};

static DEVICE: LazyLock<Device> = LazyLock::new(|| {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    Device::from_wgpu(device, queue).expect("the limits are those of the floor")
});

fn zeros(info: &ValueInfo) -> Option<Tensor> {
    let size = |dim: &Dim| if let Dim::Known(size) = dim { (*size).min(64) } else { 1 };
    let shape: Vec<usize> = info.shape.iter().flatten().map(size).collect();
    let dtype = info.dtype.unwrap_or(DType::F32);
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n < 1 << 20)?;
    Tensor::from_raw(dtype, &shape, vec![0; dtype.bytes_of(count)?]).ok()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::from_bytes(bytes.to_vec()) else { return };
    let Some(inputs) = model.inputs().iter().map(zeros).collect::<Option<Vec<Tensor>>>() else { return };
    let named = model.inputs().iter().map(|info| info.name.as_str()).zip(&inputs);
    let outcome = Session::new(&DEVICE, &model, SessionOptions::default())
        .and_then(|session| session.run(&named.collect::<Vec<_>>()));
    // What wgpu refuses is a defect of ours.
    assert!(!matches!(outcome, Err(Error::Gpu(_) | Error::DeviceLost(_))), "{outcome:?}");
});
