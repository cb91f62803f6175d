//! RoiAlign: an invocation computes one bin of one region and channel.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::gather::WORKGROUP;
use super::{Slot, Spec, element, template};

/// Tensors: image, regions, batch indices, the epilogue's, output. Params: `count`, the image's sizes (`batches`, `channels`,
/// `height`, `width`), the output's (`rows`, `columns`), `samples` along each side of a bin (0: as many as the bin has
/// elements), `most` (the limit of that number), `scale` (bits), the epilogue's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RoiAlign {
    /// float32 or float64.
    pub(crate) scalar: Scalar,
    pub(crate) max: bool,
    pub(crate) half_pixel: bool,
    pub(crate) epilogue: Fused,
}

impl Spec for RoiAlign {
    fn label(&self) -> String {
        "roi_align".into()
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![
            Slot::read("x", self.scalar),
            Slot::read("regions", self.scalar),
            Slot::read("batch", Scalar::I32),
        ];
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        let own = [
            "count", "batches", "channels", "height", "width", "rows", "columns", "samples", "most", "scale",
        ];
        own.map(String::from).into_iter().chain(self.epilogue.params("e")).collect()
    }

    fn reports(&self) -> bool {
        true
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        used.insert("checked_index");
        let (max, half_pixel) = (self.max, self.half_pixel);
        let word = self.scalar.word();
        let context = context!(workgroup => WORKGROUP, max, half_pixel, word);
        self.epilogue.function("finish", "e", used) + &template::render("roi_align", context)
    }
}
