//! ConstantOfShape: a tensor whose elements are all the same value.
//!
//! History: 9, 20, 21, 23, 24, 25; later versions only add types.

use super::case::{self, Case, Tolerance};
use super::expand::dims;
use super::{
    Array, DType, Kind, NodeDef, Op, Operator, Row, Tensor, Types, Why, onnx, refuse, required, types,
};
use crate::array::Numbers;
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Reg};
use crate::ops::Attr;
use crate::tensor::checked_count;

/// A tensor of this value.
#[derive(Clone, Debug)]
pub(crate) struct ConstantOfShape {
    /// The value, an array of one element.
    pub(crate) value: Array,
}

const TYPES: Types =
    types![int64 -> T2; T2: NUMBERS BOOL FLOAT8@20 BF16@20 INT4@21 F4E2M1@23 F8E8M0@24 INT2@25];

pub(crate) const ROWS: &[Row] = &[onnx("ConstantOfShape", 9, TYPES, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let value = match def.attributes.tensor("value")? {
        Some(tensor) if tensor.len() == 1 => Array::from_tensor(&tensor)?,
        Some(tensor) => refuse!("attribute 'value' has {} elements, and must have one", tensor.len()),
        None => Array::float(DType::F32, &[1], vec![0.0]),
    };
    Ok(ConstantOfShape { value }.into())
}

impl Operator for ConstantOfShape {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        Ok(vec![Fact::new(self.value.dtype, dims(&required(inputs, 0)?.i64s()?)?)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let shape = dims(&required(inputs, 0)?.i64s()?)?;
        if checked_count(&shape).is_none() {
            refuse!("the shape {shape:?} is too large");
        }
        Ok(vec![self.value.gather(&shape, |_| Some(0), None)])
    }

    fn shape_operands(&self) -> &[usize] {
        &[0]
    }

    fn kinds(&self, _: &[Option<&Kind>]) -> Option<Vec<Kind>> {
        Some(vec![Kind::Tensor(Some(self.value.dtype))])
    }

    fn pointwise(&self, e: &mut Builder, _: &[Option<Reg>], out: DType) -> Option<Reg> {
        let scalar = e.register(out)?;
        match &self.value.data {
            Numbers::Float(v) => Some(e.constant(scalar, *v.first()?)),
            Numbers::Int(v) => Some(e.whole(scalar, *v.first()?)),
            Numbers::Text(_) => None,
        }
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, shape: &[i64], value: Option<Tensor>| {
        let case = Case::new("ConstantOfShape", case).tolerance(Tolerance::EXACT).input(case::list(shape));
        value.into_iter().fold(case, |case, value| case.attr("value", Attr::Tensor(value)))
    };
    vec![
        of("default", &[2, 3], None),
        of("float", &[3, 1, 5], Some(case::values(&[1], &[0.25f32]))),
        of("int64", &[7], Some(case::values(&[1], &[-3i64]))),
        of("uint8", &[7], Some(case::values(&[1], &[200u8]))),
        of("bool", &[5], Some(case::bools(&[1], &[true]))),
        of("scalar", &[], Some(case::values(&[1], &[2.0f32]))),
        of("empty", &[2, 0], None),
    ]
}
