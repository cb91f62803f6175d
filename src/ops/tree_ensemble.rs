//! ai.onnx.ml TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble: each row walks through every tree to a leaf, and
//! the weights of its leaves become scores.
//!
//! History: TreeEnsembleClassifier and TreeEnsembleRegressor 1, 3 (float64 tensors), 5 (deprecated); TreeEnsemble 5 (both in
//! one, sets of members).
//!
//! What ONNX leaves open follows ONNX Runtime: a target to which no leaf of a row adds gets no base value, and counts as 0; of
//! two classes, the second score follows from the first where no leaf gives one. ONNX Runtime's label of two classes with
//! weights for both is 0 or 1, whatever the labels are; here it is one of the labels.

use std::collections::BTreeSet;

use super::case::{self, Case, Tolerance};
use super::forest::{Forest, numbers};
use super::linear_model::of_column;
use super::scores::{ClassLabels, PostTransform, floats, greatest, matrix, ml, ml_case, with_texts};
use super::{
    Array, Attr, DType, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, refuse, required, types,
};
use crate::array::Numbers;
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn1, Fn2, Reg, Scalar};
use crate::kernels::reduce::Combine;
use crate::kernels::trees::{self as kernel, Trees};
use crate::kernels::{self, nested, words};
use crate::plan::{Lower, TensorId};

/// An ensemble of trees.
#[derive(Clone, Debug)]
pub(crate) struct TreeEnsemble {
    forest: Forest,
    targets: usize,
    /// Added to each target; empty for none.
    base: Vec<f64>,
    aggregate: Aggregate,
    transform: PostTransform,
    kind: EnsembleKind,
}

#[derive(Clone, Debug)]
enum EnsembleKind {
    /// TreeEnsemble: the output has the input's dtype.
    Plain,
    Regressor,
    Classifier(Classes),
}

#[derive(Clone, Debug)]
struct Classes {
    labels: ClassLabels,
    /// Whether all leaves give weights to the same class.
    one_class: bool,
    /// Whether no weight is negative.
    positive: bool,
}

/// How the weights of a target's leaves become its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

/// The names in the order of TreeEnsemble's numbers.
const AGGREGATES: [(&str, Aggregate); 4] = [
    ("AVERAGE", Aggregate::Average),
    ("SUM", Aggregate::Sum),
    ("MIN", Aggregate::Min),
    ("MAX", Aggregate::Max),
];

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Aggregate::Average | Aggregate::Sum => a + b,
            Aggregate::Min => a.min(b),
            Aggregate::Max => a.max(b),
        }
    }

    fn combine(self) -> Combine {
        match self {
            Aggregate::Average | Aggregate::Sum => Combine::Sum,
            Aggregate::Min => Combine::Min,
            Aggregate::Max => Combine::Max,
        }
    }
}

const CLASSIFIER: Types = types![T1 -> T2 float32; T1: F32 F64 INDICES, T2: STRING I64];
const REGRESSOR: Types = types![T -> float32; T: F32 F64 INDICES];

pub(crate) const ROWS: &[Row] = &[
    ml("TreeEnsembleClassifier", 1, CLASSIFIER, parse_classifier, || cases("TreeEnsembleClassifier")),
    ml("TreeEnsembleRegressor", 1, REGRESSOR, parse_regressor, || cases("TreeEnsembleRegressor")),
    ml("TreeEnsemble", 5, types![T -> T; T: FLOATS], parse, || cases("TreeEnsemble")),
];

fn parse_classifier(def: &NodeDef) -> Result<Op, Why> {
    if let Some(composed) = with_texts(def, "classlabels_int64s")? {
        return Ok(composed);
    }
    let labels = ClassLabels::of(def.attributes, "classlabels_int64s")?;
    let targets = labels.len();
    let forest = Forest::of_lists(def.attributes, "class", targets, |a, b| a + b)?;
    let named: BTreeSet<usize> = forest.weights.iter().map(|own| own.target).collect();
    let positive = forest.weights.iter().all(|own| own.weight >= 0.0);
    let kind = EnsembleKind::Classifier(Classes { labels, one_class: named.len() == 1, positive });
    let transform = PostTransform::named(def.attributes)?;
    let base = numbers(def.attributes, "base_values")?;
    if transform == PostTransform::Probit && targets == 2 && base.len() != 2 {
        refuse!("PROBIT of two classes leaves the second score open");
    }
    ensemble(TreeEnsemble { forest, targets, base, aggregate: Aggregate::Sum, transform, kind })
}

fn parse_regressor(def: &NodeDef) -> Result<Op, Why> {
    let name = def.attributes.string_or("aggregate_function", "SUM")?;
    let Some(&(_, aggregate)) = AGGREGATES.iter().find(|aggregate| aggregate.0 == name) else {
        refuse!("aggregate_function is '{name}'");
    };
    let targets = target_count(def)?.unwrap_or(1);
    let merge = match aggregate {
        Aggregate::Min => f64::min,
        Aggregate::Max => f64::max,
        _ => |a, b| a + b,
    };
    let forest = Forest::of_lists(def.attributes, "target", targets, merge)?;
    let (transform, base) = (PostTransform::named(def.attributes)?, numbers(def.attributes, "base_values")?);
    ensemble(TreeEnsemble { forest, targets, base, aggregate, transform, kind: EnsembleKind::Regressor })
}

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let number = def.attributes.int_or("aggregate_function", 1)?;
    let Some(&(_, aggregate)) = usize::try_from(number).ok().and_then(|number| AGGREGATES.get(number)) else {
        refuse!("aggregate_function is {number}, and may be 0 to 3");
    };
    let (forest, targets) = Forest::of_ensemble(def.attributes, target_count(def)?)?;
    let transform = PostTransform::numbered(def.attributes)?;
    ensemble(TreeEnsemble { forest, targets, base: vec![], aggregate, transform, kind: EnsembleKind::Plain })
}

