//! Devices that fail: out of memory at every allocation in turn, and lost at any moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::internals::cases::inputs_of;
use crate::internals::{devices, let_allocations};
use crate::ops::Graph;
use crate::ops::case::{self, Case, graph_of_case};
use crate::{
    AdapterSummary, Device, DeviceOptions, Error, Outputs, Result, Select, Session, SessionOptions, Tensor,
    adapters,
};

/// A new device on each adapter, and the device that only validates.
fn devices() -> Vec<Device> {
    devices::each().into_iter().chain([Device::noop()]).collect()
}

/// A node with weights, constants and parameters, with parts that are each a kernel of its own.
fn model() -> (Arc<Graph>, Vec<Tensor>) {
    let case = Case::new("Gemm", "memory")
        .input(case::random(&[5, 40]))
        .constant(case::random(&[40, 9]))
        .constant(case::random(&[9]))
        .int("transA", 0);
    (Arc::new(graph_of_case(&case).unwrap()), inputs_of(&case))
}

fn session(device: &Device, graph: &Arc<Graph>) -> Session {
    Session::of_graph(device, graph.clone(), SessionOptions::default(), Vec::new()).unwrap()
}

fn run(session: &Session, inputs: &[Tensor]) -> Result<Outputs> {
    session.run(&[("input_0", &inputs[0])])
}

/// Calls `act` with 0, 1, 2, ... allocations that still succeed, until it needs no more. After each failure the same session
/// works again.
fn each_allocation_fails(what: &str, act: impl Fn(&Session, &[Tensor]) -> Result<()>) {
    let (graph, inputs) = model();
    for device in devices().into_iter().chain(timed_devices()) {
        let expected = run(&session(&device, &graph), &inputs).unwrap();
        let mut failed = 0;
        loop {
            // The pipelines of the first device exist already, so each failure is tried on a new device too.
            let fresh = match device.name() {
                name if adapters().iter().any(|adapter| adapter.name == name) => devices::open(&name),
                _ => Device::noop(),
            };
            let mut done = 0;
            for device in [&device, &fresh] {
                let session = session(device, &graph);
                let_allocations(device, failed);
                let outcome = act(&session, &inputs);
                let_allocations(device, usize::MAX);
                match outcome {
                    Ok(()) => done += 1,
                    Err(Error::OutOfMemory { what, .. }) => assert!(!what.is_empty()),
                    Err(error) => panic!("{what}, allocation {failed} on {}: {error}", device.name()),
                }
                assert_eq!(run(&session, &inputs).unwrap(), expected, "{what}, after allocation {failed}");
                act(&session, &inputs).unwrap();
            }
            if done == 2 {
                break;
            }
            failed += 1;
        }
        assert!(failed > 5, "{what}: {failed} allocations");
    }
}

#[test]
fn memory_runs_out_in_a_run() {
    each_allocation_fails("run", |session, inputs| run(session, inputs).map(drop));
}

#[test]
fn memory_runs_out_in_an_asynchronous_run() {
    each_allocation_fails("run_async", |session, inputs| {
        pollster::block_on(session.run_async(&[("input_0", &inputs[0])])).map(drop)
    });
}

#[test]
fn memory_runs_out_in_a_binding() {
    each_allocation_fails("bind", |session, inputs| {
        session.bind().input("input_0", &inputs[0]).build().map(drop)
    });
}

#[test]
fn memory_runs_out_in_a_profile() {
    each_allocation_fails("profile", |session, inputs| match session.profile(&[("input_0", &inputs[0])]) {
        // The same number of allocations, on an adapter without timestamps.
        Err(Error::Device { reason, .. }) if reason.contains("TIMESTAMP") => run(session, inputs).map(drop),
        outcome => outcome.map(drop),
    });
}

/// This expects what wgpu and Vulkan report, not a number of ours: more memory than any machine has.
/// Devices that time their runs, on the adapters that have timestamps.
fn timed_devices() -> Vec<Device> {
    let timed = |adapter: AdapterSummary| {
        Device::new(DeviceOptions::new().select(Select::Name(adapter.name)).timed(|_| true)).unwrap()
    };
    let has_timestamps = |device: &Device| {
        device.wgpu().is_some_and(|(device, _)| device.features().contains(wgpu::Features::TIMESTAMP_QUERY))
    };
    devices::usable().into_iter().map(timed).filter(has_timestamps).collect()
}

#[test]
fn every_run_of_a_timed_device_is_measured() {
    let (graph, inputs) = model();
    for device in timed_devices() {
        let session = session(&device, &graph);
        assert_eq!(session.device_time(), Some(Duration::ZERO));
        let begin = Instant::now();
        let mut last = Duration::ZERO;
        let mut measured = |what: &str| {
            let now = session.device_time().unwrap();
            assert!(now > last, "{what} on {}", device.name());
            last = now;
        };
        let expected = run(&session, &inputs).unwrap();
        measured("a run");
        let outputs = session.run_to_device(&[("input_0", &inputs[0])]).unwrap();
        measured("a run that leaves its outputs on the device");
        assert_eq!(outputs[0].read().unwrap(), expected[0]);
        pollster::block_on(session.run_async(&[("input_0", &inputs[0])])).unwrap();
        measured("an asynchronous run");
        assert!(last < begin.elapsed(), "{last:?} on {}", device.name());
    }
}

#[test]
fn only_a_timed_device_is_measured() {
    let (graph, inputs) = model();
    for device in devices() {
        let session = session(&device, &graph);
        run(&session, &inputs).unwrap();
        assert_eq!(session.device_time(), None);
    }
}

#[test]
fn a_buffer_that_is_too_large_is_refused_before_the_driver_is_asked() {
    for device in devices() {
        let gpu = device.gpu().unwrap();
        let limit = gpu.device.limits().max_buffer_size;
        let error =
            gpu.buffer(&gpu.account, "a test", limit + 16, wgpu::BufferUsages::STORAGE, false).unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
    }
}
