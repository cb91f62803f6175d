//! Dropout: in inference the output is the input, and the mask is true everywhere. In training each element is dropped with the
//! probability `ratio`, and the others grow by as much as keeps their mean.
//!
//! History: 1 and 6 (is_test), 7 (inference only), 10 (bool mask), 12 (ratio, training_mode and seed), 13, 22.

use super::case::{self, Case, Tolerance};
use super::random::{self, Draw};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Types, Why, of_elements, onnx, optional, refuse, required,
    types,
};
use crate::budget::Work;
use crate::facts::Fact;
use crate::kernels::expr::{Fn2, Scalar};
use crate::plan::Lower;

/// Dropout.
#[derive(Clone, Debug)]
pub(crate) struct Dropout {
    /// Whether the node has a `training_mode` input.
    may_train: bool,
    /// Whether the mask has the input's type, as it had before opset 10.
    old_mask: bool,
    seed: Option<u64>,
}

const TYPES: Types = types![
    T -> T T; T: FLOATS
    | 10: T T1 bool -> T bool; T: FLOATS BF16@13 FLOAT8@22, T1: FLOATS FLOAT8@22 BF16@22
];

pub(crate) const ROWS: &[Row] = &[onnx("Dropout", 7, TYPES, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let (may_train, old_mask) = (def.opset >= 12 && def.has_input(2), def.opset < 10);
    let seed = if may_train { def.attributes.int("seed")?.map(|seed| seed as u64) } else { None };
    Ok(Dropout { may_train, old_mask, seed }.into())
}

/// The share of elements that training drops, as float32; `None` where none is dropped.
fn dropped(ratio: Option<&Array>, training: Option<&Array>) -> Result<Option<f32>, Why> {
    let trains = training.map(Array::ints).transpose()?.is_some_and(|v| v.first() == Some(&1));
    let ratio = ratio.map(Array::floats).transpose()?.and_then(|v| v.first().copied()).unwrap_or(0.5) as f32;
    if trains && !(0.0..=1.0).contains(&ratio) {
        refuse!("the ratio is {ratio}, and must be from 0 to 1");
    }
    Ok((trains && ratio != 0.0).then_some(ratio))
}

/// By what the elements that are left are multiplied.
fn growth(ratio: f32) -> f32 {
    if ratio < 1.0 { 1.0 / (1.0 - ratio) } else { 0.0 }
}

impl Operator for Dropout {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if self.may_train {
            let known = |i: usize| optional(inputs, i).map(Fact::array).transpose();
            dropped(known(1)?, known(2)?)?;
        }
        let mask = if self.old_mask { x.dtype } else { DType::Bool };
        Ok(vec![Fact::new(x.dtype, x.shape.clone()), Fact::new(mask, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let training = optional(inputs, 2).filter(|_| self.may_train);
        let Some(ratio) = dropped(optional(inputs, 1), training)? else {
            let mask = match self.old_mask {
                true => Array::float(x.dtype, &x.shape, vec![1.0; x.len()]),
                false => Array::bools(&x.shape, vec![true; x.len()]),
            };
            return Ok(vec![x.clone(), mask]);
        };
        let mut from = Draw::new(self.seed);
        let kept: Vec<bool> = (0..x.len()).map(|_| from.single() >= ratio).collect();
        let growth = f64::from(growth(ratio));
        let left = x.floats()?.iter().zip(&kept).map(|(x, kept)| if *kept { x * growth } else { 0.0 });
        Ok(vec![Array::float(x.dtype, &x.shape, left.collect()), Array::bools(&x.shape, kept)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        Ok(of_elements(inputs, outputs).times(2))
    }

    fn shape_operands(&self) -> &[usize] {
        if self.may_train { &[1, 2] } else { &[] }
    }

    fn reads_data(&self, i: usize) -> bool {
        i == 0
    }

    fn draws(&self) -> bool {
        self.may_train && self.seed.is_none()
    }

    fn passes_input_on(&self) -> bool {
        !self.may_train
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let known = |i: usize| cx.optional_fact(i).map(Fact::array).transpose();
        let share = if self.may_train { dropped(known(1)?, known(2)?)? } else { None };
        if let Some(ratio) = share {
            return self.train(cx, ratio);
        }
        if let Some(mask) = cx.optional_out(1) {
            let Some(scalar) = Scalar::of(mask.dtype) else { refuse!("the device has no {}", mask.dtype) };
            cx.elementwise(1, &[], |e, _| e.constant(scalar, 1.0))?;
        }
        let count = cx.fact(0)?.count();
        super::strides::gather(cx, 0, 0, &[(count, 1)])
    }
}

impl Dropout {
    fn train(&self, cx: &mut Lower, ratio: f32) -> Result<(), Why> {
        cx.check_dtypes()?;
        let (x, shape) = (cx.input(0)?, &cx.fact(0)?.shape);
        let drawn = random::uniform(cx, self.seed, shape)?;
        let (least, growth) = (f64::from(ratio), f64::from(growth(ratio)));
        if cx.optional_out(0).is_some() {
            cx.elementwise(0, &[(x, shape), (drawn, shape)], |e, operands| {
                let (least, zero) = (e.constant(Scalar::F32, least), e.float(operands[0], 0.0));
                let kept = e.two(Fn2::GreaterOrEqual, operands[1], least);
                let growth = e.float(operands[0], growth);
                let left = e.two(Fn2::Mul, operands[0], growth);
                e.select(kept, left, zero)
            })?;
        }
        if cx.optional_out(1).is_some() {
            cx.elementwise(1, &[(drawn, shape)], |e, operands| {
                let least = e.constant(Scalar::F32, least);
                e.two(Fn2::GreaterOrEqual, operands[0], least)
            })?;
        }
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, shape: &[usize]| {
        Case::new("Dropout", case).tolerance(Tolerance::EXACT).input(case::random(shape)).outputs(2)
    };
    let ratio = |r: f32| case::values(&[], &[r]);
    let training = |on: bool| case::bools(&[], &[on]);
    vec![
        of("inference", &[3, 5]),
        of("without_mask", &[3, 5]).outputs(1),
        of("ratio", &[3]).input(ratio(0.7)),
        of("not_training", &[3]).input(ratio(0.7)).input(training(false)),
        of("training_drops_nothing", &[3]).input(ratio(0.0)).input(training(true)),
        of("training", &[3, 70]).int("seed", 5).input(ratio(0.25)).input(training(true)),
        of("training_drops_all", &[3]).input(ratio(1.0)).input(training(true)),
        of("opset7", &[3, 5]).opset(7).float("ratio", 0.3),
        of("empty", &[0, 5]),
        of("scalar", &[]),
    ]
}
