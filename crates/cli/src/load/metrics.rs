//! The server's own metrics, in the text form of Prometheus: what a load made it use. Triton's names and those of this program's
//! server are known.

use std::future::Future;
use std::time::{Duration, Instant};

use sardonyx::shown;
use serde::Serialize;

use super::Failure;
use super::credentials::Credentials;
use super::http::Http;
use crate::number;

/// The time between two looks.
const PERIOD: Duration = Duration::from_millis(500);

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the server's metrics are, and the model that they are wanted of.
pub(super) struct Monitor {
    http: Http,
    url: String,
    path: String,
    model: String,
    version: String,
}

/// What a server used and did during a load; `None` is what its metrics do not say.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct ServerReport {
    /// The most bytes that were in use on all devices.
    pub(super) device_memory_bytes: Option<f64>,
    /// Of those, the model's.
    pub(super) model_memory_bytes: Option<f64>,
    /// The most bytes of host memory that the process had.
    pub(super) process_memory_bytes: Option<f64>,
    /// CPU seconds of the process for each second.
    pub(super) cpu_cores: Option<f64>,
    /// How busy the host's CPUs were, from 0 to 1.
    pub(super) cpu_utilization: Option<f64>,
    /// How busy the GPUs were, from 0 to 1.
    pub(super) gpu_utilization: Option<f64>,
    /// The requests that the server answered and refused.
    pub(super) answered: Option<f64>,
    pub(super) failed: Option<f64>,
    /// The rows of a run, in the mean.
    pub(super) mean_batch: Option<f64>,
    /// How long requests waited and were computed, in the mean.
    pub(super) queue_ms: Option<f64>,
    pub(super) compute_ms: Option<f64>,
}

/// The metrics at one time.
struct Sample {
    at: Instant,
    values: Vec<Value>,
}

#[derive(Debug, PartialEq)]
struct Value {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Monitor {
    /// The metrics at a URL. The credentials without their headers make its connections, if it is one of `https`.
    pub(super) fn new(
        url: &str,
        model: &str,
        version: &str,
        credentials: Credentials,
    ) -> Result<Monitor, Failure> {
        let secure = url.starts_with("https://");
        let credentials = if secure { credentials.without_headers() } else { Credentials::default() };
        let http = Http::new(url, &credentials)?;
        let path = if http.prefix.is_empty() { "/metrics".into() } else { http.prefix.clone() };
        Ok(Monitor { http, url: url.into(), path, model: model.into(), version: version.into() })
    }

    /// Refuses an address that has no metrics.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let refused = |why: String| Failure::of_server(format!("--metrics-url {}: {why}", shown(&self.url)));
        match self.sample().await.map_err(&refused)?.values.is_empty() {
            true => Err(refused("there are no metrics in Prometheus' text form".into())),
            false => Ok(()),
        }
    }

    async fn sample(&self) -> Result<Sample, String> {
        let got = tokio::time::timeout(PATIENCE, self.http.get(&self.path)).await;
        let text = got.map_err(|_| "no answer".to_string())?.map_err(|trouble| trouble.to_string())?;
        let text = String::from_utf8_lossy(&text);
        Ok(Sample { at: Instant::now(), values: text.lines().filter_map(parse).collect() })
    }

    /// Looks at the metrics from `start` until `over`. Looks that fail under load are left out.
    pub(super) async fn watch(&self, start: Instant, over: impl Future<Output = ()>) -> ServerReport {
        tokio::pin!(over);
        let mut samples = Vec::new();
        let mut next = start;
        loop {
            let is_over = tokio::select! {
                () = tokio::time::sleep_until(next.into()) => false,
                () = &mut over => true,
            };
            samples.extend(self.sample().await.ok());
            if is_over {
                return self.report(&samples);
            }
            next = Instant::now() + PERIOD;
        }
    }

