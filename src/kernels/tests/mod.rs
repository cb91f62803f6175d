//! Every shader variant that the operators' cases reach, without a device: through naga's writers for the three kinds of
//! drivers, through wgpu's validation of every dispatch, and against what the specs say of their shaders.

mod dtypes;
mod floats;
mod loops;
mod narrow;
mod sixteen_bits;
mod small;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, FunctionInfo, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{Block, Module, Statement};

use super::{Class, MAX_BINDINGS, Target, Variant};
use crate::facts::InputFact;
use crate::internals::cases::planner;
use crate::internals::cases::{all_cases, inputs_of};
use crate::ops::Graph;
use crate::ops::case::{self, Case, graph_of_case};
use crate::plan::tests::planned;
use crate::{Device, Session, SessionOptions, Tensor};

/// The properties of a target on which lowering chooses kernels.
fn targets() -> Vec<Target> {
    let target = |class| move |subgroup| Target { class, subgroup, ..Target::FLOOR };
    [Class::Cpu, Class::Gpu].into_iter().flat_map(|class| [0, 4, 8, 32].map(target(class))).collect()
}

/// The variants that all cases need on all targets, each with the first case that needs it.
static VARIANTS: LazyLock<HashMap<Variant, String>> = LazyLock::new(|| {
    let targets = targets();
    let mut variants = HashMap::new();
    let alone = |case: &Case| (graph_of_case(case).unwrap(), inputs_of(case));
    let graphs = |case: Case| {
        std::iter::once(alone(&case)).chain(with_prologue(&case)).map(move |g| (case.clone(), g))
    };
    for (case, (graph, inputs)) in all_cases().into_iter().flat_map(graphs) {
        for target in &targets {
            let plan = planned(&graph, &inputs, target).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            for call in &plan.program.calls {
                let spec = call.kernel.spec();
                let counts = (call.tensors.len(), call.params.len());
                assert_eq!(
                    counts,
                    (spec.slots().len(), call.kernel.params().len()),
                    "{}, {}",
                    case.name,
                    spec.label()
                );
                let variant = plan.program.variant(call);
                variants.entry(variant).or_insert_with(|| case.name.clone());
            }
        }
    }
    variants
});

/// Calls `check` with the WGSL of every variant; an error says what is wrong with it.
fn each_variant(check: impl Fn(&Variant, &str) -> Result<(), String>) {
    let mut texts: HashMap<String, &Variant> = HashMap::new();
    let mut twice = Vec::new();
    let mut failures = Vec::new();
    for (variant, case) in VARIANTS.iter() {
        let text = variant.module(&Target::FLOOR);
        if let Err(reason) = check(variant, &text) {
            failures.push(format!("{} of {case}: {reason}", variant.kernel.spec().label()));
        }
        if let Some(other) = texts.insert(text, variant) {
            twice.push((other, variant));
        }
    }
    failures.sort();
    let shown = failures[..failures.len().min(40)].join("\n");
    assert!(failures.is_empty(), "{} of {} variants:\n{shown}", failures.len(), VARIANTS.len());
    // Two specs with the same text would make two pipelines where one is enough.
    assert!(twice.is_empty(), "{twice:#?}");
}

fn parsed(text: &str) -> Result<Module, String> {
    naga::front::wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))
}

fn validated(module: &Module, capabilities: Capabilities) -> Result<ModuleInfo, String> {
    let valid = Validator::new(ValidationFlags::all(), capabilities).validate(module);
    valid.map_err(|error| format!("{:?}", error.into_inner()))
}

/// A writer may panic on what it does not know.
fn caught<T, E: std::fmt::Display>(what: &str, write: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    let written = catch_unwind(AssertUnwindSafe(write)).map_err(|_| format!("{what}: the writer panics"))?;
    written.map_err(|error| format!("{what}: {error}"))
}

const STAGE: naga::ShaderStage = naga::ShaderStage::Compute;

#[test]
fn drivers_of_three_kinds_can_be_given_every_shader() {
    each_variant(|_, text| {
        let module = parsed(text)?;
        if !module.overrides.is_empty() {
            return Err("overrides must be resolved before it is written".into());
        }
        let info = validated(&module, spv::supported_capabilities())?;
        let pipeline = spv::PipelineOptions { shader_stage: STAGE, entry_point: "main".into() };
        let options =
            spv::Options { lang_version: (1, 3), fake_missing_bindings: true, ..Default::default() };
        let words = caught("SPIR-V", || spv::write_vec(&module, &info, &options, Some(&pipeline)))?;
        if words.len() < 5 {
            return Err("SPIR-V: it is empty".into());
        }
        let info = validated(&module, msl::supported_capabilities())?;
        let pipeline =
            msl::PipelineOptions { entry_point: Some((STAGE, "main".into())), ..Default::default() };
        // Metal 2.4 is what macOS 12 has.
        let options = msl::Options { lang_version: (2, 4), ..Default::default() };
        caught("MSL", || msl::write_string(&module, &info, &options, &pipeline))?;
        let info = validated(&module, hlsl::supported_capabilities())?;
        let pipeline = hlsl::PipelineOptions { entry_point: Some((STAGE, "main".into())) };
        let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_0, ..Default::default() };
        let mut text = String::new();
        caught("HLSL", || hlsl::Writer::new(&mut text, &options, &pipeline).write(&module, &info, None))?;
        Ok(())
    });
}

