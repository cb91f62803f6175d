//! Unique: distinct elements, or slices along an axis, with their places and counts. Their number depends on the data: a device
//! sorts the slices and finds where others begin (`SortedSlices`), and the host reads how many there are.
//!
//! History: 11, 28.

use std::cmp::Ordering;

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::non_zero::known_facts;
use super::{
    Array, Attr, DType, NodeDef, OWN_DOMAIN, Op, Operator, Row, Types, Why, Work, axes, of_array,
    of_elements, onnx, product, refuse, required, sorting, types,
};
use crate::array::Numbers;
use crate::facts::Fact;
use crate::graph::ValueId;
use crate::kernels::expr::Scalar;
use crate::kernels::sort_slices::{self as kernel, SortSlices, SortStep};
use crate::kernels::words;
use crate::plan::{Lower, TensorId};

/// Unique.
#[derive(Clone, Debug)]
pub(crate) struct Unique {
    axis: Option<i64>,
    /// Whether the result is in ascending order; otherwise it is in the order of first occurrence.
    sorted: bool,
    /// Whether the outputs are the order of the sorted slices, and a 1 for each that differs from the one before it, both int32.
    bounded: bool,
}

const BOUNDED: &str = "SortedSlices";

const TYPES: Types = types![T -> T int64 int64 int64; T: ALL BF16@28];

const BOUNDED_TYPES: Types = types![T -> int32 int32; T: ALL BF16];

pub(crate) const ROWS: &[Row] = &[
    onnx("Unique", 11, TYPES, parse, || cases().into_iter().map(Case::known).collect()),
    Row {
        domain: OWN_DOMAIN,
        name: BOUNDED,
        opsets: (1, 1),
        types: BOUNDED_TYPES,
        parse,
        cases: || cases().into_iter().map(bounded).collect(),
    },
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let (axis, sorted) = (def.attributes.int("axis")?, def.attributes.flag("sorted", true)?);
    Ok(Unique { axis, sorted, bounded: def.op_type == BOUNDED }.into())
}

fn compare(data: &Numbers, a: usize, b: usize) -> Ordering {
    match data {
        // NaN is greater than all numbers, and equal to itself.
        Numbers::Float(v) => v[a].partial_cmp(&v[b]).unwrap_or(v[a].is_nan().cmp(&v[b].is_nan())),
        Numbers::Int(v) => v[a].cmp(&v[b]),
        Numbers::Text(v) => v[a].cmp(&v[b]),
    }
}

/// The slices of a tensor: it is (outer, size, inner), and `size` is their number.
struct SliceSizes {
    outer: usize,
    size: usize,
    inner: usize,
}

impl Unique {
    fn slices(&self, shape: &[usize]) -> Result<SliceSizes, Why> {
        let Some(axis) = self.axis else {
            return Ok(SliceSizes { outer: 1, size: product(shape), inner: 1 });
        };
        let axis = axes::axis(axis, shape.len())?;
        let (outer, inner) = (product(&shape[..axis]), product(&shape[axis + 1..]));
        Ok(SliceSizes { outer, size: shape[axis], inner })
    }

    /// Equal slices together, in the order of occurrence; the groups are in ascending order.
    fn groups(&self, x: &Array) -> Result<Vec<Vec<usize>>, Why> {
        let SliceSizes { outer, size, inner } = self.slices(&x.shape)?;
        let element = |slice: usize, i: usize| (i / inner * size + slice) * inner + i % inner;
        let order = |&a: &usize, &b: &usize| {
            let each = (0..outer * inner).map(|i| compare(&x.data, element(a, i), element(b, i)));
            each.fold(Ordering::Equal, Ordering::then)
        };
        let mut slices: Vec<usize> = (0..size).collect();
        slices.sort_by(order);
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for slice in slices {
            match groups.last_mut() {
                Some(group) if order(&group[0], &slice).is_eq() => group.push(slice),
                _ => groups.push(vec![slice]),
            }
        }
        Ok(groups)
    }

