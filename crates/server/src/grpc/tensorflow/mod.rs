//! TensorFlow Serving's protocol over gRPC.
//!
//! Every model has one signature, `serving_default`; a request may call it by any name. Outputs are typed values. `Classify` and
//! `Regress`, and `MultiInference` of both, are for models of one FP32 input and one FP32 output, as over HTTP.

mod examples;
mod tasks;
mod tensor;

use std::sync::Arc;

use sardonyx::Tensor;
use tonic::{Request, Response, Status};

use super::{Answer, Caller, until};
use crate::config::{Config, Port};
use crate::http::tensorflow::{label, scores, values};
use crate::http::{are_large, off_the_reactor};
use crate::proto::tensorflow::serving::model_service_server::{ModelService, ModelServiceServer};
use crate::proto::tensorflow::serving::model_spec::VersionChoice;
use crate::proto::tensorflow::serving::model_version_status::State;
use crate::proto::tensorflow::serving::prediction_service_server::{
    PredictionService, PredictionServiceServer,
};
use crate::proto::tensorflow::serving::*;
use crate::proto::tensorflow::{SignatureDef, TensorInfo, tensor_info};
use crate::repository::State as Serving;
use crate::{Failure, Service, WantedOutput};
use tasks::Method;

/// The two services. A message of more than `message_bytes` is refused.
pub(super) fn services(
    service: &Arc<Service>,
    message_bytes: usize,
) -> (PredictionServiceServer<Predictions>, ModelServiceServer<Models>) {
    let predictions = Predictions { service: service.clone(), limit: message_bytes };
    (
        PredictionServiceServer::new(predictions)
            .max_decoding_message_size(message_bytes)
            .max_encoding_message_size(usize::MAX),
        ModelServiceServer::new(Models(service.clone())),
    )
}

pub(super) struct Predictions {
    service: Arc<Service>,
    /// The bytes of a tensor whose values a request says in a few.
    limit: usize,
}

pub(super) struct Models(Arc<Service>);

/// The signature that every model has.
const SIGNATURE: &str = "serving_default";

/// The only field of a model's metadata that TensorFlow Serving has.
const SIGNATURES: &str = "signature_def";

/// Which model a request is for.
struct Target {
    model: String,
    /// A number, a label, or empty.
    version: String,
    signature: String,
}

impl Target {
    fn of(spec: Option<ModelSpec>) -> Result<Target, Failure> {
        let spec = spec.filter(|spec| !spec.name.is_empty());
        let ModelSpec { name, signature_name, version_choice } =
            spec.ok_or_else(|| Failure::invalid("the request has no model_spec with the model's name"))?;
        let version = match version_choice {
            Some(VersionChoice::Version(number)) => number.to_string(),
            Some(VersionChoice::VersionLabel(label)) => label,
            None => String::new(),
        };
        let signature = if signature_name.is_empty() { SIGNATURE.to_string() } else { signature_name };
        Ok(Target { model: name, version, signature })
    }

    /// What an answer of `version` says.
    fn shown(self, version: &str) -> ModelSpec {
        let version_choice = version.parse().ok().map(VersionChoice::Version);
        ModelSpec { name: self.model, signature_name: self.signature, version_choice }
    }
}

impl Predictions {
    async fn predicted(&self, message: PredictRequest, caller: Caller) -> Result<PredictResponse, Failure> {
        let PredictRequest { model_spec, inputs, output_filter } = message;
        let target = Target::of(model_spec)?;
        let bytes = |tensor: &crate::proto::tensorflow::TensorProto| prost::Message::encoded_len(tensor);
        let large = inputs.values().map(bytes).sum::<usize>() > LARGE || inputs.values().any(is_told_in_few);
        let limit = self.limit;
        let decoded = off_the_reactor(large, move || {
            let decode = |(name, proto)| match tensor::decode(proto, limit) {
                Ok(tensor) => Ok((name, tensor)),
                Err(failure) => Err(Failure { text: format!("input '{name}': {}", failure.text), ..failure }),
            };
            inputs.into_iter().map(decode).collect::<Result<Vec<_>, Failure>>()
        });
        let wanted = |name| WantedOutput { name, classes: 0 };
        let outputs = output_filter.into_iter().map(wanted).collect();
        let answer = self.asked(&target, decoded.await?, outputs, caller).await?;
        let large = are_large(&answer.outputs);
        let outputs = answer.outputs;
        let encoded = off_the_reactor(large, move || {
            let encode = |(name, tensor): (String, Tensor)| match tensor::encode(&tensor) {
                Ok(proto) => Ok((name, proto)),
                Err(failure) => {
                    Err(Failure { text: format!("output '{name}': {}", failure.text), ..failure })
                }
            };
            outputs.into_iter().map(encode).collect::<Result<_, Failure>>()
        });
        Ok(PredictResponse { outputs: encoded.await?, model_spec: Some(target.shown(&answer.version)) })
    }

