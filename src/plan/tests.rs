//! Planning on random graphs: units are convex, blocks of memory never overlap while they are alive, the arena reaches its
//! bound, and each adapter computes what the reference computes, with and without fusion.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Call, Options, Place, Plan, Planner, Program, TensorId};
use crate::facts::{Facts, InputFact};
use crate::graph::ValueId;
use crate::internals::cases::{all_cases, difference, open_graph, planner};
use crate::internals::devices::{each, of_class};
use crate::internals::random::{RandomGraph, Sketch};
use crate::kernels::{Class, Kernel, Target};
use crate::ops::case::{self, Case, Tolerance};
use crate::ops::{Attr, Graph, composed};
use crate::{DType, Device, Dim, Result, Session, SessionOptions, Tensor, reference};

/// The plan of a graph that declares exactly the shapes of these inputs.
pub(crate) fn planned(graph: &Graph, inputs: &[Tensor], target: &Target) -> Result<Plan> {
    let mut graph = graph.clone();
    for (id, tensor) in graph.inputs.clone().iter().zip(inputs) {
        graph.values[id.index()].shape = Some(tensor.shape().iter().map(|&size| Dim::Known(size)).collect());
    }
    let inputs: Vec<InputFact> = inputs.iter().cloned().map(InputFact::from).collect();
    planner(&graph, target).plan(&inputs)
}

/// Checks by brute force that no call writes memory that it binds as another tensor too.
fn check_bindings(program: &Program) {
    for call in &program.calls {
        let range = |tensor: TensorId| {
            let (root, skip) = program.root(tensor);
            let (storage, bytes) = (program.tensor(tensor).storage, program.tensor(tensor).bytes());
            (root, storage.offset(skip), storage.offset(skip) + bytes)
        };
        let ranges: Vec<_> = call.tensors.iter().map(|&tensor| range(tensor)).collect();
        for (i, slot) in
            call.kernel.slots().iter().take(ranges.len()).enumerate().filter(|(_, slot)| slot.written)
        {
            for (_, other) in ranges.iter().enumerate().filter(|(j, _)| *j != i) {
                let (root, start, end) = ranges[i];
                let apart = root != other.0 || end <= other.1 || other.2 <= start;
                assert!(
                    apart,
                    "{} ({}) writes {} over what it binds",
                    call.kernel.spec().label(),
                    call.node,
                    slot.name
                );
            }
        }
    }
}

/// A value that takes several places, in one concatenation or in one inside another, aligned and not.
#[test]
fn values_in_several_places_overlap_nothing() {
    for columns in [1, 3, 64, 65] {
        let mut sketch = Sketch::default();
        let (x, axis) = (sketch.input("x"), [("axis", Attr::Int(0))]);
        let y = sketch.node("Exp", &[], &[x]);
        let twice = sketch.node("Concat", &axis, &[y, y]);
        let other = sketch.node("Neg", &[], &[x]);
        let mixed = sketch.node("Concat", &axis, &[other, y, other]);
        let all = sketch.node("Concat", &axis, &[y, twice, mixed, y]);
        let turned = sketch.reshape(y, &[-1, 1, columns]);
        let turned = sketch.reshape(turned, &[-1, columns]);
        let views = sketch.node("Concat", &axis, &[turned, all, y]);
        sketch.graph.outputs = vec![twice, all, views, sketch.node("Relu", &[], &[mixed])];
        let inputs = [case::random(&[2, columns as usize])];
        let expected = reference::run(&sketch.graph, &inputs, false, &crate::Interrupt::new()).unwrap();
        let expected = reference::outputs(&sketch.graph, &expected).unwrap();
        for class in [Class::Cpu, Class::Gpu] {
            let plan = planned(&sketch.graph, &inputs, &Target { class, ..Target::FLOOR }).unwrap();
            check_bindings(&plan.program);
            check_memory(&plan);
        }
        for device in devices() {
            let graph = Arc::new(sketch.graph.clone());
            let session = Session::of_graph(device, graph, SessionOptions::default(), vec![]).unwrap();
            let outputs = session.run(&[("x", &inputs[0])]).unwrap();
            for ((name, actual), expected) in outputs.iter().zip(&expected) {
                let wrong = difference(expected, actual, Tolerance { relative: 1e-5, absolute: 1e-6 });
                assert_eq!(wrong, None, "{name}, {columns} columns, on {}", device.name());
            }
        }
    }
}

