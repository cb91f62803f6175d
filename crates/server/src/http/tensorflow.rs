//! TensorFlow Serving's REST interface, which is KServe's first protocol too: the state and the signature of a model, and `:predict`,
//! `:classify` and `:regress`.
//!
//! * `instances` (rows) are answered with `predictions`, `inputs` (columns) with `outputs`, as [`super::nested`] has them. A model of
//!   one input takes values without its name, and one of one output answers so.
//! * Every model has one signature, whatever `signature_name` says.
//! * `:classify` and `:regress` are for models of one FP32 input and one FP32 output: each example has the input's values under the
//!   input's name. `:classify` answers with the scores of the output's labels, or of the classes' numbers, in their order.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use sardonyx::{DType, Tensor};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::v2::json::string_into;
use super::v2::request::{about, read};
use super::{Caller, Http, InPath, SMALL, Target, nested, off_the_reactor, openai};
use crate::config::{Config, Port};
use crate::repository::State as Serving;
use crate::{Failure, Reason, Request, http, raw};

pub(super) fn router() -> Router<Http> {
    let models = [
        "/v1/models/{model}",
        "/v1/models/{model}/versions/{version}",
        "/v1/models/{model}/labels/{version}",
    ];
    models.into_iter().fold(Router::new(), |router, path| {
        router.route(path, get(status).post(call)).route(&format!("{path}/metadata"), get(metadata))
    })
}

/// The states of a model's versions, with what KServe's and OpenAI's clients read.
async fn status(State(http): State<Http>, InPath(target): InPath<Target>) -> Result<Response, Failure> {
    let Target { model, version } = target;
    let entries = http.service.states(&model, &version)?;
    let states = entries.iter().map(|entry| {
        let (state, code, text) = match entry.state {
            Serving::Ready => ("AVAILABLE", "OK", ""),
            Serving::Loading => ("LOADING", "OK", ""),
            Serving::Unloading => ("UNLOADING", "OK", ""),
            Serving::Unavailable => ("END", "UNAVAILABLE", entry.reason.as_str()),
        };
        json!({"version": entry.version, "state": state, "status": {"error_code": code, "error_message": text}})
    });
    let mut shown = openai::entry(&model);
    shown["model_version_status"] = states.collect();
    shown["ready"] = http.service.model_ready(&model, &version).into();
    shown["name"] = model.into();
    Ok(http::json(&shown))
}

async fn metadata(State(http): State<Http>, InPath(target): InPath<Target>) -> Result<Response, Failure> {
    let config = http.service.config(&target.model, &target.version)?;
    let mut versions = http.service.metadata(&target.model, &target.version)?.versions;
    let ports = |ports: &[Port]| -> Value {
        let batch = (config.max_batch > 0).then_some(None);
        let shown = ports.iter().map(|port| {
            let sizes = batch.iter().chain(&port.dims);
            let size = |size: &Option<usize>| size.map_or("-1".into(), |size| size.to_string());
            let dim: Vec<Value> = sizes.map(|dim| json!({"size": size(dim), "name": ""})).collect();
            let info = json!({"dtype": type_name(port.dtype), "tensor_shape": {"dim": dim, "unknown_rank": false},
                "name": port.name});
            (port.name.clone(), info)
        });
        Value::Object(shown.collect())
    };
    let signature = json!({"inputs": ports(&config.inputs), "outputs": ports(&config.outputs),
        "method_name": "tensorflow/serving/predict"});
    Ok(http::json(&json!({
        "model_spec": {"name": config.name, "signature_name": "", "version": versions.pop()},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    })))
}

fn type_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "DT_BOOL",
        DType::U8 => "DT_UINT8",
        DType::U16 => "DT_UINT16",
        DType::U32 => "DT_UINT32",
        DType::U64 => "DT_UINT64",
        DType::I8 => "DT_INT8",
        DType::I16 => "DT_INT16",
        DType::I32 => "DT_INT32",
        DType::I64 => "DT_INT64",
        DType::F16 => "DT_HALF",
        DType::BF16 => "DT_BFLOAT16",
        DType::F32 => "DT_FLOAT",
        DType::F64 => "DT_DOUBLE",
        DType::String => "DT_STRING",
        _ => "DT_INVALID",
    }
}

/// What a path asks for after its colon.
#[derive(Clone, Copy, Debug)]
enum Method {
    Predict,
    Classify,
    Regress,
}

