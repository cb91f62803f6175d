//! Verification: the values of a device are compared with those of the CPU reference, node by node and as a whole.
//!
//! There are two questions. Whether a node is right is decided on the inputs that the device gave it: this is its *own* error.
//! Whether a value is right is decided by a run of the reference alone, from the model's inputs on: this is the *accumulated*
//! error. A model can amplify small errors, so that an output is wrong although every node is right.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::array::{Array, Numbers};
use crate::graph::ValueId;
use crate::ops::case::splitmix;
use crate::ops::{Graph, Node};
use crate::reference::{self, Values};
use crate::{DType, Device, Model, Result, Session, SessionOptions, Tensor};

/// The greatest errors that are no divergence, as shares of a value's greatest magnitude.
///
/// Both are 1e-3. The errors of float32 sums in another order, and of drivers' approximations of functions, are some ten times
/// smaller for one node, and still below 1e-3 for tens of nodes together. A wrong element is off by as much as its own
/// magnitude.
///
/// ```
/// use sardonyx::Tolerances;
/// let tolerances = Tolerances::new().output(1e-2);
/// assert_eq!(Tolerances::from(1e-3), Tolerances::new());
/// # assert!(tolerances.node < tolerances.output);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Tolerances {
    /// For a node's value, on the inputs that the device gave the node.
    pub node: f64,
    /// For an output of a normal run, from the model's inputs on.
    pub output: f64,
}

impl Default for Tolerances {
    fn default() -> Tolerances {
        Tolerances { node: 1e-3, output: 1e-3 }
    }
}

impl Tolerances {
    /// 1e-3 for nodes and for outputs.
    pub fn new() -> Tolerances {
        Tolerances::default()
    }

    /// Sets the greatest error of a node's value, on the inputs that the device gave the node.
    pub fn node(self, node: f64) -> Tolerances {
        Tolerances { node, ..self }
    }

    /// Sets the greatest error of an output of a normal run, from the model's inputs on.
    pub fn output(self, output: f64) -> Tolerances {
        Tolerances { output, ..self }
    }
}

impl From<f64> for Tolerances {
    fn from(both: f64) -> Tolerances {
        Tolerances { node: both, output: both }
    }
}

/// How far one value of a model is from the reference's.
///
/// ```no_run
/// # fn f(found: &sardonyx::Verification) {
/// for value in &found.values {
///     println!("{} {}: {:.1e}", value.op, value.name, value.relative_error);
/// }
/// # }
/// ```
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct ValueError {
    /// The node that computes the value; empty for an output of a normal run.
    pub node: String,
    /// The node's operator.
    pub op: String,
    /// The value's name.
    pub name: String,
    /// The reference's element type.
    pub dtype: DType,
    /// The reference's shape.
    pub shape: Vec<usize>,
    /// The greatest difference between two elements. It is infinite where one is NaN or infinite and the other is not, or
    /// where dtype or shape differ. For the value of a node, the reference computes it from the inputs that the device gave
    /// the node, so that only the node's own error counts. For an output of a normal run, the reference starts from the
    /// model's inputs.
    pub absolute_error: f64,
    /// `absolute_error` as a share of the reference's greatest magnitude (of at least 1e-6).
    pub relative_error: f64,
    /// Elements that a quantisation rounded to the other side of a tie, which was as near as float32 can tell: this is no
    /// error.
    pub flips: usize,
    /// The greatest accumulated error of the node's inputs.
    pub inherited_error: f64,
    /// The relative error of the value, where the device runs node by node and the reference alone, from the model's inputs
    /// on. It is the sum of the errors of all nodes up to here, as the model amplifies or damps them.
    pub accumulated_error: f64,
    /// Elements whose accumulated error exceeds the tolerance of outputs.
    pub elements_off: usize,
}

/// Why a value diverges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// A node does not compute what the reference computes from the same inputs.
    Wrong,
    /// Every node is right by itself, but a kernel of a normal run, which computes several nodes, is not.
    Fused,
    /// The reference itself computes something else on the graph that the passes have rewritten for the device.
    Rewritten,
    /// All nodes are right. A node that rounds, compares or chooses took the other side, for an input that is off by little.
    Flip,
    /// All nodes are right. Their errors add up, or a node amplifies them.
    Accumulated,
    /// Only a normal run is wrong: it is right as soon as its intermediate values are kept.
    Unfollowed,
}

