//! What work says that it takes of the host's memory, against what an allocator counts. This is a process of its own, in which
//! one test runs at a time.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sardonyx::Model;
use sardonyx::internals::evaluations::{self, Evaluation};
use sardonyx::internals::refusing;
use sardonyx_testing::onnx::build::*;
use sardonyx_testing::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, SparseTensorProto, StringStringEntryProto,
    TensorProto,
};

/// Counts the bytes that are allocated now, and the most that ever were.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let now = NOW.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(now, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there while one is copied into the other.
        add(size);
        let new = unsafe { System.realloc(place, layout, size) };
        NOW.fetch_sub(layout.size(), Relaxed);
        new
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most bytes that `act` has allocated at the same time.
fn peak(act: impl FnOnce()) -> u64 {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    act();
    (PEAK.load(Relaxed) - before) as u64
}

/// The bytes of shapes, strides and lists of axes, and of threads.
const LISTS: u64 = 4 << 10;

/// The operators of which an evaluation took more than its estimate, each with the worst evaluation.
#[derive(Default)]
struct TooLow(BTreeMap<String, (u64, String)>);

impl TooLow {
    fn measure(&mut self, node: &Evaluation) {
        node.run();
        let taken = node.inputs + peak(|| node.run());
        let over = taken.saturating_sub(node.estimate + LISTS);
        if over > self.0.get(&node.op_type).map_or(0, |(over, _)| *over) {
            let what =
                format!("{}: takes {taken} bytes, says {}, inputs {}", node.name, node.estimate, node.inputs);
            self.0.insert(node.op_type.clone(), (over, what));
        }
    }
}

#[test]
fn estimates_of_evaluations_hold() {
    let _alone = alone();
    let mut low = TooLow::default();
    let mut count = 0;
    evaluations::of_cases(&mut |node| {
        count += 1;
        low.measure(node);
    });
    assert!(count > 500, "{count}");
    assert!(low.0.is_empty(), "{:#?}", low.0.values().collect::<Vec<_>>());
}

/// The evaluations of ONNX's own cases.
#[cfg(feature = "test-data")]
#[test]
fn estimates_of_evaluations_hold_in_the_suite() {
    use sardonyx::{Device, Session, SessionOptions, Tensor};
    let _alone = alone();
    let (mut low, mut count) = (TooLow::default(), 0);
    let cases = std::fs::read_dir("data/onnx/node").unwrap().map(|entry| entry.unwrap().path());
    for case in cases {
        let Ok(model) = Model::load(case.join("model.onnx")) else { continue };
        let Ok(session) = Session::new(&Device::reference(), &model, SessionOptions::new()) else { continue };
        let tensor = |i: usize| {
            Tensor::from_onnx(&std::fs::read(case.join(format!("test_data_set_0/input_{i}.pb"))).ok()?).ok()
        };
        let inputs: Vec<Tensor> = (0..).map_while(tensor).collect();
        let names = model.inputs().iter().map(|info| info.name.as_str());
        let named: Vec<(&str, &Tensor)> = names.zip(&inputs).collect();
        // What the reference refuses evaluates nothing.
        let measured = evaluations::of_session(&session, &named, &mut |node| low.measure(node));
        count += usize::from(measured.is_ok());
    }
    assert!(count > 1000, "{count}");
    assert!(low.0.is_empty(), "{:#?}", low.0.values().collect::<Vec<_>>());
}

