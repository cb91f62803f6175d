//! ReverseSequence: writes the first elements of each sequence of a batch backward.
//!
//! History: 10, 28; the later version only adds types.

use super::case::{self, Case, Tolerance};
use super::{Array, NodeDef, Op, Operator, Row, Why, onnx, product, refuse, required, types};
use crate::facts::Fact;
use crate::kernels::reverse_sequence as kernel;
use crate::kernels::words;
use crate::plan::Lower;

/// Which of the two outermost axes is time; the other is the batch.
#[derive(Clone, Debug)]
pub(crate) struct ReverseSequence {
    time_first: bool,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("ReverseSequence", 10, types![T int64 -> T; T: ALL BF16@28], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let axes = (def.attributes.int_or("time_axis", 0)?, def.attributes.int_or("batch_axis", 1)?);
    match axes {
        (0, 1) => Ok(ReverseSequence { time_first: true }.into()),
        (1, 0) => Ok(ReverseSequence { time_first: false }.into()),
        (time, batch) => refuse!("time_axis {time} and batch_axis {batch} must be 0 and 1, or 1 and 0"),
    }
}

impl ReverseSequence {
    fn check(&self, x: &[usize], lengths: &[usize]) -> Result<(), Why> {
        let [first, second, ..] = *x else { refuse!("expected a tensor of rank 2 or more") };
        let batch = if self.time_first { second } else { first };
        if lengths != [batch] {
            refuse!("sequence_lens must have a number for each of the {batch} sequences");
        }
        Ok(())
    }
}

impl Operator for ReverseSequence {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        self.check(&x.shape, &required(inputs, 1)?.shape)?;
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, lengths) = (required(inputs, 0)?, required(inputs, 1)?);
        self.check(&x.shape, &lengths.shape)?;
        let lengths = lengths.i64s()?;
        let times = x.shape[usize::from(!self.time_first)];
        if lengths.iter().any(|&n| n < 0 || n as usize > times) {
            refuse!("sequence_lens {lengths:?} must be from 0 to {times}");
        }
        let (columns, inner) = (x.shape[1], product(&x.shape[2..]));
        let source = |i: usize| {
            let (row, column, rest) = (i / inner / columns, i / inner % columns, i % inner);
            let (time, batch) = if self.time_first { (row, column) } else { (column, row) };
            let length = lengths[batch] as usize;
            let time = if time < length { length - 1 - time } else { time };
            let (row, column) = if self.time_first { (time, batch) } else { (batch, time) };
            Some((row * columns + column) * inner + rest)
        };
        Ok(vec![x.gather(&x.shape, source, None)])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let x = cx.fact(0)?;
        let inner: usize = product(&x.shape[2..]);
        let params = words([x.count(), x.shape[0], x.shape[1], inner])?;
        let times = x.shape[usize::from(!self.time_first)];
        let tensors = vec![cx.input(0)?, cx.within(1, 0, times as i64)?, cx.output(0)?];
        let kernel = kernel::ReverseSequence { time_first: self.time_first, runs: false };
        cx.call(kernel, tensors, params, kernel::groups(x.count()));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, shape: &[usize], lengths: &[i64]| {
        let case = Case::new("ReverseSequence", case).tolerance(Tolerance::EXACT);
        case.input(case::random(shape)).input(case::list(lengths))
    };
    let batch_first = |case: Case| case.int("time_axis", 1).int("batch_axis", 0);
    vec![
        of("time", &[4, 3], &[4, 0, 2]),
        batch_first(of("batch", &[3, 4], &[1, 4, 3])),
        of("rank4", &[5, 2, 3, 2], &[3, 5]),
        batch_first(of("rank5", &[2, 5, 1, 3, 2], &[3, 5])),
        of("no_sequences", &[4, 0], &[]),
        batch_first(of("no_elements", &[2, 3, 0], &[1, 2])),
        Case::new("ReverseSequence", "int64")
            .tolerance(Tolerance::EXACT)
            .input(case::integers(&[3, 2], -9, 9))
            .constant(case::list(&[2, 3])),
    ]
}
