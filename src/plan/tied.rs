//! Tied tables: a product needs the elements of a table in an order of its own, and a Gather picks rows of the same table. The
//! Gather then reads the product's order, and the table lies on the device once.

use std::collections::BTreeMap;

use super::program::{Call, OutputSource, Packing, Place, Program, TensorId, WeightKey};
use crate::kernels::gather_packed::GatherPacked;
use crate::kernels::{Kernel, params};

pub(super) fn share(program: &mut Program) {
    let mut packed: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (raw, key) in program.weights.iter().enumerate().filter(|(_, key)| key.packing.is_none()) {
        let is_other = |other: &WeightKey| {
            other.packing.is_some() && WeightKey { packing: None, ..other.clone() } == *key
        };
        let others: Vec<usize> =
            (0..program.weights.len()).filter(|&i| is_other(&program.weights[i])).collect();
        if !others.is_empty() {
            packed.insert(raw, others);
        }
    }
    for (raw, others) in packed {
        for other in others {
            let Some(calls) = rewritten(program, raw, other) else { continue };
            for (c, call) in calls {
                program.calls[c] = call;
            }
            break;
        }
    }
}

/// The calls that read weight `raw`, as they read weight `packed` instead; `None` if some are no Gathers of rows.
fn rewritten(program: &mut Program, raw: usize, packed: usize) -> Option<Vec<(usize, Call)>> {
    let reads = |program: &Program, tensor: TensorId| matches!(program.tensor(program.root(tensor).0).place, Place::Weight(i) if i == raw);
    let mut calls = Vec::new();
    for (c, call) in program.calls.iter().enumerate() {
        let [table, rest @ ..] = &call.tensors[..] else { continue };
        if rest.iter().any(|&tensor| reads(program, tensor)) {
            return None;
        }
        if reads(program, *table) {
            calls.push((c, call.clone()));
        }
    }
    let is_read = |source: &OutputSource| matches!(source, OutputSource::Device { tensor, .. } if reads(program, *tensor));
    if program.outputs.iter().any(is_read) {
        return None;
    }
    let packing = program.weights[packed].packing.clone()?;
    for (_, call) in &mut calls {
        let Kernel::Gather(gather) = &call.kernel else { return None };
        let &[count, inner, _, rows, fault] = &call.params[..] else { return None };
        let (root, offset) = program.root(call.tensors[0]);
        let table = program.tensor(root).clone();
        let shape = [rows as usize, inner as usize];
        if gather.batched || offset > 0 || Some(table.count) != shape[0].checked_mul(shape[1]) {
            return None;
        }
        let digits = packing.digits(shape)?;
        let own = digits.iter().flat_map(|digit| [digit.step, digit.size, digit.stride]);
        call.params =
            params([count, inner, rows].into_iter().map(|n| n as usize).chain(own), [fault]).ok()?;
        let of_rows = digits.iter().map(|digit| digit.of_rows).collect();
        call.kernel = GatherPacked { of_rows, runs: gather.runs }.into();
        let element = (table.scalar, table.storage);
        call.tensors[0] =
            program.add_tensor(table.name, element, vec![packing.count()], Place::Weight(packed));
    }
    Some(calls)
}

/// A digit of the place of a matrix' element in packed form: `coordinate / step % size * stride`.
struct PackedDigit {
    /// Whether the coordinate is the row, and not the column.
    of_rows: bool,
    step: usize,
    size: usize,
    stride: usize,
}

