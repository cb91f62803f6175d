//! Shapes: as the model declares them, and as a run has them. Most have few dimensions, and planning makes thousands of them,
//! so that their sizes are stored in place.

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Deref, DerefMut};

use smallvec::SmallVec;

use crate::error::shown;
use crate::{DType, Kind};

/// One dimension as the model declares it.
///
/// ```
/// use sardonyx::Dim;
/// assert_eq!(Dim::Symbol("batch".into()).to_string(), "batch");
/// assert_eq!(Dim::Unknown.to_string(), "?");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(untagged)]
pub enum Dim {
    /// A fixed size.
    Known(usize),
    /// A size that each run may choose; dimensions of inputs with equal names have equal sizes.
    Symbol(String),
    /// A size without a name.
    Unknown,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(n) => write!(f, "{n}"),
            Dim::Symbol(name) => shown(name).fmt(f),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

/// What a model declares of one of its inputs or outputs.
///
/// ```
/// use sardonyx::{DType, Dim, ValueInfo};
/// let info = ValueInfo {
///     name: "pixels".into(),
///     dtype: Some(DType::F32),
///     container: None,
///     shape: Some(vec![Dim::Symbol("batch".into()), Dim::Known(3)]),
///     has_default: false,
/// };
/// assert_eq!(info.to_string(), "pixels: float32[batch, 3]");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ValueInfo {
    /// The name that the model gives it.
    pub name: String,
    /// The element type, if it is declared and the value is a tensor.
    pub dtype: Option<DType>,
    /// What the value is, if it is no tensor.
    pub container: Option<Kind>,
    /// The dimensions, if at least their number is declared.
    pub shape: Option<Vec<Dim>>,
    /// Whether the model has a value for this input, so that a run may leave it out.
    pub has_default: bool,
}

impl fmt::Display for ValueInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(container) = &self.container {
            return write!(f, "{}: {container}", shown(&self.name));
        }
        write!(f, "{}: {}", shown(&self.name), self.dtype.map_or("?", DType::name))?;
        match &self.shape {
            Some(shape) => {
                write!(f, "[{}]", shape.iter().map(Dim::to_string).collect::<Vec<_>>().join(", "))?
            }
            None => f.write_str("[...]")?,
        }
        f.write_str(if self.has_default { ", optional" } else { "" })
    }
}

/// The most dimensions of a tensor: the time of many loops grows with them, and a file can name a million.
pub(crate) const MAX_RANK: usize = 64;

/// The product of sizes; `usize::MAX`, which every limit refuses, if it does not fit.
pub(crate) fn product<S: Borrow<usize>>(sizes: impl IntoIterator<Item = S>) -> usize {
    sizes.into_iter().fold(1, |product, size| product.saturating_mul(*size.borrow()))
}

/// The product of the sizes other than 0, which bounds every product of some of the sizes: of `[4, 0, 5]` it is 20. `None` if it
/// does not fit.
pub(crate) fn extent(sizes: &[usize]) -> Option<usize> {
    sizes.iter().filter(|size| **size > 0).try_fold(1, |product: usize, &size| product.checked_mul(size))
}

/// The sizes of a tensor's dimensions, outermost first.
#[derive(Clone, Default, Eq)]
pub(crate) struct Shape(SmallVec<[usize; 6]>);

impl Shape {
    pub(crate) fn as_slice(&self) -> &[usize] {
        &self.0
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Shape {
    type Item = &'a usize;
    type IntoIter = std::slice::Iter<'a, usize>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl DerefMut for Shape {
    fn deref_mut(&mut self) -> &mut [usize] {
        &mut self.0
    }
}

impl AsRef<[usize]> for Shape {
    fn as_ref(&self) -> &[usize] {
        &self.0
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: AsRef<[usize]> + ?Sized> PartialEq<T> for Shape {
    fn eq(&self, other: &T) -> bool {
        self.0.as_slice() == other.as_ref()
    }
}

impl PartialEq<Shape> for Vec<usize> {
    fn eq(&self, other: &Shape) -> bool {
        other == self
    }
}

impl From<Vec<usize>> for Shape {
    fn from(sizes: Vec<usize>) -> Shape {
        Shape(sizes.into())
    }
}

impl From<&[usize]> for Shape {
    fn from(sizes: &[usize]) -> Shape {
        Shape(sizes.into())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sizes: [usize; N]) -> Shape {
        Shape(sizes.as_slice().into())
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<T: IntoIterator<Item = usize>>(sizes: T) -> Shape {
        Shape(sizes.into_iter().collect())
    }
}

/// Memory behind the elements of an input, for `spare` more rows along an axis. `[1, 4, 16, 8]` elements in memory for `[1, 4, 64,
/// 8]` have room for 48 more along axis 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Room {
    pub(crate) axis: usize,
    pub(crate) spare: usize,
}

impl Room {
    /// The shape for which there is memory, where the elements of `shape` lie at its beginning.
    pub(crate) fn around(self, shape: &[usize]) -> Vec<usize> {
        let mut around = shape.to_vec();
        if let Some(size) = around.get_mut(self.axis) {
            *size = size.saturating_add(self.spare);
        }
        around
    }
}
