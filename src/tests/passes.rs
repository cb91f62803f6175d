//! What passes make of graphs, and what they leave: `tests/passes/*.graph`. Each file is about one pass, and has examples
//! between lines of `----`: a comment that gives the reason, the graph, `=>`, and the graph after all passes.
//! `UPDATE_GRAPHS=1` writes the last part, which must then be read.

use std::fs;
use std::path::Path;

use crate::facts::InputFact;
use crate::graph::ValueId;
use crate::internals::cases::planner;
use crate::internals::text::read;
use crate::kernels::Target;
use crate::ops::{Graph, case};
use crate::{DType, Dim, Tensor, passes, reference};

const BETWEEN: &str = "\n----\n";

/// An example: its comment, and the graph before and after.
pub(super) fn parts(example: &str) -> (&str, &str, &str) {
    let (before, after) = example.split_once("\n=>\n").unwrap_or((example, ""));
    let at = before.find("graph '").unwrap_or_else(|| panic!("no graph in {example}"));
    (&before[..at], &before[at..], after)
}

/// Inputs of the declared sizes; an undeclared size is 2.
fn inputs(graph: &Graph) -> Vec<Tensor> {
    let size = |dim: &Dim| if let Dim::Known(size) = dim { *size } else { 2 };
    let input = |id: &ValueId| {
        let value = graph.value(*id);
        let shape: Vec<usize> = value.shape.iter().flatten().map(size).collect();
        case::converted(&case::random(&shape), value.dtype.unwrap())
    };
    graph.inputs.iter().map(input).collect()
}

/// Checks that the two graphs compute the same, up to a few roundings of folded constants.
fn assert_same(before: &Graph, after: &Graph, what: &str) {
    let inputs = inputs(before);
    let outputs = |graph: &Graph| {
        let values = reference::run(graph, &inputs, false, &crate::Interrupt::new())
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        reference::outputs(graph, &values).unwrap()
    };
    for (before, after) in outputs(before).iter().zip(outputs(after)) {
        let [before, after] =
            [before, &after].map(|tensor| case::converted(tensor, DType::F32).to_vec::<f32>().unwrap());
        assert_eq!(before.len(), after.len(), "{what}");
        for (b, a) in before.iter().zip(after) {
            assert!((b - a).abs() <= 1e-5 * b.abs().max(1.0), "{what}: {b} {a}");
        }
    }
}

/// Checks that the graph after the passes is planned, or refused for the dtypes that the graph before is refused for.
fn assert_planned(before: &Graph, after: &Graph, what: &str) {
    let facts: Vec<InputFact> = inputs(before).into_iter().map(InputFact::from).collect();
    let [before, after] =
        [before, after].map(|graph| planner(graph, &Target::FLOOR).facts(&facts).map(|_| ()));
    if let (Ok(()), Err(error)) = (before, after) {
        panic!("{what}: {error}");
    }
}

#[test]
fn examples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/passes");
    let update = std::env::var("UPDATE_GRAPHS").is_ok();
    let (mut seen, mut wrong) = (0, Vec::new());
    for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_str().unwrap().to_string();
        let text = fs::read_to_string(&file).unwrap();
        let mut examples = Vec::new();
        for example in text.trim_end().split(BETWEEN) {
            let (comment, before, after) = parts(example);
            assert!(comment.starts_with("// "), "{name}: an example says why:\n{example}");
            let graph = read(before).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            assert_eq!(graph.to_string().trim_end(), before.trim_end(), "{name}: not as it is printed");
            let passed = passes::run(graph.clone(), &crate::Limits::default()).unwrap();
            assert_planned(&graph, &passed, &format!("{name}: {comment}"));
            assert_same(&graph, &passed, &format!("{name}: {comment}"));
            let made = passed.to_string();
            assert_eq!(read(&made).map(|graph| graph.to_string()), Ok(made.clone()), "{name}: not read back");
            if made.trim_end() != after.trim_end() {
                wrong.push(format!("{name}: {comment}{before}\n=> {made}instead of\n{after}"));
            }
            examples.push(format!("{comment}{}\n=>\n{}", before.trim_end(), made.trim_end()));
            seen += 1;
        }
        if update {
            fs::write(&file, examples.join(BETWEEN) + "\n").unwrap();
        }
    }
    assert!(update || wrong.is_empty(), "{} of {seen} examples:\n{}", wrong.len(), wrong.join("\n"));
    assert!(seen >= 30, "only {seen} examples");
}
