//! Inverses by elimination: an invocation eliminates one matrix, then another solves for one column of its inverse.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::gather::WORKGROUP;
use super::{Slot, Spec, template};

/// One step; `scalar` is float32 or float64.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Inverse {
    /// Tensors: the matrices, which become the factors of their rows and what these leave; for each row the number of the row
    /// that it was. Params: `count` (matrices), `n` (their size), and the columns `first..last` that this call eliminates;
    /// earlier calls have eliminated the columns before `first`.
    Eliminate { scalar: Scalar },
    /// Tensors: those two, the inverses. Params: `count` (matrices x columns), `n`.
    Solve { scalar: Scalar },
}

impl Spec for Inverse {
    fn label(&self) -> String {
        match self {
            Inverse::Eliminate { .. } => "inverse_eliminate",
            Inverse::Solve { .. } => "inverse_solve",
        }
        .into()
    }

    fn slots(&self) -> Vec<Slot> {
        match self {
            Inverse::Eliminate { scalar } => {
                vec![Slot::write("m", *scalar), Slot::write("places", Scalar::U32)]
            }
            Inverse::Solve { scalar } => {
                vec![Slot::read("m", *scalar), Slot::read("places", Scalar::U32), Slot::write("y", *scalar)]
            }
        }
    }

    fn params(&self) -> Vec<String> {
        let names: &[&str] = match self {
            Inverse::Eliminate { .. } => &["count", "n", "first", "last"],
            Inverse::Solve { .. } => &["count", "n"],
        };
        names.iter().map(|name| name.to_string()).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, _used: &mut BTreeSet<&'static str>) -> String {
        let (solve, scalar) = match self {
            Inverse::Eliminate { scalar } => (false, *scalar),
            Inverse::Solve { scalar } => (true, *scalar),
        };
        template::render("inverse", context!(workgroup => WORKGROUP, solve, word => scalar.word()))
    }
}
