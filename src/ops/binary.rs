//! Binary arithmetic, comparison, logic and bit operators, with multidirectional broadcasting; and the variadic Max, Min, Sum
//! and Mean.
//!
//! History: Add, Sub, Mul, Div 7, 13, 14; Pow 7, 12, 13, 15; And, Or, Xor 7; Equal 7, 11, 13, 19; Greater, Less 7, 9, 13;
//! GreaterOrEqual, LessOrEqual 12, 16; Mod 10, 13; BitShift 11; BitwiseAnd, -Or, -Xor 18; Max, Min, Mean, Sum 8, 12, 13.

use std::collections::VecDeque;

use super::broadcast::broadcast;
use super::case::{self, Case, Tolerance};
use super::{
    Array, DType, Maps, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, product, refuse, required,
    types,
};
use crate::array::{Numbers, broadcast_index, unravel};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn2, Reg, Scalar, Wide};
use crate::kernels::fused_tensors;
use crate::plan::{Lower, TensorId};

/// A binary or variadic operator.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    function: BinaryFunction,
    /// Mod with `fmod`: the result has the sign of the dividend.
    truncate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[rustfmt::skip]
enum BinaryFunction {
    Add, Sub, Mul, Div, Pow, Mod, And, Or, Xor, BitwiseAnd, BitwiseOr, BitwiseXor, ShiftLeft, ShiftRight, Equal, Greater,
    GreaterOrEqual, Less, LessOrEqual, Max, Min, Mean, Sum,
}

use BinaryFunction::*;

const NAMES: &[(&str, BinaryFunction)] = &[
    ("Add", Add),
    ("Sub", Sub),
    ("Mul", Mul),
    ("Div", Div),
    ("Pow", Pow),
    ("Mod", Mod),
    ("And", And),
    ("Or", Or),
    ("Xor", Xor),
    ("BitwiseAnd", BitwiseAnd),
    ("BitwiseOr", BitwiseOr),
    ("BitwiseXor", BitwiseXor),
    ("Equal", Equal),
    ("Greater", Greater),
    ("GreaterOrEqual", GreaterOrEqual),
    ("Less", Less),
    ("LessOrEqual", LessOrEqual),
    ("Max", Max),
    ("Min", Min),
    ("Mean", Mean),
    ("Sum", Sum),
];

macro_rules! rows {
    ($($name:literal: $since:literal [$($types:tt)*]),* $(,)?) => {
        pub(crate) const ROWS: &[Row] = &[$(onnx($name, $since, types![$($types)*], parse, || cases($name))),*];
    };
}

rows! {
    "Add": 7 [T T -> T; T: FLOATS WORDS BF16@13 INTS@14],
    "Sub": 7 [T T -> T; T: FLOATS WORDS BF16@13 INTS@14],
    "Mul": 7 [T T -> T; T: FLOATS WORDS BF16@13 INTS@14],
    "Div": 7 [T T -> T; T: FLOATS WORDS BF16@13 INTS@14],
    "Pow": 7 [T T -> T; T: FLOATS | 12: T T1 -> T; T: FLOATS INDICES BF16@13, T1: NUMBERS BF16@15],
    "Mod": 10 [T T -> T; T: NUMBERS BF16@13],
    "And": 7 [bool bool -> bool],
    "Or": 7 [bool bool -> bool],
    "Xor": 7 [bool bool -> bool],
    "BitwiseAnd": 18 [T T -> T; T: INTS],
    "BitwiseOr": 18 [T T -> T; T: INTS],
    "BitwiseXor": 18 [T T -> T; T: INTS],
    "BitShift": 11 [T T -> T; T: UNSIGNED INTS@28],
    "Equal": 7 [T T -> bool; T: INDICES BOOL NUMBERS@11 BF16@13 STRING@19],
    "Greater": 7 [T T -> bool; T: FLOATS NUMBERS@9 BF16@13],
    "GreaterOrEqual": 12 [T T -> bool; T: NUMBERS BF16@16],
    "Less": 7 [T T -> bool; T: FLOATS NUMBERS@9 BF16@13],
    "LessOrEqual": 12 [T T -> bool; T: NUMBERS BF16@16],
    "Max": 8 [[T] -> T; T: FLOATS NUMBERS@12 BF16@13],
    "Min": 8 [[T] -> T; T: FLOATS NUMBERS@12 BF16@13],
    "Mean": 8 [[T] -> T; T: FLOATS BF16@13],
    "Sum": 8 [[T] -> T; T: FLOATS BF16@13],
}

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let function = match def.op_type {
        "BitShift" => match def.attributes.string_or("direction", "")?.as_str() {
            "LEFT" => ShiftLeft,
            "RIGHT" => ShiftRight,
            other => refuse!("direction '{other}' is neither LEFT nor RIGHT"),
        },
        name => match NAMES.iter().find(|row| row.0 == name) {
            Some(row) => row.1,
            None => refuse!("no such operator here"),
        },
    };
    Ok(Binary { function, truncate: def.attributes.flag("fmod", false)? }.into())
}

