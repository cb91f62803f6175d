//! The models of the repository, and questions with the answers that the reference gives.

use std::path::Path;

use sardonyx::{Device, Model, Session, SessionOptions, Tensor};
use sardonyx_testing::dice::Dice;
use sardonyx_testing::onnx::build::*;

/// A request, and its answer.
#[derive(Debug)]
pub struct Question {
    pub model: &'static str,
    pub inputs: Vec<(&'static str, Tensor)>,
    /// The first output; the model's version is added where `versioned`.
    expected: Vec<f32>,
    versioned: bool,
}

impl Question {
    /// What is wrong with an answer, if something is.
    pub fn difference(&self, version: &str, got: &[f32]) -> Option<String> {
        let more = if self.versioned { version.parse().unwrap_or(f32::NAN) } else { 0.0 };
        let is_near = |(got, expected): (&f32, &f32)| (got - (expected + more)).abs() <= 1e-4;
        let is_right = got.len() == self.expected.len() && got.iter().zip(&self.expected).all(is_near);
        (!is_right).then(|| {
            let expected = self.expected.iter().take(4).collect::<Vec<_>>();
            let got = got.iter().take(4).collect::<Vec<_>>();
            format!("{} version {version}: {got:?} in place of {expected:?}, and {more}", self.model)
        })
    }
}

/// The names of all models, those of an ensemble before it.
pub const ALL: [&str; 12] =
    ["sum", "narrow", "left", "come", "host", "perceptron", "cached", "wide", "one", "twice", "total", "all"];

/// The elements of an answer of `wide`.
pub const WIDE: usize = 1 << 20;

/// `SUM = A + B + bias`, for rows of four numbers.
pub fn sum(bias: f32) -> Vec<u8> {
    let nodes = vec![node("Add", &["A", "B"], &["s"]), node("Add", &["s", "bias"], &["SUM"])];
    let mut graph = graph(&[], nodes, &[]);
    graph.input = vec![value("A", FLOAT, &["N", "4"]), value("B", FLOAT, &["N", "4"])];
    graph.output = vec![value("SUM", FLOAT, &["N", "4"])];
    graph.initializer = vec![weights("bias", &[1], &[bias])];
    bytes(&model(17, graph)).to_vec()
}

/// `y = x OPERATOR of`, for rows of four numbers.
fn unary(operator: &str, of: f32) -> Vec<u8> {
    let mut graph = graph(&[], vec![node(operator, &["x", "w"], &["y"])], &[]);
    graph.input = vec![value("x", FLOAT, &["N", "4"])];
    graph.output = vec![value("y", FLOAT, &["N", "4"])];
    graph.initializer = vec![weights("w", &[1], &[of])];
    bytes(&model(17, graph)).to_vec()
}

/// One hidden layer: rows of 48 numbers to rows of 24.
fn perceptron() -> Vec<u8> {
    let nodes = vec![
        node("MatMul", &["x", "w"], &["h"]),
        node("Relu", &["h"], &["r"]),
        node("MatMul", &["r", "v"], &["y"]),
    ];
    let mut graph = graph(&[], nodes, &[]);
    graph.input = vec![value("x", FLOAT, &["N", "48"])];
    graph.output = vec![value("y", FLOAT, &["N", "24"])];
    let mut dice = Dice(3);
    graph.initializer = vec![
        weights("w", &[48, 96], &numbers(&mut dice, 48 * 96)),
        weights("v", &[96, 24], &numbers(&mut dice, 96 * 24)),
    ];
    bytes(&model(17, graph)).to_vec()
}

/// One number, [`WIDE`] times.
fn wide() -> Vec<u8> {
    let mut graph = graph(&[], vec![node("Mul", &["x", "w"], &["y"])], &[]);
    graph.input = vec![value("x", FLOAT, &["1"])];
    graph.output = vec![value("y", FLOAT, &[&WIDE.to_string()])];
    graph.initializer = vec![weights("w", &[WIDE as i64], &vec![1.0; WIDE])];
    bytes(&model(17, graph)).to_vec()
}

/// `total = x + old`, which is the state too.
fn total() -> Vec<u8> {
    let nodes = vec![node("Add", &["x", "old"], &["new"]), node("Identity", &["new"], &["total"])];
    let mut graph = graph(&[], nodes, &[]);
    graph.input = vec![value("x", FLOAT, &["N", "2"]), value("old", FLOAT, &["N", "2"])];
    graph.output = vec![value("total", FLOAT, &["N", "2"]), value("new", FLOAT, &["N", "2"])];
    bytes(&model(17, graph)).to_vec()
}

const TOTAL: &str = "max_batch_size: 8 sequence_batching {
    oldest { max_candidate_sequences: 16 max_queue_delay_microseconds: 1000 } max_sequence_idle_microseconds: 60000000
    state { input_name: 'old' output_name: 'new' data_type: TYPE_FP32 dims: [ 2 ] } }";

