//! com.microsoft.GatherBlockQuantized: rows of a table of 8-, 4- or 2-bit numbers, which share a scale and a zero point in blocks.
//! Only the rows that are asked for become floats.
//!
//! An index outside of the table gives zeros, as in onnxruntime. Without zero points, numbers in a uint8 are centred, and those of
//! uint4 and int4 are not. History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{
    Array, Attr, DType, NodeDef, OWN_DOMAIN, Op, Operator, Row, Tensor, Why, microsoft, product, refuse,
    required, types,
};
use crate::facts::Fact;
use crate::graph::ValueId;
use crate::kernels::expr::{Fn2, Scalar};
use crate::plan::Lower;

/// The numbers in a tensor, as int32. A uint8 holds several numbers of fewer bits, the lowest bits first.
#[derive(Clone, Debug)]
pub(crate) struct UnpackedBits {
    bits: usize,
    /// Whether the middle of the range is subtracted from the numbers in a uint8.
    centred: bool,
}

pub(crate) const ROWS: &[Row] = &[
    microsoft(
        "GatherBlockQuantized",
        types![
            T1 Tind T2 T1 -> T2;
            T1: U8 INT4 F4E2M1 FLOAT8, T2: F16 F32 BF16, Tind: INDICES
        ],
        parse,
        cases,
    ),
    Row {
        domain: OWN_DOMAIN,
        name: "UnpackedBits",
        opsets: (1, 1),
        types: types![T -> int32; T: U8 INT4],
        parse: parse_unpacked,
        cases: Vec::new,
    },
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let (a, mut body) = (def.attributes, Body::new(def));
    let block = a.int_or("block_size", 128)?;
    if a.int_or("gather_axis", 0)? != 0 || !matches!(a.int_or("quantize_axis", 1)?, 1 | -1) {
        refuse!("only rows are supported (gather_axis 0), with blocks along columns (quantize_axis 1)");
    }
    if block < 1 {
        refuse!("block_size is {block}, and must be positive");
    }
    let (data, indices, scales) = (body.input(0)?, body.input(1)?, body.input(2)?);
    let data = body.of_rank(data, 2)?;
    let flat = body.reshaped(indices, &[-1])?;
    let flat = body.cast(flat, DType::I64)?;
    let count = body.size(data, 0)?;
    let (zero, below) = (body.scalar(0i64), body.node("Neg", &[count])?);
    let (least, high) = (body.node("GreaterOrEqual", &[flat, below])?, body.node("Less", &[flat, count])?);
    let exists = body.node("And", &[least, high])?;
    let rows = body.node("Where", &[exists, flat, zero])?;
    let bits = ("bits", Attr::Int(a.int_or("bits", 4)?));
    let zeros = body.optional(3);
    let centred = ("centred", Attr::Int(i64::from(zeros.is_none())));
    let numbers = body.node("sardonyx.Gather", &[data, rows])?;
    let numbers = body.with("sardonyx.UnpackedBits", &[bits.clone(), centred], &[numbers])?;
    let mut numbers = body.reshaped(numbers, &[0, -1, block])?;
    let (axes, scales) = (body.list(&[2]), body.node("Gather", &[scales, rows])?);
    if let Some(zeros) = zeros {
        let zeros = body.node("sardonyx.Gather", &[zeros, rows])?;
        let zeros = body.with("sardonyx.UnpackedBits", &[bits], &[zeros])?;
        // The last byte of a row may hold more zero points than there are blocks.
        let (start, blocks, along) = (body.list(&[0]), body.size(scales, 1)?, body.list(&[1]));
        let zeros = body.node("Slice", &[zeros, start, blocks, along])?;
        let zeros = body.node("Unsqueeze", &[zeros, axes])?;
        numbers = body.node("Sub", &[numbers, zeros])?;
    }
    let y = scaled(&mut body, numbers, scales, axes)?;
    let y = body.reshaped(y, &[0, -1])?;
    let (one, none) = (body.list(&[1]), body.number(0.0, y)?);
    let exists = body.node("Unsqueeze", &[exists, one])?;
    let y = body.node("Where", &[exists, y, none])?;
    let y = body.node("CastLike", &[y, scales])?;
    let (outer, columns) = (body.node("Shape", &[indices])?, body.size(y, 1)?);
    let shape = body.joined(&[outer, columns])?;
    let y = body.node("Reshape", &[y, shape])?;
    body.finish(&[y])
}

fn scaled(body: &mut Body, numbers: ValueId, scales: ValueId, axes: ValueId) -> Result<ValueId, Why> {
    let scales = body.node("Unsqueeze", &[scales, axes])?;
    let (numbers, scales) = (body.cast(numbers, DType::F32)?, body.cast(scales, DType::F32)?);
    body.node("Mul", &[numbers, scales])
}

fn parse_unpacked(def: &NodeDef) -> Result<Op, Why> {
    let bits = match def.attributes.int_or("bits", 4)? {
        bits @ (2 | 4 | 8) => bits as usize,
        bits => refuse!("numbers of {bits} bits are not supported; those of 8, 4 and 2 are"),
    };
    Ok(UnpackedBits { bits, centred: def.attributes.flag("centred", false)? }.into())
}

