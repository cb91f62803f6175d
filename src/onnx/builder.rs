//! Models for tests, built from the protobuf's own types.
#![allow(missing_docs)]

use super::proto::attribute_proto::AttributeType;
use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::*;
use bytes::Bytes;
use prost::Message;

pub const FLOAT: i32 = 1;
pub const INT64: i32 = 7;
pub const STRING: i32 = 8;

/// A model of IR version 8 with one opset of ONNX's own domain.
pub fn model(opset: i64, graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: 8,
        opset_import: vec![import("", opset)],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

pub fn import(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.into(), version }
}

pub fn bytes(model: &ModelProto) -> Bytes {
    model.encode_to_vec().into()
}

/// A graph whose inputs and outputs are f32 tensors of unknown shape.
pub fn graph(inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> GraphProto {
    GraphProto {
        name: "graph".into(),
        input: inputs.iter().map(|name| float(name)).collect(),
        node: nodes,
        output: outputs.iter().map(|name| float(name)).collect(),
        ..GraphProto::default()
    }
}

fn float(name: &str) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: FLOAT, shape: None };
    info(name, type_proto::Value::TensorType(tensor))
}

fn info(name: &str, value: type_proto::Value) -> ValueInfoProto {
    let r#type = Some(TypeProto { value: Some(value), ..TypeProto::default() });
    ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
}

/// A declared tensor. Each dimension is a number or a name.
pub fn value(name: &str, elem_type: i32, dims: &[&str]) -> ValueInfoProto {
    let dim = |text: &&str| {
        let value = match text.parse() {
            Ok(number) => dimension::Value::DimValue(number),
            Err(_) => dimension::Value::DimParam(text.to_string()),
        };
        Dimension { value: Some(value), ..Dimension::default() }
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    info(name, type_proto::Value::TensorType(type_proto::Tensor { elem_type, shape }))
}

/// A declared sequence of the declared values.
pub fn sequence(of: ValueInfoProto) -> ValueInfoProto {
    let elem_type = of.r#type.map(Box::new);
    info(&of.name, type_proto::Value::SequenceType(Box::new(type_proto::Sequence { elem_type })))
}

/// A declared optional of the declared value.
pub fn optional(of: ValueInfoProto) -> ValueInfoProto {
    let elem_type = of.r#type.map(Box::new);
    info(&of.name, type_proto::Value::OptionalType(Box::new(type_proto::Optional { elem_type })))
}

/// A declared map from keys of a type to float32 numbers.
pub fn map(name: &str, key_type: i32) -> ValueInfoProto {
    let value_type = value("", FLOAT, &[]).r#type.map(Box::new);
    info(name, type_proto::Value::MapType(Box::new(type_proto::Map { key_type, value_type })))
}

/// A node named after its first output.
pub fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let own = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    NodeProto { op_type: op_type.into(), input: own(inputs), output: own(outputs), ..NodeProto::default() }
}

impl NodeProto {
    pub fn with(mut self, attribute: AttributeProto) -> NodeProto {
        self.attribute.push(attribute);
        self
    }

    pub fn of(mut self, domain: &str) -> NodeProto {
        self.domain = domain.into();
        self
    }
}

pub fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..AttributeProto::default() }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

pub fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, AttributeType::Floats) }
}

pub fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.to_string().into()), ..attribute(name, AttributeType::String) }
}

pub fn strings(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|value| value.to_string().into()).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

/// The type of a declared value.
pub fn type_of(name: &str, of: ValueInfoProto) -> AttributeProto {
    AttributeProto { tp: of.r#type, ..attribute(name, AttributeType::TypeProto) }
}

pub fn subgraph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(graph), ..attribute(name, AttributeType::Graph) }
}

pub fn tensor_attribute(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(tensor), ..attribute(name, AttributeType::Tensor) }
}

/// An attribute whose value is the function's attribute `of`.
pub fn reference(name: &str, of: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { ref_attr_name: of.into(), ..attribute(name, kind) }
}

/// An f32 tensor in raw form.
pub fn weights(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    TensorProto { raw_data: Some(raw.into()), ..empty(name, FLOAT, dims) }
}

/// A tensor without data.
pub fn empty(name: &str, data_type: i32, dims: &[i64]) -> TensorProto {
    TensorProto { name: name.into(), data_type, dims: dims.to_vec(), ..TensorProto::default() }
}

/// An f32 tensor whose data lie in another file.
pub fn external(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> TensorProto {
    let entry =
        |(key, value): &(&str, &str)| StringStringEntryProto { key: (*key).into(), value: (*value).into() };
    TensorProto {
        data_location: tensor_proto::DataLocation::External as i32,
        external_data: entries.iter().map(entry).collect(),
        ..empty(name, FLOAT, dims)
    }
}

pub fn function(name: &str, inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> FunctionProto {
    let own = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    FunctionProto {
        name: name.into(),
        domain: "local".into(),
        input: own(inputs),
        output: own(outputs),
        node: nodes,
        ..FunctionProto::default()
    }
}
