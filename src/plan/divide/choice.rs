//! The best way to divide a node.

use super::Divider;
use crate::facts::Fact;
use crate::kernels::VECTOR_BYTES;
use crate::ops::Node;
use crate::ops::division::{Division, InputShare, inner, is_outermost};
use crate::shape::product;

/// What is bad about a division, worst first: the number of large results whose parts do not lie in one piece, of values that stay too
/// large, of copies of large values, and of parts.
type DivisionRating = (usize, usize, usize, usize);

/// How a node is divided.
pub(super) struct DivisionChoice {
    pub(super) axis: usize,
    pub(super) division: Division,
    /// The most units of a part, and the number of which those of each part but the last are a multiple.
    most: usize,
    aligned: usize,
    pub(super) sums: bool,
}

impl Divider<'_> {
    /// The best of the ways to divide the node.
    pub(super) fn choice(&self, node: &Node) -> Option<DivisionChoice> {
        let inputs: Vec<Option<&Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| self.fact(id))).collect();
        let outputs: Vec<Fact> =
            node.outputs.iter().map(|id| id.and_then(|id| self.fact(id)).cloned()).collect::<Option<_>>()?;
        let operator = node.op.operator();
        let rank = outputs.first()?.rank();
        let along = (0..rank).filter_map(|axis| Some((axis, operator.division(axis, &inputs, &outputs)?)));
        let along = along.map(|(axis, division)| (axis, division, false));
        let sums = operator.summands(&inputs, &outputs).map(|division| (0, division, true));
        let rated = along.chain(sums).filter_map(|(axis, division, sums)| {
            let (most, aligned, rating) = self.rated(node, axis, &division, sums)?;
            Some((rating, DivisionChoice { axis, division, most, aligned, sums }))
        });
        rated.min_by_key(|(rating, _)| *rating).map(|(_, choice)| choice)
    }

    /// The most units of a part, the number of which they are a multiple, and what is bad about this division.
    fn rated(
        &self,
        node: &Node,
        axis: usize,
        division: &Division,
        sums: bool,
    ) -> Option<(usize, usize, DivisionRating)> {
        let share = |i: usize| division.shares.get(i).copied().unwrap_or(InputShare::Whole);
        let inputs = node.inputs.iter().enumerate().filter_map(|(i, id)| Some((i, (*id)?)));
        let operator = node.op.operator();
        let inputs = inputs.filter(|(i, _)| operator.reads_data(*i)).map(|(i, id)| {
            let packed = operator.packs(i) && self.graph.value(id).constant.is_some();
            // A part of an input is copied, and those of an output only for readers that want them in another way.
            (id, share(i), if packed { 0 } else { 2 })
        });
        let of_output =
            if sums { InputShare::Whole } else { InputShare::Along { axis, step: division.of_output } };
        let outputs = node.outputs.iter().flatten().map(|id| (*id, of_output, 1));
        let (mut most, mut aligned) = (division.units, 1);
        let (mut apart, mut large, mut copied) = (0, 0, 0);
        for (id, share, copies) in inputs.chain(outputs) {
            let InputShare::Along { axis, step } = share else {
                large += usize::from(self.is_large(id));
                continue;
            };
            let fact = self.fact(id)?;
            if *fact.shape.get(axis)? != division.units.checked_mul(step)? {
                return None;
            }
            let unit = step.saturating_mul(inner(&fact.shape, axis));
            let outer: usize = product(&fact.shape[..axis]);
            let bytes = (unit as u64).saturating_mul(outer as u64).saturating_mul(self.bits(id)).div_ceil(8);
            let fit = usize::try_from(self.target.max_binding / bytes.max(1)).unwrap_or(usize::MAX);
            most = most.min(fit.max(1));
            if self.is_large(id) {
                large += usize::from(fit == 0);
                let constant = self.graph.value(id).constant.is_some();
                match is_outermost(&fact.shape, axis) {
                    // Each part of a constant is uploaded by itself.
                    true if constant => {}
                    true => aligned = multiple(aligned, self.granule(unit as u64 * self.bits(id))?)?,
                    false if self.wanted.contains(&id) => apart += 1,
                    false => copied += copies,
                }
            }
        }
        most -= most % aligned;
        let parts = division.units.div_ceil(most.max(1));
        (most > 0 && parts > 1).then_some((most, aligned, (apart, large, copied, parts)))
    }

    /// The least number of units of these bits that ends where a binding may begin.
    pub(super) fn granule(&self, bits: u64) -> Option<usize> {
        let whole = 8 * self.target.offset_alignment.max(VECTOR_BYTES);
        usize::try_from(whole / common_divisor(whole, bits)).ok()
    }

    /// The units of each part: as an input is divided, if that fits.
    pub(super) fn parts_of(&self, node: &Node, choice: &DivisionChoice) -> Vec<std::ops::Range<usize>> {
        let DivisionChoice { division, most, aligned, .. } = choice;
        let as_input = node.inputs.iter().zip(&division.shares).find_map(|(id, share)| {
            let (Some(id), InputShare::Along { axis, step }) = (id, *share) else { return None };
            let parts = self.parts.get(id).filter(|parts| parts.axis == axis)?;
            let mut start = 0;
            let ranges = parts.parts.iter().map(|(end, _)| {
                let range = start..end / step;
                start = range.end;
                let fits = end % step == 0 && !range.is_empty() && range.len() <= *most;
                let ends_well = range.end == division.units || range.end % aligned == 0;
                (fits && ends_well).then_some(range)
            });
            ranges.collect()
        });
        as_input.unwrap_or_else(|| {
            let all = (0..division.units).step_by(*most);
            all.map(|first| first..(first + most).min(division.units)).collect()
        })
    }
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

fn multiple(a: usize, b: usize) -> Option<usize> {
    let divisor = usize::try_from(common_divisor(a as u64, b as u64)).ok()?;
    (a / divisor.max(1)).checked_mul(b)
}
