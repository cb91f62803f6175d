//! What `Operator::work` says, against the inner loops of each operator's `eval`, counted by hand. An operator that is in
//! neither list fails the test: read its `eval`, and say what it costs.

use std::collections::BTreeSet;

use crate::DType;
use crate::array::Array;
use crate::facts::Fact;
use crate::internals::cases::listed_cases;
use crate::ops::case::{self, Case, graph_of_case};
use crate::ops::{Attr, OWN_DOMAIN, of_elements, rows, svm, tree_ensemble};

/// The operators whose `eval` takes a bounded number of steps for each element of its inputs and outputs.
#[rustfmt::skip]
const BY_ELEMENT: &[&str] = &[
    "Abs", "Acos", "Acosh", "Add", "AffineGrid", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh",
    "BatchNormalization", "BiasAdd", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
    "Bernoulli", "BlackmanWindow", "Cast", "CastLike", "Ceil", "Celu", "CenterCropPad", "Clip", "Col2Im", "Compress", "Concat",
    "ConstantOfShape", "Cos", "Cosh", "CumProd", "CumSum", "DepthToSpace", "DequantizeLinear", "Div", "Dropout",
    "DynamicQuantizeLinear", "Elu", "EmbedLayerNormalization", "Equal", "Exp", "Expand", "EyeLike", "FastGelu", "Flatten",
    "Floor", "Gather", "GatherBlockQuantized", "GatherElements", "GatherND", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "Greater",
    "GreaterOrEqual", "GroupNorm", "GroupNormalization", "HammingWindow", "HannWindow", "HardSigmoid", "HardSwish",
    "Hardmax", "Identity", "InstanceNormalization", "IsInf", "IsNaN", "LayerNormalization", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "Max", "MaxUnpool", "Mean", "MeanVarianceNormalization",
    "MelWeightMatrix", "Min", "Mish", "Mod", "Mul", "Neg", "NegativeLogLikelihoodLoss", "NonZero", "Not", "OneHot", "Or",
    "PRelu", "Pad", "QLinearAdd", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul",
    "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QuantizeLinear", "QuickGelu", "RMSNormalization", "RandomNormal", "RandomNormalLike",
    "RandomUniform", "RandomUniformLike", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "ReverseSequence",
    "RotaryEmbedding", "Round", "Scatter", "ScatterElements", "ScatterND", "Selu", "Shape", "Shrink", "Sigmoid", "Sign",
    "SimplifiedLayerNormalization", "Sin", "Sinh", "Size", "SkipGroupNorm", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization", "Slice", "Softmax", "SoftmaxCrossEntropyLoss", "Softplus", "Softsign",
    "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "SwiGLU", "Swish", "Tan", "Tanh", "TensorScatter",
    "ThresholdedRelu", "Tile", "Transpose", "Trilu", "Unsqueeze", "Upsample", "Where", "Xor",
    // A bounded number of steps for each byte of the texts.
    "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit",
    // Likewise, and for each state of an expression.
    "Tokenizer",
    // A bounded number of steps for each pixel of the file.
    "ImageDecoder",
    // ai.onnx.ml
    "ArrayFeatureExtractor", "Binarizer", "CategoryMapper", "FeatureVectorizer", "Imputer", "LabelEncoder", "Normalizer",
    "OneHotEncoder", "Scaler",
];

/// The operators on containers: a `HostOperator` says what they cost, by tensors.
#[rustfmt::skip]
const ON_CONTAINERS: &[&str] = &[
    "CastMap", "ConcatFromSequence", "DictVectorizer", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt",
    "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SplitToSequence", "ZipMap",
];

/// A node, and the steps that its inner loops take, counted by hand.
struct HandCount {
    case: Case,
    inputs: Vec<Option<Fact>>,
    by_hand: u64,
}

/// The steps that as many multiply-adds of a plain loop count for.
fn products(count: u64) -> u64 {
    count / 8
}

fn floats(shape: &[usize]) -> Option<Fact> {
    Some(Fact::new(DType::F32, shape))
}

fn bytes(shape: &[usize]) -> Option<Fact> {
    Some(Fact::new(DType::U8, shape))
}

fn known(values: &[i64]) -> Option<Fact> {
    let values = values.iter().map(|&value| value.into()).collect::<Vec<_>>();
    Some(Fact::of_array(Array::int(DType::I64, &[values.len()], values)))
}

