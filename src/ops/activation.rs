//! Activations with parameters: one data input, whose shape the output has; some add a bias or multiply by a second input.
//!
//! History: LeakyRelu 6, 16; Elu, Selu, HardSigmoid 6, 22; Celu 12, 28; HardSwish 14, 22; ThresholdedRelu 10, 22; Mish 18, 22;
//! Gelu 20; Shrink 9; Swish 24; SwiGLU 28. Later versions only add types. com.microsoft: Gelu, FastGelu, BiasGelu, QuickGelu 1.

use std::f64::consts::{FRAC_2_PI, SQRT_2};

use super::broadcast::broadcast;
use super::case::{self, Case, Tolerance};
use super::{
    Array, Attributes, DType, Maps, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, onnx,
    optional, refuse, required, types,
};
use crate::array::{Numbers, broadcast_index, unravel};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg};

/// An activation with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Activation {
    function: ActivationFunction,
    second: Second,
}

/// A function of one number; its parameters have ONNX's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ActivationFunction {
    LeakyRelu { alpha: f32 },
    Elu { alpha: f32 },
    Selu { alpha: f32, gamma: f32 },
    Celu { alpha: f32 },
    HardSigmoid { alpha: f32, beta: f32 },
    HardSwish,
    ThresholdedRelu { alpha: f32 },
    Mish,
    Gelu,
    GeluTanh,
    Shrink { bias: f32, lambd: f32 },
    Swish { alpha: f32 },
    // Only recurrent layers have these.
    Affine { alpha: f32, beta: f32 },
    ScaledTanh { alpha: f32, beta: f32 },
    Relu,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
}

use ActivationFunction::*;

/// The use of the second input.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Second {
    None,
    /// It is added to the first, before the function is applied.
    Bias,
    /// It multiplies the function's value.
    Factor,
}

macro_rules! rows {
    ($($name:literal: $since:literal [$($types:tt)*]),* $(,)?) => {
        pub(crate) const ROWS: &[Row] = &[
            $(onnx($name, $since, types![$($types)*], parse, || cases("", $name)),)*
            microsoft("Gelu", types![T -> T; T: FLOATS BF16], || cases("com.microsoft", "Gelu")),
            microsoft("FastGelu", types![T T -> T; T: FLOATS BF16], || cases("com.microsoft", "FastGelu")),
            microsoft("BiasGelu", types![T T -> T; T: FLOATS BF16], || cases("com.microsoft", "BiasGelu")),
            microsoft("QuickGelu", types![T -> T; T: FLOATS BF16], || cases("com.microsoft", "QuickGelu")),
        ];
    };
}

rows! {
    "LeakyRelu": 1 [T -> T; T: FLOATS BF16@16],
    "Elu": 1 [T -> T; T: FLOATS BF16@22],
    "Selu": 6 [T -> T; T: FLOATS BF16@22],
    "Celu": 12 [float32 -> float32 | 28: T -> T; T: FLOATS BF16],
    "HardSigmoid": 1 [T -> T; T: FLOATS BF16@22],
    "HardSwish": 14 [T -> T; T: FLOATS BF16@22],
    "ThresholdedRelu": 10 [T -> T; T: FLOATS BF16@22],
    "Mish": 18 [T -> T; T: FLOATS BF16@22],
    "Gelu": 20 [T -> T; T: FLOATS BF16],
    "Shrink": 9 [T -> T; T: NUMBERS],
    "Swish": 24 [T -> T; T: FLOATS BF16],
    "SwiGLU": 28 [T T -> T; T: FLOATS BF16],
}

