//! Models that no single plan computes: sizes and branches that follow from data, and subgraphs. Each runs at several sizes in one
//! session, on every device and on the reference, against values that a few lines of Rust compute.

use std::future::Future;
use std::task::{Context, Waker};

use crate::internals::devices;
use crate::onnx::builder::*;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use crate::{
    Device, DeviceOptions, DeviceTensor, Error, Limits, LoadOptions, Model, Select, Session, SessionOptions,
    Tensor, Tolerances, verify,
};

const BOOL: i32 = 9;
const HALF: i32 = 10;

/// A graph with declared inputs and outputs.
fn typed(inputs: Vec<ValueInfoProto>, nodes: Vec<NodeProto>, outputs: Vec<ValueInfoProto>) -> GraphProto {
    GraphProto { input: inputs, output: outputs, ..graph(&[], nodes, &[]) }
}

fn loaded(graph: GraphProto) -> Model {
    let model: ModelProto = model(21, graph);
    Model::from_bytes(bytes(&model)).unwrap()
}

/// A session on each device, and on the reference.
fn sessions(model: &Model) -> impl Iterator<Item = Session> {
    let all = devices::each().into_iter().chain([Device::reference()]);
    all.map(|device| Session::new(&device, model, SessionOptions::default()).unwrap())
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

fn close(actual: &Tensor, shape: &[usize], expected: &[f32]) {
    assert_eq!(actual.shape(), shape);
    let actual = actual.to_vec::<f32>().unwrap();
    let off = actual.iter().zip(expected).any(|(a, b)| (a - b).abs() > 1e-5 * b.abs().max(1.0));
    assert!(!off, "{actual:?} is not {expected:?}");
}

/// `y = Range(0, ReduceMax(x), 1) * ReduceSum(x)`: the number of elements follows from the data.
fn counting() -> Model {
    let nodes = vec![
        node("ReduceMax", &["x"], &["most"]).with(int("keepdims", 0)),
        node("ReduceSum", &["x"], &["sum"]).with(int("keepdims", 0)),
        node("Range", &["zero", "most", "one"], &["places"]),
        node("Mul", &["places", "sum"], &["y"]),
    ];
    let mut graph = typed(vec![value("x", FLOAT, &["a", "b"])], nodes, vec![value("y", FLOAT, &["n"])]);
    graph.initializer = vec![weights("zero", &[], &[0.0]), weights("one", &[], &[1.0])];
    loaded(graph)
}

#[test]
fn a_size_may_follow_from_data() {
    for session in sessions(&counting()) {
        for (shape, values) in
            [([1, 2], vec![3.0, 1.0]), ([2, 2], vec![0.0, 5.0, -1.0, 2.0]), ([1, 2], vec![-1.0, 0.0])]
        {
            let outputs = session.run(&[("x", &floats(&shape, &values))]).unwrap();
            let (most, sum) = (values.iter().fold(0.0f32, |a, b| a.max(*b)), values.iter().sum::<f32>());
            let expected: Vec<f32> = (0..most as usize).map(|i| i as f32 * sum).collect();
            close(&outputs["y"], &[most as usize], &expected);
        }
    }
}

#[test]
fn the_host_says_where_it_looks() {
    for device in devices::each() {
        let session = Session::new(&device, &counting(), SessionOptions::default()).unwrap();
        let plan = session.plan(&[("x", [2, 3])]).unwrap();
        assert_eq!((plan.segments, plan.unplanned_segments), (2, 1));
        let points: Vec<_> =
            plan.sync_points.iter().map(|point| (&point.value[..], &point.operator[..])).collect();
        assert_eq!(points, [("most", "Range")]);
        session.prepare(&[("x", [2, 3])]).unwrap();
        let x = floats(&[1, 2], &[3.0, 1.0]);
        let text = session.explain(crate::Stage::Program, &[("x", &x)]).unwrap();
        assert!(text.starts_with("segment 1\n") && text.contains("reduce_max"), "{text}");
        assert!(text.ends_with("1 more: planned by each run, for the sizes that it finds\n"), "{text}");
        let report = session.report(crate::Stage::Memory, &[("x", &x)]).unwrap();
        let crate::report::StageReport::Segments { segments, unplanned } = report else { panic!() };
        assert_eq!((segments.len(), unplanned), (1, 1));
        session.why("most", &[("x", &x)]).unwrap();
        let error = session.why("places", &[("x", &x)]).unwrap_err();
        assert!(matches!(error, Error::NoNode { .. }), "{error}");
        match session.profile(&[("x", &x)]) {
            Ok(times) => assert!(times.iter().any(|time| time.node.contains("y")), "{times:?}"),
            Err(error) => assert!(error.to_string().contains("TIMESTAMP_QUERY"), "{error}"),
        }
        assert!(session.memory().weights < 1 << 16 && session.memory().plans > 0);
        let error = session.bind().input("x", &floats(&[1, 1], &[1.0])).build().unwrap_err();
        assert!(matches!(&error, Error::Gpu(text) if text.contains("2 segments")), "{error}");
    }
}

#[test]
fn every_segment_of_a_timed_run_is_measured() {
    for adapter in devices::usable() {
        let device =
            Device::new(DeviceOptions::new().select(Select::Name(adapter.name)).timed(|_| true)).unwrap();
        let session = Session::new(&device, &counting(), SessionOptions::default()).unwrap();
        let x = floats(&[1, 2], &[3.0, 1.0]);
        // The second finds all plans.
        for _ in 0..2 {
            close(&session.run(&[("x", &x)]).unwrap()["y"], &[3], &[0.0, 4.0, 8.0]);
        }
        let has_timestamps = session.profile(&[("x", &x)]).is_ok();
        assert_eq!(session.device_time().is_some_and(|time| !time.is_zero()), has_timestamps);
    }
}

#[test]
fn outputs_stay_on_the_device_or_come_later() {
    let x = floats(&[1, 2], &[3.0, 1.0]);
    for device in devices::each() {
        let session = Session::new(&device, &counting(), SessionOptions::default()).unwrap();
        let on_device = DeviceTensor::new(&device, &x).unwrap();
        let outputs = session.run_to_device(&[("x", &on_device)]).unwrap();
        close(&outputs["y"].read().unwrap(), &[3], &[0.0, 4.0, 8.0]);
        let outputs = pollster::block_on(session.run_async(&[("x", &x)])).unwrap();
        close(&outputs["y"], &[3], &[0.0, 4.0, 8.0]);
        let given = [("x", &x)];
        let mut dropped = Box::pin(session.run_async(&given));
        let _ = dropped.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(dropped);
        let outputs = session.run_for(&["sum"], &[("x", &x)]).unwrap();
        close(&outputs["sum"], &[], &[4.0]);
        let verification = verify(&device, &counting(), &[("x", &x)], Tolerances::default()).unwrap();
        assert!(verification.divergence.is_none(), "{:?}", verification.divergence);
        assert!(verification.values.iter().any(|value| value.name == "sum"));
        let (x, shift, condition) =
            (floats(&[1], &[0.5]), floats(&[1], &[9.0]), Tensor::from_bools(&[], &[true]).unwrap());
        let given = [("x", &x), ("c", &condition), ("shift", &shift)];
        let verification = verify(&device, &branching(), &given, Tolerances::default()).unwrap();
        assert!(verification.divergence.is_none(), "{:?}", verification.divergence);
        assert!(verification.values.iter().any(|value| value.name == "z"));
    }
}

/// `y = c ? (x > 1 somewhere ? x * 2 : x + x2) : -x`, with a condition on the input and another on data.
fn branching() -> Model {
    let doubled = typed(vec![], vec![node("Add", &["x", "x"], &["d"])], vec![value("d", FLOAT, &["n"])]);
    let shifted = typed(vec![], vec![node("Add", &["x", "shift"], &["s"])], vec![value("s", FLOAT, &["n"])]);
    let inner = vec![
        node("ReduceMax", &["x"], &["most"]).with(int("keepdims", 0)),
        node("Greater", &["most", "one"], &["large"]),
        node("If", &["large"], &["t"])
            .with(subgraph("then_branch", doubled))
            .with(subgraph("else_branch", shifted)),
    ];
    let then = typed(vec![], inner, vec![value("t", FLOAT, &["n"])]);
    let otherwise = typed(vec![], vec![node("Neg", &["x"], &["e"])], vec![value("e", FLOAT, &["n"])]);
    let nodes = vec![
        node("If", &["c"], &["z"])
            .with(subgraph("then_branch", then))
            .with(subgraph("else_branch", otherwise)),
        node("Relu", &["z"], &["y"]),
    ];
    let inputs = vec![value("x", FLOAT, &["n"]), value("c", BOOL, &[]), value("shift", FLOAT, &["1"])];
    let mut graph = typed(inputs, nodes, vec![value("y", FLOAT, &["n"]), value("z", FLOAT, &["n"])]);
    graph.initializer = vec![weights("one", &[], &[1.0])];
    loaded(graph)
}

#[test]
fn a_branch_may_follow_from_data() {
    for session in sessions(&branching()) {
        for (values, condition) in [
            (vec![0.5, -3.0], true),
            (vec![0.5, -3.0], false),
            (vec![2.0, -1.0, 7.0], true),
            (vec![1.0], true),
            (vec![9.0], false),
        ] {
            let condition_tensor = Tensor::from_bools(&[], &[condition]).unwrap();
            let (x, shift) = (floats(&[values.len()], &values), floats(&[1], &[10.0]));
            let outputs = session.run(&[("x", &x), ("c", &condition_tensor), ("shift", &shift)]).unwrap();
            let large = values.iter().any(|v| *v > 1.0);
            let of = |v: &f32| match (condition, large) {
                (true, true) => v * 2.0,
                (true, false) => v + 10.0,
                (false, _) => -v,
            };
            let z: Vec<f32> = values.iter().map(of).collect();
            close(&outputs["z"], &[z.len()], &z);
            close(&outputs["y"], &[z.len()], &z.iter().map(|v| v.max(0.0)).collect::<Vec<_>>());
        }
    }
}

/// `z = rate == 8000 ? x + x : (size of x > 2 ? -x : |x|)`: a number that the caller gives, and a size, decide.
fn choosing() -> Model {
    let branch = |op: &str, inputs: &[&str], out: &str| {
        typed(vec![], vec![node(op, inputs, &[out])], vec![value(out, FLOAT, &["n"])])
    };
    let inner = vec![
        node("Shape", &["x"], &["sizes"]),
        node("Greater", &["sizes", "two"], &["long"]),
        node("If", &["long"], &["t"])
            .with(subgraph("then_branch", branch("Neg", &["x"], "m")))
            .with(subgraph("else_branch", branch("Abs", &["x"], "a"))),
    ];
    let otherwise = typed(vec![], inner, vec![value("t", FLOAT, &["n"])]);
    let nodes = vec![
        node("Equal", &["rate", "low"], &["is_low"]),
        node("If", &["is_low"], &["z"])
            .with(subgraph("then_branch", branch("Add", &["x", "x"], "d")))
            .with(subgraph("else_branch", otherwise)),
        node("Sqrt", &["z"], &["y"]),
    ];
    let inputs = vec![value("x", FLOAT, &["n"]), value("rate", INT64, &[])];
    let mut graph = typed(inputs, nodes, vec![value("y", FLOAT, &["n"]), value("z", FLOAT, &["n"])]);
    graph.initializer = vec![int_constant("low", &[], &[8000]), int_constant("two", &[1], &[2])];
    loaded(graph)
}

pub(super) fn int_constant(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: INT64,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

#[test]
fn a_branch_that_planning_knows_is_no_cut() {
    let rate = |rate: i64| Tensor::from_slice(&[], &[rate]).unwrap();
    for session in sessions(&choosing()) {
        for (values, number) in [
            (vec![0.5, 3.0], 8000),
            (vec![0.5, -3.0], 16000),
            (vec![-2.0, -1.0, -7.0], 16000),
            (vec![1.0; 5], 8000),
            (vec![-4.0], 16000),
        ] {
            let (x, rate) = (floats(&[values.len()], &values), rate(number));
            let of = |v: &f32| match (number, values.len() > 2) {
                (8000, _) => v + v,
                (_, true) => -v,
                (_, false) => v.abs(),
            };
            let z: Vec<f32> = values.iter().map(of).collect();
            let outputs = session.run(&[("x", &x), ("rate", &rate)]).unwrap();
            close(&outputs["z"], &[z.len()], &z);
            close(&outputs["y"], &[z.len()], &z.iter().map(|v| v.sqrt()).collect::<Vec<_>>());
            if session.device().is_reference() {
                continue;
            }
            let plan = session.plan(&[("x", &x), ("rate", &rate)]).unwrap();
            let cuts = (plan.segments, plan.unplanned_segments, plan.sync_points.len());
            assert_eq!(cuts, (1, 0, 0), "{plan:?}");
            // What needs the one plan of a run has it.
            session.explain(crate::Stage::Program, &[("x", &x), ("rate", &rate)]).unwrap();
            session.prepare(&[("x", &x), ("rate", &rate)]).unwrap();
            let on_device = DeviceTensor::new(session.device(), &rate).unwrap();
            let outputs = session.run(&crate::inputs!["x" => &x, "rate" => &on_device]).unwrap();
            close(&outputs["z"], &[z.len()], &z);
            let mut binding = session.bind().input("x", &x).input("rate", &rate).build().unwrap();
            binding.run().unwrap();
            close(&binding.read("z").unwrap(), &[z.len()], &z);
            let given = [("x", &x), ("rate", &rate)];
            let found = verify(session.device(), &choosing(), &given, Tolerances::default()).unwrap();
            assert!(found.divergence.is_none(), "{:?}", found.divergence);
        }
        if !session.device().is_reference() {
            let known = |shape: &[usize]| crate::Known::Shape(shape.to_vec());
            let plan = session.plan(&[("x", known(&[3])), ("rate", known(&[]))]).unwrap();
            assert_eq!((plan.segments, plan.unplanned_segments), (1, 1));
        }
    }
}

/// A binding for which the branch is not known says what to give.
#[test]
fn a_binding_needs_the_condition() {
    for device in devices::each() {
        let session = Session::new(&device, &choosing(), SessionOptions::default()).unwrap();
        let usage = wgpu::BufferUsages::STORAGE;
        let size = crate::device_bytes(crate::DType::I64, &[]);
        let (gpu, _) = device.wgpu().unwrap();
        let buffer = gpu.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        });
        let x = floats(&[1], &[1.0]);
        let error = session.bind().input("x", &x).input_buffer("rate", &buffer, &[]).build().unwrap_err();
        assert!(error.to_string().contains("the value of rate; give it as a `Tensor`"), "{error}");
    }
}

