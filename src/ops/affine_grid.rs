//! AffineGrid: the coordinates to which affine matrices move the points of a regular grid.
//!
//! History: 20.

use super::case::{self, Case, Tolerance};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, onnx, product, refuse, required, types};
use crate::array::unravel;
use crate::facts::Fact;
use crate::kernels::affine_grid as kernel;
use crate::kernels::expr::Scalar;
use crate::kernels::gather::groups;
use crate::kernels::{word, words};
use crate::plan::Lower;

/// AffineGrid.
#[derive(Clone, Debug)]
pub(crate) struct AffineGrid {
    align_corners: bool,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("AffineGrid", 20, types![T1 int64 -> T1; T1: FLOATS BF16], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(AffineGrid { align_corners: def.attributes.flag("align_corners", false)? }.into())
}

/// The output's shape: the batch, the image's spatial axes, and coordinates.
fn shape(theta: &[usize], size: &[i64]) -> Result<Vec<usize>, Why> {
    let rank = size.len().saturating_sub(2);
    if !matches!(rank, 2 | 3)
        || theta.len() != 3
        || theta[1..] != [rank, rank + 1]
        || size[0] != theta[0] as i64
    {
        refuse!("matrices of shape {theta:?} do not fit an image of size {size:?}");
    }
    let mut shape = vec![theta[0]];
    for &size in &size[2..] {
        shape.push(usize::try_from(size).map_err(|_| format!("a size is {size}"))?);
    }
    shape.push(rank);
    Ok(shape)
}

impl AffineGrid {
    /// Coordinate `i` of `size` points between -1 and 1.
    fn coordinate(&self, i: usize, size: usize) -> f64 {
        match (self.align_corners, size) {
            (true, 1) => 0.0,
            (true, _) => 2.0 * i as f64 / (size - 1) as f64 - 1.0,
            (false, _) => (2 * i + 1) as f64 / size as f64 - 1.0,
        }
    }
}

impl Operator for AffineGrid {
    fn shape_operands(&self) -> &[usize] {
        &[1]
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let theta = required(inputs, 0)?;
        Ok(vec![Fact::new(theta.dtype, shape(&theta.shape, &required(inputs, 1)?.i64s()?)?)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let theta = required(inputs, 0)?;
        let shape = shape(&theta.shape, &required(inputs, 1)?.i64s()?)?;
        let (rank, values) = (shape.len() - 2, theta.floats()?);
        let element = |o: usize| {
            let at = unravel(o, &shape);
            let row = (at[0] * rank + at[rank + 1]) * (rank + 1);
            // The matrices take x first, and x is the last axis of the image.
            let moved = (0..rank).map(|k| {
                let axis = rank - k;
                values[row + k] * self.coordinate(at[axis], shape[axis])
            });
            moved.sum::<f64>() + values[row + rank]
        };
        Ok(vec![Array::float(theta.dtype, &shape, (0..product(&shape)).map(element).collect())])
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let out = cx.out(0)?;
        let (rank, scalar) = (out.rank() - 2, Scalar::float_for(out.dtype));
        let mut params = vec![word(out.count())?];
        params.extend(words(out.shape[1..=rank].iter().copied())?);
        let epilogue = cx.epilogue(None)?;
        params.extend(epilogue.params);
        let mut tensors = vec![cx.input(0)?];
        tensors.extend(epilogue.tensors);
        tensors.push(cx.output(0)?);
        let (align_corners, epilogue) = (self.align_corners, epilogue.fused);
        let spec = kernel::AffineGrid { scalar, rank, align_corners, epilogue };
        cx.call(spec, tensors, params, groups(out.count()));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for align in [0, 1] {
        let new = |name: &str, matrix: &[usize], size: &[i64]| {
            let case = Case::new("AffineGrid", &format!("{name}/{align}")).int("align_corners", align);
            case.tolerance(Tolerance { relative: 1e-5, absolute: 1e-6 })
                .input(case::random(matrix))
                .input(case::list(size))
        };
        cases.push(new("2d", &[2, 2, 3], &[2, 3, 4, 5]));
        cases.push(new("3d", &[1, 3, 4], &[1, 1, 3, 4, 2]));
        cases.push(new("one point", &[1, 2, 3], &[1, 1, 1, 2]));
        cases.push(new("empty", &[0, 2, 3], &[0, 1, 2, 2]));
        let half = case::converted(&case::random(&[1, 2, 3]), DType::F16);
        let case =
            Case::new("AffineGrid", &format!("float16/{align}")).int("align_corners", align).input(half);
        cases.push(
            case.tolerance(Tolerance { relative: 1e-3, absolute: 1e-3 }).input(case::list(&[1, 1, 3, 3])),
        );
    }
    cases
}
