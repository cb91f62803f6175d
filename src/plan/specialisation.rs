//! What the kernels of a graph are specialised for, in all of its plans. Shapes are parameters of kernels, but some kernels
//! have variants that fit certain shapes only, or fit them better: they read vectors where rows are aligned, index fewer
//! dimensions where one has size 1, or have another tile. Lowering asks which variant to take (`question`), and the answer
//! serves the shapes of all plans so far. Another shape then needs no new pipeline, and no weight is packed again.
//!
//! An example: rows of 64 elements are whole vectors of 4, and rows of 65 are not. A session that has run with 65 reads rows
//! of 64 by single elements too.
//!
//! A kept answer says how a plan computes, never what. Why each holds for the sizes of the plan at hand:
//!
//! | kept | why it holds |
//! |---|---|
//! | `Multiple`, `Always` | the sizes at hand are asked about too, and one no is final: a yes is true here |
//! | `Same` | it only weighs whether a pipeline is worth its time; sizes stay as they are |
//! | `Rank` | dimensions of size 1 and stride 0 are added before those at hand: they name the same elements |
//! | an index | `Index::widened` also finds the elements at hand; where it does not, this plan uses an index for its own elements |
//! | `Index::Row`, `Column` | it is an `Always` about this operand's own parameters |
//! | `Tiling` | a kernel takes any tile at any size; what a tile needs of sizes (whole vectors) is a `Multiple` as well |
//! | packed weights | the packing is the key, contains the tile, and is made from the same tile as the kernel |
//! | units | `Units::fit` compares the shapes at hand where nodes are fused, and what planning knows |
//! | whether attention is one kernel | it only weighs time; `SpelledAttention::sizes` looks at the sizes at hand |
//! | single constants | the value is this plan's; an `Always` chooses between a parameter and memory |
//! | views, results in place, the arena | nothing is kept: each program has its own |
//!
//! Each call is also checked against what its kernel's spec takes for granted (`kernels::Spec::fits`) before it runs.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use smallvec::SmallVec;

use super::fusion::Units;
use super::question::{Always, IndexOf, Multiple, Question, Rank, Same, Tiling};
use super::{Lower, Options, attention};
use crate::facts::Facts;
use crate::graph::NodeId;
use crate::kernels::cost::{self, Microseconds};
use crate::kernels::fused::Index;
use crate::kernels::{Access, Target};
use crate::ops::Graph;

/// The most ways to fuse nodes that are kept: every plan tries each of them.
const MOST_UNITS: usize = 4;

/// Where a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Site {
    /// In the unit whose first node this is.
    Unit(NodeId),
    /// In the unit that is an attention, of which this is the last node.
    Attention(NodeId),
    /// Where the graph's output with this number is copied into its own buffer.
    Output(usize),
}

/// The place of a question: where it is asked, which it is, and how many times it was asked there before.
type Key<Q> = (Site, Q, usize);

/// The answers so far, and the units so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Specialisation {
    /// The units of the first plan, and of later plans whose sizes those did not fit.
    units: Vec<Arc<Units>>,
    /// Whether attention that is spelled out has kernels of its own.
    attention: bool,
    /// The tiles to choose from: each plan takes the cheapest.
    tiles: Answers<Tiling, Vec<(usize, usize)>>,
    /// The number, if it was the same in all plans.
    same: Answers<Same, Option<usize>>,
    /// The greatest common divisor of the numbers in all plans.
    divisors: Answers<Multiple, usize>,
    always: Answers<Always, bool>,
    ranks: Answers<Rank, usize>,
    indices: Answers<IndexOf, Index>,
    /// What tiles would cost the first run, if all of its kernels had the same one.
    weights: Vec<Weight>,
    /// The tiles that some kernel has, or that are the best for all together.
    in_use: Vec<(Tiling, (usize, usize))>,
    phase: Phase,
    changes: Changes,
    #[cfg(test)]
    order: super::order::Order,
}

/// The number of answers that have changed since the first plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) answers: usize,
    /// The number of tiles that were added to choose from.
    pub(super) tiles: usize,
}

/// A question, how many times it was asked at its site before, and the answer.
type Answer<Q, T> = (Q, usize, T);

/// The most answers of a site that are searched one by one.
const FEW: usize = 16;

