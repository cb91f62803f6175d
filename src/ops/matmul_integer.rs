//! MatMulInteger: the product of 8-bit matrices, from which zero points are subtracted, in 32 bits.
//!
//! History: 10.

use super::accumulate::Sink;
use super::case::{self, Case, Tolerance};
use super::matmul::Shapes;
use super::quantized::{centred, check, greatest_sum, lower_centred, matrix_shape, sum_scalar};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_array, of_elements, onnx, optional, required,
    types,
};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::plan::Lower;

#[derive(Clone, Debug)]
pub(crate) struct MatMulInteger;

pub(crate) const ROWS: &[Row] =
    &[onnx("MatMulInteger", 10, types![T1 T2 T1 T2 -> int32; T1 T2: BYTES], parse, cases)];

fn parse(_: &NodeDef) -> Result<Op, Why> {
    Ok(MatMulInteger.into())
}

fn rows(shape: &[usize]) -> Vec<usize> {
    matrix_shape(shape, true)
}

fn columns(shape: &[usize]) -> Vec<usize> {
    matrix_shape(shape, false)
}

impl Operator for MatMulInteger {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        check(a, optional(inputs, 2), rows)?;
        check(b, optional(inputs, 3), columns)?;
        Ok(vec![Fact::new(DType::I32, Shapes::of(&a.shape, &b.shape)?.shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        let shapes = Shapes::of(&a.shape, &b.shape)?;
        let (left, right) =
            (centred(a, optional(inputs, 2), rows)?, centred(b, optional(inputs, 3), columns)?);
        Ok(vec![Array::int(DType::I32, &shapes.shape, shapes.eval(&left, &right))])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        let shapes = Shapes::of(&a.shape, &b.shape)?;
        let sums = outputs.iter().map(of_array).sum::<Work>();
        // Operands without their zero points, and products of 128 bits.
        Ok(shapes.work(of_elements(inputs, outputs) + of_array(a) + of_array(b) + sums).times(4))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let shapes = Shapes::of(&cx.fact(0)?.shape, &cx.fact(1)?.shape)?;
        let zeros = [2, 3].map(|i| cx.optional_fact(i));
        let (terms, sums) = (shapes.terms(), greatest_sum(cx, 1, 3, shapes.summed())?);
        let scalar = sum_scalar([cx.fact(0)?, cx.fact(1)?], zeros, terms, sums);
        let (a, b) = (lower_centred(cx, 0, 2, scalar, rows)?, lower_centred(cx, 1, 3, scalar, columns)?);
        let sink = Sink::Finished(&|code, sum| Ok(code.builder.convert(sum, Scalar::I32)));
        shapes.product(a, b).lower(cx, scalar, sink)
    }
}

fn cases() -> Vec<Case> {
    let bytes = |shape: &[usize], dtype: DType| {
        let (low, high) = if dtype == DType::I8 { (-128, 128) } else { (0, 256) };
        case::converted(&case::integers(shape, low, high), dtype)
    };
    let least = |shape: &[usize]| case::converted(&case::integers(shape, -128, -125), DType::I8);
    let great = |name: &str, terms: usize| {
        let a = case::converted(&case::integers(&[5, terms], 253, 256), DType::U8);
        Case::new("MatMulInteger", name).tolerance(Tolerance::EXACT).input(a)
    };
    let new = |name: &str, a: DType, b: DType| {
        Case::new("MatMulInteger", name)
            .tolerance(Tolerance::EXACT)
            .input(bytes(&[2, 5, 9], a))
            .input(bytes(&[9, 6], b))
    };
    vec![
        new("no_zero_point", DType::U8, DType::I8),
        new("scalars", DType::U8, DType::U8).input(bytes(&[], DType::U8)).input(bytes(&[1], DType::U8)),
        new("rows_and_columns", DType::I8, DType::U8)
            .input(bytes(&[5], DType::I8))
            .input(bytes(&[6], DType::U8)),
        new("constants", DType::U8, DType::I8)
            .constant(case::values(&[], &[128u8]))
            .constant(case::values(&[], &[0i8])),
        new("only_right", DType::U8, DType::I8).absent().input(bytes(&[1, 6], DType::I8)),
        // Odd sums above 2^24, which float32 does not hold, and sums just below.
        great("beyond float32", 701).constant(least(&[701, 9])),
        great("up to float32", 513).constant(least(&[513, 9])),
        great("dynamic beyond float32", 701).input(least(&[701, 9])),
        great("dynamic", 100).input(least(&[100, 9])),
    ]
}
