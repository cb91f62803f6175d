//! Operators that are defined by others: each node is a small graph of nodes, its body. The reference evaluates the body. For
//! devices a pass puts the body's nodes in the node's place, so that they fuse, fold and share memory like any others.
//!
//! The files of these operators have only a table and the functions that write bodies. QLinearSigmoid, for example, is
//! DequantizeLinear, Sigmoid and QuantizeLinear.

use std::sync::Arc;

use super::{
    Array, Attr, Attributes, DType, Graph, Kind, NEWEST_OPSET, Node, NodeDef, Op, Operator, Row, Tensor, Why,
    Work, case, of_elements, optional, refuse, required,
};
use crate::budget::Limits;
use crate::facts::{Fact, FactBase, Facts, InputFact, node_error};
use crate::graph::{Value, ValueId};

/// A node's body, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Composed {
    /// It has an input for each input that the node is given.
    body: Graph,
    base: FactBase,
    /// The numbers of the node's inputs that decide shapes in the body.
    shape_operands: Vec<usize>,
}

pub(crate) const ROWS: &[Row] = &[];

/// A body that is being written.
pub(crate) struct Body<'d> {
    def: &'d NodeDef<'d>,
    graph: Graph,
    /// For each input of the node, its value in the body.
    inputs: Vec<Option<ValueId>>,
}

impl<'d> Body<'d> {
    pub(crate) fn new(def: &'d NodeDef) -> Body<'d> {
        let mut graph = Graph { name: def.op_type.into(), ..Graph::default() };
        let mut inputs = Vec::with_capacity(def.inputs.len());
        for (i, &given) in def.inputs.iter().enumerate() {
            let name = format!("input_{i}");
            inputs.push(given.then(|| graph.add_value(Value { name, ..Value::default() })));
        }
        graph.inputs = inputs.iter().copied().flatten().collect();
        Body { def, graph, inputs }
    }

    pub(crate) fn attributes(&self) -> &'d Attributes {
        self.def.attributes
    }

    /// Input `i`, which the operator requires.
    pub(crate) fn input(&self, i: usize) -> Result<ValueId, Why> {
        required(&self.inputs, i)
    }

    /// Input `i`, if it is given.
    pub(crate) fn optional(&self, i: usize) -> Option<ValueId> {
        optional(&self.inputs, i)
    }

    /// Refuses a node that has input `i`.
    pub(crate) fn without(&self, i: usize, what: &str) -> Result<(), Why> {
        if self.optional(i).is_some() {
            refuse!("{what} (input {i}) is not supported");
        }
        Ok(())
    }

    /// Whether the node lists output `i`, and something reads it.
    pub(crate) fn wants(&self, i: usize) -> bool {
        self.def.outputs.get(i) == Some(&true)
    }

