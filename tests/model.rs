//! Models through the public interface alone.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use sardonyx::{Error, Model};
use sardonyx_testing::onnx::build::{bytes, graph, model, node, weights};

#[test]
fn a_model_outlives_the_path_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let mut main = graph(&["x"], vec![node("Add", &["x", "w"], &["y"])], &["y"]);
    main.initializer = vec![weights("w", &[1], &[1.0])];
    std::fs::write(&path, bytes(&model(21, main))).unwrap();
    let model = Model::load(&path).unwrap();
    drop(folder);
    let elsewhere = std::thread::spawn(move || model.inputs()[0].to_string());
    assert_eq!(elsewhere.join().unwrap(), "x: float32[...]");
}

#[test]
fn errors_have_their_kinds() {
    assert!(matches!(Model::load("none.onnx"), Err(Error::Io { .. })));
    assert!(matches!(Model::from_bytes(vec![0xff; 9]), Err(Error::Decode { .. })));
    let broken = bytes(&model(21, graph(&["x"], vec![], &["y"])));
    assert!(matches!(Model::from_bytes(broken), Err(Error::InvalidModel { .. })));
}
