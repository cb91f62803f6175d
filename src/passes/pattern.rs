//! The questions that recognising passes ask of a graph.

use crate::array::{Array, Numbers};
use crate::graph::{NodeId, ValueId};
use crate::ops::{Graph, Node, Op};
use crate::{DType, Tensor};

/// The most integers that are read as a list of axes, sizes or pads: many nodes may share one long constant.
const LONGEST_LIST: usize = 64;

/// The most movers that a pass follows: with longer rows, a graph would take time that grows as its square.
pub(super) const MOST_MOVERS: usize = 16;

/// A graph, with the producer and the uses of each value.
pub(super) struct Pattern<'g> {
    pub(super) graph: &'g Graph,
    pub(super) links: Links,
}

/// The producer and the uses of each value, by [`ValueId`]. A pass that changes the graph between its questions keeps them
/// up to date.
pub(super) struct Links {
    pub(super) producers: Vec<Option<NodeId>>,
    pub(super) uses: Vec<usize>,
    /// The number of uses for which some output of the graph needs the value's elements.
    pub(super) data_uses: Vec<usize>,
}

impl Links {
    pub(super) fn of(graph: &Graph) -> Links {
        let mut data_uses = vec![0; graph.values.len()];
        graph.outputs.iter().for_each(|id| data_uses[id.index()] += 1);
        for node in graph.nodes.iter().rev().filter(|node| !node.op.operator().reads_shapes_only()) {
            if node.outputs.iter().flatten().any(|id| data_uses[id.index()] > 0) {
                node.inputs.iter().flatten().for_each(|id| data_uses[id.index()] += 1);
            }
        }
        Links { producers: graph.producers(), uses: graph.use_counts(), data_uses }
    }

    /// Counts a value that was added to the graph, which one node uses.
    pub(super) fn add(&mut self, producer: Option<NodeId>) {
        self.producers.push(producer);
        self.uses.push(1);
        self.data_uses.push(1);
    }
}

impl<'g> Pattern<'g> {
    pub(super) fn of(graph: &'g Graph) -> Pattern<'g> {
        Pattern { graph, links: Links::of(graph) }
    }

    /// The number of uses of a value, as a graph output too.
    pub(super) fn uses(&self, id: ValueId) -> usize {
        self.links.uses[id.index()]
    }

    /// The node that computes the value, and the node's number.
    pub(super) fn maker(&self, id: ValueId) -> Option<(usize, &'g Node)> {
        let id = self.links.producers[id.index()]?;
        Some((id.index(), &self.graph.nodes[id.index()]))
    }

    /// The node that computes the value, if the pattern is its only use, so that the node disappears with the pattern.
    pub(super) fn only(&self, id: ValueId) -> Option<(usize, &'g Node)> {
        self.maker(id).filter(|_| self.uses(id) == 1)
    }

    /// The node that computes the value, if the pattern is the only use of its elements; others may use its shape.
    pub(super) fn only_data(&self, id: ValueId) -> Option<(usize, &'g Node)> {
        self.maker(id).filter(|_| self.links.data_uses[id.index()] == 1)
    }

    /// The node whose elements the value has, through at most `MOST_MOVERS` nodes that only move them, of which the last comes
    /// first. Nothing else uses any of these values.
    pub(super) fn before_movers(&self, id: ValueId) -> Option<(usize, &'g Node, Vec<&'g Node>)> {
        let (mut n, mut node) = self.only(id)?;
        let mut movers = Vec::new();
        while node.op.operator().moves_elements() && movers.len() < MOST_MOVERS {
            movers.push(node);
            (n, node) = self.only(node.inputs.first().copied().flatten()?)?;
        }
        Some((n, node, movers))
    }

    /// For each axis after these movers, the axis before them, of `rank`; `None` for one that they add. `None` where a mover
    /// cuts axes, or joins them.
    pub(super) fn moved_axes(&self, movers: &[&Node], rank: usize) -> Option<Vec<Option<usize>>> {
        let mut axes: Vec<Option<usize>> = (0..rank).map(Some).collect();
        for mover in movers.iter().rev() {
            match (&*mover.op, &*mover.op_type) {
                (Op::Transpose(op), _) => {
                    let perm = op.fixed_perm().filter(|perm| perm.len() == axes.len())?;
                    axes = perm.into_iter().map(|axis| axes[axis]).collect();
                }
                (_, "Squeeze") => {
                    let gone = self.axes(mover, axes.len())?;
                    for axis in gone.into_iter().rev() {
                        axes.remove(axis);
                    }
                }
                (_, "Unsqueeze") => {
                    let count = self.axes(mover, usize::MAX >> 1).map_or(0, |axes| axes.len());
                    let new = self.axes(mover, axes.len() + count)?;
                    new.into_iter().for_each(|axis| axes.insert(axis, None));
                }
                (_, "Identity") => {}
                _ => return None,
            }
        }
        Some(axes)
    }

    /// The axes of a Squeeze or an Unsqueeze, each once, in order, where they are counted from the end of `rank`.
    fn axes(&self, node: &Node, rank: usize) -> Option<Vec<usize>> {
        let given = match node.inputs.get(1).copied().flatten() {
            Some(id) => self.integers(id)?,
            None => node.attributes.ints("axes").ok()??.to_vec(),
        };
        let axis = |axis: i64| usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok();
        let mut axes: Vec<usize> = given.into_iter().map(axis).collect::<Option<_>>()?;
        axes.sort_unstable();
        let twice = axes.windows(2).any(|pair| pair[0] == pair[1]);
        (!twice && axes.iter().all(|&axis| axis < rank)).then_some(axes)
    }

    /// The inputs of the node that computes the value, if it is an `op_type` and nothing else uses the value.
    pub(super) fn inputs_of(&self, id: ValueId, op_type: &str) -> Option<&'g [Option<ValueId>]> {
        self.only(id).filter(|(_, node)| node.op_type == op_type).map(|(_, node)| &node.inputs[..])
    }

