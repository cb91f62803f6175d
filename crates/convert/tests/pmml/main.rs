//! PMML documents, written by hand from the standard, converted and run on the reference. What they give is computed by hand.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod dialects;
mod errors;
mod fields;
mod kinds;
mod mining;
mod regression;
mod tree;

use sardonyx::{Device, Model, Outputs, Session, SessionOptions, Tensor};

/// A document with these data fields, transformations of the document, and a model.
fn document(fields: &str, transformations: &str, model: &str) -> String {
    format!(
        "<PMML version=\"4.4\" xmlns=\"http://www.dmg.org/PMML-4_4\"><Header/><DataDictionary>{fields}</DataDictionary>\
         <TransformationDictionary>{transformations}</TransformationDictionary>{model}</PMML>"
    )
}

/// Data fields of continuous doubles.
fn doubles(names: &[&str]) -> String {
    let field =
        |name: &&str| format!("<DataField name=\"{name}\" optype=\"continuous\" dataType=\"double\"/>");
    names.iter().map(field).collect()
}

/// A data field of texts.
fn texts(name: &str, values: &[&str]) -> String {
    let values: String = values.iter().map(|value| format!("<Value value=\"{value}\"/>")).collect();
    format!("<DataField name=\"{name}\" optype=\"categorical\" dataType=\"string\">{values}</DataField>")
}

/// The mining schema of active fields, and a target.
fn schema(active: &[&str], target: &str) -> String {
    let fields: String = active.iter().map(|name| format!("<MiningField name=\"{name}\"/>")).collect();
    format!("<MiningSchema>{fields}<MiningField name=\"{target}\" usageType=\"target\"/></MiningSchema>")
}

/// A regression that gives an expression of the fields: a document to look at transformations.
fn expression(fields: &str, active: &[&str], derived: &str) -> String {
    let schema = schema(active, "y");
    let model = format!(
        "<RegressionModel functionName=\"regression\">{schema}<LocalTransformations>{derived}</LocalTransformations>\
         <RegressionTable intercept=\"0\"><NumericPredictor name=\"d\" coefficient=\"1\"/></RegressionTable></RegressionModel>"
    );
    document(&format!("{fields}{}", doubles(&["y"])), "", &model)
}

/// A column of numbers.
fn column(values: &[f64]) -> Tensor {
    Tensor::from_slice(&[values.len(), 1], values).unwrap()
}

/// A column of texts.
fn words(values: &[&str]) -> Tensor {
    Tensor::from_strings(&[values.len(), 1], values.iter().map(|text| text.to_string()).collect()).unwrap()
}

fn run(document: &str, inputs: &[(&str, Tensor)]) -> Outputs {
    let bytes = sardonyx_convert::from_pmml(document.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let model = Model::from_bytes(bytes).unwrap();
    let session = Session::new(&Device::reference(), &model, SessionOptions::new()).unwrap();
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (*name, tensor)).collect();
    session.run(&inputs).unwrap()
}

/// The texts of an output.
fn labels(outputs: &Outputs, name: &str) -> Vec<String> {
    outputs.get(name).unwrap().strings().unwrap().to_vec()
}

/// Compares an output with what was computed by hand; NaN is expected as NaN.
#[track_caller]
fn expect(outputs: &Outputs, name: &str, expected: &[f64]) {
    let got: Vec<f64> = outputs.get(name).unwrap().to_vec().unwrap();
    let near = |(a, b): (&f64, &f64)| (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * b.abs().max(1.0);
    assert!(
        got.len() == expected.len() && got.iter().zip(expected).all(near),
        "{name}: {got:?}, and not {expected:?}"
    );
}

/// The value of a derived field `d` for values of `x`.
#[track_caller]
fn expect_derived(derived: &str, x: &[f64], expected: &[f64]) {
    let outputs = run(&expression(&doubles(&["x"]), &["x"], derived), &[("x", column(x))]);
    expect(&outputs, "prediction", expected);
}

const NAN: f64 = f64::NAN;
