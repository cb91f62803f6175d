//! Why a command could not do its work.

use std::fmt::{self, Display};

use serde_json::{Value, json};

use super::unsupported;
use sardonyx::{Error, UnsupportedNode};

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
const ADVICE: [(&str, &str); 5] = [
    ("raise `Limits::steps`", "raise --limit-steps"),
    ("raise `Limits::bytes`", "raise --limit-bytes"),
    ("load the model anew, or with `FileAccess::Read`", "run again, with --read-files if it changes often"),
    ("make a new Device and a new Session from the same Model", "run again"),
    ("open a GPU (`Device::new`)", "name a GPU (--device)"),
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
        // As long as the library says these words, they are replaced.
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src");
        let texts = ["budget.rs", "error.rs", "session/mod.rs"]
            .map(|file| std::fs::read_to_string(format!("{sources}/{file}")).unwrap_or_default());
        for (library, _) in ADVICE {
            assert!(texts.iter().any(|text| text.contains(library)), "the library says no more: {library}");
        }
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
