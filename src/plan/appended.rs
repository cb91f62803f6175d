//! Outputs that are an input of the graph with rows appended, as the caches of decoders are. Where the caller's memory has room
//! behind the input's rows, only the new rows are written.

use std::collections::{HashMap, HashSet};

use crate::graph::ValueId;
use crate::ops::{Graph, Op};

/// Output `output` of a graph is its input `input` with rows appended along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// As the Concat has it: -1 is the last axis.
    axis: i64,
}

impl Appended {
    /// The axis, if the input has this rank.
    pub(crate) fn axis(&self, rank: usize) -> Option<usize> {
        crate::ops::axes::axis(self.axis, rank).ok()
    }

    /// The outputs of a graph that are an input with rows appended. The rows behind an input are one output's alone.
    pub(crate) fn all(graph: &Graph) -> Vec<Appended> {
        let mut taken = HashSet::new();
        let mut all = Vec::new();
        let [inputs, outputs] = [&graph.inputs, &graph.outputs].map(|ids| {
            let numbered = ids.iter().enumerate().rev();
            numbered.map(|(i, id)| (*id, i)).collect::<HashMap<ValueId, usize>>()
        });
        for node in &graph.nodes {
            let (Op::Concat(concat), [Some(first), rest @ ..], [Some(made)]) =
                (&*node.op, &node.inputs[..], &node.outputs[..])
            else {
                continue;
            };
            let (Some(&input), Some(&output)) = (inputs.get(first), outputs.get(made)) else { continue };
            if !rest.contains(&Some(*first)) && taken.insert(input) {
                all.push(Appended { input, output, axis: concat.axis() });
            }
        }
        all
    }
}
