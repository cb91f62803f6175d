//! com.microsoft.FusedGemm: Gemm, and then an activation function.
//!
//! History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{NodeDef, Op, Row, Why, microsoft, types};

pub(crate) const ROWS: &[Row] = &[microsoft("FusedGemm", types![T T T -> T; T: FLOATS WORDS], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let kept = body.kept(&["alpha", "beta", "transA", "transB"]);
    let inputs = [Some(body.input(0)?), Some(body.input(1)?), body.optional(2)];
    let [product] = body.call("Gemm", &kept, &inputs)?;
    let mut params = Vec::new();
    for name in ["activation_alpha", "activation_beta"] {
        params.extend(def.attributes.float(name)?);
    }
    let y = body.activated(&params, product)?;
    body.finish(&[y])
}

fn cases() -> Vec<Case> {
    let new = |name: &str, function: &str| {
        Case::new("FusedGemm", name)
            .domain("com.microsoft")
            .opset(1)
            .tolerance(Tolerance::ACCUMULATION)
            .string("activation", function)
            .input(case::random(&[9, 20]))
            .constant(case::random(&[20, 12]))
    };
    vec![
        new("relu", "Relu").constant(case::random(&[12])),
        new("leaky", "LeakyRelu").float("activation_alpha", 0.2).float("alpha", 0.5),
        new("tanh", "Tanh").input(case::random(&[9, 1])).float("beta", 2.0),
        Case::new("FusedGemm", "turned")
            .domain("com.microsoft")
            .opset(1)
            .tolerance(Tolerance::ACCUMULATION)
            .string("activation", "Sigmoid")
            .int("transA", 1)
            .int("transB", 1)
            .input(case::random(&[20, 9]))
            .input(case::random(&[12, 20])),
    ]
}