fn target_count(def: &NodeDef) -> Result<Option<usize>, Why> {
    match def.attributes.int("n_targets")?.map(usize::try_from) {
        None => Ok(None),
        Some(Ok(targets)) if (1..=MAX_TARGETS).contains(&targets) => Ok(Some(targets)),
        Some(_) => refuse!("n_targets must be 1 to {MAX_TARGETS}"),
    }
}

/// So many targets that a file of a few bytes does not ask for a large output.
const MAX_TARGETS: usize = 1 << 20;

fn ensemble(ensemble: TreeEnsemble) -> Result<Op, Why> {
    let (count, targets) = (ensemble.base.len(), ensemble.targets);
    let alone = ensemble.classes().is_some() && targets == 2 && count == 1;
    if count != 0 && count != targets && !alone {
        refuse!("'base_values' has {count} values, and there are {targets} targets");
    }
    Ok(ensemble.into())
}

/// The scores and the class of a row.
struct Scored {
    scores: Vec<f64>,
    class: usize,
}

impl TreeEnsemble {
    fn classes(&self) -> Option<&Classes> {
        match &self.kind {
            EnsembleKind::Classifier(classes) => Some(classes),
            _ => None,
        }
    }

    /// Scores of a row before base values and transform; `None` where no leaf has a weight for the target. `round` rounds to
    /// the type in which scores are added.
    fn collected(&self, row: &[f64], round: impl Fn(f64) -> f64) -> Vec<Option<f64>> {
        let mut scores: Vec<Option<f64>> = vec![None; self.targets];
        for &root in &self.forest.roots {
            for own in self.forest.leaf(root, row) {
                let score = &mut scores[own.target];
                let weight = round(own.weight);
                *score = Some(score.map_or(weight, |score| round(self.aggregate.of(score, weight))));
            }
        }
        if self.aggregate == Aggregate::Average {
            let trees = self.forest.roots.len() as f64;
            scores.iter_mut().flatten().for_each(|score| *score = round(*score / trees));
        }
        scores
    }

    /// The scores and the class of a row that has collected these.
    fn scored(&self, collected: &[Option<f64>], round: impl Fn(f64) -> f64) -> Scored {
        let base = |target: usize| self.base.get(target).map_or(0.0, |&base| round(base));
        match self.classes() {
            Some(classes) if self.targets == 2 => self.of_two(classes, collected, round),
            Some(_) => {
                let known = |(target, score): (usize, &Option<f64>)| match (score, self.base.is_empty()) {
                    (None, true) => f64::NEG_INFINITY,
                    (score, _) => round(score.unwrap_or(0.0) + base(target)),
                };
                let known: Vec<f64> = collected.iter().enumerate().map(known).collect();
                let class = greatest(&known);
                let scores: Vec<f64> =
                    known.iter().map(|&score| if score == f64::NEG_INFINITY { 0.0 } else { score }).collect();
                Scored { scores: self.transform.row(&scores), class }
            }
            None if self.targets == 1 => {
                let score = round(collected[0].unwrap_or(0.0) + base(0));
                Scored { scores: vec![self.of_one(score)], class: 0 }
            }
            None => {
                let of = |(target, score): (usize, &Option<f64>)| {
                    score.map_or(0.0, |score| round(score + base(target)))
                };
                let scores: Vec<f64> = collected.iter().enumerate().map(of).collect();
                Scored { scores: self.transform.row(&scores), class: 0 }
            }
        }
    }

    /// The transform of the only target: ONNX Runtime applies no other than PROBIT.
    fn single_transform(&self) -> PostTransform {
        match self.transform {
            PostTransform::Probit => PostTransform::Probit,
            _ => PostTransform::Unchanged,
        }
    }

    fn of_one(&self, score: f64) -> f64 {
        self.single_transform().one(score)
    }

    fn of_two(&self, classes: &Classes, collected: &[Option<f64>], round: impl Fn(f64) -> f64) -> Scored {
        let (mut first, mut second) = (collected[0], collected[1]);
        let mut lone = None;
        match (&self.base[..], second) {
            (&[_, base], Some(_)) => {
                let score = round(round(base) + first.unwrap_or(0.0));
                second = Some(score);
                first = first.map(|_| -score);
            }
            (&[base, _], None) => first = Some(round(first.unwrap_or(0.0) + round(base))),
            (rest, _) => {
                let base = rest.first().map_or(0.0, |&base| round(base));
                if second.is_none() {
                    lone = Some(round(first.unwrap_or(0.0) + base));
                }
                first = first.map(|first| round(first + base));
            }
        }
        let decisive = second.or(first).unwrap_or(0.0);
        let class = usize::from(decisive > classes.limit());
        let scores = match (lone, self.transform) {
            (Some(score), PostTransform::Logistic) => {
                [-score, score].map(|score| self.transform.one(score)).to_vec()
            }
            (Some(score), _) if classes.is_share() => vec![1.0 - score, score],
            (Some(score), _) => vec![-score, score],
            (None, _) => self.transform.row(&[first.unwrap_or(0.0), second.unwrap_or(0.0)]),
        };
        Scored { scores, class }
    }