/// The method that the last name of a path ends in, which is taken off.
fn method(target: &mut Target) -> Result<Method, Failure> {
    let last = if target.version.is_empty() { &mut target.model } else { &mut target.version };
    let (name, method) = last.rsplit_once(':').unwrap_or((last, ""));
    let method = match method {
        "predict" => Method::Predict,
        "classify" => Method::Classify,
        "regress" => Method::Regress,
        "explain" => {
            return Err(Failure::new(Reason::Unimplemented, "this server explains no answers; use :predict"));
        }
        _ => {
            return Err(Failure::new(
                Reason::NotFound,
                "the path names no method; it ends in :predict, :classify or :regress",
            ));
        }
    };
    *last = name.to_owned();
    Ok(method)
}

async fn call(
    State(http): State<Http>,
    InPath(mut target): InPath<Target>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let method = method(&mut target)?;
    http::until(caller.deadline, async {
        let body = http::body::read(&headers, body, &http.limits).await?;
        let config = http.service.config(&target.model, &target.version)?;
        let decoded = {
            let config = config.clone();
            off_the_reactor(body.len() > SMALL, move || match method {
                Method::Predict => decode(body, &config),
                Method::Classify | Method::Regress => Ok((examples(body, &config)?, Form::Rows)),
            })
        };
        let (inputs, form) = decoded.await?;
        let Target { model, version } = target;
        let request = caller.asks(Request { model, version, inputs, ..Request::default() });
        let outputs = http.service.infer(request).await?.outputs;
        let large = http::are_large(&outputs);
        let json = off_the_reactor(large, move || match method {
            Method::Predict => encode(&outputs, form),
            Method::Classify => shown_classes(&outputs, &config),
            Method::Regress => shown_values(&outputs),
        });
        http::in_parts(&headers, "application/json", vec![json.await?.into()]).await
    })
    .await
}

/// How a request has its tensors, and its answer too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    /// A list of rows, each with a part of every tensor.
    Rows,
    /// Every tensor for itself.
    Columns,
}

#[derive(Deserialize)]
struct Predict<'a> {
    /// It is accepted; a model has one signature.
    #[serde(rename = "signature_name")]
    _signature_name: Option<String>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
}

/// The inputs in a body of `:predict`.
///
/// # Errors
/// [`Reason::Invalid`].
pub(super) fn decode(body: Bytes, config: &Config) -> Result<(Vec<(String, Tensor)>, Form), Failure> {
    let body = nested::as_json(body);
    let message: Predict<'_> = read(&body)?;
    match (message.instances, message.inputs) {
        (Some(instances), None) => Ok((rows(instances, config)?, Form::Rows)),
        (None, Some(inputs)) => Ok((columns(inputs.get(), config)?, Form::Columns)),
        (None, None) => Err(Failure::invalid("the body has neither 'instances' nor 'inputs'")),
        (Some(_), Some(_)) => Err(Failure::invalid("the body has both 'instances' and 'inputs'; send one")),
    }
}

/// The inputs of which each is one value, or the only input.
///
/// # Errors
/// [`Reason::Invalid`].
pub(super) fn columns(json: &str, config: &Config) -> Result<Vec<(String, Tensor)>, Failure> {
    if !nested::is_named(json) {
        return Ok(vec![input(only_input(config)?, json)?]);
    }
    let columns: BTreeMap<String, &RawValue> = read(json.as_bytes())?;
    columns.into_iter().map(|(name, json)| input(port(config, &name)?, json.get())).collect()
}

fn rows(json: &RawValue, config: &Config) -> Result<Vec<(String, Tensor)>, Failure> {
    let rows: Vec<&RawValue> =
        serde_json::from_str(json.get()).map_err(|_| Failure::invalid("'instances' is no list"))?;
    let Some(first) = rows.first() else { return Err(Failure::invalid("'instances' is an empty list")) };
    if !nested::is_named(first.get()) {
        return Ok(vec![input(only_input(config)?, json.get())?]);
    }
    joined(&rows, "instance", config)
}

/// The inputs of rows that are objects by the names of inputs.
fn joined(rows: &[&RawValue], kind: &str, config: &Config) -> Result<Vec<(String, Tensor)>, Failure> {
    let mut columns: BTreeMap<String, String> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        let row: BTreeMap<String, &RawValue> = serde_json::from_str(row.get()).map_err(|_| {
            Failure::invalid(format!("{kind} {at} is no object of values by the names of inputs"))
        })?;
        if at > 0 && !row.keys().eq(columns.keys()) {
            return Err(Failure::invalid(format!("{kind} {at} has other inputs than the first")));
        }
        for (name, json) in row {
            let column = columns.entry(name).or_default();
            column.push(if at == 0 { '[' } else { ',' });
            column.push_str(json.get());
        }
    }
    let tensor = |(name, json): (String, String)| input(port(config, &name)?, &(json + "]"));
    columns.into_iter().map(tensor).collect()
}