/// A loop that runs `count` times, while `goes_on`: it doubles `total` and lists it.
fn constant_loop(count: i64, goes_on: Option<bool>) -> Model {
    let body = vec![
        node("Add", &["total", "total"], &["next"]),
        node("Identity", &["go"], &["again"]),
        node("Add", &["total", "shift"], &["listed"]),
    ];
    let inputs = vec![value("i", INT64, &[]), value("go", BOOL, &[]), value("total", FLOAT, &["n"])];
    let outputs =
        vec![value("again", BOOL, &[]), value("next", FLOAT, &["n"]), value("listed", FLOAT, &["2"])];
    let condition = if goes_on.is_some() { "goes_on" } else { "" };
    let nodes = vec![
        node("Relu", &["x"], &["start"]),
        node("Loop", &["count", condition, "start"], &["end", "list"])
            .with(subgraph("body", typed(inputs, body, outputs))),
        node("Neg", &["end"], &["y"]),
    ];
    let inputs = vec![value("x", FLOAT, &["n"]), value("shift", FLOAT, &["1"])];
    let mut graph = typed(inputs, nodes, vec![value("y", FLOAT, &["n"]), value("list", FLOAT, &["k", "n"])]);
    graph.initializer = vec![int_constant("count", &[], &[count])];
    graph.initializer.extend(goes_on.map(|goes_on| TensorProto {
        name: "goes_on".into(),
        data_type: BOOL,
        int32_data: vec![i32::from(goes_on)],
        ..Default::default()
    }));
    loaded(graph)
}

