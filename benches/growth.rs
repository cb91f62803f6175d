//! How import, passes and planning grow with a graph: `cargo bench --bench growth [NAME]`. It prints the CPU time for each node
//! of generated graphs of up to 200,000 nodes, and the ratio of the largest graph's to that of the smallest. No device is used.

#![allow(clippy::unwrap_used)] // A benchmark that cannot go on has failed.

mod common;

use std::time::Duration;

use common::onnx::build::{self, FLOAT, bytes, graph, int, ints, node, value, weights};
use common::onnx::proto::{GraphProto, NodeProto};
use common::{tensor, wanted};
use sardonyx::internals::plan;
use sardonyx::{Device, Model, Session, SessionOptions, Tensor};
use sardonyx_testing::clock::cpu_time;

/// The numbers of nodes, inputs or outputs of a graph.
const SIZES: [usize; 5] = [1_000, 5_000, 20_000, 60_000, 200_000];

/// A series ends with a graph that took this long: larger ones would take too long.
const TOO_LONG: Duration = Duration::from_secs(30);

/// A graph of about `n` nodes with inputs of these shapes.
type Make = fn(n: usize) -> (GraphProto, Vec<(String, Vec<usize>)>);

const GRAPHS: [(&str, Make); 15] = [
    ("identities", |n| of_x(&[4], chain(n, |_, from, to| node("Identity", &[from], &[to])))),
    ("pointwise chain", |n| {
        of_x(
            &[4],
            chain(n, |i, from, to| match i % 2 {
                0 => node("Relu", &[from], &[to]),
                _ => node("Add", &[from, "x"], &[to]),
            }),
        )
    }),
    ("products", |n| {
        with_weights(
            &[4, 4],
            chain(n, |i, from, to| match i % 3 {
                0 => node("MatMul", &[from, "w"], &[to]),
                1 => node("Relu", &[from], &[to]),
                _ => node("Softmax", &[from], &[to]),
            }),
        )
    }),
    ("residuals", |n| {
        with_weights(
            &[4, 4],
            chain(n, |i, from, to| match i % 2 {
                0 => node("MatMul", &[from, "w"], &[to]),
                _ => node("Add", &[from, &before(i, 2)], &[to]),
            }),
        )
    }),
    ("far skips", |n| {
        with_weights(
            &[4, 4],
            chain(n, |i, from, to| match (i < n / 2, i % 2) {
                (_, 0) => node("MatMul", &[from, "w"], &[to]),
                (true, _) => node("Relu", &[from], &[to]),
                (false, _) => node("Add", &[from, &before(n - i, 0)], &[to]),
            }),
        )
    }),
    ("movers", |n| {
        let mut made = of_x(
            &[4, 4],
            chain(n, |i, from, to| match i % 5 {
                0 | 3 => node("Transpose", &[from], &[to]).with(ints("perm", &[1, 0])),
                1 => node("Reshape", &[from, "shape"], &[to]),
                2 => node("Softmax", &[from], &[to]),
                _ => node("Relu", &[from], &[to]),
            }),
        );
        let shape = build::empty("shape", build::INT64, &[2]);
        made.0.initializer.push(common::onnx::proto::TensorProto { int64_data: vec![2, 8], ..shape });
        made
    }),
    ("convolutions", |n| {
        let mut made = of_x(
            &[1, 2, 4, 4],
            chain(n, |i, from, to| match i % 2 {
                0 => node("Conv", &[from, "w"], &[to]).with(ints("pads", &[1, 1, 1, 1])),
                _ => node("Add", &[from, "b"], &[to]),
            }),
        );
        made.0.initializer =
            vec![weights("w", &[2, 2, 3, 3], &[0.1; 36]), weights("b", &[2, 1, 1], &[0.1; 2])];
        made
    }),
    ("initializers", |n| {
        let mut made = of_x(&[4], chain(n, |i, from, to| node("Add", &[from, &format!("w{i}")], &[to])));
        made.0.initializer = (0..n).map(|i| weights(&format!("w{i}"), &[4], &[i as f32; 4])).collect();
        made
    }),
    ("branches", |n| {
        let names: Vec<String> = (0..n / 2).map(|i| format!("b{i}")).collect();
        let first = (0..n / 2).map(|i| node("Softmax", &["x"], &[&format!("a{i}")]));
        let then = (0..n / 2).map(|i| node("Relu", &[&format!("a{i}")], &[&names[i]]));
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let join = node("Concat", &all, &["y"]).with(int("axis", 0));
        of_x(&[4, 4], first.chain(then).chain([join]).collect())
    }),
    ("outputs", |n| {
        let names: Vec<String> = (0..n).map(|i| format!("y{i}")).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let nodes = all.iter().map(|name| node("Relu", &["x"], &[name])).collect();
        (declared(graph(&["x"], nodes, &all), &[("x".into(), vec![4])]), vec![("x".into(), vec![4])])
    }),
    ("inputs", |n| {
        let inputs: Vec<(String, Vec<usize>)> = (0..n).map(|i| (format!("x{i}"), vec![4])).collect();
        let all: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
        let nodes = vec![node("Concat", &all, &["y"]).with(int("axis", 0))];
        (declared(graph(&all, nodes, &["y"]), &inputs), inputs)
    }),
    ("one wide Max", |n| of_x(&[4], vec![node("Max", &vec!["x"; n], &["y"])])),
    ("Split and Concat", |n| {
        let n = n.min(60_000);
        let parts: Vec<String> = (0..n).map(|i| format!("o{i}")).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let split = node("Split", &["x"], &parts).with(int("num_outputs", n as i64));
        let joined: Vec<&str> = parts.iter().rev().copied().collect();
        of_x(&[n], vec![split, node("Concat", &joined, &["y"]).with(int("axis", 0))])
    }),
    ("concatenations", |n| {
        of_x(&[4], chain(n, |_, from, to| node("Concat", &[from, "x"], &[to]).with(int("axis", 0))))
    }),
    ("reshapes", |n| {
        let mut made = of_x(
            &[4, 4],
            chain(n, |i, from, to| match i % 2 {
                0 => node("Reshape", &[from, "wide"], &[to]),
                _ => node("Reshape", &[from, "square"], &[to]),
            }),
        );
        made.0.initializer = [("wide", [2, 8]), ("square", [4, 4])]
            .map(|(name, shape)| {
                let tensor = build::empty(name, build::INT64, &[2]);
                common::onnx::proto::TensorProto { int64_data: shape.to_vec(), ..tensor }
            })
            .to_vec();
        made
    }),
];

