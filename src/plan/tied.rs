//! Tied tables: a product needs the elements of a table in an order of its own, and a Gather picks rows of the same table. The
//! Gather then reads the product's order, and the table lies on the device once.

use std::collections::{BTreeMap, HashMap};

use super::program::{Call, OutputSource, Packing, Place, Program, TensorId};
use crate::kernels::Kernel;

pub(super) fn share(program: &mut Program) {
    let weight = |tensor: TensorId| match program.tensor(program.root(tensor).0).place {
        Place::Weight(i) => Some(i),
        _ => None,
    };
    // The Gathers from each weight that lies as the model has it.
    let mut gathers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (c, call) in program.calls.iter().enumerate() {
        if let (Kernel::Gather(_), Some(raw)) =
            (&call.kernel, call.tensors.first().and_then(|&table| weight(table)))
            && program.weights[raw].packing.is_none()
        {
            gathers.entry(raw).or_default().push(c);
        }
    }
    if gathers.is_empty() {
        return;
    }
    let mut reads = vec![0; program.weights.len()];
    let outputs = program.outputs.iter().filter_map(|source| match source {
        OutputSource::Device { tensor, .. } => Some(tensor),
        _ => None,
    });
    for &tensor in program.calls.iter().flat_map(|call| &call.tensors).chain(outputs) {
        weight(tensor).into_iter().for_each(|i| reads[i] += 1);
    }
    let mut packed: HashMap<_, Vec<usize>> = HashMap::new();
    for (i, key) in program.weights.iter().enumerate().filter(|(_, key)| key.packing.is_some()) {
        packed.entry((key.value, key.read_as)).or_default().push(i);
    }
    for (raw, calls) in gathers {
        let key = (program.weights[raw].value, program.weights[raw].read_as);
        // Where others read the table too, it lies there anyway.
        if reads[raw] > calls.len() {
            continue;
        }
        let mut orders = packed.get(&key).into_iter().flatten();
        let Some((other, made)) = orders.find_map(|&i| Some((i, program.rewritten(&calls, i)?))) else {
            continue;
        };
        for (c, mut call) in calls.into_iter().zip(made) {
            let table = program.tensor(program.root(call.tensors[0]).0).clone();
            let (element, count) = ((table.scalar, table.storage), program.packed_count(other));
            call.tensors[0] = program.add_tensor(table.name, element, vec![count], Place::Weight(other));
            program.calls[c] = call;
        }
    }
}

impl Program {
    fn packed_count(&self, i: usize) -> usize {
        self.weights[i].packing.as_ref().map_or(0, Packing::count)
    }

    /// These Gathers, as they read weight `i`; `None` if that has not all elements of the table.
    fn rewritten(&self, calls: &[usize], i: usize) -> Option<Vec<Call>> {
        let packing = self.weights[i].packing.as_ref()?;
        let gather = |&c: &usize| {
            let mut call = self.calls[c].clone();
            let Kernel::Gather(gather) = &mut call.kernel else { return None };
            let &[_, inner, _, ref sizes @ .., fault] = &call.params[..] else { return None };
            let rows = sizes.iter().try_fold(1usize, |rows, &size| rows.checked_mul(size as usize))?;
            let ((root, offset), inner) = (self.root(call.tensors[0]), inner as usize);
            // A batch has matrices of its own.
            if gather.batched || offset > 0 || Some(self.tensor(root).count) != rows.checked_mul(inner) {
                return None;
            }
            call.params.pop();
            for digit in packing.digits([rows, inner])? {
                gather.digits.push(digit.of_rows);
                for number in [digit.step, digit.size, digit.stride] {
                    call.params.push(u32::try_from(number).ok()?);
                }
            }
            call.params.push(fault);
            Some(call)
        };
        calls.iter().map(gather).collect()
    }
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
