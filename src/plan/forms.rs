//! What the plans of one graph have in common. Shapes are parameters of kernels, but some kernels come in forms that fit
//! certain shapes only, or fit them better: vectors where rows are aligned, an index over fewer dimensions where one of them
//! is 1, a tile. A plan takes the form that serves the shapes of all plans before it too, so that another shape makes no new
//! pipeline and packs no weight anew.
//!
//! What is kept of earlier sizes says how a plan computes, never what. Why it holds for the sizes at hand:
//!
//! | kept | why it holds |
//! |---|---|
//! | `whole`, `always` | the sizes at hand are asked about too, and one no is a no for good: yes is true here |
//! | `fixed` | as they are; and it only weighs what is worth a pipeline |
//! | `padded` | dimensions of size 1 and stride 0 are put before those at hand: the same elements |
//! | `index` | `Index::widened` finds the elements at hand too; where it does not, the index is the one for them alone |
//! | `Index::Row`, `Column` | an `always` of the operand's own parameters at hand |
//! | `tile`, `only_tile` | a kernel takes any tile at any size: what a tile needs of sizes (whole vectors) is asked of `whole` besides |
//! | packed weights | the packing is the key, with the tile in it, and made from the same tile as the kernel |
//! | units | `Units::fit`: the shapes at hand are compared where nodes are fused, and what is known while planning |
//! | single constants | the value is the one of this plan; an `always` chooses between a parameter and memory |
//! | views, results in place, the arena | nothing is kept: they are this program's |
//! | the numbers of questions | an answer given to another question of the kind holds too, for the reasons above |
//!
//! Besides, each call is held against what its kernel's spec takes for granted (`kernels::Spec::fits`) before it runs.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Options;
use super::fusion::Units;
use crate::facts::Facts;
use crate::graph::NodeId;
use crate::kernels::fused::Index;
use crate::kernels::{Access, Class};
use crate::ops::Graph;

/// Beyond, other ways to fuse are not kept: each plan looks through all.
const MOST_UNITS: usize = 4;

/// Where a form is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Site {
    /// In the unit with this first node.
    Unit(NodeId),
    /// Where the graph's output of this number is put into its own buffer.
    Output(usize),
}

/// Where, what is asked for, and how many times it was asked for there before.
type Key = (Site, &'static str, usize);

/// Forms chosen so far, and what is fused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forms {
    /// Those of the first plan, and of sizes for which they do not do.
    units: Vec<Arc<Units>>,
    /// Rows, and columns or places. Those of which each plan takes the one that costs least.
    tiles: Answers<Vec<(usize, usize)>>,
    /// What a number was in all plans, if it was always the same.
    numbers: Answers<Option<usize>>,
    /// The greatest common divisor of numbers in all plans.
    divisors: Answers<usize>,
    /// Whether something was so in all plans.
    always: Answers<bool>,
    /// The most dimensions.
    ranks: Answers<usize>,
    indices: Answers<Index>,
    stage: Stage,
    changes: Changes,
}

/// How often an answer has become another than it was for the plans before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) forms: usize,
    /// Tiles of which there are more to choose from.
    pub(super) tiles: usize,
}

/// The answers to questions of one kind, by where those were asked.
#[derive(Clone, Debug)]
struct Answers<T> {
    units: Vec<Vec<(&'static str, usize, T)>>,
    outputs: Vec<Vec<(&'static str, usize, T)>>,
}

impl<T> Default for Answers<T> {
    fn default() -> Answers<T> {
        Answers { units: Vec::new(), outputs: Vec::new() }
    }
}

impl<T> Answers<T> {
    /// The answer so far, which is `new` where nothing has been asked yet.
    fn entry(&mut self, (site, name, times): Key, new: T) -> &mut T {
        let (sites, at) = match site {
            Site::Unit(node) => (&mut self.units, node.index()),
            Site::Output(i) => (&mut self.outputs, i),
        };
        if sites.len() <= at {
            sites.resize_with(at + 1, Vec::new);
        }
        let answers = &mut sites[at];
        let found = answers.iter().position(|answer| (answer.0, answer.1) == (name, times));
        let found = found.unwrap_or_else(|| {
            answers.push((name, times, new));
            answers.len() - 1
        });
        &mut answers[found].2
    }
}

/// What a plan may still choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// What follows from sizes: plans that are not for a run, so that their tiles are of no concern.
    #[default]
    Sizes,
    /// Tiles too: the first run's, and then others where those would serve some sizes badly.
    Tiles,
    /// Nothing new.
    Settled,
}

fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

impl Forms {
    /// The units into which nodes are fused: those of a plan before, where they do for this one.
    pub(super) fn units(&mut self, graph: &Graph, facts: &Facts, options: &Options) -> Arc<Units> {
        if let Some(units) = self.units.iter().find(|units| units.fit(graph, facts)) {
            return units.clone();
        }
        let units = Arc::new(Units::of(graph, facts, options));
        if self.units.len() < MOST_UNITS {
            self.units.push(units.clone());
        }
        units
    }

    pub(super) fn changes(&self) -> Changes {
        self.changes
    }

