//! Deformable convolution over two axes: each tap reads between elements, at the place that its offset says.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::gather::WORKGROUP;
use super::{Slot, Spec, element, template};

/// An invocation computes one result. Tensors: x, w, offsets, the mask if there is one, the epilogue's, y. Params:
/// [`DeformConv::params`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DeformConv {
    /// float32 or float64.
    pub(crate) scalar: Scalar,
    pub(crate) mask: bool,
    pub(crate) epilogue: Fused,
}

impl Spec for DeformConv {
    fn label(&self) -> String {
        "deform_conv".into()
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = ["x", "w", "offsets"].map(|name| Slot::read(name, self.scalar)).into();
        slots.extend(self.mask.then(|| Slot::read("weights", self.scalar)));
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        // `filters` counts all output channels, `group_filters` and `group_channels` the channels of one group,
        // `offset_channels` the input channels that share an offset; `first..last` are terms of the sum over channels and
        // taps.
        let fixed = [
            "count",
            "filters",
            "group_filters",
            "channels",
            "group_channels",
            "offset_channels",
            "first",
            "last",
        ];
        let names = ["input", "output", "kernel", "stride", "dilation", "begin"];
        let axes = (0..2).flat_map(|d| names.map(|name| format!("{name}{d}")));
        fixed.map(String::from).into_iter().chain(axes).chain(self.epilogue.params("e")).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        debug_assert_eq!(self.epilogue.operands.first().map(|o| o.scalar), Some(self.scalar));
        let word = self.scalar.word();
        let context = context!(workgroup => WORKGROUP, mask => self.mask, word);
        self.epilogue.function("epilogue", "e", used) + &template::render("deform_conv", context)
    }
}
