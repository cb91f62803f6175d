//! `sardonyx suite`: any number of cases of ONNX's conformance suite, in one process.
//!
//! `LIST_FILE` has a JSON object on each line, with `name`, `dir` (in `CASES_DIR`: `model.onnx` and
//! `test_data_set_K/{input,output}_I.pb`), `rtol` and `atol`. For each case, in order, one line is printed:
//!
//! - `NAME done` if the environment names a folder in `CONFORMANCE_OUT`: the outputs are there, in
//!   `NAME/test_data_set_K/output_I.pb`, for another program to judge;
//! - otherwise `NAME pass` or `NAME fail REASON`, after a comparison with the expected outputs;
//! - `NAME skip REASON` if an operator or type is not supported on the device. A skip never counts as a pass.

use std::any::Any;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::device::{DeviceArgs, described};
use super::{Failure, Verdict, complain, counted, files, numpy, print, signals};
use sardonyx::{
    DType, Datum, Device, Error, Model, Outputs, Session, SessionOptions, Tensor, Tolerance, ValueInfo, shown,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
LIST_FILE has a JSON object in each line, as {\"name\": \"relu\", \"dir\": \"node/test_relu\", \"rtol\": 1e-3, \"atol\": 1e-7}: `dir` is in
CASES_DIR, and the last two may be left out. With --json there is one object in each line, too.

Examples:
  sardonyx suite cases list.jsonl --device cpu
  CONFORMANCE_OUT=out sardonyx suite cases list.jsonl     writes the outputs, for another program to judge")]
pub(super) struct Args {
    /// The folder of the cases.
    #[arg(value_name = "CASES_DIR")]
    cases: PathBuf,
    /// Which cases, one JSON object a line.
    #[arg(value_name = "LIST_FILE")]
    list: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

struct SuiteCase {
    name: String,
    folder: PathBuf,
    rtol: f64,
    atol: f64,
}

/// The result of a case.
enum End {
    Done,
    Pass,
    Skip(String),
    Fail(String),
    /// A failure after which the device is lost, or can no longer be trusted.
    Lost(String),
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        match error {
            Error::Unsupported(nodes) => {
                let mut reasons: Vec<String> =
                    nodes.iter().map(|node| format!("{}-{} {}", node.op, node.opset, node.reason)).collect();
                reasons.sort();
                reasons.dedup();
                End::Skip(format!("unsupported: {}", reasons.join("; ")))
            }
            Error::Node { .. } | Error::Limit { .. } => End::Skip(error.to_string()),
            Error::DeviceLost(_) | Error::OutOfMemory { .. } => End::Lost(error.to_string()),
            _ => End::Fail(error.to_string()),
        }
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Fail(failure.to_string())
    }
}

impl End {
    fn status(&self) -> (&'static str, &str) {
        match self {
            End::Done => ("done", ""),
            End::Pass => ("pass", ""),
            End::Skip(reason) => ("skip", reason),
            End::Fail(reason) | End::Lost(reason) => ("fail", reason),
        }
    }
}

pub(super) fn main(args: &Args, json: bool) -> Verdict {
    let list = files::read(&args.list)?;
    let list = String::from_utf8(list).map_err(|_| files::failed(&args.list, "is no text file"))?;
    if !args.cases.is_dir() {
        return Err(files::failed(&args.cases, "there is no such folder of cases"));
    }
    let lines = list.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let cases = lines.map(|(i, line)| {
        let refused = |why| files::failed(&args.list, format!("line {}: {why}", i + 1));
        case(line, &args.cases).map_err(refused)
    });
    let cases = cases.collect::<Result<Vec<SuiteCase>, Failure>>()?;
    let out = std::env::var_os("CONFORMANCE_OUT").map(PathBuf::from);
    out.as_deref().map_or(Ok(()), files::check_folder)?;
    let mut device = args.device.open()?;
    let bar = ProgressBar::new(cases.len() as u64);
    let mut counts = [("done", 0u64), ("pass", 0), ("skip", 0), ("fail", 0)];
    for case in &cases {
        bar.set_message(case.name.clone());
        let out = out.as_ref().map(|out| out.join(&case.name));
        let end = match catch_unwind(AssertUnwindSafe(|| run(case, &device, out.as_deref()))) {
            Ok(end) => end.unwrap_or_else(|end| end),
            Err(panic) => End::Lost(format!("panic: {}", message(&*panic))),
        };
        if signals::interrupt().is_raised() {
            return Err("interrupted".into());
        }
        if let End::Lost(_) = end {
            device = args.device.open()?;
        }
        let (status, reason) = end.status();
        counts.iter_mut().filter(|count| count.0 == status).for_each(|count| count.1 += 1);
        bar.suspend(|| print(&line(case, status, reason, json)))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let summary: Vec<String> = counts
        .iter()
        .filter(|count| count.1 > 0)
        .map(|(status, count)| format!("{count} {status}"))
        .collect();
    let count = counted(cases.len(), "case");
    complain(&format!("{count} on {}: {}", described(&device), summary.join(", ")));
    Ok(counts[3].1 == 0)
}

fn line(case: &SuiteCase, status: &str, reason: &str, json: bool) -> String {
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    if json {
        format!("{}\n", json!({ "name": case.name, "status": status, "reason": reason }))
    } else {
        format!("{} {status} {reason}", shown(&case.name)).trim_end().to_string() + "\n"
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of an unknown kind")
}

fn case(line: &str, cases: &Path) -> Result<SuiteCase, String> {
    let value: Value = serde_json::from_str(line)
        .map_err(|_| format!("'{}' is no JSON object with a name and a dir", shown(line)))?;
    let text = |key: &str| value[key].as_str().ok_or_else(|| format!("'{}' has no {key}", shown(line)));
    Ok(SuiteCase {
        name: text("name")?.into(),
        folder: cases.join(text("dir")?),
        rtol: value["rtol"].as_f64().unwrap_or(1e-3),
        atol: value["atol"].as_f64().unwrap_or(1e-7),
    })
}

fn run(case: &SuiteCase, device: &Device, out: Option<&Path>) -> Result<End, End> {
    let model = Model::load(case.folder.join("model.onnx"))?;
    let session = Session::new(device, &model, SessionOptions::default())?;
    let mut ended = if out.is_some() { End::Done } else { End::Pass };
    for set in 0.. {
        let set = format!("test_data_set_{set}");
        let folder = case.folder.join(&set);
        if !folder.is_dir() {
            break;
        }
        let given = files_of(&folder, "input");
        let infos = |all: bool| {
            let listed = model.inputs().iter().filter(move |info| all || !info.has_default);
            listed.collect::<Vec<_>>()
        };
        // Some tests give values for defaults, others do not.
        let Some(infos) = [infos(true), infos(false)].into_iter().find(|infos| infos.len() == given.len())
        else {
            let reason = format!(
                "{} given, and the model has {}",
                counted(given.len(), "input"),
                model.inputs().len()
            );
            return Err(End::Skip(reason));
        };
        let inputs = values(&given, infos.iter().copied())?;
        let names = infos.iter().map(|info| info.name.as_str());
        let outputs = session.run_values(&names.zip(&inputs).collect::<Vec<_>>())?;
        match out {
            Some(out) => write(&out.join(&set), &outputs)?,
            None => {
                let expected = values(&files_of(&folder, "output"), model.outputs().iter())?;
                for (i, (expected, (name, actual))) in expected.iter().zip(&outputs).enumerate() {
                    if let Some(reason) = difference(expected, actual, case) {
                        ended = End::Fail(format!("{set}, output {i} '{}': {reason}", shown(name)));
                    }
                }
            }
        }
    }
    Ok(ended)
}

/// `folder/KIND_0.pb`, `folder/KIND_1.pb`, ...
fn files_of(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let paths = (0..).map(|i| folder.join(format!("{kind}_{i}.pb")));
    paths.take_while(|path| path.exists()).collect()
}

/// The values in files, each of the kind that the model declares.
fn values<'i>(paths: &[PathBuf], infos: impl Iterator<Item = &'i ValueInfo>) -> Result<Vec<Datum>, End> {
    let value = |(path, info): (&PathBuf, &ValueInfo)| Ok(Datum::from_onnx(&files::read(path)?, info)?);
    paths.iter().zip(infos).map(value).collect()
}

fn write(folder: &Path, outputs: &Outputs<Datum>) -> Result<(), End> {
    let failed = |source| End::from(Error::Io { path: folder.to_path_buf(), error: source });
    fs::create_dir_all(folder).map_err(failed)?;
    for (i, (name, value)) in outputs.iter().enumerate() {
        let path = folder.join(format!("output_{i}.pb"));
        files::write(&path, |file| {
            // The message holds the elements once more, and is written into a vector that grows.
            numpy::reserved::<u8>(size_of(value).saturating_mul(3))?;
            let message = value.to_onnx(name).map_err(|error| error.to_string())?;
            file.write_all(&message).map_err(|e| e.to_string())
        })?;
    }
    Ok(())
}

/// The bytes of all tensors in a value.
fn size_of(value: &Datum) -> usize {
    match value {
        Datum::Tensor(tensor) => tensor.bytes().len(),
        Datum::Sequence(elements) => elements.iter().map(size_of).sum(),
        Datum::Optional(content) => content.iter().map(|value| size_of(value)).sum(),
        _ => 0,
    }
}

/// Why the suite would reject `actual`, if it would: kinds, dtypes and shapes must be equal, numbers within the case's tolerance.
fn difference(expected: &Datum, actual: &Datum, case: &SuiteCase) -> Option<String> {
    match (expected, actual) {
        (Datum::Tensor(expected), Datum::Tensor(actual)) => tensor_difference(expected, actual, case),
        (Datum::Sequence(expected), Datum::Sequence(actual)) if expected.len() == actual.len() => {
            expected.iter().zip(actual.iter()).find_map(|(e, a)| difference(e, a, case))
        }
        (Datum::Optional(Some(expected)), Datum::Optional(Some(actual))) => {
            difference(expected, actual, case)
        }
        _ if expected == actual => None,
        _ => Some(format!("is {actual}, and {expected} is expected")),
    }
}

fn tensor_difference(expected: &Tensor, actual: &Tensor, case: &SuiteCase) -> Option<String> {
    // The suite's own comparison allows two units of bfloat16.
    let least = if expected.dtype() == DType::BF16 { 1.0 / 64.0 } else { 0.0 };
    let tolerance = Tolerance { relative: case.rtol.max(least), absolute: case.atol };
    match actual.difference(expected, tolerance) {
        Ok(difference) => difference.map(|difference| difference.to_string()),
        Err(error) => Some(error.to_string()),
    }
}
