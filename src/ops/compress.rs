//! Compress: the slices, or elements, that a condition keeps. How many depends on the data: the reference has it, and
//! planning where the data are known.
//!
//! History: 9, 11, 28.

use super::case::{self, Case, Tolerance};
use super::non_zero::known_facts;
use super::{Array, NodeDef, Op, Operator, Row, Why, axes, onnx, refuse, required};
use crate::plan::Fact;

/// Compress along `axis`, or of all elements.
#[derive(Clone, Debug)]
pub(crate) struct Compress {
    axis: Option<i64>,
}

pub(crate) const ROWS: &[Row] = &[onnx("Compress", 9, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Compress { axis: def.attributes.int("axis")? }.into())
}

impl Operator for Compress {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        known_facts(self, inputs)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, condition) = (required(inputs, 0)?, required(inputs, 1)?);
        let flat;
        let (x, axis) = match self.axis {
            Some(axis) => (x, axes::axis(axis, x.shape.len())?),
            None => {
                flat = x.reshaped(&[x.len()]);
                (&flat, 0)
            }
        };
        let size = x.shape[axis];
        let flags = condition.ints()?;
        let kept: Vec<usize> = (0..flags.len()).filter(|&i| flags[i] != 0).collect();
        if kept.last().is_some_and(|&last| last >= size) {
            refuse!("the condition keeps slice {:?} of an axis of {size}", kept.last());
        }
        let inner: usize = x.shape[axis + 1..].iter().product();
        let mut shape = x.shape.clone();
        shape[axis] = kept.len();
        let source = |i: usize| {
            let (row, within) = (i / inner, i % inner);
            Some((row / kept.len() * size + kept[row % kept.len()]) * inner + within)
        };
        Ok(vec![x.gather(&shape, source, None)])
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("Compress", name).tolerance(Tolerance::EXACT);
    let flags = |flags: &[bool]| case::bools(&[flags.len()], flags);
    vec![
        new("rows").int("axis", 0).constant(case::random(&[3, 2])).constant(flags(&[false, true, true])),
        new("columns").int("axis", -1).constant(case::random(&[3, 2])).constant(flags(&[false, true])),
        new("flat").constant(case::random(&[3, 2])).constant(flags(&[false, true, false, false, true])),
        new("none").int("axis", 0).constant(case::random(&[3, 2])).constant(flags(&[false])),
    ]
}
