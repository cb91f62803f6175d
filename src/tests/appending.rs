//! Caches with room: a run appends to them where they lie, and every tensor that was handed out stays as it was.

use std::sync::Arc;

use super::growing::{decoder, objects, step, symbol};
use crate::internals::cases::difference;
use crate::internals::devices::each;
use crate::internals::random::Sketch;
use crate::internals::sizes::{expected, session};
use crate::ops::case::{self, Tolerance};
use crate::ops::{Attr, Graph};
use crate::{DType, Device, DeviceTensor, Session, Tensor, inputs};

/// One step: the model's outputs on these inputs, of which the cache is on the device.
fn stepped(session: &Session, [x, mask]: [&Tensor; 2], past: &DeviceTensor) -> (Tensor, DeviceTensor) {
    let inputs = inputs! { "x" => x, "past" => past, "mask" => mask };
    let mut outputs = session.run_to_device(&inputs).unwrap().into_iter().map(|(_, tensor)| tensor);
    (outputs.next().unwrap().read().unwrap(), outputs.next().unwrap())
}

fn check(graph: &Graph, given: [&Tensor; 3], found: [&Tensor; 2], what: &str) -> Tensor {
    let [x, past, mask] = given.map(Tensor::clone);
    let mut expected = expected(graph, &[x, past, mask]).unwrap();
    assert_eq!(difference(&expected[0], found[0], Tolerance::TRANSCENDENTAL), None, "{what}");
    assert_eq!(difference(&expected[1], found[1], Tolerance::ACCUMULATION), None, "{what}, the cache");
    expected.pop().unwrap()
}

#[test]
fn a_cache_with_room_is_never_copied() {
    let graph = decoder();
    for device in each() {
        let session = session(&device, &graph);
        let rows = 100;
        let start = case::random(&[1, 4, 0, 8]);
        let mut past = DeviceTensor::new(&device, &start).unwrap().with_room(2, rows).unwrap();
        let memory = past.counted().cloned();
        let (mut host, mut bound) = (start, 0);
        for n in 0..rows {
            let [x, _, mask] = &step(n)[..] else { unreachable!() };
            let before = device.counters();
            let (y, present) = stepped(&session, [x, mask], &past);
            let made = device.counters();
            bound += usize::from(made.bind_groups > before.bind_groups);
            assert_eq!(present.shape(), [1, 4, n + 1, 8]);
            let same = present.counted().zip(memory.as_ref()).is_some_and(|(own, first)| own.is(first));
            assert!(same, "row {n} on {}", device.name());
            let what = format!("row {n} on {}", device.name());
            host = check(&graph, [x, &host, mask], [&y, &present.read().unwrap()], &what);
            past = present;
        }
        assert!(bound <= 14, "bind groups were made for {bound} of {rows} rows on {}", device.name());
        // There is no room for another row: a copy has it.
        let [x, _, mask] = &step(rows)[..] else { unreachable!() };
        let (y, present) = stepped(&session, [x, mask], &past);
        check(&graph, [x, &host, mask], [&y, &present.read().unwrap()], "beyond the room");
        assert_eq!(present.capacity(2), Some(rows + 1 + rows / 4));
        let before = difference(&host, &past.read().unwrap(), Tolerance::ACCUMULATION);
        assert_eq!(before, None, "the cache before");
    }
}

