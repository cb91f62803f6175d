//! Declared types: dtype and symbolic shape.

use super::proto::{TypeProto, ValueInfoProto, tensor_shape_proto, type_proto};
use crate::shape::MAX_RANK;
use crate::{DType, Dim};

/// What a declaration says; `None` where it says nothing, or where the value is no tensor.
pub(super) fn declared(info: &ValueInfoProto) -> (Option<DType>, Option<Vec<Dim>>) {
    match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => {
            // No run takes a tensor of more dimensions, so such a declaration says nothing.
            let shape = tensor.shape.as_ref().filter(|shape| shape.dim.len() <= MAX_RANK);
            let shape = shape.map(|shape| shape.dim.iter().map(dim).collect());
            (DType::from_onnx(tensor.elem_type), shape)
        }
        _ => (None, None),
    }
}

/// Exporters write an unknown size as a missing value, -1, an empty name, a question mark, or Python's `None` (WinMLTools, in
/// the tiny YOLO of the ONNX model zoo). None of these is the name of a dimension.
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

/// The kind of a value, for messages: `tensor`, `sequence`, ...
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
