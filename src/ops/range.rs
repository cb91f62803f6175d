//! Range: numbers from a start to a limit, at equal distances.
//!
//! History: 11, 27 (float16 and bfloat16, stash_type: both are computed in f32 or better here).

use super::case::{self, Case, Tolerance};
use super::{Array, DType, Op, Operator, Row, Types, Why, onnx, refuse, required, types};
use crate::array::Numbers;
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Reg};

/// `start`, `start + delta`, ... before `limit`.
#[derive(Clone, Debug)]
pub(crate) struct Range;

const TYPES: Types = types![T T T -> T; T: INDICES F32 F64 I16 F16@27 BF16@27];

pub(crate) const ROWS: &[Row] = &[onnx("Range", 11, TYPES, |_| Ok(Op::from(Range)), cases)];

/// The number of elements.
fn count(start: &Array, limit: &Array, delta: &Array) -> Result<usize, Why> {
    let count = match (&start.data, &limit.data, &delta.data) {
        (Numbers::Float(start), Numbers::Float(limit), Numbers::Float(delta)) => {
            let ([start], [limit], [delta]) = (&start[..], &limit[..], &delta[..]) else {
                refuse!("the inputs must be scalars")
            };
            ((limit - start) / delta).ceil()
        }
        (Numbers::Int(start), Numbers::Int(limit), Numbers::Int(delta)) => {
            let ([start], [limit], [delta]) = (&start[..], &limit[..], &delta[..]) else {
                refuse!("the inputs must be scalars")
            };
            ((limit - start) as f64 / *delta as f64).ceil()
        }
        _ => refuse!("the inputs must be numbers of one dtype"),
    };
    if count.is_nan() || count >= f64::from(u32::MAX) {
        refuse!("the range has {count} elements");
    }
    Ok(count.max(0.0) as usize)
}

impl Operator for Range {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (start, limit, delta) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        if start.dtype != limit.dtype || start.dtype != delta.dtype {
            refuse!("the inputs have different dtypes");
        }
        Ok(vec![Fact::new(start.dtype, vec![count(start.array()?, limit.array()?, delta.array()?)?])])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (start, limit, delta) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        let count = count(start, limit, delta)?;
        Ok(vec![match &start.data {
            Numbers::Float(v) => {
                let step = delta.floats()?[0];
                Array::float(start.dtype, &[count], (0..count).map(|i| v[0] + i as f64 * step).collect())
            }
            _ => {
                let (first, step) = (start.ints()?[0], delta.ints()?[0]);
                Array::int(start.dtype, &[count], (0..count).map(|i| first + i as i128 * step).collect())
            }
        }])
    }

    fn shape_operands(&self) -> &[usize] {
        &[0, 1, 2]
    }

    fn reads_data(&self, i: usize) -> bool {
        i != 1
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], _: DType) -> Option<Reg> {
        let (start, delta) = (required(inputs, 0).ok()?, required(inputs, 2).ok()?);
        let index = e.index();
        let index = e.convert(index, e.scalar(start));
        let steps = e.mul(index, delta);
        Some(e.add(start, steps))
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str| Case::new("Range", case).tolerance(Tolerance::EXACT);
    let int = |v: i64| case::values(&[], &[v]);
    let float = |v: f32| case::values(&[], &[v]);
    let half = |v: f32| case::converted(&float(v), DType::F16);
    vec![
        new("int64").input(int(2)).input(int(11)).input(int(3)),
        new("down").input(int(10)).input(int(4)).input(int(-2)),
        new("nothing").input(int(10)).input(int(4)).input(int(2)),
        new("float").tolerance(Tolerance::ARITHMETIC).input(float(1.0)).input(float(9.0)).input(float(0.3)),
        new("float16").input(half(1.0)).input(half(5.0)).input(half(0.5)),
        new("constant").constant(int(0)).constant(int(5000)).constant(int(1)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_ranges_are_refused() {
        let int = |v| Array::int(DType::I64, &[], vec![v]);
        assert_eq!(count(&int(0), &int(10), &int(3)), Ok(4));
        assert!(count(&int(0), &int(10), &int(0)).is_err());
        assert!(count(&int(0), &int(i128::from(i64::MAX)), &int(1)).is_err());
        let float = |v| Array::float(DType::F32, &[], vec![v]);
        assert!(count(&float(0.0), &float(1.0), &float(0.0)).is_err());
        assert!(count(&float(0.0), &float(f64::NAN), &float(1.0)).is_err());
    }
}
