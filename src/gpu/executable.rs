//! `Executable`: a plan that is ready on a device. All objects are created before the first run. A run writes its inputs,
//! records one pass, submits once and reads its outputs back. Plans of several sizes may share the objects of one of larger sizes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::allocate::{Account, Buffer};
use super::device::{Gpu, Pipeline};
use super::frame::{Frame, FrameSizes, Frames, Unbound, Wiring};
use super::plan_words::{PlanWords, WordPlaces};
use super::stopwatch::TIMES;
use super::tensor::{DeviceTensor, Input};
use super::weights::{BufferRange, Constants, Upload, Weights};
use super::words;
use crate::interrupt::GoOn;
use crate::kernels::VECTOR_BYTES;
use crate::kernels::expr::Integers;
use crate::ops::Graph;
use crate::plan::{Call, OutputSource, Place, Plan, Program, TensorId};
use crate::{Error, Result, Tensor, heap};

/// A plan, with its pipelines, constants and memory on one device.
#[derive(Debug)]
pub(crate) struct Executable {
    pub(super) gpu: Arc<Gpu>,
    pub(crate) plan: Plan,
    /// A number that no other plan of the device has.
    number: u64,
    pub(super) dispatches: Vec<Dispatch>,
    constants: Constants,
    places: Arc<WordPlaces>,
    pub(super) words: Arc<PlanWords>,
    /// The plan of larger sizes whose words, frames and bind groups the runs use; `None`: its own.
    larger: Option<Arc<Executable>>,
    /// The bytes that a run takes of a frame.
    pub(super) sizes: FrameSizes,
    /// For each output, its offset and size in a frame's staging buffer; `None` where it is not read back. The fault words
    /// and the timestamps follow.
    read_back: Vec<Option<(u64, u64)>>,
}

/// The bytes of host memory that are asked for a dispatch that is recorded.
pub(super) const RECORDED: u64 = 1 << 10;

#[derive(Debug)]
pub(super) struct Dispatch {
    pipeline: Arc<Pipeline>,
    grid: [u32; 3],
}

impl Dispatch {
    pub(super) fn record(&self, group: &wgpu::BindGroup, pass: &mut wgpu::ComputePass) {
        let [x, y, z] = self.grid;
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// The buffers that a binding's inputs and outputs are bound to, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bound {
    pub(crate) inputs: Vec<Option<Buffer>>,
    pub(crate) outputs: Vec<Option<Buffer>>,
    /// Inputs to which the run appends.
    pub(crate) callers: Vec<(usize, Buffer)>,
}

/// A plan, and the memory that it will take on the device.
pub(crate) struct Costed {
    pub(crate) plan: Plan,
    /// Whether plans of other sizes are to use its words.
    is_shared: bool,
    places: WordPlaces,
    pub(crate) sizes: FrameSizes,
    read_back: Vec<Option<(u64, u64)>>,
}

impl Costed {
    pub(crate) fn new(gpu: &Gpu, plan: Plan) -> Costed {
        Costed::of(gpu, plan, false)
    }

    /// A plan of larger sizes, whose objects plans of other sizes are to use.
    pub(crate) fn larger(gpu: &Gpu, plan: Plan) -> Costed {
        Costed::of(gpu, plan, true)
    }

    fn of(gpu: &Gpu, plan: Plan, is_shared: bool) -> Costed {
        for call in &plan.program.calls {
            let slots = call.kernel.spec().slots();
            debug_assert_eq!(slots.len(), call.tensors.len(), "{}", call.kernel.spec().label());
            debug_assert_eq!(call.kernel.params().len(), call.params.len(), "{}", call.kernel.spec().label());
        }
        let (places, (sizes, read_back)) = (WordPlaces::of(gpu, &plan.program, is_shared), sizes(gpu, &plan));
        Costed { plan, is_shared, places, sizes, read_back }
    }

    pub(crate) fn dispatches(&self) -> usize {
        self.plan.program.calls.len()
    }

