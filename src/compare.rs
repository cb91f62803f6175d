//! Comparison of tensors: how far numbers may be apart, and which element is further.

use std::fmt;

use crate::array::{Array, Numbers};
use crate::{DType, Error, Result, Tensor};

/// How far a number may be from the expected one: `absolute + relative * |expected|`. For integers and bools, `absolute`
/// alone.
///
/// ```
/// use sardonyx::{Tensor, Tolerance};
/// let expected = Tensor::from_slice(&[2], &[1.0f32, 100.0])?;
/// let actual = Tensor::from_slice(&[2], &[1.0f32, 100.5])?;
/// assert_eq!(actual.difference(&expected, Tolerance { relative: 1e-2, absolute: 0.0 })?, None);
/// let difference = actual.difference(&expected, Tolerance::EXACT)?.expect("one element differs");
/// assert_eq!(difference.to_string(), "element 1: expected 100, got 100.5");
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The distance as a part of the expected number's magnitude.
    pub relative: f64,
    /// The distance for any expected number.
    pub absolute: f64,
}

impl Tolerance {
    /// Numbers must be equal. NaN equals NaN, and 0 equals -0.
    pub const EXACT: Tolerance = Tolerance { relative: 0.0, absolute: 0.0 };

    fn allows(self, expected: f64, actual: f64) -> bool {
        let apart = apart(expected, actual);
        apart == 0.0 || (apart.is_finite() && apart <= self.absolute + self.relative * expected.abs())
    }
}

/// The difference between two tensors: see [`Tensor::difference`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Difference {
    /// The type or the shape differs.
    Type {
        /// The type and the shape that were expected.
        expected: (DType, Vec<usize>),
        /// The type and the shape that the tensor has.
        actual: (DType, Vec<usize>),
    },
    /// A number differs by more than the tolerance; it is the first in row-major order.
    Number {
        /// The index of the element.
        element: usize,
        /// The number that was expected.
        expected: f64,
        /// The number that the tensor has.
        actual: f64,
    },
    /// A string differs; it is the first in row-major order.
    Text {
        /// The index of the element.
        element: usize,
        /// The string that was expected.
        expected: String,
        /// The string that the tensor has.
        actual: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Type { expected: (e, from), actual: (a, to) } => {
                write!(f, "expected {e}{from:?}, got {a}{to:?}")
            }
            Difference::Number { element, expected, actual } => {
                write!(f, "element {element}: expected {expected}, got {actual}")
            }
            Difference::Text { element, expected, actual } => {
                write!(f, "element {element}: expected {expected:?}, got {actual:?}")
            }
        }
    }
}

impl Tensor {
    /// The first difference from `expected`, if there is one: type and shape must be equal, numbers must be within the
    /// tolerance, and strings must be equal. Where an infinite number or NaN is expected, the tensor must have it.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the elements are complex numbers, which have no order.
    pub fn difference(&self, expected: &Tensor, tolerance: Tolerance) -> Result<Option<Difference>> {
        let of = |tensor: &Tensor| (tensor.dtype(), tensor.shape().to_vec());
        if of(expected) != of(self) {
            return Ok(Some(Difference::Type { expected: of(expected), actual: of(self) }));
        }
        let numbers =
            |tensor| Array::from_tensor(tensor).map_err(|why| why.error("a comparison", Error::Tensor));
        Ok(differing(&numbers(expected)?.data, &numbers(self)?.data, tolerance))
    }
}

/// How far apart two numbers are: infinitely, where one is infinite or NaN and the other is not the same.
pub fn apart(expected: f64, actual: f64) -> f64 {
    match (expected - actual).abs() {
        _ if expected == actual || (expected.is_nan() && actual.is_nan()) => 0.0,
        apart if apart.is_finite() => apart,
        _ => f64::INFINITY,
    }
}

