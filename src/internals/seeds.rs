//! Small files to begin fuzzing with: the cases of every operator, as ONNX models and as the text of graphs.

use bytes::Bytes;
use prost::Message;

use super::cases::listed_cases;
use super::{builder, proto};
use crate::Tensor;
use crate::graph::Attr;
use crate::ops::case::{Case, graph_of_case};
use proto::attribute_proto::AttributeType;
use proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// A case's name, its ONNX file and its text.
pub struct Seed {
    pub name: String,
    pub model: Vec<u8>,
    pub text: String,
}

/// Up to `each` cases of every operator, those first that differ most from its other cases: the first and the last.
pub fn seeds(each: usize) -> Vec<Seed> {
    let cases: Vec<Case> = listed_cases().into_iter().filter(has_file).collect();
    let of_one_operator = cases.chunk_by(|a, b| (&a.domain, &a.op_type) == (&b.domain, &b.op_type));
    let chosen = of_one_operator.flat_map(|cases| {
        let (first, last) = (each.div_ceil(2).min(cases.len()), cases.len().saturating_sub(each / 2));
        cases[..first].iter().chain(&cases[last.max(first)..])
    });
    chosen.map(seed).chain([of_containers()]).collect()
}

/// Whether the case can be written as a file here: subgraphs cannot.
fn has_file(case: &Case) -> bool {
    !case.attributes.iter().any(|(_, attr)| matches!(attr, Attr::Graph(_)))
}

/// A model with a sequence, an optional and a map, as no case has them.
fn of_containers() -> Seed {
    use builder::{INT64, int, ints, map, node, optional, sequence, value};
    let float = |name: &str| value(name, builder::FLOAT, &["n"]);
    let nodes = vec![
        node("SequenceInsert", &["s", "x", "at"], &["longer"]),
        node("SequenceErase", &["longer", "at"], &["shorter"]),
        node("SequenceAt", &["longer", "at"], &["element"]),
        node("SequenceConstruct", &["element", "x"], &["two"]),
        node("ConcatFromSequence", &["two"], &["joined"]).with(int("axis", 0)).with(int("new_axis", 1)),
        node("SplitToSequence", &["joined"], &["rows"]).with(int("keepdims", 0)),
        node("SequenceLength", &["rows"], &["count"]),
        node("OptionalHasElement", &["o"], &["has"]),
        node("OptionalGetElement", &["o"], &["got"]),
        node("Optional", &["got"], &["again"]),
        node("DictVectorizer", &["m"], &["row"]).of("ai.onnx.ml").with(ints("int64_vocabulary", &[0, 1])),
        node("ZipMap", &["row"], &["maps"]).of("ai.onnx.ml").with(ints("classlabels_int64s", &[0, 1])),
    ];
    let inputs = vec![
        sequence(float("s")),
        float("x"),
        value("at", INT64, &[]),
        optional(float("o")),
        map("m", INT64),
    ];
    let untyped = |name: &str| proto::ValueInfoProto { name: name.into(), ..Default::default() };
    let outputs = ["shorter", "rows", "count", "has", "again", "maps"].map(untyped).to_vec();
    let graph = GraphProto {
        name: "containers".into(),
        input: inputs,
        output: outputs,
        node: nodes,
        ..Default::default()
    };
    let mut model = builder::model(21, graph);
    model.opset_import.push(builder::import("ai.onnx.ml", 4));
    Seed { name: "containers".into(), model: builder::bytes(&model).to_vec(), text: String::new() }
}

fn seed(case: &Case) -> Seed {
    Seed {
        name: case.name.replace('/', "-"),
        model: model(case),
        text: graph_of_case(case).unwrap().to_string(),
    }
}

/// The ONNX file of a case: one node, whose inputs are the model's inputs or its initializers.
fn model(case: &Case) -> Vec<u8> {
    let name = |i: usize| format!("input_{i}");
    let mut graph = GraphProto { name: case.name.clone(), ..GraphProto::default() };
    let mut node = NodeProto {
        op_type: case.op_type.clone(),
        domain: case.domain.clone(),
        attribute: case.attributes.iter().map(|(name, attr)| attribute(name, attr)).collect(),
        ..NodeProto::default()
    };
    for (i, tensor) in case.inputs.iter().enumerate() {
        node.input.push(tensor.as_ref().map_or(String::new(), |_| name(i)));
        let Some(tensor) = tensor else { continue };
        if case.constants.contains(&i) {
            graph.initializer.push(tensor_proto(&name(i), tensor));
            continue;
        }
        let dims: Vec<String> = tensor.shape().iter().map(ToString::to_string).collect();
        let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
        graph.input.push(builder::value(&name(i), tensor_proto("", tensor).data_type, &dims));
    }
    node.output = (0..case.outputs).map(|i| format!("output_{i}")).collect();
    let untyped = |name: &String| proto::ValueInfoProto { name: name.clone(), ..Default::default() };
    graph.output = node.output.iter().map(untyped).collect();
    graph.node = vec![node];
    let mut model = builder::model(if case.domain.is_empty() { case.opset } else { 21 }, graph);
    if !case.domain.is_empty() {
        model.opset_import.push(builder::import(&case.domain, case.opset));
    }
    builder::bytes(&model).to_vec()
}

fn attribute(name: &str, attr: &Attr<crate::ops::Operation>) -> AttributeProto {
    let text = |text: &String| Bytes::from(text.clone());
    let new = |kind| builder::attribute(name, kind);
    match attr {
        Attr::Int(i) => AttributeProto { i: Some(*i), ..new(AttributeType::Int) },
        Attr::Float(f) => AttributeProto { f: Some(*f), ..new(AttributeType::Float) },
        Attr::String(s) => AttributeProto { s: Some(text(s)), ..new(AttributeType::String) },
        Attr::Ints(ints) => AttributeProto { ints: ints.clone(), ..new(AttributeType::Ints) },
        Attr::Floats(floats) => AttributeProto { floats: floats.clone(), ..new(AttributeType::Floats) },
        Attr::Strings(all) => {
            AttributeProto { strings: all.iter().map(text).collect(), ..new(AttributeType::Strings) }
        }
        Attr::Tensor(t) => AttributeProto { t: Some(tensor_proto("", t)), ..new(AttributeType::Tensor) },
        Attr::Graph(_) | Attr::Type(_) | Attr::Other(_) => {
            panic!("no case has the attribute '{name}' of this kind")
        }
    }
}

fn tensor_proto(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto::decode(tensor.to_onnx(name).as_slice()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, onnx};

    /// The file of a case is the case: it has its inputs, and the operator that the table parses.
    #[test]
    fn every_case_is_a_file() {
        for case in listed_cases().into_iter().filter(has_file) {
            let read = onnx::from_bytes(model(&case).into(), &Limits::default())
                .unwrap_or_else(|e| panic!("{}: {e}", case.name));
            let inputs = case.inputs.iter().enumerate();
            let runs = inputs.filter(|(i, tensor)| tensor.is_some() && !case.constants.contains(i)).count();
            assert_eq!(read.graph.listed_inputs().len(), runs, "{}", case.name);
            let own = graph_of_case(&case).unwrap();
            let ops = [&read.graph, &own].map(|graph| format!("{:?}", graph.nodes[0].op));
            assert_eq!(ops[0], ops[1], "{}", case.name);
        }
    }
}
