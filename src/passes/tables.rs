//! What lies between 8-bit numbers and a QuantizeLinear to 8 bits, and depends on one of these numbers alone, becomes a lookup
//! in a table of 256. An example is Gelu between DequantizeLinear and QuantizeLinear, spelled out with Erf. Where a constant of
//! the function has an element for each channel, such as a bias, each channel has a table.
//!
//! The reference computes the tables. On a device, an error of one unit in Erf may take all elements of a value to the
//! neighbouring number at once; with the table, the device's functions have no say.

use std::collections::HashMap;

use super::Replacements;
use super::pattern::Pattern;
use crate::array::Array;
use crate::budget::Budget;
use crate::error::{Why, refuse};
use crate::facts::{Fact, node_error};
use crate::graph::ValueId;
use crate::ops::broadcast::broadcast;
use crate::ops::byte_table::{self, BYTES};
use crate::ops::{Attributes, Graph, Maps, Node, OWN_DOMAIN, Op, of_array};
use crate::shape::{Shape, product};
use crate::{DType, Result, Tensor};

/// The most tables of one function.
const MOST_TABLES: usize = 1024;

pub(super) fn run(graph: &mut Graph, budget: &Budget) -> Result<bool> {
    let found = found(&ByteOrigins::of(&Pattern::of(graph)), graph, budget)?;
    let (mut replaced, changed) = (Replacements::default(), !found.is_empty());
    for found in found {
        if found.is_identity() {
            replaced.add(found.output, found.origin.value);
            continue;
        }
        let n = found.node;
        let lookup = found.lookup(graph).map_err(|why| node_error(&graph.nodes[n], &[], why))?;
        graph.nodes[n] = lookup;
    }
    replaced.apply(graph);
    Ok(changed)
}

/// The 8-bit value of which another is a function, element by element.
#[derive(Clone, Debug)]
struct ByteOrigin {
    value: ValueId,
    dtype: DType,
    /// The shape to which the function's constants broadcast. `[64, 1, 1]`: the function differs between 64 channels.
    spread: Shape,
}

/// A node whose output is a function of 8-bit numbers.
struct FoundTable {
    node: usize,
    output: ValueId,
    origin: ByteOrigin,
    /// All values: `[256, spread...]`.
    values: Array,
}

impl FoundTable {
    /// Whether the function returns its number, in a result of the same shape.
    fn is_identity(&self) -> bool {
        self.origin.spread.is_empty() && self.values == byte_table::every(self.origin.dtype)
    }

    /// The node that looks the values up.
    fn lookup(&self, graph: &mut Graph) -> Result<Node, Why> {
        let spread = &self.origin.spread;
        let (numbers, tables) = (self.values.ints()?, product(spread));
        let place = |i: usize| numbers[i % BYTES * tables + i / BYTES];
        let table = Array::int(self.values.dtype, &[numbers.len()], (0..numbers.len()).map(place).collect());
        let name = graph.value(self.output).name.clone();
        let mut inputs = vec![Some(self.origin.value)];
        inputs.push(Some(graph.add_constant(format!("{name}.table"), table.to_tensor()?)));
        if !spread.is_empty() {
            let starts = (0..tables as i128).map(|n| n * BYTES as i128).collect();
            let starts = Array::int(DType::I32, spread, starts).to_tensor()?;
            inputs.push(Some(graph.add_constant(format!("{name}.starts"), starts)));
        }
        let names = (graph.nodes[self.node].name.clone(), format!("{OWN_DOMAIN}.ByteTable"), 1);
        Node::parse(names, Attributes::default(), inputs, (vec![Some(self.output)], &[true]))
    }
}

/// What is known of each value.
struct ByteOrigins {
    /// The 8-bit dtype that the value surely has.
    bytes: Vec<Option<DType>>,
    /// The origin of a value that a node computes from it.
    made: Vec<Option<ByteOrigin>>,
    /// The most axes of a constant.
    rank: usize,
}

impl ByteOrigins {
    fn of(pattern: &Pattern) -> ByteOrigins {
        let graph = pattern.graph;
        let mut origins =
            ByteOrigins { bytes: pattern.bytes(), made: vec![None; graph.values.len()], rank: 0 };
        for node in &graph.nodes {
            if let ([Some(output)], Some(origin)) = (&node.outputs[..], origins.origin(pattern, node)) {
                origins.rank = origins.rank.max(origin.spread.len());
                // One function of a value that has as many axes adds no axes.
                let flat =
                    product(&origin.spread) == 1 && origin.spread.len() <= pattern.least_rank(origin.value);
                let spread = if flat { Shape::default() } else { origin.spread };
                origins.made[output.index()] = Some(ByteOrigin { spread, ..origin });
            }
        }
        origins
    }

    fn of_value(&self, value: ValueId) -> Option<ByteOrigin> {
        let own = |dtype| ByteOrigin { value, dtype, spread: Shape::default() };
        self.made[value.index()].clone().or(self.bytes[value.index()].map(own))
    }

