//! `sardonyx inspect`: a model's card, or the text of one of its stages.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use super::inputs::{Input, InputArgs, Unknown, named};
use super::{Failure, Outcome, bytes, listed, placement, print, print_json};
use crate::graph::NodeId;
use crate::kernels::Target;
use crate::ops::Graph;
use crate::plan::{Options, Place, Plan, Planner};
use crate::{
    Device, DeviceOptions, Error, Model, PlanSummary, Result, Select, Session, SessionOptions,
    UnsupportedNode, ValueInfo,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The .onnx file.
    model: PathBuf,
    /// Print the text of one stage on the model's way instead of the card.
    #[arg(long)]
    stage: Option<Stage>,
    /// Plan for this device; without it, for the least that a GPU must have, and no GPU is touched.
    #[arg(long, value_name = "NAME")]
    device: Option<Select>,
    #[command(flatten)]
    inputs: InputArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stage {
    /// What the file declares.
    Model,
    /// The graph as it was imported.
    Graph,
    /// The graph after the passes.
    Passes,
    /// Kernel calls in the order of dispatch.
    Program,
    /// Where each tensor lies in the arena, and when.
    Memory,
    /// The shaders.
    Wgsl,
}

pub(super) fn main(args: &Args, json: bool) -> Outcome {
    let model = Model::load(&args.model)?;
    let Some(stage) = args.stage else {
        let card = card(args, &model)?;
        match json {
            true => print_json(&json!(card))?,
            false => print(&text(&model, &card))?,
        }
        return Ok(card.unsupported.is_empty());
    };
    let text = match stage {
        Stage::Model => declarations(&model),
        Stage::Graph => model.graph().to_string(),
        Stage::Passes => model.optimized()?.to_string(),
        Stage::Program | Stage::Memory | Stage::Wgsl => {
            let (_, graph, plan) = plan(args, &model, &target(args)?.1)??;
            match stage {
                Stage::Program => plan.program.text(&graph),
                Stage::Memory => plan.memory.text(&plan.program),
                _ => plan.program.wgsl(),
            }
        }
    };
    match json {
        true => print_json(&json!({ "text": text }))?,
        false => print(&text)?,
    }
    Ok(true)
}

fn target(args: &Args) -> Result<(String, Target), Failure> {
    let floor = || ("the least that a GPU must have".to_string(), Target::FLOOR);
    let Some(select) = &args.device else { return Ok(floor()) };
    let device = Device::new(DeviceOptions { select: select.clone() })?;
    Ok(device.gpu().map_or_else(floor, |gpu| (device.name(), gpu.target.clone())))
}

/// Sizes that are tried, one after the other, for dimensions that nobody says: many models cannot do with the least.
const SIZES: [usize; 4] = [1, 32, 224, 1024];

/// Inputs, the graph that the passes made, and what was planned for them.
type Trial = (Vec<Input>, Arc<Graph>, Plan);

/// The plan for the inputs given, or for the first of the sizes that works.
fn plan(args: &Args, model: &Model, target: &Target) -> Result<Result<Trial>, Failure> {
    let planned = |inputs: Vec<Input>| {
        let graph = model.optimized_taking(&named(&inputs))?;
        let options = SessionOptions::default();
        let session = Session::of_graph(&Device::reference(), graph.clone(), options, Vec::new())?;
        let known = session.ordered(&named(&inputs))?.known();
        let plan = Planner::new(graph.clone(), target.clone(), Options::default())?.plan(&known)?;
        Ok((inputs, graph, plan))
    };
    let mut tried = planned(args.inputs.load(model, Unknown::Are(SIZES[0]))?);
    for size in &SIZES[1..] {
        match &tried {
            Err(Error::Node { .. } | Error::Limit { .. }) => {}
            Ok((_, _, plan)) if plan.program.computes_nothing() => {}
            _ => break,
        }
        // Of many dimensions, larger sizes are too many elements: the last that could be tried says why there is no plan.
        let Ok(inputs) = args.inputs.load(model, Unknown::Are(*size)) else { break };
        tried = planned(inputs);
    }
    Ok(tried)
}

/// The card, as `--json` prints it.
#[derive(Serialize)]
struct Card {
    file: String,
    producer: String,
    ir_version: i64,
    opsets: Vec<(String, i64)>,
    metadata: BTreeMap<String, String>,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    operators: BTreeMap<String, usize>,
    nodes: usize,
    constants: usize,
    constant_bytes: u64,
    unsupported: Vec<UnsupportedNode>,
    plan: Option<Planned>,
    /// Why there is no plan, if no unsupported node is why.
    plan_error: Option<String>,
}

/// What becomes of the model for given shapes.
#[derive(Serialize)]
struct Planned {
    target: String,
    shapes: Vec<(String, Vec<usize>)>,
    #[serde(flatten)]
    summary: PlanSummary,
    /// Operators of the nodes that are computed while planning.
    planned_operators: BTreeMap<String, usize>,
    /// Names of those nodes.
    planned: Vec<String>,
}

fn card(args: &Args, model: &Model) -> Result<Card, Failure> {
    let graph = model.graph();
    let constants = || graph.values.iter().filter_map(|value| value.constant.as_ref());
    let mut card = Card {
        file: args.model.display().to_string(),
        producer: model.producer().into(),
        ir_version: model.ir_version(),
        opsets: model.opsets().to_vec(),
        metadata: model.metadata().clone(),
        inputs: model.inputs().to_vec(),
        outputs: model.outputs().to_vec(),
        operators: histogram(graph.nodes.iter().map(|node| node.op_type.as_str())),
        nodes: graph.nodes.len(),
        constants: constants().count(),
        constant_bytes: constants().map(|tensor| tensor.bytes().len() as u64).sum(),
        unsupported: model.unsupported().to_vec(),
        plan: None,
        plan_error: None,
    };
    if card.unsupported.is_empty() {
        match planned(args, model)? {
            Ok(plan) => card.plan = Some(plan),
            Err(Error::Unsupported(nodes)) => card.unsupported = nodes,
            Err(error) => card.plan_error = Some(error.to_string()),
        }
    }
    Ok(card)
}

fn planned(args: &Args, model: &Model) -> Result<Result<Planned>, Failure> {
    let (target_name, target) = target(args)?;
    Ok(plan(args, model, &target)?.map(|(inputs, graph, plan)| {
        let on_device = |n: usize| plan.program.device_nodes.contains(&NodeId(n as u32));
        let hosted: Vec<_> =
            graph.nodes.iter().enumerate().filter(|(n, _)| !on_device(*n)).map(|(_, node)| node).collect();
        Planned {
            target: target_name,
            shapes: inputs.iter().map(|input| (input.name.clone(), input.tensor.shape().to_vec())).collect(),
            summary: PlanSummary::new(
                &graph,
                &plan,
                plan.program.bytes(|place| matches!(place, Place::Weight(_))),
            ),
            planned_operators: histogram(hosted.iter().map(|node| node.op_type.as_str())),
            planned: hosted.iter().map(|node| node.name.clone()).collect(),
        }
    }))
}

fn histogram<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name.to_string()).or_insert(0) += 1);
    counts
}