    pub(super) fn advance(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// The best of the tiles that there are. `best` becomes one of them if it takes less than half as long and that is worth
    /// a pipeline.
    fn tile(
        &mut self,
        key: Key,
        best: (usize, usize),
        cost: impl Fn((usize, usize)) -> f64,
        worth: f64,
    ) -> (usize, usize) {
        if self.stage == Stage::Sizes {
            return best;
        }
        let tiles = self.tiles.entry(key, vec![best]);
        let least = |a: &(usize, usize), b: &(usize, usize)| cost(*a).total_cmp(&cost(*b));
        let Some(tile) = tiles.iter().copied().min_by(least) else { return best };
        let (before, now) = (cost(tile), cost(best));
        if self.stage == Stage::Tiles && now < 0.5 * before && before - now > worth {
            tiles.push(best);
            self.changes.tiles += 1;
            return best;
        }
        tile
    }

    /// The tile of the first run, for all others.
    fn only(&mut self, key: Key, best: (usize, usize)) -> (usize, usize) {
        self.tile(key, best, |_| 0.0, 0.0)
    }

    fn fixed(&mut self, key: Key, here: usize) -> bool {
        let number = self.numbers.entry(key, Some(here));
        let before = number.is_some();
        *number = number.filter(|number| *number == here);
        self.changes.forms += usize::from(number.is_some() != before);
        number.is_some()
    }

    fn whole(&mut self, key: Key, numbers: impl IntoIterator<Item = usize>) -> bool {
        let here = numbers.into_iter().fold(0, divisor);
        let all = self.divisors.entry(key, here);
        let before = all.is_multiple_of(4);
        *all = divisor(*all, here);
        self.changes.forms += usize::from(all.is_multiple_of(4) != before);
        all.is_multiple_of(4)
    }

    fn always(&mut self, key: Key, here: bool) -> bool {
        let all = self.always.entry(key, here);
        self.changes.forms += usize::from(*all && !here);
        *all &= here;
        *all
    }

    fn rank(&mut self, key: Key, here: usize) -> usize {
        let most = self.ranks.entry(key, here);
        self.changes.forms += usize::from(here > *most);
        *most = here.max(*most);
        *most
    }

    fn index(&mut self, key: Key, access: &Access) -> Index {
        let here = Index::of(access);
        let index = self.indices.entry(key, here);
        let wide = index.widened(access);
        if !wide.serves(access) {
            debug_assert!(false, "{wide:?} for {access:?}");
            return here;
        }
        self.changes.forms += usize::from(wide != *index);
        *index = wide;
        wide
    }
}

/// The kinds of questions. Each is numbered by itself: one that is asked for some sizes only renumbers none of another kind.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Tile,
    Fixed,
    Whole,
    Always,
    Rank,
    Index,
}

/// What was asked at one site.
pub(super) struct Asked {
    site: Site,
    times: SmallVec<[(Kind, &'static str, usize); 8]>,
}

impl Asked {
    pub(super) fn at(site: Site) -> Asked {
        Asked { site, times: SmallVec::new() }
    }

    fn key(&mut self, kind: Kind, name: &'static str) -> Key {
        let asked = self.times.iter_mut().find(|asked| (asked.0, asked.1) == (kind, name));
        let times = match asked {
            Some((.., times)) => {
                *times += 1;
                *times
            }
            None => {
                self.times.push((kind, name, 0));
                0
            }
        };
        (self.site, name, times)
    }
}

impl super::Lower<'_> {
    /// The tile of a kernel of some kind. `best` is taken by the first run. Others take it if it is among those for which
    /// there are pipelines from the start: for small and for large sizes there are others than the first run's, where those
    /// take less than half as long, and that is worth a pipeline. `cost` is in microseconds, roughly: a pipeline takes half a
    /// second on software devices, and 50 ms on GPUs, where others are made beside it.
    pub(crate) fn tile(
        &mut self,
        name: &'static str,
        best: (usize, usize),
        cost: impl Fn((usize, usize)) -> f64,
    ) -> (usize, usize) {
        let worth = if self.target.class == Class::Cpu { 500.0 } else { 5.0 };
        self.forms.tile(self.asked.key(Kind::Tile, name), best, cost, worth)
    }

    /// The tile of a kernel of some kind whose weights are packed for one: the best of the first run.
    pub(crate) fn only_tile(&mut self, name: &'static str, best: (usize, usize)) -> (usize, usize) {
        self.forms.only(self.asked.key(Kind::Tile, name), best)
    }

    /// Whether the number was the same for all shapes so far.
    pub(crate) fn fixed(&mut self, name: &'static str, n: usize) -> bool {
        self.forms.fixed(self.asked.key(Kind::Fixed, name), n)
    }

    /// Whether the numbers are multiples of 4, for all shapes so far.
    pub(crate) fn whole(&mut self, name: &'static str, numbers: impl IntoIterator<Item = usize>) -> bool {
        self.forms.whole(self.asked.key(Kind::Whole, name), numbers)
    }

    /// Whether something is so, for all shapes so far.
    pub(crate) fn always(&mut self, name: &'static str, here: bool) -> bool {
        self.forms.always(self.asked.key(Kind::Always, name), here)
    }

    /// Dimensions with such before them as change nothing, so that there are as many as for any shape so far.
    pub(crate) fn padded<T: Clone, C>(&mut self, name: &'static str, dims: C, none: T) -> C
    where
        C: AsRef<[T]> + IntoIterator<Item = T> + FromIterator<T>,
    {
        let rank = self.forms.rank(self.asked.key(Kind::Rank, name), dims.as_ref().len());
        let before = rank.saturating_sub(dims.as_ref().len());
        std::iter::repeat_n(none, before).chain(dims).collect()
    }

    /// How elements that lie so are indexed, for all shapes so far, and the parameters of that here.
    pub(crate) fn index(&mut self, access: &Access) -> (Index, Vec<u32>) {
        let index = self.forms.index(self.asked.key(Kind::Index, "index"), access);
        (index, index.words(access))
    }
}
