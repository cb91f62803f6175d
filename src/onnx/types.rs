//! Declared types: dtype and symbolic shape.

use super::proto::{TypeProto, ValueInfoProto, tensor_shape_proto, type_proto};
use crate::{DType, Dim};

/// What a declaration says; `None` where it says nothing, or the value is no tensor.
pub(super) fn declared(info: &ValueInfoProto) -> (Option<DType>, Option<Vec<Dim>>) {
    match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => {
            let shape = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(dim).collect());
            (DType::from_onnx(tensor.elem_type), shape)
        }
        _ => (None, None),
    }
}

/// Exporters write an unknown size as no value, as -1, as an empty name, as a question mark, and as Python's `None` (WinMLTools,
/// in the ONNX model zoo's tiny YOLO): none of these names a dimension.
fn dim(dim: &tensor_shape_proto::Dimension) -> Dim {
    use tensor_shape_proto::dimension::Value;
    match &dim.value {
        Some(Value::DimValue(n)) => usize::try_from(*n).map_or(Dim::Unknown, Dim::Known),
        Some(Value::DimParam(name)) if !matches!(name.as_str(), "" | "?" | "-1" | "None") => {
            Dim::Symbol(name.clone())
        }
        _ => Dim::Unknown,
    }
}

/// What a value is, for messages: `tensor`, `sequence`, ...
pub(super) fn kind(info: &TypeProto) -> &'static str {
    use type_proto::Value::*;
    match &info.value {
        None => "nothing",
        Some(TensorType(_)) => "tensor",
        Some(SequenceType(_)) => "sequence",
        Some(MapType(_)) => "map",
        Some(OpaqueType(_)) => "opaque",
        Some(SparseTensorType(_)) => "sparse tensor",
        Some(OptionalType(_)) => "optional",
    }
}
