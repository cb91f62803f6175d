//! com.microsoft.MatMulIntegerToFloat, DynamicQuantizeMatMul and QGemm: products of 8-bit matrices, scaled to floats, or to 8 bits
//! again.
//!
//! History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{DType, NodeDef, Op, Row, Tensor, Why, microsoft, types};
use crate::graph::ValueId;

pub(crate) const ROWS: &[Row] = &[
    microsoft(
        "MatMulIntegerToFloat",
        types![T1 T2 T3 T3 T1 T2 T3 -> T3; T1 T2: BYTES, T3: F16 F32],
        parse_to_float,
        to_float_cases,
    ),
    microsoft(
        "DynamicQuantizeMatMul",
        types![T1 T2 T1 T2 T1 -> T1; T1: F32, T2: BYTES],
        parse_dynamic,
        dynamic_cases,
    ),
    microsoft(
        "QGemm",
        types![TA T TA TB T TB TC T TYZ -> TY; T: F32, TA TB TYZ: BYTES, TC: I32, TY: F32 BYTES],
        parse_gemm,
        gemm_cases,
    ),
];

/// A factor of a product: 8-bit numbers, their scale and their zero point.
#[derive(Clone, Copy)]
pub(super) struct Factor {
    pub(super) values: ValueId,
    pub(super) scale: ValueId,
    pub(super) zero: Option<ValueId>,
}

/// The integer product of the numbers less their zero points, and the product of the scales.
fn product(body: &mut Body, a: Factor, b: Factor) -> Result<(ValueId, ValueId), Why> {
    let [sum] = body.call("MatMulInteger", &[], &[Some(a.values), Some(b.values), a.zero, b.zero])?;
    Ok((sum, body.node("Mul", &[a.scale, b.scale])?))
}

/// The product as floats, plus the bias if there is one.
pub(super) fn floats(body: &mut Body, a: Factor, b: Factor, bias: Option<ValueId>) -> Result<ValueId, Why> {
    let (sum, scale) = product(body, a, b)?;
    let sum = body.cast(sum, DType::F32)?;
    let factor = body.cast(scale, DType::F32)?;
    let scaled = body.node("Mul", &[sum, factor])?;
    let y = body.node("CastLike", &[scaled, scale])?;
    match bias {
        Some(bias) => body.node("Add", &[y, bias]),
        None => Ok(y),
    }
}

fn parse_to_float(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let a = Factor { values: body.input(0)?, scale: body.input(2)?, zero: body.optional(4) };
    let b = Factor { values: body.input(1)?, scale: body.input(3)?, zero: body.optional(5) };
    let bias = body.optional(6);
    let y = floats(&mut body, a, b, bias)?;
    body.finish(&[y])
}

fn parse_dynamic(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let x = body.input(0)?;
    let [values, scale, zero] = body.call("DynamicQuantizeLinear", &[], &[Some(x)])?;
    let a = Factor { values, scale, zero: Some(zero) };
    let b = Factor { values: body.input(1)?, scale: body.input(2)?, zero: body.optional(3) };
    let bias = body.optional(4);
    let y = floats(&mut body, a, b, bias)?;
    body.finish(&[y])
}

fn parse_gemm(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let mut a = Factor { values: body.input(0)?, scale: body.input(1)?, zero: body.optional(2) };
    let mut b = Factor { values: body.input(3)?, scale: body.input(4)?, zero: body.optional(5) };
    for (factor, turn) in [(&mut a, "transA"), (&mut b, "transB")] {
        if def.attributes.flag(turn, false)? {
            factor.values = body.transposed(factor.values, &[1, 0])?;
        }
    }
    let (mut sum, mut scale) = product(&mut body, a, b)?;
    // onnxruntime adds C in steps of both scales, before alpha.
    if let Some(c) = body.optional(6) {
        sum = body.node("Add", &[sum, c])?;
    }
    let alpha = def.attributes.float_or("alpha", 1.0)?;
    if alpha != 1.0 {
        let alpha = body.scalar(alpha);
        scale = body.node("Mul", &[scale, alpha])?;
    }
    let sum = body.cast(sum, DType::F32)?;
    let mut y = body.node("Mul", &[sum, scale])?;
    if let Some(scale) = body.optional(7) {
        let (zero, like) = (body.optional(8), body.input(0)?);
        y = body.quantized(y, scale, zero, like)?;
    }
    body.finish(&[y])
}

fn bytes(shape: &[usize], dtype: DType) -> Tensor {
    let low = if dtype == DType::I8 { -128 } else { 0 };
    case::converted(&case::integers(shape, low, low + 256), dtype)
}

/// A sum of some 20 products of 8 bits is up to 1e6 steps of 1e-4.
const SUMS: Tolerance = Tolerance { relative: 1e-5, absolute: 1e-4 };

fn new(op_type: &str, name: &str) -> Case {
    Case::new(op_type, name).domain("com.microsoft").opset(1).tolerance(SUMS)
}

fn scale(shape: &[usize]) -> Tensor {
    case::uniform(shape, 0.005, 0.015)
}

fn to_float_cases() -> Vec<Case> {
    let new = |name: &str, a: DType, b: DType, columns: &[usize]| {
        let case = new("MatMulIntegerToFloat", name).input(bytes(&[2, 5, 20], a));
        case.constant(bytes(&[20, 12], b)).input(scale(&[1])).constant(scale(columns))
    };
    vec![
        new("plain", DType::U8, DType::I8, &[]),
        new("zeros", DType::U8, DType::U8, &[12])
            .input(bytes(&[1], DType::U8))
            .constant(bytes(&[12], DType::U8)),
        new("bias", DType::I8, DType::I8, &[]).absent().absent().constant(case::random(&[12])),
    ]
}

fn dynamic_cases() -> Vec<Case> {
    // A number between two steps may be quantised to either: the sum is off by one weight.
    let step = Tolerance { relative: 1e-4, absolute: 255.0 * 0.015 * 2.0 / 255.0 };
    let new = |name: &str, b: DType, columns: &[usize]| {
        let case = new("DynamicQuantizeMatMul", name).tolerance(step).input(case::random(&[2, 5, 20]));
        case.constant(bytes(&[20, 12], b)).constant(scale(columns))
    };
    vec![
        new("int8", DType::I8, &[]),
        new("columns", DType::U8, &[12]).constant(bytes(&[12], DType::U8)).constant(case::random(&[12])),
        new("bias", DType::I8, &[1]).absent().constant(case::random(&[12])),
    ]
}

fn gemm_cases() -> Vec<Case> {
    let new = |name: &str, dtype: DType, b: &[usize], columns: &[usize]| {
        let case = new("QGemm", name).input(bytes(&[5, 20], dtype)).constant(scale(&[]));
        let case = case.constant(bytes(&[], dtype)).constant(bytes(b, dtype)).constant(scale(columns));
        case.constant(bytes(columns, dtype))
    };
    let c = || case::converted(&case::integers(&[12], -9999, 9999), DType::I32);
    let step = Tolerance { relative: 0.0, absolute: 1.0 };
    vec![
        new("floats", DType::U8, &[20, 12], &[]),
        new("columns", DType::I8, &[12, 20], &[12]).int("transB", 1).constant(c()).float("alpha", 0.5),
        new("bytes", DType::U8, &[20, 12], &[])
            .tolerance(step)
            .constant(c())
            .constant(case::values(&[], &[0.9f32]))
            .constant(bytes(&[], DType::U8)),
    ]
}
