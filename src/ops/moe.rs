//! com.microsoft.MoE and QMoE: each row passes through the few experts that a router chooses for it, and what these give is added
//! up with the router's weights.
//!
//! The body computes every expert for every row, and takes the sum of those that are chosen, so that its work does not depend on
//! the choice. QMoE's weights of 8, 4 or 2 bits become floats first.
//!
//! History: com.microsoft 1. As in onnxruntime 1.31.1: of experts that a router likes as much, the later ones are chosen; MoE's
//! weights are a softmax over all experts, and QMoE's one over the chosen experts; an expert with a weight that is not positive
//! gives nothing; `gelu` is the approximation by tanh. onnxruntime's CPU provider has no third matrix. With one, as in its other
//! providers, the activation of `fc1` is multiplied by `fc3`, and in `swiglu` without fusion `fc3` is the linear half. That
//! provider rounds activations to 8 bits where constant weights of 8 bits have blocks; here they stay floats. Not supported: the
//! sparse mixer, weights in a layout of a provider's own, and weights of float4 and float8.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{Attr, DType, NodeDef, Op, Row, Tensor, Types, Why, microsoft, refuse, types};
use crate::graph::ValueId;

const QUANTIZED: Types = types![
    T T T1 T2 T T1 T2 T T1 T2 T T1 T1 T1 T T4 T4 T4 T4 T2 T2 -> T;
    T: F16 F32 BF16, T1: U8 F8E4M3FN, T2: F16 F32 BF16 F8E8M0 F8E4M3FN, T4: F32
];

pub(crate) const ROWS: &[Row] = &[
    microsoft("MoE", types![T T T T T T T T -> T; T: F16 F32 BF16], parse, cases),
    microsoft("QMoE", QUANTIZED, parse_quantized, quantized_cases),
];

/// A layer of all experts: weights, `[experts, outputs, inputs]`, and a bias, `[experts, outputs]`.
struct ExpertLayer {
    weights: ValueId,
    bias: Option<ValueId>,
}

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let mut layer = |weights: usize| -> Result<Option<ExpertLayer>, Why> {
        let Some(given) = body.optional(weights) else { return Ok(None) };
        Ok(Some(ExpertLayer { weights: body.cast(given, DType::F32)?, bias: body.optional(weights + 1) }))
    };
    let layers = [layer(2)?, layer(4)?, layer(6)?];
    let router = body.input(1)?;
    let router = body.of_rank(router, 2)?;
    let router = body.cast(router, DType::F32)?;
    let chosen = ChosenExperts::new(&mut body, router)?;
    let all = body.with("Softmax", &[("axis", Attr::Int(1))], &[router])?;
    let weights = chosen.of(&mut body, all)?;
    let weights = normalized(&mut body, weights)?;
    let weights = chosen.scattered(&mut body, weights)?;
    finish(body, layers, weights)
}

fn parse_quantized(def: &NodeDef) -> Result<Op, Why> {
    let (a, mut body) = (def.attributes, Body::new(def));
    match a.string_or("quant_type", "int")?.as_str() {
        "int" => {}
        other => refuse!("weights of quant_type '{other}' are not supported; those of 'int' are"),
    }
    if a.int_or("weights_prepacked", -1)? == 1 {
        refuse!("weights_prepacked 1, a layout of a provider's own, is not supported");
    }
    for i in 15..21 {
        body.without(i, "a scale of float4 or float8")?;
    }
    let mut layer = |weights: usize, zeros: usize, bits: &str| -> Result<Option<ExpertLayer>, Why> {
        if body.optional(weights).is_none() {
            return Ok(None);
        }
        let bits = a.int_or(bits, a.int_or("expert_weight_bits", 4)?)?;
        Ok(Some(ExpertLayer {
            weights: dequantized(&mut body, (weights, zeros), bits)?,
            bias: body.optional(weights + 2),
        }))
    };
    let layers = [
        layer(2, 11, "fc1_expert_weight_bits")?,
        layer(5, 12, "fc2_expert_weight_bits")?,
        layer(8, 13, "fc3_expert_weight_bits")?,
    ];
    let router = body.input(1)?;
    let router = body.of_rank(router, 2)?;
    let router = body.cast(router, DType::F32)?;
    let chosen = ChosenExperts::new(&mut body, router)?;
    let weights = match body.optional(14) {
        Some(given) => {
            let given = body.cast(given, DType::F32)?;
            let weights = chosen.of(&mut body, given)?;
            normalized(&mut body, weights)?
        }
        None => {
            let weights = chosen.of(&mut body, router)?;
            body.with("Softmax", &[("axis", Attr::Int(1))], &[weights])?
        }
    };
    let weights = chosen.scattered(&mut body, weights)?;
    finish(body, layers, weights)
}