/// The answers to questions of one kind. A site has a handful of them in nearly all cases.
#[derive(Clone, Debug)]
struct Answers<Q, T> {
    units: Vec<Vec<Answer<Q, T>>>,
    attention: Vec<Vec<Answer<Q, T>>>,
    outputs: Vec<Vec<Answer<Q, T>>>,
    /// The answers after the first [`FEW`] of a site.
    others: HashMap<Key<Q>, T>,
}

impl<Q, T> Default for Answers<Q, T> {
    fn default() -> Answers<Q, T> {
        let (units, attention, outputs) = (Vec::new(), Vec::new(), Vec::new());
        Answers { units, attention, outputs, others: HashMap::new() }
    }
}

impl<Q: Copy + Eq + Hash, T> Answers<Q, T> {
    /// The answer so far; `new` if the question was not asked there before.
    fn entry(&mut self, key: Key<Q>, new: T) -> &mut T {
        let (site, question, times) = key;
        let (sites, at) = match site {
            Site::Unit(node) => (&mut self.units, node.index()),
            Site::Attention(node) => (&mut self.attention, node.index()),
            Site::Output(i) => (&mut self.outputs, i),
        };
        if sites.len() <= at {
            sites.resize_with(at + 1, Vec::new);
        }
        let answers = &mut sites[at];
        match answers.iter().position(|answer| (answer.0, answer.1) == (question, times)) {
            Some(found) => &mut answers[found].2,
            None if answers.len() < FEW => {
                answers.push((question, times, new));
                let last = answers.len() - 1;
                &mut answers[last].2
            }
            None => self.others.entry(key).or_insert(new),
        }
    }
}

/// A tile that a kernel could have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weighed {
    pub(crate) tile: (usize, usize),
    pub(crate) cost: Microseconds,
    /// The products in its inner loop, which most of its compilation is about.
    pub(crate) products: usize,
}

/// What a tile would cost the kernels of a plan together.
#[derive(Clone, Debug)]
struct Weight {
    question: Tiling,
    weighed: Weighed,
    kernels: usize,
}

impl Weight {
    /// The costs, with those of pipelines. In networks about four kernels share one: those with the same fused code.
    fn total(&self) -> Microseconds {
        let pipelines = self.kernels.div_ceil(4) as f64;
        self.weighed.cost + pipelines * cost::pipeline(self.weighed.products, false)
    }
}

/// What may still change while plans are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Answers about sizes. The tiles of these plans do not matter, as nothing runs them.
    #[default]
    Sizes,
    /// The same, for the first run's sizes: tiles are weighed.
    Weights,
    /// Tiles too: the first run's, and then other tiles where the first run's would serve some sizes badly.
    Tiles,
    /// Tiles no longer; an answer about sizes still turns to no where it must.
    Settled,
}

fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

impl Specialisation {
    /// Of a graph whose first run has these facts.
    pub(super) fn of(graph: &Graph, facts: &Facts, target: &Target, options: &Options) -> Specialisation {
        Specialisation {
            attention: attention::pays(graph, facts, target, options),
            ..Specialisation::default()
        }
    }

    pub(super) fn attention(&self) -> bool {
        self.attention
    }

    /// The units into which nodes are fused: those of an earlier plan, if they fit this one.
    pub(super) fn units(
        &mut self,
        graph: &Graph,
        facts: &Facts,
        target: &Target,
        options: &Options,
    ) -> Arc<Units> {
        if let Some(units) = self.units.iter().find(|units| units.fit(graph, facts, target)) {
            return units.clone();
        }
        let units = Arc::new(Units::of(graph, facts, target, options, self.attention));
        if self.units.len() < MOST_UNITS {
            self.units.push(units.clone());
        }
        units
    }

    pub(super) fn changes(&self) -> Changes {
        self.changes
    }

    /// Begins a phase. Where tiles were weighed, the best for all kernels together is in use from now on.
    pub(super) fn advance(&mut self, phase: Phase) {
        self.phase = phase;
        let mut weights = std::mem::take(&mut self.weights);
        weights.sort_by(|a, b| a.total().total_cmp(&b.total()));
        for Weight { question, weighed, .. } in weights {
            if self.tiles_in_use(question).next().is_none() {
                self.in_use.push((question, weighed.tile));
            }
        }
    }

