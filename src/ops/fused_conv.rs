//! com.microsoft.FusedConv: Conv, then another tensor is added, then an activation function is applied. NhwcConv and
//! NhwcFusedConv: the same, with the channels in the last axis of the input, of the sum and of the result.
//!
//! History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{Attr, NodeDef, Op, Row, Why, microsoft, types};

pub(crate) const ROWS: &[Row] = &[
    microsoft("FusedConv", types![T T T T -> T; T: FLOATS], parse, || cases("FusedConv", false)),
    microsoft("NhwcConv", types![T T T -> T; T: FLOATS], parse, || cases("NhwcConv", true)),
    microsoft("NhwcFusedConv", types![T T T T -> T; T: F16 F32], parse, || cases("NhwcFusedConv", true)),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let nhwc = def.op_type.starts_with("Nhwc");
    let (x, w) = (body.input(0)?, body.input(1)?);
    let kept = body.kept(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]);
    let x = if nhwc { body.transposed(x, &[0, 3, 1, 2])? } else { x };
    let bias = body.optional(2);
    let [mut y] = body.call("Conv", &kept, &[Some(x), Some(w), bias])?;
    if nhwc {
        y = body.transposed(y, &[0, 2, 3, 1])?;
    }
    if let Some(sum) = body.optional(3) {
        y = body.node("Add", &[y, sum])?;
    }
    if def.op_type != "NhwcConv" {
        let params = def.attributes.floats("activation_params")?.unwrap_or_default();
        y = body.activated(&params, y)?;
    }
    body.finish(&[y])
}

fn cases(op_type: &'static str, nhwc: bool) -> Vec<Case> {
    let new = |name: &str| {
        let case = Case::new(op_type, name).domain("com.microsoft").opset(1);
        let x = if nhwc { [2, 7, 6, 4] } else { [2, 4, 7, 6] };
        let w = case::random(&[8, 4, 3, 3]);
        case.tolerance(Tolerance::ACCUMULATION).input(case::random(&x)).constant(w)
    };
    let bias = || case::random(&[8]);
    let mut cases =
        vec![new("plain"), new("bias").constant(bias()).ints("pads", &[1, 1, 1, 1]).ints("strides", &[2, 1])];
    if op_type != "NhwcConv" {
        let sum = case::random(&if nhwc { [2, 5, 4, 8] } else { [2, 8, 5, 4] });
        let params = |values: &[f32]| Attr::Floats(values.to_vec());
        let active = |name: &str, function: &str| new(name).constant(bias()).string("activation", function);
        cases.extend([
            active("relu", "Relu"),
            active("tanh", "Tanh"),
            active("leaky", "LeakyRelu").attr("activation_params", params(&[0.3])),
            active("hard_sigmoid", "HardSigmoid").attr("activation_params", params(&[0.3, 0.4])),
            active("clip", "Clip").attr("activation_params", params(&[-0.5, 0.75])),
            active("sum", "Relu").input(sum.clone()),
            new("sum_without_bias").absent().input(sum),
        ]);
    }
    cases
}
