//! The cost of Sardonyx itself: `cargo bench --bench dispatch`. It measures the CPU time of the calling thread per dispatch of
//! a run, against a bare wgpu loop over equal bind groups; and the time that planning takes, for generated graphs and for the
//! models that `scripts/test.sh` puts into `data/models`. `SARDONYX_DEVICE` names the device.

#![allow(clippy::unwrap_used)] // A benchmark that cannot go on has failed.

mod common;

use std::path::Path;
use std::time::Duration;

use common::onnx::build::{int, ints, node};
use common::onnx::proto::NodeProto;
use common::{describe, device, model, tensor, values};
use sardonyx::internals::{Bare, Kernels, nodes, plan};
use sardonyx::{DType, Model, Session, SessionOptions, Tensor};
use sardonyx_testing::clock::cpu_time;

const ROUNDS: usize = 31;

fn main() {
    println!("{}", describe());
    dispatches();
    println!("\n### Planning, in ms of CPU time per 1,000 nodes\n");
    println!("| graph | nodes | dispatches | first plan | others |\n|---|---|---|---|---|");
    for nodes in [1000, 4000] {
        let model = model(&[1, 16, 32], transformer(nodes), &TRANSFORMER_WEIGHTS);
        planning("transformer", &model, &[tensor(&[1, 16, 32])]);
    }
    planning(
        "convolutions",
        &model(&[1, 8, 16, 16], convolutions(1000), &CONV_WEIGHTS),
        &[tensor(&[1, 8, 16, 16])],
    );
    planning("pointwise", &model(&[4, 33], pointwise(1000), &[]), &[tensor(&[4, 33])]);
    let models: [(&str, &[usize]); 6] = [
        ("ppocr6_det_tiny", &[1, 3, 160, 256]),
        ("ppocr4_det", &[1, 3, 160, 256]),
        ("ppocr6_rec_tiny", &[1, 3, 48, 320]),
        ("ppocr2_cls", &[1, 3, 48, 192]),
        ("basic_pitch", &[1, 43844, 1]),
        ("minilm_l6_int8", &[1, 22]),
    ];
    for (name, shape) in models {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/models/{name}.onnx"));
        let Ok(model) = Model::load(path) else { continue };
        let count = shape.iter().product();
        let inputs: Vec<Tensor> = model
            .inputs()
            .iter()
            .map(|input| match input.dtype {
                Some(DType::I64) => Tensor::from_slice(shape, &vec![1i64; count]).unwrap(),
                _ => Tensor::from_slice(shape, &values(count)).unwrap(),
            })
            .collect();
        planning(name, &model, &inputs);
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn dispatches() {
    let small = model(&[64], pointwise(1000), &[]);
    let options = SessionOptions::new().fusion(false);
    let session = Session::new(&device(Kernels::Own), &small, options).unwrap();
    let x = tensor(&[64]);
    let inputs: [(&str, &Tensor); 1] = [("x", &x)];
    session.run(&inputs).unwrap();
    let bare = Bare::new(&session, &inputs).unwrap();
    bare.run();
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = cpu_time(false);
        session.run(&inputs).unwrap();
        own.push(cpu_time(false) - start);
        let start = cpu_time(false);
        bare.run();
        others.push(cpu_time(false) - start);
    }
    let count = bare.dispatches() as f64;
    let (own, others) = (median(own) / count, median(others) / count);
    println!("\n### CPU time of the calling thread, {count} dispatches\n");
    println!("| | ratio | us per dispatch |\n|---|---|---|");
    println!("| bare wgpu loop | 1.00x | {others:.3} |\n| Session::run | {:.2}x | {own:.3} |", own / others);
}

/// The first plan of a session also settles what other sizes of the open dimensions need; later plans choose from that.
fn planning(name: &str, model: &Model, inputs: &[Tensor]) {
    let named: Vec<(&str, &Tensor)> =
        model.inputs().iter().map(|input| input.name.as_str()).zip(inputs).collect();
    let own = device(Kernels::Own);
    let session = || Session::new(&own, model, SessionOptions::default()).unwrap();
    let took = |session: &Session| {
        let start = cpu_time(false);
        plan(session, &named).unwrap();
        cpu_time(false) - start
    };
    let first = median((0..ROUNDS).map(|_| took(&session())).collect());
    let session = session();
    let dispatches = plan(&session, &named).unwrap();
    let others = median((0..ROUNDS).map(|_| took(&session)).collect());
    let count = nodes(&session);
    let [first, others] = [first, others].map(|time| time / count as f64);
    println!("| {name} | {count} | {dispatches} | {first:.2} | {others:.2} |");
}

/// A chain of nodes from `x` to `y`. `make` makes a node that reads one value and writes another, from its number and a value
/// of some nodes before.
fn chained(count: usize, make: impl Fn(usize, &str, &str, &str) -> NodeProto) -> Vec<NodeProto> {
    let name = |i: usize| {
        if i == 0 {
            "x".into()
        } else if i == count {
            "y".into()
        } else {
            format!("v{i}")
        }
    };
    (0..count).map(|i| make(i, &name(i), &name(i.saturating_sub(5) / 6 * 6), &name(i + 1))).collect()
}

fn pointwise(count: usize) -> Vec<NodeProto> {
    let ops = ["Abs", "Sigmoid", "Neg", "Tanh", "Relu", "Exp"];
    chained(count, |i, from, _, to| node(ops[i % ops.len()], &[from], &[to]))
}

const TRANSFORMER_WEIGHTS: [(&str, &[i64]); 3] = [("w", &[32, 32]), ("s", &[32]), ("b", &[32])];

/// Normalization, product, bias, activation, product, residual.
fn transformer(count: usize) -> Vec<NodeProto> {
    chained(count, |i, from, before, to| match i % 6 {
        0 => node("LayerNormalization", &[from, "s", "b"], &[to]).with(int("axis", -1)),
        1 | 4 => node("MatMul", &[from, "w"], &[to]),
        2 => node("Add", &[from, "b"], &[to]),
        3 => node("Gelu", &[from], &[to]),
        _ => node("Add", &[from, before], &[to]),
    })
}

const CONV_WEIGHTS: [(&str, &[i64]); 2] = [("w", &[8, 8, 3, 3]), ("b", &[8])];

/// Convolution, activation, convolution, residual, activation, scale.
fn convolutions(count: usize) -> Vec<NodeProto> {
    chained(count, |i, from, before, to| match i % 6 {
        0 | 2 => node("Conv", &[from, "w", "b"], &[to]).with(ints("pads", &[1, 1, 1, 1])),
        1 | 4 => node("Relu", &[from], &[to]),
        3 => node("Add", &[from, before], &[to]),
        _ => node("Sigmoid", &[from], &[to]),
    })
}
