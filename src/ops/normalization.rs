//! Normalisations of rows by mean and variance, or by mean square, followed by a scale and a bias. One row of the table each.
//!
//! History: InstanceNormalization 1, 6, 22; MeanVarianceNormalization 9, 13; LayerNormalization 17; GroupNormalization 18
//! (scale and bias for each group), 21 (for each channel; `stash_type`); RMSNormalization 23. `stash_type` is the type in
//! which the first stage is computed: the device and the reference compute in a wider one, and round its results to that type.
//! Without scale and bias, LayerNormalization and RMSNormalization are operators of Sardonyx, for passes.

use super::axes;
use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare};
use super::rows::{Rows, element, value};
use super::{
    Array, DType, NodeDef, OWN_DOMAIN, Op, Operator, Row, Why, Work, of_elements, onnx, optional, refuse,
    required, types,
};
use crate::array::number::round_float;
use crate::array::{broadcast_index, rows, unravel};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg, Scalar};
use crate::kernels::reduce::{Combine, Each};
use crate::plan::Lower;

/// One of the normalisations.
#[derive(Clone, Debug)]
pub(crate) struct Normalization {
    kind: NormalizationKind,
    epsilon: f32,
    /// Whether the results of the first stage have the input's dtype.
    stages: bool,
    /// The dtype of the mean and of the inverse deviation.
    stash: DType,
}

#[derive(Clone, Debug)]
enum NormalizationKind {
    /// Of all axes from this one on; by mean and variance if `centered`, else by mean square.
    Layer { axis: i64, centered: bool },
    /// Of each channel of each image.
    Instance,
    /// Of groups of channels of each image.
    Group { groups: usize, by_channel: bool },
    /// Of these axes.
    Axes(Vec<i64>),
}

pub(crate) const ROWS: &[Row] = &[
    onnx("LayerNormalization", 17, types![T T T -> T U U; T: FLOATS BF16, U: F32 BF16], parse, layer_cases),
    onnx("RMSNormalization", 23, types![T V -> V; T V: FLOATS BF16], parse, rms_cases),
    onnx("InstanceNormalization", 1, types![T T T -> T; T: FLOATS BF16@22], parse, instance_cases),
    onnx("GroupNormalization", 18, types![T T T -> T; T: FLOATS BF16], parse, group_cases),
    onnx(
        "MeanVarianceNormalization",
        9,
        types![T -> T; T: FLOATS BF16@13],
        parse_without_scale,
        mean_variance_cases,
    ),
    own("LayerNormalization", || without_scale_cases("LayerNormalization")),
    own("RMSNormalization", || without_scale_cases("RMSNormalization")),
];

const fn own(name: &'static str, cases: fn() -> Vec<Case>) -> Row {
    Row {
        domain: OWN_DOMAIN,
        name,
        opsets: (1, 1),
        types: types![T -> T; T: FLOATS BF16],
        parse: parse_without_scale,
        cases,
    }
}

fn parse(def: &NodeDef) -> Result<Op, Why> {
    if !def.has_input(1) {
        refuse!("input 1 is required");
    }
    parse_without_scale(def)
}

fn parse_without_scale(def: &NodeDef) -> Result<Op, Why> {
    let axis = def.attributes.int_or("axis", -1)?;
    let kind = match def.op_type {
        "LayerNormalization" => NormalizationKind::Layer { axis, centered: true },
        "RMSNormalization" => NormalizationKind::Layer { axis, centered: false },
        "InstanceNormalization" => NormalizationKind::Instance,
        "GroupNormalization" => match def.attributes.int("num_groups")?.map(usize::try_from) {
            Some(Ok(groups)) if groups > 0 => {
                NormalizationKind::Group { groups, by_channel: def.opset >= 21 }
            }
            _ => refuse!("num_groups is missing, or not positive"),
        },
        _ => NormalizationKind::Axes(def.attributes.ints("axes")?.unwrap_or(vec![0, 2, 3])),
    };
    let code = def.attributes.int_or("stash_type", 1)?;
    let stash = i32::try_from(code).ok().and_then(DType::from_onnx).filter(|dtype| dtype.is_float());
    let Some(stash) = stash else { refuse!("stash_type {code} is no float type") };
    let stages = !matches!(kind, NormalizationKind::Instance | NormalizationKind::Axes(_));
    Ok(Normalization { kind, epsilon: def.attributes.float_or("epsilon", 1e-5)?, stages, stash }.into())
}

