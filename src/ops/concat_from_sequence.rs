//! ConcatFromSequence: the tensors of a sequence one after the other along an axis, or along a new one.
//!
//! History: 11.

use std::sync::Arc;

use super::host::{element_kind, sequence};
use super::mover::Mover;
use super::{
    Array, HostOperator, HostValue, Kind, NodeDef, Op, Operator, Row, Why, Work, axes, onnx, product, refuse,
    types,
};
use crate::facts::{Fact, check_sizes};

/// ConcatFromSequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConcatFromSequence {
    axis: i64,
    new_axis: bool,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("ConcatFromSequence", 11, types![S -> T; S: CONTAINERS, T: ALL], parse, Vec::new)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let Some(axis) = def.attributes.int("axis")? else { refuse!("attribute 'axis' is required") };
    Ok(ConcatFromSequence { axis, new_axis: def.attributes.flag("new_axis", false)? }.into())
}

impl ConcatFromSequence {
    /// What joins the elements on the device.
    pub(crate) fn mover(&self, elements: &[HostValue]) -> Result<Mover, Why> {
        let (axis, _) = self.result(elements)?;
        Ok(Mover::Joined { count: elements.len(), axis, is_new: self.new_axis })
    }

    /// The axis and the result.
    fn result(&self, elements: &[HostValue]) -> Result<(usize, Fact), Why> {
        let Some(first) = elements.first() else {
            refuse!("the sequence is empty, so that the dtype and the shape of the result are not known")
        };
        let first = first.leaf()?;
        let mut shape = first.shape().to_vec();
        let axis = axes::axis(self.axis, shape.len() + usize::from(self.new_axis))?;
        let mut size = 0usize;
        for element in elements {
            let element = element.leaf()?;
            let (a, b) = (element.shape(), first.shape());
            let beside = |i: usize| !self.new_axis && i == axis;
            let fits = a.len() == b.len() && (0..a.len()).all(|i| beside(i) || a[i] == b[i]);
            if !fits || element.dtype() != first.dtype() {
                let (a_dtype, b_dtype) = (element.dtype(), first.dtype());
                refuse!(
                    "the elements {b_dtype}{b:?} and {a_dtype}{a:?} do not fit together along axis {axis}"
                );
            }
            size = size.saturating_add(if self.new_axis { 1 } else { a[axis] });
        }
        if self.new_axis {
            shape.insert(axis, size);
        } else {
            shape[axis] = size;
        }
        let fact = Fact::new(first.dtype(), shape);
        check_sizes(std::slice::from_ref(&fact))?;
        Ok((axis, fact))
    }
}

impl HostOperator for ConcatFromSequence {
    fn kinds(&self, inputs: &[Option<&Kind>]) -> Vec<Kind> {
        vec![element_kind(inputs.first().copied().flatten())]
    }

    fn apply(&self, inputs: &[Option<&HostValue>]) -> Result<Vec<HostValue>, Why> {
        let elements = sequence(inputs, 0)?;
        let (axis, result) = self.result(elements)?;
        let arrays: Vec<Arc<Array>> = elements.iter().map(HostValue::array).collect::<Result<_, _>>()?;
        let joined = Array::joined(&arrays.iter().map(Arc::as_ref).collect::<Vec<_>>())?;
        // For each slice along the axis: the place of its element in its first row, and the distance of its rows.
        let inner = product(&result.shape[axis + 1..]);
        let mut slices = Vec::with_capacity(result.shape[axis]);
        let mut start = 0;
        for array in &arrays {
            let size = if self.new_axis { 1 } else { array.shape[axis] };
            slices.extend((0..size).map(|i| (start + i * inner, size * inner)));
            start += array.len();
        }
        let source = |i: usize| {
            let (outer, rest) = (i / (slices.len() * inner), i % (slices.len() * inner));
            let (start, row) = slices[rest / inner];
            Some(start + outer * row + rest % inner)
        };
        Ok(vec![joined.gather(&result.shape, source, None).into()])
    }

    fn reads_elements(&self, _: usize) -> bool {
        false
    }

    fn work(&self, inputs: &[Option<&HostValue>]) -> Result<Work, Why> {
        let elements = sequence(inputs, 0)?;
        let (axis, result) = self.result(elements)?;
        let whole = Work::array(result.dtype, &result.shape);
        let slices = result.shape[axis].saturating_add(elements.len());
        Ok((whole + whole + whole).temporary(slices, 2 * size_of::<usize>() + size_of::<HostValue>()))
    }
}

impl Operator for ConcatFromSequence {
    fn host(&self) -> Option<&dyn HostOperator> {
        Some(self)
    }

    fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        refuse!("it takes a sequence")
    }

    fn eval(&self, _: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        refuse!("it takes a sequence")
    }
}
