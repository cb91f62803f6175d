//! Many sizes in one session: random graphs of every family of operators, and every operator's cases. Each run must give what
//! the reference gives, whatever sizes the session has seen before.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::cases::{difference, open_graph, planner};
use super::open::{Open, Recipe};
use crate::facts::{Facts, InputFact};
use crate::graph::ValueId;
use crate::kernels::Target;
use crate::ops::Graph;
use crate::ops::case::{Case, Tolerance};
use crate::{Device, Error, Interrupt, Result, Session, SessionOptions, Tensor, passes, reference};

/// The number of smaller graphs that are tried when one fails.
const ATTEMPTS: usize = 60;

pub(crate) fn session(device: &Device, graph: &Arc<Graph>) -> Session {
    Session::of_graph(device, graph.clone(), SessionOptions::default(), vec![]).unwrap()
}

pub(crate) fn expected(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    reference::outputs(graph, &reference::run(graph, inputs, false, &Interrupt::new())?)
}

fn run(session: &Session, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let graph = session.graph();
    let names = graph.inputs.iter().map(|id| graph.value(*id).name.as_str());
    let named: Vec<(&str, &Tensor)> = names.zip(inputs).collect();
    Ok(session.run(&named)?.into_iter().map(|(_, tensor)| tensor).collect())
}

/// How the outputs differ by more than their errors allow, if they do.
fn compared(
    graph: &Graph,
    expected: &[Tensor],
    actual: &[Tensor],
    tolerance: impl Fn(usize) -> Tolerance,
) -> Option<String> {
    (0..expected.len()).find_map(|i| {
        let what = difference(&expected[i], &actual[i], tolerance(i))?;
        Some(format!("output {} {:?}: {what}", graph.value(graph.outputs[i]).name, expected[i].shape()))
    })
}

/// How a run in a session differs from what it should give, if it does. What a device refuses for these sizes, it must also
/// refuse in a session of its own.
pub(crate) fn differs(
    session: &Session,
    device: &Device,
    (inputs, expected): (&[Tensor], &[Tensor]),
    tolerance: impl Fn(usize) -> Tolerance,
) -> Option<String> {
    match run(session, inputs) {
        Ok(actual) => compared(session.graph(), expected, &actual, tolerance),
        Err(error) => {
            let alone = self::session(device, &Arc::new(session.graph().clone()));
            let refused = matches!(error, Error::Unsupported(_)) && run(&alone, inputs).is_err();
            (!refused).then(|| error.to_string())
        }
    }
}

/// What is wrong with a run in a session, if anything is.
fn wrong(open: &Open, device: &Device, session: &Session, at: usize) -> Option<String> {
    let inputs = open.inputs(at);
    let errors = open.errors();
    let tolerance = |i: usize| Tolerance { relative: 0.0, absolute: errors[i] };
    match expected(open.graph(), &inputs) {
        Ok(expected) => differs(session, device, (&inputs, &expected), tolerance),
        Err(error) => match run(session, &inputs) {
            Ok(_) => Some(format!("runs, and the reference refuses: {error}")),
            Err(_) => None,
        },
    }
}

/// What goes wrong in a session with the graph of a recipe: the run, what is wrong, and whether it is also wrong in a session
/// of its own.
fn fault(recipe: &Recipe, device: &Device) -> Option<(usize, String)> {
    let look = || {
        let open = Open::new(recipe);
        let graph = open.graph().clone();
        // Every other graph is one that the passes have rewritten, as a model's graph is.
        let graph = Arc::new(if recipe.seed.is_multiple_of(2) {
            graph
        } else {
            passes::run(graph, &crate::Limits::default()).unwrap()
        });
        let all = session(device, &graph);
        (0..recipe.runs.len()).find_map(|at| {
            let what = wrong(&open, device, &all, at)?;
            let alone = match wrong(&open, device, &session(device, &graph), at) {
                Some(_) => "alone too",
                None => "not alone",
            };
            Some((at, format!("run {at}, {alone}: {what}")))
        })
    };
    catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Some((recipe.runs.len() - 1, format!("panic: {}", text.unwrap_or_default())))
    })
}

