//! `Array`: a tensor on the host, whose elements are f64 for every float type and i128 for every integer type (a bool is 0 or
//! 1). Values are rounded to the dtype when an array is made, so that a chain of nodes loses exactly what the dtype loses.

mod leaf;
pub(crate) mod number;
pub(crate) mod product;
mod span;

pub(crate) use leaf::{Elsewhere, HostValue, Leaf};
pub(crate) use span::Span;

use crate::error::{Why, refuse};
use crate::shape::product;
use crate::tensor::checked_count;
use crate::{DType, Tensor};

/// A dense tensor on the host. The reference and planning compute with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Numbers,
}

/// The elements of an [`Array`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Numbers {
    Float(Vec<f64>),
    Int(Vec<i128>),
    Text(Vec<String>),
}

impl Array {
    /// A float array. Each value is rounded to `dtype`.
    pub(crate) fn float(dtype: DType, shape: &[usize], mut values: Vec<f64>) -> Array {
        debug_assert_eq!(checked_count(shape), Some(values.len()));
        if dtype != DType::F64 {
            values.iter_mut().for_each(|v| *v = number::round_float(dtype, *v));
        }
        Array { dtype, shape: shape.to_vec(), data: Numbers::Float(values) }
    }

    /// An integer or bool array. Each value wraps to `dtype` in two's complement; every number but 0 is a true bool.
    pub(crate) fn int(dtype: DType, shape: &[usize], mut values: Vec<i128>) -> Array {
        debug_assert_eq!(checked_count(shape), Some(values.len()));
        values.iter_mut().for_each(|v| *v = number::wrap_int(dtype, *v));
        Array { dtype, shape: shape.to_vec(), data: Numbers::Int(values) }
    }

    pub(crate) fn bools(shape: &[usize], values: Vec<bool>) -> Array {
        Array::int(DType::Bool, shape, values.into_iter().map(i128::from).collect())
    }

    pub(crate) fn text(shape: &[usize], values: Vec<String>) -> Array {
        Array { dtype: DType::String, shape: shape.to_vec(), data: Numbers::Text(values) }
    }

    /// An array of the same dtype and shape, with each element computed by the closure for its kind.
    pub(crate) fn map(&self, float: impl Fn(f64) -> f64, int: impl Fn(i128) -> i128) -> Array {
        match &self.data {
            Numbers::Float(v) => Array::float(self.dtype, &self.shape, v.iter().map(|&x| float(x)).collect()),
            Numbers::Int(v) => Array::int(self.dtype, &self.shape, v.iter().map(|&x| int(x)).collect()),
            Numbers::Text(_) => self.clone(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.data {
            Numbers::Float(v) => v.len(),
            Numbers::Int(v) => v.len(),
            Numbers::Text(v) => v.len(),
        }
    }

    /// The bytes of the longest string.
    pub(crate) fn longest_text(&self) -> usize {
        match &self.data {
            Numbers::Text(texts) => longest(texts),
            _ => 0,
        }
    }

    /// The elements of a float array.
    pub(crate) fn floats(&self) -> Result<&[f64], Why> {
        match &self.data {
            Numbers::Float(v) => Ok(v),
            _ => refuse!("expected a float tensor, got {}", self.dtype),
        }
    }

    /// The elements of an integer or bool array.
    pub(crate) fn ints(&self) -> Result<&[i128], Why> {
        match &self.data {
            Numbers::Int(v) => Ok(v),
            _ => refuse!("expected an integer tensor, got {}", self.dtype),
        }
    }

    /// The elements of a string array.
    pub(crate) fn texts(&self) -> Result<&[String], Why> {
        match &self.data {
            Numbers::Text(v) => Ok(v),
            _ => refuse!("expected a string tensor, got {}", self.dtype),
        }
    }

    /// The elements of an integer array as i64, as shape operands need them.
    pub(crate) fn i64s(&self) -> Result<Vec<i64>, Why> {
        self.ints()?
            .iter()
            .map(|&v| i64::try_from(v).map_err(|_| Why::from(format!("{v} does not fit an int64"))))
            .collect()
    }

    /// The elements of any numeric dtype, as f64.
    pub(crate) fn to_f64(&self) -> Result<Vec<f64>, Why> {
        match &self.data {
            Numbers::Float(v) => Ok(v.clone()),
            Numbers::Int(v) => Ok(v.iter().map(|&x| x as f64).collect()),
            Numbers::Text(_) => refuse!("expected numbers, got strings"),
        }
    }

    /// An array whose element `i` is element `source(i)` of this array. Where `source` is `None` it is `fill`, or 0 without a
    /// `fill`.
    pub(crate) fn gather(
        &self,
        shape: &[usize],
        source: impl Fn(usize) -> Option<usize>,
        fill: Option<&Array>,
    ) -> Array {
        let count = checked_count(shape).unwrap_or(0);
        let data = match (&self.data, fill.map(|f| &f.data)) {
            (Numbers::Float(v), f) => {
                let fill = if let Some(Numbers::Float(f)) = f { f[0] } else { 0.0 };
                Numbers::Float((0..count).map(|i| source(i).map_or(fill, |s| v[s])).collect())
            }
            (Numbers::Int(v), f) => {
                let fill = if let Some(Numbers::Int(f)) = f { f[0] } else { 0 };
                Numbers::Int((0..count).map(|i| source(i).map_or(fill, |s| v[s])).collect())
            }
            (Numbers::Text(v), f) => {
                let fill = if let Some(Numbers::Text(f)) = f { f[0].clone() } else { String::new() };
                Numbers::Text((0..count).map(|i| source(i).map_or(fill.clone(), |s| v[s].clone())).collect())
            }
        };
        Array { dtype: self.dtype, shape: shape.to_vec(), data }
    }

    /// The same elements under another shape with the same number of elements.
    pub(crate) fn reshaped(&self, shape: &[usize]) -> Array {
        debug_assert_eq!(checked_count(shape), Some(self.len()));
        Array { shape: shape.to_vec(), ..self.clone() }
    }
}

/// The bytes of the longest string.
pub(crate) fn longest(texts: &[String]) -> usize {
    texts.iter().map(String::len).max().unwrap_or(0)
}

/// Row-major strides of `shape`, in elements.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i].max(1);
    }
    strides
}

