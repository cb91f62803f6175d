//! Planning: symbols bound to numbers, operators fused and lowered to kernel calls, memory laid out. Pure functions from
//! a graph and input shapes to a program; no device is touched.

mod access;
pub(crate) mod arena;
mod code;
mod facts;
mod forms;
mod fusion;
mod lower;
mod memory;
mod open;
mod program;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use access::Access;
pub(crate) use code::{Code, Epilogue, Pairing, Reads};
pub(crate) use facts::{Fact, FactBase, Facts, Signature, check_sizes, node_error};
pub(crate) use forms::Forms;
use forms::{Changes, Stage};
pub(crate) use lower::Lower;
pub(crate) use memory::Memory;
pub(crate) use open::{Inputs, Moves};
pub(crate) use program::{Call, OutputSource, PackedDim, Packing, Place, Program, TensorId, WeightKey};

use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::kernels::{Kernel, Target};

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

/// A program's kernels, with what they bind for writing.
fn kernels(program: Program) -> Vec<(Kernel, Vec<bool>)> {
    let read_write: Vec<_> = program.calls.iter().map(|call| program.read_write(call)).collect();
    program.calls.into_iter().map(|call| call.kernel).zip(read_write).collect()
}

/// Whether the kernel is quickly compiled: a copy, or a chain of scalar operators.
fn is_simple(kernel: &Kernel) -> bool {
    matches!(kernel, Kernel::Strided(_) | Kernel::Elementwise(_))
}

/// A program for some sizes, and how much had changed in the forms when it was lowered.
struct Lowered {
    facts: Facts,
    program: Program,
    seen: Changes,
}

/// Plans the first run of `graph`. What it and other sizes of the graph's open dimensions have in common goes into `forms`,
/// and the kernels that some of those need besides come with the plan.
pub(crate) fn first_plan(
    graph: &Graph,
    facts: Facts,
    moves: &Moves,
    target: &Target,
    options: &Options,
    forms: &mut Forms,
) -> Result<Plan> {
    let lowered = |facts: Facts, forms: &mut Forms| {
        let program = lower(graph, &facts, target, options, forms)?;
        Ok(Lowered { facts, program, seen: forms.changes() })
    };
    // What the device refuses for other sizes is of no concern here.
    let other = |facts: Option<Facts>, forms: &mut Forms| lowered(facts?, forms).ok();
    // 21 is 10101 in binary: halved some times, it is no multiple of 4, whichever way halves are rounded; nor are most products
    // of two dimensions of which one is that, and the other twice as much. A device may not take as large ones, or as many of
    // what there is one, such as a batch.
    let sizes = [(64, [21, 42]), (16, [5, 10]), (4, [1, 2])];
    sizes.into_iter().find_map(|(every, last)| other(moves.to(last, every, 0, 9), forms));
    let mut emptied: Vec<Lowered> = moves.emptied().filter_map(|facts| other(Some(facts), forms)).collect();
    forms.advance(Stage::Tiles);
    let mut first = lowered(facts, forms)?;
    // As large as the device takes it.
    let sizes = [(64, [42, 21], 64), (64, [42, 21], 0), (16, [10, 5], 0), (4, [2, 1], 0)];
    let mut sizes = sizes.into_iter().map(|(every, last, least)| moves.to(last, every, least, every));
    let large = sizes.find_map(|facts| other(facts, forms));
    // Tiles for sizes of which nothing is known yet come when those do.
    let settled = if large.is_some() { Stage::Settled } else { Stage::Tiles };
    let mut sizes: Vec<Lowered> = large.into_iter().chain(other(moves.least(), forms)).collect();
    forms.advance(settled);
    loop {
        let now = forms.changes();
        // The first run's own tiles stay the best for it, and those of what is emptied are not asked for.
        let changed = [&mut first].into_iter().chain(&mut emptied).find(|one| one.seen.forms != now.forms);
        let Some(stale) = changed.or_else(|| sizes.iter_mut().find(|one| one.seen != now)) else { break };
        stale.program = lower(graph, &stale.facts, target, options, forms)?;
        stale.seen = forms.changes();
    }
    let spare = |lowered: Vec<Lowered>, wanted: fn(&Kernel) -> bool| {
        let all = lowered.into_iter().flat_map(|one| kernels(memory::shared(one.program, target)));
        all.filter(move |(kernel, _)| wanted(kernel))
    };
    let spare = spare(sizes, |_| true).chain(spare(emptied, is_simple)).collect();
    Ok(Plan { spare, ..placed(first.program, target)? })
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
    let memory = memory::place(&program, target)?;
    Ok(Plan { program, memory, spare: Vec::new() })
}
