//! `Budget`: the bytes of requests that the server holds at once, of all clients together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::{Failure, Reason};

/// The bytes of requests that a server holds at most. What comes beyond them is refused, and may come again later.
#[derive(Clone)]
pub struct Budget(Arc<Held>);

struct Held {
    most: usize,
    bytes: AtomicUsize,
    refused: AtomicU64,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Budget {
        Budget(Arc::new(Held { most: bytes, bytes: AtomicUsize::new(0), refused: AtomicU64::new(0) }))
    }

    /// The bytes that are held now.
    pub fn held(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// The requests that were refused.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// The beginning of a request.
    pub(crate) fn charge(&self) -> Charge {
        Charge { held: self.0.clone(), bytes: 0 }
    }
}

/// The bytes of one request, until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    held: Arc<Held>,
    bytes: usize,
}

impl Charge {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`Reason::Unavailable`] if the budget has not so many left.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        let before = self.held.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before.saturating_add(bytes) <= self.held.most {
            return Ok(());
        }
        self.held.refused.fetch_add(1, Ordering::Relaxed);
        let text = "the server holds as many bytes of requests as it may; try again in a moment";
        let retry_after = Some(Duration::from_secs(1));
        Err(Failure { retry_after, ..Failure::new(Reason::Unavailable, text) })
    }

    /// `bytes`, which are held until the last part of them is dropped.
    pub(crate) fn of(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(Charged { bytes, _charge: self })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Charged<T> {
    bytes: T,
    _charge: Charge,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Charged<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} bytes", self.bytes, self.most)
    }
}

impl PartialEq for Budget {
    fn eq(&self, other: &Budget) -> bool {
        self.0.most == other.0.most
    }
}

impl Eq for Budget {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_until_their_last_part_goes() {
        let budget = Budget::new(10);
        let mut charge = budget.charge();
        charge.grow(6).unwrap();
        let bytes = charge.of(vec![1u8, 2, 3, 4, 5, 6]);
        let part = bytes.slice(2..4);
        drop(bytes);
        assert_eq!(budget.held(), 6);
        let mut second = budget.charge();
        second.grow(4).unwrap();
        let failure = second.grow(1).unwrap_err();
        assert_eq!((failure.reason, budget.refused()), (Reason::Unavailable, 1));
        drop(second);
        assert_eq!((budget.held(), &part[..]), (6, &[3, 4][..]));
        drop(part);
        assert_eq!(budget.held(), 0);
        budget.charge().grow(10).unwrap();
    }
}
