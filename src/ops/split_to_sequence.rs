//! SplitToSequence: the parts of a tensor along an axis, as a sequence.
//!
//! History: 11, 24. Without lengths, or with one length that is a scalar, all parts but the last are of one length.

use super::host::of_tensors;
use super::mover::Mover;
use super::{
    Array, HostOperator, HostValue, Kind, NodeDef, Op, Operator, Row, Why, Work, axes, onnx, product, refuse,
    required, types,
};
use crate::facts::Fact;
use crate::heap;

/// SplitToSequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SplitToSequence {
    axis: i64,
    /// Whether the parts keep the axis. Where lengths are given, they do.
    keepdims: bool,
}

pub(crate) const ROWS: &[Row] = &[onnx(
    "SplitToSequence",
    11,
    types![T I -> S; S: CONTAINERS, T: ALL BF16@24, I: INDICES],
    parse,
    Vec::new,
)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let keepdims = def.attributes.flag("keepdims", true)? || def.has_input(1);
    Ok(SplitToSequence { axis: def.attributes.int_or("axis", 0)?, keepdims }.into())
}

impl SplitToSequence {
    /// What makes the parts on the device; `None` if there are none.
    pub(crate) fn mover(&self, inputs: &[Option<&HostValue>]) -> Result<Option<Mover>, Why> {
        let (axis, lengths) = self.lengths(inputs)?;
        let keeps_axis = self.keepdims;
        Ok((!lengths.is_empty()).then_some(Mover::Parts { axis, lengths, keeps_axis }))
    }

    /// The axis, and the lengths of the parts.
    fn lengths(&self, inputs: &[Option<&HostValue>]) -> Result<(usize, Vec<usize>), Why> {
        let shape = required(inputs, 0)?.leaf()?.shape();
        let axis = axes::axis(self.axis, shape.len())?;
        let size = shape[axis];
        let Some(split) = inputs.get(1).copied().flatten() else { return Ok((axis, equal(size, 1)?)) };
        let split = split.array()?;
        match (&split.i64s()?[..], split.shape.len()) {
            (&[length], 0) => match usize::try_from(length) {
                Ok(length @ 1..) => Ok((axis, equal(size, length)?)),
                _ => refuse!("the length of the parts is {length}, and must be positive"),
            },
            (lengths, 1) => {
                let lengths: Option<Vec<usize>> =
                    lengths.iter().map(|length| usize::try_from(*length).ok()).collect();
                let sum = |all: &[usize]| all.iter().try_fold(0usize, |sum, each| sum.checked_add(*each));
                match lengths.filter(|lengths| sum(lengths) == Some(size)) {
                    Some(lengths) => Ok((axis, lengths)),
                    None => refuse!("the lengths of the parts are not those of an axis of {size}"),
                }
            }
            (_, rank) => refuse!("the lengths have {rank} dimensions, and must have at most 1"),
        }
    }
}

fn equal(size: usize, length: usize) -> Result<Vec<usize>, Why> {
    let count = size.div_ceil(length);
    let mut lengths = heap::reserved("the lengths of parts", count)?;
    lengths.extend((0..count).map(|i| length.min(size - i * length)));
    Ok(lengths)
}

impl HostOperator for SplitToSequence {
    fn kinds(&self, inputs: &[Option<&Kind>]) -> Vec<Kind> {
        vec![inputs.first().copied().flatten().cloned().unwrap_or(Kind::Tensor(None)).sequence_of()]
    }

    fn apply(&self, inputs: &[Option<&HostValue>]) -> Result<Vec<HostValue>, Why> {
        let (axis, lengths) = self.lengths(inputs)?;
        let x = required(inputs, 0)?.array()?;
        let (inner, size) = (product(&x.shape[axis + 1..]), x.shape[axis]);
        let mut parts: Vec<HostValue> = heap::reserved("a sequence", lengths.len())?;
        let mut start = 0;
        for length in lengths {
            let mut shape = x.shape.clone();
            shape[axis] = length;
            let row = (length * inner).max(1);
            let source = |i: usize| Some((i / row * size + start) * inner + i % row);
            let part = x.gather(&shape, source, None);
            shape.remove(axis);
            parts.push(if self.keepdims { part } else { part.reshaped(&shape) }.into());
            start += length;
        }
        Ok(vec![parts.into()])
    }

    fn reads_elements(&self, i: usize) -> bool {
        i == 1
    }

    fn work(&self, inputs: &[Option<&HostValue>]) -> Result<Work, Why> {
        let x = required(inputs, 0)?.leaf()?;
        let size = x.shape().get(axes::axis(self.axis, x.shape().len())?).copied().unwrap_or(0);
        let lengths = match inputs.get(1).copied().flatten() {
            Some(split) => split.leaf()?.shape().iter().product(),
            None => 0,
        };
        // Each part has a shape of its own.
        let each = size_of::<HostValue>() + size_of::<Array>() + 2 * size_of_val(x.shape());
        let whole = Work::array(x.dtype(), x.shape());
        Ok(whole + whole + of_tensors(inputs).temporary(size.max(lengths), each))
    }
}

impl Operator for SplitToSequence {
    fn host(&self) -> Option<&dyn HostOperator> {
        Some(self)
    }

    fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        refuse!("it makes a sequence")
    }

    fn eval(&self, _: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        refuse!("it makes a sequence")
    }
}
