//! Batched matrix products: `y[b][m][n] = epilogue(sum over k of a[b][m][k] * b[b][k][n])`, `y` dense and row-major.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Slot, Spec, element, template};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// A batched matrix product. Tensors: a, b, the epilogue's, y. Params: [`Gemm::params`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gemm {
    pub(crate) scalar: Scalar,
    /// Batch dimensions, outermost first.
    pub(crate) batch: usize,
    pub(crate) tile: Tile,
    pub(crate) epilogue: Fused,
}

/// What one invocation or workgroup computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tile {
    /// Any strides; an invocation computes `rows` rows of `columns` columns that lie a workgroup's width apart.
    Strided { rows: usize, columns: usize },
}

impl Tile {
    /// Rows and columns of the result that one workgroup computes.
    pub(crate) fn size(self) -> (usize, usize) {
        match self {
            Tile::Strided { rows, columns } => (rows, columns * WORKGROUP),
        }
    }
}

impl Spec for Gemm {
    fn label(&self) -> String {
        let (rows, columns) = self.tile.size();
        format!("gemm{rows}x{columns}")
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> =
            ["a", "b"].iter().map(|name| Slot::read(*name, element(self.scalar, false))).collect();
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        let fixed = ["m", "n", "first", "last", "batches", "a_row", "a_k", "b_k", "b_column"];
        let batch = (0..self.batch).flat_map(|d| [format!("size{d}"), format!("a_batch{d}"), format!("b_batch{d}")]);
        fixed.iter().map(|name| name.to_string()).chain(batch).chain(self.epilogue.params("e")).collect()
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let Tile::Strided { rows, columns } = self.tile;
        let context = context!(
            workgroup => WORKGROUP, rows, columns, batch => self.batch, word => self.scalar.word(),
        );
        self.epilogue.function("epilogue", "e", used) + &template::render("gemm_strided", context)
    }
}
