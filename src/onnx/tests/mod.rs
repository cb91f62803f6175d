//! Imports that succeed, and their results; `refused` has those that must fail.

mod external;
mod function;
mod refused;
mod tensor;

use super::builder::*;
use super::proto::attribute_proto::AttributeType;
use super::proto::*;
use super::{Imported, decode_tensor, encode_tensor};
use crate::ops::{Attr, Graph};
use crate::{DType, Dim, Limits, Model, Result, Tensor};

fn from_bytes(bytes: bytes::Bytes) -> Result<Imported> {
    super::from_bytes(bytes, &Limits::default())
}

fn load(path: &std::path::Path) -> Result<Imported> {
    super::load(path, super::FileAccess::Map, &Limits::default())
}

fn imported(model: &ModelProto) -> Imported {
    from_bytes(bytes(model)).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(model: &ModelProto) -> String {
    from_bytes(bytes(model)).expect_err("must be refused").to_string()
}

/// `output = Op(inputs)` for each node.
fn text(graph: &Graph) -> Vec<String> {
    let names = |ids: &[Option<crate::graph::ValueId>]| {
        let name = |id: &Option<crate::graph::ValueId>| id.map_or("_", |id| graph.value(id).name.as_str());
        ids.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    let line = |node: &crate::ops::Node| {
        format!("{} = {}({})", names(&node.outputs), node.op_type, names(&node.inputs))
    };
    graph.nodes.iter().map(line).collect()
}

fn constant<'g>(graph: &'g Graph, name: &str) -> &'g Tensor {
    let value = graph.values.iter().find(|value| value.name == name);
    value.and_then(|value| value.constant.as_ref()).unwrap_or_else(|| panic!("no constant '{name}'"))
}

#[test]
fn what_a_model_declares() {
    let mut main = graph(&[], vec![node("Relu", &["pixels"], &["y"])], &["y"]);
    main.input = vec![value("pixels", FLOAT, &["batch", "3", "-1", ""])];
    let mut proto = model(21, main);
    proto.producer_name = "pytorch".into();
    proto.producer_version = "2.9".into();
    proto.opset_import.push(import("ai.onnx.ml", 3));
    proto.metadata_props = vec![StringStringEntryProto { key: "labels".into(), value: "cat,dog".into() }];
    let model = Model::from_bytes(bytes(&proto)).unwrap();
    assert_eq!(model.inputs()[0].to_string(), "pixels: float32[batch, 3, ?, ?]");
    assert_eq!(model.outputs()[0].to_string(), "y: float32[...]");
    assert_eq!(model.inputs()[0].shape.as_ref().unwrap()[0], Dim::Symbol("batch".into()));
    assert_eq!((model.producer(), model.ir_version()), ("pytorch 2.9", 8));
    assert_eq!(model.opsets(), [("".into(), 21), ("ai.onnx.ml".into(), 3)]);
    assert_eq!(model.metadata()["labels"], "cat,dog");
}

#[test]
fn nodes_are_put_in_order() {
    let nodes =
        vec![node("Relu", &["b"], &["c"]), node("Relu", &["x"], &["a"]), node("Relu", &["a"], &["b"])];
    let graph = imported(&model(21, graph(&["x"], nodes, &["c"]))).graph;
    assert_eq!(text(&graph), ["a = Relu(x)", "b = Relu(a)", "c = Relu(b)"]);
}

#[test]
fn an_order_that_is_right_is_kept() {
    let nodes = vec![
        node("Relu", &["x"], &["late"]),
        node("Abs", &["x"], &["a"]),
        node("Add", &["a", "late"], &["y"]),
    ];
    let graph = imported(&model(21, graph(&["x"], nodes, &["y"]))).graph;
    assert_eq!(text(&graph), ["late = Relu(x)", "a = Abs(x)", "y = Add(a, late)"]);
}

#[test]
fn a_long_chain_backwards_needs_no_stack() {
    let link = |i: usize| node("Relu", &[&format!("v{i}")], &[&format!("v{}", i + 1)]);
    let nodes: Vec<NodeProto> = (0..50_000).rev().map(link).collect();
    let graph = imported(&model(21, graph(&["v0"], nodes, &["v50000"]))).graph;
    assert_eq!(graph.nodes.len(), 50_000);
}

#[test]
fn initializers_that_are_inputs_too_are_constants() {
    let mut main = graph(&["x", "w"], vec![node("Add", &["x", "w"], &["y"])], &["y"]);
    main.initializer = vec![weights("w", &[2], &[1.0, 2.0])];
    for ir_version in [3, 8] {
        let graph = imported(&ModelProto { ir_version, ..model(7, main.clone()) }).graph;
        assert_eq!(graph.inputs.len(), 1);
        assert_eq!(constant(&graph, "w").to_vec::<f32>().unwrap(), [1.0, 2.0]);
    }
}

