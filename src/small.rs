//! Elements of at most 8 bits: the small float formats, and the packing of 6-, 4- and 2-bit elements into bytes.
//!
//! ONNX names a format by its numbers of exponent and mantissa bits: E4M3FN (finite: no infinities), the FNUZ variants
//! (neither infinities nor a negative zero, whose code is NaN), E5M2 (like IEEE 754), E2M3, E3M2 and E2M1 (numbers only) and
//! E8M0 (powers of two only).

use crate::DType;

/// The meaning of the codes beyond the largest number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Special {
    /// The topmost exponent means infinity and NaN.
    Ieee,
    /// The topmost code means NaN.
    Top,
    /// The code of negative zero means NaN.
    NegativeZero,
    /// There is neither infinity nor NaN.
    None,
}

/// The floats of at most 8 bits that have fractions.
pub(crate) const SMALL_FLOATS: [DType; 7] = [
    DType::F8E4M3FN,
    DType::F8E4M3FNUZ,
    DType::F8E5M2,
    DType::F8E5M2FNUZ,
    DType::F6E2M3,
    DType::F6E3M2,
    DType::F4E2M1,
];

/// A small float format with a sign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Format {
    bits: u32,
    pub(crate) mantissa: i32,
    bias: i32,
    /// The largest number.
    pub(crate) most: f64,
    special: Special,
}

impl Format {
    pub(crate) fn of(dtype: DType) -> Option<Format> {
        let format =
            |bits, mantissa, bias, most, special| Some(Format { bits, mantissa, bias, most, special });
        match dtype {
            DType::F8E4M3FN => format(8, 3, 7, 448.0, Special::Top),
            DType::F8E4M3FNUZ => format(8, 3, 8, 240.0, Special::NegativeZero),
            DType::F8E5M2 => format(8, 2, 15, 57344.0, Special::Ieee),
            DType::F8E5M2FNUZ => format(8, 2, 16, 57344.0, Special::NegativeZero),
            DType::F6E2M3 => format(6, 3, 1, 7.5, Special::None),
            DType::F6E3M2 => format(6, 2, 3, 28.0, Special::None),
            DType::F4E2M1 => format(4, 1, 1, 6.0, Special::None),
            _ => None,
        }
    }

    /// The code of the largest number.
    pub(crate) fn most_code(self) -> u32 {
        self.encode(self.most).into()
    }

    /// The bit of a code that is the sign.
    pub(crate) fn sign(self) -> u32 {
        1 << (self.bits - 1)
    }

    /// The exponent of the smallest normal number.
    pub(crate) fn least(self) -> i32 {
        1 - self.bias
    }

    /// Whether there is a negative zero.
    pub(crate) fn has_negative_zero(self) -> bool {
        self.special != Special::NegativeZero
    }

    /// The number to which a number beyond the largest rounds.
    pub(crate) fn beyond(self) -> f64 {
        match self.special {
            Special::Ieee => f64::INFINITY,
            Special::Top | Special::NegativeZero => f64::NAN,
            Special::None => self.most,
        }
    }

    /// The nearest number of the format; ties go to even.
    pub(crate) fn round(self, value: f64) -> f64 {
        if value.is_nan() {
            // A format without NaN has to use some number, and ONNX's suite expects this one.
            return if self.special == Special::None { -0.0 } else { value };
        }
        let size = value.abs();
        let step = power_of_two(exponent(size).max(self.least()) - self.mantissa);
        let rounded = (size / step).round_ties_even() * step;
        let rounded = if rounded > self.most { self.beyond() } else { rounded };
        if rounded == 0.0 && !self.has_negative_zero() { 0.0 } else { rounded.copysign(value) }
    }

    /// The code of a number of the format, in the low bits.
    pub(crate) fn encode(self, value: f64) -> u8 {
        let sign = self.sign();
        if value.is_nan() {
            let own = value.to_bits() as u8;
            return match self.special {
                Special::NegativeZero => sign as u8,
                _ if self.decode(own).is_nan() => own,
                _ => (sign - 1) as u8,
            };
        }
        let size = value.abs();
        let code = if size.is_infinite() {
            (sign - 1) >> self.mantissa << self.mantissa
        } else {
            // The field of the exponent continues that of the mantissa, so the hidden bit of a normal number counts as one
            // step of the exponent.
            let exponent = exponent(size).max(self.least());
            let steps = (size / power_of_two(exponent - self.mantissa)) as u32;
            (((exponent - self.least()) as u32) << self.mantissa) + steps
        };
        let negative = value.is_sign_negative() && (code != 0 || self.has_negative_zero());
        (code | if negative { sign } else { 0 }) as u8
    }

