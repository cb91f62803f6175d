//! Resize, and Upsample, which Resize replaced: resampling along any axes.
//!
//! History: Upsample 7, 9 (scales as input), deprecated in 10; Resize 10, 11 (sizes, roi, cubic, coordinate
//! transformations), 13, 18 (antialias, axes, keep_aspect_ratio_policy), 19 (half_pixel_symmetric).

use super::case::{self, Case, Tolerance};
use super::division::Division;
use super::resample::{Resample, ResizeFilter, ResizedAxis, Taps, Transform};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, axes, of_elements, onnx, optional, product, refuse,
    required, types,
};
use crate::array::{Numbers, strides};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::kernels::gather::groups;
use crate::kernels::{double_words, nested, resize as kernel, word};
use crate::plan::{Lower, TensorId};

/// Resize.
#[derive(Clone, Debug)]
pub(crate) struct Resize {
    resample: Resample,
    extrapolation: f32,
    axes: Option<Vec<i64>>,
    policy: Policy,
    scales: Scales,
    /// Whether inputs 1 to 3 are roi, scales and sizes; otherwise input 1 is scales.
    has_sizes: bool,
}

/// What happens to the aspect ratio where sizes are given.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Policy {
    Stretch,
    NotLarger,
    NotSmaller,
}

#[derive(Clone, Debug, PartialEq)]
enum Scales {
    Attribute(Vec<f32>),
    Input(usize),
}

pub(crate) const ROWS: &[Row] = &[
    onnx(
        "Resize",
        10,
        types![T float32 -> T; T: ALL | 11: T1 T2 float32 int64 -> T1; T1: ALL BF16@13, T2: FLOATS],
        parse,
        cases,
    ),
    onnx("Upsample", 7, types![T float32 -> T; T: ALL], parse_old, || {
        let new = |name: &str| Case::new("Upsample", name).input(case::random(&[1, 2, 3, 4]));
        let scales = || case::values(&[4], &[1.0f32, 1.0, 2.0, 3.0]);
        let list = crate::ops::Attr::Floats(vec![1.0, 1.0, 2.0, 1.5]);
        vec![
            new("nearest").opset(9).input(scales()),
            new("linear").opset(9).string("mode", "linear").constant(scales()),
            new("attribute").opset(7).attr("scales", list),
        ]
    }),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    if def.opset < 11 {
        return parse_old(def);
    }
    let policy = match def.attributes.string_or("keep_aspect_ratio_policy", "stretch")?.as_str() {
        "stretch" => Policy::Stretch,
        "not_larger" => Policy::NotLarger,
        "not_smaller" => Policy::NotSmaller,
        other => refuse!("keep_aspect_ratio_policy '{other}' is not supported"),
    };
    let op = Resize {
        resample: Resample::parse(def)?,
        extrapolation: def.attributes.float_or("extrapolation_value", 0.0)?,
        axes: def.attributes.ints("axes")?,
        policy,
        scales: Scales::Input(2),
        has_sizes: true,
    };
    Ok(op.into())
}

fn parse_old(def: &NodeDef) -> Result<Op, Why> {
    let scales = match def.attributes.floats("scales")? {
        Some(scales) => Scales::Attribute(scales),
        None => Scales::Input(1),
    };
    let resample = Resample::parse_old(def)?;
    let policy = Policy::Stretch;
    Ok(Resize { resample, extrapolation: 0.0, axes: None, policy, scales, has_sizes: false }.into())
}

/// The operands on which the output's shape depends; an empty one counts as absent.
#[derive(Default)]
struct ResizeOperands {
    roi: Option<Vec<f64>>,
    scales: Option<Vec<f64>>,
    sizes: Option<Vec<i64>>,
}

