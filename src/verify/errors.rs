//! How far the device's values are from the expected ones.

use super::report::ValueError;
use crate::array::{Array, Numbers};
use crate::compare::elements_apart;
use crate::error::Why;
use crate::ops::Node;
use crate::{DType, Error, Result, Tensor};

/// Whether the error is within the tolerance; NaN never is.
pub(super) fn within(error: f64, tolerance: f64) -> bool {
    error <= tolerance
}

/// The tolerance for values of this type. The reference rounds narrow types after every node, the device only where values
/// leave it, so that two units in the last place may lie between them.
pub(super) fn allowed(tolerance: f64, dtype: DType) -> f64 {
    tolerance.max(2.0 * unit(dtype))
}

/// The unit in the last place of 1, for types that kernels compute in float32.
pub(super) fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1.0 / (1 << 10) as f64,
        DType::BF16 => 1.0 / (1 << 7) as f64,
        _ => 0.0,
    }
}

/// How far a tensor is from the expected one.
#[derive(Default)]
pub(super) struct Off {
    pub(super) absolute: f64,
    pub(super) relative: f64,
    /// Elements that exceed the tolerance.
    pub(super) beyond: usize,
    /// Elements that exceed the tolerance around the first of several expected values, but lie between these.
    pub(super) flips: usize,
}

impl Off {
    pub(super) fn into_value(self, node: Option<&Node>, name: &str, expected: &Array) -> ValueError {
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
pub(super) fn compare(expected: &[&Array], actual: &Tensor, tolerance: f64, beyond: f64) -> Result<Off> {
    let first = expected[0];
    let (infinite, tolerance) = (f64::INFINITY, allowed(tolerance, first.dtype));
    let infinite = Off { absolute: infinite, relative: infinite, beyond: first.len().max(1), flips: 0 };
    if (first.dtype, first.shape.as_slice()) != (actual.dtype(), actual.shape()) {
        return Ok(infinite);
    }
    let actual = match Array::from_tensor(actual) {
        Ok(actual) => actual,
        Err(Why::Refused(_) | Why::TooWide(_)) => return Ok(infinite),
        Err(none) => return Err(none.error("a comparison", Error::Tensor)),
    };
    let scale = largest(first).max(1e-6);
    let others = || expected.iter().filter(|other| other.len() == first.len() && other.dtype == first.dtype);
    let mut off = Off::default();
    for i in 0..first.len() {
        let mut apart = elements_apart(&first.data, &actual.data, i);
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
    Ok(off)
}

pub(super) fn largest(array: &Array) -> f64 {
    match &array.data {
        Numbers::Float(values) => {
            values.iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()))
        }
        Numbers::Int(values) => values.iter().fold(0.0, |m: f64, v| m.max(v.unsigned_abs() as f64)),
        Numbers::Text(_) => 0.0,
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
