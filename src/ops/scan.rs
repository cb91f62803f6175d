//! Scan: a subgraph that runs for each slice of its inputs along an axis.
//!
//! History: 8, 9, 11, 16, 19, 21, 23, 24, 25. Scan 8 has a batch axis before all others, and perhaps a length for each batch. It is
//! a Scan over the batches, whose body is a Scan of version 9 over time. Steps beyond a batch's length change nothing, and give 0.

use std::sync::Arc;

use super::case::Case;
use super::{
    Array, Attr, Attributes, DType, Graph, Kind, NEWEST_OPSET, Node, NodeDef, Op, Operator, Row, Why, onnx,
    refuse, subgraph, types,
};
use crate::facts::Fact;
use crate::graph::{Value, ValueId};

/// Scan. The first inputs are the initial values of what is carried from one iteration to the next; the inputs that are read
/// slice by slice, and the captures, follow. The body takes the carried values and a slice of each of the others; it computes
/// the next carried values, and one slice of each other output.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) body: Arc<Graph>,
    /// The number of inputs that are left out before the first.
    pub(crate) skipped: usize,
    /// The number of carried values.
    pub(crate) carried: usize,
    /// How each input that is not carried is read.
    pub(crate) reads: Vec<Slices>,
    /// How each output that is not carried is written.
    pub(crate) writes: Vec<Slices>,
}

/// The slices of a tensor, in the order of the iterations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slices {
    /// The axis, which counts from the end if it is negative.
    pub(crate) axis: i64,
    /// Whether the last slice belongs to the first iteration.
    pub(crate) reverse: bool,
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        domain: "",
        name: "Scan",
        opsets: (8, 8),
        types: types![int64 [V] -> [V]; V: ALL],
        parse: parse_batched,
        cases: Vec::<Case>::new,
    },
    onnx("Scan", 9, types![[V] -> [V]; V: ALL BF16@16 SMALL], parse, Vec::<Case>::new),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let body = subgraph(def, "body")?;
    let carried = carried(def, &body, def.inputs.len())?;
    let reads = slices(def.attributes, "input", def.inputs.len() - carried)?;
    let writes = slices(def.attributes, "output", def.listed.len() - carried)?;
    Ok(Scan { body, skipped: 0, carried, reads, writes }.into())
}

/// The number of carried values of a node with so many inputs, each of which its body takes.
fn carried(def: &NodeDef, body: &Graph, inputs: usize) -> Result<usize, Why> {
    let Some(scanned) = def.attributes.int("num_scan_inputs")? else {
        refuse!("attribute 'num_scan_inputs' is required")
    };
    let carried = usize::try_from(scanned).ok().and_then(|scanned| inputs.checked_sub(scanned));
    let Some(carried) = carried.filter(|carried| *carried <= def.listed.len() && scanned > 0) else {
        refuse!("{scanned} of its {inputs} inputs cannot be read slice by slice")
    };
    if body.inputs.len() != inputs || body.outputs.len() != def.listed.len() {
        let (own_inputs, outputs) = (body.inputs.len(), body.outputs.len());
        refuse!(
            "its body has {own_inputs} inputs and {outputs} outputs, and must have the node's {inputs} and {}",
            def.listed.len()
        );
    }
    Ok(carried)
}

/// Scan 8: input 0 has the lengths, if it is given.
fn parse_batched(def: &NodeDef) -> Result<Op, Why> {
    let (body, inputs) = (subgraph(def, "body")?, def.inputs.len().saturating_sub(1));
    let carried = carried(def, &body, inputs)?;
    let backward = match def.attributes.ints("directions")? {
        None => vec![0; inputs - carried],
        Some(values) if values.len() == inputs - carried => values,
        Some(values) => {
            refuse!("attribute 'directions' has {} elements, and needs {}", values.len(), inputs - carried)
        }
    };
    let has_lengths = def.has_input(0);
    let body = Arc::new(of_one_batch(&body, carried, &backward, has_lengths)?);
    let slices = |count: usize| vec![Slices { axis: 0, reverse: false }; count];
    let (reads, writes) = (slices(body.inputs.len()), slices(body.outputs.len()));
    Ok(Scan { body, skipped: usize::from(!has_lengths), carried: 0, reads, writes }.into())
}