impl Resize {
    #[allow(clippy::field_reassign_with_default)] // Each field has a condition of its own.
    fn operands<'a>(
        &self,
        input: impl Fn(usize) -> Result<Option<&'a Array>, Why>,
    ) -> Result<ResizeOperands, Why> {
        let given = |i: usize| Ok::<_, Why>(input(i)?.filter(|array| array.len() > 0));
        let mut operands = ResizeOperands::default();
        operands.scales = match &self.scales {
            Scales::Attribute(scales) => Some(scales.iter().map(|&s| f64::from(s)).collect()),
            Scales::Input(i) => given(*i)?.map(Array::to_f64).transpose()?,
        };
        if self.has_sizes {
            operands.sizes = given(3)?.map(Array::i64s).transpose()?;
        }
        if self.resample.transform == Transform::TfCropAndResize {
            operands.roi = given(1)?.map(Array::to_f64).transpose()?;
        }
        Ok(operands)
    }

    fn of_facts(&self, inputs: &[Option<&Fact>]) -> Result<Vec<ResizedAxis>, Why> {
        // An empty operand needs no value.
        let input = |i: usize| match optional(inputs, i) {
            Some(fact) if fact.count() > 0 => fact.array().map(Some),
            _ => Ok(None),
        };
        self.geometry(&required(inputs, 0)?.shape, &self.operands(input)?)
    }

    fn geometry(&self, shape: &[usize], operands: &ResizeOperands) -> Result<Vec<ResizedAxis>, Why> {
        let rank = shape.len();
        let whole = |&size: &usize| ResizedAxis { input: size, output: size, scale: 1.0, roi: (0.0, 1.0) };
        let mut all: Vec<ResizedAxis> = shape.iter().map(whole).collect();
        let named = match &self.axes {
            Some(list) => axes::axes(list, rank)?,
            None => (0..rank).collect(),
        };
        let check = |what: &str, length: usize, needed: usize| {
            if length == needed {
                Ok(())
            } else {
                Err(Why::from(format!("{what} has {length} elements, not {needed}")))
            }
        };
        if let Some(roi) = &operands.roi {
            check("roi", roi.len(), 2 * named.len())?;
            for (i, &d) in named.iter().enumerate() {
                all[d].roi = (roi[i], roi[i + named.len()]);
            }
        } else if self.resample.transform == Transform::TfCropAndResize {
            refuse!("tf_crop_and_resize needs a roi");
        }
        match (&operands.scales, &operands.sizes) {
            (_, Some(sizes)) => {
                check("sizes", sizes.len(), named.len())?;
                self.size_axes(&mut all, &named, sizes)?;
            }
            (Some(scales), None) => {
                check("scales", scales.len(), named.len())?;
                for (&d, &scale) in named.iter().zip(scales) {
                    if !(scale > 0.0 && scale.is_finite()) {
                        refuse!("a scale is {scale}");
                    }
                    // In f32, 10 * 0.7 is 7; in f64 it would be slightly less.
                    all[d].output = (shape[d] as f32 * scale as f32).floor() as usize;
                    all[d].scale = scale;
                }
            }
            (None, None) => refuse!("neither scales nor sizes are given"),
        }
        match all.iter().find(|axis| axis.input == 0 && axis.output > 0) {
            Some(_) => refuse!("an axis without elements cannot grow"),
            None => Ok(all),
        }
    }

    fn size_axes(&self, all: &mut [ResizedAxis], named: &[usize], sizes: &[i64]) -> Result<(), Why> {
        for (&d, &size) in named.iter().zip(sizes) {
            all[d].output = usize::try_from(size).map_err(|_| format!("a size is {size}"))?;
            all[d].scale = all[d].output as f64 / all[d].input as f64;
        }
        let scales = named.iter().map(|&d| all[d].scale);
        let common = match self.policy {
            Policy::Stretch => return Ok(()),
            Policy::NotLarger => scales.fold(f64::INFINITY, f64::min),
            Policy::NotSmaller => scales.fold(0.0, f64::max),
        };
        if common.is_finite() {
            for &d in named {
                all[d].output = (common * all[d].input as f64 + 0.5).floor() as usize;
                all[d].scale = common;
            }
        }
        Ok(())
    }

    /// The taps of every output element along `axis`; `None` if each output element is the input element with the same index.
    fn taps(&self, axis: &ResizedAxis, dtype: DType) -> Option<Taps> {
        let taps = self.resample.taps(axis, dtype == DType::F64);
        let same =
            axis.input == axis.output && taps.iter().enumerate().all(|(at, taps)| *taps == [(at, 1.0)]);
        (!same).then_some(taps)
    }
}

