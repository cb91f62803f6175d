//! Division: where tensors are larger than one binding of the device may be, their operators are computed in parts. Planning has
//! failed for a graph by then, so that no other graph pays for it.
//!
//! An example: 12 heads of attention have scores of 4096 rows and columns each, 805 MB together, and a binding holds 134 MB. The
//! product that makes the scores, their softmax, and the product that reads them become six nodes each, for two heads at a time;
//! the results are joined. As the nodes of one part stand together, only the scores of two heads are alive at a time.

mod choice;
mod slices;
mod table;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use choice::DivisionChoice;

use super::Options;
use super::fault::Report;
use super::program::Program;
use crate::error::Why;
use crate::facts::{Fact, Facts, node_error};
use crate::graph::{NodeId, Value, ValueId};
use crate::kernels::expr::Integers;
use crate::kernels::{Storage, Target};
use crate::ops::division::{Division, InputShare};
use crate::ops::{Attr, Attributes, Graph, NEWEST_OPSET, Node, Op};
use crate::{DType, Dim, Error, Result, Tensor};

/// A graph in which the operators of large tensors are computed in parts.
#[derive(Clone, Debug)]
pub(crate) struct DividedGraph {
    /// The values of the undivided graph keep their numbers.
    pub(crate) graph: Arc<Graph>,
    /// For each node, the node of the undivided graph of which it computes a part.
    origins: Vec<NodeId>,
}

impl DividedGraph {
    /// Lets a program of this graph name the nodes of the undivided one.
    pub(super) fn name_origins(&self, program: &mut Program) {
        let origin = |node: &mut NodeId| *node = self.origins.get(node.index()).copied().unwrap_or(*node);
        program.device_nodes.iter_mut().for_each(origin);
        program.device_nodes.sort();
        program.device_nodes.dedup();
        for fault in &mut program.faults {
            origin(&mut fault.node);
            if let Report::Arithmetic(nodes) = &mut fault.report {
                nodes.iter_mut().for_each(origin);
            }
        }
    }
}

/// The graph in which the operators of large tensors are computed in parts; `None` if no operator could be divided. Besides the
/// graph's outputs, the values that the options keep are wanted whole.
pub(super) fn divided(
    graph: &Graph,
    facts: &Facts,
    target: &Target,
    options: &Options,
) -> Result<Option<DividedGraph>> {
    let keep = &options.keep[..];
    let known = (0..graph.values.len()).map(|i| facts.get(ValueId(i as u32)).cloned()).collect();
    let mut divider = Divider {
        graph: Graph { nodes: Vec::new(), ..graph.clone() },
        facts: known,
        nodes: Vec::with_capacity(graph.nodes.len()),
        most: graph.nodes.len() + MOST_PARTS,
        origin: NodeId(0),
        wanted: graph.outputs.iter().chain(keep).copied().collect(),
        parts: HashMap::new(),
        slices: HashMap::new(),
        target,
        integers: options.integers,
    };
    let mut changed = false;
    for (number, node) in graph.nodes.iter().enumerate() {
        divider.origin = NodeId(number as u32);
        let divided = divider.node(node.clone()).map_err(|failure| failure.of(node))?;
        changed |= divided;
    }
    for &id in graph.outputs.iter().chain(keep) {
        divider.whole(id).map_err(|failure| match failure {
            Undivided::Node(why) => why.error(&graph.value(id).name, Error::Tensor),
            Undivided::Tensor(error) => error,
        })?;
    }
    if !changed {
        return Ok(None);
    }
    let Divider { mut graph, nodes, facts, .. } = divider;
    // What is divided for these sizes is planned for no others.
    for id in graph.inputs.clone() {
        let fact = facts[id.index()].as_ref();
        let known = fact.map(|fact| fact.shape.iter().map(|&size| Dim::Known(size)).collect());
        graph.values[id.index()].shape = known;
    }
    let wanted: Vec<ValueId> = graph.outputs.iter().chain(keep).copied().collect();
    let (nodes, origins) = part_by_part(nodes, &wanted).into_iter().unzip();
    graph.nodes = nodes;
    graph.verify()?;
    Ok(Some(DividedGraph { graph: Arc::new(graph), origins }))
}

