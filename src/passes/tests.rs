//! A pass never changes what the reference computes; and what each recognises, and what not.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::{PASSES, Pass};
use crate::graph::ValueId;
use crate::ops::{Attr, Graph, case};
use crate::tests::random::{RandomGraph, Sketch};
use crate::{Tensor, reference};

/// The graph's outputs, and the greatest magnitude of all its values.
fn outputs(graph: &Graph, inputs: &[Tensor]) -> (Vec<Tensor>, f64) {
    let values = reference::run(graph, inputs, true).unwrap();
    let arrays = (0..graph.values.len()).filter_map(|i| values.get(ValueId(i as u32)));
    let floats = arrays.filter_map(|array| array.floats().ok()).flatten();
    let greatest = floats.fold(1.0, |greatest: f64, value| greatest.max(value.abs()));
    (reference::outputs(graph, &values).unwrap(), greatest)
}

/// Passes that compute with constants: their results are rounded to f32 elsewhere than before. All others are exact.
const REASSOCIATING: &[&str] = &["bias", "batch_norm", "normalize"];

#[test]
fn passes_preserve_the_reference() {
    let fired = RefCell::new(BTreeMap::<&str, usize>::new());
    let check = |name: &'static str, pass: Pass, graph: &Graph, inputs: &[Tensor]| {
        let (before, greatest) = outputs(graph, inputs);
        let mut passed = graph.clone();
        if !pass(&mut passed).unwrap() {
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
                // A few roundings of 6e-8 each, of numbers up to the greatest, made at most ten times larger by each of
                // the one or two normalisations that follow.
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
            // On the graph as it was, and on what the passes before have made of it.
            check(name, pass, &random.graph, &inputs)?;
            graph = check(name, pass, &graph, &inputs)?;
        }
        Ok(())
    };
    // Graphs that are the same each time, so that each pass surely has something to do, and graphs that are not.
    let same = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for mut runner in [TestRunner::new_with_rng(config(192), same), TestRunner::new(config(128))] {
        runner.run(&graphs, preserved).unwrap_or_else(|error| panic!("{error}"));
    }
    let fired = fired.into_inner();
    let idle: Vec<&str> = PASSES.iter().map(|pass| pass.0).filter(|name| !fired.contains_key(name)).collect();
    assert!(idle.is_empty(), "{idle:?} changed nothing in any graph");
}

/// The operators that are left after all passes of a graph with one input `x`.
fn left(build: impl FnOnce(&mut Sketch, ValueId) -> ValueId) -> Vec<String> {
    let mut sketch = Sketch::default();
    let x = sketch.input("x");
    let result = build(&mut sketch, x);
    sketch.graph.outputs.push(result);
    let passed = super::run(sketch.graph).unwrap();
    passed.nodes.iter().map(|node| node.op_type.clone()).collect()
}

#[test]
fn spelled_out_normalisations_are_recognised() {
    for power in [true, false] {
        assert_eq!(left(|s, x| s.normalize(x, true, power)), ["LayerNormalization"]);
        assert_eq!(left(|s, x| s.normalize(x, false, power)), ["RMSNormalization"]);
    }
}

#[test]
fn what_only_looks_like_a_normalisation_stays() {
    /// `x / sqrt(mean(x ^ power, axes) + epsilon)`, and whether the mean keeps its axes.
    fn similar(
        s: &mut Sketch,
        x: ValueId,
        power: f32,
        axes: &[i64],
        keep: bool,
        of: Option<ValueId>,
    ) -> ValueId {
        let power = s.scalar(power);
        let square = s.node("Pow", &[], &[of.unwrap_or(x), power]);
        let axes = s.constant(case::list(axes));
        let mean = s.node("ReduceMean", &[("keepdims", Attr::Int(i64::from(keep)))], &[square, axes]);
        let epsilon = s.scalar(0.5);
        let sum = s.node("Add", &[], &[mean, epsilon]);
        let root = s.node("Sqrt", &[], &[sum]);
        s.node("Div", &[], &[x, root])
    }
    assert_eq!(left(|s, x| similar(s, x, 2.0, &[-1], true, None)), ["RMSNormalization"]);
    assert_eq!(left(|s, x| similar(s, x, 2.0, &[-2, -1], true, None)), ["RMSNormalization"]);
    let stays = |nodes: Vec<String>| assert!(nodes.contains(&"ReduceMean".into()), "{nodes:?}");
    stays(left(|s, x| similar(s, x, 3.0, &[-1], true, None)));
    // Not the last axis; one of unknown place; one in between left out; one that does not stay.
    stays(left(|s, x| similar(s, x, 2.0, &[-2], true, None)));
    stays(left(|s, x| similar(s, x, 2.0, &[1], true, None)));
    stays(left(|s, x| similar(s, x, 2.0, &[-3, -1], true, None)));
    stays(left(|s, x| similar(s, x, 2.0, &[-1], false, None)));
    // The mean square of something else.
    stays(left(|s, x| {
        let other = s.node("Tanh", &[], &[x]);
        similar(s, x, 2.0, &[-1], true, Some(other))
    }));
    // The mean square is wanted elsewhere too.
    stays(left(|s, x| {
        let normal = similar(s, x, 2.0, &[-1], true, None);
        let square = s.graph.nodes[1].outputs[0].unwrap();
        s.node("Add", &[], &[normal, square])
    }));
    // The difference from the mean of something else is no LayerNormalization, but has a mean square.
    let nodes = left(|s, x| {
        let other = s.node("Tanh", &[], &[x]);
        let axes = s.constant(case::list(&[-1]));
        let mean = s.node("ReduceMean", &[], &[other, axes]);
        let difference = s.node("Sub", &[], &[x, mean]);
        similar(s, difference, 2.0, &[-1], true, None)
    });
    assert_eq!(nodes, ["Tanh", "ReduceMean", "Sub", "RMSNormalization"]);
}

