//! `sardonyx bench`: latency, memory, and GPU time by kernel.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

use serde::Serialize;
use serde_json::json;

use super::device::{DeviceArgs, described};
use super::inputs::{Chosen, InputArgs, NamedInput, blamed, chosen_text, tensors};
use super::model::ModelArgs;
use super::progress::{self, Spinner};
use super::{Failure, Verdict, bytes, counted, number, print, print_json, process, unsupported};
use sardonyx::{
    Counters, Device, Error, KernelTime, Model, PlanSummary, Session, SessionOptions, Tensor, shown,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sardonyx bench model.onnx                              20 runs on random inputs, after 3 that are not measured
  sardonyx bench model.onnx --dim batch=8 --runs 100
  sardonyx bench model.onnx --profile                    the GPU time of each kernel, too
  sardonyx bench model.onnx --require-hardware --json")]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Runs that are not measured.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = number::whole::<0>, allow_negative_numbers = true)]
    warmup: u64,
    /// Runs that are measured.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = number::whole::<1>, allow_negative_numbers = true)]
    runs: u64,
    /// Measure the GPU time of each kernel with timestamp queries, in further runs.
    #[arg(long)]
    profile: bool,
}

/// Runs whose kernel times are averaged.
const PROFILED_RUNS: usize = 5;

/// All measurements, as `--json` prints them.
#[derive(Serialize)]
struct Measurements {
    device: String,
    software: Option<bool>,
    shapes: Vec<(String, Vec<usize>)>,
    /// The sizes that nobody said.
    chosen: Vec<Chosen>,
    /// The first run of a model on a device: planning, the compilation of kernels (unless the driver has a cache of its own)
    /// and the upload of weights.
    cold_first_run_ms: f64,
    /// The first run of a second session on the same device, whose pipelines exist already.
    warm_first_run_ms: f64,
    latency_ms: Latency,
    runs_per_second: f64,
    wall_ms: Vec<f64>,
    /// CPU time of all threads of the process, where the system reports it.
    cpu_ms: Option<Vec<f64>>,
    cpu_median_ms: Option<f64>,
    host_peak_bytes: Option<u64>,
    #[serde(flatten)]
    device_work: Option<DeviceWork>,
    profile: Option<Vec<KernelTime>>,
}

#[derive(Serialize)]
struct Latency {
    min: f64,
    median: f64,
    p90: f64,
    p99: f64,
}

/// The objects and the work that runs need on a device; the reference has none.
#[derive(Serialize)]
struct DeviceWork {
    plan: PlanSummary,
    /// What the first session created, which is everything that exists after the warm-up.
    created: Counters,
    /// What all measured runs together created and submitted; they should create no object.
    during_runs: Counters,
}

pub(super) fn main(args: &Args, json: bool) -> Verdict {
    if args.profile && args.device.is_reference() {
        return Err("--profile measures the time on a GPU, and --device cpu is the reference; name a GPU, or leave --profile out".into());
    }
    let for_sizes = args.model.load()?;
    let given = args.inputs.read(&for_sizes)?;
    let device = args.device.open()?;
    if args.profile && device.is_reference() {
        return Err("--profile measures the time on a GPU, and no GPU adapter was found: install a Vulkan driver, or leave --profile out".into());
    }
    let spinner = Spinner::new("planning");
    let settled = given.settle(&unsupported::session(&device, &for_sizes)?)?;
    let chosen = settled.chosen.clone();
    let inputs = settled.draw()?;
    // A model of its own, so that the first run also does what choosing sizes has done for the other.
    let model = args.model.load()?;
    let report = measure(args, &model, &device, &inputs, (chosen, spinner))?;
    if json {
        print_json(&json!(report))?;
    } else {
        print(&text(&report, &device, args.runs))?;
    }
    Ok(true)
}

