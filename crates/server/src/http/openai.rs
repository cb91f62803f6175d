//! OpenAI's list of models, and its embeddings from models of texts.
//!
//! A model gives embeddings if it takes tokens, or texts:
//! * tokens: the input `input_ids`, and `attention_mask` and `token_type_ids` if it has them, of INT64 or INT32. A request has lists of
//!   tokens, or, if the model has a tokenizer ([`crate::texts`]), texts.
//! * texts: one input of BYTES, of a model whose graph has the tokenizer. A request has texts.
//!
//! The embedding is in the output that the parameter [`EMBEDDINGS_OUTPUT`] of the configuration names, or else in the only output of
//! numbers, in `sentence_embedding` or in `last_hidden_state`. If it has a vector for each token, they become one by
//! [`Pooling`](crate::texts::Pooling). `dimensions` takes the first numbers of a vector, which models that were trained so allow; of a
//! vector of length 1 it makes one of length 1. `usage` counts the tokens that the model has read, and none of texts that it takes itself.

use std::hash::{BuildHasher, RandomState};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use sardonyx::{DType, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::v2::request::read;
use super::{Caller, Http, SMALL, off_the_reactor};
use crate::config::parameters::EMBEDDINGS_OUTPUT;
use crate::config::{Config, Port};
use crate::http::nested::BASE64;
use crate::texts::{self, Part, Texts, Tokens, WHOLE};
use crate::{Failure, Reason, Request, WantedOutput, http};

/// The bytes of a request at most: 8 KiB for each entry.
const LONGEST: usize = 16 << 20;

/// The entries of a request, as OpenAI limits them.
const ENTRIES: usize = 2048;

/// By how much the length of a vector may differ from 1.
const UNIT: f64 = 1e-3;

/// The runs of one request that wait in the model's queue at once.
const AT_ONCE: usize = 16;

pub(super) fn router() -> Router<Http> {
    Router::new().route("/v1/models", get(models)).route("/v1/embeddings", post(embeddings))
}

/// A model, as OpenAI's clients read it.
pub(super) fn entry(model: &str) -> Value {
    json!({"id": model, "object": "model", "created": 0, "owned_by": "sardonyx"})
}

/// The models that answer requests, for clients of OpenAI and of KServe's first protocol.
async fn models(State(http): State<Http>, caller: Caller) -> Response {
    let mut names: Vec<String> = http.service.index(true).into_iter().map(|entry| entry.name).collect();
    names.dedup();
    names.retain(|name| caller.may_use(name));
    let data: Vec<Value> = names.iter().map(|name| entry(name)).collect();
    http::json(&json!({"object": "list", "data": data, "models": names}))
}

async fn embeddings(
    State(http): State<Http>,
    caller: Result<Caller, Failure>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = match caller {
        Ok(caller) => answer(&http, &caller, &headers, body).await,
        Err(failure) => Err(failure),
    };
    answer.unwrap_or_else(refused)
}

/// Whether OpenAI's clients ask for this path, and nobody else.
pub(crate) fn is_asked(path: &str) -> bool {
    path.starts_with("/v1/") && !path.starts_with("/v1/models")
}

/// The status and the headers of all failures, and OpenAI's form of the body, of which its clients show no other.
pub(crate) fn refused(failure: Failure) -> Response {
    let code = match failure.reason {
        Reason::NotFound => Some("model_not_found"),
        Reason::Unauthenticated => Some("invalid_api_key"),
        Reason::OverQuota => Some("rate_limit_exceeded"),
        _ => None,
    };
    shown(failure, code)
}

fn shown(failure: Failure, code: Option<&str>) -> Response {
    let text = failure.text.clone();
    let plain = failure.into_response();
    let kind = if plain.status().is_client_error() { "invalid_request_error" } else { "server_error" };
    let error = json!({"error": {"message": text, "type": kind, "param": null, "code": code}});
    let mut response = (plain.status(), http::json(&error)).into_response();
    for (name, value) in plain.headers() {
        if name != axum::http::header::CONTENT_TYPE && name != axum::http::header::CONTENT_LENGTH {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    response
}

/// A path that OpenAI has and this server has not.
pub(super) fn no_path(path: &str) -> Response {
    let text =
        format!("there is no path '{path:.200}'; of OpenAI's, this server has /v1/embeddings and /v1/models");
    shown(Failure::new(Reason::NotFound, text), Some("unknown_url"))
}

#[derive(Deserialize)]
struct Embeddings {
    model: String,
    input: Entries,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

/// What embeddings are wanted of.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "'input' is a text, a list of texts, a list of tokens, or a list of such lists"
)]
enum Entries {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<i64>),
    ManyTokens(Vec<Vec<i64>>),
}

impl Entries {
    fn lengths(&self) -> Vec<usize> {
        match self {
            Entries::Text(text) => vec![text.len()],
            Entries::Texts(texts) => texts.iter().map(String::len).collect(),
            Entries::Tokens(tokens) => vec![tokens.len()],
            Entries::ManyTokens(many) => many.iter().map(Vec::len).collect(),
        }
    }

    fn refuse_too_few_or_many(&self) -> Result<(), Failure> {
        let lengths = self.lengths();
        match lengths.len() {
            0 => Err(Failure::invalid("'input' is empty")),
            1..=ENTRIES if lengths.contains(&0) => {
                Err(Failure::invalid("'input' has an empty text, or an empty list of tokens"))
            }
            1..=ENTRIES => Ok(()),
            more => Err(Failure::invalid(format!("'input' has {more} entries; send {ENTRIES} at most"))),
        }
    }
}

/// The tokens that a request has made.
#[derive(Clone, Copy, Default)]
struct Usage {
    read: usize,
    left_out: usize,
}

async fn answer(http: &Http, caller: &Caller, headers: &HeaderMap, body: Body) -> Result<Response, Failure> {
    http::until(caller.deadline, async {
        let body = http::body::read(headers, body, &http.limits.at_most(LONGEST)).await?;
        let large = body.len() > SMALL;
        let message: Embeddings = off_the_reactor(large, move || read(&body)).await?;
        let in_base64 = match message.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err(Failure::invalid("'encoding_format' is 'float' or 'base64'")),
        };
        let config = http.service.config(&message.model, "")?;
        let output = output(&config)?.name.clone();
        message.input.refuse_too_few_or_many()?;
        let entries = message.input.lengths().len();
        let (parts, usage) = parts(message.input, &config).await?;
        let (config, model, output, dimensions) = (&config, &message.model, &output, message.dimensions);
        // All runs are answered by one variant: the request's id decides where there is no other key.
        let id = &format!("{:016x}", RandomState::new().hash_one(0));
        let runs = stream::iter(parts).map(|part| async move {
            let outputs = vec![WantedOutput { name: output.clone(), classes: 0 }];
            let inputs = part.inputs;
            let request = caller.asks(Request {
                model: model.clone(),
                id: id.clone(),
                inputs,
                outputs,
                ..Request::default()
            });
            let answer = http.service.infer(request).await?;
            let found = answer.outputs.into_iter().find(|(name, _)| name == output);
            let (name, tensor) =
                found.ok_or_else(|| Failure::new(Reason::Internal, "the model has not given its output"))?;
            let large = tensor.bytes().len() > SMALL;
            let (tokens, config) = (part.tokens, config.clone());
            let work = move || {
                let vectors = config.texts.pooling.vectors(&name, &tensor, &tokens)?;
                vectors
                    .into_iter()
                    .map(|vector| embedding(vector, dimensions, config.texts.normalize))
                    .collect()
            };
            let vectors: Vec<Vec<f32>> = off_the_reactor(large, work).await?;
            Ok::<_, Failure>((part.entries, vectors))
        });
        let mut runs = runs.buffer_unordered(AT_ONCE);
        let mut vectors = vec![Vec::new(); entries];
        while let Some((of, found)) = runs.try_next().await? {
            of.into_iter().zip(found).for_each(|(entry, vector)| vectors[entry] = vector);
        }
        drop(runs);
        let large = vectors.iter().map(|vector| 4 * vector.len()).sum::<usize>() > SMALL;
        let model = message.model.clone();
        let json = off_the_reactor(large, move || written(&model, &vectors, in_base64, usage)).await?;
        http::in_parts(headers, "application/json", vec![json]).await
    })
    .await
}

