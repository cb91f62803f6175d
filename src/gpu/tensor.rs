//! `DeviceTensor`: a tensor that stays on the device, and `Input`: what a run takes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::allocate::Buffer;
use super::device::{Device, Gpu};
use super::growing::Growing;
use super::later::Later;
use super::words;
use crate::kernels::expr::Integers;
use crate::kernels::{Storage, VECTOR_BYTES};
use crate::tensor::checked_count;
use crate::{DType, Datum, Error, Result, Tensor};

/// A tensor in the memory of a [`Device`]: an input or an output of runs that the host does not read. Cloning shares the
/// elements. On the CPU reference the tensor lies in host memory.
///
/// ```
/// use sardonyx::{Device, DeviceTensor, Tensor};
/// let device = Device::reference();
/// let x = DeviceTensor::new(&device, &Tensor::from_slice(&[2], &[1.0f32, 2.0])?)?;
/// assert_eq!(x.read()?.as_slice::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeviceTensor {
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    /// In how many bits its 64-bit integers lie in the device's memory.
    pub(super) integers: Integers,
    pub(super) place: Residence,
    /// `None`: the elements lie one after the other.
    pub(super) growing: Option<Growing>,
}

#[derive(Clone, Debug)]
pub(super) enum Residence {
    Host(Tensor),
    Device(Arc<Gpu>, Buffer),
}

/// What a run takes as an input: a tensor in host memory, one on the device, or a container.
///
/// Calls accept `(name, &Tensor)`, `(name, &DeviceTensor)` or `(name, &Datum)`; [`inputs!`](crate::inputs) mixes them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// Uploaded for the run.
    Tensor(&'a Tensor),
    /// Copied on the device.
    Device(&'a DeviceTensor),
    /// A sequence, an optional or a map.
    Container(&'a Datum),
}

impl<'a> From<&'a Datum> for Input<'a> {
    fn from(datum: &'a Datum) -> Input<'a> {
        match datum {
            Datum::Tensor(tensor) => Input::Tensor(tensor),
            container => Input::Container(container),
        }
    }
}

impl<'a> From<&'a Tensor> for Input<'a> {
    fn from(tensor: &'a Tensor) -> Input<'a> {
        Input::Tensor(tensor)
    }
}

impl<'a> From<&'a DeviceTensor> for Input<'a> {
    fn from(tensor: &'a DeviceTensor) -> Input<'a> {
        Input::Device(tensor)
    }
}

impl<'a> Input<'a> {
    pub(crate) fn dtype(&self) -> DType {
        match self {
            Input::Tensor(tensor) => tensor.dtype(),
            Input::Device(tensor) => tensor.dtype,
            // No plan takes it, as no plan takes strings.
            Input::Container(_) => DType::String,
        }
    }

    pub(crate) fn shape(&self) -> &'a [usize] {
        match self {
            Input::Tensor(tensor) => tensor.shape(),
            Input::Device(tensor) => &tensor.shape,
            Input::Container(_) => &[],
        }
    }

    /// The tensor, if it lies in host memory.
    pub(crate) fn host(&self) -> Option<&'a Tensor> {
        match self {
            Input::Tensor(tensor) => Some(tensor),
            Input::Device(DeviceTensor { place: Residence::Host(tensor), .. }) => Some(tensor),
            Input::Device(_) | Input::Container(_) => None,
        }
    }

    /// The buffer, if the tensor lies on the device.
    pub(super) fn buffer(&self) -> Option<&'a Buffer> {
        match self {
            Input::Device(tensor) => tensor.counted(),
            Input::Tensor(_) | Input::Container(_) => None,
        }
    }
}

/// The bytes that may wait for the next submission before there is one for their sake.
const MOST_WAITING: u64 = 4 << 20;

/// The uses that kernels and copies make of a tensor's buffer.
const USAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

impl DeviceTensor {
    /// Uploads a tensor. Integers of 64 bits lie in 32 bits each, or in 64 if one of them does not fit.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the device cannot hold its elements (strings); [`Error::Limit`], [`Error::MemoryLimit`] or
    /// [`Error::OutOfMemory`] if there is no room.
    pub fn new(device: &Device, tensor: &Tensor) -> Result<DeviceTensor> {
        match device.gpu() {
            Some(gpu) => DeviceTensor::upload(gpu, tensor, Integers::fewest(tensor)),
            None => Ok(DeviceTensor::on_host(tensor.clone())),
        }
    }