#[test]
fn a_loop_of_at_most_one_iteration_is_no_cut() {
    for (count, goes_on, iterations) in
        [(1, None, 1), (1, Some(true), 1), (0, None, 0), (-3, Some(true), 0), (7, Some(false), 0)]
    {
        for session in sessions(&constant_loop(count, goes_on)) {
            for values in [[3.0, -1.0], [0.5, 2.0]] {
                let x = floats(&[2], &values);
                let given = [("x", &x), ("shift", &floats(&[1], &[10.0]))];
                let outputs = session.run(&given).unwrap();
                let start = values.map(|v: f32| v.max(0.0));
                let factor = if iterations == 1 { -2.0 } else { -1.0 };
                close(&outputs["y"], &[2], &start.map(|v| v * factor));
                close(&outputs["list"], &[iterations, 2], &start.map(|v| v + 10.0)[..2 * iterations]);
                if !session.device().is_reference() {
                    assert_eq!(session.plan(&given).unwrap().segments, 1);
                }
            }
        }
    }
}

/// `a, b = b, a * x + b` as often as `n` says, with lists of `a` before each iteration, of `b` after it, and of the numbers. The body has
/// `width` elements; the list of `b` has elements of `list_type`.
fn counted(list_type: i32) -> Model {
    let body = vec![
        node("Mul", &["a", "x"], &["scaled"]),
        node("Add", &["scaled", "b"], &["next_b"]),
        node("Identity", &["b"], &["next_a"]),
        node("Identity", &["a"], &["before"]),
        node("Cast", &["next_b"], &["after"]).with(int("to", i64::from(list_type))),
        node("Identity", &["i"], &["number"]),
        node("Identity", &["go"], &["again"]),
    ];
    let inputs = vec![
        value("i", INT64, &[]),
        value("go", BOOL, &[]),
        value("a", FLOAT, &["w"]),
        value("b", FLOAT, &["w"]),
    ];
    let outputs = vec![
        value("again", BOOL, &[]),
        value("next_a", FLOAT, &["w"]),
        value("next_b", FLOAT, &["w"]),
        value("before", FLOAT, &["3"]),
        value("after", list_type, &["3"]),
        value("number", INT64, &[]),
    ];
    let nodes = vec![
        node("Loop", &["n", "", "start", "x"], &["last_a", "last_b", "all_a", "list", "numbers"])
            .with(subgraph("body", typed(inputs, body, outputs))),
        node("Cast", &["list"], &["all_b"]).with(int("to", 1)),
    ];
    let inputs = vec![value("n", INT64, &[]), value("start", FLOAT, &["w"]), value("x", FLOAT, &["w"])];
    let outputs = vec![
        value("last_a", FLOAT, &["w"]),
        value("last_b", FLOAT, &["w"]),
        value("all_a", FLOAT, &["n", "w"]),
        value("all_b", FLOAT, &["n", "w"]),
        value("numbers", INT64, &["n"]),
    ];
    loaded(typed(inputs, nodes, outputs))
}

#[test]
fn a_counted_loop_is_few_submissions() {
    for list_type in [FLOAT, HALF] {
        for session in sessions(&counted(list_type)) {
            for count in [5usize, 1, 0, 2, 40, 3, 1500] {
                let (start, x) = ([0.5f32, 1.0, -1.0], [-0.25f32, -0.5, -0.125]);
                let n = Tensor::from_slice(&[], &[count as i64]).unwrap();
                let given = [("n", &n), ("start", &floats(&[3], &start)), ("x", &floats(&[3], &x))];
                session.run(&given).unwrap();
                let before = session.device().counters();
                let outputs = session.run(&given).unwrap();
                let after = session.device().counters();
                let (mut a, mut b, mut all_a, mut all_b) = (start, x, Vec::new(), Vec::new());
                for _ in 0..count {
                    all_a.extend(a);
                    let next = [0, 1, 2].map(|i| a[i] * x[i] + b[i]);
                    (a, b) = (b, next);
                    all_b.extend(b);
                }
                close(&outputs["last_a"], &[3], &a);
                close(&outputs["last_b"], &[3], &b);
                close(&outputs["all_a"], &[count, 3], &all_a);
                let numbers: Vec<i64> = (0..count as i64).collect();
                assert_eq!(outputs["numbers"].to_vec::<i64>().unwrap(), numbers);
                let listed = outputs["all_b"].to_vec::<f32>().unwrap();
                let near = |(l, b): (&f32, &f32)| (l - b).abs() <= 1e-3 * b.abs().max(1.0);
                assert!(listed.len() == 3 * count && listed.iter().zip(&all_b).all(near));
                // Elements of 6 bytes lie in no list of words, so the host handles each.
                if list_type == FLOAT && count > 1 && !session.device().is_reference() {
                    let made = after - before;
                    assert!(made.passes as usize >= count, "{made:?}");
                    // A submission has about a thousand dispatches.
                    assert!(made.submits <= 3 + made.dispatches / 1000, "{count}: {made:?}");
                }
            }
        }
    }
}

/// The shape of what is carried settles with the first iteration, and an index that leaves its table is an error of the run.
#[test]
fn iterations_settle_and_report() {
    let body = vec![
        node("Add", &["total", "x"], &["next"]),
        node("Gather", &["table", "i"], &["picked"]),
        node("Identity", &["go"], &["again"]),
    ];
    let inputs = vec![value("i", INT64, &[]), value("go", BOOL, &[]), value("total", FLOAT, &["a"])];
    let outputs = vec![
        value("again", BOOL, &[]),
        value("next", FLOAT, &["b"]),
        value("next_", FLOAT, &["b"]),
        value("picked", FLOAT, &[]),
    ];
    let body = [body, vec![node("Neg", &["next"], &["next_"])]].concat();
    let nodes = vec![
        node("Loop", &["n", "", "start"], &["end", "list", "all"])
            .with(subgraph("body", typed(inputs, body, outputs))),
    ];
    let inputs = vec![
        value("n", INT64, &[]),
        value("start", FLOAT, &["s"]),
        value("x", FLOAT, &["w"]),
        value("table", FLOAT, &["t"]),
    ];
    let outputs =
        vec![value("end", FLOAT, &["w"]), value("list", FLOAT, &["k", "w"]), value("all", FLOAT, &["k"])];
    for session in sessions(&loaded(typed(inputs, nodes, outputs))) {
        for (count, width) in [(5usize, 3usize), (7, 2), (2, 1), (4, 3)] {
            let x: Vec<f32> = (0..width).map(|i| i as f32 + 0.5).collect();
            let table: Vec<f32> = (0..5).map(|i| i as f32 * -1.5).collect();
            let n = Tensor::from_slice(&[], &[count as i64]).unwrap();
            let (start, x_) = (floats(&[1], &[2.0]), floats(&[width], &x));
            let given = [("n", &n), ("start", &start), ("x", &x_), ("table", &floats(&[5], &table))];
            if count > 5 {
                let error = session.run(&given).unwrap_err();
                assert!(matches!(&error, Error::Node { op, .. } if op == "Gather"), "{error}");
                continue;
            }
            let outputs = session.run(&given).unwrap();
            let total = |k: usize| x.iter().map(move |x| 2.0 + (k + 1) as f32 * x);
            close(&outputs["end"], &[width], &total(count - 1).collect::<Vec<_>>());
            let list: Vec<f32> = (0..count).flat_map(total).map(|total| -total).collect();
            close(&outputs["list"], &[count, width], &list);
            close(&outputs["all"], &[count], &table[..count]);
        }
    }
}

