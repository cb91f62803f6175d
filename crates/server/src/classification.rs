//! Scores as texts: the classes with the greatest ones, as Triton's classification extension writes them.

use sardonyx::{DType, Tensor};

use crate::{Failure, Reason, datatype};

/// The `count` greatest scores of each row, as texts `score:index`, or `score:index:label` where there is a label with that index. The
/// greatest is first, of equal ones that with the smaller index, and a NaN is less than all numbers. If `rows`, the first dimension
/// counts the rows, and the result has shape `[rows, count]`; else the tensor is one row, and the result has shape `[count]`. A row
/// with fewer scores has that many.
///
/// # Errors
/// [`Reason::Invalid`] if the tensor has no numbers.
///
/// ```
/// use sardonyx::Tensor;
/// let scores = Tensor::from_slice(&[1, 3], &[0.5f32, 4.0, 3.0])?;
/// let labels = ["cat".to_string(), "dog".to_string()];
/// let classes = sardonyx_server::classification::classes(&scores, 2, &labels, true)?;
/// assert_eq!(classes.strings().unwrap_or_default(), ["4.000000:1:dog", "3.000000:2"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn classes(tensor: &Tensor, count: usize, labels: &[String], rows: bool) -> Result<Tensor, Failure> {
    let wanted = Wanted { count, labels, rows };
    match tensor.dtype() {
        DType::F32 => wanted.of(tensor, f32::from_le_bytes, |score| decimal((*score).into())),
        DType::F64 => wanted.of(tensor, f64::from_le_bytes, |score| decimal(*score)),
        DType::F16 => wanted.of(tensor, half::f16::from_le_bytes, |score| decimal(score.to_f64())),
        DType::BF16 => wanted.of(tensor, half::bf16::from_le_bytes, |score| decimal(score.to_f64())),
        DType::U8 => wanted.of(tensor, u8::from_le_bytes, u8::to_string),
        DType::U16 => wanted.of(tensor, u16::from_le_bytes, u16::to_string),
        DType::U32 => wanted.of(tensor, u32::from_le_bytes, u32::to_string),
        DType::U64 => wanted.of(tensor, u64::from_le_bytes, u64::to_string),
        DType::I8 => wanted.of(tensor, i8::from_le_bytes, i8::to_string),
        DType::I16 => wanted.of(tensor, i16::from_le_bytes, i16::to_string),
        DType::I32 => wanted.of(tensor, i32::from_le_bytes, i32::to_string),
        DType::I64 => wanted.of(tensor, i64::from_le_bytes, i64::to_string),
        dtype => {
            let name = datatype::name(dtype).unwrap_or("its datatype");
            Err(Failure::invalid(format!(
                "classification needs scores, and {name} has none; ask for the output itself"
            )))
        }
    }
}

struct Wanted<'a> {
    count: usize,
    labels: &'a [String],
    rows: bool,
}

impl Wanted<'_> {
    fn of<const N: usize, T: PartialOrd>(
        &self,
        tensor: &Tensor,
        read: fn([u8; N]) -> T,
        text: impl Fn(&T) -> String,
    ) -> Result<Tensor, Failure> {
        let scores: Vec<T> = tensor.bytes().as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect();
        let rows = if self.rows { tensor.shape().first().copied().unwrap_or(1) } else { 1 };
        let length = scores.len().checked_div(rows).unwrap_or(0);
        let count = self.count.min(length);
        let mut classes = Vec::with_capacity(rows.saturating_mul(count));
        if count > 0 {
            for row in scores.chunks_exact(length) {
                let greatest = greatest(row, count);
                classes.extend(greatest.into_iter().map(|index| self.class(index, text(&row[index]))));
            }
        }
        let shape: &[usize] = if self.rows { &[rows, count] } else { &[count] };
        Tensor::from_strings(shape, classes)
            .map_err(|error| Failure::new(Reason::Internal, error.to_string()))
    }

    fn class(&self, index: usize, score: String) -> String {
        match self.labels.get(index) {
            Some(label) => format!("{score}:{index}:{label}"),
            None => format!("{score}:{index}"),
        }
    }
}

