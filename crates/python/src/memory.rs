//! Memory that arrays of numpy lie over: what a tensor gives up, and what another library lends by DLPack.

use std::ffi::{CStr, c_void};

use bytes::BytesMut;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyTuple};
use pyo3::{ffi, intern};
use sardonyx::{DType, Tensor};

/// The element types that DLPack has and numpy itself has not, with DLPack's code. Each takes whole bytes.
const CODES: [(DType, u8); 6] = [
    (DType::BF16, 4),
    (DType::F8E4M3FN, 10),
    (DType::F8E4M3FNUZ, 11),
    (DType::F8E5M2, 12),
    (DType::F8E5M2FNUZ, 13),
    (DType::F8E8M0, 14),
];

/// DLPack's number of the processor's memory.
pub(crate) const CPU: (i32, i32) = (1, 0);

// The structures of dlpack.h, before its version 1.
#[repr(C)]
struct DlTensor {
    data: *mut u8,
    device: [i32; 2],
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct DlManaged {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut DlManaged)>,
}

const FRESH: &CStr = c"dltensor";
const USED: &CStr = c"used_dltensor";

/// What keeps memory alive. Its fields are not read.
#[allow(dead_code)]
enum Owner {
    Bytes(BytesMut),
    Library(Managed),
}

/// What another library lends. Dropping it gives that back.
struct Managed(*mut DlManaged);

// SAFETY: DLPack says that the deleter may be called from any thread.
#[allow(unsafe_code)]
unsafe impl Send for Managed {}
// SAFETY: nothing is reached through a reference to it.
#[allow(unsafe_code)]
unsafe impl Sync for Managed {}

impl Drop for Managed {
    fn drop(&mut self) {
        // SAFETY: the pointer is the one of a capsule that was renamed, so that this is its only owner.
        #[allow(unsafe_code)]
        unsafe {
            if let Some(deleter) = (*self.0).deleter {
                deleter(self.0);
            }
        }
    }
}

/// Memory as `__array_interface__` describes it. An array over it keeps it.
#[pyclass(module = "sardonyx._native", frozen)]
pub(crate) struct Memory {
    _owner: Owner,
    start: usize,
    /// The bytes of an element, which numpy sees as an unsigned integer.
    width: usize,
    shape: Vec<usize>,
    /// In bytes.
    strides: Option<Vec<isize>>,
}

impl Memory {
    /// The bytes of a tensor, which nobody else has.
    pub(crate) fn new(mut bytes: BytesMut) -> Memory {
        let (start, shape) = (bytes.as_mut_ptr() as usize, vec![bytes.len()]);
        Memory { _owner: Owner::Bytes(bytes), start, width: 1, shape, strides: None }
    }
}

#[pymethods]
impl Memory {
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface
            .set_item("typestr", format!("{}u{}", if self.width == 1 { '|' } else { '<' }, self.width))?;
        interface.set_item("shape", PyTuple::new(py, &self.shape)?)?;
        interface.set_item("data", (self.start, false))?;
        interface.set_item(
            "strides",
            self.strides.as_ref().map(|strides| PyTuple::new(py, strides)).transpose()?,
        )?;
        Ok(interface)
    }
}

/// Bytes of the caller's own: those of the tensor, unless somebody shares them.
pub(crate) fn own(tensor: Tensor) -> BytesMut {
    tensor.into_bytes().try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()))
}

