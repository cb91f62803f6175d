//! `Statistics`: what one version of a model has done. Counters are atomic: a request waits for no lock but that of the table of
//! batch sizes, once a batch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::proto;

/// Why a request was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The queue was full.
    QueueFull,
    /// It waited longer than the model's policy allows.
    Timeout,
    /// Its deadline passed, or would have passed before its turn.
    Deadline,
    /// The caller had gone before its turn.
    Cancelled,
    /// The caller has gone while the request was run.
    Abandoned,
}

impl Shed {
    /// All reasons, with the names that metrics give them.
    pub const ALL: [(Shed, &'static str); 5] = [
        (Shed::QueueFull, "queue_full"),
        (Shed::Timeout, "timeout"),
        (Shed::Deadline, "deadline"),
        (Shed::Cancelled, "cancelled"),
        (Shed::Abandoned, "abandoned"),
    ];
}

/// How many times something has happened, and how long it took in all.
#[derive(Debug, Default)]
pub struct Tally {
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Tally {
    /// Adds one event.
    pub fn add(&self, duration: Duration) {
        self.add_times(1, duration);
    }

    /// Adds several events that took `duration` each.
    pub fn add_times(&self, count: u64, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(count, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds.saturating_mul(count), Ordering::Relaxed);
    }

    /// How many times.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How long in all, in nanoseconds.
    pub fn nanoseconds(&self) -> u64 {
        self.nanoseconds.load(Ordering::Relaxed)
    }

    fn shown(&self) -> Option<proto::StatisticDuration> {
        Some(proto::StatisticDuration { count: self.count(), ns: self.nanoseconds() })
    }
}

/// A histogram with fixed bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last counts what is above all of them.
    counts: Vec<AtomicU64>,
    /// In millionths.
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Histogram {
        Histogram {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts `value`.
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    /// The upper bound of each bucket and the number of values up to it; the last bound is infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(&self.counts).scan(0, |sum, (bound, count)| {
            *sum += count.load(Ordering::Relaxed);
            Some((bound, *sum))
        })
    }

    /// The sum of all values.
    pub fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / 1e6
    }
}

/// Bounds of durations in seconds: 100 microseconds to 60 seconds, about 2.2 times from one to the next.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// Bounds of numbers of rows.
const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// How long the parts of a run took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    /// Joining the inputs of a batch.
    pub input: Duration,
    /// The run itself, with the copies to and from the device.
    pub infer: Duration,
    /// Separating the outputs.
    pub output: Duration,
}

#[derive(Debug, Default)]
struct BatchTally {
    input: Tally,
    infer: Tally,
    output: Tally,
}

/// What one version of a model has done since it was loaded.
#[derive(Debug)]
pub struct Statistics {
    /// Requests that were answered, from their arrival to their answer.
    pub success: Tally,
    /// Requests that were not.
    pub fail: Tally,
    /// Waiting, of requests that were run.
    pub queue: Tally,
    /// [`Parts::input`] of each request that was run.
    pub input: Tally,
    /// [`Parts::infer`] of each.
    pub infer: Tally,
    /// [`Parts::output`] of each.
    pub output: Tally,
    /// Answers from the cache, and questions that it could not answer.
    pub cache_hit: Tally,
    /// Questions that the cache could not answer, with the time to ask it and to keep the answer.
    pub cache_miss: Tally,
    /// Requests that a device has failed to compute.
    pub failed_runs: AtomicU64,
    /// Requests that were refused for other reasons than those of [`Shed`].
    pub refused: AtomicU64,
    /// From a request's arrival to its answer, in seconds.
    pub request_seconds: Histogram,
    /// Waiting, in seconds.
    pub queue_seconds: Histogram,
    /// A run, in seconds.
    pub compute_seconds: Histogram,
    /// Rows of a batch.
    pub batch_rows: Histogram,
    /// Seconds to load the model, in millionths.
    load_micros: AtomicU64,
    /// Bytes of inputs and outputs that runs have copied between the host and devices.
    copied: AtomicU64,
    rows: AtomicU64,
    runs: AtomicU64,
    shed: [AtomicU64; Shed::ALL.len()],
    /// Milliseconds since 1970.
    last: AtomicU64,
    /// The average time of a run, in nanoseconds, in which each new run counts an eighth.
    average_run: AtomicU64,
    batches: Mutex<BTreeMap<usize, BatchTally>>,
}

