//! The harness of tests by name: a test that ends its process, and a test that panics, fail alone.

use std::process::ExitCode;

use sardonyx_testing::trials::{self, Ending, Evidence, ExpectedFailure, Outcome, Runner, Trial};

const fn expected(test: &'static str, ending: Ending, reason: &'static str) -> ExpectedFailure {
    let evidence = Evidence::Link("https://doc.rust-lang.org/std/process");
    ExpectedFailure { test, driver: "here", ending, reason, evidence }
}

/// If one of these passed, or made another fail, this program would fail.
const EXPECTED: &[ExpectedFailure] = &[
    expected("fails", Ending::Wrong, "is wrong"),
    expected("aborts", Ending::Crash, "ends its process"),
    expected("panics", Ending::Wrong, "panics"),
];

fn main() -> ExitCode {
    let names = [
        "passes",
        "fails",
        "prints",
        "aborts",
        "after-an-abort",
        "panics",
        "after-a-panic",
        "compares-nothing",
    ];
    let list = || names.map(|name| Trial { name: format!("{name}@here"), place: "here".into() }).into();
    trials::main(list, start, EXPECTED)
}

fn start(place: &str) -> Runner {
    assert_eq!(place, "here");
    Box::new(|name| match name {
        "fails@here" => Err("is wrong\nin two lines".into()),
        "aborts@here" => std::process::abort(),
        "panics@here" => panic!("as it should"),
        "prints@here" => {
            print!("a driver's text without an end of line");
            Ok(Outcome::Passed)
        }
        "compares-nothing@here" => Ok(Outcome::Nothing),
        _ => Ok(Outcome::Passed),
    })
}
