//! Pad and CenterCropPad: elements are added to, or removed from, the ends of axes.
//!
//! History: Pad 2 (attributes), 11 (inputs), 13, 18 (axes), 19 (wrap), 21, 23, 24, 25; CenterCropPad 18.

use super::axes::{IntList, axes};
use super::case::{self, Case, Tolerance};
use super::division::Division;
use super::expand::dims;
use super::{Array, NodeDef, Op, Operator, Row, Why, onnx, optional, refuse, required, types};
use crate::array::{Numbers, ravel, unravel};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::kernels::pad::{self, Border, PadDim};
use crate::plan::Lower;

/// Adds elements to the ends of axes; removes elements where the number is negative.
#[derive(Clone, Debug)]
pub(crate) struct Pad {
    mode: PadMode,
    amount: Amount,
    axes: IntList,
    /// The constant of old opsets; newer opsets have an input for it.
    value: f32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum PadMode {
    Constant,
    Edge,
    Reflect,
    Wrap,
}

#[derive(Clone, Debug)]
enum Amount {
    /// All beginnings, then all ends.
    Ends(IntList),
    /// Input 1 has the new sizes, and the input stays in the middle.
    Center,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("CenterCropPad", 18, types![T Tind -> T; T: ALL BF16, Tind: INDICES], parse_center, center_cases),
    onnx(
        "Pad",
        2,
        types![T int64 T Tind -> T; T: FLOATS NUMBERS@11 BF16@13 STRING@13 BOOL@13 COMPLEX@13 SMALL@21, Tind: INDICES],
        parse,
        pad_cases,
    ),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let mode = match def.attributes.string_or("mode", "constant")?.as_str() {
        "constant" => PadMode::Constant,
        "edge" => PadMode::Edge,
        "reflect" => PadMode::Reflect,
        "wrap" => PadMode::Wrap,
        other => refuse!("mode '{other}' is none of constant, edge, reflect, wrap"),
    };
    let pads = match def.attributes.ints("pads")? {
        _ if def.opset >= 11 => IntList::Input(1),
        Some(pads) => IntList::Attribute(pads),
        None => refuse!("attribute 'pads' is required"),
    };
    let axes = if def.has_input(3) { IntList::Input(3) } else { IntList::Absent };
    Ok(Pad { mode, amount: Amount::Ends(pads), axes, value: def.attributes.float_or("value", 0.0)? }.into())
}

fn parse_center(def: &NodeDef) -> Result<Op, Why> {
    let axes = def.attributes.ints("axes")?.map_or(IntList::Absent, IntList::Attribute);
    Ok(Pad { mode: PadMode::Constant, amount: Amount::Center, axes, value: 0.0 }.into())
}

impl Pad {
    fn list(&self) -> IntList {
        match &self.amount {
            Amount::Ends(list) => list.clone(),
            Amount::Center => IntList::Input(1),
        }
    }

    /// The numbers of zeros that are put before and after each axis of a tensor of rank `rank`, given inputs 1 (pads), 3
    /// (axes) and 2 (the constant); `None` if the constant is not zero, or elements are removed.
    pub(crate) fn zeros(
        &self,
        rank: usize,
        [pads, on]: [Option<Vec<i64>>; 2],
        fill: Option<f64>,
    ) -> Option<Vec<(i64, i64)>> {
        let list = match &self.amount {
            Amount::Ends(IntList::Attribute(list)) => list.clone(),
            Amount::Ends(_) => pads?,
            Amount::Center => return None,
        };
        let on = match self.axes {
            IntList::Absent => (0..rank).collect(),
            _ => axes(&on?, rank).ok()?,
        };
        // -0 counts as zero.
        let zero = fill.unwrap_or(f64::from(self.value)) == 0.0;
        if self.mode != PadMode::Constant
            || !zero
            || list.len() != 2 * on.len()
            || list.iter().any(|&n| n < 0)
        {
            return None;
        }
        let mut ends = vec![(0, 0); rank];
        for (i, &axis) in on.iter().enumerate() {
            ends[axis] = (list[i], list[i + on.len()]);
        }
        Some(ends)
    }

