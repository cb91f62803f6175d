//! `Mapping`: the future of a buffer that is being mapped for reading.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

type Outcome = Result<(), wgpu::BufferAsyncError>;

#[derive(Clone, Debug, Default)]
pub(super) struct Mapping(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

/// Settles the mapping even if wgpu drops its callback.
struct Promise(Mapping);

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.settle(Err(wgpu::BufferAsyncError));
    }
}

impl Mapping {
    pub(super) fn of(buffer: &wgpu::Buffer) -> Mapping {
        let mapping = Mapping::default();
        let promise = Promise(mapping.clone());
        buffer.slice(..).map_async(wgpu::MapMode::Read, move |outcome| promise.0.settle(outcome));
        mapping
    }

    /// The first outcome counts.
    pub(super) fn settle(&self, outcome: Outcome) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.outcome.get_or_insert(outcome);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Future for Mapping {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.outcome.clone() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
