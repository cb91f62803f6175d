//! The model that a command is about.

use std::path::{Path, PathBuf};

use sardonyx::{FileAccess, LoadOptions, Model, Result};

#[derive(Debug, clap::Args)]
pub(super) struct ModelArgs {
    /// The .onnx file.
    model: PathBuf,
    /// Read the model's files before anything else, instead of mapping them: for files that others may change meanwhile. This takes
    /// their size in memory.
    #[arg(long)]
    read_files: bool,
}

impl ModelArgs {
    pub(super) fn path(&self) -> &Path {
        &self.model
    }

    pub(super) fn load(&self) -> Result<Model> {
        let files = if self.read_files { FileAccess::Read } else { FileAccess::Map };
        Model::load_with(&self.model, LoadOptions::new().files(files))
    }
}
