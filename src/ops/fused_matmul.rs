//! com.microsoft.FusedMatMul: `alpha * A' * B'`, batched and broadcast like MatMul. A' and B' are the operands with their last
//! two axes exchanged, if `transA` and `transB` are set. `transBatchA` and `transBatchB` first move the first axis behind the
//! other batch axes, in front of the last axis.
//!
//! History: com.microsoft 1.

use super::accumulate::{Sink, Source};
use super::broadcast::broadcast;
use super::case::{self, Case, Tolerance};
use super::product::{Batch, Matrix, Product};
use super::{
    Array, Attributes, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, product, refuse, required,
    types,
};
use crate::array::product::matmul;
use crate::array::{strides, unravel};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::plan::Lower;
use crate::shape::Shape;

#[derive(Clone, Debug)]
pub(crate) struct FusedMatMul {
    alpha: f32,
    a: Turn,
    b: Turn,
}

/// How an operand of at least two axes is transposed.
#[derive(Clone, Debug)]
struct Turn {
    transpose: bool,
    batch: bool,
}

const TYPES: Types = types![T T -> T; T: FLOATS BF16];

pub(crate) const ROWS: &[Row] =
    &[Row { domain: "com.microsoft", name: "FusedMatMul", opsets: (1, 1), types: TYPES, parse, cases }];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let turn = |attributes: &Attributes, transpose: &str, batch: &str| {
        Ok::<_, Why>(Turn {
            transpose: attributes.flag(transpose, false)?,
            batch: attributes.flag(batch, false)?,
        })
    };
    let attributes = def.attributes;
    Ok(FusedMatMul {
        alpha: attributes.float_or("alpha", 1.0)?,
        a: turn(attributes, "transA", "transBatchA")?,
        b: turn(attributes, "transB", "transBatchB")?,
    }
    .into())
}

/// An operand as the product reads it: (size, stride) of each batch axis, then of the rows and of the columns.
#[derive(Debug)]
struct MatrixView(Vec<(usize, usize)>);

impl MatrixView {
    /// A vector is a row on the left and a column on the right; it is never transposed.
    fn of(shape: &[usize], turn: &Turn, left: bool) -> Result<MatrixView, Why> {
        let mut dims: Vec<(usize, usize)> = shape.iter().copied().zip(strides(shape)).collect();
        match dims.len() {
            0 => refuse!("a scalar has no matrix product; use Mul"),
            1 if left => dims.insert(0, (1, 0)),
            1 => dims.push((1, 0)),
            rank => {
                if turn.batch {
                    dims[..rank - 1].rotate_left(1);
                }
                if turn.transpose {
                    dims.swap(rank - 2, rank - 1);
                }
            }
        }
        Ok(MatrixView(dims))
    }

    fn batch(&self) -> &[(usize, usize)] {
        &self.0[..self.0.len() - 2]
    }

    fn rows(&self) -> (usize, usize) {
        self.0[self.0.len() - 2]
    }

    fn columns(&self) -> (usize, usize) {
        self.0[self.0.len() - 1]
    }

    /// The stride along dimension `d` of the result's `rank` batch dimensions.
    fn batch_stride(&self, d: usize, rank: usize) -> usize {
        let own = (d + self.batch().len()).checked_sub(rank).map(|own| self.0[own]);
        own.filter(|dim| dim.0 != 1).map_or(0, |dim| dim.1)
    }

    /// The matrix that begins at element `first`, row by row.
    fn matrix(&self, values: &[f64], first: usize) -> Vec<f64> {
        let ((rows, row), (columns, column)) = (self.rows(), self.columns());
        (0..rows * columns).map(|i| values[first + i / columns * row + i % columns * column]).collect()
    }
}

/// Both operands, the batch dimensions of the result, and its shape.
struct FusedShapes {
    a: MatrixView,
    b: MatrixView,
    batch: Shape,
    shape: Shape,
}

impl FusedMatMul {
    fn shapes(&self, a: &[usize], b: &[usize]) -> Result<FusedShapes, Why> {
        let (left, right) = (MatrixView::of(a, &self.a, true)?, MatrixView::of(b, &self.b, false)?);
        let (k, b_k) = (left.columns().0, right.rows().0);
        if k != b_k {
            refuse!("{k} columns on the left do not match {b_k} rows on the right");
        }
        let sizes = |view: &MatrixView| view.batch().iter().map(|dim| dim.0).collect::<Vec<_>>();
        let batch = broadcast([&sizes(&left)[..], &sizes(&right)])?;
        let rows = (a.len() > 1).then_some(left.rows().0);
        let columns = (b.len() > 1).then_some(right.columns().0);
        let shape = batch.iter().copied().chain(rows).chain(columns).collect();
        Ok(FusedShapes { a: left, b: right, batch, shape })
    }
}

