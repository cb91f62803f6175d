//! WGSL of expressions.

use std::collections::BTreeSet;

use super::{Expr, Fn1, Fn2, Instr, Reg, Scalar};
use crate::DType;
use crate::small::{Format, RoundMode};

impl Expr {
    /// WGSL statements that compute the outputs, and for each output an expression of its word. The arguments are WGSL
    /// expressions: `load(i, None)` is the value of operand `i`, `load(i, Some(place))` its element at a place, `param(i)` parameter `i` as u32, `index` the element's linear
    /// index, and `exists` tells whether the result has that element. `used` collects the functions of `shaders/math.wgsl`
    /// that the statements call.
    pub(crate) fn wgsl(
        &self,
        load: impl Fn(usize, Option<&str>) -> String,
        param: impl Fn(usize) -> String,
        (index, exists): (&str, &str),
        used: &mut BTreeSet<&'static str>,
    ) -> (Vec<String>, Vec<String>) {
        let mut lines = Vec::new();
        for (at, (instr, scalar)) in self.code.iter().enumerate() {
            let of = |r: &Reg| (format!("r{}", r.0), self.code[r.0 as usize].1);
            let value = match instr {
                Instr::Load(i) if *scalar == Scalar::Bool => format!("{} != 0u", load(*i as usize, None)),
                Instr::Load(i) => load(*i as usize, None),
                Instr::Pick(table, place) => match self.code[table.0 as usize].0 {
                    Instr::Table(i) => load(i as usize, Some(&of(place).0)),
                    _ => of(table).0,
                },
                Instr::Param(i) if *scalar == Scalar::U32 => param(*i as usize),
                Instr::Param(i) if scalar.is_wide() => {
                    let words = format!("{}, {}", param(*i as usize), param(*i as usize + 1));
                    match scalar {
                        Scalar::F64 => call("f64_of_words", &words, used),
                        _ => format!("vec2<u32>({words})"),
                    }
                }
                Instr::Param(i) => format!("bitcast<{}>({})", scalar.wgsl(), param(*i as usize)),
                Instr::Literal(Scalar::F32, bits) => format!("f32({:?})", f32::from_bits(*bits)),
                Instr::Literal(Scalar::F64, bits) => format!("{:?}lf", f32::from_bits(*bits)),
                Instr::Literal(Scalar::Bool, bits) => format!("{}", *bits != 0),
                Instr::Literal(scalar, bits) if scalar.is_wide() => format!("vec2<u32>({bits}u, 0u)"),
                Instr::Literal(scalar, bits) => format!("bitcast<{}>({bits}u)", scalar.wgsl()),
                Instr::Index => index.into(),
                Instr::One(f, x) => one(*f, of(x), used),
                Instr::Two(f, a, b) => two(*f, of(a), of(b).0, used),
                Instr::Select { condition, yes, no } => {
                    format!("select({}, {}, {})", of(no).0, of(yes).0, of(condition).0)
                }
                Instr::Convert(to, x) => convert(*to, of(x), used),
                Instr::Bitcast(to, x) => bitcast(*to, of(x), used),
                Instr::Narrow(dtype, x) => narrow(*dtype, of(x), used),
                Instr::Kept(x, zero) if *scalar == Scalar::F64 => {
                    format!("bitcast<f64>(bitcast<u64>({}) ^ u64({}))", of(x).0, of(zero).0)
                }
                Instr::Kept(x, zero) => format!("bitcast<f32>(bitcast<u32>({}) ^ {})", of(x).0, of(zero).0),
                Instr::Report { condition, word } => {
                    let report = call("report", &of(word).0, used);
                    lines.push(format!("if {} && {exists} {{ {report}; }}", of(condition).0));
                    continue;
                }
                Instr::Table(_) | Instr::Beyond(_) => continue,
            };
            lines.push(format!("let r{at}: {} = {value};", scalar.wgsl()));
        }
        let outputs = self.outputs.iter().map(|r| {
            let bool = self.code[r.0 as usize].1 == Scalar::Bool;
            if bool { format!("select(0u, 1u, r{})", r.0) } else { format!("r{}", r.0) }
        });
        (lines, outputs.collect())
    }
}

fn call(name: &'static str, args: &str, used: &mut BTreeSet<&'static str>) -> String {
    used.insert(name);
    format!("{name}({args})")
}

