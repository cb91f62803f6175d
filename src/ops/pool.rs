//! Pools: MaxPool, AveragePool and LpPool over any number of spatial axes. One row of the table each.
//!
//! History: MaxPool 1, 8 (indices), 10 (ceil_mode, dilations), 11, 12 (8-bit integers), 22; AveragePool 1, 7
//! (count_include_pad), 10 (ceil_mode), 11, 19 (dilations), 22; LpPool 1, 2, 11, 18 (ceil_mode, dilations), 22.

use super::case::{self, Case, Tolerance};
use super::division::Division;
use super::window::{Span, Window};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, product, refuse, required, types,
};
use crate::array::{Numbers, ravel, unravel};
use crate::facts::Fact;
use crate::kernels::{nested, pool as kernel};
use crate::kernels::{word, words};
use crate::plan::Lower;

/// A pool.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    kind: PoolKind,
    window: Window,
    /// Whether the second output, the places of the maxima, is read.
    indices: bool,
    /// Whether a place counts the first spatial axis fastest.
    column_major: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum PoolKind {
    Max,
    Average { with_pads: bool },
    Lp(u32),
}

pub(crate) const ROWS: &[Row] = &[
    onnx("MaxPool", 1, types![T -> T int64; T: FLOATS BYTES@12 BF16@22], parse, || cases("MaxPool")),
    onnx("AveragePool", 1, types![T -> T; T: FLOATS BF16@22], parse, || cases("AveragePool")),
    onnx("LpPool", 2, types![T -> T; T: FLOATS BF16@22], parse, || cases("LpPool")),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let kind = match def.op_type {
        "MaxPool" => PoolKind::Max,
        "AveragePool" => PoolKind::Average { with_pads: def.attributes.flag("count_include_pad", false)? },
        _ => match def.attributes.int_or("p", 2)? {
            p @ 1..=64 => PoolKind::Lp(p as u32),
            p => refuse!("p is {p}; norms of order 1 to 64 are supported"),
        },
    };
    let column_major = match def.attributes.int_or("storage_order", 0)? {
        0 => false,
        1 => true,
        other => refuse!("storage_order is {other}, neither 0 nor 1"),
    };
    Ok(Pool { kind, window: Window::parse(def)?, indices: def.output_count() > 1, column_major }.into())
}

impl Pool {
    /// The window along each spatial axis, and the output's shape.
    fn geometry(&self, shape: &[usize]) -> Result<(Vec<Span>, Vec<usize>), Why> {
        if shape.len() < 2 {
            refuse!("expected an input of at least two dimensions (batch, channels, ...)");
        }
        let spans = self.window.pools(&shape[2..])?;
        let output = shape[..2].iter().copied().chain(spans.iter().map(|span| span.output)).collect();
        Ok((spans, output))
    }
}

impl Operator for Pool {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let integers = self.kind == PoolKind::Max && x.dtype.is_int();
        if !x.dtype.is_float() && !integers {
            refuse!("expected a float tensor, got {}", x.dtype);
        }
        let (_, shape) = self.geometry(&x.shape)?;
        let mut facts = vec![Fact::new(x.dtype, shape.clone())];
        if self.indices {
            facts.push(Fact::new(DType::I64, shape));
        }
        Ok(facts)
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        Division::of_first(axis, inputs, outputs.first()?, |axis| axis < 2)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (spans, shape) = self.geometry(&x.shape)?;
        let windows = Windows::new(&spans, &shape);
        match self.kind {
            PoolKind::Max => Ok(self.max(x, &shape, &windows)),
            PoolKind::Average { with_pads } => {
                let x = (x.dtype, x.floats()?);
                Ok(vec![windows.float(x, &shape, |values, padded| {
                    let count = if with_pads { padded } else { values.len() };
                    values.iter().sum::<f64>() / count.max(1) as f64
                })])
            }
            PoolKind::Lp(p) => {
                let x = (x.dtype, x.floats()?);
                Ok(vec![windows.float(x, &shape, |values, _| {
                    values.iter().map(|v| v.abs().powi(p as i32)).sum::<f64>().powf(1.0 / f64::from(p))
                })])
            }
        }
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (spans, shape) = self.geometry(&required(inputs, 0)?.shape)?;
        let taps = spans.iter().map(|span| span.kernel).fold(1, usize::saturating_mul);
        let each = 2 * spans.len().max(1);
        let elements = of_elements(inputs, outputs).temporary(taps, size_of::<[usize; 8]>());
        Ok(elements.steps(&[&shape[..], &[taps, each]].concat()))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    // The places of maxima fit 32 bits.
    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let x = cx.fact(0)?;
        let (spans, shape) = self.geometry(&x.shape)?;
        let mut input = cx.input(0)?;
        let scalar = cx.scalar(input);
        let planes: usize = product(&shape[..2]);
        let op = match self.kind {
            PoolKind::Max => kernel::PoolFunction::Max,
            PoolKind::Average { with_pads } => kernel::PoolFunction::Average { with_pads },
            PoolKind::Lp(p) => kernel::PoolFunction::Lp(p),
        };
        let mut stages = vec![spans.clone()];
        let limit = cx.target.max_iterations as usize;
        let iterations = |spans: &[Span]| nested(spans.iter().map(|span| span.kernel.min(span.input)));
        if iterations(&spans) > limit {
            // The maximum, the mean over a box, and the norm of a window can be computed from those of its rows.
            stages = (0..spans.len()).map(|d| one_axis(&spans, d)).collect();
            if self.indices || stages.iter().any(|stage| iterations(stage) > limit) {
                refuse!("the window takes more than {limit} steps");
            }
        }
        let last = stages.pop().unwrap_or_default();
        for stage in stages {
            let sizes: Vec<usize> = std::iter::once(planes).chain(stage.iter().map(|a| a.output)).collect();
            let output = cx.temporary(scalar, &sizes);
            let spec = kernel::Pool { op, scalar, rank: stage.len(), indices: None, epilogue: None };
            let count = product(&sizes);
            cx.call(spec, vec![input, output], params(count, &stage, x.dtype)?, kernel::groups(count));
            input = output;
        }
        let count = product(&shape);
        let mut words = params(count, &last, x.dtype)?;
        let epilogue = cx.epilogue(None)?;
        words.extend(epilogue.params);
        let mut tensors = vec![input];
        tensors.extend(epilogue.tensors);
        if self.indices {
            tensors.push(cx.output(1)?);
        }
        tensors.push(cx.output(0)?);
        let indices = self.indices.then_some(self.column_major);
        let spec = kernel::Pool { op, scalar, rank: last.len(), indices, epilogue: Some(epilogue.fused) };
        cx.call(spec, tensors, words, kernel::groups(count));
        Ok(())
    }
}

