//! Gathers: elements and slices at indices that lie in memory. A negative index counts from the end. An index that is out of
//! range is reported, and the nearest valid one is taken in its place.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Slot, Spec, template};

/// Invocations per workgroup.
pub(crate) const WORKGROUP: usize = 64;

/// Workgroups for `count` elements.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(WORKGROUP)
}

/// Copies slices of `inner` elements that tuples of indices name: `y[b][n] = x[b][tuple n]`. Tensors: data, indices, output.
/// Params: `count` (elements written), `inner`, `entries` (tuples for each `b`), then the size of each axis that is indexed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gather {
    /// Indices in a tuple.
    pub(crate) tuple: usize,
    /// Whether each `b` has its own tuples.
    pub(crate) batched: bool,
}

impl Spec for Gather {
    fn label(&self) -> String {
        format!("gather{}", self.tuple)
    }

    fn slots(&self) -> Vec<Slot> {
        vec![Slot::read("x", Scalar::U32), Slot::read("indices", Scalar::I32), Slot::write("y", Scalar::U32)]
    }

    fn params(&self) -> Vec<String> {
        let own = ["count", "inner", "entries"].map(String::from);
        own.into_iter().chain((0..self.tuple).map(|j| format!("size{j}"))).collect()
    }

    fn reports(&self) -> bool {
        true
    }

    fn takes_f64(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        used.insert("checked_index");
        let context = context!(workgroup => WORKGROUP, tuple => self.tuple, batched => self.batched);
        template::render("gather", context)
    }
}
