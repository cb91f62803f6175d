//! float64: computed by the device where it has it, by the host where not, and refused where only the device may compute.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::internals::cases::{Sizes, all_cases, compared, on_device};
use crate::internals::devices::each;
use crate::internals::random::Sketch;
use crate::internals::{Kernels, with_kernels};
use crate::ops::case::{self, Case, Tolerance};
use crate::ops::{Attr, OWN_DOMAIN};
use crate::{DType, Device, Error, Session, SessionOptions, Tensor};

/// The longest tensors of the cases that are run: most cases are small.
const LONGEST: usize = 5000;

/// Cases with longer tensors, for which an operator takes several calls.
const LONG: &[&str] = &["Attention/many keys", "SoftmaxCrossEntropyLoss/large", "TopK/long"];

/// A float64 function is off by a few units in the last place.
const TOLERANCE: Tolerance = Tolerance { relative: 1e-12, absolute: 1e-12 };

fn is_single(tensor: &Tensor) -> bool {
    tensor.dtype() == DType::F32
}

/// The case with float64 for float32; `None` without such tensors, or with long ones that are not listed.
fn doubled(case: &Case) -> Option<Case> {
    let given = || case.inputs.iter().flatten();
    let is_long = given().any(|tensor| tensor.len() > LONGEST) && !LONG.contains(&case.name.as_str());
    if is_long || !given().any(is_single) {
        return None;
    }
    let double = |tensor: &Tensor| match is_single(tensor) {
        true => case::converted(tensor, DType::F64),
        false => tensor.clone(),
    };
    // Operators of ai.onnx.ml give float32, and some compute with it, as in ONNX Runtime.
    let tolerance = if case.domain == "ai.onnx.ml" { case.tolerance } else { TOLERANCE };
    let mut doubled = Case { tolerance, ..case.clone() };
    for tensor in doubled.inputs.iter_mut().flatten() {
        *tensor = double(tensor);
    }
    for (_, attribute) in &mut doubled.attributes {
        if let Attr::Tensor(tensor) = attribute {
            *tensor = double(tensor);
        }
    }
    Some(doubled)
}

/// The cases that the reference computes.
fn cases() -> Vec<Case> {
    let reference = Device::reference();
    let computed = |case: &Case| compared(case, &reference, Sizes::Fixed).is_ok();
    all_cases().iter().filter_map(doubled).filter(computed).collect()
}

/// The operators that a device with float64 refuses in some cases, and in how many.
const REFUSED: &[(&str, usize)] = &[
    ("AffineGrid", 6),
    ("BatchNormalization", 2),
    ("Col2Im", 7),
    ("DFT", 17),
    ("DeformConv", 10),
    ("Det", 6),
    ("Dropout", 2),
    ("GridSample", 81),
    ("LRN", 3),
    ("LabelEncoder", 1),
    ("MaxRoiPool", 2),
    ("OneHotEncoder", 1),
    ("RandomNormalLike", 1),
    ("RandomUniformLike", 1),
    ("Resize", 45),
    ("RoiAlign", 8),
    ("STFT", 6),
    ("Upsample", 3),
];

#[test]
fn every_case_in_float64() {
    let cases = cases();
    let both = |device: Device| {
        [Kernels::Portable, Kernels::Gpu].map(|kernels| with_kernels(device.clone(), kernels))
    };
    for device in each().into_iter().flat_map(both) {
        let (mut right, mut refused, mut wrong) = (0, BTreeMap::new(), Vec::new());
        for case in &cases {
            match compared(case, &device, Sizes::Fixed) {
                Ok(None) => right += 1,
                Err(Error::Unsupported(_)) => *refused.entry(case.op_type.as_str()).or_insert(0) += 1,
                other => wrong.push(format!("{}: {other:?}", case.name)),
            }
        }
        assert!(wrong.is_empty(), "on {}: {wrong:#?}", device.name());
        let computes = device.gpu().is_some_and(|gpu| gpu.target.computes_f64);
        if computes {
            let refused: Vec<(&str, usize)> = refused.into_iter().collect();
            assert!(right > 1500, "{right} right on {}", device.name());
            assert_eq!(refused, REFUSED, "on {}", device.name());
        } else {
            assert!(right < 100, "{right} right, {refused:?} refused on {}", device.name());
        }
    }
}

