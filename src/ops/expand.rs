//! Expand: broadcasts a tensor to a shape. It fuses into the kernels that read it, so no element is written twice.
//!
//! History: 8, 13; the later version only adds types.

use super::broadcast::broadcast;
use super::case::{self, Case, Tolerance};
use super::division::Division;
use super::{Array, DType, Op, Operator, Row, Why, onnx, refuse, required, strides, types};
use crate::array::{broadcast_index, unravel};
use crate::facts::Fact;
use crate::kernels::Access;
use crate::kernels::expr::{Builder, Reg};
use crate::plan::Lower;

/// Broadcasting to a shape.
#[derive(Clone, Debug)]
pub(crate) struct Expand;

pub(crate) const ROWS: &[Row] =
    &[onnx("Expand", 8, types![T int64 -> T; T: ALL BF16@13], |_| Ok(Op::from(Expand)), cases)];

/// A list of dimensions; a negative one is refused.
pub(crate) fn dims(list: &[i64]) -> Result<Vec<usize>, Why> {
    let dim = |&d: &i64| {
        usize::try_from(d).map_err(|_| Why::from(format!("the shape {list:?} has a negative dimension")))
    };
    list.iter().map(dim).collect()
}

impl Operator for Expand {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let shape = dims(&required(inputs, 1)?.i64s()?)?;
        Ok(vec![Fact::new(x.dtype, broadcast([x.shape.as_slice(), &shape])?)])
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let division = Division::of_broadcast(axis, &inputs[..1], outputs.first()?)?;
        Some(Division { sizes: Some(1), ..division })
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let shape = dims(&required(inputs, 1)?.i64s()?)?;
        let shape = broadcast([x.shape.as_slice(), &shape])?;
        if crate::tensor::checked_count(&shape).is_none() {
            refuse!("the shape {shape:?} is too large");
        }
        let source = |i: usize| Some(broadcast_index(&unravel(i, &shape), &x.shape));
        Ok(vec![x.gather(&shape, source, None)])
    }

    fn shape_operands(&self) -> &[usize] {
        &[1]
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (from, to) = (&cx.fact(0)?.shape, &cx.out(0)?.shape);
        strides::gather(cx, 0, 0, &Access::broadcast(from, to).dims)
    }

    fn pointwise(&self, _: &mut Builder, inputs: &[Option<Reg>], _: DType) -> Option<Reg> {
        required(inputs, 0).ok()
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, from: &[usize], to: &[i64]| {
        let case = Case::new("Expand", case).tolerance(Tolerance::EXACT);
        case.input(case::random(from)).constant(case::list(to))
    };
    vec![
        of("column", &[3, 1], &[3, 4]),
        of("row", &[4], &[3, 4]),
        of("both", &[3, 1, 2], &[2, 1, 5, 2]),
        of("smaller_shape", &[2, 3], &[1]),
        of("scalar", &[], &[2, 2]),
        of("to_scalar", &[], &[]),
        of("to_empty", &[1, 3], &[0, 3]),
        of("rank6", &[2, 1, 3, 1, 1, 2], &[1, 2, 1, 3, 2, 1]),
        Case::new("Expand", "bool")
            .tolerance(Tolerance::EXACT)
            .input(case::bools(&[2, 1], &[true, false]))
            .input(case::list(&[2, 3])),
        Case::new("Expand", "int64")
            .tolerance(Tolerance::EXACT)
            .input(case::integers(&[2, 1], -9, 9))
            .input(case::list(&[2, 3])),
    ]
}
