//! ai.onnx.ml LinearClassifier and LinearRegressor: scores are products of the features with coefficients, and intercepts.
//!
//! History: 1.
//!
//! What ONNX leaves open follows ONNX Runtime: one score for two classes is that of the second, and the first has 1 less the
//! second; of the transforms, only LOGISTIC applies to it, and only PROBIT to a single target.

use super::accumulate::{Sink, Source};
use super::case::{self, Case, Tolerance};
use super::product::{Matrix, Product};
use super::scores::{ClassLabels, PostTransform, floats, greatest, matrix, ml, ml_case, with_texts};
use super::{
    Array, Attr, DType, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, refuse, required, types,
};
use crate::array::product::matmul;
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn2, Reg, Scalar};
use crate::plan::{Lower, TensorId};

/// LinearClassifier or LinearRegressor.
#[derive(Clone, Debug)]
pub(crate) struct LinearModel {
    scores: LinearScores,
    transform: PostTransform,
    kind: LinearKind,
}

#[derive(Clone, Debug)]
enum LinearKind {
    /// The number of targets.
    Regressor(usize),
    Classifier(ClassLabels),
}

/// Scores that are linear in the features.
#[derive(Clone, Debug)]
pub(crate) struct LinearScores {
    /// A row for each score.
    pub(crate) coefficients: Vec<f64>,
    /// One for each score, or none.
    pub(crate) intercepts: Vec<f64>,
}

const CLASSIFIER: Types = types![T1 -> T2 float32; T1: F32 F64 INDICES, T2: STRING I64];
const REGRESSOR: Types = types![T -> float32; T: F32 F64 INDICES];

pub(crate) const ROWS: &[Row] = &[
    ml("LinearClassifier", 1, CLASSIFIER, parse, || cases("LinearClassifier")),
    ml("LinearRegressor", 1, REGRESSOR, parse, || cases("LinearRegressor")),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    if def.op_type == "LinearClassifier"
        && let Some(composed) = with_texts(def, "classlabels_ints")?
    {
        return Ok(composed);
    }
    let list = |name: &str| -> Result<Vec<f64>, Why> {
        Ok(def.attributes.floats(name)?.unwrap_or_default().into_iter().map(f64::from).collect())
    };
    let kind = match def.op_type {
        "LinearClassifier" => LinearKind::Classifier(ClassLabels::of(def.attributes, "classlabels_ints")?),
        _ => match usize::try_from(def.attributes.int_or("targets", 1)?) {
            Ok(targets) if targets > 0 => LinearKind::Regressor(targets),
            _ => refuse!("'targets' must be 1 or more"),
        },
    };
    let scores = LinearScores { coefficients: list("coefficients")?, intercepts: list("intercepts")? };
    Ok(LinearModel { scores, transform: PostTransform::named(def.attributes)?, kind }.into())
}

impl LinearScores {
    /// The number of scores of features with so many columns. Coefficients beyond those are not used, as in ONNX Runtime.
    pub(crate) fn count(&self, columns: usize) -> Result<usize, Why> {
        let (numbers, intercepts) = (self.coefficients.len(), self.intercepts.len());
        let count = if intercepts > 0 { intercepts } else { numbers / columns.max(1) };
        match count.checked_mul(columns) {
            Some(needed) if needed > 0 && needed <= numbers => Ok(count),
            _ => refuse!("{numbers} coefficients do not fit {count} scores of {columns} columns"),
        }
    }

    /// The coefficients with a column for each of `count` scores.
    fn transposed(&self, columns: usize, count: usize) -> Vec<f64> {
        (0..columns).flat_map(|c| (0..count).map(move |s| self.coefficients[s * columns + c])).collect()
    }

    /// The scores of all rows, with the intercepts.
    pub(crate) fn values(&self, x: &[f64], (rows, columns): (usize, usize)) -> Result<Vec<f64>, Why> {
        let count = self.count(columns)?;
        let mut scores = matmul(x, &self.transposed(columns, count), (rows, columns, count));
        for (i, score) in scores.iter_mut().enumerate() {
            *score = f64::from((*score + self.intercepts.get(i % count).unwrap_or(&0.0)) as f32);
        }
        Ok(scores)
    }

