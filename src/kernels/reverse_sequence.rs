//! ReverseSequence: the first elements of each sequence of a batch are written backward.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Slot, Spec, template};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// Tensors: source, lengths, destination. Params: `count`, `rows` and `columns` (sizes of the two outermost axes), `inner`
/// (elements at one place of these axes).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReverseSequence {
    /// Whether the outermost axis is time; else the second is.
    pub(crate) time_first: bool,
}

/// Workgroups for `count` elements.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(WORKGROUP)
}

impl Spec for ReverseSequence {
    fn label(&self) -> String {
        "reverse_sequence".into()
    }

    fn slots(&self) -> Vec<Slot> {
        vec![Slot::read("x", Scalar::U32), Slot::read("lengths", Scalar::I32), Slot::write("y", Scalar::U32)]
    }

    fn params(&self) -> Vec<String> {
        ["count", "rows", "columns", "inner"].map(String::from).to_vec()
    }

    fn takes_f64(&self) -> bool {
        true
    }

    fn body(&self, _used: &mut BTreeSet<&'static str>) -> String {
        template::render("reverse_sequence", context!(workgroup => WORKGROUP, time_first => self.time_first))
    }
}
