//! Sums of products over any loops: an invocation computes one result, and walks through the terms of its sum.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Slot, Spec, element, template};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// `y[o] = epilogue(sum over all terms of the product of the operands)`. Tensors: the operands, the epilogue's, y. Params:
/// `count`, the sum's terms `first..last`, then for each outer and each inner axis its size and its step in each operand.
///
/// An example: the einsum `ij,jk->ik` of `[2, 3]` and `[3, 4]` has the outer axes `i` (size 2, steps 3 and 0) and `k` (size 4,
/// steps 0 and 1), and the inner axis `j` (size 3, steps 1 and 4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Contract {
    pub(crate) scalar: Scalar,
    pub(crate) operands: usize,
    /// Axes of the result.
    pub(crate) outer: usize,
    /// Axes that are summed over.
    pub(crate) inner: usize,
    /// Whether the elements are 64-bit integers: the kernel then reports a sum or a product that does not fit 32 bits.
    pub(crate) wide: bool,
    pub(crate) epilogue: Fused,
}

/// Workgroups for `count` results.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(WORKGROUP)
}

impl Spec for Contract {
    fn label(&self) -> String {
        format!("contract{}", self.operands)
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> =
            (0..self.operands).map(|i| Slot::read(format!("x{i}"), element(self.scalar, false))).collect();
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        let axes = |kind: &'static str, count: usize| {
            (0..count).flat_map(move |d| {
                let steps = (0..self.operands).map(move |i| format!("{kind}_step{d}_{i}"));
                std::iter::once(format!("{kind}_size{d}")).chain(steps)
            })
        };
        let fixed = ["count", "first", "last"].map(String::from).into_iter();
        fixed
            .chain(axes("outer", self.outer))
            .chain(axes("inner", self.inner))
            .chain(self.epilogue.params("e"))
            .collect()
    }

    fn reports(&self) -> bool {
        self.wide || self.epilogue.expr.reports()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let context = context!(
            workgroup => WORKGROUP, operands => self.operands, outer => self.outer, inner => self.inner,
            word => self.scalar.word(), sums => self.scalar.sums(self.wide),
        );
        used.extend(self.scalar.sums(self.wide).into_iter().flatten());
        self.epilogue.function("epilogue", "e", used) + &template::render("contract", context)
    }
}
