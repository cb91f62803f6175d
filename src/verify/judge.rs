//! Compares every value that a run passes on with what the reference computes from the inputs of its kernel.

use std::sync::Arc;

use super::Followed;
use super::errors::{compare, unit};
use super::report::{Tolerances, ValueError};
use crate::array::{Array, Numbers};
use crate::graph::ValueId;
use crate::ops::Node;
use crate::ops::case::splitmix;
use crate::{DType, Error, Result, reference};

/// A value that the device computed.
pub(super) struct Made {
    pub(super) id: ValueId,
    pub(super) value: ValueError,
    /// Whether its node, or a node of the same kernel, rounds, compares or chooses.
    pub(super) steps: bool,
}

/// A value that the reference computes from what the device passed on, and the two values that it can be where roundings
/// before it go up, or go down.
type Worlds = [Option<Arc<Array>>; 3];

/// Compares each value of the device with what the reference computes from the inputs of its kernel, and with the reference's
/// own run.
pub(super) fn judge(run: &Followed, tolerances: Tolerances) -> Result<Vec<Made>> {
    let Followed { graph, expected, actual, interrupt } = run;
    let given = |id: usize| expected.shared(ValueId(id as u32));
    let mut worlds: Vec<Worlds> =
        (0..graph.values.len()).map(|id| [given(id), given(id), given(id)]).collect();
    let mut state = vec![State::default(); graph.values.len()];
    let mut all = Vec::new();
    for node in &graph.nodes {
        interrupt.check()?;
        let inputs = || node.inputs.iter().flatten();
        let exact = inputs().all(|id| !state[id.index()].inner);
        let stepped = inputs().any(|id| state[id.index()].inner && state[id.index()].steps);
        let inherited = inputs().map(|id| state[id.index()].error).fold(0.0, f64::max);
        let results = results(node, &worlds, exact)?;
        for (i, id) in node.outputs.iter().enumerate() {
            let Some(id) = *id else { continue };
            let Some(expected) = expected.get(id) else { continue };
            let steps = stepped || is_step(node, i, &worlds, expected.dtype);
            // If the reference refuses a node for its inputs, the inputs are wrong themselves.
            let own: Vec<Arc<Array>> = results.iter().filter_map(|result| result.get(i).cloned()).collect();
            let Some(tensor) = &actual[id.index()] else {
                for ((world, own), sign) in worlds[id.index()].iter_mut().zip(own).zip([0.0, 1.0, -1.0]) {
                    *world = Some(if sign == 0.0 { own } else { disturbed(&own, id, sign) });
                }
                state[id.index()] = State { inner: true, steps, error: inherited };
                continue;
            };
            let own: Vec<&Array> = own.iter().map(|own| own.as_ref()).collect();
            let own = if own.is_empty() { vec![expected] } else { own };
            let accumulated = compare(&[expected], tensor, tolerances.output, 0.0)?;
            // A step takes exactly the other side of a tie; the effect of a small error may be in proportion to it.
            let beyond = if steps { 0.0 } else { BEYOND };
            let value = ValueError {
                inherited_error: inherited,
                accumulated_error: accumulated.relative,
                elements_off: accumulated.beyond,
                ..compare(&own, tensor, tolerances.node, beyond)?.into_value(
                    Some(node),
                    &graph.value(id).name,
                    own[0],
                )
            };
            state[id.index()] = State { inner: false, steps, error: value.accumulated_error };
            if let Ok(array) = Array::from_tensor(tensor) {
                let array = Arc::new(array);
                worlds[id.index()] = [Some(array.clone()), Some(array.clone()), Some(array)];
            }
            all.push(Made { id, value, steps });
        }
    }
    Ok(all)
}

/// What is known of a value on the way through the graph.
#[derive(Clone, Copy, Default)]
struct State {
    /// Whether the value stays inside of a kernel, so that the device passes nothing of it on.
    inner: bool,
    /// Whether a node of that kernel rounds, compares or chooses.
    steps: bool,
    /// The accumulated error of the values that the device passed on.
    error: f64,
}

/// The results of a node on the inputs of each world; none where the reference refuses these inputs.
fn results(node: &Node, worlds: &[Worlds], exact: bool) -> Result<[Vec<Arc<Array>>; 3]> {
    let held = |world: usize| -> Vec<Option<Arc<Array>>> {
        node.inputs.iter().map(|id| id.and_then(|id| worlds[id.index()][world].clone())).collect()
    };
    let run = |inputs: &[Option<Arc<Array>>]| match reference::node(node, inputs) {
        Ok(arrays) => Ok(arrays.into_iter().map(Arc::new).collect()),
        Err(lack @ Error::OutOfMemory { .. }) => Err(lack),
        Err(_) => Ok(Vec::new()),
    };
    let base = held(0);
    let first: Vec<Arc<Array>> = run(&base)?;
    let other = |world: usize, sign: f64| {
        let mut inputs = held(world);
        let shifted = shift(node, &mut inputs, exact, sign);
        let same = |(a, b): (&Option<Arc<Array>>, &Option<Arc<Array>>)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        if !shifted && inputs.iter().zip(&base).all(same) { Ok(first.clone()) } else { run(&inputs) }
    };
    let (up, down) = (other(1, 1.0)?, other(2, -1.0)?);
    Ok([first, up, down])
}

