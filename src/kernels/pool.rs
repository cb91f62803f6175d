//! Pools: maximum, mean or norm over a sliding window. An invocation computes one window.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Slot, Spec, element, template};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// How the elements under a window are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PoolFunction {
    Max,
    /// The mean; if `with_pads`, the padding counts too, as zeros.
    Average {
        with_pads: bool,
    },
    /// The norm of this order.
    Lp(u32),
}

/// A pool over `rank` axes behind any number of planes. Tensors: input, the epilogue's, indices if wanted, output. Params:
/// `count`, the number of output elements; `lowest`, the maximum of an empty window; for each axis the sizes of input, output
/// and window, stride, dilation and pads; the epilogue's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pool {
    pub(crate) op: PoolFunction,
    pub(crate) scalar: Scalar,
    pub(crate) rank: usize,
    /// `Some` if the places of the maxima are written too; the flag tells whether a place counts the first axis fastest.
    pub(crate) indices: Option<bool>,
    pub(crate) epilogue: Option<Fused>,
}

/// Workgroups for `count` output elements.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(WORKGROUP)
}

impl Spec for Pool {
    fn label(&self) -> String {
        let name = match self.op {
            PoolFunction::Max => "max".into(),
            PoolFunction::Average { .. } => "average".into(),
            PoolFunction::Lp(p) => format!("l{p}"),
        };
        format!("{name}pool{}d", self.rank)
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::read("x", element(self.scalar, false))];
        let result = self.epilogue.as_ref().map_or(self.scalar, |e| e.output());
        slots.extend(self.epilogue.iter().flat_map(|e| e.slots("e")));
        slots.extend(self.indices.map(|_| Slot::write("places", Scalar::I32)));
        slots.push(Slot::write("y", element(result, false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        let names = ["input", "output", "kernel", "stride", "dilation", "begin", "end"];
        let axes = (0..self.rank).flat_map(|d| names.map(|name| format!("{name}{d}")));
        let own = ["count".to_string(), "lowest".to_string()].into_iter().chain(axes);
        own.chain(self.epilogue.iter().flat_map(|e| e.params("e"))).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        // The maximum, whether a value is NaN, and the power.
        let [max, is_nan, pow] = match self.scalar {
            Scalar::F32 => ["max_full", "is_nan", "pow_full"],
            Scalar::F64 => ["max_f64", "is_nan_f64", "pow_f64"],
            _ => ["max", "", ""],
        };
        let float = !is_nan.is_empty();
        if self.op == PoolFunction::Max && float {
            used.insert(if self.indices.is_some() { is_nan } else { max });
        }
        if self.op == PoolFunction::Max && self.scalar == Scalar::F64 {
            used.insert("infinity_f64");
        }
        let (order, with_pads) = match self.op {
            PoolFunction::Lp(p) => (p, false),
            PoolFunction::Average { with_pads } => (0, with_pads),
            PoolFunction::Max => (0, false),
        };
        if order > 2 {
            used.insert(pow);
        }
        let function = self.epilogue.as_ref().map(|e| e.function("finish", "e", used)).unwrap_or_default();
        let context = context!(
            workgroup => WORKGROUP,
            rank => self.rank,
            word => self.scalar.word(),
            float,
            lowest => if self.scalar == Scalar::F64 { "-infinity_f64()".into() } else { format!("bitcast<{}>(p.lowest)", self.scalar.word()) },
            function => max,
            is_nan,
            pow,
            max => self.op == PoolFunction::Max,
            order,
            with_pads,
            indices => self.indices.is_some(),
            column_major => self.indices == Some(true),
            epilogue => self.epilogue.is_some(),
        );
        function + &template::render("pool", context)
    }
}