fn input(port: &Port, json: &str) -> Result<(String, Tensor), Failure> {
    let tensor = nested::tensor(port.dtype, json).map_err(|failure| about("input", &port.name, failure))?;
    Ok((port.name.clone(), tensor))
}

fn port<'a>(config: &'a Config, name: &str) -> Result<&'a Port, Failure> {
    config.inputs.iter().find(|port| port.name == name).ok_or_else(|| {
        Failure::invalid(format!(
            "model '{}' has no input '{name:.200}'; it has {}",
            config.name,
            names(config)
        ))
    })
}

/// The input of a model that has one.
///
/// # Errors
/// [`Reason::Invalid`] if it has several.
pub(super) fn only_input(config: &Config) -> Result<&Port, Failure> {
    match config.inputs.as_slice() {
        [port] => Ok(port),
        inputs => Err(Failure::invalid(format!(
            "model '{}' has {} inputs: {}; give an object of values by these names",
            config.name,
            inputs.len(),
            names(config)
        ))),
    }
}

fn names(config: &Config) -> String {
    let names: Vec<String> = config.inputs.iter().map(|port| format!("'{}'", port.name)).collect();
    names.join(", ")
}

/// The body that answers `:predict`.
///
/// # Errors
/// [`Reason::Invalid`] if an output has no form in JSON, or its first dimension counts other rows than the first output's.
pub(super) fn encode(outputs: &[(String, Tensor)], form: Form) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    match form {
        Form::Columns => {
            out.extend_from_slice(b"{\"outputs\":");
            write_columns(&mut out, outputs)?;
        }
        Form::Rows => {
            out.extend_from_slice(b"{\"predictions\":[");
            for row in 0..row_count(outputs)? {
                if row > 0 {
                    out.push(b',');
                }
                write_named(&mut out, outputs, |out, name, tensor| {
                    nested::write_row(out, name, tensor, row)
                })?;
            }
            out.push(b']');
        }
    }
    out.push(b'}');
    Ok(out)
}

/// Appends the outputs as an object by their names, or the only one of them.
///
/// # Errors
/// [`Reason::Invalid`] if one has no form in JSON.
pub(super) fn write_columns(out: &mut Vec<u8>, outputs: &[(String, Tensor)]) -> Result<(), Failure> {
    outputs.iter().try_for_each(|(name, tensor)| nested::refuse_endless(name, tensor))?;
    write_named(out, outputs, nested::write)
}

fn write_named(
    out: &mut Vec<u8>,
    outputs: &[(String, Tensor)],
    write: impl Fn(&mut Vec<u8>, &str, &Tensor) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if let [(name, tensor)] = outputs {
        return write(out, name, tensor);
    }
    out.push(b'{');
    for (at, (name, tensor)) in outputs.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        string_into(out, name);
        out.push(b':');
        write(out, name, tensor)?;
    }
    out.push(b'}');
    Ok(())
}

fn row_count(outputs: &[(String, Tensor)]) -> Result<usize, Failure> {
    let mut count = None;
    for (name, tensor) in outputs {
        nested::refuse_endless(name, tensor)?;
        let rows = tensor.shape().first().copied();
        if rows.is_none() || count.is_some_and(|count| Some(count) != rows) {
            return Err(Failure::invalid(format!(
                "output '{name}' has the shape {:?}, which are no rows like those of the other outputs; send 'inputs' in place of \
                 'instances'",
                tensor.shape()
            )));
        }
        count = rows;
    }
    Ok(count.unwrap_or(0))
}

#[derive(Deserialize)]
struct Examples<'a> {
    /// Values that all examples share.
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    examples: Vec<&'a RawValue>,
}