    /// The answer to `examples`, and the model's configuration.
    async fn of_examples(
        &self,
        target: &Target,
        examples: Option<Input>,
        caller: Caller,
    ) -> Result<(crate::Response, Arc<Config>), Failure> {
        let config = self.service.config(&target.model, &target.version)?;
        let inputs = {
            let config = config.clone();
            off_the_reactor(true, move || examples::inputs(examples, &config)).await?
        };
        Ok((self.asked(target, inputs, Vec::new(), caller).await?, config))
    }

    /// The results of several tasks, for which the model runs once.
    async fn of_tasks(
        &self,
        message: MultiInferenceRequest,
        caller: Caller,
    ) -> Result<MultiInferenceResponse, Failure> {
        let MultiInferenceRequest { tasks, input } = message;
        let tasks = tasks::read(tasks)?;
        let Some((target, _)) = tasks.first() else { return Ok(MultiInferenceResponse::default()) };
        let (answer, config) = self.of_examples(target, input, caller).await?;
        let bytes: usize = answer.outputs.iter().map(|(_, tensor)| tensor.bytes().len()).sum();
        let large = bytes * tasks.len() > LARGE;
        let results = off_the_reactor(large, move || {
            let result = |(target, method): (Target, Method)| {
                let result = match method {
                    Method::Classify => {
                        inference_result::Result::ClassificationResult(classified(&answer.outputs, &config)?)
                    }
                    Method::Regress => {
                        inference_result::Result::RegressionResult(regressed(&answer.outputs)?)
                    }
                };
                let model_spec = Some(target.shown(&answer.version));
                Ok(InferenceResult { model_spec, result: Some(result) })
            };
            tasks.into_iter().map(result).collect::<Result<_, Failure>>()
        });
        Ok(MultiInferenceResponse { results: results.await? })
    }

    async fn asked(
        &self,
        target: &Target,
        inputs: Vec<(String, Tensor)>,
        outputs: Vec<WantedOutput>,
        caller: Caller,
    ) -> Result<crate::Response, Failure> {
        let (model, version) = (target.model.clone(), target.version.clone());
        let request = crate::Request { model, version, inputs, outputs, ..crate::Request::default() };
        self.service.infer(caller.asks(request)).await
    }

    fn signatures(&self, message: GetModelMetadataRequest) -> Result<GetModelMetadataResponse, Failure> {
        let GetModelMetadataRequest { model_spec, metadata_field } = message;
        let mut target = Target::of(model_spec)?;
        if metadata_field.is_empty() {
            let text = format!("the request has no metadata_field; ask for '{SIGNATURES}'");
            return Err(Failure::invalid(text));
        }
        if let Some(field) = metadata_field.iter().find(|field| *field != SIGNATURES) {
            let text = format!("there is no metadata field '{field:.80}'; ask for '{SIGNATURES}'");
            return Err(Failure::invalid(text));
        }
        let config = self.service.config(&target.model, &target.version)?;
        let version = self.service.metadata(&target.model, &target.version)?.versions.pop();
        let info = |port: &Port| {
            let batch = (config.max_batch > 0).then_some(-1);
            let sizes = port.dims.iter().map(|dim| dim.map_or(-1, |size| size as i64));
            let info = TensorInfo {
                encoding: Some(tensor_info::Encoding::Name(port.name.clone())),
                dtype: tensor::data_type(port.dtype).unwrap_or_default().into(),
                tensor_shape: Some(tensor::shape(batch.into_iter().chain(sizes))),
            };
            (port.name.clone(), info)
        };
        let signature = SignatureDef {
            inputs: config.inputs.iter().map(info).collect(),
            outputs: config.outputs.iter().map(info).collect(),
            method_name: "tensorflow/serving/predict".into(),
        };
        let signatures = SignatureDefMap { signature_def: [(SIGNATURE.into(), signature)].into() };
        let any = prost_types::Any {
            type_url: "type.googleapis.com/tensorflow.serving.SignatureDefMap".into(),
            value: prost::Message::encode_to_vec(&signatures),
        };
        target.signature.clear();
        let spec = target.shown(version.as_deref().unwrap_or_default());
        Ok(GetModelMetadataResponse { model_spec: Some(spec), metadata: [(SIGNATURES.into(), any)].into() })
    }
}

