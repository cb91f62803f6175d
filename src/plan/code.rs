//! Fused code: the expression of a unit's pointwise nodes, alone or as the epilogue of another kernel.

use super::lower::Lower;
use super::program::TensorId;
use super::question::{Always, IndexOf};
use super::refusal::Refusal;
use super::why::Note;
use crate::array::Numbers;
use crate::error::{Why, refuse};
use crate::graph::{NodeId, ValueId};
use crate::kernels::Access;
use crate::kernels::elementwise::{self, Elementwise};
use crate::kernels::expr::{Builder, Expr, Reg, Scalar};
use crate::kernels::fused::{Fused, Index, Operand};
use crate::shape::product;

/// Fused code at the end of a kernel, which is applied to each element that the kernel computes; or at its beginning, applied
/// to each element that the kernel reads.
#[derive(Clone)]
pub(crate) struct Epilogue {
    pub(crate) fused: Fused,
    pub(crate) tensors: Vec<TensorId>,
    pub(crate) params: Vec<u32>,
}

/// The most reads of one element for which a kernel computes a prologue with operands: a 3x3 window reads an element 9 times.
/// With more reads, on lavapipe, a prologue takes 1.1 to 1.2 times as long as a kernel of its own.
const FEW_READS: usize = 9;

/// Why a kernel is refused that would compute with 64 bits what only 32 bits have.
pub(crate) const NO_WIDE: &str = "the device computes it with 32 bits, and not with 64";

/// How a kernel reads a tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reads {
    /// As it lies in memory: no prologue is possible.
    Memory,
    /// By elements whose index the kernel knows.
    Elements,
    /// By elements whose index the kernel knows, and also the line and the place in the line, where memory is cut into lines
    /// of `line` elements. Each element is read about `times` times. A product reads its left operand `[64, 256]` by lines of
    /// 256.
    Lines { line: usize, times: usize },
}

/// Two shapes under which broadcasting pairs the elements of an operand with those of the result; each has as many elements as
/// the tensor that it stands for. A scale for each channel is `[c, 1, 1]` against `[n, c, h, w]`, a scale for each pair of
/// columns is `[rows, pairs, 1]` against `[rows, pairs, 2]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pairing {
    pub(crate) operand: Vec<usize>,
    pub(crate) result: Vec<usize>,
}

impl Pairing {
    /// Pairs no elements: the code picks elements of the operand.
    pub(super) fn table() -> Pairing {
        Pairing { operand: vec![0], result: vec![0] }
    }
}

impl<'a> Lower<'a> {
    /// The epilogue that follows this operator's value. Where nothing is fused it rounds the value to its dtype. `matrix` is
    /// (rows, columns) of the kernel's result: a vector along either axis is then indexed without a division.
    pub(crate) fn epilogue(&mut self, matrix: Option<(usize, usize)>) -> Result<Epilogue, Why> {
        let scalar = self.out_register()?;
        self.epilogue_after(matrix, scalar, |_, value| Ok(value))
    }

