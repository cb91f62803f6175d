//! `Queue`: requests that wait for a run of their model. It is bounded; it joins what can run together; and what nobody waits
//! for any more never leaves it for a device.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::check::Fit;
use super::statistics::{Shed, Statistics};
use crate::config::{Batching, QueuePolicy};
use crate::exchange::{self, Exchange};
use crate::{Failure, Reason, Request, Response};

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) request: Request,
    /// The rows that it adds to a batch.
    pub(super) rows: usize,
    /// Requests with equal keys can be rows of one batch.
    pub(super) key: Key,
    /// Of those, requests of equal lengths run together first.
    pub(super) length: usize,
    pub(super) arrived: Instant,
    /// When the model's policy gives it up.
    expires: Option<Instant>,
    pub(super) answer: oneshot::Sender<Result<Response, Failure>>,
    /// What is told of the request, if it came to the server by a protocol.
    pub(super) exchange: Option<Arc<Exchange>>,
}

/// The names and shapes of the inputs without the dimension of the batch, and with the length of a bucket; `None` for a request that
/// runs by itself.
pub(super) type Key = Option<Vec<(String, Vec<usize>)>>;

/// Requests that are run together, in the order in which they came.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) requests: Vec<Waiting>,
    /// The number of batches that were taken before.
    pub(super) number: u64,
}

/// A request that the queue does not take, and why.
#[derive(Debug)]
pub(super) enum Refused {
    /// The queue is closed: a newer version of the model may serve the request.
    Closed(Box<Request>),
    Shed(Shed, Failure),
}

#[derive(Debug)]
pub(super) struct Queue {
    batching: Batching,
    /// The rows of a batch at most; 0 if requests are never joined.
    max_batch: usize,
    /// The length of a level whose policy says none.
    default_size: usize,
    state: Mutex<State>,
    changed: Condvar,
    statistics: Arc<Statistics>,
}

#[derive(Debug)]
struct State {
    /// One queue for each level of priority.
    levels: Vec<VecDeque<Waiting>>,
    /// Requests that have waited too long where the policy runs them after all others.
    late: VecDeque<Waiting>,
    closed: bool,
    taken: u64,
}

/// A request rises one level in this time, so that the levels below are served too when those above never rest.
const AGEING: Duration = Duration::from_secs(1);

/// How often a queue that nobody adds to looks for requests whose time is over.
const SWEEP: Duration = Duration::from_millis(100);

impl Queue {
    pub(super) fn new(
        batching: Batching,
        max_batch: usize,
        default_size: usize,
        statistics: Arc<Statistics>,
    ) -> Queue {
        let levels = (0..batching.levels.max(1)).map(|_| VecDeque::new()).collect();
        let state = State { levels, late: VecDeque::new(), closed: false, taken: 0 };
        Queue {
            batching,
            max_batch,
            default_size,
            state: Mutex::new(state),
            changed: Condvar::new(),
            statistics,
        }
    }

