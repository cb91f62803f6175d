//! Slice: a range with a step along each axis. It is a view where its elements are contiguous.
//!
//! History: 1 (attributes), 10 (inputs, steps), 11 (negative axes), 13.

use super::axes::{IntList, axes};
use super::case::{self, Case, Tolerance};
use super::division::Division;
use super::{Array, NodeDef, Op, Operator, Row, Types, Why, onnx, refuse, required, strides, types};
use crate::array;
use crate::facts::Fact;
use crate::plan::Lower;

/// The sources of the ranges.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    starts: IntList,
    ends: IntList,
    axes: IntList,
    steps: IntList,
}

const TYPES: Types = types![T Tind Tind Tind Tind -> T; T: ALL BF16@13, Tind: INDICES];

pub(crate) const ROWS: &[Row] = &[onnx("Slice", 1, TYPES, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    if def.opset < 10 {
        let list =
            |name: &str| Ok::<_, Why>(def.attributes.ints(name)?.map_or(IntList::Absent, IntList::Attribute));
        let (starts, ends, axes) = (list("starts")?, list("ends")?, list("axes")?);
        return Ok(Slice { starts, ends, axes, steps: IntList::Absent }.into());
    }
    let list = |i: usize| if def.has_input(i) { IntList::Input(i) } else { IntList::Absent };
    Ok(Slice { starts: list(1), ends: list(2), axes: list(3), steps: list(4) }.into())
}

/// The range along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
struct AxisRange {
    start: i64,
    step: i64,
    count: usize,
}

impl AxisRange {
    fn new(size: usize, start: i64, end: i64, step: i64) -> Result<AxisRange, Why> {
        if step == 0 {
            refuse!("a step is 0");
        }
        if size == 0 {
            return Ok(AxisRange { start: 0, step, count: 0 });
        }
        let size = size as i64;
        let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let place = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
        let start = place(start).clamp(0, high);
        let end = place(end).clamp(low, high);
        let count = if step > 0 { (end - start).max(0) as u64 } else { (start - end).max(0) as u64 };
        Ok(AxisRange { start, step, count: count.div_ceil(step.unsigned_abs()) as usize })
    }
}

type Lists = [Option<Vec<i64>>; 4];

/// A range for each axis of `shape`.
fn ranges(shape: &[usize], [starts, ends, on, steps]: Lists) -> Result<Vec<AxisRange>, Why> {
    let (Some(starts), Some(ends)) = (starts, ends) else { refuse!("starts and ends are required") };
    let on = axes(&on.unwrap_or_else(|| (0..starts.len() as i64).collect()), shape.len())?;
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), on.len(), steps.len()].iter().any(|&n| n != starts.len()) {
        refuse!("starts, ends, axes and steps have different lengths");
    }
    let mut ranges: Vec<AxisRange> =
        shape.iter().map(|&count| AxisRange { start: 0, step: 1, count }).collect();
    for (i, &axis) in on.iter().enumerate() {
        ranges[axis] = AxisRange::new(shape[axis], starts[i], ends[i], steps[i])?;
    }
    Ok(ranges)
}

impl Slice {
    fn lists(&self) -> [&IntList; 4] {
        [&self.starts, &self.ends, &self.axes, &self.steps]
    }

    fn of_facts(&self, inputs: &[Option<&Fact>]) -> Result<Vec<AxisRange>, Why> {
        let mut lists: Lists = Default::default();
        for (list, from) in lists.iter_mut().zip(self.lists()) {
            *list = from.of_facts(inputs)?;
        }
        ranges(&required(inputs, 0)?.shape, lists)
    }

    /// Begin and end along each axis; `None` where the slice takes steps.
    pub(crate) fn dense_ranges(&self, inputs: &[Option<&Fact>]) -> Option<Vec<(usize, usize)>> {
        let ranges = self.of_facts(inputs).ok()?;
        let dense = |range: &AxisRange| {
            let begin = usize::try_from(range.start).ok()?;
            (range.step == 1 && range.count > 0).then_some((begin, begin + range.count))
        };
        ranges.iter().map(dense).collect()
    }

    fn of_arrays(&self, inputs: &[Option<&Array>]) -> Result<Vec<AxisRange>, Why> {
        let mut lists: Lists = Default::default();
        for (list, from) in lists.iter_mut().zip(self.lists()) {
            *list = from.of_arrays(inputs)?;
        }
        ranges(&required(inputs, 0)?.shape, lists)
    }
}

