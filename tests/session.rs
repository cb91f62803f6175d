//! Sessions through the public interface: what a run creates, what is cached, how buffers of the caller are used. Each test
//! runs on every adapter present.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use sardonyx::{
    Counters, DType, Device, DeviceTensor, Error, InputError, Interrupt, Known, Limits, Model, Session,
    SessionOptions, Tensor, inputs,
};
use sardonyx_testing::onnx::build::{FLOAT, INT64, bytes, graph, int, model, node, value, weights};
use sardonyx_testing::onnx::proto::GraphProto;
use sardonyx_testing::{devices, onnx};

fn of(main: GraphProto) -> Model {
    Model::from_bytes(bytes(&model(21, main))).unwrap()
}

/// Numbers in -1..1 that differ from seed to seed.
fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i * 37 + seed * 101) % 199) as f32 / 99.5 - 1.0).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec().unwrap()
}

/// Two layers and a softmax: `x` of any number of rows.
fn classifier() -> Model {
    let nodes = vec![
        node("MatMul", &["x", "w"], &["m"]),
        node("Add", &["m", "b"], &["a"]),
        node("Relu", &["a"], &["r"]),
        node("MatMul", &["r", "v"], &["l"]),
        node("Softmax", &["l"], &["y"]).with(int("axis", -1)),
    ];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("x", FLOAT, &["n", "24"])];
    let weight = |name, dims: &[i64], seed| {
        let shape: Vec<usize> = dims.iter().map(|&d| d as usize).collect();
        weights(name, dims, &floats(&numbers(&shape, seed)))
    };
    main.initializer = vec![weight("w", &[24, 17], 1), weight("b", &[17], 2), weight("v", &[17, 5], 3)];
    of(main)
}

fn session(device: &Device, model: &Model) -> Session {
    Session::new(device, model, SessionOptions::default()).unwrap()
}

fn expected(model: &Model, inputs: &[(&str, &Tensor)]) -> Vec<Tensor> {
    let outputs = session(&Device::reference(), model).run(inputs).unwrap();
    outputs.into_iter().map(|(_, tensor)| tensor).collect()
}

/// The error of exp on software devices, and of sums of some dozens of products.
#[track_caller]
fn assert_close(actual: &Tensor, expected: &Tensor) {
    assert_eq!((actual.dtype(), actual.shape()), (expected.dtype(), expected.shape()));
    for (i, (a, e)) in floats(actual).iter().zip(floats(expected)).enumerate() {
        assert!((a - e).abs() <= 1e-4 * e.abs().max(1.0), "element {i}: {a}, and not {e}");
    }
}

/// The counters of objects, which only grow when something is created: not passes, submissions or dispatches.
fn created(counters: Counters) -> [u64; 4] {
    [counters.buffers, counters.bind_groups, counters.pipelines, counters.bytes]
}

#[test]
fn nothing_is_created_after_warm_up() {
    let model = classifier();
    for device in devices::each() {
        let session = session(&device, &model);
        let x = numbers(&[3, 24], 0);
        let first = session.run(&[("x", &x)]).unwrap();
        let dispatches = session.plan(&[("x", &x)]).unwrap().dispatches as u64;
        for run in 1..6 {
            let before = device.counters();
            let x = numbers(&[3, 24], run);
            let outputs = session.run(&[("x", &x)]).unwrap();
            let after = device.counters();
            assert_eq!(created(after), created(before), "{}, run {run}", device.name());
            assert_eq!(after.passes, before.passes + 1);
            assert_eq!(after.submits, before.submits + 1);
            assert_eq!(after.dispatches, before.dispatches + dispatches);
            assert_ne!(outputs[0], first[0]);
            assert_close(&outputs[0], &expected(&model, &[("x", &x)])[0]);
        }
    }
}

#[test]
fn a_second_shape_makes_a_plan_and_no_pipeline() {
    let model = classifier();
    for device in devices::each() {
        let session = session(&device, &model);
        let checked = |n: usize| {
            let x = numbers(&[n, 24], n);
            let outputs = session.run(&[("x", &x)]).unwrap();
            assert_close(&outputs[0], &expected(&model, &[("x", &x)])[0]);
        };
        checked(64);
        let before = device.counters();
        (1..40).chain([128, 192, 257]).for_each(checked);
        let after = device.counters();
        assert!(after.buffers > before.buffers);
        assert_eq!(after.pipelines, before.pipelines, "{}", device.name());
    }
}

#[test]
fn a_second_session_makes_no_pipeline() {
    for device in devices::each() {
        let x = numbers(&[2, 24], 0);
        session(&device, &classifier()).run(&[("x", &x)]).unwrap();
        let before = device.counters().pipelines;
        session(&device, &classifier()).run(&[("x", &x)]).unwrap();
        assert_eq!(device.counters().pipelines, before);
    }
}

