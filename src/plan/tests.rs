//! Planning on random graphs: units are convex, memory never overlaps while alive, the arena reaches its bound, and each
//! adapter computes what the reference does, fused and not.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Call, FactBase, Facts, Forms, Inputs, Moves, Options, Place, Plan, first_plan, plan};
use crate::graph::random::{RandomGraph, Sketch};
use crate::graph::{Attr, Graph, ValueId};
use crate::kernels::{Class, Kernel, Target};
use crate::ops::case::{self, Case, Tolerance};
use crate::ops::tests::{all_cases, difference, inputs_of};
use crate::reference::Array;
use crate::{DType, Device, DeviceOptions, Select, Session, SessionOptions, Tensor, adapters, reference};

pub(crate) fn planned(graph: &Graph, inputs: &[Tensor], target: &Target, options: &Options) -> Plan {
    let facts = inputs.iter().map(|t| (t.dtype(), t.shape().to_vec(), Some(t.clone()))).collect::<Vec<_>>();
    let facts = FactBase::new(graph).unwrap().bind(graph, &facts).unwrap();
    plan(graph, facts, target, options, &mut Forms::default()).unwrap()
}

/// Checks by brute force that no call writes memory that another tensor still needs.
fn check_memory(plan: &Plan) {
    let program = &plan.program;
    // Every tensor as (first call that touches it, last call, place, first byte, last byte).
    let mut lives = Vec::new();
    for (i, tensor) in program.tensors.iter().enumerate() {
        let id = super::TensorId(i as u32);
        let touched: Vec<usize> =
            (0..program.calls.len()).filter(|&c| program.calls[c].tensors.contains(&id)).collect();
        let (root, skip) = program.root(id);
        if let (Some(&first), Some(&last), Place::Arena) =
            (touched.first(), touched.last(), program.tensor(root).place)
        {
            let start = plan.memory.offset(root).unwrap() + skip as u64 * 4;
            assert!(start + tensor.count as u64 * 4 <= plan.memory.height);
            lives.push((root, first, last, start, start + tensor.count as u64 * 4));
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
        let plan = planned(&random.graph, &random.inputs(), &target, &options);
        check_memory(&plan);
        prop_assert!(plan.memory.height <= plan.memory.max_live * 102 / 100);
    }

    #[test]
    fn every_adapter_runs_what_was_fused(choices in prop::collection::vec(any::<u32>(), 1..16)) {
        let random = RandomGraph::new(&choices);
        let inputs = random.inputs();
        let expected = reference::run(&random.graph, &inputs, false).unwrap();
        let expected = reference::outputs(&random.graph, &expected).unwrap();
        for device in devices() {
            for fusion in [true, false] {
                let options = SessionOptions { fusion, ..SessionOptions::default() };
                let session = Session::of_graph(device, Arc::new(random.graph.clone()), options, vec![]).unwrap();
                let names = ["in0", "in1", "in2"];
                let given: Vec<(&str, &Tensor)> = names.into_iter().zip(&inputs).collect();
                for ((name, actual), expected) in session.run(&given).unwrap().iter().zip(&expected) {
                    let (e, a) = (expected.to_vec::<f32>().unwrap(), actual.to_vec::<f32>().unwrap());
                    for (e, a) in e.iter().zip(&a) {
                        // A chain of sixteen operators, each off by what the adapter's tanh is.
                        prop_assert!((e - a).abs() <= 2e-3 * e.abs().max(1.0), "{name}: {e} {a} fusion {fusion}");
                    }
                }
            }
        }
    }
}

/// What computes a reduction's elements stands in its kernel: rows whole and cut into parts, vectors and odd lengths, operands
/// of each kind.
#[test]
fn cheap_elements_are_computed_by_the_reduction() {
    type Build = fn(&mut Sketch, ValueId, ValueId, usize) -> ValueId;
    let ops: [(&str, Build); 6] = [
        ("ReduceSum", |s, x, _, _| s.node("ReduceSum", &[("keepdims", Attr::Int(0))], &[x])),
        ("ReduceMax", |s, x, axis, _| s.node("ReduceMax", &[], &[x, axis])),
        ("ReduceL2", |s, x, axis, _| s.node("ReduceL2", &[], &[x, axis])),
        ("Softmax", |s, x, _, _| s.node("Softmax", &[], &[x])),
        ("ArgMax", |s, x, _, _| s.node("ArgMax", &[("axis", Attr::Int(0))], &[x])),
        // All bindings there are, where rows are cut.
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
            let expected = reference::run(&sketch.graph, &inputs, false).unwrap();
            let expected = reference::outputs(&sketch.graph, &expected).unwrap();
            for class in [Class::Cpu, Class::Gpu] {
                let target = Target { class, subgroup: 8, ..Target::FLOOR };
                let plan = planned(&sketch.graph, &inputs, &target, &Options::default());
                let pointwise = |call: &&Call| matches!(call.kernel, Kernel::Elementwise(_));
                assert_eq!(plan.program.calls.iter().filter(pointwise).count(), 0, "{name} of {length}");
            }
            for device in devices() {
                let graph = Arc::new(sketch.graph.clone());
                let session = Session::of_graph(device, graph, SessionOptions::default(), vec![]).unwrap();
                let outputs = session.run(&[("x", &inputs[0]), ("y", &inputs[1])]).unwrap();
                let arrays = (Array::from_tensor(&expected[0]), Array::from_tensor(&outputs[0].1));
                let (expected, actual) = (arrays.0.unwrap(), arrays.1.unwrap());
                // Sums of thousands of terms that cancel.
                let tolerance = Tolerance { relative: 1e-4, absolute: 1e-3 };
                assert_eq!(
                    difference(&expected, &actual, tolerance),
                    None,
                    "{name} of {length} on {}",
                    device.name()
                );
            }
        }
    }
}

