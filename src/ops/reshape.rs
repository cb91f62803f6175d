//! Operators that keep the elements and change the shape, or nothing: Reshape, Squeeze, Unsqueeze, Flatten, Identity. All are
//! views.
//!
//! History: Reshape 5, 13, 14 (allowzero), 19, 21, 23, 24, 25; Squeeze and Unsqueeze 1, 11 (negative axes), 13 (axes are an
//! input), 21, 23, 24, 25; Flatten 1, 9, 11 (negative axis), 13, 21, 23, 24, 25; Identity 1, 13, 14, 16, 19, 21, 23, 24, 25.

use super::axes::{IntList, axes};
use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare, inner, is_outermost};
use super::{Array, NodeDef, Op, Operator, Row, Why, onnx, refuse, required, strides, types};
use crate::DType;
use crate::facts::Fact;
use crate::plan::Lower;
use crate::tensor::checked_count;

/// The same elements under another shape.
#[derive(Clone, Debug)]
pub(crate) enum Reshape {
    To {
        allow_zero: bool,
    },
    Squeeze(IntList),
    Unsqueeze(IntList),
    /// Into a matrix whose rows are numbered by the dimensions before this axis.
    Flatten(i64),
    Identity,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("Flatten", 1, types![T -> T; T: FLOATS ALL@9 BF16@13 SMALL@21], parse, flatten_cases),
    onnx(
        "Identity",
        1,
        types![T -> T; T: ALL BF16@13 | 14: T -> T; T: ALL BF16 SMALL],
        parse,
        identity_cases,
    ),
    onnx("Reshape", 5, types![T int64 -> T; T: ALL BF16@13 SMALL], parse, reshape_cases),
    onnx("Squeeze", 1, types![T int64 -> T; T: ALL BF16@13 SMALL@21], parse, squeeze_cases),
    onnx("Unsqueeze", 1, types![T int64 -> T; T: ALL BF16@13 SMALL@21], parse, unsqueeze_cases),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let axes = || {
        Ok::<_, Why>(match def.attributes.ints("axes")? {
            Some(axes) if def.opset < 13 => IntList::Attribute(axes),
            _ if def.opset >= 13 && def.has_input(1) => IntList::Input(1),
            _ => IntList::Absent,
        })
    };
    let reshape = match def.op_type {
        "Reshape" => Reshape::To { allow_zero: def.attributes.flag("allowzero", false)? },
        "Squeeze" => Reshape::Squeeze(axes()?),
        "Unsqueeze" => Reshape::Unsqueeze(axes()?),
        "Flatten" => Reshape::Flatten(def.attributes.int_or("axis", 1)?),
        _ => Reshape::Identity,
    };
    Ok(reshape.into())
}

impl Reshape {
    /// The list on which the shape depends: the new shape, or axes.
    fn operand(&self) -> IntList {
        match self {
            Reshape::To { .. } => IntList::Input(1),
            Reshape::Squeeze(axes) | Reshape::Unsqueeze(axes) => axes.clone(),
            Reshape::Flatten(_) | Reshape::Identity => IntList::Absent,
        }
    }

    fn shape(&self, from: &[usize], list: Option<Vec<i64>>) -> Result<Vec<usize>, Why> {
        match (self, list) {
            (Reshape::To { allow_zero }, Some(list)) => reshape(from, &list, *allow_zero),
            (Reshape::Squeeze(_), None) => Ok(from.iter().copied().filter(|&d| d != 1).collect()),
            (Reshape::Squeeze(_), Some(list)) => squeeze(from, &list),
            (Reshape::Unsqueeze(_), Some(list)) => unsqueeze(from, &list),
            (Reshape::Flatten(axis), _) => flatten(from, *axis),
            (Reshape::Identity, _) => Ok(from.to_vec()),
            (Reshape::To { .. }, None) => refuse!("the new shape is required"),
            (Reshape::Unsqueeze(_), None) => refuse!("axes are required"),
        }
    }
}

