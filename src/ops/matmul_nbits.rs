//! com.microsoft.MatMulNBits: a product with weights of 8, 4 or 2 bits, which share a scale and a zero point in blocks along the
//! sum. One of the house's own takes float8 and float4, `[rows, blocks, block]`. `y = a * B'`, where row n of B holds the weights of result n. The weights stay packed on the device: the product's kernel
//! takes them out of words as it reads them.
//!
//! History: com.microsoft 1.

use super::accumulate::{Sink, Source, in_parts};
use super::case::{self, Case, Tolerance};
use super::product::{Matrix, Product};
use super::{
    Array, DType, NodeDef, OWN_DOMAIN, Op, Operator, Row, Tensor, Why, Work, microsoft, of_elements,
    optional, product, refuse, required, types,
};
use crate::array::product::matmul;
use crate::facts::Fact;
use crate::kernels::block_product::{BlockProduct, Blocks, Sharing};
use crate::kernels::expr::{Fn2, Scalar};
use crate::kernels::{Class, cost, params};
use crate::plan::{Code, Lower, PackedDim, Packing, TensorId, Tiling};

/// The attributes.
#[derive(Clone, Debug)]
pub(crate) struct MatMulNBits {
    k: usize,
    n: usize,
    /// The type of a weight: uint8, uint4, uint2, or a float of 8 or 4 bits.
    dtype: DType,
    block: usize,
}

pub(crate) const ROWS: &[Row] = &[
    microsoft(
        "MatMulNBits",
        types![T1 T2 T1 T3 T4 T1 -> T1; T1: F16 F32 BF16, T2: U8, T3: F16 F32 BF16 U8, T4: I32],
        parse,
        cases,
    ),
    Row {
        domain: OWN_DOMAIN,
        name: "MatMulNBits",
        opsets: (1, 1),
        types: types![T1 T2 T1 -> T1; T1: F16 F32 BF16, T2: FLOAT8 F4E2M1],
        parse,
        cases: float_cases,
    },
];

const SCALES: usize = 2;
const ZEROS: usize = 3;
const BIAS: usize = 5;

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let size = |name: &str, least: i64| match def.attributes.int(name)? {
        Some(size) if size >= least => Ok(usize::try_from(size).unwrap_or(usize::MAX)),
        given => refuse!("{name} is {}, and must be at least {least}", given.unwrap_or(0)),
    };
    let float = def.attributes.int("dtype")?.and_then(|code| DType::from_onnx(i32::try_from(code).ok()?));
    let dtype = match def.attributes.int_or("bits", 4)? {
        _ if let Some(float) = float => {
            if !float.is_float() {
                refuse!(
                    "weights of {float} are not supported; those of floats, and integers of 8, 4 and 2 bits, are"
                );
            }
            float
        }
        8 => DType::U8,
        4 => DType::U4,
        2 => DType::U2,
        bits => refuse!("weights of {bits} bits are not supported; those of 8, 4 and 2 are"),
    };
    if def.has_input(4) {
        refuse!("g_idx, which gives each row of weights a block of its own, is not supported");
    }
    Ok(MatMulNBits { k: size("K", 1)?, n: size("N", 1)?, dtype, block: size("block_size", 16)? }.into())
}

impl MatMulNBits {
    /// The number of weights in an element of the weights' tensor.
    fn per_element(&self) -> usize {
        if self.dtype.is_float() { 1 } else { 8 / self.dtype.bits() }
    }

    /// The blocks of a row of weights. The last may be longer than what is left of the sum.
    fn blocks(&self) -> usize {
        self.k.div_ceil(self.block)
    }

    /// The zero points of a row, with those that fill up its last byte.
    fn zeros_in_row(&self) -> usize {
        self.blocks().next_multiple_of(self.per_element())
    }

    /// The zero point of all weights where none are given.
    fn zero(&self) -> usize {
        if self.dtype.is_float() { 0 } else { 1 << (self.dtype.bits() - 1) }
    }

