//! Random numbers: each run without a seed draws others, each run with a seed the same, and both have the distribution that the
//! operator promises. A chance of one in ten thousand is four standard errors away.

use crate::internals::devices;
use crate::onnx::builder::*;
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::{AttributeProto, GraphProto, TensorProto};
use crate::{Device, Model, Session, SessionOptions, Tensor};

const BOOL: i32 = 9;
const DOUBLE: i32 = 11;
const INT32: i32 = 6;

fn loaded(graph: GraphProto) -> Model {
    Model::from_bytes(bytes(&model(22, graph))).unwrap()
}

fn sessions(model: &Model) -> impl Iterator<Item = Session> {
    let all = devices::each().into_iter().chain([Device::reference()]);
    all.map(|device| Session::new(&device, model, SessionOptions::default()).unwrap())
}

/// A model of one node, with one input, `x`.
fn of_node(op: &str, inputs: &[&str], outputs: &[(&str, i32)], attributes: Vec<AttributeProto>) -> Model {
    let names: Vec<&str> = outputs.iter().map(|(name, _)| *name).collect();
    let node = attributes.into_iter().fold(node(op, inputs, &names), |node, attribute| node.with(attribute));
    let input = inputs.iter().filter(|name| **name == "x").map(|name| value(name, FLOAT, &["a", "b"]));
    let output = outputs.iter().map(|(name, dtype)| value(name, *dtype, &["a", "c"]));
    let mut graph =
        GraphProto { input: input.collect(), output: output.collect(), ..graph(&[], vec![node], &[]) };
    graph.initializer = vec![weights("ratio", &[], &[0.25]), truth("train")];
    graph.initializer.retain(|tensor| inputs.contains(&tensor.name.as_str()));
    loaded(graph)
}

fn truth(name: &str) -> TensorProto {
    TensorProto { int32_data: vec![1], ..empty(name, BOOL, &[]) }
}

/// The mean and the variance.
fn moments<T: Copy + Into<f64>>(x: &[T]) -> (f64, f64) {
    let count = x.len() as f64;
    let mean = x.iter().map(|&x| x.into()).sum::<f64>() / count;
    (mean, x.iter().map(|&x| (x.into() - mean).powi(2)).sum::<f64>() / count)
}

/// The first output as float32, in two runs.
fn twice(session: &Session, given: &[(&str, &Tensor)]) -> [Vec<f32>; 2] {
    [0, 1].map(|_| session.run(given).unwrap()["y"].to_vec::<f32>().unwrap())
}

#[test]
fn runs_draw_others_unless_there_is_a_seed() {
    let x = Tensor::from_slice(&[100, 100], &[0.5f32; 10_000]).unwrap();
    for (op, mean, variance) in
        [("RandomUniformLike", 0.5, 1.0 / 12.0), ("RandomNormalLike", 0.0, 1.0), ("Bernoulli", 0.5, 0.25)]
    {
        for seed in [None, Some(3.0)] {
            let seeded =
                seed.map(|seed| AttributeProto { f: Some(seed), ..attribute("seed", AttributeType::Float) });
            let model = of_node(op, &["x"], &[("y", FLOAT)], seeded.into_iter().collect());
            for session in sessions(&model) {
                let [first, second] = twice(&session, &[("x", &x)]);
                assert_eq!(first == second, seed.is_some(), "{op} on {}", session.device().name());
                for run in [&first, &second] {
                    let found = moments(run);
                    let off = (found.0 - mean).abs() > 4.0 * f64::sqrt(variance) / 100.0;
                    assert!(!off && (found.1 - variance).abs() < 0.06 * variance, "{op}: {found:?}");
                }
            }
        }
    }
}

