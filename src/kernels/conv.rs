//! Convolutions over one to three spatial axes, NCHW, computed where the input lies: nothing is unfolded.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Slot, Spec, element, template};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// A convolution of any window. An invocation computes `filters` output channels of one place. Tensors: x, w
/// (`[filters, channels, taps...]`), the epilogue's, y. Params: [`Conv::params`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Conv {
    pub(crate) scalar: Scalar,
    /// Spatial axes.
    pub(crate) rank: usize,
    pub(crate) filters: usize,
    pub(crate) epilogue: Fused,
}

impl Conv {
    /// Places of one output channel that one workgroup computes.
    pub(crate) const PLACES: usize = WORKGROUP;
}

impl Spec for Conv {
    fn label(&self) -> String {
        format!("conv{}d", self.rank)
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> =
            ["x", "w"].iter().map(|name| Slot::read(*name, element(self.scalar, false))).collect();
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        // `filters` and `channels` are those of one group; `first..last` are terms of the sum over channels and taps.
        let fixed = ["planes", "groups", "filters", "channels", "first", "last", "in_size", "out_size", "taps"];
        let axes = (0..self.rank).flat_map(|d| {
            ["input", "output", "kernel", "stride", "dilation", "begin"].map(|name| format!("{name}{d}"))
        });
        fixed.iter().map(|name| name.to_string()).chain(axes).chain(self.epilogue.params("e")).collect()
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let context = context!(
            workgroup => WORKGROUP, rank => self.rank, filters => self.filters, word => self.scalar.word(),
        );
        self.epilogue.function("epilogue", "e", used) + &template::render("conv", context)
    }
}
