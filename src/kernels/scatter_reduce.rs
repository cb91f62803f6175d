//! Scatters that add, multiply or compare. An invocation computes one element of the result, and looks at every update that
//! might name it, in order. No float atomics are used, so the same input gives the same bits.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::{Scalar, Wide, narrow};
use super::gather::WORKGROUP;
use super::{Slot, Spec, element, template};
use crate::DType;

/// How several updates of one place are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ScatterFunction {
    Add,
    Mul,
    Min,
    Max,
}

/// Combines updates into `y`: an invocation computes one element, and looks at all rows that might name it. Tensors: indices,
/// updates, `y`. Params: `count` (elements of `y`), the rows `first..last`, `length` (of `y` along the axis), `index_step` and
/// `update_step` (from row to row), then for each dimension of `y` its `size`, the `limit` beyond which no row lies, and the
/// strides of indices and updates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScatterReduce {
    pub(crate) function: ScatterFunction,
    pub(crate) scalar: Scalar,
    /// The dtype to which results are rounded or wrapped.
    pub(crate) dtype: DType,
    pub(crate) rank: usize,
    pub(crate) axis: usize,
}

impl Spec for ScatterReduce {
    fn label(&self) -> String {
        format!("scatter_{:?}", self.function).to_lowercase()
    }

    fn slots(&self) -> Vec<Slot> {
        let word = element(self.scalar, false);
        vec![Slot::read("indices", Scalar::I32), Slot::read("updates", word), Slot::write("y", word)]
    }

    fn params(&self) -> Vec<String> {
        let own = ["count", "first", "last", "length", "index_step", "update_step"].map(String::from);
        let names = ["size", "limit", "index_stride", "update_stride"];
        own.into_iter().chain((0..self.rank).flat_map(|d| names.map(|name| format!("{name}{d}")))).collect()
    }

    fn reports(&self) -> bool {
        Wide::of(self.dtype, 0).is_some()
            && !self.scalar.is_wide()
            && matches!(self.function, ScatterFunction::Add | ScatterFunction::Mul)
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let [add, mul] = self.scalar.sums(self.reports()).unwrap_or_default();
        let [min, max] = match self.scalar {
            Scalar::F32 => ["min_full", "max_full"],
            Scalar::F64 => ["min_f64", "max_f64"],
            Scalar::I64 => ["min_i64", "max_i64"],
            Scalar::U64 => ["min_u64", "max_u64"],
            _ => ["min", "max"],
        };
        let (function, operator) = match self.function {
            ScatterFunction::Add => (add, "+"),
            ScatterFunction::Mul => (mul, "*"),
            ScatterFunction::Min => (min, ""),
            ScatterFunction::Max => (max, ""),
        };
        let combined = if function.is_empty() {
            format!("result {operator} update")
        } else {
            used.insert(function);
            format!("{function}(result, update)")
        };
        let result = narrow(self.dtype, ("result".into(), self.scalar), used);
        let context =
            context!(workgroup => WORKGROUP, rank => self.rank, axis => self.axis, combined, result);
        template::render("scatter_reduce", context)
    }
}