#[test]
fn sessions_of_one_device_share_weights() {
    for device in devices::each() {
        let (model, x) = (classifier(), numbers(&[2, 24], 0));
        let uploaded = || device.counters().weight_bytes;
        let run = |session: &Session| session.run(&[("x", &x)]).unwrap();
        let first = session(&device, &model);
        let outputs = run(&first);
        let before = uploaded();
        // Sessions of the same model, and of another model with equal contents.
        for model in [&model, &classifier()] {
            assert_eq!(run(&session(&device, model)), outputs);
            assert_eq!(uploaded(), before, "{}", device.name());
        }
        // Nobody holds the weights any more.
        drop(first);
        assert_eq!(run(&session(&device, &model)), outputs);
        assert!(uploaded() > before, "{}", device.name());
    }
}

#[test]
fn a_table_is_uploaded_once_for_all_plans() {
    // The roots of unity follow from the length of the signal alone.
    let mut main = graph(&[], vec![node("DFT", &["x"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["n", "8", "1"])];
    let model = of(main);
    for device in devices::each() {
        let session = session(&device, &model);
        let run = |n: usize| {
            let x = numbers(&[n, 8, 1], n);
            let outputs = session.run(&[("x", &x)]).unwrap();
            assert_close(&outputs[0], &expected(&model, &[("x", &x)])[0]);
            device.counters().weight_bytes
        };
        let before = run(1);
        assert!(before > 0);
        assert_eq!([run(2), run(3)], [before; 2], "{}", device.name());
    }
}

#[test]
fn the_least_recently_used_plan_is_dropped() {
    // Plans whose sizes follow from values share no objects.
    let nodes = vec![node("Expand", &["x", "sizes"], &["z"]), node("Exp", &["z"], &["y"])];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("x", FLOAT, &["1", "24"]), value("sizes", INT64, &["2"])];
    let model = of(main);
    for device in devices::each() {
        let options = SessionOptions::new().plan_cache(2);
        let session = Session::new(&device, &model, options).unwrap();
        // Whether a run of `n` rows finds its plan, and with it a buffer of parameters.
        let hits = |n: usize| {
            let before = device.counters().buffers;
            let sizes = Tensor::from_slice(&[2], &[n as i64, 24]).unwrap();
            session.run(&[("x", &numbers(&[1, 24], n)), ("sizes", &sizes)]).unwrap();
            device.counters().buffers == before
        };
        assert_eq!([hits(1), hits(2)], [false, false]);
        assert_eq!([hits(1), hits(2), hits(1)], [true, true, true]);
        // 2 was used before 1, so it was dropped.
        assert!(!hits(3));
        assert_eq!([hits(1), hits(3)], [true, true]);
        assert!(!hits(2));
        assert!(!hits(1));
    }
}

#[test]
fn a_cache_of_no_plans_holds_one() {
    for device in devices::each() {
        let options = SessionOptions::new().plan_cache(0);
        let session = Session::new(&device, &classifier(), options).unwrap();
        let x = numbers(&[1, 24], 0);
        session.run(&[("x", &x)]).unwrap();
        let before = created(device.counters());
        session.run(&[("x", &x)]).unwrap();
        assert_eq!(created(device.counters()), before);
    }
}

#[test]
fn threads_share_a_session() {
    let model = classifier();
    const THREADS: usize = 4;
    for device in devices::each() {
        let session = session(&device, &model);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (session, model) = (&session, &model);
                scope.spawn(move || {
                    for run in 0..8 {
                        // Two shapes, so that threads also plan at the same time.
                        let x = numbers(&[1 + run % 2, 24], thread * 8 + run);
                        let outputs = session.run(&[("x", &x)]).unwrap();
                        assert_close(&outputs[0], &expected(model, &[("x", &x)])[0]);
                    }
                });
            }
        });
        // No more runs were in flight than there are threads, and the memory of each is kept for the next run. The larger
        // shape may have come last to a frame, and replaced the wiring that the smaller one had there.
        session.run(&[("x", &numbers(&[1, 24], 0))]).unwrap();
        let before = created(device.counters());
        session.run(&[("x", &numbers(&[1, 24], 0))]).unwrap();
        assert_eq!(created(device.counters()), before);
    }
}

#[test]
fn two_runs_of_one_task_are_in_flight_at_once() {
    let model = classifier();
    for device in devices::each() {
        let session = session(&device, &model);
        let (a, b) = (numbers(&[3, 24], 1), numbers(&[3, 24], 2));
        let (inputs_a, inputs_b) = ([("x", &a)], [("x", &b)]);
        let mut runs = [
            (pin!(session.run_async(&inputs_a)) as std::pin::Pin<&mut dyn Future<Output = _>>, None),
            (pin!(session.run_async(&inputs_b)), None),
        ];
        pollster::block_on(std::future::poll_fn(|cx| {
            for (run, outputs) in &mut runs {
                if outputs.is_none()
                    && let Poll::Ready(result) = run.as_mut().poll(cx)
                {
                    *outputs = Some(result.unwrap());
                }
            }
            if runs.iter().all(|(_, outputs)| outputs.is_some()) { Poll::Ready(()) } else { Poll::Pending }
        }));
        for ((_, outputs), x) in runs.iter().zip([&a, &b]) {
            assert_close(&outputs.as_ref().unwrap()[0], &expected(&model, &[("x", x)])[0]);
        }
    }
}

