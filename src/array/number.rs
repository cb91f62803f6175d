//! Numbers of every dtype: rounding an f64 to a float type, wrapping an i128 to an integer type, and the packed bytes of both.
//! ONNX packs types of fewer than 8 bits low bits first.

use half::{bf16, f16};

use super::{Array, Numbers};
use crate::budget::Work;
use crate::error::{Why, refuse};
use crate::heap::{self, NoMemory};
use crate::small::{self, Format, RoundMode};
use crate::{DType, Tensor};

/// `value`, rounded to the nearest number of `dtype`, ties to even. Overflow is that of IEEE 754 (float8 casts of ONNX
/// saturate, which `Cast` does itself).
pub(crate) fn round_float(dtype: DType, value: f64) -> f64 {
    match dtype {
        // A NaN keeps its bits.
        _ if value.is_nan() && dtype.bits() >= 16 => value,
        DType::F32 => f64::from(value as f32),
        DType::F16 => f16::from_f64(value).to_f64(),
        DType::BF16 => bf16::from_f64(value).to_f64(),
        DType::F8E8M0 => small::round_e8m0(value, RoundMode::Up, true),
        _ => Format::of(dtype).map_or(value, |format| format.round(value)),
    }
}

/// `value`, wrapped to `dtype` in two's complement; every number but 0 is a true bool.
pub(crate) fn wrap_int(dtype: DType, value: i128) -> i128 {
    match dtype.int_range() {
        // The range is a power of two, so that an earlier wrap at 128 bits changes nothing.
        Some((low, high)) => value.wrapping_sub(low).rem_euclid(high - low + 1) + low,
        None => i128::from(value != 0),
    }
}

/// The NaN of `dtype` with these bits, as an f64 with the same bits at its upper end. A conversion would make a signalling NaN
/// quiet, which BitCast would then show.
fn widened_nan(dtype: DType, bits: u32) -> f64 {
    let (width, mantissa) = nan_layout(dtype);
    let sign = u64::from(bits >> (width - 1)) << 63;
    let fraction = u64::from(bits & ((1 << mantissa) - 1)) << (52 - mantissa);
    f64::from_bits(sign | 0x7ff << 52 | fraction)
}

/// The bits in `dtype` of a NaN; if all bits of its payload are cut off, those of a quiet NaN.
fn narrowed_nan(dtype: DType, value: f64) -> u32 {
    let (width, mantissa) = nan_layout(dtype);
    let sign = ((value.to_bits() >> 63) as u32) << (width - 1);
    let exponent = ((1u32 << (width - 1 - mantissa)) - 1) << mantissa;
    let fraction = (value.to_bits() >> (52 - mantissa)) as u32 & ((1 << mantissa) - 1);
    sign | exponent | if fraction == 0 { 1 << (mantissa - 1) } else { fraction }
}

/// The number of bits, and of bits in the mantissa.
fn nan_layout(dtype: DType) -> (u32, u32) {
    match dtype {
        DType::F16 => (16, 10),
        DType::BF16 => (16, 7),
        _ => (32, 23),
    }
}

fn from_f32(v: f32) -> f64 {
    if v.is_nan() { widened_nan(DType::F32, v.to_bits()) } else { v.into() }
}

fn from_f16(v: f16) -> f64 {
    if v.is_nan() { widened_nan(DType::F16, v.to_bits().into()) } else { v.into() }
}

fn from_bf16(v: bf16) -> f64 {
    if v.is_nan() { widened_nan(DType::BF16, v.to_bits().into()) } else { v.into() }
}

fn to_f32(v: f64) -> f32 {
    if v.is_nan() { f32::from_bits(narrowed_nan(DType::F32, v)) } else { v as f32 }
}

fn to_f16(v: f64) -> f16 {
    if v.is_nan() { f16::from_bits(narrowed_nan(DType::F16, v) as u16) } else { f16::from_f64(v) }
}

fn to_bf16(v: f64) -> bf16 {
    if v.is_nan() { bf16::from_bits(narrowed_nan(DType::BF16, v) as u16) } else { bf16::from_f64(v) }
}

