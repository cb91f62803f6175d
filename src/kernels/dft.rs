//! Fourier transforms, with one pass for each factor of the length (decimation in frequency, in Stockham's order, which needs
//! no bit reversal). A pass of radix `r` computes each result as a sum of `r` terms. A prime length takes one pass, which is
//! the definition of the transform. 1,000 elements take four passes, of radix 5, 5, 5 and 8.

use crate::error::Why;
use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::gather::WORKGROUP;
use super::{Slot, Spec, element, template};

/// What a pass reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Signal {
    Real,
    Complex,
    /// The first half of a spectrum; the other half is its mirror image.
    Half,
}

/// What a pass writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bins {
    /// Complex numbers for the next pass, multiplied by the roots that it wants.
    Turned,
    Complex,
    Real,
}

/// Sizes of a pass. Result `(outer, j, inner)` adds up the elements `start + n * inner` of the signal, where `start = outer /
/// frames * signal + outer % frames * step + inner`. A signal of 400 elements in frames of 100 that begin every 50 elements
/// has `frames` 7, `signal` 400 and `step` 50.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassSizes {
    /// Results in all.
    pub(crate) count: usize,
    /// Results along the axis.
    pub(crate) bins: usize,
    pub(crate) inner: usize,
    /// Elements that the signal has along the axis; the transform takes zeros for the elements beyond.
    pub(crate) used: usize,
    /// The transform's period, which is the number of roots in the table.
    pub(crate) length: usize,
    pub(crate) frames: usize,
    pub(crate) signal: usize,
    pub(crate) step: usize,
    /// Terms of one result; a divisor of `length`.
    pub(crate) radix: usize,
    /// The product of the radices of earlier passes.
    pub(crate) stride: usize,
}

impl PassSizes {
    pub(crate) fn words(&self) -> Result<Vec<u32>, Why> {
        let PassSizes { count, bins, inner, used, length, frames, signal, step, radix, stride } = *self;
        super::words([count, bins, inner, used, length, frames, signal, step, radix, stride])
    }
}

/// The radices of a transform's passes: odd primes, then eights and fours while they divide the rest, then a two. The inverse
/// takes them in the opposite order, as undoing the passes would. (For 10 elements, ONNX's suite expects of the transform
/// exact zeros, and of the inverse the rounding of a pass of radix 2 before a pass of radix 5: these orders round alike.)
pub(crate) fn radices(length: usize, inverse: bool) -> Vec<usize> {
    let mut radices = Vec::new();
    let mut rest = length.max(1);
    let even = 1 << rest.trailing_zeros();
    rest /= even;
    let mut prime = 3;
    while prime * prime <= rest {
        if rest.is_multiple_of(prime) {
            radices.push(prime);
            rest /= prime;
        } else {
            prime += 2;
        }
    }
    if rest > 1 {
        radices.push(rest);
    }
    rest = even;
    for radix in [8, 4, 2] {
        while rest.is_multiple_of(radix) {
            radices.push(radix);
            rest /= radix;
        }
    }
    if radices.is_empty() {
        radices.push(1);
    }
    if inverse {
        radices.reverse();
    }
    radices
}

/// Tensors: signal, table of roots, weights of a frame's elements if there are any, the epilogue's, output. Params: those of
/// [`PassSizes`], `scale` (bits of float32; of float64 there is `scale_high` too), the epilogue's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Dft {
    /// float32 or float64.
    pub(crate) scalar: Scalar,
    pub(crate) signal: Signal,
    pub(crate) weighted: bool,
    pub(crate) bins: Bins,
    pub(crate) inverse: bool,
    pub(crate) epilogue: Fused,
}

impl Spec for Dft {
    fn label(&self) -> String {
        if self.inverse { "inverse_dft".into() } else { "dft".into() }
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::read("x", self.scalar), Slot::read("roots", self.scalar)];
        slots.extend(self.weighted.then(|| Slot::read("weights", self.scalar)));
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        let own = [
            "count", "bins", "inner", "used", "length", "frames", "signal", "step", "radix", "stride",
            "scale",
        ];
        let high = (self.scalar == Scalar::F64).then(|| "scale_high".to_string());
        own.map(String::from).into_iter().chain(high).chain(self.epilogue.params("e")).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        if self.scalar == Scalar::F64 {
            used.insert("f64_of_words");
        }
        let context = context!(
            workgroup => WORKGROUP,
            word => self.scalar.word(),
            real => self.signal == Signal::Real,
            half => self.signal == Signal::Half,
            weighted => self.weighted,
            turned => self.bins == Bins::Turned,
            real_output => self.bins == Bins::Real,
            inverse => self.inverse,
        );
        self.epilogue.function("finish", "e", used) + &template::render("dft", context)
    }
}

#[cfg(test)]
mod tests {
    use super::radices;

    #[test]
    fn radices_make_the_length() {
        assert_eq!(radices(1, false), [1]);
        assert_eq!(radices(10, false), [5, 2]);
        assert_eq!(radices(10, true), [2, 5]);
        assert_eq!(radices(400, false), [5, 5, 8, 2]);
        assert_eq!(radices(512, true), [8, 8, 8]);
        assert_eq!(radices(251, false), [251]);
        for length in 1..3000 {
            assert_eq!(radices(length, length % 2 == 0).iter().product::<usize>(), length);
        }
    }
}
