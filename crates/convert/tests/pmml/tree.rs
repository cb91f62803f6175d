//! Trees, their predicates, and their strategies for missing values.

use super::*;

/// A tree of a text with the scores 10 for x <= 1 and 20 otherwise, below a node with the score 5.
fn tree(attributes: &str) -> String {
    let model = format!(
        "<TreeModel functionName=\"regression\" {attributes}>{}<Node score=\"5\" defaultChild=\"b\"><True/>\
         <Node id=\"a\" score=\"10\"><SimplePredicate field=\"x\" operator=\"lessOrEqual\" value=\"1\"/></Node>\
         <Node id=\"b\" score=\"20\"><SimplePredicate field=\"x\" operator=\"greaterThan\" value=\"1\"/></Node></Node></TreeModel>",
        schema(&["x"], "y")
    );
    document(&doubles(&["x", "y"]), "", &model)
}

#[track_caller]
fn expect_tree(attributes: &str, expected: [f64; 3]) {
    expect(&run(&tree(attributes), &[("x", column(&[1.0, 1.5, NAN]))]), "prediction", &expected);
}

#[test]
fn missing_values_go_where_the_strategy_says() {
    expect_tree("", [10.0, 20.0, NAN]);
    expect_tree(
        "missingValueStrategy=\"none\" noTrueChildStrategy=\"returnLastPrediction\"",
        [10.0, 20.0, 5.0],
    );
    expect_tree("missingValueStrategy=\"lastPrediction\"", [10.0, 20.0, 5.0]);
    expect_tree(
        "missingValueStrategy=\"nullPrediction\" noTrueChildStrategy=\"returnLastPrediction\"",
        [10.0, 20.0, NAN],
    );
    expect_tree("missingValueStrategy=\"defaultChild\"", [10.0, 20.0, 20.0]);
    let first =
        tree("missingValueStrategy=\"defaultChild\"").replace("defaultChild=\"b\"", "defaultChild=\"a\"");
    expect(&run(&first, &[("x", column(&[1.0, 1.5, NAN]))]), "prediction", &[10.0, 20.0, 10.0]);
}

/// Three children on two fields: the default may be before or behind the one that is unknown.
#[test]
fn the_default_child_is_taken_at_the_first_unknown_predicate() {
    for (default, expected) in [("a", [1.0, 1.0, 3.0]), ("b", [2.0, 2.0, 3.0]), ("c", [3.0, 3.0, 3.0])] {
        let model = format!(
            "<TreeModel functionName=\"regression\" missingValueStrategy=\"defaultChild\">{}<Node defaultChild=\"{default}\"><True/>\
             <Node id=\"a\" score=\"1\"><SimplePredicate field=\"x\" operator=\"lessThan\" value=\"0\"/></Node>\
             <Node id=\"b\" score=\"2\"><SimplePredicate field=\"z\" operator=\"notEqual\" value=\"7\"/></Node>\
             <Node id=\"c\" score=\"3\"><True/></Node></Node></TreeModel>",
            schema(&["x", "z"], "y")
        );
        let inputs = [("x", column(&[NAN, 1.0, 1.0])), ("z", column(&[1.0, NAN, 7.0]))];
        expect(&run(&document(&doubles(&["x", "z", "y"]), "", &model), &inputs), "prediction", &expected);
    }
}

#[test]
fn no_child_may_take_a_row() {
    let gap = tree("").replace("value=\"1\"/></Node></Node>", "value=\"2\"/></Node></Node>");
    expect(&run(&gap, &[("x", column(&[1.0, 1.5, 3.0]))]), "prediction", &[10.0, NAN, 20.0]);
    let last = gap.replace("regression\"", "regression\" noTrueChildStrategy=\"returnLastPrediction\"");
    expect(&run(&last, &[("x", column(&[1.0, 1.5, 3.0]))]), "prediction", &[10.0, 5.0, 20.0]);
}

#[test]
fn a_float_is_compared_as_a_float() {
    // 0.1 as a float is more than 0.1, so that only a threshold that is a float as well equals it.
    let text = tree("")
        .replacen("dataType=\"double\"", "dataType=\"float\"", 1)
        .replace("value=\"1\"", "value=\"0.1\"");
    let x = Tensor::from_slice(&[2, 1], &[0.1f32, 0.2]).unwrap();
    expect(&run(&text, &[("x", x)]), "prediction", &[10.0, 20.0]);
}

