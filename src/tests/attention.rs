//! Attention that a graph spells out: one kernel computes it where that pays, and gives what the nodes give.

use std::sync::Arc;

use crate::facts::InputFact;
use crate::graph::ValueId;
use crate::internals::cases::difference;
use crate::internals::devices::each;
use crate::internals::random::Sketch;
use crate::kernels::{Class, Target};
use crate::ops::case::{self, Tolerance};
use crate::ops::{Attr, Graph};
use crate::plan::{Options, Planner};
use crate::{DType, Session, SessionOptions, Tensor, passes, reference};

const BATCH: usize = 8;
const HEADS: usize = 16;
const ROWS: usize = 61;
const KEYS: usize = 62;
const DEPTH: usize = 32;

/// A graph that is being written, and its inputs.
#[derive(Default)]
struct AttentionSketch {
    sketch: Sketch,
    inputs: Vec<Tensor>,
}

impl AttentionSketch {
    fn input(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("input{}", self.inputs.len());
        let id = self.sketch.input(&name);
        self.sketch.graph.values[id.index()].dtype = Some(tensor.dtype());
        self.inputs.push(tensor);
        id
    }

    /// `[batch, rows, heads * depth]` in heads, as an exporter writes it.
    fn in_heads(&mut self, tensor: Tensor, heads: usize) -> ValueId {
        let x = self.input(tensor);
        let split = self.sketch.reshape(x, &[0, 0, heads as i64, DEPTH as i64]);
        self.sketch.transpose(split, &[0, 2, 1, 3])
    }

    /// Queries, keys (transposed) and values.
    fn operands(&mut self) -> [ValueId; 3] {
        let q = self.in_heads(case::uniform(&[BATCH, ROWS, HEADS * DEPTH], -1.0, 1.0), HEADS);
        let k = self.in_heads(case::uniform(&[BATCH, KEYS, HEADS * DEPTH], -0.9, 1.1), HEADS);
        let v = self.in_heads(case::uniform(&[BATCH, KEYS, HEADS * DEPTH], -1.2, 1.3), HEADS);
        [q, self.sketch.transpose(k, &[0, 1, 3, 2]), v]
    }

    fn two(&mut self, op: &str, a: ValueId, b: ValueId) -> ValueId {
        self.sketch.node(op, &[], &[a, b])
    }

    fn by(&mut self, op: &str, x: ValueId, number: f32) -> ValueId {
        let number = self.sketch.scalar(number);
        self.two(op, x, number)
    }

    /// The scores of queries and keys, scaled.
    fn scores(&mut self, q: ValueId, k: ValueId) -> ValueId {
        let product = self.two("MatMul", q, k);
        self.by("Mul", product, 0.3)
    }

    fn softmax(&mut self, scores: ValueId) -> ValueId {
        self.sketch.node("Softmax", &[("axis", Attr::Int(-1))], &[scores])
    }

    /// 0 where a weight is NaN.
    fn guarded(&mut self, weights: ValueId) -> ValueId {
        let (is_nan, zero) = (self.sketch.node("IsNaN", &[], &[weights]), self.sketch.scalar(0.0));
        self.sketch.node("Where", &[], &[is_nan, zero, weights])
    }

    /// The weighted values, with the heads of a row side by side.
    fn result(&mut self, weights: ValueId, v: ValueId) {
        let y = self.two("MatMul", weights, v);
        let turned = self.sketch.transpose(y, &[0, 2, 1, 3]);
        let joined = self.sketch.reshape(turned, &[0, 0, (HEADS * DEPTH) as i64]);
        self.sketch.graph.outputs.push(joined);
    }

    fn attend(&mut self, scores: ValueId, v: ValueId) {
        let weights = self.softmax(scores);
        self.result(weights, v);
    }

    fn graph(&self) -> Graph {
        passes::run(self.sketch.graph.clone(), &crate::Limits::default()).unwrap()
    }

