//! ONNX's (numpy's) multidirectional broadcasting.

use super::{Why, refuse};
use crate::shape::Shape;

/// The shape that `shapes` broadcast to.
pub(crate) fn broadcast<'a>(shapes: impl IntoIterator<Item = &'a [usize]>) -> Result<Shape, Why> {
    let mut result = Shape::default();
    for shape in shapes {
        let rank = result.len().max(shape.len());
        let size = |shape: &[usize], d: usize| {
            if d + shape.len() < rank { 1 } else { shape[d + shape.len() - rank] }
        };
        let both = |d: usize| match (size(&result, d), size(shape, d)) {
            (a, b) if a == b => Ok(a),
            (1, b) => Ok(b),
            (a, 1) => Ok(a),
            (a, b) => refuse!("dimensions {a} and {b} do not broadcast"),
        };
        result = (0..rank).map(both).collect::<Result<_, _>>()?;
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_at_the_last_axis() {
        assert_eq!(broadcast([&[2, 1][..], &[3][..]]), Ok([2, 3].into()));
        assert_eq!(broadcast([&[][..], &[0][..]]), Ok([0].into()));
        assert!(broadcast([&[2][..], &[3][..]]).is_err());
    }
}
