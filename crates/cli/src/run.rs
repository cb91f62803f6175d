//! `sardonyx run`: one run of a model and one more to see how long it takes when everything is there; arrays in and out.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::device::{DeviceArgs, described};
use super::inputs::{Chosen, GivenInputs, InputArgs, NamedInput, blamed, chosen_text, named};
use super::model::ModelArgs;
use super::outputs::{Findings, OutputArgs, json_of, line};
use super::progress::{self, Preparation, Spinner};
use super::{
    Failure, Verdict, bytes, complain, containers, counted, host_nodes, number, numpy, placement, print,
    print_json, unsupported,
};
use sardonyx::{Datum, Device, Model, Outputs, PlanSummary, shown};

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
    /// The inputs, from files or random.
    inputs_ms: f64,
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
    /// The first run, with everything that it needs but the inputs.
    fn first_ms(&self) -> f64 {
        self.plan_ms + self.prepare_ms + self.run_ms
    }

    /// The parts of the first run.
    fn parts(&self) -> String {
        let Preparation { planned_ms, pipelines, compile_ms, uploaded_bytes, upload_ms } = self.preparation;
        let rest = self.prepare_ms - planned_ms - compile_ms - upload_ms;
        let ms = number::milliseconds;
        format!(
            "planning {}, compiling {} {}, uploading {} {}, other preparation {}, running {}",
            ms(self.plan_ms + planned_ms),
            counted(pipelines as usize, "kernel"),
            ms(compile_ms),
            bytes(uploaded_bytes),
            ms(upload_ms),
            ms(rest.max(0.0)),
            ms(self.run_ms)
        )
    }
}

/// What a run did.
struct Ran {
    device: Device,
    inputs: Vec<NamedInput>,
    chosen: Vec<Chosen>,
    outputs: Outputs,
    /// The outputs that are no tensors.
    containers: Outputs<Datum>,
    plan: Option<PlanSummary>,
    times: Times,
}

pub(super) fn main(args: &Args, json: bool) -> Verdict {
    progress::listen();
    let model = args.model.load()?;
    let wanted = args.outputs.read(&model)?;
    let given = args.inputs.read(&model)?;
    let ran = run(args, &model, &given)?;
    if let Some(path) = &args.outputs.outputs {
        numpy::write_npz(path, &ran.outputs, &containers::arrays(&ran.containers)?)?;
    }
    let findings = wanted.look(ran.inputs.iter().filter_map(|input| input.value.tensor()), &ran.outputs)?;
    let written = args.outputs.outputs.as_deref();
    match json {
        true => print_json(&json_text(&ran, &findings, written))?,
        false => print(&text(&ran, &findings, written))?,
    }
    if let Some(warning) = &findings.warning {
        complain(&format!("{}: {warning}", if findings.is_failure { "failed" } else { "warning" }));
    }
    Ok(findings.good)
}

fn run(args: &Args, model: &Model, given: &GivenInputs) -> Result<Ran, Failure> {
    let device = args.device.open()?;
    let spinner = Spinner::new("planning");
    let start = Instant::now();
    let session = unsupported::session(&device, model)?;
    let settled = given.settle(&session)?;
    let plan_ms = milliseconds(start);
    let chosen = settled.chosen.clone();
    spinner.now("making the inputs");
    let start = Instant::now();
    let inputs = settled.draw()?;
    let inputs_ms = given.read_ms + milliseconds(start);
    let blamed = |error| blamed(error, &inputs);
    spinner.now(if device.is_reference() { "preparing" } else { "compiling and uploading" });
    let start = Instant::now();
    session.prepare(&named(&inputs)).map_err(blamed)?;
    let prepare_ms = milliseconds(start);
    let plan = match device.is_reference() {
        true => None,
        false => Some(session.plan(&named(&inputs)).map_err(blamed)?),
    };
    spinner.now("running");
    let start = Instant::now();
    let (outputs, containers) = session.run_values(&named(&inputs)).map_err(blamed)?.separated();
    let run_ms = milliseconds(start);
    let mut again_ms = None;
    // Nothing is prepared on the reference, which is slow.
    if !args.once && !device.is_reference() {
        let start = Instant::now();
        session.run_values(&named(&inputs))?;
        again_ms = Some(milliseconds(start));
    }
    let times =
        Times { inputs_ms, plan_ms, prepare_ms, preparation: progress::preparation(), run_ms, again_ms };
    Ok(Ran { device, inputs, chosen, outputs, containers, plan, times })
}

fn milliseconds(since: Instant) -> f64 {
    number::rounded(since.elapsed().as_secs_f64() * 1e3)
}

fn json_text(ran: &Ran, findings: &Findings, written: Option<&Path>) -> Value {
    let with_random = |input: &NamedInput| {
        let mut value = containers::json_of(&input.name, &input.value);
        value["random"] = input.origin.is_random().into();
        value["from"] = input.origin.text().into();
        value
    };
    let mut value = json!({
        "device": ran.device.name(),
        "software": ran.device.adapter().map(|adapter| adapter.software),
        "chosen": ran.chosen,
        "inputs": ran.inputs.iter().map(with_random).collect::<Vec<_>>(),
        "outputs": ran.outputs.iter().map(|(name, tensor)| json_of(name, tensor)).collect::<Vec<_>>(),
        "containers": ran.containers.iter().map(|(name, value)| containers::json_of(name, value)).collect::<Vec<_>>(),
        "outputs_file": written.map(|path| path.to_string_lossy()),
        "first_ms": number::rounded(ran.times.first_ms()),
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

fn text(ran: &Ran, findings: &Findings, written: Option<&Path>) -> String {
    let Ran { device, inputs, chosen, outputs, containers, plan, times } = ran;
    let mut text = format!("device    {}\n", described(device));
    for NamedInput { name, value, origin } in inputs {
        let from = origin.text().map_or(String::new(), |from| format!(" ({from})"));
        let line = value.tensor().map_or_else(|| containers::line(name, value), |tensor| line(name, tensor));
        text += &format!("input     {line}{from}\n");
    }
    if let Some(chosen) = chosen_text(chosen) {
        text += &format!("sizes     {chosen}\n");
    }
    for (name, tensor) in outputs {
        text += &format!("output    {}\n", line(name, tensor));
    }
    for (name, value) in containers {
        text += &format!("output    {}\n", containers::line(name, value));
    }
    if let Some(path) = written {
        text += &format!("written   {}\n", shown(&path.to_string_lossy()));
    }
    text += &findings.text;
    match plan {
        None => {
            let ms = number::milliseconds(times.run_ms);
            text += &format!("run       {ms} ms\nplacement every node on the CPU reference\n")
        }
        Some(plan) => {
            let ms = number::milliseconds;
            text += &format!("first run {} ms: {}\n", ms(times.first_ms()), times.parts());
            text += &times.again_ms.map_or(String::new(), |again| format!("again     {} ms\n", ms(again)));
            text += &format!("placement {}\n", placement(plan));
            text += &host_nodes(plan);
            let (weights, arena, live) = (plan.weight_bytes, plan.arena_bytes, plan.max_live_bytes);
            let (weights, arena, live) = (bytes(weights), bytes(arena), bytes(live));
            text += &format!(
                "memory    weights {weights}, arena {arena}, max live {live}; inputs and outputs have their own\n"
            );
        }
    }
    text
}
