//! What classifiers and regressors of the domain ai.onnx.ml share: how scores are transformed, and the labels of classes.

use super::arg::fold_position;
use super::composed::Body;
use super::rows::{Rows, element, plain, value};
use super::{Array, Attr, Attributes, DType, Op, Row, Types, Why, case, refuse};
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg, Scalar};
use crate::kernels::gather::{self, Gather};
use crate::kernels::reduce::Combine;
use crate::kernels::words;
use crate::ops::NodeDef;
use crate::plan::{Lower, TensorId};

/// The domain of classical machine learning.
pub(crate) const ML_DOMAIN: &str = "ai.onnx.ml";

/// The newest opset version of the domain.
const NEWEST: i64 = 5;

/// An operator of the domain, in every version from `since` to the newest.
pub(crate) const fn ml(
    name: &'static str,
    since: i64,
    types: Types,
    parse: fn(&NodeDef) -> Result<Op, Why>,
    cases: fn() -> Vec<case::Case>,
) -> Row {
    Row { domain: ML_DOMAIN, name, opsets: (since, NEWEST), types, parse, cases }
}

/// A case of an operator of the domain.
pub(crate) fn ml_case(op: &str, name: &str) -> case::Case {
    case::Case::new(op, name).domain(ML_DOMAIN).opset(3)
}

/// The rows and columns of an input; one axis is a single row.
pub(crate) fn matrix(shape: &[usize]) -> Result<(usize, usize), Why> {
    match *shape {
        [columns] => Ok((1, columns)),
        [rows, columns] => Ok((rows, columns)),
        _ => refuse!("expected rows of features, got the shape {shape:?}"),
    }
}

/// How scores become the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostTransform {
    Unchanged,
    Softmax,
    Logistic,
    /// Like `Softmax`, but scores near 0 stay near 0.
    SoftmaxZero,
    Probit,
}

/// The transforms in the order of TreeEnsemble's numbers.
const TRANSFORMS: [(&str, PostTransform); 5] = [
    ("NONE", PostTransform::Unchanged),
    ("SOFTMAX", PostTransform::Softmax),
    ("LOGISTIC", PostTransform::Logistic),
    ("SOFTMAX_ZERO", PostTransform::SoftmaxZero),
    ("PROBIT", PostTransform::Probit),
];

/// A score below this size is 0 for [`PostTransform::SoftmaxZero`].
const NO_SCORE: f32 = 1e-7;

/// Winitzki's constant, for the inverse of the error function.
const WINITZKI: f32 = 0.147;

impl PostTransform {
    /// The transform that the attribute `post_transform` names.
    pub(crate) fn named(attributes: &Attributes) -> Result<PostTransform, Why> {
        let name = attributes.string_or("post_transform", "NONE")?;
        match TRANSFORMS.iter().find(|transform| transform.0 == name) {
            Some(transform) => Ok(transform.1),
            None => refuse!("post_transform is '{name}'"),
        }
    }

    /// The transform whose number is the attribute `post_transform`.
    pub(crate) fn numbered(attributes: &Attributes) -> Result<PostTransform, Why> {
        let number = attributes.int_or("post_transform", 0)?;
        match usize::try_from(number).ok().and_then(|number| TRANSFORMS.get(number)) {
            Some(transform) => Ok(transform.1),
            None => refuse!("post_transform is {number}, and may be 0 to 4"),
        }
    }

    /// Whether a score's result depends on the other scores of its row.
    fn takes_rows(self) -> bool {
        matches!(self, PostTransform::Softmax | PostTransform::SoftmaxZero)
    }

    /// The transformed scores of a row.
    pub(crate) fn row(self, scores: &[f64]) -> Vec<f64> {
        if !self.takes_rows() {
            return scores.iter().map(|&score| self.one(score)).collect();
        }
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let counts = |score: f64| {
            self == PostTransform::Softmax || score.is_nan() || score.abs() > f64::from(NO_SCORE)
        };
        let exp = |score: f64| (score - max).exp();
        let sum: f64 = scores.iter().filter(|&&score| counts(score)).map(|&score| exp(score)).sum();
        let of = |&score: &f64| if counts(score) { exp(score) / sum } else { score * (-max).exp() / sum };
        scores.iter().map(of).collect()
    }

