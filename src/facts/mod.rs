//! Facts: what is known of a value once the inputs' shapes are known. That is its dtype and its shape, and its elements if
//! they follow from constants, from shapes, or from inputs that decide shapes. `inference` finds the facts of a whole graph.

mod inference;

use std::sync::Arc;

use smallvec::SmallVec;

use crate::array::Array;
use crate::error::{Why, refuse};
use crate::graph::Node;
use crate::shape::{MAX_RANK, Shape, extent};
use crate::tensor::checked_count;
use crate::{DType, Error, Result};

pub(crate) use inference::{FactBase, Facts, Infer, InputFact, SMALL_CONSTANT, Signature, texts};

/// The most elements of a tensor: indices are u32 on the device.
pub(crate) const MAX_COUNT: usize = u32::MAX as usize / 4;

/// The dtype and the shape of a value, and the value itself if planning knows it. In a graph that reshapes `x` to `Shape(y)`,
/// with `y` of shape `[2, 3]`, the fact of `Shape(y)` is int64, shape `[2]`, value `[2, 3]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fact {
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    pub(crate) value: Option<KnownValue>,
}

/// A value that planning knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KnownValue {
    pub(crate) array: Arc<Array>,
    /// Whether it depends on the values of graph inputs, and not on constants and shapes alone.
    pub(crate) from_inputs: bool,
}

impl Fact {
    pub(crate) fn new(dtype: DType, shape: impl Into<Shape>) -> Fact {
        Fact { dtype, shape: shape.into(), value: None }
    }

    /// The fact of a value that follows from shapes alone.
    pub(crate) fn of_array(array: Array) -> Fact {
        let known = |array| KnownValue { array: Arc::new(array), from_inputs: false };
        Fact { dtype: array.dtype, shape: array.shape.as_slice().into(), value: Some(known(array)) }
    }

    /// The fact of a graph input's value.
    pub(crate) fn of_shared(array: &Arc<Array>) -> Fact {
        let known = KnownValue { array: array.clone(), from_inputs: true };
        Fact { dtype: array.dtype, shape: array.shape.as_slice().into(), value: Some(known) }
    }

    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    pub(crate) fn count(&self) -> usize {
        checked_count(&self.shape).unwrap_or(usize::MAX)
    }

    /// The value, for an operator that needs it while planning.
    pub(crate) fn array(&self) -> Result<&Array, Why> {
        match &self.value {
            Some(known) => Ok(&known.array),
            None => refuse!(
                "the value of a shape operand is computed from data, so it is not known while planning"
            ),
        }
    }

    /// The value as integers.
    pub(crate) fn i64s(&self) -> Result<Vec<i64>, Why> {
        self.array()?.i64s()
    }

    /// The value, if it follows from constants and shapes alone.
    pub(crate) fn constant(&self) -> Option<&Array> {
        self.value.as_ref().filter(|known| !known.from_inputs).map(|known| known.array.as_ref())
    }
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims: Vec<String> = self.shape.iter().map(|d| d.to_string()).collect();
        write!(f, "{}[{}]", self.dtype, dims.join("x"))
    }
}

/// Facts of a node's inputs.
pub(crate) type NodeInputs<'a> = SmallVec<[Option<&'a Fact>; 4]>;

/// The error of a node that refuses its inputs, with the node's name and the inputs' facts.
pub(crate) fn node_error<O>(node: &Node<O>, inputs: &[Option<&Fact>], why: Why) -> Error {
    let text = |fact: &Option<&Fact>| fact.map_or("-".to_string(), |fact| fact.to_string());
    error_of_node(node, &inputs.iter().map(text).collect::<Vec<_>>(), why)
}

/// The error of a node that refuses its inputs, of which these are the texts.
pub(crate) fn error_of_node<O>(node: &Node<O>, inputs: &[String], why: Why) -> Error {
    let refused = |reason| Error::Node {
        node: node.name.clone(),
        op: node.op_type.clone(),
        opset: node.opset,
        inputs: list_of(inputs),
        reason,
    };
    why.error(format_args!("node '{}' ({})", node.name, node.op_type), refused)
}

/// The most inputs that an error shows.
const SHOWN: usize = 16;

/// The dtypes and shapes of a node's inputs, as errors show them.
pub(crate) fn text(inputs: &[Option<&Fact>]) -> String {
    let text = |fact: &Option<&Fact>| fact.map_or("-".to_string(), |fact| fact.to_string());
    list_of(&inputs.iter().map(text).collect::<Vec<_>>())
}

fn list_of(inputs: &[String]) -> String {
    let shown = inputs[..inputs.len().min(SHOWN)].join(", ");
    match inputs.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

/// Refuses outputs that have too many elements to be computed.
pub(crate) fn check_sizes(outputs: &[Fact]) -> Result<(), Why> {
    if let Some(fact) = outputs.iter().find(|fact| fact.rank() > MAX_RANK) {
        refuse!("an output has {} dimensions, and at most {MAX_RANK} are supported", fact.rank());
    }
    match outputs.iter().find(|fact| is_too_large(&fact.shape)) {
        Some(fact) => refuse!("the output {fact} has more than {MAX_COUNT} elements"),
        None => Ok(()),
    }
}

/// Whether a tensor has too many elements to be computed. If it has none, its other axes count: tables are made for single
/// axes.
pub(crate) fn is_too_large(shape: &[usize]) -> bool {
    extent(shape).is_none_or(|n| n > MAX_COUNT)
}
