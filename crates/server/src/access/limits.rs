//! `Account`: how much one tenant may ask for, and what it has asked for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Failure, Reason};

/// How much a tenant may ask for; `None` for as much as it likes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Limits {
    /// Requests in a second, and how many may come at once after a pause.
    pub(super) rate: Option<(f64, f64)>,
    /// Requests that are being answered.
    pub(super) in_flight: Option<usize>,
    /// Requests in a window.
    pub(super) requests: Option<u64>,
    /// Bytes of tensors in a window, those of answers too.
    pub(super) bytes: Option<u64>,
    /// The length of the windows. They begin at whole multiples of it since 1970 (UTC): a window of 86400 s is a day.
    pub(super) window: Duration,
}

/// Why a request was refused before any protocol read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Unknown,
    Forbidden,
    Model,
    Rate,
    InFlight,
    Quota,
}

impl Refusal {
    pub(super) const ALL: [(Refusal, &'static str); 6] = [
        (Refusal::Unknown, "unauthenticated"),
        (Refusal::Forbidden, "forbidden"),
        (Refusal::Model, "model"),
        (Refusal::Rate, "rate"),
        (Refusal::InFlight, "in_flight"),
        (Refusal::Quota, "quota"),
    ];
}

/// What a tenant has asked for. Asking takes constant time and memory.
#[derive(Debug, Default)]
pub(super) struct Account {
    used: Mutex<Used>,
    in_flight: AtomicUsize,
    /// By [`Refusal`].
    refused: [AtomicU64; Refusal::ALL.len()],
}

#[derive(Debug, Default)]
struct Used {
    /// When the last token was taken, and how many were left; none yet for a full bucket.
    bucket: Option<(Instant, f64)>,
    /// The number of the window, and what was asked for in it.
    window: u64,
    requests: u64,
    bytes: u64,
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Account>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What time it is: for pauses, and since 1970 for windows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) since_1970: Duration,
}

impl Now {
    pub(super) fn get() -> Now {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { instant: Instant::now(), since_1970 }
    }
}

impl Account {
    /// Takes a request in, if `limits` allow one more. One that is refused counts against no limit.
    pub(super) fn begin(self: &Arc<Account>, limits: &Limits, now: Now) -> Result<InFlight, Failure> {
        let before = self.in_flight.fetch_add(1, Ordering::AcqRel);
        let begun = InFlight(self.clone());
        match limits.in_flight {
            Some(most) if before >= most => {
                let text =
                    format!("{most} requests are being answered, as many as may be; wait for one of them");
                Err(self.refuse(Refusal::InFlight, text, Duration::from_secs(1)))
            }
            _ => self.ask(limits, now).map(|()| begun),
        }
    }