    /// Like [`Lower::epilogue`], but `finish` first makes the operator's value from what the kernel accumulated in a register
    /// of type `scalar`. Bias, scale and quantisation are added in `finish`.
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
        code.builder.results_of(code.cx.out(0)?.dtype, 0);
        let value = finish(&mut code, value)?;
        let value = code.builder.result(value, code.cx.out(0)?.dtype);
        code.regs.push((own, value));
        let unit = code.cx.unit;
        let result = match unit.outputs.first() {
            Some(&result) if !unit.pointwise.is_empty() => result,
            _ => own,
        };
        code.run(&unit.pointwise)?;
        let mut epilogue = code.finish(&[result])?;
        if let Some((rows, columns)) = matrix {
            epilogue.use_matrix(self, rows, columns);
        }
        Ok(epilogue)
    }

    /// The code that computes the elements of this operator's input 0, if it is fused into the operator's kernel.
    pub(super) fn prologue(&mut self) -> Result<Option<Epilogue>, Why> {
        let unit = self.unit;
        let (false, Some(&Some(input))) = (unit.prologue.is_empty(), self.node.inputs.first()) else {
            return Ok(None);
        };
        let mut code = Code::new(self, input)?;
        code.run(&unit.prologue)?;
        code.finish(&[input]).map(Some)
    }

    /// A tensor whose elements are computed from `operands`, which broadcast to its shape from the given shapes. The kernel
    /// that reads the tensor computes them, if it can; otherwise a kernel of their own does.
    pub(crate) fn deferred(
        &mut self,
        (scalar, shape): (Scalar, &[usize]),
        operands: &[(TensorId, &[usize])],
        build: impl FnOnce(&mut Builder, &[Reg]) -> Reg,
    ) -> TensorId {
        self.deferred_picking((scalar, shape), operands, &[], build)
    }

    /// As `deferred`, where `build` picks elements of `tables`, whose registers follow those of the operands.
    pub(crate) fn deferred_picking(
        &mut self,
        (scalar, shape): (Scalar, &[usize]),
        operands: &[(TensorId, &[usize])],
        tables: &[TensorId],
        build: impl FnOnce(&mut Builder, &[Reg]) -> Reg,
    ) -> TensorId {
        let code = self.broadcast(shape, operands, tables, build);
        let tensor = self.temporary(scalar, shape);
        self.deferred.insert(tensor, code);
        tensor
    }

    /// Whether the tensor's elements are left to the kernel that reads them.
    pub(crate) fn is_deferred(&self, tensor: TensorId) -> bool {
        self.deferred.contains_key(&tensor)
    }

    /// The same tensor, after its elements have been computed into memory.
    pub(crate) fn realized(&mut self, tensor: TensorId) -> TensorId {
        self.computed_first(tensor, Refusal::ReadsMemory)
    }

    /// The tensor itself, which a kernel of its own computes, as the one that reads it does not.
    fn computed_first(&mut self, tensor: TensorId, why: Refusal) -> TensorId {
        if let Some(code) = self.deferred.remove(&tensor) {
            self.note(|| Note::ComputedFirst { tensor, why });
            self.compute(code, &[tensor]);
        }
        tensor
    }

    /// Code that computes elements from those of `operands`, which broadcast to `shape` from the given shapes, and from picked
    /// elements of `tables`.
    pub(super) fn broadcast(
        &mut self,
        shape: &[usize],
        operands: &[(TensorId, &[usize])],
        tables: &[TensorId],
        build: impl FnOnce(&mut Builder, &[Reg]) -> Reg,
    ) -> Epilogue {
        let mut builder = Builder::of_shape(shape, self.integers);
        let (mut specs, mut params, mut regs) = (vec![], vec![], vec![]);
        for (n, &(tensor, from)) in operands.iter().enumerate() {
            let (index, words) = self.index(IndexOf::Number(n), &Access::broadcast(from, shape));
            specs.push(Operand { scalar: self.scalar(tensor), index });
            params.extend(words);
            regs.push(builder.load(n, self.scalar(tensor)));
        }
        for (n, &table) in tables.iter().enumerate() {
            let scalar = self.scalar(table);
            specs.push(Operand { scalar, index: Index::Table });
            regs.push(builder.table(operands.len() + n, scalar));
        }
        let value = build(&mut builder, &regs);
        let (expr, constants) = builder.finish(vec![value]);
        if expr.mixes() {
            self.refused = Some(NO_WIDE);
        }
        params.extend(constants);
        let tensors = operands.iter().map(|operand| operand.0).chain(tables.iter().copied()).collect();
        Epilogue { fused: Fused { expr, operands: specs }, tensors, params }
    }

    /// Emits one kernel that computes all elements of `outputs`, which have the same shape.
    pub(super) fn compute(&mut self, code: Epilogue, outputs: &[TensorId]) {
        let Epilogue { fused, mut tensors, params } = code;
        let count = outputs.first().map_or(0, |&output| product(self.shape(output)));
        tensors.extend(outputs);
        let params = std::iter::once(count as u32).chain(params).collect();
        self.call(Elementwise { fused, in_place: None }, tensors, params, elementwise::groups(count));
    }

    /// For a kernel that reads `tensor` as `operand`: the tensor that the kernel reads instead, and the code that computes the
    /// elements of `tensor` from it. The code's anchor is an operand that lies in memory as `tensor` would. `None`: the kernel
    /// reads the tensor itself.
    pub(crate) fn loaded(
        &mut self,
        operand: &'static str,
        tensor: TensorId,
        reads: Reads,
    ) -> (TensorId, Option<Epilogue>) {
        let Some(mut code) = self.deferred.get(&tensor).cloned() else { return (tensor, None) };
        let count: usize = product(self.shape(tensor));
        let fits = match reads {
            Reads::Memory => false,
            Reads::Elements => true,
            Reads::Lines { line, .. } => line > 0 && count.is_multiple_of(line),
        };
        let linear = |operand: &Operand| operand.index == Index::Linear;
        let main = code.fused.operands.iter().position(linear);
        let Some(main) = main.filter(|_| self.always(Always::Loaded(operand), fits)) else {
            let why = match reads {
                Reads::Memory => Refusal::ReadsMemory,
                _ if fits && main.is_some() => Refusal::OtherSizes,
                _ => Refusal::OtherLines,
            };
            return (self.computed_first(tensor, why), None);
        };
        code.fused.operands[main].index = Index::Anchor;
        let source = code.tensors.remove(main);
        if let Reads::Lines { line, times } = reads {
            code.use_matrix(self, count / line, line);
            // An operand with one element for each element is read as often as the anchor.
            let lines = |o: &Operand| matches!(o.index, Index::Anchor | Index::Single | Index::Row);
            let few = self.always(Always::FewReads(operand), times <= FEW_READS);
            if !few && !code.fused.operands.iter().all(lines) {
                let why = Refusal::LoadsOften { limit: FEW_READS };
                return (self.computed_first(tensor, why), None);
            }
        }
        (source, Some(code))
    }

    /// The epilogue of a kernel that computes a part of a sum: it adds the sum in `before`.
    pub(crate) fn partial(&mut self, scalar: Scalar, before: Option<TensorId>) -> Epilogue {
        let mut builder = Builder::of_shape(&[], self.integers);
        if let Some(fact) = self.optional_out(0) {
            builder.results_of(fact.dtype, 0);
        }
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
}

