//! Operators of tensors that are larger than a binding: they are computed in parts, and give what they give on a device with
//! larger bindings.

use std::sync::Arc;

use crate::graph::Value;
use crate::internals::cases::{Sizes, all_cases, compared};
use crate::internals::devices::each;
use crate::internals::random::{RandomGraph, Sketch};
use crate::ops::case::{self, Tolerance};
use crate::ops::{Attr, Attributes, Graph, Node, OWN_DOMAIN};
use crate::{DType, Device, Error, Session, SessionOptions, Tensor, reference};

/// The devices, with bindings of at most this number of bytes.
fn devices(limit: u64) -> impl Iterator<Item = Device> {
    each().into_iter().map(move |device| device.with_target(|own| own.max_binding = limit))
}

fn is_limit(error: &Error) -> bool {
    matches!(error, Error::Limit { in_bytes: true, .. })
}

/// Whether `graph` gives on the device what it gives on the reference; `None` where a tensor stays too large.
fn is_right(graph: &Graph, inputs: &[Tensor], device: &Device) -> Option<Result<(), String>> {
    let expected = reference::run(graph, inputs, false, &crate::Interrupt::new()).unwrap();
    let expected = reference::outputs(graph, &expected).unwrap();
    let options = SessionOptions::default();
    let session = Session::of_graph(device, Arc::new(graph.clone()), options, vec![]).unwrap();
    let names: Vec<String> = graph.inputs.iter().map(|id| graph.value(*id).name.clone()).collect();
    let given: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(inputs).collect();
    let outputs = match session.run(&given) {
        Err(error) if is_limit(&error) => return None,
        outputs => outputs.unwrap(),
    };
    let tolerance = Tolerance { relative: 1e-4, absolute: 1e-4 };
    let wrong = expected.iter().zip(outputs.iter()).find_map(|(expected, (name, actual))| {
        let difference = crate::internals::cases::difference(expected, actual, tolerance)?;
        Some(format!("{name} on {}: {difference}", device.name()))
    });
    Some(wrong.map_or(Ok(()), Err))
}

/// The case of every operator, where a binding holds 128 floats.
#[test]
fn every_case_with_small_bindings() {
    for device in devices(512) {
        let (mut right, mut refused) = (0, 0);
        for case in all_cases() {
            match compared(&case, &device, Sizes::Fixed) {
                Ok(wrong) => {
                    assert_eq!(wrong, None, "{} on {}", case.name, device.name());
                    right += 1;
                }
                Err(error) if is_limit(&error) => refused += 1,
                Err(_) => {}
            }
        }
        // Most cases are small, and some operators are not divided.
        assert!(right > 1900 && refused < 700, "{right} right, {refused} refused on {}", device.name());
    }
}

#[test]
fn random_graphs_with_small_bindings() {
    let mut right = 0;
    for seed in 0..200u32 {
        let choices: Vec<u32> = (0..12).map(|i| seed.wrapping_mul(2_654_435_761).rotate_left(i)).collect();
        let random = RandomGraph::new(&choices);
        for device in devices(32) {
            if let Some(outcome) = is_right(&random.graph, &random.inputs(), &device) {
                assert_eq!(outcome, Ok(()), "{seed}");
                right += 1;
            }
        }
    }
    assert!(right > 10, "{right}");
}

type Build = fn(&mut Sketch) -> Vec<Tensor>;

fn input(sketch: &mut Sketch, shape: &[usize]) -> (crate::graph::ValueId, Tensor) {
    let name = format!("in{}", sketch.graph.inputs.len());
    (sketch.input(&name), case::random(shape))
}

fn indices(sketch: &mut Sketch) -> crate::graph::ValueId {
    let id = sketch.input("in0");
    sketch.graph.values[id.index()].dtype = Some(DType::I64);
    id
}

