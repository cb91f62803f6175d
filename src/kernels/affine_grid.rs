//! AffineGrid: one coordinate of one point per invocation.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::gather::WORKGROUP;
use super::{Slot, Spec, element, template};

/// Tensors: matrices, the epilogue's, output. Params: `count`, the `size` of each spatial axis, the epilogue's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AffineGrid {
    /// float32 or float64.
    pub(crate) scalar: Scalar,
    pub(crate) rank: usize,
    pub(crate) align_corners: bool,
    pub(crate) epilogue: Fused,
}

impl Spec for AffineGrid {
    fn label(&self) -> String {
        format!("affine_grid{}d", self.rank)
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::read("matrices", self.scalar)];
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        let sizes = (0..self.rank).map(|d| format!("size{d}"));
        std::iter::once("count".to_string()).chain(sizes).chain(self.epilogue.params("e")).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let (rank, align, word) = (self.rank, self.align_corners, self.scalar.word());
        let context = context!(workgroup => WORKGROUP, rank, align, word);
        self.epilogue.function("finish", "e", used) + &template::render("affine_grid", context)
    }
}