impl Operator for Resize {
    fn shape_operands(&self) -> &[usize] {
        if self.has_sizes { &[1, 2, 3] } else { &[1] }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let shape: Vec<usize> = self.of_facts(inputs)?.iter().map(|axis| axis.output).collect();
        Ok(vec![Fact::new(required(inputs, 0)?.dtype, shape)])
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let all = self.of_facts(inputs).ok()?;
        let dtype = outputs.first()?.dtype;
        let is_free = |axis: usize| all.get(axis).is_some_and(|axis| self.taps(axis, dtype).is_none());
        let division = Division::of_first(axis, inputs, outputs.first()?, is_free)?;
        let by_sizes = self.has_sizes && optional(inputs, 3).is_some_and(|sizes| sizes.count() > 0);
        let listed = by_sizes && self.axes.is_none() && matches!(self.policy, Policy::Stretch);
        (!by_sizes || listed).then_some(Division { sizes: listed.then_some(3), ..division })
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let all = self.geometry(&x.shape, &self.operands(|i| Ok(optional(inputs, i)))?)?;
        let nearest = matches!(self.resample.filter, ResizeFilter::Nearest(_));
        let mut result = match &x.data {
            Numbers::Float(_) if !nearest => Array { dtype: DType::F64, ..x.clone() },
            Numbers::Int(_) if !nearest => Array::float(DType::F64, &x.shape, x.to_f64()?),
            _ => x.clone(),
        };
        for (d, axis) in all.iter().enumerate() {
            let Some(taps) = self.taps(axis, x.dtype) else { continue };
            let stride = strides(&result.shape)[d];
            let mut shape = result.shape.clone();
            shape[d] = axis.output;
            // The input element, before axis `d` is resized, that tap `i` of output element `o` reads.
            let source =
                |o: usize, i: usize| (o / (axis.output * stride) * axis.input + i) * stride + o % stride;
            let place = |o: usize| o / stride % axis.output;
            result = if nearest {
                let fill = fill(x.dtype, self.extrapolation);
                let source = |o| taps.at(place(o)).first().map(|tap| source(o, tap.0));
                result.gather(&shape, source, Some(&fill))
            } else {
                let values = result.floats()?;
                let sum = |o: usize| match taps.at(place(o)) {
                    [] => f64::from(self.extrapolation),
                    taps => taps.iter().map(|&(i, weight)| weight * values[source(o, i)]).sum(),
                };
                let count: usize = product(&shape);
                Array::float(DType::F64, &shape, (0..count).map(sum).collect())
            };
        }
        if nearest {
            return Ok(vec![result]);
        }
        let values = result.to_f64()?;
        Ok(vec![match x.dtype.int_range() {
            None => Array::float(x.dtype, &result.shape, values),
            Some((low, high)) => {
                let whole = |v: f64| (v.round_ties_even() as i128).clamp(low, high);
                Array::int(x.dtype, &result.shape, values.into_iter().map(whole).collect())
            }
        }])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let mut work = of_elements(inputs, outputs);
        let mut shape = required(inputs, 0)?.shape.to_vec();
        for (d, axis) in self.of_facts(inputs)?.iter().enumerate() {
            let taps = self.resample.most_taps(axis);
            // The table, and the image after this axis is resized.
            shape[d] = axis.output;
            let table = axis.output.saturating_mul(taps);
            work = work.temporary(table, size_of::<(usize, f64)>()) + Work::array(DType::F64, &shape);
            work = work.steps(&[&shape[..], &[taps]].concat());
        }
        Ok(work)
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let dtype = cx.fact(0)?.dtype;
        if cx.is_wide(0) && matches!(self.resample.filter, ResizeFilter::Cubic(_)) {
            refuse!("cubics of {dtype} go beyond the values around them, which may need more than 32 bits");
        }
        let all = self.of_facts(&cx.facts())?;
        for axis in &all {
            let entries = axis.output.saturating_mul(self.resample.most_taps(axis));
            cx.charge(Work::default().temporary(entries, size_of::<(usize, f64)>()))?;
        }
        let taps: Vec<_> = all.iter().map(|axis| self.taps(axis, dtype)).collect();
        let resized: Vec<usize> = (0..all.len()).filter(|&d| taps[d].is_some()).collect();
        // With a wide filter, one axis at a time is cheaper.
        let apart = self.resample.antialias && resized.len() > 1;
        let stages = if apart { resized.iter().map(|&d| vec![d]).collect() } else { vec![resized] };
        let mut shape: Vec<usize> = all.iter().map(|axis| axis.input).collect();
        let mut tensor = cx.input(0)?;
        for (n, stage) in stages.iter().enumerate() {
            let mut sizes = shape.clone();
            stage.iter().for_each(|&d| sizes[d] = all[d].output);
            let pick = |d: usize| taps[d].as_ref().filter(|_| stage.contains(&d));
            let dims = ResizeDims::new(&shape, &sizes, pick);
            let last = n + 1 == stages.len();
            tensor = self.stage(cx, tensor, &dims, &sizes, last.then_some(dtype))?;
            shape = sizes;
        }
        Ok(())
    }
}

