//! Sizes that change from run to run: values stay right, and a run within sizes that a plan has memory for makes no object on the
//! device.

use std::sync::Arc;

use crate::graph::ValueId;
use crate::internals::cases::difference;
use crate::internals::devices::each;
use crate::internals::random::Sketch;
use crate::internals::sizes::{differs, expected, session};
use crate::ops::case::{self, Tolerance};
use crate::ops::{Attr, Graph};
use crate::{Device, Dim, Tensor};

pub(super) fn symbol(name: &str) -> Dim {
    Dim::Symbol(name.into())
}

impl Sketch {
    pub(super) fn input_of(&mut self, name: &str, shape: Vec<Dim>) -> ValueId {
        let id = self.input(name);
        self.graph.values[id.index()].shape = Some(shape);
        id
    }
}

/// A step of decoding: the new row of keys goes behind the past ones, and the row looks at all of them.
pub(super) fn decoder() -> Arc<Graph> {
    let mut s = Sketch::default();
    let [one, four, eight] = [1, 4, 8].map(Dim::Known);
    let x = s.input_of("x", vec![one.clone(), Dim::Known(32)]);
    let past = s.input_of("past", vec![one.clone(), four, symbol("past"), eight]);
    let mask = s.input_of("mask", vec![one, symbol("past + 1")]);
    let weights = s.constant(case::random(&[32, 32]));
    let row = s.node("MatMul", &[], &[x, weights]);
    let row = s.reshape(row, &[1, 4, 1, 8]);
    let keys = s.node("Concat", &[("axis", Attr::Int(2))], &[past, row]);
    let turned = s.transpose(keys, &[0, 1, 3, 2]);
    let scores = s.node("MatMul", &[], &[row, turned]);
    let scores = s.node("Add", &[], &[scores, mask]);
    let shares = s.node("Softmax", &[], &[scores]);
    let y = s.node("MatMul", &[], &[shares, keys]);
    let y = s.reshape(y, &[1, 32]);
    let y = s.node("MatMul", &[], &[y, weights]);
    s.graph.outputs = vec![y, keys];
    Arc::new(s.graph)
}

pub(super) fn step(past: usize) -> Vec<Tensor> {
    vec![case::random(&[1, 32]), case::random(&[1, 4, past, 8]), case::random(&[1, past + 1])]
}

/// A convolution, a pool and a product over a picture's channels.
fn pictures() -> Arc<Graph> {
    let mut s = Sketch::default();
    let x = s.input_of("x", vec![Dim::Known(1), Dim::Known(3), symbol("height"), symbol("width")]);
    let weights = s.constant(case::random(&[8, 3, 3, 3]));
    let y = s.node("Conv", &[("pads", Attr::Ints(vec![1; 4]))], &[x, weights]);
    let y = s.node("Relu", &[], &[y]);
    let kernel = [("kernel_shape", Attr::Ints(vec![2, 2])), ("strides", Attr::Ints(vec![2, 2]))];
    let y = s.node("MaxPool", &kernel, &[y]);
    let y = s.node("Softmax", &[], &[y]);
    s.graph.outputs.push(y);
    Arc::new(s.graph)
}

/// The number of objects that were made on the device.
pub(super) fn objects(device: &Device) -> u64 {
    let made = device.counters();
    made.buffers + made.bind_groups + made.pipelines
}

#[test]
fn a_growing_cache_makes_objects_a_few_times() {
    let graph = decoder();
    for device in each() {
        let session = session(&device, &graph);
        let (mut made, mut most) = (Vec::new(), 0);
        for past in 16..200 {
            let inputs = step(past);
            let expected = expected(&graph, &inputs).unwrap();
            let before = objects(&device);
            let what = differs(&session, &device, (&inputs, &expected), |_| Tolerance::TRANSCENDENTAL);
            assert_eq!(what, None, "past {past} on {}", device.name());
            if objects(&device) > before {
                made.push(past);
            }
            most = session.memory().arena;
        }
        assert!(made.len() <= 14, "on {}: objects were made for {made:?}", device.name());
        let alone = self::session(&device, &graph);
        differs(&alone, &device, (&step(199), &expected(&graph, &step(199)).unwrap()), |_| {
            Tolerance::TRANSCENDENTAL
        });
        let least = alone.memory().arena;
        assert!(most <= least * 13 / 10 + (512 << 10), "{most} bytes, and {least} for the largest alone");
    }
}

#[test]
fn pictures_of_any_size_make_objects_a_few_times() {
    let graph = pictures();
    for device in each() {
        let session = session(&device, &graph);
        let mut made = Vec::new();
        for i in 0..200usize {
            let (height, width) = (16 + i * 37 % 41, 16 + i * 23 % 29);
            let inputs = [case::random(&[1, 3, height, width])];
            let expected = expected(&graph, &inputs).unwrap();
            let before = objects(&device);
            let what = differs(&session, &device, (&inputs, &expected), |_| Tolerance::TRANSCENDENTAL);
            assert_eq!(what, None, "{height} by {width} on {}", device.name());
            if objects(&device) > before {
                made.push((height, width));
            }
        }
        assert!(made.len() <= 8, "on {}: objects were made for {made:?}", device.name());
    }
}

/// Runs of several sizes that share what a plan of larger sizes has, at the same time and beside a binding.
#[test]
fn runs_of_several_sizes_do_not_disturb_each_other() {
    let graph = decoder();
    for device in each() {
        let session = session(&device, &graph);
        let inputs: Vec<Vec<Tensor>> = (16..22).map(step).collect();
        let expected: Vec<_> = inputs.iter().map(|inputs| expected(&graph, inputs).unwrap()).collect();
        let right = |i: usize| {
            let what = differs(&session, &device, (&inputs[i], &expected[i]), |_| Tolerance::TRANSCENDENTAL);
            assert_eq!(what, None, "past {} on {}", 16 + i, device.name());
        };
        (0..6).for_each(right);
        let named = ["x", "past", "mask"].iter().zip(&inputs[3]);
        let binder = named.fold(session.bind(), |binder, (name, tensor)| binder.input(name, tensor));
        let mut bound = binder.build().unwrap();
        bound.run().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..3usize {
                scope.spawn(move || (0..30usize).for_each(|k| right((thread * 2 + k * (thread + 1)) % 6)));
            }
        });
        bound.run().unwrap();
        for (id, expected) in graph.outputs.iter().zip(&expected[3]) {
            let actual = bound.read(&graph.value(*id).name).unwrap();
            assert_eq!(
                difference(expected, &actual, Tolerance::TRANSCENDENTAL),
                None,
                "on {}",
                device.name()
            );
        }
    }
}