#[test]
fn outputs_have_names_and_an_order() {
    let mut main =
        graph(&["x"], vec![node("Neg", &["x"], &["n"]), node("Relu", &["x"], &["r"])], &["r", "n"]);
    main.input = vec![value("x", FLOAT, &["2"])];
    let x = Tensor::from_slice(&[2], &[1.0f32, -2.0]).unwrap();
    let mut outputs = session(&Device::reference(), &of(main)).run(&[("x", &x)]).unwrap();
    assert_eq!((floats(&outputs["n"]), floats(&outputs[0])), (vec![-1.0, 2.0], vec![1.0, 0.0]));
    assert_eq!(outputs.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["r", "n"]);
    assert!((outputs.len(), outputs.is_empty(), outputs.get("z").is_none()) == (2, false, true));
    let missing = std::panic::catch_unwind(|| drop(outputs["z"].clone())).unwrap_err();
    assert_eq!(missing.downcast_ref::<String>().unwrap(), "no output is called 'z'; there are r, n");
    assert_eq!(floats(&outputs.remove("r").unwrap()), [1.0, 0.0]);
    let rest: Vec<(String, Vec<f32>)> = outputs.into_iter().map(|(name, t)| (name, floats(&t))).collect();
    assert_eq!(rest, [("n".to_string(), vec![-1.0, 2.0])]);
}

/// The results of every device lie at addresses that are aligned for their elements.
#[test]
fn outputs_can_be_read_in_place() {
    let mut devices = devices::each();
    devices.push(Device::reference());
    for device in devices {
        let session = session(&device, &classifier());
        for n in 1..20 {
            let outputs = session.run(&[("x", &numbers(&[n, 24], n))]).unwrap();
            assert_eq!(outputs["y"].as_slice::<f32>().unwrap(), floats(&outputs["y"]));
        }
    }
}

#[test]
fn outputs_that_no_kernel_makes() {
    let mut main = graph(&["x"], vec![node("Identity", &["x"], &["same"]), node("Neg", &["x"], &["y"])], &[]);
    main.initializer = vec![weights("w", &[2], &[5.0, 6.0])];
    for name in ["x", "w", "same", "y"] {
        main.output.push(value(name, FLOAT, &["2"]));
    }
    let model = of(main);
    let x = Tensor::from_slice(&[2], &[1.0f32, -2.0]).unwrap();
    let mut devices = devices::each();
    devices.push(Device::reference());
    for device in devices {
        let outputs = session(&device, &model).run(&[("x", &x)]).unwrap();
        let names: Vec<&str> = outputs.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["x", "w", "same", "y"]);
        let values: Vec<Vec<f32>> = outputs.iter().map(|(_, tensor)| floats(tensor)).collect();
        assert_eq!(values, [[1.0, -2.0], [5.0, 6.0], [1.0, -2.0], [-1.0, 2.0]], "{}", device.name());
    }
}