/// The windows along axis `d` alone, after the windows along earlier axes have been applied.
fn one_axis(spans: &[Span], d: usize) -> Vec<Span> {
    let others = |(i, span): (usize, &Span)| match i.cmp(&d) {
        std::cmp::Ordering::Less => Span::whole(span.output),
        std::cmp::Ordering::Equal => *span,
        std::cmp::Ordering::Greater => Span::whole(span.input),
    };
    spans.iter().enumerate().map(others).collect()
}

fn params(count: usize, spans: &[Span], dtype: DType) -> Result<Vec<u32>, Why> {
    let lowest = match dtype.int_range() {
        Some((low, _)) => low.max(i128::from(i32::MIN)) as u32,
        None => f32::NEG_INFINITY.to_bits(),
    };
    let mut params = vec![word(count)?, lowest];
    for a in spans {
        let sizes = [a.input, a.output, a.kernel, a.stride, a.dilation, a.begin, a.end];
        params.extend(words(sizes)?);
    }
    Ok(params)
}

impl Pool {
    fn max(&self, x: &Array, shape: &[usize], windows: &Windows) -> Vec<Array> {
        // NaN wins, and among equal elements the first.
        let greater = |a: usize, b: usize| match &x.data {
            Numbers::Float(v) => !v[b].is_nan() && (v[a].is_nan() || v[a] > v[b]),
            Numbers::Int(v) => v[a] > v[b],
            Numbers::Text(_) => false,
        };
        let count: usize = product(shape);
        let mut places: Vec<Option<usize>> = Vec::with_capacity(count);
        windows.each(|inside, _| {
            places.push(inside.iter().copied().reduce(|best, i| if greater(i, best) { i } else { best }));
        });
        let lowest = match x.dtype.int_range() {
            Some((low, _)) => Array::int(x.dtype, &[], vec![low]),
            None => Array::float(x.dtype, &[], vec![f64::NEG_INFINITY]),
        };
        let mut outputs = vec![x.gather(shape, |i| places[i], Some(&lowest))];
        if self.indices {
            let spatial = &x.shape[2..];
            let size: usize = product(spatial);
            let number = |place: usize| {
                let mut at = unravel(place % size, spatial);
                let mut sizes = spatial.to_vec();
                if self.column_major {
                    at.reverse();
                    sizes.reverse();
                }
                (place / size * size + ravel(&at, &sizes)) as i128
            };
            let numbers = places.iter().map(|place| place.map_or(0, number)).collect();
            outputs.push(Array::int(DType::I64, shape, numbers));
        }
        outputs
    }
}

/// All windows of a pool, in the order of the output's elements.
struct Windows<'a> {
    spans: &'a [Span],
    /// The offsets of each tap along the axes.
    taps: Vec<Vec<usize>>,
    planes: usize,
}

