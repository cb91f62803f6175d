//! Lowering: units become kernel calls over device tensors.

use std::collections::HashMap;

use super::Options;
use super::facts::{Fact, Facts, node_error};
use super::fusion::Unit;
use super::program::{Call, OutputSource, Packing, Place, Program, Step, TensorId, WeightKey};
use crate::error::{Why, refuse};
use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::kernels::elementwise::{self, Elementwise};
use crate::kernels::expr::{Builder, Expr, Reg, Scalar};
use crate::kernels::fused::{Fused, Index, Operand, index_of};
use crate::kernels::{Kernel, Target};
use crate::ops::Op;
use crate::reference::Array;
use crate::reference::array::Numbers;
use crate::{DType, Error, Result, Tensor, UnsupportedNode};

/// What an operator's `lower` sees and writes to.
pub(crate) struct Lower<'a> {
    pub(crate) target: &'a Target,
    graph: &'a Graph,
    facts: &'a Facts,
    program: &'a mut Program,
    tensors: &'a mut HashMap<ValueId, TensorId>,
    weights: &'a mut HashMap<WeightKey, TensorId>,
    unit: &'a Unit,
    node: &'a Node,
}

/// Fused code at the end of a kernel: what becomes of each element that the kernel computes.
pub(crate) struct Epilogue {
    pub(crate) fused: Fused,
    pub(crate) tensors: Vec<TensorId>,
    pub(crate) params: Vec<u32>,
}

/// Shapes, of as many elements as an operand and the result have, under which broadcasting pairs their elements: a scale for
/// each channel is `[c, 1, 1]` against `[n, c, h, w]`, one for each pair of columns `[rows, pairs, 1]` against
/// `[rows, pairs, 2]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pairing {
    pub(crate) operand: Vec<usize>,
    pub(crate) result: Vec<usize>,
}

/// Lowers units in order. All nodes that cannot be lowered are reported in one error.
pub(crate) fn lower(
    graph: &Graph,
    facts: &Facts,
    units: Vec<Unit>,
    target: &Target,
    options: &Options,
) -> Result<Program> {
    let mut program = Program { inputs: vec![None; graph.inputs.len()], ..Program::default() };
    let mut tensors = HashMap::new();
    let mut weights = HashMap::new();
    let mut unsupported = Vec::new();
    for unit in &units {
        let Some(&first) = unit.anchor.iter().chain(&unit.pointwise).next() else { continue };
        program.device_nodes.extend(unit.anchor.iter().chain(&unit.pointwise));
        let node = &graph.nodes[first.index()];
        let mut cx = Lower {
            target,
            graph,
            facts,
            program: &mut program,
            tensors: &mut tensors,
            weights: &mut weights,
            unit,
            node,
        };
        if let Err(why) = cx.unit() {
            let op = node.op_type.clone();
            match node_error(node, &facts.of_inputs(node), why) {
                Error::Node { node: name, opset, inputs, reason, .. } => {
                    let reason = format!("{reason} (inputs {inputs})");
                    unsupported.push(UnsupportedNode { node: name, op, opset, reason });
                }
                other => return Err(other),
            }
        }
    }
    if !unsupported.is_empty() {
        return Err(Error::Unsupported(unsupported));
    }
    let empty = Unit { anchor: None, pointwise: vec![], outputs: vec![] };
    for (i, &id) in graph.outputs.iter().chain(&options.keep).enumerate() {
        let output = output(graph, facts, &mut program, &mut tensors, &mut weights, target, &empty, i, id)?;
        program.outputs.push(output);
    }
    Ok(program)
}

