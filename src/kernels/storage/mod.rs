//! Storage: how the elements of a tensor lie in a buffer. Kernels compute in registers ([`Scalar`]), and load a register from
//! a storage. The tensors of a call decide which storage that is; a kernel's spec does not know it.

mod wgsl;

pub(super) use wgsl::accessed;

use super::expr::Scalar;
use crate::DType;
use crate::small;

/// How elements lie in a buffer, one after the other from its beginning. Where several share a word, the first has its lowest
/// bits: ten float16 elements are five words, and take 32 bytes, which are two whole vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    /// Each element is a 32-bit word with the register's own bits.
    Word,
    /// Each element is 64 bits: a float64, or an integer of 64 bits. Kernels that move elements see its bits.
    Wide,
    /// Each element is a float16 in 16 bits. Registers hold float32; a store rounds to the nearest float16, ties to even.
    F16,
    /// Each element is a bfloat16 in 16 bits, loaded and stored in the same way.
    BF16,
    /// Each element is an integer of 16, 8, 4 or 2 bits, or a bool in 8. Registers hold the number in 32 bits; a store drops the
    /// upper bits. Kernels that move elements see float16 and bfloat16 like this, too.
    Narrow { bits: u8, signed: bool },
    /// Each element is the code of a number of the format, a float of 8, 6 or 4 bits, in the lower ones of `bits` bits. Registers
    /// hold the number as float32, and a store takes one that the format has. Kernels that move elements see the code's bits.
    Small { format: DType, bits: u8 },
}

/// Bytes of a vector of four words. A tensor begins at a vector and takes whole vectors, so a kernel may load the last one.
pub(crate) const VECTOR_BYTES: u64 = 16;

impl Storage {
    /// The storage of tensors of `dtype`; `None` if the device does not compute with them.
    pub(crate) fn of(dtype: DType) -> Option<Storage> {
        let narrow = |bits, signed| Storage::Narrow { bits, signed };
        Scalar::of(dtype).map(|_| match dtype {
            DType::F16 => Storage::F16,
            DType::BF16 => Storage::BF16,
            DType::F64 => Storage::Wide,
            DType::I16 => narrow(16, true),
            DType::U16 => narrow(16, false),
            DType::I8 => narrow(8, true),
            DType::U8 | DType::Bool => narrow(8, false),
            DType::I4 => narrow(4, true),
            DType::U4 => narrow(4, false),
            DType::I2 => narrow(2, true),
            DType::U2 => narrow(2, false),
            DType::F4E2M1 => Storage::Small { format: dtype, bits: 4 },
            // No element of 6 bits lies in two words.
            _ if dtype.bits() <= 8 => Storage::Small { format: dtype, bits: 8 },
            _ => Storage::Word,
        })
    }

    /// The storage that has a register's own bits.
    pub(crate) fn of_register(scalar: Scalar) -> Storage {
        if scalar.is_wide() { Storage::Wide } else { Storage::Word }
    }

    /// Whether a store rounds what the register holds.
    pub(crate) fn rounds(self) -> bool {
        matches!(self, Storage::F16 | Storage::BF16)
    }

    /// Whether WGSL's own loads and stores are those of the storage.
    pub(super) fn is_plain(self) -> bool {
        matches!(self, Storage::Word | Storage::Wide)
    }

    /// Bits of an element.
    pub(crate) const fn bits(self) -> u64 {
        match self {
            Storage::Word => 32,
            Storage::Wide => 64,
            Storage::F16 | Storage::BF16 => 16,
            Storage::Narrow { bits, .. } | Storage::Small { bits, .. } => bits as u64,
        }
    }

    /// Bytes of what a kernel loads at once, at most: four elements of 64 bits, or a vector of words.
    const fn vector_bytes(self) -> u64 {
        if matches!(self, Storage::Wide) { 2 * VECTOR_BYTES } else { VECTOR_BYTES }
    }

