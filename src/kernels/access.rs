//! How the elements of a value lie in a tensor: at a base, with a stride for each dimension. A transpose, a slice or a
//! broadcast makes another access to the same tensor, and needs no kernel where the reader can follow it.

use crate::kernels::strided::{Dims, merge};

/// Element `n` of a value, counted in row-major order, is element `base + i0 * stride0 + i1 * stride1 + ...` of the tensor.
/// `(i0, i1, ...)` are the coordinates of `n` over `dims`, the (size, stride) of each dimension, outermost first.
///
/// An example: columns 1 and 2 of a row-major `[3, 4]` tensor have base 1 and dimensions (3, stride 4), (2, stride 1). Element
/// 3 of the value has the coordinates (1, 1), and is the tensor's element 1 + 4 + 1 = 6.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Access {
    pub(crate) base: i64,
    /// No dimension has size 1, and neighbours that one stride serves are one dimension: `[2, 3]` elements in a row are (6,
    /// stride 1).
    pub(crate) dims: Dims,
}

impl Access {
    pub(crate) fn new(base: i64, dims: &[(usize, i64)]) -> Access {
        Access { base, dims: merge(dims) }
    }

    /// The access to a tensor of shape `from` that repeats its elements, by broadcasting, in shape `to`.
    pub(crate) fn broadcast(from: &[usize], to: &[usize]) -> Access {
        // A tensor of one element may have a higher rank than `to`; its sizes are all 1.
        let from = &from[from.len().saturating_sub(to.len())..];
        let skip = to.len() - from.len();
        let mut dims = Dims::new();
        let mut stride = 1;
        for (d, &size) in to.iter().enumerate().rev() {
            let own = if d >= skip { from[d - skip] } else { 1 };
            dims.push((size, if own == 1 { 0 } else { stride as i64 }));
            stride *= own;
        }
        dims.reverse();
        Access::new(0, &dims)
    }

    /// The tensor's element that element `n` of the value is.
    pub(crate) fn element(&self, mut n: usize) -> i64 {
        let mut at = self.base;
        for &(size, stride) in self.dims.iter().rev() {
            at += (n % size) as i64 * stride;
            n /= size;
        }
        at
    }

    /// Whether all elements of the value are one element of the tensor.
    pub(crate) fn repeats_one(&self) -> bool {
        self.dims.iter().all(|dim| dim.1 == 0)
    }

    /// Whether the elements lie one after the other from the base on.
    pub(crate) fn is_dense(&self) -> bool {
        matches!(self.dims[..], [] | [(_, 1)])
    }

    /// This access is to a value, and the value lies in a tensor as `inner` says: the access to that tensor which reads the
    /// same elements. `None` where some dimension would need more than one stride.
    ///
    /// An example: a value of shape `[3, 2]` is the transpose of a tensor `[2, 3]`, so `inner` has base 0 and dimensions (3,
    /// stride 1), (2, stride 3). This access is the value's last row: base 4, dimension (2, stride 1). Element 4 of the value
    /// has the coordinates (2, 0), and is the tensor's element 2; a step along the row is a step along `inner`'s second
    /// dimension. The result has base 2 and dimension (2, stride 3).
    pub(crate) fn within(&self, inner: &Access) -> Option<Access> {
        if inner.is_dense() {
            return Some(Access { base: self.base + inner.base, dims: self.dims.clone() });
        }
        // For each dimension of `inner`: its stride, its size, the number of elements between neighbours along it, and the
        // range of coordinates that this access reaches.
        let mut digits = Vec::new();
        let mut step: i64 = 1;
        for &(size, stride) in inner.dims.iter().rev() {
            digits.push(Digit { size: size as i64, stride, step, low: 0, high: 0 });
            step *= size as i64;
        }
        let mut rest = self.base;
        if !(0..step).contains(&rest) {
            return None;
        }
        let mut base = inner.base;
        for digit in digits.iter_mut().rev() {
            let at = rest / digit.step;
            (digit.low, digit.high) = (at, at);
            base += at * digit.stride;
            rest %= digit.step;
        }
        let mut dims = Dims::new();
        for &(size, stride) in self.dims.iter().rev() {
            let mut left = size as i64;
            let mut stride = stride;
            while left > 1 && stride != 0 {
                let at = digits.iter().rposition(|digit| digit.step <= stride.abs())?;
                let digit = &mut digits[at];
                let by = stride / digit.step;
                if stride % digit.step != 0 {
                    return None;
                }
                // This dimension takes the steps that it has room for; the next one takes the rest.
                let room = digit.size / by.abs();
                let count = if left <= room || by < 0 { left } else { room };
                if by > 0 {
                    digit.high += by * (count - 1)
                } else {
                    digit.low += by * (count - 1)
                }
                if digit.high >= digit.size || digit.low < 0 || left % count != 0 {
                    return None;
                }
                if count < left && digit.size % by != 0 {
                    return None;
                }
                dims.push((count as usize, by * digit.stride));
                left /= count;
                stride *= count;
            }
            if left > 1 {
                dims.push((left as usize, 0));
            }
        }
        dims.reverse();
        Some(Access::new(base, &dims))
    }

