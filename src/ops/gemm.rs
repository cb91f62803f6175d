//! Gemm: `alpha * A' * B' + beta * C`, where A' and B' may be transposed.
//!
//! History: 7 (broadcast of C), 9 (integers), 11 (C optional), 13 (bfloat16).

use super::accumulate::{Sink, Source};
use super::broadcast::broadcast;
use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare};
use super::product::{Matrix, Product};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_array, of_elements, onnx, optional, refuse,
    required, types,
};
use crate::array::product::{matmul, transposed};
use crate::array::{Numbers, broadcast_index, unravel};
use crate::facts::Fact;
use crate::kernels::expr::Reg;
use crate::plan::{Code, Lower};

#[derive(Clone, Debug)]
pub(crate) struct Gemm {
    alpha: f32,
    beta: f32,
    transpose_a: bool,
    transpose_b: bool,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("Gemm", 7, types![T T T -> T; T: FLOATS WORDS@9 BF16@13], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let attributes = def.attributes;
    Ok(Gemm {
        alpha: attributes.float_or("alpha", 1.0)?,
        beta: attributes.float_or("beta", 1.0)?,
        transpose_a: attributes.flag("transA", false)?,
        transpose_b: attributes.flag("transB", false)?,
    }
    .into())
}

impl Gemm {
    /// Whether the right operand is transposed; `None` if the result is not the plain product plus C.
    pub(crate) fn weights_transposed(&self) -> Option<bool> {
        (self.alpha == 1.0 && self.beta == 1.0).then_some(self.transpose_b)
    }

    /// Whether the right operand is transposed; `None` if the result is not the product plus C, with the left operand as it is.
    pub(crate) fn plain_product(&self) -> Option<bool> {
        self.weights_transposed().filter(|_| !self.transpose_a)
    }

    /// (m, k, n) for operands of these shapes.
    fn sizes(&self, a: &[usize], b: &[usize]) -> Result<(usize, usize, usize), Why> {
        let (&[a0, a1], &[b0, b1]) = (a, b) else { refuse!("the operands are not matrices") };
        let (m, k) = if self.transpose_a { (a1, a0) } else { (a0, a1) };
        let (b_k, n) = if self.transpose_b { (b1, b0) } else { (b0, b1) };
        if k != b_k {
            refuse!("{k} columns on the left do not match {b_k} rows on the right");
        }
        Ok((m, k, n))
    }

    fn finish(&self, code: &mut Code, mut value: Reg, c: Option<&Fact>) -> Result<Reg, Why> {
        if self.alpha != 1.0 {
            let alpha = code.builder.constant(code.builder.scalar(value), f64::from(self.alpha));
            value = code.builder.mul(value, alpha);
        }
        if let Some(c) = c {
            let mut bias = code.input(2, &c.shape)?;
            if self.beta != 1.0 {
                let beta = code.builder.constant(code.builder.scalar(bias), f64::from(self.beta));
                bias = code.builder.mul(bias, beta);
            }
            value = code.builder.add(value, bias);
        }
        Ok(value)
    }
}

impl Operator for Gemm {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (a, b, c) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        let (m, _, n) = self.sizes(&a.shape, &b.shape)?;
        if a.dtype != b.dtype || c.is_some_and(|c| c.dtype != a.dtype) {
            refuse!("the inputs have different dtypes");
        }
        if c.is_some_and(|c| broadcast([&c.shape[..], &[m, n]]) != Ok([m, n].into())) {
            refuse!("C does not broadcast to {m}x{n}");
        }
        if a.dtype.is_int() && (self.alpha.fract() != 0.0 || self.beta.fract() != 0.0) {
            refuse!("alpha {} and beta {} of an integer product are not whole", self.alpha, self.beta);
        }
        Ok(vec![Fact::new(a.dtype, [m, n])])
    }

