//! Probing: programs are lowered for sizes that nothing runs, so that the first plan's kernels serve later sizes too.
//!
//! An example. A model halves images `[batch, 3, h, w]` four times, and runs first with `[1, 3, 256, 256]`. It takes multiples
//! of 16: that is the *step* of `h` and of `w`. Rows of 256, 128, 64, 32 and 16 elements are whole vectors of 4, so the first
//! run by itself would read vectors everywhere. A later run with images of 272 would find rows of 17 in the last layer, and
//! would wait for another pipeline. The graph is therefore lowered for probe sizes first: `h` of 21 steps (336), `w` of 42
//! steps (672), and a `batch` of 10. There the rows are 672, 336, 168, 84 and 42. 42 is no multiple of 4, so the last layer
//! reads single elements from the first run on. The others are multiples of 4, and they are for every multiple of 16.
//!
//! What probing does not find costs a pipeline later, never a wrong result: each plan asks about its own sizes too
//! ([`super::specialisation`]).

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::specialisation::{Changes, Phase};
use super::{Options, Plan, Program, Specialisation, lower, memory, placed};
use crate::budget::Budget;
use crate::facts::{FactBase, Facts, InputFact};
use crate::graph::ValueId;
use crate::kernels::{Class, Target, Variant};
use crate::ops::Graph;
use crate::{Dim, Error, Result};

/// The most open dimensions that are probed: with more, planning would take too long.
const MOST_OPEN: usize = 6;
/// The largest step that is tried. Networks for images often have 32.
const LARGEST_STEP: i64 = 64;

/// The most times that programs are lowered again because an answer has changed. Two are usual.
const MOST_ROUNDS: usize = 16;

/// The places (input, axis) of one open dimension. Places with the same symbol are one dimension.
type OpenDim = Vec<(usize, usize)>;

/// Open dimensions that change together, as (number in [`Probes::open`], step). A step is negative where the model takes no
/// larger size. A mask that covers a cache and new rows grows with the cache: `[(2, 1), (0, 1)]`.
type DimGroup = Vec<(usize, i64)>;

/// The open dimensions of a graph's inputs, the sizes of one run, and the steps by which each dimension can change.
pub(crate) struct Probes<'a> {
    graph: &'a Graph,
    base: &'a FactBase,
    inputs: &'a [InputFact],
    /// What the plan may still cost: sizes that would cost more are not probed.
    budget: Arc<Budget>,
    /// Why probes have failed that say nothing about their sizes: the host lacks memory.
    lack: RefCell<Option<Error>>,
    open: Vec<OpenDim>,
    groups: Vec<DimGroup>,
}

/// The sizes to which open dimensions move, counted in steps. Dimension `i` grows by at least `least` steps, to a size that
/// leaves the remainder `remainders[i % 2]` when divided by `every`. A dimension of size 1 grows by at most `single` steps.
///
/// An example: with `every` 64 and a remainder of 21, 16 steps become 21, and 30 steps become 85.
#[derive(Clone, Copy)]
struct ProbeSizes {
    every: usize,
    remainders: [usize; 2],
    least: usize,
    single: usize,
}

/// Sizes that are multiples of little else than their steps, from the sizes that prove most to sizes that any device takes.
///
/// 21 is 10101 in binary: however often it is halved, rounded up or down, the result is no multiple of 4. Nor are most
/// products of two dimensions of 21 and 42. A batch of more than 10 may be more than a device takes.
const ODD: [ProbeSizes; 3] = [
    ProbeSizes { every: 64, remainders: [21, 42], least: 0, single: 9 },
    ProbeSizes { every: 16, remainders: [5, 10], least: 0, single: 9 },
    ProbeSizes { every: 4, remainders: [1, 2], least: 0, single: 9 },
];

/// Large sizes, from the largest to sizes that any device takes.
const LARGE: [ProbeSizes; 4] = [
    ProbeSizes { every: 64, remainders: [42, 21], least: 64, single: 64 },
    ProbeSizes { every: 64, remainders: [42, 21], least: 0, single: 64 },
    ProbeSizes { every: 16, remainders: [10, 5], least: 0, single: 16 },
    ProbeSizes { every: 4, remainders: [2, 1], least: 0, single: 4 },
];

