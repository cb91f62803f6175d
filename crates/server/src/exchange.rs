//! `Exchange`: one request and its answer, as the access log and the traces tell of them. It goes with the task that answers the
//! request, so that what happens deep inside can be noted without being passed through.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tonic::{Code, Status};

use crate::access::is_grpc;
use crate::access_log::{AccessLog, Line};
use crate::traces::{Run, Trace, TraceContext, Traces, nanoseconds};
use crate::{Failure, Reason};

tokio::task_local! {
    static CURRENT: Arc<Exchange>;
}

/// One request and its answer.
#[derive(Debug)]
pub(crate) struct Exchange {
    told: Told,
    protocol: Protocol,
    method: String,
    path: String,
    client: Option<SocketAddr>,
    time: SystemTime,
    began: Instant,
    trace: TraceContext,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    notes: Mutex<Notes>,
}

/// To whom exchanges are told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) log: Option<Arc<AccessLog>>,
    pub(crate) traces: Option<Arc<Traces>>,
}

/// What is known of a request once it is answered.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The name of the key that the client has shown.
    pub(crate) key: Option<String>,
    pub(crate) model: String,
    pub(crate) version: String,
    /// Why there is no answer.
    pub(crate) reason: Option<Reason>,
    /// Waiting, and runs: sums over the models of an ensemble.
    pub(crate) queue: Duration,
    pub(crate) compute: Duration,
    /// The rows of the last batch that the request was part of.
    pub(crate) batch: usize,
    /// Whether it is recorded as a trace, and its runs.
    recorded: bool,
    runs: Vec<(String, usize, [Instant; 5])>,
}

/// How a client speaks to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

/// The client's end of a connection, in the extensions of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The runs of an ensemble that are recorded at most.
const RUNS: usize = 64;

/// The letters of a path that are noted.
const PATH: usize = 200;

static TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// The exchange that the current task answers.
pub(crate) fn current() -> Option<Arc<Exchange>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Notes something of the exchange that the current task answers, if it answers one.
pub(crate) fn note(note: impl FnOnce(&mut Notes)) {
    let _ = CURRENT.try_with(|exchange| note(&mut exchange.notes()));
}

/// Notes that the exchange of the current task is an inference by a model. The settings of traces say whether it is recorded.
pub(crate) fn infers(model: &str, version: &str) {
    let Some(exchange) = current() else { return };
    let traces = exchange.told.traces.as_ref();
    let recorded = traces.is_some_and(|traces| traces.records(model, exchange.trace.asked()));
    let mut notes = exchange.notes();
    (notes.model, notes.version, notes.recorded) = (model.to_string(), version.to_string(), recorded);
}

/// `router`, whose exchanges are told.
pub(crate) fn before(router: Router, told: &Told) -> Router {
    router.layer(middleware::from_fn_with_state(told.clone(), observe))
}