/// Numbers next to 1, the `i`th of which is the `places[i]`th from there.
fn close(places: &[usize]) -> Tensor {
    let numbers: Vec<f64> = places.iter().map(|&place| 1.0 + place as f64 * f64::EPSILON).collect();
    case::values(&[places.len()], &numbers)
}

/// Numbers next to 2^40, in the same order.
fn large(places: &[usize]) -> Tensor {
    case::list(&places.iter().map(|&place| (1 << 40) + place as i64).collect::<Vec<_>>())
}

/// Sorts and maxima of `numbers` at places, and their outputs. There are more numbers than a block sorts.
fn sorts(numbers: fn(&[usize]) -> Tensor) -> [(Case, Vec<Tensor>); 3] {
    let count = 150;
    let places: Vec<usize> = (0..count).map(|i| i * 67 % count).collect();
    let sorted: Vec<usize> = (0..count).collect();
    let mut order = sorted.clone();
    order.sort_by_key(|&i| places[i]);

    let least = Case::new("TopK", "least").int("largest", 0).outputs(2).input(numbers(&places));
    let least = least.constant(case::list(&[count as i64]));
    let least_places = case::list(&order.iter().map(|&i| i as i64).collect::<Vec<_>>());
    // Each number twice: which are equal to the ones before them.
    let slices = Case::new("SortedSlices", "slices").domain(OWN_DOMAIN).opset(1).outputs(2);
    let slices = slices.int("axis", 0).input(numbers(&places.repeat(2)));
    let order: Vec<i32> = order.iter().flat_map(|&i| [i as i32, (i + count) as i32]).collect();
    let starts = [order, [1, 0].repeat(count)].map(|list| case::values(&[2 * count], &list));
    let maxima = Case::new("ScatterElements", "maxima").string("reduction", "max");
    let maxima = maxima.input(numbers(&[3, 8])).input(case::list(&[1, 0, 0])).input(numbers(&[7, 4, 5]));
    [(least, vec![numbers(&sorted), least_places]), (slices, starts.into()), (maxima, vec![numbers(&[5, 8])])]
}

/// A tree whose only test is whether a feature is one of a set, and what it gives.
fn member() -> (Case, Vec<Tensor>) {
    let doubles = |values: &[f64]| Attr::Tensor(case::values(&[values.len()], values));
    let close = |place: usize| 1.0 + place as f64 * f64::EPSILON;
    let members: Vec<f64> = [1, 3, 5, 7, 9].map(close).into_iter().chain([f64::NAN]).collect();
    let features: Vec<f64> = (0..11).map(close).collect();
    let expected: Vec<f64> = (0..11).map(|place| if place % 2 == 1 { 1.0 } else { 0.0 }).collect();
    let case = Case::new("TreeEnsemble", "member").domain("ai.onnx.ml").opset(5);
    let zeros = ["tree_roots", "nodes_featureids", "nodes_truenodeids"];
    let case = zeros.into_iter().fold(case, |case, name| case.ints(name, &[0]));
    let case = case
        .input(case::values(&[11, 1], &features))
        .ints("nodes_falsenodeids", &[1])
        .ints("nodes_trueleafs", &[1])
        .ints("nodes_falseleafs", &[1])
        .ints("leaf_targetids", &[0, 0])
        .attr("nodes_modes", Attr::Tensor(case::values(&[1], &[6u8])))
        .attr("nodes_splits", doubles(&[0.0]))
        .attr("membership_values", doubles(&members))
        .attr("leaf_weights", doubles(&[1.0, 0.0]));
    (case, vec![case::values(&[11, 1], &expected)])
}

