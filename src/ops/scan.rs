//! Scan: a subgraph that runs for each slice of its inputs along an axis.
//!
//! History: 8 (with a batch axis; not supported), 9, 11, 16, 19, 21, 23, 24, 25.

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

pub(crate) const ROWS: &[Row] =
    &[onnx("Scan", 9, types![[V] -> [V]; V: ALL BF16@16 SMALL], parse, Vec::<Case>::new)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let body = subgraph(def, "body")?;
    let Some(scanned) = def.attributes.int("num_scan_inputs")? else {
        refuse!("attribute 'num_scan_inputs' is required")
    };
    let carried = usize::try_from(scanned).ok().and_then(|scanned| def.inputs.len().checked_sub(scanned));
    let Some(carried) = carried.filter(|carried| *carried <= def.listed.len() && scanned > 0) else {
        refuse!("{scanned} of its {} inputs cannot be read slice by slice", def.inputs.len())
    };
    if body.inputs.len() != def.inputs.len() || body.outputs.len() != def.listed.len() {
        let (inputs, outputs) = (body.inputs.len(), body.outputs.len());
        refuse!(
            "its body has {inputs} inputs and {outputs} outputs, and must have the node's {} and {}",
            def.inputs.len(),
            def.listed.len()
        );
    }
    let reads = slices(def.attributes, "input", def.inputs.len() - carried)?;
    let writes = slices(def.attributes, "output", def.listed.len() - carried)?;
    Ok(Scan { body, carried, reads, writes }.into())
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
        Some(self.body.kinds_of_outputs(inputs))
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
