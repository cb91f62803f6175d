//! ONNX's (numpy's) multidirectional broadcasting.

use super::{Why, refuse};

/// The shape that `shapes` broadcast to.
pub(crate) fn broadcast<'a>(shapes: impl IntoIterator<Item = &'a [usize]>) -> Result<Vec<usize>, Why> {
    let mut result: Vec<usize> = Vec::new();
    for shape in shapes {
        if shape.len() > result.len() {
            let missing = shape.len() - result.len();
            result.splice(0..0, std::iter::repeat_n(1, missing));
        }
        let skip = result.len() - shape.len();
        for (r, &d) in result[skip..].iter_mut().zip(shape) {
            *r = match (*r, d) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                (a, b) => refuse!("dimensions {a} and {b} do not broadcast"),
            };
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_at_the_last_axis() {
        assert_eq!(broadcast([&[2, 1][..], &[3][..]]), Ok(vec![2, 3]));
        assert_eq!(broadcast([&[][..], &[0][..]]), Ok(vec![0]));
        assert!(broadcast([&[2][..], &[3][..]]).is_err());
    }
}
