//! Floats bit by bit: chains of arithmetic in one kernel are compared with the same arithmetic node by node, and the errors of
//! functions are measured over all of float32.

use std::sync::{Arc, LazyLock};

use crate::graph::ValueId;
use crate::internals::devices;
use crate::internals::random::Sketch;
use crate::kernels::Class;
use crate::ops::case::{self, splitmix};
use crate::ops::{Attr, Graph};
use crate::small::{Format, SMALL_FLOATS};
use crate::{DType, Device, Session, SessionOptions, Tensor, reference};

pub(super) static DEVICES: LazyLock<Vec<Device>> = LazyLock::new(devices::each);

fn run(device: &Device, graph: &Graph, inputs: &[(&str, &Tensor)]) -> Vec<Vec<f32>> {
    let session =
        Session::of_graph(device, Arc::new(graph.clone()), SessionOptions::default(), vec![]).unwrap();
    session.run(inputs).unwrap().iter().map(|(_, tensor)| tensor.to_vec().unwrap()).collect()
}

/// A value of a chain: what the host computed for each row, and whether the device may differ there, because an operand was
/// subnormal (devices may take it for 0) or because the operation may choose between zeros.
#[derive(Clone)]
struct Column {
    id: ValueId,
    values: Vec<f32>,
    open: Vec<bool>,
}

const ROWS: usize = 64;
const WIDTH: usize = 4;

struct Chain {
    sketch: Sketch,
    columns: Vec<Column>,
    text: String,
    state: u64,
}

impl Chain {
    fn below(&mut self, limit: usize) -> usize {
        (splitmix(&mut self.state) % limit as u64) as usize
    }

    /// Numbers that make rounding, overflow and cancellation visible.
    fn numbers(&mut self, count: usize) -> Vec<f32> {
        let special =
            [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 3e38, -3e38, 1e-30, 1e8, 0.1];
        let mut number = || match self.below(4) {
            0 => special[self.below(special.len())],
            1 => f32::from_bits(self.below(1 << 31) as u32 & 0x3fff_ffff | (self.below(2) as u32) << 31),
            _ => (self.below(2_000_001) as f32 - 1e6) / 3.3e5,
        };
        (0..count).map(|_| number()).collect()
    }

    fn pick(&mut self) -> Column {
        // Mostly columns that were made recently.
        let back = self.below(self.columns.len().min(5));
        self.columns[self.columns.len() - 1 - back].clone()
    }

    fn scalar(&mut self) -> Column {
        let constants = [0.0, 0.5, 1.0, 2.0, 3.0, 6.0, -1.0, 0.1, 12_582_912.0, 1e-8, 3e38, -0.0, 1e30];
        let value = constants[self.below(constants.len())];
        self.text += &format!("  {value:?}\n");
        Column { id: self.sketch.scalar(value), values: vec![value; ROWS], open: vec![false; ROWS] }
    }

    fn add(&mut self, id: ValueId, operands: &[&Column], f: impl Fn(&[f32]) -> f32, zeros: bool) {
        let at = |row: usize| operands.iter().map(|column| column.values[row]).collect::<Vec<_>>();
        let values: Vec<f32> = (0..ROWS).map(|row| f(&at(row))).collect();
        let open = (0..ROWS).map(|row| {
            let both = zeros && at(row).iter().all(|&x| x == 0.0);
            both || values[row].is_subnormal() || operands.iter().any(|column| column.open[row])
        });
        let open = open.collect();
        self.columns.push(Column { id, values, open });
    }

    /// WGSL allows an error of 2.5 units, and `divide` rounds only some quotients.
    fn allow_inexact_quotients(&mut self, a: &Column, b: &Column) {
        let Some(quotients) = self.columns.last_mut() else { return };
        for row in 0..ROWS {
            let all = [a.values[row], b.values[row], quotients.values[row]];
            let rounded = all.iter().all(|x| (2f32.powi(-59)..2f32.powi(59)).contains(&x.abs()));
            let plain = all.iter().all(|x| x.is_finite() && *x != 0.0);
            quotients.open[row] |= plain && !rounded;
        }
    }

