//! One name, one type: the name of a type means the same in every file of `src`.

use std::collections::BTreeMap;
use std::fs;

use super::rooms::{root, sources};

/// Rooms that may have a type of one name each: an operator and the kernel that computes it; the parts of any graph, and those
/// of a graph of operators.
const PAIRS: [[&str; 2]; 2] = [["kernels", "ops"], ["graph", "ops"]];

/// The name of the type that a line defines.
fn defined(line: &str) -> Option<&str> {
    let line =
        line.trim_start_matches("pub ").trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
    let rest =
        ["struct ", "enum ", "trait ", "type "].iter().find_map(|keyword| line.strip_prefix(keyword))?;
    rest.split(|c: char| !c.is_alphanumeric()).next()
}

#[test]
fn every_type_has_a_name_of_its_own() {
    let (mut files, src) = (Vec::new(), root().join("src"));
    sources(&src, &mut files);
    let mut rooms: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // Generated code has protobuf's names.
    for file in files.iter().filter(|file| !file.ends_with("onnx/proto.rs")) {
        let room = file.strip_prefix(&src).unwrap().iter().next().unwrap().to_str().unwrap();
        for name in fs::read_to_string(file).unwrap().lines().filter_map(defined) {
            rooms.entry(name.to_string()).or_default().push(room.trim_end_matches(".rs").to_string());
        }
    }
    rooms.retain(|_, rooms| {
        rooms.sort();
        rooms.len() > 1 && !PAIRS.iter().any(|pair| pair == rooms.as_slice())
    });
    assert!(rooms.is_empty(), "defined more than once: {rooms:?}");
}
