//! ai.onnx.ml SVMClassifier and SVMRegressor: sums of kernel functions of the features and support vectors.
//!
//! History: 1.
//!
//! What ONNX leaves open follows ONNX Runtime. Each pair of classes votes for one, and the label is the class with the most
//! votes, even where there are probabilities. Those come from pairwise coupling, in float32. Without them, the scores are those
//! of the pairs. Of two classes the second score is that of the pair, and the first follows from it. SVMRegressor applies no
//! transform.

use super::accumulate::Source;
use super::case::{self, Case, Tolerance};
use super::linear_model::{LinearScores, emit_product, float_features, of_column};
use super::scores::{ClassLabels, PostTransform, floats, greatest, matrix, ml, ml_case, with_texts};
use super::{
    Array, Attr, DType, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, product, refuse, required,
    types,
};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg, Scalar};
use crate::kernels::svm as kernel;
use crate::kernels::{nested, words};
use crate::plan::{Lower, TensorId};

/// SVMClassifier or SVMRegressor.
#[derive(Clone, Debug)]
pub(crate) enum Svm {
    /// Scores that are linear in the features: there are no support vectors.
    Linear(LinearScores, SvmKind),
    Vectors(Supports, SvmKind),
}

/// What becomes of scores.
#[derive(Clone, Debug)]
pub(crate) enum SvmKind {
    /// Whether the result is 1 or -1, for features like those of training or others.
    Regressor {
        one_class: bool,
    },
    Classifier(SvmClasses),
}

#[derive(Clone, Debug)]
pub(crate) struct SvmClasses {
    labels: ClassLabels,
    transform: PostTransform,
    /// The numbers `a` and then `b` for each pair of classes, where there are probabilities.
    probabilities: Vec<f32>,
}

/// Support vectors, and what each adds to the scores: one of a regressor, or one for each pair of classes.
#[derive(Clone, Debug)]
pub(crate) struct Supports {
    function: KernelFunction,
    vectors: Vec<f64>,
    /// The number of vectors.
    count: usize,
    scores: Vec<PairScore>,
}

/// A score: the sum of kernel values of two ranges of vectors, each times its coefficient, and a constant.
#[derive(Clone, Debug)]
struct PairScore {
    /// The first vector, and coefficients of it and those after it.
    parts: [(usize, Vec<f64>); 2],
    constant: f64,
}

/// The kernel function of a row and a support vector.
#[derive(Clone, Copy, Debug, PartialEq)]
enum KernelFunction {
    Linear,
    Poly {
        gamma: f32,
        constant: f32,
        degree: f32,
    },
    /// Of the squared distance; the others are of the dot product.
    Rbf {
        gamma: f32,
    },
    Sigmoid {
        gamma: f32,
        constant: f32,
    },
}

const CLASSIFIER: Types = types![T1 -> T2 float32; T1: F32 F64 INDICES, T2: STRING I64];
const REGRESSOR: Types = types![T -> float32; T: F32 F64 INDICES];

pub(crate) const ROWS: &[Row] = &[
    ml("SVMClassifier", 1, CLASSIFIER, parse_classifier, || cases("SVMClassifier")),
    ml("SVMRegressor", 1, REGRESSOR, parse_regressor, || cases("SVMRegressor")),
];

impl KernelFunction {
    fn of(def: &NodeDef) -> Result<KernelFunction, Why> {
        let params = def.attributes.floats("kernel_params")?.unwrap_or_default();
        let name = def.attributes.string_or("kernel_type", "LINEAR")?;
        Ok(match (name.as_str(), &params[..]) {
            ("LINEAR", _) => KernelFunction::Linear,
            ("POLY", &[gamma, constant, degree]) => KernelFunction::Poly { gamma, constant, degree },
            ("RBF", &[gamma, ..]) => KernelFunction::Rbf { gamma },
            ("SIGMOID", &[gamma, constant, _]) => KernelFunction::Sigmoid { gamma, constant },
            ("POLY" | "RBF" | "SIGMOID", _) => {
                refuse!("kernel_params has {} entries, and needs gamma, coef0 and degree", params.len())
            }
            _ => refuse!("kernel_type is '{name}'"),
        })
    }

