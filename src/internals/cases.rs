//! What every case of every operator must show: the reference agrees with inference, and devices agree with the reference.

use std::collections::HashMap;
use std::sync::Arc;

use super::sizes;
use crate::facts::{FactBase, InputFact};
use crate::kernels::Target;
use crate::ops::case::{self, Case, graph_of_case, graph_wanting};
use crate::ops::{Graph, Op, composed, rows};
use crate::plan::{Options, Planner};
use crate::{
    DType, Device, Interrupt, Result, Session, SessionOptions, Tensor, Tolerance, passes, reference,
};

/// The cases that a device runs.
#[cfg(test)]
pub(crate) fn all_cases() -> Vec<Case> {
    listed_cases().into_iter().filter(|case| !is_for_host(case)).collect()
}

/// All cases, also those on strings.
pub(crate) fn listed_cases() -> Vec<Case> {
    rows().flat_map(|row| (row.cases)()).collect()
}

/// Whether the host runs the node of a case, as it handles strings.
#[cfg(test)]
pub(crate) fn is_for_host(case: &Case) -> bool {
    let graph = graph_of_case(case).ok();
    graph.is_some_and(|graph| graph.nodes.iter().any(|node| node.runs_on_host(&graph.kinds())))
}

/// The check of one case or of one graph.
#[derive(Clone, Debug)]
pub struct Check {
    name: String,
    place: CheckPlace,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// Compares the reference's outputs with their facts.
    Reference(Case),
    /// Compares a device's outputs with the reference's.
    Device(Case, Sizes),
    /// Likewise, for an operator whose outputs' sizes follow from data, after the passes that a model goes through.
    OfData(Case, Sizes),
    /// Likewise, with operands of one element in other ranks, or with float16 instead of float32, where two elements share a
    /// word (a store must not change the other). What the reference refuses, the device must refuse too.
    Variant(Case),
    /// Likewise, where only this output is read.
    Output(Case, usize),
    /// Likewise, for many sizes in one session.
    ManySizes(Case),
    /// Compares a random graph, for many sizes in one session.
    Random(u64),
}

/// The result of a check that finds nothing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// There was nothing to compare.
    Nothing,
}

/// The number of random graphs, if the environment asks for no other.
const GRAPHS: u64 = 400;

/// Where a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckPlace {
    /// On the CPU reference.
    Reference,
    /// On a device, with its own kernels.
    Device,
    /// On every device with its own kernels, and with those of the other class on one device, which this number chooses.
    Kernels(usize),
    /// On every device, with each class of kernels that it can run.
    Everywhere,
    /// On one device for each class of kernels; this number chooses the device.
    Turn(usize),
}

/// The sizes that a graph's inputs may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sizes {
    /// The sizes of the case.
    Fixed,
    /// Any sizes, so that kernels have variants that serve others too.
    Open,
}

/// All checks of all cases and random graphs. Each has its own name, except that a check on the reference has the name of
/// those on devices. `SARDONYX_GRAPHS=2000` makes 2,000 random graphs, from number `SARDONYX_SEED` on, and all checks run on all
/// devices with each class of kernels.
pub fn checks() -> Vec<Check> {
    let (mut seen, mut checks) = (HashMap::new(), Vec::new());
    for (i, case) in listed_cases().into_iter().enumerate() {
        let domain = if case.domain.is_empty() { String::new() } else { format!("{}.", case.domain) };
        let mut name = format!("ops/{domain}{}", case.name);
        let count = *seen.entry(name.clone()).and_modify(|count| *count += 1).or_insert(1);
        if count > 1 {
            name += &format!("-{count}");
        }
        checks.extend(checks_of(&name, case, i));
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, count) = (number("SARDONYX_SEED").unwrap_or(0), number("SARDONYX_GRAPHS"));
    checks.extend((first..first + count.unwrap_or(GRAPHS)).map(|seed| Check {
        name: format!("random/{seed}"),
        place: if count.is_some() { CheckPlace::Everywhere } else { CheckPlace::Turn(seed as usize) },
        what: What::Random(seed),
    }));
    checks
}

fn checks_of(name: &str, case: Case, turn: usize) -> Vec<Check> {
    let new = |suffix: &str, place, what| Check { name: format!("{name}{suffix}"), place, what };
    let everywhere = std::env::var_os("SARDONYX_GRAPHS").is_some();
    let kernels =
        |next: usize| if everywhere { CheckPlace::Everywhere } else { CheckPlace::Kernels(turn + next) };
    let mut checks = vec![
        new("", CheckPlace::Reference, What::Reference(case.clone())),
        new("", kernels(0), What::Device(case.clone(), Sizes::Fixed)),
        new("/any-size", kernels(1), What::Device(case.clone(), Sizes::Open)),
        new("/many-sizes", CheckPlace::Turn(turn), What::ManySizes(case.clone())),
    ];
    // What planning knows in the case, a run computes.
    let mut of_data = case.clone();
    of_data.constants.clear();
    if graph_of_case(&case).is_ok_and(|graph| !graph.nodes[0].op.operator().counted().is_empty()) {
        checks.extend([
            new("/of-data", kernels(0), What::OfData(of_data.clone(), Sizes::Fixed)),
            new("/of-data/any-size", kernels(1), What::OfData(of_data, Sizes::Open)),
        ]);
    }
    let several = if case.outputs > 1 { case.outputs } else { 0 };
    let output =
        |i: usize| new(&format!("/only-output-{i}"), CheckPlace::Device, What::Output(case.clone(), i));
    checks.extend((0..several).map(output));
    checks.extend(ranked(&case).map(|(suffix, case)| new(&suffix, CheckPlace::Device, What::Variant(case))));
    checks.extend(in_float16(&case).map(|case| new("/float16", kernels(0), What::Variant(case))));
    checks
}

