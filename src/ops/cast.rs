//! Cast and CastLike: the same values in another dtype.
//!
//! History: Cast 6, 9 (strings), 13, 19 (float8, saturate), 21, 23 (float4), 24 (float8e8m0, round_mode), 25, 28; CastLike
//! 15, 19, 21, 23, 24, 25.

use super::case::{self, Case, Tolerance};
use super::quantize::clamped;
use super::{
    Array, DType, Kind, Maps, NodeDef, OWN_DOMAIN, Op, Operator, Row, Tensor, Why, Work, of_elements, onnx,
    optional, refuse, required, types,
};
use crate::array::number;
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Reg, Scalar};
use crate::plan::Lower;
use crate::small::{Format, RoundMode, SMALL_FLOATS};

/// What is converted to.
#[derive(Clone, Copy, Debug)]
enum CastTo {
    Given(DType),
    /// The dtype of the second input.
    Like,
    /// float32; float64 stays as it is.
    Single,
}

/// A conversion.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    to: CastTo,
    /// Whether a value beyond a float8's range becomes the greatest float8.
    saturate: bool,
    mode: RoundMode,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("Cast", 6, types![T1 -> T2; T1 T2: NUMBERS BOOL STRING@9 BF16@13 FLOAT6@28 SMALL], parse, || {
        cases("Cast")
    }),
    onnx("CastLike", 15, types![T1 T2 -> T2; T1 T2: NUMBERS BOOL STRING BF16 SMALL], parse, || {
        cases("CastLike")
    }),
    Row {
        domain: OWN_DOMAIN,
        name: "CastToSingle",
        opsets: (1, 1),
        types: types![T1 -> T2; T1: FLOATS BF16, T2: F32 F64],
        parse,
        cases: single_cases,
    },
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let to = match def.attributes.int("to")? {
        _ if def.op_type == "CastLike" => CastTo::Like,
        _ if def.op_type == "CastToSingle" => CastTo::Single,
        Some(code) => match i32::try_from(code).ok().and_then(DType::from_onnx) {
            Some(dtype) => CastTo::Given(dtype),
            None => refuse!("attribute 'to' is {code}, which is no data type"),
        },
        None => refuse!("attribute 'to' is required"),
    };
    let mode = match def.attributes.string_or("round_mode", "up")?.as_str() {
        "up" => RoundMode::Up,
        "down" => RoundMode::Down,
        "nearest" => RoundMode::Nearest,
        other => refuse!("round_mode '{other}' is none of up, down, nearest"),
    };
    Ok(Cast { to, saturate: def.attributes.flag("saturate", true)?, mode }.into())
}

/// The bytes of a string that spells a number: float64 has numbers of 309 digits.
const LONGEST_NUMBER: usize = 352;

impl Cast {
    /// The dtype of the result, out of those of the inputs.
    fn target(&self, dtype: impl Fn(usize) -> Option<DType>) -> Result<DType, Why> {
        let target = match self.to {
            CastTo::Given(to) => Some(to),
            CastTo::Like => dtype(1),
            CastTo::Single => dtype(0).map(|own| if own == DType::F64 { own } else { DType::F32 }),
        };
        target.ok_or_else(|| "an input is missing".into())
    }
}