/// No case of an operator makes a call that writes memory which it binds otherwise.
#[test]
fn no_case_binds_what_it_writes_twice() {
    let mut planned_cases = 0;
    for case in all_cases() {
        let Ok(graph) = crate::ops::case::graph_of_case(&case) else { continue };
        let inputs = crate::internals::cases::inputs_of(&case);
        if let Ok(plan) = planned(&graph, &inputs, &Target::FLOOR) {
            check_bindings(&plan.program);
            planned_cases += 1;
        }
    }
    assert!(planned_cases > 1000, "{planned_cases}");
}

/// Checks by brute force that no call writes memory that another tensor still needs.
fn check_memory(plan: &Plan) {
    let program = &plan.program;
    check_bindings(program);
    // For every tensor: the first and last call that touch it, its place, its first and last byte.
    let mut lives = Vec::new();
    for (i, tensor) in program.tensors.iter().enumerate() {
        let id = super::TensorId(i as u32);
        let touched: Vec<usize> =
            (0..program.calls.len()).filter(|&c| program.calls[c].tensors.contains(&id)).collect();
        let (root, skip) = program.root(id);
        if let (Some(&first), Some(&last), Place::Arena) =
            (touched.first(), touched.last(), program.tensor(root).place)
        {
            let start = plan.memory.offset(root).unwrap() + tensor.storage.offset(skip);
            let end = start + tensor.filled();
            assert!(end <= plan.memory.height);
            lives.push((root, first, last, start, end));
        }
    }
    for (i, a) in lives.iter().enumerate() {
        for b in &lives[..i] {
            let apart = a.2 < b.1 || b.2 < a.1 || a.4 <= b.3 || b.4 <= a.3;
            assert!(apart || a.0 == b.0, "{:?} and {:?} overlap", a, b);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn memory_never_overlaps(choices in prop::collection::vec(any::<u32>(), 1..40), cpu in any::<bool>(), no_fusion in any::<bool>()) {
        let random = RandomGraph::new(&choices);
        let class = if cpu { Class::Cpu } else { Class::Gpu };
        let target = Target { class, ..Target::FLOOR };
        let options = Options { no_fusion, ..Options::default() };
        let planner = Planner::new(Arc::new(random.graph.clone()), target, options).unwrap();
        let inputs: Vec<InputFact> = random.inputs().into_iter().map(InputFact::from).collect();
        let plan = planner.plan(&inputs).unwrap();
        check_memory(&plan);
        prop_assert!(plan.memory.height <= plan.memory.max_live * 102 / 100);
    }

    #[test]
    fn every_adapter_runs_what_was_fused(choices in prop::collection::vec(any::<u32>(), 1..16)) {
        let random = RandomGraph::new(&choices);
        let inputs = random.inputs();
        let expected = reference::run(&random.graph, &inputs, false, &crate::Interrupt::new()).unwrap();
        let expected = reference::outputs(&random.graph, &expected).unwrap();
        for device in devices() {
            for fusion in [true, false] {
                let options = SessionOptions::new().fusion(fusion);
                let session = Session::of_graph(device, Arc::new(random.graph.clone()), options, vec![]).unwrap();
                let names = ["in0", "in1", "in2"];
                let given: Vec<(&str, &Tensor)> = names.into_iter().zip(&inputs).collect();
                for ((name, actual), expected) in session.run(&given).unwrap().iter().zip(&expected) {
                    let (e, a) = (expected.to_vec::<f32>().unwrap(), actual.to_vec::<f32>().unwrap());
                    for (e, a) in e.iter().zip(&a) {
                        // A chain of sixteen operators; each may be off by the error of the adapter's tanh.
                        prop_assert!((e - a).abs() <= 2e-3 * e.abs().max(1.0), "{name}: {e} {a} fusion {fusion}");
                    }
                }
            }
        }
    }
}

/// A reduction's kernel computes the elements that it folds: with whole rows and with rows cut into parts, with vectors and
/// with odd lengths, with operands of each kind.
#[test]
fn cheap_elements_are_computed_by_the_reduction() {
    type Build = fn(&mut Sketch, ValueId, ValueId, usize) -> ValueId;
    let ops: [(&str, Build); 6] = [
        ("ReduceSum", |s, x, _, _| s.node("ReduceSum", &[("keepdims", Attr::Int(0))], &[x])),
        ("ReduceMax", |s, x, axis, _| s.node("ReduceMax", &[], &[x, axis])),
        ("ReduceL2", |s, x, axis, _| s.node("ReduceL2", &[], &[x, axis])),
        ("Softmax", |s, x, _, _| s.node("Softmax", &[], &[x])),
        ("ArgMax", |s, x, _, _| s.node("ArgMax", &[("axis", Attr::Int(0))], &[x])),
        // This takes all bindings that a kernel has where rows are cut.
        ("LayerNormalization", |s, x, _, length| {
            let (scale, bias) = (s.constant(case::random(&[length])), s.constant(case::random(&[length])));
            s.node("LayerNormalization", &[("axis", Attr::Int(-1))], &[x, scale, bias])
        }),
    ];
    for (rows, length) in [(5, 64), (7, 33), (3, 5000)] {
        for (name, build) in &ops {
            let mut sketch = Sketch::default();
            let (x, y) = (sketch.input("x"), sketch.input("y"));
            let (row, last) = (sketch.constant(case::random(&[length])), sketch.constant(case::list(&[1])));
            let (product, two) = (sketch.node("Mul", &[], &[x, y]), sketch.scalar(2.0));
            let sum = sketch.node("Add", &[], &[product, row]);
            let scaled = sketch.node("Mul", &[], &[sum, two]);
            let result = build(&mut sketch, scaled, last, length);
            sketch.graph.outputs.push(result);
            let inputs = [case::random(&[rows, length]), case::random(&[rows, length])];
            let expected = reference::run(&sketch.graph, &inputs, false, &crate::Interrupt::new()).unwrap();
            let expected = reference::outputs(&sketch.graph, &expected).unwrap();
            for class in [Class::Cpu, Class::Gpu] {
                let target = Target { class, subgroup: 8, ..Target::FLOOR };
                let plan = planned(&sketch.graph, &inputs, &target).unwrap();
                let pointwise = |call: &&Call| matches!(call.kernel, Kernel::Elementwise(_));
                assert_eq!(plan.program.calls.iter().filter(pointwise).count(), 0, "{name} of {length}");
            }
            for device in devices() {
                let graph = Arc::new(sketch.graph.clone());
                let session = Session::of_graph(device, graph, SessionOptions::default(), vec![]).unwrap();
                let outputs = session.run(&[("x", &inputs[0]), ("y", &inputs[1])]).unwrap();
                // Sums of thousands of terms that cancel each other.
                let tolerance = Tolerance { relative: 1e-4, absolute: 1e-3 };
                assert_eq!(
                    difference(&expected[0], &outputs[0], tolerance),
                    None,
                    "{name} of {length} on {}",
                    device.name()
                );
            }
        }
    }
}

/// A product or convolution of `Relu(x * scale)`.
struct Scaled {
    op: &'static str,
    x: &'static [usize],
    scale: &'static [usize],
    weights: &'static [usize],
    /// Whether the weights are constants of the model.
    constant: bool,
    attributes: &'static [(&'static str, i64)],
    /// Whether kernels for CPUs, and kernels for GPUs, compute the scaled elements themselves.
    inside: [bool; 2],
}

