//! Which variant a key belongs to.

use sha2::{Digest, Sha256};

/// The number of the variant, of names and weights, that answers the requests of a key: each gets its weight's part of all keys. Only
/// keys that a change of the weights gives to another variant move, and the choice is the same on every server. `None` if no weight
/// is above 0.
///
/// This is weighted rendezvous hashing (Schindelhauer and Schomaker, Weighted Distributed Hash Tables, 2005): of independent exponential
/// numbers with rates `w`, the one with rate `w_i` is the least with probability `w_i / sum(w)`.
pub(super) fn choose<'a>(
    model: &str,
    key: &[u8],
    variants: impl Iterator<Item = (&'a str, f64)>,
) -> Option<usize> {
    let times = variants.enumerate().filter(|(_, (_, weight))| *weight > 0.0).map(|(i, (name, weight))| {
        let mut hash = Sha256::new();
        for part in [model.as_bytes(), name.as_bytes(), key] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let bits = digest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)) >> 11;
        // Above 0, and 1 at most.
        let unit = (bits + 1) as f64 / (1u64 << 53) as f64;
        (i, -unit.ln() / weight)
    });
    times.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 10_000;

    fn chosen(variants: &[(&str, f64)]) -> Vec<Option<usize>> {
        let of = |key: usize| choose("m", format!("user {key}").as_bytes(), variants.iter().copied());
        (0..COUNT).map(of).collect()
    }

    #[test]
    fn weights_hold() {
        let chosen = chosen(&[("3", 70.0), ("4", 20.0), ("other/", 10.0), ("5", 0.0)]);
        let count = |i: usize| chosen.iter().filter(|chosen| **chosen == Some(i)).count() as f64;
        for (i, share) in [0.7, 0.2, 0.1].into_iter().enumerate() {
            // Four standard deviations of a binomial distribution.
            let bound = 4.0 * (COUNT as f64 * share * (1.0 - share)).sqrt();
            assert!((count(i) - COUNT as f64 * share).abs() < bound, "{i}: {}", count(i));
        }
        assert_eq!(count(3), 0.0);
    }

    #[test]
    fn a_ramp_moves_only_who_has_to() {
        let (before, after) = (chosen(&[("3", 90.0), ("4", 10.0)]), chosen(&[("3", 80.0), ("4", 20.0)]));
        assert!(before.iter().zip(&after).all(|(before, after)| *before == Some(0) || after == before));
        // Without a variant, its keys alone move.
        let all = chosen(&[("3", 1.0), ("4", 1.0), ("5", 1.0)]);
        let fewer = chosen(&[("3", 1.0), ("4", 1.0), ("5", 0.0)]);
        assert!(all.iter().zip(&fewer).all(|(all, fewer)| *all == Some(2) || all == fewer));
        assert_ne!(all, fewer);
    }

    #[test]
    fn without_weights_there_is_no_choice() {
        assert_eq!(choose("m", b"x", [("3", 0.0)].into_iter()), None);
        assert_eq!(choose("m", b"x", std::iter::empty()), None);
    }
}