    /// Emits the calls that collect weights: for each row and target, -infinity where there are none. `distances` are those of
    /// rows and targets in the result.
    fn emit_collected(&self, cx: &mut Lower, distances: (usize, usize)) -> Result<TensorId, Why> {
        let x = cx.fact(0)?;
        let (rows, columns) = matrix(&x.shape)?;
        let float = Scalar::float_for(x.dtype);
        let (forest, table) = (&self.forest, self.forest.table(float == Scalar::F64)?);
        let members = forest.most_members();
        let limit = cx.target.max_iterations as usize;
        // Drivers count the end of a loop like an iteration, which matters where loops are short.
        let search = |most: usize| most.max(1).ilog2() as usize + 2;
        if nested([forest.depth.max(1), if members > 0 { search(members) } else { 0 }]) > limit {
            refuse!("a tree has {} levels, more than the {limit} through which a device walks", forest.depth);
        }
        let each = nested([1, search(forest.most_weights())]);
        // Leaves of at most 16 million rows and trees are held at once.
        let trees = (limit / each).min((1 << 24) / rows.max(1)).max(1);
        let (roots, weights) = (table.roots, table.weights);
        let table = cx.words(table.words.len(), || table.words)?;
        let mut input = cx.input(0)?;
        if cx.scalar(input).is_wide_integer() {
            let floats = cx.temporary(Scalar::F32, &x.shape);
            cx.elementwise_to(floats, (DType::F32, &x.shape), &[(input, &x.shape)], |e, x| {
                e.convert(x[0], Scalar::F32)
            });
            input = floats;
        }
        let scalar = cx.scalar(input);
        let mut before = None;
        for first in (0..forest.roots.len()).step_by(trees) {
            let trees = trees.min(forest.roots.len() - first);
            let leaves = cx.temporary(Scalar::U32, &[rows, trees]);
            let params = words([rows * trees, trees, columns, roots + first, forest.depth])?;
            let walk = Trees::Walk { scalar, members: members > 0 };
            cx.call(walk, vec![input, table, leaves], params, kernel::groups(rows * trees));
            let scores = cx.temporary(float, &[rows * self.targets]);
            let count = rows * self.targets;
            let sizes = [count, self.targets, trees, distances.0, distances.1];
            let params = kernels::params(sizes, [weights])?;
            let (combine, continues) = (self.aggregate.combine(), before.is_some());
            let collect = Trees::Collect { scalar: float, combine, continues };
            let tensors = [leaves, table].into_iter().chain(before).chain([scores]).collect();
            cx.call(collect, tensors, params, kernel::groups(count));
            before = Some(scores);
        }
        match before {
            Some(scores) => Ok(scores),
            None => refuse!("has no trees"),
        }
    }

    /// The score of a target that has collected `score`, or 0 if that is -infinity.
    fn known(&self, e: &mut Builder, score: Reg) -> Reg {
        let (missing, zero) = (e.one(Fn1::IsNegInf, score), e.float(score, 0.0));
        let score = match self.aggregate {
            Aggregate::Average => {
                let trees = e.float(score, self.forest.roots.len() as f64);
                e.two(Fn2::DivRounded, score, trees)
            }
            _ => score,
        };
        e.select(missing, zero, score)
    }

    fn lower_regressor(&self, cx: &mut Lower) -> Result<(), Why> {
        let (rows, _) = matrix(&cx.fact(0)?.shape)?;
        let shape = [rows, self.targets];
        let collected = self.emit_collected(cx, (self.targets, 1))?;
        let mut operands = vec![(collected, &shape[..])];
        if !self.base.is_empty() {
            operands.push((self.emit_base(cx)?, &shape[1..]));
        }
        let output = cx.output(0)?;
        let dtype = cx.out(0)?.dtype;
        let single = self.targets == 1;
        let transform = if single { self.single_transform() } else { self.transform };
        transform.emit(cx, (output, dtype), &shape, &operands, |e, regs| {
            let known = self.known(e, regs[0]);
            let Some(&base) = regs.get(1) else { return known };
            let sum = added(e, known, base);
            if single {
                return sum;
            }
            let (missing, zero) = (e.one(Fn1::IsNegInf, regs[0]), e.float(sum, 0.0));
            e.select(missing, zero, sum)
        })
    }

    /// The base values, of the type in which scores are added.
    fn emit_base(&self, cx: &mut Lower) -> Result<TensorId, Why> {
        let double = cx.fact(0)?.dtype == DType::F64;
        if double { cx.doubles(&self.base) } else { floats(cx, &self.base) }
    }

    fn lower_classes(&self, cx: &mut Lower, classes: &Classes) -> Result<(), Why> {
        let (rows, _) = matrix(&cx.fact(0)?.shape)?;
        let shape = [rows, self.targets];
        let collected = self.emit_collected(cx, (self.targets, 1))?;
        let mut scores = collected;
        if !self.base.is_empty() {
            let (base, float) = (self.emit_base(cx)?, cx.scalar(collected));
            scores = cx.temporary(float, &shape);
            let operands = [(collected, &shape[..]), (base, &shape[1..])];
            let dtype = if float == Scalar::F64 { DType::F64 } else { DType::F32 };
            cx.elementwise_to(scores, (dtype, &shape), &operands, |e, regs| {
                let known = self.known(e, regs[0]);
                added(e, known, regs[1])
            });
        }
        if cx.optional_out(0).is_some() {
            classes.labels.emit_greatest(cx, scores, rows)?;
        }
        if cx.optional_out(1).is_some() {
            let output = cx.output(1)?;
            self.transform.emit(cx, (output, DType::F32), &shape, &[(scores, &shape)], |e, regs| {
                let known = self.known(e, regs[0]);
                e.convert(known, Scalar::F32)
            })?;
        }
        Ok(())
    }

