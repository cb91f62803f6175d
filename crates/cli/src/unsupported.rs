//! Nodes that the device cannot compute: all of them, and what can be done. Every command counts them alike.

use std::collections::BTreeMap;

use super::{Failure, counted, listed};
use sardonyx::{Device, Error, Model, Session, SessionOptions, UnsupportedNode, shown};

/// A session of the model. Where it has unsupported nodes, the failure lists all of them, those in subgraphs included.
pub(super) fn session(device: &Device, model: &Model) -> Result<Session, Failure> {
    Session::new(device, model, SessionOptions::default()).map_err(|error| match error {
        Error::Unsupported(_) if !model.unsupported().is_empty() => {
            Error::Unsupported(model.unsupported().to_vec()).into()
        }
        other => other.into(),
    })
}

/// The most node names that are listed for one operator and reason; `--json` lists all.
const NAMED: usize = 12;

/// All nodes, grouped by operator, opset and reason, and after each row of groups what can be done about them.
pub(super) fn text(nodes: &[UnsupportedNode]) -> String {
    let mut groups: BTreeMap<(&str, i64, &str), Vec<&str>> = BTreeMap::new();
    for UnsupportedNode { node, op, opset, reason, .. } in nodes {
        groups.entry((op, *opset, reason)).or_default().push(node);
    }
    let mut text = format!("unsupported: {}\n", counted(nodes.len(), "node"));
    let mut groups = groups.into_iter().peekable();
    while let Some(((op, opset, reason), names)) = groups.next() {
        text += &format!("  {} {} (opset {opset}): {}\n", names.len(), shown(op), shown(reason));
        let more = format!("and {} more", names.len().saturating_sub(NAMED));
        let more = (names.len() > NAMED).then_some(more.as_str());
        text += &listed("", names.iter().copied().take(NAMED).chain(more));
        // What helps several groups in a row is said once.
        let advice = hint(op, reason);
        if groups.peek().is_none_or(|((op, _, reason), _)| hint(op, reason) != advice) {
            text += &format!("          what can be done: {advice}\n");
        }
    }
    text
}

/// What a user can do about an operator that is refused for a reason.
fn hint(op: &str, reason: &str) -> &'static str {
    match op {
        "If" | "Loop" | "Scan" => {
            "export the model without control flow, or fix its input sizes and let onnxsim fold the branches away"
        }
        _ if ["float64", "double"].iter().any(|word| reason.contains(word)) => {
            "run it on the CPU reference (--device cpu), or convert the model to float32"
        }
        _ if reason.contains("seed") => "give the node a seed",
        _ if reason.contains("string") => {
            "let another program do what works on strings, before or after the model"
        }
        _ if reason.contains("does not run on a device") || reason.contains("the device does not") => {
            "run it on the CPU reference (--device cpu)"
        }
        _ if op.starts_with("ai.onnx.ml.") => {
            "let another program compute what scikit-learn's operators do, before or after the model"
        }
        _ if op.contains('.') => "export the model with operators of ONNX itself, without this library's own",
        // An operator that exists in other opset versions.
        _ if reason.contains("is outside") => "convert the model to an opset version in between",
        _ => {
            "export the model without this operator, or let another program compute it before or after the model"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_says_what_can_be_done() {
        let cases = [
            ("If", "is control flow", "onnxsim"),
            ("Add", "float64 does not run on a device", "float32"),
            ("RandomUniform", "has no seed", "seed"),
            ("StringConcat", "string tensors", "another program"),
            ("com.acme.Gizmo", "is unknown", "operators of ONNX itself"),
            ("ai.onnx.ml.Scaler", "Sardonyx has no such operator", "scikit-learn"),
            ("Add", "opset 5 is outside 7 to 28", "opset version in between"),
            ("NonMaxSuppression", "Sardonyx has no such operator", "without this operator"),
            ("Relu", "float64 does not run on a device", "--device cpu"),
        ];
        for (op, reason, expected) in cases {
            assert!(hint(op, reason).contains(expected), "{op}");
        }
    }
}
