//! The `sardonyx` program: one file for each command, and what they share. See `sardonyx --help`.
//!
//! Text and JSON go to standard output, progress and complaints to standard error.

mod bench;
mod completions;
mod containers;
mod convert;
mod device;
mod devices;
mod failure;
mod files;
mod inputs;
mod inspect;
mod load;
mod man;
mod model;
mod number;
mod numpy;
mod outputs;
mod process;
mod progress;
mod repo;
mod run;
mod serve;
mod signals;
mod suite;
mod unsupported;
mod verify;
mod worker;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use failure::Failure;
use sardonyx::{PlanSummary, shown};

const EXIT_CODES: &str = "Exit codes: 0 success, 1 a check failed (verify diverged, run --expect differs, a suite case failed, a request of load failed, inspect found unsupported nodes), 2 an error, 130 Ctrl-C, 141 nobody reads the output.";

/// What one does with the program, for those who call it without a command.
const OVERVIEW: &str = "\
Runs ONNX models on the GPU.

  sardonyx inspect model.onnx                    what the model takes and gives, and whether everything in it is supported
  sardonyx run model.onnx                        run it once, on random inputs
  sardonyx run model.onnx --image x=cat.jpg --top 5 --labels labels.txt
  sardonyx run model.onnx --inputs x.npz --outputs y.npz
  sardonyx verify model.onnx                     compare every node's result with the CPU reference's
  sardonyx bench model.onnx --profile            latency, memory, and the GPU time of each kernel
  sardonyx convert model.pmml -o model.onnx      make an ONNX model of another file
  sardonyx serve models                          serve the models of a folder over HTTP and gRPC
  sardonyx load MODEL                            measure a server under load, over HTTP or gRPC
  sardonyx devices                               the adapters, and the one that is taken

`sardonyx help COMMAND` says more, with examples.
";

/// The end of the help: what one does with the program, and what its exit codes mean.
static AFTER_HELP: LazyLock<String> = LazyLock::new(|| {
    let examples = OVERVIEW.lines().filter(|line| line.starts_with("  "));
    format!("Examples:\n{}\n\n{EXIT_CODES}", examples.collect::<Vec<_>>().join("\n"))
});

/// Runs ONNX models on the GPU.
#[derive(Debug, Parser)]
#[command(name = "sardonyx", version, max_term_width = 120, after_help = AFTER_HELP.as_str())]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print JSON instead of text; errors too.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List every adapter, with the features and limits that matter.
    #[command(
        after_help = "Examples:\n  sardonyx devices\n  sardonyx devices --json\n  sardonyx run model.onnx --device 1     the adapter with that number"
    )]
    Devices,
    /// Run a model once.
    Run(run::Args),
    /// Show what a model needs and what becomes of it; exits with 1 if it has unsupported nodes.
    Inspect(inspect::Args),
    /// Compare every node's result on a GPU with the CPU reference's; exits with 1 if one diverges.
    Verify(verify::Args),
    /// Measure latency, memory and GPU time.
    Bench(bench::Args),
    /// Make an ONNX model of a file of another kind, or put other weights into one.
    Convert(convert::Args),
    /// Serve the models of a folder over HTTP and gRPC.
    Serve(serve::Args),
    /// Measure a server of models under load: response times, throughput, accuracy, memory; exits with 1 if a request failed.
    Load(Box<load::Args>),
    /// Make and change folders of models for `serve`.
    Repo(repo::Args),
    /// Run cases of ONNX's conformance suite.
    Suite(suite::Args),
    /// Print a completion script.
    Completions(completions::Args),
    /// Print the manual in the form of `man`: all commands in one page.
    Man,
    /// Answer timing requests on standard input.
    #[command(hide = true)]
    BenchWorker(worker::Args),
}

/// Whether everything that a command checks is in order.
type Verdict = Result<bool, Failure>;

/// Parses the arguments, runs the command, and turns its outcome into an exit code.
fn main() -> ExitCode {
    without_complaints_about_displays();
    completions::answer();
    let Cli { command, json } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return misused(usage),
    };
    let Some(command) = command else {
        complain(OVERVIEW.trim_end());
        return ExitCode::from(2);
    };
    let outcome = match command {
        Command::Devices => devices::main(json),
        Command::Run(args) => run::main(&args, json),
        Command::Inspect(args) => inspect::main(&args, json),
        Command::Verify(args) => verify::main(&args, json),
        Command::Bench(args) => bench::main(&args, json),
        Command::BenchWorker(args) => worker::main(&args),
        Command::Convert(args) => convert::main(&args, json),
        Command::Serve(args) => serve::main(&args, json),
        Command::Load(args) => load::main(&args, json),
        Command::Repo(args) => repo::main(&args, json),
        Command::Suite(args) => suite::main(&args, json),
        Command::Completions(args) => completions::main(&args),
        Command::Man => man::main(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(_) if signals::interrupt().is_raised() => ExitCode::from(signals::INTERRUPTED),
        Err(failure) => {
            tell(&failure, json);
            ExitCode::from(2)
        }
    }
}

