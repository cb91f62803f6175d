//! The threads that prepare plans, so that tasks need not. A device has a few at most, however many runs wait for a plan, and
//! none while no run does.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::Gpu;
use crate::{Error, Interrupt, Result};

/// The most threads of a device. Each compiles on all cores.
const MOST_THREADS: usize = 2;
/// The number of jobs from which on those that nobody wants any more are dropped before another is added.
const MANY_JOBS: usize = 64;

/// Work that somebody waits for, until `dropped` is raised.
struct Job {
    work: Box<dyn FnOnce() + Send>,
    dropped: Interrupt,
}

impl Job {
    fn is_wanted(&self) -> bool {
        !self.dropped.is_raised()
    }
}

/// The jobs that no thread has begun, and the number of threads.
#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    /// The number of waiting jobs at which unwanted jobs are looked for again: twice the number that was left the last time.
    look_at: usize,
    threads: usize,
}

/// The threads share the jobs, and not the device: it goes where its last user drops it.
#[derive(Default)]
pub(super) struct Preparing(Arc<Mutex<Jobs>>);

impl std::fmt::Debug for Preparing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Preparing")
    }
}

impl Preparing {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare_all(&self) {
        loop {
            let mut jobs = self.jobs();
            let Some(job) = jobs.waiting.pop_front() else {
                jobs.threads -= 1;
                return;
            };
            drop(jobs);
            if job.is_wanted() {
                // What waits for a job that panics gets an error, as its promise is dropped.
                let _ = catch_unwind(AssertUnwindSafe(job.work));
            }
        }
    }
}

impl Gpu {
    /// Has a thread do `work`, unless `dropped` is raised before it begins.
    pub(crate) fn prepare_in_background(
        &self,
        dropped: Interrupt,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        let mut jobs = self.preparing.jobs();
        if jobs.waiting.len() >= jobs.look_at.max(MANY_JOBS) {
            jobs.waiting.retain(Job::is_wanted);
            jobs.look_at = 2 * jobs.waiting.len();
        }
        jobs.waiting.push_back(Job { work: Box::new(work), dropped });
        if jobs.threads == MOST_THREADS {
            return Ok(());
        }
        let preparing = Preparing(self.preparing.0.clone());
        let thread = std::thread::Builder::new().name("sardonyx-prepare".into());
        match thread.spawn(move || preparing.prepare_all()) {
            Ok(_) => jobs.threads += 1,
            // A thread that is there does the job.
            Err(_) if jobs.threads > 0 => {}
            Err(error) => {
                jobs.waiting.pop_back();
                return Err(Error::Gpu(format!("no thread to prepare the plan: {error}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::Device;

    #[test]
    fn jobs_that_nobody_wants_are_dropped() {
        let device = Device::noop();
        let gpu = device.gpu().unwrap();
        let (begin, begun) = channel::<()>();
        let begun = Arc::new(Mutex::new(begun));
        for _ in 0..MOST_THREADS {
            let begun = begun.clone();
            let work = move || {
                let _ = begun.lock().unwrap().recv();
            };
            gpu.prepare_in_background(Interrupt::new(), work).unwrap();
        }
        let held = Arc::new(());
        for _ in 0..10_000 {
            let (held, dropped) = (held.clone(), Interrupt::new());
            dropped.raise();
            gpu.prepare_in_background(dropped, move || drop(held)).unwrap();
        }
        assert!(Arc::strong_count(&held) <= MANY_JOBS + 1, "{} jobs", Arc::strong_count(&held));
        assert_eq!(gpu.preparing.jobs().threads, MOST_THREADS);
        let (done, end) = channel();
        gpu.prepare_in_background(Interrupt::new(), move || done.send(()).unwrap()).unwrap();
        drop(begin);
        end.recv().unwrap();
        assert_eq!(Arc::strong_count(&held), 1, "nobody wanted the others");
    }
}