    /// The number of a code. A NaN has the code in its lowest bits, so that what only moves numbers keeps it.
    pub(crate) fn decode(self, code: u8) -> f64 {
        let none = f64::from_bits(f64::NAN.to_bits() | u64::from(code));
        let sign = self.sign();
        let negative = u32::from(code) & sign != 0;
        let code = u32::from(code) & (sign - 1);
        let field = (code >> self.mantissa) as i32;
        let mantissa = f64::from(code & ((1 << self.mantissa) - 1));
        let hidden = if field == 0 { 0.0 } else { power_of_two(self.mantissa) };
        let size = (hidden + mantissa) * power_of_two(field.max(1) - self.bias - self.mantissa);
        let size = match self.special {
            Special::NegativeZero if negative && code == 0 => none,
            Special::Top | Special::Ieee if size > self.most => {
                let infinite = self.special == Special::Ieee && mantissa == 0.0;
                if infinite { f64::INFINITY } else { none }
            }
            _ => size,
        };
        if negative { -size } else { size }
    }
}

/// How a number that is no power of two becomes an E8M0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RoundMode {
    Up,
    Down,
    /// To the nearest; ties go up.
    Nearest,
}

/// The power of two, from 2^-127 to 2^127, for a number. A number beyond becomes the nearest of them if `saturate`, else NaN.
pub(crate) fn round_e8m0(value: f64, mode: RoundMode, saturate: bool) -> f64 {
    let (least, most) = (power_of_two(-127), power_of_two(127));
    let size = value.abs();
    if !(least..=most).contains(&size) {
        return if saturate { size.clamp(least, most) } else { f64::NAN };
    }
    let below = power_of_two(exponent(size));
    let stays = match mode {
        RoundMode::Up => size == below,
        RoundMode::Down => true,
        RoundMode::Nearest => size < 1.5 * below,
    };
    if stays { below } else { 2.0 * below }
}

/// The code of an E8M0 number.
pub(crate) fn encode_e8m0(value: f64) -> u8 {
    if value.is_nan() { 255 } else { (exponent(value) + 127).clamp(0, 254) as u8 }
}

/// The code of the number of `dtype`, a float of at most 8 bits, to which `value` rounds.
pub(crate) fn code(dtype: DType, value: f64) -> u8 {
    match Format::of(dtype) {
        Some(format) => format.encode(format.round(value)),
        None => encode_e8m0(round_e8m0(value, RoundMode::Up, true)),
    }
}

/// The number of an E8M0 code.
pub(crate) fn decode_e8m0(code: u8) -> f64 {
    if code == 255 { f64::NAN } else { power_of_two(i32::from(code) - 127) }
}

/// The codes of `count` elements of `bits` each, packed low bits first.
pub(crate) fn unpack(bytes: &[u8], bits: usize, count: usize) -> Vec<u8> {
    let mask = ((1u16 << bits) - 1) as u8;
    let code = |i: usize| {
        let at = i * bits;
        // An element of 6 bits may begin in one byte and end in the next.
        let next = bytes.get(at / 8 + 1).copied().unwrap_or(0);
        (u16::from_le_bytes([bytes[at / 8], next]) >> (at % 8)) as u8 & mask
    };
    (0..count.min(bytes.len() * 8 / bits)).map(code).collect()
}

/// Codes of `bits` each, packed low bits first.
pub(crate) fn pack(codes: &[u8], bits: usize) -> Vec<u8> {
    let mask = ((1u16 << bits) - 1) as u8;
    let mut bytes = vec![0u8; (codes.len() * bits).div_ceil(8)];
    for (i, &code) in codes.iter().enumerate() {
        let at = i * bits;
        let [low, high] = (u16::from(code & mask) << (at % 8)).to_le_bytes();
        bytes[at / 8] |= low;
        if high != 0 {
            bytes[at / 8 + 1] |= high;
        }
    }
    bytes
}

/// The exponent of the greatest power of two that is at most the positive number `size`; the least exponent there is for 0.
fn exponent(size: f64) -> i32 {
    ((size.to_bits() >> 52) as i32 & 0x7ff) - 1023
}

