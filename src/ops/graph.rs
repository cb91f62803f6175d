//! The graph whose operations are operators: what the rooms above `ops` call a graph.

use std::fmt;

use super::Op;
use crate::graph::{self, Value, ValueId};

pub(crate) type Graph = graph::Graph<Op>;

pub(crate) type Node = graph::Node<Op>;

impl Node {
    /// The inputs whose data the device reads, by input number; `None` for the others.
    pub(crate) fn data_inputs(&self) -> impl Iterator<Item = Option<ValueId>> {
        let operator = self.op.operator();
        self.inputs.iter().enumerate().map(move |(i, input)| input.filter(|_| operator.reads_data(i)))
    }
}

impl Graph {
    /// Gives a node a first output, if its operator does not do without one.
    pub(crate) fn complete(&mut self, node: &mut Node) {
        if let Some(first @ None) = node.outputs.first_mut()
            && !node.op.operator().first_output_is_optional()
        {
            let name = format!("{}.unused", node.name);
            *first = Some(self.add_value(Value { name, ..Value::default() }));
        }
    }
}

/// A node's attributes, as a graph's text has them behind the inputs.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Unsupported(reason) => write!(f, "  unsupported: {reason}"),
            op => f.write_str(&attributes(&format!("{:?}", op.operator()))),
        }
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

#[cfg(test)]
mod tests {
    use super::super::case::graph_of_case;
    use crate::internals::cases::all_cases;

    /// Text with an address in it would differ from run to run.
    #[test]
    fn no_operator_prints_an_address() {
        for case in all_cases() {
            let text = graph_of_case(&case).unwrap().to_string();
            assert!(!text.contains("0x"), "{text}");
        }
    }
}
