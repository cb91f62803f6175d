//! `Pooling`: one vector of the vectors of tokens.

use std::ops::Range;

use half::{bf16, f16};
use sardonyx::{DType, Tensor};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Failure;

/// The tokens of a row whose tokens the model counts.
pub(crate) const WHOLE: Range<usize> = 0..usize::MAX;

/// How the vectors of a text's tokens become one. Padding is no token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The first token's, which is often `[CLS]`.
    Cls,
    /// The last token's.
    Last,
    /// The greatest of each number.
    Max,
}

/// `1_Pooling/config.json`: `pooling_mode`, or a switch for each kind.
#[derive(Deserialize)]
pub(super) struct Described(Map<String, Value>);

impl Pooling {
    pub(super) fn named(name: &str) -> Option<Pooling> {
        Some(match name {
            "mean" => Pooling::Mean,
            "cls" => Pooling::Cls,
            "last" | "lasttoken" => Pooling::Last,
            "max" => Pooling::Max,
            _ => return None,
        })
    }

    /// One vector of those of `tokens`, each of which has `size` numbers. There is at least one.
    fn pooled(self, numbers: &[f64], size: usize) -> Vec<f64> {
        let tokens = numbers.len() / size.max(1);
        let of = |token: usize| numbers[token * size..(token + 1) * size].to_vec();
        let folded = |with: fn(f64, f64) -> f64| {
            numbers[size..].chunks_exact(size).fold(of(0), |mut vector, token| {
                vector.iter_mut().zip(token).for_each(|(number, &next)| *number = with(*number, next));
                vector
            })
        };
        match self {
            Pooling::Mean => {
                let mut sums = folded(|sum, next| sum + next);
                sums.iter_mut().for_each(|sum| *sum /= tokens as f64);
                sums
            }
            Pooling::Cls => of(0),
            Pooling::Last => of(tokens - 1),
            Pooling::Max => folded(f64::max),
        }
    }

    /// The vectors of a batch's rows. `output` has the shape [size], [rows, size] or [rows, tokens, size]; of its tokens, a row has
    /// those of `tokens[row]`.
    ///
    /// # Errors
    /// [`crate::Reason::Invalid`] if it has another.
    pub(crate) fn vectors(
        self,
        name: &str,
        output: &Tensor,
        tokens: &[Range<usize>],
    ) -> Result<Vec<Vec<f64>>, Failure> {
        let rows = tokens.len();
        let fits =
            |tokens: &Range<usize>, length| *tokens == WHOLE || tokens.end <= length && !tokens.is_empty();
        let (length, size) = match *output.shape() {
            [size] if rows == 1 => (None, size),
            [of, size] if of == rows => (None, size),
            [of, length, size]
                if of == rows && length > 0 && tokens.iter().all(|tokens| fits(tokens, length)) =>
            {
                (Some(length), size)
            }
            _ => {
                return Err(Failure::invalid(format!(
                    "output '{name}' has the shape {:?} for {rows} entries, which are no embeddings; the shape is [entries, size] or \
                     [entries, tokens, size]",
                    output.shape()
                )));
            }
        };
        if size == 0 {
            return Err(Failure::invalid(format!("output '{name}' has embeddings without numbers")));
        }
        let vector = |(row, tokens): (usize, &Range<usize>)| {
            Ok(match length {
                None => numbers(output, row * size..(row + 1) * size)?,
                Some(length) => {
                    let first = row * length;
                    let range = (first + tokens.start) * size..(first + tokens.end.min(length)) * size;
                    self.pooled(&numbers(output, range)?, size)
                }
            })
        };
        tokens.iter().enumerate().map(vector).collect()
    }
}