#[test]
fn operators_on_single_elements_sink_below_movers() {
    // Behind a product, or behind what may be fused into one.
    let product = |s: &mut Sketch, x| {
        let weights = s.constant(case::random(&[4, 4]));
        s.node("MatMul", &[], &[x, weights])
    };
    let half = |s: &mut Sketch, x| {
        let half = s.scalar(0.5);
        s.node("Mul", &[], &[x, half])
    };
    let nodes = left(|s, x| {
        let y = product(s, x);
        let y = s.reshape(y, &[2, 2, 4]);
        let y = s.transpose(y, &[1, 0, 2]);
        half(s, y)
    });
    assert_eq!(nodes, ["MatMul", "Mul", "Reshape", "Transpose"]);
    // Behind an input there is no kernel.
    let nodes = left(|s, x| {
        let y = s.transpose(x, &[1, 0, 2]);
        half(s, y)
    });
    assert_eq!(nodes, ["Transpose", "Mul"]);
    // The moved elements are wanted too.
    let nodes = left(|s, x| {
        let y = product(s, x);
        let y = s.transpose(y, &[1, 0]);
        let z = half(s, y);
        s.node("Add", &[], &[y, z])
    });
    assert_eq!(nodes, ["MatMul", "Transpose", "Mul", "Add"]);
    // A vector goes along an axis, and a constant with more axes than the moved elements adds some.
    for constant in [case::random(&[4]), case::random(&[1, 1, 1])] {
        let nodes = left(|s, x| {
            let y = product(s, x);
            let y = s.transpose(y, &[1, 0]);
            let constant = s.constant(constant);
            s.node("Mul", &[], &[y, constant])
        });
        assert_eq!(nodes, ["MatMul", "Transpose", "Mul"]);
    }
    // So it does to a scalar.
    let nodes = left(|s, x| {
        let y = product(s, x);
        let y = s.reshape(y, &[]);
        let constant = s.constant(case::values(&[1], &[0.5f32]));
        s.node("Mul", &[], &[y, constant])
    });
    assert_eq!(nodes, ["MatMul", "Reshape", "Mul"]);
}

#[test]
fn constants_per_channel_become_bias() {
    let convolved = |shape: &[usize]| {
        let bias = case::random(shape);
        left(|s, x| {
            let weights = s.constant(case::random(&[4, 3, 1, 1]));
            let y = s.node("Conv", &[], &[x, weights]);
            let bias = s.constant(bias);
            s.node("Add", &[], &[y, bias])
        })
    };
    for shape in [&[1, 4, 1, 1][..], &[4, 1, 1], &[1], &[]] {
        assert_eq!(convolved(shape), ["Conv"], "{shape:?}");
    }
    // Along the width; one axis too many; no constant for each channel; more than one for each.
    for shape in [&[4][..], &[1, 1, 4, 1, 1], &[1, 1, 4, 1], &[1, 4, 1, 2], &[2, 4, 1, 1]] {
        assert_eq!(convolved(shape), ["Conv", "Add"], "{shape:?}");
    }
    // The sum without it is wanted too.
    let nodes = left(|s, x| {
        let weights = s.constant(case::random(&[4, 3, 1, 1]));
        let y = s.node("Conv", &[], &[x, weights]);
        let bias = s.constant(case::random(&[4, 1, 1]));
        let z = s.node("Add", &[], &[y, bias]);
        s.node("Mul", &[], &[y, z])
    });
    assert_eq!(nodes, ["Conv", "Add", "Mul"]);
}