/// Plans the first run of a graph. `specialisation` gets the answers that hold for this run and for the probe sizes, and the
/// plan brings the kernels that only some of those sizes need.
pub(super) fn first_plan(
    probes: &Probes,
    facts: Facts,
    target: &Target,
    options: &Options,
    specialisation: &mut Specialisation,
) -> Result<Plan> {
    let mut lowering = Lowering { probes, target, options, specialisation };
    ODD.iter().find_map(|&sizes| lowering.probe(probes.at(sizes)));
    let mut emptied: Vec<Lowered> =
        probes.emptied().filter_map(|facts| lowering.probe(Some(facts))).collect();
    let facts = if target.class == Class::Cpu {
        lowering.specialisation.advance(Phase::Weights);
        lowering.lowered(facts)?.facts
    } else {
        facts
    };
    lowering.specialisation.advance(Phase::Tiles);
    let mut first = lowering.lowered(facts)?;
    let large = LARGE.iter().find_map(|&sizes| lowering.probe(probes.at(sizes)));
    // Where no large size can be probed, later plans choose their tiles.
    let phase = if large.is_some() { Phase::Settled } else { Phase::Tiles };
    let mut others: Vec<Lowered> = large.into_iter().chain(lowering.probe(probes.least())).collect();
    lowering.specialisation.advance(phase);
    // A program whose answers have changed since it was lowered is right for its sizes: it may only need pipelines of its own.
    for _ in 0..MOST_ROUNDS {
        let before = lowering.specialisation.changes();
        // A new tile to choose from matters to other sizes only: for the first run its own tiles stay the best.
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
    // Sizes that could not be probed would be forgotten for all later plans.
    match probes.lack.take() {
        Some(lack) => Err(lack),
        None => Ok(Plan { spare, ..placed(first.program, target)? }),
    }
}

/// A program for some sizes, and the number of changed answers when it was lowered.
struct Lowered {
    facts: Facts,
    program: Program,
    seen: Changes,
}

struct Lowering<'a> {
    probes: &'a Probes<'a>,
    target: &'a Target,
    options: &'a Options,
    specialisation: &'a mut Specialisation,
}

impl Lowering<'_> {
    fn lowered(&mut self, facts: Facts) -> Result<Lowered> {
        let program = lower(self.probes.graph, &facts, self.target, self.options, self.specialisation)?;
        Ok(Lowered { facts, program, seen: self.specialisation.changes() })
    }

    /// The program for probe sizes; `None` where the model or the device refuses them.
    fn probe(&mut self, facts: Option<Facts>) -> Option<Lowered> {
        let lowered = self.lowered(facts?);
        self.probes.answer(lowered)
    }

    /// Lowers those programs again that were lowered with answers that have changed since.
    fn again(&mut self, all: Vec<Lowered>, holds: fn(Changes, Changes) -> bool) -> Vec<Lowered> {
        let one = |one: Lowered| match holds(one.seen, self.specialisation.changes()) {
            true => Some(one),
            false => self.probe(Some(one.facts)),
        };
        all.into_iter().filter_map(one).collect()
    }
}

/// The variants that the program's calls need compiled.
fn compiled(program: Program) -> Vec<Variant> {
    program.calls.iter().map(|call| program.variant(call)).collect()
}

fn open(graph: &Graph, base: &FactBase, inputs: &[InputFact]) -> Vec<OpenDim> {
    let fixed: HashSet<usize> = base.shape_inputs(graph).collect();
    let (mut named, mut numbers): (Vec<OpenDim>, HashMap<&str, usize>) = Default::default();
    let mut all = Vec::new();
    for (i, (id, input)) in graph.inputs.iter().zip(inputs).enumerate() {
        if fixed.contains(&i) {
            continue;
        }
        for axis in 0..input.shape.len() {
            let dim = graph.value(*id).shape.as_ref().and_then(|dims| dims.get(axis));
            match dim {
                Some(Dim::Known(_)) => {}
                Some(Dim::Symbol(name)) => {
                    let number = *numbers.entry(name).or_insert(named.len());
                    named.resize_with(named.len().max(number + 1), Vec::new);
                    named[number].push((i, axis));
                }
                _ => all.push(vec![(i, axis)]),
            }
        }
    }
    all.extend(named);
    all
}

