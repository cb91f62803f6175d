//! Probing: programs are lowered for sizes that nothing runs, so that the first plan's kernels serve later sizes too.
//!
//! An example. A model halves images `[batch, 3, h, w]` four times, and runs first with `[1, 3, 256, 256]`. It takes multiples
//! of 16: that is the *step* of `h` and of `w`. Rows of 256, 128, 64, 32 and 16 elements are whole vectors of 4, so the first
//! run by itself would read vectors everywhere; a run with images of 272 would then find rows of 17 in the last layer, and
//! wait for another pipeline. So the graph is lowered for probe sizes first: `h` of 21 steps (336), `w` of 42 steps (672),
//! and a `batch` of 10. Rows are 672, 336, 168, 84 and 42 there. 42 is no multiple of 4: the last layer reads single elements
//! from the first run on. The others are multiples of 4, and are for every multiple of 16.
//!
//! What is not found by probing costs a pipeline later, never a wrong result: each plan asks about its own sizes too
//! ([`super::specialisation`]).

use super::specialisation::{Changes, Phase};
use super::{Options, Plan, Program, Specialisation, lower, memory, placed};
use crate::facts::{FactBase, Facts, InputFact};
use crate::graph::ValueId;
use crate::kernels::{Target, Variant};
use crate::ops::Graph;
use crate::{Dim, Result};

/// Open dimensions that are probed: beyond, planning would take too long.
const MOST_OPEN: usize = 6;
/// The largest step that is looked for. Networks for images often have 32.
const LARGEST_STEP: i64 = 64;

/// Places (input, axis) of one open dimension; those of one name are one.
type OpenDim = Vec<(usize, usize)>;

/// Open dimensions that grow together, by their numbers in [`Probes::open`], and the step of each: negative where the model
/// takes nothing larger.
type DimGroup = Vec<(usize, i64)>;

/// The open dimensions of a graph's inputs, with the sizes of one run, and how far each can move.
pub(crate) struct Probes<'a> {
    graph: &'a Graph,
    base: &'a FactBase,
    inputs: &'a [InputFact],
    open: Vec<OpenDim>,
    groups: Vec<DimGroup>,
}

/// Where open dimensions move to, counted in their steps: the `i`th leaves the remainder `remainders[i % 2]` when it is divided
/// by `every`, and has grown by `least` steps at least. One of size 1 grows by `single` steps at most.
#[derive(Clone, Copy)]
struct ProbeSizes {
    every: usize,
    remainders: [usize; 2],
    least: usize,
    single: usize,
}

/// Sizes that are multiples of little else than their steps, from those that prove most to those that any device takes.
///
/// 21 is 10101 in binary: however often it is halved, up or down, it is no multiple of 4; nor are most products of two
/// dimensions, 21 and 42. A batch of more than 10 may be more than a device takes.
const ODD: [ProbeSizes; 3] = [
    ProbeSizes { every: 64, remainders: [21, 42], least: 0, single: 9 },
    ProbeSizes { every: 16, remainders: [5, 10], least: 0, single: 9 },
    ProbeSizes { every: 4, remainders: [1, 2], least: 0, single: 9 },
];

/// Large sizes, from the largest to what any device takes.
const LARGE: [ProbeSizes; 4] = [
    ProbeSizes { every: 64, remainders: [42, 21], least: 64, single: 64 },
    ProbeSizes { every: 64, remainders: [42, 21], least: 0, single: 64 },
    ProbeSizes { every: 16, remainders: [10, 5], least: 0, single: 16 },
    ProbeSizes { every: 4, remainders: [2, 1], least: 0, single: 4 },
];

/// Plans the first run of a graph. The answers that it and other sizes have in common go into `specialisation`, and the kernels
/// that some of those sizes need besides come with the plan.
pub(super) fn first_plan(
    probes: &Probes,
    facts: Facts,
    target: &Target,
    options: &Options,
    specialisation: &mut Specialisation,
) -> Result<Plan> {
    let mut lowering = Lowering { graph: probes.graph, target, options, specialisation };
    ODD.iter().find_map(|&sizes| lowering.probe(probes.at(sizes)));
    let mut emptied: Vec<Lowered> =
        probes.emptied().filter_map(|facts| lowering.probe(Some(facts))).collect();
    lowering.specialisation.advance(Phase::Tiles);
    let mut first = lowering.lowered(facts)?;
    let large = LARGE.iter().find_map(|&sizes| lowering.probe(probes.at(sizes)));
    // Where large sizes cannot be probed, their tiles are chosen when they come.
    let phase = if large.is_some() { Phase::Settled } else { Phase::Tiles };
    let mut others: Vec<Lowered> = large.into_iter().chain(lowering.probe(probes.least())).collect();
    lowering.specialisation.advance(phase);
    loop {
        let before = lowering.specialisation.changes();
        // More tiles to choose from matter to other sizes only: the first run's own stay the best for it.
        if first.seen.answers != before.answers {
            first = lowering.lowered(first.facts)?;
        }
        emptied = lowering.again(emptied, |seen, now| seen.answers == now.answers);
        others = lowering.again(others, |seen, now| seen == now);
        if lowering.specialisation.changes() == before {
            break;
        }
    }
    let all = |lowered: Lowered| compiled(memory::shared(lowered.program, target));
    let copies = emptied.into_iter().flat_map(all).filter(|variant| variant.kernel.spec().compiles_quickly());
    let spare = others.into_iter().flat_map(all).chain(copies).collect();
    Ok(Plan { spare, ..placed(first.program, target)? })
}

