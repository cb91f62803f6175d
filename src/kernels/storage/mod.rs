//! Storage: how the elements of a tensor lie in a buffer. Kernels compute in registers ([`Scalar`]); what a register is loaded
//! from is a storage, which a call's tensors decide and no kernel's spec knows.

mod wgsl;

pub(super) use wgsl::accessed;

use super::expr::Scalar;
use crate::DType;

/// How elements lie in a buffer, one after the other from its beginning, the first in a word's lowest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    /// A 32-bit word for each: the register's own bits.
    Word,
    /// float16 in 16 bits. Registers hold f32, which a store rounds to the nearest, ties to even.
    F16,
    /// The same with bfloat16.
    BF16,
    /// 16 bits as they are, in the lower half of an integer register: what kernels that move elements see of the two above.
    Half,
}

/// Bytes of a vector of four words. Tensors take whole vectors, so that a kernel may load the last one, and begin at vectors.
pub(crate) const VECTOR_BYTES: u64 = 16;

impl Storage {
    /// How tensors of `dtype` are held; `None` if the device does not compute with them.
    pub(crate) fn of(dtype: DType) -> Option<Storage> {
        Scalar::of(dtype).map(|_| match dtype {
            DType::F16 => Storage::F16,
            DType::BF16 => Storage::BF16,
            _ => Storage::Word,
        })
    }

    /// Bits of an element.
    pub(crate) const fn bits(self) -> u64 {
        match self {
            Storage::Word => 32,
            Storage::F16 | Storage::BF16 | Storage::Half => 16,
        }
    }

    /// Bytes that a tensor of `count` elements takes on the device: whole vectors, and at least one.
    pub(crate) const fn bytes(self, count: usize) -> u64 {
        let count = if count == 0 { 1 } else { count as u64 };
        count.saturating_mul(self.bits()).div_ceil(8 * VECTOR_BYTES).saturating_mul(VECTOR_BYTES)
    }

    /// Bytes that `count` elements take, without what fills up the last vector.
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

    /// The bits in memory of an element that a register holds as `word`.
    pub(crate) fn stored(self, word: u32) -> u32 {
        let float = f32::from_bits(word);
        match self {
            Storage::Word => word,
            Storage::F16 => half::f16::from_f32(float).to_bits().into(),
            Storage::BF16 => half::bf16::from_f32(float).to_bits().into(),
            Storage::Half => word & 0xffff,
        }
    }

    /// The WGSL name of an element, for people.
    pub(crate) fn name(self, scalar: Scalar) -> &'static str {
        match self {
            Storage::Word => scalar.word(),
            Storage::F16 => "f16",
            Storage::BF16 => "bf16",
            Storage::Half => "half",
        }
    }

    /// How registers of type `scalar` see it: floats are converted, integers get the bits. So kernels that move bits are one
    /// pipeline for all storages of as many bits.
    pub(super) fn seen_as(self, scalar: Scalar) -> Storage {
        match (self, scalar) {
            (Storage::Word, _) => Storage::Word,
            (storage, Scalar::F32) => storage,
            _ => Storage::Half,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_take_whole_vectors() {
        assert_eq!([0, 1, 4, 5].map(|count| Storage::Word.bytes(count)), [16, 16, 16, 32]);
        assert_eq!([0, 1, 8, 9].map(|count| Storage::F16.bytes(count)), [16, 16, 16, 32]);
        assert!(Storage::Word.bytes(usize::MAX) >= u64::MAX / 8);
    }

    #[test]
    fn bindings_begin_at_vectors_at_least() {
        assert_eq!([0, 4, 6, -4].map(|i| Storage::Word.begins_at(i, 8)), [true, true, false, true]);
        assert_eq!([8, 64, -64].map(|i| Storage::Word.begins_at(i, 256)), [false, true, true]);
        assert_eq!([4, 8, 64, 128].map(|i| Storage::BF16.begins_at(i, 256)), [false, false, false, true]);
        assert_eq!([4, 8].map(|i| Storage::F16.begins_at(i, 4)), [false, true]);
    }
}
