//! Random graphs whose inputs have open dimensions, over every family of operators, with the sizes for which a session runs
//! them one after the other. The error that a device may have is followed through the graph. Most values are small multiples
//! of a power of two, for which sums and products are exact in any order, so that a single wrong element is found.

use super::random::Sketch;
use crate::Dim;
use crate::facts::{Facts, InputFact};
use crate::graph::{Value, ValueId};
use crate::internals::cases::planner;
use crate::kernels::Target;
use crate::ops::case::{self, splitmix};
use crate::ops::{self, Attr, Node, Op};
use crate::{DType, Tensor};

/// The most elements of a value, and the most terms in all sums of a product, that the reference still computes quickly.
const MOST: usize = 40_000;
const MOST_TERMS: usize = 4_000_000;
/// Two units in the last place of a float32: the rounding of a device's operation, and that of the reference.
const ROUNDING: f64 = 1.0 / (1 << 22) as f64;
/// The error of a software device's functions: `Tolerance::TRANSCENDENTAL` for results of order one.
const FUNCTION: f64 = 3e-4;
/// A value with a greater error shows nothing.
const MOST_ERROR: f64 = 0.05;

/// A source of choices.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (splitmix(&mut self.0) % n.max(1) as u64) as usize
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What holds for the elements of a value in every run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The greatest magnitude.
    size: f64,
    /// A power of two that divides all elements, if they are exact.
    unit: f64,
    /// The error that a device may have; 0 if the elements are exact.
    pub(crate) error: f64,
}

impl Bounds {
    /// The bounds of a result that takes `roundings` roundings, if it is not exact.
    fn new(size: f64, unit: f64, error: f64, roundings: f64) -> Bounds {
        let exact = error == 0.0 && size / unit <= (1 << 24) as f64;
        Bounds { size, unit, error: if exact { 0.0 } else { error + roundings * ROUNDING * size } }
    }

    fn rounded(size: f64, error: f64) -> Bounds {
        Bounds { size, unit: 1.0, error: (error + ROUNDING * size).max(f64::MIN_POSITIVE) }
    }

    fn is_exact(self) -> bool {
        self.error == 0.0
    }

    fn join(self, other: Bounds) -> Bounds {
        let (size, error) = (self.size.max(other.size), self.error.max(other.error));
        Bounds { size, unit: self.unit.min(other.unit), error }
    }

    fn sum(self, other: Bounds) -> Bounds {
        let (size, error) = (self.size + other.size, self.error + other.error);
        Bounds::new(size, self.unit.min(other.unit), error, 1.0)
    }

    /// The bounds of a sum of `n` elements.
    fn times(self, n: usize) -> Bounds {
        let n = n.max(1) as f64;
        Bounds::new(n * self.size, self.unit, n * self.error, n)
    }

    fn product(self, other: Bounds) -> Bounds {
        let error = self.size * other.error + other.size * self.error + self.error * other.error;
        Bounds::new(self.size * other.size, self.unit * other.unit, error, 1.0)
    }
}

/// Constants and inputs are multiples of a quarter, up to 2.
const GRID: Bounds = Bounds { size: 2.0, unit: 0.25, error: 0.0 };

/// Multiples of a quarter up to 2, different for each shape and seed.
fn grid(shape: &[usize], seed: u64) -> Tensor {
    let mut dice = Dice(shape.iter().fold(seed, |s, &d| s.wrapping_mul(31).wrapping_add(d as u64)));
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| dice.below(17) as f32 / 4.0 - 2.0).collect();
    case::values(shape, &values)
}

/// A value of the graph so far.
#[derive(Clone)]
struct OpenValue {
    id: ValueId,
    bounds: Bounds,
    /// Its shape in each run; `None` where the model does not accept the run.
    shapes: Vec<Option<Vec<usize>>>,
    is_read: bool,
}

impl OpenValue {
    fn rank(&self) -> usize {
        self.shapes[0].as_ref().map_or(0, Vec::len)
    }

    fn sizes(&self, axis: usize) -> impl Iterator<Item = usize> + '_ {
        self.shapes.iter().flatten().map(move |shape| shape[axis])
    }

    /// The size along an axis, if it is the same in all runs.
    fn fixed(&self, axis: usize) -> Option<usize> {
        let first = self.sizes(axis).next()?;
        self.sizes(axis).all(|size| size == first).then_some(first)
    }

    fn most(&self, axes: &[usize]) -> usize {
        let of = |shape: &Vec<usize>| axes.iter().map(|&axis| shape[axis]).product();
        self.shapes.iter().flatten().map(of).max().unwrap_or(1)
    }
}

/// What a graph is made from: without a step or a run it is a smaller one.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) seed: u64,
    pub(crate) steps: Vec<u64>,
    /// The sizes of the open dimensions in each run.
    pub(crate) runs: Vec<[usize; 4]>,
}

impl Recipe {
    pub(crate) fn new(seed: u64) -> Recipe {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9).wrapping_add(77));
        let steps = (0..2 + dice.below(7)).map(|_| splitmix(&mut dice.0)).collect();
        Recipe { seed, steps, runs: runs(&mut dice) }
    }
}

/// Sizes for all runs: first multiples of 4, or small, large or empty sizes; then others near and far; then the first again.
fn runs(dice: &mut Dice) -> Vec<[usize; 4]> {
    let first = match dice.below(12) {
        0 => dice.of(&[1, 2, 3]),
        1 => 0,
        2 => dice.of(&[130, 256, 260, 516, 1028, 2052, 4100, 8196]),
        3 => dice.of(&[5, 7, 9, 30]),
        _ => dice.of(&[4, 8, 12, 16, 20, 32, 64]),
    };
    let batch = dice.of(&[1, 1, 2, 4]);
    let mut runs = vec![[batch, first, first, 1]];
    for _ in 0..3 + dice.below(2) {
        let mut next = |x: usize| match dice.below(12) {
            0 | 1 => x + 1,
            2 => x + 2,
            3 => 2 * x,
            4 => x.saturating_sub(1),
            5 => 1,
            6 => 0,
            7 => dice.of(&[67, 131, 140, 519, 4099]),
            8 => x,
            _ => dice.of(&[3, 5, 6, 7, 9, 11, 13, 21, 37]),
        };
        let (s, p) = (next(first), next(first));
        let batch = if dice.one_in(3) { dice.of(&[1, 2, 3, 5]) } else { batch };
        // The fourth size is 1 or the second: it broadcasts for some sizes only.
        runs.push([batch, s, p, if dice.one_in(2) { s } else { 1 }]);
    }
    runs.push(runs[0]);
    runs
}

/// A graph under construction.
pub(crate) struct Open {
    recipe: Recipe,
    sketch: Sketch,
    values: Vec<OpenValue>,
    /// For each input, its dimensions: a number, or `OPEN` plus the number of an open dimension.
    inputs: Vec<Vec<usize>>,
    /// After those: inputs whose values decide shapes, with their value in each run.
    lists: Vec<Vec<Vec<i64>>>,
    dice: Dice,
    /// The axis of the step before. After a step that changes a size mostly comes one that depends on that size.
    axis: usize,
    /// The number of terms of each element that the current step computes.
    terms: usize,
    /// The number of times that each of `STEPS` was taken.
    taken: Vec<usize>,
}

const OPEN: usize = 1 << 20;
const NAMES: [&str; 4] = ["batch", "rows", "past", "other"];

