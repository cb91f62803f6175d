//! The text of each stage of a model on its way to the device, for small models. They are planned for the least that a GPU
//! must have, so that the texts are the same on every machine.
//!
//! After an intended change: `INSTA_UPDATE=always cargo test --test snapshots`, and read the difference.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use sardonyx::{Device, Model, Session, SessionOptions, Stage, Tensor};
use sardonyx_testing::models;
use sardonyx_testing::onnx::build::bytes;
use sardonyx_testing::onnx::proto::ModelProto;

fn check(name: &str, model: &ModelProto, shape: &[usize]) {
    let model = Model::from_bytes(bytes(model)).unwrap();
    let session = || Session::new(&Device::noop(), &model, SessionOptions::default()).unwrap();
    let input = model.inputs()[0].name.as_str();
    let ones = Tensor::from_slice(shape, &vec![1.0f32; shape.iter().product()]).unwrap();
    let text = |stage| match stage {
        Stage::Model | Stage::Graph | Stage::Passes => model.explain(stage).unwrap(),
        _ => session().explain(stage, &[(input, &ones)]).unwrap(),
    };
    for stage in [Stage::Model, Stage::Graph, Stage::Passes, Stage::Program, Stage::Memory, Stage::Wgsl] {
        let name = format!("{name}.{}", format!("{stage:?}").to_lowercase());
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, text(stage));
        });
        assert_eq!(text(stage), text(stage), "the text of a stage is the same each time");
    }
}

#[test]
fn residual_block() {
    check("residual", &models::residual(), &[1, 4, 8, 8]);
}

#[test]
fn attention() {
    check("attention", &models::attention(), &[1, 6, 16]);
}

#[test]
fn shape_computation() {
    check("shapes", &models::shapes(), &[3, 8]);
}
