//! RegressionModel.

use super::*;

fn regression(attributes: &str, tables: &str, target: &str) -> String {
    let model =
        format!("<RegressionModel {attributes}>{}{tables}</RegressionModel>", schema(&["x", "c"], "y"));
    document(&format!("{}{}{target}", doubles(&["x"]), texts("c", &["u", "v"])), "", &model)
}

const INPUTS: ([f64; 3], [&str; 3]) = ([0.5, 2.0, NAN], ["u", "", "v"]);

fn inputs() -> [(&'static str, Tensor); 2] {
    [("x", column(&INPUTS.0)), ("c", words(&INPUTS.1))]
}

#[test]
fn a_sum_of_all_kinds_of_terms() {
    let table = "<RegressionTable intercept=\"1\"><NumericPredictor name=\"x\" coefficient=\"2\"/>\
                 <NumericPredictor name=\"x\" exponent=\"2\" coefficient=\"-1\"/><CategoricalPredictor name=\"c\" value=\"u\" coefficient=\"10\"/>\
                 <CategoricalPredictor name=\"c\" value=\"v\" coefficient=\"20\"/>\
                 <PredictorTerm coefficient=\"4\"><FieldRef field=\"x\"/><FieldRef field=\"x\"/><FieldRef field=\"x\"/></PredictorTerm></RegressionTable>";
    let outputs = run(&regression("functionName=\"regression\"", table, &doubles(&["y"])), &inputs());
    // 1 + 2*0.5 - 0.25 + 10 + 4*0.125; 1 + 4 - 4 + 0 + 32
    expect(&outputs, "prediction", &[12.25, 33.0, NAN]);
}

#[test]
fn a_regression_may_be_normalised() {
    let table = "<RegressionTable intercept=\"-1\"><NumericPredictor name=\"x\" coefficient=\"2\"/></RegressionTable>";
    // The sums are 0 and 3. The share of the normal distribution below 3 is from a table.
    for (method, at_0, at_3) in [
        ("none", 0.0, 3.0),
        ("logit", 0.5, 1.0 / (1.0 + (-3f64).exp())),
        ("softmax", 0.5, 1.0 / (1.0 + (-3f64).exp())),
        ("exp", 1.0, 3f64.exp()),
        ("cloglog", 1.0 - (-1f64).exp(), 1.0 - (-(3f64.exp())).exp()),
        ("loglog", (-1f64).exp(), (-((-3f64).exp())).exp()),
        ("cauchit", 0.5, 0.5 + 3f64.atan() / std::f64::consts::PI),
        ("probit", 0.5, 0.998_650_101_968_369_9),
    ] {
        let attributes = format!("functionName=\"regression\" normalizationMethod=\"{method}\"");
        let outputs = run(&regression(&attributes, table, &doubles(&["y"])), &inputs());
        expect(&outputs, "prediction", &[at_0, at_3, NAN]);
    }
}

fn classes(method: &str, count: usize, target: &str) -> String {
    let rows = [("a", 0.2, 0.4), ("b", 0.1, 0.0), ("c", 0.7, 0.0)];
    let table = |(class, intercept, slope): (&str, f64, f64)| {
        format!(
            "<RegressionTable targetCategory=\"{class}\" intercept=\"{intercept}\"><NumericPredictor name=\"x\" coefficient=\"{slope}\"/></RegressionTable>"
        )
    };
    let tables: String = rows.into_iter().take(count).map(table).collect();
    regression(&format!("functionName=\"classification\" normalizationMethod=\"{method}\""), &tables, target)
}

#[test]
fn classes_have_probabilities() {
    let three = texts("y", &["a", "b", "c"]);
    // The sums are 0.4, 0.1, 0.7 for x = 0.5, and 1, 0.1, 0.7 for x = 2.
    let softmax = |y: [f64; 3]| y.map(|own| own.exp() / y.iter().map(|each| each.exp()).sum::<f64>());
    let logit = |y: f64| 1.0 / (1.0 + (-y).exp());
    let missing = [NAN; 3];
    let expected = [softmax([0.4, 0.1, 0.7]), softmax([1.0, 0.1, 0.7]), missing].concat();
    let outputs = run(&classes("softmax", 3, &three), &inputs());
    expect(&outputs, "probabilities", &expected);
    assert_eq!(labels(&outputs, "label"), ["c", "a", ""]);
    let expected = [[1.0 / 3.0, 0.25 / 3.0, 1.75 / 3.0], [1.0 / 1.8, 0.1 / 1.8, 0.7 / 1.8], missing].concat();
    expect(&run(&classes("simplemax", 3, &three), &inputs()), "probabilities", &expected);
    let expected = [[0.4, 0.1, 0.5], [1.0, 0.1, -0.1], missing].concat();
    expect(&run(&classes("none", 3, &three), &inputs()), "probabilities", &expected);
    // Of two classes, the second has what the first leaves.
    let two = texts("y", &["a", "b"]);
    let expected = [logit(0.4), 1.0 - logit(0.4), logit(1.0), 1.0 - logit(1.0), NAN, NAN];
    expect(&run(&classes("logit", 2, &two), &inputs()), "probabilities", &expected);
    // The columns have the order of the target's values.
    let turned = texts("y", &["b", "a"]);
    let expected = [1.0 - logit(0.4), logit(0.4), 1.0 - logit(1.0), logit(1.0), NAN, NAN];
    expect(&run(&classes("logit", 2, &turned), &inputs()), "probabilities", &expected);
}

#[test]
fn classes_in_an_order_have_cumulative_probabilities() {
    let ordinal = texts("y", &["a", "b", "c"]).replace("categorical", "ordinal");
    let tables = "<RegressionTable targetCategory=\"a\" intercept=\"-1\"/><RegressionTable targetCategory=\"b\" intercept=\"1\"/>\
                  <RegressionTable targetCategory=\"c\" intercept=\"0\"/>";
    let document =
        regression("functionName=\"classification\" normalizationMethod=\"logit\"", tables, &ordinal);
    let logit = |y: f64| 1.0 / (1.0 + (-y).exp());
    let row = [logit(-1.0), logit(1.0) - logit(-1.0), 1.0 - logit(1.0)];
    expect(&run(&document, &inputs()), "probabilities", &[row, row, row].concat());
}

#[test]
fn targets_change_the_prediction() {
    let table =
        "<RegressionTable intercept=\"0\"><NumericPredictor name=\"x\" coefficient=\"1\"/></RegressionTable>";
    let with = |target: &str| {
        regression(
            "functionName=\"regression\"",
            &format!("<Targets><Target field=\"y\" {target}</Targets>{table}"),
            &doubles(&["y"]),
        )
    };
    let x = [("x", column(&[0.26, 9.0, -9.0, NAN])), ("c", words(&["u"; 4]))];
    expect(
        &run(&with("min=\"-1\" max=\"1\" rescaleFactor=\"10\" rescaleConstant=\"0.5\"/>"), &x),
        "prediction",
        &[3.1, 10.5, -9.5, NAN],
    );
    expect(
        &run(&with("rescaleFactor=\"10\" castInteger=\"round\"/>"), &x),
        "prediction",
        &[3.0, 90.0, -90.0, NAN],
    );
    expect(
        &run(&with("rescaleFactor=\"10\" castInteger=\"floor\"/>"), &x),
        "prediction",
        &[2.0, 90.0, -90.0, NAN],
    );
    expect(
        &run(&with("rescaleFactor=\"10\" castInteger=\"ceiling\"/>"), &x),
        "prediction",
        &[3.0, 90.0, -90.0, NAN],
    );
    expect(
        &run(&with("><TargetValue defaultValue=\"4\"/></Target>"), &x),
        "prediction",
        &[0.26, 9.0, -9.0, 4.0],
    );
}
