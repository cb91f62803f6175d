//! HTTP: the routes of all protocols over it, and what they share.

mod body;
mod compression;
mod failure;
mod limits;
mod nested;
pub(crate) mod openai;
mod status;
pub(crate) mod tensorflow;
mod torchserve;
pub(crate) mod v2;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sardonyx::{DType, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(crate) use compression::Coding;
pub use limits::Limits;

use crate::access::Tenant;
use crate::traffic::Preference;
use crate::{Failure, Reason, Request, Service};

/// All routes, as they are served at the address of HTTP.
pub fn router(service: &Arc<Service>, limits: Limits) -> Router {
    let state = Http { service: service.clone(), limits: Arc::new(limits) };
    Router::new()
        .merge(v2::router())
        .merge(status::router())
        .merge(tensorflow::router())
        .merge(torchserve::router())
        .merge(openai::router())
        .fallback(async |uri: Uri| match uri.path() {
            path if openai::is_asked(path) => openai::no_path(path),
            path => failure::error(StatusCode::NOT_FOUND, &format!("there is no path '{path:.200}'")),
        })
        .method_not_allowed_fallback(async || {
            failure::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path has another method; the header Allow names it",
            )
        })
        .with_state(state)
}

/// What every route answers from.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    service: Arc<Service>,
    limits: Arc<Limits>,
}

/// The model, and its version if there is one, that a path names.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    model: String,
    /// Empty for the version that the model's policy chooses.
    #[serde(default)]
    version: String,
}

/// What a path names; its refusals are answers like all others.
#[derive(Debug)]
pub(crate) struct InPath<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<InPath<T>, Failure> {
        let Path(named) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|_| Failure::invalid("the path has a name that is no UTF-8"))?;
        Ok(InPath(named))
    }
}

/// The work of a request on a thread of its own if it is `large`, so that the reactor never blocks; else here.
///
/// # Errors
/// Those of the work.
pub(crate) async fn off_the_reactor<T: Send + 'static>(
    large: bool,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    if !large {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(Failure::new(Reason::Internal, "the server failed to read the request or to write the answer"))
    })
}

/// The bytes that are read or written on the reactor.
const SMALL: usize = 64 << 10;

/// Whether tensors are written on a thread of their own.
pub(crate) fn are_large(tensors: &[(String, Tensor)]) -> bool {
    // The lengths of strings are not added up.
    tensors.iter().any(|(_, tensor)| {
        tensor.bytes().len() > SMALL || tensor.dtype() == DType::String && tensor.len() > 100
    })
}

/// The bytes from which on an answer is compressed, if its client likes that.
const WORTH: usize = 1 << 10;

/// Who asks, and when they stop waiting, as the header `X-Request-Timeout` says in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) deadline: Option<Instant>,
    tenant: Option<Tenant>,
    preference: Preference,
}

impl Caller {
    /// The caller's name, if the server knows it.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Whether the caller may use the model `name`.
    pub(crate) fn may_use(&self, name: &str) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| tenant.may_use(name))
    }

    /// `request` as the caller's.
    pub(crate) fn asks(&self, request: Request) -> Request {
        let (tenant, preference) = (self.tenant.clone(), self.preference.clone());
        Request { deadline: self.deadline, tenant, preference, ..request }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Failure> {
        let tenant = parts.extensions.get::<Tenant>().cloned();
        let preference = Preference::of(|name| Some(parts.headers.get(name)?.as_bytes()));
        Ok(Caller { deadline: deadline(&parts.headers)?, tenant, preference })
    }
}

fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, Failure> {
    let Some(value) = headers.get("x-request-timeout") else { return Ok(None) };
    let seconds = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = time
        .ok_or_else(|| Failure::invalid("X-Request-Timeout is a number of seconds from 0 on, such as 2.5"))?;
    Ok(Instant::now().checked_add(time))
}

/// The outcome of `work`, or that the deadline has passed; the work is dropped then.
///
/// # Errors
/// Those of the work; [`Reason::Expired`].
pub(crate) async fn until<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(deadline) = deadline else { return work.await };
    let expired = |_| Failure::new(Reason::Expired, "the time that X-Request-Timeout allows is over");
    tokio::time::timeout_at(deadline.into(), work).await.map_err(expired)?
}

/// An answer of JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(json) => json_bytes(json.into()),
        Err(_) => Failure::new(Reason::Internal, "the answer has no form in JSON").into_response(),
    }
}

/// An answer of JSON that is written already.
pub(crate) fn json_bytes(json: Bytes) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from(json)).into_response()
}

/// An answer of several `parts`, compressed if the request's header `Accept-Encoding` likes that.
///
/// # Errors
/// [`Reason::Internal`].
pub(crate) async fn in_parts(
    headers: &HeaderMap,
    kind: &'static str,
    parts: Vec<Bytes>,
) -> Result<Response, Failure> {
    let typed = (CONTENT_TYPE, HeaderValue::from_static(kind));
    let size: usize = parts.iter().map(Bytes::len).sum();
    let liked = headers.get(ACCEPT_ENCODING).and_then(|value| Coding::accepted(value.to_str().ok()?));
    let Some(coding) = liked.filter(|_| size >= WORTH) else {
        return Ok(([typed], Body::new(body::Parts::new(parts))).into_response());
    };
    let compressed = off_the_reactor(size > SMALL, move || Ok(coding.compressed(&parts))).await?;
    let coded = (CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    Ok(([typed, coded], Body::from(compressed)).into_response())
}

/// The length of the JSON of a body with binary tensors.
static JSON_BYTES: HeaderName = HeaderName::from_static("inference-header-content-length");
