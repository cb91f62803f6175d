//! Why nodes are not fused, not views, or not in place: `tests/why/*.graph`. A file has several examples between lines of
//! `----`: a comment, the graph, `=>`, and findings that `Session::why` must make, one on each line: a node, and a saving with
//! the rule that refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::passes::parts;
use crate::internals::text::read;
use crate::ops::{Graph, case};
use crate::{Device, Dim, Error, Finding, Saving, Session, SessionOptions, Tensor};

/// Rules that no example can show.
const UNSEEN: &[(&str, &str)] = &[
    ("NoRegister", "the device refuses the node, so there is no plan"),
    (
        "OwnKernel",
        "the question that is asked later, of code before and after kernels, has an answer of its own",
    ),
    ("HasEpilogue", "a kernel's value that fused code follows has no other readers"),
    ("WrittenBefore", "no operator's last kernel computes in place what others have written in parts"),
    ("OtherCount", "kernels that compute in place have a result for each element"),
];

fn session(graph: Graph, options: SessionOptions) -> Session {
    Session::of_graph(&Device::noop(), Arc::new(graph), options, vec![]).unwrap()
}

/// Inputs of the declared sizes; an undeclared size is `open`.
fn inputs(graph: &Graph, open: usize) -> Vec<(String, Tensor)> {
    let size = |dim: &Dim| if let Dim::Known(size) = dim { *size } else { open };
    let input = |value: &crate::graph::Value| {
        let shape: Vec<usize> = value.shape.iter().flatten().map(size).collect();
        (value.name.clone(), case::converted(&case::random(&shape), value.dtype.unwrap()))
    };
    graph.inputs.iter().map(|id| input(graph.value(*id))).collect()
}

fn named(inputs: &[(String, Tensor)]) -> Vec<(&str, &Tensor)> {
    inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
}

/// A finding without its sentence.
fn brief(finding: &Finding) -> String {
    let (label, relation) = match finding.saving {
        Saving::Fused => ("fused", "with"),
        Saving::View => ("view", "of"),
        Saving::InPlace => ("in place", "over"),
    };
    let not = if finding.saved { "" } else { " not" };
    let other = finding.other.as_ref().map_or(String::new(), |other| format!(" {relation} {other}"));
    let rule = finding.rule.as_ref().map_or(String::new(), |rule| format!(" [{rule}]"));
    format!("{label} %{}{not}{other}{rule}", finding.value)
}

