//! Every case of every operator, and random graphs: on the reference, on every adapter with its own class of kernels, and with
//! the other class, where the adapter can run it, on the adapters in turn (on all with `SARDONYX_GRAPHS`).
//!
//! `cargo test --test cases Softmax` runs the cases of one operator; `-- --list` names all. A name has the operator, the case,
//! what is special about the check, and after `@` where it runs: `ops/Conv/3x3_pads/any-size@llvmpipe/gpu-kernels`.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::collections::HashMap;
use std::process::ExitCode;

use sardonyx::internals::{Check, CheckPlace, Kernels, checks, devices, with_kernels};
use sardonyx::{AdapterSummary, Device};
use sardonyx_testing::trials::{self, ExpectedFailure, Runner, Trial};

/// None at present: the tolerances follow from drivers' documents and measurements.
const EXPECTED: &[ExpectedFailure] = &[];

const REFERENCE: &str = "reference";

fn main() -> ExitCode {
    trials::main(list, start, EXPECTED)
}

/// The classes of kernels that a device can run, its own first. Software devices run those for GPUs too, as continuous
/// integration has no GPU.
fn classes(adapter: &AdapterSummary) -> &'static [&'static str] {
    if adapter.software { &["cpu-kernels", "gpu-kernels"] } else { &["gpu-kernels"] }
}

/// The adapters' names without versions, with a number where two have the same name.
fn short_names(adapters: &[AdapterSummary]) -> Vec<String> {
    let first_word = |adapter: &AdapterSummary| adapter.name.split_whitespace().next().unwrap().to_string();
    let words: Vec<String> = adapters.iter().map(first_word).collect();
    let numbered =
        |(i, word): (usize, &String)| match words[..i].iter().filter(|other| *other == word).count() {
            0 => word.clone(),
            before => format!("{word}-{}", before + 1),
        };
    words.iter().enumerate().map(numbered).collect()
}

fn list() -> Vec<Trial> {
    let adapters = devices::usable();
    let names = short_names(&adapters);
    let mut list = Vec::new();
    for check in checks() {
        let mut add = |on: String, place: &str| {
            list.push(Trial { name: format!("{}@{on}", check.name()), place: place.into() });
        };
        if check.place() == CheckPlace::Reference {
            add(REFERENCE.into(), REFERENCE);
            continue;
        }
        for (a, (adapter, name)) in adapters.iter().zip(&names).enumerate() {
            let wanted = |class: usize| match check.place() {
                CheckPlace::Device => class == 0,
                CheckPlace::Turn(turn) => (a + class + turn).is_multiple_of(adapters.len()),
                CheckPlace::Kernels(turn) => class == 0 || (a + turn).is_multiple_of(adapters.len()),
                _ => true,
            };
            let classes = classes(adapter).iter().enumerate().filter(|(class, _)| wanted(*class));
            classes.for_each(|(_, class)| add(format!("{name}/{class}"), &adapter.name));
        }
    }
    list
}

/// Devices are opened with the first test that needs them.
fn start(place: &str) -> Runner {
    let checks: HashMap<(String, bool), Check> = checks()
        .into_iter()
        .map(|check| ((check.name().to_string(), check.place() == CheckPlace::Reference), check))
        .collect();
    let (place, mut opened) = (place.to_string(), HashMap::<String, Device>::new());
    Box::new(move |test| {
        let (name, on) = test.split_once('@').unwrap();
        let check = &checks[&(name.to_string(), on == REFERENCE)];
        let class = on.rsplit('/').next().unwrap();
        let device = opened.entry(class.to_string()).or_insert_with(|| match class {
            REFERENCE => Device::reference(),
            "gpu-kernels" => with_kernels(devices::open(&place), Kernels::Gpu),
            _ => devices::open(&place),
        });
        check.run(device)
    })
}