#[test]
fn cheap_elements_are_computed_by_the_product() {
    let of = |op, x, scale, weights| Scaled {
        op,
        x,
        scale,
        weights,
        constant: true,
        attributes: &[],
        inside: [true, true],
    };
    let all = [
        of("MatMul", &[40, 64], &[64], &[64, 72]),
        of("MatMul", &[40, 64], &[40, 1], &[64, 72]),
        of("MatMul", &[37, 33], &[37, 33], &[33, 71]),
        of("MatMul", &[3, 128], &[1], &[128, 72]),
        of("MatMul", &[3, 67], &[67], &[67, 70]),
        of("MatMul", &[5, 3], &[3], &[3, 70]),
        of("MatMul", &[3, 20, 36], &[3, 1, 36], &[36, 40]),
        Scaled { constant: false, ..of("MatMul", &[3, 20, 36], &[3, 20, 1], &[3, 36, 40]) },
        Scaled { constant: false, ..of("MatMul", &[3, 20, 35], &[35], &[3, 35, 41]) },
        Scaled { constant: false, ..of("MatMul", &[50, 64], &[64], &[64, 1]) },
        Scaled { constant: false, ..of("MatMul", &[51, 67], &[51, 1], &[67, 1]) },
        // The kernel would read each element, and a factor for each, once for each of many tiles.
        Scaled { inside: [false, false], ..of("MatMul", &[9, 16], &[9, 16], &[16, 640]) },
        of("MatMul", &[9, 16], &[9, 1], &[16, 640]),
        Scaled { inside: [false, false], ..of("Conv", &[1, 8, 9, 9], &[9, 9], &[40, 8, 3, 3]) },
        // The columns of the left operand are the lines of memory.
        Scaled {
            attributes: &[("transA", 1)],
            inside: [false, false],
            ..of("Gemm", &[64, 40], &[64, 1], &[64, 72])
        },
        of("Gemm", &[40, 64], &[64], &[64, 72]),
        of("Conv", &[1, 24, 8, 8], &[1, 24, 1, 1], &[32, 24, 1, 1]),
        of("Conv", &[2, 24, 8, 8], &[2, 24, 1, 1], &[32, 24, 1, 1]),
        of("Conv", &[2, 24, 8, 8], &[24, 1, 1], &[32, 24, 1, 1]),
        // Rows of 49 elements are read in vectors that are shifted into place.
        of("Conv", &[2, 24, 7, 7], &[2, 24, 1, 1], &[32, 24, 1, 1]),
        of("Conv", &[2, 23, 7, 5], &[7, 5], &[32, 23, 1, 1]),
        of("Conv", &[2, 17, 9, 11], &[2, 17, 1, 1], &[20, 17, 3, 3]),
        of("Conv", &[2, 16, 9, 11], &[9, 11], &[20, 16, 3, 3]),
        of("Conv", &[2, 16, 9, 11], &[1, 1, 1, 11], &[20, 16, 3, 3]),
        of("Conv", &[1, 3, 12, 12], &[1], &[20, 3, 3, 3]),
        Scaled { constant: false, ..of("Conv", &[2, 16, 9, 11], &[16, 1, 1], &[20, 16, 3, 3]) },
        Scaled { attributes: &[("group", 2)], ..of("Conv", &[2, 16, 9, 9], &[2, 16, 1, 1], &[20, 8, 3, 3]) },
        Scaled { attributes: &[("group", 12)], ..of("Conv", &[2, 12, 9, 9], &[2, 12, 1, 1], &[12, 1, 3, 3]) },
        Scaled { attributes: &[("group", 6)], ..of("Conv", &[2, 6, 9, 9], &[9, 1], &[12, 1, 3, 3]) },
        of("Conv", &[2, 16, 33], &[1, 1, 33], &[20, 16, 5]),
        of("Conv", &[2, 4, 5, 6, 7], &[2, 4, 1, 1, 1], &[5, 4, 2, 3, 3]),
    ];
    for Scaled { op, x, scale, weights, constant, attributes, inside } in all {
        let mut sketch = Sketch::default();
        let (data, by) = (sketch.input("x"), sketch.input("scale"));
        let w = if constant { sketch.constant(case::random(weights)) } else { sketch.input("w") };
        let scaled = sketch.node("Mul", &[], &[data, by]);
        let scaled = sketch.node("Relu", &[], &[scaled]);
        let mut given: Vec<(&str, Attr)> =
            attributes.iter().map(|&(name, value)| (name, Attr::Int(value))).collect();
        if op == "Conv" {
            let edges = 2 * (x.len() - 2);
            let pads: Vec<i64> = (0..edges).map(|i| (weights[2 + i % (edges / 2)] as i64 - 1) / 2).collect();
            given.push(("pads", Attr::Ints(pads)));
        }
        let product = sketch.node(op, &given, &[scaled, w]);
        let two = sketch.scalar(2.0);
        let result = sketch.node("Add", &[], &[product, two]);
        sketch.graph.outputs.push(result);
        let mut inputs = vec![case::random(x), case::random(scale)];
        if !constant {
            inputs.push(case::random(weights));
        }
        let name = format!("{op} of {x:?} * {scale:?} and {weights:?}");
        let expected = reference::run(&sketch.graph, &inputs, false, &crate::Interrupt::new()).unwrap();
        let expected = reference::outputs(&sketch.graph, &expected).unwrap();
        for (class, inside) in [Class::Cpu, Class::Gpu].into_iter().zip(inside) {
            let target = Target { class, subgroup: 8, ..Target::FLOOR };
            let plan = planned(&sketch.graph, &inputs, &target).unwrap();
            let pointwise = |call: &&Call| matches!(call.kernel, Kernel::Elementwise(_));
            let alone = plan.program.calls.iter().filter(pointwise).count();
            assert_eq!(alone, usize::from(!inside), "{class:?}: {name}");
            for device in of_class(class) {
                let graph = Arc::new(sketch.graph.clone());
                let session = Session::of_graph(&device, graph, SessionOptions::default(), vec![]).unwrap();
                let named: Vec<(&str, &Tensor)> = ["x", "scale", "w"].into_iter().zip(&inputs).collect();
                let outputs = session.run(&named).unwrap();
                let difference = difference(&expected[0], &outputs[0], Tolerance::ACCUMULATION);
                assert_eq!(difference, None, "{class:?}: {name} on {}", device.name());
            }
        }
    }
}

