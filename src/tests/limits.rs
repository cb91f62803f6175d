//! Small models that ask for much: each ends in a plan, with what is too dear left to the run, or in an error that names the
//! node and the limit. Steps are counted, not seconds.

use crate::facts::InputFact;
use crate::internals::cases::planner;
use crate::internals::devices;
use crate::kernels::{Class, MAX_BINDINGS, Target};
use crate::onnx::builder::*;
use crate::onnx::proto::{NodeProto, TensorProto};
use crate::ops::Graph;
use crate::plan::Plan;
use crate::{DType, Error, Limits, LoadOptions, Model, Session, Tensor};

fn numbers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto { int64_data: values.to_vec(), ..empty(name, INT64, &[values.len() as i64]) }
}

/// A model with these nodes, that takes `x` and gives `y`.
fn model_of(opset: i64, nodes: Vec<NodeProto>, held: Vec<TensorProto>) -> Model {
    let mut graph = graph(&["x"], nodes, &["y"]);
    graph.initializer = held;
    Model::from_bytes(bytes(&model(opset, graph))).unwrap()
}

/// A model that adds the sum of what `nodes` make as `d` to its input.
fn summed(opset: i64, mut nodes: Vec<NodeProto>, held: Vec<TensorProto>) -> Model {
    nodes.push(node("ReduceSum", &["d"], &["e"]).with(int("keepdims", 0)));
    nodes.push(node("Add", &["x", "e"], &["y"]));
    model_of(opset, nodes, held)
}

fn zeros(shape: &str, name: &str) -> NodeProto {
    node("ConstantOfShape", &[shape], &[name])
}

fn plan(graph: &Graph, x: &[usize]) -> crate::Result<Plan> {
    planner(graph, &Target::FLOOR).plan(&[InputFact::of_shape(DType::F32, x)])
}