/// A program for some sizes, and how much had changed in the answers when it was lowered.
struct Lowered {
    facts: Facts,
    program: Program,
    seen: Changes,
}

struct Lowering<'a> {
    graph: &'a Graph,
    target: &'a Target,
    options: &'a Options,
    specialisation: &'a mut Specialisation,
}

impl Lowering<'_> {
    fn lowered(&mut self, facts: Facts) -> Result<Lowered> {
        let program = lower(self.graph, &facts, self.target, self.options, self.specialisation)?;
        Ok(Lowered { facts, program, seen: self.specialisation.changes() })
    }

    /// The program for probe sizes; `None` where the model or the device refuses these.
    fn probe(&mut self, facts: Option<Facts>) -> Option<Lowered> {
        self.lowered(facts?).ok()
    }

    /// Lowers the programs again whose answers do not hold any more.
    fn again(&mut self, all: Vec<Lowered>, holds: fn(Changes, Changes) -> bool) -> Vec<Lowered> {
        let one = |one: Lowered| match holds(one.seen, self.specialisation.changes()) {
            true => Some(one),
            false => self.probe(Some(one.facts)),
        };
        all.into_iter().filter_map(one).collect()
    }
}

/// What a program's calls need compiled.
fn compiled(program: Program) -> Vec<Variant> {
    program.calls.iter().map(|call| program.variant(call)).collect()
}

fn open(graph: &Graph, base: &FactBase, inputs: &[InputFact]) -> Vec<OpenDim> {
    let mut named: Vec<(&str, OpenDim)> = Vec::new();
    let mut all = Vec::new();
    for (i, (id, input)) in graph.inputs.iter().zip(inputs).enumerate() {
        if base.shape_inputs(graph).any(|fixed| fixed == i) {
            continue;
        }
        for axis in 0..input.shape.len() {
            let dim = graph.value(*id).shape.as_ref().and_then(|dims| dims.get(axis));
            match dim {
                Some(Dim::Known(_)) => {}
                Some(Dim::Symbol(name)) => match named.iter_mut().find(|(other, _)| other == name) {
                    Some((_, places)) => places.push((i, axis)),
                    None => named.push((name, vec![(i, axis)])),
                },
                _ => all.push(vec![(i, axis)]),
            }
        }
    }
    all.extend(named.into_iter().map(|(_, places)| places));
    all
}

