//! Profiles: runs in which timestamps measure each kernel.

use std::sync::Arc;

use super::executable::{Dispatch, Executable};
use super::frame::{Frame, Frames};
use super::tensor::Input;
use crate::ops::Graph;
use crate::{Error, KernelTime, Result};

impl Executable {
    /// Runs with a pass for each call, and measures each pass with timestamps.
    pub(crate) fn profile(
        self: &Arc<Self>,
        frames: &Frames,
        graph: &Graph,
        inputs: &[Input<'_>],
    ) -> Result<Vec<KernelTime>> {
        if !self.gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            let reason =
                "it lacks the feature TIMESTAMP_QUERY, which a profile needs; request it with the device \
                          (`DeviceOptions::descriptor_for`) where the adapter has it"
                    .into();
            return Err(Error::Device { device: self.gpu.adapter.name.clone(), reason });
        }
        let frame = frames.take(self)?;
        let outcome = self.profile_frame(&frame, graph, inputs);
        self.give_back(frames, frame, outcome)
    }

    fn profile_frame(&self, frame: &Frame, graph: &Graph, inputs: &[Input<'_>]) -> Result<Vec<KernelTime>> {
        self.write_inputs(frame, graph, inputs.iter().map(Input::host))?;
        let _words = self.wiring(frame)?.words.hold(&self.gpu, self.program())?;
        self.gpu.attempt("the inputs", 0, || {
            let mut encoder = self.gpu.encoder();
            self.copy_inputs(&mut encoder, frame, inputs);
            self.gpu.submit(encoder);
        })?;
        let mut timings = Vec::new();
        // A query set holds at most 4096 queries, two for each call.
        for (chunk, dispatches) in self.dispatches.chunks(2048).enumerate() {
            let nanoseconds = self.profile_chunk(frame, chunk * 2048, dispatches)?;
            let calls = self.plan.program.calls.iter().skip(chunk * 2048);
            timings.extend(calls.zip(nanoseconds).map(|(call, nanoseconds)| KernelTime {
                kernel: call.kernel.spec().label(),
                node: call.node.to_string(),
                nanoseconds,
            }));
        }
        self.check(frame, graph)?;
        Ok(timings)
    }

    fn profile_chunk(&self, frame: &Frame, first: usize, dispatches: &[Dispatch]) -> Result<Vec<f64>> {
        let count = dispatches.len() as u32 * 2;
        let (device, account) = (&self.gpu.device, &self.gpu.account);
        let groups = &self.wiring(frame)?.groups;
        let descriptor =
            wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: count.max(2) };
        let queries = self.gpu.attempt("timestamps", 0, || device.create_query_set(&descriptor))?;
        let size = u64::from(count) * 8;
        let resolve = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = self.gpu.buffer(account, "timestamps", size, resolve, false)?;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.gpu.buffer(account, "timestamps", size, usage, false)?;
        let encode_and_submit = || {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for (i, dispatch) in dispatches.iter().enumerate() {
                let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(i as u32 * 2),
                    end_of_pass_write_index: Some(i as u32 * 2 + 1),
                });
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                dispatch.record(&groups[first + i], &mut pass);
            }
            encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, size);
            self.gpu.submit(encoder)
        };
        let submission = self.gpu.attempt("the run", 0, encode_and_submit)?;
        let staging = staging.slice(..);
        self.gpu.wait_mapped(staging, submission)?;
        let ticks: Vec<u64> = self
            .gpu
            .read_mapped(staging, |bytes| Ok(bytemuck::pod_collect_to_vec(&bytes[..size as usize])))?;
        let period = f64::from(self.gpu.queue.get_timestamp_period());
        Ok(ticks.chunks_exact(2).map(|t| t[1].saturating_sub(t[0]) as f64 * period).collect())
    }
}