    /// A tensor of zeros: an initial state, for example.
    ///
    /// # Errors
    /// As [`DeviceTensor::new`].
    ///
    /// ```
    /// use sardonyx::{DType, Device, DeviceTensor};
    /// let state = DeviceTensor::zeros(&Device::reference(), DType::F32, &[1, 128])?;
    /// assert_eq!(state.shape(), [1, 128]);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn zeros(device: &Device, dtype: DType, shape: &[usize]) -> Result<DeviceTensor> {
        match device.gpu() {
            // wgpu clears memory that nobody has written.
            Some(gpu) => {
                let integers = Integers::Bits32;
                let buffer = gpu.tensor_buffer(bytes(integers, dtype, shape)?)?;
                Ok(DeviceTensor::of_buffer(gpu, buffer, integers, dtype, shape))
            }
            None => DeviceTensor::new(device, &Tensor::zeros(dtype, shape)?),
        }
    }

    /// A tensor over a buffer of the host program, whose elements lie as [`Session::bind`](crate::Session::bind) says. Nothing
    /// is copied.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the buffer is too small, another device's, or lacks the usages `STORAGE` and `COPY_SRC`;
    /// [`Error::Device`] on the CPU reference.
    pub fn from_buffer(
        device: &Device,
        buffer: &wgpu::Buffer,
        dtype: DType,
        shape: &[usize],
    ) -> Result<DeviceTensor> {
        let gpu =
            device.gpu().ok_or_else(|| device.cannot("it has no buffers; open a GPU (`Device::new`)"))?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let integers = Integers::Bits32;
        gpu.check_buffer(buffer, usage, integers, dtype, shape).map_err(Error::Tensor)?;
        Ok(DeviceTensor::of_buffer(gpu, Buffer::of_host(buffer.clone()), integers, dtype, shape))
    }

    pub(crate) fn of_buffer(
        gpu: &Arc<Gpu>,
        buffer: Buffer,
        integers: Integers,
        dtype: DType,
        shape: &[usize],
    ) -> DeviceTensor {
        let place = Residence::Device(gpu.clone(), buffer);
        DeviceTensor { dtype, shape: shape.to_vec(), integers, place, growing: None }
    }

    pub(crate) fn upload(gpu: &Arc<Gpu>, tensor: &Tensor, integers: Integers) -> Result<DeviceTensor> {
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        let buffer = gpu.tensor_buffer(bytes(integers, dtype, shape)?)?;
        gpu.write_tensor("?", &buffer, tensor, integers).map_err(|error| match error {
            Error::Input(crate::InputError::Value { reason, .. }) => Error::Tensor(reason),
            Error::OutOfMemory { bytes, .. } => {
                Error::OutOfMemory { what: "the upload of a tensor".into(), bytes }
            }
            other => other,
        })?;
        gpu.limit_waiting()?;
        Ok(DeviceTensor::of_buffer(gpu, buffer, integers, dtype, shape))
    }

    /// A tensor that a run takes from, or leaves in, host memory.
    pub(crate) fn on_host(tensor: Tensor) -> DeviceTensor {
        let (dtype, shape, integers) = (tensor.dtype(), tensor.shape().to_vec(), Integers::default());
        DeviceTensor { dtype, shape, integers, place: Residence::Host(tensor), growing: None }
    }

    /// The tensor in the device's memory.
    pub(crate) fn on_device(self, gpu: &Arc<Gpu>, integers: Integers) -> Result<DeviceTensor> {
        match &self.place {
            Residence::Host(tensor) => DeviceTensor::upload(gpu, tensor, integers),
            Residence::Device(..) => Ok(self),
        }
    }

    /// In how many bits its 64-bit integers lie in the device's memory.
    pub(crate) fn integers(&self) -> Integers {
        self.integers
    }

    /// Whether plans that hold 64-bit integers like this may read the tensor.
    pub(crate) fn lies_as(&self, integers: Integers) -> bool {
        let on_host = matches!(self.place, Residence::Host(_));
        on_host || !self.dtype.is_wide_integer() || self.integers == integers
    }

    /// How the elements lie in the device's memory.
    pub(super) fn storage(&self) -> Storage {
        self.integers.storage(self.dtype).unwrap_or(Storage::Word)
    }

    /// The bytes of the tensor's buffer.
    fn bytes(&self) -> Result<u64> {
        bytes(self.integers, self.dtype, &self.shape)
    }

    /// The tensors, which have one dtype and one shape, along a new first axis; `None` if one of them lies in host memory, or if
    /// they end within a word.
    pub(crate) fn stacked(gpu: &Arc<Gpu>, list: &[DeviceTensor]) -> Result<Option<DeviceTensor>> {
        let Some(first) = list.first() else { return Ok(None) };
        let shape = [&[list.len()], first.shape()].concat();
        DeviceTensor::adjoined(gpu, &list.iter().collect::<Vec<_>>(), &shape)
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The buffer in which the tensor lies, from the buffer's beginning on, for passes of the host program; `None` on the CPU
    /// reference, and where the elements do not adjoin ([`DeviceTensor::with_room`]).
    pub fn buffer(&self) -> Option<&wgpu::Buffer> {
        self.counted().filter(|_| self.growing.is_none()).map(|buffer| &**buffer)
    }

    /// Whether the tensor lies in host memory, as on the CPU reference.
    pub fn is_on_host(&self) -> bool {
        matches!(self.place, Residence::Host(_))
    }

    pub(super) fn gpu(&self) -> Option<&Arc<Gpu>> {
        match &self.place {
            Residence::Host(_) => None,
            Residence::Device(gpu, _) => Some(gpu),
        }
    }

    pub(crate) fn counted(&self) -> Option<&Buffer> {
        match &self.place {
            Residence::Host(_) => None,
            Residence::Device(_, buffer) => Some(buffer),
        }
    }

    /// Whether the tensor is on this device; `None` stands for the CPU reference.
    pub(crate) fn is_on(&self, gpu: Option<&Arc<Gpu>>) -> bool {
        match (&self.place, gpu) {
            (Residence::Host(_), None) => true,
            // wgpu may compare devices of two instances as equal.
            (Residence::Device(own, _), Some(gpu)) => Arc::ptr_eq(own, gpu),
            _ => false,
        }
    }

    /// Waits for the runs that write the tensor, and copies it to host memory.
    ///
    /// # Errors
    /// The errors of the device, as in [`Session::run`](crate::Session::run).
    pub fn read(&self) -> Result<Tensor> {
        let gpu = match &self.place {
            Residence::Host(tensor) => return Ok(tensor.clone()),
            Residence::Device(gpu, _) => gpu,
        };
        let (staging, submission) = gpu.copy_back(&[(self, self.bytes()?)])?;
        gpu.wait_mapped(staging.slice(..), submission)?;
        self.read_staging(gpu, &staging)
    }

    /// Reads tensors as [`DeviceTensor::read`] reads one, small ones with one submission for all of them.
    ///
    /// # Errors
    /// As [`DeviceTensor::read`].
    ///
    /// ```
    /// use sardonyx::{Device, DeviceTensor, Tensor};
    /// let x = DeviceTensor::new(&Device::reference(), &Tensor::from_slice(&[1], &[2.0f32])?)?;
    /// assert_eq!(DeviceTensor::read_all(&[&x, &x])?.len(), 2);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn read_all(tensors: &[&DeviceTensor]) -> Result<Vec<Tensor>> {
        let mut all = Vec::with_capacity(tensors.len());
        let mut left = tensors;
        while !left.is_empty() {
            let (mut together, mut sum, mut on) = (0, 0u64, None);
            for tensor in left {
                let size = if tensor.counted().is_some() { tensor.bytes()? } else { 0 };
                sum = sum.saturating_add(size);
                let elsewhere = tensor.gpu().is_some_and(|gpu| !Arc::ptr_eq(gpu, on.get_or_insert(gpu)));
                if together > 0 && (sum > READ_TOGETHER || elsewhere) {
                    break;
                }
                together += 1;
            }
            let (now, later) = left.split_at(together);
            all.append(&mut DeviceTensor::read_together(now)?);
            left = later;
        }
        Ok(all)
    }

    fn read_together(tensors: &[&DeviceTensor]) -> Result<Vec<Tensor>> {
        let (mut parts, mut gpu) = (Vec::new(), None);
        for tensor in tensors {
            if let Residence::Device(own, _) = &tensor.place {
                parts.push((*tensor, tensor.bytes()?));
                gpu = Some(own);
            }
        }
        let on_host = |tensor: &DeviceTensor| match &tensor.place {
            Residence::Host(tensor) => Some(tensor.clone()),
            Residence::Device(..) => None,
        };
        let Some(gpu) = gpu else { return Ok(tensors.iter().filter_map(|it| on_host(it)).collect()) };
        let (staging, submission) = gpu.copy_back(&parts)?;
        gpu.wait_mapped(staging.slice(..), submission)?;
        gpu.read_mapped(staging.slice(..), |bytes| {
            let mut sizes = parts.iter().map(|(_, size)| *size);
            let mut start = 0;
            let read = |tensor: &&DeviceTensor| match on_host(tensor) {
                Some(tensor) => Ok(tensor),
                None => {
                    let from = start as usize;
                    start += sizes.next().unwrap_or(0);
                    tensor.converted(&bytes[from..])
                }
            };
            tensors.iter().map(read).collect()
        })
    }

    /// Like [`DeviceTensor::read`], without blocking the calling task.
    ///
    /// # Errors
    /// As [`DeviceTensor::read`].
    pub async fn read_async(&self) -> Result<Tensor> {
        let gpu = match &self.place {
            Residence::Host(tensor) => return Ok(tensor.clone()),
            Residence::Device(gpu, _) => gpu,
        };
        gpu.turn().await;
        let (staging, submission) = gpu.copy_back(&[(self, self.bytes()?)])?;
        gpu.mapped(staging.slice(..), submission).await?;
        self.read_staging(gpu, &staging)
    }

    fn read_staging(&self, gpu: &Gpu, staging: &Buffer) -> Result<Tensor> {
        gpu.read_mapped(staging.slice(..), |bytes| self.converted(bytes))
    }

    /// The tensor whose elements lie at the beginning of `bytes` as on the device.
    fn converted(&self, bytes: &[u8]) -> Result<Tensor> {
        let storage = self.storage();
        let filled = storage.filled(checked_count(&self.shape).unwrap_or(0)) as usize;
        let read = words::from_device(&bytes[..filled], storage, self.dtype, &self.shape);
        read.map_err(|why| why.error("the read-back", Error::Tensor))
    }
}

