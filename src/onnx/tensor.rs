//! From `TensorProto` to `Tensor`, and back. Every count is checked against what the file holds before memory is allocated.

use bytes::Bytes;

use super::external::{External, FileBytes};
use super::proto::{TensorProto, tensor_proto::DataLocation};
use crate::error::{Why, refuse};
use crate::heap;
use crate::shape::{MAX_RANK, extent};
use crate::tensor::checked_count;
use crate::{DType, Error, Result, Tensor, small};

/// The tensor of an initializer or an attribute.
pub(super) fn import(proto: &TensorProto, external: &mut External) -> Result<Tensor> {
    let invalid = |reason| Error::invalid(format!("tensor '{}' {reason}", proto.name));
    let named = |why: Why| why.error(format_args!("tensor '{}'", proto.name), invalid);
    let dtype = dtype(proto).map_err(named)?;
    let shape = shape(&proto.dims).map_err(named)?;
    let (count, size) = size(dtype, &shape).map_err(named)?;
    if proto.segment.is_some() {
        return Err(named("is stored in segments, which are not supported".into()));
    }
    if proto.data_location == DataLocation::External as i32 {
        if dtype == DType::String {
            return Err(named("holds strings, which cannot be external data".into()));
        }
        let data = external.read(proto, size)?;
        return finish(dtype, &shape, data).map_err(named);
    }
    inline(proto, (dtype, &shape), (count, size), external).map_err(named)
}

/// A tensor that has no model around it.
pub(super) fn alone(proto: &TensorProto) -> Result<Tensor> {
    import(proto, &mut External::none())
}

fn dtype(proto: &TensorProto) -> Result<DType, Why> {
    match DType::from_onnx(proto.data_type) {
        Some(dtype) => Ok(dtype),
        None => refuse!("has the unknown data type {}", proto.data_type),
    }
}

fn shape(dims: &[i64]) -> Result<Vec<usize>, Why> {
    if dims.len() > MAX_RANK {
        refuse!("has {} dimensions, and at most {MAX_RANK} are supported", dims.len());
    }
    match dims.iter().map(|&d| usize::try_from(d).ok()).collect() {
        Some(shape) => Ok(shape),
        None => refuse!("has the impossible shape {dims:?}"),
    }
}

/// The number of elements, and of bytes in raw form.
fn size(dtype: DType, shape: &[usize]) -> Result<(usize, usize), Why> {
    let size = checked_count(shape).and_then(|count| Some((count, dtype.bytes_of(count)?)));
    // The sizes beside an empty axis count too: the product of some axes must fit as well.
    let fits = |count: usize| dtype.bytes_of(count).is_some_and(|bytes| isize::try_from(bytes).is_ok());
    match size.filter(|_| extent(shape).is_some_and(fits)) {
        Some(size) => Ok(size),
        None => refuse!("is too large: {dtype}{shape:?}"),
    }
}

fn inline(
    proto: &TensorProto,
    (dtype, shape): (DType, &[usize]),
    (count, size): (usize, usize),
    external: &External,
) -> Result<Tensor, Why> {
    if dtype == DType::String {
        return strings(proto, shape, count);
    }
    match &proto.raw_data {
        Some(raw) if raw.len() == size => finish(dtype, shape, external.own(raw.clone())),
        Some(raw) if !raw.is_empty() => {
            refuse!("is {dtype}{shape:?}, which takes {size} bytes, and it holds {}", raw.len())
        }
        _ => {
            let bytes = typed(proto, dtype, count, size)?.into();
            finish(dtype, shape, FileBytes { bytes, file: None })
        }
    }
}

/// Tensors of fewer bytes are copied from a mapped file, so that nothing depends on the file for their sake.
const SMALLEST_MAPPED: usize = 4096;

/// A tensor of these bytes. A bool other than 0 and 1 would be true to one kernel and false to another, so it is refused.
fn finish(dtype: DType, shape: &[usize], FileBytes { bytes, file }: FileBytes) -> Result<Tensor, Why> {
    if dtype == DType::Bool && bytes.iter().any(|&b| b > 1) {
        refuse!("is a bool tensor with values other than 0 and 1");
    }
    let tensor = match file {
        Some(_) if bytes.len() < SMALLEST_MAPPED => {
            Tensor::from_raw(dtype, shape, heap::copied(ELEMENTS, &bytes)?)
        }
        Some(file) => Tensor::from_raw(dtype, shape, bytes).map(|tensor| tensor.in_file(file)),
        None => Tensor::from_raw(dtype, shape, bytes),
    };
    tensor.map_err(|error| Why::from(error).map(|why| format!("cannot be used: {why}")))
}

