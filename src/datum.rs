//! `Datum`: a value of a model that may be no tensor: a sequence, an optional or a map; and `Kind`, what a value is before its
//! sizes are known.

use std::fmt;
use std::sync::Arc;

use crate::{DType, Error, Result, Tensor};

/// A value of a model: a tensor, or a container of tensors. Cloning shares the contents.
///
/// A sequence of two tensors, and the table of probabilities by label that a `ZipMap` gives for one row:
///
/// ```
/// use sardonyx::{Datum, Tensor};
/// let (a, b) = (Tensor::from_slice(&[2], &[1.0f32, 2.0])?, Tensor::from_slice(&[1], &[3.0f32])?);
/// let sequence = Datum::from(vec![a.into(), b.into()]);
/// assert_eq!(sequence.sequence().map(<[Datum]>::len), Some(2));
/// let keys = Tensor::from_strings(&[2], vec!["cat".into(), "dog".into()])?;
/// let map: Datum = Datum::map(keys, Tensor::from_slice(&[2], &[0.25f32, 0.75])?)?;
/// assert_eq!(map.to_string(), "{cat: 0.25, dog: 0.75}");
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Datum<T = Tensor> {
    /// A tensor.
    Tensor(T),
    /// Any number of values in order.
    Sequence(Arc<[Datum<T>]>),
    /// A value, or none.
    Optional(Option<Arc<Datum<T>>>),
    /// Values by key.
    #[non_exhaustive]
    Map {
        /// The keys: integers or strings, of shape `[n]`.
        keys: T,
        /// The value of each key, of shape `[n]`.
        values: T,
    },
}

impl From<Tensor> for Datum {
    fn from(tensor: Tensor) -> Datum {
        Datum::Tensor(tensor)
    }
}

impl<T> From<Vec<Datum<T>>> for Datum<T> {
    fn from(elements: Vec<Datum<T>>) -> Datum<T> {
        Datum::Sequence(elements.into())
    }
}

/// The deepest nesting of containers: a sequence of maps, or an optional with a sequence of tensors.
const DEEPEST: usize = 2;

impl Datum {
    /// A map. The keys are int64 or strings, of shape `[n]`; so are the values, of any dtype.
    ///
    /// # Errors
    /// [`Error::Tensor`] for keys of another dtype, or of another number than the values.
    pub fn map(keys: Tensor, values: Tensor) -> Result<Datum> {
        let is_list = |tensor: &Tensor| tensor.shape().len() == 1;
        if !is_list(&keys) || keys.shape() != values.shape() {
            let (keys, values) = (keys.shape(), values.shape());
            return Err(Error::Tensor(format!(
                "a map has keys of shape {keys:?} and values of shape {values:?}, and needs [n] of both"
            )));
        }
        if !matches!(keys.dtype(), DType::I64 | DType::String) {
            let dtype = keys.dtype();
            return Err(Error::Tensor(format!("the keys of a map are {dtype}, and must be int64 or string")));
        }
        Ok(Datum::Map { keys, values })
    }

    /// Refuses containers that no model has: a walk over them would take the stack.
    pub(crate) fn check_depth(&self) -> Result<(), String> {
        if self.depth(DEEPEST + 1) > DEEPEST {
            return Err(format!("containers are nested deeper than {DEEPEST}"));
        }
        Ok(())
    }
}

impl<T> Datum<T> {
    /// The tensor, which output `name` must be.
    pub(crate) fn into_tensor(self, name: &str) -> Result<T> {
        match self {
            Datum::Tensor(tensor) => Ok(tensor),
            other => Err(Error::Output {
                name: name.into(),
                reason: format!("is a {}, and no tensor; `Session::run_values` returns it", other.kind()),
            }),
        }
    }

