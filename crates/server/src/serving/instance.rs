//! `Instance`: a thread that takes batches of a version from its queue and runs them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sardonyx::Tensor;
use tokio::sync::watch;

use super::batch::join;
use super::held::Value;
use super::lengths::{cut, padded};
use super::place::{Computes, Unrun};
use super::queue::{Batch, Queue, Waiting};
use super::statistics::{Parts, Shed, Statistics};
use crate::config::{Batching, Config, Lengths};
use crate::{Failure, Request, Response};

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) config: Arc<Config>,
    pub(super) version: u64,
    pub(super) batching: Batching,
    pub(super) queue: Arc<Queue>,
    pub(super) place: Arc<dyn Computes>,
    pub(super) statistics: Arc<Statistics>,
    /// `Some` where answers leave in the order of the batches.
    pub(super) order: Option<Arc<Order>>,
    /// Since when a run is in flight, if one is.
    pub(super) busy_since: Mutex<Option<Instant>>,
}

/// Whose turn it is to answer, among the instances of one version.
#[derive(Debug, Default)]
pub(super) struct Order {
    next: Mutex<u64>,
    moved: Condvar,
}

/// Starts the instance's thread, which ends once the queue is closed and empty. `running` counts the threads.
pub(super) fn start(instance: &Arc<Instance>, running: &Arc<watch::Sender<usize>>) -> std::io::Result<()> {
    let (instance, running) = (instance.clone(), running.clone());
    running.send_modify(|count| *count += 1);
    let counted = Counted(running);
    let name = format!("run {}", instance.config.name);
    std::thread::Builder::new().name(name).spawn(move || {
        let _counted = counted;
        // Dropped before the thread counts as ended: it may hold the last of a session.
        let instance = instance;
        while let Some(batch) = instance.queue.take() {
            instance.serve(batch);
        }
    })?;
    Ok(())
}

