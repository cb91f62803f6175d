//! `/metrics` for Prometheus: Triton's `nv_*` families, so that dashboards move over, and our own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
#[cfg(target_os = "linux")]
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as Shown, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

use crate::Service;
use crate::access::Access;
use crate::budget::Budget;
use crate::machine;
use crate::serving::{Histogram, Served, Shed, Statistics, Tally};

/// Serves `/metrics`, with what `access` and `budget` have refused.
pub fn router(service: &Arc<Service>, access: &Access, budget: &Budget) -> Router {
    let (service, access, budget) = (service.clone(), access.clone(), budget.clone());
    let text = move || {
        let mut text = exposition(&service);
        let memory = (String::new(), "memory", budget.refused());
        let refused =
            access.refused().into_iter().chain([memory]).map(|(key, reason, count)| {
                counter(vec![label("key", &key), label("reason", reason)], count)
            });
        let refused = family(
            "sardonyx_refused_total",
            "Number of requests that were refused for what their key may, or for the bytes that the server holds",
            MetricType::COUNTER,
            refused,
        );
        let held = family(
            "sardonyx_request_bytes",
            "Bytes of requests that the server holds",
            MetricType::GAUGE,
            [gauge(Vec::new(), budget.held() as f64)],
        );
        write(vec![refused, held], &mut text);
        async move {
            // A driver may take its time to answer.
            let machine = tokio::task::spawn_blocking(machine::families).await;
            write(machine.unwrap_or_default(), &mut text);
            ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text)
        }
    };
    Router::new().route("/metrics", get(text))
}

/// Microseconds in which kernels were compiled, for all devices of the process.
static COMPILED: AtomicU64 = AtomicU64::new(0);