/// The score of a node that holds where a predicate does; 0 where it does not, and missing where it is unknown.
fn predicate(text: &str) -> String {
    let model = format!(
        "<TreeModel functionName=\"regression\" missingValueStrategy=\"nullPrediction\" noTrueChildStrategy=\"returnLastPrediction\">\
         {}<Node score=\"0\"><True/><Node score=\"1\">{text}</Node></Node></TreeModel>",
        schema(&["x", "c"], "y")
    );
    document(&format!("{}{}", doubles(&["x", "y"]), texts("c", &["red", "green", "light blue"])), "", &model)
}

#[track_caller]
fn expect_predicate(text: &str, expected: [f64; 4]) {
    let inputs = [("x", column(&[1.0, 2.0, NAN, 3.0])), ("c", words(&["red", "green", "light blue", ""]))];
    expect(&run(&predicate(text), &inputs), "prediction", &expected);
}

fn simple(field: &str, operator: &str, value: &str) -> String {
    format!("<SimplePredicate field=\"{field}\" operator=\"{operator}\" value=\"{value}\"/>")
}

#[test]
fn simple_predicates() {
    for (operator, expected) in [
        ("equal", [0.0, 1.0, NAN, 0.0]),
        ("notEqual", [1.0, 0.0, NAN, 1.0]),
        ("lessThan", [1.0, 0.0, NAN, 0.0]),
        ("lessOrEqual", [1.0, 1.0, NAN, 0.0]),
        ("greaterThan", [0.0, 0.0, NAN, 1.0]),
        ("greaterOrEqual", [0.0, 1.0, NAN, 1.0]),
        ("isMissing", [0.0, 0.0, 1.0, 0.0]),
        ("isNotMissing", [1.0, 1.0, 0.0, 1.0]),
    ] {
        expect_predicate(&simple("x", operator, "2"), expected);
    }
    expect_predicate(&simple("c", "equal", "light blue"), [0.0, 0.0, 1.0, NAN]);
    expect_predicate(&simple("c", "notEqual", "red"), [0.0, 1.0, 1.0, NAN]);
    expect_predicate(&simple("c", "isMissing", ""), [0.0, 0.0, 0.0, 1.0]);
    expect_predicate("<False/>", [0.0; 4]);
    expect_predicate("<True/>", [1.0; 4]);
}

#[test]
fn sets() {
    let set = |field: &str, operator: &str, values: &str| {
        format!(
            "<SimpleSetPredicate field=\"{field}\" booleanOperator=\"{operator}\"><Array type=\"string\">{values}</Array></SimpleSetPredicate>"
        )
    };
    expect_predicate(&set("c", "isIn", "red &quot;light blue&quot;"), [1.0, 0.0, 1.0, NAN]);
    expect_predicate(&set("c", "isNotIn", "red &quot;light blue&quot;"), [0.0, 1.0, 0.0, NAN]);
    expect_predicate(&set("x", "isIn", "1 3"), [1.0, 0.0, NAN, 1.0]);
}

#[test]
fn compound_predicates_know_the_unknown() {
    let compound = |operator: &str| {
        let parts = [simple("x", "lessThan", "2.5"), simple("c", "equal", "red")].concat();
        format!("<CompoundPredicate booleanOperator=\"{operator}\">{parts}</CompoundPredicate>")
    };
    // x < 2.5: 1 1 ? 0; c = red: 1 0 0 ?
    expect_predicate(&compound("and"), [1.0, 0.0, 0.0, 0.0]);
    expect_predicate(&compound("or"), [1.0, 1.0, NAN, NAN]);
    expect_predicate(&compound("xor"), [0.0, 1.0, NAN, NAN]);
    expect_predicate(&compound("surrogate"), [1.0, 1.0, 0.0, 0.0]);
}