/// The rows of a tensor of `shape` along `axes`, one for each coordinate of the other axes, in row-major order. A row is the
/// indices of its elements, also in row-major order.
pub(crate) fn rows(shape: &[usize], axes: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let dims = |reduced: bool| {
        let dims = shape.iter().zip(strides(shape)).enumerate();
        let dims = dims
            .filter(move |(axis, _)| axes.contains(axis) == reduced)
            .map(|(_, (&size, stride))| (size, stride));
        dims.collect::<Vec<(usize, usize)>>()
    };
    let place = |mut index: usize, dims: &[(usize, usize)]| {
        let mut place = 0;
        for &(size, stride) in dims.iter().rev() {
            place += index % size * stride;
            index /= size;
        }
        place
    };
    let count = |dims: &[(usize, usize)]| product(dims.iter().map(|dim| dim.0));
    let (kept, reduced) = (dims(false), dims(true));
    let rows = count(&kept);
    // Where there are no rows, their length does not matter.
    let length = if rows == 0 { 0 } else { count(&reduced) };
    let steps: Vec<usize> = (0..length).map(|i| place(i, &reduced)).collect();
    (0..rows).map(move |row| {
        let start = place(row, &kept);
        steps.iter().map(|step| start + step).collect()
    })
}

/// The coordinates of element `index` in `shape`: element 5 of `[2, 3]` has (1, 2).
pub(crate) fn unravel(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (at, &size) in at.iter_mut().zip(shape).rev() {
        *at = index % size;
        index /= size;
    }
    at
}

/// The element index of coordinates `at` in `shape`.
pub(crate) fn ravel(at: &[usize], shape: &[usize]) -> usize {
    at.iter().zip(shape).fold(0, |index, (&at, &size)| index * size + at)
}

/// The element of a tensor of shape `from` that broadcasting puts at the coordinates `at` of the result.
pub(crate) fn broadcast_index(at: &[usize], from: &[usize]) -> usize {
    let skip = at.len() - from.len();
    at[skip..].iter().zip(from).fold(0, |index, (&at, &size)| index * size + if size == 1 { 0 } else { at })
}

impl Array {
    /// The array of a tensor.
    pub(crate) fn from_tensor(tensor: &Tensor) -> Result<Array, Why> {
        tensor.check_file()?;
        number::decode(tensor)
    }

    /// The tensor of this array.
    pub(crate) fn to_tensor(&self) -> Result<Tensor, Why> {
        number::encode(self)
    }
}

impl Array {
    /// The elements of all `arrays`, one after the other, as a vector. The arrays must have one dtype.
    pub(crate) fn joined(arrays: &[&Array]) -> Result<Array, Why> {
        let Some((first, rest)) = arrays.split_first() else { refuse!("there is nothing to join") };
        let mut data = first.data.clone();
        for array in rest {
            match (&mut data, &array.data) {
                (Numbers::Float(all), Numbers::Float(more)) => all.extend(more),
                (Numbers::Int(all), Numbers::Int(more)) => all.extend(more),
                (Numbers::Text(all), Numbers::Text(more)) => all.extend(more.iter().cloned()),
                _ => refuse!("expected {} tensors, got {}", first.dtype, array.dtype),
            }
        }
        let count = arrays.iter().map(|array| array.len()).sum();
        Ok(Array { dtype: first.dtype, shape: vec![count], data })
    }
}
