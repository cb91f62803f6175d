//! Numbers of every dtype: rounding an f64 to a float type, wrapping an i128 to an integer type, and the packed bytes
//! of both (4- and 2-bit types: low bits first, as ONNX packs them).

use half::{bf16, f16};

use super::array::{Array, Numbers};
use crate::error::{Why, refuse};
use crate::small::{self, Format, RoundMode};
use crate::{DType, Tensor};

/// `value` rounded to the nearest number of `dtype`, ties to even; overflow as IEEE 754 does (ONNX's float8 casts
/// saturate, and do so in `Cast`).
pub(crate) fn round_float(dtype: DType, value: f64) -> f64 {
    match dtype {
        DType::F32 => f64::from(value as f32),
        DType::F16 => f16::from_f64(value).to_f64(),
        DType::BF16 => bf16::from_f64(value).to_f64(),
        DType::F8E8M0 => small::round_e8m0(value, RoundMode::Up, true),
        _ => Format::of(dtype).map_or(value, |format| format.round(value)),
    }
}

/// `value` wrapped to `dtype` as two's complement does; bool is "not zero".
pub(crate) fn wrap_int(dtype: DType, value: i128) -> i128 {
    match dtype.int_range() {
        // The range is a power of two, so wrapping at 128 bits before changes nothing.
        Some((low, high)) => value.wrapping_sub(low).rem_euclid(high - low + 1) + low,
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
        other => {
            let codes = || small::unpack(bytes, other.bits(), tensor.len()).into_iter();
            match Format::of(other) {
                Some(format) => Numbers::Float(codes().map(|code| format.decode(code)).collect()),
                None if other == DType::F8E8M0 => Numbers::Float(codes().map(small::decode_e8m0).collect()),
                None if other.is_int() => {
                    Numbers::Int(codes().map(|code| wrap_int(other, code.into())).collect())
                }
                None => refuse!("the reference has no numbers of type {other}"),
            }
        }
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
        (Numbers::Float(v), DType::F8E8M0) => v.iter().map(|&v| small::encode_e8m0(v)).collect(),
        (Numbers::Float(v), dtype) if let Some(format) = Format::of(dtype) => {
            let codes: Vec<u8> = v.iter().map(|&v| format.encode(v)).collect();
            small::pack(&codes, dtype.bits())
        }
        (Numbers::Int(v), dtype) if dtype.is_int() => {
            let codes: Vec<u8> = v.iter().map(|&v| v as u8).collect();
            small::pack(&codes, dtype.bits())
        }
        (_, other) => refuse!("the reference has no numbers of type {other}"),
    };
    Tensor::from_raw(array.dtype, &array.shape, raw).map_err(|e| Why(e.to_string()))
}

/// ONNX's `Cast`: floats truncate toward zero and wrap, "not zero" is true; a float8 saturates if `saturate`.
pub(crate) fn cast(array: &Array, to: DType, saturate: bool) -> Result<Array, Why> {
    cast_rounded(array, to, saturate, RoundMode::Up)
}

/// [`cast`], with the way in which a number becomes a float8e8m0.
pub(crate) fn cast_rounded(array: &Array, to: DType, saturate: bool, mode: RoundMode) -> Result<Array, Why> {
    let shape = &array.shape;
    if to == DType::String {
        return Ok(Array::text(shape, texts(array)));
    }
    let float = |x: f64| match Format::of(to) {
        Some(format) if saturate => x.clamp(-format.most, format.most),
        None if to == DType::F8E8M0 => small::round_e8m0(x, mode, saturate),
        _ => x,
    };
    Ok(match &array.data {
        Numbers::Float(v) if to.is_float() => Array::float(to, shape, v.iter().map(|&x| float(x)).collect()),
        Numbers::Float(v) if to == DType::Bool => Array::bools(shape, v.iter().map(|&x| x != 0.0).collect()),
        Numbers::Float(v) => Array::int(to, shape, v.iter().map(|&x| x.trunc() as i128).collect()),
        Numbers::Int(v) if to.is_float() => {
            Array::float(to, shape, v.iter().map(|&x| float(x as f64)).collect())
        }
        Numbers::Int(v) => Array::int(to, shape, v.clone()),
        Numbers::Text(v) => {
            let values = v.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
            return cast_rounded(&Array::float(DType::F64, shape, values), to, saturate, mode);
        }
    })
}

/// A number's text. Rust accepts the case-insensitive "inf" and "nan" that ONNX reserves.
fn parse(text: &str) -> Result<f64, Why> {
    text.trim().parse().map_err(|_| Why(format!("the string '{text}' is no number")))
}

fn texts(array: &Array) -> Vec<String> {
    let float = |v: f64| match v {
        _ if v.is_nan() => "NaN".into(),
        _ if v.is_infinite() => if v > 0.0 { "INF" } else { "-INF" }.into(),
        _ if array.dtype == DType::F64 => v.to_string(),
        _ => (v as f32).to_string(),
    };
    match &array.data {
        Numbers::Float(v) => v.iter().map(|&v| float(v)).collect(),
        Numbers::Int(v) => v.iter().map(|v| v.to_string()).collect(),
        Numbers::Text(v) => v.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_numbers_and_back() {
        let strings = ["1e-5", "-INF", "+inf", "NaN", "100"].map(String::from).to_vec();
        let floats = cast(&Array::text(&[5], strings), DType::F32, true).unwrap();
        let texts = cast(&floats, DType::String, true).unwrap();
        assert_eq!(
            texts.data,
            Numbers::Text(["0.00001", "-INF", "INF", "NaN", "100"].map(String::from).to_vec())
        );
        assert!(cast(&Array::text(&[1], vec!["onyx".into()]), DType::F32, true).is_err());
    }

    #[test]
    fn small_elements_round_trip() {
        for (dtype, bytes, count) in [
            (DType::I4, vec![0xf8, 0x07], 3),
            (DType::U2, vec![0b11_10_01_00], 4),
            (DType::F4E2M1, vec![0x7f, 0x01], 3),
            (DType::F8E5M2, vec![0x7b, 0xfc], 2),
            (DType::F8E8M0, vec![0, 254, 255], 3),
        ] {
            let tensor = Tensor::from_raw(dtype, &[count], bytes).unwrap();
            assert_eq!(encode(&decode(&tensor).unwrap()).unwrap(), tensor);
        }
    }
}
