//! Models with strings, sequences, optionals and maps. Each runs on every device and on the reference, against values that are
//! written out.

use std::sync::Arc;

use crate::internals::devices;
use crate::kernels::Target;
use crate::onnx::builder::*;
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use crate::{Datum, Device, Error, Kind, Limits, Model, Session, SessionOptions, Tensor};

const BOOL: i32 = 9;
const ML: &str = "ai.onnx.ml";

fn loaded(inputs: Vec<ValueInfoProto>, nodes: Vec<NodeProto>, outputs: Vec<ValueInfoProto>) -> Model {
    let graph = GraphProto { input: inputs, output: outputs, ..graph(&[], nodes, &[]) };
    let mut model = model(21, graph);
    model.opset_import.push(import(ML, 4));
    Model::from_bytes(bytes(&model)).unwrap()
}

/// A session on each device, and on the reference.
fn sessions(model: &Model) -> impl Iterator<Item = Session> {
    let all = devices::each().into_iter().chain([Device::reference()]);
    all.map(|device| Session::new(&device, model, SessionOptions::default()).unwrap())
}

fn floats_of(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

fn ints_of(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

fn texts(shape: &[usize], values: &[&str]) -> Tensor {
    Tensor::from_strings(shape, values.iter().map(|text| text.to_string()).collect()).unwrap()
}

/// The error's text, whatever line breaks it has.
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

/// Scores `x . coefficients`, the name of the greater, and both by name.
fn classifier() -> Model {
    let nodes = vec![
        node("LinearClassifier", &["x"], &["label", "scores"])
            .of(ML)
            .with(floats("coefficients", &[1.0, 0.0, 0.0, 1.0]))
            .with(strings("classlabels_strings", &["cat", "ant"])),
        node("ZipMap", &["scores"], &["named"]).of(ML).with(strings("classlabels_strings", &["cat", "ant"])),
    ];
    let map = map("named", STRING);
    loaded(vec![value("x", FLOAT, &["n", "2"])], nodes, vec![value("label", STRING, &["n"]), sequence(map)])
}

#[test]
fn a_classifier_names_its_classes() {
    let model = classifier();
    assert_eq!(model.outputs()[1].container, Some(Kind::Sequence(Box::new(Kind::Map))));
    let keys = || texts(&[2], &["ant", "cat"]);
    for session in sessions(&model) {
        for (rows, x, labels) in [
            (2, vec![0.5f32, 0.25, -1.0, 2.0], vec!["cat", "ant"]),
            (1, vec![3.0, 4.0], vec!["ant"]),
            (0, vec![], vec![]),
        ] {
            let outputs = session.run_values(&[("x", &floats_of(&[rows, 2], &x))]).unwrap();
            assert_eq!(outputs["label"], Datum::Tensor(texts(&[rows], &labels)));
            let maps = x.chunks(2).map(|row| Datum::map(keys(), floats_of(&[2], &[row[1], row[0]])).unwrap());
            assert_eq!(
                outputs["named"],
                Datum::from(maps.collect::<Vec<_>>()),
                "{}",
                session.device().name()
            );
        }
        if !session.device().is_reference() {
            let plan = session.plan(&[("x", [2, 2])]).unwrap();
            let host: Vec<&str> = plan.host_nodes.iter().map(|node| node.operator.as_str()).collect();
            assert_eq!(host, ["ai.onnx.ml.LabelEncoder", "ai.onnx.ml.ZipMap"]);
            assert!(plan.dispatches > 0 && plan.segments == 1, "{plan:?}");
        }
        let error = refused(session.run(&[("x", &floats_of(&[1, 2], &[1.0, 2.0]))]));
        assert!(error.contains("'named'") && error.contains("`Session::run_values`"), "{error}");
    }
}

/// `y = table[ids of lower-case words] * 2`.
#[test]
fn words_become_rows_of_a_table() {
    let nodes = vec![
        node("StringNormalizer", &["words"], &["lower"]).with(string("case_change_action", "LOWER")),
        node("LabelEncoder", &["lower"], &["ids"])
            .of(ML)
            .with(strings("keys_strings", &["a", "b"]))
            .with(ints("values_int64s", &[1, 2]))
            .with(int("default_int64", 0)),
        node("Gather", &["table", "ids"], &["rows"]),
        node("Add", &["rows", "rows"], &["y"]),
        node("Shape", &["lower"], &["count"]),
    ];
    let inputs = vec![value("words", STRING, &["n"]), value("table", FLOAT, &["k", "2"])];
    let model = loaded(inputs, nodes, vec![value("y", FLOAT, &["n", "2"]), value("count", INT64, &["1"])]);
    let table = floats_of(&[3, 2], &[9.0, 9.5, 1.0, 1.5, 2.0, 2.5]);
    for session in sessions(&model) {
        for (words, expected) in
            [(vec!["B", "x", "a"], vec![4.0f32, 5.0, 18.0, 19.0, 2.0, 3.0]), (vec!["A"], vec![2.0, 3.0])]
        {
            let given = texts(&[words.len()], &words);
            let outputs = session.run(&[("words", &given), ("table", &table)]).unwrap();
            assert_eq!(outputs["y"], floats_of(&[words.len(), 2], &expected));
            assert_eq!(outputs["count"], ints_of(&[1], &[words.len() as i64]));
        }
        let error = refused(session.run(&[("words", &texts(&[1, 1, 1], &["a"])), ("table", &table)]));
        assert!(error.contains("words") || error.contains("StringNormalizer"), "{error}");
    }
}

/// `[a, b]`, with `a + b` put in front, and `b` taken out: the first, and how many there are.
#[test]
fn tensors_go_through_sequences() {
    let nodes = vec![
        node("SequenceConstruct", &["a", "b"], &["two"]),
        node("Add", &["a", "b"], &["sum"]),
        node("SequenceInsert", &["two", "sum", "at"], &["three"]),
        node("SequenceErase", &["three"], &["left"]),
        node("SequenceAt", &["left", "at"], &["first"]),
        node("Mul", &["first", "a"], &["y"]),
        node("SequenceLength", &["three"], &["count"]),
        node("ConcatFromSequence", &["left"], &["all"]).with(int("axis", 0)),
    ];
    let inputs = vec![value("a", FLOAT, &["n"]), value("b", FLOAT, &["n"]), value("at", INT64, &[])];
    let outputs = vec![
        value("y", FLOAT, &["n"]),
        value("count", INT64, &[]),
        sequence(value("left", FLOAT, &["n"])),
        value("all", FLOAT, &["m"]),
    ];
    let model = loaded(inputs, nodes, outputs);
    let (a, b) = (floats_of(&[2], &[1.0, 2.0]), floats_of(&[2], &[10.0, 20.0]));
    for session in sessions(&model) {
        for at in [0, -2] {
            let at = ints_of(&[], &[at]);
            let outputs = session.run_values(&[("a", &a), ("b", &b), ("at", &at)]).unwrap();
            let sum = floats_of(&[2], &[11.0, 22.0]);
            assert_eq!(outputs["y"], Datum::Tensor(floats_of(&[2], &[11.0, 44.0])));
            assert_eq!(outputs["count"], Datum::Tensor(ints_of(&[], &[3])));
            assert_eq!(outputs["left"], Datum::from(vec![sum.into(), a.clone().into()]));
            assert_eq!(outputs["all"], Datum::Tensor(floats_of(&[4], &[11.0, 22.0, 1.0, 2.0])));
        }
        for at in [3, -3, i64::MAX, i64::MIN] {
            let error = refused(session.run_values(&[("a", &a), ("b", &b), ("at", &ints_of(&[], &[at]))]));
            assert!(error.contains("SequenceInsert") && error.contains(&at.to_string()), "{error}");
        }
    }
}

/// The first `n` prefixes of `x`, doubled, in a sequence that a Loop carries; then one after the other.
#[test]
fn loops_carry_sequences() {
    let body = GraphProto {
        input: vec![value("i", INT64, &[]), value("go", BOOL, &[]), sequence(value("so_far", FLOAT, &["k"]))],
        output: vec![value("on", BOOL, &[]), sequence(value("more", FLOAT, &["k"]))],
        ..graph(
            &[],
            vec![
                node("Identity", &["go"], &["on"]),
                node("Constant", &[], &["zero"]).with(ints("value_ints", &[0])),
                node("Constant", &[], &["one"]).with(ints("value_ints", &[1])),
                node("Add", &["i", "one"], &["end"]),
                node("Slice", &["x", "zero", "end"], &["part"]),
                node("Add", &["part", "part"], &["double"]),
                node("SequenceInsert", &["so_far", "double"], &["more"]),
            ],
            &[],
        )
    };
    let nodes = vec![
        node("SequenceEmpty", &[], &["none"]),
        node("Loop", &["n", "", "none"], &["parts"]).with(subgraph("body", body)),
        node("SequenceLength", &["parts"], &["count"]),
    ];
    let inputs = vec![value("n", INT64, &[]), value("x", FLOAT, &["k"])];
    let model =
        loaded(inputs, nodes, vec![sequence(value("parts", FLOAT, &["k"])), value("count", INT64, &[])]);
    let x = floats_of(&[3], &[1.0, 2.0, 3.0]);
    for session in sessions(&model) {
        for n in [0usize, 2, 3] {
            let outputs = session.run_values(&[("n", &ints_of(&[], &[n as i64])), ("x", &x)]).unwrap();
            let part = |k: usize| floats_of(&[k], &[2.0f32, 4.0, 6.0][..k]).into();
            assert_eq!(outputs["parts"], Datum::from((1..=n).map(part).collect::<Vec<_>>()));
            assert_eq!(outputs["count"], Datum::Tensor(ints_of(&[], &[n as i64])));
        }
    }
}

/// `y = x + given`, or `x` where nothing is given.
#[test]
fn branches_take_optionals() {
    let branch = |nodes: Vec<NodeProto>, output: &str| GraphProto {
        output: vec![value(output, FLOAT, &["n"])],
        ..graph(&[], nodes, &[])
    };
    let then = branch(
        vec![node("OptionalGetElement", &["given"], &["got"]), node("Add", &["x", "got"], &["sum"])],
        "sum",
    );
    let otherwise = branch(vec![node("Identity", &["x"], &["same"])], "same");
    let nodes = vec![
        node("OptionalHasElement", &["given"], &["has"]),
        node("If", &["has"], &["y"])
            .with(subgraph("then_branch", then))
            .with(subgraph("else_branch", otherwise)),
    ];
    let inputs = vec![value("x", FLOAT, &["n"]), optional(value("given", FLOAT, &["n"]))];
    let model = loaded(inputs, nodes, vec![value("y", FLOAT, &["n"])]);
    let x = floats_of(&[2], &[1.0, 2.0]);
    for session in sessions(&model) {
        let run = |given: &Datum| session.run(&crate::inputs! { "x" => &x, "given" => given });
        let some = Datum::Optional(Some(Arc::new(x.clone().into())));
        assert_eq!(run(&some).unwrap()["y"], floats_of(&[2], &[2.0, 4.0]));
        assert_eq!(run(&Datum::Optional(None)).unwrap()["y"], x);
        for wrong in [
            Datum::from(x.clone()),
            Datum::from(vec![]),
            Datum::Optional(Some(Arc::new(ints_of(&[1], &[1]).into()))),
        ] {
            let error = refused(run(&wrong));
            assert!(error.contains("'given'") && error.contains("optional(float32)"), "{error}");
        }
    }
}

/// Each element of a sequence plus the same number, and the sizes of the elements.
#[test]
fn a_subgraph_runs_for_each_element() {
    let body = GraphProto {
        input: vec![value("each", FLOAT, &["k"])],
        output: vec![value("more", FLOAT, &["k"]), value("size", INT64, &["1"])],
        ..graph(&[], vec![node("Add", &["each", "c"], &["more"]), node("Shape", &["each"], &["size"])], &[])
    };
    let nodes = vec![node("SequenceMap", &["s"], &["all", "sizes"]).with(subgraph("body", body))];
    let inputs = vec![sequence(value("s", FLOAT, &["k"])), value("c", FLOAT, &[])];
    let outputs = vec![sequence(value("all", FLOAT, &["k"])), sequence(value("sizes", INT64, &["1"]))];
    let model = loaded(inputs, nodes, outputs);
    let c = floats_of(&[], &[0.5]);
    for session in sessions(&model) {
        let given = Datum::from(vec![floats_of(&[2], &[1.0, 2.0]).into(), floats_of(&[1], &[3.0]).into()]);
        let outputs = session.run_values(&crate::inputs! { "s" => &given, "c" => &c }).unwrap();
        let all = vec![floats_of(&[2], &[1.5, 2.5]).into(), floats_of(&[1], &[3.5]).into()];
        assert_eq!(outputs["all"], Datum::from(all));
        assert_eq!(
            outputs["sizes"],
            Datum::from(vec![ints_of(&[1], &[2]).into(), ints_of(&[1], &[1]).into()])
        );
        if !session.device().is_reference() {
            let known = [("s", crate::Known::from(&given)), ("c", crate::Known::from(&c))];
            let plan = session.plan(&known).unwrap();
            assert_eq!((plan.unplanned_segments, plan.host_nodes.len()), (1, 0));
        }
        let empty = Datum::from(vec![]);
        let none = session.run_values(&crate::inputs! { "s" => &empty, "c" => &c }).unwrap();
        assert_eq!(none["all"], Datum::from(vec![]));
    }
}

/// Values by key become a row, and the row is scaled on the device.
#[test]
fn maps_become_rows() {
    let nodes = vec![
        node("DictVectorizer", &["map"], &["row"])
            .of(ML)
            .with(strings("string_vocabulary", &["b", "z", "a"])),
        node("Mul", &["row", "row"], &["y"]),
    ];
    let model = loaded(vec![map("map", STRING)], nodes, vec![value("y", FLOAT, &["1", "3"])]);
    for session in sessions(&model) {
        let given = Datum::map(texts(&[2], &["a", "b"]), floats_of(&[2], &[3.0, 2.0])).unwrap();
        let outputs = session.run(&[("map", &given)]).unwrap();
        assert_eq!(outputs["y"], floats_of(&[1, 3], &[4.0, 0.0, 9.0]));
        let numbers = Datum::map(ints_of(&[1], &[3]), floats_of(&[1], &[3.0])).unwrap();
        let error = refused(session.run(&[("map", &numbers)]));
        assert!(error.contains("DictVectorizer") && error.contains("int64"), "{error}");
    }
}

/// Operators that move elements move strings.
#[test]
fn strings_are_moved() {
    let nodes = vec![
        node("Transpose", &["s"], &["turned"]),
        node("Concat", &["turned", "turned"], &["twice"]).with(int("axis", 0)),
        node("Equal", &["twice", "wanted"], &["same"]),
        node("Where", &["same", "wanted", "other"], &["chosen"]),
        node("Cast", &["same"], &["numbers"]).with(int("to", FLOAT.into())),
        node("ReduceSum", &["numbers"], &["count"]).with(int("keepdims", 0)),
    ];
    let inputs =
        vec![value("s", STRING, &["a", "b"]), value("wanted", STRING, &[]), value("other", STRING, &[])];
    let model = loaded(inputs, nodes, vec![value("chosen", STRING, &["m", "a"]), value("count", FLOAT, &[])]);
    for session in sessions(&model) {
        let outputs = session
            .run(&[
                ("s", &texts(&[1, 2], &["x", "y"])),
                ("wanted", &texts(&[], &["y"])),
                ("other", &texts(&[], &["-"])),
            ])
            .unwrap();
        assert_eq!(outputs["chosen"], texts(&[4, 1], &["-", "y", "-", "y"]));
        assert_eq!(outputs["count"], floats_of(&[], &[2.0]));
    }
}

/// For each row of words: all of its words and those before it, and its number plus one.
#[test]
fn scans_take_strings() {
    let body = GraphProto {
        input: vec![value("before", STRING, &[]), value("word", STRING, &[]), value("number", FLOAT, &[])],
        output: vec![value("after", STRING, &[]), value("so_far", STRING, &[]), value("more", FLOAT, &[])],
        ..graph(
            &[],
            vec![
                node("StringConcat", &["before", "word"], &["after"]),
                node("Identity", &["after"], &["so_far"]),
                node("Exp", &["number"], &["more"]),
            ],
            &[],
        )
    };
    let nodes = vec![
        node("Scan", &["first", "words", "numbers"], &["last", "all", "powers"])
            .with(int("num_scan_inputs", 2))
            .with(subgraph("body", body)),
        node("Neg", &["powers"], &["y"]),
    ];
    let inputs =
        vec![value("first", STRING, &[]), value("words", STRING, &["n"]), value("numbers", FLOAT, &["n"])];
    let outputs = vec![value("last", STRING, &[]), value("all", STRING, &["n"]), value("y", FLOAT, &["n"])];
    let model = loaded(inputs, nodes, outputs);
    for session in sessions(&model) {
        let given = [
            ("first", &texts(&[], &["-"])),
            ("words", &texts(&[2], &["a", "b"])),
            ("numbers", &floats_of(&[2], &[0.0, 0.0])),
        ];
        let outputs = session.run(&given).unwrap();
        assert_eq!(outputs["last"], texts(&[], &["-ab"]));
        assert_eq!(outputs["all"], texts(&[2], &["-a", "-ab"]));
        assert_eq!(outputs["y"], floats_of(&[2], &[-1.0, -1.0]));
    }
}

/// A few bytes of a file, or of an input, do not take the memory of the host.
#[test]
fn what_grows_is_refused() {
    let empty = Tensor::zeros(crate::DType::F32, &[1 << 29, 0]).unwrap();
    let split = loaded(
        vec![value("x", FLOAT, &["n", "m"])],
        vec![node("SplitToSequence", &["x"], &["parts"])],
        vec![sequence(value("parts", FLOAT, &["1", "m"]))],
    );
    let doubled = GraphProto {
        input: vec![value("i", INT64, &[]), value("go", BOOL, &[]), value("text", STRING, &[])],
        output: vec![value("on", BOOL, &[]), value("longer", STRING, &[])],
        ..graph(
            &[],
            vec![node("Identity", &["go"], &["on"]), node("StringConcat", &["text", "text"], &["longer"])],
            &[],
        )
    };
    let growing = loaded(
        vec![value("s", STRING, &[]), value("n", INT64, &[])],
        vec![node("Loop", &["n", "", "s"], &["long"]).with(subgraph("body", doubled))],
        vec![value("long", STRING, &[])],
    );
    let limits = Limits::new().bytes(1 << 24);
    let options = SessionOptions::default().reference_limits(limits);
    for device in devices::each().into_iter().chain([Device::reference()]) {
        let session = Session::new(&device, &split, options.clone()).unwrap();
        let error = refused(session.run_values(&[("x", &empty)]));
        assert!(error.contains("SplitToSequence"), "{error}");
        let session = Session::new(&device, &growing, options.clone()).unwrap();
        let error = refused(session.run(&[("s", &texts(&[], &["ab"])), ("n", &ints_of(&[], &[60]))]));
        assert!(error.contains("StringConcat"), "{error}");
        let short = session.run(&[("s", &texts(&[], &["ab"])), ("n", &ints_of(&[], &[2]))]).unwrap();
        assert_eq!(short["long"], texts(&[], &["abababab"]));
    }
}

/// Sessions whose devices leave to the host what they cannot compute, and the reference's.
fn lenient(model: &Model, change: fn(&mut Target)) -> impl Iterator<Item = Session> {
    let open = move |device: Device| device.with_strict(false).with_target(change);
    let all = devices::each().into_iter().map(open).chain([Device::reference()]);
    all.map(|device| Session::new(&device, model, SessionOptions::default()).unwrap())
}

const DOUBLE: i32 = 11;

/// `y = sum of exp(x) in float64`, and `z = float32(exp(x)) + 1`.
fn doubles() -> Model {
    let nodes = vec![
        node("Exp", &["x"], &["e"]),
        node("ReduceSum", &["e"], &["y"]).with(int("keepdims", 0)),
        node("Cast", &["e"], &["f"]).with(int("to", FLOAT.into())),
        node("Add", &["f", "one"], &["z"]),
    ];
    let mut graph = graph(&[], nodes, &[]);
    graph.input = vec![value("x", DOUBLE, &["n", "2"])];
    graph.initializer = vec![weights("one", &[], &[1.0])];
    graph.output = vec![value("y", DOUBLE, &[]), value("z", FLOAT, &["n", "2"])];
    Model::from_bytes(bytes(&model(21, graph))).unwrap()
}

#[test]
fn the_host_computes_with_float64() {
    // Sums that float32 cannot tell from 1.
    let x = |tiny: f64| Tensor::from_slice(&[1, 2], &[0.0, tiny.ln()]).unwrap();
    for session in lenient(&doubles(), |target| target.computes_f64 = false) {
        for tiny in [1e-12, 1e-15] {
            let outputs = session.run(&[("x", &x(tiny))]).unwrap();
            let [sum] = outputs["y"].to_vec::<f64>().unwrap()[..] else { panic!("one sum") };
            assert!((sum - 1.0 - tiny).abs() < 3e-16, "{sum} on {}", session.device().name());
            assert_eq!(outputs["z"].to_vec::<f32>().unwrap(), [2.0, 1.0 + tiny as f32]);
        }
        if !session.device().is_reference() {
            let plan = session.plan(&[("x", &x(0.5))]).unwrap();
            let host: Vec<(&str, bool)> =
                plan.host_nodes.iter().map(|node| (node.operator.as_str(), node.computes)).collect();
            assert_eq!(host, [("Exp", true), ("ReduceSum", true), ("Cast", true)]);
            assert_eq!(plan.dispatches, 1);
        }
    }
    for device in devices::each() {
        let session = Session::new(&device, &doubles(), SessionOptions::default()).unwrap();
        if device.gpu().is_some_and(|gpu| gpu.target.computes_f64) {
            let plan = session.plan(&[("x", &x(0.5))]).unwrap();
            assert!(plan.host_nodes.is_empty() && plan.segments == 1, "{plan:?}");
            continue;
        }
        let error = refused(session.run(&[("x", &x(0.5))]));
        assert!(error.contains("float64"), "{error}");
    }
}

/// Sizes that are computed in float64, as TensorFlow does, are known while planning: the device runs all, in one plan.
#[test]
fn sizes_in_float64_are_planned() {
    let nodes = vec![
        node("Shape", &["x"], &["sizes"]),
        node("Cast", &["sizes"], &["wide"]).with(int("to", DOUBLE.into())),
        node("Mul", &["wide", "half"], &["halved"]),
        node("Floor", &["halved"], &["whole"]),
        node("Cast", &["whole"], &["counts"]).with(int("to", INT64.into())),
        node("ConstantOfShape", &["counts"], &["zeros"]),
        node("ReduceSum", &["zeros"], &["sum"]),
        node("Add", &["x", "sum"], &["y"]),
    ];
    let mut graph = graph(&[], nodes, &[]);
    graph.input = vec![value("x", FLOAT, &["n", "m"])];
    let half = 0.5f64.to_le_bytes().to_vec();
    graph.initializer = vec![TensorProto { raw_data: Some(half.into()), ..empty("half", DOUBLE, &[]) }];
    graph.output = vec![value("y", FLOAT, &["n", "m"])];
    let model = Model::from_bytes(bytes(&model(21, graph))).unwrap();
    for session in lenient(&model, |_| {}) {
        let x = floats_of(&[5, 3], &[2.0; 15]);
        assert_eq!(session.run(&[("x", &x)]).unwrap()["y"], x);
        if !session.device().is_reference() {
            let plan = session.plan(&[("x", &x)]).unwrap();
            assert!(plan.host_nodes.is_empty() && plan.segments == 1, "{plan:?}");
        }
    }
}

/// A loop that carries a float64, and hands it through a branch.
#[test]
fn float64_within_subgraphs() {
    let mut body = graph(
        &[],
        vec![node("Mul", &["carried", "x"], &["next"]), node("Identity", &["go"], &["still"])],
        &[],
    );
    body.input = vec![value("i", INT64, &[]), value("go", BOOL, &[]), value("carried", DOUBLE, &[])];
    body.output = vec![value("still", BOOL, &[]), value("next", DOUBLE, &[])];
    let nodes = vec![
        node("Loop", &["count", "", "x"], &["power"]).with(subgraph("body", body)),
        node("Sub", &["power", "x"], &["y"]),
    ];
    let mut graph = graph(&[], nodes, &[]);
    graph.input = vec![value("x", DOUBLE, &[]), value("count", INT64, &[])];
    graph.output = vec![value("y", DOUBLE, &[]), value("x", DOUBLE, &[])];
    let model = Model::from_bytes(bytes(&model(21, graph))).unwrap();
    let x = Tensor::from_slice(&[], &[1.5f64]).unwrap();
    for session in lenient(&model, |_| {}) {
        for count in [0i64, 1, 40] {
            let outputs = session.run(&[("x", &x), ("count", &ints_of(&[], &[count]))]).unwrap();
            let expected = 1.5f64.powi(count as i32 + 1) - 1.5;
            assert_eq!(outputs["y"].to_vec::<f64>().unwrap(), [expected], "{}", session.device().name());
            assert_eq!(outputs["x"], x);
        }
    }
}