impl Open {
    pub(crate) fn new(recipe: &Recipe) -> Open {
        let (recipe, dice) = (recipe.clone(), Dice(recipe.seed));
        let (sketch, taken) = (Sketch::default(), vec![0; STEPS.len()]);
        let mut open = Open {
            recipe,
            sketch,
            values: vec![],
            inputs: vec![],
            lists: vec![],
            dice,
            axis: 0,
            terms: 1,
            taken,
        };
        let fixed = open.dice.of(&[1, 2, 3, 4, 4, 6, 8, 8, 12, 12, 64, 72]);
        let (b, s, p, o) = (OPEN, OPEN + 1, OPEN + 2, OPEN + 3);
        let shapes: [&[usize]; 12] = [
            &[b, s, fixed],
            &[b, s, fixed],
            &[s, fixed],
            &[b, fixed, s],
            &[b, fixed, s, p],
            &[b, fixed, s, 5],
            &[b, s],
            &[s],
            &[fixed, s],
            &[s, p],
            &[b, 2, s, 4],
            &[b, s, 2, 4],
        ];
        let first = open.dice.of(&shapes).to_vec();
        open.input(&first);
        for _ in 0..open.dice.below(3) {
            let mut next = if open.dice.one_in(3) { open.dice.of(&shapes).to_vec() } else { first.clone() };
            for dim in &mut next {
                *dim = match open.dice.below(6) {
                    0 => 1,
                    1 if *dim == s => p,
                    2 if *dim == s => o,
                    _ => *dim,
                };
            }
            open.input(&next);
        }
        for choice in open.recipe.steps.clone() {
            open.dice = Dice(choice);
            // Some of the proposed steps are refused.
            (0..20).find_map(|_| open.step());
        }
        open.dice = Dice(open.recipe.seed);
        let last = open.values.len() - 1;
        for (i, value) in open.values.iter().enumerate().skip(open.inputs.len()) {
            if !value.is_read || i == last || open.dice.one_in(6) {
                open.sketch.graph.outputs.push(value.id);
            }
        }
        open
    }

    pub(crate) fn graph(&self) -> &crate::ops::Graph {
        &self.sketch.graph
    }

    /// The error that a device may have in each output.
    pub(crate) fn errors(&self) -> Vec<f64> {
        let error = |id: &ValueId| self.values.iter().find(|known| known.id == *id).map(|k| k.bounds.error);
        self.sketch.graph.outputs.iter().filter_map(error).collect()
    }

    fn shape(&self, dims: &[usize], run: usize) -> Vec<usize> {
        let sizes = self.recipe.runs[run];
        dims.iter().map(|&dim| if dim < OPEN { dim } else { sizes[dim - OPEN] }).collect()
    }

    /// The inputs of a run.
    pub(crate) fn inputs(&self, run: usize) -> Vec<Tensor> {
        let of = |(i, dims): (usize, &Vec<usize>)| {
            grid(&self.shape(dims, run), self.recipe.seed ^ ((i as u64) << 32) ^ ((run as u64) << 40))
        };
        let lists = self.lists.iter().map(|runs| case::list(&runs[run]));
        self.inputs.iter().enumerate().map(of).chain(lists).collect()
    }

    /// Whether inference accepts the run.
    pub(crate) fn takes(&self, run: usize) -> bool {
        self.values.last().is_some_and(|value| value.shapes[run].is_some())
    }

    fn input(&mut self, dims: &[usize]) -> usize {
        let large = |run| self.shape(dims, run).iter().product::<usize>() > MOST;
        let dims = if (0..self.recipe.runs.len()).any(large) { &[OPEN, OPEN + 1] } else { dims };
        let is_named = !self.recipe.seed.is_multiple_of(5);
        let id = self.sketch.input(&format!("in{}", self.inputs.len()));
        let dim = |&dim: &usize| match dim {
            OPEN.. if is_named => Dim::Symbol(NAMES[dim - OPEN].into()),
            OPEN.. => Dim::Unknown,
            _ => Dim::Known(dim),
        };
        self.sketch.graph.values[id.index()].shape = Some(dims.iter().map(dim).collect());
        let shapes = (0..self.recipe.runs.len()).map(|run| Some(self.shape(dims, run))).collect();
        self.inputs.push(dims.to_vec());
        self.values.push(OpenValue { id, bounds: GRID, shapes, is_read: false });
        self.values.len() - 1
    }

    /// A value so far, mostly one that was made recently.
    fn pick(&mut self) -> OpenValue {
        let back = self.dice.below(self.values.len().min(4));
        let any = self.dice.below(self.values.len());
        let at = match self.dice.below(4) {
            0 => any,
            1 => self.values.len() - 1 - back,
            _ => self.values.len() - 1,
        };
        self.values[at].clone()
    }

    fn pick_exact(&mut self) -> Option<OpenValue> {
        (0..4).map(|_| self.pick()).find(|known| known.bounds.is_exact())
    }

    fn constant(&mut self, shape: &[usize]) -> ValueId {
        let tensor = grid(shape, splitmix(&mut self.dice.0));
        self.sketch.constant(tensor)
    }

    fn list(&mut self, list: &[i64]) -> ValueId {
        self.sketch.constant(case::list(list))
    }

    /// A node whose output is not among the values; `None` if the operator's parser refuses it.
    fn inner(&mut self, op_type: &str, attributes: &[(&str, Attr)], inputs: &[ValueId]) -> Option<ValueId> {
        self.node_of(op_type, attributes, &inputs.iter().map(|&id| Some(id)).collect::<Vec<_>>(), 1)
    }

    fn node_of(
        &mut self,
        op_type: &str,
        attributes: &[(&str, Attr)],
        inputs: &[Option<ValueId>],
        outputs: usize,
    ) -> Option<ValueId> {
        let attributes = attributes.iter().map(|(name, attr)| (*name, attr.clone())).collect();
        let graph = &mut self.sketch.graph;
        let first = graph.values.len() as u32;
        let names = (format!("v{first}"), op_type.to_string(), ops::NEWEST_OPSET);
        let ids = (first..first + outputs as u32).map(|id| Some(ValueId(id))).collect();
        let node = Node::parse(names, attributes, inputs.to_vec(), (ids, &vec![true; outputs])).ok()?;
        if let Op::Unsupported(why) = &node.op {
            panic!("{op_type}: {why}");
        }
        for id in first..first + outputs as u32 {
            graph.add_value(Value { name: format!("v{id}"), ..Value::default() });
        }
        graph.nodes.push(node);
        Some(ValueId(first))
    }

