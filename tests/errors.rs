//! Every kind of error, with the message that a user sees.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use sardonyx::{
    DType, Device, DeviceOptions, Dim, Error, InputError, IntegerBits, Model, Select, Session,
    SessionOptions, Tensor, wgpu,
};
use sardonyx_testing::devices;
use sardonyx_testing::onnx::build::{
    FLOAT, INT64, bytes, empty, external, graph, import, int, ints, model, node, value, weights,
};
use sardonyx_testing::onnx::proto::{GraphProto, ModelProto, TensorProto};

fn of(main: GraphProto) -> Model {
    Model::from_bytes(bytes(&model(21, main))).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(main: GraphProto) -> String {
    Model::from_bytes(bytes(&model(21, main))).unwrap_err().to_string()
}

fn session(device: &Device, model: &Model) -> Session {
    Session::new(device, model, SessionOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::from_slice(shape, &vec![1.0f32; shape.iter().product()]).unwrap()
}

/// The reference and every adapter: all must report the same.
fn all_devices() -> Vec<Device> {
    let mut devices = devices::each();
    devices.push(Device::reference());
    devices
}

/// The error of a run, the same on every device.
fn run_error(model: &Model, inputs: &[(&str, &Tensor)]) -> String {
    let error = |device: &Device| session(device, model).run(inputs).unwrap_err().to_string();
    let errors: Vec<String> = all_devices().iter().map(error).collect();
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:#?}");
    errors[0].clone()
}

/// `y = relu(x) @ w`.
fn layer() -> GraphProto {
    let nodes = vec![node("Relu", &["x"], &["r"]), node("MatMul", &["r", "w"], &["y"])];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("x", FLOAT, &["n", "3"])];
    main.initializer = vec![weights("w", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])];
    main
}

#[test]
fn a_truncated_file() {
    let file = bytes(&model(21, layer()));
    let error = Model::from_bytes(file.slice(..file.len() / 2)).unwrap_err().to_string();
    assert!(error.starts_with("not an ONNX model: failed to decode Protobuf message"), "{error}");
    assert!(error.ends_with("; the file is damaged, cut short, or something else"), "{error}");
}

#[test]
fn bytes_that_are_no_protobuf() {
    let error = Model::from_bytes(&b"<html>Not found</html>"[..]).unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error}");
    assert!(error.to_string().starts_with("not an ONNX model: "), "{error}");
    assert_eq!(Model::from_bytes(Vec::new()).unwrap_err().to_string(), "not an ONNX model: it is empty");
}

#[test]
fn a_file_that_is_not_there() {
    let error = Model::load("no/such/model.onnx").unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
    assert!(error.to_string().starts_with("no/such/model.onnx: "), "{error}");
}

#[test]
fn nodes_in_a_circle() {
    let nodes = vec![node("Add", &["x", "b"], &["a"]), node("Relu", &["a"], &["b"])];
    assert_eq!(
        refusal(graph(&["x"], nodes, &["b"])),
        "invalid model: nodes need each other in a circle: 'a', 'b'"
    );
}

#[test]
fn names_that_are_missing_or_there_twice() {
    assert_eq!(
        refusal(graph(&["x"], vec![node("Relu", &["z"], &["y"])], &["y"])),
        "invalid model: node 'y' uses 'z', which nothing makes"
    );
    assert_eq!(
        refusal(graph(&["x", "y"], vec![node("Relu", &["x"], &["y"])], &["y"])),
        "invalid model: an output of node 'y' is called 'y', and so is another value"
    );
    assert_eq!(refusal(graph(&["x"], vec![], &["y"])), "invalid model: nothing makes the graph output 'y'");
}

