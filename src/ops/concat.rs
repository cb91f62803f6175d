//! Concat: tensors one after the other along an axis. Where the axis is outermost, inputs are written in place.
//!
//! History: 4, 11 (negative axis), 13.

use super::axes::axis;
use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare};
use super::strides::{self, Copy};
use super::{
    Array, NodeDef, Op, Operator, Row, Why, Work, of_array, of_elements, onnx, product, refuse, required,
    types,
};
use crate::array;
use crate::facts::Fact;
use crate::kernels::Access;
use crate::plan::Lower;

/// Concatenation along an axis.
#[derive(Clone, Debug)]
pub(crate) struct Concat {
    axis: i64,
}

pub(crate) const ROWS: &[Row] = &[onnx("Concat", 4, types![[T] -> T; T: ALL BF16@13], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    match def.attributes.int("axis")? {
        Some(axis) => Ok(Concat { axis }.into()),
        None => refuse!("attribute 'axis' is required"),
    }
}

impl Concat {
    /// The axis as the model gives it.
    pub(crate) fn axis(&self) -> i64 {
        self.axis
    }
}

/// The axis and the result's shape.
fn joined(list: i64, shapes: &[&[usize]]) -> Result<(usize, Vec<usize>), Why> {
    let Some(first) = shapes.first() else { refuse!("at least one input is required") };
    let axis = axis(list, first.len())?;
    let mut shape = first.to_vec();
    for other in &shapes[1..] {
        let fits = other.len() == shape.len() && (0..shape.len()).all(|d| d == axis || other[d] == shape[d]);
        if !fits {
            refuse!("the inputs' dimensions differ beside axis {axis}");
        }
        shape[axis] = match shape[axis].checked_add(other[axis]) {
            Some(size) => size,
            None => refuse!("the result is too large"),
        };
    }
    Ok((axis, shape))
}

impl Operator for Concat {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let first = required(inputs, 0)?;
        if inputs.iter().flatten().any(|fact| fact.dtype != first.dtype) {
            refuse!("the inputs have different dtypes");
        }
        let shapes: Vec<&[usize]> = inputs.iter().flatten().map(|fact| fact.shape.as_slice()).collect();
        Ok(vec![Fact::new(first.dtype, joined(self.axis, &shapes)?.1)])
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let output = outputs.first()?;
        let joined = super::axes::axis(self.axis, output.rank()).ok()?;
        let shares = vec![InputShare::along(axis); inputs.len()];
        (axis != joined).then_some(Division::of(*output.shape.get(axis)?, shares))
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let inputs: Vec<&Array> = inputs.iter().flatten().copied().collect();
        let shapes: Vec<&[usize]> = inputs.iter().map(|array| array.shape.as_slice()).collect();
        let (axis, shape) = joined(self.axis, &shapes)?;
        // All inputs one after the other, and for each element of the result its index there.
        let all = Array::joined(&inputs)?;
        let outer: usize = product(&shape[..axis]);
        let mut sources = Vec::with_capacity(all.len());
        for row in 0..outer {
            let mut start = 0;
            for input in &inputs {
                let run = input.len() / outer;
                sources.extend(start + row * run..start + (row + 1) * run);
                start += input.len();
            }
        }
        Ok(vec![all.gather(&shape, |i| Some(sources[i]), None)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let joined = outputs.iter().map(of_array).sum::<Work>();
        Ok(of_elements(inputs, outputs) + joined)
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let shape = &cx.out(0)?.shape;
        let axis = axis(self.axis, shape.len())?;
        let outer: usize = product(&shape[..axis]);
        let step = array::strides(shape)[axis];
        let facts = cx.facts();
        let appended = cx.appended(axis)?;
        let filled = |i: &usize| facts[*i].is_some_and(|fact| fact.count() > 0);
        if let (None, [only]) = (appended, &(0..facts.len()).filter(filled).collect::<Vec<_>>()[..]) {
            return cx.lies(0, *only, Access::new(0, &[(product(shape), 1)]));
        }
        let (whole, rows) = match appended {
            Some(whole) => (whole, cx.shape(whole)[axis]),
            None => (cx.output(0)?, shape[axis]),
        };
        let mut offset = 0;
        for (i, fact) in facts.into_iter().enumerate() {
            let Some(fact) = fact.filter(|fact| fact.count() > 0) else { continue };
            let run = fact.shape[axis] * step;
            if i == 0 && appended.is_some() {
                offset += run;
                continue;
            }
            let part = cx.input(i)?;
            if outer == 1 && appended.is_none() {
                cx.part(whole, part, offset);
            } else {
                let dims = [(outer, (rows * step) as i64), (run, 1)];
                let (from, to, base) = (part, whole, offset as i64);
                strides::scatter(cx, Copy { number: i, from, to, base, dims: &dims });
            }
            offset += run;
        }
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, axis: i64, shapes: &[&[usize]]| {
        let case = Case::new("Concat", case).int("axis", axis).tolerance(Tolerance::EXACT);
        shapes.iter().fold(case, |case, shape| case.input(case::random(shape)))
    };
    let (a, b) = (case::integers(&[2, 2], -9, 9), case::integers(&[2, 3], -9, 9));
    vec![
        of("outermost", 0, &[&[2, 3], &[5, 3]]),
        of("aligned", 0, &[&[64, 4], &[128, 4], &[3, 4]]),
        of("innermost", -1, &[&[3, 2], &[3, 1], &[3, 4]]),
        of("middle", 1, &[&[2, 3, 5], &[2, 1, 5]]),
        of("channels", 1, &[&[1, 3, 5, 5], &[1, 2, 5, 5]]),
        of("one", 1, &[&[2, 3]]),
        of("ten", 0, &[&[1][..]; 10]),
        of("empty_part", 1, &[&[2, 3], &[2, 0], &[2, 2]]),
        of("empty", 1, &[&[0, 3], &[0, 2]]),
        of("rank5", 2, &[&[2, 1, 3, 2, 2], &[2, 1, 2, 2, 2]]),
        Case::new("Concat", "int64").int("axis", 1).tolerance(Tolerance::EXACT).input(a).input(b),
    ]
}
