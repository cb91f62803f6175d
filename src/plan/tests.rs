//! Planning on random graphs: units are convex, memory never overlaps while alive, the arena reaches its bound, and each
//! adapter computes what the reference does, fused and not.

use std::sync::Arc;

use proptest::prelude::*;

use super::{FactBase, Options, Place, Plan, Tiles, plan};
use crate::graph::Graph;
use crate::graph::random::RandomGraph;
use crate::kernels::{Class, Kernel, Target};
use crate::ops::case::{self, Case};
use crate::{DType, Device, DeviceOptions, Select, Session, SessionOptions, Tensor, adapters, reference};

pub(crate) fn planned(graph: &Graph, inputs: &[Tensor], target: &Target, options: &Options) -> Plan {
    let facts = inputs.iter().map(|t| (t.dtype(), t.shape().to_vec(), Some(t.clone()))).collect::<Vec<_>>();
    let facts = FactBase::new(graph).unwrap().bind(graph, &facts).unwrap();
    plan(graph, facts, target, options, &mut Tiles::default()).unwrap()
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

#[test]
fn a_second_shape_keeps_tiles_that_do() {
    let conv = Case::new("Conv", "depthwise").int("group", 8).ints("pads", &[1, 1, 1, 1]);
    let conv = conv.input(case::random(&[1, 8, 40, 40])).constant(case::random(&[8, 1, 3, 3]));
    let graph = case::graph_of_case(&conv).unwrap();
    let target = Target { class: Class::Cpu, ..Target::FLOOR };
    let kernels = |size: usize, tiles: &mut Tiles| -> Vec<Kernel> {
        let facts = FactBase::new(&graph).unwrap();
        let facts = facts.bind(&graph, &[(DType::F32, vec![1, 8, size, size], None)]).unwrap();
        let plan = plan(&graph, facts, &target, &Options::default(), tiles).unwrap();
        plan.program.calls.into_iter().map(|call| call.kernel).collect()
    };
    let mut tiles = Tiles::default();
    let first = kernels(40, &mut tiles);
    assert_ne!(kernels(56, &mut Tiles::default()), first);
    assert_eq!(kernels(56, &mut tiles), first);
    assert_ne!(kernels(6, &mut tiles), first);
}

fn devices() -> &'static [Device] {
    static DEVICES: std::sync::LazyLock<Vec<Device>> = std::sync::LazyLock::new(|| {
        let usable = adapters().into_iter().filter(|adapter| adapter.below_floor.is_none());
        usable.map(|a| Device::new(DeviceOptions { select: Select::Name(a.name) }).unwrap()).collect()
    });
    &DEVICES
}
