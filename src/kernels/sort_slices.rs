//! Sorts the slices of a tensor along one axis: blocks by comparing all pairs, and sorted runs are then merged two by two. Equal
//! slices keep their order. Long slices are compared a part at a time, the last part first, as each sort keeps what the one before
//! has found for slices that are equal in its own part.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Slot, Spec, element, template};

/// Slices of a block, and invocations per workgroup.
pub(crate) const BLOCK: usize = 64;

/// One step, for the elements `first` to `last` of each slice. The tensor is (outer, size, inner), and has `size` slices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SortSlices {
    pub(crate) scalar: Scalar,
    pub(crate) step: SortStep,
}

/// The steps. Params of all: `size`, `inner`, `first`, `last`; of `Merge` also `run`, the slices of each run but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SortStep {
    /// Sorts blocks, one workgroup each. Tensors: the input, the order so far (if `ordered`), the new order.
    Block { ordered: bool },
    /// Merges neighbouring runs. Tensors: the input, the order so far, the new order.
    Merge,
    /// Finds where slices begin that differ from those before them. Tensors: the input, the order, a 1 for each beginning and
    /// else 0. Where `ordered`, the ones of other parts of the slices are there already.
    Starts { ordered: bool },
}

impl Spec for SortSlices {
    fn label(&self) -> String {
        match self.step {
            SortStep::Block { .. } => "sort_slices_block",
            SortStep::Merge => "sort_slices_merge",
            SortStep::Starts { .. } => "sort_slices_starts",
        }
        .into()
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::read("x", element(self.scalar, false))];
        let before = Slot::read("before", Scalar::I32);
        match self.step {
            SortStep::Block { ordered: false } => slots.push(Slot::write("order", Scalar::I32)),
            SortStep::Block { .. } | SortStep::Merge => {
                slots.extend([before, Slot::write("order", Scalar::I32)]);
            }
            SortStep::Starts { .. } => {
                slots.extend([Slot::read("order", Scalar::I32), Slot::write("starts", Scalar::I32)]);
            }
        }
        slots
    }

    fn params(&self) -> Vec<String> {
        let run = (self.step == SortStep::Merge).then_some("run");
        ["size", "inner", "first", "last"].into_iter().chain(run).map(String::from).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let (step, ordered) = match self.step {
            SortStep::Block { ordered } => ("block", ordered),
            SortStep::Merge => ("merge", true),
            SortStep::Starts { ordered } => ("starts", ordered),
        };
        let (word, wide) = (self.scalar.word(), self.scalar.is_wide());
        match self.scalar {
            Scalar::F32 => used.extend(["is_nan"]),
            Scalar::F64 => used.extend(["order_key_f64", "pair_of_u64"]),
            _ => {}
        }
        if wide {
            used.extend(["less_u64", "equal_64"]);
        }
        let signed = matches!(self.scalar, Scalar::I32 | Scalar::I64);
        template::render("sort_slices", context!(step, ordered, block => BLOCK, word, wide, signed))
    }
}
