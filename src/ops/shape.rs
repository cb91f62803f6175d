//! Shape and Size: both are known as soon as the input's shape is.
//!
//! History: Shape 1, 13, 15 (start, end), 19, 21, 23, 24, 25; Size 1, 13, 19, 21, 23, 24, 25.

use super::case::{self, Case, Tolerance};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, onnx, required, types};
use crate::facts::Fact;

/// The input's dimensions from `start` to `end`, or their product.
#[derive(Clone, Debug)]
pub(crate) enum ShapeQuery {
    Dims { start: i64, end: Option<i64> },
    Count,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("Shape", 1, types![T -> int64; T: ALL BF16@13 SMALL], parse, shape_cases),
    onnx("Size", 1, types![T -> int64; T: ALL BF16@13 SMALL], |_| Ok(ShapeQuery::Count.into()), size_cases),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let start = def.attributes.int_or("start", 0)?;
    Ok(ShapeQuery::Dims { start, end: def.attributes.int("end")? }.into())
}

impl ShapeQuery {
    fn array(&self, shape: &[usize]) -> Array {
        let value = |d: &usize| *d as i128;
        match self {
            ShapeQuery::Count => {
                Array::int(DType::I64, &[], vec![shape.iter().map(value).fold(1, i128::saturating_mul)])
            }
            ShapeQuery::Dims { start, end } => {
                let rank = shape.len() as i64;
                let clamp =
                    |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize;
                let (start, end) = (clamp(*start), clamp(end.unwrap_or(rank)));
                let dims: Vec<i128> = shape[start..end.max(start)].iter().map(value).collect();
                Array::int(DType::I64, &[dims.len()], dims)
            }
        }
    }
}

impl Operator for ShapeQuery {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        Ok(vec![Fact::of_array(self.array(&required(inputs, 0)?.shape))])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        Ok(vec![self.array(&required(inputs, 0)?.shape)])
    }

    fn reads_shapes_only(&self) -> bool {
        true
    }

    fn reads_data(&self, _: usize) -> bool {
        false
    }
}

fn shape_cases() -> Vec<Case> {
    let of = |case: &str, shape: &[usize]| {
        Case::new("Shape", case).tolerance(Tolerance::EXACT).input(case::random(shape))
    };
    vec![
        of("whole", &[2, 3, 4]),
        of("scalar", &[]),
        of("empty", &[0, 7]),
        of("from_start", &[2, 3, 4]).int("start", -2),
        of("to_end", &[2, 3, 4]).int("end", -1),
        of("clamped", &[2, 3, 4]).int("start", -9).int("end", 9),
        of("crossed", &[2, 3, 4]).int("start", 2).int("end", 1),
    ]
}

fn size_cases() -> Vec<Case> {
    let of = |case: &str, shape: &[usize]| {
        Case::new("Size", case).tolerance(Tolerance::EXACT).input(case::random(shape))
    };
    vec![of("tensor", &[2, 3, 4]), of("scalar", &[]), of("empty", &[0, 7])]
}
