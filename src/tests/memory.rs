//! Memory that runs out, at each point in turn: whatever is asked of the host and allocated on the device between a file and
//! its outputs fails once. The error is typed and names what lacks memory, nothing leaks, and the same objects are right
//! afterwards.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::internals::{devices, let_allocations, refusing};
use crate::onnx::builder::*;
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use crate::{
    Binding, Device, DeviceTensor, Error, FileAccess, LoadOptions, Model, Result, Session, SessionOptions,
    Tensor,
};

/// A model in a file, and an input for it.
struct Subject {
    name: &'static str,
    path: PathBuf,
    files: FileAccess,
    x: Tensor,
    /// Whether a run is one plan, which the host program can record.
    one_plan: bool,
    _folder: tempfile::TempDir,
}

const FLOAT16: i32 = 10;
const BOOL: i32 = 9;

/// `count` numbers between -1 and 1 that differ.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 37 % 101) as f32 / 51.0 - 1.0).collect()
}

fn float_weights(name: &str, dims: &[i64]) -> TensorProto {
    weights(name, dims, &numbers(dims.iter().product::<i64>() as usize))
}

fn half_weights(name: &str, dims: &[i64]) -> TensorProto {
    let count = dims.iter().product::<i64>() as usize;
    let bytes: Vec<u8> =
        numbers(count).iter().flat_map(|&v| half::f16::from_f32(v / 4.0).to_le_bytes()).collect();
    TensorProto { raw_data: Some(bytes.into()), ..empty(name, FLOAT16, dims) }
}

fn subject(name: &'static str, main: GraphProto, x: Tensor) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes(&model(21, main))).unwrap();
    Subject { name, path, files: FileAccess::Map, x, one_plan: true, _folder: folder }
}

fn graph_of(nodes: Vec<NodeProto>, x: (i32, &[&str]), held: Vec<TensorProto>) -> GraphProto {
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("x", x.0, x.1)];
    main.initializer = held;
    main
}

/// A convolution with a normalisation that folds into its weights.
fn convolution() -> Subject {
    let norm = ["scale", "shift", "mean", "variance"];
    let nodes = vec![
        node("Conv", &["x", "w"], &["c"]).with(ints("pads", &[1, 1, 1, 1])),
        node("BatchNormalization", &["c", norm[0], norm[1], norm[2], norm[3]], &["n"]),
        node("Relu", &["n"], &["y"]),
    ];
    let mut held = vec![float_weights("w", &[8, 3, 3, 3])];
    held.extend(norm.map(|name| weights(name, &[8], &[0.5; 8])));
    let x = Tensor::from_vec(&[1, 3, 6, 6], numbers(108)).unwrap();
    subject("convolution", graph_of(nodes, (FLOAT, &["1", "3", "6", "6"]), held), x)
}

/// Attention and a perceptron with float16 weights.
fn transformer() -> Subject {
    let nodes = vec![
        node("LayerNormalization", &["x", "g", "b"], &["l"]),
        node("MatMul", &["l", "wq"], &["q"]),
        node("MatMul", &["l", "wk"], &["k"]),
        node("Transpose", &["k"], &["kt"]).with(ints("perm", &[0, 2, 1])),
        node("MatMul", &["q", "kt"], &["s"]),
        node("Softmax", &["s"], &["p"]),
        node("MatMul", &["p", "l"], &["a"]),
        node("Add", &["x", "a"], &["r"]),
        node("MatMul", &["r", "w1"], &["h"]),
        node("Gelu", &["h"], &["e"]),
        node("MatMul", &["e", "w2"], &["y"]),
    ];
    let held = vec![
        half_weights("g", &[16]),
        half_weights("b", &[16]),
        half_weights("wq", &[16, 16]),
        half_weights("wk", &[16, 16]),
        half_weights("w1", &[16, 32]),
        half_weights("w2", &[32, 16]),
    ];
    let x: Vec<half::f16> = numbers(96).into_iter().map(half::f16::from_f32).collect();
    let x = Tensor::from_vec(&[1, 6, 16], x).unwrap();
    subject("transformer", graph_of(nodes, (FLOAT16, &["1", "6", "16"]), held), x)
}

