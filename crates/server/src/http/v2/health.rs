//! Whether the server lives, and whether it and its models are ready. kserve's client reads the bodies.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::Failure;
use crate::http::{self, Http, InPath, Target};

pub(super) async fn live(State(http): State<Http>) -> Response {
    let live = http.service.is_live();
    state(live, &json!({ "live": live }))
}

pub(super) async fn ready(State(http): State<Http>) -> Response {
    let ready = http.service.is_ready();
    state(ready, &json!({ "ready": ready }))
}

/// A model that is not known is the client's fault, as Triton has it.
pub(super) async fn model(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
) -> Result<Response, Failure> {
    let Target { model, version } = target;
    let ready = http.service.model_ready(&model, &version);
    if !ready && !http.service.knows(&model) {
        return Err(Failure::invalid(format!("model '{model}' is not known, so it is not ready")));
    }
    Ok(state(ready, &json!({ "name": model, "ready": ready })))
}

fn state(good: bool, body: &Value) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, http::json(body)).into_response()
}