/// The output with the embedding.
fn output(config: &Config) -> Result<&Port, Failure> {
    let is_number = |port: &&Port| matches!(port.dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16);
    let named = |name: &str| config.outputs.iter().filter(is_number).find(|port| port.name == name);
    let mut numbers = config.outputs.iter().filter(is_number);
    let found = match (config.parameters.get(EMBEDDINGS_OUTPUT), numbers.next(), numbers.next()) {
        (Some(name), ..) => named(name),
        (None, Some(only), None) => Some(only),
        _ => named("sentence_embedding").or_else(|| named("last_hidden_state")),
    };
    found.ok_or_else(|| {
        Failure::invalid(format!(
            "model '{}' has no output that is known to be an embedding; the parameter {EMBEDDINGS_OUTPUT} of its configuration names \
             one of numbers",
            config.name
        ))
    })
}

/// The runs for the entries of a request.
async fn parts(entries: Entries, config: &Config) -> Result<(Vec<Part>, Usage), Failure> {
    let takes_texts = matches!(config.inputs.as_slice(), [port] if port.dtype == DType::String);
    let tokens = match entries {
        Entries::Text(text) if takes_texts => return Ok((vec![of_text(0, text, config)?], Usage::default())),
        Entries::Texts(texts) if takes_texts => {
            let runs = texts.into_iter().enumerate().map(|(entry, text)| of_text(entry, text, config));
            return Ok((runs.collect::<Result<_, _>>()?, Usage::default()));
        }
        _ if takes_texts => {
            return Err(Failure::invalid(format!(
                "model '{}' takes texts and has its own tokenizer; send 'input' as a text or a list of texts",
                config.name
            )));
        }
        Entries::Text(text) => {
            texts::takes_tokens(config)?;
            Texts::tokens(config, vec![text]).await?
        }
        Entries::Texts(texts) => {
            texts::takes_tokens(config)?;
            Texts::tokens(config, texts).await?
        }
        Entries::Tokens(ids) => of_ids(config, vec![ids])?,
        Entries::ManyTokens(many) => of_ids(config, many)?,
    };
    let usage = Usage {
        read: tokens.iter().map(|tokens| tokens.ids.len()).sum(),
        left_out: tokens.iter().map(|tokens| tokens.left_out).sum(),
    };
    Ok((texts::parts(config, &tokens)?, usage))
}

