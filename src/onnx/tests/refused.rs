//! Models that contradict themselves, damaged files, bombs.

use super::*;
use bytes::{BufMut, Bytes};
use proptest::prelude::*;
use prost::Message;

fn relu(input: &str, output: &str) -> NodeProto {
    node("Relu", &[input], &[output])
}

fn refused(main: GraphProto) -> String {
    let error = refusal(&model(21, main));
    error.strip_prefix("invalid model: ").unwrap_or(&error).to_string()
}

#[test]
fn nodes_in_a_circle() {
    let nodes = vec![relu("x", "a"), node("Add", &["a", "d"], &["b"]), relu("b", "c"), relu("c", "d")];
    assert_eq!(refused(graph(&["x"], nodes, &["d"])), "nodes need each other in a circle: 'b', 'd', 'c'");
    assert_eq!(
        refused(graph(&["x"], vec![relu("y", "y")], &["y"])),
        "nodes need each other in a circle: 'y'"
    );
    let link = |i: usize| relu(&format!("v{i}"), &format!("v{}", (i + 1) % 100));
    assert_eq!(
        refused(graph(&["x"], (0..100).map(link).collect(), &["v0"])),
        "nodes need each other in a circle: 'v1', 'v0', 'v99', 'v98', 'v97', 'v96', 'v95', 'v94' and 92 more"
    );
}

#[test]
fn a_circle_through_a_subgraph() {
    let body = graph(&[], vec![relu("y", "i")], &["i"]);
    let branch = node("If", &["x"], &["y"]).with(subgraph("then_branch", body));
    assert_eq!(refused(graph(&["x"], vec![branch], &["y"])), "nodes need each other in a circle: 'y'");
}

#[test]
fn names_that_are_missing() {
    assert_eq!(
        refused(graph(&["x"], vec![relu("z", "y")], &["y"])),
        "node 'y' uses 'z', which nothing makes"
    );
    assert_eq!(refused(graph(&["x"], vec![], &["y"])), "nothing makes the graph output 'y'");
    assert_eq!(refused(graph(&[""], vec![], &[])), "a graph input has no name");
    assert_eq!(refused(graph(&["x"], vec![], &[""])), "nothing makes the graph output ''");
    let mut main = graph(&["x"], vec![], &["x"]);
    main.initializer = vec![weights("", &[1], &[1.0])];
    assert_eq!(refused(main), "an initializer has no name");
    let unnamed = relu("x", "y").with(int("", 1));
    assert_eq!(refused(graph(&["x"], vec![unnamed], &["y"])), "node 'y' has an attribute without a name");
}

#[test]
fn names_that_are_there_twice() {
    assert_eq!(
        refused(graph(&["x"], vec![relu("x", "y"), node("Abs", &["x"], &["y"])], &["y"])),
        "both node 'y' and node 'y' make the value 'y'"
    );
    assert_eq!(
        refused(graph(&["x"], vec![relu("x", "x2"), node("Split", &["x"], &["a", "a"])], &["a"])),
        "both node 'a' and node 'a' make the value 'a'"
    );
    assert_eq!(refused(graph(&["x", "x"], vec![], &["x"])), "the graph input 'x' is listed twice");
    assert_eq!(
        refused(graph(&["x", "y"], vec![relu("x", "y")], &["y"])),
        "an output of node 'y' is called 'y', and so is another value"
    );
    let mut main = graph(&["x"], vec![], &["x"]);
    main.initializer = vec![weights("w", &[1], &[1.0]), weights("w", &[1], &[2.0])];
    assert_eq!(refused(main), "an initializer is called 'w', and so is another value");
    let twice = relu("x", "y").with(int("a", 1)).with(int("a", 2));
    assert_eq!(refused(graph(&["x"], vec![twice], &["y"])), "node 'y' has the attribute 'a' twice");
}

#[test]
fn opsets_that_are_missing_or_contradict() {
    let mut proto = model(21, graph(&["x"], vec![relu("x", "y").of("com.acme")], &["y"]));
    assert_eq!(
        refusal(&proto),
        "invalid model: node 'y' is a Relu of domain 'com.acme', which the model imports no opset of"
    );
    proto.opset_import = vec![import("", 21), import("ai.onnx", 20)];
    assert_eq!(refusal(&proto), "invalid model: domain 'ai.onnx' is imported in two versions");
}

#[test]
fn constants_that_are_none() {
    let constant = |n: NodeProto| refused(graph(&[], vec![n], &["c"]));
    let empty = node("Constant", &[], &["c"]);
    assert_eq!(constant(empty.clone()), "Constant 'c' must have one attribute");
    assert_eq!(
        constant(empty.clone().with(int("value_int", 1)).with(ints("value_ints", &[1]))),
        "Constant 'c' must have one attribute"
    );
    assert_eq!(constant(empty.with(int("value", 1))), "Constant 'c' cannot have a 'value' like this");
    let two = node("Constant", &[], &["c", "d"]).with(int("value_int", 1));
    assert_eq!(constant(two), "Constant 'c' has 2 outputs");
}

#[test]
fn references_outside_functions() {
    let loose = relu("x", "y").with(reference("alpha", "a", AttributeType::Float));
    assert_eq!(
        refused(graph(&["x"], vec![loose], &["y"])),
        "attribute 'alpha' of node 'y' refers to a function's attribute, and stands in no function"
    );
}

