//! An ONNX graph that grows node by node.

use std::collections::HashMap;
use std::fmt::Write;

use prost::Message;

use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::*;
use crate::{Error, Result};

/// Versions in which TreeEnsemble takes float64.
const OPSET: i64 = 21;
const ML_OPSET: i64 = 5;
const IR_VERSION: i64 = 10;

/// Element types in the numbers of ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    Float = 1,
    Uint8 = 2,
    Int64 = 7,
    String = 8,
    Bool = 9,
    Double = 11,
}

/// A graph. Tensors are named `/1`, `/2`, ...; equal nodes are made once.
pub(crate) struct Graph {
    graph: GraphProto,
    /// What has been made, by operator, inputs and attributes.
    made: HashMap<String, String>,
    names: usize,
    elements: usize,
    most: usize,
}

impl Graph {
    /// A graph of a file of so many bytes, which bounds what is made of it.
    pub(crate) fn new(name: &str, file: usize) -> Graph {
        let graph = GraphProto { name: name.into(), ..GraphProto::default() };
        let most = file.saturating_mul(20).saturating_add(1 << 18);
        Graph { graph, made: HashMap::new(), names: 0, elements: 0, most }
    }

    /// Says whether so many more elements of tensors, or nodes, may be made.
    pub(crate) fn room(&self, more: usize) -> Result<()> {
        match self.elements.saturating_add(more) > self.most {
            true => Err(Error::TooLarge { limit: self.most, of: "numbers and nodes" }),
            false => Ok(()),
        }
    }

    /// Counts what was made: an error follows with the next question for room.
    fn count(&mut self, more: usize) {
        self.elements = self.elements.saturating_add(more);
    }

    pub(crate) fn fresh(&mut self) -> String {
        self.names += 1;
        format!("/{}", self.names)
    }

    pub(crate) fn op(&mut self, op_type: &str, inputs: &[&str]) -> String {
        self.with(op_type, inputs, vec![])
    }

    /// An operator with attributes.
    pub(crate) fn with(&mut self, op_type: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let mut key = format!("{op_type} {inputs:?}");
        if !attribute.is_empty() {
            let _ = write!(key, " {attribute:?}");
        }
        if let Some(name) = self.made.get(&key) {
            return name.clone();
        }
        let output = self.large("", op_type, inputs, attribute);
        self.made.insert(key, output.clone());
        output
    }

