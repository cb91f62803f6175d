//! The text of each stage on a model's way, for models that are small and telling. They are planned for the least that a GPU
//! must have, so that the texts are the same on every machine.
//!
//! After a change that is meant: `INSTA_UPDATE=always cargo test --test snapshots`, and read the difference.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.
#![cfg(feature = "cli")]

#[path = "common/models.rs"]
mod models;
#[path = "common/onnx.rs"]
mod onnx;
#[path = "common/program.rs"]
mod program;

use onnx::proto::ModelProto;

fn check(name: &str, model: &ModelProto, shape: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = program::save(folder.path(), name, model);
    for stage in ["model", "graph", "passes", "program", "memory", "wgsl"] {
        let arguments = ["inspect", path.to_str().unwrap(), "--stage", stage, "--shape", shape];
        let text = program::output(&arguments);
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(format!("{name}.{stage}"), text);
        });
        assert_eq!(text, program::output(&arguments), "the text of a stage is the same each time");
    }
}

#[test]
fn residual_block() {
    check("residual", &models::residual(), "image=1x4x8x8");
}

#[test]
fn attention() {
    check("attention", &models::attention(), "tokens=1x6x16");
}

#[test]
fn shape_computation() {
    check("shapes", &models::shapes(), "x=3x8");
}
