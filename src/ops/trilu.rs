//! Trilu: the upper or lower triangle of matrices, with zeros elsewhere.
//!
//! History: 14.

use super::case::{self, Case, Tolerance};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, microsoft, onnx, optional, refuse, required, types,
};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn2, Reg, Scalar};

/// The elements on one side of a diagonal.
#[derive(Clone, Debug)]
pub(crate) struct Trilu {
    upper: bool,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("Trilu", 14, types![T int64 -> T; T: ALL BF16], parse, cases),
    microsoft(
        "Trilu",
        types![T int64 -> T; T: FLOATS BOOL I16 I32 I64 I8 U16 U32 U64 U8 BF16],
        parse,
        || cases().into_iter().take(3).map(Case::of_microsoft).collect(),
    ),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Trilu { upper: def.attributes.flag("upper", true)? }.into())
}

impl Operator for Trilu {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if x.rank() < 2 {
            refuse!("expected matrices, got a tensor of rank {}", x.rank());
        }
        if optional(inputs, 1).is_some_and(|k| k.count() != 1) {
            refuse!("k must be one number");
        }
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let k = optional(inputs, 1).map_or(Ok(vec![0]), |k| k.i64s())?.first().copied().unwrap_or(0);
        let [.., rows, columns] = x.shape[..] else { refuse!("expected matrices") };
        let source = |i: usize| {
            let (row, column) = ((i / columns % rows) as i64, (i % columns) as i64);
            let kept = if self.upper { column - row >= k } else { column - row <= k };
            kept.then_some(i)
        };
        Ok(vec![x.gather(&x.shape, source, None)])
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], _: DType) -> Option<Reg> {
        let x = required(inputs, 0).ok()?;
        let k = optional(inputs, 1).unwrap_or_else(|| e.constant(Scalar::I32, 0.0));
        let rank = e.shape().len();
        let (row, column) = (e.coordinate(rank.checked_sub(2)?), e.coordinate(rank - 1));
        let number = e.scalar(k);
        let (row, column) = (e.convert(row, number), e.convert(column, number));
        let diagonal = e.sub(column, row);
        let side = if self.upper { Fn2::GreaterOrEqual } else { Fn2::LessOrEqual };
        let kept = e.two(side, diagonal, k);
        let zero = e.constant(e.scalar(x), 0.0);
        Some(e.select(kept, x, zero))
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, shape: &[usize], upper: i64, k: Option<i64>| {
        let case = Case::new("Trilu", case).tolerance(Tolerance::EXACT).int("upper", upper);
        let case = case.input(case::random(shape));
        k.into_iter().fold(case, |case, k| case.input(case::values(&[], &[k])))
    };
    vec![
        of("upper", &[4, 5], 1, None),
        of("lower", &[4, 5], 0, None),
        of("upper_above", &[2, 4, 5], 1, Some(2)),
        of("upper_below", &[2, 4, 5], 1, Some(-2)),
        of("lower_above", &[2, 1, 4, 3], 0, Some(1)),
        of("lower_below", &[4, 5], 0, Some(-1)),
        of("beyond", &[3, 3], 1, Some(10)),
        of("empty", &[0, 5], 1, Some(1)),
        of("empty_matrices", &[2, 5, 0], 0, None),
        Case::new("Trilu", "constant_k")
            .tolerance(Tolerance::EXACT)
            .input(case::integers(&[3, 3], 1, 9))
            .constant(case::values(&[1], &[1i64])),
        Case::new("Trilu", "bool").tolerance(Tolerance::EXACT).input(case::bools(&[2, 2], &[true; 4])),
    ]
}
