//! Plans of larger sizes. Where sizes change from run to run, one plan of larger sizes has the memory, the words and the bind
//! groups, and a plan of sizes within it needs no object of its own: its run writes its words first.
//!
//! An example: a cache that grows by one row each run, from 16 rows on. The second run makes a plan for 22 rows, and the runs with 17
//! to 22 rows use what it has.

use std::sync::{Arc, PoisonError, Weak};

use super::entry::Entry;
use super::plans::Plans;
use crate::events::event;
use crate::facts::{InputFact, Signature};
use crate::gpu::{Costed, Executable};
use crate::interrupt::GoOn;
use crate::shape::Room;
use crate::{Error, Result};

/// A plan of larger sizes may take more memory than those so far by this share, and by what is little anyway.
const SHARE: u64 = 4;
const LITTLE: u64 = 256 << 10;

/// After this many plans of a graph in a row for which there is none of larger sizes, none is looked for any more.
const MOST_MISSES: usize = 6;

/// The plan of larger sizes of one graph, and the inputs' shapes.
#[derive(Debug)]
pub(super) struct Larger {
    entry: Weak<Entry>,
    plan: Option<(Vec<Vec<usize>>, Arc<Executable>)>,
    misses: usize,
}

impl Plans {
    /// The plan of larger sizes in which the plan at hand fits, if there is one, or if one can be made.
    pub(super) fn larger(
        &self,
        entry: &Arc<Entry>,
        known: &[InputFact],
        signature: &Signature,
        (costed, go_on): (&Costed, &GoOn),
    ) -> Result<Option<Arc<Executable>>> {
        let Some((before, last)) = self.last_used(entry) else { return Ok(None) };
        if before.values != signature.values {
            return Ok(None);
        }
        let (plan, bytes) = (&costed.plan, costed.sizes.all());
        let (mut shapes, mut bytes) = (before.shapes.clone(), bytes.max(last.bytes_of_a_run()));
        let (known_plan, misses) = self.of_larger(entry, |larger| (larger.plan.clone(), larger.misses));
        if let Some((of, executable)) = known_plan {
            if plan.fits_in(&executable.plan) {
                return Ok(Some(executable));
            }
            (shapes, bytes) = (of, bytes.max(executable.bytes_of_a_run()));
        }
        if misses >= MOST_MISSES {
            return Ok(None);
        }
        for step in [4, 16] {
            let Some(grown) = grown(&shapes, &before.shapes, &signature.shapes, step) else { break };
            let more = |(fact, shape): (&InputFact, &Vec<usize>)| {
                fact.shape.iter().zip(shape).map(|(own, grown)| grown.saturating_sub(*own)).max()
            };
            // The rows that are appended may be as many more.
            let rows = known.iter().zip(&grown).filter_map(more).max().unwrap_or(0);
            let facts = known.iter().zip(&grown).map(|(fact, shape)| InputFact {
                value: fact.value.clone().filter(|_| fact.shape == *shape),
                shape: shape.clone(),
                room: fact.room.map(|room| Room { spare: room.spare.saturating_add(rows), ..room }),
                ..*fact
            });
            let larger = match entry.compiled()?.plan_anew(&facts.collect::<Vec<_>>()) {
                Ok(larger) => larger,
                // Sizes that depend on each other may not be possible, and larger tensors too large.
                Err(
                    Error::Node { .. } | Error::Limit { .. } | Error::Unsupported(_) | Error::TooWide { .. },
                ) => break,
                Err(error) => return Err(error),
            };
            if !plan.fits_in(&larger) {
                break;
            }
            let costed = Costed::larger(self.gpu(), larger);
            if costed.sizes.all() > bytes + (bytes / SHARE).max(LITTLE) {
                continue;
            }
            let executable = match self.ready_on_device(entry, costed, go_on) {
                Ok(executable) => Arc::new(executable),
                Err(Error::OutOfMemory { .. } | Error::MemoryLimit { .. }) => break,
                Err(error) => return Err(error),
            };
            event!(DEBUG, "plan of larger sizes made", shapes = format!("{grown:?}"));
            self.keep_larger(entry, grown, &executable);
            return Ok(Some(executable));
        }
        self.of_larger(entry, |larger| larger.misses += 1);
        Ok(None)
    }
}

/// The sizes of `new`, and of those before it in `known`, each at least as large. Those that are larger than known grow by the same
/// number of elements, as one may be another and a few more: by a `step`th of the largest, in whole multiples of what they have grown
/// by since `before`. `None` where the shapes have other ranks.
fn grown(
    known: &[Vec<usize>],
    before: &[Vec<usize>],
    new: &[Vec<usize>],
    step: usize,
) -> Option<Vec<Vec<usize>>> {
    let ranks = |shapes: &[Vec<usize>]| shapes.iter().map(Vec::len).collect::<Vec<_>>();
    if ranks(known) != ranks(new) || ranks(before) != ranks(new) {
        return None;
    }
    let sizes = |shapes: &[Vec<usize>]| shapes.iter().flatten().copied().collect::<Vec<_>>();
    let (known_sizes, before, sizes) = (sizes(known), sizes(before), sizes(new));
    let grow = || (0..sizes.len()).filter(|&i| sizes[i] > known_sizes[i]);
    let unit = grow().map(|i| sizes[i].abs_diff(before[i])).fold(0, gcd).max(1);
    let more = grow().map(|i| sizes[i]).max().unwrap_or(0).div_ceil(step).next_multiple_of(unit);
    let mut all = (0..sizes.len()).map(|i| match sizes[i] > known_sizes[i] {
        true => sizes[i].saturating_add(more),
        false => known_sizes[i],
    });
    Some(new.iter().map(|shape| all.by_ref().take(shape.len()).collect()).collect())
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Plans {
    /// What is known of a graph's plan of larger sizes.
    fn of_larger<T>(&self, entry: &Arc<Entry>, look: impl FnOnce(&mut Larger) -> T) -> T {
        let mut all = self.larger.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|larger| larger.entry.strong_count() > 0);
        let is_it = |larger: &Larger| std::ptr::eq(larger.entry.as_ptr(), Arc::as_ptr(entry));
        match all.iter_mut().find(|larger| is_it(larger)) {
            Some(larger) => look(larger),
            None => {
                let mut larger = Larger { entry: Arc::downgrade(entry), plan: None, misses: 0 };
                let looked = look(&mut larger);
                all.push(larger);
                looked
            }
        }
    }

    fn keep_larger(&self, entry: &Arc<Entry>, shapes: Vec<Vec<usize>>, executable: &Arc<Executable>) {
        let plan = Some((shapes, executable.clone()));
        self.of_larger(entry, |larger| (larger.plan, larger.misses) = (plan, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_grow_together() {
        let shapes = |past: usize, all: usize| vec![vec![1, 4, past, 8], vec![1, all]];
        let of = |known: (usize, usize), new: (usize, usize)| {
            grown(&shapes(known.0, known.1), &shapes(new.0 - 1, new.1 - 1), &shapes(new.0, new.1), 4)
        };
        assert_eq!(of((16, 17), (17, 18)), Some(shapes(22, 23)), "by a quarter of 18");
        assert_eq!(of((22, 23), (20, 21)), Some(shapes(22, 23)), "known sizes stay");
        let pictures = |height: usize, width: usize| vec![vec![1, 3, height, width]];
        let next = grown(&pictures(64, 96), &pictures(64, 96), &pictures(128, 64), 4);
        assert_eq!(next, Some(pictures(192, 96)), "by a multiple of 64");
        assert_eq!(grown(&pictures(1, 1), &pictures(1, 1), &[vec![2]], 4), None);
    }
}
