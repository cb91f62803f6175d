//! The graph as stable text, a node a line.

use std::fmt;

use super::{Graph, ValueId};

impl Graph {
    fn label(&self, id: ValueId) -> String {
        let value = self.value(id);
        let dtype = value.dtype.map_or("?".to_string(), |dtype| dtype.to_string());
        let shape = match &value.shape {
            Some(dims) => dims.iter().map(|d| d.to_string()).collect::<Vec<_>>().join(","),
            None => "..".into(),
        };
        format!("%{} {dtype}[{shape}]", value.name)
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for id in &self.inputs {
            writeln!(f, "input {}", self.label(*id))?;
        }
        for node in &self.nodes {
            let inputs: Vec<String> = node
                .inputs
                .iter()
                .map(|id| id.map_or("-".into(), |id| format!("%{}", self.value(id).name)))
                .collect();
            let outputs: Vec<String> = node
                .outputs
                .iter()
                .map(|id| id.map_or("-".into(), |id| format!("%{}", self.value(id).name)))
                .collect();
            writeln!(f, "{} = {}({})", outputs.join(", "), node.op_type, inputs.join(", "))?;
        }
        for id in &self.outputs {
            writeln!(f, "output {}", self.label(*id))?;
        }
        Ok(())
    }
}
