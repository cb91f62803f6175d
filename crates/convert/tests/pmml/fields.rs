//! Fields: what becomes of missing, invalid and extreme values, and what expressions make of them.

use super::*;

/// A regression that gives x as the mining schema makes it.
#[track_caller]
fn expect_treated(field: &str, treatment: &str, x: &[f64], expected: &[f64]) {
    let fields =
        format!("<DataField name=\"x\" optype=\"continuous\" dataType=\"double\">{field}</DataField>");
    let document = expression(
        &fields,
        &["x"],
        "<DerivedField name=\"d\" optype=\"continuous\" dataType=\"double\"><FieldRef field=\"x\"/></DerivedField>",
    );
    let document =
        document.replace("<MiningField name=\"x\"/>", &format!("<MiningField name=\"x\" {treatment}/>"));
    expect(&run(&document, &[("x", column(x))]), "prediction", expected);
}

#[test]
fn missing_values_are_replaced() {
    expect_treated("", "", &[1.0, NAN], &[1.0, NAN]);
    expect_treated("", "missingValueReplacement=\"7\"", &[1.0, NAN], &[1.0, 7.0]);
    expect_treated(
        "<Value value=\"-999\" property=\"missing\"/>",
        "missingValueReplacement=\"7\"",
        &[1.0, -999.0],
        &[1.0, 7.0],
    );
}

#[test]
fn invalid_values_are_treated() {
    let interval = "<Interval closure=\"closedOpen\" leftMargin=\"0\" rightMargin=\"2\"/>";
    let x = [0.0, 1.0, 2.0, -1.0, NAN];
    expect_treated(interval, "", &x, &[0.0, 1.0, NAN, NAN, NAN]);
    expect_treated(
        interval,
        "invalidValueTreatment=\"returnInvalid\" missingValueReplacement=\"7\"",
        &x,
        &[0.0, 1.0, NAN, NAN, 7.0],
    );
    expect_treated(interval, "invalidValueTreatment=\"asIs\"", &x, &x);
    expect_treated(
        interval,
        "invalidValueTreatment=\"asMissing\" missingValueReplacement=\"7\"",
        &x,
        &[0.0, 1.0, 7.0, 7.0, 7.0],
    );
    expect_treated(
        interval,
        "invalidValueTreatment=\"asValue\" invalidValueReplacement=\"5\"",
        &x,
        &[0.0, 1.0, 5.0, 5.0, NAN],
    );
    expect_treated("<Value value=\"3\" property=\"invalid\"/>", "", &[3.0, 4.0], &[NAN, 4.0]);
}

#[test]
fn extreme_values_are_treated() {
    let bounds = "lowValue=\"0\" highValue=\"2\"";
    let x = [-1.0, 1.0, 3.0, NAN];
    expect_treated("", &format!("outliers=\"asExtremeValues\" {bounds}"), &x, &[0.0, 1.0, 2.0, NAN]);
    expect_treated(
        "",
        &format!("outliers=\"asMissingValues\" {bounds} missingValueReplacement=\"7\""),
        &x,
        &[7.0, 1.0, 7.0, 7.0],
    );
    expect_treated("", &format!("outliers=\"asIs\" {bounds}"), &x, &x);
}

/// A document that gives the number of a text.
#[track_caller]
fn expect_text(declared: &[&str], treatment: &str, derived: &str, c: &[&str], expected: &[f64]) {
    let document = expression(&texts("c", declared), &["c"], derived);
    let document =
        document.replace("<MiningField name=\"c\"/>", &format!("<MiningField name=\"c\" {treatment}/>"));
    expect(&run(&document, &[("c", words(c))]), "prediction", expected);
}

const NORM: &str = "<DerivedField name=\"d\" optype=\"continuous\" dataType=\"double\"><NormDiscrete field=\"c\" value=\"b\"/></DerivedField>";

