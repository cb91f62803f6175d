//! `Later`: a value that another thread, or the device, will give.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// The future of a value: `None` if the promise was broken.
#[derive(Debug)]
pub(crate) struct Later<T>(Arc<Mutex<PromiseState<T>>>);

/// Gives the value. If the promise is dropped before, the future gives `None`.
#[derive(Debug)]
pub(crate) struct Promise<T>(Arc<Mutex<PromiseState<T>>>);

#[derive(Debug)]
struct PromiseState<T> {
    /// The inner `Option` is `None` if the promise was broken.
    outcome: Option<Option<T>>,
    waker: Option<Waker>,
}

impl<T> Later<T> {
    pub(crate) fn new() -> (Promise<T>, Later<T>) {
        let state = Arc::new(Mutex::new(PromiseState { outcome: None, waker: None }));
        (Promise(state.clone()), Later(state))
    }

    /// Breaks the promise, whoever holds it.
    pub(super) fn breaker(&self) -> Breaker<T> {
        Breaker(self.0.clone())
    }
}

impl Later<()> {
    /// The moment when `buffer` is mapped for reading.
    pub(super) fn mapped(buffer: wgpu::BufferSlice<'_>) -> Later<()> {
        let (promise, later) = Later::new();
        buffer.map_async(wgpu::MapMode::Read, move |outcome| match outcome {
            Ok(()) => promise.keep(()),
            Err(_) => drop(promise),
        });
        later
    }
}

impl<T> Promise<T> {
    /// Whether the future still exists.
    pub(super) fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    pub(crate) fn keep(self, value: T) {
        settle(&self.0, Some(value));
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        settle(&self.0, None);
    }
}

/// Breaks a promise, unless it was kept before.
#[derive(Debug)]
pub(super) struct Breaker<T>(Arc<Mutex<PromiseState<T>>>);

impl<T> Breaker<T> {
    pub(super) fn break_it(self) {
        settle(&self.0, None);
    }
}

/// Sets the outcome, unless there is one already.
fn settle<T>(state: &Mutex<PromiseState<T>>, outcome: Option<T>) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.outcome.get_or_insert(outcome);
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}

impl<T> Future for Later<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut state.outcome {
            Some(outcome) => Poll::Ready(outcome.take()),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
