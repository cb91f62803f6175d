//! Files of other kinds as ONNX models.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use sardonyx_convert::WeightReport;

/// The ONNX model of a PMML document.
#[pyfunction]
pub(crate) fn from_pmml(py: Python<'_>, document: PyBackedBytes) -> PyResult<Bound<'_, PyBytes>> {
    let made = py.detach(|| sardonyx_convert::from_pmml(&document));
    Ok(PyBytes::new(py, &made.map_err(refused)?))
}

/// Names of initializers and weights: replaced, kept, unused.
type Names = (Vec<String>, Vec<String>, Vec<String>);

/// The model with the weights of a file, and what became of them.
#[pyfunction]
pub(crate) fn with_weights(
    py: Python<'_>,
    model: PyBackedBytes,
    weights: PyBackedBytes,
) -> PyResult<(Bound<'_, PyBytes>, Names)> {
    let made = py.detach(|| sardonyx_convert::with_weights(bytes::Bytes::from_owner(model), &weights));
    let (made, WeightReport { replaced, kept, unused, .. }) = made.map_err(refused)?;
    Ok((PyBytes::new(py, &made), (replaced, kept, unused)))
}

fn refused(error: sardonyx_convert::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}