    fn value(self, x: &[f64], vector: &[f64]) -> f64 {
        let dot = || x.iter().zip(vector).map(|(x, v)| x * v).sum::<f64>();
        match self {
            KernelFunction::Linear => dot(),
            KernelFunction::Poly { gamma, constant, degree } => {
                (f64::from(gamma) * dot() + f64::from(constant)).powf(degree.into())
            }
            KernelFunction::Rbf { gamma } => {
                let distance: f64 = x.iter().zip(vector).map(|(x, v)| (x - v) * (x - v)).sum();
                (-f64::from(gamma) * distance).exp()
            }
            KernelFunction::Sigmoid { gamma, constant } => {
                (f64::from(gamma) * dot() + f64::from(constant)).tanh()
            }
        }
    }

    /// The value on the device, of a dot product or a squared distance.
    fn on_device(self, e: &mut Builder, x: Reg) -> Reg {
        let inner = |e: &mut Builder, gamma: f32, constant: f32| {
            let (gamma, constant) = (e.f32(gamma), e.f32(constant));
            let product = e.mul(gamma, x);
            e.add(product, constant)
        };
        match self {
            KernelFunction::Linear => x,
            KernelFunction::Poly { gamma, constant, degree } => {
                let (base, degree) = (inner(e, gamma, constant), e.f32(degree));
                e.two(Fn2::Pow, base, degree)
            }
            KernelFunction::Rbf { gamma } => {
                let gamma = e.f32(-gamma);
                let exponent = e.mul(gamma, x);
                e.one(Fn1::Exp, exponent)
            }
            KernelFunction::Sigmoid { gamma, constant } => {
                let inner = inner(e, gamma, constant);
                e.one(Fn1::Tanh, inner)
            }
        }
    }
}

fn list(def: &NodeDef, name: &str) -> Result<Vec<f64>, Why> {
    Ok(def.attributes.floats(name)?.unwrap_or_default().into_iter().map(f64::from).collect())
}

fn parse_regressor(def: &NodeDef) -> Result<Op, Why> {
    let (coefficients, rho) = (list(def, "coefficients")?, list(def, "rho")?);
    let Some(&constant) = rho.first() else { refuse!("'rho' is missing") };
    let kind = SvmKind::Regressor { one_class: def.attributes.flag("one_class", false)? };
    let count = match usize::try_from(def.attributes.int_or("n_supports", 0)?) {
        Ok(count) => count,
        Err(_) => refuse!("n_supports is negative"),
    };
    if count == 0 {
        return Ok(Svm::Linear(LinearScores { coefficients, intercepts: vec![constant] }, kind).into());
    }
    if coefficients.len() != count {
        refuse!("there are {} coefficients for {count} support vectors", coefficients.len());
    }
    let scores = vec![PairScore { parts: [(0, coefficients), (0, vec![])], constant }];
    let (function, vectors) = (KernelFunction::of(def)?, list(def, "support_vectors")?);
    Ok(Svm::Vectors(Supports { function, vectors, count, scores }, kind).into())
}