#[test]
fn raw_initializers_share_the_memory_of_the_file() {
    let mut main = graph(&["x"], vec![node("Add", &["x", "w"], &["y"])], &["y"]);
    main.initializer = vec![weights("w", &[64], &[0.5; 64])];
    let file = bytes(&model(21, main));
    let graph = from_bytes(file.clone()).unwrap().graph;
    assert!(file.as_ptr_range().contains(&constant(&graph, "w").bytes().as_ptr()));
}

#[test]
fn sparse_initializers_become_dense() {
    let indices =
        |dims: &[i64], values: &[i64]| TensorProto { int64_data: values.to_vec(), ..empty("", INT64, dims) };
    for indices in [indices(&[2], &[1, 5]), indices(&[2, 2], &[0, 1, 1, 2])] {
        let mut main = graph(&["x"], vec![node("Add", &["x", "w"], &["y"])], &["y"]);
        let values = Some(weights("w", &[2], &[7.0, 8.0]));
        main.sparse_initializer =
            vec![SparseTensorProto { values, indices: Some(indices), dims: vec![2, 3] }];
        let graph = imported(&model(21, main)).graph;
        assert_eq!(constant(&graph, "w").shape(), [2, 3]);
        assert_eq!(constant(&graph, "w").to_vec::<f32>().unwrap(), [0.0, 7.0, 0.0, 0.0, 0.0, 8.0]);
    }
}

#[test]
fn constant_nodes_become_constants() {
    let strings = AttributeProto {
        strings: vec!["a".into(), "b".into()],
        ..attribute("value_strings", AttributeType::Strings)
    };
    let float = AttributeProto { f: Some(0.5), ..attribute("value_float", AttributeType::Float) };
    let cases = vec![
        (tensor_attribute("value", weights("", &[1, 1], &[3.0])), Tensor::from_slice(&[1, 1], &[3.0f32])),
        (int("value_int", -7), Tensor::from_slice(&[], &[-7i64])),
        (ints("value_ints", &[1, 2]), Tensor::from_slice(&[2], &[1i64, 2])),
        (float, Tensor::from_slice(&[], &[0.5f32])),
        (floats("value_floats", &[0.5, 1.5]), Tensor::from_slice(&[2], &[0.5f32, 1.5])),
        (string("value_string", "onyx"), Tensor::from_strings(&[], vec!["onyx".into()])),
        (strings, Tensor::from_strings(&[2], vec!["a".into(), "b".into()])),
    ];
    for (attribute, expected) in cases {
        let nodes = vec![node("Constant", &[], &["c"]).with(attribute)];
        let graph = imported(&model(21, graph(&[], nodes, &["c"]))).graph;
        assert!(graph.nodes.is_empty());
        assert_eq!(*constant(&graph, "c"), expected.unwrap());
    }
}

/// `x > 0 ? x + outer : weight`, where `outer` and `weight` are defined outside of the branches.
fn branches() -> GraphProto {
    let then = graph(&[], vec![node("Add", &["x", "outer"], &["sum"])], &["sum"]);
    let otherwise = graph(&[], vec![node("Identity", &["w"], &["same"])], &["same"]);
    let branch = node("If", &["cond"], &["y"])
        .with(subgraph("then_branch", then))
        .with(subgraph("else_branch", otherwise));
    // The node that computes `outer` stands after the node that captures it.
    let mut main = graph(&["x", "cond"], vec![branch, node("Relu", &["x"], &["outer"])], &["y"]);
    main.initializer = vec![weights("w", &[2], &[1.0, 2.0])];
    main
}

#[test]
fn subgraphs_capture_values_and_repeat_constants() {
    let proto = model(21, branches());
    let mut importer =
        super::Importer::new(&proto, super::External::none(), super::Budget::new(&Limits::default()))
            .unwrap();
    let graph = importer.main(proto.graph.as_ref().unwrap()).unwrap();
    assert_eq!(text(&graph), ["outer = Relu(x)", "y = If(cond, x, outer)"]);

    let then = match &proto.graph.as_ref().unwrap().node[0].attribute[0].g {
        Some(then) => then,
        None => panic!("no branch"),
    };
    let mut importer =
        super::Importer::new(&proto, super::External::none(), super::Budget::new(&Limits::default()))
            .unwrap();
    let error = importer.subgraph(then).unwrap_err().to_string();
    assert_eq!(error, "invalid model: node 'sum' uses 'x', which nothing makes");
}