/// Adapters of WebGPU's floor have no subgroups and no types of 16 or 64 bits: only a property of the target may bring these
/// into a text.
#[test]
fn without_subgroups_nothing_but_core_wgsl_is_used() {
    let floor = Target { subgroup: 0, ..Target::FLOOR };
    for case in all_cases() {
        let plan = planned(&graph_of_case(&case).unwrap(), &inputs_of(&case), &floor).unwrap();
        for call in &plan.program.calls {
            let slots = call.kernel.slots();
            assert!(slots.len() <= MAX_BINDINGS, "{}: {} bindings", case.name, slots.len());
            let module = parsed(&plan.program.variant(call).module(&floor)).unwrap();
            if let Err(reason) = validated(&module, Capabilities::empty()) {
                panic!("{}, {}: {reason}", case.name, call.kernel.spec().label());
            }
            let [x, y, z] = module.entry_points[0].workgroup_size;
            assert!(x * y * z <= 256, "{}", case.name);
        }
    }
}

/// The case's graph with its first input multiplied by a vector, if the operator takes a prologue there.
fn with_prologue(case: &Case) -> Option<(Graph, Vec<Tensor>)> {
    let (mut graph, mut inputs) = (graph_of_case(case).unwrap(), inputs_of(case));
    let (first, tensor) = (*graph.inputs.first()?, inputs.first()?);
    let node = graph.nodes.first()?;
    let takes = node.inputs.first() == Some(&Some(first)) && node.op.operator().takes_prologue();
    if !takes || tensor.dtype() != crate::DType::F32 || tensor.is_empty() || tensor.shape().is_empty() {
        return None;
    }
    let (shape, length) = (tensor.shape().to_vec(), tensor.shape().last().copied().unwrap_or(1));
    let mul = Case::new("Mul", "prologue").input(case::random(&shape)).input(case::random(&[length]));
    let mut mul = graph_of_case(&mul).unwrap().nodes.remove(0);
    let value = |name: &str| crate::graph::Value {
        name: name.into(),
        dtype: Some(crate::DType::F32),
        ..crate::graph::Value::default()
    };
    let (factor, scaled) = (graph.add_value(value("factor")), graph.add_value(value("scaled")));
    mul.inputs = vec![Some(first), Some(factor)];
    mul.outputs = vec![Some(scaled)];
    graph.inputs.push(factor);
    inputs.push(case::random(&[length]));
    graph.nodes[0].inputs[0] = Some(scaled);
    graph.nodes.insert(0, mul);
    graph.verify().unwrap();
    Some((graph, inputs))
}

/// The case's graph with as many nodes after its first output as fuse, if that output is a number.
fn with_epilogue(case: &Case) -> Option<(Graph, Vec<Tensor>)> {
    let (mut graph, mut inputs) = (graph_of_case(case).unwrap(), inputs_of(case));
    let given: Vec<InputFact> = inputs.iter().cloned().map(InputFact::from).collect();
    let facts = planner(&graph, &Target::FLOOR).facts(&given).unwrap();
    let fact = facts.get(graph.outputs[0])?;
    if fact.dtype != crate::DType::F32 || fact.count() == 0 {
        return None;
    }
    for i in 0..4 {
        let add =
            Case::new("Add", "epilogue").input(case::random(&fact.shape)).input(case::random(&fact.shape));
        let mut node = graph_of_case(&add).unwrap().nodes.remove(0);
        let value = |name: &str| crate::graph::Value {
            name: format!("{name}_{i}"),
            dtype: Some(fact.dtype),
            ..crate::graph::Value::default()
        };
        let (operand, sum) = (graph.add_value(value("operand")), graph.add_value(value("sum")));
        node.inputs = vec![Some(graph.outputs[0]), Some(operand)];
        node.outputs = vec![Some(sum)];
        graph.inputs.push(operand);
        inputs.push(case::random(&fact.shape));
        graph.nodes.push(node);
        graph.outputs[0] = sum;
    }
    graph.verify().unwrap();
    Some((graph, inputs))
}

#[test]
fn an_epilogue_leaves_the_bindings_within_the_floor() {
    for case in all_cases() {
        let Some((graph, inputs)) = with_epilogue(&case) else { continue };
        for target in targets() {
            let plan = planned(&graph, &inputs, &target).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            for call in &plan.program.calls {
                let (spec, bindings) = (call.kernel.spec(), call.tensors.len());
                assert!(bindings <= MAX_BINDINGS, "{}: {} has {bindings} bindings", case.name, spec.label());
            }
        }
    }
}

