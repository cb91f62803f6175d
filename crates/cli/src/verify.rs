//! `sardonyx verify`: every node's result on a GPU is compared with the CPU reference's. `relative` and `absolute` are the
//! node's own error, on the inputs that the GPU gave it. `accumulated` is the error of the value in a run from the model's
//! inputs on.

use serde_json::json;

use super::device::{DeviceArgs, described};
use super::inputs::{InputArgs, blamed, chosen_text, tensors};
use super::model::ModelArgs;
use super::progress::Spinner;
use super::{Verdict, number, print, print_json, unsupported};
use sardonyx::{Cause, Tolerances, ValueError, Verification, shown};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sardonyx verify model.onnx                         on random inputs
  sardonyx verify model.onnx --inputs x.npz --all    on your own, and every value in the table
  sardonyx verify model.onnx --device 1 --tolerance 1e-4")]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// The greatest error of a node on the inputs that the GPU gave it, as a part of its value's greatest magnitude.
    #[arg(long, value_name = "X", default_value_t = Tolerances::default().node, value_parser = number::tolerance, allow_negative_numbers = true)]
    tolerance: f64,
    /// The greatest error of an output of a normal run, as a part of its greatest magnitude; as --tolerance if not given.
    #[arg(long, value_name = "X", value_parser = number::tolerance, allow_negative_numbers = true)]
    output_tolerance: Option<f64>,
    /// An output is no divergence if it is off only because a node that rounds, compares or chooses took the other side for
    /// an input near a tie, as in quantised models.
    #[arg(long)]
    allow_flips: bool,
    /// Show every value, in the order of the nodes, not only the worst.
    #[arg(long)]
    all: bool,
}

/// The number of rows of the table, unless all are asked for.
const WORST: usize = 20;

pub(super) fn main(args: &Args, json: bool) -> Verdict {
    let model = args.model.load()?;
    let given = args.inputs.read(&model)?;
    let device = args.device.open_gpu()?;
    let spinner = Spinner::new("planning");
    let settled = given.settle(&unsupported::session(&device, &model)?)?;
    let chosen = settled.chosen.clone();
    let inputs = settled.draw()?;
    spinner.now("comparing every node with the reference");
    let tolerances =
        Tolerances::new().node(args.tolerance).output(args.output_tolerance.unwrap_or(args.tolerance));
    let found = sardonyx::verify(&device, &model, &tensors(&inputs, "`verify`")?, tolerances)
        .map_err(|error| blamed(error, &inputs))?;
    drop(spinner);
    let divergence = found.divergence.as_ref();
    if json {
        print_json(&json!({
            "device": device.name(),
            "software": device.adapter().map(|adapter| adapter.software),
            "chosen": chosen,
            "tolerance": tolerances.node,
            "output_tolerance": tolerances.output,
            "values": found.values,
            "outputs": found.outputs,
            "fused": found.fused,
            "divergence": divergence,
            "first_divergence": found.first_divergence(),
            "look_at": divergence.map(|divergence| divergence.to_string()),
        }))?;
    } else {
        let verdict = match divergence {
            None => format!(
                "no divergence: every node is within {}, and every output within {} of its greatest magnitude",
                number::short(tolerances.node),
                number::short(tolerances.output)
            ),
            Some(divergence) => {
                let flips = divergence.cause == Cause::Flip && !args.allow_flips;
                let flips = if flips { "; --allow-flips accepts this" } else { "" };
                format!("divergence: {divergence}{flips}")
            }
        };
        let chosen = chosen_text(&chosen).map_or(String::new(), |chosen| format!("sizes     {chosen}\n"));
        print(&format!(
            "device    {}\n{chosen}\n{}\n{verdict}\n",
            described(&device),
            table(&found, args.all)
        ))?;
    }
    Ok(divergence.is_none_or(|divergence| args.allow_flips && divergence.cause == Cause::Flip))
}

fn table(found: &Verification, all: bool) -> String {
    let mut rows: Vec<&ValueError> = found.values.iter().collect();
    if !all {
        rows.sort_by(|a, b| b.relative_error.total_cmp(&a.relative_error));
        rows.truncate(WORST);
    }
    let mut text = format!("{:>11} {:>11} {:>11}  value\n", "relative", "absolute", "accumulated");
    rows.into_iter().chain(&found.fused).chain(&found.outputs).for_each(|value| text += &(row(value) + "\n"));
    if !all && found.values.len() > WORST {
        text += &format!(
            "the worst {WORST} of {} values, and the outputs; --all shows all\n",
            found.values.len()
        );
    }
    text
}

fn row(value: &ValueError) -> String {
    let ValueError {
        node,
        op,
        name,
        dtype,
        shape,
        absolute_error,
        relative_error,
        accumulated_error,
        flips,
        ..
    } = value;
    let flips = if *flips > 0 { format!(", {flips} at a tie") } else { String::new() };
    let maker = if node.is_empty() {
        "as a normal run gives it".into()
    } else {
        format!("of {} '{}'", shown(op), shown(node))
    };
    let [relative, absolute, accumulated] =
        [relative_error, absolute_error, accumulated_error].map(|error| number::short(*error));
    format!(
        "{relative:>11} {absolute:>11} {accumulated:>11}  {}: {dtype}{shape:?} {maker}{flips}",
        shown(name)
    )
}