impl Epilogue {
    /// Gives operands that are vectors along the rows or columns of the surrounding kernel's matrix the index `Row` or
    /// `Column`.
    fn use_matrix(&mut self, cx: &mut Lower, rows: usize, columns: usize) {
        let mut params = Vec::new();
        let mut old = self.params.iter().copied();
        for (n, operand) in self.fused.operands.iter_mut().enumerate() {
            match operand.index {
                Index::Axis => {
                    let (inner, length) = (old.next().unwrap_or(0), old.next().unwrap_or(0));
                    let by_row = (inner as usize, length as usize) == (columns, rows);
                    let by_column = (inner as usize, length as usize) == (1, columns);
                    if cx.always(Always::OperandOfRows(n), by_row) {
                        operand.index = Index::Row;
                    } else if cx.always(Always::OperandOfColumns(n), by_column) {
                        operand.index = Index::Column;
                    } else {
                        params.extend([inner, length]);
                    }
                }
                Index::Strided(rank) => params.extend(old.by_ref().take(2 * rank as usize)),
                Index::Offset(rank) => params.extend(old.by_ref().take(1 + 2 * rank as usize)),
                _ => {}
            }
        }
        params.extend(old);
        self.params = params;
    }
}

/// Builds the fused code of a unit.
pub(crate) struct Code<'c, 'a> {
    pub(super) cx: &'c mut Lower<'a>,
    /// Builds elements of the anchor's own output, or of the first output of a pointwise unit.
    pub(crate) builder: Builder,
    operands: Vec<Operand>,
    tensors: Vec<TensorId>,
    index_params: Vec<u32>,
    /// Values that this code computes.
    regs: Vec<(ValueId, Reg)>,
    /// Values that this code loads.
    loads: Vec<(ValueId, Option<Pairing>, Reg)>,
}

impl<'c, 'a> Code<'c, 'a> {
    pub(super) fn new(cx: &'c mut Lower<'a>, of: ValueId) -> Result<Self, Why> {
        let Some(fact) = cx.facts.get(of) else { refuse!("nothing is known of the output") };
        let builder = Builder::of_shape(&fact.shape, cx.integers);
        Ok(Code {
            cx,
            builder,
            operands: vec![],
            tensors: vec![],
            index_params: vec![],
            regs: vec![],
            loads: vec![],
        })
    }