/// A constant that a pass computes, and one that planning knows.
fn folded() -> Subject {
    let shape = TensorProto { int64_data: vec![12, 12], ..empty("shape", INT64, &[2]) };
    let nodes = vec![
        node("ConstantOfShape", &["shape"], &["zeros"]),
        node("MatMul", &["zeros", "w"], &["product"]),
        node("Add", &["product", "w"], &["sum"]),
        node("Shape", &["x"], &["sizes"]),
        node("Expand", &["one", "sizes"], &["ones"]),
        node("Add", &["x", "ones"], &["z"]),
        node("MatMul", &["z", "sum"], &["y"]),
    ];
    let held = vec![shape, float_weights("w", &[12, 12]), weights("one", &[1], &[1.0])];
    let x = Tensor::from_vec(&[9, 12], numbers(108)).unwrap();
    subject("folded", graph_of(nodes, (FLOAT, &["9", "12"]), held), x)
}

/// Weights in a file beside the model, as int8.
fn external_data(files: FileAccess) -> Subject {
    let nodes = vec![node("MatMul", &["x", "w"], &["y"])];
    let w = external("w", &[20, 10], &[("location", "w.bin")]);
    let x = Tensor::from_vec(&[4, 20], numbers(80)).unwrap();
    let subject = subject("external data", graph_of(nodes, (FLOAT, &["4", "20"]), vec![w]), x);
    let bytes: Vec<u8> = numbers(200).iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(subject.path.with_file_name("w.bin"), bytes).unwrap();
    Subject { files, ..subject }
}

/// Indices and wide integers, about which kernels report, and a dimension that is open.
fn wide_integers() -> Subject {
    let nodes = vec![
        node("Mul", &["x", "x"], &["squares"]),
        node("Gather", &["w", "squares"], &["rows"]),
        node("ReduceSum", &["rows"], &["y"]).with(int("keepdims", 1)),
    ];
    let x = Tensor::from_vec(&[100], (0..100).map(|i| i % 7).collect::<Vec<i64>>()).unwrap();
    subject("wide integers", graph_of(nodes, (INT64, &["n"]), vec![float_weights("w", &[40, 8])]), x)
}

/// What has been made before memory ran out.
#[derive(Default)]
struct Reached {
    model: Option<Model>,
    session: Option<Session>,
    binding: Option<Binding>,
}

fn made<T>(place: &mut Option<T>, make: impl FnOnce() -> Result<T>) -> Result<&mut T> {
    if place.is_none() {
        *place = Some(make()?);
    }
    Ok(place.as_mut().unwrap())
}

/// Loads, plans, uploads, runs in every way, binds and records; what is made already is used. Returns each run's output.
fn everything(made_before: &mut Reached, subject: &Subject, device: &Device) -> Result<Vec<Tensor>> {
    let Reached { model, session, binding } = made_before;
    let load = || Model::load_with(&subject.path, LoadOptions::new().files(subject.files));
    let model = made(model, load)?;
    let session = &*made(session, || Session::new(device, model, SessionOptions::new()))?;
    let x = Tensor::from_raw(subject.x.dtype(), subject.x.shape(), subject.x.bytes().to_vec())?;
    let inputs = [("x", &x)];
    session.prepare(&[("x", x.shape())])?;
    let mut outputs = vec![
        session.run(&inputs)?["y"].clone(),
        pollster::block_on(session.run_async(&inputs))?["y"].clone(),
        session.run_to_device(&inputs)?["y"].read()?,
        session.run(&[("x", &DeviceTensor::new(device, &x)?)])?["y"].clone(),
    ];
    let Some((_, queue)) = device.wgpu().filter(|_| subject.one_plan) else { return Ok(outputs) };
    let binding = made(binding, || session.bind().input("x", &x).build())?;
    binding.set("x", &x)?;
    binding.run()?;
    outputs.push(binding.read("y")?);
    let mut encoder = device.encoder()?;
    binding.record(&mut encoder)?;
    queue.submit([encoder.finish()]);
    outputs.push(binding.read("y")?);
    Ok(outputs)
}

