//! com.microsoft.NhwcMaxPool: MaxPool of 8-bit integers whose channels lie in the last axis.
//!
//! History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{DType, NodeDef, Op, Row, Why, microsoft, types};

pub(crate) const ROWS: &[Row] = &[microsoft("NhwcMaxPool", types![T -> T; T: BYTES], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let spatial = def.attributes.ints("kernel_shape")?.unwrap_or_default().len();
    let (to, from) = channels_first(spatial);
    let kept = body.kept(&["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"]);
    let x = body.input(0)?;
    let x = body.transposed(x, &to)?;
    let y = body.with("MaxPool", &kept, &[x])?;
    let y = body.transposed(y, &from)?;
    body.finish(&[y])
}

/// The axes of a tensor with channels in the last axis, in the order with channels in the second; and the way back.
pub(super) fn channels_first(spatial: usize) -> (Vec<i64>, Vec<i64>) {
    let last = spatial as i64 + 1;
    let to = [0, last].into_iter().chain(1..last).collect();
    let from = std::iter::once(0).chain(2..=last).chain([1]).collect();
    (to, from)
}

fn cases() -> Vec<Case> {
    let new = |name: &str, dtype: DType, low: i64| {
        let case =
            Case::new("NhwcMaxPool", name).domain("com.microsoft").opset(1).tolerance(Tolerance::EXACT);
        case.input(case::converted(&case::integers(&[2, 7, 6, 5], low, low + 256), dtype))
            .ints("kernel_shape", &[3, 2])
    };
    vec![
        new("uint8", DType::U8, 0).ints("strides", &[2, 2]),
        new("int8_padded", DType::I8, -128).ints("pads", &[1, 1, 1, 0]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_move_and_return() {
        assert_eq!(channels_first(2), (vec![0, 3, 1, 2], vec![0, 2, 3, 1]));
        assert_eq!(channels_first(1), (vec![0, 2, 1], vec![0, 2, 1]));
    }
}