impl Fn1 {
    /// The function's name in `shaders/math_f64.wgsl`, if it stands there.
    fn name_f64(self) -> Option<&'static str> {
        use Fn1::*;
        Some(match self {
            Sign => "sign_f64",
            Sin => "sin_f64",
            Cos => "cos_f64",
            Tan => "tan_f64",
            Erf => "erf_f64",
            Exp => "exp_f64",
            ExpM1 => "exp_m1_f64",
            Log => "log_f64",
            Atan => "atan_f64",
            Asin => "asin_f64",
            Acos => "acos_f64",
            Sinh => "sinh_f64",
            Cosh => "cosh_f64",
            Tanh => "tanh_f64",
            Asinh => "asinh_f64",
            Acosh => "acosh_f64",
            Atanh => "atanh_f64",
            IsNan => "is_nan_f64",
            Sigmoid => "sigmoid_f64",
            Softplus => "softplus_f64",
            RoundOdd => "round_odd",
            _ => return None,
        })
    }

    /// Whether a float64 has the function.
    pub(super) fn is_for_f64(self) -> bool {
        use Fn1::*;
        let native =
            matches!(self, Neg | Abs | Sqrt | Reciprocal | Floor | Ceil | Round | IsPosInf | IsNegInf);
        native || self.name_f64().is_some()
    }

    /// Whether an integer of 64 bits has the function.
    pub(super) fn is_for_integers(self) -> bool {
        use Fn1::*;
        matches!(self, Neg | Abs | Sign | Not | BitNot | Floor | Ceil | Round | RoundOdd)
    }
}

fn one(f: Fn1, (x, scalar): (String, Scalar), used: &mut BTreeSet<&'static str>) -> String {
    let double = scalar == Scalar::F64;
    if let Some(name) = f.name_f64().filter(|_| double) {
        return call(name, &x, used);
    }
    let builtin = match f {
        Fn1::Neg if scalar == Scalar::U32 => return format!("(0u - {x})"),
        Fn1::Neg if scalar.is_wide_integer() => return call("neg_64", &x, used),
        Fn1::Neg => return format!("(-{x})"),
        Fn1::Not => return format!("(!{x})"),
        Fn1::BitNot => return format!("(~{x})"),
        Fn1::Abs if matches!(scalar, Scalar::U32 | Scalar::U64) => return x,
        Fn1::Floor | Fn1::Ceil | Fn1::Round if !scalar.is_float() => return x,
        Fn1::Sign if scalar == Scalar::U32 => return format!("min({x}, 1u)"),
        Fn1::Sign if scalar == Scalar::U64 => return call("sign_u64", &x, used),
        Fn1::Sign if scalar == Scalar::I64 => return call("sign_i64", &x, used),
        Fn1::Abs if scalar == Scalar::I64 => return call("abs_i64", &x, used),
        Fn1::Reciprocal if double => return format!("(1.0lf / {x})"),
        Fn1::RoundOdd => {
            let name = match scalar {
                Scalar::I32 => "round_odd_i32",
                Scalar::U32 => "round_odd_u32",
                Scalar::I64 => "round_odd_i64",
                Scalar::U64 => "round_odd_u64",
                _ => return x,
            };
            return call(name, &x, used);
        }
        Fn1::IsPosInf if double => return format!("(bitcast<u64>({x}) == 0x7ff0000000000000lu)"),
        Fn1::IsNegInf if double => return format!("(bitcast<u64>({x}) == 0xfff0000000000000lu)"),
        Fn1::Reciprocal => return format!("(1.0 / {x})"),
        Fn1::Abs => "abs",
        Fn1::Sign if scalar == Scalar::F32 => return call("sign_full", &x, used),
        Fn1::Sign => "sign",
        Fn1::Sqrt => "sqrt",
        Fn1::Cos => return call("cos_full", &x, used),
        Fn1::Sin => return call("sin_full", &x, used),
        Fn1::Tan => return call("tan_full", &x, used),
        Fn1::Asin => return call("asin_full", &x, used),
        Fn1::Acos => return call("acos_full", &x, used),
        Fn1::Floor => "floor",
        Fn1::Ceil => "ceil",
        Fn1::Round => "round",
        Fn1::ExpM1 => return call("exp_m1", &x, used),
        Fn1::Exp => return call("exp_full", &x, used),
        Fn1::Log => return call("log_full", &x, used),
        Fn1::Atan => return call("atan_full", &x, used),
        Fn1::Sinh => return call("sinh_full", &x, used),
        Fn1::Cosh => return call("cosh_full", &x, used),
        Fn1::Tanh => return call("tanh_full", &x, used),
        Fn1::Asinh => return call("asinh_full", &x, used),
        Fn1::Acosh => return call("acosh_full", &x, used),
        Fn1::Atanh => return call("atanh_full", &x, used),
        Fn1::Erf => return call("erf", &x, used),
        Fn1::IsNan => return call("is_nan", &x, used),
        Fn1::IsPosInf => return format!("(bitcast<u32>({x}) == 0x7f800000u)"),
        Fn1::IsNegInf => return format!("(bitcast<u32>({x}) == 0xff800000u)"),
        Fn1::Sigmoid => return call("sigmoid", &x, used),
        Fn1::RoundE8m0(mode, saturate) => {
            // The smallest fraction that rounds up.
            let from: u32 = match mode {
                RoundMode::Up => 1,
                RoundMode::Nearest => 1 << 22,
                RoundMode::Down => 1 << 23,
            };
            return call("round_e8m0", &format!("{x}, {from}u, {saturate}"), used);
        }
        Fn1::Softplus => return call("softplus", &x, used),
    };
    format!("{builtin}({x})")
}

