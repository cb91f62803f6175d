//! Optional, OptionalGetElement and OptionalHasElement: values that may be there or not.
//!
//! History: 15, 18 (a tensor or a sequence counts as an optional that has it; the input may be left out), 28.

use super::{
    Array, DType, Datum, HostOperator, HostValue, Kind, NodeDef, Op, Operator, Row, Types, Why, Work, onnx,
    refuse, types,
};
use crate::facts::Fact;

/// An operator on an optional.
#[derive(Clone, Debug)]
pub(crate) enum OptionalValue {
    /// An optional with the input, or without a value of this kind.
    Make(Kind),
    /// The value.
    Get,
    /// Whether there is a value.
    Has,
}

const MAKE: Types = types![V -> O; O: CONTAINERS, V: ALL BF16@28 SMALL@28 FLOAT6@28];
const GET: Types = types![O -> V; O: CONTAINERS, V: ALL | 18: O -> V; O: ALL BF16@28 SMALL@28 FLOAT6@28, V: ALL BF16@28 SMALL@28 FLOAT6@28];
const HAS: Types = types![O -> bool; O: CONTAINERS | 18: O -> bool; O: ALL BF16@28 SMALL@28 FLOAT6@28];

pub(crate) const ROWS: &[Row] = &[
    onnx("Optional", 15, MAKE, parse, Vec::new),
    onnx("OptionalGetElement", 15, GET, parse, Vec::new),
    onnx("OptionalHasElement", 15, HAS, parse, Vec::new),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(match def.op_type {
        "Optional" => match def.attributes.kind("type")? {
            Some(kind) => OptionalValue::Make(kind),
            None if def.has_input(0) => OptionalValue::Make(Kind::Tensor(None)),
            None => refuse!("attribute 'type' is required, as there is no input"),
        },
        "OptionalGetElement" => OptionalValue::Get,
        _ => OptionalValue::Has,
    }
    .into())
}

impl HostOperator for OptionalValue {
    fn kinds(&self, inputs: &[Option<&Kind>]) -> Vec<Kind> {
        let input = inputs.first().copied().flatten();
        vec![match (self, input) {
            (OptionalValue::Make(kind), None) => kind.clone().optional(),
            (OptionalValue::Make(_), Some(kind)) => kind.clone().optional(),
            (OptionalValue::Get, Some(Kind::Optional(kind))) => kind.as_ref().clone(),
            (OptionalValue::Get, kind) => kind.cloned().unwrap_or(Kind::Tensor(None)),
            (OptionalValue::Has, _) => Kind::Tensor(Some(DType::Bool)),
        }]
    }

    fn apply(&self, inputs: &[Option<&HostValue>]) -> Result<Vec<HostValue>, Why> {
        let input = inputs.first().copied().flatten();
        Ok(vec![match (self, input) {
            (OptionalValue::Make(_), Some(Datum::Optional(_) | Datum::Map { .. })) => {
                refuse!("its input must be a tensor or a sequence")
            }
            (OptionalValue::Make(_), content) => Datum::Optional(content.map(|value| value.clone().into())),
            (OptionalValue::Get, Some(Datum::Optional(Some(content)))) => content.as_ref().clone(),
            (OptionalValue::Get, None | Some(Datum::Optional(None))) => {
                refuse!("there is no value to get; an OptionalHasElement tells whether there is one")
            }
            (OptionalValue::Get, Some(value)) => value.clone(),
            (OptionalValue::Has, input) => {
                let has = !matches!(input, None | Some(Datum::Optional(None)));
                Array::bools(&[], vec![has]).into()
            }
        }])
    }

    fn reads_elements(&self, _: usize) -> bool {
        false
    }

    fn work(&self, _: &[Option<&HostValue>]) -> Result<Work, Why> {
        Ok(Work::default())
    }
}

impl Operator for OptionalValue {
    fn host(&self) -> Option<&dyn HostOperator> {
        Some(self)
    }

    fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        refuse!("it works on optionals")
    }

    fn eval(&self, _: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        refuse!("it works on optionals")
    }
}
