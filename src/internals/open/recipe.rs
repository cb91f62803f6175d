//! What a random graph is made from: choices, and the sizes of its runs.

use crate::ops::case::splitmix;

/// A source of choices.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (splitmix(&mut self.0) % n.max(1) as u64) as usize
    }

    pub(super) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What a graph is made from: without a step or a run it is a smaller one.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) seed: u64,
    pub(crate) steps: Vec<u64>,
    /// The sizes of the open dimensions in each run.
    pub(crate) runs: Vec<[usize; 4]>,
}

impl Recipe {
    pub(crate) fn new(seed: u64) -> Recipe {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9).wrapping_add(77));
        let steps = (0..2 + dice.below(7)).map(|_| splitmix(&mut dice.0)).collect();
        Recipe { seed, steps, runs: runs(&mut dice) }
    }
}

/// Sizes for all runs: first multiples of 4, or small, large or empty sizes; then others near and far; then the first again.
pub(super) fn runs(dice: &mut Dice) -> Vec<[usize; 4]> {
    let first = match dice.below(12) {
        0 => dice.of(&[1, 2, 3]),
        1 => 0,
        2 => dice.of(&[130, 256, 260, 516, 1028, 2052, 4100, 8196]),
        3 => dice.of(&[5, 7, 9, 30]),
        _ => dice.of(&[4, 8, 12, 16, 20, 32, 64]),
    };
    let batch = dice.of(&[1, 1, 2, 4]);
    let mut runs = vec![[batch, first, first, 1]];
    for _ in 0..3 + dice.below(2) {
        let mut next = |x: usize| match dice.below(12) {
            0 | 1 => x + 1,
            2 => x + 2,
            3 => 2 * x,
            4 => x.saturating_sub(1),
            5 => 1,
            6 => 0,
            7 => dice.of(&[67, 131, 140, 519, 4099]),
            8 => x,
            _ => dice.of(&[3, 5, 6, 7, 9, 11, 13, 21, 37]),
        };
        let (s, p) = (next(first), next(first));
        let batch = if dice.one_in(3) { dice.of(&[1, 2, 3, 5]) } else { batch };
        // The fourth size is 1 or the second: it broadcasts for some sizes only.
        runs.push([batch, s, p, if dice.one_in(2) { s } else { 1 }]);
    }
    runs.push(runs[0]);
    runs
}