#[test]
fn texts_are_compared() {
    let c = ["a", "b", "z", ""];
    expect_text(&["a", "b"], "", NORM, &c, &[0.0, 1.0, NAN, NAN]);
    expect_text(&[], "", NORM, &c, &[0.0, 1.0, 0.0, NAN]);
    expect_text(&["a", "b"], "invalidValueTreatment=\"asIs\"", NORM, &c, &[0.0, 1.0, 0.0, NAN]);
    expect_text(
        &["a", "b"],
        "invalidValueTreatment=\"asMissing\" missingValueReplacement=\"b\"",
        NORM,
        &c,
        &[0.0, 1.0, 1.0, 1.0],
    );
    let mapped = NORM.replace("value=\"b\"", "value=\"b\" mapMissingTo=\"0.5\"");
    expect_text(&[], "", &mapped, &c, &[0.0, 1.0, 0.0, 0.5]);
}

#[test]
fn texts_are_mapped() {
    let rows = "<InlineTable><row><k>a</k><v>1.5</v></row><row><k>b</k><v>2.5</v></row></InlineTable>";
    let map = |attributes: &str| {
        format!(
            "<DerivedField name=\"d\" optype=\"continuous\" dataType=\"double\"><MapValues outputColumn=\"v\" dataType=\"double\" {attributes}><FieldColumnPair field=\"c\" column=\"k\"/>{rows}</MapValues></DerivedField>"
        )
    };
    let c = ["b", "a", "z", ""];
    expect_text(&[], "", &map(""), &c, &[2.5, 1.5, NAN, NAN]);
    expect_text(&[], "", &map("defaultValue=\"-1\" mapMissingTo=\"-2\""), &c, &[2.5, 1.5, -1.0, -2.0]);
}

#[test]
fn texts_go_through_derived_fields_and_functions() {
    // A text that no declaration names, through an alias, a choice and a function.
    let function = "<DefineFunction name=\"is_b\" optype=\"continuous\" dataType=\"double\"><ParameterField name=\"p\"/>\
                    <Apply function=\"if\"><Apply function=\"equal\"><FieldRef field=\"p\"/><Constant dataType=\"string\">b</Constant></Apply>\
                    <Constant>1</Constant><Constant>0</Constant></Apply></DefineFunction>";
    let derived = "<DerivedField name=\"e\" optype=\"categorical\" dataType=\"string\"><Apply function=\"if\"><Apply function=\"isNotMissing\">\
                   <FieldRef field=\"c\"/></Apply><FieldRef field=\"c\"/><Constant dataType=\"string\">b</Constant></Apply></DerivedField>\
                   <DerivedField name=\"d\" optype=\"continuous\" dataType=\"double\"><Apply function=\"is_b\"><FieldRef field=\"e\"/></Apply></DerivedField>";
    let document = expression(&texts("c", &[]), &["c"], derived)
        .replace("<TransformationDictionary>", &format!("<TransformationDictionary>{function}"));
    expect(&run(&document, &[("c", words(&["a", "b", ""]))]), "prediction", &[0.0, 1.0, 1.0]);
}

fn derived(expression: &str) -> String {
    format!("<DerivedField name=\"d\" optype=\"continuous\" dataType=\"double\">{expression}</DerivedField>")
}

#[test]
fn lines_through_points() {
    let points = "<LinearNorm orig=\"0\" norm=\"1\"/><LinearNorm orig=\"2\" norm=\"5\"/><LinearNorm orig=\"4\" norm=\"6\"/>";
    let norm = |attributes: &str| {
        derived(&format!("<NormContinuous field=\"x\" {attributes}>{points}</NormContinuous>"))
    };
    let x = [-1.0, 1.0, 2.0, 3.0, 6.0, NAN];
    expect_derived(&norm(""), &x, &[-1.0, 3.0, 5.0, 5.5, 7.0, NAN]);
    expect_derived(&norm("outliers=\"asExtremeValues\""), &x, &[1.0, 3.0, 5.0, 5.5, 6.0, NAN]);
    expect_derived(
        &norm("outliers=\"asMissingValues\" mapMissingTo=\"9\""),
        &x,
        &[NAN, 3.0, 5.0, 5.5, NAN, 9.0],
    );
}