/// The experts that the router chooses for each row.
struct ChosenExperts {
    /// Their numbers, counted from the last expert, `[rows, k]`.
    places: ValueId,
}

impl ChosenExperts {
    fn new(body: &mut Body, router: ValueId) -> Result<ChosenExperts, Why> {
        if body.attributes().flag("use_sparse_mixer", false)? {
            refuse!("use_sparse_mixer is not supported");
        }
        let k = match body.attributes().int_or("k", 1)? {
            k @ 1.. => body.list(&[k]),
            k => refuse!("k is {k}, and must be positive"),
        };
        let router = backward(body, router)?;
        let [_, places] = body.call("TopK", &[("axis", Attr::Int(1))], &[Some(router), Some(k)])?;
        Ok(ChosenExperts { places })
    }

    /// What `x`, `[rows, experts]`, has for these.
    fn of(&self, body: &mut Body, x: ValueId) -> Result<ValueId, Why> {
        let x = backward(body, x)?;
        body.with("GatherElements", &[("axis", Attr::Int(1))], &[x, self.places])
    }

    /// `[rows, experts]` with these values for the chosen experts, and 0 for the others.
    fn scattered(&self, body: &mut Body, values: ValueId) -> Result<ValueId, Why> {
        let router = body.input(1)?;
        let shape = body.node("Shape", &[router])?;
        let zeros = body.node("ConstantOfShape", &[shape])?;
        let all = body.with("ScatterElements", &[("axis", Attr::Int(1))], &[zeros, self.places, values])?;
        backward(body, all)
    }
}

/// The columns in the opposite order.
fn backward(body: &mut Body, x: ValueId) -> Result<ValueId, Why> {
    let (last, end) = (body.list(&[-1]), body.list(&[i64::MIN + 1]));
    let (axis, step) = (body.list(&[1]), body.list(&[-1]));
    body.node("Slice", &[x, last, end, axis, step])
}

/// The weights of each row by their sum, if the node wants that.
fn normalized(body: &mut Body, weights: ValueId) -> Result<ValueId, Why> {
    if !body.attributes().flag("normalize_routing_weights", false)? {
        return Ok(weights);
    }
    let axes = body.list(&[1]);
    let sum = body.node("ReduceSum", &[weights, axes])?;
    body.node("Div", &[weights, sum])
}

/// The weights in input `weights`, with the scales in the next and zero points in input `zeros`.
fn dequantized(body: &mut Body, (weights, zeros): (usize, usize), bits: i64) -> Result<ValueId, Why> {
    let (packed, scales, zeros) = (body.input(weights)?, body.input(weights + 1)?, body.optional(zeros));
    let block = body.attributes().int_or("block_size", 0)?;
    let centred = ("centred", Attr::Int(i64::from(zeros.is_none())));
    let bits = ("bits", Attr::Int(bits));
    let packed = body.of_rank(packed, 3)?;
    let numbers = body.with("sardonyx.UnpackedBits", &[bits.clone(), centred], &[packed])?;
    // `[experts, outputs, blocks, inputs of a block]`: without blocks, a whole row is one.
    let numbers = match block {
        ..=0 => {
            let axes = body.list(&[2]);
            body.node("Unsqueeze", &[numbers, axes])?
        }
        _ => body.reshaped(numbers, &[0, 0, -1, block])?,
    };
    let blocks = body.with("Shape", &[("end", Attr::Int(3))], &[numbers])?;
    let one = body.list(&[1]);
    let of_blocks = body.joined(&[blocks, one])?;
    let mut numbers = body.cast(numbers, DType::F32)?;
    if let Some(zeros) = zeros {
        let zeros = body.with("sardonyx.UnpackedBits", &[bits], &[zeros])?;
        // The last byte of a row may hold more zero points than there are blocks, or outputs.
        let (start, axis) = (body.list(&[0]), body.list(&[-1]));
        let end = body.with("Shape", &[("start", Attr::Int(-1))], &[scales])?;
        let zeros = body.node("Slice", &[zeros, start, end, axis])?;
        let zeros = body.cast(zeros, DType::F32)?;
        let zeros = body.node("Reshape", &[zeros, of_blocks])?;
        numbers = body.node("Sub", &[numbers, zeros])?;
    }
    let scales = body.cast(scales, DType::F32)?;
    let scales = body.node("Reshape", &[scales, of_blocks])?;
    let y = body.node("Mul", &[numbers, scales])?;
    body.reshaped(y, &[0, 0, -1])
}

