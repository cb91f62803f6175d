//! TensorScatter: an invocation copies one word of the update into a cache, in place.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::gather::WORKGROUP;
use super::{Slot, Spec, template};

/// Tensors: update, write indices if `indexed`, cache. Params: `count` (elements of the update), `inner` (elements of an entry),
/// `entries` (of the update), `length` (entries of the cache), `heads` (rows of entries in a batch).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TensorScatter {
    pub(crate) indexed: bool,
    pub(crate) circular: bool,
}

impl Spec for TensorScatter {
    fn label(&self) -> String {
        "tensor_scatter".into()
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::read("x", Scalar::U32)];
        slots.extend(self.indexed.then(|| Slot::read("first", Scalar::I32)));
        slots.push(Slot::write("y", Scalar::U32));
        slots
    }

    fn params(&self) -> Vec<String> {
        ["count", "inner", "entries", "length", "heads"].map(String::from).to_vec()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        if self.circular {
            used.insert("rem_floor_i32");
        }
        template::render(
            "tensor_scatter",
            context!(workgroup => WORKGROUP, indexed => self.indexed, circular => self.circular),
        )
    }
}