/// Counts the time in which kernels were compiled. The library reports it as an event of `tracing` ("pipelines compiled", with
/// `milliseconds`), and a program that hears it passes it on.
pub fn compiled_in(time: Duration) {
    COMPILED.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// All metrics as text.
pub fn exposition(service: &Service) -> Vec<u8> {
    let mut text = Vec::new();
    write(families(service), &mut text);
    text
}

/// Appends the families that have metrics: the encoder ends at one that has none.
fn write(mut families: Vec<MetricFamily>, text: &mut Vec<u8>) {
    families.retain(|family| !family.get_metric().is_empty());
    if let Err(error) = TextEncoder::new().encode(&families, text) {
        tracing::error!(%error, "the metrics have no text");
    }
}

/// A value of each version that is served.
type OfVersion<T> = fn(&Served) -> T;

const COUNTERS: [(&str, &str, OfVersion<u64>); 13] = [
    (
        "sardonyx_copied_bytes_total",
        "Bytes of inputs and outputs that runs have copied between the host and devices",
        |served| served.statistics().copied_bytes(),
    ),
    ("nv_inference_request_success", "Number of requests that were answered", |served| {
        served.statistics().success.count()
    }),
    ("nv_inference_count", "Number of rows computed; a batch of 4 counts 4", |served| {
        served.statistics().rows()
    }),
    ("nv_inference_exec_count", "Number of runs; a batch counts once", |served| served.statistics().runs()),
    ("nv_inference_request_duration_us", "Microseconds from a request's arrival to its answer", |served| {
        micros(&served.statistics().success)
    }),
    ("nv_inference_queue_duration_us", "Microseconds that requests waited", |served| {
        micros(&served.statistics().queue)
    }),
    ("nv_inference_compute_input_duration_us", "Microseconds to join the inputs of requests", |served| {
        micros(&served.statistics().input)
    }),
    (
        "nv_inference_compute_infer_duration_us",
        "Microseconds of the runs of requests, with their copies",
        |served| micros(&served.statistics().infer),
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Microseconds to separate the outputs of requests",
        |served| micros(&served.statistics().output),
    ),
    ("nv_cache_num_hits_per_model", "Number of answers from the response cache", |served| {
        served.statistics().cache_hit.count()
    }),
    (
        "nv_cache_num_misses_per_model",
        "Number of questions that the response cache had no answer to",
        |served| served.statistics().cache_miss.count(),
    ),
    ("nv_cache_hit_duration_per_model", "Microseconds to find answers in the response cache", |served| {
        micros(&served.statistics().cache_hit)
    }),
    (
        "nv_cache_miss_duration_per_model",
        "Microseconds to ask the response cache in vain, and to keep the answers",
        |served| micros(&served.statistics().cache_miss),
    ),
];

const GAUGES: [(&str, &str, OfVersion<f64>); 3] = [
    ("nv_inference_pending_request_count", "Number of requests that wait", |served| served.pending() as f64),
    ("sardonyx_model_memory_bytes", "Bytes of device memory that a model takes", |served| {
        served.memory() as f64
    }),
    ("sardonyx_model_load_seconds", "Seconds to load a model, with its first runs", |served| {
        served.statistics().load_time().as_secs_f64()
    }),
];

/// A histogram of each version that is served.
type HistogramOf = fn(&Statistics) -> &Histogram;

const HISTOGRAMS: [(&str, &str, HistogramOf); 4] = [
    ("sardonyx_request_seconds", "From a request's arrival to its answer", |statistics| {
        &statistics.request_seconds
    }),
    ("sardonyx_queue_seconds", "Waiting of requests", |statistics| &statistics.queue_seconds),
    ("sardonyx_compute_seconds", "Runs, with their copies", |statistics| &statistics.compute_seconds),
    ("sardonyx_batch_rows", "Rows of batches", |statistics| &statistics.batch_rows),
];

/// What a device has done; it begins anew when a lost device is made anew.
type OfDevice = fn(&sardonyx::Counters) -> u64;

const OF_DEVICES: [(&str, &str, OfDevice); 4] = [
    ("sardonyx_pipelines_total", "Number of kernels that were compiled for a device", |done| done.pipelines),
    ("sardonyx_dispatches_total", "Number of kernels that were run on a device", |done| done.dispatches),
    ("sardonyx_submits_total", "Number of submissions to a device", |done| done.submits),
    ("sardonyx_weight_bytes_total", "Bytes of weights that were sent to a device", |done| done.weight_bytes),
];

fn families(service: &Service) -> Vec<MetricFamily> {
    let served = service.served();
    let mut families = Vec::new();
    for (name, help, value) in COUNTERS {
        let metrics = served.iter().map(|served| counter(labels(served), value(served)));
        families.push(family(name, help, MetricType::COUNTER, metrics));
    }
    families.push(family(
        "nv_inference_request_failure",
        "Number of requests that were not answered",
        MetricType::COUNTER,
        served.iter().flat_map(|served| failures(served)),
    ));
    families.push(family(
        "sardonyx_shed_total",
        "Number of requests that were given up before they were run, or, if abandoned, while they were",
        MetricType::COUNTER,
        served.iter().flat_map(|served| {
            let metric = |(shed, name)| {
                let labels = [labels(served), vec![label("reason", name)]].concat();
                counter(labels, served.statistics().shed_count(shed))
            };
            Shed::ALL.map(metric)
        }),
    ));
    for (name, help, value) in GAUGES {
        let metrics = served.iter().map(|served| gauge(labels(served), value(served)));
        families.push(family(name, help, MetricType::GAUGE, metrics));
    }
    families.push(family(
        "sardonyx_gpu_seconds_total",
        "Seconds that devices have spent on the runs of a model, by their timestamps",
        MetricType::COUNTER,
        served
            .iter()
            .filter_map(|served| Some(counter_of(labels(served), served.device_time()?.as_secs_f64()))),
    ));
    for (name, help, histogram) in HISTOGRAMS {
        let metrics = served.iter().map(|served| shown(labels(served), histogram(served.statistics())));
        families.push(family(name, help, MetricType::HISTOGRAM, metrics));
    }
    families.extend(crate::traffic::families(service.traffic(), &served));
    families.extend(crate::watching::families(service.watching(), &served));
    let devices = service.devices().slots().iter().enumerate();
    let device = |(i, name): (usize, &str)| vec![label("device", &i.to_string()), label("name", name)];
    families.push(family(
        "sardonyx_device_lost_total",
        "Number of times that a device was lost and made anew",
        MetricType::COUNTER,
        devices.clone().map(|(i, slot)| counter(device((i, slot.name())), slot.lost_count())),
    ));
    for (name, help, value) in OF_DEVICES {
        let metrics = devices.clone().filter_map(|(i, slot)| {
            Some(counter(device((i, slot.name())), value(&slot.device_now()?.counters())))
        });
        families.push(family(name, help, MetricType::COUNTER, metrics));
    }
    families.push(family(
        "sardonyx_compile_seconds_total",
        "Seconds in which kernels were compiled, for all devices",
        MetricType::COUNTER,
        [counter_of(Vec::new(), COMPILED.load(Ordering::Relaxed) as f64 / 1e6)],
    ));
    families.push(family(
        "sardonyx_device_memory_limit_bytes",
        "Bytes of device memory that all models together may take",
        MetricType::GAUGE,
        devices
            .clone()
            .filter_map(|(i, slot)| Some(gauge(device((i, slot.name())), slot.memory_limit()? as f64))),
    ));
    families.push(family(
        "sardonyx_device_memory_bytes",
        "Bytes of device memory in use",
        MetricType::GAUGE,
        devices.map(|(i, slot)| {
            let bytes = slot.device_now().map_or(0, |device| device.memory_bytes());
            gauge(device((i, slot.name())), bytes as f64)
        }),
    ));
    families.push(family(
        "sardonyx_build_info",
        "1, with the version",
        MetricType::GAUGE,
        [gauge(vec![label("version", env!("CARGO_PKG_VERSION"))], 1.0)],
    ));
    families.push(family(
        "sardonyx_access_log_dropped_total",
        "Number of lines that the access log has left out, since the disk did not keep up",
        MetricType::COUNTER,
        service.told().log.map(|log| counter(Vec::new(), log.dropped())),
    ));
    families.push(family(
        "sardonyx_traces_lost_total",
        "Number of recorded traces that nobody has taken",
        MetricType::COUNTER,
        service.told().traces.map(|traces| counter(Vec::new(), traces.dropped())),
    ));
    // CPU seconds, resident memory and open files of the process.
    #[cfg(target_os = "linux")]
    families.extend(prometheus::core::Collector::collect(&ProcessCollector::for_self()));
    families
}

/// Failures with Triton's reasons.
fn failures(served: &Served) -> [Metric; 4] {
    let statistics = served.statistics();
    let cancelled = statistics.shed_count(Shed::Cancelled) + statistics.shed_count(Shed::Abandoned);
    let rejected =
        [Shed::QueueFull, Shed::Timeout, Shed::Deadline].map(|shed| statistics.shed_count(shed)).iter().sum();
    let backend = statistics.failed_runs.load(Ordering::Relaxed);
    let other = statistics.refused.load(Ordering::Relaxed);
    [("REJECTED", rejected), ("CANCELED", cancelled), ("BACKEND", backend), ("OTHER", other)].map(
        |(reason, count)| {
            let labels = [labels(served), vec![label("reason", reason)]].concat();
            counter(labels, count)
        },
    )
}

fn micros(tally: &Tally) -> u64 {
    tally.nanoseconds() / 1000
}

pub(crate) fn labels(served: &Served) -> Vec<LabelPair> {
    vec![label("model", &served.config().name), label("version", &served.version().to_string())]
}

pub(crate) fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.into());
    label.set_value(value.into());
    label
}

