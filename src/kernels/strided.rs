//! Strided copies: transpose, slice, expand, flip, concatenation and padding, each a change of strides on one side.

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::context;
use smallvec::SmallVec;

use super::expr::Scalar;
use super::{Slot, Spec, Target, element, template};
use crate::plan::{Access, Call, TensorId};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// Copies words between a dense tensor and a strided part of another. Tensors: source, destination. Params: `count`
/// (elements copied), `base`, then `size` and `stride` of each dimension, outermost first; element `(i0, i1, ...)` of the
/// strided side is at `base + i0 * stride0 + ...` (negative strides wrap).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Strided {
    pub(crate) scalar: Scalar,
    pub(crate) rank: usize,
    /// Whether the destination is the strided side.
    pub(crate) scatter: bool,
}

impl Spec for Strided {
    fn label(&self) -> String {
        format!("{}{}d", if self.scatter { "scatter" } else { "gather" }, self.rank)
    }

    fn slots(&self) -> Vec<Slot> {
        vec![Slot::read("x", element(self.scalar, false)), Slot::write("y", element(self.scalar, false))]
    }

    fn params(&self) -> Vec<String> {
        let dims = (0..self.rank).flat_map(|d| [format!("size{d}"), format!("stride{d}")]);
        ["count".to_string(), "base".to_string()].into_iter().chain(dims).collect()
    }

    fn body(&self, _used: &mut BTreeSet<&'static str>) -> String {
        let context = context!(workgroup => WORKGROUP, rank => self.rank, scatter => self.scatter);
        template::render("strided", context)
    }
}

/// Workgroups for `count` elements.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(WORKGROUP)
}

/// Sizes and strides of dimensions, outermost first.
pub(crate) type Dims = SmallVec<[(usize, i64); 4]>;

/// Dimensions (size, stride) of a strided side with neighbours merged where one stride continues the other, and sizes of
/// 1 dropped. Same order, same elements.
pub(crate) fn merge(dims: &[(usize, i64)]) -> Dims {
    let mut merged = Dims::new();
    for &(size, stride) in dims.iter().filter(|d| d.0 != 1) {
        match merged.last_mut() {
            Some(outer) if outer.1 == stride * size as i64 => *outer = (outer.0 * size, stride),
            _ => merged.push((size, stride)),
        }
    }
    merged
}

/// Params of a strided copy over `dims` (size, stride), as many as the spec's rank.
pub(crate) fn params(base: i64, dims: &[(usize, i64)]) -> Vec<u32> {
    let count: usize = dims.iter().map(|d| d.0).product();
    let mut words = vec![count as u32, base as u32];
    words.extend(dims.iter().flat_map(|&(size, stride)| [size as u32, stride as u32]));
    words
}

/// The call that copies the elements that `access` names of `from` to the dense tensor `to`.
pub(crate) fn gather(from: TensorId, to: TensorId, access: &Access, target: &Target, node: Arc<str>) -> Call {
    let (rank, params) = (access.dims.len(), params(access.base, &access.dims));
    let grid = target.grid(groups(params[0] as usize));
    // Words are moved as they are, whatever they mean.
    let kernel = Strided { scalar: Scalar::U32, rank, scatter: false };
    Call { kernel: kernel.into(), tensors: vec![from, to], params, grid, node }
}

/// The call that copies `count` consecutive words between places in two tensors, one of which is whole.
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
        kernel: Strided { scalar, rank: 1, scatter: at > 0 }.into(),
        tensors: vec![from, to],
        params: vec![count as u32, base as u32, count as u32, 1],
        grid: target.grid(groups(count)),
        node,
    }
}
