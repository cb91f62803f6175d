//! How far two distributions are from each other: the population stability index, and Kolmogorov and Smirnov's statistic.

use super::sketch::{Bins, Reference};

/// The groups of a baseline of numbers, of about equal shares.
const GROUPS: u64 = 10;

/// A share of nothing counts as this: its logarithm is infinite.
const LEAST_SHARE: f64 = 1e-4;

/// The population stability index: the sum of (a − e) ln(a / e) over all groups, where e is a group's share of the expected counts and a
/// that of the actual ones, and each is 0.0001 at least. It is Jeffreys' divergence of the two; as a custom of credit scoring
/// (Siddiqi 2006), less than 0.1 is no change, and more than 0.25 a great one. NaN if one of the two is empty.
pub(super) fn psi(expected: &[u64], actual: &[u64]) -> f64 {
    let sum = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
    let (all_expected, all_actual) = (sum(expected), sum(actual));
    if all_expected == 0.0 || all_actual == 0.0 {
        return f64::NAN;
    }
    let term = |(e, a): (&u64, &u64)| {
        let e = (*e as f64 / all_expected).max(LEAST_SHARE);
        let a = (*a as f64 / all_actual).max(LEAST_SHARE);
        (a - e) * (a / e).ln()
    };
    expected.iter().zip(actual).map(term).sum()
}

/// Kolmogorov and Smirnov's statistic of two samples, at the bounds of the intervals that both are counted in: the greatest difference
/// of the two cumulative shares. It is less than that of the samples themselves by the share of one interval at most.
pub(super) fn kolmogorov_smirnov(expected: &[u64], actual: &[u64]) -> f64 {
    let sum = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
    let (all_expected, all_actual) = (sum(expected), sum(actual));
    if all_expected == 0.0 || all_actual == 0.0 {
        return f64::NAN;
    }
    let mut cumulative = (0, 0);
    let mut greatest = 0.0f64;
    for (e, a) in expected.iter().zip(actual) {
        cumulative = (cumulative.0 + e, cumulative.1 + a);
        let difference = cumulative.0 as f64 / all_expected - cumulative.1 as f64 / all_actual;
        greatest = greatest.max(difference.abs());
    }
    greatest
}

