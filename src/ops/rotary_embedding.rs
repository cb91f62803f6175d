//! RotaryEmbedding: pairs of channels are turned by an angle that depends on the position.
//!
//! History: 23; com.microsoft 1, where the cache tells how many channels are turned, and positions may begin at one number.

use super::case::{self, Case};
use super::composed::Body;
use super::{
    Array, DType, NodeDef, OWN_DOMAIN, Op, Operator, Row, Why, microsoft, onnx, optional, product, refuse,
    required, types,
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
    /// Whether 0 turned channels mean as many as the cache has angles for, and 0 heads that a head has only these.
    by_cache: bool,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("RotaryEmbedding", 23, types![T T T int64 -> T; T: F32 F16 BF16], parse, cases),
    microsoft("RotaryEmbedding", types![T M T T -> T; T: F32 F16 BF16, M: I64], parse_microsoft, || {
        microsoft_cases()
    }),
    Row {
        domain: OWN_DOMAIN,
        name: "RotaryEmbedding",
        opsets: (1, 1),
        types: types![T T T int64 -> T; T: F32 F16 BF16],
        parse: parse_by_cache,
        cases: Vec::new,
    },
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(attributes(def, false)?.into())
}

fn parse_by_cache(def: &NodeDef) -> Result<Op, Why> {
    Ok(attributes(def, true)?.into())
}

fn parse_microsoft(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    for (name, plain) in [("scale", 1.0), ("is_packed_batching", 0.0)] {
        let given = match name {
            "scale" => def.attributes.float_or(name, 1.0)?,
            _ => def.attributes.int_or(name, 0)? as f32,
        };
        if given != plain {
            refuse!("{name} {given} is not supported");
        }
    }
    let (x, ids, cos, sin) = (body.input(0)?, body.input(1)?, body.input(2)?, body.input(3)?);
    let (batches, length) = (body.size(x, 0)?, body.size(x, -2)?);
    // One number is the position of the first token of each batch.
    let dims = body.node("Shape", &[ids])?;
    let rank = body.node("Size", &[dims])?;
    let one = body.scalar(1i64);
    let single = body.node("Equal", &[rank, one])?;
    let single = body.cast(single, DType::I64)?;
    let steps = body.counted(length)?;
    let steps = body.node("Mul", &[steps, single])?;
    let positions = body.node("Add", &[ids, steps])?;
    let shape = body.joined(&[batches, length])?;
    let positions = body.node("Expand", &[positions, shape])?;
    let kept = body.kept(&["interleaved", "num_heads", "rotary_embedding_dim"]);
    let y = body.with("sardonyx.RotaryEmbedding", &kept, &[x, cos, sin, positions])?;
    body.finish(&[y])
}

fn attributes(def: &NodeDef, by_cache: bool) -> Result<RotaryEmbedding, Why> {
    let count = |name| match usize::try_from(def.attributes.int_or(name, 0)?) {
        Ok(count) => Ok(count),
        Err(_) => refuse!("{name} is negative"),
    };
    Ok(RotaryEmbedding {
        interleaved: def.attributes.flag("interleaved", false)?,
        heads: count("num_heads")?,
        rotated: count("rotary_embedding_dim")?,
        by_cache,
    })
}

impl RotaryEmbedding {
    /// The params for an input and a cache of these shapes.
    fn params(&self, x: &[usize], cache: &[usize]) -> Result<RotaryParams, Why> {
        let angles = cache.last().copied().unwrap_or(0).saturating_mul(2);
        let (positions, depth, inner) = match *x {
            [_, _, positions, depth] => (positions, depth, depth),
            [_, positions, hidden] if self.by_cache && self.heads == 0 && angles > 0 => {
                if hidden % angles != 0 {
                    refuse!("{hidden} columns do not divide into heads of {angles}");
                }
                (positions, angles, hidden)
            }
            [_, positions, hidden] if self.heads > 0 && hidden % self.heads == 0 => {
                (positions, hidden / self.heads, hidden)
            }
            [_, _, hidden] => refuse!("{hidden} columns do not divide into {} heads", self.heads),
            _ => refuse!("the input has rank {}, not 3 or 4", x.len()),
        };
        let all = if self.by_cache { angles } else { depth };
        let rotated = if self.rotated == 0 { all } else { self.rotated };
        if rotated > depth || rotated % 2 == 1 {
            refuse!("{rotated} of {depth} channels cannot be turned in pairs");
        }
        let count = product(x);
        let batch = product(&x[1..]);
        Ok(RotaryParams { count, batch, positions, inner, depth, half: rotated / 2 })
    }

    fn check(&self, x: &[usize], caches: [&[usize]; 2], ids: Option<&[usize]>) -> Result<RotaryParams, Why> {
        let params = self.params(x, caches[0])?;
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
        let p = self.params(&x.shape, &cos.shape)?;
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
        let params = self.params(&cx.fact(0)?.shape, &cx.fact(1)?.shape)?;
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

fn microsoft_cases() -> Vec<Case> {
    let new = |name: &str, x: &[usize], half: usize| {
        let case = Case::new("RotaryEmbedding", name).of_microsoft().input(case::random(x));
        let cache = || case::uniform(&[5, half], -1.0, 1.0);
        (case, [cache(), cache()])
    };
    let with = |(case, [cos, sin]): (Case, [crate::Tensor; 2]), ids: crate::Tensor| {
        case.input(ids).constant(cos).constant(sin)
    };
    let ids = || case::values(&[2, 3], &[0i64, 4, 2, 1, 1, 3]);
    vec![
        with(new("heads", &[2, 4, 3, 8], 4), ids()),
        with(new("packed", &[2, 3, 32], 4), ids()),
        with(new("first", &[2, 4, 3, 8], 4), case::list(&[2])),
        with(new("part", &[2, 4, 3, 8], 2), ids()),
    ]
}