/// Asks for the memory of a tensor's array, and of a copy on the way.
fn ask(dtype: DType, shape: &[usize]) -> Result<(), NoMemory> {
    /// Elements for which nothing is asked: a number, or a list of axes or sizes.
    const FEW: u64 = 64;
    let Work { steps, bytes } = Work::array(dtype, shape);
    match steps <= FEW {
        true => Ok(()),
        false => heap::ask(format_args!("{dtype}{shape:?} on the host"), bytes.saturating_mul(2)),
    }
}

/// Reads a host tensor.
pub(crate) fn decode(tensor: &Tensor) -> Result<Array, Why> {
    fn all<T: bytemuck::Pod, N>(bytes: &[u8], to: impl Fn(T) -> N) -> Vec<N> {
        bytemuck::pod_collect_to_vec::<u8, T>(bytes).into_iter().map(to).collect()
    }
    let bytes = tensor.bytes();
    ask(tensor.dtype(), tensor.shape())?;
    let data = match tensor.dtype() {
        DType::String => Numbers::Text(tensor.strings().unwrap_or_default().to_vec()),
        DType::F32 => Numbers::Float(all(bytes, from_f32)),
        DType::F64 => Numbers::Float(all::<f64, _>(bytes, |v| v)),
        DType::F16 => Numbers::Float(all(bytes, from_f16)),
        DType::BF16 => Numbers::Float(all(bytes, from_bf16)),
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
                None => refuse!("numbers of type {other} cannot be converted"),
            }
        }
    };
    Ok(Array { dtype: tensor.dtype(), shape: tensor.shape().to_vec(), data })
}

/// Writes a tensor. All values are in range, because an [`Array`] rounds its values when it is made.
pub(crate) fn encode(array: &Array) -> Result<Tensor, Why> {
    fn all<T: bytemuck::Pod, N: Copy>(values: &[N], to: impl Fn(N) -> T) -> Vec<u8> {
        bytemuck::cast_slice(&values.iter().map(|&v| to(v)).collect::<Vec<T>>()).to_vec()
    }
    ask(array.dtype, &array.shape)?;
    let raw = match (&array.data, array.dtype) {
        (Numbers::Text(v), _) => {
            return Ok(Tensor::from_strings(&array.shape, v.clone())?);
        }
        (Numbers::Float(v), DType::F32) => all(v, to_f32),
        (Numbers::Float(v), DType::F64) => all(v, |v| v),
        (Numbers::Float(v), DType::F16) => all(v, to_f16),
        (Numbers::Float(v), DType::BF16) => all(v, to_bf16),
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
        (_, other) => refuse!("numbers of type {other} cannot be converted"),
    };
    Ok(Tensor::from_raw(array.dtype, &array.shape, raw)?)
}

/// The conversion of ONNX's `Cast`: floats truncate toward zero and wrap, every number but 0 is true, and a float8 saturates
/// if `saturate`.
pub(crate) fn cast(array: &Array, to: DType, saturate: bool) -> Result<Array, Why> {
    cast_rounded(array, to, saturate, RoundMode::Up)
}

/// Like [`cast`], with the way in which a number becomes a float8e8m0.
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
            let near = |x: i128| if to == DType::F64 { x as f64 } else { rounded_to_odd(x) };
            Array::float(to, shape, v.iter().map(|&x| float(near(x))).collect())
        }
        Numbers::Int(v) => Array::int(to, shape, v.clone()),
        Numbers::Text(v) if to.is_int() => {
            // float64 has not all whole numbers of 64 bits.
            let whole = |text: &String| match text.trim().parse::<i128>() {
                Ok(whole) => Ok(whole),
                Err(_) => parse(text).map(|value| value.trunc() as i128),
            };
            Array::int(to, shape, v.iter().map(whole).collect::<Result<_, Why>>()?)
        }
        Numbers::Text(v) => {
            let values = v.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
            return cast_rounded(&Array::float(DType::F64, shape, values), to, saturate, mode);
        }
    })
}

