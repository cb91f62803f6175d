//! CausalConvWithState: a depthwise convolution over the inputs of this call and of earlier calls, which a state carries on.
//! com.microsoft's has other layouts, and states of several positions; each is this convolution with its tensors arranged.
//!
//! History: 27; com.microsoft 1.

use super::activation::ActivationFunction;
use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{
    Array, Attr, DType, NodeDef, OWN_DOMAIN, Op, Operator, Row, Types, Why, Work, microsoft, of_elements,
    onnx, optional, refuse, required, types,
};
use crate::array::number::round_float;
use crate::facts::Fact;
use crate::graph::ValueId;
use crate::kernels::causal_conv;
use crate::kernels::expr::Scalar;
use crate::kernels::params;
use crate::plan::Lower;

/// The attributes.
#[derive(Clone, Debug)]
pub(crate) struct CausalConv {
    /// Positions from one tap to the next.
    dilation: usize,
    /// Whether the result goes through Swish.
    swish: bool,
}

const SWISH: ActivationFunction = ActivationFunction::Swish { alpha: 1.0 };

const TYPES: Types = types![T T T T -> T T; T: F32 F16 BF16];

pub(crate) const ROWS: &[Row] = &[
    onnx("CausalConvWithState", 27, TYPES, parse, cases),
    microsoft("CausalConvWithState", TYPES, parse_arranged, arranged_cases),
    // With dilations.
    Row {
        domain: OWN_DOMAIN,
        name: "CausalConvWithState",
        opsets: (1, 1),
        types: TYPES,
        parse,
        cases: Vec::new,
    },
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let swish = match def.attributes.string_or("activation", "none")?.as_str() {
        "silu" | "swish" => true,
        "none" => false,
        other => refuse!("activation '{other}' is none of silu, swish, none"),
    };
    match usize::try_from(def.attributes.int_or("dilation", 1)?) {
        Ok(dilation @ 1..) => Ok(CausalConv { dilation, swish }.into()),
        _ => refuse!("dilation is not positive"),
    }
}

fn parse_arranged(def: &NodeDef) -> Result<Op, Why> {
    let a = def.attributes;
    if a.int_or("ndim", 1)? != 1 {
        refuse!("only sequences are supported (ndim 1): fold the other axes into the channels with Reshape");
    }
    let last = a.flag("channels_last", false)?;
    let window = match a.int_or("state_window", 0)? {
        window @ 0..=8 => window,
        window => refuse!("state_window is {window}, and must be 0 to 8"),
    };
    if !last && window == 0 {
        return parse(def);
    }
    let mut body = Body::new(def);
    let (given, w) = (body.input(0)?, body.input(1)?);
    let x = if last { channels_first(&mut body, given)? } else { given };
    let mut past = body.optional(3);
    if let Some(past) = &mut past {
        if window > 0 {
            let newest = body.scalar(window - 1);
            *past = body.with("Gather", &[("axis", Attr::Int(0))], &[*past, newest])?;
        }
        if last {
            *past = channels_first(&mut body, *past)?;
        }
    }
    let inputs = [Some(x), Some(w), body.optional(2), past];
    let kept = body.kept(&["activation", "dilation"]);
    let [mut y, mut state] = body.call("sardonyx.CausalConvWithState", &kept, &inputs)?;
    if window > 0 {
        state = windowed(&mut body, window, x, past, state)?;
    }
    if last {
        y = body.transposed(y, &[0, 2, 1])?;
        let shape = body.node("Shape", &[given])?;
        y = body.node("Reshape", &[y, shape])?;
        let (steps, perm): (i64, &[i64]) = if window > 0 { (2, &[0, 1, 3, 2]) } else { (1, &[0, 2, 1]) };
        state = body.transposed(state, perm)?;
        let outer = body.with("Shape", &[("end", Attr::Int(steps + 1))], &[state])?;
        let channels = body.with("Shape", &[("start", Attr::Int(2))], &[given])?;
        let shape = body.joined(&[outer, channels])?;
        state = body.node("Reshape", &[state, shape])?;
    }
    body.finish(&[y, state])
}

/// `[batch, length, ...]` as `[batch, channels, length]`.
fn channels_first(body: &mut Body, x: ValueId) -> Result<ValueId, Why> {
    let x = body.reshaped(x, &[0, 0, -1])?;
    body.transposed(x, &[0, 2, 1])
}

