//! Inference.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::Bytes;

use super::request::{self, Forms};
use super::response;
use crate::http::{self, Caller, Http, InPath, JSON_BYTES, SMALL, Target, off_the_reactor};
use crate::{Failure, Request, Response as Answer};

pub(super) async fn infer(
    State(http): State<Http>,
    InPath(target): InPath<Target>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    http::until(caller.deadline, async {
        let body = http::body::read(&headers, body, &http.limits).await?;
        let (request, forms) = decoded(&http, &target, &headers, body).await?;
        let request = caller.asks(Request { model: target.model, version: target.version, ..request });
        let answer = http.service.infer(request).await?;
        written(&http, &headers, answer, forms).await
    })
    .await
}

async fn decoded(
    http: &Http,
    target: &Target,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<(Request, Forms), Failure> {
    let json_bytes =
        match headers.get(&JSON_BYTES) {
            None => None,
            Some(value) => {
                let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
                Some(number.ok_or_else(|| {
                    Failure::invalid("Inference-Header-Content-Length is a number of bytes")
                })?)
            }
        };
    if json_bytes == Some(0) {
        let config = http.service.config(&target.model, &target.version)?;
        return request::decode_raw(body, &config);
    }
    let large = body.len() > SMALL || http.service.memory().is_on();
    let Http { service, limits } = http.clone();
    off_the_reactor(large, move || request::decode(&body, json_bytes, &limits, service.memory())).await
}

async fn written(
    http: &Http,
    headers: &HeaderMap,
    answer: Answer,
    forms: Forms,
) -> Result<Response, Failure> {
    let large = http::are_large(&answer.outputs) || http.service.memory().is_on();
    let service = http.service.clone();
    let body = off_the_reactor(large, move || response::encode(answer, &forms, service.memory())).await?;
    let json_bytes = body.json.len();
    if body.binary.is_empty() {
        return http::in_parts(headers, "application/json", vec![body.json.into()]).await;
    }
    let parts = std::iter::once(body.json.into()).chain(body.binary).collect();
    let mut response = http::in_parts(headers, "application/octet-stream", parts).await?;
    response.headers_mut().insert(&JSON_BYTES, HeaderValue::from(json_bytes));
    Ok(response)
}
