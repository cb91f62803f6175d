//! The report: a table over the points, the other measures of each, and what went wrong.

use std::time::Duration;

use sardonyx::shown;
use serde_json::{Value, json};

use super::client::{Client, Metadata};
use super::drive::Pace;
use super::metrics::ServerReport;
use super::questions::{Question, Shown};
use super::tally::{PERCENTILES, Tally};
use super::tuning::Setting;
use super::{Args, Arrivals};
use crate::{bytes, number};

/// What was measured.
pub(super) struct Report {
    address: String,
    protocol: &'static str,
    model: String,
    version: String,
    arrivals: Arrivals,
    duration: Duration,
    warmup: Duration,
    /// The inputs of the first request of each batch size.
    inputs: Vec<Vec<Shown>>,
    pub(super) points: Vec<Point>,
    /// Whether Ctrl-C ended the load early.
    pub(super) interrupted: bool,
}

/// A load, and what came of it.
pub(super) struct Point {
    pub(super) setting: Setting,
    pub(super) batch: Option<usize>,
    pub(super) pace: Pace,
    pub(super) tally: Tally,
    pub(super) server: Option<ServerReport>,
}

impl Point {
    /// Whether another point gives at least as much at a p99 as low, and one of both is better.
    fn is_beaten_by(&self, other: &Point) -> bool {
        let of = |point: &Point| (point.tally.rows_per_second(), point.tally.percentile(0.99));
        let ((rows, Some(p99)), (other_rows, Some(other_p99))) = (of(self), of(other)) else { return false };
        other_rows >= rows && other_p99 <= p99 && (other_rows > rows || other_p99 < p99)
    }

