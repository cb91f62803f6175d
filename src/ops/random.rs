//! RandomNormal and RandomUniform: numbers that follow from a seed. One row of the table each.
//!
//! History: 1, 22; the later version only adds a type. A seed gives the same numbers in every run, and the host draws them
//! while planning. Without a seed each run would have to draw others, which is not supported.

use super::case::{Case, Tolerance};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, product, refuse, types};
use crate::facts::Fact;
use crate::plan::Lower;
use crate::tensor::checked_count;

/// Random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    distribution: Distribution,
    dtype: DType,
    shape: Vec<usize>,
    seed: u32,
}

#[derive(Clone, Copy, Debug)]
enum Distribution {
    Normal { mean: f32, scale: f32 },
    Uniform { low: f32, high: f32 },
}

pub(crate) const ROWS: &[Row] = &[
    onnx("RandomNormal", 1, types![-> T; T: FLOATS BF16@22], parse, || cases("RandomNormal")),
    onnx("RandomUniform", 1, types![-> T; T: FLOATS BF16@22], parse, || cases("RandomUniform")),
];

/// More elements are refused, as the host draws them.
const LIMIT: usize = 1 << 24;

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let attributes = def.attributes;
    let Some(seed) = attributes.float("seed")? else {
        let reason = "without the attribute 'seed' each run would draw other numbers; give the node a seed";
        return Ok(Op::Unsupported(reason.into()));
    };
    let distribution = if def.op_type.contains("Normal") {
        Distribution::Normal {
            mean: attributes.float_or("mean", 0.0)?,
            scale: attributes.float_or("scale", 1.0)?,
        }
    } else {
        Distribution::Uniform {
            low: attributes.float_or("low", 0.0)?,
            high: attributes.float_or("high", 1.0)?,
        }
    };
    let code = attributes.int_or("dtype", 1)?;
    let dtype = i32::try_from(code).ok().and_then(DType::from_onnx).filter(|dtype| dtype.is_float());
    let Some(dtype) = dtype else { refuse!("attribute 'dtype' is {code}, which is no float type") };
    let dims = attributes.ints("shape")?.unwrap_or_default();
    let shape: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    match shape.filter(|shape| checked_count(shape).is_some_and(|count| count <= LIMIT)) {
        Some(shape) => Ok(Random { distribution, dtype, shape, seed: seed.to_bits() }.into()),
        None => refuse!("numbers of shape {dims:?} cannot be drawn: at most {LIMIT}"),
    }
}

/// Numbers from 0 to 1, without 0: splitmix64, by Steele, Lea and Flood.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 + 0.5 / (1u64 << 53) as f64
    }
}

impl Distribution {
    fn draw(self, from: &mut Draw) -> f64 {
        match self {
            Distribution::Uniform { low, high } => {
                let (low, high) = (f64::from(low), f64::from(high));
                low + (high - low) * from.next()
            }
            // The transform of Box and Muller.
            Distribution::Normal { mean, scale } => {
                let (radius, turn) = ((-2.0 * from.next().ln()).sqrt(), from.next() * std::f64::consts::TAU);
                f64::from(mean) + f64::from(scale) * radius * turn.cos()
            }
        }
    }
}

impl Random {
    fn drawn(&self) -> Array {
        let mut from = Draw(u64::from(self.seed));
        let values = (0..product(&self.shape)).map(|_| self.distribution.draw(&mut from)).collect();
        Array::float(self.dtype, &self.shape, values)
    }
}

impl Operator for Random {
    fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        Ok(vec![Fact::new(self.dtype, self.shape.clone())])
    }

    fn eval(&self, _: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        Ok(vec![self.drawn()])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        // Each number takes two draws, a logarithm, a root and a cosine.
        Ok(of_elements(inputs, outputs).times(4))
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.host_array(0, || Ok(self.drawn()))
    }
}

fn cases(name: &'static str) -> Vec<Case> {
    let of = |case: &str, shape: &[i64]| {
        Case::new(name, case).tolerance(Tolerance::EXACT).float("seed", 7.0).ints("shape", shape)
    };
    vec![
        of("matrix", &[3, 70]),
        of("empty", &[0, 3]),
        of("float16", &[5]).int("dtype", i64::from(DType::F16.onnx())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(distribution: Distribution, seed: f32) -> Vec<f64> {
        let random = Random { distribution, dtype: DType::F32, shape: vec![10_000], seed: seed.to_bits() };
        random.drawn().floats().unwrap().to_vec()
    }

    fn moments(x: &[f64]) -> (f64, f64) {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64)
    }

    /// Within four standard errors of 10,000 numbers: 0.04 of the deviation for means, 0.06 of the variance for variances.
    #[test]
    fn numbers_have_the_moments_of_their_distribution() {
        let (mean, variance) = moments(&drawn(Distribution::Normal { mean: 3.0, scale: 2.0 }, 1.0));
        assert!((mean - 3.0).abs() < 0.08 && (variance - 4.0).abs() < 0.24, "{mean} {variance}");
        let uniform = drawn(Distribution::Uniform { low: -1.0, high: 5.0 }, 1.0);
        let (mean, variance) = moments(&uniform);
        assert!((mean - 2.0).abs() < 0.07 && (variance - 3.0).abs() < 0.18, "{mean} {variance}");
        assert!(uniform.iter().all(|x| (-1.0..=5.0).contains(x)));
    }

    #[test]
    fn a_seed_decides_the_numbers() {
        let uniform = Distribution::Uniform { low: 0.0, high: 1.0 };
        assert_eq!(drawn(uniform, 1.0), drawn(uniform, 1.0));
        assert_ne!(drawn(uniform, 1.0), drawn(uniform, 2.0));
    }
}
