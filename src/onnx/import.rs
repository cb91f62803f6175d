//! From `GraphProto` to `Graph`: names become ids, and scopes of subgraphs and functions, and constants, are resolved.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::external::External;
use super::order::{order, title};
use super::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
};
use super::types::DeclaredType;
use super::{sparse, tensor, types};
use crate::budget::{Budget, Work};
use crate::error::Why;
use crate::graph::{Value, ValueId};
use crate::ops::{Attr, Attributes, Graph, Node, NodeDef, Op, Operation};
use crate::{Dim, Error, Result, Tensor, UnsupportedNode};

/// The deepest nesting of graphs in graphs, and of functions in functions. Real models have a handful.
const MAX_DEPTH: usize = 48;

/// Walks over a model and builds its graph.
pub(super) struct Importer<'m> {
    ir_version: i64,
    pub(super) external: External,
    pub(super) functions: HashMap<FunctionId<'m>, &'m FunctionProto>,
    /// The functions that are being inlined, the outermost first.
    pub(super) calls: Vec<FunctionId<'m>>,
    pub(super) budget: Budget,
    /// The graphs under construction: the model's, and the subgraphs around the current node.
    graphs: Vec<Building>,
    pub(super) scopes: Vec<Scope<'m>>,
    unsupported: Vec<UnsupportedNode>,
}

/// The domain, name and overload of a function.
pub(super) type FunctionId<'m> = (&'m str, &'m str, &'m str);

#[derive(Default)]
struct Building {
    graph: Graph,
    /// What the operator's parser needs of each node of `graph`.
    unparsed: Vec<Unparsed>,
    /// The values of the enclosing graph for which `graph.captures` stand.
    captured: Vec<ValueId>,
    /// The values among `graph.defaults`.
    defaults: HashSet<ValueId>,
    /// Names of values with which names in inlined functions may clash.
    taken: HashSet<String>,
    clashes: usize,
}

/// A node whose operator is parsed later, when it is known which of the node's outputs are needed.
struct Unparsed {
    domain: String,
    op_type: String,
    attributes: Attributes,
    /// The number of inputs, at the end of the list, that are captures of the node's subgraphs.
    captures: usize,
    /// The unsupported nodes of those subgraphs.
    unsupported: Vec<UnsupportedNode>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum ScopeKind {
    Main,
    /// It sees the names of the scope around it.
    Subgraph,
    /// It sees its inputs only.
    Function,
}

/// The meaning of names at one place of the model.
pub(super) struct Scope<'m> {
    pub(super) kind: ScopeKind,
    /// The index of its graph in `Importer::graphs`.
    pub(super) graph: usize,
    /// `None` for a function's input that the caller leaves out.
    pub(super) names: HashMap<&'m str, Option<ValueId>>,
    pub(super) infos: HashMap<&'m str, &'m ValueInfoProto>,
    pub(super) context: Rc<Context<'m>>,
}

/// What a function fixes for its nodes, and for the subgraphs in them.
#[derive(Default)]
pub(super) struct Context<'m> {
    /// The text that is put before names of nodes and values.
    pub(super) prefix: String,
    pub(super) opsets: HashMap<&'m str, i64>,
    /// The attributes to which references refer; `None` outside of functions.
    pub(super) attributes: Option<HashMap<&'m str, &'m AttributeProto>>,
}

pub(super) fn invalid<T>(what: String) -> Result<T> {
    Err(Error::invalid(what))
}

/// ONNX's own domain has two names.
pub(super) fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

pub(super) fn opsets(imports: &[OperatorSetIdProto]) -> Result<HashMap<&str, i64>> {
    let mut opsets = HashMap::new();
    for import in imports {
        let other = opsets.insert(domain(&import.domain), import.version);
        if other.is_some_and(|version| version != import.version) {
            return invalid(format!("domain '{}' is imported in two versions", import.domain));
        }
    }
    Ok(opsets)
}

