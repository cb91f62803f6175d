//! Many sizes in one session: random graphs of every family of operators, and every operator's cases. Each run gives what the
//! reference gives, whatever sizes the session has seen before.
//!
//! `SARDONYX_SIZES=2000` runs so many random graphs for each class of kernels, from number `SARDONYX_SEED` on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::facts::{Facts, Input};
use crate::graph::ValueId;
use crate::internals::cases::{all_cases, difference, wanted};
use crate::internals::devices;
use crate::kernels::{Class, Target};
use crate::ops::case::{self, Case, Tolerance};
use crate::ops::{Attr, Graph};
use crate::plan::tests::{open_graph, planner};
use crate::tests::open::{Open, Recipe};
use crate::tests::random::Sketch;
use crate::{Device, Error, Result, Session, SessionOptions, Tensor, passes, reference};

/// Random graphs for each class of kernels, if nobody wants more.
const GRAPHS: u64 = 400;
/// Smaller graphs that are tried when one fails.
const ATTEMPTS: usize = 60;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A device for each adapter, that runs the kernels of a class.
fn of_class(class: Class) -> Vec<(String, Device)> {
    devices::of_class(class).map(|device| (format!("{}, {class:?} kernels", device.name()), device)).collect()
}

fn session(device: &Device, graph: &Arc<Graph>) -> Session {
    Session::of_graph(device, graph.clone(), SessionOptions::default(), vec![]).unwrap()
}

fn expected(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    reference::outputs(graph, &reference::run(graph, inputs, false)?)
}

fn run(session: &Session, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let graph = session.graph();
    let names = graph.inputs.iter().map(|id| graph.value(*id).name.as_str());
    let named: Vec<(&str, &Tensor)> = names.zip(inputs).collect();
    Ok(session.run(&named)?.into_iter().map(|(_, tensor)| tensor).collect())
}

/// How outputs differ by more than they may, if they do.
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

