//! Arrays as tensors, and tensors as arrays. What is no plain array of numpy, `sardonyx/_arrays.py` makes one of.

use bytes::Bytes;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use sardonyx::{DType, Datum, DeviceTensor, Input, Kind, Known, Outputs, Tensor, ValueInfo};

use crate::device::{PyDevice, keep_at_end};
use crate::error::{detached, exception};
use crate::memory::{self, CPU, Memory};

fn dtype_named(name: &str) -> PyResult<DType> {
    DType::all()
        .find(|dtype| dtype.name() == name)
        .ok_or_else(|| PyTypeError::new_err(format!("no element type is called {name}")))
}

/// What conversions take of numpy and of `_arrays.py`.
struct Numpy {
    ndarray: Py<PyType>,
    empty: Py<PyAny>,
    /// All element types, in the order of [`DType::all`].
    all: Vec<DType>,
    /// The place in `all` of numpy's own element types.
    numbers: Py<PyDict>,
    /// These types by name.
    types: Py<PyDict>,
    plain: Py<PyAny>,
    viewed: Py<PyAny>,
    formed: Py<PyAny>,
    texts: Py<PyAny>,
    mapping: Py<PyAny>,
    outputs: Py<PyAny>,
}

/// numpy, which is imported with the first array.
fn numpy(py: Python<'_>) -> PyResult<&'static Numpy> {
    static NUMPY: PyOnceLock<Numpy> = PyOnceLock::new();
    NUMPY.get_or_try_init(py, || {
        let own = py.import("sardonyx._arrays")?;
        let part = |name| Ok::<_, PyErr>(own.getattr(name)?.unbind());
        let types = own.getattr("TYPES")?.cast_into::<PyDict>()?;
        let numbers = PyDict::new(py);
        let all: Vec<DType> = DType::all().collect();
        for (number, dtype) in all.iter().enumerate() {
            if let Some(own) = types.get_item(dtype.name())? {
                numbers.set_item(own, number)?;
            }
        }
        Ok(Numpy {
            ndarray: own.getattr("ndarray")?.cast_into::<PyType>()?.unbind(),
            empty: part("empty")?,
            all,
            numbers: numbers.unbind(),
            types: types.unbind(),
            plain: part("plain")?,
            viewed: part("viewed")?,
            formed: part("formed")?,
            texts: part("texts")?,
            mapping: part("mapping")?,
            outputs: py.import("sardonyx._outputs")?.getattr("Outputs")?.unbind(),
        })
    })
}

/// The memory of an array, which the array keeps.
struct Lent {
    _array: Py<PyAny>,
    start: *const u8,
    len: usize,
}

// SAFETY: the memory belongs to no thread.
#[allow(unsafe_code)]
unsafe impl Send for Lent {}
// SAFETY: it is only read.
#[allow(unsafe_code)]
unsafe impl Sync for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: numpy gave place and length of the array's memory, and neither changes while somebody refers to the array. A
        // program that writes elements while a run reads them computes with either.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start, self.len)
        }
    }
}

/// The address of the elements of an array of numpy, in one piece.
fn address(interface: &Bound<'_, PyDict>) -> PyResult<usize> {
    let py = interface.py();
    let data = interface.get_item(intern!(py, "data"))?;
    let data = data.ok_or_else(|| PyTypeError::new_err("an array has no memory"))?;
    Ok(data.extract::<(usize, bool)>()?.0)
}

/// Arrays from this size on are read where they lie.
const LENT: usize = 64 << 10;

/// The tensor over the memory of an array of numpy, in one piece.
fn over(
    array: &Bound<'_, PyAny>,
    interface: &Bound<'_, PyDict>,
    dtype: DType,
    shape: &[usize],
) -> PyResult<Tensor> {
    let len = array.getattr(intern!(array.py(), "nbytes"))?.extract()?;
    let lent = Lent { _array: array.clone().unbind(), start: address(interface)? as *const u8, len };
    // Lists of integers may decide shapes. A plan remembers these, so the program must not change them.
    let copied = len < LENT || (shape.len() < 2 && dtype.is_int());
    let bytes = match (len, copied) {
        (0, _) => Bytes::new(),
        (_, true) => Bytes::copy_from_slice(lent.as_ref()),
        (_, false) => Bytes::from_owner(lent),
    };
    Tensor::from_raw(dtype, shape, bytes).map_err(|error| exception(array.py(), error))
}