impl<'a> Probes<'a> {
    /// Finds the step of each open dimension: the smallest power of 2 by which the dimension may grow, or else shrink, while
    /// the others keep their sizes.
    pub(super) fn new(
        graph: &'a Graph,
        base: &'a FactBase,
        inputs: &'a [InputFact],
        budget: Arc<Budget>,
    ) -> Probes<'a> {
        let open = open(graph, base, inputs);
        let mut probes =
            Probes { graph, base, inputs, budget, open, groups: Vec::new(), lack: RefCell::default() };
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
        // A dimension that is the sum of two others, like that of a mask over a cache and new rows, changes only together with
        // one of them.
        for (i, &a) in bound.iter().enumerate() {
            for &b in &bound[i + 1..] {
                let both = probes.group(&[a, b], 1);
                probes.groups.extend(both);
            }
        }
        probes
    }

    /// These dimensions as a group, with the step that is found, starting from `guess`. A model that takes one step more is
    /// taken to accept any number of steps.
    fn group(&self, dims: &[usize], guess: i64) -> Option<DimGroup> {
        let group = |step: i64| dims.iter().map(|&at| (at, step)).collect::<DimGroup>();
        let takes = |step: i64| self.moved(&group(step)).is_some_and(|inputs| self.takes(&inputs));
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

    /// What a probe has found; `None` where the model or the device refuses its sizes.
    fn answer<T>(&self, found: Result<T>) -> Option<T> {
        match found {
            Err(lack @ Error::OutOfMemory { .. }) => drop(self.lack.replace(Some(lack))),
            Err(_) => {}
            Ok(found) => return Some(found),
        }
        None
    }

    fn bind(&self, inputs: &[InputFact]) -> Option<Facts> {
        self.answer(self.base.bind(self.graph, inputs, &self.budget))
    }

    fn takes(&self, inputs: &[InputFact]) -> bool {
        self.answer(self.base.takes(self.graph, inputs, &self.budget)).is_some()
    }

    /// Whether the dimension is the outermost axis everywhere, like a batch.
    fn is_first(&self, at: usize) -> bool {
        self.open[at].iter().all(|place| place.1 == 0)
    }

    fn size(&self, at: usize, inputs: &[InputFact]) -> usize {
        self.open[at].iter().map(|&(i, axis)| inputs[i].shape[axis]).min().unwrap_or(0)
    }

    /// The facts at these sizes; `None` if no dimension can change, or the model does not take these sizes together.
    fn at(&self, sizes: ProbeSizes) -> Option<Facts> {
        let ProbeSizes { every, remainders, least, single } = sizes;
        self.all(|i, size| {
            let n = (remainders[i % 2] + every - (size + least) % every) % every + least;
            if size == 1 { n.min(single) } else { n.max(1) }
        })
    }

    /// The facts after the dimensions of each group have changed by `n` steps. `n` gets the number of the group, and the size
    /// of its first dimension in steps; a dimension of size 1 counts as 1.
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

    /// The facts where every dimension is as small as its steps and the model allow; of a group, one dimension is. `None` if
    /// none can shrink.
    pub(crate) fn least(&self) -> Option<Facts> {
        let mut least = None;
        for group in &self.groups {
            let mut smaller: Vec<InputFact> = least.clone().unwrap_or_else(|| self.inputs.to_vec());
            if self.shrink(group, 1, &mut smaller) && self.takes(&smaller) {
                least = Some(smaller);
            }
        }
        self.bind(&least?)
    }

    /// Facts where one dimension is 0, like a cache's before its first entry, and all others have grown by a step. There is
    /// one for each dimension, except a batch and a dimension that empties all inputs or some output.
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

    /// Makes the dimensions of a group smaller by whole steps, until one of them is less than a step above `least`. Returns
    /// whether any changed.
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
    /// The facts after the dimensions have changed by `n[0]` and `n[1]` steps in turn; a dimension of size 1, by at most
    /// `single` steps.
    pub(crate) fn times(&self, n: [usize; 2], single: usize) -> Option<Facts> {
        self.all(|i, size| if size == 1 { n[i % 2].min(single) } else { n[i % 2] })
    }
}
