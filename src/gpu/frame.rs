//! Frames: the memory of runs in flight. The plans of a session use frames in turn.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::allocate::{Account, Buffer, buffer_size};
use super::device::Gpu;
use super::executable::{Bound, Executable};
use super::plan_words::PlanWords;
use super::stopwatch::{DeviceTime, Stopwatch};
use crate::Result;

/// The memory of one run in flight, and the wirings of the plans that have run in it. Each buffer is as large as the largest
/// of these plans needs.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(super) arena: Option<Buffer>,
    pub(super) inputs: Vec<Option<Buffer>>,
    pub(super) outputs: Vec<Option<Buffer>>,
    /// Inputs in the caller's memory, to which runs append, by number.
    pub(super) callers: Vec<(usize, Buffer)>,
    /// All outputs that are read back, one after the other, and then the fault words.
    pub(super) staging: Option<Buffer>,
    /// Where the device is timed.
    pub(super) stopwatch: Option<Stopwatch>,
    wirings: Vec<Wiring>,
}

/// A plan's bind groups over a frame's buffers.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(super) of: Weak<Executable>,
    pub(super) words: Arc<PlanWords>,
    /// The words for what kernels report, one for each of the program's faults, 0 before a run. `None` if no kernel reports.
    pub(super) faults: Option<Buffer>,
    pub(super) groups: Vec<wgpu::BindGroup>,
    /// Whether the groups bind memory of the caller.
    pub(super) binds_callers: bool,
}

/// A bound frame without its buffers, which others may use meanwhile. It has the bind groups.
#[derive(Debug)]
pub(crate) struct Unbound {
    frame: Frame,
    arena: Option<wgpu::Buffer>,
    inputs: Vec<Option<wgpu::Buffer>>,
    outputs: Vec<Option<wgpu::Buffer>>,
}

impl Unbound {
    /// The frame, if its bind groups are over these buffers.
    pub(super) fn over(self, bound: &Bound, arena: &Buffer) -> Option<Frame> {
        let own = (self.arena, self.inputs, self.outputs);
        let given = (Some(arena.raw()), raw(&bound.inputs), raw(&bound.outputs));
        (own == given && self.frame.is_lent(&bound.callers)).then(|| Frame {
            arena: Some(arena.clone()),
            inputs: bound.inputs.clone(),
            outputs: bound.outputs.clone(),
            ..self.frame
        })
    }
}

fn raw(buffers: &[Option<Buffer>]) -> Vec<Option<wgpu::Buffer>> {
    buffers.iter().map(|buffer| buffer.as_ref().map(Buffer::raw)).collect()
}

/// Bytes that a plan takes of a frame, for each buffer; 0 where it takes none.
#[derive(Debug, Default)]
pub(crate) struct FrameSizes {
    pub(super) arena: u64,
    pub(super) inputs: Vec<u64>,
    pub(super) outputs: Vec<u64>,
    pub(super) staging: u64,
}

const STORAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE;

impl Frame {
    /// Lets go of the buffers.
    pub(crate) fn unbound(mut self) -> Unbound {
        let arena = self.arena.take().map(|arena| arena.raw());
        let [inputs, outputs] = [&mut self.inputs, &mut self.outputs].map(|all| raw(&std::mem::take(all)));
        Unbound { frame: self, arena, inputs, outputs }
    }

