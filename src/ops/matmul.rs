//! MatMul: numpy's matrix product, batched and broadcast.
//!
//! History: 1, 9 (integers), 13 (bfloat16).

use super::accumulate::{Sink, Source};
use super::broadcast::broadcast;
use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare};
use super::product::{Batch, Matrix, Product};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, product, refuse, required, types,
};
use crate::array::product::{Number, matmul};
use crate::array::{Numbers, broadcast_index, unravel};
use crate::facts::Fact;
use crate::plan::Lower;
use crate::shape::Shape;

#[derive(Clone, Debug)]
pub(crate) struct MatMul;

pub(crate) const ROWS: &[Row] =
    &[onnx("MatMul", 1, types![T T -> T; T: FLOATS WORDS@9 BF16@13], parse, cases)];

fn parse(_: &NodeDef) -> Result<Op, Why> {
    Ok(MatMul.into())
}

/// How two tensors multiply: the batch dimensions of each and of the result, and the sizes of the matrices.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shapes {
    a_batch: Shape,
    b_batch: Shape,
    pub(crate) batch: Shape,
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    /// The shape of the result.
    pub(crate) shape: Shape,
}

impl Shapes {
    /// A vector on the left is a row, a vector on the right a column, and the result loses the axis that was added.
    pub(crate) fn of(a: &[usize], b: &[usize]) -> Result<Shapes, Why> {
        let (Some((&k, a_outer)), Some(&b_last)) = (a.split_last(), b.last()) else {
            refuse!("a scalar has no matrix product; use Mul");
        };
        let (m, a_batch) = a_outer.split_last().map_or((None, a_outer), |(&m, batch)| (Some(m), batch));
        let (b_k, n, b_batch) = match b.split_last_chunk::<2>() {
            Some((batch, &[k, n])) => (k, Some(n), batch),
            None => (b_last, None, &b[..0]),
        };
        if k != b_k {
            refuse!("{k} columns on the left do not match {b_k} rows on the right");
        }
        let batch = broadcast([a_batch, b_batch])?;
        let shape = batch.iter().copied().chain(m).chain(n).collect();
        let (m, n) = (m.unwrap_or(1), n.unwrap_or(1));
        Ok(Shapes { a_batch: a_batch.into(), b_batch: b_batch.into(), batch, m, k, n, shape })
    }

    /// The products that each element of the result adds up.
    pub(crate) fn terms(&self) -> usize {
        self.k
    }

