//! BatchNormalization: each channel is normalised by given statistics, or in training by those of the batch.
//!
//! History: 1, 6, 7 (`is_test` was removed: one output means inference), 9 (`spatial` was removed), 14 (`training_mode`; the
//! outputs became Y, running mean, running variance), 15. Before 14, more than one output means training, with two more
//! outputs that no version defined.

use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare};
use super::rows::{Rows, element, value};
use super::{Array, DType, NodeDef, Op, Operator, Row, Types, Why, onnx, refuse, required, types};
use crate::array::rows;
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg, Scalar};
use crate::kernels::reduce::{Combine, Each};
use crate::plan::{Lower, Pairing};

/// The attributes.
#[derive(Clone, Debug)]
pub(crate) struct BatchNorm {
    epsilon: f32,
    momentum: f32,
    training: bool,
}

const TYPES: Types = types![
    T T T T T -> T T T T T; T: FLOATS
    | 14: T T T U U -> T U U; T U: FLOATS BF16
    | 15: T T1 T1 T2 T2 -> T T2 T2; T T1 T2: FLOATS BF16
];

pub(crate) const ROWS: &[Row] = &[onnx("BatchNormalization", 1, TYPES, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    // Before opset 14, more than one listed output means training, whether anything reads the others or not.
    let several = def.listed.iter().skip(1).any(|&listed| listed);
    let training = if def.opset < 14 { several } else { def.attributes.flag("training_mode", false)? };
    if def.opset < 9 && !def.attributes.flag("spatial", true)? {
        refuse!("spatial=0 is not supported; flatten the input to (N, C*D1*D2...) before the node");
    }
    if def.output_count() > 1 && (!training || def.opset < 14) {
        refuse!(
            "outputs but the first are supported in training from opset 14 on only; remove what uses them"
        );
    }
    let (epsilon, momentum) =
        (def.attributes.float_or("epsilon", 1e-5)?, def.attributes.float_or("momentum", 0.9)?);
    Ok(BatchNorm { epsilon, momentum, training }.into())
}

impl BatchNorm {
    /// The epsilon, if the node normalises by given statistics.
    pub(crate) fn inference_epsilon(&self) -> Option<f32> {
        (!self.training).then_some(self.epsilon)
    }
}

/// The shape with a channel axis: a vector is a batch with one channel.
fn with_channel(shape: &[usize]) -> Vec<usize> {
    if shape.len() == 1 { vec![shape[0], 1] } else { shape.to_vec() }
}

/// All axes but the channel axis.
fn statistics_axes(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).filter(|&axis| axis != 1).collect()
}

/// The shape from which a vector over channels broadcasts to `shape`.
fn by_channel(shape: &[usize]) -> Vec<usize> {
    let mut own = vec![1; shape.len() - 1];
    own[0] = shape[1];
    own
}

