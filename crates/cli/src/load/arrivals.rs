//! The times at which the requests of an open loop are due.

use std::time::Duration;

use super::Arrivals;

/// The times from the beginning at which requests are due, without end.
pub(super) struct Schedule {
    rate: f64,
    arrivals: Arrivals,
    state: u64,
    at: f64,
}

impl Schedule {
    pub(super) fn new(rate: f64, arrivals: Arrivals, seed: u64) -> Schedule {
        Schedule { rate, arrivals, state: seed, at: 0.0 }
    }

    /// A number of the uniform distribution over 0 < x <= 1 (SplitMix64).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 + f64::EPSILON / 2.0
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = Duration::try_from_secs_f64(self.at).ok();
        self.at += match self.arrivals {
            Arrivals::Constant => 1.0 / self.rate,
            Arrivals::Exponential => -self.uniform().ln() / self.rate,
        };
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_are_evenly_apart() {
        let due: Vec<Duration> = Schedule::new(4.0, Arrivals::Constant, 0).take(4).collect();
        assert_eq!(due, [0, 250, 500, 750].map(Duration::from_millis));
    }

    #[test]
    fn exponential_arrivals_have_their_mean_and_their_deviation() {
        let due: Vec<f64> = Schedule::new(100.0, Arrivals::Exponential, 7)
            .take(20_001)
            .map(|due| due.as_secs_f64())
            .collect();
        let gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / 2e4;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / 2e4;
        // Five standard errors of the mean: 0.01 / sqrt(20000) each. The deviation of this distribution is its mean.
        assert!((mean - 0.01).abs() < 5.0 * 0.01 / 2e4_f64.sqrt(), "{mean}");
        assert!((variance.sqrt() - 0.01).abs() < 0.0005, "{variance}");
    }
}