/// The input in a body of `:classify` or `:regress`.
fn examples(body: Bytes, config: &Config) -> Result<Vec<(String, Tensor)>, Failure> {
    refuse_unless_one_of_each(config)?;
    let body = nested::as_json(body);
    let message: Examples<'_> = read(&body)?;
    if message.context.is_some() {
        return Err(Failure::new(
            Reason::Unimplemented,
            "a 'context' is not served; repeat it in each example",
        ));
    }
    if message.examples.is_empty() {
        return Err(Failure::invalid("'examples' is an empty list"));
    }
    let inputs = joined(&message.examples, "example", config)?;
    let ranks = config.inputs.first().map(|port| port.dims.len() + usize::from(config.max_batch > 0));
    let as_lists = |(name, tensor): (String, Tensor)| match *tensor.shape() {
        // A feature of one value may be no list.
        [rows] if ranks == Some(2) => Ok((name, raw::tensor(DType::F32, &[rows, 1], tensor.into_bytes())?)),
        _ => Ok((name, tensor)),
    };
    inputs.into_iter().map(as_lists).collect()
}

/// Refuses `classify` and `regress` for a model that they are not for.
///
/// # Errors
/// [`Reason::Unimplemented`] unless the model has one FP32 input and one FP32 output.
pub(crate) fn refuse_unless_one_of_each(config: &Config) -> Result<(), Failure> {
    let one = |ports: &[Port]| ports.len() == 1 && ports.iter().all(|port| port.dtype == DType::F32);
    if one(&config.inputs) && one(&config.outputs) {
        return Ok(());
    }
    Err(Failure::new(
        Reason::Unimplemented,
        format!(
            "classify and regress are for models of one FP32 input and one FP32 output, which model '{}' is not; use :predict, over gRPC Predict",
            config.name
        ),
    ))
}

/// The number of classes, and the scores of all rows of the only output.
///
/// # Errors
/// [`Reason::Invalid`] if the output has no rows of scores.
pub(crate) fn scores(outputs: &[(String, Tensor)]) -> Result<(usize, Vec<f32>), Failure> {
    let [(name, tensor)] = outputs else { return Err(no_results()) };
    let [_, classes] = *tensor.shape() else {
        return Err(Failure::invalid(format!(
            "output '{name}' has the shape {:?}; classify takes rows of scores, [rows, classes]",
            tensor.shape()
        )));
    };
    nested::refuse_endless(name, tensor)?;
    Ok((classes, tensor.to_vec::<f32>()?))
}

/// The label of a class of the only output, or else its number.
pub(crate) fn label(config: &Config, class: usize) -> String {
    let labels = config.outputs.first().map_or(&[][..], |port| &port.labels);
    labels.get(class).filter(|label| !label.is_empty()).cloned().unwrap_or_else(|| class.to_string())
}

/// The values of the only output, of which each row has one.
///
/// # Errors
/// [`Reason::Invalid`] if a row has several.
pub(crate) fn values(outputs: &[(String, Tensor)]) -> Result<Vec<f32>, Failure> {
    let [(name, tensor)] = outputs else { return Err(no_results()) };
    match *tensor.shape() {
        [_] | [_, 1] => Ok(tensor.to_vec::<f32>()?),
        _ => Err(Failure::invalid(format!(
            "output '{name}' has the shape {:?}; regress takes one value a row",
            tensor.shape()
        ))),
    }
}

/// The scores of the rows, each with its class.
fn shown_classes(outputs: &[(String, Tensor)], config: &Config) -> Result<Vec<u8>, Failure> {
    let (classes, scores) = scores(outputs)?;
    let rows = outputs.first().and_then(|(_, tensor)| tensor.shape().first().copied()).unwrap_or(0);
    let labels: Vec<String> = (0..classes).map(|class| label(config, class)).collect();
    write_results(rows, |out, row| {
        out.push(b'[');
        for (class, label) in labels.iter().enumerate() {
            out.extend_from_slice(if class > 0 { b",[" } else { b"[" });
            string_into(out, label);
            out.push(b',');
            nested::float(out, &scores[row * classes + class]);
            out.push(b']');
        }
        out.push(b']');
    })
}

fn shown_values(outputs: &[(String, Tensor)]) -> Result<Vec<u8>, Failure> {
    let values = values(outputs)?;
    write_results(values.len(), |out, row| nested::float(out, &values[row]))
}

fn no_results() -> Failure {
    Failure::new(Reason::Internal, "the model has not answered with its only output")
}

fn write_results(rows: usize, write: impl Fn(&mut Vec<u8>, usize)) -> Result<Vec<u8>, Failure> {
    let mut out = b"{\"results\":[".to_vec();
    for row in 0..rows {
        if row > 0 {
            out.push(b',');
        }
        write(&mut out, row);
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}