impl Operator for Cast {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let to = self.target(|i| optional(inputs, i).map(|input| input.dtype))?;
        Ok(vec![Fact::new(to, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let to = self.target(|i| optional(inputs, i).map(|input| input.dtype))?;
        Ok(vec![number::cast_rounded(required(inputs, 0)?, to, self.saturate, self.mode)?])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let texts = outputs.iter().filter(|fact| fact.dtype == DType::String).map(Fact::count).sum();
        Ok(of_elements(inputs, outputs).temporary(texts, LONGEST_NUMBER))
    }

    fn kinds(&self, inputs: &[Option<&Kind>]) -> Option<Vec<Kind>> {
        let like = inputs.get(1).copied().flatten().cloned();
        let given = match self.to {
            CastTo::Given(dtype) => Some(Kind::Tensor(Some(dtype))),
            CastTo::Like => like,
            CastTo::Single => match inputs.first().copied().flatten() {
                Some(double @ Kind::Tensor(Some(DType::F64))) => Some(double.clone()),
                _ => None,
            },
        };
        Some(vec![given.unwrap_or(Kind::Tensor(None))])
    }

    fn reads_data(&self, i: usize) -> bool {
        i == 0
    }

    fn rounds(&self, inputs: &[Option<&Fact>]) -> bool {
        let dtype = |i: usize| optional(inputs, i).map(|fact| fact.dtype);
        self.target(dtype).ok() != dtype(0)
    }

    fn widens(&self, inputs: &[Option<&Fact>]) -> bool {
        let dtype = |i: usize| optional(inputs, i).map(|fact| fact.dtype);
        match (dtype(0), self.target(dtype)) {
            (Some(DType::F16 | DType::BF16), Ok(to)) => to == DType::F32,
            (
                Some(DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ | DType::F4E2M1),
                Ok(to),
            ) => to == DType::F32,
            (Some(DType::I8 | DType::U8 | DType::I4 | DType::U4 | DType::I2 | DType::U2), Ok(to)) => {
                matches!(to, DType::F32 | DType::F16 | DType::BF16)
            }
            _ => false,
        }
    }

    fn is_cheap(&self) -> bool {
        true
    }

    fn maps(&self) -> Maps {
        Maps::First
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.widened()
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], out: DType) -> Option<Reg> {
        let mut x = required(inputs, 0).ok()?;
        // float32 lies between, and no number is to be rounded twice. Other floats of 16 bits and fewer hold no integers that large.
        let twice = match e.scalar(x) {
            Scalar::F64 => out.is_float() && out.bits() < 32,
            Scalar::F32 | Scalar::Bool => false,
            _ => matches!(out, DType::BF16 | DType::F8E8M0),
        };
        if twice {
            x = e.one(Fn1::RoundOdd, x);
        }
        let value = e.convert(x, e.register(out)?);
        Some(match Format::of(out) {
            _ if out == DType::F8E8M0 => e.one(Fn1::RoundE8m0(self.mode, self.saturate), value),
            Some(_) if self.saturate => clamped(e, value, out),
            // `Builder::result` rounds and wraps to narrower dtypes.
            _ => value,
        })
    }
}

fn single_cases() -> Vec<Case> {
    let of = |dtype: DType| {
        let case = Case::new("CastToSingle", dtype.name()).domain(OWN_DOMAIN).opset(1);
        case.tolerance(Tolerance::EXACT).input(case::converted(&case::random(&[9]), dtype))
    };
    [DType::F16, DType::BF16, DType::F32].map(of).into()
}

fn cases(op: &'static str) -> Vec<Case> {
    let cast = |case: &str, from: Tensor, to: DType| {
        let case = Case::new(op, case).tolerance(Tolerance::EXACT).input(from);
        match op {
            "Cast" => case.int("to", i64::from(to.onnx())),
            _ => case.input(case::converted(&case::random(&[2]), to)),
        }
    };
    let floats = || case::values(&[8], &[0.0f32, -0.0, 0.5, -0.9, 1.5, -2.5, 100.7, -100.2]);
    let specials = case::values(&[5], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e-40]);
    let ints = || case::integers(&[3, 7], -1000, 1000);
    let halves = || case::converted(&case::uniform(&[9], -70000.0, 70000.0), DType::F16);
    let mut cases = vec![
        cast("scalar", case::random(&[]), DType::I64),
        cast("empty", case::random(&[0, 3]), DType::I64),
        cast("nan_to_bool", specials, DType::Bool),
        cast("rank5", case::uniform(&[2, 1, 3, 1, 2], -9.0, 9.0), DType::I32),
        cast("rounds_to_float16", case::uniform(&[33], -1e5, 1e5), DType::F16),
        cast("tiny_to_float16", case::uniform(&[33], -1e-6, 1e-6), DType::F16),
        cast("float16_to_bfloat16", halves(), DType::BF16),
        cast("large_to_uint32", case::values(&[2], &[3e9f32, 4294967040.0]), DType::U32),
        cast("bool_to_float16", case::bools(&[2], &[true, false]), DType::F16),
        cast("bool_to_int8", case::bools(&[2], &[true, false]), DType::I8),
    ];
    for to in [DType::F16, DType::BF16, DType::I64, DType::I32, DType::I16, DType::I8, DType::Bool] {
        cases.push(cast(&format!("float32_to_{to}"), floats(), to));
    }
    let wide = || case::uniform(&[65], -600.0, 600.0);
    let edges = || {
        let values =
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 464.0, 465.0, -0.0, -1e-9, 0.001, 6e4, 6.2e4];
        case::values(&[10], &values)
    };
    // CastLike does not take the dtypes of 6 bits.
    for to in SMALL_FLOATS.into_iter().filter(|to| op == "Cast" || to.bits() != 6) {
        let numbers = |case: &str, tensor: &Tensor| {
            cast(&format!("{to}_{case}"), case::converted(tensor, to), DType::F32)
        };
        cases.push(cast(&format!("float32_to_{to}"), wide(), to));
        cases.push(cast(&format!("small_to_{to}"), case::uniform(&[65], -0.1, 0.1), to));
        cases.push(cast(&format!("edges_to_{to}"), edges(), to));
        cases.push(cast(&format!("edges_to_{to}_unsaturated"), edges(), to).int("saturate", 0));
        cases.push(numbers("to_float32", &wide()));
    }
    for mode in ["up", "down", "nearest"] {
        let values = [
            0.0f32,
            1e-45,
            1e-38,
            5.9e-39,
            8.9e-39,
            1.0,
            1.5,
            1.6,
            3.0,
            1.8e38,
            3e38,
            f32::INFINITY,
            f32::NAN,
        ];
        let powers = |case: &str| {
            let name = format!("float32_to_{}_{mode}{case}", DType::F8E8M0);
            cast(&name, case::values(&[13], &values), DType::F8E8M0).string("round_mode", mode)
        };
        cases.extend([powers(""), powers("_unsaturated").int("saturate", 0)]);
    }
    cases.push(cast("float8e8m0_to_float32", case::converted(&wide(), DType::F8E8M0), DType::F32));
    for to in [DType::I4, DType::U4, DType::I2, DType::U2] {
        let small = case::converted(&ints(), to);
        cases.push(cast(&format!("int64_to_{to}"), ints(), to));
        cases.push(cast(&format!("{to}_to_float32"), small.clone(), DType::F32));
        cases.push(cast(&format!("{to}_to_int8"), small, DType::I8));
    }
    for to in [DType::F32, DType::I32, DType::I16, DType::U16, DType::I8, DType::U8, DType::Bool] {
        cases.push(cast(&format!("int64_to_{to}"), ints(), to));
    }
    for from in [DType::I32, DType::I16, DType::U16, DType::I8, DType::U8, DType::U32, DType::U64] {
        let positive = case::converted(&case::integers(&[9], 0, 100), from);
        cases.push(cast(&format!("{from}_to_float32"), positive.clone(), DType::F32));
        cases.push(cast(&format!("{from}_to_int64"), positive, DType::I64));
    }
    cases
}