/// Each of several continuations of one cache has its own rows, whatever the order.
#[test]
fn continuations_of_one_cache_do_not_meet() {
    let graph = decoder();
    for device in each() {
        let session = session(&device, &graph);
        let start = case::random(&[1, 4, 5, 8]);
        let past = DeviceTensor::new(&device, &start).unwrap().with_room(2, 32).unwrap();
        let mut all = vec![(past, start)];
        for n in 0..24usize {
            let (past, host) = all[n * 7 % all.len()].clone();
            let [_, _, mask] = &step(host.shape()[2])[..] else { unreachable!() };
            let x = case::uniform(&[1, 32], n as f32, n as f32 + 1.0).to_vec::<f32>().unwrap();
            let x = Tensor::from_slice(&[1, 32], &x).unwrap();
            let (y, present) = stepped(&session, [&x, mask], &past);
            let host = check(&graph, [&x, &host, mask], [&y, &present.read().unwrap()], "a continuation");
            all.push((present, host));
        }
        for (i, (tensor, host)) in all.iter().enumerate() {
            let difference = difference(host, &tensor.read().unwrap(), Tolerance::ACCUMULATION);
            assert_eq!(difference, None, "tensor {i} on {}", device.name());
        }
        let together: Vec<&DeviceTensor> = all.iter().map(|(tensor, _)| tensor).collect();
        for (read, (_, host)) in DeviceTensor::read_all(&together).unwrap().iter().zip(&all) {
            assert_eq!(difference(host, read, Tolerance::ACCUMULATION), None, "read together");
        }
    }
}

#[test]
fn threads_that_append_to_one_cache_do_not_meet() {
    let graph = decoder();
    for device in each() {
        let session = session(&device, &graph);
        let start = case::random(&[1, 4, 9, 8]);
        let past = DeviceTensor::new(&device, &start).unwrap().with_room(2, 64).unwrap();
        let run = |thread: usize| {
            let (mut past, mut host) = (past.clone(), start.clone());
            for n in 9..20 {
                let [_, _, mask] = &step(n)[..] else { unreachable!() };
                let x = Tensor::from_slice(&[1, 32], &[thread as f32 - 0.5; 32]).unwrap();
                let (y, present) = stepped(&session, [&x, mask], &past);
                let what = format!("thread {thread}, row {n} on {}", device.name());
                host = check(&graph, [&x, &host, mask], [&y, &present.read().unwrap()], &what);
                past = present;
            }
        };
        std::thread::scope(|scope| (0..3).for_each(|thread| drop(scope.spawn(move || run(thread)))));
    }
}

#[test]
fn bindings_append_in_place() {
    let graph = decoder();
    let name = |i: usize| graph.value(graph.outputs[i]).name.clone();
    for device in each() {
        let session = session(&device, &graph);
        let start = case::random(&[1, 4, 16, 8]);
        let past = DeviceTensor::new(&device, &start).unwrap().with_room(2, 24).unwrap();
        let memory = past.counted().cloned().unwrap();
        let [x, _, mask] = &step(16)[..] else { unreachable!() };
        let mut binding =
            session.bind().input("x", x).input("past", &past).input("mask", mask).build().unwrap();
        let mut host = start;
        for n in 16..40 {
            let [x, _, mask] = &step(n)[..] else { unreachable!() };
            binding.set("mask", mask).unwrap();
            binding.set("x", x).unwrap();
            binding.run().unwrap();
            let (y, keys) = (binding.read(&name(0)).unwrap(), binding.read(&name(1)).unwrap());
            host = check(&graph, [x, &host, mask], [&y, &keys], &format!("row {n} on {}", device.name()));
            let present = binding.output(&name(1)).unwrap();
            assert_eq!(present.counted().unwrap().is(&memory), n < 24, "row {n} on {}", device.name());
            binding.set("past", &present).unwrap();
        }
        // A buffer of the caller's for the cache is filled, and the memory with room stays as it is.
        let bytes = crate::device_bytes(DType::F32, &[1, 4, 17, 8]);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let descriptor =
            wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false };
        let own = device.wgpu().unwrap().0.create_buffer(&descriptor);
        let [x, host, mask] = &step(16)[..] else { unreachable!() };
        let past = DeviceTensor::new(&device, host).unwrap().with_room(2, 24).unwrap();
        let binder = session.bind().input("x", x).input("past", &past).input("mask", mask);
        let mut binding = binder.output_buffer(&name(1), &own).build().unwrap();
        binding.run().unwrap();
        let (y, keys) = (binding.read(&name(0)).unwrap(), binding.read(&name(1)).unwrap());
        check(&graph, [x, host, mask], [&y, &keys], "a buffer of the caller's");
        assert_eq!(past.room(2).map(|room| room.spare), Some(8));
    }
}