/// Says what is wrong with the arguments, or prints the help or the version that they ask for.
fn misused(mut usage: clap::Error) -> ExitCode {
    // The arguments could not be parsed, so nobody knows their meaning: one that reads `--json` is taken for the flag.
    let json = std::env::args_os()
        .skip(1)
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json");
    if !usage.use_stderr() {
        usage.exit();
    }
    suggest(&mut usage);
    if !json {
        usage.exit();
    }
    let text = usage.render().to_string();
    tell(&text.trim().trim_start_matches("error: ").into(), true);
    ExitCode::from(2)
}

/// Makes the suggestions of an error ones that help: commands that are shown in the help, also where two letters are in each other's
/// place, `run` where a model stands in a command's place; and no advice to write an unknown option after `--`.
fn suggest(usage: &mut clap::Error) {
    let given = |kind| match usage.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    match usage.kind() {
        ErrorKind::InvalidSubcommand => {
            let written = given(ContextKind::InvalidSubcommand);
            let tip = if written.ends_with(".onnx") || Path::new(&written).is_file() {
                Some(format!("sardonyx run {written}"))
            } else {
                let program = Cli::command();
                let commands = program.get_subcommands().filter(|command| !command.is_hide_set());
                let names: Vec<&str> = commands.map(|command| command.get_name()).collect();
                nearest(&written, &names).map(str::to_string)
            };
            let tips = tip.into_iter().collect();
            usage.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(tips));
        }
        ErrorKind::UnknownArgument => {
            let written = given(ContextKind::InvalidArg);
            let program = Cli::command();
            let options = program.get_subcommands().flat_map(|command| command.get_arguments());
            let mut names: Vec<String> =
                options.filter_map(|option| Some(format!("--{}", option.get_long()?))).collect();
            names.sort();
            names.dedup();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            usage.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![]));
            if usage.get(ContextKind::SuggestedArg).is_none()
                && let Some(near) = nearest(&written, &names)
            {
                usage.insert(ContextKind::SuggestedArg, ContextValue::String(near.into()));
            }
        }
        _ => {}
    }
}

/// The name that one slip away from what was written: a letter too many, too few or another, or two in each other's place; of longer
/// names two slips.
fn nearest<'n>(written: &str, names: &[&'n str]) -> Option<&'n str> {
    let most = if written.chars().count() < 6 { 1 } else { 2 };
    let slips = |name: &&&str| slips(written, name);
    names.iter().filter(|name| slips(name) <= most).min_by_key(slips).copied()
}

/// The number of slips between two words (optimal string alignment).
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// Says why there is no result.
fn tell(failure: &Failure, json: bool) {
    // Where standard output takes nothing either, there is nobody to tell.
    if json && print_json(&failure.json()).is_ok() {
        return;
    }
    complain(&format!("error: {failure}"));
}

/// The exit code where nobody reads standard output any more (`| head`): what a shell reports of a program that SIGPIPE ends.
const NO_READER: i32 = 141;

/// Mesa's Vulkan layer that sorts devices looks for a display, and libwayland complains on standard error where this variable names
/// no folder.
fn without_complaints_about_displays() {
    const FOLDER: &str = "XDG_RUNTIME_DIR";
    if cfg!(target_os = "linux")
        && !std::env::var_os(FOLDER).is_some_and(|folder| Path::new(&folder).is_absolute())
    {
        // SAFETY: the program has one thread yet, so nobody reads the environment at the same time.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(FOLDER, "/nonexistent");
        }
    }
}

/// Prints to standard output. If the reader has gone away, the program ends without a word.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(NO_READER),
        Err(error) => Err(format!("standard output: {error}").into()),
    }
}

/// Prints JSON. What a terminal acts upon is escaped: JSON demands that of a part of these characters only.
fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    let mut text = String::new();
    for character in format!("{value:#}\n").chars() {
        let mut units = [0; 2];
        match character {
            '\n' => text.push(character),
            _ if shown(character.encode_utf8(&mut [0; 4])).to_string().len() <= character.len_utf8() => {
                text.push(character)
            }
            _ => character.encode_utf16(&mut units).iter().for_each(|unit| text += &format!("\\u{unit:04x}")),
        }
    }
    print(&text)
}

