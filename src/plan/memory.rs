//! Memory: which tensors share memory (views, parts of a concatenation, results in place), how long each block is alive, and
//! where each lies in the arena.

use super::arena::{self, Lifetime};
use super::copies::{self, copy};
use super::program::{Call, Place, Program, Step, TensorId};
use super::refusal::Refusal;
use super::tied;
use super::why::Note;
use crate::kernels::{Kernel, MAX_BINDINGS, Target, VECTOR_BYTES};
use crate::{Error, Result};

/// The place of every tensor of a program in the arena. Three temporaries of 4 KiB, two of them alive at any time, have a
/// `height` and a `max_live` of 8 KiB and a `total` of 12.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Byte offset of each tensor's block; `None` for tensors outside the arena.
    offsets: Vec<Option<u64>>,
    /// Bytes of the arena.
    pub(crate) height: u64,
    /// The most bytes that are alive at the same time: no arena can be smaller.
    pub(crate) max_live: u64,
    /// Bytes of all blocks together, which is the size of an arena that uses no memory twice.
    pub(crate) total: u64,
    pub(super) blocks: Vec<(TensorId, Lifetime)>,
}

impl Memory {
    /// The byte offset in the arena of a tensor that owns a block there.
    pub(crate) fn offset(&self, tensor: TensorId) -> Option<u64> {
        self.offsets.get(tensor.index()).copied().flatten()
    }
}

/// Turns the program's steps into calls, and lets tensors share memory where they may.
pub(crate) fn shared(mut program: Program, target: &Target) -> Program {
    resolve_views(&mut program, target);
    reuse_in_place(&mut program);
    tied::share(&mut program);
    program.drop_unread_weights();
    program
}

/// Places the tensors that do not lie in another tensor's memory.
pub(crate) fn place(program: &Program, target: &Target) -> Result<Memory> {
    check_bindings(program, target)?;
    let lives = lifetimes(program);
    let mut blocks = Vec::new();
    for (i, life) in lives.iter().enumerate() {
        let tensor = TensorId(i as u32);
        let (Some((first, last)), Place::Arena) = (life, program.tensor(tensor).place) else { continue };
        let size = program.tensor(tensor).bytes();
        blocks.push((tensor, Lifetime { start: *first, end: last + 1, size }));
    }
    let align = target.offset_alignment.max(VECTOR_BYTES);
    let lives: Vec<Lifetime> = blocks.iter().map(|b| b.1).collect();
    let placement = arena::place(&lives, align);
    let mut memory = Memory {
        offsets: vec![None; program.tensors.len()],
        height: placement.height,
        max_live: placement.max_live,
        total: lives.iter().map(|life| life.size.next_multiple_of(align)).sum(),
        blocks,
    };
    for ((tensor, _), offset) in memory.blocks.iter().zip(placement.offsets) {
        memory.offsets[tensor.index()] = Some(offset);
    }
    Ok(memory)
}

fn check_bindings(program: &Program, target: &Target) -> Result<()> {
    let bindings = |call: &Call| call.tensors.len() + usize::from(call.kernel.spec().reports());
    if let Some(call) = program.calls.iter().find(|call| bindings(call) > MAX_BINDINGS) {
        let what = format!("the number of bindings of kernel {} ({})", call.kernel.spec().label(), call.node);
        return Err(Error::Limit {
            what,
            value: bindings(call) as u64,
            limit: MAX_BINDINGS as u64,
            in_bytes: false,
        });
    }
    for &tensor in program.calls.iter().flat_map(|call| &call.tensors) {
        let (tensor, limit) = (program.tensor(tensor), target.max_binding);
        if tensor.bytes() > limit {
            let what = format!("tensor '{}'", tensor.name);
            return Err(Error::Limit { what, value: tensor.bytes(), limit, in_bytes: true });
        }
    }
    Ok(())
}

