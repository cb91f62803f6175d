//! Device tensors in memory that has room for more rows: the caches of decoders, to which runs append.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::device::Gpu;
use super::tensor::{DeviceTensor, Residence, bytes};
use super::words;
use crate::array::strides;
use crate::shape::{Room, product};
use crate::{Error, Result};

/// How a tensor's rows along an axis lie in memory that has room for more.
#[derive(Clone, Debug)]
pub(super) struct Growing {
    axis: usize,
    /// The rows for which there is memory.
    capacity: usize,
    /// The rows of the longest tensor in this memory. Whose tensor is shorter may not append: others' rows lie behind its own.
    newest: Arc<AtomicUsize>,
}

impl Growing {
    /// The shape for which there is memory, of a tensor of `shape`.
    fn whole(&self, shape: &[usize]) -> Vec<usize> {
        let mut whole = shape.to_vec();
        whole[self.axis] = self.capacity;
        whole
    }
}

/// Parts of a tensor's memory: `count` of `bytes` bytes, which begin `stride` bytes apart.
#[derive(Clone, Copy)]
struct Runs {
    count: u64,
    bytes: u64,
    stride: u64,
}

/// The most parts of a tensor between which there is room: each is a copy of its own where the elements are to adjoin.
const MOST_PARTS: usize = 1 << 12;

impl DeviceTensor {
    /// A copy in memory with room for `rows` rows along `axis`. [`Session::run_to_device`](crate::Session::run_to_device) and
    /// [`Binding`](crate::Binding) append to it in place: where an output of the model is a Concat of this input and new rows, as
    /// the cache of a decoder is, the run writes the new rows behind the others, and the output is a tensor in the same memory.
    /// What was read before stays as it is; a tensor that is appended to a second time is copied first. Where there is no room for
    /// the new rows, the run makes a copy with room for a quarter more.
    ///
    /// There is no room where a row of the axis is no multiple of 4 bytes, where more than 4,096 rows lie before the axis (as the
    /// batch and the heads do), for integers of 64 bits, nor on the CPU reference: the result is then the tensor itself. A session holds the memory of the last such tensor until its next run, or [`Session::trim`](crate::Session::trim).
    ///
    /// # Errors
    /// [`Error::Tensor`] if the tensor has no such axis; as [`DeviceTensor::new`].
    ///
    /// ```no_run
    /// # fn f(session: &sardonyx::Session, device: &sardonyx::Device, token: &sardonyx::Tensor) -> sardonyx::Result<()> {
    /// use sardonyx::{DType, DeviceTensor, inputs};
    /// // A cache of 4 heads of 64 elements, without a row yet, in memory for 1,024 rows.
    /// let mut past = DeviceTensor::zeros(device, DType::F32, &[1, 4, 0, 64])?.with_room(2, 1024)?;
    /// for _ in 0..100 {
    ///     let mut outputs = session.run_to_device(&inputs! { "token" => token, "past" => &past })?;
    ///     past = outputs.remove("present").unwrap();
    /// }
    /// # Ok(()) }
    /// ```
    pub fn with_room(&self, axis: usize, rows: usize) -> Result<DeviceTensor> {
        let Some(&size) = self.shape.get(axis) else {
            return Err(Error::Tensor(format!("{}{:?} has no axis {axis}", self.dtype, self.shape)));
        };
        let Residence::Device(gpu, _) = &self.place else { return Ok(self.clone()) };
        let row = strides(&self.shape)[axis];
        let words = words::end_with_word(self.storage(), row);
        let parts = product(&self.shape[..axis]);
        if !words || parts > MOST_PARTS || self.dtype.is_wide_integer() {
            return Ok(self.clone());
        }
        let newest = Arc::new(AtomicUsize::new(size));
        self.copied(gpu, Some(Growing { axis, capacity: rows.max(size), newest }))
    }

    /// The tensor, with its elements one after the other.
    pub(crate) fn dense(&self) -> Result<DeviceTensor> {
        match &self.place {
            Residence::Device(gpu, _) if self.growing.is_some() => self.copied(gpu, None),
            _ => Ok(self.clone()),
        }
    }

