//! What models do in production: accuracy by feedback, drift from a baseline, and a log of payloads. All of it is off unless the
//! parameters of a model's configuration say otherwise ([`parameters`]), and no request waits for any of it: what takes time is done by
//! threads aside, which drop and count what is too much for them.

mod aside;
mod baseline;
mod drift;
mod errors;
mod feedback;
mod metrics;
mod numbers;
mod payloads;
mod plan;
mod series;
mod sketch;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use sardonyx::Tensor;

pub(crate) use baseline::UNFINISHED;
pub use baseline::{DriftShown, FILE as BASELINE, SeriesShown};
pub use errors::LastError;
pub use feedback::{Accuracy, FeedbackShown, RowTruth, Truth};
pub(crate) use metrics::families;
pub use payloads::PayloadLog;

use crate::config::{Config, Files};
use crate::{Failure, Reason, Request, Response};
use aside::Aside;
use baseline::{Baseline, Drift};
use errors::Errors;
use feedback::Feedback;
use payloads::{Payload, Payloads};
use plan::{PayloadPlan, Plan};
use series::Layout;
use sketch::Random;

/// The parameters of a configuration that say what is watched of a model.
pub mod parameters {
    pub use super::plan::{
        DRIFT, DRIFT_LEARN, DRIFT_SAMPLE, DRIFT_WINDOW, FEEDBACK, FEEDBACK_KEPT, FEEDBACK_KIND,
        FEEDBACK_OUTPUT, FEEDBACK_TOP, FEEDBACK_WINDOW, PAYLOAD_LOG, PAYLOAD_LOG_OF,
    };
}

/// What all models of a server share: the threads that look at their requests, and the list of the last errors.
#[derive(Debug)]
pub struct Watching {
    /// When the server began.
    started: Instant,
    payloads: Option<Payloads>,
    /// `None` if there was no thread.
    observing: OnceLock<Option<Aside<Observation>>>,
    errors: Errors,
}

/// A request whose drift is to be taken into account.
#[derive(Debug)]
struct Observation {
    drift: Arc<Drift>,
    inputs: Vec<(String, Tensor)>,
    outputs: Vec<(String, Tensor)>,
}

/// What the threads aside have not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsideCounts {
    /// Requests whose drift there was no time for.
    pub drift_dropped: u64,
    /// Lines of the payload log.
    pub payloads_written: u64,
    /// Lines that could not be written.
    pub payloads_failed: u64,
    /// Requests that there was no time to log.
    pub payloads_dropped: u64,
}

impl Watching {
    /// Opens the payload log, if there is to be one.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if its folder cannot be used.
    pub fn open(log: Option<PayloadLog>) -> Result<Arc<Watching>, Failure> {
        let start = |log: PayloadLog| {
            let folder = log.folder.display().to_string();
            Payloads::start(log).map_err(|error| Failure::invalid(format!("payload log {folder}: {error}")))
        };
        let (started, payloads) = (Instant::now(), log.map(start).transpose()?);
        Ok(Arc::new(Watching { started, payloads, observing: OnceLock::new(), errors: Errors::default() }))
    }

    /// What is to be watched of a version of a model; `None` for nothing. The baseline is the file [`BASELINE`] in the folder of the
    /// version, or of the model; one that is learned is written to `file`.
    ///
    /// # Errors
    /// [`Reason::Invalid`] for parameters that are wrong, and for a baseline that is none.
    pub(crate) fn watch(
        self: &Arc<Watching>,
        config: &Config,
        version: u64,
        files: &dyn Files,
        file: PathBuf,
    ) -> Result<Option<Watched>, Failure> {
        let about = |text: String| Failure::invalid(format!("model '{}': {text}", config.name));
        let Plan { feedback, drift, payloads } = Plan::of(config).map_err(about)?;
        if payloads.is_some() && self.payloads.is_none() {
            let model = &config.name;
            tracing::warn!(model, "the parameter payload_log logs nothing without --payload-log FOLDER");
        }
        let drift = drift.map(|plan| -> Result<Arc<Drift>, Failure> {
            let mut baseline = None;
            for path in [format!("{version}/{BASELINE}"), BASELINE.to_string()] {
                if let Some(json) = files.read(&path)? {
                    let wrong = |text| {
                        about(format!("{path}: {text}; correct the file, or remove it to learn another"))
                    };
                    baseline = Some(Baseline::parse(&json).map_err(wrong)?);
                    break;
                }
            }
            Ok(Arc::new(Drift::new(plan, Layout::of(config), file, baseline)))
        });
        let watched = Watched {
            model: config.name.clone(),
            watching: self.clone(),
            feedback: feedback.map(Feedback::new),
            drift: drift.transpose()?,
            payloads: payloads.filter(|_| self.payloads.is_some()).map(Arc::new),
            requests: AtomicU64::new(0),
        };
        let idle = watched.feedback.is_none() && watched.drift.is_none() && watched.payloads.is_none();
        Ok((!idle).then_some(watched))
    }

