#!/usr/bin/env bash
# prost-reflect 0.16.5 (feature text-format) wants a colon before a list of messages in protobuf's text format: it reads
# `step: [ { } ]` and refuses `step [ { } ]` with "expected ':' or a message value". Protobuf's own parser (Python package
# protobuf 6.33.2) reads both, as its text format specification says (a list of messages needs no colon, a list of scalars does),
# and model servers' configurations are mostly written without it.
# Consequence: who reads such configurations in Rust must put the colons in first.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check protobuf==6.33.2
"$folder/venv/bin/python" - <<'PYTHON'
from google.protobuf import descriptor_pb2, text_format

for text in ["message_type: [ { name: 'a' }, { } ]", "message_type [ { name: 'a' }, { } ]"]:
    file = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    print(f"protobuf: {text!r} has {len(file.message_type)} messages")
    assert len(file.message_type) == 2, "protobuf changed"
PYTHON
mkdir -p "$folder/probe/src"
cat > "$folder/probe/Cargo.toml" <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
prost-reflect = { version = "=0.16.5", features = ["text-format"] }
prost-types = "0.14"

[workspace]
TOML
cat > "$folder/probe/src/main.rs" <<'RUST'
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

fn main() {
    let step = FieldDescriptorProto {
        name: Some("step".into()),
        number: Some(1),
        label: Some(Label::Repeated as i32),
        r#type: Some(Type::Message as i32),
        type_name: Some(".Plan".into()),
        ..Default::default()
    };
    let plan = DescriptorProto { name: Some("Plan".into()), field: vec![step], ..Default::default() };
    let file = FileDescriptorProto {
        name: Some("plan.proto".into()),
        syntax: Some("proto3".into()),
        message_type: vec![plan],
        ..Default::default()
    };
    let pool = DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file: vec![file] }).unwrap();
    let plan = pool.get_message_by_name("Plan").unwrap();
    let read = |text: &str| DynamicMessage::parse_text_format(plan.clone(), text).map(drop);
    for text in ["step: [ { } ]", "step { } step { }", "step [ { } ]"] {
        println!("prost-reflect: {text:?}: {:?}", read(text).map_err(|error| error.to_string()));
    }
    assert!(read("step: [ { } ]").is_ok() && read("step { } step { }").is_ok(), "what it reads changed");
    let refusal = read("step [ { } ]").expect_err("it reads lists without a colon now").to_string();
    assert!(refusal.contains("expected ':' or a message value"), "the text of the refusal changed: {refusal}");
}
RUST
CARGO_TARGET_DIR="$folder/target" cargo run --quiet --manifest-path "$folder/probe/Cargo.toml"