fn reshape(from: &[usize], to: &[i64], allow_zero: bool) -> Result<Vec<usize>, Why> {
    let mut shape = Vec::with_capacity(to.len());
    let mut open = None;
    for (i, &d) in to.iter().enumerate() {
        shape.push(match d {
            -1 if open.is_some() => refuse!("the new shape {to:?} has more than one -1"),
            -1 => {
                open = Some(i);
                1
            }
            0 if !allow_zero => match from.get(i) {
                Some(&d) => d,
                None => refuse!("0 in the new shape {to:?} copies a dimension that the input has not"),
            },
            d if d >= 0 => d as usize,
            _ => refuse!("the new shape {to:?} has a negative dimension"),
        });
    }
    let (Some(had), Some(rest)) = (checked_count(from), checked_count(&shape)) else {
        refuse!("the new shape {to:?} is too large");
    };
    if let Some(i) = open {
        if rest == 0 || had % rest != 0 {
            refuse!("-1 in the new shape {to:?} cannot be inferred from {had} elements");
        }
        shape[i] = had / rest;
    } else if had != rest {
        refuse!("the new shape {to:?} does not hold {had} elements");
    }
    Ok(shape)
}

fn squeeze(from: &[usize], list: &[i64]) -> Result<Vec<usize>, Why> {
    let gone = axes(list, from.len())?;
    if let Some(&axis) = gone.iter().find(|&&axis| from[axis] != 1) {
        refuse!("axis {axis} has size {}, and only size 1 can be squeezed", from[axis]);
    }
    Ok((0..from.len()).filter(|axis| !gone.contains(axis)).map(|axis| from[axis]).collect())
}

fn unsqueeze(from: &[usize], list: &[i64]) -> Result<Vec<usize>, Why> {
    let rank = from.len() + list.len();
    let new = axes(list, rank)?;
    let mut old = from.iter().copied();
    Ok((0..rank).map(|axis| if new.contains(&axis) { 1 } else { old.next().unwrap_or(1) }).collect())
}

fn flatten(from: &[usize], axis: i64) -> Result<Vec<usize>, Why> {
    let rank = from.len() as i64;
    let split = if axis < 0 { axis + rank } else { axis };
    if !(0..=rank).contains(&split) {
        refuse!("axis {axis} is out of range for rank {rank}");
    }
    let (rows, columns) = from.split_at(split as usize);
    match (checked_count(rows), checked_count(columns)) {
        (Some(rows), Some(columns)) => Ok(vec![rows, columns]),
        _ => refuse!("the dimensions are too large"),
    }
}

impl Operator for Reshape {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let shape = self.shape(&x.shape, self.operand().of_facts(inputs)?)?;
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let (x, to) = (inputs.first().copied().flatten()?, outputs.first()?);
        let own = x.shape.iter().position(|&size| size > 1)?;
        if !is_outermost(&to.shape, axis) || *to.shape.get(axis)? == 1 || x.count() == 0 {
            return None;
        }
        // The least range of elements that is one of whole indices on both sides.
        let (of_x, of_output) = (inner(&x.shape, own), inner(&to.shape, axis));
        let (mut a, mut b) = (of_x, of_output);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        let unit = (of_x / a).checked_mul(of_output)?;
        let shares = vec![InputShare::Along { axis: own, step: unit / of_x }];
        let division = Division { of_output: unit / of_output, ..Division::of(x.count() / unit, shares) };
        (x.count() % unit == 0).then_some(division)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let shape = self.shape(&x.shape, self.operand().of_arrays(inputs)?)?;
        Ok(vec![x.reshaped(&shape)])
    }

    fn shape_operands(&self) -> &[usize] {
        if let IntList::Input(_) = self.operand() { &[1] } else { &[] }
    }

    fn passes_input_on(&self) -> bool {
        matches!(self, Reshape::Identity)
    }

    fn moves_elements(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let count = cx.fact(0)?.count();
        strides::gather(cx, 0, 0, &[(count, 1)])
    }
}

