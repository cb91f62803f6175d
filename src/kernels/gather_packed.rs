//! Gathers rows of a matrix whose elements lie in the order that another kernel wants. As in [`super::gather`], an index that is
//! out of range is reported, and the nearest valid one is taken in its place.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Kernel, Slot, Spec, each, template};

/// Copies rows: `y[n] = x[indices[n]]`. The element in row `r` and column `c` lies at the sum of digits, which are `r / step %
/// size * stride`, or the same of `c`. Tensors: the matrix, indices, output. Params: `count` (elements written), `inner`
/// (columns), `rows`, then `step`, `size` and `stride` of each digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GatherPacked {
    /// For each digit whether it is one of the row.
    pub(crate) of_rows: Vec<bool>,
    /// Whether an invocation stores neighbours together.
    pub(crate) runs: bool,
}

impl Spec for GatherPacked {
    fn label(&self) -> String {
        "gather_packed".into()
    }

    fn slots(&self) -> Vec<Slot> {
        vec![
            Slot::read("x", Scalar::U32),
            Slot::read("indices", Scalar::I32),
            Slot::write("y", each::stored(Scalar::U32, self.runs)),
        ]
    }

    fn in_runs(&self) -> Option<Kernel> {
        Some(GatherPacked { runs: true, ..self.clone() }.into())
    }

    fn params(&self) -> Vec<String> {
        let own = ["count", "inner", "rows"].map(String::from);
        let digits =
            (0..self.of_rows.len()).flat_map(|d| ["step", "size", "stride"].map(|name| format!("{name}{d}")));
        own.into_iter().chain(digits).collect()
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
            "gather_packed",
            context!(store => each::store(self.runs), of_rows => self.of_rows),
        );
        each::kernel("u32", self.runs, &code)
    }
}
