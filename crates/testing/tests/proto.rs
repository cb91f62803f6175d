//! `src/onnx/proto.rs` and `crates/convert/src/proto.rs` are what prost generates from `proto/onnx.proto`. `UPDATE_PROTO=1` writes them.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const HEADER: &str = "// @generated from proto/onnx.proto by crates/testing/tests/proto.rs: do not edit.\n\n";

#[test]
fn generated_code_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let generated = formatted(&(HEADER.to_string() + &generate(&root.join("proto"))), &root);
    for committed in ["src/onnx/proto.rs", "crates/convert/src/proto.rs"].map(|path| root.join(path)) {
        if std::env::var_os("UPDATE_PROTO").is_some() {
            std::fs::write(&committed, &generated).unwrap();
        }
        let up_to_date = std::fs::read_to_string(&committed).unwrap() == generated;
        assert!(up_to_date, "run UPDATE_PROTO=1 cargo test -p sardonyx-testing --test proto");
    }
}

fn generate(folder: &Path) -> String {
    let schema = protox::compile(["onnx.proto"], [folder]).unwrap();
    let out = tempfile::tempdir().unwrap();
    // `bytes` fields become `bytes::Bytes`, so that tensors share the memory of the file.
    prost_build::Config::new().bytes(["."]).out_dir(out.path()).compile_fds(schema).unwrap();
    let text = std::fs::read_to_string(out.path().join("onnx.rs")).unwrap();
    text.split_once('\n').unwrap().1.to_string()
}

/// The text as rustfmt writes it with the workspace's settings.
fn formatted(text: &str, root: &Path) -> String {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    rustfmt.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = rustfmt.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
