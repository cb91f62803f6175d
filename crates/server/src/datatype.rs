//! The names that the Open Inference Protocol and Triton's configurations give to element types.

use sardonyx::DType;

/// The protocol's name of a dtype, such as `FP32`; `None` if it has none.
///
/// ```
/// use sardonyx::DType;
/// assert_eq!(sardonyx_server::datatype::name(DType::F32), Some("FP32"));
/// ```
pub fn name(dtype: DType) -> Option<&'static str> {
    NAMES.iter().find(|(_, of)| *of == dtype).map(|(name, _)| *name)
}

/// The dtype that the protocol calls `name`.
pub fn parse(name: &str) -> Option<DType> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, dtype)| *dtype)
}

/// Triton's configurations write `TYPE_` before these names, and `TYPE_STRING` for `BYTES`.
const NAMES: [(&str, DType); 14] = [
    ("BOOL", DType::Bool),
    ("UINT8", DType::U8),
    ("UINT16", DType::U16),
    ("UINT32", DType::U32),
    ("UINT64", DType::U64),
    ("INT8", DType::I8),
    ("INT16", DType::I16),
    ("INT32", DType::I32),
    ("INT64", DType::I64),
    ("FP16", DType::F16),
    ("FP32", DType::F32),
    ("FP64", DType::F64),
    ("BYTES", DType::String),
    ("BF16", DType::BF16),
];
