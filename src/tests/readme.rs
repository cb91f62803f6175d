//! The README's table of operators is made from the operator table, and a test compares the two.

use std::collections::BTreeMap;

use crate::Tensor;
use crate::kernels::Target;
use crate::ops::case::{Case, graph_of_case};
use crate::ops::{NEWEST_OPSET, OWN_DOMAIN, rows};
use crate::plan::tests::planned;

const START: &str = "<!-- operators: written by `UPDATE_README=1 cargo test --lib readme` -->\n";
const END: &str = "<!-- /operators -->\n";

/// Where an operator is computed: the last of these that some case reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ComputedOn {
    Reference,
    /// While planning, on the host.
    Planning,
    Device,
}

/// Where the case is computed for a device of WebGPU's floor.
fn place(case: &Case) -> ComputedOn {
    let Ok(graph) = graph_of_case(case) else { return ComputedOn::Reference };
    let operator = graph.nodes[0].op.operator();
    if graph.nodes[0].runs_on_host(&graph.kinds()) {
        return ComputedOn::Reference;
    }
    if !operator.counted().is_empty() {
        return ComputedOn::Device;
    }
    let given = case.inputs.iter().enumerate().filter(|(i, _)| !case.constants.contains(i));
    let inputs: Vec<Tensor> = given.filter_map(|(_, tensor)| tensor.clone()).collect();
    match planned(&graph, &inputs, &Target::FLOOR) {
        Err(_) => ComputedOn::Reference,
        Ok(plan) if plan.program.calls.is_empty() => ComputedOn::Planning,
        Ok(_) => ComputedOn::Device,
    }
}

fn table() -> String {
    let mut operators: BTreeMap<String, (i64, ComputedOn)> = BTreeMap::new();
    for row in rows().filter(|row| row.domain != OWN_DOMAIN) {
        let name =
            if row.domain.is_empty() { row.name.into() } else { format!("{}.{}", row.domain, row.name) };
        let place = (row.cases)().iter().map(place).max().unwrap_or(ComputedOn::Reference);
        let entry = operators.entry(name).or_insert((row.opsets.0, place));
        *entry = (entry.0.min(row.opsets.0), entry.1.max(place));
    }
    let list = |place: ComputedOn| {
        let chosen = operators.iter().filter(|(_, (_, own))| *own == place);
        chosen.map(|(name, (since, _))| format!("{name} {since}")).collect::<Vec<_>>()
    };
    let mut text = format!(
        "{} operators; the number is the first opset, the last is {NEWEST_OPSET}.\n",
        operators.len()
    );
    for (place, names) in [
        ("On the device", list(ComputedOn::Device)),
        ("While planning, from constants and shapes", list(ComputedOn::Planning)),
        (
            "On the host, between what the device runs: strings, containers, control flow",
            list(ComputedOn::Reference),
        ),
    ] {
        if !names.is_empty() {
            let (count, names) = (names.len(), names.join(", "));
            text += &format!("\n<details><summary>{place} ({count})</summary>\n\n{names}\n\n</details>\n");
        }
    }
    text
}

#[test]
fn readme_lists_the_operators() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let start = readme.find(START).unwrap() + START.len();
    let end = readme.find(END).unwrap();
    let expected = table();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, format!("{}{expected}{}", &readme[..start], &readme[end..])).unwrap();
        return;
    }
    assert!(readme[start..end] == expected, "UPDATE_README=1 cargo test --lib readme writes the table anew");
}