    fn dims(
        &self,
        shape: &[usize],
        list: Option<Vec<i64>>,
        on: Option<Vec<i64>>,
    ) -> Result<Vec<PadDim>, Why> {
        let Some(list) = list else { refuse!("input 1 is required") };
        let on = axes(&on.unwrap_or_else(|| (0..shape.len() as i64).collect()), shape.len())?;
        let mut padded: Vec<PadDim> =
            shape.iter().map(|&size| PadDim { size, begin: 0, out: size }).collect();
        match self.amount {
            Amount::Ends(_) => {
                if list.len() != 2 * on.len() {
                    refuse!("pads {list:?} must have two numbers for each of {} axes", on.len());
                }
                for (i, &axis) in on.iter().enumerate() {
                    let (size, begin, end) = (shape[axis], list[i], list[i + on.len()]);
                    let out = (size as i128 + i128::from(begin) + i128::from(end)).max(0);
                    // The device computes coordinates in i32.
                    let (Ok(begin), Ok(out)) = (i32::try_from(begin), i32::try_from(out)) else {
                        refuse!("pads {list:?} are too large")
                    };
                    if size == 0 && out > 0 && self.mode != PadMode::Constant {
                        refuse!("axis {axis} is empty, so there is nothing to pad it with");
                    }
                    padded[axis] = PadDim { size, begin: begin.into(), out: out as usize };
                }
            }
            Amount::Center => {
                let sizes = dims(&list)?;
                if sizes.len() != on.len() {
                    refuse!("the shape {list:?} must have a number for each of {} axes", on.len());
                }
                for (&axis, &out) in on.iter().zip(&sizes) {
                    let size = shape[axis];
                    let begin =
                        if out > size { ((out - size) / 2) as i64 } else { -(((size - out) / 2) as i64) };
                    padded[axis] = PadDim { size, begin, out };
                }
            }
        }
        Ok(padded)
    }

    fn of_facts(&self, inputs: &[Option<&Fact>]) -> Result<Vec<PadDim>, Why> {
        let shape = &required(inputs, 0)?.shape;
        self.dims(shape, self.list().of_facts(inputs)?, self.axes.of_facts(inputs)?)
    }

    /// The number of the input that holds the constant, if there is one.
    fn value_input(&self) -> Option<usize> {
        (matches!(self.amount, Amount::Ends(IntList::Input(_)))).then_some(2)
    }
}

/// The index inside an axis whose element stands at an index beyond its ends; `None` for the constant.
fn place(mode: PadMode, at: i64, size: i64) -> Option<i64> {
    if (0..size).contains(&at) {
        return Some(at);
    }
    match mode {
        PadMode::Constant => None,
        PadMode::Edge => Some(at.clamp(0, size - 1)),
        PadMode::Wrap => Some(at.rem_euclid(size)),
        PadMode::Reflect if size == 1 => Some(0),
        PadMode::Reflect => {
            let at = at.rem_euclid(2 * size - 2);
            Some(if at < size { at } else { 2 * size - 2 - at })
        }
    }
}

/// The only element of an array, as the word of a register.
fn word(array: &Array) -> Result<u32, Why> {
    Ok(match (&array.data, Scalar::of(array.dtype)) {
        (Numbers::Float(v), Some(_)) if v.len() == 1 => (v[0] as f32).to_bits(),
        (Numbers::Int(v), Some(Scalar::I32)) if v.len() == 1 => {
            i32::try_from(v[0]).map_err(|_| Why::too_wide(v[0]))? as u32
        }
        (Numbers::Int(v), Some(_)) if v.len() == 1 => u32::try_from(v[0]).map_err(|_| Why::too_wide(v[0]))?,
        _ => refuse!("the constant must be one number"),
    })
}

impl Operator for Pad {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let shape: Vec<usize> = self.of_facts(inputs)?.iter().map(|dim| dim.out).collect();
        let x = required(inputs, 0)?;
        let value = self.value_input().and_then(|i| optional(inputs, i));
        if value.is_some_and(|value| value.dtype != x.dtype || value.count() != 1) {
            refuse!("the constant must be one element of the input's dtype");
        }
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let dims = self.of_facts(inputs).ok()?;
        let is_free = |axis: usize| dims.get(axis).is_some_and(|dim| dim.size == dim.out && dim.begin == 0);
        Division::of_first(axis, inputs, outputs.first()?, is_free)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let dims = self.dims(&x.shape, self.list().of_arrays(inputs)?, self.axes.of_arrays(inputs)?)?;
        let shape: Vec<usize> = dims.iter().map(|dim| dim.out).collect();
        let source = |i: usize| {
            let from = unravel(i, &shape).into_iter().zip(&dims).map(|(at, dim)| {
                place(self.mode, at as i64 - dim.begin, dim.size as i64).map(|at| at as usize)
            });
            from.collect::<Option<Vec<usize>>>().map(|at| ravel(&at, &x.shape))
        };
        let given = self.value_input().and_then(|i| optional(inputs, i));
        if given.is_some_and(|value| value.len() != 1) {
            refuse!("the constant must be one element");
        }
        let attribute = Array::float(x.dtype, &[], vec![f64::from(self.value)]);
        Ok(vec![x.gather(&shape, source, Some(given.unwrap_or(&attribute)))])
    }

