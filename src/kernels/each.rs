//! Kernels whose invocations compute elements of `y` one by one: one entry point for all of them.

use minijinja::context;

use super::expr::Scalar;
use super::{SlotElement, element, template};

/// Invocations per workgroup, where each computes one element.
pub(crate) const WORKGROUP: usize = 64;

/// Workgroups for `count` elements.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(WORKGROUP)
}

/// What is stored to `y` at once. In `runs`, an invocation computes four neighbours, and a workgroup has a quarter of the
/// invocations.
pub(super) fn stored(scalar: Scalar, runs: bool) -> SlotElement {
    element(scalar, runs)
}

/// Invocations per workgroup.
pub(super) fn workgroup(runs: bool) -> usize {
    if runs { WORKGROUP / 4 } else { WORKGROUP }
}

/// What becomes of an element's value at the end of `code`.
pub(super) fn store(runs: bool) -> &'static str {
    if runs { "return" } else { "y[o] =" }
}

/// The kernel of `code`, which computes element `o`, of type `word`, and ends with [`store`].
pub(super) fn kernel(word: &str, runs: bool, code: &str) -> String {
    template::render("each", context!(workgroup => workgroup(runs), word, runs, code))
}
