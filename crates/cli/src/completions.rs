//! Completion in shells: commands and options, adapters for `--device`, and the names of the model on the line.
//!
//! `sardonyx completions SHELL` prints a script that asks this program for each completion, by an environment variable.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{CompleteEnv, Shells};
use sardonyx::Model;

use super::inputs::symbols;
use super::{Cli, Failure, Verdict, print};

/// The variable by which a shell's script asks for completions.
const ASKED: &str = "COMPLETE";
const PROGRAM: &str = "sardonyx";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sardonyx completions bash > ~/.local/share/bash-completion/completions/sardonyx
  sardonyx completions zsh > ~/.zfunc/_sardonyx
  sardonyx completions fish > ~/.config/fish/completions/sardonyx.fish")]
pub(super) struct Args {
    /// The shell; its manual says where the script belongs.
    shell: Shell,
}

pub(super) fn main(args: &Args) -> Verdict {
    let mut script = Vec::new();
    let shell = args.shell.to_string();
    let shells = Shells::builtins();
    let completer = shells.completer(&shell);
    let completer = completer.ok_or_else(|| Failure::from(format!("{shell}: there is no script for it")))?;
    completer.write_registration(ASKED, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    print(&String::from_utf8_lossy(&script))?;
    Ok(true)
}

/// Answers a shell that asks for completions, and ends the program then.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(ASKED).bin(PROGRAM).complete();
}

/// What `--device` takes.
pub(super) fn devices() -> Vec<CompletionCandidate> {
    let special = [
        ("auto", "hardware before software"),
        ("gpu", "no reference"),
        ("cpu", "the reference, which is slow"),
    ];
    let special = special.map(|(name, help)| CompletionCandidate::new(name).help(Some(help.into())));
    let adapters = sardonyx::adapters().into_iter().filter_map(|adapter| {
        let candidate = CompletionCandidate::new(adapter.index?.to_string());
        Some(candidate.help(Some(format!("{}, {}", adapter.name, adapter.driver).into())))
    });
    special.into_iter().chain(adapters).collect()
}

/// `NAME=` for each input of the model on the line, and files after it.
#[derive(Clone)]
pub(super) struct InputNames;

impl ValueCompleter for InputNames {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let Some((name, path)) = current.to_str().and_then(|text| text.split_once('=')) else {
            return of_model(|model| {
                model.inputs().iter().map(|info| (info.name.clone(), info.to_string())).collect()
            });
        };
        let files = PathCompleter::any().complete(OsStr::new(path)).into_iter();
        files.map(|file| file.add_prefix(format!("{name}="))).collect()
    }
}

/// `NAME=` for each dimension that the model on the line names.
pub(super) fn dimensions() -> Vec<CompletionCandidate> {
    of_model(|model| symbols(model).into_iter().map(|name| (name.to_string(), String::new())).collect())
}

fn of_model(names: impl Fn(&Model) -> Vec<(String, String)>) -> Vec<CompletionCandidate> {
    let Some(model) = model_on_line().and_then(|path| Model::load(path).ok()) else { return vec![] };
    let candidate = |(name, help): (String, String)| {
        CompletionCandidate::new(format!("{name}=")).help((!help.is_empty()).then(|| help.into()))
    };
    names(&model).into_iter().map(candidate).collect()
}

/// The first file on the line that is called a model.
fn model_on_line() -> Option<PathBuf> {
    let is_model = |path: &PathBuf| path.extension().is_some_and(|e| e == "onnx") && Path::is_file(path);
    std::env::args_os().map(PathBuf::from).find(is_model)
}