fn interface<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    Ok(array.getattr(intern!(array.py(), "__array_interface__"))?.cast_into()?)
}

/// The tensor of an array of any library, or of a list or number, which becomes an array of `wanted`.
pub(crate) fn tensor(value: &Bound<'_, PyAny>, wanted: Option<DType>) -> PyResult<Tensor> {
    let py = value.py();
    let numpy = numpy(py)?;
    if value.get_type().is(&numpy.ndarray)
        && let Some(number) = numpy.numbers.bind(py).get_item(value.getattr(intern!(py, "dtype"))?)?
    {
        let interface = interface(value)?;
        let strides = interface.get_item(intern!(py, "strides"))?;
        if strides.is_none_or(|strides| strides.is_none()) {
            let shape: Vec<usize> = value.getattr(intern!(py, "shape"))?.extract()?;
            return over(value, &interface, numpy.all[number.extract::<usize>()?], &shape);
        }
    }
    let plain = numpy.plain.bind(py).call1((value, wanted.map(DType::name)))?;
    let (name, shape, array): (String, Vec<usize>, Bound<'_, PyAny>) = plain.extract()?;
    match dtype_named(&name)? {
        DType::String => Tensor::from_strings(&shape, array.extract()?).map_err(|error| exception(py, error)),
        dtype => over(&array, &interface(&array)?, dtype, &shape),
    }
}

/// A value that is a tensor, or the container that the model declares.
fn datum(value: &Bound<'_, PyAny>, kind: &Kind) -> PyResult<Datum> {
    Ok(match kind {
        Kind::Sequence(element) => {
            let elements = value.try_iter()?.map(|each| datum(&each?, element));
            Datum::from(elements.collect::<PyResult<Vec<_>>>()?)
        }
        Kind::Optional(_) if value.is_none() => Datum::Optional(None),
        Kind::Optional(content) => Datum::Optional(Some(datum(value, content)?.into())),
        Kind::Map => {
            let map = value.cast::<PyDict>()?;
            let (keys, values) = (tensor(&map.keys(), None)?, tensor(&map.values(), None)?);
            Datum::map(keys, values).map_err(|error| exception(value.py(), error))?
        }
        Kind::Tensor(dtype) => tensor(value, *dtype)?.into(),
        _ => tensor(value, None)?.into(),
    })
}

/// A value for a run.
pub(crate) enum Fed {
    Host(Datum),
    Device(DeviceTensor),
}

impl Fed {
    pub(crate) fn of(value: &Bound<'_, PyAny>, declared: Option<&ValueInfo>) -> PyResult<Fed> {
        if let Ok(array) = value.cast::<DeviceArray>() {
            return Ok(Fed::Device(array.get().here(value.py())?.clone()));
        }
        let container = declared.and_then(|info| info.container.as_ref());
        Ok(Fed::Host(match container {
            Some(kind) => datum(value, kind)?,
            None => tensor(value, declared.and_then(|info| info.dtype))?.into(),
        }))
    }

    /// The shape of a tensor; empty for a container.
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Fed::Host(Datum::Tensor(tensor)) => tensor.shape(),
            Fed::Host(_) => &[],
            Fed::Device(tensor) => tensor.shape(),
        }
    }

    pub(crate) fn input(&self) -> Input<'_> {
        match self {
            Fed::Host(datum) => datum.into(),
            Fed::Device(tensor) => tensor.into(),
        }
    }
}

/// What is known of an input: its shape, which is a tuple, or its value.
pub(crate) fn known(value: &Bound<'_, PyAny>, declared: Option<&ValueInfo>) -> PyResult<Known> {
    if let Ok(shape) = value.cast::<PyTuple>() {
        return Ok(Known::Shape(shape.extract()?));
    }
    match Fed::of(value, declared)? {
        Fed::Host(datum) => Ok(Known::from(&datum)),
        Fed::Device(tensor) => Ok(Known::Shape(tensor.shape().to_vec())),
    }
}