    /// The origin of the node's output, if each of its elements depends on one 8-bit number and on constants.
    fn origin(&self, pattern: &Pattern, node: &Node) -> Option<ByteOrigin> {
        let [Some(_)] = node.outputs[..] else { return None };
        let maps = node.op.operator().maps();
        if maps == Maps::Nothing {
            return None;
        }
        let (mut made, mut spread) = (None::<ByteOrigin>, Shape::default());
        for (i, id) in node.inputs.iter().enumerate().filter_map(|(i, id)| Some((i, (*id)?))) {
            let constant = pattern.graph.value(id).constant.as_ref();
            let more = match constant.map(Tensor::shape) {
                Some(_) if node.op.operator().table() == Some(i) => continue,
                Some(shape) if maps == Maps::Any || matches!(*node.op, Op::ByteTable(_)) => shape.into(),
                Some(shape) => {
                    let one = product(shape) == 1 && shape.len() <= usize::from(one_for_all(&node.op));
                    if one { Shape::default() } else { return None }
                }
                None => {
                    let own = self.of_value(id).filter(|_| i == 0 || maps == Maps::Any)?;
                    if made.as_ref().is_some_and(|made| made.value != own.value) {
                        return None;
                    }
                    made.insert(own).spread.clone()
                }
            };
            spread = broadcast([&spread[..], &more]).ok()?;
        }
        (1..=MOST_TABLES).contains(&product(&spread)).then_some(ByteOrigin { spread, ..made? })
    }

    /// Every 8-bit number, in an array against which the constants of all functions broadcast.
    fn every(&self, origin: &ByteOrigin) -> Array {
        let shape = std::iter::once(BYTES).chain(std::iter::repeat_n(1, self.rank)).collect();
        Array { shape, ..byte_table::every(origin.dtype) }
    }

    /// Whether a table may take the node's place: the node makes 8-bit numbers from a function of others.
    fn ends(&self, node: &Node) -> bool {
        let made = |id: &ValueId| self.made[id.index()].is_some();
        let [Some(output)] = node.outputs[..] else { return false };
        matches!(&*node.op, Op::Quantize(_) | Op::ByteTable(_))
            && self.bytes[output.index()].is_some()
            && made(&output)
            && node.inputs.iter().flatten().any(made)
    }

    /// For each value, whether a node that `ends` needs it.
    fn needed(&self, graph: &Graph) -> Vec<bool> {
        let mut needed = vec![false; graph.values.len()];
        for node in graph.nodes.iter().rev() {
            let [Some(output)] = node.outputs[..] else { continue };
            if self.made[output.index()].is_some() && (needed[output.index()] || self.ends(node)) {
                needed[output.index()] = true;
                node.inputs.iter().flatten().for_each(|id| needed[id.index()] = true);
            }
        }
        needed
    }
}

/// The most axes of a constant of one element that is the same for all elements of the operator's input.
fn one_for_all(op: &Op) -> bool {
    match op {
        Op::Quantize(op) => op.granularity().one_scale(),
        Op::Dequantize(op) => op.granularity().one_scale(),
        _ => false,
    }
}

/// All nodes whose places tables take. What costs more than the budget has, or is refused, stays in the graph.
fn found(origins: &ByteOrigins, graph: &Graph, budget: &Budget) -> Result<Vec<FoundTable>> {
    let needed = origins.needed(graph);
    let (mut values, mut found) = (HashMap::<ValueId, Array>::new(), Vec::new());
    for (n, node) in graph.nodes.iter().enumerate() {
        let [Some(output)] = node.outputs[..] else { continue };
        let Some(origin) = origins.made[output.index()].as_ref().filter(|_| needed[output.index()]) else {
            continue;
        };
        values.entry(origin.value).or_insert_with(|| origins.every(origin));
        match evaluated(graph, node, &values, budget) {
            Ok(made) => {
                if origins.ends(node) {
                    let shape = [&[BYTES], &origin.spread[..]].concat();
                    let values = Array { shape, ..made.clone() };
                    found.push(FoundTable { node: n, output, origin: origin.clone(), values });
                }
                values.insert(output, made);
            }
            Err(none @ Why::NoMemory(_)) => return Err(node_error(node, &[], none)),
            Err(Why::Refused(_) | Why::TooWide(_)) => {}
        }
    }
    Ok(found)
}

/// The node's output for each of the 256 numbers, in the order of the first axis.
fn evaluated(
    graph: &Graph,
    node: &Node,
    values: &HashMap<ValueId, Array>,
    budget: &Budget,
) -> Result<Array, Why> {
    let constants = node.inputs.iter().map(|input| {
        let constant = input.and_then(|id| graph.value(id).constant.as_ref());
        constant.map(Array::from_tensor).transpose()
    });
    let constants = constants.collect::<Result<Vec<_>, Why>>()?;
    let mut inputs: Vec<Option<&Array>> = Vec::with_capacity(constants.len());
    for (input, constant) in node.inputs.iter().zip(&constants) {
        inputs.push(match (input, constant) {
            (None, _) => None,
            (_, Some(constant)) => Some(constant),
            (Some(id), None) => match values.get(id) {
                Some(array) => Some(array),
                None => refuse!("its input is not known"),
            },
        });
    }
    let facts: Vec<Option<Fact>> =
        inputs.iter().map(|array| array.map(|array| Fact::of_array(array.clone()))).collect();
    let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let (operator, outputs) = (node.op.operator(), node.op.infer(&facts)?);
    budget.charge(operator.work(&facts, &outputs)?, outputs.iter().map(|fact| of_array(fact).bytes).sum())?;
    match operator.eval(&inputs)?.pop() {
        Some(array) => Ok(array),
        None => refuse!("it has no result"),
    }
}