/// Where graph output `i` comes from. Unless a kernel writes it already, a copy does.
#[allow(clippy::too_many_arguments)]
fn output(
    graph: &Graph,
    facts: &Facts,
    program: &mut Program,
    tensors: &mut HashMap<ValueId, TensorId>,
    weights: &mut HashMap<WeightKey, TensorId>,
    target: &Target,
    unit: &Unit,
    i: usize,
    id: ValueId,
) -> Result<OutputSource> {
    let name = graph.value(id).name.clone();
    let fact =
        facts.get(id).ok_or_else(|| Error::InvalidModel(format!("nothing makes the output '{name}'")))?;
    if let Some(tensor) = &graph.value(id).constant {
        return Ok(OutputSource::Known(tensor.clone()));
    }
    if let Some(array) = fact.constant() {
        return Ok(OutputSource::Known(array.to_tensor().map_err(|why| Error::Tensor(why.0))?));
    }
    let node = Node {
        name: name.clone(),
        op_type: "Identity".into(),
        opset: 1,
        op: Op::Unsupported(String::new()),
        inputs: vec![Some(id)],
        outputs: vec![],
    };
    let mut cx = Lower { target, graph, facts, program, tensors, weights, unit, node: &node };
    let fail = |why: Why| Error::InvalidModel(format!("output '{name}': {why}"));
    let tensor = cx.tensor(id).map_err(fail)?;
    let place = cx.program.tensor(tensor).place;
    let tensor = if place == Place::Arena {
        cx.program.tensors[tensor.index()].place = Place::Output(i);
        tensor
    } else {
        let (scalar, shape) = (cx.program.tensor(tensor).scalar, fact.shape.clone());
        let output = cx.program.add_tensor(name.clone(), scalar, shape, Place::Output(i));
        cx.program.steps.push(Step::View { output, of: tensor, offset: 0 });
        output
    };
    Ok(OutputSource::Device { tensor, dtype: fact.dtype, shape: fact.shape.clone() })
}

/// The kernel call that copies `count` words from one tensor to another.
pub(crate) fn copy(
    scalar: Scalar,
    from: TensorId,
    to: TensorId,
    count: usize,
    target: &Target,
    node: String,
) -> Call {
    let mut builder = Builder::default();
    let word = if scalar == Scalar::Bool { Scalar::U32 } else { scalar };
    let value = builder.load(0, word);
    let (expr, _) = builder.finish(vec![value]);
    let fused = Fused { expr, operands: vec![Operand { scalar: word, index: Index::Linear }] };
    Call {
        kernel: Elementwise { fused, in_place: None }.into(),
        tensors: vec![from, to],
        params: vec![count as u32],
        grid: target.grid(elementwise::groups(count)),
        node,
    }
}

