//! QuantizeLinear: floats (or int32) are divided by a scale, rounded half to even, moved by a zero point, and saturated.
//!
//! History: 10 (one scale), 13 (a scale for each index of an axis), 19 (float16, float8, `saturate`), 21 (blocks,
//! `output_dtype`, 16- and 4-bit types), 23 (`precision`), 24, 25 (2-bit types), 28.

use super::axes::axis;
use super::case::{self, Case, Tolerance};
use super::{
    Array, Attributes, DType, Maps, NodeDef, Op, Operator, Row, Tensor, Types, Why, Work, microsoft,
    of_elements, onnx, optional, refuse, required, types,
};
use crate::array::{number, ravel, unravel};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg, Scalar};
use crate::plan::Pairing;
use crate::small::{Format, SMALL_FLOATS};

/// The attributes. A missing zero point is 0.
#[derive(Clone, Debug)]
pub(crate) struct Quantize {
    granularity: Granularity,
    saturate: bool,
    output: Option<DType>,
    /// The type to which the quotient is rounded.
    precision: DType,
}

/// The elements that share a scale: all, those with one index of `axis`, or `block` neighbours along it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granularity {
    axis: i64,
    block: usize,
}

const TYPES: Types = types![
    T1 float32 T2 -> T2; T1: F32 I32, T2: BYTES
    | 19: T1 T1 T2 -> T2; T1: F32 F16 BF16 I32, T2: FLOAT8 BYTES INT4@21 I16@21 U16@21
    | 23: T1 T2 T3 -> T3; T1: F32 F16 BF16 I32, T2: F32 F16 BF16 I32 F8E8M0@24, T3: FLOAT8 BYTES INT4 I16 U16 F4E2M1 INT2@25 FLOAT6@28
];

const MICROSOFT: Types = types![T1 T1 T2 -> T2; T1: F32 F16, T2: BYTES I16 U16 INT4];

pub(crate) const ROWS: &[Row] = &[
    onnx("QuantizeLinear", 10, TYPES, parse, cases),
    microsoft("QuantizeLinear", MICROSOFT, parse, || {
        let taken = ["uint8", "int16", "axis"].map(|name| format!("QuantizeLinear/{name}"));
        let named = |case: &Case| taken.contains(&case.name);
        cases().into_iter().filter(named).map(Case::of_microsoft).collect()
    }),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let precision = dtype_attribute(def.attributes, "precision")?.unwrap_or(DType::F32);
    Ok(Quantize {
        granularity: Granularity::parse(def.attributes)?,
        saturate: def.attributes.flag("saturate", true)?,
        output: dtype_attribute(def.attributes, "output_dtype")?,
        precision,
    }
    .into())
}

/// An attribute that is an ONNX element type's number; 0 counts as absent.
pub(crate) fn dtype_attribute(attributes: &Attributes, name: &str) -> Result<Option<DType>, Why> {
    let code = attributes.int_or(name, 0)?;
    match i32::try_from(code).ok().and_then(DType::from_onnx) {
        _ if code == 0 => Ok(None),
        Some(dtype) => Ok(Some(dtype)),
        None => refuse!("{name} {code} is no element type"),
    }
}

impl Granularity {
    pub(crate) fn parse(attributes: &Attributes) -> Result<Granularity, Why> {
        let block = attributes.int_or("block_size", 0)?;
        let Ok(block) = usize::try_from(block) else { refuse!("block_size {block} is negative") };
        Ok(Granularity { axis: attributes.int_or("axis", 1)?, block })
    }

    /// The axis along which a vector of scales lies; from the end if it is negative.
    pub(crate) fn vector_axis(&self) -> i64 {
        self.axis
    }

    /// Whether a scale of one element is the scale of all elements, whatever their shape.
    pub(crate) fn one_scale(&self) -> bool {
        self.block == 0
    }

    /// The number of neighbours that share a scale, where scales belong to blocks.
    pub(crate) fn block(&self) -> Option<usize> {
        (self.block > 0).then_some(self.block)
    }