fn parse_classifier(def: &NodeDef) -> Result<Op, Why> {
    if let Some(composed) = with_texts(def, "classlabels_ints")? {
        return Ok(composed);
    }
    let labels = ClassLabels::of(def.attributes, "classlabels_ints")?;
    let transform = PostTransform::named(def.attributes)?;
    let (coefficients, rho) = (list(def, "coefficients")?, list(def, "rho")?);
    let (a, b) = (list(def, "prob_a")?, list(def, "prob_b")?);
    let classes = labels.len();
    let sizes = def.attributes.ints("vectors_per_class")?.unwrap_or_default();
    let mut starts = vec![0usize];
    for size in sizes {
        let end = usize::try_from(size).ok().and_then(|size| starts[starts.len() - 1].checked_add(size));
        match end {
            Some(end) => starts.push(end),
            None => refuse!("'vectors_per_class' has {size}"),
        }
    }
    let count = starts[starts.len() - 1];
    if count == 0 {
        let (Some(&constant), true) = (rho.first(), classes > 2) else {
            refuse!("without support vectors, 'rho' and at least three classes are needed");
        };
        let scores = LinearScores { coefficients, intercepts: vec![constant; classes] };
        let kind = SvmKind::Classifier(SvmClasses { labels, transform, probabilities: vec![] });
        return Ok(Svm::Linear(scores, kind).into());
    }
    let pairs = classes * (classes - 1) / 2;
    if starts.len() != classes + 1
        || rho.len() != pairs
        || a.len() != b.len()
        || !matches!(a.len(), n if n == 0 || n == pairs)
    {
        refuse!(
            "{classes} labels need as many 'vectors_per_class', and {pairs} of 'rho', 'prob_a' and 'prob_b'"
        );
    }
    if Some(coefficients.len()) != count.checked_mul(classes - 1) {
        refuse!(
            "there are {} coefficients for {count} support vectors of {classes} classes",
            coefficients.len()
        );
    }
    if transform == PostTransform::Probit && a.is_empty() && classes == 2 {
        refuse!("PROBIT of one score for two classes leaves the second open");
    }
    let of_class = |own: usize, other: usize| {
        let line = count * if own < other { other - 1 } else { other };
        (starts[own], coefficients[line + starts[own]..line + starts[own + 1]].to_vec())
    };
    let mut scores = Vec::with_capacity(pairs);
    for i in 0..classes {
        for j in i + 1..classes {
            scores.push(PairScore { parts: [of_class(i, j), of_class(j, i)], constant: rho[scores.len()] });
        }
    }
    let probabilities = a.into_iter().chain(b).map(|x| x as f32).collect();
    let kind = SvmKind::Classifier(SvmClasses { labels, transform, probabilities });
    let (function, vectors) = (KernelFunction::of(def)?, list(def, "support_vectors")?);
    Ok(Svm::Vectors(Supports { function, vectors, count, scores }, kind).into())
}

impl Supports {
    /// Refuses features of another number of columns than the vectors'.
    fn check(&self, columns: usize) -> Result<(), Why> {
        match self.count.checked_mul(columns) {
            Some(elements) if elements == self.vectors.len() => Ok(()),
            _ => refuse!(
                "{} support vectors have {} elements, and the features {columns} columns",
                self.count,
                self.vectors.len()
            ),
        }
    }

    /// The scores of all rows.
    fn values(&self, x: &[f64], columns: usize) -> Vec<f64> {
        let mut scores = Vec::new();
        for row in x.chunks(columns.max(1)) {
            let vectors = self.vectors.chunks(columns.max(1));
            let kernel: Vec<f64> = vectors.map(|vector| self.function.value(row, vector)).collect();
            let part = |(start, coefficients): &(usize, Vec<f64>)| -> f64 {
                coefficients.iter().zip(&kernel[*start..]).map(|(c, k)| c * k).sum()
            };
            let of = |score: &PairScore| score.parts.iter().map(part).sum::<f64>() + score.constant;
            scores.extend(self.scores.iter().map(|score| f64::from(of(score) as f32)));
        }
        scores
    }

    /// A row for each vector, with its coefficient for each score.
    fn coefficients(&self) -> Vec<u32> {
        let width = self.scores.len();
        let mut words = vec![0; self.count * width];
        for (s, score) in self.scores.iter().enumerate() {
            for (start, coefficients) in &score.parts {
                for (i, &coefficient) in coefficients.iter().enumerate() {
                    words[(start + i) * width + s] = (coefficient as f32).to_bits();
                }
            }
        }
        words
    }

