//! The types of registers.

use crate::kernels::Storage;
use crate::{DType, Tensor};

/// The type of a register. How elements lie in memory is a [`Storage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scalar {
    F32,
    /// On devices that have it: see [`Target::computes_f64`](crate::kernels::Target).
    F64,
    I32,
    U32,
    /// Integers of 64 bits are pairs of words: see `shaders/math_i64.wgsl`.
    I64,
    U64,
    Bool,
}

/// In how many bits a plan holds 64-bit integers. In 32 bits, an integer that does not fit is an error of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Integers {
    #[default]
    Bits32,
    Bits64,
}

impl Integers {
    /// The register that holds values of `dtype`; `None` if the device does not compute with them.
    pub(crate) fn register(self, dtype: DType) -> Option<Scalar> {
        match (self, dtype) {
            (Integers::Bits64, DType::I64) => Some(Scalar::I64),
            (Integers::Bits64, DType::U64) => Some(Scalar::U64),
            _ => Scalar::of(dtype),
        }
    }

    /// The fewest bits that hold the 64-bit integers of a tensor.
    pub(crate) fn fewest(tensor: &Tensor) -> Integers {
        let all = |fits: fn(&[u8]) -> bool| tensor.bytes().chunks_exact(size_of::<u64>()).all(fits);
        let fits = match tensor.dtype() {
            DType::I64 => all(|v| i32::try_from(bytemuck::pod_read_unaligned::<i64>(v)).is_ok()),
            DType::U64 => all(|v| u32::try_from(bytemuck::pod_read_unaligned::<u64>(v)).is_ok()),
            _ => true,
        };
        if fits { Integers::Bits32 } else { Integers::Bits64 }
    }

    /// The storage of tensors of `dtype`; `None` if the device does not compute with them.
    pub(crate) fn storage(self, dtype: DType) -> Option<Storage> {
        match self.register(dtype) {
            Some(wide) if wide.is_wide_integer() => Some(Storage::Wide),
            _ => Storage::of(dtype),
        }
    }
}

impl Scalar {
    /// The register that holds values of `dtype`, 64-bit integers in 32 bits; `None` if the device does not compute with them.
    pub(crate) fn of(dtype: DType) -> Option<Scalar> {
        use DType::*;
        Some(match dtype {
            F32 | F16 | BF16 | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F6E2M3 | F6E3M2
            | F4E2M1 => Scalar::F32,
            I64 | I32 | I16 | I8 | I4 | I2 => Scalar::I32,
            U64 | U32 | U16 | U8 | U4 | U2 => Scalar::U32,
            F64 => Scalar::F64,
            Bool => Scalar::Bool,
            _ => return None,
        })
    }

    /// The register for floats that are computed from elements of `dtype`: float64 for float64, else float32.
    pub(crate) fn float_for(dtype: DType) -> Scalar {
        if dtype == DType::F64 { Scalar::F64 } else { Scalar::F32 }
    }

    /// The register's WGSL type.
    pub(crate) fn wgsl(self) -> &'static str {
        match self {
            Scalar::F32 => "f32",
            Scalar::F64 => "f64",
            Scalar::I32 => "i32",
            Scalar::U32 => "u32",
            Scalar::I64 | Scalar::U64 => "vec2<u32>",
            Scalar::Bool => "bool",
        }
    }

    /// Whether the register holds a float.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Scalar::F32 | Scalar::F64)
    }

    /// Whether the register has 64 bits.
    pub(crate) fn is_wide(self) -> bool {
        matches!(self, Scalar::F64 | Scalar::I64 | Scalar::U64)
    }

    /// Whether the register holds an integer of 64 bits.
    pub(crate) fn is_wide_integer(self) -> bool {
        matches!(self, Scalar::I64 | Scalar::U64)
    }

    /// The words that hold the register's value among a call's params.
    pub(super) fn words(self) -> u32 {
        if self.is_wide() { 2 } else { 1 }
    }

    /// The functions of `shaders` that add and multiply, where WGSL's operators do not: integers of 64 bits, and those of 32 bits
    /// that are `wide`, whose results are reported if they do not fit.
    pub(crate) fn sums(self, wide: bool) -> Option<[&'static str; 2]> {
        (wide || self.is_wide_integer()).then(|| self.sum_functions())
    }

    fn sum_functions(self) -> [&'static str; 2] {
        match self {
            Scalar::I64 | Scalar::U64 => ["add_64", "mul_64"],
            Scalar::I32 => ["add_checked_i32", "mul_checked_i32"],
            _ => ["add_checked_u32", "mul_checked_u32"],
        }
    }

    /// The WGSL type that holds the register's value outside of expressions: a bool is 0 or 1 there.
    pub(crate) fn word(self) -> &'static str {
        if self == Scalar::Bool { "u32" } else { self.wgsl() }
    }
}