#[test]
fn concatenations_along_one_axis_are_one() {
    let nested = |inner: i64, shared: bool| {
        left(|s, x| {
            let other = s.node("Tanh", &[], &[x]);
            let first = s.node("Concat", &[("axis", Attr::Int(inner))], &[x, other]);
            let whole = s.node("Concat", &[("axis", Attr::Int(1))], &[other, first]);
            if shared { s.node("Concat", &[("axis", Attr::Int(1))], &[whole, first]) } else { whole }
        })
    };
    assert_eq!(nested(1, false), ["Tanh", "Concat"]);
    // Along another axis, or along one that may be another; wanted twice.
    assert_eq!(nested(0, false), ["Tanh", "Concat", "Concat"]);
    assert_eq!(nested(-1, false), ["Tanh", "Concat", "Concat"]);
    assert_eq!(nested(1, true), ["Tanh", "Concat", "Concat"]);
}

#[test]
fn zeros_around_an_image_become_the_padding_of_its_convolution() {
    let padded = |mode: &str, pads: &[i64], fill: f32, on: Option<&[i64]>, conv: &[(&str, Attr)]| {
        let mut sketch = Sketch::default();
        let x = sketch.input("x");
        let mut inputs = vec![x, sketch.constant(case::list(pads)), sketch.scalar(fill)];
        inputs.extend(on.map(|axes| sketch.constant(case::list(axes))));
        let y = sketch.node("Pad", &[("mode", Attr::String(mode.into()))], &inputs);
        let weights = sketch.constant(case::random(&[4, 3, 3, 2]));
        let y = sketch.node("Conv", conv, &[y, weights]);
        sketch.graph.outputs.push(y);
        sketch.graph
    };
    let pads = |pads: &[i64]| [("pads", Attr::Ints(pads.to_vec()))];
    let auto = |policy: &str| [("auto_pad", Attr::String(policy.into()))];
    let around = [0, 0, 2, 1, 0, 0, 0, 3];
    for graph in [
        padded("constant", &around, 0.0, None, &[]),
        padded("constant", &around, -0.0, None, &pads(&[1, 0, 2, 3])),
        padded("constant", &[1, 2, 3, 0], 0.0, Some(&[-1, 2]), &auto("VALID")),
    ] {
        let input = [case::random(&[2, 3, 5, 6])];
        let (before, _) = outputs(&graph, &input);
        let passed = super::run(graph).unwrap();
        assert_eq!(passed.nodes.len(), 1);
        assert_eq!(outputs(&passed, &input).0, before);
    }
    for graph in [
        padded("reflect", &around, 0.0, None, &[]),
        padded("constant", &around, 1.0, None, &[]),
        // Of channels; of elements taken away; of an image whose size decides its padding.
        padded("constant", &[0, 1, 0, 0, 0, -1, 0, 0], 0.0, None, &[]),
        padded("constant", &[0, 0, 1, 0, 0, 1, 0, 0], 0.0, None, &[]),
        padded("constant", &[0, 0, 2, -1, 0, 0, 0, 0], 0.0, None, &[]),
        padded("constant", &around, 0.0, None, &auto("SAME_UPPER")),
    ] {
        assert_eq!(super::run(graph).unwrap().nodes.len(), 2);
    }
    // The padded image is wanted too; how far it is padded is not known.
    let nodes = left(|s, x| {
        let pads = s.constant(case::list(&around));
        let padded = s.node("Pad", &[], &[x, pads]);
        let weights = s.constant(case::random(&[4, 3, 3, 2]));
        let y = s.node("Conv", &[], &[padded, weights]);
        let z = s.node("ReduceSum", &[], &[padded]);
        s.node("Add", &[], &[y, z])
    });
    assert_eq!(nodes, ["Pad", "Conv", "ReduceSum", "Add"]);
    let nodes = left(|s, x| {
        let pads = s.input("pads");
        let padded = s.node("Pad", &[], &[x, pads]);
        let weights = s.constant(case::random(&[4, 3, 3, 2]));
        s.node("Conv", &[], &[padded, weights])
    });
    assert_eq!(nodes, ["Pad", "Conv"]);
}