    /// Notes why a request has no answer.
    pub(crate) fn failed(&self, model: &str, version: &str, failure: &Failure) {
        self.errors.add(model, version, failure, SystemTime::now());
    }

    /// How long the server has been there.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The last errors, the latest first.
    pub fn last_errors(&self) -> Vec<LastError> {
        self.errors.last()
    }

    /// What the threads aside have not done.
    pub fn counts(&self) -> AsideCounts {
        let [payloads_written, payloads_failed, payloads_dropped] =
            self.payloads.as_ref().map(Payloads::counts).unwrap_or_default();
        let drift_dropped = self.observing.get().and_then(Option::as_ref).map_or(0, Aside::dropped);
        AsideCounts { drift_dropped, payloads_written, payloads_failed, payloads_dropped }
    }

    fn observe(&self, observation: Observation) {
        let observing = self.observing.get_or_init(|| {
            let work = |observation: Option<Observation>| {
                if let Some(Observation { drift, inputs, outputs }) = observation {
                    drift.observe(&inputs, &outputs);
                }
            };
            Aside::start("drift", Duration::from_secs(3600), work)
                .inspect_err(|error| tracing::error!(%error, "no thread to watch drift"))
                .ok()
        });
        if let Some(observing) = observing {
            observing.give(size(observation.inputs.iter().chain(&observation.outputs)), observation);
        }
    }
}

/// What is watched of one version of a model.
#[derive(Debug)]
pub struct Watched {
    model: String,
    watching: Arc<Watching>,
    feedback: Option<Feedback>,
    drift: Option<Arc<Drift>>,
    payloads: Option<Arc<PayloadPlan>>,
    requests: AtomicU64,
}

/// What is kept of a request until it is answered.
#[derive(Debug)]
pub(crate) struct Seen {
    drift: bool,
    payload: bool,
    inputs: Vec<(String, Tensor)>,
    tenant: Option<Arc<str>>,
    came: Instant,
}