    fn step(&mut self) {
        let (a, b) = (self.pick(), if self.below(3) == 0 { self.scalar() } else { self.pick() });
        type Two = fn(f32, f32) -> f32;
        let twos: [(&str, Two); 8] = [
            ("Add", |a, b| a + b),
            ("Sub", |a, b| a - b),
            ("Mul", |a, b| a * b),
            ("Add", |a, b| a + b),
            ("Sub", |a, b| a - b),
            ("Div", |a, b| a / b),
            ("Max", |a, b| if a.is_nan() || a > b { a } else { b }),
            ("Min", |a, b| if a.is_nan() || a < b { a } else { b }),
        ];
        type One = fn(f32) -> f32;
        let ones: [(&str, One); 7] = [
            ("Neg", |x| -x),
            ("Abs", f32::abs),
            ("Sqrt", f32::sqrt),
            ("Reciprocal", |x| 1.0 / x),
            ("Relu", |x| if x < 0.0 { 0.0 } else { x }),
            ("Floor", f32::floor),
            ("Identity", |x| x),
        ];
        match self.below(12) {
            0..8 => {
                let (op, f) = twos[self.below(twos.len())];
                let (a, b) = if self.below(2) == 0 { (&a, &b) } else { (&b, &a) };
                let id = self.sketch.node(op, &[], &[a.id, b.id]);
                self.text += &format!("{id:?} = {op} {:?} {:?}\n", a.id, b.id);
                self.add(id, &[a, b], |x| f(x[0], x[1]), matches!(op, "Max" | "Min"));
                if op == "Div" {
                    self.allow_inexact_quotients(a, b);
                }
            }
            8..10 => {
                let (op, f) = ones[self.below(ones.len())];
                let id = self.sketch.node(op, &[], &[a.id]);
                self.text += &format!("{id:?} = {op} {:?}\n", a.id);
                self.add(id, &[&a], |x| f(x[0]), false);
            }
            10 => {
                let condition = self.sketch.node("Less", &[], &[a.id, b.id]);
                let id = self.sketch.node("Cast", &[("to", Attr::Int(1))], &[condition]);
                self.text += &format!("{id:?} = {:?} < {:?}\n", a.id, b.id);
                self.add(id, &[&a, &b], |x| if x[0] < x[1] { 1.0 } else { 0.0 }, false);
            }
            _ => {
                let c = self.pick();
                let condition = self.sketch.node("LessOrEqual", &[], &[a.id, b.id]);
                let id = self.sketch.node("Where", &[], &[condition, c.id, a.id]);
                self.text += &format!("{id:?} = {:?} if {:?} <= {:?} else {:?}\n", c.id, a.id, b.id, a.id);
                self.add(id, &[&a, &b, &c], |x| if x[0] <= x[1] { x[2] } else { x[0] }, false);
            }
        }
    }
}

