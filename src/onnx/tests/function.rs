//! Local functions.

use super::*;

fn with(functions: Vec<FunctionProto>, nodes: Vec<NodeProto>, outputs: &[&str]) -> ModelProto {
    let mut proto = model(21, graph(&["x"], nodes, outputs));
    proto.functions = functions;
    proto
}

fn call(name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    node(name, inputs, outputs).of("local")
}

/// `Twice(a) = f(f(a))`
fn twice() -> FunctionProto {
    function("Twice", &["a"], vec![node("Relu", &["a"], &["t"]), node("Relu", &["t"], &["b"])], &["b"])
}

#[test]
fn calls_are_replaced_by_nodes() {
    let nodes = vec![call("Twice", &["x"], &["m"]), call("Twice", &["m"], &["y"])];
    let graph = imported(&with(vec![twice()], nodes, &["y"])).graph;
    assert_eq!(text(&graph), ["m/t = Relu(x)", "m = Relu(m/t)", "y/t = Relu(m)", "y = Relu(y/t)"]);
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["m/t", "m/b", "y/t", "y/b"]);
}

#[test]
fn names_of_calls_stay_unique() {
    let mut first = call("Twice", &["x"], &["a"]);
    first.name = "same".into();
    let mut second = call("Twice", &["a"], &["b"]);
    second.name = "same".into();
    let nodes = vec![first, second, node("Relu", &["b"], &["same/t"])];
    let graph = imported(&with(vec![twice()], nodes, &["same/t"])).graph;
    let mut names: Vec<&str> = graph.values.iter().map(|value| value.name.as_str()).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "same/t", "same/t_1", "same/t_2", "x"]);
}

#[test]
fn functions_call_functions() {
    let outer =
        function("Outer", &["a"], vec![call("Twice", &["a"], &["t"]), node("Abs", &["t"], &["b"])], &["b"]);
    let graph = imported(&with(vec![outer, twice()], vec![call("Outer", &["x"], &["y"])], &["y"])).graph;
    assert_eq!(text(&graph), ["y/t/t = Relu(x)", "y/t = Relu(y/t/t)", "y = Abs(y/t)"]);
}

#[test]
fn attribute_references_take_the_callers_value_or_the_default() {
    let value = reference("value_int", "n", AttributeType::Int);
    let body = vec![node("Constant", &[], &["c"]).with(value)];
    let mut with_default = function("Number", &[], body, &["c"]);
    with_default.attribute_proto = vec![int("n", 5)];
    let nodes = vec![call("Number", &[], &["five"]), call("Number", &[], &["six"]).with(int("n", 6))];
    let graph = imported(&with(vec![with_default], nodes, &["five", "six"])).graph;
    assert_eq!(constant(&graph, "five").to_vec::<i64>().unwrap(), [5]);
    assert_eq!(constant(&graph, "six").to_vec::<i64>().unwrap(), [6]);
}

#[test]
fn references_pass_through_calls() {
    let value = reference("value_int", "n", AttributeType::Int);
    let mut inner = function("Inner", &[], vec![node("Constant", &[], &["c"]).with(value)], &["c"]);
    inner.attribute = vec!["n".into()];
    let hand_on = call("Inner", &[], &["d"]).with(reference("n", "m", AttributeType::Int));
    let mut outer = function("Outer", &[], vec![hand_on], &["d"]);
    outer.attribute = vec!["m".into()];
    let graph =
        imported(&with(vec![inner, outer], vec![call("Outer", &[], &["y"]).with(int("m", 9))], &["y"])).graph;
    assert_eq!(constant(&graph, "y").to_vec::<i64>().unwrap(), [9]);
}

#[test]
fn a_left_out_input_is_left_out_inside() {
    let f = function("F", &["a", "low", "high"], vec![node("Clip", &["a", "low", "high"], &["b"])], &["b"]);
    let graph = imported(&with(vec![f], vec![call("F", &["x", "", "x"], &["y"])], &["y"])).graph;
    assert_eq!(text(&graph), ["y = Clip(x, _, x)"]);
}

#[test]
fn an_input_that_is_an_output_keeps_both_names() {
    let f = function("Same", &["a"], vec![], &["a"]);
    let graph = imported(&with(vec![f], vec![call("Same", &["x"], &["y"])], &["y"])).graph;
    assert_eq!(text(&graph), ["y = Identity(x)"]);
}