    pub(crate) fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("constant_{}", self.graph.values.len());
        self.graph.add_constant(name, tensor)
    }

    /// A list of integers, as shape operands are.
    pub(crate) fn list(&mut self, list: &[i64]) -> ValueId {
        self.constant(case::list(list))
    }

    pub(crate) fn scalar<T: crate::Element>(&mut self, value: T) -> ValueId {
        self.constant(case::values(&[], &[value]))
    }

    /// A number of the dtype of `like`.
    pub(crate) fn number(&mut self, value: f32, like: ValueId) -> Result<ValueId, Why> {
        let value = self.scalar(value);
        self.node("CastLike", &[value, like])
    }

    /// The first output of a node without attributes.
    pub(crate) fn node(&mut self, op_type: &str, inputs: &[ValueId]) -> Result<ValueId, Why> {
        self.with(op_type, &[], inputs)
    }

    /// The first output of a node.
    pub(crate) fn with(
        &mut self,
        op_type: &str,
        attributes: &[(&str, Attr)],
        inputs: &[ValueId],
    ) -> Result<ValueId, Why> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        let [output] = self.call(op_type, attributes, &inputs)?;
        Ok(output)
    }

    /// The first outputs of a node of the newest opset version, of the own version of ai.onnx.ml, or of version 1 of another domain.
    pub(crate) fn call<const N: usize>(
        &mut self,
        op_type: &str,
        attributes: &[(&str, Attr)],
        inputs: &[Option<ValueId>],
    ) -> Result<[ValueId; N], Why> {
        let outputs = self.outputs(op_type, attributes, inputs, N)?;
        Ok(std::array::from_fn(|i| outputs[i]))
    }

    /// Likewise, as many as `count`.
    pub(crate) fn outputs(
        &mut self,
        op_type: &str,
        attributes: &[(&str, Attr)],
        inputs: &[Option<ValueId>],
        count: usize,
    ) -> Result<Vec<ValueId>, Why> {
        let opset = match op_type {
            // Only operators of this domain have bodies with nodes of it.
            ml if ml.starts_with("ai.onnx.ml.") => self.def.opset,
            other if other.contains('.') => 1,
            _ => NEWEST_OPSET,
        };
        let name = format!("{}_{}", op_type.rsplit('.').next().unwrap_or(op_type), self.graph.nodes.len());
        let output = |i| Value { name: format!("{name}_{i}"), ..Value::default() };
        let outputs: Vec<ValueId> = (0..count).map(|i| self.graph.add_value(output(i))).collect();
        let attributes = attributes.iter().map(|(name, attr)| (*name, attr.clone())).collect();
        let names = (name, op_type.to_string(), opset);
        let wanted = outputs.iter().copied().map(Some).collect();
        let node = Node::parse(names, attributes, inputs.to_vec(), (wanted, &vec![true; count]))?;
        if let Op::Unsupported(reason) = &*node.op {
            refuse!("{op_type}: {reason}");
        }
        self.graph.nodes.push(node);
        Ok(outputs)
    }

    /// The next value that a subgraph of the node takes from around it.
    pub(crate) fn capture(&mut self) -> ValueId {
        let name = format!("capture_{}", self.inputs.len());
        let id = self.graph.add_value(Value { name, ..Value::default() });
        self.inputs.push(Some(id));
        self.graph.inputs.push(id);
        id
    }

    /// The output of a subgraph that takes `x`, and `captures` from around it.
    pub(crate) fn inlined(
        &mut self,
        graph: &Graph,
        x: ValueId,
        captures: &[ValueId],
    ) -> Result<ValueId, Why> {
        let (&[formal], &[output]) = (&graph.inputs[..], &graph.outputs[..]) else {
            let (inputs, outputs) = (graph.inputs.len(), graph.outputs.len());
            refuse!("a subgraph has {inputs} inputs and {outputs} outputs, and must have one of each")
        };
        let mut values: Vec<Option<ValueId>> = vec![None; graph.values.len()];
        values[formal.index()] = Some(x);
        for (own, outer) in graph.captures.iter().zip(captures) {
            values[own.index()] = Some(*outer);
        }
        let prefix = format!("{}_{}", graph.name, self.graph.nodes.len());
        for node in &graph.nodes {
            if node.runs_subgraphs() {
                refuse!("{} within a subgraph of this operator is not supported", node.op_type);
            }
            let mut inner = node.clone();
            inner.name = format!("{prefix}/{}", node.name);
            for id in inner.inputs.iter_mut().chain(&mut inner.outputs).flatten() {
                *id = outer_value(graph, &mut self.graph, &prefix, &mut values, *id);
            }
            self.graph.nodes.push(inner);
        }
        Ok(outer_value(graph, &mut self.graph, &prefix, &mut values, output))
    }

    pub(crate) fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId, Why> {
        self.with("Cast", &[("to", Attr::Int(to.onnx().into()))], &[x])
    }

    pub(crate) fn transposed(&mut self, x: ValueId, perm: &[i64]) -> Result<ValueId, Why> {
        self.with("Transpose", &[("perm", Attr::Ints(perm.to_vec()))], &[x])
    }

    /// `x` under another shape: a size of 0 stays as it is, and -1 takes what is left.
    pub(crate) fn reshaped(&mut self, x: ValueId, shape: &[i64]) -> Result<ValueId, Why> {
        let shape = self.list(shape);
        self.node("Reshape", &[x, shape])
    }

    /// The size of `x` along an axis, as a list of one number.
    pub(crate) fn size(&mut self, x: ValueId, axis: i64) -> Result<ValueId, Why> {
        let end = if axis == -1 { i64::MAX } else { axis.saturating_add(1) };
        self.with("Shape", &[("start", Attr::Int(axis)), ("end", Attr::Int(end))], &[x])
    }

    /// 0, 1, 2, ... up to a length that is a list of one number.
    pub(crate) fn counted(&mut self, length: ValueId) -> Result<ValueId, Why> {
        let (zero, one, axes) = (self.scalar(0i64), self.scalar(1i64), self.list(&[0]));
        let length = self.node("Squeeze", &[length, axes])?;
        self.node("Range", &[zero, length, one])
    }

    /// `x`, which is refused unless it has this rank. No pass removes the check: each axis too many becomes a size that no
    /// Reshape takes, and a missing one cannot keep its size.
    pub(crate) fn of_rank(&mut self, x: ValueId, rank: usize) -> Result<ValueId, Why> {
        let (dims, kept) = (self.node("Shape", &[x])?, self.list(&vec![0; rank]));
        let (from, to) = (self.list(&[rank as i64]), self.list(&[i64::from(i32::MAX)]));
        let more = self.node("Slice", &[dims, from, to])?;
        let (none, wrong) = (self.scalar(0i64), self.scalar(-2i64));
        let more = self.node("Mul", &[more, none])?;
        let more = self.node("Add", &[more, wrong])?;
        let shape = self.joined(&[kept, more])?;
        self.node("Reshape", &[x, shape])
    }

    /// The lists, one after the other.
    pub(crate) fn joined(&mut self, lists: &[ValueId]) -> Result<ValueId, Why> {
        self.with("Concat", &[("axis", Attr::Int(0))], lists)
    }

    /// The real value of a quantised tensor.
    pub(crate) fn dequantized(
        &mut self,
        x: ValueId,
        scale: ValueId,
        zero: Option<ValueId>,
    ) -> Result<ValueId, Why> {
        let [y] = self.call("DequantizeLinear", &[], &[Some(x), Some(scale), zero])?;
        Ok(y)
    }

    /// `x` quantised. Without a zero point, the result has the dtype of `like`.
    pub(crate) fn quantized(
        &mut self,
        x: ValueId,
        scale: ValueId,
        zero: Option<ValueId>,
        like: ValueId,
    ) -> Result<ValueId, Why> {
        let zero = match zero {
            Some(zero) => zero,
            None => self.number(0.0, like)?,
        };
        self.node("QuantizeLinear", &[x, scale, zero])
    }

    /// The function that attribute `activation` names, with these parameters, of `x`.
    pub(crate) fn activated(&mut self, params: &[f32], x: ValueId) -> Result<ValueId, Why> {
        let param = |i: usize, default: f32| Attr::Float(params.get(i).copied().unwrap_or(default));
        match self.attributes().string_or("activation", "")?.as_str() {
            "" => Ok(x),
            name @ ("Relu" | "Tanh" | "Sigmoid") => self.node(name, &[x]),
            "LeakyRelu" => self.with("LeakyRelu", &[("alpha", param(0, 0.01))], &[x]),
            "HardSigmoid" => {
                self.with("HardSigmoid", &[("alpha", param(0, 0.2)), ("beta", param(1, 0.5))], &[x])
            }
            "Clip" => {
                let (Some(&low), Some(&high)) = (params.first(), params.get(1)) else {
                    refuse!("the activation Clip needs a least and a greatest value")
                };
                let (low, high) = (self.number(low, x)?, self.number(high, x)?);
                self.node("Clip", &[x, low, high])
            }
            other => refuse!("the activation '{other}' is not supported"),
        }
    }

    /// The attributes of these names that the node has, for a node of the body.
    pub(crate) fn kept(&self, names: &[&'static str]) -> Vec<(&'static str, Attr)> {
        names.iter().filter_map(|&name| Some((name, self.attributes().0.get(name)?.clone()))).collect()
    }

    /// The operator whose first outputs are these.
    pub(crate) fn finish(mut self, outputs: &[ValueId]) -> Result<Op, Why> {
        if let Some(i) = (outputs.len()..self.def.outputs.len()).find(|&i| self.wants(i)) {
            refuse!("output {i} is not supported");
        }
        self.graph.outputs = outputs.to_vec();
        self.graph.verify()?;
        let base = FactBase::new(&self.graph, &Limits::default())?;
        let demanded = |i: &usize| self.inputs[*i].is_some_and(|id| base.is_demanded(id));
        let shape_operands = (0..self.inputs.len()).filter(demanded).collect();
        Ok(Composed { body: self.graph, base, shape_operands }.into())
    }
}