    /// The sizes and strides that make up each dimension of `shape`, where this access is to the elements of `shape` in
    /// row-major order. A dimension of size 1 has none. A dimension has several where one stride is not enough: 32 elements
    /// that are 8 heads of 4 may be (8, stride 12), (4, stride 1). `None` where sizes do not divide.
    pub(crate) fn split(&self, shape: &[usize]) -> Option<Vec<Vec<(usize, i64)>>> {
        let mut dims = self.dims.iter().rev().copied();
        let mut rest = (1, 0);
        let mut split = Vec::new();
        for &size in shape.iter().rev() {
            let mut pieces = Vec::new();
            let mut left = size;
            while left != 1 {
                if rest.0 == 1 {
                    rest = dims.next()?;
                }
                let (piece, stride) = (left.min(rest.0), rest.1);
                if piece == 0 || left % piece != 0 || rest.0 % piece != 0 {
                    return None;
                }
                pieces.push((piece, stride));
                left /= piece;
                rest = (rest.0 / piece, stride * piece as i64);
            }
            pieces.reverse();
            split.push(pieces);
        }
        split.reverse();
        Some(split)
    }
}

struct Digit {
    size: i64,
    stride: i64,
    step: i64,
    low: i64,
    high: i64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::array;

    impl Access {
        /// The index in the tensor of each element.
        fn elements(&self) -> Vec<i64> {
            let sizes: Vec<usize> = self.dims.iter().map(|dim| dim.0).collect();
            let count: usize = sizes.iter().product();
            let of = |n| array::unravel(n, &sizes).into_iter().zip(&self.dims);
            (0..count).map(|n| self.base + of(n).map(|(at, dim)| at as i64 * dim.1).sum::<i64>()).collect()
        }
    }

    fn transposed(shape: &[usize], perm: &[usize]) -> Access {
        let strides = array::strides(shape);
        let dims: Vec<_> = perm.iter().map(|&axis| (shape[axis], strides[axis] as i64)).collect();
        Access::new(0, &dims)
    }

    #[test]
    fn a_transpose_of_a_transpose_is_dense() {
        let once = transposed(&[2, 3, 4, 5], &[0, 2, 1, 3]);
        let twice = transposed(&[2, 4, 3, 5], &[0, 2, 1, 3]).within(&once).unwrap();
        assert!(twice.is_dense() && twice.base == 0);
    }

    #[test]
    fn heads_are_split_and_transposed_by_strides() {
        // [batch, row, head, depth] to [batch, head, depth, row], by way of [batch * head, row, depth].
        let heads = transposed(&[2, 8, 3, 4], &[0, 2, 1, 3]);
        let keys = transposed(&[6, 8, 4], &[0, 2, 1]).within(&heads).unwrap();
        let dims = |dims: &[(usize, i64)]| dims.iter().map(|&dim| vec![dim]).collect::<Vec<_>>();
        assert_eq!(keys.split(&[2, 3, 4, 8]), Some(dims(&[(2, 96), (3, 4), (4, 1), (8, 12)])));
        // The heads of one row do not adjoin in memory.
        let split = heads.split(&[2, 3, 32]);
        assert_eq!(split, Some(vec![vec![(2, 96)], vec![(3, 4)], vec![(8, 12), (4, 1)]]));
        assert_eq!(heads.split(&[4, 3, 16]), None);
    }

    /// An access to `count` elements: shapes, permutations and ranges follow from `choices`.
    fn any_access(count: usize, choices: &[u32]) -> Access {
        let mut shape = Vec::new();
        let mut rest = count;
        for choice in choices.iter().take(3) {
            let factors: Vec<usize> = (1..=rest).filter(|f| rest.is_multiple_of(*f)).collect();
            let factor = factors[*choice as usize % factors.len()];
            shape.push(factor);
            rest /= factor;
        }
        shape.push(rest);
        let strides = array::strides(&shape);
        let mut base = 0;
        let mut dims = Vec::new();
        for (axis, &size) in shape.iter().enumerate() {
            let choice = choices[3 + axis] as usize;
            let start = choice % size;
            let (step, kept) = match choice / 64 % 4 {
                0 => (1, size - start),
                1 => (-1, start + 1),
                2 => (2, (size - start).div_ceil(2)),
                _ => (1, size),
            };
            let start = if kept == size && step == 1 { 0 } else { start };
            base += (start * strides[axis]) as i64;
            dims.push((kept, step * strides[axis] as i64));
        }
        if choices[7].is_multiple_of(5) {
            dims.push((3, 0));
        }
        let turn = choices[7] as usize % dims.len();
        dims.rotate_left(turn);
        Access::new(base, &dims)
    }

    proptest! {
        #[test]
        fn an_access_within_an_access_names_the_same_elements(choices in prop::collection::vec(any::<u32>(), 16)) {
            let inner = any_access(48, &choices[..8]);
            let values = inner.elements();
            let outer = any_access(values.len(), &choices[8..]);
            if let Some(access) = outer.within(&inner) {
                let expected: Vec<i64> = outer.elements().iter().map(|&n| values[n as usize]).collect();
                prop_assert_eq!(access.elements(), expected, "{:?} in {:?}", outer, inner);
            }
        }
    }
}