    /// The axis along which the scale varies, or `None` if there is one scale; a scale that does not fit is refused.
    pub(crate) fn axis(&self, x: &[usize], scale: &[usize]) -> Result<Option<usize>, Why> {
        if scale.is_empty() || (scale == [1] && self.block == 0) {
            return Ok(None);
        }
        let axis = axis(self.axis, x.len())?;
        let blocks = if self.block == 0 { x[axis] } else { x[axis].div_ceil(self.block) };
        let mut expected = if self.block == 0 { vec![1; x.len()] } else { x.to_vec() };
        expected[axis] = blocks;
        if self.block == 0 {
            expected = vec![blocks];
        }
        if scale != expected {
            refuse!("the scale has shape {scale:?}, where {expected:?} fits the input {x:?}");
        }
        Ok(Some(axis))
    }

    /// The number of the scale of element `i`.
    #[allow(clippy::manual_checked_ops)] // Block 0 has a meaning of its own.
    pub(crate) fn index(&self, i: usize, x: &[usize], scale: &[usize]) -> Result<usize, Why> {
        let Some(axis) = self.axis(x, scale)? else { return Ok(0) };
        let mut at = unravel(i, x);
        Ok(if self.block == 0 {
            at[axis]
        } else {
            at[axis] /= self.block;
            ravel(&at, scale)
        })
    }

    /// The shapes of the scale and of the input under which broadcasting pairs their elements.
    pub(crate) fn pairing(&self, x: &[usize], scale: &[usize]) -> Result<Option<Pairing>, Why> {
        let Some(axis) = self.axis(x, scale)? else { return Ok(None) };
        let (before, after) = (&x[..axis], &x[axis + 1..]);
        if self.block == 0 {
            let mut operand = vec![1; x.len() - axis];
            operand[0] = x[axis];
            return Ok(Some(Pairing { operand, result: x.to_vec() }));
        }
        let blocks = scale[axis];
        if blocks <= 1 {
            return Ok(Some(Pairing { operand: scale.to_vec(), result: x.to_vec() }));
        }
        if x[axis] != blocks * self.block {
            refuse!("the device has no blocks of {} that do not divide axis {axis} of {x:?}", self.block);
        }
        let split = |last| [before, &[blocks, last], after].concat();
        Ok(Some(Pairing { operand: split(1), result: split(self.block) }))
    }
}

impl Quantize {
    pub(crate) fn granularity(&self) -> &Granularity {
        &self.granularity
    }

    /// The result's dtype.
    pub(crate) fn output(&self, zero_point: Option<DType>) -> Result<DType, Why> {
        match (zero_point, self.output) {
            (Some(zero), Some(output)) if zero != output => {
                refuse!("output_dtype is {output}, but the zero point is {zero}")
            }
            (Some(dtype), _) | (_, Some(dtype)) => Ok(dtype),
            _ => Ok(DType::U8),
        }
    }
}