    /// Emits the calls that compute the scores of features.
    fn emit(&self, cx: &mut Lower, (rows, columns): (usize, usize)) -> Result<TensorId, Why> {
        let (features, count) = (float_features(cx)?, self.count);
        let shape = [rows, count];
        let mut values = match self.function {
            KernelFunction::Rbf { .. } => {
                if columns > cx.target.max_iterations as usize {
                    refuse!("the features have {columns} columns, more than a device walks through");
                }
                let tensors =
                    vec![features.tensor(cx)?, floats(cx, &self.vectors)?, cx.temporary(Scalar::F32, &shape)];
                let distances = tensors[2];
                let params = words([rows * count, count, columns])?;
                cx.call(kernel::Svm::Distances, tensors, params, kernel::groups(rows * count));
                distances
            }
            _ => {
                let turned =
                    (0..columns).flat_map(|c| (0..count).map(move |v| self.vectors[v * columns + c]));
                let vectors = floats(cx, &turned.collect::<Vec<_>>())?;
                emit_product(cx, features, Source::Tensor(vectors), (rows, columns, count))?
            }
        };
        if self.function != KernelFunction::Linear {
            let applied = cx.temporary(Scalar::F32, &shape);
            cx.elementwise_to(applied, (DType::F32, &shape), &[(values, &shape)], |e, regs| {
                self.function.on_device(e, regs[0])
            });
            values = applied;
        }
        let width = self.scores.len();
        let coefficients = cx.words(product([count, width]), || self.coefficients())?;
        let sums =
            emit_product(cx, Source::Tensor(values), Source::Tensor(coefficients), (rows, count, width))?;
        let (shape, constants) =
            ([rows, width], self.scores.iter().map(|score| score.constant).collect::<Vec<_>>());
        let (constants, scores) = (floats(cx, &constants)?, cx.temporary(Scalar::F32, &shape));
        cx.elementwise_to(
            scores,
            (DType::F32, &shape),
            &[(sums, &shape), (constants, &shape[1..])],
            |e, regs| {
                let constant = e.bitcast(regs[1], Scalar::F32);
                e.add(regs[0], constant)
            },
        );
        Ok(scores)
    }
}

/// The number of the pair of classes `i` and `j`.
fn pair(classes: usize, i: usize, j: usize) -> usize {
    let (i, j) = (i.min(j), i.max(j));
    i * (2 * classes - i - 1) / 2 + j - i - 1
}

/// The class with the most votes, the first of several.
fn most_voted(scores: &[f64], classes: usize) -> usize {
    let votes = |own: usize| {
        let wins =
            |&other: &usize| other != own && (scores[pair(classes, own, other)] > 0.0) == (own < other);
        (0..classes).filter(wins).count()
    };
    (0..classes).rev().max_by_key(|&class| votes(class)).unwrap_or(0)
}

/// The rounds after which the coupling of probabilities ends.
const ROUNDS: usize = 100;

impl SvmClasses {
    fn pairs(&self) -> usize {
        self.labels.len() * (self.labels.len() - 1) / 2
    }

    /// The columns of scores of a classifier with support vectors.
    fn columns(&self) -> usize {
        let classes = self.labels.len();
        if self.probabilities.is_empty() && classes > 2 { self.pairs() } else { classes }
    }

    /// The probability of class `i` against class `j`, in float32.
    fn against(&self, scores: &[f64], i: usize, j: usize) -> f32 {
        let number = pair(self.labels.len(), i, j);
        let value =
            scores[number] as f32 * self.probabilities[number] + self.probabilities[self.pairs() + number];
        let of_first = (1.0 / (1.0 + value.exp())).clamp(1e-7, 1.0 - 1e-7);
        if i < j { of_first } else { 1.0 - of_first }
    }

    /// Algorithm 2 of Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise coupling", 2004, in
    /// float32 as ONNX Runtime computes it: where it ends depends on rounding.
    fn coupled(&self, scores: &[f64]) -> Vec<f64> {
        let classes = self.labels.len();
        let mut q = vec![0f32; classes * classes];
        for own in 0..classes {
            for other in 0..classes {
                q[own * classes + other] = match own == other {
                    true => {
                        (0..classes).filter(|&j| j != own).map(|j| self.against(scores, j, own).powi(2)).sum()
                    }
                    false => -self.against(scores, other, own) * self.against(scores, own, other),
                };
            }
        }
        let mut p = vec![1.0 / classes as f32; classes];
        for _ in 0..ROUNDS {
            let row =
                |t: usize| q[t * classes..(t + 1) * classes].iter().zip(&p).map(|(q, p)| q * p).sum::<f32>();
            let mut products: Vec<f32> = (0..classes).map(row).collect();
            let mut whole: f32 = p.iter().zip(&products).map(|(p, product)| p * product).sum();
            let error = products.iter().map(|product| (product - whole).abs()).fold(0.0, f32::max);
            if error < 0.005 / classes as f32 {
                break;
            }
            for t in 0..classes {
                let (own, product) = (q[t * classes + t], products[t]);
                let change = (whole - product) / own;
                let norm = 1.0 + change;
                p[t] += change;
                whole = (whole + change * (change * own + 2.0 * product)) / (norm * norm);
                for j in 0..classes {
                    products[j] = (products[j] + change * q[t * classes + j]) / norm;
                    p[j] /= norm;
                }
            }
        }
        p.into_iter().map(f64::from).collect()
    }

