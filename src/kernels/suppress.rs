//! Non-maximum suppression: a workgroup goes through the boxes of one class, the best first, a block at a time. Each invocation
//! compares a box with all that are kept so far, and with the earlier ones of its block; one invocation then decides the block.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Slot, Spec, template};

/// Boxes of a block, and invocations per workgroup. The overlaps of a block are bits of two words.
pub(crate) const LANES: usize = 64;

/// Some blocks of each row; a row is a class of a batch. Tensors: boxes, scores, the order of each row's boxes, the greatest
/// share of two boxes' union that their intersection may have (if `iou`; otherwise 0), the score that boxes exceed (if `least`),
/// the boxes that are kept, the number of these. Params: `rows`, `classes` (rows of a batch), `boxes` (of a row), `limit` (boxes
/// of a row that are kept at most), `first` and `last` (of the blocks, without `last`). Calls for later blocks go on with what
/// earlier calls kept. The kernel reports an `iou` outside of 0 to 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Suppress {
    /// Whether a box is its middle and its size, and not two opposite corners.
    pub(crate) center: bool,
    pub(crate) iou: bool,
    pub(crate) least: bool,
}

/// The most iterations of an invocation for a block that begins when `kept` boxes are kept.
pub(crate) fn iterations(kept: usize) -> usize {
    1 + kept + 2 * LANES
}

impl Spec for Suppress {
    fn label(&self) -> String {
        "suppress".into()
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![
            Slot::read("boxes", Scalar::F32),
            Slot::read("scores", Scalar::F32),
            Slot::read("order", Scalar::U32),
        ];
        slots.extend(self.iou.then(|| Slot::read("iou", Scalar::F32)));
        slots.extend(self.least.then(|| Slot::read("least", Scalar::F32)));
        slots.extend([Slot::write("kept", Scalar::I32), Slot::write("counts", Scalar::U32)]);
        slots
    }

    fn params(&self) -> Vec<String> {
        ["rows", "classes", "boxes", "limit", "first", "last"].map(String::from).to_vec()
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        used.extend(["divide", "is_nan"]);
        if self.iou {
            used.insert("report");
        }
        let Suppress { center, iou, least } = *self;
        template::render("suppress", context!(lanes => LANES, center, iou, least))
    }

    fn reports(&self) -> bool {
        self.iou
    }
}
