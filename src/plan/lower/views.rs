//! Outputs that lie in the memory of inputs, and inputs that are read where other tensors hold them.

use super::{Caller, Located, Lower, Pieces, StridedValue};
use crate::array::strides;
use crate::error::{Why, refuse};
use crate::facts::{Facts, is_too_large};
use crate::graph::ValueId;
use crate::kernels::{Access, Target};
use crate::ops::Graph;
use crate::plan::Options;
use crate::plan::appended::Appended;
use crate::plan::program::{Place, Program, Step, TensorId};
use crate::plan::question::Always;
use crate::plan::refusal::Refusal;
use crate::plan::why::Note;
use crate::shape::product;

/// Gives the inputs that have room behind their rows a tensor of the caller's whole memory.
pub(super) fn make_room(
    graph: &Graph,
    facts: &Facts,
    program: &mut Program,
    values: &mut Located,
    (target, options): (&Target, &Options),
) {
    if facts.rooms().is_empty() {
        return;
    }
    for appended in Appended::all(graph) {
        let room = facts.rooms().iter().find(|(input, _)| *input == appended.input);
        let (id, output) = (graph.inputs[appended.input], graph.outputs[appended.output]);
        let (Some((input, room)), Some(fact)) = (room, facts.get(id)) else { continue };
        let register = options.integers.register(fact.dtype).zip(options.integers.storage(fact.dtype));
        let whole = room.around(&fact.shape);
        let Some(element) = register.filter(|(_, storage)| {
            !is_too_large(&whole) && storage.bytes(product(&whole)) <= target.max_binding
        }) else {
            continue;
        };
        let name = &graph.value(id).name;
        let access = rows(&fact.shape, &whole, room.axis);
        let tensor = program.add_tensor(name.clone(), element, whole, Place::Caller(*input));
        program.callers.push(*input);
        values.rooms.insert(output, Caller { input: *input, tensor, is_filled: false });
        if fact.count() > 0 {
            let label = name.as_str().into();
            values.strided[id.index()] = Some(StridedValue { tensor, access, constant: false, label });
        }
    }
}

/// How a tensor of `shape` lies at the beginning of memory for `whole`, which has more rows along `axis`.
fn rows(shape: &[usize], whole: &[usize], axis: usize) -> Access {
    let step = strides(whole)[axis];
    let outer = (product(&shape[..axis]), (whole[axis] * step) as i64);
    Access::new(0, &[outer, (shape[axis] * step, 1)])
}

impl Lower<'_> {
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

    /// The caller's memory of input 0, in which output 0 lies from now on: behind the rows of input 0, along `axis`, are those of
    /// the others. `None` where there is no room.
    pub(crate) fn appended(&mut self, axis: usize) -> Result<Option<TensorId>, Why> {
        let Some(&Some(output)) = self.node.outputs.first() else { return Ok(None) };
        let Some(&caller) = self.values.rooms.get(&output) else { return Ok(None) };
        let (shape, whole) = (&self.out(0)?.shape, self.shape(caller.tensor).to_vec());
        // A kernel that reads rows of this memory would write others of it.
        let lies_there =
            |id: &ValueId| self.values.strided(*id).is_some_and(|own| own.tensor == caller.tensor);
        let element = Some(self.program.tensor(caller.tensor).element());
        if !self.unit.pointwise.is_empty()
            || shape[axis] > whole[axis]
            || self.held(output) != element
            || self.node.inputs.iter().skip(1).flatten().any(lies_there)
        {
            return Ok(None);
        }
        let (access, label) = (rows(shape, &whole, axis), self.unit.label.clone());
        self.values.strided[output.index()] =
            Some(StridedValue { tensor: caller.tensor, access, constant: false, label });
        self.values.rooms.insert(output, Caller { is_filled: true, ..caller });
        Ok(Some(caller.tensor))
    }

    /// The tensor in which value `id` lies, and the access to it that reads what `outer` reads of the value.
    pub(in crate::plan) fn access(&mut self, id: ValueId, outer: &Access) -> Result<(TensorId, Access), Why> {
        if let Some(strided) = self.values.strided(id) {
            match outer.within(&strided.access) {
                Some(access) => return Ok((strided.tensor, access)),
                None => self.note_copy(id, Refusal::ManyStrides),
            }
        }
        Ok((self.tensor(id)?, outer.clone()))
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
        self.strided_value(id, shape, fit)
    }

    /// Where a value lies, with the pieces of each dimension of its shape.
    pub(crate) fn lying(&mut self, id: ValueId, shape: &[usize]) -> Result<(TensorId, Vec<Pieces>), Why> {
        if let Some(lying) = self.strided_value(id, shape, |_| true)? {
            return Ok(lying);
        }
        let dim = |(&size, stride)| if size == 1 { Pieces::new() } else { vec![(size, stride)] };
        Ok((self.dense(id)?, shape.iter().zip(strides(shape)).map(dim).collect()))
    }

    /// The tensor of a value that a node of the unit reads.
    pub(crate) fn dense(&mut self, id: ValueId) -> Result<TensorId, Why> {
        self.tensor(id)
    }

    fn strided_value(
        &mut self,
        id: ValueId,
        shape: &[usize],
        fit: impl Fn(&[Pieces]) -> bool,
    ) -> Result<Option<(TensorId, Vec<Pieces>)>, Why> {
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

    /// Notes that the unit wants a copy of a value that is strided in another.
    pub(super) fn note_copy(&mut self, value: ValueId, why: Refusal) {
        let unit = self.unit;
        self.note(|| Note::Copied { value, reader: unit.label.clone(), why });
    }
}

/// The sizes and strides, none of them negative, that make up each dimension of `shape`.
fn pieces(access: &Access, shape: &[usize]) -> Option<Vec<Pieces>> {
    let natural = |&(size, stride): &(usize, i64)| Some((size, usize::try_from(stride).ok()?));
    access.split(shape)?.iter().map(|pieces| pieces.iter().map(natural).collect()).collect()
}
