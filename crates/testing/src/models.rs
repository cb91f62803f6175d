//! Small models, each with something that a stage, a plan or a report is likely to get wrong.

use crate::onnx::build::*;
use crate::onnx::proto::{GraphProto, ModelProto, TensorProto};

/// Values between -0.5 and 0.5 that follow from the position and the name alone.
fn spread(name: &str, dims: &[i64]) -> TensorProto {
    let seed = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let count = dims.iter().product::<i64>() as u32;
    let value =
        |i: u32| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5;
    weights(name, dims, &(0..count).map(value).collect::<Vec<_>>())
}

fn longs(name: &str, values: &[i64]) -> TensorProto {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    TensorProto { raw_data: Some(raw.into()), ..empty(name, INT64, &[values.len() as i64]) }
}

/// Values between 0.5 and 1.5.
fn positive(name: &str, dims: &[i64]) -> TensorProto {
    let count = dims.iter().product::<i64>();
    weights(name, dims, &(0..count).map(|i| 0.5 + (i % 7) as f32 / 7.0).collect::<Vec<_>>())
}

fn of_graph(graph: GraphProto) -> ModelProto {
    ModelProto { producer_name: "tests".into(), ..model(17, graph) }
}

/// A residual block: convolution, batch normalisation and Relu, a 1x1 convolution, the sum with the input; and the
/// concatenation of the sum with a pooled branch. The batch is symbolic.
pub fn residual() -> ModelProto {
    let pad = |node: crate::onnx::proto::NodeProto| node.with(ints("pads", &[1, 1, 1, 1]));
    let nodes = vec![
        pad(node("Conv", &["image", "conv1.weight"], &["conv1"])),
        node("BatchNormalization", &["conv1", "bn.scale", "bn.bias", "bn.mean", "bn.var"], &["bn"]),
        node("Relu", &["bn"], &["relu1"]),
        node("Conv", &["relu1", "conv2.weight", "conv2.bias"], &["conv2"]),
        node("Add", &["conv2", "image"], &["sum"]),
        node("Relu", &["sum"], &["relu2"]),
        pad(node("MaxPool", &["image"], &["pooled"]).with(ints("kernel_shape", &[3, 3]))),
        node("Concat", &["relu2", "pooled"], &["joined"]).with(int("axis", 1)),
        node("Sigmoid", &["joined"], &["scores"]),
    ];
    let mut graph = graph(&[], nodes, &[]);
    graph.name = "residual".into();
    graph.input = vec![value("image", FLOAT, &["batch", "4", "8", "8"])];
    graph.output = vec![value("scores", FLOAT, &["batch", "8", "8", "8"])];
    graph.initializer = vec![
        spread("conv1.weight", &[4, 4, 3, 3]),
        positive("bn.scale", &[4]),
        spread("bn.bias", &[4]),
        spread("bn.mean", &[4]),
        positive("bn.var", &[4]),
        spread("conv2.weight", &[4, 4, 1, 1]),
        spread("conv2.bias", &[4]),
    ];
    of_graph(graph)
}

/// Layer normalisation and one head of attention with a residual connection, for any number of tokens.
pub fn attention() -> ModelProto {
    let nodes = vec![
        node("LayerNormalization", &["tokens", "ln.scale", "ln.bias"], &["normed"]).with(int("axis", -1)),
        node("MatMul", &["normed", "query.weight"], &["query"]),
        node("MatMul", &["normed", "key.weight"], &["key"]),
        node("MatMul", &["normed", "value.weight"], &["value"]),
        node("Transpose", &["key"], &["key_t"]).with(ints("perm", &[0, 2, 1])),
        node("MatMul", &["query", "key_t"], &["products"]),
        node("Mul", &["products", "scale"], &["logits"]),
        node("Softmax", &["logits"], &["weights"]).with(int("axis", -1)),
        node("MatMul", &["weights", "value"], &["mixed"]),
        node("MatMul", &["mixed", "out.weight"], &["projected"]),
        node("Add", &["projected", "tokens"], &["attended"]),
    ];
    let mut graph = graph(&[], nodes, &[]);
    graph.name = "attention".into();
    graph.input = vec![value("tokens", FLOAT, &["1", "length", "16"])];
    graph.output = vec![value("attended", FLOAT, &["1", "length", "16"])];
    graph.initializer =
        ["query.weight", "key.weight", "value.weight", "out.weight"].map(|w| spread(w, &[16, 16])).into();
    graph.initializer.extend([
        positive("ln.scale", &[16]),
        spread("ln.bias", &[16]),
        weights("scale", &[], &[0.25]),
    ]);
    of_graph(graph)
}

/// Integers that only feed shapes: half of the last axis becomes another axis, and a mask of the input's own shape is filled.
/// One output is a shape itself.
pub fn shapes() -> ModelProto {
    let nodes = vec![
        node("Shape", &["x"], &["shape"]),
        node("Gather", &["shape", "zero"], &["batch"]),
        node("Gather", &["shape", "one"], &["columns"]),
        node("Div", &["columns", "two"], &["half"]),
        node("Concat", &["batch", "two", "half"], &["target"]).with(int("axis", 0)),
        node("Reshape", &["x", "target"], &["pairs"]),
        node("ConstantOfShape", &["target"], &["mask"])
            .with(tensor_attribute("value", weights("value", &[1], &[2.0]))),
        node("Mul", &["pairs", "mask"], &["doubled"]),
        node("Transpose", &["doubled"], &["turned"]).with(ints("perm", &[0, 2, 1])),
    ];
    let mut graph = graph(&[], nodes, &[]);
    graph.name = "shapes".into();
    graph.input = vec![value("x", FLOAT, &["batch", "columns"])];
    graph.output = vec![value("turned", FLOAT, &["batch", "half", "2"]), value("target", INT64, &["3"])];
    graph.initializer = [("zero", 0), ("one", 1), ("two", 2)].map(|(name, i)| longs(name, &[i])).into();
    of_graph(graph)
}
