//! com.microsoft.BiasAdd and BiasSplitGelu: what diffusion models add after a product. BiasAdd adds a bias and a skipped branch.
//! BiasSplitGelu adds a bias, and multiplies one half of the last axis by Gelu of the other.
//!
//! History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{Attr, NodeDef, Op, Row, Why, microsoft, types};

pub(crate) const ROWS: &[Row] = &[
    microsoft("BiasAdd", types![T T T -> T; T: F16 F32], parse, || cases("BiasAdd")),
    microsoft("BiasSplitGelu", types![T T -> T; T: F16 F32], parse, || cases("BiasSplitGelu")),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let (x, bias) = (body.input(0)?, body.input(1)?);
    let sum = body.node("Add", &[x, bias])?;
    let y = if def.op_type == "BiasAdd" {
        let skip = body.input(2)?;
        body.node("Add", &[sum, skip])?
    } else {
        let halves = [("axis", Attr::Int(-1)), ("num_outputs", Attr::Int(2))];
        let [left, right] = body.call("Split", &halves, &[Some(sum)])?;
        let gate = body.node("Gelu", &[right])?;
        body.node("Mul", &[left, gate])?
    };
    body.finish(&[y])
}

fn cases(op_type: &'static str) -> Vec<Case> {
    let new = |name: &str, shape: &[usize]| {
        let bias = case::random(&shape[2..]);
        let case = Case::new(op_type, name).domain("com.microsoft").opset(1);
        let case = case.tolerance(Tolerance::TRANSCENDENTAL).input(case::random(shape)).constant(bias);
        if op_type == "BiasAdd" { case.input(case::random(shape)) } else { case }
    };
    vec![new("aligned", &[2, 9, 64]), new("odd", &[1, 5, 34])]
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::evaluated;
    use super::*;

    #[test]
    fn the_right_half_is_the_gate() {
        let case = Case::new("BiasSplitGelu", "halves").domain("com.microsoft").opset(1);
        let case =
            case.input(case::values(&[1, 1, 2], &[3.0f32, 0.0])).input(case::values(&[2], &[1.0f32, 1.0]));
        // Gelu of 1 is 0.8413447; the left half is 3 + 1.
        assert!((evaluated(&case)[0] - 4.0 * 0.841_344_7).abs() < 1e-5);
    }
}