/// How far apart elements `i` are; infinitely, where strings or kinds differ.
pub(crate) fn elements_apart(expected: &Numbers, actual: &Numbers, i: usize) -> f64 {
    match (expected, actual) {
        (Numbers::Float(e), Numbers::Float(a)) => apart(e[i], a[i]),
        (Numbers::Int(e), Numbers::Int(a)) => (e[i] - a[i]).unsigned_abs() as f64,
        (Numbers::Text(e), Numbers::Text(a)) if e[i] == a[i] => 0.0,
        _ => f64::INFINITY,
    }
}

fn differing(expected: &Numbers, actual: &Numbers, tolerance: Tolerance) -> Option<Difference> {
    match (expected, actual) {
        (Numbers::Float(e), Numbers::Float(a)) => {
            let element = (0..e.len()).find(|&i| !tolerance.allows(e[i], a[i]))?;
            Some(Difference::Number { element, expected: e[element], actual: a[element] })
        }
        (Numbers::Int(e), Numbers::Int(a)) => {
            let element = (0..e.len()).find(|&i| elements_apart(expected, actual, i) > tolerance.absolute)?;
            Some(Difference::Number { element, expected: e[element] as f64, actual: a[element] as f64 })
        }
        (Numbers::Text(e), Numbers::Text(a)) => {
            let element = (0..e.len()).find(|&i| e[i] != a[i])?;
            Some(Difference::Text { element, expected: e[element].clone(), actual: a[element].clone() })
        }
        // Both have one dtype, so both are numbers or both are strings.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differ(expected: &[f32], actual: &[f32], relative: f64) -> bool {
        let tensor = |values: &[f32]| Tensor::from_slice(&[values.len()], values).unwrap();
        let tolerance = Tolerance { relative, absolute: 1e-7 };
        tensor(actual).difference(&tensor(expected), tolerance).unwrap().is_some()
    }

    #[test]
    fn numbers_that_are_none_must_be_the_same() {
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        assert!(!differ(&[nan, infinity, -infinity, 0.0], &[nan, infinity, -infinity, -0.0], 0.0));
        for (expected, actual) in
            [(1.0, nan), (nan, 1.0), (1.0, infinity), (infinity, 1.0), (infinity, -infinity)]
        {
            assert!(differ(&[expected], &[actual], 10.0), "{expected} {actual}");
        }
        assert!(differ(&[100.0], &[102.0], 1e-2) && !differ(&[100.0], &[100.9], 1e-2));
        assert!(differ(&[1.0], &[1.0, 1.0], 1.0), "shapes differ");
    }

    #[test]
    fn infinity_is_near_nothing_else() {
        let (nan, infinity) = (f64::NAN, f64::INFINITY);
        for (same, other) in [(infinity, -infinity), (infinity, 1.0), (nan, 1.0), (nan, infinity)] {
            assert_eq!(
                (apart(same, same), apart(same, other), apart(other, same)),
                (0.0, infinity, infinity)
            );
        }
        assert_eq!((apart(1.0, 3.0), apart(0.0, -0.0)), (2.0, 0.0));
    }

    #[test]
    fn integers_do_not_round() {
        let tensor = |value: i64| Tensor::from_slice(&[1], &[value]).unwrap();
        let tolerance = Tolerance { relative: 0.5, absolute: 1.0 };
        let differ = |e, a| tensor(a).difference(&tensor(e), tolerance).unwrap().is_some();
        assert!(!differ(1 << 60, (1 << 60) + 1) && differ(1 << 60, (1 << 60) + 2));
        assert!(differ(i64::MIN, i64::MAX));
    }

    #[test]
    fn strings_are_equal_or_not() {
        let tensor = |text: &str| Tensor::from_strings(&[1], vec![text.into()]).unwrap();
        let difference = tensor("b").difference(&tensor("a"), Tolerance::EXACT).unwrap();
        assert_eq!(difference.unwrap().to_string(), r#"element 0: expected "a", got "b""#);
    }
}
