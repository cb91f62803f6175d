//! The Python module `sardonyx._native`: devices, models, sessions and bindings. What is easier to read in Python stands in
//! `python/sardonyx`.

mod arrays;
mod binding;
mod convert;
mod device;
mod error;
mod memory;
mod model;
mod run;
mod session;
mod waiting;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::arrays::DeviceArray;
    #[pymodule_export]
    use super::binding::PyBinding;
    #[pymodule_export]
    use super::convert::{from_pmml, with_weights};
    #[pymodule_export]
    use super::device::{PyDevice, devices};
    #[pymodule_export]
    use super::memory::{Memory, lent};
    #[pymodule_export]
    use super::model::{PyModel, PyValueInfo};
    #[pymodule_export]
    use super::run::Run;
    #[pymodule_export]
    use super::session::PySession;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let end = wrap_pyfunction!(super::device::end, module)?;
        module.py().import("atexit")?.call_method1("register", (end,)).map(drop)
    }
}
