//! What the plans of one graph have in common. Shapes are parameters of kernels, but some kernels come in forms that fit
//! certain shapes only, or fit them better: vectors where rows are aligned, an index over fewer dimensions where one of them
//! is 1, a tile. A plan takes the form that serves the shapes of all plans before it too, so that another shape makes no new
//! pipeline and packs no weight anew.

use std::collections::HashMap;

use super::Access;
use crate::graph::NodeId;
use crate::kernels::Class;
use crate::kernels::fused::Index;

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

/// Forms chosen so far, by where they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forms {
    all: HashMap<Key, Form>,
    stage: Stage,
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

#[derive(Clone, Debug)]
enum Form {
    /// Rows, and columns or places. Those of which each plan takes the one that costs least.
    Tiles(Vec<(usize, usize)>),
    /// The greatest common divisor of a number in all plans.
    Divisor(usize),
    /// Whether something was so in all plans.
    Always(bool),
    /// What a number was in all plans, if it was always the same.
    Number(Option<usize>),
    /// The most dimensions.
    Rank(usize),
    Index(Index),
}

fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

impl Forms {
    /// Whether a first run has been planned.
    pub(crate) fn are_chosen(&self) -> bool {
        self.stage != Stage::Sizes
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
        let Form::Tiles(tiles) = self.all.entry(key).or_insert(Form::Tiles(vec![best])) else { return best };
        let least = |a: &(usize, usize), b: &(usize, usize)| cost(*a).total_cmp(&cost(*b));
        let Some(tile) = tiles.iter().copied().min_by(least) else { return best };
        let (before, now) = (cost(tile), cost(best));
        if self.stage == Stage::Tiles && now < 0.5 * before && before - now > worth {
            tiles.push(best);
            return best;
        }
        tile
    }

    /// The tile of the first run, for all others.
    fn only(&mut self, key: Key, best: (usize, usize)) -> (usize, usize) {
        self.tile(key, best, |_| 0.0, 0.0)
    }

    fn fixed(&mut self, key: Key, here: usize) -> bool {
        let Form::Number(number) = self.all.entry(key).or_insert(Form::Number(Some(here))) else {
            return true;
        };
        *number = number.filter(|number| *number == here);
        number.is_some()
    }

    fn whole(&mut self, key: Key, numbers: impl IntoIterator<Item = usize>) -> bool {
        let here = numbers.into_iter().fold(0, divisor);
        let Form::Divisor(all) = self.all.entry(key).or_insert(Form::Divisor(here)) else {
            return here.is_multiple_of(4);
        };
        *all = divisor(*all, here);
        all.is_multiple_of(4)
    }

    fn always(&mut self, key: Key, here: bool) -> bool {
        let Form::Always(all) = self.all.entry(key).or_insert(Form::Always(here)) else { return here };
        *all &= here;
        *all
    }

    fn rank(&mut self, key: Key, here: usize) -> usize {
        let Form::Rank(most) = self.all.entry(key).or_insert(Form::Rank(here)) else { return here };
        *most = here.max(*most);
        *most
    }

    fn index(&mut self, key: Key, access: &Access) -> Index {
        let here = Index::of(access);
        let Form::Index(index) = self.all.entry(key).or_insert(Form::Index(here)) else { return here };
        *index = index.widened(access);
        *index
    }
}

/// What was asked at one site. Each question is asked in the same order in every plan.
pub(super) struct Asked {
    site: Site,
    times: Vec<(&'static str, usize)>,
}

impl Asked {
    pub(super) fn at(site: Site) -> Asked {
        Asked { site, times: Vec::new() }
    }

    fn key(&mut self, kind: &'static str) -> Key {
        let times = match self.times.iter_mut().find(|(asked, _)| *asked == kind) {
            Some((_, times)) => {
                *times += 1;
                *times
            }
            None => {
                self.times.push((kind, 0));
                0
            }
        };
        (self.site, kind, times)
    }
}

impl super::Lower<'_> {
    /// The tile of a kernel of some kind. `best` is taken by the first run. Others take it if it is among those for which
    /// there are pipelines from the start: for small and for large sizes there are others than the first run's, where those
    /// take less than half as long, and that is worth a pipeline. `cost` is in microseconds, roughly: a pipeline takes half a
    /// second on software devices, and 50 ms on GPUs, where others are made beside it.
    pub(crate) fn tile(
        &mut self,
        kind: &'static str,
        best: (usize, usize),
        cost: impl Fn((usize, usize)) -> f64,
    ) -> (usize, usize) {
        let worth = if self.target.class == Class::Cpu { 500.0 } else { 5.0 };
        self.forms.tile(self.asked.key(kind), best, cost, worth)
    }

    /// The tile of a kernel of some kind whose weights are packed for one: the best of the first run.
    pub(crate) fn only_tile(&mut self, kind: &'static str, best: (usize, usize)) -> (usize, usize) {
        self.forms.only(self.asked.key(kind), best)
    }

    /// Whether the number was the same for all shapes so far.
    pub(crate) fn fixed(&mut self, kind: &'static str, n: usize) -> bool {
        self.forms.fixed(self.asked.key(kind), n)
    }

    /// Whether the numbers are multiples of 4, for all shapes so far.
    pub(crate) fn whole(&mut self, kind: &'static str, numbers: impl IntoIterator<Item = usize>) -> bool {
        self.forms.whole(self.asked.key(kind), numbers)
    }

    /// Whether something is so, for all shapes so far.
    pub(crate) fn always(&mut self, kind: &'static str, here: bool) -> bool {
        self.forms.always(self.asked.key(kind), here)
    }

    /// Dimensions with such before them as change nothing, so that there are as many as for any shape so far.
    pub(crate) fn padded<T: Clone>(&mut self, kind: &'static str, dims: Vec<T>, none: T) -> Vec<T> {
        let rank = self.forms.rank(self.asked.key(kind), dims.len());
        let before = rank.saturating_sub(dims.len());
        std::iter::repeat_n(none, before).chain(dims).collect()
    }

    /// How elements that lie so are indexed, for all shapes so far, and the parameters of that here.
    pub(crate) fn index(&mut self, access: &Access) -> (Index, Vec<u32>) {
        let index = self.forms.index(self.asked.key("index"), access);
        (index, index.words(access))
    }
}