impl Composed {
    /// The facts of all values of the body.
    fn facts(&self, inputs: &[Option<&Fact>]) -> Result<Facts, Why> {
        let given = inputs.iter().flatten().zip(&self.body.inputs);
        let known = given.map(|(fact, id)| {
            let value = fact.value.as_ref().filter(|_| self.base.is_demanded(*id));
            let value = value.map(|known| known.array.to_tensor()).transpose()?;
            Ok(InputFact { dtype: fact.dtype, shape: fact.shape.to_vec(), value, room: None })
        });
        let known = known.collect::<Result<Vec<_>, Why>>()?;
        Ok(self.base.bind(&self.body, &known, &self.base.budget())?)
    }
}

/// The body's nodes that these of its outputs need.
fn needed(body: &Graph, outputs: Vec<ValueId>) -> impl Iterator<Item = &Node> {
    let needed = body.clone().selecting(outputs).needed();
    let wanted = move |node: &&Node| node.outputs.iter().flatten().any(|id| needed[id.index()]);
    body.nodes.iter().filter(wanted)
}

/// The nodes that compute `node` as its body does.
fn copied(body: &Graph, graph: &mut Graph, node: &Node) -> Result<Vec<Node>, Why> {
    let given = body.inputs.iter().copied().zip(node.inputs.iter().flatten().copied());
    let wanted = body.outputs.iter().zip(&node.outputs).filter_map(|(own, output)| Some((*own, (*output)?)));
    in_place(body, graph, &node.name, given, wanted.collect())
}