    /// The results of a row that has these scores of pairs.
    fn row(&self, scores: &[f64]) -> Vec<f64> {
        if !self.probabilities.is_empty() {
            return self.transform.row(&self.coupled(scores));
        }
        match scores {
            &[score] => match self.transform {
                PostTransform::Unchanged => vec![-score, score],
                PostTransform::Logistic => [-score, score].map(|score| self.transform.one(score)).to_vec(),
                _ => vec![1.0 - score, score],
            },
            _ => self.transform.row(scores),
        }
    }

    /// Emits the calls that compute probabilities of classes from the scores of pairs.
    fn emit_coupled(&self, cx: &mut Lower, scores: TensorId, rows: usize) -> Result<TensorId, Why> {
        let classes = self.labels.len();
        let table: Vec<f64> = self.probabilities.iter().copied().map(f64::from).collect();
        let (table, q) = (floats(cx, &table)?, cx.temporary(Scalar::F32, &[rows, classes, classes]));
        let count = rows * classes * classes;
        let params = words([count, classes])?;
        cx.call(kernel::Svm::Matrix, vec![scores, table, q], params, kernel::groups(count));
        let (products, p) =
            (cx.temporary(Scalar::F32, &[rows, classes]), cx.temporary(Scalar::F32, &[rows, classes]));
        // A round has three loops over all classes, two of them with a loop inside. Drivers count the end of a loop, too.
        let round = 2 * nested([classes, classes + 1]) + classes + 4;
        let limit = (cx.target.max_iterations as usize).saturating_sub(classes + 2);
        let rounds = limit / round;
        if rounds == 0 {
            refuse!("there are {classes} classes, more than a device couples");
        }
        for first in (0..ROUNDS).step_by(rounds) {
            let params = words([rows, classes, rounds.min(ROUNDS - first)])?;
            let couple = kernel::Svm::Couple { first: first == 0 };
            cx.call(couple, vec![q, products, p], params, kernel::groups(rows));
        }
        Ok(p)
    }

    fn emit_label(&self, cx: &mut Lower, scores: TensorId, rows: usize) -> Result<(), Why> {
        let classes = self.labels.len();
        if nested([classes, classes + 1]) > cx.target.max_iterations as usize {
            refuse!("there are {classes} classes, more than a device counts votes for");
        }
        let params = words([rows, classes])?;
        self.labels.emit_picked(cx, rows, |cx, places| {
            cx.call(kernel::Svm::Votes, vec![scores, places], params, kernel::groups(rows));
            Ok(())
        })
    }

    fn emit_scores(&self, cx: &mut Lower, scores: TensorId, rows: usize) -> Result<(), Why> {
        let (output, shape) = (cx.output(1)?, [rows, self.columns()]);
        if self.probabilities.is_empty() && self.labels.len() == 2 {
            cx.elementwise_to(output, (DType::F32, &shape), &[(scores, &[rows, 1])], |e, regs| {
                let (one, negative) = (e.f32(1.0), e.one(Fn1::Neg, regs[0]));
                let pair = match self.transform {
                    PostTransform::Unchanged => [negative, regs[0]],
                    PostTransform::Logistic => {
                        [negative, regs[0]].map(|score| self.transform.one_on_device(e, score))
                    }
                    _ => [e.sub(one, regs[0]), regs[0]],
                };
                of_column(e, pair)
            });
            return Ok(());
        }
        let own = if self.probabilities.is_empty() { scores } else { self.emit_coupled(cx, scores, rows)? };
        self.transform.emit(cx, (output, DType::F32), &shape, &[(own, &shape)], |_, regs| regs[0])
    }
}

