//! LSTM, GRU and RNN: one layer with one or two directions.
//!
//! History: 7, 14 (`layout`, more types), 22 (bfloat16).

use super::accumulate::{Sink, Source};
use super::activation::ActivationFunction;
use super::case::{self, Case, Tolerance};
use super::product::{Matrix, Product};
use super::strides::{self, Copy};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Tensor, Why, Work, of_elements, onnx, optional, refuse,
    required, types,
};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Scalar};
use crate::kernels::fused::{Fused, Index, Operand};
use crate::kernels::recurrent::{self, Cell, RecurrentParams};
use crate::plan::{Lower, PackedDim, Packing, TensorId};

/// The attributes.
#[derive(Clone, Debug)]
pub(crate) struct Recurrent {
    kind: RecurrentKind,
    /// For each direction, whether it runs from the end to the start.
    backward: Vec<bool>,
    /// For each direction, the functions f, g and h.
    functions: Vec<Vec<ActivationFunction>>,
    clip: Option<f32>,
    /// Whether the batch is the first axis; else time is, or, in a state, the direction.
    batch_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum RecurrentKind {
    /// If `coupled`, the forget gate is 1 minus the input gate.
    Lstm {
        coupled: bool,
    },
    /// If `linear`, the reset gate multiplies the product with the hidden state; else it multiplies the hidden state.
    Gru {
        linear: bool,
    },
    Rnn,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("LSTM", 1, types![T T T T int32 T T T -> T T T; T: FLOATS BF16@22], parse, || cases("LSTM")),
    onnx("GRU", 1, types![T T T T int32 T -> T T; T: FLOATS BF16@22], parse, || cases("GRU")),
    onnx("RNN", 1, types![T T T T int32 T -> T T; T: FLOATS BF16@22], parse, || cases("RNN")),
];

const BIAS: usize = 3;
const LENGTHS: usize = 4;
const INITIAL_H: usize = 5;
const INITIAL_C: usize = 6;
const PEEPHOLES: usize = 7;

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let a = def.attributes;
    let (kind, defaults): (RecurrentKind, &[&str]) = match def.op_type {
        "LSTM" => {
            (RecurrentKind::Lstm { coupled: a.flag("input_forget", false)? }, &["Sigmoid", "Tanh", "Tanh"])
        }
        "GRU" => (RecurrentKind::Gru { linear: a.flag("linear_before_reset", false)? }, &["Sigmoid", "Tanh"]),
        _ => (RecurrentKind::Rnn, &["Tanh"]),
    };
    let backward = match a.string_or("direction", "forward")?.as_str() {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => refuse!("direction '{other}' is none of forward, reverse, bidirectional"),
    };
    let mut names = a.strings("activations")?.unwrap_or_default();
    if names.is_empty() {
        names = backward.iter().flat_map(|_| defaults.iter().map(|name| name.to_string())).collect();
    }
    // RNN's default names two functions even if there is one direction.
    if names.len() < backward.len() * defaults.len() {
        refuse!("{} activations are too few", names.len());
    }
    let mut alphas = a.floats("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = a.floats("activation_beta")?.unwrap_or_default().into_iter();
    let mut functions = Vec::new();
    for names in names.chunks(defaults.len()).take(backward.len()) {
        let function = |name: &String| ActivationFunction::recurrent(name, &mut alphas, &mut betas);
        functions.push(names.iter().map(function).collect::<Result<_, _>>()?);
    }
    let (clip, batch_first) = (a.float("clip")?, a.flag("layout", false)?);
    if let Some(clip) = clip.filter(|clip| clip.is_nan() || *clip < 0.0) {
        refuse!("clip is {clip}, and must not be negative");
    }
    Ok(Recurrent { kind, backward, functions, clip, batch_first }.into())
}

/// The sizes of one layer.
#[derive(Clone, Copy, Debug)]
struct LayerSizes {
    steps: usize,
    batches: usize,
    inputs: usize,
    hidden: usize,
    directions: usize,
    gates: usize,
    batch_first: bool,
}

impl LayerSizes {
    /// The shape of all hidden states, with the strides of step, direction and batch.
    fn y(&self) -> ([usize; 4], [usize; 3]) {
        let LayerSizes { steps, batches, hidden, directions, .. } = *self;
        match self.batch_first {
            true => (
                [batches, steps, directions, hidden],
                [directions * hidden, hidden, steps * directions * hidden],
            ),
            false => {
                let step = directions * batches * hidden;
                ([steps, directions, batches, hidden], [step, batches * hidden, hidden])
            }
        }
    }

