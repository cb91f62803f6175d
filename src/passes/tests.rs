//! A pass never changes what the reference computes; and what each pass recognises, and what it leaves.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::{Budget, Limits, PASSES, Pass};
use crate::graph::ValueId;
use crate::internals::cases::{all_cases, inputs_of};
use crate::internals::random::{RandomGraph, Sketch};
use crate::internals::text::read;
use crate::ops::case::graph_of_case;
use crate::ops::{Attr, Graph, case};
use crate::{DType, Dim, Tensor, reference};

/// The graph's outputs, and the greatest magnitude of all its values.
fn outputs(graph: &Graph, inputs: &[Tensor]) -> (Vec<Tensor>, f64) {
    let values = reference::run(graph, inputs, true, &crate::Interrupt::new()).unwrap();
    let arrays = (0..graph.values.len()).filter_map(|i| values.get(ValueId(i as u32)));
    let floats = arrays.filter_map(|array| array.floats().ok()).flatten();
    let greatest = floats.fold(1.0, |greatest: f64, value| greatest.max(value.abs()));
    (reference::outputs(graph, &values).unwrap(), greatest)
}

/// The passes that compute with constants, or change the order of sums: they round to f32 at other places than the graph before. All
/// others are exact.
const REASSOCIATING: &[&str] = &["bias", "batch_norm", "normalize", "phases", "scales", "blocks"];

#[test]
fn passes_preserve_the_reference() {
    let fired = RefCell::new(BTreeMap::<&str, usize>::new());
    let check = |name: &'static str, pass: Pass, graph: &Graph, inputs: &[Tensor]| {
        let (before, greatest) = outputs(graph, inputs);
        let mut passed = graph.clone();
        if !pass(&mut passed, &Budget::new(&Limits::default())).unwrap() {
            return Ok(passed);
        }
        *fired.borrow_mut().entry(name).or_default() += 1;
        passed.verify().unwrap();
        let (after, _) = outputs(&passed, inputs);
        for (b, a) in before.iter().zip(&after) {
            prop_assert_eq!(b.shape(), a.shape(), "{}", name);
            if !REASSOCIATING.contains(&name) {
                prop_assert_eq!(b, a, "{}", name);
                continue;
            }
            for (b, a) in b.to_vec::<f32>().unwrap().iter().zip(a.to_vec::<f32>().unwrap()) {
                // A few roundings of 6e-8 each, of numbers up to `greatest`. Each of the one or two normalisations that follow
                // makes them at most ten times as large.
                prop_assert!(f64::from((b - a).abs()) <= 1e-4 * greatest, "{name}: {b} {a}");
            }
        }
        Ok(passed)
    };
    let graphs = prop::collection::vec(any::<u32>(), 1..24);
    let config = |cases| ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let preserved = |choices: Vec<u32>| {
        let random = RandomGraph::new(&choices);
        random.graph.verify().unwrap();
        let inputs = random.inputs();
        let mut graph = random.graph.clone();
        for &(name, pass) in PASSES {
            // On the graph itself, and on the graph that the passes before have made of it.
            check(name, pass, &random.graph, &inputs)?;
            graph = check(name, pass, &graph, &inputs)?;
        }
        Ok(())
    };
    // Some graphs are the same each time, so that each pass surely has work; others are random.
    let same = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for mut runner in [TestRunner::new_with_rng(config(192), same), TestRunner::new(config(128))] {
        runner.run(&graphs, preserved).unwrap_or_else(|error| panic!("{error}"));
    }
    // Shapes of random graphs do not depend on data.
    for mut case in all_cases() {
        case.constants.clear();
        let Ok(graph) = graph_of_case(&case) else { continue };
        if graph.nodes[0].op.operator().counted().is_empty() {
            continue;
        }
        let is_text = graph.inputs.iter().any(|id| graph.value(*id).dtype == Some(DType::String));
        for &(name, pass) in PASSES.iter().filter(|_| !is_text) {
            check(name, pass, &graph, &inputs_of(&case)).unwrap();
        }
    }
    // Random graphs have no subgraphs.
    for condition in [true, false] {
        let graph = branching(condition);
        check("inline", super::inline::run, &graph, &[case::values(&[2], &[-1.5f32, 2.0])]).unwrap();
    }
    // Nor blocks of weights, zero points that are constants, or transposed convolutions.
    let files: [(&'static str, Pass, &str); 3] = [
        ("zeros", super::zeros::run, include_str!("../../tests/passes/zeros.graph")),
        ("blocks", super::blocks::run, include_str!("../../tests/passes/blocks.graph")),
        ("phases", super::phases::run, include_str!("../../tests/passes/phases.graph")),
    ];
    for (name, pass, text) in files {
        for example in text.split("\n----\n") {
            let (before, _) = example.split_once("\n=>\n").unwrap();
            let graph = read(&before[before.find("graph '").unwrap()..]).unwrap();
            let input = |id: &ValueId| {
                let value = graph.value(*id);
                let sizes = value.shape.iter().flatten().map(|dim| match dim {
                    Dim::Known(size) => *size,
                    _ => 2,
                });
                case::converted(&case::random(&sizes.collect::<Vec<_>>()), value.dtype.unwrap())
            };
            let inputs: Vec<Tensor> = graph.inputs.iter().map(input).collect();
            check(name, pass, &graph, &inputs).unwrap();
        }
    }
    let fired = fired.into_inner();
    let idle: Vec<&str> = PASSES.iter().map(|pass| pass.0).filter(|name| !fired.contains_key(name)).collect();
    assert!(idle.is_empty(), "{idle:?} changed nothing in any graph");
}