/// Copies of a body's nodes for the graph around it, in which they stand for the node `name`. `given`: for the values that the body
/// takes, the graph's values; `wanted`: for the body's outputs, the graph's values that they become.
pub(super) fn in_place(
    body: &Graph,
    graph: &mut Graph,
    name: &str,
    given: impl Iterator<Item = (ValueId, ValueId)>,
    wanted: Vec<(ValueId, ValueId)>,
) -> Result<Vec<Node>, Why> {
    let mut values: Vec<Option<ValueId>> = vec![None; body.values.len()];
    for (formal, actual) in given {
        values[formal.index()] = Some(actual);
    }
    let mut copies = Vec::new();
    for &(own, output) in &wanted {
        match &mut values[own.index()] {
            empty @ None if body.value(own).constant.is_none() => *empty = Some(output),
            _ => copies.push((own, output)),
        }
    }
    let mut nodes = Vec::new();
    for inner in needed(body, wanted.iter().map(|(own, _)| *own).collect()) {
        let mut outer = inner.clone();
        outer.name = format!("{name}/{}", inner.name);
        for id in outer.inputs.iter_mut().chain(&mut outer.outputs).flatten() {
            *id = outer_value(body, graph, name, &mut values, *id);
        }
        nodes.push(outer);
    }
    for (own, output) in copies {
        let input = outer_value(body, graph, name, &mut values, own);
        nodes.push(passed_on(graph, name, input, output)?);
    }
    Ok(nodes)
}

