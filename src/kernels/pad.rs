//! Padding and cropping. Beyond its borders a tensor continues with a constant, with its edge, or with its own elements.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Kernel, Slot, Spec, each, template};
use crate::shape::product;

pub(crate) use super::each::groups;

/// What lies beyond the borders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Border {
    /// A value: a tensor's first element if `bound`, else the parameter `value`.
    Constant {
        bound: bool,
    },
    Edge,
    Reflect,
    Wrap,
}

impl Border {
    fn name(self) -> &'static str {
        match self {
            Border::Constant { .. } => "constant",
            Border::Edge => "edge",
            Border::Reflect => "reflect",
            Border::Wrap => "wrap",
        }
    }
}

/// Copies elements into a larger or smaller tensor. Tensors: source, the value if bound, destination. Params: `count`
/// (elements of the destination), `value`, then four numbers for each dimension ([`PadDim`]), outermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pad {
    pub(crate) rank: usize,
    pub(crate) border: Border,
    /// Whether an invocation stores neighbours together.
    pub(crate) runs: bool,
}

/// One dimension of a padding: 5 elements with 2 before and 1 after them have `size` 5, `begin` 2 and `out` 8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PadDim {
    pub(crate) size: usize,
    /// Elements before the source's first; if negative, elements of the source that are cut off.
    pub(crate) begin: i64,
    /// The size of the result.
    pub(crate) out: usize,
}

impl PadDim {
    fn is_kept(self) -> bool {
        self.begin == 0 && self.size == self.out
    }
}

/// The dimensions, with neighbours that keep their size merged into one.
pub(crate) fn merge(dims: &[PadDim]) -> Vec<PadDim> {
    let mut merged: Vec<PadDim> = Vec::new();
    for &dim in dims {
        match merged.last_mut() {
            Some(outer) if outer.is_kept() && dim.is_kept() => {
                let size = outer.size * dim.size;
                *outer = PadDim { size, begin: 0, out: size };
            }
            _ => merged.push(dim),
        }
    }
    merged
}

/// Params of a call over merged `dims`.
pub(crate) fn params(value: u32, dims: &[PadDim]) -> Vec<u32> {
    let count: usize = product(dims.iter().map(|dim| dim.out));
    let mut words = Vec::new();
    let mut stride = 1;
    for dim in dims.iter().rev() {
        words.splice(0..0, [dim.size as u32, dim.begin as u32, dim.out as u32, stride as u32]);
        stride *= dim.size;
    }
    words.splice(0..0, [count as u32, value]);
    words
}

impl Spec for Pad {
    fn label(&self) -> String {
        format!("pad{}d {}", self.rank, self.border.name())
    }

    fn slots(&self) -> Vec<Slot> {
        let value = (self.border == Border::Constant { bound: true }).then(|| Slot::read("v", Scalar::U32));
        [Slot::read("x", Scalar::U32)]
            .into_iter()
            .chain(value)
            .chain([Slot::write("y", each::stored(Scalar::U32, self.runs))])
            .collect()
    }

    fn in_runs(&self) -> Option<Kernel> {
        Some(Pad { runs: true, ..self.clone() }.into())
    }

    fn params(&self) -> Vec<String> {
        let dims =
            (0..self.rank).flat_map(|d| ["size", "begin", "out", "stride"].map(|name| format!("{name}{d}")));
        ["count".to_string(), "value".to_string()].into_iter().chain(dims).collect()
    }

    fn takes_wide(&self) -> bool {
        self.border != Border::Constant { bound: false }
    }

    fn body(&self, _used: &mut BTreeSet<&'static str>) -> String {
        let bound = self.border == Border::Constant { bound: true };
        let code = template::render(
            "pad",
            context!(store => each::store(self.runs), rank => self.rank, mode => self.border.name(), bound),
        );
        each::kernel("u32", self.runs, &code)
    }
}