    /// The shape of a state, with the strides of direction and batch.
    fn state(&self) -> ([usize; 3], [usize; 2]) {
        let LayerSizes { batches, hidden, directions, .. } = *self;
        match self.batch_first {
            true => ([batches, directions, hidden], [hidden, directions * hidden]),
            false => ([directions, batches, hidden], [batches * hidden, hidden]),
        }
    }

    /// The strides of step and batch in the input, in rows.
    fn x(&self) -> [usize; 2] {
        if self.batch_first { [1, self.steps] } else { [self.batches, 1] }
    }
}

impl Recurrent {
    fn gates(&self) -> usize {
        match self.kind {
            RecurrentKind::Lstm { .. } => 4,
            RecurrentKind::Gru { .. } => 3,
            RecurrentKind::Rnn => 1,
        }
    }

    fn sizes<'s>(&self, shape: impl Fn(usize) -> Option<&'s [usize]>) -> Result<LayerSizes, Why> {
        let (Some(&[first, second, inputs]), Some(w), Some(&[.., hidden])) = (shape(0), shape(1), shape(2))
        else {
            refuse!("the input and both weights have rank 3");
        };
        let (steps, batches) = if self.batch_first { (second, first) } else { (first, second) };
        let (directions, gates) = (self.backward.len(), self.gates());
        let sizes =
            LayerSizes { steps, batches, inputs, hidden, directions, gates, batch_first: self.batch_first };
        let state = sizes.state().0;
        let expected: [(usize, &[usize]); 7] = [
            (1, &[directions, gates * hidden, inputs]),
            (2, &[directions, gates * hidden, hidden]),
            (BIAS, &[directions, 2 * gates * hidden]),
            (LENGTHS, &[batches]),
            (INITIAL_H, &state),
            (INITIAL_C, &state),
            (PEEPHOLES, &[directions, 3 * hidden]),
        ];
        let _ = w;
        for (i, expected) in expected {
            if shape(i).is_some_and(|given| given != expected) {
                refuse!("input {i} has shape {:?}, not {expected:?}", shape(i).unwrap_or_default());
            }
        }
        Ok(sizes)
    }

    fn has_cell(&self) -> bool {
        matches!(self.kind, RecurrentKind::Lstm { .. })
    }
}

