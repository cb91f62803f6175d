//! `Stopwatch`: the time that the device takes for a run, by timestamps at the beginning of its first pass and the end of its last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::allocate::{Account, Buffer};
use super::device::Gpu;
use crate::Result;

/// The bytes of two timestamps.
pub(super) const TIMES: u64 = 16;

/// The time of all runs that were measured.
#[derive(Debug, Default)]
pub(crate) struct DeviceTime {
    nanoseconds: AtomicU64,
}

impl DeviceTime {
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }
}

/// The timestamps of one run in flight.
#[derive(Debug)]
pub(super) struct Stopwatch {
    queries: wgpu::QuerySet,
    resolved: Buffer,
    /// Nanoseconds of a tick.
    period: f64,
    sum: Arc<DeviceTime>,
}

impl Stopwatch {
    pub(super) fn new(gpu: &Gpu, account: &Arc<Account>, sum: &Arc<DeviceTime>) -> Result<Stopwatch> {
        let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 };
        let queries = gpu.attempt("timestamps", 0, || gpu.device.create_query_set(&descriptor))?;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = gpu.buffer(account, "timestamps", TIMES, usage, false)?;
        let period = f64::from(gpu.queue.get_timestamp_period());
        Ok(Stopwatch { queries, resolved, period, sum: sum.clone() })
    }

    /// The timestamps that a pass of the run writes.
    pub(super) fn writes(
        &self,
        is_first: bool,
        is_last: bool,
    ) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        (is_first || is_last).then(|| wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: is_first.then_some(0),
            end_of_pass_write_index: is_last.then_some(1),
        })
    }

    /// Copies the timestamps to byte `at` of `staging`.
    pub(super) fn copy(&self, encoder: &mut wgpu::CommandEncoder, staging: &wgpu::Buffer, at: u64) {
        encoder.resolve_query_set(&self.queries, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, staging, at, TIMES);
    }

    /// Adds the time of a run, of which these are the timestamps.
    pub(super) fn add(&self, bytes: &[u8]) {
        let mut ticks = bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned::<u64>);
        if let (Some(begin), Some(end)) = (ticks.next(), ticks.next()) {
            let nanoseconds = end.saturating_sub(begin) as f64 * self.period;
            self.sum.nanoseconds.fetch_add(nanoseconds as u64, Ordering::Relaxed);
        }
    }
}