impl<'a> Lower<'a> {
    /// The fact of input `i`, which the operator requires.
    pub(crate) fn fact(&self, i: usize) -> Result<&'a Fact, Why> {
        match self.optional_fact(i) {
            Some(fact) => Ok(fact),
            None => refuse!("input {i} is required"),
        }
    }

    /// The fact of input `i`, if it is given.
    pub(crate) fn optional_fact(&self, i: usize) -> Option<&'a Fact> {
        self.node.inputs.get(i).copied().flatten().and_then(|id| self.facts.get(id))
    }

    /// Refuses dtypes that the device does not compute with.
    pub(crate) fn check_dtypes(&self) -> Result<(), Why> {
        let ids = self.node.data_inputs().chain(self.node.outputs.iter().copied()).flatten();
        match ids.filter_map(|id| self.facts.get(id)).find(|fact| Scalar::of(fact.dtype).is_none()) {
            Some(fact) => refuse!("the device does not compute with {}", fact.dtype),
            None => Ok(()),
        }
    }

    /// The facts of all inputs.
    pub(crate) fn facts(&self) -> Vec<Option<&'a Fact>> {
        self.facts.of_inputs(self.node)
    }

    /// The fact of output `i`, before any epilogue; `None` if nobody wants it.
    pub(crate) fn optional_out(&self, i: usize) -> Option<&'a Fact> {
        self.node.outputs.get(i).copied().flatten().and_then(|id| self.facts.get(id))
    }

    /// The fact of output `i`, before any epilogue.
    pub(crate) fn out(&self, i: usize) -> Result<&'a Fact, Why> {
        match self.optional_out(i) {
            Some(fact) => Ok(fact),
            None => refuse!("output {i} is missing"),
        }
    }

    /// Input `i` on the device, as it lies.
    pub(crate) fn input(&mut self, i: usize) -> Result<TensorId, Why> {
        match self.node.inputs.get(i).copied().flatten() {
            Some(id) => self.tensor(id),
            None => refuse!("input {i} is required"),
        }
    }

    /// Whether the model holds input `i` as a constant.
    pub(crate) fn is_constant(&self, i: usize) -> bool {
        let value = self.node.inputs.get(i).copied().flatten();
        value.is_some_and(|id| self.graph.value(id).constant.is_some())
    }

    /// Input `i` in the order of `packing`, if the model holds it as a constant.
    pub(crate) fn packed(&mut self, i: usize, packing: Packing) -> Option<TensorId> {
        let value = self.node.inputs.get(i).copied().flatten()?;
        self.graph.value(value).constant.as_ref()?;
        self.weight(WeightKey { value, packing: Some(packing) }).ok()
    }

    /// Output `i` on the device; with an epilogue, the epilogue's result.
    pub(crate) fn output(&mut self, i: usize) -> Result<TensorId, Why> {
        match (self.unit.pointwise.is_empty(), self.unit.outputs.first(), self.node.outputs.get(i)) {
            (false, Some(&id), _) | (true, _, Some(&Some(id))) => self.new_tensor(id),
            _ => refuse!("output {i} is missing"),
        }
    }

    /// A tensor that only this operator's calls use.
    pub(crate) fn temporary(&mut self, scalar: Scalar, shape: &[usize]) -> TensorId {
        self.program.add_tensor(format!("{}.temporary", self.node.name), scalar, shape.to_vec(), Place::Arena)
    }

    /// Elements of `of` from `offset` on, as a tensor of their own.
    pub(crate) fn window(&mut self, of: TensorId, offset: usize, shape: &[usize]) -> TensorId {
        let output = self.temporary(self.scalar(of), shape);
        self.program.steps.push(Step::View { output, of, offset });
        output
    }

    /// Emits one dispatch of `groups` workgroups; nothing if there are none.
    pub(crate) fn call(
        &mut self,
        kernel: impl Into<Kernel>,
        tensors: Vec<TensorId>,
        params: Vec<u32>,
        groups: usize,
    ) {
        self.call_grid(kernel, tensors, params, self.target.grid(groups));
    }

    /// Emits one dispatch over a grid of the kernel's own making.
    pub(crate) fn call_grid(
        &mut self,
        kernel: impl Into<Kernel>,
        tensors: Vec<TensorId>,
        params: Vec<u32>,
        grid: [u32; 3],
    ) {
        let empty = tensors.last().is_some_and(|&t| self.program.tensor(t).count == 0);
        if empty || grid.contains(&0) {
            return;
        }
        let node = self.label();
        self.program.steps.push(Step::Call(Call { kernel: kernel.into(), tensors, params, grid, node }));
    }

    /// Emits one kernel that computes output `i`, an element at a time, from operands that broadcast to it from the given
    /// shapes.
    pub(crate) fn elementwise(
        &mut self,
        i: usize,
        operands: &[(TensorId, &[usize])],
        build: impl FnOnce(&mut Builder, &[Reg]) -> Reg,
    ) -> Result<(), Why> {
        let out = self.out(i)?;
        let output = self.output(i)?;
        self.elementwise_to(output, (out.dtype, &out.shape), operands, build);
        Ok(())
    }

    /// As [`Lower::elementwise`], into a tensor of the given dtype and shape.
    pub(crate) fn elementwise_to(
        &mut self,
        output: TensorId,
        (dtype, shape): (DType, &[usize]),
        operands: &[(TensorId, &[usize])],
        build: impl FnOnce(&mut Builder, &[Reg]) -> Reg,
    ) {
        let count: usize = shape.iter().product();
        let mut builder = Builder::of_shape(shape);
        let (mut specs, mut params, mut regs) = (vec![], vec![count as u32], vec![]);
        for (n, &(tensor, from)) in operands.iter().enumerate() {
            let (index, words) = index_of(from, shape);
            specs.push(Operand { scalar: self.scalar(tensor), index });
            params.extend(words);
            regs.push(builder.load(n, self.scalar(tensor)));
        }
        let value = build(&mut builder, &regs);
        let value = builder.narrow(value, dtype);
        let (expr, constants) = builder.finish(vec![value]);
        params.extend(constants);
        let tensors = operands.iter().map(|operand| operand.0).chain([output]).collect();
        let kernel = Elementwise { fused: Fused { expr, operands: specs }, in_place: None };
        self.call(kernel, tensors, params, elementwise::groups(count));
    }

    /// Output `i` becomes a copy of input `input`, for calls that then write parts of it.
    pub(crate) fn copy_input(&mut self, i: usize, input: usize) -> Result<(), Why> {
        let (from, to) = (self.input(input)?, self.output(i)?);
        let count = self.out(i)?.count();
        if count > 0 {
            let call = copy(self.scalar(from), from, to, count, self.target, self.label());
            self.program.steps.push(Step::Call(call));
        }
        Ok(())
    }

    /// A table of words that the host has computed for this plan.
    pub(crate) fn words(&mut self, words: Vec<u32>) -> Result<TensorId, Why> {
        let shape = [words.len()];
        let table = Tensor::from_slice(&shape, &words).map_err(|error| Why(error.to_string()))?;
        let place = Place::Constant(self.program.constants.len());
        self.program.constants.push(table);
        Ok(self.program.add_tensor(format!("{}.table", self.node.name), Scalar::U32, shape.to_vec(), place))
    }

    /// Output `i` is an array that the host has computed for this plan, from shapes and shape operands.
    pub(crate) fn known(&mut self, i: usize, array: &Array) -> Result<(), Why> {
        let place = Place::Constant(self.program.constants.len());
        self.program.constants.push(array.to_tensor()?);
        let output = self.output(i)?;
        let (name, scalar) = (format!("{}.known", self.node.name), self.scalar(output));
        let of = self.program.add_tensor(name, scalar, array.shape.clone(), place);
        self.view(i, of, 0)
    }

    /// Every word of `tensor` becomes `word`.
    pub(crate) fn fill(&mut self, tensor: TensorId, word: u32) {
        let mut builder = Builder::default();
        let value = builder.constant(Scalar::U32, f64::from(word));
        let (expr, constants) = builder.finish(vec![value]);
        let count = self.program.tensor(tensor).count;
        let params = std::iter::once(count as u32).chain(constants).collect();
        let kernel = Elementwise { fused: Fused { expr, operands: vec![] }, in_place: None };
        self.call(kernel, vec![tensor], params, elementwise::groups(count));
    }

    /// Output `i` is tensor `of` from element `offset` on: no kernel, if memory can be laid out so.
    pub(crate) fn view(&mut self, i: usize, of: TensorId, offset: usize) -> Result<(), Why> {
        let output = self.output(i)?;
        self.program.steps.push(Step::View { output, of, offset });
        Ok(())
    }

    /// `part` fills `whole` from element `offset` on: no kernel, if memory can be laid out so.
    pub(crate) fn part(&mut self, whole: TensorId, part: TensorId, offset: usize) {
        self.program.steps.push(Step::Part { whole, part, offset });
    }

    /// How the device holds a tensor.
    pub(crate) fn scalar(&self, tensor: TensorId) -> Scalar {
        self.program.tensor(tensor).scalar
    }

    /// The shape of a tensor.
    pub(crate) fn shape(&self, tensor: TensorId) -> &[usize] {
        &self.program.tensor(tensor).shape
    }

    /// The epilogue to put after this operator's value; the value itself, rounded to its dtype, where nothing is fused.
    /// `matrix` is (rows, columns) of the kernel's result: vectors along either are then indexed without a division.
    pub(crate) fn epilogue(&mut self, matrix: Option<(usize, usize)>) -> Result<Epilogue, Why> {
        let scalar = Scalar::of(self.out(0)?.dtype).unwrap_or(Scalar::F32);
        self.epilogue_after(matrix, scalar, |_, value| Ok(value))
    }

    /// As [`Lower::epilogue`], where `finish` makes the operator's value out of what its kernel accumulated in a register
    /// of type `scalar`: bias, scale and quantisation are written there.
    pub(crate) fn epilogue_after(
        &mut self,
        matrix: Option<(usize, usize)>,
        scalar: Scalar,
        finish: impl FnOnce(&mut Code<'_, 'a>, Reg) -> Result<Reg, Why>,
    ) -> Result<Epilogue, Why> {
        let Some(&Some(own)) = self.node.outputs.first() else { refuse!("output 0 is missing") };
        let mut code = Code::new(self, own)?;
        code.operands.push(Operand { scalar, index: Index::Anchor });
        let value = code.builder.load(0, scalar);
        let value = finish(&mut code, value)?;
        let value = code.builder.narrow(value, code.cx.out(0)?.dtype);
        code.regs.insert(own, value);
        let unit = code.cx.unit;
        let result = match unit.outputs.first() {
            Some(&result) if !unit.pointwise.is_empty() => result,
            _ => own,
        };
        code.run(&unit.pointwise)?;
        let mut epilogue = code.finish(&[result])?;
        if let Some((rows, columns)) = matrix {
            epilogue.use_matrix(rows, columns);
        }
        Ok(epilogue)
    }

    /// The epilogue of a kernel that computes a part of a sum: adds what `before` holds.
    pub(crate) fn partial(&mut self, scalar: Scalar, before: Option<TensorId>) -> Epilogue {
        let mut builder = Builder::default();
        let mut operands = vec![Operand { scalar, index: Index::Anchor }];
        let mut value = builder.load(0, scalar);
        if before.is_some() {
            operands.push(Operand { scalar, index: Index::Linear });
            let sum = builder.load(1, scalar);
            value = builder.add(value, sum);
        }
        let (expr, params) = builder.finish(vec![value]);
        Epilogue { fused: Fused { expr, operands }, tensors: before.into_iter().collect(), params }
    }

    fn label(&self) -> String {
        let nodes = self.unit.anchor.iter().chain(&self.unit.pointwise);
        let names: Vec<&str> = nodes.map(|n| self.graph.nodes[n.index()].name.as_str()).collect();
        if names.is_empty() { self.node.name.clone() } else { names.join("+") }
    }

    fn unit(&mut self) -> Result<(), Why> {
        if self.unit.anchor.is_some() {
            return self.node.op.operator().lower(self);
        }
        let outputs = self.unit.outputs.clone();
        let Some(&first) = outputs.first() else { return Ok(()) };
        let mut code = Code::new(self, first)?;
        let unit = code.cx.unit;
        code.run(&unit.pointwise)?;
        let Epilogue { fused, mut tensors, params } = code.finish(&outputs)?;
        for &output in &outputs {
            tensors.push(self.new_tensor(output)?);
        }
        let count = self.facts.get(first).map_or(0, |fact| fact.count());
        let params = std::iter::once(count as u32).chain(params).collect();
        self.call(Elementwise { fused, in_place: None }, tensors, params, elementwise::groups(count));
        Ok(())
    }

    fn new_tensor(&mut self, id: ValueId) -> Result<TensorId, Why> {
        if let Some(&tensor) = self.tensors.get(&id) {
            return Ok(tensor);
        }
        let name = self.graph.value(id).name.clone();
        let Some(fact) = self.facts.get(id) else { refuse!("'{name}' is never computed") };
        let Some(scalar) = Scalar::of(fact.dtype) else {
            refuse!("the device does not compute with {}", fact.dtype)
        };
        let tensor = self.program.add_tensor(name, scalar, fact.shape.clone(), Place::Arena);
        self.tensors.insert(id, tensor);
        Ok(tensor)
    }

    /// The device tensor of a value that exists already.
    fn tensor(&mut self, id: ValueId) -> Result<TensorId, Why> {
        if let Some(&tensor) = self.tensors.get(&id) {
            return Ok(tensor);
        }
        if self.graph.value(id).constant.is_some() {
            return self.weight(WeightKey { value: id, packing: None });
        }
        if let Some(i) = self.graph.inputs.iter().position(|&input| input == id) {
            let tensor = self.new_tensor(id)?;
            self.program.tensors[tensor.index()].place = Place::Input(i);
            self.program.inputs[i] = Some(tensor);
            return Ok(tensor);
        }
        if let Some(array) = self.facts.get(id).and_then(|fact| fact.constant()) {
            let constant = array.to_tensor()?;
            let tensor = self.new_tensor(id)?;
            self.program.tensors[tensor.index()].place = Place::Constant(self.program.constants.len());
            self.program.constants.push(constant);
            return Ok(tensor);
        }
        refuse!("input '{}' was not lowered", self.graph.value(id).name)
    }

    fn weight(&mut self, key: WeightKey) -> Result<TensorId, Why> {
        if let Some(&tensor) = self.weights.get(&key) {
            return Ok(tensor);
        }
        let value = self.graph.value(key.value);
        let Some(tensor) = &value.constant else { refuse!("'{}' is no constant", value.name) };
        let Some(scalar) = Scalar::of(tensor.dtype()) else {
            refuse!("the device does not compute with {}", tensor.dtype())
        };
        let shape = key.packing.as_ref().map_or(tensor.shape().to_vec(), |packing| vec![packing.count()]);
        let place = Place::Weight(self.program.weights.len());
        let id = self.program.add_tensor(value.name.clone(), scalar, shape, place);
        self.program.weights.push(key.clone());
        self.weights.insert(key, id);
        Ok(id)
    }
}