impl Operator for Recurrent {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let sizes = self.sizes(|i| optional(inputs, i).map(|fact| fact.shape.as_slice()))?;
        let dtype = required(inputs, 0)?.dtype;
        let state = || Fact::new(dtype, sizes.state().0);
        let mut facts = vec![Fact::new(dtype, sizes.y().0), state()];
        facts.extend(self.has_cell().then(state));
        Ok(facts)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let s = self.sizes(|i| optional(inputs, i).map(|array| array.shape.as_slice()))?;
        let x = required(inputs, 0)?;
        let floats = |i| optional(inputs, i).map(|array: &Array| array.floats()).transpose();
        let zeros = || vec![0.0; s.directions * s.batches * s.hidden];
        let mut h = floats(INITIAL_H)?.map_or_else(zeros, |h| h.to_vec());
        let mut c = floats(INITIAL_C)?.map_or_else(zeros, |c| c.to_vec());
        let mut y = vec![0.0; s.steps * s.directions * s.batches * s.hidden];
        let lengths = optional(inputs, LENGTHS).map(|lengths| lengths.i64s()).transpose()?;
        if let Some(length) =
            lengths.iter().flatten().find(|&&length| !(0..=s.steps as i64).contains(&length))
        {
            refuse!("sequence_lens has {length}, and must be from 0 to {}, the number of steps", s.steps);
        }
        let (_, y_strides) = s.y();
        let (_, state_strides) = s.state();
        for d in 0..s.directions {
            let weights = DirectionWeights::new(inputs, &s, d)?;
            for b in 0..s.batches {
                let length = lengths.as_ref().map_or(s.steps, |l| l[b] as usize);
                let state = d * state_strides[0] + b * state_strides[1];
                let own = state..state + s.hidden;
                for step in 0..length {
                    let t = if self.backward[d] { length - 1 - step } else { step };
                    let row = t * s.x()[0] + b * s.x()[1];
                    let input = &x.floats()?[row * s.inputs..][..s.inputs];
                    let (new_h, new_c) = self.step(&weights, d, input, &h[own.clone()], &c[own.clone()]);
                    y[t * y_strides[0] + d * y_strides[1] + b * y_strides[2]..][..s.hidden]
                        .copy_from_slice(&new_h);
                    h[own.clone()].copy_from_slice(&new_h);
                    c[own.clone()].copy_from_slice(&new_c);
                }
            }
        }
        let mut outputs = vec![Array::float(x.dtype, &s.y().0, y), Array::float(x.dtype, &s.state().0, h)];
        outputs.extend(self.has_cell().then(|| Array::float(x.dtype, &s.state().0, c)));
        Ok(outputs)
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let s = self.sizes(|i| optional(inputs, i).map(|fact| fact.shape.as_slice()))?;
        let steps = [s.directions, s.batches, s.steps, s.gates];
        let products = [&steps[..], &[s.hidden, s.inputs.saturating_add(s.hidden)]].concat();
        Ok(of_elements(inputs, outputs).steps(&[&steps[..], &[s.hidden, 4]].concat()).products(&products))
    }

    fn first_output_is_optional(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let s = self.sizes({
            let facts = cx.facts();
            move |i| optional(&facts, i).map(|fact| fact.shape.as_slice())
        })?;
        if s.steps == 0 {
            return initial_states(cx);
        }
        if s.hidden > cx.target.max_iterations as usize {
            refuse!("a layer of {} units takes more than {} steps", s.hidden, cx.target.max_iterations);
        }
        let dtype = cx.fact(0)?.dtype;
        let Some(scalar) = cx.register(dtype) else { refuse!("the device has no {dtype}") };
        let columns = s.directions * s.gates * s.hidden;
        let products = cx.temporary(scalar, &[s.steps * s.batches, columns]);
        let product = Product {
            m: s.steps * s.batches,
            n: columns,
            k: s.inputs,
            batch: vec![],
            a: Matrix { source: Source::Input(0), row: s.inputs, column: 1 },
            b: Matrix { source: Source::Input(1), row: 1, column: s.inputs },
        };
        product.lower(cx, scalar, Sink::Tensor(products))?;
        let weights = lower_weights(cx, &s)?;
        let (state_shape, state_strides) = s.state();
        let size: usize = crate::shape::product(state_shape);
        let h = cx.temporary(scalar, &[2, size]);
        copy(cx, INITIAL_H, h, size)?;
        let c = cx.temporary(scalar, &state_shape);
        copy(cx, INITIAL_C, c, size)?;
        let y = if cx.optional_out(0).is_some() { Some(cx.output(0)?) } else { None };
        let params = RecurrentParams {
            steps: s.steps,
            batches: s.batches,
            hidden: s.hidden,
            columns,
            backward: self.backward.iter().enumerate().map(|(d, &backward)| usize::from(backward) << d).sum(),
            x: s.x(),
            y: s.y().1,
            h: state_strides,
            has_h: cx.optional_fact(INITIAL_H).is_some(),
            has_c: cx.optional_fact(INITIAL_C).is_some(),
            gated: size,
            clip: self.clip.unwrap_or_default(),
            ..RecurrentParams::default()
        };
        let lengths = match cx.optional_fact(LENGTHS) {
            Some(_) => Some(cx.within(LENGTHS, 0, s.steps as i64)?),
            None => None,
        };
        let gated = cx.temporary(scalar, &[2, size]);
        let layer = Layer { scalar, lengths, products, weights, h, c, y, gated };
        let same = self.functions.iter().all(|functions| *functions == self.functions[0]);
        for step in 0..s.steps {
            let (h_in, h_out) = (step % 2 * size, (step + 1) % 2 * size);
            let params = RecurrentParams { step, h_in, h_out, ..params };
            if same {
                self.lower_step(cx, &layer, RecurrentParams { directions: s.directions, ..params })?;
                continue;
            }
            for direction in 0..s.directions {
                self.lower_step(cx, &layer, RecurrentParams { direction, directions: 1, ..params })?;
            }
        }
        if cx.optional_out(1).is_some() {
            cx.view(1, h, s.steps % 2 * size)?;
        }
        if cx.optional_out(2).is_some() {
            cx.view(2, c, 0)?;
        }
        Ok(())
    }
}

