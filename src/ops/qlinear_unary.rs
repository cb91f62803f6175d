//! com.microsoft.QLinearSigmoid, QLinearLeakyRelu, QLinearSoftmax, QLinearAveragePool and QLinearGlobalAveragePool: a function of
//! a quantised tensor, quantised.
//!
//! History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::nhwc_max_pool::channels_first;
use super::{Attr, DType, NodeDef, Op, Row, Types, Why, microsoft, refuse, types};
use crate::graph::ValueId;

const TYPES: Types = types![T float32 T float32 T -> T; T: BYTES];

pub(crate) const ROWS: &[Row] = &[
    microsoft("QLinearSigmoid", TYPES, parse, || pointwise_cases("QLinearSigmoid")),
    microsoft("QLinearLeakyRelu", TYPES, parse, || pointwise_cases("QLinearLeakyRelu")),
    microsoft("QLinearSoftmax", TYPES, parse, || pointwise_cases("QLinearSoftmax")),
    microsoft("QLinearAveragePool", TYPES, parse, || pool_cases("QLinearAveragePool")),
    microsoft("QLinearGlobalAveragePool", TYPES, parse, || pool_cases("QLinearGlobalAveragePool")),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let quantized = body.input(0)?;
    let (scale, zero) = (body.input(1)?, body.optional(2));
    let x = body.dequantized(quantized, scale, zero)?;
    let y = function(&mut body, def, x)?;
    let (scale, zero) = (body.input(3)?, body.optional(4));
    let y = body.quantized(y, scale, zero, quantized)?;
    body.finish(&[y])
}

fn function(body: &mut Body, def: &NodeDef, x: ValueId) -> Result<ValueId, Why> {
    match def.op_type {
        "QLinearSigmoid" => body.node("Sigmoid", &[x]),
        "QLinearLeakyRelu" => {
            let kept = body.kept(&["alpha"]);
            body.with("LeakyRelu", &kept, &[x])
        }
        "QLinearSoftmax" => {
            let axis = def.attributes.int_or("axis", -1)?;
            if def.attributes.int_or("opset", 13)? < 13 && axis != -1 {
                refuse!("Softmax of opset 12 along axis {axis} is not supported; only along axis -1");
            }
            body.with("Softmax", &[("axis", Attr::Int(axis))], &[x])
        }
        _ => pool(body, def, x),
    }
}

fn pool(body: &mut Body, def: &NodeDef, mut x: ValueId) -> Result<ValueId, Why> {
    let global = def.op_type == "QLinearGlobalAveragePool";
    let last = def.attributes.flag("channels_last", false)?;
    let kernel = def.attributes.ints("kernel_shape")?.unwrap_or_default();
    // The transposition refuses every other rank.
    let (to, from) = channels_first(if global { 2 } else { kernel.len() });
    if last {
        x = body.transposed(x, &to)?;
    }
    let names = ["auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"];
    let mut y = match global {
        true => body.node("GlobalAveragePool", &[x])?,
        false => {
            let kept = body.kept(&names);
            body.with("AveragePool", &kept, &[x])?
        }
    };
    if last {
        y = body.transposed(y, &from)?;
    }
    Ok(y)
}

/// A value between two steps of the result may be rounded to either.
const STEP: Tolerance = Tolerance { relative: 0.0, absolute: 1.0 };

fn new(op_type: &str, name: &str, dtype: DType, shape: &[usize], zeros: bool) -> Case {
    let low = if dtype == DType::I8 { -128 } else { 0 };
    let bytes = |shape: &[usize]| case::converted(&case::integers(shape, low, low + 256), dtype);
    let scale = |scale: f32| case::values(&[], &[scale]);
    let case = Case::new(op_type, name).domain("com.microsoft").opset(1).tolerance(STEP);
    let case = case.input(bytes(shape)).constant(scale(0.04));
    let case = if zeros { case.constant(bytes(&[])) } else { case.absent() };
    let case = case.constant(scale(if op_type.contains("Soft") { 1.0 / 256.0 } else { 0.02 }));
    // The zero point of Softmax's result must be given.
    if zeros || op_type.contains("Soft") { case.constant(bytes(&[])) } else { case }
}

fn pointwise_cases(op_type: &'static str) -> Vec<Case> {
    let attributes = |case: Case| match op_type {
        "QLinearSoftmax" => case.int("opset", 13),
        "QLinearLeakyRelu" => case.float("alpha", 0.2),
        _ => case,
    };
    vec![
        attributes(new(op_type, "uint8", DType::U8, &[3, 17], true)),
        attributes(new(op_type, "int8", DType::I8, &[2, 3, 8], true)),
        attributes(new(op_type, "no_zero_points", DType::U8, &[3, 17], false)),
    ]
}

fn pool_cases(op_type: &'static str) -> Vec<Case> {
    let attributes = |case: Case| match op_type {
        "QLinearAveragePool" => case.ints("kernel_shape", &[3, 2]).ints("strides", &[2, 1]),
        _ => case,
    };
    let second = |name: &str, dtype| attributes(new(op_type, name, dtype, &[2, 5, 7, 6], true));
    let mut cases = vec![
        second("uint8", DType::U8),
        second("int8", DType::I8),
        attributes(new(op_type, "last", DType::U8, &[2, 7, 6, 5], true)).int("channels_last", 1),
    ];
    if op_type == "QLinearAveragePool" {
        let padded = |name: &str| second(name, DType::U8).ints("pads", &[1, 1, 1, 0]);
        cases.extend([padded("padded"), padded("pads_counted").int("count_include_pad", 1)]);
    }
    cases
}
