//! The Open Inference Protocol over REST, with the extensions of Triton Inference Server.

mod feedback;
mod generate;
mod health;
mod infer;
pub(super) mod json;
mod memory;
mod message;
mod models;
mod repository;
pub(crate) mod request;
pub(crate) mod response;
mod settings;

use axum::Router;
use axum::routing::{MethodRouter, get, post};

use super::Http;

pub(super) fn router() -> Router<Http> {
    let router = Router::new()
        .route("/v2", get(models::server))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/models/stats", get(models::all_statistics))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route("/v2/repository/models/{model}/unload", post(repository::unload))
        .route("/v2/systemsharedmemory/status", get(memory::status))
        .route("/v2/systemsharedmemory/unregister", post(memory::unregister))
        .route("/v2/systemsharedmemory/region/{region}/status", get(memory::status))
        .route("/v2/systemsharedmemory/region/{region}/register", post(memory::register))
        .route("/v2/systemsharedmemory/region/{region}/unregister", post(memory::unregister))
        .route("/v2/cudasharedmemory/status", get(memory::no_cuda))
        .route("/v2/cudasharedmemory/unregister", post(memory::forget_cuda))
        .route("/v2/cudasharedmemory/region/{region}/status", get(memory::no_cuda))
        .route("/v2/cudasharedmemory/region/{region}/register", post(memory::register_cuda))
        .route("/v2/cudasharedmemory/region/{region}/unregister", post(memory::forget_cuda))
        .route("/v2/logging", get(settings::log).post(settings::set_log))
        .route("/v2/trace/setting", get(settings::trace).post(settings::set_trace))
        .route("/v2/models/{model}/trace/setting", get(settings::trace).post(settings::set_trace));
    let of_models: [(&str, MethodRouter<Http>); 9] = [
        ("", get(models::model)),
        ("/ready", get(health::model)),
        ("/infer", post(infer::infer)),
        ("/generate", post(generate::generate)),
        ("/generate_stream", post(generate::generate_stream)),
        ("/config", get(models::config)),
        ("/stats", get(models::statistics)),
        ("/feedback", post(feedback::feedback)),
        ("/baseline", get(feedback::baseline).post(feedback::learn_baseline)),
    ];
    of_models.into_iter().fold(router, |router, (path, method)| {
        router
            .route(&format!("/v2/models/{{model}}{path}"), method.clone())
            .route(&format!("/v2/models/{{model}}/versions/{{version}}{path}"), method)
    })
}