impl<'m> Importer<'m> {
    pub(super) fn new(model: &'m ModelProto, external: External, budget: Budget) -> Result<Importer<'m>> {
        let mut functions = HashMap::new();
        for f in &model.functions {
            let id = (domain(&f.domain), f.name.as_str(), f.overload.as_str());
            if functions.insert(id, f).is_some() {
                return invalid(format!("function '{}' is defined twice", f.name));
            }
        }
        let context = Context { opsets: opsets(&model.opset_import)?, ..Context::default() };
        let mut importer = Importer {
            ir_version: model.ir_version,
            external,
            functions,
            calls: Vec::new(),
            budget,
            graphs: Vec::new(),
            scopes: Vec::new(),
            unsupported: Vec::new(),
        };
        importer.push(ScopeKind::Main, Rc::new(context))?;
        Ok(importer)
    }

    /// Imports the model's own graph.
    pub(super) fn main(&mut self, proto: &'m GraphProto) -> Result<Graph> {
        self.fill(proto)?;
        let done = self.graphs.pop().unwrap_or_default();
        self.finished(done.graph, done.unparsed)
    }

    pub(super) fn unsupported(self) -> Vec<UnsupportedNode> {
        self.unsupported
    }

    /// Imports a subgraph. Returns the values around it that it uses, too.
    pub(super) fn subgraph(&mut self, proto: &'m GraphProto) -> Result<(Graph, Vec<ValueId>)> {
        let context = self.scope().context.clone();
        self.push(ScopeKind::Subgraph, context)?;
        self.fill(proto)?;
        self.scopes.pop();
        let done = self.graphs.pop().unwrap_or_default();
        Ok((self.finished(done.graph, done.unparsed)?, done.captured))
    }

    /// The graph with parsed operators, and without the nodes that no output needs. A node that is not needed must not make a
    /// model fail, nor an output that nothing reads a node.
    fn finished(&mut self, mut graph: Graph, unparsed: Vec<Unparsed>) -> Result<Graph> {
        graph.verify()?;
        let needed = graph.needed();
        for (mut node, unparsed) in std::mem::take(&mut graph.nodes).into_iter().zip(unparsed) {
            let listed: Vec<bool> = node.outputs.iter().map(Option::is_some).collect();
            node.outputs.iter_mut().for_each(|output| *output = output.filter(|id| needed[id.index()]));
            let Some(last) = node.outputs.iter().rposition(Option::is_some) else { continue };
            let Unparsed { domain, op_type, attributes, captures, unsupported } = unparsed;
            self.unsupported.extend(unsupported);
            let formal = &node.inputs[..node.inputs.len() - captures];
            let inputs: Vec<bool> = formal.iter().map(Option::is_some).collect();
            let outputs: Vec<bool> = node.outputs.iter().map(Option::is_some).collect();
            let opset = node.opset;
            let def = NodeDef {
                op_type: &op_type,
                opset,
                attributes: &attributes,
                inputs: &inputs,
                listed: &listed,
                outputs: &outputs,
            };
            node.op = match Operation::parse(&domain, &def) {
                Ok(op) => op,
                Err(Why::Refused(reason) | Why::TooWide(reason)) => Operation::unsupported(reason),
                Err(Why::NoMemory(none)) => {
                    return Err(none.within(format_args!("node '{}'", node.name)).into());
                }
            };
            if let Op::Unsupported(reason) = &*node.op {
                let (name, op, reason) = (node.name.clone(), node.op_type.clone(), reason.clone());
                self.unsupported.push(UnsupportedNode { node: name, op, opset, reason });
            }
            node.attributes = attributes;
            node.outputs.truncate(last + 1);
            graph.complete(&mut node);
            graph.nodes.push(node);
        }
        Ok(graph)
    }

    pub(super) fn push(&mut self, kind: ScopeKind, context: Rc<Context<'m>>) -> Result<()> {
        if self.scopes.len() >= MAX_DEPTH {
            return invalid(format!("graphs or functions are nested deeper than {MAX_DEPTH}"));
        }
        if kind != ScopeKind::Function {
            self.graphs.push(Building::default());
        }
        let graph = self.graphs.len() - 1;
        self.scopes.push(Scope { kind, graph, names: HashMap::new(), infos: HashMap::new(), context });
        Ok(())
    }

    // The stacks are never empty during an import: `new` and `push` guarantee it.

    pub(super) fn scope(&mut self) -> &mut Scope<'m> {
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }

    fn building(&mut self) -> &mut Building {
        let last = self.graphs.len() - 1;
        &mut self.graphs[last]
    }

    pub(super) fn graph(&mut self) -> &mut Graph {
        &mut self.building().graph
    }

