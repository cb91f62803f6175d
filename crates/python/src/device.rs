//! Devices.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pythonize::pythonize;
use sardonyx::{Device, DeviceOptions, Error};

use crate::error::{detached, exception};

/// A device that runs models. It belongs to the process that opened it: no driver survives a fork.
#[pyclass(name = "Device", module = "sardonyx", frozen)]
#[derive(Clone, Debug)]
pub(crate) struct PyDevice {
    device: Device,
    process: u32,
}

/// The devices that sessions have opened by name: sessions of one device share weights and pipelines.
static OPENED: Mutex<Option<HashMap<(u32, String), PyDevice>>> = Mutex::new(None);

/// Whether Python ends.
static ENDS: AtomicBool = AtomicBool::new(false);

/// Python ends: nothing is freed any more on devices.
#[pyfunction]
pub(crate) fn end() {
    ENDS.store(true, Ordering::Relaxed);
}

/// Keeps what is about to be dropped where Python ends. A device's thread may have the last share of it, and would unload the driver
/// while the process runs the driver's exit handlers, which crashes.
pub(crate) fn keep_at_end<T: Clone>(value: &T) {
    if ENDS.load(Ordering::Relaxed) {
        std::mem::forget(value.clone());
    }
}

impl Drop for PyDevice {
    fn drop(&mut self) {
        keep_at_end(&self.device);
    }
}

impl PyDevice {
    fn open(select: &str, options: DeviceOptions) -> sardonyx::Result<PyDevice> {
        let select = select.parse().unwrap_or_else(|never| match never {});
        Ok(PyDevice { device: Device::new(options.select(select))?, process: std::process::id() })
    }

    /// What a session takes as its device: one that is open, or the name of one, which all such sessions share.
    pub(crate) fn of(py: Python<'_>, given: Option<&Bound<'_, PyAny>>) -> PyResult<PyDevice> {
        let name = match given {
            None => "auto".to_string(),
            Some(given) => match given.cast::<PyDevice>() {
                Ok(device) => return Ok(device.get().clone()),
                Err(_) => given.str()?.to_string(),
            },
        };
        detached(py, || {
            let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
            let opened = opened.get_or_insert_default();
            let key = (std::process::id(), name);
            if let Some(device) = opened.get(&key) {
                return Ok(device.clone());
            }
            let device = PyDevice::open(&key.1, DeviceOptions::new())?;
            opened.insert(key, device.clone());
            Ok(device)
        })
    }

    /// The device, in the process that opened it.
    pub(crate) fn here(&self) -> sardonyx::Result<&Device> {
        if self.device.is_reference() || self.process == std::process::id() {
            return Ok(&self.device);
        }
        Err(Error::Device {
            device: self.device.name(),
            reason: "it was opened before this process was forked; open devices and make sessions in the new process".into(),
        })
    }
}

#[pymethods]
impl PyDevice {
    #[new]
    #[pyo3(signature = (select = "auto", *, strict = false, require_hardware = false, memory_limit = None))]
    fn new(
        py: Python<'_>,
        select: &str,
        strict: bool,
        require_hardware: bool,
        memory_limit: Option<u64>,
    ) -> PyResult<PyDevice> {
        let mut options = DeviceOptions::new().strict(strict).require_hardware(require_hardware);
        if let Some(bytes) = memory_limit {
            options = options.memory_limit(bytes);
        }
        detached(py, || PyDevice::open(select, options))
    }

    #[getter]
    fn name(&self) -> String {
        self.device.name()
    }

    #[getter]
    fn is_reference(&self) -> bool {
        self.device.is_reference()
    }

    #[getter]
    fn adapter<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(pythonize(py, &self.device.adapter())?)
    }

    #[getter]
    fn memory_bytes(&self) -> u64 {
        self.device.memory_bytes()
    }

    fn set_memory_limit(&self, py: Python<'_>, bytes: u64) -> PyResult<()> {
        self.here().map_err(|error| exception(py, error))?.set_memory_limit(bytes);
        Ok(())
    }

    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(pythonize(py, &self.device.counters())?)
    }

    fn __repr__(&self) -> String {
        format!("Device({:?})", self.device.name())
    }
}

/// Every adapter of this machine, usable or not.
#[pyfunction]
pub(crate) fn devices(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let adapters = py.detach(sardonyx::adapters);
    Ok(pythonize(py, &adapters)?)
}