#[test]
fn leaves_give_shares_of_classes() {
    let model = format!(
        "<TreeModel functionName=\"classification\">{}<Output><OutputField name=\"p\" feature=\"probability\" value=\"b\"/>\
         <OutputField name=\"own\" feature=\"probability\"/><OutputField name=\"y\" feature=\"predictedValue\" dataType=\"string\"/></Output>\
         <Node><True/><Node score=\"a\"><SimplePredicate field=\"x\" operator=\"lessOrEqual\" value=\"0\"/>\
         <ScoreDistribution value=\"a\" recordCount=\"3\"/><ScoreDistribution value=\"b\" recordCount=\"1\"/></Node>\
         <Node><SimplePredicate field=\"x\" operator=\"lessOrEqual\" value=\"1\"/>\
         <ScoreDistribution value=\"a\" recordCount=\"0\" probability=\"0.1\"/><ScoreDistribution value=\"b\" recordCount=\"9\" probability=\"0.9\"/></Node>\
         <Node score=\"b\"><SimplePredicate field=\"x\" operator=\"greaterThan\" value=\"1\"/></Node></Node></TreeModel>",
        schema(&["x"], "y")
    );
    let document = document(&format!("{}{}", doubles(&["x"]), texts("y", &["a", "b"])), "", &model);
    let outputs = run(&document, &[("x", column(&[0.0, 1.0, 2.0, NAN]))]);
    expect(&outputs, "probabilities", &[0.75, 0.25, 0.1, 0.9, 0.0, 1.0, NAN, NAN]);
    expect(&outputs, "p", &[0.25, 0.9, 1.0, NAN]);
    expect(&outputs, "own", &[0.75, 0.9, 1.0, NAN]);
    assert_eq!(labels(&outputs, "label"), ["a", "b", "b", ""]);
    assert_eq!(labels(&outputs, "y"), ["a", "b", "b", ""]);
}

#[test]
fn classes_may_be_whole_numbers() {
    let model = format!(
        "<TreeModel functionName=\"classification\">{}<Node score=\"7\"><SimplePredicate field=\"x\" operator=\"lessThan\" value=\"1\"/></Node></TreeModel>",
        schema(&["x"], "y")
    );
    let fields = format!(
        "{}<DataField name=\"y\" optype=\"categorical\" dataType=\"integer\"><Value value=\"3\"/><Value value=\"7\"/></DataField>",
        doubles(&["x"])
    );
    let outputs = run(&document(&fields, "", &model), &[("x", column(&[0.0, 1.0]))]);
    assert_eq!(outputs.get("label").unwrap().to_vec::<i64>().unwrap(), [7, i64::MIN]);
}

/// Two children by x, of 8 and 2 records; below the first, two by z of 6 and 2.
#[test]
fn several_branches_count_where_a_predicate_is_unknown() {
    let leaf = |records: [u32; 2], predicate: &str| {
        format!(
            "<Node recordCount=\"{}\">{predicate}<ScoreDistribution value=\"a\" recordCount=\"{}\"/><ScoreDistribution value=\"b\" recordCount=\"{}\"/></Node>",
            records[0] + records[1],
            records[0],
            records[1]
        )
    };
    let left =
        [leaf([6, 0], &simple("z", "lessThan", "0")), leaf([1, 1], &simple("z", "greaterOrEqual", "0"))]
            .concat();
    let tree = |strategy: &str| {
        let model = format!(
            "<TreeModel functionName=\"classification\" missingValueStrategy=\"{strategy}\">{}<Node recordCount=\"10\"><True/><Node recordCount=\"8\">{}{left}</Node>{}</Node></TreeModel>",
            schema(&["x", "z"], "y"),
            simple("x", "lessThan", "1"),
            leaf([0, 2], &simple("x", "equal", "1"))
        );
        document(&format!("{}{}", doubles(&["x", "z"]), texts("y", &["a", "b"])), "", &model)
    };
    let inputs =
        [("x", column(&[0.0, 1.0, NAN, 0.0, NAN, 2.0])), ("z", column(&[1.0, 1.0, 1.0, NAN, NAN, 1.0]))];
    // Of x unknown and z = 1: 0.8 of a half and 0.2 of none for a. Of both unknown: 0.8 (0.75 + 0.25 / 2).
    let outputs = run(&tree("weightedConfidence"), &inputs);
    expect(&outputs, "probabilities", &[0.5, 0.5, 0.0, 1.0, 0.4, 0.6, 0.875, 0.125, 0.7, 0.3, NAN, NAN]);
    assert_eq!(labels(&outputs, "label"), ["a", "b", "b", "a", "a", ""]);
    // The records of the leaves: 1 and 1, and 0 and 2; all together 7 and 3.
    let outputs = run(&tree("aggregateNodes"), &inputs);
    expect(&outputs, "probabilities", &[0.5, 0.5, 0.0, 1.0, 0.25, 0.75, 0.875, 0.125, 0.7, 0.3, NAN, NAN]);
}
