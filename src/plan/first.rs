//! The first plan of a graph: with it, what other sizes of the open dimensions need is settled, by programs that nothing runs.

use super::forms::{Changes, Stage};
use super::{Forms, Moves, Options, Plan, Program, lower, memory, placed};
use crate::Result;
use crate::facts::Facts;
use crate::kernels::{Kernel, Target, Variant};
use crate::ops::Graph;

/// Where dimensions move to: with multiples of the first number, they are the second and the third in turn.
///
/// 21 is 10101 in binary: halved some times, it is no multiple of 4, whichever way halves are rounded; nor are most products of
/// two dimensions of which one is that, and the other twice as much. A device may not take as large ones.
const ODD: [(usize, [usize; 2]); 3] = [(64, [21, 42]), (16, [5, 10]), (4, [1, 2])];

/// Of what there is one, such as a batch, a device may not take as many.
const MOST_OF_ONE: usize = 9;

/// The same for large dimensions, with what they grow by at least.
const LARGE: [(usize, [usize; 2], usize); 4] =
    [(64, [42, 21], 64), (64, [42, 21], 0), (16, [10, 5], 0), (4, [2, 1], 0)];

/// A program for some sizes, and how much had changed in the forms when it was lowered.
struct Lowered {
    facts: Facts,
    program: Program,
    seen: Changes,
}

struct Lowering<'a> {
    graph: &'a Graph,
    target: &'a Target,
    options: &'a Options,
    forms: &'a mut Forms,
}

impl Lowering<'_> {
    fn lowered(&mut self, facts: Facts) -> Result<Lowered> {
        let program = lower(self.graph, &facts, self.target, self.options, self.forms)?;
        Ok(Lowered { facts, program, seen: self.forms.changes() })
    }

    /// For other sizes than the run's. What the device refuses for those is of no concern.
    fn other(&mut self, facts: Option<Facts>) -> Option<Lowered> {
        self.lowered(facts?).ok()
    }

    /// Lowers those again that do not hold any more.
    fn again(&mut self, all: Vec<Lowered>, holds: fn(Changes, Changes) -> bool) -> Vec<Lowered> {
        let one = |one: Lowered| match holds(one.seen, self.forms.changes()) {
            true => Some(one),
            false => self.other(Some(one.facts)),
        };
        all.into_iter().filter_map(one).collect()
    }
}

/// What a program's calls need compiled.
fn variants(program: Program) -> Vec<Variant> {
    program.calls.iter().map(|call| program.variant(call)).collect()
}

/// Whether the kernel is quickly compiled: a copy, or a chain of scalar operators.
fn is_simple(kernel: &Kernel) -> bool {
    matches!(kernel, Kernel::Strided(_) | Kernel::Elementwise(_))
}

/// Plans the first run of `graph`. What it and other sizes of the graph's open dimensions have in common goes into `forms`,
/// and the kernels that some of those need besides come with the plan.
pub(super) fn plan(
    graph: &Graph,
    facts: Facts,
    moves: &Moves,
    target: &Target,
    options: &Options,
    forms: &mut Forms,
) -> Result<Plan> {
    let mut lowering = Lowering { graph, target, options, forms };
    ODD.iter().find_map(|&(every, last)| lowering.other(moves.to(last, every, 0, MOST_OF_ONE)));
    let mut emptied: Vec<Lowered> = moves.emptied().filter_map(|facts| lowering.other(Some(facts))).collect();
    lowering.forms.advance(Stage::Tiles);
    let mut first = lowering.lowered(facts)?;
    // As large as the device takes it.
    let large =
        LARGE.iter().find_map(|&(every, last, least)| lowering.other(moves.to(last, every, least, every)));
    // Tiles for sizes of which nothing is known yet come when those do.
    let settled = if large.is_some() { Stage::Settled } else { Stage::Tiles };
    let mut sizes: Vec<Lowered> = large.into_iter().chain(lowering.other(moves.least())).collect();
    lowering.forms.advance(settled);
    loop {
        let before = lowering.forms.changes();
        // The first run's own tiles stay the best for it, and those of what is emptied are not asked for.
        if first.seen.forms != before.forms {
            first = lowering.lowered(first.facts)?;
        }
        emptied = lowering.again(emptied, |seen, now| seen.forms == now.forms);
        sizes = lowering.again(sizes, |seen, now| seen == now);
        if lowering.forms.changes() == before {
            break;
        }
    }
    let all = |lowered: Lowered| variants(memory::shared(lowered.program, target));
    let simple = emptied.into_iter().flat_map(all).filter(|variant| is_simple(&variant.kernel));
    let spare = sizes.into_iter().flat_map(all).chain(simple).collect();
    Ok(Plan { spare, ..placed(first.program, target)? })
}
