//! TensorScatter: writes new entries of a key or value cache after the entries that it holds, batch by batch.
//!
//! History: 24.

use super::case::{self, Case, Tolerance};
use super::{
    Array, NodeDef, Op, Operator, Row, Types, Why, axes, indices, onnx, optional, product, refuse, required,
    types,
};
use crate::facts::Fact;
use crate::kernels::gather::groups;
use crate::kernels::tensor_scatter as kernel;
use crate::kernels::words;
use crate::plan::Lower;

/// TensorScatter along `axis`.
#[derive(Clone, Debug)]
pub(crate) struct TensorScatter {
    axis: i64,
    /// Whether entries beyond the end go to the beginning.
    circular: bool,
}

const TYPES: Types = types![T T int64 -> T; T: ALL FLOAT8 INT4 BF16 F4E2M1 F8E8M0];

pub(crate) const ROWS: &[Row] = &[onnx("TensorScatter", 24, TYPES, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let circular = match def.attributes.string_or("mode", "linear")?.as_str() {
        "linear" => false,
        "circular" => true,
        other => refuse!("mode '{other}' is neither linear nor circular"),
    };
    Ok(TensorScatter { axis: def.attributes.int_or("axis", -2)?, circular }.into())
}

impl TensorScatter {
    fn checked_axis(&self, cache: &[usize], update: &[usize]) -> Result<usize, Why> {
        let axis = axes::axis(self.axis, cache.len())?;
        let fits = |d: usize| if d == axis { update[d] <= cache[d] } else { update[d] == cache[d] };
        if axis == 0 || update.len() != cache.len() || !(0..cache.len()).all(fits) {
            refuse!("an update of shape {update:?} does not fit a cache of {cache:?} along axis {axis}");
        }
        Ok(axis)
    }
}

impl Operator for TensorScatter {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (cache, update) = (required(inputs, 0)?, required(inputs, 1)?);
        self.checked_axis(&cache.shape, &update.shape)?;
        if let Some(places) = optional(inputs, 2) {
            indices::check_dtype(places.dtype)?;
            if places.shape != [cache.shape[0]] {
                refuse!("write indices of shape {:?} are not one for each batch", places.shape);
            }
        }
        if update.dtype != cache.dtype {
            refuse!("the update is {}, and the cache {}", update.dtype, cache.dtype);
        }
        Ok(vec![Fact::new(cache.dtype, cache.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (cache, update) = (required(inputs, 0)?, required(inputs, 1)?);
        let axis = self.checked_axis(&cache.shape, &update.shape)?;
        let first = match optional(inputs, 2) {
            Some(places) => places.ints()?.to_vec(),
            None => vec![0; cache.shape[0]],
        };
        let (length, new) = (cache.shape[axis], update.shape[axis]);
        let inner: usize = product(&cache.shape[axis + 1..]);
        let heads: usize = product(&cache.shape[1..axis]);
        let mut places = Vec::with_capacity(update.len());
        for i in 0..update.len() {
            let (row, within) = (i / inner, i % inner);
            let (prefix, entry) = (row / new, row % new);
            let at = first[prefix / heads] + entry as i128;
            let at = if self.circular { at.rem_euclid(length as i128) } else { at };
            let Some(at) = usize::try_from(at).ok().filter(|&at| at < length) else {
                refuse!("write index {} puts {new} entries into a cache of {length}", first[prefix / heads]);
            };
            places.push((prefix * length + at) * inner + within);
        }
        Ok(vec![super::scatter::Reduction::None.apply(cache, update, &places)?])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (cache, update) = (cx.fact(0)?, cx.fact(1)?);
        let axis = self.checked_axis(&cache.shape, &update.shape)?;
        cx.copy_input(0, 0)?;
        let heads: usize = product(&cache.shape[1..axis]);
        let inner: usize = product(&cache.shape[axis + 1..]);
        let sizes = [update.count(), inner, update.shape[axis], cache.shape[axis], heads];
        let indexed = cx.optional_fact(2).is_some();
        let mut tensors = vec![cx.input(1)?];
        if indexed {
            let last = cache.shape[axis] - update.shape[axis];
            tensors.push(if self.circular { cx.places(2)? } else { cx.within(2, 0, last as i64)? });
        }
        tensors.push(cx.output(0)?);
        let spec = kernel::TensorScatter { indexed, circular: self.circular };
        if update.count() > 0 {
            cx.call(spec, tensors, words(sizes)?, groups(update.count()));
        }
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str, cache: &[usize], update: &[usize]| {
        let case = Case::new("TensorScatter", name).tolerance(Tolerance::EXACT);
        case.input(case::random(cache)).input(case::uniform(update, 2.0, 3.0))
    };
    vec![
        new("linear", &[2, 3, 6, 4], &[2, 3, 2, 4]).input(case::list(&[1, 4])),
        new("circular", &[2, 3, 6, 4], &[2, 3, 3, 4]).string("mode", "circular").input(case::list(&[5, 4])),
        new("from the start", &[2, 6, 4], &[2, 1, 4]),
        new("last axis", &[2, 3, 5], &[2, 3, 2]).int("axis", -1).input(case::list(&[0, 3])),
        new("nothing", &[2, 6, 4], &[2, 0, 4]).input(case::list(&[1, 2])),
    ]
}
