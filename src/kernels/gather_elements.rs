//! GatherElements: every element has an index of its own along one axis.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Kernel, Slot, Spec, each, template};

/// Copies elements: element `(i0, i1, ...)` of the result is the data's element at the same coordinates, except that the
/// coordinate along `axis` is the index at `(i0, i1, ...)`. Tensors: data, indices, output. Params: `count`, `length` (the
/// data's size along `axis`), then the result's `size` and the data's `stride` of each dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GatherElements {
    pub(crate) rank: usize,
    pub(crate) axis: usize,
    /// Whether an invocation stores neighbours together.
    pub(crate) runs: bool,
}

impl Spec for GatherElements {
    fn label(&self) -> String {
        format!("gather_elements{}d", self.rank)
    }

    fn slots(&self) -> Vec<Slot> {
        vec![
            Slot::read("x", Scalar::U32),
            Slot::read("indices", Scalar::I32),
            Slot::write("y", each::stored(Scalar::U32, self.runs)),
        ]
    }

    fn in_runs(&self) -> Option<Kernel> {
        Some(GatherElements { runs: true, ..self.clone() }.into())
    }

    fn params(&self) -> Vec<String> {
        let dims = (0..self.rank).flat_map(|d| [format!("size{d}"), format!("stride{d}")]);
        ["count", "length"].map(String::from).into_iter().chain(dims).collect()
    }

    fn reports(&self) -> bool {
        true
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        used.insert("checked_index");
        let code = template::render(
            "gather_elements",
            context!(store => each::store(self.runs), rank => self.rank, axis => self.axis),
        );
        each::kernel("u32", self.runs, &code)
    }
}
