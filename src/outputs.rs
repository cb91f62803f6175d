//! `Outputs`: the results of a run, by name and in order.

use std::ops::Index;
use std::sync::Arc;

use crate::{Datum, Tensor};

/// The outputs of a run: by name, by number, or in order. The order is that of the names that were asked for, or else the
/// model's.
///
/// ```
/// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
/// # let model = sardonyx::Model::from_bytes(bytes)?;
/// # let session = sardonyx::Session::new(&sardonyx::Device::reference(), &model, Default::default())?;
/// # let x = sardonyx::Tensor::from_slice(&[2], &[-1.0f32, 2.0])?;
/// let outputs = session.run(&[("x", &x)])?;
/// assert_eq!(outputs["y"].as_slice::<f32>()?, [0.0, 2.0]);
/// for (name, tensor) in &outputs {
///     println!("{name}: {:?}", tensor.shape());
/// }
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs<T = Tensor>(Vec<(Arc<str>, T)>);

impl<T> Outputs<T> {
    pub(crate) fn new(names: &[Arc<str>], values: Vec<T>) -> Outputs<T> {
        Outputs(names.iter().cloned().zip(values).collect())
    }

    /// The number of outputs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no outputs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The output of this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// Removes the output of this name, and returns it.
    ///
    /// ```
    /// # fn f(mut outputs: sardonyx::Outputs) {
    /// let logits: Option<sardonyx::Tensor> = outputs.remove("logits");
    /// assert!(outputs.get("logits").is_none());
    /// # }
    /// ```
    pub fn remove(&mut self, name: &str) -> Option<T> {
        let at = self.0.iter().position(|(own, _)| own.as_ref() == name)?;
        Some(self.0.remove(at).1)
    }

    /// Names and outputs, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &T)> {
        self.0.iter().map(named)
    }
}

impl Outputs<Datum> {
    /// The outputs that are tensors, and the others.
    ///
    /// ```
    /// # fn f(outputs: sardonyx::Outputs<sardonyx::Datum>) {
    /// let (tensors, containers) = outputs.separated();
    /// for (name, value) in &containers {
    ///     println!("{name}: {value}");
    /// }
    /// # let _: sardonyx::Outputs = tensors;
    /// # }
    /// ```
    pub fn separated(self) -> (Outputs, Outputs<Datum>) {
        let (mut tensors, mut others) = (Vec::new(), Vec::new());
        for (name, value) in self.0 {
            match value {
                Datum::Tensor(tensor) => tensors.push((name, tensor)),
                other => others.push((name, other)),
            }
        }
        (Outputs(tensors), Outputs(others))
    }
}

fn named<T>((name, value): &(Arc<str>, T)) -> (&str, &T) {
    (name, value)
}

/// # Panics
/// If there is no output of this name; [`Outputs::get`] returns `None` then.
impl<T> Index<&str> for Outputs<T> {
    type Output = T;

    fn index(&self, name: &str) -> &T {
        let names = || self.iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
        self.get(name).unwrap_or_else(|| panic!("no output is called '{name}'; there are {}", names()))
    }
}

/// # Panics
/// If there is no output of this number.
impl<T> Index<usize> for Outputs<T> {
    type Output = T;

    fn index(&self, number: usize) -> &T {
        &self.0[number].1
    }
}

impl<T> IntoIterator for Outputs<T> {
    type Item = (String, T);
    type IntoIter = std::iter::Map<std::vec::IntoIter<(Arc<str>, T)>, fn((Arc<str>, T)) -> (String, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(|(name, value)| (name.as_ref().into(), value))
    }
}

impl<'a, T> IntoIterator for &'a Outputs<T> {
    type Item = (&'a str, &'a T);
    type IntoIter = std::iter::Map<std::slice::Iter<'a, (Arc<str>, T)>, fn(&(Arc<str>, T)) -> (&str, &T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(named)
    }
}
