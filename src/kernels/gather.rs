//! Gathers: elements and slices at indices that lie in memory. A negative index counts from the end. An index that is out of
//! range is reported, and the nearest valid one is taken in its place.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Kernel, Slot, Spec, each, template};

pub(crate) use super::each::{WORKGROUP, groups};

/// Copies slices of `inner` elements that tuples of indices name: `y[b][n] = x[b][tuple n]`. Tensors: data, indices, output.
/// Params: `count` (elements written), `inner`, `entries` (tuples for each `b`), then the size of each axis that is indexed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gather {
    /// Indices in a tuple.
    pub(crate) tuple: usize,
    /// Whether each `b` has its own tuples.
    pub(crate) batched: bool,
    /// Whether an invocation stores neighbours together.
    pub(crate) runs: bool,
}

impl Spec for Gather {
    fn label(&self) -> String {
        format!("gather{}", self.tuple)
    }

    fn slots(&self) -> Vec<Slot> {
        vec![
            Slot::read("x", Scalar::U32),
            Slot::read("indices", Scalar::I32),
            Slot::write("y", each::stored(Scalar::U32, self.runs)),
        ]
    }

    fn in_runs(&self) -> Option<Kernel> {
        Some(Gather { runs: true, ..self.clone() }.into())
    }

    fn params(&self) -> Vec<String> {
        let own = ["count", "inner", "entries"].map(String::from);
        own.into_iter().chain((0..self.tuple).map(|j| format!("size{j}"))).collect()
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
            "gather",
            context!(store => each::store(self.runs), tuple => self.tuple, batched => self.batched),
        );
        each::kernel("u32", self.runs, &code)
    }
}
