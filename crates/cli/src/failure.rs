//! Why a command could not do its work.

use std::fmt::{self, Display};
use std::path::Path;

use serde_json::{Value, json};

use super::unsupported;
use sardonyx::{Error, UnsupportedNode, shown};

/// Why a command could not do its work: a sentence, and for programs what kind of reason it is.
#[derive(Debug)]
pub(super) struct Failure {
    kind: &'static str,
    message: String,
    /// The nodes that the device cannot compute, if they are the reason.
    nodes: Vec<UnsupportedNode>,
}

impl Failure {
    /// The failure of a file, in a sentence that names it.
    pub(super) fn of_file(message: String) -> Failure {
        Failure { kind: "file", message, nodes: vec![] }
    }

    /// The failure of a server that was asked.
    pub(super) fn of_server(message: String) -> Failure {
        Failure { kind: "server", message, nodes: vec![] }
    }

    /// The same, with what one can do about it.
    pub(super) fn advised(mut self, advice: &str) -> Failure {
        self.message += &format!("; {advice}");
        self
    }

    /// The same, of a file.
    pub(super) fn in_file(mut self, path: &Path) -> Failure {
        self.message = format!("{}: {}", shown(&path.to_string_lossy()), self.message);
        self
    }

    /// The same where the reference is not wanted: without the advice to take it.
    pub(super) fn without_reference(mut self) -> Failure {
        self.message = self.message.replace(", or take the CPU reference (--device cpu)", "");
        self
    }

    /// As `--json` prints it.
    pub(super) fn json(&self) -> Value {
        let mut error = json!({ "kind": self.kind, "message": self.message });
        if !self.nodes.is_empty() {
            error["nodes"] = json!(self.nodes);
        }
        json!({ "error": error })
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure { kind: "usage", message, nodes: vec![] }
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Failure {
        message.to_string().into()
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::of_file(error.to_string())
    }
}

impl From<sardonyx_pictures::PictureError> for Failure {
    fn from(error: sardonyx_pictures::PictureError) -> Failure {
        Failure::of_file(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let kind = match &error {
            Error::Io { .. } | Error::FileChanged { .. } => "file",
            Error::Decode { .. } | Error::InvalidModel { .. } | Error::ExternalData { .. } => "model",
            Error::Unsupported(_) => "unsupported",
            Error::Node { .. } | Error::NoNode { .. } => "node",
            Error::Input(_) | Error::Output { .. } | Error::Tensor(_) => "input",
            Error::NoAdapter { .. } | Error::BelowFloor { .. } | Error::Device { .. } => "device",
            Error::OutOfMemory { .. } | Error::MemoryLimit { .. } | Error::Limit { .. } => "limit",
            Error::Interrupted => "interrupted",
            _ => "gpu",
        };
        match error {
            Error::Unsupported(nodes) => {
                Failure { kind, message: unsupported::text(&nodes).trim_end().into(), nodes }
            }
            error => Failure { kind, message: on_command_line(&error.to_string()), nodes: vec![] },
        }
    }
}

/// What the library's messages advise, and how one does it here.
const ADVICE: [(&str, &str); 7] = [
    ("raise `Limits::steps`", "raise --limit-steps"),
    ("raise `Limits::bytes`", "raise --limit-bytes"),
    ("load the model anew, or with `FileAccess::Read`", "run again, with --read-files if it changes often"),
    ("make a new Device and a new Session from the same Model", "run again"),
    ("open a GPU (`Device::new`)", "name a GPU (--device)"),
    ("(`Device::reference()`)", "(--device cpu)"),
    // Each command lets a session take enough bits: an operator that refuses a value has no wider form.
    (" `IntegerBits` of the session's options says when it computes in 64, and", ""),
];

/// A message of the library, in the words of the command line.
fn on_command_line(message: &str) -> String {
    ADVICE.iter().fold(message.to_string(), |message, (library, here)| message.replace(library, here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_in_the_words_of_the_command_line() {
        let changed = Error::FileChanged { path: "m.onnx".into(), reason: "it is shorter".into() };
        let expected = "m.onnx: it has changed since the model was loaded: it is shorter; run again, with --read-files if it changes often";
        assert_eq!(Failure::from(changed).to_string(), expected);
        assert_eq!(
            Failure::from(Error::DeviceLost("reset".into())).to_string(),
            "device lost: reset; run again"
        );
    }

    /// Texts of the library that name its own types, and that no command can bring about: it makes no encoders, binds no buffers,
    /// opens its devices by name, and loads models from files.
    const NOT_SAID_HERE: [&str; 7] = [
        "`Device::encoder`",
        "`Device::wgpu`",
        "`DeviceOptions::descriptor_for`",
        "use Model::load",
        "`Device::new`",
        "`Session::",
        "`wgpu::Limits::default()`",
    ];

    #[test]
    fn no_word_of_the_library_is_left() {
        let mut found = 0;
        for (path, line) in lines_of_the_library() {
            // A literal with a path of Rust in it, as `Limits::steps`.
            let names =
                line.contains('"') && line.split('`').skip(1).step_by(2).any(|word| word.contains("::"));
            if !names || NOT_SAID_HERE.iter().any(|word| line.contains(word)) {
                continue;
            }
            found += 1;
            assert!(ADVICE.iter().any(|(library, _)| line.contains(library)), "{path}: {line}");
        }
        assert!(found >= 4, "{found}");
        for (library, here) in ADVICE {
            let said = lines_of_the_library().iter().any(|(_, line)| line.contains(library));
            assert!(said, "the library says no more: {library}");
            assert!(!here.contains('`'), "{here}");
        }
    }

    /// The lines of the library's sources, without comments and tests.
    fn lines_of_the_library() -> Vec<(String, String)> {
        let mut waiting = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../src"))];
        let mut lines = Vec::new();
        while let Some(folder) = waiting.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                if path.is_dir() {
                    waiting.extend((name != "tests" && name != "internals").then_some(path));
                } else if name != "tests.rs" {
                    let text = std::fs::read_to_string(&path).unwrap_or_default();
                    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                    let code = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
                    lines.extend(code.map(|line| (path.display().to_string(), line.to_string())));
                }
            }
        }
        lines
    }

    #[test]
    fn a_failure_is_a_sentence_and_an_object() {
        let failure = Failure::from(Error::Interrupted);
        assert_eq!(failure.to_string(), "interrupted");
        let expected = json!({ "error": { "kind": "interrupted", "message": "interrupted" } });
        assert_eq!(failure.json(), expected);
        let node =
            UnsupportedNode { node: "n".into(), op: "Foo".into(), opset: 17, reason: "is unknown".into() };
        let unsupported = Failure::from(Error::Unsupported(vec![node]));
        assert_eq!(unsupported.json()["error"]["nodes"][0]["op"], "Foo");
    }
}