    /// The kernels of a plan for devices with subgroups of 8 that are an attention's.
    fn kernels(&self) -> usize {
        let target = Target { class: Class::Cpu, subgroup: 8, ..Target::FLOOR };
        let planner = Planner::new(Arc::new(self.graph()), target, Options::default()).unwrap();
        let inputs: Vec<InputFact> = self.inputs.iter().cloned().map(InputFact::from).collect();
        let plan = planner.plan(&inputs).unwrap();
        plan.program.calls.iter().filter(|call| call.kernel.family() == "Attention").count()
    }

    /// Compares all devices with the reference.
    fn check(&self, name: &str) {
        self.check_series(name, std::slice::from_ref(&self.inputs));
    }

    /// Compares all devices with the reference, each with one session for all inputs.
    fn check_series(&self, name: &str, series: &[Vec<Tensor>]) {
        let graph = &self.sketch.graph;
        let expected = |inputs: &Vec<Tensor>| {
            let values = reference::run(graph, inputs, false, &crate::Interrupt::new()).unwrap();
            reference::outputs(graph, &values).unwrap()
        };
        let expected: Vec<_> = series.iter().map(expected).collect();
        let names: Vec<String> = graph.inputs.iter().map(|id| graph.value(*id).name.clone()).collect();
        for device in each() {
            let graph = Arc::new(self.graph());
            let session = Session::of_graph(&device, graph, SessionOptions::default(), vec![]).unwrap();
            for (inputs, expected) in series.iter().zip(&expected) {
                let given: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(inputs).collect();
                let outputs = session.run(&given).unwrap();
                for (expected, (_, actual)) in expected.iter().zip(outputs.iter()) {
                    let wrong = difference(expected, actual, tolerance(expected.dtype()));
                    let shapes: Vec<_> = inputs.iter().map(Tensor::shape).collect();
                    assert_eq!(wrong, None, "{name} on {}, {shapes:?}", device.name());
                }
            }
        }
    }
}

/// The reference rounds each node's results to float16: scores below 8 by 2^-9 at most, which moves a weight by that share of itself,
/// and values are at most 1. In float32, tens of products and weights are added in another order.
fn tolerance(dtype: DType) -> Tolerance {
    match dtype {
        DType::F16 => Tolerance { relative: 1e-3, absolute: 2e-3 },
        _ => Tolerance { relative: 1e-4, absolute: 2e-5 },
    }
}

fn mask(shape: &[usize], hidden: f32, hides: impl Fn(usize) -> bool) -> Tensor {
    let count = shape.iter().product();
    case::values(shape, &(0..count).map(|i| if hides(i) { hidden } else { 0.0 }).collect::<Vec<f32>>())
}

/// Numbers that change little, but for those at some places.
fn spoiled(shape: &[usize], at: &[(usize, f32)]) -> Tensor {
    let mut numbers = vec![0.01; shape.iter().product()];
    at.iter().for_each(|&(i, number)| numbers[i] = number);
    case::values(shape, &numbers)
}

type BuildAttention = fn(&mut AttentionSketch, [ValueId; 3]);

