//! Rows of device tensors: tensors joined along the first dimension, and cut again.

use std::sync::Arc;

use super::device::Gpu;
use super::tensor::{DeviceTensor, Residence, bytes};
use super::words;
use crate::array::Array;
use crate::error::Why;
use crate::kernels::expr::Integers;
use crate::shape::product;
use crate::tensor::checked_count;
use crate::{Error, Result};

impl DeviceTensor {
    /// The rows of all tensors, one tensor after the other: `[2, 5]` and `[3, 5]` make `[5, 5]`. Copied on the device; over the host
    /// where a tensor ends within 4 bytes, or where 64-bit integers lie in different numbers of bits.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there is no tensor, if they differ in dtype, in other dimensions than the first, or in their device, or if
    /// one is a scalar; otherwise as [`DeviceTensor::new`].
    ///
    /// ```
    /// use sardonyx::{Device, DeviceTensor, Tensor};
    /// let device = Device::reference();
    /// let a = DeviceTensor::new(&device, &Tensor::from_slice(&[1, 2], &[1.0f32, 2.0])?)?;
    /// let b = DeviceTensor::new(&device, &Tensor::from_slice(&[2, 2], &[3.0f32, 4.0, 5.0, 6.0])?)?;
    /// let both = DeviceTensor::joined(&[&a, &b])?;
    /// assert_eq!(both.shape(), [3, 2]);
    /// assert_eq!(both.separated(&[1, 2])?[1].read()?, b.read()?);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn joined(tensors: &[&DeviceTensor]) -> Result<DeviceTensor> {
        let [first, rest @ ..] = tensors else {
            return Err(Error::Tensor("there are no tensors to join".into()));
        };
        for tensor in tensors {
            let alike = tensor.dtype == first.dtype && tensor.shape.get(1..) == first.shape.get(1..);
            if !alike || tensor.shape.is_empty() {
                return Err(Error::Tensor(format!(
                    "{}{:?} cannot be joined with {}{:?}: tensors that are joined differ in the first dimension alone",
                    tensor.dtype, tensor.shape, first.dtype, first.shape
                )));
            }
            if !tensor.is_on(first.gpu()) {
                return Err(Error::Tensor("tensors that are joined are on one device".into()));
            }
        }
        if rest.is_empty() {
            return Ok(DeviceTensor::clone(first));
        }
        let rows = tensors.iter().map(|tensor| tensor.shape[0]).sum();
        let shape = [&[rows], &first.shape[1..]].concat();
        if let Some(gpu) = first.gpu()
            && let Some(joined) = DeviceTensor::adjoined(gpu, tensors, &shape)?
        {
            return Ok(joined);
        }
        let host = DeviceTensor::read_all(tensors)?;
        let joined = || {
            let arrays = host.iter().map(Array::from_tensor).collect::<Result<Vec<_>, Why>>()?;
            Array::joined(&arrays.iter().collect::<Vec<_>>())?.reshaped(&shape).to_tensor()
        };
        let joined = joined().map_err(|why| why.error("joined tensors", Error::Tensor))?;
        match first.gpu() {
            Some(gpu) => DeviceTensor::upload(gpu, &joined, Integers::fewest(&joined)),
            None => Ok(DeviceTensor::on_host(joined)),
        }
    }

    /// The tensor in parts of so many rows each, from the first row on; rows that are left over are in no part. Copied as
    /// [`DeviceTensor::joined`] copies.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the tensor has fewer rows; otherwise as [`DeviceTensor::new`].
    pub fn separated(&self, rows: &[usize]) -> Result<Vec<DeviceTensor>> {
        let has = self.shape.first().copied().unwrap_or(0);
        let sum = rows.iter().try_fold(0usize, |sum, &rows| sum.checked_add(rows));
        if self.shape.is_empty() || sum.is_none_or(|sum| sum > has) {
            return Err(Error::Tensor(format!(
                "{}{:?} has not the rows of parts of {rows:?}",
                self.dtype, self.shape
            )));
        }
        let Residence::Device(gpu, _) = &self.place else { return self.separated_on_host(rows) };
        let (row, storage) = (product(&self.shape[1..]), self.storage());
        if !rows.iter().all(|&rows| words::end_with_word(storage, rows * row)) {
            return self.separated_on_host(rows);
        }
        let whole = self.dense()?;
        let Some(from) = whole.counted() else { return self.separated_on_host(rows) };
        let mut parts = Vec::with_capacity(rows.len());
        for &rows in rows {
            let shape = [&[rows], &self.shape[1..]].concat();
            let buffer = gpu.buffer_for(self.integers, self.dtype, &shape)?;
            parts.push(DeviceTensor::of_buffer(gpu, buffer, self.integers, self.dtype, &shape));
        }
        gpu.attempt("the parts of a tensor", 0, || {
            let (mut encoder, mut start) = (gpu.encoder(), 0);
            for (part, &rows) in parts.iter().zip(rows) {
                let size = storage.offset(rows * row);
                if let (Some(to), 1..) = (part.counted(), size) {
                    encoder.copy_buffer_to_buffer(from, start, to, 0, size);
                }
                start += size;
            }
            gpu.submit(encoder)
        })?;
        Ok(parts)
    }

    fn separated_on_host(&self, rows: &[usize]) -> Result<Vec<DeviceTensor>> {
        let refused = |why: Why| why.error("the parts of a tensor", Error::Tensor);
        let whole = Array::from_tensor(&self.read()?).map_err(refused)?;
        let (row, mut start) = (product(&self.shape[1..]), 0);
        let part = |&rows: &usize| {
            let shape = [&[rows], &self.shape[1..]].concat();
            let from = start * row;
            start += rows;
            let part = whole.gather(&shape, |i| Some(from + i), None).to_tensor().map_err(refused)?;
            match self.gpu() {
                Some(gpu) => DeviceTensor::upload(gpu, &part, self.integers),
                None => Ok(DeviceTensor::on_host(part)),
            }
        };
        rows.iter().map(part).collect()
    }

    /// The tensors, which have one dtype, one after the other as a tensor of `shape`; `None` if one of them lies in host memory, if
    /// they hold integers in different numbers of bits, or if one ends within a word.
    pub(super) fn adjoined(
        gpu: &Arc<Gpu>,
        tensors: &[&DeviceTensor],
        shape: &[usize],
    ) -> Result<Option<DeviceTensor>> {
        let Some(first) = tensors.first() else { return Ok(None) };
        let storage = first.storage();
        let mut sizes = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let count = checked_count(&tensor.shape).unwrap_or(0);
            let alike = tensor.counted().is_some() && tensor.integers == first.integers;
            if !alike || !words::end_with_word(storage, count) {
                return Ok(None);
            }
            sizes.push(storage.offset(count));
        }
        let whole = gpu.tensor_buffer(bytes(first.integers, first.dtype, shape)?)?;
        gpu.attempt("joined tensors", 0, || {
            let (mut encoder, mut start) = (gpu.encoder(), 0);
            for (tensor, size) in tensors.iter().zip(sizes) {
                if size > 0 {
                    tensor.copy_to(&mut encoder, &whole, start, size);
                }
                start += size;
            }
            gpu.submit(encoder)
        })?;
        Ok(Some(DeviceTensor::of_buffer(gpu, whole, first.integers, first.dtype, shape)))
    }
}