    /// The number of a constant of one element that broadcasts to a value of at least `rank` axes without changing the value's
    /// shape: the constant has no more axes.
    pub(super) fn scalar(&self, id: ValueId, rank: usize) -> Option<f64> {
        let tensor = self.graph.value(id).constant.as_ref()?;
        self.number(id).filter(|_| tensor.shape().len() <= rank)
    }

    /// The number of a constant of one element, of any rank: for operands that are not broadcast.
    pub(super) fn number(&self, id: ValueId) -> Option<f64> {
        let tensor = self.graph.value(id).constant.as_ref().filter(|tensor| tensor.len() == 1)?;
        match Array::from_tensor(tensor).ok()?.data {
            Numbers::Float(values) => values.first().copied(),
            Numbers::Int(values) => values.first().map(|&value| value as f64),
            Numbers::Text(_) => None,
        }
    }

    /// A number of axes that the value has at least: those of its permutation, of the constant shape to which it is reshaped,
    /// or the declared number.
    pub(super) fn least_rank(&self, id: ValueId) -> usize {
        let made = self.maker(id).and_then(|(_, node)| match &*node.op {
            Op::Transpose(op) => op.fixed_perm().map(|perm| perm.len()),
            Op::Reshape(_) if node.op_type == "Reshape" => {
                self.integers(node.inputs.get(1).copied().flatten()?).map(|shape| shape.len())
            }
            _ => None,
        });
        let declared = self.graph.value(id).shape.as_ref().map(|shape| shape.len());
        made.or(declared).unwrap_or(0)
    }

    /// For each value that surely has integers of 8 bits: their dtype.
    pub(super) fn bytes(&self) -> Vec<Option<DType>> {
        let graph = self.graph;
        let is_byte = |dtype: &DType| matches!(dtype, DType::I8 | DType::U8);
        let mut bytes = vec![None; graph.values.len()];
        for id in &graph.inputs {
            bytes[id.index()] = graph.value(*id).dtype.filter(is_byte);
        }
        for node in &graph.nodes {
            let given = |i: usize| node.inputs.get(i).copied().flatten();
            let constant = |id: ValueId| graph.value(id).constant.as_ref().map(Tensor::dtype);
            let (value, dtype) = match &*node.op {
                Op::Dequantize(_) => (node.inputs.first(), given(2).and_then(constant)),
                Op::Quantize(op) => {
                    let zero = given(2).map(constant);
                    let dtype = if zero == Some(None) { None } else { op.output(zero.flatten()).ok() };
                    (node.outputs.first(), dtype)
                }
                Op::DynamicQuantize(_) => (node.outputs.first(), Some(DType::U8)),
                Op::ByteTable(_) => (node.outputs.first(), given(1).and_then(constant)),
                _ => continue,
            };
            if let (Some(&Some(value)), Some(dtype)) = (value, dtype.filter(is_byte)) {
                bytes[value.index()] = Some(dtype);
            }
        }
        bytes
    }

    /// The integers of a constant that may be a list of axes, sizes or pads.
    pub(super) fn integers(&self, id: ValueId) -> Option<Vec<i64>> {
        let tensor = self.graph.value(id).constant.as_ref().filter(|tensor| tensor.len() <= LONGEST_LIST)?;
        Array::from_tensor(tensor).ok()?.i64s().ok()
    }

    /// The other operand of a node with two operands, if one of the two is a constant of one element; and the constant.
    pub(super) fn beside_constant(&self, inputs: &[Option<ValueId>]) -> Option<(ValueId, ValueId)> {
        let &[Some(a), Some(b)] = inputs else { return None };
        match (self.number(a), self.number(b)) {
            (None, Some(_)) => Some((a, b)),
            (Some(_), None) => Some((b, a)),
            _ => None,
        }
    }
}

/// For each value, whether a batch normalisation reads it: that becomes a part of the weights before it, which are float32 then.
pub(super) fn normalized(graph: &Graph) -> Vec<bool> {
    let mut normalized = vec![false; graph.values.len()];
    for node in graph.nodes.iter().filter(|node| matches!(*node.op, Op::BatchNorm(_))) {
        node.inputs.first().iter().copied().flatten().for_each(|id| normalized[id.index()] = true);
    }
    normalized
}

/// The shape and the elements of an f32 constant. Whoever wants a large one asks for its memory before.
pub(super) fn floats(graph: &Graph, id: Option<ValueId>) -> Option<(Vec<usize>, Vec<f32>)> {
    let tensor = graph.value(id?).constant.as_ref()?;
    tensor.check_file().ok()?;
    let elements = (tensor.dtype() == DType::F32).then(|| bytemuck::pod_collect_to_vec(tensor.bytes()))?;
    Some((tensor.shape().to_vec(), elements))
}