/// How a function of pairs is called for `f(a, b)`.
enum PairCall {
    Plain,
    Swapped,
    Not,
    SwappedNot,
}

impl Fn2 {
    /// The function of `shaders/math_i64.wgsl` that computes this one. The operators of bits are WGSL's own.
    fn of_pairs(self, signed: bool) -> Option<(&'static str, PairCall)> {
        let less = if signed { "less_i64" } else { "less_u64" };
        Some(match (self, signed) {
            (Fn2::Add, _) => ("add_64", PairCall::Plain),
            (Fn2::Sub, _) => ("sub_64", PairCall::Plain),
            (Fn2::Mul, _) => ("mul_64", PairCall::Plain),
            (Fn2::Div | Fn2::DivRounded, true) => ("div_i64", PairCall::Plain),
            (Fn2::Div | Fn2::DivRounded, false) => ("div_u64", PairCall::Plain),
            (Fn2::Rem, true) => ("rem_floor_i64", PairCall::Plain),
            (Fn2::FMod, true) => ("rem_i64", PairCall::Plain),
            (Fn2::Rem | Fn2::FMod, false) => ("rem_u64", PairCall::Plain),
            (Fn2::Min, true) => ("min_i64", PairCall::Plain),
            (Fn2::Min, false) => ("min_u64", PairCall::Plain),
            (Fn2::Max, true) => ("max_i64", PairCall::Plain),
            (Fn2::Max, false) => ("max_u64", PairCall::Plain),
            (Fn2::Pow, true) => ("pow_i64", PairCall::Plain),
            (Fn2::Pow, false) => ("pow_u64", PairCall::Plain),
            (Fn2::ShiftLeft, _) => ("shift_left_64", PairCall::Plain),
            (Fn2::ShiftRight, true) => ("shift_right_i64", PairCall::Plain),
            (Fn2::ShiftRight, false) => ("shift_right_u64", PairCall::Plain),
            (Fn2::Equal, _) => ("equal_64", PairCall::Plain),
            (Fn2::Less, _) => (less, PairCall::Plain),
            (Fn2::Greater, _) => (less, PairCall::Swapped),
            (Fn2::GreaterOrEqual, _) => (less, PairCall::Not),
            (Fn2::LessOrEqual, _) => (less, PairCall::SwappedNot),
            _ => return None,
        })
    }
}