impl Epilogue {
    /// Vectors along the rows or columns of the surrounding kernel's matrix become that.
    fn use_matrix(&mut self, rows: usize, columns: usize) {
        let mut params = Vec::new();
        let mut old = self.params.iter().copied();
        for operand in self.fused.operands.iter_mut() {
            match operand.index {
                Index::Axis => {
                    let (inner, length) = (old.next().unwrap_or(0), old.next().unwrap_or(0));
                    if (inner as usize, length as usize) == (columns, rows) {
                        operand.index = Index::Row;
                    } else if (inner as usize, length as usize) == (1, columns) {
                        operand.index = Index::Column;
                    } else {
                        params.extend([inner, length]);
                    }
                }
                Index::Strided(rank) => params.extend(old.by_ref().take(2 * rank as usize)),
                _ => {}
            }
        }
        params.extend(old);
        self.params = params;
    }
}

/// Builds the fused code of a unit.
pub(crate) struct Code<'c, 'a> {
    cx: &'c mut Lower<'a>,
    pub(crate) builder: Builder,
    operands: Vec<Operand>,
    tensors: Vec<TensorId>,
    index_params: Vec<u32>,
    /// Values computed here.
    regs: HashMap<ValueId, Reg>,
    /// Values from elsewhere.
    loads: HashMap<(ValueId, Option<Pairing>), Reg>,
    /// The value whose shape all have: an anchor's own output, or the first output of a pointwise unit.
    shape: Vec<usize>,
}