    /// Keeps the new nodes, and makes `outputs` values of the graph, if inference accepts them for the first run and most
    /// others.
    fn take(&mut self, read: &[ValueId], outputs: &[(ValueId, Bounds)]) -> Option<()> {
        let planner = planner(&self.sketch.graph, &Target::FLOOR);
        let runs: Vec<Option<Facts>> = (0..self.recipe.runs.len())
            .map(|run| {
                let floats = |dims: &Vec<usize>| InputFact::of_shape(DType::F32, &self.shape(dims, run));
                let list = |runs: &Vec<Vec<i64>>| InputFact::from(case::list(&runs[run]));
                let floats = self.inputs.iter().map(floats);
                let inputs: Vec<InputFact> = floats.chain(self.lists.iter().map(list)).collect();
                planner.facts(&inputs).ok()
            })
            .collect();
        let known = |&(id, bounds): &(ValueId, Bounds)| {
            let shapes = runs.iter().map(|facts| Some(facts.as_ref()?.get(id)?.shape.to_vec())).collect();
            OpenValue { id, bounds, shapes, is_read: false }
        };
        let new: Vec<OpenValue> = outputs.iter().map(known).collect();
        let (terms, most) = (self.terms, MOST_TERMS);
        let small = |shape: &Vec<usize>| {
            let count: usize = shape.iter().product();
            count <= MOST && count * terms <= most && shape.len() <= 5
        };
        let fits = |known: &OpenValue| {
            known.shapes[0].is_some()
                && 2 * known.shapes.iter().flatten().count() > known.shapes.len()
                && known.shapes.iter().flatten().all(small)
                && known.bounds.error <= MOST_ERROR
                && known.bounds.size <= 1e6
        };
        if !new.iter().all(fits) {
            return None;
        }
        self.values
            .iter_mut()
            .filter(|known| read.contains(&known.id))
            .for_each(|known| known.is_read = true);
        // A run that is refused here stays refused.
        for (run, facts) in runs.iter().enumerate() {
            if facts.is_none() {
                self.values.iter_mut().for_each(|known| known.shapes[run] = None);
            }
        }
        self.values.extend(new);
        Some(())
    }

    fn node(
        &mut self,
        op_type: &str,
        attributes: &[(&str, Attr)],
        inputs: &[ValueId],
        bounds: Bounds,
    ) -> Option<()> {
        let id = self.inner(op_type, attributes, inputs)?;
        self.take(inputs, &[(id, bounds)])
    }

    /// Adds a step to the graph; `None`, without a change, if the proposed step does not fit.
    fn step(&mut self) -> Option<()> {
        let (nodes, values) = (self.sketch.graph.nodes.len(), self.sketch.graph.values.len());
        let (inputs, lists, known) = (self.inputs.len(), self.lists.len(), self.values.len());
        let at = self.dice.below(STEPS.len());
        self.terms = 1;
        let done = STEPS[at](self);
        self.taken[at] += usize::from(done.is_some());
        if done.is_none() {
            self.sketch.graph.nodes.truncate(nodes);
            self.sketch.graph.values.truncate(values);
            self.sketch.graph.inputs.truncate(inputs + lists);
            self.inputs.truncate(inputs);
            self.lists.truncate(lists);
            self.values.truncate(known);
        }
        done
    }

    fn axes(&mut self, x: &OpenValue) -> Vec<usize> {
        if self.dice.one_in(2) {
            return self.axis(x).into_iter().collect();
        }
        let mask = 1 + self.dice.below((1 << x.rank()) - 1);
        (0..x.rank()).filter(|axis| mask >> axis & 1 == 1).collect()
    }

    fn axis(&mut self, x: &OpenValue) -> Option<usize> {
        let again = self.axis < x.rank() && self.dice.one_in(2);
        self.axis = if again { self.axis } else { self.dice.below(x.rank()) };
        (x.rank() > 0).then_some(self.axis)
    }

    /// The shape of a constant that broadcasts to `x` in every run.
    fn broadcast(&mut self, x: &OpenValue) -> Vec<usize> {
        let rank = self.dice.below(x.rank() + 1);
        let dice = &mut self.dice;
        (x.rank() - rank..x.rank())
            .map(|axis| x.fixed(axis).filter(|_| !dice.one_in(3)).unwrap_or(1))
            .collect()
    }
}

type Growth = fn(&mut Open) -> Option<()>;

/// Every family once, and common ones more often.
#[rustfmt::skip]
const STEPS: &[Growth] = &[
    unary, unary, function, binary, binary, binary, with_constant, with_constant, choice, sum_of_three,
    reduce, reduce, reduce, centered, softmax, softmax, normalization, spelled_out, channels, product,
    product, pair, pair, square, square, gemm, einsum, conv, conv, conv, conv_transpose, pool, pool,
    global_pool, transpose, transpose, transpose, slice, slice, concat, concat, concat, split, pad, pad,
    gather, scatter, expand, expand, reshape, reshape, reshape, by_shape, tile, resize, resize, blocks,
    cumulative, top_k, arg, one_hot, trilu, quantize, integer_product, cast, integers, given, given, cache,
    cache, attention, recurrent, local_norm, position,
];

fn unary(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let (id, b) = (x.id, x.bounds);
    let op = g.dice.of(&["Relu", "Neg", "Abs", "Identity", "LeakyRelu", "Clip", "Floor", "Round", "Sign"]);
    if matches!(op, "Floor" | "Round" | "Sign") && !b.is_exact() {
        return None;
    }
    match op {
        "LeakyRelu" => g.node(op, &[("alpha", Attr::Float(0.5))], &[id], Bounds { unit: b.unit / 2.0, ..b }),
        "Clip" => {
            let ends = [-1.0, 1.5].map(|end| g.sketch.scalar(end));
            g.node(op, &[], &[id, ends[0], ends[1]], Bounds { unit: b.unit.min(0.5), ..b })
        }
        "Floor" | "Round" | "Sign" => {
            g.node(op, &[], &[id], Bounds { size: b.size.ceil().max(1.0), unit: 1.0, ..b })
        }
        _ => g.node(op, &[], &[id], b),
    }
}

fn function(g: &mut Open) -> Option<()> {
    let x = g.pick();
    // All of these have slopes of at most 1.2.
    let op = g.dice.of(&["Tanh", "Sigmoid", "Erf", "HardSigmoid", "Softplus", "Softsign", "Gelu", "Elu"]);
    let (size, slope) = match op {
        "Softplus" | "Gelu" | "Elu" => (x.bounds.size + 1.0, 1.2),
        _ => (1.0, 1.2),
    };
    g.node(op, &[], &[x.id], Bounds::rounded(size, slope * x.bounds.error + FUNCTION * size))
}

fn apply(g: &mut Open, a: (ValueId, Bounds), b: (ValueId, Bounds)) -> Option<()> {
    let (a, b) = if g.dice.one_in(2) { (a, b) } else { (b, a) };
    let op = g.dice.of(&["Add", "Sub", "Mul", "Max", "Min"]);
    let bounds = match op {
        "Add" | "Sub" => a.1.sum(b.1),
        "Mul" => a.1.product(b.1),
        _ => a.1.join(b.1),
    };
    g.node(op, &[], &[a.0, b.0], bounds)
}

fn binary(g: &mut Open) -> Option<()> {
    let (a, b) = (g.pick(), g.pick());
    apply(g, (a.id, a.bounds), (b.id, b.bounds))
}

fn with_constant(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let shape = g.broadcast(&x);
    let constant = g.constant(&shape);
    apply(g, (x.id, x.bounds), (constant, GRID))
}

fn choice(g: &mut Open) -> Option<()> {
    let (by, a, b) = (g.pick_exact()?, g.pick(), g.pick());
    let limit = g.sketch.scalar(0.25);
    let op = g.dice.of(&["Less", "Greater", "GreaterOrEqual", "Equal"]);
    let condition = g.inner(op, &[], &[by.id, limit])?;
    let id = g.inner("Where", &[], &[condition, a.id, b.id])?;
    g.take(&[by.id, a.id, b.id], &[(id, a.bounds.join(b.bounds))])
}

