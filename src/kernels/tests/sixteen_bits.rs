//! Floats of 16 bits, two to a word: every pattern is loaded, and every pattern is stored, in vectors and one by one.

use std::sync::Arc;

use half::{bf16, f16};

use super::floats::DEVICES;
use crate::internals::devices;
use crate::internals::random::Sketch;
use crate::kernels::Class;
use crate::ops::{Attr, case};
use crate::{DType, Session, SessionOptions, Tensor};

const PATTERNS: usize = 1 << 16;

/// A format, with the conversions of the `half` crate.
struct Half {
    dtype: DType,
    value: fn(u16) -> f32,
    nearest: fn(f32) -> u16,
}

const HALVES: [Half; 2] = [
    Half {
        dtype: DType::F16,
        value: |bits| f16::from_bits(bits).to_f32(),
        nearest: |x| f16::from_f32(x).to_bits(),
    },
    Half {
        dtype: DType::BF16,
        value: |bits| bf16::from_bits(bits).to_f32(),
        nearest: |x| bf16::from_f32(x).to_bits(),
    },
];

impl Half {
    fn tensor(&self, shape: &[usize], bits: &[u16]) -> Tensor {
        Tensor::from_raw(self.dtype, shape, bytemuck::cast_slice(bits).to_vec()).unwrap()
    }

    fn patterns(&self, shape: &[usize]) -> Tensor {
        self.tensor(shape, &(0..=u16::MAX).collect::<Vec<_>>())
    }

    fn input(&self, sketch: &mut Sketch, name: &str) -> crate::graph::ValueId {
        let id = sketch.input(name);
        sketch.graph.values[id.index()].dtype = Some(self.dtype);
        id
    }

    /// Whether `bits` is the nearest number to the product; where that is zero, its sign does not matter. Devices may take a
    /// number that is subnormal in 32 bits for 0.
    fn is_product(&self, [a, b]: [f32; 2], bits: u16) -> bool {
        let (expected, actual) = ((self.nearest)(a * b), (self.value)(bits));
        let subnormal = [a, b, a * b].iter().any(|number| number.is_subnormal());
        expected == bits
            || (a * b).is_nan() && actual.is_nan()
            || actual == 0.0 && (self.value)(expected) == 0.0
            || subnormal && (actual == 0.0 || actual.is_nan())
    }
}

fn outputs(sketch: &Sketch, inputs: &[(&str, &Tensor)]) -> Vec<(String, Tensor)> {
    let of = |device: &crate::Device| {
        let graph = Arc::new(sketch.graph.clone());
        let session = Session::of_graph(device, graph, SessionOptions::default(), vec![]).unwrap();
        (device.name().to_string(), session.run(inputs).unwrap()[0].clone())
    };
    DEVICES.iter().map(of).collect()
}

#[test]
fn every_pattern_is_loaded() {
    for half in &HALVES {
        // In vectors, and one by one where the elements lie across.
        for turned in [false, true] {
            let mut sketch = Sketch::default();
            let x = half.input(&mut sketch, "x");
            let read = if turned { sketch.node("Transpose", &[], &[x]) } else { x };
            let wide = sketch.node("Cast", &[("to", Attr::Int(1))], &[read]);
            sketch.graph.outputs.push(wide);
            for (device, values) in outputs(&sketch, &[("x", &half.patterns(&[256, 256]))]) {
                for (i, value) in values.to_vec::<f32>().unwrap().into_iter().enumerate() {
                    let bits = if turned { i % 256 * 256 + i / 256 } else { i } as u16;
                    let expected = (half.value)(bits);
                    let same = expected.to_bits() == value.to_bits() || expected.is_nan() && value.is_nan();
                    assert!(same, "{} {bits:#06x} on {device}: {value:?}, not {expected:?}", half.dtype);
                }
            }
        }
    }
}

/// The product of two numbers is exact in 32 bits, so only the store rounds.
#[test]
fn every_store_rounds_to_the_nearest() {
    let factors = [1.0f32, -1.0, 0.3, 1.5, -1.0009766, 3e-5, 60_000.0, 7e-8, f32::INFINITY];
    for half in &HALVES {
        let factors = factors.map(half.nearest);
        // In vectors, and one by one, where rows of nine elements begin within words.
        for op in ["Mul", "MatMul"] {
            let mut sketch = Sketch::default();
            let (x, y) = (half.input(&mut sketch, "x"), half.input(&mut sketch, "y"));
            let product = sketch.node(op, &[], &[x, y]);
            sketch.graph.outputs.push(product);
            let inputs = [("x", &half.patterns(&[PATTERNS, 1])), ("y", &half.tensor(&[1, 9], &factors))];
            for (device, product) in outputs(&sketch, &inputs) {
                let products: Vec<u16> = bytemuck::pod_collect_to_vec(product.bytes());
                assert_eq!(products.len(), PATTERNS * 9);
                for (i, &bits) in products.iter().enumerate() {
                    let operands = [(half.value)((i / 9) as u16), (half.value)(factors[i % 9])];
                    let [a, b] = operands;
                    let text = || format!("{op} of {} {a:e} and {b:e} on {device}: {bits:#06x}", half.dtype);
                    assert!(half.is_product(operands, bits), "{}, not {:e}", text(), a * b);
                }
            }
        }
    }
}