/// What one kernel computes.
const ONE_KERNEL: &[(&str, BuildAttention)] = &[
    ("plain", |e, [q, k, v]| {
        let scores = e.scores(q, k);
        e.attend(scores, v);
    }),
    ("the result in heads", |e, [q, k, v]| {
        let scores = e.two("MatMul", q, k);
        let scores = e.by("Div", scores, 5.0);
        let weights = e.softmax(scores);
        let y = e.two("MatMul", weights, v);
        e.sketch.graph.outputs.push(y);
    }),
    ("a mask for each batch, of the least number", |e, [q, k, v]| {
        // The first batch sees no key.
        let mask = e.input(mask(&[BATCH, 1, 1, KEYS], f32::MIN, |i| i < KEYS || i % 3 == 0));
        let scores = e.scores(q, k);
        let scores = e.two("Add", mask, scores);
        e.attend(scores, v);
    }),
    ("a mask for each row, of infinity", |e, [q, k, v]| {
        // The first row sees no key, and is NaN.
        let mask = e.input(mask(&[ROWS, KEYS], f32::NEG_INFINITY, |i| i < KEYS || i % KEYS > i / KEYS));
        let scores = e.scores(q, k);
        let scores = e.two("Add", scores, mask);
        e.attend(scores, v);
    }),
    ("scaled operands, a mask for each head, and a guard", |e, [q, k, v]| {
        let mask = e.input(mask(&[HEADS, ROWS, KEYS], f32::NEG_INFINITY, |i| i < KEYS || i % 3 == 0));
        let (q, k) = (e.by("Mul", q, 0.6), e.by("Mul", k, 0.6));
        let scores = e.two("MatMul", q, k);
        let scores = e.two("Add", scores, mask);
        let weights = e.softmax(scores);
        let weights = e.guarded(weights);
        e.result(weights, v);
    }),
    ("bools that choose scores", |e, [q, k, v]| {
        let bools: Vec<bool> = (0..BATCH * ROWS * KEYS).map(|i| i >= KEYS && i % 3 != 0).collect();
        let seen = e.input(case::bools(&[BATCH, 1, ROWS, KEYS], &bools));
        let (scores, other) = (e.scores(q, k), e.sketch.scalar(f32::NEG_INFINITY));
        let scores = e.sketch.node("Where", &[], &[seen, scores, other]);
        e.attend(scores, v);
    }),
    ("bools that choose a number", |e, [q, k, v]| {
        let bools: Vec<bool> = (0..ROWS * KEYS).map(|i| i < KEYS || i % 3 == 0).collect();
        let hidden = e.input(case::bools(&[ROWS, KEYS], &bools));
        let (scores, other) = (e.scores(q, k), e.sketch.scalar(-1e4));
        let scores = e.sketch.node("Where", &[], &[hidden, other, scores]);
        e.attend(scores, v);
    }),
    ("no finite scores", |e, [q, k, v]| {
        let more = e.input(spoiled(&[ROWS, DEPTH], &[(5, f32::NAN), (700, f32::INFINITY)]));
        let q = e.two("Add", q, more);
        let scores = e.scores(q, k);
        e.attend(scores, v);
    }),
    ("no finite scores, and a guard", |e, [q, k, v]| {
        let more = e.input(spoiled(&[ROWS, DEPTH], &[(5, f32::NAN), (700, f32::INFINITY)]));
        let q = e.two("Add", q, more);
        let scores = e.scores(q, k);
        let weights = e.softmax(scores);
        let weights = e.guarded(weights);
        e.result(weights, v);
    }),
    ("a hidden score that is infinite", |e, [q, k, v]| {
        // Minus infinity and infinity give NaN in the first rows, too.
        let more = e.input(spoiled(&[DEPTH, KEYS], &[(40, f32::INFINITY)]));
        let k = e.two("Add", k, more);
        let mask = e.input(mask(&[ROWS, KEYS], f32::NEG_INFINITY, |i| i % KEYS > i / KEYS));
        let scores = e.scores(q, k);
        let scores = e.two("Add", scores, mask);
        e.attend(scores, v);
    }),
    ("an infinite score that a bool hides", |e, [q, k, v]| {
        let more = e.input(spoiled(&[DEPTH, KEYS], &[(40, f32::INFINITY)]));
        let k = e.two("Add", k, more);
        let bools: Vec<bool> = (0..ROWS * KEYS).map(|i| i % KEYS <= i / KEYS).collect();
        let seen = e.input(case::bools(&[ROWS, KEYS], &bools));
        let (scores, other) = (e.scores(q, k), e.sketch.scalar(f32::NEG_INFINITY));
        let scores = e.sketch.node("Where", &[], &[seen, scores, other]);
        e.attend(scores, v);
    }),
    ("results that are the scores of more weights", |e, [q, k, v]| {
        let scores = e.scores(q, k);
        let weights = e.softmax(scores);
        let more = e.two("MatMul", weights, v);
        let weights = e.softmax(more);
        let v = e.input(case::uniform(&[BATCH, HEADS, DEPTH, DEPTH], -1.0, 1.1));
        e.result(weights, v);
    }),
    ("parts of one product, and of a mask", |e, _| {
        let joined = e.input(case::uniform(&[BATCH, ROWS, 3 * HEADS * DEPTH], -1.0, 1.1));
        let first = e.sketch.nodes_of(
            "Split",
            &[("axis", Attr::Int(2)), ("num_outputs", Attr::Int(3))],
            &[joined],
            3,
        );
        let [q, k, v] = [0, 1, 2].map(|i| {
            let split = e.sketch.reshape(ValueId(first.0 + i), &[0, 0, HEADS as i64, DEPTH as i64]);
            e.sketch.transpose(split, &[0, 2, 1, 3])
        });
        let k = e.sketch.transpose(k, &[0, 1, 3, 2]);
        let whole = e.input(mask(&[1, 1, 80, 96], -2.0, |i| i % 3 == 0));
        let numbers = [[5, 7], [5 + ROWS as i64, 7 + ROWS as i64], [2, 3]]
            .map(|list| e.sketch.constant(case::list(&list)));
        let part = e.sketch.node("Slice", &[], &[whole, numbers[0], numbers[1], numbers[2]]);
        let scores = e.scores(q, k);
        let scores = e.two("Add", scores, part);
        e.attend(scores, v);
    }),
    ("groups of heads", |e, [q, _, _]| {
        let repeated = |e: &mut AttentionSketch| {
            let x = case::uniform(&[BATCH, KEYS, HEADS / 4 * DEPTH], -1.0, 1.1);
            let x = e.in_heads(x, HEADS / 4);
            let axis = e.sketch.constant(case::list(&[2]));
            let x = e.two("Unsqueeze", x, axis);
            let sizes = e.sketch.constant(case::list(&[1, 1, 4, 1, 1]));
            let x = e.two("Expand", x, sizes);
            e.sketch.reshape(x, &[0, HEADS as i64, -1, DEPTH as i64])
        };
        let (k, v) = (repeated(e), repeated(e));
        let k = e.sketch.transpose(k, &[0, 1, 3, 2]);
        let scores = e.scores(q, k);
        e.attend(scores, v);
    }),
    ("keys in columns, and one head of values", |e, [q, _, _]| {
        // Twice as many keys: what is saved pays for their copy too.
        let k = e.input(case::uniform(&[BATCH, HEADS, DEPTH, 2 * KEYS], -1.0, 1.1));
        let v = e.input(case::uniform(&[BATCH, 1, 2 * KEYS, DEPTH], -1.0, 1.1));
        let scores = e.scores(q, k);
        e.attend(scores, v);
    }),
    ("rank 3", |e, _| {
        let of = |rows: usize| case::uniform(&[BATCH * HEADS, rows, DEPTH], -1.0, 1.1);
        let (q, k, v) = (e.input(of(ROWS)), e.input(of(KEYS)), e.input(of(KEYS)));
        let k = e.sketch.transpose(k, &[0, 2, 1]);
        let mask = e.input(mask(&[1, KEYS], -2.0, |i| i % 3 == 0));
        let scores = e.scores(q, k);
        let scores = e.two("Add", scores, mask);
        let weights = e.softmax(scores);
        let y = e.two("MatMul", weights, v);
        e.sketch.graph.outputs.push(y);
    }),
    ("float16", |e, _| {
        let of = |rows: usize| {
            case::converted(&case::uniform(&[BATCH, rows, HEADS * DEPTH], -1.0, 1.0), DType::F16)
        };
        let q = e.in_heads(of(ROWS), HEADS);
        let (k, v) = (e.in_heads(of(KEYS), HEADS), e.in_heads(of(KEYS), HEADS));
        let k = e.sketch.transpose(k, &[0, 1, 3, 2]);
        let scale = e.sketch.constant(case::converted(&case::values(&[], &[0.25f32]), DType::F16));
        let hides = mask(&[BATCH, 1, 1, KEYS], -65504.0, |i| i % 3 == 0);
        let mask = e.input(case::converted(&hides, DType::F16));
        let scores = e.two("MatMul", q, k);
        let scores = e.two("Mul", scores, scale);
        let scores = e.two("Add", scores, mask);
        e.attend(scores, v);
    }),
];

