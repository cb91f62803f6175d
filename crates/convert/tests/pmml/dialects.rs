//! Documents as tools write them, where the standard leaves room or they take it.

use super::errors::expect_error;
use super::*;

/// A tree of one split of `x` at 0: left and right.
fn split(left: &str, right: &str) -> String {
    format!(
        "<TreeModel functionName=\"classification\">{}<Node><True/><Node {left}</Node><Node {right}</Node></Node></TreeModel>",
        schema(&["x"], "y")
    )
}

const BELOW: &str = "<SimplePredicate field=\"x\" operator=\"lessThan\" value=\"0\"/>";
const ABOVE: &str = "<SimplePredicate field=\"x\" operator=\"greaterOrEqual\" value=\"0\"/>";

fn classes(data_type: &str, values: [&str; 2]) -> String {
    let field = texts("y", &values).replace("\"string\"", &format!("\"{data_type}\""));
    format!("{}{field}", doubles(&["x"]))
}

#[test]
fn classes_of_numbers_have_several_spellings() {
    let distribution = "<ScoreDistribution value=\"1.0\" recordCount=\"3\"/><ScoreDistribution value=\"2.0\" recordCount=\"1\"/>";
    let model = split(&format!("score=\"1.0\">{BELOW}{distribution}"), &format!("score=\"2\">{ABOVE}"));
    let outputs = run(&document(&classes("integer", ["1", "2"]), "", &model), &[("x", column(&[-1.0, 1.0]))]);
    let labels: Vec<i64> = outputs.get("label").unwrap().to_vec().unwrap();
    assert_eq!(labels, [1, 2]);
    expect(&outputs, "probabilities", &[0.75, 0.25, 0.0, 1.0]);
    expect_error(
        &document(&classes("integer", ["1", "2"]), "", &model.replace("\"2\"", "\"3\"")),
        "Node: '3' is no value of the target",
    );
}

#[test]
fn r_writes_truth_in_capitals() {
    let fields = "<DataField name=\"x\" optype=\"categorical\" dataType=\"boolean\"><Value value=\"TRUE\"/><Value value=\"FALSE\"/></DataField>";
    let fields =
        format!("{fields}{}", classes("boolean", ["TRUE", "FALSE"]).split_off(doubles(&["x"]).len()));
    let is = |text: &str| format!("<SimplePredicate field=\"x\" operator=\"equal\" value=\"{text}\"/>");
    let model = split(&format!("score=\"FALSE\">{}", is("TRUE")), &format!("score=\"TRUE\">{}", is("FALSE")));
    let x = Tensor::from_bools(&[2, 1], &[true, false]).unwrap();
    let outputs = run(&document(&fields, "", &model), &[("x", x)]);
    assert_eq!(outputs.get("label"), Some(&Tensor::from_bools(&[2, 1], &[false, true]).unwrap()));
}

/// Before version 4, a model names its target by an attribute.
#[test]
fn an_attribute_may_name_the_target() {
    let tables = "<RegressionTable targetCategory=\"7\" intercept=\"0\"><NumericPredictor name=\"x\" coefficient=\"1\"/></RegressionTable>\
         <RegressionTable targetCategory=\"5\" intercept=\"0\"/>";
    let model = format!(
        "<RegressionModel functionName=\"classification\" normalizationMethod=\"softmax\" targetFieldName=\"y\">\
         <MiningSchema><MiningField name=\"x\"/></MiningSchema>{tables}</RegressionModel>"
    );
    // Softmax of [x, 0] for the logarithm of 3, in the order that the dictionary has.
    let x = column(&[3f64.ln(), -(3f64.ln())]);
    let outputs = run(&document(&classes("integer", ["5", "7"]), "", &model), &[("x", x)]);
    let labels: Vec<i64> = outputs.get("label").unwrap().to_vec().unwrap();
    assert_eq!(labels, [7, 5]);
    expect(&outputs, "probabilities", &[0.25, 0.75, 0.75, 0.25]);
}

#[test]
fn files_may_have_other_encodings() {
    let text = expression(
        &doubles(&["gr\u{f6}\u{df}e"]),
        &["gr\u{f6}\u{df}e"],
        "<DerivedField name=\"d\" optype=\"continuous\" dataType=\"double\"><FieldRef field=\"gr\u{f6}\u{df}e\"/></DerivedField>",
    );
    let expected = sardonyx_convert::from_pmml(text.as_bytes()).unwrap();
    let declared = format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>{text}");
    let latin: Vec<u8> = declared.chars().map(|c| u8::try_from(c).unwrap()).collect();
    let units: Vec<u16> = format!("\u{feff}{text}").encode_utf16().collect();
    let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    for file in [latin, little, big] {
        // The length of the file bounds the model, and is no part of it.
        assert_eq!(sardonyx_convert::from_pmml(&file).unwrap(), expected);
    }
    let undeclared: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
    let error = sardonyx_convert::from_pmml(&undeclared).unwrap_err().to_string();
    assert!(error.contains("save it as UTF-8"), "{error}");
    let error = sardonyx_convert::from_pmml(&[0xff, 0xfe, b'<', 0, 0, 0xd8]).unwrap_err().to_string();
    assert!(error.contains("save it as UTF-8"), "{error}");
    expect_error(&format!("<!DOCTYPE PMML>{text}"), "a DOCTYPE is not supported; take it out");
}

#[test]
fn what_has_no_meaning_is_refused() {
    let good = || format!("\n{}", split(&format!("score=\"a\">{BELOW}"), &format!("score=\"b\">{ABOVE}")));
    let of = |model: &str| document(&classes("string", ["a", "b"]), "", model);
    expect_error(
        &of(&good().replace("<TreeModel", "<TreeModel isScorable=\"false\"")),
        "line 2: TreeModel: isScorable",
    );
    let twice =
        good().replace("<MiningField name=\"x\"/>", "<MiningField name=\"x\"/>\n<MiningField name=\"x\"/>");
    expect_error(&of(&twice), "line 3: MiningField: the field 'x' is there twice");
    let unknown = good().replace("<MiningField name=\"x\"", "<MiningField name=\"x\" usageType=\"aktive\"");
    expect_error(&of(&unknown), "line 2: MiningField: usageType=\"aktive\" is not supported");
    expect_error(
        &document(&format!("{}\n{}", doubles(&["x"]), classes("string", ["a", "b"])), "", &good()),
        "line 2: DataField: there is another with the name 'x'",
    );
    expect_error(&of("\n<NaiveBayesModel/>"), "line 2: NaiveBayesModel: ");
    let compound = format!("<CompoundPredicate booleanOperator=\"nand\">{BELOW}</CompoundPredicate>");
    expect_error(&of(&good().replace(BELOW, &compound)), "CompoundPredicate: booleanOperator=\"nand\"");
    let clusters = "<ClusteringModel functionName=\"clustering\" modelClass=\"centerBased\"><MiningSchema><MiningField name=\"x\"/></MiningSchema>\
         <ComparisonMeasure kind=\"distance\"><euclidean/></ComparisonMeasure>\n<ClusteringField field=\"x\"/>\
         <Cluster><Array n=\"1\" type=\"real\">1</Array></Cluster></ClusteringModel>";
    let cyclic = doubles(&["x"]).replace("/>", " isCyclic=\"1\"/>");
    expect_error(
        &document(&cyclic, "", clusters),
        "line 2: ClusteringField: the distance of a field with isCyclic",
    );
    expect(
        &run(&document(&cyclic.replace("\"1\"", "\"0\""), "", clusters), &[("x", column(&[4.0]))]),
        "affinities",
        &[3.0],
    );
}