fn two(f: Fn2, (a, scalar): (String, Scalar), b: String, used: &mut BTreeSet<&'static str>) -> String {
    let float = scalar == Scalar::F32;
    if scalar == Scalar::F64 {
        let name = match f {
            Fn2::Rem => Some("rem_floor_f64"),
            Fn2::FMod => Some("fmod_f64"),
            Fn2::Pow => Some("pow_f64"),
            Fn2::Min => Some("min_f64"),
            Fn2::Max => Some("max_f64"),
            _ => None,
        };
        if let Some(name) = name {
            return call(name, &format!("{a}, {b}"), used);
        }
    }
    if scalar.is_wide_integer()
        && let Some((name, way)) = f.of_pairs(scalar == Scalar::I64)
    {
        return match way {
            PairCall::Plain => call(name, &format!("{a}, {b}"), used),
            PairCall::Swapped => call(name, &format!("{b}, {a}"), used),
            PairCall::Not => format!("!{}", call(name, &format!("{a}, {b}"), used)),
            PairCall::SwappedNot => format!("!{}", call(name, &format!("{b}, {a}"), used)),
        };
    }
    let operator = match f {
        Fn2::Add => "+",
        Fn2::Sub => "-",
        Fn2::Mul => "*",
        Fn2::DivRounded if float => return call("divide", &format!("{a}, {b}"), used),
        Fn2::Div | Fn2::DivRounded => "/",
        Fn2::Equal => "==",
        Fn2::Less | Fn2::LessOrEqual | Fn2::Greater | Fn2::GreaterOrEqual if scalar == Scalar::Bool => {
            let (a, b) = (format!("select(0u, 1u, {a})"), format!("select(0u, 1u, {b})"));
            return two(f, (a, Scalar::U32), b, used);
        }
        Fn2::Less => "<",
        Fn2::LessOrEqual => "<=",
        Fn2::Greater => ">",
        Fn2::GreaterOrEqual => ">=",
        Fn2::And => "&&",
        Fn2::Or => "||",
        Fn2::Xor => "!=",
        Fn2::BitAnd => "&",
        Fn2::BitOr => "|",
        Fn2::BitXor => "^",
        Fn2::ShiftLeft if scalar == Scalar::I32 => return call("shift_left_i32", &format!("{a}, {b}"), used),
        Fn2::ShiftRight if scalar == Scalar::I32 => {
            return call("shift_right_i32", &format!("{a}, {b}"), used);
        }
        Fn2::ShiftLeft => return call("shift_left", &format!("{a}, {b}"), used),
        Fn2::ShiftRight => return call("shift_right", &format!("{a}, {b}"), used),
        Fn2::Rem if float => return call("rem_floor_f32", &format!("{a}, {b}"), used),
        Fn2::Rem if scalar == Scalar::I32 => return call("rem_floor_i32", &format!("{a}, {b}"), used),
        Fn2::Rem | Fn2::FMod if !float => "%",
        Fn2::Rem | Fn2::FMod => return call("fmod", &format!("{a}, {b}"), used),
        Fn2::PowFloat if scalar == Scalar::I32 => return call("pow_i32_f32", &format!("{a}, {b}"), used),
        Fn2::PowFloat => return call("pow_u32_f32", &format!("{a}, {b}"), used),
        Fn2::Pow if float => return call("pow_full", &format!("{a}, {b}"), used),
        Fn2::Pow if scalar == Scalar::I32 => return call("pow_i32", &format!("{a}, {b}"), used),
        Fn2::Pow => return call("pow_u32", &format!("{a}, {b}"), used),
        Fn2::Min if float => return call("min_full", &format!("{a}, {b}"), used),
        Fn2::Max if float => return call("max_full", &format!("{a}, {b}"), used),
        Fn2::MulOverflows if scalar == Scalar::I32 => {
            return call("mul_overflows_i32", &format!("{a}, {b}"), used);
        }
        Fn2::MulOverflows => return call("mul_overflows_u32", &format!("{a}, {b}"), used),
        Fn2::PowOverflows if scalar == Scalar::I32 => {
            return call("pow_overflows_i32", &format!("{a}, {b}"), used);
        }
        Fn2::ShiftOverflows if scalar == Scalar::I32 => {
            return call("shift_overflows_i32", &format!("{a}, {b}"), used);
        }
        Fn2::ShiftOverflows => return call("shift_overflows_u32", &format!("{a}, {b}"), used),
        Fn2::PowOverflows => return call("pow_overflows_u32", &format!("{a}, {b}"), used),
        Fn2::Min => return format!("min({a}, {b})"),
        Fn2::Max => return format!("max({a}, {b})"),
    };
    format!("({a} {operator} {b})")
}

