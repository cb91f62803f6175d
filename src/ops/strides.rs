//! Outputs that have the elements of input 0 under other strides.

use super::Why;
use crate::array;
use crate::kernels::Access;
use crate::kernels::strided::{Strided, groups, merge, params};
use crate::plan::{Lower, Rank, TensorId};

/// The row-major strides of `shape`, signed, as an access may walk backward.
pub(crate) fn of(shape: &[usize]) -> Vec<i64> {
    array::strides(shape).into_iter().map(|stride| stride as i64).collect()
}

/// Output `i` has the elements of input 0 at `base + i0 * stride0 + ...`, over `dims` (size, stride), outermost first.
pub(crate) fn gather(cx: &mut Lower, i: usize, base: i64, dims: &[(usize, i64)]) -> Result<(), Why> {
    if dims.iter().any(|dim| dim.0 == 0) {
        return cx.output(i).map(|_| ());
    }
    cx.lies(i, 0, Access::new(base, dims))
}

/// The operator's copy with this `number`, of elements of one tensor to another. `dims` are (size, stride).
pub(crate) struct Copy<'a> {
    pub(crate) number: usize,
    pub(crate) from: TensorId,
    pub(crate) to: TensorId,
    pub(crate) base: i64,
    pub(crate) dims: &'a [(usize, i64)],
}

/// Copies the elements of `from` at `base + i0 * stride0 + ...` to the dense tensor `to`.
pub(crate) fn copy(cx: &mut Lower, copy: Copy) {
    call(cx, false, copy);
}

/// Copies the elements of the dense tensor `from` to the places of `to` at `base + i0 * stride0 + ...`.
pub(crate) fn scatter(cx: &mut Lower, copy: Copy) {
    call(cx, true, copy);
}

fn call(cx: &mut Lower, scatter: bool, Copy { number, from, to, base, dims }: Copy) {
    let dims = cx.with_rank(Rank::Copy(number), merge(dims), (1, 0));
    let params = params(base, &dims);
    let groups = groups(params[0] as usize);
    let scalar = cx.moving(from, to);
    cx.call(Strided { scalar, rank: dims.len(), scatter, runs: false }, vec![from, to], params, groups);
}