    fn tiles_in_use(&self, question: Tiling) -> impl Iterator<Item = (usize, usize)> {
        self.in_use.iter().filter(move |used| used.0 == question).map(|used| used.1)
    }

    fn weigh(&mut self, question: Tiling, tiles: &[Weighed]) {
        for weighed in tiles {
            let same =
                |weight: &&mut Weight| weight.question == question && weight.weighed.tile == weighed.tile;
            match self.weights.iter_mut().find(same) {
                Some(weight) => {
                    weight.weighed.cost += weighed.cost;
                    weight.kernels += 1;
                }
                None => self.weights.push(Weight { question, weighed: *weighed, kernels: 1 }),
            }
        }
    }

    /// The cheapest of the tiles to choose from. `best` becomes one of them if it takes less than 0.6 as long as that, and if
    /// it saves `worth` in a run, which pays for a pipeline.
    fn tile(
        &mut self,
        key: Key<Tiling>,
        best: (usize, usize),
        cost: impl Fn((usize, usize)) -> Microseconds,
        worth: Microseconds,
    ) -> (usize, usize) {
        if matches!(self.phase, Phase::Sizes | Phase::Weights) {
            return best;
        }
        let tiles = self.tiles.entry(key, vec![best]);
        let question = key.1;
        let least = |a: &(usize, usize), b: &(usize, usize)| cost(*a).total_cmp(&cost(*b));
        let Some(tile) = tiles.iter().copied().min_by(least) else { return best };
        let (before, now) = (cost(tile), cost(best));
        let tile = if self.phase == Phase::Tiles && now < 0.6 * before && before - now > worth {
            tiles.push(best);
            self.changes.tiles += 1;
            best
        } else {
            tile
        };
        if !self.in_use.contains(&(question, tile)) {
            self.in_use.push((question, tile));
        }
        tile
    }

    fn same(&mut self, key: Key<Same>, here: usize) -> bool {
        let number = self.same.entry(key, Some(here));
        let before = number.is_some();
        *number = number.filter(|number| *number == here);
        self.changes.answers += usize::from(number.is_some() != before);
        number.is_some()
    }

    fn multiple(&mut self, key: Key<Multiple>, numbers: impl IntoIterator<Item = usize>) -> bool {
        let here = numbers.into_iter().fold(0, divisor);
        let all = self.divisors.entry(key, here);
        let before = all.is_multiple_of(4);
        *all = divisor(*all, here);
        self.changes.answers += usize::from(all.is_multiple_of(4) != before);
        all.is_multiple_of(4)
    }

    pub(super) fn always(&mut self, key: Key<Always>, here: bool) -> bool {
        let all = self.always.entry(key, here);
        self.changes.answers += usize::from(*all && !here);
        *all &= here;
        *all
    }

    fn rank(&mut self, key: Key<Rank>, here: usize) -> usize {
        let most = self.ranks.entry(key, here);
        self.changes.answers += usize::from(here > *most);
        *most = here.max(*most);
        *most
    }

    fn index(&mut self, key: Key<IndexOf>, access: &Access) -> Index {
        let here = Index::of(access);
        let index = self.indices.entry(key, here);
        let wide = index.widened(access);
        if !wide.serves(access) {
            debug_assert!(false, "{wide:?} for {access:?}");
            return here;
        }
        self.changes.answers += usize::from(wide != *index);
        *index = wide;
        wide
    }
}

/// The questions that were asked at one site, each with the number of times.
pub(super) struct Asked {
    site: Site,
    times: SmallVec<[(Question, usize); 8]>,
    /// The questions after the first [`FEW`].
    others: HashMap<Question, usize>,
    #[cfg(test)]
    trail: super::order::Trail,
}

impl Asked {
    pub(super) fn at(site: Site) -> Asked {
        Asked {
            site,
            times: SmallVec::new(),
            others: HashMap::new(),
            #[cfg(test)]
            trail: Default::default(),
        }
    }

    fn times(&mut self, question: Question) -> usize {
        let next = |times: &mut usize| {
            *times += 1;
            *times - 1
        };
        match self.times.iter().position(|asked| asked.0 == question) {
            Some(found) => next(&mut self.times[found].1),
            None if self.times.len() < FEW => {
                self.times.push((question, 1));
                0
            }
            None => next(self.others.entry(question).or_default()),
        }
    }
}