    /// The tensor, if it is one.
    pub fn tensor(&self) -> Option<&T> {
        match self {
            Datum::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The elements, if it is a sequence.
    pub fn sequence(&self) -> Option<&[Datum<T>]> {
        match self {
            Datum::Sequence(elements) => Some(elements),
            _ => None,
        }
    }

    /// `tensor`, `sequence`, `optional` or `map`.
    pub fn kind(&self) -> &'static str {
        match self {
            Datum::Tensor(_) => "tensor",
            Datum::Sequence(_) => "sequence",
            Datum::Optional(_) => "optional",
            Datum::Map { .. } => "map",
        }
    }

    /// The number of containers around a tensor; no more than `most` are looked at.
    fn depth(&self, most: usize) -> usize {
        let inside = |datum: &Datum<T>| match most {
            0 => 0,
            most => datum.depth(most - 1),
        };
        match self {
            Datum::Tensor(_) => 0,
            Datum::Sequence(elements) => 1 + elements.iter().map(inside).max().unwrap_or(0),
            Datum::Optional(content) => 1 + content.iter().map(|datum| inside(datum)).max().unwrap_or(0),
            Datum::Map { .. } => 1,
        }
    }

    /// The same containers with what `change` makes of each tensor.
    pub(crate) fn try_map<U, E>(
        &self,
        change: &mut impl FnMut(&T) -> std::result::Result<U, E>,
    ) -> std::result::Result<Datum<U>, E> {
        Ok(match self {
            Datum::Tensor(tensor) => Datum::Tensor(change(tensor)?),
            Datum::Sequence(elements) => {
                let mut all = Vec::with_capacity(elements.len());
                for element in elements.iter() {
                    all.push(element.try_map(change)?);
                }
                Datum::Sequence(all.into())
            }
            Datum::Optional(content) => {
                let content = content.as_ref().map(|content| content.try_map(change)).transpose()?;
                Datum::Optional(content.map(Arc::new))
            }
            Datum::Map { keys, values } => Datum::Map { keys: change(keys)?, values: change(values)? },
        })
    }

    /// The number of tensors in it.
    pub(crate) fn tensors(&self) -> usize {
        match self {
            Datum::Tensor(_) => 1,
            Datum::Sequence(elements) => elements.iter().map(Datum::tensors).sum(),
            Datum::Optional(content) => content.as_ref().map_or(0, |content| content.tensors()),
            Datum::Map { .. } => 2,
        }
    }
}

/// The most elements of a sequence or of a map that are printed.
const PRINTED: usize = 16;

/// A tensor as its dtype and its shape, containers with their elements, a map of numbers with these.
impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Datum::Tensor(tensor) => write!(f, "{}{:?}", tensor.dtype(), tensor.shape()),
            Datum::Sequence(elements) => {
                let shown: Vec<String> = elements.iter().take(PRINTED).map(Datum::to_string).collect();
                write!(f, "[{}{}]", shown.join(", "), more(elements.len()))
            }
            Datum::Optional(None) => f.write_str("none"),
            Datum::Optional(Some(content)) => write!(f, "some {content}"),
            Datum::Map { keys, values } => {
                let entries = (0..keys.len().min(PRINTED))
                    .map(|i| format!("{}: {}", element(keys, i), element(values, i)));
                write!(f, "{{{}{}}}", entries.collect::<Vec<_>>().join(", "), more(keys.len()))
            }
        }
    }
}

fn more(count: usize) -> String {
    let more = count.saturating_sub(PRINTED);
    if more == 0 { String::new() } else { format!(", and {more} more") }
}

/// The text of an element of a map.
fn element(tensor: &Tensor, i: usize) -> String {
    if let Some(texts) = tensor.strings() {
        return texts.get(i).map_or(String::new(), |text| crate::shown(text).to_string());
    }
    let (bytes, width) = (tensor.bytes(), tensor.dtype().bits() / 8);
    match (tensor.dtype(), bytes.get(i * width..(i + 1) * width)) {
        (DType::I64, Some(bytes)) => {
            bytes.try_into().map(i64::from_le_bytes).map_or("?".into(), |v| v.to_string())
        }
        (DType::F32, Some(bytes)) => {
            bytes.try_into().map(f32::from_le_bytes).map_or("?".into(), |v| v.to_string())
        }
        (DType::F64, Some(bytes)) => {
            bytes.try_into().map(f64::from_le_bytes).map_or("?".into(), |v| v.to_string())
        }
        (dtype, _) => dtype.name().into(),
    }
}

