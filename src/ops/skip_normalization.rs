//! Layer normalisation along the last axis, in the forms of optimised models: of a sum with a skipped branch, and by the mean
//! square alone.
//!
//! History: com.microsoft SkipLayerNormalization, SkipSimplifiedLayerNormalization 1; SimplifiedLayerNormalization 1.

use super::broadcast::broadcast;
use super::case::{self, Case, Tolerance};
use super::rows::{Rows, element, value};
use super::{
    Array, DType, NEWEST_OPSET, NodeDef, Op, Operator, Row, Types, Why, optional, refuse, required, types,
};
use crate::array::{broadcast_index, unravel};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg, Scalar};
use crate::kernels::reduce::{Combine, Each};
use crate::plan::Lower;

/// SkipLayerNormalization, SkipSimplifiedLayerNormalization or SimplifiedLayerNormalization.
#[derive(Clone, Debug)]
pub(crate) struct SkipNormalization {
    /// Whether input 1 is added first.
    skip: bool,
    /// Whether the norm is by mean and variance; otherwise it is by mean square.
    centered: bool,
    epsilon: f32,
}

pub(crate) const ROWS: &[Row] = &[
    row(
        "com.microsoft",
        "SkipLayerNormalization",
        1,
        types![T T T T T -> T U U T; T: F16 F32 BF16, U: F32],
        || cases("SkipLayerNormalization"),
    ),
    row(
        "com.microsoft",
        "SkipSimplifiedLayerNormalization",
        1,
        types![T T T T -> T U U T; T: F16 F32 BF16, U: F32],
        || cases("SkipSimplifiedLayerNormalization"),
    ),
    row(
        "",
        "SimplifiedLayerNormalization",
        NEWEST_OPSET,
        types![T V -> V U; T V: FLOATS BF16, U: F32 F64],
        || cases("SimplifiedLayerNormalization"),
    ),
];

const fn row(
    domain: &'static str,
    name: &'static str,
    last: i64,
    types: Types,
    cases: fn() -> Vec<Case>,
) -> Row {
    Row { domain, name, opsets: (1, last), types, parse, cases }
}

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let skip = def.op_type != "SimplifiedLayerNormalization";
    if !matches!(def.attributes.int_or("axis", -1)?, -1) {
        refuse!("only the last axis is supported");
    }
    let epsilon = def.attributes.float_or("epsilon", if skip { 1e-12 } else { 1e-5 })?;
    Ok(SkipNormalization { skip, centered: def.op_type == "SkipLayerNormalization", epsilon }.into())
}

/// The numbers of the optional inputs.
struct OptionalInputs {
    scale: usize,
    /// Added to the result.
    bias: Option<usize>,
    /// Added to the sum.
    sum_bias: Option<usize>,
}

impl SkipNormalization {
    fn operands(&self) -> OptionalInputs {
        match (self.skip, self.centered) {
            (true, true) => OptionalInputs { scale: 2, bias: Some(3), sum_bias: Some(4) },
            (true, false) => OptionalInputs { scale: 2, bias: None, sum_bias: Some(3) },
            (false, _) => OptionalInputs { scale: 1, bias: None, sum_bias: None },
        }
    }

    /// The numbers of the inputs that are summed, input 0 first.
    fn terms(&self) -> Vec<usize> {
        let skip = self.skip.then_some(1);
        std::iter::once(0).chain(skip).chain(self.operands().sum_bias).collect()
    }
}