fn sum_of_three(g: &mut Open) -> Option<()> {
    let (a, b, c) = (g.pick(), g.pick(), g.pick());
    let op = g.dice.of(&["Sum", "Max", "Min"]);
    let bounds = if op == "Sum" {
        a.bounds.sum(b.bounds).sum(c.bounds)
    } else {
        a.bounds.join(b.bounds).join(c.bounds)
    };
    g.node(op, &[], &[a.id, b.id, c.id], bounds)
}

/// The bounds of a reduction of `n` elements.
fn reduced(op: &str, b: Bounds, n: usize) -> Bounds {
    let terms = n.max(1) as f64;
    match op {
        "ReduceSum" | "ReduceL1" => b.times(n),
        "ReduceMean" => Bounds::rounded(b.size, b.error + terms * ROUNDING * b.size),
        "ReduceSumSquare" => b.product(b).times(n),
        // Each term has an error, and all have the direction of the sum.
        "ReduceL2" => {
            let size = terms.sqrt() * b.size;
            Bounds::rounded(size, terms.sqrt() * b.error + terms * ROUNDING * size)
        }
        "ReduceLogSumExp" => Bounds::rounded(b.size + terms.ln(), b.error + 2.0 * FUNCTION),
        _ => b,
    }
}

fn reduce(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axes = g.axes(&x);
    let ops = ["Sum", "Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp"];
    let op = format!("Reduce{}", g.dice.of(&ops));
    // For no elements, the results of some are infinite or NaN.
    let empty = x.shapes.iter().flatten().any(|shape| axes.iter().any(|&axis| shape[axis] == 0));
    if empty && !matches!(op.as_str(), "ReduceSum" | "ReduceL1" | "ReduceL2" | "ReduceSumSquare") {
        return None;
    }
    let bounds = reduced(&op, x.bounds, x.most(&axes));
    let keep = [("keepdims", Attr::Int(g.dice.below(2) as i64))];
    let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
    let list = g.list(&axes);
    g.node(&op, &keep, &[x.id, list], bounds)
}

/// Elements minus a value of their row.
fn centered(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axes = g.axes(&x);
    if x.shapes.iter().flatten().any(|shape| axes.iter().any(|&axis| shape[axis] == 0)) {
        return None;
    }
    let op = g.dice.of(&["ReduceMean", "ReduceMax", "ReduceSum"]);
    let bounds = reduced(op, x.bounds, x.most(&axes));
    let list = g.list(&axes.iter().map(|&axis| axis as i64).collect::<Vec<_>>());
    let value = g.inner(op, &[], &[x.id, list])?;
    let id = g.inner("Sub", &[], &[x.id, value])?;
    g.take(&[x.id], &[(id, x.bounds.sum(bounds))])
}

fn softmax(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)?;
    let op = g.dice.of(&["Softmax", "Softmax", "LogSoftmax"]);
    let bounds = match op {
        "Softmax" => Bounds::rounded(1.0, 2.0 * x.bounds.error + FUNCTION),
        _ => Bounds::rounded(2.0 * x.bounds.size + 10.0, 2.0 * x.bounds.error + 4.0 * FUNCTION),
    };
    g.node(op, &[("axis", Attr::Int(axis as i64))], &[x.id], bounds)
}

/// The bounds of normalised rows of `n` elements with a large epsilon. The slopes are at most `1 / sqrt(epsilon)` for the
/// difference, and as much times the size of the difference for the deviation.
fn normal(b: Bounds, n: usize) -> Bounds {
    let error = b.error + n as f64 * ROUNDING * b.size;
    Bounds::rounded(3.0 * b.size, 3.0 * error + 8.0 * b.size * b.size * error)
}

const EPSILON: (&str, Attr) = ("epsilon", Attr::Float(0.5));

fn normalization(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let last = x.rank().checked_sub(1)?;
    let n = x.fixed(last).filter(|&n| n > 0)?;
    let scale = g.constant(&[n]);
    let bounds = normal(x.bounds, n).product(GRID);
    let op = g.dice.of(&["LayerNormalization", "RMSNormalization"]);
    let mut inputs = vec![x.id, scale];
    let mut bounds = Bounds::rounded(bounds.size, bounds.error);
    if op == "LayerNormalization" && g.dice.one_in(2) {
        inputs.push(g.constant(&[n]));
        bounds = bounds.sum(GRID);
    }
    g.node(op, &[("axis", Attr::Int(-1)), EPSILON], &inputs, bounds)
}

fn spelled_out(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let last = x.rank().checked_sub(1)?;
    if x.sizes(last).any(|n| n == 0) {
        return None;
    }
    let (centered, power) = (g.dice.one_in(2), g.dice.one_in(2));
    let id = g.sketch.normalize(x.id, centered, power);
    g.take(&[x.id], &[(id, normal(x.bounds, x.most(&[last])))])
}

/// Normalisations over the axes after the channels.
fn channels(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let c = if x.rank() < 3 { None } else { x.fixed(1) }.filter(|&c| c > 0)?;
    let spatial: Vec<usize> = (2..x.rank()).collect();
    if x.shapes.iter().flatten().any(|shape| shape[2..].contains(&0)) {
        return None;
    }
    let n = c * x.most(&spatial);
    let (scale, bias) = (g.constant(&[c]), g.constant(&[c]));
    let bounds = normal(x.bounds, n).product(GRID).sum(GRID);
    let bounds = Bounds::rounded(bounds.size, bounds.error);
    match g.dice.below(3) {
        0 => g.node("InstanceNormalization", &[EPSILON], &[x.id, scale, bias], bounds),
        1 => {
            let groups = ("num_groups", Attr::Int(if c % 2 == 0 { 2 } else { 1 }));
            g.node("GroupNormalization", &[EPSILON, groups], &[x.id, scale, bias], bounds)
        }
        _ => {
            let (mean, variance) = (g.constant(&[c]), g.sketch.constant(case::uniform(&[c], 0.5, 1.0)));
            let bounds = x.bounds.sum(GRID).product(GRID).sum(GRID);
            let bounds = Bounds::rounded(2.0 * bounds.size, 2.0 * bounds.error);
            g.node("BatchNormalization", &[EPSILON], &[x.id, scale, bias, mean, variance], bounds)
        }
    }
}

fn product(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let last = x.rank().checked_sub(1)?;
    let k = x.fixed(last).filter(|&k| k > 0)?;
    let n = g.dice.of(&[1, 3, 4, 8, 12, 20, 33, 64]);
    let weights = match (x.rank() > 2).then(|| x.fixed(x.rank() - 3)).flatten() {
        Some(batch) if g.dice.one_in(4) => g.constant(&[batch, k, n]),
        _ => g.constant(&[k, n]),
    };
    g.node("MatMul", &[], &[x.id, weights], x.bounds.product(GRID).times(k))
}

fn pair(g: &mut Open) -> Option<()> {
    let (a, b) = (g.pick(), g.pick());
    let last = a.rank().checked_sub(1)?;
    if b.rank() == 0 {
        return None;
    }
    g.terms = a.most(&[last]);
    g.node("MatMul", &[], &[a.id, b.id], a.bounds.product(b.bounds).times(a.most(&[last])))
}