#[test]
fn all_unknown_operators_at_once() {
    let nodes = vec![
        node("Frobnicate", &["x"], &["a"]),
        node("Gizmo", &["a"], &["b"]).of("com.acme"),
        node("Relu", &["b"], &["y"]),
    ];
    let mut proto = model(21, graph(&["x"], nodes, &["y"]));
    proto.opset_import.push(import("com.acme", 1));
    let model = Model::from_bytes(bytes(&proto)).unwrap();
    for device in all_devices() {
        let error = Session::new(&device, &model, SessionOptions::default()).unwrap_err();
        assert!(matches!(&error, Error::Unsupported(nodes) if nodes.len() == 2));
        assert_eq!(
            error.to_string(),
            "2 unsupported nodes:\n  Frobnicate 'a' (opset 21): Sardonyx has no such operator\n  \
             com.acme.Gizmo 'b' (opset 1): Sardonyx has no such operator"
        );
    }
}

#[test]
fn inputs_that_do_not_fit() {
    let model = of(layer());
    let x = ones(&[2, 3]);
    let error = |inputs: &[(&str, &Tensor)]| run_error(&model, inputs);
    assert_eq!(error(&[("z", &x)]), "input 'z': the model has no such input; it has x");
    assert_eq!(error(&[]), "input 'x': is missing; the model takes x: float32[n, 3]");
    assert_eq!(error(&[("x", &x), ("x", &x)]), "input 'x': is given twice");
    let doubles = Tensor::from_slice(&[1, 3], &[1.0f64; 3]).unwrap();
    assert_eq!(error(&[("x", &doubles)]), "input 'x': is float64, and the model takes float32");
    assert_eq!(error(&[("x", &ones(&[3]))]), "input 'x': has shape [3], and the model takes [n, 3]");
    assert_eq!(error(&[("x", &ones(&[2, 4]))]), "input 'x': has shape [2, 4], and the model takes [n, 3]");
}

