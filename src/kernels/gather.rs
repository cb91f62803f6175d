//! Gathers: elements and slices at indices that lie in memory. A negative index counts from the end. An index that is out of
//! range is reported, and the nearest valid one is taken in its place.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Kernel, Slot, Spec, each, template};

pub(crate) use super::each::{WORKGROUP, groups};

/// Copies slices of `inner` elements that tuples of indices name: `y[b][n] = x[b][tuple n]`. Tensors: data, indices, output.
/// Params: `count` (elements written), `inner`, `entries` (tuples for each `b`), then the size of each axis that is indexed, and
/// `step`, `size` and `stride` of each digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gather {
    /// Indices in a tuple.
    pub(crate) tuple: usize,
    /// Whether each `b` has its own tuples.
    pub(crate) batched: bool,
    /// Where element `e` of slice `s` lies, if the data are in the order of another kernel: at the sum of digits, which are
    /// `s / step % size * stride` where this is true, and the same of `e` where not. Empty: the slices lie one after the other.
    pub(crate) digits: Vec<bool>,
    /// Whether an invocation stores neighbours together.
    pub(crate) runs: bool,
}

impl Gather {
    pub(crate) fn new(tuple: usize, batched: bool) -> Gather {
        Gather { tuple, batched, digits: Vec::new(), runs: false }
    }
}

impl Spec for Gather {
    fn label(&self) -> String {
        format!("gather{}{}", self.tuple, if self.digits.is_empty() { "" } else { "_packed" })
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
        let sizes = (0..self.tuple).map(|j| format!("size{j}"));
        let digit = |d: usize| ["step", "size", "stride"].map(|name| format!("digit{d}_{name}"));
        own.into_iter().chain(sizes).chain((0..self.digits.len()).flat_map(digit)).collect()
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
            context!(
                store => each::store(self.runs), tuple => self.tuple, batched => self.batched, digits => self.digits,
            ),
        );
        each::kernel("u32", self.runs, &code)
    }
}
