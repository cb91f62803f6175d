//! What the benchmarks need beyond the public API, and no promise to anybody else: other kernels than the device's own,
//! planning alone, a bare loop over a plan's dispatches, and CPU clocks.

use std::sync::Arc;
use std::time::Duration;

use crate::gpu::{Executable, Frame};
use crate::kernels::Class;
use crate::kernels::shared::Block;
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

/// Plans a run on these inputs, and makes no object of the device. Returns the number of dispatches.
pub fn plan(session: &Session, inputs: &[(&str, &Tensor)]) -> Result<usize> {
    Ok(session.ordered(inputs)?.plan()?.program.calls.len())
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
        let executable = session.executable(&session.ordered(inputs)?)?;
        let frame = executable.new_frame()?;
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

/// CPU time of the calling thread, or of all threads with the driver's.
#[cfg(unix)]
pub fn cpu_time(all_threads: bool) -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(if all_threads { ClockId::ProcessCPUTime } else { ClockId::ThreadCPUTime });
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The time since the first call, where there is no clock of CPU time.
#[cfg(not(unix))]
pub fn cpu_time(_all_threads: bool) -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}
