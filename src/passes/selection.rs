//! Spells out the operators whose results have as many elements as the data say, so that a device computes everything but the
//! number of elements: the host reads that, and plans what follows for it.
//!
//! `NonZero([0, 7, 0, 5])` counts the chosen elements up to each place (`[0, 1, 1, 2]`), writes the places of the chosen to where
//! the counts say (`[1, 3, ...]`, in a list with a place for each element and one for those that are not chosen), and takes as many
//! as the last count says.

use crate::facts::node_error;
use crate::graph::{Value, ValueId};
use crate::ops::{Attr, DType, Graph, NEWEST_OPSET, Node, Op, Why};
use crate::{Error, Result, Tensor};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let planned = graph.planned_values(|_| false, |n| !graph.nodes[n].runs_subgraphs());
    let depends = |id: &Option<ValueId>| id.is_some_and(|id| !planned[id.index()]);
    let chooses = |node: &Node| matches!(&*node.op, Op::NonZero(_) | Op::Compress(_));
    let kinds = if graph.nodes.iter().any(chooses) { graph.kinds() } else { Vec::new() };
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    let mut changed = false;
    for node in std::mem::take(&mut graph.nodes) {
        let counted = match &*node.op {
            Op::NonZero(_) => node.inputs.first(),
            Op::Compress(_) => node.inputs.get(1),
            _ => None,
        };
        // The host runs a node on strings as it is.
        if !counted.is_some_and(depends) || node.runs_on_host(&kinds) {
            nodes.push(node);
            continue;
        }
        changed = true;
        let mut spelling = Spelling { graph, node: &node, nodes: Vec::new() };
        spelling.spell().map_err(|failure| failure.of(&node))?;
        nodes.append(&mut spelling.nodes);
    }
    graph.nodes = nodes;
    Ok(changed)
}

/// Why a node cannot be spelled out.
enum Unspelled {
    Node(Why),
    Tensor(Error),
}

impl Unspelled {
    fn of(self, node: &Node) -> Error {
        match self {
            Unspelled::Node(why) => node_error(node, &[], why),
            Unspelled::Tensor(error) => error,
        }
    }
}

impl From<Why> for Unspelled {
    fn from(why: Why) -> Unspelled {
        Unspelled::Node(why)
    }
}

impl From<Error> for Unspelled {
    fn from(error: Error) -> Unspelled {
        Unspelled::Tensor(error)
    }
}

/// The nodes that take a node's place.
struct Spelling<'a> {
    graph: &'a mut Graph,
    node: &'a Node,
    nodes: Vec<Node>,
}

