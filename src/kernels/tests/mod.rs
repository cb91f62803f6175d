//! Every shader variant that operators reach, without a device: validated, written for all back ends, and held against
//! the floor. Variants come from lowering all operator cases and some random graphs for several targets.

mod control_flow;
mod dialects;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

use super::{Class, Kernel, Target};
use crate::graph::random::RandomGraph;
use crate::ops::case::graph_of_case;
use crate::ops::tests::{all_cases, inputs_of};
use crate::plan::tests::planned;
use crate::plan::{Options, Plan};

/// One shader text.
struct Variant {
    kernel: Kernel,
    text: String,
    /// What reaches it.
    origin: String,
    module: naga::Module,
    info: ModuleInfo,
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (of {})", self.kernel.spec().label(), self.origin)
    }
}

/// The adapters that kernels are chosen for: software and hardware, subgroups of every size in use, coarse and fine offsets.
fn targets() -> Vec<Target> {
    let mut targets = Vec::new();
    for class in [Class::Cpu, Class::Gpu] {
        for subgroup in [0, 4, 8, 16, 32, 64] {
            let offset_alignment = if subgroup == 0 { 256 } else { 32 };
            targets.push(Target { class, subgroup, offset_alignment, ..Target::FLOOR });
        }
    }
    targets
}

/// Plans of every operator case and of random graphs, with what they are of.
fn plans(target: &Target) -> Vec<(String, Plan)> {
    let mut plans = Vec::new();
    for case in all_cases() {
        let graph = graph_of_case(&case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        plans.push((case.name.clone(), planned(&graph, &inputs_of(&case), target, &Options::default())));
    }
    for seed in 0..40u32 {
        let choices: Vec<u32> = (0..12).map(|i| (seed * 12 + i).wrapping_mul(0x9e37_79b9) >> 8).collect();
        let random = RandomGraph::new(&choices);
        let plan = planned(&random.graph, &random.inputs(), target, &Options::default());
        plans.push((format!("random graph {seed}"), plan));
    }
    plans
}

/// What every adapter has, and subgroups where the kernel was chosen for a device with them.
fn capabilities(kernel_text: &str) -> Capabilities {
    let subgroups = kernel_text.contains("subgroup");
    if subgroups { Capabilities::SUBGROUP } else { Capabilities::empty() }
}

static VARIANTS: LazyLock<Vec<Variant>> = LazyLock::new(|| {
    let mut texts = BTreeMap::new();
    for target in targets() {
        for (origin, plan) in plans(&target) {
            for call in &plan.program.calls {
                let text = call.kernel.module(&plan.program.read_write(call));
                if target.subgroup == 0 {
                    assert!(!text.contains("subgroup"), "{origin} uses subgroups on a device without");
                }
                texts.entry(text).or_insert_with(|| (call.kernel.clone(), origin.clone()));
            }
        }
    }
    let variant = |(text, (kernel, origin)): (String, (Kernel, String))| {
        let label = kernel.spec().label();
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|e| panic!("{label} of {origin}: {}", e.emit_to_string(&text)));
        let info = Validator::new(ValidationFlags::all(), capabilities(&text))
            .validate(&module)
            .unwrap_or_else(|e| panic!("{label} of {origin}: {}", e.emit_to_string(&text)));
        Variant { kernel, text, origin, module, info }
    };
    texts.into_iter().map(variant).collect()
});

/// Runs `check` on every variant, and fails with all that it complains of.
fn every_variant(check: impl Fn(&Variant) -> Result<(), String>) {
    let complaints: Vec<String> =
        VARIANTS.iter().filter_map(|v| check(v).err().map(|reason| format!("{v}: {reason}"))).collect();
    let (count, total) = (complaints.len(), VARIANTS.len());
    assert!(complaints.is_empty(), "{count} of {total} variants:\n{}", complaints.join("\n"));
    assert!(total > 200, "only {total} variants");
}

#[test]
fn calls_fit_their_kernels() {
    for target in targets() {
        for (origin, plan) in plans(&target) {
            for call in &plan.program.calls {
                let spec = call.kernel.spec();
                let (slots, params) = (spec.slots(), spec.params());
                let label = spec.label();
                assert_eq!(slots.len(), call.tensors.len(), "tensors of {label} in {origin}: {slots:?}");
                assert_eq!(params.len(), call.params.len(), "params of {label} in {origin}: {params:?}");
                assert!(
                    call.grid.iter().all(|&n| n <= target.max_groups),
                    "{label} in {origin}: {:?}",
                    call.grid
                );
                for (slot, &tensor) in slots.iter().zip(&call.tensors) {
                    let word = plan.program.tensor(tensor).scalar.word();
                    // Kernels that only move data take all words for u32.
                    let fits = slot.element.contains(word) || slot.element.contains("u32");
                    assert!(fits, "{} of {label} in {origin} is {word}", slot.name);
                }
            }
        }
    }
}

#[test]
fn kernels_keep_to_the_floor() {
    every_variant(|variant| {
        let module = &variant.module;
        let [entry] = &module.entry_points[..] else { return Err("one entry point is expected".into()) };
        let invocations: u32 = entry.workgroup_size.iter().product();
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
        let (mut storage, mut shared) = (0, 0);
        for (_, variable) in module.global_variables.iter() {
            match variable.space {
                naga::AddressSpace::Storage { .. } => storage += 1,
                naga::AddressSpace::WorkGroup => shared += layouter[variable.ty].size,
                _ => {}
            }
        }
        match (invocations <= 256, storage <= 8, shared <= 16 << 10) {
            (true, true, true) => Ok(()),
            _ => Err(format!("{invocations} invocations, {storage} storage bindings, {shared} bytes shared")),
        }
    });
}
