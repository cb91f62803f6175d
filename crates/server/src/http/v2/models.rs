//! What the server and its models are, and what they have done.

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::message;
use crate::Failure;
use crate::http::{self, Caller, Http, InPath, Target};
use crate::proto::{ModelStatistics, ModelStatisticsResponse};

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
    shown(&http, http.service.statistics(&target.model, &target.version)?)
}

pub(super) async fn all_statistics(State(http): State<Http>, caller: Caller) -> Result<Response, Failure> {
    let mut all = http.service.statistics("", "")?;
    all.retain(|model| caller.may_use(&model.name));
    shown(&http, all)
}

/// The statistics, with what is watched of the models.
fn shown(http: &Http, model_stats: Vec<ModelStatistics>) -> Result<Response, Failure> {
    let message = ModelStatisticsResponse { model_stats };
    let mut value = message::value("inference.ModelStatisticsResponse", &message)?;
    for shown in value["model_stats"].as_array_mut().into_iter().flatten() {
        let named = |name: &str| shown[name].as_str().unwrap_or_default().to_string();
        let Ok(of) = http.service.versions(&named("name"), &named("version")) else { continue };
        let Some(watched) = of.first().and_then(|served| served.watched()) else { continue };
        if let Some(feedback) = watched.feedback() {
            shown["feedback"] = json!(feedback);
        }
        if let Some(drift) = watched.drift() {
            shown["drift"] = json!(drift);
        }
    }
    Ok(http::json(&value))
}
