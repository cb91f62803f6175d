//! 64-bit integers, which the device holds in 32 bits. An operation reports a result that does not fit 32 bits, and a value
//! can be compared with a constant that does not fit.

use super::{Builder, Fn1, Fn2, Instr, Reg, Scalar};
use crate::DType;

/// A 64-bit integer type whose values the device holds in 32 bits. Operations report results that do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wide {
    pub(crate) signed: bool,
    /// The number that is reported: that of the node in its unit.
    pub(crate) site: u16,
}

impl Wide {
    /// The register type of these integers. Registers of other types hold indices, which always fit.
    pub(super) fn scalar(self) -> Scalar {
        if self.signed { Scalar::I32 } else { Scalar::U32 }
    }

    /// `Some` if `dtype` is a 64-bit integer type.
    pub(crate) fn of(dtype: DType, site: usize) -> Option<Wide> {
        let signed = dtype == DType::I64;
        let site = u16::try_from(site).unwrap_or(u16::MAX);
        (signed || dtype == DType::U64).then_some(Wide { signed, site })
    }
}

/// What is added to the number of a node that divides by 0: it is greater than the number of any that overflows.
pub(crate) const BY_ZERO: u32 = 1 << 20;

/// On which side of the register's range a constant lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Beyond {
    Above,
    Below,
}

impl Builder {
    /// An integer constant. A constant that does not fit the register can only be compared with.
    pub(crate) fn whole(&mut self, scalar: Scalar, value: i128) -> Reg {
        let (low, high) = match scalar {
            Scalar::U32 => (0, i128::from(u32::MAX)),
            Scalar::I64 => (i128::from(i64::MIN), i128::from(i64::MAX)),
            Scalar::U64 => (0, i128::from(u64::MAX)),
            _ => (i128::from(i32::MIN), i128::from(i32::MAX)),
        };
        match value {
            _ if value > high => self.push(Instr::Beyond(Beyond::Above), scalar),
            _ if value < low => self.push(Instr::Beyond(Beyond::Below), scalar),
            _ if scalar.is_wide() => self.param_wide(scalar, value as u64),
            _ => self.constant(scalar, value as f64),
        }
    }

    pub(super) fn beyond(&self, reg: Reg) -> Option<Beyond> {
        match self.code[reg.0 as usize].0 {
            Instr::Beyond(beyond) => Some(beyond),
            _ => None,
        }
    }

    /// Whether this register, or an instruction before it, needs a constant that does not fit 32 bits.
    pub(crate) fn exceeds(&self, reg: Reg) -> bool {
        self.needs_beyond || self.beyond(reg).is_some()
    }

    /// The result of a comparison with a constant that lies beyond the register's range: it is the same for every value.
    pub(super) fn compared(&mut self, f: Fn2, a: Reg, b: Reg) -> Option<Reg> {
        use Fn2::*;
        let (beyond, constant, other, swapped) = match (self.beyond(a), self.beyond(b)) {
            (None, Some(beyond)) => (beyond, b, a, false),
            (Some(beyond), None) => (beyond, a, b, true),
            _ => return None,
        };
        let above = beyond == Beyond::Above;
        let truth = match f {
            Min => return Some(if above { other } else { constant }),
            Max => return Some(if above { constant } else { other }),
            Equal => false,
            Less | LessOrEqual => above != swapped,
            Greater | GreaterOrEqual => above == swapped,
            _ => return None,
        };
        Some(self.constant(Scalar::Bool, f64::from(u8::from(truth))))
    }

    /// Reports where an integer divisor is 0, unless it is a constant that is not.
    pub(crate) fn report_zero(&mut self, divisor: Reg) {
        let scalar = self.scalar(divisor);
        if scalar.is_float() || self.is_some(divisor) {
            return;
        }
        let some = self.convert(divisor, Scalar::Bool);
        let none = self.push(Instr::One(Fn1::Not, some), Scalar::Bool);
        let word = BY_ZERO + u32::from(self.site);
        let word = self.push(Instr::Literal(Scalar::U32, word), Scalar::U32);
        self.report(none, word);
    }

    /// Whether the register is a constant other than 0.
    fn is_some(&self, reg: Reg) -> bool {
        match self.code[reg.0 as usize] {
            (Instr::Param(i), scalar) => {
                let words = self.params.iter().skip(i as usize).take(scalar.words() as usize);
                words.fold(0, |all, word| all | word) != 0
            }
            (Instr::Literal(_, bits), _) => bits != 0,
            (Instr::Beyond(_), _) => true,
            _ => false,
        }
    }

    /// Reports `word`, a u32 that is not 0, where `condition` holds.
    pub(crate) fn report(&mut self, condition: Reg, word: Reg) {
        self.push(Instr::Report { condition, word }, Scalar::Bool);
    }

    /// An integer of 64 bits in another number of bits, or one of 32 bits in 64. One that does not fit 32 bits is reported.
    pub(crate) fn fitted(&mut self, x: Reg, to: Scalar) -> Reg {
        let from = self.scalar(x);
        let fitted = self.convert(x, to);
        if from.is_wide_integer() && !to.is_wide() {
            let back = self.convert(fitted, from);
            let same = self.push(Instr::Two(Fn2::Equal, back, x), Scalar::Bool);
            let outside = self.push(Instr::One(Fn1::Not, same), Scalar::Bool);
            let word = self.push(Instr::Literal(Scalar::U32, 1), Scalar::U32);
            self.report(outside, word);
        }
        fitted
    }