/// Shows that the passes leave the node that makes `d` to the run.
fn is_left(model: &Model) {
    let graph = model.optimized().unwrap();
    let makes =
        |node: &crate::ops::Node| node.outputs.iter().flatten().any(|id| graph.value(*id).name == "d");
    assert!(graph.nodes.iter().any(makes), "'d' was folded");
    // What its plan says does not matter here, but there is one, or an error that a caller can tell.
    match plan(&graph, &[1]) {
        Ok(_) | Err(Error::Limit { .. } | Error::Unsupported(_) | Error::Node { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn products_of_made_constants_are_left_to_the_run() {
    let c = || zeros("r", "c");
    is_left(&summed(21, vec![c(), node("MatMul", &["c", "c"], &["d"])], vec![numbers("r", &[8000, 8000])]));
    let einsum = node("Einsum", &["c", "c", "c"], &["d"]).with(string("equation", "ij,jk,kl->il"));
    is_left(&summed(21, vec![c(), einsum], vec![numbers("r", &[512, 512])]));
    let pool = node("MaxPool", &["c"], &["d"]).with(ints("kernel_shape", &[2000, 2000]));
    is_left(&summed(21, vec![c(), pool], vec![numbers("r", &[1, 1, 4000, 4000])]));
    let lstm = node("LSTM", &["c", "W", "R"], &["d"]).with(int("hidden_size", 512));
    let held = vec![numbers("r", &[20_000, 1, 512]), numbers("w", &[1, 2048, 512])];
    is_left(&summed(21, vec![c(), zeros("w", "W"), zeros("w", "R"), lstm], held));
    let align = ["output_height", "output_width", "sampling_ratio"].map(|name| int(name, 1000));
    let align = align.into_iter().fold(node("RoiAlign", &["c", "q", "i"], &["d"]), NodeProto::with);
    let held = vec![numbers("r", &[1, 1, 8, 8]), numbers("s", &[1, 4]), numbers("i", &[0])];
    is_left(&summed(16, vec![c(), zeros("s", "q"), align], held));
    is_left(&summed(17, vec![c(), node("DFT", &["c"], &["d"])], vec![numbers("r", &[1, 300_007, 1])]));
    let conv = node("Conv", &["c", "w"], &["d"]).with(ints("pads", &[128; 4]));
    let held = vec![numbers("r", &[1, 1, 2048, 2048]), numbers("s", &[1, 1, 256, 256])];
    is_left(&summed(21, vec![c(), zeros("s", "w"), conv], held));
}

#[test]
fn an_einsum_of_vectors_without_a_result_axis_is_left_to_the_run() {
    let einsum = node("Einsum", &["c"; 5], &["d"]).with(string("equation", "i,j,k,l,m->"));
    let nodes = vec![zeros("r", "c"), einsum, node("Add", &["x", "d"], &["y"])];
    is_left(&model_of(21, nodes, vec![numbers("r", &[1000])]));
}

#[test]
fn a_constant_that_doubles_ends_at_the_limit() {
    let doubled = |first: TensorProto, end: fn(&str) -> NodeProto| {
        let mut before = first.name.clone();
        let mut nodes = Vec::new();
        for i in 0..40 {
            let name = format!("t{i}");
            nodes.push(node("Concat", &[&before, &before], &[&name]).with(int("axis", 0)));
            before = name;
        }
        nodes.push(end(&before));
        model_of(21, nodes, vec![first])
    };
    let shape = doubled(numbers("one", &[1]), |last| node("Reshape", &["x", last], &["y"]));
    let graph = shape.optimized().unwrap();
    // 2^20 numbers of 16 bytes are folded at most: 2^27 bytes hold them twice, with what they were made of.
    assert!(graph.constant_bytes() <= 8 << 22, "{}", graph.constant_bytes());
    let error = plan(&graph, &[1]).unwrap_err();
    let Error::Node { op, reason, .. } = &error else { panic!("{error}") };
    assert_eq!(op, "Concat");
    assert!(reason.contains("decides shapes") && reason.contains("`Limits::bytes`"), "{reason}");

    let floats = doubled(weights("one", &[1], &[1.0]), |last| node("Identity", &[last], &["y"]));
    let graph = floats.optimized().unwrap();
    assert!(graph.constant_bytes() <= 1 << 27, "{}", graph.constant_bytes());
}

#[test]
fn a_shape_that_takes_too_much_names_node_and_limit() {
    let nodes = vec![node("Expand", &["one", "r"], &["s"]), node("Reshape", &["x", "s"], &["y"])];
    let held = vec![numbers("one", &[1]), numbers("r", &[50_000_000])];
    let graph = model_of(21, nodes, held).optimized().unwrap();
    let error = plan(&graph, &[1]).unwrap_err().to_string();
    assert!(error.starts_with("node 's' (Expand, opset 21, "), "{error}");
    assert!(
        error.contains("its value decides shapes") && error.ends_with("raise `Limits::bytes`"),
        "{error}"
    );
}

#[test]
fn raised_limits_fold_more() {
    let nodes = vec![zeros("r", "c"), node("MatMul", &["c", "c"], &["d"])];
    let mut graph = graph(&["x"], nodes, &["d"]);
    graph.initializer = vec![numbers("r", &[64, 64])];
    let file = bytes(&model(21, graph));
    let folded = |limits: Limits| {
        let model = Model::from_bytes_with(file.clone(), LoadOptions::new().limits(limits)).unwrap();
        model.optimized().unwrap().nodes.len()
    };
    assert_eq!(folded(Limits::new()), 0);
    assert_eq!(folded(Limits::new().steps(64 * 64)), 1);
    assert_eq!(folded(Limits::new().bytes(0)), 2);
}

#[test]
fn tables_of_a_resize_are_charged_before_they_are_made() {
    for mode in ["nearest", "linear"] {
        let resize = node("Resize", &["x", "", "", "s"], &["y"]).with(string("mode", mode));
        let graph =
            model_of(21, vec![resize], vec![numbers("s", &[1, 1, 1, 1_000_000_000])]).optimized().unwrap();
        let error = plan(&graph, &[1, 1, 1, 1]).unwrap_err().to_string();
        assert!(error.contains("the host makes a table for it") && error.contains("`Limits::"), "{error}");
    }
}

#[test]
fn names_of_calls_are_charged() {
    let name = |i: usize| if i == 0 { "x".into() } else { format!("t{i}") };
    let body = (0..2000).map(|i| node("Relu", &[&name(i)], &[&name(i + 1)])).collect();
    let call = NodeProto { name: "N".repeat(1_000_000), ..node("f", &["x"], &["y"]).of("local") };
    let mut proto = model(21, graph(&["x"], vec![call], &["y"]));
    let imports = vec![import("", 21)];
    let function = function("f", &["x"], body, &["t2000"]);
    proto.functions = vec![crate::onnx::proto::FunctionProto { opset_import: imports, ..function }];
    proto.opset_import.push(import("local", 1));
    let error = Model::from_bytes(bytes(&proto)).unwrap_err().to_string();
    assert!(error.contains("its functions expand too far, at node 't"), "{}", &error[..200.min(error.len())]);
}

#[test]
fn sums_of_eight_inputs_take_kernels_of_eight_bindings() {
    let names: Vec<String> = (0..8).map(|i| format!("x{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let file = bytes(&model(21, graph(&names, vec![node("Sum", &names, &["y"])], &["y"])));
    let graph = Model::from_bytes(file).unwrap().optimized().unwrap();
    let inputs = vec![InputFact::of_shape(DType::F32, &[4]); 8];
    let plan = planner(&graph, &Target::FLOOR).plan(&inputs).unwrap();
    assert!(plan.program.calls.iter().all(|call| call.tensors.len() <= MAX_BINDINGS));
}

/// More inputs than 16 bits number: two inputs in turn, whose sum, mean, maximum and minimum need no other computation.
#[test]
fn operators_of_66000_inputs() {
    const COUNT: usize = 66_000;
    let inputs: Vec<&str> = (0..COUNT).map(|i| if i % 2 == 0 { "x" } else { "z" }).collect();
    let (x, z) = ([1.0f32, -2.0, 0.5], [3.0f32, 4.0, -0.25]);
    let tensor = |values: &[f32; 3]| Tensor::from_slice(&[3], values).unwrap();
    let half = COUNT as f32 / 2.0;
    type OfPair = fn(f32, f32) -> f32;
    let expected: [(&str, OfPair, f32); 4] = [
        ("Sum", |x, z| x + z, half),
        ("Mean", |x, z| (x + z) / 2.0, 1.0),
        ("Max", f32::max, 1.0),
        ("Min", f32::min, 1.0),
    ];
    let devices = devices::each();
    for (i, (op, each, factor)) in expected.into_iter().enumerate() {
        let file = bytes(&model(21, graph(&["x", "z"], vec![node(op, &inputs, &["y"])], &["y"])));
        let model = Model::from_bytes(file).unwrap();
        let expected = x.iter().zip(&z).map(|(&x, &z)| factor * each(x, z)).collect::<Vec<f32>>();
        // One device for each operator, as planning so many inputs takes seconds.
        let device = devices.iter().cycle().nth(i).cloned();
        for device in device.into_iter().chain([crate::Device::reference()]) {
            let session = Session::new(&device, &model, Default::default()).unwrap();
            let outputs = session.run(&[("x", &tensor(&x)), ("z", &tensor(&z))]).unwrap();
            assert_eq!(outputs["y"].to_vec::<f32>().unwrap(), expected, "{op}");
        }
    }
}

/// The model `y = f(x, w)` with a `w` of 2s that is not folded, and the same model with `w` folded.
fn with_spread(held: Vec<TensorProto>, nodes: Vec<NodeProto>) -> [Model; 2] {
    let two = tensor_attribute("value", weights("", &[1], &[2.0]));
    let nodes = [vec![zeros("s", "w").with(two)], nodes].concat();
    let mut graph = graph(&["x"], nodes, &["y"]);
    graph.initializer = held;
    let file = bytes(&model(21, graph));
    [Limits::new().steps(0).bytes(0), Limits::new()]
        .map(|limits| Model::from_bytes_with(file.clone(), LoadOptions::new().limits(limits)).unwrap())
}

/// A binding that holds less than each constant of more than one element, and more than each other tensor.
const LEAST_BINDING: u64 = 1 << 15;

#[test]
fn repeated_values_over_budget_are_read_as_one_element() {
    let shape = |sizes: &[i64]| vec![numbers("s", sizes)];
    let sliced = || {
        let nodes = vec![
            node("Transpose", &["w"], &["t"]),
            node("Slice", &["t", "a", "b"], &["p"]),
            node("Mul", &["p", "x"], &["y"]),
        ];
        let held = vec![numbers("a", &[3]), numbers("b", &[6])];
        (vec![1, 300], nodes, [shape(&[300, 200]), held].concat())
    };
    let product = |m: usize| (vec![m, 128], vec![node("MatMul", &["x", "w"], &["y"])], shape(&[128, 200]));
    let gemm = |m: usize| {
        let nodes = vec![node("Gemm", &["x", "w"], &["y"]).with(int("transB", 1))];
        (vec![m, 128], nodes, shape(&[200, 128]))
    };
    let conv = || {
        let conv = node("Conv", &["x", "w"], &["y"]).with(ints("pads", &[1; 4]));
        (vec![1, 16, 7, 9], vec![conv], shape(&[12, 16, 3, 3]))
    };
    let turned = || {
        let nodes = vec![node("Reshape", &["w", "r"], &["t"]), node("MatMul", &["x", "t"], &["y"])];
        (vec![3, 128], nodes, [shape(&[100, 256]), vec![numbers("r", &[128, 200])]].concat())
    };
    let scaled = || {
        let nodes = vec![
            node("Cast", &["w"], &["c"]).with(int("to", i64::from(INT64))),
            node("Mul", &["three", "c"], &["m"]),
            node("Cast", &["m"], &["f"]).with(int("to", i64::from(FLOAT))),
            node("MatMul", &["x", "f"], &["y"]),
        ];
        (vec![2, 128], nodes, [shape(&[128, 200]), vec![numbers("three", &[3])]].concat())
    };
    let rows = || {
        let nodes = vec![node("ReduceSum", &["x"], &["e"]), node("Add", &["e", "w"], &["f"])];
        let nodes = [nodes, vec![node("ReduceSum", &["f"], &["y"])]].concat();
        (vec![2, 3], nodes, shape(&[40, 100]))
    };
    let examples: [(Vec<usize>, Vec<NodeProto>, Vec<TensorProto>); 9] =
        [product(1), product(40), gemm(1), gemm(40), conv(), sliced(), turned(), scaled(), rows()];
    for (x, nodes, held) in examples {
        let what = format!("{} of {x:?}", nodes.last().unwrap().op_type);
        let [spread, folded] = with_spread(held, nodes);
        let x = crate::ops::case::integers(&x, -4, 4);
        let x = crate::ops::case::converted(&x, DType::F32);
        let run = |device: &crate::Device, model: &Model| {
            let session = Session::new(device, model, Default::default()).unwrap();
            session.run(&[("x", &x)]).unwrap_or_else(|error| panic!("{what}: {error}"))["y"].clone()
        };
        let expected = run(&crate::Device::reference(), &folded);
        assert_eq!(run(&crate::Device::reference(), &spread), expected, "{what}");
        for device in [Class::Cpu, Class::Gpu].into_iter().flat_map(devices::of_class) {
            let device = device.with_target(|target| target.max_binding = LEAST_BINDING);
            assert_eq!(run(&device, &spread), expected, "{what} on {}", device.name());
        }
    }
}

/// The model's own weights are folded, whatever their size: the limits for what a model adds to its own tensors are 0 here.
#[test]
fn operators_on_own_weights_are_folded_at_any_size() {
    const SIZE: usize = 128;
    let weight = |dtype: DType| {
        let held = vec![1; dtype.bytes_of(SIZE * SIZE).unwrap()];
        let dims = [SIZE as i64; 2];
        TensorProto { raw_data: Some(held.into()), ..empty("w", dtype.onnx(), &dims) }
    };
    let floats = |name: &str, count: usize| weights(name, &[count as i64], &vec![0.5; count]);
    let cast = |to: DType| node("Cast", &["w"], &["d"]).with(int("to", i64::from(to.onnx())));
    let dequantize = || node("DequantizeLinear", &["w", "s"], &["d"]);
    let turned = || node("Transpose", &["w"], &["d"]);
    let examples = [
        (DType::F32, turned(), vec![]),
        (DType::I64, turned(), vec![]),
        (DType::I8, turned(), vec![]),
        (DType::F16, cast(DType::F32), vec![]),
        (DType::F32, cast(DType::F16), vec![]),
        (DType::I4, cast(DType::I64), vec![]),
        (DType::U8, dequantize(), vec![floats("s", 1)]),
        (DType::I8, dequantize().with(int("axis", 0)), vec![floats("s", SIZE)]),
        (DType::I4, dequantize().with(int("axis", 1)), vec![floats("s", SIZE)]),
        (DType::F8E4M3FN, dequantize(), vec![floats("s", 1)]),
    ];
    for (dtype, maker, held) in examples {
        let what = format!("{} of {dtype}", maker.op_type);
        let mut graph = graph(&["x"], vec![maker], &["d"]);
        graph.initializer = [vec![weight(dtype)], held].concat();
        let limits = LoadOptions::new().limits(Limits::new().steps(0).bytes(0));
        let model = Model::from_bytes_with(bytes(&model(21, graph)), limits).unwrap();
        assert!(model.optimized().unwrap().nodes.is_empty(), "{what} is left to the run");
    }
}