    fn shape_operands(&self) -> &[usize] {
        match (&self.amount, &self.axes) {
            (Amount::Ends(IntList::Input(_)), IntList::Input(_)) => &[1, 3],
            (Amount::Ends(IntList::Input(_)), _) | (Amount::Center, _) => &[1],
            _ => &[],
        }
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let dims = pad::merge(&self.of_facts(&cx.facts())?);
        let input = cx.input(0)?;
        if dims.iter().all(|dim| dim.begin == 0 && dim.out == dim.size) {
            return cx.view(0, input, 0);
        }
        let given = self.value_input().and_then(|i| Some((i, cx.optional_fact(i)?)));
        let wide = self.mode == PadMode::Constant && cx.scalar(input).is_wide();
        let (value, bound) = match given {
            _ if wide => (0, None),
            Some((_, fact)) if fact.constant().is_some() => (cx.stored(input, word(fact.array()?)?), None),
            Some((i, _)) if self.mode == PadMode::Constant => (0, Some(cx.input(i)?)),
            _ if cx.fact(0)?.dtype.is_float() => (cx.stored(input, self.value.to_bits()), None),
            _ => (0, None),
        };
        let bound = match given {
            _ if !wide => bound,
            Some((i, _)) => Some(cx.input(i)?),
            None => {
                let value = cx.temporary_like(input, &[1]);
                let is_float = cx.scalar(input).is_float();
                cx.fill(value, if is_float { self.value.to_bits() } else { 0 });
                Some(value)
            }
        };
        let border = match self.mode {
            PadMode::Constant => Border::Constant { bound: bound.is_some() },
            PadMode::Edge => Border::Edge,
            PadMode::Reflect => Border::Reflect,
            PadMode::Wrap => Border::Wrap,
        };
        let output = cx.output(0)?;
        let tensors = [input].into_iter().chain(bound).chain([output]).collect();
        let params = pad::params(value, &dims);
        let groups = pad::groups(params[0] as usize);
        cx.call(pad::Pad { rank: dims.len(), border, runs: false }, tensors, params, groups);
        Ok(())
    }
}