/// The shape under which a normalisation reads its input, and the axes of a row.
struct Layout {
    shape: Vec<usize>,
    axes: Vec<usize>,
    /// Whether scale and bias have one value for each row, or for each element of a row.
    each: Each,
}

impl Normalization {
    fn layout(&self, x: &[usize]) -> Result<Layout, Why> {
        let shape = x.to_vec();
        Ok(match &self.kind {
            NormalizationKind::Layer { axis, .. } => {
                Layout { shape, axes: (axes::axis(*axis, x.len())?..x.len()).collect(), each: Each::Element }
            }
            NormalizationKind::Axes(list) => {
                Layout { shape, axes: axes::axes(list, x.len())?, each: Each::Row }
            }
            _ if x.len() < 2 => refuse!("needs a batch and a channel axis, and the rank is {}", x.len()),
            NormalizationKind::Instance => Layout { shape, axes: (2..x.len()).collect(), each: Each::Row },
            NormalizationKind::Group { groups, by_channel } => {
                let (groups, channels) = (*groups, x[1]);
                if channels % groups != 0 {
                    refuse!("{channels} channels do not make {groups} groups");
                }
                let mut shape = vec![x[0], groups, channels / groups];
                shape.extend(&x[2..]);
                let each = if *by_channel { Each::Element } else { Each::Row };
                Layout { axes: (2..shape.len()).collect(), shape, each }
            }
        })
    }

    /// The shape from which a scale or bias of shape `given` broadcasts to the layout.
    fn affine(&self, given: &[usize], layout: &Layout) -> Result<Vec<usize>, Why> {
        let rank = layout.shape.len();
        let shape = match self.kind {
            NormalizationKind::Layer { .. } => given.to_vec(),
            NormalizationKind::Group { groups, by_channel: true } => {
                let mut shape = vec![1; rank - 1];
                shape[0] = groups;
                shape[1] = layout.shape[2];
                if given != [groups * layout.shape[2]] {
                    refuse!(
                        "scale and bias are {given:?}, and there are {} channels",
                        groups * layout.shape[2]
                    );
                }
                return Ok(shape);
            }
            _ => {
                if given != [layout.shape[1]] {
                    refuse!("scale and bias are {given:?}, not [{}]", layout.shape[1]);
                }
                [given, &vec![1; rank - 2]].concat()
            }
        };
        let aligned = layout.shape[rank.saturating_sub(shape.len())..].iter().zip(&shape);
        if shape.len() > rank || !aligned.clone().all(|(&whole, &own)| own == 1 || own == whole) {
            refuse!("{given:?} does not broadcast to {:?}", layout.shape);
        }
        Ok(shape)
    }

    fn centered(&self) -> bool {
        !matches!(self.kind, NormalizationKind::Layer { centered: false, .. })
    }

    /// The factor that normalises a row with this variance (or mean square).
    fn factor(&self, variance: f64) -> f64 {
        match self.kind {
            NormalizationKind::Axes(_) => 1.0 / (variance.sqrt() + 1e-9),
            _ => 1.0 / (variance + f64::from(self.epsilon)).sqrt(),
        }
    }

    fn device_factor(&self, e: &mut Builder, variance: Reg) -> Reg {
        let divisor = match self.kind {
            NormalizationKind::Axes(_) => {
                let (deviation, least) = (e.one(Fn1::Sqrt, variance), e.float(variance, 1e-9));
                e.add(deviation, least)
            }
            _ => {
                let epsilon = e.float(variance, self.epsilon.into());
                let sum = e.add(variance, epsilon);
                e.one(Fn1::Sqrt, sum)
            }
        };
        e.one(Fn1::Reciprocal, divisor)
    }