/// A tensor: of zeros, if only its shape is given, as a tuple.
pub(crate) fn on_host(value: &Bound<'_, PyAny>, declared: Option<&ValueInfo>) -> PyResult<Tensor> {
    let py = value.py();
    if let Ok(shape) = value.cast::<PyTuple>() {
        let (shape, dtype): (Vec<usize>, _) = (shape.extract()?, declared.and_then(|info| info.dtype));
        return Tensor::zeros(dtype.unwrap_or(DType::F32), &shape).map_err(|error| exception(py, error));
    }
    match Fed::of(value, declared)? {
        Fed::Host(Datum::Tensor(tensor)) => Ok(tensor),
        Fed::Host(_) => Err(PyTypeError::new_err("this takes tensors, and no containers")),
        Fed::Device(tensor) => detached(py, || tensor.read()),
    }
}

/// An array of the caller's own, over the tensor's elements if these are many and nobody else has them.
pub(crate) fn array<'py>(py: Python<'py>, tensor: Tensor) -> PyResult<Bound<'py, PyAny>> {
    let numpy = numpy(py)?;
    let (shape, dtype) = (PyTuple::new(py, tensor.shape())?, tensor.dtype());
    if let Some(texts) = tensor.strings() {
        return numpy.texts.bind(py).call1((texts, shape));
    }
    let bytes = tensor.into_bytes();
    let len = PyTuple::new(py, [bytes.len()])?;
    let filled = |shape: Bound<'py, PyTuple>, own: Bound<'py, PyAny>| {
        let bytes = match bytes {
            large if large.len() >= LENT => match large.try_into_mut() {
                Ok(bytes) => return numpy.viewed.bind(py).call1((Memory::new(bytes), own, shape)),
                Err(shared) => shared,
            },
            small => small,
        };
        let array = numpy.empty.bind(py).call1((shape, own))?;
        let start = address(&interface(&array)?)? as *mut u8;
        // SAFETY: numpy has just made this array of as many bytes, and nobody else has it.
        #[allow(unsafe_code)]
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
        }
        Ok::<_, PyErr>(array)
    };
    let (types, name) = (numpy.types.bind(py), dtype.name());
    if let Some(own) = types.get_item(name)? {
        return filled(shape, own);
    }
    let own = types.get_item("uint8")?.ok_or_else(|| PyTypeError::new_err("numpy has no uint8"))?;
    let raw = filled(len, own)?;
    numpy.formed.bind(py).call1((name, raw, shape))
}

fn value(py: Python<'_>, datum: Datum) -> PyResult<Bound<'_, PyAny>> {
    match datum {
        Datum::Tensor(tensor) => array(py, tensor),
        Datum::Sequence(elements) => {
            let elements = elements.iter().map(|each| value(py, each.clone()));
            Ok(PyList::new(py, elements.collect::<PyResult<Vec<_>>>()?)?.into_any())
        }
        Datum::Optional(None) => Ok(py.None().into_bound(py)),
        Datum::Optional(Some(content)) => value(py, (*content).clone()),
        Datum::Map { keys, values, .. } => {
            numpy(py)?.mapping.bind(py).call1((array(py, keys)?, array(py, values)?))
        }
        other => Err(PyTypeError::new_err(format!("an output is a {}", other.kind()))),
    }
}

/// The outputs of a run, by name, in the order in which they are wanted.
pub(crate) fn outputs<'py>(
    py: Python<'py>,
    made: Outputs<Datum>,
    wanted: Option<&[String]>,
) -> PyResult<Bound<'py, PyAny>> {
    let all = PyDict::new(py);
    for (name, datum) in made {
        all.set_item(name, value(py, datum)?)?;
    }
    let Some(wanted) = wanted else { return numpy(py)?.outputs.bind(py).call1((all,)) };
    let chosen = PyDict::new(py);
    for name in wanted {
        if let Some(array) = all.get_item(name)? {
            chosen.set_item(name, array)?;
        }
    }
    numpy(py)?.outputs.bind(py).call1((chosen,))
}

/// The outputs of a run that stay on the device, by name.
pub(crate) fn placed<'py>(py: Python<'py>, made: Outputs<DeviceTensor>) -> PyResult<Bound<'py, PyAny>> {
    let all = PyDict::new(py);
    for (name, tensor) in made {
        all.set_item(name, DeviceArray::new_here(tensor))?;
    }
    numpy(py)?.outputs.bind(py).call1((all,))
}