/// What a value is, before its sizes are known: a tensor, or a container.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A tensor with elements of this type; `None` where nothing says which.
    Tensor(Option<DType>),
    /// A sequence of values of one kind.
    Sequence(Box<Kind>),
    /// A value of this kind, or none.
    Optional(Box<Kind>),
    /// A map.
    Map,
}

impl Kind {
    /// Whether it is a container.
    pub(crate) fn is_container(&self) -> bool {
        !matches!(self, Kind::Tensor(_))
    }

    /// Whether the device has no form for it: a container, or strings.
    pub(crate) fn is_on_host(&self) -> bool {
        self.is_container() || *self == Kind::Tensor(Some(DType::String))
    }

    /// Whether it is a tensor of float64, with which not every device computes.
    pub(crate) fn is_float64(&self) -> bool {
        matches!(self, Kind::Tensor(Some(DType::F64)))
    }

    pub(crate) fn sequence_of(self) -> Kind {
        Kind::Sequence(Box::new(self))
    }

    pub(crate) fn optional(self) -> Kind {
        Kind::Optional(Box::new(self))
    }

    /// Whether a value is of this kind, as far as it shows.
    pub(crate) fn fits(&self, datum: &Datum) -> bool {
        match (self, datum) {
            (Kind::Tensor(None), Datum::Tensor(_)) | (Kind::Map, Datum::Map { .. }) => true,
            (Kind::Tensor(Some(dtype)), Datum::Tensor(tensor)) => *dtype == tensor.dtype(),
            (Kind::Sequence(kind), Datum::Sequence(elements)) => elements.iter().all(|each| kind.fits(each)),
            (Kind::Optional(kind), Datum::Optional(content)) => content.iter().all(|each| kind.fits(each)),
            _ => false,
        }
    }
}

/// `sequence(float32)`, for example.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Tensor(dtype) => f.write_str(dtype.map_or("?", DType::name)),
            Kind::Sequence(kind) => write!(f, "sequence({kind})"),
            Kind::Optional(kind) => write!(f, "optional({kind})"),
            Kind::Map => f.write_str("map"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_print_their_elements() {
        let tensor = || Datum::from(Tensor::from_slice(&[2, 1], &[1i64, 2]).unwrap());
        assert_eq!(Datum::from(vec![tensor(), tensor()]).to_string(), "[int64[2, 1], int64[2, 1]]");
        assert_eq!(Datum::from(vec![tensor(); 18]).to_string().matches("int64").count(), 16);
        let keys = Tensor::from_slice(&[2], &[3i64, -1]).unwrap();
        let map = Datum::map(keys.clone(), Tensor::from_slice(&[2], &[0.5f32, 1.0]).unwrap()).unwrap();
        assert_eq!(map.to_string(), "{3: 0.5, -1: 1}");
        assert!(Datum::map(keys.clone(), Tensor::from_slice(&[1], &[0.5f32]).unwrap()).is_err());
        assert!(Datum::map(Tensor::from_slice(&[1], &[0.5f32]).unwrap(), keys).is_err());
        assert_eq!(Datum::<Tensor>::Optional(None).to_string(), "none");
    }

    #[test]
    fn deep_containers_are_refused() {
        let mut datum = Datum::from(vec![]);
        assert!(datum.check_depth().is_ok());
        for _ in 0..5 {
            datum = vec![datum].into();
        }
        assert!(datum.check_depth().is_err());
    }
}
