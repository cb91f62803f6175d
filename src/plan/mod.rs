//! Planning: symbols bound to numbers, operators fused and lowered to kernel calls, memory laid out. Pure functions from
//! a graph and input shapes to a program; no device is touched.

mod access;
pub(crate) mod arena;
mod code;
mod facts;
mod fault;
mod first;
mod forms;
mod fusion;
mod lower;
mod memory;
mod open;
mod program;
#[cfg(test)]
mod sizes;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use access::Access;
pub(crate) use code::{Code, Epilogue, Pairing, Reads};
pub(crate) use facts::{Fact, FactBase, Facts, MAX_COUNT, Signature, check_sizes, is_too_large, node_error};
pub(crate) use fault::Outside;
pub(crate) use first::first_plan;
pub(crate) use forms::Forms;
pub(crate) use lower::Lower;
pub(crate) use memory::Memory;
pub(crate) use open::{Inputs, Moves};
pub(crate) use program::{Call, OutputSource, PackedDim, Packing, Place, Program, TensorId, WeightKey};

use crate::graph::{Graph, ValueId};
use crate::kernels::{Kernel, Target};
use crate::{Error, Result};

/// What planning may do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Lower each node on its own.
    pub(crate) no_fusion: bool,
    /// Values to be read back besides the graph's outputs.
    pub(crate) keep: Vec<ValueId>,
}

/// A plan: what to dispatch, and where every tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) memory: Memory,
    /// Kernels that plans for other shapes need besides, with what they bind for writing.
    pub(crate) spare: Vec<(Kernel, Vec<bool>)>,
}

/// Plans one run of `graph` for inputs of the given signature.
pub(crate) fn plan(
    graph: &Graph,
    facts: Facts,
    target: &Target,
    options: &Options,
    forms: &mut Forms,
) -> Result<Plan> {
    placed(lower(graph, &facts, target, options, forms)?, target)
}

/// The values that one kernel makes and another reads: what there is to see of a run whose operators are fused.
pub(crate) fn handed_on(graph: &Graph, facts: &Facts) -> Vec<ValueId> {
    let mut unit_of = vec![None; graph.nodes.len()];
    for (i, unit) in fusion::Units::of(graph, facts, &Options::default()).all.iter().enumerate() {
        unit.nodes().for_each(|node| unit_of[node.index()] = Some(i));
    }
    let producers = graph.producers();
    let made_in = |id: ValueId| producers[id.index()].and_then(|node| unit_of[node.index()]);
    let mut values = Vec::new();
    for (node, unit) in graph.nodes.iter().zip(&unit_of).filter(|(_, unit)| unit.is_some()) {
        values.extend(
            node.data_inputs().flatten().filter(|&id| made_in(id).is_some_and(|made| Some(made) != *unit)),
        );
    }
    values.sort();
    values.dedup();
    values
}

fn lower(
    graph: &Graph,
    facts: &Facts,
    target: &Target,
    options: &Options,
    forms: &mut Forms,
) -> Result<Program> {
    let units = forms.units(graph, facts, options);
    lower::lower(graph, facts, &units.all, target, options, forms)
}

fn placed(program: Program, target: &Target) -> Result<Plan> {
    let program = memory::shared(program, target);
    check_calls(&program)?;
    let memory = memory::place(&program, target)?;
    Ok(Plan { program, memory, spare: Vec::new() })
}

/// Holds each call against what its kernel takes for granted.
fn check_calls(program: &Program) -> Result<()> {
    for call in &program.calls {
        call.kernel.spec().fits(&call.params).map_err(|what| {
            let kernel = call.kernel.spec().label();
            let why = "a mistake of Sardonyx's planning: please report it, with the inputs' shapes";
            Error::Gpu(format!("kernel {kernel} ({}) takes {what} for granted: {why}", call.node))
        })?;
    }
    Ok(())
}