    /// A copy whose elements lie in this way.
    fn copied(&self, gpu: &Arc<Gpu>, growing: Option<Growing>) -> Result<DeviceTensor> {
        let axis = match (&self.growing, &growing) {
            (Some(own), Some(growing)) if own.axis != growing.axis => {
                return self.dense()?.copied(gpu, Some(growing.clone()));
            }
            (Some(growing), _) | (None, Some(growing)) => growing.axis,
            (None, None) => return Ok(self.clone()),
        };
        let whole = growing.as_ref().map_or(self.shape.clone(), |growing| growing.whole(&self.shape));
        let buffer = gpu.tensor_buffer(bytes(self.integers, self.dtype, &whole)?)?;
        let place = Residence::Device(gpu.clone(), buffer.clone());
        let copy = DeviceTensor { place, growing, ..self.clone() };
        let (from, to) = (self.runs(axis), copy.runs(axis));
        gpu.attempt("a copy of a tensor", 0, || {
            let mut encoder = gpu.encoder();
            self.copy_runs(&mut encoder, from, &buffer, (0, to.stride));
            gpu.submit(encoder)
        })?;
        Ok(copy)
    }

    /// Copies the elements to `to` from byte `at` on, one after the other. `most`: the bytes for which there is memory.
    pub(super) fn copy_to(&self, encoder: &mut wgpu::CommandEncoder, to: &wgpu::Buffer, at: u64, most: u64) {
        match (&self.growing, self.counted()) {
            (Some(growing), _) => {
                let runs = self.runs(growing.axis);
                self.copy_runs(encoder, runs, to, (at, runs.bytes));
            }
            (None, Some(from)) => encoder.copy_buffer_to_buffer(from, 0, to, at, most.min(from.size())),
            (None, None) => {}
        }
    }

    /// Copies the runs to `to` from byte `at` on, where they begin `stride` bytes apart.
    fn copy_runs(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        runs: Runs,
        to: &wgpu::Buffer,
        (at, stride): (u64, u64),
    ) {
        let Some(from) = self.counted().filter(|_| runs.bytes > 0) else { return };
        for i in 0..runs.count {
            encoder.copy_buffer_to_buffer(from, i * runs.stride, to, at + i * stride, runs.bytes);
        }
    }

    /// The elements that adjoin whatever room there is along `axis`.
    fn runs(&self, axis: usize) -> Runs {
        let (outer, row) = (product(&self.shape[..axis]), strides(&self.shape)[axis]);
        let bytes = self.storage().offset(row * self.shape[axis]);
        let stride =
            self.growing.as_ref().map_or(bytes, |growing| self.storage().offset(row * growing.capacity));
        Runs { count: outer as u64, bytes, stride }
    }

    /// The room behind the tensor along `axis`, if the tensor is the one that may be appended to.
    pub(crate) fn room(&self, axis: usize) -> Option<Room> {
        let growing = self.growing.as_ref().filter(|growing| growing.axis == axis)?;
        let own = *self.shape.get(axis)?;
        let newest = growing.newest.load(Ordering::Acquire) == own;
        newest.then_some(Room { axis, spare: growing.capacity.saturating_sub(own) })
    }

    /// The rows along `axis` for which the tensor's memory has room; `None` if there is no such room.
    pub(crate) fn capacity(&self, axis: usize) -> Option<usize> {
        self.growing.as_ref().filter(|growing| growing.axis == axis).map(|growing| growing.capacity)
    }

    /// Whether the memory behind the tensor is from now on that of the tensor of `shape` in the same memory. False where another
    /// has taken it.
    pub(crate) fn claims(&self, shape: &[usize]) -> bool {
        let Some(growing) = &self.growing else { return false };
        let (Some(&from), Some(&to)) = (self.shape.get(growing.axis), shape.get(growing.axis)) else {
            return false;
        };
        growing.newest.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The tensor of `shape` in the same memory.
    pub(crate) fn appended(&self, shape: &[usize]) -> DeviceTensor {
        DeviceTensor { shape: shape.to_vec(), ..self.clone() }
    }
}
