//! float64: computed by the device where it has it, by the host where not, and refused where only the device may compute.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::internals::cases::{Sizes, all_cases, compared, inputs_of, on_device};
use crate::internals::devices::each;
use crate::internals::random::Sketch;
use crate::internals::{Kernels, with_kernels};
use crate::ops::case::{self, Case, Tolerance, graph_of_case};
use crate::ops::{Attr, OWN_DOMAIN};
use crate::{DType, Device, Error, Limits, Session, SessionOptions, Tensor, passes};

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

#[test]
fn every_case_in_float64() {
    let cases = cases();
    let both = |device: Device| {
        [Kernels::Portable, Kernels::Gpu].map(|kernels| with_kernels(device.clone(), kernels))
    };
    for device in each().into_iter().flat_map(both) {
        let lacks = device.gpu().is_some_and(|gpu| !gpu.target.computes_f64);
        let (mut right, mut refused, mut wrong) = (0, 0, Vec::new());
        for case in &cases {
            match compared(case, &device, Sizes::Fixed) {
                Ok(None) => right += 1,
                Err(Error::Unsupported(_)) if lacks => refused += 1,
                other => wrong.push(format!("{}: {other:?}", case.name)),
            }
        }
        assert!(wrong.is_empty(), "on {}: {wrong:#?}", device.name());
        let few = if lacks { right } else { refused };
        assert!(few < 100 && right + refused > 1500, "{right} right, {refused} refused on {}", device.name());
    }
}

/// Windows and the like, which have no inputs of float32.
fn made() -> Vec<Case> {
    let double = i64::from(DType::F64.onnx());
    let new = |op: &str, operands: &[i64]| {
        let case = Case::new(op, op).int("output_datatype", double).tolerance(TOLERANCE);
        operands.iter().fold(case, |case, &operand| case.constant(case::values(&[], &[operand])))
    };
    let windows = ["BlackmanWindow", "HammingWindow", "HannWindow"].map(|op| new(op, &[10]));
    let frequencies = [0.0f32, 4000.0].map(|hertz| case::values(&[], &[hertz]));
    let bands = frequencies.into_iter().fold(new("MelWeightMatrix", &[8, 64, 8000]), Case::constant);
    windows.into_iter().chain([bands]).collect()
}

