//! com.microsoft.DynamicQuantizeLSTM: LSTM with weights of 8 bits, whose input is quantised as a whole before it is multiplied.
//! onnxruntime also quantises the hidden state before each step; here it keeps its precision.
//!
//! History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{DType, NodeDef, Op, Row, Tensor, Why, microsoft, types};
use crate::graph::ValueId;

pub(crate) const ROWS: &[Row] = &[microsoft(
    "DynamicQuantizeLSTM",
    types![T T2 T2 T T1 T T T T T2 T T2 -> T T T; T: F32, T1: I32, T2: BYTES],
    parse,
    cases,
)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let x = body.input(0)?;
    let [values, scale, zero] = body.call("DynamicQuantizeLinear", &[], &[Some(x)])?;
    let x = body.dequantized(values, scale, Some(zero))?;
    let directions = match def.attributes.string_or("direction", "forward")?.as_str() {
        "bidirectional" => 2,
        _ => 1,
    };
    let w = weights(&mut body, 1, 8, directions)?;
    let r = weights(&mut body, 2, 10, directions)?;
    let kept = [
        "activation_alpha",
        "activation_beta",
        "activations",
        "clip",
        "direction",
        "hidden_size",
        "input_forget",
    ];
    let (kept, others) = (body.kept(&kept), (3..8).map(|i| body.optional(i)));
    let inputs: Vec<Option<ValueId>> = [x, w, r].map(Some).into_iter().chain(others).collect();
    let outputs: [ValueId; 3] = body.call("LSTM", &kept, &inputs)?;
    body.finish(&outputs)
}

/// Weights `[direction, input, gate * unit]` of input `i`, as floats `[direction, gate * unit, input]`. Their scale and zero point
/// are one number for each direction, or one for each column of it.
fn weights(body: &mut Body, i: usize, scale: usize, directions: i64) -> Result<ValueId, Why> {
    let (w, scale, zero) = (body.input(i)?, body.input(scale)?, body.input(scale + 1)?);
    let shape = [directions, 1, -1];
    let (scale, zero) = (body.reshaped(scale, &shape)?, body.reshaped(zero, &shape)?);
    let (w, zero) = (body.cast(w, DType::F32)?, body.cast(zero, DType::F32)?);
    let centred = body.node("Sub", &[w, zero])?;
    let real = body.node("Mul", &[centred, scale])?;
    body.transposed(real, &[0, 2, 1])
}

fn cases() -> Vec<Case> {
    let bytes = |shape: &[usize], dtype: DType| {
        let low = if dtype == DType::I8 { -128 } else { 0 };
        case::converted(&case::integers(shape, low, low + 256), dtype)
    };
    let new = |name: &str, dtype: DType, directions: usize, columns: &[usize]| {
        let direction = if directions == 2 { "bidirectional" } else { "forward" };
        let per = || [&[directions], columns].concat();
        let scale = || -> Tensor { case::uniform(&per(), 0.001, 0.002) };
        // Where a number lies between two steps, a device may take the other.
        let case = Case::new("DynamicQuantizeLSTM", name).of_microsoft();
        let case = case.tolerance(Tolerance { relative: 1e-3, absolute: 3e-3 }).outputs(3);
        let case = case.int("hidden_size", 8).string("direction", direction).input(case::random(&[5, 2, 6]));
        let case =
            case.constant(bytes(&[directions, 6, 32], dtype)).constant(bytes(&[directions, 8, 32], dtype));
        let case = case.constant(case::random(&[directions, 64])).absent();
        let state = || case::random(&[directions, 2, 8]);
        let case = case.input(state()).input(state()).absent();
        let case = case.constant(scale()).constant(bytes(&per(), dtype));
        case.constant(scale()).constant(bytes(&per(), dtype))
    };
    vec![new("int8", DType::I8, 1, &[]), new("uint8", DType::U8, 2, &[]), new("columns", DType::I8, 2, &[32])]
}