    /// The numbers in these elements; in bytes, the lowest bits first.
    fn unpacked(&self, elements: &Array) -> Result<Vec<f64>, Why> {
        if elements.dtype.is_float() {
            return Ok(elements.floats()?.to_vec());
        }
        let (bits, mask) = (self.dtype.bits(), (1 << self.dtype.bits()) - 1);
        let numbers =
            |byte: &i128| (0..8 / bits).map(|i| (*byte >> (i * bits) & mask) as f64).collect::<Vec<_>>();
        Ok(elements.ints()?.iter().flat_map(numbers).collect())
    }

    /// The weights as numbers, a row for each result.
    fn weights(&self, inputs: &[Option<&Array>]) -> Result<Vec<f64>, Why> {
        let numbers = self.unpacked(required(inputs, 1)?)?;
        let scales = required(inputs, SCALES)?.floats()?;
        let zeros = match optional(inputs, ZEROS) {
            None => vec![self.zero() as f64; self.n * self.zeros_in_row()],
            Some(zeros) => self.unpacked(zeros)?,
        };
        let blocks = self.blocks();
        let zeros_in_row = zeros.len() / self.n;
        let mut weights = Vec::with_capacity(self.n * self.k);
        for (n, row) in numbers.chunks_exact(blocks * self.block).enumerate() {
            weights.extend(row[..self.k].iter().enumerate().map(|(k, &number)| {
                let block = k / self.block;
                (number - zeros[n * zeros_in_row + block]) * scales[n * blocks + block]
            }));
        }
        Ok(weights)
    }

    fn rows(&self, a: &[usize]) -> usize {
        product(&a[..a.len().saturating_sub(1)])
    }

    /// The packed numbers of input `i`, in the order of `packing` if the model holds them.
    fn numbers(&self, cx: &mut Lower, i: usize, packing: Option<Packing>) -> Result<TensorId, Why> {
        if self.dtype.is_float() {
            return cx.input(i);
        }
        if let Some(tensor) = cx.read_as(i, self.dtype, packing)? {
            return Ok(tensor);
        }
        let (bytes, count) = (cx.input(i)?, cx.fact(i)?.count());
        let (bits, per_byte) = (self.dtype.bits(), self.per_element());
        let shifts = cx.words(per_byte, || (0..per_byte).map(|i| (i * bits) as u32).collect())?;
        let (shape, mask) = ([count, per_byte], self.zero() * 2 - 1);
        let numbers = cx.temporary(Scalar::U32, &shape);
        cx.elementwise_to(
            numbers,
            (DType::U32, &shape),
            &[(bytes, &[count, 1]), (shifts, &[per_byte])],
            |e, regs| {
                let byte = e.convert(regs[0], Scalar::U32);
                let (shifted, mask) =
                    (e.two(Fn2::ShiftRight, byte, regs[1]), e.constant(Scalar::U32, mask as f64));
                e.two(Fn2::BitAnd, shifted, mask)
            },
        );
        Ok(numbers)
    }

    /// The zero points, one for each block, if they are given.
    fn zeros(&self, cx: &mut Lower) -> Result<Option<TensorId>, Why> {
        let Some(zeros) = cx.optional_fact(ZEROS) else { return Ok(None) };
        if zeros.dtype != DType::U8 {
            return cx.input(ZEROS).map(Some);
        }
        let (blocks, in_row) = (self.blocks(), self.zeros_in_row());
        let packing = (blocks != in_row).then(|| Packing {
            source: vec![self.n, in_row],
            dims: [(0, self.n), (1, blocks)].map(|(axis, size)| PackedDim { axis, size, step: 1 }).to_vec(),
            ..Packing::default()
        });
        if packing.is_some() && !cx.is_constant(ZEROS) {
            refuse!("zero points that the model does not hold must fill whole bytes: each row has {blocks}");
        }
        self.numbers(cx, ZEROS, packing).map(Some)
    }

