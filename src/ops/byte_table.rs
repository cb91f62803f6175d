//! ByteTable: each 8-bit number is replaced by the one that a table of 256 has for it; channels may have tables of their own.
//! No model has this operator. A pass makes it of what lies between 8-bit numbers and a QuantizeLinear (`passes/tables.rs`).
//!
//! The number `n` of 8 bits has the place `n & 255`: 0, 1, ..., 127, -128, ..., -1 for int8. `starts` broadcasts against the
//! numbers, and says where the table of each begins: `[[[0]], [[256]]]` for two channels of an image.

use super::broadcast::broadcast;
use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare};
use super::{
    Array, DType, Maps, NodeDef, OWN_DOMAIN, Op, Operator, Row, Why, optional, refuse, required, types,
};
use crate::array::{broadcast_index, unravel};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn2, Reg, Scalar};

/// The numbers of 8 bits.
pub(crate) const BYTES: usize = 256;

/// The operator has no attributes. Inputs: numbers, tables, and `starts`, which planning must know; without it there is one table.
#[derive(Clone, Debug)]
pub(crate) struct ByteTable;

pub(crate) const ROWS: &[Row] = &[Row {
    domain: OWN_DOMAIN,
    name: "ByteTable",
    opsets: (1, 1),
    types: types![T1 T2 int32 -> T2; T1 T2: BYTES],
    parse,
    cases,
}];

fn parse(_: &NodeDef) -> Result<Op, Why> {
    Ok(ByteTable.into())
}

/// Every number of `dtype`, in the order of a table.
pub(crate) fn every(dtype: DType) -> Array {
    Array::int(dtype, &[BYTES], (0..BYTES as i128).collect())
}

impl Operator for ByteTable {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, table, starts) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        let count = starts.map_or(1, Fact::count);
        if table.rank() != 1 || table.count() != count * BYTES {
            refuse!("the table {table} has not {count} times {BYTES} elements");
        }
        let Some(starts) = starts else { return Ok(vec![Fact::new(table.dtype, x.shape.clone())]) };
        let last = (table.count() - BYTES.min(table.count())) as i128;
        match starts.value.as_ref().map(|known| &known.array) {
            Some(known) if known.ints()?.iter().all(|start| (0..=last).contains(start)) => {}
            Some(_) => refuse!("a table begins beyond the last"),
            None => refuse!("planning does not know where the tables begin"),
        }
        let shape = broadcast([&x.shape[..], &starts.shape])?;
        Ok(vec![Fact::new(table.dtype, shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, table, starts) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        let (x_ints, table_ints) = (x.ints()?, table.ints()?);
        let place = |n: i128| n.rem_euclid(BYTES as i128) as usize;
        let Some(starts) = starts else {
            let values = x_ints.iter().map(|&n| table_ints[place(n)]).collect();
            return Ok(vec![Array::int(table.dtype, &x.shape, values)]);
        };
        let (shape, starts_ints) = (broadcast([&x.shape[..], &starts.shape])?, starts.ints()?);
        let count: usize = super::product(&shape);
        let value = |i: usize| {
            let at = unravel(i, &shape);
            let start = starts_ints[broadcast_index(&at, &starts.shape)] as usize;
            table_ints[start + place(x_ints[broadcast_index(&at, &x.shape)])]
        };
        Ok(vec![Array::int(table.dtype, &shape, (0..count).map(value).collect())])
    }

    fn shape_operands(&self) -> &[usize] {
        &[2]
    }

    fn reads_data(&self, _: usize) -> bool {
        true
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let (x, starts) = (inputs.first().copied().flatten(), inputs.get(2).copied().flatten());
        let division = Division::of_broadcast(axis, &[x, starts], outputs.first()?)?;
        // Where tables differ along the axis, a part would need tables of its own.
        let shares = division.shares.first().copied().into_iter().collect();
        let same = division.shares.get(1) == Some(&InputShare::Whole);
        same.then_some(Division { shares, ..division })
    }

    fn maps(&self) -> Maps {
        Maps::First
    }

    fn table(&self) -> Option<usize> {
        Some(1)
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], _: DType) -> Option<Reg> {
        let (x, table) = (required(inputs, 0).ok()?, required(inputs, 1).ok()?);
        let (bits, last) = (e.bitcast(x, Scalar::U32), e.constant(Scalar::U32, (BYTES - 1) as f64));
        let mut place = e.two(Fn2::BitAnd, bits, last);
        if let Some(start) = optional(inputs, 2) {
            let start = e.bitcast(start, Scalar::U32);
            place = e.add(start, place);
        }
        Some(e.pick(table, place))
    }
}

fn cases() -> Vec<Case> {
    let new =
        |name: &str| Case::new("ByteTable", name).domain(OWN_DOMAIN).opset(1).tolerance(Tolerance::EXACT);
    let bytes = |shape: &[usize], dtype: DType| {
        let low = if dtype == DType::I8 { -128 } else { 0 };
        case::converted(&case::integers(shape, low, low + 256), dtype)
    };
    let tables = |count: usize, dtype: DType| bytes(&[count * BYTES], dtype);
    let starts = |shape: &[usize]| {
        let count = shape.iter().product::<usize>() as i32;
        case::values(shape, &(0..count).map(|i| i * BYTES as i32).collect::<Vec<i32>>())
    };
    let of = |from: DType, to: DType| {
        let all: Vec<f32> =
            (0..BYTES).map(|n| n as f32 - if from == DType::I8 { 128.0 } else { 0.0 }).collect();
        let all = case::converted(&case::values(&[BYTES], &all), from);
        new(&format!("{from} to {to}")).input(all).constant(tables(1, to))
    };
    let u8s = |shape: &[usize]| bytes(shape, DType::U8);
    vec![
        of(DType::U8, DType::U8),
        of(DType::U8, DType::I8),
        of(DType::I8, DType::U8),
        of(DType::I8, DType::I8),
        new("scalar").input(u8s(&[])).constant(tables(1, DType::U8)),
        new("empty").input(u8s(&[2, 0])).constant(tables(1, DType::U8)),
        new("rank 4").input(u8s(&[2, 3, 1, 7])).constant(tables(1, DType::I8)),
        new("a table that a run gets").input(u8s(&[3, 7])).input(tables(1, DType::U8)),
        new("channels")
            .input(bytes(&[2, 3, 5, 7], DType::I8))
            .constant(tables(3, DType::U8))
            .constant(starts(&[3, 1, 1])),
        new("columns").input(u8s(&[5, 6])).constant(tables(6, DType::I8)).constant(starts(&[6])),
        new("two axes").input(u8s(&[5, 3, 2])).constant(tables(10, DType::I8)).constant(starts(&[5, 1, 2])),
        new("more axes").input(u8s(&[3])).constant(tables(1, DType::I8)).constant(starts(&[1, 1])),
        new("spread").input(u8s(&[1, 3])).constant(tables(4, DType::I8)).constant(starts(&[4, 1])),
    ]
}
