//! Reductions over any axes, and the global pools. One row of the table each.
//!
//! History: ReduceSum 1, 11, 13 (`axes` became an input, and empty axes may mean none); the other Reduce* 1, 11, 13, 18
//! (likewise); ReduceMax and ReduceMin on 8-bit integers 12, on bool 20. GlobalAveragePool, GlobalMaxPool, GlobalLpPool 1, 2.

use super::axes::{IntList, axes};
use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare};
use super::rows::{Rows, element, value};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, refuse, required, types,
};
use crate::array::{Numbers, rows};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg, Scalar};
use crate::kernels::reduce::Combine;
use crate::plan::Lower;

/// A reduction.
#[derive(Clone, Debug)]
pub(crate) struct Reduce {
    function: ReduceFunction,
    axes: Axes,
    keepdims: bool,
}

#[derive(Clone, Debug)]
enum Axes {
    /// The listed axes; if the list is empty, all axes or none.
    List { axes: IntList, none_means_all: bool },
    /// All axes after batch and channel.
    Spatial,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ReduceFunction {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    LogSum,
    LogSumExp,
    SumSquare,
    /// `(sum |x|^p)^(1/p)`
    Norm(f32),
}

use ReduceFunction::*;

/// The most results of reductions over no elements that planning holds.
const MAX_OF_NOTHING: usize = 1 << 20;

macro_rules! functions {
    ($($name:literal: $since:literal [$($types:tt)*], $function:expr;)*) => {
        pub(crate) const ROWS: &[Row] = &[$(onnx($name, $since, types![$($types)*], parse, || cases($name))),*];
        const FUNCTIONS: &[(&str, ReduceFunction)] = &[$(($name, $function)),*];
    };
}

functions! {
    "ReduceSum": 1 [T int64 -> T; T: FLOATS WORDS BF16@13], Sum;
    "ReduceMean": 1 [T int64 -> T; T: FLOATS WORDS BF16@13], Mean;
    "ReduceMax": 1 [T int64 -> T; T: FLOATS WORDS BYTES@12 BF16@13 BOOL@20], Max;
    "ReduceMin": 1 [T int64 -> T; T: FLOATS WORDS BYTES@12 BF16@13 BOOL@20], Min;
    "ReduceProd": 1 [T int64 -> T; T: FLOATS WORDS BF16@13], Prod;
    "ReduceL1": 1 [T int64 -> T; T: FLOATS WORDS BF16@13], Norm(1.0);
    "ReduceL2": 1 [T int64 -> T; T: FLOATS WORDS BF16@13], Norm(2.0);
    "ReduceLogSum": 1 [T int64 -> T; T: FLOATS WORDS BF16@13 | 28: T int64 -> T; T: FLOATS BF16], LogSum;
    "ReduceLogSumExp": 1 [T int64 -> T; T: FLOATS WORDS BF16@13 | 28: T int64 -> T; T: FLOATS BF16], LogSumExp;
    "ReduceSumSquare": 1 [T int64 -> T; T: FLOATS WORDS BF16@13], SumSquare;
    "GlobalAveragePool": 1 [T -> T; T: FLOATS BF16@22], Mean;
    "GlobalMaxPool": 1 [T -> T; T: FLOATS BF16@22], Max;
    "GlobalLpPool": 2 [T -> T; T: FLOATS BF16@22], Norm(2.0);
}

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let Some((_, function)) = FUNCTIONS.iter().find(|row| row.0 == def.op_type) else {
        refuse!("no such operator here")
    };
    if def.op_type.starts_with("Global") {
        let function = match function {
            Norm(_) => Norm(def.attributes.int_or("p", 2)? as f32),
            other => *other,
        };
        return Ok(Reduce { function, axes: Axes::Spatial, keepdims: true }.into());
    }
    let as_input = def.opset >= if def.op_type == "ReduceSum" { 13 } else { 18 };
    let axes = match def.attributes.ints("axes")? {
        _ if as_input && def.has_input(1) => IntList::Input(1),
        Some(list) if !as_input => IntList::Attribute(list),
        _ => IntList::Absent,
    };
    let none_means_all = !def.attributes.flag("noop_with_empty_axes", false)?;
    let keepdims = def.attributes.flag("keepdims", true)?;
    Ok(Reduce { function: *function, axes: Axes::List { axes, none_means_all }, keepdims }.into())
}

