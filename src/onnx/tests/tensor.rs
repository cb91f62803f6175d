//! Initializers in every dtype and field.

use super::super::tensor::import;
use super::*;
use crate::onnx::external::External;

fn read(proto: &TensorProto) -> Result<Tensor, String> {
    import(proto, &mut External::none()).map_err(|e| e.to_string())
}

fn ok(proto: &TensorProto) -> Tensor {
    read(proto).unwrap_or_else(|e| panic!("{e}"))
}

fn small(dtype: DType, dims: &[i64], values: &[i32]) -> TensorProto {
    TensorProto { int32_data: values.to_vec(), ..empty("t", dtype.onnx(), dims) }
}

#[test]
fn typed_fields_of_wide_types() {
    let float = TensorProto { float_data: vec![1.5, -2.0], ..empty("t", DType::F32.onnx(), &[2]) };
    assert_eq!(ok(&float).to_vec::<f32>().unwrap(), [1.5, -2.0]);
    let complex = TensorProto { float_data: vec![1.5, -2.0], ..empty("t", DType::C64.onnx(), &[1]) };
    assert_eq!(ok(&complex).bytes(), [0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0]);
    let double = TensorProto { double_data: vec![0.1], ..empty("t", DType::F64.onnx(), &[]) };
    assert_eq!(ok(&double).to_vec::<f64>().unwrap(), [0.1]);
    let double = TensorProto { double_data: vec![1.0, 2.0], ..empty("t", DType::C128.onnx(), &[1]) };
    assert_eq!(ok(&double).bytes().len(), 16);
    let long = TensorProto { int64_data: vec![i64::MIN], ..empty("t", DType::I64.onnx(), &[1]) };
    assert_eq!(ok(&long).to_vec::<i64>().unwrap(), [i64::MIN]);
    let unsigned = TensorProto { uint64_data: vec![u64::MAX], ..empty("t", DType::U64.onnx(), &[1]) };
    assert_eq!(ok(&unsigned).to_vec::<u64>().unwrap(), [u64::MAX]);
    let unsigned = TensorProto { uint64_data: vec![0xffff_ffff], ..empty("t", DType::U32.onnx(), &[1]) };
    assert_eq!(ok(&unsigned).to_vec::<u32>().unwrap(), [u32::MAX]);
    assert_eq!(ok(&small(DType::I32, &[1], &[i32::MIN])).to_vec::<i32>().unwrap(), [i32::MIN]);
}

#[test]
fn typed_fields_of_narrow_types() {
    assert_eq!(ok(&small(DType::I8, &[2], &[-128, 127])).to_vec::<i8>().unwrap(), [-128, 127]);
    assert_eq!(ok(&small(DType::U8, &[2], &[0, 255])).to_vec::<u8>().unwrap(), [0, 255]);
    assert_eq!(ok(&small(DType::I16, &[1], &[-32768])).to_vec::<i16>().unwrap(), [-32768]);
    assert_eq!(ok(&small(DType::U16, &[1], &[65535])).to_vec::<u16>().unwrap(), [65535]);
    assert_eq!(ok(&small(DType::Bool, &[2], &[1, 0])).bytes(), [1, 0]);
    let half = ok(&small(DType::F16, &[2], &[0x3c00, 0xc000]));
    assert_eq!(half.to_vec::<half::f16>().unwrap(), [half::f16::ONE, half::f16::from_f32(-2.0)]);
    let brain = ok(&small(DType::BF16, &[1], &[0x3f80]));
    assert_eq!(brain.to_vec::<half::bf16>().unwrap(), [half::bf16::ONE]);
    for dtype in [DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ, DType::F8E8M0] {
        assert_eq!(ok(&small(dtype, &[2], &[0x80, 0x7f])).bytes(), [0x80, 0x7f]);
    }
}

#[test]
fn packed_types_are_one_byte_in_one_int32() {
    assert_eq!(ok(&small(DType::U4, &[3], &[0x21, 0x03])).bytes(), [0x21, 0x03]);
    assert_eq!(ok(&small(DType::I4, &[2], &[0xf8])).bytes(), [0xf8]);
    assert_eq!(ok(&small(DType::I4, &[2], &[-8])).bytes(), [0xf8]);
    assert_eq!(ok(&small(DType::F4E2M1, &[2], &[0x7f])).bytes(), [0x7f]);
    // int32_data has a number for each 6-bit element, while elements of 4 and 2 bits are packed first.
    assert_eq!(ok(&small(DType::F6E2M3, &[3], &[0x21, 0x3f, 0x05])).bytes(), [0xe1, 0x5f, 0x00]);
    assert_eq!(ok(&small(DType::U2, &[5], &[0b11_10_01_00, 0b01])).bytes(), [0b11_10_01_00, 0b01]);
    assert_eq!(ok(&small(DType::I2, &[4], &[0xe4])).bytes(), [0xe4]);
}