    fn order_and_starts(&self, x: &Array) -> Result<Vec<Array>, Why> {
        let groups = self.groups(x)?;
        let starts = groups.iter().flat_map(|group| (0..group.len()).map(|i| i128::from(i == 0)));
        let starts: Vec<i128> = starts.collect();
        let order = groups.iter().flatten().map(|&slice| slice as i128).collect();
        let list = |values: Vec<i128>| Array::int(DType::I32, &[values.len()], values);
        Ok(vec![list(order), list(starts)])
    }
}

impl Operator for Unique {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        if !self.bounded {
            return known_facts(self, inputs);
        }
        let SliceSizes { size, .. } = self.slices(&required(inputs, 0)?.shape)?;
        Ok(vec![Fact::new(DType::I32, vec![size]), Fact::new(DType::I32, vec![size])])
    }

    fn shapes_depend_on_data(&self) -> bool {
        !self.bounded
    }

    fn counted(&self) -> &[usize] {
        if self.bounded { &[] } else { &[0] }
    }

    fn spelled(&self, body: &mut Body) -> Result<Vec<ValueId>, Why> {
        let input = body.input(0)?;
        let (x, axis) = match self.axis {
            Some(axis) => (input, axis),
            None => (body.flat(input)?, 0),
        };
        let (along, first_axis) = ([("axis", Attr::Int(axis))], [("axis", Attr::Int(0))]);
        let own = format!("{OWN_DOMAIN}.{BOUNDED}");
        let [order, starts] = body.call(&own, &along, &[Some(x)])?;
        let groups = body.chosen(starts)?;
        let firsts = body.node("Gather", &[order, groups.places])?;
        let one = body.scalar(1i32);
        // The number of each sorted slice's group, and the place of each slice among the sorted ones.
        let mut numbers = body.node("Sub", &[groups.counts, one])?;
        let size = body.node("Shape", &[order])?;
        let filled = |value: i32| [("value", Attr::Tensor(case::values(&[1], &[value])))];
        let zeros = body.with("ConstantOfShape", &filled(0), &[size])?;
        let mut indices = firsts;
        if !self.sorted {
            let is_first = body.with("ScatterElements", &first_axis, &[zeros, order, starts])?;
            let chosen = body.chosen(is_first)?;
            indices = chosen.places;
            let by_occurrence = body.node("Gather", &[chosen.counts, firsts])?;
            let by_occurrence = body.node("Sub", &[by_occurrence, one])?;
            numbers = body.node("Gather", &[by_occurrence, numbers])?;
        }
        let inverse = body.with("ScatterElements", &first_axis, &[zeros, order, numbers])?;
        let ones = body.with("ConstantOfShape", &filled(1), &[size])?;
        let add = [("axis", Attr::Int(0)), ("reduction", Attr::String("add".into()))];
        let counts = body.with("ScatterElements", &add, &[zeros, inverse, ones])?;
        let counts = body.first(counts, groups.total)?;
        let y = body.with("Gather", &along, &[x, indices])?;
        let mut outputs = vec![y];
        for list in [indices, inverse, counts] {
            outputs.push(body.cast(list, DType::I64)?);
        }
        Ok(outputs)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        if self.bounded {
            return self.order_and_starts(x);
        }
        let SliceSizes { size, inner, .. } = self.slices(&x.shape)?;
        let mut groups = self.groups(x)?;
        if !self.sorted {
            groups.sort_by_key(|group| group[0]);
        }
        let mut shape = match self.axis {
            Some(_) => x.shape.clone(),
            None => vec![x.len()],
        };
        shape[self.axis.map_or(Ok(0), |axis| axes::axis(axis, x.shape.len()))?] = groups.len();
        let source = |i: usize| {
            let (row, within) = (i / inner, i % inner);
            Some((row / groups.len() * size + groups[row % groups.len()][0]) * inner + within)
        };
        let mut inverse = vec![0; size];
        for (number, group) in groups.iter().enumerate() {
            group.iter().for_each(|&slice| inverse[slice] = number as i128);
        }
        let list = |values: Vec<i128>| Array::int(DType::I64, &[values.len()], values);
        Ok(vec![
            x.reshaped(&[x.len()]).gather(&shape, source, None),
            list(groups.iter().map(|group| group[0] as i128).collect()),
            list(inverse),
            list(groups.iter().map(|group| group.len() as i128).collect()),
        ])
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        if !self.bounded {
            refuse!("the outputs' shapes depend on data that only a run knows");
        }
        cx.check_dtypes()?;
        let SliceSizes { outer, size, inner } = self.slices(&cx.fact(0)?.shape)?;
        let columns = outer * inner;
        if columns == 0 {
            // All slices are equal.
            if cx.optional_out(0).is_some() {
                cx.host_array(0, || Ok(numbered(size, |i| i as i128)))?;
            }
            if cx.optional_out(1).is_some() {
                cx.host_array(1, || Ok(numbered(size, |i| i128::from(i == 0))))?;
            }
            return Ok(());
        }
        let x = numbers(cx)?;
        let order = sorted(cx, x, size, inner, columns)?;
        if cx.optional_out(0).is_some() {
            cx.view(0, order, 0)?;
        }
        if cx.optional_out(1).is_none() {
            return Ok(());
        }
        let (starts, scalar) = (cx.output(1)?, cx.scalar(x));
        let most = cx.target.max_iterations.min(MOST_ITERATIONS) as usize;
        for first in (0..columns).step_by(most) {
            let last = columns.min(first + most);
            let step = SortStep::Starts { ordered: first > 0 };
            let params = words([size, inner, first, last])?;
            cx.call(
                SortSlices { scalar, step },
                vec![x, order, starts],
                params,
                size.div_ceil(kernel::BLOCK),
            );
        }
        Ok(())
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn first_output_is_optional(&self) -> bool {
        self.bounded
    }

    fn work(&self, inputs: &[Option<&Fact>], _: &[Fact]) -> Result<Work, Why> {
        let x = required(inputs, 0)?;
        if self.bounded {
            let size = self.slices(&x.shape)?.size;
            let order = Work::array(DType::I32, &[size, 2]).temporary(size, 10 * size_of::<usize>());
            return Ok(of_elements(inputs, &[]) + order.steps(&[x.count(), sorting(size), 2]));
        }
        // The slices, and a list for each group of equal ones; then the results, which are at most as large as the input.
        let groups = size_of::<Vec<usize>>() + 6 * size_of::<usize>() + 3 * size_of::<i128>();
        let elements = of_elements(inputs, &[]) + of_array(x);
        Ok(elements.temporary(x.count(), groups).steps(&[x.count(), sorting(x.count()), 2]))
    }
}

