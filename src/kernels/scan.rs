//! Scans along one axis: running sums and products. An invocation walks through one row, or through one part of a row.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Kernel, Slot, Spec, element, template};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// One scan of a tensor seen as (outer, length, inner), with each row along the middle cut into parts. Tensors: the input;
/// with `carry`, the total before each part, (outer, parts, inner); the epilogue's; the result. Params: `count` (outer x parts
/// x inner), `length`, `inner`, `parts`, `span` (elements of a part), then the epilogue's. A row of 1,000 elements in parts of
/// 256 has 4 parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scan {
    pub(crate) scalar: Scalar,
    pub(crate) product: bool,
    /// Whether the scan runs from the last element to the first.
    pub(crate) reverse: bool,
    /// Whether an element's result leaves out the element itself.
    pub(crate) exclusive: bool,
    pub(crate) carry: bool,
    /// Whether the elements are 64-bit integers: the kernel then reports totals that do not fit 32 bits.
    pub(crate) wide: bool,
    /// `None`: the result is the total of each part, (outer, parts, inner).
    pub(crate) epilogue: Option<Fused>,
    /// Whether the result is written to the input's memory.
    pub(crate) in_place: bool,
}

/// Workgroups for `count` parts of rows.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(WORKGROUP)
}

impl Scan {
    fn result(&self) -> Scalar {
        let scalars = self.epilogue.as_ref().map(|epilogue| epilogue.expr.output_scalars());
        scalars.and_then(|scalars| scalars.first().copied()).unwrap_or(self.scalar)
    }
}

impl Spec for Scan {
    fn label(&self) -> String {
        format!("scan_{}", if self.product { "product" } else { "sum" })
    }

    fn slots(&self) -> Vec<Slot> {
        let word = |scalar| element(scalar, false);
        let mut slots = vec![Slot { name: "x".into(), element: word(self.scalar), written: self.in_place }];
        slots.extend(self.carry.then(|| Slot::read("before", word(self.scalar))));
        let operands = self.epilogue.iter().flat_map(|epilogue| epilogue.bound());
        slots.extend(operands.map(|(i, o)| Slot::read(format!("e{i}"), word(o.scalar))));
        slots.extend((!self.in_place).then(|| Slot::write("y", word(self.result()))));
        slots
    }

    fn params(&self) -> Vec<String> {
        let mut names: Vec<String> = ["count", "length", "inner", "parts", "span"].map(String::from).into();
        names.extend(self.epilogue.iter().flat_map(|epilogue| epilogue.params("e")));
        names
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let epilogue = self.epilogue.as_ref().map(|epilogue| epilogue.function("epilogue", "e", used));
        let combine = match (self.scalar.sums(self.wide), self.product) {
            (None, false) => "total + own".into(),
            (None, true) => "total * own".into(),
            (Some([add, multiply]), product) => {
                let function = if product { multiply } else { add };
                used.insert(function);
                format!("{function}(total, own)")
            }
        };
        let first = u8::from(self.product);
        let identity = match self.scalar.is_wide_integer() {
            true => format!("vec2<u32>({first}u, 0u)"),
            false => format!("{}({first})", self.scalar.word()),
        };
        let context = context!(
            workgroup => WORKGROUP,
            identity => identity,
            combine => combine,
            reverse => self.reverse,
            exclusive => self.exclusive,
            carry => self.carry,
            totals => self.epilogue.is_none(),
            output => if self.in_place { "x" } else { "y" },
        );
        epilogue.unwrap_or_default() + &template::render("scan", context)
    }

    fn reports(&self) -> bool {
        self.wide
    }

    fn in_place(&self, slot: usize) -> Option<Kernel> {
        let same = self.epilogue.is_some() && self.result().word() == self.scalar.word();
        let fits = slot == 0 && !self.in_place && same;
        fits.then(|| Scan { in_place: true, ..self.clone() }.into())
    }
}