/// The product of a value with itself, transposed, like the scores of attention.
fn square(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let rank = x.rank();
    if !(2..=4).contains(&rank) {
        return None;
    }
    let (rows, columns) = (rank - 2, rank - 1);
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rows, columns);
    let turned = g.sketch.transpose(x.id, &perm);
    let inner = g.dice.one_in(3);
    let (inputs, k) = if inner { ([turned, x.id], rows) } else { ([x.id, turned], columns) };
    g.terms = x.most(&[k]);
    let mut id = g.inner("MatMul", &[], &inputs)?;
    let mut bounds = x.bounds.product(x.bounds).times(x.most(&[k]));
    if g.dice.one_in(2) {
        let scale = g.sketch.scalar(0.125);
        id = g.inner("Mul", &[], &[id, scale])?;
        bounds = bounds.product(Bounds { size: 0.125, unit: 0.125, error: 0.0 });
    }
    g.take(&[x.id], &[(id, bounds)])
}

fn gemm(g: &mut Open) -> Option<()> {
    let x = g.pick();
    if x.rank() != 2 {
        return None;
    }
    let a = usize::from(g.dice.one_in(3));
    let k = x.fixed(1 - a).filter(|&k| k > 0)?;
    let (b, n) = (g.dice.below(2), g.dice.of(&[1, 3, 4, 8, 20]));
    let (weights, bias) = (g.constant(&if b == 1 { [n, k] } else { [k, n] }), g.constant(&[n]));
    let bounds = x.bounds.product(GRID).times(k).sum(GRID);
    g.node(
        "Gemm",
        &[("transA", Attr::Int(a as i64)), ("transB", Attr::Int(b as i64))],
        &[x.id, weights, bias],
        bounds,
    )
}

fn einsum(g: &mut Open) -> Option<()> {
    let (a, b) = (g.pick(), g.pick());
    let equations: &[(&str, usize)] = match (a.rank(), b.rank()) {
        (2, 2) => &[("ij,kj->ik", 1), ("ij,ik->jk", 0), ("ij,ij->i", 1)],
        (3, 3) => &[("bij,bkj->bik", 2), ("bij,bkj->ibk", 2), ("bij,bik->bjk", 1)],
        (4, 4) => &[("bhqd,bhkd->bhqk", 3), ("bqhd,bkhd->bhqk", 3)],
        _ => return None,
    };
    let (equation, k) = g.dice.of(equations);
    g.terms = a.most(&[k]);
    let bounds = a.bounds.product(b.bounds).times(a.most(&[k]));
    g.node("Einsum", &[("equation", Attr::String(equation.into()))], &[a.id, b.id], bounds)
}

/// A window over the axes after the second.
fn window(g: &mut Open, spatial: usize) -> (Vec<usize>, Vec<(&'static str, Attr)>) {
    let kernel: Vec<usize> = (0..spatial).map(|_| g.dice.of(&[1, 2, 3, 3])).collect();
    let (begin, end) = (g.dice.below(2) as i64, g.dice.below(2) as i64);
    let pads =
        kernel.iter().map(|&k| begin.min(k as i64 - 1)).chain(kernel.iter().map(|&k| end.min(k as i64 - 1)));
    let stride = g.dice.of(&[1, 1, 1, 2, 3]);
    (
        kernel.clone(),
        vec![("pads", Attr::Ints(pads.collect())), ("strides", Attr::Ints(vec![stride; spatial]))],
    )
}

fn image(g: &mut Open) -> Option<(OpenValue, usize)> {
    let x = g.pick();
    let c = if (3..=4).contains(&x.rank()) { x.fixed(1) } else { None };
    c.filter(|&c| c > 0).map(|c| (x, c))
}

fn conv(g: &mut Open) -> Option<()> {
    let (x, c) = image(g)?;
    let spatial = x.rank() - 2;
    let (kernel, mut attributes) = window(g, spatial);
    let group = g.dice.of(&[1, 1, 1, c]);
    let filters = g.dice.of(&[1, 3, 4, 8, 16, 20]);
    let filters = if group > 1 { c * g.dice.of(&[1, 1, 2]) } else { filters };
    if g.dice.one_in(5) {
        attributes.push(("dilations", Attr::Ints(vec![2; spatial])));
    }
    attributes.push(("group", Attr::Int(group as i64)));
    let mut shape = vec![filters, c / group];
    shape.extend(&kernel);
    g.terms = shape[1..].iter().product();
    let mut bounds = x.bounds.product(GRID).times(g.terms);
    let mut inputs = vec![x.id, g.constant(&shape)];
    if g.dice.one_in(2) {
        inputs.push(g.constant(&[filters]));
        bounds = bounds.sum(GRID);
    }
    g.node("Conv", &attributes, &inputs, bounds)
}

fn conv_transpose(g: &mut Open) -> Option<()> {
    let (x, c) = image(g)?;
    let (kernel, attributes) = window(g, x.rank() - 2);
    let filters = g.dice.of(&[1, 3, 4]);
    let mut shape = vec![c, filters];
    shape.extend(&kernel);
    g.terms = c * kernel.iter().product::<usize>();
    let weights = g.constant(&shape);
    g.node("ConvTranspose", &attributes, &[x.id, weights], x.bounds.product(GRID).times(g.terms))
}

fn pool(g: &mut Open) -> Option<()> {
    let (x, _) = image(g)?;
    let (kernel, mut attributes) = window(g, x.rank() - 2);
    attributes.push(("kernel_shape", Attr::Ints(kernel.iter().map(|&k| k as i64).collect())));
    match g.dice.below(3) {
        0 => {
            attributes.push(("count_include_pad", Attr::Int(g.dice.below(2) as i64)));
            let bounds = Bounds::rounded(x.bounds.size, x.bounds.error + 9.0 * ROUNDING * x.bounds.size);
            g.node("AveragePool", &attributes, &[x.id], bounds)
        }
        _ => g.node("MaxPool", &attributes, &[x.id], x.bounds),
    }
}

fn global_pool(g: &mut Open) -> Option<()> {
    let (x, _) = image(g)?;
    if x.shapes.iter().flatten().any(|shape| shape[2..].contains(&0)) {
        return None;
    }
    let n = x.most(&(2..x.rank()).collect::<Vec<_>>());
    match g.dice.below(2) {
        0 => g.node("GlobalMaxPool", &[], &[x.id], x.bounds),
        _ => g.node("GlobalAveragePool", &[], &[x.id], reduced("ReduceMean", x.bounds, n)),
    }
}

fn transpose(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let mut perm: Vec<i64> = (0..x.rank() as i64).collect();
    for i in (1..perm.len()).rev() {
        perm.swap(i, g.dice.below(i + 1));
    }
    g.node("Transpose", &[("perm", Attr::Ints(perm))], &[x.id], x.bounds)
}

fn slice(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)? as i64;
    let ranges = [
        (0, -1, 1),
        (1, i64::MAX, 1),
        (-1, i64::MIN, -1),
        (0, i64::MAX, 2),
        (-4, i64::MAX, 1),
        (0, 4, 1),
        (-1, i64::MIN, -2),
    ];
    let (start, end, step) = g.dice.of(&ranges);
    let lists = [start, end, axis, step].map(|n| g.list(&[n]));
    g.node("Slice", &[], &[x.id, lists[0], lists[1], lists[2], lists[3]], x.bounds)
}