    /// Emits the calls that compute the scores of features, with the intercepts.
    pub(crate) fn emit(
        &self,
        cx: &mut Lower,
        features: Source,
        (rows, columns): (usize, usize),
    ) -> Result<TensorId, Why> {
        let count = self.count(columns)?;
        let right = floats(cx, &self.transposed(columns, count))?;
        let sums = emit_product(cx, features, Source::Tensor(right), (rows, columns, count))?;
        if self.intercepts.is_empty() {
            return Ok(sums);
        }
        let (shape, intercepts) = ([rows, count], floats(cx, &self.intercepts)?);
        let scores = cx.temporary(Scalar::F32, &shape);
        let operands = [(sums, &shape[..]), (intercepts, &shape[1..])];
        cx.elementwise_to(scores, (DType::F32, &shape), &operands, |e, regs| {
            let intercept = e.bitcast(regs[1], Scalar::F32);
            e.add(regs[0], intercept)
        });
        Ok(scores)
    }
}

/// Emits the product of two row-major matrices, of `rows` by `inner` and of `inner` by `columns` elements.
pub(crate) fn emit_product(
    cx: &mut Lower,
    left: Source,
    right: Source,
    (rows, inner, columns): (usize, usize, usize),
) -> Result<TensorId, Why> {
    let sums = cx.temporary(Scalar::F32, &[rows, columns]);
    let a = Matrix { source: left, row: inner, column: 1 };
    let b = Matrix { source: right, row: columns, column: 1 };
    let product = Product { m: rows, n: columns, k: inner, batch: vec![], a, b };
    product.lower(cx, Scalar::F32, Sink::Tensor(sums))?;
    Ok(sums)
}

/// Input 0 as float32.
pub(crate) fn float_features(cx: &mut Lower) -> Result<Source, Why> {
    let x = cx.fact(0)?;
    if x.dtype == DType::F32 {
        return Ok(Source::Input(0));
    }
    let (input, to) = (cx.input(0)?, cx.temporary(Scalar::F32, &x.shape));
    cx.elementwise_to(to, (DType::F32, &x.shape), &[(input, &x.shape)], |e, regs| {
        e.convert(regs[0], Scalar::F32)
    });
    Ok(Source::Tensor(to))
}

impl LinearModel {
    /// The scores for each row, of a classifier or regressor whose features have so many columns.
    fn score_count(&self, columns: usize) -> Result<usize, Why> {
        let count = self.scores.count(columns)?;
        match &self.kind {
            LinearKind::Regressor(targets) if count == *targets => {}
            LinearKind::Classifier(labels) if count == labels.len() => {}
            LinearKind::Classifier(labels) if labels.len() == 2 && count == 1 => {
                if self.transform == PostTransform::Probit {
                    refuse!("PROBIT of one score for two classes leaves the second open");
                }
            }
            LinearKind::Regressor(targets) => {
                refuse!("there are coefficients for {count} targets, and {targets}")
            }
            LinearKind::Classifier(labels) => {
                refuse!("there are coefficients for {count} classes, and {} labels", labels.len())
            }
        }
        Ok(count)
    }

    /// The transform where a row has one score.
    fn single_transform(&self) -> PostTransform {
        match (&self.kind, self.transform) {
            (LinearKind::Regressor(_), PostTransform::Probit) => PostTransform::Probit,
            (LinearKind::Classifier(_), PostTransform::Logistic) => PostTransform::Logistic,
            _ => PostTransform::Unchanged,
        }
    }

    /// Writes the scores of two classes, of which the second has `scores`.
    fn emit_two(&self, cx: &mut Lower, scores: TensorId, rows: usize) -> Result<(), Why> {
        let output = cx.output(1)?;
        cx.elementwise_to(output, (DType::F32, &[rows, 2]), &[(scores, &[rows, 1])], |e, regs| {
            let second = self.single_transform().one_on_device(e, regs[0]);
            let one = e.f32(1.0);
            let first = e.sub(one, second);
            of_column(e, [first, second])
        });
        Ok(())
    }
}

/// The value for the first or the second column of the result.
pub(crate) fn of_column(e: &mut Builder, values: [Reg; 2]) -> Reg {
    let (column, zero) = (e.coordinate(1), e.constant(Scalar::U32, 0.0));
    let first = e.two(Fn2::Equal, column, zero);
    e.select(first, values[0], values[1])
}