/// The kernels of a plan for these inputs.
fn kernels(planner: &Planner, inputs: &[InputFact]) -> Vec<Kernel> {
    planner.plan(inputs).into_iter().flat_map(|plan| plan.program.calls).map(|call| call.kernel).collect()
}

/// Inputs with the shapes that `facts` has.
fn of_facts(graph: &Graph, facts: &Facts, inputs: &[InputFact]) -> Vec<InputFact> {
    let moved = |(id, input): (&ValueId, &InputFact)| InputFact {
        shape: facts.get(*id).unwrap().shape.to_vec(),
        ..input.clone()
    };
    graph.inputs.iter().zip(inputs).map(moved).collect()
}

#[test]
fn float16_takes_half_the_memory() {
    let bytes = |dtype: DType| {
        let mut sketch = Sketch::default();
        let of = |shape: &[usize]| case::converted(&case::random(shape), dtype);
        let (x, weights) =
            (sketch.input("x"), [sketch.constant(of(&[48, 96])), sketch.constant(of(&[96, 48]))]);
        sketch.graph.values[x.index()].dtype = Some(dtype);
        let hidden = sketch.node("MatMul", &[], &[x, weights[0]]);
        let shares = sketch.node("Softmax", &[], &[hidden]);
        let y = sketch.node("MatMul", &[], &[shares, weights[1]]);
        let y = sketch.node("Softmax", &[], &[y]);
        sketch.graph.outputs.push(y);
        let plan = planned(&sketch.graph, &[of(&[64, 48])], &Target::FLOOR).unwrap();
        let weights = plan.program.bytes(|place| matches!(place, Place::Weight(_)));
        assert!(plan.memory.height > 0 && weights > 0);
        [plan.memory.height, weights]
    };
    let whole = bytes(DType::F32);
    for dtype in [DType::F16, DType::BF16] {
        assert_eq!(bytes(dtype).map(|bytes| 2 * bytes), whole, "{dtype}");
    }
}

