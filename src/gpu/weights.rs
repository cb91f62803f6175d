//! Weights: constants packed into read-only buffers when first needed, shared by all plans of a session.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::allocate::Buffer;
use super::device::Gpu;
use super::words;
use crate::events::{event, milliseconds};
use crate::kernels::{Storage, VECTOR_BYTES};
use crate::ops::Graph;
use crate::plan::WeightKey;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// A range of a buffer.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) buffer: wgpu::Buffer,
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Range {
    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.offset,
            size: std::num::NonZeroU64::new(self.size),
        })
    }
}

/// The constants of one session that are on the device.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    uploaded: Mutex<HashMap<WeightKey, Range>>,
    /// Keeps them counted.
    buffers: Mutex<Vec<Buffer>>,
}

fn device_bytes(graph: &Graph, key: &WeightKey) -> u64 {
    let constant = graph.value(key.value).constant.as_ref();
    let plain = || constant.map_or(0, Tensor::len);
    let count = key.packing.as_ref().map_or_else(plain, |packing| packing.count());
    constant.map_or(Storage::Word, storage).bytes(count)
}

/// How a constant lies; those that the device has not were refused when lowered.
fn storage(constant: &Tensor) -> Storage {
    Storage::of(constant.dtype()).unwrap_or(Storage::Word)
}

impl Weights {
    /// Bytes on the device.
    pub(crate) fn bytes(&self) -> u64 {
        let uploaded = self.uploaded.lock().unwrap_or_else(PoisonError::into_inner);
        uploaded.values().map(|range| range.size).sum()
    }

    /// Bytes that those of `keys` take that are not on the device.
    pub(super) fn missing_bytes(&self, graph: &Graph, keys: &[WeightKey]) -> u64 {
        let uploaded = self.uploaded.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = keys.iter().filter(|key| !uploaded.contains_key(*key));
        missing.map(|key| device_bytes(graph, key)).sum()
    }

    /// The ranges of `keys`; those not yet on the device are packed and uploaded.
    pub(super) fn ranges(&self, gpu: &Gpu, graph: &Graph, keys: &[WeightKey]) -> Result<Vec<Range>> {
        let mut uploaded = self.uploaded.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<&WeightKey> = keys.iter().filter(|key| !uploaded.contains_key(*key)).collect();
        let align = gpu.target.offset_alignment.max(VECTOR_BYTES);
        let limit = gpu.device.limits().max_buffer_size.min(256 << 20);
        let mut rest = &missing[..];
        while !rest.is_empty() {
            let mut end = 0;
            let mut taken = Vec::new();
            for key in rest {
                let size = device_bytes(graph, key);
                if size > gpu.target.max_binding {
                    let what = format!("weight '{}', in bytes,", graph.value(key.value).name);
                    return Err(Error::Limit { what, value: size, limit: gpu.target.max_binding });
                }
                if !taken.is_empty() && end + size > limit {
                    break;
                }
                taken.push((*key, end, size));
                end = (end + size).next_multiple_of(align);
            }
            rest = &rest[taken.len()..];
            let start = Instant::now();
            let buffer =
                gpu.filled_buffer(&gpu.account, "weights", end, wgpu::BufferUsages::STORAGE, |sink| {
                    taken.iter().try_for_each(|(key, offset, _)| upload(graph, key, *offset, sink))
                })?;
            for (key, offset, size) in taken {
                uploaded.insert(key.clone(), Range { buffer: buffer.raw(), offset, size });
            }
            self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
            event!(DEBUG, "weights uploaded", bytes = end, milliseconds = milliseconds(start));
        }
        Ok(keys.iter().filter_map(|key| uploaded.get(key).cloned()).collect())
    }
}

fn upload(graph: &Graph, key: &WeightKey, offset: u64, sink: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
    let value = graph.value(key.value);
    let Some(tensor) = &value.constant else { return Ok(()) };
    // Most lie on the device as in the file: one copy, from the mapped file to the mapped buffer.
    let bytes =
        words::to_device(tensor).map_err(|why| Error::Tensor(format!("weight '{}': {why}", value.name)))?;
    match &key.packing {
        Some(packing) => words::packed(&bytes, storage(tensor).bits(), packing, |bytes| sink(offset, bytes)),
        None => sink(offset, &bytes),
    }
    Ok(())
}
