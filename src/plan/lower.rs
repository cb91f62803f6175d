//! Lowering: units become kernel calls over device tensors.

mod constants;
mod views;

use std::collections::HashMap;
use std::sync::Arc;

use super::code::{Code, Epilogue, NO_WIDE};
use super::fault::{Fault, Outside, Report};
use super::fusion::Unit;
use super::program::{Call, OutputSource, Place, Program, Step, TensorId, WeightKey};
use super::question::Rank;
use super::refusal::Refusal;
use super::specialisation::{Asked, Site, Specialisation};
use super::why::{Note, Notes};
use super::{Options, copies, integers, precision};
use crate::error::{Why, refuse};
use crate::facts::{self, Fact, Facts, node_error};
use crate::graph::{NodeId, ValueId};
use crate::kernels::expr::{Builder, Fn1, Fn2, Integers, Reg, Scalar, Wide};
use crate::kernels::fused::Fused;
use crate::kernels::{Access, Kernel, Storage, Target};
use crate::ops::{Attributes, Graph, Node, Op, Operation, attending};
use crate::{DType, Error, Result, UnsupportedNode};

/// The pieces of one dimension, as (size, stride), outermost first. 32 elements of a row that are 8 heads of 4 elements may be
/// `[(8, 12), (4, 1)]`: heads are 12 apart in memory, and the elements of a head adjoin.
pub(crate) type Pieces = Vec<(usize, usize)>;

/// The context of an operator's `lower`: what it may ask, and the program that it writes to.
pub(crate) struct Lower<'a> {
    pub(crate) target: &'a Target,
    pub(super) graph: &'a Graph,
    pub(super) facts: &'a Facts,
    program: &'a mut Program,
    values: &'a mut Located,
    pub(super) specialisation: &'a mut Specialisation,
    pub(super) asked: Asked,
    /// Tensors whose elements the kernel that reads them may compute.
    pub(super) deferred: HashMap<TensorId, Epilogue>,
    /// The operator's inputs, as text, if some kernel of the operator reports.
    inputs_text: Option<Arc<str>>,
    /// What the kernels of this operator report, other than results that do not fit 32 bits.
    report: Option<Report>,
    no_fusion: bool,
    /// Why a call of this operator cannot be.
    pub(super) refused: Option<&'static str>,
    /// For each value, whether its elements are held in 32 bits although its dtype has fewer.
    precise: &'a [bool],
    /// In how many bits expressions compute with 64-bit integers.
    pub(super) integers: Integers,
    /// For each value, whether it is a 64-bit integer in 64 bits; empty: none is.
    held_wide: &'a [bool],
    /// Whether the operator has kernels for 64-bit integers, and the plan holds them in 64 bits.
    computes_wide: bool,
    pub(super) unit: &'a Unit,
    pub(super) node: &'a Node,
}

/// Where each value lies on the device so far, by [`ValueId`].
struct Located {
    /// The numbers of the graph's inputs.
    inputs: HashMap<ValueId, usize>,
    /// The value's own tensor, row-major.
    tensors: Vec<Option<TensorId>>,
    /// For a constant of the model: a tensor for each packing that was asked for.
    weights: Vec<Vec<TensorId>>,
    /// Where the value's elements lie in another value's tensor, at strides. They are copied only for a kernel that cannot
    /// read them there.
    strided: Vec<Option<StridedValue>>,
    /// For each output that may be appended to an input in the caller's memory, that memory.
    rooms: HashMap<ValueId, Caller>,
}

/// The memory of a graph input that has room for rows behind its own.
#[derive(Clone, Copy)]
struct Caller {
    input: usize,
    tensor: TensorId,
    /// Whether the rows are there.
    is_filled: bool,
}

impl Located {
    fn of(graph: &Graph) -> Located {
        let count = graph.values.len();
        let inputs = graph.inputs.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let (tensors, weights, strided) = (vec![None; count], vec![Vec::new(); count], vec![None; count]);
        Located { inputs, tensors, weights, strided, rooms: HashMap::new() }
    }

