//! DeclaredType types: dtype and symbolic shape.

use super::proto::{TypeProto, ValueInfoProto, tensor_shape_proto, type_proto};
use crate::shape::MAX_RANK;
use crate::{DType, Dim, Kind};

/// What a declaration says of a value.
#[derive(Clone, Default)]
pub(super) struct DeclaredType {
    /// `None` where it says nothing, or where the value is no tensor.
    pub(super) dtype: Option<DType>,
    pub(super) shape: Option<Vec<Dim>>,
    /// What the value is, if it is no tensor.
    pub(super) container: Option<Kind>,
}

pub(super) fn declared(info: &ValueInfoProto) -> DeclaredType {
    match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => {
            // No run takes a tensor of more dimensions, so such a declaration says nothing.
            let shape = tensor.shape.as_ref().filter(|shape| shape.dim.len() <= MAX_RANK);
            let shape = shape.map(|shape| shape.dim.iter().map(dim).collect());
            DeclaredType { dtype: DType::from_onnx(tensor.elem_type), shape, container: None }
        }
        Some(_) => {
            let kind = info.r#type.as_ref().and_then(of_type);
            DeclaredType { container: kind.filter(Kind::is_container), ..DeclaredType::default() }
        }
        None => DeclaredType::default(),
    }
}

/// What a value of this type is; `None` for a type that Sardonyx does not have. The decoder bounds the depth.
pub(super) fn of_type(proto: &TypeProto) -> Option<Kind> {
    use type_proto::Value::*;
    let inner =
        |proto: &Option<Box<TypeProto>>| proto.as_ref().map_or(Some(Kind::Tensor(None)), |t| of_type(t));
    match proto.value.as_ref()? {
        TensorType(tensor) => Some(Kind::Tensor(DType::from_onnx(tensor.elem_type))),
        SequenceType(sequence) => Some(inner(&sequence.elem_type)?.sequence_of()),
        OptionalType(optional) => Some(inner(&optional.elem_type)?.optional()),
        MapType(_) => Some(Kind::Map),
        OpaqueType(_) | SparseTensorType(_) => None,
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
