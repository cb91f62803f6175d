//! What a model lists as its inputs and outputs, and nodes that none of its outputs needs. Each test runs on the reference and
//! on every adapter present; expected values come from arithmetic.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use sardonyx::{DType, Device, Model, Session, SessionOptions, Tensor, verify};
use sardonyx_testing::onnx::build::{
    FLOAT, INT64, bytes, empty, graph, import, ints, model, node, value, weights,
};
use sardonyx_testing::onnx::proto::{GraphProto, ModelProto};
use sardonyx_testing::{devices, onnx};

const STRING: i32 = 8;
const DOUBLE: i32 = 11;

fn load(proto: &ModelProto) -> Model {
    Model::from_bytes(bytes(proto)).unwrap()
}

fn all_devices() -> Vec<Device> {
    [Device::reference()].into_iter().chain(devices::each()).collect()
}

fn session(device: &Device, model: &Model) -> Session {
    Session::new(device, model, SessionOptions::default()).unwrap()
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

/// The `count` greatest elements of `x * gain`; both operands have defaults, 2 and 1.
fn scaled() -> ModelProto {
    let nodes = vec![node("Mul", &["x", "gain"], &["m"]), node("TopK", &["m", "count"], &["y", ""])];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("gain", FLOAT, &[]), value("x", FLOAT, &["n"]), value("count", INT64, &["1"])];
    let one = 1i64.to_le_bytes().to_vec();
    main.initializer = vec![
        weights("gain", &[], &[2.0]),
        onnx::proto::TensorProto { raw_data: Some(one.into()), ..empty("count", INT64, &[1]) },
    ];
    model(21, main)
}

#[test]
fn an_input_with_a_default_may_be_given() {
    let model = load(&scaled());
    let listed: Vec<(&str, bool)> =
        model.inputs().iter().map(|info| (info.name.as_str(), info.has_default)).collect();
    assert_eq!(listed, [("gain", true), ("x", false), ("count", true)]);
    assert!(model.outputs().iter().all(|info| !info.has_default));
    let (x, gain) = (vector(&[1.0, -4.0, 3.0]), Tensor::from_slice(&[], &[-1.0f32]).unwrap());
    let count = Tensor::from_slice(&[1], &[2i64]).unwrap();
    for device in all_devices() {
        let session = session(&device, &model);
        let run = |inputs: &[(&str, &Tensor)]| {
            session.run(inputs).map(|outputs| outputs[0].to_vec::<f32>().unwrap())
        };
        // Twice, so that each graph is found again.
        for _ in 0..2 {
            assert_eq!(run(&[("x", &x)]).unwrap(), [6.0]);
            assert_eq!(run(&[("x", &x), ("gain", &gain)]).unwrap(), [4.0]);
            assert_eq!(run(&[("count", &count), ("x", &x)]).unwrap(), [6.0, 2.0]);
            assert_eq!(run(&[("x", &x), ("count", &count), ("gain", &gain)]).unwrap(), [4.0, -1.0]);
        }
        let error = run(&[("gain", &gain)]).unwrap_err().to_string();
        assert_eq!(error, "input 'x': is missing; the model takes x: float32[n]");
        let error = run(&[("x", &x), ("loss", &gain)]).unwrap_err().to_string();
        assert_eq!(error, "input 'loss': the model has no such input; it has gain, x, count");
        let error = run(&[("x", &x), ("gain", &x)]).unwrap_err().to_string();
        assert_eq!(error, "input 'gain': has shape [3], and the model takes []");
        if !device.is_reference() {
            let binding = session.bind().input("x", &x).input("count", &count).build().unwrap();
            assert_eq!(binding.output_shape(0), Some(&[2][..]));
            let found = verify(&device, &model, &[("x", &x), ("gain", &gain)], 1e-6).unwrap();
            assert!(found.first_divergence().is_none());
            assert_eq!(found.outputs[0].shape, [1]);
        }
    }
}