/// A node that makes `output` equal to `input`, in the place of the node `name`.
pub(super) fn passed_on(graph: &Graph, name: &str, input: ValueId, output: ValueId) -> Result<Node, Why> {
    let name = format!("{name}/{}", graph.value(output).name);
    let names = (name, "Identity".to_string(), NEWEST_OPSET);
    Node::parse(names, Attributes::default(), vec![Some(input)], (vec![Some(output)], &[true]))
}

/// The graph's value that stands for the body's value `id`.
fn outer_value(
    body: &Graph,
    graph: &mut Graph,
    prefix: &str,
    values: &mut [Option<ValueId>],
    id: ValueId,
) -> ValueId {
    let add = || {
        let value = body.value(id);
        graph.add_value(Value { name: format!("{prefix}/{}", value.name), ..value.clone() })
    };
    *values[id.index()].get_or_insert_with(add)
}

/// The nodes that `write` writes for `node`, to stand in its place.
pub(crate) fn written(
    graph: &mut Graph,
    node: &Node,
    write: impl FnOnce(&mut Body) -> Result<Vec<ValueId>, Why>,
) -> Result<Vec<Node>, Why> {
    let given: Vec<bool> = node.inputs.iter().map(Option::is_some).collect();
    let wanted: Vec<bool> = node.outputs.iter().map(Option::is_some).collect();
    let def = NodeDef {
        op_type: &node.op_type,
        opset: node.opset,
        attributes: &node.attributes,
        inputs: &given,
        listed: &wanted,
        outputs: &wanted,
    };
    let mut body = Body::new(&def);
    body.graph.outputs = write(&mut body)?;
    copied(&body.graph, graph, node)
}

/// Puts the nodes of its body in the place of each composed node. Returns whether there was one.
pub(crate) fn expand(graph: &mut Graph) -> crate::Result<bool> {
    if !has_composed(graph) {
        return Ok(false);
    }
    while has_composed(graph) {
        let mut nodes = Vec::with_capacity(graph.nodes.len());
        for node in std::mem::take(&mut graph.nodes) {
            match &*node.op {
                Op::Composed(composed) => {
                    let body = copied(&composed.body, graph, &node);
                    nodes.extend(body.map_err(|why| node_error(&node, &[], why))?);
                    graph.replaced.push(node);
                }
                _ => nodes.push(node),
            }
        }
        graph.nodes = nodes;
    }
    Ok(true)
}

fn has_composed(graph: &Graph) -> bool {
    graph.nodes.iter().any(|node| matches!(*node.op, Op::Composed(_)))
}

/// The same graph without composed nodes.
pub(crate) fn expanded(graph: Arc<Graph>) -> crate::Result<Arc<Graph>> {
    if !has_composed(&graph) {
        return Ok(graph);
    }
    let mut graph = Arc::unwrap_or_clone(graph);
    expand(&mut graph)?;
    Ok(Arc::new(graph))
}

