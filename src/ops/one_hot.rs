//! OneHot: each index becomes a vector in which one element is on.
//!
//! History: 9, 11 (negative indices), 28.

use super::axes::axis;
use super::case::{self, Case, Tolerance};
use super::{
    Array, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, product, refuse, required, types,
};
use crate::facts::Fact;
use crate::kernels::expr::{Fn2, Scalar};
use crate::plan::Lower;

/// The new axis.
#[derive(Clone, Debug)]
pub(crate) struct OneHot {
    axis: i64,
    /// Whether a negative index counts from the end.
    negative: bool,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("OneHot", 9, types![T1 T2 T3 -> T3; T1 T2: NUMBERS, T3: ALL BF16@28], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(OneHot { axis: def.attributes.int_or("axis", -1)?, negative: def.opset >= 11 }.into())
}

fn depth(array: &Array) -> Result<usize, Why> {
    match array.to_f64()?[..] {
        [depth] if (0.0..f64::from(u32::MAX)).contains(&depth) => Ok(depth as usize),
        _ => refuse!("depth must be one number, and not negative"),
    }
}

impl OneHot {
    /// The new axis and the result's shape.
    fn shape(&self, indices: &[usize], depth: usize) -> Result<(usize, Vec<usize>), Why> {
        let axis = axis(self.axis, indices.len() + 1)?;
        let mut shape = indices.to_vec();
        shape.insert(axis, depth);
        Ok((axis, shape))
    }
}

impl Operator for OneHot {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let values = required(inputs, 2)?;
        if values.count() != 2 {
            refuse!("values must be two elements, off and on");
        }
        let depth = depth(required(inputs, 1)?.array()?)?;
        Ok(vec![Fact::new(values.dtype, self.shape(&required(inputs, 0)?.shape, depth)?.1)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (indices, values) = (required(inputs, 0)?, required(inputs, 2)?);
        let depth = depth(required(inputs, 1)?)?;
        let (axis, shape) = self.shape(&indices.shape, depth)?;
        if values.len() != 2 {
            refuse!("values must be two elements, off and on");
        }
        let inner: usize = product(&shape[axis + 1..]);
        let indices = indices.to_f64()?;
        let source = |i: usize| {
            let (row, class, column) = (i / inner / depth, i / inner % depth, i % inner);
            let index = indices[row * inner + column].trunc();
            let index = if index < 0.0 && self.negative { index + depth as f64 } else { index };
            Some(usize::from(index == class as f64))
        };
        Ok(vec![values.gather(&shape, source, None)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        Ok(of_elements(inputs, outputs).temporary(required(inputs, 0)?.count(), size_of::<f64>()))
    }

    fn shape_operands(&self) -> &[usize] {
        &[1]
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let indices = cx.fact(0)?;
        let (axis, out) = self.shape(&indices.shape, depth(cx.fact(1)?.array()?)?)?;
        let mut shape = indices.shape.to_vec();
        shape.insert(axis, 1);
        let values = cx.input(2)?;
        let on = cx.subrange(values, 1, &[1]);
        let operands = [(cx.input(0)?, &shape[..]), (values, &[1][..]), (on, &[1][..])];
        cx.elementwise(0, &operands, |e, regs| {
            let class = e.coordinate(axis);
            let class = e.convert(class, Scalar::I32);
            let index = e.convert(regs[0], Scalar::I32);
            let mut hit = e.two(Fn2::Equal, index, class);
            if self.negative {
                let depth = e.constant(Scalar::I32, out[axis] as f64);
                let from_end = e.sub(class, depth);
                let other = e.two(Fn2::Equal, index, from_end);
                hit = e.two(Fn2::Or, hit, other);
            }
            e.select(hit, regs[2], regs[1])
        })
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, indices: crate::Tensor, depth: i64| {
        let case = Case::new("OneHot", case).tolerance(Tolerance::EXACT).input(indices);
        case.constant(case::values(&[], &[depth])).constant(case::values(&[2], &[0.5f32, 3.0]))
    };
    let ints = |shape: &[usize]| case::integers(shape, -6, 7);
    vec![
        of("last", ints(&[4]), 5),
        of("first", ints(&[2, 3]), 5).int("axis", 0),
        of("middle", ints(&[2, 3]), 4).int("axis", -2),
        of("scalar", case::values(&[], &[2i64]), 3),
        of("float_indices", case::values(&[3], &[1.0f32, -1.0, 2.5]), 3),
        of("uint8_indices", case::values(&[3], &[1u8, 200, 2]), 3),
        of("opset9", ints(&[4]), 5).opset(9),
        of("no_classes", ints(&[4]), 0),
        of("empty", ints(&[0, 2]), 3),
        Case::new("OneHot", "values_are_input")
            .tolerance(Tolerance::EXACT)
            .input(ints(&[3]))
            .input(case::values(&[1], &[4.0f32]))
            .input(case::values(&[2], &[-1i64, 7])),
    ]
}