/// A NaN keeps its payload where elements only move.
#[test]
fn moved_elements_keep_their_bits() {
    let mut sketch = Sketch::default();
    let half = &HALVES[0];
    let x = half.input(&mut sketch, "x");
    let rows: Vec<i64> = (0..257).rev().map(|row| row % 256).collect();
    let rows = sketch.graph.add_constant("rows", case::list(&rows));
    let moved = sketch.node("Gather", &[], &[x, rows]);
    let turned = sketch.node("Transpose", &[], &[moved]);
    sketch.graph.outputs.push(turned);
    for (device, turned) in outputs(&sketch, &[("x", &half.patterns(&[256, 256]))]) {
        let bits: Vec<u16> = bytemuck::pod_collect_to_vec(turned.bytes());
        for (i, bits) in bits.into_iter().enumerate() {
            let row = (256 - i % 257) % 256;
            assert_eq!(usize::from(bits), row * 256 + i / 257, "element {i} on {device}");
        }
    }
}

/// Values of float32 that float16 holds too.
fn numbers(dtype: DType, shape: &[usize]) -> Tensor {
    case::converted(&case::converted(&case::random(shape), DType::F16), dtype)
}

/// Kernels that store neighbours together, with results of odd sizes, which begin and end within words: alone, behind and before
/// another part of a concatenation, which owns the other half, and in place.
fn of_width(dtype: DType, width: usize) -> (Sketch, Tensor) {
    let mut sketch = Sketch::default();
    let x = sketch.input("x");
    sketch.graph.values[x.index()].dtype = Some(dtype);
    let input = numbers(dtype, &[1, 3, 5, width]);
    let wide = sketch.constant(numbers(dtype, &[5, 3, 3, 3]));
    let one_tap = sketch.constant(numbers(dtype, &[5, 3, 1, 1]));
    let depthwise = sketch.constant(numbers(dtype, &[3, 1, 3, 3]));
    let columns = sketch.constant(numbers(dtype, &[width, 9]));
    let (pads, axis) = ([("pads", Attr::Ints(vec![1; 4]))], [("axis", Attr::Int(1))]);
    let results = [
        sketch.node("Conv", &pads, &[x, wide]),
        sketch.node("Conv", &[], &[x, one_tap]),
        sketch.node("Conv", &[pads[0].clone(), ("group", Attr::Int(3))], &[x, depthwise]),
        sketch.node("MatMul", &[], &[x, columns]),
    ];
    for result in results {
        let other = if result == results[3] { result } else { x };
        let before = sketch.node("Concat", &axis, &[other, result]);
        let whole = sketch.node("Concat", &axis, &[result, other]);
        let in_place = sketch.node("Relu", &[], &[whole]);
        sketch.graph.outputs.extend([before, in_place]);
    }
    (sketch, input)
}

/// A kernel's sums are those of 32 bits, whatever the results are stored in.
#[test]
fn odd_results_are_those_of_32_bits_rounded() {
    let run = |device: &crate::Device, dtype, width| -> Vec<Tensor> {
        let (sketch, x) = of_width(dtype, width);
        let graph = Arc::new(sketch.graph);
        let session = Session::of_graph(device, graph, SessionOptions::default(), vec![]).unwrap();
        let outputs = session.run(&[("x", &x)]).unwrap();
        outputs.iter().map(|(_, tensor)| case::converted(tensor, DType::F16)).collect()
    };
    for device in [Class::Cpu, Class::Gpu].into_iter().flat_map(devices::of_class) {
        for width in [1, 4, 5, 7, 8, 13] {
            let (expected, actual) = (run(&device, DType::F32, width), run(&device, DType::F16, width));
            for (i, (expected, actual)) in expected.iter().zip(&actual).enumerate() {
                assert_eq!(expected, actual, "output {i} of width {width} on {}", device.name());
            }
        }
    }
}