    /// The timestamps that a pass of a run in this frame writes, if runs are timed.
    pub(super) fn timestamps(
        &self,
        is_first: bool,
        is_last: bool,
    ) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        self.stopwatch.as_ref()?.writes(is_first, is_last)
    }

    /// The wiring of the plan of `executable` in this frame, if there is one.
    pub(super) fn wiring(&self, executable: &Executable) -> Option<&Wiring> {
        self.wirings.iter().find(|wiring| std::ptr::eq(wiring.of.as_ptr(), executable))
    }

    /// Drops the wiring of this plan: its next run makes one.
    pub(super) fn forget(&mut self, executable: &Executable) {
        self.wirings.retain(|wiring| !std::ptr::eq(wiring.of.as_ptr(), executable));
    }

    fn forget_dropped(&mut self) {
        self.wirings.retain(|wiring| wiring.of.strong_count() > 0);
    }

    pub(super) fn wire(
        &mut self,
        executable: &Arc<Executable>,
        account: &Arc<Account>,
        words: &Arc<PlanWords>,
    ) -> Result<()> {
        self.forget_dropped();
        let wiring = executable.wire(self, account, words)?;
        self.wirings.push(wiring);
        Ok(())
    }

    /// Lets runs append to memory of the caller. What is bound to other such memory is dropped, so that no frame keeps memory that
    /// the caller has let go of.
    fn lend(&mut self, callers: &[(usize, Buffer)]) {
        if !self.is_lent(callers) {
            self.wirings.retain(|wiring| !wiring.binds_callers);
            self.callers = callers.to_vec();
        }
    }

    /// Whether runs append to just this memory of the caller.
    pub(super) fn is_lent(&self, callers: &[(usize, Buffer)]) -> bool {
        let same = |own: &(usize, Buffer), other: &(usize, Buffer)| own.0 == other.0 && own.1.is(&other.1);
        self.callers.len() == callers.len()
            && self.callers.iter().zip(callers).all(|(own, other)| same(own, other))
    }

    /// Calls `each` with every buffer, its name, its usage, and the bytes that `sizes` asks for.
    fn buffers(
        &mut self,
        sizes: &FrameSizes,
        mut each: impl FnMut(&mut Option<Buffer>, &'static str, wgpu::BufferUsages, u64) -> Result<()>,
    ) -> Result<()> {
        each(&mut self.arena, "the arena", STORAGE, sizes.arena)?;
        let (inputs, outputs) = (self.inputs.len(), self.outputs.len());
        self.inputs.resize(inputs.max(sizes.inputs.len()), None);
        self.outputs.resize(outputs.max(sizes.outputs.len()), None);
        for (input, size) in self.inputs.iter_mut().zip(&sizes.inputs) {
            // Iterations copy inputs that are passed on.
            let usage = STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            each(input, "an input", usage, *size)?;
        }
        for (output, size) in self.outputs.iter_mut().zip(&sizes.outputs) {
            each(output, "an output", STORAGE | wgpu::BufferUsages::COPY_SRC, *size)?;
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        each(&mut self.staging, "read-back", usage, sizes.staging)
    }

    /// Drops the buffers that are too small, and returns the bytes of the larger ones that will replace them.
    fn drop_small(&mut self, sizes: &FrameSizes) -> Result<u64> {
        let (mut bytes, mut bound) = (0, 0);
        self.buffers(sizes, |buffer, _, usage, size| {
            if size > buffer.as_ref().map_or(0, |buffer| buffer.size()) {
                *buffer = None;
                bytes += buffer_size(size);
                bound += usize::from(usage.contains(STORAGE));
            }
            Ok(())
        })?;
        if bound > 0 {
            self.wirings.clear();
        }
        Ok(bytes)
    }

    pub(super) fn grow(&mut self, gpu: &Gpu, account: &Arc<Account>, sizes: &FrameSizes) -> Result<()> {
        let bytes = self.drop_small(sizes)?;
        if bytes == 0 {
            return Ok(());
        }
        gpu.free_dropped();
        gpu.make_room("the memory of a run", &|| bytes)?;
        self.buffers(sizes, |buffer, what, usage, size| {
            if size > 0 && buffer.is_none() {
                *buffer = Some(gpu.buffer(account, what, size, usage, false)?);
            }
            Ok(())
        })
    }

    /// The bytes by which the frame would have to grow.
    fn growth(&self, sizes: &FrameSizes) -> u64 {
        let growth = |(buffer, size): (Option<&Buffer>, u64)| {
            let has = buffer.map_or(0, |buffer| buffer.size());
            if size > has { buffer_size(size) - has } else { 0 }
        };
        let nth = |buffers: &'_ [Option<Buffer>], i: usize| buffers.get(i).cloned().flatten();
        let inputs = sizes.inputs.iter().enumerate().map(|(i, size)| (nth(&self.inputs, i), *size));
        let outputs = sizes.outputs.iter().enumerate().map(|(i, size)| (nth(&self.outputs, i), *size));
        let single = [(self.arena.clone(), sizes.arena), (self.staging.clone(), sizes.staging)];
        let all = single.into_iter().chain(inputs).chain(outputs);
        all.map(|(buffer, size)| growth((buffer.as_ref(), size))).sum()
    }
}

impl FrameSizes {
    pub(crate) fn arena(&self) -> u64 {
        self.arena
    }

    /// The bytes of all buffers.
    pub(crate) fn all(&self) -> u64 {
        self.arena + self.staging + self.inputs.iter().chain(&self.outputs).sum::<u64>()
    }
}

/// The frames of a session.
#[derive(Debug)]
pub(crate) struct Frames {
    gpu: Arc<Gpu>,
    account: Arc<Account>,
    /// The frames in which no run is in flight.
    idle: Mutex<Vec<Frame>>,
    time: Arc<DeviceTime>,
}

impl Frames {
    pub(crate) fn new(gpu: &Arc<Gpu>, account: Arc<Account>) -> Frames {
        Frames { gpu: gpu.clone(), account, idle: Mutex::default(), time: Arc::default() }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.account.now()
    }

    /// The time of the runs in these frames; `None` where the device is not timed.
    pub(crate) fn time(&self) -> Option<Duration> {
        self.gpu.timed.then(|| self.time.sum())
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The bytes that a run of a plan of these sizes would add.
    pub(crate) fn growth(&self, sizes: &FrameSizes) -> u64 {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.last().unwrap_or(&Frame::default()).growth(sizes)
    }

    /// A frame for a run of `executable`, with the plan's wiring.
    pub(super) fn take(&self, executable: &Arc<Executable>) -> Result<Frame> {
        self.take_over(executable, &[])
    }

    /// A frame for a run that appends to memory of the caller.
    pub(super) fn take_over(
        &self,
        executable: &Arc<Executable>,
        callers: &[(usize, Buffer)],
    ) -> Result<Frame> {
        let executable = executable.wired();
        let mut frame = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let wired = idle.iter().position(|frame| frame.wiring(executable).is_some());
            wired.map(|wired| idle.swap_remove(wired)).or_else(|| idle.pop()).unwrap_or_default()
        };
        if !callers.is_empty() {
            frame.lend(callers);
        }
        let staging = frame.staging.as_ref().map_or(0, |staging| staging.size());
        if staging < executable.sizes.staging || frame.wiring(executable).is_none() {
            frame.grow(&self.gpu, &self.account, &executable.sizes)?;
        }
        if frame.wiring(executable).is_none() {
            frame.wire(executable, &self.account, &executable.words)?;
        }
        if self.gpu.timed && frame.stopwatch.is_none() {
            frame.stopwatch = Some(Stopwatch::new(&self.gpu, &self.account, &self.time)?);
        }
        Ok(frame)
    }

    pub(super) fn give_back(&self, frame: Frame) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
    }

    /// An arena that belongs to no frame.
    pub(crate) fn arena(&self, bytes: u64) -> Result<Buffer> {
        self.gpu.make_room("the arena", &|| bytes)?;
        self.gpu.buffer(&self.account, "the arena", bytes, STORAGE, false)
    }

    /// Drops the frames in which no run is in flight.
    pub(crate) fn drop_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.gpu.free_dropped();
    }

    /// Drops the wirings of plans that no longer exist from idle frames.
    pub(crate) fn forget_dropped(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.iter_mut().for_each(Frame::forget_dropped);
    }
}

impl Gpu {
    pub(super) fn count_groups(&self, groups: usize) {
        self.counters.bind_groups.fetch_add(groups as u64, Ordering::Relaxed);
    }
}
