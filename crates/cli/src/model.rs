//! The model that a command is about.

use std::path::{Path, PathBuf};

use super::{Failure, files, number};
use sardonyx::{Error, FileAccess, Limits, LoadOptions, Model};

/// The heading of these options in a command's help.
const HEADING: &str = "Loading";

#[derive(Debug, clap::Args)]
pub(super) struct ModelArgs {
    /// The .onnx file.
    model: PathBuf,
    /// Read the model's files before anything else, instead of mapping them: for files that others may change meanwhile. This takes
    /// their size in memory.
    #[arg(long, help_heading = HEADING)]
    read_files: bool,
    /// The steps that folding constants and planning may take, for models that need more than 67 million.
    #[arg(long, value_name = "N", help_heading = HEADING, value_parser = number::whole::<0>, allow_negative_numbers = true)]
    limit_steps: Option<u64>,
    /// The bytes that folding constants and planning may take beyond the model's own tensors, for models that need more than 128 MiB.
    #[arg(long, value_name = "N", help_heading = HEADING, value_parser = number::whole::<0>, allow_negative_numbers = true)]
    limit_bytes: Option<u64>,
}

impl ModelArgs {
    pub(super) fn path(&self) -> &Path {
        &self.model
    }

    pub(super) fn load(&self) -> Result<Model, Failure> {
        let mut file = files::open(&self.model)?;
        let access = if self.read_files { FileAccess::Read } else { FileAccess::Map };
        let limits = self.limit_steps.map_or(Limits::new(), |steps| Limits::new().steps(steps));
        let limits = self.limit_bytes.map_or(limits.clone(), |bytes| limits.bytes(bytes));
        let loaded = Model::load_with(&self.model, LoadOptions::new().files(access).limits(limits));
        let Err(error @ (Error::Decode { .. } | Error::InvalidModel { .. })) = loaded else {
            return Ok(loaded?);
        };
        // A file of another kind is told by its first bytes better than by where decoding ended.
        match files::kind(&files::beginning(&self.model, &mut file)?) {
            files::Kind::Unknown => Err(error.into()),
            kind => Err(files::failed(&self.model, format!("is {kind}, and not an ONNX model"))),
        }
    }
}
