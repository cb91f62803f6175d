//! Det: the determinants of square matrices.
//!
//! History: 11, 22 (bfloat16).

use super::case::{self, Case, Tolerance};
use super::strides::Copy;
use super::{
    Array, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, product, refuse, required, strides,
    types,
};
use crate::facts::Fact;
use crate::kernels::det as kernel;
use crate::kernels::expr::Scalar;
use crate::kernels::gather::groups;
use crate::kernels::words;
use crate::plan::Lower;

#[derive(Clone, Debug)]
pub(crate) struct Det;

pub(crate) const ROWS: &[Row] = &[onnx("Det", 11, types![T -> T; T: FLOATS BF16@22], parse, cases)];

fn parse(_: &NodeDef) -> Result<Op, Why> {
    Ok(Det.into())
}

/// The number of matrices, and their size.
pub(super) fn sizes(shape: &[usize]) -> Result<(usize, usize), Why> {
    match shape {
        [batch @ .., rows, columns] if rows == columns => Ok((product(batch), *rows)),
        _ => refuse!("{shape:?} are no square matrices"),
    }
}

/// The determinant by elimination, with the greatest element of each column as the pivot.
fn determinant(mut m: Vec<f64>, n: usize) -> f64 {
    let mut det = 1.0;
    for i in 0..n {
        let pivot =
            (i..n).fold(i, |best, row| if m[row * n + i].abs() > m[best * n + i].abs() { row } else { best });
        if pivot != i {
            (0..n).for_each(|column| m.swap(i * n + column, pivot * n + column));
            det = -det;
        }
        let value = m[i * n + i];
        det *= value;
        if value == 0.0 {
            return det;
        }
        for row in i + 1..n {
            let factor = m[row * n + i] / value;
            (i + 1..n).for_each(|column| m[row * n + column] -= factor * m[i * n + column]);
        }
    }
    det
}

/// For each dispatch, the columns that it eliminates: the most that keep an invocation within `limit` iterations.
pub(super) fn parts(n: usize, limit: usize) -> Result<Vec<(usize, usize)>, Why> {
    let cost = |i: usize| (n - i) * (n - i) + (n - i) + n + 1;
    if n > 0 && cost(0) > limit {
        refuse!("a matrix of {n} rows takes more than {limit} steps for its first column");
    }
    let mut parts = Vec::new();
    let mut first = 0;
    while first < n {
        let (mut last, mut sum) = (first, 0);
        while last < n && sum + cost(last) <= limit {
            sum += cost(last);
            last += 1;
        }
        parts.push((first, last));
        first = last;
    }
    Ok(parts)
}

impl Operator for Det {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        sizes(&x.shape)?;
        if !x.dtype.is_float() {
            refuse!("{} has no determinant here; only floats have", x.dtype);
        }
        Ok(vec![Fact::new(x.dtype, &x.shape[..x.rank() - 2])])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (count, n) = sizes(&x.shape)?;
        let values = x.floats()?;
        let matrix = |i: usize| values[i * n * n..(i + 1) * n * n].to_vec();
        let determinants = (0..count).map(|i| determinant(matrix(i), n)).collect();
        Ok(vec![Array::float(x.dtype, &x.shape[..x.shape.len() - 2], determinants)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (count, n) = sizes(&required(inputs, 0)?.shape)?;
        Ok(of_elements(inputs, outputs).products(&[count, n, n, n]))
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        let x = cx.fact(0)?;
        let (scalar, (count, n)) = (Scalar::float_for(x.dtype), sizes(&x.shape)?);
        let parts = parts(n, cx.target.max_iterations as usize)?;
        let x = cx.input(0)?;
        if parts.is_empty() {
            // The empty product.
            let y = cx.output(0)?;
            cx.fill(y, 1f32.to_bits());
            return Ok(());
        }
        // The product of the pivots so far is not rounded between calls.
        let y = cx.temporary(scalar, &[count]);
        let matrices = cx.temporary(scalar, &[count * n * n]);
        let dims = &[(count * n * n, 1)];
        strides::copy(cx, Copy { number: 0, from: x, to: matrices, base: 0, dims });
        for (first, last) in parts {
            let params = words([count, n, first, last])?;
            cx.call(kernel::Det { scalar }, vec![matrices, y], params, groups(count));
        }
        cx.view(0, y, 0)
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str, shape: &[usize]| {
        Case::new("Det", name).tolerance(Tolerance::ACCUMULATION).input(case::random(shape))
    };
    let given = |name: &str, shape: &[usize], values: &[f32]| {
        Case::new("Det", name).input(case::values(shape, values))
    };
    vec![
        given("2x2", &[2, 2], &[0.0, 1.0, 2.0, 3.0]),
        given("singular", &[3, 3], &[1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 4.0, 5.0, 6.0]),
        given("zeros", &[2, 2, 2], &[0.0; 8]),
        new("batch", &[3, 2, 5, 5]),
        new("1x1", &[4, 1, 1]),
        new("many", &[200, 4, 4]),
        // The product of eighty pivots: the rounding errors of all add up.
        new("large", &[1, 80, 80]).tolerance(Tolerance { relative: 1e-3, absolute: 1e-4 }),
        given("empty_matrices", &[3, 0, 0], &[]),
        given("no_matrices", &[0, 3, 3], &[]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_eliminated_once() {
        for (n, limit) in [(1, 60_000), (80, 60_000), (200, 60_000), (5, 40)] {
            let parts = parts(n, limit).unwrap();
            assert_eq!((parts[0].0, parts[parts.len() - 1].1), (0, n));
            assert!(parts.windows(2).all(|pair| pair[0].1 == pair[1].0 && pair[0].0 < pair[0].1));
        }
        assert!(parts(300, 60_000).is_err());
    }
}
