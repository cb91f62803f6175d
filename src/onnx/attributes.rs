//! From `AttributeProto` to `Attr`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::import::{Importer, invalid};
use super::order::title;
use super::proto::attribute_proto::AttributeType;
use super::proto::{AttributeProto, NodeProto};
use super::{sparse, tensor, types};
use crate::Result;
use crate::graph::ValueId;
use crate::ops::{Attr, Attributes};

impl<'m> Importer<'m> {
    /// A node's attributes, and the values that its subgraphs capture. Subgraphs stand in the order of their attributes'
    /// names, and the captures of each in the order of its list.
    pub(super) fn attributes(&mut self, node: &'m NodeProto) -> Result<(Attributes, Vec<ValueId>)> {
        let mut attributes = BTreeMap::new();
        let mut captures = BTreeMap::new();
        for attribute in &node.attribute {
            let Some(source) = self.resolve(node, attribute)? else { continue };
            let name = attribute.name.clone();
            if attributes.contains_key(&name) {
                return twice(node, &name);
            }
            if let Some(graph) = source.g.as_ref().filter(|_| kind(source) == AttributeType::Graph) {
                let (graph, captured) = self.subgraph(graph)?;
                captures.insert(name.clone(), captured);
                attributes.insert(name, Attr::Graph(Box::new(graph)));
            } else {
                let value = self.attribute(source)?;
                attributes.insert(name, value);
            }
        }
        Ok((attributes.into_iter().collect(), captures.into_values().flatten().collect()))
    }

    /// The attribute, or the attribute of the enclosing function to which it refers; `None` if the caller of the function
    /// leaves that out.
    pub(super) fn resolve(
        &mut self,
        node: &'m NodeProto,
        attribute: &'m AttributeProto,
    ) -> Result<Option<&'m AttributeProto>> {
        let name = attribute.name.as_str();
        if name.is_empty() {
            return invalid(format!("node '{}' has an attribute without a name", title(node)));
        }
        if attribute.ref_attr_name.is_empty() {
            return Ok(Some(attribute));
        }
        match &self.scope().context.attributes {
            Some(attributes) => Ok(attributes.get(attribute.ref_attr_name.as_str()).copied()),
            None => invalid(format!(
                "attribute '{name}' of node '{}' refers to a function's attribute, and stands in no function",
                title(node)
            )),
        }
    }

    fn attribute(&mut self, proto: &'m AttributeProto) -> Result<Attr> {
        use AttributeType::*;
        Ok(match kind(proto) {
            Float => Attr::Float(proto.f.unwrap_or_default()),
            Int => Attr::Int(proto.i.unwrap_or_default()),
            String => text(proto.s.as_ref().unwrap_or(&Bytes::new())).map_or(NOT_TEXT, Attr::String),
            Floats => Attr::Floats(proto.floats.clone()),
            Ints => Attr::Ints(proto.ints.clone()),
            Strings => proto.strings.iter().map(text).collect::<Option<_>>().map_or(NOT_TEXT, Attr::Strings),
            Tensor => match &proto.t {
                Some(t) => Attr::Tensor(tensor::import(t, &mut self.external)?),
                None => {
                    return invalid(format!("attribute '{}' should be a tensor, and is empty", proto.name));
                }
            },
            SparseTensor => match &proto.sparse_tensor {
                Some(t) => Attr::Tensor(sparse::import(t, &mut self.external, &self.budget)?.1),
                None => {
                    return invalid(format!("attribute '{}' should be a tensor, and is empty", proto.name));
                }
            },
            Graph => return invalid(format!("attribute '{}' should be a graph, and is empty", proto.name)),
            Tensors => Attr::Other("tensors"),
            Graphs => Attr::Other("graphs"),
            SparseTensors => Attr::Other("sparse tensors"),
            TypeProto => proto.tp.as_ref().and_then(types::of_type).map_or(Attr::Other("type"), Attr::Type),
            TypeProtos => Attr::Other("types"),
            Undefined => Attr::Other("nothing that is known"),
        })
    }
}

pub(super) fn twice<T>(node: &NodeProto, name: &str) -> Result<T> {
    invalid(format!("node '{}' has the attribute '{name}' twice", title(node)))
}

const NOT_TEXT: Attr = Attr::Other("string that is not UTF-8");

fn text(bytes: &Bytes) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(String::from)
}

/// The kind of an attribute. Files of IR version 1 do not say it: there, the field that is present decides.
fn kind(proto: &AttributeProto) -> AttributeType {
    use AttributeType::*;
    match AttributeType::try_from(proto.r#type).unwrap_or(Undefined) {
        Undefined if proto.f.is_some() => Float,
        Undefined if proto.i.is_some() => Int,
        Undefined if proto.s.is_some() => String,
        Undefined if proto.t.is_some() => Tensor,
        Undefined if proto.g.is_some() => Graph,
        Undefined if !proto.floats.is_empty() => Floats,
        Undefined if !proto.ints.is_empty() => Ints,
        Undefined if !proto.strings.is_empty() => Strings,
        kind => kind,
    }
}