    fn lower_two(&self, cx: &mut Lower, classes: &Classes) -> Result<(), Why> {
        let (rows, _) = matrix(&cx.fact(0)?.shape)?;
        let collected = self.emit_collected(cx, (1, rows))?;
        let [first, second] = [0, rows].map(|at| cx.subrange(collected, at, &[rows]));
        if cx.optional_out(0).is_some() {
            let operands = [(first, &[rows][..]), (second, &[rows][..])];
            classes.labels.emit_second(cx, rows, &operands, |e, regs| {
                let two = self.two_on_device(e, [regs[0], regs[1]]);
                let limit = e.float(two.decisive, classes.limit());
                e.two(Fn2::Greater, two.decisive, limit)
            })?;
        }
        if cx.optional_out(1).is_some() {
            let output = cx.output(1)?;
            let operands = [(first, &[rows, 1][..]), (second, &[rows, 1][..])];
            cx.elementwise_to(output, (DType::F32, &[rows, 2]), &operands, |e, regs| {
                let two = self.two_on_device(e, [regs[0], regs[1]]);
                let [first, second, lone] =
                    [two.scores[0], two.scores[1], two.lone].map(|score| e.convert(score, Scalar::F32));
                let pair = self.transform.pair_on_device(e, [first, second]);
                let lone = self.lone_on_device(e, classes, lone);
                let scores = [0, 1].map(|class| e.select(two.is_lone, lone[class], pair[class]));
                of_column(e, scores)
            });
        }
        Ok(())
    }

    /// The scores of two classes for which one stands.
    fn lone_on_device(&self, e: &mut Builder, classes: &Classes, score: Reg) -> [Reg; 2] {
        let (one, negative) = (e.f32(1.0), e.one(Fn1::Neg, score));
        match self.transform {
            PostTransform::Logistic => [negative, score].map(|score| self.transform.one_on_device(e, score)),
            _ if classes.is_share() => [e.sub(one, score), score],
            _ => [negative, score],
        }
    }

    /// `of_two` on the device.
    fn two_on_device(&self, e: &mut Builder, collected: [Reg; 2]) -> TwoScores {
        let missing = collected.map(|score| e.one(Fn1::IsNegInf, score));
        let known = collected.map(|score| self.known(e, score));
        let like = collected[0];
        let (zero, no) = (e.float(like, 0.0), e.constant(Scalar::Bool, 0.0));
        match self.base[..] {
            [base_of_first, base] => {
                let (base_of_first, base) = (e.float(like, base_of_first), e.float(like, base));
                let score = e.add(base, known[0]);
                let negative = e.one(Fn1::Neg, score);
                let first = e.select(missing[0], zero, negative);
                let alone = e.add(known[0], base_of_first);
                let scores = [e.select(missing[1], alone, first), e.select(missing[1], zero, score)];
                let decisive = e.select(missing[1], alone, score);
                TwoScores { scores, decisive, is_lone: no, lone: zero }
            }
            _ => {
                let base = e.float(like, self.base.first().copied().unwrap_or(0.0));
                let lone = e.add(known[0], base);
                let first = e.select(missing[0], zero, lone);
                let decisive = e.select(missing[1], first, known[1]);
                TwoScores { scores: [first, known[1]], decisive, is_lone: missing[1], lone }
            }
        }
    }
}

/// A score and a base value, which is a word where it is float32.
fn added(e: &mut Builder, score: Reg, base: Reg) -> Reg {
    let base = if e.scalar(base) == Scalar::U32 { e.bitcast(base, Scalar::F32) } else { base };
    e.add(score, base)
}

/// The scores of two classes on the device, before the transform.
struct TwoScores {
    scores: [Reg; 2],
    /// The score that decides which class it is.
    decisive: Reg,
    /// Whether one score stands for both classes, and that score.
    is_lone: Reg,
    lone: Reg,
}

impl Classes {
    /// Whether a lone score is the share of the second class.
    fn is_share(&self) -> bool {
        self.one_class && self.positive
    }

    /// The score above which it is the second class.
    fn limit(&self) -> f64 {
        if self.is_share() { 0.5 } else { 0.0 }
    }
}

impl Operator for TreeEnsemble {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        let (rows, columns) = matrix(&x.shape)?;
        if columns < self.forest.columns() {
            refuse!("a tree reads column {}, and the input has {columns}", self.forest.columns() - 1);
        }
        let scores = |dtype: DType| Fact::new(dtype, [rows, self.targets]);
        Ok(match &self.kind {
            EnsembleKind::Plain => vec![scores(x.dtype)],
            EnsembleKind::Regressor => vec![scores(DType::F32)],
            EnsembleKind::Classifier(classes) => {
                vec![Fact::new(classes.labels.dtype(), [rows]), scores(DType::F32)]
            }
        })
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (rows, columns) = matrix(&x.shape)?;
        // Scores are added in float32, as ONNX Runtime does: labels follow from them.
        let wide = x.dtype == DType::F64;
        let round = |value: f64| if wide { value } else { f64::from(value as f32) };
        let mut values = x.to_f64()?;
        if matches!(x.data, Numbers::Int(_)) {
            values.iter_mut().for_each(|value| *value = f64::from(*value as f32));
        }
        let (mut scores, mut picked) = (Vec::new(), Vec::new());
        for row in 0..rows {
            let collected = self.collected(&values[row * columns..(row + 1) * columns], round);
            let scored = self.scored(&collected, round);
            scores.extend(scored.scores);
            picked.push(scored.class);
        }
        let dtype = if matches!(self.kind, EnsembleKind::Plain) { x.dtype } else { DType::F32 };
        let scores = Array::float(dtype, &[rows, self.targets], scores);
        Ok(match self.classes() {
            Some(classes) => vec![classes.labels.array(&picked), scores],
            None => vec![scores],
        })
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (rows, _) = matrix(&required(inputs, 0)?.shape)?;
        let leaf = self.forest.depth * self.forest.most_members().max(1) + self.forest.most_weights() + 1;
        // The features as f64, and the scores in a list that grows.
        let features = Work::default().temporary(required(inputs, 0)?.count(), size_of::<f64>());
        let scores = outputs.iter().map(Fact::count).fold(0, usize::saturating_add);
        let scores = Work::default().temporary(scores, 3 * size_of::<f64>());
        let work = of_elements(inputs, outputs) + features + scores;
        Ok(work.steps(&[rows, self.forest.roots.len(), leaf]))
    }

    fn first_output_is_optional(&self) -> bool {
        self.classes().is_some()
    }

    fn computes_f64(&self) -> bool {
        true
    }

    // Labels fit 32 bits.
    fn computes_i64(&self) -> bool {
        self.classes().is_none()
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        match self.classes() {
            Some(classes) if self.targets == 2 => self.lower_two(cx, classes),
            Some(classes) => self.lower_classes(cx, classes),
            None => self.lower_regressor(cx),
        }
    }
}