impl Reduce {
    /// Whether the result over no elements is the least or greatest number of an integer type other than the device's 32-bit
    /// words. That number follows from shapes alone, and planning computes it.
    fn bounds_other_words(&self, dtype: DType) -> bool {
        matches!(self.function, Max | Min) && dtype.is_int() && !matches!(dtype, DType::I32 | DType::U32)
    }

    /// The axes of a mean that keeps them with size 1; `None` for other reductions. `given` is the second input.
    pub(crate) fn kept_mean(&self, given: Option<Vec<i64>>) -> Option<Vec<i64>> {
        match &self.axes {
            Axes::List { axes, .. } if self.function == Mean && self.keepdims => match axes {
                IntList::Attribute(list) => Some(list.clone()),
                IntList::Input(_) => given,
                IntList::Absent => None,
            },
            _ => None,
        }
    }
}

impl Axes {
    fn resolve(&self, given: Option<Vec<i64>>, rank: usize) -> Result<Vec<usize>, Why> {
        match self {
            Axes::Spatial if rank < 2 => refuse!("needs a batch and a channel axis, and the rank is {rank}"),
            Axes::Spatial => Ok((2..rank).collect()),
            Axes::List { none_means_all, .. } => match given {
                Some(list) if !list.is_empty() => axes(&list, rank),
                _ if *none_means_all => Ok((0..rank).collect()),
                _ => Ok(vec![]),
            },
        }
    }

    fn of_facts(&self, inputs: &[Option<&Fact>]) -> Result<Vec<usize>, Why> {
        let given = if let Axes::List { axes, .. } = self { axes.of_facts(inputs)? } else { None };
        self.resolve(given, required(inputs, 0)?.rank())
    }

    fn of_arrays(&self, inputs: &[Option<&Array>]) -> Result<Vec<usize>, Why> {
        let given = if let Axes::List { axes, .. } = self { axes.of_arrays(inputs)? } else { None };
        self.resolve(given, required(inputs, 0)?.shape.len())
    }
}

/// `shape` without the reduced axes, or with size 1 on them if `keepdims`.
pub(crate) fn reduced_shape(shape: &[usize], axes: &[usize], keepdims: bool) -> Vec<usize> {
    let dims = shape.iter().enumerate();
    match keepdims {
        true => dims.map(|(axis, &size)| if axes.contains(&axis) { 1 } else { size }).collect(),
        false => dims.filter(|(axis, _)| !axes.contains(axis)).map(|(_, &size)| size).collect(),
    }
}

impl Operator for Reduce {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if x.dtype == DType::Bool && !matches!(self.function, Max | Min) || x.dtype == DType::String {
            refuse!("does not reduce {}", x.dtype);
        }
        let axes = self.axes.of_facts(inputs)?;
        let result = Fact::new(x.dtype, reduced_shape(&x.shape, &axes, self.keepdims));
        let nothing = axes.iter().any(|&axis| x.shape[axis] == 0);
        if nothing && self.bounds_other_words(x.dtype) && result.count() <= MAX_OF_NOTHING {
            let value = self.function.int(&[], x.dtype);
            return Ok(vec![Fact::of_array(Array::int(x.dtype, &result.shape, vec![value; result.count()]))]);
        }
        Ok(vec![result])
    }

    fn shape_operands(&self) -> &[usize] {
        &[1]
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let x = inputs.first().copied().flatten()?;
        let axes = self.axes.of_facts(inputs).ok()?;
        let kept = |&own: &usize| self.keepdims || !axes.contains(&own);
        let own = (0..x.rank()).filter(kept).nth(axis).filter(|own| !axes.contains(own))?;
        Some(Division::of(*outputs.first()?.shape.get(axis)?, vec![InputShare::along(own)]))
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let axes = self.axes.of_arrays(inputs)?;
        let shape = reduced_shape(&x.shape, &axes, self.keepdims);
        let rows = rows(&x.shape, &axes);
        Ok(vec![match &x.data {
            Numbers::Float(data) => {
                let row =
                    |at: Vec<usize>| self.function.float(&at.iter().map(|&i| data[i]).collect::<Vec<_>>());
                Array::float(x.dtype, &shape, rows.map(row).collect())
            }
            Numbers::Int(data) => {
                let row = |at: Vec<usize>| {
                    self.function.int(&at.iter().map(|&i| data[i]).collect::<Vec<_>>(), x.dtype)
                };
                Array::int(x.dtype, &shape, rows.map(row).collect())
            }
            Numbers::Text(_) => refuse!("does not reduce strings"),
        }])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        /// Of an element of a row: the step to it, its index and its value.
        const ELEMENT: usize = 2 * size_of::<usize>() + size_of::<i128>();
        let rows = outputs.first().map_or(1, |fact| fact.count().max(1));
        let row = required(inputs, 0)?.count().div_ceil(rows);
        Ok(of_elements(inputs, outputs).temporary(row, ELEMENT))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn takes_prologue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let x = cx.fact(0)?;
        let axes = self.axes.of_facts(&cx.facts())?;
        let mut rows = Rows::new(cx, 0, &x.shape, &axes)?.checked(x.dtype);
        if rows.length() == 0 && self.bounds_other_words(x.dtype) {
            refuse!("{} results of nothing are more than {MAX_OF_NOTHING}", cx.out(0)?.count());
        }
        let (scalar, doubles) = (rows.scalar(), cx.target.computes_f64);
        let float = self.function.register(scalar, doubles);
        if float == Some(Scalar::F64) {
            rows = rows.of_wide_folds();
        }
        let last = self.function.folds(&mut rows, doubles);
        let output = cx.output(0)?;
        rows.row_result(output, |e| {
            let result = value(e, last, float.unwrap_or(scalar));
            if !scalar.is_float() && float == Some(Scalar::F32) {
                report_inexact(e, result);
            }
            e.convert(result, scalar)
        });
        rows.emit(cx)
    }
}

