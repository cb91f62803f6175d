//! A `TensorProto` as a tensor, and a tensor as a `TensorProto`.

use bytes::Bytes;
use half::{bf16, f16};
use sardonyx::{DType, Tensor};

use super::super::infer::narrowed;
use crate::proto::tensorflow::tensor_shape_proto::Dim;
use crate::proto::tensorflow::{DataType, TensorProto, TensorShapeProto};
use crate::{Failure, Reason, raw};

const NAMES: [(DataType, DType); 14] = [
    (DataType::DtFloat, DType::F32),
    (DataType::DtDouble, DType::F64),
    (DataType::DtHalf, DType::F16),
    (DataType::DtBfloat16, DType::BF16),
    (DataType::DtInt8, DType::I8),
    (DataType::DtInt16, DType::I16),
    (DataType::DtInt32, DType::I32),
    (DataType::DtInt64, DType::I64),
    (DataType::DtUint8, DType::U8),
    (DataType::DtUint16, DType::U16),
    (DataType::DtUint32, DType::U32),
    (DataType::DtUint64, DType::U64),
    (DataType::DtBool, DType::Bool),
    (DataType::DtString, DType::String),
];

/// TensorFlow's name of a dtype.
pub(super) fn data_type(dtype: DType) -> Option<DataType> {
    NAMES.iter().find(|(_, of)| *of == dtype).map(|(name, _)| *name)
}

/// A shape; -1 stands for any size.
pub(super) fn shape(sizes: impl IntoIterator<Item = i64>) -> TensorShapeProto {
    let dim = sizes.into_iter().map(|size| Dim { size, name: String::new() }).collect();
    TensorShapeProto { dim, unknown_rank: false }
}

/// Reads a tensor: its `tensor_content`, or else the typed values, of which the last one stands for all that are missing, and zero for
/// those of a tensor without any.
///
/// # Errors
/// [`Reason::Invalid`]; [`Reason::TooLarge`] if a few values stand for more than `limit` bytes.
pub(super) fn decode(proto: TensorProto, limit: usize) -> Result<Tensor, Failure> {
    let dtype = NAMES.iter().find(|(name, _)| *name as i32 == proto.dtype).map(|(_, dtype)| *dtype);
    let dtype = dtype.ok_or_else(|| {
        let name = DataType::try_from(proto.dtype).map_or("an unknown dtype", |dtype| dtype.as_str_name());
        Failure::invalid(format!("{name} ({}) is no dtype that this server takes", proto.dtype))
    })?;
    let sizes = proto.tensor_shape.as_ref();
    if sizes.is_some_and(|shape| shape.unknown_rank) {
        return Err(Failure::invalid("its shape has an unknown rank; a request says every dimension's size"));
    }
    let sizes: Vec<i64> = sizes.map_or_else(Vec::new, |shape| shape.dim.iter().map(|dim| dim.size).collect());
    let shape = raw::shape(&sizes)?;
    if !proto.tensor_content.is_empty() {
        return match dtype {
            DType::String => Ok(Tensor::from_strings(&shape, packed(&proto.tensor_content, &shape)?)?),
            _ => raw::tensor(dtype, &shape, proto.tensor_content),
        };
    }
    let count = raw::count(&shape);
    let bytes = dtype.bytes_of(count).unwrap_or(usize::MAX).max(count);
    if bytes > limit {
        let text = format!("{} of shape {sizes:?} takes more than the {limit} bytes of a request", dtype);
        return Err(Failure::new(Reason::TooLarge, text));
    }
    let halves = || narrowed::<i32, u16>(&[count], filled(proto.half_val.clone(), count)?);
    Ok(match dtype {
        DType::F32 => Tensor::from_vec(&shape, filled(proto.float_val, count)?)?,
        DType::F64 => Tensor::from_vec(&shape, filled(proto.double_val, count)?)?,
        DType::F16 => {
            let bits = halves()?.to_vec::<u16>()?;
            Tensor::from_vec(&shape, bits.into_iter().map(f16::from_bits).collect())?
        }
        DType::BF16 => {
            let bits = halves()?.to_vec::<u16>()?;
            Tensor::from_vec(&shape, bits.into_iter().map(bf16::from_bits).collect())?
        }
        DType::I8 => narrowed::<i32, i8>(&shape, filled(proto.int_val, count)?)?,
        DType::I16 => narrowed::<i32, i16>(&shape, filled(proto.int_val, count)?)?,
        DType::I32 => Tensor::from_vec(&shape, filled(proto.int_val, count)?)?,
        DType::U8 => narrowed::<i32, u8>(&shape, filled(proto.int_val, count)?)?,
        DType::U16 => narrowed::<i32, u16>(&shape, filled(proto.int_val, count)?)?,
        DType::I64 => Tensor::from_vec(&shape, filled(proto.int64_val, count)?)?,
        DType::U32 => Tensor::from_vec(&shape, filled(proto.uint32_val, count)?)?,
        DType::U64 => Tensor::from_vec(&shape, filled(proto.uint64_val, count)?)?,
        DType::Bool => Tensor::from_bools(&shape, &filled(proto.bool_val, count)?)?,
        _ => {
            let given: usize = proto.string_val.iter().map(Bytes::len).sum();
            let repeated = proto.string_val.last().map_or(0, Bytes::len).saturating_mul(count);
            if given.saturating_add(repeated) > limit && count > proto.string_val.len() {
                let text = format!("the strings take more than the {limit} bytes of a request");
                return Err(Failure::new(Reason::TooLarge, text));
            }
            let strings = filled(proto.string_val, count)?;
            let text = |bytes: Bytes| String::from_utf8(bytes.into()).map_err(|_| no_text());
            Tensor::from_strings(&shape, strings.into_iter().map(text).collect::<Result<_, _>>()?)?
        }
    })
}

