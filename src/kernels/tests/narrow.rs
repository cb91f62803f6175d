//! Elements that share words: whichever way they are loaded and stored, each keeps its own bits, and its neighbours theirs.

use std::sync::Arc;

use super::floats::DEVICES;
use crate::graph::ValueId;
use crate::internals::sketch::Sketch;
use crate::ops::{Attr, case};
use crate::{DType, Session, SessionOptions, Tensor};

const DTYPES: [DType; 6] = [DType::I8, DType::U8, DType::Bool, DType::I16, DType::U16, DType::F16];

/// A tensor whose element `i` has the lower bits of `bits(i)`. No float is a NaN, whose bits a kernel may change.
fn tensor(dtype: DType, shape: &[usize], bits: impl Fn(usize) -> u32) -> Tensor {
    let width = dtype.bits();
    let count: usize = shape.iter().product();
    let mut bytes = vec![0u8; dtype.bytes_of(count).unwrap()];
    for i in 0..count {
        let bits = match dtype {
            DType::Bool => bits(i) & 1,
            DType::F16 => bits(i) & 0xbfff,
            _ => bits(i),
        };
        for bit in (0..width).filter(|bit| bits >> bit & 1 == 1) {
            bytes[(i * width + bit) / 8] |= 1 << ((i * width + bit) % 8);
        }
    }
    Tensor::from_raw(dtype, shape, bytes).unwrap()
}

/// Any bits, other ones for another `salt`.
fn mixed(salt: u32) -> impl Fn(usize) -> u32 {
    move |i| (i as u32 + 1).wrapping_mul(0x9e37_79b9 ^ salt.wrapping_mul(0x85eb_ca6b)) >> 9
}

/// A graph, what it is given, and what it must return.
#[derive(Default)]
struct StoreCheck {
    sketch: Sketch,
    inputs: Vec<(String, Tensor)>,
    expected: Vec<Tensor>,
}

impl StoreCheck {
    fn input(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("x{}", self.inputs.len());
        let id = self.sketch.input(&name);
        self.sketch.graph.values[id.index()].dtype = Some(tensor.dtype());
        self.inputs.push((name, tensor));
        id
    }

    fn output(&mut self, id: ValueId, expected: Tensor) {
        self.sketch.graph.outputs.push(id);
        self.expected.push(expected);
    }

    fn check(self, what: &str) {
        let inputs: Vec<(&str, &Tensor)> = self.inputs.iter().map(|(name, x)| (&name[..], x)).collect();
        let graph = Arc::new(self.sketch.graph);
        for device in DEVICES.iter() {
            let session =
                Session::of_graph(device, graph.clone(), SessionOptions::default(), vec![]).unwrap();
            // In the second run, memory holds what the first has left there.
            for run in 0..2 {
                let outputs = session.run(&inputs).unwrap();
                for (i, expected) in self.expected.iter().enumerate() {
                    let name = device.name();
                    assert!(outputs[i] == *expected, "{what}, output {i} of run {run} on {name}");
                }
            }
        }
    }
}

/// Vectors, where the mask lies in bytes, too; and in place of a value that is a concatenation.
fn chosen(dtype: DType, n: usize) -> StoreCheck {
    let mut check = StoreCheck::default();
    let (x, y, z) = (mixed(1), mixed(2), mixed(3));
    let mask = check.input(tensor(DType::Bool, &[n], mixed(4)));
    let of = |salt: u32| tensor(dtype, &[n], mixed(salt));
    let (a, b, c) = (check.input(of(1)), check.input(of(2)), check.input(of(3)));
    let chosen = check.sketch.node("Where", &[], &[mask, a, b]);
    let set = |i: usize| mixed(4)(i) & 1 == 1;
    check.output(chosen, tensor(dtype, &[n], |i| if set(i) { x(i) } else { y(i) }));
    let axis = [("axis", Attr::Int(0))];
    let whole = check.sketch.node("Concat", &axis, &[c, a]);
    let masks = check.sketch.node("Concat", &axis, &[mask, mask]);
    let zero = check.sketch.constant(tensor(dtype, &[1], |_| 0));
    let in_place = check.sketch.node("Where", &[], &[masks, whole, zero]);
    let of = |i: usize| if i < n { z(i) } else { x(i - n) };
    check.output(in_place, tensor(dtype, &[2 * n], |i| if set(i % n) { of(i) } else { 0 }));
    check
}

/// Elements that move, and lie at odd places of what they move to.
fn moved(dtype: DType, n: usize) -> StoreCheck {
    let mut check = StoreCheck::default();
    let (x, y) = (mixed(1), mixed(2));
    let rows = check.input(tensor(dtype, &[3, n], mixed(1)));
    let more = check.input(tensor(dtype, &[3, n + 1], mixed(2)));
    let turned = check.sketch.transpose(rows, &[1, 0]);
    check.output(turned, tensor(dtype, &[n, 3], |i| x(i % 3 * n + i / 3)));
    let beside = check.sketch.node("Concat", &[("axis", Attr::Int(1))], &[rows, more, rows]);
    let width = 3 * n + 1;
    let of = |i: usize| match (i / width, i % width) {
        (row, column) if column < n => x(row * n + column),
        (row, column) if column < 2 * n + 1 => y(row * (n + 1) + column - n),
        (row, column) => x(row * n + column - 2 * n - 1),
    };
    check.output(beside, tensor(dtype, &[3, width], of));
    let backward: Vec<i64> = (0..n as i64).rev().collect();
    let backward = check.sketch.constant(case::list(&backward));
    let gathered = check.sketch.node("Gather", &[("axis", Attr::Int(1))], &[rows, backward]);
    check.output(gathered, tensor(dtype, &[3, n], |i| x(i / n * n + n - 1 - i % n)));
    let pads = check.sketch.constant(case::list(&[0, 1, 0, 2]));
    let padded = check.sketch.node("Pad", &[], &[rows, pads]);
    let of = |i: usize| match i % (n + 3) {
        column if (1..=n).contains(&column) => x(i / (n + 3) * n + column - 1),
        _ => 0,
    };
    check.output(padded, tensor(dtype, &[3, n + 3], of));
    let (one, end) = (check.sketch.constant(case::list(&[1])), check.sketch.constant(case::list(&[3])));
    let lower = check.sketch.node("Slice", &[], &[rows, one, end]);
    check.output(lower, tensor(dtype, &[2, n], |i| x(i + n)));
    check
}