#[test]
fn empty_tensors_need_no_data() {
    assert_eq!(ok(&empty("t", FLOAT, &[0, 4])).shape(), [0, 4]);
    assert_eq!(ok(&empty("t", DType::String.onnx(), &[0])).strings(), Some(&[][..]));
}

#[test]
fn sizes_beside_an_empty_axis_count() {
    let huge = [[1 << 40, 1 << 40, 0], [0, i64::MAX, i64::MAX], [1 << 40, 0, 1 << 40]];
    for dims in huge {
        let error = read(&empty("t", FLOAT, &dims)).unwrap_err();
        assert!(error.contains("is too large"), "{error}");
    }
    let error = read(&empty("t", FLOAT, &[1; 65])).unwrap_err();
    assert!(error.contains("has 65 dimensions, and at most 64 are supported"), "{error}");
}

#[test]
fn values_that_do_not_fit_are_refused() {
    let refused = |proto: &TensorProto| read(proto).unwrap_err();
    let cases = [
        (small(DType::I8, &[1], &[128]), "holds 128, which is no int8"),
        (small(DType::U8, &[1], &[-1]), "holds -1, which is no uint8"),
        (small(DType::F16, &[1], &[0x1_0000]), "holds 65536, which is no float16"),
        (small(DType::I4, &[2], &[256]), "holds 256, which is no int4"),
        (small(DType::Bool, &[1], &[2]), "is a bool tensor with values other than 0 and 1"),
        (
            TensorProto { uint64_data: vec![1 << 32], ..empty("t", DType::U32.onnx(), &[1]) },
            "holds 4294967296, which is no uint32",
        ),
        (
            TensorProto { string_data: vec![vec![0xff].into()], ..empty("t", DType::String.onnx(), &[1]) },
            "has a string that is not UTF-8",
        ),
    ];
    for (proto, reason) in cases {
        assert_eq!(refused(&proto), format!("invalid model: tensor 't' {reason}"));
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let raw = |bytes: usize, proto| TensorProto { raw_data: Some(vec![0; bytes].into()), ..proto };
    let cases = [
        (raw(7, empty("t", FLOAT, &[2])), "is float32[2], which takes 8 bytes, and it holds 7"),
        (raw(9, empty("t", FLOAT, &[2])), "is float32[2], which takes 8 bytes, and it holds 9"),
        (empty("t", FLOAT, &[2]), "takes 2 values, and its float_data holds 0"),
        (small(DType::I4, &[3], &[0x21]), "takes 2 values, and its int32_data holds 1"),
        (small(DType::F6E2M3, &[3], &[1, 2]), "takes 3 values, and its int32_data holds 2"),
        (small(DType::F6E3M2, &[1], &[64]), "holds 64, which is no float6e3m2"),
        (empty("t", FLOAT, &[-1]), "has the impossible shape [-1]"),
        (empty("t", FLOAT, &[1 << 40, 1 << 40]), "is too large: float32[1099511627776, 1099511627776]"),
        (empty("t", FLOAT, &[1 << 62]), "is too large: float32[4611686018427387904]"),
        (empty("t", FLOAT, &[1 << 40]), "takes 1099511627776 values, and its float_data holds 0"),
        (
            empty("t", DType::String.onnx(), &[1 << 40]),
            "takes 1099511627776 values, and its string_data holds 0",
        ),
        (empty("t", 0, &[1]), "has the unknown data type 0"),
        (empty("t", 29, &[1]), "has the unknown data type 29"),
        (
            TensorProto { segment: Some(Default::default()), ..empty("t", FLOAT, &[0]) },
            "is stored in segments, which are not supported",
        ),
    ];
    for (proto, reason) in cases {
        assert_eq!(read(&proto).unwrap_err(), format!("invalid model: tensor 't' {reason}"));
    }
}