#[test]
fn intervals_become_values() {
    let bin = |value: &str, interval: &str| {
        format!("<DiscretizeBin binValue=\"{value}\"><Interval {interval}/></DiscretizeBin>")
    };
    let bins = [
        bin("1", "closure=\"openOpen\" rightMargin=\"0\""),
        bin("2", "closure=\"closedClosed\" leftMargin=\"0\" rightMargin=\"1\""),
    ]
    .concat();
    let with = |attributes: &str| {
        derived(&format!("<Discretize field=\"x\" dataType=\"double\" {attributes}>{bins}</Discretize>"))
    };
    let x = [-1.0, 0.0, 1.0, 1.5, NAN];
    expect_derived(&with(""), &x, &[1.0, 2.0, 2.0, NAN, NAN]);
    expect_derived(&with("defaultValue=\"8\" mapMissingTo=\"9\""), &x, &[1.0, 2.0, 2.0, 8.0, 9.0]);
}

#[test]
fn a_float_is_rounded() {
    let float = derived("<FieldRef field=\"e\"/>")
        + "<DerivedField name=\"e\" optype=\"continuous\" dataType=\"float\"><FieldRef field=\"x\"/></DerivedField>";
    expect_derived(&float, &[0.1], &[f64::from(0.1f32)]);
}

#[test]
fn functions_of_numbers() {
    let apply = |function: &str, more: &str| {
        derived(&format!("<Apply function=\"{function}\"><FieldRef field=\"x\"/>{more}</Apply>"))
    };
    let two = "<Constant dataType=\"double\">2</Constant>";
    let x = [0.5, 3.0, NAN];
    for (function, expected) in [
        ("+", [2.5, 5.0, NAN]),
        ("-", [-1.5, 1.0, NAN]),
        ("*", [1.0, 6.0, NAN]),
        ("/", [0.25, 1.5, NAN]),
        ("pow", [0.25, 9.0, NAN]),
        ("min", [0.5, 2.0, 2.0]),
        ("max", [2.0, 3.0, 2.0]),
        ("sum", [2.5, 5.0, 2.0]),
        ("avg", [1.25, 2.5, 2.0]),
        ("product", [1.0, 6.0, 2.0]),
        ("threshold", [0.0, 1.0, NAN]),
        ("modulo", [0.5, 1.0, NAN]),
        ("equal", [0.0, 0.0, NAN]),
        ("notEqual", [1.0, 1.0, NAN]),
        ("lessThan", [1.0, 0.0, NAN]),
        ("lessOrEqual", [1.0, 0.0, NAN]),
        ("greaterThan", [0.0, 1.0, NAN]),
        ("greaterOrEqual", [0.0, 1.0, NAN]),
        ("isIn", [0.0, 0.0, NAN]),
        ("isNotIn", [1.0, 1.0, NAN]),
        ("hypot", [4.25f64.sqrt(), 13f64.sqrt(), NAN]),
    ] {
        expect_derived(&apply(function, two), &x, &expected);
    }
    let x = [0.5, 2.5, NAN];
    for (function, of) in [
        ("exp", f64::exp as fn(f64) -> f64),
        ("ln", f64::ln),
        ("log10", f64::log10),
        ("ln1p", f64::ln_1p),
        ("expm1", f64::exp_m1),
        ("sqrt", f64::sqrt),
        ("abs", f64::abs),
        ("floor", f64::floor),
        ("ceil", f64::ceil),
        ("sin", f64::sin),
        ("cos", f64::cos),
        ("tan", f64::tan),
        ("atan", f64::atan),
        ("sinh", f64::sinh),
        ("cosh", f64::cosh),
        ("tanh", f64::tanh),
    ] {
        expect_derived(&apply(function, ""), &x, &x.map(of));
    }
    expect_derived(&apply("asin", ""), &[0.5], &[0.5f64.asin()]);
    expect_derived(&apply("acos", ""), &[0.5], &[0.5f64.acos()]);
    expect_derived(&apply("round", ""), &[0.5, 1.5, -1.2], &[1.0, 2.0, -1.0]);
    expect_derived(&apply("rint", ""), &[0.5, 1.5, -1.2], &[0.0, 2.0, -1.0]);
    expect_derived(&apply("isMissing", ""), &[0.5, NAN], &[0.0, 1.0]);
    expect_derived(&apply("isValid", ""), &[0.5, NAN], &[1.0, 0.0]);
    expect_derived(&apply("modulo", two), &[-0.5], &[1.5]);
}