impl Operator for SkipNormalization {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() {
            refuse!("expected floats");
        }
        let Some((&last, outer)) = x.shape.split_last() else { refuse!("a scalar has no last axis") };
        let operands = self.operands();
        let dtype = required(inputs, operands.scale)?.dtype;
        for i in [Some(operands.scale), operands.bias].into_iter().flatten() {
            if optional(inputs, i).is_some_and(|fact| fact.shape != [last]) {
                refuse!("scale and bias have one value for each of {last} columns");
            }
        }
        for i in self.terms() {
            if let Some(term) = optional(inputs, i)
                && broadcast([&x.shape[..], &term.shape])? != x.shape
            {
                refuse!("input {i} does not broadcast to {:?}", x.shape);
            }
        }
        let stage = Fact::new(DType::F32, [outer, &[1]].concat());
        let mut facts = vec![Fact::new(dtype, x.shape.clone()), stage.clone()];
        if self.skip {
            facts.extend([stage, Fact::new(x.dtype, x.shape.clone())]);
        }
        Ok(facts)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (operands, mut sum) = (self.operands(), vec![0.0; x.len()]);
        for i in self.terms() {
            if let Some(term) = optional(inputs, i) {
                let values = term.floats()?;
                for (at, sum) in sum.iter_mut().enumerate() {
                    *sum += values[broadcast_index(&unravel(at, &x.shape), &term.shape)];
                }
            }
        }
        let sum = Array::float(x.dtype, &x.shape, sum);
        let (last, outer) = x.shape.split_last().map_or((1, &[][..]), |(&last, outer)| (last.max(1), outer));
        let scale = required(inputs, operands.scale)?;
        let (dtype, scale) = (scale.dtype, scale.floats()?);
        let bias = operands.bias.and_then(|i| optional(inputs, i)).map(|bias| bias.floats()).transpose()?;
        let (mut y, mut means, mut factors) = (Vec::new(), Vec::new(), Vec::new());
        for row in sum.floats()?.chunks(last) {
            let mean = if self.centered { row.iter().sum::<f64>() / last as f64 } else { 0.0 };
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / last as f64;
            let factor = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
            let of =
                |(j, x): (usize, &f64)| (x - mean) * factor * scale[j] + bias.map_or(0.0, |bias| bias[j]);
            y.extend(row.iter().enumerate().map(of));
            means.push(mean);
            factors.push(factor);
        }
        let stages = [outer, &[1]].concat();
        let y = Array::float(dtype, &x.shape, y);
        let factors = Array::float(DType::F32, &stages, factors);
        Ok(match self.skip {
            true => vec![y, Array::float(DType::F32, &stages, means), factors, sum],
            false => vec![y, factors],
        })
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (x, operands) = (cx.fact(0)?, self.operands());
        // Elements and scales may be of different types; results are of the scales'.
        let dtype = cx.fact(operands.scale)?.dtype;
        let [own, result] = [x.dtype, dtype].map(Scalar::float_for);
        let float = if [own, result].contains(&Scalar::F64) { Scalar::F64 } else { Scalar::F32 };
        let mut tensors = Vec::new();
        for i in self.terms() {
            if let Some(fact) = cx.optional_fact(i) {
                tensors.push((cx.input(i)?, fact.shape.as_slice()));
            }
        }
        let mut source = tensors[0].0;
        if self.skip {
            // The sum is normalised before it is rounded.
            source = cx.temporary(own, &x.shape);
            cx.elementwise_to(source, (x.dtype, &x.shape), &tensors, |e, regs| {
                regs.iter().copied().reduce(|a, b| e.add(a, b)).unwrap_or(regs[0])
            });
        }
        let mut rows = Rows::of(cx, source, &x.shape, &[x.shape.len() - 1]);
        let last = &x.shape[x.shape.len() - 1..];
        let scale = rows.side(cx, operands.scale, last, Each::Element)?;
        let bias = match operands.bias.filter(|&i| cx.optional_fact(i).is_some()) {
            Some(i) => Some(rows.side(cx, i, last, Each::Element)?),
            None => None,
        };
        let length = rows.length() as f32;
        let mean = |e: &mut Builder, sum: Reg| {
            let length = e.shape_float(sum, length.into());
            e.two(Fn2::Div, sum, length)
        };
        let difference = |e: &mut Builder| {
            let x = element(e, own);
            let x = e.convert(x, float);
            if !self.centered {
                return x;
            }
            let mean = value(e, 0, float);
            e.sub(x, mean)
        };
        if self.centered {
            rows.fold(Combine::Sum, |e| element(e, own), mean);
        }
        let square = |e: &mut Builder| {
            let difference = difference(e);
            e.mul(difference, difference)
        };
        rows.fold(Combine::Sum, square, |e, sum| {
            let (variance, epsilon) = (mean(e, sum), e.float(sum, self.epsilon.into()));
            let sum = e.add(variance, epsilon);
            let root = e.one(Fn1::Sqrt, sum);
            e.one(Fn1::Reciprocal, root)
        });
        let factor = usize::from(self.centered);
        let output = cx.output(0)?;
        rows.element_result(output, |e| {
            let (difference, factor) = (difference(e), value(e, factor, float));
            let (normalized, scale) = (e.mul(difference, factor), e.load(scale, result));
            let scale = e.convert(scale, float);
            let mut scaled = e.mul(normalized, scale);
            if let Some(bias) = bias {
                let bias = e.load(bias, float);
                scaled = e.add(scaled, bias);
            }
            e.convert(scaled, result)
        });
        let stages = if self.skip {
            [(1, self.centered.then_some(0)), (2, Some(factor))]
        } else {
            [(1, Some(factor)); 2]
        };
        for (i, pass) in stages.into_iter().take(1 + usize::from(self.skip)) {
            if cx.optional_out(i).is_some() {
                let output = cx.output(i)?;
                rows.row_result(output, |e| match pass {
                    Some(pass) => {
                        let value = value(e, pass, float);
                        e.convert(value, Scalar::F32)
                    }
                    None => e.f32(0.0),
                });
            }
        }
        if self.skip && cx.optional_out(3).is_some() {
            cx.view(3, source, 0)?;
        }
        rows.emit(cx)
    }
}

