//! Unary maths: one input, one output of the same shape, no attributes. One row of the table each.
//!
//! History: Abs, Neg, Ceil, Floor, Exp, Log, Sqrt, Reciprocal, Relu, Sigmoid, Tanh, Softplus 1, 6, 13; trigonometry 7 and
//! 22; hyperbolic functions 9 and 22; Erf, Sign, IsNaN 9, 13; Round 11, 22; BitwiseNot 18. Later versions only add types.

use super::case::{self, Case, Tolerance};
use super::{
    Array, DType, Maps, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, refuse, required, types,
};
use crate::array::Numbers;
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg};

/// A unary operator.
#[derive(Clone, Debug)]
pub(crate) struct Unary(&'static UnaryFunction);

struct UnaryFunction {
    name: &'static str,
    device: Emit,
    float: Float,
    int: fn(i128) -> i128,
}

impl std::fmt::Debug for UnaryFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

#[derive(Clone, Copy)]
enum Emit {
    Call(Fn1),
    Expr(fn(&mut Builder, Reg) -> Reg),
}

#[derive(Clone, Copy)]
enum Float {
    Value(fn(f64) -> f64),
    Test(fn(f64) -> bool),
}

use Emit::{Call, Expr};
use Float::{Test, Value};

const fn row(name: &'static str, device: Emit, float: Float) -> UnaryFunction {
    UnaryFunction { name, device, float, int: |x| x }
}

const fn with_int(name: &'static str, device: Emit, float: Float, int: fn(i128) -> i128) -> UnaryFunction {
    UnaryFunction { name, device, float, int }
}

static FUNCTIONS: &[UnaryFunction] = &[
    with_int("Abs", Call(Fn1::Abs), Value(f64::abs), i128::abs),
    row("Acos", Call(Fn1::Acos), Value(f64::acos)),
    row("Acosh", Call(Fn1::Acosh), Value(f64::acosh)),
    row("Asin", Call(Fn1::Asin), Value(f64::asin)),
    row("Asinh", Call(Fn1::Asinh), Value(f64::asinh)),
    row("Atan", Call(Fn1::Atan), Value(f64::atan)),
    row("Atanh", Call(Fn1::Atanh), Value(f64::atanh)),
    with_int("BitwiseNot", Call(Fn1::BitNot), Value(|x| x), |x| !x),
    row("Ceil", Call(Fn1::Ceil), Value(f64::ceil)),
    row("Cos", Call(Fn1::Cos), Value(f64::cos)),
    row("Cosh", Call(Fn1::Cosh), Value(f64::cosh)),
    row("Erf", Call(Fn1::Erf), Value(erf)),
    row("Exp", Call(Fn1::Exp), Value(f64::exp)),
    row("Floor", Call(Fn1::Floor), Value(f64::floor)),
    row("IsNaN", Call(Fn1::IsNan), Test(f64::is_nan)),
    row("Log", Call(Fn1::Log), Value(f64::ln)),
    with_int("Neg", Call(Fn1::Neg), Value(|x| -x), |x| -x),
    with_int("Not", Call(Fn1::Not), Value(|x| x), |x| 1 - x),
    row("Reciprocal", Call(Fn1::Reciprocal), Value(|x| 1.0 / x)),
    with_int("Relu", Expr(relu), Value(|x| if x < 0.0 { 0.0 } else { x }), |x| x.max(0)),
    row("Round", Call(Fn1::Round), Value(f64::round_ties_even)),
    row("Sigmoid", Call(Fn1::Sigmoid), Value(|x| 1.0 / (1.0 + (-x).exp()))),
    with_int("Sign", Call(Fn1::Sign), Value(sign), i128::signum),
    row("Sin", Call(Fn1::Sin), Value(f64::sin)),
    row("Sinh", Call(Fn1::Sinh), Value(f64::sinh)),
    row("Softplus", Call(Fn1::Softplus), Value(|x| x.max(0.0) + (-x.abs()).exp().ln_1p())),
    row("Softsign", Expr(softsign), Value(|x| x / (1.0 + x.abs()))),
    row("Sqrt", Call(Fn1::Sqrt), Value(f64::sqrt)),
    row("Tan", Call(Fn1::Tan), Value(f64::tan)),
    row("Tanh", Call(Fn1::Tanh), Value(f64::tanh)),
];

fn relu(e: &mut Builder, x: Reg) -> Reg {
    let zero = e.constant(e.scalar(x), 0.0);
    // This is a comparison rather than max, so that NaN stays NaN.
    let below = e.two(Fn2::Less, x, zero);
    e.select(below, zero, x)
}

fn softsign(e: &mut Builder, x: Reg) -> Reg {
    let size = e.one(Fn1::Abs, x);
    let one = e.float(x, 1.0);
    let divisor = e.add(one, size);
    e.two(Fn2::Div, x, divisor)
}

fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { x.signum() }
}