/// `label     Conv 26, Relu 25`, the most frequent first.
fn frequencies(label: &str, counts: &BTreeMap<String, usize>) -> String {
    let mut rows: Vec<_> = counts.iter().collect();
    rows.sort_by(|a, b| b.1.cmp(a.1));
    let rows: Vec<String> = rows.iter().map(|(name, count)| format!("{name} {count}")).collect();
    listed(label, rows.iter().map(String::as_str))
}

/// Node names listed of one operator and reason; `--json` has all.
const NAMED: usize = 12;

/// All unsupported nodes, those of one operator, opset and reason together.
fn unsupported(nodes: &[UnsupportedNode]) -> String {
    let mut groups: BTreeMap<(&str, i64, &str), Vec<&str>> = BTreeMap::new();
    for UnsupportedNode { node, op, opset, reason } in nodes {
        groups.entry((op, *opset, reason)).or_default().push(node);
    }
    let count = nodes.len();
    let mut text = format!("unsupported: {count} node{}\n", if count == 1 { "" } else { "s" });
    for ((op, opset, reason), names) in groups {
        text += &format!("  {op} {} (opset {opset}): {reason}\n", names.len());
        let more = format!("and {} more", names.len().saturating_sub(NAMED));
        let more = (names.len() > NAMED).then_some(more.as_str());
        text += &listed("", names.iter().copied().take(NAMED).chain(more));
    }
    text
}

fn declarations(model: &Model) -> String {
    let opsets = model
        .opsets()
        .iter()
        .map(|(domain, version)| format!("{} {version}", if domain.is_empty() { "ai.onnx" } else { domain }));
    let opsets = opsets.collect::<Vec<_>>().join(", ");
    let mut text = format!("format    IR {}, opsets {opsets}\n", model.ir_version());
    if !model.producer().is_empty() {
        text += &format!("producer  {}\n", model.producer());
    }
    for (key, value) in model.metadata() {
        let first = value.lines().next().unwrap_or_default();
        let more = if first.len() < value.len() || first.chars().count() > 60 { " ..." } else { "" };
        text += &format!("metadata  {key}: {}{more}\n", first.chars().take(60).collect::<String>());
    }
    model.inputs().iter().for_each(|info| text += &format!("input     {info}\n"));
    model.outputs().iter().for_each(|info| text += &format!("output    {info}\n"));
    text
}

fn text(model: &Model, card: &Card) -> String {
    let mut text = format!("file      {}\n{}", card.file, declarations(model));
    text += &format!("nodes     {}\n", card.nodes);
    text += &frequencies("operators", &card.operators);
    text += &format!("constants {}, {}\n", card.constants, bytes(card.constant_bytes));
    if !card.unsupported.is_empty() {
        text += &unsupported(&card.unsupported);
    }
    if let Some(error) = &card.plan_error {
        let tried = SIZES.map(|size| size.to_string()).join(", ");
        text += &format!("no plan   {error}\n          (sizes that are not said were tried as {tried}; ");
        text += "others: --shape NAME=1x3x224x224)\n";
    }
    if let Some(plan) = &card.plan {
        text += &plan_text(card, plan);
    }
    text
}

fn plan_text(card: &Card, plan: &Planned) -> String {
    let Planned { target, shapes, summary, planned_operators, .. } = plan;
    let shapes: Vec<String> = shapes.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
    let mut text = listed(
        "planned",
        std::iter::once(format!("for {target}").as_str()).chain(shapes.iter().map(String::as_str)),
    );
    text += &format!("placement {}\n", placement(summary));
    if summary.planned_nodes > 0 {
        text += &frequencies("on host", planned_operators);
    }
    if card.nodes > summary.nodes {
        text += &format!(
            "          {} nodes were folded, merged or dropped before\n",
            card.nodes - summary.nodes
        );
    }
    text += &frequencies("kernels", &summary.kernels);
    let (arena, live) = (summary.arena_bytes, summary.max_live_bytes);
    let ratio = arena as f64 / live.max(1) as f64;
    text + &format!(
        "memory    weights {}, arena {} = {ratio:.3} of max live {}; without reuse {}\n",
        bytes(summary.weight_bytes),
        bytes(arena),
        bytes(live),
        bytes(summary.without_reuse_bytes)
    )
}
