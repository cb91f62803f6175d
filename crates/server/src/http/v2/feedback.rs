//! What models do in production: what would have been right, and the baseline of drift.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::repository::read;
use crate::Failure;
use crate::http::{self, Caller, Http, InPath, Target};
use crate::watching::Truth;

pub(super) async fn feedback(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let members: Map<String, Value> = read(&http, &headers, body).await?;
    let truth = Truth::from_json(members)?;
    let counted = http.service.feedback(&target.model, &target.version, caller.tenant(), &truth)?;
    let version = |(version, rows): (u64, usize)| json!({"version": version.to_string(), "counted": rows});
    let versions: Vec<Value> = counted.into_iter().map(version).collect();
    Ok(http::json(&json!({"model_name": target.model, "id": truth.id, "versions": versions})))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Learn {
    rows: Option<usize>,
}

pub(super) async fn learn_baseline(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let Learn { rows } = read(&http, &headers, body).await?;
    let rows = http.service.learn_baseline(&target.model, &target.version, rows)?;
    Ok(http::json(&json!({"model_name": target.model, "rows": rows})))
}

pub(super) async fn baseline(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
) -> Result<Response, Failure> {
    Ok(http::json(&http.service.baseline(&target.model, &target.version)?))
}
