//! Facts: what is known of a value once the inputs' shapes are known: dtype, shape, and the elements where those follow from
//! constants, shapes, or inputs that decide shapes. `inference` finds them for a whole graph.

mod inference;

use std::sync::Arc;

use smallvec::SmallVec;

use crate::array::Array;
use crate::error::{Why, refuse};
use crate::graph::Node;
use crate::shape::Shape;
use crate::tensor::checked_count;
use crate::{DType, Error, Result};

pub(crate) use inference::{FactBase, Facts, Infer, InputFact, Signature};

/// The limit of a tensor's element count: indices are u32 on the device.
pub(crate) const MAX_COUNT: usize = u32::MAX as usize / 4;

/// Dtype and shape of a value, and the value itself where planning knows it.
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
    /// Whether it depends on the values of graph inputs, not on constants and shapes alone.
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

    /// The fact of a value that is at hand.
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

    /// The value, which the operator needs while planning.
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

/// The error of a node that refuses, with its name and what it was given.
pub(crate) fn node_error<O>(node: &Node<O>, inputs: &[Option<&Fact>], why: Why) -> Error {
    Error::Node {
        node: node.name.clone(),
        op: node.op_type.clone(),
        opset: node.opset,
        inputs: text(inputs),
        reason: why.0,
    }
}

/// Dtypes and shapes of a node's inputs, as errors give them.
pub(crate) fn text(inputs: &[Option<&Fact>]) -> String {
    let texts: Vec<String> =
        inputs.iter().map(|fact| fact.map_or("-".to_string(), |fact| fact.to_string())).collect();
    texts.join(", ")
}

/// Refuses outputs that are too large to be computed.
pub(crate) fn check_sizes(outputs: &[Fact]) -> Result<(), Why> {
    match outputs.iter().find(|fact| is_too_large(&fact.shape)) {
        Some(fact) => refuse!("the output {fact} has more than {MAX_COUNT} elements"),
        None => Ok(()),
    }
}

/// Whether a tensor is larger than can be computed with. Of one without elements, the other axes count: tables are made for
/// single axes.
pub(crate) fn is_too_large(shape: &[usize]) -> bool {
    let mut axes = shape.iter().copied().filter(|&size| size > 0);
    axes.try_fold(1, usize::checked_mul).is_none_or(|n| n > MAX_COUNT)
}