    fn packs(&self, i: usize) -> bool {
        i == 1
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let (a, b) = (usize::from(self.transpose_a), usize::from(!self.transpose_b));
        let output = outputs.first()?;
        let of_c = Division::of_broadcast(axis, &[inputs.get(2).copied().flatten()], output)?;
        let of_c = of_c.shares.first().copied().unwrap_or(InputShare::Whole);
        let shares = match axis {
            0 => vec![InputShare::along(a), InputShare::Whole, of_c],
            _ => vec![InputShare::Whole, InputShare::along(b), of_c],
        };
        Some(Division::of(*output.shape.get(axis)?, shares))
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (a, b, c) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        let (m, k, n) = self.sizes(&a.shape, &b.shape)?;
        let shape = [m, n];
        macro_rules! product {
            ($a:expr, $b:expr, $c:expr, $alpha:expr, $beta:expr) => {{
                let a = if self.transpose_a { transposed($a, k, m) } else { $a.to_vec() };
                let b = if self.transpose_b { transposed($b, n, k) } else { $b.to_vec() };
                let mut y = matmul(&a, &b, (m, k, n));
                for (i, y) in y.iter_mut().enumerate() {
                    *y *= $alpha;
                    if let Some(c) = c {
                        *y += $beta * $c(c)?[broadcast_index(&unravel(i, &shape), &c.shape)];
                    }
                }
                y
            }};
        }
        let (alpha, beta) = (f64::from(self.alpha), f64::from(self.beta));
        Ok(vec![match &a.data {
            Numbers::Int(_) => {
                let y = product!(a.ints()?, b.ints()?, Array::ints, alpha as i128, beta as i128);
                Array::int(a.dtype, &shape, y)
            }
            _ => {
                Array::float(a.dtype, &shape, product!(a.floats()?, b.floats()?, Array::floats, alpha, beta))
            }
        }])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (m, k, n) = self.sizes(&required(inputs, 0)?.shape, &required(inputs, 1)?.shape)?;
        // Both operands may be copied.
        let copies = inputs.iter().flatten().take(2).map(|fact| of_array(fact)).sum::<Work>();
        Ok((of_elements(inputs, outputs) + copies).products(&[m, k, n]))
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
        let (a, b, c) = (cx.fact(0)?, cx.fact(1)?, cx.optional_fact(2));
        let (m, k, n) = self.sizes(&a.shape, &b.shape)?;
        let Some(scalar) = cx.register(a.dtype) else { refuse!("the device does not multiply {}", a.dtype) };
        let matrix = |i: usize, columns: usize, transpose: bool| {
            let (row, column) = if transpose { (1, columns) } else { (columns, 1) };
            Matrix { source: Source::Input(i), row, column }
        };
        let product = Product {
            m,
            n,
            k,
            batch: vec![],
            a: matrix(0, a.shape[1], self.transpose_a),
            b: matrix(1, b.shape[1], self.transpose_b),
        };
        product.lower(cx, scalar, Sink::Finished(&|code, value| self.finish(code, value, c)))
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("Gemm", name).tolerance(Tolerance::ACCUMULATION);
    let three = |name: &str, a: &[usize], b: &[usize], c: &[usize]| {
        new(name).input(case::random(a)).input(case::random(b)).input(case::random(c))
    };
    let transposes = |case: Case, a: i64, b: i64| case.int("transA", a).int("transB", b);
    let whole = |shape: &[usize], dtype: DType| case::converted(&case::integers(shape, 0, 9), dtype);
    let ints = |name: &str, dtype: DType| {
        let inputs = (whole(&[3, 5], dtype), whole(&[5, 4], dtype), whole(&[4], dtype));
        new(name).tolerance(Tolerance::EXACT).input(inputs.0).input(inputs.1).input(inputs.2)
    };
    vec![
        three("row", &[5, 6], &[6, 7], &[7]),
        three("column", &[5, 6], &[6, 7], &[5, 1]),
        three("matrix", &[5, 6], &[6, 7], &[5, 7]),
        three("scalar", &[5, 6], &[6, 7], &[]),
        three("single", &[5, 6], &[6, 7], &[1, 1]),
        new("no_bias").input(case::random(&[33, 40])).input(case::random(&[40, 65])),
        transposes(three("transposed", &[36, 20], &[70, 36], &[70]), 1, 1),
        transposes(three("transposed_left", &[36, 20], &[36, 70], &[70]), 1, 0),
        transposes(three("transposed_tiles", &[33, 65], &[70, 33], &[70]), 1, 1),
        transposes(three("transposed_many_tiles", &[40, 520], &[516, 40], &[516]), 1, 1),
        transposes(three("transposed_slices", &[900, 33], &[40, 900], &[40]), 1, 1),
        transposes(three("transposed_right_odd", &[66, 35], &[67, 35], &[67]), 0, 1),
        transposes(three("transposed_row", &[3, 128], &[67, 128], &[67]), 0, 1),
        transposes(three("transposed_row_odd", &[3, 131], &[33, 131], &[33]), 0, 1),
        transposes(three("transposed_few_rows", &[100, 5], &[100, 40], &[40]), 1, 0),
        transposes(three("transposed_right", &[20, 36], &[68, 36], &[68]), 0, 1),
        three("scaled", &[5, 6], &[6, 7], &[7]).float("alpha", 0.5).float("beta", -0.35),
        transposes(new("constant").input(case::random(&[1, 64])), 0, 1)
            .constant(case::random(&[30, 64]))
            .constant(case::random(&[30])),
        transposes(new("constant_rows").input(case::random(&[33, 64])), 0, 1)
            .constant(case::random(&[30, 64]))
            .constant(case::random(&[30])),
        three("empty", &[0, 6], &[6, 7], &[7]),
        three("empty_sum", &[4, 0], &[0, 7], &[7]),
        ints("int32", DType::I32).float("alpha", 2.0).float("beta", 3.0),
        ints("uint32", DType::U32),
        ints("int64", DType::I64),
        ints("float16", DType::F16),
        ints("opset9", DType::I32).opset(9),
    ]
}