#[test]
fn steps_of_a_binding_make_no_objects() {
    let graph = decoder();
    let name = |i: usize| graph.value(graph.outputs[i]).name.clone();
    for device in each() {
        let session = session(&device, &graph);
        let start = case::random(&[1, 4, 16, 8]);
        let past = DeviceTensor::new(&device, &start).unwrap().with_room(2, 200).unwrap();
        let [x, _, mask] = &step(16)[..] else { unreachable!() };
        let mut binding =
            session.bind().input("x", x).input("past", &past).input("mask", mask).build().unwrap();
        let (mut host, mut made) = (start, Vec::new());
        for n in 16..150 {
            let [x, _, mask] = &step(n)[..] else { unreachable!() };
            let before = objects(&device);
            binding.set("x", x).unwrap();
            binding.set("mask", mask).unwrap();
            binding.run().unwrap();
            let present = binding.output(&name(1)).unwrap();
            if objects(&device) > before {
                made.push(n);
            }
            let (y, keys) = (binding.read(&name(0)).unwrap(), present.read().unwrap());
            host = check(&graph, [x, &host, mask], [&y, &keys], &format!("row {n} on {}", device.name()));
            binding.set("past", &present).unwrap();
        }
        assert!(made.len() <= 14, "on {}: objects were made for {made:?}", device.name());
    }
}

/// A pass that an encoder has recorded keeps its sizes, whatever the binding is given before the encoder is submitted.
#[test]
fn recorded_passes_keep_their_sizes() {
    let graph = decoder();
    let name = |i: usize| graph.value(graph.outputs[i]).name.clone();
    for device in each() {
        let session = session(&device, &graph);
        let steps: Vec<Vec<Tensor>> = (16..22).map(step).collect();
        let all = |i: usize| [&steps[i][0], &steps[i][1], &steps[i][2]];
        let placed: Vec<[DeviceTensor; 3]> =
            (0..6).map(|i| all(i).map(|tensor| DeviceTensor::new(&device, tensor).unwrap())).collect();
        let given = |binding: &mut crate::Binding, i: usize| {
            for (name, tensor) in ["x", "past", "mask"].iter().zip(&placed[i]) {
                binding.set(name, tensor).unwrap();
            }
        };
        let [x, past, mask] = &placed[0];
        let binder = session.bind().input("x", x).input("past", past).input("mask", mask);
        let mut binding = binder.build().unwrap();
        // Plans of larger sizes are made for what has grown before.
        for i in 1..4 {
            given(&mut binding, i);
            binding.run().unwrap();
        }
        let found: Vec<[Tensor; 2]> = (2..6)
            .map(|i| {
                given(&mut binding, i);
                let mut encoder = device.encoder().unwrap();
                binding.record(&mut encoder).unwrap();
                let outputs = [0, 1].map(|output| binding.output(&name(output)).unwrap());
                given(&mut binding, (i + 2) % 6);
                binding.run().unwrap();
                device.wgpu().unwrap().1.submit([encoder.finish()]);
                outputs.map(|output| output.read().unwrap())
            })
            .collect();
        for (i, [y, keys]) in (2..6).zip(&found) {
            check(&graph, all(i), [y, keys], &format!("step {i} on {}", device.name()));
        }
    }
}

/// Rows of any dtype along any axis, in a graph that also reads the input and the output by themselves.
fn appended(dtype: DType, axis: i64, rank: usize) -> Arc<Graph> {
    let mut s = Sketch::default();
    let past = s.input_of("past", (0..rank).map(|d| symbol(&format!("past{d}"))).collect());
    let new = s.input_of("new", (0..rank).map(|d| symbol(&format!("new{d}"))).collect());
    for id in [past, new] {
        s.graph.values[id.index()].dtype = Some(dtype);
    }
    let all = s.node("Concat", &[("axis", Attr::Int(axis))], &[past, new]);
    let (before, after) = (s.node("Neg", &[], &[past]), s.node("Neg", &[], &[all]));
    s.graph.outputs = vec![all, before, after];
    Arc::new(s.graph)
}