/// Bytes of an input that are uploaded at once. wgpu makes a staging buffer for each upload. Those of this size are cut from blocks
/// (`MEMORY_BLOCK`), which the next run uses again; one as large as the input would leave a hole in the heap where the next run's
/// input is larger.
const UPLOAD: usize = 1 << 20;

/// The size of a tensor's buffer, in bytes.
pub(super) fn bytes(integers: Integers, dtype: DType, shape: &[usize]) -> Result<u64> {
    let storage = integers.storage(dtype);
    let storage =
        storage.ok_or_else(|| Error::Tensor(format!("the device does not compute with {dtype}")))?;
    let count = checked_count(shape).filter(|count| *count <= u32::MAX as usize);
    let count = count.ok_or_else(|| Error::Tensor(format!("{dtype}{shape:?} has too many elements")))?;
    Ok(storage.bytes(count))
}

/// The bytes of tensors that are read together. A larger one is read by itself, so that the host holds it once.
const READ_TOGETHER: u64 = 16 << 20;

impl Gpu {
    /// A buffer for a tensor of this dtype and shape that stays on the device.
    pub(super) fn buffer_for(&self, integers: Integers, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        self.tensor_buffer(bytes(integers, dtype, shape)?)
    }

    /// A buffer for a tensor that stays on the device.
    pub(crate) fn tensor_buffer(&self, bytes: u64) -> Result<Buffer> {
        self.make_room("a tensor on the device", &|| bytes)?;
        self.buffer(&self.account, "a tensor on the device", bytes, USAGE, false)
    }