/// Complete trees of `depth` levels of branches, with thresholds that the inputs of `features` meet.
struct GrownTrees {
    trees: Vec<i64>,
    ids: Vec<i64>,
    features: Vec<i64>,
    modes: Vec<usize>,
    values: Vec<f32>,
    /// Nodes that are leaves.
    leaves: Vec<usize>,
    nodes_of_tree: usize,
}

/// Rows of whole numbers as float32.
fn features(shape: &[usize]) -> crate::Tensor {
    case::converted(&case::integers(shape, -3, 4), DType::F32)
}

/// `modes`: as many of TreeEnsemble's branches as are used.
fn grown(count: usize, depth: u32, columns: usize, modes: usize) -> GrownTrees {
    let nodes_of_tree = (2usize << depth) - 1;
    let mut state = (count * 7 + columns) as u64;
    let mut below = |limit: usize| (case::splitmix(&mut state) % limit as u64) as usize;
    let all = 0..count * nodes_of_tree;
    let is_leaf = |i: &usize| i % nodes_of_tree >= nodes_of_tree / 2;
    GrownTrees {
        trees: all.clone().map(|i| (i / nodes_of_tree) as i64).collect(),
        ids: all.clone().map(|i| (i % nodes_of_tree) as i64).collect(),
        features: all.clone().map(|_| below(columns) as i64).collect(),
        modes: all.clone().map(|_| below(modes)).collect(),
        values: all.clone().map(|_| below(7) as f32 - 3.0).collect(),
        leaves: all.filter(is_leaf).collect(),
        nodes_of_tree,
    }
}

impl GrownTrees {
    /// The case with these trees, in the lists of TreeEnsembleRegressor ("target") or TreeEnsembleClassifier ("class"). Leaf
    /// `n` gives a weight to the targets of `targets(n)`.
    pub(crate) fn lists(
        &self,
        case: Case,
        kind: &str,
        targets: impl Fn(usize) -> Vec<i64>,
        least: f32,
    ) -> Case {
        let child = |second: i64| -> Vec<i64> { self.ids.iter().map(|id| 2 * id + 1 + second).collect() };
        let mode = |(i, mode): (usize, &usize)| match self.leaves.binary_search(&i) {
            Ok(_) => "LEAF".to_string(),
            Err(_) => super::forest::BRANCHES[*mode].0.to_string(),
        };
        let modes: Vec<String> = self.modes.iter().enumerate().map(mode).collect();
        let tracks: Vec<i64> = self.ids.iter().map(|id| id % 2).collect();
        let of_leaves = self.leaves.iter().enumerate();
        let entries: Vec<(usize, i64)> = of_leaves
            .flat_map(|(n, &leaf)| targets(n).into_iter().map(move |target| (leaf, target)))
            .collect();
        let weights: Vec<f32> =
            case::uniform(&[entries.len()], least, 1.0).to_vec().unwrap_or_else(|e| unreachable!("{e}"));
        let list = |of: &[i64]| -> Vec<i64> { entries.iter().map(|entry| of[entry.0]).collect() };
        case.ints("nodes_treeids", &self.trees)
            .ints("nodes_nodeids", &self.ids)
            .ints("nodes_featureids", &self.features)
            .attr("nodes_modes", Attr::Strings(modes))
            .attr("nodes_values", Attr::Floats(self.values.clone()))
            .ints("nodes_truenodeids", &child(0))
            .ints("nodes_falsenodeids", &child(1))
            .ints("nodes_missing_value_tracks_true", &tracks)
            .ints(&format!("{kind}_treeids"), &list(&self.trees))
            .ints(&format!("{kind}_nodeids"), &list(&self.ids))
            .ints(&format!("{kind}_ids"), &entries.iter().map(|entry| entry.1).collect::<Vec<_>>())
            .attr(&format!("{kind}_weights"), Attr::Floats(weights))
    }

    /// The case with these trees, as TreeEnsemble has them, of `dtype`.
    fn arrays(&self, case: Case, dtype: DType) -> Case {
        let half = self.nodes_of_tree / 2;
        let trees = self.trees.last().map_or(0, |&last| last as usize + 1);
        let branches: Vec<usize> =
            (0..trees).flat_map(|tree| (0..half).map(move |i| tree * self.nodes_of_tree + i)).collect();
        let of = |list: &[i64]| -> Vec<i64> { branches.iter().map(|&i| list[i]).collect() };
        // Branches and leaves of a tree have as many numbers as it has branches, and one leaf more.
        let child = |second: usize| -> (Vec<i64>, Vec<i64>) {
            let place = |i: &usize| {
                let (tree, at) = (i / self.nodes_of_tree, 2 * (i % self.nodes_of_tree) + 1 + second);
                match at.checked_sub(half) {
                    None => ((tree * half + at) as i64, 0),
                    Some(leaf) => ((tree * (half + 1) + leaf) as i64, 1),
                }
            };
            branches.iter().map(place).unzip()
        };
        let ((yes, yes_leaves), (no, no_leaves)) = (child(0), child(1));
        let modes: Vec<u8> = branches.iter().map(|&i| self.modes[i] as u8).collect();
        let members = modes.iter().filter(|&&mode| mode == 6).count();
        let sets: Vec<f32> = (0..members).flat_map(|n| [2.0, n as f32 % 3.0 - 1.0, f32::NAN]).collect();
        let splits: Vec<f32> = branches.iter().map(|&i| self.values[i]).collect();
        let tensor =
            |values: &[f32]| Attr::Tensor(case::converted(&case::values(&[values.len()], values), dtype));
        let leaves = self.leaves.len();
        let weights: Vec<f32> =
            case::uniform(&[leaves], -1.0, 1.0).to_vec().unwrap_or_else(|e| unreachable!("{e}"));
        case.ints("tree_roots", &(0..trees).map(|tree| (tree * half) as i64).collect::<Vec<_>>())
            .ints("nodes_featureids", &of(&self.features))
            .attr("nodes_modes", Attr::Tensor(case::values(&[modes.len()], &modes)))
            .attr("nodes_splits", tensor(&splits))
            .ints("nodes_truenodeids", &yes)
            .ints("nodes_falsenodeids", &no)
            .ints("nodes_trueleafs", &yes_leaves)
            .ints("nodes_falseleafs", &no_leaves)
            .ints(
                "nodes_missing_value_tracks_true",
                &of(&self.ids).iter().map(|id| id % 2).collect::<Vec<_>>(),
            )
            .ints("leaf_targetids", &(0..leaves).map(|n| (n % 2) as i64).collect::<Vec<_>>())
            .attr("leaf_weights", tensor(&weights))
            .attr("membership_values", tensor(&sets))
    }
}