#[test]
fn captures_pass_through_graphs_between() {
    let inner = graph(&[], vec![node("Add", &["deep", "deep"], &["i"])], &["i"]);
    let middle = node("If", &["cond"], &["m"]).with(subgraph("then_branch", inner.clone()));
    let outer = graph(&[], vec![middle], &["m"]);
    let top = node("If", &["cond"], &["y"]).with(subgraph("then_branch", outer));
    let main = graph(&["deep", "cond"], vec![top], &["y"]);
    let proto = model(21, main);
    let mut importer =
        super::Importer::new(&proto, super::External::none(), super::Budget::new(&Limits::default()))
            .unwrap();
    let graph = importer.main(proto.graph.as_ref().unwrap()).unwrap();
    assert_eq!(text(&graph), ["y = If(cond, cond, deep)"]);
}

#[test]
fn attributes_keep_their_kinds() {
    let proto = model(21, graph(&[], vec![], &[]));
    let bytes_attribute =
        AttributeProto { s: Some(vec![0xff].into()), ..attribute("b", AttributeType::String) };
    let bare = AttributeProto { f: Some(2.5), ..attribute("f", AttributeType::Undefined) };
    let body = graph(&["i"], vec![node("Abs", &["i"], &["o"])], &["o"]);
    let all = node("Op", &[], &[])
        .with(int("i", 3))
        .with(ints("is", &[1, -1]))
        .with(string("s", "same"))
        .with(bytes_attribute)
        .with(bare)
        .with(subgraph("g", body))
        .with(tensor_attribute("t", weights("", &[1], &[1.0])));
    let mut importer =
        super::Importer::new(&proto, super::External::none(), super::Budget::new(&Limits::default()))
            .unwrap();
    let (attributes, captures) = importer.attributes(&all).unwrap();
    assert!(captures.is_empty());
    assert!(matches!(attributes.0["i"], Attr::Int(3)));
    assert!(matches!(&attributes.0["is"], Attr::Ints(v) if *v == [1, -1]));
    assert!(matches!(&attributes.0["s"], Attr::String(s) if s == "same"));
    assert!(matches!(attributes.0["b"], Attr::Other("string that is not UTF-8")));
    assert!(matches!(attributes.0["f"], Attr::Float(2.5)));
    assert!(matches!(&attributes.0["g"], Attr::Graph(g) if g.nodes.len() == 1 && g.inputs.len() == 1));
    assert!(matches!(&attributes.0["t"], Attr::Tensor(t) if t.dtype() == DType::F32));
}

#[test]
fn every_unsupported_node_is_listed() {
    let body = graph(&[], vec![node("Inner", &["x"], &["i"])], &["i"]);
    let nodes = vec![
        node("Frobnicate", &["x"], &["a"]),
        node("Gizmo", &["a"], &["b"]).of("com.acme"),
        node("Outer", &["b"], &["y"]).with(subgraph("body", body)),
        node("Relu", &["y"], &["z"]),
    ];
    let mut proto = model(21, graph(&["x"], nodes, &["z"]));
    proto.opset_import.push(import("com.acme", 1));
    let model = Model::from_bytes(bytes(&proto)).unwrap();
    let error = crate::Error::Unsupported(model.unsupported().to_vec()).to_string();
    assert_eq!(
        error,
        "4 unsupported nodes:
  Frobnicate 'a' (opset 21): Sardonyx has no such operator
  com.acme.Gizmo 'b' (opset 1): Sardonyx has no such operator
  Inner 'i' (opset 21): Sardonyx has no such operator
  Outer 'y' (opset 21): Sardonyx has no such operator"
    );
}

#[test]
fn old_and_future_opsets_are_for_the_operator_table_to_judge() {
    for opset in [1, 6, 99] {
        let nodes = vec![node("Relu", &["x"], &["y"])];
        let unsupported = imported(&model(opset, graph(&["x"], nodes, &["y"]))).unsupported;
        assert!(unsupported.iter().all(|node| node.reason.contains("opset")), "{unsupported:?}");
    }
}

#[test]
fn tensors_go_to_onnx_and_back() {
    let all = [
        Tensor::from_slice(&[2, 1], &[1.5f32, -0.0]).unwrap(),
        Tensor::from_slice(&[], &[i64::MIN]).unwrap(),
        Tensor::from_slice::<u8>(&[0, 3], &[]).unwrap(),
        Tensor::from_raw(DType::I4, &[3], vec![0x21, 0x03]).unwrap(),
        Tensor::from_strings(&[2], vec!["".into(), "größe".into()]).unwrap(),
        Tensor::from_bools(&[2], &[true, false]).unwrap(),
    ];
    for tensor in all {
        assert_eq!(decode_tensor(&encode_tensor(&tensor, "t")).unwrap(), tensor);
    }
}
