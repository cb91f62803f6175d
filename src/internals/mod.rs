//! What tests and benchmarks need beyond the public API, and no promise to anybody else: models put together from the protobuf's
//! types, other kernels than the device's own, planning alone, and a bare loop over a plan's dispatches.

#![allow(missing_docs, clippy::unwrap_used)] // No promise, and a test that cannot go on has failed.

pub(crate) mod cases;
pub mod devices;
// Unit tests draw on all of these.
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) mod open;
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) mod random;
pub(crate) mod sizes;

use std::sync::Arc;

use crate::gpu::{Executable, Frame};
use crate::kernels::Class;
use crate::kernels::shared::Block;
pub use cases::{Check, CheckPlace, Outcome, checks};

pub use crate::onnx::{builder, proto};
use crate::{Device, Result, Session, Tensor};

/// Which kernels a device is to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// The device's own.
    Own,
    /// Those that need neither subgroups nor workgroup memory.
    Portable,
    /// Those for GPUs.
    Gpu,
    /// Those for GPUs, without subgroups.
    GpuWithoutSubgroups,
    /// Those for GPUs, of the tiles of workgroup memory only that of this number.
    GpuTile(usize),
}

/// The device, which nobody shares yet, with other kernels than its own.
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

/// Plans a run on these inputs anew, and makes no object of the device. Returns the number of dispatches.
#[cfg(feature = "internals")]
pub fn plan(session: &Session, inputs: &[(&str, &Tensor)]) -> Result<usize> {
    Ok(session.given(inputs)?.plan_anew()?.program.calls.len())
}

/// Nodes of the graph that a session plans: the model's, after the passes.
pub fn nodes(session: &Session) -> usize {
    session.graph().nodes.len()
}

/// The dispatches of a plan, as a program without Sardonyx would record them.
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

    /// Their number.
    pub fn dispatches(&self) -> usize {
        self.executable.plan.program.calls.len()
    }

    /// Records, submits and waits.
    pub fn run(&self) {
        self.executable.run_bare(&self.frame);
    }
}
