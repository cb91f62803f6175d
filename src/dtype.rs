//! Element types: all that ONNX names, whether or not a device can compute with them.

use std::fmt;

/// An ONNX element type (`TensorProto.DataType`).
///
/// ```
/// use sardonyx::DType;
/// assert_eq!(DType::F16.to_string(), "float16");
/// assert_eq!(DType::I4.bits(), 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs)] // The variants are ONNX's own names, listed in `TABLE`.
pub enum DType {
    F32,
    U8,
    I8,
    U16,
    I16,
    I32,
    I64,
    String,
    Bool,
    F16,
    F64,
    U32,
    U64,
    C64,
    C128,
    BF16,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    U4,
    I4,
    F4E2M1,
    F8E8M0,
    U2,
    I2,
    F6E2M3,
    F6E3M2,
}

/// (variant, ONNX enum number, name, bits per element)
const TABLE: &[(DType, i32, &str, usize)] = &[
    (DType::F32, 1, "float32", 32),
    (DType::U8, 2, "uint8", 8),
    (DType::I8, 3, "int8", 8),
    (DType::U16, 4, "uint16", 16),
    (DType::I16, 5, "int16", 16),
    (DType::I32, 6, "int32", 32),
    (DType::I64, 7, "int64", 64),
    (DType::String, 8, "string", 0),
    (DType::Bool, 9, "bool", 8),
    (DType::F16, 10, "float16", 16),
    (DType::F64, 11, "float64", 64),
    (DType::U32, 12, "uint32", 32),
    (DType::U64, 13, "uint64", 64),
    (DType::C64, 14, "complex64", 64),
    (DType::C128, 15, "complex128", 128),
    (DType::BF16, 16, "bfloat16", 16),
    (DType::F8E4M3FN, 17, "float8e4m3fn", 8),
    (DType::F8E4M3FNUZ, 18, "float8e4m3fnuz", 8),
    (DType::F8E5M2, 19, "float8e5m2", 8),
    (DType::F8E5M2FNUZ, 20, "float8e5m2fnuz", 8),
    (DType::U4, 21, "uint4", 4),
    (DType::I4, 22, "int4", 4),
    (DType::F4E2M1, 23, "float4e2m1", 4),
    (DType::F8E8M0, 24, "float8e8m0", 8),
    (DType::U2, 25, "uint2", 2),
    (DType::I2, 26, "int2", 2),
    (DType::F6E2M3, 27, "float6e2m3", 6),
    (DType::F6E3M2, 28, "float6e3m2", 6),
];

impl DType {
    fn row(self) -> &'static (DType, i32, &'static str, usize) {
        // The table is in the order of the enum, which a test checks.
        &TABLE[self as usize]
    }

    /// All dtypes, in the order of ONNX's numbers.
    ///
    /// ```
    /// use sardonyx::DType;
    /// assert_eq!(DType::all().find(|dtype| dtype.name() == "float16"), Some(DType::F16));
    /// ```
    pub fn all() -> impl Iterator<Item = DType> {
        TABLE.iter().map(|row| row.0)
    }

    /// The dtype with ONNX's number `code`, if there is one.
    pub(crate) fn from_onnx(code: i32) -> Option<DType> {
        TABLE.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    /// ONNX's number of this dtype.
    pub(crate) fn onnx(self) -> i32 {
        self.row().1
    }

    /// ONNX's (and numpy's) name of this dtype.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Bits per element; 0 for strings.
    pub fn bits(self) -> usize {
        self.row().3
    }

    /// Bytes of `count` elements in ONNX's raw form, where types of fewer than 8 bits are packed; `None` if the number
    /// overflows.
    pub fn bytes_of(self, count: usize) -> Option<usize> {
        count.checked_mul(self.bits())?.checked_add(7).map(|bits| bits / 8)
    }

    /// Whether values are real numbers, with fractions.
    pub fn is_float(self) -> bool {
        use DType::*;
        matches!(
            self,
            F32 | F16
                | F64
                | BF16
                | F8E4M3FN
                | F8E4M3FNUZ
                | F8E5M2
                | F8E5M2FNUZ
                | F6E2M3
                | F6E3M2
                | F4E2M1
                | F8E8M0
        )
    }

    /// Whether values are whole numbers; bools are not.
    pub fn is_int(self) -> bool {
        self.int_range().is_some()
    }

    /// Whether values are integers of 64 bits.
    pub(crate) fn is_wide_integer(self) -> bool {
        matches!(self, DType::I64 | DType::U64)
    }

    /// Whether values are whole numbers that may be negative.
    pub fn is_signed_int(self) -> bool {
        self.int_range().is_some_and(|(low, _)| low < 0)
    }

    /// The least and the greatest number of an integer type.
    pub fn int_range(self) -> Option<(i128, i128)> {
        use DType::*;
        let signed = matches!(self, I2 | I4 | I8 | I16 | I32 | I64);
        let unsigned = matches!(self, U2 | U4 | U8 | U16 | U32 | U64);
        let bits = self.bits() as u32;
        match (signed, unsigned) {
            (true, _) => Some((-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)),
            (_, true) => Some((0, (1i128 << bits) - 1)),
            _ => None,
        }
    }
}

/// As its name.
impl serde::Serialize for DType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_enum_order() {
        for row in TABLE {
            assert_eq!(row.0.row().0, row.0);
            assert_eq!(DType::from_onnx(row.0.onnx()), Some(row.0));
        }
    }

    #[test]
    fn integer_ranges() {
        assert_eq!(DType::I8.int_range(), Some((-128, 127)));
        assert_eq!(DType::U64.int_range(), Some((0, u64::MAX as i128)));
        assert_eq!(DType::I2.int_range(), Some((-2, 1)));
        assert_eq!(DType::Bool.int_range(), None);
    }
}