fn resolve_views(program: &mut Program, target: &Target) {
    let steps = std::mem::take(&mut program.steps);
    program.calls.reserve(steps.len());
    for step in steps {
        match step {
            Step::Call(call) => program.calls.push(call),
            Step::View { output, of, offset } => {
                let (root, at) = program.root(of);
                let whole = program.tensor(root).count == program.tensor(output).count
                    && lie_alike(program, root, output);
                let fits = may_lie_in(program, output, (root, offset + at), target);
                let other_way = whole && program.tensor(root).place == Place::Arena;
                let shared = if other_way { Ok(()) } else { fits };
                program.notes.add(|| Note::Shared { tensor: output, with: of, shared });
                // A later kernel could write in place over a view of an input: only blocks of the arena are written in place,
                // so none does.
                if fits.is_ok() {
                    program.tensors[output.index()].place = Place::View(root, at + offset);
                } else if other_way {
                    program.tensors[root.index()].place = Place::View(output, 0);
                } else {
                    copy_part(program, target, of, offset, output, 0);
                }
            }
            Step::Part { whole, part, offset } => {
                let (root, at) = program.root(whole);
                let shared = may_lie_in(program, part, (root, offset + at), target);
                program.notes.add(|| Note::Shared { tensor: part, with: whole, shared });
                if shared.is_ok() {
                    program.tensors[part.index()].place = Place::View(root, at + offset);
                } else {
                    fill_part(program, target, part, whole, offset);
                }
            }
        }
    }
}

fn lie_alike(program: &Program, a: TensorId, b: TensorId) -> bool {
    program.tensor(a).storage == program.tensor(b).storage
}

/// Whether tensor `id` may lie in the memory of `root`, from element `element` on.
fn may_lie_in(
    program: &Program,
    id: TensorId,
    (root, element): (TensorId, usize),
    target: &Target,
) -> Result<(), Refusal> {
    let tensor = program.tensor(id);
    if tensor.place != Place::Arena {
        return Err(Refusal::PlaceGiven);
    }
    if !lie_alike(program, id, root) {
        return Err(Refusal::OtherStorage);
    }
    tensor.begins_at(element as i64, target)
}

/// Copies `part` into `whole` from element `offset` on. Where `part` lies in the memory of `whole` already, as in a Concat of one
/// value twice, no call binds both: WebGPU refuses a call that writes memory which it also binds otherwise.
fn fill_part(program: &mut Program, target: &Target, part: TensorId, whole: TensorId, offset: usize) {
    let (root, at) = program.root(whole);
    if program.root(part).0 != root {
        return copy_part(program, target, part, 0, whole, offset);
    }
    let source = program.tensor(part).clone();
    let copy = program.add_tensor(source.name.clone(), source.element(), source.shape.clone(), Place::Arena);
    let fits = may_lie_in(program, copy, (root, at + offset), target).is_ok();
    if fits {
        program.tensors[copy.index()].place = Place::View(root, at + offset);
    }
    copy_part(program, target, part, 0, copy, 0);
    if !fits {
        copy_part(program, target, copy, 0, whole, offset);
    }
}

/// Copies a whole tensor into a part of another, or a part of a tensor into a whole other tensor.
fn copy_part(program: &mut Program, target: &Target, from: TensorId, skip: usize, to: TensorId, at: usize) {
    let (source, sink) = (program.tensor(from).clone(), program.tensor(to).clone());
    let count = (source.count - skip.min(source.count)).min(sink.count - at.min(sink.count));
    if count == 0 {
        return;
    }
    let scalar = program.moving(from, to);
    let call = if skip == 0 && at == 0 {
        copy(scalar, from, to, count, target, sink.name.into())
    } else {
        copies::copy_range(scalar, (from, skip), (to, at), count, target, sink.name.into())
    };
    program.calls.push(call);
}

/// For each tensor that owns memory, the first and the last call that touch it.
fn lifetimes(program: &Program) -> Vec<Option<(u32, u32)>> {
    let mut lives: Vec<Option<(u32, u32)>> = vec![None; program.tensors.len()];
    for (i, call) in program.calls.iter().enumerate() {
        for &tensor in &call.tensors {
            let (root, _) = program.root(tensor);
            let i = i as u32;
            let life = lives[root.index()].get_or_insert((i, i));
            life.1 = i;
        }
    }
    lives
}

