//! NonZero: the coordinates of the elements that are not zero. Their number depends on the data: the reference computes it,
//! and planning does where it knows the data.
//!
//! History: 9, 13.

use super::case::{self, Case, Tolerance};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, onnx, refuse, required, types,
};
use crate::array::{Numbers, unravel};
use crate::facts::Fact;

/// NonZero.
#[derive(Clone, Debug)]
pub(crate) struct NonZero;

const TYPES: Types = types![T -> int64; T: ALL BF16@13];

pub(crate) const ROWS: &[Row] = &[onnx("NonZero", 9, TYPES, |_: &NodeDef| Ok(Op::from(NonZero)), cases)];

/// The facts of outputs whose shapes depend on data, which are computed with `eval` from inputs that planning knows.
pub(crate) fn known_facts(operator: &impl Operator, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
    if inputs.iter().flatten().any(|fact| fact.value.is_none()) {
        refuse!("the output's shape depends on data that only a run knows");
    }
    let arrays: Vec<Option<&Array>> =
        inputs.iter().map(|fact| fact.and_then(|fact| fact.array().ok())).collect();
    let outputs = operator.eval(&arrays)?;
    Ok(outputs.iter().map(|array| Fact::new(array.dtype, array.shape.clone())).collect())
}

impl Operator for NonZero {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        known_facts(self, inputs)
    }

    fn shapes_depend_on_data(&self) -> bool {
        true
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let set = |i: &usize| match &x.data {
            Numbers::Float(v) => v[*i] != 0.0,
            Numbers::Int(v) => v[*i] != 0,
            Numbers::Text(v) => !v[*i].is_empty(),
        };
        let found: Vec<Vec<usize>> = (0..x.len()).filter(set).map(|i| unravel(i, &x.shape)).collect();
        let rank = x.shape.len();
        let values = (0..rank).flat_map(|d| found.iter().map(move |at| at[d] as i128)).collect();
        Ok(vec![Array::int(DType::I64, &[rank, found.len()], values)])
    }

    fn work(&self, inputs: &[Option<&Fact>], _: &[Fact]) -> Result<Work, Why> {
        let x = required(inputs, 0)?;
        let places = x.rank().max(4).saturating_mul(size_of::<usize>()) + size_of::<Vec<usize>>();
        let found = Work::array(DType::I64, &[&x.shape[..], &[x.rank()]].concat());
        Ok(of_elements(inputs, &[]) + found + Work::default().temporary(x.count(), places))
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("NonZero", name).tolerance(Tolerance::EXACT);
    vec![
        new("matrix").constant(case::values(&[2, 3], &[1.0f32, 0.0, -2.0, 0.0, f32::NAN, -0.0])),
        new("bool").constant(case::bools(&[4], &[true, false, false, true])),
        new("scalar").constant(case::values(&[], &[3i64])),
        new("nothing").constant(case::values(&[3], &[0i32, 0, 0])),
    ]
}