/// What diverges, and where to look.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Divergence {
    /// The cause.
    pub cause: Cause,
    /// The value to look at, with the errors before and after its node.
    pub value: ValueError,
    /// The output of a normal run that is off because of it; `None` if a node diverges by itself.
    pub output: Option<ValueError>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ValueError { node, op, name, relative_error, inherited_error, accumulated_error, .. } =
            &self.value;
        let off = relative_error;
        if let Some(output) = &self.output {
            let ValueError { name, relative_error, .. } = output;
            write!(f, "output '{name}' is off by {relative_error:.1e} of its greatest magnitude: ")?;
        }
        let grown =
            format!("the error of its inputs, {inherited_error:.1e}, is {accumulated_error:.1e} in '{name}'");
        match self.cause {
            Cause::Wrong => write!(
                f,
                "look at node '{node}' ({op}): its value '{name}' is off by {off:.1e} on the inputs that the device gave it"
            ),
            Cause::Fused => write!(
                f,
                "look at the kernel that ends with node '{node}' ({op}): its value '{name}' is off by {off:.1e} on the \
                 inputs that the device gave it, and each node is right in a kernel of its own"
            ),
            Cause::Rewritten => write!(
                f,
                "look at the passes: on the graph that they made, the reference's own result is off by {off:.1e}"
            ),
            Cause::Flip => write!(
                f,
                "look at node '{node}' ({op}), which took the other side of a tie for {} of {} elements: {grown}; no node \
                 is wrong",
                self.value.elements_off,
                self.value.shape.iter().product::<usize>()
            ),
            Cause::Accumulated => write!(
                f,
                "look at node '{node}' ({op}), where small errors become too large: {grown}; no node is wrong"
            ),
            Cause::Unfollowed => f.write_str(
                "look at fusion and memory: every node is right by itself, and so is a run that keeps its values",
            ),
        }
    }
}

/// The result of [`verify`].
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// The greatest errors that are no divergence.
    pub tolerances: Tolerances,
    /// The value of every node, where each node is run by kernels of its own, in the order of the nodes.
    pub values: Vec<ValueError>,
    /// The model's outputs in a normal run, which is optimised and fused.
    pub outputs: Vec<ValueError>,
    /// The values that kernels of a normal run pass on, if one of the outputs is off. They are of the graph that the passes
    /// have rewritten for the device; each has the last node that its kernel computes.
    pub fused: Vec<ValueError>,
    /// The first divergence: the first node whose own error is too great; or else the first output that exceeds the tolerance,
    /// with the value where its error begins.
    pub divergence: Option<Divergence>,
}

impl Verification {
    /// The value to look at, if something diverges.
    pub fn first_divergence(&self) -> Option<&ValueError> {
        self.divergence.as_ref().map(|divergence| &divergence.value)
    }
}

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
    let options = SessionOptions::new().fusion(false);
    let graph = model.graph_taking(inputs);
    let made = made_values(&graph).map(|made| made.1).collect();
    let alone = Followed::new(device, graph, options, inputs, made)?;
    let normal = Session::new(device, model, SessionOptions::default())?.run(inputs)?;
    let normal: Vec<Tensor> = normal.into_iter().map(|(_, tensor)| tensor).collect();
    conclude(&alone, &normal, tolerances.into(), || {
        let graph = model.optimized_taking(inputs)?;
        let session = Session::of_graph(device, graph.clone(), SessionOptions::default(), Vec::new())?;
        let ordered = session.given(inputs)?;
        let handed_on = ordered.handed_on()?;
        Followed::new(device, graph, SessionOptions::default(), inputs, handed_on)
    })
}

/// A run whose values were kept, and the reference's run of the same graph.
struct Followed {
    graph: Arc<Graph>,
    expected: Values,
    /// By [`ValueId`]; `None` where the device keeps no value.
    actual: Vec<Option<Tensor>>,
}

