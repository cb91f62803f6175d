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
        Failure { kind: "file", message: error.to_string(), nodes: vec![] }
    }
}

impl From<sardonyx_pictures::PictureError> for Failure {
    fn from(error: sardonyx_pictures::PictureError) -> Failure {
        Failure { kind: "file", message: error.to_string(), nodes: vec![] }
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
            error => Failure { kind, message: error.to_string(), nodes: vec![] },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
