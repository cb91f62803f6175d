//! Numbers of a configuration: in protobuf's types they may be negative or huge; here they are sizes, or refused.

use std::time::Duration;

/// The rows of a batch at most, and what else counts rows.
pub(super) const MAX_ROWS: usize = 1 << 20;

/// The dimensions of a tensor at most, as everywhere in Sardonyx.
const MAX_RANK: usize = 64;

/// The elements that a dimension may have.
const MAX_DIM: usize = 1 << 40;

/// `value`, if it is between `least` and `most`.
pub(super) fn within(value: impl Into<i128>, least: usize, most: usize, what: &str) -> Result<usize, String> {
    let value = value.into();
    match usize::try_from(value) {
        Ok(size) if (least..=most).contains(&size) => Ok(size),
        _ => Err(format!("{what} is {value}; it must be between {least} and {most}")),
    }
}

/// A time, which is at most a day.
pub(super) fn time(microseconds: u64, what: &str) -> Result<Duration, String> {
    let day = Duration::from_secs(24 * 60 * 60);
    let time = Duration::from_micros(microseconds);
    match time <= day {
        true => Ok(time),
        false => {
            Err(format!("{what} is {microseconds}; it is at most a day, {} microseconds", day.as_micros()))
        }
    }
}

/// Dimensions in which -1 stands for a size that each request chooses.
pub(super) fn dims(dims: &[i64], what: &str) -> Result<Vec<Option<usize>>, String> {
    if dims.len() > MAX_RANK {
        return Err(format!("{what} has {} dims; a tensor has at most {MAX_RANK}", dims.len()));
    }
    let dim = |&dim: &i64| match usize::try_from(dim) {
        Ok(size) if size <= MAX_DIM => Ok(Some(size)),
        _ if dim == -1 => Ok(None),
        _ => Err(format!("{what} has the dim {dim}; it must be between 0 and {MAX_DIM}, or -1 for any size")),
    };
    dims.iter().map(dim).collect()
}

/// Dimensions of which each has a size, and the number of elements, which is at most `most`.
pub(super) fn sizes(given: &[i64], most: usize, what: &str) -> Result<(Vec<usize>, usize), String> {
    let sizes: Option<Vec<usize>> = dims(given, what)?.into_iter().collect();
    let sizes = sizes
        .ok_or_else(|| format!("{what} has the dims {given:?}; each needs a size here, and -1 is none"))?;
    let count = sizes.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    match count {
        Some(count) if count <= most => Ok((sizes, count)),
        _ => Err(format!("{what} has the dims {given:?}, which are more than {most} elements")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_and_huge_numbers_are_refused() {
        assert_eq!(within(3, 1, 8, "count"), Ok(3));
        assert_eq!(within(-1, 0, 8, "count"), Err("count is -1; it must be between 0 and 8".into()));
        assert!(within(u64::MAX, 0, usize::MAX - 1, "count").is_err());
        assert_eq!(dims(&[-1, 0, 4], "'x'"), Ok(vec![None, Some(0), Some(4)]));
        for bad in [-2, i64::MIN, i64::MAX] {
            assert!(dims(&[bad], "'x'").is_err());
        }
        assert!(dims(&[1; 65], "'x'").is_err());
        assert_eq!(sizes(&[2, 3], 6, "'x'"), Ok((vec![2, 3], 6)));
        for bad in [&[2, 4][..], &[-1], &[1 << 40, 1 << 40]] {
            assert!(sizes(bad, 7, "'x'").is_err());
        }
    }
}