impl Operator for LinearModel {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (rows, columns) = matrix(&required(inputs, 0)?.shape)?;
        self.score_count(columns)?;
        Ok(match &self.kind {
            LinearKind::Regressor(targets) => vec![Fact::new(DType::F32, [rows, *targets])],
            LinearKind::Classifier(labels) => {
                vec![Fact::new(labels.dtype(), [rows]), Fact::new(DType::F32, [rows, labels.len()])]
            }
        })
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (rows, columns) = matrix(&x.shape)?;
        let count = self.score_count(columns)?;
        let scores = self.scores.values(&x.to_f64()?, (rows, columns))?;
        let single = |score: f64| self.single_transform().one(score);
        Ok(match &self.kind {
            LinearKind::Regressor(targets) => {
                let values = match count {
                    1 => scores.into_iter().map(single).collect(),
                    _ => scores.chunks(count).flat_map(|row| self.transform.row(row)).collect(),
                };
                vec![Array::float(DType::F32, &[rows, *targets], values)]
            }
            LinearKind::Classifier(labels) => {
                let (classes, values): (Vec<usize>, Vec<f64>) = match count {
                    1 => (
                        scores.iter().map(|&score| usize::from(score > 0.0)).collect(),
                        scores.iter().map(|&score| single(score)).flat_map(|p| [1.0 - p, p]).collect(),
                    ),
                    _ => (
                        scores.chunks(count).map(greatest).collect(),
                        scores.chunks(count).flat_map(|row| self.transform.row(row)).collect(),
                    ),
                };
                vec![labels.array(&classes), Array::float(DType::F32, &[rows, labels.len()], values)]
            }
        })
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (rows, _) = matrix(&required(inputs, 0)?.shape)?;
        let (x, count) = (required(inputs, 0)?, self.scores.coefficients.len());
        // The features and the coefficients as f64, and as the product packs them; the scores, and those of each row in lists that grow.
        let features = Work::default().temporary(x.count(), 2 * size_of::<f64>());
        let scores = outputs.iter().map(Fact::count).fold(0, usize::saturating_add);
        let scores = Work::default().temporary(scores, 6 * size_of::<f64>());
        let work = of_elements(inputs, outputs) + features + scores;
        Ok(work.products(&[rows, count]).temporary(count, 2 * size_of::<f64>()))
    }

    fn first_output_is_optional(&self) -> bool {
        matches!(self.kind, LinearKind::Classifier(_))
    }

    // The scores are float32, as in ONNX Runtime, which rounds the features first.
    fn computes_f64(&self) -> bool {
        true
    }

    // Labels fit 32 bits.
    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        let (rows, columns) = matrix(&cx.fact(0)?.shape)?;
        let count = self.score_count(columns)?;
        let features = float_features(cx)?;
        let scores = self.scores.emit(cx, features, (rows, columns))?;
        let shape = [rows, count];
        let labels = match &self.kind {
            LinearKind::Regressor(_) => {
                let output = cx.output(0)?;
                let transform = if count == 1 { self.single_transform() } else { self.transform };
                return transform
                    .emit(cx, (output, DType::F32), &shape, &[(scores, &shape)], |_, regs| regs[0]);
            }
            LinearKind::Classifier(labels) => labels,
        };
        if cx.optional_out(0).is_some() {
            match count {
                1 => labels.emit_second(cx, rows, &[(scores, &[rows])], |e, regs| {
                    let zero = e.f32(0.0);
                    e.two(Fn2::Greater, regs[0], zero)
                })?,
                _ => labels.emit_greatest(cx, scores, rows)?,
            }
        }
        if cx.optional_out(1).is_some() {
            if count == 1 {
                return self.emit_two(cx, scores, rows);
            }
            let output = cx.output(1)?;
            self.transform.emit(cx, (output, DType::F32), &shape, &[(scores, &shape)], |_, regs| regs[0])?;
        }
        Ok(())
    }
}