const fn microsoft(name: &'static str, types: Types, cases: fn() -> Vec<Case>) -> Row {
    Row { domain: "com.microsoft", name, opsets: (1, 1), types, parse, cases }
}

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let function = match def.op_type {
        "FastGelu" => GeluTanh,
        "BiasGelu" => Gelu,
        "QuickGelu" => Swish { alpha: def.attributes.float_or("alpha", 1.702)? },
        "SwiGLU" => ActivationFunction::parse("Swish", def.attributes)?,
        name => ActivationFunction::parse(name, def.attributes)?,
    };
    let second = match def.op_type {
        "FastGelu" | "BiasGelu" => Second::Bias,
        "SwiGLU" => Second::Factor,
        _ => Second::None,
    };
    Ok(Activation { function, second }.into())
}

impl ActivationFunction {
    /// The function of the ONNX operator `name`.
    fn parse(name: &str, attributes: &Attributes) -> Result<ActivationFunction, Why> {
        let alpha = |default| attributes.float_or("alpha", default);
        Ok(match name {
            "LeakyRelu" => LeakyRelu { alpha: alpha(0.01)? },
            "Elu" => Elu { alpha: alpha(1.0)? },
            "Selu" => Selu { alpha: alpha(1.673_263_2)?, gamma: attributes.float_or("gamma", 1.050_701)? },
            "Celu" => Celu { alpha: alpha(1.0)? },
            "HardSigmoid" => HardSigmoid { alpha: alpha(0.2)?, beta: attributes.float_or("beta", 0.5)? },
            "HardSwish" => HardSwish,
            "ThresholdedRelu" => ThresholdedRelu { alpha: alpha(1.0)? },
            "Mish" => Mish,
            "Gelu" => match attributes.string_or("approximate", "none")?.as_str() {
                "none" => Gelu,
                "tanh" => GeluTanh,
                other => refuse!("approximate '{other}' is neither none nor tanh"),
            },
            "Shrink" => {
                Shrink { bias: attributes.float_or("bias", 0.0)?, lambd: attributes.float_or("lambd", 0.5)? }
            }
            "Swish" => Swish { alpha: alpha(1.0)? },
            _ => refuse!("no such operator here"),
        })
    }

    /// The function that recurrent operators call `name`, in upper or lower case. Its parameters are taken from the fronts of
    /// the lists.
    pub(crate) fn recurrent(
        name: &str,
        alphas: &mut impl Iterator<Item = f32>,
        betas: &mut impl Iterator<Item = f32>,
    ) -> Result<ActivationFunction, Why> {
        let mut alpha = |default| alphas.next().unwrap_or(default);
        let mut beta = |default| betas.next().unwrap_or(default);
        Ok(match name.to_ascii_lowercase().as_str() {
            "affine" => Affine { alpha: alpha(1.0), beta: beta(0.0) },
            "scaledtanh" => ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
            "leakyrelu" => LeakyRelu { alpha: alpha(0.01) },
            "thresholdedrelu" => ThresholdedRelu { alpha: alpha(1.0) },
            "hardsigmoid" => HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
            "elu" => Elu { alpha: alpha(1.0) },
            "relu" => Relu,
            "sigmoid" => Sigmoid,
            "softplus" => Softplus,
            "softsign" => Softsign,
            "tanh" => Tanh,
            _ => refuse!("'{name}' is no activation function"),
        })
    }