/// `out = (in + 1) + 2 in + 0`.
const ENSEMBLE: &str = "platform: 'ensemble' max_batch_size: 8
    input { name: 'in' data_type: TYPE_FP32 dims: [ 4 ] } output { name: 'out' data_type: TYPE_FP32 dims: [ 4 ] }
    ensemble_scheduling { step [
        { model_name: 'one' input_map { key: 'x' value: 'in' } output_map { key: 'y' value: 'left' } },
        { model_name: 'twice' input_map { key: 'x' value: 'in' } output_map { key: 'y' value: 'right' } },
        { model_name: 'host' input_map { key: 'A' value: 'left' } input_map { key: 'B' value: 'right' }
          output_map { key: 'SUM' value: 'out' } } ] }";

/// Puts a version of a model into the repository.
pub fn put(repository: &Path, name: &str, version: u64, onnx: &[u8], config: &str) {
    let folder = repository.join(name);
    std::fs::create_dir_all(folder.join(version.to_string())).unwrap();
    if !onnx.is_empty() {
        std::fs::write(folder.join(version.to_string()).join("model.onnx"), onnx).unwrap();
    }
    if !config.is_empty() {
        std::fs::write(folder.join("config.pbtxt"), config).unwrap();
    }
}

/// Writes all models.
pub fn fill(repository: &Path) {
    let batched = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 500 } instance_group { count: 2 }";
    put(repository, "sum", 1, &sum(1.0), batched);
    put(repository, "come", 1, &sum(0.0), batched);
    put(
        repository,
        "perceptron",
        1,
        &perceptron(),
        "max_batch_size: 16 dynamic_batching { preferred_batch_size: [ 4, 8 ] }",
    );
    let narrow = "max_batch_size: 8
        dynamic_batching { max_queue_delay_microseconds: 20000 default_queue_policy { max_queue_size: 4 } }";
    put(repository, "narrow", 1, &sum(0.0), narrow);
    // The clients of this model leave long before.
    let left = "max_batch_size: 64 dynamic_batching { max_queue_delay_microseconds: 20000000 }";
    put(repository, "left", 1, &sum(0.0), left);
    put(repository, "host", 1, &sum(0.0), "max_batch_size: 8 instance_group { kind: KIND_CPU }");
    put(repository, "cached", 1, &unary("Mul", 3.0), "max_batch_size: 8 response_cache { enable: true }");
    put(repository, "wide", 1, &wide(), "");
    put(repository, "one", 1, &unary("Add", 1.0), "max_batch_size: 8 dynamic_batching { }");
    put(repository, "twice", 1, &unary("Mul", 2.0), "max_batch_size: 8 dynamic_batching { }");
    put(repository, "total", 1, &total(), TOTAL);
    put(repository, "all", 1, &[], ENSEMBLE);
}

fn numbers(dice: &mut Dice, count: usize) -> Vec<f32> {
    (0..count).map(|_| dice.below(2000) as f32 / 1000.0 - 1.0).collect()
}

/// Questions of several sizes to the models that know nothing of earlier requests, answered by the reference.
pub fn questions() -> Vec<Question> {
    let mut dice = Dice(5);
    let mut questions = Vec::new();
    let subjects: [(&str, Vec<u8>, &[&str], usize); 7] = [
        ("sum", sum(0.0), &["A", "B"], 4),
        ("come", sum(0.0), &["A", "B"], 4),
        ("narrow", sum(0.0), &["A", "B"], 4),
        ("left", sum(0.0), &["A", "B"], 4),
        ("host", sum(0.0), &["A", "B"], 4),
        ("perceptron", perceptron(), &["x"], 48),
        ("cached", unary("Mul", 3.0), &["x"], 4),
    ];
    for (model, onnx, names, width) in subjects {
        let onnx = Model::from_bytes(onnx).unwrap();
        let reference = Session::new(&Device::reference(), &onnx, SessionOptions::new()).unwrap();
        for rows in [1, 2, 3, 5, 8] {
            let input = |name: &&'static str| {
                (*name, Tensor::from_vec(&[rows, width], numbers(&mut dice, rows * width)).unwrap())
            };
            let inputs: Vec<_> = names.iter().map(input).collect();
            let given: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor)).collect();
            let outputs = reference.run(&given).unwrap();
            let expected = outputs.iter().next().unwrap().1.to_vec::<f32>().unwrap();
            questions.push(Question { model, inputs, expected, versioned: model == "sum" });
        }
    }
    for rows in [1, 4, 8] {
        let given = numbers(&mut dice, rows * 4);
        let expected = given.iter().map(|x| (x + 1.0) + 2.0 * x).collect();
        let inputs = vec![("in", Tensor::from_vec(&[rows, 4], given).unwrap())];
        questions.push(Question { model: "all", inputs, expected, versioned: false });
    }
    questions
}
