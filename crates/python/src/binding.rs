//! Bindings: runs over tensors that stay on the device.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use sardonyx::{Binding, Datum, Tensor, ValueInfo};

use crate::arrays::{DeviceArray, Fed, array};
use crate::device::PyDevice;
use crate::error::detached;

/// A plan over inputs and outputs that stay where they are.
#[pyclass(name = "Binding", module = "sardonyx", frozen)]
pub(crate) struct PyBinding {
    pub(crate) binding: Mutex<Binding>,
    pub(crate) device: PyDevice,
    pub(crate) inputs: Vec<ValueInfo>,
}

impl PyBinding {
    fn here(&self) -> sardonyx::Result<MutexGuard<'_, Binding>> {
        self.device.here()?;
        Ok(self.binding.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The value with elements of its own, where it is kept: the program may write into its array.
pub(crate) fn kept(value: Fed) -> sardonyx::Result<Fed> {
    Ok(match value {
        Fed::Host(datum) => Fed::Host(own(&datum)?),
        Fed::Device(tensor) => Fed::Device(tensor),
    })
}

fn own(datum: &Datum) -> sardonyx::Result<Datum> {
    Ok(match datum {
        Datum::Tensor(tensor) if tensor.strings().is_none() => {
            Tensor::from_raw(tensor.dtype(), tensor.shape(), tensor.bytes().to_vec())?.into()
        }
        Datum::Sequence(elements) => {
            Datum::from(elements.iter().map(own).collect::<sardonyx::Result<Vec<_>>>()?)
        }
        Datum::Optional(Some(content)) => Datum::Optional(Some(own(content)?.into())),
        // Texts are copied already, and a map's lists are no array of the program's.
        other => other.clone(),
    })
}

#[pymethods]
impl PyBinding {
    /// Gives an input another value.
    fn set(&self, py: Python<'_>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let declared = self.inputs.iter().find(|info| info.name == name);
        let value = Fed::of(value, declared)?;
        detached(py, || self.here()?.set(name, kept(value)?.input()))
    }

    /// Submits a run, and does not wait.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.here()?.run())
    }

    /// An output, on the device.
    fn output(&self, py: Python<'_>, name: &str) -> PyResult<DeviceArray> {
        detached(py, || self.here()?.output(name)).map(DeviceArray::new_here)
    }

    /// The elements of an output of the last run, once it has ended.
    fn read<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        array(py, detached(py, || self.here()?.read(name))?)
    }

    /// Waits for the runs, and raises what they report.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.here()?.check())
    }
}