impl Watched {
    /// Sees a request before it is run. Where feedback is wanted, one without an id gets one, by which its client can give it.
    pub(crate) fn meet(&self, request: &mut Request) -> Seen {
        if self.feedback.is_some() && request.id.is_empty() {
            request.id = new_id();
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let drift = self.drift.as_ref().is_some_and(|drift| is_sampled(number, drift.plan.sample));
        let payload = self.payloads.as_ref().is_some_and(|plan| is_sampled(!number, plan.share));
        Seen {
            drift,
            payload,
            inputs: if drift || payload { request.inputs.clone() } else { Vec::new() },
            tenant: request.tenant.as_deref().map(Arc::from),
            came: Instant::now(),
        }
    }

    /// Sees the answer.
    pub(crate) fn answered(&self, seen: Seen, response: &Response) {
        let Seen { drift, payload, inputs, tenant, came } = seen;
        if let Some(feedback) = &self.feedback {
            feedback.keep(tenant.as_ref(), response);
        }
        if let (true, Some(drift)) = (drift, &self.drift) {
            let (inputs, outputs) = (inputs.clone(), response.outputs.clone());
            self.watching.observe(Observation { drift: drift.clone(), inputs, outputs });
        }
        if let (true, Some(plan), Some(payloads)) = (payload, &self.payloads, &self.watching.payloads) {
            payloads.give(Payload {
                plan: plan.clone(),
                model: response.model.clone(),
                version: response.version.clone(),
                id: response.id.clone(),
                tenant,
                time: SystemTime::now(),
                took: came.elapsed(),
                inputs,
                outputs: response.outputs.clone(),
            });
        }
    }

    /// Whether clients can say what would have been right.
    pub fn keeps_predictions(&self) -> bool {
        self.feedback.is_some()
    }

    /// What feedback has said, where it is switched on.
    pub fn feedback(&self) -> Option<FeedbackShown> {
        self.feedback.as_ref().map(Feedback::shown)
    }

    /// How far the version is from its baseline, where that is watched.
    pub fn drift(&self) -> Option<DriftShown> {
        self.drift.as_ref().map(|drift| drift.shown())
    }

    /// The baseline, if it is known already.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if no drift is watched, [`Reason::NotFound`] while the baseline is learned.
    pub fn baseline(&self) -> Result<serde_json::Value, Failure> {
        self.with_drift()?.json().ok_or_else(|| {
            Failure::new(Reason::NotFound, format!("the baseline of model '{}' is still learned", self.model))
        })
    }

    /// Forgets the baseline, and learns another from the next rows, as many as the configuration says if `rows` does not.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if no drift is watched, or for a number of rows that is too small or too large.
    pub fn learn_baseline(&self, rows: Option<usize>) -> Result<usize, Failure> {
        self.with_drift()?.learn(rows)
    }

    fn with_drift(&self) -> Result<&Drift, Failure> {
        self.drift.as_deref().ok_or_else(|| no_drift(&self.model))
    }
}

/// That a model's drift is not watched.
pub(crate) fn no_drift(model: &str) -> Failure {
    Failure::invalid(format!(
        "the drift of model '{model}' is not watched; set the parameter {} to 'true'",
        parameters::DRIFT
    ))
}

/// Lets each of some versions of a model compare its prediction with what would have been right. Returns the rows that each has counted.
///
/// # Errors
/// [`Reason::NotFound`] if none has kept the prediction, [`Reason::Invalid`] if the model keeps none, or for a truth that does not fit.
pub(crate) fn judge<'a>(
    model: &str,
    versions: impl IntoIterator<Item = (u64, &'a Watched)>,
    tenant: Option<&Arc<str>>,
    truth: &Truth,
) -> Result<Vec<(u64, usize)>, Failure> {
    let (mut counted, mut last) = (Vec::new(), None);
    for (version, watched) in versions {
        let Some(feedback) = &watched.feedback else { continue };
        last = Some(feedback);
        if let Some(rows) = feedback.judge(tenant, truth)? {
            counted.push((version, rows));
        }
    }
    match last {
        None => Err(Failure::invalid(format!(
            "model '{model}' keeps no predictions; set the parameter {} to 'true'",
            parameters::FEEDBACK
        ))),
        Some(feedback) if counted.is_empty() => {
            feedback.count_unknown();
            Err(feedback::unknown(model, feedback.most()))
        }
        Some(_) => Ok(counted),
    }
}

/// Whether the request of this number is one of the share that is sampled.
fn is_sampled(number: u64, share: f64) -> bool {
    share >= 1.0 || ((Random::new(number).next() >> 11) as f64) < share * (1u64 << 53) as f64
}

/// The bytes that tensors hold, about.
fn size<'a>(tensors: impl Iterator<Item = &'a (String, Tensor)>) -> usize {
    let size = |(name, tensor): &(String, Tensor)| {
        let content = match tensor.strings() {
            Some(strings) => strings.iter().map(|string| string.len() + size_of::<String>()).sum(),
            None => tensor.bytes().len(),
        };
        name.len() + content
    };
    tensors.map(size).sum()
}

/// Bytes that nobody outside of the process can guess: the standard library keys its hashes with what the system calls random.
fn random_bytes() -> [u8; 16] {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let half = || {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
        hasher.finish().to_le_bytes()
    };
    let mut bytes = [0; 16];
    for part in bytes.chunks_exact_mut(8) {
        part.copy_from_slice(&half());
    }
    bytes
}

/// An id that no other request has.
pub(crate) fn new_id() -> String {
    random_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