fn power_of_two(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own() {
        for dtype in SMALL_FLOATS {
            let format = Format::of(dtype).unwrap();
            for code in 0..=(u8::MAX >> (8 - dtype.bits())) {
                let value = format.decode(code);
                assert_eq!(format.encode(value), code, "{dtype} {value}");
                assert_eq!(format.round(value).to_bits(), value.to_bits(), "{dtype} {code}");
            }
        }
        assert!((0..=255).all(|code| encode_e8m0(decode_e8m0(code)) == code));
    }

    #[test]
    fn numbers_of_the_specification() {
        // OCP 8-bit floating point specification, table 1, and ONNX's float8 page.
        let ends = |dtype: DType| {
            let format = Format::of(dtype).unwrap();
            (format.decode(0x7e), format.decode(0x08), format.decode(0x01))
        };
        assert_eq!(ends(DType::F8E4M3FN), (448.0, 2f64.powi(-6), 2f64.powi(-9)));
        assert_eq!(Format::of(DType::F8E5M2).unwrap().decode(0x7b), 57344.0);
        assert_eq!(Format::of(DType::F8E4M3FNUZ).unwrap().decode(0x7f), 240.0);
        assert_eq!(Format::of(DType::F8E5M2FNUZ).unwrap().decode(0x7f), 57344.0);
        // OCP Microscaling formats, tables 3 and 4.
        assert_eq!(
            [0x1f, 0x08, 0x01].map(|c| Format::of(DType::F6E2M3).unwrap().decode(c)),
            [7.5, 1.0, 0.125]
        );
        assert_eq!(
            [0x1f, 0x04, 0x01].map(|c| Format::of(DType::F6E3M2).unwrap().decode(c)),
            [28.0, 0.25, 0.0625]
        );
        let fours: Vec<f64> = (0..8).map(|code| Format::of(DType::F4E2M1).unwrap().decode(code)).collect();
        assert_eq!(fours, [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
    }

    #[test]
    fn rounds_to_nearest_even() {
        let format = Format::of(DType::F8E4M3FN).unwrap();
        assert_eq!([1.0625, 1.1875, 464.0, 0.0009].map(|v| format.round(v)), [1.0, 1.25, 448.0, 0.0]);
        assert!(format.round(465.0).is_nan());
        assert_eq!(Format::of(DType::F8E5M2).unwrap().round(-1e9), f64::NEG_INFINITY);
        assert_eq!(Format::of(DType::F4E2M1).unwrap().round(-1e9), -6.0);
        assert!(Format::of(DType::F8E5M2FNUZ).unwrap().round(-1e-9).is_sign_positive());
    }

    #[test]
    fn powers_of_two() {
        let up = |value| round_e8m0(value, RoundMode::Up, true);
        assert_eq!([up(0.0), up(3.0), up(f64::INFINITY)], [2f64.powi(-127), 4.0, 2f64.powi(127)]);
        assert_eq!(round_e8m0(3.0, RoundMode::Down, true), 2.0);
        assert_eq!(round_e8m0(3.0, RoundMode::Nearest, true), 4.0);
        assert_eq!(round_e8m0(2.9, RoundMode::Nearest, true), 2.0);
        assert!(round_e8m0(0.0, RoundMode::Nearest, false).is_nan());
    }

    #[test]
    fn packs_low_bits_first() {
        assert_eq!(pack(&[1, 2, 3], 4), [0x21, 0x03]);
        assert_eq!(pack(&[1, 2, 3, 0, 1], 2), [0b00_11_10_01, 1]);
        assert_eq!(unpack(&[0x21, 0x03], 4, 3), [1, 2, 3]);
        assert_eq!(unpack(&[0xff], 8, 1), [0xff]);
        // onnx.proto: four elements of 6 bits are three bytes.
        let (x, packed) = ([0x21, 0x3f, 0x05, 0x2a, 0x13], pack(&[0x21, 0x3f, 0x05, 0x2a, 0x13], 6));
        assert_eq!(
            packed,
            [x[0] | (x[1] & 3) << 6, x[1] >> 2 | (x[2] & 15) << 4, x[2] >> 4 | x[3] << 2, x[4]]
        );
        assert_eq!(unpack(&packed, 6, 5), x);
    }
}
