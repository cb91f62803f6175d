//! Sessions through the public interface: what a run creates, what is cached, how buffers of the caller are used. Each
//! test runs on every adapter present.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use sardonyx::{Counters, Device, Model, Session, SessionOptions, Tensor};
use sardonyx_testing::devices;
use sardonyx_testing::onnx::build::{FLOAT, bytes, graph, int, model, node, value, weights};
use sardonyx_testing::onnx::proto::GraphProto;

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

/// Within what exp of software devices and sums of some dozens of products are off by.
#[track_caller]
fn assert_close(actual: &Tensor, expected: &Tensor) {
    assert_eq!((actual.dtype(), actual.shape()), (expected.dtype(), expected.shape()));
    for (i, (a, e)) in floats(actual).iter().zip(floats(expected)).enumerate() {
        assert!((a - e).abs() <= 1e-4 * e.abs().max(1.0), "element {i}: {a}, and not {e}");
    }
}

/// The objects that exist once in the counters' life: all but passes, submits and dispatches.
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
fn the_least_recently_used_plan_is_dropped() {
    let model = classifier();
    for device in devices::each() {
        let options = SessionOptions::new().plan_cache(2);
        let session = Session::new(&device, &model, options).unwrap();
        // Whether a run of `n` rows finds its plan, and with it all of its objects.
        let hits = |n: usize| {
            let before = created(device.counters());
            session.run(&[("x", &numbers(&[n, 24], n))]).unwrap();
            created(device.counters()) == before
        };
        assert_eq!([hits(1), hits(2)], [false, false]);
        assert_eq!([hits(1), hits(2), hits(1)], [true, true, true]);
        // 2 was used before 1.
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
                        // Two shapes, so that threads plan at once too.
                        let x = numbers(&[1 + run % 2, 24], thread * 8 + run);
                        let outputs = session.run(&[("x", &x)]).unwrap();
                        assert_close(&outputs[0], &expected(model, &[("x", &x)])[0]);
                    }
                });
            }
        });
        // No more runs were in flight than there are threads, and each run's memory is kept for the next.
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

/// Results lie at addresses of whole elements, whatever device they come from.
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
        // At least the values of the three constants.
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
