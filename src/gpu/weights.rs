//! Weights and tables: what kernels only read, packed into buffers when it is first needed. Equal contents share memory on a
//! device, whatever model, plan or operator they come from.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::allocate::Buffer;
use super::device::Gpu;
use super::words;
use crate::error::Why;
use crate::events::{event, milliseconds};
use crate::kernels::{Storage, VECTOR_BYTES};
use crate::ops::Graph;
use crate::plan::{Packing, Place, Program};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The most bytes of a buffer with several weights. wgpu holds as many again until they are copied. The C library gives memory of
/// less than 32 MiB back late or never.
const MOST_AT_ONCE: u64 = 64 << 20;

/// A range of a buffer.
#[derive(Clone, Debug)]
pub(super) struct BufferRange {
    pub(super) buffer: wgpu::Buffer,
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl BufferRange {
    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.offset,
            size: std::num::NonZeroU64::new(self.size),
        })
    }
}

/// A constant in the order that its kernel wants.
#[derive(Clone, Debug)]
struct Contents {
    constant: Tensor,
    packing: Option<Packing>,
    storage: Storage,
    /// The hash of a few parts of the constant. Contents that differ in other parts are told apart by comparing them.
    digest: u64,
}

impl Contents {
    /// Fails if the constant lies in a file that has changed.
    fn new(constant: Tensor, packing: Option<Packing>, storage: Option<Storage>) -> Result<Contents> {
        const PARTS: usize = 16;
        const PART: usize = 64;
        constant.check_file()?;
        let (bytes, mut state) = (constant.bytes(), DefaultHasher::new());
        (constant.dtype(), bytes.len(), &packing).hash(&mut state);
        let parts = bytes.chunks((bytes.len() / PARTS).max(PART));
        parts.for_each(|part| part[..part.len().min(PART)].hash(&mut state));
        // Constants of types that the device does not have are refused while lowering.
        let storage = storage.unwrap_or(Storage::Word);
        Ok(Contents { digest: state.finish(), constant, packing, storage })
    }

    fn bytes(&self) -> u64 {
        let count = self.packing.as_ref().map_or(self.constant.len(), Packing::count);
        self.storage.bytes(count)
    }

    fn upload<'n>(
        &self,
        name: impl FnOnce() -> &'n str,
        offset: u64,
        sink: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<()> {
        self.constant.check_file()?;
        // Most constants lie on the device as in the file: one copy takes them from the mapped file to the mapped buffer.
        let uploaded = words::stored(&self.constant, self.storage).and_then(|bytes| match &self.packing {
            Some(packing) => {
                let mut offset = offset;
                words::packed(&bytes, self.storage.bits(), packing, |bytes| {
                    sink(offset, bytes);
                    offset += bytes.len() as u64;
                })
            }
            None => {
                sink(offset, &bytes);
                Ok(())
            }
        });
        self.constant.release();
        uploaded.map_err(|why| {
            let what = format!("constant '{}'", name());
            why.error(&what, |reason| Error::Tensor(format!("{what}: {reason}")))
        })
    }
}

/// Compares contents. Bytes at the same address are equal without a comparison: each of the two keeps them from being freed. Bytes of
/// a file that has changed equal no others.
impl PartialEq for Contents {
    fn eq(&self, other: &Contents) -> bool {
        let (bytes, others) = (self.constant.bytes(), other.constant.bytes());
        let readable = || self.constant.check_file().is_ok() && other.constant.check_file().is_ok();
        self.digest == other.digest
            && self.constant.dtype() == other.constant.dtype()
            && self.packing == other.packing
            && self.storage == other.storage
            && (std::ptr::eq(bytes, others) || (readable() && bytes == others))
    }
}

impl Eq for Contents {}

impl Hash for Contents {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// The uploads to one device. An entry lives as long as somebody holds the upload.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<Contents, Weak<Upload>>>);

impl Uploads {
    fn entries(&self) -> MutexGuard<'_, HashMap<Contents, Weak<Upload>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A constant's contents on the device.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) range: BufferRange,
    /// Held so that its bytes stay counted.
    _buffer: Buffer,
    contents: Contents,
    among: Weak<Uploads>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(uploads) = self.among.upgrade() else { return };
        let mut entries = uploads.entries();
        // Another upload of the same contents may have taken this one's place.
        if entries.get(&self.contents).is_some_and(|upload| upload.strong_count() == 0) {
            entries.remove(&self.contents);
        }
    }
}

/// The weights that one session keeps on the device; each plan keeps its own tables.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    kept: Mutex<HashMap<Contents, Arc<Upload>>>,
}

/// The read-only memory of one program.
#[derive(Debug)]
pub(super) struct Constants {
    /// In the order of [`Program::weights`].
    pub(super) weights: Vec<Arc<Upload>>,
    /// In the order of [`Program::constants`]; none where the plan has them beside its params.
    pub(super) tables: Vec<Arc<Upload>>,
}