    /// The dtype of the result, which for RMSNormalization is that of the scale.
    fn result_dtype(&self, x: DType, scale: Option<DType>) -> DType {
        if self.centered() { x } else { scale.unwrap_or(x) }
    }
}

impl Operator for Normalization {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let layout = self.layout(&x.shape)?;
        if inputs.iter().flatten().any(|input| !input.dtype.is_float()) {
            refuse!("expected floats");
        }
        for operand in inputs.iter().skip(1).flatten() {
            self.affine(&operand.shape, &layout)?;
        }
        let dtype = self.result_dtype(x.dtype, optional(inputs, 1).map(|scale| scale.dtype));
        let kept = super::reduce::reduced_shape(&x.shape, &layout.axes, true);
        let mut facts = vec![Fact::new(dtype, x.shape.clone())];
        if matches!(self.kind, NormalizationKind::Layer { centered: true, .. }) {
            facts.extend([Fact::new(self.stash, kept.clone()), Fact::new(self.stash, kept)]);
        }
        Ok(facts)
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let x = inputs.first().copied().flatten()?;
        let layout = self.layout(&x.shape).ok()?;
        let division = Division::of_first(axis, inputs, outputs.first()?, |_| true)?;
        match self.kind {
            NormalizationKind::Instance if axis == 1 => Some(Division {
                shares: vec![InputShare::along(1), InputShare::along(0), InputShare::along(0)],
                ..division
            }),
            NormalizationKind::Group { .. } => (axis == 0).then_some(division),
            _ if layout.axes.contains(&axis) => None,
            // Scale and bias may differ from row to row.
            _ => {
                let factors = inputs.iter().skip(1).flatten();
                let rows = |fact: &Fact| {
                    (axis + fact.rank()).checked_sub(x.rank()).is_some_and(|own| fact.shape[own] != 1)
                };
                (!factors.clone().any(|fact| rows(fact))).then_some(division)
            }
        }
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, scale, bias) = (required(inputs, 0)?, optional(inputs, 1), optional(inputs, 2));
        let layout = self.layout(&x.shape)?;
        let data = x.floats()?;
        let dtype = self.result_dtype(x.dtype, scale.map(|scale| scale.dtype));
        let round = |value: f64| if self.stages { round_float(x.dtype, value) } else { value };
        let operand = |array: Option<&Array>, index: usize| -> Result<Option<f64>, Why> {
            let Some(array) = array else { return Ok(None) };
            let shape = self.affine(&array.shape, &layout)?;
            let mut at = unravel(index, &layout.shape);
            if layout.each == Each::Row {
                layout.axes.iter().for_each(|&axis| at[axis] = 0);
            }
            Ok(Some(array.floats()?[broadcast_index(&at, &shape)]))
        };
        let (mut y, mut means, mut factors) = (vec![0.0; data.len()], Vec::new(), Vec::new());
        for row in rows(&layout.shape, &layout.axes) {
            let length = row.len() as f64;
            let sum: f64 = row.iter().map(|&i| data[i]).sum();
            let mean = if self.centered() { sum / length } else { 0.0 };
            let squares: f64 = row.iter().map(|&i| (data[i] - mean).powi(2)).sum();
            let factor = self.factor(squares / length);
            for &i in &row {
                let mut value = round((data[i] - mean) * factor);
                if let Some(scale) = operand(scale, i)? {
                    value = round(value * scale);
                }
                y[i] = value + operand(bias, i)?.unwrap_or(0.0);
            }
            means.push(mean);
            factors.push(factor);
        }
        let mut results = vec![Array::float(dtype, &x.shape, y)];
        if matches!(self.kind, NormalizationKind::Layer { centered: true, .. }) {
            let kept = super::reduce::reduced_shape(&x.shape, &layout.axes, true);
            results
                .extend([Array::float(self.stash, &kept, means), Array::float(self.stash, &kept, factors)]);
        }
        Ok(results)
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        // Scale and bias are looked up for each element.
        Ok(of_elements(inputs, outputs).times(4))
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
        let dtypes = [0, 1, 2].map(|i| cx.optional_fact(i).map(|fact| fact.dtype));
        // Scales may be float64 where elements are float32, and the other way round.
        let double = dtypes.contains(&Some(DType::F64));
        let float = if double { Scalar::F64 } else { Scalar::F32 };
        let result = self.result_dtype(x.dtype, dtypes[1]);
        let layout = self.layout(&x.shape)?;
        let mut rows = Rows::new(cx, 0, &layout.shape, &layout.axes)?;
        let mut operands = [None; 2];
        for (i, operand) in operands.iter_mut().enumerate() {
            if let Some(fact) = cx.optional_fact(i + 1) {
                let shape = self.affine(&fact.shape, &layout)?;
                *operand = Some(rows.side(cx, i + 1, &shape, layout.each)?);
            }
        }
        let scalar = rows.scalar();
        let own = |e: &mut Builder| {
            let x = element(e, scalar);
            e.convert(x, float)
        };
        let length = rows.length() as f32;
        let mean = |e: &mut Builder, sum: Reg| {
            let length = e.shape_float(sum, length.into());
            e.two(Fn2::Div, sum, length)
        };
        let centered = self.centered();
        let difference = |e: &mut Builder| {
            let x = own(e);
            if !centered {
                return x;
            }
            let mean = value(e, 0, float);
            e.sub(x, mean)
        };
        if centered {
            rows.fold(Combine::Sum, own, mean);
        }
        rows.fold(
            Combine::Sum,
            |e| {
                let difference = difference(e);
                e.mul(difference, difference)
            },
            |e, sum| {
                let variance = mean(e, sum);
                self.device_factor(e, variance)
            },
        );
        let last = usize::from(centered);
        let round = |e: &mut Builder, value: Reg| {
            if !self.stages {
                return value;
            }
            let own = e.convert(value, Scalar::float_for(x.dtype));
            let rounded = e.narrow(own, x.dtype);
            e.convert(rounded, float)
        };
        let operand = |e: &mut Builder, i: usize| {
            let operand = e.load(operands[i]?, Scalar::float_for(dtypes[i + 1]?));
            Some(e.convert(operand, float))
        };
        let output = cx.output(0)?;
        rows.element_result(output, |e| {
            let (difference, factor) = (difference(e), value(e, last, float));
            let normalized = e.mul(difference, factor);
            let mut value = round(e, normalized);
            if let Some(scale) = operand(e, 0) {
                let scaled = e.mul(value, scale);
                value = round(e, scaled);
            }
            if let Some(bias) = operand(e, 1) {
                value = e.add(value, bias);
            }
            e.convert(value, Scalar::float_for(result))
        });
        for k in 0..2 {
            if cx.optional_out(k + 1).is_some() {
                let output = cx.output(k + 1)?;
                rows.row_result(output, |e| {
                    let value = value(e, k, float);
                    let value = e.convert(value, Scalar::float_for(self.stash));
                    e.narrow(value, self.stash)
                });
            }
        }
        rows.emit(cx)
    }
}

