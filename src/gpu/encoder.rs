//! `Encoder`: a command encoder whose device is known.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::device::{Device, Gpu};
use crate::Result;

/// A command encoder of a [`Device`], into which a host program records its own passes and the runs of a
/// [`Binding`](crate::Binding). It derefs to wgpu's encoder. wgpu does not tell the device of an encoder, and takes objects of
/// one instance for those of another; this type knows its device, so that a run is recorded into none of another.
///
/// ```no_run
/// # fn f(device: &sardonyx::Device, queue: &sardonyx::wgpu::Queue, binding: &mut sardonyx::Binding) -> sardonyx::Result<()> {
/// let mut encoder = device.encoder()?;
/// encoder.push_debug_group("a model");
/// binding.record(&mut encoder)?;
/// encoder.pop_debug_group();
/// queue.submit([encoder.finish()]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Encoder {
    gpu: Arc<Gpu>,
    encoder: wgpu::CommandEncoder,
}

impl Device {
    /// A new encoder of this device.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) on the CPU reference; those of the device.
    pub fn encoder(&self) -> Result<Encoder> {
        let gpu = self.gpu().ok_or_else(|| self.cannot("it has no encoders; open a GPU (`Device::new`)"))?;
        let encoder = gpu.attempt("an encoder", 0, || gpu.encoder())?;
        Ok(Encoder { gpu: gpu.clone(), encoder })
    }
}

impl Encoder {
    /// What was recorded, for [`wgpu::Queue::submit`] of the same device.
    pub fn finish(self) -> wgpu::CommandBuffer {
        self.encoder.finish()
    }

    pub(crate) fn is_on(&self, gpu: &Arc<Gpu>) -> bool {
        Arc::ptr_eq(&self.gpu, gpu)
    }
}

impl Deref for Encoder {
    type Target = wgpu::CommandEncoder;

    fn deref(&self) -> &wgpu::CommandEncoder {
        &self.encoder
    }
}

impl DerefMut for Encoder {
    fn deref_mut(&mut self) -> &mut wgpu::CommandEncoder {
        &mut self.encoder
    }
}
