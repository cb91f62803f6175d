//! Networks, support vectors, clusters, scorecards and general regressions.

use super::*;

#[test]
fn a_network_of_two_layers() {
    // h = act([x + 2z - 1, x - z]); the output reads the hidden layer and an input.
    let network = |activation: &str, target: &str| {
        let model = format!(
            "<NeuralNetwork functionName=\"regression\" activationFunction=\"{activation}\">{}<NeuralInputs>\
             <NeuralInput id=\"i1\"><DerivedField optype=\"continuous\" dataType=\"double\"><FieldRef field=\"x\"/></DerivedField></NeuralInput>\
             <NeuralInput id=\"i2\"><DerivedField optype=\"continuous\" dataType=\"double\"><FieldRef field=\"z\"/></DerivedField></NeuralInput></NeuralInputs>\
             <NeuralLayer><Neuron id=\"h1\" bias=\"-1\"><Con from=\"i1\" weight=\"1\"/><Con from=\"i2\" weight=\"2\"/></Neuron>\
             <Neuron id=\"h2\"><Con from=\"i2\" weight=\"-1\"/><Con from=\"i1\" weight=\"1\"/></Neuron></NeuralLayer>\
             <NeuralLayer activationFunction=\"identity\"><Neuron id=\"o\" bias=\"0.5\"><Con from=\"h1\" weight=\"3\"/><Con from=\"h2\" weight=\"4\"/>\
             <Con from=\"i1\" weight=\"10\"/></Neuron></NeuralLayer><NeuralOutputs><NeuralOutput outputNeuron=\"o\">\
             <DerivedField optype=\"continuous\" dataType=\"double\">{target}</DerivedField></NeuralOutput></NeuralOutputs></NeuralNetwork>",
            schema(&["x", "z"], "y")
        );
        document(&doubles(&["x", "z", "y"]), "", &model)
    };
    // For x = 1, z = 0.25: z1 = 0.5, z2 = 0.75.
    let inputs = [("x", column(&[1.0, NAN])), ("z", column(&[0.25, 0.25]))];
    for (activation, of) in [
        ("identity", (|z: f64| z) as fn(f64) -> f64),
        ("logistic", |z| 1.0 / (1.0 + (-z).exp())),
        ("tanh", f64::tanh),
        ("exponential", f64::exp),
        ("reciprocal", f64::recip),
        ("square", |z| z * z),
        ("Gauss", |z| (-z * z).exp()),
        ("sine", f64::sin),
        ("cosine", f64::cos),
        ("Elliott", |z| z / (1.0 + z.abs())),
        ("arctan", |z| 2.0 / std::f64::consts::PI * z.atan()),
        ("rectifier", |z| z.max(0.0)),
        ("threshold", |_| 1.0),
    ] {
        let y = 3.0 * of(0.5) + 4.0 * of(0.75) + 10.5;
        expect(&run(&network(activation, "<FieldRef field=\"y\"/>"), &inputs), "prediction", &[y, NAN]);
    }
    // The target was normalised: y = 2 t + 1 below t = 3.
    let norm = "<NormContinuous field=\"y\"><LinearNorm orig=\"0\" norm=\"1\"/><LinearNorm orig=\"3\" norm=\"7\"/><LinearNorm orig=\"5\" norm=\"8\"/></NormContinuous>";
    // 15 is 14 half steps beyond 8.
    let inputs = [("x", column(&[1.0, -0.25])), ("z", column(&[0.25, 0.0]))];
    // x = -0.25, z = 0: z1 = -1.25, z2 = -0.25: -3.75 - 1 - 2.5 + 0.5 = -6.75.
    expect(
        &run(&network("identity", norm), &inputs),
        "prediction",
        &[5.0 + 2.0 * (15.0 - 8.0), (-6.75 - 1.0) / 2.0],
    );
}