/// How a run in a session differs from what it should give, if it does. What a device refuses for these sizes, it refuses in a
/// session of its own too.
fn differs(
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

/// What is wrong with a run in a session, if something is.
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

/// What goes wrong in a session with the graph of a recipe: the run, what, and whether it does in a session of its own.
fn fault(recipe: &Recipe, device: &Device) -> Option<(usize, String)> {
    let look = || {
        let open = Open::new(recipe);
        let graph = open.graph().clone();
        // Every other graph as a model's is: what passes have made of it.
        let graph = Arc::new(if recipe.seed.is_multiple_of(2) { graph } else { passes::run(graph).unwrap() });
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

/// A recipe with fewer steps and runs that fails still, and how.
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

fn random_graphs(class: Class) {
    let (first, count) = (number("SARDONYX_SEED", 0), number("SARDONYX_SIZES", GRAPHS));
    let devices = of_class(class);
    let (mut failures, mut runs) = (Vec::new(), 0);
    for seed in first..first + count {
        let recipe = Recipe::new(seed);
        let open = Open::new(&recipe);
        runs += (0..recipe.runs.len()).filter(|run| open.takes(*run)).count();
        // On one in turn, unless somebody wants more.
        let turn = |(i, _): &(usize, _)| count > GRAPHS || *i == seed as usize % devices.len();
        for (_, (name, device)) in devices.iter().enumerate().filter(turn) {
            if fault(&recipe, device).is_some() {
                let (least, what) = shrunk(&recipe, device);
                let text =
                    format!("seed {seed} on {name}, {:?}, {what}\n{}", least.runs, Open::new(&least).graph());
                eprintln!("{text}");
                failures.push(text);
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
    assert!(runs as u64 > 3 * count, "only {runs} runs of {count} graphs");
}

#[test]
fn random_graphs_run_for_many_sizes_on_kernels_for_software_devices() {
    random_graphs(Class::Cpu);
}

#[test]
fn random_graphs_run_for_many_sizes_on_kernels_for_gpus() {
    random_graphs(Class::Gpu);
}

/// The tensor's elements, again and again, in another shape: indices stay what they were.
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

/// A case in one session with its own sizes, with others, and with its own again: what is wrong, and how many runs were compared.
fn moved_case(case: &Case, device: &Device) -> (Option<String>, usize) {
    let Some((graph, inputs)) = open_graph(case) else { return (None, 0) };
    let planner = planner(&graph, &Target::FLOOR);
    let probes = planner.probes(&inputs);
    let own = planner.facts(&inputs).ok();
    let others = [probes.times([4, 4], 4), probes.times([3, 5], 3), probes.times([8, 9], 1), probes.least()];
    let given = |facts: &Facts| {
        let tensor =
            |(id, input): (&ValueId, &Input)| repeated(input.value.as_ref()?, &facts.get(*id)?.shape);
        graph.inputs.iter().zip(&inputs).map(tensor).collect::<Option<Vec<Tensor>>>()
    };
    let graph = Arc::new(graph.clone());
    let session = session(device, &graph);
    let mut runs = 0;
    for (at, facts) in [own.clone()].into_iter().chain(others).chain([own]).enumerate() {
        let Some(inputs) = facts.as_ref().and_then(given) else { continue };
        // Elements that are repeated may be what the operator refuses.
        let Ok(expected) = expected(&graph, &inputs) else { continue };
        let what = differs(&session, device, (&inputs, &expected), |_| case.tolerance);
        runs += 1;
        if let Some(what) = what {
            let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
            return (Some(format!("{} run {at} of {shapes:?}: {what}", case.name)), runs);
        }
    }
    (None, runs)
}

#[test]
fn every_case_runs_for_many_sizes() {
    let (mut failures, mut runs) = (Vec::new(), 0);
    let devices: Vec<_> = [Class::Cpu, Class::Gpu].into_iter().flat_map(of_class).collect();
    for (i, case) in all_cases().iter().enumerate().filter(|(_, case)| wanted(case)) {
        // Of four devices, on two each: on both adapters, and for both classes.
        for (d, (name, device)) in devices.iter().enumerate() {
            if devices.len() < 4 || (d % 2 + d / 2 + i) % 2 == 0 {
                let (what, more) = moved_case(case, device);
                failures.extend(what.map(|what| format!("{name}: {what}")));
                runs += more;
            }
        }
    }
    assert!(failures.is_empty(), "{} of {runs} runs:\n{}", failures.len(), failures.join("\n"));
    assert!(runs > 3000 || std::env::var("SARDONYX_CASES").is_ok(), "only {runs} runs were compared");
}

/// Graphs of one operator or two over `[batch, rows, ...]`, in sessions that see these sizes one after the other.
#[test]
fn a_form_that_was_chosen_for_other_sizes_gives_the_same() {
    type Build = fn(&mut Sketch, ValueId) -> ValueId;
    let all: [(&str, Build, &[&[usize]]); 3] = [
        // Rows of 8 are whole vectors, those of 9 are not.
        (
            "Softmax",
            |s, x| {
                let pads = s.constant(case::list(&[0, 1, 0, 1]));
                let padded = s.node("Pad", &[], &[x, pads]);
                s.node("Softmax", &[], &[padded])
            },
            &[&[1, 6], &[1, 7], &[2, 9], &[2, 37], &[1, 6]],
        ),
        (
            "ReduceSum",
            |s, x| {
                let doubled = s.node("Concat", &[("axis", Attr::Int(1))], &[x, x]);
                let axis = s.constant(case::list(&[1]));
                s.node("ReduceSum", &[], &[doubled, axis])
            },
            &[&[1, 4], &[1, 5], &[2, 9], &[1, 2050], &[1, 2049]],
        ),
        // Of the kernel for few rows, a workgroup has a tile of 4.
        (
            "MatMul",
            |s, x| {
                let weights = s.constant(case::random(&[64, 72]));
                s.node("MatMul", &[], &[x, weights])
            },
            &[&[3, 64], &[7, 64], &[5, 64], &[1, 64], &[30, 64], &[3, 64]],
        ),
    ];
    for (name, device) in [Class::Cpu, Class::Gpu].into_iter().flat_map(of_class) {
        for (op, build, shapes) in &all {
            let mut sketch = Sketch::default();
            let x = sketch.input("x");
            let result = build(&mut sketch, x);
            sketch.graph.outputs.push(result);
            let graph = Arc::new(sketch.graph);
            let session = session(&device, &graph);
            for shape in *shapes {
                let inputs = [case::random(shape)];
                let expected = expected(&graph, &inputs).unwrap();
                let what = differs(&session, &device, (&inputs, &expected), |_| Tolerance::TRANSCENDENTAL);
                assert_eq!(what, None, "{op} of {shape:?} on {name}");
            }
        }
    }
}