fn measure(
    args: &Args,
    model: &Model,
    device: &Device,
    inputs: &[NamedInput],
    (chosen, spinner): (Vec<Chosen>, Spinner),
) -> Result<Measurements, Failure> {
    let (named_inputs, blamed) = (tensors(inputs, "`bench`")?, |error| blamed(error, inputs));
    let inputs = named_inputs.as_slice();
    let before = device.counters();
    spinner.now("first run: planning, compiling and uploading");
    let (cold, cold_first_run_ms) = first_run(device, model, inputs).map_err(blamed)?;
    let created = device.counters() - before;
    drop(cold);
    spinner.now("first run of a second session");
    let (session, warm_first_run_ms) = first_run(device, model, inputs).map_err(blamed)?;
    drop(spinner);
    let bar = progress::bar(args.warmup.saturating_add(args.runs), "runs");
    for _ in 0..args.warmup {
        session.run_values(inputs)?;
        bar.inc(1);
    }
    let before = device.counters();
    let (mut wall_ms, mut cpu_ms) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        let (wall, cpu) = (Instant::now(), process::cpu_time());
        session.run_values(inputs)?;
        let cpu = process::cpu_time().zip(cpu).map(|(end, start)| end.saturating_sub(start));
        wall_ms.push(number::rounded(wall.elapsed().as_secs_f64() * 1e3));
        cpu_ms.extend(cpu.map(|cpu| number::rounded(cpu.as_secs_f64() * 1e3)));
        bar.inc(1);
    }
    let during_runs = device.counters() - before;
    bar.finish_and_clear();
    let host_peak_bytes = process::peak_memory();
    let device_work = match device.is_reference() {
        true => None,
        false => Some(DeviceWork { plan: session.plan(inputs)?, created, during_runs }),
    };
    Ok(Measurements {
        device: device.name(),
        software: device.adapter().map(|adapter| adapter.software),
        chosen,
        shapes: inputs.iter().map(|(name, tensor)| (name.to_string(), tensor.shape().to_vec())).collect(),
        cold_first_run_ms: number::rounded(cold_first_run_ms),
        warm_first_run_ms: number::rounded(warm_first_run_ms),
        latency_ms: Latency {
            min: percentile(&wall_ms, 0.0),
            median: percentile(&wall_ms, 0.5),
            p90: percentile(&wall_ms, 0.9),
            p99: percentile(&wall_ms, 0.99),
        },
        runs_per_second: number::rounded(wall_ms.len() as f64 * 1e3 / wall_ms.iter().sum::<f64>()),
        cpu_median_ms: (cpu_ms.len() as u64 == args.runs).then(|| percentile(&cpu_ms, 0.5)),
        cpu_ms: (cpu_ms.len() as u64 == args.runs).then_some(cpu_ms),
        wall_ms,
        host_peak_bytes,
        device_work,
        profile: if args.profile { Some(profile(&session, inputs)?) } else { None },
    })
}

fn first_run(device: &Device, model: &Model, inputs: &[(&str, &Tensor)]) -> Result<(Session, f64), Error> {
    let start = Instant::now();
    let session = Session::new(device, model, SessionOptions::default())?;
    session.run_values(inputs)?;
    Ok((session, start.elapsed().as_secs_f64() * 1e3))
}

/// The smallest value that is at least as large as `part` of the values (nearest rank).
fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The mean time of each dispatch.
fn profile(session: &Session, inputs: &[(&str, &Tensor)]) -> Result<Vec<KernelTime>, Failure> {
    let mut mean = session.profile(inputs)?;
    for _ in 1..PROFILED_RUNS {
        let times = session.profile(inputs)?;
        mean.iter_mut().zip(times).for_each(|(mean, time)| mean.nanoseconds += time.nanoseconds);
    }
    mean.iter_mut().for_each(|time| time.nanoseconds /= PROFILED_RUNS as f64);
    Ok(mean)
}

fn text(report: &Measurements, device: &Device, runs: u64) -> String {
    let mut text = format!("device      {}\n", described(device));
    // Writing to a String cannot fail.
    let _ = write_text(&mut text, report, runs);
    text
}