/// What the layer makes of `x`, for each expert: `[experts, rows, outputs]`.
fn applied(body: &mut Body, layer: &ExpertLayer, x: ValueId) -> Result<ValueId, Why> {
    let weights = body.transposed(layer.weights, &[0, 2, 1])?;
    let y = body.node("MatMul", &[x, weights])?;
    let Some(bias) = layer.bias else { return Ok(y) };
    let bias = body.cast(bias, DType::F32)?;
    let (experts, one, outputs) = (body.size(weights, 0)?, body.list(&[1]), body.size(weights, 2)?);
    let shape = body.joined(&[experts, one, outputs])?;
    let bias = body.node("Reshape", &[bias, shape])?;
    body.node("Add", &[y, bias])
}

/// The experts' results by `weights`, `[rows, experts]`.
fn finish(mut body: Body, layers: [Option<ExpertLayer>; 3], weights: ValueId) -> Result<Op, Why> {
    let [Some(first), Some(second), third] = layers else { refuse!("fc1 and fc2 are required") };
    let input = body.input(0)?;
    // A row of the router for each row of the input, and a column for each expert: no Reshape takes others.
    let rows = body.with("Flatten", &[("axis", Attr::Int(-1))], &[input])?;
    let (count, experts, one) = (body.size(rows, 0)?, body.size(first.weights, 0)?, body.list(&[1]));
    let by_expert = body.transposed(weights, &[1, 0])?;
    let shape = body.joined(&[experts, count, one])?;
    let weights = body.node("Reshape", &[by_expert, shape])?;

    let x = body.cast(rows, DType::F32)?;
    let hidden = applied(&mut body, &first, x)?;
    let third = third.map(|layer| applied(&mut body, &layer, x)).transpose()?;
    let hidden = activated(&mut body, hidden, third)?;
    let y = applied(&mut body, &second, hidden)?;
    let y = body.node("Mul", &[y, weights])?;
    // A product of 0 and an infinity is no 0.
    let zero = body.scalar(0f32);
    let counts = body.node("Greater", &[weights, zero])?;
    let y = body.node("Where", &[counts, y, zero])?;
    let axes = body.list(&[0]);
    let y = body.with("ReduceSum", &[("keepdims", Attr::Int(0))], &[y, axes])?;
    let y = body.node("CastLike", &[y, input])?;
    let shape = body.node("Shape", &[input])?;
    let y = body.node("Reshape", &[y, shape])?;
    body.finish(&[y])
}

/// The activation of `x`, the first layer's result, with that of a third layer.
fn activated(body: &mut Body, x: ValueId, third: Option<ValueId>) -> Result<ValueId, Why> {
    let a = body.attributes();
    let y = match a.string_or("activation_type", "relu")?.as_str() {
        "relu" => body.node("Relu", &[x])?,
        "gelu" => body.with("Gelu", &[("approximate", Attr::String("tanh".into()))], &[x])?,
        "silu" => body.node("Swish", &[x])?,
        "identity" => x,
        "swiglu" => {
            let [gate, linear] = match (a.int_or("swiglu_fusion", 0)?, third) {
                (0, Some(third)) => [x, third],
                (1, None) => [every_other(body, x, 0)?, every_other(body, x, 1)?],
                (2, None) => {
                    let attributes = [("axis", Attr::Int(-1)), ("num_outputs", Attr::Int(2))];
                    body.call("Split", &attributes, &[Some(x)])?
                }
                (fusion, third) => {
                    let with = if third.is_some() { "with" } else { "without" };
                    refuse!("swiglu_fusion {fusion} {with} fc3 is not supported")
                }
            };
            return swiglu(body, gate, linear);
        }
        other => refuse!("the activation '{other}' is not supported"),
    };
    match third {
        Some(third) => body.node("Mul", &[y, third]),
        None => Ok(y),
    }
}