#[test]
fn a_default_of_a_large_tensor_stays_a_weight() {
    let nodes = vec![node("MatMul", &["x", "w"], &["y"])];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("x", FLOAT, &["n", "2"]), value("w", FLOAT, &["2", "columns"])];
    main.initializer = vec![weights("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0])];
    let model = load(&model(21, main));
    let x = Tensor::from_slice(&[1, 2], &[1.0f32, 10.0]).unwrap();
    let other = Tensor::from_slice(&[2, 1], &[5.0f32, 6.0]).unwrap();
    for device in all_devices() {
        let session = session(&device, &model);
        let outputs = session.run(&[("x", &x)]).unwrap();
        assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [31.0, 42.0]);
        // The declared size is open, and the default's own size is no limit.
        let outputs = session.run(&[("x", &x), ("w", &other)]).unwrap();
        assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [65.0]);
        if !device.is_reference() {
            assert!(session.plan(&[("x", &x)]).unwrap().weight_bytes > 0);
            assert_eq!(session.plan(&[("x", &x), ("w", &other)]).unwrap().weight_bytes, 0);
        }
    }
}

#[test]
fn initializers_that_had_to_be_listed_are_constants() {
    let model = load(&ModelProto { ir_version: 3, ..scaled() });
    let names: Vec<&str> = model.inputs().iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["x"]);
    let x = vector(&[1.0, 2.0]);
    for device in all_devices() {
        let error = session(&device, &model).run(&[("x", &x), ("gain", &x)]).unwrap_err().to_string();
        assert_eq!(error, "input 'gain': the model has no such input; it has x");
    }
}

#[test]
fn an_output_listed_twice_is_given_twice() {
    let nodes = vec![node("Relu", &["x"], &["a"]), node("Neg", &["a"], &["b"])];
    let mut main = graph(&[], nodes, &["a", "b", "a", "b", "x", "x"]);
    main.input = vec![value("x", FLOAT, &["n"])];
    let model = load(&model(21, main));
    for device in all_devices() {
        let outputs = session(&device, &model).run(&[("x", &vector(&[2.0, -3.0]))]).unwrap();
        let given: Vec<(&str, Vec<f32>)> =
            outputs.iter().map(|(name, tensor)| (name, tensor.to_vec().unwrap())).collect();
        let (a, b, x) = (vec![2.0, 0.0], vec![-2.0, -0.0], vec![2.0, -3.0]);
        let wanted = [("a", &a), ("b", &b), ("a", &a), ("b", &b), ("x", &x), ("x", &x)];
        assert_eq!(given, wanted.map(|(name, values)| (name, values.clone())), "{}", device.name());
    }
}

#[test]
fn an_input_of_any_type_passes_through() {
    let nodes = vec![node("Identity", &["x"], &["y"])];
    let doubles = [1e300f64, -0.0, f64::MIN_POSITIVE / 4.0];
    let doubles = doubles.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    for (kind, tensor) in [
        (DOUBLE, Tensor::from_raw(DType::F64, &[3], doubles).unwrap()),
        (INT64, Tensor::from_slice(&[3], &[i64::MIN, 1 << 40, -1]).unwrap()),
        (STRING, Tensor::from_strings(&[1], vec!["größe".into()]).unwrap()),
    ] {
        let mut main = graph(&[], nodes.clone(), &[]);
        main.input = vec![value("x", kind, &["n"])];
        main.output = vec![value("y", kind, &["n"]), value("x", kind, &["n"])];
        let model = load(&model(21, main));
        for device in all_devices() {
            let outputs = session(&device, &model).run(&[("x", &tensor)]).unwrap();
            assert_eq!(
                outputs.into_iter().collect::<Vec<_>>(),
                [("y".to_string(), tensor.clone()), ("x".to_string(), tensor.clone())]
            );
        }
    }
}

