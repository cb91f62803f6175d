//! The thread that waits for a device, so that tasks need not. Each device has one, from its first asynchronous run on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use super::device::Gpu;
use super::later::Breaker;
use crate::{Error, Result};

/// A submission, and the promise to break if it fails; if it succeeds, wgpu keeps the promise.
type Awaited = (wgpu::SubmissionIndex, Breaker<()>);

/// The channel to the thread, which ends when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Option<Sender<Awaited>>>);

impl Gpu {
    /// Makes the thread wait for `submission`; wgpu then calls the callback of a buffer that is mapped.
    pub(super) fn wait_in_background(
        &self,
        submission: wgpu::SubmissionIndex,
        mapped: Breaker<()>,
    ) -> Result<()> {
        let mut thread = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match thread.take() {
            Some(sender) => sender,
            None => self.start_waiting()?,
        };
        let sent = sender.send((submission, mapped));
        sent.map_err(|_| Error::Gpu("the thread that waits for the device has ended".into()))?;
        *thread = Some(sender);
        Ok(())
    }

    fn start_waiting(&self) -> Result<Sender<Awaited>> {
        let (sender, receiver) = channel();
        let device = self.device.clone();
        let thread = std::thread::Builder::new().name("sardonyx-wait".into());
        let started = thread.spawn(move || wait_for_all(&device, receiver));
        started.map_err(|error| Error::Gpu(format!("no thread to wait for the device: {error}")))?;
        Ok(sender)
    }
}

fn wait_for_all(device: &wgpu::Device, awaited: Receiver<Awaited>) {
    for (submission, mapped) in awaited {
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
        // wgpu panics where the driver reports that the device is lost.
        if !matches!(catch_unwind(AssertUnwindSafe(|| device.poll(wait))), Ok(Ok(_))) {
            mapped.break_it();
        }
    }
}