fn of_ids(config: &Config, many: Vec<Vec<i64>>) -> Result<Vec<Tokens>, Failure> {
    texts::takes_tokens(config)?;
    many.iter().try_for_each(|ids| config.texts.refuse_long(ids.len()))?;
    Ok(many.into_iter().map(|ids| Tokens { ids, ..Tokens::default() }).collect())
}

/// The run for a text, in a model that has its tokenizer in the graph.
fn of_text(entry: usize, text: String, config: &Config) -> Result<Part, Failure> {
    let port = &config.inputs[0];
    let shape = vec![1; port.dims.len() + usize::from(config.max_batch > 0)];
    let inputs = vec![(port.name.clone(), Tensor::from_strings(&shape, vec![text])?)];
    Ok(Part { entries: vec![entry], tokens: vec![WHOLE], inputs })
}

/// The embedding of a vector.
fn embedding(mut vector: Vec<f64>, dimensions: Option<usize>, normalize: bool) -> Result<Vec<f32>, Failure> {
    let length = |vector: &[f64]| vector.iter().map(|number| number * number).sum::<f64>().sqrt();
    let mut unit = normalize;
    match dimensions {
        Some(dimensions) if dimensions == 0 || dimensions > vector.len() => {
            return Err(Failure::invalid(format!(
                "'dimensions' is {dimensions}, and the model's embeddings have {}",
                vector.len()
            )));
        }
        Some(dimensions) => {
            unit |= (length(&vector) - 1.0).abs() < UNIT;
            vector.truncate(dimensions);
        }
        None => {}
    }
    let length = length(&vector);
    if unit && length > 0.0 {
        vector.iter_mut().for_each(|number| *number /= length);
    }
    Ok(vector.into_iter().map(|number| number as f32).collect())
}

fn written(model: &str, vectors: &[Vec<f32>], in_base64: bool, usage: Usage) -> Result<Bytes, Failure> {
    let mut data = Vec::with_capacity(vectors.len());
    for (index, vector) in vectors.iter().enumerate() {
        if !in_base64 && vector.iter().any(|number| !number.is_finite()) {
            return Err(Failure::invalid(format!(
                "embedding {index} has a number that is not finite, which has no form in JSON; ask for 'base64'"
            )));
        }
        let embedding = match in_base64 {
            true => BASE64
                .encode(vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
                .into(),
            false => json!(vector),
        };
        data.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
    }
    let mut counts = json!({"prompt_tokens": usage.read, "total_tokens": usage.read});
    if usage.left_out > 0 {
        counts["truncated_tokens"] = usage.left_out.into();
    }
    let answer = json!({"object": "list", "data": data, "model": model, "usage": counts});
    serde_json::to_vec(&answer)
        .map(Bytes::from)
        .map_err(|_| Failure::new(Reason::Internal, "the answer has no form in JSON"))
}
