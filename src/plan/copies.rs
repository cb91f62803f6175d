//! Calls that copy elements between tensors.

use std::sync::Arc;

use super::{Call, TensorId};
use crate::kernels::elementwise::{self, Elementwise};
use crate::kernels::expr::{Builder, Scalar};
use crate::kernels::fused::{Fused, Index, Operand};
use crate::kernels::strided::{Strided, groups, params};
use crate::kernels::{Access, Target};

/// The kernel call that copies `count` elements from one tensor to another.
pub(crate) fn copy(
    scalar: Scalar,
    from: TensorId,
    to: TensorId,
    count: usize,
    target: &Target,
    node: Arc<str>,
) -> Call {
    let mut builder = Builder::default();
    let value = builder.load(0, scalar);
    let (expr, _) = builder.finish(vec![value]);
    let fused = Fused { expr, operands: vec![Operand { scalar, index: Index::Linear }] };
    Call {
        kernel: Elementwise { fused, in_place: None }.into(),
        tensors: vec![from, to],
        params: vec![count as u32],
        grid: target.grid(elementwise::groups(count)),
        node,
    }
}

/// The call that copies the elements of `from` that `access` names to the dense tensor `to`.
pub(crate) fn gather(
    scalar: Scalar,
    from: TensorId,
    to: TensorId,
    access: &Access,
    target: &Target,
    node: Arc<str>,
) -> Call {
    let (rank, params) = (access.dims.len(), params(access.base, &access.dims));
    let grid = target.grid(groups(params[0] as usize));
    let kernel = Strided { scalar, rank, scatter: false, runs: false };
    Call { kernel: kernel.into(), tensors: vec![from, to], params, grid, node }
}

/// The call that copies `count` consecutive elements from one tensor to another; one of the two tensors is copied as a whole.
pub(crate) fn copy_range(
    scalar: Scalar,
    (from, skip): (TensorId, usize),
    (to, at): (TensorId, usize),
    count: usize,
    target: &Target,
    node: Arc<str>,
) -> Call {
    let base = skip.max(at);
    Call {
        kernel: Strided { scalar, rank: 1, scatter: at > 0, runs: false }.into(),
        tensors: vec![from, to],
        params: vec![count as u32, base as u32, count as u32, 1],
        grid: target.grid(groups(count)),
        node,
    }
}
