//! EyeLike: ones on a diagonal, in the shape of the input.
//!
//! History: 9, 22; the later version only adds a type.

use super::case::{self, Case, Tolerance};
use super::{Array, DType, Kind, NodeDef, Op, Operator, Row, Why, onnx, refuse, required, types};
use crate::array::number;
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn2, Reg, Scalar};

/// A matrix of zeros, with ones on the diagonal that lies `k` places to the right of the main one.
#[derive(Clone, Debug)]
pub(crate) struct EyeLike {
    dtype: Option<DType>,
    k: i64,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("EyeLike", 9, types![T1 -> T2; T1 T2: NUMBERS BOOL BF16@22], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let dtype = match def.attributes.int("dtype")? {
        None => None,
        Some(code) => match i32::try_from(code).ok().and_then(DType::from_onnx) {
            Some(dtype) => Some(dtype),
            None => refuse!("attribute 'dtype' is {code}, which is no data type"),
        },
    };
    Ok(EyeLike { dtype, k: def.attributes.int_or("k", 0)? }.into())
}

impl Operator for EyeLike {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let like = required(inputs, 0)?;
        if like.rank() != 2 {
            refuse!("expected a matrix, got a tensor of rank {}", like.rank());
        }
        Ok(vec![Fact::new(self.dtype.unwrap_or(like.dtype), like.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let like = required(inputs, 0)?;
        let [rows, columns] = like.shape[..] else { refuse!("expected a matrix") };
        let on = |i: usize| (i / columns) as i128 + i128::from(self.k) == (i % columns) as i128;
        let eye = Array::bools(&like.shape, (0..rows * columns).map(on).collect());
        Ok(vec![number::cast(&eye, self.dtype.unwrap_or(like.dtype), true)?])
    }

    fn reads_shapes_only(&self) -> bool {
        true
    }

    fn reads_data(&self, _: usize) -> bool {
        false
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn kinds(&self, inputs: &[Option<&Kind>]) -> Option<Vec<Kind>> {
        let own = self.dtype.map(|dtype| Kind::Tensor(Some(dtype)));
        own.or_else(|| inputs.first().copied().flatten().cloned()).map(|kind| vec![kind])
    }

    fn pointwise(&self, e: &mut Builder, _: &[Option<Reg>], out: DType) -> Option<Reg> {
        let (row, column) = (e.coordinate(0), e.coordinate(1));
        let (row, column) = (e.convert(row, Scalar::I32), e.convert(column, Scalar::I32));
        let k =
            e.constant(Scalar::I32, self.k.clamp(i64::from(i32::MIN) / 2, i64::from(i32::MAX) / 2) as f64);
        let above = e.sub(column, row);
        let on = e.two(Fn2::Equal, above, k);
        Some(e.convert(on, e.register(out)?))
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, shape: &[usize], k: i64| {
        Case::new("EyeLike", case).tolerance(Tolerance::EXACT).input(case::random(shape)).int("k", k)
    };
    vec![
        of("square", &[4, 4], 0),
        of("above", &[3, 5], 2),
        of("below", &[5, 3], -1),
        of("outside", &[3, 3], 7),
        of("int64", &[3, 4], 1).int("dtype", i64::from(DType::I64.onnx())),
        of("bool", &[3, 4], 0).int("dtype", i64::from(DType::Bool.onnx())),
        of("empty", &[0, 3], 0),
        of("large", &[80, 70], 3),
    ]
}
