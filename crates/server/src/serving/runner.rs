//! `Runner`: an ONNX model on its devices: the queue that requests wait in, and the threads that run them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sardonyx::{Model, SessionOptions};
use tokio::sync::{oneshot, watch};

use super::check::Fit;
use super::devices::{Devices, Restores};
use super::instance::{self, Instance};
use super::place::{Computes, Place};
use super::queue::{Queue, Refused};
use super::sequences::Sequences;
use super::statistics::Statistics;
use super::{DEFAULT_QUEUE_SIZE, Unanswered, warmup};
use crate::config::parameters::DEVICE_MEMORY_LIMIT;
use crate::config::{Batching, Config, InstanceGroup, Placement, Scheduling};
use crate::{Failure, Reason, Request, Response};

#[derive(Debug)]
pub(super) struct Runner {
    queue: Arc<Queue>,
    places: Vec<Arc<dyn Computes>>,
    instances: Vec<Arc<Instance>>,
    statistics: Arc<Statistics>,
    /// The number of threads that still run.
    running: watch::Receiver<usize>,
}

impl Runner {
    /// Makes `model` ready on the devices that its configuration names, and runs its warm-ups. Blocks.
    pub(super) fn start(
        devices: &Devices,
        config: &Arc<Config>,
        (version, model): (u64, &Model),
        sequences: Option<&Sequences>,
        statistics: &Arc<Statistics>,
    ) -> Result<Runner, Failure> {
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
        let queue = Arc::new(Queue::new(batching.clone(), max_batch, DEFAULT_QUEUE_SIZE, statistics.clone()));
        let places = places(devices, config, model)?;
        for (place, _) in &places {
            warmup::run(config, sequences, place.as_ref())?;
            within_limit(config, place.memory())?;
            place.warmed();
            within_device(config, place)?;
        }
        let (count, running) = watch::channel(0);
        let count = Arc::new(count);
        let order = Arc::new(instance::Order::default());
        let mut instances = Vec::new();
        for (place, number) in &places {
            for _ in 0..*number {
                let instance = Arc::new(Instance {
                    config: config.clone(),
                    version,
                    batching: batching.clone(),
                    queue: queue.clone(),
                    place: place.clone(),
                    statistics: statistics.clone(),
                    order: batching.keep_order.then(|| order.clone()),
                    busy_since: Mutex::default(),
                });
                if let Err(error) = instance::start(&instance, &count) {
                    queue.close();
                    let text = format!("model '{}': no thread for an instance: {error}", config.name);
                    return Err(Failure::new(Reason::Unavailable, text));
                }
                instances.push(instance);
            }
        }
        let places = places.into_iter().map(|(place, _)| place as Arc<dyn Computes>).collect();
        Ok(Runner { queue, places, instances, statistics: statistics.clone(), running })
    }

    /// Lets the request wait for its run. The response has all outputs of the ONNX file.
    pub(super) async fn run(&self, request: Request, fit: Fit) -> Result<Response, Unanswered> {
        let (answer, answered) = oneshot::channel();
        match self.queue.push(request, fit, answer) {
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
        Ok(answered.await.map_err(|_| lost())??)
    }

    /// How long a new request will wait, as far as the last runs tell.
    pub(super) fn expected_wait(&self, max_batch: usize) -> Duration {
        let runs = self.queue.rows() / max_batch.max(1) / self.instances.len().max(1);
        self.statistics.average_run().saturating_mul(u32::try_from(runs).unwrap_or(u32::MAX))
    }

    /// The number of requests that wait.
    pub(super) fn pending(&self) -> usize {
        self.queue.len()
    }

    /// The bytes that the model takes on its devices.
    pub(super) fn memory(&self) -> u64 {
        self.places.iter().map(|place| place.memory()).sum()
    }

    /// The time that devices have spent on the model; `None` where none has timestamps.
    pub(super) fn device_time(&self) -> Option<Duration> {
        self.places.iter().filter_map(|place| place.device_time()).reduce(|sum, time| sum + time)
    }

    /// How long the longest of the runs in flight has taken up to now.
    pub(super) fn longest_run(&self) -> Duration {
        self.instances.iter().filter_map(|instance| instance.busy_for()).max().unwrap_or_default()
    }

    /// Takes no requests any more. Those that wait are run.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// Waits until the threads have ended after all that waited was run.
    pub(super) async fn drained(&self) {
        let mut running = self.running.clone();
        // An error says that the last thread has dropped its end.
        let _ = running.wait_for(|&count| count == 0).await;
    }

    /// Gives back what the model has on its devices, once it is drained. Blocks.
    pub(super) fn end(&self) {
        self.places.iter().for_each(|place| place.end());
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Compares the bytes that the model takes on a device after its warm-ups with the limit of its configuration.
fn within_limit(config: &Config, bytes: u64) -> Result<(), Failure> {
    match config.device_memory_limit {
        Some(limit) if bytes > limit => {
            let text = format!(
                "model '{}': it takes {bytes} bytes on its device, and the parameter {DEVICE_MEMORY_LIMIT} allows {limit}; raise the \
                 limit, or lower max_batch_size",
                config.name
            );
            Err(Failure::new(Reason::Invalid, text))
        }
        _ => Ok(()),
    }
}

/// Compares the bytes that all models on a device have taken, this one included, with the limit of the device.
fn within_device(config: &Config, place: &Place) -> Result<(), Failure> {
    let (peak, all) = (place.peak(), place.slot.peaks());
    match place.slot.memory_limit() {
        Some(limit) if all > limit => {
            let text = format!(
                "model '{}': it takes {peak} bytes of device memory beside {} that the others take, and the server's limit is {limit}; \
                 unload a model, lower max_batch_size, or raise --device-memory-bytes",
                config.name,
                all.saturating_sub(peak)
            );
            Err(Failure::new(Reason::Unavailable, text))
        }
        _ => Ok(()),
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
