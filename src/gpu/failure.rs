//! Everything that can fail on a device, as typed errors.
//!
//! wgpu reports an error to the error scopes of the calling thread, or else to a handler that belongs to the program that made
//! the device; wgpu's own handler panics. All that Sardonyx does to a device therefore happens in [`Gpu::attempt`]. A lost
//! device is reported to a callback only, which on a caller's device is not ours to set: calls on a lost device silently do
//! nothing, and the next failure asks [`Gpu::failure`] for the reason.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::Gpu;
use crate::events::event;
use crate::{Error, Result};

/// The reason for which the device is lost, or else the first error that no scope caught.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures(Arc<Mutex<Option<DeviceFailure>>>);

#[derive(Clone, Debug)]
enum DeviceFailure {
    Lost(String),
    Other(String),
}

thread_local! {
    /// Whether this thread causes an error to find out whose it is.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, errors of this thread that reach a handler of Sardonyx mean nothing.
struct Asking;

impl Asking {
    fn begin() -> Asking {
        ASKING.set(true);
        Asking
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        ASKING.set(false);
    }
}

impl Failures {
    /// Listens to a device that Sardonyx has made.
    pub(super) fn listen(&self, device: &wgpu::Device) {
        let failures = self.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            if !ASKING.get() {
                failures.record(DeviceFailure::Other(error.to_string()));
            }
        }));
        let failures = self.clone();
        device.set_device_lost_callback(move |reason, message| {
            let reason = format!("{reason:?} {message}").trim().to_lowercase();
            event!(ERROR, "device lost", reason = reason);
            failures.record(DeviceFailure::Lost(reason));
        });
    }

    fn record(&self, failure: DeviceFailure) {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A lost device explains every error that follows, and is more important than errors before.
        if place.is_none() || matches!(failure, DeviceFailure::Lost(_)) {
            *place = Some(failure);
        }
    }

    /// The error since the last call, if there was one. A lost device stays lost.
    fn take(&self) -> Option<Error> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match place.clone()? {
            DeviceFailure::Lost(reason) => Some(Error::DeviceLost(reason)),
            DeviceFailure::Other(text) => {
                *place = None;
                Some(Error::Gpu(text))
            }
        }
    }
}

impl Gpu {
    /// Runs `make`, which may take `bytes` of memory for `what`, and returns the error that it caused, if any.
    pub(super) fn attempt<T>(&self, what: &str, bytes: u64, make: impl FnOnce() -> T) -> Result<T> {
        // `usize::MAX` stands for no limit.
        let take = |left: usize| if left == usize::MAX { Some(left) } else { left.checked_sub(1) };
        if self.allocations_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Err(Error::OutOfMemory { what: what.to_string(), bytes });
        }
        self.call(what, bytes, make)
    }

    /// As [`Gpu::attempt`], for what must happen even where a test lets memory run out: it gives something back.
    pub(super) fn call<T>(&self, what: &str, bytes: u64, make: impl FnOnce() -> T) -> Result<T> {
        match self.scoped(make) {
            Ok(made) => Ok(made),
            Err(wgpu::Error::OutOfMemory { .. }) => Err(Error::OutOfMemory { what: what.to_string(), bytes }),
            // A lost device returns invalid objects without an error, and reports errors where they are used.
            Err(error) => Err(self.failure(format!("{what}: {error}"))),
        }
    }

    /// Lets this many of the attempts that follow succeed, for tests; `usize::MAX` is no limit.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn let_allocations(&self, left: usize) {
        self.allocations_left.store(left, Ordering::Relaxed);
    }

    /// Runs `make`, and returns the first error that it caused, if any.
    fn scoped<T>(&self, make: impl FnOnce() -> T) -> Result<T, wgpu::Error> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = make();
        let errors = [
            pollster::block_on(validation.pop()),
            pollster::block_on(internal.pop()),
            pollster::block_on(memory.pop()),
        ];
        errors.into_iter().flatten().next().map_or(Ok(made), Err)
    }

    /// Whether `buffer` is one of this device. wgpu tells no buffer's device, and numbers the buffers of each instance from 1
    /// on, so that it takes a buffer of another instance for one of ours, or panics. But an error of a buffer's own goes to the
    /// scopes and the handler of the buffer's device. So this asks for what is always refused: to map a range that begins at no
    /// multiple of 8. Where nothing arrives in a scope of this device, the buffer is another's, and its handler gets the error.
    /// (A handler of Sardonyx ignores it, wgpu's own panics.)
    pub(super) fn owns(&self, buffer: &wgpu::Buffer) -> bool {
        let asking = Asking::begin();
        let refused = |make: &dyn Fn()| {
            let scoped = catch_unwind(AssertUnwindSafe(|| self.scoped(make)));
            matches!(scoped, Ok(Err(wgpu::Error::Validation { .. })))
        };
        let owns = refused(&|| buffer.slice(4..8).map_async(wgpu::MapMode::Read, |_| {}));
        if owns {
            // This takes the request back.
            refused(&|| buffer.unmap());
        }
        drop(asking);
        owns
    }

    /// Whether kernels can read and write `buffer`, which is one of this device and has the usage STORAGE. It may be invalid,
    /// as wgpu returns such where it could not make one.
    pub(super) fn binds(&self, buffer: &wgpu::Buffer) -> bool {
        let entry = wgpu::BindGroupLayoutEntry {
            binding: 0,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: true },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let bind = || {
            let entries = &[entry];
            let layout = wgpu::BindGroupLayoutDescriptor { label: None, entries };
            let layout = &self.device.create_bind_group_layout(&layout);
            let binding = wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(16) };
            let resource = wgpu::BindingResource::Buffer(binding);
            let entries = &[wgpu::BindGroupEntry { binding: 0, resource }];
            let _ =
                self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries });
        };
        self.scoped(bind).is_ok()
    }

    /// Waits until the device has finished a submission.
    pub(super) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        self.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None })?;
        self.failures.take().map_or(Ok(()), Err)
    }

    /// Lets wgpu free the objects that were dropped, which it does only while it is polled.
    pub(super) fn free_dropped(&self) {
        // The next use of a lost device reports the loss.
        let _ = self.poll(wgpu::PollType::Poll);
    }

    fn poll(&self, how: wgpu::PollType) -> Result<()> {
        // wgpu panics where the driver reports that the device is lost.
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(how))) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.failure(error)),
            Err(_) => Err(self.failure("waiting for the device")),
        }
    }

    /// The error behind a failure that shows as `symptom`.
    pub(super) fn failure(&self, symptom: impl std::fmt::Display) -> Error {
        if let Some(error) = self.failures.take() {
            return error;
        }
        if self.is_lost() {
            // While it is polled, wgpu tells a callback of ours the reason.
            let _ = catch_unwind(AssertUnwindSafe(|| self.device.poll(wgpu::PollType::Poll)));
            let unknown = || Error::DeviceLost(symptom.to_string());
            return self.failures.take().unwrap_or_else(unknown);
        }
        Error::Gpu(symptom.to_string())
    }

    /// A lost device makes no buffer, and reports no error.
    fn is_lost(&self) -> bool {
        let usage = wgpu::BufferUsages::COPY_SRC;
        let descriptor = wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: true };
        let probe = self.scoped(|| {
            let buffer = self.device.create_buffer(&descriptor);
            buffer.slice(..).get_mapped_range_mut().is_err()
        });
        matches!(probe, Ok(true))
    }
}