impl Default for Statistics {
    fn default() -> Statistics {
        Statistics {
            success: Tally::default(),
            fail: Tally::default(),
            queue: Tally::default(),
            input: Tally::default(),
            infer: Tally::default(),
            output: Tally::default(),
            cache_hit: Tally::default(),
            cache_miss: Tally::default(),
            failed_runs: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            request_seconds: Histogram::new(SECONDS),
            queue_seconds: Histogram::new(SECONDS),
            compute_seconds: Histogram::new(SECONDS),
            batch_rows: Histogram::new(ROWS),
            load_micros: AtomicU64::new(0),
            copied: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            runs: AtomicU64::new(0),
            shed: Default::default(),
            last: AtomicU64::new(0),
            average_run: AtomicU64::new(0),
            batches: Mutex::default(),
        }
    }
}

impl Statistics {
    /// Counts a batch of requests of which the oldest waits no longer.
    pub(super) fn ran(&self, requests: usize, rows: usize, parts: Parts) {
        let requests = requests as u64;
        self.input.add_times(requests, parts.input);
        self.infer.add_times(requests, parts.infer);
        self.output.add_times(requests, parts.output);
        self.compute_seconds.observe(parts.infer.as_secs_f64());
        self.batch_rows.observe(rows as f64);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.runs.fetch_add(1, Ordering::Relaxed);
        let run = u64::try_from(parts.infer.as_nanos()).unwrap_or(u64::MAX);
        let average = self.average_run.load(Ordering::Relaxed);
        let average = if average == 0 { run } else { average - average / 8 + run / 8 };
        self.average_run.store(average, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = batches.entry(rows).or_default();
        batch.input.add(parts.input);
        batch.infer.add(parts.infer);
        batch.output.add(parts.output);
    }

    /// Counts a request that was given up.
    pub(super) fn shed(&self, why: Shed) {
        self.shed[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were given up for this reason.
    pub fn shed_count(&self, why: Shed) -> u64 {
        self.shed[why as usize].load(Ordering::Relaxed)
    }

    /// The rows that were computed: each row of a batch counts.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Counts bytes of inputs and outputs that a run has copied between the host and a device.
    pub(super) fn copied(&self, bytes: u64) {
        self.copied.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of inputs and outputs that runs have copied between the host and devices.
    pub fn copied_bytes(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    /// The number of runs.
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// The average time of the last runs; zero before the first.
    pub fn average_run(&self) -> Duration {
        Duration::from_nanos(self.average_run.load(Ordering::Relaxed))
    }

    /// Notes how long it took to load the model.
    pub(super) fn loaded_in(&self, duration: Duration) {
        self.load_micros.store(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long it took to load the model, with its first runs.
    pub fn load_time(&self) -> Duration {
        Duration::from_micros(self.load_micros.load(Ordering::Relaxed))
    }

    /// In the form of Triton's statistics extension.
    pub fn shown(&self, model: &str, version: u64) -> proto::ModelStatistics {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = |(&rows, tally): (&usize, &BatchTally)| proto::InferBatchStatistics {
            batch_size: rows as u64,
            compute_input: tally.input.shown(),
            compute_infer: tally.infer.shown(),
            compute_output: tally.output.shown(),
        };
        proto::ModelStatistics {
            name: model.to_string(),
            version: version.to_string(),
            last_inference: self.last.load(Ordering::Relaxed),
            inference_count: self.rows(),
            execution_count: self.runs(),
            inference_stats: Some(proto::InferStatistics {
                success: self.success.shown(),
                fail: self.fail.shown(),
                queue: self.queue.shown(),
                compute_input: self.input.shown(),
                compute_infer: self.infer.shown(),
                compute_output: self.output.shown(),
                cache_hit: self.cache_hit.shown(),
                cache_miss: self.cache_miss.shown(),
            }),
            batch_stats: batches.iter().map(batch).collect(),
            memory_usage: Vec::new(),
            response_stats: Default::default(),
        }
    }
}
