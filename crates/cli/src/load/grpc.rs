//! The protocol over gRPC, with raw contents.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

use sardonyx::{Tensor, shown};
use sardonyx_server::datatype;
use sardonyx_server::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use sardonyx_server::proto::model_infer_request::InferInputTensor;
use sardonyx_server::proto::model_repository_parameter::ParameterChoice;
use sardonyx_server::proto::{
    ModelConfigRequest, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
    ModelRepositoryParameter, RepositoryModelLoadRequest,
};
use serde_json::Value;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Extensions, Request, Status};

use super::Failure;
use super::client::{self, Answer, Message, Metadata, Port, Trouble};
use super::credentials::Credentials;

/// The requests that share a connection: servers limit them, often to 100. Answers that leave together share a write.
const SHARE: u64 = 64;

/// The most connections.
const CONNECTIONS: u64 = 8;

/// The connections to a server.
#[derive(Debug)]
pub(super) struct Grpc {
    model: String,
    version: String,
    clients: Vec<GrpcInferenceServiceClient<Channel>>,
    /// What every request carries.
    metadata: MetadataMap,
    next: AtomicUsize,
}

impl Grpc {
    /// The connections to `host:port`, or to `https://host:port`, for so many requests at once; none is open yet.
    pub(super) fn new(
        address: &str,
        model: &str,
        version: &str,
        credentials: &Credentials,
        requests: u64,
    ) -> Result<Grpc, Failure> {
        let wrong =
            || Failure::from(format!("{}: is no address; write it as localhost:8001", shown(address)));
        let url = if address.contains("://") { address.to_string() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(url).map_err(|_| wrong())?;
        let uri = endpoint.uri().clone();
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else { return Err(wrong()) };
        let connector = credentials.connector(address, host, port, secure)?;
        let client = |_| {
            GrpcInferenceServiceClient::new(endpoint.connect_with_connector_lazy(connector.clone()))
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(usize::MAX)
        };
        let clients = (0..requests.div_ceil(SHARE).clamp(1, CONNECTIONS)).map(client).collect();
        let metadata = MetadataMap::from_headers(credentials.headers.clone());
        let (model, version) = (model.into(), version.into());
        Ok(Grpc { model, version, clients, metadata, next: AtomicUsize::new(0) })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), Extensions::default(), message)
    }

    fn client(&self) -> GrpcInferenceServiceClient<Channel> {
        self.clients[self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len()].clone()
    }

    /// What the model takes and gives.
    pub(super) async fn metadata(&self) -> Result<Metadata, Trouble> {
        let request = ModelMetadataRequest { name: self.model.clone(), version: self.version.clone() };
        let metadata =
            self.client().model_metadata(self.request(request)).await.map_err(|status| trouble(&status))?;
        let metadata = metadata.into_inner();
        let port = |port: sardonyx_server::proto::model_metadata_response::TensorMetadata| Port {
            name: port.name,
            datatype: port.datatype,
            shape: port.shape,
        };
        Ok(Metadata {
            versions: metadata.versions,
            inputs: metadata.inputs.into_iter().map(port).collect(),
            outputs: metadata.outputs.into_iter().map(port).collect(),
        })
    }

    /// The model's configuration.
    pub(super) async fn config(&self) -> Result<Value, Trouble> {
        let request = ModelConfigRequest { name: self.model.clone(), version: self.version.clone() };
        let answer = self.client().model_config(self.request(request)).await;
        let config = answer.map_err(|status| trouble(&status))?.into_inner().config.unwrap_or_default();
        sardonyx_server::config::json(&config)
            .map_err(|failure| Trouble::new("answer", "configuration", failure.text))
    }

    /// Lets the server load the model, with a configuration in place of its own.
    pub(super) async fn load(&self, config: Option<String>) -> Result<(), Trouble> {
        let parameter = |config| {
            let choice = Some(ParameterChoice::StringParam(config));
            ("config".to_string(), ModelRepositoryParameter { parameter_choice: choice })
        };
        let request = RepositoryModelLoadRequest {
            model_name: self.model.clone(),
            parameters: config.into_iter().map(parameter).collect(),
            ..Default::default()
        };
        let answer = self.client().repository_model_load(self.request(request)).await;
        answer.map(drop).map_err(|status| trouble(&status))
    }

    /// A request with these inputs.
    pub(super) fn message(&self, inputs: &[(String, Tensor)]) -> Result<Message, Failure> {
        let mut request = ModelInferRequest {
            model_name: self.model.clone(),
            model_version: self.version.clone(),
            ..Default::default()
        };
        for (name, tensor) in inputs {
            request.inputs.push(InferInputTensor {
                name: name.clone(),
                datatype: datatype::name(tensor.dtype()).unwrap_or_default().into(),
                shape: tensor.shape().iter().map(|&size| size as i64).collect(),
                ..Default::default()
            });
            request.raw_input_contents.push(client::raw(tensor)?);
        }
        Ok(Message::Grpc(request))
    }

    pub(super) async fn infer(&self, request: ModelInferRequest) -> Result<Answer, Trouble> {
        match self.client().model_infer(self.request(request)).await {
            Ok(response) => Ok(Answer::Grpc(response.into_inner())),
            Err(status) => Err(trouble(&status)),
        }
    }
}

fn trouble(status: &Status) -> Trouble {
    let code = format!("{:?}", status.code());
    let Some(mut innermost) = status.source() else {
        let is_askers_fault = matches!(
            status.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::Unimplemented
                | Code::PermissionDenied
                | Code::Unauthenticated
        );
        return Trouble { is_askers_fault, ..Trouble::new("status", code, status.message()) };
    };
    // The server sends codes without a source.
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Trouble::new("connection", code, innermost.to_string())
}

/// The outputs of an answer with raw contents.
pub(super) fn outputs(response: ModelInferResponse) -> Result<Vec<(String, Tensor)>, String> {
    if response.raw_output_contents.len() != response.outputs.len() {
        return Err("it has not the raw contents of all outputs".into());
    }
    let outputs = response.outputs.into_iter().zip(response.raw_output_contents);
    let read = outputs.map(|(output, bytes)| {
        let tensor = client::tensor(&output.name, &output.datatype, &output.shape, bytes)?;
        Ok((output.name, tensor))
    });
    read.collect()
}