fn scalar(value: i64) -> Option<Fact> {
    Some(Fact::of_array(Array::int(DType::I64, &[], vec![value.into()])))
}

fn int32(value: i128, shape: &[usize]) -> Option<Fact> {
    Some(Fact::of_array(Array::int(DType::I32, shape, vec![value])))
}

fn counted() -> Vec<HandCount> {
    let of = |case: Case, inputs: &[Option<Fact>], by_hand: u64| HandCount {
        case,
        inputs: inputs.to_vec(),
        by_hand,
    };
    let new = |op: &str| Case::new(op, "counted");
    let f = floats;
    let (image, filters) = (&[1, 64, 56, 56][..], &[64, 64, 3, 3][..]);
    // 64 filters of 64 channels and 9 taps at 54 by 54 places.
    let conv = products(64 * 64 * 9 * 54 * 54);
    let matrix = &[300, 300][..];
    let cube = products(300 * 300 * 300);
    let layer = |gates: usize| [f(&[100, 1, 64]), f(&[1, gates * 64, 64]), f(&[1, gates * 64, 64])];
    // 100 steps of 64 units with some gates, each with 64 inputs and 64 units before.
    let recurrent = |gates: u64| products(100 * 64 * gates * 128);
    let query = || f(&[1, 8, 100, 64]);
    let sequence = || f(&[1, 100, 128]);
    let linear = new("LinearAttention").string("update_rule", "linear");
    let ml = |op: &str| new(op).domain("ai.onnx.ml").opset(1);
    let linear_model = |op: &str| {
        let case = ml(op).attr("coefficients", Attr::Floats(vec![0.5; 40 * 300]));
        case.int("targets", 40).ints("classlabels_ints", &(0..40).collect::<Vec<_>>())
    };
    let vectors = |op: &str, labels: &[i64]| svm::supported(ml(op), labels, 200, 30, "RBF");
    let trees = |op: &str| tree_ensemble::grown_case(op, 50, 10);
    let int64 = |shape: &[usize]| Some(Fact::new(DType::I64, shape));
    vec![
        // 100 rows of 8 heads meet 100 keys of 64 elements, and 100 values.
        of(
            new("MultiHeadAttention").of_microsoft().int("num_heads", 8),
            &[f(&[1, 100, 512]), f(&[1, 100, 512]), f(&[1, 100, 512])],
            products(8 * 100 * 100 * 128),
        ),
        of(
            new("GroupQueryAttention").of_microsoft().int("num_heads", 8).int("kv_num_heads", 8),
            &[
                f(&[1, 100, 512]),
                f(&[1, 100, 512]),
                f(&[1, 100, 512]),
                None,
                None,
                int32(100 - 1, &[1]),
                int32(100, &[]),
            ],
            products(8 * 100 * 100 * 128),
        ),
        of(
            new("SparseAttention")
                .of_microsoft()
                .int("num_heads", 8)
                .int("kv_num_heads", 8)
                .int("sparse_block_size", 16),
            &[
                f(&[1, 100, 512]),
                f(&[1, 100, 512]),
                f(&[1, 100, 512]),
                f(&[1, 8, 128, 64]),
                f(&[1, 8, 128, 64]),
                Some(Fact::new(DType::I32, [1, 9])),
                Some(Fact::new(DType::I32, [1, 36])),
                int32(100, &[1]),
                int32(100, &[1]),
            ],
            products(8 * 100 * 128 * 128),
        ),
        of(
            new("Attention").of_microsoft().int("num_heads", 8),
            &[f(&[1, 100, 512]), f(&[512, 1536])],
            products(8 * 100 * 100 * 128 + 100 * 512 * 1536),
        ),
        of(
            new("QAttention").of_microsoft().int("num_heads", 8),
            &[bytes(&[1, 100, 512]), bytes(&[512, 1536]), f(&[1536]), f(&[]), f(&[])],
            products(8 * 100 * 100 * 128 + 100 * 512 * 1536),
        ),
        // 800 rows meet 100 keys of 64 elements, and 100 values.
        of(new("Attention"), &[query(), query(), query()], products(8 * 100 * 100 * 128)),
        of(
            new("FlexAttention").domain("ai.onnx.preview").opset(1),
            &[query(), query(), query()],
            products(8 * 100 * 100 * 128),
        ),
        of(new("CausalConvWithState"), &[f(&[1, 64, 1000]), f(&[64, 1, 1000])], products(64 * 1000 * 1000)),
        of(
            new("CausalConvWithState").of_microsoft(),
            &[f(&[1, 64, 1000]), f(&[64, 1, 1000])],
            products(64 * 1000 * 1000),
        ),
        of(new("FusedConv").of_microsoft(), &[f(image), f(filters)], conv),
        of(new("NhwcConv").of_microsoft(), &[f(&[1, 56, 56, 64]), f(filters)], conv),
        of(new("NhwcFusedConv").of_microsoft(), &[f(&[1, 56, 56, 64]), f(filters)], conv),
        of(new("Conv"), &[f(image), f(filters)], conv),
        of(new("ConvInteger"), &[bytes(image), bytes(filters)], conv),
        of(new("ConvTranspose"), &[f(image), f(filters)], products(64 * 64 * 9 * 56 * 56)),
        of(
            new("QLinearConv"),
            &[bytes(image), f(&[]), bytes(&[]), bytes(filters), f(&[]), bytes(&[]), f(&[]), bytes(&[])],
            conv,
        ),
        of(
            new("DeformConv"),
            &[f(&[1, 16, 32, 32]), f(&[16, 16, 3, 3]), f(&[1, 18, 30, 30])],
            16 * 16 * 9 * 900,
        ),
        of(new("Det"), &[f(&[300, 300])], products(300 * 300 * 300 / 3)),
        of(new("Inverse").of_microsoft(), &[f(&[300, 300])], products(300 * 300 * 300 * 3 / 2)),
        of(new("DFT"), &[f(&[1, 1000, 1])], 1000 * 1000),
        // 91 frames of 1,000 samples, 501 bins of each.
        of(new("STFT"), &[f(&[1, 10_000]), scalar(100), None, scalar(1000)], 91 * 501 * 1000),
        of(
            new("Einsum").string("equation", "ij,jk,kl->il"),
            &[f(&[30, 30]), f(&[30, 30]), f(&[30, 30])],
            3 * 30 * 30 * 30 * 30,
        ),
        of(new("Erf"), &[f(&[1000])], products(1000 * 60 * 2)),
        of(new("Gelu"), &[f(&[1000])], products(1000 * 60 * 2)),
        of(new("Gelu").domain("com.microsoft").opset(1), &[f(&[1000])], products(1000 * 60 * 2)),
        of(
            new("BiasGelu").domain("com.microsoft").opset(1),
            &[f(&[1000]), f(&[1000])],
            products(1000 * 60 * 2),
        ),
        of(new("FusedMatMul").domain("com.microsoft").opset(1), &[f(matrix), f(matrix)], cube),
        of(new("FusedGemm").of_microsoft(), &[f(matrix), f(matrix)], cube),
        of(
            new("MatMulNBits").of_microsoft().int("K", 320).int("N", 320).int("block_size", 32),
            &[f(&[300, 320]), bytes(&[320, 10, 16]), f(&[320, 10])],
            products(300 * 320 * 320),
        ),
        // Each of 50 rows passes through all 8 experts.
        of(
            new("MoE").of_microsoft(),
            &[f(&[50, 64]), f(&[50, 8]), f(&[8, 256, 64]), None, f(&[8, 64, 256])],
            products(50 * 8 * 2 * 256 * 64),
        ),
        of(
            new("QMoE").of_microsoft(),
            &[
                f(&[50, 64]),
                f(&[50, 8]),
                bytes(&[8, 256, 32]),
                f(&[8, 256]),
                None,
                bytes(&[8, 64, 128]),
                f(&[8, 64]),
            ],
            products(50 * 8 * 2 * 256 * 64),
        ),
        of(new("MatMulIntegerToFloat").of_microsoft(), &[bytes(matrix), bytes(matrix), f(&[]), f(&[])], cube),
        of(new("DynamicQuantizeMatMul").of_microsoft(), &[f(matrix), bytes(matrix), f(&[])], cube),
        of(
            new("QGemm").of_microsoft(),
            &[bytes(matrix), f(&[]), bytes(&[]), bytes(matrix), f(&[]), bytes(&[])],
            cube,
        ),
        of(new("BiasSplitGelu").of_microsoft(), &[f(&[1, 1, 2000]), f(&[2000])], products(1000 * 60 * 2)),
        of(new("Gemm"), &[f(matrix), f(matrix)], cube),
        of(new("MatMul"), &[f(matrix), f(matrix)], cube),
        of(new("MatMulInteger"), &[bytes(matrix), bytes(matrix)], cube),
        of(
            new("QLinearMatMul"),
            &[bytes(matrix), f(&[]), bytes(&[]), bytes(matrix), f(&[]), bytes(&[]), f(&[]), bytes(&[])],
            cube,
        ),
        // Each of 10,000 places reads 16 elements, and finds two coordinates of each.
        of(
            new("GridSample").string("mode", "cubic"),
            &[f(&[1, 1, 100, 100]), f(&[1, 100, 100, 2])],
            10_000 * 16 * 2,
        ),
        of(new("GRU").int("hidden_size", 64), &layer(3), recurrent(3)),
        of(new("LSTM").int("hidden_size", 64), &layer(4), recurrent(4)),
        of(
            new("DynamicQuantizeLSTM").of_microsoft().int("hidden_size", 64),
            &[
                f(&[100, 1, 64]),
                bytes(&[1, 64, 256]),
                bytes(&[1, 64, 256]),
                None,
                None,
                None,
                None,
                None,
                f(&[1]),
                bytes(&[1]),
                f(&[1]),
                bytes(&[1]),
            ],
            recurrent(4),
        ),
        of(new("RNN").int("hidden_size", 64), &layer(1), recurrent(1)),
        // The state of 64 by 64 elements grows and is read in each of 100 steps, in two heads.
        of(
            linear.int("q_num_heads", 2).int("kv_num_heads", 2),
            &[sequence(), sequence(), sequence()],
            products(100 * 2 * 64 * 64 * 2),
        ),
        of(new("LRN").int("size", 101), &[f(&[1, 1000, 10, 10])], products(100_000 * 101)),
        // Each of 50 regions may cover the image.
        of(
            new("MaxRoiPool").ints("pooled_shape", &[2, 2]),
            &[f(&[1, 1, 100, 100]), f(&[50, 5])],
            50 * 10_000,
        ),
        of(new("AveragePool").ints("kernel_shape", &[50, 50]), &[f(&[1, 1, 100, 100])], 51 * 51 * 2500),
        of(new("LpPool").ints("kernel_shape", &[50, 50]), &[f(&[1, 1, 100, 100])], 51 * 51 * 2500),
        of(
            new("NhwcMaxPool").of_microsoft().ints("kernel_shape", &[50, 50]),
            &[bytes(&[1, 100, 100, 1])],
            51 * 51 * 2500,
        ),
        of(
            new("QLinearAveragePool").of_microsoft().ints("kernel_shape", &[50, 50]),
            &[bytes(&[1, 1, 100, 100]), f(&[]), bytes(&[]), f(&[]), bytes(&[])],
            51 * 51 * 2500,
        ),
        of(new("MaxPool").ints("kernel_shape", &[50, 50]), &[f(&[1, 1, 100, 100])], 51 * 51 * 2500),
        // Two wrapped products for each of 63 bits of an exponent.
        of(new("Pow"), &[int64(&[1000]), int64(&[1000])], 1000 * 126),
        // 10 elements of each of 100 rows, from 200 taps each.
        of(
            new("Resize").string("mode", "linear").int("antialias", 1),
            &[f(&[1, 1, 100, 1000]), None, None, known(&[1, 1, 100, 10])],
            100 * 10 * 200,
        ),
        of(
            new("RoiAlign").int("output_height", 10).int("output_width", 10).int("sampling_ratio", 100),
            &[f(&[1, 1, 8, 8]), f(&[1, 4]), int64(&[1])],
            100 * 100 * 100,
        ),
        of(new("TopK"), &[f(&[1 << 17]), known(&[1])], (1 << 17) * 17),
        of(linear_model("LinearClassifier"), &[f(&[300, 300])], products(300 * 300 * 40)),
        of(linear_model("LinearRegressor"), &[f(&[300, 300])], products(300 * 300 * 40)),
        // Each of 100 rows meets 200 vectors of 30 elements, and pairs of 4 classes sum up what they give.
        of(vectors("SVMClassifier", &[0, 1, 2, 3]), &[f(&[100, 30])], products(100 * 200 * (30 + 3))),
        of(vectors("SVMRegressor", &[]), &[f(&[100, 30])], products(100 * 200 * (30 + 1))),
        // Each of 100 rows walks through 10 levels of 50 trees.
        of(trees("TreeEnsemble"), &[f(&[100, 3])], 100 * 50 * 10),
        of(trees("TreeEnsembleClassifier"), &[f(&[100, 3])], 100 * 50 * 10),
        of(trees("TreeEnsembleRegressor"), &[f(&[100, 3])], 100 * 50 * 10),
        // 1-grams, 2-grams of neighbours, and 2-grams with one word between them.
        of(grams(), &[Some(Fact::new(DType::I64, [10, 100]))], 10 * (100 + 2 * 99 + 2 * 98)),
        // Each of 1,000 draws of 10 rows is compared with the ends of 100 classes.
        of(new("Multinomial").int("sample_size", 1000), &[f(&[10, 100])], 10 * 1000 * 100),
        of(new("Unique"), &[f(&[1 << 17])], (1 << 17) * 17),
        // Each of 1,000 boxes of 3 classes is compared with as many as are kept.
        of(new("NonMaxSuppression"), &[f(&[1, 1000, 4]), f(&[1, 3, 1000])], 3 * 1000 * 1000),
    ]
}

