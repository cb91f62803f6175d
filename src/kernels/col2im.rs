//! Col2Im: an invocation computes one element of the image, and adds up the blocks that cover it, in order.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::gather::WORKGROUP;
use super::{Slot, Spec, element, template};

/// Tensors: columns, the epilogue's, image. Params: `count`, then for each axis the sizes of image (`input`), blocks
/// (`output`), block (`kernel`), `stride`, `dilation` and the pads before (`begin`), then the epilogue's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Col2Im {
    pub(crate) scalar: Scalar,
    pub(crate) rank: usize,
    pub(crate) epilogue: Fused,
}

impl Spec for Col2Im {
    fn label(&self) -> String {
        format!("col2im{}d", self.rank)
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::read("x", element(self.scalar, false))];
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        let names = ["input", "output", "kernel", "stride", "dilation", "begin"];
        let axes = (0..self.rank).flat_map(|d| names.map(|name| format!("{name}{d}")));
        std::iter::once("count".to_string()).chain(axes).chain(self.epilogue.params("e")).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let context = context!(workgroup => WORKGROUP, rank => self.rank, word => self.scalar.word());
        self.epilogue.function("finish", "e", used) + &template::render("col2im", context)
    }
}
