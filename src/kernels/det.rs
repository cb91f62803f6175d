//! Determinants by elimination: an invocation eliminates one matrix.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::gather::WORKGROUP;
use super::{Slot, Spec, template};

/// Tensors: the matrices, which are overwritten, and the determinants. Params: `count` (matrices), `n` (their size), and the
/// columns `first..last` that this call eliminates; earlier calls have eliminated the columns before `first`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Det {
    /// float32 or float64.
    pub(crate) scalar: Scalar,
}

impl Spec for Det {
    fn label(&self) -> String {
        "det".into()
    }

    fn slots(&self) -> Vec<Slot> {
        vec![Slot::write("m", self.scalar), Slot::write("y", self.scalar)]
    }

    fn params(&self) -> Vec<String> {
        ["count", "n", "first", "last"].map(String::from).into()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, _used: &mut BTreeSet<&'static str>) -> String {
        template::render("det", context!(workgroup => WORKGROUP, word => self.scalar.word()))
    }
}