/// Reports where a float32 is so large that it may be another integer than the result.
fn report_inexact(e: &mut Builder, result: Reg) {
    let most = e.constant(Scalar::F32, f64::from(1 << 24));
    let size = e.one(Fn1::Abs, result);
    let outside = e.two(Fn2::Greater, size, most);
    let word = e.constant(Scalar::U32, 1.0);
    e.report(outside, word);
}

impl ReduceFunction {
    /// Whether the device computes in floats, whatever the input's type.
    fn is_float(self, input: Scalar) -> bool {
        input.is_float() || matches!(self, LogSum | LogSumExp) || matches!(self, Norm(p) if p != 1.0)
    }

    /// The register of floats in which the device computes; `None`: it computes in integers. Floats of 32 bits do not hold all
    /// integers, so that those are computed with `doubles` where the device has them.
    fn register(self, input: Scalar, doubles: bool) -> Option<Scalar> {
        let float = match input {
            Scalar::F32 => Scalar::F32,
            Scalar::F64 | Scalar::I64 | Scalar::U64 => Scalar::F64,
            _ if doubles => Scalar::F64,
            _ => Scalar::F32,
        };
        self.is_float(input).then_some(float)
    }

    /// Adds the passes, and returns the number of the last.
    fn folds(self, rows: &mut Rows, doubles: bool) -> usize {
        let (input, length) = (rows.scalar(), rows.length());
        let scalar = match (self.register(input, doubles), input) {
            (Some(float), _) => float,
            (None, Scalar::Bool) => Scalar::U32,
            (None, other) => other,
        };
        let x = move |e: &mut Builder| {
            let x = element(e, input);
            e.convert(x, scalar)
        };
        let same = |_: &mut Builder, folded: Reg| folded;
        match self {
            Sum => rows.fold(Combine::Sum, x, same),
            Prod => rows.fold(Combine::Product, x, same),
            Max => rows.fold(Combine::Max, x, |e, folded| e.convert(folded, input)),
            Min => rows.fold(Combine::Min, x, |e, folded| e.convert(folded, input)),
            Mean => rows.fold(Combine::Sum, x, |e, sum| {
                let length = match scalar.is_float() {
                    true => e.shape_float(sum, length as f64),
                    false => e.constant(scalar, length.max(1) as f64),
                };
                e.two(Fn2::Div, sum, length)
            }),
            LogSum => rows.fold(Combine::Sum, x, |e, sum| e.one(Fn1::Log, sum)),
            SumSquare => rows.fold(Combine::Sum, |e| square(e, x), same),
            Norm(1.0) => rows.fold(Combine::Sum, |e| absolute(e, x), same),
            Norm(2.0) => rows.fold(Combine::Sum, |e| square(e, x), |e, sum| e.one(Fn1::Sqrt, sum)),
            Norm(p) => rows.fold(
                Combine::Sum,
                |e| {
                    let x = absolute(e, x);
                    let p = e.float(x, p.into());
                    e.two(Fn2::Pow, x, p)
                },
                |e, sum| {
                    let root = e.float(sum, 1.0 / f64::from(p));
                    e.two(Fn2::Pow, sum, root)
                },
            ),
            LogSumExp => {
                rows.fold(Combine::Max, x, finite);
                let exp = move |e: &mut Builder| {
                    let (x, max) = (x(e), value(e, 0, scalar));
                    let below = e.sub(x, max);
                    e.one(Fn1::Exp, below)
                };
                rows.fold(Combine::Sum, exp, |e, sum| {
                    let (log, max) = (e.one(Fn1::Log, sum), value(e, 0, scalar));
                    e.add(log, max)
                });
                return 1;
            }
        }
        0
    }

