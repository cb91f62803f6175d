//! Memory and threads stay flat, whatever is dropped: bindings, tensors and runs that nobody awaits. This is a process of its
//! own, in which one test runs at a time, as it counts what the process holds.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use sardonyx::{Device, DeviceTensor, Model, Session, SessionOptions, Tensor};
use sardonyx_testing::devices;
use sardonyx_testing::onnx::build::{FLOAT, INT64, bytes, external, graph, model, node, value};

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `y = relu(-x)`, of any number of rows of 1024 elements.
fn session(device: &Device) -> Session {
    let nodes = vec![node("Neg", &["x"], &["a"]), node("Relu", &["a"], &["y"])];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("x", FLOAT, &["n", "1024"])];
    let model = Model::from_bytes(bytes(&model(21, main))).unwrap();
    Session::new(device, &model, SessionOptions::default()).unwrap()
}

fn rows(count: usize) -> Tensor {
    Tensor::from_slice(&[count, 1024], &vec![-1.0f32; count * 1024]).unwrap()
}

/// Bytes that wgpu has allocated on the device; `None` where its backend does not tell.
fn allocated(device: &Device) -> Option<u64> {
    device.wgpu().unwrap().0.generate_allocator_report().map(|report| report.total_allocated_bytes)
}

/// KiB of memory.
fn resident() -> u64 {
    of_this_process("VmRSS:")
}

fn of_this_process(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The number of threads with this name, of which Linux keeps 15 bytes.
fn threads_called(name: &str) -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.filter(|own| name.starts_with(own.trim())).count()
}

/// Two threads of a device, or one that waits, and some that have ended but that Linux still lists.
const FEW: usize = 6;

/// What may be in flight: up to 16 MiB twice, and one more upload of each. The 300 together would hold more than 1 GiB.
const WAITING: u64 = 64 << 20;

/// 300 times, what `make` makes is dropped.
fn stays_flat(what: &str, make: impl Fn(&Device, &Session, &Tensor)) {
    let _alone = alone();
    for device in devices::each() {
        let (session, x) = (session(&device), rows(512));
        (0..10).for_each(|_| make(&device, &session, &x));
        let (before, memory) = (allocated(&device), resident());
        for _ in 0..300 {
            make(&device, &session, &x);
            if let (Some(before), Some(now)) = (before, allocated(&device)) {
                assert!(now <= before + WAITING, "{what} on {}: {before} and {now} bytes", device.name());
            }
        }
        assert!(resident() <= memory + WAITING / 1024, "{what}: {memory} and {} KiB", resident());
    }
}

#[test]
fn bindings_that_are_dropped_leave_nothing() {
    stays_flat("bindings", |_, session, x| drop(session.bind().input("x", x).build().unwrap()));
}

#[test]
fn tensors_that_are_dropped_leave_nothing() {
    stays_flat("tensors", |device, _, x| drop(DeviceTensor::new(device, x).unwrap()));
}

#[test]
fn inputs_that_are_set_and_never_run_leave_nothing() {
    stays_flat("sets", |_, session, x| {
        let mut binding = session.bind().input("x", x).build().unwrap();
        (0..3).for_each(|_| binding.set("x", x).unwrap());
    });
}

#[test]
fn sessions_that_are_dropped_leave_nothing() {
    stays_flat("sessions", |device, _, x| drop(self::session(device).run(&[("x", x)]).unwrap()));
}

#[test]
fn runs_to_the_device_leave_nothing() {
    stays_flat("runs", |_, session, x| drop(session.run_to_device(&[("x", x)]).unwrap()));
}