/// The states after each of the last positions, oldest first; zeros for positions before this call's.
fn windowed(
    body: &mut Body,
    window: i64,
    x: ValueId,
    past: Option<ValueId>,
    state: ValueId,
) -> Result<ValueId, Why> {
    let none = body.number(0.0, x)?;
    let past = match past {
        Some(past) => past,
        None => {
            let shape = body.node("Shape", &[state])?;
            body.node("Expand", &[none, shape])?
        }
    };
    let all = body.with("Concat", &[("axis", Attr::Int(2))], &[past, x])?;
    let (steps, length, zero, axis) =
        (body.size(x, 2)?, body.size(state, 2)?, body.list(&[0]), body.list(&[2]));
    let mut slots = Vec::new();
    for back in (1..window).rev() {
        let back = body.list(&[back]);
        let read = body.node("Sub", &[steps, back])?;
        let start = body.node("Max", &[read, zero])?;
        let end = body.node("Add", &[start, length])?;
        let slot = body.node("Slice", &[all, start, end, axis])?;
        let exists = body.node("Greater", &[read, zero])?;
        slots.push(body.node("Where", &[exists, slot, none])?);
    }
    slots.push(state);
    for slot in &mut slots {
        *slot = body.node("Unsqueeze", &[*slot, zero])?;
    }
    body.joined(&slots)
}

/// The sizes of a convolution.
struct CausalSizes {
    /// Of all batches and channels together.
    rows: usize,
    channels: usize,
    length: usize,
    taps: usize,
    /// Positions before the first that its result reads.
    before: usize,
}

impl CausalConv {
    fn sizes<'s>(&self, shape: impl Fn(usize) -> Option<&'s [usize]>) -> Result<CausalSizes, Why> {
        let (Some(&[batches, channels, length]), Some(&[w_channels, 1, taps])) = (shape(0), shape(1)) else {
            refuse!("the input has shape [batch, channels, length], the weights [channels, 1, taps]");
        };
        if w_channels != channels || taps == 0 || shape(2).is_some_and(|bias| bias != [channels]) {
            refuse!("weights and bias are not those of {channels} channels");
        }
        let Some(before) = (taps - 1).checked_mul(self.dilation) else {
            refuse!("{taps} taps, each {} after the one before, are too many", self.dilation)
        };
        if shape(3).is_some_and(|past| past != [batches, channels, before]) {
            refuse!("past_state has not the shape {:?}", [batches, channels, before]);
        }
        Ok(CausalSizes { rows: batches * channels, channels, length, taps, before })
    }
}