fn cases(name: &'static str) -> Vec<Case> {
    let classifier = name == "LinearClassifier";
    let new = |case: &str| {
        let case = ml_case(name, case).tolerance(Tolerance::TRANSCENDENTAL);
        if classifier { case.outputs(2) } else { case }
    };
    // Coefficients and intercepts for so many scores of features with so many columns.
    let of = |case: Case, scores: usize, columns: usize| {
        let list =
            |count: usize| case::random(&[count]).to_vec::<f32>().unwrap_or_else(|e| unreachable!("{e}"));
        case.attr("coefficients", Attr::Floats(list(scores * columns)))
            .attr("intercepts", Attr::Floats(list(scores)))
    };
    let x = |shape: &[usize]| case::uniform(shape, -2.0, 2.0);
    let mut cases = vec![];
    for transform in ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"] {
        for (scores, labels) in [(1, &[4, -7][..]), (2, &[0, 1]), (3, &[5, 1, 2])] {
            let case = new(&format!("{scores}, {transform}")).string("post_transform", transform);
            let case = match classifier {
                true => case.ints("classlabels_ints", labels),
                false => case.int("targets", scores as i64),
            };
            cases.push(of(case, scores, 6).input(x(&[9, 6])));
        }
    }
    let plain = |case: &str| match classifier {
        true => new(case).ints("classlabels_ints", &[0, 1, 2]),
        false => new(case).int("targets", 3),
    };
    cases.extend([
        of(plain("one row"), 3, 5).input(x(&[5])),
        of(plain("no rows"), 3, 5).input(x(&[0, 5])),
        of(plain("wide"), 3, 3000).input(case::uniform(&[4, 3000], -0.1, 0.1)),
        of(plain("int64"), 3, 4).input(case::integers(&[5, 4], -5, 5)),
        of(plain("int32"), 3, 4).input(case::converted(&case::integers(&[5, 4], -5, 5), DType::I32)),
        of(plain("many rows"), 3, 4).input(x(&[1000, 4])),
        of(plain("fewer columns"), 3, 4).input(x(&[5, 2])),
    ]);
    cases
}

#[cfg(test)]
mod tests {
    use super::super::case::evaluated;
    use super::*;

    fn classifier(coefficients: &[f32], labels: &[i64], transform: &str) -> Vec<Array> {
        let case = ml_case("LinearClassifier", "formula")
            .outputs(2)
            .attr("coefficients", Attr::Floats(coefficients.to_vec()))
            .attr("intercepts", Attr::Floats(vec![0.5; coefficients.len() / 2]))
            .ints("classlabels_ints", labels)
            .string("post_transform", transform)
            .input(case::values(&[2, 2], &[1.0f32, 2.0, -3.0, 0.25]));
        evaluated(&case).unwrap()
    }

    #[test]
    fn one_score_is_that_of_the_second_class() {
        // Scores 1 - 2 + 0.5 and -3 - 0.25 + 0.5.
        let outputs = classifier(&[1.0, -1.0], &[4, 9], "NONE");
        assert_eq!(outputs[0].i64s().unwrap(), [4, 4]);
        assert_eq!(outputs[1].floats().unwrap(), [1.5, -0.5, 3.75, -2.75]);
        // Only the logistic function applies to it.
        assert_eq!(classifier(&[1.0, -1.0], &[4, 9], "SOFTMAX")[1], outputs[1]);
        let second = 1.0 / (1.0 + 0.5f64.exp());
        let outputs = classifier(&[1.0, -1.0], &[4, 9], "LOGISTIC");
        assert_eq!(outputs[1].floats().unwrap()[..2], [1.0 - second, second].map(|x| f64::from(x as f32)));
    }

    #[test]
    fn several_scores_are_compared() {
        // Scores 1.5, 2.5 and -2.5, and -2.5, 0.75 and 3.25.
        let outputs = classifier(&[1.0, 0.0, 0.0, 1.0, -1.0, -1.0], &[7, 8, 9], "SOFTMAX");
        assert_eq!(outputs[0].i64s().unwrap(), [8, 9]);
        let exp = [1.5f64, 2.5, -2.5].map(f64::exp);
        let expected = exp.map(|x| f64::from((x / exp.iter().sum::<f64>()) as f32));
        assert_eq!(outputs[1].floats().unwrap()[..3], expected);
    }
}
