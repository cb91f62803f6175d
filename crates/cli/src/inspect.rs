//! `sardonyx inspect`: a model's card, or the text of one of its stages.

use std::collections::BTreeMap;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap_complete::engine::ArgValueCandidates;
use sardonyx::{
    Device, DeviceOptions, Error, Explanation, Model, ModelSummary, PlanSummary, Select, Session,
    SessionOptions, Stage, UnsupportedNode, ValueInfo, shown,
};
use serde::Serialize;
use serde_json::json;

use super::inputs::{Chosen, GivenInputs, InputArgs, chosen_text, tensors};
use super::model::ModelArgs;
use super::progress::Spinner;
use super::{
    Failure, Verdict, bytes, completions, counted, host_nodes, listed, number, placement, print, print_json,
    sync_points, unsupported,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sardonyx inspect model.onnx                            the card; exits with 1 if nodes are unsupported
  sardonyx inspect model.onnx --device 0 --dim batch=8   planned for an adapter, and for a batch
  sardonyx inspect model.onnx --stage program            the kernel calls that become of it
  sardonyx inspect model.onnx --why Relu_3               the rule for which a node was not fused")]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Print the text of one stage on the model's way instead of the card.
    #[arg(long, value_parser = stages())]
    stage: Option<Stage>,
    /// Print why a node (as `--stage passes` names it) is or is not fused, a view, or in place, with the rule that decided.
    #[arg(long, value_name = "NODE", conflicts_with = "stage")]
    why: Option<String>,
    /// Plan for this device; without it, for the least that a GPU must have, and no GPU is touched.
    #[arg(long, value_name = "NAME", value_parser = super::device::select, help_heading = super::device::HEADING, add = ArgValueCandidates::new(completions::devices))]
    device: Option<Select>,
    #[command(flatten)]
    inputs: InputArgs,
}

fn stages() -> impl TypedValueParser<Value = Stage> {
    PossibleValuesParser::new(Stage::ALL.iter().map(|stage| stage.name()))
        .try_map(|name| name.parse::<Stage>())
}

pub(super) fn main(args: &Args, json: bool) -> Verdict {
    let model = args.model.load()?;
    if let Some(node) = &args.why {
        let explanation = why(args, &model, node)?;
        match json {
            true => print_json(&json!(explanation))?,
            false => print(&explanation.to_string())?,
        }
        return Ok(true);
    }
    let Some(stage) = args.stage else {
        let spinner = Spinner::new("planning");
        let card = card(args, &model)?;
        drop(spinner);
        match json {
            true => print_json(&json!(card))?,
            false => print(&text(&card))?,
        }
        return Ok(card.unsupported.is_empty());
    };
    match stage {
        Stage::Model | Stage::Graph | Stage::Passes if json => print_json(&json!(model.report(stage)?))?,
        Stage::Model | Stage::Graph | Stage::Passes => print(&model.explain(stage)?)?,
        _ => {
            let given = args.inputs.read(&model)?;
            let session = unsupported::session(&device(args)?.1, &model)?;
            let inputs = given.settle(&session)?.draw()?;
            match json {
                true => print_json(&json!(session.report(stage, &tensors(&inputs, "this stage")?)?))?,
                false => print(&session.explain(stage, &tensors(&inputs, "this stage")?)?)?,
            }
        }
    }
    Ok(true)
}

/// The device to plan for, and its name in the card.
fn device(args: &Args) -> Result<(String, Device), Failure> {
    let floor = || ("the least that a GPU must have".to_string(), Device::noop());
    let Some(select) = &args.device else { return Ok(floor()) };
    let device = Device::new(DeviceOptions::new().select(select.clone()))?;
    Ok(if device.is_reference() { floor() } else { (device.name(), device) })
}

fn why(args: &Args, model: &Model, node: &str) -> Result<Explanation, Failure> {
    let given = args.inputs.read(model)?;
    let session = unsupported::session(&device(args)?.1, model)?;
    let inputs = given.settle(&session)?.draw()?;
    Ok(session.why(node, &tensors(&inputs, "`--why`")?)?)
}

/// The card, as `--json` prints it.
#[derive(Serialize)]
struct Card {
    file: String,
    /// The declarations, as text.
    #[serde(skip)]
    declarations: String,
    producer: String,
    ir_version: i64,
    opsets: Vec<(String, i64)>,
    metadata: BTreeMap<String, String>,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    #[serde(flatten)]
    summary: ModelSummary,
    unsupported: Vec<UnsupportedNode>,
    plan: Option<Planned>,
    /// Why there is no plan, unless an unsupported node is the reason.
    plan_error: Option<String>,
}

/// The plan of the model for given shapes.
#[derive(Serialize)]
struct Planned {
    target: String,
    shapes: Vec<(String, Vec<usize>)>,
    /// The sizes that nobody said.
    chosen: Vec<Chosen>,
    #[serde(flatten)]
    summary: PlanSummary,
}

