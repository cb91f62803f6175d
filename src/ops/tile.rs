//! Tile: a tensor repeated along its axes.
//!
//! History: 6, 13; the later version only adds types.

use super::case::{self, Case, Tolerance};
use super::expand::dims;
use super::{Array, Op, Operator, Row, Why, onnx, refuse, required, strides, types};
use crate::array::{ravel, unravel};
use crate::facts::Fact;
use crate::plan::Lower;
use crate::tensor::checked_count;

/// Repetition along each axis.
#[derive(Clone, Debug)]
pub(crate) struct Tile;

pub(crate) const ROWS: &[Row] =
    &[onnx("Tile", 6, types![T int64 -> T; T: ALL BF16@13], |_| Ok(Op::from(Tile)), cases)];

fn repeats(list: &[i64], rank: usize) -> Result<Vec<usize>, Why> {
    if list.len() != rank {
        refuse!("repeats {list:?} must have one number for each of the {rank} axes");
    }
    dims(list)
}

fn tiled(shape: &[usize], repeats: &[usize]) -> Result<Vec<usize>, Why> {
    let sizes = shape.iter().zip(repeats).map(|(&size, &n)| size.checked_mul(n)).collect::<Option<Vec<_>>>();
    match sizes.filter(|shape| checked_count(shape).is_some()) {
        Some(shape) => Ok(shape),
        None => refuse!("the result is too large"),
    }
}

impl Operator for Tile {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let repeats = repeats(&required(inputs, 1)?.i64s()?, x.rank())?;
        Ok(vec![Fact::new(x.dtype, tiled(&x.shape, &repeats)?)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let shape = tiled(&x.shape, &repeats(&required(inputs, 1)?.i64s()?, x.shape.len())?)?;
        let source = |i: usize| {
            let at = unravel(i, &shape);
            let from: Vec<usize> = at.iter().zip(&x.shape).map(|(at, size)| at % size).collect();
            Some(ravel(&from, &x.shape))
        };
        Ok(vec![x.gather(&shape, source, None)])
    }

    fn shape_operands(&self) -> &[usize] {
        &[1]
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let shape = &cx.fact(0)?.shape;
        let repeats = repeats(&cx.fact(1)?.i64s()?, shape.len())?;
        let steps = strides::of(shape);
        // Each axis becomes two: the repetitions, which have stride 0, and the elements.
        let dims: Vec<_> = (0..shape.len()).flat_map(|d| [(repeats[d], 0), (shape[d], steps[d])]).collect();
        strides::gather(cx, 0, 0, &dims)
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, shape: &[usize], repeats: &[i64]| {
        let case = Case::new("Tile", case).tolerance(Tolerance::EXACT);
        case.input(case::random(shape)).constant(case::list(repeats))
    };
    vec![
        of("vector", &[3], &[4]),
        of("matrix", &[2, 3], &[2, 3]),
        of("rank5", &[2, 1, 3, 1, 2], &[1, 3, 2, 2, 1]),
        of("once", &[2, 3], &[1, 1]),
        of("scalar", &[], &[]),
        of("never", &[2, 3], &[0, 2]),
        of("empty", &[0, 3], &[2, 2]),
        Case::new("Tile", "int64")
            .tolerance(Tolerance::EXACT)
            .input(case::integers(&[2, 2], -9, 9))
            .input(case::list(&[2, 1])),
    ]
}