    fn report(&self, samples: &[Sample]) -> ServerReport {
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
            return ServerReport::default();
        };
        let of_model = |value: &Value| {
            let is = |key: &str, wanted: &str| {
                value.labels.iter().any(|(name, text)| name == key && text == wanted)
            };
            is("model", &self.model) && (self.version.is_empty() || is("version", &self.version))
        };
        let all = |sample: &Sample, name: &str| sum(sample, name, |_| true);
        let most = |name: &str| samples.iter().filter_map(|sample| all(sample, name)).reduce(f64::max);
        let grown = |name: &str| Some(sum(last, name, of_model)? - sum(first, name, of_model).unwrap_or(0.0));
        let answered = grown("nv_inference_request_success");
        let mean_ms = |name: &str| quotient(grown(name)? / 1000.0, answered?);
        let elapsed = (last.at - first.at).as_secs_f64();
        let cpu_seconds = |sample| all(sample, "process_cpu_seconds_total");
        let cpu = || Some(cpu_seconds(last)? - cpu_seconds(first)?);
        ServerReport {
            device_memory_bytes: most("sardonyx_device_memory_bytes")
                .or_else(|| most("nv_gpu_memory_used_bytes")),
            model_memory_bytes: sum(last, "sardonyx_model_memory_bytes", of_model),
            process_memory_bytes: most("process_resident_memory_bytes"),
            cpu_cores: cpu().and_then(|seconds| quotient(seconds, elapsed)),
            cpu_utilization: mean(samples, "nv_cpu_utilization"),
            gpu_utilization: mean(samples, "nv_gpu_utilization"),
            answered,
            failed: grown("nv_inference_request_failure"),
            mean_batch: grown("nv_inference_count")
                .and_then(|rows| quotient(rows, grown("nv_inference_exec_count")?)),
            queue_ms: mean_ms("nv_inference_queue_duration_us"),
            compute_ms: mean_ms("nv_inference_compute_infer_duration_us"),
        }
    }
}

/// The sum of a family's values; `None` without one.
fn sum(sample: &Sample, name: &str, wanted: impl Fn(&Value) -> bool) -> Option<f64> {
    let values = sample.values.iter().filter(|value| value.name == name && wanted(value));
    values.map(|value| value.value).reduce(|sum, value| sum + value)
}

/// The mean of a family's values over its labels and the samples.
fn mean(samples: &[Sample], name: &str) -> Option<f64> {
    let values = samples.iter().flat_map(|sample| &sample.values).filter(|value| value.name == name);
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value.value, count + 1.0));
    quotient(sum, count)
}

fn quotient(of: f64, by: f64) -> Option<f64> {
    (by > 0.0).then(|| number::rounded(of / by))
}

/// A line `name{label="text",...} value`; `None` if it is a comment or another.
fn parse(line: &str) -> Option<Value> {
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with('#') {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Value { name: name.into(), labels, value })
}

/// The labels up to `}`, and what comes after it.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut text = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => text.push('\n'),
                    escaped => text.push(escaped),
                },
                (_, character) => text.push(character),
            }
        };
        labels.push((name.trim().into(), text));
        rest = &quoted[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_prometheus() {
        let value = |name: &str, labels: &[(&str, &str)], value: f64| Value {
            name: name.into(),
            labels: labels.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect(),
            value,
        };
        assert_eq!(parse("up 1"), Some(value("up", &[], 1.0)));
        assert_eq!(
            parse(r#"a_b{model="x } \"y\"",version="1",} 2.5e3 1700000000"#),
            Some(value("a_b", &[("model", "x } \"y\""), ("version", "1")], 2500.0))
        );
        for other in ["# HELP up 1", "", "up", "up{", "up{a=\"b} 1", "up x"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_load_used() {
        let monitor = Monitor::new("localhost:8002", "m", "", Credentials::default()).unwrap();
        let sample = |seconds: u64, start: Instant, text: &str| Sample {
            at: start + Duration::from_secs(seconds),
            values: text.lines().filter_map(parse).collect(),
        };
        let start = Instant::now();
        let samples = [
            "nv_inference_request_success{model=\"m\",version=\"1\"} 10\nnv_inference_count{model=\"m\"} 10\n\
             nv_inference_exec_count{model=\"m\"} 10\nnv_inference_queue_duration_us{model=\"m\"} 5000\n\
             process_cpu_seconds_total 1\nnv_gpu_utilization{gpu=\"a\"} 0.5\nsardonyx_device_memory_bytes{device=\"0\"} 70",
            "nv_inference_request_success{model=\"m\",version=\"1\"} 20\nnv_inference_count{model=\"m\"} 50\n\
             nv_inference_exec_count{model=\"m\"} 20\nnv_inference_queue_duration_us{model=\"m\"} 25000\n\
             nv_inference_request_success{model=\"other\"} 99\n\
             process_cpu_seconds_total 4\nnv_gpu_utilization{gpu=\"a\"} 1\nsardonyx_device_memory_bytes{device=\"0\"} 60",
        ];
        let samples = [sample(0, start, samples[0]), sample(2, start, samples[1])];
        let expected = ServerReport {
            device_memory_bytes: Some(70.0),
            cpu_cores: Some(1.5),
            gpu_utilization: Some(0.75),
            answered: Some(10.0),
            mean_batch: Some(4.0),
            queue_ms: Some(2.0),
            ..ServerReport::default()
        };
        assert_eq!(monitor.report(&samples), expected);
    }
}