fn convert(to: Scalar, (x, from): (String, Scalar), used: &mut BTreeSet<&'static str>) -> String {
    match (from, to) {
        (Scalar::F32, Scalar::I64) => call("f32_to_i64", &x, used),
        (Scalar::F32, Scalar::U64) => call("f32_to_u64", &x, used),
        (Scalar::F64, Scalar::I64) => call("f64_to_i64", &x, used),
        (Scalar::F64, Scalar::U64) => call("f64_to_u64", &x, used),
        (Scalar::I32, Scalar::I64 | Scalar::U64) => call("i32_to_64", &x, used),
        (Scalar::U32, Scalar::I64 | Scalar::U64) => call("u32_to_64", &x, used),
        (Scalar::Bool, Scalar::I64 | Scalar::U64) => call("bool_to_64", &x, used),
        (Scalar::I64 | Scalar::U64, Scalar::I64 | Scalar::U64) => x,
        (Scalar::I64 | Scalar::U64, Scalar::I32) => format!("bitcast<i32>({x}.x)"),
        (Scalar::I64 | Scalar::U64, Scalar::U32) => format!("{x}.x"),
        (Scalar::I64 | Scalar::U64, Scalar::Bool) => call("is_some_64", &x, used),
        (Scalar::I64, Scalar::F32) => call("i64_to_f32", &x, used),
        (Scalar::U64, Scalar::F32) => call("u64_to_f32", &x, used),
        (Scalar::I64, Scalar::F64) => call("i64_to_f64", &x, used),
        (Scalar::U64, Scalar::F64) => call("u64_to_f64", &x, used),
        (Scalar::U32, Scalar::F32) => call("u32_to_f32", &x, used),
        (Scalar::F32, Scalar::I32) => call("f32_to_i32", &x, used),
        (Scalar::F64, Scalar::I32) => call("f64_to_i32", &x, used),
        (Scalar::F64, Scalar::U32) => call("f64_to_u32", &x, used),
        (Scalar::F64, Scalar::Bool) => format!("((bitcast<u64>({x}) << 1u) != 0lu)"),
        (Scalar::Bool, Scalar::F64) => format!("select(0.0lf, 1.0lf, {x})"),
        (Scalar::F32, Scalar::U32) => call("f32_to_u32", &x, used),
        // NaN is "not zero", but on some drivers x != 0.0 is false for it.
        (Scalar::F32, Scalar::Bool) => format!("((bitcast<u32>({x}) & 0x7fffffffu) != 0u)"),
        (Scalar::Bool, _) => format!("select({0}(0), {0}(1), {x})", to.wgsl()),
        (_, Scalar::Bool) => format!("({x} != {}(0))", from.wgsl()),
        _ => format!("{}({x})", to.wgsl()),
    }
}

fn bitcast(to: Scalar, (x, from): (String, Scalar), used: &mut BTreeSet<&'static str>) -> String {
    match (from.is_wide_integer(), to.is_wide_integer()) {
        (true, true) => x,
        (true, false) => call("bits_to_f64", &x, used),
        (false, true) => call("bits_of_f64", &x, used),
        (false, false) => format!("bitcast<{}>({x})", to.wgsl()),
    }
}

/// WGSL of `x`, of register type `scalar`, rounded or wrapped to `dtype`.
pub(crate) fn narrow(
    dtype: DType,
    (x, scalar): (String, Scalar),
    used: &mut BTreeSet<&'static str>,
) -> String {
    match (dtype, scalar) {
        (DType::F16, _) => call("round_f16", &x, used),
        (DType::BF16, _) => call("round_bf16", &x, used),
        (_, Scalar::Bool) => x,
        _ if dtype.bits() >= 32 => x,
        (_, Scalar::F32) => match Format::of(dtype) {
            Some(format) => round_small(format, &x, used),
            None => x,
        },
        (_, Scalar::U32) => format!("({x} & {}u)", (1u32 << dtype.bits()) - 1),
        _ => format!("(({x} << {0}u) >> {0}u)", 32 - dtype.bits()),
    }
}

fn round_small(format: Format, x: &str, used: &mut BTreeSet<&'static str>) -> String {
    let (most, beyond) = (format.most as f32, (format.beyond() as f32).to_bits());
    let arguments = format!("{x}, {}u, {}, {most:?}, {beyond}u", format.mantissa, format.least());
    let rounded = call("round_small", &arguments, used);
    if format.has_negative_zero() { rounded } else { call("without_negative_zero", &rounded, used) }
}
