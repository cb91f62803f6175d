//! NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: the loss of each sample, for its labelled class.
//!
//! History: both 12, 13 (bfloat16; shapes specified more exactly).

use super::case::{self, Case, Tolerance};
use super::rows::{Rows, element, plain, position, value};
use super::{Array, NodeDef, Op, Operator, Row, Why, onnx, optional, refuse, required, types};
use crate::array::rows;
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg, Scalar};
use crate::kernels::reduce::{Combine, Each};
use crate::plan::{Lower, TensorId};

/// One of the losses.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    /// Whether the input holds scores: output 1 is then the logarithm of their softmax.
    softmax: bool,
    reduction: LossReduction,
    ignored: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum LossReduction {
    None,
    Sum,
    Mean,
}

pub(crate) const ROWS: &[Row] = &[
    onnx(
        "NegativeLogLikelihoodLoss",
        12,
        types![T Tind T -> T; T: FLOATS BF16@22, Tind: INDICES],
        parse,
        || cases("NegativeLogLikelihoodLoss"),
    ),
    onnx(
        "SoftmaxCrossEntropyLoss",
        12,
        types![T Tind T -> T T; T: FLOATS BF16@13, Tind: INDICES],
        parse,
        || cases("SoftmaxCrossEntropyLoss"),
    ),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let reduction = match def.attributes.string_or("reduction", "mean")?.as_str() {
        "none" => LossReduction::None,
        "sum" => LossReduction::Sum,
        "mean" => LossReduction::Mean,
        other => refuse!("reduction '{other}' is none of none, sum, mean"),
    };
    let ignored = def.attributes.int("ignore_index")?;
    Ok(Loss { softmax: def.op_type == "SoftmaxCrossEntropyLoss", reduction, ignored }.into())
}

/// The shape with size 1 on the axis of classes.
fn samples(shape: &[usize]) -> Vec<usize> {
    super::reduce::reduced_shape(shape, &[1], true)
}

impl Operator for Loss {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, labels) = (required(inputs, 0)?, required(inputs, 1)?);
        if x.rank() < 2 || !x.dtype.is_float() {
            refuse!("expected floats with a batch and a class axis, got {x}");
        }
        let shape = super::reduce::reduced_shape(&x.shape, &[1], false);
        if labels.shape != shape || !labels.dtype.is_int() {
            refuse!("labels are {labels}, and there are {shape:?} samples");
        }
        if optional(inputs, 2).is_some_and(|weights| weights.shape != [x.shape[1]]) {
            refuse!("there is not one weight for each of the {} classes", x.shape[1]);
        }
        let shape = if self.reduction == LossReduction::None { shape } else { vec![] };
        Ok(vec![Fact::new(x.dtype, shape), Fact::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, labels) = (required(inputs, 0)?, required(inputs, 1)?.i64s()?);
        let weights = optional(inputs, 2).map(|weights| weights.floats()).transpose()?;
        let mut logs = x.floats()?.to_vec();
        let (mut losses, mut total) = (Vec::new(), 0.0);
        for (row, label) in rows(&x.shape, &[1]).zip(labels) {
            if self.softmax {
                let max = row.iter().map(|&i| logs[i]).fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.iter().map(|&i| (logs[i] - max).exp()).sum();
                row.iter().for_each(|&i| logs[i] -= max + sum.ln());
            }
            let class = usize::try_from(label).ok().filter(|_| Some(label) != self.ignored);
            let weight = match class {
                None if Some(label) == self.ignored => 0.0,
                Some(class) if class < row.len() => weights.map_or(1.0, |weights| weights[class]),
                _ => refuse!("label {label} is none of the {} classes", row.len()),
            };
            losses.push(class.map_or(0.0, |class| -logs[row[class]] * weight));
            total += weight;
        }
        let sum = losses.iter().sum::<f64>() + 0.0;
        let loss = match self.reduction {
            LossReduction::None => {
                Array::float(x.dtype, &super::reduce::reduced_shape(&x.shape, &[1], false), losses)
            }
            LossReduction::Sum => Array::float(x.dtype, &[], vec![sum]),
            LossReduction::Mean => Array::float(x.dtype, &[], vec![sum / total]),
        };
        Ok(vec![loss, Array::float(x.dtype, &x.shape, logs)])
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let x = cx.fact(0)?;
        let float = Scalar::float_for(x.dtype);
        let mut logs = cx.input(0)?;
        if self.softmax {
            logs = log_softmax(cx, logs, x)?;
        }
        let mut rows = Rows::of(cx, logs, &x.shape, &[1]);
        let kept = samples(&x.shape);
        let ignored = self.ignored.filter(|&label| i32::try_from(label).is_ok());
        let labels = cx.within_or(1, 0, x.shape[1] as i64 - 1, ignored)?;
        let labels = rows.side_of(cx, labels, &kept, Each::Row);
        let by_class = [&[x.shape[1]][..], &vec![1; x.rank() - 2]].concat();
        let weights = match cx.optional_fact(2) {
            Some(_) => Some(rows.side(cx, 2, &by_class, Each::Element)?),
            None => None,
        };
        // Only the labelled class of a sample counts, so a sum over the classes picks its value.
        let picked = |e: &mut Builder, value: Reg| {
            let (label, here) = (e.load(labels, Scalar::I32), position(e));
            let mut counts = e.two(Fn2::Equal, label, here);
            if let Some(ignored) = ignored {
                let ignored = e.constant(Scalar::I32, ignored as f64);
                let ignored = e.two(Fn2::Equal, label, ignored);
                let kept = e.one(Fn1::Not, ignored);
                counts = e.two(Fn2::And, counts, kept);
            }
            let zero = e.float(value, 0.0);
            e.select(counts, value, zero)
        };
        let weight = |e: &mut Builder| match weights {
            Some(weights) => e.load(weights, float),
            None => e.constant(float, 1.0),
        };
        let cost = |e: &mut Builder| {
            let (log, weight) = (element(e, float), weight(e));
            let cost = e.one(Fn1::Neg, log);
            let cost = e.mul(cost, weight);
            picked(e, cost)
        };
        rows.fold(Combine::Sum, cost, |_, sum| sum);
        if self.reduction == LossReduction::None {
            let output = cx.output(0)?;
            rows.row_result(output, |e| value(e, 0, float));
            return rows.emit(cx);
        }
        let losses = cx.temporary(float, &kept);
        rows.row_result(losses, |e| value(e, 0, float));
        let mean = self.reduction == LossReduction::Mean;
        let totals = mean.then(|| cx.temporary(float, &kept));
        if let Some(totals) = totals {
            let weight = |e: &mut Builder| {
                let weight = weight(e);
                picked(e, weight)
            };
            rows.fold(Combine::Sum, weight, |_, sum| sum);
            rows.row_result(totals, |e| value(e, 1, float));
        }
        rows.emit_with(cx, &plain(float))?;
        let all: Vec<usize> = (0..kept.len()).collect();
        let mut rows = Rows::of(cx, losses, &kept, &all);
        rows.fold(Combine::Sum, |e| element(e, float), |_, sum| sum);
        if let Some(totals) = totals {
            let totals = rows.side_of(cx, totals, &kept, Each::Element);
            rows.fold(Combine::Sum, |e| e.load(totals, float), |_, sum| sum);
        }
        let output = cx.output(0)?;
        rows.row_result(output, |e| {
            let sum = value(e, 0, float);
            if !mean {
                return sum;
            }
            let total = value(e, 1, float);
            e.two(Fn2::Div, sum, total)
        });
        rows.emit(cx)
    }
}

