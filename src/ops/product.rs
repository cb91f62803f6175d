//! Lowering of everything that is a batched matrix product: chooses the kernel, packs constants, splits long sums.

use super::Why;
use crate::kernels::expr::{Reg, Scalar};
use crate::kernels::gemm::{Gemm, Tile};
use crate::plan::{Code, Epilogue, Lower, TensorId};

/// `y[b][m][n] = sum over k of a[b][m][k] * b[b][k][n]`. Strides are in elements.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Batch dimensions, outermost first.
    pub(crate) batch: Vec<Batch>,
    pub(crate) a: Matrix,
    pub(crate) b: Matrix,
}

/// One batch dimension; a stride of 0 repeats an operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Batch {
    pub(crate) size: usize,
    pub(crate) a: usize,
    pub(crate) b: usize,
}

/// One operand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub(crate) source: Source,
    /// From one row to the next.
    pub(crate) row: usize,
    /// From one column to the next.
    pub(crate) column: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// The operator's input of this number.
    Input(usize),
    Tensor(TensorId),
}

impl Source {
    pub(crate) fn tensor(self, cx: &mut Lower) -> Result<TensorId, Why> {
        match self {
            Source::Input(i) => cx.input(i),
            Source::Tensor(tensor) => Ok(tensor),
        }
    }
}

/// Batch dimensions without those of size 1, neighbours merged where both operands allow it.
pub(crate) fn merge(batch: &[Batch]) -> Vec<Batch> {
    let mut merged: Vec<Batch> = Vec::new();
    for &inner in batch.iter().filter(|dim| dim.size != 1) {
        match merged.last_mut() {
            Some(outer) if outer.a == inner.a * inner.size && outer.b == inner.b * inner.size => {
                *outer = Batch { size: outer.size * inner.size, ..inner };
            }
            _ => merged.push(inner),
        }
    }
    merged
}

/// Where the result of a product or a convolution goes.
#[derive(Clone, Copy)]
pub(crate) enum Sink<'f, 'a> {
    /// To the operator's output 0, through its epilogue.
    Sum,
    /// The same, where the function makes the operator's value out of the sum.
    Finished(&'f Finish<'f, 'a>),
    /// To a temporary tensor, as it is.
    Tensor(TensorId),
}

/// What becomes of a sum.
pub(crate) type Finish<'f, 'a> = dyn Fn(&mut Code<'_, 'a>, Reg) -> Result<Reg, Why> + 'f;

/// Splits a sum of `terms` into dispatches of at most `limit`: calls `dispatch` with the first and last term of each, its
/// epilogue and its output. All but the last hand on what they accumulated.
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
            _ => cx.out(0)?.shape.clone(),
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

impl Product {
    /// Emits the product.
    pub(crate) fn lower<'a>(
        &self,
        cx: &mut Lower<'a>,
        scalar: Scalar,
        sink: Sink<'_, 'a>,
    ) -> Result<(), Why> {
        let batch = merge(&self.batch);
        let batches: usize = self.batch.iter().map(|dim| dim.size).product();
        let (a, b) = (self.a.source.tensor(cx)?, self.b.source.tensor(cx)?);
        let tile =
            Tile::Strided { rows: if self.m < 4 { 1 } else { 8 }, columns: if self.m < 4 { 1 } else { 2 } };
        let (rows, columns) = tile.size();
        let groups = self.m.div_ceil(rows) * self.n.div_ceil(columns) * batches;
        let limit = cx.target.max_iterations as usize;
        in_parts(
            cx,
            (self.k, limit),
            (self.m, self.n),
            scalar,
            sink,
            |cx, (first, last), epilogue, output| {
                let strides = [self.a.row, self.a.column, self.b.row, self.b.column];
                let mut params: Vec<usize> = vec![self.m, self.n, first, last, batches];
                params.extend(strides);
                params.extend(batch.iter().flat_map(|dim| [dim.size, dim.a, dim.b]));
                let mut params: Vec<u32> = params.into_iter().map(|v| v as u32).collect();
                params.extend(epilogue.params);
                let tensors = [a, b].into_iter().chain(epilogue.tensors).chain([output]).collect();
                let gemm = Gemm { scalar, batch: batch.len(), tile, epilogue: epilogue.fused };
                cx.call(gemm, tensors, params, groups);
                Ok(())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_merge_where_both_operands_do() {
        let dim = |size, a, b| Batch { size, a, b };
        assert_eq!(merge(&[dim(2, 60, 30), dim(1, 9, 9), dim(3, 20, 10)]), [dim(6, 20, 10)]);
        assert_eq!(merge(&[dim(2, 60, 0), dim(3, 20, 0)]), [dim(6, 20, 0)]);
        assert_eq!(merge(&[dim(2, 60, 0), dim(3, 20, 10)]).len(), 2);
        assert_eq!(merge(&[]), []);
    }
}
