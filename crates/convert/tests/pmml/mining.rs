//! MiningModel.

use super::*;

/// A tree that gives `low` for x < 1 and `high` otherwise.
fn stump(segment: &str, predicate: &str, low: &str, high: &str) -> String {
    format!(
        "<Segment {segment}>{predicate}<TreeModel functionName=\"KIND\"><MiningSchema><MiningField name=\"x\"/></MiningSchema><Node><True/>\
         <Node score=\"{low}\"><SimplePredicate field=\"x\" operator=\"lessThan\" value=\"1\"/></Node>\
         <Node score=\"{high}\"><SimplePredicate field=\"x\" operator=\"greaterOrEqual\" value=\"1\"/></Node></Node></TreeModel></Segment>"
    )
}

/// A regression that gives x.
fn same(segment: &str, predicate: &str) -> String {
    format!(
        "<Segment {segment}>{predicate}<RegressionModel functionName=\"regression\"><MiningSchema><MiningField name=\"x\"/></MiningSchema>\
         <RegressionTable intercept=\"0\"><NumericPredictor name=\"x\" coefficient=\"1\"/></RegressionTable></RegressionModel></Segment>"
    )
}

fn ensemble(kind: &str, method: &str, segments: &str, target: &str) -> String {
    let model = format!(
        "<MiningModel functionName=\"KIND\">{}<Segmentation multipleModelMethod=\"{method}\">{segments}</Segmentation></MiningModel>",
        schema(&["x"], "y")
    );
    document(&format!("{}{target}", doubles(&["x"])), "", &model.replace("KIND", kind))
}