/// Kernels of a plan for these facts.
fn kernels(graph: &Graph, facts: Facts, target: &Target, forms: &mut Forms) -> Vec<Kernel> {
    let plan = plan(graph, facts, target, &Options::default(), forms);
    plan.into_iter().flat_map(|plan| plan.program.calls).map(|call| call.kernel).collect()
}

/// A graph of one case, none of whose dimensions are fixed, and its inputs.
fn open_graph(case: &Case) -> Option<(Graph, Inputs)> {
    let mut graph = case::graph_of_case(case).ok()?;
    for id in graph.inputs.clone() {
        graph.values[id.index()].shape = None;
    }
    let inputs = inputs_of(case).into_iter().map(|t| (t.dtype(), t.shape().to_vec(), Some(t))).collect();
    Some((graph, inputs))
}

#[test]
fn a_product_has_tiles_for_one_row_and_for_many_from_the_start() {
    for (class, subgroup) in [(Class::Cpu, 8), (Class::Gpu, 32)] {
        let target = Target { class, subgroup, ..Target::FLOOR };
        let of = |rows: usize, others: &[usize]| {
            let case = Case::new("MatMul", "rows");
            let case = case.input(case::random(&[rows, 2048])).constant(case::random(&[2048, 2048]));
            let (graph, inputs) = open_graph(&case).unwrap();
            let base = FactBase::new(&graph).unwrap();
            let mut forms = Forms::default();
            let moves = Moves::new(&graph, &base, &inputs);
            let facts = base.bind(&graph, &inputs).unwrap();
            let plan = first_plan(&graph, facts, &moves, &target, &Options::default(), &mut forms).unwrap();
            let first = &plan.program.calls[0].kernel;
            let next = others.iter().map(|&rows| {
                let facts = base.bind(&graph, &[(DType::F32, vec![rows, 2048], None)]).unwrap();
                let weights = plan.program.weights.len();
                let (next, other) = {
                    let plan = super::plan(&graph, facts, &target, &Options::default(), &mut forms).unwrap();
                    (plan.program.calls[0].kernel.clone(), plan.program.weights.clone())
                };
                assert_eq!(plan.program.weights, other, "{class:?}: {weights} packed anew for {rows} rows");
                let spare = plan.spare.iter().any(|spare| spare.0 == next);
                assert!(next == *first || spare, "{class:?}: {next:?} for {rows} rows is new");
                next
            });
            (first.clone(), next.collect::<Vec<_>>())
        };
        let (first, next) = of(1, &[2, 64, 200, 1]);
        assert_eq!((&next[0], &next[3]), (&first, &first));
        assert_eq!(next[1], next[2]);
        // A software device reads weights often enough for it not to matter by how many rows, up to a factor of 2.
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
    let base = FactBase::new(&graph).unwrap();
    let moves = Moves::new(&graph, &base, &inputs);
    let (target, mut forms) = (Target::FLOOR, Forms::default());
    let facts = base.bind(&graph, &inputs).unwrap();
    let first = first_plan(&graph, facts, &moves, &target, &Options::default(), &mut forms).unwrap();
    let empty = [(DType::F32, vec![2, 0, 4], None), (DType::F32, vec![2, 5, 4], None)];
    let next = kernels(&graph, base.bind(&graph, &empty.to_vec()).unwrap(), &target, &mut forms);
    let known = |kernel: &Kernel| {
        first.program.calls.iter().any(|call| call.kernel == *kernel)
            || first.spare.iter().any(|spare| spare.0 == *kernel)
    };
    assert!(!next.is_empty() && next.iter().all(known), "{next:?}");
}

/// Cases whose kernels do depend on sizes: a transform's radices, an index tuple's length, which axes are resized, how many
/// parts a very long row has, and what computes nothing at first.
const BY_SIZE: [&str; 9] = [
    "DFT/",
    "STFT/",
    "GatherND/",
    "Resize/",
    "CumSum/long",
    "CumProd/long",
    "CenterCropPad/",
    "Pad/crop_all",
    "Conv/too_small",
];

/// Every operator's cases, and then the same with other sizes of all dimensions.
#[test]
fn other_sizes_need_no_other_kernels() {
    let (mut failures, mut compared) = (Vec::new(), 0);
    let filled = |case: &Case| {
        case.inputs.iter().flatten().all(|tensor| !tensor.is_empty())
            && !BY_SIZE.iter().any(|name| case.name.starts_with(name))
    };
    for case in all_cases().into_iter().filter(filled) {
        let Some((graph, inputs)) = open_graph(&case) else { continue };
        let base = FactBase::new(&graph).unwrap();
        let moves = Moves::new(&graph, &base, &inputs);
        for (class, subgroup) in [(Class::Cpu, 8), (Class::Gpu, 32)] {
            let target = Target { class, subgroup, ..Target::FLOOR };
            let mut forms = Forms::default();
            let Ok(facts) = base.bind(&graph, &inputs) else { continue };
            let first = first_plan(&graph, facts, &moves, &target, &Options::default(), &mut forms).unwrap();
            let (spare, calls) = (first.spare, first.program.calls);
            let first: Vec<Kernel> = calls.into_iter().map(|call| call.kernel).collect();
            let others = [moves.times(3, 3), moves.times(4, 4), moves.times(20, 20), moves.least()];
            for (times, facts) in others.into_iter().enumerate() {
                let Some(facts) = facts else { continue };
                let next = kernels(&graph, facts, &target, &mut forms);
                compared += 1;
                let known = |kernel: &Kernel| first.contains(kernel) || spare.iter().any(|s| s.0 == *kernel);
                if let Some(new) = next.iter().find(|kernel| !known(kernel)) {
                    failures
                        .push(format!("{} {class:?} other {times}: {new:?} not among {first:?}", case.name));
                }
            }
        }
    }
    assert!(compared > 4000, "only {compared} were compared");
    assert!(failures.is_empty(), "{}:\n{}", failures.len(), failures.join("\n"));
}

fn devices() -> &'static [Device] {
    static DEVICES: std::sync::LazyLock<Vec<Device>> = std::sync::LazyLock::new(|| {
        let usable = adapters().into_iter().filter(|adapter| adapter.below_floor.is_none());
        usable.map(|a| Device::new(DeviceOptions { select: Select::Name(a.name) }).unwrap()).collect()
    });
    &DEVICES
}
#[test]
fn temp_second_shapes() {
    let Ok(list) = std::env::var("SARDONYX_PAIRS") else { return };
    for line in list.split(';') {
        let mut words = line.split('|');
        let name = words.next().unwrap();
        let model = crate::Model::load(format!("/work/models/{name}.onnx")).unwrap();
        for (class, subgroup) in [(Class::Cpu, 8), (Class::Gpu, 32)] {
            let target = Target { class, subgroup, ..Target::FLOOR };
            let device = Device::noop(target.clone());
            let session = Session::new(&device, &model, SessionOptions::default()).unwrap();
            let mut seen: Vec<Kernel> = Vec::new();
            for shapes in line.split('|').skip(1) {
                let inputs: Vec<Tensor> = shapes
                    .split(',')
                    .zip(model.inputs())
                    .map(|(text, input)| {
                        let shape: Vec<usize> = text.split('x').map(|n| n.parse().unwrap()).collect();
                        let count: usize = shape.iter().product();
                        match input.dtype {
                            Some(DType::I64) => Tensor::from_slice(&shape, &vec![1i64; count]).unwrap(),
                            _ => Tensor::from_slice(&shape, &vec![1f32; count]).unwrap(),
                        }
                    })
                    .collect();
                let start = std::time::Instant::now();
                let plan = session.make_plan(&inputs, &target).unwrap();
                let took = start.elapsed();
                seen.extend(plan.spare.iter().map(|spare| spare.0.clone()));
                let mut new = Vec::new();
                for call in &plan.program.calls {
                    if !seen.contains(&call.kernel) {
                        seen.push(call.kernel.clone());
                        new.push(call);
                    }
                }
                println!(
                    "{name} {class:?} {shapes}: {} calls, {} new, {took:?}",
                    plan.program.calls.len(),
                    new.len()
                );
                if std::env::var("VERBOSE").is_ok() || shapes != line.split('|').nth(1).unwrap() {
                    for call in new {
                        let text = format!("{:?}", call.kernel);
                        println!("    {} {}", call.node, &text[..text.len().min(700)]);
                    }
                }
            }
        }
    }
}