async fn observe(State(told): State<Told>, request: Request, next: Next) -> Response {
    let protocol = if is_grpc(request.headers()) { Protocol::Grpc } else { Protocol::Http };
    let path = request.uri().path();
    let parent = request.headers().get(&TRACE_PARENT);
    let exchange = Arc::new(Exchange {
        told,
        protocol,
        method: request.method().as_str().chars().take(PATH).collect(),
        path: path.chars().take(PATH).collect(),
        client: request.extensions().get::<Peer>().map(|peer| peer.0),
        time: SystemTime::now(),
        began: Instant::now(),
        trace: TraceContext::of(parent.and_then(|value| value.to_str().ok())),
        bytes_in: AtomicU64::new(0),
        bytes_out: AtomicU64::new(0),
        notes: Mutex::default(),
    });
    let mut ending = Ending { exchange: exchange.clone(), status: None };
    let request = request.map(|body| Body::new(Counted { body, exchange: exchange.clone() }));
    let mut response = CURRENT.scope(exchange.clone(), next.run(request)).await;
    let recorded = exchange.notes().recorded;
    let shown = if recorded { exchange.trace.recorded() } else { exchange.trace };
    if (recorded || shown.asked().is_some())
        && let Ok(value) = HeaderValue::from_str(&shown.to_string())
    {
        response.headers_mut().insert(&TRACE_PARENT, value);
    }
    ending.status = match protocol {
        Protocol::Http => Some(response.status().as_u16()),
        // Otherwise it follows the messages.
        Protocol::Grpc => grpc_status(response.headers()),
    };
    response.map(|body| Body::new(Answer { body, ending }))
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Answers a message of a stream as an exchange of its own; `parent` is that of the stream. `size` tells the bytes of the answer.
///
/// # Errors
/// Those of the work.
pub(crate) async fn within<T>(
    parent: Option<Arc<Exchange>>,
    bytes: usize,
    size: impl FnOnce(&T) -> usize,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(parent) = parent else { return work.await };
    let exchange = Arc::new(Exchange {
        told: parent.told.clone(),
        protocol: parent.protocol,
        method: parent.method.clone(),
        path: parent.path.clone(),
        client: parent.client,
        time: SystemTime::now(),
        began: Instant::now(),
        trace: parent.trace.child(),
        bytes_in: AtomicU64::new(bytes as u64),
        bytes_out: AtomicU64::new(0),
        notes: Mutex::new(Notes { key: parent.notes().key.clone(), ..Notes::default() }),
    });
    let mut ending = Ending { exchange: exchange.clone(), status: None };
    let outcome = CURRENT.scope(exchange.clone(), work).await;
    let code = match &outcome {
        Ok(answer) => {
            exchange.bytes_out.store(size(answer) as u64, Ordering::Relaxed);
            Code::Ok
        }
        Err(failure) => {
            exchange.notes().reason = Some(failure.reason);
            Status::from(failure.clone()).code()
        }
    };
    ending.status = u16::try_from(code as i32).ok();
    outcome
}

impl Exchange {
    /// What is noted of it.
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a run of so many rows that the request was part of: when it began to wait, when the run began, when its inputs were
    /// joined, when the device was done, and when the outputs were separated.
    pub(crate) fn ran(&self, model: &str, rows: usize, times: [Instant; 5]) {
        let mut notes = self.notes();
        notes.queue += times[1].saturating_duration_since(times[0]);
        notes.compute += times[4].saturating_duration_since(times[1]);
        notes.batch = rows;
        if notes.recorded && notes.runs.len() < RUNS {
            notes.runs.push((model.to_string(), rows, times));
        }
    }

    fn end(&self, status: Option<u16>) {
        let mut notes = self.notes();
        // As nginx has it, and gRPC: the client has gone.
        let gone = match self.protocol {
            Protocol::Http => 499,
            Protocol::Grpc => Code::Cancelled as u16,
        };
        let reason = notes.reason.or(status.is_none().then_some(Reason::Cancelled));
        let status = status.unwrap_or(gone);
        let protocol = match self.protocol {
            Protocol::Http => "http",
            Protocol::Grpc => "grpc",
        };
        if let Some(traces) = self.told.traces.as_ref().filter(|_| notes.recorded) {
            let run = |(model, rows, times): (_, _, [Instant; 5])| Run {
                model,
                rows,
                times: times.map(|time| self.since_1970(time)),
            };
            traces.take(Trace {
                context: self.trace.recorded(),
                protocol,
                path: self.path.clone(),
                model: notes.model.clone(),
                version: notes.version.clone(),
                status,
                reason,
                start: nanoseconds(self.time),
                end: self.since_1970(Instant::now()),
                runs: std::mem::take(&mut notes.runs).into_iter().map(run).collect(),
            });
        }
        let Some(log) = &self.told.log else { return };
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let ran = notes.batch > 0;
        log.write(&Line {
            time: rfc3339(self.time),
            protocol,
            method: &self.method,
            path: &self.path,
            status,
            reason: reason.map(Reason::name),
            model: &notes.model,
            version: &notes.version,
            total_us: micros(self.began.elapsed()),
            queue_us: ran.then(|| micros(notes.queue)),
            compute_us: ran.then(|| micros(notes.compute)),
            batch: ran.then_some(notes.batch),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            key: notes.key.as_deref(),
            trace: self.trace.trace_id(),
            client: self.client.map(|client| client.to_string()),
        });
    }
}

impl Exchange {
    fn since_1970(&self, time: Instant) -> u64 {
        nanoseconds(self.time + time.saturating_duration_since(self.began))
    }
}

/// Tells of an exchange when it is dropped.
#[derive(Debug)]
struct Ending {
    exchange: Arc<Exchange>,
    /// `None` as long as the client has not got all.
    status: Option<u16>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.exchange.end(self.status);
    }
}

/// The body of a request, whose bytes are counted.
struct Counted {
    body: Body,
    exchange: Arc<Exchange>,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.exchange.bytes_in.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, with whose end the exchange ends.
struct Answer {
    body: Body,
    ending: Ending,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            if let Some(data) = frame.data_ref() {
                self.ending.exchange.bytes_out.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            if let Some(trailers) = frame.trailers_ref() {
                self.ending.status = self.ending.status.or(grpc_status(trailers));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A time as RFC 3339 has it, in UTC, with milliseconds.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86400, since.as_secs() % 86400);
    // Years begin in March, so that the leap day is the last of one; 400 of them have 146097 days.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = (if month < 10 { month + 3 } else { month - 9 }, year + era * 400);
    let year = year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_calendar() {
        // As `date --utc --date @SECONDS` prints them.
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), shown);
        }
    }
}