fn strings(proto: &TensorProto, shape: &[usize], count: usize) -> Result<Tensor, Why> {
    expect("string_data", proto.string_data.len(), count)?;
    let bytes = proto.string_data.iter().map(|text| text.len() + size_of::<String>()).sum::<usize>();
    // A tensor copies the list of its strings.
    heap::ask(ELEMENTS, (bytes as u64).saturating_mul(2))?;
    let texts = proto.string_data.iter().map(|bytes| std::str::from_utf8(bytes).map(String::from));
    match texts.collect::<Result<Vec<String>, _>>() {
        Ok(texts) => Ok(Tensor::from_strings(shape, texts)?),
        Err(_) => refuse!("has a string that is not UTF-8"),
    }
}

/// What takes memory while a tensor is imported.
const ELEMENTS: &str = "its elements";

/// Refuses another number of values than is wanted, and asks for the memory of those.
fn expect(field: &str, found: usize, wanted: usize) -> Result<(), Why> {
    if found != wanted {
        refuse!("takes {wanted} values, and its {field} holds {found}");
    }
    /// The most bytes of a value.
    const VALUE: u64 = 8;
    Ok(heap::ask(ELEMENTS, (found as u64).saturating_mul(VALUE))?)
}

/// The raw form of a tensor whose elements are in one of the typed fields.
fn typed(proto: &TensorProto, dtype: DType, count: usize, size: usize) -> Result<Vec<u8>, Why> {
    use DType::*;
    match dtype {
        F32 | C64 => {
            expect("float_data", proto.float_data.len(), size / 4)?;
            Ok(proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        F64 | C128 => {
            expect("double_data", proto.double_data.len(), size / 8)?;
            Ok(proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        I64 => {
            expect("int64_data", proto.int64_data.len(), count)?;
            Ok(proto.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        U64 => {
            expect("uint64_data", proto.uint64_data.len(), count)?;
            Ok(proto.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        U32 => {
            expect("uint64_data", proto.uint64_data.len(), count)?;
            narrow(&proto.uint64_data, "uint32", |v| u32::try_from(v).ok().map(u32::to_le_bytes))
        }
        I32 => {
            expect("int32_data", proto.int32_data.len(), count)?;
            Ok(proto.int32_data.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        F6E2M3 | F6E3M2 => {
            expect("int32_data", proto.int32_data.len(), count)?;
            let code = |v: i32| u8::try_from(v).ok().filter(|&code| code < 64);
            let codes = narrow(&proto.int32_data, dtype.name(), |v| code(v).map(u8::to_le_bytes))?;
            Ok(small::pack(&codes, 6))
        }
        _ => {
            // 4- and 2-bit elements are packed into bytes, and each byte is one int32.
            let width = dtype.bits().div_ceil(8).max(1);
            expect("int32_data", proto.int32_data.len(), size / width)?;
            narrow_types(&proto.int32_data, dtype)
        }
    }
}

/// The elements of types of at most 16 bits, which int32_data holds as numbers or as bit patterns.
fn narrow_types(values: &[i32], dtype: DType) -> Result<Vec<u8>, Why> {
    use DType::*;
    match dtype {
        I16 => narrow(values, "int16", |v| i16::try_from(v).ok().map(i16::to_le_bytes)),
        U16 | F16 | BF16 => narrow(values, dtype.name(), |v| u16::try_from(v).ok().map(u16::to_le_bytes)),
        I8 => narrow(values, "int8", |v| i8::try_from(v).ok().map(i8::to_le_bytes)),
        // Writers differ in whether a packed byte is signed; its bits are the same.
        I4 | I2 => {
            let byte = |v: i32| u8::try_from(v).ok().or_else(|| i8::try_from(v).ok().map(|v| v as u8));
            narrow(values, dtype.name(), |v| byte(v).map(u8::to_le_bytes))
        }
        _ => narrow(values, dtype.name(), |v| u8::try_from(v).ok().map(u8::to_le_bytes)),
    }
}

fn narrow<T: Copy + std::fmt::Display, const N: usize>(
    values: &[T],
    name: &str,
    convert: impl Fn(T) -> Option<[u8; N]>,
) -> Result<Vec<u8>, Why> {
    let mut bytes = Vec::with_capacity(values.len() * N);
    for &value in values {
        match convert(value) {
            Some(element) => bytes.extend(element),
            None => refuse!("holds {value}, which is no {name}"),
        }
    }
    Ok(bytes)
}

/// The `TensorProto` of a tensor.
pub(super) fn export(tensor: &Tensor, name: &str) -> TensorProto {
    let strings = tensor.strings().unwrap_or_default();
    TensorProto {
        name: name.into(),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: tensor.dtype().onnx(),
        raw_data: (tensor.dtype() != DType::String).then(|| tensor.shared_bytes()),
        string_data: strings.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect(),
        ..TensorProto::default()
    }
}
