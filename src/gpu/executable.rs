//! `Executable`: a plan made ready on a device. All objects are created before the first run; a run writes its inputs,
//! records one pass, submits once and reads its outputs back.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::{Gpu, Pipeline};
use super::mapping::Mapping;
use super::weights::{Range, Weights};
use super::words;
use crate::kernels::{Storage, VECTOR_BYTES};
use crate::ops::Graph;
use crate::plan::{OutputSource, Place, Plan, Program, TensorId};
use crate::{Error, KernelTime, Result, Tensor};

/// A plan with its pipelines, constants and memory on one device.
#[derive(Debug)]
pub(crate) struct Executable {
    gpu: Arc<Gpu>,
    pub(crate) plan: Plan,
    steps: Vec<Step>,
    weights: Vec<Range>,
    constants: Vec<Range>,
    params: wgpu::Buffer,
    /// Frames that no run uses at the moment.
    frames: Mutex<Vec<Frame>>,
}

#[derive(Debug)]
struct Step {
    pipeline: Arc<Pipeline>,
    grid: [u32; 3],
    /// Offset and size of the call's params.
    params: (u64, u64),
}

impl Step {
    fn record(&self, group: &wgpu::BindGroup, pass: &mut wgpu::ComputePass) {
        let [x, y, z] = self.grid;
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// What one run in flight needs for itself.
#[derive(Debug)]
pub(crate) struct Frame {
    arena: wgpu::Buffer,
    inputs: Vec<Option<wgpu::Buffer>>,
    outputs: Vec<Option<wgpu::Buffer>>,
    /// What kernels report, a word for each of the program's faults: 0 before a run. `None` if no kernel reports.
    faults: Option<wgpu::Buffer>,
    /// All outputs that are read back, one after the other, and then the fault words.
    staging: wgpu::Buffer,
    /// For each output, offset and size in `staging`; `None` where it is not read back.
    read_back: Vec<Option<(u64, u64)>>,
    bind_groups: Vec<wgpu::BindGroup>,
}

/// Buffers that the caller has bound, by input and output number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bound {
    pub(crate) inputs: Vec<Option<wgpu::Buffer>>,
    pub(crate) outputs: Vec<Option<wgpu::Buffer>>,
}

impl Executable {
    pub(crate) fn new(gpu: &Arc<Gpu>, graph: &Graph, plan: Plan, weights: &Weights) -> Result<Executable> {
        let program = &plan.program;
        let mut params = Vec::with_capacity(program.calls.len());
        let align = u64::from(gpu.device.limits().min_uniform_buffer_offset_alignment);
        let mut params_size = 0u64;
        for call in &program.calls {
            let slots = call.kernel.spec().slots();
            debug_assert_eq!(slots.len(), call.tensors.len(), "{}", call.kernel.spec().label());
            debug_assert_eq!(call.kernel.params().len(), call.params.len(), "{}", call.kernel.spec().label());
            let size = (call.params.len().max(1) as u64 * 4).next_multiple_of(16);
            params.push((params_size, size));
            params_size = (params_size + size).next_multiple_of(align);
        }
        let variants = program.calls.iter().map(|call| program.variant(call));
        let pipelines = gpu.pipelines(&variants.chain(plan.spare.iter().cloned()).collect::<Vec<_>>())?;
        let steps: Vec<Step> = program
            .calls
            .iter()
            .zip(pipelines)
            .zip(params)
            .map(|((call, pipeline), params)| Step { pipeline, grid: call.grid, params })
            .collect();
        let params = gpu.filled_buffer("parameters", params_size, wgpu::BufferUsages::UNIFORM, |sink| {
            for (call, step) in program.calls.iter().zip(&steps) {
                sink(step.params.0, bytemuck::cast_slice(&call.params));
            }
            Ok(())
        })?;
        let weights = weights.ranges(gpu, graph, &program.weights)?;
        let constants = constants(gpu, program)?;
        let (gpu, frames) = (gpu.clone(), Mutex::default());
        Ok(Executable { gpu, plan, steps, weights, constants, params, frames })
    }

    /// Memory and bind groups for one more run in flight, whose outputs are read back.
    pub(crate) fn new_frame(&self) -> Result<Frame> {
        self.frame(&Bound::default(), true)
    }

    /// Memory and bind groups over the caller's buffers.
    pub(crate) fn bound_frame(&self, bound: &Bound) -> Result<Frame> {
        self.frame(bound, false)
    }

