//! Waiting for a device: the thread that does it so that tasks need not, and bounds on what waits. Each device has one thread,
//! from its first asynchronous run on.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::device::Gpu;
use super::later::{Breaker, Later, Promise};
use crate::{Error, Result};

/// The most asynchronous runs of a device that are in flight at once; others begin later. wgpu holds some memory for each,
/// and a program that drops its futures may begin runs faster than the device ends them.
const MOST_IN_FLIGHT: usize = 64;

/// Before it submits more than twice this number of times, or work that holds more than twice this number of bytes, a program
/// that does not wait for its runs waits for the first half.
const MANY_SUBMISSIONS: usize = 256;
const MANY_BYTES: u64 = 16 << 20;

/// A submission, and the promise to break if it fails; if it succeeds, wgpu keeps the promise.
type Awaited = (wgpu::SubmissionIndex, Breaker<()>);

/// What a device is waited for.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    thread: Mutex<Option<WaitingThread>>,
    in_flight: Arc<InFlightRuns>,
    submitted: Mutex<Submitted>,
}

/// The thread, which ends when its channel is dropped.
#[derive(Debug)]
struct WaitingThread {
    channel: Sender<Awaited>,
    handle: JoinHandle<()>,
}

/// The thread has a share of the device. If it had the last one while the program ends, it would unload the driver as the
/// program's exit does: lavapipe crashes then.
impl Drop for Waiting {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(WaitingThread { channel, handle }) = thread else { return };
        drop(channel);
        // A callback may drop the device on the thread itself.
        if handle.thread().id() != std::thread::current().id() {
            let _ = handle.join();
        }
    }
}

/// The number of asynchronous runs in flight, and those that are to begin.
#[derive(Debug, Default)]
struct InFlightRuns(Mutex<(usize, VecDeque<Promise<()>>)>);

/// What was submitted since `mark`, without waiting for it.
#[derive(Debug, Default)]
struct Submitted {
    times: usize,
    bytes: u64,
    mark: Option<wgpu::SubmissionIndex>,
}

impl InFlightRuns {
    fn lock(&self) -> MutexGuard<'_, (usize, VecDeque<Promise<()>>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One has ended, so the next may begin.
    fn end_one(&self) {
        let (count, waiting) = &mut *self.lock();
        *count -= 1;
        while let Some(next) = waiting.pop_front() {
            if next.is_awaited() {
                return next.keep(());
            }
        }
    }
}

impl Gpu {
    /// Waits, without blocking, until another asynchronous run may begin.
    pub(super) async fn turn(&self) {
        let later = {
            let (count, waiting) = &mut *self.waiting.in_flight.lock();
            if *count < MOST_IN_FLIGHT {
                return;
            }
            let (promise, later) = Later::new();
            waiting.push_back(promise);
            later
        };
        later.await;
    }

    /// Makes the thread wait for `submission`; wgpu then calls the callback of a buffer that is mapped.
    pub(super) fn wait_in_background(
        &self,
        submission: wgpu::SubmissionIndex,
        mapped: Breaker<()>,
    ) -> Result<()> {
        let mut thread = self.waiting.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let running = match thread.take() {
            Some(running) => running,
            None => self.start_waiting()?,
        };
        self.waiting.in_flight.lock().0 += 1;
        running.channel.send((submission, mapped)).map_err(|_| {
            self.waiting.in_flight.end_one();
            Error::Gpu("the thread that waits for the device has ended".into())
        })?;
        *thread = Some(running);
        Ok(())
    }

    fn start_waiting(&self) -> Result<WaitingThread> {
        let (channel, receiver) = channel();
        let (device, in_flight) = (self.device.clone(), self.waiting.in_flight.clone());
        let thread = std::thread::Builder::new().name("sardonyx-wait".into());
        let started = thread.spawn(move || wait_for_all(&device, receiver, &in_flight));
        let handle =
            started.map_err(|error| Error::Gpu(format!("no thread to wait for the device: {error}")))?;
        Ok(WaitingThread { channel, handle })
    }

    /// Counts a submission that nobody waits for, and that holds `bytes` bytes until it ends. Waits for earlier ones if that is
    /// much, so that a program cannot be ahead of the device by any amount.
    pub(super) fn limit_submissions(&self, submission: wgpu::SubmissionIndex, bytes: u64) -> Result<()> {
        let before = {
            let mut submitted = self.waiting.submitted.lock().unwrap_or_else(PoisonError::into_inner);
            submitted.times += 1;
            submitted.bytes += bytes;
            if submitted.times < MANY_SUBMISSIONS && submitted.bytes < MANY_BYTES {
                return Ok(());
            }
            (submitted.times, submitted.bytes) = (0, 0);
            submitted.mark.replace(submission)
        };
        before.map_or(Ok(()), |before| self.wait(before))
    }
}

fn wait_for_all(device: &wgpu::Device, awaited: Receiver<Awaited>, in_flight: &InFlightRuns) {
    for (submission, mapped) in awaited {
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
        // wgpu panics where the driver reports that the device is lost.
        if !matches!(catch_unwind(AssertUnwindSafe(|| device.poll(wait))), Ok(Ok(_))) {
            mapped.break_it();
        }
        in_flight.end_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::internals::devices::each;
    use crate::internals::random::Sketch;
    use crate::ops::case;
    use crate::{Session, SessionOptions};

    /// The device goes where its last user drops it, and on no thread that the program knows nothing of.
    #[test]
    fn no_thread_outlives_its_device() {
        for device in each() {
            let mut sketch = Sketch::default();
            let x = sketch.input("x");
            let y = sketch.node("Neg", &[], &[x]);
            sketch.graph.outputs.push(y);
            let graph = Arc::new(sketch.graph);
            let session = Session::of_graph(&device, graph, SessionOptions::default(), vec![]).unwrap();
            pollster::block_on(session.run_async(&[("x", &case::random(&[5]))])).unwrap();
            let in_flight = Arc::downgrade(&device.gpu().unwrap().waiting.in_flight);
            assert_eq!(in_flight.strong_count(), 2, "the device's and the thread's");
            drop((session, device));
            assert_eq!(in_flight.strong_count(), 0);
        }
    }
}
