//! `Leaf`: a tensor within a value of the host executor. Its elements may lie on a device until an operator reads them.

use std::any::Any;
use std::fmt::{self, Debug};
use std::sync::Arc;

use super::Array;
use crate::error::{Why, refuse};
use crate::{DType, Datum};

/// A value of the host executor: a tensor, or a container of tensors.
pub(crate) type HostValue = Datum<Leaf>;

/// A tensor: its elements, or the place from which they can be read.
#[derive(Clone, Debug)]
pub(crate) enum Leaf {
    Array(Arc<Array>),
    Elsewhere(Arc<dyn Elsewhere>),
}

/// A tensor whose elements lie elsewhere than in an [`Array`].
pub(crate) trait Elsewhere: Any + Debug + Send + Sync {
    fn dtype(&self) -> DType;
    fn shape(&self) -> &[usize];
    fn array(&self) -> crate::Result<Array>;
}

impl From<Array> for Leaf {
    fn from(array: Array) -> Leaf {
        Leaf::Array(Arc::new(array))
    }
}

impl From<Array> for HostValue {
    fn from(array: Array) -> HostValue {
        Datum::Tensor(array.into())
    }
}

impl From<Arc<Array>> for HostValue {
    fn from(array: Arc<Array>) -> HostValue {
        Datum::Tensor(Leaf::Array(array))
    }
}

impl Leaf {
    pub(crate) fn dtype(&self) -> DType {
        match self {
            Leaf::Array(array) => array.dtype,
            Leaf::Elsewhere(tensor) => tensor.dtype(),
        }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Leaf::Array(array) => &array.shape,
            Leaf::Elsewhere(tensor) => tensor.shape(),
        }
    }

    /// The elements, which are read if they lie elsewhere.
    pub(crate) fn array(&self) -> Result<Arc<Array>, Why> {
        match self {
            Leaf::Array(array) => Ok(array.clone()),
            Leaf::Elsewhere(tensor) => Ok(Arc::new(tensor.array()?)),
        }
    }
}

impl HostValue {
    /// The tensor, for an operator that takes no container.
    pub(crate) fn leaf(&self) -> Result<&Leaf, Why> {
        match self {
            Datum::Tensor(leaf) => Ok(leaf),
            other => refuse!("an input is a {}, and must be a tensor", other.kind()),
        }
    }

    /// The elements of the tensor.
    pub(crate) fn array(&self) -> Result<Arc<Array>, Why> {
        self.leaf()?.array()
    }
}

/// `float32[2x3]`, or `sequence of 3`, as errors show values.
impl fmt::Display for HostValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Datum::Tensor(leaf) => {
                let dims: Vec<String> = leaf.shape().iter().map(|d| d.to_string()).collect();
                write!(f, "{}[{}]", leaf.dtype(), dims.join("x"))
            }
            Datum::Sequence(elements) => write!(f, "sequence of {}", elements.len()),
            Datum::Optional(None) => f.write_str("optional without a value"),
            Datum::Optional(Some(content)) => write!(f, "optional {content}"),
            Datum::Map { keys, .. } => write!(f, "map of {}", keys.shape().iter().product::<usize>()),
        }
    }
}