/// Compares the chain of `seed` on all devices.
fn check_chain(seed: u64) -> Result<(), String> {
    let mut chain = Chain { sketch: Sketch::default(), columns: vec![], text: String::new(), state: seed };
    let greatest =
        |row: &[f32]| row.iter().copied().reduce(|a, b| if a.is_nan() || a > b { a } else { b }).unwrap();
    let axis = chain.sketch.constant(case::list(&[1]));
    let mut inputs = Vec::new();
    for name in ["x", "y", "z"] {
        let (id, values) = (chain.sketch.input(name), chain.numbers(ROWS));
        let open = values.iter().map(|x| x.is_subnormal()).collect();
        inputs.push((name, case::values(&[ROWS, 1], &values)));
        chain.columns.push(Column { id, values, open });
    }
    // After a reduction, before a reduction, or in a kernel of its own.
    let form = seed % 3;
    if form == 1 {
        let (id, values) = (chain.sketch.input("rows"), chain.numbers(ROWS * WIDTH));
        inputs.push(("rows", case::values(&[ROWS, WIDTH], &values)));
        let rows = values.chunks(WIDTH);
        let open = rows.clone().map(|row| row.iter().any(|x| x.is_subnormal() || *x == 0.0)).collect();
        let id = chain.sketch.node("ReduceMax", &[], &[id, axis]);
        chain.columns.push(Column { id, values: rows.map(greatest).collect(), open });
    }
    let steps = 3 + chain.below(10);
    (0..steps).for_each(|_| chain.step());
    let mut last = chain.columns[chain.columns.len() - 1].clone();
    if form == 2 {
        last.id = chain.sketch.node("ReduceMax", &[], &[last.id, axis]);
    }
    chain.sketch.graph.outputs.push(last.id);
    let inputs: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor)).collect();
    for device in DEVICES.iter() {
        let actual = &run(device, &chain.sketch.graph, &inputs)[0];
        for row in (0..ROWS).filter(|&row| !last.open[row]) {
            let (expected, actual) = (last.values[row], actual[row]);
            if expected.to_bits() != actual.to_bits() && !(expected.is_nan() && actual.is_nan()) {
                let of: Vec<_> = chain.columns.iter().map(|c| (c.id, c.values[row])).collect();
                let (name, text) = (device.name(), &chain.text);
                return Err(format!("seed {seed} on {name}: {actual:?}, not {expected:?}\n{text}{of:?}"));
            }
        }
    }
    Ok(())
}

/// `SARDONYX_CHAINS=2000` tries 2,000 chains, `SARDONYX_CHAIN=17` only chain 17.
#[test]
fn fused_arithmetic_is_that_of_single_nodes() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds =
        number("SARDONYX_CHAIN").map_or(0..number("SARDONYX_CHAINS").unwrap_or(150), |seed| seed..seed + 1);
    let total = seeds.end - seeds.start;
    let failures: Vec<String> = seeds.filter_map(|seed| check_chain(seed).err()).collect();
    assert!(
        failures.is_empty(),
        "{} of {total}:\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
}

/// Numbers from all over float32, and densely where functions bend.
fn sweep() -> Vec<f32> {
    let all = (0..u32::MAX).step_by(20_011).map(f32::from_bits);
    let line = |limit: f32, count: i32| (-count..=count).map(move |i| i as f32 / count as f32 * limit);
    let edges =
        [0.0, -0.0, 1.0, -1.0, 88.722_83, 88.722_84, 89.4, -87.3, -103.9, 8_388_608.0, f32::MAX, f32::MIN];
    let infinite = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let lines = [(20.0, 40_000), (110.0, 40_000), (1.2, 40_000), (1e6, 10_000)].map(|(l, n)| line(l, n));
    all.chain(lines.into_iter().flatten()).chain(edges).chain(infinite).collect()
}

/// The error of a result in units in the last place of float32; infinite if only one of the two is infinite or NaN.
fn units(expected: f64, actual: f32) -> f64 {
    let rounded = expected as f32;
    let beyond = |x: f32, y: f32| x.is_infinite() && y.abs() > 3.4e38 && x.signum() == y.signum();
    if rounded.is_nan() && actual.is_nan() || beyond(rounded, actual) || beyond(actual, rounded) {
        return 0.0;
    }
    if !(rounded.is_finite() && actual.is_finite()) {
        return f64::INFINITY;
    }
    let exponent = rounded.abs().max(f32::MIN_POSITIVE).to_bits() >> 23;
    (expected - f64::from(actual)).abs() / 2f64.powi(exponent as i32 - 150)
}