    /// The transformed score, where the others of its row do not matter.
    pub(crate) fn one(self, score: f64) -> f64 {
        match self {
            PostTransform::Logistic => 1.0 / (1.0 + (-score).exp()),
            PostTransform::Probit => probit(score),
            _ => score,
        }
    }

    /// The same on the device.
    pub(crate) fn one_on_device(self, e: &mut Builder, score: Reg) -> Reg {
        match self {
            PostTransform::Logistic => e.one(Fn1::Sigmoid, score),
            PostTransform::Probit => probit_on_device(e, score),
            _ => score,
        }
    }

    /// The transform of two scores alone.
    pub(crate) fn pair_on_device(self, e: &mut Builder, scores: [Reg; 2]) -> [Reg; 2] {
        if !self.takes_rows() {
            return scores.map(|score| self.one_on_device(e, score));
        }
        let max = e.two(Fn2::Max, scores[0], scores[1]);
        let terms = scores.map(|score| self.term(e, score, max));
        let sum = e.add(terms[0], terms[1]);
        scores.map(|score| self.share(e, score, max, sum))
    }

    /// What a score adds to the sum of its row.
    fn term(self, e: &mut Builder, score: Reg, max: Reg) -> Reg {
        let below = e.sub(score, max);
        let exp = e.one(Fn1::Exp, below);
        let zero = e.float(score, 0.0);
        self.unless_none(e, score, exp, zero)
    }

    /// The score's result.
    fn share(self, e: &mut Builder, score: Reg, max: Reg, sum: Reg) -> Reg {
        let below = e.sub(score, max);
        let exp = e.one(Fn1::Exp, below);
        let negative = e.one(Fn1::Neg, max);
        let factor = e.one(Fn1::Exp, negative);
        let none = e.mul(score, factor);
        let numerator = self.unless_none(e, score, exp, none);
        e.two(Fn2::Div, numerator, sum)
    }

    /// `none` where the score is as good as 0 and the transform takes it for none, else `exp`.
    fn unless_none(self, e: &mut Builder, score: Reg, exp: Reg, none: Reg) -> Reg {
        if self == PostTransform::Softmax {
            return exp;
        }
        let (size, limit) = (e.one(Fn1::Abs, score), e.float(score, NO_SCORE.into()));
        let small = e.two(Fn2::LessOrEqual, size, limit);
        e.select(small, none, exp)
    }

    /// Writes the transformed scores to `output`, as numbers of the dtype. `build` computes a score from operands that broadcast to `shape`, the rows
    /// and columns of scores.
    pub(crate) fn emit(
        self,
        cx: &mut Lower,
        (output, dtype): (TensorId, DType),
        shape: &[usize; 2],
        operands: &[(TensorId, &[usize])],
        build: impl FnOnce(&mut Builder, &[Reg]) -> Reg,
    ) -> Result<(), Why> {
        if !self.takes_rows() {
            let scalar = cx.scalar(output);
            cx.elementwise_to(output, (dtype, shape), operands, |e, regs| {
                let score = build(e, regs);
                let transformed = self.one_on_device(e, score);
                e.convert(transformed, scalar)
            });
            return Ok(());
        }
        let float = Scalar::float_for(dtype);
        let scores = cx.temporary(float, shape);
        let double = if float == Scalar::F64 { DType::F64 } else { DType::F32 };
        cx.elementwise_to(scores, (double, shape), operands, |e, regs| {
            let score = build(e, regs);
            e.convert(score, float)
        });
        let mut rows = Rows::of(cx, scores, shape, &[1]);
        rows.fold(Combine::MaxNumber, |e| element(e, float), |_, max| max);
        let term = |e: &mut Builder| {
            let (score, max) = (element(e, float), value(e, 0, float));
            self.term(e, score, max)
        };
        rows.fold(Combine::Sum, term, |_, sum| sum);
        rows.element_result(output, |e| {
            let (score, max, sum) = (element(e, float), value(e, 0, float), value(e, 1, float));
            self.share(e, score, max, sum)
        });
        rows.emit_with(cx, &plain(float))
    }
}

/// The inverse of the standard normal distribution, by Winitzki's approximation of the inverse error function, as ONNX Runtime
/// computes it.
fn probit(p: f64) -> f64 {
    let x = 2.0 * p - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let a = f64::from(WINITZKI);
    let v = 2.0 / (std::f64::consts::PI * a) + 0.5 * log;
    let root = ((v * v - log / a).sqrt() - v).sqrt();
    std::f64::consts::SQRT_2 * if x < 0.0 { -root } else { root }
}

