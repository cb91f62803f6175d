//! `sardonyx repo`: folders of models that `sardonyx serve` serves.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::{Failure, Verdict, print, print_json};
use sardonyx::shown;
use sardonyx_server::repository::{Added, add};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Copy a model into a repository, with the files of its weights, and a configuration to edit.
    #[command(after_help = "\
Examples:
  sardonyx repo add resnet50.onnx models                          models/resnet50/1/model.onnx, and models/resnet50/config.pbtxt
  sardonyx repo add new.onnx models --name resnet50               the next version of it
  sardonyx serve models

The version appears when it is whole, so a server with --model-control-mode poll loads it at its next look. The configuration has
the sha256 of the files; the server refuses others.")]
    Add {
        /// The .onnx file.
        #[arg(value_name = "MODEL.onnx")]
        model: PathBuf,
        /// The folder of models; it is made if there is none.
        #[arg(value_name = "REPOSITORY")]
        repository: PathBuf,
        /// The model's name [default: that of the file]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The version's number [default: the next]
        #[arg(long, value_name = "VERSION")]
        version: Option<u64>,
    },
}

pub(super) fn main(args: &Args, json: bool) -> Verdict {
    let Action::Add { model, repository, name, version } = &args.action;
    let added = add(model, repository, name.as_deref(), *version).map_err(Failure::from)?;
    tell(&added, json)?;
    Ok(true)
}

fn tell(added: &Added, json: bool) -> Result<(), Failure> {
    let Added { name, version, folder, configured, pins } = added;
    if json {
        let folder = folder.to_string_lossy();
        let value = json!({ "name": name, "version": version, "folder": folder, "configured": configured, "pins": pins });
        return print_json(&value);
    }
    let mut text =
        format!("added     {} version {version}, in {}\n", shown(name), shown(&folder.to_string_lossy()));
    if *configured {
        text += "wrote     config.pbtxt\n";
    } else {
        text += "note      the configuration is as it was; with these lines the server refuses files with other contents:\n";
        pins.iter().for_each(|pin| text += &format!("          {}\n", shown(pin)));
    }
    print(&text)
}