impl Packing {
    /// Where the elements of a matrix of shape `shape` lie in packed form; `None` if some do not, or at several places.
    fn digits(&self, shape: [usize; 2]) -> Option<Vec<PackedDigit>> {
        // The axes of the source that are longer than 1 are rows and columns, by what is between neighbours in the constant.
        let long: Vec<usize> = (0..self.source.len()).filter(|&axis| self.source[axis] > 1).collect();
        let &[outer, inner] = &long[..] else { return None };
        let apart = match &self.view {
            None => [self.source[inner] as i64, 1],
            Some(view) if view.base == 0 => match view.dims[..] {
                [(a, outer_stride), (b, inner_stride)]
                    if [a, b] == [self.source[outer], self.source[inner]] =>
                {
                    [outer_stride, inner_stride]
                }
                _ => return None,
            },
            Some(_) => return None,
        };
        let of_rows = if apart == [shape[1] as i64, 1] { outer } else { inner };
        let own = if of_rows == outer { apart } else { [apart[1], apart[0]] };
        let sizes = [self.source[of_rows], self.source[outer + inner - of_rows]];
        if own != [shape[1] as i64, 1] || sizes != shape || self.start.iter().any(|&start| start > 0) {
            return None;
        }
        let mut digits = Vec::new();
        let mut stride = 1;
        for dim in self.dims.iter().rev().filter(|dim| dim.size > 1) {
            digits.push(PackedDigit { of_rows: dim.axis == of_rows, step: dim.step, size: dim.size, stride });
            stride *= dim.size;
        }
        // Each coordinate must have one place: the steps of its digits follow each other.
        for (of_rows, size) in [(true, shape[0]), (false, shape[1])] {
            let mut own: Vec<&PackedDigit> = digits.iter().filter(|digit| digit.of_rows == of_rows).collect();
            own.sort_by_key(|digit| digit.step);
            let end =
                own.iter().try_fold(1, |step, digit| (digit.step == step).then_some(step * digit.size))?;
            if end < size {
                return None;
            }
        }
        Some(digits)
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::PackedDim;
    use super::*;
    use crate::kernels::Access;

    #[test]
    fn digits_are_the_places_of_packing() {
        let dims = |of: [(usize, usize, usize); 4]| {
            of.map(|(axis, size, step)| PackedDim { axis, size, step }).to_vec()
        };
        let tiles = [(1, 4, 8), (2, 8, 1), (1, 8, 1), (0, 1, 1)];
        let apart = [(2, 1, 1), (1, 16, 1), (2, 2, 1), (2, 4, 2)];
        let transposed = Some(Access::new(0, &[(7, 1), (30, 7)]));
        for (source, view, dims) in [
            (vec![1, 30, 7], None, dims(tiles)),
            (vec![1, 7, 30], transposed.clone(), dims([(2, 4, 8), (1, 8, 1), (2, 8, 1), (0, 1, 1)])),
            (vec![1, 16, 7], None, dims(apart)),
        ] {
            let rows = if source[1] == 7 { 30 } else { source[1] };
            let packing = Packing { source, view, dims, ..Packing::default() };
            let digits = packing.digits([rows, 7]).unwrap();
            let sources: Vec<_> = packing.sources().collect();
            for (row, column) in (0..rows).flat_map(|row| (0..7).map(move |column| (row, column))) {
                let at = |digit: &PackedDigit| {
                    let coordinate = if digit.of_rows { row } else { column };
                    coordinate / digit.step % digit.size * digit.stride
                };
                let place: usize = digits.iter().map(at).sum();
                assert_eq!(sources[place], Some(row * 7 + column));
            }
        }
    }

    #[test]
    fn other_packings_have_no_digits() {
        let dim = |axis, size, step| PackedDim { axis, size, step };
        let half =
            Packing { source: vec![30, 7], dims: vec![dim(0, 15, 1), dim(1, 7, 1)], ..Packing::default() };
        assert!(half.digits([30, 7]).is_none(), "half of the rows");
        let later = Packing { start: vec![8, 0], dims: vec![dim(0, 30, 1), dim(1, 7, 1)], ..half.clone() };
        assert!(later.digits([30, 7]).is_none(), "it begins within the table");
        let sparse = Packing { dims: vec![dim(0, 15, 2), dim(1, 7, 1)], ..half.clone() };
        assert!(sparse.digits([30, 7]).is_none(), "each second row");
        let other = Packing { dims: vec![dim(0, 30, 1), dim(1, 7, 1)], ..half };
        assert!(other.digits([30, 7]).is_some() && other.digits([7, 30]).is_none());
    }
}
