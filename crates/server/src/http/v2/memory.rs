//! The extensions of shared memory: that of the system, and, to say that there is none, that of CUDA.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::repository::read;
use crate::http::{self, Http, InPath};
use crate::shared_memory::Registered;
use crate::{Failure, Reason};

/// The region that a path names; empty for all.
#[derive(Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    region: String,
}

pub(super) async fn status(
    State(http): State<Http>,
    InPath(named): InPath<Named>,
) -> Result<Response, Failure> {
    let shown = |Registered { name, key, offset, byte_size }| json!({ "name": name, "key": key, "offset": offset, "byte_size": byte_size });
    let regions: Vec<Value> = http.service.memory().status(&named.region)?.into_iter().map(shown).collect();
    Ok(http::json(&regions))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Registration {
    key: String,
    offset: u64,
    byte_size: u64,
}

pub(super) async fn register(
    State(http): State<Http>,
    InPath(named): InPath<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let Registration { key, offset, byte_size } = read(&http, &headers, body).await?;
    http.service.memory().register(&named.region, &key, offset, byte_size)?;
    Ok(Response::default())
}

pub(super) async fn unregister(State(http): State<Http>, InPath(named): InPath<Named>) -> Response {
    http.service.memory().unregister(&named.region);
    Response::default()
}

pub(super) async fn no_cuda() -> Response {
    http::json(&json!([]))
}

pub(super) async fn forget_cuda() -> Response {
    Response::default()
}

pub(super) async fn register_cuda() -> Failure {
    Failure::new(Reason::Unimplemented, "this server has no CUDA shared memory; use system shared memory")
}