#[test]
fn a_product_has_tiles_for_one_row_and_for_many_from_the_start() {
    for (class, subgroup) in [(Class::Cpu, 8), (Class::Gpu, 32)] {
        let target = Target { class, subgroup, ..Target::FLOOR };
        let of = |rows: usize, others: &[usize]| {
            let case = Case::new("MatMul", "rows");
            let case = case.input(case::random(&[rows, 2048])).constant(case::random(&[2048, 2048]));
            let (graph, inputs) = open_graph(&case).unwrap();
            let planner = planner(&graph, &target);
            let plan = planner.plan(&inputs).unwrap();
            let first = &plan.program.calls[0].kernel;
            let next = others.iter().map(|&rows| {
                let other = planner.plan(&[InputFact::of_shape(DType::F32, &[rows, 2048])]).unwrap().program;
                assert_eq!(plan.program.weights, other.weights, "{class:?}: packed anew for {rows} rows");
                let next = other.calls[0].kernel.clone();
                let spare = plan.spare.iter().any(|spare| spare.kernel == next);
                assert!(next == *first || spare, "{class:?}: {next:?} for {rows} rows is new");
                next
            });
            (first.clone(), next.collect::<Vec<_>>())
        };
        let (first, next) = of(1, &[2, 64, 200, 1]);
        assert_eq!((&next[0], &next[3]), (&first, &first));
        assert_eq!(next[1], next[2]);
        // A software device reads weights so often that the number of rows does not matter, up to a factor of 1.7.
        assert_eq!(next[1] == first, class == Class::Cpu);
        let (first, next) = of(200, &[150, 4000, 1, 3]);
        assert_eq!((&next[0], &next[1]), (&first, &first));
        assert_eq!(next[2], next[3]);
        assert_ne!(next[2], first);
    }
}