#[test]
fn absurd_initializers() {
    let with = |tensor| GraphProto { initializer: vec![tensor], ..graph(&["x"], vec![], &["x"]) };
    assert_eq!(
        refused(with(empty("w", FLOAT, &[1 << 50]))),
        "tensor 'w' takes 1125899906842624 values, and its float_data holds 0"
    );
    assert_eq!(
        refused(with(empty("w", FLOAT, &[1 << 40, 1 << 40]))),
        "tensor 'w' is too large: float32[1099511627776, 1099511627776]"
    );
}

#[test]
fn absurd_sparse_initializers() {
    let sparse = |indices: &[i64], dims: &[i64]| {
        let indices =
            TensorProto { int64_data: indices.to_vec(), ..empty("", INT64, &[indices.len() as i64]) };
        let values = Some(weights("w", &[1], &[1.0]));
        let sparse = SparseTensorProto { values, indices: Some(indices), dims: dims.to_vec() };
        refused(GraphProto { sparse_initializer: vec![sparse], ..graph(&["x"], vec![], &["x"]) })
    };
    let error = sparse(&[0], &[1 << 40]);
    let begin =
        "sparse tensor 'w' is too large to be made dense, float32[1099511627776]: it takes 4398046511104 ";
    assert!(error.starts_with(begin), "{error}");
    assert_eq!(sparse(&[4], &[4]), "sparse tensor 'w' has an index outside its shape [4]");
    assert_eq!(sparse(&[-1], &[4]), "sparse tensor 'w' has an index outside its shape [4]");
    assert_eq!(sparse(&[0, 1], &[4]), "sparse tensor 'w' has 1 values, and indices of shape [2]");
}

#[test]
fn bytes_that_are_no_model() {
    let error = |bytes: &'static [u8]| from_bytes(bytes.into()).unwrap_err().to_string();
    assert_eq!(error(b""), "not an ONNX model: it is empty");
    assert_eq!(error(b"\x08\x08"), "not an ONNX model: it holds no graph");
    assert!(error(b"not a model").starts_with("not an ONNX model: "), "{}", error(b"not a model"));
    assert!(error(b"{\"format\": \"json\"}").starts_with("not an ONNX model: "));
    assert!(error(b"\x93NUMPY\x01\x00").starts_with("not an ONNX model: "));
}

#[test]
fn graphs_in_graphs_without_end() {
    // Each level wraps the level before: a graph with a node with an attribute that is a graph.
    let wrap = |tag: u8, inner: &[u8]| {
        let mut bytes = vec![tag << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
        bytes.put_slice(inner);
        bytes
    };
    let nested = (0..10_000).fold(Vec::new(), |inner, _| wrap(1, &wrap(5, &wrap(6, &inner))));
    let error = from_bytes(wrap(7, &nested).into()).unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");
}

/// A model that has a little of everything.
fn rich() -> ModelProto {
    let mut main = branches();
    main.node.push(node("Constant", &[], &["k"]).with(ints("value_ints", &[1, 2, 3])));
    main.node.push(node("Double", &["y"], &["z"]).of("local"));
    main.node.push(
        node("Conv", &["z", "w"], &["conv"]).with(ints("pads", &[1, 1])).with(string("auto_pad", "VALID")),
    );
    main.value_info = vec![value("outer", FLOAT, &["n", "2"])];
    main.output.push(value("conv", FLOAT, &["n", "?"]));
    main.initializer.push(TensorProto { int64_data: vec![1, 2], ..empty("shape", INT64, &[2]) });
    main.initializer.push(TensorProto { string_data: vec!["a".into()], ..empty("names", 8, &[1]) });
    let indices = TensorProto { int64_data: vec![1], ..empty("", INT64, &[1]) };
    main.sparse_initializer = vec![SparseTensorProto {
        values: Some(weights("sparse", &[1], &[1.0])),
        indices: Some(indices),
        dims: vec![4],
    }];
    let mut proto = model(21, main);
    let body = vec![node("Add", &["a", "a"], &["b"]).with(reference("mode", "m", AttributeType::Int))];
    proto.functions = vec![function("Double", &["a"], body, &["b"])];
    proto.opset_import.push(import("local", 1));
    proto
}

#[test]
fn files_cut_at_every_point() {
    // The graph stands last, so that every cut damages it.
    let mut proto = rich();
    let main = proto.graph.take();
    let mut file = proto.encode_to_vec();
    ModelProto { graph: main, ..ModelProto::default() }.encode(&mut file).unwrap();
    let file = Bytes::from(file);
    assert!(from_bytes(file.clone()).is_ok());
    for end in 0..file.len() {
        let error = from_bytes(file.slice(..end)).unwrap_err().to_string();
        assert!(error.starts_with("not an ONNX model: "), "cut at {end}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut file = rich().encode_to_vec();
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if cuts {
            file.truncate(cut.index(file.len()));
        }
        let _ = from_bytes(file.into());
    }

    #[test]
    fn random_bytes_never_panic(file in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_bytes(file.clone().into());
        let _ = decode_tensor(&file);
    }
}
