//! Lowering: units become kernel calls over device tensors.

use std::collections::HashMap;
use std::sync::Arc;

use super::code::{Code, Epilogue, NO_WIDE};
use super::fault::{Fault, Outside, Report};
use super::fusion::Unit;
use super::program::{Call, OutputSource, PackedDim, Packing, Place, Program, Step, TensorId, WeightKey};
use super::question::{Always, Rank};
use super::refusal::Refusal;
use super::specialisation::{Asked, Site, Specialisation};
use super::why::{Note, Notes};
use super::{Options, copies, integers, precision};
use crate::array::Array;
use crate::budget::Work;
use crate::error::{Why, refuse};
use crate::facts::{self, Fact, Facts, node_error};
use crate::graph::{NodeId, ValueId};
use crate::kernels::expr::{Builder, Fn1, Fn2, Integers, Reg, Scalar, Wide};
use crate::kernels::fused::Fused;
use crate::kernels::{Access, Kernel, Storage, Target};
use crate::ops::{Attributes, Graph, Node, Op, Operation};
use crate::{DType, Element, Error, Result, Tensor, UnsupportedNode};

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
}

impl Located {
    fn of(graph: &Graph) -> Located {
        let count = graph.values.len();
        let inputs = graph.inputs.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let (tensors, weights, strided) = (vec![None; count], vec![Vec::new(); count], vec![None; count]);
        Located { inputs, tensors, weights, strided }
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

/// The constant of the model that has the elements of a value.
struct ConstantElements {
    value: ValueId,
    /// Where they lie in it, if not in its own order.
    view: Option<Access>,
    /// The register into which kernels load them.
    scalar: Option<Scalar>,
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
    let precise = &precision::precise(graph, facts, options, specialisation);
    let held_wide = &integers::held(graph, facts, options.integers);
    let mut unsupported = Vec::new();
    for unit in units {
        let Some(&first) = unit.nodes().next() else { continue };
        program.device_nodes.extend(unit.nodes());
        let node = &graph.nodes[first.index()];
        let mut cx = Lower {
            target,
            graph,
            facts,
            program: &mut program,
            values: &mut values,
            specialisation,
            asked: Asked::at(Site::Unit(first)),
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

/// The sizes and strides, none of them negative, that make up each dimension of `shape`.
fn pieces(access: &Access, shape: &[usize]) -> Option<Vec<Pieces>> {
    let natural = |&(size, stride): &(usize, i64)| Some((size, usize::try_from(stride).ok()?));
    access.split(shape)?.iter().map(|pieces| pieces.iter().map(natural).collect()).collect()
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

    /// Input `i` as the model holds it, if it is a constant of the model.
    pub(crate) fn model_constant(&self, i: usize) -> Option<&'a Tensor> {
        let id = self.node.inputs.get(i).copied().flatten()?;
        self.graph.value(id).constant.as_ref()
    }

    /// Whether input `i` is a constant of the model, or a view of one.
    pub(crate) fn is_constant(&self, i: usize) -> bool {
        self.node.inputs.get(i).copied().flatten().is_some_and(|id| self.constant(id).is_some())
    }

    /// The tensor of input `i` in the order of `packing`; `None` if the input is no constant of the model, nor a view of one.
    pub(crate) fn packed(&mut self, i: usize, packing: Packing) -> Option<TensorId> {
        let ConstantElements { value, view, scalar } =
            self.constant(self.node.inputs.get(i).copied().flatten()?)?;
        let packing = Packing { view, ..packing };
        self.weight(WeightKey { value, packing: Some(packing), read_as: None }, scalar).ok()
    }

    /// The bytes of input `i` as numbers of `dtype`, which may have fewer bits, in the order of `packing` if there is one;
    /// `None` if the input is no constant of the model.
    pub(crate) fn read_as(
        &mut self,
        i: usize,
        dtype: DType,
        packing: Option<Packing>,
    ) -> Result<Option<TensorId>, Why> {
        match self.node.inputs.get(i).copied().flatten().and_then(|id| self.constant(id)) {
            Some(ConstantElements { value, view: None, scalar: None }) => {
                self.weight(WeightKey { value, packing, read_as: Some(dtype) }, None).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The constant of the model that has the elements of value `id`.
    fn constant(&self, id: ValueId) -> Option<ConstantElements> {
        if self.graph.value(id).constant.is_some() {
            return Some(ConstantElements { value: id, view: None, scalar: None });
        }
        let strided = self.values.strided[id.index()].as_ref().filter(|strided| strided.constant)?;
        let tensor = self.program.tensor(strided.tensor);
        let Place::Weight(i) = tensor.place else { return None };
        let WeightKey { value, packing: None, read_as: None } = self.program.weights[i] else { return None };
        let whole = strided.access == Access::new(0, &[(tensor.count, 1)]);
        let view = (!whole).then(|| strided.access.clone());
        Some(ConstantElements { value, view, scalar: Some(tensor.scalar) })
    }

    /// Whether the value follows from constants of the model alone.
    fn is_fixed(&self, id: ValueId) -> bool {
        let strided = || self.values.strided[id.index()].as_ref();
        self.graph.value(id).constant.is_some() || strided().is_some_and(|strided| strided.constant)
    }

    /// Output 0 has the numbers of input 0, a constant of the model, in a dtype that holds all of them: kernels convert them
    /// as they load. No kernel runs.
    pub(crate) fn widened(&mut self) -> Result<(), Why> {
        self.check_dtypes()?;
        if !self.node.widens_constant(self.graph, &self.facts()) {
            refuse!("has no GPU kernel");
        }
        let (Some(&Some(input)), Some(&Some(output))) = (self.node.inputs.first(), self.node.outputs.first())
        else {
            refuse!("input 0 is required")
        };
        let key = WeightKey { value: input, packing: None, read_as: None };
        let tensor = self.weight(key, self.integers.register(self.out(0)?.dtype))?;
        let access = Access::new(0, &[(self.program.tensor(tensor).count, 1)]);
        let (constant, label) = (true, self.unit.label.clone());
        self.values.strided[output.index()] = Some(StridedValue { tensor, access, constant, label });
        Ok(())
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
        let code = self.broadcast(shape, operands, |e, regs| {
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

    /// A tensor of words that the host has computed for this plan.
    pub(crate) fn words(&mut self, count: usize, words: impl FnOnce() -> Vec<u32>) -> Result<TensorId, Why> {
        self.charge(Work::array(DType::U32, &[count]))?;
        let words = words();
        let shape = [words.len()];
        let table = Tensor::from_vec(&shape, words)?;
        let place = Place::Constant(self.program.constants.len());
        self.program.constants.push(table);
        let (name, element) = (format!("{}.table", self.node.name), (Scalar::U32, Storage::Word));
        Ok(self.program.add_tensor(name, element, shape.to_vec(), place))
    }

    /// A tensor of float64 that the host has.
    pub(crate) fn doubles(&mut self, numbers: &[f64]) -> Result<TensorId, Why> {
        self.wide_table(Scalar::F64, numbers)
    }

    /// A tensor of int64 in 64 bits that the host has.
    pub(crate) fn longs(&mut self, numbers: &[i64]) -> Result<TensorId, Why> {
        self.wide_table(Scalar::I64, numbers)
    }

    fn wide_table<T: Element>(&mut self, scalar: Scalar, numbers: &[T]) -> Result<TensorId, Why> {
        self.charge(Work::array(T::DTYPE, &[numbers.len()]))?;
        let place = Place::Constant(self.program.constants.len());
        self.program.constants.push(Tensor::from_slice(&[numbers.len()], numbers)?);
        let (name, element) = (format!("{}.table", self.node.name), (scalar, Storage::Wide));
        Ok(self.program.add_tensor(name, element, vec![numbers.len()], place))
    }

    /// Charges the work of a table, which the plan keeps.
    pub(crate) fn charge(&self, work: Work) -> Result<(), Why> {
        let charged = self.facts.budget().charge(work, work.bytes);
        charged.map_err(|over| over.map(|over| format!("the host makes a table for it, and {over}")))
    }

    /// Makes output `i` an array that the host computes for this plan, from shapes and shape operands.
    pub(crate) fn host_array(
        &mut self,
        i: usize,
        array: impl FnOnce() -> Result<Array, Why>,
    ) -> Result<(), Why> {
        let fact = self.out(i)?;
        self.charge(Work::array(fact.dtype, &fact.shape))?;
        let array = array()?;
        let place = Place::Constant(self.program.constants.len());
        self.program.constants.push(array.to_tensor()?);
        let output = self.output(i)?;
        let (name, element) = (format!("{}.known", self.node.name), self.program.tensor(output).element());
        let of = self.program.add_tensor(name, element, array.shape.clone(), place);
        self.view(i, of, 0)
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

    /// Output `i` has the elements of input `input` that `access` names. No kernel runs where memory can be laid out for it,
    /// or where the readers can follow the access.
    pub(crate) fn lies(&mut self, i: usize, input: usize, access: Access) -> Result<(), Why> {
        let Some(id) = self.node.inputs.get(input).copied().flatten() else {
            refuse!("input {input} is required")
        };
        let (of, access) = self.access(id, &access)?;
        let Some(&Some(output)) = self.node.outputs.get(i) else { refuse!("output {i} is missing") };
        let of = match self.held(output) {
            Some((scalar, _)) if scalar.is_wide_integer() != self.scalar(of).is_wide_integer() => {
                self.converted(of, scalar)
            }
            _ => of,
        };
        let constant = self.node.inputs.iter().flatten().all(|id| self.is_fixed(*id));
        let view = self.may_be_view(of, &access);
        // Readers pack a constant from where its elements lie.
        if !constant && self.always(Always::View(i), view.is_ok()) {
            return self.view(i, of, access.base as usize);
        }
        let why = view.err().unwrap_or(Refusal::OtherSizes);
        self.note(|| Note::Strided { value: output, of, why });
        self.values.strided[output.index()] =
            Some(StridedValue { tensor: of, access, constant, label: self.unit.label.clone() });
        if self.no_fusion && !constant {
            self.tensor(output)?;
        }
        Ok(())
    }

    /// The tensor in which value `id` lies, and the access to it that reads what `outer` reads of the value.
    pub(super) fn access(&mut self, id: ValueId, outer: &Access) -> Result<(TensorId, Access), Why> {
        if let Some(strided) = self.values.strided(id) {
            match outer.within(&strided.access) {
                Some(access) => return Ok((strided.tensor, access)),
                None => self.note_copy(id, Refusal::ManyStrides),
            }
        }
        Ok((self.tensor(id)?, outer.clone()))
    }

    pub(super) fn note(&mut self, note: impl FnOnce() -> Note) {
        self.program.notes.add(note);
    }

    /// Notes that the unit wants a copy of a value that is strided in another.
    fn note_copy(&mut self, value: ValueId, why: Refusal) {
        let unit = self.unit;
        self.note(|| Note::Copied { value, reader: unit.label.clone(), why });
    }

    /// Where input `i` lies at strides in another tensor, and can be read there: that tensor, and the pieces of each dimension
    /// of `shape`, under which the input is read. `None` where there are no pieces, or they do not `fit`.
    pub(crate) fn strided(
        &mut self,
        i: usize,
        shape: &[usize],
        fit: impl Fn(&[Pieces]) -> bool,
    ) -> Result<Option<(TensorId, Vec<Pieces>)>, Why> {
        let Some(id) = self.node.inputs.get(i).copied().flatten() else { refuse!("input {i} is required") };
        let Some(StridedValue { tensor, access, .. }) = self.values.strided(id) else { return Ok(None) };
        let (tensor, base) = (*tensor, access.base);
        let pieces = self
            .may_begin(tensor, base)
            .and_then(|()| pieces(access, shape).filter(|pieces| fit(pieces)).ok_or(Refusal::ManyStrides));
        let pieces = match pieces {
            Ok(pieces) => pieces,
            Err(why) => {
                self.note_copy(id, why);
                return Ok(None);
            }
        };
        let last = |&(size, stride): &(usize, usize)| (size - 1) * stride;
        let span = 1 + pieces.iter().flatten().map(last).sum::<usize>();
        let tensor = if base == 0 { tensor } else { self.subrange(tensor, base as usize, &[span]) };
        Ok(Some((tensor, pieces)))
    }

    /// Whether what `access` names of a tensor is a tensor in the same memory.
    fn may_be_view(&self, of: TensorId, access: &Access) -> Result<(), Refusal> {
        if access.is_dense() { self.may_begin(of, access.base) } else { Err(Refusal::NotDense) }
    }

    /// Whether a binding may begin at this element of the tensor.
    fn may_begin(&self, tensor: TensorId, element: i64) -> Result<(), Refusal> {
        self.program.tensor(tensor).begins_at(element, self.target)
    }

    /// Output `i` is tensor `of` from element `offset` on. No kernel runs if memory can be laid out for it.
    pub(crate) fn view(&mut self, i: usize, of: TensorId, offset: usize) -> Result<(), Why> {
        let output = self.output(i)?;
        self.program.steps.push(Step::View { output, of, offset });
        Ok(())
    }

    /// `part` fills `whole` from element `offset` on. No kernel runs if memory can be laid out for it.
    pub(crate) fn part(&mut self, whole: TensorId, part: TensorId, offset: usize) {
        self.program.steps.push(Step::Part { whole, part, offset });
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

    /// The elements of a constant that moves, or that kernels convert, in the value's own order.
    fn packed_whole(&mut self, id: ValueId) -> Result<Option<TensorId>, Why> {
        if self.graph.value(id).constant.is_some() {
            return Ok(None);
        }
        let Some(ConstantElements { value, view, scalar }) = self.constant(id) else { return Ok(None) };
        let Some(fact) = self.facts.get(id) else { return Ok(None) };
        let packing = view.map(|view| Packing {
            source: vec![fact.count()],
            view: Some(view),
            dims: vec![PackedDim { axis: 0, size: fact.count(), step: 1 }],
            ..Packing::default()
        });
        let tensor = self.weight(WeightKey { value, packing, read_as: None }, scalar)?;
        self.values.tensors[id.index()] = Some(tensor);
        Ok(Some(tensor))
    }

    /// The tensor of a constant, whose elements kernels load into registers of type `scalar`; `None`: those of its dtype.
    fn weight(&mut self, key: WeightKey, scalar: Option<Scalar>) -> Result<TensorId, Why> {
        let value = self.graph.value(key.value);
        let Some(tensor) = &value.constant else { refuse!("'{}' is no constant", value.name) };
        let dtype = key.read_as.unwrap_or(tensor.dtype());
        let storage = self.integers.storage_of_constant(dtype, key.packing.is_some());
        let Some(element) = scalar.or(self.integers.register(dtype)).zip(storage) else {
            refuse!("the device does not compute with {dtype}")
        };
        let mut place = None;
        for &known in &self.values.weights[key.value.index()] {
            let known_tensor = self.program.tensor(known);
            let Place::Weight(i) = known_tensor.place else { continue };
            if self.program.weights[i] == key {
                if known_tensor.scalar == element.0 {
                    return Ok(known);
                }
                place = Some(i);
            }
        }
        let tensor = key.constant(tensor)?;
        if self.integers == Integers::Bits32 && Integers::fewest(&tensor) == Integers::Bits64 {
            return Err(Why::too_wide(format_args!("an element of '{}'", value.name)));
        }
        let shape = key.packing.as_ref().map_or(tensor.shape().to_vec(), |packing| vec![packing.count()]);
        let place = Place::Weight(place.unwrap_or(self.program.weights.len()));
        let id = self.program.add_tensor(value.name.clone(), element, shape, place);
        self.values.weights[key.value.index()].push(id);
        if place == Place::Weight(self.program.weights.len()) {
            self.program.weights.push(key);
        }
        Ok(id)
    }
}
