//! DequantizeLinear: subtracts a zero point from small numbers, and multiplies by a scale.
//!
//! History: 10 (one scale), 13 (a scale for each index of an axis), 19 (float16, float8), 21 (blocks, 16- and 4-bit types),
//! 23 (`output_dtype`), 24, 25 (2-bit types), 28.

use super::case::{self, Case};
use super::quantize::{Granularity, dtype_attribute};
use super::{
    Array, DType, Maps, NodeDef, Op, Operator, Row, Tensor, Types, Why, microsoft, onnx, optional, refuse,
    required, types,
};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Reg, Scalar};
use crate::plan::Pairing;

/// The attributes. A missing zero point is 0.
#[derive(Clone, Debug)]
pub(crate) struct Dequantize {
    granularity: Granularity,
    output: Option<DType>,
}

const TYPES: Types = types![
    T float32 T -> float32; T: BYTES I32
    | 19: T1 T2 T1 -> T2; T1: FLOAT8 BYTES I32 INT4@21 I16@21 U16@21, T2: F32 F16 BF16
    | 23: T1 T2 T1 -> T3; T1: FLOAT8 BYTES INT4 I16 U16 I32 F4E2M1 INT2@25 FLOAT6@28, T2: F32 F16 BF16 F8E8M0@24, T3: F32 F16 BF16
];

const MICROSOFT: Types = types![T1 T2 T1 -> T2; T1: BYTES I16 U16 I32 INT4, T2: F16 F32];

pub(crate) const ROWS: &[Row] = &[
    onnx("DequantizeLinear", 10, TYPES, parse, cases),
    microsoft("DequantizeLinear", MICROSOFT, parse, || {
        let taken = ["uint8", "int16", "int32", "axis"].map(|name| format!("DequantizeLinear/{name}"));
        let named = |case: &Case| taken.contains(&case.name);
        cases().into_iter().filter(named).map(Case::of_microsoft).collect()
    }),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let output = dtype_attribute(def.attributes, "output_dtype")?;
    Ok(Dequantize { granularity: Granularity::parse(def.attributes)?, output }.into())
}

impl Dequantize {
    /// The result's dtype, with scales of this one.
    pub(crate) fn result(&self, scale: DType) -> DType {
        self.output.unwrap_or(scale)
    }

    pub(crate) fn granularity(&self) -> &Granularity {
        &self.granularity
    }
}

impl Operator for Dequantize {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, scale, zero_point) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        for operand in [Some(scale), zero_point].into_iter().flatten() {
            self.granularity.axis(&x.shape, &operand.shape)?;
        }
        if zero_point.is_some_and(|zero| zero.dtype != x.dtype) {
            refuse!("the zero point does not have the input's dtype");
        }
        Ok(vec![Fact::new(self.output.unwrap_or(scale.dtype), x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, scale, zero_point) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        let (scales, zeros) = (scale.to_f64()?, zero_point.map(|zero| zero.to_f64()).transpose()?);
        let mut values = x.to_f64()?;
        for (i, value) in values.iter_mut().enumerate() {
            if let (Some(zero), Some(zeros)) = (zero_point, &zeros) {
                *value -= zeros[self.granularity.index(i, &x.shape, &zero.shape)?];
            }
            *value *= scales[self.granularity.index(i, &x.shape, &scale.shape)?];
        }
        Ok(vec![Array::float(self.output.unwrap_or(scale.dtype), &x.shape, values)])
    }

    fn pairing(&self, i: usize, inputs: &[Option<&Fact>]) -> Result<Option<Pairing>, Why> {
        if i == 0 {
            return Ok(None);
        }
        self.granularity.pairing(&required(inputs, 0)?.shape, &required(inputs, i)?.shape)
    }

    fn is_cheap(&self) -> bool {
        true
    }

    fn maps(&self) -> Maps {
        Maps::FirstByAxis
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], out: DType) -> Option<Reg> {
        let (x, scale) = (required(inputs, 0).ok()?, required(inputs, 1).ok()?);
        Scalar::of(out).filter(|&scalar| scalar == Scalar::F32)?;
        // Integers are subtracted exactly in 32 bits; float8 and float4 have fractions.
        let exact = if e.scalar(x) == Scalar::F32 { Scalar::F32 } else { Scalar::I32 };
        let mut value = e.convert(x, exact);
        if let Some(zero) = optional(inputs, 2) {
            let zero = e.convert(zero, exact);
            value = e.sub(value, zero);
        }
        let value = e.convert(value, Scalar::F32);
        Some(e.mul(value, scale))
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str| Case::new("DequantizeLinear", case);
    let bytes = |shape: &[usize]| case::converted(&case::integers(shape, 0, 256), DType::U8);
    let scale = |shape: &[usize]| case::uniform(shape, 0.01, 0.9);
    let floats = |to: DType| case::converted(&case::uniform(&[3, 7], -30.0, 30.0), to);
    vec![
        new("uint8").input(bytes(&[3, 7])).input(scale(&[])).input(case::values(&[], &[128u8])),
        new("int8")
            .input(case::values(&[4], &[-128i8, -1, 0, 127]))
            .constant(scale(&[]))
            .constant(case::values(&[], &[-3i8])),
        new("int16").input(case::values(&[2], &[-30000i16, 7])).input(scale(&[1])),
        new("int32").opset(10).input(case::values(&[3], &[-70_000i32, 0, 9])).input(scale(&[])),
        new("scalar").input(bytes(&[])).input(scale(&[])),
        new("empty").input(bytes(&[0, 3])).input(scale(&[])),
        new("axis").opset(13).input(bytes(&[2, 3, 5])).input(scale(&[3])).input(bytes(&[3])),
        new("first axis").int("axis", 0).input(bytes(&[4, 3])).constant(scale(&[4])).constant(bytes(&[4])),
        new("blocks").int("axis", 1).int("block_size", 2).input(bytes(&[2, 6, 3])).input(scale(&[2, 3, 3])),
        new("last blocks")
            .int("axis", -1)
            .int("block_size", 4)
            .input(bytes(&[3, 8]))
            .input(scale(&[3, 2]))
            .input(bytes(&[3, 2])),
        new("float16").input(bytes(&[9])).input(case::converted(&scale(&[]), DType::F16)),
        new("output_dtype")
            .int("output_dtype", i64::from(DType::F16.onnx()))
            .input(bytes(&[9]))
            .input(scale(&[])),
        new("float8").input(floats(DType::F8E4M3FN)).input(scale(&[])).input(floats_of_one(DType::F8E4M3FN)),
        new("float6").int("axis", 0).input(floats(DType::F6E3M2)).input(scale(&[3])),
        new("float4").input(floats(DType::F4E2M1)).input(scale(&[])),
    ]
}

fn floats_of_one(dtype: DType) -> Tensor {
    case::converted(&case::values(&[], &[0.5f32]), dtype)
}
