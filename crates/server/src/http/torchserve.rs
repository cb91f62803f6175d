//! TorchServe's inference interface: `/ping`, `/predictions/{model}`, and the list of models. Models come from the repository alone:
//! nothing is registered, and no URL is fetched.
//!
//! A body is, by its `Content-Type`:
//! * JSON, or none: the value of the model's only input, an object of values by the names of inputs, or `{"instances": [...]}` and
//!   `{"inputs": ...}` as TensorFlow Serving has them. An input without the dimension of the batch is one row, and its answer is too.
//! * anything else, such as `application/octet-stream` or `text/plain`: the elements of the model's only input, little-endian, or its
//!   only string.
//!
//! The answer is the value of the model's only output, or an object of values by the names of outputs.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use sardonyx::Tensor;
use serde_json::{Value, json};

use super::tensorflow::{self, Form};
use super::v2::request::decode_raw;
use super::{Caller, Http, InPath, SMALL, Target, nested, off_the_reactor};
use crate::config::Config;
use crate::{Failure, Reason, Request, http, raw};

pub(super) fn router() -> Router<Http> {
    Router::new()
        .route("/ping", get(ping))
        .route("/predictions/{model}", post(predict).put(predict))
        .route("/predictions/{model}/{version}", post(predict).put(predict))
        .route("/models", get(models).post(not_managed))
        .route("/models/{model}", get(model).put(not_managed).delete(not_managed))
}

async fn ping(State(http): State<Http>) -> Response {
    match http.service.is_live() && http.service.is_ready() {
        true => http::json(&json!({"status": "Healthy"})),
        false => {
            (StatusCode::SERVICE_UNAVAILABLE, http::json(&json!({"status": "Unhealthy"}))).into_response()
        }
    }
}

async fn models(State(http): State<Http>, caller: Caller) -> Response {
    let mut names: Vec<String> = http.service.index(false).into_iter().map(|entry| entry.name).collect();
    names.dedup();
    names.retain(|name| caller.may_use(name));
    // Nothing of where the models lie is told; TorchServe's own names of files are relative too.
    let models: Vec<Value> =
        names.iter().map(|name| json!({"modelName": name, "modelUrl": format!("{name}/")})).collect();
    http::json(&json!({ "models": models }))
}

async fn model(State(http): State<Http>, InPath(target): InPath<Target>) -> Result<Response, Failure> {
    let config = http.service.config(&target.model, &target.version)?;
    let versions = http.service.metadata(&target.model, &target.version)?.versions;
    let shown = versions.iter().map(|version| {
        json!({"modelName": config.name, "modelVersion": version, "modelUrl": format!("{}/", config.name),
            "runtime": "onnx", "batchSize": config.max_batch.max(1), "loadedAtStartup": true})
    });
    Ok(http::json(&shown.collect::<Value>()))
}

async fn not_managed() -> Failure {
    Failure::new(
        Reason::Unimplemented,
        "models are not registered over this protocol: put them into the repository, and load them with \
         /v2/repository/models/NAME/load",
    )
}

/// What is written in place of tensors and their names.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Of(Form),
    Values,
    /// The values of the only row.
    Row,
}

async fn predict(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    http::until(caller.deadline, async {
        let body = http::body::read(&headers, body, &http.limits).await?;
        let config = http.service.config(&target.model, &target.version)?;
        let is_json = is_json(&headers)?;
        let large = body.len() > SMALL;
        let decode = move || if is_json { decoded(body, &config) } else { from_raw(body, &config) };
        let (inputs, answer) = off_the_reactor(large, decode).await?;
        let Target { model, version } = target;
        let request = caller.asks(Request { model, version, inputs, ..Request::default() });
        let outputs = http.service.infer(request).await?.outputs;
        let large = http::are_large(&outputs);
        let json = off_the_reactor(large, move || encode(outputs, answer)).await?;
        http::in_parts(&headers, "application/json", vec![json.into()]).await
    })
    .await
}

/// Whether the body is JSON. What curl and Python say of a body of which they know nothing is no reason to think that it is not.
fn is_json(headers: &HeaderMap) -> Result<bool, Failure> {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return Ok(true) };
    let kind = kind.to_str().unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" | "application/x-www-form-urlencoded" | "" => Ok(true),
        "multipart/form-data" => Err(Failure::new(
            Reason::Unimplemented,
            "forms of several parts are not served; send the data itself as the body, with the header Content-Type",
        )),
        _ => Ok(false),
    }
}

fn from_raw(body: Bytes, config: &Config) -> Result<(Vec<(String, Tensor)>, Answer), Failure> {
    tensorflow::only_input(config)?;
    Ok((decode_raw(body, config)?.0.inputs, Answer::Values))
}

fn decoded(body: Bytes, config: &Config) -> Result<(Vec<(String, Tensor)>, Answer), Failure> {
    let json = nested::as_json(body.clone());
    let value: &serde_json::value::RawValue = super::v2::request::read(&json)?;
    let mut inputs = match envelope(value.get(), config) {
        true => {
            let (inputs, form) = tensorflow::decode(body, config)?;
            return Ok((inputs, Answer::Of(form)));
        }
        false => tensorflow::columns(value.get(), config)?,
    };
    let is_row = |(name, tensor): &(String, Tensor)| {
        config.inputs.iter().any(|port| port.name == *name && port.dims.len() == tensor.shape().len())
    };
    if config.max_batch == 0 || inputs.is_empty() || !inputs.iter().all(is_row) {
        return Ok((inputs, Answer::Values));
    }
    for (_, tensor) in &mut inputs {
        *tensor = reshaped(tensor.clone(), |shape| shape.insert(0, 1))?;
    }
    Ok((inputs, Answer::Row))
}

/// Whether the body is a request of TensorFlow Serving, and not an object of inputs that have such names.
fn envelope(json: &str, config: &Config) -> bool {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        instances: Option<&'a serde_json::value::RawValue>,
        #[serde(borrow)]
        inputs: Option<&'a serde_json::value::RawValue>,
    }
    let named = |name: &str| config.inputs.iter().any(|port| port.name == name);
    json.starts_with('{')
        && serde_json::from_str::<Envelope<'_>>(json).is_ok_and(|envelope| {
            envelope.instances.is_some() && !named("instances")
                || envelope.inputs.is_some() && !named("inputs")
        })
}

fn reshaped(tensor: Tensor, change: impl FnOnce(&mut Vec<usize>)) -> Result<Tensor, Failure> {
    let mut shape = tensor.shape().to_vec();
    change(&mut shape);
    match tensor.strings() {
        Some(strings) => Ok(Tensor::from_strings(&shape, strings.to_vec())?),
        None => raw::tensor(tensor.dtype(), &shape, tensor.into_bytes()),
    }
}

fn encode(mut outputs: Vec<(String, Tensor)>, answer: Answer) -> Result<Vec<u8>, Failure> {
    if let Answer::Of(form) = answer {
        return tensorflow::encode(&outputs, form);
    }
    if matches!(answer, Answer::Row) {
        for (_, tensor) in &mut outputs {
            if tensor.shape().first() == Some(&1) {
                *tensor = reshaped(tensor.clone(), |shape| {
                    shape.remove(0);
                })?;
            }
        }
    }
    let mut out = Vec::new();
    tensorflow::write_columns(&mut out, &outputs)?;
    Ok(out)
}