impl Operator for Slice {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let shape: Vec<usize> = self.of_facts(inputs)?.iter().map(|range| range.count).collect();
        Ok(vec![Fact::new(required(inputs, 0)?.dtype, shape)])
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let ranges = self.of_facts(inputs).ok()?;
        let x = inputs.first().copied().flatten()?;
        let is_free = |axis: usize| ranges[axis] == AxisRange { start: 0, step: 1, count: x.shape[axis] };
        Division::of_first(axis, inputs, outputs.first()?, is_free)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let ranges = self.of_arrays(inputs)?;
        let shape: Vec<usize> = ranges.iter().map(|range| range.count).collect();
        let source = |i: usize| {
            let at = array::unravel(i, &shape);
            let from: Vec<usize> =
                at.iter().zip(&ranges).map(|(&at, r)| (r.start + at as i64 * r.step) as usize).collect();
            Some(array::ravel(&from, &x.shape))
        };
        Ok(vec![x.gather(&shape, source, None)])
    }

    fn shape_operands(&self) -> &[usize] {
        if self.starts == IntList::Input(1) { &[1, 2, 3, 4] } else { &[] }
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let ranges = self.of_facts(&cx.facts())?;
        let steps = strides::of(&cx.fact(0)?.shape);
        let walk = || ranges.iter().zip(&steps);
        let base = walk().map(|(range, step)| range.start * step).sum();
        let dims: Vec<_> =
            walk().map(|(range, step)| (range.count, range.step.wrapping_mul(*step))).collect();
        strides::gather(cx, 0, base, &dims)
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, shape: &[usize], starts: &[i64], ends: &[i64]| {
        let case = Case::new("Slice", case).tolerance(Tolerance::EXACT).input(case::random(shape));
        case.constant(case::list(starts)).constant(case::list(ends))
    };
    vec![
        of("rows", &[5, 4], &[1], &[3]),
        of("aligned_rows", &[5, 64], &[1], &[3]),
        of("columns", &[5, 4], &[1], &[3]).constant(case::list(&[1])),
        of("negative", &[5, 4], &[-3, -2], &[-1, i64::MAX]),
        of("steps", &[7, 9], &[1, 0], &[7, 9]).constant(case::list(&[0, 1])).constant(case::list(&[2, 4])),
        of("backward", &[3, 5], &[-1, 3], &[i64::MIN, 0]).absent().constant(case::list(&[-1, -2])),
        of("axes", &[2, 3, 4], &[0, 1], &[1, 3]).constant(case::list(&[-1, 1])),
        of("nothing", &[3, 4], &[2], &[1]),
        of("beyond", &[3, 4], &[7], &[9]).constant(case::list(&[1])),
        of("far_step", &[5], &[0], &[5]).absent().constant(case::list(&[i64::MAX])),
        of("rank5", &[2, 3, 2, 3, 4], &[1, 1], &[3, 3]).constant(case::list(&[1, 3])),
        of("rank0", &[], &[], &[]),
        Case::new("Slice", "ranges_are_inputs")
            .tolerance(Tolerance::EXACT)
            .input(case::random(&[5, 4]))
            .input(case::list(&[1]))
            .input(case::list(&[4])),
        Case::new("Slice", "opset9")
            .opset(9)
            .tolerance(Tolerance::EXACT)
            .ints("starts", &[0, 1])
            .ints("ends", &[2, -1])
            .ints("axes", &[0, 2])
            .input(case::random(&[3, 2, 5])),
        Case::new("Slice", "int64")
            .tolerance(Tolerance::EXACT)
            .input(case::integers(&[6], -9, 9))
            .constant(case::list(&[4]))
            .constant(case::list(&[1]))
            .absent()
            .constant(case::list(&[-1])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clamped_as_numpy_does() {
        let range =
            |size, start, end, step| AxisRange::new(size, start, end, step).map(|r| (r.start, r.count));
        assert_eq!(range(5, 1, i64::MAX, 1), Ok((1, 4)));
        assert_eq!(range(5, -1, i64::MIN, -1), Ok((4, 5)));
        assert_eq!(range(5, 20, 0, -1), Ok((4, 4)));
        assert_eq!(range(5, i64::MIN, i64::MAX, i64::MAX), Ok((0, 1)));
        assert_eq!(range(0, 0, i64::MAX, 1), Ok((0, 0)));
        assert_eq!(range(0, -1, i64::MIN, -1).map(|r| r.1), Ok(0));
        assert!(AxisRange::new(5, 0, 5, 0).is_err());
    }
}
