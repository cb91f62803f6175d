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

/// Float32 holds all integers up to this magnitude, and so the sums of products of 8-bit integers that stay below it.
pub(crate) const FLOAT_SUMS: u64 = 1 << 24;

/// The register in which a device adds up products of two operands less their zero points: float32 where each sum is exact in
/// it, as the kernels of float32 are the fastest.
///
/// `sums` is what [`greatest_sum`] knows of the second operand.
pub(crate) fn sum_scalar(
    [x, w]: [&Fact; 2],
    zeros: [Option<&Fact>; 2],
    terms: usize,
    sums: Option<u64>,
) -> Scalar {
    let greatest = |x: &Fact, zero: Option<&Fact>| {
        let (low, high) = x.dtype.int_range().unwrap_or((0, 255));
        let of = |zero: i128| (zero - low).max(high - zero) as u64;
        match zero.map(|zero| zero.constant().map(Array::ints)) {
            None => of(0),
            Some(Some(Ok(zeros))) => zeros.iter().map(|&zero| of(zero)).max().unwrap_or(0),
            Some(_) => (high - low) as u64,
        }
    };
    let sums = sums.unwrap_or_else(|| greatest(w, zeros[1]).saturating_mul(terms as u64));
    match greatest(x, zeros[0]).saturating_mul(sums) <= FLOAT_SUMS {
        true => Scalar::F32,
        false => Scalar::I32,
    }
}

/// The greatest sum of magnitudes along `terms` elements, which are `inner` apart, of input `i` less its zero point `zero`;
/// `None` where planning does not know the elements. A sum of their products with numbers up to 255 is at most 255 times as
/// large.
pub(crate) fn greatest_sum(
    cx: &Lower,
    i: usize,
    zero: usize,
    (terms, inner): (usize, usize),
) -> Result<Option<u64>, Why> {
    let Some(tensor) = cx.model_constant(i) else { return Ok(None) };
    let zero = match cx.optional_fact(zero).map(|zero| zero.constant().map(Array::ints)) {
        None => 0,
        Some(Some(Ok(zeros))) => match all_equal(zeros) {
            Some(zero) => zero,
            None => return Ok(None),
        },
        Some(_) => return Ok(None),
    };
    tensor.check_file()?;
    let magnitude: [u16; 256] = std::array::from_fn(|bits| {
        let number = if tensor.dtype() == DType::I8 { i128::from(bits as u8 as i8) } else { bits as i128 };
        (number - zero).unsigned_abs() as u16
    });
    let mut greatest = 0;
    for matrix in tensor.bytes().chunks((terms * inner).max(1)) {
        let mut sums = vec![0u64; inner];
        for row in matrix.chunks(inner.max(1)) {
            sums.iter_mut().zip(row).for_each(|(sum, &bits)| *sum += u64::from(magnitude[usize::from(bits)]));
        }
        greatest = sums.into_iter().fold(greatest, u64::max);
    }
    Ok(Some(greatest))
}

/// The operand `i` less its zero point `zero`, in a register of type `scalar`, on the device; the operand itself if the zero
/// point is known to be 0.
pub(crate) fn lower_centred(
    cx: &mut Lower,
    i: usize,
    zero: usize,
    scalar: Scalar,
    shape: impl Fn(&[usize]) -> Vec<usize>,
) -> Result<Source, Why> {
    let x = cx.fact(i)?;
    let zero_fact = cx.optional_fact(zero);
    let known = zero_fact.and_then(|zero| zero.constant()).map(Array::ints).transpose()?;
    let single = if zero_fact.is_none() { Some(0) } else { known.and_then(all_equal) };
    match single {
        // The words of 8-bit integers are the same, whether they are read as i32 or as u32.
        Some(0) if scalar == Scalar::I32 => return Ok(Source::Input(i)),
        Some(0) if cx.is_constant(i) => return Ok(Source::Integers(i)),
        _ => {}
    }
    let mut operands = vec![(cx.input(i)?, x.shape.to_vec())];
    if let (None, Some(fact)) = (single, zero_fact) {
        operands.push((cx.input(zero)?, shape(&fact.shape)));
    }
    let operands: Vec<_> = operands.iter().map(|(tensor, shape)| (*tensor, shape.as_slice())).collect();
    Ok(Source::Tensor(cx.deferred((scalar, &x.shape), &operands, |e, regs| {
        let x = e.convert(regs[0], Scalar::I32);
        let zero = match (single, regs.get(1)) {
            (Some(0), _) => return e.convert(x, scalar),
            (_, Some(&zero)) => e.convert(zero, Scalar::I32),
            (zero, None) => e.constant(Scalar::I32, zero.unwrap_or(0) as f64),
        };
        let centred = e.sub(x, zero);
        e.convert(centred, scalar)
    })))
}

/// The number that all of `numbers` are.
fn all_equal(numbers: &[i128]) -> Option<i128> {
    let (first, rest) = numbers.split_first()?;
    rest.iter().all(|number| number == first).then_some(*first)
}

/// The scale of a product's sums, which onnxruntime computes in float32.
pub(crate) fn sum_scale(x_scale: f64, w_scale: f64, y_scale: f64) -> f32 {
    x_scale as f32 * w_scale as f32 / y_scale as f32
}

/// `sum * scale + zero`, rounded half to even and saturated to `dtype`.
pub(crate) fn requantized(sum: f64, scale: f64, zero: i128, dtype: DType) -> i128 {
    let (low, high) = dtype.int_range().unwrap_or((0, 255));
    ((sum * scale).round_ties_even() as i128).saturating_add(zero).clamp(low, high)
}

/// A sum of products in the result's scale. Both conversion and product are rounded to float32, as onnxruntime rounds them:
/// this decides on which side of a tie the sum falls.
pub(crate) fn requantized_sum(sum: i128, scale: f32, zero: i128, dtype: DType) -> i128 {
    requantized((sum as f32 * scale).into(), 1.0, zero, dtype)
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