    /// Counts a request that is not answered by itself: a stream of others.
    pub(super) fn ask(&self, limits: &Limits, now: Now) -> Result<(), Failure> {
        if limits.rate.is_none() && limits.requests.is_none() {
            return Ok(());
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.enter(limits, now);
        if let Some(most) = limits.requests.filter(|most| used.requests >= *most) {
            let text = format!("the quota of {most} requests {} is used up", window(limits));
            return Err(self.refuse(Refusal::Quota, text, left(limits, now)));
        }
        if let Some((rate, burst)) = limits.rate {
            let tokens = match used.bucket {
                None => burst,
                Some((at, left)) => {
                    let pause = now.instant.saturating_duration_since(at).as_secs_f64();
                    (left + pause * rate).min(burst)
                }
            };
            if tokens < 1.0 {
                let wait = Duration::try_from_secs_f64((1.0 - tokens) / rate).unwrap_or(Duration::MAX);
                let text = format!("more requests came than {rate} a second; send fewer");
                return Err(self.refuse(Refusal::Rate, text, wait));
            }
            used.bucket = Some((now.instant, tokens - 1.0));
        }
        used.requests += 1;
        Ok(())
    }

    /// Counts the bytes of a request's tensors, which are refused above the quota.
    pub(super) fn spend(&self, limits: &Limits, now: Now, bytes: u64) -> Result<(), Failure> {
        let Some(most) = limits.bytes else { return Ok(()) };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.enter(limits, now);
        let after = used.bytes.saturating_add(bytes);
        if after > most {
            let left_bytes = most.saturating_sub(used.bytes);
            let text = format!(
                "the request's tensors have {bytes} bytes, and {left_bytes} are left of the quota of {most} {}",
                window(limits)
            );
            return Err(self.refuse(Refusal::Quota, text, left(limits, now)));
        }
        used.bytes = after;
        Ok(())
    }

    /// Counts the bytes of an answer's tensors: a request that was run is answered whatever they are.
    pub(super) fn receive(&self, limits: &Limits, now: Now, bytes: u64) {
        if limits.bytes.is_some() {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.enter(limits, now);
            used.bytes = used.bytes.saturating_add(bytes);
        }
    }

    /// Counts a refusal.
    pub(super) fn count(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counted(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize].load(Ordering::Relaxed)
    }

    fn refuse(&self, refusal: Refusal, text: String, wait: Duration) -> Failure {
        self.count(refusal);
        Failure { retry_after: Some(wait), ..Failure::new(Reason::OverQuota, text) }
    }
}

impl Used {
    /// Begins a new window, if the last one is over.
    fn enter(&mut self, limits: &Limits, now: Now) {
        let window = now.since_1970.as_nanos().checked_div(limits.window.as_nanos()).unwrap_or(0) as u64;
        if window != self.window {
            (self.window, self.requests, self.bytes) = (window, 0, 0);
        }
    }
}

/// How long the window still is.
fn left(limits: &Limits, now: Now) -> Duration {
    let window = limits.window.as_nanos().max(1);
    let nanos = window - now.since_1970.as_nanos() % window;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn window(limits: &Limits) -> String {
    match limits.window.as_secs() {
        86400 => "a day".into(),
        3600 => "an hour".into(),
        seconds => format!("in {seconds} seconds"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use super::*;

    struct Clock(Now);

    impl Clock {
        /// Ten seconds after the beginning of a day.
        fn new() -> Clock {
            Clock(Now { instant: Instant::now(), since_1970: Duration::from_secs(20_000 * 86400 + 10) })
        }

        fn after(&self, seconds: f64) -> Now {
            let time = Duration::from_secs_f64(seconds);
            Now { instant: self.0.instant + time, since_1970: self.0.since_1970 + time }
        }
    }

    fn waits(refused: Result<impl std::fmt::Debug, Failure>) -> f64 {
        let failure = refused.unwrap_err();
        assert_eq!(failure.reason, Reason::OverQuota);
        failure.retry_after.unwrap().as_secs_f64()
    }

    #[test]
    fn a_bucket_of_tokens() {
        let (account, clock) = (Arc::new(Account::default()), Clock::new());
        let limits = Limits { rate: Some((2.0, 3.0)), ..Limits::default() };
        let ask = |seconds| account.ask(&limits, clock.after(seconds));
        for _ in 0..3 {
            ask(0.0).unwrap();
        }
        assert_eq!(waits(ask(0.0)), 0.5);
        // A refusal takes nothing: the next token comes when it was said to.
        assert_eq!(waits(ask(0.25)), 0.25);
        ask(0.5).unwrap();
        assert_eq!(waits(ask(0.5)), 0.5);
        // The bucket holds three, however long the pause was.
        for _ in 0..3 {
            ask(1000.0).unwrap();
        }
        assert!(ask(1000.0).is_err());
        assert_eq!(account.counted(Refusal::Rate), 4);
    }

    #[test]
    fn requests_in_flight() {
        let (account, now) = (Arc::new(Account::default()), Clock::new().0);
        let limits = Limits { in_flight: Some(2), ..Limits::default() };
        let first = account.begin(&limits, now).unwrap();
        let _second = account.begin(&limits, now).unwrap();
        assert_eq!(waits(account.begin(&limits, now)), 1.0);
        assert_eq!(waits(account.begin(&limits, now)), 1.0);
        drop(first);
        let _third = account.begin(&limits, now).unwrap();
        assert!(account.begin(&limits, now).is_err());
        assert_eq!(account.counted(Refusal::InFlight), 3);
    }

    #[test]
    fn quotas_of_a_window() {
        let (account, clock) = (Account::default(), Clock::new());
        let limits = Limits {
            requests: Some(2),
            bytes: Some(100),
            window: Duration::from_secs(86400),
            ..Limits::default()
        };
        account.ask(&limits, clock.after(0.0)).unwrap();
        account.ask(&limits, clock.after(5.0)).unwrap();
        assert_eq!(waits(account.ask(&limits, clock.after(5.0))), 86385.0);
        account.spend(&limits, clock.after(5.0), 60).unwrap();
        let failure = account.spend(&limits, clock.after(5.0), 41).unwrap_err();
        let text = "the request's tensors have 41 bytes, and 40 are left of the quota of 100 a day";
        assert_eq!(failure.text, text);
        account.spend(&limits, clock.after(5.0), 40).unwrap();
        account.receive(&limits, clock.after(5.0), 1000);
        assert_eq!(waits(account.spend(&limits, clock.after(5.0), 1)), 86385.0);
        assert_eq!(account.counted(Refusal::Quota), 3);
        // The next day.
        account.ask(&limits, clock.after(86390.0)).unwrap();
        account.spend(&limits, clock.after(86390.0), 100).unwrap();
    }
}
