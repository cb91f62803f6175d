//! com.microsoft.GroupNorm and SkipGroupNorm: normalisation of groups of channels, of images whose channels lie in the last axis,
//! or in the second. SkipGroupNorm first adds a skipped branch and a bias.
//!
//! History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{Attr, DType, NodeDef, Op, Row, Why, microsoft, refuse, types};

pub(crate) const ROWS: &[Row] = &[
    microsoft("GroupNorm", types![T M M -> T; T M: F16 F32], parse, || cases("GroupNorm")),
    microsoft("SkipGroupNorm", types![T M M T T -> T T; T M: F16 F32], parse, || cases("SkipGroupNorm")),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let (x, gamma, beta) = (body.input(0)?, body.input(1)?, body.input(2)?);
    let last = def.attributes.flag("channels_last", true)?;
    let to_channels: &[i64] = if last { &[0, 3, 1, 2] } else { &[0, 1, 2, 3] };
    let from_channels: &[i64] = if last { &[0, 2, 3, 1] } else { &[0, 1, 2, 3] };
    let mut sum = body.of_rank(x, 4)?;
    sum = body.transposed(sum, to_channels)?;
    if def.op_type == "SkipGroupNorm" {
        // A skipped branch of rank 2 would broadcast along other axes.
        let skip = body.input(3)?;
        let skip = body.of_rank(skip, 4)?;
        let skip = body.transposed(skip, to_channels)?;
        sum = body.node("Add", &[sum, skip])?;
        if let Some(bias) = body.optional(4) {
            let bias = body.reshaped(bias, &[-1, 1, 1])?;
            sum = body.node("Add", &[sum, bias])?;
        }
    }
    let mut operands = [sum, gamma, beta];
    for operand in &mut operands {
        *operand = body.cast(*operand, DType::F32)?;
    }
    let attributes = [
        ("num_groups", Attr::Int(def.attributes.int_or("groups", 0)?)),
        ("epsilon", Attr::Float(def.attributes.float_or("epsilon", 1e-5)?)),
    ];
    let mut y = body.with("GroupNormalization", &attributes, &operands)?;
    match def.attributes.int_or("activation", 0)? {
        0 => {}
        1 => y = body.node("Swish", &[y])?,
        other => refuse!("the activation {other} is neither 0 (none) nor 1 (SiLU)"),
    }
    let y = body.node("CastLike", &[y, x])?;
    let y = body.transposed(y, from_channels)?;
    match def.op_type {
        "GroupNorm" => body.finish(&[y]),
        _ => {
            let sum = body.transposed(sum, from_channels)?;
            body.finish(&[y, sum])
        }
    }
}

fn cases(op_type: &'static str) -> Vec<Case> {
    let new = |name: &str, last: bool, activation: i64| {
        let shape = if last { [2, 5, 4, 12] } else { [2, 12, 5, 4] };
        let case = Case::new(op_type, name).domain("com.microsoft").opset(1);
        let case = case.tolerance(Tolerance::TRANSCENDENTAL).int("groups", 3).int("activation", activation);
        let case = if last { case } else { case.int("channels_last", 0) };
        let case = case.input(case::random(&shape)).constant(case::uniform(&[12], 0.5, 1.5));
        let case = case.constant(case::random(&[12]));
        match op_type {
            "GroupNorm" => case,
            _ => case.input(case::uniform(&shape, -2.0, 1.0)).constant(case::random(&[12])).outputs(2),
        }
    };
    vec![new("last", true, 0), new("last_silu", true, 1), new("second_silu", false, 1)]
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::evaluated;
    use super::*;

    /// Two groups of one channel with the values 1 and 3: the mean is 2, the variance 1.
    #[test]
    fn groups_of_the_last_axis() {
        let case = Case::new("GroupNorm", "groups").domain("com.microsoft").opset(1);
        let case = case.int("groups", 2).int("activation", 0).float("epsilon", 0.0);
        let x = case::values(&[1, 2, 1, 2], &[1.0f32, 30.0, 3.0, 10.0]);
        let case =
            case.input(x).input(case::values(&[2], &[2.0f32, 1.0])).input(case::values(&[2], &[0.5f32, 0.0]));
        assert_eq!(evaluated(&case), [-1.5, 1.0, 2.5, -1.0]);
    }
}