fn every_other(body: &mut Body, x: ValueId, first: i64) -> Result<ValueId, Why> {
    let (start, end) = (body.list(&[first]), body.list(&[i64::MAX]));
    let (axis, step) = (body.list(&[-1]), body.list(&[2]));
    body.node("Slice", &[x, start, end, axis, step])
}

fn swiglu(body: &mut Body, mut gate: ValueId, mut linear: ValueId) -> Result<ValueId, Why> {
    let a = body.attributes();
    if let Some(limit) = a.float("swiglu_limit")? {
        let (low, high) = (body.scalar(-limit), body.scalar(limit));
        [gate] = body.call("Clip", &[], &[Some(gate), None, Some(high)])?;
        linear = body.node("Clip", &[linear, low, high])?;
    }
    let beta = body.scalar(a.float_or("activation_beta", 0.0)?);
    let linear = body.node("Add", &[linear, beta])?;
    let alpha = ("alpha", Attr::Float(a.float_or("activation_alpha", 1.0)?));
    let gate = body.with("Swish", &[alpha], &[gate])?;
    body.node("Mul", &[gate, linear])
}

const EXPERTS: usize = 3;
const INPUTS: usize = 16;
const HIDDEN: usize = 32;

/// The router's numbers: no two of a row are as large.
fn router(rows: usize) -> Tensor {
    let values: Vec<f32> = (0..rows * EXPERTS).map(|i| (i * 7 % 11) as f32 * 0.3 - 1.0).collect();
    case::values(&[rows, EXPERTS], &values)
}

fn cases() -> Vec<Case> {
    let wide = |name: &str, activation: &str, outputs: usize| {
        let case = Case::new("MoE", name).of_microsoft().tolerance(Tolerance::TRANSCENDENTAL);
        let case = case.int("k", 2).string("activation_type", activation);
        case.input(case::random(&[5, INPUTS]))
            .input(router(5))
            .constant(case::uniform(&[EXPERTS, outputs, INPUTS], -0.5, 0.5))
            .constant(case::random(&[EXPERTS, outputs]))
            .constant(case::uniform(&[EXPERTS, INPUTS, HIDDEN], -0.3, 0.3))
    };
    let new = |name: &str, activation: &str| wide(name, activation, HIDDEN);
    let third = |case: Case| {
        case.absent()
            .constant(case::uniform(&[EXPERTS, HIDDEN, INPUTS], -0.4, 0.4))
            .constant(case::random(&[EXPERTS, HIDDEN]))
    };
    let sequence = || {
        let mut case = new("sequence", "relu");
        case.inputs[0] = Some(case::random(&[1, 5, INPUTS]));
        case
    };
    let half = || {
        let mut case = new("float16", "relu").tolerance(Tolerance { relative: 2e-3, absolute: 2e-3 });
        for tensor in case.inputs.iter_mut().flatten() {
            *tensor = case::converted(tensor, DType::F16);
        }
        case
    };
    vec![
        new("relu", "relu").constant(case::random(&[EXPERTS, INPUTS])),
        new("gelu", "gelu").int("normalize_routing_weights", 1),
        new("identity", "identity"),
        third(new("silu", "silu").int("normalize_routing_weights", 1)),
        third(new("swiglu", "swiglu")).float("activation_alpha", 1.702).float("activation_beta", 1.0),
        wide("interleaved", "swiglu", 2 * HIDDEN).int("swiglu_fusion", 1).float("swiglu_limit", 0.9),
        wide("halves", "swiglu", 2 * HIDDEN).int("swiglu_fusion", 2),
        sequence(),
        half(),
    ]
}

