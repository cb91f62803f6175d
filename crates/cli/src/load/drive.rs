//! Sends the requests of one point: each client after its answer, or at their times.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use super::arrivals::Schedule;
use super::checks::Checked;
use super::client::{Answer, Client, Trouble};
use super::metrics::{Monitor, ServerReport};
use super::questions::Question;
use super::tally::Tally;
use super::{Args, Arrivals};
use crate::signals;

/// How requests follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Each client sends a request when it has the answer to the last.
    Closed { clients: u64 },
    /// Requests are sent at their times.
    Open { rate: f64, arrivals: Arrivals, seed: u64 },
}

/// How long requests that are on their way may take after Ctrl-C.
const GRACE: Duration = Duration::from_millis(500);

/// How long a client waits before it tries again where there is no connection.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest sleep, after which Ctrl-C is looked at.
const NAP: Duration = Duration::from_millis(20);

/// The load of one point.
pub(super) struct Load {
    client: Arc<Client>,
    questions: Vec<Arc<Question>>,
    duration: Duration,
    timeout: Duration,
    next: AtomicUsize,
    /// Those that may be sent in an open loop.
    permits: Semaphore,
    tally: Mutex<Tally>,
}

impl Load {
    pub(super) fn new(args: &Args, client: Arc<Client>, questions: Vec<Arc<Question>>) -> Load {
        let permits = usize::try_from(args.in_flight).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Load {
            client,
            questions,
            duration: args.duration,
            timeout: args.timeout,
            next: AtomicUsize::new(0),
            permits: Semaphore::new(permits),
            tally: Mutex::new(Tally::new(Instant::now())),
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the next request, which is due at `due`, and records what becomes of it. Returns whether there was a connection.
    async fn ask(&self, due: Instant, limited: bool) -> bool {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.questions.len();
        let question = &self.questions[turn];
        let counts = self.tally().counts(due);
        let sent = || {
            if counts {
                self.tally().sent(due.elapsed());
            }
        };
        let mut is_sent = false;
        let asked = async {
            let _permit = if limited { self.permits.acquire().await.ok() } else { None };
            sent();
            is_sent = true;
            self.client.ask(&question.message).await
        };
        let outcome = tokio::time::timeout_at((due + self.timeout).into(), asked).await;
        let (at, latency) = (Instant::now(), due.elapsed());
        let outcome = match outcome {
            Ok(Ok(answer)) => checked(question, answer).await,
            Ok(Err(trouble)) => Err(trouble),
            Err(_) if is_sent => Err(Trouble::new("timeout", "no answer", "there was no answer in time")),
            Err(_) => {
                sent();
                Err(Trouble::new(
                    "timeout",
                    "not sent",
                    "too many requests waited for their answers to send this",
                ))
            }
        };
        let connected = !matches!(&outcome, Err(trouble) if trouble.kind == "connection");
        if counts {
            match outcome {
                Ok(checked) => self.tally().answered(at, latency, question.rows, checked),
                Err(trouble) => self.tally().failed(trouble),
            }
        }
        connected
    }

    /// One client, until `end`.
    async fn client(self: Arc<Load>, end: Instant) {
        while Instant::now() < end && !signals::interrupt().is_raised() {
            if !self.ask(Instant::now(), false).await {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Sends requests at their times until `end`, on a thread that may sleep: tokio's timers are a millisecond apart. `done` is
    /// dropped with the last answer.
    fn pace(self: Arc<Load>, schedule: Schedule, end: Instant, done: &mpsc::Sender<()>, runtime: &Handle) {
        let begin = Instant::now();
        for due in schedule {
            let Some(due) = begin.checked_add(due).filter(|due| *due < end) else { return };
            if !sleep_until(due) {
                return;
            }
            let (load, done) = (self.clone(), done.clone());
            runtime.spawn(async move {
                load.ask(due, true).await;
                drop(done);
            });
        }
    }
}

/// Sleeps; `false` after Ctrl-C.
fn sleep_until(due: Instant) -> bool {
    while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if signals::interrupt().is_raised() {
            return false;
        }
        std::thread::sleep(left.min(NAP));
    }
    !signals::interrupt().is_raised()
}

/// Compares an answer with what is known of it, where something is: on another thread, as answers may be large.
async fn checked(question: &Arc<Question>, answer: Answer) -> Result<Checked, Trouble> {
    if question.checks.is_empty() {
        return Ok(Checked::default());
    }
    let question = question.clone();
    let checked = tokio::task::spawn_blocking(move || question.checks.check(answer)).await;
    let checked = checked.map_err(|error| Trouble::new("answer", "unreadable", error.to_string()))?;
    checked.map_err(|text| Trouble::new("answer", "unreadable", text))
}

/// Runs a load, and says what became of its requests and, where the server's metrics are known, what it used.
pub(super) async fn run(
    load: Load,
    pace: Pace,
    warmup: Duration,
    monitor: Option<&Monitor>,
) -> (Tally, Option<ServerReport>) {
    let begin = Instant::now();
    let start = begin + warmup;
    *load.tally() = Tally::new(start);
    let (end, load) = (start + load.duration, Arc::new(load));
    let mut clients = JoinSet::new();
    // The load is over when all senders of this channel are gone.
    let (done, mut all_done) = mpsc::channel::<()>(1);
    let mut pacer: Option<JoinHandle<()>> = None;
    match pace {
        Pace::Closed { clients: count } => {
            for _ in 0..count {
                let (load, done) = (load.clone(), done.clone());
                clients.spawn(async move {
                    load.client(end).await;
                    drop(done);
                });
            }
            drop(done);
        }
        Pace::Open { rate, arrivals, seed } => {
            let (load, runtime) = (load.clone(), Handle::current());
            let schedule = Schedule::new(rate, arrivals, seed);
            pacer = Some(tokio::task::spawn_blocking(move || load.pace(schedule, end, &done, &runtime)));
        }
    }
    let over = async {
        tokio::select! {
            _ = all_done.recv() => {}
            () = interrupted() => {}
        }
    };
    let server = match monitor {
        Some(monitor) => Some(monitor.watch(start, over).await),
        None => {
            over.await;
            None
        }
    };
    if let Some(pacer) = pacer {
        let _ = pacer.await;
    }
    clients.abort_all();
    let end = Instant::now();
    let tally = std::mem::replace(&mut *load.tally(), Tally::new(end));
    (tally, server)
}

/// Returns a short time after Ctrl-C.
async fn interrupted() {
    while !signals::interrupt().is_raised() {
        tokio::time::sleep(NAP).await;
    }
    tokio::time::sleep(GRACE).await;
}
