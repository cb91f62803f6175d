//! `Served`: one version of a model that answers requests. A request is checked, waits in a queue, is run as a part of a batch by
//! a thread of the version, and gets its part of the outputs.

mod batch;
mod check;
mod devices;
mod instance;
mod place;
mod queue;
mod statistics;
#[cfg(test)]
mod tests;
mod warmup;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sardonyx::{Model, SessionOptions, Tensor};
use tokio::sync::{oneshot, watch};

pub use devices::{Devices, Slot, Turn};
pub use statistics::{Histogram, Parts, Shed, Statistics, Tally};

use crate::classification::classes;
use crate::config::{Batching, Config, InstanceGroup, Placement, Scheduling};
use crate::{Failure, Reason, Request, Response};
use instance::Instance;
use place::{Computes, Place};
use queue::{Queue, Refused};

/// The number of requests that wait for a version at most, where its configuration says none.
pub const DEFAULT_QUEUE_SIZE: usize = 1024;

/// One version of a model that answers requests.
#[derive(Debug)]
pub struct Served {
    config: Arc<Config>,
    version: u64,
    queue: Arc<Queue>,
    places: Vec<Arc<dyn Computes>>,
    instances: Vec<Arc<Instance>>,
    statistics: Arc<Statistics>,
    /// The number of threads that still run.
    running: watch::Receiver<usize>,
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

impl Served {
    /// Makes `model` ready on the devices that its configuration names, and runs its warm-ups. Blocks.
    ///
    /// # Errors
    /// What the model or its warm-ups fail with; nothing of them stays.
    pub fn load(
        devices: &Arc<Devices>,
        config: Arc<Config>,
        version: u64,
        model: Model,
    ) -> Result<Arc<Served>, Failure> {
        let start = Instant::now();
        let batching = match &config.scheduling {
            Scheduling::Batched(batching) => batching.clone(),
            Scheduling::Sequences(sequencing) => sequencing.batching.clone(),
            Scheduling::Single(policy) => Batching { policy: policy.clone(), ..Batching::default() },
            Scheduling::Ensemble(_) => {
                return Err(Failure::new(Reason::Internal, "an ensemble has no model of its own"));
            }
        };
        let max_batch = match config.scheduling {
            Scheduling::Single(_) => 0,
            _ => config.max_batch,
        };
        let statistics = Arc::new(Statistics::default());
        let queue = Arc::new(Queue::new(batching.clone(), max_batch, DEFAULT_QUEUE_SIZE, statistics.clone()));
        let places = places(devices, &config, &model)?;
        for (place, _) in &places {
            warmup::run(&config, place.as_ref())?;
        }
        let (count, running) = watch::channel(0);
        let count = Arc::new(count);
        let order = Arc::new(instance::Order::default());
        let mut instances = Vec::new();
        for (place, number) in &places {
            for _ in 0..*number {
                let instance = Arc::new(Instance::new(
                    config.clone(),
                    version,
                    batching.clone(),
                    queue.clone(),
                    place.clone(),
                    statistics.clone(),
                    batching.keep_order.then(|| order.clone()),
                ));
                if let Err(error) = instance::start(&instance, &count) {
                    queue.close();
                    let text = format!("model '{}': no thread for an instance: {error}", config.name);
                    return Err(Failure::new(Reason::Unavailable, text));
                }
                instances.push(instance);
            }
        }
        statistics.loaded_in(start.elapsed());
        let places = places.into_iter().map(|(place, _)| place as Arc<dyn Computes>).collect();
        Ok(Arc::new(Served { config, version, queue, places, instances, statistics, running }))
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

    /// The number of requests that wait.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// The bytes that the version takes on its devices.
    pub fn memory(&self) -> u64 {
        self.places.iter().map(|place| place.memory()).sum()
    }

    /// How long the longest of the runs in flight has taken up to now.
    pub fn longest_run(&self) -> Duration {
        self.instances.iter().filter_map(|instance| instance.busy_for()).max().unwrap_or_default()
    }

    /// Answers a request. If the future is dropped before its turn, the request is never run.
    ///
    /// # Errors
    /// [`Unanswered::Closed`] if the version takes no requests any more.
    pub async fn infer(&self, request: Request) -> Result<Response, Unanswered> {
        let arrived = Instant::now();
        let outcome = self.answer(request).await;
        let took = arrived.elapsed();
        match &outcome {
            Ok(_) => {
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
        let fit = checked.inspect_err(|failure| {
            if failure.reason != Reason::Expired {
                self.statistics.refused.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        let wanted = request.outputs.clone();
        let (answer, answered) = oneshot::channel();
        match self.queue.push(request, fit.rows, fit.key, answer) {
            Ok(()) => {}
            Err(Refused::Closed(request)) => return Err(Unanswered::Closed(request)),
            Err(Refused::Shed(why, failure)) => {
                self.statistics.shed(why);
                return Err(failure.into());
            }
        }
        let lost = || {
            Failure::new(
                Reason::Internal,
                "the run of the request ended without an answer; see the server's log",
            )
        };
        let mut response = answered.await.map_err(|_| lost())??;
        if !wanted.is_empty() {
            let mut outputs = Vec::with_capacity(wanted.len());
            for wanted in wanted {
                let Some((_, tensor)) = response.outputs.iter().find(|(name, _)| *name == wanted.name) else {
                    continue;
                };
                let tensor = match wanted.classes {
                    0 => tensor.clone(),
                    count => self.classified(&wanted.name, tensor, count)?,
                };
                outputs.push((wanted.name, tensor));
            }
            response.outputs = outputs;
        }
        Ok(response)
    }

    /// Refuses a request whose deadline will have passed before its turn, as far as the last runs tell.
    fn admit(&self, request: &Request) -> Result<(), Failure> {
        let Some(deadline) = request.deadline else { return Ok(()) };
        let runs = self.queue.rows() / self.config.max_batch.max(1) / self.instances.len().max(1);
        let wait = self.statistics.average_run().saturating_mul(u32::try_from(runs).unwrap_or(u32::MAX));
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
        self.queue.close();
    }

    /// Waits until a closed version has answered all that waited.
    pub async fn drained(&self) {
        let mut running = self.running.clone();
        // An error says that the last thread has dropped its end.
        let _ = running.wait_for(|&count| count == 0).await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Where the model runs, and with how many runs in flight: one place for each device.
fn places(devices: &Devices, config: &Config, model: &Model) -> Result<Vec<(Arc<Place>, usize)>, Failure> {
    let mut places: Vec<(Arc<Place>, usize)> = Vec::new();
    for InstanceGroup { count, place } in &config.instances {
        let slots = match place {
            Placement::Reference => vec![devices.reference().clone()],
            Placement::Any => vec![devices.slots().first().unwrap_or(devices.reference()).clone()],
            Placement::Devices(numbers) if numbers.is_empty() => devices.slots().to_vec(),
            Placement::Devices(numbers) => {
                let slot = |&number: &usize| devices.slots().get(number).cloned().ok_or(number);
                numbers.iter().map(slot).collect::<Result<_, _>>().map_err(|number| {
                    let text = format!(
                        "model '{}': instance_group names device {number}, and the server has {} devices",
                        config.name,
                        devices.slots().len()
                    );
                    Failure::new(Reason::Invalid, text)
                })?
            }
        };
        for slot in slots {
            match places.iter_mut().find(|(place, _)| Arc::ptr_eq(&place.slot, &slot)) {
                Some((_, number)) => *number += count,
                None => {
                    let place = Place::new(slot, model.clone(), SessionOptions::new());
                    places.push((Arc::new(place), *count));
                }
            }
        }
    }
    Ok(places)
}
