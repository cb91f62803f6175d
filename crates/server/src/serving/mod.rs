//! `Served`: one version of a model that answers requests. A request is checked, waits in a queue, is run as a part of a batch by
//! a thread of the version, and gets its part of the outputs. An ensemble lets other models answer in place of that.

mod batch;
mod cache;
mod check;
mod devices;
mod ensemble;
mod held;
mod instance;
mod lengths;
mod place;
mod queue;
mod runner;
mod sequences;
mod statistics;
#[cfg(test)]
mod tests;
mod warmup;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use sardonyx::{DType, Model, Tensor};

pub use cache::Cache;
pub use devices::{Devices, Slot, Turn};
pub use held::Held;
pub use statistics::{Histogram, Parts, Shed, Statistics, Tally};

use crate::classification::classes;
use crate::config::{Config, Scheduling};
use crate::watching::Watched;
use crate::{Failure, Reason, Request, Response};
use ensemble::Ensemble;
use runner::Runner;
use sequences::Sequences;

/// The number of requests that wait for a version at most, where its configuration says none.
pub const DEFAULT_QUEUE_SIZE: usize = 1024;

/// One version of a model that answers requests.
#[derive(Debug)]
pub struct Served {
    config: Arc<Config>,
    version: u64,
    statistics: Arc<Statistics>,
    /// The number of this version among all that were loaded.
    number: u64,
    /// Where answers are kept.
    cache: Option<Arc<Cache>>,
    work: Work,
    watched: OnceLock<Watched>,
}

/// What computes the answers.
#[derive(Debug)]
enum Work {
    Model(Runner),
    /// A model that keeps state from one request of a sequence to the next.
    Sequences(Runner, Arc<Sequences>),
    Ensemble(Ensemble),
}

/// The models that an ensemble may run.
pub trait Models: std::fmt::Debug + Send + Sync {
    /// The version that answers a request now: that of the number or the label `version`, or the latest, if it is empty.
    ///
    /// # Errors
    /// If there is none.
    fn find(&self, name: &str, version: &str) -> Result<Arc<Served>, Failure>;
}

/// What becomes of a request that a version cannot take.
#[derive(Debug)]
pub enum Unanswered {
    /// The version is closed; another may answer the request.
    Closed(Box<Request>),
    /// There is no answer.
    Failed(Failure),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Unanswered {
        Unanswered::Failed(failure)
    }
}

/// Lets the model that a request names answer it. If the future is dropped before the request's turn, it is never run.
///
/// # Errors
/// Why there is no answer.
async fn infer(models: &dyn Models, mut request: Request) -> Result<Response, Failure> {
    loop {
        let served = models.find(&request.model, &request.version)?;
        match served.infer(request).await {
            Ok(response) => return Ok(response),
            Err(Unanswered::Failed(failure)) => return Err(failure),
            // The model was loaded anew meanwhile.
            Err(Unanswered::Closed(unanswered)) => request = *unanswered,
        }
        tokio::task::yield_now().await;
    }
}

/// The strings of a request that are freed on the reactor.
const FEW_STRINGS: usize = 10_000;

/// Frees a request that is not run. A million strings take tens of milliseconds.
fn free(request: Request) {
    let is_large = |tensor: &Tensor| tensor.dtype() == DType::String && tensor.len() > FEW_STRINGS;
    if request.inputs.iter().any(|(_, tensor)| is_large(tensor)) {
        drop(tokio::task::spawn_blocking(move || drop(request)));
    }
}

/// A caller that waits for an ensemble: one that is dropped has gone.
struct Waits<'a>(&'a Statistics);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.shed(Shed::Abandoned);
    }
}