impl Operator for Svm {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (rows, columns) = matrix(&required(inputs, 0)?.shape)?;
        let (kind, width) = match self {
            Svm::Linear(scores, kind) => {
                scores.count(columns)?;
                (kind, if let SvmKind::Classifier(classes) = kind { classes.labels.len() } else { 1 })
            }
            Svm::Vectors(supports, kind) => {
                supports.check(columns)?;
                (kind, if let SvmKind::Classifier(classes) = kind { classes.columns() } else { 1 })
            }
        };
        let scores = Fact::new(DType::F32, [rows, width]);
        Ok(match kind {
            SvmKind::Regressor { .. } => vec![scores],
            SvmKind::Classifier(classes) => vec![Fact::new(classes.labels.dtype(), [rows]), scores],
        })
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (rows, columns) = matrix(&x.shape)?;
        let x = x.to_f64()?;
        let (scores, kind) = match self {
            Svm::Linear(scores, kind) => (scores.values(&x, (rows, columns))?, kind),
            Svm::Vectors(supports, kind) => (supports.values(&x, columns), kind),
        };
        Ok(match (self, kind) {
            (_, SvmKind::Regressor { one_class }) => {
                let sign = |score: f64| if score > 0.0 { 1.0 } else { -1.0 };
                let values = scores.into_iter().map(|score| if *one_class { sign(score) } else { score });
                vec![Array::float(DType::F32, &[rows, 1], values.collect())]
            }
            (Svm::Linear(..), SvmKind::Classifier(classes)) => {
                let chunks = || scores.chunks(classes.labels.len());
                let values = chunks().flat_map(|row| classes.transform.row(row)).collect();
                let labels = chunks().map(greatest).collect::<Vec<_>>();
                vec![
                    classes.labels.array(&labels),
                    Array::float(DType::F32, &[rows, classes.labels.len()], values),
                ]
            }
            (Svm::Vectors(..), SvmKind::Classifier(classes)) => {
                let chunks = || scores.chunks(classes.pairs());
                let values = chunks().flat_map(|row| classes.row(row)).collect();
                let labels = chunks().map(|row| most_voted(row, classes.labels.len())).collect::<Vec<_>>();
                let values = Array::float(DType::F32, &[rows, classes.columns()], values);
                vec![classes.labels.array(&labels), values]
            }
        })
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (rows, columns) = matrix(&required(inputs, 0)?.shape)?;
        let elements = of_elements(inputs, outputs);
        Ok(match self {
            Svm::Linear(scores, _) => {
                let count = scores.coefficients.len();
                let features = elements.temporary(rows.saturating_mul(columns), 2 * size_of::<f64>());
                features.products(&[rows, count]).temporary(count, 2 * size_of::<f64>())
            }
            Svm::Vectors(supports, kind) => {
                let pairs = supports.scores.len();
                let votes =
                    if let SvmKind::Classifier(classes) = kind { classes.labels.len().pow(2) } else { 1 };
                let rounds = match kind {
                    SvmKind::Classifier(classes) if !classes.probabilities.is_empty() => 2 * ROUNDS,
                    _ => 1,
                };
                let kernel = elements.products(&[rows, supports.count, columns + 8]);
                let sums = kernel.products(&[rows, supports.count, (2 * pairs).isqrt() + 2]);
                sums.steps(&[rows, votes, rounds]).temporary(rows * pairs + votes, size_of::<f64>())
            }
        })
    }

    fn first_output_is_optional(&self) -> bool {
        let (Svm::Linear(_, kind) | Svm::Vectors(_, kind)) = self;
        matches!(kind, SvmKind::Classifier(_))
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
        let (scores, kind) = match self {
            Svm::Linear(scores, kind) => {
                let features = float_features(cx)?;
                (scores.emit(cx, features, (rows, columns))?, kind)
            }
            Svm::Vectors(supports, kind) => (supports.emit(cx, (rows, columns))?, kind),
        };
        let classes = match kind {
            SvmKind::Regressor { one_class } => {
                return cx.elementwise(0, &[(scores, &[rows, 1])], |e, regs| {
                    let (zero, one, none) = (e.f32(0.0), e.f32(1.0), e.f32(-1.0));
                    let positive = e.two(Fn2::Greater, regs[0], zero);
                    if *one_class { e.select(positive, one, none) } else { regs[0] }
                });
            }
            SvmKind::Classifier(classes) => classes,
        };
        let linear = matches!(self, Svm::Linear(..));
        if cx.optional_out(0).is_some() {
            match linear {
                true => classes.labels.emit_greatest(cx, scores, rows)?,
                false => classes.emit_label(cx, scores, rows)?,
            }
        }
        if cx.optional_out(1).is_some() {
            if !linear {
                return classes.emit_scores(cx, scores, rows);
            }
            let (output, shape) = (cx.output(1)?, [rows, classes.labels.len()]);
            classes
                .transform
                .emit(cx, (output, DType::F32), &shape, &[(scores, &shape)], |_, regs| regs[0])?;
        }
        Ok(())
    }
}