/// The input; bools as int32, so that they need no kernels of their own.
fn numbers(cx: &mut Lower) -> Result<TensorId, Why> {
    let (x, shape) = (cx.input(0)?, &cx.fact(0)?.shape);
    if cx.scalar(x) != Scalar::Bool {
        return Ok(x);
    }
    let numbers = cx.temporary(Scalar::I32, shape);
    cx.elementwise_to(numbers, (DType::I32, shape), &[(x, shape)], |e, x| e.convert(x[0], Scalar::I32));
    Ok(numbers)
}

/// A dispatch of more iterations would keep other programs from the device for long.
const MOST_ITERATIONS: u32 = 60_000;

/// The numbers of the slices in the order of their elements, int32; equal slices keep their order.
fn sorted(cx: &mut Lower, x: TensorId, size: usize, inner: usize, columns: usize) -> Result<TensorId, Why> {
    let scalar = cx.scalar(x);
    let most = cx.target.max_iterations.min(MOST_ITERATIONS) as usize;
    // As many elements at a time as blocks can compare.
    let part = (most / kernel::BLOCK).saturating_sub(2).clamp(1, columns);
    let (mut order, groups) = (None, size.div_ceil(kernel::BLOCK));
    for first in (0..columns).step_by(part).rev() {
        let last = columns.min(first + part);
        let next = cx.temporary(Scalar::I32, &[size]);
        let step = SortStep::Block { ordered: order.is_some() };
        let tensors = [x].into_iter().chain(order).chain([next]).collect();
        cx.call(SortSlices { scalar, step }, tensors, words([size, inner, first, last])?, groups);
        let mut run = kernel::BLOCK;
        let mut sorted = next;
        while run < size {
            let merged = cx.temporary(Scalar::I32, &[size]);
            let params = words([size, inner, first, last, run])?;
            cx.call(SortSlices { scalar, step: SortStep::Merge }, vec![x, sorted, merged], params, groups);
            (sorted, run) = (merged, run * 2);
        }
        order = Some(sorted);
    }
    match order {
        Some(order) => Ok(order),
        None => refuse!("there is nothing to sort"),
    }
}

