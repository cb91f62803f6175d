//! com.microsoft.QLinearConcat and QLinearWhere: quantised tensors of several scales, joined in one of another.
//!
//! History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{Attr, DType, NodeDef, Op, Row, Why, microsoft, refuse, types};
use crate::graph::ValueId;

pub(crate) const ROWS: &[Row] = &[
    microsoft(
        "QLinearConcat",
        types![TF T8 [TV "mixed"] -> T8; TF: F32, T8: BYTES, TV: BYTES F32],
        parse_concat,
        concat_cases,
    ),
    microsoft(
        "QLinearWhere",
        types![B T TF T T TF T TF T -> T; B: BOOL, T: BYTES, TF: F32],
        parse_where,
        where_cases,
    ),
];

/// The real value of the quantised input `i`, whose scale and zero point follow it.
fn real(body: &mut Body, i: usize) -> Result<ValueId, Why> {
    let (x, scale, zero) = (body.input(i)?, body.input(i + 1)?, body.optional(i + 2));
    body.dequantized(x, scale, zero)
}

fn parse_concat(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    if def.inputs.len() < 5 || def.inputs.len() % 3 != 2 {
        refuse!("{} inputs are not a scale, a zero point and three for each tensor", def.inputs.len());
    }
    let mut parts = Vec::new();
    for i in (2..def.inputs.len()).step_by(3) {
        parts.push(real(&mut body, i)?);
    }
    let axis = ("axis", Attr::Int(def.attributes.int_or("axis", 0)?));
    let whole = body.with("Concat", &[axis], &parts)?;
    let (scale, zero) = (body.input(0)?, body.input(1)?);
    let y = body.quantized(whole, scale, Some(zero), zero)?;
    body.finish(&[y])
}

fn parse_where(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let (x, y) = (real(&mut body, 1)?, real(&mut body, 4)?);
    let condition = body.input(0)?;
    let chosen = body.node("Where", &[condition, x, y])?;
    let (scale, zero, like) = (body.input(7)?, body.optional(8), body.input(1)?);
    let z = body.quantized(chosen, scale, zero, like)?;
    body.finish(&[z])
}

/// A value between two steps of the result may be rounded to either.
const STEP: Tolerance = Tolerance { relative: 0.0, absolute: 1.0 };

fn bytes(shape: &[usize], dtype: DType) -> crate::Tensor {
    let low = if dtype == DType::I8 { -128 } else { 0 };
    case::converted(&case::integers(shape, low, low + 256), dtype)
}

fn scale(scale: f32) -> crate::Tensor {
    case::values(&[], &[scale])
}

fn concat_cases() -> Vec<Case> {
    let new = |name: &str, dtype: DType| {
        let case = Case::new("QLinearConcat", name).domain("com.microsoft").opset(1).tolerance(STEP);
        let mut case = case.int("axis", 1).constant(scale(0.03)).constant(bytes(&[], dtype));
        for (size, step) in [(3, 0.02), (1, 0.03), (6, 0.05)] {
            case = case.input(bytes(&[2, size, 5], dtype)).constant(scale(step)).constant(bytes(&[], dtype));
        }
        case
    };
    vec![new("uint8", DType::U8), new("int8", DType::I8)]
}

fn where_cases() -> Vec<Case> {
    let new = |name: &str, dtype: DType, y: &[usize]| {
        let case = Case::new("QLinearWhere", name).domain("com.microsoft").opset(1).tolerance(STEP);
        let condition = case::converted(&case::integers(&[3, 7], 0, 2), DType::Bool);
        let case = case.input(condition).input(bytes(&[3, 7], dtype)).constant(scale(0.02));
        let case = case.constant(bytes(&[], dtype)).input(bytes(y, dtype)).constant(scale(0.03));
        case.constant(bytes(&[], dtype)).constant(scale(0.04)).constant(bytes(&[], dtype))
    };
    vec![new("uint8", DType::U8, &[3, 7]), new("int8_broadcast", DType::I8, &[7])]
}