impl BinaryFunction {
    fn is_comparison(self) -> bool {
        matches!(self, Equal | Greater | GreaterOrEqual | Less | LessOrEqual)
    }
}

impl Operator for Binary {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let first = required(inputs, 0)?;
        // The exponent of Pow, and of BitShift, may have another type; the result has the type of the base.
        if self.function != Pow && inputs.iter().flatten().any(|fact| fact.dtype != first.dtype) {
            refuse!("the inputs have different dtypes");
        }
        let dtype = if self.function.is_comparison() { DType::Bool } else { first.dtype };
        let shape = broadcast(inputs.iter().flatten().map(|fact| fact.shape.as_slice()))?;
        Ok(vec![Fact::new(dtype, shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let first = required(inputs, 0)?;
        let shape = broadcast(inputs.iter().flatten().map(|array| array.shape.as_slice()))?;
        let count: usize = product(&shape);
        let mut floats = Vec::new();
        let mut ints = Vec::new();
        let mut equal = Vec::new();
        for index in 0..count {
            let at = unravel(index, &shape);
            let operands =
                inputs.iter().flatten().map(|array| (&array.data, broadcast_index(&at, &array.shape)));
            let operands: Vec<_> = operands.collect();
            match operands[0] {
                (Numbers::Text(a), i) => match operands.get(1) {
                    Some((Numbers::Text(b), j)) if self.function == Equal => equal.push(a[i] == b[*j]),
                    _ => refuse!("strings can only be compared for equality"),
                },
                (Numbers::Float(_), _) => {
                    let values = operands.iter().map(|(data, i)| float_at(data, *i));
                    floats.push(self.float(&values.collect::<Vec<f64>>()));
                }
                (Numbers::Int(a), i) => match operands.get(1) {
                    // An integer base has a float exponent.
                    Some((Numbers::Float(b), j)) => ints.push(truncated((a[i] as f64).powf(b[*j]))),
                    _ => {
                        let values = operands.iter().map(|(data, i)| int_at(data, *i));
                        ints.push(self.int(&values.collect::<Vec<i128>>(), first.dtype)?);
                    }
                },
            }
        }
        let comparison = self.function.is_comparison();
        Ok(vec![match &first.data {
            Numbers::Text(_) => Array::bools(&shape, equal),
            Numbers::Float(_) if comparison => {
                Array::bools(&shape, floats.iter().map(|&v| v != 0.0).collect())
            }
            Numbers::Float(_) => Array::float(first.dtype, &shape, floats),
            Numbers::Int(_) if comparison => Array::int(DType::Bool, &shape, ints),
            Numbers::Int(_) => Array::int(first.dtype, &shape, ints),
        }])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let power = self.function == Pow && inputs.iter().flatten().all(|fact| fact.dtype.is_int());
        Ok(of_elements(inputs, outputs).times(if power { POWER_STEPS } else { 1 }))
    }

    fn is_cheap(&self) -> bool {
        matches!(self.function, Add | Sub | Mul | Max | Min)
    }

    fn maps(&self) -> Maps {
        Maps::Any
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], _: DType) -> Option<Reg> {
        let mut inputs = inputs.iter().copied().flatten();
        let first = inputs.next()?;
        let mut result = first;
        let mut count = 1;
        for mut input in inputs {
            if self.function == Pow {
                if e.scalar(result).is_wide_integer() && e.scalar(input).is_float() {
                    let (base, exponent) = (e.convert(result, Scalar::F64), e.convert(input, Scalar::F64));
                    let power = e.two(Fn2::Pow, base, exponent);
                    return Some(e.convert(power, e.scalar(result)));
                }
                if !e.scalar(result).is_float() && e.scalar(input).is_float() {
                    if e.wide.is_some() {
                        // The float reports a power that does not fit 32 bits.
                        let base = e.convert(result, e.scalar(input));
                        let power = e.two(Fn2::Pow, base, input);
                        e.convert(power, e.scalar(result));
                    }
                    return Some(e.two(Fn2::PowFloat, result, input));
                }
                input = e.convert(input, e.scalar(result));
            }
            if matches!(self.function, Div | Mod) {
                e.report_zero(input);
            }
            let function = self.device();
            result = e.two(function, result, input);
            count += 1;
        }
        if self.function == Mean {
            result = mean(e, result, count);
        }
        Some(result)
    }

    /// More operands than one kernel reads take several kernels; each reads the result of the one before as its first operand.
    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        let (out, facts) = (cx.out(0)?, cx.facts());
        let Some(scalar) = cx.register(out.dtype).filter(|_| self.is_variadic()) else {
            refuse!("has no GPU kernel")
        };
        let given = facts.iter().enumerate().filter_map(|(i, fact)| Some((i, (*fact)?)));
        let mut rest: VecDeque<(usize, &Fact)> = given.collect();
        let count = rest.len();
        let most = fused_tensors(Wide::of(out.dtype, 0).is_some()) - 1;
        let mut operands: Vec<(TensorId, &[usize])> = Vec::new();
        while let Some((i, fact)) = rest.pop_front() {
            operands.push((cx.input(i)?, &fact.shape));
            if operands.len() < most && !rest.is_empty() {
                continue;
            }
            let fold = |e: &mut Builder, regs: &[Reg]| {
                let combined = regs.iter().copied().reduce(|a, b| e.two(self.device(), a, b));
                combined.unwrap_or_else(|| e.constant(scalar, 0.0))
            };
            if rest.is_empty() {
                return cx.elementwise(0, &operands, |e, regs| match (fold(e, regs), self.function) {
                    (sum, Mean) => mean(e, sum, count),
                    (result, _) => result,
                });
            }
            let before = cx.temporary(scalar, &out.shape);
            cx.elementwise_to(before, (out.dtype, &out.shape), &operands, fold);
            operands = vec![(before, &out.shape)];
        }
        Ok(())
    }
}

