//! SequenceConstruct, SequenceEmpty, SequenceAt, SequenceInsert, SequenceErase and SequenceLength: lists of tensors. They move
//! tensors, and read no elements but those of positions.
//!
//! History: 11. A negative position counts from the end.

use super::host::{element_kind, integer, of_tensors, sequence};
use super::{
    Array, DType, Datum, HostOperator, HostValue, Kind, NodeDef, Op, Operator, Row, Types, Why, onnx, refuse,
    required, types,
};
use crate::facts::Fact;
use crate::heap;

/// An operator on a sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sequence {
    /// A sequence of the inputs.
    Construct,
    /// A sequence without elements, of which this is the dtype.
    Empty(DType),
    /// The element of input 0 at the position that is input 1.
    At,
    /// Input 0 with input 1 before the position that is input 2, or at the end.
    Insert,
    /// Input 0 without the element at the position that is input 1, or without its last.
    Erase,
    /// The number of elements.
    Length,
}

const OF_SEQUENCE: Types = types![S I -> S; S: CONTAINERS, I: INDICES];

pub(crate) const ROWS: &[Row] = &[
    onnx("SequenceConstruct", 11, types![[T] -> S; S: CONTAINERS, T: ALL], parse, Vec::new),
    onnx("SequenceEmpty", 11, types![-> S; S: CONTAINERS], parse, Vec::new),
    onnx("SequenceAt", 11, types![S I -> T; S: CONTAINERS, I: INDICES, T: ALL], parse, Vec::new),
    onnx("SequenceInsert", 11, types![S T I -> S; S: CONTAINERS, T: ALL, I: INDICES], parse, Vec::new),
    onnx("SequenceErase", 11, OF_SEQUENCE, parse, Vec::new),
    onnx("SequenceLength", 11, types![S -> int64; S: CONTAINERS], parse, Vec::new),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let operator = match def.op_type {
        "SequenceConstruct" => Sequence::Construct,
        "SequenceEmpty" => {
            let number = def.attributes.int_or("dtype", i64::from(DType::F32.onnx()))?;
            let dtype = i32::try_from(number).ok().and_then(DType::from_onnx);
            match dtype {
                Some(dtype) => Sequence::Empty(dtype),
                None => refuse!("attribute 'dtype' is {number}, which is no data type"),
            }
        }
        "SequenceAt" => Sequence::At,
        "SequenceInsert" => Sequence::Insert,
        "SequenceErase" => Sequence::Erase,
        _ => Sequence::Length,
    };
    Ok(operator.into())
}

/// The place that a position means among `count`, of which negative ones count from the end.
fn place(position: i64, count: usize, what: &str) -> Result<usize, Why> {
    let at = if position < 0 { position.checked_add_unsigned(count as u64) } else { Some(position) };
    match at.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < count) {
        Some(at) => Ok(at),
        None => refuse!("position {position} is outside of the {count} {what}"),
    }
}

/// Refuses an element of another dtype than the others, and containers.
fn check_element(element: &HostValue, others: &[HostValue]) -> Result<(), Why> {
    let dtype = element.leaf()?.dtype();
    match others.first().and_then(Datum::tensor) {
        Some(first) if first.dtype() != dtype => {
            refuse!("an element is {dtype}, and the others are {}", first.dtype())
        }
        _ => Ok(()),
    }
}

/// A copy of some elements, with room for one more.
fn copied<'a>(elements: impl Iterator<Item = &'a HostValue>, count: usize) -> Result<Vec<HostValue>, Why> {
    let mut all = heap::reserved("a sequence", count + 1)?;
    all.extend(elements.cloned());
    Ok(all)
}

impl HostOperator for Sequence {
    fn kinds(&self, inputs: &[Option<&Kind>]) -> Vec<Kind> {
        let input = |i: usize| inputs.get(i).copied().flatten();
        vec![match self {
            Sequence::Construct => input(0).cloned().unwrap_or(Kind::Tensor(None)).sequence_of(),
            Sequence::Empty(dtype) => Kind::Tensor(Some(*dtype)).sequence_of(),
            Sequence::At => element_kind(input(0)),
            Sequence::Insert => match element_kind(input(0)) {
                Kind::Tensor(None) => input(1).cloned().unwrap_or(Kind::Tensor(None)).sequence_of(),
                known => known.sequence_of(),
            },
            Sequence::Erase => element_kind(input(0)).sequence_of(),
            Sequence::Length => Kind::Tensor(Some(DType::I64)),
        }]
    }

    fn apply(&self, inputs: &[Option<&HostValue>]) -> Result<Vec<HostValue>, Why> {
        let elements = || sequence(inputs, 0);
        Ok(vec![match self {
            Sequence::Construct => {
                let mut all: Vec<HostValue> = heap::reserved("a sequence", inputs.len())?;
                for i in 0..inputs.len() {
                    let element = required(inputs, i)?;
                    check_element(element, &all)?;
                    all.push(element.clone());
                }
                all.into()
            }
            Sequence::Empty(_) => Vec::new().into(),
            Sequence::At => {
                let position = integer(inputs, 1)?.unwrap_or(0);
                elements()?[place(position, elements()?.len(), "elements")?].clone()
            }
            Sequence::Insert => {
                let (elements, new) = (elements()?, required(inputs, 1)?);
                check_element(new, elements)?;
                let count = elements.len();
                let at = match integer(inputs, 2)? {
                    None => count,
                    Some(position) if position < 0 => place(position, count, "elements")?,
                    Some(position) => place(position, count + 1, "places before and after elements")?,
                };
                let mut all = copied(elements.iter(), count)?;
                all.insert(at, new.clone());
                all.into()
            }
            Sequence::Erase => {
                let elements = elements()?;
                let at = place(integer(inputs, 1)?.unwrap_or(-1), elements.len(), "elements")?;
                let others = elements.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, each)| each);
                copied(others, elements.len())?.into()
            }
            Sequence::Length => {
                let length = i128::try_from(elements()?.len()).unwrap_or(i128::MAX);
                Array::int(DType::I64, &[], vec![length]).into()
            }
        }])
    }

    fn reads_elements(&self, i: usize) -> bool {
        match self {
            Sequence::At | Sequence::Erase => i == 1,
            Sequence::Insert => i == 2,
            _ => false,
        }
    }

    fn work(&self, inputs: &[Option<&HostValue>]) -> Result<super::Work, Why> {
        Ok(match self {
            Sequence::At | Sequence::Length => super::Work::default(),
            _ => of_tensors(inputs),
        })
    }
}

impl Operator for Sequence {
    fn host(&self) -> Option<&dyn HostOperator> {
        Some(self)
    }

    fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        refuse!("it works on sequences")
    }

    fn eval(&self, _: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        refuse!("it works on sequences")
    }
}