impl UnpackedBits {
    fn per_element(&self, dtype: DType) -> usize {
        if dtype == DType::U8 { 8 / self.bits } else { 1 }
    }

    fn middle(&self) -> i128 {
        if self.centred { 1 << (self.bits - 1) } else { 0 }
    }

    fn shape(&self, dtype: DType, x: &[usize]) -> Result<Vec<usize>, Why> {
        let mut shape = x.to_vec();
        let Some(last) = shape.last_mut() else { refuse!("a scalar has no axis along which numbers lie") };
        *last = last.saturating_mul(self.per_element(dtype));
        Ok(shape)
    }
}

impl Operator for UnpackedBits {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        Ok(vec![Fact::new(DType::I32, self.shape(x.dtype, &x.shape)?)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (count, mask) = (self.per_element(x.dtype), (1 << self.bits) - 1);
        let mut numbers = Vec::with_capacity(x.len() * count);
        for &element in x.ints()? {
            match x.dtype {
                DType::U8 => {
                    numbers.extend((0..count).map(|i| (element >> (i * self.bits) & mask) - self.middle()))
                }
                _ => numbers.push(element),
            }
        }
        Ok(vec![Array::int(DType::I32, &self.shape(x.dtype, &x.shape)?, numbers)])
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (x, fact) = (cx.input(0)?, cx.fact(0)?);
        let (count, per) = (product(&fact.shape), self.per_element(fact.dtype));
        let output = cx.output(0)?;
        if fact.dtype != DType::U8 {
            cx.elementwise_to(output, (DType::I32, &[count]), &[(x, &[count])], |e, regs| {
                e.convert(regs[0], Scalar::I32)
            });
            return Ok(());
        }
        let bits = self.bits;
        let shifts = cx.words(per, || (0..per).map(|i| (i * bits) as u32).collect())?;
        let operands = [(x, &[count, 1][..]), (shifts, &[per][..])];
        cx.elementwise_to(output, (DType::I32, &[count, per]), &operands, |e, regs| {
            let byte = e.convert(regs[0], Scalar::U32);
            let mask = e.constant(Scalar::U32, f64::from((1u32 << bits) - 1));
            let shifted = e.two(Fn2::ShiftRight, byte, regs[1]);
            let number = e.two(Fn2::BitAnd, shifted, mask);
            let number = e.convert(number, Scalar::I32);
            let middle = e.constant(Scalar::I32, self.middle() as f64);
            e.sub(number, middle)
        });
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let bytes = |shape: &[usize]| case::converted(&case::integers(shape, 0, 256), DType::U8);
    let small = |dtype: DType, shape: &[usize]| {
        let least = if dtype == DType::U4 { 0 } else { -8 };
        case::converted(&case::integers(shape, least, least + 16), dtype)
    };
    let new = |name: &str, data: Tensor, blocks: usize| {
        let case = Case::new("GatherBlockQuantized", name).of_microsoft().tolerance(Tolerance::ARITHMETIC);
        let indices = case::values(&[2, 3], &[0i64, 4, -1, 7, 2, -9]);
        case.int("block_size", 16).constant(data).input(indices).constant(case::uniform(
            &[5, blocks],
            0.1,
            0.2,
        ))
    };
    vec![
        new("bytes", bytes(&[5, 24]), 3),
        new("bytes_zeros", bytes(&[5, 24]), 3).constant(bytes(&[5, 2])),
        new("eight_bits", bytes(&[5, 48]), 3).int("bits", 8).constant(bytes(&[5, 3])),
        new("uint4", small(DType::U4, &[5, 48]), 3),
        new("int4_zeros", small(DType::I4, &[5, 48]), 3).constant(small(DType::I4, &[5, 3])),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::evaluated;
    use super::*;

    /// onnxruntime gives zeros where the index is outside, and takes 8 for the zero point of 4 bits in a uint8.
    #[test]
    fn rows_outside_are_zeros() {
        let case = Case::new("GatherBlockQuantized", "outside").of_microsoft().int("block_size", 16);
        let data: Vec<u8> = (0..8).map(|i| if i == 0 { 0x3f } else { 0x88 }).collect();
        let case = case.input(case::values(&[1, 8], &data)).input(case::list(&[0, 1, -1]));
        let y = evaluated(&case.input(case::values(&[1, 1], &[0.5f32])));
        assert_eq!(
            [&y[..3], &y[16..19], &y[32..35]].concat(),
            [3.5, -2.5, 0.0, 0.0, 0.0, 0.0, 3.5, -2.5, 0.0]
        );
    }
    /// Numbers of uint4 are not centred, where those in a uint8 are.
    #[test]
    fn small_integers_are_not_centred() {
        let case = Case::new("GatherBlockQuantized", "uint4").of_microsoft().int("block_size", 16);
        let numbers: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let case = case.input(case::converted(&case::values(&[1, 16], &numbers), DType::U4));
        let y = evaluated(&case.input(case::list(&[0])).input(case::values(&[1, 1], &[0.5f32])));
        assert_eq!(y, (0..16).map(|i| f64::from(i) * 0.5).collect::<Vec<_>>());
    }
}