#[test]
fn specs_list_what_their_shaders_bind() {
    each_variant(|variant, text| {
        let module = parsed(text)?;
        let info = validated(&module, Capabilities::all())?;
        let used = info.get_entry_point(0);
        let (slots, mut params) = (variant.kernel.slots(), variant.kernel.params());
        if params.is_empty() {
            params.push("unused".into());
        }
        let mut bindings = 0;
        for (handle, variable) in module.global_variables.iter() {
            let Some(binding) = &variable.binding else { continue };
            bindings += 1;
            let i = binding.binding as usize;
            let uses = used[handle];
            if let naga::AddressSpace::Uniform = variable.space {
                let naga::TypeInner::Struct { members, .. } = &module.types[variable.ty].inner else {
                    return Err("params are no struct".into());
                };
                let names: Vec<&str> = members.iter().filter_map(|member| member.name.as_deref()).collect();
                if i != slots.len() || names != params {
                    return Err(format!("binding {i} has the words {names:?}, and the spec says {params:?}"));
                }
                continue;
            }
            let slot = slots.get(i).ok_or_else(|| format!("binding {i} is beyond the slots"))?;
            let stores = uses.intersects(GlobalUse::WRITE | GlobalUse::ATOMIC);
            if variable.name.as_deref() != Some(slot.name.as_str()) || stores != slot.written {
                return Err(format!(
                    "binding {i} is {:?} with uses {uses:?}, and the spec says {slot:?}",
                    variable.name
                ));
            }
            if uses.is_empty() {
                return Err(format!("'{}' is bound, and not used", slot.name));
            }
            let writable = variant.is_writable(i, slot);
            let naga::AddressSpace::Storage { access } = variable.space else {
                return Err(format!("binding {i} is no storage"));
            };
            if access.contains(naga::StorageAccess::STORE) != writable {
                return Err(format!("binding {i} is declared {access:?}"));
            }
        }
        if bindings != slots.len() + 1 {
            Err(format!("{bindings} bindings, {} slots", slots.len()))
        } else {
            Ok(())
        }
    });
}

/// Whether all invocations of a workgroup (for subgroup operations: of a subgroup) reach the statements that need all of them.
/// naga accepts a barrier after a return.
struct Flow<'a> {
    info: &'a FunctionInfo,
    returned: bool,
}

impl Flow<'_> {
    /// `divergent`: whether a condition around the block differs between invocations.
    fn check(&mut self, block: &Block, divergent: bool) -> Result<(), String> {
        for statement in block {
            match statement {
                Statement::Return { .. } | Statement::Kill => self.returned = true,
                Statement::ControlBarrier(_)
                | Statement::WorkGroupUniformLoad { .. }
                | Statement::SubgroupBallot { .. }
                | Statement::SubgroupGather { .. }
                | Statement::SubgroupCollectiveOperation { .. }
                    if divergent || self.returned =>
                {
                    let why = if divergent { "under a divergent condition" } else { "after a return" };
                    return Err(format!("{statement:?} {why}"));
                }
                Statement::Block(block) => self.check(block, divergent)?,
                Statement::If { condition, accept, reject } => {
                    let differs = self.info[*condition].uniformity.non_uniform_result.is_some();
                    self.check(accept, divergent || differs)?;
                    self.check(reject, divergent || differs)?;
                }
                Statement::Switch { selector, cases } => {
                    let differs = self.info[*selector].uniformity.non_uniform_result.is_some();
                    cases.iter().try_for_each(|case| self.check(&case.body, divergent || differs))?;
                }
                // Loops count between values that a workgroup shares; naga does not follow these through variables.
                Statement::Loop { body, continuing, .. } => {
                    self.check(body, divergent)?;
                    self.check(continuing, divergent)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[test]
fn barriers_are_in_uniform_control_flow() {
    each_variant(|_, text| {
        let module = parsed(text)?;
        let info = validated(&module, Capabilities::all())?;
        let main = &module.entry_points[0].function;
        // naga's front end ends a body with a return.
        let mut flow = Flow { info: info.get_entry_point(0), returned: false };
        flow.check(&main.body, false)?;
        for (handle, function) in module.functions.iter() {
            Flow { info: &info[handle], returned: false }.check(&function.body, true)?;
        }
        Ok(())
    });
}

#[test]
fn every_dispatch_is_valid() {
    let mut failures = Vec::new();
    for target in targets() {
        let device = Device::noop_for(target.clone());
        for case in all_cases() {
            let graph = Arc::new(graph_of_case(&case).unwrap());
            let run = || -> crate::Result<()> {
                let session =
                    Session::of_graph(&device, graph.clone(), SessionOptions::default(), Vec::new())?;
                let inputs = inputs_of(&case);
                let names = graph.inputs.iter().map(|id| graph.value(*id).name.as_str());
                let named: Vec<(&str, &Tensor)> = names.zip(&inputs).collect();
                session.run(&named)?;
                Ok(())
            };
            if let Err(error) = run() {
                failures.push(format!("{} for {:?}: {error}", case.name, (target.class, target.subgroup)));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