fn probit_on_device(e: &mut Builder, p: Reg) -> Reg {
    let [zero, half, one, two] = [0.0, 0.5, 1.0, 2.0].map(|number| e.float(p, number));
    let double = e.mul(two, p);
    let x = e.sub(double, one);
    let (below, above) = (e.sub(one, x), e.add(one, x));
    let product = e.mul(below, above);
    let log = e.one(Fn1::Log, product);
    let a = f64::from(WINITZKI);
    let (summand, inverse) = (e.float(p, 2.0 / (std::f64::consts::PI * a)), e.float(p, 1.0 / a));
    let half_log = e.mul(half, log);
    let v = e.add(summand, half_log);
    let (square, rest) = (e.mul(v, v), e.mul(log, inverse));
    let sum = e.sub(square, rest);
    let root = e.one(Fn1::Sqrt, sum);
    // sqrt(v * v - rest) - v, without the difference of two numbers that are nearly equal.
    let denominator = e.add(root, v);
    let negative = e.one(Fn1::Neg, rest);
    let exact = e.two(Fn2::Div, negative, denominator);
    let size = e.one(Fn1::Sqrt, exact);
    let factor = e.float(p, std::f64::consts::SQRT_2);
    let size = e.mul(size, factor);
    let is_below = e.two(Fn2::Less, x, zero);
    let negative = e.one(Fn1::Neg, size);
    e.select(is_below, negative, size)
}