/// A loop that adds `step` to a total until the total reaches `limit`, at most `n` times, and lists the totals; it also makes a row
/// longer with each iteration.
fn repeating(list_type: i32) -> Model {
    let body = vec![
        node("Add", &["total", "step"], &["next"]),
        node("Less", &["next", "limit"], &["again"]),
        node("Concat", &["row", "next"], &["longer"]).with(int("axis", 0)),
        node("Cast", &["next"], &["listed"]).with(int("to", i64::from(list_type))),
        node("Identity", &["i"], &["number"]),
    ];
    let mut body = typed(
        vec![
            value("i", INT64, &[]),
            value("go", BOOL, &[]),
            value("total", FLOAT, &["1"]),
            value("row", FLOAT, &["r"]),
        ],
        body,
        vec![
            value("again", BOOL, &["1"]),
            value("next", FLOAT, &["1"]),
            value("longer", FLOAT, &["r2"]),
            value("listed", list_type, &["1"]),
            value("number", INT64, &[]),
        ],
    );
    body.initializer = vec![];
    let nodes = vec![
        node("Loop", &["n", "", "start", "start"], &["end", "row", "list", "numbers"])
            .with(subgraph("body", body)),
        node("Cast", &["list"], &["totals"]).with(int("to", 1)),
    ];
    let inputs = vec![
        value("n", INT64, &[]),
        value("start", FLOAT, &["1"]),
        value("step", FLOAT, &["1"]),
        value("limit", FLOAT, &["1"]),
    ];
    let outputs = vec![
        value("end", FLOAT, &["1"]),
        value("row", FLOAT, &["k"]),
        value("totals", FLOAT, &["m", "1"]),
        value("numbers", INT64, &["m"]),
    ];
    loaded(typed(inputs, nodes, outputs))
}

#[test]
fn a_loop_carries_lists_and_stops() {
    for list_type in [FLOAT, HALF] {
        for session in sessions(&repeating(list_type)) {
            for (n, limit) in [(4, 100.0), (10, 3.0), (0, 100.0), (1, 100.0), (7, 100.0), (4, -1.0)] {
                let count = Tensor::from_slice(&[], &[n]).unwrap();
                let (start, step, end) = (floats(&[1], &[0.5]), floats(&[1], &[1.0]), floats(&[1], &[limit]));
                let given = [("n", &count), ("start", &start), ("step", &step), ("limit", &end)];
                let outputs = session.run(&given).unwrap();
                let mut totals = Vec::new();
                let (mut total, mut again) = (0.5f32, true);
                while again && (totals.len() as i64) < n {
                    total += 1.0;
                    again = total < limit;
                    totals.push(total);
                }
                close(&outputs["end"], &[1], &[total]);
                close(&outputs["row"], &[1 + totals.len()], &[&[0.5], &totals[..]].concat());
                close(&outputs["totals"], &[totals.len(), 1], &totals);
                let numbers: Vec<i64> = (0..totals.len() as i64).collect();
                assert_eq!(outputs["numbers"].to_vec::<i64>().unwrap(), numbers);
            }
        }
    }
}

/// Running sums of the columns of `x` from the last to the first, each also times `scale`, as columns again.
fn scanning() -> Model {
    let body = vec![node("Add", &["sum", "column"], &["next"]), node("Mul", &["next", "scale"], &["scaled"])];
    let body = typed(
        vec![value("sum", FLOAT, &["r"]), value("column", FLOAT, &["r"])],
        body,
        vec![value("next", FLOAT, &["r"]), value("scaled", FLOAT, &["r"])],
    );
    let scan = node("Scan", &["start", "x"], &["total", "y"])
        .with(subgraph("body", body))
        .with(int("num_scan_inputs", 1))
        .with(ints("scan_input_axes", &[-1]))
        .with(ints("scan_input_directions", &[1]))
        .with(ints("scan_output_axes", &[1]))
        .with(ints("scan_output_directions", &[1]));
    let inputs =
        vec![value("start", FLOAT, &["r"]), value("x", FLOAT, &["r", "c"]), value("scale", FLOAT, &[])];
    loaded(typed(inputs, vec![scan], vec![value("total", FLOAT, &["r"]), value("y", FLOAT, &["r", "c"])]))
}

#[test]
fn a_scan_reads_and_writes_along_axes() {
    for session in sessions(&scanning()) {
        for [rows, columns] in [[2, 3], [1, 1], [5, 2], [3, 7], [2, 300]] {
            let at = |i: usize| (i * 7 % 5) as f32 - 1.5;
            let values: Vec<f32> = (0..rows * columns).map(at).collect();
            let (x, start) = (floats(&[rows, columns], &values), floats(&[rows], &vec![1.0; rows]));
            let submits = session.device().counters().submits;
            let outputs =
                session.run(&[("start", &start), ("x", &x), ("scale", &floats(&[], &[2.0]))]).unwrap();
            let mut expected = vec![0.0; rows * columns];
            let mut totals = vec![1.0; rows];
            for column in (0..columns).rev() {
                for (row, total) in totals.iter_mut().enumerate() {
                    *total += values[row * columns + column];
                    expected[row * columns + column] = *total * 2.0;
                }
            }
            close(&outputs["total"], &[rows], &totals);
            close(&outputs["y"], &[rows, columns], &expected);
            let submits = session.device().counters().submits - submits;
            assert!(submits <= 3, "{columns} iterations took {submits} submissions");
        }
    }
}

/// Running sums of `x` over the steps of each batch, and their products with `y` and a value from around the body. `directions`
/// are those of `x` and `y`.
fn batched_scan(has_lengths: bool, directions: [i64; 2]) -> Model {
    let body = vec![
        node("Add", &["sum", "a"], &["next"]),
        node("Mul", &["next", "b"], &["c"]),
        node("Mul", &["c", "scale"], &["d"]),
    ];
    let row = |name: &str| value(name, FLOAT, &["n"]);
    let body = typed(vec![row("sum"), row("a"), row("b")], body, vec![row("next"), row("d")]);
    let lengths = if has_lengths { "lengths" } else { "" };
    let scan = node("Scan", &[lengths, "start", "x", "y"], &["sums", "z"])
        .with(subgraph("body", body))
        .with(int("num_scan_inputs", 2))
        .with(ints("directions", &directions));
    let mut inputs = vec![value("start", FLOAT, &["b", "n"]), value("scale", FLOAT, &[])];
    inputs.extend(["x", "y"].map(|name| value(name, FLOAT, &["b", "t", "n"])));
    inputs.extend(has_lengths.then(|| value("lengths", INT64, &["b"])));
    let outputs = vec![value("sums", FLOAT, &["b", "n"]), value("z", FLOAT, &["b", "t", "n"])];
    Model::from_bytes(bytes(&model(8, typed(inputs, vec![scan], outputs)))).unwrap()
}