    /// The kernel for few rows, if it fits and is chosen.
    fn of_few_rows(&self, cx: &mut Lower) -> Result<Option<Blocks>, Why> {
        let share = match (cx.target.class, cx.target.subgroup) {
            (Class::Cpu, lanes @ (4 | 8)) => Sharing::Subgroup(lanes as usize),
            (Class::Cpu, _) => return Ok(None),
            (Class::Gpu, _) => Sharing::Workgroup,
        };
        let whole = self.k.is_multiple_of(self.block) && !self.dtype.is_float() && cx.is_constant(1);
        let zeros = match cx.optional_fact(ZEROS).filter(|_| whole) {
            Some(fact) if fact.dtype != DType::U8 => Some(Scalar::F32),
            zeros => zeros.map(|_| Scalar::U32),
        };
        let bits = self.dtype.bits();
        let Some(blocks) = Blocks::of(bits, self.block, zeros, share).filter(|_| whole) else {
            return Ok(None);
        };
        let m = self.rows(&cx.fact(0)?.shape);
        let groups = [self.n.div_ceil(share.columns()), m];
        let iterations = self.k / blocks.terms() / share.threads() + 8;
        let [groups_fit, loops_fit] = [
            groups.iter().all(|&n| n <= cx.target.max_groups as usize),
            iterations <= cx.target.max_iterations as usize,
        ];
        if !groups_fit || !loops_fit {
            return Ok(None);
        }
        let cost = |(few, _)| cost::block_product(cx.target.class, (m, self.n, self.k), bits, few == 1);
        let best = usize::from(cost((1, 0)) < cost((0, 0)));
        Ok((cx.tile(Tiling::BlockProduct, (best, 0), cost).0 == 1).then_some(blocks))
    }

    fn few_rows<'a>(&self, cx: &mut Lower<'a>, blocks: Blocks, sink: Sink<'_, 'a>) -> Result<(), Why> {
        let (a, numbers, scales) = (cx.input(0)?, self.numbers(cx, 1, None)?, cx.input(SCALES)?);
        let zeros = self.zeros(cx)?;
        let (m, units) = (self.rows(&cx.fact(0)?.shape), self.blocks() * blocks.units);
        let grid = [self.n.div_ceil(blocks.share.columns()), m, 1].map(|n| n as u32);
        in_parts(cx, (self.k, self.k), (m, self.n), Scalar::F32, sink, |cx, _, epilogue, output| {
            let params = params([self.n, units, self.k / 4], epilogue.params.iter().copied())?;
            let others = zeros.into_iter().chain(epilogue.tensors);
            let tensors = [a, numbers, scales].into_iter().chain(others).chain([output]).collect();
            cx.call_grid(BlockProduct { blocks, epilogue: epilogue.fused }, tensors, params, grid);
            Ok(())
        })
    }
}

