//! What a graph consists of, as values for programs.

use std::collections::BTreeMap;
use std::fmt;

use super::{Attr, Graph, Node, ValueId};
use crate::{DType, Dim, Tensor};

/// A graph: a stage of a model before sizes are known.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct GraphReport {
    /// Its name.
    pub name: String,
    /// The values that a run is given.
    pub inputs: Vec<ValueReport>,
    /// In a subgraph: the values of the graph around it that it uses.
    pub captures: Vec<ValueReport>,
    /// The constants that nodes or outputs use.
    pub constants: Vec<ValueReport>,
    /// The nodes, each after those whose results it takes.
    pub nodes: Vec<NodeReport>,
    /// The values that a run gives.
    pub outputs: Vec<ValueReport>,
}

/// A value of a graph.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct ValueReport {
    /// Its name.
    pub name: String,
    /// Its element type, if that is declared.
    pub dtype: Option<DType>,
    /// Its dimensions, if at least their number is declared.
    pub shape: Option<Vec<Dim>>,
}

/// A node of a graph.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// `Softmax`, or `com.microsoft.Gelu` for another domain than ONNX's own.
    pub operator: String,
    /// The version of the operator set.
    pub opset: i64,
    /// The names of its inputs; `None` for one that is left out.
    pub inputs: Vec<Option<String>>,
    /// Its results; `None` for one that nothing reads.
    pub outputs: Vec<Option<ValueReport>>,
    /// Its attributes.
    pub attributes: BTreeMap<String, AttributeReport>,
    /// Why no device computes it, if none does.
    pub unsupported: Option<String>,
}

/// An attribute of a node.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(untagged)]
#[non_exhaustive]
#[allow(missing_docs)] // The kinds of ONNX's attributes.
pub enum AttributeReport {
    Int(i64),
    Float(f32),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<String>),
    Tensor { dtype: DType, shape: Vec<usize> },
    Graph(Box<GraphReport>),
}

impl<O: fmt::Display> Graph<O> {
    pub(crate) fn report(&self) -> GraphReport {
        let values = |ids: &[ValueId]| ids.iter().map(|id| self.value_report(*id)).collect();
        GraphReport {
            name: self.name.clone(),
            inputs: values(&self.inputs),
            captures: values(&self.captures),
            constants: self.used_constants().into_iter().map(|(id, _)| self.value_report(id)).collect(),
            nodes: self.nodes.iter().map(|node| self.node_report(node)).collect(),
            outputs: values(&self.outputs),
        }
    }

    fn value_report(&self, id: ValueId) -> ValueReport {
        let value = self.value(id);
        ValueReport { name: value.name.clone(), dtype: value.dtype, shape: value.shape.clone() }
    }

    fn node_report(&self, node: &Node<O>) -> NodeReport {
        let Node { name, op_type, opset, attributes, op, inputs, outputs } = node;
        NodeReport {
            name: name.clone(),
            operator: op_type.clone(),
            opset: *opset,
            inputs: inputs.iter().map(|id| id.map(|id| self.value(id).name.clone())).collect(),
            outputs: outputs.iter().map(|id| id.map(|id| self.value_report(id))).collect(),
            attributes: attributes.0.iter().map(|(name, attr)| (name.clone(), attr.report())).collect(),
            unsupported: Some(op.to_string().trim().to_string()).filter(|text| !text.is_empty()),
        }
    }
}

impl<O: fmt::Display> Attr<O> {
    fn report(&self) -> AttributeReport {
        match self {
            Attr::Int(value) => AttributeReport::Int(*value),
            Attr::Float(value) => AttributeReport::Float(*value),
            Attr::String(value) => AttributeReport::Text(value.clone()),
            Attr::Ints(values) => AttributeReport::Ints(values.clone()),
            Attr::Floats(values) => AttributeReport::Floats(values.clone()),
            Attr::Strings(values) => AttributeReport::Strings(values.clone()),
            Attr::Tensor(tensor) => of_tensor(tensor),
            Attr::Graph(graph) => AttributeReport::Graph(Box::new(graph.report())),
            Attr::Type(kind) => AttributeReport::Text(kind.to_string()),
            Attr::Other(kind) => AttributeReport::Text((*kind).into()),
        }
    }
}

fn of_tensor(tensor: &Tensor) -> AttributeReport {
    AttributeReport::Tensor { dtype: tensor.dtype(), shape: tensor.shape().to_vec() }
}
