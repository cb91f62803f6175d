//! MaxRoiPool: an invocation computes one bin of one region and channel.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::gather::WORKGROUP;
use super::{Slot, Spec, element, template};

/// Tensors: image, regions, the epilogue's, output. Params: `count`, the image's sizes (`batches`, `channels`, `height`,
/// `width`), the output's (`rows`, `columns`), `scale` (bits), the epilogue's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MaxRoiPool {
    /// float32 or float64.
    pub(crate) scalar: Scalar,
    pub(crate) epilogue: Fused,
}

impl Spec for MaxRoiPool {
    fn label(&self) -> String {
        "max_roi_pool".into()
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::read("x", self.scalar), Slot::read("regions", self.scalar)];
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        let own = ["count", "batches", "channels", "height", "width", "rows", "columns", "scale"];
        own.map(String::from).into_iter().chain(self.epilogue.params("e")).collect()
    }

    fn reports(&self) -> bool {
        true
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let (to_i32, max) = match self.scalar {
            Scalar::F64 => ("f64_to_i32", "max_f64"),
            _ => ("f32_to_i32", "max_full"),
        };
        used.extend(["checked_index", to_i32, max]);
        let function = self.epilogue.function("finish", "e", used);
        let word = self.scalar.word();
        function + &template::render("max_roi_pool", context!(workgroup => WORKGROUP, word, to_i32, max))
    }
}