/// Writes a tensor as typed values, which is what TensorFlow Serving does, and what many clients read without looking for
/// `tensor_content`.
///
/// # Errors
/// [`Reason::Unimplemented`] if TensorFlow has no such dtype.
pub(super) fn encode(tensor: &Tensor) -> Result<TensorProto, Failure> {
    let dtype = tensor.dtype();
    let name = data_type(dtype).ok_or_else(|| {
        Failure::new(Reason::Unimplemented, format!("it is {dtype}, which the protocol has no name for"))
    })?;
    let mut proto = TensorProto {
        dtype: name.into(),
        tensor_shape: Some(shape(tensor.shape().iter().map(|&size| size as i64))),
        ..TensorProto::default()
    };
    match dtype {
        DType::F32 => proto.float_val = tensor.to_vec()?,
        DType::F64 => proto.double_val = tensor.to_vec()?,
        DType::F16 => {
            proto.half_val = tensor.to_vec::<f16>()?.iter().map(|value| value.to_bits().into()).collect()
        }
        DType::BF16 => {
            proto.half_val = tensor.to_vec::<bf16>()?.iter().map(|value| value.to_bits().into()).collect()
        }
        DType::I8 => proto.int_val = tensor.to_vec::<i8>()?.into_iter().map(i32::from).collect(),
        DType::I16 => proto.int_val = tensor.to_vec::<i16>()?.into_iter().map(i32::from).collect(),
        DType::I32 => proto.int_val = tensor.to_vec()?,
        DType::U8 => proto.int_val = tensor.to_vec::<u8>()?.into_iter().map(i32::from).collect(),
        DType::U16 => proto.int_val = tensor.to_vec::<u16>()?.into_iter().map(i32::from).collect(),
        DType::I64 => proto.int64_val = tensor.to_vec()?,
        DType::U32 => proto.uint32_val = tensor.to_vec()?,
        DType::U64 => proto.uint64_val = tensor.to_vec()?,
        DType::Bool => proto.bool_val = tensor.bytes().iter().map(|byte| *byte != 0).collect(),
        _ => {
            let strings = tensor.strings().unwrap_or_default();
            proto.string_val = strings.iter().map(|string| Bytes::from(string.clone())).collect();
        }
    }
    Ok(proto)
}

