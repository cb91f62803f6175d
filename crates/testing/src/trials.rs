//! One test for each case and adapter, which can be listed, filtered and reported alone. Worker processes run the tests, so
//! that a driver that aborts fails the current test alone.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Failed};
pub use sardonyx::internals::Outcome;

/// Tells a process that it is a worker, and for which place.
const WORKER: &str = "SARDONYX_TEST_WORKER";

/// The answer that there was nothing to compare. Reasons of failures begin with `-`, and an empty answer is a pass.
const NOTHING: &str = "0";

/// The beginning of an answer's line, as drivers may print lines too.
const ANSWER: &str = "\u{1}answer ";

/// A test, and the place where it runs. Tests of one place share worker processes.
#[derive(Clone, Debug)]
pub struct Trial {
    /// `ops/Conv/3x3_pads@llvmpipe/gpu-kernels`
    pub name: String,
    pub place: String,
}

/// Runs the tests of one place by name.
pub type Runner = Box<dyn FnMut(&str) -> Result<Outcome, String>>;

/// A test that fails on a driver, and why that is the driver's fault. If the test passes there, or fails in another way, that is a failure.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedFailure {
    /// The test's name before `@`.
    pub test: &'static str,
    /// The text after `@`, or its beginning; `*` for every driver.
    pub driver: &'static str,
    pub ending: Ending,
    pub reason: &'static str,
    pub evidence: Evidence,
}

/// How a test ends that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It says what is wrong.
    Wrong,
    /// The process that runs it ends.
    Crash,
}

/// Where an expected failure is described.
#[derive(Clone, Copy, Debug)]
pub enum Evidence {
    /// A public page.
    Link(&'static str),
    /// Nowhere yet.
    Unpublished,
}

impl Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::Link(url) => f.write_str(url),
            Evidence::Unpublished => f.write_str("nothing public describes it"),
        }
    }
}

impl ExpectedFailure {
    fn is_of(&self, name: &str) -> bool {
        let runs_there = |on: &str| self.driver == "*" || on.starts_with(self.driver);
        name.split_once('@').is_some_and(|(test, on)| test == self.test && runs_there(on))
    }
}

/// The main function of a test binary without libtest: it runs the tests that the command line selects, or serves as a worker.
pub fn main(
    list: impl FnOnce() -> Vec<Trial>,
    start: impl FnOnce(&str) -> Runner,
    expected: &'static [ExpectedFailure],
) -> ExitCode {
    if let Ok(place) = std::env::var(WORKER) {
        serve(start(&place));
        return ExitCode::SUCCESS;
    }
    let (arguments, workers, list) = (Arguments::from_args(), Arc::new(Workers::default()), list());
    for known in expected {
        let exists = list.iter().any(|trial| trial.name.split('@').next() == Some(known.test));
        assert!(exists, "an expected failure names no test: {known:?}");
    }
    let trials = list.into_iter().map(|Trial { name, place }| {
        let (workers, test) = (workers.clone(), name.clone());
        libtest_mimic::Trial::ignorable_test(name, move || {
            judged(workers.run(&place, &test), expected.iter().find(|known| known.is_of(&test)))
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn judged(
    outcome: Result<Outcome, (Ending, String)>,
    expected: Option<&ExpectedFailure>,
) -> Result<Completion, Failed> {
    match (outcome, expected) {
        (Ok(_), Some(ExpectedFailure { reason, evidence, .. })) => {
            Err(format!("passes, and is listed as failing: {reason} ({evidence})").into())
        }
        (Err((ending, _)), Some(known)) if ending == known.ending => Ok(Completion::Completed),
        (Ok(Outcome::Passed), None) => Ok(Completion::Completed),
        (Ok(Outcome::Nothing), None) => Ok(Completion::ignored_with("nothing to compare")),
        (Err((_, reason)), _) => Err(reason.into()),
    }
}

/// Answers each line of standard input, which names a test, with a line.
fn serve(mut run: Runner) {
    for line in std::io::stdin().lock().lines() {
        let name = line.unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&name))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", text.unwrap_or("of an unknown kind")))
        });
        let text = match outcome {
            Ok(Outcome::Passed) => String::new(),
            Ok(Outcome::Nothing) => NOTHING.into(),
            Err(reason) => format!("-{}", reason.replace('\n', "\u{2}")),
        };
        // A line break first: a driver may have printed text without one.
        println!("\n{ANSWER}{text}");
    }
}

/// Idle worker processes, by place.
#[derive(Default)]
struct Workers(Mutex<HashMap<String, Vec<Worker>>>);

impl Workers {
    fn idle(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Worker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, place: &str, test: &str) -> Result<Outcome, (Ending, String)> {
        let idle = self.idle().get_mut(place).and_then(Vec::pop);
        let mut worker = idle.unwrap_or_else(|| Worker::start(place));
        let Some(answer) = worker.ask(test) else {
            let ended =
                worker.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            return Err((Ending::Crash, format!("the process that ran the test ended: {ended}")));
        };
        self.idle().entry(place.into()).or_default().push(worker);
        match answer.strip_prefix('-') {
            Some(reason) => Err((Ending::Wrong, reason.replace('\u{2}', "\n"))),
            None if answer == NOTHING => Ok(Outcome::Nothing),
            None => Ok(Outcome::Passed),
        }
    }
}

struct Worker {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start(place: &str) -> Worker {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .env(WORKER, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Worker { process, answers }
    }

    /// The answer; `None` if the process ends before it answers.
    fn ask(&mut self, test: &str) -> Option<String> {
        writeln!(self.process.stdin.as_mut()?, "{test}").ok()?;
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.answers.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            if let Some(answer) = String::from_utf8_lossy(&line).trim_end().strip_prefix(ANSWER.trim_end()) {
                return Some(answer.trim_start().to_string());
            }
        }
    }
}

/// A worker ends when its standard input ends. It is waited for, so that its driver is not torn down together with the
/// harness.
impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: ExpectedFailure = ExpectedFailure {
        test: "ops/Conv/a",
        driver: "llvmpipe",
        ending: Ending::Wrong,
        reason: "rounds",
        evidence: Evidence::Link("https://bugs"),
    };

    #[test]
    fn a_known_failure_that_passes_fails() {
        assert!(KNOWN.is_of("ops/Conv/a@llvmpipe/cpu-kernels"));
        assert!(!KNOWN.is_of("ops/Conv/a@SwiftShader/cpu-kernels") && !KNOWN.is_of("ops/Conv/ab@llvmpipe"));
        let wrong = || Err((Ending::Wrong, "off".to_string()));
        assert!(judged(wrong(), Some(&KNOWN)).is_ok());
        assert!(judged(Err((Ending::Crash, "ended".into())), Some(&KNOWN)).is_err());
        let everywhere = ExpectedFailure { driver: "*", evidence: Evidence::Unpublished, ..KNOWN };
        assert!(everywhere.is_of("ops/Conv/a@SwiftShader/cpu-kernels"));
        let failed = judged(Ok(Outcome::Passed), Some(&KNOWN)).err().unwrap();
        assert!(failed.message().is_some_and(|text| text.contains("rounds (https://bugs)")));
        assert!(judged(Ok(Outcome::Passed), None).is_ok() && judged(wrong(), None).is_err());
    }
}
