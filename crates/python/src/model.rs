//! Models, and what they declare of their inputs and outputs.

use std::path::PathBuf;
use std::str::FromStr;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyTuple};
use pythonize::pythonize;
use sardonyx::{Dim, FileAccess, Limits, LoadOptions, Model, Stage, ValueInfo};

use crate::error::detached;

/// What a model declares of one of its inputs or outputs.
#[pyclass(name = "ValueInfo", module = "sardonyx", frozen)]
pub(crate) struct PyValueInfo(ValueInfo);

#[pymethods]
impl PyValueInfo {
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn dtype(&self) -> Option<&'static str> {
        self.0.dtype.map(|dtype| dtype.name())
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let size = |dim: &Dim| match dim {
            Dim::Known(size) => Ok(size.into_pyobject(py)?.into_any()),
            Dim::Symbol(name) => Ok(name.into_pyobject(py)?.into_any()),
            Dim::Unknown => Ok(py.None().into_bound(py)),
        };
        let sizes = |dims: &Vec<Dim>| dims.iter().map(size).collect::<PyResult<Vec<_>>>();
        self.0.shape.as_ref().map(|dims| PyTuple::new(py, sizes(dims)?)).transpose()
    }

    #[getter]
    fn container(&self) -> Option<String> {
        self.0.container.as_ref().map(|kind| kind.to_string())
    }

    #[getter]
    fn has_default(&self) -> bool {
        self.0.has_default
    }

    fn __repr__(&self) -> String {
        self.0.to_string()
    }
}

/// The values that a list of declarations describes.
pub(crate) fn infos(infos: &[ValueInfo]) -> Vec<PyValueInfo> {
    infos.iter().cloned().map(PyValueInfo).collect()
}

/// The stage with this name.
pub(crate) fn stage(name: &str) -> PyResult<Stage> {
    Stage::from_str(name).map_err(PyValueError::new_err)
}

/// An ONNX model: the contents of a file, checked.
#[pyclass(name = "Model", module = "sardonyx", frozen)]
#[derive(Clone)]
pub(crate) struct PyModel(pub(crate) Model);

impl PyModel {
    /// A model, or what one is made of: the path of a file, or its bytes.
    pub(crate) fn of(given: &Bound<'_, PyAny>, options: LoadOptions) -> PyResult<PyModel> {
        if let Ok(model) = given.cast::<PyModel>() {
            return Ok(model.get().clone());
        }
        let py = given.py();
        let model = if given.is_instance_of::<PyBytes>() {
            let bytes = bytes::Bytes::from_owner(given.extract::<PyBackedBytes>()?);
            detached(py, || Model::from_bytes_with(bytes, options))?
        } else if let Ok(path) = given.extract::<PathBuf>() {
            detached(py, || Model::load_with(path, options))?
        } else {
            let given = given.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "a model is a path, bytes or a sardonyx.Model, and no {given}"
            )));
        };
        Ok(PyModel(model))
    }
}

#[pymethods]
impl PyModel {
    #[new]
    #[pyo3(signature = (source, *, map_files = true, step_limit = None, byte_limit = None))]
    fn new(
        source: &Bound<'_, PyAny>,
        map_files: bool,
        step_limit: Option<u64>,
        byte_limit: Option<u64>,
    ) -> PyResult<PyModel> {
        let access = if map_files { FileAccess::Map } else { FileAccess::Read };
        let limits = step_limit.into_iter().fold(Limits::new(), Limits::steps);
        let limits = byte_limit.into_iter().fold(limits, Limits::bytes);
        PyModel::of(source, LoadOptions::new().files(access).limits(limits))
    }

    #[getter]
    fn inputs(&self) -> Vec<PyValueInfo> {
        infos(self.0.inputs())
    }

    #[getter]
    fn outputs(&self) -> Vec<PyValueInfo> {
        infos(self.0.outputs())
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(pythonize(py, self.0.metadata())?)
    }

    #[getter]
    fn producer(&self) -> &str {
        self.0.producer()
    }

    #[getter]
    fn ir_version(&self) -> i64 {
        self.0.ir_version()
    }

    #[getter]
    fn opsets(&self) -> std::collections::BTreeMap<String, i64> {
        self.0.opsets().iter().cloned().collect()
    }

    #[getter]
    fn unsupported<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(pythonize(py, self.0.unsupported())?)
    }

    fn index_bounds(&self) -> std::collections::BTreeMap<String, usize> {
        self.0.index_bounds()
    }

    fn summary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(pythonize(py, &self.0.summary())?)
    }

    fn explain(&self, py: Python<'_>, stage: &str) -> PyResult<String> {
        let stage = self::stage(stage)?;
        detached(py, || self.0.explain(stage))
    }
}