#[test]
fn inputs_that_do_not_fit_can_be_told_apart() {
    let model = two_inputs(&["n", "2"], &["n"]);
    let (x, y) = (ones(&[3, 2]), ones(&[3]));
    let doubles = Tensor::from_slice(&[3], &[1.0f64; 3]).unwrap();
    let missing: Vec<_> = model.inputs().to_vec();
    let text = |text: &str| text.to_string();
    let dims = vec![Dim::Symbol("n".into()), Dim::Known(2)];
    let cases: [(&[(&str, &Tensor)], InputError); 7] = [
        (&[], InputError::Missing(missing.clone())),
        (&[("x", &x)], InputError::Missing(missing[1..].to_vec())),
        (&[("z", &x)], InputError::Unknown { name: text("z"), expected: vec![text("x"), text("y")] }),
        (&[("x", &x), ("x", &x)], InputError::Twice { name: text("x") }),
        (
            &[("x", &x), ("y", &doubles)],
            InputError::DType { name: text("y"), expected: DType::F32, given: DType::F64 },
        ),
        (&[("x", &y), ("y", &y)], InputError::Shape { name: text("x"), expected: dims, given: vec![3] }),
        (
            &[("x", &ones(&[4, 2])), ("y", &y)],
            InputError::Dimension {
                name: text("y"),
                axis: 0,
                given: 3,
                other: text("x"),
                other_axis: 0,
                expected: 4,
                dimension: text("n"),
            },
        ),
    ];
    for (inputs, expected) in cases {
        for device in all_devices() {
            match session(&device, &model).run(inputs) {
                Err(Error::Input(error)) => assert_eq!(error, expected),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(
        run_error(&model, &[]),
        "2 inputs are missing; the model takes x: float32[n, 2], y: float32[n]"
    );
}

/// An error's text is complete, or leaves its cause to `source()`: tools that print the whole chain must print nothing twice.
#[test]
fn no_cause_is_printed_twice() {
    let model = of(layer());
    let reference = session(&Device::reference(), &model);
    let errors = [
        Model::load("no/such/model.onnx").unwrap_err(),
        Model::from_bytes(&b"nothing"[..]).unwrap_err(),
        reference.run(&[("z", &ones(&[1]))]).unwrap_err(),
        reference.run(&[("x", &ones(&[1]))]).unwrap_err(),
        reference.plan(&[("x", &ones(&[1, 3]))]).unwrap_err(),
        Device::new(DeviceOptions::new().select(Select::Name("Voodoo 2".into()))).unwrap_err(),
        Tensor::from_slice(&[3], &[1.0f32]).unwrap_err(),
    ];
    for error in errors {
        let mut told = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            assert!(!told.contains(&source.to_string()), "{told}: {source}");
            told += &source.to_string();
            cause = source.source();
        }
    }
}

#[test]
fn errors_of_files_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (Model::load(&path).unwrap_err().to_string(), path.display().to_string())
    };
    let (text, path) = error("text.onnx", b"<html>Not found</html>");
    assert!(text.starts_with(&format!("{path}: not an ONNX model: ")), "{text}");
    let circle = graph(&["x"], vec![node("Relu", &["z"], &["y"])], &["y"]);
    let (text, path) = error("circle.onnx", &bytes(&model(21, circle)));
    assert_eq!(text, format!("{path}: invalid model: node 'y' uses 'z', which nothing makes"));
    let mut main = graph(&["x"], vec![node("Add", &["x", "w"], &["y"])], &["y"]);
    main.initializer = vec![external("w", &[1], &[("location", "none.bin")])];
    let (text, path) = error("external.onnx", &bytes(&model(21, main)));
    assert!(text.starts_with(&format!("{path}: external data of tensor 'w': ")), "{text}");
    let error = Model::load(folder.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: not a regular file", folder.path().display()));
}

/// A graph that no operator refuses for these inputs, whatever their sizes.
fn two_inputs(x: &[&str], y: &[&str]) -> Model {
    let nodes = vec![node("Relu", &["x"], &["a"]), node("Relu", &["y"], &["b"])];
    let mut main = graph(&[], nodes, &["a", "b"]);
    main.input = vec![value("x", FLOAT, x), value("y", FLOAT, y)];
    of(main)
}

#[test]
fn dimensions_of_one_name_and_two_sizes() {
    let model = two_inputs(&["n", "3"], &["n"]);
    let error = run_error(&model, &[("y", &ones(&[1])), ("x", &ones(&[2, 3]))]);
    assert_eq!(
        error,
        "input 'y': axis 0 has size 1, and axis 0 of input 'x' has size 2; the model calls both 'n', so they must be equal"
    );
    let error = run_error(&two_inputs(&["n", "n"], &["m"]), &[("x", &ones(&[4, 5])), ("y", &ones(&[4]))]);
    assert_eq!(
        error,
        "input 'x': axis 1 has size 5, and axis 0 of input 'x' has size 4; the model calls both 'n', so they must be equal"
    );
}

#[test]
fn dimensions_without_a_name_of_their_own_may_differ() {
    for device in all_devices() {
        for name in ["?", "", "-1", "None"] {
            let model = two_inputs(&[name, "3"], &[name]);
            let outputs = session(&device, &model).run(&[("x", &ones(&[2, 3])), ("y", &ones(&[4]))]).unwrap();
            assert_eq!((outputs[0].shape(), outputs[1].shape()), (&[2, 3][..], &[4][..]), "'{name}'");
        }
        let model = two_inputs(&["n", "m"], &["n"]);
        for n in [3, 5, 3] {
            session(&device, &model).run(&[("x", &ones(&[n, 4])), ("y", &ones(&[n]))]).unwrap();
        }
    }
}

#[test]
fn shapes_that_do_not_fit_an_operator() {
    let mut main = graph(&["x"], vec![node("MatMul", &["x", "w"], &["y"])], &["y"]);
    main.node[0].name = "dense".into();
    main.initializer = vec![weights("w", &[3, 2], &[1.0; 6])];
    let error = run_error(&of(main), &[("x", &ones(&[2, 4]))]);
    assert_eq!(
        error,
        "node 'dense' (MatMul, opset 21, inputs float32[2x4], float32[3x2]): \
         4 columns on the left do not match 3 rows on the right"
    );
}

#[test]
fn shapes_that_overflow() {
    let mut main = graph(&[], vec![node("Expand", &["x", "shape"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["1"]), value("shape", INT64, &["3"])];
    let shape = Tensor::from_slice(&[3], &[1i64 << 31, 1 << 31, 1 << 31]).unwrap();
    let error = run_error(&of(main), &[("x", &ones(&[1])), ("shape", &shape)]);
    assert_eq!(
        error,
        "node 'y' (Expand, opset 21, inputs float32[1], int64[3]): \
         the output float32[2147483648x2147483648x2147483648] has more than 1073741823 elements"
    );
    let error = Tensor::from_raw(sardonyx::DType::F32, &[usize::MAX, 2], Vec::new()).unwrap_err();
    let count = usize::MAX;
    assert_eq!(
        error.to_string(),
        format!("tensor: float32[{count}, 2] takes too many bytes, and 0 were given")
    );
}

#[test]
fn absurd_initializers() {
    let with = |tensor| GraphProto { initializer: vec![tensor], ..graph(&["x"], vec![], &["x"]) };
    assert_eq!(
        refusal(with(empty("w", FLOAT, &[1 << 40, 1 << 40]))),
        "invalid model: tensor 'w' is too large: float32[1099511627776, 1099511627776]"
    );
    assert_eq!(
        refusal(with(TensorProto { raw_data: Some(vec![0; 4].into()), ..empty("w", FLOAT, &[1 << 40]) })),
        "invalid model: tensor 'w' is float32[1099511627776], which takes 4398046511104 bytes, and it holds 4"
    );
    assert_eq!(
        refusal(with(empty("w", FLOAT, &[-1]))),
        "invalid model: tensor 'w' has the impossible shape [-1]"
    );
}

#[test]
fn external_data_that_escape() {
    let site = tempfile::tempdir().unwrap();
    let folder = site.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(site.path().join("secret.bin"), [0; 8]).unwrap();
    let absolute = site.path().join("secret.bin");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&absolute, folder.join("soft.bin")).unwrap();
        std::fs::hard_link(&absolute, folder.join("hard.bin")).unwrap();
    }
    let load = |location: &str| {
        let mut main = graph(&["x"], vec![node("Add", &["x", "w"], &["y"])], &["y"]);
        main.initializer = vec![external("w", &[2], &[("location", location)])];
        std::fs::write(folder.join("m.onnx"), bytes(&model(21, main))).unwrap();
        let error = Model::load(folder.join("m.onnx")).unwrap_err().to_string();
        error.replace(&format!("{}: ", folder.join("m.onnx").display()), "")
    };
    assert_eq!(
        load("../secret.bin"),
        "external data of tensor 'w': '../secret.bin' is not a path inside the model's folder"
    );
    let absolute = absolute.to_str().unwrap();
    assert_eq!(
        load(absolute),
        format!("external data of tensor 'w': '{absolute}' is not a path inside the model's folder")
    );
    if cfg!(unix) {
        assert_eq!(
            load("soft.bin"),
            "external data of tensor 'w': 'soft.bin' is a link out of the model's folder"
        );
        assert_eq!(
            load("hard.bin"),
            "external data of tensor 'w': 'hard.bin' is a hard link, which may be a file from elsewhere: copy it"
        );
    }
    assert!(load("none.bin").starts_with("external data of tensor 'w': 'none.bin' cannot be read: "));
}

#[test]
fn a_tensor_that_is_read_as_another_type() {
    assert_eq!(
        ones(&[1]).to_vec::<i64>().unwrap_err().to_string(),
        "tensor: a float32 tensor was read as int64"
    );
    let error = Tensor::from_slice(&[2, 2], &[1.0f32]).unwrap_err().to_string();
    assert_eq!(error, "tensor: float32[2, 2] takes 16 bytes, and 4 were given");
}

#[test]
fn integers_that_do_not_fit_the_device() {
    let mut main = graph(&[], vec![node("Neg", &["x"], &["y"])], &[]);
    main.input = vec![value("x", INT64, &["1"])];
    main.output = vec![value("y", INT64, &["1"])];
    let model = of(main);
    let x = Tensor::from_slice(&[1], &[1i64 << 40]).unwrap();
    for device in devices::each() {
        let outputs = session(&device, &model).run(&[("x", &x)]).unwrap();
        assert_eq!(outputs["y"].to_vec::<i64>().unwrap(), [-(1i64 << 40)]);
        let options = SessionOptions::new().integers(IntegerBits::Only32);
        let error = Session::new(&device, &model, options).unwrap().run(&[("x", &x)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input 'x': 1099511627776 does not fit the 32 bits in which the device computes; `IntegerBits` of the \
             session's options says when it computes in 64, and the CPU reference (`Device::reference()`) always computes in 64"
        );
    }
}

#[test]
fn tensors_above_the_limit_of_a_binding() {
    // A sum that runs along the only axis is not computed in parts.
    let nodes = vec![node("Expand", &["x", "shape"], &["e"]), node("CumSum", &["e", "axis"], &["y"])];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("x", FLOAT, &["1"]), value("shape", INT64, &["1"])];
    main.initializer = vec![TensorProto { int64_data: vec![0], ..empty("axis", INT64, &[]) }];
    let model = of(main);
    for device in devices::each() {
        let limit = device.wgpu().unwrap().0.limits().max_storage_buffer_binding_size;
        if limit / 4 + 4 > 1 << 30 {
            continue;
        }
        let shape = Tensor::from_slice(&[1], &[limit as i64 / 4 + 4]).unwrap();
        let error = session(&device, &model).run(&[("x", &ones(&[1])), ("shape", &shape)]).unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
        let text = error.to_string();
        let exactly = format!("({} bytes), and the device allows", limit + 16);
        let names_it = ["tensor 'e' takes ", "tensor 'y' takes "].iter().any(|start| text.starts_with(start));
        assert!(names_it && text.contains(&exactly), "{text}");
        assert!(text.ends_with(&format!("iB ({limit} bytes)")), "{text}");
    }
}

#[test]
fn an_adapter_that_is_not_there() {
    let error = Device::new(DeviceOptions::new().select(Select::Name("Voodoo 2".into()))).unwrap_err();
    assert!(matches!(error, Error::NoAdapter { .. }));
    let present: Vec<String> = sardonyx::adapters().into_iter().map(|adapter| adapter.name).collect();
    if present.is_empty() {
        assert!(error.to_string().starts_with("no GPU adapter matches 'Voodoo 2': install a Vulkan driver"));
    } else {
        assert!(error.to_string().starts_with("no GPU adapter matches 'Voodoo 2': there "), "{error}");
        assert!(present.iter().all(|name| error.to_string().contains(name)), "{error}");
    }
}

/// Runs in a process of its own, whose Vulkan loader finds no driver.
#[cfg(target_os = "linux")]
#[test]
fn no_adapter_at_all() {
    const INSIDE: &str = "SARDONYX_TEST_WITHOUT_DRIVERS";
    if std::env::var_os(INSIDE).is_none() {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "no_adapter_at_all", "--nocapture"]).env(INSIDE, "1");
        process.env_remove("VK_ADD_DRIVER_FILES");
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            process.env(variable, "/no/such/driver.json");
        }
        let output = process.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(sardonyx::adapters().is_empty());
    let error = Device::new(DeviceOptions::new().select(Select::Gpu)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no GPU adapter was found: install a Vulkan driver (software: Debian/Ubuntu package mesa-vulkan-drivers), or \
         take the CPU reference (`Device::reference()`)"
    );
    // Unless the options require a GPU, the reference runs the model.
    let device = Device::new(DeviceOptions::default()).unwrap();
    assert!(device.is_reference());
    let outputs = session(&device, &of(layer())).run(&[("x", &ones(&[1, 3]))]).unwrap();
    assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [9.0, 12.0]);
}

