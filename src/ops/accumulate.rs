//! What products and convolutions share, as sums of many terms: the sources of operands, the sinks of sums, and the ways to
//! split a long sum.

use super::rows::{Rows, element, plain, value};
use super::{Why, refuse};
use crate::kernels::cost;
use crate::kernels::expr::{Reg, Scalar};
use crate::kernels::fused::Prologue;
use crate::kernels::reduce::Combine;
use crate::kernels::shared::Block;
use crate::plan::{Code, Epilogue, Lower, Reads, TensorId, Tiling};

/// The source of an operand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// The operator's input with this number.
    Input(usize),
    /// The operator's input with this number, which has integers of 8 bits: the kernel reads them as float32.
    Integers(usize),
    /// The operator's input with this number, constant 3x3 windows, after Winograd's transform: only packed, as matrices.
    Windows(usize),
    Tensor(TensorId),
}

impl Source {
    /// The operator's input that has the elements. If it is a constant, a kernel may get it in another order.
    pub(crate) fn input(self) -> Option<usize> {
        match self {
            Source::Input(i) | Source::Integers(i) | Source::Windows(i) => Some(i),
            Source::Tensor(_) => None,
        }
    }

    /// The operand's tensor, with all elements in memory.
    pub(crate) fn tensor(self, cx: &mut Lower) -> Result<TensorId, Why> {
        let tensor = self.deferred(cx)?;
        Ok(cx.realized(tensor))
    }

    /// For the binding `operand`: the tensor that the kernel reads, and the prologue that computes the operand's elements from
    /// it.
    pub(crate) fn loaded(
        self,
        cx: &mut Lower,
        operand: &'static str,
        reads: Reads,
    ) -> Result<(TensorId, Before), Why> {
        let tensor = self.deferred(cx)?;
        Ok(match cx.loaded(operand, tensor, reads) {
            (tensor, Some(Epilogue { fused, tensors, params })) => {
                (tensor, Before { prologue: Prologue::of(operand, fused), tensors, params })
            }
            (tensor, None) => (tensor, Before::default()),
        })
    }

    fn deferred(self, cx: &mut Lower) -> Result<TensorId, Why> {
        match self {
            Source::Input(i) => cx.deferred_input(i),
            Source::Integers(i) => {
                let (x, shape) = (cx.input(i)?, &cx.fact(i)?.shape);
                Ok(cx.deferred((Scalar::F32, shape), &[(x, shape)], |e, x| e.convert(x[0], Scalar::F32)))
            }
            Source::Windows(i) => refuse!("no kernel reads the transformed windows of input {i} unpacked"),
            Source::Tensor(tensor) => Ok(tensor),
        }
    }
}

/// A kernel's prologue, with its tensors and params.
#[derive(Clone, Default)]
pub(crate) struct Before {
    pub(crate) prologue: Prologue,
    pub(crate) tensors: Vec<TensorId>,
    pub(crate) params: Vec<u32>,
}

