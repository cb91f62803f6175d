//! Where: elements of one of two tensors, as a condition says.
//!
//! History: 9, 16; the later version only adds a type.

use super::broadcast::broadcast;
use super::case::{self, Case, Tolerance};
use super::division::Division;
use super::{
    Array, DType, Op, Operator, Row, Why, Work, of_array, of_elements, onnx, refuse, required, types,
};
use crate::array::{broadcast_index, unravel};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Reg, Scalar};

/// The second input's element where the first input is true, else the third input's.
#[derive(Clone, Debug)]
pub(crate) struct Where;

pub(crate) const ROWS: &[Row] =
    &[onnx("Where", 9, types![bool T T -> T; T: ALL BF16@16], |_| Ok(Op::from(Where)), cases)];

impl Operator for Where {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (condition, yes, no) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        if condition.dtype != DType::Bool || yes.dtype != no.dtype {
            refuse!("the condition must be bool, and the other inputs of one dtype");
        }
        let shape = broadcast([condition.shape.as_slice(), &yes.shape, &no.shape])?;
        Ok(vec![Fact::new(yes.dtype, shape)])
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        Division::of_broadcast(axis, inputs, outputs.first()?)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (condition, yes, no) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        let shape = broadcast([condition.shape.as_slice(), &yes.shape, &no.shape])?;
        let flags = condition.ints()?;
        let source = |i: usize| {
            let at = unravel(i, &shape);
            Some(match flags[broadcast_index(&at, &condition.shape)] {
                0 => yes.len() + broadcast_index(&at, &no.shape),
                _ => broadcast_index(&at, &yes.shape),
            })
        };
        Ok(vec![Array::joined(&[yes, no])?.gather(&shape, source, None)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let joined = inputs.iter().skip(1).flatten().map(|fact| of_array(fact)).sum::<Work>();
        Ok(of_elements(inputs, outputs) + joined)
    }

    fn is_cheap(&self) -> bool {
        true
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], _: DType) -> Option<Reg> {
        let (condition, yes, no) =
            (required(inputs, 0).ok()?, required(inputs, 1).ok()?, required(inputs, 2).ok()?);
        let condition = e.convert(condition, Scalar::Bool);
        Some(e.select(condition, yes, no))
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str| Case::new("Where", case).tolerance(Tolerance::EXACT);
    let flags = || case::bools(&[2, 3], &[true, false, true, false, false, true]);
    let specials = case::values(&[3], &[f32::NAN, f32::INFINITY, -0.0]);
    let (a, b) = (case::bools(&[3], &[true, false, true]), case::bools(&[1], &[false]));
    vec![
        new("same").input(flags()).input(case::random(&[2, 3])).input(case::uniform(&[2, 3], 2.0, 3.0)),
        new("scalar").input(flags()).input(case::random(&[2, 3])).constant(case::values(&[], &[-1e9f32])),
        new("broadcast").input(flags()).input(case::random(&[4, 1, 1])).input(case::random(&[3])),
        new("special").input(flags()).input(specials).input(case::random(&[2, 1])),
        new("int64").input(flags()).input(case::integers(&[3], -9, 9)).input(case::integers(&[2, 1], 10, 20)),
        new("bool").input(flags()).input(a).input(b),
        new("empty").input(case::bools(&[0, 1], &[])).input(case::random(&[1, 3])).input(case::random(&[])),
    ]
}
