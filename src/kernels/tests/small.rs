//! Floats of at most 8 bits: every code is loaded, stored, cast and moved, by devices and by the reference.

use std::sync::Arc;

use half::f16;

use super::floats::DEVICES;
use crate::graph::ValueId;
use crate::internals::sketch::Sketch;
use crate::ops::{Attr, case};
use crate::small::{Format, SMALL_FLOATS, decode_e8m0, pack, unpack};
use crate::{DType, Device, Session, SessionOptions, Tensor, device_bytes};

fn formats() -> impl Iterator<Item = DType> {
    SMALL_FLOATS.into_iter().chain([DType::F8E8M0])
}

fn count(dtype: DType) -> usize {
    1 << dtype.bits()
}

fn of_codes(dtype: DType, shape: &[usize], codes: &[u8]) -> Tensor {
    Tensor::from_raw(dtype, shape, pack(codes, dtype.bits())).unwrap()
}

fn codes(tensor: &Tensor) -> Vec<u8> {
    unpack(tensor.bytes(), tensor.dtype().bits(), tensor.len())
}

/// All codes, and some of them twice: `count` elements, which begin with code `first`.
fn patterns(dtype: DType, first: usize, count: usize) -> Vec<u8> {
    (0..count).map(|i| ((first + i) % (1 << dtype.bits())) as u8).collect()
}

fn value(dtype: DType, code: u8) -> f32 {
    Format::of(dtype).map_or_else(|| decode_e8m0(code), |format| format.decode(code)) as f32
}