impl Operator for CausalConv {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let sizes = self.sizes(|i| optional(inputs, i).map(|fact| fact.shape.as_slice()))?;
        let x = required(inputs, 0)?;
        let state = [x.shape[0], sizes.channels, sizes.before];
        Ok(vec![Fact::new(x.dtype, x.shape.clone()), Fact::new(x.dtype, state)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let CausalSizes { rows, channels, length, taps, before } =
            self.sizes(|i| optional(inputs, i).map(|array| array.shape.as_slice()))?;
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?.floats()?);
        let bias = optional(inputs, 2).map(|bias| bias.floats()).transpose()?;
        let past = optional(inputs, 3).map(|past| past.floats()).transpose()?;
        let (mut y, mut state) = (Vec::new(), Vec::new());
        for row in 0..rows {
            let mut padded = match past {
                Some(past) => past[row * before..][..before].to_vec(),
                None => vec![0.0; before],
            };
            padded.extend_from_slice(&x.floats()?[row * length..][..length]);
            let channel = row % channels;
            for at in 0..length {
                let steps = padded[at..].iter().step_by(self.dilation);
                let products = steps.zip(&w[channel * taps..][..taps]).map(|(x, w)| x * w);
                let sum = bias.map_or(0.0, |bias| bias[channel]) + products.sum::<f64>();
                y.push(if self.swish { SWISH.value(round_float(x.dtype, sum)) } else { sum });
            }
            state.extend_from_slice(&padded[length..]);
        }
        let state_shape = [x.shape[0], channels, before];
        Ok(vec![Array::float(x.dtype, &x.shape, y), Array::float(x.dtype, &state_shape, state)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let CausalSizes { rows, length, taps, .. } =
            self.sizes(|i| optional(inputs, i).map(|fact| fact.shape.as_slice()))?;
        Ok(of_elements(inputs, outputs).products(&[rows, length, taps]))
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let facts = cx.facts();
        let CausalSizes { rows, channels, length, taps, before } =
            self.sizes(|i| optional(&facts, i).map(|fact| fact.shape.as_slice()))?;
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
        let params = params([rows, channels, length, taps, self.dilation, before], epilogue.params)?;
        let (bias, past) = (cx.optional_fact(2).is_some(), cx.optional_fact(3).is_some());
        let kernel = causal_conv::CausalConv { bias, past, state, epilogue: epilogue.fused };
        cx.call(kernel, tensors, params, causal_conv::groups(rows * (length + before)));
        Ok(())
    }
}

fn new(case: &str) -> Case {
    Case::new("CausalConvWithState", case).outputs(2).tolerance(Tolerance::ACCUMULATION)
}

fn arranged_cases() -> Vec<Case> {
    let input = |name: &str, shape: &[usize], channels: usize, taps: usize| {
        new(name).input(case::random(shape)).constant(case::random(&[channels, 1, taps]))
    };
    let last = |case: Case| case.int("channels_last", 1);
    let window = |case: Case, count: i64| case.int("state_window", count);
    let (bias, past) = (|| case::random(&[3]), |shape: &[usize]| case::random(shape));
    let own = vec![
        input("dilation", &[2, 3, 7], 3, 4).int("dilation", 2).constant(bias()).input(past(&[2, 3, 6])),
        input("dilation_of_a_step", &[2, 3, 1], 3, 3).int("dilation", 3),
        last(input("channels_last", &[2, 7, 3], 3, 4)).constant(bias()).input(past(&[2, 3, 3])),
        last(input("two_axes_of_channels", &[2, 5, 3, 2], 6, 3))
            .int("dilation", 2)
            .string("activation", "silu"),
        window(input("window", &[2, 3, 7], 3, 4), 4).constant(bias()).input(past(&[4, 2, 3, 3])),
        window(input("window_of_few_steps", &[2, 3, 2], 3, 4), 4).absent().input(past(&[4, 2, 3, 3])),
        window(input("window_of_one", &[1, 3, 2], 3, 4), 1),
        window(last(input("window_and_channels_last", &[2, 3, 3, 2], 6, 3)), 2)
            .absent()
            .input(past(&[2, 2, 2, 3, 2])),
    ];
    own.into_iter().chain(cases()).map(Case::of_microsoft).collect()
}

fn cases() -> Vec<Case> {
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

#[cfg(test)]
mod tests {
    use super::super::composed::tests::evaluated_output;
    use super::*;

    /// The window of com.microsoft's documentation: slot j is the state after position length - window + j.
    #[test]
    fn a_window_holds_the_states_of_the_last_positions() {
        let case = new("window").of_microsoft().int("state_window", 3);
        let case = case.input(case::values(&[1, 1, 2], &[4.0f32, 5.0]));
        let case = case.constant(case::values(&[1, 1, 3], &[1.0f32, 1.0, 1.0])).absent();
        let past = case::values(&[3, 1, 1, 2], &[9.0f32, 9.0, 9.0, 9.0, 2.0, 3.0]);
        assert_eq!(evaluated_output(&case.clone().input(past.clone()), 0), [9.0, 12.0]);
        assert_eq!(evaluated_output(&case.input(past), 1), [0.0, 0.0, 3.0, 4.0, 4.0, 5.0]);
    }

    /// A result reads its own position, the one before the last, and so on.
    #[test]
    fn a_dilated_kernel_leaves_positions_out() {
        let case = new("dilation").of_microsoft().int("dilation", 2);
        let case = case.input(case::values(&[1, 1, 3], &[1.0f32, 10.0, 100.0]));
        let case = case.constant(case::values(&[1, 1, 2], &[2.0f32, 1.0]));
        assert_eq!(evaluated_output(&case, 0), [1.0, 10.0, 102.0]);
        assert_eq!(evaluated_output(&case, 1), [10.0, 100.0]);
    }
}
