//! Ensembles of decision trees: an invocation walks from one root to a leaf, and another collects what the leaves of all trees
//! add to one target.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::gather::WORKGROUP;
use super::reduce::Combine;
use super::{Slot, Spec, element, template};

/// One step of an ensemble. A table has four words for each node; `ops::forest` describes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trees {
    /// Finds the leaf of each row in each tree. Tensors: x, the table, leaves (rows x trees). Params: `count` (rows x trees),
    /// `trees`, `columns` (of x), `roots` (the place of the first tree's root in the table), `depth`.
    Walk { scalar: Scalar, members: bool },
    /// Collects weights of type `scalar`: their sum, least or greatest; -infinity where no leaf has one. Tensors: leaves, the table, what trees
    /// before these collected if it `continues`, y. Params: `count` (rows x targets), `targets`, `trees`, `row_step` and
    /// `target_step` (the distances of rows and targets in y), `weights` (from a weight's target in the table to the weight; see
    /// `ForestTable`).
    Collect { scalar: Scalar, combine: Combine, continues: bool },
}

/// Workgroups for `count` rows of a tree, or of a target.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(WORKGROUP)
}

impl Spec for Trees {
    fn label(&self) -> String {
        match self {
            Trees::Walk { .. } => "trees_walk".into(),
            Trees::Collect { .. } => "trees_collect".into(),
        }
    }

    fn slots(&self) -> Vec<Slot> {
        let table = Slot::read("table", Scalar::U32);
        match self {
            Trees::Walk { scalar, .. } => {
                vec![Slot::read("x", element(*scalar, false)), table, Slot::write("leaves", Scalar::U32)]
            }
            Trees::Collect { scalar, continues, .. } => {
                let mut slots = vec![Slot::read("leaves", Scalar::U32), table];
                slots.extend(continues.then(|| Slot::read("before", *scalar)));
                slots.push(Slot::write("y", *scalar));
                slots
            }
        }
    }

    fn params(&self) -> Vec<String> {
        let names: &[&str] = match self {
            Trees::Walk { .. } => &["count", "trees", "columns", "roots", "depth"],
            Trees::Collect { .. } => &["count", "targets", "trees", "row_step", "target_step", "weights"],
        };
        names.iter().map(|name| name.to_string()).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        used.insert("is_nan");
        let (Trees::Walk { scalar, .. } | Trees::Collect { scalar, .. }) = self;
        let double = *scalar == Scalar::F64;
        if double {
            used.extend(["is_nan_f64", "order_key_f64", "i64_of_words", "f64_of_words", "infinity_f64"]);
        }
        let (step, members, combine, continues) = match self {
            Trees::Walk { members, .. } => ("walk", *members, "", false),
            Trees::Collect { combine, continues, .. } => {
                used.insert("infinity");
                let combine = match combine {
                    Combine::Min => "min",
                    Combine::Max => "max",
                    _ => "sum",
                };
                ("collect", false, combine, *continues)
            }
        };
        let context = context!(workgroup => WORKGROUP, step, double, members, combine, continues);
        template::render("find", context!(double => double && step == "walk"))
            + &template::render("trees", context)
    }
}
