//! What is kept of a stream of numbers or classes: a sample while a baseline is learned, and then counts in the intervals of it.

use serde::{Deserialize, Serialize};

/// The intervals between the quantiles of a baseline: each holds a hundredth of it.
const QUANTILES: usize = 100;

/// The classes of a baseline that are counted for themselves; all others are counted together.
const TOP_CLASSES: usize = 20;

/// The classes that are counted while a baseline is learned.
const MOST_CLASSES: usize = 4096;

/// The numbers of a sample at most.
const SAMPLE: usize = 2048;

/// Steps of a pseudorandom sequence, of the generator SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// From 0 to `below - 1`.
    fn below(&mut self, below: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(below)) >> 64) as u64
    }
}

/// What is kept while a baseline is learned.
#[derive(Clone, Debug)]
pub(super) enum Learned {
    /// A uniform sample of the finite numbers (Vitter's algorithm R, 1985), all of them up to its size; and how many were not finite.
    Numbers { sample: Vec<f64>, seen: u64, not_finite: u64, random: Random },
    /// How often each class came; the last counts those beyond.
    Classes { counts: Vec<u64>, beyond: u64 },
}

impl Learned {
    pub(super) fn numbers() -> Learned {
        Learned::Numbers { sample: Vec::new(), seen: 0, not_finite: 0, random: Random::new(1) }
    }

    pub(super) fn classes() -> Learned {
        Learned::Classes { counts: Vec::new(), beyond: 0 }
    }

    pub(super) fn add(&mut self, value: f64) {
        match self {
            Learned::Numbers { not_finite, .. } if !value.is_finite() => *not_finite += 1,
            Learned::Numbers { sample, seen, random, .. } => {
                *seen += 1;
                if sample.len() < SAMPLE {
                    sample.push(value);
                } else if let Some(place) = sample.get_mut(random.below(*seen) as usize) {
                    *place = value;
                }
            }
            Learned::Classes { counts, beyond } => match class(value) {
                Some(class) if (class as usize) < MOST_CLASSES => {
                    let class = class as usize;
                    if counts.len() <= class {
                        counts.resize(class + 1, 0);
                    }
                    counts[class] += 1;
                }
                _ => *beyond += 1,
            },
        }
    }

    /// The baseline of what was seen.
    pub(super) fn reference(&self) -> Reference {
        match self {
            Learned::Numbers { sample, not_finite, seen, .. } => {
                let bins = Bins::Bounds(quantiles(sample));
                let mut counts = vec![0; bins.count()];
                sample.iter().for_each(|value| counts[bins.index(*value)] += 1);
                // A sample stands for all that was seen.
                let share = not_finite * sample.len() as u64;
                if let Some(last) = counts.last_mut() {
                    *last = if *seen == 0 { *not_finite } else { share.div_ceil(*seen) };
                }
                Reference { bins, counts }
            }
            Learned::Classes { counts, beyond } => {
                let mut order: Vec<usize> = (0..counts.len()).filter(|&class| counts[class] > 0).collect();
                order.sort_by_key(|&class| (std::cmp::Reverse(counts[class]), class));
                let rest: u64 = order.iter().skip(TOP_CLASSES).map(|&class| counts[class]).sum();
                order.truncate(TOP_CLASSES);
                let kept = order.iter().map(|&class| counts[class]).chain([rest + beyond]).collect();
                Reference {
                    bins: Bins::Classes(order.into_iter().map(|class| class as u32).collect()),
                    counts: kept,
                }
            }
        }
    }
}

/// The distinct quantiles of a sample, and below them a bound just under its least number: what was never seen has intervals of its own.
fn quantiles(sample: &[f64]) -> Vec<f64> {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(least) = sorted.first() else { return Vec::new() };
    let mut bounds = vec![least.next_down()];
    for i in 1..=QUANTILES {
        let bound = sorted[(i * sorted.len()).div_ceil(QUANTILES) - 1];
        if bounds.last().is_some_and(|last| *last < bound) {
            bounds.push(bound);
        }
    }
    bounds
}

/// What a series is counted by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Bins {
    /// Intervals of numbers: up to the first bound, above it up to the second, and so on, above the last; then what is not finite.
    Bounds(Vec<f64>),
    /// Classes; then all others.
    Classes(Vec<u32>),
}

impl Bins {
    /// The number of counts.
    pub(super) fn count(&self) -> usize {
        match self {
            Bins::Bounds(bounds) => bounds.len() + 2,
            Bins::Classes(classes) => classes.len() + 1,
        }
    }

    /// The count that `value` belongs to.
    pub(super) fn index(&self, value: f64) -> usize {
        match self {
            Bins::Bounds(bounds) if !value.is_finite() => bounds.len() + 1,
            Bins::Bounds(bounds) => bounds.partition_point(|bound| *bound < value),
            Bins::Classes(classes) => {
                let found = class(value).and_then(|class| classes.iter().position(|of| *of == class));
                found.unwrap_or(classes.len())
            }
        }
    }
}

fn class(value: f64) -> Option<u32> {
    (value >= 0.0 && value < f64::from(u32::MAX)).then_some(value as u32)
}

/// A series as it was when the baseline was learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reference {
    #[serde(flatten)]
    pub(super) bins: Bins,
    pub(super) counts: Vec<u64>,
}

