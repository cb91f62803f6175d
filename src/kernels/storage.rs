//! Storage: how the elements of a tensor lie in a buffer. Kernels compute in registers ([`Scalar`]); what a register is loaded
//! from is a storage, which a call's tensors decide and no kernel's spec knows.

use super::expr::Scalar;
use crate::DType;

/// How elements lie in a buffer, one after the other from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    /// A 32-bit word for each: the register's own bits.
    Word,
}

/// Bytes of a vector of four words. Tensors take whole vectors, so that a kernel may load the last one, and begin at vectors.
pub(crate) const VECTOR_BYTES: u64 = 16;

impl Storage {
    /// How tensors of `dtype` are held; `None` if the device does not compute with them.
    pub(crate) fn of(dtype: DType) -> Option<Storage> {
        Scalar::of(dtype).map(|_| Storage::Word)
    }

    /// Bits of an element.
    const fn bits(self) -> u64 {
        match self {
            Storage::Word => 32,
        }
    }

    /// Bytes that a tensor of `count` elements takes on the device: whole vectors, and at least one.
    pub(crate) const fn bytes(self, count: usize) -> u64 {
        let count = if count == 0 { 1 } else { count as u64 };
        count.saturating_mul(self.bits()).div_ceil(8 * VECTOR_BYTES).saturating_mul(VECTOR_BYTES)
    }

    /// Bytes that `count` elements take, without what fills up the last word.
    pub(crate) fn filled(self, count: usize) -> u64 {
        (count as u64).saturating_mul(self.bits()).div_ceil(8)
    }

    /// The byte at which element `i` begins.
    pub(crate) fn offset(self, i: usize) -> u64 {
        i as u64 * self.bits() / 8
    }

    /// Whether a binding whose offset must be a multiple of `alignment` bytes may begin at element `i`.
    pub(crate) fn begins_at(self, i: i64, alignment: u64) -> bool {
        (i * self.bits() as i64).rem_euclid(8 * alignment.max(VECTOR_BYTES) as i64) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_take_whole_vectors() {
        assert_eq!([0, 1, 4, 5].map(|count| Storage::Word.bytes(count)), [16, 16, 16, 32]);
        assert!(Storage::Word.bytes(usize::MAX) >= u64::MAX / 8);
    }

    #[test]
    fn bindings_begin_at_vectors_at_least() {
        assert_eq!([0, 4, 6, -4].map(|i| Storage::Word.begins_at(i, 8)), [true, true, false, true]);
        assert_eq!([8, 64, -64].map(|i| Storage::Word.begins_at(i, 256)), [false, true, true]);
    }
}