impl Operator for Quantize {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, scale, zero_point) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        for operand in [Some(scale), zero_point].into_iter().flatten() {
            self.granularity.axis(&x.shape, &operand.shape)?;
        }
        Ok(vec![Fact::new(self.output(zero_point.map(|fact| fact.dtype))?, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, scale, zero_point) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        let output = self.output(zero_point.map(|array| array.dtype))?;
        let (scales, zeros) = (scale.to_f64()?, zero_point.map(|zero| zero.to_f64()).transpose()?);
        let mut quotients = Vec::with_capacity(x.len());
        let mut offsets = Vec::with_capacity(x.len());
        for (i, value) in x.to_f64()?.into_iter().enumerate() {
            let divisor = scales[self.granularity.index(i, &x.shape, &scale.shape)?];
            quotients.push(number::round_float(self.precision, value / divisor));
            offsets.push(match (zero_point, &zeros) {
                (Some(zero), Some(values)) => values[self.granularity.index(i, &x.shape, &zero.shape)?],
                _ => 0.0,
            });
        }
        let sums = quotients.iter().zip(offsets);
        Ok(vec![match output.int_range() {
            Some((low, high)) => {
                let rounded = sums.map(|(q, offset)| (q.round_ties_even() + offset) as i128);
                Array::int(output, &x.shape, rounded.map(|v| v.clamp(low, high)).collect())
            }
            None => {
                let sums = Array::float(DType::F32, &x.shape, sums.map(|(q, offset)| q + offset).collect());
                number::cast(&sums, output, self.saturate)?
            }
        }])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        // The scale is looked up for each element.
        Ok(of_elements(inputs, outputs).times(2))
    }

    fn pairing(&self, i: usize, inputs: &[Option<&Fact>]) -> Result<Option<Pairing>, Why> {
        if i == 0 {
            return Ok(None);
        }
        self.granularity.pairing(&required(inputs, 0)?.shape, &required(inputs, i)?.shape)
    }

    fn maps(&self) -> Maps {
        Maps::FirstByAxis
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], out: DType) -> Option<Reg> {
        let (x, scale) = (required(inputs, 0).ok()?, required(inputs, 1).ok()?);
        if out.bits() > 16 {
            return None;
        }
        let (x, scale) = (e.convert(x, Scalar::F32), e.convert(scale, Scalar::F32));
        let quotient = e.two(Fn2::DivRounded, x, scale);
        let mut quotient = e.narrow(quotient, self.precision);
        if Format::of(out).is_none() {
            out.int_range()?;
            return Some(saturated(e, quotient, optional(inputs, 2), out));
        }
        if let Some(zero) = optional(inputs, 2) {
            quotient = e.add(quotient, zero);
        }
        Some(if self.saturate { clamped(e, quotient, out) } else { quotient })
    }
}

/// `value`, limited to the range of `out`, a small float type.
pub(crate) fn clamped(e: &mut Builder, value: Reg, out: DType) -> Reg {
    let most = Format::of(out).map_or(f64::INFINITY, |format| format.most) as f32;
    let (least, most) = (e.f32(-most), e.f32(most));
    let raised = e.two(Fn2::Max, value, least);
    e.two(Fn2::Min, raised, most)
}

/// `quotient`, rounded, moved by the zero point, and limited to the range of `out`, an integer type of at most 16 bits.
pub(crate) fn saturated(e: &mut Builder, quotient: Reg, zero_point: Option<Reg>, out: DType) -> Reg {
    let rounded = e.one(Fn1::Round, quotient);
    // Beyond these, every 16-bit zero point saturates; up to them, the conversion to an integer is in range.
    let (least, most) = (e.f32(-131_072.0), e.f32(131_072.0));
    let raised = e.two(Fn2::Max, rounded, least);
    let bounded = e.two(Fn2::Min, raised, most);
    let mut value = e.convert(bounded, Scalar::I32);
    if let Some(zero) = zero_point {
        let zero = e.convert(zero, Scalar::I32);
        value = e.add(value, zero);
    }
    let (low, high) = out.int_range().unwrap_or_default();
    let (low, high) = (e.constant(Scalar::I32, low as f64), e.constant(Scalar::I32, high as f64));
    let raised = e.two(Fn2::Max, value, low);
    let saturated = e.two(Fn2::Min, raised, high);
    e.convert(saturated, Scalar::of(out).unwrap_or(Scalar::I32))
}

/// The scales of the case with numbers halfway between two steps.
const SCALES: usize = 96;

/// The numbers of 8 bits.
const BYTES: usize = 256;

/// Scales from 2^-48 to 2^48, none of them a power of two.
fn scales() -> [f32; SCALES] {
    std::array::from_fn(|i| ((i as f32) - 48.0).exp2() * (1.0 + (i as f32 * 37.0 % 101.0 + 1.0) / 103.0))
}

/// Halfway between each two neighbours of 256 steps, as float32 rounds it: a quotient that is off by one unit goes to the other step.
fn halves_of(scale: f32) -> [f32; BYTES] {
    std::array::from_fn(|k| ((k as f64 - 127.5) * f64::from(scale)) as f32)
}

fn halves() -> Tensor {
    case::values(&[SCALES, BYTES], &scales().map(halves_of).concat())
}

