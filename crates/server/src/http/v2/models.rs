//! What the server and its models are, and what they have done.

use axum::extract::State;
use axum::response::Response;

use super::message;
use crate::Failure;
use crate::http::{Http, InPath, Target};
use crate::proto::ModelStatisticsResponse;

pub(super) async fn server(State(http): State<Http>) -> Result<Response, Failure> {
    message::json("inference.ServerMetadataResponse", &http.service.server_metadata())
}

pub(super) async fn model(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
) -> Result<Response, Failure> {
    message::json("inference.ModelMetadataResponse", &http.service.metadata(&target.model, &target.version)?)
}

pub(super) async fn config(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
) -> Result<Response, Failure> {
    let config = http.service.config(&target.model, &target.version)?;
    message::json("inference.ModelConfig", &config.shown)
}

pub(super) async fn statistics(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
) -> Result<Response, Failure> {
    shown(&http, &target.model, &target.version)
}

pub(super) async fn all_statistics(State(http): State<Http>) -> Result<Response, Failure> {
    shown(&http, "", "")
}

fn shown(http: &Http, model: &str, version: &str) -> Result<Response, Failure> {
    let model_stats = http.service.statistics(model, version)?;
    message::json("inference.ModelStatisticsResponse", &ModelStatisticsResponse { model_stats })
}
