//! Weights of safetensors and of PyTorch's archives in a model: files written by hand, good ones and hostile ones.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod checkpoints;
mod hostile;
mod pickled;

use std::io::{Cursor, Write};

use pickled::{Stored, archive};
use sardonyx::{Device, Model, Session, SessionOptions, Tensor};
use sardonyx_convert::{Error, WeightReport, with_weights};

/// A varint and a field with a length, of protobuf.
fn field(number: u8, contents: &[u8]) -> Vec<u8> {
    assert!(contents.len() < 128 * 128);
    let length = [0x80 | (contents.len() & 127) as u8, (contents.len() >> 7) as u8];
    [&[number << 3 | 2][..], &length, contents].concat()
}

fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

/// An initializer of float32 zeros.
fn initializer(name: &str, dims: &[u8]) -> Vec<u8> {
    let dims_fields: Vec<u8> = dims.iter().flat_map(|&size| number(1, size)).collect();
    let count: usize = dims.iter().map(|&size| usize::from(size)).product();
    [dims_fields, number(2, 1), field(8, name.as_bytes()), field(9, &vec![0; 4 * count])].concat()
}

/// y = x w + b, with x [1, 2], w [2, 3], b [3]; the model has a field that no version of ONNX knows.
fn model() -> Vec<u8> {
    let node = |op: &str, inputs: [&str; 2], output: &str| {
        [
            field(1, inputs[0].as_bytes()),
            field(1, inputs[1].as_bytes()),
            field(2, output.as_bytes()),
            field(4, op.as_bytes()),
        ]
        .concat()
    };
    let declared = |name: &str, dims: &[u8]| {
        let dims: Vec<u8> = dims.iter().flat_map(|&size| field(1, &number(1, size))).collect();
        [field(1, name.as_bytes()), field(2, &field(1, &[number(1, 1), field(2, &dims)].concat()))].concat()
    };
    let graph = [
        field(1, &node("MatMul", ["x", "w"], "p")),
        field(1, &node("Add", ["p", "b"], "y")),
        field(2, b"graph"),
        field(5, &initializer("w", &[2, 3])),
        field(5, &initializer("b", &[3])),
        field(11, &declared("x", &[1, 2])),
        field(12, &declared("y", &[1, 3])),
    ];
    [number(1, 8), field(8, &number(2, 17)), field(7, &graph.concat()), field(15, b"unknown")].concat()
}

/// y for x = [1, 10].
fn outcome(model: &[u8]) -> Vec<f32> {
    let model = Model::from_bytes(model.to_vec()).unwrap();
    let session = Session::new(&Device::reference(), &model, SessionOptions::new()).unwrap();
    let x = Tensor::from_slice(&[1, 2], &[1f32, 10.0]).unwrap();
    session.run(&[("x", &x)]).unwrap().get("y").unwrap().to_vec().unwrap()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

const HEADER: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[3],"data_offsets":[24,36]},
    "w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
const NUMBERS: [f32; 9] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.5, 0.25, 0.125];
/// [1, 10] by [[1, 2, 3], [4, 5, 6]], and the bias.
const OUTCOME: [f32; 3] = [41.5, 52.25, 63.125];

/// A zip archive.
fn zip(files: &[(&str, &[u8])], compression: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in files {
        writer
            .start_file(*name, zip::write::SimpleFileOptions::default().compression_method(compression))
            .unwrap();
        writer.write_all(contents).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[track_caller]
fn expect_error(weights: &[u8], expected: &str) {
    let error = with_weights(model(), weights).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn safetensors_replace_initializers() {
    let (made, report) = with_weights(model(), &safetensors(HEADER, &floats(&NUMBERS))).unwrap();
    assert_eq!(
        (report.replaced, report.kept.len(), report.unused.len()),
        (vec!["w".to_string(), "b".into()], 0, 0)
    );
    assert_eq!(outcome(&made), OUTCOME);
    assert!(made.windows(7).any(|window| window == b"unknown"));
}

#[test]
fn a_state_dictionary_replaces_initializers() {
    // The weight is a transposed view of its storage, as the parameter of a module may be; both lie in one storage.
    let storage = floats(&[9.0, 1.0, 4.0, 2.0, 5.0, 3.0, 6.0, 0.5, 0.25, 0.125]);
    let weights = [
        Stored { name: "w", storage: "FloatStorage", key: "0", offset: 1, sizes: &[2, 3], strides: &[1, 2] },
        Stored { name: "b", storage: "FloatStorage", key: "0", offset: 7, sizes: &[3], strides: &[1] },
    ];
    let (made, report) = with_weights(model(), &archive(&weights, &[("0", &storage)])).unwrap();
    assert_eq!(report.replaced, ["w", "b"]);
    assert_eq!(outcome(&made), OUTCOME);
}

#[test]
fn the_report_says_what_did_not_match() {
    let header = HEADER.replace("\"b\"", "\"other\"");
    let (made, report) = with_weights(model(), &safetensors(&header, &floats(&NUMBERS))).unwrap();
    let WeightReport { replaced, kept, unused, .. } = report;
    assert_eq!(
        (replaced, kept, unused),
        (vec!["w".to_string()], vec!["b".to_string()], vec!["other".to_string()])
    );
    assert_eq!(outcome(&made), [41.0, 52.0, 63.0]);
    let none = header.replace("\"w\"", "\"v\"");
    let error = with_weights(model(), &safetensors(&none, &floats(&NUMBERS))).unwrap_err();
    assert!(
        matches!(&error, Error::Mismatch(text) if text.contains("'other', 'v'") && text.contains("'w', 'b'")),
        "{error}"
    );
}

#[test]
fn other_shapes_and_types_are_errors() {
    let turned = HEADER.replace("[2,3]", "[3,2]");
    expect_error(
        &safetensors(&turned, &floats(&NUMBERS)),
        "'w' is [2, 3] in the model, and [3, 2] in the file",
    );
    let whole = HEADER.replacen("F32", "I32", 1);
    expect_error(
        &safetensors(&whole, &floats(&NUMBERS)),
        "'b' is float32 in the model, and int32 in the file",
    );
    let unknown = HEADER.replacen("F32", "F4", 1);
    expect_error(&safetensors(&unknown, &floats(&NUMBERS)), "the type F4 has no counterpart");
}
