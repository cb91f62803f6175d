//! ReverseSequence: the first elements of each sequence of a batch are written backward.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Kernel, Slot, Spec, each, template};

pub(crate) use super::each::groups;

/// Tensors: source, lengths, destination. Params: `count`, `rows` and `columns` (sizes of the two outermost axes), `inner`
/// (elements at one place of these axes).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReverseSequence {
    /// Whether the outermost axis is time; else the second is.
    pub(crate) time_first: bool,
    /// Whether an invocation stores neighbours together.
    pub(crate) runs: bool,
}

impl Spec for ReverseSequence {
    fn label(&self) -> String {
        "reverse_sequence".into()
    }

    fn slots(&self) -> Vec<Slot> {
        vec![
            Slot::read("x", Scalar::U32),
            Slot::read("lengths", Scalar::I32),
            Slot::write("y", each::stored(Scalar::U32, self.runs)),
        ]
    }

    fn in_runs(&self) -> Option<Kernel> {
        Some(ReverseSequence { runs: true, ..self.clone() }.into())
    }

    fn params(&self) -> Vec<String> {
        ["count", "rows", "columns", "inner"].map(String::from).to_vec()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, _used: &mut BTreeSet<&'static str>) -> String {
        let code = template::render(
            "reverse_sequence",
            context!(store => each::store(self.runs), time_first => self.time_first),
        );
        each::kernel("u32", self.runs, &code)
    }
}
