//! Split: cuts a tensor along an axis. The pieces are views where their elements are contiguous.
//!
//! History: 2 and 11 (sizes are an attribute), 13 (an input), 18 (`num_outputs`).

use super::axes::{IntList, axis};
use super::case::{self, Case, Tolerance};
use super::{Array, NodeDef, Op, Operator, Row, Why, onnx, product, refuse, required, strides, types};
use crate::facts::Fact;
use crate::plan::Lower;

/// A cut along an axis.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    axis: i64,
    sizes: IntList,
    /// The number of pieces, which counts where no sizes are given.
    pieces: usize,
    /// The number of pieces that the node lists; nothing is known of the others.
    listed: usize,
    /// Whether the last piece may be smaller than the others.
    uneven: bool,
}

pub(crate) const ROWS: &[Row] = &[onnx("Split", 2, types![T int64 -> [T]; T: ALL BF16@13], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let sizes = match def.attributes.ints("split")? {
        Some(sizes) if def.opset < 13 => IntList::Attribute(sizes),
        _ if def.opset >= 13 && def.has_input(1) => IntList::Input(1),
        _ => IntList::Absent,
    };
    let pieces = match def.attributes.int("num_outputs")? {
        Some(n) if n < def.listed.len() as i64 || n > 1 << 16 => {
            refuse!("num_outputs is {n}, and the node has {} outputs", def.listed.len())
        }
        Some(n) => n as usize,
        None => def.listed.len(),
    };
    let listed = def.listed.len();
    Ok(Split { axis: def.attributes.int_or("axis", 0)?, sizes, pieces, listed, uneven: def.opset >= 18 }
        .into())
}

impl Split {
    /// The pieces' sizes along the axis, which is `size` long.
    fn sizes(&self, size: usize, list: Option<Vec<i64>>) -> Result<Vec<usize>, Why> {
        let Some(list) = list else {
            if self.pieces == 0 || !(self.uneven || size.is_multiple_of(self.pieces)) {
                refuse!("axis {} of size {size} cannot be cut into {} equal pieces", self.axis, self.pieces);
            }
            let most = size.div_ceil(self.pieces);
            let listed = self.pieces.min(self.listed);
            return Ok((0..listed).map(|i| size.saturating_sub(i * most).min(most)).collect());
        };
        let sum = list.iter().try_fold(0i64, |sum, &n| sum.checked_add(n));
        if list.iter().any(|&n| n < 0) || sum != Some(size as i64) {
            refuse!("the sizes {list:?} do not add up to {size}");
        }
        Ok(list.into_iter().take(self.listed).map(|n| n as usize).collect())
    }
}

impl Operator for Split {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let axis = axis(self.axis, x.rank())?;
        let sizes = self.sizes(x.shape[axis], self.sizes.of_facts(inputs)?)?;
        let piece = |size: usize| {
            let mut shape = x.shape.clone();
            shape[axis] = size;
            Fact::new(x.dtype, shape)
        };
        Ok(sizes.into_iter().map(piece).collect())
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let axis = axis(self.axis, x.shape.len())?;
        let inner: usize = product(&x.shape[axis + 1..]);
        let row = x.shape[axis] * inner;
        let mut start = 0;
        let mut pieces = Vec::new();
        for size in self.sizes(x.shape[axis], self.sizes.of_arrays(inputs)?)? {
            let mut shape = x.shape.clone();
            shape[axis] = size;
            let run = size * inner;
            pieces.push(x.gather(&shape, |i| Some(i / run * row + start + i % run), None));
            start += run;
        }
        Ok(pieces)
    }

    fn shape_operands(&self) -> &[usize] {
        if self.sizes == IntList::Input(1) { &[1] } else { &[] }
    }

    fn first_output_is_optional(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let x = cx.fact(0)?;
        let axis = axis(self.axis, x.rank())?;
        let steps = strides::of(&x.shape);
        let mut start = 0;
        for (i, piece) in self.infer(&cx.facts())?.iter().enumerate() {
            if cx.optional_out(i).is_some() {
                let dims: Vec<_> = piece.shape.iter().copied().zip(steps.iter().copied()).collect();
                strides::gather(cx, i, start, &dims)?;
            }
            start += piece.shape[axis] as i64 * steps[axis];
        }
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, shape: &[usize], axis: i64, outputs: usize| {
        let case = Case::new("Split", case).tolerance(Tolerance::EXACT).int("axis", axis);
        case.input(case::random(shape)).outputs(outputs)
    };
    vec![
        of("rows", &[6, 64], 0, 3).int("num_outputs", 3),
        of("unaligned_rows", &[6, 5], 0, 3).int("num_outputs", 3),
        of("columns", &[2, 6], -1, 2).int("num_outputs", 2),
        of("uneven", &[7, 2], 0, 4).int("num_outputs", 4),
        of("sizes", &[2, 6, 3], 1, 3).constant(case::list(&[1, 3, 2])),
        of("empty_piece", &[2, 3], 1, 2).constant(case::list(&[0, 3])),
        of("opset13", &[2, 6], 1, 2).opset(13).constant(case::list(&[2, 4])),
        of("opset13_equal", &[2, 6], 1, 3).opset(13),
        of("opset11", &[2, 6], 1, 2).opset(11).ints("split", &[2, 4]),
        of("rank5", &[1, 2, 4, 2, 3], 2, 2).int("num_outputs", 2),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_pieces_are_known() {
        let split = Split { axis: 0, sizes: IntList::Absent, pieces: 1 << 16, listed: 2, uneven: true };
        let facts = split.infer(&[Some(&Fact::new(crate::DType::F32, [1 << 17]))]).unwrap();
        assert_eq!(facts, vec![Fact::new(crate::DType::F32, [2]); 2]);
    }

    #[test]
    fn sizes_must_fit() {
        let split =
            |pieces, uneven| Split { axis: 0, sizes: IntList::Absent, pieces, listed: pieces, uneven };
        assert_eq!(split(4, true).sizes(7, None), Ok(vec![2, 2, 2, 1]));
        assert!(split(4, false).sizes(7, None).is_err());
        assert!(split(2, true).sizes(3, Some(vec![2, 2])).is_err());
        assert!(split(2, true).sizes(3, Some(vec![4, -1])).is_err());
        assert!(split(2, true).sizes(3, Some(vec![i64::MAX, i64::MAX])).is_err());
    }
}
