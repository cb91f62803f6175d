//! RandomNormal, RandomUniform and those of them that take a shape from an input: numbers drawn by a seed. One row each.
//!
//! History: 1, 22; the later version only adds a type. A seed gives the same numbers in every run, and the host draws them while
//! planning. Without a seed each run would have to draw others, which is not supported.

use super::case::{self, Case, Tolerance};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, onnx, optional, refuse};
use crate::plan::{Fact, Lower};
use crate::tensor::checked_count;

/// Random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    distribution: Distribution,
    dtype: Option<DType>,
    /// The attribute `shape`; `None` if the input has the shape.
    shape: Option<Vec<usize>>,
    seed: u32,
}

#[derive(Clone, Copy, Debug)]
enum Distribution {
    Normal { mean: f32, scale: f32 },
    Uniform { low: f32, high: f32 },
}

pub(crate) const ROWS: &[Row] = &[
    onnx("RandomNormal", 1, parse, || cases("RandomNormal")),
    onnx("RandomNormalLike", 1, parse, || cases("RandomNormalLike")),
    onnx("RandomUniform", 1, parse, || cases("RandomUniform")),
    onnx("RandomUniformLike", 1, parse, || cases("RandomUniformLike")),
];

/// More elements are refused: the host draws them.
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
    let like = def.op_type.ends_with("Like");
    let code = if like { attributes.int("dtype")? } else { Some(attributes.int_or("dtype", 1)?) };
    let dtype =
        code.map(|code| i32::try_from(code).ok().and_then(DType::from_onnx).filter(|dtype| dtype.is_float()));
    if dtype == Some(None) {
        refuse!("attribute 'dtype' is {code:?}, which is no float type");
    }
    let shape = match like {
        true => None,
        false => {
            let dims = attributes.ints("shape")?.unwrap_or_default();
            let sizes: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
            let Some(sizes) = sizes else { refuse!("attribute 'shape' is {dims:?}") };
            Some(sizes)
        }
    };
    Ok(Random { distribution, dtype: dtype.flatten(), shape, seed: seed.to_bits() }.into())
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
            // Box and Muller's transform.
            Distribution::Normal { mean, scale } => {
                let (radius, turn) = ((-2.0 * from.next().ln()).sqrt(), from.next() * std::f64::consts::TAU);
                f64::from(mean) + f64::from(scale) * radius * turn.cos()
            }
        }
    }
}

impl Random {
    fn fact(&self, like: Option<(DType, &[usize])>) -> Result<(DType, Vec<usize>), Why> {
        let (dtype, shape) = match (&self.shape, like) {
            (Some(shape), _) => (DType::F32, shape.clone()),
            (None, Some((dtype, shape))) => (dtype, shape.to_vec()),
            (None, None) => refuse!("input 0 is required"),
        };
        let dtype = self.dtype.unwrap_or(dtype);
        match checked_count(&shape) {
            Some(count) if count <= LIMIT && dtype.is_float() => Ok((dtype, shape)),
            _ => refuse!("{shape:?} numbers of {dtype} cannot be drawn: at most {LIMIT}, of a float type"),
        }
    }

    fn drawn(&self, (dtype, shape): (DType, Vec<usize>)) -> Array {
        let mut from = Draw(u64::from(self.seed));
        let values = (0..shape.iter().product()).map(|_| self.distribution.draw(&mut from)).collect();
        Array::float(dtype, &shape, values)
    }
}

impl Operator for Random {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (dtype, shape) =
            self.fact(optional(inputs, 0).map(|like| (like.dtype, like.shape.as_slice())))?;
        Ok(vec![Fact::new(dtype, shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let fact = self.fact(optional(inputs, 0).map(|like| (like.dtype, like.shape.as_slice())))?;
        Ok(vec![self.drawn(fact)])
    }

    fn reads_shapes_only(&self) -> bool {
        true
    }

    fn reads_data(&self, _: usize) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let like = cx.optional_fact(0).map(|like| (like.dtype, like.shape.as_slice()));
        cx.known(0, &self.drawn(self.fact(like)?))
    }
}

fn cases(name: &'static str) -> Vec<Case> {
    let like = name.ends_with("Like");
    let of = |case: &str, shape: &[usize]| {
        let case = Case::new(name, case).tolerance(Tolerance::EXACT).float("seed", 7.0);
        let dims: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        if like { case.input(case::random(shape)) } else { case.ints("shape", &dims) }
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
        let shape = vec![10_000];
        let random = Random { distribution, dtype: None, shape: Some(shape.clone()), seed: seed.to_bits() };
        random.drawn((DType::F32, shape)).floats().unwrap().to_vec()
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