fn new(op: &str, name: &str) -> Case {
    Case::new(op, name).tolerance(Tolerance::ACCUMULATION)
}

fn affine(case: Case, shape: &[usize]) -> Case {
    case.input(case::uniform(shape, 0.5, 1.5)).input(case::random(shape))
}

fn layer_cases() -> Vec<Case> {
    let new = |name: &str| new("LayerNormalization", name);
    let x = |shape: &[usize]| case::uniform(shape, -2.0, 3.0);
    let half = |shape: &[usize]| case::converted(&x(shape), DType::F16);
    vec![
        affine(new("last").input(x(&[3, 7])), &[7]),
        affine(new("two_axes").int("axis", 1).input(x(&[2, 3, 5])), &[3, 5]),
        affine(new("all").int("axis", 0).float("epsilon", 0.1).input(x(&[2, 3])), &[2, 3]),
        affine(new("broadcast").int("axis", -2).input(x(&[2, 3, 5])), &[5]),
        affine(new("by_row").input(x(&[2, 3, 5])), &[3, 1]),
        affine(new("long").input(x(&[2, 5000])), &[5000]),
        affine(new("longest").outputs(3).input(x(&[1, 70_000])), &[70_000]),
        affine(new("three_outputs").outputs(3).input(x(&[2, 3, 4])), &[4]),
        affine(new("empty").input(x(&[0, 4])), &[4]),
        affine(new("large_mean").input(case::uniform(&[2, 64], 99.0, 101.0)), &[64]),
        new("no_bias").input(x(&[3, 130])).input(x(&[130])),
        new("float16").input(half(&[3, 9])).input(half(&[9])).input(half(&[9])),
        new("bfloat16")
            .input(case::converted(&x(&[3, 9]), DType::BF16))
            .input(case::converted(&x(&[9]), DType::BF16)),
    ]
}