    /// The function's value, in f64.
    pub(crate) fn value(self, x: f64) -> f64 {
        match self {
            LeakyRelu { alpha } => {
                if x < 0.0 {
                    f64::from(alpha) * x
                } else {
                    x
                }
            }
            Elu { alpha } => {
                if x < 0.0 {
                    f64::from(alpha) * x.exp_m1()
                } else {
                    x
                }
            }
            Selu { alpha, gamma } => f64::from(gamma) * Elu { alpha }.value(x),
            Celu { alpha } => {
                let alpha = f64::from(alpha);
                if x.is_nan() { x } else { x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0) }
            }
            HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
            HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            ThresholdedRelu { alpha } => {
                if x > f64::from(alpha) {
                    x
                } else {
                    0.0
                }
            }
            Mish => x * Softplus.value(x).tanh(),
            Gelu => 0.5 * x * (1.0 + super::unary::erf(x / SQRT_2)),
            GeluTanh => 0.5 * x * (1.0 + (FRAC_2_PI.sqrt() * (x + 0.044715 * x * x * x)).tanh()),
            Shrink { bias, lambd } => match (f64::from(bias), f64::from(lambd)) {
                (bias, lambd) if x < -lambd => x + bias,
                (bias, lambd) if x > lambd => x - bias,
                _ => 0.0,
            },
            Swish { alpha } => x / (1.0 + (-f64::from(alpha) * x).exp()),
            Affine { alpha, beta } => f64::from(alpha) * x + f64::from(beta),
            ScaledTanh { alpha, beta } => f64::from(alpha) * (f64::from(beta) * x).tanh(),
            Relu => LeakyRelu { alpha: 0.0 }.value(x),
            Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Softsign => x / (1.0 + x.abs()),
            Tanh => x.tanh(),
        }
    }

    /// Code of the function's value; `None` if the device has no function for the type of `x`.
    pub(crate) fn device(self, e: &mut Builder, x: Reg) -> Option<Reg> {
        if let Shrink { bias, lambd } = self {
            return shrink(e, x, bias, lambd);
        }
        let (zero, one) = (e.float(x, 0.0), e.float(x, 1.0));
        let below = e.two(Fn2::Less, x, zero);
        Some(match self {
            LeakyRelu { alpha } => {
                let scaled = scale(e, x, alpha);
                e.select(below, scaled, x)
            }
            Elu { alpha } => {
                let exp = e.one(Fn1::ExpM1, x);
                let scaled = scale(e, exp, alpha);
                e.select(below, scaled, x)
            }
            Selu { alpha, gamma } => {
                let elu = Elu { alpha }.device(e, x)?;
                scale(e, elu, gamma)
            }
            Celu { alpha } => {
                let alpha = e.float(x, alpha.into());
                let part = e.two(Fn2::Div, x, alpha);
                let exp = e.one(Fn1::ExpM1, part);
                let scaled = e.mul(exp, alpha);
                let (negative, positive) = (e.two(Fn2::Min, scaled, zero), e.two(Fn2::Max, x, zero));
                e.add(positive, negative)
            }
            HardSigmoid { alpha, beta } => {
                let (scaled, beta) = (scale(e, x, alpha), e.float(x, beta.into()));
                let sum = e.add(scaled, beta);
                clamp(e, sum, zero, one)
            }
            HardSwish => {
                let (scaled, half) = (scale(e, x, 1.0 / 6.0), e.float(x, 0.5));
                let sum = e.add(scaled, half);
                let gate = clamp(e, sum, zero, one);
                e.mul(x, gate)
            }
            ThresholdedRelu { alpha } => {
                let alpha = e.float(x, alpha.into());
                let above = e.two(Fn2::Greater, x, alpha);
                e.select(above, x, zero)
            }
            Mish => {
                let softplus = e.one(Fn1::Softplus, x);
                let gate = e.one(Fn1::Tanh, softplus);
                e.mul(x, gate)
            }
            Gelu => {
                let part = scale(e, x, std::f64::consts::FRAC_1_SQRT_2);
                let erf = e.one(Fn1::Erf, part);
                half_of_one_plus(e, x, erf)
            }
            GeluTanh => {
                let square = e.mul(x, x);
                let cube = e.mul(square, x);
                let small = scale(e, cube, 0.044715);
                let sum = e.add(x, small);
                let scaled = scale(e, sum, FRAC_2_PI.sqrt());
                let tanh = e.one(Fn1::Tanh, scaled);
                half_of_one_plus(e, x, tanh)
            }
            Swish { alpha } => {
                let scaled = scale(e, x, alpha);
                let gate = e.one(Fn1::Sigmoid, scaled);
                e.mul(x, gate)
            }
            Affine { alpha, beta } => {
                let (scaled, beta) = (scale(e, x, alpha), e.float(x, beta.into()));
                e.add(scaled, beta)
            }
            ScaledTanh { alpha, beta } => {
                let scaled = scale(e, x, beta);
                let tanh = e.one(Fn1::Tanh, scaled);
                scale(e, tanh, alpha)
            }
            Relu => e.select(below, zero, x),
            Sigmoid => e.one(Fn1::Sigmoid, x),
            Softplus => e.one(Fn1::Softplus, x),
            Softsign => {
                let size = e.one(Fn1::Abs, x);
                let divisor = e.add(one, size);
                e.two(Fn2::Div, x, divisor)
            }
            Tanh => e.one(Fn1::Tanh, x),
            Shrink { .. } => return None,
        })
    }
}