/// Prints a line to standard error, if it can be written to.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// `1 node`, `2 nodes`.
fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// `1.5 MiB`.
fn bytes(count: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", count as f64 / *size as f64),
        None => format!("{count} B"),
    }
}

/// `label     first, second, ...` in lines of at most 110 characters, if the parts allow it; lines after the first are
/// indented.
fn listed<'a>(label: &str, parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = format!("{label:<9}");
    let mut width = text.len();
    for (i, part) in parts.into_iter().enumerate() {
        let part = shown(part).to_string();
        if i > 0 {
            text.push(',');
        }
        if i > 0 && width + part.chars().count() > 107 {
            text += &format!("\n{:9}", "");
            width = 9;
        }
        text += &format!(" {part}");
        width += part.chars().count() + 2;
    }
    text.push('\n');
    text
}

/// On which devices the nodes run.
fn placement(plan: &PlanSummary) -> String {
    let PlanSummary { nodes, planned_nodes, dispatches, segments, unplanned_segments, host_nodes, .. } = plan;
    let passes = match (segments, unplanned_segments) {
        (1, _) => "of one pass".into(),
        (n, 0) => format!("of {n} segments"),
        (n, 1) => format!("of {n} segments, 1 of which is planned during the run"),
        (n, m) => format!("of {n} segments, {m} of which are planned during the run"),
    };
    let planned = match planned_nodes {
        0 => String::new(),
        1 => "; 1 computed while planning, as only shapes need it".into(),
        n => format!("; {n} computed while planning, as only shapes need them"),
    };
    let on_host =
        |computes: bool, what: &str| match host_nodes.iter().filter(|node| node.computes == computes).count()
        {
            0 => String::new(),
            1 => format!("; 1 on the host, as it {what}"),
            n => format!("; {n} on the host, as each {what}"),
        };
    let host = on_host(false, "handles strings or containers") + &on_host(true, "computes with float64");
    let on_device = nodes - planned_nodes - host_nodes.len();
    let (nodes, s) = (counted(on_device, "node"), if *dispatches == 1 { "" } else { "es" });
    format!("{nodes} on the GPU, in {dispatches} dispatch{s} {passes}{planned}{host}")
}

/// The nodes that the host runs, a line for each; nothing if there are none.
fn host_nodes(plan: &PlanSummary) -> String {
    let parts: Vec<String> = plan
        .host_nodes
        .iter()
        .map(|node| format!("{} '{}'", shown(&node.operator), shown(&node.node)))
        .collect();
    if parts.is_empty() { String::new() } else { listed("host", parts.iter().map(String::as_str)) }
}

/// Where the host looks at values during a run, a line for each; nothing if it does not.
fn sync_points(plan: &PlanSummary) -> String {
    let parts: Vec<String> = plan
        .sync_points
        .iter()
        .map(|point| {
            format!("{} for {} '{}'", shown(&point.value), shown(&point.operator), shown(&point.node))
        })
        .collect();
    if parts.is_empty() { String::new() } else { listed("reads", parts.iter().map(String::as_str)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_slip_finds_its_word() {
        let names = ["run", "inspect", "bench", "verify"];
        let found = ["rnu", "rum", "bnech", "benhc", "isnpect", "verfiy", "frobnicate", "", "x"];
        let expected = ["run", "run", "bench", "bench", "inspect", "verify"].map(Some);
        assert_eq!(found.map(|word| nearest(word, &names))[..6], expected);
        assert_eq!(found.map(|word| nearest(word, &names))[6..], [None; 3]);
    }

    /// A number with a minus sign is refused for what it is, and not taken for an option.
    #[test]
    fn numbers_may_be_negative_or_are_refused_for_that() {
        let program = Cli::command();
        for command in program.get_subcommands() {
            for option in command.get_arguments() {
                let numeric = |name: &clap::builder::Str| ["N", "X", "R,G,B"].contains(&name.as_str());
                if option.get_value_names().is_none_or(|names| !names.iter().any(numeric)) {
                    continue;
                }
                let Some(long) = option.get_long() else { continue };
                let line = ["sardonyx", command.get_name(), "m.onnx", &format!("--{long}"), "-1"];
                let kind = Cli::try_parse_from(line).err().map(|error| error.kind());
                assert_ne!(kind, Some(ErrorKind::UnknownArgument), "{line:?}");
            }
        }
    }

    #[test]
    fn lists_are_wrapped() {
        assert_eq!(listed("few", ["a", "b"]), "few       a, b\n");
        let long = "x".repeat(60);
        let text = listed("long", [long.as_str(), &long, "y"]);
        assert_eq!(text, format!("long      {long},\n          {long}, y\n"));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!([0, 1023, 1536, 3 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]);
    }
}
