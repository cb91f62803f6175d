//! What tests and benchmarks need beyond the public API: models built from the protobuf's types, other kernels than a device's
//! own, planning alone, and a bare loop over a plan's dispatches. None of it is a promise to users.

#![allow(missing_docs, clippy::unwrap_used)] // No promise, and a test that cannot go on has failed.

pub(crate) mod cases;
pub mod devices;
pub mod evaluations;
pub(crate) mod open;
pub mod packing;
#[cfg(test)]
pub(crate) mod random;
pub mod seeds;
pub(crate) mod sizes;
pub(crate) mod sketch;
pub mod text;

use std::sync::Arc;

pub use crate::compare::apart;
use crate::gpu::{Executable, Frame};
pub use crate::heap::questions::{Questions, refusing};
use crate::kernels::Class;
use crate::kernels::shared::Block;
pub use cases::{Check, CheckPlace, Outcome, checks};

pub use crate::onnx::{builder, proto};
use crate::{Device, Result, Session, Tensor};

/// The kernels that a device uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// The device's own.
    Own,
    /// Kernels that need neither subgroups nor workgroup memory.
    Portable,
    /// Kernels for GPUs.
    Gpu,
    /// Kernels for GPUs, without subgroups.
    GpuWithoutSubgroups,
    /// Kernels for GPUs, with only the tile of workgroup memory that has this number.
    GpuTile(usize),
}

/// The device, before it is shared, with other kernels than its own.
pub fn with_kernels(device: Device, kernels: Kernels) -> Device {
    device.with_target(|target| match kernels {
        Kernels::Own => {}
        Kernels::Portable => (target.class, target.subgroup) = (Class::Cpu, 0),
        Kernels::Gpu => target.class = Class::Gpu,
        Kernels::GpuWithoutSubgroups => (target.class, target.subgroup) = (Class::Gpu, 0),
        Kernels::GpuTile(i) => {
            target.class = Class::Gpu;
            target.blocks = &Block::ALL[i..=i];
        }
    })
}

/// Names of the tiles of workgroup memory.
pub fn tiles() -> Vec<String> {
    let name = |b: &Block| format!("{}x{}x{} by {}x{}", b.bm, b.bn, b.bk, b.tm, b.tn);
    Block::ALL.iter().map(name).collect()
}

/// Plans a run on these inputs anew, without creating anything on the device. Returns the number of dispatches.
#[cfg(feature = "internals")]
pub fn plan(session: &Session, inputs: &[(&str, &Tensor)]) -> Result<usize> {
    Ok(session.given(inputs)?.plan_anew()?.program.calls.len())
}

/// The number of nodes of the graph that a session plans, which is the model's after the passes.
pub fn nodes(session: &Session) -> usize {
    session.graph().nodes.len()
}

/// The dispatches of a plan, recorded as a program without Sardonyx would.
pub struct Bare {
    executable: Arc<Executable>,
    frame: Frame,
}

impl Bare {
    /// The dispatches of a run on these inputs, over bind groups like the session's own.
    pub fn new(session: &Session, inputs: &[(&str, &Tensor)]) -> Result<Bare> {
        let executable = session.core.executable(&session.given(inputs)?)?;
        let frame = executable.frame(&session.core.plans()?.frames)?;
        Ok(Bare { executable, frame })
    }

    /// The number of dispatches.
    pub fn dispatches(&self) -> usize {
        self.executable.plan.program.calls.len()
    }

    /// Records, submits and waits.
    pub fn run(&self) {
        self.executable.run_bare(&self.frame);
    }
}

/// Lets this many of the allocations that follow on the device succeed, and no more; `usize::MAX` lets all succeed.
pub fn let_allocations(device: &Device, left: usize) {
    if let Some(gpu) = device.gpu() {
        gpu.let_allocations(left);
    }
}