    /// The bytes that the plan adds: its parameters, and the weights and tables that are not on the device yet.
    pub(crate) fn bytes(&self, gpu: &Gpu, graph: &Graph) -> u64 {
        self.places.bytes() + gpu.missing_bytes(self.plan.graph(graph), &self.plan.program, !self.is_shared)
    }
}

/// The bytes that a run of `plan` takes of a frame, and the places of its outputs in the staging buffer.
fn sizes(gpu: &Gpu, plan: &Plan) -> (FrameSizes, Vec<Option<(u64, u64)>>) {
    let program = &plan.program;
    let bytes = |tensor: &TensorId| program.tensor(*tensor).bytes();
    let input = |tensor: &Option<TensorId>| tensor.as_ref().map_or(0, bytes);
    let mut sizes = FrameSizes {
        arena: plan.memory.height,
        inputs: program.inputs.iter().map(input).collect(),
        ..FrameSizes::default()
    };
    let mut read_back = Vec::new();
    for output in &program.outputs {
        let OutputSource::Device { tensor, .. } = output else {
            sizes.outputs.push(0);
            read_back.push(None);
            continue;
        };
        sizes.outputs.push(bytes(tensor));
        read_back.push(Some((sizes.staging, bytes(tensor))));
        sizes.staging += bytes(tensor);
    }
    // At least a vector is mapped after each run, if only to learn that the run has ended.
    let times = if gpu.timed { TIMES } else { 0 };
    sizes.staging = (sizes.staging + program.fault_bytes() + times).max(VECTOR_BYTES);
    (sizes, read_back)
}

impl Executable {
    /// Makes the plan ready on the device. Returns early once `go_on` fails.
    pub(crate) fn new(
        gpu: &Arc<Gpu>,
        account: &Arc<Account>,
        graph: &Graph,
        costed: Costed,
        weights: &Weights,
        go_on: &GoOn,
    ) -> Result<Executable> {
        let Costed { plan, is_shared, places, sizes, read_back } = costed;
        let program = &plan.program;
        let variants = program.calls.iter().map(|call| program.variant(call));
        let pipelines =
            gpu.pipelines(&variants.chain(plan.spare.iter().cloned()).collect::<Vec<_>>(), go_on)?;
        go_on()?;
        let grids = program.calls.iter().map(|call| call.grid);
        let dispatches = grids.zip(pipelines).map(|(grid, pipeline)| Dispatch { pipeline, grid }).collect();
        let (number, places) = (gpu.tick(), Arc::new(places));
        let words = Arc::new(PlanWords::new(gpu, account, &places, (program, number))?);
        let constants = weights.of(gpu, plan.graph(graph), program, !is_shared)?;
        let (gpu, larger) = (gpu.clone(), None);
        Ok(Executable { gpu, plan, number, dispatches, constants, places, words, larger, sizes, read_back })
    }

    /// A plan that fits in `larger`. Nothing is created on the device.
    pub(crate) fn within(larger: &Arc<Executable>, costed: Costed) -> Executable {
        let Costed { plan, sizes, read_back, .. } = costed;
        let dispatch = |(dispatch, call): (&Dispatch, &Call)| Dispatch {
            pipeline: dispatch.pipeline.clone(),
            grid: call.grid,
        };
        let dispatches = larger.dispatches.iter().zip(&plan.program.calls).map(dispatch).collect();
        Executable {
            gpu: larger.gpu.clone(),
            number: larger.gpu.tick(),
            dispatches,
            constants: Constants { weights: larger.constants.weights.clone(), tables: Vec::new() },
            places: larger.places.clone(),
            words: larger.words.clone(),
            larger: Some(larger.clone()),
            plan,
            sizes,
            read_back,
        }
    }

    /// The bytes that a run takes of a frame.
    pub(crate) fn bytes_of_a_run(&self) -> u64 {
        self.sizes.all()
    }

    /// The plan whose frames the runs use.
    pub(super) fn wired(self: &Arc<Self>) -> &Arc<Executable> {
        self.larger.as_ref().unwrap_or(self)
    }