/// A case of this operator with complete trees of one target or class.
#[cfg(test)]
pub(crate) fn grown_case(op: &str, trees: usize, depth: u32) -> Case {
    let (grown, case) = (grown(trees, depth, 3, 6), ml_case(op, "grown").input(features(&[2, 3])));
    match op {
        "TreeEnsemble" => grown.arrays(case.opset(5), DType::F32),
        "TreeEnsembleRegressor" => grown.lists(case, "target", |_| vec![0], -1.0),
        _ => grown.lists(case.ints("classlabels_int64s", &[0, 1]).outputs(2), "class", |_| vec![0], -1.0),
    }
}

/// A case of a tree of this many levels, in which each branch has a leaf.
#[cfg(test)]
pub(crate) fn chain_case(levels: usize) -> Case {
    let ids: Vec<i64> = (0..2 * levels as i64 + 1).collect();
    let branch = |id: &i64| *id % 2 == 0 && *id < 2 * levels as i64;
    let mode = |id: &i64| if branch(id) { "BRANCH_LEQ".to_string() } else { "LEAF".to_string() };
    let leaves: Vec<i64> = ids.iter().copied().filter(|id| !branch(id)).collect();
    let of_branches =
        |next: i64| ids.iter().map(|id| if branch(id) { id + next } else { 0 }).collect::<Vec<_>>();
    ml_case("TreeEnsembleRegressor", "chain")
        .tolerance(Tolerance::EXACT)
        .ints("nodes_treeids", &vec![0; ids.len()])
        .ints("nodes_nodeids", &ids)
        .ints("nodes_featureids", &vec![0; ids.len()])
        .attr("nodes_modes", Attr::Strings(ids.iter().map(mode).collect()))
        .attr("nodes_values", Attr::Floats(ids.iter().map(|&id| id as f32).collect()))
        .ints("nodes_truenodeids", &of_branches(1))
        .ints("nodes_falsenodeids", &of_branches(2))
        .ints("target_treeids", &vec![0; leaves.len()])
        .ints("target_nodeids", &leaves)
        .ints("target_ids", &vec![0; leaves.len()])
        .attr("target_weights", Attr::Floats(leaves.iter().map(|&id| id as f32).collect()))
        .input(case::values(&[3, 1], &[-1.0f32, levels as f32, 3.0 * levels as f32]))
}

fn cases(name: &'static str) -> Vec<Case> {
    let new = |case: &str| ml_case(name, case).tolerance(Tolerance::TRANSCENDENTAL);
    match name {
        "TreeEnsemble" => ensemble_cases(&|case| new(case).opset(5)),
        "TreeEnsembleRegressor" => regressor_cases(&new),
        _ => classifier_cases(&|case| new(case).outputs(2)),
    }
}

fn ensemble_cases(new: &dyn Fn(&str) -> Case) -> Vec<Case> {
    let of = |case: &str, dtype: DType| {
        let case = new(case).int("n_targets", 2).input(case::converted(&features(&[9, 3]), dtype));
        grown(5, 3, 3, 7).arrays(case, dtype)
    };
    let float = |case: &str| of(case, DType::F32);
    vec![
        float("sum"),
        float("average").int("aggregate_function", 0),
        float("least").int("aggregate_function", 2),
        float("greatest").int("aggregate_function", 3),
        float("softmax").int("post_transform", 1),
        of("float16", DType::F16).tolerance(Tolerance { relative: 1e-3, absolute: 1e-3 }),
        grown(2, 1, 2, 1).arrays(new("no rows").int("n_targets", 2).input(features(&[0, 2])), DType::F32),
    ]
}