impl Served {
    /// Makes `model` ready on the devices that its configuration names, and runs its warm-ups. Blocks.
    ///
    /// # Errors
    /// What the model or its warm-ups fail with; nothing of them stays.
    pub fn load(
        devices: &Devices,
        config: Arc<Config>,
        version: u64,
        model: &Model,
        cache: Option<&Arc<Cache>>,
    ) -> Result<Arc<Served>, Failure> {
        let start = Instant::now();
        let statistics = Arc::new(Statistics::default());
        let sequences = match &config.scheduling {
            Scheduling::Sequences(sequencing) => {
                Some(Sequences::new(&config, sequencing, model, statistics.clone())?)
            }
            _ => None,
        };
        let runner = Runner::start(devices, &config, (version, model), sequences.as_ref(), &statistics)?;
        let work = match sequences {
            Some(sequences) => Work::Sequences(runner, Arc::new(sequences)),
            None => Work::Model(runner),
        };
        statistics.loaded_in(start.elapsed());
        Ok(Served::new(config, version, statistics, cache, work))
    }

    fn new(
        config: Arc<Config>,
        version: u64,
        statistics: Arc<Statistics>,
        cache: Option<&Arc<Cache>>,
        work: Work,
    ) -> Arc<Served> {
        static LOADED: AtomicU64 = AtomicU64::new(0);
        let cache = cache.filter(|_| config.response_cache).cloned();
        let number = LOADED.fetch_add(1, Ordering::Relaxed);
        Arc::new(Served { config, version, statistics, number, cache, work, watched: OnceLock::new() })
    }