/// The logarithm of the softmax over the classes: output 1, or a temporary.
fn log_softmax(cx: &mut Lower, scores: TensorId, x: &Fact) -> Result<TensorId, Why> {
    let float = Scalar::float_for(x.dtype);
    let output = if cx.optional_out(1).is_some() { cx.output(1)? } else { cx.temporary(float, &x.shape) };
    let mut rows = Rows::of(cx, scores, &x.shape, &[1]);
    rows.fold(Combine::MaxNumber, |e| element(e, float), |_, max| max);
    let below = |e: &mut Builder| {
        let (x, max) = (element(e, float), value(e, 0, float));
        e.sub(x, max)
    };
    let exp = |e: &mut Builder| {
        let below = below(e);
        e.one(Fn1::Exp, below)
    };
    rows.fold(Combine::Sum, exp, |e, sum| e.one(Fn1::Log, sum));
    rows.element_result(output, |e| {
        let (below, sum) = (below(e), value(e, 1, float));
        let log = e.sub(below, sum);
        e.narrow(log, x.dtype)
    });
    rows.emit_with(cx, &plain(float))?;
    Ok(output)
}

fn cases(name: &'static str) -> Vec<Case> {
    let new = |case: &str, shape: &[usize]| {
        let labels = super::reduce::reduced_shape(shape, &[1], false);
        let new = Case::new(name, case).tolerance(Tolerance::TRANSCENDENTAL);
        new.input(case::uniform(shape, -3.0, -0.1)).input(case::integers(&labels, 0, shape[1] as i64))
    };
    let weights = |classes: usize| case::uniform(&[classes], 0.5, 1.5);
    let mut cases = vec![
        new("mean", &[4, 5]),
        new("sum", &[4, 5]).string("reduction", "sum"),
        new("none", &[4, 5]).string("reduction", "none"),
        new("weights", &[3, 5, 2]).input(weights(5)),
        new("weights_sum", &[3, 5, 2, 2]).string("reduction", "sum").input(weights(5)),
        new("ignored", &[6, 3]).int("ignore_index", 1).input(weights(3)),
        new("ignored_none", &[6, 3, 2]).string("reduction", "none").int("ignore_index", 1),
        new("large", &[2, 3, 90, 100]).input(weights(3)),
        Case::new(name, "int32_labels")
            .tolerance(Tolerance::TRANSCENDENTAL)
            .input(case::uniform(&[3, 2], -3.0, -0.1))
            .input(case::values(&[3], &[1i32, 0, -1]))
            .int("ignore_index", -1),
    ];
    if name == "SoftmaxCrossEntropyLoss" {
        cases.push(new("log_prob", &[4, 5, 3]).outputs(2).input(weights(5)));
    }
    cases
}
