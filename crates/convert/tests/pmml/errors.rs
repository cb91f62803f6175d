//! What is wrong or not supported is an error that names the element and the line; hostile files take neither stack nor memory.

use super::*;
use sardonyx_convert::{Error, from_pmml};

#[track_caller]
pub(super) fn expect_error(document: &str, expected: &str) {
    let error = from_pmml(document.as_bytes()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

const DERIVED: &str =
    "<DerivedField name=\"d\" optype=\"continuous\" dataType=\"double\">EXPRESSION</DerivedField>";

fn with(expression_text: &str) -> String {
    expression(&doubles(&["x"]), &["x"], &DERIVED.replace("EXPRESSION", expression_text))
}

#[test]
fn errors_name_the_element_and_the_line() {
    let document = with("\n\n<FieldRef field=\"nothing\"/>");
    expect_error(&document, "line 3: FieldRef: no field has the name 'nothing'");
    expect_error(
        &with("<Apply function=\"soundex\"><FieldRef field=\"x\"/></Apply>"),
        "Apply: the function 'soundex' is not supported",
    );
    expect_error(&with("<FieldRef field=\"d\"/>"), "depends on itself");
    expect_error(&with("<TextIndex/>"), "TextIndex");
    expect_error(&with("<Constant dataType=\"double\">abc</Constant>"), "'abc' is no number");
    expect_error(&with("<Constant dataType=\"date\">abc</Constant>"), "dates and times");
    expect_error("<PMML><AssociationModel/></PMML>", "no model of a kind that is supported");
    expect_error("<html/>", "no PMML document");
    expect_error("no xml", "no XML");
    let chosen = "<Segmentation multipleModelMethod=\"selectAll\"><Segment><True/><TreeModel/></Segment></Segmentation>";
    let model =
        format!("<MiningModel functionName=\"regression\">{}{chosen}</MiningModel>", schema(&["x"], "y"));
    expect_error(&document_of(&model), "selectAll gives any number of results");
}

fn document_of(model: &str) -> String {
    document(&doubles(&["x", "y"]), "", model)
}

#[test]
fn deep_nesting_is_refused() {
    let deep = |open: &str, close: &str, times: usize| [open.repeat(times), close.repeat(times)].concat();
    expect_error(&format!("<PMML>{}</PMML>", deep("<a>", "</a>", 100_000)), "nested deeper");
    let chain: String = (0..5_000)
        .map(|at| format!("<DerivedField name=\"d{at}\" optype=\"continuous\" dataType=\"double\"><FieldRef field=\"d{}\"/></DerivedField>", at + 1))
        .collect();
    let document = with("<FieldRef field=\"d0\"/>")
        .replace("</LocalTransformations>", &format!("{chain}</LocalTransformations>"));
    expect_error(&document, "nested deeper");
}

/// Functions that call the one before twice double the work with each line.
#[test]
fn work_is_in_proportion_to_the_file() {
    let function = |at: usize, body: &str| {
        format!(
            "<DefineFunction name=\"f{at}\" optype=\"continuous\" dataType=\"double\"><ParameterField name=\"p\"/>{body}</DefineFunction>"
        )
    };
    let call = |at: usize, plus: usize| {
        format!(
            "<Apply function=\"f{at}\"><Apply function=\"+\"><FieldRef field=\"p\"/><Constant dataType=\"double\">{plus}.5</Constant></Apply></Apply>"
        )
    };
    let mut functions = function(0, "<Apply function=\"exp\"><FieldRef field=\"p\"/></Apply>");
    for at in 1..60 {
        functions += &function(
            at,
            &format!("<Apply function=\"*\">{}{}</Apply>", call(at - 1, at), call(at - 1, 1000 * at)),
        );
    }
    let document = with("<Apply function=\"f59\"><FieldRef field=\"x\"/></Apply>")
        .replace("<TransformationDictionary>", &format!("<TransformationDictionary>{functions}"));
    assert!(matches!(from_pmml(document.as_bytes()), Err(Error::TooLarge { .. })));
}

/// Every file that is a part of a good one, or has a few bytes changed, gives a model or an error.
#[test]
fn bent_files_do_not_panic() {
    let good = with(
        "<Apply function=\"if\"><Apply function=\"lessThan\"><FieldRef field=\"x\"/><Constant>1</Constant></Apply><Constant>3</Constant></Apply>",
    );
    let good = good.as_bytes();
    for end in (0..good.len()).step_by(7) {
        let _ = from_pmml(&good[..end]);
    }
    let mut state = 1u64;
    for _ in 0..3_000 {
        let mut bent = good.to_vec();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bent.len();
            bent[at] = b"<>/\"=x0 -9&\xff"[(state >> 20) as usize % 12];
        }
        let _ = from_pmml(&bent);
    }
}