impl Operator for FusedMatMul {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        if a.dtype != b.dtype || !a.dtype.is_float() {
            refuse!("the inputs are {} and {}; both must be one float type", a.dtype, b.dtype);
        }
        Ok(vec![Fact::new(a.dtype, self.shapes(&a.shape, &b.shape)?.shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        let FusedShapes { a: left, b: right, batch, shape } = self.shapes(&a.shape, &b.shape)?;
        let (a_values, b_values) = (a.floats()?, b.floats()?);
        let mut values = Vec::new();
        for i in 0..product(&batch) {
            let at = unravel(i, &batch);
            let first = |view: &MatrixView| -> usize {
                at.iter().enumerate().map(|(d, at)| at * view.batch_stride(d, batch.len())).sum()
            };
            let sizes = (left.rows().0, left.columns().0, right.columns().0);
            let product =
                matmul(&left.matrix(a_values, first(&left)), &right.matrix(b_values, first(&right)), sizes);
            values.extend(product.into_iter().map(|sum| f64::from(self.alpha) * sum));
        }
        Ok(vec![Array::float(a.dtype, &shape, values)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        let FusedShapes { a: left, b: right, batch, .. } = self.shapes(&a.shape, &b.shape)?;
        let (m, k, n) = (left.rows().0, left.columns().0, right.columns().0);
        let matrices = [&batch[..], &[m, k]].concat();
        // Both matrices are copied for each product.
        let copies = of_elements(inputs, outputs).steps(&matrices).steps(&[&batch[..], &[k, n]].concat());
        Ok(copies.products(&[&matrices[..], &[n]].concat()))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn takes_prologue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (a, b) = (cx.fact(0)?, cx.fact(1)?);
        let Some(scalar) = Scalar::of(a.dtype) else { refuse!("the device does not multiply {}", a.dtype) };
        let FusedShapes { a: left, b: right, batch, .. } = self.shapes(&a.shape, &b.shape)?;
        let rank = batch.len();
        let batch = batch.iter().enumerate().map(|(d, &size)| Batch {
            size,
            a: left.batch_stride(d, rank),
            b: right.batch_stride(d, rank),
        });
        let matrix = |i: usize, view: &MatrixView| {
            // A stride that no step takes is set to that of a dense matrix.
            let ((rows, row), (columns, column)) = (view.rows(), view.columns());
            let row = if rows == 1 { columns } else { row };
            Matrix { source: Source::Input(i), row, column: if columns == 1 { 1 } else { column } }
        };
        let product = Product {
            m: left.rows().0,
            n: right.columns().0,
            k: left.columns().0,
            batch: batch.collect(),
            a: matrix(0, &left),
            b: matrix(1, &right),
        };
        product.lower(
            cx,
            scalar,
            Sink::Finished(&|code, value| {
                let alpha = code.builder.constant(scalar, f64::from(self.alpha));
                Ok(code.builder.mul(value, alpha))
            }),
        )
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| {
        Case::new("FusedMatMul", name).domain("com.microsoft").opset(1).tolerance(Tolerance::ACCUMULATION)
    };
    let two = |name: &str, a: &[usize], b: &[usize]| new(name).input(case::random(a)).input(case::random(b));
    vec![
        two("plain", &[3, 5], &[5, 4]),
        two("scaled", &[2, 9, 5], &[2, 5, 12]).float("alpha", 0.125),
        two("left_turned", &[2, 5, 9], &[2, 5, 12]).int("transA", 1).float("alpha", -2.5),
        two("right_turned", &[2, 3, 9, 8], &[2, 3, 12, 8]).int("transB", 1),
        two("both_turned", &[2, 8, 9], &[12, 8]).int("transA", 1).int("transB", 1),
        two("left_batch", &[9, 2, 3, 8], &[2, 3, 8, 5]).int("transBatchA", 1),
        two("left_batch_turned", &[8, 2, 9], &[2, 8, 5]).int("transBatchA", 1).int("transA", 1),
        two("right_batch", &[2, 9, 8], &[8, 2, 5]).int("transBatchB", 1),
        two("right_batch_turned", &[3, 9, 8], &[5, 3, 8]).int("transBatchB", 1).int("transB", 1),
        two("vector_left", &[5], &[2, 5, 4]).int("transA", 1),
        two("vector_right", &[2, 3, 5], &[5]).int("transB", 1),
        two("batch_broadcast", &[2, 1, 9, 5], &[3, 7, 5]).int("transB", 1),
        two("empty_sum", &[3, 0], &[0, 4]).float("alpha", 2.0),
        new("constant_turned")
            .input(case::random(&[2, 20, 36]))
            .constant(case::random(&[72, 36]))
            .int("transB", 1),
        new("constant_batch")
            .input(case::random(&[2, 20, 36]))
            .constant(case::random(&[36, 2, 20]))
            .int("transBatchB", 1)
            .float("alpha", 3.0),
    ]
}