    fn report_overflow(&mut self, wide: Wide, condition: Reg) {
        let word = self.push(Instr::Literal(Scalar::U32, u32::from(wide.site) + 1), Scalar::U32);
        self.report(condition, word);
    }

    /// Whether the register's sign bit is set.
    fn is_negative(&mut self, x: Reg) -> Reg {
        let signed = self.push(Instr::Bitcast(Scalar::I32, x), Scalar::I32);
        let zero = self.push(Instr::Literal(Scalar::I32, 0), Scalar::I32);
        self.push(Instr::Two(Fn2::Less, signed, zero), Scalar::Bool)
    }

    fn equals(&mut self, x: Reg, scalar: Scalar, bits: u32) -> Reg {
        let literal = self.push(Instr::Literal(scalar, bits), scalar);
        self.push(Instr::Two(Fn2::Equal, x, literal), Scalar::Bool)
    }

    /// Reports where `f(x)` does not fit 32 bits.
    pub(super) fn report_one(&mut self, wide: Wide, f: Fn1, x: Reg) {
        let least = i32::MIN as u32;
        let outside = match (f, wide.signed) {
            (Fn1::Neg | Fn1::Abs, true) => self.equals(x, Scalar::I32, least),
            (Fn1::Neg, false) => {
                let zero = self.equals(x, Scalar::U32, 0);
                self.push(Instr::One(Fn1::Not, zero), Scalar::Bool)
            }
            // The upper half of the 64-bit result is all ones.
            (Fn1::BitNot, false) => self.push(Instr::Literal(Scalar::Bool, 1), Scalar::Bool),
            _ => return,
        };
        self.report_overflow(wide, outside);
    }

    /// Reports where `f(a, b)` does not fit 32 bits; `result` holds its lower 32 bits.
    pub(super) fn report_two(&mut self, wide: Wide, f: Fn2, (a, b): (Reg, Reg), result: Reg) {
        let (scalar, bool) = (self.scalar(a), Scalar::Bool);
        let mut two = |f, a, b, scalar| self.push(Instr::Two(f, a, b), scalar);
        let outside = match (f, wide.signed) {
            // Both operands have one sign, and the result has the other.
            (Fn2::Add, true) => {
                let (a, b) = (two(Fn2::BitXor, a, result, scalar), two(Fn2::BitXor, b, result, scalar));
                let both = two(Fn2::BitAnd, a, b, scalar);
                self.is_negative(both)
            }
            (Fn2::Sub, true) => {
                let (b, r) = (two(Fn2::BitXor, a, b, scalar), two(Fn2::BitXor, a, result, scalar));
                let both = two(Fn2::BitAnd, b, r, scalar);
                self.is_negative(both)
            }
            (Fn2::Add, false) => two(Fn2::Less, result, a, bool),
            (Fn2::Sub, false) => two(Fn2::Less, a, b, bool),
            (Fn2::Mul, _) => two(Fn2::MulOverflows, a, b, bool),
            (Fn2::Pow, _) => two(Fn2::PowOverflows, a, b, bool),
            (Fn2::ShiftLeft, _) => two(Fn2::ShiftOverflows, a, b, bool),
            (Fn2::Div | Fn2::DivRounded, true) => {
                let least = self.equals(a, Scalar::I32, i32::MIN as u32);
                let minus_one = self.equals(b, Scalar::I32, u32::MAX);
                self.push(Instr::Two(Fn2::And, least, minus_one), bool)
            }
            _ => return,
        };
        self.report_overflow(wide, outside);
    }

    /// Reports where `x`, converted to a 64-bit integer, does not fit 32 bits.
    pub(super) fn report_converted(&mut self, wide: Wide, x: Reg) {
        let bool = Scalar::Bool;
        let outside = match self.scalar(x) {
            Scalar::F32 => {
                // -2^31 and 2^31 for signed integers, -1 and 2^32 for unsigned ones.
                let (low, high) =
                    if wide.signed { (0xcf00_0000, 0x4f00_0000) } else { (0xbf80_0000, 0x4f80_0000) };
                let low = self.push(Instr::Literal(Scalar::F32, low), Scalar::F32);
                let high = self.push(Instr::Literal(Scalar::F32, high), Scalar::F32);
                let below = if wide.signed { Fn2::Less } else { Fn2::LessOrEqual };
                let below = self.push(Instr::Two(below, x, low), bool);
                let above = self.push(Instr::Two(Fn2::GreaterOrEqual, x, high), bool);
                self.push(Instr::Two(Fn2::Or, below, above), bool)
            }
            Scalar::F64 => {
                let (low, high) =
                    if wide.signed { (i32::MIN.into(), 2_147_483_648.0) } else { (-1.0, 4_294_967_296.0) };
                let (low, high) = (self.f64(low), self.f64(high));
                let below = if wide.signed { Fn2::Less } else { Fn2::LessOrEqual };
                let below = self.push(Instr::Two(below, x, low), bool);
                let above = self.push(Instr::Two(Fn2::GreaterOrEqual, x, high), bool);
                self.push(Instr::Two(Fn2::Or, below, above), bool)
            }
            // Between signed and unsigned integers.
            Scalar::I32 | Scalar::U32 => self.is_negative(x),
            Scalar::Bool | Scalar::I64 | Scalar::U64 => return,
        };
        self.report_overflow(wide, outside);
    }
}
