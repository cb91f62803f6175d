//! Copies of requests that a variant answers for nobody, after the client has its answer: what the two answers differ by is counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::compare::{Comparison, compare};
use crate::config::Shadow;
use crate::serving::Served;
use crate::{Request, Response, texts};

/// How long a copy may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is known of all shadows, by the versions whose answers they are compared with.
#[derive(Debug, Default)]
pub(super) struct Shadows(Mutex<BTreeMap<Name, Arc<Pair>>>);

/// A version that answers, and one that shadows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// The model that requests name.
    pub(super) model: String,
    /// The version that answers: `3`, or `other/3` of another model.
    pub(super) version: String,
    /// The version that shadows it.
    pub(super) shadow: String,
}

/// What is known of a pair since both were loaded.
#[derive(Debug, Default)]
pub(super) struct Pair {
    in_flight: AtomicUsize,
    /// Copies whose answers were compared.
    pub(super) compared: AtomicU64,
    /// Copies that had no answer.
    pub(super) failed: AtomicU64,
    /// Copies that were not run, as too many were in flight.
    pub(super) dropped: AtomicU64,
    /// Answers with other names, shapes or kinds of outputs, and requests to a shadow that takes texts otherwise.
    pub(super) incomparable: AtomicU64,
    sum: Mutex<Comparison>,
}

/// A copy of a request that waits for the client's answer.
#[derive(Debug)]
pub(super) struct Copied {
    pair: Arc<Pair>,
    /// The copies that may be in flight.
    in_flight: usize,
    served: Arc<Served>,
    request: Request,
    tolerance: f64,
}

/// One of the copies that are in flight, until it is dropped.
#[derive(Debug)]
struct Flight(Arc<Pair>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shadows {
    /// A copy of a request for the shadow; `None` if it is the shadow that answers, or one that takes texts otherwise.
    pub(super) fn copy(
        &self,
        model: &str,
        answers: &Arc<Served>,
        (shadow, served): (&Shadow, Arc<Served>),
        request: &Request,
    ) -> Option<Copied> {
        if Arc::ptr_eq(answers, &served) {
            return None;
        }
        let version = |served: &Served| shown(model, &served.config().name, served.version());
        let name = Name { model: model.into(), version: version(answers), shadow: version(&served) };
        let pair = self.pairs().entry(name).or_default().clone();
        if texts::difference(answers.config(), served.config()).is_some() {
            // What texts have become for the one says something else to the other.
            pair.incomparable.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let request = Request {
            model: served.config().name.clone(),
            // Feedback is for what clients have got.
            id: String::new(),
            // After those that somebody waits for.
            priority: u64::MAX,
            timeout: None,
            ..request.clone()
        };
        Some(Copied { pair, in_flight: shadow.in_flight, served, request, tolerance: shadow.tolerance })
    }

    /// All pairs of which `serves` says that both serve; what is known of the others is forgotten.
    pub(super) fn all(&self, serves: impl Fn(&str, &str) -> bool) -> Vec<(Name, Arc<Pair>)> {
        let mut pairs = self.pairs();
        pairs.retain(|name, _| serves(&name.model, &name.version) && serves(&name.model, &name.shadow));
        pairs.iter().map(|(name, pair)| (name.clone(), pair.clone())).collect()
    }

    fn pairs(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Arc<Pair>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Copied {
    /// Lets the shadow answer, unless too many copies are in flight, and compares its answer with `response`. Nobody waits for it.
    pub(super) fn start(self, response: &Response) {
        let Copied { pair, in_flight, served, request, tolerance } = self;
        let flight = Flight(pair);
        if flight.0.in_flight.fetch_add(1, Ordering::Relaxed) >= in_flight {
            flight.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let ours = response.outputs.clone();
        let request = Request { deadline: Instant::now().checked_add(PATIENCE), ..request };
        tokio::spawn(async move {
            let Ok(theirs) = served.infer(request).await else {
                // The statistics of the shadow say why.
                flight.0.failed.fetch_add(1, Ordering::Relaxed);
                return;
            };
            drop(served);
            let work = move || match compare(&ours, &theirs.outputs, tolerance) {
                Some(comparison) => flight.0.add(&comparison),
                None => {
                    flight.0.incomparable.fetch_add(1, Ordering::Relaxed);
                }
            };
            // An error says that the server ends.
            let _ = tokio::task::spawn_blocking(work).await;
        });
    }
}

impl Pair {
    fn add(&self, found: &Comparison) {
        {
            let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.elements += found.elements;
            sum.beyond += found.beyond;
            sum.greatest = sum.greatest.max(found.greatest);
            sum.rows += found.rows;
            sum.agreed += found.agreed;
        }
        self.compared.fetch_add(1, Ordering::Relaxed);
    }

    /// All comparisons together.
    pub(super) fn sum(&self) -> Comparison {
        *self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A version as metrics call it, where requests name `model`.
pub(super) fn shown(model: &str, of: &str, version: u64) -> String {
    if of == model { version.to_string() } else { format!("{of}/{version}") }
}
