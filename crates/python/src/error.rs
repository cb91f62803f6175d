//! The library's errors as exceptions: each has a class of its own (`sardonyx/_errors.py`), with the error's fields.

use std::io::ErrorKind;

use pyo3::prelude::*;
use pythonize::pythonize;
use sardonyx::{Error, InputError};

/// The exception of an error. One that cannot be made is the exception that says why.
pub(crate) fn exception(py: Python<'_>, error: Error) -> PyErr {
    let text = error.to_string();
    let made = parts(py, error).and_then(|(class, fields)| {
        let exception = py.import("sardonyx._errors")?.getattr(class)?.call1((text,))?;
        for (name, value) in fields {
            exception.setattr(name, value)?;
        }
        Ok(PyErr::from_value(exception))
    });
    made.unwrap_or_else(|error| error)
}

/// The result of work that needs no Python; other threads may run meanwhile.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    work: impl Send + FnOnce() -> sardonyx::Result<T>,
) -> PyResult<T> {
    py.detach(work).map_err(|error| exception(py, error))
}

type Fields<'py> = Vec<(&'static str, Bound<'py, PyAny>)>;

macro_rules! fields {
    ($py:ident; $($name:ident),*) => { vec![$((stringify!($name), pythonize($py, &$name)?)),*] };
}

/// The class of an error, and its fields.
fn parts(py: Python<'_>, error: Error) -> PyResult<(&'static str, Fields<'_>)> {
    Ok(match error {
        Error::Io { path, error } => {
            let (filename, errno, strerror) = (path.clone(), error.raw_os_error(), error.to_string());
            let class = if error.kind() == ErrorKind::NotFound { "NoFileError" } else { "IoError" };
            (class, fields![py; path, filename, errno, strerror])
        }
        Error::FileChanged { path, reason } => ("FileChangedError", fields![py; path, reason]),
        Error::Decode { file, reason } => ("DecodeError", fields![py; file, reason]),
        Error::InvalidModel { file, reason } => ("InvalidModelError", fields![py; file, reason]),
        Error::ExternalData { file, tensor, reason } => {
            ("ExternalDataError", fields![py; file, tensor, reason])
        }
        Error::Unsupported(nodes) => ("UnsupportedError", fields![py; nodes]),
        Error::Node { node, op, opset, inputs, reason } => {
            ("NodeError", fields![py; node, op, opset, inputs, reason])
        }
        Error::TooWide { what, reason } => ("TooWideError", fields![py; what, reason]),
        Error::Input(error) => of_input(py, error)?,
        Error::Output { name, reason } => ("OutputError", fields![py; name, reason]),
        Error::NoNode { name, reason } => ("NoNodeError", fields![py; name, reason]),
        Error::Tensor(reason) => ("TensorError", fields![py; reason]),
        Error::NoAdapter { wanted, hint } => ("NoAdapterError", fields![py; wanted, hint]),
        Error::BelowFloor { adapter, reason } => ("BelowFloorError", fields![py; adapter, reason]),
        Error::DeviceLost(reason) => ("DeviceLostError", fields![py; reason]),
        Error::OutOfMemory { what, bytes } => ("OutOfMemoryError", fields![py; what, bytes]),
        Error::MemoryLimit { what, bytes, in_use, limit } => {
            ("MemoryLimitError", fields![py; what, bytes, in_use, limit])
        }
        Error::Limit { what, value, limit, in_bytes } => {
            ("LimitError", fields![py; what, value, limit, in_bytes])
        }
        Error::Interrupted => ("Interrupted", vec![]),
        Error::Device { device, reason } => ("DeviceError", fields![py; device, reason]),
        Error::Gpu(reason) => ("GpuError", fields![py; reason]),
        _ => ("Error", vec![]),
    })
}

fn of_input(py: Python<'_>, error: InputError) -> PyResult<(&'static str, Fields<'_>)> {
    Ok(match error {
        InputError::Missing(inputs) => ("MissingInputError", fields![py; inputs]),
        InputError::Unknown { name, expected } => ("UnknownInputError", fields![py; name, expected]),
        InputError::Twice { name } => ("InputTwiceError", fields![py; name]),
        InputError::DType { name, expected, given } => {
            ("InputDTypeError", fields![py; name, expected, given])
        }
        InputError::Shape { name, expected, given } => {
            ("InputShapeError", fields![py; name, expected, given])
        }
        InputError::Dimension { name, axis, given, other, other_axis, expected, dimension } => {
            ("DimensionError", fields![py; name, axis, given, other, other_axis, expected, dimension])
        }
        InputError::TooLarge { name, given, limit } => {
            ("InputTooLargeError", fields![py; name, given, limit])
        }
        InputError::Value { name, reason } => ("InputValueError", fields![py; name, reason]),
        InputError::Buffer { name, reason } => ("InputBufferError", fields![py; name, reason]),
        _ => ("InputError", vec![]),
    })
}
