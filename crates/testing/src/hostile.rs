//! Bytes from strangers, from import to dispatch.

use std::sync::{Arc, LazyLock};

use sardonyx::{
    DType, Datum, Device, Dim, Error, Kind, Limits, Model, Session, SessionOptions, Tensor, ValueInfo,
};

static DEVICE: LazyLock<Device> = LazyLock::new(Device::noop);

/// Zeros of the declared type and shape; open sizes are 1, and large ones are reduced.
fn zeros(info: &ValueInfo) -> Option<Tensor> {
    let size = |dim: &Dim| if let Dim::Known(size) = dim { (*size).min(64) } else { 1 };
    let shape: Vec<usize> = info.shape.iter().flatten().map(size).collect();
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n < 1 << 20)?;
    Tensor::zeros(info.dtype.unwrap_or(DType::F32), &shape).ok()
}

/// Zeros in the containers that are declared: two elements of a sequence, and one of a map.
fn value(info: &ValueInfo) -> Option<Datum> {
    fn of_kind(kind: &Kind) -> Option<Datum> {
        let zeros = |dtype| Tensor::zeros(dtype, &[1]).ok();
        Some(match kind {
            Kind::Tensor(dtype) => zeros(dtype.unwrap_or(DType::F32))?.into(),
            Kind::Sequence(element) => vec![of_kind(element)?; 2].into(),
            Kind::Optional(content) => Datum::Optional(Some(Arc::new(of_kind(content)?))),
            _ => Datum::map(zeros(DType::I64)?, zeros(DType::F32)?).ok()?,
        })
    }
    match &info.container {
        None => zeros(info).map(Datum::from),
        Some(kind) => of_kind(kind),
    }
}

/// Imports a file, and plans, prepares and records it for small inputs, or returns an error that says why not; on a device
/// that validates every call and computes nothing. If wgpu refuses anything, that is a defect of Sardonyx, and a panic.
pub fn run(file: &[u8]) -> Result<(), Error> {
    run_on(&DEVICE, file)
}

/// Imports a file, and runs it for small inputs, or returns an error that says why not.
pub fn run_on(device: &Device, file: &[u8]) -> Result<(), Error> {
    let model = Model::from_bytes(file.to_vec())?;
    let Some(inputs) = model.inputs().iter().map(value).collect::<Option<Vec<Datum>>>() else {
        return Ok(());
    };
    let named = model.inputs().iter().map(|info| info.name.as_str()).zip(&inputs);
    let options = SessionOptions::new().reference_limits(Limits::default());
    let outcome = Session::new(device, &model, options)
        .and_then(|session| session.run_values(&named.collect::<Vec<_>>()).map(drop));
    assert!(!matches!(outcome, Err(Error::Gpu(_) | Error::DeviceLost(_))), "{outcome:?}");
    outcome
}
