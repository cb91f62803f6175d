//! com.microsoft.Inverse: the inverses of square matrices.
//!
//! History: com.microsoft 1. The operator wants matrices that have an inverse. Of others, as in onnxruntime, the rows up to the one
//! without a pivot are infinities and NaN.

use super::case::{self, Case, Tolerance};
use super::det::{parts, sizes};
use super::strides::Copy;
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Tensor, Why, Work, microsoft, of_elements, refuse, required,
    strides, types,
};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::kernels::gather::groups;
use crate::kernels::inverse as kernel;
use crate::kernels::words;
use crate::plan::Lower;

/// Inverse.
#[derive(Clone, Debug)]
pub(crate) struct Inverse;

pub(crate) const ROWS: &[Row] = &[microsoft("Inverse", types![T -> T; T: FLOATS], parse, cases)];

fn parse(_: &NodeDef) -> Result<Op, Why> {
    Ok(Inverse.into())
}

/// The inverse of a matrix by elimination, with the greatest element of each column as the pivot.
fn inverse(mut m: Vec<f64>, n: usize) -> Vec<f64> {
    let mut y: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
    for i in 0..n {
        let pivot =
            (i..n).fold(i, |best, row| if m[row * n + i].abs() > m[best * n + i].abs() { row } else { best });
        for column in 0..n {
            m.swap(i * n + column, pivot * n + column);
            y.swap(i * n + column, pivot * n + column);
        }
        if m[i * n + i] == 0.0 {
            continue;
        }
        for row in i + 1..n {
            let factor = m[row * n + i] / m[i * n + i];
            for column in 0..n {
                m[row * n + column] -= factor * m[i * n + column];
                y[row * n + column] -= factor * y[i * n + column];
            }
        }
    }
    for i in (0..n).rev() {
        for column in 0..n {
            let known: f64 = (i + 1..n).map(|row| m[i * n + row] * y[row * n + column]).sum();
            y[i * n + column] = (y[i * n + column] - known) / m[i * n + i];
        }
    }
    y
}

impl Operator for Inverse {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        sizes(&x.shape)?;
        if !x.dtype.is_float() {
            refuse!("{} has no inverse here; only floats have", x.dtype);
        }
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (count, n) = sizes(&x.shape)?;
        let values = x.floats()?;
        let matrix = |i: usize| values[i * n * n..(i + 1) * n * n].to_vec();
        let inverses = (0..count).flat_map(|i| inverse(matrix(i), n)).collect();
        Ok(vec![Array::float(x.dtype, &x.shape, inverses)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (count, n) = sizes(&required(inputs, 0)?.shape)?;
        Ok(of_elements(inputs, outputs).products(&[count, n, n, n, 2]))
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        let x = cx.fact(0)?;
        let (count, n) = sizes(&x.shape)?;
        let scalar = if x.dtype == DType::F64 { Scalar::F64 } else { Scalar::F32 };
        let parts = parts(n, cx.target.max_iterations as usize)?;
        let x = cx.input(0)?;
        let matrices = cx.temporary(scalar, &[count * n * n]);
        let places = cx.temporary(Scalar::U32, &[count * n]);
        let y = cx.temporary(scalar, &[count * n * n]);
        let dims = &[(count * n * n, 1)];
        strides::copy(cx, Copy { number: 0, from: x, to: matrices, base: 0, dims });
        for (first, last) in parts {
            let params = words([count, n, first, last])?;
            let kernel = kernel::Inverse::Eliminate { scalar };
            cx.call(kernel, vec![matrices, places], params, groups(count));
        }
        let params = words([count * n, n])?;
        let kernel = kernel::Inverse::Solve { scalar };
        cx.call(kernel, vec![matrices, places, y], params, groups(count * n));
        cx.view(0, y, 0)
    }
}

/// Random matrices with an inverse that is not large: the diagonal outweighs the rest of its row, but for the order of the rows.
fn well_posed(shape: &[usize]) -> Tensor {
    let n = shape[shape.len() - 1];
    let mut values = Vec::new();
    let random = case::random(shape);
    for (i, &value) in random.as_slice::<f32>().into_iter().flatten().enumerate() {
        let (row, column) = (i / n % n, i % n);
        values.push(if (row + 1) % n == column { n as f32 } else { value });
    }
    case::values(shape, &values)
}

fn cases() -> Vec<Case> {
    let of = |name: &str| Case::new("Inverse", name).of_microsoft();
    let new =
        |name: &str, shape: &[usize]| of(name).tolerance(Tolerance::ACCUMULATION).input(well_posed(shape));
    let given = |name: &str, shape: &[usize], values: &[f32]| of(name).input(case::values(shape, values));
    vec![
        given("2x2", &[2, 2], &[0.0, 1.0, 2.0, 3.0]),
        given("singular", &[2, 2], &[1.0, 2.0, 2.0, 4.0]),
        given("zeros", &[2, 2, 2], &[0.0; 8]),
        given("1x1", &[3, 1, 1], &[4.0, -0.5, 0.0]),
        new("batch", &[3, 2, 5, 5]),
        new("many", &[200, 4, 4]),
        new("large", &[1, 80, 80]),
        of("float16").input(case::converted(&well_posed(&[3, 3]), DType::F16)),
        given("empty_matrices", &[3, 0, 0], &[]),
        given("no_matrices", &[0, 3, 3], &[]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inverse_of(values: &[f32], n: usize) -> Vec<f64> {
        let case = Case::new("Inverse", "").of_microsoft().input(case::values(&[n, n], values));
        case::evaluated(&case).unwrap()[0].floats().unwrap().to_vec()
    }

    #[test]
    fn a_matrix_by_its_inverse_is_one() {
        for n in [1, 2, 3, 7, 20] {
            let matrix: Vec<f32> = case::random(&[n, n]).to_vec().unwrap();
            let inverse = inverse_of(&matrix, n);
            for (row, column) in (0..n * n).map(|i| (i / n, i % n)) {
                let sum: f64 = (0..n).map(|i| f64::from(matrix[row * n + i]) * inverse[i * n + column]).sum();
                let wanted = f64::from(u8::from(row == column));
                assert!((sum - wanted).abs() < 1e-4, "{n}: {sum} at {row}, {column}");
            }
        }
    }

    /// What onnxruntime 1.31.1 gives for matrices without an inverse.
    #[test]
    fn singular_matrices_are_those_of_onnxruntime() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let cases: [(&[f32], &[f64]); 4] = [
            (&[1.0, 2.0, 2.0, 4.0], &[-inf, inf, inf, -inf]),
            (&[0.0; 4], &[nan, nan, nan, inf]),
            (&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0], &[nan, nan, nan, nan, inf, nan, 0.0, 0.0, 0.2]),
            (&[0.0], &[inf]),
        ];
        for (matrix, wanted) in cases {
            let inverse = inverse_of(matrix, matrix.len().isqrt());
            let same = |(a, b): (&f64, &f64)| (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() < 1e-6;
            assert!(inverse.iter().zip(wanted).all(same), "{inverse:?}, not {wanted:?}");
        }
    }
}