/// Sorts and searches look at all bits of numbers of 64 bits.
#[test]
fn numbers_that_32_bits_do_not_tell_apart() {
    let doubles: Vec<_> = sorts(close).into_iter().chain([member()]).collect();
    for device in each().into_iter().chain([Device::reference()]) {
        let lacks = device.gpu().is_some_and(|gpu| !gpu.target.computes_f64);
        let doubles = if lacks { &[] } else { &doubles[..] };
        for (case, expected) in doubles.iter().chain(&sorts(large)) {
            let outputs = on_device(case, &device, Sizes::Fixed).unwrap();
            assert_eq!(&outputs, expected, "{} on {}", case.name, device.name());
        }
    }
}

/// No device needs to compute with what it only passes on.
#[test]
fn an_input_that_is_an_output() {
    let mut sketch = Sketch::default();
    let x = sketch.input("x");
    sketch.graph.outputs.push(x);
    sketch.graph.values[x.index()].dtype = Some(DType::F64);
    let graph = Arc::new(sketch.graph);
    for device in each() {
        let session = Session::of_graph(&device, graph.clone(), SessionOptions::default(), vec![]).unwrap();
        for size in [1, 3, 70_000] {
            let given = case::converted(&case::random(&[size]), DType::F64);
            let outputs = session.run(&[("x", &given)]).unwrap();
            assert_eq!(outputs["x"], given, "on {}", device.name());
        }
    }
}

/// A device that is not strict refuses nothing that the reference computes.
#[test]
fn the_host_computes_what_the_device_does_not() {
    for device in each().into_iter().map(|device| device.with_strict(false)) {
        let outcome = |case: &Case| match compared(case, &device, Sizes::Fixed) {
            Ok(None) => None,
            other => Some(format!("{}: {other:?}", case.name)),
        };
        let wrong: Vec<String> = cases().iter().filter_map(outcome).collect();
        assert!(wrong.is_empty(), "on {}: {wrong:#?}", device.name());
    }
}

/// Attention and a normalisation whose operands are of different types.
fn of_several_types() -> Vec<Case> {
    use DType::{F16, F32, F64};
    let float = |shape: &[usize], dtype| case::converted(&case::uniform(shape, -1.0, 1.0), dtype);
    let attention = |[qk, v, mask]: [DType; 3]| {
        let case = Case::new("Attention", &format!("{qk}, {v}, {mask}")).int("is_causal", 1).outputs(4);
        let case = case.input(float(&[2, 3, 4, 8], qk)).input(float(&[2, 3, 6, 8], qk));
        let case = case.input(float(&[2, 3, 6, 8], v)).input(float(&[4, 8], mask));
        case.input(float(&[2, 3, 2, 8], qk)).input(float(&[2, 3, 2, 8], v)).int("qk_matmul_output_mode", 3)
    };
    let normalization = |[x, scale]: [DType; 2]| {
        let case = Case::new("SimplifiedLayerNormalization", &format!("{x}, {scale}")).outputs(2);
        case.input(float(&[3, 7], x)).input(float(&[7], scale))
    };
    let attentions = [[F64, F32, F64], [F32, F64, F32], [F32, F32, F64], [F16, F16, F64], [F64, F64, F16]];
    let normalizations = [[F64, F32], [F32, F64], [F16, F64]];
    attentions.map(attention).into_iter().chain(normalizations.map(normalization)).collect()
}

#[test]
fn operands_of_several_types() {
    for device in each().into_iter().filter(|device| device.gpu().is_some_and(|gpu| gpu.target.computes_f64))
    {
        for case in of_several_types() {
            let case = case.tolerance(Tolerance { relative: 1e-6, absolute: 1e-6 });
            let outcome = compared(&case, &device, Sizes::Fixed);
            assert!(matches!(outcome, Ok(None)), "{} on {}: {outcome:?}", case.name, device.name());
        }
    }
}