    /// The point in words.
    fn name(&self) -> String {
        let pace = match self.pace {
            Pace::Closed { clients: 1 } => "1 client".to_string(),
            Pace::Closed { clients } => format!("{clients} clients"),
            Pace::Open { rate, .. } => format!("{}/s", number::short(rate)),
        };
        let instances = self.setting.instances.map(|count| match count {
            1 => "1 instance".to_string(),
            count => format!("{count} instances"),
        });
        let delay = self.setting.delay.map(|delay| format!("{delay} us"));
        let batch = self.batch.map(|batch| format!("batch {batch}"));
        [Some(pace), batch, instances, delay].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl Report {
    pub(super) fn new(args: &Args, client: &Client, metadata: &Metadata) -> Report {
        Report {
            address: client.address.clone(),
            protocol: client.protocol(),
            model: args.model.clone(),
            version: match (args.version.as_str(), metadata.versions.as_slice()) {
                ("", [only]) => only.clone(),
                (version, _) => version.into(),
            },
            arrivals: args.arrivals,
            duration: args.duration,
            warmup: args.warmup,
            inputs: Vec::new(),
            points: Vec::new(),
            interrupted: false,
        }
    }

    /// Notes the inputs of a batch size.
    pub(super) fn shapes(&mut self, question: &Question) {
        if !self.inputs.contains(&question.inputs) {
            self.inputs.push(question.inputs.clone());
        }
    }

    /// Whether every request of every point had its answer, and no answer was wrong.
    pub(super) fn is_good(&self) -> bool {
        self.points.iter().all(|point| point.tally.is_good())
    }

    /// Whether no other point is better in one measure and as good in the other.
    fn is_on_front(&self, point: &Point) -> bool {
        point.tally.answered > 0 && !self.points.iter().any(|other| point.is_beaten_by(other))
    }

    pub(super) fn json(&self) -> Value {
        let point = |point: &Point| {
            let mut value = json!({ "batch": point.batch });
            value["instances"] = point.setting.instances.into();
            value["delay_us"] = point.setting.delay.into();
            match point.pace {
                Pace::Closed { clients } => value["concurrency"] = clients.into(),
                Pace::Open { rate, .. } => value["rate"] = number::json(rate),
            }
            if let (Value::Object(value), Value::Object(tally)) = (&mut value, point.tally.json()) {
                value.extend(tally);
            }
            value["pareto"] = self.is_on_front(point).into();
            value["server"] = json!(point.server);
            value
        };
        json!({
            "address": self.address,
            "protocol": self.protocol,
            "model": self.model,
            "version": self.version,
            "loop": self.arrivals().map_or("closed", |_| "open"),
            "arrivals": self.arrivals(),
            "duration_s": self.duration.as_secs_f64(),
            "warmup_s": self.warmup.as_secs_f64(),
            "inputs": self.inputs,
            "points": self.points.iter().map(point).collect::<Vec<_>>(),
            "interrupted": self.interrupted,
            "good": self.is_good(),
        })
    }

    /// The arrivals, if the loop is open.
    fn arrivals(&self) -> Option<&'static str> {
        let open = self.points.iter().any(|point| matches!(point.pace, Pace::Open { .. }));
        open.then_some(match self.arrivals {
            Arrivals::Exponential => "exponential",
            Arrivals::Constant => "constant",
        })
    }

    pub(super) fn text(&self) -> String {
        let version = if self.version.is_empty() {
            String::new()
        } else {
            format!(", version {}", shown(&self.version))
        };
        let mut text = format!(
            "server    {} ({})\nmodel     {}{version}\n",
            shown(&self.address),
            self.protocol,
            shown(&self.model)
        );
        for input in self.inputs.iter().flatten() {
            let Shown { name, dtype, shape, from } = input;
            text += &format!("input     {}: {dtype}{shape:?} ({from})\n", shown(name));
        }
        let pace = match self.arrivals() {
            Some(arrivals) => {
                format!("open loop, {arrivals} arrivals; times are measured from when a request was due")
            }
            None => "closed loop".into(),
        };
        text += &format!(
            "load      {pace}; {} s after {} s\n",
            self.duration.as_secs_f64(),
            self.warmup.as_secs_f64()
        );
        text += &format!("\n{}\n{}", table(&self.times()), self.measured());
        text += "* no other point gives more rows per second with a p99 as low\n";
        for point in &self.points {
            text += &self.complaints(point);
        }
        if self.interrupted {
            text += "interrupted: there is no more of the last point, and of those after it nothing\n";
        }
        text
    }

    /// Throughput and response times.
    fn times(&self) -> Vec<Vec<String>> {
        let mut rows = vec![row(&["", "requests/s", "rows/s"])];
        rows[0].extend(PERCENTILES.iter().map(|(name, _)| format!("{name} ms")));
        rows[0].extend(row(&["max ms", "answered", "failed", "wrong", ""]));
        for point in &self.points {
            let tally = &point.tally;
            let ms = |ms: Option<f64>| ms.map_or("-".into(), number::milliseconds);
            let mut cells = vec![point.name(), short(tally.per_second()), short(tally.rows_per_second())];
            cells.extend(PERCENTILES.iter().map(|(_, quantile)| ms(tally.percentile(*quantile))));
            cells.push(ms(tally.max()));
            cells.extend([tally.answered, tally.failed, tally.wrong].map(|count| count.to_string()));
            cells.push(if self.is_on_front(point) { "*".into() } else { String::new() });
            rows.push(cells);
        }
        rows
    }

    /// What else is known, or how it would be.
    fn measured(&self) -> String {
        let nothing = |point: &Point| point.server.is_none() && point.tally.accuracy().is_none();
        match self.points.iter().all(nothing) {
            true => "memory, processor, GPU and batches: with --metrics-url HOST:8002; accuracy: with --labels FILE\n".into(),
            false => table(&self.measures()),
        }
    }

    /// Accuracy, memory, utilisation, and how the server worked.
    fn measures(&self) -> Vec<Vec<String>> {
        let names = [
            "",
            "accuracy",
            "device memory",
            "of the model",
            "host memory",
            "CPU",
            "GPU",
            "batch",
            "queue ms",
            "run ms",
        ];
        let mut rows = vec![row(&names)];
        for point in &self.points {
            let known = |text: Option<String>| text.unwrap_or_else(|| "not known".into());
            let nothing = ServerReport::default();
            let server = point.server.as_ref().unwrap_or(&nothing);
            let memory = |count: Option<f64>| known(count.map(|count| bytes(count as u64)));
            let percent = |part: f64| format!("{} %", short(part * 100.0));
            let cores = server.cpu_cores.map(|cores| format!("{} cores", short(cores)));
            rows.push(vec![
                point.name(),
                known(point.tally.accuracy().map(number::short)),
                memory(server.device_memory_bytes),
                memory(server.model_memory_bytes),
                memory(server.process_memory_bytes),
                known(cores.or(server.cpu_utilization.map(percent))),
                known(server.gpu_utilization.map(percent)),
                known(server.mean_batch.map(short)),
                known(server.queue_ms.map(number::milliseconds)),
                known(server.compute_ms.map(number::milliseconds)),
            ]);
        }
        rows
    }

    /// What went wrong at a point.
    fn complaints(&self, point: &Point) -> String {
        let (tally, name) = (&point.tally, point.name());
        let mut text = String::new();
        for ((kind, code), (count, first)) in &tally.failures {
            text += &format!("failed    {name}: {count} by {kind} {}: {}\n", shown(code), shown(first));
        }
        if let Some(difference) = &tally.difference {
            text +=
                &format!("wrong     {name}: {} answers, the first in {}\n", tally.wrong, shown(difference));
        }
        if tally.unfinished() > 0 {
            text += &format!("left      {name}: {} without an answer yet\n", tally.unfinished());
        }
        if tally.sent == 0 {
            text += &format!("nothing   {name}: no request was sent; a longer --duration sends some\n");
        }
        let late = tally.lag().filter(|lag| *lag > 5.0 && matches!(point.pace, Pace::Open { .. }));
        if let Some(lag) = late {
            let lag = number::milliseconds(lag);
            text += &format!(
                "late      {name}: one request of a hundred was sent {lag} ms or more after it was due: the server is slower than the \
                 rate with --in-flight requests, or this machine is\n"
            );
        }
        text
    }
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| cell.to_string()).collect()
}

