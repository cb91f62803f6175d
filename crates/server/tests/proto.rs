//! `src/proto/*.rs`, but for `mod.rs`, and `src/proto/inference.bin` are what tonic and protox make of `proto/`. `UPDATE_PROTO=1` writes them.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use prost::Message;

const HEADER: &str = "// @generated from proto/ by tests/proto.rs: do not edit.\n\n";

#[test]
fn generated_code_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (code, descriptors) = generate(&root.join("proto"));
    let shown = |text: String| formatted(&(HEADER.to_string() + &text), root).into_bytes();
    let code = code.map(|(package, text)| (format!("{package}.rs"), shown(text)));
    for (name, generated) in code.into_iter().chain([("inference.bin".to_string(), descriptors)]) {
        let committed = root.join("src/proto").join(&name);
        if std::env::var_os("UPDATE_PROTO").is_some() {
            std::fs::write(&committed, &generated).unwrap();
        }
        let up_to_date = std::fs::read(&committed).unwrap() == generated;
        assert!(up_to_date, "{name}: run UPDATE_PROTO=1 cargo test -p sardonyx-server --test proto");
    }
}

const PACKAGES: [&str; 3] = ["inference", "tensorflow", "tensorflow.serving"];

/// The code of each package, and the descriptors without comments and positions.
fn generate(folder: &Path) -> ([(&'static str, String); PACKAGES.len()], Vec<u8>) {
    let mut schema = protox::compile(["grpc_service.proto", "tensorflow_serving.proto"], [folder]).unwrap();
    schema.file.iter_mut().for_each(|file| file.source_code_info = None);
    let descriptors = schema.encode_to_vec();
    let out = tempfile::tempdir().unwrap();
    // `bytes` fields become `bytes::Bytes`, so that tensors share the memory of the message. Maps are in order, so that equal
    // configurations have equal texts.
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .build_transport(false)
        .codec_path("crate::grpc::codec::Codec")
        .out_dir(out.path())
        .compile_fds(schema)
        .unwrap();
    let code = |package: &'static str| {
        let code = std::fs::read_to_string(out.path().join(format!("{package}.rs"))).unwrap();
        (package, code.split_once('\n').unwrap().1.to_string())
    };
    (PACKAGES.map(code), descriptors)
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
