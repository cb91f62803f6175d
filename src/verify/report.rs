//! What verification finds, and the tolerances that decide.

use std::fmt;

use super::errors::{allowed, within};
use crate::DType;
use crate::error::shown;

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
        let (node, op, name) = (shown(node), shown(op), shown(name));
        let off = relative_error;
        if let Some(output) = &self.output {
            let ValueError { name, relative_error, .. } = output;
            let name = shown(name);
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

/// The result of [`verify`](crate::verify()).
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

impl ValueError {
    pub(super) fn is_right_alone(&self, tolerances: Tolerances) -> bool {
        within(self.relative_error, allowed(tolerances.node, self.dtype))
    }

    pub(super) fn is_right_output(&self, tolerances: Tolerances) -> bool {
        within(self.relative_error, allowed(tolerances.output, self.dtype))
    }
}
