//! RandomNormal, RandomUniform and their Like forms: random numbers of a shape that is given, or an input's. One row of the table each.
//!
//! History: 1, 22; the later version only adds a type. A seed gives the same numbers in every run, and the host draws them
//! while planning. Without a seed the device draws others in each run.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::case::{self, Case, Tolerance};
use super::{
    Array, DType, Kind, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, onnx, optional, product,
    refuse, types,
};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::kernels::{gather, random as kernel, word};
use crate::plan::{Lower, TensorId};
use crate::tensor::checked_count;

/// Random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    distribution: Distribution,
    /// `None`: that of the input.
    dtype: Option<DType>,
    /// `None`: that of the input.
    shape: Option<Vec<usize>>,
    seed: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Distribution {
    Normal { mean: f32, scale: f32 },
    Uniform { low: f32, high: f32 },
}

const LIKE: Types = types![T1 -> T2; T1: ALL BF16@22, T2: FLOATS BF16@22];

pub(crate) const ROWS: &[Row] = &[
    onnx("RandomNormal", 1, types![-> T; T: FLOATS BF16@22], parse, || cases("RandomNormal")),
    onnx("RandomUniform", 1, types![-> T; T: FLOATS BF16@22], parse, || cases("RandomUniform")),
    onnx("RandomNormalLike", 1, LIKE, parse, || like_cases("RandomNormalLike")),
    onnx("RandomUniformLike", 1, LIKE, parse, || like_cases("RandomUniformLike")),
];

/// The host draws no more elements.
const LIMIT: usize = 1 << 24;

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let attributes = def.attributes;
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
    let dtype = match attributes.int("dtype")? {
        None if like => None,
        code => {
            let code = code.unwrap_or(1);
            let dtype = i32::try_from(code).ok().and_then(DType::from_onnx).filter(|dtype| dtype.is_float());
            let Some(dtype) = dtype else { refuse!("attribute 'dtype' is {code}, which is no float type") };
            Some(dtype)
        }
    };
    let seed = attributes.float("seed")?.map(f32::to_bits);
    if like {
        return Ok(Random { distribution, dtype, shape: None, seed }.into());
    }
    let dims = attributes.ints("shape")?.unwrap_or_default();
    let shape: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    match shape.filter(|shape| checked_count(shape).is_some()) {
        Some(shape) => Ok(Random { distribution, dtype, shape: Some(shape), seed }.into()),
        None => refuse!("there are no numbers of shape {dims:?}"),
    }
}

/// A source of random numbers: splitmix64, by Steele, Lea and Flood.
pub(crate) struct Draw(u64);

impl Draw {
    /// The source that a seed decides; without one, a new source.
    pub(crate) fn new(seed: Option<u64>) -> Draw {
        Draw(seed.unwrap_or_else(fresh))
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1, without 0.
    fn next(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64 + 0.5 / (1u64 << 53) as f64
    }

    /// A float32 from 0 to 1, without 1.
    pub(crate) fn single(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }
}

/// A number that no other call gives.
fn fresh() -> u64 {
    // Each has keys of its own.
    RandomState::new().build_hasher().finish()
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
    fn drawn(&self, dtype: DType, shape: &[usize]) -> Array {
        let mut from = Draw::new(self.seed.map(u64::from));
        let values = (0..product(shape)).map(|_| self.distribution.draw(&mut from)).collect();
        Array::float(dtype, shape, values)
    }

    /// The result's dtype and shape, out of those of the input.
    fn result<'a>(
        &'a self,
        dtype: Option<DType>,
        shape: Option<&'a [usize]>,
    ) -> Result<(DType, &'a [usize]), Why> {
        let (Some(dtype), Some(shape)) = (self.dtype.or(dtype), self.shape.as_deref().or(shape)) else {
            refuse!("input 0 is required")
        };
        if !dtype.is_float() {
            refuse!("the input is {dtype}, and attribute 'dtype' names no float type");
        }
        if self.seed.is_some() && checked_count(shape).is_none_or(|count| count > LIMIT) {
            refuse!("numbers of shape {shape:?} cannot be drawn from a seed: at most {LIMIT}");
        }
        Ok((dtype, shape))
    }
}