fn rms_cases() -> Vec<Case> {
    let new = |name: &str| new("RMSNormalization", name);
    let x = |shape: &[usize]| case::uniform(shape, -2.0, 3.0);
    vec![
        new("last").input(x(&[3, 7])).input(x(&[7])),
        new("two_axes").int("axis", 1).input(x(&[2, 3, 5])).input(x(&[3, 5])),
        new("long").input(x(&[2, 4096])).input(x(&[4096])),
        new("float16")
            .input(case::converted(&x(&[3, 9]), DType::F16))
            .input(case::converted(&x(&[9]), DType::F16)),
        new("mixed").input(case::converted(&x(&[3, 9]), DType::F16)).input(x(&[9])),
    ]
}

fn without_scale_cases(op: &str) -> Vec<Case> {
    let new = |name: &str| new(op, name).domain(OWN_DOMAIN).opset(1);
    let x = |shape: &[usize]| case::uniform(shape, -2.0, 3.0);
    vec![
        new("last").input(x(&[3, 7])),
        new("two_axes").int("axis", -2).float("epsilon", 0.5).input(x(&[2, 3, 5])),
        new("float16").input(case::converted(&x(&[3, 9]), DType::F16)),
    ]
}

fn instance_cases() -> Vec<Case> {
    let new = |name: &str| new("InstanceNormalization", name);
    let x = |shape: &[usize]| case::uniform(shape, -2.0, 3.0);
    let half = |shape: &[usize]| case::converted(&x(shape), DType::F16);
    vec![
        affine(new("image").input(x(&[2, 3, 5, 7])), &[3]),
        affine(new("sequence").float("epsilon", 0.01).input(x(&[2, 3, 9])), &[3]),
        affine(new("volume").input(x(&[1, 2, 3, 4, 5])), &[2]),
        affine(new("large").input(x(&[1, 2, 96, 80])), &[2]),
        new("float16").input(half(&[1, 3, 4, 4])).input(half(&[3])).input(half(&[3])),
    ]
}

fn group_cases() -> Vec<Case> {
    let new = |name: &str| new("GroupNormalization", name);
    let x = |shape: &[usize]| case::uniform(shape, -2.0, 3.0);
    let half = |shape: &[usize]| case::converted(&x(shape), DType::F16);
    vec![
        affine(new("image").int("num_groups", 2).input(x(&[2, 4, 3, 5])), &[4]),
        affine(new("one_group").int("num_groups", 1).input(x(&[2, 3, 4])), &[3]),
        affine(new("by_group").opset(18).int("num_groups", 2).input(x(&[2, 6, 3, 3])), &[2]),
        affine(new("large").int("num_groups", 2).input(x(&[1, 4, 64, 60])), &[4]),
        new("float16").int("num_groups", 2).input(half(&[1, 4, 3])).input(half(&[4])).input(half(&[4])),
    ]
}

fn mean_variance_cases() -> Vec<Case> {
    let new = |name: &str| new("MeanVarianceNormalization", name);
    let x = |shape: &[usize]| case::uniform(shape, -2.0, 3.0);
    vec![
        new("default").input(x(&[3, 2, 4, 5])),
        new("axes").ints("axes", &[1, -1]).input(x(&[2, 3, 4, 5])),
        new("all").ints("axes", &[0, 1]).input(x(&[90, 70])),
        new("float16").input(case::converted(&x(&[2, 2, 3, 3]), DType::F16)),
    ]
}
