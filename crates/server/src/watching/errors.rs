//! The last errors, for who looks at the server: what was asked of which model, and why there was no answer.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::Failure;

/// The errors that are kept, and the characters of each.
const KEPT: usize = 50;
const LONGEST: usize = 300;

/// Why a request of late had no answer. Equal ones are one.
#[derive(Clone, Debug, PartialEq)]
pub struct LastError {
    /// When it came last.
    pub time: SystemTime,
    /// How many times it came.
    pub count: u64,
    /// The model that was asked for.
    pub model: String,
    /// Its version, if the request named one.
    pub version: String,
    /// The failure, with a text of 300 characters at most.
    pub failure: Failure,
}

/// A bounded list of errors, the last first.
#[derive(Debug, Default)]
pub(super) struct Errors(Mutex<VecDeque<LastError>>);

impl Errors {
    pub(super) fn add(&self, model: &str, version: &str, failure: &Failure, time: SystemTime) {
        let short = |text: &str| text.chars().take(LONGEST).collect::<String>();
        let mut error = LastError {
            time,
            count: 1,
            model: short(model),
            version: short(version),
            failure: Failure { text: short(&failure.text), ..failure.clone() },
        };
        let mut errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |of: &LastError| {
            (&of.model, &of.version, of.failure.reason, &of.failure.text)
                == (&error.model, &error.version, error.failure.reason, &error.failure.text)
        };
        if let Some(before) = errors.iter().position(same).and_then(|at| errors.remove(at)) {
            error.count += before.count;
        }
        errors.push_front(error);
        errors.truncate(KEPT);
    }

    pub(super) fn last(&self) -> Vec<LastError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn equal_errors_are_one_and_old_ones_are_forgotten() {
        let errors = Errors::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        errors.add("m", "", &Failure::invalid("x".repeat(1000)), at(1));
        errors.add("n", "", &Failure::invalid("y"), at(2));
        errors.add("m", "", &Failure::invalid("x".repeat(1000)), at(3));
        let last = errors.last();
        assert_eq!(last.len(), 2);
        assert_eq!((last[0].count, last[0].time, last[0].failure.text.len()), (2, at(3), LONGEST));
        for i in 0..100 {
            errors.add("m", "", &Failure::invalid(i.to_string()), at(4));
        }
        let last = errors.last();
        assert_eq!((last.len(), last[0].failure.text.as_str()), (KEPT, "99"));
    }
}