/// An axis attribute.
fn axis(axis: i64) -> [(&'static str, Attr); 1] {
    [("axis", Attr::Int(axis))]
}

const GRAPHS: &[(&str, Build)] = &[
    ("a table of embeddings", |s| {
        let table = s.constant(case::random(&[1000, 16]));
        let ids = indices(s);
        let rows = s.node("Gather", &axis(0), &[table, ids]);
        s.graph.outputs.push(rows);
        vec![case::values(&[2, 3], &[0i64, -1, 999, 500, 63, 64])]
    }),
    ("a table that is read as weights too", |s| {
        let table = s.constant(case::random(&[1024, 16]));
        let ids = indices(s);
        let rows = s.node("Gather", &axis(0), &[table, ids]);
        let turned = s.node("Transpose", &[], &[table]);
        let logits = s.node("MatMul", &[], &[rows, turned]);
        s.graph.outputs.push(logits);
        vec![case::values(&[1, 3], &[7i64, -1, 990])]
    }),
    ("attention of several heads", |s| {
        let (q, of_q) = input(s, &[6, 32, 8]);
        let (k, of_k) = input(s, &[6, 8, 32]);
        let (v, of_v) = input(s, &[6, 32, 8]);
        let scores = s.node("MatMul", &[], &[q, k]);
        let apart = s.constant(case::list(&[6, 32, 4, 8]));
        let together = s.constant(case::list(&[6, 32, 32]));
        let apart = s.node("Reshape", &[], &[scores, apart]);
        let bias = s.constant(case::random(&[6, 32, 1, 8]));
        let apart = s.node("Add", &[], &[apart, bias]);
        let scores = s.node("Reshape", &[], &[apart, together]);
        let shares = s.node("Softmax", &[], &[scores]);
        let mixed = s.node("MatMul", &[], &[shares, v]);
        s.graph.outputs.push(mixed);
        vec![of_q, of_k, of_v]
    }),
    ("convolutions", |s| {
        let (x, of_x) = input(s, &[1, 8, 32, 32]);
        let padded = [("pads", Attr::Ints(vec![1; 4]))];
        let (w, b) = (s.constant(case::random(&[16, 8, 3, 3])), s.constant(case::random(&[16])));
        let y = s.node("Conv", &padded, &[x, w, b]);
        let y = s.node("Relu", &[], &[y]);
        let by_channel = [padded[0].clone(), ("group", Attr::Int(16))];
        let w = s.constant(case::random(&[16, 1, 3, 3]));
        let y = s.node("Conv", &by_channel, &[y, w]);
        let in_groups = [padded[0].clone(), ("group", Attr::Int(4))];
        let w = s.constant(case::random(&[32, 4, 3, 3]));
        let y = s.node("Conv", &in_groups, &[y, w]);
        let pool = [("kernel_shape", Attr::Ints(vec![2; 2])), ("strides", Attr::Ints(vec![2; 2]))];
        let y = s.node("MaxPool", &pool, &[y]);
        let norm = [1.0, 0.5, 0.0, 2.0].map(|v| s.constant(case::values(&[32], &[v as f32; 32])));
        let y = s.node("BatchNormalization", &[], &[y, norm[0], norm[1], norm[2], norm[3]]);
        let mean = s.node("GlobalAveragePool", &[], &[y]);
        s.graph.outputs.extend([y, mean]);
        vec![of_x]
    }),
    ("a product of long rows", |s| {
        let ((a, of_a), (b, of_b)) = (input(s, &[4, 512]), input(s, &[512, 8]));
        let y = s.node("MatMul", &[], &[a, b]);
        let best = s.node("ArgMax", &axis(1), &[y]);
        s.graph.outputs.extend([y, best]);
        vec![of_a, of_b]
    }),
    ("pixels that are shuffled", |s| {
        let (x, of_x) = input(s, &[1, 12, 8, 8]);
        let crd = [("blocksize", Attr::Int(2)), ("mode", Attr::String("CRD".into()))];
        let y = s.node("DepthToSpace", &crd, &[x]);
        let scales = s.constant(case::values(&[4], &[1.0f32, 1.0, 2.0, 2.0]));
        let none = s.constant(case::values::<f32>(&[0], &[]));
        let y = s.node("Resize", &[], &[y, none, scales]);
        let y = s.node("Sigmoid", &[], &[y]);
        s.graph.outputs.push(y);
        vec![of_x]
    }),
    ("a table of bytes for each channel", |s| {
        let x = s.input("in0");
        s.graph.values[x.index()].dtype = Some(DType::U8);
        let tables: Vec<u8> = (0..8 * 256).map(|i| (i * 7 + i / 256) as u8).collect();
        let tables = s.constant(case::values(&[8 * 256], &tables));
        let starts = (0..8).map(|channel| channel * 256).collect::<Vec<i32>>();
        let starts = s.constant(case::values(&[8, 1, 1], &starts));
        let y = s.graph.add_value(Value { name: "y".into(), ..Value::default() });
        let names = ("y".into(), format!("{OWN_DOMAIN}.ByteTable"), 1);
        let inputs = [x, tables, starts].map(Some).to_vec();
        let node = Node::parse(names, Attributes::default(), inputs, (vec![Some(y)], &[true]));
        s.graph.nodes.push(node.unwrap());
        s.graph.outputs.push(y);
        vec![case::converted(&case::integers(&[2, 8, 16, 8], 0, 256), DType::U8)]
    }),
    ("axes that are exchanged", |s| {
        let (x, of_x) = input(s, &[64, 32, 4]);
        let perm = [("perm", Attr::Ints(vec![1, 0, 2]))];
        let y = s.node("Transpose", &perm, &[x]);
        let y = s.node("Tanh", &[], &[y]);
        let sums = s.constant(case::list(&[0]));
        let sum = s.node("ReduceSum", &[], &[y, sums]);
        s.graph.outputs.extend([y, sum]);
        vec![of_x]
    }),
    ("joined and split", |s| {
        let ((a, of_a), (b, of_b)) = (input(s, &[64, 16]), input(s, &[192, 16]));
        let joined = s.node("Concat", &axis(0), &[a, b]);
        let doubled = s.node("Add", &[], &[joined, joined]);
        let ends = [("starts", 64), ("ends", 128), ("axes", 0)].map(|(_, n)| s.constant(case::list(&[n])));
        let middle = s.node("Slice", &[], &[doubled, ends[0], ends[1], ends[2]]);
        let (first, last) = (s.constant(case::list(&[3])), s.constant(case::list(&[9])));
        let columns = s.constant(case::list(&[1]));
        let columns = s.node("Slice", &[], &[doubled, first, last, columns]);
        let side = s.node("Concat", &axis(1), &[columns, columns]);
        s.graph.outputs.extend([doubled, middle, columns, side]);
        vec![of_a, of_b]
    }),
    ("rows that are normalised", |s| {
        let (x, of_x) = input(s, &[128, 32]);
        let (scale, bias) = (s.constant(case::random(&[32])), s.constant(case::random(&[32])));
        let y = s.node("LayerNormalization", &axis(-1), &[x, scale, bias]);
        let zero = s.constant(case::values(&[], &[0.0f32]));
        let positive = s.node("Greater", &[], &[y, zero]);
        let y = s.node("Where", &[], &[positive, y, x]);
        let wide = s.constant(case::list(&[2, 128, 32]));
        let y = s.node("Expand", &[], &[y, wide]);
        let last = s.constant(case::list(&[-1]));
        let mean = s.node("ReduceMean", &[], &[y, last]);
        s.graph.outputs.extend([y, mean]);
        vec![of_x]
    }),
];

/// Bindings of 4 KiB; the tensors of these graphs take up to 64 KiB. Each runs, on every device.
#[test]
fn graphs_of_large_tensors() {
    for (name, build) in GRAPHS {
        let mut sketch = Sketch::default();
        let inputs = build(&mut sketch);
        for device in devices(4096) {
            let outcome = is_right(&sketch.graph, &inputs, &device);
            assert_eq!(outcome, Some(Ok(())), "{name}");
        }
    }
}

/// Each of many transpositions takes thousands of nodes.
#[test]
fn a_graph_does_not_grow_without_bound() {
    let mut sketch = Sketch::default();
    let mut x = sketch.input("in0");
    for _ in 0..2000 {
        let turned = sketch.node("Transpose", &[], &[x]);
        x = sketch.node("Softmax", &[], &[turned]);
    }
    sketch.graph.outputs.push(x);
    for device in devices(256) {
        let graph = Arc::new(sketch.graph.clone());
        let session = Session::of_graph(&device, graph, SessionOptions::default(), vec![]).unwrap();
        let error = session.plan(&[("in0", &case::random(&[64, 64]))]).unwrap_err();
        assert!(is_limit(&error), "{error}");
    }
}

/// A weight that is read in parts, or moved and packed, is not on the device as a whole too.
#[test]
fn weights_are_uploaded_once() {
    let mut sketch = Sketch::default();
    let (x, table) = (sketch.input("in0"), sketch.constant(case::random(&[1024, 16])));
    let turned = sketch.node("Transpose", &[], &[table]);
    let y = sketch.node("MatMul", &[], &[x, turned]);
    sketch.graph.outputs.push(y);
    for limit in [4096, 1 << 20] {
        for device in devices(limit) {
            let graph = Arc::new(sketch.graph.clone());
            let session = Session::of_graph(&device, graph, SessionOptions::default(), vec![]).unwrap();
            let before = device.counters().weight_bytes;
            session.run(&[("in0", &case::random(&[1, 16]))]).unwrap();
            let bytes = device.counters().weight_bytes - before;
            assert!(bytes < 5 * (1024 * 16), "{bytes} bytes with bindings of {limit} on {}", device.name());
        }
    }
}

/// An index outside of a table that is read in parts is reported as it is for any other.
#[test]
fn an_index_outside_of_a_large_table_is_an_error() {
    let mut sketch = Sketch::default();
    let (table, ids) = (sketch.constant(case::random(&[1000, 16])), indices(&mut sketch));
    let rows = sketch.node("Gather", &[], &[table, ids]);
    sketch.graph.outputs.push(rows);
    for device in devices(4096) {
        let graph = Arc::new(sketch.graph.clone());
        let session = Session::of_graph(&device, graph, SessionOptions::default(), vec![]).unwrap();
        for wrong in [1000i64, -1001] {
            let ids = case::values(&[2], &[3, wrong]);
            let error = session.run(&[("in0", &ids)]).unwrap_err().to_string();
            assert!(
                error.contains("Gather") && error.contains(&format!("index {wrong} in 'in0'")),
                "{error}"
            );
        }
        let ids = case::values(&[2], &[3i64, -1000]);
        assert_eq!(session.run(&[("in0", &ids)]).unwrap()[0].dtype(), DType::F32);
    }
}

/// Scores of attention that no binding holds: a verification follows the values around them.
#[test]
fn values_that_no_binding_holds_are_verified_around() {
    use crate::onnx::builder::*;
    let nodes = vec![
        node("MatMul", &["q", "k"], &["scores"]),
        node("Softmax", &["scores"], &["shares"]),
        node("MatMul", &["shares", "v"], &["mixed"]),
        node("Relu", &["mixed"], &["y"]),
    ];
    let inputs = [("q", ["8", "16", "4"]), ("k", ["8", "4", "16"]), ("v", ["8", "16", "4"])];
    let mut main = graph(&[], nodes, &[]);
    main.input = inputs.iter().map(|(name, dims)| value(name, FLOAT, dims)).collect();
    main.output = vec![value("y", FLOAT, &["8", "16", "4"])];
    let model = crate::Model::from_bytes(bytes(&model(21, main))).unwrap();
    let given = [("q", [8, 16, 4]), ("k", [8, 4, 16]), ("v", [8, 16, 4])];
    let given = given.map(|(name, shape)| (name, case::random(&shape)));
    let given: Vec<(&str, &Tensor)> = given.iter().map(|(name, tensor)| (*name, tensor)).collect();
    for device in devices(4096) {
        let found = crate::verify(&device, &model, &given, crate::Tolerances::default()).unwrap();
        assert!(found.divergence.is_none(), "{:?}", found.divergence);
        let names: Vec<&str> = found.values.iter().map(|value| value.name.as_str()).collect();
        assert!(names.contains(&"mixed") && names.contains(&"y"), "{names:?}");
    }
}