impl Reference {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Bins::Bounds(bounds) = &self.bins
            && !(bounds.iter().all(|bound| bound.is_finite()) && bounds.is_sorted_by(|a, b| a < b))
        {
            return Err("its bounds are not in ascending order".into());
        }
        if self.bins.count() > 10_000 {
            return Err("it has more than 10000 intervals".into());
        }
        if self.counts.len() != self.bins.count() {
            return Err(format!("it has {} counts, and needs {}", self.counts.len(), self.bins.count()));
        }
        match self.counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count)) {
            Some(1..=0xFFFF_FFFF) => Ok(()),
            _ => Err("its counts add up to nothing, or to more than 4294967295".into()),
        }
    }
}

/// The parts of a window: when one is full, the oldest is forgotten.
pub(super) const BLOCKS: usize = 4;

/// The counts of the last rows.
#[derive(Clone, Debug)]
pub(super) struct Window {
    blocks: [Vec<u32>; BLOCKS],
    now: usize,
}

impl Window {
    pub(super) fn new(bins: &Bins) -> Window {
        Window { blocks: std::array::from_fn(|_| vec![0; bins.count()]), now: 0 }
    }

    pub(super) fn add(&mut self, index: usize) {
        if let Some(count) = self.blocks[self.now].get_mut(index) {
            *count = count.saturating_add(1);
        }
    }

    /// Begins a new part in place of the oldest.
    pub(super) fn turn(&mut self) {
        self.now = (self.now + 1) % BLOCKS;
        self.blocks[self.now].fill(0);
    }

    pub(super) fn counts(&self) -> Vec<u64> {
        let bins = self.blocks[0].len();
        (0..bins).map(|bin| self.blocks.iter().map(|block| u64::from(block[bin])).sum()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(values: impl IntoIterator<Item = f64>) -> Reference {
        let mut learned = Learned::numbers();
        values.into_iter().for_each(|value| learned.add(value));
        learned.reference()
    }

    #[test]
    fn each_interval_holds_a_hundredth() {
        let reference = learned((1..=1000).rev().map(f64::from));
        let Bins::Bounds(bounds) = &reference.bins else { panic!("{reference:?}") };
        let expected: Vec<f64> = (1..=100).map(|i| f64::from(i) * 10.0).collect();
        assert_eq!(bounds[1..], expected);
        assert_eq!(reference.counts[0], 0);
        assert!(reference.counts[1..=100].iter().all(|count| *count == 10));
        assert_eq!(reference.counts[101..], [0, 0]);
        reference.check().unwrap();
    }

    #[test]
    fn few_values_have_an_interval_each() {
        let reference = learned([0.0, 1.0, 1.0, 5.0, f64::NAN, f64::INFINITY]);
        let Bins::Bounds(bounds) = &reference.bins else { panic!("{reference:?}") };
        assert_eq!(bounds[1..], [0.0, 1.0, 5.0]);
        assert_eq!(reference.counts, [0, 1, 2, 1, 0, 2]);
        let index = |value| reference.bins.index(value);
        assert_eq!([-0.1, 0.0, 0.5, 5.0, 5.1, f64::NAN].map(index), [0, 1, 2, 3, 4, 5]);
        let none = learned([f64::NAN]);
        assert_eq!((none.counts.as_slice(), none.bins.index(3.0)), (&[0, 1][..], 0));
    }

    #[test]
    fn a_sample_is_bounded_and_uniform() {
        let mut learned = Learned::numbers();
        (0..100_000).for_each(|i| learned.add(f64::from(i)));
        let Learned::Numbers { sample, .. } = &learned else { panic!() };
        assert_eq!(sample.len(), SAMPLE);
        // The mean of 2048 of the numbers below 100000 has a standard deviation of 638.
        let mean = sample.iter().sum::<f64>() / sample.len() as f64;
        assert!((mean - 50_000.0).abs() < 3_000.0, "{mean}");
    }

    #[test]
    fn the_most_frequent_classes_are_counted_for_themselves() {
        let mut learned = Learned::classes();
        for class in 0..30u32 {
            (0..=class).for_each(|_| learned.add(f64::from(class)));
        }
        learned.add(5_000_000.0);
        learned.add(f64::NAN);
        let reference = learned.reference();
        assert_eq!(reference.bins, Bins::Classes((10..30).rev().collect()));
        assert_eq!(reference.counts[..2], [30, 29]);
        assert_eq!(reference.counts[20], (1..=10).sum::<u64>() + 2);
        assert_eq!(reference.bins.index(9.0), 20);
        reference.check().unwrap();
    }

    #[test]
    fn a_window_forgets_its_oldest_part() {
        let mut window = Window::new(&Bins::Classes(vec![0]));
        window.add(0);
        for _ in 0..BLOCKS - 1 {
            window.turn();
            window.add(1);
        }
        assert_eq!(window.counts(), [1, 3]);
        window.turn();
        assert_eq!(window.counts(), [0, 3]);
        window.add(7);
    }

    #[test]
    fn a_reference_that_cannot_be_is_refused() {
        let reference = |bounds: &[f64], counts: &[u64]| {
            Reference { bins: Bins::Bounds(bounds.into()), counts: counts.into() }.check()
        };
        reference(&[0.0, 1.0], &[0, 1, 0, 0]).unwrap();
        assert!(reference(&[0.0, 0.0], &[0, 1, 0, 0]).is_err());
        assert!(reference(&[f64::NAN], &[0, 1, 0]).is_err());
        assert!(reference(&[0.0], &[1]).is_err());
        assert!(reference(&[0.0], &[0, 0, 0]).is_err());
        assert!(reference(&[0.0], &[u64::MAX, 1, 0]).is_err());
    }
}