/// Scan of version 8: what onnxruntime 1.31.1 gives is what these lines compute, zeros behind a batch's length among them.
#[test]
fn a_scan_of_version_8_has_batches() {
    for (has_lengths, directions) in [(false, [0, 0]), (false, [1, 0]), (true, [0, 0]), (true, [0, 1])] {
        for session in sessions(&batched_scan(has_lengths, directions)) {
            for (steps, lengths) in [(4, [4, 2, 3]), (1, [1, 1, 1]), (5, [1, 5, 4])] {
                let n = 2;
                let number = |i: usize, by: usize| (i * by % 7) as f32 - 2.5;
                let [x, y] = [5, 3].map(|by| (0..3 * steps * n).map(|i| number(i, by)).collect::<Vec<f32>>());
                let start: Vec<f32> = (0..3 * n).map(|i| number(i, 4)).collect();
                let (mut sums, mut z) = (start.clone(), vec![0.0; x.len()]);
                for batch in 0..3 {
                    let length = if has_lengths { lengths[batch] } else { steps };
                    for step in 0..length {
                        let from = |backward: i64| if backward == 1 { length - 1 - step } else { step };
                        for i in 0..n {
                            let at = |step: usize| (batch * steps + step) * n + i;
                            sums[batch * n + i] += x[at(from(directions[0]))];
                            z[at(step)] = sums[batch * n + i] * y[at(from(directions[1]))] * 2.0;
                        }
                    }
                }
                let [x, y] = [x, y].map(|values| floats(&[3, steps, n], &values));
                let (start, scale) = (floats(&[3, n], &start), floats(&[], &[2.0]));
                let lengths = Tensor::from_slice(&[3], &lengths.map(|length| length as i64)).unwrap();
                let mut given = vec![("start", &start), ("scale", &scale), ("x", &x), ("y", &y)];
                given.extend(has_lengths.then_some(("lengths", &lengths)));
                let outputs = session.run(&given[..]).unwrap();
                close(&outputs["sums"], &[3, n], &sums);
                close(&outputs["z"], &[3, steps, n], &z);
            }
        }
    }
}

#[test]
fn a_length_that_a_scan_has_no_steps_for_is_refused() {
    for session in sessions(&batched_scan(true, [0, 0])) {
        for length in [0, 3, -1] {
            let (x, start) = (floats(&[1, 2, 1], &[1.0, 2.0]), floats(&[1, 1], &[0.0]));
            let lengths = Tensor::from_slice(&[1], &[length as i64]).unwrap();
            let scale = floats(&[], &[1.0]);
            let given = [("start", &start), ("scale", &scale), ("x", &x), ("y", &x), ("lengths", &lengths)];
            assert!(session.run(&given).is_err(), "{length} on {}", session.device().name());
        }
    }
}

#[test]
fn a_subgraph_that_is_not_supported_is_named() {
    let unknown = typed(vec![], vec![node("Nonsense", &["x"], &["d"])], vec![value("d", FLOAT, &["n"])]);
    let known = typed(vec![], vec![node("Neg", &["x"], &["e"])], vec![value("e", FLOAT, &["n"])]);
    let nodes = vec![
        node("If", &["c"], &["y"])
            .with(subgraph("then_branch", unknown))
            .with(subgraph("else_branch", known)),
    ];
    let inputs = vec![value("x", FLOAT, &["n"]), value("c", BOOL, &[])];
    let model = loaded(typed(inputs, nodes, vec![value("y", FLOAT, &["n"])]));
    assert_eq!(model.unsupported().len(), 1);
    let error = Session::new(&Device::noop(), &model, SessionOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(nodes) if nodes[0].op == "Nonsense"), "{error}");
}

#[test]
fn the_plans_of_all_segments_are_kept() {
    let options = SessionOptions::new().plan_cache(1);
    for device in devices::each() {
        let session = Session::new(&device, &repeating(FLOAT), options.clone()).unwrap();
        let (one, many) = (floats(&[1], &[1.0]), floats(&[1], &[100.0]));
        let count = Tensor::from_slice(&[], &[1i64]).unwrap();
        let run =
            || session.run(&[("n", &count), ("start", &one), ("step", &one), ("limit", &many)]).unwrap();
        // The first run ends with more memory than it begins with, so that the second makes bind groups once more.
        run();
        run();
        let before = device.counters();
        run();
        assert_eq!(device.counters().bind_groups, before.bind_groups, "the third run has made a plan");
    }
}

/// A file has a constant once, and a session holds it for each subgraph that reads it.
#[test]
fn subgraphs_share_one_budget() {
    let branch = |name: &str, op: &str| {
        typed(vec![], vec![node(op, &["k"], &[name])], vec![value(name, FLOAT, &["n"])])
    };
    let results: Vec<String> = (0..40).map(|i| format!("v{i}")).collect();
    let mut nodes: Vec<NodeProto> = results
        .iter()
        .map(|name| {
            node("If", &["c"], &[name])
                .with(subgraph("then_branch", branch("t", "Relu")))
                .with(subgraph("else_branch", branch("e", "Neg")))
        })
        .collect();
    nodes.push(node("Sum", &results.iter().map(String::as_str).collect::<Vec<_>>(), &["y"]));
    let mut graph = typed(vec![value("c", BOOL, &[])], nodes, vec![value("y", FLOAT, &["n"])]);
    graph.initializer = vec![weights("k", &[4096], &[-0.5; 4096])];
    let bytes = bytes(&model(21, graph));
    let limited = LoadOptions::new().limits(Limits::new().bytes(1 << 20));
    let limited = Model::from_bytes_with(bytes.clone(), limited).unwrap();
    let error = Session::new(&Device::noop(), &limited, SessionOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Node { op, .. } if op == "If"), "{error}");
    assert!(error.to_string().contains("raise `Limits::bytes`"), "{error}");
    for session in sessions(&Model::from_bytes(bytes).unwrap()) {
        for (condition, each) in [(true, 0.0), (false, 0.5)] {
            let condition = Tensor::from_bools(&[], &[condition]).unwrap();
            close(&session.run(&[("c", &condition)]).unwrap()["y"], &[4096], &[40.0 * each; 4096]);
        }
    }
}

#[test]
fn a_condition_must_be_one_bool() {
    for session in sessions(&branching()) {
        let two = Tensor::from_bools(&[2], &[true, false]).unwrap();
        let x = floats(&[1], &[1.0]);
        assert!(session.run(&[("x", &x), ("c", &two), ("shift", &x)]).is_err());
    }
}

/// Elements of which about a third is 0.
fn sparse(shape: &[usize], seed: usize) -> Vec<f32> {
    let count = shape.iter().product();
    (0..count)
        .map(|i| ((i * 31 + seed * 17) % 7 % 3) as f32 - if i % 5 == seed % 5 { 1.0 } else { 0.0 })
        .collect()
}