    /// Bytes that a tensor of `count` elements takes on the device: whole vectors, and at least one.
    pub(crate) const fn bytes(self, count: usize) -> u64 {
        let count = if count == 0 { 1 } else { count as u64 };
        let vector = self.vector_bytes();
        count.saturating_mul(self.bits()).div_ceil(8 * vector).saturating_mul(vector)
    }

    /// Bytes of `count` elements, without what fills up the last vector.
    pub(crate) fn filled(self, count: usize) -> u64 {
        (count as u64).saturating_mul(self.bits()).div_ceil(8)
    }

    /// The byte at which element `i` begins.
    pub(crate) fn offset(self, i: usize) -> u64 {
        i as u64 * self.bits() / 8
    }

    /// Whether a binding whose offset must be a multiple of `alignment` bytes may begin at element `i`.
    pub(crate) fn begins_at(self, i: i64, alignment: u64) -> bool {
        (i * self.bits() as i64).rem_euclid(8 * alignment.max(self.vector_bytes()) as i64) == 0
    }

    /// The bits in memory of an element, from the word of the register that holds it.
    pub(crate) fn stored(self, word: u32) -> u32 {
        let float = f32::from_bits(word);
        match self {
            Storage::Word | Storage::Wide => word,
            Storage::F16 => half::f16::from_f32(float).to_bits().into(),
            Storage::BF16 => half::bf16::from_f32(float).to_bits().into(),
            Storage::Narrow { bits, .. } => word & ((1 << bits) - 1),
            Storage::Small { format, .. } => small::code(format, float.into()).into(),
        }
    }

    /// The WGSL name of an element's type, for people to read.
    pub(crate) fn name(self, scalar: Scalar) -> &'static str {
        match self {
            Storage::Word => scalar.word(),
            Storage::Wide => scalar.word(),
            Storage::F16 => "f16",
            Storage::BF16 => "bf16",
            Storage::Small { format, .. } => format.name(),
            Storage::Narrow { .. } if scalar == Scalar::Bool => "bool",
            Storage::Narrow { bits: 16, signed: true } => "i16",
            Storage::Narrow { bits: 16, signed: false } => "u16",
            Storage::Narrow { bits: 8, signed: true } => "i8",
            Storage::Narrow { bits: 8, signed: false } => "u8",
            Storage::Narrow { bits: 4, signed: true } => "i4",
            Storage::Narrow { bits: 4, signed: false } => "u4",
            Storage::Narrow { signed: true, .. } => "i2",
            Storage::Narrow { signed: false, .. } => "u2",
        }
    }

    /// What the storage is for registers of type `scalar`: float registers hold converted numbers, integer registers the bits of
    /// floats. `narrow`: whether all that the kernel writes is narrow, so that it does not matter how a moved integer fills its
    /// register. A kernel that only moves bits is therefore one pipeline for all storages of the same number of bits.
    pub(super) fn seen_as(self, scalar: Scalar, narrow: bool) -> Storage {
        match (self, scalar) {
            (Storage::F16 | Storage::BF16 | Storage::Small { .. }, Scalar::F32) => self,
            (Storage::Word | Storage::Wide, _) => self,
            (Storage::F16 | Storage::BF16, _) => Storage::Narrow { bits: 16, signed: false },
            (Storage::Small { bits, .. }, _) => Storage::Narrow { bits, signed: false },
            (Storage::Narrow { bits, .. }, Scalar::U32) if narrow => Storage::Narrow { bits, signed: false },
            (Storage::Narrow { .. }, _) => self,
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
        assert_eq!([0, 1, 4, 5].map(|count| Storage::Wide.bytes(count)), [32, 32, 32, 64]);
        assert_eq!(
            [0, 1, 16, 17].map(|count| Storage::of(DType::Bool).unwrap().bytes(count)),
            [16, 16, 16, 32]
        );
        let nibbles = Storage::Narrow { bits: 4, signed: false };
        assert_eq!([0, 1, 32, 33].map(|count| nibbles.bytes(count)), [16, 16, 16, 32]);
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