    /// Those terms, and how far they are apart in the right operand.
    pub(crate) fn summed(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    /// The work of `eval`, beside that of `elements`.
    pub(crate) fn work(&self, elements: Work) -> Work {
        // Each product is made in an array of its own.
        let product = self.m.saturating_mul(self.n);
        let elements = elements.temporary(product, size_of::<i128>()).steps(&self.batch);
        elements.products(&[&self.batch[..], &[self.m, self.k, self.n]].concat())
    }

    /// The reference's products of all matrices.
    pub(crate) fn eval<T: Number>(&self, a: &[T], b: &[T]) -> Vec<T> {
        let (a_size, b_size) = (self.m * self.k, self.k * self.n);
        let batches: usize = product(&self.batch);
        let matrices = (0..batches).flat_map(|i| {
            let at = unravel(i, &self.batch);
            let (i, j) = (broadcast_index(&at, &self.a_batch), broadcast_index(&at, &self.b_batch));
            matmul(&a[i * a_size..], &b[j * b_size..], (self.m, self.k, self.n))
        });
        matrices.collect()
    }

    /// The product on the device, for dense operands.
    pub(crate) fn product(&self, a: Source, b: Source) -> Product {
        let batch = self.batch.iter().enumerate().map(|(d, &size)| Batch {
            size,
            a: self.batch_stride(&self.a_batch, self.m * self.k, d),
            b: self.batch_stride(&self.b_batch, self.k * self.n, d),
        });
        Product {
            m: self.m,
            n: self.n,
            k: self.k,
            batch: batch.collect(),
            a: Matrix { source: a, row: self.k, column: 1 },
            b: Matrix { source: b, row: self.n, column: 1 },
        }
    }

    /// The stride of batch dimension `d` of the result in a dense operand with the batch dimensions `own`.
    fn batch_stride(&self, own: &[usize], matrix: usize, d: usize) -> usize {
        let own_d = (d + own.len()).checked_sub(self.batch.len());
        let inner = |d: usize| product(&own[d + 1..]) * matrix;
        own_d.filter(|&d| own[d] != 1).map_or(0, inner)
    }

    /// The product of the operator's inputs where they lie, if the kernels can read them there.
    fn of_inputs(&self, cx: &mut Lower) -> Result<Product, Why> {
        let (a, b) = (self.operand(cx, 0)?, self.operand(cx, 1)?);
        let mut batch = Vec::new();
        for (d, &size) in self.batch.iter().enumerate() {
            match together(&self.pieces(&a, &self.a_batch, d, size), &self.pieces(&b, &self.b_batch, d, size))
            {
                Some(dims) => batch.extend(dims),
                None => return Ok(self.product(Source::Input(0), Source::Input(1))),
            }
        }
        Ok(Product { m: self.m, n: self.n, k: self.k, batch, a: a.matrix, b: b.matrix })
    }

    fn operand(&self, cx: &mut Lower, i: usize) -> Result<MatrixOperand, Why> {
        let (batch, rows, columns) =
            if i == 0 { (&self.a_batch, self.m, self.k) } else { (&self.b_batch, self.k, self.n) };
        let shape = [&batch[..], &[rows, columns]].concat();
        // A stride that no step takes is set to that of a dense matrix.
        let single = |pieces: &[(usize, usize)], dense: usize| match *pieces {
            [] => Some(dense),
            [(_, stride)] => Some(stride),
            _ => None,
        };
        let matrix = |pieces: &[Vec<(usize, usize)>]| {
            let [row, column] = pieces.last_chunk::<2>()?;
            let (row, column) = (single(row, columns)?, single(column, 1)?);
            (column == 1 || i == 1 && row == 1).then_some((row, column))
        };
        if !cx.is_constant(i)
            && let Some((tensor, mut pieces)) = cx.strided(i, &shape, |pieces| matrix(pieces).is_some())?
            && let Some((row, column)) = matrix(&pieces)
        {
            pieces.truncate(batch.len());
            return Ok(MatrixOperand {
                matrix: Matrix { source: Source::Tensor(tensor), row, column },
                batch: pieces,
            });
        }
        let stride = |d: usize| product(&batch[d + 1..]) * rows * columns;
        let pieces = batch.iter().enumerate().map(|(d, &size)| vec![(size, stride(d))]).collect();
        Ok(MatrixOperand {
            matrix: Matrix { source: Source::Input(i), row: columns, column: 1 },
            batch: pieces,
        })
    }

    /// The pieces that batch dimension `d` of the result has in an operand with batch dimensions of the sizes `own`.
    fn pieces(&self, operand: &MatrixOperand, own: &[usize], d: usize, size: usize) -> Vec<(usize, usize)> {
        let own_d = (d + own.len()).checked_sub(self.batch.len()).filter(|&d| own[d] != 1);
        own_d.map_or(vec![(size, 0)], |d| operand.batch[d].clone())
    }
}

/// An operand where it lies.
struct MatrixOperand {
    matrix: Matrix,
    /// For each of its batch dimensions, (size, stride) of the pieces: several where one stride is not enough.
    batch: Vec<Vec<(usize, usize)>>,
}

/// The pieces of one dimension in two operands, cut so that both have the same sizes; `None` if they cannot be cut so.
fn together(a: &[(usize, usize)], b: &[(usize, usize)]) -> Option<Vec<Batch>> {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    let mut dims = Vec::new();
    while let (Some(&(a_size, a_stride)), Some(&(b_size, b_stride))) = (a.last(), b.last()) {
        a.pop();
        b.pop();
        let size = a_size.min(b_size);
        if size == 0 || a_size % size != 0 || b_size % size != 0 {
            return None;
        }
        dims.push(Batch { size, a: a_stride, b: b_stride });
        for (pieces, whole, stride) in [(&mut a, a_size, a_stride), (&mut b, b_size, b_stride)] {
            if whole > size {
                pieces.push((whole / size, stride * size));
            }
        }
    }
    dims.reverse();
    (a.is_empty() && b.is_empty()).then_some(dims)
}

impl Operator for MatMul {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        if a.dtype != b.dtype {
            refuse!("the inputs have different dtypes");
        }
        Ok(vec![Fact::new(a.dtype, Shapes::of(&a.shape, &b.shape)?.shape)])
    }