    /// The program, and the plan's number.
    pub(super) fn program(&self) -> (&Program, u64) {
        (&self.plan.program, self.number)
    }

    /// A frame over bound buffers. Only the fault words are read back.
    pub(crate) fn bound_frame(
        self: &Arc<Self>,
        bound: Bound,
        arena: Buffer,
        account: &Arc<Account>,
    ) -> Result<Frame> {
        let program = &self.plan.program;
        let mut frame = Frame::default();
        (frame.arena, frame.inputs, frame.outputs) = (Some(arena), bound.inputs, bound.outputs);
        frame.callers = bound.callers;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        frame.staging = Some(self.gpu.buffer(account, "read-back", program.fault_bytes(), usage, false)?);
        let words = match self.larger {
            Some(_) => Arc::new(PlanWords::new(&self.gpu, account, &self.places, self.program())?),
            None => self.words.clone(),
        };
        frame.wire(self.wired(), account, &words)?;
        Ok(frame)
    }

    /// The frame that a plan of `executable` has left, for bound runs of this plan, if it lies over these buffers.
    pub(crate) fn bound_again(
        self: &Arc<Self>,
        (executable, left): (Arc<Executable>, Unbound),
        bound: &Bound,
        arena: &Buffer,
    ) -> Result<Option<Frame>> {
        let shared = self.larger.is_some() && Arc::ptr_eq(self.wired(), executable.wired());
        let Some(frame) = left.over(bound, arena).filter(|_| shared) else { return Ok(None) };
        drop(self.wiring(&frame)?.words.hold(&self.gpu, self.program())?);
        Ok(Some(frame))
    }

    /// Where output `i` comes from.
    pub(crate) fn output(&self, i: usize) -> Option<&OutputSource> {
        self.plan.program.outputs.get(i)
    }

    /// Bytes of the arena, the inputs and the outputs of a bound frame.
    pub(crate) fn bound_bytes(&self) -> (u64, &[u64], &[u64]) {
        let sizes = &self.larger.as_deref().unwrap_or(self).sizes;
        (sizes.arena, &sizes.inputs, &sizes.outputs)
    }

    /// A frame that has the memory of a run and is kept.
    #[cfg(feature = "internals")]
    pub(crate) fn frame(self: &Arc<Self>, frames: &Frames) -> Result<Frame> {
        frames.take(self)
    }

    /// Allocates the memory of a run.
    pub(crate) fn prepare(self: &Arc<Self>, frames: &Frames) -> Result<()> {
        frames.give_back(frames.take(self)?);
        Ok(())
    }

    /// The bind groups of this plan over a frame's buffers.
    pub(super) fn wire(
        self: &Arc<Self>,
        frame: &Frame,
        account: &Arc<Account>,
        words: &Arc<PlanWords>,
    ) -> Result<Wiring> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let faults = match self.plan.program.fault_bytes() {
            0 => None,
            bytes => Some(self.gpu.buffer(account, "the fault words", bytes, usage, false)?),
        };
        let groups =
            self.gpu.attempt("bind groups", 0, || self.bind_groups(frame, words, faults.as_deref()))??;
        self.gpu.count_groups(groups.len());
        let binds_callers = !self.plan.program.callers.is_empty();
        Ok(Wiring { of: Arc::downgrade(self), words: words.clone(), faults, groups, binds_callers })
    }

