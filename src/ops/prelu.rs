//! PRelu: multiplies negative numbers by a slope, which broadcasts to the input.
//!
//! History: 6 (a slope for each channel), 7 (unidirectional broadcasting), 9 and 16 (more types).

use super::broadcast::broadcast;
use super::case::{self, Case, Tolerance};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, onnx, refuse, required, types};
use crate::array::{Numbers, broadcast_index, unravel};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn2, Reg};

/// The operator has no attributes.
#[derive(Clone, Debug)]
pub(crate) struct PRelu;

pub(crate) const ROWS: &[Row] =
    &[onnx("PRelu", 7, types![T T -> T; T: FLOATS WORDS@9 BF16@16], parse, cases)];

fn parse(_: &NodeDef) -> Result<Op, Why> {
    Ok(PRelu.into())
}

impl Operator for PRelu {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, slope) = (required(inputs, 0)?, required(inputs, 1)?);
        if slope.dtype != x.dtype || broadcast([&x.shape[..], &slope.shape])? != x.shape {
            refuse!("the slope must broadcast to the input and have its dtype");
        }
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, slope) = (required(inputs, 0)?, required(inputs, 1)?);
        let at = |i| broadcast_index(&unravel(i, &x.shape), &slope.shape);
        Ok(vec![match (&x.data, &slope.data) {
            (Numbers::Float(v), Numbers::Float(s)) => {
                let value = |(i, &x): (usize, &f64)| if x < 0.0 { x * s[at(i)] } else { x };
                Array::float(x.dtype, &x.shape, v.iter().enumerate().map(value).collect())
            }
            (Numbers::Int(v), Numbers::Int(s)) => {
                let value = |(i, &x): (usize, &i128)| if x < 0 { x * s[at(i)] } else { x };
                Array::int(x.dtype, &x.shape, v.iter().enumerate().map(value).collect())
            }
            _ => refuse!("the inputs have different dtypes"),
        }])
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], _: DType) -> Option<Reg> {
        let (x, slope) = (required(inputs, 0).ok()?, required(inputs, 1).ok()?);
        let zero = e.constant(e.scalar(x), 0.0);
        let below = e.two(Fn2::Less, x, zero);
        let scaled = e.mul(x, slope);
        Some(e.select(below, scaled, x))
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str, x: &[usize], slope: &[usize]| {
        Case::new("PRelu", case).input(case::random(x)).constant(case::uniform(slope, 0.1, 0.9))
    };
    vec![
        new("same", &[3, 5], &[3, 5]),
        new("channels", &[2, 3, 4, 5], &[3, 1, 1]),
        new("one", &[2, 3], &[1]),
        new("scalars", &[], &[]),
        new("empty", &[0, 3], &[3]),
        new("rank5", &[2, 3, 1, 2, 3], &[3, 1, 2, 1]),
        Case::new("PRelu", "int32")
            .tolerance(Tolerance::EXACT)
            .input(case::values(&[3], &[-3i32, 0, 5]))
            .input(case::values(&[1], &[2i32])),
    ]
}