impl Lower<'_> {
    /// Asks a question of one kind.
    fn ask<Q, T: std::fmt::Debug>(
        &mut self,
        (question, q): (Question, Q),
        answer: impl FnOnce(&mut Specialisation, Key<Q>) -> T,
    ) -> T {
        let key = (self.asked.site, q, self.asked.times(question));
        let answer = answer(self.specialisation, key);
        #[cfg(test)]
        self.specialisation.order.next(self.asked.site, &mut self.asked.trail, question, &answer);
        answer
    }

    /// The tile of a kernel. The first run takes `best`. Other sizes take the cheapest of the tiles that have pipelines from
    /// the start: the tiles of the first run, and those of the largest and of the smallest sizes, where these take less than
    /// 0.6 as long and save enough to be worth a pipeline.
    pub(crate) fn tile(
        &mut self,
        question: Tiling,
        best: (usize, usize),
        cost: impl Fn((usize, usize)) -> Microseconds,
    ) -> (usize, usize) {
        let worth = cost::worth_a_pipeline(self.target.class);
        self.ask((Question::Tiling(question), question), |specialisation, key| {
            specialisation.tile(key, best, cost, worth)
        })
    }

    /// The tile that costs least, with what its pipeline costs. A tile that other kernels have may need no pipeline of its own,
    /// and one tile may be the best for all kernels of a model together though it is not the best for any.
    pub(crate) fn cheapest(
        &self,
        question: Tiling,
        tiles: impl IntoIterator<Item = Weighed>,
    ) -> Option<(usize, usize)> {
        let cost = |weighed: &Weighed| {
            let in_use = self.specialisation.tiles_in_use(question).any(|tile| tile == weighed.tile);
            weighed.cost + cost::pipeline(weighed.products, in_use)
        };
        tiles.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b))).map(|weighed| weighed.tile)
    }

    /// Says what each of the tiles to choose from would cost a kernel. All kernels of one kind have the same tiles here.
    pub(crate) fn weigh(&mut self, question: Tiling, tiles: &[Weighed]) {
        if self.specialisation.phase == Phase::Weights {
            self.specialisation.weigh(question, tiles);
        }
    }

    /// The tile of a kernel whose weights are packed for one tile: the first run's best.
    pub(crate) fn only_tile(&mut self, question: Tiling, best: (usize, usize)) -> (usize, usize) {
        self.tile(question, best, |_| 0.0)
    }

    /// Whether the number was the same in all plans so far.
    pub(crate) fn same(&mut self, question: Same, n: usize) -> bool {
        self.ask((Question::Same(question), question), |specialisation, key| specialisation.same(key, n))
    }

    /// Whether all `numbers` were multiples of 4, in all plans so far.
    pub(crate) fn multiple(&mut self, question: Multiple, numbers: impl IntoIterator<Item = usize>) -> bool {
        self.ask((Question::Multiple(question), question), |specialisation, key| {
            specialisation.multiple(key, numbers)
        })
    }

    /// Whether a statement holds `here`, and held in all plans so far.
    pub(crate) fn always(&mut self, question: Always, here: bool) -> bool {
        self.ask((Question::Always(question), question), |specialisation, key| {
            specialisation.always(key, here)
        })
    }

    /// The dimensions, with copies of `none` before them, so that there are as many as in any plan so far. `none` is a
    /// dimension of size 1, which changes nothing: `[(8, 4), (4, 1)]` becomes `[(1, 0), (8, 4), (4, 1)]` where another plan
    /// had three.
    pub(crate) fn with_rank<T: Clone, C>(&mut self, question: Rank, dims: C, none: T) -> C
    where
        C: AsRef<[T]> + IntoIterator<Item = T> + FromIterator<T>,
    {
        let here = dims.as_ref().len();
        let rank = self
            .ask((Question::Rank(question), question), |specialisation, key| specialisation.rank(key, here));
        std::iter::repeat_n(none, rank.saturating_sub(here)).chain(dims).collect()
    }

    /// The index that finds the elements of `access` here, and the elements of all plans so far, and its parameters here.
    pub(crate) fn index(&mut self, operand: IndexOf, access: &Access) -> (Index, Vec<u32>) {
        let index = self.ask((Question::Index(operand), operand), |specialisation, key| {
            specialisation.index(key, access)
        });
        (index, index.words(access))
    }
}