/// Futures are polled some times, and dropped. The first of each size finds no plan.
#[test]
fn runs_that_are_dropped_leave_nothing() {
    let _alone = alone();
    for device in devices::each() {
        let session = session(&device);
        let inputs: Vec<Tensor> = (1..=8).map(rows).collect();
        let dropped = |count: usize| {
            for i in 0..count {
                let given = [("x", &inputs[i % 8])];
                let mut run = pin!(session.run_async(&given));
                for _ in 0..i % 3 {
                    if run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                        break;
                    }
                }
                assert!(threads_called("sardonyx-prepare") <= FEW);
                assert!(threads_called("sardonyx-wait") <= FEW);
            }
            // Everything that was submitted has ended, and wgpu frees what it held for that.
            pollster::block_on(session.run_async(&[("x", &inputs[7])])).unwrap();
            device.wgpu().unwrap().0.poll(sardonyx::wgpu::PollType::wait_indefinitely()).unwrap();
        };
        inputs.iter().for_each(|x| drop(session.run(&[("x", x)]).unwrap()));
        dropped(2_000);
        let (bytes, memory) = (device.memory_bytes(), resident());
        let before = allocated(&device);
        dropped(10_000);
        assert_eq!(device.memory_bytes(), bytes, "{}", device.name());
        assert!(allocated(&device) <= before.map(|bytes| bytes + bytes / 50), "{}", device.name());
        let now = resident();
        assert!(now <= memory + memory / 50, "{memory} and {now} KiB on {}", device.name());
        for x in &inputs {
            let y = session.run(&[("x", x)]).unwrap();
            assert!(y[0].to_vec::<f32>().unwrap().iter().all(|y| *y == 1.0));
        }
    }
}

/// The same before any plan exists: the work of those that nobody awaits is not piled up.
#[test]
fn plans_that_nobody_waits_for_need_few_threads() {
    let _alone = alone();
    for device in devices::each() {
        let session = session(&device);
        let inputs: Vec<Tensor> = (1..=64).map(rows).collect();
        for i in 0..3_000 {
            let given = [("x", &inputs[i % 64])];
            let mut run = pin!(session.run_async(&given));
            let _ = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(threads_called("sardonyx-prepare") <= FEW);
        }
        let y = pollster::block_on(session.run_async(&[("x", &inputs[0])])).unwrap();
        assert!(y[0].to_vec::<f32>().unwrap().iter().all(|y| *y == 1.0));
    }
}

/// Twenty tables of 8,192 rows of 4,096 elements lie in one sparse file of 2.5 GiB, in which a row's first element is the table's
/// number. `y` is the sum of one row of each.
#[test]
fn a_model_above_2_gib_stays_in_its_file() {
    const TABLES: u64 = 20;
    const BYTES: u64 = 128 << 20;
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("tables.bin")).unwrap();
    file.set_len(TABLES * BYTES).unwrap();
    let mut nodes = Vec::new();
    let mut tables = Vec::new();
    for i in 0..TABLES {
        file.write_all_at(&(i as f32).to_le_bytes(), i * BYTES + 5 * 4 * 4096).unwrap();
        let (name, row) = (format!("table{i}"), format!("row{i}"));
        let offset = (i * BYTES).to_string();
        let place = [("location", "tables.bin"), ("offset", &offset), ("length", &BYTES.to_string())];
        tables.push(external(&name, &[8192, 4096], &place));
        nodes.push(node("Gather", &[&name, "ids"], &[&row]));
    }
    let rows: Vec<String> = (0..TABLES).map(|i| format!("row{i}")).collect();
    nodes.push(node("Sum", &rows.iter().map(String::as_str).collect::<Vec<_>>(), &["y"]));
    let mut main = graph(&[], nodes, &["y"]);
    main.initializer = tables;
    main.input = vec![value("ids", INT64, &["1"])];
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, bytes(&model(21, main))).unwrap();

    let before = of_this_process("RssAnon:");
    let model = Model::load(&path).unwrap();
    let ids = Tensor::from_slice(&[1], &[5i64]).unwrap();
    let reference = Session::new(&Device::reference(), &model, SessionOptions::default()).unwrap();
    let y = reference.run(&[("ids", &ids)]).unwrap()["y"].to_vec::<f32>().unwrap();
    assert_eq!((y[0], y[1]), (190.0, 0.0));
    for device in devices::each() {
        let session = Session::new(&device, &model, SessionOptions::default()).unwrap();
        let plan = session.plan(&[("ids", [1usize].as_slice())]).unwrap();
        assert_eq!(plan.weight_bytes, TABLES * BYTES);
    }
    let grown = of_this_process("RssAnon:") - before;
    assert!(grown < 64 << 10, "{grown} KiB");
}