#[test]
fn what_is_chosen_is_found_on_the_device() {
    let nodes = vec![
        node("Relu", &["x"], &["r"]),
        node("NonZero", &["r"], &["places"]),
        node("Greater", &["line", "half"], &["wanted"]),
        node("Compress", &["r", "wanted"], &["columns"]).with(int("axis", 1)),
        node("Compress", &["x", "wanted"], &["first"]),
        node("Transpose", &["places"], &["rows"]),
        node("GatherND", &["r", "rows"], &["values"]),
    ];
    let inputs = vec![value("x", FLOAT, &["a", "b"]), value("line", FLOAT, &["c"])];
    let outputs = vec![
        value("places", INT64, &["2", "n"]),
        value("columns", FLOAT, &["a", "m"]),
        value("first", FLOAT, &["m2"]),
        value("values", FLOAT, &["n"]),
    ];
    let mut graph = typed(inputs, nodes, outputs);
    graph.initializer = vec![weights("half", &[], &[0.5])];
    for session in sessions(&loaded(graph)) {
        for (seed, [a, b]) in
            [[2, 3], [1, 1], [40, 70], [3, 2], [0, 4], [257, 300], [1, 1]].into_iter().enumerate()
        {
            let (x, line) = (sparse(&[a, b], seed), sparse(&[b.min(a * b)], seed + 3));
            let given = [("x", &floats(&[a, b], &x)), ("line", &floats(&[line.len()], &line))];
            let outputs = session.run(&given).unwrap();
            let chosen: Vec<usize> = (0..a * b).filter(|i| x[*i] > 0.0).collect();
            let places = outputs["places"].to_vec::<i64>().unwrap();
            let expected: Vec<i64> =
                chosen.iter().map(|i| (i / b) as i64).chain(chosen.iter().map(|i| (i % b) as i64)).collect();
            assert_eq!((outputs["places"].shape(), &places), (&[2, chosen.len()][..], &expected));
            close(&outputs["values"], &[chosen.len()], &chosen.iter().map(|i| x[*i]).collect::<Vec<_>>());
            let wanted: Vec<usize> = (0..line.len()).filter(|i| line[*i] > 0.5).collect();
            let columns: Vec<f32> = (0..a)
                .flat_map(|row| wanted.iter().map(move |i| (row, *i)))
                .map(|(row, i)| x[row * b + i].max(0.0))
                .collect();
            close(&outputs["columns"], &[a, wanted.len()], &columns);
            close(&outputs["first"], &[wanted.len()], &wanted.iter().map(|i| x[*i]).collect::<Vec<_>>());
        }
    }
}

#[test]
fn nothing_and_everything_may_be_chosen() {
    let nodes = vec![node("Neg", &["x"], &["n"]), node("NonZero", &["n"], &["y"])];
    let graph = typed(vec![value("x", FLOAT, &["a"])], nodes, vec![value("y", INT64, &["1", "n"])]);
    for session in sessions(&loaded(graph)) {
        for (values, expected) in [
            (vec![0.0, -0.0, 0.0], vec![]),
            (vec![f32::NAN, 1e-30, f32::INFINITY], vec![0, 1, 2]),
            (vec![], vec![]),
            (vec![0.0, -3.0], vec![1]),
        ] {
            let outputs = session.run(&[("x", &floats(&[values.len()], &values))]).unwrap();
            assert_eq!(
                outputs["y"].to_vec::<i64>().unwrap(),
                expected,
                "{values:?} on {}",
                session.device().name()
            );
        }
    }
}

/// The greedy rule, for boxes that no threshold removes by its rounding.
fn kept_boxes(boxes: &[f32], scores: &[f32], limit: usize, iou: f32, least: f32) -> Vec<usize> {
    let corners = |i: usize| (&boxes[i * 4..i * 4 + 2], &boxes[i * 4 + 2..i * 4 + 4]);
    let area = |i: usize| (corners(i).1[0] - corners(i).0[0]) * (corners(i).1[1] - corners(i).0[1]);
    let both = |i: usize, j: usize| -> f32 {
        let side = |k: usize| corners(i).1[k].min(corners(j).1[k]) - corners(i).0[k].max(corners(j).0[k]);
        side(0).max(0.0) * side(1).max(0.0)
    };
    let mut order: Vec<usize> = (0..scores.len()).filter(|&i| scores[i] > least).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut kept: Vec<usize> = Vec::new();
    for i in order {
        if kept.len() < limit && kept.iter().all(|&k| both(i, k) / (area(i) + area(k) - both(i, k)) <= iou) {
            kept.push(i);
        }
    }
    kept
}

/// Boxes of sides 3 and 2 on a grid, and scores, no two of them equal.
fn boxes_of(count: usize, seed: usize) -> (Vec<f32>, Vec<f32>) {
    let place = |i: usize| (((i * 37 + seed) % 23) as f32, ((i * 53 + seed * 7) % 29) as f32);
    let boxes = (0..count).flat_map(|i| {
        let (y, x) = place(i);
        [y, x, y + 3.0, x + 2.0]
    });
    let scores = (0..count).map(|i| ((i * 7919 + seed) % 10_007) as f32 / 10_007.0);
    (boxes.collect(), scores.collect())
}

fn ints_weights(name: &str, values: &[i64]) -> TensorProto {
    TensorProto { int64_data: values.to_vec(), ..empty(name, INT64, &[values.len() as i64]) }
}

fn suppressing() -> Model {
    let nodes = vec![
        node("Relu", &["scores"], &["s"]),
        node("NonMaxSuppression", &["boxes", "s", "limit", "iou", "least"], &["kept"]),
        node("Slice", &["kept", "two", "three", "one"], &["column"]),
        node("Squeeze", &["column", "one"], &["places"]),
        node("Gather", &["boxes", "places"], &["left"]).with(int("axis", 1)),
    ];
    let inputs = vec![
        value("boxes", FLOAT, &["1", "n", "4"]),
        value("scores", FLOAT, &["1", "1", "n"]),
        value("limit", INT64, &[]),
        value("iou", FLOAT, &[]),
    ];
    let outputs = vec![value("kept", INT64, &["k", "3"]), value("left", FLOAT, &["1", "k", "4"])];
    let mut graph = typed(inputs, nodes, outputs);
    graph.initializer = vec![
        weights("least", &[], &[0.25]),
        ints_weights("one", &[1]),
        ints_weights("two", &[2]),
        ints_weights("three", &[3]),
    ];
    loaded(graph)
}

#[test]
fn boxes_that_overlap_are_removed_on_the_device() {
    let number = |value: i64| Tensor::from_slice(&[], &[value]).unwrap();
    for session in sessions(&suppressing()) {
        for (seed, (count, limit)) in
            [(5, 3), (64, 64), (65, 9), (700, 700), (0, 4), (1, 0), (200, 5)].into_iter().enumerate()
        {
            let (boxes, scores) = boxes_of(count, seed);
            let given = [
                ("boxes", &floats(&[1, count, 4], &boxes)),
                ("scores", &floats(&[1, 1, count], &scores)),
                ("limit", &number(limit as i64)),
                ("iou", &floats(&[], &[0.3])),
            ];
            let outputs = session.run(&given).unwrap();
            let expected = kept_boxes(&boxes, &scores, limit, 0.3, 0.25);
            let rows: Vec<i64> = expected.iter().flat_map(|&i| [0, 0, i as i64]).collect();
            let kept = &outputs["kept"];
            assert_eq!((kept.shape(), kept.to_vec::<i64>().unwrap()), (&[expected.len(), 3][..], rows));
            let left: Vec<f32> = expected.iter().flat_map(|i| &boxes[i * 4..i * 4 + 4]).copied().collect();
            close(&outputs["left"], &[1, expected.len(), 4], &left);
        }
        for iou in [-0.5, 1.5, f32::NAN] {
            let (boxes, scores) = boxes_of(5, 0);
            let given = [
                ("boxes", &floats(&[1, 5, 4], &boxes)),
                ("scores", &floats(&[1, 1, 5], &scores)),
                ("limit", &number(3)),
                ("iou", &floats(&[], &[iou])),
            ];
            let error = session.run(&given).unwrap_err().to_string();
            assert!(error.contains(&format!("{iou}")) && error.contains("from 0 to 1"), "{error}");
        }
    }
}

