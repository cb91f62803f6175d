//! What each route needs, and which model it names.

use axum::http::Method;

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Right {
    /// Nothing: whether the server lives and is ready.
    Nobodys,
    /// A key.
    Infer,
    /// A key that may administer: the request is about memory that is shared with the client, at the client's own address.
    Memory,
    /// A key that may administer.
    Admin,
}

/// The service of the Open Inference Protocol.
const SERVICE: &str = "/inference.GRPCInferenceService/";

/// What may be called at a path that begins so, and no other method of gRPC's.
const CALLS: [(&str, Right, &[&str]); 6] = [
    (SERVICE, Right::Nobodys, &["ServerLive", "ServerReady"]),
    (
        SERVICE,
        Right::Infer,
        &[
            "ServerMetadata",
            "ModelReady",
            "ModelMetadata",
            "ModelInfer",
            "ModelStreamInfer",
            "ModelConfig",
            "ModelStatistics",
            "RepositoryIndex",
            "SystemSharedMemoryStatus",
            "CudaSharedMemoryStatus",
        ],
    ),
    (
        SERVICE,
        Right::Memory,
        &[
            "SystemSharedMemoryRegister",
            "SystemSharedMemoryUnregister",
            "CudaSharedMemoryRegister",
            "CudaSharedMemoryUnregister",
        ],
    ),
    (
        "/tensorflow.serving.PredictionService/",
        Right::Infer,
        &["Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"],
    ),
    ("/tensorflow.serving.ModelService/", Right::Infer, &["GetModelStatus"]),
    ("/grpc.health.v1.Health/", Right::Nobodys, &["Check", "Watch"]),
];

/// The ends of the paths of models that are posted to without changing the server.
const ASKS: [&str; 4] = ["infer", "generate", "generate_stream", "feedback"];

/// What a request needs. What is not named here needs the right to administer.
pub(super) fn right(method: &Method, path: &str) -> Right {
    if let Some((start, call)) = path.rsplit_once('/')
        && let Some((_, right, _)) = CALLS
            .iter()
            .find(|(service, _, calls)| service.strip_suffix('/') == Some(start) && calls.contains(&call))
    {
        return *right;
    }
    // The status page itself says nothing: it asks for its data at /v2/status.
    if path.starts_with("/v2/health/") || ["/ping", "/", "/status"].contains(&path) {
        return Right::Nobodys;
    }
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let asks = reads || matches!(*method, Method::POST | Method::PUT);
    let infers = match path {
        "/metrics" | "/v2" | "/models" => reads,
        "/v2/repository/index" => asks,
        "/v2/status" => false,
        path if path.starts_with("/grpc.reflection.") => true,
        path if path.starts_with("/models/") => reads,
        path if path.starts_with("/v1/") || path.starts_with("/predictions/") => asks,
        path if path.starts_with("/v2/systemsharedmemory/") || path.starts_with("/v2/cudasharedmemory/") => {
            return if reads { Right::Infer } else { Right::Memory };
        }
        path if path.starts_with("/v2/models/") => {
            let last = path.rsplit('/').next().unwrap_or_default();
            reads || asks && ASKS.contains(&last)
        }
        path if path.starts_with("/v2/") => reads,
        _ => false,
    };
    if infers { Right::Infer } else { Right::Admin }
}

/// The model that a path names, as it stands there: a name needs no percent sign.
pub(super) fn model(path: &str) -> Option<&str> {
    // Those of all models.
    if path == "/v2/models/stats" {
        return None;
    }
    let starts = ["/v2/models/", "/v1/models/", "/predictions/", "/models/", "/v2/repository/models/"];
    let rest = starts.iter().find_map(|start| path.strip_prefix(start))?;
    rest.split(['/', ':']).next()
}

/// Whether a call is a stream of requests, which begin and end for themselves.
pub(super) fn is_stream(path: &str) -> bool {
    path.strip_prefix(SERVICE) == Some("ModelStreamInfer")
}
