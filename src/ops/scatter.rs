//! What all scatters share: reductions, and the two ways to write updates on the device.

use super::{Array, DType, NodeDef, Why, product, refuse};
use crate::array::Numbers;
use crate::kernels::expr::Scalar;
use crate::kernels::gather::groups;
use crate::kernels::scatter as kernel;
use crate::kernels::scatter_reduce::{ScatterFunction, ScatterReduce};
use crate::kernels::words;
use crate::plan::{Lower, TensorId};

/// How several updates of one element are combined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reduction {
    /// The last update wins.
    None,
    Some(ScatterFunction),
}

use ScatterFunction::{Add, Max, Min, Mul};

impl Reduction {
    /// Reads the attribute `reduction`.
    pub(crate) fn parse(def: &NodeDef) -> Result<Reduction, Why> {
        Ok(match def.attributes.string_or("reduction", "none")?.as_str() {
            "none" => Reduction::None,
            "add" => Reduction::Some(Add),
            "mul" => Reduction::Some(Mul),
            "min" => Reduction::Some(Min),
            "max" => Reduction::Some(Max),
            other => refuse!("reduction '{other}' is none of none, add, mul, min and max"),
        })
    }

    fn float(self, a: f64, b: f64) -> f64 {
        match self {
            Reduction::None => b,
            Reduction::Some(Add) => a + b,
            Reduction::Some(Mul) => a * b,
            Reduction::Some(_) if a.is_nan() => a,
            Reduction::Some(Min) => {
                if b.is_nan() || b < a {
                    b
                } else {
                    a
                }
            }
            Reduction::Some(Max) => {
                if b.is_nan() || b > a {
                    b
                } else {
                    a
                }
            }
        }
    }

    fn int(self, a: i128, b: i128) -> i128 {
        match self {
            Reduction::None => b,
            Reduction::Some(Add) => a.wrapping_add(b),
            Reduction::Some(Mul) => a.wrapping_mul(b),
            Reduction::Some(Min) => a.min(b),
            Reduction::Some(Max) => a.max(b),
        }
    }

    /// `data`, with `updates[i]` written to, or combined with, element `places[i]`.
    pub(crate) fn apply(self, data: &Array, updates: &Array, places: &[usize]) -> Result<Array, Why> {
        let mut result = data.clone();
        match (&mut result.data, &updates.data) {
            (Numbers::Float(y), Numbers::Float(u)) => {
                places.iter().zip(u).for_each(|(&at, &u)| y[at] = self.float(y[at], u));
                Ok(Array::float(data.dtype, &data.shape, std::mem::take(y)))
            }
            (Numbers::Int(y), Numbers::Int(u)) => {
                let wrap = |v| crate::array::number::wrap_int(data.dtype, v);
                places.iter().zip(u).for_each(|(&at, &u)| y[at] = wrap(self.int(y[at], u)));
                Ok(result)
            }
            (Numbers::Text(y), Numbers::Text(u)) if self == Reduction::None => {
                places.iter().zip(u).for_each(|(&at, u)| y[at] = u.clone());
                Ok(result)
            }
            _ => refuse!("updates of {} do not fit data of {}", updates.dtype, data.dtype),
        }
    }
}

/// Writes updates into `output`, which holds the data already. The output has `places` places of `inner` elements each, and
/// there are `rows` rows of indices. `words` are the params of the destination, which makes a place of a row.
pub(crate) fn overwrite(
    cx: &mut Lower,
    output: TensorId,
    (destination, words): (kernel::Destination, &[u32]),
    (indices, updates): (TensorId, TensorId),
    (places, rows, inner): (usize, usize, usize),
) {
    if rows * inner == 0 {
        return;
    }
    let marks = cx.temporary(Scalar::U32, &[places]);
    cx.fill(marks, 0);
    let params =
        |count: usize| [count as u32, inner as u32].into_iter().chain(words.iter().copied()).collect();
    let mark = kernel::Scatter { step: kernel::ScatterStep::Mark, destination: destination.clone() };
    cx.call(mark, vec![indices, marks], params(rows), groups(rows));
    let apply = kernel::Scatter { step: kernel::ScatterStep::Apply, destination };
    let count = rows * inner;
    cx.call(apply, vec![indices, marks, updates, output], params(count), groups(count));
}

/// For each row of indices, the place that it names, or the least i32 if it is out of range.
pub(crate) fn locate(
    cx: &mut Lower,
    (destination, words): (kernel::Destination, &[u32]),
    indices: TensorId,
    (rows, inner): (usize, usize),
) -> TensorId {
    let located = cx.temporary(Scalar::I32, &[rows]);
    let params = [rows as u32, inner as u32].into_iter().chain(words.iter().copied()).collect();
    let locate = kernel::Scatter { step: kernel::ScatterStep::Locate, destination };
    cx.call(locate, vec![indices, located], params, groups(rows));
    located
}

/// One dimension of the output of a reducing scatter.
pub(crate) struct ScatterDim {
    pub(crate) size: usize,
    /// The size of the indices.
    pub(crate) limit: usize,
    pub(crate) index_stride: usize,
    pub(crate) update_stride: usize,
}

/// Combines updates with output 0, which holds the data already. The rows of indices lie along `axis`.
pub(crate) fn reduce(
    cx: &mut Lower,
    function: ScatterFunction,
    dtype: DType,
    (indices, updates): (TensorId, TensorId),
    (dims, axis): (&[ScatterDim], usize),
) -> Result<(), Why> {
    let output = cx.output(0)?;
    let scalar = cx.scalar(output);
    if scalar == Scalar::Bool {
        refuse!("bool tensors cannot be reduced");
    }
    let count: usize = product(dims.iter().map(|dim| dim.size));
    let rows = dims[axis].limit;
    let chunk = cx.target.max_iterations as usize;
    for from in (0..rows).step_by(chunk) {
        let to = rows.min(from + chunk);
        let along = &dims[axis];
        let own = [count, from, to, along.size, along.index_stride, along.update_stride];
        let each = dims.iter().flat_map(|d| [d.size, d.limit, d.index_stride, d.update_stride]);
        let params = words(own.into_iter().chain(each))?;
        let spec = ScatterReduce { function, scalar, dtype, rank: dims.len(), axis };
        cx.call(spec, vec![indices, updates, output], params, groups(count));
    }
    Ok(())
}