/// A tensor in the memory of a device.
#[pyclass(module = "sardonyx", frozen)]
pub(crate) struct DeviceArray {
    tensor: DeviceTensor,
    process: u32,
}

impl Drop for DeviceArray {
    fn drop(&mut self) {
        keep_at_end(&self.tensor);
    }
}

impl DeviceArray {
    pub(crate) fn new_here(tensor: DeviceTensor) -> DeviceArray {
        DeviceArray { tensor, process: std::process::id() }
    }

    /// The tensor, in the process that made it.
    fn here(&self, py: Python<'_>) -> PyResult<&DeviceTensor> {
        if self.tensor.is_on_host() || self.process == std::process::id() {
            return Ok(&self.tensor);
        }
        let reason = "a DeviceArray that was made before this process was forked is of no use in it".into();
        Err(exception(py, sardonyx::Error::Tensor(reason)))
    }
}

#[pymethods]
impl DeviceArray {
    #[new]
    #[pyo3(signature = (array, device = None))]
    fn new(array: &Bound<'_, PyAny>, device: Option<&Bound<'_, PyAny>>) -> PyResult<DeviceArray> {
        let (tensor, device, py) = (tensor(array, None)?, PyDevice::of(array.py(), device)?, array.py());
        detached(py, || {
            let device = device.here()?;
            // The reference keeps the tensor itself, and the program may write into its array.
            let own = match device.is_reference() && tensor.strings().is_none() {
                true => Tensor::from_raw(tensor.dtype(), tensor.shape(), tensor.bytes().to_vec())?,
                false => tensor,
            };
            Ok(DeviceArray::new_here(DeviceTensor::new(device, &own)?))
        })
    }

    #[staticmethod]
    #[pyo3(signature = (shape, dtype = "float32", device = None))]
    fn zeros(
        py: Python<'_>,
        shape: Vec<usize>,
        dtype: &str,
        device: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<DeviceArray> {
        let (dtype, device) = (dtype_named(dtype)?, PyDevice::of(py, device)?);
        detached(py, || Ok(DeviceArray::new_here(DeviceTensor::zeros(device.here()?, dtype, &shape)?)))
    }

    /// A copy in memory with room for `rows` rows along `axis`, to which runs append in place.
    fn with_room(&self, py: Python<'_>, axis: usize, rows: usize) -> PyResult<DeviceArray> {
        let tensor = self.here(py)?;
        detached(py, || Ok(DeviceArray::new_here(tensor.with_room(axis, rows)?)))
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        self.tensor.dtype().name()
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.tensor.shape())
    }

    /// A copy of the elements, after the runs that write them.
    fn numpy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let tensor = self.here(py)?;
        array(py, detached(py, || tensor.read())?)
    }

    #[pyo3(signature = (dtype = None, copy = None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if copy == Some(false) {
            let reason = "a DeviceArray lies on its device, and its elements must be copied";
            return Err(pyo3::exceptions::PyValueError::new_err(reason));
        }
        let array = self.numpy(py)?;
        match dtype {
            Some(dtype) => array.call_method1("astype", (dtype,)),
            None => Ok(array),
        }
    }

    #[pyo3(signature = (**options))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let device = options.map(|options| options.get_item("dl_device")).transpose()?.flatten();
        let is_here = device.is_none_or(|device| {
            device.is_none() || device.extract().is_ok_and(|asked: (i32, i32)| asked == CPU)
        });
        if !is_here {
            return Err(PyBufferError::new_err(
                "a DeviceArray is copied to the memory of the processor, and to no other device",
            ));
        }
        if memory::is_foreign(self.tensor.dtype()) {
            let tensor = self.here(py)?;
            return memory::capsule(py, detached(py, || tensor.read())?);
        }
        self.numpy(py)?.call_method("__dlpack__", (), options)
    }

    /// The CPU, to which `__dlpack__` copies the elements.
    fn __dlpack_device__(&self) -> (i32, i32) {
        CPU
    }

    fn __repr__(&self) -> String {
        format!("DeviceArray({}{:?})", self.tensor.dtype(), self.tensor.shape())
    }
}
