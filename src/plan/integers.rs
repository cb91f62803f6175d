//! Which values of 64-bit integers a plan holds in 64 bits.
//!
//! A session's plans hold 64-bit integers in 32 bits, and report one that does not fit; then the session makes plans that hold
//! them in 64. Operators with kernels for 64 bits compute in these, such as `Add`. Others, such as `Resize`, read integers of
//! 32 bits, and report an element that does not fit, so that their results fit.

use crate::DType;
use crate::facts::Facts;
use crate::graph::ValueId;
use crate::kernels::expr::{Builder, Integers};
use crate::ops::{Graph, Node};

/// For each value, whether it is a 64-bit integer in 64 bits.
pub(super) fn held(graph: &Graph, facts: &Facts, integers: Integers) -> Vec<bool> {
    if integers == Integers::Bits32 {
        return Vec::new();
    }
    let dtype = |id: ValueId| facts.get(id).map(|fact| fact.dtype);
    let is_wide = |id: ValueId| dtype(id).is_some_and(|dtype| matches!(dtype, DType::I64 | DType::U64));
    let mut held: Vec<bool> = (0..graph.values.len()).map(|i| is_wide(ValueId(i as u32))).collect();
    for node in &graph.nodes {
        let first = node.inputs.first().copied().flatten();
        let holds = match first.filter(|_| node.op.operator().moves_elements()) {
            Some(input) => held[input.index()],
            None => computes(node, facts),
        };
        for output in node.outputs.iter().flatten() {
            held[output.index()] &= holds;
        }
    }
    held
}

/// Whether the operator has kernels for 64-bit integers.
pub(super) fn computes(node: &Node, facts: &Facts) -> bool {
    let out = node.outputs.first().copied().flatten().and_then(|id| facts.get(id));
    let mut builder = Builder::of_shape(out.map_or(&[], |out| &out.shape), Integers::Bits64);
    let operator = node.op.operator();
    let register = |id: ValueId| Integers::Bits64.register(facts.get(id)?.dtype);
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for (i, input) in node.data_inputs().enumerate() {
        let register = input.and_then(register);
        inputs.push(register.map(|register| match operator.table() {
            Some(table) if table == i => builder.table(i, register),
            _ => builder.load(i, register),
        }));
    }
    match out.and_then(|out| operator.pointwise(&mut builder, &inputs, out.dtype)) {
        Some(value) => !builder.finish(vec![value]).0.mixes(),
        None => operator.computes_i64(),
    }
}
