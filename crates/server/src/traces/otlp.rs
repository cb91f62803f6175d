//! Traces to a collector of OpenTelemetry's, by OTLP over HTTP in its JSON form
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>). The form is small, and the server has a client of HTTP
//! already, so that it is written here without the crates of OpenTelemetry.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Request, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Run, Trace, TraceContext};
use crate::Reason;

/// Where a collector listens, and as what it knows the server.
#[derive(Clone, Debug)]
pub(super) struct Collector {
    pub(super) url: Uri,
    pub(super) service: String,
}

/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The kinds of spans: a part of the request, and the request itself.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;

/// The status of a span of what has failed by no fault of the client.
const ERROR: u8 = 2;

/// Reads `http://HOST:PORT/PATH`.
///
/// # Errors
/// A text.
pub(super) fn address(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|_| "it is no URL".to_string())?;
    match uri.scheme_str() {
        Some("http") if uri.host().is_some() => Ok(uri),
        _ => Err(
            "the URL is http://HOST:PORT/v1/traces; let a collector beside the server speak TLS to others"
                .into(),
        ),
    }
}

impl Collector {
    /// Sends traces.
    ///
    /// # Errors
    /// A text, if the collector does not take them.
    pub(super) async fn send(&self, traces: &[Trace]) -> Result<(), String> {
        let body = self.shown(traces).to_string();
        tokio::time::timeout(PATIENCE, self.post(body)).await.map_err(|_| self.of("it takes too long"))?
    }

    async fn post(&self, body: String) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| self.of(&error.to_string());
        let (host, port) = (self.url.host().unwrap_or_default(), self.url.port_u16().unwrap_or(80));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, port)).await.map_err(|error| failed(&error))?;
        let (mut sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        // It ends with the sender.
        tokio::spawn(connection);
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::post(path)
            .header(HOST, self.url.authority().map_or("", |host| host.as_str()))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| failed(&error))?;
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        // The answer is read, at most as much as one frame of it.
        drop(response.into_body().frame().await);
        if status.is_success() { Ok(()) } else { Err(failed(&status)) }
    }

    fn of(&self, error: &str) -> String {
        format!("the collector at {}: {error}", self.url)
    }

    fn shown(&self, traces: &[Trace]) -> Value {
        let spans: Vec<Value> = traces.iter().flat_map(spans).collect();
        json!({ "resourceSpans": [{
            "resource": { "attributes": [attribute("service.name", &self.service)] },
            "scopeSpans": [{
                "scope": { "name": "sardonyx-server", "version": env!("CARGO_PKG_VERSION") },
                "spans": spans,
            }],
        }] })
    }
}

/// The request, and below it the waiting and the run of each model that it needed.
fn spans(trace: &Trace) -> Vec<Value> {
    let fault = matches!(
        trace.reason,
        Some(Reason::Internal | Reason::Unavailable | Reason::QueueFull | Reason::Expired)
    );
    let mut attributes = vec![
        attribute("sardonyx.model", &trace.model),
        attribute("sardonyx.version", &trace.version),
        attribute("network.protocol.name", trace.protocol),
        attribute("url.path", &trace.path),
        number("sardonyx.status", trace.status.into()),
    ];
    attributes.extend(trace.reason.map(|reason| attribute("error.type", reason.name())));
    let name = format!("infer {}", trace.model);
    let mut request = span(&trace.context, &name, SERVER, [trace.start, trace.end], attributes);
    if fault {
        request["status"] = json!({ "code": ERROR });
    }
    let mut spans = vec![request];
    for Run { model, rows, times } in &trace.runs {
        let [arrived, start, joined, ran, end] = *times;
        let model = || attribute("sardonyx.model", model);
        let of_run = trace.context.child();
        spans.push(span(&trace.context.child(), "queue", INTERNAL, [arrived, start], vec![model()]));
        let attributes = vec![model(), number("sardonyx.batch_rows", *rows as u64)];
        spans.push(span(&of_run, "compute", INTERNAL, [start, end], attributes));
        for (name, times) in [
            ("compute_input", [start, joined]),
            ("compute_infer", [joined, ran]),
            ("compute_output", [ran, end]),
        ] {
            spans.push(span(&of_run.child(), name, INTERNAL, times, Vec::new()));
        }
    }
    spans
}

fn span(
    context: &TraceContext,
    name: &str,
    kind: u8,
    [start, end]: [u64; 2],
    attributes: Vec<Value>,
) -> Value {
    let mut span = json!({
        "traceId": context.trace_id(),
        "spanId": context.span_id(),
        "name": name,
        "kind": kind,
        // As texts: numbers of JSON have 53 bits.
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": attributes,
    });
    if let Some(parent) = context.parent_id() {
        span["parentSpanId"] = parent.into();
    }
    span
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}
