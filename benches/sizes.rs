//! What sizes cost that change from run to run: `cargo bench --bench sizes [STEPS]`. A decoder's caches grow by a row each step; its
//! CPU time beside that of as many equal steps of the middle size, the objects that are made, and the memory. Then the same steps with
//! caches that stay on the device, in memory of their own and in memory with room. `SARDONYX_DEVICE` names the device.

#![allow(clippy::unwrap_used)] // A benchmark that cannot go on has failed.

mod common;

use std::time::Duration;

use common::onnx::build::{self, FLOAT, INT64, bytes, graph, int, ints, node, value, weights};
use common::onnx::proto::{NodeProto, TensorProto};
use common::{describe, device, tensor, values};
use sardonyx::internals::Kernels;
use sardonyx::{DeviceTensor, Input, Model, Outputs, Session, SessionOptions, Tensor};
use sardonyx_testing::clock::cpu_time;

const LAYERS: usize = 12;
const WIDTH: usize = 64;
const HEADS: usize = 4;
const ROUNDS: usize = 60;

fn main() {
    println!("{}", describe());
    let most = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(512usize);
    let model = decoder();
    let session = Session::new(&device(Kernels::Own), &model, SessionOptions::default()).unwrap();
    let counters = || session.device().counters();
    let mut caches: Vec<Tensor> = vec![tensor(&[1, HEADS, 16, WIDTH / HEADS]); 2 * LAYERS];
    let equal = |caches: &[Tensor]| {
        step(&session, &mut caches.to_vec());
        (0..ROUNDS / 2).map(|_| step(&session, &mut caches.to_vec())).sum::<Duration>()
    };
    println!(
        "\n| past | CPU of {ROUNDS} steps, ms | of equal ones | buffers | bind groups | on the device | with room |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut past = 16;
    let placed = || -> Vec<DeviceTensor> {
        caches.iter().map(|cache| DeviceTensor::new(session.device(), cache).unwrap()).collect()
    };
    let own = Session::new(session.device(), &model, SessionOptions::default()).unwrap();
    let roomy = Session::new(session.device(), &model, SessionOptions::default()).unwrap();
    let (mut placed, with_room) = (placed(), placed());
    let mut with_room: Vec<DeviceTensor> =
        with_room.iter().map(|cache| cache.with_room(2, most + ROUNDS).unwrap()).collect();
    while past < most {
        let (shorter, before) = (equal(&caches), counters());
        let took: Duration = (0..ROUNDS).map(|_| step(&session, &mut caches)).sum();
        let made = counters() - before;
        let share = took.as_secs_f64() / (shorter + equal(&caches)).as_secs_f64();
        past += ROUNDS;
        let took = took.as_secs_f64() * 1e3;
        let on_device: Duration = (0..ROUNDS).map(|_| step_there(&own, &mut placed)).sum();
        let in_room: Duration = (0..ROUNDS).map(|_| step_there(&roomy, &mut with_room)).sum();
        let [on_device, in_room] = [on_device, in_room].map(|took| took.as_secs_f64() * 1e3);
        println!(
            "| {past} | {took:.1} | {share:.2}x | {} | {} | {on_device:.1} | {in_room:.1} |",
            made.buffers, made.bind_groups
        );
    }
    let alone = Session::new(&device(Kernels::Own), &model, SessionOptions::default()).unwrap();
    step(&alone, &mut caches);
    let [grown, least] = [&session, &alone].map(|session| session.memory().arena as f64);
    println!("\nmemory of runs: {:.2}x of a session that has run the last size alone", grown / least);
}

/// The CPU time of a step, which adds a row to each cache.
fn step(session: &Session, caches: &mut Vec<Tensor>) -> Duration {
    timed(caches, |given| session.run(given).unwrap())
}

/// The same, where the caches stay on the device.
fn step_there(session: &Session, caches: &mut Vec<DeviceTensor>) -> Duration {
    timed(caches, |given| {
        let outputs = session.run_to_device(given).unwrap();
        outputs["y"].read().unwrap();
        outputs
    })
}

fn timed<C>(caches: &mut Vec<C>, run: impl FnOnce(&[(&str, Input)]) -> Outputs<C>) -> Duration
where
    for<'a> Input<'a>: From<&'a C>,
{
    let x = tensor(&[1, 1, WIDTH]);
    let names: Vec<String> = (0..caches.len()).map(|i| format!("past{i}")).collect();
    let past = names.iter().zip(caches.iter()).map(|(name, cache)| (name.as_str(), Input::from(cache)));
    let given: Vec<(&str, Input)> = [("x", Input::Tensor(&x))].into_iter().chain(past).collect();
    let start = cpu_time(true);
    let outputs = run(&given);
    let took = cpu_time(true) - start;
    *caches =
        outputs.into_iter().filter(|(name, _)| name.starts_with("now")).map(|(_, cache)| cache).collect();
    took
}

/// Layers of attention over a cache, and of a product; each as exporters of transformers write it.
fn decoder() -> Model {
    let cache = |name: &str, rows: &str| value(name, FLOAT, &["1", "4", rows, "16"]);
    let (mut nodes, mut inputs, mut outputs): (Vec<NodeProto>, _, _) =
        (Vec::new(), vec![value("x", FLOAT, &["1", "1", "64"])], vec![value("y", FLOAT, &["1", "1", "64"])]);
    let mut from = "x".to_string();
    for layer in 0..LAYERS {
        let own = |name: &str| format!("{name}.{layer}");
        let mut add = |op: &str, given: &[&str], to: &str, attributes: Vec<_>| {
            let made =
                attributes.into_iter().fold(node(op, given, &[to]), |node, attribute| node.with(attribute));
            nodes.push(made);
        };
        add("LayerNormalization", &[&from, "scale"], &own("norm"), vec![int("axis", -1)]);
        let mut kept = Vec::new();
        for (i, part) in ["q", "k", "v"].into_iter().enumerate() {
            add("MatMul", &[&own("norm"), "w"], &own(&format!("{part}.flat")), vec![]);
            add("Reshape", &[&own(&format!("{part}.flat")), "heads"], &own(&format!("{part}.split")), vec![]);
            add(
                "Transpose",
                &[&own(&format!("{part}.split"))],
                &own(part),
                vec![ints("perm", &[0, 2, 1, 3])],
            );
            if let Some(i) = i.checked_sub(1) {
                let (past, now) = (format!("past{}", 2 * layer + i), format!("now{}", 2 * layer + i));
                add("Concat", &[&past, &own(part)], &now, vec![int("axis", 2)]);
                inputs.push(cache(&past, "past"));
                outputs.push(cache(&now, "now"));
                kept.push(now);
            }
        }
        add("Transpose", &[&kept[0]], &own("turned"), vec![ints("perm", &[0, 1, 3, 2])]);
        add("MatMul", &[&own("q"), &own("turned")], &own("scores"), vec![]);
        add("Mul", &[&own("scores"), "quarter"], &own("scaled"), vec![]);
        add("Softmax", &[&own("scaled")], &own("shares"), vec![int("axis", -1)]);
        add("MatMul", &[&own("shares"), &kept[1]], &own("mixed"), vec![]);
        add("Transpose", &[&own("mixed")], &own("joined"), vec![ints("perm", &[0, 2, 1, 3])]);
        add("Reshape", &[&own("joined"), "row"], &own("row"), vec![]);
        add("MatMul", &[&own("row"), "w"], &own("product"), vec![]);
        let to = if layer + 1 == LAYERS { "y".to_string() } else { own("x") };
        add("Add", &[&from, &own("product")], &to, vec![]);
        from = to;
    }
    let mut graph = graph(&[], nodes, &[]);
    (graph.input, graph.output) = (inputs, outputs);
    let list = |name: &str, sizes: &[i64]| TensorProto {
        int64_data: sizes.to_vec(),
        ..build::empty(name, INT64, &[sizes.len() as i64])
    };
    graph.initializer = vec![
        weights("w", &[64, 64], &values(64 * 64).iter().map(|w| w / 8.0).collect::<Vec<_>>()),
        weights("scale", &[64], &[1.0; 64]),
        weights("quarter", &[], &[0.25]),
        list("heads", &[1, 1, 4, 16]),
        list("row", &[1, 1, 64]),
    ];
    Model::from_bytes(bytes(&build::model(23, graph))).unwrap()
}