#[test]
fn subgraphs_in_functions_see_the_functions_names_only() {
    let body = |name| graph(&[], vec![node("Abs", &[name], &["i"])], &["i"]);
    let f = |name| {
        let branch = node("If", &["c"], &["b"]).with(subgraph("then_branch", body(name)));
        function("F", &["a", "c"], vec![branch], &["b"])
    };
    let graph = imported(&with(vec![f("a")], vec![call("F", &["x", "x"], &["y"])], &["y"])).graph;
    assert_eq!(text(&graph), ["y = If(x, x)"]);
    let error = refusal(&with(vec![f("x")], vec![call("F", &["x", "x"], &["y"])], &["y"]));
    assert_eq!(error, "invalid model: node 'i' uses 'x', which nothing makes");
}

#[test]
fn a_functions_own_opsets_count() {
    let mut f = twice();
    f.opset_import = vec![import("", 13)];
    let graph = imported(&with(vec![f], vec![call("Twice", &["x"], &["y"])], &["y"])).graph;
    assert!(graph.nodes.iter().all(|node| node.opset == 13));
}

#[test]
fn recursion_is_refused() {
    let f = function("F", &["a"], vec![call("G", &["a"], &["b"])], &["b"]);
    let g = function("G", &["a"], vec![call("F", &["a"], &["b"])], &["b"]);
    let error = refusal(&with(vec![f, g], vec![call("F", &["x"], &["y"])], &["y"]));
    assert_eq!(error, "invalid model: function 'F' calls itself");
}

#[test]
fn nesting_has_a_limit() {
    let name = |i: usize| format!("F{i}");
    let link = |i: usize| function(&name(i), &["a"], vec![call(&name(i + 1), &["a"], &["b"])], &["b"]);
    let mut functions: Vec<_> = (0..10_000).map(link).collect();
    functions.push(function(&name(10_000), &["a"], vec![node("Relu", &["a"], &["b"])], &["b"]));
    let error = refusal(&with(functions, vec![call("F0", &["x"], &["y"])], &["y"]));
    assert_eq!(error, "invalid model: graphs or functions are nested deeper than 48");
}

#[test]
fn what_calls_look_up_is_charged() {
    let call = |i: usize| call("F", &["x"], &[&format!("y{i}")]);
    let value_info = (0..20_000).map(|i| value(&format!("v{i}"), FLOAT, &[])).collect();
    let relu = function("F", &["a"], vec![node("Relu", &["a"], &["b"])], &["b"]);
    let functions = vec![FunctionProto { value_info, ..relu }];
    let error = refusal(&with(functions, (0..3000).map(call).collect(), &["y0"]));
    let begin = "invalid model: its functions are called too often, 'F' at last by 'y";
    assert!(error.starts_with(begin) && error.ends_with("raise `Limits::steps`"), "{error}");
}

#[test]
fn expansion_has_a_limit() {
    let name = |i: usize| format!("F{i}");
    let double = |i: usize| {
        let next = name(i + 1);
        function(&name(i), &["a"], vec![call(&next, &["a"], &["t"]), call(&next, &["t"], &["b"])], &["b"])
    };
    let mut functions: Vec<_> = (0..40).map(double).collect();
    functions.push(function(&name(40), &["a"], vec![node("Relu", &["a"], &["b"])], &["b"]));
    let error = refusal(&with(functions, vec![call("F0", &["x"], &["y"])], &["y"]));
    // Which of the two is charged last is chance.
    let too_far =
        ["its functions expand too far, at node '", "its subgraphs and functions repeat values too often, '"];
    let begins = too_far.iter().any(|begin| error.starts_with(&format!("invalid model: {begin}")));
    assert!(begins && error.ends_with("raise `Limits::bytes`"), "{error}");
}

#[test]
fn calls_that_do_not_fit_are_refused() {
    let refused = |functions, call| refusal(&with(functions, vec![call], &["y"]));
    assert_eq!(
        refused(vec![twice()], call("Twice", &["x", "x"], &["y"])),
        "invalid model: node 'y' calls function 'Twice' with 2 inputs and 1 outputs, and it has 1 and 1"
    );
    assert_eq!(
        refused(vec![twice(), twice()], call("Twice", &["x"], &["y"])),
        "invalid model: function 'Twice' is defined twice"
    );
    assert_eq!(
        refused(vec![function("F", &["a"], vec![], &["b"])], call("F", &["x"], &["y"])),
        "invalid model: nothing in function 'F' makes its output 'b'"
    );
    assert_eq!(
        refused(vec![twice()], call("Twice", &["x"], &["y"]).with(subgraph("g", graph(&[], vec![], &[])))),
        "invalid model: node 'y' hands a graph to a function"
    );
}