/// The scores of all rows, each with its class.
fn classified(outputs: &[(String, Tensor)], config: &Config) -> Result<ClassificationResult, Failure> {
    let (classes, scores) = scores(outputs)?;
    let class = |(class, score): (usize, &f32)| Class { label: label(config, class), score: *score };
    let row = |row: &[f32]| Classifications { classes: row.iter().enumerate().map(class).collect() };
    // A row without classes has no scores to be found by.
    Ok(ClassificationResult { classifications: scores.chunks(classes.max(1)).map(row).collect() })
}

/// The values of all rows.
fn regressed(outputs: &[(String, Tensor)]) -> Result<RegressionResult, Failure> {
    let regressions = values(outputs)?.into_iter().map(|value| Regression { value }).collect();
    Ok(RegressionResult { regressions })
}

/// The bytes that are read on the reactor.
const LARGE: usize = 64 << 10;

/// Whether a tensor may be much larger than its message.
fn is_told_in_few(proto: &crate::proto::tensorflow::TensorProto) -> bool {
    let sizes = proto.tensor_shape.iter().flat_map(|shape| &shape.dim);
    let count = sizes.fold(1i64, |count, dim| count.saturating_mul(dim.size.max(1)));
    count > LARGE as i64
}

#[tonic::async_trait]
impl PredictionService for Predictions {
    async fn classify(&self, request: Request<ClassificationRequest>) -> Answer<ClassificationResponse> {
        let caller = Caller::of(&request);
        let work = async {
            let ClassificationRequest { model_spec, input } = request.into_inner();
            let target = Target::of(model_spec)?;
            let (answer, config) = self.of_examples(&target, input, caller.clone()).await?;
            let large = are_large(&answer.outputs);
            let outputs = answer.outputs;
            let result = Some(off_the_reactor(large, move || classified(&outputs, &config)).await?);
            Ok(ClassificationResponse { result, model_spec: Some(target.shown(&answer.version)) })
        };
        Ok(Response::new(until(caller.deadline, work).await?))
    }

    async fn regress(&self, request: Request<RegressionRequest>) -> Answer<RegressionResponse> {
        let caller = Caller::of(&request);
        let work = async {
            let RegressionRequest { model_spec, input } = request.into_inner();
            let target = Target::of(model_spec)?;
            let (answer, _) = self.of_examples(&target, input, caller.clone()).await?;
            let result = Some(regressed(&answer.outputs)?);
            Ok(RegressionResponse { result, model_spec: Some(target.shown(&answer.version)) })
        };
        Ok(Response::new(until(caller.deadline, work).await?))
    }

    async fn predict(&self, request: Request<PredictRequest>) -> Answer<PredictResponse> {
        let caller = Caller::of(&request);
        let work = self.predicted(request.into_inner(), caller.clone());
        Ok(Response::new(until(caller.deadline, work).await?))
    }

    async fn multi_inference(
        &self,
        request: Request<MultiInferenceRequest>,
    ) -> Answer<MultiInferenceResponse> {
        let caller = Caller::of(&request);
        let work = self.of_tasks(request.into_inner(), caller.clone());
        Ok(Response::new(until(caller.deadline, work).await?))
    }

    async fn get_model_metadata(
        &self,
        request: Request<GetModelMetadataRequest>,
    ) -> Answer<GetModelMetadataResponse> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        message.model_spec.iter().try_for_each(|spec| caller.allow(&spec.name))?;
        Ok(Response::new(self.signatures(message)?))
    }
}

#[tonic::async_trait]
impl ModelService for Models {
    async fn get_model_status(
        &self,
        request: Request<GetModelStatusRequest>,
    ) -> Result<Response<GetModelStatusResponse>, Status> {
        let caller = Caller::of(&request);
        let Target { model, version, .. } = Target::of(request.into_inner().model_spec)?;
        caller.allow(&model)?;
        let states = self.0.states(&model, &version)?.into_iter().map(|entry| {
            let (state, status) = match entry.state {
                Serving::Ready => (State::Available, StatusProto::default()),
                Serving::Loading => (State::Loading, StatusProto::default()),
                Serving::Unloading => (State::Unloading, StatusProto::default()),
                Serving::Unavailable => {
                    let error_code = tonic::Code::Unavailable as i32;
                    (State::End, StatusProto { error_code, error_message: entry.reason })
                }
            };
            let version = entry.version.parse().unwrap_or_default();
            ModelVersionStatus { version, state: state.into(), status: Some(status) }
        });
        Ok(Response::new(GetModelStatusResponse { model_version_status: states.collect() }))
    }
}