    fn float(self, x: &[f64]) -> f64 {
        let sum = |f: &dyn Fn(f64) -> f64| x.iter().map(|&x| f(x)).sum::<f64>();
        let (sign, length) = (if self == Min { -1.0 } else { 1.0 }, x.len() as f64);
        let greatest = x
            .iter()
            .fold(f64::NEG_INFINITY, |max, &x| if x.is_nan() || x * sign > max { x * sign } else { max });
        let greatest = if x.iter().any(|x| x.is_nan()) { f64::NAN } else { greatest };
        match self {
            // The sum of no elements in Rust is -0.
            Sum => sum(&|x| x) + 0.0,
            Mean => sum(&|x| x) / length,
            Max | Min => greatest * sign,
            Prod => x.iter().product(),
            LogSum => (sum(&|x| x) + 0.0).ln(),
            LogSumExp if greatest.is_infinite() => greatest,
            LogSumExp => sum(&|x| (x - greatest).exp()).ln() + greatest,
            SumSquare => sum(&|x| x * x) + 0.0,
            Norm(1.0) => sum(&|x| x.abs()) + 0.0,
            Norm(2.0) => (sum(&|x| x * x) + 0.0).sqrt(),
            Norm(p) => (sum(&|x| x.abs().powf(f64::from(p))) + 0.0).powf(1.0 / f64::from(p)),
        }
    }

    fn int(self, x: &[i128], dtype: DType) -> i128 {
        let (low, high) = dtype.int_range().unwrap_or((0, 1));
        let wrap = |x: i128| crate::array::number::wrap_int(dtype, x);
        let floats = || x.iter().map(|&x| x as f64).collect::<Vec<_>>();
        match self {
            Sum => x.iter().sum(),
            Mean => x.iter().sum::<i128>() / x.len().max(1) as i128,
            Max => x.iter().copied().max().unwrap_or(low),
            Min => x.iter().copied().min().unwrap_or(high),
            Prod => x.iter().fold(1, |product: i128, x| wrap(product.wrapping_mul(*x))),
            SumSquare => x.iter().fold(0, |sum, x| wrap(sum + wrap(x.wrapping_mul(*x)))),
            Norm(1.0) => x.iter().map(|x| x.abs()).sum(),
            LogSum | LogSumExp | Norm(_) => self.float(&floats()) as i128,
        }
    }
}

fn square(e: &mut Builder, x: impl Fn(&mut Builder) -> Reg) -> Reg {
    let x = x(e);
    e.mul(x, x)
}

fn absolute(e: &mut Builder, x: impl Fn(&mut Builder) -> Reg) -> Reg {
    let x = x(e);
    e.one(Fn1::Abs, x)
}

/// `max`, or 0 where it is infinite: the number that may be subtracted before exp.
pub(crate) fn finite(e: &mut Builder, max: Reg) -> Reg {
    let zero = e.float(max, 0.0);
    let (above, below) = (e.one(Fn1::IsPosInf, max), e.one(Fn1::IsNegInf, max));
    let infinite = e.two(Fn2::Or, above, below);
    e.select(infinite, zero, max)
}