/// A device that has float64 computes all of it, also where the host may.
#[test]
fn the_host_computes_nothing_that_the_device_does() {
    let told = told_apart().into_iter().map(|(case, _)| case);
    let cases: Vec<Case> = cases().into_iter().chain(told).chain(mixed()).chain(made()).collect();
    for device in each().into_iter().map(|device| device.with_strict(false)) {
        if device.gpu().is_some_and(|gpu| !gpu.target.computes_f64) {
            continue;
        }
        let by_host = |case: &Case| {
            let graph = passes::run(graph_of_case(case).unwrap(), &Limits::default());
            let graph = Arc::new(graph.unwrap());
            let session =
                Session::of_graph(&device, graph.clone(), SessionOptions::default(), vec![]).unwrap();
            let (names, inputs) =
                (graph.inputs.iter().map(|id| graph.value(*id).name.as_str()), inputs_of(case));
            let given: Vec<(&str, &Tensor)> = names.zip(&inputs).collect();
            !session.plan(&given).unwrap().host_nodes.is_empty()
        };
        let operators: BTreeSet<&str> =
            cases.iter().filter(|case| by_host(case)).map(|case| case.op_type.as_str()).collect();
        assert!(operators.is_empty(), "{operators:?} on {}", device.name());
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

fn doubles(shape: &[usize], values: &[f64]) -> Tensor {
    case::values(shape, values)
}

/// The distance from 1 to the next number.
const STEP: f64 = f64::EPSILON;

/// Numbers that are equal, or on the other side of a border, in float32, and what follows from them.
fn told_apart() -> Vec<(Case, Tensor)> {
    let list = |values: &[f64]| doubles(&[values.len()], values);
    let encoder = |keys: Tensor, values: Tensor, default: Tensor| {
        let case = Case::new("LabelEncoder", "").domain("ai.onnx.ml").opset(4);
        let given = [("keys_tensor", keys), ("values_tensor", values), ("default_tensor", default)];
        given.into_iter().fold(case, |case, (name, tensor)| case.attr(name, Attr::Tensor(tensor)))
    };
    let third = 1.0 / 3.0;
    let keys = list(&[1.0 + STEP, 0.1, f64::NAN, -0.0, f64::NEG_INFINITY, 1.0, -1e300]);
    let values = list(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, third]);
    let x = [
        1.0,
        1.0 + STEP,
        1.0 + 2.0 * STEP,
        0.1f32.into(),
        0.1,
        f64::NAN,
        0.0,
        f64::NEG_INFINITY,
        -1e300,
        1e300,
    ];
    let found = [0.6, 0.1, 0.7, 0.7, 0.2, 0.3, 0.4, 0.5, third, 0.7];
    let many: Vec<f64> = (0..500).map(|i| 1.0 + f64::from(i * 7919 % 1000) * STEP).collect();
    let places = case::list(&(0..500).collect::<Vec<_>>());

    let categories = [(1 << 24) + 1, (1 << 53) + 1, 3, 2, -2];
    let elements =
        [16_777_217.0, 16_777_216.0, 9_007_199_254_740_992.0, 3.0 - 2.0 * STEP, -2.0 - 2.0 * STEP, f64::NAN];
    let hits = [Some(0), None, None, Some(3), Some(4), None];
    let hot =
        hits.map(|hit| [0, 1, 2, 3, 4].map(|category| if hit == Some(category) { 1.0f32 } else { 0.0 }));
    let one_hot =
        Case::new("OneHotEncoder", "").domain("ai.onnx.ml").opset(1).ints("cats_int64s", &categories);

    // Corners just below a half, and on it.
    let regions = doubles(&[2, 5], &[0.0, 0.5 - STEP, 0.0, 0.5 - STEP, 0.0, 0.0, 0.5, 0.0, 0.5, 0.0]);
    let image = doubles(&[1, 1, 2, 3], &[1.0, 1.0 + STEP, 1.0 - STEP, 4.0, 0.1, 0.7]);
    let pool = Case::new("MaxRoiPool", "").ints("pooled_shape", &[1, 1]).input(image.clone()).input(regions);

    // Halfway between columns 0 and 1 of row 2, a little further, and a little less.
    let grid = doubles(&[1, 1, 3, 2], &[-0.75, 0.0, -0.75 + STEP, 0.0, -0.75 - STEP, 0.0]);
    let nearest = |x: Tensor| {
        Case::new("GridSample", "")
            .string("mode", "nearest")
            .int("align_corners", 1)
            .input(x)
            .input(grid.clone())
    };
    let counted: Vec<f32> = (0..25).map(|i| i as f32).collect();
    let counted = case::values(&[1, 1, 5, 5], &counted);
    let sampled = case::values(&[1, 1, 1, 3], &[10.0f32, 11.0, 10.0]);

    let resized = Case::new("Resize", "").string("mode", "nearest").input(image).absent();
    let rows = [1.0, 1.0, 1.0 + STEP, 1.0 + STEP, 1.0 - STEP, 1.0 - STEP, 4.0, 4.0, 0.1, 0.1, 0.7, 0.7];
    vec![
        (encoder(keys, values, list(&[0.7])).input(list(&x)), list(&found)),
        (encoder(list(&many), places.clone(), case::list(&[-1])).input(list(&many)), places),
        (
            encoder(case::list(&[3, 1]), list(&[0.1, 0.2]), list(&[0.3])).input(case::list(&[1, 2, 3])),
            list(&[0.2, 0.3, 0.1]),
        ),
        (one_hot.input(list(&elements)), case::values(&[6, 5], hot.as_flattened())),
        (pool, doubles(&[2, 1, 1, 1], &[1.0, 1.0 + STEP])),
        (nearest(case::converted(&counted, DType::F64)), case::converted(&sampled, DType::F64)),
        (nearest(counted), sampled),
        (resized.input(case::values(&[4], &[1.0f32, 1.0, 1.0, 2.0])), doubles(&[1, 1, 2, 6], &rows)),
    ]
}

/// Operands of which some are float64 and others are not.
fn mixed() -> Vec<Case> {
    let single = Tolerance { relative: 1e-6, absolute: 1e-6 };
    let double = |tensor: &Tensor| case::converted(tensor, DType::F64);
    let grids = ["linear", "cubic"].into_iter().flat_map(|mode| {
        let new = |x: Tensor, grid: Tensor| {
            Case::new("GridSample", mode).string("mode", mode).tolerance(TOLERANCE).input(x).input(grid)
        };
        let (image, grid) = (case::random(&[1, 2, 3, 4]), case::uniform(&[1, 2, 3, 2], -1.2, 1.2));
        let whole = case::integers(&[1, 2, 3, 4], 0, 100);
        let one = Tolerance { relative: 0.0, absolute: 1.0 };
        [
            new(image.clone(), double(&grid)).tolerance(single),
            new(double(&image), grid.clone()),
            new(case::converted(&whole, DType::I32), double(&grid)).tolerance(one),
            new(case::converted(&whole, DType::U8), double(&grid)).tolerance(one),
        ]
    });
    let norms = [0, 1].into_iter().flat_map(|training| {
        use DType::{F32, F64};
        [[F64, F32, F32], [F32, F64, F32], [F32, F32, F64], [F64, F32, F64]].map(|dtypes| {
            let x = case::converted(&case::random(&[3, 2, 4]), dtypes[0]);
            let operand = |dtype: DType| case::converted(&case::uniform(&[2], 0.5, 1.5), dtype);
            let case =
                Case::new("BatchNormalization", "mixed").int("training_mode", training).tolerance(single);
            let case = case.input(x).input(operand(dtypes[1])).input(operand(dtypes[1]));
            let case = case.input(operand(dtypes[2])).input(operand(dtypes[2]));
            case.outputs(if training == 1 { 3 } else { 1 })
        })
    });
    grids.chain(norms).collect()
}

#[test]
fn numbers_that_float32_does_not_hold() {
    for device in each().into_iter().chain([Device::reference()]) {
        let lacks = device.gpu().is_some_and(|gpu| !gpu.target.computes_f64);
        for (case, expected) in told_apart() {
            match on_device(&case, &device, Sizes::Fixed) {
                Ok(outputs) => assert_eq!(outputs, [expected], "{} on {}", case.name, device.name()),
                Err(Error::Unsupported(_)) if lacks => {}
                Err(error) => panic!("{} on {}: {error}", case.name, device.name()),
            }
        }
        for case in mixed().into_iter().chain(made()) {
            let outcome = compared(&case, &device, Sizes::Fixed);
            let refused = lacks && matches!(outcome, Err(Error::Unsupported(_)));
            assert!(
                refused || matches!(outcome, Ok(None)),
                "{} on {}: {outcome:?}",
                case.name,
                device.name()
            );
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
