//! Buffers: every allocation on the device goes through here, so that each can fail with a typed error.

use std::sync::atomic::Ordering;

use super::device::Gpu;
use crate::kernels::VECTOR_BYTES;
use crate::{Error, Result};

impl Gpu {
    /// A buffer of `size` bytes (at least a vector), and whether it is mapped for writing.
    pub(super) fn buffer(
        &self,
        what: &str,
        size: u64,
        usage: wgpu::BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<wgpu::Buffer> {
        let size = size.max(VECTOR_BYTES).next_multiple_of(VECTOR_BYTES);
        let limit = self.device.limits().max_buffer_size;
        if size > limit {
            return Err(Error::Limit { what: format!("{what}, in bytes,"), value: size, limit });
        }
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation };
        let buffer = self.attempt(what, size, || self.device.create_buffer(&descriptor))?;
        self.counters.buffers.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes.fetch_add(size, Ordering::Relaxed);
        Ok(buffer)
    }

    /// A read-only buffer filled by `fill`, which gets a sink for consecutive bytes.
    pub(super) fn filled_buffer(
        &self,
        what: &str,
        size: u64,
        usage: wgpu::BufferUsages,
        fill: impl FnOnce(&mut dyn FnMut(u64, &[u8])) -> Result<()>,
    ) -> Result<wgpu::Buffer> {
        let buffer = self.buffer(what, size, usage, true)?;
        {
            let range = buffer.slice(..).get_mapped_range_mut();
            let mut range =
                range.map_err(|error| self.failure(format!("mapping the buffer for {what}: {error}")))?;
            let mut sink = |offset: u64, bytes: &[u8]| {
                let start = offset as usize;
                range.slice(start..start + bytes.len()).copy_from_slice(bytes);
            };
            fill(&mut sink)?;
        }
        self.attempt(what, size, || buffer.unmap())?;
        Ok(buffer)
    }
}