/// What stays spelled out.
const SPELLED_OUT: &[(&str, BuildAttention)] = &[
    ("the weights are an output", |e, [q, k, v]| {
        let scores = e.scores(q, k);
        let weights = e.softmax(scores);
        e.result(weights, v);
        e.sketch.graph.outputs.push(weights);
    }),
    ("the scores are an output", |e, [q, k, v]| {
        let scores = e.scores(q, k);
        e.attend(scores, v);
        e.sketch.graph.outputs.push(scores);
    }),
    ("a Softmax of other rows", |e, [q, k, v]| {
        let scores = e.scores(q, k);
        let weights = e.sketch.node("Softmax", &[("axis", Attr::Int(2))], &[scores]);
        e.result(weights, v);
    }),
    ("keys in columns, whose copy would take what is saved", |e, [q, _, v]| {
        let k = e.input(case::uniform(&[BATCH, HEADS, DEPTH, KEYS], -1.0, 1.1));
        let scores = e.scores(q, k);
        e.attend(scores, v);
    }),
    ("a mask of one number for all keys", |e, [q, k, v]| {
        let mask = e.input(mask(&[ROWS, 1], -2.0, |i| i % 3 == 0));
        let scores = e.scores(q, k);
        let scores = e.two("Add", scores, mask);
        e.attend(scores, v);
    }),
    ("a mask of more batches than the scores have", |e, _| {
        let of = |rows: usize| case::uniform(&[1, HEADS, rows, DEPTH], -1.0, 1.1);
        let (q, k, v) = (e.input(of(ROWS)), e.input(of(KEYS)), e.input(of(KEYS)));
        let k = e.sketch.transpose(k, &[0, 1, 3, 2]);
        let mask = e.input(mask(&[BATCH, 1, 1, KEYS], -2.0, |i| i % 3 == 0));
        let scores = e.scores(q, k);
        let scores = e.two("Add", scores, mask);
        e.attend(scores, v);
    }),
    ("an added number that hides nothing wholly, after a scale", |e, [q, k, v]| {
        let mask = e.input(mask(&[ROWS, KEYS], -2.0, |i| i % 3 == 0));
        let scores = e.two("MatMul", q, k);
        let scores = e.two("Add", scores, mask);
        let scores = e.by("Mul", scores, 0.3);
        e.attend(scores, v);
    }),
    ("values of earlier runs", |e, [q, k, _]| {
        let past = e.input(case::uniform(&[BATCH, HEADS, KEYS - ROWS, DEPTH], -1.0, 1.1));
        let new = e.in_heads(case::uniform(&[BATCH, ROWS, HEADS * DEPTH], -1.0, 1.0), HEADS);
        let v = e.sketch.node("Concat", &[("axis", Attr::Int(2))], &[past, new]);
        let scores = e.scores(q, k);
        e.attend(scores, v);
    }),
];

