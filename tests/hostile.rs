//! Files with bytes changed, from import to dispatch.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use proptest::prelude::*;
use sardonyx_testing::hostile::run;
use sardonyx_testing::onnx::build::{
    FLOAT, INT64, bytes, empty, graph, int, ints, model, node, string, value, weights,
};
use sardonyx_testing::onnx::proto::TensorProto;

/// One operator of each of many kinds: a window, a product, a reduction, shape arithmetic, moved data, a subgraph.
fn file() -> Vec<u8> {
    let nodes = vec![
        node("Conv", &["x", "w"], &["c"]).with(ints("pads", &[1, 1, 1, 1])).with(ints("strides", &[2, 1])),
        node("Relu", &["c"], &["r"]),
        node("MaxPool", &["r"], &["p"])
            .with(ints("kernel_shape", &[2, 2]))
            .with(string("auto_pad", "SAME_UPPER")),
        node("Shape", &["p"], &["s"]).with(int("end", 2)),
        node("Concat", &["s", "rest"], &["shape"]).with(int("axis", 0)),
        node("Reshape", &["p", "shape"], &["flat"]),
        node("Slice", &["flat", "from", "to", "axes"], &["part"]),
        node("MatMul", &["part", "v"], &["m"]),
        node("Softmax", &["m"], &["y"]).with(int("axis", 2)),
        node("Transpose", &["m"], &["t"]).with(ints("perm", &[2, 0, 1])),
        node("TopK", &["t", "k"], &["values", "places"]).with(int("axis", -1)),
    ];
    let list = |name: &str, values: &[i64]| TensorProto {
        int64_data: values.to_vec(),
        ..empty(name, INT64, &[values.len() as i64])
    };
    let mut main = graph(&[], nodes, &["y", "values"]);
    main.input = vec![value("x", FLOAT, &["n", "2", "6", "5"])];
    main.output.push(value("places", INT64, &["3", "?", "2"]));
    main.initializer = vec![
        weights("w", &[2, 2, 3, 3], &[0.25; 36]),
        weights("v", &[8, 3], &[0.5; 24]),
        list("rest", &[-1]),
        list("from", &[0]),
        list("to", &[8]),
        list("axes", &[2]),
        list("k", &[2]),
    ];
    bytes(&model(21, main)).to_vec()
}

#[test]
fn the_file_itself_runs() {
    run(&file()).unwrap();
}

/// `PROPTEST_CASES=100000` changes 100,000 files.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 1500 };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn changed_files_end_in_a_run_or_an_error(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
    ) {
        let mut file = file();
        for (at, byte, how) in changes {
            let at = at.index(file.len());
            match how {
                0 => file[at] = byte,
                1 => file[at] ^= 1 << (byte % 8),
                // Most numbers in a file are small.
                _ => file[at] = byte % 16,
            }
        }
        let _ = run(&file);
    }
}