/// The error that a kernel may have where it rounds, as a share of an element: a product and a division of float32 (of 2.5
/// units in the last place, as WGSL allows).
const ROUNDING: f64 = 1.0 / (1 << 20) as f64;

/// The same error where a kernel computes what it rounds, as a share of the greatest magnitude: sums of some thousand
/// products.
const SUM: f64 = 1.0 / (1 << 16) as f64;

/// How far outside of the disturbed worlds a value may be, as a multiple of their distance. They are two of all the results
/// that roundings can have, and each is disturbed by less than the error of drivers' approximations of functions (some 1e-5).
/// Eight times `SUM` is an eighth of the usual tolerance.
const BEYOND: f64 = 8.0;

/// A value inside of a kernel, with each element moved up or down, at random, by the error that its computation may have.
fn disturbed(array: &Arc<Array>, id: ValueId, sign: f64) -> Arc<Array> {
    let Numbers::Float(values) = &array.data else { return array.clone() };
    let (mut state, by) = (u64::from(id.0), sign * SUM.max(unit(array.dtype)));
    let moved =
        values.iter().map(|x| if splitmix(&mut state) & 1 == 0 { x * (1.0 + by) } else { x * (1.0 - by) });
    Arc::new(Array::float(array.dtype, &array.shape, moved.collect()))
}

/// The operator's name without its domain.
fn operator(node: &Node) -> &str {
    node.op_type.rsplit('.').next().unwrap_or_default()
}

/// Moves the inputs of a node that rounds by the error that a kernel may have in computing them. Returns whether any moved.
fn shift(node: &Node, inputs: &mut [Option<Arc<Array>>], exact: bool, sign: f64) -> bool {
    let scale = |by: f64| move |x: f64| x * (1.0 + sign * by);
    let moved = match operator(node) {
        // The scale of the result, by which an integer sum is divided.
        "QLinearConv" | "QLinearMatMul" | "QLinearAdd" | "QLinearMul" => 6,
        _ => 0,
    };
    let Some(Some(array)) = inputs.get_mut(moved) else { return false };
    let Numbers::Float(values) = &array.data else { return false };
    let largest = values.iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()));
    let rounding = ROUNDING.max(unit(array.dtype));
    let moved = match operator(node) {
        _ if moved > 0 => array.map(scale(rounding), |x| x),
        "QuantizeLinear" if exact => array.map(scale(rounding), |x| x),
        // Its scale follows from the greatest magnitude, which is not moved.
        "DynamicQuantizeLinear" if exact => {
            array.map(|x| if x.abs() == largest { x } else { scale(rounding)(x) }, |x| x)
        }
        _ if exact || !has_steps(node) => return false,
        _ => array.map(|x| x + sign * SUM.max(unit(array.dtype)) * largest, |x| x),
    };
    *array = Arc::new(moved);
    true
}

/// Whether the operator's results jump although they are fractions, or have the type of its operands.
fn has_steps(node: &Node) -> bool {
    let steps = [
        "Round",
        "Floor",
        "Ceil",
        "Sign",
        "Mod",
        "Hardmax",
        "Shrink",
        "ThresholdedRelu",
        "QuantizeLinear",
        "DynamicQuantizeLinear",
        "Cast",
        "CastLike",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
    ];
    let name = operator(node);
    steps.contains(&name) || name.starts_with("QLinear")
}

/// Whether output `i` jumps where an input moves by little: whole numbers, truth values and indices that are computed from
/// fractions do.
fn is_step(node: &Node, i: usize, worlds: &[Worlds], dtype: DType) -> bool {
    let float = |id: &ValueId| worlds[id.index()][0].as_ref().is_some_and(|array| array.dtype.is_float());
    let from_floats = node.inputs.first().copied().flatten().is_some_and(|id| float(&id));
    match operator(node) {
        "Cast" | "CastLike" => from_floats && (!dtype.is_float() || dtype.bits() <= 8),
        "DynamicQuantizeLinear" => i != 1,
        _ => has_steps(node) || (from_floats && !dtype.is_float()),
    }
}
