//! com.microsoft.GatherBlockQuantized: rows of a table of 8-, 4- or 2-bit numbers, which share a scale and a zero point in blocks.
//! Only the slices that are asked for become floats.
//!
//! An index outside of the table gives zeros, as in onnxruntime. Without zero points, numbers in a uint8 are centred, and those of
//! uint4 and int4 are not. History: com.microsoft 1.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{
    Array, Attr, DType, NodeDef, OWN_DOMAIN, Op, Operator, Row, Tensor, Why, axes, microsoft, product,
    refuse, required, types,
};
use crate::facts::Fact;
use crate::graph::ValueId;
use crate::kernels::expr::{Fn2, Scalar};
use crate::plan::Lower;

/// The numbers in a tensor, as float32. A uint8 holds several numbers of fewer bits along the last axis, the lowest bits first.
#[derive(Clone, Debug)]
pub(crate) struct UnpackedBits {
    bits: usize,
    gather_axis: i64,
    quantize_axis: i64,
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
        types: types![T -> float32; T: U8 INT4 F4E2M1 FLOAT8],
        parse: parse_unpacked,
        cases: Vec::new,
    },
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let (a, mut body) = (def.attributes, Body::new(def));
    let (gathered, quantized) = (a.int_or("gather_axis", 0)?, a.int_or("quantize_axis", 1)?);
    let (block, bits) = (a.int_or("block_size", 128)?, a.int_or("bits", 4)?);
    if block < 0 {
        refuse!("block_size is {block}, and must not be negative");
    }
    let (data, indices, scales) = (body.input(0)?, body.input(1)?, body.input(2)?);
    let (count, zero) = (body.size(data, gathered)?, body.scalar(0i64));
    let flat = body.reshaped(indices, &[-1])?;
    let flat = body.cast(flat, DType::I64)?;
    let (from_the_end, wrapped) = (body.node("Less", &[flat, zero])?, body.node("Add", &[flat, count])?);
    let wrapped = body.node("Where", &[from_the_end, wrapped, flat])?;
    let (least, high) =
        (body.node("GreaterOrEqual", &[wrapped, zero])?, body.node("Less", &[wrapped, count])?);
    let exists = body.node("And", &[least, high])?;
    let rows = body.node("Where", &[exists, wrapped, zero])?;

    let unpacked = |body: &mut Body, packed: ValueId, centred: bool| {
        let attributes = [("bits", bits), ("gather_axis", gathered), ("quantize_axis", quantized)];
        let mut attributes = attributes.map(|(name, value)| (name, Attr::Int(value))).to_vec();
        attributes.push(("centred", Attr::Int(i64::from(centred))));
        body.with("sardonyx.UnpackedBits", &attributes, &[packed])
    };
    let zeros = body.optional(3);
    let numbers = body.with("sardonyx.Gather", &axis(gathered), &[data, rows])?;
    let mut numbers = unpacked(&mut body, numbers, zeros.is_none())?;
    let blocks =
        TableBlocks { size: block, gathered, quantized, rows, length: body.size(numbers, quantized)? };
    if let Some(zeros) = zeros {
        let zeros = blocks.gathered(&mut body, zeros)?;
        let zeros = unpacked(&mut body, zeros, false)?;
        let zeros = blocks.spread(&mut body, zeros)?;
        numbers = body.node("Sub", &[numbers, zeros])?;
    }
    let factors = blocks.gathered(&mut body, scales)?;
    let factors = body.cast(factors, DType::F32)?;
    let factors = blocks.spread(&mut body, factors)?;
    let y = body.node("Mul", &[numbers, factors])?;

    let (before, after) =
        (Some(("end", gathered)), (gathered != -1).then_some(("start", gathered.saturating_add(1))));
    let mut sizes = |part: Option<(&str, i64)>| match part {
        Some((name, at)) => body.with("Shape", &[(name, Attr::Int(at))], &[y]),
        None => Ok(body.list(&[])),
    };
    let (before, after) = (sizes(before)?, sizes(after)?);
    let (all, none, one) = (body.list(&[-1]), body.scalar(0i64), body.scalar(1i64));
    let ones = body.node("Mul", &[after, none])?;
    let ones = body.node("Add", &[ones, one])?;
    let shape = body.joined(&[all, ones])?;
    let (exists, none) = (body.node("Reshape", &[exists, shape])?, body.number(0.0, y)?);
    let y = body.node("Where", &[exists, y, none])?;
    let y = body.node("CastLike", &[y, scales])?;
    let picked = body.node("Shape", &[indices])?;
    let shape = body.joined(&[before, picked, after])?;
    let y = body.node("Reshape", &[y, shape])?;
    body.finish(&[y])
}