/// The device tensors of a layer, of floats of type `scalar`.
struct Layer {
    scalar: Scalar,
    lengths: Option<TensorId>,
    products: TensorId,
    weights: TensorId,
    h: TensorId,
    c: TensorId,
    y: Option<TensorId>,
    gated: TensorId,
}

impl Recurrent {
    fn lower_step(&self, cx: &mut Lower, layer: &Layer, params: RecurrentParams) -> Result<(), Why> {
        let cells = match self.kind {
            RecurrentKind::Lstm { coupled } => {
                vec![Cell::Lstm { coupled, peephole: cx.optional_fact(PEEPHOLES).is_some() }]
            }
            RecurrentKind::Gru { linear: true } => vec![Cell::Gru],
            RecurrentKind::Gru { linear: false } => vec![Cell::GruGates, Cell::GruCandidate],
            RecurrentKind::Rnn => vec![Cell::Rnn],
        };
        let (mut activations, mut words) = (Vec::new(), params.words()?);
        for &function in &self.functions[params.direction] {
            let (fused, constants) = fused(function, layer.scalar)?;
            activations.push(fused);
            words.extend(constants);
        }
        for cell in cells {
            let mut tensors = vec![layer.products, layer.weights];
            for i in [BIAS, PEEPHOLES] {
                if cx.optional_fact(i).is_some() {
                    tensors.push(cx.input(i)?);
                }
            }
            tensors.extend(layer.lengths);
            let y = layer.y.filter(|_| cell != Cell::GruGates);
            tensors.extend((cell == Cell::GruCandidate).then_some(layer.gated));
            tensors.extend(self.has_cell().then_some(layer.c));
            tensors.extend(y);
            tensors.push(layer.h);
            tensors.extend((cell == Cell::GruGates).then_some(layer.gated));
            let kernel = recurrent::Recurrent {
                scalar: layer.scalar,
                cell,
                activations: activations.clone(),
                bias: cx.optional_fact(BIAS).is_some(),
                clip: self.clip.is_some(),
                lengths: cx.optional_fact(LENGTHS).is_some(),
                y: y.is_some(),
            };
            cx.call(kernel, tensors, words.clone(), params.groups());
        }
        Ok(())
    }

    /// One step of the reference: the new hidden state and the new cell state.
    fn step(&self, w: &DirectionWeights, d: usize, x: &[f64], h: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let act = |k: usize, x: f64| {
            let clipped = self.clip.map_or(x, |clip| x.clamp(-f64::from(clip), f64::from(clip)));
            self.functions[d][k].value(clipped)
        };
        let n = h.len();
        let gate = |g: usize, j: usize| w.input(g, j, x) + w.hidden(g, j, h);
        let peephole = |k: usize, j: usize| w.peepholes.map_or(0.0, |p| p[k * n + j]);
        let (mut new_h, mut new_c) = (Vec::with_capacity(n), c.to_vec());
        let reset: Vec<f64> = match self.kind {
            RecurrentKind::Gru { .. } => (0..n).map(|j| act(0, gate(1, j))).collect(),
            _ => vec![],
        };
        let gated: Vec<f64> = reset.iter().zip(h).map(|(r, h)| r * h).collect();
        for j in 0..n {
            new_h.push(match self.kind {
                RecurrentKind::Lstm { coupled } => {
                    let input = act(0, gate(0, j) + peephole(0, j) * c[j]);
                    let forget =
                        if coupled { 1.0 - input } else { act(0, gate(2, j) + peephole(2, j) * c[j]) };
                    new_c[j] = forget * c[j] + input * act(1, gate(3, j));
                    act(0, gate(1, j) + peephole(1, j) * new_c[j]) * act(2, new_c[j])
                }
                RecurrentKind::Gru { linear } => {
                    let update = act(0, gate(0, j));
                    let from_h = if linear { reset[j] * w.hidden(2, j, h) } else { w.hidden(2, j, &gated) };
                    (1.0 - update) * act(1, w.input(2, j, x) + from_h) + update * h[j]
                }
                RecurrentKind::Rnn => act(0, gate(0, j)),
            });
        }
        (new_h, new_c)
    }
}

/// One direction's weights, for the reference.
struct DirectionWeights<'a> {
    w: &'a [f64],
    r: &'a [f64],
    bias: Option<&'a [f64]>,
    peepholes: Option<&'a [f64]>,
    gates: usize,
    units: usize,
}