fn grams() -> Case {
    let case = Case::new("TfIdfVectorizer", "").string("mode", "TF").ints("ngram_counts", &[0, 1]);
    let case = case.int("min_gram_length", 1).int("max_gram_length", 2).int("max_skip_count", 1);
    case.ints("pool_int64s", &[1, 2, 3]).ints("ngram_indexes", &[0, 1])
}

#[test]
fn every_operator_says_what_its_loops_cost() {
    let counted = counted();
    let named = |domain: &str, name: &str| {
        counted.iter().any(|counted| counted.case.domain == domain && counted.case.op_type == name)
    };
    let by_element: BTreeSet<&str> = BY_ELEMENT.iter().copied().collect();
    let missing: Vec<&str> = rows()
        .filter(|row| !by_element.contains(row.name) && !named(row.domain, row.name))
        .filter(|row| row.domain != OWN_DOMAIN)
        // What runs subgraphs has no `eval`; the nodes of these are charged one by one.
        .filter(|row| !["If", "Loop", "Scan", "SequenceMap"].contains(&row.name))
        .filter(|row| !ON_CONTAINERS.contains(&row.name))
        .map(|row| row.name)
        .collect();
    assert!(missing.is_empty(), "neither counted nor known to be bounded for each element: {missing:?}");
    let names: BTreeSet<&str> = rows().map(|row| row.name).collect();
    let unknown: Vec<&&str> = by_element.iter().filter(|name| !names.contains(**name)).collect();
    assert!(unknown.is_empty(), "no operators: {unknown:?}");

    for HandCount { mut case, inputs, by_hand } in counted {
        let name = case.op_type.clone();
        case.inputs = inputs.iter().map(|input| input.is_some().then(|| case::list(&[]))).collect();
        let graph = graph_of_case(&case).unwrap_or_else(|error| panic!("{name}: {error}"));
        let operator = graph.nodes[0].op.operator();
        let facts: Vec<Option<&Fact>> = inputs.iter().map(Option::as_ref).collect();
        let outputs = match operator.shapes_depend_on_data() {
            true => vec![],
            false => operator.infer(&facts).unwrap_or_else(|why| panic!("{name}: {why}")),
        };
        let steps = operator.work(&facts, &outputs).unwrap().steps;
        assert!(steps >= by_hand, "{name} says {steps} steps, and its loops take {by_hand}");
        let elements = of_elements(&facts, &outputs).steps;
        assert!(elements < by_hand, "{name}: {by_hand} do not tell the loops from {elements} elements");
    }
}

#[test]
fn work_counts_every_element() {
    for case in listed_cases() {
        let Ok(graph) = graph_of_case(&case) else { continue };
        let facts: Vec<Option<Fact>> = case
            .inputs
            .iter()
            .map(|tensor| {
                tensor.as_ref().and_then(|tensor| Array::from_tensor(tensor).ok()).map(Fact::of_array)
            })
            .collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let operator = graph.nodes[0].op.operator();
        let Ok(outputs) = operator.infer(&facts) else { continue };
        let work = operator.work(&facts, &outputs).unwrap_or_else(|why| panic!("{}: {why}", case.name));
        let read = facts.iter().flatten().map(|fact| fact.count() as u64).sum::<u64>();
        let made = outputs.iter().map(|fact| fact.count() as u64).sum::<u64>();
        let least = if operator.shapes_depend_on_data() { read } else { read + made };
        assert!(work.steps >= least, "{}: {} steps for {least} elements", case.name, work.steps);
        assert!(work.bytes >= 8 * least, "{}: {} bytes for {least} elements", case.name, work.bytes);
    }
}
