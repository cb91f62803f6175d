//! `sardonyx run`: one run of a model, arrays in and out.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::device::DeviceArgs;
use super::inputs::{InputArgs, NamedInput, Unknown, named};
use super::model::ModelArgs;
use super::{Verdict, bytes, numpy, placement, print, print_json};
use sardonyx::{DType, Session, SessionOptions, Tensor, shown};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    inputs: InputArgs,
    /// Write the outputs, by name, to an .npz file.
    #[arg(long, value_name = "F.npz")]
    outputs: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn main(args: &Args, json: bool) -> Verdict {
    let model = args.model.load()?;
    let inputs = args.inputs.load(&model, Unknown::Refuse)?;
    let device = args.device.open()?;
    let start = Instant::now();
    let session = Session::new(&device, &model, SessionOptions::default())?;
    session.prepare(&named(&inputs))?;
    let plan = if device.is_reference() { None } else { Some(session.plan(&named(&inputs))?) };
    let (plan_ms, start) = (milliseconds(start), Instant::now());
    let outputs = session.run(&named(&inputs))?;
    let run_ms = milliseconds(start);
    if let Some(path) = &args.outputs {
        numpy::write_npz(path, &outputs)?;
    }
    if json {
        print_json(&json!({
            "device": device.name(),
            "inputs": inputs.iter().map(with_random).collect::<Vec<_>>(),
            "outputs": outputs.iter().map(|(name, tensor)| json_of(name, tensor)).collect::<Vec<_>>(),
            "plan_ms": plan_ms,
            "run_ms": run_ms,
            "plan": plan,
        }))?;
        return Ok(true);
    }
    let mut text = format!("device    {}\n", device.name());
    for NamedInput { name, tensor, random } in &inputs {
        text += &format!("input     {}{}\n", line(name, tensor), if *random { " (random)" } else { "" });
    }
    for (name, tensor) in &outputs {
        text += &format!("output    {}\n", line(name, tensor));
    }
    match plan {
        None => text += &format!("latency   {run_ms:.2} ms\nplacement every node on the CPU reference\n"),
        Some(plan) => {
            text += &format!(
                "latency   {run_ms:.2} ms, after {plan_ms:.2} ms to plan, compile and upload weights\n"
            );
            text += &format!("placement {}\n", placement(&plan));
            let (weights, arena, live) = (plan.weight_bytes, plan.arena_bytes, plan.max_live_bytes);
            let (weights, arena, live) = (bytes(weights), bytes(arena), bytes(live));
            text += &format!("memory    arena {arena}, max live {live}, weights {weights}\n");
        }
    }
    print(&text)?;
    Ok(true)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// The least, the greatest and the mean number, without NaN, and the number of NaNs. The first three are absent if no number
/// is left.
#[derive(Default)]
struct Statistics {
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
    nan: usize,
}

/// Elements that are decoded at once, as the reference's arrays take more memory than tensors. The number makes whole bytes of
/// the narrowest types.
const PIECE: usize = 1 << 16;

fn statistics(tensor: &Tensor) -> Option<Statistics> {
    let (mut statistics, mut sum, mut count) = (Statistics::default(), 0.0, 0usize);
    for piece in pieces(tensor)? {
        for value in piece?.to_f64().ok()? {
            if value.is_nan() {
                statistics.nan += 1;
                continue;
            }
            statistics.min = Some(statistics.min.map_or(value, |min| min.min(value)));
            statistics.max = Some(statistics.max.map_or(value, |max| max.max(value)));
            (sum, count) = (sum + value, count + 1);
        }
    }
    statistics.mean = (count > 0).then(|| sum / count as f64);
    Some(statistics)
}

/// The tensor's elements, piece by piece; `None` for strings.
fn pieces(tensor: &Tensor) -> Option<impl Iterator<Item = Option<Tensor>>> {
    let (dtype, bytes, count) = (tensor.dtype(), tensor.bytes(), tensor.len());
    let piece = move |start: usize| {
        let n = PIECE.min(count - start);
        let at = dtype.bytes_of(start)?;
        Tensor::from_raw(dtype, &[n], bytes[at..at + dtype.bytes_of(n)?].to_vec()).ok()
    };
    (dtype != DType::String).then(|| (0..count).step_by(PIECE).map(piece))
}

fn line(name: &str, tensor: &Tensor) -> String {
    let head = format!("{}: {}{:?}", shown(name), tensor.dtype(), tensor.shape());
    let nan = |nan: usize| if nan > 0 { format!(" NaN {nan}") } else { String::new() };
    match (statistics(tensor), tensor.strings()) {
        (_, Some(strings)) => {
            let first: Vec<String> =
                strings.iter().take(3).map(|text| format!("\"{}\"", shown(text))).collect();
            format!("{head} [{}]", first.join(", "))
        }
        (Some(Statistics { min: Some(min), max: Some(max), mean: Some(mean), nan: count }), _) => {
            // Whole numbers are printed without a point.
            let (min, max) = match tensor.dtype().is_float() {
                true => (format!("{min:.6}"), format!("{max:.6}")),
                false => (min.to_string(), max.to_string()),
            };
            format!("{head} min {min} max {max} mean {mean:.6}{}", nan(count))
        }
        (Some(Statistics { nan: count, .. }), _) => format!("{head}{}", nan(count)),
        (None, _) => head,
    }
}

fn json_of(name: &str, tensor: &Tensor) -> Value {
    let statistics = statistics(tensor);
    json!({
        "name": name,
        "dtype": tensor.dtype().name(),
        "shape": tensor.shape(),
        "min": statistics.as_ref().and_then(|s| s.min),
        "max": statistics.as_ref().and_then(|s| s.max),
        "mean": statistics.as_ref().and_then(|s| s.mean),
        "nan": statistics.as_ref().map(|s| s.nan),
    })
}

fn with_random(input: &NamedInput) -> Value {
    let mut value = json_of(&input.name, &input.tensor);
    value["random"] = input.random.into();
    value
}