#[test]
fn rows_lie_along_any_axis_and_have_any_dtype() {
    for dtype in [DType::F32, DType::F16, DType::I32, DType::I8, DType::I64] {
        for (axis, shape, more) in [
            (0i64, vec![3, 4, 2], vec![2, 4, 2]),
            (1, vec![3, 5, 2], vec![3, 1, 2]),
            (-1, vec![2, 3, 5], vec![2, 3, 4]),
            (1, vec![3, 2, 3], vec![3, 3, 3]),
            (1, vec![2, 0, 4], vec![2, 2, 4]),
            (1, vec![2, 4, 4], vec![2, 0, 4]),
            (0, vec![7], vec![1]),
        ] {
            let graph = appended(dtype, axis, shape.len());
            let at = if axis < 0 { shape.len() - 1 } else { axis as usize };
            let of = |shape: &[usize]| case::integers(shape, -9, 9).cast(dtype).unwrap();
            for device in each() {
                let session = session(&device, &graph);
                let mut host = of(&shape);
                let mut past = DeviceTensor::new(&device, &host).unwrap().with_room(at, 12).unwrap();
                for run in 0..5 {
                    let new = of(&more);
                    let expected = expected(&graph, &[host, new.clone()]).unwrap();
                    let outputs = session.run_to_device(&inputs! { "past" => &past, "new" => &new }).unwrap();
                    let outputs: Vec<DeviceTensor> = outputs.into_iter().map(|(_, tensor)| tensor).collect();
                    for (expected, output) in expected.iter().zip(&outputs) {
                        let difference = difference(expected, &output.read().unwrap(), Tolerance::EXACT);
                        assert_eq!(
                            difference,
                            None,
                            "{dtype}{shape:?} and {more:?} along {axis}, run {run} on {}",
                            device.name()
                        );
                    }
                    host = expected[0].clone();
                    past = outputs[0].clone();
                }
            }
        }
    }
}

/// Whoever takes a tensor that lies with room gets its elements: runs to the host, other graphs, bindings, lists.
#[test]
fn others_read_a_tensor_with_room() {
    let (graph, plain) = (decoder(), {
        let mut s = Sketch::default();
        let x = s.input_of("x", ["a", "b", "c", "d"].map(symbol).into());
        let y = s.node("Neg", &[], &[x]);
        s.graph.outputs.push(y);
        Arc::new(s.graph)
    });
    for device in each() {
        let own = session(&device, &graph);
        let [x, host, mask] = &step(16)[..] else { unreachable!() };
        let past = DeviceTensor::new(&device, host).unwrap().with_room(2, 24).unwrap();
        assert!(past.buffer().is_none());
        let found = own.run(&inputs! { "x" => x, "past" => &past, "mask" => mask }).unwrap();
        let found: Vec<Tensor> = found.into_iter().map(|(_, tensor)| tensor).collect();
        check(&graph, [x, host, mask], [&found[0], &found[1]], "a run to the host");
        assert_eq!(past.room(2).map(|room| room.spare), Some(8), "a run to the host appends nothing");
        let negated = expected(&plain, std::slice::from_ref(host)).unwrap();
        let other = session(&device, &plain);
        let outputs = other.run_to_device(&inputs! { "x" => &past }).unwrap();
        let found = outputs.into_iter().next().unwrap().1.read().unwrap();
        assert_eq!(difference(&negated[0], &found, Tolerance::EXACT), None, "another graph");
        let mut binding = other.bind().input("x", &past).build().unwrap();
        binding.run().unwrap();
        let found = binding.read(&plain.value(plain.outputs[0]).name).unwrap();
        assert_eq!(difference(&negated[0], &found, Tolerance::EXACT), None, "a binding");
        let along = past.with_room(1, 8).unwrap();
        assert_eq!(difference(host, &along.read().unwrap(), Tolerance::EXACT), None, "another axis");
        assert!(past.with_room(4, 8).is_err());
        let reference = DeviceTensor::new(&Device::reference(), host).unwrap().with_room(2, 99).unwrap();
        assert_eq!(difference(host, &reference.read().unwrap(), Tolerance::EXACT), None);
        assert!(past.with_room(2, usize::MAX).is_err(), "no memory is that large");
    }
}