    fn fill(&mut self, proto: &'m GraphProto) -> Result<()> {
        self.graph().name = proto.name.clone();
        if !self.functions.is_empty() {
            let made = proto.node.iter().flat_map(|node| &node.output);
            let given = proto.input.iter().map(|input| &input.name);
            let held = proto.initializer.iter().map(|tensor| &tensor.name);
            self.building().taken.extend(made.chain(given).chain(held).cloned());
        }
        let infos = proto.value_info.iter().chain(&proto.input).chain(&proto.output);
        self.scope().infos = infos.map(|info| (info.name.as_str(), info)).collect();
        self.initializers(proto)?;
        self.inputs(proto)?;
        for i in order(&proto.node)? {
            self.node(&proto.node[i])?;
        }
        self.outputs(proto)
    }

    fn initializers(&mut self, proto: &'m GraphProto) -> Result<()> {
        for initializer in &proto.initializer {
            let tensor = tensor::import(initializer, &mut self.external)?;
            self.define_constant(&initializer.name, tensor, "an initializer")?;
        }
        for initializer in &proto.sparse_initializer {
            let (name, tensor) = sparse::import(initializer, &mut self.external, &self.budget)?;
            self.define_constant(name, tensor, "a sparse initializer")?;
        }
        Ok(())
    }

    fn inputs(&mut self, proto: &'m GraphProto) -> Result<()> {
        let mut seen = HashSet::new();
        for input in &proto.input {
            if !seen.insert(input.name.as_str()) {
                return invalid(format!("the graph input '{}' is listed twice", input.name));
            }
            if let Some(&Some(id)) = self.scope().names.get(input.name.as_str()) {
                self.default(id, input);
                continue;
            }
            let id = self.define(&input.name, "a graph input")?;
            self.graph().inputs.push(id);
        }
        Ok(())
    }

    /// An initializer that is also listed as an input. Up to IR version 3 all had to be listed; later, the caller may give
    /// another value.
    fn default(&mut self, id: ValueId, input: &ValueInfoProto) {
        if self.ir_version < 4 || self.scope().kind != ScopeKind::Main {
            return;
        }
        let shape = types::declared(input).shape;
        let graph = self.graph();
        let value = &mut graph.values[id.index()];
        let fits = |(dim, &size): (&Dim, &usize)| !matches!(dim, Dim::Known(n) if *n != size);
        // A declared shape that the default itself does not have is taken to be a mistake.
        if let (Some(tensor), Some(dims)) = (&value.constant, shape)
            && dims.len() == tensor.shape().len()
            && dims.iter().zip(tensor.shape()).all(fits)
        {
            value.shape = Some(dims);
        }
        graph.defaults.push((graph.inputs.len(), id));
        self.building().defaults.insert(id);
    }

    fn outputs(&mut self, proto: &'m GraphProto) -> Result<()> {
        for output in &proto.output {
            let name = output.name.as_str();
            let Some(Some(id)) = self.lookup(self.scopes.len() - 1, name)? else {
                return invalid(format!("nothing makes the graph output '{name}'"));
            };
            let id = if self.scope().kind == ScopeKind::Main { self.named(id, name)? } else { id };
            self.graph().outputs.push(id);
        }
        Ok(())
    }

    /// The value as graph output `name`. A value with another name, which a function returned, goes through an `Identity`.
    fn named(&mut self, id: ValueId, name: &'m str) -> Result<ValueId> {
        let value = self.graph().value(id);
        if value.name == name {
            return Ok(id);
        }
        let renamed = Value { name: name.into(), constant: None, ..value.clone() };
        let output = self.graph().add_value(renamed);
        let identity = Unparsed {
            domain: String::new(),
            op_type: "Identity".into(),
            attributes: Attributes::default(),
            captures: 0,
            unsupported: vec![],
        };
        self.apply(identity, name.into(), vec![Some(id)], vec![Some(output)])?;
        self.scope().names.insert(name, Some(output));
        Ok(output)
    }

    /// The value of a name in scope `level`. A name from around a subgraph becomes a capture of the subgraph, a constant from
    /// around it a constant in it.
    pub(super) fn lookup(&mut self, level: usize, name: &'m str) -> Result<Option<Option<ValueId>>> {
        let Some(scope) = self.scopes.get(level) else { return Ok(None) };
        if let Some(found) = scope.names.get(name) {
            return Ok(Some(*found));
        }
        let around = level.checked_sub(1).filter(|_| scope.kind == ScopeKind::Subgraph);
        let Some(around) = around else { return Ok(None) };
        let Some(found) = self.lookup(around, name)? else { return Ok(None) };
        let found = found.map(|outer| self.repeated(outer, around, level)).transpose()?;
        self.scopes[level].names.insert(name, found);
        Ok(Some(found))
    }