    /// Checks that a buffer of the host program can hold a tensor.
    pub(crate) fn check_buffer(
        &self,
        buffer: &wgpu::Buffer,
        usage: wgpu::BufferUsages,
        integers: Integers,
        dtype: DType,
        shape: &[usize],
    ) -> Result<(), String> {
        let needed = bytes(integers, dtype, shape).map_err(|error| error.to_string())?;
        if buffer.size() < needed {
            return Err(format!(
                "its buffer has {} bytes, and {dtype}{shape:?} takes {needed}",
                buffer.size()
            ));
        }
        let missing: Vec<&str> = (usage - buffer.usage()).iter_names().map(|(name, _)| name).collect();
        if !missing.is_empty() {
            return Err(format!("its buffer lacks the usage {}", missing.join(" and ")));
        }
        if buffer.size() < VECTOR_BYTES {
            return Err(format!(
                "its buffer has {} bytes, and a binding at least {VECTOR_BYTES}",
                buffer.size()
            ));
        }
        // A mapped buffer refuses other requests to map it, whoever owns it.
        if buffer.slice(..).get_mapped_range().is_ok() {
            return Err("its buffer is mapped; unmap it before kernels use it".into());
        }
        if !self.owns(buffer) {
            return Err(
                "its buffer is another device's; make it with the device of the session (`Device::wgpu`)"
                    .into(),
            );
        }
        if !self.binds(buffer) {
            return Err("its buffer is not valid: the device could not make it, or it was destroyed".into());
        }
        Ok(())
    }