/// `count` values, of which `values` are the first.
fn filled<T: Clone + Default>(mut values: Vec<T>, count: usize) -> Result<Vec<T>, Failure> {
    if values.len() > count {
        let text = format!("it has {} values, and its shape has room for {count}", values.len());
        return Err(Failure::invalid(text));
    }
    let more = count - values.len();
    values.try_reserve_exact(more).map_err(|_| {
        Failure::new(Reason::Unavailable, "there is no memory for the request now; try again later")
    })?;
    let last = values.last().cloned().unwrap_or_default();
    values.resize(count, last);
    Ok(values)
}

/// Strings as TensorFlow packs them: the lengths of all, each in groups of seven bits with the least first, and then their bytes.
fn packed(content: &[u8], shape: &[usize]) -> Result<Vec<String>, Failure> {
    let fewer = || Failure::invalid(format!("tensor_content ends before the strings of shape {shape:?} do"));
    let count = raw::count(shape);
    if count > content.len() {
        return Err(fewer());
    }
    let mut lengths = raw::reserved(count)?;
    let mut rest = content;
    for _ in 0..count {
        let length = prost::encoding::decode_varint(&mut rest).map_err(|_| fewer())?;
        lengths.push(usize::try_from(length).map_err(|_| fewer())?);
    }
    let mut strings = raw::reserved(count)?;
    for length in lengths {
        let (string, tail) = rest.split_at_checked(length).ok_or_else(fewer)?;
        strings.push(std::str::from_utf8(string).map_err(|_| no_text())?.to_owned());
        rest = tail;
    }
    match rest.len() {
        0 => Ok(strings),
        left => Err(Failure::invalid(format!("tensor_content has {left} bytes after the last string"))),
    }
}

