//! What became of the requests of one point.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::checks::Checked;
use super::client::Trouble;
use crate::number;

/// The longest time that a histogram holds, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// Counts and times of requests. Those that began in the warm-up are not among them.
#[derive(Debug)]
pub(super) struct Tally {
    start: Instant,
    last: Instant,
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// How many answers were not as expected.
    pub(super) wrong: u64,
    pub(super) failed: u64,
    rows: u64,
    pub(super) labelled_rows: u64,
    pub(super) right_rows: u64,
    /// What the first wrong answer was.
    pub(super) difference: Option<String>,
    /// By kind and code: how many, and the first text.
    pub(super) failures: BTreeMap<(&'static str, String), (u64, String)>,
    /// From when a request was due to its answer, in nanoseconds.
    pub(super) latency: Option<Histogram<u64>>,
    /// From when a request was due to when it was sent, in nanoseconds.
    pub(super) lag: Option<Histogram<u64>>,
}

/// The percentiles that are reported.
pub(super) const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];

impl Tally {
    /// Nothing yet, of requests that are due at `start` or later.
    pub(super) fn new(start: Instant) -> Tally {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3).ok();
        Tally {
            start,
            last: start,
            sent: 0,
            answered: 0,
            wrong: 0,
            failed: 0,
            rows: 0,
            labelled_rows: 0,
            right_rows: 0,
            difference: None,
            failures: BTreeMap::new(),
            latency: histogram(),
            lag: histogram(),
        }
    }

    /// Whether a request that is due then counts.
    pub(super) fn counts(&self, due: Instant) -> bool {
        due >= self.start
    }

    pub(super) fn sent(&mut self, lag: Duration) {
        self.sent += 1;
        record(&mut self.lag, lag);
    }

    /// A request of `rows` rows was answered at `at`, `latency` after it was due.
    pub(super) fn answered(&mut self, at: Instant, latency: Duration, rows: usize, checked: Checked) {
        self.last = self.last.max(at);
        self.answered += 1;
        self.rows += rows as u64;
        self.labelled_rows += checked.labelled_rows;
        self.right_rows += checked.right_rows;
        record(&mut self.latency, latency);
        if checked.difference.is_some() {
            self.wrong += 1;
            self.difference = self.difference.take().or(checked.difference);
        }
    }

    pub(super) fn failed(&mut self, trouble: Trouble) {
        self.failed += 1;
        let of_kind = self.failures.entry((trouble.kind, trouble.code)).or_insert((0, trouble.text));
        of_kind.0 += 1;
    }

    /// The requests of which nothing was heard before the load ended early.
    pub(super) fn unfinished(&self) -> u64 {
        self.sent - self.answered - self.failed
    }

    /// Whether every request had its answer.
    pub(super) fn is_good(&self) -> bool {
        self.failed == 0 && self.wrong == 0 && self.answered > 0
    }

    /// The time to the last answer.
    pub(super) fn elapsed(&self) -> Duration {
        self.last - self.start
    }

    pub(super) fn per_second(&self) -> f64 {
        rate(self.answered, self.elapsed())
    }

    pub(super) fn rows_per_second(&self) -> f64 {
        rate(self.rows, self.elapsed())
    }

    /// The part of labelled rows whose class was right.
    pub(super) fn accuracy(&self) -> Option<f64> {
        (self.labelled_rows > 0).then(|| self.right_rows as f64 / self.labelled_rows as f64)
    }

    /// A percentile of the response times, in milliseconds; `None` without an answer.
    pub(super) fn percentile(&self, quantile: f64) -> Option<f64> {
        let times = self.latency.as_ref().filter(|times| !times.is_empty())?;
        Some(times.value_at_quantile(quantile) as f64 / 1e6)
    }

    pub(super) fn max(&self) -> Option<f64> {
        self.percentile(1.0)
    }

    /// How late requests were sent, in milliseconds, but for one of a hundred.
    pub(super) fn lag(&self) -> Option<f64> {
        let lag = self.lag.as_ref().filter(|lag| !lag.is_empty())?;
        Some(lag.value_at_quantile(0.99) as f64 / 1e6)
    }

    pub(super) fn json(&self) -> Value {
        let failures = self.failures.iter().map(|((kind, code), (count, text))| {
            json!({ "kind": kind, "code": code, "count": count, "text": text })
        });
        json!({
            "sent": self.sent,
            "answered": self.answered,
            "failed": self.failed,
            "wrong": self.wrong,
            "unfinished": self.unfinished(),
            "elapsed_s": number::rounded(self.elapsed().as_secs_f64()),
            "requests_per_second": number::rounded(self.per_second()),
            "rows_per_second": number::rounded(self.rows_per_second()),
            "latency_ms": times(self.latency.as_ref()),
            "lag_ms": times(self.lag.as_ref()),
            "failures": failures.collect::<Vec<_>>(),
            "difference": self.difference,
            "accuracy": self.accuracy().map(number::rounded),
            "labelled_rows": self.labelled_rows,
            "right_rows": self.right_rows,
        })
    }
}

fn record(histogram: &mut Option<Histogram<u64>>, time: Duration) {
    if let Some(histogram) = histogram {
        histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST).clamp(1, LONGEST));
    }
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

/// The mean, percentiles and the greatest of a histogram, in milliseconds; null if it is empty.
fn times(histogram: Option<&Histogram<u64>>) -> Value {
    let Some(histogram) = histogram.filter(|histogram| !histogram.is_empty()) else { return Value::Null };
    let milliseconds = |nanoseconds: f64| number::rounded(nanoseconds / 1e6);
    let mut value = json!({ "mean": milliseconds(histogram.mean()) });
    for (name, quantile) in PERCENTILES {
        value[name] = milliseconds(histogram.value_at_quantile(quantile) as f64).into();
    }
    value["max"] = milliseconds(histogram.max() as f64).into();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_percentiles() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        let after = |ms: u64| start + Duration::from_millis(ms);
        assert!(tally.counts(start) && tally.counts(after(1)));
        for ms in 1..=1000 {
            tally.sent(Duration::ZERO);
            tally.answered(after(ms), Duration::from_millis(ms), 2, Checked::default());
        }
        for _ in 0..3 {
            tally.sent(Duration::ZERO);
            tally.failed(Trouble::new("status", "503", "full"));
        }
        tally.sent(Duration::ZERO);
        assert_eq!((tally.sent, tally.answered, tally.failed, tally.unfinished()), (1004, 1000, 3, 1));
        assert_eq!((tally.per_second(), tally.rows_per_second()), (1000.0, 2000.0));
        let near = |quantile: f64, ms: f64| (tally.percentile(quantile).unwrap() - ms).abs() <= ms / 1000.0;
        assert!(near(0.5, 500.0) && near(0.99, 990.0) && near(0.999, 999.0) && near(1.0, 1000.0));
        assert_eq!(
            tally.json()["failures"],
            json!([{ "kind": "status", "code": "503", "count": 3, "text": "full" }])
        );
        assert!(!tally.is_good());
    }
}
