//! NonZero: the coordinates of the elements that are not zero.
//!
//! Their number depends on the data. Planning computes it where it knows the data. A device counts the chosen elements up to each
//! place (of `[0, 7, 0, 5]`: `[0, 1, 1, 2]`), writes the places of the chosen to where the counts say (`[1, 3, ...]`, in a list
//! with a place for each element and one for those that are not chosen), and takes as many as the last count says.
//!
//! History: 9, 13.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{
    Array, Attr, DType, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, onnx, refuse, required,
    types,
};
use crate::array::{Numbers, unravel};
use crate::facts::Fact;
use crate::graph::ValueId;

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

/// The elements of a tensor that are not 0.
pub(crate) struct Chosen {
    /// Their places among all elements, int32 in ascending order.
    pub(crate) places: ValueId,
    /// Their number, as a list of one int64.
    pub(crate) total: ValueId,
    /// For each element of the flat tensor, how many are chosen up to it, with itself: int32.
    pub(crate) counts: ValueId,
}

impl Body<'_> {
    pub(crate) fn flat(&mut self, x: ValueId) -> Result<ValueId, Why> {
        self.reshaped(x, &[-1])
    }

    pub(crate) fn chosen(&mut self, x: ValueId) -> Result<Chosen, Why> {
        let flat = self.flat(x)?;
        let is_chosen = self.cast(flat, DType::Bool)?;
        let flags = self.cast(is_chosen, DType::I32)?;
        let (axis, one, zero) = (self.scalar(0i64), self.scalar(1i32), self.scalar(0i32));
        let counts = self.node("CumSum", &[flags, axis])?;
        let total = self.with("ReduceSum", &[("keepdims", Attr::Int(1))], &[flags])?;
        let total = self.cast(total, DType::I64)?;
        let size = self.node("Shape", &[flat])?;
        let last = self.cast(size, DType::I32)?;
        let last = self.node("Squeeze", &[last])?;
        // A place for each element, and one for all that are not chosen.
        let next = self.list(&[1]);
        let room = self.node("Add", &[size, next])?;
        let empty = Attr::Tensor(case::values(&[1], &[0i32]));
        let list = self.with("ConstantOfShape", &[("value", empty)], &[room])?;
        let before = self.node("Sub", &[counts, one])?;
        let targets = self.node("Where", &[is_chosen, before, last])?;
        let places = self.node("Range", &[zero, last, one])?;
        let list = self.with("ScatterElements", &[("axis", Attr::Int(0))], &[list, targets, places])?;
        let places = self.first(list, total)?;
        Ok(Chosen { places, total, counts })
    }

    /// The first elements of a list; their number is a list of one int64.
    pub(crate) fn first(&mut self, list: ValueId, count: ValueId) -> Result<ValueId, Why> {
        let begin = self.list(&[0]);
        self.node("Slice", &[list, begin, count, begin])
    }

    /// The coordinates in `x` of each of these places, int32, one row for each axis.
    pub(crate) fn coordinates(&mut self, x: ValueId, places: ValueId) -> Result<ValueId, Why> {
        let (axis, second) = (self.scalar(0i64), self.list(&[1]));
        let sizes = self.node("Shape", &[x])?;
        let inner = [("exclusive", Attr::Int(1)), ("reverse", Attr::Int(1))];
        let strides = self.with("CumProd", &inner, &[sizes, axis])?;
        let mut column = |list: ValueId| {
            let list = self.cast(list, DType::I32)?;
            self.node("Unsqueeze", &[list, second])
        };
        let (sizes, strides) = (column(sizes)?, column(strides)?);
        let lines = self.node("Div", &[places, strides])?;
        self.node("Mod", &[lines, sizes])
    }
}

impl Operator for NonZero {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        known_facts(self, inputs)
    }

    fn shapes_depend_on_data(&self) -> bool {
        true
    }

    fn counted(&self) -> &[usize] {
        &[0]
    }

    fn spelled(&self, body: &mut Body) -> Result<Vec<ValueId>, Why> {
        let x = body.input(0)?;
        let chosen = body.chosen(x)?;
        let coordinates = body.coordinates(x, chosen.places)?;
        Ok(vec![body.cast(coordinates, DType::I64)?])
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
