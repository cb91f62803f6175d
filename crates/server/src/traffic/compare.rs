//! How far two answers to one request lie apart.

use sardonyx::{DType, Tensor};

/// How far the answer of a shadow lies from the one that the client got.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Comparison {
    /// The elements of all outputs.
    pub(super) elements: u64,
    /// Those that differ by more than the tolerance; strings that differ at all.
    pub(super) beyond: u64,
    /// The greatest difference of two numbers; infinite where one of them alone is infinite or none.
    pub(super) greatest: f64,
    /// The rows of scores, along the last dimension of outputs of at least two.
    pub(super) rows: u64,
    /// Those whose greatest score is that of the same class.
    pub(super) agreed: u64,
}

/// Compares outputs by their names; `None` if the answers have no equal names, shapes and kinds of elements.
pub(super) fn compare(
    answer: &[(String, Tensor)],
    shadow: &[(String, Tensor)],
    tolerance: f64,
) -> Option<Comparison> {
    if answer.len() != shadow.len() {
        return None;
    }
    let mut sum = Comparison::default();
    for (name, ours) in answer {
        let (_, theirs) = shadow.iter().find(|(of, _)| of == name)?;
        if ours.shape() != theirs.shape() {
            return None;
        }
        match (ours.strings(), theirs.strings()) {
            (Some(ours), Some(theirs)) => {
                sum.elements += ours.len() as u64;
                sum.beyond += ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs).count() as u64;
            }
            (None, None) => sum.add(&numbers(ours)?, &numbers(theirs)?, ours.shape(), tolerance),
            _ => return None,
        }
    }
    Some(sum)
}

impl Comparison {
    fn add(&mut self, ours: &[f64], theirs: &[f64], shape: &[usize], tolerance: f64) {
        self.elements += ours.len() as u64;
        for (&ours, &theirs) in ours.iter().zip(theirs) {
            let difference = match ours == theirs || ours.is_nan() && theirs.is_nan() {
                true => 0.0,
                false => (ours - theirs).abs(),
            };
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            self.greatest = self.greatest.max(difference);
            // An infinite number has an infinite tolerance.
            self.beyond +=
                u64::from(difference > tolerance + tolerance * ours.abs() || difference == f64::INFINITY);
        }
        if let [_, .., classes] = shape
            && *classes > 1
        {
            for (ours, theirs) in ours.chunks_exact(*classes).zip(theirs.chunks_exact(*classes)) {
                self.rows += 1;
                self.agreed += u64::from(greatest(ours) == greatest(theirs));
            }
        }
    }
}

/// The place of the greatest number, the first of equal ones.
fn greatest(row: &[f64]) -> usize {
    let is_more = |best: usize, i: usize| row[i] > row[best] || row[best].is_nan() && !row[i].is_nan();
    (1..row.len()).fold(0, |best, i| if is_more(best, i) { i } else { best })
}

/// The elements as numbers; `None` if they are none that a protocol carries. Differences of integers above 2^53 are not exact.
fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    fn read<const N: usize>(tensor: &Tensor, number: fn([u8; N]) -> f64) -> Vec<f64> {
        tensor.bytes().as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
    }
    Some(match tensor.dtype() {
        DType::F64 => read(tensor, f64::from_le_bytes),
        DType::F32 => read(tensor, |bytes| f32::from_le_bytes(bytes).into()),
        DType::F16 => read(tensor, |bytes| half::f16::from_le_bytes(bytes).into()),
        DType::BF16 => read(tensor, |bytes| half::bf16::from_le_bytes(bytes).into()),
        DType::Bool | DType::U8 => read(tensor, |bytes: [u8; 1]| bytes[0].into()),
        DType::I8 => read(tensor, |bytes| i8::from_le_bytes(bytes).into()),
        DType::U16 => read(tensor, |bytes| u16::from_le_bytes(bytes).into()),
        DType::I16 => read(tensor, |bytes| i16::from_le_bytes(bytes).into()),
        DType::U32 => read(tensor, |bytes| u32::from_le_bytes(bytes).into()),
        DType::I32 => read(tensor, |bytes| i32::from_le_bytes(bytes).into()),
        DType::U64 => read(tensor, |bytes| u64::from_le_bytes(bytes) as f64),
        DType::I64 => read(tensor, |bytes| i64::from_le_bytes(bytes) as f64),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], values: &[f32]) -> Vec<(String, Tensor)> {
        vec![("y".into(), Tensor::from_slice(shape, values).unwrap())]
    }

    #[test]
    fn differences_are_counted() {
        let ours = tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 100.0]);
        let theirs = tensor(&[2, 3], &[1.0, 3.5, 3.0, 4.0, 5.0, 100.5]);
        let found = compare(&ours, &theirs, 0.01).unwrap();
        // The second row's difference lies within a hundredth of 100.
        assert_eq!(found, Comparison { elements: 6, beyond: 1, greatest: 1.5, rows: 2, agreed: 1 });
        assert_eq!(compare(&ours, &ours, 0.0).unwrap().beyond, 0);
    }

    #[test]
    fn what_is_no_number_differs_from_numbers_alone() {
        let of = |value: f32| tensor(&[2], &[value, 1.0]);
        for (ours, theirs, beyond) in [
            (f32::NAN, f32::NAN, 0),
            (f32::INFINITY, f32::INFINITY, 0),
            (f32::NAN, 1.0, 1),
            (1.0, f32::NAN, 1),
            (f32::INFINITY, 1.0, 1),
            (f32::INFINITY, f32::NEG_INFINITY, 1),
        ] {
            let found = compare(&of(ours), &of(theirs), 1.0).unwrap();
            assert_eq!(
                (found.beyond, found.greatest.is_infinite()),
                (beyond, beyond == 1),
                "{ours} {theirs}"
            );
        }
    }

    #[test]
    fn other_outputs_are_not_compared() {
        let ours = tensor(&[2], &[1.0, 2.0]);
        assert_eq!(compare(&ours, &tensor(&[1, 2], &[1.0, 2.0]), 1.0), None);
        assert_eq!(compare(&ours, &[], 1.0), None);
        assert_eq!(compare(&ours, &[("z".into(), ours[0].1.clone())], 1.0), None);
        let text = |of: &str| vec![("y".into(), Tensor::from_strings(&[1], vec![of.into()]).unwrap())];
        assert_eq!(compare(&text("a"), &text("b"), 1.0).unwrap().beyond, 1);
        assert_eq!(compare(&ours, &text("a"), 1.0), None);
        // Other widths of numbers are compared as numbers.
        let wide = vec![("y".into(), Tensor::from_slice(&[2], &[1i64, 5]).unwrap())];
        assert_eq!(compare(&ours, &wide, 1.0).unwrap().greatest, 3.0);
    }
}