fn axis(axis: i64) -> [(&'static str, Attr); 1] {
    [("axis", Attr::Int(axis))]
}

/// Which block each element that is gathered lies in.
struct TableBlocks {
    /// Elements of a block along the axis `quantized`; 0 where all of them are one block.
    size: i64,
    gathered: i64,
    quantized: i64,
    /// What is gathered along the axis `gathered`.
    rows: ValueId,
    /// The size of what was gathered along the axis `quantized`.
    length: ValueId,
}

impl TableBlocks {
    /// What the blocks of the rows have, of a tensor with an element for each block. It may have one for all rows.
    fn gathered(&self, body: &mut Body, of_blocks: ValueId) -> Result<ValueId, Why> {
        let rows = if self.gathered == self.quantized {
            self.block(body, self.rows)?
        } else {
            // 0 for one of all rows. Of other sizes, Gather refuses a row that does not exist.
            let (count, one) = (body.size(of_blocks, self.gathered)?, body.scalar(1i64));
            let others = body.node("Sub", &[count, one])?;
            let own = body.node("Min", &[others, one])?;
            body.node("Mul", &[self.rows, own])?
        };
        body.with("sardonyx.Gather", &axis(self.gathered), &[of_blocks, rows])
    }

    /// What the elements of the rows have.
    fn spread(&self, body: &mut Body, of_blocks: ValueId) -> Result<ValueId, Why> {
        if self.gathered == self.quantized || self.size == 0 {
            return Ok(of_blocks);
        }
        let elements = body.counted(self.length)?;
        let blocks = self.block(body, elements)?;
        body.with("Gather", &axis(self.quantized), &[of_blocks, blocks])
    }

    fn block(&self, body: &mut Body, elements: ValueId) -> Result<ValueId, Why> {
        let size = body.scalar(if self.size == 0 { i64::from(i32::MAX) } else { self.size });
        body.node("Div", &[elements, size])
    }
}

fn parse_unpacked(def: &NodeDef) -> Result<Op, Why> {
    let a = def.attributes;
    let bits = match a.int_or("bits", 4)? {
        bits @ (2 | 4 | 8) => bits as usize,
        bits => refuse!("numbers of {bits} bits are not supported; those of 8, 4 and 2 are"),
    };
    let (gather_axis, quantize_axis) = (a.int_or("gather_axis", 0)?, a.int_or("quantize_axis", 1)?);
    Ok(UnpackedBits { bits, gather_axis, quantize_axis, centred: a.flag("centred", false)? }.into())
}

impl UnpackedBits {
    fn per_element(&self, dtype: DType) -> usize {
        if dtype == DType::U8 { 8 / self.bits } else { 1 }
    }

    fn middle(&self) -> i128 {
        if self.centred { 1 << (self.bits - 1) } else { 0 }
    }

    fn fact(&self, dtype: DType, x: &[usize]) -> Result<Fact, Why> {
        let gathered = axes::axis(self.gather_axis, x.len())?;
        if gathered != 0 && dtype == DType::U8 {
            refuse!("a table of uint8 is gathered along its first axis, not along gather_axis {gathered}");
        }
        // The body has another form where both are the same axis, and knows no rank.
        if self.gather_axis != self.quantize_axis && gathered == axes::axis(self.quantize_axis, x.len())? {
            refuse!("gather_axis and quantize_axis are the same axis: write {gathered} for both");
        }
        let mut shape = x.to_vec();
        let last = shape.len() - 1;
        shape[last] = shape[last].saturating_mul(self.per_element(dtype));
        Ok(Fact::new(DType::F32, shape))
    }
}

impl Operator for UnpackedBits {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        Ok(vec![self.fact(x.dtype, &x.shape)?])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (count, mask) = (self.per_element(x.dtype), (1 << self.bits) - 1);
        let shape = self.fact(x.dtype, &x.shape)?.shape;
        if x.dtype.is_float() {
            return Ok(vec![Array::float(DType::F32, &shape, x.floats()?.to_vec())]);
        }
        let mut numbers = Vec::with_capacity(x.len() * count);
        for &element in x.ints()? {
            match x.dtype {
                DType::U8 => numbers.extend((0..count).map(|i| {
                    let number = element >> (i * self.bits) & mask;
                    (number - self.middle()) as f64
                })),
                _ => numbers.push(element as f64),
            }
        }
        Ok(vec![Array::float(DType::F32, &shape, numbers)])
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (x, fact) = (cx.input(0)?, cx.fact(0)?);
        let (count, per) = (product(&fact.shape), self.per_element(fact.dtype));
        let output = cx.output(0)?;
        if fact.dtype != DType::U8 {
            cx.elementwise_to(output, (DType::F32, &[count]), &[(x, &[count])], |e, regs| {
                e.convert(regs[0], Scalar::F32)
            });
            return Ok(());
        }
        let bits = self.bits;
        let shifts = cx.words(per, || (0..per).map(|i| (i * bits) as u32).collect())?;
        let operands = [(x, &[count, 1][..]), (shifts, &[per][..])];
        cx.elementwise_to(output, (DType::F32, &[count, per]), &operands, |e, regs| {
            let byte = e.convert(regs[0], Scalar::U32);
            let mask = e.constant(Scalar::U32, f64::from((1u32 << bits) - 1));
            let shifted = e.two(Fn2::ShiftRight, byte, regs[1]);
            let number = e.two(Fn2::BitAnd, shifted, mask);
            let number = e.convert(number, Scalar::I32);
            let middle = e.constant(Scalar::I32, self.middle() as f64);
            let number = e.sub(number, middle);
            e.convert(number, Scalar::F32)
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
    let scales = |shape: &[usize]| case::uniform(shape, 0.1, 0.2);
    let of_blocks = |name: &str, data: Tensor, blocks: &[usize], size: i64| {
        let case = Case::new("GatherBlockQuantized", name).of_microsoft().tolerance(Tolerance::ARITHMETIC);
        let indices = case::values(&[2, 3], &[0i64, 4, -1, 7, 2, -9]);
        case.int("block_size", size).constant(data).input(indices).constant(scales(blocks))
    };
    let of = |name: &str, data: Tensor, blocks: &[usize]| of_blocks(name, data, blocks, 16);
    let axes =
        |case: Case, gathered, quantized| case.int("gather_axis", gathered).int("quantize_axis", quantized);
    let floats = |dtype: DType, shape: &[usize]| case::converted(&case::uniform(shape, -6.0, 6.0), dtype);
    vec![
        of("bytes", bytes(&[5, 24]), &[5, 3]),
        of("bytes_zeros", bytes(&[5, 24]), &[5, 3]).constant(bytes(&[5, 2])),
        of("eight_bits", bytes(&[5, 48]), &[5, 3]).int("bits", 8).constant(bytes(&[5, 3])),
        of("uneven", bytes(&[5, 33]), &[5, 3]).int("bits", 8),
        axes(of("bytes_of_rank_3", bytes(&[5, 32, 3]), &[5, 2, 6]), 0, 1).constant(bytes(&[5, 2, 3])),
        of("uint4", small(DType::U4, &[5, 48]), &[5, 3]),
        of("int4_zeros", small(DType::I4, &[5, 48]), &[5, 3]).constant(small(DType::I4, &[5, 3])),
        axes(of("columns", small(DType::I4, &[40, 5]), &[3, 5]), 1, 0).constant(small(DType::I4, &[3, 5])),
        axes(of("columns_of_many", small(DType::U4, &[3, 5, 24]), &[3, 5, 2]), -2, -1),
        axes(of("last", small(DType::I4, &[2, 17, 5]), &[2, 2, 5]), -1, 1),
        axes(of("within_blocks", small(DType::I4, &[20, 3]), &[2, 3]), 0, 0)
            .constant(small(DType::I4, &[2, 3])),
        of("float8", floats(DType::F8E4M3FN, &[5, 32]), &[5, 2]),
        of_blocks("float4_and_one_scale", floats(DType::F4E2M1, &[5, 32]), &[1, 1], 0),
        axes(of_blocks("float8_within", floats(DType::F8E5M2, &[5, 6]), &[1, 6], 0), 0, 0),
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

    /// A table of five rows with scales of three.
    #[test]
    fn rows_without_scales_are_refused() {
        let case = Case::new("GatherBlockQuantized", "scales").of_microsoft().int("block_size", 16);
        let numbers = case::converted(&case::integers(&[5, 16], 0, 16), DType::U4);
        let of = |row: i64| case.clone().input(numbers.clone()).input(case::list(&[row]));
        let scales = case::values(&[3, 1], &[1.0f32, 1.0, 1.0]);
        assert_eq!(evaluated(&of(2).input(scales.clone())).len(), 16);
        let beyond = std::panic::catch_unwind(|| evaluated(&of(4).input(scales.clone())));
        assert!(beyond.is_err());
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