/// So many support vectors and columns, with random numbers, in a case for these labels; none for a regressor.
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) fn supported(case: Case, labels: &[i64], vectors: usize, columns: usize, kernel: &str) -> Case {
    let list = |count: usize, seed: usize| {
        let numbers = case::uniform(&[seed, count], -1.0, 1.0).to_vec::<f32>();
        numbers.unwrap_or_else(|e| unreachable!("{e}"))[..count].to_vec()
    };
    let classes = labels.len().max(2);
    let pairs = if labels.is_empty() { 1 } else { classes * (classes - 1) / 2 };
    let lines = if labels.is_empty() { 1 } else { classes - 1 };
    let degree = if kernel == "POLY" { 3.0 } else { 0.0 };
    let case = case
        .string("kernel_type", kernel)
        .attr("kernel_params", Attr::Floats(vec![0.3, 0.2, degree]))
        .attr("support_vectors", Attr::Floats(list(vectors * columns, 1)))
        .attr("coefficients", Attr::Floats(list(vectors * lines, 2)))
        .attr("rho", Attr::Floats(list(pairs, 3)));
    if labels.is_empty() {
        return case.int("n_supports", vectors as i64);
    }
    let mut sizes = vec![(vectors / classes) as i64; classes];
    sizes[0] += (vectors % classes) as i64;
    case.ints("vectors_per_class", &sizes).ints("classlabels_ints", labels)
}

fn cases(name: &'static str) -> Vec<Case> {
    let classifier = name == "SVMClassifier";
    let new = |case: &str| {
        let case = ml_case(name, case).tolerance(Tolerance::TRANSCENDENTAL);
        if classifier { case.outputs(2) } else { case }
    };
    let x = |shape: &[usize]| case::uniform(shape, -2.0, 2.0);
    let labels: &[i64] = if classifier { &[3, -1, 4, 7] } else { &[] };
    let mut cases = vec![];
    for kernel in ["LINEAR", "POLY", "RBF", "SIGMOID"] {
        cases.push(supported(new(kernel), labels, 11, 5, kernel).input(x(&[8, 5])));
    }
    let plain = |case: &str| supported(new(case), labels, 11, 5, "RBF");
    cases.extend([
        plain("one row").input(x(&[5])),
        plain("no rows").input(x(&[0, 5])),
        plain("int64").input(case::integers(&[4, 5], -2, 3)),
        plain("int32").input(case::converted(&case::integers(&[4, 5], -2, 3), DType::I32)),
        supported(new("many"), labels, 300, 20, "RBF").input(x(&[50, 20])),
    ]);
    let numbers =
        |count: usize| case::random(&[count]).to_vec::<f32>().unwrap_or_else(|e| unreachable!("{e}"));
    if !classifier {
        cases.push(plain("one class").int("one_class", 1).input(x(&[8, 5])));
        let linear = new("linear").attr("coefficients", Attr::Floats(numbers(5)));
        cases.push(linear.attr("rho", Attr::Floats(vec![0.25])).input(x(&[8, 5])));
        return cases;
    }
    for transform in ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"] {
        for labels in [&[0, 1][..], &[0, 1, 2], &[9, 8, 7, 6, 5]] {
            let pairs = labels.len() * (labels.len() - 1) / 2;
            let new = |kind: &str| {
                let case = new(&format!("{kind} of {}, {transform}", labels.len()));
                supported(case, labels, 9, 4, "RBF").string("post_transform", transform).input(x(&[6, 4]))
            };
            cases.push(new("votes"));
            let with = |case: Case, name: &str, sign: f32| {
                case.attr(name, Attr::Floats(numbers(pairs).iter().map(|x| sign * x).collect()))
            };
            cases.push(with(with(new("probabilities"), "prob_a", -2.0), "prob_b", 0.5));
        }
    }
    let linear =
        new("linear").attr("coefficients", Attr::Floats(numbers(15))).ints("classlabels_ints", &[5, 6, 2]);
    cases.push(linear.attr("rho", Attr::Floats(vec![0.25])).input(x(&[8, 5])));
    cases
}