impl Followed {
    fn new(
        device: &Device,
        graph: Arc<Graph>,
        options: SessionOptions,
        inputs: &[(&str, &Tensor)],
        mut keep: Vec<ValueId>,
    ) -> Result<Followed> {
        keep.retain(|id| !graph.outputs.contains(id));
        let order: Vec<ValueId> = graph.outputs.iter().chain(&keep).copied().collect();
        let session = Session::of_graph(device, graph.clone(), options, keep)?;
        let ordered = session.given(inputs)?;
        let expected = reference::run(&graph, &ordered.tensors(), true)?;
        let mut actual = vec![None; graph.values.len()];
        for (id, tensor) in order.iter().zip(session.core.tensors(&ordered)?) {
            actual[id.index()] = Some(tensor);
        }
        Ok(Followed { graph, expected, actual })
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
    normal: &[Tensor],
    tolerances: Tolerances,
    fused: impl FnOnce() -> Result<Followed>,
) -> Result<Verification> {
    let followed = judge(alone, tolerances);
    let outputs = alone.graph.outputs.iter().zip(normal).filter_map(|(&id, tensor)| {
        let expected = alone.expected.get(id)?;
        let name = &alone.graph.value(id).name;
        let off = compare(&[expected], tensor, tolerances.output, 0.0);
        let value = off.into_value(None, name, expected);
        let before = followed.iter().find(|made| made.id == id).map(|made| &made.value);
        Some(ValueError {
            accumulated_error: before.map_or(0.0, |made| made.accumulated_error),
            inherited_error: before.map_or(0.0, |made| made.inherited_error),
            ..value
        })
    });
    let outputs: Vec<ValueError> = outputs.collect();
    let wrong = followed.iter().find(|made| !made.value.is_right_alone(tolerances));
    let off = outputs.iter().enumerate().find(|(_, output)| !output.is_right_output(tolerances));
    let (mut divergence, mut kept) = (None, Vec::new());
    if let Some(made) = wrong {
        divergence = Some(Divergence { cause: Cause::Wrong, value: made.value.clone(), output: None });
    } else if let Some((i, output)) = off {
        let fused = fused()?;
        let judged = judge(&fused, tolerances);
        let (cause, value) = blame(alone, &followed, &fused, &judged, (i, output), tolerances)
            .unwrap_or_else(|| (Cause::Unfollowed, output.clone()));
        divergence = Some(Divergence { cause, value, output: Some(output.clone()) });
        kept = judged.into_iter().map(|made| made.value).collect();
    }
    let values = followed.into_iter().map(|made| made.value).collect();
    Ok(Verification { tolerances, values, outputs, fused: kept, divergence })
}

/// Whether the error is within the tolerance; NaN never is.
fn within(error: f64, tolerance: f64) -> bool {
    error <= tolerance
}

/// The tolerance for values of this type. The reference rounds narrow types after every node, the device only where values
/// leave it, so that two units in the last place may lie between them.
fn allowed(tolerance: f64, dtype: DType) -> f64 {
    tolerance.max(2.0 * unit(dtype))
}

impl ValueError {
    fn is_right_alone(&self, tolerances: Tolerances) -> bool {
        within(self.relative_error, allowed(tolerances.node, self.dtype))
    }

    fn is_right_output(&self, tolerances: Tolerances) -> bool {
        within(self.relative_error, allowed(tolerances.output, self.dtype))
    }
}

/// Why output `i` of a normal run is off although every node is right by itself.
fn blame(
    alone: &Followed,
    followed: &[Made],
    fused: &Followed,
    judged: &[Made],
    (i, output): (usize, &ValueError),
    tolerances: Tolerances,
) -> Option<(Cause, ValueError)> {
    let (own, other) = (*alone.graph.outputs.get(i)?, *fused.graph.outputs.get(i)?);
    let explained = |origin: &Made| {
        let cause = if origin.steps { Cause::Flip } else { Cause::Accumulated };
        (cause, origin.value.clone())
    };
    // A run node by node shows the most. In a fused run, roundings happen at other places, and lead to errors of the same
    // size.
    let alone_origin = origin(&alone.graph, followed, own, tolerances.output);
    if output.relative_error <= 2.0 * output.accumulated_error
        && let Some(origin) = alone_origin
    {
        return Some(explained(origin));
    }
    if let Some(made) = judged.iter().find(|made| !made.value.is_right_alone(tolerances)) {
        return Some((Cause::Fused, made.value.clone()));
    }
    let (expected, rewritten) = (alone.expected.get(own)?, fused.expected.get(other)?.to_tensor().ok()?);
    let off = compare(&[expected], &rewritten, tolerances.output, 0.0);
    let off = off.into_value(None, &alone.graph.value(own).name, expected);
    if !off.is_right_output(tolerances) {
        return Some((Cause::Rewritten, off));
    }
    alone_origin.or_else(|| origin(&fused.graph, judged, other, tolerances.output)).map(explained)
}

/// The first value beyond the tolerance on the way to `output`, if that is off. All values that its node reads are within it.
fn origin<'a>(graph: &Graph, made: &'a [Made], output: ValueId, tolerance: f64) -> Option<&'a Made> {
    let off = |made: &&Made| !within(made.value.accumulated_error, allowed(tolerance, made.value.dtype));
    made.iter().find(|made| made.id == output).filter(off)?;
    let mut needed = HashSet::from([output]);
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().flatten().any(|id| needed.contains(id)) {
            needed.extend(node.inputs.iter().flatten());
        }
    }
    made.iter().find(|made| needed.contains(&made.id) && off(made))
}