/// A number for people, of at most four digits.
fn short(value: f64) -> String {
    number::milliseconds(value)
}

/// Columns of their widest cell: the first to the left, others to the right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cell = |(at, (cell, &width)): (usize, (&String, &usize))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        };
        row.iter().zip(&widths).enumerate().map(cell).collect::<String>().trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::checks::Checked;
    use super::*;

    #[test]
    fn the_front_has_the_points_that_no_other_beats() {
        // Clients, answers in a second, and each one's time in milliseconds.
        let measured = [(1, 100, 10), (2, 180, 11), (4, 170, 20), (8, 200, 40), (16, 200, 80)];
        let point = |(clients, count, ms): (u64, u64, u64)| {
            let start = Instant::now();
            let mut tally = Tally::new(start);
            for _ in 0..count {
                tally.sent(Duration::ZERO);
                tally.answered(
                    start + Duration::from_secs(1),
                    Duration::from_millis(ms),
                    1,
                    Checked::default(),
                );
            }
            Point {
                setting: Setting::default(),
                batch: None,
                pace: Pace::Closed { clients },
                tally,
                server: None,
            }
        };
        let mut report = Report {
            address: "a".into(),
            protocol: "http",
            model: "m".into(),
            version: String::new(),
            arrivals: Arrivals::Exponential,
            duration: Duration::from_secs(1),
            warmup: Duration::ZERO,
            inputs: Vec::new(),
            points: measured.map(point).into(),
            interrupted: false,
        };
        let front: Vec<bool> = report.points.iter().map(|point| report.is_on_front(point)).collect();
        assert_eq!(front, [true, true, false, true, false]);
        assert!(report.text().contains("with --metrics-url") && report.is_good());
        report.points[0].server = Some(ServerReport { mean_batch: Some(1.5), ..ServerReport::default() });
        assert!(report.text().contains("not known") && !report.text().contains("with --metrics-url"));
        report.points.push(point((32, 0, 1)));
        assert!(!report.is_on_front(&report.points[5]) && !report.is_good());
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [row(&["", "a"]), row(&["first", "1.25"]), row(&["2", "-"])];
        assert_eq!(table(&rows), "          a\nfirst  1.25\n2         -\n");
    }
}