impl<'a> Probes<'a> {
    /// Finds the step of each open dimension: the least power of 2 by which the model takes it larger, or else smaller, with the
    /// others as they are.
    pub(super) fn new(graph: &'a Graph, base: &'a FactBase, inputs: &'a [InputFact]) -> Probes<'a> {
        let open = open(graph, base, inputs);
        let mut probes = Probes { graph, base, inputs, open, groups: Vec::new() };
        let mut bound = Vec::new();
        let mut guess = 1;
        for at in 0..probes.open.len().min(MOST_OPEN) {
            match probes.group(&[at], guess) {
                Some(alone) => {
                    guess = alone.iter().map(|(_, step)| step.abs()).max().unwrap_or(guess);
                    probes.groups.push(alone);
                }
                None => bound.push(at),
            }
        }
        // A dimension that is the sum of two others, as a mask's over a cache and new rows, moves only with one of them.
        for (i, &a) in bound.iter().enumerate() {
            for &b in &bound[i + 1..] {
                let both = probes.group(&[a, b], 1);
                probes.groups.extend(both);
            }
        }
        probes
    }

    /// The group of these dimensions, whose step may be `guess`. A model that takes a step takes two of them.
    fn group(&self, dims: &[usize], guess: i64) -> Option<DimGroup> {
        let group = |step: i64| dims.iter().map(|&at| (at, step)).collect::<DimGroup>();
        let takes =
            |step: i64| self.moved(&group(step)).is_some_and(|inputs| self.base.takes(self.graph, &inputs));
        for sign in [1, -1] {
            let mut step = guess;
            while step <= LARGEST_STEP && !takes(sign * step) {
                step *= 2;
            }
            if step == guess {
                while step > 1 && takes(sign * step / 2) {
                    step /= 2;
                }
            }
            if step <= LARGEST_STEP {
                return Some(group(sign * step));
            }
        }
        None
    }

    /// The inputs with dimensions changed by the given numbers of elements; `None` if a size would be 0 or less.
    fn moved(&self, moves: &[(usize, i64)]) -> Option<Vec<InputFact>> {
        let mut inputs = self.inputs.to_vec();
        for &(at, by) in moves {
            for &(i, axis) in &self.open[at] {
                let size = &mut inputs[i].shape[axis];
                *size = usize::try_from(*size as i64 + by).ok().filter(|&size| size > 0)?;
            }
        }
        Some(inputs)
    }

    fn bind(&self, inputs: &[InputFact]) -> Option<Facts> {
        self.base.bind(self.graph, inputs).ok()
    }

    /// Whether a dimension is the first wherever it is, as a batch is.
    fn is_first(&self, at: usize) -> bool {
        self.open[at].iter().all(|place| place.1 == 0)
    }

    fn size(&self, at: usize, inputs: &[InputFact]) -> usize {
        self.open[at].iter().map(|&(i, axis)| inputs[i].shape[axis]).min().unwrap_or(0)
    }

    /// Facts at these sizes; `None` if no dimension can move, or the model does not take all at once.
    fn at(&self, sizes: ProbeSizes) -> Option<Facts> {
        let ProbeSizes { every, remainders, least, single } = sizes;
        self.all(|i, size| {
            let n = (remainders[i % 2] + every - (size + least) % every) % every + least;
            if size == 1 { n.min(single) } else { n.max(1) }
        })
    }

    /// Facts where the dimensions of every group have moved by `n` steps. `n` is given the group's number, and its first
    /// dimension's size in steps; a size of 1 is 1.
    fn all(&self, n: impl Fn(usize, usize) -> usize) -> Option<Facts> {
        let by = |(i, group): (usize, &DimGroup)| {
            let size = |&(at, step): &(usize, i64)| self.size(at, self.inputs) / step.unsigned_abs() as usize;
            let alone = group.iter().any(|&(at, _)| self.size(at, self.inputs) == 1);
            let n = n(i, if alone { 1 } else { group.first().map_or(0, size) });
            let down = group.iter().filter(|(_, step)| *step < 0);
            let room = down.map(|&(at, step)| {
                self.size(at, self.inputs).saturating_sub(1) / step.unsigned_abs() as usize
            });
            let n = room.min().map_or(n, |room| n.min(room)) as i64;
            group.iter().map(|&(at, step)| (at, step * n)).collect::<DimGroup>()
        };
        let moves: DimGroup = self.groups.iter().enumerate().flat_map(by).collect();
        if moves.is_empty() { None } else { self.bind(&self.moved(&moves)?) }
    }

    /// Facts where every dimension is as small as its steps and the model allow; of dimensions that move together, one is.
    /// `None` if all are already.
    pub(crate) fn least(&self) -> Option<Facts> {
        let mut least = None;
        for group in &self.groups {
            let mut smaller: Vec<InputFact> = least.clone().unwrap_or_else(|| self.inputs.to_vec());
            if self.shrink(group, 1, &mut smaller) && self.base.takes(self.graph, &smaller) {
                least = Some(smaller);
            }
        }
        self.bind(&least?)
    }

    /// Facts where one dimension is 0, as a cache's is before its first entry, and all others have grown by a step: one for each
    /// dimension other than a batch that leaves something of an input and of every output.
    fn emptied(&self) -> impl Iterator<Item = Facts> {
        let first = |group: &&DimGroup| group.iter().all(|&(at, _)| self.is_first(at));
        let moves: DimGroup = self.groups.iter().flatten().copied().collect();
        self.groups.iter().filter(move |group| !first(group)).filter_map(move |group| {
            let mut inputs = self.moved(&moves)?;
            self.shrink(group, 0, &mut inputs);
            let something = inputs.iter().any(|input| !input.shape.contains(&0));
            let facts = if something { self.bind(&inputs)? } else { return None };
            let empty = |id: &ValueId| facts.get(*id).is_some_and(|fact| fact.count() == 0);
            (!self.graph.outputs.iter().any(empty)).then_some(facts)
        })
    }

    /// Makes the dimensions of a group smaller by whole steps, until one has less than a step above `least`; whether any moved.
    fn shrink(&self, group: &DimGroup, least: usize, inputs: &mut [InputFact]) -> bool {
        let elements = |step: i64| step.unsigned_abs() as usize;
        let room = |&(at, step): &(usize, i64)| self.size(at, inputs).saturating_sub(least) / elements(step);
        let times = group.iter().map(room).min().unwrap_or(0);
        for &(at, step) in group {
            self.open[at].iter().for_each(|&(i, axis)| inputs[i].shape[axis] -= elements(step) * times);
        }
        times > 0
    }
}

#[cfg(any(test, feature = "internals"))]
impl Probes<'_> {
    /// Facts where every dimension has moved by `n[0]` and `n[1]` steps in turn; one of size 1, by at most `single` steps.
    pub(crate) fn times(&self, n: [usize; 2], single: usize) -> Option<Facts> {
        self.all(|i, size| if size == 1 { n[i % 2].min(single) } else { n[i % 2] })
    }
}