impl<'c, 'a> Code<'c, 'a> {
    fn new(cx: &'c mut Lower<'a>, of: ValueId) -> Result<Self, Why> {
        let Some(fact) = cx.facts.get(of) else { refuse!("nothing is known of the output") };
        let shape = fact.shape.clone();
        Ok(Code {
            cx,
            builder: Builder::of_shape(&shape),
            operands: vec![],
            tensors: vec![],
            index_params: vec![],
            regs: HashMap::new(),
            loads: HashMap::new(),
            shape,
        })
    }

    /// The operator's input `i`, whose elements are read as if its shape were `shape`, broadcast to the result's.
    pub(crate) fn input(&mut self, i: usize, shape: &[usize]) -> Result<Reg, Why> {
        match self.cx.node.inputs.get(i).copied().flatten() {
            Some(id) => {
                let pairing = Pairing { operand: shape.to_vec(), result: self.shape.clone() };
                self.value(id, Some(pairing))
            }
            None => refuse!("input {i} is required"),
        }
    }

    /// `value` plus the operator's input `i`, read under `shape`.
    pub(crate) fn add_input(&mut self, value: Reg, i: usize, shape: &[usize]) -> Result<Reg, Why> {
        let other = self.input(i, shape)?;
        Ok(self.builder.add(value, other))
    }