#[test]
fn a_network_of_classes() {
    let neuron =
        |id: &str, weight: f64| format!("<Neuron id=\"{id}\"><Con from=\"i\" weight=\"{weight}\"/></Neuron>");
    let output = |id: &str, class: &str| {
        format!(
            "<NeuralOutput outputNeuron=\"{id}\"><DerivedField optype=\"categorical\" dataType=\"string\"><NormDiscrete field=\"y\" value=\"{class}\"/></DerivedField></NeuralOutput>"
        )
    };
    let model = format!(
        "<NeuralNetwork functionName=\"classification\" activationFunction=\"identity\">{}<NeuralInputs><NeuralInput id=\"i\">\
         <DerivedField optype=\"continuous\" dataType=\"double\"><FieldRef field=\"x\"/></DerivedField></NeuralInput></NeuralInputs>\
         <NeuralLayer normalizationMethod=\"softmax\">{}{}</NeuralLayer><NeuralOutputs>{}{}</NeuralOutputs></NeuralNetwork>",
        schema(&["x"], "y"),
        neuron("n1", 1.0),
        neuron("n2", -1.0),
        output("n1", "b"),
        output("n2", "a"),
    );
    let document = document(&format!("{}{}", doubles(&["x"]), texts("y", &["a", "b"])), "", &model);
    let outputs = run(&document, &[("x", column(&[1.0, -2.0, NAN]))]);
    let p = |y: f64| 1.0 / (1.0 + (-y).exp());
    expect(&outputs, "probabilities", &[p(-2.0), p(2.0), p(4.0), p(-4.0), NAN, NAN]);
    assert_eq!(labels(&outputs, "label"), ["b", "a", ""]);
}

const VECTORS: &str = "<VectorDictionary><VectorFields><FieldRef field=\"x\"/><FieldRef field=\"z\"/></VectorFields>\
    <VectorInstance id=\"v1\"><Array type=\"real\" n=\"2\">1 2</Array></VectorInstance>\
    <VectorInstance id=\"v2\"><REAL-SparseArray n=\"2\"><Indices>2</Indices><REAL-Entries>-1</REAL-Entries></REAL-SparseArray></VectorInstance></VectorDictionary>";

fn machine(attributes: &str, coefficients: [f64; 2], bias: f64) -> String {
    format!(
        "<SupportVectorMachine {attributes}><SupportVectors><SupportVector vectorId=\"v1\"/><SupportVector vectorId=\"v2\"/></SupportVectors>\
         <Coefficients absoluteValue=\"{bias}\"><Coefficient value=\"{}\"/><Coefficient value=\"{}\"/></Coefficients></SupportVectorMachine>",
        coefficients[0], coefficients[1]
    )
}

fn support(attributes: &str, kernel: &str, machines: &str, target: &str) -> String {
    let model = format!(
        "<SupportVectorMachineModel {attributes}>{}{kernel}{VECTORS}{machines}</SupportVectorMachineModel>",
        schema(&["x", "z"], "y")
    );
    document(&format!("{}{target}", doubles(&["x", "z"])), "", &model)
}

#[test]
fn support_vectors_and_kernels() {
    // The row (3, 1) has the products 5 and -1, and the squared distances 5 and 13, with (1, 2) and (0, -1).
    let inputs = [("x", column(&[3.0, NAN])), ("z", column(&[1.0, 1.0]))];
    for (kernel, of) in [
        ("<LinearKernelType/>", [5.0, -1.0]),
        ("<PolynomialKernelType gamma=\"2\" coef0=\"1\" degree=\"3\"/>", [1331.0, -1.0]),
        ("<RadialBasisKernelType gamma=\"0.1\"/>", [(-0.5f64).exp(), (-1.3f64).exp()]),
        ("<SigmoidKernelType gamma=\"0.5\" coef0=\"-1\"/>", [1.5f64.tanh(), (-1.5f64).tanh()]),
    ] {
        let document =
            support("functionName=\"regression\"", kernel, &machine("", [2.0, -3.0], 0.5), &doubles(&["y"]));
        expect(&run(&document, &inputs), "prediction", &[2.0 * of[0] - 3.0 * of[1] + 0.5, NAN]);
    }
    let weights = machine("", [2.0, -3.0], 0.5).replace(
        "<SupportVectors><SupportVector vectorId=\"v1\"/><SupportVector vectorId=\"v2\"/></SupportVectors>",
        "",
    );
    let document = support(
        "functionName=\"regression\" svmRepresentation=\"Coefficients\"",
        "<LinearKernelType/>",
        &weights,
        &doubles(&["y"]),
    );
    expect(&run(&document, &inputs), "prediction", &[2.0 * 3.0 - 3.0 + 0.5, NAN]);
}

