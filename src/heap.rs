//! The host's memory. A vector that cannot grow ends the process, so whatever takes much memory asks for it first, and the
//! lack of it is a typed error.

use std::fmt::Display;

use crate::Error;

/// The host does not give memory for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoMemory {
    pub(crate) what: String,
    pub(crate) bytes: u64,
}

impl NoMemory {
    fn new(what: impl Display, bytes: u64) -> NoMemory {
        NoMemory { what: what.to_string(), bytes }
    }

    /// The same lack, where what lacks memory is a part of `whole`.
    pub(crate) fn within(self, whole: impl Display) -> NoMemory {
        NoMemory { what: format!("{whole}: {}", self.what), bytes: self.bytes }
    }
}

impl From<NoMemory> for Error {
    fn from(NoMemory { what, bytes }: NoMemory) -> Error {
        Error::OutOfMemory { what, bytes }
    }
}

/// Refuses `what` where the host does not give `bytes` bytes for it now.
pub(crate) fn ask(what: impl Display, bytes: u64) -> Result<(), NoMemory> {
    // The allocator has less than this at hand, or else nothing goes on.
    const LITTLE: u64 = 1 << 20;
    let given = || {
        bytes < LITTLE
            || usize::try_from(bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok())
    };
    match bytes == 0 || answer(bytes).unwrap_or_else(given) {
        true => Ok(()),
        false => Err(NoMemory::new(what, bytes)),
    }
}

/// Bytes that suffice for what a pass or a step of planning makes of a graph: lists over its nodes and values.
pub(crate) fn of_graph(nodes: usize, values: usize) -> u64 {
    const EACH: u64 = 1 << 10;
    (nodes as u64).saturating_add(values as u64).saturating_mul(EACH)
}

/// An empty vector for `count` items.
pub(crate) fn reserved<T>(what: impl Display, count: usize) -> Result<Vec<T>, NoMemory> {
    let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
    let mut all = Vec::new();
    match bytes == 0 || (answer(bytes) != Some(false) && all.try_reserve_exact(count).is_ok()) {
        true => Ok(all),
        false => Err(NoMemory::new(what, bytes)),
    }
}

/// A copy of `items`.
pub(crate) fn copied<T: Clone>(what: impl Display, items: &[T]) -> Result<Vec<T>, NoMemory> {
    let mut all = reserved(what, items.len())?;
    all.extend_from_slice(items);
    Ok(all)
}

/// What a test answers in the host's place.
#[cfg(not(any(test, feature = "internals")))]
fn answer(_bytes: u64) -> Option<bool> {
    None
}

#[cfg(any(test, feature = "internals"))]
use questions::answer;

/// What is asked of the host, and how tests answer in its place.
#[cfg(any(test, feature = "internals"))]
pub(crate) mod questions {
    use std::cell::Cell;

    /// What has been asked of the host.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Questions {
        /// How often it asked.
        pub count: usize,
        /// For how many bytes, all questions together.
        pub bytes: u64,
    }

    /// A test that answers.
    #[derive(Clone, Copy)]
    struct Host {
        asked: Questions,
        /// The number of the question that is refused.
        refuses: Option<usize>,
    }

    thread_local! {
        static HOST: Cell<Option<Host>> = const { Cell::new(None) };
    }

    pub(super) fn answer(bytes: u64) -> Option<bool> {
        let Host { asked: Questions { count, bytes: before }, refuses } = HOST.get()?;
        let asked = Questions { count: count + 1, bytes: before.saturating_add(bytes) };
        HOST.set(Some(Host { asked, refuses }));
        Some(refuses != Some(count))
    }

    /// Calls `act` with a host that refuses memory to question number `refused` of this thread, and gives it to all others.
    /// The questions are those that `act` asked.
    pub fn refusing<T>(refused: Option<usize>, act: impl FnOnce() -> T) -> (T, Questions) {
        HOST.set(Some(Host { asked: Questions::default(), refuses: refused }));
        let done = act();
        let asked = HOST.take().map(|host| host.asked);
        (done, asked.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::questions::{Questions, refusing};
    use super::*;

    #[test]
    fn memory_that_the_host_does_not_give() {
        assert!(ask("little", 1).is_ok() && ask("some", 1 << 21).is_ok());
        let none = NoMemory { what: "much".into(), bytes: 1 << 62 };
        assert_eq!(ask("much", 1 << 62), Err(none.clone()));
        assert_eq!(reserved::<u64>("much", 1 << 59).unwrap_err(), none);
        assert!(ask("all", u64::MAX).is_err() && reserved::<u64>("all", usize::MAX).is_err());
        let error = Error::from(none.within("node 'a' (Add)")).to_string();
        assert_eq!(
            error,
            "out of memory: node 'a' (Add): much needs 4294967296.0 GiB (4611686018427387904 bytes)"
        );
    }

    #[test]
    fn one_question_is_refused() {
        let act = || [ask("a", 3), ask("nothing", 0), reserved::<u16>("b", 4).map(drop), ask("c", 5)];
        let (all, asked) = refusing(Some(1), act);
        assert_eq!(asked, Questions { count: 3, bytes: 16 });
        assert_eq!(all.map(|answer| answer.is_ok()), [true, true, false, true]);
        assert!(refusing(None, act).0.iter().all(Result::is_ok));
    }
}