    /// The element of `tensor`, which has the result's shape.
    pub(crate) fn tensor(&mut self, tensor: TensorId) -> Reg {
        let scalar = self.cx.scalar(tensor);
        self.tensors.push(tensor);
        self.operands.push(Operand { scalar, index: Index::Linear });
        self.builder.load(self.operands.len() - 1, scalar)
    }

    fn run(&mut self, nodes: &[NodeId]) -> Result<(), Why> {
        for node in nodes {
            let node = &self.cx.graph.nodes[node.index()];
            let mut inputs = Vec::new();
            for (i, input) in node.data_inputs().enumerate() {
                let pairing = node.op.operator().pairing(i, &self.cx.facts.of_inputs(node))?;
                inputs.push(input.map(|id| self.value(id, pairing)).transpose()?);
            }
            let [Some(output)] = node.outputs[..] else { refuse!("a pointwise operator has one output") };
            let Some(fact) = self.cx.facts.get(output) else { refuse!("nothing is known of the output") };
            let Some(value) = node.op.operator().pointwise(&mut self.builder, &inputs, fact.dtype) else {
                refuse!("is not pointwise for {}", fact.dtype)
            };
            let value = self.builder.narrow(value, fact.dtype);
            self.regs.insert(output, value);
        }
        Ok(())
    }