    /// Uploads `tensor`, which is input `name`, before the next submission.
    pub(super) fn write_tensor(
        &self,
        name: &str,
        buffer: &wgpu::Buffer,
        tensor: &Tensor,
        integers: Integers,
    ) -> Result<()> {
        if tensor.is_empty() {
            return Ok(());
        }
        let what = format!("the upload of input '{name}'");
        let bytes = words::to_device(tensor, integers);
        let bytes = bytes.map_err(|why| Error::value(name, why))?;
        // wgpu writes whole words, and the last elements may be a part of one.
        let (whole, last) = bytes.split_at(bytes.len() & !3);
        self.waiting_bytes.fetch_add(buffer.size() + bytes.len() as u64, Ordering::Relaxed);
        self.attempt(&what, bytes.len() as u64, || {
            for (number, chunk) in whole.chunks(UPLOAD).enumerate() {
                self.queue.write_buffer(buffer, (number * UPLOAD) as u64, chunk);
            }
            if !last.is_empty() {
                let mut word = [0; 4];
                word[..last.len()].copy_from_slice(last);
                self.queue.write_buffer(buffer, whole.len() as u64, &word);
            }
        })
    }

    pub(super) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    pub(super) fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        self.waiting_bytes.store(0, Ordering::Relaxed);
        self.queue.submit([encoder.finish()])
    }

    /// Hands uploads over to the device if much memory waits for it: wgpu holds what it is to copy, and the buffers to which
    /// it is to copy, until the next submission, even if they are dropped before.
    pub(crate) fn limit_waiting(&self) -> Result<()> {
        let waiting = self.waiting_bytes.load(Ordering::Relaxed);
        if waiting < MOST_WAITING {
            return Ok(());
        }
        let submission = self.attempt("the uploads", 0, || self.submit(self.encoder()))?;
        self.limit_submissions(submission, waiting)
    }

    /// Copies tensors, each of that many bytes, one after the other into a new buffer that can be mapped.
    fn copy_back(&self, parts: &[(&DeviceTensor, u64)]) -> Result<(Buffer, wgpu::SubmissionIndex)> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let bytes = parts.iter().map(|(_, bytes)| bytes).sum();
        let staging = self.buffer(&self.account, "read-back", bytes, usage, false)?;
        let submission = self.attempt("the read-back", 0, || {
            let mut encoder = self.encoder();
            let mut start = 0;
            for &(tensor, bytes) in parts {
                tensor.copy_to(&mut encoder, &staging, start, bytes);
                start += bytes;
            }
            self.submit(encoder)
        })?;
        self.counters.read_backs.fetch_add(1, Ordering::Relaxed);
        Ok((staging, submission))
    }

    fn map(&self, staging: wgpu::BufferSlice<'_>) -> Result<Later<()>> {
        self.attempt("the read-back", 0, || Later::mapped(staging))
    }

    /// Waits until `staging`, which `submission` writes, is mapped; blocks this thread.
    pub(super) fn wait_mapped(
        &self,
        staging: wgpu::BufferSlice<'_>,
        submission: wgpu::SubmissionIndex,
    ) -> Result<()> {
        let mapped = self.map(staging)?;
        self.wait(submission)?;
        // Another thread that waits may have received the mapping, and be about to pass it on.
        pollster::block_on(mapped).ok_or_else(|| self.failure("the read-back was given up"))
    }

    /// Like [`Gpu::wait_mapped`], without blocking: the thread that waits for the device wakes the task.
    pub(super) async fn mapped(
        &self,
        staging: wgpu::BufferSlice<'_>,
        submission: wgpu::SubmissionIndex,
    ) -> Result<()> {
        let mapped = self.map(staging)?;
        self.wait_in_background(submission, mapped.breaker())?;
        mapped.await.ok_or_else(|| self.failure("the read-back was given up"))
    }

    /// Reads a mapped buffer with `read`, and unmaps it whatever `read` returns.
    pub(super) fn read_mapped<T>(
        &self,
        staging: wgpu::BufferSlice<'_>,
        read: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let found = {
            let range = staging.get_mapped_range();
            read(&range.map_err(|error| self.failure(error))?)
        };
        self.call("the read-back", 0, || staging.buffer().unmap())?;
        found
    }
}