#[test]
fn one_kernel_gives_what_the_nodes_give() {
    for (name, build) in ONE_KERNEL {
        let mut spelling = AttentionSketch::default();
        let operands = spelling.operands();
        build(&mut spelling, operands);
        assert_eq!(spelling.kernels(), 1, "{name}");
        spelling.check(name);
    }
}

#[test]
fn other_nodes_stay_spelled_out() {
    for (name, build) in SPELLED_OUT {
        let mut spelling = AttentionSketch::default();
        let operands = spelling.operands();
        build(&mut spelling, operands);
        assert_eq!(spelling.kernels(), 0, "{name}");
        spelling.check(name);
    }
}

/// A pipeline that would cost more than it saves in 200 runs is not compiled.
#[test]
fn little_work_stays_spelled_out() {
    let mut e = AttentionSketch::default();
    let of = |rows: usize| case::uniform(&[2, rows, DEPTH], -1.0, 1.1);
    let (q, k, v) = (e.input(of(20)), e.input(of(20)), e.input(of(20)));
    let k = e.sketch.transpose(k, &[0, 2, 1]);
    let scores = e.scores(q, k);
    let weights = e.softmax(scores);
    let y = e.two("MatMul", weights, v);
    e.sketch.graph.outputs.push(y);
    assert_eq!(e.kernels(), 0);
    e.check("little work");
}