impl Described {
    pub(super) fn pooling(&self) -> Result<Pooling, Failure> {
        let refuse = |what: &str| {
            Failure::invalid(format!(
                "1_Pooling/config.json asks for {what:.200}, which is not computed here; it may be the mean, the cls token, the last \
                 token or the maximum: or export the pooling into the ONNX file, and leave 1_Pooling out"
            ))
        };
        if let Some(Value::String(mode)) = self.0.get("pooling_mode") {
            return Pooling::named(mode).ok_or_else(|| refuse(mode));
        }
        let is_on = |(name, value): (&String, &Value)| {
            (*value == Value::Bool(true)).then(|| name.strip_prefix("pooling_mode_").map(str::to_string))?
        };
        let on: Vec<String> = self.0.iter().filter_map(is_on).collect();
        match on.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["mean_tokens"] => Ok(Pooling::Mean),
            ["cls_token"] => Ok(Pooling::Cls),
            ["lasttoken"] => Ok(Pooling::Last),
            ["max_tokens"] => Ok(Pooling::Max),
            [] => Err(refuse("nothing")),
            _ => Err(refuse(&on.join(" and "))),
        }
    }
}

/// Elements of a tensor of numbers.
fn numbers(tensor: &Tensor, range: Range<usize>) -> Result<Vec<f64>, Failure> {
    fn all<const N: usize>(
        tensor: &Tensor,
        range: Range<usize>,
        read: fn(&[u8; N]) -> f64,
    ) -> Option<Vec<f64>> {
        Some(tensor.bytes().as_chunks::<N>().0.get(range)?.iter().map(read).collect())
    }
    let found = match tensor.dtype() {
        DType::F64 => all(tensor, range, |bytes| f64::from_le_bytes(*bytes)),
        DType::F32 => all(tensor, range, |bytes| f32::from_le_bytes(*bytes).into()),
        DType::F16 => all(tensor, range, |bytes| f16::from_le_bytes(*bytes).to_f64()),
        DType::BF16 => all(tensor, range, |bytes| bf16::from_le_bytes(*bytes).to_f64()),
        _ => None,
    };
    found.ok_or_else(|| Failure::new(crate::Reason::Internal, "an embedding is not of numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_vector_of_many() {
        let output = Tensor::from_vec(&[1, 3, 2], vec![1.0f32, 8.0, 3.0, -1.0, 100.0, 100.0]).unwrap();
        for (pooling, vector) in [
            (Pooling::Mean, [2.0, 3.5]),
            (Pooling::Cls, [1.0, 8.0]),
            (Pooling::Last, [3.0, -1.0]),
            (Pooling::Max, [3.0, 8.0]),
        ] {
            let vectors = pooling.vectors("y", &output, std::slice::from_ref(&(0..2))).unwrap();
            assert_eq!(vectors, [vector], "{pooling:?}");
        }
        let halves = Tensor::from_vec(&[2, 1], vec![f16::from_f32(0.5), f16::from_f32(-2.0)]).unwrap();
        assert_eq!(Pooling::Cls.vectors("y", &halves, &[0..7, 0..3]).unwrap(), [[0.5], [-2.0]]);
        assert!(Pooling::Mean.vectors("y", &output, std::slice::from_ref(&(0..4))).is_err());
        assert!(Pooling::Mean.vectors("y", &output, &[0..1, 0..1]).is_err());
    }

    #[test]
    fn descriptions_of_sentence_transformers() {
        let read = |json: &str| serde_json::from_str::<Described>(json).unwrap().pooling();
        let switches = r#"{"word_embedding_dimension": 384, "pooling_mode_cls_token": false,
            "pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": false, "include_prompt": true}"#;
        assert_eq!(read(switches), Ok(Pooling::Mean));
        assert_eq!(read(r#"{"pooling_mode_lasttoken": true}"#), Ok(Pooling::Last));
        assert_eq!(read(r#"{"pooling_mode": "cls"}"#), Ok(Pooling::Cls));
        for (json, what) in [
            ("{}", "nothing"),
            (r#"{"pooling_mode_weightedmean_tokens": true}"#, "weightedmean_tokens"),
            (r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#, "and"),
            (r#"{"pooling_mode": "attention"}"#, "attention"),
        ] {
            assert!(read(json).unwrap_err().text.contains(what), "{json}");
        }
    }
}
