//! Scatters: slices are written where indices in memory say. The result does not depend on the order of invocations: of
//! several updates of one place the last in the list wins. An update whose index is out of range is reported, and not written.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::gather::WORKGROUP;
use super::{Slot, SlotElement, Spec, template};

/// How a row of indices names a place in the data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Destination {
    /// The row is a tuple of this number of indices. Params: the size of each axis that they index.
    Tuple(usize),
    /// Each index has a place of its own: its coordinates, with the one along `axis` replaced by the index. Params: `length`
    /// of the data along the axis, then the indices' `size` and the data's `stride` of each dimension.
    Elements { rank: usize, axis: usize },
}

/// One step of a scatter. `Mark` and then `Apply` write updates; `Locate` is for scatters that reduce, which read the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ScatterStep {
    /// Writes to each place the number of the last row that names it, counted from 1. Tensors: indices, places (zeros before).
    Mark,
    /// Writes the updates of the rows that `Mark` noted. Tensors: indices, places, updates, output.
    Apply,
    /// Writes for each row the place that it names, or the least i32 if there is none. Tensors: indices, places.
    Locate,
}

/// Params: `count` (rows; for `Apply`, elements of updates), `inner` (elements that a row names), then the destination's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scatter {
    pub(crate) step: ScatterStep,
    pub(crate) destination: Destination,
}

impl Spec for Scatter {
    fn label(&self) -> String {
        let step = match self.step {
            ScatterStep::Mark => "mark",
            ScatterStep::Apply => "apply",
            ScatterStep::Locate => "locate",
        };
        format!("scatter_{step}")
    }

    fn slots(&self) -> Vec<Slot> {
        let indices = Slot::read("indices", Scalar::I32);
        match self.step {
            ScatterStep::Mark => vec![indices, Slot::write("places", SlotElement::Atomic)],
            ScatterStep::Locate => vec![indices, Slot::write("places", Scalar::I32)],
            ScatterStep::Apply => {
                vec![
                    indices,
                    Slot::read("places", Scalar::U32),
                    Slot::read("updates", Scalar::U32),
                    Slot::write("y", Scalar::U32),
                ]
            }
        }
    }

    fn params(&self) -> Vec<String> {
        let mut names = vec!["count".to_string(), "inner".to_string()];
        match self.destination {
            Destination::Tuple(tuple) => names.extend((0..tuple).map(|j| format!("size{j}"))),
            Destination::Elements { rank, .. } => {
                names.push("length".into());
                names.extend((0..rank).flat_map(|d| [format!("size{d}"), format!("stride{d}")]));
            }
        }
        names
    }

    fn reports(&self) -> bool {
        self.step != ScatterStep::Apply
    }

    fn takes_wide(&self) -> bool {
        matches!(self.step, ScatterStep::Apply)
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let (tuple, rank, axis) = match self.destination {
            Destination::Tuple(tuple) => (Some(tuple), 0, 0),
            Destination::Elements { rank, axis } => (None, rank, axis),
        };
        let step = match self.step {
            ScatterStep::Mark => "mark",
            ScatterStep::Apply => "apply",
            ScatterStep::Locate => "locate",
        };
        if self.reports() {
            used.insert("report");
        }
        template::render("scatter", context!(workgroup => WORKGROUP, step, tuple, rank, axis))
    }
}