fn concat(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)?;
    let attributes = [("axis", Attr::Int(axis as i64))];
    let constant =
        (0..x.rank()).map(|d| if d == axis { Some(2) } else { x.fixed(d) }).collect::<Option<Vec<_>>>();
    let (other, bounds) = match g.dice.below(3) {
        0 => (x.id, x.bounds),
        1 if constant.is_some() => (g.constant(&constant?), GRID),
        _ => {
            let other = g.pick();
            (other.id, other.bounds)
        }
    };
    let mut inputs = if g.dice.one_in(2) { vec![x.id, other] } else { vec![other, x.id] };
    if g.dice.one_in(4) {
        inputs.push(x.id);
    }
    g.node("Concat", &attributes, &inputs, x.bounds.join(bounds))
}

fn split(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)? as i64;
    let parts = 2 + g.dice.below(2);
    let attributes = [("axis", Attr::Int(axis)), ("num_outputs", Attr::Int(parts as i64))];
    let first = g.node_of("Split", &attributes, &[Some(x.id)], parts)?;
    let outputs: Vec<_> = (0..parts as u32).map(|i| (ValueId(first.0 + i), x.bounds)).collect();
    g.take(&[x.id], &outputs)
}

fn pad(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)?;
    let mut pads = vec![0; 2 * x.rank()];
    (pads[axis], pads[axis + x.rank()]) = (g.dice.below(3) as i64, g.dice.below(3) as i64);
    let mode = ("mode", Attr::String(g.dice.of(&["constant", "constant", "edge", "reflect"]).into()));
    let list = g.list(&pads);
    let fill = g.sketch.scalar(0.5);
    let bounds = x.bounds.join(Bounds { size: 0.5, unit: 0.5, error: 0.0 });
    g.node("Pad", &[mode], &[x.id, list, fill], bounds)
}

fn gather(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)?;
    if x.sizes(axis).any(|n| n == 0) {
        return None;
    }
    let attributes = [("axis", Attr::Int(axis as i64))];
    let indices = match g.dice.below(3) {
        0 => g.sketch.constant(case::values(&[], &[0i64])),
        1 => g.list(&[0, -1, 0]),
        _ => g.sketch.constant(case::values(&[2, 1], &[-1i64, 0])),
    };
    g.node("Gather", &attributes, &[x.id, indices], x.bounds)
}

/// Slices of the first axis, written to other places.
fn scatter(g: &mut Open) -> Option<()> {
    let x = g.pick();
    if x.rank() < 2 || x.sizes(0).any(|n| n == 0) {
        return None;
    }
    let first = [0, 1, 0, 1].map(|n| g.list(&[n]));
    let updates = g.inner("Slice", &[], &[x.id, first[0], first[1], first[2], first[3]])?;
    let doubled = g.inner("Add", &[], &[updates, updates])?;
    let indices = g.sketch.constant(case::values(&[1, 1], &[-1i64]));
    let reduction = g.dice.of(&["none", "add"]);
    let attributes = [("reduction", Attr::String(reduction.into()))];
    let id = g.inner("ScatterND", &attributes, &[x.id, indices, doubled])?;
    g.take(&[x.id], &[(id, x.bounds.sum(x.bounds).sum(x.bounds))])
}

fn expand(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let mut id = x.id;
    if g.dice.one_in(2) {
        let axis = g.dice.below(x.rank() + 1) as i64;
        let axis = g.list(&[axis]);
        id = g.inner("Unsqueeze", &[], &[id, axis])?;
    }
    let shape: Vec<i64> = (0..1 + g.dice.below(x.rank() + 1)).map(|_| g.dice.of(&[1, 1, 2, 3])).collect();
    let shape = g.list(&shape);
    let id = g.inner("Expand", &[], &[id, shape])?;
    g.take(&[x.id], &[(id, x.bounds)])
}

fn reshape(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let rank = x.rank();
    let mut shape = vec![0i64; rank];
    match g.dice.below(6) {
        // Splits an axis into two.
        0 => {
            let axis = g.axis(&x)?;
            shape.insert(axis, -1);
            shape[axis + 1] = g.dice.of(&[2, 4]);
            // A zero in one of the later places would copy another dimension.
            for (d, size) in shape.iter_mut().enumerate().skip(axis + 2) {
                *size = x.fixed(d - 1)? as i64;
            }
        }
        // Merges two axes into one.
        1 | 2 => {
            let axis = g.dice.below(rank.checked_sub(1).filter(|&places| places > 0)?);
            shape.remove(axis + 1);
            shape[axis] = -1;
            for (d, size) in shape.iter_mut().enumerate().skip(axis + 1) {
                *size = x.fixed(d + 1)? as i64;
            }
        }
        3 => shape = vec![-1],
        4 => {
            let axis = ("axis", Attr::Int(g.dice.below(rank + 1) as i64));
            return g.node("Flatten", &[axis], &[x.id], x.bounds);
        }
        _ => {
            let axis = g.dice.below(rank + 1) as i64;
            let axis = g.list(&[axis]);
            return g.node("Unsqueeze", &[], &[x.id, axis], x.bounds);
        }
    }
    let shape = g.list(&shape);
    g.node("Reshape", &[], &[x.id, shape], x.bounds)
}

/// A shape that is computed: the last axis first, or ones in the shape of a value.
fn by_shape(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let of = g.inner("Shape", &[], &[x.id])?;
    match g.dice.below(3) {
        0 => {
            let picks = g.list(&[-1]);
            let last = g.inner("Gather", &[("axis", Attr::Int(0))], &[of, picks])?;
            let rest = g.list(&[-1]);
            let shape = g.inner("Concat", &[("axis", Attr::Int(0))], &[last, rest])?;
            let id = g.inner("Reshape", &[], &[x.id, shape])?;
            g.take(&[x.id], &[(id, x.bounds)])
        }
        1 => {
            let value = ("value", Attr::Tensor(case::values(&[1], &[0.5f32])));
            let filled = g.inner("ConstantOfShape", &[value], &[of])?;
            let id = g.inner("Mul", &[], &[x.id, filled])?;
            g.take(&[x.id], &[(id, x.bounds.product(Bounds { size: 0.5, unit: 0.5, error: 0.0 }))])
        }
        _ => {
            let y = g.pick();
            let id = g.inner("Expand", &[], &[y.id, of])?;
            g.take(&[x.id, y.id], &[(id, y.bounds)])
        }
    }
}

fn tile(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let repeats: Vec<i64> = (0..x.rank()).map(|_| g.dice.of(&[1, 1, 2])).collect();
    let repeats = g.list(&repeats);
    g.node("Tile", &[], &[x.id, repeats], x.bounds)
}

fn resize(g: &mut Open) -> Option<()> {
    let (x, _) = image(g)?;
    let last = x.rank() - 1;
    let mut scales = vec![1.0f32; x.rank()];
    scales[last] = g.dice.of(&[2.0, 2.0, 0.5, 1.5]);
    let linear = g.dice.one_in(3);
    let bounds =
        if linear { Bounds::rounded(x.bounds.size, x.bounds.error + 1e-5 * x.bounds.size) } else { x.bounds };
    // `nearest` asks on which side of a half a product lies. Only with powers of two is the answer independent of rounding.
    if x.sizes(last).any(|n| n == 0) || (!linear && scales[last] == 1.5) {
        return None;
    }
    let scales = g.sketch.constant(case::values(&[x.rank()], &scales));
    let mode = ("mode", Attr::String(if linear { "linear" } else { "nearest" }.into()));
    let id = g.node_of("Resize", &[mode], &[Some(x.id), None, Some(scales)], 1)?;
    g.take(&[x.id], &[(id, bounds)])
}

