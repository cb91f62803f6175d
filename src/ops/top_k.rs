//! TopK: the greatest or least elements along an axis, and their positions.
//!
//! History: 1 (`k` as an attribute), 10 (as an input), 11 (`largest`, `sorted`), 24 (bfloat16). Results are always sorted.

use super::axes;
use super::case::{self, Case, Tolerance};
use super::division::Division;
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, product, refuse, required,
    sorting, types,
};
use crate::array::{Numbers, rows};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::kernels::top_k as kernel;
use crate::kernels::words;
use crate::plan::{Lower, TensorId};

/// The attributes.
#[derive(Clone, Debug)]
pub(crate) struct TopK {
    axis: i64,
    largest: bool,
    /// `None`: input 1 gives it.
    k: Option<i64>,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("TopK", 1, types![T int64 -> T int64; T: FLOATS NUMBERS@11 BF16@24], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let k = if def.opset < 10 { def.attributes.int("k")? } else { None };
    if def.opset < 10 && k.is_none() {
        refuse!("attribute 'k' is missing");
    }
    Ok(TopK { axis: def.attributes.int_or("axis", -1)?, largest: def.attributes.flag("largest", true)?, k }
        .into())
}

impl TopK {
    /// The axis, and the number of its elements that are wanted.
    fn wanted(
        &self,
        shape: &[usize],
        given: impl FnOnce() -> Result<Vec<i64>, Why>,
    ) -> Result<(usize, usize), Why> {
        let axis = axes::axis(self.axis, shape.len())?;
        let k = match (self.k, given) {
            (Some(k), _) => k,
            (None, given) => match given()?[..] {
                [k] => k,
                _ => refuse!("k is one number"),
            },
        };
        match usize::try_from(k) {
            Ok(k) if k <= shape[axis] => Ok((axis, k)),
            _ => refuse!("k is {k}, and the axis has {} elements", shape[axis]),
        }
    }
}

impl Operator for TopK {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let (axis, k) = self.wanted(&x.shape, || required(inputs, 1)?.i64s())?;
        let mut shape = x.shape.clone();
        shape[axis] = k;
        Ok(vec![Fact::new(x.dtype, shape.clone()), Fact::new(DType::I64, shape)])
    }

