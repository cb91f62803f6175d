//! Local response normalization: each element is divided by a power of the sum of squares of the channels around it.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Slot, Spec, element, template};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// The tensor is seen as (batch, channels, inner), and an invocation computes one element. Tensors: the input, the epilogue's,
/// the result. Params: `count`, `channels`, `inner`, `before` and `after` (channels of the window), then as float bits `bias`,
/// `alpha` (of float32: divided by the window's size) and `beta`, then the epilogue's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lrn {
    /// float32 or float64.
    pub(crate) scalar: Scalar,
    pub(crate) epilogue: Fused,
}

/// Workgroups for `count` elements.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(WORKGROUP)
}

impl Spec for Lrn {
    fn label(&self) -> String {
        "lrn".into()
    }

    fn slots(&self) -> Vec<Slot> {
        let word = |scalar| element(scalar, false);
        let mut slots = vec![Slot::read("x", word(self.scalar))];
        slots.extend(self.epilogue.bound().map(|(i, o)| Slot::read(format!("e{i}"), word(o.scalar))));
        let result = self.epilogue.expr.output_scalars().first().copied().unwrap_or(self.scalar);
        slots.push(Slot::write("y", word(result)));
        slots
    }

    fn params(&self) -> Vec<String> {
        let own = ["count", "channels", "inner", "before", "after", "bias", "alpha", "beta"];
        own.map(String::from).into_iter().chain(self.epilogue.params("e")).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        used.insert(if self.scalar == Scalar::F64 { "pow_f64" } else { "pow_full" });
        let epilogue = self.epilogue.function("epilogue", "e", used);
        epilogue + &template::render("lrn", context!(workgroup => WORKGROUP, word => self.scalar.word()))
    }
}