/// Files that take far more memory than bytes, each of another kind.
fn files() -> Vec<(&'static str, bytes::Bytes)> {
    const MANY: usize = 20_000;
    let name = |i: usize| if i == 0 { "x".into() } else { format!("t{i}") };
    let chain = |count: usize| -> Vec<NodeProto> {
        (0..count).map(|i| node("Relu", &[&name(i)], &[&name(i + 1)])).collect()
    };
    let identity = || node("Identity", &["x"], &["y"]);
    let of_graph = |change: &dyn Fn(&mut GraphProto)| {
        let mut main = graph(&["x"], vec![identity()], &["y"]);
        change(&mut main);
        bytes(&model(21, main))
    };
    let of_node = |change: &dyn Fn(&mut NodeProto)| of_graph(&|main| change(&mut main.node[0]));
    let of_tensor = |tensor: TensorProto| of_graph(&|main| main.initializer = vec![tensor.clone()]);
    let calls = || {
        let body = (0..50).map(|i| node("Relu", &[&name(i)], &[&name(i + 1)])).collect();
        let call = |i: usize| node("f", &[&format!("c{i}")], &[&format!("c{}", i + 1)]).of("local");
        let mut nodes = vec![node("Identity", &["x"], &["c0"])];
        nodes.extend((0..100).map(call));
        nodes.push(node("Identity", &["c100"], &["y"]));
        let mut proto = model(21, graph(&["x"], nodes, &["y"]));
        let imports = vec![import("", 21)];
        proto.functions =
            vec![FunctionProto { opset_import: imports, ..function("f", &["x"], body, &["t50"]) }];
        proto.opset_import.push(import("local", 1));
        bytes(&proto)
    };
    let sparse = SparseTensorProto {
        values: Some(weights("s", &[1], &[1.0])),
        indices: Some(TensorProto { int64_data: vec![7], ..empty("", INT64, &[1]) }),
        dims: vec![MANY as i64],
    };
    let entry = StringStringEntryProto { key: "k".into(), value: "v".into() };
    let texts = vec![bytes::Bytes::from_static(b"onyx"); MANY];
    let dims: Vec<String> = (0..60).map(|i| format!("d{i}")).collect();
    let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
    vec![
        ("nodes", bytes(&model(21, graph(&["x"], chain(MANY), &[&name(MANY)])))),
        ("attributes", of_node(&|node| node.attribute = vec![AttributeProto::default(); MANY])),
        ("inputs of a node", of_node(&|node| node.input.extend(vec![String::new(); MANY]))),
        ("outputs of a node", of_node(&|node| node.output.extend((0..MANY).map(|i| format!("o{i}"))))),
        ("integers of an attribute", of_node(&|node| node.attribute.push(ints("a", &[1; MANY])))),
        (
            "texts of an attribute",
            of_node(&|node| {
                node.attribute.push(AttributeProto { strings: texts.clone(), ..ints("a", &[]) });
            }),
        ),
        (
            "integers",
            of_tensor(TensorProto { int64_data: vec![1; MANY], ..empty("w", INT64, &[MANY as i64]) }),
        ),
        ("floats", of_tensor(weights("w", &[MANY as i64], &[0.5; MANY]))),
        ("texts", of_tensor(TensorProto { string_data: texts.clone(), ..empty("w", 8, &[MANY as i64]) })),
        (
            "tensors",
            of_graph(&|main| {
                main.initializer = (0..MANY).map(|i| weights(&format!("w{i}"), &[1], &[0.5])).collect()
            }),
        ),
        ("declared values", of_graph(&|main| main.value_info = vec![value("v", FLOAT, &dims); MANY / 50])),
        ("properties", of_graph(&|main| main.metadata_props = vec![entry.clone(); MANY])),
        ("sparse", of_graph(&|main| main.sparse_initializer = vec![sparse.clone()])),
        ("calls", calls()),
    ]
}

#[test]
fn import_asks_for_what_it_takes() {
    /// What is made whatever the file holds.
    const ANY_FILE: u64 = 64 << 10;
    let _alone = alone();
    let mut low = Vec::new();
    for (name, file) in files() {
        let load = || Model::from_bytes(file.clone()).map(drop);
        load().ok();
        let mut asked = 0;
        // The test answers in the host's place, so that no question takes memory itself.
        let taken = peak(|| asked = refusing(None, load).1.bytes);
        println!("{name}: takes {taken} bytes, asks for {asked}");
        if taken > asked + ANY_FILE {
            low.push(format!("{name}: takes {taken} bytes, asks for {asked}"));
        }
    }
    assert!(low.is_empty(), "{low:#?}");
}

/// Passes, and a plan with open dimensions: what several questions ask for, together.
#[test]
fn planning_asks_for_what_it_takes() {
    use sardonyx::{Device, Session, SessionOptions, Tensor};
    const NODES: usize = 3000;
    let _alone = alone();
    let name = |i: usize| if i == 0 { "x".into() } else { format!("t{i}") };
    // Kernels of their own, and chains that are fused.
    let make = |i: usize| match i % 3 {
        0 => node("MatMul", &[&name(i), "w"], &[&name(i + 1)]),
        1 => node("Softmax", &[&name(i)], &[&name(i + 1)]),
        _ => node("Relu", &[&name(i)], &[&name(i + 1)]),
    };
    let mut main = graph(&[], (0..NODES).map(make).collect(), &[&name(NODES)]);
    main.input = vec![value("x", FLOAT, &["n", "8"])];
    main.initializer = vec![weights("w", &[8, 8], &[0.5; 64])];
    let model = Model::from_bytes(bytes(&model(21, main))).unwrap();
    let x = Tensor::zeros(sardonyx::DType::F32, &[4, 8]).unwrap();
    let device = Device::noop();
    let (mut session, mut asked) = (None, 0);
    let taken = peak(|| {
        let made = || Session::new(&device, &model, SessionOptions::new()).unwrap();
        let (made, questions) = refusing(None, made);
        (session, asked) = (Some(made), questions.bytes);
    });
    println!("passes: take {taken} bytes, ask for {asked}");
    assert!(taken <= asked, "passes take {taken} bytes, and ask for {asked}");
    let session = session.unwrap();
    let taken = peak(|| asked = refusing(None, || drop(session.plan(&[("x", &x)]).unwrap())).1.bytes);
    println!("planning: takes {taken} bytes, asks for {asked}");
    assert!(taken <= asked, "planning takes {taken} bytes, and asks for {asked}");
}
