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
use forms::Stage;
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

/// A program's kernels of some kind, with what they bind for writing.
fn kernels(program: &Program, wanted: impl Fn(&Kernel) -> bool) -> impl Iterator<Item = (Kernel, Vec<bool>)> {
    let calls = program.calls.iter().filter(move |call| wanted(&call.kernel));
    calls.map(|call| (call.kernel.clone(), program.read_write(call)))
}

fn is_copy(kernel: &Kernel) -> bool {
    match kernel {
        Kernel::Strided(_) => true,
        Kernel::Elementwise(kernel) => kernel.fused.expr.len() == 1 && kernel.fused.operands.len() == 1,
        _ => false,
    }
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
    let mut spare = Vec::new();
    // What the device refuses for other sizes is of no concern here.
    let planned = |facts, forms: &mut Forms| program(graph, facts, target, options, forms).ok();
    // 21 is 10101 in binary: halved some times, it is no multiple of 4, whichever way halves are rounded; nor are most products
    // of two dimensions that have moved so and are halved as they may be. A device may not take as large ones, or as many of
    // what there is one, such as a batch.
    for n in [[21, 42], [42, 21], [21, 21]] {
        let smaller = [1, 4, 16].map(|part| n.map(|n| n / part));
        let moved = smaller.into_iter().find_map(|n| planned(moves.times(n, 9)?, forms));
        // Whether a concatenation or a transpose is a copy depends on alignment, and on dimensions of 1.
        spare.extend(moved.iter().flat_map(|program| kernels(program, is_copy)));
    }
    // As does whether a result takes the place of an operand. All of these are quickly compiled.
    let simple = |kernel: &Kernel| is_copy(kernel) || matches!(kernel, Kernel::Elementwise(_));
    let least = moves.least();
    for facts in least.clone().into_iter().chain(moves.emptied()) {
        spare.extend(planned(facts, forms).iter().flat_map(|program| kernels(program, simple)));
    }
    forms.advance(Stage::Tiles);
    let plan = plan(graph, facts, target, options, forms)?;
    let small = least.and_then(|facts| planned(facts, forms));
    // As large as the device takes it.
    let large = [63, 21, 5, 1].into_iter().find_map(|n| planned(moves.times([n, n], n)?, forms));
    spare.extend(small.iter().chain(&large).flat_map(|program| kernels(program, |_| true)));
    // Tiles for sizes of which nothing is known yet come when those do.
    if large.is_some() {
        forms.advance(Stage::Settled);
    }
    Ok(Plan { spare, ..plan })
}

/// Plans one run of `graph` for inputs of the given signature.
pub(crate) fn plan(
    graph: &Graph,
    facts: Facts,
    target: &Target,
    options: &Options,
    forms: &mut Forms,
) -> Result<Plan> {
    let program = program(graph, facts, target, options, forms)?;
    let memory = memory::place(&program, target)?;
    Ok(Plan { program, memory, spare: Vec::new() })
}

/// The program of a plan, whose tensors have no places yet.
fn program(
    graph: &Graph,
    facts: Facts,
    target: &Target,
    options: &Options,
    forms: &mut Forms,
) -> Result<Program> {
    let units = fusion::units(graph, &facts, options);
    let mut program = lower::lower(graph, &facts, units, target, options, forms)?;
    memory::share(&mut program, target);
    Ok(program)
}