    fn frame(&self, bound: &Bound, reads_back: bool) -> Result<Frame> {
        let program = &self.plan.program;
        let storage = wgpu::BufferUsages::STORAGE;
        let arena = self.gpu.buffer("the arena", self.plan.memory.height, storage, false)?;
        let mut inputs = Vec::new();
        for (i, tensor) in program.inputs.iter().enumerate() {
            inputs.push(match (bound.inputs.get(i).cloned().flatten(), tensor) {
                (Some(buffer), _) => Some(buffer),
                (None, Some(tensor)) => {
                    let usage = storage | wgpu::BufferUsages::COPY_DST;
                    Some(self.gpu.buffer("an input", program.tensor(*tensor).bytes(), usage, false)?)
                }
                (None, None) => None,
            });
        }
        let mut outputs = Vec::new();
        let mut read_back = Vec::new();
        let mut staging_size = 0u64;
        for (i, output) in program.outputs.iter().enumerate() {
            let OutputSource::Device { tensor, .. } = output else {
                outputs.push(None);
                read_back.push(None);
                continue;
            };
            let bytes = program.tensor(*tensor).bytes();
            if let Some(buffer) = bound.outputs.get(i).cloned().flatten() {
                outputs.push(Some(buffer));
                read_back.push(None);
                continue;
            }
            let usage = storage | wgpu::BufferUsages::COPY_SRC;
            outputs.push(Some(self.gpu.buffer("an output", bytes, usage, false)?));
            read_back.push(reads_back.then_some((staging_size, bytes)));
            staging_size += bytes;
        }
        let fault_bytes = program.fault_bytes();
        let usage = storage | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let faults = match fault_bytes {
            0 => None,
            _ => Some(self.gpu.buffer("the fault words", fault_bytes, usage, false)?),
        };
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging_size = if reads_back { staging_size + fault_bytes } else { fault_bytes };
        let staging = self.gpu.buffer("read-back", staging_size, usage, false)?;
        let mut frame = Frame { arena, inputs, outputs, faults, staging, read_back, bind_groups: Vec::new() };
        frame.bind_groups = self.gpu.attempt("bind groups", 0, || self.bind_groups(&frame))??;
        self.gpu.counters.bind_groups.fetch_add(frame.bind_groups.len() as u64, Ordering::Relaxed);
        Ok(frame)
    }

