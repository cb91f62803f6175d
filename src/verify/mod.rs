//! Verification: the values of a device are compared with those of the CPU reference, node by node and as a whole.
//!
//! There are two questions. Whether a node is right is decided on the inputs that the device gave it: this is its *own* error.
//! Whether a value is right is decided by a run of the reference alone, from the model's inputs on: this is the *accumulated*
//! error. A model can amplify small errors, so that an output is wrong although every node is right.

mod blame;
mod errors;
mod judge;
mod report;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use crate::graph::ValueId;
use crate::ops::{Graph, Node};
use crate::reference::Values;
use crate::{Datum, Device, Error, Interrupt, Model, Result, Session, SessionOptions, Tensor, reference};
use blame::blame;
use errors::compare;
use judge::judge;

pub use report::{Cause, Divergence, Tolerances, ValueError, Verification};

/// Runs `model` on `device` node by node and in a normal run, and compares every value with the CPU reference's. If an output
/// of the normal run is off, another run keeps the values that kernels pass on, to find where the error begins.
///
/// # Errors
/// As [`Session::run`]; [`Error::Device`](crate::Error::Device) if `device` is the reference itself.
///
/// ```no_run
/// use sardonyx::{Device, Model, Tensor};
/// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x16\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
/// let model = Model::from_bytes(bytes)?;
/// let device = Device::new(Default::default())?;
/// # if device.is_reference() { return Ok(()) }
/// let x = Tensor::from_slice(&[2], &[-1.0f32, 1.0])?;
/// let found = sardonyx::verify(&device, &model, &[("x", &x)], 1e-3)?;
/// assert!(found.divergence.is_none());
/// # Ok::<(), sardonyx::Error>(())
/// ```
pub fn verify(
    device: &Device,
    model: &Model,
    inputs: &[(&str, &Tensor)],
    tolerances: impl Into<Tolerances>,
) -> Result<Verification> {
    if device.is_reference() {
        return Err(device.cannot("it is what a device is compared with; open a GPU (`Device::new`)"));
    }
    let options = SessionOptions::new().fusion(false).within(model);
    let graph = model.graph_taking(inputs);
    let made = made_values(&graph).map(|made| made.1).collect();
    let alone = Followed::new(device, graph, options, inputs, made)?;
    let normal = Session::new(device, model, SessionOptions::default())?.run_values(inputs)?;
    let normal: Vec<Option<Tensor>> = normal.into_iter().map(|(_, value)| tensor_of(value)).collect();
    conclude(&alone, &normal, tolerances.into(), || {
        let graph = model.optimized_taking(inputs)?;
        let options = SessionOptions::default().within(model);
        let session = Session::of_graph(device, graph.clone(), options.clone(), Vec::new())?;
        let ordered = session.planned(inputs)?;
        // The graph that runs may have values that this graph has not: those of the branches that planning has chosen.
        let mut handed_on = ordered.handed_on()?;
        handed_on.retain(|id| id.index() < graph.values.len());
        Followed::new(device, graph, options, inputs, handed_on)
    })
}

/// A run whose values were kept, and the reference's run of the same graph.
struct Followed {
    graph: Arc<Graph>,
    expected: Values,
    /// By [`ValueId`]; `None` where the device keeps no value.
    actual: Vec<Option<Tensor>>,
    interrupt: Interrupt,
}

impl Followed {
    fn new(
        device: &Device,
        graph: Arc<Graph>,
        options: SessionOptions,
        inputs: &[(&str, &Tensor)],
        mut keep: Vec<ValueId>,
    ) -> Result<Followed> {
        let outputs: HashSet<ValueId> = graph.outputs.iter().copied().collect();
        keep.retain(|id| !outputs.contains(id));
        let session =
            |keep: &[ValueId]| Session::of_graph(device, graph.clone(), options.clone(), keep.to_vec());
        let tensors = session(&[])?.given(inputs)?.tensors();
        let expected = reference::run(&graph, &tensors, true, device.interrupt())?;
        let run = |keep: &[ValueId]| {
            let session = session(keep)?;
            session.values(inputs)
        };
        let values = match run(&keep) {
            // What one binding does not hold is computed in parts, and need not lie anywhere as a whole.
            Err(Error::Limit { in_bytes: true, .. }) => {
                let most = device.gpu().map_or(u64::MAX, |gpu| gpu.target.max_binding);
                // An element takes four bytes, or more if its own are more.
                keep.retain(|id| {
                    expected.get(*id).is_none_or(|array| {
                        array.len() as u64 * (array.dtype.bits() as u64 / 8).max(4) <= most
                    })
                });
                run(&keep)?
            }
            other => other?,
        };
        let mut actual = vec![None; graph.values.len()];
        for (id, value) in graph.outputs.iter().chain(&keep).zip(values) {
            actual[id.index()] = tensor_of(value);
        }
        Ok(Followed { graph, expected, actual, interrupt: device.interrupt().clone() })
    }
}

/// The tensor, if the value is one: containers are not compared, but the tensors that come out of them are.
fn tensor_of(value: Datum) -> Option<Tensor> {
    match value {
        Datum::Tensor(tensor) => Some(tensor),
        _ => None,
    }
}

/// Every value that a node computes, with the node.
fn made_values(graph: &Graph) -> impl Iterator<Item = (&Node, ValueId)> {
    graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten().map(move |&id| (node, id)))
}

/// Draws conclusions from a run node by node (`alone`) and the outputs of a normal run. `fused` makes the normal run with its
/// values kept.
fn conclude(
    alone: &Followed,
    normal: &[Option<Tensor>],
    tolerances: Tolerances,
    fused: impl FnOnce() -> Result<Followed>,
) -> Result<Verification> {
    let followed = judge(alone, tolerances)?;
    let outputs = alone.graph.outputs.iter().zip(normal).filter_map(|(&id, tensor)| {
        let (expected, tensor) = (alone.expected.get(id)?, tensor.as_ref()?);
        let name = &alone.graph.value(id).name;
        let off = compare(&[expected], tensor, tolerances.output, 0.0);
        let before = followed.iter().find(|made| made.id == id).map(|made| &made.value);
        Some(off.map(|off| ValueError {
            accumulated_error: before.map_or(0.0, |made| made.accumulated_error),
            inherited_error: before.map_or(0.0, |made| made.inherited_error),
            ..off.into_value(None, name, expected)
        }))
    });
    let outputs: Vec<ValueError> = outputs.collect::<Result<_>>()?;
    let wrong = followed.iter().find(|made| !made.value.is_right_alone(tolerances));
    let off = outputs.iter().enumerate().find(|(_, output)| !output.is_right_output(tolerances));
    let (mut divergence, mut kept) = (None, Vec::new());
    if let Some(made) = wrong {
        divergence = Some(Divergence { cause: Cause::Wrong, value: made.value.clone(), output: None });
    } else if let Some((i, output)) = off {
        let fused = fused()?;
        let judged = judge(&fused, tolerances)?;
        let (cause, value) = blame(alone, &followed, &fused, &judged, (i, output), tolerances)
            .unwrap_or_else(|| (Cause::Unfollowed, output.clone()));
        divergence = Some(Divergence { cause, value, output: Some(output.clone()) });
        kept = judged.into_iter().map(|made| made.value).collect();
    }
    let values = followed.into_iter().map(|made| made.value).collect();
    Ok(Verification { tolerances, values, outputs, fused: kept, divergence })
}