#[test]
fn what_is_distinct_is_found_on_the_device() {
    let nodes = vec![
        node("Neg", &["x"], &["n"]),
        node("Unique", &["n"], &["sorted", "", "inverse", "counts"]),
        node("Unique", &["n"], &["occurring", "places"]).with(int("sorted", 0)),
        node("Unique", &["n"], &["columns"]).with(int("axis", 1)),
    ];
    let outputs = vec![
        value("sorted", FLOAT, &["k"]),
        value("inverse", INT64, &["m"]),
        value("counts", INT64, &["k"]),
        value("occurring", FLOAT, &["k"]),
        value("places", INT64, &["k"]),
        value("columns", FLOAT, &["a", "c"]),
    ];
    let graph = typed(vec![value("x", FLOAT, &["a", "b"])], nodes, outputs);
    for session in sessions(&loaded(graph)) {
        for (seed, [a, b]) in
            [[2, 3], [1, 1], [4, 70], [3, 2], [0, 4], [3, 300], [1, 65], [2, 3]].into_iter().enumerate()
        {
            let x = sparse(&[a, b], seed);
            let outputs = session.run(&[("x", &floats(&[a, b], &x))]).unwrap();
            let n: Vec<f32> = x.iter().map(|x| -x).collect();
            let mut occurring: Vec<f32> = Vec::new();
            n.iter().for_each(|x| occurring.extend(Some(x).filter(|x| !occurring.contains(x))));
            let mut sorted = occurring.clone();
            sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let place = |list: &[f32], x: f32| list.iter().position(|y| *y == x).unwrap() as i64;
            let int64s = |name: &str| outputs[name].to_vec::<i64>().unwrap();
            close(&outputs["sorted"], &[sorted.len()], &sorted);
            close(&outputs["occurring"], &[sorted.len()], &occurring);
            assert_eq!(int64s("inverse"), n.iter().map(|x| place(&sorted, *x)).collect::<Vec<_>>());
            assert_eq!(int64s("places"), occurring.iter().map(|x| place(&n, *x)).collect::<Vec<_>>());
            let count = |x: &f32| n.iter().filter(|y| *y == x).count() as i64;
            assert_eq!(int64s("counts"), sorted.iter().map(count).collect::<Vec<_>>());
            let mut columns: Vec<Vec<f32>> = (0..b).map(|c| (0..a).map(|r| n[r * b + c]).collect()).collect();
            columns.sort_by(|a, b| a.partial_cmp(b).unwrap());
            columns.dedup();
            let lines = (0..a).flat_map(|r| columns.iter().map(move |column| column[r]));
            close(&outputs["columns"], &[a, columns.len()], &lines.collect::<Vec<_>>());
        }
    }
}

/// Random graphs of branches, loops and scans within each other, over vectors of one length.
struct RandomControl {
    state: u64,
    names: usize,
    /// Lists of the loops that no subgraph holds.
    lists: Vec<String>,
}

impl RandomControl {
    fn below(&mut self, n: usize) -> usize {
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.state >> 33) as usize % n
    }

    fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{what}{}", self.names)
    }

    fn one_of(&mut self, values: &[String]) -> String {
        values[self.below(values.len())].clone()
    }

    /// Some nodes that begin with `values`; the last value that they make.
    fn block(&mut self, mut values: Vec<String>, depth: usize) -> (Vec<NodeProto>, String) {
        let mut nodes = Vec::new();
        for _ in 0..1 + self.below(3) {
            let (a, b, out) = (self.one_of(&values), self.one_of(&values), self.name("v"));
            match self.below(if depth > 0 { 6 } else { 2 }) {
                0 => {
                    let op_type = ["Neg", "Tanh", "Abs", "Identity"][self.below(4)];
                    nodes.push(node(op_type, &[&a], &[&out]));
                }
                1 => {
                    let (op_type, raw) = (["Add", "Mul", "Sub"][self.below(3)], self.name("v"));
                    nodes.push(node(op_type, &[&a, &b], &[&raw]));
                    nodes.push(node("Tanh", &[&raw], &[&out]));
                }
                2 | 3 => self.branch(&mut nodes, &values, &a, &out, depth),
                4 => self.repeated(&mut nodes, &values, &a, &out, depth),
                _ => self.scan(&mut nodes, (&a, &b), &out),
            }
            values.push(out);
        }
        (nodes, values.pop().unwrap())
    }

    fn branch(&mut self, nodes: &mut Vec<NodeProto>, values: &[String], a: &str, out: &str, depth: usize) {
        let condition = self.name("c");
        match self.below(4) {
            0 => nodes.push(node("Not", &["flag"], &[&condition])),
            1 => {
                let size = self.name("s");
                nodes.push(node("Size", &[a], &[&size]));
                nodes.push(node("Greater", &[&size, "three"], &[&condition]));
            }
            2 => nodes.push(node("Identity", &[["yes", "no"][self.below(2)]], &[&condition])),
            _ => {
                let most = self.name("s");
                nodes.push(node("ReduceMax", &[a], &[&most]).with(int("keepdims", 0)));
                nodes.push(node("Greater", &[&most, "tenth"], &[&condition]));
            }
        }
        let mut branch = || {
            let (inner, last) = self.block(values.to_vec(), depth - 1);
            typed(vec![], inner, vec![value(&last, FLOAT, &["n"])])
        };
        let (then, otherwise) = (branch(), branch());
        nodes.push(
            node("If", &[&condition], &[out])
                .with(subgraph("then_branch", then))
                .with(subgraph("else_branch", otherwise)),
        );
    }

    fn repeated(&mut self, nodes: &mut Vec<NodeProto>, values: &[String], a: &str, out: &str, depth: usize) {
        let [i, go, total, again, list] = ["i", "go", "t", "again", "list"].map(|what| self.name(what));
        let given = [values, std::slice::from_ref(&total)].concat();
        let (mut inner, last) = self.block(given, depth - 1);
        if self.below(3) > 0 {
            inner.push(node("Identity", &[&go], &[&again]));
        } else {
            let sum = self.name("s");
            inner.push(node("ReduceSum", &[&last], &[&sum]).with(int("keepdims", 0)));
            inner.push(node("Less", &[&sum, "tenth"], &[&again]));
        }
        let element = self.name("e");
        inner.push(node("Neg", &[&total], &[&element]));
        let inputs = vec![value(&i, INT64, &[]), value(&go, BOOL, &[]), value(&total, FLOAT, &["n"])];
        let outputs =
            vec![value(&again, BOOL, &[]), value(&last, FLOAT, &["n"]), value(&element, FLOAT, &["n"])];
        let count = ["count", "one", "three", "none"][self.below(4)];
        let repeat = node("Loop", &[count, "", a], &[out, &list]);
        nodes.push(repeat.with(subgraph("body", typed(inputs, inner, outputs))));
        if depth == DEEPEST {
            self.lists.push(list);
        }
    }

    fn scan(&mut self, nodes: &mut Vec<NodeProto>, (a, b): (&str, &str), out: &str) {
        let [start, end] = ["s", "s"].map(|what| self.name(what));
        let [sum, x, z, added, raw, next, made] =
            ["t", "x", "z", "p", "q", "u", "m"].map(|what| self.name(what));
        let inner = vec![
            node("Mul", &[&x, &z], &[&added]),
            node("Add", &[&sum, &added], &[&raw]),
            node("Tanh", &[&raw], &[&next]),
            node("Sub", &[&next, &x], &[&made]),
        ];
        let inputs = vec![value(&sum, FLOAT, &[]), value(&x, FLOAT, &[]), value(&z, FLOAT, &[])];
        let outputs = vec![value(&next, FLOAT, &[]), value(&made, FLOAT, &[])];
        nodes.push(node("ReduceSum", &[a], &[&start]).with(int("keepdims", 0)));
        let backwards = [self.below(2) as i64, self.below(2) as i64];
        nodes.push(
            node("Scan", &[&start, a, b], &[&end, out])
                .with(subgraph("body", typed(inputs, inner, outputs)))
                .with(int("num_scan_inputs", 2))
                .with(ints("scan_input_directions", &backwards))
                .with(ints("scan_output_directions", &backwards[..1])),
        );
    }
}

