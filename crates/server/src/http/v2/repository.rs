//! The repository extension: the index, loading and unloading.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::request;
use crate::Failure;
use crate::http::{self, Caller, Http, InPath, Target};
use crate::repository::Overrides;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Index {
    ready: bool,
}

pub(super) async fn index(
    State(http): State<Http>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let Index { ready } = read(&http, &headers, body).await?;
    let entry = |entry: crate::repository::IndexEntry| {
        let mut shown = Map::new();
        shown.insert("name".into(), entry.name.into());
        if !entry.version.is_empty() {
            shown.insert("version".into(), entry.version.into());
        }
        shown.insert("state".into(), entry.state.to_string().into());
        if !entry.reason.is_empty() {
            shown.insert("reason".into(), entry.reason.into());
        }
        Value::Object(shown)
    };
    let entries: Vec<Value> = http
        .service
        .index(ready)
        .into_iter()
        .filter(|entry| caller.may_use(&entry.name))
        .map(entry)
        .collect();
    Ok(http::json(&entries))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Change {
    parameters: BTreeMap<String, Value>,
}

pub(super) async fn load(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let Change { parameters } = read(&http, &headers, body).await?;
    let mut overrides = Overrides::default();
    for (name, value) in parameters {
        match (name.as_str(), value) {
            ("config", Value::String(config)) => overrides.config = Some(config),
            ("config", _) => {
                return Err(Failure::invalid("parameter 'config' is a text: a configuration as JSON"));
            }
            _ => {
                let text = format!(
                    "parameter '{name:.80}' of a load is not supported; put files into the repository"
                );
                return Err(Failure::invalid(text));
            }
        }
    }
    http.service.load(&target.model, overrides).await?;
    Ok(Response::default())
}

pub(super) async fn unload(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let Change { parameters } = read(&http, &headers, body).await?;
    let mut dependents = false;
    for (name, value) in parameters {
        match (name.as_str(), value) {
            ("unload_dependents", Value::Bool(value)) => dependents = value,
            ("unload_dependents", _) => {
                return Err(Failure::invalid("parameter 'unload_dependents' is true or false"));
            }
            _ => return Err(Failure::invalid(format!("parameter '{name:.80}' of an unload is not known"))),
        }
    }
    http.service.unload(&target.model, dependents).await?;
    Ok(Response::default())
}

/// The bytes of a request that is no inference. Its values take many times as many.
const LONGEST: usize = 4 << 20;

/// A body of JSON, or the default for an empty one.
pub(super) async fn read<T: Default + DeserializeOwned + Send + 'static>(
    http: &Http,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Failure> {
    let body = http::body::read(headers, body, &http.limits.at_most(LONGEST)).await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    http::off_the_reactor(body.len() > http::SMALL, move || request::read(&body)).await
}