    /// The context of the operator's `lower`.
    pub(crate) fn cx(&self) -> &Lower<'a> {
        self.cx
    }

    /// Input `i` of the operator, whose elements are read as if its shape were `shape`, broadcast to the result's.
    pub(crate) fn input(&mut self, i: usize, shape: &[usize]) -> Result<Reg, Why> {
        match self.cx.node.inputs.get(i).copied().flatten() {
            Some(id) => {
                let pairing = Pairing { operand: shape.to_vec(), result: self.builder.shape().to_vec() };
                self.value(id, Some(pairing))
            }
            None => refuse!("input {i} is required"),
        }
    }

    /// `value` plus input `i` of the operator, read under `shape`.
    pub(crate) fn add_input(&mut self, value: Reg, i: usize, shape: &[usize]) -> Result<Reg, Why> {
        let other = self.input(i, shape)?;
        Ok(self.builder.add(value, other))
    }

    /// The element of `tensor`, which must have the result's shape.
    pub(crate) fn tensor(&mut self, tensor: TensorId) -> Reg {
        let scalar = self.cx.scalar(tensor);
        self.tensors.push(tensor);
        self.operands.push(Operand { scalar, index: Index::Linear });
        self.builder.load(self.operands.len() - 1, scalar)
    }

    pub(super) fn run(&mut self, nodes: &[NodeId]) -> Result<(), Why> {
        for (site, node) in nodes.iter().enumerate() {
            let node = &self.cx.graph.nodes[node.index()];
            let (operator, facts) = (node.op.operator(), self.cx.facts.of_inputs(node));
            let mut inputs = Vec::new();
            for (i, input) in node.data_inputs().enumerate() {
                let Some(id) = input else {
                    inputs.push(None);
                    continue;
                };
                inputs.push(Some(match operator.table() {
                    Some(table) if table == i => self.table(id)?,
                    _ => {
                        let pairing = operator.pairing(i, &facts)?;
                        self.value(id, pairing)?
                    }
                }));
            }
            let [Some(output)] = node.outputs[..] else { refuse!("a pointwise operator has one output") };
            let Some(fact) = self.cx.facts.get(output) else { refuse!("nothing is known of the output") };
            self.builder.results_of(fact.dtype, site);
            let Some(value) = operator.pointwise(&mut self.builder, &inputs, fact.dtype) else {
                refuse!("is not pointwise for {}", fact.dtype)
            };
            if self.builder.exceeds(value) {
                return Err(Why::too_wide("a constant"));
            }
            let value = match operator.rounds(&facts) {
                true => self.builder.narrow(value, fact.dtype),
                false => self.builder.result(value, fact.dtype),
            };
            self.regs.push((output, value));
        }
        Ok(())
    }

    fn value(&mut self, id: ValueId, pairing: Option<Pairing>) -> Result<Reg, Why> {
        if let Some(&(_, reg)) = self.regs.iter().find(|(value, _)| *value == id) {
            return Ok(reg);
        }
        if let Some(&(.., reg)) = self.loads.iter().find(|(value, as_, _)| (*value, as_) == (id, &pairing)) {
            return Ok(reg);
        }
        let Some(fact) = self.cx.facts.get(id) else { refuse!("nothing is known of an input") };
        let Some(register) = self.builder.register(fact.dtype) else {
            refuse!("the device does not compute with {}", fact.dtype)
        };
        let single = fact.constant().filter(|array| array.len() == 1);
        // A value that is a single element for some sizes only is read from memory for all sizes. Fusion has not counted it as
        // a binding, and has left a binding for the first of these values only.
        let always = self.cx.always(Always::SingleConstant(id), single.is_some()) || self.tensors.len() > 1;
        let single = single.filter(|_| always);
        let reg = match single.map(|array| &array.data) {
            Some(Numbers::Float(values)) => self.builder.constant(register, values[0]),
            Some(Numbers::Int(values)) => self.builder.whole(register, values[0]),
            _ => {
                let broadcast = match &pairing {
                    Some(Pairing { operand, result }) => Access::broadcast(operand, result),
                    None => Access::broadcast(&fact.shape, self.builder.shape()),
                };
                let (tensor, access) = self.cx.access(id, &broadcast)?;
                let (index, params) = self.cx.index(IndexOf::Value(id), &access);
                self.tensors.push(tensor);
                self.index_params.extend(params);
                let scalar = if register.is_wide_integer() { self.cx.scalar(tensor) } else { register };
                self.operands.push(Operand { scalar, index });
                let element = self.builder.load(self.operands.len() - 1, scalar);
                self.builder.convert(element, register)
            }
        };
        self.loads.push((id, pairing, reg));
        Ok(reg)
    }

    /// All elements of a value, of which the code picks some.
    fn table(&mut self, id: ValueId) -> Result<Reg, Why> {
        let pairing = Some(Pairing::table());
        if let Some(&(.., reg)) = self.loads.iter().find(|(value, as_, _)| (*value, as_) == (id, &pairing)) {
            return Ok(reg);
        }
        let tensor = self.cx.tensor(id)?;
        let scalar = self.cx.scalar(tensor);
        self.tensors.push(tensor);
        self.operands.push(Operand { scalar, index: Index::Table });
        let reg = self.builder.table(self.operands.len() - 1, scalar);
        self.loads.push((id, pairing, reg));
        Ok(reg)
    }

    pub(super) fn finish(self, outputs: &[ValueId]) -> Result<Epilogue, Why> {
        let mut regs = Vec::new();
        for id in outputs {
            match self.regs.iter().find(|(value, _)| value == id) {
                Some(&(_, reg)) => regs.push(reg),
                None => refuse!("an output was not computed"),
            }
        }
        let (expr, constants): (Expr, Vec<u32>) = self.builder.finish(regs);
        if expr.mixes() || expr.has_f64() && !self.cx.target.computes_f64 {
            refuse!("{NO_WIDE}");
        }
        let mut params = self.index_params;
        params.extend(constants);
        Ok(Epilogue { fused: Fused { expr, operands: self.operands }, tensors: self.tensors, params })
    }
}