/// Lets a call write its result over an operand that no later call reads.
fn reuse_in_place(program: &mut Program) {
    let mut lives = lifetimes(program);
    for i in 0..program.calls.len() {
        let Some(InPlace { operand, at, kernel }) = in_place(program, &lives, i) else { continue };
        let output = program.calls[i].tensors.remove(at);
        program.calls[i].kernel = kernel;
        program.notes.add(|| Note::InPlace { tensor: output, with: operand, shared: Ok(()) });
        let ends = lives[output.index()].map_or(0, |life| life.1);
        if program.tensor(output).place == Place::Arena {
            program.tensors[output.index()].place = Place::View(operand, 0);
            if let Some(life) = &mut lives[operand.index()] {
                life.1 = life.1.max(ends);
            }
        } else {
            program.tensors[operand.index()].place = Place::View(output, 0);
        }
    }
}

/// How a call writes its result over an operand.
struct InPlace {
    operand: TensorId,
    /// The slot of the output; the kernel in place does not have it.
    at: usize,
    kernel: Kernel,
}

/// The first operand in whose place the call may write its result.
fn in_place(program: &mut Program, lives: &[Option<(u32, u32)>], i: usize) -> Option<InPlace> {
    (0..program.calls[i].tensors.len()).find_map(|slot| match over(program, lives, i, slot) {
        Ok(found) => Some(found),
        Err(why) => {
            note_refusal(program, i, slot, why);
            None
        }
    })
}

/// How call `i` writes its result over the operand of `slot`.
fn over(program: &Program, lives: &[Option<(u32, u32)>], i: usize, slot: usize) -> Result<InPlace, Refusal> {
    let (call, holds) = (&program.calls[i], |holds: bool, why| if holds { Ok(()) } else { Err(why) });
    let (root, offset) = program.root(call.tensors[slot]);
    let block = program.tensor(root);
    holds(block.place == Place::Arena, Refusal::NotInArena)?;
    let whole = program.tensor(call.tensors[slot]).count == block.count;
    holds(offset == 0 && whole, Refusal::PartOfBlock)?;
    holds(lives[root.index()].is_some_and(|life| life.1 == i as u32), Refusal::ReadLater)?;
    let uses = call.tensors.iter().filter(|&&t| program.root(t).0 == root).count();
    holds(uses == 1, Refusal::ReadTwice)?;
    let kernel = call.kernel.spec().in_place(slot).ok_or(Refusal::ReadsBehind)?;
    let at = call.kernel.spec().slots().iter().position(|slot| slot.written).ok_or(Refusal::ReadsBehind)?;
    debug_assert_eq!(kernel.spec().slots().len() + 1, call.tensors.len());
    let output = call.tensors[at];
    holds(slot != at, Refusal::ReadsBehind)?;
    let owns = matches!(program.tensor(output).place, Place::Arena | Place::Output(_));
    holds(owns, Refusal::ResultPlaced)?;
    holds(lives[output.index()].is_some_and(|life| life.0 == i as u32), Refusal::WrittenBefore)?;
    holds(block.count == program.tensor(output).count, Refusal::OtherCount)?;
    holds(lie_alike(program, root, output), Refusal::OtherStorage)?;
    Ok(InPlace { operand: root, at, kernel })
}

/// Notes why call `i` does not write its results over the operand of `slot`.
fn note_refusal(program: &mut Program, i: usize, slot: usize, why: Refusal) {
    if !program.notes.wanted() {
        return;
    }
    let call = &program.calls[i];
    let slots = call.kernel.spec().slots();
    let written = |slot: usize| slots.get(slot).is_some_and(|slot| slot.written);
    if written(slot) {
        return;
    }
    let with = program.root(call.tensors[slot]).0;
    for tensor in (0..slots.len()).filter(|&at| written(at)).filter_map(|at| call.tensors.get(at).copied()) {
        program.notes.add(|| Note::InPlace { tensor, with, shared: Err(why) });
    }
}