/// One session at sizes that fit the kernel, at a depth that is no multiple of 4, and without keys or heads.
#[test]
fn one_session_takes_all_sizes() {
    let inputs = |heads: usize, rows: usize, keys: usize, depth: usize| {
        let of = |rows: usize| case::uniform(&[heads, rows, depth], -1.0, 1.1);
        let mask = mask(&[rows, keys], f32::NEG_INFINITY, |i| keys > 1 && i % keys > i / keys);
        vec![of(rows), of(keys), of(keys), mask]
    };
    let mut e = AttentionSketch::default();
    let [q, k, v, mask] = <[_; 4]>::try_from(inputs(128, ROWS, KEYS, DEPTH)).unwrap().map(|x| e.input(x));
    let k = e.sketch.transpose(k, &[0, 2, 1]);
    let scores = e.scores(q, k);
    let scores = e.two("Add", scores, mask);
    let weights = e.softmax(scores);
    let y = e.two("MatMul", weights, v);
    e.sketch.graph.outputs.push(y);
    assert_eq!(e.kernels(), 1);
    let sizes = [
        (128, ROWS, KEYS, DEPTH),
        (1, 1, 1, DEPTH),
        (5, 7, 9, DEPTH),
        (3, 40, 33, 30),
        (2, 90, 130, 64),
        (3, 17, 0, DEPTH),
        (0, 5, 6, DEPTH),
        (2, 33, 17, 4),
        (1, 1, 33, DEPTH),
        (128, ROWS, KEYS, DEPTH),
    ];
    e.check_series("sizes", &sizes.map(|(heads, rows, keys, depth)| inputs(heads, rows, keys, depth)));
}

/// Other sizes take kernels of the first plan, or spare ones.
#[test]
fn other_sizes_need_no_other_attention() {
    let mut e = AttentionSketch::default();
    let [q, k, v] = e.operands();
    let scores = e.scores(q, k);
    e.attend(scores, v);
    let target = Target { class: Class::Cpu, subgroup: 8, ..Target::FLOOR };
    let planner = Planner::new(Arc::new(e.graph()), target, Options::default()).unwrap();
    let plan = |batch: usize, rows: usize, keys: usize| {
        let shape = |rows: usize| InputFact::of_shape(DType::F32, &[batch, rows, HEADS * DEPTH]);
        planner.plan(&[shape(rows), shape(keys), shape(keys)]).unwrap()
    };
    let first = plan(BATCH, ROWS, KEYS);
    let kernels: Vec<_> = first
        .program
        .calls
        .iter()
        .map(|call| &call.kernel)
        .chain(first.spare.iter().map(|one| &one.kernel))
        .collect();
    for (batch, rows, keys) in [(1, 1, 1), (2, 7, 9), (5, 90, 130), (1, 64, 64), (2, 1, 33)] {
        for call in &plan(batch, rows, keys).program.calls {
            assert!(kernels.contains(&&call.kernel), "{batch}, {rows}, {keys}: {:?}", call.kernel);
        }
    }
}
