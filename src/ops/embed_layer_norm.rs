//! com.microsoft.EmbedLayerNormalization: the embeddings of words, positions and segments are added and normalised.
//!
//! History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{Attr, DType, NodeDef, Op, Row, Tensor, Why, microsoft, types};

pub(crate) const ROWS: &[Row] = &[microsoft(
    "EmbedLayerNormalization",
    types![T1 T1 T T T T T T1 T1 -> T T1 T; T1: I32, T: F16 F32],
    parse,
    cases,
)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let (ids, words, positions) = (body.input(0)?, body.input(2)?, body.input(3)?);
    let word = body.node("Gather", &[words, ids])?;
    let place = match body.optional(8) {
        Some(places) => places,
        None => {
            let length = body.size(ids, 1)?;
            body.counted(length)?
        }
    };
    let position = body.node("Gather", &[positions, place])?;
    let mut sum = body.node("Add", &[word, position])?;
    if let (Some(segments), Some(table)) = (body.optional(1), body.optional(4)) {
        let segment = body.node("Gather", &[table, segments])?;
        sum = body.node("Add", &[sum, segment])?;
    }
    let attributes =
        [("epsilon", Attr::Float(def.attributes.float_or("epsilon", 1e-12)?)), ("axis", Attr::Int(-1))];
    let (gamma, beta) = (body.input(5)?, body.input(6)?);
    let y = body.with("LayerNormalization", &attributes, &[sum, gamma, beta])?;
    // The number of words of each sequence; 0 where there is no mask.
    let counted = match body.optional(7) {
        Some(mask) => {
            let one = body.number(1.0, mask)?;
            let ones = body.node("Equal", &[mask, one])?;
            body.cast(ones, DType::I32)?
        }
        None => {
            let zero = body.number(0.0, ids)?;
            body.node("Mul", &[ids, zero])?
        }
    };
    let axes = body.list(&[1]);
    let count = body.with("ReduceSum", &[("keepdims", Attr::Int(0))], &[counted, axes])?;
    body.finish(&[y, count, sum])
}

fn cases() -> Vec<Case> {
    let ids = |high: i64| case::converted(&case::integers(&[2, 7], 0, high), DType::I32);
    let table = |rows: usize| case::random(&[rows, 16]);
    let vector = || case::uniform(&[16], 0.5, 1.5);
    let new = |name: &str, segments: Option<Tensor>| {
        let case = Case::new("EmbedLayerNormalization", name).domain("com.microsoft").opset(1);
        let case = case.tolerance(Tolerance::TRANSCENDENTAL).outputs(3).input(ids(30));
        let given = segments.is_some();
        let case = match segments {
            Some(segments) => case.input(segments),
            None => case.absent(),
        };
        let case = case.constant(table(30)).constant(table(9));
        let case = if given { case.constant(table(2)) } else { case.absent() };
        case.constant(vector()).constant(vector())
    };
    vec![
        new("plain", Some(ids(2))),
        new("no_segments", None),
        new("mask", Some(ids(2))).input(ids(2)),
        new("places", None).absent().input(ids(9)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::evaluated_output;
    use super::*;

    /// onnxruntime counts the ones, wherever they stand; its documentation speaks of the place of the first 0.
    #[test]
    fn the_mask_index_counts_the_ones() {
        let mask = case::values(&[2, 7], &[1i32, 1, 0, 1, 0, 0, 2, 1, 1, 1, 1, 1, 1, 1]);
        let mut case = cases().remove(2);
        case.inputs[7] = Some(mask);
        assert_eq!(evaluated_output(&case, 1), [3.0, 7.0]);
    }
}