fn quantized_cases() -> Vec<Case> {
    let bytes = |shape: &[usize]| case::converted(&case::integers(shape, 0, 256), DType::U8);
    let scales = |shape: &[usize]| case::uniform(shape, 0.01, 0.03);
    let new = |name: &str, bits: usize| {
        let case = Case::new("QMoE", name).of_microsoft().tolerance(Tolerance::TRANSCENDENTAL);
        let case = case.int("k", 2).int("expert_weight_bits", bits as i64);
        case.input(case::random(&[5, INPUTS]))
            .input(router(5))
            .constant(bytes(&[EXPERTS, HIDDEN, INPUTS * bits / 8]))
            .constant(scales(&[EXPERTS, HIDDEN]))
            .constant(case::random(&[EXPERTS, HIDDEN]))
            .constant(bytes(&[EXPERTS, INPUTS, HIDDEN * bits / 8]))
            .constant(scales(&[EXPERTS, INPUTS]))
            .absent()
            .absent()
            .absent()
            .absent()
    };
    let blocks = |name: &str, bits: usize| {
        let mut case = new(name, bits).int("block_size", 16);
        case.inputs[3] = Some(scales(&[EXPERTS, HIDDEN, INPUTS / 16]));
        case.inputs[6] = Some(scales(&[EXPERTS, INPUTS, HIDDEN / 16]));
        case
    };
    vec![
        new("rows", 4),
        new("rows_zeros", 4).constant(bytes(&[EXPERTS, HIDDEN / 2])).constant(bytes(&[EXPERTS, INPUTS / 2])),
        blocks("blocks", 4),
        blocks("blocks_zeros", 4)
            .constant(bytes(&[EXPERTS, HIDDEN, 1]))
            .constant(bytes(&[EXPERTS, INPUTS, 1])),
        new("eight_bits", 8).string("activation_type", "silu"),
        blocks("two_bits", 2),
        blocks("router_weights", 8)
            .int("normalize_routing_weights", 1)
            .absent()
            .absent()
            .absent()
            .input(case::uniform(&[5, EXPERTS], 0.1, 1.0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::evaluated;
    use super::*;

    /// One number, three experts that multiply it by 1, 10 and 100.
    fn tens(name: &str, router: [f32; 3]) -> Case {
        let case = Case::new("MoE", name).of_microsoft().input(case::values(&[1, 1], &[1.0f32]));
        let case = case.input(case::values(&[1, 3], &router));
        case.input(case::values(&[3, 1, 1], &[1.0f32, 10.0, 100.0]))
            .absent()
            .input(case::values(&[3, 1, 1], &[1.0f32; 3]))
    }

    #[test]
    fn weights_are_a_softmax_over_all() {
        let third = tens("", [0.0; 3]).int("k", 2);
        let near = |y: Vec<f64>, wanted: f64| assert!((y[0] - wanted).abs() < 1e-4, "{y:?}, not {wanted}");
        // As in onnxruntime, the later experts are chosen.
        near(evaluated(&third), 110.0 / 3.0);
        near(evaluated(&third.int("normalize_routing_weights", 1)), 55.0);
        let e = std::f64::consts::E;
        near(evaluated(&tens("", [1.0, 0.0, 0.0])), e / (e + 2.0));
    }

    /// An expert that overflows does not disturb those that are chosen.
    #[test]
    fn what_is_not_chosen_gives_nothing() {
        let mut case = tens("", [1.0, 0.0, 0.0]).int("normalize_routing_weights", 1);
        case.inputs[2] = Some(case::values(&[3, 1, 1], &[7.0f32, f32::INFINITY, f32::NAN]));
        assert_eq!(evaluated(&case), [7.0]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let mut rows = tens("", [0.0; 3]);
        rows.inputs[0] = Some(case::values(&[2, 1], &[1.0f32, 2.0]));
        assert!(case::evaluated(&rows).is_err());
        assert!(case::evaluated(&tens("", [0.0; 3]).int("k", 4)).is_err());
        assert!(case::evaluated(&tens("", [0.0; 3]).int("use_sparse_mixer", 1)).is_err());
    }

    /// QMoE's weights are a softmax over the chosen experts, whatever `normalize_routing_weights` says; an expert whose weight
    /// is given as negative gives nothing.
    #[test]
    fn weights_of_the_chosen() {
        let case = Case::new("QMoE", "").of_microsoft().int("k", 2).int("expert_weight_bits", 8);
        let case = case.input(case::values(&[1, 1], &[1.0f32]));
        let case = case.input(case::values(&[1, 3], &[1.0f32, 1.0, 0.0]));
        let layer = |case: Case, weights: [u8; 3]| {
            case.input(case::values(&[3, 1, 1], &weights)).input(case::values(&[3, 1], &[1.0f32; 3])).absent()
        };
        let case = layer(layer(case, [129, 138, 228]), [129; 3]);
        assert_eq!(evaluated(&case), [5.5]);
        let given = (0..6).fold(case, |case, _| case.absent());
        assert_eq!(evaluated(&given.input(case::values(&[1, 3], &[-3.0f32, 0.5, 9.0]))), [5.0]);
    }
}
