//! Transposed convolutions: an invocation adds up the taps that reach its result.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Slot, Spec, element, template};

/// Invocations per workgroup; each computes one place.
pub(crate) const PLACES: usize = 64;

/// A transposed convolution. An invocation computes `filters` output channels of one place. Tensors: x, w (`[channels,
/// filters, taps...]`), the epilogue's, y. Params: [`ConvTranspose::params`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConvTranspose {
    pub(crate) scalar: Scalar,
    /// Spatial axes.
    pub(crate) rank: usize,
    pub(crate) filters: usize,
    pub(crate) epilogue: Fused,
}

impl Spec for ConvTranspose {
    fn label(&self) -> String {
        format!("conv_transpose{}d", self.rank)
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> =
            ["x", "w"].iter().map(|name| Slot::read(*name, element(self.scalar, false))).collect();
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        // `filters` and `channels` are those of one group; `first..last` are terms of the sum over taps and channels.
        let fixed =
            ["planes", "groups", "filters", "channels", "first", "last", "in_size", "out_size", "taps"];
        let axes = (0..self.rank).flat_map(|d| {
            ["input", "output", "kernel", "stride", "dilation", "begin", "step"]
                .map(|name| format!("{name}{d}"))
        });
        fixed.iter().map(|name| name.to_string()).chain(axes).chain(self.epilogue.params("e")).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let context = context!(workgroup => PLACES, word => self.scalar.word(), rank => self.rank, filters => self.filters);
        self.epilogue.function("epilogue", "e", used) + &template::render("conv_transpose", context)
    }
}