    fn packs(&self, i: usize) -> bool {
        i == 1
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let (a, b) = (inputs.first().copied().flatten()?, inputs.get(1).copied().flatten()?);
        let output = outputs.first()?;
        let rank = output.rank();
        if a.rank() < 2 || b.rank() < 2 {
            return None;
        }
        let shares = match rank - axis {
            1 => vec![InputShare::Whole, InputShare::along(b.rank() - 1)],
            2 => vec![InputShare::along(a.rank() - 2)],
            _ => Division::of_broadcast(axis, inputs, output)?.shares,
        };
        Some(Division::of(output.shape[axis], shares))
    }

    fn summands(&self, inputs: &[Option<&Fact>], _: &[Fact]) -> Option<Division> {
        let (a, b) = (inputs.first().copied().flatten()?, inputs.get(1).copied().flatten()?);
        let (last, rows) = (a.rank().checked_sub(1)?, b.rank().checked_sub(2)?);
        Some(Division::of(a.shape[last], vec![InputShare::along(last), InputShare::along(rows)]))
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        let shapes = Shapes::of(&a.shape, &b.shape)?;
        Ok(vec![match &a.data {
            Numbers::Int(values) => Array::int(a.dtype, &shapes.shape, shapes.eval(values, b.ints()?)),
            _ => Array::float(a.dtype, &shapes.shape, shapes.eval(a.floats()?, b.floats()?)),
        }])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let shapes = Shapes::of(&required(inputs, 0)?.shape, &required(inputs, 1)?.shape)?;
        Ok(shapes.work(of_elements(inputs, outputs)))
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
        let Some(scalar) = cx.register(a.dtype) else { refuse!("the device does not multiply {}", a.dtype) };
        Shapes::of(&a.shape, &b.shape)?.of_inputs(cx)?.lower(cx, scalar, Sink::Sum)
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("MatMul", name).tolerance(Tolerance::ACCUMULATION);
    let float =
        |name: &str, a: &[usize], b: &[usize]| new(name).input(case::random(a)).input(case::random(b));
    let constant =
        |name: &str, a: &[usize], b: &[usize]| new(name).input(case::random(a)).constant(case::random(b));
    let cast = |name: &str, dtype: DType| {
        let small = |shape: &[usize]| case::converted(&case::integers(shape, 0, 9), dtype);
        new(name).tolerance(Tolerance::EXACT).input(small(&[3, 5])).input(small(&[5, 4]))
    };
    let whole = |name: &str, a: &[usize], b: &[usize]| {
        let int32 = |shape: &[usize]| case::converted(&case::integers(shape, -9, 9), DType::I32);
        new(name).tolerance(Tolerance::EXACT).input(int32(a)).input(int32(b))
    };
    vec![
        float("matrices", &[3, 5], &[5, 4]),
        float("square", &[64, 64], &[64, 64]),
        float("aligned", &[40, 36], &[36, 72]),
        float("odd", &[67, 33], &[33, 131]),
        float("row", &[1, 70], &[70, 33]),
        float("few_rows", &[5, 70], &[70, 300]),
        float("one_column", &[9, 70], &[70, 1]),
        float("vectors", &[7], &[7]),
        float("vector_left", &[5], &[2, 5, 4]),
        float("vector_right", &[2, 3, 5], &[5]),
        float("batch", &[2, 3, 9, 5], &[2, 3, 5, 12]),
        float("batch_right", &[17, 8], &[3, 8, 12]),
        float("batch_left", &[3, 17, 8], &[8, 12]),
        float("batch_both", &[2, 1, 9, 5], &[3, 5, 12]),
        float("batch_rank6", &[2, 1, 2, 1, 3, 5], &[1, 3, 2, 2, 5, 4]),
        float("empty_sum", &[3, 0], &[0, 4]),
        float("empty", &[0, 3], &[3, 4]),
        float("long", &[2, 70_001], &[70_001, 3]).tolerance(Tolerance { relative: 1e-3, absolute: 5e-2 }),
        constant("constant", &[20, 36], &[36, 72]),
        constant("constant_odd", &[21, 35], &[35, 71]),
        constant("constant_batch", &[2, 10, 30], &[2, 30, 20]),
        constant("constant_row", &[1, 100], &[100, 50]),
        new("constant_left").constant(case::random(&[20, 36])).input(case::random(&[36, 72])),
        new("constant_left_odd").constant(case::random(&[70, 35])).input(case::random(&[2, 35, 71])),
        // Just above and below the sizes of GPUs' tiles.
        float("tile", &[64, 48], &[48, 64]),
        float("below_tile", &[63, 47], &[47, 63]),
        float("beyond_tile", &[65, 49], &[49, 65]),
        float("many_tiles", &[300, 40], &[40, 520]),
        float("many_tiles_odd", &[515, 33], &[33, 518]),
        float("narrow", &[200, 36], &[36, 10]),
        float("narrow_odd", &[129, 17], &[17, 15]),
        float("few_rows_aligned", &[8, 128], &[128, 64]),
        float("few_rows_odd", &[3, 131], &[131, 35]),
        float("nine_rows", &[9, 100], &[100, 20]),
        float("one_term", &[70, 1], &[1, 90]),
        float("one_term_row", &[1, 1], &[1, 90]),
        float("slices", &[70, 1030], &[1030, 45]),
        float("batch_slices", &[2, 20, 777], &[777, 33]),
        float("batch_tiles", &[3, 65, 20], &[3, 20, 68]),
        float("batch_broadcast", &[2, 1, 33, 16], &[1, 3, 16, 36]),
        float("batch_rows", &[6, 2, 80], &[6, 80, 40]),
        float("long_tile", &[18, 70_003], &[70_003, 5])
            .tolerance(Tolerance { relative: 1e-3, absolute: 5e-2 }),
        constant("constant_tiles", &[67, 36], &[36, 130]),
        constant("constant_tiles_odd", &[515, 33], &[33, 518]),
        constant("constant_narrow", &[150, 40], &[40, 9]),
        constant("constant_few_rows", &[7, 99], &[99, 70]),
        constant("constant_row_aligned", &[1, 128], &[128, 96]),
        constant("constant_long", &[18, 70_003], &[70_003, 5])
            .tolerance(Tolerance { relative: 1e-3, absolute: 5e-2 }),
        new("constant_left_tiles").constant(case::random(&[70, 50])).input(case::random(&[2, 50, 71])),
        cast("int32", DType::I32),
        whole("int32_tiles", &[35, 70], &[70, 66]),
        whole("int32_row", &[2, 130], &[130, 37]),
        cast("int64", DType::I64),
        cast("uint32", DType::U32),
        cast("float16", DType::F16),
        cast("bfloat16", DType::BF16),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_cut_alike() {
        let dim = |size, a, b| Batch { size, a, b };
        assert_eq!(together(&[(6, 10)], &[(6, 20)]), Some(vec![dim(6, 10, 20)]));
        // Each of two key heads serves three query heads.
        assert_eq!(together(&[(6, 10)], &[(2, 20), (3, 0)]), Some(vec![dim(2, 30, 20), dim(3, 10, 0)]));
        assert_eq!(together(&[(6, 10)], &[]), None);
        assert_eq!(together(&[(2, 7), (3, 1)], &[(3, 7), (2, 1)]), None);
        assert_eq!(together(&[], &[]), Some(vec![]));
    }

    #[test]
    fn shapes_follow_numpy() {
        let shape = |a: &[usize], b: &[usize]| Shapes::of(a, b).map(|s| s.shape);
        assert_eq!(shape(&[3], &[3]), Ok([].into()));
        assert_eq!(shape(&[3], &[2, 3, 4]), Ok([2, 4].into()));
        assert_eq!(shape(&[5, 1, 2, 3], &[4, 3, 1]), Ok([5, 4, 2, 1].into()));
        assert!(shape(&[], &[3]).is_err());
        assert!(shape(&[2, 3], &[2, 3]).is_err());
        assert!(shape(&[2, 2, 3], &[3, 3, 3]).is_err());
    }
}
