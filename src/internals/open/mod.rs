//! Random graphs whose inputs have open dimensions, over every family of operators, with the sizes for which a session runs
//! them one after the other. The error that a device may have is followed through the graph. Most values are small multiples
//! of a power of two, for which sums and products are exact in any order, so that a single wrong element is found.

mod bounds;
mod elementwise;
mod integers;
mod moves;
mod products;
mod recipe;
mod rows;
mod sequences;
mod windows;

pub(crate) use bounds::Bounds;
pub(crate) use recipe::{Dice, Recipe};

use crate::facts::{Facts, InputFact};
use crate::graph::{Value, ValueId};
use crate::internals::cases::planner;
use crate::internals::sketch::Sketch;
use crate::kernels::Target;
use crate::ops::case::{self, splitmix};
use crate::ops::{self, Attr, Node, Op};
use crate::{DType, Dim, Tensor};
use bounds::GRID;
use elementwise::{binary, choice, function, sum_of_three, unary, with_constant};
use integers::{arg, cast, integer_product, integers, one_hot, quantize};
use moves::{
    blocks, by_shape, concat, expand, gather, pad, reshape, resize, scatter, slice, split, tile, transpose,
    trilu,
};
use products::{einsum, gemm, pair, product, square};
use rows::{centered, channels, cumulative, normalization, reduce, softmax, spelled_out, top_k};
use sequences::{attention, cache, given, position, recurrent};
use windows::{conv, conv_transpose, global_pool, local_norm, pool};

/// The most elements of a value, and the most terms in all sums of a product, that the reference still computes quickly.
const MOST: usize = 40_000;

const MOST_TERMS: usize = 4_000_000;

/// A value with a greater error shows nothing.
const MOST_ERROR: f64 = 0.05;

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
        if let Op::Unsupported(why) = &*node.op {
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