fn regressor_cases(new: &dyn Fn(&str) -> Case) -> Vec<Case> {
    let of = |case: Case, targets: usize, x: crate::Tensor| {
        let columns = x.shape().last().copied().unwrap_or(1);
        let sparse =
            move |n: usize| (0..targets as i64).filter(|t| targets == 1 || (n as i64 + t) % 3 != 0).collect();
        let case = case.int("n_targets", targets as i64).input(x);
        grown(6, 3, columns, 6).lists(case, "target", sparse, -1.0)
    };
    let one = |case: &str| of(new(case), 1, features(&[7, 4]));
    let four = |case: &str| of(new(case), 4, features(&[7, 4]));
    let base = |case: Case, values: &[f32]| case.attr("base_values", Attr::Floats(values.to_vec()));
    let mut missing = [0.0f32; 12];
    missing.iter_mut().step_by(3).for_each(|x| *x = f32::NAN);
    let ordered = |case: &str, modes| {
        grown(9, 4, 3, modes).lists(
            new(case).int("n_targets", 1).input(features(&[20, 3])),
            "target",
            |_| vec![0],
            -1.0,
        )
    };
    vec![
        one("one target"),
        base(one("base"), &[0.25]),
        base(
            one("probit, average").string("post_transform", "PROBIT").string("aggregate_function", "AVERAGE"),
            &[0.5],
        ),
        one("least").string("aggregate_function", "MIN"),
        base(one("greatest").string("aggregate_function", "MAX"), &[-0.5]),
        four("four targets"),
        base(four("base of four"), &[0.25, -0.5, 0.0, 3.0]),
        base(four("least of four").string("aggregate_function", "MIN"), &[0.25, -0.5, 0.0, 3.0]),
        four("softmax").string("post_transform", "SOFTMAX"),
        four("softmax zero").string("post_transform", "SOFTMAX_ZERO"),
        four("logistic").string("post_transform", "LOGISTIC"),
        of(new("one row"), 1, features(&[4])),
        of(new("no rows"), 2, features(&[0, 4])),
        of(new("missing"), 1, case::values(&[3, 4], &missing)),
        of(new("int64"), 1, case::integers(&[7, 4], -3, 4)),
        of(new("int32"), 1, case::converted(&case::integers(&[7, 4], -3, 4), DType::I32)),
        ordered("at most", 1),
        of(new("many rows"), 2, features(&[3000, 5])),
        grown(300, 2, 3, 6).lists(
            new("many trees").int("n_targets", 1).input(features(&[5, 3])),
            "target",
            |_| vec![0],
            -1.0,
        ),
    ]
}