fn cases(name: &'static str) -> Vec<Case> {
    let new = |case: &str| Case::new(name, case).tolerance(Tolerance::ACCUMULATION);
    if name.starts_with("Global") {
        let mut cases = vec![
            new("image").input(case::random(&[2, 3, 5, 7])),
            new("volume").input(case::random(&[1, 2, 3, 2, 5])),
            new("large").input(case::random(&[1, 2, 112, 96])),
            new("no_spatial_axes").input(case::random(&[2, 3])),
            new("no_batch").input(case::random(&[0, 3, 2, 2])),
            new("float16").input(case::converted(&case::random(&[1, 3, 4, 4]), DType::F16)),
        ];
        if name == "GlobalLpPool" {
            cases.push(new("p1").int("p", 1).input(case::random(&[1, 3, 4, 4])));
            cases.push(new("p3").int("p", 3).input(case::random(&[1, 3, 4, 4])));
        }
        return cases;
    }
    // Logarithms of sums, away from zero.
    let (low, high) = if name == "ReduceLogSum" { (0.1, 2.0) } else { (-1.5, 1.5) };
    let x = |shape: &[usize]| case::uniform(shape, low, high);
    let along =
        |case: &str, shape: &[usize], axes: &[i64]| new(case).input(x(shape)).constant(case::list(axes));
    let mut cases = vec![
        along("last", &[3, 7], &[-1]),
        along("first", &[5, 3], &[0]).int("keepdims", 0),
        along("middle", &[2, 9, 3], &[1]),
        along("outer_and_inner", &[2, 3, 4], &[0, 2]),
        along("unsorted", &[2, 3, 4, 5], &[3, 1]).int("keepdims", 0),
        along("rank6", &[2, 3, 2, 3, 2, 2], &[1, 3, -1]),
        along("size1", &[3, 1, 2], &[1]),
        along("long_rows", &[3, 5000], &[1]),
        along("long_columns", &[9000, 3], &[0]),
        along("empty_rows", &[2, 0, 3], &[1]),
        along("no_rows", &[0, 3], &[1]),
        new("all").input(x(&[3, 4, 5])),
        new("all_dropped").int("keepdims", 0).input(x(&[3, 4, 5])),
        new("scalar").input(x(&[])),
        new("noop").int("noop_with_empty_axes", 1).input(x(&[2, 3])),
        new("noop_listed").int("noop_with_empty_axes", 1).input(x(&[2, 3])).constant(case::list(&[])),
        new("attribute").opset(11).ints("axes", &[1]).input(x(&[2, 3, 2])),
        new("float16").input(case::converted(&x(&[3, 5]), DType::F16)),
    ];
    if name != "ReduceProd" {
        cases.push(along("longest", &[1, 150_000], &[1]));
    }
    if !matches!(name, "ReduceLogSum" | "ReduceLogSumExp" | "ReduceL2") {
        let exact = |case: &str| new(case).tolerance(Tolerance::EXACT);
        let axes = || case::list(&[1]);
        cases.push(exact("int32").input(case::values(&[2, 3], &[-3i32, 5, 4, 9, -2, 1])).constant(axes()));
        cases.push(exact("int64").input(case::integers(&[3, 9], -5, 5)).constant(axes()));
        cases.push(exact("uint32").input(case::values(&[1, 3], &[3u32, 0, 4])).constant(axes()));
    }
    if matches!(name, "ReduceMax" | "ReduceMin") {
        let exact = |case: &str| new(case).tolerance(Tolerance::EXACT);
        let axes = || case::list(&[1]);
        let special = [1.0, f32::NAN, f32::NEG_INFINITY, -1.0, f32::INFINITY, -2.0, -3.0, -4.0, -5.0];
        cases.push(exact("special").input(case::values(&[3, 3], &special)).constant(axes()));
        cases.push(exact("int8").input(case::values(&[2, 3], &[-3i8, 5, 4, -9, -2, -1])).constant(axes()));
        cases.push(exact("uint8").input(case::values(&[2, 3], &[3u8, 5, 4, 255, 0, 1])).constant(axes()));
        let bools = case::bools(&[3, 2], &[true, true, false, true, false, false]);
        cases.push(exact("bool").input(bools).constant(axes()));
        cases.push(exact("empty_bool").input(case::bools(&[2, 0], &[])).constant(axes()));
        for dtype in [DType::I8, DType::U8, DType::I32, DType::U32, DType::I64, DType::U64, DType::F16] {
            let nothing = case::converted(&case::random(&[2, 0]), dtype);
            cases.push(exact(&format!("empty, {dtype}")).input(nothing).constant(axes()));
        }
    }
    if name == "ReduceLogSumExp" {
        let large = [1000.0, 1000.5, f32::NEG_INFINITY, f32::NEG_INFINITY, -1000.0, f32::INFINITY];
        cases.push(new("large").input(case::values(&[3, 2], &large)).constant(case::list(&[1])));
    }
    cases
}
