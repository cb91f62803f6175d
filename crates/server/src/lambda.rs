//! AWS Lambda: each invocation is a request of HTTP, as function URLs and API Gateway's HTTP APIs send it (payload 2.0). The runtime API
//! has two calls, so that it is spoken here; `lambda_http` would bring 36 crates that nothing else needs.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, COOKIE, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower_service::Service;

/// The header that says how long a client waits.
static TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");

/// What of an invocation's time is left for its answer to go back.
const MARGIN: Duration = Duration::from_millis(200);

/// The bytes of an answer that Lambda takes.
const LONGEST: usize = 6 << 20;

/// The pause after the runtime API did not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// The paths of the runtime API.
const INVOCATIONS: &str = "/2018-06-01/runtime/invocation";

/// Answers invocations with `router`, one after the other, until `stop` is true. `api` is the host and port that the environment's
/// `AWS_LAMBDA_RUNTIME_API` has.
pub(crate) async fn serve(api: String, router: Router, mut stop: watch::Receiver<bool>) {
    let stopped = async move { drop(stop.wait_for(|&stop| stop).await) };
    tokio::pin!(stopped);
    let mut runtime = Runtime { api, connection: None };
    loop {
        let invocation = tokio::select! {
            () = &mut stopped => return,
            next = runtime.next() => next,
        };
        let outcome = match invocation {
            Ok(invocation) => runtime.answer(&invocation, router.clone()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            tracing::warn!(error, "Lambda's runtime API did not answer");
            runtime.connection = None;
            tokio::select! {
                () = &mut stopped => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// The runtime API.
struct Runtime {
    api: String,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// A request that Lambda has for the function.
struct Invocation {
    id: String,
    /// When its time is over, since 1970.
    deadline: Option<Duration>,
    event: Bytes,
}

impl Runtime {
    async fn next(&mut self) -> Result<Invocation, String> {
        let (status, headers, event) =
            self.call(Method::GET, format!("{INVOCATIONS}/next"), Bytes::new()).await?;
        if status != StatusCode::OK {
            return Err(format!("it has no invocation: {status}"));
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let id = header("lambda-runtime-aws-request-id").ok_or("an invocation has no id")?.to_string();
        let deadline = header("lambda-runtime-deadline-ms").and_then(|text| text.parse().ok());
        Ok(Invocation { id, deadline: deadline.map(Duration::from_millis), event })
    }

    /// Answers the invocation; what is no request of HTTP is told as an error of the function.
    async fn answer(&mut self, invocation: &Invocation, router: Router) -> Result<(), String> {
        let (outcome, answer) = match serde_json::from_slice::<Event>(&invocation.event) {
            Ok(event) => ("response", answer(event, invocation.deadline, router).await),
            Err(error) => {
                let text = format!("the event is not of a function URL or an HTTP API, payload 2.0: {error}");
                ("error", json!({ "errorMessage": text, "errorType": "Sardonyx.Event" }))
            }
        };
        let path = format!("{INVOCATIONS}/{}/{outcome}", invocation.id);
        let mut answer = answer.to_string();
        if answer.len() > LONGEST {
            let text = "the answer is longer than the 6 MiB that Lambda takes: ask for fewer rows or outputs";
            answer = refused(StatusCode::PAYLOAD_TOO_LARGE, text).to_string();
        }
        let (status, _, _) = self.call(Method::POST, path, answer.into()).await?;
        if status.is_success() { Ok(()) } else { Err(format!("it did not take the answer: {status}")) }
    }

    async fn call(
        &mut self,
        method: Method,
        path: String,
        body: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Bytes), String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.api)
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let mut connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => connected(&self.api).await?,
        };
        connection.ready().await.map_err(|error| error.to_string())?;
        let response = connection.send_request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        self.connection = Some(connection);
        Ok((parts.status, parts.headers, body))
    }
}

async fn connected(api: &str) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(api).await.map_err(|error| format!("{api}: {error}"))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Its end is seen by the sender.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// A request as API Gateway writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    raw_path: String,
    #[serde(default)]
    raw_query_string: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    cookies: Vec<String>,
    request_context: Context,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Deserialize)]
struct Context {
    http: Call,
    #[serde(default)]
    stage: String,
}

#[derive(Deserialize)]
struct Call {
    method: String,
}

async fn answer(event: Event, deadline: Option<Duration>, mut router: Router) -> Value {
    let request = match event.request(deadline) {
        Ok(request) => request,
        Err(text) => return refused(StatusCode::BAD_REQUEST, &text),
    };
    // A task of its own, so that whatever happens there is an answer.
    let answered = tokio::spawn(async move {
        let Ok(response) = router.call(request).await;
        written(response).await
    });
    let failed = || refused(StatusCode::INTERNAL_SERVER_ERROR, "the server failed to answer");
    answered.await.unwrap_or_else(|_| failed())
}

impl Event {
    fn request(self, deadline: Option<Duration>) -> Result<Request<Body>, String> {
        let body = self.body.unwrap_or_default();
        let body = match self.is_base64_encoded {
            true => {
                BASE64_STANDARD.decode(body).map_err(|_| "the body is not base64, as the event says it is")?
            }
            false => body.into_bytes(),
        };
        // A stage other than the default one is a part of the path.
        let prefix = format!("/{}", self.request_context.stage);
        let path = self.raw_path.strip_prefix(&prefix).filter(|path| path.starts_with('/'));
        let mut target = escaped(path.unwrap_or(&self.raw_path));
        if !self.raw_query_string.is_empty() {
            target.extend(["?", &escaped(&self.raw_query_string)]);
        }
        let target: Uri = target.parse().map_err(|_| "the path is none of HTTP's")?;
        let method: Method =
            self.request_context.http.method.parse().map_err(|_| "the method is none of HTTP's")?;
        let mut request = Request::new(Body::from(body));
        (*request.uri_mut(), *request.method_mut()) = (target, method);
        for (name, value) in self.headers {
            let name: HeaderName = name.parse().map_err(|_| "a header has no valid name")?;
            let value = HeaderValue::try_from(value).map_err(|_| format!("{name} has no valid value"))?;
            request.headers_mut().insert(name, value);
        }
        if let Ok(cookies) = HeaderValue::try_from(self.cookies.join("; "))
            && !cookies.is_empty()
        {
            request.headers_mut().insert(COOKIE, cookies);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if let Some(deadline) = deadline
            && !request.headers().contains_key(&TIMEOUT)
        {
            let left = deadline.saturating_sub(now).saturating_sub(MARGIN).as_secs_f64();
            let left = HeaderValue::try_from(format!("{left:.3}")).map_err(|error| error.to_string())?;
            request.headers_mut().insert(TIMEOUT.clone(), left);
        }
        Ok(request)
    }
}

/// `text` with what a target of HTTP has not as `%XX`: events may have paths decoded.
fn escaped(text: &str) -> String {
    let mut target = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'#' | b'`' | b'{' | b'}') {
            true => target.push(byte.into()),
            false => target.push_str(&format!("%{byte:02X}")),
        }
    }
    target
}

/// The answer as API Gateway reads it.
async fn written(response: Response) -> Value {
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await else {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "the server failed to write the answer");
    };
    let body = body.to_bytes();
    let mut headers = serde_json::Map::new();
    for name in parts.headers.keys() {
        let values: Vec<_> =
            parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        headers.insert(name.to_string(), values.join(", ").into());
    }
    let is_plain = !parts.headers.contains_key(CONTENT_ENCODING);
    let text = std::str::from_utf8(&body).ok().filter(|_| is_plain);
    let body = text.map_or_else(|| BASE64_STANDARD.encode(&body), str::to_string);
    json!({
        "statusCode": parts.status.as_u16(),
        "headers": headers,
        "isBase64Encoded": text.is_none(),
        "body": body,
    })
}

fn refused(status: StatusCode, text: &str) -> Value {
    json!({
        "statusCode": status.as_u16(),
        "headers": { "content-type": "application/json" },
        "isBase64Encoded": false,
        "body": json!({ "error": text }).to_string(),
    })
}
