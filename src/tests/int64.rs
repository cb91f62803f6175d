//! Integers of 64 bits: computed in 64 where 32 are not enough.

use super::segments::int_constant;
use crate::internals::cases::{all_cases, compared_with};
use crate::internals::devices::each;
use crate::onnx::builder::*;
use crate::ops::case::{self, Case, Tolerance};
use crate::{DType, Device, DeviceTensor, Error, IntegerBits, Model, Session, SessionOptions, Tensor};

/// The longest tensors of the cases that are run: most cases are small.
const LONGEST: usize = 5000;

fn options(bits: IntegerBits) -> SessionOptions {
    SessionOptions::new().integers(bits)
}

/// The case with large integers for small ones and for float32; `None` where it has none, or long tensors.
fn enlarged(case: &Case) -> Option<Case> {
    let given = || case.inputs.iter().flatten();
    let is_number = |tensor: &Tensor| tensor.dtype() == DType::F32;
    if !given().any(is_number) || given().any(|tensor| tensor.len() > LONGEST) {
        return None;
    }
    // Sums of a few stay below 2^63, and products wrap.
    let large = |tensor: &Tensor| {
        let numbers: Vec<f32> = tensor.to_vec().ok()?;
        let large = |(i, x): (usize, f32)| ((f64::from(x) * 4e9) as i64).wrapping_add(i as i64);
        Some(case::values(tensor.shape(), &numbers.into_iter().enumerate().map(large).collect::<Vec<_>>()))
    };
    // Operators of ai.onnx.ml compute with float32.
    let tolerance = if case.domain == "ai.onnx.ml" { case.tolerance } else { Tolerance::EXACT };
    let mut enlarged = Case { tolerance, ..case.clone() };
    for tensor in enlarged.inputs.iter_mut().flatten().filter(|tensor| is_number(tensor)) {
        *tensor = large(tensor)?;
    }
    Some(enlarged)
}

/// The cases that the reference computes.
fn cases(of: impl Fn(&Case) -> Option<Case>) -> Vec<Case> {
    let reference = Device::reference();
    let computed = |case: &Case| compared_with(SessionOptions::new(), case, &reference).is_ok();
    all_cases().iter().filter_map(of).filter(computed).collect()
}

/// What became of cases: the numbers of those that are right, and the others.
fn outcomes(cases: &[Case], bits: IntegerBits, device: &Device) -> (usize, Vec<String>, Vec<String>) {
    let (mut right, mut refused, mut wrong) = (0, Vec::new(), Vec::new());
    for case in cases {
        match compared_with(options(bits), case, device) {
            Ok(None) => right += 1,
            Err(error @ (Error::Unsupported(_) | Error::TooWide { .. })) => {
                refused.push(format!("{}: {error}", case.name));
            }
            other => wrong.push(format!("{}: {other:?}", case.name)),
        }
    }
    (right, refused, wrong)
}

#[test]
fn every_case_in_64_bits() {
    let cases = cases(|case| {
        Some(case.clone()).filter(|case| case.inputs.iter().flatten().all(|tensor| tensor.len() <= LONGEST))
    });
    for device in each().iter() {
        let (right, refused, wrong) = outcomes(&cases, IntegerBits::Always64, device);
        assert!(wrong.is_empty() && refused.is_empty(), "on {}: {wrong:#?}, {refused:#?}", device.name());
        assert!(right > 2500, "{right} right on {}", device.name());
    }
}

#[test]
fn every_case_of_large_integers() {
    let cases = cases(enlarged);
    for device in each() {
        let (right, refused, wrong) = outcomes(&cases, IntegerBits::Enough, &device);
        assert!(wrong.is_empty(), "on {}: {wrong:#?}", device.name());
        assert!(right > 750, "{right} right on {}, refused {refused:#?}", device.name());
    }
}

/// `y = (x - start) * x`, over any number of elements.
fn product_of_times() -> Model {
    let nodes = vec![node("Sub", &["x", "start"], &["d"]), node("Mul", &["d", "x"], &["y"])];
    let mut graph = graph(&[], nodes, &[]);
    (graph.input, graph.output) = (vec![value("x", INT64, &["n"])], vec![value("y", INT64, &["n"])]);
    graph.initializer = vec![int_constant("start", &[], &[1_000])];
    Model::from_bytes(bytes(&model(21, graph))).unwrap()
}