/// Where the result of a product or a convolution goes.
#[derive(Clone, Copy)]
pub(crate) enum Sink<'f, 'a> {
    /// To the operator's output 0, through its epilogue.
    Sum,
    /// To the operator's output 0, after the function has made the operator's value from the sum.
    Finished(&'f Finish<'f, 'a>),
    /// To a temporary tensor, unchanged.
    Tensor(TensorId),
}

/// Makes an operator's value from a sum.
pub(crate) type Finish<'f, 'a> = dyn Fn(&mut Code<'_, 'a>, Reg) -> Result<Reg, Why> + 'f;

/// Splits a sum of `terms` into dispatches of at most `limit` terms. `dispatch` gets the range of terms, the epilogue and the
/// output of each; every dispatch but the last hands its partial sum to the next. A sum of 100,000 terms with a limit of
/// 60,000 takes two.
pub(crate) fn in_parts<'a>(
    cx: &mut Lower<'a>,
    (terms, limit): (usize, usize),
    matrix: (usize, usize),
    scalar: Scalar,
    sink: Sink<'_, 'a>,
    mut dispatch: impl FnMut(&mut Lower<'a>, (usize, usize), Epilogue, TensorId) -> Result<(), Why>,
) -> Result<(), Why> {
    let mut before: Option<TensorId> = None;
    let mut first = 0;
    while terms - first > limit {
        let shape = match sink {
            Sink::Tensor(tensor) => cx.shape(tensor).to_vec(),
            _ => cx.out(0)?.shape.to_vec(),
        };
        let partial = cx.temporary(scalar, &shape);
        let epilogue = cx.partial(scalar, before);
        dispatch(cx, (first, first + limit), epilogue, partial)?;
        before = Some(partial);
        first += limit;
    }
    if let Sink::Tensor(tensor) = sink {
        let epilogue = cx.partial(scalar, before);
        return dispatch(cx, (first, terms), epilogue, tensor);
    }
    let epilogue = cx.epilogue_after(Some(matrix), scalar, |code, mut value| {
        if let Some(before) = before {
            let before = code.tensor(before);
            value = code.builder.add(value, before);
        }
        if let Sink::Finished(finish) = sink { finish(code, value) } else { Ok(value) }
    })?;
    let output = cx.output(0)?;
    dispatch(cx, (first, terms), epilogue, output)
}

/// The number of slices into which the sum of a tiled product is cut, if it is cut. Workgroups of their own add up each slice,
/// so that GPUs are busy where there are few tiles; another kernel adds up the slices.
pub(crate) fn slices(
    cx: &mut Lower,
    block: Block,
    groups: usize,
    (terms, results): (usize, usize),
) -> Option<usize> {
    // About what the largest GPUs keep in flight. On a smaller GPU too many slices cost little, as each slice is long.
    const WANTED: usize = 1 << 17;
    const LEAST: usize = 256;
    let invocations = (groups * block.threads()).max(1);
    let fit = (WANTED / invocations).min(terms / LEAST).min((1 << 21) / results.max(1)).min(16);
    let cost = |(sliced, _): (usize, usize)| cost::slices(block, terms, (sliced == 1).then_some(fit));
    let best = usize::from(fit > 1 && cost((1, 0)) < cost((0, 0)));
    (cx.tile(Tiling::Slices, (best, 0), cost).0 == 1).then_some(fit.max(1))
}

/// The params of slices: their number, the terms of each (whole blocks), and the elements of a result. 1,000 terms in 3 slices
/// and blocks of 16 are slices of 336.
pub(crate) fn sliced(slices: Option<usize>, (terms, block): (usize, usize), size: usize) -> [usize; 3] {
    let count = slices.unwrap_or(1);
    [count, terms.div_ceil(count).next_multiple_of(block), size]
}

/// Emits a product in slices. `dispatch` writes `slices` partial results of `size` elements, one after the other, to the
/// tensor that it is given.
pub(crate) fn in_slices<'a>(
    cx: &mut Lower<'a>,
    (slices, size): (usize, usize),
    scalar: Scalar,
    sink: Sink<'_, 'a>,
    dispatch: impl FnOnce(&mut Lower<'a>, Epilogue, TensorId) -> Result<(), Why>,
) -> Result<(), Why> {
    let partial = cx.temporary(scalar, &[slices, size]);
    dispatch(cx, plain(scalar), partial)?;
    let mut rows = Rows::of(cx, partial, &[slices, size], &[0]);
    rows.fold(Combine::Sum, |e| element(e, scalar), |_, sum| sum);
    let (epilogue, output) = match sink {
        Sink::Tensor(tensor) => (plain(scalar), tensor),
        _ => {
            let epilogue = cx.epilogue_after(None, scalar, |code, value| match sink {
                Sink::Finished(finish) => finish(code, value),
                _ => Ok(value),
            })?;
            (epilogue, cx.output(0)?)
        }
    };
    rows.row_result(output, |e| value(e, 0, scalar));
    rows.emit_with(cx, &epilogue)
}