/// Single elements, which invocations store next to each other.
fn scattered(dtype: DType, n: usize) -> StoreCheck {
    let mut check = StoreCheck::default();
    let (x, y) = (mixed(1), mixed(2));
    let data = check.input(tensor(dtype, &[2 * n], mixed(1)));
    let updates = check.input(tensor(dtype, &[n], mixed(2)));
    let places: Vec<i64> = (0..n as i64).rev().map(|i| 2 * i + i % 2).collect();
    let places = check.sketch.constant(case::list(&places));
    let scattered = check.sketch.node("ScatterElements", &[], &[data, places, updates]);
    let written = |i: usize| i % 2 == i / 2 % 2;
    let of = |i: usize| if written(i) { y(n - 1 - i / 2) } else { x(i) };
    check.output(scattered, tensor(dtype, &[2 * n], of));
    check
}

#[test]
fn elements_keep_their_bits() {
    for dtype in DTYPES {
        for n in [1, 2, 3, 5, 31, 64, 257] {
            chosen(dtype, n).check(&format!("{n} of {dtype} chosen"));
            moved(dtype, n).check(&format!("{n} of {dtype} moved"));
            scattered(dtype, n).check(&format!("{n} of {dtype} scattered"));
        }
        moved(dtype, 0).check(&format!("none of {dtype}"));
    }
}

/// More elements than a grid has workgroups along one dimension, one by one and in vectors.
#[test]
fn elements_of_many_workgroups_keep_their_bits() {
    for dtype in [DType::U8, DType::Bool] {
        let n = 65_535 * 64 + 3;
        let mut check = StoreCheck::default();
        let x = mixed(1);
        let rows = check.input(tensor(dtype, &[2, n], mixed(1)));
        let turned = check.sketch.transpose(rows, &[1, 0]);
        check.output(turned, tensor(dtype, &[n, 2], |i| x(i % 2 * n + i / 2)));
        check.check(&format!("{n} pairs of {dtype}"));
    }
}

/// `[3, 5]` by `[5, width]` in 8 bits, whose results begin and end within words, alone and beside others in a concatenation.
#[test]
fn odd_quantised_products_are_exact() {
    for width in [1, 3, 4, 5, 7, 8, 13, 64, 131] {
        let mut check = StoreCheck::default();
        let (a, b) = (|i: usize| (i * 7 + 3) as i32 % 11, |i: usize| (i * 5 + 1) as i32 % 13 - 6);
        let x = check.input(tensor(DType::U8, &[3, 5], |i| a(i) as u32));
        let columns: Vec<i8> = (0..5 * width).map(|i| b(i) as i8).collect();
        let w = check.sketch.constant(case::values(&[5, width], &columns));
        let scale = check.sketch.scalar(1.0);
        let zero = check.sketch.constant(case::values(&[], &[0i8]));
        let unsigned_zero = check.sketch.constant(case::values(&[], &[0u8]));
        let middle = check.sketch.constant(case::values(&[], &[100u8]));
        let inputs = [x, scale, unsigned_zero, w, scale, zero, scale, middle];
        let product = check.sketch.node("QLinearMatMul", &[], &inputs);
        let sum = |i: usize| -> i32 { (0..5).map(|k| a(i / width * 5 + k) * b(k * width + i % width)).sum() };
        let expected = |i: usize| (sum(i) + 100).clamp(0, 255) as u32;
        check.output(product, tensor(DType::U8, &[3, width], expected));
        let beside = check.sketch.node("Concat", &[("axis", Attr::Int(1))], &[x, product, x]);
        let row = width + 10;
        let of = |i: usize| match (i / row, i % row) {
            (r, c) if c < 5 => a(r * 5 + c) as u32,
            (r, c) if c < width + 5 => expected(r * width + c - 5),
            (r, c) => a(r * 5 + c - width - 5) as u32,
        };
        check.output(beside, tensor(DType::U8, &[3, row], of));
        let below = check.sketch.node("Concat", &[("axis", Attr::Int(0))], &[product, product]);
        let doubled = check.sketch.node("BitwiseNot", &[], &[below]);
        check.output(doubled, tensor(DType::U8, &[6, width], |i| !expected(i % (3 * width))));
        check.check(&format!("width {width}"));
    }
}

/// Bytes that are no bools enter as bools do.
#[test]
fn bools_are_0_or_1() {
    let mut check = StoreCheck::default();
    let bytes: Vec<u8> = (0..13).map(|i| i * 20).collect();
    let x = check.input(Tensor::from_raw(DType::Bool, &[13], bytes).unwrap());
    let cast = check.sketch.node("Cast", &[("to", Attr::Int(2))], &[x]);
    let known = check.sketch.node("Identity", &[], &[x]);
    let of = |i: usize| u32::from(i > 0);
    check.output(cast, tensor(DType::U8, &[13], of));
    check.output(known, tensor(DType::Bool, &[13], of));
    check.check("bools");
}