    /// A node whose attributes are too large to look for an equal one.
    pub(crate) fn large(
        &mut self,
        domain: &str,
        op_type: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> String {
        let output = self.fresh();
        self.push(domain, op_type, inputs, vec![output.clone()], attribute);
        output
    }

    fn push(
        &mut self,
        domain: &str,
        op_type: &str,
        inputs: &[&str],
        output: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) {
        self.count(1);
        self.graph.node.push(NodeProto {
            name: format!("{op_type}{}", output[0]),
            op_type: op_type.into(),
            domain: domain.into(),
            input: inputs.iter().map(|name| name.to_string()).collect(),
            output,
            attribute,
            ..NodeProto::default()
        });
    }

    /// The numbers of each row from the smallest to the largest, and the places where they were.
    pub(crate) fn sorted(&mut self, x: &str, count: i64) -> (String, String) {
        let count = self.ints(&[1], &[count]);
        let (values, places) = (self.fresh(), self.fresh());
        let attributes = vec![int("axis", 1), int("largest", 0)];
        self.push("", "TopK", &[x, &count], vec![values.clone(), places.clone()], attributes);
        (values, places)
    }

    pub(crate) fn scalar(&mut self, value: f64) -> String {
        self.doubles(&[], &[value])
    }

    pub(crate) fn doubles(&mut self, dims: &[i64], values: &[f64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(Type::Double, dims, bytes, vec![], values.len())
    }

    pub(crate) fn ints(&mut self, dims: &[i64], values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(Type::Int64, dims, bytes, vec![], values.len())
    }

    pub(crate) fn texts(&mut self, values: &[String]) -> String {
        let count = values.iter().map(|text| 1 + text.len() / 8).sum();
        self.constant(Type::String, &[values.len() as i64], vec![], values.to_vec(), count)
    }

    fn constant(&mut self, of: Type, dims: &[i64], raw: Vec<u8>, texts: Vec<String>, count: usize) -> String {
        let small = count <= 64;
        let key = if small { format!("constant {of:?} {dims:?} {raw:?} {texts:?}") } else { String::new() };
        if let Some(name) = self.made.get(&key).filter(|_| small) {
            return name.clone();
        }
        self.count(count);
        let name = self.fresh();
        self.graph.initializer.push(tensor(&name, of, dims, raw, texts));
        if small {
            self.made.insert(key, name.clone());
        }
        name
    }

    pub(crate) fn input(&mut self, name: &str, of: Type) {
        self.graph.input.push(declared(name, of, &[None, Some(1)]));
    }

    /// Makes a tensor an output; `dims` are its sizes, where they are known.
    pub(crate) fn output(&mut self, tensor: &str, name: &str, of: Type, dims: &[Option<i64>]) {
        self.push("", "Identity", &[tensor], vec![name.into()], vec![]);
        self.graph.output.push(declared(name, of, dims));
    }

    /// The bytes of the model.
    pub(crate) fn model(self, doc: &str, metadata: Vec<(String, String)>) -> Result<Vec<u8>> {
        self.room(0)?;
        let import = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
        let entry = |(key, value)| StringStringEntryProto { key, value };
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "sardonyx-convert".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: doc.into(),
            opset_import: vec![import("", OPSET), import("ai.onnx.ml", ML_OPSET)],
            metadata_props: metadata.into_iter().map(entry).collect(),
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        Ok(model.encode_to_vec())
    }

    // What expressions are written with.

    pub(crate) fn cast(&mut self, x: &str, to: Type) -> String {
        self.with("Cast", &[x], vec![int("to", to as i64)])
    }

    pub(crate) fn concat(&mut self, parts: &[String]) -> String {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts[..] {
            [one] => one.to_string(),
            _ => self.with("Concat", &parts, vec![int("axis", 1)]),
        }
    }

    /// A reduction over an axis, which stays with size 1 if `keep`.
    pub(crate) fn reduce(&mut self, op_type: &str, x: &str, axis: i64, keep: bool) -> String {
        let axes = self.ints(&[1], &[axis]);
        self.with(op_type, &[x, &axes], vec![int("keepdims", keep.into())])
    }

    /// `x` with a number.
    pub(crate) fn by(&mut self, op_type: &str, x: &str, number: f64) -> String {
        let number = self.scalar(number);
        self.op(op_type, &[x, &number])
    }

    /// `number - x` and the like.
    pub(crate) fn from(&mut self, op_type: &str, number: f64, x: &str) -> String {
        let number = self.scalar(number);
        self.op(op_type, &[&number, x])
    }

    /// `x`, where it is a number, and otherwise the number.
    pub(crate) fn unless_missing(&mut self, x: &str, number: f64) -> String {
        let (missing, number) = (self.op("IsNaN", &[x]), self.scalar(number));
        self.op("Where", &[&missing, &number, x])
    }

    /// 0 and 1 as a number, but missing where `x` is.
    pub(crate) fn truth(&mut self, of: &str, x: &str) -> String {
        let number = self.cast(of, Type::Double);
        self.missing_with(x, &number)
    }

    /// `y`, but missing where `x` is.
    pub(crate) fn missing_with(&mut self, x: &str, y: &str) -> String {
        let (missing, none) = (self.op("IsNaN", &[x]), self.scalar(f64::NAN));
        self.op("Where", &[&missing, &none, y])
    }

    /// The place of the greatest number of each row as a number; missing where the row has a number that is.
    pub(crate) fn greatest(&mut self, x: &str) -> String {
        let place = self.with("ArgMax", &[x], vec![int("axis", 1), int("keepdims", 1)]);
        let (place, sum) = (self.cast(&place, Type::Double), self.reduce("ReduceSum", x, 1, true));
        self.missing_with(&sum, &place)
    }

    /// Columns of a matrix.
    pub(crate) fn columns(&mut self, x: &str, columns: &[i64]) -> String {
        let at = self.ints(&[columns.len() as i64], columns);
        self.with("Gather", &[x, &at], vec![int("axis", 1)])
    }
}

fn declared(name: &str, of: Type, dims: &[Option<i64>]) -> ValueInfoProto {
    let dim = |size: &Option<i64>| {
        let value = match size {
            Some(size) => dimension::Value::DimValue(*size),
            None => dimension::Value::DimParam("n".into()),
        };
        Dimension { value: Some(value), ..Dimension::default() }
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let value = type_proto::Value::TensorType(type_proto::Tensor { elem_type: of as i32, shape });
    let r#type = Some(TypeProto { value: Some(value), ..TypeProto::default() });
    ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
}

fn tensor(name: &str, of: Type, dims: &[i64], raw: Vec<u8>, texts: Vec<String>) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: of as i32,
        dims: dims.to_vec(),
        raw_data: (of != Type::String).then(|| raw.into()),
        string_data: texts.into_iter().map(Into::into).collect(),
        ..TensorProto::default()
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..AttributeProto::default() }
}

pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

pub(crate) fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto { ints: values, ..attribute(name, AttributeType::Ints) }
}

pub(crate) fn strings(name: &str, values: &[String]) -> AttributeProto {
    let strings = values.iter().map(|value| value.clone().into()).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

pub(crate) fn doubles(name: &str, values: &[f64]) -> AttributeProto {
    let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor_of(name, tensor("", Type::Double, &[values.len() as i64], raw, vec![]))
}

pub(crate) fn small(name: &str, values: Vec<u8>) -> AttributeProto {
    tensor_of(name, tensor("", Type::Uint8, &[values.len() as i64], values, vec![]))
}

fn tensor_of(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(tensor), ..attribute(name, AttributeType::Tensor) }
}
