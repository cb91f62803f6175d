//! Compress: the slices, or elements, that a condition keeps. Their number depends on the condition.
//!
//! History: 9, 11, 28.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{
    Array, Attr, DType, NodeDef, Op, Operator, Row, Why, axes, onnx, product, refuse, required, types,
};
use crate::facts::Fact;
use crate::graph::ValueId;
use crate::kernels::gather as kernel;
use crate::kernels::words;
use crate::plan::{Lower, Outside};

/// Compress along `axis`, or of all elements if it is `None`.
#[derive(Clone, Debug)]
pub(crate) struct Compress {
    pub(crate) axis: Option<i64>,
}

pub(crate) const ROWS: &[Row] = &[onnx("Compress", 9, types![T bool -> T; T: ALL BF16@28], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Compress { axis: def.attributes.int("axis")? }.into())
}

/// What is kept of the input, which is read under a shape in which one axis is compressed.
struct Kept {
    /// The indices of the slices that are kept, along the axis.
    slices: Vec<usize>,
    /// The size of the axis, and the elements of a slice in one row.
    size: usize,
    inner: usize,
    result: Vec<usize>,
}

impl Compress {
    fn kept(&self, x: &[usize], condition: &Array) -> Result<Kept, Why> {
        let (mut result, axis) = match self.axis {
            Some(axis) => (x.to_vec(), axes::axis(axis, x.len())?),
            None => (vec![product(x)], 0),
        };
        let (size, flags) = (result[axis], condition.ints()?);
        if condition.shape.len() != 1 {
            refuse!("the condition has shape {:?}, and must have one axis", condition.shape);
        }
        let slices: Vec<usize> = (0..flags.len()).filter(|&i| flags[i] != 0).collect();
        if let Some(last) = slices.last().filter(|&&last| last >= size) {
            refuse!("the condition keeps slice {last} of an axis of {size}");
        }
        let inner = product(&result[axis + 1..]);
        result[axis] = slices.len();
        Ok(Kept { slices, size, inner, result })
    }
}

impl Operator for Compress {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, condition) = (required(inputs, 0)?, required(inputs, 1)?);
        if condition.dtype != DType::Bool {
            refuse!("the condition is {}, and must be bool", condition.dtype);
        }
        Ok(vec![Fact::new(x.dtype, self.kept(&x.shape, condition.array()?)?.result)])
    }

    fn shape_operands(&self) -> &[usize] {
        &[1]
    }

    fn counted(&self) -> &[usize] {
        &[1]
    }

    fn spelled(&self, body: &mut Body) -> Result<Vec<ValueId>, Why> {
        let (x, condition) = (body.input(0)?, body.input(1)?);
        let places = body.chosen(condition)?.places;
        let (data, axis) = match self.axis {
            Some(axis) => (x, axis),
            None => (body.flat(x)?, 0),
        };
        Ok(vec![body.with("Gather", &[("axis", Attr::Int(axis))], &[data, places])?])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, condition) = (required(inputs, 0)?, required(inputs, 1)?);
        let Kept { slices, size, inner, result } = self.kept(&x.shape, condition)?;
        let source = |i: usize| {
            let (row, within) = (i / inner, i % inner);
            Some((row / slices.len() * size + slices[row % slices.len()]) * inner + within)
        };
        Ok(vec![x.reshaped(&[x.len()]).gather(&result, source, None)])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let kept = self.kept(&cx.fact(0)?.shape, cx.fact(1)?.array()?)?;
        let count = cx.out(0)?.count();
        let places =
            cx.words(kept.slices.len(), || kept.slices.iter().map(|&slice| slice as u32).collect())?;
        let tensors = vec![cx.input(0)?, places, cx.output(0)?];
        // The kernel demands a range; indices that follow from a condition are always inside.
        cx.reports_index(1, Outside::Axes(vec![(0, kept.size)]));
        let params = words([count, kept.inner, kept.slices.len(), kept.size])?;
        cx.call(kernel::Gather::new(1, false), tensors, params, kernel::groups(count));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("Compress", name).tolerance(Tolerance::EXACT);
    let flags = |flags: &[bool]| case::bools(&[flags.len()], flags);
    vec![
        new("rows").int("axis", 0).constant(case::random(&[3, 2])).constant(flags(&[false, true, true])),
        new("columns").int("axis", -1).constant(case::random(&[3, 2])).constant(flags(&[false, true])),
        new("flat").constant(case::random(&[3, 2])).constant(flags(&[false, true, false, false, true])),
        new("rows of an input")
            .int("axis", 0)
            .input(case::random(&[3, 2]))
            .constant(flags(&[false, true, true])),
        new("middle")
            .int("axis", 1)
            .input(case::random(&[2, 4, 3]))
            .input(flags(&[true, false, false, true])),
        new("flat input").input(case::integers(&[3, 2], -9, 9)).constant(flags(&[true, false, true])),
        new("nothing").int("axis", 1).input(case::random(&[3, 2])).constant(flags(&[false, false])),
        new("of nothing").int("axis", 1).input(case::random(&[0, 2])).constant(flags(&[false, true])),
        new("none").int("axis", 0).constant(case::random(&[3, 2])).constant(flags(&[false])),
    ]
}