/// Where memory runs out.
#[derive(Clone, Copy, Debug)]
enum Lack {
    Host,
    Device,
}

/// What `everything` returns where the question or the allocation with this number fails, and whether that was reached.
fn failing(
    lack: Lack,
    at: usize,
    device: &Device,
    act: impl FnOnce() -> Result<Vec<Tensor>>,
) -> (Result<Vec<Tensor>>, bool) {
    match lack {
        Lack::Host => {
            let (outcome, asked) = refusing(Some(at), act);
            (outcome, asked.count > at)
        }
        Lack::Device => {
            let_allocations(device, at);
            let outcome = act();
            let_allocations(device, usize::MAX);
            let reached = outcome.is_err();
            (outcome, reached)
        }
    }
}

/// Lets memory run out at each point in turn, on a device that `open` gives. Returns what lacked memory.
fn each_point(subject: &Subject, lack: Lack, open: &dyn Fn() -> Device) -> BTreeSet<String> {
    let computes = open().adapter().is_none_or(|adapter| adapter.backend != "noop");
    let mut whole = Reached::default();
    let device = open();
    let expected = everything(&mut whole, subject, &device).unwrap();
    let held = whole.session.as_ref().map(Session::memory).unwrap();
    drop((whole, device));
    let mut lacked = BTreeSet::new();
    for at in 0.. {
        let point = format!("{}, {lack:?} {at}, after {:?}", subject.name, lacked.last());
        let device = open();
        let before = device.memory_bytes();
        let mut made = Reached::default();
        let (outcome, reached) = failing(lack, at, &device, || everything(&mut made, subject, &device));
        match outcome {
            Ok(_) if reached => panic!("{point}: nothing has failed"),
            Ok(_) => break,
            Err(Error::OutOfMemory { what, bytes }) => {
                assert!(!what.is_empty() && (bytes > 0 || matches!(lack, Lack::Device)), "{point}: {what}");
                lacked.insert(what);
            }
            Err(error) => panic!("{point}: {error}"),
        }
        let outputs = everything(&mut made, subject, &device).unwrap();
        assert!(!computes || outputs == expected, "{point}");
        let now = made.session.as_ref().map(Session::memory).unwrap();
        assert_eq!(
            (now.weights, now.arena, now.plans),
            (held.weights, held.arena, held.plans),
            "{point}, {lacked:?}"
        );
        drop(made);
        assert_eq!(device.memory_bytes(), before, "{point}");
    }
    lacked
}

/// Two iterations of a loop, a branch that follows from data, and the elements of the result that are not 0.
fn segmented() -> Subject {
    let declared = |graph: GraphProto, inputs: Vec<ValueInfoProto>, outputs: Vec<ValueInfoProto>| {
        GraphProto { input: inputs, output: outputs, ..graph }
    };
    let body = vec![node("Add", &["v", "x"], &["next"]), node("Identity", &["c"], &["again"])];
    let body = declared(
        graph(&[], body, &[]),
        vec![value("i", INT64, &[]), value("c", BOOL, &[]), value("v", FLOAT, &["n"])],
        vec![value("again", BOOL, &[]), value("next", FLOAT, &["n"])],
    );
    let branch = |op: &str| {
        let name = format!("of_{op}");
        declared(
            graph(&[], vec![node(op, &["sum"], &[&name])], &[]),
            vec![],
            vec![value(&name, FLOAT, &["n"])],
        )
    };
    let nodes = vec![
        node("Loop", &["twice", "", "x"], &["sum"]).with(subgraph("body", body)),
        node("ReduceMax", &["sum"], &["most"]).with(int("keepdims", 0)),
        node("Greater", &["most", "zero"], &["some"]),
        node("If", &["some"], &["chosen"])
            .with(subgraph("then_branch", branch("Relu")))
            .with(subgraph("else_branch", branch("Neg"))),
        node("NonZero", &["chosen"], &["places"]),
        node("Cast", &["places"], &["p"]).with(int("to", i64::from(FLOAT))),
        node("ReduceSum", &["p"], &["q"]).with(int("keepdims", 0)),
        node("Add", &["chosen", "q"], &["y"]),
    ];
    let twice = TensorProto { int64_data: vec![2], ..empty("twice", INT64, &[]) };
    let held = vec![twice, weights("zero", &[], &[0.0])];
    let x = Tensor::from_vec(&[80], numbers(80)).unwrap();
    Subject { one_plan: false, ..subject("segmented", graph_of(nodes, (FLOAT, &["n"]), held), x) }
}