#[test]
fn what_no_output_needs_stops_no_model() {
    let nodes = vec![
        node("Relu", &["x"], &["y"]),
        node("Frobnicate", &["x"], &["f"]),
        node("Gizmo", &["y", "f"], &["g", "h"]).of("com.acme"),
        // Only one of its outputs is needed; neither a parser nor a kernel sees the others.
        node("Dropout", &["y"], &["", "mask"]),
        node("MaxPool", &["image"], &["", "places"]).with(ints("kernel_shape", &[2])),
    ];
    let mut main = graph(&[], nodes, &["y", "mask", "places"]);
    main.input = vec![value("x", FLOAT, &["n"]), value("image", FLOAT, &["1", "1", "4"])];
    let mut proto = model(21, main);
    proto.opset_import.push(import("com.acme", 1));
    let model = load(&proto);
    assert!(model.unsupported().is_empty());
    let (x, image) =
        (vector(&[-1.0, 2.0]), Tensor::from_slice(&[1, 1, 4], &[3.0f32, 1.0, 2.0, 4.0]).unwrap());
    for device in all_devices() {
        let outputs = session(&device, &model).run(&[("x", &x), ("image", &image)]).unwrap();
        assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [0.0, 2.0]);
        assert_eq!(outputs[1], Tensor::from_bools(&[2], &[true, true]).unwrap());
        assert_eq!(outputs[2].to_vec::<i64>().unwrap(), [0, 2, 3]);
        if !device.is_reference() {
            let found = verify(&device, &model, &[("x", &x), ("image", &image)], 1e-6).unwrap();
            assert!(found.first_divergence().is_none());
        }
    }
}

/// By the specification, more than one output means training, which normalises by the batch's own statistics, whether anything
/// reads the outputs or not. ONNX Runtime 1.31 agrees.
#[test]
fn an_old_batch_normalisation_with_unused_statistics_trains() {
    let statistics = ["s", "b", "m", "v"];
    let nodes = vec![node("BatchNormalization", &["x", "s", "b", "m", "v"], &["y", "m1", "v1", "m2", "v2"])];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("x", FLOAT, &["n", "1"])];
    main.initializer = statistics.map(|name| weights(name, &[1], &[3.0])).into();
    let model = load(&model(9, main));
    let values = [1.0f32, 2.0, 4.0, 9.0];
    let (mean, variance) = (4.0, (9.0 + 4.0 + 0.0 + 25.0) / 4.0);
    for device in all_devices() {
        let x = Tensor::from_slice(&[4, 1], &values).unwrap();
        let outputs = session(&device, &model).run(&[("x", &x)]).unwrap();
        for (y, x) in outputs[0].to_vec::<f32>().unwrap().iter().zip(values) {
            let expected = (f64::from(x) - mean) / (variance + 1e-5f64).sqrt() * 3.0 + 3.0;
            // A few roundings to f32 of numbers below 10.
            assert!((f64::from(*y) - expected).abs() < 1e-5, "{}: {y} {expected}", device.name());
        }
    }
}

#[test]
fn sums_have_any_number_of_inputs() {
    let count = 3000;
    let names: Vec<String> = (0..count).map(|i| format!("x{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let nodes = vec![node("Sum", &names, &["sum"]), node("Max", &names, &["max"])];
    let mut main: GraphProto = graph(&[], nodes, &["sum", "max"]);
    main.input = names.iter().map(|name| value(name, FLOAT, &["2"])).collect();
    let model = load(&model(21, main));
    let tensors: Vec<Tensor> = (0..count).map(|i| vector(&[i as f32, -(i as f32)])).collect();
    let inputs: Vec<(&str, &Tensor)> = names.iter().copied().zip(&tensors).collect();
    for device in all_devices() {
        let outputs = session(&device, &model).run(&inputs).unwrap();
        // Whole numbers below 2^24 are exact in f32.
        let total = (count * (count - 1) / 2) as f32;
        assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [total, -total]);
        assert_eq!(outputs[1].to_vec::<f32>().unwrap(), [(count - 1) as f32, 0.0]);
    }
}
