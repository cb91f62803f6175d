//! What the integer products share: operands less their zero points, and sums scaled back to 8 bits.

use super::accumulate::Source;
use super::{Array, DType, Why, optional, refuse};
use crate::array::{Numbers, broadcast_index, unravel};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg, Scalar};
use crate::plan::Lower;

/// The shape under which a zero point or scale broadcasts to a matrix operand. A vector has one value for each row if `rows`,
/// else one for each column.
pub(crate) fn matrix_shape(shape: &[usize], rows: bool) -> Vec<usize> {
    match shape {
        &[n] if rows && n != 1 => vec![n, 1],
        _ => shape.to_vec(),
    }
}

/// The shape under which a zero point or scale, of one element or of one for each channel, broadcasts to weights, or to a
/// result whose channels are on `axis`.
pub(crate) fn channel_shape(shape: &[usize], rank: usize, axis: usize) -> Vec<usize> {
    match shape {
        &[n] if n != 1 => (axis..rank).map(|d| if d == axis { n } else { 1 }).collect(),
        _ if shape.iter().all(|&size| size == 1) => vec![],
        // This has more axes than the operand, so that it is refused.
        _ => [vec![1; rank], shape.to_vec()].concat(),
    }
}

/// Refuses operands that are not 8-bit integers, and zero points that have another type or do not broadcast.
pub(crate) fn check(
    x: &Fact,
    zero: Option<&Fact>,
    shape: impl Fn(&[usize]) -> Vec<usize>,
) -> Result<(), Why> {
    if !matches!(x.dtype, DType::I8 | DType::U8) {
        refuse!("the operand {x} is not of 8-bit integers");
    }
    let Some(zero) = zero else { return Ok(()) };
    let under = shape(&zero.shape);
    if zero.dtype != x.dtype || super::broadcast::broadcast([&under[..], &x.shape]).as_ref() != Ok(&x.shape) {
        refuse!("the zero point {zero} does not fit the operand {x}");
    }
    Ok(())
}

/// Refuses a scale or zero point that does not broadcast to `to`.
pub(crate) fn check_spread(
    given: &Fact,
    to: &[usize],
    shape: impl Fn(&[usize]) -> Vec<usize>,
) -> Result<(), Why> {
    let under = shape(&given.shape);
    if given.dtype == DType::String || super::broadcast::broadcast([&under[..], to]).as_deref() != Ok(to) {
        refuse!("the scale or zero point {given} does not fit the result {to:?}");
    }
    Ok(())
}

/// The operand less its zero point, on the reference.
pub(crate) fn centred(
    x: &Array,
    zero: Option<&Array>,
    shape: impl Fn(&[usize]) -> Vec<usize>,
) -> Result<Vec<i128>, Why> {
    let values = x.ints()?;
    let Some(zero) = zero else { return Ok(values.to_vec()) };
    let (zeros, under) = (zero.ints()?, shape(&zero.shape));
    let index = |i: usize| broadcast_index(&unravel(i, &x.shape), &under);
    Ok(values.iter().enumerate().map(|(i, x)| x - zeros[index(i)]).collect())
}

/// The operand `i` less its zero point `zero`, as i32, on the device; the operand itself if the zero point is known to be 0.
pub(crate) fn lower_centred(
    cx: &mut Lower,
    i: usize,
    zero: usize,
    shape: impl Fn(&[usize]) -> Vec<usize>,
) -> Result<Source, Why> {
    let x = cx.fact(i)?;
    let Some(zero_fact) = cx.optional_fact(zero) else { return Ok(Source::Input(i)) };
    let known = zero_fact.constant().map(|array| &array.data);
    // The words of 8-bit integers are the same, whether they are read as i32 or as u32.
    if matches!(known, Some(Numbers::Int(values)) if values.iter().all(|&v| v == 0)) {
        return Ok(Source::Input(i));
    }
    let under = shape(&zero_fact.shape);
    let operands = [(cx.input(i)?, x.shape.as_slice()), (cx.input(zero)?, under.as_slice())];
    Ok(Source::Tensor(cx.deferred((Scalar::I32, &x.shape), &operands, |e, regs| {
        let x = e.convert(regs[0], Scalar::I32);
        let zero = e.convert(regs[1], Scalar::I32);
        e.sub(x, zero)
    })))
}

/// `sum * scale + zero`, rounded half to even and saturated to `dtype`.
pub(crate) fn requantized(sum: f64, scale: f64, zero: i128, dtype: DType) -> i128 {
    let (low, high) = dtype.int_range().unwrap_or((0, 255));
    ((sum * scale).round_ties_even() as i128).saturating_add(zero).clamp(low, high)
}

/// `sum * scale + zero`, rounded and saturated, on the device. `sum` is f32, `zero` any integer.
pub(crate) fn lower_requantized(e: &mut Builder, sum: Reg, scale: Reg, zero: Reg, dtype: DType) -> Reg {
    let (low, high) = dtype.int_range().unwrap_or((0, 255));
    let scaled = e.mul(sum, scale);
    let rounded = e.one(Fn1::Round, scaled);
    let zero = e.convert(zero, Scalar::F32);
    let moved = e.add(rounded, zero);
    let (low, high) = (e.f32(low as f32), e.f32(high as f32));
    let least = e.two(Fn2::Max, moved, low);
    let clamped = e.two(Fn2::Min, least, high);
    let scalar = if dtype == DType::I8 { Scalar::I32 } else { Scalar::U32 };
    e.convert(clamped, scalar)
}

/// The values of a scale or zero point, by the element `at` of the tensor that it broadcasts to.
pub(crate) struct Spread<'a> {
    array: &'a Array,
    shape: Vec<usize>,
}

impl<'a> Spread<'a> {
    pub(crate) fn of(
        inputs: &[Option<&'a Array>],
        i: usize,
        shape: impl Fn(&[usize]) -> Vec<usize>,
    ) -> Result<Spread<'a>, Why> {
        match optional(inputs, i) {
            Some(array) => Ok(Spread { shape: shape(&array.shape), array }),
            None => refuse!("input {i} is required"),
        }
    }

    pub(crate) fn at(&self, at: &[usize]) -> f64 {
        let i = broadcast_index(at, &self.shape);
        match &self.array.data {
            Numbers::Float(values) => values[i],
            Numbers::Int(values) => values[i] as f64,
            Numbers::Text(_) => f64::NAN,
        }
    }
}