fn longs(values: &[i64]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

fn expected(x: &[i64]) -> Vec<i64> {
    x.iter().map(|x| x.wrapping_sub(1_000).wrapping_mul(*x)).collect()
}

/// Inputs and results that fit, inputs that do not, results that do not, and again some that fit.
const SERIES: [&[i64]; 6] =
    [&[1, 2], &[1_760_000_000_123], &[50_000, -50_000, 7], &[], &[1, 2], &[i64::MAX, i64::MIN, 3, 1 << 40]];

#[test]
fn a_session_takes_the_bits_that_its_values_need() {
    let model = product_of_times();
    for device in each() {
        let session = Session::new(&device, &model, SessionOptions::new()).unwrap();
        let narrow = session.run(&[("x", &longs(&[1, 2]))]).unwrap();
        assert_eq!(narrow["y"], longs(&expected(&[1, 2])));
        for x in SERIES {
            let outputs = session.run(&[("x", &longs(x))]).unwrap();
            assert_eq!(outputs["y"], longs(&expected(x)), "{x:?} on {}", device.name());
        }
        let memory = session.memory();
        assert!(memory.arena > 0 && memory.plans > 0, "{memory:?}");
        session.trim();
        assert_eq!(session.memory().arena, 0);
    }
}

#[test]
fn who_asks_for_32_bits_gets_errors() {
    for device in each() {
        let session = Session::new(&device, &product_of_times(), options(IntegerBits::Only32)).unwrap();
        let told = |x: &[i64]| session.run(&[("x", &longs(x))]).unwrap_err().to_string();
        let input = told(&[1_760_000_000_123]);
        assert!(input.starts_with("input 'x': 1760000000123 does not fit the 32 bits"), "{input}");
        let result = told(&[50_000]);
        assert!(result.starts_with("node 'y' (Mul, opset 21, inputs"), "{result}");
        assert_eq!(session.run(&[("x", &longs(&[3]))]).unwrap()["y"], longs(&expected(&[3])));
    }
}

#[test]
fn who_asks_for_64_bits_gets_them() {
    for device in each() {
        let session = Session::new(&device, &product_of_times(), options(IntegerBits::Always64)).unwrap();
        for x in SERIES {
            assert_eq!(session.run(&[("x", &longs(x))]).unwrap()["y"], longs(&expected(x)));
        }
    }
}

/// Outputs on the device are inputs of the next run, whatever bits either run takes.
#[test]
fn tensors_on_the_device_keep_their_bits() {
    for device in each().iter() {
        let session = Session::new(device, &product_of_times(), SessionOptions::new()).unwrap();
        let mut x = DeviceTensor::new(device, &longs(&[3, 1_001])).unwrap();
        let mut on_host = vec![3i64, 1_001];
        for step in 0..5 {
            let outputs = session.run_to_device(&[("x", &x)]).unwrap();
            on_host = expected(&on_host);
            assert_eq!(outputs["y"].read().unwrap(), longs(&on_host), "step {step}");
            x = outputs["y"].clone();
        }
        let other = Session::new(device, &product_of_times(), SessionOptions::new()).unwrap();
        assert_eq!(other.run(&[("x", &x)]).unwrap()["y"], longs(&expected(&on_host)));
        let large = DeviceTensor::new(device, &longs(&[1 << 40])).unwrap();
        assert_eq!(large.read().unwrap(), longs(&[1 << 40]));
        let waited = pollster::block_on(other.run_async(&[("x", &longs(&[1 << 40]))])).unwrap();
        assert_eq!(waited["y"], longs(&expected(&[1 << 40])));
        let fresh = Session::new(device, &product_of_times(), SessionOptions::new()).unwrap();
        let waited = pollster::block_on(fresh.run_async(&[("x", &longs(&[1 << 40]))])).unwrap();
        assert_eq!(waited["y"], longs(&expected(&[1 << 40])));
    }
}

/// A loop carries a number that outgrows 32 bits, and lists it; the host then reads how many are greater than a limit.
#[test]
fn loops_carry_64_bits() {
    let body = vec![
        node("Mul", &["total", "three"], &["next"]),
        node("Identity", &["go"], &["again"]),
        node("Add", &["next", "i"], &["listed"]),
    ];
    let mut inner = graph(&[], body, &[]);
    inner.input = vec![value("i", INT64, &[]), value("go", 9, &[]), value("total", INT64, &["n"])];
    inner.output = vec![value("again", 9, &[]), value("next", INT64, &["n"]), value("listed", INT64, &["n"])];
    let nodes = vec![
        node("Loop", &["count", "", "x"], &["end", "list"]).with(subgraph("body", inner)),
        node("Greater", &["list", "limit"], &["large"]),
        node("NonZero", &["large"], &["places"]),
    ];
    let mut outer = graph(&[], nodes, &[]);
    outer.input = vec![value("count", INT64, &[]), value("x", INT64, &["n"])];
    outer.output = vec![
        value("end", INT64, &["n"]),
        value("list", INT64, &["k", "n"]),
        value("places", INT64, &["2", "p"]),
    ];
    outer.initializer = vec![int_constant("three", &[], &[3]), int_constant("limit", &[], &[10_000_000_000])];
    let model = Model::from_bytes(bytes(&model(21, outer))).unwrap();
    for device in each().iter() {
        let session = Session::new(device, &model, SessionOptions::new()).unwrap();
        for (count, x) in [(3usize, vec![1i64, 2]), (25, vec![1, -5, 40]), (0, vec![1 << 40]), (4, vec![7])] {
            let given = [("count", &Tensor::from_slice(&[], &[count as i64]).unwrap()), ("x", &longs(&x))];
            let outputs = session.run(&given).unwrap();
            let power = |k: usize| x.iter().map(move |x| x * 3i64.pow(k as u32));
            assert_eq!(outputs["end"], longs(&power(count).collect::<Vec<_>>()));
            let list: Vec<i64> =
                (0..count).flat_map(|k| power(k + 1).map(move |total| total + k as i64)).collect();
            assert_eq!(outputs["list"].to_vec::<i64>().unwrap(), list);
            let large: Vec<usize> = (0..list.len()).filter(|&i| list[i] > 10_000_000_000).collect();
            let places = large.iter().map(|i| i / x.len()).chain(large.iter().map(|i| i % x.len()));
            let places: Vec<i64> = places.map(|at| at as i64).collect();
            assert_eq!(outputs["places"].to_vec::<i64>().unwrap(), places);
        }
    }
}

/// Every pair of casts, at the edges of both types.
#[test]
fn casts_keep_64_bits() {
    use DType::*;
    let edges: [i64; 11] =
        [0, 1, -1, 127, -129, 65_536, 1 << 24, (1 << 31) - 1, -(1 << 31) - 1, 1 << 53, i64::MIN];
    for device in each().iter() {
        let double = device.gpu().filter(|gpu| gpu.target.computes_f64).map(|_| F64);
        for to in [I64, U64, I32, U32, I16, U16, I8, U8, Bool, F32].into_iter().chain(double) {
            for from in [I64, U64, I32, U32, I8, U8, Bool] {
                let x = case::converted(&longs(&edges), from);
                let case = Case::new("Cast", "edge").tolerance(Tolerance::EXACT).input(x);
                let case = case.int("to", to.onnx().into());
                let outcome = compared_with(options(IntegerBits::Always64), &case, device);
                assert!(matches!(outcome, Ok(None)), "{from} to {to}: {outcome:?}");
            }
        }
    }
}

/// An integer that is divided by 0 is an error, whatever its type, alone and in a fused kernel, at every size.
#[test]
fn integer_division_by_zero_is_reported() {
    for op in ["Div", "Mod"] {
        let nodes =
            vec![node("Abs", &["a"], &["p"]), node(op, &["p", "b"], &["q"]), node("Neg", &["q"], &["y"])];
        for dtype in [DType::I8, DType::I16, DType::I32, DType::I64] {
            let code = dtype.onnx();
            let mut graph = graph(&[], nodes.clone(), &[]);
            graph.input = vec![value("a", code, &["n"]), value("b", code, &["n"])];
            graph.output = vec![value("y", code, &["n"])];
            let model = Model::from_bytes(bytes(&model(21, graph))).unwrap();
            for device in each().into_iter().chain([Device::reference()]) {
                for bits in [IntegerBits::Only32, IntegerBits::Always64] {
                    let session = Session::new(&device, &model, options(bits)).unwrap();
                    let numbers = |values: &[i64]| case::converted(&longs(values), dtype);
                    for (a, b) in [
                        (&[7, -9][..], &[2, 4][..]),
                        (&[1, 5, 9], &[1, 0, 3]),
                        (&[], &[]),
                        (&[3], &[0]),
                        (&[9], &[2]),
                    ] {
                        let outcome = session.run(&[("a", &numbers(a)), ("b", &numbers(b))]);
                        if b.contains(&0) {
                            let error = outcome.unwrap_err().to_string();
                            assert!(
                                error.contains(op) && error.ends_with("integer division by zero"),
                                "{error}"
                            );
                            continue;
                        }
                        let each =
                            |(a, b): (&i64, &i64)| -(if op == "Div" { a.abs() / b } else { a.abs() % b });
                        let expected: Vec<i64> = a.iter().zip(b).map(each).collect();
                        assert_eq!(
                            outcome.unwrap()["y"],
                            numbers(&expected),
                            "{op} of {dtype} on {}",
                            device.name()
                        );
                    }
                }
            }
        }
    }
}

/// A constant divisor needs no report, and no binding for it.
#[test]
fn a_constant_divisor_is_not_checked() {
    let nodes = vec![node("Div", &["x", "three"], &["y"])];
    let mut graph = graph(&[], nodes, &[]);
    (graph.input, graph.output) = (vec![value("x", 6, &["n"])], vec![value("y", 6, &["n"])]);
    graph.initializer = vec![int_constant("three", &[], &[3])];
    graph.initializer[0].data_type = 6;
    graph.initializer[0].int32_data = vec![3];
    graph.initializer[0].int64_data.clear();
    let model = Model::from_bytes(bytes(&model(21, graph))).unwrap();
    for device in each() {
        let session = Session::new(&device, &model, SessionOptions::new()).unwrap();
        let x = Tensor::from_slice(&[2], &[7i32, -8]).unwrap();
        assert_eq!(session.run(&[("x", &x)]).unwrap()["y"].to_vec::<i32>().unwrap(), [2, -2]);
        let program = session.explain(crate::Stage::Program, &[("x", &x)]).unwrap();
        assert!(!program.contains("fault"), "{program}");
    }
}

#[test]
fn bits_of_64_are_kept() {
    let edges = [0, 1, -1, i64::MIN, i64::MAX, 0x7ff0_0000_0000_0000, 0x7ff8_0000_0000_0001, 1 << 52];
    for device in each() {
        let double = device.gpu().filter(|gpu| gpu.target.computes_f64).map(|_| DType::F64);
        for to in [DType::U64, DType::I64].into_iter().chain(double) {
            let case = Case::new("BitCast", "edge").input(longs(&edges)).int("to", to.onnx().into());
            let there = compared_with(SessionOptions::new(), &case, &device);
            assert!(matches!(there, Ok(None)), "{to} on {}: {there:?}", device.name());
            let bits = Tensor::from_raw(to, &[edges.len()], longs(&edges).shared_bytes()).unwrap();
            let case = Case::new("BitCast", "edge").input(bits).int("to", DType::I64.onnx().into());
            let back = compared_with(SessionOptions::new(), &case, &device);
            assert!(matches!(back, Ok(None)), "{to} on {}: {back:?}", device.name());
        }
    }
}

/// A constant that does not fit 32 bits is known before a run: planning and preparing take enough bits too.
#[test]
fn plans_take_the_bits_that_constants_need() {
    let nodes = vec![node("Add", &["x", "large"], &["y"])];
    let mut graph = graph(&[], nodes, &[]);
    (graph.input, graph.output) = (vec![value("x", INT64, &["n"])], vec![value("y", INT64, &["n"])]);
    graph.initializer = vec![int_constant("large", &[2], &[1 << 40, -(1 << 50)])];
    let model = Model::from_bytes(bytes(&model(21, graph))).unwrap();
    let x = longs(&[3, -4]);
    for device in each() {
        let session = || Session::new(&device, &model, SessionOptions::new()).unwrap();
        assert_eq!(session().plan(&[("x", [2])]).unwrap().dispatches, 1);
        session().prepare(&[("x", [2])]).unwrap();
        pollster::block_on(session().prepare_async(&[("x", [2])])).unwrap();
        assert!(session().explain(crate::Stage::Wgsl, &[("x", &x)]).unwrap().contains("add_64"));
        assert!(session().why("y", &[("x", &x)]).is_ok());
        assert_eq!(session().run(&[("x", &x)]).unwrap()["y"], longs(&[3 + (1 << 40), -4 - (1 << 50)]));
        let report = crate::verify(&device, &model, &[("x", &x)], crate::Tolerances::default()).unwrap();
        assert!(report.divergence.is_none(), "{:?}", report.divergence);
    }
}