/// A graph that is being written, in which each node has one output.
struct Written(Graph);

impl Written {
    fn value(&mut self, name: &str, dtype: Option<DType>) -> ValueId {
        self.0.add_value(Value { name: name.into(), dtype, ..Value::default() })
    }

    fn number(&mut self, number: i64) -> ValueId {
        self.0.add_constant(format!("scan.{number}"), super::case::values(&[], &[number]))
    }

    fn node(&mut self, op_type: &str, inputs: &[ValueId]) -> Result<ValueId, Why> {
        let output = self.value(&format!("scan.{op_type}_{}", self.0.nodes.len()), None);
        let inputs = inputs.iter().copied().map(Some).collect();
        let node = own_node(op_type, Attributes::default(), inputs, &[output], &self.0)?;
        self.0.nodes.push(node);
        Ok(output)
    }
}

/// The graph that Scan 8 runs for one batch. It takes the batch's length, if it has one, and what the node takes, without the batch
/// axis.
fn of_one_batch(body: &Graph, carried: usize, backward: &[i64], has_lengths: bool) -> Result<Graph, Why> {
    let mut outer = Written(Graph { name: body.name.clone(), ..Graph::default() });
    let length = has_lengths.then(|| outer.value("scan.length", Some(DType::I64)));
    let like = |outer: &mut Written, id: &ValueId| {
        let Value { name, dtype, .. } = body.value(*id).clone();
        outer.value(&name, dtype)
    };
    let mut inputs: Vec<ValueId> = body.inputs.iter().map(|id| like(&mut outer, id)).collect();
    let mut captures: Vec<ValueId> = body.captures.iter().map(|id| like(&mut outer, id)).collect();
    let outputs: Vec<ValueId> = body.outputs.iter().map(|id| like(&mut outer, id)).collect();
    outer.0.inputs = length.into_iter().chain(inputs.iter().copied()).collect();
    outer.0.captures.clone_from(&captures);
    outer.0.outputs.clone_from(&outputs);
    let (mut body, mut backward) = (body.clone(), backward.to_vec());
    if let Some(length) = length {
        let (zero, one) = (outer.number(0), outer.number(1));
        let sizes = outer.node("Shape", &[inputs[carried]])?;
        let size = outer.node("Gather", &[sizes, zero])?;
        let steps = outer.node("Range", &[zero, size, one])?;
        // A length that is not one of the steps finds none, which is reported.
        let (exists, last) =
            (outer.node("GreaterOrEqual", &[length, one])?, outer.node("Sub", &[length, one])?);
        let last = outer.node("Where", &[exists, last, size])?;
        let last = outer.node("Gather", &[steps, last])?;
        let length = outer.node("Add", &[last, one])?;
        let counts = outer.node("Less", &[steps, length])?;
        let turned = outer.node("Sub", &[last, steps])?;
        let turned = outer.node("Where", &[counts, turned, steps])?;
        for (input, backward) in inputs[carried..].iter_mut().zip(&mut backward) {
            if *backward != 0 {
                *input = outer.node("Gather", &[*input, turned])?;
                *backward = 0;
            }
        }
        inputs.push(steps);
        backward.push(0);
        captures.push(length);
        body = while_it_lasts(body, carried)?;
    }
    let attributes = [
        ("num_scan_inputs", Attr::Int(backward.len() as i64)),
        ("scan_input_directions", Attr::Ints(backward)),
        ("body", Attr::Graph(body.into())),
    ];
    let inputs = inputs.into_iter().chain(captures).map(Some).collect();
    let node = own_node("Scan", attributes.into_iter().collect(), inputs, &outputs, &outer.0)?;
    outer.0.nodes.push(node);
    Ok(outer.0)
}