    fn bind_groups(&self, frame: &Frame) -> Result<Vec<wgpu::BindGroup>> {
        let mut groups = Vec::with_capacity(self.steps.len());
        for (call, step) in self.plan.program.calls.iter().zip(&self.steps) {
            let mut entries = Vec::with_capacity(call.tensors.len() + 1);
            let ranges: Vec<Range> =
                call.tensors.iter().map(|&t| self.range(frame, t)).collect::<Result<_>>()?;
            let params = Range { buffer: self.params.clone(), offset: step.params.0, size: step.params.1 };
            let faults = frame.faults.as_ref().filter(|_| call.kernel.spec().reports());
            let faults =
                faults.map(|buffer| Range { buffer: buffer.clone(), offset: 0, size: buffer.size() });
            for (binding, range) in ranges.iter().chain(&faults).chain([&params]).enumerate() {
                entries.push(wgpu::BindGroupEntry { binding: binding as u32, resource: range.binding() });
            }
            groups.push(self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &step.pipeline.layout,
                entries: &entries,
            }));
        }
        Ok(groups)
    }

    /// Where a tensor lies.
    fn range(&self, frame: &Frame, tensor: TensorId) -> Result<Range> {
        let program = &self.plan.program;
        let (root, skip) = program.root(tensor);
        let (size, skip) = (program.tensor(tensor).bytes(), program.tensor(root).storage.offset(skip));
        let lost = || Error::Gpu(format!("tensor '{}' has no memory", program.tensor(tensor).name));
        let at = |range: &Range| Range { offset: range.offset + skip, size, ..range.clone() };
        let whole = |buffer: &wgpu::Buffer| Range { buffer: buffer.clone(), offset: skip, size };
        match program.tensor(root).place {
            Place::Arena | Place::View(..) => {
                let offset = self.plan.memory.offset(root).ok_or_else(lost)? + skip;
                Ok(Range { buffer: frame.arena.clone(), offset, size })
            }
            Place::Input(i) => frame.inputs.get(i).and_then(|b| b.as_ref()).map(whole).ok_or_else(lost),
            Place::Output(i) => frame.outputs.get(i).and_then(|b| b.as_ref()).map(whole).ok_or_else(lost),
            Place::Weight(i) => self.weights.get(i).map(at).ok_or_else(lost),
            Place::Constant(i) => self.constants.get(i).map(at).ok_or_else(lost),
        }
    }

    fn take_frame(&self) -> Result<Frame> {
        let free = self.frames.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.map_or_else(|| self.new_frame(), Ok)
    }

    fn give_back(&self, frame: Frame) {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
    }

    /// Uploads inputs, in the order of the graph's inputs.
    fn write_inputs(&self, frame: &Frame, graph: &Graph, inputs: &[Tensor]) -> Result<()> {
        self.write_unbound(frame, graph, inputs.iter().map(Some))
    }

    /// Uploads inputs that the caller has not bound to buffers.
    pub(crate) fn write_unbound<'t>(
        &self,
        frame: &Frame,
        graph: &Graph,
        inputs: impl Iterator<Item = Option<&'t Tensor>>,
    ) -> Result<()> {
        for (i, (tensor, slot)) in inputs.zip(&self.plan.program.inputs).enumerate() {
            let (Some(tensor), Some(_), Some(buffer)) = (tensor, slot, &frame.inputs[i]) else { continue };
            if tensor.is_empty() {
                continue;
            }
            let name = graph.inputs.get(i).map_or("?", |id| graph.value(*id).name.as_str());
            if matches!(tensor.dtype(), crate::DType::F32 | crate::DType::I32 | crate::DType::U32) {
                self.upload(name, buffer, tensor.bytes())?;
                continue;
            }
            let words = words::to_words(tensor).map_err(|why| Error::value(name, why))?;
            self.upload(name, buffer, bytemuck::cast_slice(&words))?;
        }
        Ok(())
    }

    fn upload(&self, name: &str, buffer: &wgpu::Buffer, bytes: &[u8]) -> Result<()> {
        let what = format!("the upload of input '{name}'");
        self.gpu.attempt(&what, bytes.len() as u64, || self.gpu.queue.write_buffer(buffer, 0, bytes))
    }

    /// Records and submits one run over `frame`.
    fn submit(&self, frame: &Frame) -> Result<wgpu::SubmissionIndex> {
        let submission = self.gpu.attempt("the run", 0, || self.encode_and_submit(frame))?;
        let counters = &self.gpu.counters;
        counters.passes.fetch_add(1, Ordering::Relaxed);
        counters.submits.fetch_add(1, Ordering::Relaxed);
        counters.dispatches.fetch_add(self.steps.len() as u64, Ordering::Relaxed);
        Ok(submission)
    }

    fn encode_and_submit(&self, frame: &Frame) -> wgpu::SubmissionIndex {
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.record(frame, &mut encoder);
        self.copy_outputs(&mut encoder, frame);
        self.gpu.queue.submit([encoder.finish()])
    }

    /// The dispatches as a program without Sardonyx would record them, for benchmarks.
    #[cfg(feature = "internals")]
    pub(crate) fn run_bare(&self, frame: &Frame) {
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (step, group) in self.steps.iter().zip(&frame.bind_groups) {
            step.record(group, &mut pass);
        }
        drop(pass);
        let submission = self.gpu.queue.submit([encoder.finish()]);
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
        self.gpu.device.poll(wait).ok();
    }

    fn copy_outputs(&self, encoder: &mut wgpu::CommandEncoder, frame: &Frame) {
        for (buffer, place) in frame.outputs.iter().zip(&frame.read_back) {
            if let (Some(buffer), Some((offset, size))) = (buffer, place) {
                encoder.copy_buffer_to_buffer(buffer, 0, &frame.staging, *offset, *size);
            }
        }
        self.copy_faults(encoder, frame);
    }

    fn copy_faults(&self, encoder: &mut wgpu::CommandEncoder, frame: &Frame) {
        if let Some(faults) = &frame.faults {
            let (offset, size) = self.faults_in_staging(frame);
            encoder.copy_buffer_to_buffer(faults, 0, &frame.staging, offset, size);
        }
    }

    /// Offset and size of the fault words in the staging buffer.
    fn faults_in_staging(&self, frame: &Frame) -> (u64, u64) {
        let size = self.plan.program.fault_bytes();
        (frame.staging.size().saturating_sub(size), size)
    }

    /// The error of a kernel that reported something, if one did, from the mapped staging buffer.
    fn reported(&self, frame: &Frame, graph: &Graph, staging: &[u8]) -> Result<()> {
        if frame.faults.is_none() {
            return Ok(());
        }
        let (offset, _) = self.faults_in_staging(frame);
        let words = staging[offset as usize..].chunks_exact(4).map(bytemuck::pod_read_unaligned::<u32>);
        let first = self.plan.program.faults.iter().zip(words).find(|(_, word)| *word != 0);
        first.map_or(Ok(()), |(fault, word)| Err(fault.error(graph, word)))
    }

    /// Waits for what was submitted over `frame`, and says whether a kernel reported something; the next run begins anew.
    pub(crate) fn check(&self, frame: &Frame, graph: &Graph) -> Result<()> {
        let Some(faults) = &frame.faults else { return Ok(()) };
        let submission = self.gpu.attempt("the read-back", 0, || {
            let mut encoder =
                self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            self.copy_faults(&mut encoder, frame);
            encoder.clear_buffer(faults, 0, None);
            self.gpu.queue.submit([encoder.finish()])
        })?;
        let mapped = self.read_back(&frame.staging)?;
        self.gpu.wait(submission)?;
        pollster::block_on(mapped).map_err(|error| self.gpu.failure(error))?;
        let reported = {
            let range = frame.staging.slice(..).get_mapped_range();
            self.reported(frame, graph, &range.map_err(|error| self.gpu.failure(error))?)
        };
        self.gpu.attempt("the read-back", 0, || frame.staging.unmap())?;
        reported
    }

    /// Records one run over the caller's buffers into the caller's encoder.
    pub(crate) fn record(&self, frame: &Frame, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (step, group) in self.steps.iter().zip(&frame.bind_groups) {
            step.record(group, &mut pass);
        }
    }

    /// Runs and waits, blocking this thread.
    pub(crate) fn run(&self, graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let frame = self.take_frame()?;
        self.run_frame(&frame, graph, inputs).inspect(|_| self.give_back(frame))
    }

    fn run_frame(&self, frame: &Frame, graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.write_inputs(frame, graph, inputs)?;
        let submission = self.submit(frame)?;
        let mapped = self.read_back(&frame.staging)?;
        self.gpu.wait(submission)?;
        // Another thread's wait may have taken the mapping, and be about to tell.
        pollster::block_on(mapped).map_err(|error| self.gpu.failure(error))?;
        self.read(frame, graph, inputs)
    }

    /// Runs without blocking: another thread waits for the device and wakes the task.
    pub(crate) async fn run_async(self: Arc<Self>, graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let frame = self.take_frame()?;
        self.write_inputs(&frame, graph, inputs)?;
        let submission = self.submit(&frame)?;
        let mapped = self.read_back(&frame.staging)?;
        let (gpu, failed) = (self.gpu.clone(), mapped.clone());
        let waiter = std::thread::Builder::new().name("sardonyx-wait".into()).spawn(move || {
            if gpu.wait(submission).is_err() {
                failed.settle(Err(wgpu::BufferAsyncError));
            }
        });
        waiter.map_err(|error| Error::Gpu(format!("no thread to wait for the device: {error}")))?;
        mapped.await.map_err(|error| self.gpu.failure(error))?;
        let outputs = self.read(&frame, graph, inputs)?;
        self.give_back(frame);
        Ok(outputs)
    }

    fn read_back(&self, staging: &wgpu::Buffer) -> Result<Mapping> {
        self.gpu.attempt("the read-back", 0, || Mapping::of(staging))
    }

    /// The outputs out of the mapped staging buffer, which is unmapped. Outputs in the caller's buffers are left out. A frame
    /// in which something was reported is not used again.
    fn read(&self, frame: &Frame, graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let outputs = {
            let range = frame.staging.slice(..).get_mapped_range();
            let bytes = range.map_err(|error| self.gpu.failure(error))?;
            self.reported(frame, graph, &bytes)?;
            let mut outputs = Vec::new();
            for (source, place) in self.plan.program.outputs.iter().zip(&frame.read_back) {
                match (source, place) {
                    (OutputSource::Known(tensor), _) => outputs.push(tensor.clone()),
                    (OutputSource::Input(i), _) => outputs.extend(inputs.get(*i).cloned()),
                    (OutputSource::Device { tensor, dtype, shape }, Some((offset, _))) => {
                        let start = *offset as usize;
                        let end = start + self.plan.program.tensor(*tensor).filled() as usize;
                        let words = words::from_words(&bytes[start..end], *dtype, shape);
                        outputs.push(words.map_err(|why| Error::Tensor(why.0))?);
                    }
                    (OutputSource::Device { .. }, None) => {}
                }
            }
            outputs
        };
        self.gpu.attempt("the read-back", 0, || frame.staging.unmap())?;
        Ok(outputs)
    }

    /// Runs with one pass per call, and measures each with timestamps.
    pub(crate) fn profile(&self, graph: &Graph, inputs: &[Tensor]) -> Result<Vec<KernelTime>> {
        if !self.gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            let reason =
                "it lacks the feature TIMESTAMP_QUERY, which a profile needs; request it with the device \
                          (`DeviceOptions::descriptor_for`) where the adapter has it"
                    .into();
            return Err(Error::Device { device: self.gpu.adapter.name.clone(), reason });
        }
        let frame = self.take_frame()?;
        self.write_inputs(&frame, graph, inputs)?;
        let mut timings = Vec::new();
        // A query set holds at most 4096 queries, two for each call.
        for (chunk, steps) in self.steps.chunks(2048).enumerate() {
            let nanoseconds = self.profile_chunk(&frame, chunk * 2048, steps)?;
            let calls = self.plan.program.calls.iter().skip(chunk * 2048);
            timings.extend(calls.zip(nanoseconds).map(|(call, nanoseconds)| KernelTime {
                kernel: call.kernel.spec().label(),
                node: call.node.to_string(),
                nanoseconds,
            }));
        }
        self.check(&frame, graph)?;
        self.give_back(frame);
        Ok(timings)
    }

    fn profile_chunk(&self, frame: &Frame, first: usize, steps: &[Step]) -> Result<Vec<f64>> {
        let count = steps.len() as u32 * 2;
        let device = &self.gpu.device;
        let descriptor =
            wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: count.max(2) };
        let queries = self.gpu.attempt("timestamps", 0, || device.create_query_set(&descriptor))?;
        let size = u64::from(count) * 8;
        let resolve = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = self.gpu.buffer("timestamps", size, resolve, false)?;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.gpu.buffer("timestamps", size, usage, false)?;
        let encode_and_submit = || {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for (i, step) in steps.iter().enumerate() {
                let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(i as u32 * 2),
                    end_of_pass_write_index: Some(i as u32 * 2 + 1),
                });
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                step.record(&frame.bind_groups[first + i], &mut pass);
            }
            encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, size);
            self.gpu.queue.submit([encoder.finish()])
        };
        let submission = self.gpu.attempt("the run", 0, encode_and_submit)?;
        let mapped = self.read_back(&staging)?;
        self.gpu.wait(submission)?;
        pollster::block_on(mapped).map_err(|error| self.gpu.failure(error))?;
        let bytes = staging.slice(..).get_mapped_range().map_err(|error| self.gpu.failure(error))?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes[..size as usize]);
        let period = f64::from(self.gpu.queue.get_timestamp_period());
        Ok(ticks.chunks_exact(2).map(|t| t[1].saturating_sub(t[0]) as f64 * period).collect())
    }
}

fn constants(gpu: &Gpu, program: &Program) -> Result<Vec<Range>> {
    let align = gpu.target.offset_alignment.max(VECTOR_BYTES);
    let mut places = Vec::new();
    let mut end = 0u64;
    for (i, tensor) in program.constants.iter().enumerate() {
        let words = words::to_words(tensor).map_err(|why| {
            let place = Place::Constant(i);
            let name = program.tensors.iter().find(|tensor| tensor.place == place).map_or("?", |t| &t.name);
            Error::Tensor(format!("constant '{name}': {why}"))
        })?;
        let size = Storage::Word.bytes(words.len());
        places.push((end, size, words));
        end = (end + size).next_multiple_of(align);
    }
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let buffer = gpu.filled_buffer("constants", end, wgpu::BufferUsages::STORAGE, |sink| {
        places.iter().for_each(|(offset, _, words)| sink(*offset, bytemuck::cast_slice(words)));
        Ok(())
    })?;
    Ok(places.iter().map(|&(offset, size, _)| Range { buffer: buffer.clone(), offset, size }).collect())
}
