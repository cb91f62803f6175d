//! The extensions of log and trace settings.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::repository::read;
use super::request::Values;
use crate::http::{self, Http, InPath};
use crate::{Failure, Parameter, Parameters};

pub(super) async fn log(State(http): State<Http>) -> Response {
    shown_log(http.service.settings().log())
}

pub(super) async fn set_log(
    State(http): State<Http>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let Values(changes) = read(&http, &headers, body).await?;
    Ok(shown_log(http.service.settings().set_log(changes)?))
}

fn shown_log(settings: Parameters) -> Response {
    let value = |value: Parameter| match value {
        Parameter::Bool(value) => value.into(),
        Parameter::Int(value) => value.into(),
        Parameter::Double(value) => value.into(),
        Parameter::Text(value) => value.into(),
    };
    let settings: Map<String, Value> = settings.into_iter().map(|(name, of)| (name, value(of))).collect();
    http::json(&settings)
}

/// The model that a path names; empty for the settings of all.
#[derive(Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    model: String,
}

pub(super) async fn trace(
    State(http): State<Http>,
    InPath(named): InPath<Named>,
) -> Result<Response, Failure> {
    known(&http, &named)?;
    Ok(shown_trace(http.service.settings().traces().shown(&named.model)))
}

/// A setting as a request has it: one value, several, or `null` for that of the server.
#[derive(Deserialize)]
#[serde(untagged)]
enum Setting {
    One(String),
    Several(Vec<String>),
    Default,
}

pub(super) async fn set_trace(
    State(http): State<Http>,
    InPath(named): InPath<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    known(&http, &named)?;
    let changes: BTreeMap<String, Setting> = read(&http, &headers, body).await?;
    let values = |setting: Setting| match setting {
        Setting::One(value) => vec![value],
        Setting::Several(values) => values,
        Setting::Default => Vec::new(),
    };
    let changes = changes.into_iter().map(|(name, setting)| (name, values(setting))).collect();
    Ok(shown_trace(http.service.settings().traces().set(&named.model, &changes)?))
}

fn known(http: &Http, named: &Named) -> Result<(), Failure> {
    match named.model.as_str() {
        "" => Ok(()),
        model => http.service.config(model, "").map(drop),
    }
}

/// Triton writes the level as a list, and all others as one text.
fn shown_trace(settings: BTreeMap<String, Vec<String>>) -> Response {
    let value = |name: &str, mut values: Vec<String>| match name {
        "trace_level" => values.into(),
        _ => values.pop().unwrap_or_default().into(),
    };
    let shown = settings.into_iter().map(|(name, values)| {
        let value = value(&name, values);
        (name, value)
    });
    http::json(&shown.collect::<Map<String, Value>>())
}