/// The body, which also takes the number of a step, and from around it a length: steps beyond the length change nothing, and give
/// 0.
fn while_it_lasts(body: Graph, carried: usize) -> Result<Graph, Why> {
    let mut body = Written(body);
    let integer = Some(DType::I64);
    let (step, length) = (body.value("scan.step", integer), body.value("scan.length", integer));
    body.0.inputs.push(step);
    body.0.captures.push(length);
    let counts = body.node("Less", &[step, length])?;
    let zero = body.number(0);
    for i in 0..body.0.outputs.len() {
        let own = body.0.outputs[i];
        let other = if i < carried { body.0.inputs[i] } else { body.node("CastLike", &[zero, own])? };
        let kept = body.node("Where", &[counts, own, other])?;
        let Value { dtype, shape, .. } = body.0.value(own).clone();
        let value = &mut body.0.values[kept.index()];
        (value.dtype, value.shape) = (dtype, shape);
        body.0.outputs[i] = kept;
    }
    Ok(body.0)
}

fn slices(attributes: &Attributes, side: &str, count: usize) -> Result<Vec<Slices>, Why> {
    let list = |what: &str| {
        let name = format!("scan_{side}_{what}");
        match attributes.ints(&name)? {
            None => Ok(vec![0; count]),
            Some(values) if values.len() == count => Ok(values),
            Some(values) => refuse!("attribute '{name}' has {} elements, and needs {count}", values.len()),
        }
    };
    let (axes, directions) = (list("axes")?, list("directions")?);
    let both = axes.into_iter().zip(directions);
    Ok(both.map(|(axis, direction)| Slices { axis, reverse: direction != 0 }).collect())
}

impl Scan {
    /// What the body takes, and what it captures, of the node's inputs.
    pub(crate) fn taken<'a, T>(&self, inputs: &'a [T]) -> &'a [T] {
        inputs.get(self.skipped..).unwrap_or_default()
    }

    /// The graph that a device runs for one iteration: it takes the carried values, the place of the slice of each input that is
    /// read slice by slice, these inputs, and the captures.
    pub(crate) fn bodies(&self) -> Result<Vec<Graph>, Why> {
        let mut body = self.body.as_ref().clone();
        let slices = body.inputs.split_off(self.carried);
        let mut nodes = Vec::with_capacity(slices.len() + body.nodes.len());
        let mut sources = Vec::with_capacity(slices.len());
        for (&slice, reads) in slices.iter().zip(&self.reads) {
            let Value { name, dtype, .. } = body.value(slice).clone();
            let source = body.add_value(Value { name: format!("{name}.source"), dtype, ..Value::default() });
            let place = Value { dtype: Some(DType::I64), shape: Some(Vec::new()), ..Value::default() };
            let place = body.add_value(Value { name: format!("{name}.place"), ..place });
            let attributes = [("axis", Attr::Int(reads.axis))].into_iter().collect();
            let inputs = vec![Some(source), Some(place)];
            nodes.push(own_node("Gather", attributes, inputs, &[slice], &body)?);
            body.inputs.push(place);
            sources.push(source);
        }
        body.inputs.extend(sources);
        body.inputs.append(&mut body.captures);
        nodes.append(&mut body.nodes);
        body.nodes = nodes;
        Ok(vec![body])
    }
}

/// A node that no model has, named after its first output.
pub(super) fn own_node(
    op_type: &str,
    attributes: Attributes,
    inputs: Vec<Option<ValueId>>,
    outputs: &[ValueId],
    graph: &Graph,
) -> Result<Node, Why> {
    let name = outputs.first().map_or(String::new(), |id| graph.value(*id).name.clone());
    let names = (name, op_type.to_string(), NEWEST_OPSET);
    let listed = vec![true; outputs.len()];
    Node::parse(names, attributes, inputs, (outputs.iter().copied().map(Some).collect(), &listed))
}

impl Operator for Scan {
    fn kinds(&self, inputs: &[Option<&Kind>]) -> Option<Vec<Kind>> {
        // A slice is of the kind of what it is a slice of.
        Some(self.body.kinds_of_outputs(self.taken(inputs)))
    }

    fn subgraphs(&self) -> Vec<&Arc<Graph>> {
        vec![&self.body]
    }

    fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        refuse!("its outputs' shapes depend on its body")
    }

    fn eval(&self, _: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        refuse!("it runs a subgraph")
    }
}
