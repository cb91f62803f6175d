//! Planning: symbols become numbers, operators are fused and lowered to kernel calls, and memory is laid out. No device is
//! touched. [`Planner`] is the entry point.

mod appended;
pub(crate) mod arena;
mod attention;
mod code;
mod copies;
mod divide;
mod fault;
mod fits;
mod fusion;
mod integers;
mod lower;
mod memory;
#[cfg(test)]
mod order;
mod planner;
mod precision;
mod probe;
mod program;
mod question;
mod refusal;
mod report;
mod specialisation;
#[cfg(test)]
pub(crate) mod tests;
mod tied;
mod why;

pub(crate) use appended::Appended;
pub(crate) use attention::{SpelledAttention, SpelledMask, SpelledSizes};
pub(crate) use code::{Code, Epilogue, NO_WIDE, Pairing, Reads};
pub(crate) use fault::Outside;
pub(crate) use lower::{Lower, Pieces};
pub(crate) use memory::Memory;
pub(crate) use planner::Planner;
pub(crate) use program::{Call, OutputSource, PackedDim, Packing, Place, Program, TensorId};

use divide::DividedGraph;
pub(crate) use question::{Always, IndexOf, Multiple, Rank, Same, Tiling};
pub use report::{
    ArgumentReport, BlockReport, CallReport, InsideReport, MemoryReport, OutputReport, PlaceReport,
    ProgramReport, ShaderReport, TensorReport,
};
use specialisation::Specialisation;
pub(crate) use specialisation::Weighed;
pub use why::{Explanation, Finding, Saving};

use crate::budget::Limits;
use crate::facts::Facts;
use crate::graph::ValueId;
use crate::kernels::expr::Integers;
use crate::kernels::{Target, Variant};
use crate::ops::Graph;
use crate::{Error, Result, heap};

/// What planning may do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Whether each node is lowered on its own.
    pub(crate) no_fusion: bool,
    /// Values that are read back besides the graph's outputs.
    pub(crate) keep: Vec<ValueId>,
    /// Note what is decided, and by which rule.
    pub(crate) notes: bool,
    /// What each plan may cost.
    pub(crate) limits: Limits,
    /// In how many bits 64-bit integers are held.
    pub(crate) integers: Integers,
}

/// A plan: what a run dispatches, and where every tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) memory: Memory,
    /// Kernels that only plans for other shapes need.
    pub(crate) spare: Vec<Variant>,
    /// The graph that the plan computes, where it is not the planner's, but one in which operators are computed in parts.
    pub(crate) divided: Option<DividedGraph>,
}

impl Plan {
    /// The graph that the plan computes: one of the graph's own plans, or one in which operators are computed in parts.
    pub(crate) fn graph<'a>(&'a self, graph: &'a Graph) -> &'a Graph {
        self.divided.as_ref().map_or(graph, |divided| &divided.graph)
    }
}

fn lower(
    graph: &Graph,
    facts: &Facts,
    target: &Target,
    options: &Options,
    specialisation: &mut Specialisation,
) -> Result<Program> {
    heap::ask("the program", heap::of_graph(graph.nodes.len(), graph.values.len()))?;
    let units = specialisation.units(graph, facts, target, options);
    lower::lower(graph, facts, &units.all, target, options, specialisation)
}

fn placed(program: Program, target: &Target) -> Result<Plan> {
    heap::ask("the arena's layout", heap::of_graph(program.calls.len(), program.tensors.len()))?;
    let program = memory::shared(program, target);
    check_calls(&program)?;
    let memory = memory::place(&program, target)?;
    Ok(Plan { program, memory, spare: Vec::new(), divided: None })
}

/// Checks that each call gives its kernel what the kernel takes for granted.
fn check_calls(program: &Program) -> Result<()> {
    for call in &program.calls {
        let given = call.kernel.spec().fits(&call.params);
        given.and_then(|()| program.lie_alike_where_moved(call)).map_err(|what| {
            let kernel = call.kernel.spec().label();
            let why = "a mistake of Sardonyx's planning: please report it, with the inputs' shapes";
            Error::Gpu(format!("kernel {kernel} ({}) takes {what} for granted: {why}", call.node))
        })?;
    }
    Ok(())
}