/// `y = condition ? -x : |x|`, with a constant condition.
fn branching(condition: bool) -> Graph {
    let branch = |op_type: &str| {
        let mut sketch = Sketch::default();
        let x = sketch.input("x");
        sketch.graph.captures = std::mem::take(&mut sketch.graph.inputs);
        let y = sketch.node(op_type, &[], &[x]);
        sketch.graph.outputs.push(y);
        Attr::Graph(Box::new(sketch.graph))
    };
    let mut sketch = Sketch::default();
    let x = sketch.input("x");
    let condition = sketch.constant(Tensor::from_bools(&[], &[condition]).unwrap());
    let branches = [("then_branch", branch("Neg")), ("else_branch", branch("Abs"))];
    let y = sketch.node("If", &branches, &[condition, x, x]);
    sketch.graph.outputs.push(y);
    sketch.graph
}

/// The parts of a random graph of `one_element_constants_of_any_rank`.
struct Ranked<'c> {
    sketch: Sketch,
    choices: std::slice::Iter<'c, u32>,
}

impl Ranked<'_> {
    fn below(&mut self, n: usize) -> usize {
        self.choices.next().map_or(0, |&choice| choice as usize % n)
    }

    /// A constant of one element, of rank 0 to 5; small ranks are as likely as all others together.
    fn one(&mut self, value: f32) -> ValueId {
        let rank = [0, 0, 1, 1, 2, 3, 4, 5][self.below(8)];
        self.sketch.constant(case::values(&vec![1; rank], &[value]))
    }

    /// Declares the shape of a value, or leaves it undeclared.
    fn declare(&mut self, id: ValueId, shape: &[usize]) {
        if self.below(2) == 0 {
            self.sketch.graph.values[id.index()].shape =
                Some(shape.iter().map(|&size| crate::Dim::Known(size)).collect());
        }
    }

    /// A normalisation that is spelled out; not every one is a real normalisation.
    fn normalize(&mut self, x: ValueId) -> ValueId {
        let axes = [&[-1][..], &[-1], &[-2, -1], &[0], &[-1, -2]][self.below(5)];
        let axes = self.sketch.constant(case::list(axes));
        let keep = [("keepdims", Attr::Int(i64::from(self.below(4) > 0)))];
        let mut difference = x;
        if self.below(2) == 0 {
            let mean = self.sketch.node("ReduceMean", &keep, &[x, axes]);
            difference = self.sketch.node("Sub", &[], &[x, mean]);
        }
        let square = match self.below(3) {
            0 => self.sketch.node("Mul", &[], &[difference, difference]),
            _ => {
                let two = self.one(2.0);
                self.sketch.node("Pow", &[], &[difference, two])
            }
        };
        let variance = self.sketch.node("ReduceMean", &keep, &[square, axes]);
        let epsilon = self.one(0.5);
        let sum = self.sketch.node("Add", &[], &[variance, epsilon]);
        let deviation = self.sketch.node("Sqrt", &[], &[sum]);
        let normal = self.sketch.node("Div", &[], &[difference, deviation]);
        let scale = match self.below(2) {
            0 => self.one(1.5),
            _ => self.sketch.constant(case::uniform(&[2], 0.5, 1.5)),
        };
        self.sketch.node("Mul", &[], &[normal, scale])
    }

    /// Operators on single elements after movers, after an operator whose kernel can take them as an epilogue.
    fn moved(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        let mut y = self.sketch.node("Tanh", &[], &[x]);
        let count = shape.iter().product::<usize>() as i64;
        for _ in 0..1 + self.below(2) {
            let moved: Vec<i64> = match self.below(4) {
                0 => vec![count],
                1 => vec![1, count, 1],
                2 if count == 1 => vec![],
                _ => vec![count, 1],
            };
            y = match self.below(3) {
                0 => {
                    // The other way to write it: the elements, then one more axis.
                    let all = self.sketch.reshape(y, &[-1]);
                    let axis = self.below(2) as i64;
                    let axes = self.sketch.constant(case::list(&[axis]));
                    self.sketch.node("Unsqueeze", &[], &[all, axes])
                }
                1 => self.sketch.node("Transpose", &[], &[y]),
                _ => {
                    let y = self.sketch.reshape(y, &moved);
                    let sizes: Vec<usize> = moved.iter().map(|&size| size as usize).collect();
                    self.declare(y, &sizes);
                    y
                }
            };
            let (a, b) = (self.one(0.25), self.one(0.75));
            y = match self.below(5) {
                0 => self.sketch.node("Clip", &[], &[y, a, b]),
                1 => self.sketch.node("Sub", &[], &[a, y]),
                2 => self.sketch.node("Clip", &[], &[a, y]),
                3 => self.sketch.node("Mul", &[], &[y, a]),
                _ => self.sketch.node("Add", &[], &[b, y]),
            };
        }
        y
    }

    /// A convolution or a product, with values that may be its padding and its bias, and a batch normalisation.
    fn biased(&mut self) -> ValueId {
        let space = 1 + self.below(2);
        let channels = 1 + self.below(2);
        let image: Vec<usize> = [1, 2].into_iter().chain(vec![3; space]).collect();
        let mut y = self.sketch.constant(case::random(&image));
        y = self.sketch.node("Add", &[], &[y, self.sketch.graph.inputs[0]]);
        if self.below(2) == 0 {
            let pads: Vec<i64> = (0..2 * image.len()).map(|i| i64::from(i % image.len() > 1)).collect();
            let inputs = [y, self.sketch.constant(case::list(&pads)), self.one(0.0)];
            y = self.sketch.node("Pad", &[], &inputs);
        }
        let kernel: Vec<usize> = [channels, 2].into_iter().chain(vec![2; space]).collect();
        let weights = self.sketch.constant(case::uniform(&kernel, -0.5, 0.5));
        y = self.sketch.node("Conv", &[], &[y, weights]);
        let bias = match self.below(2) {
            0 => self.one(0.5),
            _ => {
                let shape: Vec<usize> = [channels].into_iter().chain(vec![1; space]).collect();
                self.sketch.constant(case::random(&shape))
            }
        };
        y = self.sketch.node("Add", &[], &[y, bias]);
        if self.below(2) == 0 { self.sketch.batch_norm(y, channels) } else { y }
    }
}