impl Operator for Composed {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let facts = self.facts(inputs)?;
        let fact = |id: &ValueId| match facts.get(*id) {
            Some(fact) => Ok(Fact { value: None, ..fact.clone() }),
            None => refuse!("nothing is known of an output"),
        };
        self.body.outputs.iter().map(fact).collect()
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let mut values: Vec<Option<Array>> = Vec::new();
        for value in &self.body.values {
            values.push(value.constant.as_ref().map(Array::from_tensor).transpose()?);
        }
        let mut given: Vec<Option<&Array>> = vec![None; values.len()];
        for (id, array) in self.body.inputs.iter().zip(inputs.iter().flatten()) {
            given[id.index()] = Some(array);
        }
        for node in &self.body.nodes {
            let of = |id: ValueId| given[id.index()].or(values[id.index()].as_ref());
            let arrays: Vec<Option<&Array>> = node.inputs.iter().map(|id| id.and_then(of)).collect();
            for (id, array) in node.outputs.iter().zip(node.op.operator().eval(&arrays)?) {
                if let Some(id) = id {
                    values[id.index()] = Some(array);
                }
            }
        }
        let output = |id: &ValueId| match given[id.index()].or(values[id.index()].as_ref()) {
            Some(array) => Ok(array.clone()),
            None => refuse!("nothing makes an output"),
        };
        self.body.outputs.iter().map(output).collect()
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        /// The bytes of a value beside its elements.
        const VALUE: usize = 64;
        let facts = self.facts(inputs)?;
        let mut work = of_elements(inputs, outputs).temporary(self.body.values.len(), VALUE);
        for node in &self.body.nodes {
            let made: Vec<Fact> =
                node.outputs.iter().flatten().filter_map(|id| facts.get(*id)).cloned().collect();
            work = work + node.op.operator().work(&facts.of_inputs(node), &made)?;
        }
        Ok(work)
    }

    fn shape_operands(&self) -> &[usize] {
        &self.shape_operands
    }

    fn kinds(&self, inputs: &[Option<&Kind>]) -> Option<Vec<Kind>> {
        let given: Vec<Option<&Kind>> = inputs.iter().copied().filter(Option::is_some).collect();
        Some(self.body.kinds_of_outputs(&given))
    }

    fn draws(&self) -> bool {
        self.body.nodes.iter().any(|node| node.op.operator().draws())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::case::{Case, graph_of_case};
    use super::*;
    use crate::array::Numbers;

    /// The first output of the case's node, on the reference.
    pub(in crate::ops) fn evaluated(case: &Case) -> Vec<f64> {
        evaluated_output(case, 0)
    }

    /// Output `i` of the case's node, on the reference.
    pub(in crate::ops) fn evaluated_output(case: &Case, i: usize) -> Vec<f64> {
        let graph = graph_of_case(case).unwrap();
        let inputs: Vec<Option<Array>> =
            case.inputs.iter().map(|input| input.as_ref().map(|t| Array::from_tensor(t).unwrap())).collect();
        let facts: Vec<Option<Fact>> =
            inputs.iter().map(|input| input.as_ref().map(|array| Fact::of_array(array.clone()))).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        graph.nodes[0].op.infer(&facts).unwrap();
        let inputs: Vec<Option<&Array>> = inputs.iter().map(Option::as_ref).collect();
        match graph.nodes[0].op.operator().eval(&inputs).unwrap().remove(i).data {
            Numbers::Float(values) => values,
            Numbers::Int(values) => values.into_iter().map(|value| value as f64).collect(),
            Numbers::Text(_) => vec![],
        }
    }

    /// Only what a wanted output needs comes into the graph, and an output that two want is copied.
    #[test]
    fn bodies_take_the_place_of_their_nodes() {
        let mut case = Case::new("SkipGroupNorm", "expanded").domain("com.microsoft").opset(1);
        case = case.int("groups", 3).int("activation", 1).outputs(2);
        let image = || case::random(&[1, 2, 2, 3]);
        case = case.input(image()).input(case::random(&[3])).input(case::random(&[3])).input(image());
        let names = |graph: &Graph| graph.nodes.iter().map(|node| node.op_type.clone()).collect::<Vec<_>>();
        let whole = expanded(Arc::new(graph_of_case(&case).unwrap())).unwrap();
        assert!(names(&whole).contains(&"GroupNormalization".to_string()), "{whole}");
        whole.verify().unwrap();
        let sum = case::graph_wanting(&case, &[false, true]).unwrap();
        let sum = expanded(Arc::new(sum)).unwrap();
        assert!(names(&sum).contains(&"Add".to_string()), "{sum}");
        assert!(whole.nodes.iter().all(|node| node.name.starts_with("SkipGroupNorm/expanded/")));
    }
}