/// The element type and the elements, as unsigned integers, of an array in the memory of the processor that numpy does not take; `None` where
/// its element type is none that only DLPack has.
#[pyfunction]
pub(crate) fn lent(value: &Bound<'_, PyAny>) -> PyResult<Option<(&'static str, Memory)>> {
    let py = value.py();
    if value.call_method0(intern!(py, "__dlpack_device__"))?.extract::<(i32, i32)>()? != CPU {
        return Ok(None);
    }
    let capsule = value.call_method0(intern!(py, "__dlpack__"))?.cast_into::<PyCapsule>()?;
    // SAFETY: a capsule of this name holds this structure, and its owner is who renames it.
    #[allow(unsafe_code)]
    let managed = unsafe {
        let pointer = ffi::PyCapsule_GetPointer(capsule.as_ptr(), FRESH.as_ptr());
        if pointer.is_null() {
            return Err(PyErr::fetch(py));
        }
        if ffi::PyCapsule_SetName(capsule.as_ptr(), USED.as_ptr()) != 0 {
            return Err(PyErr::fetch(py));
        }
        Managed(pointer.cast())
    };
    // SAFETY: the structure lives until its deleter is called.
    #[allow(unsafe_code)]
    let tensor = unsafe { &(*managed.0).tensor };
    let is_it = |&&(dtype, code): &&(DType, u8)| (code, dtype.bits()) == (tensor.code, tensor.bits.into());
    let Some(&(dtype, _)) = CODES.iter().find(is_it).filter(|_| tensor.lanes == 1) else { return Ok(None) };
    let (width, ndim) = (dtype.bits() / 8, usize::try_from(tensor.ndim)?);
    // SAFETY: each list has `ndim` numbers; that of the strides may be missing, as that of the sizes of a scalar.
    #[allow(unsafe_code)]
    let list = |start: *const i64| match start.is_null() || ndim == 0 {
        true => &[][..],
        false => unsafe { std::slice::from_raw_parts(start, ndim) },
    };
    let shape = list(tensor.shape).iter().map(|&size| usize::try_from(size)).collect::<Result<_, _>>()?;
    let bytes = |&stride: &i64| isize::try_from(stride * width as i64);
    let strides = match tensor.strides.is_null() {
        true => None,
        false => Some(list(tensor.strides).iter().map(bytes).collect::<Result<_, _>>()?),
    };
    let start = tensor.data as usize + usize::try_from(tensor.byte_offset)?;
    Ok(Some((dtype.name(), Memory { _owner: Owner::Library(managed), start, width, shape, strides })))
}

/// A tensor that DLPack has lent, with what its structure points to.
struct Export {
    managed: DlManaged,
    shape: Vec<i64>,
    strides: Vec<i64>,
    bytes: BytesMut,
}

/// Frees an export, once its taker is done with it.
///
/// # Safety
/// `managed` is from [`capsule`], and nobody uses it afterwards.
#[allow(unsafe_code)]
unsafe extern "C" fn free(managed: *mut DlManaged) {
    // SAFETY: the context is the box of the export, as `capsule` set it.
    unsafe { drop(Box::from_raw((*managed).context.cast::<Export>())) }
}

/// Frees what a capsule holds, if nobody took it.
///
/// # Safety
/// `capsule` is from [`capsule`].
#[allow(unsafe_code)]
unsafe extern "C" fn free_untaken(capsule: *mut ffi::PyObject) {
    // SAFETY: who takes what it holds renames the capsule.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, FRESH.as_ptr()) == 1 {
            free(ffi::PyCapsule_GetPointer(capsule, FRESH.as_ptr()).cast());
        }
    }
}

/// Whether DLPack has the element type, and numpy itself has not.
pub(crate) fn is_foreign(dtype: DType) -> bool {
    CODES.iter().any(|&(own, _)| own == dtype)
}

/// The capsule of DLPack over the elements of a tensor whose type [`is_foreign`].
pub(crate) fn capsule(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyAny>> {
    let dtype = tensor.dtype();
    let Some(&(_, code)) = CODES.iter().find(|&&(own, _)| own == dtype) else {
        return Err(PyBufferError::new_err(format!("DLPack has no {dtype}")));
    };
    let shape: Vec<i64> = tensor.shape().iter().map(|&size| size as i64).collect();
    let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
    let parts = DlTensor {
        data: std::ptr::null_mut(),
        device: CPU.into(),
        ndim: shape.len() as i32,
        code,
        bits: dtype.bits() as u8,
        lanes: 1,
        shape: std::ptr::null_mut(),
        strides: std::ptr::null_mut(),
        byte_offset: 0,
    };
    let managed = DlManaged { tensor: parts, context: std::ptr::null_mut(), deleter: Some(free) };
    let export = Box::into_raw(Box::new(Export { managed, shape, strides, bytes: own(tensor) }));
    // SAFETY: the export stays where it is until `free` takes it.
    #[allow(unsafe_code)]
    unsafe {
        let Export { managed, shape, strides, bytes } = &mut *export;
        managed.tensor.data = bytes.as_mut_ptr();
        managed.tensor.shape = shape.as_mut_ptr();
        managed.tensor.strides = strides.as_mut_ptr();
        managed.context = export.cast();
        let capsule =
            ffi::PyCapsule_New(std::ptr::from_mut(managed).cast(), FRESH.as_ptr(), Some(free_untaken));
        if capsule.is_null() {
            free(managed);
        }
        Bound::from_owned_ptr_or_err(py, capsule)
    }
}