/// The case with each operand of one element in other ranks. Inference alone decides whether an operator takes these, and the
/// shape of its result.
fn ranked(case: &Case) -> impl Iterator<Item = (String, Case)> {
    let single = |i: usize| case.inputs[i].as_ref().filter(|tensor| tensor.len() == 1);
    let operands = (0..case.inputs.len()).filter_map(move |i| Some((i, single(i)?)));
    operands.flat_map(move |(i, tensor)| {
        let others = [0, 1, 2, 4].into_iter().filter(|&rank| rank != tensor.shape().len());
        others.filter_map(move |rank| {
            let mut ranked = case.clone();
            ranked.inputs[i] = Some(tensor.reshaped(&vec![1; rank]).ok()?);
            Some((format!("/input-{i}-of-rank-{rank}"), ranked))
        })
    })
}

/// The case with float16 instead of float32, if it has any float32.
fn in_float16(case: &Case) -> Option<Case> {
    // Where a result is rounded in stages, each stage may be off by a unit, for terms of order 1.
    const STAGES: f64 = 2.0 / 1024.0;
    let mut halved = case.clone();
    if halved.tolerance != Tolerance::EXACT {
        let Tolerance { relative, absolute } = halved.tolerance;
        halved.tolerance = Tolerance { relative: relative + STAGES, absolute: absolute + STAGES };
    }
    for tensor in halved.inputs.iter_mut().flatten().filter(|tensor| tensor.dtype() == DType::F32) {
        *tensor = case::converted(tensor, DType::F16);
    }
    // The result of a float beyond the range of an integer type is not defined.
    let outside = case.name.ends_with("large_to_uint32");
    (halved.inputs != case.inputs && !outside).then_some(halved)
}

impl Check {
    /// The operator, the case, and what is special about the check.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is to run.
    pub fn place(&self) -> CheckPlace {
        self.place
    }