fn subjects() -> Vec<Subject> {
    let files = [FileAccess::Map, FileAccess::Read];
    let all = [convolution(), transformer(), folded(), wide_integers(), segmented()];
    all.into_iter().chain(files.map(external_data)).collect()
}

/// The device that only validates is a new one for each point, so that its pipelines and weights are made each time.
#[test]
fn memory_runs_out_at_each_point() {
    let mut lacked = BTreeSet::new();
    for subject in subjects() {
        for lack in [Lack::Host, Lack::Device] {
            lacked.extend(each_point(&subject, lack, &Device::noop));
        }
    }
    let parts = [
        "the file ",
        "the model's messages",
        "tensor 'w': its elements",
        "the pass 'fold'",
        "the new weights",
        "node 'product' (MatMul): its work",
        "the facts",
        "the program",
        "the arena's layout",
        "kernel ",
        "parameters",
        "weights",
        "constant 'w'",
        "bind groups",
        "the fault words",
        "the upload of input 'x'",
        "the upload of a tensor",
        "the run",
        "read-back",
        "the pass",
    ];
    for part in parts {
        assert!(lacked.iter().any(|what| what.contains(part)), "nothing asks for {part}: {lacked:#?}");
    }
}

#[test]
fn memory_runs_out_at_each_point_of_adapters() {
    for device in devices::each() {
        for subject in subjects() {
            for lack in [Lack::Host, Lack::Device] {
                assert!(each_point(&subject, lack, &|| device.clone()).len() > 3, "{}", subject.name);
            }
        }
    }
}

#[test]
fn memory_runs_out_at_each_point_of_the_reference() {
    for subject in subjects() {
        assert!(each_point(&subject, Lack::Host, &Device::reference).len() > 3, "{}", subject.name);
    }
}

#[test]
fn empty_tensors_ask_for_no_elements() {
    let graph = graph_of(vec![node("Relu", &["x"], &["y"])], (FLOAT, &["4096", "0", "4096"]), Vec::new());
    let model = Model::from_bytes(bytes(&model(21, graph))).unwrap();
    let x = Tensor::from_slice::<f32>(&[4096, 0, 4096], &[]).unwrap();
    let session = Session::new(&Device::reference(), &model, SessionOptions::new()).unwrap();
    let (outputs, asked) = refusing(None, || session.run(&[("x", &x)]));
    assert_eq!(outputs.unwrap()["y"].shape(), [4096, 0, 4096]);
    // Facts and plans take a few KiB; an element of each row would take 128 MiB.
    assert!(asked.bytes < 1 << 16, "{asked:?}");
}

#[test]
fn tensors_of_the_caller() {
    let x = Tensor::from_vec(&[80], numbers(80)).unwrap();
    let file = x.to_onnx("x");
    let makes: [(&str, &dyn Fn() -> Result<()>); 8] = [
        ("from_slice", &|| Tensor::from_slice(&[2], &[1i8, 2]).map(drop)),
        ("from_bools", &|| Tensor::from_bools(&[1], &[true]).map(drop)),
        ("zeros", &|| Tensor::zeros(crate::DType::U8, &[3]).map(drop)),
        ("from_onnx", &|| Tensor::from_onnx(&file).map(drop)),
        ("strings", &|| Tensor::zeros(crate::DType::String, &[3]).map(drop)),
        ("to_vec", &|| x.to_vec::<f32>().map(drop)),
        ("to_f64", &|| x.to_f64().map(drop)),
        ("cast", &|| x.cast(crate::DType::I8).map(drop)),
    ];
    for (name, make) in makes {
        let (outcome, asked) = refusing(Some(0), make);
        assert!(
            matches!(outcome, Err(Error::OutOfMemory { bytes: 1.., .. })),
            "{name}: {outcome:?}, {asked:?}"
        );
        make().unwrap();
    }
}