impl Resize {
    /// Emits one kernel over `dims`. It is the last one if `dtype`, the result's, is given.
    fn stage(
        &self,
        cx: &mut Lower,
        input: TensorId,
        dims: &ResizeDims,
        sizes: &[usize],
        dtype: Option<DType>,
    ) -> Result<TensorId, Why> {
        let nearest = matches!(self.resample.filter, ResizeFilter::Nearest(_));
        let from = cx.scalar(input);
        let to = dtype.and_then(Scalar::of).unwrap_or(if from == Scalar::F64 { from } else { Scalar::F32 });
        let limit = cx.target.max_iterations as usize;
        if nested(dims.widest.iter().copied()) > limit {
            refuse!("an output element takes more than {limit} steps");
        }
        let (low, high) =
            dtype.and_then(|d| d.int_range()).unwrap_or((i128::from(i32::MIN), i128::from(i32::MAX)));
        let extrapolation = match (from, nearest) {
            (Scalar::F32 | Scalar::F64, _) | (_, false) => self.extrapolation.to_bits(),
            _ => self.extrapolation as i32 as u32,
        };
        let count: usize = product(sizes);
        let mut params =
            vec![word(count)?, extrapolation, (low as f32).to_bits(), (high.min(1 << 32) as f32).to_bits()];
        let table = dims.table(nearest, from == Scalar::F64, &mut params);
        let epilogue = if dtype.is_some() { Some(cx.epilogue(None)?) } else { None };
        let mut tensors = vec![input];
        if dims.list.iter().any(|dim| dim.taps.is_some()) {
            tensors.push(cx.words(table.len(), || table)?);
        }
        let mut fused = None;
        let output = match epilogue {
            Some(epilogue) => {
                tensors.extend(epilogue.tensors);
                params.extend(epilogue.params);
                fused = Some(epilogue.fused);
                cx.output(0)?
            }
            None => cx.temporary(to, sizes),
        };
        tensors.push(output);
        let spec = kernel::Resize {
            from,
            to,
            weighted: !nearest,
            crop: self.resample.transform == Transform::TfCropAndResize,
            resized: dims.list.iter().map(|dim| dim.taps.is_some()).collect(),
            epilogue: fused,
            runs: false,
        };
        cx.call(spec, tensors, params, groups(count));
        Ok(output)
    }
}

/// The dimensions of one kernel; neighbours that are not resized are merged.
struct ResizeDims<'a> {
    list: Vec<ResizeDim<'a>>,
    /// The most taps of an output element along each dimension.
    widest: Vec<usize>,
}