    /// The ensemble that a configuration describes. Its models need not be there yet.
    ///
    /// # Errors
    /// If the configuration is none of an ensemble, or the ensemble would run itself.
    pub fn ensemble(
        models: Weak<dyn Models>,
        config: Arc<Config>,
        version: u64,
        cache: Option<&Arc<Cache>>,
    ) -> Result<Arc<Served>, Failure> {
        let Scheduling::Ensemble(steps) = &config.scheduling else {
            return Err(Failure::new(Reason::Internal, "a model is no ensemble"));
        };
        let work = Work::Ensemble(Ensemble::new(models, &config, steps.clone())?);
        Ok(Served::new(config, version, Arc::default(), cache, work))
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The version's number.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What the version has done.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Lets what is to be watched of the version be watched from now on.
    pub(crate) fn watch(&self, watched: Option<Watched>) {
        // Nobody else has had the version up to now.
        watched.into_iter().for_each(|watched| drop(self.watched.set(watched)));
    }

    /// What is watched of the version; `None` for nothing.
    pub fn watched(&self) -> Option<&Watched> {
        self.watched.get()
    }

    /// Whether clients can say what would have been right.
    pub fn keeps_predictions(&self) -> bool {
        self.watched().is_some_and(Watched::keeps_predictions)
    }

    /// Says why the version cannot answer now, as an ensemble whose models do not serve.
    ///
    /// # Errors
    /// [`Reason::Unavailable`] with the model that is missing.
    pub fn ready(&self) -> Result<(), Failure> {
        match &self.work {
            Work::Model(_) | Work::Sequences(..) => Ok(()),
            Work::Ensemble(ensemble) => ensemble.ready(),
        }
    }

    /// The number of requests that wait.
    pub fn pending(&self) -> usize {
        match &self.work {
            Work::Model(runner) => runner.pending(),
            Work::Sequences(runner, sequences) => runner.pending() + sequences.pending(),
            Work::Ensemble(_) => 0,
        }
    }

    /// The bytes that the version takes on its devices.
    pub fn memory(&self) -> u64 {
        match &self.work {
            Work::Model(runner) | Work::Sequences(runner, _) => runner.memory(),
            Work::Ensemble(_) => 0,
        }
    }

    /// Whether requests may give inputs that lie on a device, and leave outputs there: nothing but the model looks at them.
    fn takes_held(&self) -> bool {
        matches!(self.work, Work::Model(_)) && self.cache.is_none() && self.watched.get().is_none()
    }

    /// The time that devices have spent on the version, by their timestamps; `None` where none has such.
    pub fn device_time(&self) -> Option<Duration> {
        match &self.work {
            Work::Model(runner) | Work::Sequences(runner, _) => runner.device_time(),
            Work::Ensemble(_) => None,
        }
    }

    /// How long the longest of the runs in flight has taken up to now.
    pub fn longest_run(&self) -> Duration {
        match &self.work {
            Work::Model(runner) | Work::Sequences(runner, _) => runner.longest_run(),
            Work::Ensemble(_) => Duration::ZERO,
        }
    }

    /// Answers a request. If the future is dropped before its turn, the request is never run.
    ///
    /// # Errors
    /// [`Unanswered::Closed`] if the version takes no requests any more.
    pub async fn infer(&self, mut request: Request) -> Result<Response, Unanswered> {
        let arrived = Instant::now();
        let watched = self.watched.get().map(|watched| (watched, watched.meet(&mut request)));
        let outcome = self.answer(request).await;
        let took = arrived.elapsed();
        match &outcome {
            Ok(response) => {
                if let Some((watched, seen)) = watched {
                    watched.answered(seen, response);
                }
                self.statistics.success.add(took);
                self.statistics.request_seconds.observe(took.as_secs_f64());
            }
            Err(Unanswered::Failed(_)) => self.statistics.fail.add(took),
            Err(Unanswered::Closed(_)) => {}
        }
        outcome
    }

    async fn answer(&self, request: Request) -> Result<Response, Unanswered> {
        let checked =
            check::checked(&self.config, &request).and_then(|fit| self.admit(&request).map(|()| fit));
        let fit = match checked {
            Ok(fit) => fit,
            Err(failure) => {
                if failure.reason != Reason::Expired {
                    self.statistics.refused.fetch_add(1, Ordering::Relaxed);
                }
                free(request);
                return Err(failure.into());
            }
        };
        // The state of a sequence is no part of what is asked, nor do we look at what lies on a device.
        let is_whole = request.sequence.is_none() && request.held.is_empty() && request.keep.is_empty();
        let cache = self.cache.as_ref().filter(|_| is_whole);
        // Without one of its models, an ensemble has no answer that could be kept.
        let Some((cache, loads)) = cache.and_then(|cache| Some((cache, self.loads()?))) else {
            return self.compute(request, fit).await;
        };
        let (start, asked) = (Instant::now(), request.clone());
        // The digest of large inputs would hold up the reactor.
        let key = tokio::task::spawn_blocking(move || cache::key(&loads, &asked)).await;
        let key = key.map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        if let Some(outputs) = cache.get(&key) {
            self.statistics.cache_hit.add(start.elapsed());
            return Ok(self.response(request.id, outputs));
        }
        let asked = start.elapsed();
        let response = self.compute(request, fit).await?;
        let start = Instant::now();
        cache.put(key, response.outputs.clone());
        self.statistics.cache_miss.add(asked + start.elapsed());
        Ok(response)
    }

    /// The numbers of what answers now: of this version, and of those that an ensemble runs. An answer that is made after one of them
    /// was replaced may be kept under its number, for which nobody asks any more. `None` if a model is missing.
    fn loads(&self) -> Option<Vec<u64>> {
        let mut loads = vec![self.number];
        if let Work::Ensemble(ensemble) = &self.work {
            for served in ensemble.models_now().ok()? {
                loads.extend(served.loads()?);
            }
        }
        Some(loads)
    }

    async fn compute(&self, request: Request, fit: check::Fit) -> Result<Response, Unanswered> {
        let wanted = request.outputs.clone();
        let response = match &self.work {
            Work::Model(runner) => runner.run(request, fit).await?,
            Work::Sequences(runner, sequences) => sequences.run(runner, request, fit).await?,
            Work::Ensemble(ensemble) => self.answer_by(ensemble, request, fit.rows).await?,
        };
        Ok(self.with_outputs(response, &wanted)?)
    }

    async fn answer_by(
        &self,
        ensemble: &Ensemble,
        request: Request,
        rows: usize,
    ) -> Result<Response, Unanswered> {
        let (start, id) = (Instant::now(), request.id.clone());
        let waits = Waits(&self.statistics);
        let made = ensemble.run(request).await;
        std::mem::forget(waits);
        let checked = made.and_then(|outputs| Ok(check::made(&self.config, &outputs).map(|()| outputs)?));
        let outputs = checked.inspect_err(|unanswered| {
            if matches!(unanswered, Unanswered::Failed(_)) {
                self.statistics.failed_runs.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        self.statistics.ran(1, rows, Parts { infer: start.elapsed(), ..Parts::default() });
        Ok(self.response(id, outputs))
    }

    fn response(&self, id: String, outputs: Vec<(String, Tensor)>) -> Response {
        Response {
            model: self.config.name.clone(),
            version: self.version.to_string(),
            id,
            outputs,
            ..Response::default()
        }
    }

    /// The response with the outputs that are wanted, or with those of the configuration.
    fn with_outputs(
        &self,
        mut response: Response,
        wanted: &[crate::WantedOutput],
    ) -> Result<Response, Failure> {
        let all = self.config.outputs.iter().map(|port| (port.name.as_str(), 0));
        let wanted: Vec<(&str, usize)> = match wanted {
            [] => all.collect(),
            wanted => wanted.iter().map(|wanted| (wanted.name.as_str(), wanted.classes)).collect(),
        };
        let mut outputs = Vec::with_capacity(wanted.len());
        for (name, classes) in wanted {
            let Some((_, tensor)) = response.outputs.iter().find(|(of, _)| of == name) else {
                continue;
            };
            let tensor = match classes {
                0 => tensor.clone(),
                count => self.classified(name, tensor, count)?,
            };
            outputs.push((name.to_string(), tensor));
        }
        response.outputs = outputs;
        Ok(response)
    }

    /// Refuses a request whose deadline will have passed before its turn, as far as the last runs tell.
    fn admit(&self, request: &Request) -> Result<(), Failure> {
        let Some(deadline) = request.deadline else { return Ok(()) };
        let wait = match &self.work {
            Work::Model(runner) | Work::Sequences(runner, _) => runner.expected_wait(self.config.max_batch),
            Work::Ensemble(_) => Duration::ZERO,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if !left.is_zero() && wait <= left {
            return Ok(());
        }
        self.statistics.shed(Shed::Deadline);
        let text = match left.is_zero() {
            true => format!("model '{}': the request's deadline has passed", self.config.name),
            false => format!(
                "model '{}': the queue takes about {} ms, and the request's deadline is in {} ms; try again later",
                self.config.name,
                wait.as_millis(),
                left.as_millis()
            ),
        };
        Err(Failure { retry_after: Some(wait), ..Failure::new(Reason::Expired, text) })
    }

    fn classified(&self, output: &str, tensor: &Tensor, count: usize) -> Result<Tensor, Failure> {
        let port = self.config.outputs.iter().find(|port| port.name == output);
        let labels = port.map_or(&[][..], |port| &port.labels);
        classes(tensor, count, labels, self.config.max_batch > 0)
    }

    /// Takes no requests any more. Those that wait are answered.
    pub fn close(&self) {
        match &self.work {
            Work::Model(runner) => runner.close(),
            Work::Sequences(runner, sequences) => {
                sequences.close();
                runner.close();
            }
            Work::Ensemble(ensemble) => ensemble.close(),
        }
    }

    /// Waits until a closed version has answered all that waited.
    pub async fn drained(&self) {
        match &self.work {
            Work::Model(runner) | Work::Sequences(runner, _) => runner.drained().await,
            Work::Ensemble(ensemble) => ensemble.drained().await,
        }
    }

    /// Gives back what a drained version has on its devices, whoever still holds the version: the thread that puts models on a
    /// new device may, and so may what looks at statistics. Blocks.
    pub fn end(&self) {
        match &self.work {
            Work::Model(runner) => runner.end(),
            Work::Sequences(runner, sequences) => {
                sequences.end();
                runner.end();
            }
            Work::Ensemble(_) => {}
        }
    }
}
