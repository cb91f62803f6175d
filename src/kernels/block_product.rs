//! Products of few rows with weights of 2, 4 or 8 bits that share scales in blocks along the sum.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Slot, SlotElement, Spec, element, given, template};

/// `y[row][column] = epilogue(sum over k of a[row][k] * scale * (number - zero point))`, where the numbers of a column lie in words
/// one after the other, lowest bits first. Without zero points, half the range of the numbers is subtracted. Tensors: `a` (dense
/// rows of whole vectors), the words, the scales and the zero points (for each column one a block), the epilogue's, y. Params: the
/// columns, the units of a column, and the vectors of a row of `a`.
///
/// An example: columns of 4,096 numbers of 4 bits, in blocks of 32, are 128 units of 4 words. On 8 lanes, a lane adds up 16 units of
/// each of 8 columns, and a unit is a block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockProduct {
    pub(crate) blocks: Blocks,
    pub(crate) epilogue: Fused,
}

/// How the numbers lie, and who adds them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Blocks {
    /// Of a number: 2, 4 or 8.
    pub(crate) bits: usize,
    /// The words of a unit, which an invocation takes at once: 1, 2 or 4.
    pub(crate) words: usize,
    /// The units of a block.
    pub(crate) units: usize,
    /// The type of the zero points' registers.
    pub(crate) zeros: Option<Scalar>,
    pub(crate) share: Sharing,
}

/// Who adds up a sum together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sharing {
    /// The lanes of a subgroup of this known size, which are a workgroup; they compute as many columns.
    Subgroup(usize),
    /// A workgroup, through its memory.
    Workgroup,
}

impl Sharing {
    /// The invocations of a workgroup.
    pub(crate) fn threads(self) -> usize {
        match self {
            Sharing::Subgroup(lanes) => lanes,
            Sharing::Workgroup => 64,
        }
    }

    /// The columns of a workgroup.
    pub(crate) fn columns(self) -> usize {
        match self {
            Sharing::Subgroup(lanes) => lanes,
            Sharing::Workgroup => 4,
        }
    }
}

impl Blocks {
    /// Blocks of `block` numbers; `None` where a block is no whole number of words.
    pub(crate) fn of(bits: usize, block: usize, zeros: Option<Scalar>, share: Sharing) -> Option<Blocks> {
        let size = block * bits;
        let words = [4, 2, 1].into_iter().find(|words| size.is_multiple_of(32 * words))?;
        Some(Blocks { bits, words, units: size / 32 / words, zeros, share })
    }

    /// The terms of a unit.
    pub(crate) fn terms(&self) -> usize {
        self.words * 32 / self.bits
    }
}

impl Spec for BlockProduct {
    fn label(&self) -> String {
        format!("block_product{}", self.blocks.bits)
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![
            Slot::read("a", element(Scalar::F32, true)),
            Slot::read("b", SlotElement::Words(self.blocks.words == 4)),
            Slot::read("scales", element(Scalar::F32, false)),
        ];
        slots.extend(self.blocks.zeros.map(|scalar| Slot::read("zeros", element(scalar, false))));
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        let own = ["n", "units", "a_vectors"].map(String::from).into_iter();
        own.chain(self.epilogue.params("e")).collect()
    }

    fn reports(&self) -> bool {
        self.epilogue.expr.reports()
    }

    fn fits(&self, params: &[u32]) -> Result<(), &'static str> {
        let [Some(units), Some(vectors)] = [1, 2].map(|i| params.get(i).map(|&n| n as usize)) else {
            return Err("its params");
        };
        given("rows of whole blocks on the left", units * self.blocks.terms() == 4 * vectors)
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let Blocks { bits, words, units, zeros, share } = self.blocks;
        let context = context!(
            bits, words, units, zeros => zeros.is_some(), threads => share.threads(), columns => share.columns(),
            share => if share == Sharing::Workgroup { "workgroup" } else { "subgroup" },
        );
        self.epilogue.function("epilogue", "e", used) + &template::render("block_product", context)
    }
}