/// The depth of subgraphs in random graphs.
const DEEPEST: usize = 2;

fn random_control(seed: u64) -> (Model, usize) {
    let mut random =
        RandomControl { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), names: 0, lists: vec![] };
    let (mut nodes, mut values) = (Vec::new(), vec!["x".to_string(), "z".to_string()]);
    for _ in 0..3 {
        let (mut more, last) = random.block(values.clone(), DEEPEST);
        nodes.append(&mut more);
        values.push(last);
    }
    nodes.push(node("Sum", &values.iter().map(String::as_str).collect::<Vec<_>>(), &["y"]));
    let mut outputs = vec![value("y", FLOAT, &["n"])];
    outputs.extend(random.lists.iter().map(|list| value(list, FLOAT, &["k", "n"])));
    let count = outputs.len();
    let inputs = vec![
        value("x", FLOAT, &["n"]),
        value("z", FLOAT, &["n"]),
        value("flag", BOOL, &[]),
        value("count", INT64, &[]),
    ];
    let mut graph = typed(inputs, nodes, outputs);
    let bool_constant = |name: &str, value: bool| TensorProto {
        name: name.into(),
        data_type: BOOL,
        int32_data: vec![i32::from(value)],
        ..Default::default()
    };
    graph.initializer = vec![
        int_constant("none", &[], &[0]),
        int_constant("one", &[], &[1]),
        int_constant("three", &[], &[3]),
        weights("tenth", &[], &[0.1]),
        bool_constant("yes", true),
        bool_constant("no", false),
    ];
    (loaded(graph), count)
}

/// `SARDONYX_CONTROL=500` tries as many random graphs.
#[test]
fn random_graphs_of_subgraphs_agree_with_the_reference() {
    let graphs = std::env::var("SARDONYX_CONTROL").ok().and_then(|text| text.parse().ok()).unwrap_or(24);
    let all = devices::each();
    for seed in 0..graphs {
        let (model, outputs) = random_control(seed);
        let expected = Session::new(&Device::reference(), &model, SessionOptions::default()).unwrap();
        let sessions: Vec<Session> = all
            .iter()
            .map(|device| Session::new(device, &model, SessionOptions::default()).unwrap())
            .collect();
        for (i, (n, flag, count)) in
            [(4usize, true, 2i64), (1, false, 0), (5, true, 1), (3, false, 5), (4, false, 9)]
                .into_iter()
                .enumerate()
        {
            let of = |k: usize| ((k * 37 + i * 11 + seed as usize) % 19) as f32 / 9.0 - 1.0;
            let x = floats(&[n], &(0..n).map(of).collect::<Vec<_>>());
            let z = floats(&[n], &(0..n).map(|k| of(k + 5)).collect::<Vec<_>>());
            let (flag, count) =
                (Tensor::from_bools(&[], &[flag]).unwrap(), Tensor::from_slice(&[], &[count]).unwrap());
            let given = [("x", &x), ("z", &z), ("flag", &flag), ("count", &count)];
            let expected = expected.run(&given).unwrap();
            assert_eq!(expected.len(), outputs);
            for session in &sessions {
                let found = session.run(&given).unwrap_or_else(|error| panic!("graph {seed}, {i}: {error}"));
                for (name, right) in &expected {
                    assert_eq!(found[name].shape(), right.shape(), "graph {seed}, {i}: {name}");
                    let [found, right] = [&found[name], right].map(|tensor| tensor.to_vec::<f32>().unwrap());
                    let near =
                        found.iter().zip(&right).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0));
                    assert!(
                        near,
                        "graph {seed}, {i}, {}: {name}: {found:?} {right:?}",
                        session.device().name()
                    );
                }
            }
        }
    }
}

/// Parts of a tensor as a sequence, and the sequence as one tensor again: along an axis and along a new one.
#[test]
fn sequences_of_tensors_stay_on_the_device() {
    let nodes = vec![
        node("Tanh", &["x"], &["t"]),
        node("SplitToSequence", &["t", "two"], &["pairs"]).with(int("axis", 1)),
        node("SplitToSequence", &["t"], &["columns"]).with(int("axis", 1)).with(int("keepdims", 0)),
        node("ConcatFromSequence", &["pairs"], &["joined"]).with(int("axis", 0)),
        node("ConcatFromSequence", &["columns"], &["turned"]).with(int("axis", 0)).with(int("new_axis", 1)),
        node("SequenceAt", &["pairs", "minus"], &["last"]),
        node("Neg", &["joined"], &["a"]),
        node("Neg", &["turned"], &["b"]),
        node("Neg", &["last"], &["c"]),
    ];
    let outputs =
        vec![value("a", FLOAT, &["p", "2"]), value("b", FLOAT, &["c", "r"]), value("c", FLOAT, &["r", "2"])];
    let mut graph = typed(vec![value("x", FLOAT, &["r", "c"])], nodes, outputs);
    graph.initializer = vec![int_constant("two", &[], &[2]), int_constant("minus", &[], &[-1])];
    let model = loaded(graph);
    for session in sessions(&model) {
        for [rows, columns] in [[3, 4], [1, 2], [3, 4], [2, 10]] {
            let x: Vec<f32> = (0..rows * columns).map(|i| (i * 7 % 11) as f32 / 5.0 - 1.0).collect();
            let given = [("x", &floats(&[rows, columns], &x))];
            let before = session.device().counters().read_backs;
            let outputs = session.run(&given).unwrap();
            let read_backs = session.device().counters().read_backs - before;
            let at = |row: usize, column: usize| -x[row * columns + column].tanh();
            let pairs =
                (0..columns / 2).flat_map(|p| (0..rows).flat_map(move |r| [(r, 2 * p), (r, 2 * p + 1)]));
            close(&outputs["a"], &[rows * columns / 2, 2], &pairs.map(|(r, c)| at(r, c)).collect::<Vec<_>>());
            let turned = (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c)));
            close(&outputs["b"], &[columns, rows], &turned.map(|(r, c)| at(r, c)).collect::<Vec<_>>());
            let last = (0..rows).flat_map(|r| [(r, columns - 2), (r, columns - 1)]);
            close(&outputs["c"], &[rows, 2], &last.map(|(r, c)| at(r, c)).collect::<Vec<_>>());
            // The outputs are read, together, and nothing before.
            assert!(read_backs <= 1, "{read_backs} read-backs");
        }
        if !session.device().is_reference() {
            let plan = session.plan(&[("x", [2, 4])]).unwrap();
            assert!(plan.sync_points.is_empty(), "{:?}", plan.sync_points);
        }
    }
}
