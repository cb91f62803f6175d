//! Fourier transforms by their definition: one bin per invocation, which adds up the signal times roots from a table.

use std::collections::BTreeSet;

use minijinja::context;

use super::fused::Fused;
use super::gather::WORKGROUP;
use super::{Slot, Spec, element, template};

/// What a transform is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transform {
    /// Whether the input has imaginary parts.
    pub(crate) complex: bool,
    /// Whether the output has none: the inverse of a one-sided transform.
    pub(crate) real_output: bool,
    pub(crate) inverse: bool,
    /// Whether frames are weighted.
    pub(crate) window: bool,
}

/// Sizes of a transform: bin `(outer, bin, inner)` of the output adds up elements `start + n * inner` of the input,
/// where `start = outer / frames * signal + outer % frames * step + inner`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Bins in all.
    pub(crate) count: usize,
    pub(crate) bins: usize,
    pub(crate) inner: usize,
    /// Elements that a bin adds up.
    pub(crate) used: usize,
    /// The period: roots in the table.
    pub(crate) length: usize,
    pub(crate) frames: usize,
    pub(crate) signal: usize,
    pub(crate) step: usize,
}

impl Sizes {
    pub(crate) fn words(&self) -> Vec<u32> {
        let Sizes { count, bins, inner, used, length, frames, signal, step } = *self;
        [count, bins, inner, used, length, frames, signal, step].map(|v| v as u32).to_vec()
    }
}

/// Tensors: signal, table of roots, window if there is one, the epilogue's, output. Params: those of [`Sizes`], `scale`
/// (bits), the epilogue's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Dft {
    pub(crate) transform: Transform,
    pub(crate) epilogue: Fused,
}

impl Spec for Dft {
    fn label(&self) -> String {
        if self.transform.inverse { "inverse_dft".into() } else { "dft".into() }
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::read("x", "f32"), Slot::read("roots", "f32")];
        slots.extend(self.transform.window.then(|| Slot::read("weights", "f32")));
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        let own = ["count", "bins", "inner", "used", "length", "frames", "signal", "step", "scale"];
        own.map(String::from).into_iter().chain(self.epilogue.params("e")).collect()
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let Transform { complex, real_output, inverse, window } = self.transform;
        let context = context!(workgroup => WORKGROUP, complex, real_output, inverse, window);
        self.epilogue.function("finish", "e", used) + &template::render("dft", context)
    }
}
