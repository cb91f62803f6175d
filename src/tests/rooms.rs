//! The rooms of the house, and the rooms that each may know: a test compares ARCHITECTURE.md's table with the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const START: &str = "<!-- rooms -->\n```text\n";
const END: &str = "```\n";

type Edges = BTreeMap<String, BTreeSet<String>>;

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The table of ARCHITECTURE: for each room, the rooms that it may know.
fn allowed() -> Edges {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = text.split_once(START).unwrap().1.split_once(END).unwrap().0;
    let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
    table.lines().map(words).map(|words| (words[0].clone(), words[1..].iter().cloned().collect())).collect()
}

pub(super) fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The room of a file below `src`; `None` for tests, which may know every room, and for files that name all rooms.
fn room(path: &Path) -> Option<String> {
    let below: Vec<String> =
        path.iter().map(|part| part.to_str().unwrap().trim_end_matches(".rs").to_string()).collect();
    let is_test = below.iter().any(|part| part == "tests");
    (!is_test && !matches!(below[0].as_str(), "lib" | "main")).then(|| below[0].clone())
}

/// The public items of `lib.rs`, which any file may name as `crate::Item`, and their rooms.
fn public_items() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap().replace("pub use crate::", "pub use ");
    let mut items = BTreeMap::new();
    for line in text.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next()) {
        let Some((room, names)) = line.split_once("::") else { continue };
        let names = names.trim_matches(['{', '}']).split(',').map(str::trim);
        items.extend(names.map(|name| (name.to_string(), room.to_string())));
    }
    items
}

/// The names after each `crate::` of a source, without its tests and comments.
fn named(source: &str) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join(" ");
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default(),
            None => rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default(),
        };
        names.extend(
            list.split(',').map(|name| name.trim().split("::").next().unwrap_or_default().to_string()),
        );
    }
    names
}

/// The rooms that each room knows, from the sources.
fn known() -> Edges {
    let (mut files, mut edges) = (Vec::new(), Edges::new());
    let src = root().join("src");
    sources(&src, &mut files);
    let items = public_items();
    for file in files {
        let Some(room) = room(file.strip_prefix(&src).unwrap()) else { continue };
        let known = edges.entry(room.clone()).or_default();
        for name in named(&fs::read_to_string(&file).unwrap()) {
            let other = items.get(&name).unwrap_or(&name);
            if *other != room && !other.is_empty() {
                known.insert(other.clone());
            }
        }
    }
    edges
}

#[test]
fn rooms_know_what_the_architecture_says() {
    let (mut allowed, known) = (allowed(), known());
    let everyone = allowed.remove("everyone").unwrap();
    let names = |edges: &Edges| edges.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&known), names(&allowed), "ARCHITECTURE's table of rooms has others than src");
    let mut wrong = Vec::new();
    for (room, known) in &known {
        // Every room may know formats, shapes, element types, tensors and errors.
        let known = known.iter().filter(|other| !everyone.contains(*other));
        let allowed = &allowed[room];
        wrong.extend(
            known.filter(|other| !allowed.contains(*other)).map(|other| format!("{room} -> {other}")),
        );
    }
    assert!(wrong.is_empty(), "not in ARCHITECTURE's table: {wrong:?}");
}

/// Rooms that know each other form one circle: an operator's lowering needs the plan's context, and planning calls it.
#[test]
fn only_operators_and_planning_know_each_other() {
    let mut edges = allowed();
    edges.remove("everyone");
    let mut reached = edges.clone();
    for _ in 0..edges.len() {
        let step: Edges = reached.clone();
        for others in reached.values_mut() {
            let further = others.iter().filter_map(|other| step.get(other)).flatten().cloned();
            let further: Vec<String> = further.collect();
            others.extend(further);
        }
    }
    let circle: Vec<&String> =
        reached.iter().filter(|(room, others)| others.contains(*room)).map(|(room, _)| room).collect();
    assert_eq!(circle, ["ops", "plan"]);
}
