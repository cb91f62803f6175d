//! The generate extension: a text in, a text out, in place of tensors. Each member of the request's object is the input of that name;
//! `parameters`, and what is no input, are parameters of the request. A model of tokens that has a tokenizer takes `text_input`, and
//! answers with its outputs for that text.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use sardonyx::{DType, Tensor};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::json;
use super::request::{self, Values, about};
use crate::config::{Config, Port};
use crate::http::{self, Caller, Http, InPath, Target, json_bytes, nested};
use crate::texts;
use crate::{Failure, Reason, Request};

pub(super) async fn generate(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    Ok(json_bytes(answer(&http, target, &caller, &headers, body).await?.into()))
}

/// One event of the stream that clients read: a model here gives one answer.
pub(super) async fn generate_stream(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let json = answer(&http, target, &caller, &headers, body).await?;
    let event = [Bytes::from_static(b"data: "), json.into(), Bytes::from_static(b"\n\n")];
    http::in_parts(&HeaderMap::new(), "text/event-stream; charset=utf-8", event.into()).await
}

async fn answer(
    http: &Http,
    target: Target,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<u8>, Failure> {
    http::until(caller.deadline, async {
        let body = http::body::read(headers, body, &http.limits).await?;
        let config = http.service.config(&target.model, &target.version)?;
        let of_tokens = texts::takes_tokens(&config).is_ok();
        let (large, of_model) = (body.len() > http::SMALL, config.clone());
        let request = match of_tokens {
            true => {
                let (text, request) = http::off_the_reactor(large, move || one_text(&body)).await?;
                Request { inputs: inputs(text, &config).await?, ..request }
            }
            false => http::off_the_reactor(large, move || decode(&body, &of_model)).await?,
        };
        let request = caller.asks(Request { model: target.model, version: target.version, ..request });
        let answer = http.service.infer(request).await?;
        if of_tokens {
            let large = http::are_large(&answer.outputs);
            return http::off_the_reactor(large, move || numbers(&answer, config.max_batch > 0)).await;
        }
        http::off_the_reactor(http::are_large(&answer.outputs), move || texts_of(answer)).await
    })
    .await
}

/// The member of a request with the text for a tokenizer.
const TEXT: &str = "text_input";

/// An answer whose outputs are texts.
fn texts_of(answer: crate::Response) -> Result<Vec<u8>, Failure> {
    let mut shown = Map::new();
    shown.insert("model_name".into(), answer.model.into());
    shown.insert("model_version".into(), answer.version.into());
    for (name, tensor) in answer.outputs {
        let texts = tensor.strings().unwrap_or_default();
        let texts = match texts {
            [text] => Value::from(text.as_str()),
            texts => texts.iter().map(String::as_str).collect(),
        };
        shown.insert(name, texts);
    }
    serde_json::to_vec(&shown).map_err(|_| Failure::new(Reason::Internal, "the answer has no form in JSON"))
}

/// The text in `body`, for a model of tokens, and the request but for model, version and inputs.
fn one_text(body: &[u8]) -> Result<(String, Request), Failure> {
    let mut members: BTreeMap<String, &RawValue> = request::read(body)?;
    let text = members.remove(TEXT).map(|text| serde_json::from_str(text.get()));
    let Some(Ok(text)) = text else {
        return Err(Failure::invalid(format!("the body has no member '{TEXT}' with one text")));
    };
    Ok((text, with_parameters(Request::default(), members)?))
}

/// What a model of tokens takes for `text`.
async fn inputs(text: String, config: &Config) -> Result<Vec<(String, Tensor)>, Failure> {
    let tokens = texts::Texts::tokens(config, vec![text]).await?;
    let tokens = tokens.first().ok_or_else(|| Failure::invalid("there is no text"))?;
    Ok(texts::single(config, tokens)?.inputs)
}

/// An answer whose outputs are lists of numbers, or numbers.
fn numbers(answer: &crate::Response, batched: bool) -> Result<Vec<u8>, Failure> {
    let mut json = Vec::new();
    json.extend_from_slice(b"{\"model_name\":");
    json::string_into(&mut json, &answer.model);
    json.extend_from_slice(b",\"model_version\":");
    json::string_into(&mut json, &answer.version);
    for (name, tensor) in &answer.outputs {
        json.push(b',');
        json::string_into(&mut json, name);
        json.push(b':');
        nested::refuse_endless(name, tensor)?;
        match batched {
            true => nested::write_row(&mut json, name, tensor, 0)?,
            false => nested::write(&mut json, name, tensor)?,
        }
    }
    json.push(b'}');
    Ok(json)
}

/// The request in `body`, without model and version.
fn decode(body: &[u8], config: &Config) -> Result<Request, Failure> {
    let ([input], [_]) = (texts(&config.inputs)?, texts(&config.outputs)?) else {
        return Err(Failure::invalid("the model has no single text as input and as output; use infer"));
    };
    let mut members: BTreeMap<String, &RawValue> = request::read(body)?;
    let Some(text) = members.remove(&input.name) else {
        return Err(Failure::invalid(format!(
            "the body has no member '{}', which is the model's input",
            input.name
        )));
    };
    let tensor =
        tensor(text, input, config.max_batch > 0).map_err(|failure| about("input", &input.name, failure))?;
    let request = Request { inputs: vec![(input.name.clone(), tensor)], ..Request::default() };
    with_parameters(request, members)
}

fn with_parameters(
    mut request: Request,
    mut members: BTreeMap<String, &RawValue>,
) -> Result<Request, Failure> {
    let mut parameters = match members.remove("parameters") {
        Some(parameters) => request::read::<Values>(parameters.get().as_bytes())?.0,
        None => Default::default(),
    };
    for (name, value) in members {
        parameters.insert(name, request::read::<request::Value>(value.get().as_bytes())?.0);
    }
    for (name, value) in parameters {
        request.set_parameter(&name, value)?;
    }
    Ok(request)
}

fn texts(ports: &[Port]) -> Result<&[Port], Failure> {
    match ports.iter().find(|port| port.dtype != DType::String) {
        Some(port) => Err(Failure::invalid(format!("'{}' of the model is no text; use infer", port.name))),
        None => Ok(ports),
    }
}

/// One text or a list of them, as one row of a batch.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

fn tensor(json: &RawValue, port: &Port, batched: bool) -> Result<Tensor, Failure> {
    let texts = serde_json::from_str(json.get())
        .map_err(|_| Failure::invalid("it is neither a text nor a list of texts"))?;
    let texts = match texts {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    };
    let count = texts.len();
    // The first dimension that the model leaves open counts the texts; others are 1.
    let open = port.dims.iter().position(Option::is_none);
    let dims =
        port.dims.iter().enumerate().map(|(at, dim)| dim.unwrap_or(if Some(at) == open { count } else { 1 }));
    let shape: Vec<usize> = batched.then_some(1).into_iter().chain(dims).collect();
    Tensor::from_strings(&shape, texts).map_err(|_| {
        Failure::invalid(format!("the model takes texts of shape {shape:?}, and {count} are given"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Parameter;

    fn port(name: &str, dtype: DType, dims: &[Option<usize>]) -> Port {
        Port {
            name: name.into(),
            dtype,
            dims: dims.into(),
            optional: false,
            ragged: false,
            labels: Vec::new(),
        }
    }

    #[test]
    fn texts_as_tensors() {
        let made = |json: &str, dims: &[Option<usize>], batched| {
            let raw = RawValue::from_string(json.into()).unwrap();
            tensor(&raw, &port("text_input", DType::String, dims), batched)
                .map(|tensor| tensor.shape().to_vec())
        };
        assert_eq!(made("\"a cat\"", &[Some(1)], true).unwrap(), [1, 1]);
        assert_eq!(made("\"a cat\"", &[], false).unwrap(), [0usize; 0]);
        assert_eq!(made("[\"a\",\"b\"]", &[None], false).unwrap(), [2]);
        assert_eq!(made("[\"a\",\"b\"]", &[None, None], false).unwrap(), [2, 1]);
        assert!(
            made("[\"a\",\"b\"]", &[Some(1)], true)
                .unwrap_err()
                .text
                .contains("shape [1, 1], and 2 are given")
        );
        assert!(made("1", &[Some(1)], true).unwrap_err().text.contains("neither a text nor"));
    }

    #[test]
    fn only_models_of_texts() {
        assert!(
            texts(&[port("x", DType::F32, &[])]).unwrap_err().text.contains("'x' of the model is no text")
        );
        assert_eq!(texts(&[port("x", DType::String, &[])]).unwrap().len(), 1);
    }

    #[test]
    fn members_that_are_parameters() {
        let values: Values = request::read(br#"{"stream":false,"temperature":0}"#).unwrap();
        assert_eq!(values.0["stream"], Parameter::Bool(false));
        assert!(request::read::<request::Value>(b"[1]").is_err());
    }
}