#[test]
fn batch_norms_become_part_of_what_is_before() {
    let input = |shape: &[usize]| vec![case::random(shape)];
    let after = |op: &str, weights: &[usize], bias: Option<&[usize]>, attributes: &[(&str, Attr)]| {
        let mut sketch = Sketch::default();
        let x = sketch.input("x");
        let mut inputs = vec![x, sketch.constant(case::uniform(weights, -0.5, 0.5))];
        inputs.extend(bias.map(|shape| sketch.constant(case::random(shape))));
        let y = sketch.node(op, attributes, &inputs);
        let y = sketch.batch_norm(y, 4);
        sketch.graph.outputs.push(y);
        sketch.graph
    };
    let groups = [("group", Attr::Int(2))];
    let turned = [("transB", Attr::Int(1))];
    for (graph, shape) in [
        (after("Conv", &[4, 3, 3, 3], Some(&[4]), &[]), &[1, 3, 5, 5][..]),
        (after("Conv", &[4, 3, 3, 3], None, &groups), &[1, 6, 5, 5]),
        (after("ConvTranspose", &[3, 4, 2, 2], Some(&[4]), &[]), &[1, 3, 5, 5]),
        (after("ConvTranspose", &[6, 2, 2], None, &groups), &[2, 6, 5]),
        (after("Gemm", &[3, 4], Some(&[1, 4]), &[]), &[2, 3]),
        (after("Gemm", &[4, 3], None, &turned), &[2, 3]),
    ] {
        let input = input(shape);
        let (before, _) = outputs(&graph, &input);
        let passed = super::run(graph).unwrap();
        assert_eq!(passed.nodes.len(), 1);
        let (after, _) = outputs(&passed, &input);
        for (b, a) in before[0].to_vec::<f32>().unwrap().iter().zip(after[0].to_vec::<f32>().unwrap()) {
            // The scaled weights are rounded to f32 once more.
            assert!((b - a).abs() <= 1e-5 * b.abs().max(1.0), "{b} {a}");
        }
    }
    // A bias for each row of the product, and a product that is scaled.
    let scaled = [("alpha", Attr::Float(0.5))];
    for graph in [after("Gemm", &[3, 4], Some(&[4, 1]), &[]), after("Gemm", &[3, 4], None, &scaled)] {
        assert_eq!(super::run(graph).unwrap().nodes.len(), 2);
    }
}

/// What a random graph of `one_element_constants_of_any_rank` is made of.
struct Ranked<'c> {
    sketch: Sketch,
    choices: std::slice::Iter<'c, u32>,
}

impl Ranked<'_> {
    fn below(&mut self, n: usize) -> usize {
        self.choices.next().map_or(0, |&choice| choice as usize % n)
    }

    /// A constant of one element, of any rank up to 5; small ones are as likely as all others together.
    fn one(&mut self, value: f32) -> ValueId {
        let rank = [0, 0, 1, 1, 2, 3, 4, 5][self.below(8)];
        self.sketch.constant(case::values(&vec![1; rank], &[value]))
    }

    /// Gives a value the declared shape that it has, or leaves it undeclared.
    fn declare(&mut self, id: ValueId, shape: &[usize]) {
        if self.below(2) == 0 {
            self.sketch.graph.values[id.index()].shape =
                Some(shape.iter().map(|&size| crate::Dim::Known(size)).collect());
        }
    }

    /// A normalisation spelled out, not all of which are any.
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

    /// Operators on single elements behind movers, behind one whose kernel can end with them.
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
                    // The other way to say it: the elements, then an axis more.
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

    /// A convolution or a product with what may be its padding, its bias, and a batch normalisation.
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

/// `SARDONYX_RANKED=2000` tries so many graphs.
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
        // Axes may be beyond the rank: what is no model needs no right answer.
        let Ok(values) = reference::run(&graph, &inputs, false) else { continue };
        let before = reference::outputs(&graph, &values).unwrap();
        let passed = super::run(graph.clone()).unwrap();
        let (after, _) = outputs(&passed, &inputs);
        valid += 1;
        rewritten += u64::from(passed.nodes.len() < graph.nodes.len());
        assert_eq!(after[0].shape(), before[0].shape(), "case {case}: {graph}\n{passed}");
        for (b, a) in before[0].to_vec::<f32>().unwrap().iter().zip(after[0].to_vec::<f32>().unwrap()) {
            // A few roundings of 6e-8 each of numbers below 10, made at most twice as large by a division by sqrt(0.5).
            assert!((b - a).abs() <= 1e-5, "case {case}: {b} {a}\n{graph}");
        }
    }
    assert!(valid > cases / 2 && rewritten > cases / 4, "{valid} valid, {rewritten} rewritten of {cases}");
}