fn host_devices(limits: wgpu::Limits) -> Vec<(wgpu::Device, wgpu::Queue)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let adapters = pollster::block_on(instance.enumerate_adapters(backends));
    let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..wgpu::DeviceDescriptor::default() };
    adapters
        .iter()
        .filter_map(|adapter| pollster::block_on(adapter.request_device(&descriptor)).ok())
        .collect()
}

#[test]
fn a_device_below_the_floor() {
    let limits = wgpu::Limits {
        max_storage_buffers_per_shader_stage: 4,
        max_compute_invocations_per_workgroup: 128,
        ..wgpu::Limits::default()
    };
    for (device, queue) in host_devices(limits) {
        let name = device.adapter_info().name;
        let error = Device::from_wgpu(device, queue).unwrap_err();
        assert!(matches!(error, Error::BelowFloor { .. }));
        assert_eq!(
            error.to_string(),
            format!(
                "adapter '{name}' is below the floor: it has 4 storage buffers per shader stage, and 8 are needed; it \
                 has 128 invocations per workgroup, and 256 are needed; request the device with at least \
                 `wgpu::Limits::default()`"
            )
        );
    }
}

/// Devices of Sardonyx's own, and a host's device, which shows only by its calls that it is lost.
#[test]
fn a_lost_device_and_a_session_rebuilt() {
    let model = of(layer());
    let x = ones(&[1, 3]);
    let run = |session: &Session| session.run(&[("x", &x)]);
    let own = devices::each().into_iter().map(|device| (device, true));
    let hosts = host_devices(wgpu::Limits::default()).into_iter();
    let hosts = hosts.map(|(device, queue)| (Device::from_wgpu(device, queue).unwrap(), false));
    for (device, own) in own.chain(hosts) {
        let session = session(&device, &model);
        run(&session).unwrap();
        device.wgpu().unwrap().0.destroy();
        let lost = |error: Error| {
            assert!(matches!(error, Error::DeviceLost(_)), "{error}");
            let text = error.to_string();
            assert!(text.starts_with("device lost: "), "{text}");
            assert!(text.ends_with("; make a new Device and a new Session from the same Model"), "{text}");
            if own {
                assert!(text.starts_with("device lost: destroyed"), "{text}");
            }
        };
        // A plan that exists, a plan that does not, and the session itself.
        lost(run(&session).unwrap_err());
        lost(run(&session).unwrap_err());
        lost(session.run(&[("x", &ones(&[4, 3]))]).unwrap_err());
        lost(pollster::block_on(session.run_async(&[("x", &x)])).unwrap_err());
        lost(session.bind().input("x", &x).build().unwrap_err());
        lost(run(&self::session(&device, &model)).unwrap_err());
        let again = devices::open(&device.name());
        let outputs = run(&self::session(&again, &model)).unwrap();
        assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [9.0, 12.0]);
    }
}