#[cfg(test)]
mod tests {
    use super::super::case::evaluated;
    use super::*;

    /// Vectors (1, 0), (0, 2) and (3, 1), the first two of class 0.
    fn vectors(case: Case, kernel: &str) -> Case {
        case.string("kernel_type", kernel)
            .attr("kernel_params", Attr::Floats(vec![0.5, 0.25, 2.0]))
            .attr("support_vectors", Attr::Floats(vec![1.0, 0.0, 0.0, 2.0, 3.0, 1.0]))
            .attr("coefficients", Attr::Floats(vec![0.5, 1.0, -1.0]))
            .attr("rho", Attr::Floats(vec![0.125]))
            .input(case::values(&[1, 2], &[1.0f32, 1.0]))
    }

    #[test]
    fn kernels_are_what_their_formulas_say() {
        // The products of (1, 1) with the vectors are 1, 2 and 4, and the squared distances 1, 2 and 4, too.
        let sum = |f: &dyn Fn(f64) -> f64| 0.5 * f(1.0) + f(2.0) - f(4.0) + 0.125;
        let expected: [(&str, f64); 4] = [
            ("LINEAR", sum(&|x| x)),
            ("POLY", sum(&|x| (0.5 * x + 0.25) * (0.5 * x + 0.25))),
            ("RBF", sum(&|x| (-0.5 * x).exp())),
            ("SIGMOID", sum(&|x| (0.5 * x + 0.25).tanh())),
        ];
        for (kernel, expected) in expected {
            let case = vectors(ml_case("SVMRegressor", "formula").int("n_supports", 3), kernel);
            let own = evaluated(&case).unwrap()[0].floats().unwrap()[0];
            assert_eq!(own, f64::from(expected as f32), "{kernel}");
        }
    }

    #[test]
    fn two_classes_are_one_pair() {
        let case = vectors(ml_case("SVMClassifier", "formula").outputs(2), "LINEAR");
        let case = case.ints("vectors_per_class", &[2, 1]).ints("classlabels_ints", &[6, 3]);
        // The score is 0.5 + 2 - 4 + 0.125, and a pair votes for its second class below 0.
        let outputs = evaluated(&case).unwrap();
        assert_eq!(outputs[0].i64s().unwrap(), [3]);
        assert_eq!(outputs[1].floats().unwrap(), [1.375, -1.375]);
        // A pair's probability is that of its first class, up to what ends the coupling.
        let case = case.attr("prob_a", Attr::Floats(vec![-2.0])).attr("prob_b", Attr::Floats(vec![0.5]));
        let probability = 1.0 / (1.0 + (-2.0f64 * -1.375 + 0.5).exp());
        let own = evaluated(&case).unwrap()[1].floats().unwrap().to_vec();
        assert!((own[0] - probability).abs() < 2.5e-3 && (own[0] + own[1] - 1.0).abs() < 1e-6, "{own:?}");
    }
}
