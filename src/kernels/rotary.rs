//! Rotary embedding: pairs of channels of each head are turned by the angle of their position.

use crate::error::Why;
use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Slot, Spec, template};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// Tensors: the input, cosines, sines, the positions' numbers (i32) if `ids`, the epilogue's, the result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rotary {
    /// Whether the channels of a pair are neighbours; else a pair is channel `i` of the first half and channel `i` of the
    /// second.
    pub(crate) interleaved: bool,
    /// Whether `ids` say which row of the caches belongs to a position; else the caches have a row for each position of each
    /// batch.
    pub(crate) ids: bool,
    pub(crate) epilogue: Fused,
}

/// The params of a call, before the epilogue's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RotaryParams {
    /// Elements of the input, elements of one batch, and elements that lie within one position (of the axes inside it).
    pub(crate) count: usize,
    pub(crate) batch: usize,
    pub(crate) inner: usize,
    pub(crate) positions: usize,
    /// Channels of a head, and the number of pairs that are turned.
    pub(crate) depth: usize,
    pub(crate) half: usize,
}

impl RotaryParams {
    pub(crate) fn words(&self) -> Result<Vec<u32>, Why> {
        let words = [self.count, self.batch, self.inner, self.positions, self.depth, self.half];
        super::words(words)
    }

    pub(crate) fn groups(&self) -> usize {
        self.count.div_ceil(WORKGROUP)
    }
}

impl Spec for Rotary {
    fn label(&self) -> String {
        "rotary".into()
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![
            Slot::read("x", Scalar::F32),
            Slot::read("cosines", Scalar::F32),
            Slot::read("sines", Scalar::F32),
        ];
        if self.ids {
            slots.push(Slot::read("ids", Scalar::I32));
        }
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", self.epilogue.output()));
        slots
    }

    fn params(&self) -> Vec<String> {
        let own = ["count", "batch", "inner", "positions", "depth", "half"].map(String::from);
        own.into_iter().chain(self.epilogue.params("e")).collect()
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let context = context!(workgroup => WORKGROUP, interleaved => self.interleaved, ids => self.ids);
        self.epilogue.function("epilogue", "e", used) + "\n" + &template::render("rotary", context)
    }
}
