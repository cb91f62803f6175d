//! The evaluations of nodes on the CPU reference, each by itself: what one says that it takes, and the evaluation.

use std::sync::Arc;

use super::cases::{inputs_of, listed_cases};
use crate::array::Array;
use crate::budget::Work;
use crate::facts::{Fact, texts};
use crate::ops::case::graph_of_case;
use crate::ops::{Graph, Node};
use crate::reference::Values;
use crate::{Interrupt, Result, Session, Tensor, reference};

/// A node with its inputs.
pub struct Evaluation {
    pub name: String,
    pub op_type: String,
    /// The bytes of all arrays that exist at the same time, as the operator says.
    pub estimate: u64,
    /// The bytes of the inputs.
    pub inputs: u64,
    node: Node,
    held: Vec<Option<Arc<Array>>>,
}

impl Evaluation {
    fn new(node: &Node, values: &Values) -> Option<Evaluation> {
        let held: Vec<Option<Arc<Array>>> =
            node.inputs.iter().map(|id| id.and_then(|id| values.shared(id))).collect();
        let facts: Vec<Option<Fact>> = held.iter().map(|array| array.as_ref().map(Fact::of_shared)).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let operator = node.op.operator();
        let mut outputs = node.op.infer(&facts).ok()?;
        let work = operator.work(&facts, &outputs).ok()?;
        let longest = held.iter().flatten().map(|array| array.longest_text()).max().unwrap_or(0);
        outputs.extend(facts.iter().flatten().map(|fact| Fact::new(fact.dtype, fact.shape.as_slice())));
        let inputs: Work = facts.iter().flatten().map(|fact| Work::array(fact.dtype, &fact.shape)).sum();
        Some(Evaluation {
            name: node.name.clone(),
            op_type: node.op_type.clone(),
            estimate: work.bytes.saturating_add(texts(&outputs, longest)),
            inputs: inputs.bytes,
            node: node.clone(),
            held,
        })
    }

    /// Evaluates the node. What is made is dropped.
    pub fn run(&self) {
        let inputs: Vec<Option<&Array>> = self.held.iter().map(|array| array.as_deref()).collect();
        self.node.op.operator().eval(&inputs).ok();
    }
}

/// Calls `each` with every node of a run on the reference.
fn of_graph(graph: &Graph, inputs: &[Tensor], each: &mut dyn FnMut(&Evaluation)) -> Result<()> {
    let values = reference::run(graph, inputs, true, &Interrupt::new())?;
    graph.nodes.iter().filter_map(|node| Evaluation::new(node, &values)).for_each(|node| each(&node));
    Ok(())
}

/// Calls `each` with the node of every case.
pub fn of_cases(each: &mut dyn FnMut(&Evaluation)) {
    for case in listed_cases() {
        // A case that the reference refuses evaluates nothing.
        graph_of_case(&case).and_then(|graph| of_graph(&graph, &inputs_of(&case), each)).ok();
    }
}

/// Calls `each` with every node of a run of `session`, a session on the reference, on these inputs.
pub fn of_session(
    session: &Session,
    inputs: &[(&str, &Tensor)],
    each: &mut dyn FnMut(&Evaluation),
) -> Result<()> {
    let given = session.given(inputs)?;
    of_graph(&given.entry.graph, &given.tensors(), each)
}