fn no_text() -> Failure {
    Failure::invalid("a string is no UTF-8, as the strings of a model are")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proto(dtype: DataType, sizes: &[i64]) -> TensorProto {
        TensorProto {
            dtype: dtype.into(),
            tensor_shape: Some(shape(sizes.iter().copied())),
            ..TensorProto::default()
        }
    }

    fn text(proto: TensorProto) -> String {
        decode(proto, 1000).unwrap_err().text
    }

    #[test]
    fn the_last_value_stands_for_the_rest() {
        let one = TensorProto { float_val: vec![1.5], ..proto(DataType::DtFloat, &[2, 2]) };
        assert_eq!(decode(one, 16).unwrap().to_vec::<f32>().unwrap(), [1.5; 4]);
        let two = TensorProto { int_val: vec![7, -1], ..proto(DataType::DtInt8, &[3]) };
        assert_eq!(decode(two, 16).unwrap().to_vec::<i8>().unwrap(), [7, -1, -1]);
        let none = proto(DataType::DtInt64, &[2]);
        assert_eq!(decode(none, 16).unwrap().to_vec::<i64>().unwrap(), [0, 0]);
        let many = TensorProto { int_val: vec![7, -1], ..proto(DataType::DtInt32, &[1]) };
        assert_eq!(text(many), "it has 2 values, and its shape has room for 1");
        let scalar = TensorProto { tensor_shape: None, bool_val: vec![true], ..proto(DataType::DtBool, &[]) };
        assert_eq!(decode(scalar, 16).unwrap().bytes(), [1]);
    }

    #[test]
    fn few_values_do_not_stand_for_too_many() {
        let vast = TensorProto { float_val: vec![0.0], ..proto(DataType::DtFloat, &[1 << 40]) };
        let failure = decode(vast, 1000).unwrap_err();
        assert_eq!(failure.reason, Reason::TooLarge, "{failure}");
        let long = vec![Bytes::from("x".repeat(100))];
        let strings = TensorProto { string_val: long, ..proto(DataType::DtString, &[100]) };
        assert_eq!(decode(strings, 1000).unwrap_err().reason, Reason::TooLarge);
    }

    #[test]
    fn halves_are_the_low_bits_of_integers() {
        // What numpy says: np.float16(1.5).view(np.uint16) == 0x3e00, and ml_dtypes.bfloat16(1.5) has the bits 0x3fc0.
        let half = TensorProto { half_val: vec![0x3e00], ..proto(DataType::DtHalf, &[2]) };
        let half = decode(half, 16).unwrap();
        assert_eq!(half.to_vec::<f16>().unwrap(), [f16::from_f32(1.5); 2]);
        assert_eq!(encode(&half).unwrap().half_val, [0x3e00, 0x3e00]);
        let brain = TensorProto { half_val: vec![0x3fc0], ..proto(DataType::DtBfloat16, &[1]) };
        assert_eq!(decode(brain, 16).unwrap().to_vec::<bf16>().unwrap(), [bf16::from_f32(1.5)]);
        let wide = TensorProto { half_val: vec![0x10000], ..proto(DataType::DtHalf, &[1]) };
        assert!(text(wide).contains("65536 does not fit"));
    }

    #[test]
    fn strings_as_values_and_packed() {
        let values = vec![Bytes::from("ab"), Bytes::from("ö")];
        let strings = TensorProto { string_val: values.clone(), ..proto(DataType::DtString, &[2]) };
        let tensor = decode(strings, 100).unwrap();
        assert_eq!(tensor.strings().unwrap(), ["ab", "ö"]);
        assert_eq!(encode(&tensor).unwrap().string_val, values);
        let packed = |content: &'static [u8]| TensorProto {
            tensor_content: Bytes::from_static(content),
            ..proto(DataType::DtString, &[2])
        };
        assert_eq!(decode(packed(b"\x02\x01abc"), 100).unwrap().strings().unwrap(), ["ab", "c"]);
        assert!(text(packed(b"\x02\x02abc")).contains("ends before"));
        assert!(text(packed(b"\x02\x01abcd")).contains("1 bytes after"));
        assert!(text(packed(b"\xff")).contains("ends before"));
    }

    #[test]
    fn every_dtype_comes_back() {
        for (name, dtype) in NAMES {
            if dtype == DType::String {
                continue;
            }
            let bytes: Vec<u8> = (0..2 * dtype.bits() / 8).map(|at| (at % 2) as u8).collect();
            let content = TensorProto { tensor_content: bytes.clone().into(), ..proto(name, &[1, 2]) };
            let tensor = decode(content, 0).unwrap();
            assert_eq!((tensor.dtype(), tensor.shape(), tensor.bytes()), (dtype, &[1, 2][..], &bytes[..]));
            let typed = encode(&tensor).unwrap();
            assert!(typed.tensor_content.is_empty());
            assert_eq!(decode(typed, 100).unwrap().bytes(), bytes, "{name:?}");
        }
    }

    #[test]
    fn what_is_no_tensor() {
        assert!(text(proto(DataType::DtComplex64, &[1])).contains("DT_COMPLEX64"));
        assert!(text(TensorProto { dtype: 11, ..TensorProto::default() }).contains("11"));
        assert!(text(proto(DataType::DtFloat, &[-1])).contains("says every dimension's size"));
        let unknown = TensorShapeProto { unknown_rank: true, ..TensorShapeProto::default() };
        let unknown = TensorProto { tensor_shape: Some(unknown), ..proto(DataType::DtFloat, &[]) };
        assert!(text(unknown).contains("unknown rank"));
        let short =
            TensorProto { tensor_content: Bytes::from_static(&[0; 7]), ..proto(DataType::DtFloat, &[2]) };
        assert!(text(short).contains("takes 8 bytes, and 7 are given"));
    }
}