#[test]
fn tensors_without_elements() {
    let nodes = vec![
        node("Neg", &["x"], &["negative"]),
        node("Concat", &["x", "w"], &["joined"]).with(int("axis", 0)),
        node("ReduceSum", &["x"], &["sum"]).with(int("keepdims", 0)),
        node("MatMul", &["t", "x"], &["product"]),
        node("Transpose", &["x"], &["t"]),
    ];
    let mut main = graph(&["x"], nodes, &["negative", "joined", "sum", "product"]);
    main.initializer = vec![weights("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])];
    let model = of(main);
    let x = Tensor::from_slice::<f32>(&[0, 3], &[]).unwrap();
    for device in devices::each() {
        let outputs = session(&device, &model).run(&[("x", &x)]).unwrap();
        let shapes: Vec<&[usize]> = outputs.iter().map(|(_, tensor)| tensor.shape()).collect();
        assert_eq!(shapes, [&[0, 3][..], &[2, 3], &[], &[3, 3]], "{}", device.name());
        assert_eq!(floats(&outputs[1]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(floats(&outputs[2]), [0.0]);
        assert_eq!(floats(&outputs[3]), [0.0; 9]);
    }
}

#[test]
fn a_plan_says_what_a_run_does() {
    for device in devices::each() {
        let session = session(&device, &classifier());
        let x = numbers(&[3, 24], 0);
        let plan = session.plan(&[("x", &x)]).unwrap();
        assert_eq!(plan.planned_nodes, 0);
        assert_eq!(plan.dispatches, plan.kernels.values().sum::<usize>());
        assert!(plan.max_live_bytes <= plan.arena_bytes && plan.arena_bytes <= plan.without_reuse_bytes);
        // At least the elements of the three constants.
        assert!(plan.weight_bytes >= 4 * (24 * 17 + 17 + 17 * 5), "{plan:?}");
        // Planning alone runs nothing.
        assert_eq!(device.counters().submits, 0);
    }
}

#[test]
fn a_profile_has_a_time_for_each_dispatch() {
    for device in devices::each() {
        let session = session(&device, &classifier());
        let x = numbers(&[3, 24], 0);
        let dispatches = session.plan(&[("x", &x)]).unwrap().dispatches;
        match session.profile(&[("x", &x)]) {
            Ok(times) => {
                assert_eq!(times.len(), dispatches);
                assert!(times.iter().all(|time| time.nanoseconds >= 0.0 && !time.node.is_empty()));
            }
            Err(error) => {
                assert!(error.to_string().contains("it lacks the feature TIMESTAMP_QUERY"), "{error}")
            }
        }
    }
}

/// Polls a future once, with a waker that does nothing.
fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

/// The number of threads of this process with this name. Linux keeps 15 bytes of a name.
#[cfg(target_os = "linux")]
fn threads_called(name: &str) -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.filter(|own| name.starts_with(own.trim())).count()
}

#[test]
fn a_prepared_session_has_all_that_a_run_needs() {
    let model = classifier();
    for device in devices::each() {
        let session = session(&device, &model);
        assert_eq!((session.inputs(), session.outputs()), (model.inputs(), model.outputs()));
        session.prepare(&[("x", [3, 24])]).unwrap();
        let before = device.counters();
        assert_eq!(before.submits, 0);
        let x = numbers(&[3, 24], 1);
        let outputs = session.run(&[("x", &x)]).unwrap();
        assert_eq!(created(device.counters()), created(before), "{}", device.name());
        assert_close(&outputs["y"], &expected(&model, &[("x", &x)])[0]);
        let error = session.prepare(&[("x", [3, 23])]).unwrap_err().to_string();
        assert_eq!(error, "input 'x': has shape [3, 23], and the model takes [n, 24]");
    }
    session(&Device::reference(), &model).prepare(&[("x", [3, 24])]).unwrap();
}

#[test]
fn a_value_that_decides_shapes_is_prepared_by_value() {
    let mut main = graph(&[], vec![node("Reshape", &["x", "shape"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["4"]), value("shape", onnx::build::INT64, &["2"])];
    let shape = Tensor::from_slice(&[2], &[2i64, 2]).unwrap();
    for device in devices::each() {
        let session = session(&device, &of(main.clone()));
        let error = session.prepare(&[("x", [4]), ("shape", [2])]).unwrap_err().to_string();
        assert_eq!(error, "input 'shape': its value decides shapes, so it must be given as a `Tensor`");
        session.prepare(&[("x", Known::from([4])), ("shape", Known::from(&shape))]).unwrap();
        let before = created(device.counters());
        let outputs = session.run(&[("x", &numbers(&[4], 0)), ("shape", &shape)]).unwrap();
        assert_eq!((outputs["y"].shape(), created(device.counters())), (&[2, 2][..], before));
    }
}

/// The first poll of an asynchronous run hands planning and compiling to a thread. A run that is dropped then is not
/// submitted.
#[test]
fn a_dropped_run_submits_nothing() {
    let model = classifier();
    for device in devices::each() {
        let session = session(&device, &model);
        let x = numbers(&[3, 24], 1);
        {
            let inputs = [("x", &x)];
            let mut run = pin!(session.run_async(&inputs));
            assert!(poll_once(run.as_mut()).is_pending());
        }
        {
            let mut ready = pin!(session.prepare_async(&[("x", [5, 24])]));
            assert!(poll_once(ready.as_mut()).is_pending());
        }
        #[cfg(target_os = "linux")]
        while threads_called("sardonyx-prepare") > 0 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let counters = device.counters();
        assert_eq!((counters.submits, counters.passes), (0, 0));
        // Planning was abandoned, at the latest between two kernels.
        assert_eq!(counters.bind_groups, 0, "{}", device.name());
        pollster::block_on(session.prepare_async(&[("x", [3, 24])])).unwrap();
        let before = created(device.counters());
        let outputs = pollster::block_on(session.run_async(&[("x", &x)])).unwrap();
        assert_eq!(created(device.counters()), before);
        assert_close(&outputs["y"], &expected(&model, &[("x", &x)])[0]);
    }
}

/// A run that is dropped while the device computes it, and the run after it, use the same frame.
#[test]
fn a_run_after_a_dropped_one_has_its_own_numbers() {
    let model = classifier();
    for device in devices::each() {
        let session = session(&device, &model);
        let xs = [numbers(&[200, 24], 1), numbers(&[200, 24], 2), numbers(&[3, 24], 3)];
        let expected = xs.each_ref().map(|x| expected(&model, &[("x", x)])[0].clone());
        for x in &xs {
            session.prepare(&[("x", x.shape())]).unwrap();
        }
        for i in 0..100 {
            {
                let inputs = [("x", &xs[i % 2])];
                let mut run = pin!(session.run_async(&inputs));
                let _ = poll_once(run.as_mut());
            }
            let next = (i + 1) % xs.len();
            let outputs = pollster::block_on(session.run_async(&[("x", &xs[next])])).unwrap();
            assert_close(&outputs["y"], &expected[next]);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn one_thread_waits_for_all_asynchronous_runs() {
    for device in devices::each() {
        let session = session(&device, &classifier());
        let x = numbers(&[2, 24], 0);
        let waiting = threads_called("sardonyx-wait");
        for _ in 0..20 {
            pollster::block_on(session.run_async(&[("x", &x)])).unwrap();
            // Other tests have devices too.
            assert!(threads_called("sardonyx-wait") <= waiting + 8);
        }
    }
}

/// Two branches: `x -> a -> y`, and `x -> b -> z` with an input of its own.
fn branches() -> Model {
    let nodes = vec![
        node("Relu", &["x"], &["a"]),
        node("CumSum", &["a", "axis"], &["y"]),
        node("MatMul", &["x", "w"], &["b"]),
        node("Add", &["b", "bias"], &["z"]),
    ];
    let mut main = graph(&[], nodes, &["y", "z"]);
    main.input = vec![value("x", FLOAT, &["n", "2"]), value("bias", FLOAT, &["2"])];
    let axis = onnx::proto::TensorProto {
        raw_data: Some(1i64.to_le_bytes().to_vec().into()),
        ..onnx::build::empty("axis", onnx::build::INT64, &[])
    };
    main.initializer = vec![weights("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]), axis];
    of(main)
}

#[test]
fn what_nobody_wants_is_not_computed() {
    let model = branches();
    let x = Tensor::from_slice(&[1, 2], &[-1.0f32, 2.0]).unwrap();
    let bias = Tensor::from_slice(&[2], &[10.0f32, 20.0]).unwrap();
    let mut devices = devices::each();
    devices.push(Device::reference());
    for device in devices {
        let session = session(&device, &model);
        let both = [("x", &x), ("bias", &bias)];
        let dispatches = |run: &dyn Fn() -> sardonyx::Outputs| {
            let before = device.counters().dispatches;
            let outputs = run();
            (outputs, device.counters().dispatches - before)
        };
        let (all, of_all) = dispatches(&|| session.run(&both).unwrap());
        let (y, of_y) = dispatches(&|| session.run_for(&["y"], &[("x", &x)]).unwrap());
        assert_eq!((floats(&y["y"]), y.len()), (vec![0.0, 2.0], 1));
        assert_eq!(all["y"], y["y"]);
        // An input that is not needed may be given nevertheless; an input that is needed must be given.
        assert_eq!(session.run_for(&["y"], &both).unwrap(), y);
        assert!(
            session.run_for(&["z"], &[("x", &x)]).unwrap_err().to_string().contains("'bias': is missing")
        );
        // Values inside the model, in the order of the request; an input is one too.
        let inner = session.run_for(&["b", "a", "x"], &[("x", &x)]).unwrap();
        assert_eq!(inner.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b", "a", "x"]);
        assert_eq!(floats(&inner["b"]), [5.0, 6.0]);
        assert_eq!((floats(&inner["a"]), floats(&inner["x"])), (vec![0.0, 2.0], vec![-1.0, 2.0]));
        let error = session.run_for(&["q"], &[("x", &x)]).unwrap_err();
        assert!(matches!(&error, Error::Output { name, .. } if name == "q"), "{error}");
        if !device.is_reference() {
            assert!(0 < of_y && of_y < of_all, "{of_y} of {of_all} dispatches");
            let before = created(device.counters());
            session.run_for(&["b", "a", "x"], &[("x", &x)]).unwrap();
            assert_eq!(created(device.counters()), before, "what was chosen once is kept");
        }
    }
}

#[test]
fn tensors_stay_on_the_device() {
    let model = classifier();
    let mut devices = devices::each();
    devices.push(Device::reference());
    for device in &devices {
        let session = session(device, &model);
        let x = numbers(&[3, 24], 1);
        let placed = DeviceTensor::new(device, &x).unwrap();
        assert_eq!((placed.dtype(), placed.shape()), (x.dtype(), x.shape()));
        assert_eq!(placed.read().unwrap(), x);
        assert_eq!(pollster::block_on(placed.read_async()).unwrap(), x);
        let expected = &expected(&model, &[("x", &x)])[0];
        assert_close(&session.run(&[("x", &placed)]).unwrap()["y"], expected);
        assert_close(&session.run(&inputs! { "x" => &placed }).unwrap()["y"], expected);
        assert_close(&pollster::block_on(session.run_async(&[("x", &placed)])).unwrap()["y"], expected);
        let outputs = session.run_to_device(&[("x", &x)]).unwrap();
        assert_eq!(outputs["y"].shape(), [3, 5]);
        // The next run writes other memory.
        session.run(&[("x", &numbers(&[3, 24], 2))]).unwrap();
        assert_close(&outputs["y"].read().unwrap(), expected);
        let zeros = DeviceTensor::zeros(device, DType::I64, &[2, 3]).unwrap().read().unwrap();
        assert_eq!(zeros, Tensor::zeros(DType::I64, &[2, 3]).unwrap());
    }
    // A tensor serves the device of its session, and no other.
    let x = DeviceTensor::new(&Device::reference(), &numbers(&[3, 24], 1)).unwrap();
    for device in devices.iter().filter(|device| !device.is_reference()) {
        let error = session(device, &model).run(&[("x", &x)]).unwrap_err();
        assert!(matches!(error, Error::Input(InputError::Buffer { .. })), "{error}");
        let placed = DeviceTensor::new(device, &numbers(&[3, 24], 1)).unwrap();
        assert!(session(&Device::reference(), &model).run(&[("x", &placed)]).is_err());
        let other = devices::open(&device.name());
        let error = session(&other, &model).run(&[("x", &placed)]).unwrap_err().to_string();
        assert_eq!(
            error,
            "input 'x': it is on another device than the session; `read` it, and give the tensor"
        );
    }
}

/// An index outside of its axis is reported even where nobody waits for outputs.
#[test]
fn runs_to_the_device_report_what_kernels_report() {
    let mut main = graph(&[], vec![node("Gather", &["x", "i"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["3"]), value("i", 6, &["2"])];
    for device in devices::each() {
        let session = session(&device, &of(main.clone()));
        let x = numbers(&[3], 0);
        let index = |i: i32| Tensor::from_slice(&[2], &[0, i]).unwrap();
        for _ in 0..2 {
            let error = session.run_to_device(&[("x", &x), ("i", &index(3))]).unwrap_err().to_string();
            assert!(error.contains("index 3 in 'i' is outside of axis 0 of 3 elements"), "{error}");
            let outputs = session.run_to_device(&[("x", &x), ("i", &index(2))]).unwrap();
            assert_eq!(floats(&outputs["y"].read().unwrap()), [floats(&x)[0], floats(&x)[2]]);
        }
    }
}

/// Weights that two graphs of a session read are uploaded once, and counted once.
#[test]
fn chosen_outputs_share_the_weights() {
    for device in devices::each() {
        let session = session(&device, &classifier());
        let x = numbers(&[3, 24], 1);
        session.run(&[("x", &x)]).unwrap();
        let weights = session.memory().weights;
        session.run_for(&["l"], &[("x", &x)]).unwrap();
        assert_eq!(session.memory().weights, weights, "{}", device.name());
    }
}

/// A chain of products: the arena of `n` rows is many times as large as the inputs and outputs.
fn wide() -> Model {
    let nodes = vec![
        node("MatMul", &["x", "w"], &["a"]),
        node("Softmax", &["a"], &["s"]).with(int("axis", -1)),
        node("MatMul", &["s", "v"], &["y"]),
    ];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("x", FLOAT, &["n", "4"])];
    let weight = |name, dims: &[i64], seed| {
        let shape: Vec<usize> = dims.iter().map(|&d| d as usize).collect();
        weights(name, dims, &floats(&numbers(&shape, seed)))
    };
    main.initializer = vec![weight("w", &[4, 1024], 1), weight("v", &[1024, 4], 2)];
    of(main)
}

/// Bytes that wgpu's allocator holds of a device of its own, after runs with these numbers of rows.
fn reserved(adapter: &str, rows: &[usize]) -> Option<u64> {
    let device = devices::open(adapter);
    let session = session(&device, &wide());
    for &n in rows {
        session.run(&[("x", &Tensor::zeros(DType::F32, &[n, 4]).unwrap())]).unwrap();
    }
    let (wgpu, _) = device.wgpu()?;
    Some(wgpu.generate_allocator_report()?.total_reserved_bytes)
}

/// Of an arena that grows, the driver keeps no hole that small buffers hold.
#[test]
fn an_arena_that_grows_gives_its_memory_back() {
    let rising: Vec<usize> = (1..=12).map(|n| n * 2048).collect();
    for adapter in devices::usable() {
        // Not every backend of wgpu says what it reserves.
        let (twelve, largest) = (reserved(&adapter.name, &rising), reserved(&adapter.name, &[24576]));
        let (Some(twelve), Some(largest)) = (twelve, largest) else { continue };
        assert!(twelve as f64 <= 1.15 * largest as f64, "{twelve} bytes, and {largest} on {}", adapter.name);
    }
}

#[test]
fn plans_of_a_session_share_their_memory() {
    let model = wide();
    for device in devices::each() {
        let largest = session(&device, &model);
        largest.prepare(&[("x", [768, 4])]).unwrap();
        let one = largest.memory();
        assert!(one.weights >= 2 * 4 * 1024 * 4 && one.arena >= 768 * 1024 * 4, "{one:?}");
        let session = session(&device, &model);
        for n in 1..=12 {
            let x = numbers(&[n * 64, 4], n);
            assert_close(&session.run(&[("x", &x)]).unwrap()["y"], &expected(&model, &[("x", &x)])[0]);
        }
        let twelve = session.memory();
        assert!(twelve.total() as f64 <= 1.15 * one.total() as f64, "{one:?}, and {twelve:?}");
        assert!(twelve.peak as f64 <= 1.15 * one.total() as f64, "{one:?}, and {twelve:?}");
        // Every plan still exists, and is wired to the one arena.
        let before = device.counters();
        for n in 1..=12 {
            session.run(&[("x", &numbers(&[n * 64, 4], n))]).unwrap();
        }
        let after = device.counters();
        assert_eq!((after.bytes, after.pipelines), (before.bytes, before.pipelines), "{}", device.name());
        session.trim();
        assert_eq!(session.memory().arena, 0);
        assert_eq!(session.memory().weights, twelve.weights);
        let x = numbers(&[64, 4], 1);
        assert_close(&session.run(&[("x", &x)]).unwrap()["y"], &expected(&model, &[("x", &x)])[0]);
        assert!(session.memory().arena < one.arena / 4);
        let held = device.memory_bytes();
        drop(session);
        assert!(device.memory_bytes() < held);
    }
}

#[test]
fn memory_has_a_bound() {
    let model = wide();
    for device in devices::each() {
        let (a, b) = (session(&device, &model), session(&device, &model));
        let run = |session: &Session, n: usize| {
            let x = numbers(&[n, 4], n);
            let outputs = session.run(&[("x", &x)])?;
            assert_close(&outputs["y"], &expected(&model, &[("x", &x)])[0]);
            Ok::<(), Error>(())
        };
        run(&a, 256).unwrap();
        let one = device.memory_bytes();
        let limit = one + one / 2;
        device.set_memory_limit(limit);
        // Two sessions take turns, because each can free the memory of its runs.
        for _ in 0..3 {
            run(&b, 256).unwrap();
            assert!(device.memory_bytes() <= limit);
            run(&a, 256).unwrap();
            assert!(device.memory_bytes() <= limit);
        }
        let before = device.counters();
        let error = run(&a, 4096).unwrap_err();
        assert!(matches!(error, Error::MemoryLimit { .. }), "{error}");
        assert!(error.to_string().contains(&format!("({limit} bytes); raise it")), "{error}");
        assert_eq!(created(device.counters()), created(before), "a refused run allocates nothing");
        run(&a, 256).unwrap();
        device.set_memory_limit(u64::MAX);
        run(&a, 4096).unwrap();
        let small = devices::open(&device.name());
        small.set_memory_limit(1000);
        let error = DeviceTensor::new(&small, &numbers(&[1000], 0)).unwrap_err();
        assert!(matches!(error, Error::MemoryLimit { bytes: 4000, limit: 1000, .. }), "{error}");
    }
}

/// A cache that grows by one row in each step, like the keys of a decoder, without a line of wgpu.
#[test]
fn a_binding_takes_other_sizes_from_run_to_run() {
    let nodes = vec![
        node("Concat", &["past", "key"], &["present"]).with(int("axis", 0)),
        node("MatMul", &["present", "ones"], &["sums"]),
    ];
    let mut main = graph(&[], nodes, &["present", "sums"]);
    main.input = vec![value("past", FLOAT, &["t", "3"]), value("key", FLOAT, &["1", "3"])];
    main.initializer = vec![weights("ones", &[3, 1], &[1.0; 3])];
    const STEPS: usize = 40;
    for device in devices::each() {
        let session = session(&device, &of(main.clone()));
        let key = |t: usize| Tensor::from_slice(&[1, 3], &[t as f32, 1.0, 2.0]).unwrap();
        let past = Tensor::zeros(DType::F32, &[0, 3]).unwrap();
        let mut binding = session.bind().input("past", &past).input("key", &key(0)).build().unwrap();
        let mut buffers = Vec::new();
        for t in 0..STEPS {
            binding.set("key", &key(t)).unwrap();
            binding.run().unwrap();
            let sums: Vec<f32> = (0..=t).map(|t| t as f32 + 3.0).collect();
            assert_eq!(floats(&binding.read("sums").unwrap()), sums, "{}, step {t}", device.name());
            let present = binding.output("present").unwrap();
            assert_eq!(present.shape(), [t + 1, 3]);
            binding.set("past", &present).unwrap();
            buffers.push(device.counters().buffers);
        }
        // Buffers have room to grow: most steps only make the parameters of a plan, fault words and a staging buffer.
        let made = buffers[STEPS - 1] - buffers[STEPS / 2];
        assert!(made <= 4 * (STEPS / 2) as u64, "{made} buffers in {} steps", STEPS / 2);
        let error = binding.set("quay", &key(0)).unwrap_err().to_string();
        assert_eq!(error, "input 'quay': the model has no such input; it has past, key");
    }
}

#[test]
fn a_binding_of_one_size_creates_nothing() {
    let model = classifier();
    for device in devices::each() {
        let session = session(&device, &model);
        let mut binding = session.bind().input("x", &numbers(&[2, 24], 0)).build().unwrap();
        let before = created(device.counters());
        for seed in 1..5 {
            let x = numbers(&[2, 24], seed);
            binding.set("x", &x).unwrap();
            binding.run().unwrap();
            binding.check().unwrap();
            assert_eq!(created(device.counters()), before, "{}", device.name());
        }
        let x = numbers(&[2, 24], 4);
        assert_close(&binding.read("y").unwrap(), &expected(&model, &[("x", &x)])[0]);
        // Another size, and then the first again.
        for n in [7, 2] {
            let x = numbers(&[n, 24], 9);
            binding.set("x", &x).unwrap();
            binding.run().unwrap();
            assert_close(&binding.read("y").unwrap(), &expected(&model, &[("x", &x)])[0]);
        }
        assert!(
            binding
                .read("z")
                .unwrap_err()
                .to_string()
                .contains("'z': the model has no such output; it has y")
        );
    }
}

/// Of two products of 64 x 64 x 64, one or both may fit a limit.
#[test]
fn the_reference_keeps_within_its_limits() {
    let mut main =
        graph(&["x"], vec![node("MatMul", &["x", "x"], &["h"]), node("MatMul", &["h", "x"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["n", "n"])];
    let model = Model::from_bytes(bytes(&model(21, main))).unwrap();
    let x = numbers(&[64, 64], 1);
    let run = |limits: Limits| {
        let options = SessionOptions::new().reference_limits(limits);
        Session::new(&Device::reference(), &model, options)
            .unwrap()
            .run(&[("x", &x)])
            .map(|outputs| outputs["y"].clone())
    };
    let products = 2 * 64 * 64 * 64;
    let expected = run(Limits::new().steps(products)).unwrap();
    assert_eq!(
        Session::new(&Device::reference(), &model, SessionOptions::new()).unwrap().run(&[("x", &x)]).unwrap()
            ["y"],
        expected
    );
    let error = run(Limits::new().steps(products / 8 * 9 / 8)).unwrap_err().to_string();
    assert!(error.contains("MatMul") && error.contains("'y'") && error.contains("Limits::steps"), "{error}");
}

#[test]
fn a_raised_interrupt_ends_work_before_it_is_submitted() {
    let (model, x) = (classifier(), numbers(&[3, 24], 1));
    let given = [("x", &x)];
    let expected = expected(&model, &given);
    for device in devices::each().into_iter().chain([Device::reference()]) {
        let interrupt = Interrupt::new();
        let interrupted = session(&device.clone().interrupted_by(&interrupt), &model);
        interrupt.raise();
        let submits = device.counters().submits;
        let mut ended = vec![
            interrupted.run(&given).err(),
            interrupted.run_to_device(&given).err(),
            pollster::block_on(interrupted.run_async(&given)).err(),
        ];
        if !device.is_reference() {
            ended.push(interrupted.prepare(&[("x", [3, 24])]).err());
            ended.push(pollster::block_on(interrupted.prepare_async(&[("x", [3, 24])])).err());
            ended.push(sardonyx::verify(interrupted.device(), &model, &given, 1e-3).err());
        }
        for (i, error) in ended.iter().enumerate() {
            assert!(matches!(error, Some(Error::Interrupted)), "{}, call {i}: {error:?}", device.name());
        }
        assert_eq!(device.counters().submits, submits);
        // Another session of the device goes on, and so does this one when the flag is lowered.
        assert_close(&session(&device, &model).run(&given).unwrap()["y"], &expected[0]);
        interrupt.lower();
        assert_close(&interrupted.run(&given).unwrap()["y"], &expected[0]);
        if !device.is_reference() {
            let mut binding = interrupted.bind().input("x", &x).build().unwrap();
            interrupt.raise();
            assert!(matches!(binding.run(), Err(Error::Interrupted)));
        }
    }
}