/// The labels of a classifier's classes.
#[derive(Clone, Debug)]
pub(crate) enum ClassLabels {
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

/// A classifier whose labels are strings: one with their numbers as labels, and a LabelEncoder that names them. `None` if its
/// labels are numbers, which stand in the attribute `ints`.
pub(crate) fn with_texts(def: &NodeDef, ints: &str) -> Result<Option<Op>, Why> {
    let ClassLabels::Texts(texts) = ClassLabels::of(def.attributes, ints)? else { return Ok(None) };
    let numbers: Vec<i64> = (0..texts.len() as i64).collect();
    let mut attributes = def.attributes.0.clone();
    attributes.remove("classlabels_strings");
    attributes.insert(ints.into(), Attr::Ints(numbers.clone()));
    let attributes: Vec<(&str, Attr)> =
        attributes.iter().map(|(name, attr)| (name.as_str(), attr.clone())).collect();
    let mut body = Body::new(def);
    let x = body.input(0)?;
    let classifier = format!("ai.onnx.ml.{}", def.op_type);
    let [classes, scores] = body.call(&classifier, &attributes, &[Some(x)])?;
    let names = match def.opset {
        1 => vec![("classes_strings", Attr::Strings(texts))],
        _ => vec![("keys_int64s", Attr::Ints(numbers)), ("values_strings", Attr::Strings(texts))],
    };
    let labels = body.with("ai.onnx.ml.LabelEncoder", &names, &[classes])?;
    body.finish(&[labels, scores]).map(Some)
}

impl ClassLabels {
    /// The labels of the attribute `ints` or of `classlabels_strings`; at least two.
    pub(crate) fn of(attributes: &Attributes, ints: &str) -> Result<ClassLabels, Why> {
        let numbers = attributes.ints(ints)?.unwrap_or_default();
        let texts = attributes.strings("classlabels_strings")?.unwrap_or_default();
        let labels = match (numbers.is_empty(), texts.is_empty()) {
            (false, true) => ClassLabels::Ints(numbers),
            (true, false) => ClassLabels::Texts(texts),
            _ => refuse!("either '{ints}' or 'classlabels_strings' must name the classes"),
        };
        match labels.len() {
            0 | 1 => refuse!("there is one class, and a classifier needs two"),
            _ => Ok(labels),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            ClassLabels::Ints(labels) => labels.len(),
            ClassLabels::Texts(labels) => labels.len(),
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        match self {
            ClassLabels::Ints(_) => DType::I64,
            ClassLabels::Texts(_) => DType::String,
        }
    }

    /// The labels of these classes, as a vector.
    pub(crate) fn array(&self, classes: &[usize]) -> Array {
        let shape = [classes.len()];
        match self {
            ClassLabels::Ints(labels) => {
                Array::int(DType::I64, &shape, classes.iter().map(|&class| labels[class].into()).collect())
            }
            ClassLabels::Texts(labels) => {
                Array::text(&shape, classes.iter().map(|&class| labels[class].clone()).collect())
            }
        }
    }

    /// The labels as the device holds them.
    fn words(&self) -> Result<Vec<u32>, Why> {
        let ClassLabels::Ints(labels) = self else { refuse!("the device does not compute with strings") };
        let word = |&label: &i64| match i32::try_from(label) {
            Ok(label) => Ok(label as u32),
            Err(_) => Err(Why::too_wide(label)),
        };
        labels.iter().map(word).collect()
    }

    /// Writes the label of the class with the greatest score, the first of several, to output 0. `scores` has a row for each
    /// label.
    pub(crate) fn emit_greatest(&self, cx: &mut Lower, scores: TensorId, rows: usize) -> Result<(), Why> {
        self.emit_picked(cx, rows, |cx, places| {
            let mut folded = Rows::of(cx, scores, &[rows, self.len()], &[1]);
            fold_position(&mut folded, Combine::Max, false);
            folded.row_result(places, |e| value(e, 1, Scalar::I32));
            folded.emit_with(cx, &plain(Scalar::I32))
        })
    }

    /// Writes the labels of classes to output 0. `pick` writes the number of each row's class.
    pub(crate) fn emit_picked(
        &self,
        cx: &mut Lower,
        rows: usize,
        pick: impl FnOnce(&mut Lower, TensorId) -> Result<(), Why>,
    ) -> Result<(), Why> {
        let labels = self.words()?;
        let output = cx.output(0)?;
        let counted = labels.iter().enumerate().all(|(i, &label)| i == label as usize);
        let places = if counted { output } else { cx.temporary(Scalar::I32, &[rows]) };
        pick(cx, places)?;
        if !counted {
            let count = labels.len();
            let table = cx.words(count, || labels)?;
            let params = words([rows, 1, rows, count])?;
            let spec = Gather::new(1, false);
            cx.call(spec, vec![table, places, output], params, gather::groups(rows));
        }
        Ok(())
    }

    /// Writes one of the first two labels to output 0: the second where `build` gives true. The operands have an element for
    /// each row.
    pub(crate) fn emit_second(
        &self,
        cx: &mut Lower,
        rows: usize,
        operands: &[(TensorId, &[usize])],
        build: impl FnOnce(&mut Builder, &[Reg]) -> Reg,
    ) -> Result<(), Why> {
        let labels = self.words()?;
        let output = cx.output(0)?;
        cx.elementwise_to(output, (DType::I64, &[rows]), operands, |e, regs| {
            let second = build(e, regs);
            let [no, yes] = [0, 1].map(|class| e.whole(Scalar::I32, i128::from(labels[class] as i32)));
            e.select(second, yes, no)
        });
        Ok(())
    }
}

/// The class with the greatest score, the first of several. NaN counts as the greatest, as in ArgMax.
pub(crate) fn greatest(scores: &[f64]) -> usize {
    let better = |a: f64, b: f64| !b.is_nan() && (a.is_nan() || a > b);
    (1..scores.len()).fold(0, |best, i| if better(scores[i], scores[best]) { i } else { best })
}

/// Numbers as a table of float32 words. An expression reads them with a bitcast.
pub(crate) fn floats(cx: &mut Lower, numbers: &[f64]) -> Result<TensorId, Why> {
    cx.words(numbers.len(), || numbers.iter().map(|&number| (number as f32).to_bits()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles of the standard normal distribution, from tables; Winitzki's approximation is good to two in a thousand.
    #[test]
    fn probit_is_the_normal_quantile() {
        for (p, quantile) in [(0.5, 0.0), (0.841_344_7, 1.0), (0.977_249_9, 2.0), (0.025, -1.959_964)] {
            let own = PostTransform::Probit.one(p);
            assert!((own - quantile).abs() < 6e-3, "{p}: {own}");
        }
    }

    #[test]
    fn softmax_zero_leaves_out_zeros() {
        let rest = (-1.0f64).exp();
        let row = PostTransform::SoftmaxZero.row(&[2.0, 0.0, 1.0]);
        assert_eq!(row, [1.0 / (1.0 + rest), 0.0, rest / (1.0 + rest)]);
        let row = PostTransform::Softmax.row(&[2.0, 2.0]);
        assert_eq!(row, [0.5, 0.5]);
    }
}