struct ResizeDim<'a> {
    /// The size in the output.
    size: usize,
    /// The stride in the input.
    stride: usize,
    taps: Option<&'a Taps>,
}

impl<'a> ResizeDims<'a> {
    fn new(from: &[usize], to: &[usize], taps: impl Fn(usize) -> Option<&'a Taps>) -> ResizeDims<'a> {
        let mut list: Vec<ResizeDim> = Vec::new();
        for (d, &stride) in strides(from).iter().enumerate() {
            match (taps(d), list.last_mut()) {
                (None, Some(dim)) if dim.taps.is_none() => {
                    (dim.size, dim.stride) = (dim.size * to[d], stride);
                }
                (taps, _) => list.push(ResizeDim { size: to[d], stride, taps }),
            }
        }
        let most = |dim: &ResizeDim| dim.taps.and_then(|taps| taps.iter().map(<[_]>::len).max()).unwrap_or(1);
        let widest = list.iter().map(most).collect();
        ResizeDims { list, widest }
    }

    /// The words of all taps, whose weights are float32 or, if `double`, float64. The params of each dimension are appended to `params`.
    fn table(&self, nearest: bool, double: bool, params: &mut Vec<u32>) -> Vec<u32> {
        let mut words = Vec::new();
        for (dim, &widest) in self.list.iter().zip(&self.widest) {
            params.extend([dim.size as u32, dim.stride as u32]);
            let Some(taps) = dim.taps else { continue };
            let row = if nearest { 1 } else { 1 + if double { 3 } else { 2 } * widest };
            params.extend([words.len() as u32, row as u32]);
            for taps in taps.iter() {
                let end = words.len() + row;
                if nearest {
                    words.push(taps.first().map_or(u32::MAX, |tap| tap.0 as u32));
                } else {
                    words.push(taps.len() as u32);
                    for &(i, weight) in taps {
                        words.push(i as u32);
                        match double {
                            true => words.extend(double_words(weight)),
                            false => words.push((weight as f32).to_bits()),
                        }
                    }
                }
                words.resize(end, 0);
            }
        }
        words
    }
}

/// The extrapolation value as an element of `dtype`.
fn fill(dtype: DType, value: f32) -> Array {
    match dtype {
        DType::String => Array::text(&[], vec![String::new()]),
        dtype if dtype.is_float() => Array::float(dtype, &[], vec![f64::from(value)]),
        dtype => Array::int(dtype, &[], vec![value as i128]),
    }
}

const MODES: &[&str] =
    &["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];

fn cases() -> Vec<Case> {
    let new = |name: &str, mode: &str, shape: &[usize]| {
        let exact =
            if mode == "nearest" { Tolerance::EXACT } else { Tolerance { relative: 1e-5, absolute: 1e-6 } };
        Case::new("Resize", name).string("mode", mode).tolerance(exact).input(case::random(shape))
    };
    let scaled = |case: Case, scales: &[f32]| case.absent().input(case::values(&[scales.len()], scales));
    let sized = |case: Case, sizes: &[i64]| case.absent().absent().input(case::list(sizes));
    let mut cases = Vec::new();
    for mode in ["nearest", "linear", "cubic"] {
        for &transform in MODES {
            let new = |what: &str| {
                let case = new(&format!("{mode}/{transform}/{what}"), mode, &[1, 2, 4, 5]);
                case.string("coordinate_transformation_mode", transform)
            };
            cases.push(scaled(new("up"), &[1.0, 1.0, 2.0, 2.6]));
            cases.push(scaled(new("down"), &[1.0, 1.0, 0.6, 0.8]));
            cases.push(sized(new("sizes"), &[1, 2, 1, 7]));
        }
        let shape = [2, 3, 5];
        let crop = |name: &str| {
            let crop = new(&format!("{mode}/{name}"), mode, &[1, 1, 4, 4]);
            crop.string("coordinate_transformation_mode", "tf_crop_and_resize")
                .float("extrapolation_value", 10.0)
        };
        let roi = |list: &[f32]| case::values(&[8], list);
        let cropped = crop("crop").input(roi(&[0.0, 0.0, 0.4, 0.6, 1.0, 1.0, 0.6, 0.8])).absent();
        cases.push(cropped.input(case::list(&[1, 1, 3, 3])));
        let cropped = crop("extrapolate").input(roi(&[0.0, 0.0, 0.4, 0.6, 1.0, 1.0, 1.2, 1.7])).absent();
        cases.push(cropped.input(case::list(&[1, 1, 3, 3])));
        cases.push(sized(new(&format!("{mode}/axes"), mode, &shape).ints("axes", &[-1, 1]), &[3, 7]));
        cases.push(sized(new(&format!("{mode}/empty"), mode, &[0, 3, 5]), &[0, 4, 2]));
        cases.push(scaled(new(&format!("{mode}/same"), mode, &shape), &[1.0; 3]));
        cases.push(sized(new(&format!("{mode}/all axes"), mode, &[2, 3, 2, 3]), &[3, 2, 4, 5]));
        for policy in ["not_larger", "not_smaller"] {
            let case =
                new(&format!("{mode}/{policy}"), mode, &[2, 4]).string("keep_aspect_ratio_policy", policy);
            cases.push(sized(case, &[7, 8]));
        }
        let small = case::converted(&case::integers(&[1, 3, 4], 0, 200), DType::U8);
        let rounded = Tolerance { relative: 0.0, absolute: if mode == "nearest" { 0.0 } else { 1.0 } };
        let case = Case::new("Resize", &format!("{mode}/uint8")).string("mode", mode).tolerance(rounded);
        cases.push(sized(case.input(small), &[1, 6, 6]));
        let half = case::converted(&case::random(&[1, 3, 4]), DType::F16);
        let case = Case::new("Resize", &format!("{mode}/float16")).string("mode", mode).input(half);
        cases.push(sized(case.tolerance(Tolerance { relative: 1e-3, absolute: 1e-4 }), &[1, 6, 3]));
    }
    for rounding in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"] {
        let case =
            new(&format!("nearest/{rounding}"), "nearest", &[1, 1, 4, 6]).string("nearest_mode", rounding);
        cases.push(sized(case, &[1, 1, 8, 3]));
    }
    for mode in ["linear", "cubic"] {
        let new = |name: &str| new(&format!("{mode}/{name}"), mode, &[1, 1, 9, 8]);
        cases.push(sized(new("antialias").int("antialias", 1), &[1, 1, 3, 12]));
        cases.push(sized(new("antialias both").int("antialias", 1), &[1, 1, 4, 3]));
        cases.push(sized(new("excluded").int("exclude_outside", 1), &[1, 1, 5, 12]));
        cases.push(sized(
            new("antialias excluded").int("antialias", 1).int("exclude_outside", 1),
            &[1, 1, 2, 3],
        ));
    }
    cases.push(
        new("opset 10", "linear", &[1, 1, 3, 3])
            .opset(10)
            .input(case::values(&[4], &[1.0f32, 1.0, 1.5, 2.0])),
    );
    for (name, scales) in
        [("shrinks", [0.6f32, 0.75]), ("shrinks and grows", [1.7, 0.45]), ("halves", [0.5, 1.0])]
    {
        let x = case::random(&[1, 2, 5, 9]);
        let scales = case::values(&[4], &[1.0, 1.0, scales[0], scales[1]]);
        cases.push(Case::new("Resize", &format!("old nearest {name}")).opset(10).input(x).input(scales));
    }
    let old = new("tf_half_pixel_for_nn", "nearest", &[1, 1, 3, 3]).opset(11);
    let old = old
        .string("coordinate_transformation_mode", "tf_half_pixel_for_nn")
        .input(case::values::<f32>(&[0], &[]));
    cases.push(old.constant(case::values(&[4], &[1.0f32, 1.0, 1.5, 2.0])));
    cases
}