fn cases(name: &'static str) -> Vec<Case> {
    let skip = name != "SimplifiedLayerNormalization";
    let centered = name == "SkipLayerNormalization";
    let new = |case: &str| {
        let case = Case::new(name, case).tolerance(Tolerance::ACCUMULATION);
        if skip { case.domain("com.microsoft").opset(1) } else { case }
    };
    let x = |shape: &[usize]| case::uniform(shape, -2.0, 3.0);
    let base = |case: Case, shape: &[usize], branch: &[usize]| {
        let case = case.input(x(shape));
        let case = if skip { case.input(case::uniform(branch, -1.0, 1.5)) } else { case };
        case.input(case::uniform(&shape[shape.len() - 1..], 0.5, 1.5))
    };
    let mut cases = vec![
        base(new("matrix"), &[3, 7], &[3, 7]),
        base(new("sequence").float("epsilon", 1e-3), &[2, 3, 8], &[2, 3, 8]),
        base(new("empty"), &[0, 4], &[0, 4]),
        base(new("long"), &[2, 5000], &[2, 5000]),
        base(new("stages").outputs(if skip { 4 } else { 2 }), &[2, 3, 8], &[2, 3, 8]),
    ];
    if skip {
        cases.push(base(new("branch of one batch"), &[2, 3, 8], &[3, 8]));
        let case = base(new("sum bias"), &[2, 3, 8], &[2, 3, 8]);
        let case = if centered { case.input(case::random(&[8])) } else { case };
        cases.push(case.input(case::uniform(&[8], -0.5, 0.4)).outputs(4));
    }
    if !skip {
        let half = case::converted(&x(&[3, 7]), DType::F16);
        cases.push(new("wider scale").input(half).input(case::uniform(&[7], 0.5, 1.5)));
    }
    if centered {
        cases.push(base(new("bias"), &[2, 3, 8], &[2, 3, 8]).input(case::random(&[8])));
    }
    cases
}
