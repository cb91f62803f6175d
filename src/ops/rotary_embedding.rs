//! RotaryEmbedding: pairs of channels are turned by an angle that depends on the position.
//!
//! History: 23.

use super::case::{self, Case};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, onnx, optional, product, refuse, required, types,
};
use crate::facts::Fact;
use crate::kernels::rotary::{Rotary, RotaryParams};
use crate::plan::Lower;

/// The attributes; 0 heads or channels mean that their number follows from the input.
#[derive(Clone, Debug)]
pub(crate) struct RotaryEmbedding {
    interleaved: bool,
    heads: usize,
    rotated: usize,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("RotaryEmbedding", 23, types![T T T int64 -> T; T: F32 F16 BF16], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let count = |name| match usize::try_from(def.attributes.int_or(name, 0)?) {
        Ok(count) => Ok(count),
        Err(_) => refuse!("{name} is negative"),
    };
    Ok(RotaryEmbedding {
        interleaved: def.attributes.flag("interleaved", false)?,
        heads: count("num_heads")?,
        rotated: count("rotary_embedding_dim")?,
    }
    .into())
}

impl RotaryEmbedding {
    /// The params for an input of this shape.
    fn params(&self, x: &[usize]) -> Result<RotaryParams, Why> {
        let (positions, depth, inner) = match *x {
            [_, _, positions, depth] => (positions, depth, depth),
            [_, positions, hidden] if self.heads > 0 && hidden % self.heads == 0 => {
                (positions, hidden / self.heads, hidden)
            }
            [_, _, hidden] => refuse!("{hidden} columns do not divide into {} heads", self.heads),
            _ => refuse!("the input has rank {}, not 3 or 4", x.len()),
        };
        let rotated = if self.rotated == 0 { depth } else { self.rotated };
        if rotated > depth || rotated % 2 == 1 {
            refuse!("{rotated} of {depth} channels cannot be turned in pairs");
        }
        let count = product(x);
        let batch = product(&x[1..]);
        Ok(RotaryParams { count, batch, positions, inner, depth, half: rotated / 2 })
    }

    fn check(&self, x: &[usize], caches: [&[usize]; 2], ids: Option<&[usize]>) -> Result<RotaryParams, Why> {
        let params = self.params(x)?;
        let [batches, positions] = [x[0], params.positions];
        for cache in caches {
            let fits = match ids {
                Some(_) => matches!(*cache, [_, half] if half == params.half),
                None => *cache == [batches, positions, params.half],
            };
            if !fits {
                refuse!(
                    "the cache {cache:?} does not fit the input {x:?} with {} turned channels",
                    2 * params.half
                );
            }
        }
        match ids {
            Some(_) if caches[0].contains(&0) => {
                refuse!("position_ids pick from a cache of shape {:?}", caches[0])
            }
            Some(ids) if ids != [batches, positions] => {
                refuse!("position_ids have shape {ids:?}, not {:?}", [batches, positions])
            }
            _ => Ok(params),
        }
    }
}

impl Operator for RotaryEmbedding {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, cos, sin) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        let ids = optional(inputs, 3).map(|ids| ids.shape.as_slice());
        self.check(&x.shape, [&cos.shape, &sin.shape], ids)?;
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, cos, sin) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        let p = self.params(&x.shape)?;
        let ids = optional(inputs, 3).map(|ids| ids.i64s()).transpose()?;
        let (values, cos, sin) = (x.floats()?, cos.floats()?, sin.floats()?);
        let mut turned = values.to_vec();
        for (i, value) in turned.iter_mut().enumerate() {
            let channel = i % p.depth;
            if channel >= 2 * p.half {
                continue;
            }
            let token = i / p.batch * p.positions + i / p.inner % p.positions;
            let (pair, is_second) = match self.interleaved {
                true => (channel / 2, channel % 2 == 1),
                false => (channel % p.half, channel >= p.half),
            };
            let step = if self.interleaved { 1 } else { p.half };
            let position = match &ids {
                Some(ids) => ids[token],
                None => token as i64,
            };
            let at = usize::try_from(position).ok().map(|position| position * p.half + pair);
            let Some((c, s)) = at.and_then(|at| Some((cos.get(at)?, sin.get(at)?))) else {
                refuse!("position {position} is outside the cache");
            };
            *value = match is_second {
                false => c * values[i] - s * values[i + step],
                true => s * values[i - step] + c * values[i],
            };
        }
        Ok(vec![Array::float(x.dtype, &x.shape, turned)])
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let params = self.params(&cx.fact(0)?.shape)?;
        let ids = cx.optional_fact(3).is_some();
        let epilogue = cx.epilogue(None)?;
        let mut tensors = vec![cx.input(0)?, cx.input(1)?, cx.input(2)?];
        if ids {
            let positions = cx.fact(1)?.count() / params.half.max(1);
            tensors.push(cx.within(3, 0, positions as i64 - 1)?);
        }
        tensors.extend(epilogue.tensors);
        tensors.push(cx.output(0)?);
        let words = params.words()?.into_iter().chain(epilogue.params).collect();
        let kernel = Rotary { interleaved: self.interleaved, ids, epilogue: epilogue.fused };
        cx.call(kernel, tensors, words, params.groups());
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str| Case::new("RotaryEmbedding", case);
    let cache = |shape: &[usize]| case::uniform(shape, -1.0, 1.0);
    let ids = case::values(&[2, 3], &[0i64, 4, 2, 1, 1, 3]);
    let with = |case: Case, x: &[usize], half: usize| {
        case.input(case::random(x)).input(cache(&[5, half])).input(cache(&[5, half])).input(ids.clone())
    };
    vec![
        with(new("halves"), &[2, 4, 3, 8], 4),
        with(new("interleaved").int("interleaved", 1), &[2, 4, 3, 8], 4),
        with(new("packed").int("num_heads", 4), &[2, 3, 32], 4),
        with(new("part").int("rotary_embedding_dim", 4), &[2, 4, 3, 7], 2),
        with(new("part, interleaved").int("rotary_embedding_dim", 4).int("interleaved", 1), &[2, 4, 3, 7], 2),
        new("no ids").input(case::random(&[2, 4, 3, 8])).input(cache(&[2, 3, 4])).input(cache(&[2, 3, 4])),
        new("no ids, packed")
            .int("num_heads", 2)
            .input(case::random(&[2, 3, 8]))
            .input(cache(&[2, 3, 2]))
            .input(cache(&[2, 3, 2])),
        new("empty").input(case::random(&[2, 4, 0, 8])).input(cache(&[2, 0, 4])).input(cache(&[2, 0, 4])),
        new("float16")
            .input(case::converted(&case::random(&[1, 1, 2, 4]), DType::F16))
            .input(case::converted(&cache(&[1, 2, 2]), DType::F16))
            .input(case::converted(&cache(&[1, 2, 2]), DType::F16)),
    ]
}