/// One of the threads that are counted, until it is dropped.
struct Counted(Arc<watch::Sender<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Instance {
    /// How long the run in flight has taken up to now.
    pub(super) fn busy_for(&self) -> Option<Duration> {
        self.busy_since.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }

    fn serve(&self, batch: Batch) {
        let now = Instant::now();
        for waiting in &batch.requests {
            let waited = now.saturating_duration_since(waiting.arrived);
            self.statistics.queue.add(waited);
            self.statistics.queue_seconds.observe(waited.as_secs_f64());
        }
        *self.busy_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        let answers = self.run(&batch.requests);
        *self.busy_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(order) = &self.order {
            order.wait_for(batch.number);
        }
        for (waiting, answer) in batch.requests.into_iter().zip(answers) {
            let failed = answer.is_err();
            if waiting.answer.send(answer).is_err() {
                self.statistics.shed(Shed::Abandoned);
            } else if failed {
                self.statistics.failed_runs.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(order) = &self.order {
            order.advance();
        }
    }

    /// The answer of each request. If a batch fails, its halves are run by themselves: they may fit the device's memory, and one
    /// request that cannot be computed does not take the others with it.
    fn run(&self, requests: &[Waiting]) -> Vec<Result<Response, Failure>> {
        match self.run_together(requests) {
            Ok(responses) => responses.into_iter().map(Ok).collect(),
            Err(unrun) if requests.len() > 1 && unrun.divisible => {
                let (first, second) = requests.split_at(requests.len() / 2);
                [self.run(first), self.run(second)].concat()
            }
            Err(unrun) => requests.iter().map(|_| Err(unrun.failure.clone())).collect(),
        }
    }

    fn run_together(&self, requests: &[Waiting]) -> Result<Vec<Response>, Unrun> {
        let start = Instant::now();
        let rows: Vec<_> = requests.iter().map(|waiting| waiting.rows).collect();
        let sum = rows.iter().sum();
        let padding = if requests[0].key.is_some() { self.padding(sum) } else { 0 };
        let bucket = self.bucket(requests);
        let given = requests.iter().map(|waiting| inputs_of(&waiting.request, bucket));
        let inputs = join(given.collect::<Result<_, _>>()?, padding)?;
        let joined = Instant::now();
        let keep = if bucket.is_none() { kept_by_all(requests) } else { Vec::new() };
        let outputs = self.place.run(&inputs, &keep)?;
        let ran = Instant::now();
        self.statistics.copied(inputs.iter().chain(&outputs).map(|(_, value)| value.bytes_on_host()).sum());
        let mut responses: Vec<_> = requests.iter().map(|waiting| self.response(waiting)).collect();
        for (name, output) in outputs {
            let parts = match requests.len() == 1 && padding == 0 {
                true => vec![output],
                false => output.separated(&rows).map_err(|unrun| Unrun {
                    failure: self.of_output(&name, unrun.failure),
                    divisible: unrun.divisible,
                })?,
            };
            let axis = bucket.and_then(|(lengths, to)| Some((*lengths.outputs.get(&name)? + 1, to)));
            for ((response, part), waiting) in responses.iter_mut().zip(parts).zip(requests) {
                match (part, axis) {
                    (Value::Held(held), _) => response.held.push((name.clone(), held)),
                    (Value::Host(part), None) => response.outputs.push((name.clone(), part)),
                    (Value::Host(part), Some((axis, from))) => {
                        let part = cut(&part, axis, from, waiting.length)
                            .map_err(|failure| self.of_output(&name, failure))?;
                        response.outputs.push((name.clone(), part));
                    }
                }
            }
        }
        let ended = Instant::now();
        let parts = Parts { input: joined - start, infer: ran - joined, output: ended - ran };
        self.statistics.ran(requests.len(), sum, parts);
        for waiting in requests {
            if let Some(exchange) = &waiting.exchange {
                exchange.ran(&self.config.name, sum, [waiting.arrived, start, joined, ran, ended]);
            }
        }
        Ok(responses)
    }

    /// The length to which requests of different lengths are padded; `None` for those of one length.
    fn bucket(&self, requests: &[Waiting]) -> Option<(&Lengths, usize)> {
        let lengths = self.config.lengths.as_ref()?;
        let (first, rest) = requests.split_first()?;
        let differ = rest.iter().any(|waiting| waiting.length != first.length);
        Some((lengths, lengths.bucket(first.length).filter(|_| differ)?))
    }

    fn response(&self, waiting: &Waiting) -> Response {
        Response {
            model: self.config.name.clone(),
            version: self.version.to_string(),
            id: waiting.request.id.clone(),
            ..Response::default()
        }
    }

    fn of_output(&self, name: &str, failure: Failure) -> Failure {
        let text = format!("model '{}', output '{name}': {}", self.config.name, failure.text);
        Failure { text, ..failure }
    }

    /// The rows of zeros that make a batch as large as the next preferred size.
    fn padding(&self, rows: usize) -> usize {
        if !self.batching.pad {
            return 0;
        }
        let sizes = self.batching.preferred.iter().chain([&self.config.max_batch]);
        sizes.filter(|&&size| size >= rows).min().map_or(0, |size| size - rows)
    }
}

/// The inputs of a request, padded to the length of a bucket.
fn inputs_of(request: &Request, bucket: Option<(&Lengths, usize)>) -> Result<Vec<(String, Value)>, Unrun> {
    let on_host = |(name, tensor): (String, Tensor)| (name, Value::Host(tensor));
    let Some((lengths, to)) = bucket else {
        let held = request.held.iter().map(|(name, held)| (name.clone(), Value::Held(held.clone())));
        return Ok(request.inputs.iter().cloned().map(on_host).chain(held).collect());
    };
    let mut inputs = request.inputs.clone();
    for (name, held) in &request.held {
        inputs.push((name.clone(), held.fetch()?));
    }
    Ok(padded(lengths, &inputs, to)?.into_iter().map(on_host).collect())
}

/// The outputs that all requests want to stay on the device.
fn kept_by_all(requests: &[Waiting]) -> Vec<String> {
    let Some((first, rest)) = requests.split_first() else { return Vec::new() };
    let by_rest = |name: &&String| rest.iter().all(|waiting| waiting.request.keep.contains(*name));
    first.request.keep.iter().filter(by_rest).cloned().collect()
}

impl Order {
    fn wait_for(&self, number: u64) {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.moved.wait_while(next, |next| *next != number).unwrap_or_else(PoisonError::into_inner));
    }

    fn advance(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.moved.notify_all();
    }
}