fn pad_cases() -> Vec<Case> {
    let of = |case: &str, mode: &str, shape: &[usize], pads: &[i64]| {
        let case = Case::new("Pad", case).string("mode", mode).tolerance(Tolerance::EXACT);
        case.input(case::random(shape)).constant(case::list(pads))
    };
    let mut cases = vec![
        of("default", "constant", &[3, 4], &[1, 0, 2, 3]),
        of("nothing", "constant", &[3, 4], &[0, 0, 0, 0]),
        of("value", "constant", &[3, 4], &[1, 1, 1, 1]).constant(case::values(&[], &[1.5f32])),
        of("value_is_input", "constant", &[3, 4], &[1, 1, 1, 1]).input(case::values(&[1], &[1.5f32])),
        of("crop", "constant", &[5, 6], &[-1, 2, -2, -3]),
        of("crop_all", "constant", &[3, 2], &[-2, 0, -1, 0]),
        of("from_empty", "constant", &[0, 2], &[1, 0, 1, 1]),
        of("scalar", "constant", &[], &[]),
        of("axes", "constant", &[2, 3, 4], &[1, 2, 3, 4]).absent().constant(case::list(&[-1, 0])),
        of("axes_are_input", "edge", &[2, 3, 4], &[1, 2]).absent().input(case::list(&[1])),
        Case::new("Pad", "opset2")
            .opset(9)
            .tolerance(Tolerance::EXACT)
            .ints("pads", &[0, 0, 1, 1, 0, 0, 2, 0])
            .float("value", -0.5)
            .input(case::random(&[1, 2, 3, 4])),
        Case::new("Pad", "int64")
            .tolerance(Tolerance::EXACT)
            .input(case::integers(&[2, 2], -9, 9))
            .input(case::list(&[1, 0, 0, 1]))
            .constant(case::values(&[], &[-7i64])),
        Case::new("Pad", "bool")
            .tolerance(Tolerance::EXACT)
            .input(case::bools(&[2], &[true, true]))
            .input(case::list(&[1, 1])),
    ];
    for mode in ["edge", "reflect", "wrap"] {
        cases.push(of(&format!("{mode}2d"), mode, &[1, 2, 5, 7], &[0, 0, 2, 3, 0, 0, 1, 4]));
        cases.push(of(&format!("{mode}_far"), mode, &[3], &[8, 9]));
        cases.push(of(&format!("{mode}_single"), mode, &[1, 2], &[2, 0, 1, 0]));
        cases.push(of(&format!("{mode}_crop"), mode, &[5, 2], &[-1, 1, 2, -1]));
    }
    cases
}

fn center_cases() -> Vec<Case> {
    let of = |case: &str, shape: &[usize], to: &[i64]| {
        let case = Case::new("CenterCropPad", case).tolerance(Tolerance::EXACT);
        case.input(case::random(shape)).constant(case::list(to))
    };
    vec![
        of("crop", &[5, 8], &[3, 3]),
        of("pad", &[3, 2], &[6, 5]),
        of("both", &[5, 2, 3], &[2, 5, 3]),
        of("axes", &[4, 7, 3], &[6, 4]).ints("axes", &[0, -2]),
        Case::new("CenterCropPad", "int32")
            .tolerance(Tolerance::EXACT)
            .input(case::values(&[3], &[1i32, 2, 3]))
            .input(case::list(&[6])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_beyond_the_ends() {
        let row = |mode, size| (-3..size + 3).map(|at| place(mode, at, size)).collect::<Vec<_>>();
        let some = |list: &[i64]| list.iter().map(|&at| Some(at)).collect::<Vec<_>>();
        assert_eq!(row(PadMode::Reflect, 3), some(&[1, 2, 1, 0, 1, 2, 1, 0, 1]));
        assert_eq!(row(PadMode::Wrap, 2), some(&[1, 0, 1, 0, 1, 0, 1, 0]));
        assert_eq!(row(PadMode::Edge, 2), some(&[0, 0, 0, 0, 1, 1, 1, 1]));
        assert_eq!(row(PadMode::Reflect, 1), some(&[0; 7]));
        assert_eq!(row(PadMode::Constant, 1), [None, None, None, Some(0), None, None, None]);
    }
}