fn scale(e: &mut Builder, x: Reg, factor: impl Into<f64>) -> Reg {
    let factor = e.float(x, factor.into());
    e.mul(x, factor)
}

fn clamp(e: &mut Builder, x: Reg, low: Reg, high: Reg) -> Reg {
    let raised = e.two(Fn2::Max, x, low);
    e.two(Fn2::Min, raised, high)
}

/// `x / 2 * (1 + y)`
fn half_of_one_plus(e: &mut Builder, x: Reg, y: Reg) -> Reg {
    let (half, one) = (scale(e, x, 0.5), e.float(x, 1.0));
    let sum = e.add(one, y);
    e.mul(half, sum)
}

/// An integer shrinks by a whole bias only: by a fraction it would leave the register's type.
fn shrink(e: &mut Builder, x: Reg, bias: f32, lambd: f32) -> Option<Reg> {
    let scalar = e.scalar(x);
    let whole = !scalar.is_float();
    if whole && (bias.fract() != 0.0 || bias < 0.0 || lambd < 0.0) {
        return None;
    }
    let lambd = f64::from(if whole { lambd.floor() } else { lambd });
    let (zero, bias) = (e.constant(scalar, 0.0), e.constant(scalar, f64::from(bias)));
    let (low, high) = (e.constant(scalar, -lambd), e.constant(scalar, lambd));
    let (raised, lowered) = (e.add(x, bias), e.sub(x, bias));
    let (below, above) = (e.two(Fn2::Less, x, low), e.two(Fn2::Greater, x, high));
    let upper = e.select(above, lowered, zero);
    Some(e.select(below, raised, upper))
}

impl Activation {
    fn second<T: Copy>(&self, inputs: &[Option<T>]) -> Option<T> {
        if self.second == Second::None { None } else { optional(inputs, 1) }
    }
}

impl Operator for Activation {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let takes_int = matches!(self.function, Shrink { .. });
        if !(x.dtype.is_float() || takes_int && x.dtype.is_int()) {
            refuse!("expected a float tensor, got {}", x.dtype);
        }
        if let Some(second) = self.second(inputs) {
            if second.dtype != x.dtype || broadcast([&x.shape[..], &second.shape])? != x.shape {
                refuse!("the second input must broadcast to the first and have its dtype");
            }
        } else if self.second == Second::Factor {
            refuse!("input 1 is required");
        }
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let second: Vec<f64> = match self.second(inputs) {
            Some(s) => {
                let values = s.floats()?;
                (0..x.len()).map(|i| values[broadcast_index(&unravel(i, &x.shape), &s.shape)]).collect()
            }
            None => vec![0.0; x.len()],
        };
        let of = |(x, second): (f64, &f64)| match self.second {
            Second::None => self.function.value(x),
            Second::Bias => self.function.value(x + second),
            Second::Factor => self.function.value(x) * second,
        };
        let values: Vec<f64> = x.to_f64()?.into_iter().zip(&second).map(of).collect();
        Ok(vec![match x.data {
            Numbers::Float(_) => Array::float(x.dtype, &x.shape, values),
            _ => Array::int(x.dtype, &x.shape, values.into_iter().map(|v| v as i128).collect()),
        }])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let each = if matches!(self.function, Gelu) { super::unary::ERF_STEPS } else { 1 };
        Ok(of_elements(inputs, outputs).times(each))
    }

    fn maps(&self) -> Maps {
        Maps::First
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], _: DType) -> Option<Reg> {
        let x = required(inputs, 0).ok()?;
        match (self.second, self.second(inputs)) {
            (Second::Bias, Some(bias)) => {
                let sum = e.add(x, bias);
                self.function.device(e, sum)
            }
            (Second::Factor, Some(factor)) => {
                let value = self.function.device(e, x)?;
                Some(e.mul(value, factor))
            }
            _ => self.function.device(e, x),
        }
    }
}

