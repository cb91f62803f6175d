//! The graph as stable text, a node a line: names, never numbers of arenas or addresses, so that two texts can be compared.

use std::fmt;

use super::{Graph, Node, ValueId};
use crate::ops::Op;
use crate::reference::Array;
use crate::reference::array::Numbers;
use crate::{DType, Tensor};

/// Constants of up to this many elements are written out: shapes, axes, scalars.
const WRITTEN: usize = 8;

impl Graph {
    /// `%name: float32[batch, 3]`, as far as the model declares it.
    fn label(&self, id: ValueId) -> String {
        let value = self.value(id);
        match (value.dtype, &value.shape) {
            (None, None) => format!("%{}", value.name),
            (dtype, shape) => {
                let dtype = dtype.map_or("?", |dtype| dtype.name());
                let dims =
                    |dims: &Vec<_>| dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                format!("%{}: {dtype}[{}]", value.name, shape.as_ref().map_or("...".into(), dims))
            }
        }
    }

    fn names(&self, ids: &[Option<ValueId>], text: impl Fn(ValueId) -> String) -> String {
        ids.iter().map(|id| id.map_or("-".into(), &text)).collect::<Vec<_>>().join(", ")
    }

    /// Constants that a node or an output uses, in the order of first use.
    fn used_constants(&self) -> Vec<(ValueId, &Tensor)> {
        let mut seen = vec![false; self.values.len()];
        let used = self.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&self.outputs);
        let first = used.filter(|id| !std::mem::replace(&mut seen[id.index()], true));
        first.filter_map(|&id| Some((id, self.value(id).constant.as_ref()?))).collect()
    }

    fn node(&self, node: &Node) -> String {
        let outputs = self.names(&node.outputs, |id| self.label(id));
        let inputs = self.names(&node.inputs, |id| format!("%{}", self.value(id).name));
        let mut text = format!("{outputs} = {}-{}({inputs})", node.op_type, node.opset);
        text += &match &node.op {
            Op::Unsupported(reason) => format!("  unsupported: {reason}"),
            op => attributes(&format!("{:?}", op.operator())),
        };
        let first = node.outputs.iter().flatten().next().map(|id| self.value(*id).name.as_str());
        if first != Some(&node.name) {
            text += &format!("  // {}", node.name);
        }
        text
    }
}

/// ` { axis: -1 }` of `Softmax { axis: -1, perm: None }`: the operator's name is there already, and what a model leaves out
/// is left out.
fn attributes(parsed: &str) -> String {
    let Some(start) = parsed.find(" {") else { return String::new() };
    let mut text = parsed[start..].to_string();
    while let Some(open) = text.find("Some(") {
        let inside = open + "Some(".len();
        let mut depth = 1;
        let close = text[inside..].find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let Some(close) = close else { break };
        text.replace_range(inside + close..inside + close + 1, "");
        text.replace_range(open..inside, "");
    }
    while let Some(end) = text.find(": None") {
        let name = text[..end].rfind([' ', '(', '{']).map_or(0, |at| at + 1);
        let mut rest = end + ": None".len();
        rest += if text[rest..].starts_with(", ") { 2 } else { 0 };
        text.replace_range(name..rest, "");
    }
    text.replace(", }", " }")
}

/// ` = [1, 2]` of a small constant; nothing of a large one.
fn written(tensor: &Tensor) -> String {
    let array = (tensor.len() <= WRITTEN).then(|| Array::from_tensor(tensor).ok()).flatten();
    match array.map(|array| array.data) {
        None => String::new(),
        // Values are exact in f64; what f32 writes is as exact for the narrower types, and shorter.
        Some(Numbers::Float(values)) if tensor.dtype() != DType::F64 => {
            format!(" = {:?}", values.into_iter().map(|value| value as f32).collect::<Vec<_>>())
        }
        Some(Numbers::Float(values)) => format!(" = {values:?}"),
        Some(Numbers::Int(values)) => format!(" = {values:?}"),
        Some(Numbers::Text(values)) => format!(" = {values:?}"),
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph '{}', {} nodes", self.name, self.nodes.len())?;
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

#[cfg(test)]
mod tests {
    use crate::ops::{case::graph_of_case, tests::all_cases};

    /// Text with an address in it would differ from run to run.
    #[test]
    fn no_operator_prints_an_address() {
        for case in all_cases() {
            let text = graph_of_case(&case).unwrap().to_string();
            assert!(!text.contains("0x"), "{text}");
        }
    }
}