/// Of float64 all bits are random, so that no two numbers are equal.
#[test]
fn numbers_of_float64_are_drawn_as_such() {
    for (op, given, mean, variance) in [
        ("RandomUniform", [("low", -1.0), ("high", 5.0)], 2.0, 3.0),
        ("RandomNormal", [("mean", 3.0), ("scale", 2.0)], 3.0, 4.0),
    ] {
        let float = |(name, value): (&str, f32)| AttributeProto {
            f: Some(value),
            ..attribute(name, AttributeType::Float)
        };
        let own = vec![ints("shape", &[100, 100]), int("dtype", DOUBLE.into())];
        let model = of_node(op, &[], &[("y", DOUBLE)], own.into_iter().chain(given.map(float)).collect());
        for device in devices::each().into_iter().map(|device| device.with_strict(false)) {
            let session = Session::new(&device, &model, SessionOptions::default()).unwrap();
            let [first, second] =
                [0, 1].map(|_| session.run::<&Tensor>(&[]).unwrap()["y"].to_vec::<f64>().unwrap());
            let found = moments(&first);
            let off = (found.0 - mean).abs() > 4.0 * f64::sqrt(variance) / 100.0;
            assert!(!off && (found.1 - variance).abs() < 0.06 * variance, "{op}: {found:?}");
            let mut bits: Vec<u64> = first.iter().chain(&second).map(|y| y.to_bits()).collect();
            bits.sort_unstable();
            bits.dedup();
            assert_eq!(bits.len(), 20_000, "{op} on {}", device.name());
            if op == "RandomUniform" {
                assert!(first.iter().all(|y| (-1.0..5.0).contains(y)));
            }
        }
    }
}

#[test]
fn training_drops_as_many_as_the_ratio_says() {
    let x = Tensor::from_slice(&[100, 100], &[3.0f32; 10_000]).unwrap();
    let model = of_node("Dropout", &["x", "ratio", "train"], &[("y", FLOAT), ("mask", BOOL)], vec![]);
    for session in sessions(&model) {
        let runs = [0, 1].map(|_| session.run(&[("x", &x)]).unwrap());
        let [first, second] = runs.each_ref().map(|run| run["y"].to_vec::<f32>().unwrap());
        assert_ne!(first, second);
        let mask = runs[0]["mask"].bytes().to_vec();
        assert!(first.iter().zip(&mask).all(|(y, kept)| *y == if *kept == 1 { 4.0 } else { 0.0 }));
        // The deviation of a share of 1/4 in 10,000 is 0.0043.
        let dropped = mask.iter().filter(|kept| **kept == 0).count();
        assert!((2_320..2_680).contains(&dropped), "{dropped}");
    }
}

#[test]
fn classes_are_drawn_as_often_as_their_shares_say() {
    let shares = [0.1f32, 0.2, 0.7];
    let x = Tensor::from_slice(&[1, 3], &shares.map(f32::ln)).unwrap();
    let model = of_node("Multinomial", &["x"], &[("y", INT32)], vec![int("sample_size", 10_000)]);
    for session in sessions(&model) {
        let runs = [0, 1].map(|_| session.run(&[("x", &x)]).unwrap()["y"].to_vec::<i32>().unwrap());
        assert_ne!(runs[0], runs[1]);
        for (class, share) in shares.iter().enumerate() {
            let count = runs[0].iter().filter(|y| **y == class as i32).count() as f32;
            let error = 4.0 * (share * (1.0 - share) * 10_000.0).sqrt();
            assert!((count - share * 10_000.0).abs() < error, "class {class}: {count}");
        }
    }
}

/// A value that a shape follows from may be random: the host looks at it in each run.
#[test]
fn numbers_without_a_seed_are_not_planned() {
    let like = node("RandomUniform", &[], &["r"]).with(ints("shape", &[1, 10_000]));
    let nodes = vec![like, node("Add", &["r", "x"], &["y"])];
    let inputs = vec![value("x", FLOAT, &["1", "n"])];
    let graph =
        GraphProto { input: inputs, output: vec![value("y", FLOAT, &["1", "n"])], ..graph(&[], nodes, &[]) };
    let x = Tensor::from_slice(&[1, 10_000], &[1.0f32; 10_000]).unwrap();
    for session in sessions(&loaded(graph)) {
        let [first, second] = twice(&session, &[("x", &x)]);
        assert_ne!(first, second);
        assert!(first.iter().all(|y| (1.0..=2.0).contains(y)));
    }
}
