//! Waiting for long work, which Ctrl-C ends: a thread does the work, and the one that Python called looks for signals meanwhile.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use pyo3::prelude::*;
use sardonyx::{Interrupt, Result};

use crate::error::exception;

/// How long a signal may wait.
const INTERVAL: Duration = Duration::from_millis(50);

/// A thread that sleeps until there is news, or for a while.
struct Sleeper {
    thread: Thread,
    has_news: AtomicBool,
}

impl Sleeper {
    fn new() -> Arc<Sleeper> {
        Arc::new(Sleeper { thread: thread::current(), has_news: AtomicBool::new(false) })
    }

    /// Whether there was news.
    fn sleep(&self, py: Python<'_>) -> bool {
        py.detach(|| {
            if !self.has_news.load(Ordering::Acquire) {
                thread::park_timeout(INTERVAL);
            }
        });
        self.has_news.swap(false, Ordering::Acquire)
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.has_news.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// The result of work on a session whose flag `interrupt` is. A signal whose handler raises raises the flag; the exception
/// follows when the work has ended.
pub(crate) fn worked<T: Send>(
    py: Python<'_>,
    interrupt: &Interrupt,
    work: impl Send + FnOnce() -> Result<T>,
) -> PyResult<T> {
    let sleeper = Sleeper::new();
    let waker = Waker::from(sleeper.clone());
    thread::scope(|scope| {
        let ended = WakeOnDrop(waker);
        let worker = thread::Builder::new().name("sardonyx".into()).spawn_scoped(scope, move || {
            let _ended = ended;
            work()
        })?;
        let mut seen = Ok(());
        while !sleeper.sleep(py) {
            if seen.is_ok() {
                seen = py.check_signals();
            }
            if seen.is_err() {
                interrupt.raise();
            }
        }
        let made = py.detach(|| worker.join());
        if seen.is_err() {
            interrupt.lower();
        }
        seen?;
        match made {
            Ok(made) => made.map_err(|error| exception(py, error)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Wakes when a thread ends its work, by a panic too.
struct WakeOnDrop(Waker);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake_by_ref();
    }
}

/// The result of a future. A signal whose handler raises drops the future.
pub(crate) fn awaited<T: Send>(
    py: Python<'_>,
    future: impl Future<Output = Result<T>> + Send,
) -> PyResult<T> {
    let sleeper = Sleeper::new();
    let waker = Waker::from(sleeper.clone());
    let mut future = pin!(future);
    loop {
        match py.detach(|| future.as_mut().poll(&mut Context::from_waker(&waker))) {
            Poll::Ready(made) => return made.map_err(|error| exception(py, error)),
            Poll::Pending => {}
        }
        while !sleeper.sleep(py) {
            py.check_signals()?;
        }
    }
}