/// The name of the value after `i - by` nodes of a chain.
fn before(i: usize, by: usize) -> String {
    match i.saturating_sub(by) {
        0 => "x".into(),
        i => format!("v{i}"),
    }
}

/// A chain from `x` to `y`.
fn chain(count: usize, make: impl Fn(usize, &str, &str) -> NodeProto) -> Vec<NodeProto> {
    let last = |i: usize| if i + 1 == count { "y".into() } else { before(i + 1, 0) };
    (0..count).map(|i| make(i, &before(i, 0), &last(i))).collect()
}

fn declared(mut graph: GraphProto, inputs: &[(String, Vec<usize>)]) -> GraphProto {
    let declare = |(name, shape): &(String, Vec<usize>)| {
        let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
        value(name, FLOAT, &dims.iter().map(String::as_str).collect::<Vec<_>>())
    };
    graph.input = inputs.iter().map(declare).collect();
    graph
}

fn of_x(shape: &[usize], nodes: Vec<NodeProto>) -> (GraphProto, Vec<(String, Vec<usize>)>) {
    let inputs = vec![("x".to_string(), shape.to_vec())];
    (declared(graph(&["x"], nodes, &["y"]), &inputs), inputs)
}

fn with_weights(shape: &[usize], nodes: Vec<NodeProto>) -> (GraphProto, Vec<(String, Vec<usize>)>) {
    let mut made = of_x(shape, nodes);
    made.0.initializer = vec![weights("w", &[4, 4], &[0.1; 16])];
    made
}

/// CPU time of `work`, and what it returns.
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = cpu_time(false);
    let done = work();
    (cpu_time(false) - start, done)
}

/// The times of import, passes, a first plan and a later plan.
fn measure(make: Make, n: usize) -> [Duration; 4] {
    let (graph, inputs) = make(n);
    let file = bytes(&build::model(21, graph));
    let (import, model) = timed(|| Model::from_bytes(file).unwrap());
    let (passes, session) =
        timed(|| Session::new(&Device::noop(), &model, SessionOptions::default()).unwrap());
    let inputs: Vec<(String, Tensor)> =
        inputs.into_iter().map(|(name, shape)| (name, tensor(&shape))).collect();
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, x)| (name.as_str(), x)).collect();
    let (first, _) = timed(|| plan(&session, &inputs).unwrap());
    let (later, _) = timed(|| plan(&session, &inputs).unwrap());
    [import, passes, first, later]
}

fn main() {
    println!("### CPU time in us per node\n");
    println!(
        "| graph | n | import | passes | first plan | later plans | all | growth |\n|---|---|---|---|---|---|---|---|"
    );
    for (name, make) in GRAPHS.into_iter().filter(|(name, _)| wanted(name)) {
        let mut smallest = None;
        for n in SIZES {
            let times = measure(make, n);
            let per_node = |time: Duration| time.as_secs_f64() * 1e6 / n as f64;
            let all = per_node(times.iter().sum());
            let growth = all / *smallest.get_or_insert(all);
            let [import, passes, first, later] = times.map(per_node);
            println!(
                "| {name} | {n} | {import:.2} | {passes:.2} | {first:.2} | {later:.2} | {all:.2} | {growth:.2}x |"
            );
            if times.iter().sum::<Duration>() > TOO_LONG {
                break;
            }
        }
    }
}