    /// The value of scope `level` that stands for value `outer` of scope `around`.
    fn repeated(&mut self, outer: ValueId, around: usize, level: usize) -> Result<ValueId> {
        let building = &self.graphs[self.scopes[around].graph];
        self.charge_copy(building.graph.value(outer))?;
        let mut value = building.graph.value(outer).clone();
        // The caller may replace a default, so it is captured.
        if building.defaults.contains(&outer) {
            value.constant = None;
        }
        let is_constant = value.constant.is_some();
        let inner = &mut self.graphs[self.scopes[level].graph];
        let id = inner.graph.add_value(value);
        if !is_constant {
            inner.graph.captures.push(id);
            inner.captured.push(outer);
        }
        Ok(id)
    }

    /// Charges another copy of a value: the file has its name and its declared shape only once.
    fn charge_copy(&self, value: &Value) -> Result<()> {
        let dim = |dim: &Dim| match dim {
            Dim::Symbol(name) => size_of::<Dim>() + name.len(),
            _ => size_of::<Dim>(),
        };
        let dims = value.shape.iter().flatten().map(dim).sum::<usize>();
        let bytes = size_of::<Value>() + value.name.len() + dims;
        self.budget.charge(Work::default(), bytes as u64).map_err(|over| {
            let name = &value.name;
            let often = |over| {
                format!("its subgraphs and functions repeat values too often, '{name}' at last: {over}")
            };
            over.error(format_args!("value '{name}'"), |over| Error::invalid(often(over)))
        })
    }

    /// Binds a name to a value in the current scope.
    pub(super) fn bind(&mut self, name: &'m str, id: Option<ValueId>, what: &str) -> Result<()> {
        if name.is_empty() {
            return invalid(format!("{what} has no name"));
        }
        if self.scope().names.insert(name, id).is_some() {
            return invalid(format!("{what} is called '{name}', and so is another value"));
        }
        Ok(())
    }

    /// A new value of the current scope, with its declared type.
    fn define(&mut self, name: &'m str, what: &str) -> Result<ValueId> {
        let DeclaredType { dtype, shape, container } = self.declared(name);
        let value = Value { name: self.value_name(name), dtype, shape, container, constant: None };
        if !self.calls.is_empty() {
            self.charge_copy(&value)?;
        }
        let id = self.graph().add_value(value);
        self.bind(name, Some(id), what)?;
        Ok(id)
    }

    fn define_constant(&mut self, name: &'m str, tensor: Tensor, what: &str) -> Result<()> {
        let own_name = self.value_name(name);
        let id = self.graph().add_constant(own_name, tensor);
        self.bind(name, Some(id), what)
    }

    /// The name of a value in the graph: the file's, or a name that tells to which call of a function the value belongs.
    fn value_name(&mut self, name: &str) -> String {
        if self.scope().kind != ScopeKind::Function {
            return name.to_string();
        }
        let own_name = format!("{}{name}", self.scope().context.prefix);
        let building = self.building();
        let mut name = own_name.clone();
        while !building.taken.insert(name.clone()) {
            building.clashes += 1;
            name = format!("{own_name}_{}", building.clashes);
        }
        name
    }

    /// Gives a value of an inlined function the name and the declared type that the caller has for it.
    pub(super) fn rename(&mut self, id: ValueId, name: &'m str) {
        let DeclaredType { dtype, shape, container } = self.declared(name);
        let name = self.value_name(name);
        let value = &mut self.graph().values[id.index()];
        value.name = name;
        value.dtype = value.dtype.or(dtype);
        value.shape = value.shape.take().or(shape);
        value.container = value.container.take().or(container);
    }

    /// What the current scope declares of a value.
    fn declared(&mut self, name: &str) -> DeclaredType {
        self.scope().infos.get(name).map_or_else(DeclaredType::default, |info| types::declared(info))
    }