#[test]
fn a_device_lost_while_threads_run() {
    let model = of(layer());
    for device in devices::each() {
        let session = session(&device, &model);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        match session.run(&[("x", &ones(&[1, 3]))]) {
                            Ok(outputs) => assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [9.0, 12.0]),
                            Err(Error::DeviceLost(_)) => return,
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            device.wgpu().unwrap().0.destroy();
        });
    }
}

#[test]
fn the_reference_has_no_plans() {
    let session = session(&Device::reference(), &of(layer()));
    let error = session.plan(&[("x", &ones(&[1, 3]))]).unwrap_err().to_string();
    assert_eq!(error, "device 'CPU reference': it has no plans; open a GPU (`Device::new`)");
}

#[test]
fn attributes_that_contradict() {
    let nodes = vec![node("Transpose", &["x"], &["y"]).with(ints("perm", &[0, 0]))];
    let error = run_error(&of(graph(&["x"], nodes, &["y"])), &[("x", &ones(&[2, 2]))]);
    assert!(error.starts_with("node 'y' (Transpose, opset 21, inputs float32[2x2]): "), "{error}");
    let nodes = vec![node("Softmax", &["x"], &["y"]).with(int("axis", 7))];
    let error = run_error(&of(graph(&["x"], nodes, &["y"])), &[("x", &ones(&[2, 2]))]);
    assert!(error.starts_with("node 'y' (Softmax, opset 21, inputs float32[2x2]): "), "{error}");
}

#[test]
fn a_model_of_no_domain() {
    let proto = ModelProto { opset_import: vec![], ..model(21, layer()) };
    let error = Model::from_bytes(bytes(&proto)).unwrap_err().to_string();
    assert!(error.starts_with("invalid model: node 'r' is a Relu"), "{error}");
}