fn write_text(out: &mut String, report: &Measurements, runs: u64) -> std::fmt::Result {
    let Latency { min, median, p90, p99 } = &report.latency_ms;
    let [min, median, p90, p99] = [min, median, p90, p99].map(|time| number::milliseconds(*time));
    let counted_runs = counted(runs as usize, "run");
    for (name, shape) in &report.shapes {
        writeln!(out, "input       {} {shape:?}", shown(name))?;
    }
    if let Some(chosen) = chosen_text(&report.chosen) {
        writeln!(out, "sizes       {chosen}")?;
    }
    writeln!(out, "latency     min {min} ms, median {median}, p90 {p90}, p99 {p99} ({counted_runs})")?;
    writeln!(out, "throughput  {} runs/s", number::milliseconds(report.runs_per_second))?;
    if let Some(cpu) = report.cpu_median_ms {
        writeln!(out, "cpu time    median {} ms of all threads", number::milliseconds(cpu))?;
    }
    let [cold, warm] = [report.cold_first_run_ms, report.warm_first_run_ms].map(number::milliseconds);
    let cached = if report.device_work.is_some() { " (pipelines exist)" } else { "" };
    writeln!(out, "first run   cold {cold} ms, warm {warm} ms{cached}")?;
    if let Some(work) = &report.device_work {
        write_work(out, work, runs)?;
    }
    if let Some(peak) = report.host_peak_bytes {
        writeln!(out, "host peak   {}", bytes(peak))?;
    }
    report.profile.as_ref().map_or(Ok(()), |times| write_profile(out, times))
}

fn write_work(out: &mut String, work: &DeviceWork, runs: u64) -> std::fmt::Result {
    let DeviceWork { plan, created, during_runs: run } = work;
    let (dispatches, passes, submits) = (run.dispatches / runs, run.passes / runs, run.submits / runs);
    writeln!(out, "each run    dispatches {dispatches}, passes {passes}, submits {submits}")?;
    let Counters { pipelines, buffers, bind_groups, .. } = created;
    writeln!(
        out,
        "created     pipelines {pipelines}, buffers {buffers}, bind groups {bind_groups} for the first run"
    )?;
    let Counters { pipelines, buffers, bind_groups, .. } = run;
    writeln!(
        out,
        "afterwards  pipelines {pipelines}, buffers {buffers}, bind groups {bind_groups} in {} after warm-up",
        counted(runs as usize, "run")
    )?;
    let (weights, arena, live) = (plan.weight_bytes, plan.arena_bytes, plan.max_live_bytes);
    writeln!(out, "memory      weights {}, arena {}, max live {}", bytes(weights), bytes(arena), bytes(live))
}

fn write_profile(out: &mut String, times: &[KernelTime]) -> std::fmt::Result {
    let mut kernels: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for time in times {
        let entry = kernels.entry(&time.kernel).or_default();
        *entry = (entry.0 + 1, entry.1 + time.nanoseconds);
    }
    let total: f64 = times.iter().map(|time| time.nanoseconds).sum();
    let mut rows: Vec<_> = kernels.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    writeln!(
        out,
        "\n{:>10} {:>6} {:>6}  kernel (mean of {PROFILED_RUNS} runs, one pass each)",
        "us", "%", "calls"
    )?;
    for (kernel, (calls, nanoseconds)) in rows {
        let percent = nanoseconds / total.max(1.0) * 100.0;
        writeln!(out, "{:>10.1} {percent:>6.1} {calls:>6}  {kernel}", nanoseconds / 1e3)?;
    }
    writeln!(out, "{:>10.1} {:>6} {:>6}  all", total / 1e3, "", times.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        let of = |part| percentile(&values, part);
        assert_eq!([of(0.0), of(0.5), of(0.9), of(0.99)], [1.0, 3.0, 5.0, 5.0]);
        assert_eq!(percentile(&[7.0], 0.5), 7.0);
    }
}
