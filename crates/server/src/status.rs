//! `Service::status`: all that who looks after a server wants to see at once, as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::Service;
use crate::repository::IndexEntry;
use crate::serving::{Histogram, Served, Shed};

impl Service {
    /// The server, its devices, its models with their queues, latencies, drift and accuracy, and the last errors.
    pub fn status(&self) -> Value {
        let served = self.served();
        let models: Vec<Value> = self
            .index(false)
            .into_iter()
            .map(|entry| {
                let of = served.iter().find(|served| {
                    served.config().name == entry.name && served.version().to_string() == entry.version
                });
                model(entry, of.map(AsRef::as_ref))
            })
            .collect();
        let devices: Vec<Value> = self
            .devices()
            .slots()
            .iter()
            .map(|slot| {
                let memory = slot.device_now().map(|device| device.memory_bytes());
                json!({
                    "name": slot.name(), "ready": slot.is_ready(), "lost": slot.lost_count(), "memory_bytes": memory,
                })
            })
            .collect();
        let errors: Vec<Value> = self
            .watching()
            .last_errors()
            .into_iter()
            .map(|error| {
                json!({
                    "unix_ms": unix_ms(error.time),
                    "count": error.count,
                    "model": error.model,
                    "version": error.version,
                    "reason": format!("{:?}", error.failure.reason),
                    "text": error.failure.text,
                })
            })
            .collect();
        let counts = self.watching().counts();
        json!({
            "server": {
                "name": "sardonyx",
                "version": env!("CARGO_PKG_VERSION"),
                "unix_ms": unix_ms(SystemTime::now()),
                "uptime_seconds": self.watching().uptime().as_secs(),
                "live": self.is_live(),
                "ready": self.is_ready(),
                "draining": self.is_draining(),
                "resident_bytes": resident_bytes(),
            },
            "devices": devices,
            "models": models,
            "errors": errors,
            "watching": {
                "drift_dropped": counts.drift_dropped,
                "payloads_written": counts.payloads_written,
                "payloads_failed": counts.payloads_failed,
                "payloads_dropped": counts.payloads_dropped,
            },
        })
    }
}

fn model(entry: IndexEntry, served: Option<&Served>) -> Value {
    let mut shown = json!({
        "name": entry.name,
        "version": entry.version,
        "state": entry.state.to_string(),
        "reason": entry.reason,
    });
    let (Some(served), Some(members)) = (served, shown.as_object_mut()) else { return shown };
    let statistics = served.statistics();
    let shed = Shed::ALL.map(|(why, name)| (name.to_string(), Value::from(statistics.shed_count(why))));
    let more = [
        ("waiting", served.pending().into()),
        ("memory_bytes", served.memory().into()),
        ("load_seconds", statistics.load_time().as_secs_f64().into()),
        ("longest_run_seconds", served.longest_run().as_secs_f64().into()),
        ("requests", statistics.success.count().into()),
        ("failures", statistics.fail.count().into()),
        ("shed", shed.into_iter().collect()),
        ("rows", statistics.rows().into()),
        ("runs", statistics.runs().into()),
        ("cache_hits", statistics.cache_hit.count().into()),
        ("max_batch", served.config().max_batch.into()),
        ("latency", times(&statistics.request_seconds)),
        ("queue", times(&statistics.queue_seconds)),
        ("compute", times(&statistics.compute_seconds)),
        ("feedback", json!(served.watched().and_then(|watched| watched.feedback()))),
        ("drift", json!(served.watched().and_then(|watched| watched.drift()))),
    ];
    members.extend(more.map(|(name, value)| (name.to_string(), value)));
    shown
}

/// A histogram of seconds with its percentiles; the bound of the last bucket, which is infinite, is null.
fn times(histogram: &Histogram) -> Value {
    let buckets: Vec<(f64, u64)> = histogram.cumulative().collect();
    let at = |share| quantile(&buckets, share);
    json!({
        "count": buckets.last().map_or(0, |(_, count)| *count),
        "sum": histogram.sum(),
        "p50": at(0.5), "p90": at(0.9), "p95": at(0.95), "p99": at(0.99),
        "buckets": buckets,
    })
}

/// The value that `share` of all are below, on a straight line within its bucket; the last finite bound for those above it, and `None`
/// without values.
fn quantile(buckets: &[(f64, u64)], share: f64) -> Option<f64> {
    let all = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
    let rank = share * all as f64;
    let (mut lower, mut before) = (0.0, 0);
    for &(bound, count) in buckets {
        if count as f64 >= rank && count > before {
            let part = (rank - before as f64) / (count - before) as f64;
            return Some(if bound.is_finite() { lower + (bound - lower) * part } else { lower });
        }
        if bound.is_finite() {
            (lower, before) = (bound, count);
        }
    }
    Some(lower)
}

fn unix_ms(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// The bytes of memory that the process has, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Prometheus' `histogram_quantile` has it.
    #[test]
    fn quantiles_lie_on_a_line_within_their_bucket() {
        let buckets = [(1.0, 10), (2.0, 10), (4.0, 90), (f64::INFINITY, 100)];
        assert_eq!(quantile(&buckets, 0.5), Some(3.0));
        assert_eq!(quantile(&buckets, 0.05), Some(0.5));
        assert_eq!(quantile(&buckets, 0.1), Some(1.0));
        assert_eq!(quantile(&buckets, 0.99), Some(4.0));
        assert_eq!(quantile(&[(1.0, 0), (f64::INFINITY, 0)], 0.5), None);
        assert_eq!(quantile(&[(1.0, 0), (f64::INFINITY, 3)], 0.5), Some(1.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
