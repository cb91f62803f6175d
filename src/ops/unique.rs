//! Unique: distinct elements, or slices along an axis, with their places and counts. Their number depends on the data: the
//! reference computes it, and planning does where it knows the data.
//!
//! History: 11, 28.

use std::cmp::Ordering;

use super::case::{self, Case, Tolerance};
use super::non_zero::known_facts;
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, axes, of_array, of_elements, onnx, product,
    required, sorting, types,
};
use crate::array::Numbers;
use crate::facts::Fact;

/// Unique.
#[derive(Clone, Debug)]
pub(crate) struct Unique {
    axis: Option<i64>,
    /// Whether the result is in ascending order; otherwise it is in the order of first occurrence.
    sorted: bool,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("Unique", 11, types![T -> T int64 int64 int64; T: ALL BF16@28], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Unique { axis: def.attributes.int("axis")?, sorted: def.attributes.flag("sorted", true)? }.into())
}

fn compare(data: &Numbers, a: usize, b: usize) -> Ordering {
    match data {
        // NaN is greater than all numbers, and equal to itself.
        Numbers::Float(v) => v[a].partial_cmp(&v[b]).unwrap_or(v[a].is_nan().cmp(&v[b].is_nan())),
        Numbers::Int(v) => v[a].cmp(&v[b]),
        Numbers::Text(v) => v[a].cmp(&v[b]),
    }
}

impl Operator for Unique {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        known_facts(self, inputs)
    }

    fn shapes_depend_on_data(&self) -> bool {
        true
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let flat;
        let (x, axis) = match self.axis {
            Some(axis) => (x, axes::axis(axis, x.shape.len())?),
            None => {
                flat = x.reshaped(&[x.len()]);
                (&flat, 0)
            }
        };
        let size = x.shape[axis];
        let inner: usize = product(&x.shape[axis + 1..]);
        let outer: usize = product(&x.shape[..axis]);
        let element = |slice: usize, i: usize| (i / inner * size + slice) * inner + i % inner;
        let order = |&a: &usize, &b: &usize| {
            let each = (0..outer * inner).map(|i| compare(&x.data, element(a, i), element(b, i)));
            each.fold(Ordering::Equal, Ordering::then)
        };
        let mut slices: Vec<usize> = (0..size).collect();
        slices.sort_by(order);
        // Equal slices stand together, in the order of occurrence.
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for slice in slices {
            match groups.last_mut() {
                Some(group) if order(&group[0], &slice).is_eq() => group.push(slice),
                _ => groups.push(vec![slice]),
            }
        }
        if !self.sorted {
            groups.sort_by_key(|group| group[0]);
        }
        let mut shape = x.shape.clone();
        shape[axis] = groups.len();
        let source = |i: usize| {
            let (row, within) = (i / inner, i % inner);
            Some((row / groups.len() * size + groups[row % groups.len()][0]) * inner + within)
        };
        let mut inverse = vec![0; size];
        for (number, group) in groups.iter().enumerate() {
            group.iter().for_each(|&slice| inverse[slice] = number as i128);
        }
        let list = |values: Vec<i128>| Array::int(DType::I64, &[values.len()], values);
        Ok(vec![
            x.gather(&shape, source, None),
            list(groups.iter().map(|group| group[0] as i128).collect()),
            list(inverse),
            list(groups.iter().map(|group| group.len() as i128).collect()),
        ])
    }

    fn work(&self, inputs: &[Option<&Fact>], _: &[Fact]) -> Result<Work, Why> {
        let x = required(inputs, 0)?;
        // The slices, and a list for each group of equal ones; then the results, which are at most as large as the input.
        let groups = size_of::<Vec<usize>>() + 6 * size_of::<usize>() + 3 * size_of::<i128>();
        let elements = of_elements(inputs, &[]) + of_array(x);
        Ok(elements.temporary(x.count(), groups).steps(&[x.count(), sorting(x.count()), 2]))
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("Unique", name).tolerance(Tolerance::EXACT).outputs(4);
    let rows = || case::values(&[4, 2], &[2i64, 1, 0, 5, 2, 1, 0, 4]);
    vec![
        new("sorted").constant(case::values(&[6], &[2.0f32, 1.0, 1.0, 3.0, 4.0, 3.0])),
        new("in order").int("sorted", 0).constant(case::values(&[6], &[2.0f32, 1.0, 1.0, 3.0, 4.0, 3.0])),
        new("rows").int("axis", 0).constant(rows()),
        new("columns").int("axis", -1).constant(rows()),
        new("flat").constant(rows()),
        new("nan").constant(case::values(&[4], &[f32::NAN, 1.0, f32::NAN, -0.0])),
    ]
}