impl Spelling<'_> {
    fn spell(&mut self) -> Result<(), Unspelled> {
        let (input, output) = match (&self.node.inputs[..], &self.node.outputs[..]) {
            (&[Some(input), ..], &[Some(output), ..]) => (input, output),
            _ => return Err(Unspelled::Node("an input is required".into())),
        };
        match (&*self.node.op, self.node.inputs.get(1)) {
            (Op::Compress(compress), Some(&Some(condition))) => {
                let places = self.chosen(condition)?;
                let (data, axis) = match compress.axis {
                    Some(axis) => (input, axis),
                    None => (self.flat(input)?, 0),
                };
                self.last("Gather", &[data, places], &[("axis", Attr::Int(axis))], output)
            }
            _ => {
                let places = self.chosen(input)?;
                self.coordinates(input, places, output)
            }
        }
    }

    /// The places of the elements that are not 0 among all elements, int32 of one axis.
    fn chosen(&mut self, x: ValueId) -> Result<ValueId, Unspelled> {
        let flat = self.flat(x)?;
        let (is_chosen, as_int) = (self.cast(flat, DType::Bool)?, DType::I32);
        let flags = self.cast(is_chosen, as_int)?;
        let (first, one, zero) = (self.int64s(&[], &[0])?, self.int32(1)?, self.int32(0)?);
        let counts = self.apply("CumSum", &[flags, first], &[])?;
        let total = self.apply("ReduceSum", &[flags], &[("keepdims", Attr::Int(1))])?;
        let total = self.cast(total, DType::I64)?;
        let size = self.apply("Shape", &[flat], &[])?;
        let size_as_int = self.cast(size, as_int)?;
        let last = self.apply("Squeeze", &[size_as_int], &[])?;
        // A place for each element, and one for all that are not chosen.
        let next = self.int64s(&[1], &[1])?;
        let room = self.apply("Add", &[size, next], &[])?;
        let empty = Attr::Tensor(Tensor::from_slice(&[1], &[0i32])?);
        let list = self.apply("ConstantOfShape", &[room], &[("value", empty)])?;
        let before = self.apply("Sub", &[counts, one], &[])?;
        let targets = self.apply("Where", &[is_chosen, before, last], &[])?;
        let places = self.apply("Range", &[zero, last, one], &[])?;
        let list = self.apply("ScatterElements", &[list, targets, places], &[("axis", Attr::Int(0))])?;
        let begin = self.int64s(&[1], &[0])?;
        self.apply("Slice", &[list, begin, total, begin], &[])
    }

    /// The coordinates in `x` of each of these places, one row for each axis.
    fn coordinates(&mut self, x: ValueId, places: ValueId, output: ValueId) -> Result<(), Unspelled> {
        let (first, second) = (self.int64s(&[], &[0])?, self.int64s(&[1], &[1])?);
        let sizes = self.apply("Shape", &[x], &[])?;
        let inner = [("exclusive", Attr::Int(1)), ("reverse", Attr::Int(1))];
        let strides = self.apply("CumProd", &[sizes, first], &inner)?;
        let mut column = |list: ValueId| {
            let list = self.cast(list, DType::I32)?;
            self.apply("Unsqueeze", &[list, second], &[])
        };
        let (sizes, strides) = (column(sizes)?, column(strides)?);
        let lines = self.apply("Div", &[places, strides], &[])?;
        let coordinates = self.apply("Mod", &[lines, sizes], &[])?;
        self.last("Cast", &[coordinates], &[("to", to(DType::I64))], output)
    }

    fn flat(&mut self, x: ValueId) -> Result<ValueId, Unspelled> {
        let all = self.int64s(&[1], &[-1])?;
        self.apply("Reshape", &[x, all], &[])
    }

    fn cast(&mut self, x: ValueId, dtype: DType) -> Result<ValueId, Unspelled> {
        self.apply("Cast", &[x], &[("to", to(dtype))])
    }

    fn int64s(&mut self, shape: &[usize], values: &[i64]) -> Result<ValueId, Unspelled> {
        Ok(self.graph.add_constant(self.name(), Tensor::from_slice(shape, values)?))
    }

    fn int32(&mut self, value: i32) -> Result<ValueId, Unspelled> {
        Ok(self.graph.add_constant(self.name(), Tensor::from_slice(&[], &[value])?))
    }

    /// The result of a new node.
    fn apply(
        &mut self,
        op_type: &str,
        inputs: &[ValueId],
        attributes: &[(&'static str, Attr)],
    ) -> Result<ValueId, Unspelled> {
        let value = Value { name: self.name(), ..Value::default() };
        let output = self.graph.add_value(value);
        self.last(op_type, inputs, attributes, output)?;
        Ok(output)
    }

    /// A new node that computes `output`.
    fn last(
        &mut self,
        op_type: &str,
        inputs: &[ValueId],
        attributes: &[(&'static str, Attr)],
        output: ValueId,
    ) -> Result<(), Unspelled> {
        let names = (self.node.name.clone(), op_type.to_string(), NEWEST_OPSET);
        let inputs = inputs.iter().copied().map(Some).collect();
        let attributes = attributes.iter().cloned().collect();
        self.nodes.push(Node::parse(names, attributes, inputs, (vec![Some(output)], &[true]))?);
        Ok(())
    }

    fn name(&self) -> String {
        format!("{}.{}", self.node.name, self.graph.values.len())
    }
}

/// The number of a dtype in ONNX's `TensorProto.DataType`.
fn to(dtype: DType) -> Attr {
    Attr::Int(i64::from(dtype.onnx()))
}