impl Operator for Random {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let like = optional(inputs, 0);
        let (dtype, shape) = self.result(like.map(|like| like.dtype), like.map(|like| &like.shape[..]))?;
        Ok(vec![Fact::new(dtype, shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let like = optional(inputs, 0);
        let (dtype, shape) = self.result(like.map(|like| like.dtype), like.map(|like| &like.shape[..]))?;
        Ok(vec![self.drawn(dtype, shape)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        // Each number takes two draws, a logarithm, a root and a cosine.
        Ok(of_elements(inputs, outputs).times(4))
    }

    fn reads_data(&self, _: usize) -> bool {
        false
    }

    fn reads_shapes_only(&self) -> bool {
        self.seed.is_some()
    }

    fn draws(&self) -> bool {
        self.seed.is_none()
    }

    fn kinds(&self, inputs: &[Option<&Kind>]) -> Option<Vec<Kind>> {
        let own = self.dtype.map(|dtype| Kind::Tensor(Some(dtype)));
        own.or_else(|| inputs.first().copied().flatten().cloned()).map(|kind| vec![kind])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let out = cx.out(0)?;
        if self.seed.is_some() {
            return cx.host_array(0, || Ok(self.drawn(out.dtype, &out.shape)));
        }
        let (normal, a, b) = match self.distribution {
            Distribution::Normal { mean, scale } => (true, mean, scale),
            Distribution::Uniform { low, high } => (false, low, high),
        };
        let numbers = unseeded(cx, Scalar::float_for(out.dtype), normal, (a, b), &out.shape)?;
        cx.elementwise(0, &[(numbers, &out.shape)], |_, x| x[0])
    }
}

/// Emits calls that draw numbers anew in each run, as `scalar`: `a + b * x` of a normal `x`, or uniform ones from `a` to `b`.
fn unseeded(
    cx: &mut Lower,
    scalar: Scalar,
    normal: bool,
    (a, b): (f32, f32),
    shape: &[usize],
) -> Result<TensorId, Why> {
    let first = fresh();
    let counter = cx.words(2, || vec![first as u32, (first >> 32) as u32])?;
    let key = cx.temporary(Scalar::U32, &[2]);
    cx.call(kernel::Random::Advance, vec![counter, key], vec![1], 1);
    let numbers = cx.temporary(scalar, shape);
    let count = product(shape);
    let params = vec![word(count)?, a.to_bits(), b.to_bits()];
    cx.call(
        kernel::Random::Draw { normal, scalar },
        vec![key, numbers],
        params,
        count.div_ceil(gather::WORKGROUP),
    );
    Ok(numbers)
}

/// Uniform float32 numbers from 0 to 1, without 1: those of a seed, or others in each run.
pub(crate) fn uniform(cx: &mut Lower, seed: Option<u64>, shape: &[usize]) -> Result<TensorId, Why> {
    let Some(seed) = seed else { return unseeded(cx, Scalar::F32, false, (0.0, 1.0), shape) };
    let count = product(shape);
    if count > LIMIT {
        refuse!("numbers of shape {shape:?} cannot be drawn from a seed: at most {LIMIT}");
    }
    let mut from = Draw::new(Some(seed));
    let table = cx.words(count, || (0..count).map(|_| from.single().to_bits()).collect())?;
    let numbers = cx.temporary(Scalar::F32, shape);
    cx.elementwise_to(numbers, (DType::F32, shape), &[(table, shape)], |e, x| e.bitcast(x[0], Scalar::F32));
    Ok(numbers)
}

fn cases(name: &'static str) -> Vec<Case> {
    let of = |case: &str, shape: &[i64]| {
        Case::new(name, case).tolerance(Tolerance::EXACT).float("seed", 7.0).ints("shape", shape)
    };
    vec![
        of("matrix", &[3, 70]),
        of("empty", &[0, 3]),
        of("float16", &[5]).int("dtype", i64::from(DType::F16.onnx())),
        certain(Case::new(name, "certain").ints("shape", &[3, 70])),
        certain(Case::new(name, "certain_float16").ints("shape", &[5]))
            .int("dtype", i64::from(DType::F16.onnx())),
    ]
}

/// Without a seed, but with a distribution that has one value only.
fn certain(case: Case) -> Case {
    case.tolerance(Tolerance::EXACT)
        .float("mean", 0.25)
        .float("scale", 0.0)
        .float("low", 0.25)
        .float("high", 0.25)
}

fn like_cases(name: &'static str) -> Vec<Case> {
    let of = |case: &str, like: super::Tensor| Case::new(name, case).input(like).tolerance(Tolerance::EXACT);
    let float16 = i64::from(DType::F16.onnx());
    vec![
        of("matrix", case::random(&[3, 70])).float("seed", 7.0),
        of("empty", case::random(&[0, 3])).float("seed", 7.0),
        of("integers", case::integers(&[5], 0, 9)).float("seed", 7.0).int("dtype", float16),
        certain(of("certain", case::random(&[3, 70]))),
        certain(of("certain_integers", case::integers(&[5], 0, 9))).int("dtype", float16),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(distribution: Distribution, seed: f32) -> Vec<f64> {
        let random = Random { distribution, dtype: None, shape: None, seed: Some(seed.to_bits()) };
        random.drawn(DType::F32, &[10_000]).floats().unwrap().to_vec()
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
