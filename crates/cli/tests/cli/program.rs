//! The `sardonyx` program, as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sardonyx_testing::onnx::build::bytes;
use sardonyx_testing::onnx::proto::ModelProto;

/// How a run of the program ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        Ended {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The program, not started yet.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sardonyx"))
}

/// Runs the program.
pub fn run<T: AsRef<std::ffi::OsStr>>(arguments: &[T]) -> Ended {
    program().args(arguments).output().unwrap().into()
}

/// Runs the program, which must succeed, and returns its standard output.
pub fn output<T: AsRef<std::ffi::OsStr> + std::fmt::Debug>(arguments: &[T]) -> String {
    let ended = run(arguments);
    assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    ended.out
}

/// Writes a model file into `folder`.
pub fn save(folder: &Path, name: &str, model: &ModelProto) -> PathBuf {
    let path = folder.join(name).with_extension("onnx");
    std::fs::write(&path, bytes(model)).unwrap();
    path
}

/// A folder that is removed after the test, and the path of a model in it.
pub struct ModelFolder {
    pub folder: tempfile::TempDir,
    pub model: String,
}

impl ModelFolder {
    pub fn of(model: &ModelProto) -> ModelFolder {
        let folder = tempfile::tempdir().unwrap();
        let model = save(folder.path(), "model", model).to_str().unwrap().to_string();
        ModelFolder { folder, model }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }
}
