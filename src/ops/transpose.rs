//! Transpose: puts the axes into another order. It is a view where only axes of size 1 move.
//!
//! History: 1, 13, 21, 23, 24, 25; later versions only add types.

use super::axes::axes;
use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare};
use super::{Array, NodeDef, Op, Operator, Row, Why, onnx, refuse, required, strides, types};
use crate::array;
use crate::facts::Fact;
use crate::plan::Lower;

/// Axis `i` of the output is axis `perm[i]` of the input; without `perm`, the order is reversed.
#[derive(Clone, Debug)]
pub(crate) struct Transpose {
    perm: Option<Vec<i64>>,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("Transpose", 1, types![T -> T; T: ALL BF16@13 SMALL@21], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Transpose { perm: def.attributes.ints("perm")? }.into())
}

impl Transpose {
    /// The order of the axes, if it does not depend on the rank.
    pub(crate) fn fixed_perm(&self) -> Option<Vec<usize>> {
        let perm = self.perm.as_ref()?;
        axes(perm, perm.len()).ok()
    }

    fn perm(&self, rank: usize) -> Result<Vec<usize>, Why> {
        match &self.perm {
            None => Ok((0..rank).rev().collect()),
            Some(perm) if perm.len() == rank => axes(perm, rank),
            Some(perm) => refuse!("perm {perm:?} does not name the {rank} axes of the input"),
        }
    }
}

impl Operator for Transpose {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let shape: Vec<usize> = self.perm(x.rank())?.iter().map(|&axis| x.shape[axis]).collect();
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let perm = self.perm(inputs.first().copied().flatten()?.rank()).ok()?;
        Some(Division::of(*outputs.first()?.shape.get(axis)?, vec![InputShare::along(*perm.get(axis)?)]))
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let perm = self.perm(x.shape.len())?;
        let shape: Vec<usize> = perm.iter().map(|&axis| x.shape[axis]).collect();
        let source = |i: usize| {
            let mut from = vec![0; perm.len()];
            for (at, &axis) in array::unravel(i, &shape).into_iter().zip(&perm) {
                from[axis] = at;
            }
            Some(array::ravel(&from, &x.shape))
        };
        Ok(vec![x.gather(&shape, source, None)])
    }

    fn moves_elements(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let shape = &cx.fact(0)?.shape;
        let steps = strides::of(shape);
        let dims: Vec<_> = self.perm(shape.len())?.iter().map(|&axis| (shape[axis], steps[axis])).collect();
        strides::gather(cx, 0, 0, &dims)
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, shape: &[usize]| {
        Case::new("Transpose", case).tolerance(Tolerance::EXACT).input(case::random(shape))
    };
    vec![
        of("reversed", &[2, 3, 4]),
        of("matrix", &[65, 33]).ints("perm", &[1, 0]),
        of("rank4", &[2, 3, 5, 7]).ints("perm", &[0, 2, 3, 1]),
        of("rank6", &[2, 1, 3, 2, 1, 5]).ints("perm", &[5, 0, 3, 4, 2, 1]),
        of("view", &[1, 3, 1, 4]).ints("perm", &[2, 1, 0, 3]),
        of("same", &[3, 4]).ints("perm", &[0, 1]),
        of("scalar", &[]),
        of("empty", &[2, 0, 3]).ints("perm", &[2, 0, 1]),
        Case::new("Transpose", "int64").tolerance(Tolerance::EXACT).input(case::integers(&[3, 4], -9, 9)),
        Case::new("Transpose", "bool")
            .tolerance(Tolerance::EXACT)
            .input(case::bools(&[2, 2], &[true, true, false, true])),
    ]
}