#[test]
fn truth_may_be_unknown() {
    let less = "<Apply function=\"lessThan\"><FieldRef field=\"x\"/><Constant>1</Constant></Apply>";
    let apply = |function: &str, second: &str| {
        derived(&format!("<Apply function=\"{function}\">{less}{second}</Apply>"))
    };
    let (yes, no) =
        ("<Constant dataType=\"boolean\">true</Constant>", "<Constant dataType=\"boolean\">false</Constant>");
    let x = [0.0, 2.0, NAN];
    expect_derived(&apply("and", yes), &x, &[1.0, 0.0, NAN]);
    expect_derived(&apply("and", no), &x, &[0.0, 0.0, 0.0]);
    expect_derived(&apply("or", yes), &x, &[1.0, 1.0, 1.0]);
    expect_derived(&apply("or", no), &x, &[1.0, 0.0, NAN]);
    expect_derived(&apply("not", ""), &x, &[0.0, 1.0, NAN]);
    expect_derived(&apply("if", "<Constant>3</Constant><Constant>4</Constant>"), &x, &[3.0, 4.0, NAN]);
    expect_derived(&apply("if", "<Constant>3</Constant>"), &x, &[3.0, NAN, NAN]);
}

#[test]
fn results_that_are_missing_may_be_mapped() {
    let apply = |attributes: &str| {
        derived(&format!("<Apply function=\"ln\" {attributes}><FieldRef field=\"x\"/></Apply>"))
    };
    expect_derived(&apply("mapMissingTo=\"7\""), &[1.0, NAN], &[0.0, 7.0]);
    expect_derived(&apply("mapMissingTo=\"7\" defaultValue=\"8\""), &[1.0, NAN, -1.0], &[0.0, 7.0, 8.0]);
    expect_derived(&derived("<FieldRef field=\"x\" mapMissingTo=\"6\"/>"), &[1.0, NAN], &[1.0, 6.0]);
    expect_derived(&derived("<Constant missing=\"true\" dataType=\"double\"/>"), &[1.0], &[NAN]);
}

#[test]
fn inputs_have_the_types_of_their_fields() {
    let fields = "<DataField name=\"i\" optype=\"continuous\" dataType=\"integer\"/><DataField name=\"f\" optype=\"continuous\" dataType=\"float\"/>\
                  <DataField name=\"b\" optype=\"categorical\" dataType=\"boolean\"/>";
    let sum = derived(
        "<Apply function=\"sum\"><FieldRef field=\"i\"/><FieldRef field=\"f\"/><FieldRef field=\"b\"/></Apply>",
    );
    let inputs = [
        ("i", Tensor::from_slice(&[1, 1], &[40i64]).unwrap()),
        ("f", Tensor::from_slice(&[1, 1], &[0.5f32]).unwrap()),
        ("b", Tensor::from_bools(&[1, 1], &[true]).unwrap()),
    ];
    expect(&run(&expression(fields, &["i", "f", "b"], &sum), &inputs), "prediction", &[41.5]);
}
