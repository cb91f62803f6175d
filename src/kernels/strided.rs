//! Strided copies: transpose, slice, expand, flip, concatenation and padding change the strides of the source, or of the
//! destination.

use std::collections::BTreeSet;

use minijinja::context;
use smallvec::SmallVec;

use super::expr::Scalar;
use super::{Kernel, Slot, SlotElement, Spec, each, element, template};
use crate::shape::product;

pub(crate) use super::each::groups;

/// Copies elements between a dense tensor and a strided part of another. Tensors: source, destination. Params: `count`
/// (elements copied), `base`, then `size` and `stride` of each dimension, outermost first. Element `(i0, i1, ...)` of the
/// strided side has the index `base + i0 * stride0 + ...` (negative strides wrap).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Strided {
    pub(crate) scalar: Scalar,
    pub(crate) rank: usize,
    /// Whether the destination is the strided side.
    pub(crate) scatter: bool,
    /// Whether an invocation stores neighbours together.
    pub(crate) runs: bool,
}

impl Spec for Strided {
    fn label(&self) -> String {
        format!("{}{}d", if self.scatter { "scatter" } else { "gather" }, self.rank)
    }

    fn slots(&self) -> Vec<Slot> {
        let stored = match (self.runs, self.scatter) {
            (true, true) => SlotElement::Run(self.scalar, 4),
            _ => each::stored(self.scalar, self.runs),
        };
        vec![Slot::read("x", element(self.scalar, self.runs && self.scatter)), Slot::write("y", stored)]
    }

    fn in_runs(&self) -> Option<Kernel> {
        Some(Strided { runs: true, ..self.clone() }.into())
    }

    fn params(&self) -> Vec<String> {
        let dims = (0..self.rank).flat_map(|d| [format!("size{d}"), format!("stride{d}")]);
        ["count".to_string(), "base".to_string()].into_iter().chain(dims).collect()
    }

    fn compiles_quickly(&self) -> bool {
        true
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, _used: &mut BTreeSet<&'static str>) -> String {
        let (word, runs, scatter) = (self.scalar.word(), self.runs, self.scatter);
        let workgroup = each::workgroup(runs);
        let text = template::render("strided", context!(workgroup, rank => self.rank, scatter, runs));
        let code = format!("  {} x[place(o)];", each::store(runs));
        if scatter { text } else { text + &each::kernel(word, runs, &code) }
    }
}

/// Sizes and strides of dimensions, outermost first.
pub(crate) type Dims = SmallVec<[(usize, i64); 4]>;

/// The dimensions (size, stride) of a strided side, without sizes of 1, and with neighbours merged where one stride continues
/// the other: (2, stride 12), (3, stride 4), (4, stride 1) are (24, stride 1). They name the same elements in the same order.
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

/// Params of a strided copy over `dims` (size, stride); the spec has this number of dimensions.
pub(crate) fn params(base: i64, dims: &[(usize, i64)]) -> Vec<u32> {
    let count: usize = product(dims.iter().map(|d| d.0));
    let mut words = vec![count as u32, base as u32];
    words.extend(dims.iter().flat_map(|&(size, stride)| [size as u32, stride as u32]));
    words
}