/// (operator, greatest error in units where the driver divides exactly). It is the rounding of our own functions' steps.
const FUNCTIONS: &[(&str, f64)] = &[
    ("Exp", 1.5),
    ("Log", 1.0),
    ("Sigmoid", 2.0),
    ("Tanh", 1.5),
    ("Erf", 1.5),
    ("Softplus", 3.5),
    ("Sinh", 3.0),
    ("Cosh", 2.0),
    ("Sin", 4.0),
    ("Cos", 4.0),
    ("Tan", 7.0),
    ("Asin", 4.0),
    ("Acos", 4.0),
    ("Atan", 4.0),
    ("Asinh", 6.0),
    ("Acosh", 6.0),
    ("Atanh", 6.0),
    ("Reciprocal", 0.501),
    ("Sqrt", 0.501),
    ("Round", 0.0),
    ("Floor", 0.0),
    ("Ceil", 0.0),
];

/// What WGSL allows other drivers: division 2.5 units, and a square root the sum of that and the error of the inverse square root.
const INEXACT: f64 = 4.5;

/// Subnormal numbers may be 0, as operands and as results.
fn is_tiny(x: f32) -> bool {
    x != 0.0 && x.abs() < 2.0 * f32::MIN_POSITIVE
}

/// What the reference computes in float64.
fn exact(op: &str, values: &[f32]) -> Vec<f64> {
    let mut sketch = Sketch::default();
    let id = sketch.input("x");
    sketch.graph.values[id.index()].dtype = Some(DType::F64);
    let result = sketch.node(op, &[], &[id]);
    sketch.graph.outputs.push(result);
    let x = case::values(&[values.len()], &values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    let computed = reference::run(&sketch.graph, &[x], false, &crate::Interrupt::new()).unwrap();
    reference::outputs(&sketch.graph, &computed).unwrap()[0].to_vec().unwrap()
}

#[test]
fn functions_over_all_floats() {
    let values = sweep();
    let x = case::values(&[values.len()], &values);
    let mut failures = Vec::new();
    for &(op, bound) in FUNCTIONS {
        let mut sketch = Sketch::default();
        let id = sketch.input("x");
        let result = sketch.node(op, &[], &[id]);
        sketch.graph.outputs.push(result);
        let expected = exact(op, &values);
        for device in DEVICES.iter() {
            let actual = &run(device, &sketch.graph, &[("x", &x)])[0];
            let counted = (0..values.len()).filter(|&i| !is_tiny(values[i]) && !is_tiny(expected[i] as f32));
            let errors = counted.map(|i| (units(expected[i], actual[i]), i));
            let (worst, at) = errors.fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a });
            println!("{op} on {}: {worst:.2} units at {:?}", device.name(), values[at]);
            let software = device.gpu().is_some_and(|gpu| gpu.target.class == Class::Cpu);
            if worst > if software || bound == 0.0 { bound } else { bound + INEXACT } {
                failures.push(format!(
                    "{op} on {}: {worst} units at {:?}: {:?}, not {:?}",
                    device.name(),
                    values[at],
                    actual[at],
                    expected[at]
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Pairs of numbers of every size, and of all edges.
fn pairs(mut number: impl FnMut(&mut u64, bool) -> f32) -> [Vec<f32>; 2] {
    let inf = f32::INFINITY;
    let edges = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.0,
        -3.0,
        inf,
        -inf,
        f32::NAN,
        f32::MIN_POSITIVE,
        f32::MAX,
        16_777_217.0,
    ];
    let mut state = 5;
    let mut pairs: Vec<[f32; 2]> = edges.iter().flat_map(|&a| edges.map(|b| [a, b])).collect();
    pairs.extend((0..20_000).map(|_| [number(&mut state, true), number(&mut state, false)]));
    [0, 1].map(|i| pairs.iter().map(|pair| pair[i]).collect())
}

fn two(op: &str, attributes: &[(&str, Attr)], [a, b]: &[Vec<f32>; 2]) -> Vec<(String, Vec<f32>)> {
    let mut sketch = Sketch::default();
    let (x, y) = (sketch.input("x"), sketch.input("y"));
    let result = sketch.node(op, attributes, &[x, y]);
    sketch.graph.outputs.push(result);
    let (a, b) = (case::values(&[a.len()], a), case::values(&[b.len()], b));
    let of = |device: &Device| run(device, &sketch.graph, &[("x", &a), ("y", &b)]).remove(0);
    DEVICES.iter().map(|device| (device.name().to_string(), of(device))).collect()
}

#[test]
fn remainders_are_exact() {
    let any = |state: &mut u64, _| f32::from_bits(splitmix(state) as u32);
    let near = |state: &mut u64, first: bool| {
        let spread = (splitmix(state) % 1_000_003) as f32;
        if first { spread * 1e3 } else { 0.5 + spread * 1e-5 }
    };
    for pairs in [pairs(any), pairs(near)] {
        for fmod in [1, 0] {
            let of = |a: f32, b: f32| {
                let r = a % b;
                match fmod {
                    // C's fmod, and ONNX's Mod with it.
                    1 => r,
                    // ONNX: zero has the sign of the divisor.
                    _ if r == 0.0 => 0f32.copysign(b),
                    _ if (r < 0.0) != (b < 0.0) => r + b,
                    _ => r,
                }
            };
            for (device, actual) in two("Mod", &[("fmod", Attr::Int(fmod))], &pairs) {
                for (i, &actual) in actual.iter().enumerate() {
                    let (a, b) = (pairs[0][i], pairs[1][i]);
                    let expected = of(a, b);
                    // Devices may flush the sum of a remainder and the divisor to zero, or compute it from a remainder that
                    // they flushed.
                    let flushed = fmod == 0 && (is_tiny(a % b) || is_tiny(expected) || is_tiny(b));
                    let same =
                        expected.to_bits() == actual.to_bits() || (expected.is_nan() && actual.is_nan());
                    assert!(
                        same || flushed,
                        "{a:?} mod {b:?}, fmod {fmod}, on {device}: {actual:?}, not {expected:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn powers_are_those_of_c() {
    let number = |state: &mut u64, first: bool| {
        let unit = (splitmix(state) >> 40) as f32 / 16_777_216.0;
        match (first, splitmix(state) % 3) {
            (true, 0) => 0.9 + 0.2 * unit,
            (true, 1) => (240.0 * unit - 120.0).exp2(),
            (true, _) => 20.0 * unit - 3.0,
            (false, 0) => 600.0 * unit - 300.0,
            (false, 1) => (12.0 * unit - 6.0).round(),
            (false, _) => 6.0 * unit - 3.0,
        }
    };
    let pairs = pairs(number);
    for (device, actual) in two("Pow", &[], &pairs) {
        for (i, &actual) in actual.iter().enumerate() {
            let (a, b) = (pairs[0][i], pairs[1][i]);
            let expected = f64::from(a).powf(f64::from(b));
            // The exponent of the result is a sum of two floats, and the result a polynomial of it: 2 units of error.
            let close =
                is_tiny(a) || is_tiny(b) || is_tiny(expected as f32) || units(expected, actual) <= 4.0;
            assert!(close, "{a:?} ** {b:?} on {device}: {actual:?}, not {expected:?}");
        }
    }
}

#[test]
fn whole_numbers_to_a_fraction_are_truncated() {
    let mut state = 3;
    let mut pairs: Vec<(i32, f32)> =
        vec![(3, 0.5), (10, 0.5), (2, 1.9), (5, 1.5), (7, 0.9), (100, 0.75), (3, 2.0), (2, 10.0)];
    pairs.extend([
        (0, 0.5),
        (1, -0.5),
        (-3, 3.0),
        (-3, 2.0),
        (2, -1.0),
        (-1, -3.0),
        (8, 1.0 / 3.0),
        (16_777_217, 1.0),
    ]);
    // Squares, and squares minus 1.
    pairs.extend((1..2000).flat_map(|n| [(n * n, 0.5), (n * n - 1, 0.5)]));
    pairs.extend(
        (0..4000)
            .map(|_| ((splitmix(&mut state) % 300) as i32, (splitmix(&mut state) % 1000) as f32 / 500.0)),
    );
    let mut sketch = Sketch::default();
    let (x, y) = (sketch.input("x"), sketch.input("y"));
    sketch.graph.values[x.index()].dtype = Some(DType::I32);
    let result = sketch.node("Pow", &[], &[x, y]);
    sketch.graph.outputs.push(result);
    let a = case::values(&[pairs.len()], &pairs.iter().map(|pair| pair.0).collect::<Vec<_>>());
    let b = case::values(&[pairs.len()], &pairs.iter().map(|pair| pair.1).collect::<Vec<_>>());
    let expected: Vec<i32> = pairs.iter().map(|&(a, b)| f64::from(a).powf(f64::from(b)) as i32).collect();
    let computed =
        reference::run(&sketch.graph, &[a.clone(), b.clone()], false, &crate::Interrupt::new()).unwrap();
    assert_eq!(reference::outputs(&sketch.graph, &computed).unwrap()[0].to_vec::<i32>().unwrap(), expected);
    for device in DEVICES.iter() {
        let graph = Arc::new(sketch.graph.clone());
        let session = Session::of_graph(device, graph, SessionOptions::default(), vec![]).unwrap();
        let actual: Vec<i32> = session.run(&[("x", &a), ("y", &b)]).unwrap()[0].to_vec().unwrap();
        for i in 0..pairs.len() {
            assert_eq!(actual[i], expected[i], "{:?} on {}", pairs[i], device.name());
        }
    }
}

/// A cast to a narrow type and back within one kernel: no store rounds in between.
#[test]
fn casts_round_within_a_kernel() {
    let mut state = 11;
    let number =
        |i: u64| (splitmix(&mut state) as u32 as f32 / 2f32.powi(31) - 1.0) * 2f32.powi((i % 48) as i32 - 30);
    let mut values: Vec<f32> = (0..20_000).map(number).collect();
    values.extend((0..u32::MAX).step_by(100_003).map(f32::from_bits));
    let x = case::values(&[values.len()], &values);
    let types = [DType::F16, DType::BF16].into_iter().chain(SMALL_FLOATS);
    for to in types {
        let mut sketch = Sketch::default();
        let id = sketch.input("x");
        let small = sketch.node("Cast", &[("to", Attr::Int(to.onnx().into()))], &[id]);
        let back = sketch.node("Cast", &[("to", Attr::Int(1))], &[small]);
        sketch.graph.outputs.push(back);
        let rounded = |x: f32| match to {
            DType::F16 => half::f16::from_f32(x).to_f32(),
            DType::BF16 => half::bf16::from_f32(x).to_f32(),
            _ => {
                let format = Format::of(to).unwrap();
                format.round(f64::from(x).clamp(-format.most, format.most)) as f32
            }
        };
        for device in DEVICES.iter() {
            let actual = &run(device, &sketch.graph, &[("x", &x)])[0];
            for (&x, &actual) in values.iter().zip(actual) {
                let expected = rounded(x);
                let same = expected.to_bits() == actual.to_bits() || (expected.is_nan() && actual.is_nan());
                // bfloat16 has the subnormal numbers of float32.
                assert!(
                    same || is_tiny(expected),
                    "{x:?} to {to} on {}: {actual:?}, not {expected:?}",
                    device.name()
                );
            }
        }
    }
    // From ml_dtypes 0.5.
    let known = [
        (DType::F8E4M3FN, 0.010_700_13, 0.009_765_625),
        (DType::F8E5M2, 5.692_861_1e-6, 0.0),
        (DType::F8E4M3FNUZ, 0.002_656_52, 0.002_929_687_5),
        (DType::F8E5M2FNUZ, 1.622_237_3e-5, 1.525_878_906_25e-5),
        (DType::F6E2M3, 0.1, 0.125),
        (DType::F6E3M2, 0.1, 0.125),
        (DType::F4E2M1, 0.75, 1.0),
    ];
    for (to, x, expected) in known {
        assert_eq!(Format::of(to).unwrap().round(x), expected, "{x} to {to}");
    }
}
