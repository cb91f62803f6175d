//! CausalConvWithState: a depthwise convolution over the inputs of this call and of earlier calls, which a state carries on.
//!
//! History: 27.

use super::activation::ActivationFunction;
use super::case::{self, Case, Tolerance};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, microsoft, of_elements, onnx, optional, refuse,
    required, types,
};
use crate::array::number::round_float;
use crate::facts::Fact;
use crate::kernels::causal_conv;
use crate::kernels::expr::Scalar;
use crate::kernels::params;
use crate::plan::Lower;

/// The attributes.
#[derive(Clone, Debug)]
pub(crate) struct CausalConv {
    /// Whether the result goes through Swish.
    swish: bool,
}

const SWISH: ActivationFunction = ActivationFunction::Swish { alpha: 1.0 };

pub(crate) const ROWS: &[Row] = &[
    onnx("CausalConvWithState", 27, types![T T T T -> T T; T: F32 F16 BF16], parse, cases),
    microsoft("CausalConvWithState", types![T T T T -> T T; T: F32 F16 BF16], parse, || {
        cases().into_iter().map(Case::of_microsoft).collect()
    }),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let swish = match def.attributes.string_or("activation", "none")?.as_str() {
        "silu" | "swish" => true,
        "none" => false,
        other => refuse!("activation '{other}' is none of silu, swish, none"),
    };
    for (name, plain) in [("ndim", 1), ("dilation", 1), ("channels_last", 0), ("state_window", 0)] {
        let value = def.attributes.int_or(name, plain)?;
        if value != plain {
            refuse!("{name} {value} is not supported; only {plain} is");
        }
    }
    Ok(CausalConv { swish }.into())
}

/// Rows of all batches and channels together, channels, length, taps.
fn sizes<'s>(shape: impl Fn(usize) -> Option<&'s [usize]>) -> Result<[usize; 4], Why> {
    let (Some(&[batches, channels, length]), Some(&[w_channels, 1, taps])) = (shape(0), shape(1)) else {
        refuse!("the input has shape [batch, channels, length], the weights [channels, 1, taps]");
    };
    if w_channels != channels || taps == 0 || shape(2).is_some_and(|bias| bias != [channels]) {
        refuse!("weights and bias are not those of {channels} channels");
    }
    if shape(3).is_some_and(|past| past != [batches, channels, taps - 1]) {
        refuse!("past_state has not the shape {:?}", [batches, channels, taps - 1]);
    }
    Ok([batches * channels, channels, length, taps])
}

impl Operator for CausalConv {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let [_, channels, _, taps] = sizes(|i| optional(inputs, i).map(|fact| fact.shape.as_slice()))?;
        let x = required(inputs, 0)?;
        let state = [x.shape[0], channels, taps - 1];
        Ok(vec![Fact::new(x.dtype, x.shape.clone()), Fact::new(x.dtype, state)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let [rows, channels, length, taps] =
            sizes(|i| optional(inputs, i).map(|array| array.shape.as_slice()))?;
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?.floats()?);
        let bias = optional(inputs, 2).map(|bias| bias.floats()).transpose()?;
        let past = optional(inputs, 3).map(|past| past.floats()).transpose()?;
        let (mut y, mut state) = (Vec::new(), Vec::new());
        for row in 0..rows {
            let mut padded = match past {
                Some(past) => past[row * (taps - 1)..][..taps - 1].to_vec(),
                None => vec![0.0; taps - 1],
            };
            padded.extend_from_slice(&x.floats()?[row * length..][..length]);
            let channel = row % channels;
            for window in padded.windows(taps).take(length) {
                let products = window.iter().zip(&w[channel * taps..]).map(|(x, w)| x * w);
                let sum = bias.map_or(0.0, |bias| bias[channel]) + products.sum::<f64>();
                y.push(if self.swish { SWISH.value(round_float(x.dtype, sum)) } else { sum });
            }
            state.extend_from_slice(&padded[length..]);
        }
        let state_shape = [x.shape[0], channels, taps - 1];
        Ok(vec![Array::float(x.dtype, &x.shape, y), Array::float(x.dtype, &state_shape, state)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let [rows, _, length, taps] = sizes(|i| optional(inputs, i).map(|fact| fact.shape.as_slice()))?;
        Ok(of_elements(inputs, outputs).products(&[rows, length, taps]))
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let [rows, channels, length, taps] = sizes({
            let facts = cx.facts();
            move |i| optional(&facts, i).map(|fact| fact.shape.as_slice())
        })?;
        if length == 0 {
            refuse!("the device has no sequences of no steps");
        }
        let limit = cx.target.max_iterations as usize;
        if taps > limit {
            refuse!("the kernel has more than {limit} taps");
        }
        let epilogue = cx.epilogue_after(None, Scalar::F32, |code, sum| {
            if !self.swish {
                return Ok(sum);
            }
            match SWISH.device(&mut code.builder, sum) {
                Some(value) => Ok(value),
                None => refuse!("expected floats"),
            }
        })?;
        let mut tensors = Vec::new();
        for i in 0..4 {
            if cx.optional_fact(i).is_some() {
                tensors.push(cx.input(i)?);
            }
        }
        let state = cx.optional_out(1).is_some();
        if state {
            tensors.push(cx.output(1)?);
        }
        tensors.push(cx.output(0)?);
        let params = params([rows, channels, length, taps], epilogue.params)?;
        let (bias, past) = (cx.optional_fact(2).is_some(), cx.optional_fact(3).is_some());
        let kernel = causal_conv::CausalConv { bias, past, state, epilogue: epilogue.fused };
        cx.call(kernel, tensors, params, causal_conv::groups(rows * (length + taps - 1)));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let new =
        |case: &str| Case::new("CausalConvWithState", case).outputs(2).tolerance(Tolerance::ACCUMULATION);
    let input = |case: Case, length: usize, taps: usize| {
        case.input(case::random(&[2, 3, length])).constant(case::random(&[3, 1, taps]))
    };
    let bias = || case::random(&[3]);
    vec![
        input(new("plain"), 7, 4),
        input(new("bias"), 7, 4).constant(bias()),
        input(new("past"), 7, 4).absent().input(case::random(&[2, 3, 3])),
        input(new("one step").string("activation", "silu"), 1, 4)
            .constant(bias())
            .input(case::random(&[2, 3, 3])),
        input(new("short"), 2, 5),
        input(new("one tap"), 5, 1).constant(bias()),
        input(new("result only").outputs(1), 7, 4),
        new("float16")
            .string("activation", "swish")
            .input(case::converted(&case::random(&[1, 2, 5]), DType::F16))
            .constant(case::converted(&case::random(&[2, 1, 3]), DType::F16)),
    ]
}
