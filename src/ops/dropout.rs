//! Dropout as in inference: the output is the input, and the mask is true everywhere.
//!
//! History: 1 and 6 (is_test), 7 (inference only), 10 (bool mask), 12 (ratio and training_mode are inputs), 13, 22.

use super::case::{self, Case, Tolerance};
use super::{Array, DType, NodeDef, Op, Operator, Row, Types, Why, onnx, optional, refuse, required, types};
use crate::array::Numbers;
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::plan::Lower;

/// Dropout that drops nothing.
#[derive(Clone, Debug)]
pub(crate) struct Dropout {
    /// Whether the node has a `training_mode` input, which must be false, unless the ratio is 0.
    may_train: bool,
    /// Whether the mask has the input's type, as it had before opset 10.
    old_mask: bool,
}

const TYPES: Types = types![
    T -> T T; T: FLOATS
    | 10: T T1 bool -> T bool; T: FLOATS BF16@13 FLOAT8@22, T1: FLOATS FLOAT8@22 BF16@22
];

pub(crate) const ROWS: &[Row] = &[onnx("Dropout", 7, TYPES, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Dropout { may_train: def.opset >= 12 && def.has_input(2), old_mask: def.opset < 10 }.into())
}

impl Dropout {
    fn check(&self, ratio: Option<&Array>, training: Option<&Array>) -> Result<(), Why> {
        let trains = training.map(|array| array.ints()).transpose()?.is_some_and(|v| v.first() == Some(&1));
        let drops =
            ratio.is_none_or(|array| !matches!(&array.data, Numbers::Float(v) if v.first() == Some(&0.0)));
        if trains && drops {
            refuse!("training_mode drops elements at random; set it to false for inference");
        }
        Ok(())
    }
}

impl Operator for Dropout {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if self.may_train {
            let known = |i: usize| optional(inputs, i).map(|fact| fact.array()).transpose();
            self.check(known(1)?, known(2)?)?;
        }
        let mask = if self.old_mask { x.dtype } else { DType::Bool };
        Ok(vec![Fact::new(x.dtype, x.shape.clone()), Fact::new(mask, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        if self.may_train {
            self.check(optional(inputs, 1), optional(inputs, 2))?;
        }
        let mask = match self.old_mask {
            true => Array::float(x.dtype, &x.shape, vec![1.0; x.len()]),
            false => Array::bools(&x.shape, vec![true; x.len()]),
        };
        Ok(vec![x.clone(), mask])
    }

    fn shape_operands(&self) -> &[usize] {
        if self.may_train { &[1, 2] } else { &[] }
    }

    fn reads_data(&self, i: usize) -> bool {
        i == 0
    }

    fn passes_input_on(&self) -> bool {
        !self.may_train
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        if let Some(mask) = cx.optional_out(1) {
            let Some(scalar) = Scalar::of(mask.dtype) else { refuse!("the device has no {}", mask.dtype) };
            cx.elementwise(1, &[], |e, _| e.constant(scalar, 1.0))?;
        }
        let count = cx.fact(0)?.count();
        super::strides::gather(cx, 0, 0, &[(count, 1)])
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
        of("opset7", &[3, 5]).opset(7).float("ratio", 0.3),
        of("empty", &[0, 5]),
        of("scalar", &[]),
    ]
}
