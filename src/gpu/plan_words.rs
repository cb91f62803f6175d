//! What the host computes for the kernels of a plan: the params of its calls. Plans of several sizes may share the memory of these
//! words; a run then writes its own plan's first. Where they share it, the tables of the plans, which depend on sizes, lie beside the
//! params.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::allocate::{Account, Buffer};
use super::device::Gpu;
use super::weights::BufferRange;
use super::words;
use crate::kernels::{Storage, VECTOR_BYTES};
use crate::plan::Program;
use crate::{Error, Result};

/// Where the words lie: offset and size of the params of each call, and of each table, if the plan has tables of its own.
#[derive(Debug, Default)]
pub(super) struct WordPlaces {
    params: Vec<(u64, u64)>,
    params_bytes: u64,
    tables: Vec<(u64, u64)>,
    tables_bytes: u64,
}

impl WordPlaces {
    pub(super) fn of(gpu: &Gpu, program: &Program, tables: bool) -> WordPlaces {
        let mut places = WordPlaces::default();
        let align = u64::from(gpu.device.limits().min_uniform_buffer_offset_alignment);
        for call in &program.calls {
            let size = (call.params.len().max(1) as u64 * 4).next_multiple_of(16);
            places.params.push((places.params_bytes, size));
            places.params_bytes = (places.params_bytes + size).next_multiple_of(align);
        }
        let align = gpu.target.offset_alignment.max(VECTOR_BYTES);
        for (table, storage) in program.constants.iter().zip(program.constant_storages()).filter(|_| tables) {
            let size = storage.unwrap_or(Storage::Word).bytes(table.len());
            places.tables.push((places.tables_bytes, size));
            places.tables_bytes = (places.tables_bytes + size).next_multiple_of(align);
        }
        places
    }

    pub(super) fn bytes(&self) -> u64 {
        self.params_bytes + self.tables_bytes
    }

    /// Calls `sink` with the offset and the bytes of the params of each call.
    fn params(&self, program: &Program, mut sink: impl FnMut(u64, &[u8])) {
        for (call, (offset, _)) in program.calls.iter().zip(&self.params) {
            sink(*offset, bytemuck::cast_slice(&call.params));
        }
    }

    /// Likewise for the tables, of which each is whole words.
    fn tables(&self, program: &Program, mut sink: impl FnMut(u64, &[u8])) -> Result<()> {
        let storages = program.constant_storages();
        for ((table, storage), (offset, _)) in program.constants.iter().zip(storages).zip(&self.tables) {
            // No kernel reads a table that has no storage.
            let Some(storage) = storage else { continue };
            let bytes = words::stored(table, storage).map_err(|why| why.error("a table", Error::Tensor))?;
            let (whole, last) = bytes.split_at(bytes.len() & !3);
            sink(*offset, whole);
            if !last.is_empty() {
                let mut word = [0; 4];
                word[..last.len()].copy_from_slice(last);
                sink(*offset + whole.len() as u64, &word);
            }
        }
        Ok(())
    }
}

/// The words of a plan on the device.
#[derive(Debug)]
pub(super) struct PlanWords {
    places: Arc<WordPlaces>,
    params: Buffer,
    tables: Option<Buffer>,
    /// The number of the plan whose words they are.
    plan: Mutex<u64>,
}

impl PlanWords {
    /// The words of the plan with this number.
    pub(super) fn new(
        gpu: &Gpu,
        account: &Arc<Account>,
        places: &Arc<WordPlaces>,
        (program, number): (&Program, u64),
    ) -> Result<PlanWords> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = gpu.filled_buffer(account, "parameters", places.params_bytes, usage, |sink| {
            places.params(program, sink);
            Ok(())
        })?;
        let tables = match places.tables_bytes {
            0 => None,
            bytes => {
                let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
                Some(gpu.filled_buffer(account, "tables", bytes, usage, |sink| places.tables(program, sink))?)
            }
        };
        Ok(PlanWords { places: places.clone(), params, tables, plan: Mutex::new(number) })
    }

    /// Keeps the words those of the plan with this number, until the guard is dropped: what is submitted meanwhile reads them.
    pub(super) fn hold(&self, gpu: &Gpu, (program, number): (&Program, u64)) -> Result<MutexGuard<'_, u64>> {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        if *plan != number {
            // One write, as each takes time of its own.
            let mut params = vec![0; self.places.params_bytes as usize];
            self.places.params(program, |offset, bytes| {
                params[offset as usize..][..bytes.len()].copy_from_slice(bytes);
            });
            gpu.attempt("the parameters", self.places.bytes(), || {
                gpu.queue.write_buffer(&self.params, 0, &params);
                match &self.tables {
                    Some(tables) => self
                        .places
                        .tables(program, |offset, bytes| gpu.queue.write_buffer(tables, offset, bytes)),
                    None => Ok(()),
                }
            })??;
            *plan = number;
        }
        Ok(plan)
    }

    /// The params of call `i`.
    pub(super) fn params(&self, i: usize) -> Option<BufferRange> {
        let (offset, size) = *self.places.params.get(i)?;
        Some(BufferRange { buffer: self.params.raw(), offset, size })
    }

    pub(super) fn table(&self, i: usize) -> Option<BufferRange> {
        let (offset, size) = *self.places.tables.get(i)?;
        Some(BufferRange { buffer: self.tables.as_ref()?.raw(), offset, size })
    }
}