    pub(super) fn node(&mut self, node: &'m NodeProto) -> Result<()> {
        self.charge(node)?;
        let id = (domain(&node.domain), node.op_type.as_str(), node.overload.as_str());
        if let Some(function) = self.functions.get(&id).copied() {
            return self.inline(node, id, function);
        }
        let mut inputs = self.node_inputs(node)?;
        let before = self.unsupported.len();
        let (attributes, captured) = self.attributes(node)?;
        let unsupported = self.unsupported.split_off(before);
        if id.0.is_empty() && id.1 == "Constant" {
            return self.constant(node, &attributes);
        }
        let formal = inputs.len();
        inputs.extend(captured.into_iter().map(Some));
        let name = format!("{}{}", self.scope().context.prefix, title(node));
        let mut outputs = Vec::with_capacity(node.output.len());
        for output in &node.output {
            let what = || format!("an output of node '{name}'");
            outputs.push(if output.is_empty() { None } else { Some(self.define(output, &what())?) });
        }
        let captures = inputs.len() - formal;
        let unparsed = Unparsed {
            domain: domain(&node.domain).into(),
            op_type: node.op_type.clone(),
            attributes,
            captures,
            unsupported,
        };
        self.apply(unparsed, name, inputs, outputs)
    }

    pub(super) fn node_inputs(&mut self, node: &'m NodeProto) -> Result<Vec<Option<ValueId>>> {
        let level = self.scopes.len() - 1;
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            let found = if name.is_empty() { Some(None) } else { self.lookup(level, name)? };
            match found {
                Some(id) => inputs.push(id),
                None => return invalid(format!("node '{}' uses '{name}', which nothing makes", title(node))),
            }
        }
        Ok(inputs)
    }

    /// Adds a node.
    fn apply(
        &mut self,
        unparsed: Unparsed,
        name: String,
        inputs: Vec<Option<ValueId>>,
        outputs: Vec<Option<ValueId>>,
    ) -> Result<()> {
        let Unparsed { domain, op_type, .. } = &unparsed;
        let opset = self.opset(domain, op_type, &name)?;
        let op_type = if domain.is_empty() { op_type.clone() } else { format!("{domain}.{op_type}") };
        let op = Operation::unsupported("");
        let attributes = Attributes::default();
        self.graph().nodes.push(Node { name, op_type, opset, attributes, op, inputs, outputs });
        self.building().unparsed.push(unparsed);
        Ok(())
    }

    fn opset(&mut self, in_domain: &str, op_type: &str, name: &str) -> Result<i64> {
        let here = self.scope().context.opsets.get(in_domain).copied();
        // A function that does not import the domain gets the model's version.
        match here.or_else(|| self.scopes.first()?.context.opsets.get(in_domain).copied()) {
            Some(opset) => Ok(opset),
            None => invalid(format!(
                "node '{name}' is a {op_type} of domain '{in_domain}', which the model imports no opset of"
            )),
        }
    }

    /// Makes a constant of the graph from a `Constant` node.
    fn constant(&mut self, node: &'m NodeProto, attributes: &Attributes) -> Result<()> {
        let mut entries = attributes.0.iter();
        let (Some((key, attr)), None) = (entries.next(), entries.next()) else {
            return invalid(format!("Constant '{}' must have one attribute", title(node)));
        };
        let tensor = match (key.as_str(), attr) {
            ("value" | "sparse_value", Attr::Tensor(tensor)) => tensor.clone(),
            ("value_int", Attr::Int(v)) => Tensor::from_slice(&[], &[*v])?,
            ("value_ints", Attr::Ints(v)) => Tensor::from_slice(&[v.len()], v)?,
            ("value_float", Attr::Float(v)) => Tensor::from_slice(&[], &[*v])?,
            ("value_floats", Attr::Floats(v)) => Tensor::from_slice(&[v.len()], v)?,
            ("value_string", Attr::String(v)) => Tensor::from_strings(&[], vec![v.clone()])?,
            ("value_strings", Attr::Strings(v)) => Tensor::from_strings(&[v.len()], v.clone())?,
            (key, _) => {
                return invalid(format!("Constant '{}' cannot have a '{key}' like this", title(node)));
            }
        };
        match node.output.as_slice() {
            [output] => self.define_constant(output, tensor, "a Constant's output"),
            outputs => invalid(format!("Constant '{}' has {} outputs", title(node), outputs.len())),
        }
    }
}