#[test]
fn support_vectors_of_classes() {
    let inputs = [("x", column(&[3.0, -3.0, NAN])), ("z", column(&[1.0, 1.0, 1.0]))];
    let three = texts("y", &["a", "b", "c"]);
    // By the first vector, the sums of the rows are 5 and -1: a sum below the threshold votes for the machine's target.
    let pair = |a: &str, b: &str, sign: f64, bias: f64| {
        machine(&format!("targetCategory=\"{a}\" alternateTargetCategory=\"{b}\""), [sign, 0.0], bias)
    };
    let machines = [pair("a", "b", 1.0, 0.0), pair("a", "c", 1.0, 0.0), pair("b", "c", 1.0, -9.0)].concat();
    let one = |attributes: &str| {
        support(
            &format!("functionName=\"classification\" classificationMethod=\"OneAgainstOne\" {attributes}"),
            "<LinearKernelType/>",
            &machines,
            &three,
        )
    };
    assert_eq!(labels(&run(&one(""), &inputs), "label"), ["b", "a", ""]);
    assert_eq!(labels(&run(&one("maxWins=\"true\""), &inputs), "label"), ["a", "c", ""]);
    assert_eq!(labels(&run(&one("threshold=\"9\""), &inputs), "label"), ["a", "a", ""]);
    let all = |attributes: &str| {
        let own = |class: &str, sign: f64, bias: f64| {
            machine(&format!("targetCategory=\"{class}\""), [sign, 0.0], bias)
        };
        let machines = [own("a", 1.0, 0.0), own("b", -1.0, 0.0), own("c", 0.0, 2.0)].concat();
        support(
            &format!("functionName=\"classification\" {attributes}"),
            "<LinearKernelType/>",
            &machines,
            &three,
        )
    };
    // The sums are 5, -5, 2 and -1, 1, 2.
    assert_eq!(labels(&run(&all(""), &inputs), "label"), ["b", "a", ""]);
    assert_eq!(labels(&run(&all("maxWins=\"true\""), &inputs), "label"), ["a", "c", ""]);
}

fn clusters(kind: &str, function: &str, measure: &str, field: &str) -> String {
    let schema = "<MiningSchema><MiningField name=\"x\"/><MiningField name=\"z\"/></MiningSchema>";
    let model = format!(
        "<ClusteringModel functionName=\"clustering\" modelClass=\"centerBased\">{schema}<Output><OutputField name=\"near\" feature=\"affinity\"/>\
         <OutputField name=\"to b\" feature=\"affinity\" value=\"b\"/></Output><ComparisonMeasure kind=\"{kind}\" compareFunction=\"{function}\">{measure}</ComparisonMeasure>\
         <ClusteringField field=\"x\" {field}/><ClusteringField field=\"z\" {field} fieldWeight=\"2\"/>\
         <Cluster id=\"a\"><Array type=\"real\">0 0</Array></Cluster><Cluster id=\"b\"><Array type=\"real\">4 3</Array></Cluster></ClusteringModel>"
    );
    document(&doubles(&["x", "z"]), "", &model)
}

#[test]
fn the_nearest_cluster_wins() {
    // The differences of (1, 3) are 1, 3 and 3, 0; the second counts twice.
    let inputs = [("x", column(&[1.0])), ("z", column(&[3.0]))];
    for (measure, a, b) in [
        ("<euclidean/>", 19f64.sqrt(), 3.0),
        ("<squaredEuclidean/>", 19.0, 9.0),
        ("<cityBlock/>", 7.0, 3.0),
        ("<chebychev/>", 6.0, 3.0),
        ("<minkowski p-parameter=\"3\"/>", 55f64.cbrt(), 3.0),
    ] {
        let outputs = run(&clusters("distance", "absDiff", measure, ""), &inputs);
        expect(&outputs, "affinities", &[a, b]);
        expect(&outputs, "near", &[b]);
        expect(&outputs, "to b", &[b]);
        assert_eq!(labels(&outputs, "label"), ["b"]);
    }
    let alike = clusters("similarity", "gaussSim", "<cityBlock/>", "similarityScale=\"2\"");
    // A half where the difference is the scale.
    let outputs = run(&alike, &inputs);
    expect(&outputs, "affinities", &[0.5f64.powf(0.25) + 2.0 * 0.5f64.powf(2.25), 0.5f64.powf(2.25) + 2.0]);
    assert_eq!(labels(&outputs, "label"), ["b"]);
    expect(&run(&clusters("distance", "delta", "<cityBlock/>", ""), &inputs), "affinities", &[3.0, 1.0]);
    expect(&run(&clusters("similarity", "equal", "<cityBlock/>", ""), &inputs), "affinities", &[0.0, 2.0]);
}