#[test]
fn an_empty_cache_needs_no_other_kernels() {
    let case = Case::new("Concat", "cache").int("axis", 1);
    let case = case.input(case::random(&[1, 3, 4])).input(case::random(&[1, 1, 4]));
    let (graph, inputs) = open_graph(&case).unwrap();
    let planner = planner(&graph, &Target::FLOOR);
    let first = planner.plan(&inputs).unwrap();
    let empty = [[2, 0, 4], [2, 5, 4]].map(|shape| InputFact::of_shape(DType::F32, &shape));
    let next = kernels(&planner, &empty);
    let known = |kernel: &Kernel| {
        first.program.calls.iter().any(|call| call.kernel == *kernel)
            || first.spare.iter().any(|spare| spare.kernel == *kernel)
    };
    assert!(!next.is_empty() && next.iter().all(known), "{next:?}");
}

/// Cases whose kernels do depend on sizes: on a transform's radices, on an index tuple's length, on which axes are resized, on
/// the number of parts of a very long row, on the depth of a head, or because nothing is computed at first.
const BY_SIZE: [&str; 10] = [
    "DFT/",
    "STFT/",
    "GatherND/",
    "Resize/",
    "CumSum/long",
    "CumProd/long",
    "CenterCropPad/",
    "Pad/crop_all",
    "Conv/too_small",
    "MultiHeadAttention/packed",
];

/// Checks every operator's cases, and then the same cases with other sizes of all dimensions.
#[test]
fn other_sizes_need_no_other_kernels() {
    let (mut failures, mut compared, mut families) = (Vec::new(), 0, BTreeSet::new());
    let filled = |case: &Case| {
        case.inputs.iter().flatten().all(|tensor| !tensor.is_empty())
            && !BY_SIZE.iter().any(|name| case.name.starts_with(name))
    };
    for case in all_cases().into_iter().filter(filled) {
        let Some((graph, inputs)) = open_graph(&case) else { continue };
        for (class, subgroup) in [(Class::Cpu, 8), (Class::Gpu, 32)] {
            let target = Target { class, subgroup, ..Target::FLOOR };
            let planner = planner(&graph, &target);
            if planner.facts(&inputs).is_err() {
                continue;
            }
            let first = planner.plan(&inputs).unwrap();
            let probes = planner.probes(&inputs);
            let (spare, calls) = (first.spare, first.program.calls);
            let first: Vec<Kernel> = calls.into_iter().map(|call| call.kernel).collect();
            let others = [
                probes.times([3, 3], 3),
                probes.times([4, 4], 4),
                probes.times([20, 20], 20),
                probes.least(),
            ];
            for (times, facts) in others.into_iter().enumerate() {
                let Some(facts) = facts else { continue };
                let inputs = of_facts(&graph, &facts, &inputs);
                // What is divided for some sizes has other kernels.
                if planner.plan(&inputs).is_ok_and(|plan| plan.divided.is_some()) {
                    continue;
                }
                let next = kernels(&planner, &inputs);
                compared += 1;
                families.extend(next.iter().map(Kernel::family));
                let is_spare = |kernel: &Kernel| spare.iter().any(|spare| spare.kernel == *kernel);
                // Results that share words may be stored in runs.
                let known = |kernel: &Kernel| {
                    let runs = || kernel.spec().in_runs();
                    first.contains(kernel) || is_spare(kernel) || runs().is_some_and(|runs| is_spare(&runs))
                };
                if let Some(new) = next.iter().find(|kernel| !known(kernel)) {
                    failures
                        .push(format!("{} {class:?} other {times}: {new:?} not among {first:?}", case.name));
                }
            }
        }
    }
    assert!(compared > 4000, "only {compared} were compared");
    // The sizes of AffineGrid are constants of the model; the radices of a transform are its kernel.
    let expected = ["AffineGrid", "Dft"];
    let missing: Vec<_> = Kernel::FAMILIES.iter().filter(|family| !families.contains(**family)).collect();
    assert_eq!(
        missing,
        expected.iter().collect::<Vec<_>>(),
        "no case shows that shapes are no part of these"
    );
    assert!(failures.is_empty(), "{}:\n{}", failures.len(), failures.join("\n"));
}

