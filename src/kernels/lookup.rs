//! Tables: an invocation looks for an element among sorted keys.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::gather::WORKGROUP;
use super::{Slot, Spec, element, template};

/// `y[i]` is the value that belongs to the key `x[i]`. Tensors: x, the table (keys, values, the value for all others), y.
/// Params: `count`, `keys`. The keys of floats are whole numbers in the same order, and that of NaN is the greatest. Keys and
/// values of float64 take two words each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lookup {
    pub(crate) from: Scalar,
    pub(crate) to: Scalar,
}

impl Spec for Lookup {
    fn label(&self) -> String {
        "lookup".into()
    }

    fn slots(&self) -> Vec<Slot> {
        vec![
            Slot::read("x", element(self.from, false)),
            Slot::read("table", Scalar::U32),
            Slot::write("y", element(self.to, false)),
        ]
    }

    fn params(&self) -> Vec<String> {
        ["count", "keys"].map(String::from).into()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let double = self.from == Scalar::F64;
        if double {
            used.extend(["i64_of_words", "order_key_f64"]);
        } else {
            used.insert("is_nan");
        }
        if self.to == Scalar::F64 {
            used.insert("f64_of_words");
        }
        let context = context!(workgroup => WORKGROUP, from => self.from.word(), to => self.to.word());
        template::render("find", context!(double)) + &template::render("lookup", context)
    }
}