fn mean(e: &mut Builder, sum: Reg, count: usize) -> Reg {
    let divisor = e.float(sum, count as f64);
    e.two(Fn2::Div, sum, divisor)
}

fn float_at(data: &Numbers, i: usize) -> f64 {
    match data {
        Numbers::Float(v) => v[i],
        Numbers::Int(v) => v[i] as f64,
        Numbers::Text(_) => f64::NAN,
    }
}

/// A power as an integer; NaN becomes 0.
fn truncated(power: f64) -> i128 {
    if power.is_finite() { power as i128 } else { 0 }
}

fn int_at(data: &Numbers, i: usize) -> i128 {
    if let Numbers::Int(v) = data { v[i] } else { 0 }
}

impl Binary {
    fn device(&self) -> Fn2 {
        match self.function {
            Add | Sum | Mean => Fn2::Add,
            Sub => Fn2::Sub,
            Mul => Fn2::Mul,
            Div => Fn2::DivRounded,
            Pow => Fn2::Pow,
            Mod if self.truncate => Fn2::FMod,
            Mod => Fn2::Rem,
            And => Fn2::And,
            Or => Fn2::Or,
            Xor => Fn2::Xor,
            BitwiseAnd => Fn2::BitAnd,
            BitwiseOr => Fn2::BitOr,
            BitwiseXor => Fn2::BitXor,
            ShiftLeft => Fn2::ShiftLeft,
            ShiftRight => Fn2::ShiftRight,
            Equal => Fn2::Equal,
            Greater => Fn2::Greater,
            GreaterOrEqual => Fn2::GreaterOrEqual,
            Less => Fn2::Less,
            LessOrEqual => Fn2::LessOrEqual,
            Max => Fn2::Max,
            Min => Fn2::Min,
        }
    }

    fn is_variadic(&self) -> bool {
        matches!(self.function, Max | Min | Sum | Mean)
    }

    fn float(&self, x: &[f64]) -> f64 {
        let test = |b: bool| f64::from(u8::from(b));
        let (a, b) = (x[0], x.get(1).copied().unwrap_or(x[0]));
        match self.function {
            Add => a + b,
            Sub => a - b,
            Mul => a * b,
            Div => a / b,
            Pow => a.powf(b),
            Mod if self.truncate => a % b,
            Mod => {
                let r = a % b;
                // As in numpy, a zero has the sign of the divisor.
                if r == 0.0 {
                    r.copysign(b)
                } else if (r < 0.0) != (b < 0.0) {
                    r + b
                } else {
                    r
                }
            }
            Equal => test(a == b),
            Greater => test(a > b),
            GreaterOrEqual => test(a >= b),
            Less => test(a < b),
            LessOrEqual => test(a <= b),
            Max => x.iter().copied().reduce(|a, b| if a.is_nan() || a > b { a } else { b }).unwrap_or(a),
            Min => x.iter().copied().reduce(|a, b| if a.is_nan() || a < b { a } else { b }).unwrap_or(a),
            Sum => x.iter().sum(),
            Mean => x.iter().sum::<f64>() / x.len() as f64,
            _ => f64::NAN,
        }
    }

