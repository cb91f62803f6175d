//! A run that does not block its thread: a future that Python polls.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use sardonyx::{Datum, Outputs};

use crate::arrays;
use crate::error::exception;

type Running = Pin<Box<dyn Future<Output = sardonyx::Result<Outputs<Datum>>> + Send>>;

/// A run under way. Dropping it cancels what has not been submitted.
#[pyclass(module = "sardonyx._native", frozen)]
pub(crate) struct Run(Mutex<Option<Running>>);

impl Run {
    pub(crate) fn new(run: impl Future<Output = sardonyx::Result<Outputs<Datum>>> + Send + 'static) -> Run {
        Run(Mutex::new(Some(Box::pin(run))))
    }
}

/// Calls a function of Python when there is something to poll for.
struct Call(Py<PyAny>);

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        // There is nobody to wake once Python ends, or the loop is closed.
        let _ = Python::try_attach(|py| self.0.call0(py).map(drop));
    }
}

#[pymethods]
impl Run {
    /// The outputs, or `None` where the run goes on; then `wake` is called, from any thread, when it is time to ask again.
    fn poll<'py>(&self, py: Python<'py>, wake: Py<PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let waker = Waker::from(Arc::new(Call(wake)));
        let polled = py.detach(|| {
            let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let polled = running.as_mut()?.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                *running = None;
            }
            Some(polled)
        });
        match polled {
            None => Err(PyRuntimeError::new_err("the run has ended")),
            Some(Poll::Pending) => Ok(None),
            Some(Poll::Ready(Err(error))) => Err(exception(py, error)),
            Some(Poll::Ready(Ok(outputs))) => arrays::outputs(py, outputs, None).map(Some),
        }
    }

    /// Ends the run as soon as that is possible.
    fn cancel(&self, py: Python<'_>) {
        py.detach(|| drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }
}