/// `SARDONYX_RANKED=2000` tries 2,000 graphs.
#[test]
fn one_element_constants_of_any_rank() {
    let cases = std::env::var("SARDONYX_RANKED").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let (mut valid, mut rewritten) = (0u64, 0u64);
    for case in 0..cases {
        let mut state: u64 = case;
        let choices: Vec<u32> = (0..40).map(|_| case::splitmix(&mut state) as u32).collect();
        let mut ranked = Ranked { sketch: Sketch::default(), choices: choices.iter() };
        let x = ranked.sketch.input("x");
        let pattern = ranked.below(3);
        let shapes = [&[][..], &[1], &[3], &[1, 1], &[2, 1], &[2, 4], &[1, 2, 3]];
        let shape = if pattern == 2 { &[] } else { shapes[ranked.below(shapes.len())] };
        ranked.declare(x, shape);
        let y = match pattern {
            0 => ranked.normalize(x),
            1 => ranked.moved(x, shape),
            _ => ranked.biased(),
        };
        let mut graph = ranked.sketch.graph;
        graph.outputs.push(y);
        let inputs = [case::random(shape)];
        // Axes may exceed the rank: a graph that is no model needs no right answer.
        let Ok(values) = reference::run(&graph, &inputs, false, &crate::Interrupt::new()) else { continue };
        let before = reference::outputs(&graph, &values).unwrap();
        let passed = super::run(graph.clone(), &Limits::default()).unwrap();
        let (after, _) = outputs(&passed, &inputs);
        valid += 1;
        rewritten += u64::from(passed.nodes.len() < graph.nodes.len());
        assert_eq!(after[0].shape(), before[0].shape(), "case {case}: {graph}\n{passed}");
        for (b, a) in before[0].to_vec::<f32>().unwrap().iter().zip(after[0].to_vec::<f32>().unwrap()) {
            // A few roundings of 6e-8 each, of numbers below 10; a division by sqrt(0.5) makes them at most twice as large.
            assert!((b - a).abs() <= 1e-5, "case {case}: {b} {a}\n{graph}");
        }
    }
    assert!(valid > cases / 2 && rewritten > cases / 4, "{valid} valid, {rewritten} rewritten of {cases}");
}

/// Whatever the operator, nothing is evaluated that the budget does not pay for.
#[test]
fn without_a_budget_nothing_is_folded() {
    for case in all_cases() {
        let Ok(mut graph) = graph_of_case(&case) else { continue };
        let ids = (0..case.inputs.len()).filter_map(|i| graph.nodes[0].inputs[i].zip(case.inputs[i].clone()));
        for (id, tensor) in ids.collect::<Vec<_>>() {
            graph.set_constant(id, tensor);
        }
        graph.inputs.clear();
        let left = |limits: &Limits| {
            let mut graph = graph.clone();
            super::fold::run(&mut graph, &Budget::new(limits)).unwrap();
            graph.nodes.len()
        };
        let elements = case.inputs.iter().flatten().map(Tensor::len).sum::<usize>();
        if elements > 0 {
            assert_eq!(left(&Limits::new().steps(0)), 1, "{}", case.name);
            assert_eq!(left(&Limits::new().bytes(0)), 1, "{}", case.name);
        }
    }
}