fn exact(op: &str, case: &str, shape: &[usize]) -> Case {
    Case::new(op, case).tolerance(Tolerance::EXACT).input(case::random(shape))
}

fn reshape_cases() -> Vec<Case> {
    let to = |case: &str, from: &[usize], to: &[i64]| exact("Reshape", case, from).constant(case::list(to));
    vec![
        to("infer", &[2, 3, 4], &[4, -1]),
        to("copy", &[2, 3, 4], &[0, 0, 2, 2]),
        to("scalar", &[1, 1], &[]),
        to("from_scalar", &[], &[1, -1]),
        to("rank6", &[12], &[1, 2, 1, 3, 2, 1]),
        to("empty", &[0, 3], &[3, 0]).int("allowzero", 1),
        exact("Reshape", "shape_is_input", &[2, 6]).input(case::list(&[3, 4])),
        exact("Reshape", "opset7", &[2, 6]).opset(7).constant(case::list(&[0, 2, 3])),
        Case::new("Reshape", "bool")
            .tolerance(Tolerance::EXACT)
            .input(case::bools(&[4], &[true, false, false, true]))
            .constant(case::list(&[2, 2])),
    ]
}

fn squeeze_cases() -> Vec<Case> {
    vec![
        exact("Squeeze", "all", &[1, 3, 1, 2]),
        exact("Squeeze", "axes", &[1, 3, 1, 2]).constant(case::list(&[-2])),
        exact("Squeeze", "to_scalar", &[1, 1]).constant(case::list(&[0, 1])),
        exact("Squeeze", "opset11", &[1, 3, 1]).opset(11).ints("axes", &[0, -1]),
        exact("Squeeze", "empty", &[1, 0, 1]).input(case::list(&[0])),
    ]
}

fn unsqueeze_cases() -> Vec<Case> {
    vec![
        exact("Unsqueeze", "unsorted", &[3, 4]).constant(case::list(&[-1, 0, 2])),
        exact("Unsqueeze", "scalar", &[]).constant(case::list(&[0])),
        exact("Unsqueeze", "opset11", &[3, 4]).opset(11).ints("axes", &[1]),
        exact("Unsqueeze", "empty", &[0]).input(case::list(&[1])),
    ]
}

fn flatten_cases() -> Vec<Case> {
    vec![
        exact("Flatten", "default", &[2, 3, 4]),
        exact("Flatten", "axis0", &[2, 3, 4]).int("axis", 0),
        exact("Flatten", "last", &[2, 3, 4]).int("axis", 3),
        exact("Flatten", "negative", &[2, 3, 4, 5]).int("axis", -3),
        exact("Flatten", "scalar", &[]).int("axis", 0),
    ]
}

fn identity_cases() -> Vec<Case> {
    let ints = case::converted(&case::integers(&[5], -100, 100), DType::I8);
    vec![
        exact("Identity", "matrix", &[3, 5]),
        exact("Identity", "empty", &[0]),
        Case::new("Identity", "int8").tolerance(Tolerance::EXACT).input(ints),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_do_not_hold_the_elements_are_refused() {
        assert_eq!(reshape(&[2, 3, 4], &[0, -1], false), Ok(vec![2, 12]));
        assert_eq!(reshape(&[0, 3], &[0, 5], false), Ok(vec![0, 5]));
        for list in [&[-1, -1][..], &[5, -1], &[7], &[-2], &[2, 3, 4, 0], &[i64::MAX, i64::MAX]] {
            assert!(reshape(&[2, 3, 4], list, false).is_err(), "{list:?}");
        }
        assert!(reshape(&[0, 3], &[0, -1], true).is_err());
    }

    #[test]
    fn only_size_1_is_squeezed() {
        assert!(squeeze(&[1, 3], &[1]).is_err());
        assert!(unsqueeze(&[3], &[0, 0]).is_err());
    }
}
