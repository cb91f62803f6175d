//! OpenAI's list of models, and its embeddings from models of texts.
//!
//! A model gives embeddings if it takes tokens, or texts:
//! * tokens: the input `input_ids`, and `attention_mask` and `token_type_ids` if it has them, of INT64 or INT32. A request has lists of
//!   tokens; the server has no tokenizer of its own, and refuses texts.
//! * texts: one input of BYTES, of a model whose graph has the tokenizer. A request has texts.
//!
//! The embedding is in the output that the parameter [`EMBEDDINGS_OUTPUT`] of the configuration names, or else in the only output of
//! numbers, in `sentence_embedding` or in `last_hidden_state`. If it has a vector for each token, their mean is taken: each entry of a
//! request is run for itself, with as many tokens as it has, so that no token is padding. With the parameter [`EMBEDDINGS_NORMALIZE`],
//! vectors have the length 1. `dimensions` takes the first numbers of a vector, which models that were trained so allow.
//! `usage` counts the tokens of the request, and none for texts.

use std::borrow::Cow;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use half::{bf16, f16};
use sardonyx::{DType, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::v2::request::read;
use super::{Caller, Http, SMALL, off_the_reactor};
use crate::config::parameters::{EMBEDDINGS_NORMALIZE, EMBEDDINGS_OUTPUT};
use crate::config::{Config, Port};
use crate::http::nested::BASE64;
use crate::{Failure, Request, WantedOutput, http};

/// The entries of a request, as OpenAI limits them.
const ENTRIES: usize = 2048;

/// The entries of one request that wait in the model's queue at once.
const AT_ONCE: usize = 32;

pub(super) fn router() -> Router<Http> {
    Router::new().route("/v1/models", get(models)).route("/v1/embeddings", post(embeddings))
}

/// A model, as OpenAI's clients read it.
pub(super) fn entry(model: &str) -> Value {
    json!({"id": model, "object": "model", "created": 0, "owned_by": "sardonyx"})
}

/// The models that answer requests, for clients of OpenAI and of KServe's first protocol.
async fn models(State(http): State<Http>) -> Response {
    let mut names: Vec<String> = http.service.index(true).into_iter().map(|entry| entry.name).collect();
    names.dedup();
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
    answer.unwrap_or_else(|failure| {
        // The status and the headers of all failures, and OpenAI's form of the body.
        let text = failure.text.clone();
        let plain = failure.into_response();
        let kind = if plain.status().is_client_error() { "invalid_request_error" } else { "server_error" };
        let code = (plain.status() == StatusCode::NOT_FOUND).then_some("model_not_found");
        let error = json!({"error": {"message": text, "type": kind, "param": null, "code": code}});
        let mut response = (plain.status(), http::json(&error)).into_response();
        for (name, value) in plain.headers() {
            if name != axum::http::header::CONTENT_TYPE && name != axum::http::header::CONTENT_LENGTH {
                response.headers_mut().insert(name.clone(), value.clone());
            }
        }
        response
    })
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

/// One of them.
enum Entry {
    Text(String),
    Tokens(Vec<i64>),
}

impl Entries {
    fn all(self) -> Result<Vec<Entry>, Failure> {
        let entries: Vec<Entry> = match self {
            Entries::Text(text) => vec![Entry::Text(text)],
            Entries::Texts(texts) => texts.into_iter().map(Entry::Text).collect(),
            Entries::Tokens(tokens) => vec![Entry::Tokens(tokens)],
            Entries::ManyTokens(many) => many.into_iter().map(Entry::Tokens).collect(),
        };
        let is_empty = |entry: &Entry| match entry {
            Entry::Text(text) => text.is_empty(),
            Entry::Tokens(tokens) => tokens.is_empty(),
        };
        match entries.len() {
            0 => Err(Failure::invalid("'input' is empty")),
            1..=ENTRIES if entries.iter().any(is_empty) => {
                Err(Failure::invalid("'input' has an empty text, or an empty list of tokens"))
            }
            1..=ENTRIES => Ok(entries),
            more => Err(Failure::invalid(format!("'input' has {more} entries; send {ENTRIES} at most"))),
        }
    }
}

async fn answer(http: &Http, caller: &Caller, headers: &HeaderMap, body: Body) -> Result<Response, Failure> {
    http::until(caller.deadline, async {
        let body = http::body::read(headers, body, &http.limits).await?;
        let large = body.len() > SMALL;
        let message: Embeddings = off_the_reactor(large, move || read(&body)).await?;
        let in_base64 = match message.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err(Failure::invalid("'encoding_format' is 'float' or 'base64'")),
        };
        let config = http.service.config(&message.model, "")?;
        let output = output(&config)?;
        let normalize = normalizes(&config)?;
        let entries = message.input.all()?;
        let tokens: usize =
            entries.iter().map(|entry| if let Entry::Tokens(ids) = entry { ids.len() } else { 0 }).sum();
        let (config, model, dimensions) = (&config, &message.model, message.dimensions);
        let vectors = stream::iter(entries).map(|entry| async move {
            let inputs = inputs(entry, config)?;
            let outputs = vec![WantedOutput { name: output.name.clone(), classes: 0 }];
            let request =
                caller.asks(Request { model: model.clone(), inputs, outputs, ..Request::default() });
            let answer = http.service.infer(request).await?;
            vector(answer.outputs, &output.name, dimensions, normalize)
        });
        let vectors: Vec<Vec<f32>> = vectors.buffered(AT_ONCE).try_collect().await?;
        let large = vectors.iter().map(|vector| 4 * vector.len()).sum::<usize>() > SMALL;
        let model = message.model.clone();
        let json = off_the_reactor(large, move || written(&model, &vectors, in_base64, tokens)).await?;
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

fn normalizes(config: &Config) -> Result<bool, Failure> {
    match config.parameters.get(EMBEDDINGS_NORMALIZE).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Failure::new(
            crate::Reason::Internal,
            format!(
                "the parameter {EMBEDDINGS_NORMALIZE} of model '{}' is neither 'true' nor 'false'",
                config.name
            ),
        )),
    }
}

/// The model's inputs for one entry.
fn inputs(entry: Entry, config: &Config) -> Result<Vec<(String, Tensor)>, Failure> {
    let takes_texts = matches!(config.inputs.as_slice(), [port] if port.dtype == DType::String);
    let batch = usize::from(config.max_batch > 0);
    match entry {
        Entry::Text(text) if takes_texts => {
            let port = &config.inputs[0];
            let shape = vec![1; port.dims.len() + batch];
            Ok(vec![(port.name.clone(), Tensor::from_strings(&shape, vec![text])?)])
        }
        Entry::Tokens(_) if takes_texts => Err(Failure::invalid(format!(
            "model '{}' takes texts and has its own tokenizer; send 'input' as a text or a list of texts",
            config.name
        ))),
        Entry::Tokens(tokens) => {
            takes_tokens(config)?;
            config
                .inputs
                .iter()
                .filter(|port| !port.optional || is_of_tokens(port))
                .map(|port| of_tokens(port, &tokens, batch))
                .collect()
        }
        Entry::Text(_) => {
            takes_tokens(config)?;
            Err(Failure::invalid(format!(
                "model '{}' takes tokens, and this server has no tokenizer: send 'input' as lists of the numbers of tokens",
                config.name
            )))
        }
    }
}

fn is_of_tokens(port: &Port) -> bool {
    matches!(port.name.as_str(), "input_ids" | "attention_mask" | "token_type_ids")
        && matches!(port.dtype, DType::I64 | DType::I32)
}

fn takes_tokens(config: &Config) -> Result<(), Failure> {
    let fits = config.inputs.iter().any(|port| port.name == "input_ids")
        && config.inputs.iter().all(|port| port.optional || is_of_tokens(port));
    match fits {
        true => Ok(()),
        false => Err(Failure::invalid(format!(
            "model '{}' gives no embeddings over this protocol: it takes neither one text nor 'input_ids', 'attention_mask' and \
             'token_type_ids' alone; use /v2/models/{}/infer",
            config.name, config.name
        ))),
    }
}

fn of_tokens(port: &Port, tokens: &[i64], batch: usize) -> Result<(String, Tensor), Failure> {
    let shape = match port.dims.len() + batch {
        1 => vec![tokens.len()],
        _ => vec![1, tokens.len()],
    };
    let values: Cow<'_, [i64]> = match port.name.as_str() {
        "input_ids" => Cow::Borrowed(tokens),
        "attention_mask" => Cow::Owned(vec![1; tokens.len()]),
        _ => Cow::Owned(vec![0; tokens.len()]),
    };
    let tensor = match port.dtype {
        DType::I32 => {
            let narrow = |&value: &i64| {
                i32::try_from(value).map_err(|_| Failure::invalid(format!("token {value} is no INT32")))
            };
            Tensor::from_vec(&shape, values.iter().map(narrow).collect::<Result<Vec<i32>, Failure>>()?)?
        }
        _ => Tensor::from_vec(&shape, values.into_owned())?,
    };
    Ok((port.name.clone(), tensor))
}

/// The embedding in a model's answer to one entry.
fn vector(
    outputs: Vec<(String, Tensor)>,
    name: &str,
    dimensions: Option<usize>,
    normalize: bool,
) -> Result<Vec<f32>, Failure> {
    let no_vector = |shape: &[usize]| {
        Failure::invalid(format!(
            "output '{name}' has the shape {shape:?} for one entry, which is no embedding; one has the shape [size], [1, size] or \
             [1, tokens, size]"
        ))
    };
    let tensor = outputs.into_iter().find(|(output, _)| output == name).map(|(_, tensor)| tensor);
    let tensor = tensor.ok_or_else(|| no_vector(&[]))?;
    let (tokens, size) = match *tensor.shape() {
        [size] | [1, size] => (1, size),
        [1, tokens, size] if tokens > 0 => (tokens, size),
        _ => return Err(no_vector(tensor.shape())),
    };
    let numbers: Vec<f64> = numbers(&tensor)?;
    let mut vector: Vec<f64> = (0..size)
        .map(|at| (0..tokens).map(|token| numbers[token * size + at]).sum::<f64>() / tokens as f64)
        .collect();
    match dimensions {
        Some(dimensions) if dimensions == 0 || dimensions > size => {
            return Err(Failure::invalid(format!(
                "'dimensions' is {dimensions}, and the model's embeddings have {size}"
            )));
        }
        Some(dimensions) => vector.truncate(dimensions),
        None => {}
    }
    if normalize {
        let length = vector.iter().map(|number| number * number).sum::<f64>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|number| *number /= length);
        }
    }
    Ok(vector.into_iter().map(|number| number as f32).collect())
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>, Failure> {
    let bytes = tensor.bytes();
    let halves = || bytes.as_chunks::<2>().0.iter();
    Ok(match tensor.dtype() {
        DType::F64 => tensor.to_vec::<f64>()?,
        DType::F16 => halves().map(|bytes| f16::from_le_bytes(*bytes).to_f64()).collect(),
        DType::BF16 => halves().map(|bytes| bf16::from_le_bytes(*bytes).to_f64()).collect(),
        _ => tensor.to_vec::<f32>()?.into_iter().map(f64::from).collect(),
    })
}

fn written(model: &str, vectors: &[Vec<f32>], in_base64: bool, tokens: usize) -> Result<Bytes, Failure> {
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
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    let answer = json!({"object": "list", "data": data, "model": model, "usage": usage});
    serde_json::to_vec(&answer)
        .map(Bytes::from)
        .map_err(|_| Failure::new(crate::Reason::Internal, "the answer has no form in JSON"))
}
