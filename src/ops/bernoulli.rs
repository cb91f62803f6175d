//! Bernoulli and Multinomial: random choices with given probabilities. They draw as RandomUniformLike does.
//!
//! History: Bernoulli 15, 22; Multinomial 7, 22; the later versions only add a type.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{Attr, DType, NodeDef, Op, Row, Why, onnx, refuse, types};
use crate::graph::ValueId;

pub(crate) const ROWS: &[Row] = &[
    onnx(
        "Bernoulli",
        15,
        types![T1 -> T2; T1: FLOATS BF16@22, T2: NUMBERS BOOL BF16],
        bernoulli,
        bernoulli_cases,
    ),
    onnx("Multinomial", 7, types![T1 -> T2; T1: FLOATS BF16@22, T2: INDICES], multinomial, multinomial_cases),
];

/// float32 numbers from 0 to 1, without 1, of the shape of `like`.
fn uniform(body: &mut Body, like: ValueId) -> Result<ValueId, Why> {
    let mut attributes = body.kept(&["seed"]);
    attributes.push(("dtype", Attr::Int(i64::from(DType::F32.onnx()))));
    // The greatest float32 below 1.
    attributes.push(("high", Attr::Float(1.0 - f32::EPSILON / 2.0)));
    body.with("RandomUniformLike", &attributes, &[like])
}

fn bernoulli(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let p = body.input(0)?;
    let drawn = uniform(&mut body, p)?;
    let single = body.cast(p, DType::F32)?;
    let chosen = body.node("Less", &[drawn, single])?;
    let y = match def.attributes.int("dtype")? {
        Some(code) => body.with("Cast", &[("to", Attr::Int(code))], &[chosen])?,
        None => body.node("CastLike", &[chosen, p])?,
    };
    body.finish(&[y])
}

/// The input has a row of logarithms of probabilities for each row of choices; these need not sum up to 1.
fn multinomial(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let x = body.input(0)?;
    let x = body.of_rank(x, 2)?;
    let count = def.attributes.int_or("sample_size", 1)?;
    if count < 0 {
        refuse!("attribute 'sample_size' is {count}, and must not be below 0");
    }
    let single = body.cast(x, DType::F32)?;
    let shares = body.with("Softmax", &[("axis", Attr::Int(1))], &[single])?;
    let (axis, first, last) = (body.scalar(1i64), body.list(&[1]), body.list(&[2]));
    // Each class ends where the shares up to its own end; the last one ends where all do.
    let ends = body.node("CumSum", &[shares, axis])?;
    let (minus, beyond) = (body.list(&[-1]), body.list(&[i64::MAX]));
    let whole = body.node("Slice", &[ends, minus, beyond, first])?;
    let (rows, samples) = (body.size(x, 0)?, body.list(&[count]));
    let shape = body.joined(&[rows, samples])?;
    let like = body.node("Expand", &[whole, shape])?;
    let drawn = uniform(&mut body, like)?;
    let drawn = body.node("Mul", &[drawn, whole])?;
    let (drawn, ends) = (body.node("Unsqueeze", &[drawn, last])?, body.node("Unsqueeze", &[ends, first])?);
    let passed = body.node("GreaterOrEqual", &[drawn, ends])?;
    let passed = body.cast(passed, DType::I32)?;
    let classes = body.with("ReduceSum", &[("keepdims", Attr::Int(0))], &[passed, last])?;
    // A product that is rounded up may reach the end.
    let (most, one) = (body.size(x, 1)?, body.list(&[1]));
    let most = body.node("Sub", &[most, one])?;
    let most = body.cast(most, DType::I32)?;
    let classes = body.node("Min", &[classes, most])?;
    let code = def.attributes.int_or("dtype", i64::from(DType::I32.onnx()))?;
    let y = body.with("Cast", &[("to", Attr::Int(code))], &[classes])?;
    body.finish(&[y])
}

fn bernoulli_cases() -> Vec<Case> {
    let of = |name: &str| Case::new("Bernoulli", name).tolerance(Tolerance::EXACT);
    let p = || case::uniform(&[3, 70], 0.0, 1.0);
    let certain = || case::values(&[4], &[0.0f32, 1.0, 1.0, 0.0]);
    vec![
        of("seed").float("seed", 3.0).input(p()),
        of("bool").float("seed", 3.0).int("dtype", i64::from(DType::Bool.onnx())).input(p()),
        of("certain").input(certain()),
        of("certain_int64").int("dtype", i64::from(DType::I64.onnx())).input(certain()),
    ]
}

fn multinomial_cases() -> Vec<Case> {
    let of = |name: &str| Case::new("Multinomial", name).tolerance(Tolerance::EXACT);
    let inf = f32::INFINITY;
    vec![
        of("seed").float("seed", 3.0).int("sample_size", 50).input(case::random(&[2, 5])),
        of("certain")
            .int("sample_size", 20)
            .constant(case::values(&[2, 3], &[-inf, 0.0, -inf, -inf, -inf, 4.0])),
        of("int64")
            .float("seed", 3.0)
            .int("dtype", i64::from(DType::I64.onnx()))
            .input(case::values(&[1, 2], &[0.0, -inf])),
    ]
}