#[test]
fn a_missing_coordinate_counts_like_the_others() {
    let inputs = [("x", column(&[1.0, NAN, NAN])), ("z", column(&[NAN, 3.0, NAN]))];
    let outputs = run(&clusters("distance", "absDiff", "<squaredEuclidean/>", ""), &inputs);
    // Twice the sum of one coordinate.
    expect(&outputs, "affinities", &[2.0, 18.0, 36.0, 0.0, NAN, NAN]);
    assert_eq!(labels(&outputs, "label"), ["a", "b", ""]);
}

#[test]
fn a_scorecard_adds_partial_scores() {
    let attribute = |score: &str, predicate: &str| format!("<Attribute {score}>{predicate}</Attribute>");
    let less = |field: &str, value: f64| {
        format!("<SimplePredicate field=\"{field}\" operator=\"lessThan\" value=\"{value}\"/>")
    };
    let first = [
        attribute("partialScore=\"5\"", "<SimplePredicate field=\"x\" operator=\"isMissing\"/>"),
        attribute("partialScore=\"10\"", &less("x", 1.0)),
        attribute("partialScore=\"20\"", &less("x", 2.0)),
    ];
    let second = [
        attribute(
            "",
            "<SimplePredicate field=\"z\" operator=\"greaterThan\" value=\"0\"/><ComplexPartialScore><Apply function=\"*\"><FieldRef field=\"z\"/><Constant>3</Constant></Apply></ComplexPartialScore>",
        ),
        attribute("partialScore=\"-1\"", "<True/>"),
    ];
    let model = format!(
        "<Scorecard functionName=\"regression\" initialScore=\"100\" useReasonCodes=\"false\">{}<Characteristics><Characteristic>{}</Characteristic>\
         <Characteristic>{}</Characteristic></Characteristics></Scorecard>",
        schema(&["x", "z"], "y"),
        first.concat(),
        second.concat()
    );
    let inputs = [("x", column(&[0.0, 1.0, NAN, 2.0])), ("z", column(&[2.0, -2.0, NAN, 1.0]))];
    expect(
        &run(&document(&doubles(&["x", "z", "y"]), "", &model), &inputs),
        "prediction",
        &[116.0, 119.0, 104.0, NAN],
    );
}

/// Parameters: p0 the intercept, p1 = x, p2 = [c = u] z^2.
fn general(attributes: &str, cells: &str, target: &str) -> String {
    let parameters = "<ParameterList><Parameter name=\"p0\"/><Parameter name=\"p1\"/><Parameter name=\"p2\"/></ParameterList>\
        <FactorList><Predictor name=\"c\"/></FactorList><CovariateList><Predictor name=\"x\"/><Predictor name=\"z\"/></CovariateList>\
        <PPMatrix><PPCell value=\"1\" predictorName=\"x\" parameterName=\"p1\"/><PPCell value=\"u\" predictorName=\"c\" parameterName=\"p2\"/>\
        <PPCell value=\"2\" predictorName=\"z\" parameterName=\"p2\"/></PPMatrix>";
    let model = format!(
        "<GeneralRegressionModel {attributes}>{}{parameters}<ParamMatrix>{cells}</ParamMatrix></GeneralRegressionModel>",
        schema(&["x", "z", "c"], "y")
    );
    document(&format!("{}{}{target}", doubles(&["x", "z"]), texts("c", &["u", "v"])), "", &model)
}

fn cells(more: &str, betas: &[(&str, f64)]) -> String {
    betas
        .iter()
        .map(|(name, beta)| format!("<PCell parameterName=\"{name}\" beta=\"{beta}\" {more}/>"))
        .collect()
}

