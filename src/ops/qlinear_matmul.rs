//! QLinearMatMul: a matrix product of quantised operands with a quantised result.
//!
//! History: 10, 21 (float8, float16 scales).

use super::accumulate::Sink;
use super::case::{self, Case, Tolerance};
use super::matmul::Shapes;
use super::quantized::{
    Spread, centred, check, check_spread, greatest_sum, lower_centred, lower_requantized, matrix_shape,
    requantized_sum, sum_scalar, sum_scale,
};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Types, Why, Work, of_array, of_elements, onnx, optional,
    refuse, required, types,
};
use crate::array::unravel;
use crate::facts::Fact;
use crate::kernels::expr::{Fn2, Scalar};
use crate::plan::Lower;

/// Inputs: a, its scale and zero point, b, its scale and zero point, the result's scale and zero point.
#[derive(Clone, Debug)]
pub(crate) struct QLinearMatMul;

const TYPES: Types = types![
    T1 float32 T1 T2 float32 T2 float32 T3 -> T3; T1 T2 T3: BYTES
    | 21: T1 TS T1 T2 TS T2 TS T3 -> T3; TS: F32 F16 BF16, T1 T2 T3: FLOAT8 BYTES
];

pub(crate) const ROWS: &[Row] = &[onnx("QLinearMatMul", 10, TYPES, parse, cases)];

fn parse(_: &NodeDef) -> Result<Op, Why> {
    Ok(QLinearMatMul.into())
}

fn rows(shape: &[usize]) -> Vec<usize> {
    matrix_shape(shape, true)
}

fn columns(shape: &[usize]) -> Vec<usize> {
    matrix_shape(shape, false)
}

impl Operator for QLinearMatMul {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (a, b, zero) = (required(inputs, 0)?, required(inputs, 3)?, required(inputs, 7)?);
        check(a, optional(inputs, 2), rows)?;
        check(b, optional(inputs, 5), columns)?;
        if !matches!(zero.dtype, DType::I8 | DType::U8) {
            refuse!("a result of {} is not supported; only 8-bit integers are", zero.dtype);
        }
        let shape = Shapes::of(&a.shape, &b.shape)?.shape;
        check_spread(required(inputs, 1)?, &shape, rows)?;
        check_spread(required(inputs, 4)?, &shape, columns)?;
        check_spread(required(inputs, 6)?, &shape, rows)?;
        check_spread(zero, &shape, rows)?;
        Ok(vec![Fact::new(zero.dtype, shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (a, b, zero) = (required(inputs, 0)?, required(inputs, 3)?, required(inputs, 7)?);
        let shapes = Shapes::of(&a.shape, &b.shape)?;
        let (left, right) =
            (centred(a, optional(inputs, 2), rows)?, centred(b, optional(inputs, 5), columns)?);
        let (a_scale, b_scale) = (Spread::of(inputs, 1, rows)?, Spread::of(inputs, 4, columns)?);
        let (y_scale, y_zero) = (Spread::of(inputs, 6, rows)?, Spread::of(inputs, 7, rows)?);
        let sums = shapes.eval(&left, &right).into_iter().enumerate();
        let values = sums.map(|(i, sum)| {
            let at = unravel(i, &shapes.shape);
            let scale = sum_scale(a_scale.at(&at), b_scale.at(&at), y_scale.at(&at));
            requantized_sum(sum, scale, y_zero.at(&at) as i128, zero.dtype)
        });
        Ok(vec![Array::int(zero.dtype, &shapes.shape, values.collect())])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 3)?);
        let shapes = Shapes::of(&a.shape, &b.shape)?;
        let sums = outputs.iter().map(of_array).sum::<Work>();
        // Operands without their zero points, and products of 128 bits.
        Ok(shapes.work(of_elements(inputs, outputs) + of_array(a) + of_array(b) + sums).times(4))
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (dtype, shape) = (cx.out(0)?.dtype, &cx.out(0)?.shape);
        let shapes = Shapes::of(&cx.fact(0)?.shape, &cx.fact(3)?.shape)?;
        let zeros = [2, 5].map(|i| cx.optional_fact(i));
        let greatest = greatest_sum(cx, 3, 5, shapes.summed())?;
        let scalar = sum_scalar([cx.fact(0)?, cx.fact(3)?], zeros, shapes.terms(), greatest);
        let (a, b) = (lower_centred(cx, 0, 2, scalar, rows)?, lower_centred(cx, 3, 5, scalar, columns)?);
        let sums = cx.temporary(scalar, shape);
        shapes.product(a, b).lower(cx, scalar, Sink::Tensor(sums))?;
        let mut operands = vec![(sums, shape.clone())];
        for (i, under) in [(1, rows as fn(&[usize]) -> Vec<usize>), (4, columns), (6, rows), (7, rows)] {
            operands.push((cx.input(i)?, under(&cx.fact(i)?.shape).into()));
        }
        let operands: Vec<_> = operands.iter().map(|(tensor, shape)| (*tensor, shape.as_slice())).collect();
        cx.elementwise(0, &operands, |e, regs| {
            let scales = e.mul(regs[1], regs[2]);
            let scale = e.two(Fn2::DivRounded, scales, regs[3]);
            let sum = e.convert(regs[0], Scalar::F32);
            lower_requantized(e, sum, scale, regs[4], dtype)
        })
    }
}

fn cases() -> Vec<Case> {
    let bytes = |shape: &[usize], dtype: DType| {
        let (low, high) = if dtype == DType::I8 { (-128, 128) } else { (0, 256) };
        case::converted(&case::integers(shape, low, high), dtype)
    };
    let new = |name: &str, dtype: DType, a_scale: &[usize], b_scale: &[usize]| {
        Case::new("QLinearMatMul", name)
            .tolerance(Tolerance::EXACT)
            .input(bytes(&[2, 5, 9], dtype))
            .input(case::uniform(a_scale, 0.01, 0.02))
            .input(bytes(a_scale, dtype))
            .input(bytes(&[2, 9, 6], dtype))
            .input(case::uniform(b_scale, 0.01, 0.02))
            .input(bytes(b_scale, dtype))
            .input(case::uniform(&[], 0.05, 0.06))
            .input(bytes(&[], dtype))
    };
    vec![
        new("uint8", DType::U8, &[], &[]),
        new("int8", DType::I8, &[1], &[1]),
        new("rows_and_columns", DType::I8, &[2, 5, 1], &[2, 1, 6]),
        new("vectors", DType::U8, &[5], &[6]),
    ]
}