impl Operator for BatchNorm {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if x.shape.is_empty() {
            refuse!("needs a batch axis, and the rank is 0");
        }
        let channels = with_channel(&x.shape)[1];
        for i in 1..5 {
            let given = required(inputs, i)?;
            if given.shape != [channels] || !given.dtype.is_float() {
                refuse!("input {i} is {given}, and there are {channels} channels");
            }
        }
        let mut facts = vec![Fact::new(x.dtype, x.shape.clone())];
        if self.training {
            let dtype = required(inputs, 3)?.dtype;
            facts.extend([Fact::new(dtype, vec![channels]), Fact::new(dtype, vec![channels])]);
        }
        Ok(facts)
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let of_channels = [vec![InputShare::along(1)], vec![InputShare::along(0); 4]].concat();
        match axis {
            _ if self.training => None,
            1 => Some(Division::of(*outputs.first()?.shape.get(1)?, of_channels)),
            _ => Division::of_first(axis, inputs, outputs.first()?, |_| true),
        }
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, given) = (required(inputs, 0)?, |i: usize| required(inputs, i)?.floats());
        let (scale, bias, means, variances) = (given(1)?, given(2)?, given(3)?, given(4)?);
        let shape = with_channel(&x.shape);
        let data = x.floats()?;
        let mut y = vec![0.0; data.len()];
        let (mut running_means, mut running_variances) = (Vec::new(), Vec::new());
        for (c, row) in rows(&shape, &statistics_axes(&shape)).enumerate() {
            let (mut mean, mut variance) = (means[c], variances[c]);
            if self.training {
                mean = row.iter().map(|&i| data[i]).sum::<f64>() / row.len() as f64;
                variance = row.iter().map(|&i| (data[i] - mean).powi(2)).sum::<f64>() / row.len() as f64;
            }
            for i in row {
                y[i] = (data[i] - mean) / (variance + f64::from(self.epsilon)).sqrt() * scale[c] + bias[c];
            }
            let momentum = f64::from(self.momentum);
            running_means.push(means[c] * momentum + mean * (1.0 - momentum));
            running_variances.push(variances[c] * momentum + variance * (1.0 - momentum));
        }
        let mut results = vec![Array::float(x.dtype, &x.shape, y)];
        if self.training {
            let dtype = required(inputs, 3)?.dtype;
            results.push(Array::float(dtype, &[means.len()], running_means));
            results.push(Array::float(dtype, &[means.len()], running_variances));
        }
        Ok(results)
    }

    fn pairing(&self, i: usize, inputs: &[Option<&Fact>]) -> Result<Option<Pairing>, Why> {
        let shape = with_channel(&required(inputs, 0)?.shape);
        Ok((i > 0).then(|| Pairing { operand: by_channel(&shape), result: shape }))
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], dtype: DType) -> Option<Reg> {
        // Some of them may be float64 where others are float32.
        let double = inputs.iter().flatten().any(|&input| e.scalar(input) == Scalar::F64);
        let float = if double { Scalar::F64 } else { Scalar::F32 };
        let mut input = |i: usize| required(inputs, i).ok().map(|input| e.convert(input, float));
        let (x, scale, bias, mean, variance) = (input(0)?, input(1)?, input(2)?, input(3)?, input(4)?);
        if self.training {
            return None;
        }
        let centered = e.sub(x, mean);
        let deviation = self.deviation(e, variance);
        let factor = e.two(Fn2::Div, scale, deviation);
        let scaled = e.mul(centered, factor);
        let sum = e.add(scaled, bias);
        Some(e.convert(sum, Scalar::float_for(dtype)))
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let shape = with_channel(&cx.fact(0)?.shape);
        let dtypes = [cx.fact(0)?.dtype, cx.fact(1)?.dtype, cx.fact(2)?.dtype, cx.fact(3)?.dtype];
        // Some of them may be float64 where others are float32.
        let float = if dtypes.contains(&DType::F64) { Scalar::F64 } else { Scalar::F32 };
        let [own, ..] = dtypes.map(Scalar::float_for);
        let mut rows = Rows::new(cx, 0, &shape, &statistics_axes(&shape))?;
        let length = rows.length() as f32;
        let mean = |e: &mut Builder, sum: Reg| {
            let length = e.shape_float(sum, length.into());
            e.two(Fn2::Div, sum, length)
        };
        let x = |e: &mut Builder| {
            let x = element(e, own);
            e.convert(x, float)
        };
        let centered = |e: &mut Builder| {
            let (x, mean) = (x(e), value(e, 0, float));
            e.sub(x, mean)
        };
        rows.fold(Combine::Sum, x, mean);
        let square = |e: &mut Builder| {
            let difference = centered(e);
            e.mul(difference, difference)
        };
        rows.fold(Combine::Sum, square, mean);
        let by_channel = by_channel(&shape);
        let side = |rows: &mut Rows, cx: &mut Lower, i: usize| rows.side(cx, i, &by_channel, Each::Row);
        let load = |e: &mut Builder, side, i: usize| {
            let value = e.load(side, Scalar::float_for(dtypes[i]));
            e.convert(value, float)
        };
        let (scale, bias) = (side(&mut rows, cx, 1)?, side(&mut rows, cx, 2)?);
        let output = cx.output(0)?;
        rows.element_result(output, |e| {
            let (scale, bias, variance) = (load(e, scale, 1), load(e, bias, 2), value(e, 1, float));
            let (centered, deviation) = (centered(e), self.deviation(e, variance));
            let factor = e.two(Fn2::Div, scale, deviation);
            let scaled = e.mul(centered, factor);
            let sum = e.add(scaled, bias);
            e.convert(sum, own)
        });
        for k in 0..2 {
            if let Some(fact) = cx.optional_out(k + 1) {
                let running = side(&mut rows, cx, k + 3)?;
                let output = cx.output(k + 1)?;
                rows.row_result(output, |e| {
                    let (old, new) = (load(e, running, 3), value(e, k, float));
                    let momentum = f64::from(self.momentum);
                    let (momentum, rest) = (e.float(old, momentum), e.float(old, 1.0 - momentum));
                    let (old, new) = (e.mul(old, momentum), e.mul(new, rest));
                    let sum = e.add(old, new);
                    let sum = e.convert(sum, Scalar::float_for(fact.dtype));
                    e.narrow(sum, fact.dtype)
                });
            }
        }
        rows.emit(cx)
    }
}

impl BatchNorm {
    fn deviation(&self, e: &mut Builder, variance: Reg) -> Reg {
        let epsilon = e.float(variance, self.epsilon.into());
        let sum = e.add(variance, epsilon);
        e.one(Fn1::Sqrt, sum)
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str, shape: &[usize], channels: usize| {
        Case::new("BatchNormalization", name)
            .tolerance(Tolerance::ACCUMULATION)
            .input(case::uniform(shape, -2.0, 3.0))
            .input(case::uniform(&[channels], 0.5, 1.5))
            .input(case::random(&[channels]))
            .input(case::random(&[channels]))
            .input(case::uniform(&[channels], 0.2, 2.0))
    };
    let half = |shape: &[usize]| case::converted(&case::uniform(shape, 0.5, 2.0), DType::F16);
    vec![
        new("image", &[2, 3, 4, 5], 3),
        new("matrix", &[4, 7], 7).opset(9),
        new("sequence", &[2, 3, 5], 3).float("epsilon", 0.1),
        new("volume", &[1, 2, 3, 4, 2], 2),
        new("vector", &[6], 1),
        new("empty", &[0, 3, 2], 3),
        Case::new("BatchNormalization", "float16")
            .input(half(&[2, 3, 4]))
            .input(half(&[3]))
            .input(half(&[3]))
            .input(half(&[3]))
            .input(half(&[3])),
        new("training", &[2, 3, 4, 5], 3).int("training_mode", 1).float("momentum", 0.7).outputs(3),
        new("training_large", &[2, 2, 90, 80], 2).int("training_mode", 1).outputs(3),
        new("training_one_output", &[2, 3, 4], 3).int("training_mode", 1),
    ]
}