    fn int(&self, x: &[i128], dtype: DType) -> Result<i128, Why> {
        let (a, b) = (x[0], x.get(1).copied().unwrap_or(x[0]));
        if b == 0 && matches!(self.function, Div | Mod) {
            refuse!("integer division by zero");
        }
        Ok(match self.function {
            Add => a + b,
            Sub => a - b,
            Mul => a.wrapping_mul(b),
            Div => a / b,
            Pow if b >= 0 => power(a, b, dtype),
            Pow => truncated((a as f64).powf(b as f64)),
            Mod if self.truncate => a % b,
            Mod => a - b * a.div_euclid(b) - if a.rem_euclid(b) != 0 && b < 0 { -b } else { 0 },
            And | BitwiseAnd => a & b,
            Or | BitwiseOr => a | b,
            Xor | BitwiseXor => a ^ b,
            // A count that is negative, or at least the width, shifts all bits out; the sign bit stays.
            ShiftLeft => {
                if (0..64).contains(&b) {
                    a << b
                } else {
                    0
                }
            }
            ShiftRight => a >> if (0..64).contains(&b) { b } else { 64 },
            Equal => i128::from(a == b),
            Greater => i128::from(a > b),
            GreaterOrEqual => i128::from(a >= b),
            Less => i128::from(a < b),
            LessOrEqual => i128::from(a <= b),
            Max => x.iter().copied().max().unwrap_or(a),
            Min => x.iter().copied().min().unwrap_or(a),
            Sum => x.iter().sum(),
            Mean => x.iter().sum::<i128>() / x.len() as i128,
        })
    }
}

/// The steps of `power`: two wrapped products for each bit of the exponent.
const POWER_STEPS: usize = 128;

/// `a` to the power of `b`, wrapped like repeated multiplication in the dtype. It multiplies squares, as exponents have up to
/// 64 bits.
fn power(a: i128, b: i128, dtype: DType) -> i128 {
    let wrap = |x: i128| crate::array::number::wrap_int(dtype, x);
    let (mut result, mut square, mut rest) = (1i128, wrap(a), b);
    while rest > 0 {
        if rest % 2 == 1 {
            result = wrap(result.wrapping_mul(square));
        }
        square = wrap(square.wrapping_mul(square));
        rest /= 2;
    }
    result
}