fn x() -> [(&'static str, Tensor); 1] {
    [("x", column(&[0.5, 3.0]))]
}

#[test]
fn regressions_are_combined() {
    // x = 0.5 gives 1, 10, 0.5; x = 3 gives 2, 20, 3.
    let segments = [
        stump("weight=\"1\"", "<True/>", "1", "2"),
        same("weight=\"2\"", "<True/>"),
        stump("weight=\"5\"", "<True/>", "10", "20"),
    ]
    .concat();
    for (method, expected) in [
        ("average", [11.5 / 3.0, 25.0 / 3.0]),
        ("weightedAverage", [52.0 / 8.0, 108.0 / 8.0]),
        ("sum", [11.5, 25.0]),
        ("weightedSum", [52.0, 108.0]),
        ("max", [10.0, 20.0]),
        ("median", [1.0, 3.0]),
        ("weightedMedian", [10.0, 20.0]),
        ("selectFirst", [1.0, 2.0]),
    ] {
        let document = ensemble("regression", method, &segments, &doubles(&["y"]));
        expect(&run(&document, &x()), "prediction", &expected);
    }
}

#[test]
fn the_median_of_two_is_their_mean() {
    let segments = [stump("", "<True/>", "1", "2"), stump("", "<True/>", "10", "20")].concat();
    expect(
        &run(&ensemble("regression", "median", &segments, &doubles(&["y"])), &x()),
        "prediction",
        &[5.5, 11.0],
    );
}

#[test]
fn segments_take_part_where_their_predicates_hold() {
    let above = "<SimplePredicate field=\"x\" operator=\"greaterThan\" value=\"2\"/>";
    let segments = [same("weight=\"3\"", above), stump("", "<True/>", "10", "20")].concat();
    for (method, expected) in [
        ("average", [10.0, 11.5]),
        ("weightedAverage", [10.0, 29.0 / 4.0]),
        ("sum", [10.0, 23.0]),
        ("max", [10.0, 20.0]),
        ("selectFirst", [10.0, 3.0]),
    ] {
        let document = ensemble("regression", method, &segments, &doubles(&["y"]));
        expect(&run(&document, &x()), "prediction", &expected);
    }
}

#[test]
fn missing_predictions_may_be_skipped() {
    let segments = [
        same("", "<True/>"),
        stump("", "<True/>", "10", "20")
            .replace("field=\"x\" operator=\"less", "field=\"z\" operator=\"less"),
    ]
    .concat();
    let fields = doubles(&["z", "y"]);
    let document = ensemble("regression", "average", &segments, &fields)
        .replace(
            "<MiningField name=\"x\"/><MiningField name=\"y\"",
            "<MiningField name=\"x\"/><MiningField name=\"z\"/><MiningField name=\"y\"",
        )
        .replace(
            "<MiningSchema><MiningField name=\"x\"/></MiningSchema><Node>",
            "<MiningSchema><MiningField name=\"x\"/><MiningField name=\"z\"/></MiningSchema><Node>",
        );
    let inputs = [("x", column(&[0.5, 0.5])), ("z", column(&[0.0, NAN]))];
    expect(&run(&document, &inputs), "prediction", &[5.25, NAN]);
    let skipping = document
        .replace("Segmentation multiple", "Segmentation missingPredictionTreatment=\"skipSegment\" multiple");
    expect(&run(&skipping, &inputs), "prediction", &[5.25, 0.5]);
}

#[test]
fn classifiers_vote() {
    let segments = [
        stump("weight=\"1\"", "<True/>", "a", "b"),
        stump("weight=\"1\"", "<True/>", "a", "c"),
        stump("weight=\"3\"", "<True/>", "b", "c"),
    ]
    .concat();
    let target = texts("y", &["a", "b", "c"]);
    let third = 1.0 / 3.0;
    let plain = [2.0 * third, third, 0.0, 0.0, third, 2.0 * third];
    let weighted = [0.4, 0.6, 0.0, 0.0, 0.2, 0.8];
    for (method, shares, expected) in [
        ("majorityVote", plain, ["a", "c"]),
        ("average", plain, ["a", "c"]),
        ("weightedMajorityVote", weighted, ["b", "c"]),
        ("weightedAverage", weighted, ["b", "c"]),
    ] {
        let outputs = run(&ensemble("classification", method, &segments, &target), &x());
        expect(&outputs, "probabilities", &shares);
        assert_eq!(labels(&outputs, "label"), expected, "{method}");
    }
}

/// As gradient boosting is written: regressions one after the other, and a softmax of what they give.
#[test]
fn a_chain_hands_on_what_its_models_give() {
    let boosted = |name: &str, slope: f64| {
        format!(
            "<Segment><True/><MiningModel functionName=\"regression\"><MiningSchema><MiningField name=\"x\"/></MiningSchema>\
             <Output><OutputField name=\"{name}\" optype=\"continuous\" dataType=\"double\" feature=\"predictedValue\" isFinalResult=\"false\"/></Output>\
             <Targets><Target rescaleConstant=\"0.25\"/></Targets>\
             <Segmentation multipleModelMethod=\"sum\">{}{}</Segmentation></MiningModel></Segment>",
            stump("", "<True/>", "1", "2").replace("KIND", "regression"),
            same("", "<True/>").replace("coefficient=\"1\"", &format!("coefficient=\"{slope}\"")),
        )
    };
    let last = format!(
        "<Segment><True/><RegressionModel functionName=\"classification\" normalizationMethod=\"softmax\"><MiningSchema><MiningField name=\"f(a)\"/>\
         <MiningField name=\"f(b)\"/><MiningField name=\"y\" usageType=\"target\"/></MiningSchema><Output>\
         <OutputField name=\"twice\" feature=\"transformedValue\" dataType=\"double\"><Apply function=\"*\"><FieldRef field=\"p\"/><Constant>2</Constant></Apply></OutputField>\
         </Output>{}{}</RegressionModel></Segment>",
        "<RegressionTable targetCategory=\"a\" intercept=\"0\"><NumericPredictor name=\"f(a)\" coefficient=\"1\"/></RegressionTable>",
        "<RegressionTable targetCategory=\"b\" intercept=\"0\"><NumericPredictor name=\"f(b)\" coefficient=\"1\"/></RegressionTable>",
    )
    .replace("<OutputField name=\"twice\"", "<OutputField name=\"p\" feature=\"probability\" value=\"a\" dataType=\"double\"/><OutputField name=\"twice\"");
    let segments = [boosted("f(a)", 1.0), boosted("f(b)", -1.0), last].concat();
    let outputs = run(&ensemble("classification", "modelChain", &segments, &texts("y", &["a", "b"])), &x());
    // The sums differ by 2x: 1 and 6.
    let p = |y: f64| 1.0 / (1.0 + (-y).exp());
    expect(&outputs, "probabilities", &[p(1.0), 1.0 - p(1.0), p(6.0), 1.0 - p(6.0)]);
    assert_eq!(labels(&outputs, "label"), ["a", "a"]);
}