/// A recipe with fewer steps and runs that still fails, and the failure.
fn shrunk(recipe: &Recipe, device: &Device) -> (Recipe, String) {
    let (mut least, mut attempts) = (recipe.clone(), 0);
    let Some((at, mut what)) = fault(&least, device) else { return (least, "not seen again".into()) };
    let mut keep = |least: &mut Recipe, smaller: Recipe| {
        attempts += 1;
        let found = if attempts < ATTEMPTS { fault(&smaller, device) } else { None };
        let Some((_, now)) = found else { return false };
        (*least, what) = (smaller, now);
        true
    };
    let runs = least.runs[..=at].to_vec();
    keep(&mut least, Recipe { runs, ..recipe.clone() });
    for step in (0..least.steps.len()).rev() {
        let mut smaller = least.clone();
        smaller.steps.remove(step);
        keep(&mut least, smaller);
    }
    for run in (0..least.runs.len()).rev() {
        let mut smaller = least.clone();
        smaller.runs.remove(run);
        if !smaller.runs.is_empty() {
            keep(&mut least, smaller);
        }
    }
    (least, what)
}

/// The tensor's elements, repeated in a larger shape, so that indices stay valid.
fn repeated(tensor: &Tensor, shape: &[usize]) -> Option<Tensor> {
    let count: usize = shape.iter().product();
    if tensor.is_empty() || !tensor.bytes().len().is_multiple_of(tensor.len()) {
        return (count == tensor.len()).then(|| tensor.clone());
    }
    let bytes = count * (tensor.bytes().len() / tensor.len());
    Tensor::from_raw(
        tensor.dtype(),
        shape,
        tensor.bytes().iter().copied().cycle().take(bytes).collect::<Vec<u8>>(),
    )
    .ok()
}

/// What goes wrong with a random graph in a session that sees several sizes, if anything does; the graph is made smaller
/// first.
pub(super) fn random_graph(seed: u64, device: &Device) -> Result<(), String> {
    let recipe = Recipe::new(seed);
    if fault(&recipe, device).is_none() {
        return Ok(());
    }
    let (least, what) = shrunk(&recipe, device);
    Err(format!("sizes {:?}, {what}\n{}", least.runs, Open::new(&least).graph()))
}

/// Whether a random graph accepts most of its sizes.
pub(super) fn takes_sizes(seed: u64) -> bool {
    let recipe = Recipe::new(seed);
    let open = Open::new(&recipe);
    (0..recipe.runs.len()).filter(|run| open.takes(*run)).count() > 1
}

/// Runs a case in one session with its own sizes, with others, and with its own again. Returns what is wrong, and the number
/// of runs that were compared.
pub(super) fn moved_case(case: &Case, device: &Device) -> (Option<String>, usize) {
    let Some((graph, inputs)) = open_graph(case) else { return (None, 0) };
    let planner = planner(&graph, &Target::FLOOR);
    let probes = planner.probes(&inputs);
    let own = planner.facts(&inputs).ok();
    let others = [probes.times([4, 4], 4), probes.times([3, 5], 3), probes.times([8, 9], 1), probes.least()];
    let given = |facts: &Facts| {
        let tensor =
            |(id, input): (&ValueId, &InputFact)| repeated(input.value.as_ref()?, &facts.get(*id)?.shape);
        graph.inputs.iter().zip(&inputs).map(tensor).collect::<Option<Vec<Tensor>>>()
    };
    let graph = Arc::new(graph.clone());
    let session = session(device, &graph);
    let mut runs = 0;
    for (at, facts) in [own.clone()].into_iter().chain(others).chain([own]).enumerate() {
        let Some(inputs) = facts.as_ref().and_then(given) else { continue };
        // The operator may refuse elements that are repeated.
        let Ok(expected) = expected(&graph, &inputs) else { continue };
        let what = differs(&session, device, (&inputs, &expected), |_| case.tolerance);
        runs += 1;
        if let Some(what) = what {
            let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
            return (Some(format!("run {at} of {shapes:?}: {what}")), runs);
        }
    }
    (None, runs)
}