fn cases(name: &'static str) -> Vec<Case> {
    let new = |case: &str| Case::new(name, case);
    match name {
        "And" | "Or" | "Xor" => {
            let (a, b) = (
                case::bools(&[4], &[true, true, false, false]),
                case::bools(&[4], &[true, false, true, false]),
            );
            return vec![new("all").tolerance(Tolerance::EXACT).input(a).input(b)];
        }
        "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" => {
            let (a, b) = (case::values(&[3], &[12i32, -1, 7]), case::values(&[1], &[10i32]));
            return vec![new("int32").tolerance(Tolerance::EXACT).input(a).input(b)];
        }
        "BitShift" => {
            let shift = |direction: &str| {
                let (a, b) = (case::values(&[4], &[16u32, 4, 1, 7]), case::values(&[4], &[1u32, 2, 31, 32]));
                new(direction).string("direction", direction).tolerance(Tolerance::EXACT).input(a).input(b)
            };
            let signed = |direction: &str, dtype: DType| {
                let (a, b) = (case::list(&[-16, 5, -1, 100, -7]), case::list(&[1, 2, -3, 40, 8]));
                let new = new(&format!("{direction} {dtype}")).string("direction", direction);
                new.tolerance(Tolerance::EXACT)
                    .input(case::converted(&a, dtype))
                    .input(case::converted(&b, dtype))
            };
            return vec![
                shift("LEFT"),
                shift("RIGHT"),
                new("LEFT int64")
                    .string("direction", "LEFT")
                    .tolerance(Tolerance::EXACT)
                    .input(case::list(&[-16, 5, -1, 100, -7]))
                    .input(case::list(&[1, 2, -3, 70, 8])),
                signed("LEFT", DType::I32),
                signed("LEFT", DType::I8),
                signed("RIGHT", DType::I32),
                signed("RIGHT", DType::I16),
                signed("RIGHT", DType::I64),
            ];
        }
        _ => {}
    }
    let low = if name == "Pow" { 0.1 } else { -3.0 };
    let tolerance = if name == "Pow" { Tolerance::TRANSCENDENTAL } else { Tolerance::ARITHMETIC };
    let pair = |case: &str, a: &[usize], b: &[usize]| {
        let inputs = (case::uniform(a, low, 3.0), case::uniform(b, 0.5, 2.5));
        let new = new(case).tolerance(tolerance).input(inputs.0).input(inputs.1);
        if name == "Mod" { new.int("fmod", 1) } else { new }
    };
    let mut cases = vec![
        pair("same", &[3, 5], &[3, 5]),
        pair("row", &[3, 5], &[5]),
        pair("column", &[3, 5], &[3, 1]),
        pair("both", &[3, 1, 4], &[2, 1]),
        pair("scalar", &[3, 5], &[]),
        pair("scalars", &[], &[]),
        pair("empty", &[0, 5], &[1]),
        pair("rank6", &[2, 1, 3, 1, 2, 1], &[1, 2, 1, 3, 1, 2]),
    ];
    if matches!(name, "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Max" | "Min" | "Equal" | "Less") {
        let (a, b) = (case::values(&[4], &[-7i32, 7, 9, -9]), case::values(&[4], &[3i32, -3, 9, -4]));
        cases.push(new("int32").tolerance(Tolerance::EXACT).input(a).input(b));
        let (a, b) = (case::values(&[3], &[200u8, 7, 9]), case::values(&[3], &[100u8, 7, 2]));
        cases.push(new("uint8").tolerance(Tolerance::EXACT).input(a).input(b));
    }
    if name == "Div" {
        // After quantisation, the last bit decides ties.
        let inputs = (case::random(&[1000]), case::uniform(&[1000], 0.01, 3.0));
        cases.push(new("rounded").tolerance(Tolerance::EXACT).input(inputs.0).input(inputs.1));
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let a = case::values(&[9], &[1.0f32, -1.0, 0.0, inf, nan, 1.0, 1e-30, 3e38, -0.0]);
        let b = case::values(&[9], &[0.0f32, 0.0, 0.0, 2.0, 1.0, inf, 3.0, 0.5, 5.0]);
        cases.push(new("special").tolerance(Tolerance::EXACT).input(a).input(b));
    }
    if name == "Mod" {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let a = case::values(&[8], &[-3.0f32, 3.0, -1.0, 5.5, inf, 1.0, nan, -7.5]);
        let b = case::values(&[8], &[inf, -inf, 3.0, -2.0, 3.0, 0.0, 2.0, -2.0]);
        cases.push(new("floor").input(a.clone()).input(b.clone()));
        cases.push(new("truncate").int("fmod", 1).input(a).input(b));
    }
    if matches!(name, "Max" | "Min") {
        let nan = case::values(&[4], &[f32::NAN, 1.0, f32::INFINITY, -0.5]);
        let other = case::values(&[4], &[1.0, f32::NAN, 3.0, f32::NEG_INFINITY]);
        cases.push(new("nan").tolerance(Tolerance::EXACT).input(nan).input(other));
    }
    if matches!(name, "Max" | "Min" | "Sum" | "Mean") {
        let input = |n: usize| case::uniform(&[2, n], -1.0, 1.0);
        cases.push(new("three").input(input(3)).input(input(1)).input(input(3)));
        cases.push(new("one").input(input(3)));
        // A kernel binds eight tensors: 7 operands fit, 8 are one too many, and 30 take several kernels.
        for count in [7, 8, 30] {
            let shapes = [&[2, 3][..], &[3], &[2, 1], &[]].into_iter().cycle();
            let many = shapes.take(count).enumerate();
            let input = |(i, shape): (usize, &[usize])| case::uniform(shape, -1.0 - i as f32, 1.0);
            cases.push(many.map(input).fold(new(&format!("{count} inputs")), Case::input));
        }
        let small = |i: u8| case::values(&[3], &[200 + i, i, 100]);
        if matches!(name, "Max" | "Min") {
            let new = new("uint8, many").tolerance(Tolerance::EXACT);
            cases.push((0..20).map(small).fold(new, Case::input));
            // A kernel that reports values that do not fit binds one tensor less.
            let new = Case::new(name, "int64, many").tolerance(Tolerance::EXACT);
            let large = |i: i64| case::values(&[2], &[i << 20, -i]);
            cases.push((0..15).map(large).fold(new, Case::input));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mod_has_the_sign_of_the_divisor() {
        let modulo = Binary { function: Mod, truncate: false };
        for (a, b, expected) in [(-7, 3, 2), (7, -3, -2), (-7, -3, -1), (7, 3, 1), (6, -3, 0)] {
            assert_eq!(modulo.int(&[a, b], DType::I32).unwrap(), expected, "{a} mod {b}");
        }
    }
}
