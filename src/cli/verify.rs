//! `sardonyx verify`: every node's result on a GPU against the CPU reference's. `relative` and `absolute` are a node's own
//! error, on the inputs that the GPU gave it; `accumulated` is what the errors of all nodes up to there have become.

use std::path::PathBuf;

use serde_json::json;

use super::device::DeviceArgs;
use super::inputs::{InputArgs, Unknown, named};
use super::{Outcome, print, print_json};
use crate::{Model, ValueError, Verification};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The .onnx file.
    model: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// The greatest error, as a part of a value's greatest magnitude, that is no divergence.
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    tolerance: f64,
    /// Show every value, in the order of the nodes, not only the worst.
    #[arg(long)]
    all: bool,
}

/// Rows of the table unless all are asked for.
const WORST: usize = 20;

pub(super) fn main(args: &Args, json: bool) -> Outcome {
    let model = Model::load(&args.model)?;
    let inputs = args.inputs.load(&model, Unknown::Refuse)?;
    let device = args.device.open_gpu()?;
    let found = crate::verify(&device, &model, &named(&inputs), args.tolerance)?;
    let first = found.first_divergence();
    if json {
        print_json(&json!({
            "device": device.name(),
            "tolerance": found.tolerance,
            "values": found.values,
            "outputs": found.outputs,
            "first_divergence": first,
        }))?;
    } else {
        let verdict = match first {
            None => {
                format!("no divergence: every node is within {} of its greatest magnitude", found.tolerance)
            }
            Some(value) if value.node.is_empty() => {
                format!("no node diverges, but an output of a normal run does: {}", row(value).trim_start())
            }
            Some(value) => format!("first divergence: {}", row(value).trim_start()),
        };
        print(&format!("device {}\n{}\n{verdict}\n", device.name(), table(&found, args.all)))?;
    }
    Ok(first.is_none())
}

fn table(found: &Verification, all: bool) -> String {
    let mut rows: Vec<&ValueError> = found.values.iter().collect();
    if !all {
        rows.sort_by(|a, b| b.relative_error.total_cmp(&a.relative_error));
        rows.truncate(WORST);
    }
    let mut text = format!("{:>10} {:>10} {:>11}  value\n", "relative", "absolute", "accumulated");
    rows.into_iter().chain(&found.outputs).for_each(|value| text += &(row(value) + "\n"));
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
        node, op, name, dtype, shape, absolute_error, relative_error, accumulated_error, ..
    } = value;
    let maker = if node.is_empty() { "as a normal run gives it".into() } else { format!("of {op} '{node}'") };
    format!(
        "{relative_error:>10.2e} {absolute_error:>10.2e} {accumulated_error:>11.2e}  {name}: {dtype}{shape:?} {maker}"
    )
}
