//! The topological order of a list of nodes, which follows from the names of their values.

use std::collections::{HashMap, HashSet};

use super::proto::{GraphProto, NodeProto};
use crate::{Error, Result};

/// The indices of `nodes` in an order where each node comes after the nodes that compute its inputs. Where the file's order is
/// correct, it is kept.
pub(super) fn order(nodes: &[NodeProto]) -> Result<Vec<usize>> {
    let producers = producers(nodes)?;
    let mut state = vec![Visit::New; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    // Nodes that wait for others, each with the producers that are still to be visited. This is no recursion, as a chain may
    // be long.
    let mut waiting: Vec<(usize, Vec<usize>)> = Vec::new();
    for start in 0..nodes.len() {
        if state[start] == Visit::New {
            state[start] = Visit::Waiting;
            waiting.push((start, needs(&nodes[start], &producers)));
        }
        while let Some((node, needs_left)) = waiting.last_mut() {
            let Some(next) = needs_left.pop() else {
                state[*node] = Visit::Done;
                order.push(*node);
                waiting.pop();
                continue;
            };
            match state[next] {
                Visit::Done => {}
                Visit::New => {
                    state[next] = Visit::Waiting;
                    waiting.push((next, needs(&nodes[next], &producers)));
                }
                Visit::Waiting => return Err(cycle(nodes, &waiting, next)),
            }
        }
    }
    Ok(order)
}

#[derive(Clone, Copy, PartialEq)]
enum Visit {
    New,
    Waiting,
    Done,
}

/// The name of a node, or else the name of its first output, or else its operator.
pub(super) fn title(node: &NodeProto) -> &str {
    let first = node.output.iter().find(|name| !name.is_empty());
    match (node.name.is_empty(), first) {
        (false, _) => &node.name,
        (true, Some(output)) => output,
        (true, None) => &node.op_type,
    }
}

fn producers(nodes: &[NodeProto]) -> Result<HashMap<&str, usize>> {
    let mut producers = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if let Some(other) = producers.insert(output.as_str(), i) {
                let (a, b) = (title(&nodes[other]), title(node));
                return Err(Error::invalid(format!(
                    "both node '{a}' and node '{b}' make the value '{output}'"
                )));
            }
        }
    }
    Ok(producers)
}

/// The nodes that `node` needs, the last first.
fn needs(node: &NodeProto, producers: &HashMap<&str, usize>) -> Vec<usize> {
    let mut needs: Vec<usize> =
        used(node).iter().rev().filter_map(|name| producers.get(name).copied()).collect();
    needs.dedup();
    needs
}

/// The names that a node reads: its inputs, and the names that its subgraphs use without defining them.
fn used(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> =
        node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    for graph in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
        names.extend(free_names(graph));
    }
    names
}

fn free_names(graph: &GraphProto) -> Vec<&str> {
    let initializers = graph.initializer.iter().map(|t| t.name.as_str());
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    let made = graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str));
    let defined: HashSet<&str> = initializers.chain(inputs).chain(made).collect();
    let outputs = graph.output.iter().map(|output| output.name.as_str());
    graph.node.iter().flat_map(used).chain(outputs).filter(|name| !defined.contains(name)).collect()
}

fn cycle(nodes: &[NodeProto], waiting: &[(usize, Vec<usize>)], back_to: usize) -> Error {
    let from = waiting.iter().position(|(node, _)| *node == back_to).unwrap_or(0);
    let names: Vec<String> =
        waiting[from..].iter().map(|(node, _)| format!("'{}'", title(&nodes[*node]))).collect();
    let shown = names.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if names.len() > 8 { format!(" and {} more", names.len() - 8) } else { String::new() };
    Error::invalid(format!("nodes need each other in a circle: {shown}{more}"))
}