    fn bind_groups(
        &self,
        frame: &Frame,
        words: &PlanWords,
        faults: Option<&wgpu::Buffer>,
    ) -> Result<Vec<wgpu::BindGroup>> {
        let mut groups = Vec::with_capacity(self.dispatches.len());
        for (i, (call, dispatch)) in self.plan.program.calls.iter().zip(&self.dispatches).enumerate() {
            let mut entries = Vec::with_capacity(call.tensors.len() + 1);
            let ranges: Vec<BufferRange> =
                call.tensors.iter().map(|&t| self.range(frame, words, t)).collect::<Result<_>>()?;
            let params = words.params(i).ok_or_else(|| Error::Gpu("a call has no parameters".into()))?;
            let faults = faults.filter(|_| call.kernel.spec().reports());
            let faults =
                faults.map(|buffer| BufferRange { buffer: buffer.clone(), offset: 0, size: buffer.size() });
            for (binding, range) in ranges.iter().chain(&faults).chain([&params]).enumerate() {
                entries.push(wgpu::BindGroupEntry { binding: binding as u32, resource: range.binding() });
            }
            groups.push(self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &dispatch.pipeline.layout,
                entries: &entries,
            }));
        }
        Ok(groups)
    }

    /// The range of a buffer where the tensor lies.
    fn range(&self, frame: &Frame, words: &PlanWords, tensor: TensorId) -> Result<BufferRange> {
        let program = &self.plan.program;
        let (root, skip) = program.root(tensor);
        let (size, skip) = (program.tensor(tensor).bytes(), program.tensor(root).storage.offset(skip));
        let lost = || Error::Gpu(format!("tensor '{}' has no memory", program.tensor(tensor).name));
        let at = |range: BufferRange| BufferRange { offset: range.offset + skip, size, ..range };
        let uploaded = |upload: &Arc<Upload>| at(upload.range.clone());
        let of = |buffer: &Buffer| {
            // The plan may be one of larger sizes, and the buffer the caller's.
            let size = size.min(buffer.size().checked_sub(skip).filter(|&left| left > 0)?);
            Some(BufferRange { buffer: buffer.raw(), offset: skip, size })
        };
        let whole = |buffer: &Option<Buffer>| buffer.as_ref().and_then(of);
        match program.tensor(root).place {
            Place::Arena | Place::View(..) => {
                let offset = self.plan.memory.offset(root).ok_or_else(lost)?;
                whole(&frame.arena)
                    .map(|range| BufferRange { offset: offset + skip, ..range })
                    .ok_or_else(lost)
            }
            Place::Input(i) => frame.inputs.get(i).and_then(whole).ok_or_else(lost),
            Place::Output(i) => frame.outputs.get(i).and_then(whole).ok_or_else(lost),
            Place::Caller(i) => {
                let caller = frame.callers.iter().find(|(input, _)| *input == i);
                caller.and_then(|(_, buffer)| of(buffer)).ok_or_else(lost)
            }
            Place::Weight(i) => self.constants.weights.get(i).map(uploaded).ok_or_else(lost),
            Place::Constant(i) => {
                let table = self.constants.tables.get(i).map(uploaded);
                table.or_else(|| words.table(i).map(at)).ok_or_else(lost)
            }
        }
    }

    /// Returns a frame for the next run, unless an error has left its state unknown.
    pub(super) fn give_back<T>(&self, frames: &Frames, mut frame: Frame, outcome: Result<T>) -> Result<T> {
        match &outcome {
            Ok(_) | Err(Error::Input(_)) => frames.give_back(frame),
            // A kernel reported something, so the fault words are no longer 0.
            Err(Error::Node { .. }) => {
                frame.forget(self.larger.as_deref().unwrap_or(self));
                frames.give_back(frame);
            }
            Err(_) => {}
        }
        outcome
    }

    /// The bind groups of this plan over `frame`.
    pub(super) fn wiring<'f>(&self, frame: &'f Frame) -> Result<&'f Wiring> {
        let larger = || self.larger.as_ref().and_then(|larger| frame.wiring(larger));
        frame.wiring(self).or_else(larger).ok_or_else(|| Error::Gpu("a frame has no bind groups".into()))
    }

    /// Uploads the inputs that are in host memory, in the order of the graph's inputs.
    pub(crate) fn write_inputs<'t>(
        &self,
        frame: &Frame,
        graph: &Graph,
        inputs: impl Iterator<Item = Option<&'t Tensor>>,
    ) -> Result<()> {
        for (i, tensor) in inputs.enumerate() {
            if let Some(tensor) = tensor {
                self.write_input(frame, graph, i, tensor)?;
            }
        }
        Ok(())
    }

    /// Uploads input `i`, if a kernel reads it.
    pub(crate) fn write_input(&self, frame: &Frame, graph: &Graph, i: usize, tensor: &Tensor) -> Result<()> {
        let read = self.plan.program.inputs.get(i).is_some_and(Option::is_some);
        let Some(Some(buffer)) = frame.inputs.get(i).filter(|_| read) else { return Ok(()) };
        let name = graph.inputs.get(i).map_or("?", |id| graph.value(*id).name.as_str());
        self.gpu.write_tensor(name, buffer, tensor, self.integers())
    }

    /// Uploads, records and submits one run over `frame`. Its outputs are copied to `targets`, where these are given, or to
    /// the staging buffer.
    fn submit(
        &self,
        frame: &Frame,
        graph: &Graph,
        inputs: &[Input<'_>],
        targets: Option<&[Option<Buffer>]>,
    ) -> Result<wgpu::SubmissionIndex> {
        self.write_inputs(frame, graph, inputs.iter().map(Input::host))?;
        let wiring = self.wiring(frame)?;
        let _words = wiring.words.hold(&self.gpu, self.program())?;
        let submission = self.gpu.attempt("the run", 0, || {
            let mut encoder = self.gpu.encoder();
            self.copy_inputs(&mut encoder, frame, inputs);
            self.record_calls(wiring, &mut encoder, frame.timestamps(true, true));
            match targets {
                None => self.copy_outputs(&mut encoder, frame),
                Some(targets) => copy_all(&mut encoder, &frame.outputs, targets),
            }
            self.copy_reports(&mut encoder, frame, wiring);
            self.gpu.submit(encoder)
        })?;
        self.count_run();
        Ok(submission)
    }

    fn count_run(&self) {
        let counters = &self.gpu.counters;
        counters.passes.fetch_add(1, Ordering::Relaxed);
        counters.submits.fetch_add(1, Ordering::Relaxed);
        counters.dispatches.fetch_add(self.dispatches.len() as u64, Ordering::Relaxed);
    }

    /// Copies the inputs that are on the device into the frame.
    pub(super) fn copy_inputs(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        frame: &Frame,
        inputs: &[Input<'_>],
    ) {
        for ((input, buffer), size) in inputs.iter().zip(&frame.inputs).zip(&self.sizes.inputs) {
            if let (Input::Device(tensor), Some(to), 1..) = (input, buffer, *size) {
                tensor.copy_to(encoder, to, 0, *size);
            }
        }
    }

    /// Records the dispatches as a program without Sardonyx would, for benchmarks.
    #[cfg(feature = "internals")]
    pub(crate) fn run_bare(&self, frame: &Frame) {
        let words = self.wiring(frame).and_then(|wiring| wiring.words.hold(&self.gpu, self.program()));
        let mut encoder = self.gpu.encoder();
        self.record(frame, &mut encoder).ok();
        let submission = self.gpu.submit(encoder);
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
        self.gpu.device.poll(wait).ok();
        drop(words);
    }

    fn copy_outputs(&self, encoder: &mut wgpu::CommandEncoder, frame: &Frame) {
        let Some(staging) = &frame.staging else { return };
        for (buffer, place) in frame.outputs.iter().zip(&self.read_back) {
            if let (Some(buffer), Some((offset, size))) = (buffer, place) {
                encoder.copy_buffer_to_buffer(buffer, 0, staging, *offset, *size);
            }
        }
    }

    pub(super) fn copy_faults(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        frame: &Frame,
        wiring: &Wiring,
        at: u64,
    ) {
        if let (Some(faults), Some(staging)) = (&wiring.faults, &frame.staging) {
            encoder.copy_buffer_to_buffer(faults, 0, staging, at, self.plan.program.fault_bytes());
        }
    }

    /// Copies the fault words and the timestamps of a run behind its outputs.
    pub(super) fn copy_reports(&self, encoder: &mut wgpu::CommandEncoder, frame: &Frame, wiring: &Wiring) {
        self.copy_faults(encoder, frame, wiring, self.faults_at());
        if let (Some(stopwatch), Some(staging)) = (&frame.stopwatch, &frame.staging) {
            stopwatch.copy(encoder, staging, self.times_at());
        }
    }

    fn times_at(&self) -> u64 {
        self.faults_at() + self.plan.program.fault_bytes()
    }

    /// Takes the fault words and the timestamps of a run from its staging buffer.
    fn take_reports(&self, frame: &Frame, graph: &Graph, bytes: &[u8]) -> Result<()> {
        if let Some(stopwatch) = &frame.stopwatch {
            stopwatch.add(&bytes[self.times_at() as usize..]);
        }
        match self.plan.program.fault_bytes() {
            0 => Ok(()),
            _ => self.reported(graph, &bytes[self.faults_at() as usize..]),
        }
    }

    /// The offset of a run's fault words in the staging buffer.
    pub(super) fn faults_at(&self) -> u64 {
        self.read_back.iter().flatten().map(|(_, size)| size).sum()
    }

    /// The error that a run's fault words mean, if a kernel has reported anything.
    fn reported(&self, graph: &Graph, words: &[u8]) -> Result<()> {
        let words = words.chunks_exact(4).map(bytemuck::pod_read_unaligned::<u32>);
        let first = self.plan.program.faults.iter().zip(words).find(|(_, word)| *word != 0);
        first.map_or(Ok(()), |(fault, word)| Err(fault.error(graph, word)))
    }

    /// Waits for what was submitted over `frame`, and returns an error if a kernel has reported anything. The next run has no
    /// reports.
    pub(crate) fn check(&self, frame: &Frame, graph: &Graph) -> Result<()> {
        let wiring = self.wiring(frame)?;
        let Some(faults) = &wiring.faults else { return Ok(()) };
        let submission = self.gpu.attempt("the read-back", 0, || {
            let mut encoder = self.gpu.encoder();
            self.copy_faults(&mut encoder, frame, wiring, 0);
            encoder.clear_buffer(faults, 0, None);
            self.gpu.submit(encoder)
        })?;
        let staging = self.staging(frame)?;
        self.gpu.wait_mapped(staging, submission)?;
        self.gpu.read_mapped(staging, |words| self.reported(graph, words))
    }

    /// Records one run over the frame's buffers into the caller's encoder.
    pub(crate) fn record(&self, frame: &Frame, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        heap::ask("the pass", self.dispatches.len() as u64 * RECORDED)?;
        self.record_calls(self.wiring(frame)?, encoder, None);
        Ok(())
    }

    pub(super) fn record_calls(
        &self,
        wiring: &Wiring,
        encoder: &mut wgpu::CommandEncoder,
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        for (dispatch, group) in self.dispatches.iter().zip(&wiring.groups) {
            dispatch.record(group, &mut pass);
        }
    }

    /// Submits one run over bound buffers.
    pub(crate) fn run_bound(&self, frame: &Frame) -> Result<()> {
        let wiring = self.wiring(frame)?;
        let _words = wiring.words.hold(&self.gpu, self.program())?;
        let submission = self.gpu.attempt("the run", 0, || {
            let mut encoder = self.gpu.encoder();
            self.record_calls(wiring, &mut encoder, None);
            self.gpu.submit(encoder)
        })?;
        self.count_run();
        self.gpu.limit_submissions(submission, 0)
    }

    /// Runs and waits, blocking this thread.
    pub(crate) fn run(
        self: &Arc<Self>,
        frames: &Frames,
        graph: &Graph,
        inputs: &[Input<'_>],
    ) -> Result<Vec<Tensor>> {
        let frame = frames.take(self)?;
        let outcome = self.submit(&frame, graph, inputs, None).and_then(|submission| {
            self.gpu.wait_mapped(self.staging(&frame)?, submission)?;
            self.read(&frame, graph, inputs)
        });
        self.give_back(frames, frame, outcome)
    }

    /// Runs without blocking: the thread that waits for the device wakes the task.
    pub(crate) async fn run_async(
        self: &Arc<Self>,
        frames: &Frames,
        graph: &Graph,
        inputs: &[Input<'_>],
    ) -> Result<Vec<Tensor>> {
        self.gpu.turn().await;
        let run = InFlight { executable: self, frames, frame: frames.take(self)?, ended: false };
        let submitted = self.submit(&run.frame, graph, inputs, None);
        let outcome = match submitted.and_then(|submission| Ok((self.staging(&run.frame)?, submission))) {
            Ok((staging, submission)) => self.gpu.mapped(staging, submission).await,
            Err(error) => Err(error),
        };
        let outcome = outcome.and_then(|()| self.read(&run.frame, graph, inputs));
        run.end(outcome)
    }

    /// Returns the frame of a run whose end nobody awaits. What the device still has to do for that run, it does before it
    /// begins the next.
    fn abandon(&self, frames: &Frames, mut frame: Frame) {
        // wgpu 30 would map the buffer for the next run when this run has ended, which is too early: it notes the buffer, and not
        // the request, at the submission that it waits for (`LifetimeTracker::map`), and `unmap` does not remove the note.
        frame.staging = None;
        // Nobody will look at what its kernels report.
        if self.plan.program.fault_bytes() > 0 {
            frame.forget(self.larger.as_deref().unwrap_or(self));
        }
        frames.give_back(frame);
    }

    /// In how many bits the plan holds 64-bit integers.
    pub(crate) fn integers(&self) -> Integers {
        self.plan.program.integers
    }

    /// Runs, and leaves each output where it is made; what the device does not compute stays in host memory. Waits only if some
    /// kernel may report.
    pub(crate) fn run_in_place(
        self: &Arc<Self>,
        frames: &Frames,
        graph: &Graph,
        inputs: &[Input<'_>],
    ) -> Result<Vec<DeviceTensor>> {
        let targets = self.targets()?;
        let frame = frames.take_over(self, &self.callers(inputs))?;
        let outcome = self
            .submit(&frame, graph, inputs, Some(&targets))
            .and_then(|submission| self.wait_for_reports(&frame, graph, submission));
        self.give_back(frames, frame, outcome)?;
        let outputs = self.plan.program.outputs.iter().zip(targets);
        outputs.map(|(source, target)| self.output_in_place(source, target, inputs)).collect()
    }

    /// Waits for a submission if a kernel may have reported something in it, and returns the error; and where the run is timed.
    pub(super) fn wait_for_reports(
        &self,
        frame: &Frame,
        graph: &Graph,
        submission: wgpu::SubmissionIndex,
    ) -> Result<()> {
        if self.plan.program.fault_bytes() == 0 && frame.stopwatch.is_none() {
            let bytes: u64 = self.sizes.inputs.iter().chain(&self.sizes.outputs).sum();
            return self.gpu.limit_submissions(submission, bytes);
        }
        let staging = self.staging(frame)?;
        self.gpu.wait_mapped(staging, submission)?;
        self.gpu.read_mapped(staging, |bytes| self.take_reports(frame, graph, bytes))
    }

    /// The memory of the caller to which a run on these inputs appends.
    fn callers(&self, inputs: &[Input<'_>]) -> Vec<(usize, Buffer)> {
        let buffer = |i: usize| Some((i, inputs.get(i)?.buffer()?.clone()));
        self.plan.program.callers.iter().filter_map(|&i| buffer(i)).collect()
    }

    pub(super) fn dispatch_count(&self) -> usize {
        self.dispatches.len()
    }

    /// A new buffer for each output that kernels write.
    fn targets(&self) -> Result<Vec<Option<Buffer>>> {
        let mut targets = Vec::new();
        for size in &self.sizes.outputs {
            targets.push(match size {
                0 => None,
                size => Some(self.gpu.tensor_buffer(*size)?),
            });
        }
        Ok(targets)
    }

    fn output_in_place(
        &self,
        source: &OutputSource,
        target: Option<Buffer>,
        inputs: &[Input<'_>],
    ) -> Result<DeviceTensor> {
        match (source, target) {
            (OutputSource::Device { dtype, shape, .. }, Some(buffer)) => {
                Ok(DeviceTensor::of_buffer(&self.gpu, buffer, self.integers(), *dtype, shape))
            }
            (OutputSource::Known(tensor), _) => Ok(DeviceTensor::on_host(tensor.detached()?)),
            (OutputSource::Input(i), _) => match inputs.get(*i) {
                Some(Input::Device(tensor)) => Ok(DeviceTensor::clone(tensor)),
                Some(Input::Tensor(tensor)) => Ok(DeviceTensor::on_host(Tensor::clone(tensor))),
                Some(Input::Container(_)) | None => Err(Error::Gpu("an output is no input".into())),
            },
            (OutputSource::Appended { input, shape, .. }, _) => match inputs.get(*input) {
                Some(Input::Device(tensor)) => Ok(tensor.appended(shape)),
                _ => Err(Error::Gpu("an output is appended to no tensor of the device".into())),
            },
            (OutputSource::Device { .. }, None) => Err(Error::Gpu("an output has no buffer".into())),
        }
    }

    /// The part of the staging buffer that a run of this plan fills.
    fn staging<'f>(&self, frame: &'f Frame) -> Result<wgpu::BufferSlice<'f>> {
        let staging =
            frame.staging.as_ref().ok_or_else(|| Error::Gpu("a frame has no staging buffer".into()))?;
        Ok(staging.slice(..self.sizes.staging.min(staging.size())))
    }

    /// The outputs of a run, from the staging buffer.
    fn read(&self, frame: &Frame, graph: &Graph, inputs: &[Input<'_>]) -> Result<Vec<Tensor>> {
        self.gpu.read_mapped(self.staging(frame)?, |bytes| {
            self.take_reports(frame, graph, bytes)?;
            let mut outputs = Vec::new();
            for (source, place) in self.plan.program.outputs.iter().zip(&self.read_back) {
                outputs.push(match (source, place) {
                    (OutputSource::Known(tensor), _) => tensor.detached()?,
                    (OutputSource::Input(i), _) => match inputs.get(*i) {
                        Some(Input::Tensor(tensor)) => Tensor::clone(tensor),
                        Some(Input::Device(tensor)) => tensor.read()?,
                        Some(Input::Container(_)) | None => {
                            return Err(Error::Gpu("an output is no input".into()));
                        }
                    },
                    (OutputSource::Device { tensor, dtype, shape }, Some((offset, _))) => {
                        let start = *offset as usize;
                        let tensor = self.plan.program.tensor(*tensor);
                        let end = start + tensor.filled() as usize;
                        let read = words::from_device(&bytes[start..end], tensor.storage, *dtype, shape);
                        read.map_err(|why| why.error("the read-back", Error::Tensor))?
                    }
                    (OutputSource::Device { .. } | OutputSource::Appended { .. }, _) => {
                        return Err(Error::Gpu("an output has no place".into()));
                    }
                });
            }
            Ok(outputs)
        })
    }
}

/// An asynchronous run. Its frame returns to the idle frames even if the future is dropped before the run ends.
struct InFlight<'a> {
    executable: &'a Executable,
    frames: &'a Frames,
    frame: Frame,
    ended: bool,
}

impl InFlight<'_> {
    fn end<T>(mut self, outcome: Result<T>) -> Result<T> {
        self.ended = true;
        self.executable.give_back(self.frames, std::mem::take(&mut self.frame), outcome)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.executable.abandon(self.frames, std::mem::take(&mut self.frame));
        }
    }
}

/// Copies each buffer into its target, where it has one.
fn copy_all(encoder: &mut wgpu::CommandEncoder, from: &[Option<Buffer>], to: &[Option<Buffer>]) {
    for (from, to) in from.iter().zip(to) {
        if let (Some(from), Some(to)) = (from, to) {
            encoder.copy_buffer_to_buffer(from, 0, to, 0, to.size());
        }
    }
}