/// A value that the device computed.
struct Made {
    id: ValueId,
    value: ValueError,
    /// Whether its node, or a node of the same kernel, rounds, compares or chooses.
    steps: bool,
}

/// A value that the reference computes from what the device passed on, and the two values that it can be where roundings
/// before it go up, or go down.
type Worlds = [Option<Arc<Array>>; 3];

/// Compares each value of the device with what the reference computes from the inputs of its kernel, and with the reference's
/// own run.
fn judge(run: &Followed, tolerances: Tolerances) -> Vec<Made> {
    let Followed { graph, expected, actual } = run;
    let given = |id: usize| expected.shared(ValueId(id as u32));
    let mut worlds: Vec<Worlds> =
        (0..graph.values.len()).map(|id| [given(id), given(id), given(id)]).collect();
    let mut state = vec![State::default(); graph.values.len()];
    let mut all = Vec::new();
    for node in &graph.nodes {
        let inputs = || node.inputs.iter().flatten();
        let exact = inputs().all(|id| !state[id.index()].inner);
        let stepped = inputs().any(|id| state[id.index()].inner && state[id.index()].steps);
        let inherited = inputs().map(|id| state[id.index()].error).fold(0.0, f64::max);
        let results = results(node, &worlds, exact);
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
            let accumulated = compare(&[expected], tensor, tolerances.output, 0.0);
            // A step takes exactly the other side of a tie; the effect of a small error may be in proportion to it.
            let beyond = if steps { 0.0 } else { BEYOND };
            let value = ValueError {
                inherited_error: inherited,
                accumulated_error: accumulated.relative,
                elements_off: accumulated.beyond,
                ..compare(&own, tensor, tolerances.node, beyond).into_value(
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
    all
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
fn results(node: &Node, worlds: &[Worlds], exact: bool) -> [Vec<Arc<Array>>; 3] {
    let held = |world: usize| -> Vec<Option<Arc<Array>>> {
        node.inputs.iter().map(|id| id.and_then(|id| worlds[id.index()][world].clone())).collect()
    };
    let run = |inputs: &[Option<Arc<Array>>]| -> Vec<Arc<Array>> {
        reference::node(node, inputs).unwrap_or_default().into_iter().map(Arc::new).collect()
    };
    let base = held(0);
    let first = run(&base);
    let other = |world: usize, sign: f64| {
        let mut inputs = held(world);
        let shifted = shift(node, &mut inputs, exact, sign);
        let same = |(a, b): (&Option<Arc<Array>>, &Option<Arc<Array>>)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        if !shifted && inputs.iter().zip(&base).all(same) { first.clone() } else { run(&inputs) }
    };
    let (up, down) = (other(1, 1.0), other(2, -1.0));
    [first, up, down]
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

/// The unit in the last place of 1, for types that kernels compute in float32.
fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1.0 / (1 << 10) as f64,
        DType::BF16 => 1.0 / (1 << 7) as f64,
        _ => 0.0,
    }
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

/// How far a tensor is from the expected one.
#[derive(Default)]
struct Off {
    absolute: f64,
    relative: f64,
    /// Elements that exceed the tolerance.
    beyond: usize,
    /// Elements that exceed the tolerance around the first of several expected values, but lie between these.
    flips: usize,
}

impl Off {
    fn into_value(self, node: Option<&Node>, name: &str, expected: &Array) -> ValueError {
        ValueError {
            node: node.map_or(String::new(), |node| node.name.clone()),
            op: node.map_or(String::new(), |node| node.op_type.clone()),
            name: name.into(),
            dtype: expected.dtype,
            shape: expected.shape.clone(),
            absolute_error: self.absolute,
            relative_error: self.relative,
            flips: self.flips,
            inherited_error: 0.0,
            accumulated_error: self.relative,
            elements_off: self.beyond,
        }
    }
}

/// Compares with the first of `expected`. An element beyond the tolerance may lie between the expected values, or outside of
/// them by at most `beyond` times their distance.
fn compare(expected: &[&Array], actual: &Tensor, tolerance: f64, beyond: f64) -> Off {
    let first = expected[0];
    let (infinite, tolerance) = (f64::INFINITY, allowed(tolerance, first.dtype));
    let infinite = Off { absolute: infinite, relative: infinite, beyond: first.len().max(1), flips: 0 };
    if (first.dtype, first.shape.as_slice()) != (actual.dtype(), actual.shape()) {
        return infinite;
    }
    let Ok(actual) = Array::from_tensor(actual) else { return infinite };
    let scale = largest(first).max(1e-6);
    let others = || expected.iter().filter(|other| other.len() == first.len() && other.dtype == first.dtype);
    let mut off = Off::default();
    for i in 0..first.len() {
        let mut apart = difference(&first.data, &actual.data, i);
        if !within(apart / scale, tolerance) && expected.len() > 1 {
            let near = outside(others().map(|other| number(&other.data, i)), number(&actual.data, i), beyond);
            if within(near / scale, tolerance) {
                off.flips += usize::from(beyond == 0.0);
                apart = near;
            }
        }
        off.beyond += usize::from(!within(apart / scale, tolerance));
        off.absolute = off.absolute.max(apart);
    }
    off.relative = off.absolute / scale;
    off
}

fn largest(array: &Array) -> f64 {
    match &array.data {
        Numbers::Float(values) => {
            values.iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()))
        }
        Numbers::Int(values) => values.iter().fold(0.0, |m: f64, v| m.max(v.unsigned_abs() as f64)),
        Numbers::Text(_) => 0.0,
    }
}

/// The difference between two elements; infinite if exactly one of them is NaN or infinite.
fn difference(expected: &Numbers, actual: &Numbers, i: usize) -> f64 {
    match (expected, actual) {
        (Numbers::Float(e), Numbers::Float(a)) if e[i] == a[i] || (e[i].is_nan() && a[i].is_nan()) => 0.0,
        (Numbers::Float(e), Numbers::Float(a)) if e[i].is_finite() && a[i].is_finite() => (e[i] - a[i]).abs(),
        (Numbers::Int(e), Numbers::Int(a)) => (e[i] - a[i]).unsigned_abs() as f64,
        (Numbers::Text(e), Numbers::Text(a)) if e[i] == a[i] => 0.0,
        _ => f64::INFINITY,
    }
}

fn number(numbers: &Numbers, i: usize) -> f64 {
    match numbers {
        Numbers::Float(values) => values[i],
        Numbers::Int(values) => values[i] as f64,
        Numbers::Text(_) => f64::NAN,
    }
}

/// How far `actual` lies outside of the range of all `others`, after the range is widened on both sides by `beyond` times its
/// width.
fn outside(others: impl Iterator<Item = f64>, actual: f64, beyond: f64) -> f64 {
    let (low, high) =
        others.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let off = (low - actual).max(actual - high) - beyond * (high - low);
    if off.is_nan() { f64::INFINITY } else { off.max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::internals::random::{RandomGraph, Sketch};

    fn error(expected: &[f64], actual: &[f32]) -> (f64, f64) {
        let expected = Array::float(DType::F32, &[expected.len()], expected.to_vec());
        let off = compare(&[&expected], &Tensor::from_slice(&[actual.len()], actual).unwrap(), 1e-3, 0.0);
        (off.absolute, off.relative)
    }

    #[test]
    fn errors_are_parts_of_the_largest_value() {
        assert_eq!(error(&[4.0, 0.5], &[4.0, 1.0]), (0.5, 0.125));
        assert_eq!(error(&[f64::NAN, f64::INFINITY], &[f32::NAN, f32::INFINITY]), (0.0, 0.0));
        assert_eq!(error(&[], &[]), (0.0, 0.0));
    }

    #[test]
    fn a_number_where_none_belongs_is_no_small_error() {
        assert_eq!(error(&[f64::NAN], &[0.0]).1, f64::INFINITY);
        assert_eq!(error(&[0.0], &[f32::NAN]).1, f64::INFINITY);
        assert_eq!(error(&[1.0], &[f32::INFINITY]).1, f64::INFINITY);
        assert_eq!(error(&[1.0], &[1.0, 1.0]).1, f64::INFINITY);
    }

    const TOLERANCES: Tolerances = Tolerances { node: 1e-3, output: 1e-3 };

    /// A device that computes as the reference does, node by node, except that `bend` changes its values. It passes on the
    /// values for which `keeps` is true.
    fn followed(
        graph: &Arc<Graph>,
        inputs: &[Tensor],
        keeps: impl Fn(usize) -> bool,
        bend: impl Fn(usize, &mut [f64]),
    ) -> Followed {
        let expected = reference::run(graph, inputs, true).unwrap();
        let mut computed: Vec<Option<Arc<Array>>> =
            (0..graph.values.len()).map(|id| expected.shared(ValueId(id as u32))).collect();
        let mut actual = vec![None; graph.values.len()];
        for (n, node) in graph.nodes.iter().enumerate() {
            let inputs: Vec<_> =
                node.inputs.iter().map(|id| id.and_then(|id| computed[id.index()].clone())).collect();
            for (id, array) in node.outputs.iter().zip(reference::node(node, &inputs).unwrap()) {
                let Some(id) = *id else { continue };
                let mut bent = array.to_f64().unwrap();
                bend(n, &mut bent);
                let array = match array.dtype.is_float() {
                    true => Array::float(array.dtype, &array.shape, bent),
                    false => Array::int(array.dtype, &array.shape, bent.iter().map(|v| *v as i128).collect()),
                };
                if keeps(n) || graph.outputs.contains(&id) {
                    actual[id.index()] = Some(array.to_tensor().unwrap());
                }
                computed[id.index()] = Some(Arc::new(array));
            }
        }
        Followed { graph: graph.clone(), expected, actual }
    }

    /// The outputs of a run, of the reference or of the device.
    fn outputs(run: &Followed) -> Vec<Tensor> {
        run.graph.outputs.iter().map(|id| run.actual[id.index()].clone().unwrap()).collect()
    }

    fn never() -> Result<Followed> {
        panic!("the normal run need not be followed")
    }

    /// The verification of a chain Relu, Sub, Tanh, Mul, where one element of node `wrong` is off by 0.25.
    fn judged(wrong: usize) -> Verification {
        let graph = RandomGraph::new(&[0, 5, 1, 4]);
        let (graph, inputs) = (Arc::new(graph.graph.clone()), graph.inputs());
        let run =
            followed(&graph, &inputs, |_| true, |n, values| values[1] += if n == wrong { 0.25 } else { 0.0 });
        conclude(&run, &outputs(&run), TOLERANCES, never).unwrap()
    }

    #[test]
    fn a_wrong_result_is_blamed_on_the_node_that_made_it() {
        for wrong in 0..4 {
            let found = judged(wrong);
            let divergence = found.divergence.as_ref().unwrap();
            assert_eq!((divergence.cause, &divergence.value.name), (Cause::Wrong, &found.values[wrong].name));
            let diverging = found.values.iter().filter(|value| value.relative_error > 1e-3);
            assert_eq!(diverging.count(), 1, "the nodes behind it computed rightly what they were given");
            assert!(divergence.value.accumulated_error > 1e-3 && divergence.value.inherited_error == 0.0);
            assert!(divergence.to_string().contains(&format!("look at node '{}'", divergence.value.node)));
        }
        assert!(judged(9).divergence.is_none());
    }

    fn vector(values: &[f32]) -> Tensor {
        Tensor::from_slice(&[values.len()], values).unwrap()
    }

    fn finished(mut sketch: Sketch, output: ValueId) -> Arc<Graph> {
        sketch.graph.outputs = vec![output];
        Arc::new(sketch.graph)
    }

    /// The verification of a device that bends values both node by node and in a normal run.
    fn found(graph: &Arc<Graph>, x: &Tensor, bend: impl Fn(usize, &mut [f64])) -> Verification {
        let run = |keeps| followed(graph, std::slice::from_ref(x), move |_| keeps, &bend);
        let alone = run(true);
        conclude(&alone, &outputs(&alone), TOLERANCES, || Ok(run(false))).unwrap()
    }

    #[test]
    fn errors_that_add_up_are_named_where_they_leave_the_tolerance() {
        let mut sketch = Sketch::default();
        let mut value = sketch.input("x");
        for _ in 0..8 {
            value = sketch.node("Neg", &[], &[value]);
        }
        let graph = finished(sketch, value);
        // 4, 8 and 12 parts of 10,000: every node is within the tolerance, which is 10 parts.
        let found =
            found(&graph, &vector(&[1.0, -2.0]), |_, values| values.iter_mut().for_each(|v| *v *= 1.0004));
        let divergence = found.divergence.as_ref().unwrap();
        assert_eq!((divergence.cause, &divergence.value.name), (Cause::Accumulated, &found.values[2].name));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-5;
        assert!(
            near(divergence.value.inherited_error, 8e-4) && near(divergence.value.accumulated_error, 12e-4)
        );
        assert!(near(divergence.output.as_ref().unwrap().relative_error, 32e-4));
        assert!(divergence.to_string().contains("look at node"), "{divergence}");
    }

    /// `-(tanh(x) - c)`.
    fn cancelling() -> Arc<Graph> {
        let mut sketch = Sketch::default();
        let (x, c) = (sketch.input("x"), sketch.constant(vector(&[0.46211, 0.7615])));
        let tanh = sketch.node("Tanh", &[], &[x]);
        let difference = sketch.node("Sub", &[], &[tanh, c]);
        let y = sketch.node("Neg", &[], &[difference]);
        finished(sketch, y)
    }

    #[test]
    fn a_difference_that_cancels_makes_much_of_a_small_error() {
        let graph = cancelling();
        let bend =
            |n, values: &mut [f64]| values.iter_mut().for_each(|v| *v += if n == 0 { 2e-6 } else { 0.0 });
        let found = found(&graph, &vector(&[0.5, 1.0]), bend);
        let divergence = found.divergence.as_ref().unwrap();
        assert_eq!((divergence.cause, divergence.value.op.as_str()), (Cause::Accumulated, "Sub"));
        // tanh(0.5) is 0.4621172 and tanh(1) is 0.7615942: after the subtraction, 2e-6 is a fiftieth of the result.
        assert!(divergence.value.inherited_error < 1e-5 && divergence.value.accumulated_error > 1e-2);
    }

    /// `x`, negated twice, quantised in steps of 0.5 and back.
    fn quantised() -> Arc<Graph> {
        let mut sketch = Sketch::default();
        let (x, scale) = (sketch.input("x"), sketch.scalar(0.5));
        let zero = sketch.constant(Tensor::from_slice(&[], &[0i8]).unwrap());
        let a = sketch.node("Neg", &[], &[x]);
        let b = sketch.node("Neg", &[], &[a]);
        let q = sketch.node("QuantizeLinear", &[], &[b, scale, zero]);
        let y = sketch.node("DequantizeLinear", &[], &[q, scale, zero]);
        finished(sketch, y)
    }

    /// The first is halfway between two steps, the second a tenth of a step away from there.
    const NEAR_A_TIE: [f32; 3] = [0.25, 0.3, -2.0];

    #[test]
    fn a_flip_at_a_tie_is_no_fault() {
        let (graph, x) = (quantised(), vector(&NEAR_A_TIE));
        // A rounding of float32 before the tie: node by node, the quantisation is right for the input that it gets.
        let before = found(&graph, &x, |n, values| values[0] += if n == 1 { 6e-8 } else { 0.0 });
        // Or the division is off by as much.
        let within = found(&graph, &x, |n, values| values[0] += if n == 2 { 1.0 } else { 0.0 });
        for (found, flips) in [(&before, 0), (&within, 1)] {
            let divergence = found.divergence.as_ref().unwrap();
            assert_eq!((divergence.cause, divergence.value.op.as_str()), (Cause::Flip, "QuantizeLinear"));
            assert_eq!((divergence.value.elements_off, divergence.value.flips), (1, flips));
            assert_eq!(
                divergence.output.as_ref().unwrap().relative_error,
                0.25,
                "a step of 0.5 as a part of 2"
            );
            assert!(
                divergence.to_string().contains("took the other side of a tie for 1 of 3 elements"),
                "{divergence}"
            );
        }
    }

    #[test]
    fn a_step_that_no_tie_explains_is_a_fault() {
        let (graph, x) = (quantised(), vector(&NEAR_A_TIE));
        let found = found(&graph, &x, |n, values| values[1] += if n == 2 { -1.0 } else { 0.0 });
        let divergence = found.divergence.unwrap();
        assert_eq!((divergence.cause, divergence.value.op.as_str()), (Cause::Wrong, "QuantizeLinear"));
    }

    /// The verification of a device that is right node by node, and bends values in a normal run.
    fn found_fused(
        x: &Tensor,
        keeps: impl Fn(usize) -> bool,
        bend: impl Fn(usize, &mut [f64]),
    ) -> Verification {
        let graph = quantised();
        let x = std::slice::from_ref(x);
        let fused = followed(&graph, x, keeps, bend);
        conclude(&followed(&graph, x, |_| true, |_, _| ()), &outputs(&fused), TOLERANCES, || Ok(fused))
            .unwrap()
    }

    #[test]
    fn a_kernel_of_several_nodes_answers_for_itself() {
        let x = vector(&NEAR_A_TIE);
        let found = found_fused(&x, |n| n == 0, |n, values| values[1] += if n == 1 { 0.5 } else { 0.0 });
        let divergence = found.divergence.unwrap();
        assert_eq!((divergence.cause, divergence.value.op.as_str()), (Cause::Fused, "DequantizeLinear"));
        assert_eq!(found.fused.len(), 2);
        // The kernel before it is the wrong one.
        let found = found_fused(&x, |n| n == 0, |n, values| values[1] += if n == 0 { 0.5 } else { 0.0 });
        let divergence = found.divergence.unwrap();
        assert_eq!((divergence.cause, divergence.value.op.as_str()), (Cause::Fused, "Neg"));
    }

    #[test]
    fn a_flip_inside_of_a_kernel_is_no_fault() {
        let x = vector(&NEAR_A_TIE);
        let found = found_fused(&x, |n| n == 0, |n, values| values[0] += if n == 1 { 1e-6 } else { 0.0 });
        let divergence = found.divergence.unwrap();
        assert_eq!((divergence.cause, divergence.value.flips), (Cause::Flip, 1));
        // A value a tenth of a step away from a tie reaches no other step by a rounding of float32.
        let found = found_fused(&x, |n| n == 0, |n, values| values[1] -= if n == 1 { 0.1 } else { 0.0 });
        assert_eq!(found.divergence.unwrap().cause, Cause::Fused);
    }

    #[test]
    fn what_a_kernel_makes_of_a_rounding_is_no_fault() {
        let (graph, x) = (cancelling(), [vector(&[0.5, 1.0])]);
        let fused = |by: f64| {
            let bend = move |n, values: &mut [f64]| values[0] += if n == 0 { by } else { 0.0 };
            let fused = followed(&graph, &x, |_| false, bend);
            let alone = followed(&graph, &x, |_| true, |_, _| ());
            conclude(&alone, &outputs(&fused), TOLERANCES, || Ok(fused)).unwrap().divergence.unwrap()
        };
        let rounding = fused(2e-6);
        assert_eq!((rounding.cause, rounding.value.op.as_str()), (Cause::Accumulated, "Neg"));
        assert!(rounding.value.accumulated_error > 1e-2 && rounding.value.relative_error <= 1e-3);
        assert_eq!(fused(1e-3).cause, Cause::Fused);
    }

    #[test]
    fn an_output_that_only_a_normal_run_gets_wrong() {
        let (graph, x) = (quantised(), vector(&NEAR_A_TIE));
        let right = || followed(&graph, std::slice::from_ref(&x), |_| true, |_, _| ());
        let wrong = [vector(&[0.0, 0.5, -1.0])];
        let found = conclude(&right(), &wrong, TOLERANCES, || Ok(right())).unwrap();
        let divergence = found.divergence.unwrap();
        assert_eq!((divergence.cause, divergence.value.relative_error), (Cause::Unfollowed, 0.5));
        assert!(conclude(&right(), &outputs(&right()), TOLERANCES, never).unwrap().divergence.is_none());
    }

    #[test]
    fn a_graph_that_was_rewritten_is_held_against_the_models_own() {
        let negated = |times: usize| {
            let mut sketch = Sketch::default();
            let x = sketch.input("x");
            let y = (0..times).fold(x, |value, _| sketch.node("Neg", &[], &[value]));
            followed(&finished(sketch, y), &[vector(&[1.0, -2.0])], |_| true, |_, _| ())
        };
        let rewritten = negated(2);
        let found = conclude(&negated(1), &outputs(&rewritten), TOLERANCES, || Ok(rewritten)).unwrap();
        assert_eq!(found.divergence.unwrap().cause, Cause::Rewritten);
    }
}