/// Two planners that are asked for the same plans in the same order make the same programs.
#[test]
fn plans_follow_from_what_was_planned_before() {
    let mut compared = 0;
    for case in all_cases().iter().step_by(3) {
        let Some((graph, inputs)) = open_graph(case) else { continue };
        let planners = [planner(&graph, &Target::FLOOR), planner(&graph, &Target::FLOOR)];
        let expanded = composed::expanded(Arc::new(graph.clone())).unwrap();
        let probes = planners[0].probes(&inputs);
        let others = [probes.times([3, 3], 3), probes.least()].into_iter().flatten();
        let others = others.map(|facts| of_facts(&graph, &facts, &inputs));
        for inputs in [inputs.clone()].into_iter().chain(others) {
            let text = |planner: &Planner| {
                let plan = planner.plan(&inputs).ok()?;
                let program = plan.program.report(plan.graph(&expanded));
                Some(format!("{program}{}", plan.memory.report(&plan.program)))
            };
            let texts = planners.each_ref().map(text);
            compared += usize::from(texts[0].is_some());
            assert_eq!(texts[0], texts[1], "{}", case.name);
        }
    }
    assert!(compared > 500, "only {compared} plans were compared");
}

pub(crate) fn devices() -> &'static [Device] {
    static DEVICES: std::sync::LazyLock<Vec<Device>> = std::sync::LazyLock::new(each);
    &DEVICES
}

#[test]
fn what_has_one_shape_for_some_sizes_only_is_fused_for_those() {
    let mut sketch = Sketch::default();
    let (x, y) = (sketch.input("x"), sketch.input("y"));
    let positive = sketch.node("Relu", &[], &[x]);
    let sum = sketch.node("Add", &[], &[positive, y]);
    sketch.graph.outputs.push(sum);
    let shapes = [([1, 3], 1), ([5, 3], 2), ([1, 3], 1), ([2, 3], 2)];
    for device in devices() {
        let graph = Arc::new(sketch.graph.clone());
        let session = Session::of_graph(device, graph, SessionOptions::default(), vec![]).unwrap();
        for (shape, dispatches) in shapes {
            let inputs = vec![case::random(&[1, 3]), case::random(&shape)];
            let named = [("x", &inputs[0]), ("y", &inputs[1])];
            let values = reference::run(&sketch.graph, &inputs, false, &crate::Interrupt::new()).unwrap();
            let expected = reference::outputs(&sketch.graph, &values).unwrap();
            assert_eq!(session.run(&named).unwrap()[0], expected[0], "{shape:?}");
            assert_eq!(session.plan(&named).unwrap().dispatches, dispatches, "{shape:?}");
        }
    }
}

#[test]
fn values_that_are_known_for_some_sizes_only_need_no_other_kernels() {
    let mut sketch = Sketch::default();
    let x = sketch.input("x");
    let shape = sketch.node("Shape", &[], &[x]);
    let filled = sketch.node("ConstantOfShape", &[], &[shape]);
    let turned = sketch.node("Transpose", &[], &[filled]);
    let column = sketch.constant(case::list(&[-1, 1]));
    let (left, right) =
        (sketch.node("Reshape", &[], &[turned, column]), sketch.node("Reshape", &[], &[x, column]));
    let both = sketch.node("Concat", &[("axis", Attr::Int(1))], &[left, right]);
    sketch.graph.outputs.push(both);
    let planner = planner(&sketch.graph, &Target::FLOOR);
    let of = |n: usize, m: usize| [InputFact::of_shape(DType::F32, &[n, m])];
    let known = |n, m| planner.facts(&of(n, m)).unwrap().get(filled).unwrap().constant().is_some();
    assert!(!known(40, 50) && known(9, 10));
    let first = planner.plan(&of(40, 50)).unwrap();
    let calls = first.program.calls.iter().map(|call| &call.kernel);
    let all: Vec<&Kernel> = calls.chain(first.spare.iter().map(|spare| &spare.kernel)).collect();
    for (n, m) in [(9, 10), (41, 51), (3, 1)] {
        let next = kernels(&planner, &of(n, m));
        assert!(next.iter().all(|kernel| all.contains(&kernel)), "{n}x{m}: {next:?} not all among {all:?}");
    }
}