pub(crate) fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics.into_iter().collect());
    family
}

fn metric(labels: Vec<LabelPair>) -> Metric {
    let mut metric = Metric::default();
    metric.set_label(labels);
    metric
}

pub(crate) fn counter(labels: Vec<LabelPair>, value: u64) -> Metric {
    counter_of(labels, value as f64)
}

pub(crate) fn counter_of(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = metric(labels);
    metric.set_counter(counter);
    metric
}

pub(crate) fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = metric(labels);
    metric.set_gauge(gauge);
    metric
}

fn shown(labels: Vec<LabelPair>, histogram: &Histogram) -> Metric {
    let mut shown = Shown::default();
    let mut buckets: Vec<_> = histogram.cumulative().collect();
    let count = buckets.pop().map_or(0, |(_, count)| count);
    let bucket = |(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    shown.set_bucket(buckets.into_iter().map(bucket).collect());
    shown.set_sample_count(count);
    shown.set_sample_sum(histogram.sum());
    let mut metric = metric(labels);
    metric.set_histogram(shown);
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_without_metrics_hides_no_other() {
        let of = |name, value: Option<f64>| {
            family(name, "help", MetricType::GAUGE, value.map(|value| gauge(Vec::new(), value)))
        };
        let mut text = Vec::new();
        write(vec![of("first", Some(1.0)), of("empty", None), of("last", Some(2.0))], &mut text);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("\nfirst 1\n") && text.contains("\nlast 2\n"), "{text}");
        assert!(!text.contains("empty"), "{text}");
    }
}
