//! Numbers of every dtype: rounding an f64 to a float type, wrapping an i128 to an integer type, and the packed bytes
//! of both (4- and 2-bit types: low bits first, as ONNX packs them).

use half::{bf16, f16};

use super::array::{Array, Numbers};
use crate::error::{Why, refuse};
use crate::{DType, Tensor};

/// `value` rounded to the nearest number of `dtype`, ties to even; overflow as IEEE 754 does (ONNX's float8 casts
/// saturate, and do so in `Cast`).
pub(crate) fn round_float(dtype: DType, value: f64) -> f64 {
    match dtype {
        DType::F32 => f64::from(value as f32),
        DType::F16 => f16::from_f64(value).to_f64(),
        DType::BF16 => bf16::from_f64(value).to_f64(),
        _ => value,
    }
}

/// `value` wrapped to `dtype` as two's complement does; bool is "not zero".
pub(crate) fn wrap_int(dtype: DType, value: i128) -> i128 {
    match dtype.int_range() {
        Some((low, high)) => (value - low).rem_euclid(high - low + 1) + low,
        None => i128::from(value != 0),
    }
}

/// Reads a host tensor.
pub(crate) fn decode(tensor: &Tensor) -> Result<Array, Why> {
    fn all<T: bytemuck::Pod, N>(bytes: &[u8], to: impl Fn(T) -> N) -> Vec<N> {
        bytemuck::pod_collect_to_vec::<u8, T>(bytes).into_iter().map(to).collect()
    }
    let bytes = tensor.bytes();
    let data = match tensor.dtype() {
        DType::String => Numbers::Text(tensor.strings().unwrap_or_default().to_vec()),
        DType::F32 => Numbers::Float(all::<f32, _>(bytes, f64::from)),
        DType::F64 => Numbers::Float(all::<f64, _>(bytes, |v| v)),
        DType::F16 => Numbers::Float(all::<f16, _>(bytes, f64::from)),
        DType::BF16 => Numbers::Float(all::<bf16, _>(bytes, f64::from)),
        DType::I8 => Numbers::Int(all::<i8, _>(bytes, i128::from)),
        DType::U8 => Numbers::Int(all::<u8, _>(bytes, i128::from)),
        DType::Bool => Numbers::Int(all::<u8, _>(bytes, |v| i128::from(v != 0))),
        DType::I16 => Numbers::Int(all::<i16, _>(bytes, i128::from)),
        DType::U16 => Numbers::Int(all::<u16, _>(bytes, i128::from)),
        DType::I32 => Numbers::Int(all::<i32, _>(bytes, i128::from)),
        DType::U32 => Numbers::Int(all::<u32, _>(bytes, i128::from)),
        DType::I64 => Numbers::Int(all::<i64, _>(bytes, i128::from)),
        DType::U64 => Numbers::Int(all::<u64, _>(bytes, i128::from)),
        other => refuse!("the reference has no numbers of type {other}"),
    };
    Ok(Array { dtype: tensor.dtype(), shape: tensor.shape().to_vec(), data })
}

/// Writes a host tensor. Values are in range: an [`Array`] is rounded when it is made.
pub(crate) fn encode(array: &Array) -> Result<Tensor, Why> {
    fn all<T: bytemuck::Pod, N: Copy>(values: &[N], to: impl Fn(N) -> T) -> Vec<u8> {
        bytemuck::cast_slice(&values.iter().map(|&v| to(v)).collect::<Vec<T>>()).to_vec()
    }
    let raw = match (&array.data, array.dtype) {
        (Numbers::Text(v), _) => {
            return Tensor::from_strings(&array.shape, v.clone()).map_err(|e| Why(e.to_string()));
        }
        (Numbers::Float(v), DType::F32) => all(v, |v| v as f32),
        (Numbers::Float(v), DType::F64) => all(v, |v| v),
        (Numbers::Float(v), DType::F16) => all(v, f16::from_f64),
        (Numbers::Float(v), DType::BF16) => all(v, bf16::from_f64),
        (Numbers::Int(v), DType::I8) => all(v, |v| v as i8),
        (Numbers::Int(v), DType::U8 | DType::Bool) => all(v, |v| v as u8),
        (Numbers::Int(v), DType::I16) => all(v, |v| v as i16),
        (Numbers::Int(v), DType::U16) => all(v, |v| v as u16),
        (Numbers::Int(v), DType::I32) => all(v, |v| v as i32),
        (Numbers::Int(v), DType::U32) => all(v, |v| v as u32),
        (Numbers::Int(v), DType::I64) => all(v, |v| v as i64),
        (Numbers::Int(v), DType::U64) => all(v, |v| v as u64),
        (_, other) => refuse!("the reference has no numbers of type {other}"),
    };
    Tensor::from_raw(array.dtype, &array.shape, raw).map_err(|e| Why(e.to_string()))
}

/// ONNX's `Cast` between number types: floats truncate toward zero and wrap, "not zero" is true; a float8 saturates if
/// `saturate`.
pub(crate) fn cast(array: &Array, to: DType, _saturate: bool) -> Result<Array, Why> {
    let (shape, float) = (&array.shape, to.is_float());
    Ok(match &array.data {
        Numbers::Float(v) if float => Array::float(to, shape, v.clone()),
        Numbers::Float(v) if to == DType::Bool => Array::bools(shape, v.iter().map(|&x| x != 0.0).collect()),
        Numbers::Float(v) => Array::int(to, shape, v.iter().map(|&x| x.trunc() as i128).collect()),
        Numbers::Int(v) if float => Array::float(to, shape, v.iter().map(|&x| x as f64).collect()),
        Numbers::Int(v) => Array::int(to, shape, v.clone()),
        Numbers::Text(_) => refuse!("a cast from strings is not supported"),
    })
}