/// The most nodes that are added to a graph. A transposition of 4 GB takes some 1,000 where bindings hold 128 MiB, and a few bytes
/// of a file add another transposition.
const MOST_PARTS: usize = 1 << 17;

/// Why the parts of a node cannot be made.
enum Undivided {
    Node(Why),
    Tensor(Error),
}

impl Undivided {
    fn of(self, node: &Node) -> Error {
        match self {
            Undivided::Node(why) => node_error(node, &[], why),
            Undivided::Tensor(error) => error,
        }
    }
}

impl From<Why> for Undivided {
    fn from(why: Why) -> Undivided {
        Undivided::Node(why)
    }
}

impl From<Error> for Undivided {
    fn from(error: Error) -> Undivided {
        Undivided::Tensor(error)
    }
}

type Divided<T> = Result<T, Undivided>;

/// A value that is made in parts: ranges along an axis, in order.
struct ValueParts {
    axis: usize,
    /// Each part, and where it ends along the axis.
    parts: Vec<(usize, ValueId)>,
    /// Whether a node joins them.
    joined: bool,
}

/// Elements `begin..end` along an axis of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ValueRange {
    of: ValueId,
    axis: usize,
    begin: usize,
    end: usize,
}

struct Divider<'a> {
    graph: Graph,
    /// The facts of the graph's values.
    facts: Vec<Option<Fact>>,
    /// Each node, and the node of the undivided graph of which it computes a part.
    nodes: Vec<(Node, NodeId)>,
    /// The number of nodes after which no more are divided.
    most: usize,
    /// The node that is being divided.
    origin: NodeId,
    /// The values that a run gives back, and the parts of those: they lie in one piece.
    wanted: HashSet<ValueId>,
    parts: HashMap<ValueId, ValueParts>,
    slices: HashMap<ValueRange, ValueId>,
    target: &'a Target,
    integers: Integers,
}

