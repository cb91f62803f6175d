//! Elementwise: any DAG of pointwise operators in one kernel. An invocation computes four consecutive elements of the result.

use std::collections::BTreeSet;

use minijinja::context;

use super::fused::{Fused, Index};
use super::{Kernel, Slot, Spec, element, template};

/// Invocations per workgroup. Software devices were equally fast from 64 to 256.
pub(crate) const WORKGROUP: usize = 64;

/// One fused elementwise kernel. Tensors: the bound operands in order, then the outputs. Params: `count`, the number of
/// result elements, then those of [`Fused::params`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Elementwise {
    pub(crate) fused: Fused,
    /// The operand whose memory output 0 takes over.
    pub(crate) in_place: Option<usize>,
}

/// Workgroups for `count` result elements.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(4 * WORKGROUP)
}

impl Elementwise {
    fn output_name(&self, i: usize) -> String {
        match self.in_place {
            Some(operand) if i == 0 => format!("x{operand}"),
            _ => format!("y{i}"),
        }
    }
}

impl Spec for Elementwise {
    fn label(&self) -> String {
        "elementwise".into()
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = Vec::new();
        for (i, operand) in self.fused.bound() {
            let slot = Slot::read(format!("x{i}"), element(operand.scalar, operand.index == Index::Linear));
            slots.push(Slot { written: self.in_place == Some(i), ..slot });
        }
        for (i, scalar) in self.fused.expr.output_scalars().into_iter().enumerate() {
            if i > 0 || self.in_place.is_none() {
                slots.push(Slot::write(self.output_name(i), element(scalar, true)));
            }
        }
        slots
    }

    fn params(&self) -> Vec<String> {
        std::iter::once("count".into()).chain(self.fused.params("x")).collect()
    }

    fn compiles_quickly(&self) -> bool {
        true
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let mut loads: Vec<(usize, bool)> = Vec::new();
        for (i, operand) in self.fused.bound() {
            loads.push((i, operand.index == Index::Linear));
        }
        let lanes: Vec<_> = ["x", "y", "z", "w"]
            .iter()
            .enumerate()
            .map(|(lane, component)| {
                let at = format!("(o + {lane}u)");
                let exists = format!("o + {lane}u < p.count");
                let load = |i: usize, place: Option<&str>| match (self.fused.operands[i].index, place) {
                    (_, Some(place)) => format!("x{i}[{place}]"),
                    (Index::Linear, _) => format!("v{i}.{component}"),
                    _ => format!("x{i}[{}]", self.fused.index("x", i, &at)),
                };
                let (lines, outputs) =
                    self.fused.expr.wgsl(load, |i| format!("p.x_c{i}"), (&at, &exists), used);
                context!(component, lines, outputs)
            })
            .collect();
        let outputs: Vec<_> = self
            .fused
            .expr
            .output_scalars()
            .iter()
            .enumerate()
            .map(|(i, scalar)| context!(name => self.output_name(i), word => scalar.word()))
            .collect();
        let loads: Vec<_> = loads.iter().filter(|l| l.1).map(|l| l.0).collect();
        self.fused.index_functions("x")
            + &template::render("elementwise", context!(workgroup => WORKGROUP, loads, lanes, outputs))
    }

    fn reports(&self) -> bool {
        self.fused.expr.reports()
    }

    fn in_place(&self, slot: usize) -> Option<Kernel> {
        let (operand, spec) = self.fused.bound().nth(slot)?;
        let output = self.fused.expr.output_scalars().first()?.word();
        let fits = self.in_place.is_none() && spec.index == Index::Linear && spec.scalar.word() == output;
        fits.then(|| Elementwise { in_place: Some(operand), ..self.clone() }.into())
    }
}