fn cast(to: DType) -> [(&'static str, Attr); 1] {
    [("to", Attr::Int(to.onnx().into()))]
}

/// Runs a graph of one input and one output on all devices, and on the reference.
fn check(x: &Tensor, build: impl Fn(&mut Sketch, ValueId) -> ValueId, right: impl Fn(&Tensor, &str)) {
    let mut sketch = Sketch::default();
    let id = sketch.input("x");
    sketch.graph.values[id.index()].dtype = Some(x.dtype());
    let output = build(&mut sketch, id);
    sketch.graph.outputs.push(output);
    let graph = Arc::new(sketch.graph);
    for device in DEVICES.iter().chain([&Device::reference()]) {
        let session = Session::of_graph(device, graph.clone(), SessionOptions::default(), vec![]).unwrap();
        right(&session.run(&[("x", x)]).unwrap()[0], &device.name());
    }
}

/// Elements in vectors, and one by one where they lie across.
const TURNS: [bool; 2] = [false, true];

fn turned(sketch: &mut Sketch, x: ValueId, turn: bool) -> ValueId {
    if turn { sketch.transpose(x, &[1, 0]) } else { x }
}

fn across<T: Copy>(values: &[T], [rows, columns]: [usize; 2], turn: bool) -> Vec<T> {
    let of = |i: usize| if turn { values[i % rows * columns + i / rows] } else { values[i] };
    (0..rows * columns).map(of).collect()
}

#[test]
fn every_code_becomes_its_number() {
    for dtype in formats() {
        for (turn, extra) in TURNS.into_iter().flat_map(|turn| [(turn, 0), (turn, 3)]) {
            // ONNX has no Transpose of float6.
            if turn && dtype.bits() == 6 {
                continue;
            }
            let shape = [2, count(dtype) / 2 + extra];
            let given = patterns(dtype, 0, 2 * shape[1]);
            let x = of_codes(dtype, &shape, &given);
            for to in [DType::F32, DType::F16] {
                let build = |sketch: &mut Sketch, x| {
                    let read = turned(sketch, x, turn);
                    sketch.node("Cast", &cast(to), &[read])
                };
                check(&x, build, |y, device| {
                    let actual: Vec<f32> = match to {
                        DType::F16 => y.to_vec::<f16>().unwrap().into_iter().map(f16::to_f32).collect(),
                        _ => y.to_vec().unwrap(),
                    };
                    for (code, actual) in across(&given, shape, turn).into_iter().zip(actual) {
                        let exact = value(dtype, code);
                        let expected = if to == DType::F16 { f16::from_f32(exact).to_f32() } else { exact };
                        let same =
                            expected.to_bits() == actual.to_bits() || expected.is_nan() && actual.is_nan();
                        // 2^-127 is subnormal in float32.
                        let tiny = exact.is_subnormal() && actual == 0.0;
                        assert!(
                            same || tiny,
                            "{dtype} {code} as {to} on {device}: {actual:?}, not {expected:?}"
                        );
                    }
                });
            }
        }
    }
}

#[test]
fn every_number_becomes_its_code() {
    for dtype in formats() {
        for (turn, extra) in TURNS.into_iter().flat_map(|turn| [(turn, 0), (turn, 3)]) {
            let shape = [2, count(dtype) / 2 + extra];
            let given = patterns(dtype, 0, 2 * shape[1]);
            let numbers: Vec<f32> = given.iter().map(|&code| value(dtype, code)).collect();
            let halves: Vec<f16> = numbers.iter().map(|&number| f16::from_f32(number)).collect();
            for x in [case::values(&shape, &numbers), case::values(&shape, &halves)] {
                // float16 does not hold all powers of two.
                if x.dtype() == DType::F16 && dtype == DType::F8E8M0 {
                    continue;
                }
                let build = |sketch: &mut Sketch, x| {
                    let attributes = [&cast(dtype)[..], &[("saturate", Attr::Int(0))]].concat();
                    let read = turned(sketch, x, turn);
                    sketch.node("Cast", &attributes, &[read])
                };
                check(&x, build, |y, device| {
                    assert_eq!(y.dtype(), dtype);
                    for (expected, actual) in across(&given, shape, turn).into_iter().zip(codes(y)) {
                        let number = value(dtype, expected);
                        let same = expected == actual || number.is_nan() && value(dtype, actual).is_nan();
                        assert!(same, "{number:?} as {dtype} on {device}: {actual}, not {expected}");
                    }
                });
            }
        }
    }
}

/// A node that moves elements, and the places that its elements come from; `None`: a zero.
type Moved = (&'static str, fn(&mut Sketch, ValueId) -> ValueId, fn(usize) -> Vec<Option<usize>>);

#[test]
fn what_moves_keeps_its_bits() {
    let moves: [Moved; 3] = [
        ("Identity", |sketch, x| sketch.node("Identity", &[], &[x]), |n| (0..3 * n).map(Some).collect()),
        (
            "Transpose",
            |sketch, x| sketch.transpose(x, &[1, 0]),
            |n| (0..3 * n).map(|i| Some(i % 3 * n + i / 3)).collect(),
        ),
        (
            "Pad",
            |sketch, x| {
                let pads = sketch.constant(case::list(&[0, 1, 0, 2]));
                sketch.node("Pad", &[], &[x, pads])
            },
            |n| {
                let of = |i: usize| match i % (n + 3) {
                    column if (1..=n).contains(&column) => Some(i / (n + 3) * n + column - 1),
                    _ => None,
                };
                (0..3 * (n + 3)).map(of).collect()
            },
        ),
    ];
    for dtype in formats().filter(|dtype| dtype.bits() != 6) {
        for n in [1, 2, 3, 5, 31, 86, 257] {
            // What begins with an odd code has all NaNs, and the first and the last elements of each.
            let given = patterns(dtype, 0x5b, 3 * n);
            let x = of_codes(dtype, &[3, n], &given);
            for (name, build, places) in moves {
                let zero = if dtype == DType::F8E8M0 { None } else { Some(0) };
                check(&x, build, |y, device| {
                    for (place, actual) in places(n).into_iter().zip(codes(y)) {
                        // Powers of two have no zero.
                        let Some(expected) = place.map_or(zero, |place| Some(given[place])) else { continue };
                        assert_eq!(actual, expected, "{name} of {n} {dtype} on {device}");
                    }
                });
            }
        }
    }
}

#[test]
fn bits_are_read_as_integers() {
    for dtype in formats().filter(|dtype| dtype.bits() != 6) {
        let as_integer = if dtype.bits() == 4 { DType::U4 } else { DType::U8 };
        let given = patterns(dtype, 0, count(dtype) + 3);
        for (from, to) in [(dtype, as_integer), (as_integer, dtype)] {
            let x = of_codes(from, &[given.len()], &given);
            check(
                &x,
                |sketch, x| sketch.node("BitCast", &cast(to), &[x]),
                |y, device| assert_eq!(codes(y), given, "{from} as {to} on {device}"),
            );
        }
    }
}

#[test]
fn tensors_take_their_own_bytes() {
    for dtype in formats() {
        let bytes = if dtype.bits() == 4 { 32 } else { 64 };
        assert_eq!(device_bytes(dtype, &[4, 16]), bytes, "{dtype}");
        assert_eq!(device_bytes(dtype, &[3]), 16, "{dtype}");
    }
}