impl Divider<'_> {
    /// Adds the node, or its parts. Tells whether it was divided.
    fn node(&mut self, node: Node) -> Divided<bool> {
        if !self.binds_much(&node) || self.nodes.len() > self.most {
            self.add_whole(node)?;
            return Ok(false);
        }
        match &*node.op {
            Op::Concat(_) if self.is_joined_in_order(&node) => return self.joined(node),
            Op::Slice(slice) => {
                let inputs: Vec<Option<&Fact>> =
                    node.inputs.iter().map(|id| id.and_then(|id| self.fact(id))).collect();
                if let Some(ranges) = slice.dense_ranges(&inputs) {
                    return self.sliced(&node, &ranges);
                }
            }
            Op::Split(_) => return self.split(&node),
            Op::Gather(_) if self.reads_large_table(&node) => return self.looked_up(&node),
            _ => {}
        }
        match self.choice(&node) {
            Some(choice) if choice.sums => self.add_sum(&node, &choice)?,
            Some(choice) => self.add_parts(&node, &choice)?,
            None => {
                self.add_whole(node)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds the node as it is.
    fn add_whole(&mut self, node: Node) -> Divided<()> {
        for id in node.inputs.iter().flatten() {
            self.whole(*id)?;
        }
        self.nodes.push((node, self.origin));
        Ok(())
    }

    fn fact(&self, id: ValueId) -> Option<&Fact> {
        self.facts.get(id.index())?.as_ref()
    }

    /// The bits of an element on the device.
    fn bits(&self, id: ValueId) -> u64 {
        let Some(fact) = self.fact(id) else { return 0 };
        self.integers.storage(fact.dtype).map_or(0, Storage::bits)
    }

    fn bytes(&self, id: ValueId) -> u64 {
        let count = self.fact(id).map_or(0, Fact::count) as u64;
        count.saturating_mul(self.bits(id)).div_ceil(8)
    }

    fn is_large(&self, id: ValueId) -> bool {
        self.bytes(id) > self.target.max_binding
    }

    /// Whether the node reads or makes a value that is too large for a binding.
    fn binds_much(&self, node: &Node) -> bool {
        node.data_inputs().flatten().chain(node.outputs.iter().copied().flatten()).any(|id| self.is_large(id))
    }

    /// Adds a node for each part of the node's work.
    fn add_parts(&mut self, node: &Node, choice: &DivisionChoice) -> Divided<()> {
        let DivisionChoice { axis, division, .. } = choice;
        let mut parts: Vec<Vec<(usize, ValueId)>> = vec![Vec::new(); node.outputs.len()];
        for units in self.parts_of(node, choice) {
            let (begin, end) = (units.start * division.of_output, units.end * division.of_output);
            let mut outputs = Vec::with_capacity(node.outputs.len());
            for (id, parts) in node.outputs.iter().zip(&mut parts) {
                let Some(id) = id else {
                    outputs.push(None);
                    continue;
                };
                let part = self.value_like(*id, *axis, (begin, end));
                if self.wanted.contains(id) {
                    self.wanted.insert(part);
                }
                parts.push((end, part));
                outputs.push(Some(part));
            }
            let part = self.part(node, division, units, outputs)?;
            self.node(part)?;
        }
        for (id, parts) in node.outputs.iter().zip(parts) {
            if let Some(id) = id {
                self.parts.insert(*id, ValueParts { axis: *axis, parts, joined: false });
            }
        }
        Ok(())
    }

    /// Adds nodes that compute summands, and their sum.
    fn add_sum(&mut self, node: &Node, choice: &DivisionChoice) -> Divided<()> {
        let division = &choice.division;
        let &[Some(output)] = &node.outputs[..] else {
            return Err(Undivided::Node("has other outputs".into()));
        };
        let mut sum: Option<ValueId> = None;
        for units in self.parts_of(node, choice) {
            let last = units.end == division.units;
            let summand = self.another(output);
            let part = self.part(node, division, units, vec![Some(summand)])?;
            self.node(part)?;
            sum = Some(match sum {
                None => summand,
                Some(before) => {
                    let sum = if last { output } else { self.another(output) };
                    let add = self.made(node, "Add", vec![before, summand], Attributes::default(), sum)?;
                    self.node(add)?;
                    sum
                }
            });
        }
        Ok(())
    }

    /// The node that computes these units.
    fn part(
        &mut self,
        node: &Node,
        division: &Division,
        units: std::ops::Range<usize>,
        outputs: Vec<Option<ValueId>>,
    ) -> Divided<Node> {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for (i, id) in node.inputs.iter().enumerate() {
            let share = division.shares.get(i).copied().unwrap_or(InputShare::Whole);
            inputs.push(match (id, share) {
                (None, _) => None,
                (Some(_), InputShare::First) if units.start > 0 => None,
                (Some(id), InputShare::Whole | InputShare::First) => Some(*id),
                (Some(id), InputShare::Along { axis, step }) => {
                    let range =
                        ValueRange { of: *id, axis, begin: units.start * step, end: units.end * step };
                    let packed = node.op.operator().packs(i);
                    Some(if packed { self.view(node, range)? } else { self.slice(node, range)? })
                }
            });
        }
        let output = outputs.first().copied().flatten();
        if let (Op::Reshape(_), Some(output), Some(x)) = (&*node.op, output, inputs[0]) {
            let shape = self.sizes_of(output)?;
            return self.made(node, "Reshape", vec![x, shape], Attributes::default(), output);
        }
        if let (Some(i), Some(output)) = (division.sizes, output) {
            inputs[i] = Some(self.sizes_of(output)?);
        }
        let mut part = Node { inputs, outputs, ..node.clone() };
        if let Some(name) = division.counted_by {
            part.set_attributes([(name, Attr::Int(units.len() as i64))])?;
        }
        Ok(part)
    }

    /// The shape of a value, as a constant.
    fn sizes_of(&mut self, id: ValueId) -> Divided<ValueId> {
        let sizes: Vec<i64> =
            self.fact(id).map_or(Vec::new(), |fact| fact.shape.iter().map(|&size| size as i64).collect());
        self.list(&sizes)
    }

    /// A node that is not in the model.
    fn made(
        &self,
        node: &Node,
        op_type: &str,
        inputs: Vec<ValueId>,
        attributes: Attributes,
        output: ValueId,
    ) -> Divided<Node> {
        let names = (node.name.clone(), op_type.to_string(), NEWEST_OPSET);
        let inputs = inputs.into_iter().map(Some).collect();
        Ok(Node::parse(names, attributes, inputs, (vec![Some(output)], &[true]))?)
    }

    /// A new value for a range of another.
    fn value_like(&mut self, id: ValueId, axis: usize, (begin, end): (usize, usize)) -> ValueId {
        let fact = self.fact(id).map(|fact| {
            let mut shape = fact.shape.clone();
            shape[axis] = end - begin;
            Fact::new(fact.dtype, shape)
        });
        let name = format!("{}[{begin}..{end}]", self.graph.value(id).name);
        self.add(name, fact)
    }

    /// A new value of the same dtype and shape.
    fn another(&mut self, id: ValueId) -> ValueId {
        let fact = self.fact(id).map(|fact| Fact::new(fact.dtype, fact.shape.clone()));
        let name = format!("{}.part", self.graph.value(id).name);
        self.add(name, fact)
    }

    fn typed(&mut self, node: &Node, dtype: DType, shape: &[usize]) -> ValueId {
        self.add(format!("{}.places", node.name), Some(Fact::new(dtype, shape)))
    }

    fn list(&mut self, list: &[i64]) -> Divided<ValueId> {
        Ok(self.constant(Tensor::from_slice(&[list.len()], list)?))
    }

    fn scalar(&mut self, value: i32) -> Divided<ValueId> {
        Ok(self.constant(Tensor::from_slice(&[], &[value])?))
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let id = self.add("part".into(), Some(Fact::new(tensor.dtype(), tensor.shape())));
        self.graph.set_constant(id, tensor);
        id
    }

    fn add(&mut self, name: String, fact: Option<Fact>) -> ValueId {
        self.facts.push(fact);
        self.graph.add_value(Value { name, ..Value::default() })
    }
}

/// The nodes that the outputs need, so that those that make one part stand together: each node comes just before its first reader.
fn part_by_part(nodes: Vec<(Node, NodeId)>, outputs: &[ValueId]) -> Vec<(Node, NodeId)> {
    let mut producers = HashMap::new();
    for (i, (node, _)) in nodes.iter().enumerate() {
        producers.extend(node.outputs.iter().flatten().map(|id| (*id, i)));
    }
    let mut nodes: Vec<Option<(Node, NodeId)>> = nodes.into_iter().map(Some).collect();
    let (mut ordered, mut seen) = (Vec::with_capacity(nodes.len()), HashSet::new());
    // A node is met first to look at its inputs, and then, when these are made, to be added.
    let mut waiting: Vec<(usize, bool)> =
        outputs.iter().rev().filter_map(|id| producers.get(id)).map(|&node| (node, false)).collect();
    while let Some((number, inputs_are_made)) = waiting.pop() {
        if inputs_are_made {
            ordered.extend(nodes[number].take());
            continue;
        }
        if !seen.insert(number) {
            continue;
        }
        waiting.push((number, true));
        let inputs = nodes[number].iter().flat_map(|(node, _)| node.inputs.iter().flatten().rev());
        waiting.extend(inputs.filter_map(|id| producers.get(id)).map(|&node| (node, false)));
    }
    ordered
}