fn general_inputs() -> [(&'static str, Tensor); 3] {
    [("x", column(&[2.0, 2.0, NAN])), ("z", column(&[3.0, 3.0, 3.0])), ("c", words(&["u", "v", "u"]))]
}

#[test]
fn general_regressions_and_their_links() {
    let betas = cells("", &[("p0", 0.5), ("p1", -0.25), ("p2", 0.125)]);
    // 0.5 - 0.5 + 0.125 * 9, and 0 where c is another. With the offset, 1.625 and 0.5.
    let outputs = run(
        &general("functionName=\"regression\" modelType=\"generalLinear\"", &betas, &doubles(&["y"])),
        &general_inputs(),
    );
    expect(&outputs, "prediction", &[1.125, 0.0, NAN]);
    let logistic = |r: f64| 1.0 / (1.0 + (-r).exp());
    type Link = (&'static str, &'static str, fn(f64) -> f64);
    let links: [Link; 10] = [
        ("identity", "", |r| r),
        ("log", "", f64::exp),
        ("logit", "", |r| 1.0 / (1.0 + (-r).exp())),
        ("cloglog", "", |r| 1.0 - (-r.exp()).exp()),
        ("loglog", "", |r| (-(-r).exp()).exp()),
        ("inverse", "", f64::recip),
        ("logc", "", |r| 1.0 - r.exp()),
        ("negbin", "linkParameter=\"2\"", |r| 1.0 / (2.0 * ((-r).exp() - 1.0))),
        ("power", "linkParameter=\"0.5\"", |r| r * r),
        ("oddspower", "linkParameter=\"2\"", |r| 1.0 / (1.0 + (1.0 + 2.0 * r).powf(-0.5))),
    ];
    for (link, parameter, of) in links {
        let attributes = format!(
            "functionName=\"regression\" modelType=\"generalizedLinear\" offsetValue=\"0.5\" linkFunction=\"{link}\" {parameter}"
        );
        let outputs = run(&general(&attributes, &betas, &doubles(&["y"])), &general_inputs());
        expect(&outputs, "prediction", &[of(1.625), of(0.5), NAN]);
    }
    let attributes = "functionName=\"regression\" modelType=\"generalizedLinear\" linkFunction=\"logit\" trialsValue=\"10\"";
    expect(
        &run(&general(attributes, &betas, &doubles(&["y"])), &general_inputs()),
        "prediction",
        &[10.0 * logistic(1.125), 5.0, NAN],
    );
}

#[test]
fn general_regressions_of_classes() {
    let three = texts("y", &["a", "b", "c"]);
    let of =
        |class: &str, intercept: f64| cells(&format!("targetCategory=\"{class}\""), &[("p0", intercept)]);
    let common = cells("", &[("p1", 0.5)]);
    let betas = [of("a", -1.0), of("b", 1.0), common].concat();
    // x / 2 is 1: the sums of a and b are 0 and 2.
    let whole = 1.0 + 2f64.exp() + 1.0;
    let row = [1.0 / whole, 2f64.exp() / whole, 1.0 / whole];
    let attributes =
        "functionName=\"classification\" modelType=\"multinomialLogistic\" targetReferenceCategory=\"c\"";
    let outputs = run(&general(attributes, &betas, &three), &general_inputs());
    expect(&outputs, "probabilities", &[row, row, [NAN; 3]].concat());
    assert_eq!(labels(&outputs, "label"), ["b", "b", ""]);
    let logistic = |r: f64| 1.0 / (1.0 + (-r).exp());
    let row = [0.5, logistic(2.0) - 0.5, 1.0 - logistic(2.0)];
    let attributes =
        "functionName=\"classification\" modelType=\"ordinalMultinomial\" cumulativeLink=\"logit\"";
    expect(
        &run(&general(attributes, &betas, &three), &general_inputs()),
        "probabilities",
        &[row, row, [NAN; 3]].concat(),
    );
    let two = texts("y", &["no", "yes"]);
    let betas = cells("targetCategory=\"yes\"", &[("p0", -1.0), ("p1", 1.0)]);
    let attributes = "functionName=\"classification\" modelType=\"generalizedLinear\" linkFunction=\"logit\"";
    let row = [1.0 - logistic(1.0), logistic(1.0)];
    expect(
        &run(&general(attributes, &betas, &two), &general_inputs()),
        "probabilities",
        &[row, row, [NAN; 2]].concat(),
    );
}
