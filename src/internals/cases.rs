//! What every case of every operator must show: the reference agrees with inference, and a device with the reference.

use std::collections::HashMap;
use std::sync::Arc;

use crate::facts::{FactBase, Input};
use crate::ops::case::{self, Case, graph_of_case, graph_wanting};
use crate::ops::{Op, rows};
use crate::{DType, Device, Result, Session, SessionOptions, Tensor, Tolerance, reference};

pub(crate) fn all_cases() -> Vec<Case> {
    rows().flat_map(|row| (row.cases)()).collect()
}

/// What is held against what, for one case.
#[derive(Clone, Debug)]
pub struct Check {
    name: String,
    case: Case,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    /// The reference's outputs against their facts.
    Reference,
    /// A device's outputs against the reference's.
    Device(Sizes),
    /// The same for operands of one element under other ranks; what the reference refuses, the device refuses too.
    Rank,
    /// The same for float16 instead of float32, of which two elements share a word: a store must leave the other alone.
    Halves,
    /// The same where only this output is wanted.
    Output(usize),
}

/// Where a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the CPU reference.
    Reference,
    /// On a device, with its own kernels.
    Device,
    /// On a device, with each class of kernels that it can run.
    Kernels,
}

/// Which sizes a graph's inputs may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sizes {
    /// Those of the case.
    Fixed,
    /// Any: kernels then have forms that serve others too.
    Open,
}

/// All checks of all cases, with names of their own but for those on the reference, which are called as those on devices.
pub fn checks() -> Vec<Check> {
    let (mut seen, mut checks) = (HashMap::new(), Vec::new());
    for case in all_cases() {
        let domain = if case.domain.is_empty() { String::new() } else { format!("{}.", case.domain) };
        let mut name = format!("{domain}{}", case.name);
        let count = *seen.entry(name.clone()).and_modify(|count| *count += 1).or_insert(1);
        if count > 1 {
            name += &format!("-{count}");
        }
        checks.extend(checks_of(&name, case));
    }
    checks
}

fn checks_of(name: &str, case: Case) -> Vec<Check> {
    let new = |what, suffix: &str| Check { name: format!("{name}{suffix}"), case: case.clone(), what };
    let mut checks = vec![
        new(What::Reference, ""),
        new(What::Device(Sizes::Fixed), ""),
        new(What::Device(Sizes::Open), "/any-size"),
    ];
    let several = if case.outputs > 1 { case.outputs } else { 0 };
    checks.extend((0..several).map(|i| new(What::Output(i), &format!("/only-output-{i}"))));
    checks.extend(ranked(&case).map(|(suffix, case)| Check {
        name: format!("{name}{suffix}"),
        case,
        what: What::Rank,
    }));
    checks.extend(in_float16(&case).map(|case| Check {
        name: format!("{name}/float16"),
        case,
        what: What::Halves,
    }));
    checks
}

/// The case with each operand of one element under other ranks: whether an operator takes those, and what its result's shape
/// is then, is for its inference to say, and for nothing else.
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

/// The case with float16 instead of float32, if it has some.
fn in_float16(case: &Case) -> Option<Case> {
    // Of what is rounded in stages, each may be off by a unit, of terms of order 1.
    const STAGES: f64 = 2.0 / 1024.0;
    let mut halved = case.clone();
    if halved.tolerance != Tolerance::EXACT {
        let Tolerance { relative, absolute } = halved.tolerance;
        halved.tolerance = Tolerance { relative: relative + STAGES, absolute: absolute + STAGES };
    }
    for tensor in halved.inputs.iter_mut().flatten().filter(|tensor| tensor.dtype() == DType::F32) {
        *tensor = case::converted(tensor, DType::F16);
    }
    // What a float beyond an integer type becomes is nobody's to say.
    let outside = case.name.ends_with("large_to_uint32");
    (halved.inputs != case.inputs && !outside).then_some(halved)
}

impl Check {
    /// Operator, case, and what is special about the check.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is to run.
    pub fn place(&self) -> Place {
        match self.what {
            What::Reference => Place::Reference,
            What::Device(_) | What::Halves => Place::Kernels,
            What::Rank | What::Output(_) => Place::Device,
        }
    }

    /// Runs it; what is wrong, if something is.
    pub fn run(&self, device: &Device) -> Result<(), String> {
        let case = &self.case;
        let outcome = match self.what {
            What::Reference => inferred(case),
            What::Device(sizes) => compared(case, device, sizes),
            What::Rank | What::Halves if expected(case).is_err() => {
                Ok(on_device(case, device, Sizes::Fixed).ok().map(|_| "is not refused".to_string()))
            }
            What::Rank | What::Halves => compared(case, device, Sizes::Fixed),
            What::Output(only) => alone(case, device, only),
        };
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some(reason)) => Err(reason),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Where `actual` differs from what is expected of a device by more than the tolerance, if it does.
pub(crate) fn difference(expected: &Tensor, actual: &Tensor, tolerance: Tolerance) -> Option<String> {
    // A dtype with fewer bits than f32 may round either way.
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

pub(crate) fn inputs_of(case: &Case) -> Vec<Tensor> {
    let given = case.inputs.iter().enumerate().filter(|(i, _)| !case.constants.contains(i));
    given.filter_map(|(_, tensor)| tensor.clone()).collect()
}

fn expected(case: &Case) -> Result<Vec<Tensor>> {
    let graph = graph_of_case(case)?;
    let values = reference::run(&graph, &inputs_of(case), false)?;
    reference::outputs(&graph, &values)
}

fn on_device(case: &Case, device: &Device, sizes: Sizes) -> Result<Vec<Tensor>> {
    let mut graph = graph_of_case(case)?;
    if sizes == Sizes::Open {
        graph.inputs.clone().iter().for_each(|id| graph.values[id.index()].shape = None);
    }
    let session = Session::of_graph(device, Arc::new(graph), SessionOptions::default(), Vec::new())?;
    run(&session, case)
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

/// How an output differs from the reference's where it alone is wanted: whatever else the node could make is no matter.
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

/// How the reference's outputs differ from what inference says of them, if they do.
fn inferred(case: &Case) -> Result<Option<String>> {
    let graph = graph_of_case(case)?;
    if let Op::Unsupported(reason) = &graph.nodes[0].op {
        return Ok(Some(format!("unsupported: {reason}")));
    }
    let outputs = expected(case)?;
    let inputs: Vec<Input> = inputs_of(case).into_iter().map(Input::from).collect();
    let facts = FactBase::new(&graph)?.bind(&graph, &inputs)?;
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

/// `SARDONYX_CASES=Softmax` leaves only cases whose names contain that.
#[cfg(test)]
pub(crate) fn wanted(case: &Case) -> bool {
    std::env::var("SARDONYX_CASES").map_or(true, |text| case.name.contains(&text))
}
