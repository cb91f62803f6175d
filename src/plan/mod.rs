//! Planning: symbols bound to numbers, operators fused and lowered to kernel calls, memory laid out. Pure functions from
//! a graph and input shapes to a program; no device is touched.

mod access;
pub(crate) mod arena;
mod code;
mod facts;
mod fusion;
mod lower;
mod memory;
mod program;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use access::Access;
pub(crate) use code::{Code, Epilogue, Pairing};
pub(crate) use facts::{Fact, FactBase, Facts, Signature, check_sizes, node_error};
pub(crate) use lower::Lower;
pub(crate) use memory::Memory;
pub(crate) use program::{Call, OutputSource, PackedDim, Packing, Place, Program, TensorId, WeightKey};

use std::collections::HashMap;

use crate::Result;
use crate::graph::{Graph, NodeId, ValueId};
use crate::kernels::Target;

/// What planning may do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Lower each node on its own.
    pub(crate) no_fusion: bool,
    /// Values to be read back besides the graph's outputs.
    pub(crate) keep: Vec<ValueId>,
}

/// The tiles that plans of one graph have chosen, by node and kind of kernel: rows, and columns or places. A later plan
/// keeps them where they do nearly as well as its own choice, so that another shape makes no new pipeline and packs no
/// weight anew.
pub(crate) type Tiles = HashMap<(NodeId, &'static str), (usize, usize)>;

/// A plan: what to dispatch, and where every tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) memory: Memory,
}

/// Plans one run of `graph` for inputs of the given signature.
pub(crate) fn plan(
    graph: &Graph,
    facts: Facts,
    target: &Target,
    options: &Options,
    tiles: &mut Tiles,
) -> Result<Plan> {
    let units = fusion::units(graph, &facts, options);
    let mut program = lower::lower(graph, &facts, units, target, options, tiles)?;
    let memory = memory::lay_out(&mut program, target)?;
    Ok(Plan { program, memory })
}