/// The steps of `erf`: a series of up to 60 terms.
pub(crate) const ERF_STEPS: usize = 16;

/// The error function: its series below 3, and the continued fraction of erfc above; both are exact to f64 rounding.
pub(crate) fn erf(x: f64) -> f64 {
    let a = x.abs();
    if x.is_nan() || x == 0.0 {
        return x;
    }
    let size = if a < 3.0 {
        let mut term = a;
        let mut sum = a;
        for n in 1..200 {
            term *= -a * a / n as f64;
            sum += term / (2 * n + 1) as f64;
            // From here on, terms become smaller, and change no bit of the sum.
            if n as f64 > a * a && term.abs() < 1e-20 * a {
                break;
            }
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let mut fraction = a;
        for k in (1..=60).rev() {
            fraction = a + (k as f64 / 2.0) / fraction;
        }
        1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    size.copysign(x)
}

macro_rules! rows {
    ($($name:literal: $since:literal [$($types:tt)*]),* $(,)?) => {
        pub(crate) const ROWS: &[Row] = &[$(onnx($name, $since, types![$($types)*], parse, || cases($name))),*];
    };
}

rows! {
    "Abs": 1 [T -> T; T: FLOATS NUMBERS@6 BF16@13],
    "Acos": 7 [T -> T; T: FLOATS BF16@22],
    "Acosh": 9 [T -> T; T: FLOATS BF16@22],
    "Asin": 7 [T -> T; T: FLOATS BF16@22],
    "Asinh": 9 [T -> T; T: FLOATS BF16@22],
    "Atan": 7 [T -> T; T: FLOATS BF16@22],
    "Atanh": 9 [T -> T; T: FLOATS BF16@22],
    "BitwiseNot": 18 [T -> T; T: INTS],
    "Ceil": 1 [T -> T; T: FLOATS BF16@13],
    "Cos": 7 [T -> T; T: FLOATS BF16@22],
    "Cosh": 9 [T -> T; T: FLOATS BF16@22],
    "Erf": 9 [T -> T; T: NUMBERS | 13: T -> T; T: FLOATS BF16],
    "Exp": 1 [T -> T; T: FLOATS BF16@13],
    "Floor": 1 [T -> T; T: FLOATS BF16@13],
    "IsNaN": 9 [T1 -> bool; T1: FLOATS BF16@13 FLOAT8@20],
    "Log": 1 [T -> T; T: FLOATS BF16@13],
    "Neg": 1 [T -> T; T: FLOATS SIGNED@6 BF16@13],
    "Not": 1 [bool -> bool],
    "Reciprocal": 1 [T -> T; T: FLOATS BF16@13],
    "Relu": 1 [T -> T; T: FLOATS BF16@13 SIGNED@14],
    "Round": 11 [T -> T; T: FLOATS BF16@22],
    "Sigmoid": 1 [T -> T; T: FLOATS BF16@13],
    "Sign": 9 [T -> T; T: NUMBERS BF16@13],
    "Sin": 7 [T -> T; T: FLOATS BF16@22],
    "Sinh": 9 [T -> T; T: FLOATS BF16@22],
    "Softplus": 1 [T -> T; T: FLOATS BF16@22],
    "Softsign": 1 [T -> T; T: FLOATS BF16@22],
    "Sqrt": 1 [T -> T; T: FLOATS BF16@13],
    "Tan": 7 [T -> T; T: FLOATS BF16@22],
    "Tanh": 1 [T -> T; T: FLOATS BF16@13],
}

fn parse(def: &NodeDef) -> Result<Op, Why> {
    match FUNCTIONS.iter().find(|f| f.name == def.op_type) {
        Some(function) => Ok(Unary(function).into()),
        None => refuse!("no such operator here"),
    }
}

impl Operator for Unary {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let dtype = if matches!(self.0.float, Test(_)) { DType::Bool } else { x.dtype };
        Ok(vec![Fact::new(dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        Ok(vec![match (self.0.float, &x.data) {
            (Test(test), Numbers::Float(v)) => Array::bools(&x.shape, v.iter().map(|&x| test(x)).collect()),
            (Value(value), _) => x.map(value, self.0.int),
            (Test(_), _) => refuse!("expected a float tensor, got {}", x.dtype),
        }])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        Ok(of_elements(inputs, outputs).times(if self.0.name == "Erf" { ERF_STEPS } else { 1 }))
    }

    fn is_cheap(&self) -> bool {
        matches!(self.0.name, "Neg" | "Abs" | "Relu")
    }

    fn maps(&self) -> Maps {
        Maps::First
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], _: DType) -> Option<Reg> {
        let x = required(inputs, 0).ok()?;
        Some(match self.0.device {
            Call(function) => e.one(function, x),
            Expr(function) => function(e, x),
        })
    }
}

fn cases(name: &'static str) -> Vec<Case> {
    let (low, high) = match name {
        "Acosh" => (1.0, 9.0),
        "Acos" | "Asin" | "Atanh" => (-0.99, 0.99),
        "Log" | "Sqrt" => (0.0, 9.0),
        "Reciprocal" => (0.1, 9.0),
        "Tan" => (-1.4, 1.4),
        _ => (-6.0, 6.0),
    };
    let tolerance = match name {
        "Abs" | "Ceil" | "Floor" | "IsNaN" | "Neg" | "Not" | "BitwiseNot" | "Relu" | "Round" | "Sign" => {
            Tolerance::EXACT
        }
        "Reciprocal" | "Sqrt" | "Softsign" => Tolerance::ARITHMETIC,
        _ => Tolerance::TRANSCENDENTAL,
    };
    let new = |case: &str| Case::new(name, case).tolerance(tolerance);
    match name {
        "Not" => return vec![new("bool").input(case::bools(&[3], &[true, false, true]))],
        "BitwiseNot" => return vec![new("int32").input(case::values(&[3], &[0i32, -1, 7]))],
        _ => {}
    }
    let mut cases = vec![
        new("matrix").input(case::uniform(&[3, 7], low, high)),
        new("scalar").input(case::uniform(&[], low, high)),
        new("empty").input(case::uniform(&[2, 0], low, high)),
        new("rank5").input(case::uniform(&[2, 1, 3, 2, 5], low, high)),
    ];
    let special = [
        "Abs",
        "Ceil",
        "Erf",
        "Exp",
        "Floor",
        "IsNaN",
        "Log",
        "Neg",
        "Reciprocal",
        "Relu",
        "Round",
        "Sigmoid",
    ];
    if special.contains(&name) || matches!(name, "Sign" | "Softplus" | "Sqrt" | "Tanh") {
        let special = [f32::NAN, 0.0, -0.0, 0.5, 1.5, -2.5, f32::INFINITY, f32::NEG_INFINITY];
        cases.push(new("special").input(case::values(&[8], &special)));
    }
    if matches!(name, "Abs" | "Neg" | "Sign" | "Relu") {
        cases.push(new("int32").input(case::values(&[4], &[-3i32, 0, 5, i32::MAX])));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_function() {
        for row in ROWS {
            assert!(FUNCTIONS.iter().any(|f| f.name == row.name), "{}", row.name);
        }
        assert_eq!(ROWS.len(), FUNCTIONS.len());
    }

    #[test]
    fn erf_meets_known_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, y) in
            [(0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0), (3.5, 0.999_999_257)]
        {
            assert!((erf(x) - y).abs() < 1e-9, "erf({x})");
            assert_eq!(erf(-x), -erf(x));
        }
    }
}