fn blocks(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let op = g.dice.of(&["DepthToSpace", "SpaceToDepth"]);
    g.node(op, &[("blocksize", Attr::Int(2))], &[x.id], x.bounds)
}

fn cumulative(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)?;
    let at = g.sketch.constant(case::values(&[], &[axis as i64]));
    let flags =
        [("exclusive", Attr::Int(g.dice.below(2) as i64)), ("reverse", Attr::Int(g.dice.below(2) as i64))];
    g.node("CumSum", &flags, &[x.id, at], x.bounds.times(x.most(&[axis])))
}

fn top_k(g: &mut Open) -> Option<()> {
    let x = g.pick_exact()?;
    let axis = g.axis(&x)? as i64;
    let k = g.dice.of(&[1, 2, 3]);
    let k = g.list(&[k]);
    let largest = ("largest", Attr::Int(g.dice.below(2) as i64));
    let first = g.node_of("TopK", &[("axis", Attr::Int(axis)), largest], &[Some(x.id), Some(k)], 2)?;
    let indices = g.inner("Cast", &[("to", Attr::Int(1))], &[ValueId(first.0 + 1)])?;
    let most = Bounds { size: x.most(&[axis as usize]) as f64, unit: 1.0, error: 0.0 };
    g.take(&[x.id], &[(first, x.bounds), (indices, most)])
}

fn index_of_most(g: &mut Open) -> Option<(OpenValue, ValueId, f64)> {
    let x = g.pick_exact()?;
    let axis = g.axis(&x)?;
    if x.sizes(axis).any(|n| n == 0) {
        return None;
    }
    let op = g.dice.of(&["ArgMax", "ArgMin"]);
    let flags = [
        ("axis", Attr::Int(axis as i64)),
        ("keepdims", Attr::Int(g.dice.below(2) as i64)),
        ("select_last_index", Attr::Int(g.dice.below(2) as i64)),
    ];
    let most = x.most(&[axis]) as f64;
    let id = g.inner(op, &flags, &[x.id])?;
    Some((x, id, most))
}

fn arg(g: &mut Open) -> Option<()> {
    let (x, index, most) = index_of_most(g)?;
    let id = g.inner("Cast", &[("to", Attr::Int(1))], &[index])?;
    g.take(&[x.id], &[(id, Bounds { size: most, unit: 1.0, error: 0.0 })])
}

fn one_hot(g: &mut Open) -> Option<()> {
    let (x, index, _) = index_of_most(g)?;
    let depth = g.sketch.constant(case::values(&[], &[g.dice.of(&[3i64, 5])]));
    let values = g.sketch.constant(case::values(&[2], &[0.0f32, 1.0]));
    let id = g.inner("OneHot", &[("axis", Attr::Int(-1))], &[index, depth, values])?;
    g.take(&[x.id], &[(id, Bounds { size: 1.0, unit: 1.0, error: 0.0 })])
}

fn trilu(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let k = g.sketch.constant(case::values(&[], &[g.dice.of(&[-1i64, 0, 1])]));
    let upper = ("upper", Attr::Int(g.dice.below(2) as i64));
    g.node("Trilu", &[upper], &[x.id, k], x.bounds)
}

/// Scales that are powers of two, so that exact values are rounded to the same integer on both sides.
fn scales(g: &mut Open, x: &OpenValue) -> (ValueId, ValueId, Vec<(&'static str, Attr)>) {
    let axis = (0..x.rank()).find(|&axis| x.fixed(axis).is_some_and(|n| n > 0)).filter(|_| g.dice.one_in(2));
    let (shape, attributes) = match axis {
        Some(axis) => (vec![x.fixed(axis).unwrap_or(1)], vec![("axis", Attr::Int(axis as i64))]),
        None => (vec![], vec![]),
    };
    let count: usize = shape.iter().product();
    let scales: Vec<f32> = (0..count).map(|_| g.dice.of(&[0.25, 0.5, 1.0])).collect();
    let scale = g.sketch.constant(case::values(&shape, &scales));
    (scale, g.sketch.constant(case::values(&shape, &vec![3u8; count])), attributes)
}

fn quantize(g: &mut Open) -> Option<()> {
    let x = g.pick_exact()?;
    let (scale, zero, attributes) = scales(g, &x);
    let integers = g.inner("QuantizeLinear", &attributes, &[x.id, scale, zero])?;
    let id = g.inner("DequantizeLinear", &attributes, &[integers, scale, zero])?;
    g.take(&[x.id], &[(id, Bounds { size: 256.0, unit: 0.25, error: 0.0 })])
}

fn integer_product(g: &mut Open) -> Option<()> {
    let x = g.pick_exact()?;
    let k = x.fixed(x.rank().checked_sub(1)?).filter(|&k| k > 0)?;
    let (scale, zero) = (g.sketch.scalar(0.5), g.sketch.constant(case::values(&[], &[7u8])));
    let left = g.inner("QuantizeLinear", &[], &[x.id, scale, zero])?;
    let n = g.dice.of(&[1, 4, 7, 16]);
    let weights: Vec<u8> = (0..k * n).map(|_| g.dice.below(5) as u8).collect();
    let weights = g.sketch.constant(case::values(&[k, n], &weights));
    let sum = g.inner("MatMulInteger", &[], &[left, weights, zero])?;
    let id = g.inner("Cast", &[("to", Attr::Int(1))], &[sum])?;
    g.take(&[x.id], &[(id, Bounds { size: 1024.0 * k as f64, unit: 1.0, error: 0.0 })])
}

fn cast(g: &mut Open) -> Option<()> {
    let x = g.pick_exact().filter(|x| x.bounds.size / x.bounds.unit <= 256.0)?;
    let to = g.dice.of(&[10, 16]);
    let narrow = g.inner("Cast", &[("to", Attr::Int(to))], &[x.id])?;
    let relu = g.inner("Relu", &[], &[narrow])?;
    let id = g.inner("Cast", &[("to", Attr::Int(1))], &[relu])?;
    g.take(&[x.id], &[(id, x.bounds)])
}

fn integers(g: &mut Open) -> Option<()> {
    let x = g.pick_exact().filter(|x| x.bounds.size <= 1000.0)?;
    let to = g.dice.of(&[6, 7]);
    let list = |numbers: &[i64]| {
        if to == 7 { case::list(numbers) } else { case::converted(&case::list(numbers), DType::I32) }
    };
    let (three, five) = (g.sketch.constant(list(&[3])), g.sketch.constant(list(&[5])));
    let whole = g.inner("Cast", &[("to", Attr::Int(to))], &[x.id])?;
    let more = g.inner("Mul", &[], &[whole, three])?;
    let op = g.dice.of(&["Mod", "Div", "Add"]);
    let result = g.inner(op, &[], &[more, five])?;
    let id = g.inner("Cast", &[("to", Attr::Int(1))], &[result])?;
    g.take(&[x.id], &[(id, Bounds { size: 3.0 * x.bounds.size + 8.0, unit: 1.0, error: 0.0 })])
}

/// An operator whose shape operand is an input of the graph, with another value in each run.
fn given(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)?;
    let op = g.dice.of(&["Slice", "Slice", "Pad", "Tile", "TopK"]);
    let length = match op {
        "Pad" => 2 * x.rank(),
        "Tile" => x.rank(),
        _ => 1,
    };
    let choices: &[i64] = match op {
        "Slice" => &[0, 1, 2, -3, 4],
        "Pad" => &[0, 0, 0, 1, 2],
        "Tile" => &[1, 1, 2],
        _ => &[1, 2, 3],
    };
    let runs = g.recipe.runs.len();
    let list = |g: &mut Open| (0..length).map(|_| g.dice.of(choices)).collect::<Vec<i64>>();
    let lists: Vec<Vec<i64>> = (0..runs).map(|_| list(g)).collect();
    let id = g.sketch.input(&format!("list{}", g.lists.len()));
    let value = &mut g.sketch.graph.values[id.index()];
    (value.dtype, value.shape) = (Some(DType::I64), Some(vec![Dim::Known(length)]));
    g.lists.push(lists);
    match op {
        "Slice" => {
            let lists = [i64::MAX, axis as i64].map(|n| g.list(&[n]));
            g.node(op, &[], &[x.id, id, lists[0], lists[1]], x.bounds)
        }
        "TopK" if !x.bounds.is_exact() => None,
        "TopK" => {
            let first = g.node_of(op, &[("axis", Attr::Int(axis as i64))], &[Some(x.id), Some(id)], 2)?;
            g.take(&[x.id], &[(first, x.bounds)])
        }
        _ => g.node(op, &[], &[x.id, id], x.bounds),
    }
}