fn cases() -> Vec<Case> {
    let new = |case: &str| Case::new("QuantizeLinear", case).tolerance(Tolerance::EXACT);
    let x = |shape: &[usize]| case::uniform(shape, -200.0, 300.0);
    let scale = |shape: &[usize]| case::uniform(shape, 0.7, 1.9);
    let half = case::values(&[], &[0.5f32]);
    let mut cases = vec![
        new("uint8").input(x(&[3, 7])).input(half.clone()).input(case::values(&[], &[128u8])),
        new("int8").input(x(&[3, 7])).constant(half.clone()).constant(case::values(&[], &[-3i8])),
        new("int16").input(x(&[9])).input(half.clone()).input(case::values(&[], &[-300i16])),
        new("uint16").input(x(&[9])).input(half.clone()).input(case::values(&[], &[32767u16])),
        new("default").opset(10).input(x(&[3, 7])).input(half.clone()),
        new("ties")
            .input(case::values(&[6], &[0.25f32, 0.75, 1.25, -0.25, -0.75, 1e30]))
            .input(half.clone())
            .input(case::values(&[1], &[0i8])),
        // Later versions take float16, which does not hold these scales.
        new("halves")
            .opset(13)
            .int("axis", 0)
            .input(halves())
            .input(case::values(&[SCALES], &scales()))
            .constant(case::values(&[SCALES], &[128u8; SCALES])),
        new("halves of one scale")
            .input(case::values(&[BYTES], &halves_of(0.003_921_569)))
            .constant(case::values(&[], &[0.003_921_569f32]))
            .constant(case::values(&[], &[-3i8])),
        new("one").input(x(&[2, 3])).input(case::values(&[1], &[2.0f32])),
        new("scalar").input(x(&[])).input(half.clone()),
        new("empty").input(x(&[0, 3])).input(half.clone()),
        new("axis")
            .opset(13)
            .input(x(&[2, 3, 5]))
            .input(scale(&[3]))
            .input(case::values(&[3], &[1u8, 2, 200])),
        new("last axis").int("axis", -1).input(x(&[2, 3, 5])).constant(scale(&[5])),
        new("blocks").int("axis", 1).int("block_size", 2).input(x(&[2, 6, 3])).input(scale(&[2, 3, 3])),
        new("last blocks")
            .int("axis", -1)
            .int("block_size", 4)
            .int("output_dtype", i64::from(DType::I8.onnx()))
            .input(x(&[3, 8]))
            .input(scale(&[3, 2]))
            .input(case::values(&[3, 2], &[1i8, 2, 3, -4, -5, -6])),
        new("one block").int("axis", 0).int("block_size", 8).input(x(&[5, 2])).input(scale(&[1, 2])),
        new("int32").input(case::values(&[3], &[-1000i32, 7, 90])).input(case::values(&[], &[3.0f32])),
        new("precision")
            .int("precision", i64::from(DType::F16.onnx()))
            .input(case::uniform(&[17], -100.0, 100.0))
            .input(half.clone()),
    ];
    for to in SMALL_FLOATS {
        let wide = || case::uniform(&[3, 37], -300.0, 300.0);
        let special = [0.0f32, -0.0, 1e-9, 0.01, -0.3, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e30];
        let of = |case: &str| new(&format!("{to}{case}")).int("output_dtype", i64::from(to.onnx()));
        cases.push(of("").input(wide()).input(half.clone()));
        cases.push(of(" special").input(case::values(&[9], &special)).input(half.clone()));
        cases.push(of(" unsaturated").int("saturate", 0).input(wide()).input(half.clone()));
        let zero = case::converted(&case::values(&[3], &[1.0f32, 0.5, -2.0]), to);
        cases.push(of(" axis").int("axis", 0).input(wide()).input(scale(&[3])).input(zero));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_block_may_be_short() {
        let granularity = Granularity { axis: 1, block: 2 };
        let scales: Vec<usize> = (0..6).map(|i| granularity.index(i, &[2, 3], &[2, 2]).unwrap()).collect();
        assert_eq!(scales, [0, 0, 1, 2, 2, 3]);
        assert!(granularity.pairing(&[2, 3], &[2, 2]).is_err());
        assert!(granularity.axis(&[2, 3], &[2, 1]).is_err());
    }
}