    /// Runs the check. The error says what is wrong.
    pub fn run(&self, device: &Device) -> Result<Outcome, String> {
        let found = match &self.what {
            What::Reference(case) => inferred(case),
            What::Device(case, sizes) => compared(case, device, *sizes),
            What::OfData(case, sizes) => of_data(case, device, *sizes),
            What::Variant(case) if expected(case).is_err() => {
                Ok(on_device(case, device, Sizes::Fixed).ok().map(|_| "is not refused".to_string()))
            }
            What::Variant(case) => compared(case, device, Sizes::Fixed),
            What::Output(case, only) => alone(case, device, *only),
            What::ManySizes(case) => match sizes::moved_case(case, device) {
                (None, 0) => return Ok(Outcome::Nothing),
                (wrong, _) => Ok(wrong),
            },
            What::Random(seed) if sizes::takes_sizes(*seed) => {
                return sizes::random_graph(*seed, device).map(|()| Outcome::Passed);
            }
            What::Random(_) => return Ok(Outcome::Nothing),
        };
        match found {
            Ok(None) => Ok(Outcome::Passed),
            Ok(Some(reason)) => Err(reason),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Where `actual` differs from what is expected of a device by more than the tolerance, if it does.
pub(crate) fn difference(expected: &Tensor, actual: &Tensor, tolerance: Tolerance) -> Option<String> {
    // A dtype with fewer bits than float32 may be rounded either way.
    let unit = match expected.dtype() {
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        _ => 0.0,
    };
    let tolerance = Tolerance { relative: tolerance.relative + unit, ..tolerance };
    match actual.difference(expected, tolerance) {
        Ok(difference) => difference.map(|difference| difference.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

/// The planner of a graph, with default options.
pub(crate) fn planner(graph: &Graph, target: &Target) -> Planner {
    let graph = composed::expanded(Arc::new(graph.clone())).unwrap();
    Planner::new(graph, target.clone(), Options::default()).unwrap()
}

/// The graph of a case in which no dimension is fixed, and its inputs.
pub(crate) fn open_graph(case: &Case) -> Option<(Graph, Vec<InputFact>)> {
    let mut graph = graph_of_case(case).ok()?;
    for id in graph.inputs.clone() {
        graph.values[id.index()].shape = None;
    }
    let inputs = inputs_of(case).into_iter().map(InputFact::from).collect();
    Some((graph, inputs))
}

pub(crate) fn inputs_of(case: &Case) -> Vec<Tensor> {
    let given = case.inputs.iter().enumerate().filter(|(i, _)| !case.constants.contains(i));
    given.filter_map(|(_, tensor)| tensor.clone()).collect()
}

fn expected(case: &Case) -> Result<Vec<Tensor>> {
    let graph = graph_of_case(case)?;
    let values = reference::run(&graph, &inputs_of(case), false, &Interrupt::new())?;
    reference::outputs(&graph, &values)
}

pub(crate) fn on_device(case: &Case, device: &Device, sizes: Sizes) -> Result<Vec<Tensor>> {
    on_device_with(SessionOptions::default(), case, device, sizes)
}

fn on_device_with(
    options: SessionOptions,
    case: &Case,
    device: &Device,
    sizes: Sizes,
) -> Result<Vec<Tensor>> {
    let mut graph = graph_of_case(case)?;
    if sizes == Sizes::Open {
        graph.inputs.clone().iter().for_each(|id| graph.values[id.index()].shape = None);
    }
    let session = Session::of_graph(device, Arc::new(graph), options, Vec::new())?;
    run(&session, case)
}

/// How the outputs differ from the reference's, where a run of the model computes their sizes.
fn of_data(case: &Case, device: &Device, sizes: Sizes) -> Result<Option<String>> {
    let mut graph = graph_of_case(case)?;
    if sizes == Sizes::Open {
        graph.inputs.clone().iter().for_each(|id| graph.values[id.index()].shape = None);
    }
    let graph = Arc::new(passes::run(graph, &crate::Limits::default())?);
    let session = Session::of_graph(device, graph, SessionOptions::default(), Vec::new())?;
    let (expected, actual) = (expected(case)?, run(&session, case)?);
    Ok(expected.iter().zip(&actual).find_map(|(e, a)| difference(e, a, case.tolerance)))
}

fn run(session: &Session, case: &Case) -> Result<Vec<Tensor>> {
    let inputs = inputs_of(case);
    let names: Vec<String> =
        session.graph().inputs.iter().map(|id| session.graph().value(*id).name.clone()).collect();
    let named: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(&inputs).collect();
    Ok(session.run(&named)?.into_iter().map(|(_, tensor)| tensor).collect())
}

/// How the device's outputs differ from the reference's, if they do.
pub(crate) fn compared(case: &Case, device: &Device, sizes: Sizes) -> Result<Option<String>> {
    let (expected, actual) = (expected(case)?, on_device(case, device, sizes)?);
    Ok(expected.iter().zip(&actual).find_map(|(e, a)| difference(e, a, case.tolerance)))
}

/// The same in a session with these options.
#[cfg(test)]
pub(crate) fn compared_with(options: SessionOptions, case: &Case, device: &Device) -> Result<Option<String>> {
    let (expected, actual) = (expected(case)?, on_device_with(options, case, device, Sizes::Fixed)?);
    Ok(expected.iter().zip(&actual).find_map(|(e, a)| difference(e, a, case.tolerance)))
}

/// How an output differs from the reference's, where only this output is read.
fn alone(case: &Case, device: &Device, only: usize) -> Result<Option<String>> {
    let one = |device: &Device| -> Result<Tensor> {
        let wanted: Vec<bool> = (0..case.outputs).map(|i| i == only).collect();
        let mut graph = graph_wanting(case, &wanted)?;
        graph.nodes[0].outputs.truncate(only + 1);
        let session = Session::of_graph(device, Arc::new(graph), SessionOptions::default(), vec![])?;
        Ok(run(&session, case)?.remove(0))
    };
    Ok(difference(&one(&Device::reference())?, &one(device)?, case.tolerance))
}

/// How the reference's outputs differ from what inference says, if they do.
fn inferred(case: &Case) -> Result<Option<String>> {
    let graph = graph_of_case(case)?;
    if let Op::Unsupported(reason) = &*graph.nodes[0].op {
        return Ok(Some(format!("unsupported: {reason}")));
    }
    let outputs = expected(case)?;
    let inputs: Vec<InputFact> = inputs_of(case).into_iter().map(InputFact::from).collect();
    let facts = {
        let base = FactBase::new(&graph, &crate::Limits::default())?;
        base.bind(&graph, &inputs, &base.budget())?
    };
    let wrong = graph.outputs.iter().zip(&outputs).find_map(|(id, tensor)| {
        let computed = format!("{}{:?}", tensor.dtype(), tensor.shape());
        match facts.get(*id) {
            None => Some(format!("inferred nothing, computed {computed}")),
            Some(fact) if (fact.dtype, fact.shape.as_slice()) != (tensor.dtype(), tensor.shape()) => {
                Some(format!("inferred {fact}, computed {computed}"))
            }
            Some(_) => None,
        }
    });
    Ok(wrong)
}

/// Whether the case is wanted: `SARDONYX_CASES=Softmax` leaves only cases whose names contain this text.
#[cfg(test)]
pub(crate) fn wanted(case: &Case) -> bool {
    std::env::var("SARDONYX_CASES").map_or(true, |text| case.name.contains(&text))
}
