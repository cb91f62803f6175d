//! `sardonyx run`: one run of a model and one more to see how long it takes when everything is there; arrays in and out.

use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::device::DeviceArgs;
use super::inputs::{InputArgs, NamedInput, named};
use super::model::ModelArgs;
use super::outputs::{Findings, OutputArgs, json_of, line};
use super::progress::{self, Preparation, Spinner};
use super::{Failure, Verdict, bytes, complain, numpy, placement, print, print_json, unsupported};
use sardonyx::{Device, Outputs, PlanSummary};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sardonyx run model.onnx                                            random inputs of sensible sizes
  sardonyx run model.onnx --dim batch=2 --dim sequence=64            sizes by the model's names
  sardonyx run model.onnx --inputs x.npz --outputs y.npz             arrays in and out
  sardonyx run resnet.onnx --image x=cat.jpg --top 5 --labels f.txt  a picture, and the likeliest classes
  sardonyx run model.onnx --inputs x.npz --expect y.npz --tolerance 1e-4")]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    outputs: OutputArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Run once, and leave out the second run, which shows the time without planning and compilation.
    #[arg(long)]
    once: bool,
}

/// How long everything took, in milliseconds.
#[derive(Serialize)]
struct Times {
    /// The passes, and the choice of sizes, which plans.
    plan_ms: f64,
    /// The plan for the run, compilation, the upload of weights, and the memory of a run.
    prepare_ms: f64,
    #[serde(flatten)]
    preparation: Preparation,
    /// The first run, after all this.
    run_ms: f64,
    /// The second run.
    again_ms: Option<f64>,
}

impl Times {
    fn first_ms(&self) -> f64 {
        self.plan_ms + self.prepare_ms + self.run_ms
    }
}

/// What a run did.
struct Ran {
    device: Device,
    inputs: Vec<NamedInput>,
    chosen: Option<String>,
    outputs: Outputs,
    plan: Option<PlanSummary>,
    times: Times,
}

pub(super) fn main(args: &Args, json: bool) -> Verdict {
    progress::listen();
    let wanted = args.outputs.read()?;
    let ran = run(args)?;
    if let Some(path) = &args.outputs.outputs {
        numpy::write_npz(path, &ran.outputs)?;
    }
    let findings = wanted.look(ran.inputs.iter().map(|input| &input.tensor), &ran.outputs)?;
    match json {
        true => print_json(&json_text(&ran, &findings))?,
        false => print(&text(&ran, &findings))?,
    }
    if let Some(warning) = &findings.warning {
        complain(&format!("warning: {warning}"));
    }
    Ok(findings.good)
}

fn run(args: &Args) -> Result<Ran, Failure> {
    let model = args.model.load()?;
    let device = args.device.open()?;
    let spinner = Spinner::new("planning");
    let start = Instant::now();
    let session = unsupported::session(&device, &model)?;
    let (inputs, chosen) = args.inputs.load(&model, &session)?;
    let plan_ms = milliseconds(start);
    spinner.now("compiling and uploading");
    let start = Instant::now();
    session.prepare(&named(&inputs))?;
    let prepare_ms = milliseconds(start);
    let plan = if device.is_reference() { None } else { Some(session.plan(&named(&inputs))?) };
    spinner.now("running");
    let start = Instant::now();
    let outputs = session.run(&named(&inputs))?;
    let run_ms = milliseconds(start);
    let mut again_ms = None;
    // Nothing is prepared on the reference, which is slow.
    if !args.once && !device.is_reference() {
        let start = Instant::now();
        session.run(&named(&inputs))?;
        again_ms = Some(milliseconds(start));
    }
    let times = Times { plan_ms, prepare_ms, preparation: progress::preparation(), run_ms, again_ms };
    Ok(Ran { device, inputs, chosen, outputs, plan, times })
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn json_text(ran: &Ran, findings: &Findings) -> Value {
    let with_random = |input: &NamedInput| {
        let mut value = json_of(&input.name, &input.tensor);
        value["random"] = input.random.into();
        value
    };
    let mut value = json!({
        "device": ran.device.name(),
        "inputs": ran.inputs.iter().map(with_random).collect::<Vec<_>>(),
        "outputs": ran.outputs.iter().map(|(name, tensor)| json_of(name, tensor)).collect::<Vec<_>>(),
        "first_ms": ran.times.first_ms(),
        "plan": ran.plan,
        "warning": findings.warning,
        "good": findings.good,
    });
    for more in [json!(ran.times), findings.json.clone()] {
        if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
            value.extend(more);
        }
    }
    value
}

fn text(ran: &Ran, findings: &Findings) -> String {
    let Ran { device, inputs, chosen, outputs, plan, times } = ran;
    let software = device.adapter().is_some_and(|adapter| adapter.software);
    let mut text = format!("device    {}{}\n", device.name(), if software { ", software" } else { "" });
    for NamedInput { name, tensor, random } in inputs {
        text += &format!("input     {}{}\n", line(name, tensor), if *random { " (random)" } else { "" });
    }
    if let Some(chosen) = chosen {
        text += &format!("sizes     {chosen}\n");
    }
    for (name, tensor) in outputs {
        text += &format!("output    {}\n", line(name, tensor));
    }
    text += &findings.text;
    match plan {
        None => {
            text += &format!("run       {:.2} ms\nplacement every node on the CPU reference\n", times.run_ms)
        }
        Some(plan) => {
            let Preparation { planned_ms, pipelines, compile_ms, uploaded_bytes, upload_ms } =
                times.preparation;
            text += &format!(
                "first run {:.1} ms: planning {:.1}, compiling {pipelines} kernels {compile_ms:.1}, uploading {} {upload_ms:.1}, running {:.1}\n",
                times.first_ms(),
                times.plan_ms + planned_ms,
                bytes(uploaded_bytes as u64),
                times.run_ms
            );
            text += &times.again_ms.map_or(String::new(), |again| format!("again     {again:.2} ms\n"));
            text += &format!("placement {}\n", placement(plan));
            let (weights, arena, live) = (plan.weight_bytes, plan.arena_bytes, plan.max_live_bytes);
            let (weights, arena, live) = (bytes(weights), bytes(arena), bytes(live));
            text += &format!("memory    arena {arena}, max live {live}, weights {weights}\n");
        }
    }
    text
}