fn classifier_cases(new: &dyn Fn(&str) -> Case) -> Vec<Case> {
    // Each leaf gives weights to all classes, to some, to the first alone, or to the second alone.
    let all = |classes: i64| move |_: usize| (0..classes).collect::<Vec<i64>>();
    let some = |classes: i64| {
        move |n: usize| (0..classes).filter(|class| (n as i64 + class) % 3 == 0).collect::<Vec<i64>>()
    };
    let of = |case: Case, labels: &[i64], targets: &dyn Fn(usize) -> Vec<i64>, least: f32| {
        let case = case.ints("classlabels_int64s", labels).input(features(&[11, 4]));
        grown(5, 3, 4, 6).lists(case, "class", targets, least)
    };
    let base = |case: Case, values: &[f32]| case.attr("base_values", Attr::Floats(values.to_vec()));
    let mut cases = vec![
        of(new("three classes"), &[0, 1, 2], &all(3), 0.0),
        of(new("labels"), &[7, -2, 5, 1 << 20], &all(4), -1.0),
        of(new("some"), &[4, 5, 6], &some(3), -1.0),
        base(of(new("some with base"), &[4, 5, 6], &some(3), -1.0), &[0.5, 0.25, 0.125]),
        of(new("softmax"), &[0, 1, 2], &all(3), -1.0).string("post_transform", "SOFTMAX"),
        of(new("probit"), &[0, 1, 2], &all(3), 0.4).string("post_transform", "PROBIT"),
        of(new("scores only"), &[0, 1, 2], &all(3), 0.0),
    ];
    for (kind, targets) in [
        ("one", &(|_| vec![0i64]) as &dyn Fn(usize) -> Vec<i64>),
        ("second", &|_| vec![1]),
        ("both", &all(2)),
        ("either", &some(2)),
    ] {
        for (sign, least) in [("positive", 0.0), ("signed", -1.0)] {
            for transform in ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"] {
                let count = cases.len() % 3;
                let case = new(&format!("{kind}, {sign}, {transform}, {count} base"));
                let case = of(case, &[-3, 8], targets, least).string("post_transform", transform);
                cases.push(if count == 0 { case } else { base(case, &[0.25, -0.5][..count]) });
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::super::case::evaluated;
    use super::*;
    use crate::Tensor;

    /// A tree that tests feature 0 with `mode` against 1, and gives 10 where that holds and 20 where not.
    fn stump(op: &str, kind: &str, mode: &str, x: Tensor) -> Case {
        ml_case(op, "stump")
            .ints("nodes_treeids", &[0, 0, 0])
            .ints("nodes_nodeids", &[0, 1, 2])
            .ints("nodes_featureids", &[0, 0, 0])
            .attr("nodes_modes", Attr::Strings(vec![mode.into(), "LEAF".into(), "LEAF".into()]))
            .attr("nodes_values", Attr::Floats(vec![1.0, 0.0, 0.0]))
            .ints("nodes_truenodeids", &[1, 0, 0])
            .ints("nodes_falsenodeids", &[2, 0, 0])
            .ints(&format!("{kind}_treeids"), &[0, 0])
            .ints(&format!("{kind}_nodeids"), &[1, 2])
            .ints(&format!("{kind}_ids"), &[0, 0])
            .attr(&format!("{kind}_weights"), Attr::Floats(vec![10.0, 20.0]))
            .input(x)
    }

    #[test]
    fn branches_compare_as_their_names_say() {
        let x = case::values(&[4, 1], &[0.5f32, 1.0, 1.5, f32::NAN]);
        for (mode, expected) in [
            ("BRANCH_LEQ", [10.0, 10.0, 20.0, 20.0]),
            ("BRANCH_LT", [10.0, 20.0, 20.0, 20.0]),
            ("BRANCH_GTE", [20.0, 10.0, 10.0, 20.0]),
            ("BRANCH_GT", [20.0, 20.0, 10.0, 20.0]),
            ("BRANCH_EQ", [20.0, 10.0, 20.0, 20.0]),
            ("BRANCH_NEQ", [10.0, 20.0, 10.0, 10.0]),
        ] {
            let case = stump("TreeEnsembleRegressor", "target", mode, x.clone());
            assert_eq!(evaluated(&case).unwrap()[0].floats().unwrap(), expected, "{mode}");
            let case = case.ints("nodes_missing_value_tracks_true", &[1, 0, 0]);
            let tracked = [&expected[..3], &[10.0]].concat();
            assert_eq!(evaluated(&case).unwrap()[0].floats().unwrap(), tracked, "{mode}, missing");
        }
    }

    /// float64 features are compared as such: the float32 number next to a third is greater than a third.
    #[test]
    fn float64_features_are_not_rounded() {
        let third = f64::from(1.0f32 / 3.0);
        let x = case::values(&[3, 1], &[1.0 / 3.0, third, third + 1e-12]);
        let case = stump("TreeEnsembleRegressor", "target", "BRANCH_LEQ", x);
        let case = case.attr("nodes_values", Attr::Floats(vec![1.0 / 3.0, 0.0, 0.0]));
        assert_eq!(evaluated(&case).unwrap()[0].floats().unwrap(), [10.0, 10.0, 20.0]);
    }

    #[test]
    fn one_score_stands_for_two_classes() {
        let of = |weights: [f32; 2], transform: &str| {
            let x = case::values(&[2, 1], &[0.0f32, 2.0]);
            let case = stump("TreeEnsembleClassifier", "class", "BRANCH_LEQ", x).outputs(2);
            let case = case.attr("class_weights", Attr::Floats(weights.to_vec()));
            let labels = Attr::Strings(vec!["no".into(), "yes".into()]);
            evaluated(&case.attr("classlabels_strings", labels).string("post_transform", transform)).unwrap()
        };
        let labels = |array: &Array| match &array.data {
            Numbers::Text(texts) => texts.clone(),
            _ => vec![],
        };
        // A share of the second class, which is chosen above one half.
        let shares = of([0.25, 0.75], "NONE");
        assert_eq!(labels(&shares[0]), ["no", "yes"]);
        assert_eq!(shares[1].floats().unwrap(), [0.75, 0.25, 0.25, 0.75]);
        // A score of either sign.
        let scores = of([-0.25, 2.0], "NONE");
        assert_eq!(labels(&scores[0]), ["no", "yes"]);
        assert_eq!(scores[1].floats().unwrap(), [0.25, -0.25, -2.0, 2.0]);
        let logistic = |x: f64| f64::from((1.0 / (1.0 + (-x).exp())) as f32);
        let scores = of([-0.25, 2.0], "LOGISTIC");
        assert_eq!(scores[1].floats().unwrap(), [0.25, -0.25, -2.0, 2.0].map(logistic));
    }

    #[test]
    fn what_is_no_forest_is_refused() {
        let x = || case::values(&[1, 1], &[0.0f32]);
        let of = |name: &str, values: &[i64]| {
            let case = stump("TreeEnsembleRegressor", "target", "BRANCH_LEQ", x());
            evaluated(&case.ints(name, values)).unwrap_err()
        };
        let refused = [
            ("nodes_truenodeids", &[0, 0, 0][..], "leads back"),
            ("nodes_truenodeids", &[9, 0, 0], "no node 9"),
            ("nodes_nodeids", &[0, 1, 1], "two nodes 1"),
            ("nodes_featureids", &[3, 0, 0], "column 3"),
            ("nodes_featureids", &[-1, 0, 0], "nodes_featureids"),
            ("target_ids", &[0, 1], "target_ids"),
            ("target_nodeids", &[0], "entries"),
        ];
        for (name, values, reason) in refused {
            let error = of(name, values);
            assert!(error.contains(reason), "{name}: {error}");
        }
        // Nodes 1 and 2 lead to each other, and node 0 leads to them.
        let modes = ["BRANCH_LEQ", "BRANCH_LEQ", "BRANCH_LEQ", "LEAF"].map(String::from);
        let circle = ml_case("TreeEnsembleRegressor", "circle")
            .ints("nodes_treeids", &[0; 4])
            .ints("nodes_nodeids", &[0, 1, 2, 3])
            .ints("nodes_featureids", &[0; 4])
            .attr("nodes_modes", Attr::Strings(modes.to_vec()))
            .attr("nodes_values", Attr::Floats(vec![0.0; 4]))
            .ints("nodes_truenodeids", &[1, 2, 1, 0])
            .ints("nodes_falsenodeids", &[3, 3, 3, 0])
            .input(x());
        assert!(evaluated(&circle).unwrap_err().contains("leads back"));
    }

    /// A forest's check meets a node once, although several others lead to it: 60 levels take no 2^60 steps.
    #[test]
    fn shared_nodes_are_checked_once() {
        let levels = 60;
        let ids: Vec<i64> = (0..=levels).collect();
        let next: Vec<i64> = ids.iter().map(|id| id + 1).collect();
        let mode = |id: &i64| if *id < levels { "BRANCH_LEQ".to_string() } else { "LEAF".to_string() };
        let case = ml_case("TreeEnsembleRegressor", "shared")
            .ints("nodes_treeids", &vec![0; ids.len()])
            .ints("nodes_nodeids", &ids)
            .ints("nodes_featureids", &vec![0; ids.len()])
            .attr("nodes_modes", Attr::Strings(ids.iter().map(mode).collect()))
            .attr("nodes_values", Attr::Floats(vec![0.0; ids.len()]))
            .ints("nodes_truenodeids", &next)
            .ints("nodes_falsenodeids", &next)
            .ints("target_treeids", &[0])
            .ints("target_nodeids", &[levels])
            .ints("target_ids", &[0])
            .attr("target_weights", Attr::Floats(vec![5.0]))
            .input(case::values(&[1, 1], &[0.0f32]));
        assert_eq!(evaluated(&case).unwrap()[0].floats().unwrap(), [5.0]);
    }
}
