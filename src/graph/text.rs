//! The graph as stable text, with a node on each line. It has names, and never indices or addresses, so that two texts can be
//! compared.

use std::fmt;

use super::{Attr, Attributes, Graph, Node, ValueId};
use crate::array::{Array, Numbers};
use crate::error::shown;
use crate::{DType, Tensor};

/// Constants of up to this number of elements are written out: shapes, axes, scalars.
const WRITTEN: usize = 8;

impl<O: fmt::Display> Graph<O> {
    /// `%name`, or `%"a name"` if the name has characters that would end it.
    fn name(&self, id: ValueId) -> String {
        let name = &self.value(id).name;
        let shown = shown(name).to_string();
        let plain = !name.is_empty() && !name.contains([' ', ',', ')', '"']) && shown == *name;
        if plain { format!("%{name}") } else { format!("%\"{}\"", shown.replace('"', "\\\"")) }
    }

    /// `%name: float32[batch, 3]`, with what the model declares of it.
    fn label(&self, id: ValueId) -> String {
        let value = self.value(id);
        if let Some(container) = &value.container {
            return format!("{}: {container}", self.name(id));
        }
        match (value.dtype, &value.shape) {
            (None, None) => self.name(id),
            (dtype, shape) => {
                let dtype = dtype.map_or("?", |dtype| dtype.name());
                let dims =
                    |dims: &Vec<_>| dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                format!("{}: {dtype}[{}]", self.name(id), shape.as_ref().map_or("...".into(), dims))
            }
        }
    }

    fn names(&self, ids: &[Option<ValueId>], text: impl Fn(ValueId) -> String) -> String {
        ids.iter().map(|id| id.map_or("-".into(), &text)).collect::<Vec<_>>().join(", ")
    }

    /// The constants that a node or an output uses, in the order of first use.
    pub(super) fn used_constants(&self) -> Vec<(ValueId, &Tensor)> {
        let mut seen = vec![false; self.values.len()];
        let used = self.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&self.outputs);
        let first = used.filter(|id| !std::mem::replace(&mut seen[id.index()], true));
        first.filter_map(|&id| Some((id, self.value(id).constant.as_ref()?))).collect()
    }

    fn node(&self, node: &Node<O>) -> String {
        let outputs = self.names(&node.outputs, |id| self.label(id));
        let inputs = self.names(&node.inputs, |id| self.name(id));
        let Node { op_type, opset, attributes, op, .. } = node;
        let mut text = format!("{outputs} = {}-{opset}({inputs}){attributes}{op}", shown(op_type));
        let first = node.outputs.iter().flatten().next().map(|id| self.value(*id).name.as_str());
        if first != Some(&node.name) {
            text += &format!("  // {}", shown(&node.name));
        }
        text
    }
}

/// ` = [1, 2]` for a small constant; nothing for a large one.
fn written(tensor: &Tensor) -> String {
    let array = (tensor.len() <= WRITTEN).then(|| Array::from_tensor(tensor).ok()).flatten();
    match array.map(|array| array.data) {
        None => String::new(),
        // All values are exact in f64. For the narrower types, the text of the f32 is exact too, and shorter.
        Some(Numbers::Float(values)) if tensor.dtype() != DType::F64 => {
            format!(" = {:?}", values.into_iter().map(|value| value as f32).collect::<Vec<_>>())
        }
        Some(Numbers::Float(values)) => format!(" = {values:?}"),
        Some(Numbers::Int(values)) => format!(" = {values:?}"),
        Some(Numbers::Text(values)) => format!(" = {values:?}"),
    }
}

/// ` { axis: -1, mode: "linear" }`: integers have no point, other numbers have a point or an exponent.
impl<O> fmt::Display for Attributes<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attributes: Vec<String> =
            self.0.iter().map(|(name, attr)| format!("{}: {attr}", shown(name))).collect();
        if attributes.is_empty() { Ok(()) } else { write!(f, " {{ {} }}", attributes.join(", ")) }
    }
}

impl<O> fmt::Display for Attr<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attr::Int(value) => write!(f, "{value}"),
            Attr::Float(value) => write!(f, "{value:?}"),
            Attr::String(value) => write!(f, "{value:?}"),
            Attr::Ints(values) => write!(f, "{values:?}"),
            Attr::Floats(values) => write!(f, "{values:?}"),
            Attr::Strings(values) => write!(f, "{values:?}"),
            Attr::Tensor(tensor) => {
                write!(f, "{}{:?}{}", tensor.dtype(), tensor.shape(), written(tensor))
            }
            Attr::Graph(graph) => write!(f, "graph of {} nodes", graph.nodes.len()),
            Attr::Type(kind) => write!(f, "{kind}"),
            Attr::Other(kind) => shown(kind).fmt(f),
        }
    }
}

impl<O: fmt::Display> fmt::Display for Graph<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph '{}', {} nodes", shown(&self.name), self.nodes.len())?;
        for id in &self.inputs {
            writeln!(f, "input {}", self.label(*id))?;
        }
        for id in &self.captures {
            writeln!(f, "capture {}", self.label(*id))?;
        }
        for (id, tensor) in self.used_constants() {
            writeln!(f, "constant {}{}", self.label(id), written(tensor))?;
        }
        for node in &self.nodes {
            writeln!(f, "{}", self.node(node))?;
        }
        for id in &self.outputs {
            writeln!(f, "output {}", self.label(*id))?;
        }
        Ok(())
    }
}