    fn tensor(&self, id: ValueId) -> Option<TensorId> {
        self.tensors[id.index()]
    }

    /// Where the elements of the value lie, if it has no tensor of its own.
    fn strided(&self, id: ValueId) -> Option<&StridedValue> {
        self.strided[id.index()].as_ref().filter(|_| self.tensor(id).is_none())
    }
}

#[derive(Clone)]
struct StridedValue {
    tensor: TensorId,
    access: Access,
    /// Whether the elements are the same in all runs: they follow from constants of the model alone.
    constant: bool,
    /// The name of the node for which a copy would be made.
    label: Arc<str>,
}

/// Lowers units in order. One error reports all nodes that cannot be lowered.
pub(crate) fn lower(
    graph: &Graph,
    facts: &Facts,
    units: &[Unit],
    target: &Target,
    options: &Options,
    specialisation: &mut Specialisation,
) -> Result<Program> {
    let mut program = Program {
        inputs: vec![None; graph.inputs.len()],
        tensors: Vec::with_capacity(graph.values.len()),
        steps: Vec::with_capacity(units.len()),
        integers: options.integers,
        notes: Notes::new(options.notes),
        ..Program::default()
    };
    let mut values = Located::of(graph);
    views::make_room(graph, facts, &mut program, &mut values, (target, options));
    let precise = &precision::precise(graph, facts, options, specialisation);
    let held_wide = &integers::held(graph, facts, options.integers);
    let mut unsupported = Vec::new();
    for unit in units {
        let Some(&first) = unit.nodes().next() else { continue };
        program.device_nodes.extend(unit.nodes());
        let node = &graph.nodes[first.index()];
        let site = if unit.attention.is_some() { Site::Attention } else { Site::Unit };
        let mut cx = Lower {
            target,
            graph,
            facts,
            program: &mut program,
            values: &mut values,
            specialisation,
            asked: Asked::at(site(first)),
            deferred: HashMap::new(),
            inputs_text: None,
            report: None,
            no_fusion: options.no_fusion,
            refused: None,
            precise,
            integers: options.integers,
            held_wide,
            computes_wide: options.integers == Integers::Bits64 && integers::computes(node, facts),
            unit,
            node,
        };
        let before = cx.program.tensors.len();
        if let Err(why) = cx.check_device().and_then(|()| cx.unit()).and_then(|()| cx.check_calls(before)) {
            cx.stand_in();
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
    for (i, &id) in graph.outputs.iter().chain(&options.keep).enumerate() {
        let output =
            output(graph, facts, &mut program, &mut values, specialisation, target, held_wide, i, id)?;
        program.outputs.push(output);
    }
    Ok(program)
}

/// The source of graph output `i`. Unless a kernel has written the output's buffer, a copy fills it.
#[allow(clippy::too_many_arguments)]
fn output(
    graph: &Graph,
    facts: &Facts,
    program: &mut Program,
    values: &mut Located,
    specialisation: &mut Specialisation,
    target: &Target,
    held_wide: &[bool],
    i: usize,
    id: ValueId,
) -> Result<OutputSource> {
    let name = graph.value(id).name.clone();
    let fact = facts.get(id).ok_or_else(|| Error::invalid(format!("nothing makes the output '{name}'")))?;
    if let Some(tensor) = &graph.value(id).constant {
        return Ok(OutputSource::Known(tensor.clone()));
    }
    if let Some(array) = fact.constant() {
        return Ok(OutputSource::Known(
            array.to_tensor().map_err(|why| why.error(format_args!("output '{name}'"), Error::Tensor))?,
        ));
    }
    if let Some(&Caller { input, is_filled: true, .. }) = values.rooms.get(&id) {
        return Ok(OutputSource::Appended { input, dtype: fact.dtype, shape: fact.shape.to_vec() });
    }
    let exact = match fact.dtype {
        DType::I64 | DType::U64 => false,
        DType::F64 => target.computes_f64,
        dtype => Scalar::of(dtype).is_some(),
    };
    if let (false, Some(&i)) = (exact, values.inputs.get(&id)) {
        return Ok(OutputSource::Input(i));
    }
    let node = Node {
        name: name.clone(),
        op_type: "Identity".into(),
        opset: 1,
        attributes: Attributes::default(),
        op: Operation::unsupported(""),
        inputs: vec![Some(id)],
        outputs: vec![],
    };
    let (asked, deferred) = (Asked::at(Site::Output(i)), HashMap::new());
    let unit = &Unit { label: name.as_str().into(), ..Unit::default() };
    let mut cx = Lower {
        target,
        graph,
        facts,
        program,
        values,
        specialisation,
        asked,
        deferred,
        inputs_text: None,
        report: None,
        no_fusion: true,
        refused: None,
        precise: &[],
        integers: if held_wide.is_empty() { Integers::Bits32 } else { Integers::Bits64 },
        held_wide,
        computes_wide: !held_wide.is_empty(),
        unit,
        node: &node,
    };
    let fail = |why: Why| Error::invalid(format!("output '{name}': {why}"));
    let tensor = cx.tensor(id).map_err(fail)?;
    // Who reads the output expects 64 bits where the plan has any.
    let tensor = if fact.dtype.is_wide_integer() { cx.in_register(tensor, fact.dtype) } else { tensor };
    let place = cx.program.tensor(tensor).place;
    let tensor = if place == Place::Arena {
        cx.program.tensors[tensor.index()].place = Place::Output(i);
        tensor
    } else {
        let own = cx.program.tensor(tensor).element();
        // A constant that kernels convert as they load does not lie as its value would.
        let is_weight = matches!(cx.program.tensor(tensor).place, Place::Weight(_));
        let element = if is_weight { cx.element(fact.dtype).unwrap_or(own) } else { own };
        let output = cx.program.add_tensor(name.clone(), element, fact.shape.clone(), Place::Output(i));
        cx.program.steps.push(Step::View { output, of: tensor, offset: 0 });
        output
    };
    Ok(OutputSource::Device { tensor, dtype: fact.dtype, shape: fact.shape.to_vec() })
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

    /// The register of an element of this dtype, if the operator computes with all its bits.
    pub(crate) fn register(&self, dtype: DType) -> Option<Scalar> {
        if self.computes_wide { self.integers.register(dtype) } else { Scalar::of(dtype) }
    }

    /// The register and the storage in which a value is held.
    fn held(&self, id: ValueId) -> Option<(Scalar, Storage)> {
        let dtype = self.facts.get(id)?.dtype;
        let is_wide = self.held_wide.get(id.index()).is_some_and(|&held| held);
        let integers = if is_wide { Integers::Bits64 } else { Integers::Bits32 };
        Some((integers.register(dtype)?, integers.storage(dtype)?))
    }

    /// The register of output 0's elements.
    pub(super) fn out_register(&self) -> Result<Scalar, Why> {
        Ok(self.register(self.out(0)?.dtype).unwrap_or(Scalar::F32))
    }

    /// The register and the storage of an element of this dtype, as a graph's inputs have them.
    fn element(&self, dtype: DType) -> Option<(Scalar, Storage)> {
        Some((self.integers.register(dtype)?, self.integers.storage(dtype)?))
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
    pub(crate) fn facts(&self) -> facts::NodeInputs<'a> {
        self.facts.of_inputs(self.node)
    }

    /// The facts of all values.
    pub(crate) fn all_facts(&self) -> &'a Facts {
        self.facts
    }

    /// The fact of output `i` before any epilogue; `None` if nothing reads it.
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

    /// The tensor of input `i`.
    pub(crate) fn input(&mut self, i: usize) -> Result<TensorId, Why> {
        let tensor = self.deferred_input(i)?;
        Ok(self.realized(tensor))
    }

    /// The tensor of input `i`, whose elements may be deferred: pass it to [`Lower::loaded`] or [`Lower::realized`].
    pub(crate) fn deferred_input(&mut self, i: usize) -> Result<TensorId, Why> {
        let Some(id) = self.node.inputs.get(i).copied().flatten() else { refuse!("input {i} is required") };
        if i > 0 || self.values.tensor(id).is_some() {
            return self.tensor_in_register(id);
        }
        match self.prologue()? {
            Some(prologue) => {
                let tensor = self.new_tensor(id)?;
                self.deferred.insert(tensor, prologue);
                Ok(tensor)
            }
            None => self.tensor_in_register(id),
        }
    }

    /// The tensor of input `i`, whose elements are places or lengths: 64-bit integers in 32 bits. One that does not fit is
    /// reported.
    pub(crate) fn places(&mut self, i: usize) -> Result<TensorId, Why> {
        let (tensor, dtype) = (self.input(i)?, self.fact(i)?.dtype);
        Ok(match Scalar::of(dtype).filter(|&narrow| narrow != self.scalar(tensor)) {
            Some(narrow) if dtype.is_wide_integer() => self.converted(tensor, narrow),
            _ => tensor,
        })
    }

    /// The tensor of a value that has been lowered, with the elements that this operator's kernels load.
    fn tensor_in_register(&mut self, id: ValueId) -> Result<TensorId, Why> {
        let tensor = self.tensor(id)?;
        match self.facts.get(id) {
            Some(fact) if fact.dtype.is_wide_integer() && !self.node.op.operator().moves_elements() => {
                Ok(self.in_register(tensor, fact.dtype))
            }
            _ => Ok(tensor),
        }
    }

    /// The tensor, or one with its 64-bit integers in the bits in which the operator computes.
    fn in_register(&mut self, tensor: TensorId, dtype: DType) -> TensorId {
        match self.register(dtype) {
            Some(register) if register != self.scalar(tensor) => self.converted(tensor, register),
            _ => tensor,
        }
    }

    /// The integers of a tensor in another number of bits. One that does not fit is reported.
    fn converted(&mut self, tensor: TensorId, to: Scalar) -> TensorId {
        let shape = self.shape(tensor).to_vec();
        let output = self.temporary(to, &shape);
        let dtype = if matches!(to, Scalar::I32 | Scalar::I64) { DType::I64 } else { DType::U64 };
        let report = self.report.replace(Report::Arithmetic(self.unit.nodes().copied().collect()));
        self.elementwise_to(output, (dtype, &shape), &[(tensor, &shape)], |e, x| e.fitted(x[0], to));
        self.report = report;
        output
    }

    /// The tensor of output `i`; if the operator has an epilogue, the tensor of the epilogue's result.
    pub(crate) fn output(&mut self, i: usize) -> Result<TensorId, Why> {
        match (self.unit.pointwise.is_empty(), self.unit.outputs.first(), self.node.outputs.get(i)) {
            (false, Some(&id), _) | (true, _, Some(&Some(id))) => self.new_tensor(id),
            _ => refuse!("output {i} is missing"),
        }
    }

    /// A tensor that only this operator's calls use. Each element takes a word, or two if it is a float64.
    pub(crate) fn temporary(&mut self, scalar: Scalar, shape: &[usize]) -> TensorId {
        self.add_temporary((scalar, Storage::of_register(scalar)), shape)
    }

    /// A tensor that only this operator's calls use, with the register type and the storage of `tensor`.
    pub(crate) fn temporary_like(&mut self, tensor: TensorId, shape: &[usize]) -> TensorId {
        self.add_temporary(self.program.tensor(tensor).element(), shape)
    }

    /// Refuses float64, where an operator's functions are those of float32 alone.
    pub(crate) fn check_float64(&self) -> Result<(), Why> {
        let double = |id| self.facts.get(id).is_some_and(|fact| fact.dtype == DType::F64);
        let mut values = self.node.data_inputs().chain(self.node.outputs.iter().copied()).flatten();
        if values.any(double) { refuse!("{NO_WIDE}") } else { Ok(()) }
    }

    /// Refuses what reads or makes float64 on a device that does not compute with it.
    fn check_device(&self) -> Result<(), Why> {
        let values = || {
            let nodes = self.unit.nodes().map(|node| &self.graph.nodes[node.index()]);
            nodes.flat_map(|node| node.data_inputs().chain(node.outputs.iter().copied()).flatten())
        };
        let double = |id| self.facts.get(id).is_some_and(|fact| fact.dtype == DType::F64);
        match !self.target.computes_f64 && values().any(double) {
            true => refuse!("the device does not compute with float64"),
            false => Ok(()),
        }
    }

    /// Refuses calls that cannot be, and temporaries that have more elements than 32 bits index. `first` is the number of the
    /// node's first tensor.
    fn check_calls(&self, first: usize) -> Result<(), Why> {
        if let Some(why) = self.refused {
            refuse!("{why}");
        }
        let tensors = self.program.tensors.get(first..).unwrap_or_default();
        match tensors.iter().find(|tensor| facts::is_too_large(&tensor.shape)) {
            Some(tensor) => refuse!("a temporary of {:?} has too many elements", tensor.shape),
            None => Ok(()),
        }
    }

    fn add_temporary(&mut self, element: (Scalar, Storage), shape: &[usize]) -> TensorId {
        self.program.add_tensor(
            format!("{}.temporary", self.node.name),
            element,
            shape.to_vec(),
            Place::Arena,
        )
    }

    /// The elements of `of` from `offset` on, as a tensor of their own.
    pub(crate) fn subrange(&mut self, of: TensorId, offset: usize, shape: &[usize]) -> TensorId {
        let output = self.add_temporary(self.program.tensor(of).element(), shape);
        self.program.steps.push(Step::View { output, of, offset });
        output
    }

    /// Emits one dispatch of `groups` workgroups; none if `groups` is 0.
    pub(crate) fn call(
        &mut self,
        kernel: impl Into<Kernel>,
        tensors: Vec<TensorId>,
        params: Vec<u32>,
        groups: usize,
    ) {
        self.call_grid(kernel, tensors, params, self.target.grid(groups));
    }

    /// Emits one dispatch over `grid`, which the kernel numbers itself.
    pub(crate) fn call_grid(
        &mut self,
        kernel: impl Into<Kernel>,
        tensors: Vec<TensorId>,
        mut params: Vec<u32>,
        grid: [u32; 3],
    ) {
        let empty = tensors.last().is_some_and(|&t| self.program.tensor(t).count == 0);
        if empty || grid.contains(&0) {
            return;
        }
        let (kernel, node) = (kernel.into(), self.unit.label.clone());
        let tensors = self.lying_alike(&kernel, tensors);
        if !self.program.takes_wide(&kernel, &tensors) {
            self.refused = Some(NO_WIDE);
        }
        if kernel.spec().reports() {
            params.push(self.program.faults.len() as u32);
            let fault = self.fault();
            self.program.faults.push(fault);
        }
        self.program.steps.push(Step::Call(Call { kernel, tensors, params, grid, node }));
    }

    /// The same tensors, where the kernel moves bits from one to another that lies in the same way. A constant that other
    /// kernels convert as they load is converted first.
    fn lying_alike(&mut self, kernel: &Kernel, mut tensors: Vec<TensorId>) -> Vec<TensorId> {
        let is_word = |tensor: &TensorId| self.program.tensor(*tensor).storage == Storage::Word;
        if tensors.iter().all(is_word) {
            return tensors;
        }
        let moved: Vec<bool> = kernel
            .slots()
            .iter()
            .zip(&tensors)
            .map(|(slot, tensor)| self.scalar(*tensor) == Scalar::F32 && slot.element.scalar() != Scalar::F32)
            .collect();
        let storage = |i: usize, tensors: &[TensorId]| self.program.tensor(tensors[i]).storage;
        let written = (0..moved.len()).rev().find(|&i| moved[i]).map(|i| storage(i, &tensors));
        let other = |i: &usize| moved[*i] && Some(storage(*i, &tensors)) != written;
        for i in (0..moved.len()).filter(other).collect::<Vec<_>>() {
            let (from, shape) = (tensors[i], self.shape(tensors[i]).to_vec());
            if matches!(self.program.tensor(from).place, Place::Weight(_)) {
                tensors[i] = self.temporary(Scalar::F32, &shape);
                self.copy(Scalar::F32, from, tensors[i]);
            }
        }
        tensors
    }

    /// Emits what `first` emits, and then its dispatches `times - 1` times more, each as `change` makes it.
    pub(crate) fn repeated(
        &mut self,
        times: usize,
        first: impl FnOnce(&mut Self) -> Result<(), Why>,
        change: impl Fn(usize, &mut Call) -> Result<(), Why>,
    ) -> Result<(), Why> {
        let start = self.program.steps.len();
        first(self)?;
        let end = self.program.steps.len();
        for time in 1..times {
            for i in start..end {
                let Some(Step::Call(call)) = self.program.steps.get(i) else { continue };
                let mut call = call.clone();
                change(time, &mut call)?;
                self.program.steps.push(Step::Call(call));
            }
        }
        Ok(())
    }

    /// Whether output `i` has 64-bit integers in 32 bits: kernels report what does not fit.
    pub(crate) fn is_wide(&self, i: usize) -> bool {
        !self.computes_wide && self.optional_out(i).is_some_and(|fact| Wide::of(fact.dtype, 0).is_some())
    }

    /// From here on, kernels of this operator report elements of input `input` that are outside of `outside`.
    pub(crate) fn reports_index(&mut self, input: usize, outside: Outside) {
        self.report = Some(Report::Index { input, outside });
    }

    /// Input `i` as i32. An element outside of `low..=high` is reported, and replaced by the nearest number inside.
    pub(crate) fn within(&mut self, i: usize, low: i64, high: i64) -> Result<TensorId, Why> {
        self.within_or(i, low, high, None)
    }

    /// Like [`Lower::within`], but an element equal to `other` stays as it is.
    pub(crate) fn within_or(
        &mut self,
        i: usize,
        low: i64,
        high: i64,
        other: Option<i64>,
    ) -> Result<TensorId, Why> {
        let (x, fact) = (self.places(i)?, self.fact(i)?);
        self.reports_index(i, Outside::Range(low, high));
        let within = self.temporary(Scalar::I32, &fact.shape);
        self.elementwise_to(within, (DType::I32, &fact.shape), &[(x, &fact.shape)], |e, x| {
            let x = e.convert(x[0], Scalar::I32);
            let (low, high) = (e.constant(Scalar::I32, low as f64), e.constant(Scalar::I32, high as f64));
            let (below, above) = (e.two(Fn2::Less, x, low), e.two(Fn2::Greater, x, high));
            let (mut outside, word) = (e.two(Fn2::Or, below, above), e.bitcast(x, Scalar::U32));
            if let Some(other) = other {
                let other = e.constant(Scalar::I32, other as f64);
                let same = e.two(Fn2::Equal, x, other);
                let differs = e.one(Fn1::Not, same);
                outside = e.two(Fn2::And, outside, differs);
            }
            e.report(outside, word);
            let nearest = e.two(Fn2::Max, x, low);
            let nearest = e.two(Fn2::Min, nearest, high);
            e.select(outside, nearest, x)
        });
        Ok(within)
    }

    fn fault(&mut self) -> Fault {
        let first = self.unit.anchor.or_else(|| self.unit.pointwise.first().copied());
        let nodes = if self.unit.anchor.is_some() {
            first.into_iter().collect()
        } else {
            self.unit.pointwise.clone()
        };
        let (graph_facts, node) = (self.facts, self.node);
        let text = || facts::text(&graph_facts.of_inputs(node)).into();
        Fault {
            node: first.unwrap_or(NodeId(0)),
            inputs: self.inputs_text.get_or_insert_with(text).clone(),
            report: self.report.clone().unwrap_or(Report::Arithmetic(nodes)),
        }
    }

    /// Emits one kernel that computes output `i`, element by element, from operands that broadcast to it from the given
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

    /// Like [`Lower::elementwise`], but into a tensor of the given dtype and shape.
    pub(crate) fn elementwise_to(
        &mut self,
        output: TensorId,
        (dtype, shape): (DType, &[usize]),
        operands: &[(TensorId, &[usize])],
        build: impl FnOnce(&mut Builder, &[Reg]) -> Reg,
    ) {
        let code = self.broadcast(shape, operands, &[], |e, regs| {
            let value = build(e, regs);
            e.result(value, dtype)
        });
        self.compute(code, &[output]);
    }

    /// Makes output `i` a copy of input `input`, so that later calls write parts of it.
    pub(crate) fn copy_input(&mut self, i: usize, input: usize) -> Result<(), Why> {
        let (from, to) = (self.input(input)?, self.output(i)?);
        self.copy(self.moving(from, to), from, to);
        Ok(())
    }

    /// Copies the bits in memory of each element of `from` to `to`; of a wider element, the lower bits.
    pub(crate) fn copy_bits(&mut self, from: TensorId, to: TensorId) {
        self.copy(Scalar::U32, from, to);
    }

    fn copy(&mut self, scalar: Scalar, from: TensorId, to: TensorId) {
        let count = self.program.tensor(to).count;
        if count > 0 {
            let call = copies::copy(scalar, from, to, count, self.target, self.unit.label.clone());
            self.program.steps.push(Step::Call(call));
        }
    }

    /// The register through which elements are copied from one tensor to another.
    pub(crate) fn moving(&self, from: TensorId, to: TensorId) -> Scalar {
        self.program.moving(from, to)
    }

    /// The bits in memory of an element of `tensor`, from the word of the register that holds it.
    pub(crate) fn stored(&self, tensor: TensorId, word: u32) -> u32 {
        self.program.tensor(tensor).storage.stored(word)
    }

    /// Sets every element of `tensor` to the value that a register of 32 bits holds as `word`.
    pub(crate) fn fill(&mut self, tensor: TensorId, word: u32) {
        let mut builder = Builder::default();
        let value = match self.scalar(tensor) {
            Scalar::F64 => builder.constant(Scalar::F64, f32::from_bits(word).into()),
            Scalar::I64 => builder.constant(Scalar::I64, f64::from(word as i32)),
            Scalar::U64 => builder.constant(Scalar::U64, f64::from(word)),
            _ => builder.constant(Scalar::U32, f64::from(self.stored(tensor, word))),
        };
        let (expr, constants) = builder.finish(vec![value]);
        let fused = Fused { expr, operands: vec![] };
        self.compute(Epilogue { fused, tensors: vec![], params: constants }, &[tensor]);
    }

    pub(super) fn note(&mut self, note: impl FnOnce() -> Note) {
        self.program.notes.add(note);
    }

    /// The register type of a tensor's elements.
    pub(crate) fn scalar(&self, tensor: TensorId) -> Scalar {
        self.program.tensor(tensor).scalar
    }

    /// The shape of a tensor.
    pub(crate) fn shape(&self, tensor: TensorId) -> &[usize] {
        &self.program.tensor(tensor).shape
    }

    fn unit(&mut self) -> Result<(), Why> {
        let (unit, facts) = (self.unit, self.facts);
        let empty = |id: &&ValueId| facts.get(**id).is_some_and(|fact| fact.count() == 0);
        unit.outputs.iter().filter(empty).try_for_each(|id| self.new_tensor(*id).map(|_| ()))?;
        if unit.outputs.iter().all(|id| empty(&id)) {
            // Nothing runs for these sizes, so no question may be asked about them.
            return Ok(());
        }
        if let Some(spelled) = &self.unit.attention {
            return attending::lower_spelled(self, spelled);
        }
        // A broadcast with which nothing is fused only changes strides.
        let broadcast = matches!(*self.node.op, Op::Expand(_)) && self.unit.pointwise.len() == 1;
        if self.unit.anchor.is_some() || broadcast {
            return self.node.op.operator().lower(self);
        }
        let outputs = self.unit.outputs.clone();
        let Some(&first) = outputs.first() else { return Ok(()) };
        let mut code = Code::new(self, first)?;
        let unit = code.cx.unit;
        code.run(&unit.pointwise)?;
        let code = code.finish(&outputs)?;
        let tensors =
            outputs.iter().map(|&output| self.new_tensor(output)).collect::<Result<Vec<_>, Why>>()?;
        self.compute(code, &tensors);
        Ok(())
    }

    /// Gives each value of a refused unit a tensor, so that a later unit that reads it is refused only for reasons of its own.
    fn stand_in(&mut self) {
        for id in self.unit.nodes().flat_map(|node| self.graph.nodes[node.index()].outputs.iter().flatten()) {
            // A value of a type that the device does not have is refused where it is read.
            let _ = self.new_tensor(*id);
        }
    }

    fn new_tensor(&mut self, id: ValueId) -> Result<TensorId, Why> {
        if let Some(tensor) = self.values.tensor(id) {
            return Ok(tensor);
        }
        let name = self.graph.value(id).name.clone();
        let Some(fact) = self.facts.get(id) else { refuse!("'{name}' is never computed") };
        let Some(element) = self.held(id) else { refuse!("the device does not compute with {}", fact.dtype) };
        let precise = self.precise.get(id.index()).is_some_and(|&precise| precise);
        let element = if precise { (element.0, Storage::Word) } else { element };
        let tensor = self.program.add_tensor(name, element, fact.shape.clone(), Place::Arena);
        self.values.tensors[id.index()] = Some(tensor);
        self.note(|| Note::Tensor { value: id, tensor });
        Ok(tensor)
    }

    /// The tensor of a value that has been lowered.
    pub(super) fn tensor(&mut self, id: ValueId) -> Result<TensorId, Why> {
        if let Some(tensor) = self.values.tensor(id) {
            return Ok(tensor);
        }
        if let Some(tensor) = self.packed_whole(id)? {
            return Ok(tensor);
        }
        if let Some(strided) = self.values.strided(id).cloned() {
            self.note_copy(id, Refusal::ReadWhole);
            let tensor = self.new_tensor(id)?;
            let dims = self.with_rank(Rank::Gathered(id), strided.access.dims, (1, 0));
            let access = Access { dims, ..strided.access };
            let scalar = self.moving(strided.tensor, tensor);
            let call = copies::gather(scalar, strided.tensor, tensor, &access, self.target, strided.label);
            self.program.steps.push(Step::Call(call));
            return Ok(tensor);
        }
        if self.graph.value(id).constant.is_some() {
            return self.weight(WeightKey { value: id, packing: None, read_as: None }, None);
        }
        if let Some(&i) = self.values.inputs.get(&id) {
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
        match self.facts.get(id) {
            Some(fact) if Scalar::of(fact.dtype).is_none() => {
                refuse!("the device does not compute with {}", fact.dtype)
            }
            _ => refuse!("input '{}' was not lowered", self.graph.value(id).name),
        }
    }
}