/// The integer, or a float64 beside it that rounds to floats of 32 bits and fewer in the same way: no number is rounded twice. The
/// lowest of its 53 bits is 1 if a lower bit of the integer is.
fn rounded_to_odd(x: i128) -> f64 {
    let cut = (128 - x.unsigned_abs().leading_zeros()).saturating_sub(53);
    let upper = x.unsigned_abs() >> cut;
    let odd = upper | u128::from(upper << cut != x.unsigned_abs());
    let size = (odd << cut) as f64;
    if x < 0 { -size } else { size }
}

/// The number that a text means. Rust accepts "inf" and "nan" in any case, which ONNX reserves.
fn parse(text: &str) -> Result<f64, Why> {
    text.trim().parse().map_err(|_| Why::from(format!("the string '{text}' is no number")))
}

/// The text of a float has eight significant digits, whatever the dtype: ONNX Runtime's `%.8g`.
fn text(value: f64) -> String {
    const DIGITS: i32 = 8;
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "INF" } else { "-INF" }.into();
    }
    let scientific = format!("{value:.*e}", DIGITS as usize - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    match exponent {
        -4..DIGITS => trimmed(&format!("{value:.*}", (DIGITS - 1 - exponent) as usize)),
        _ => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
        }
    }
}

fn texts(array: &Array) -> Vec<String> {
    match &array.data {
        Numbers::Float(v) => v.iter().map(|&v| text(v)).collect(),
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
            Numbers::Text(["9.9999997e-06", "-INF", "INF", "NaN", "100"].map(String::from).to_vec())
        );
        assert!(cast(&Array::text(&[1], vec!["onyx".into()]), DType::F32, true).is_err());
    }

    /// What onnxruntime 1.31.1 writes.
    #[test]
    fn texts_have_eight_digits() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (0.1f32.into(), "0.1"),
            (1234567.0, "1234567"),
            (1e7, "10000000"),
            (1e8, "1e+08"),
            (1e15f32.into(), "9.9999999e+14"),
            (1e-4f32.into(), "9.9999997e-05"),
            (1e-4, "0.0001"),
            (1.0 / 3.0, "0.33333333"),
            (123_456_789.0, "1.2345679e+08"),
            (5e-324, "4.9406565e-324"),
            (-2.5, "-2.5"),
            (99_999_999.6, "1e+08"),
        ];
        for (value, expected) in cases {
            assert_eq!(text(value), expected);
        }
        let whole = Array::text(&[2], vec!["9223372036854775807".into(), "-3.9".into()]);
        let expected = Array::int(DType::I64, &[2], vec![i64::MAX.into(), -3]);
        assert_eq!(cast(&whole, DType::I64, true).unwrap(), expected);
    }

    #[test]
    fn elements_round_trip() {
        for (dtype, bytes, count) in [
            (DType::I4, vec![0xf8, 0x07], 3),
            (DType::U2, vec![0b11_10_01_00], 4),
            (DType::F4E2M1, vec![0x7f, 0x01], 3),
            (DType::F6E2M3, vec![0x21, 0xff, 0x3b, 0x15], 5),
            // A signalling NaN, a quiet one with a sign and a payload, a subnormal number.
            (DType::F32, [0x7f80_0001u32, 0xffc0_1234, 1].map(u32::to_le_bytes).concat(), 3),
            (DType::F16, [0x7c01u16, 0xfe34, 1].map(u16::to_le_bytes).concat(), 3),
            (DType::BF16, [0x7f81u16, 0xffc4, 1].map(u16::to_le_bytes).concat(), 3),
            (DType::F8E5M2, vec![0x7b, 0xfc], 2),
            (DType::F8E8M0, vec![0, 254, 255], 3),
        ] {
            let tensor = Tensor::from_raw(dtype, &[count], bytes).unwrap();
            assert_eq!(encode(&decode(&tensor).unwrap()).unwrap(), tensor);
        }
    }
}