    fn shape_operands(&self) -> &[usize] {
        &[1]
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let x = inputs.first().copied().flatten()?;
        let along = self.wanted(&x.shape, || required(inputs, 1)?.i64s()).ok()?.0;
        Division::of_first(axis, inputs, outputs.first()?, |axis| axis != along)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (axis, k) = self.wanted(&x.shape, || required(inputs, 1)?.i64s())?;
        let ascending = |a: usize, b: usize| match &x.data {
            Numbers::Int(v) => v[a].cmp(&v[b]),
            Numbers::Float(v) if v[a].is_nan() || v[b].is_nan() => v[a].is_nan().cmp(&v[b].is_nan()),
            Numbers::Float(v) => v[a].partial_cmp(&v[b]).unwrap_or(std::cmp::Ordering::Equal),
            Numbers::Text(_) => std::cmp::Ordering::Equal,
        };
        let mut shape = x.shape.clone();
        shape[axis] = k;
        let count = product(&shape);
        let (mut sources, mut places) = (vec![0; count], vec![0; count]);
        let results = rows(&shape, &[axis]);
        for (row, result) in rows(&x.shape, &[axis]).zip(results) {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| {
                let ascending = ascending(row[a], row[b]);
                if self.largest { ascending.reverse() } else { ascending }
            });
            for (o, place) in result.into_iter().zip(order) {
                sources[o] = row[place];
                places[o] = place as i128;
            }
        }
        Ok(vec![x.gather(&shape, |o| Some(sources[o]), None), Array::int(DType::I64, &shape, places)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let x = required(inputs, 0)?;
        // Of a row: its elements, their order, and what sorting takes; and the same of its result.
        let row = x.shape[axes::axis(self.axis, x.rank())?];
        let elements = of_elements(inputs, outputs).temporary(row, 6 * size_of::<usize>());
        Ok(elements.steps(&[x.count(), sorting(x.count())]))
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn first_output_is_optional(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let x = cx.fact(0)?;
        let (axis, k) = self.wanted(&x.shape, || cx.fact(1)?.i64s())?;
        let (length, inner) = (x.shape[axis], product(&x.shape[axis + 1..]));
        let rows = product(&x.shape[..axis]) * inner;
        let input = cx.input(0)?;
        let (positions, pitch) = sorted(cx, input, self.largest, rows, length, inner, k)?;
        let (values, places) = (cx.optional_out(0).is_some(), cx.optional_out(1).is_some());
        let values = if values { Some(cx.output(0)?) } else { None };
        let places = if places { Some(cx.output(1)?) } else { None };
        let (scalar, values_wanted) = (cx.scalar(input), values.is_some());
        let positions_scalar = places.map(|places| cx.scalar(places));
        let tensors = [input, positions].into_iter().chain(values).chain(places).collect();
        let params = words([rows * k, k, length, inner, pitch])?;
        let fetch = kernel::TopK::Fetch { scalar, values: values_wanted, positions: positions_scalar };
        cx.call(fetch, tensors, params, (rows * k).div_ceil(kernel::BLOCK));
        Ok(())
    }
}

/// Emits calls that find the first `k` positions of each sorted row, and returns them with the pitch of a row.
pub(crate) fn sorted(
    cx: &mut Lower,
    input: TensorId,
    largest: bool,
    rows: usize,
    length: usize,
    inner: usize,
    k: usize,
) -> Result<(TensorId, usize), Why> {
    let blocks = length.div_ceil(kernel::BLOCK);
    let mut run = kernel::BLOCK.min(k);
    // Every run but the last is full; the last has the rest of the row.
    let mut pitch =
        blocks.saturating_sub(1) * run + (length - blocks.saturating_sub(1) * kernel::BLOCK).min(k);
    let scalar = cx.scalar(input);
    let key = kernel::key(scalar.is_wide());
    let runs =
        |cx: &mut Lower, pitch: usize| [key, Scalar::U32].map(|scalar| cx.temporary(scalar, &[rows, pitch]));
    let [mut keys, mut positions] = runs(cx, pitch);
    let params = words([rows * blocks, blocks, length, inner, k, pitch])?;
    let block = kernel::TopK::Block { scalar, largest };
    cx.call(block, vec![input, keys, positions], params, rows * blocks);
    while run < pitch {
        let pairs = pitch.div_ceil(2 * run);
        let merged_run = (2 * run).min(k);
        let merged_pitch = (pairs - 1) * merged_run + (pitch - (pairs - 1) * 2 * run).min(k);
        let [merged_keys, merged_positions] = runs(cx, merged_pitch);
        let params = words([rows * pitch, pitch, run, merged_pitch, merged_run])?;
        let tensors = vec![keys, positions, merged_keys, merged_positions];
        cx.call(
            kernel::TopK::Merge { wide: scalar.is_wide() },
            tensors,
            params,
            (rows * pitch).div_ceil(kernel::BLOCK),
        );
        (keys, positions, run, pitch) = (merged_keys, merged_positions, merged_run, merged_pitch);
    }
    Ok((positions, pitch))
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("TopK", name).outputs(2).tolerance(Tolerance::EXACT);
    let k = |k: i64| case::list(&[k]);
    let ties =
        [2.0, 3.0, 3.0, 2.0, 2.0, f32::NAN, 1.0, -0.0, 0.0, f32::NEG_INFINITY, f32::NAN, f32::INFINITY];
    vec![
        new("last").input(case::random(&[3, 7])).constant(k(3)),
        new("all").input(case::random(&[2, 9])).constant(k(9)),
        new("one").input(case::random(&[2, 200])).constant(k(1)),
        new("first").int("axis", 0).input(case::random(&[70, 3])).constant(k(4)),
        new("middle").int("axis", 1).input(case::random(&[2, 130, 3])).constant(k(5)),
        new("smallest").int("largest", 0).input(case::random(&[2, 70])).constant(k(6)),
        new("long").input(case::random(&[2, 5000])).constant(k(100)),
        new("sort").input(case::random(&[1, 1500])).constant(k(1500)),
        new("ties").input(case::values(&[12], &ties)).constant(k(12)),
        new("ties_smallest").int("largest", 0).input(case::values(&[12], &ties)).constant(k(12)),
        new("many_ties").input(case::integers(&[2, 300], 0, 5)).constant(k(150)),
        new("values_only").outputs(1).input(case::random(&[3, 70])).constant(k(2)),
        new("attribute").opset(9).int("k", 2).input(case::random(&[3, 7])),
        new("none").input(case::random(&[3, 7])).constant(k(0)),
        new("no_rows").input(case::random(&[0, 7])).constant(k(2)),
        new("unsorted").int("sorted", 0).input(case::random(&[3, 7])).constant(k(2)),
        new("int32").input(case::values(&[5], &[3i32, i32::MIN, i32::MAX, -1, 0])).constant(k(5)),
        new("int64").int("largest", 0).input(case::integers(&[3, 80], -50, 50)).constant(k(7)),
        new("uint8").input(case::values(&[4], &[3u8, 255, 0, 128])).constant(k(3)),
        new("float16").input(case::converted(&case::random(&[2, 70]), DType::F16)).constant(k(5)),
    ]
}