fn numbered(count: usize, value: impl Fn(usize) -> i128) -> Array {
    Array::int(DType::I32, &[count], (0..count).map(value).collect())
}

fn bounded(case: Case) -> Case {
    let name = case.name.trim_start_matches("Unique/").to_string();
    let attributes = case.attributes.into_iter().filter(|(name, _)| name == "axis").collect();
    let case =
        Case { name: format!("{BOUNDED}/{name}"), op_type: BOUNDED.into(), attributes, outputs: 2, ..case };
    case.domain(OWN_DOMAIN).opset(1)
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("Unique", name).tolerance(Tolerance::EXACT).outputs(4);
    // Whole numbers from 0, of which most occur several times.
    let few = |shape: &[usize], most: i64| case::converted(&case::integers(shape, 0, most), DType::F32);
    let signs = || {
        let inf = f32::INFINITY;
        case::values(&[9], &[0.0, -0.0, -1.5, f32::NAN, inf, -inf, f32::MAX, f32::MIN, 1.5])
    };
    let rows = || case::values(&[4, 2], &[2i64, 1, 0, 5, 2, 1, 0, 4]);
    vec![
        new("sorted").input(case::values(&[6], &[2.0f32, 1.0, 1.0, 3.0, 4.0, 3.0])),
        new("in order").int("sorted", 0).input(case::values(&[6], &[2.0f32, 1.0, 1.0, 3.0, 4.0, 3.0])),
        new("rows").int("axis", 0).input(rows()),
        new("columns").int("axis", -1).input(rows()),
        new("flat").input(rows()),
        new("nan").input(case::values(&[4], &[f32::NAN, 1.0, f32::NAN, -0.0])),
        new("input").input(few(&[6], 4)),
        new("input in order").int("sorted", 0).input(few(&[70], 9)),
        new("many").input(few(&[2, 150], 40)),
        new("many in order").int("sorted", 0).input(few(&[300], 40)),
        new("slices").int("axis", 1).input(few(&[2, 70, 2], 3)),
        new("slices in order").int("axis", -1).int("sorted", 0).input(few(&[3, 130], 2)),
        new("long slices").int("axis", 0).input(few(&[3, 300], 1)),
        new("numbers beyond each other").input(signs()),
        new("nothing").input(few(&[0], 2)),
        new("empty slices").int("axis", 0).input(few(&[3, 0], 2)),
        new("one").input(few(&[1], 2)),
        new("scalar").input(case::values(&[], &[3i32])),
        new("bool").input(case::bools(&[4], &[true, false, true, true])),
        new("uint8").input(case::values(&[5], &[3u8, 255, 0, 255, 3])),
        new("bfloat16").input(case::converted(&few(&[9], 3), DType::BF16)),
    ]
}
