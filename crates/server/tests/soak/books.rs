//! What became of the requests, as the clients have seen it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What became of one request.
#[derive(Debug)]
pub enum Outcome {
    Right,
    /// The queue was full.
    Full,
    /// The device was lost, or had no memory.
    Broken,
    /// The model is not loaded.
    Gone,
    Wrong(String),
    Unanswered,
}

impl Outcome {
    /// What an error says. Only `narrow` has a queue that may be full, and only `come` may not be loaded.
    pub fn of_error(model: &str, is_unavailable: bool, text: &str) -> Outcome {
        let broken = text.contains("the device was lost") || text.contains("out of memory");
        match is_unavailable {
            true if broken => Outcome::Broken,
            true if model == "narrow" && text.contains("the queue is full") => Outcome::Full,
            true if model == "come" && text.contains("loaded") => Outcome::Gone,
            _ => Outcome::Wrong(format!("{model}: {text}")),
        }
    }
}

/// The requests to one model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Page {
    pub right: u64,
    pub full: u64,
    pub broken: u64,
    pub gone: u64,
}

#[derive(Debug, Default)]
pub struct Books {
    pages: Mutex<BTreeMap<&'static str, Page>>,
    /// Requests whose clients left, or whose connections they reset.
    pub left: AtomicU64,
    pub wrong: AtomicU64,
    pub unanswered: AtomicU64,
}

impl Books {
    /// Notes an outcome; returns whether it was the right answer.
    pub fn note(&self, model: &'static str, outcome: Outcome) -> bool {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let page = pages.entry(model).or_default();
        match outcome {
            Outcome::Right => page.right += 1,
            Outcome::Full => page.full += 1,
            Outcome::Broken => page.broken += 1,
            Outcome::Gone => page.gone += 1,
            Outcome::Unanswered => drop(self.unanswered.fetch_add(1, Relaxed)),
            Outcome::Wrong(ref what) => {
                if self.wrong.fetch_add(1, Relaxed) < 20 {
                    eprintln!("wrong: {what}");
                }
            }
        }
        matches!(outcome, Outcome::Right)
    }

    /// The pages since the last call.
    pub fn take(&self) -> BTreeMap<&'static str, Page> {
        std::mem::take(&mut *self.pages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