/// The indices of the `count` greatest scores of a row that has as many, the greatest first.
pub(crate) fn greatest<T: PartialOrd>(row: &[T], count: usize) -> Vec<usize> {
    // What is not equal to itself is a NaN.
    let nan = |score: &T| score.partial_cmp(score).is_none();
    let order = |a: &usize, b: &usize| {
        let scores = row[*b].partial_cmp(&row[*a]);
        scores.unwrap_or_else(|| nan(&row[*a]).cmp(&nan(&row[*b]))).then(a.cmp(b))
    };
    let mut indices: Vec<usize> = (0..row.len()).collect();
    if count < indices.len() {
        indices.select_nth_unstable_by(count, order);
        indices.truncate(count);
    }
    indices.sort_unstable_by(order);
    indices
}

/// A score as C's `%f` writes it.
fn decimal(score: f64) -> String {
    if score.is_nan() { "nan".into() } else { format!("{score:.6}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(tensor: &Tensor, count: usize, labels: &[&str], rows: bool) -> (Vec<usize>, Vec<String>) {
        let labels: Vec<String> = labels.iter().map(|label| label.to_string()).collect();
        let classes = classes(tensor, count, &labels, rows).unwrap();
        (classes.shape().to_vec(), classes.strings().unwrap().to_vec())
    }

    /// Triton 2.51 answers `[[b'4.000000:3', b'3.000000:2']]` for these.
    #[test]
    fn as_triton_writes_them() {
        let tensor = Tensor::from_slice(&[1, 4], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let expected = ["4.000000:3", "3.000000:2"].map(String::from).to_vec();
        assert_eq!(texts(&tensor, 2, &[], true), (vec![1, 2], expected.clone()));
        assert_eq!(texts(&tensor, 2, &[], false), (vec![2], expected));
    }

    #[test]
    fn equal_scores_and_nans() {
        let scores = [f32::NAN, 1.0, f32::INFINITY, 1.0, f32::NEG_INFINITY, f32::NAN];
        let tensor = Tensor::from_slice(&[6], &scores).unwrap();
        let (_, classes) = texts(&tensor, 9, &[], false);
        assert_eq!(classes, ["inf:2", "1.000000:1", "1.000000:3", "-inf:4", "nan:0", "nan:5"]);
        let (_, classes) = texts(&tensor, 2, &[], false);
        assert_eq!(classes, ["inf:2", "1.000000:1"]);
    }

    #[test]
    fn rows_and_labels() {
        let tensor = Tensor::from_slice(&[2, 3, 1], &[3i64, 9, -1, i64::MAX, 7, i64::MAX - 1]).unwrap();
        let (shape, classes) = texts(&tensor, 2, &["cat", "dog"], true);
        assert_eq!(shape, [2, 2]);
        let expected = ["9:1:dog", "3:0:cat", "9223372036854775807:0:cat", "9223372036854775806:2"];
        assert_eq!(classes, expected);
    }

    #[test]
    fn halves_and_empty_rows() {
        let tensor = Tensor::from_slice(&[2], &[half::f16::from_f32(0.1), half::f16::from_f32(0.5)]).unwrap();
        assert_eq!(texts(&tensor, 2, &[], false).1, ["0.500000:1", "0.099976:0"]);
        assert_eq!(texts(&Tensor::zeros(DType::F32, &[2, 0]).unwrap(), 3, &[], true), (vec![2, 0], vec![]));
        assert_eq!(texts(&Tensor::zeros(DType::F32, &[0, 4]).unwrap(), 3, &[], true).0[0], 0);
        assert!(classes(&Tensor::zeros(DType::Bool, &[1]).unwrap(), 1, &[], true).is_err());
    }
}