impl Windows<'_> {
    fn new<'a>(spans: &'a [Span], shape: &[usize]) -> Windows<'a> {
        let kernel: Vec<usize> = spans.iter().map(|span| span.kernel).collect();
        let count = product(&kernel);
        let taps = (0..count).map(|i| unravel(i, &kernel)).collect();
        Windows { spans, taps, planes: product(&shape[..2]) }
    }

    /// Calls `f` with the input elements under each window, and with the number of taps that lie within the pads.
    fn each(&self, mut f: impl FnMut(&[usize], usize)) {
        let outputs: Vec<usize> = self.spans.iter().map(|span| span.output).collect();
        let size: usize = product(self.spans.iter().map(|span| span.input));
        let mut inside = Vec::new();
        for plane in 0..self.planes {
            for window in 0..product(&outputs) {
                let at = unravel(window, &outputs);
                inside.clear();
                let mut padded = 0;
                for tap in &self.taps {
                    let places = || self.spans.iter().zip(&at).zip(tap);
                    let beyond = |((span, &at), &k): ((&Span, &usize), &usize)| {
                        at * span.stride + k * span.dilation >= span.begin + span.input + span.end
                    };
                    padded += usize::from(!places().any(beyond));
                    let source = places().try_fold(0, |index, ((span, &at), &k)| {
                        Some(index * span.input + span.source(at, k)?)
                    });
                    inside.extend(source.map(|i| plane * size + i));
                }
                f(&inside, padded);
            }
        }
    }

    fn float(&self, x: (DType, &[f64]), shape: &[usize], f: impl Fn(&[f64], usize) -> f64) -> Array {
        let mut result = Vec::new();
        self.each(|inside, padded| {
            let values: Vec<f64> = inside.iter().map(|&i| x.1[i]).collect();
            result.push(f(&values, padded));
        });
        Array::float(x.0, shape, result)
    }
}

fn cases(name: &'static str) -> Vec<Case> {
    let tolerance = match name {
        "MaxPool" => Tolerance::EXACT,
        "AveragePool" => Tolerance::ARITHMETIC,
        _ => Tolerance::TRANSCENDENTAL,
    };
    let new = |case: &str, shape: &[usize], kernel: &[i64]| {
        Case::new(name, case).tolerance(tolerance).ints("kernel_shape", kernel).input(case::random(shape))
    };
    let mut cases = vec![
        new("1d", &[1, 3, 16], &[2]),
        new("2d", &[2, 3, 9, 7], &[3, 2]).ints("strides", &[2, 1]).ints("pads", &[1, 0, 1, 1]),
        new("3d", &[1, 2, 5, 4, 6], &[2, 2, 2]).ints("strides", &[1, 2, 2]),
        new("4d", &[1, 1, 3, 4, 3, 4], &[2, 2, 2, 2]),
        new("ceil", &[1, 1, 4, 5], &[3, 3]).ints("strides", &[2, 2]).int("ceil_mode", 1),
        new("same upper", &[1, 2, 7, 7], &[2, 4]).string("auto_pad", "SAME_UPPER").ints("strides", &[2, 3]),
        new("same lower", &[1, 2, 7, 7], &[2, 4]).string("auto_pad", "SAME_LOWER"),
        new("valid", &[1, 2, 7, 7], &[3, 3]).string("auto_pad", "VALID"),
        new("dilations", &[1, 2, 9, 8], &[2, 3]).ints("dilations", &[3, 2]).ints("pads", &[1, 2, 2, 1]),
        new("all pads", &[1, 1, 3], &[2]).ints("pads", &[3, 2]),
        new("huge window", &[1, 1, 300, 280], &[300, 280]),
        new("empty", &[0, 3, 8, 8], &[2, 2]),
        Case::new(name, "float16")
            .tolerance(Tolerance { relative: 1e-3, absolute: 1e-4 })
            .ints("kernel_shape", &[2, 2])
            .input(case::converted(&case::random(&[1, 2, 5, 5]), DType::F16)),
    ];
    match name {
        "MaxPool" => {
            let numbers = case::integers(&[1, 2, 5, 6], -128, 128);
            let int = |name: &str, dtype| {
                let input = case::converted(&numbers, dtype);
                Case::new("MaxPool", name)
                    .tolerance(Tolerance::EXACT)
                    .ints("kernel_shape", &[2, 3])
                    .input(input)
            };
            cases.push(int("int8", DType::I8));
            cases.push(int("uint8", DType::U8));
            let shape = [2, 3, 6, 5];
            cases.push(new("indices", &shape, &[3, 2]).ints("pads", &[1, 1, 1, 1]).outputs(2));
            cases.push(
                new("columns", &shape, &[3, 2]).ints("strides", &[2, 2]).int("storage_order", 1).outputs(2),
            );
            let special = [f32::NAN, 1.0, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY, 0.0, 2.0, 2.0];
            let special = case::values(&[1, 1, 8], &special);
            let case = Case::new("MaxPool", "special").tolerance(Tolerance::EXACT).ints("kernel_shape", &[2]);
            cases.push(case.input(special).outputs(2));
        }
        "AveragePool" => {
            let padded = |case: &str| new(case, &[1, 2, 6, 5], &[3, 3]).int("count_include_pad", 1);
            cases.push(padded("with pads").ints("pads", &[2, 1, 1, 2]));
            let ceil = padded("with pads, ceil").ints("pads", &[1, 1, 1, 1]).ints("strides", &[2, 2]);
            cases.push(ceil.int("ceil_mode", 1));
        }
        _ => {
            for p in [1, 3, 4] {
                cases.push(new(&format!("p{p}"), &[1, 2, 5, 6], &[3, 2]).int("p", p));
            }
        }
    }
    cases
}