/// Attention over a cache that grows, with heads of 4, spelled out.
fn cache(g: &mut Open) -> Option<()> {
    let x = g.pick();
    if x.rank() != 3 || x.bounds.size > 100.0 {
        return None;
    }
    let heads = x.fixed(2).filter(|n| n % 4 == 0 && *n > 0)? / 4;
    let split = g.list(&[0, 0, heads as i64, -1]);
    let split = g.inner("Reshape", &[], &[x.id, split])?;
    let queries = g.sketch.transpose(split, &[0, 2, 1, 3]);
    // The cache has the batch of the graph's first input; where `x` has another batch, the model accepts no run.
    let past = (0..g.inputs.len()).find(|&i| g.inputs[i] == [OPEN, heads, OPEN + 2, 4]);
    let past = match past {
        Some(i) => g.values[i].clone(),
        None if g.inputs.len() < 3 && g.inputs.len() == g.values.len() => {
            let at = g.input(&[OPEN, heads, OPEN + 2, 4]);
            g.values[at].clone()
        }
        None => {
            // The keys are the value itself, doubled.
            OpenValue { id: queries, ..x.clone() }
        }
    };
    let keys = g.inner("Concat", &[("axis", Attr::Int(2))], &[past.id, queries])?;
    let turned = g.sketch.transpose(keys, &[0, 1, 3, 2]);
    let scores = g.inner("MatMul", &[], &[queries, turned])?;
    let scale = g.sketch.scalar(0.125);
    let scaled = g.inner("Mul", &[], &[scores, scale])?;
    let weights = g.inner("Softmax", &[("axis", Attr::Int(-1))], &[scaled])?;
    let mixed = g.inner("MatMul", &[], &[weights, keys])?;
    let back = g.sketch.transpose(mixed, &[0, 2, 1, 3]);
    let shape = g.list(&[0, 0, -1]);
    let id = g.inner("Reshape", &[], &[back, shape])?;
    let all = x.bounds.join(past.bounds);
    let score = 0.5 * (2.0 * all.size * all.error) + 4.0 * ROUNDING * all.size * all.size;
    // Each weight has an error of this size, and the weights add up to 1.
    let error = all.error + all.size * (2.0 * score + FUNCTION * 4.0);
    g.take(&[x.id, past.id], &[(id, Bounds::rounded(all.size, error))])
}

fn attention(g: &mut Open) -> Option<()> {
    let x = g.pick();
    if x.rank() != 3 || x.bounds.size > 16.0 || x.sizes(1).any(|n| n == 0) {
        return None;
    }
    let heads = if x.fixed(2)? % 2 == 0 { 2 } else { 1 };
    let causal = ("is_causal", Attr::Int(g.dice.below(2) as i64));
    let attributes = [("q_num_heads", Attr::Int(heads)), ("kv_num_heads", Attr::Int(heads)), causal];
    let d = x.fixed(2)? as f64;
    let (size, error) = (x.bounds.size, x.bounds.error);
    let score = d.sqrt() * 2.0 * size * error + d * ROUNDING * size * size;
    let bounds = Bounds::rounded(size, error + size * (2.0 * score + 4.0 * FUNCTION));
    g.node("Attention", &attributes, &[x.id, x.id, x.id], bounds)
}

fn recurrent(g: &mut Open) -> Option<()> {
    let x = g.pick();
    if x.rank() != 3 || x.most(&[0]) > 70 || x.bounds.size > 16.0 || x.sizes(0).any(|n| n == 0) {
        return None;
    }
    let width = x.fixed(2).filter(|&n| n > 0)?;
    let (op, gates) = g.dice.of(&[("RNN", 1), ("GRU", 3), ("LSTM", 4)]);
    let hidden = 4;
    let weights = |shape: &[usize]| case::uniform(shape, -0.2, 0.2);
    let (w, r) = (weights(&[1, gates * hidden, width]), weights(&[1, gates * hidden, hidden]));
    let (w, r) = (g.sketch.constant(w), g.sketch.constant(r));
    // Each step adds the error of its functions, and passes on a part of the error before it.
    let error = 8.0 * (width as f64 * 0.2 * x.bounds.error + 4.0 * FUNCTION);
    let size = if op == "LSTM" { 4.0 } else { 1.0 };
    g.node(op, &[("hidden_size", Attr::Int(hidden as i64))], &[x.id, w, r], Bounds::rounded(size, error))
}

fn local_norm(g: &mut Open) -> Option<()> {
    let (x, _) = image(g)?;
    let (size, error) = (x.bounds.size, x.bounds.error);
    let bounds = Bounds::rounded(size, 2.0 * error + FUNCTION * size);
    g.node("LRN", &[("size", Attr::Int(3)), ("bias", Attr::Float(1.0))], &[x.id], bounds)
}

/// Numbers along an axis, like positions.
fn position(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let last = x.rank().checked_sub(1)?;
    let of = g.inner("Shape", &[], &[x.id])?;
    let at = g.sketch.constant(case::values(&[], &[last as i64]));
    let end = g.inner("Gather", &[("axis", Attr::Int(0))], &[of, at])?;
    let (zero, one) =
        (g.sketch.constant(case::values(&[], &[0i64])), g.sketch.constant(case::values(&[], &[1i64])));
    let range = g.inner("Range", &[], &[zero, end, one])?;
    let floats = g.inner("Cast", &[("to", Attr::Int(1))], &[range])?;
    let id = g.inner("Add", &[], &[x.id, floats])?;
    let numbers = Bounds { size: x.most(&[last]) as f64, unit: 1.0, error: 0.0 };
    g.take(&[x.id], &[(id, x.bounds.sum(numbers))])
}

#[test]
fn every_family_is_taken() {
    let mut taken = vec![0; STEPS.len()];
    for seed in 0..1500 {
        let open = Open::new(&Recipe::new(seed));
        assert!(!open.graph().outputs.is_empty(), "seed {seed}");
        taken.iter_mut().zip(&open.taken).for_each(|(all, own)| *all += own);
    }
    assert!(taken.iter().all(|&times| times > 0), "{taken:?}");
}