impl Operator for MatMulNBits {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (a, b, scales) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, SCALES)?);
        let Some((&k, outer)) = a.shape.split_last() else { refuse!("the left operand is a scalar") };
        if k != self.k {
            refuse!("{k} columns on the left do not match K, which is {}", self.k);
        }
        let fits =
            |what: &str, fact: &Fact, row: Option<usize>| match row.and_then(|row| row.checked_mul(self.n)) {
                Some(count) if fact.count() == count => Ok(()),
                _ => refuse!("{what} {fact} are not those of {} rows of {} weights", self.n, self.k),
            };
        let weights = self.blocks().checked_mul(self.block).map(|row| row.div_ceil(self.per_element()));
        fits("weights", b, weights)?;
        fits("scales", scales, Some(self.blocks()))?;
        if let Some(zeros) = optional(inputs, ZEROS) {
            let packed = zeros.dtype == DType::U8;
            let row = if packed { self.zeros_in_row() / self.per_element() } else { self.blocks() };
            fits("zero points", zeros, Some(row))?;
        }
        if optional(inputs, BIAS).is_some_and(|bias| bias.shape != [self.n]) {
            refuse!("the bias does not have one value for each of {} results", self.n);
        }
        Ok(vec![Fact::new(a.dtype, [outer, &[self.n]].concat())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let a = required(inputs, 0)?;
        let (rows, weights) = (self.rows(&a.shape), self.weights(inputs)?);
        let mut columns = vec![0.0; weights.len()];
        for (i, weight) in weights.into_iter().enumerate() {
            columns[i % self.k * self.n + i / self.k] = weight;
        }
        let mut values = matmul(a.floats()?, &columns, (rows, self.k, self.n));
        if let Some(bias) = optional(inputs, BIAS) {
            let bias = bias.floats()?;
            values.iter_mut().enumerate().for_each(|(i, value)| *value += bias[i % self.n]);
        }
        let mut shape = a.shape.clone();
        shape.pop();
        shape.push(self.n);
        Ok(vec![Array::float(a.dtype, &shape, values)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let rows = self.rows(&required(inputs, 0)?.shape);
        let weights = self.n.saturating_mul(self.blocks().saturating_mul(self.block));
        // The weights as integers, as floats, and in columns.
        let weights =
            of_elements(inputs, outputs).temporary(weights, size_of::<i128>()).temporary(weights, 24);
        Ok(weights.products(&[rows, self.k, self.n]))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let n = self.n;
        let bias = |code: &mut Code, value| code.add_input(value, BIAS, &[n]);
        let sink = if cx.optional_fact(BIAS).is_some() { Sink::Finished(&bias) } else { Sink::Sum };
        if let Some(blocks) = self.of_few_rows(cx)? {
            return self.few_rows(cx, blocks, sink);
        }
        let row = self.blocks() * self.block;
        let shape = [self.n, self.blocks(), self.block];
        let (numbers, mut tables) = (self.numbers(cx, 1, None)?, vec![cx.input(SCALES)?]);
        tables.extend(self.zeros(cx)?);
        let weights = cx.deferred_picking((Scalar::F32, &shape), &[(numbers, &shape)], &tables, |e, regs| {
            let (index, number) = (e.index(), e.convert(regs[0], Scalar::F32));
            // Divisions are slow where each lane has one of its own.
            let (f, by) = match self.block.is_power_of_two() {
                true => (Fn2::ShiftRight, self.block.ilog2()),
                false => (Fn2::Div, self.block as u32),
            };
            let by = e.constant(Scalar::U32, by.into());
            let block = e.two(f, index, by);
            let centred = match regs.get(2) {
                Some(&zeros) => {
                    let zero = e.pick(zeros, block);
                    let zero = e.convert(zero, Scalar::F32);
                    e.sub(number, zero)
                }
                None if self.dtype.is_float() => number,
                None => {
                    let zero = e.f32(self.zero() as f32);
                    e.sub(number, zero)
                }
            };
            let scale = e.pick(regs[1], block);
            e.mul(centred, scale)
        });
        let product = Product {
            m: self.rows(&cx.fact(0)?.shape),
            n: self.n,
            k: self.k,
            batch: vec![],
            a: Matrix { source: Source::Input(0), row: self.k, column: 1 },
            b: Matrix { source: Source::Tensor(weights), row: 1, column: row },
        };
        product.lower(cx, Scalar::F32, sink)
    }
}

fn float_cases() -> Vec<Case> {
    let of = |dtype: DType, rows: usize| {
        let case = Case::new("MatMulNBits", &format!("{dtype}_{rows}_rows")).domain(OWN_DOMAIN).opset(1);
        let case = case.tolerance(Tolerance::ACCUMULATION).int("dtype", i64::from(dtype.onnx()));
        let weights = case::converted(&case::uniform(&[9, 3, 16], -4.0, 4.0), dtype);
        let case = case.int("K", 40).int("N", 9).int("block_size", 16).input(case::random(&[rows, 40]));
        case.constant(weights).constant(case::uniform(&[9, 3], 0.1, 0.2))
    };
    vec![of(DType::F8E4M3FN, 5), of(DType::F8E5M2, 1), of(DType::F4E2M1, 5), of(DType::F4E2M1, 1)]
}

fn cases() -> Vec<Case> {
    let bytes = |shape: &[usize]| case::converted(&case::integers(shape, 0, 256), DType::U8);
    let new = |name: &str, a: &[usize], n: usize, bits: usize, block: usize| {
        let k = a[a.len() - 1];
        let blocks = k.div_ceil(block);
        let case = Case::new("MatMulNBits", name).of_microsoft().tolerance(Tolerance::ACCUMULATION);
        let case = case.int("K", k as i64).int("N", n as i64).int("bits", bits as i64);
        let case = case.int("block_size", block as i64).input(case::random(a));
        let weights: Tensor = bytes(&[n, blocks, block * bits / 8]);
        (case, weights, case::uniform(&[n, blocks], 0.01, 0.02))
    };
    let held = |(case, weights, scales): (Case, Tensor, Tensor)| case.constant(weights).constant(scales);
    let given = |(case, weights, scales): (Case, Tensor, Tensor)| case.input(weights).input(scales);
    let halves = |(mut case, weights, scales): (Case, Tensor, Tensor)| {
        case.inputs.iter_mut().flatten().for_each(|a| *a = case::converted(a, DType::F16));
        (
            case.tolerance(Tolerance { relative: 2e-3, absolute: 2e-3 }),
            weights,
            case::converted(&scales, DType::F16),
        )
    };
    vec![
        held(new("row", &[1, 64], 24, 4, 32)),
        held(new("rows", &[2, 5, 96], 20, 4, 32)),
        held(new("units", &[1, 512], 17, 4, 128)),
        held(new("half_units", &[2, 48], 9, 4, 16)),
        held(new("bytes_in_units", &[1, 256], 5, 8, 64)),
        held(new("two_bits_in_words", &[2, 48], 9, 2, 16)),
        held(new("zeros_of_words", &[1, 48], 9, 2, 16)).constant(bytes(&[9])),
        held(halves(new("half_row", &[1, 128], 9, 4, 32))),
        held(new("many_rows", &[400, 64], 70, 4, 16)),
        held(new("part_of_a_block", &[3, 40], 9, 4, 32)),
        held(new("zeros", &[3, 96], 9, 4, 32)).constant(bytes(&[9, 2])),
        held(new("zeros_of_whole_bytes", &[3, 64], 9, 4, 32)).constant(bytes(&[9])),
        held(new("float_zeros", &[3, 96], 9, 4, 32)).constant(case::uniform(&[9, 3], 5.0, 9.0)),
        held(new("bias", &[3, 96], 9, 4, 32)).absent().absent().constant(case::random(&[9])),
        held(new("bytes", &[3, 96], 9, 8, 32)).constant(bytes(&[9, 3])),
        held(new("two_bits", &[3, 96], 9, 2, 32)).constant(bytes(&[9])),
        given(new("given", &[3, 64], 9, 4, 32)).input(bytes(&[9, 1])),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::evaluated;
    use super::*;

    /// The lower half of a byte is the first weight. Without zero points the middle of the range is 0.
    #[test]
    fn weights_are_taken_from_bytes() {
        let case =
            Case::new("MatMulNBits", "order").of_microsoft().int("K", 16).int("N", 1).int("block_size", 16);
        let mut a = [0.0f32; 16];
        (a[0], a[1], a[15]) = (1.0, 10.0, 100.0);
        let mut bytes = [0x88u8; 8];
        (bytes[0], bytes[7]) = (0x7a, 0xf8);
        let case = case.input(case::values(&[1, 16], &a)).input(case::values(&[1, 1, 8], &bytes));
        // Weights 10, 7 and 15 less 8.
        let expected = 0.5 * (2.0 - 10.0 + 700.0);
        assert_eq!(evaluated(&case.input(case::values(&[1], &[0.5f32]))), [expected]);
    }
}
