//! The Python module `sardonyx._native`: devices, models, sessions and bindings. What is easier to read in Python stands in
//! `python/sardonyx`.

mod arrays;
mod binding;
mod device;
mod error;
mod model;
mod run;
mod session;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::arrays::DeviceArray;
    #[pymodule_export]
    use super::binding::PyBinding;
    #[pymodule_export]
    use super::device::{PyDevice, devices};
    #[pymodule_export]
    use super::model::{PyModel, PyValueInfo};
    #[pymodule_export]
    use super::run::Run;
    #[pymodule_export]
    use super::session::PySession;
}
