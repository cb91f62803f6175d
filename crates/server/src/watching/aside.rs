//! `Aside`: a thread for what no request waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// The things that wait for the thread at most, and their bytes.
const MOST: usize = 1024;
const MOST_BYTES: usize = 64 << 20;

/// A thread, and a channel to it that never makes its sender wait: what does not fit is dropped and counted. The thread ends once this is
/// dropped, and what waits is done.
#[derive(Debug)]
pub(super) struct Aside<T> {
    sender: SyncSender<(usize, T)>,
    waiting: Arc<AtomicUsize>,
    dropped: AtomicU64,
}

impl<T: Send + 'static> Aside<T> {
    /// Starts the thread. `work` is called with each thing, and with `None` when none has come for `idle`.
    ///
    /// # Errors
    /// If there is no thread.
    pub(super) fn start(
        name: &str,
        idle: Duration,
        mut work: impl FnMut(Option<T>) + Send + 'static,
    ) -> std::io::Result<Aside<T>> {
        let (sender, receiver) = sync_channel::<(usize, T)>(MOST);
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = waiting.clone();
        std::thread::Builder::new().name(name.into()).spawn(move || {
            loop {
                match receiver.recv_timeout(idle) {
                    Ok((bytes, thing)) => {
                        work(Some(thing));
                        left.fetch_sub(bytes, Ordering::Relaxed);
                    }
                    Err(RecvTimeoutError::Timeout) => work(None),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Aside { sender, waiting, dropped: AtomicU64::new(0) })
    }

    /// Gives the thread a thing that holds `bytes`, unless too much waits for it.
    pub(super) fn give(&self, bytes: usize, thing: T) {
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        // One thing of any size may wait.
        let fits = before == 0 || before.saturating_add(bytes) <= MOST_BYTES;
        if !fits || self.sender.try_send((bytes, thing)).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many things were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let ((open, opened), (done, seen)) = (channel::<()>(), channel());
        let aside = Aside::start("test", Duration::from_secs(60), move |thing: Option<usize>| {
            // The test may have ended.
            let _ = opened.recv();
            let _ = done.send(thing.unwrap_or_default());
        });
        let aside = aside.unwrap();
        aside.give(MOST_BYTES + 1, 0);
        aside.give(1, 1);
        assert_eq!(aside.dropped(), 1, "its bytes do not fit beside the first");
        open.send(()).unwrap();
        assert_eq!(seen.recv().unwrap(), 0);
        while aside.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        // One may be with the thread already.
        (0..MOST + 2).for_each(|i| aside.give(1, i));
        assert!((2..=3).contains(&aside.dropped()), "{}", aside.dropped());
        drop(open);
    }
}