fn cases(domain: &'static str, name: &'static str) -> Vec<Case> {
    let tolerance = match name {
        "LeakyRelu" | "HardSigmoid" | "HardSwish" | "ThresholdedRelu" | "Shrink" => Tolerance::ARITHMETIC,
        _ => Tolerance::TRANSCENDENTAL,
    };
    let opset = if domain.is_empty() { super::NEWEST_OPSET } else { 1 };
    let new = |case: &str| Case::new(name, case).domain(domain).opset(opset).tolerance(tolerance);
    let x = |shape: &[usize]| case::uniform(shape, -5.0, 5.0);
    let second = |shape: &[usize]| case::uniform(shape, -2.0, 2.0);
    let shaped = |case: &str, shape: &[usize]| {
        let new = new(case).input(x(shape));
        match name {
            "SwiGLU" => new.input(second(shape)),
            "BiasGelu" => new.input(second(&shape[shape.len().min(1)..])),
            _ => new,
        }
    };
    let mut cases =
        vec![shaped("matrix", &[3, 7]), shaped("empty", &[2, 0]), shaped("rank5", &[2, 1, 3, 2, 5])];
    if name != "BiasGelu" {
        cases.push(shaped("scalar", &[]));
        let special = [f32::NAN, 0.0, -0.0, 30.0, -30.0, 1e-6, -1e-6, 6.0];
        let mut special = new("special").input(case::values(&[8], &special));
        if name == "SwiGLU" {
            special = special.input(second(&[8]));
        }
        cases.push(special);
    }
    if domain.is_empty() {
        let half = |dtype: DType| {
            let case = new(dtype.name()).input(case::converted(&x(&[9]), dtype));
            // One unit in the last place, for exact values that lie between two numbers of the dtype.
            let case = case.tolerance(Tolerance { relative: 8e-3, absolute: 1e-3 });
            if name == "SwiGLU" { case.input(case::converted(&second(&[9]), dtype)) } else { case }
        };
        cases.push(half(DType::F16));
        // Shrink does not take bfloat16.
        cases.extend((name != "Shrink").then(|| half(DType::BF16)));
    }
    let parameters: &[(&str, f32)] = match name {
        "LeakyRelu" | "Elu" | "Celu" | "ThresholdedRelu" | "Swish" | "SwiGLU" => &[("alpha", 1.7)],
        "Selu" => &[("alpha", 1.3), ("gamma", 3.0)],
        "HardSigmoid" => &[("alpha", 0.4), ("beta", 0.6)],
        "Shrink" => &[("bias", 1.0), ("lambd", 1.5)],
        _ => &[],
    };
    if !parameters.is_empty() {
        let with = |case, &(name, value): &(&str, f32)| Case::float(case, name, value);
        cases.push(parameters.iter().fold(shaped("parameters", &[17]), with));
    }
    match name {
        "Gelu" if domain.is_empty() => {
            cases.push(new("tanh").string("approximate", "tanh").input(x(&[17])));
        }
        "FastGelu" => cases.push(new("bias").input(x(&[3, 5])).input(second(&[5]))),
        "Shrink" => {
            let ints = case::values(&[5], &[-3i32, -1, 0, 2, 3]);
            cases.push(new("int32").float("bias", 1.0).float("lambd", 1.5).input(ints));
        }
        _ => {}
    }
    cases
}