#[test]
fn examples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/why");
    let (mut shown, mut wrong) = (BTreeSet::new(), Vec::new());
    for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&file).unwrap();
        for example in text.trim_end().split("\n----\n") {
            let (comment, graph, expected) = parts(example);
            let graph = read(graph).unwrap_or_else(|fault| panic!("{comment}{fault}"));
            let given = inputs(&graph, 64);
            let session = session(graph, SessionOptions::default());
            for line in expected.lines() {
                let (node, expected) = line.split_once(": ").unwrap();
                let why =
                    session.why(node, &named(&given)).unwrap_or_else(|error| panic!("{comment}{error}"));
                match why.findings.iter().find(|finding| brief(finding) == expected) {
                    Some(finding) => drop(shown.insert(finding.rule.clone().unwrap_or_default())),
                    None => wrong.push(format!("{comment}{line}\nis not among\n{why}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(shown, rules_to_show());
}

/// The rules of `Refusal`, without the unseen ones and those of the tests below; and "none", which stands for a saving.
fn rules_to_show() -> BTreeSet<String> {
    let source = include_str!("../plan/refusal.rs");
    let name = |attribute: &str| {
        let (_, variant) = attribute.split_once(")]\n").unwrap();
        variant.trim_start().split([' ', ',', '{']).next().unwrap().to_string()
    };
    let mut rules: BTreeSet<String> = source.split("#[error(").skip(1).map(name).collect();
    for (rule, _) in UNSEEN {
        assert!(rules.remove(*rule), "{rule} is no rule");
    }
    for rule in ["FusionOff", "FusedBefore", "FarApart"] {
        assert!(rules.remove(rule));
    }
    rules.insert(String::new());
    rules
}

fn chain() -> Graph {
    let text = "graph 'why', 2 nodes\ninput %x: float32[rows, 8]\ninput %z: float32[4, 8]\n%r = Relu-28(%x)\n\
                %y = Add-28(%r, %z)\noutput %y";
    read(text).unwrap()
}

fn found(session: &Session, node: &str, rows: usize) -> Vec<String> {
    let graph = chain();
    session.why(node, &named(&inputs(&graph, rows))).unwrap().findings.iter().map(brief).collect()
}

#[test]
fn without_fusion_nothing_is_fused() {
    let session = session(chain(), SessionOptions::new().fusion(false));
    assert!(found(&session, "y", 4).contains(&"fused %r not with r [FusionOff]".to_string()));
}

#[test]
fn what_was_fused_is_kept() {
    let session = session(chain(), SessionOptions::default());
    assert!(found(&session, "y", 4).contains(&"fused %r with r".to_string()));
    // With one row, the sum has another shape than its operand. The first run decides this for runs with four rows too.
    let (one, four) = (inputs(&chain(), 1), inputs(&chain(), 4));
    let later = self::session(chain(), SessionOptions::default());
    later.plan(&named(&one)).unwrap();
    later.plan(&named(&four)).unwrap();
    assert!(found(&later, "r", 1).contains(&"fused %r not with y [OtherShape]".to_string()));
    assert!(found(&later, "r", 4).contains(&"fused %r not with y [FusedBefore]".to_string()));
}

/// Whether a path leads from `r` to `y` is not found out: 5,000 products are between them.
#[test]
fn what_is_far_apart_is_not_fused() {
    let mut text = "graph 'why', 5002 nodes\ninput %x: float32[2, 2]\nconstant %w: float32[2, 2]\n\
                    %r = Relu-28(%x)\n%m0 = MatMul-28(%r, %w)\n"
        .to_string();
    for i in 1..5000 {
        text += &format!("%m{i} = MatMul-28(%m{}, %w)\n", i - 1);
    }
    let graph = read(&(text + "%y = Add-28(%r, %m4999)\noutput %y")).unwrap();
    let given = inputs(&graph, 1);
    let why = session(graph, SessionOptions::default()).why("r", &named(&given)).unwrap();
    let briefs: Vec<String> = why.findings.iter().map(brief).collect();
    assert!(briefs.contains(&"fused %r not with y [FarApart]".to_string()), "{briefs:?}");
}

/// Asking creates nothing, and changes no later plan.
#[test]
fn asking_changes_no_plan() {
    let (asked, silent) =
        (session(chain(), SessionOptions::default()), session(chain(), SessionOptions::default()));
    let given = inputs(&chain(), 4);
    asked.why("y", &named(&given)).unwrap();
    let program = |session: &Session| session.explain(crate::Stage::Program, &named(&given)).unwrap();
    assert_eq!(program(&asked), program(&silent));
}

#[test]
fn a_node_that_is_not_there_is_named_with_those_like_it() {
    let text = "graph 'why', 2 nodes\ninput %x: float32[4, 8]\n%relu_1 = Relu-28(%x)\n%y = Tanh-28(%relu_1)\noutput %y";
    let graph = read(text).unwrap();
    let given = inputs(&graph, 1);
    let error = session(graph, SessionOptions::default()).why("relu1", &named(&given)).unwrap_err();
    assert!(matches!(error, Error::NoNode { .. }));
    assert!(
        error.to_string().contains("node 'relu1'") && error.to_string().contains("like it: relu_1"),
        "{error}"
    );
}

#[test]
fn what_only_shapes_need_has_no_kernel() {
    let text = "graph 'why', 2 nodes\ninput %x: float32[4, 8]\n%s = Shape-28(%x)\n%y = Reshape-28(%x, %s)\noutput %y";
    let graph = read(text).unwrap();
    let given = inputs(&graph, 1);
    let why = session(graph, SessionOptions::default()).why("s", &named(&given)).unwrap();
    assert!(why.kernel.is_empty() && why.findings.is_empty());
    assert!(why.to_string().contains("known while planning"), "{why}");
}