impl<'a> DirectionWeights<'a> {
    fn new(inputs: &[Option<&'a Array>], s: &LayerSizes, d: usize) -> Result<DirectionWeights<'a>, Why> {
        let part = |i| -> Result<Option<&'a [f64]>, Why> {
            let Some(array) = optional(inputs, i) else { return Ok(None) };
            let size = array.len() / s.directions;
            Ok(Some(&array.floats()?[d * size..][..size]))
        };
        let (Some(w), Some(r)) = (part(1)?, part(2)?) else { refuse!("the weights are required") };
        Ok(DirectionWeights {
            w,
            r,
            bias: part(BIAS)?,
            peepholes: part(PEEPHOLES)?,
            gates: s.gates,
            units: s.hidden,
        })
    }

    /// The product of the input with the weights of unit `j` of gate `g`.
    fn input(&self, g: usize, j: usize, x: &[f64]) -> f64 {
        self.dot(self.w, g * self.units + j, x, 0)
    }

    /// The product of the hidden state with them.
    fn hidden(&self, g: usize, j: usize, h: &[f64]) -> f64 {
        self.dot(self.r, g * self.units + j, h, self.gates * self.units)
    }

    fn dot(&self, weights: &[f64], row: usize, x: &[f64], bias_at: usize) -> f64 {
        let products = weights[row * x.len()..].iter().zip(x).map(|(w, x)| w * x);
        products.sum::<f64>() + self.bias.map_or(0.0, |bias| bias[bias_at + row])
    }
}

/// An activation of numbers of type `scalar` as code, with its constants.
fn fused(function: ActivationFunction, scalar: Scalar) -> Result<(Fused, Vec<u32>), Why> {
    let mut builder = Builder::default();
    let x = builder.load(0, scalar);
    let Some(value) = function.device(&mut builder, x) else { refuse!("{function:?} is not for floats") };
    let (expr, constants) = builder.finish(vec![value]);
    Ok((Fused { expr, operands: vec![Operand { scalar, index: Index::Anchor }] }, constants))
}

/// The recurrence weights as `[direction][unit before][gate][unit]`, so that neighbouring invocations read neighbouring words.
fn lower_weights(cx: &mut Lower, s: &LayerSizes) -> Result<TensorId, Why> {
    let dim = |axis, size| PackedDim { axis, size, step: 1 };
    let packing = Packing {
        source: vec![s.directions, s.gates, s.hidden, s.hidden],
        dims: vec![dim(0, s.directions), dim(3, s.hidden), dim(1, s.gates), dim(2, s.hidden)],
        ..Packing::default()
    };
    if let Some(packed) = cx.packed(2, packing) {
        return Ok(packed);
    }
    let (source, square) = (cx.input(2)?, (s.hidden * s.hidden) as i64);
    let dims = [
        (s.directions, s.gates as i64 * square),
        (s.hidden, 1),
        (s.gates, square),
        (s.hidden, s.hidden as i64),
    ];
    let packed = cx.temporary_like(source, &dims.map(|dim| dim.0));
    strides::copy(cx, Copy { number: 2, from: source, to: packed, base: 0, dims: &dims });
    Ok(packed)
}

/// The final states of a layer without steps: the initial states, which are zeros unless they are given.
fn initial_states(cx: &mut Lower) -> Result<(), Why> {
    for (output, input) in [(1, INITIAL_H), (2, INITIAL_C)] {
        match (cx.optional_out(output), cx.optional_fact(input)) {
            (None, _) => {}
            (Some(_), Some(_)) => cx.copy_input(output, input)?,
            (Some(_), None) => {
                let state = cx.output(output)?;
                cx.fill(state, 0);
            }
        }
    }
    Ok(())
}

/// Copies input `i`, if it is given, to the beginning of `to`.
fn copy(cx: &mut Lower, i: usize, to: TensorId, count: usize) -> Result<(), Why> {
    if cx.optional_fact(i).is_some() && count > 0 {
        let from = cx.input(i)?;
        strides::scatter(cx, Copy { number: i, from, to, base: 0, dims: &[(count, 1)] });
    }
    Ok(())
}

fn cases(name: &'static str) -> Vec<Case> {
    let gates = match name {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let outputs = if name == "LSTM" { 3 } else { 2 };
    let new = |case: &str| Case::new(name, case).outputs(outputs).tolerance(Tolerance::TRANSCENDENTAL);
    let part = |shape: &[usize]| case::uniform(shape, -0.6, 0.6);
    // 5 steps, 2 batches, 3 inputs, 4 units.
    let base = |case: Case, directions: usize| {
        let x = if case.attributes.iter().any(|(name, _)| name == "layout") { [2, 5, 3] } else { [5, 2, 3] };
        case.int("hidden_size", 4)
            .input(part(&x))
            .constant(part(&[directions, gates * 4, 3]))
            .constant(part(&[directions, gates * 4, 4]))
    };
    let sized = |case: &str, x: [usize; 3], hidden: usize| {
        let weights = |columns| part(&[1, gates * hidden, columns]);
        let case = new(case).int("hidden_size", hidden as i64).input(part(&x));
        case.constant(weights(x[2])).constant(weights(hidden))
    };
    let bias = |case: Case, directions: usize| case.constant(part(&[directions, 2 * gates * 4]));
    let lengths = |case: Case| case.input(case::values(&[2], &[5i32, 2]));
    let states = |mut case: Case, shape: [usize; 3]| {
        for _ in 1..outputs {
            case = case.input(part(&shape));
        }
        case
    };
    let strings = |case: Case, names: &[&str]| {
        case.attr(
            "activations",
            crate::ops::Attr::Strings(names.iter().map(|name| name.to_string()).collect()),
        )
    };
    let direction = |case: Case, direction: &str| case.string("direction", direction);
    let float16 = |tensor: Tensor| case::converted(&tensor, DType::F16);
    let mut cases = vec![
        base(new("plain"), 1),
        bias(base(new("bias"), 1), 1),
        base(direction(new("reverse"), "reverse"), 1),
        bias(base(direction(new("both"), "bidirectional"), 2), 2),
        lengths(bias(base(new("lengths"), 1), 1)),
        lengths(bias(base(direction(new("lengths, both"), "bidirectional"), 2), 2)),
        states(lengths(bias(base(direction(new("states"), "bidirectional"), 2), 2)), [2, 2, 4]),
        states(
            bias(base(direction(new("layout").int("layout", 1), "bidirectional"), 2), 2).absent(),
            [2, 2, 4],
        ),
        bias(base(new("clip").float("clip", 0.2), 1), 1),
        sized("no steps", [0, 2, 3], 4),
        states(bias(sized("no steps, states", [0, 2, 3], 4), 1).absent(), [1, 2, 4]),
        sized("no batches", [5, 0, 3], 4),
        sized("no inputs", [5, 2, 0], 4),
        bias(sized("no inputs, bias", [5, 2, 0], 4), 1),
        sized("no units", [5, 2, 3], 0),
        base(new("hidden states only").outputs(1), 1),
        new("variable weights")
            .int("hidden_size", 2)
            .input(part(&[2, 1, 3]))
            .input(part(&[1, gates * 2, 3]))
            .input(part(&[1, gates * 2, 2])),
        new("many units")
            .int("hidden_size", 70)
            .input(part(&[3, 1, 9]))
            .constant(case::uniform(&[1, gates * 70, 9], -0.2, 0.2))
            .constant(case::uniform(&[1, gates * 70, 70], -0.2, 0.2)),
        new("float16")
            .int("hidden_size", 2)
            .input(float16(part(&[2, 1, 3])))
            .constant(float16(part(&[1, gates * 2, 3])))
            .constant(float16(part(&[1, gates * 2, 2])))
            .tolerance(Tolerance { relative: 2e-3, absolute: 2e-3 }),
    ];
    let odd = ["HardSigmoid", "ScaledTanh", "Softsign", "Affine", "LeakyRelu", "Elu"];
    let per_direction = outputs.max(2) - usize::from(name == "RNN");
    let case = strings(direction(new("functions"), "bidirectional"), &odd[..2 * per_direction]);
    let case = case.attr("activation_alpha", crate::ops::Attr::Floats(vec![0.3, 0.8]));
    cases.push(bias(base(case, 2), 2));
    match name {
        "LSTM" => {
            cases.push(base(new("coupled").int("input_forget", 1), 1));
            let case =
                bias(base(direction(new("peepholes"), "bidirectional"), 2), 2).absent().absent().absent();
            cases.push(case.constant(part(&[2, 12])));
        }
        "GRU" => cases.push(bias(base(new("linear before reset").int("linear_before_reset", 1), 1), 1)),
        _ => {}
    }
    cases
}