fn card(args: &Args, model: &Model) -> Result<Card, Failure> {
    let mut card = Card {
        file: args.model.path().display().to_string(),
        declarations: model.explain(Stage::Model)?,
        producer: model.producer().into(),
        ir_version: model.ir_version(),
        opsets: model.opsets().iter().map(|(domain, version)| (domain_name(domain), *version)).collect(),
        metadata: model.metadata().clone(),
        inputs: model.inputs().to_vec(),
        outputs: model.outputs().to_vec(),
        summary: model.summary(),
        unsupported: model.unsupported().to_vec(),
        plan: None,
        plan_error: None,
    };
    if card.unsupported.is_empty() {
        let given = args.inputs.read(model)?;
        match planned(args, model, &given) {
            Ok(plan) => card.plan = Some(plan),
            Err(NoPlan::Unsupported(nodes)) => card.unsupported = nodes,
            // What the command line says is wrong then, as it is for a run.
            Err(NoPlan::Refused(failure)) if given.says_sizes => return Err(failure),
            Err(NoPlan::Refused(failure)) => card.plan_error = Some(failure.to_string()),
        }
    }
    Ok(card)
}

fn domain_name(domain: &str) -> String {
    if domain.is_empty() { "ai.onnx".into() } else { domain.into() }
}

/// Why there is no plan.
enum NoPlan {
    Unsupported(Vec<UnsupportedNode>),
    Refused(Failure),
}

impl<T: Into<Failure>> From<T> for NoPlan {
    fn from(failure: T) -> NoPlan {
        NoPlan::Refused(failure.into())
    }
}

fn planned(args: &Args, model: &Model, given: &GivenInputs) -> Result<Planned, NoPlan> {
    let (target, device) = device(args)?;
    let refused = |error| match error {
        Error::Unsupported(nodes) => NoPlan::Unsupported(nodes),
        error => error.into(),
    };
    let session = Session::new(&device, model, SessionOptions::default()).map_err(refused)?;
    let settled = given.settle(&session)?;
    let summary = match session.plan(&settled.known()?) {
        Err(Error::Unsupported(nodes)) => return Err(NoPlan::Unsupported(nodes)),
        planned => planned.map_err(|error| settled.advised(error))?,
    };
    Ok(Planned { target, shapes: settled.shapes(), chosen: settled.chosen.clone(), summary })
}

/// `label     Conv 26, Relu 25`, the most frequent first.
fn frequencies(label: &str, counts: &BTreeMap<String, usize>) -> String {
    let mut rows: Vec<_> = counts.iter().collect();
    rows.sort_by(|a, b| b.1.cmp(a.1));
    let rows: Vec<String> = rows.iter().map(|(name, count)| format!("{name} {count}")).collect();
    listed(label, rows.iter().map(String::as_str))
}

fn text(card: &Card) -> String {
    let ModelSummary { nodes, operators, constants, constant_bytes, .. } = &card.summary;
    let mut text = format!("file      {}\n{}", shown(&card.file), card.declarations);
    text += &format!("nodes     {nodes}\n");
    text += &frequencies("operators", operators);
    text += &format!("constants {constants}, {}\n", bytes(*constant_bytes));
    if !card.unsupported.is_empty() {
        text += &unsupported::text(&card.unsupported);
    }
    if let Some(error) = &card.plan_error {
        text += &format!("no plan   {error}\n");
    }
    if let Some(plan) = &card.plan {
        text += &plan_text(card, plan);
    }
    text
}

fn plan_text(card: &Card, plan: &Planned) -> String {
    let Planned { target, shapes, chosen, summary } = plan;
    let shapes: Vec<String> =
        shapes.iter().map(|(name, shape)| format!("{} {shape:?}", shown(name))).collect();
    let mut text = listed(
        "planned",
        std::iter::once(format!("for {target}").as_str()).chain(shapes.iter().map(String::as_str)),
    );
    text += &chosen_text(chosen).map_or(String::new(), |chosen| format!("sizes     {chosen}\n"));
    text += &format!("placement {}\n", placement(summary));
    text += &sync_points(summary);
    text += &host_nodes(summary);
    if summary.planned_nodes > 0 {
        text += &frequencies("on host", &summary.planned_operators);
    }
    if card.summary.nodes > summary.nodes {
        text += &format!(
            "          {} folded, merged or dropped before\n",
            counted(card.summary.nodes - summary.nodes, "node")
        );
    }
    text += &frequencies("kernels", &summary.kernels);
    let (arena, live) = (summary.arena_bytes, summary.max_live_bytes);
    let ratio = number::short((arena as f64 / live.max(1) as f64 * 1e3).round() / 1e3);
    text + &format!(
        "memory    weights {}, arena {} = {ratio} of max live {}; without reuse {}; inputs and outputs have their own\n",
        bytes(summary.weight_bytes),
        bytes(arena),
        bytes(live),
        bytes(summary.without_reuse_bytes)
    )
}