/// The probability that two samples of these sizes from one distribution have a statistic of `d` or more: Kolmogorov's distribution
/// 2 Σ (−1)^(j−1) exp(−2 j² λ²) at λ = d √(n m / (n + m)), to which it converges for large samples (Smirnov 1948).
pub(super) fn probability(d: f64, n: u64, m: u64) -> f64 {
    let (n, m) = (n as f64, m as f64);
    let lambda = d * (n * m / (n + m)).sqrt();
    // The series needs many terms where the sum is 1 to ten digits.
    if lambda < 0.2 {
        return 1.0;
    }
    let term = |j: i32| {
        let exponent = -2.0 * f64::from(j * j) * lambda * lambda;
        if j % 2 == 1 { exponent.exp() } else { -exponent.exp() }
    };
    (2.0 * (1..=100).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

/// How far a series is from its baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Distance {
    /// The rows that are compared with the baseline.
    pub(super) rows: u64,
    pub(super) psi: f64,
    /// The statistic of Kolmogorov and Smirnov, and the probability of one as great without drift; classes have none.
    pub(super) ks: Option<(f64, f64)>,
}

/// The distance of `counts` from the reference that they are counted by.
pub(super) fn distance(reference: &Reference, counts: &[u64]) -> Distance {
    let rows = counts.iter().sum();
    match &reference.bins {
        Bins::Classes(_) => Distance { rows, psi: psi(&reference.counts, counts), ks: None },
        Bins::Bounds(bounds) => {
            let groups = groups(&reference.counts, bounds.len());
            let psi = psi(&grouped(&reference.counts, &groups), &grouped(counts, &groups));
            // What is not finite has no order.
            let finite = |counts: &[u64]| counts[..counts.len().saturating_sub(1)].to_vec();
            let (expected, actual) = (finite(&reference.counts), finite(counts));
            let d = kolmogorov_smirnov(&expected, &actual);
            let p = probability(d, expected.iter().sum(), actual.iter().sum());
            Distance { rows, psi, ks: d.is_finite().then_some((d, p)) }
        }
    }
}

/// The group of each interval: tenths of the baseline, and what is not finite. What is below or above all of the baseline belongs to the
/// first or the last tenth, as chance alone brings some of it; but if more than a fiftieth of the baseline is its least or greatest
/// value, it is a group of its own.
fn groups(reference: &[u64], bounds: usize) -> Vec<usize> {
    let within = reference.get(1..bounds).unwrap_or_default();
    let all: u64 = within.iter().sum();
    let is_value = |count: Option<&u64>| count.is_none_or(|count| count * 50 > all);
    let mut before = 0;
    let tenths = within.iter().map(|count| {
        let tenth = before * GROUPS / all.max(1);
        before += count;
        1 + tenth as usize
    });
    let mut groups: Vec<usize> = tenths.collect();
    let below = if is_value(within.first()) { 0 } else { 1 };
    let above = match groups.last() {
        Some(last) if !is_value(within.last()) => *last,
        _ => 1 + GROUPS as usize,
    };
    groups.insert(0, below);
    groups.push(above);
    groups.resize(reference.len().saturating_sub(1), above);
    groups.push(2 + GROUPS as usize);
    groups
}

fn grouped(counts: &[u64], groups: &[usize]) -> Vec<u64> {
    let mut sums = vec![0; 3 + GROUPS as usize];
    for (count, group) in counts.iter().zip(groups) {
        if let Some(sum) = sums.get_mut(*group) {
            *sum += count;
        }
    }
    sums
}

/// The expected values are those of numpy's and scipy's functions (`numpy.log`, `scipy.special.kolmogorov`, `scipy.stats.ks_2samp`).
#[cfg(test)]
mod tests {
    use super::super::sketch::{Learned, Window};
    use super::*;

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12 * expected.abs().max(1.0), "{found} is not {expected}");
    }

    #[test]
    fn stability_indices() {
        close(psi(&[10, 20, 30, 40], &[40, 30, 20, 10]), 0.9128696382935673);
        close(psi(&[50, 50, 0], &[0, 50, 50]), 8.515489752777954);
        close(psi(&[1, 2, 3], &[100, 200, 300]), 0.0);
        assert!(psi(&[1], &[0]).is_nan());
    }

    /// The samples 0 ×5, 1 ×3, 2 ×2 and 0 ×2, 1 ×3, 2 ×5.
    #[test]
    fn greatest_differences() {
        close(kolmogorov_smirnov(&[5, 3, 2], &[2, 3, 5]), 0.3);
        close(kolmogorov_smirnov(&[0, 10, 0], &[0, 0, 10]), 1.0);
        close(kolmogorov_smirnov(&[1, 2], &[10, 20]), 0.0);
    }

    #[test]
    fn probabilities() {
        // n m / (n + m) is 1 for two samples of 2.
        for (lambda, expected) in [
            (0.1, 1.0),
            (0.5, 0.9639452436648751),
            (1.0, 0.26999967167735456),
            (1.3581, 0.0499996304316674),
            (1.6276, 0.010001537333060776),
            (2.5, 7.453306344157342e-06),
        ] {
            close(probability(lambda, 2, 2), expected);
        }
    }

    fn against(baseline: impl Iterator<Item = f64>, current: impl Iterator<Item = f64>) -> Distance {
        let mut learned = Learned::numbers();
        baseline.for_each(|value| learned.add(value));
        let reference = learned.reference();
        let mut window = Window::new(&reference.bins);
        current.for_each(|value| window.add(reference.bins.index(value)));
        distance(&reference, &window.counts())
    }

    /// The whole numbers to 1000, and 500 of them moved. `ks_2samp` of the samples themselves finds 0.149, in the middle of an interval.
    #[test]
    fn a_shift_of_numbers() {
        let current = (0..500u32).map(|i| f64::from(i * 7919 % 1000) * 0.9 + 150.0);
        let found = against((1..=1000).map(f64::from), current);
        close(found.psi, 0.7587669839769015);
        let (d, p) = found.ks.unwrap_or_default();
        close(d, 0.148);
        close(p, 9.10274635142879e-07);
        assert_eq!(found.rows, 500);
    }

    #[test]
    fn the_same_again_is_no_drift() {
        let found = against((1..=1000).map(f64::from), (1..=1000).map(f64::from));
        assert_eq!((found.psi, found.ks), (0.0, Some((0.0, 1.0))));
    }

    /// A feature that was always 0 and is 5, or no number, from then on.
    #[test]
    fn what_was_constant_is_not_any_more() {
        let zeros = || std::iter::repeat_n(0.0, 1000);
        for other in [5.0, -5.0, f64::NAN] {
            let found = against(zeros(), std::iter::repeat_n(other, 1000));
            close(found.psi, 2.0 * (1.0 - 1e-4) * 1e4f64.ln());
        }
        let (d, _) = against(zeros(), std::iter::repeat_n(5.0, 10)).ks.unwrap_or_default();
        close(d, 1.0);
        assert_eq!(against(zeros(), std::iter::repeat_n(f64::NAN, 10)).ks, None);
    }
}