    fn value(&mut self, id: ValueId, pairing: Option<Pairing>) -> Result<Reg, Why> {
        if let Some(&reg) = self.regs.get(&id) {
            return Ok(reg);
        }
        if let Some(&reg) = self.loads.get(&(id, pairing.clone())) {
            return Ok(reg);
        }
        let Some(fact) = self.cx.facts.get(id) else { refuse!("nothing is known of an input") };
        let Some(scalar) = Scalar::of(fact.dtype) else {
            refuse!("the device does not compute with {}", fact.dtype)
        };
        let reg = match fact.constant().filter(|array| array.len() == 1).map(|array| &array.data) {
            Some(Numbers::Float(values)) => self.builder.constant(scalar, values[0]),
            Some(Numbers::Int(values)) => self.builder.constant(scalar, values[0] as f64),
            _ => {
                let (index, params) = match &pairing {
                    Some(Pairing { operand, result }) => index_of(operand, result),
                    None => index_of(&fact.shape, &self.shape),
                };
                let tensor = self.cx.tensor(id)?;
                self.tensors.push(tensor);
                self.index_params.extend(params);
                self.operands.push(Operand { scalar, index });
                self.builder.load(self.operands.len() - 1, scalar)
            }
        };
        self.loads.insert((id, pairing), reg);
        Ok(reg)
    }

    fn finish(self, outputs: &[ValueId]) -> Result<Epilogue, Why> {
        let mut regs = Vec::new();
        for id in outputs {
            match self.regs.get(id) {
                Some(&reg) => regs.push(reg),
                None => refuse!("an output was not computed"),
            }
        }
        let (expr, constants): (Expr, Vec<u32>) = self.builder.finish(regs);
        let mut params = self.index_params;
        params.extend(constants);
        Ok(Epilogue { fused: Fused { expr, operands: self.operands }, tensors: self.tensors, params })
    }
}
