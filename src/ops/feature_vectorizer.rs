//! ai.onnx.ml FeatureVectorizer: the columns of all inputs side by side, as float32.
//!
//! History: 1. `inputdimensions` says how many columns each input has in the result. As in ONNX Runtime, an input with fewer is
//! filled up with zeros, and of one with more the first are taken.

use super::case::{self, Case, Tolerance};
use super::scores::{ml, ml_case};
use super::strides::{self, Copy};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, product, refuse, types};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::plan::Lower;

/// The columns of each input in the result.
#[derive(Clone, Debug)]
pub(crate) struct FeatureVectorizer(Vec<usize>);

pub(crate) const ROWS: &[Row] =
    &[ml("FeatureVectorizer", 1, types![[T1] -> float32; T1: F32 F64 INDICES], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let columns = def.attributes.ints("inputdimensions")?.unwrap_or_default();
    if columns.len() != def.inputs.len() || def.inputs.contains(&false) || columns.is_empty() {
        refuse!("there are {} inputs, and {} 'inputdimensions'", def.inputs.len(), columns.len());
    }
    let column = |&columns: &i64| match u32::try_from(columns) {
        Ok(columns) => Ok(columns as usize),
        Err(_) => refuse!("'inputdimensions' has {columns}"),
    };
    Ok(FeatureVectorizer(columns.iter().map(column).collect::<Result<_, Why>>()?).into())
}

/// The rows and columns of an input; a vector is one row, and the axes behind the first count as one.
fn rows_of(shape: &[usize]) -> Result<(usize, usize), Why> {
    match shape {
        [] => refuse!("a scalar has no columns"),
        &[columns] => Ok((1, columns)),
        [rows, rest @ ..] => Ok((*rows, product(rest))),
    }
}

impl FeatureVectorizer {
    /// The rows of all inputs, and the columns of the result.
    fn shape<'a>(&self, inputs: impl Iterator<Item = &'a [usize]>) -> Result<[usize; 2], Why> {
        let mut rows = None;
        for shape in inputs {
            let (own, _) = rows_of(shape)?;
            match rows {
                Some(rows) if rows != own => refuse!("the inputs have {rows} and {own} rows"),
                _ => rows = Some(own),
            }
        }
        let total = self.0.iter().try_fold(0usize, |sum, columns| sum.checked_add(*columns));
        match (rows, total) {
            (Some(rows), Some(total)) => Ok([rows, total]),
            _ => refuse!("there are too many columns, or no inputs"),
        }
    }
}

impl Operator for FeatureVectorizer {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let shapes = inputs.iter().flatten().map(|fact| &fact.shape[..]);
        Ok(vec![Fact::new(DType::F32, self.shape(shapes)?)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let shape = self.shape(inputs.iter().flatten().map(|array| &array.shape[..]))?;
        let mut y = vec![0.0; product(shape)];
        let mut first = 0;
        for (input, &columns) in inputs.iter().flatten().zip(&self.0) {
            let (rows, own) = rows_of(&input.shape)?;
            let x = input.to_f64()?;
            for row in 0..rows {
                for column in 0..columns.min(own) {
                    y[row * shape[1] + first + column] = x[row * own + column];
                }
            }
            first += columns;
        }
        Ok(vec![Array::float(DType::F32, &shape, y)])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        let facts = cx.facts();
        let [rows, total] = self.shape(facts.iter().flatten().map(|fact| &fact.shape[..]))?;
        let whole = cx.output(0)?;
        let mut first = 0;
        for (i, (fact, &columns)) in facts.into_iter().flatten().zip(&self.0).enumerate() {
            let (_, own) = rows_of(&fact.shape)?;
            let taken = columns.min(own);
            let mut from = cx.input(i)?;
            if cx.scalar(from) != Scalar::F32 {
                let (floats, shape) = (cx.temporary(Scalar::F32, &fact.shape), &fact.shape);
                cx.elementwise_to(floats, (DType::F32, shape), &[(from, shape)], |e, regs| {
                    e.convert(regs[0], Scalar::F32)
                });
                from = floats;
            }
            // Columns that are taken from among others, or filled up, are brought into a tensor of their own.
            if taken != own {
                let dense = cx.temporary(Scalar::F32, &[rows, taken]);
                let dims = [(rows, own as i64), (taken, 1)];
                strides::copy(cx, Copy { number: 3 * i, from, to: dense, base: 0, dims: &dims });
                from = dense;
            }
            let dims = [(rows, total as i64), (taken, 1)];
            strides::scatter(
                cx,
                Copy { number: 3 * i + 1, from, to: whole, base: first as i64, dims: &dims },
            );
            if taken < columns {
                let (zeros, width) = (cx.temporary(Scalar::F32, &[rows, columns - taken]), columns - taken);
                cx.fill(zeros, 0);
                let dims = [(rows, total as i64), (width, 1)];
                let base = (first + taken) as i64;
                strides::scatter(cx, Copy { number: 3 * i + 2, from: zeros, to: whole, base, dims: &dims });
            }
            first += columns;
        }
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, columns: &[i64], shapes: &[&[usize]]| {
        let case =
            ml_case("FeatureVectorizer", case).ints("inputdimensions", columns).tolerance(Tolerance::EXACT);
        shapes.iter().fold(case, |case, shape| case.input(case::random(shape)))
    };
    let whole = || case::integers(&[3, 2], -9, 9);
    vec![
        of("two", &[2, 3], &[&[4, 2], &[4, 3]]),
        of("one", &[5], &[&[4, 5]]),
        of("filled up", &[3, 2, 1], &[&[4, 2], &[4, 2], &[4, 0]]),
        of("cut", &[1, 4], &[&[4, 3], &[4, 4]]),
        of("vectors", &[3, 2], &[&[3], &[2]]),
        of("rank 3", &[6, 1], &[&[4, 2, 3], &[4, 1]]),
        of("no rows", &[2, 3], &[&[0, 2], &[0, 3]]),
        of("ten", &[2; 10], &[&[3, 2][..]; 10]),
        of("int64", &[2, 2], &[]).input(whole()).input(whole()),
        of("int32", &[2], &[]).input(case::converted(&whole(), DType::I32)),
    ]
}