    /// Adds a request.
    pub(super) fn push(
        &self,
        request: Request,
        Fit { rows, key, length }: Fit,
        answer: oneshot::Sender<Result<Response, Failure>>,
    ) -> Result<(), Refused> {
        let level = match request.priority {
            0 => self.batching.default_level,
            level => level,
        };
        let level = usize::try_from(level.clamp(1, self.batching.levels.max(1)) - 1).unwrap_or(0);
        let policy = self.policy(level);
        let limit = if policy.max_size == 0 { self.default_size } else { policy.max_size };
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed(Box::new(request)));
        }
        if state.levels[level].len() >= limit {
            // Those who have gone make room.
            state.levels[level].retain(|waiting| !waiting.answer.is_closed());
        }
        if state.levels[level].len() >= limit {
            let text =
                format!("model '{}': the queue is full ({limit} requests); try again later", request.model);
            let failure = Failure {
                retry_after: Some(Duration::from_secs(1)),
                ..Failure::new(Reason::QueueFull, text)
            };
            return Err(Refused::Shed(Shed::QueueFull, failure));
        }
        let arrived = Instant::now();
        let asked = request.timeout.filter(|asked| {
            policy.may_shorten && !asked.is_zero() && policy.timeout.is_none_or(|timeout| *asked < timeout)
        });
        let expires = asked.or(policy.timeout).and_then(|timeout| arrived.checked_add(timeout));
        state.levels[level].push_back(Waiting {
            request,
            rows,
            key,
            length,
            arrived,
            expires,
            answer,
            exchange: exchange::current(),
        });
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Refuses all further requests; those that wait are still run.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// The number of requests that wait.
    pub(super) fn len(&self) -> usize {
        let state = self.state();
        state.levels.iter().map(VecDeque::len).sum::<usize>() + state.late.len()
    }

    /// The rows that wait.
    pub(super) fn rows(&self) -> usize {
        let state = self.state();
        state.levels.iter().flatten().chain(&state.late).map(|waiting| waiting.rows).sum()
    }

    /// The next requests to run together. Blocks until there are some; `None` once the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Batch> {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            self.sweep(&mut state, now);
            let pause = match state.first(now) {
                Some((level, first)) => {
                    let chosen = self.companions(&state, level, first);
                    let rows: usize = chosen.iter().map(|&(level, i)| state.at(level)[i].rows).sum();
                    let oldest = state.at(level)[first].arrived;
                    let ready = oldest + self.batching.delay;
                    let chosen = match self.suits(rows) {
                        _ if state.closed || ready <= now => Some(chosen),
                        Suits::Wholly => Some(chosen),
                        Suits::Partly(preferred) => self.first_rows(&state, &chosen, preferred),
                        Suits::Not => None,
                    };
                    if let Some(chosen) = chosen {
                        let requests = state.remove(chosen);
                        let number = state.taken;
                        state.taken += 1;
                        return Some(Batch { requests, number });
                    }
                    ready.saturating_duration_since(now).min(SWEEP)
                }
                None if state.closed => return None,
                None => SWEEP * 10,
            };
            (state, _) = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Drops what nobody waits for, and what has waited too long.
    fn sweep(&self, state: &mut State, now: Instant) {
        let mut late = Vec::new();
        for (level, queue) in state.levels.iter_mut().enumerate() {
            let policy = self.policy(level);
            let mut i = 0;
            while let Some(waiting) = queue.get(i) {
                let fate = waiting.fate(now, policy.delays);
                if fate == Fate::Waits {
                    i += 1;
                    continue;
                }
                let Some(waiting) = queue.remove(i) else { break };
                match fate {
                    Fate::Late => late.push(waiting),
                    Fate::Shed(why) => self.give_up(waiting, why),
                    Fate::Waits => {}
                }
            }
        }
        state.late.extend(late);
        let mut i = 0;
        while let Some(waiting) = state.late.get(i) {
            match waiting.fate(now, true) {
                Fate::Shed(why) => {
                    let Some(waiting) = state.late.remove(i) else { break };
                    self.give_up(waiting, why);
                }
                Fate::Late | Fate::Waits => i += 1,
            }
        }
    }

    fn give_up(&self, waiting: Waiting, why: Shed) {
        self.statistics.shed(why);
        let model = &waiting.request.model;
        let failure = match why {
            Shed::Timeout => Failure::new(
                Reason::Unavailable,
                format!(
                    "model '{model}': the request has waited longer than the model's queue allows; try again later"
                ),
            ),
            Shed::Deadline => {
                Failure::new(Reason::Expired, format!("model '{model}': the request's deadline has passed"))
            }
            _ => Failure::new(Reason::Cancelled, "the caller has gone"),
        };
        let _ = waiting.answer.send(Err(failure));
    }

    /// The places of the requests that can run with the first, itself included.
    fn companions(&self, state: &State, level: usize, first: usize) -> Vec<(usize, usize)> {
        let leader = &state.at(level)[first];
        let mut chosen = vec![(level, first)];
        let mut rows = leader.rows;
        if leader.key.is_none() {
            return chosen;
        }
        for equal in [true, false] {
            for level in 0..=state.levels.len() {
                for (i, waiting) in state.at(level).iter().enumerate() {
                    let fits = rows + waiting.rows <= self.max_batch && waiting.key == leader.key;
                    if fits && (waiting.length == leader.length) == equal && chosen[0] != (level, i) {
                        rows += waiting.rows;
                        chosen.push((level, i));
                    }
                }
            }
        }
        chosen
    }

    /// Whether a batch of so many rows need not wait for more.
    fn suits(&self, rows: usize) -> Suits {
        let preferred = self.batching.preferred.iter().rev().find(|&&preferred| preferred <= rows);
        match preferred {
            _ if rows >= self.max_batch || self.batching.delay.is_zero() => Suits::Wholly,
            Some(&preferred) if preferred == rows => Suits::Wholly,
            Some(&preferred) => Suits::Partly(preferred),
            None => Suits::Not,
        }
    }

    /// As many of the chosen requests as have exactly `wanted` rows, if the first ones do.
    fn first_rows(
        &self,
        state: &State,
        chosen: &[(usize, usize)],
        wanted: usize,
    ) -> Option<Vec<(usize, usize)>> {
        let mut rows = 0;
        for (n, &(level, i)) in chosen.iter().enumerate() {
            rows += state.at(level)[i].rows;
            if rows >= wanted {
                return (rows == wanted).then(|| chosen[..=n].to_vec());
            }
        }
        None
    }

    fn policy(&self, level: usize) -> &QueuePolicy {
        self.batching.policies.get(&(level as u64 + 1)).unwrap_or(&self.batching.policy)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Suits {
    Wholly,
    /// A part of the rows is a preferred number.
    Partly(usize),
    Not,
}

#[derive(PartialEq)]
enum Fate {
    Waits,
    Late,
    Shed(Shed),
}

impl Waiting {
    fn fate(&self, now: Instant, delays: bool) -> Fate {
        let is_over = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        if self.answer.is_closed() {
            Fate::Shed(Shed::Cancelled)
        } else if is_over(self.request.deadline) {
            Fate::Shed(Shed::Deadline)
        } else if is_over(self.expires) {
            if delays { Fate::Late } else { Fate::Shed(Shed::Timeout) }
        } else {
            Fate::Waits
        }
    }
}

impl State {
    /// The queue of a level; the one after the last holds the late requests.
    fn at(&self, level: usize) -> &VecDeque<Waiting> {
        self.levels.get(level).unwrap_or(&self.late)
    }

    /// The place of the request whose turn it is: the least level, less one for each [`AGEING`] that it has waited.
    fn first(&self, now: Instant) -> Option<(usize, usize)> {
        let urgency = |(level, queue): (usize, &VecDeque<Waiting>)| {
            let waited = now.saturating_duration_since(queue.front()?.arrived);
            Some((level as f64 - waited.as_secs_f64() / AGEING.as_secs_f64(), level))
        };
        let most = self.levels.iter().enumerate().filter_map(urgency).min_by(|a, b| a.0.total_cmp(&b.0));
        match most {
            Some((_, level)) => Some((level, 0)),
            None => (!self.late.is_empty()).then_some((self.levels.len(), 0)),
        }
    }

    fn remove(&mut self, mut chosen: Vec<(usize, usize)>) -> Vec<Waiting> {
        chosen.sort_unstable();
        let taken = chosen.iter().rev().filter_map(|&(level, i)| match self.levels.get_mut(level) {
            Some(queue) => queue.remove(i),
            None => self.late.remove(i),
        });
        let mut requests: Vec<_> = taken.collect();
        requests.sort_by_key(|waiting| waiting.arrived);
        requests
    }
}
