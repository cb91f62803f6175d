//! Every case of every operator: the reference against the facts, each adapter present against the reference, and each
//! kernel through wgpu's validation without a device.

use std::sync::Arc;

use super::case::{Case, Tolerance, graph_of_case, graph_wanting};
use super::{Array, Op, rows};
use crate::array::Numbers;
use crate::facts::Input;
use crate::kernels::{Class, Target};
use crate::plan::tests::planner;
use crate::{
    Device, DeviceOptions, Error, Result, Select, Session, SessionOptions, Tensor, adapters, reference,
};

pub(crate) fn all_cases() -> Vec<Case> {
    rows().flat_map(|row| (row.cases)()).collect()
}

/// Why two arrays differ, if they do by more than the tolerance.
pub(crate) fn difference(expected: &Array, actual: &Array, tolerance: Tolerance) -> Option<String> {
    if (expected.dtype, &expected.shape) != (actual.dtype, &actual.shape) {
        let text = |a: &Array| format!("{}{:?}", a.dtype, a.shape);
        return Some(format!("expected {}, got {}", text(expected), text(actual)));
    }
    // A dtype with fewer bits than f32 may round either way.
    let unit = match expected.dtype {
        crate::DType::F16 => 1.0 / 1024.0,
        crate::DType::BF16 => 1.0 / 128.0,
        _ => 0.0,
    };
    let far = |e: f64, a: f64| {
        let same = e == a || (e.is_nan() && a.is_nan());
        let limit = tolerance.absolute + (tolerance.relative + unit) * e.abs();
        !same && (!e.is_finite() || !a.is_finite() || (e - a).abs() > limit)
    };
    match (&expected.data, &actual.data) {
        (Numbers::Float(e), Numbers::Float(a)) => {
            let at = (0..e.len()).find(|&i| far(e[i], a[i]))?;
            Some(format!("element {at}: expected {}, got {}", e[at], a[at]))
        }
        (Numbers::Int(e), Numbers::Int(a)) => {
            let at = (0..e.len()).find(|&i| (e[i] - a[i]).unsigned_abs() as f64 > tolerance.absolute)?;
            Some(format!("element {at}: expected {}, got {}", e[at], a[at]))
        }
        (e, a) => (e != a).then(|| "strings differ".into()),
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

/// Which sizes a graph's inputs may have.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sizes {
    /// Those of the case.
    Fixed,
    /// Any: kernels then have forms that serve others too.
    Open,
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
    for (e, a) in expected(case)?.iter().zip(on_device(case, device, sizes)?) {
        let arrays = (Array::from_tensor(e), Array::from_tensor(&a));
        if let (Ok(e), Ok(a)) = arrays
            && let Some(difference) = difference(&e, &a, case.tolerance)
        {
            return Ok(Some(difference));
        }
    }
    Ok(None)
}

fn report(failures: Vec<String>, total: usize) {
    assert!(failures.is_empty(), "{} of {total} cases:\n{}", failures.len(), failures.join("\n"));
}

/// `SARDONYX_CASES=Softmax` runs only cases whose names contain that.
pub(crate) fn wanted(case: &Case) -> bool {
    std::env::var("SARDONYX_CASES").map_or(true, |text| case.name.contains(&text))
}

#[test]
fn reference_agrees_with_inference() {
    let mut failures = Vec::new();
    let cases = all_cases();
    for case in cases.iter().filter(|case| wanted(case)) {
        let check = || -> Result<(), String> {
            let graph = graph_of_case(case).map_err(|e| e.to_string())?;
            if let Op::Unsupported(reason) = &graph.nodes[0].op {
                return Err(format!("unsupported: {reason}"));
            }
            let outputs = expected(case).map_err(|e| e.to_string())?;
            let inputs: Vec<Input> = inputs_of(case).into_iter().map(Input::from).collect();
            let planner = planner(&graph, &Target::FLOOR);
            let facts = planner.facts(&inputs).map_err(|e| e.to_string())?;
            for (id, tensor) in graph.outputs.iter().zip(&outputs) {
                let fact = facts.get(*id).ok_or("no fact")?;
                if (fact.dtype, fact.shape.as_slice()) != (tensor.dtype(), tensor.shape()) {
                    return Err(format!("inferred {fact}, computed {}{:?}", tensor.dtype(), tensor.shape()));
                }
            }
            Ok(())
        };
        if let Err(reason) = check() {
            failures.push(format!("{}: {reason}", case.name));
        }
    }
    report(failures, cases.len());
}

/// The case with each operand of one element under other ranks: whether an operator takes those, and what its result's shape
/// is then, is for its inference to say, and for nothing else.
fn ranked(case: &Case) -> impl Iterator<Item = Case> {
    let single = |i: usize| case.inputs[i].as_ref().filter(|tensor| tensor.len() == 1);
    let operands = (0..case.inputs.len()).filter_map(move |i| Some((i, single(i)?)));
    operands.flat_map(move |(i, tensor)| {
        let others = [0, 1, 2, 4].into_iter().filter(|&rank| rank != tensor.shape().len());
        others.filter_map(move |rank| {
            let mut ranked = case.clone();
            ranked.inputs[i] = Some(tensor.reshaped(&vec![1; rank]).ok()?);
            ranked.name = format!("{}, input {i} of rank {rank}", case.name);
            Some(ranked)
        })
    })
}

#[test]
fn operands_of_one_element_may_have_any_rank() {
    let cases: Vec<Case> = all_cases().iter().filter(|case| wanted(case)).flat_map(ranked).collect();
    let mut failures = Vec::new();
    for device in devices() {
        for case in &cases {
            // The device refuses what the reference does.
            let outcome = match expected(case) {
                Ok(_) => compared(case, &device, Sizes::Fixed).map_err(|error| error.to_string()),
                Err(_) => {
                    Ok(on_device(case, &device, Sizes::Fixed).ok().map(|_| "is not refused".to_string()))
                }
            };
            if let Some(reason) = outcome.unwrap_or_else(Some) {
                failures.push(format!("{} on {}: {reason}", case.name, device.name()));
            }
        }
    }
    report(failures, cases.len());
}

/// Of what has several outputs, each alone: whatever else a node could make is no matter.
#[test]
fn any_output_may_be_the_only_one_wanted() {
    let cases = all_cases();
    let several = || cases.iter().filter(|case| case.outputs > 1 && wanted(case));
    let mut failures = Vec::new();
    for device in devices() {
        for case in several() {
            for only in 0..case.outputs {
                let one = |device: &Device| -> Result<Tensor> {
                    let wanted: Vec<bool> = (0..case.outputs).map(|i| i == only).collect();
                    let mut graph = graph_wanting(case, &wanted)?;
                    graph.nodes[0].outputs.truncate(only + 1);
                    let session =
                        Session::of_graph(device, Arc::new(graph), SessionOptions::default(), vec![])?;
                    Ok(run(&session, case)?.remove(0))
                };
                let outcome = one(&Device::reference()).and_then(|e| Ok((e, one(&device)?)));
                let arrays = outcome.map_err(|error| error.to_string()).and_then(|(e, a)| {
                    Ok((
                        Array::from_tensor(&e).map_err(|why| why.0)?,
                        Array::from_tensor(&a).map_err(|why| why.0)?,
                    ))
                });
                let reason = match arrays {
                    Ok((e, a)) => difference(&e, &a, case.tolerance),
                    Err(reason) => Some(reason),
                };
                if let Some(reason) = reason {
                    failures.push(format!("{}, output {only} on {}: {reason}", case.name, device.name()));
                }
            }
        }
    }
    report(failures, several().count());
}

/// Every adapter present that Sardonyx can use.
fn devices() -> Vec<Device> {
    let mut names: Vec<String> = adapters().into_iter().map(|adapter| adapter.name).collect();
    names.dedup();
    let open = |name: &String| match Device::new(DeviceOptions::new().select(Select::Name(name.clone()))) {
        Ok(device) => Some(device),
        Err(Error::BelowFloor { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    names.iter().filter_map(open).collect()
}

/// What differs from the reference, or fails, on every adapter present; `class` is that of the kernels, if not the
/// adapter's own.
fn failures_on_adapters(class: Option<Class>, sizes: Sizes) -> (Vec<String>, usize) {
    let cases = all_cases();
    let mut failures = Vec::new();
    let devices = devices();
    let count = devices.len();
    for mut device in devices {
        if let Some(class) = class {
            device = device.with_target(|target| target.class = class);
        }
        let name = device.name().to_string();
        for case in cases.iter().filter(|case| wanted(case)) {
            match compared(case, &device, sizes) {
                Ok(None) => {}
                Ok(Some(reason)) => failures.push(format!("{} on {name}: {reason}", case.name)),
                Err(error) => failures.push(format!("{} on {name}: {error}", case.name)),
            }
        }
    }
    (failures, cases.len() * count)
}

#[test]
fn every_adapter_agrees_with_the_reference() {
    let (failures, total) = failures_on_adapters(None, Sizes::Fixed);
    report(failures, total);
}

/// Continuous integration has no GPU: a software device runs the kernels that GPUs would.
#[test]
fn kernels_for_gpus_agree_with_the_reference() {
    let (failures, total) = failures_on_adapters(Some(Class::Gpu), Sizes::Fixed);
    report(failures, total);
}

#[test]
fn kernels_for_other_sizes_too_agree_with_the_reference() {
    for class in [None, Some(Class::Gpu)] {
        let (failures, total) = failures_on_adapters(class, Sizes::Open);
        report(failures, total);
    }
}