impl Weights {
    /// The bytes on the device of all these weights together; what several share counts once.
    pub(crate) fn bytes_of<'w>(all: impl IntoIterator<Item = &'w Weights>) -> u64 {
        let mut uploads = HashMap::new();
        for weights in all {
            let kept = weights.kept.lock().unwrap_or_else(PoisonError::into_inner);
            uploads.extend(kept.values().map(|upload| (Arc::as_ptr(upload), upload.range.size)));
        }
        uploads.values().sum()
    }

    /// The weights that the program's kernels read, and its tables if `tables`. Those that are not on the device yet are packed and
    /// uploaded.
    pub(super) fn of(&self, gpu: &Gpu, graph: &Graph, program: &Program, tables: bool) -> Result<Constants> {
        let wanted = wanted(graph, program, tables)?;
        let name = |i: usize| match i.checked_sub(program.weights.len()) {
            None => graph.value(program.weights[i].value).name.as_str(),
            Some(i) => {
                let table = program.tensors.iter().find(|tensor| tensor.place == Place::Constant(i));
                table.map_or("?", |tensor| &tensor.name)
            }
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut weights = gpu.uploaded(&wanted, name)?;
        let tables = weights.split_off(program.weights.len().min(weights.len()));
        for upload in &weights {
            kept.entry(upload.contents.clone()).or_insert_with(|| upload.clone());
        }
        Ok(Constants { weights, tables })
    }
}

/// The contents of the program's weights, and then of its tables if `tables`.
fn wanted(graph: &Graph, program: &Program, tables: bool) -> Result<Vec<Contents>> {
    let weights = program.weights.iter().filter_map(|key| {
        let constant = graph.value(key.value).constant.as_ref()?;
        let of_key = |why: Why| why.error("a constant", Error::Tensor);
        Some(key.constant(constant).map_err(of_key).and_then(|constant| {
            let storage = program.integers.storage(constant.dtype());
            Contents::new(constant, key.packing.clone(), storage)
        }))
    });
    let storages = program.constant_storages();
    let all = program.constants.iter().zip(storages).filter(|_| tables);
    weights.chain(all.map(|(table, storage)| Contents::new(table.clone(), None, storage))).collect()
}

impl Gpu {
    fn align(&self) -> u64 {
        self.target.offset_alignment.max(VECTOR_BYTES)
    }

    /// Bytes of the program's weights, and of its tables if `tables`, that are not on the device yet.
    pub(super) fn missing_bytes(&self, graph: &Graph, program: &Program, tables: bool) -> u64 {
        // The upload reports what is wrong with a file.
        let wanted: HashSet<Contents> = wanted(graph, program, tables).into_iter().flatten().collect();
        let entries = self.uploads.entries();
        let missing = wanted
            .iter()
            .filter(|contents| entries.get(*contents).is_none_or(|upload| upload.strong_count() == 0));
        missing.map(|contents| contents.bytes().next_multiple_of(self.align())).sum()
    }

    /// The uploads of all that is `wanted`; `name` gives the names for errors.
    fn uploaded<'n>(&self, wanted: &[Contents], name: impl Fn(usize) -> &'n str) -> Result<Vec<Arc<Upload>>> {
        // Declared before the entries are locked: dropping the last holder of an upload locks them too.
        let mut found: HashMap<&Contents, Arc<Upload>> = HashMap::new();
        {
            let entries = self.uploads.entries();
            let known = |contents| Some((contents, entries.get(contents)?.upgrade()?));
            found.extend(wanted.iter().filter_map(known));
        }
        let mut seen = HashSet::new();
        let missing =
            (0..wanted.len()).filter(|&i| !found.contains_key(&wanted[i]) && seen.insert(&wanted[i]));
        let missing: Vec<usize> = missing.collect();
        let align = self.align();
        let limit = self.device.limits().max_buffer_size.min(MOST_AT_ONCE);
        let mut rest = &missing[..];
        while !rest.is_empty() {
            let mut end = 0;
            let mut taken = Vec::new();
            for &i in rest {
                let size = wanted[i].bytes();
                if size > self.target.max_binding {
                    let what = format!("constant '{}'", name(i));
                    let limit = self.target.max_binding;
                    return Err(Error::Limit { what, value: size, limit, in_bytes: true });
                }
                if !taken.is_empty() && end + size > limit {
                    break;
                }
                taken.push((i, end, size));
                end = (end + size).next_multiple_of(align);
            }
            rest = &rest[taken.len()..];
            let last = rest.is_empty();
            let (start, usage) = (Instant::now(), wgpu::BufferUsages::STORAGE);
            let buffer = self.filled_buffer(&self.account, "weights", end, usage, |sink| {
                taken.iter().try_for_each(|&(i, offset, _)| wanted[i].upload(|| name(i), offset, sink))
            })?;
            if !last {
                // wgpu holds the bytes that it is to copy. Those of one buffer after the other would be a model's weights twice.
                self.waiting_bytes.fetch_add(2 * end, Ordering::Relaxed);
                self.limit_waiting()?;
            }
            event!(DEBUG, "weights uploaded", bytes = end, milliseconds = milliseconds(start));
            self.counters.weight_bytes.fetch_add(end, Ordering::Relaxed);
            for (i, offset, size) in taken {
                let upload = Arc::new(Upload {
                    range: BufferRange { buffer: buffer.raw(), offset, size },
                    _buffer: buffer.clone(),
                    contents: wanted[i].clone(),
                    among: Arc::downgrade(&self.uploads),
                });
                self.uploads.entries().insert(wanted[i].clone(), Arc::downgrade(&upload));
                found.insert(&wanted[i], upload);
            }
        }
        Ok(wanted.iter().filter_map(|contents| found.get(contents).cloned()).collect())
    }
}
