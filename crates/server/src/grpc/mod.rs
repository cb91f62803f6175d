//! The Open Inference Protocol over gRPC, with the extensions of Triton, TensorFlow Serving's protocol, the standard health service,
//! and reflection.

pub(crate) mod codec;
mod failure;
mod fields;
mod health;
mod infer;
mod messages;
mod repository;
mod settings;
mod tensorflow;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, Stream, StreamExt};
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use tonic_health::pb::health_server::HealthServer;

use crate::access::Tenant;
use crate::http::Limits;
use crate::http::off_the_reactor;
use crate::proto::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use crate::proto::*;
use crate::traffic::Preference;
use crate::{Failure, Parameter, Reason, Service, exchange};
use health::HealthOf;

/// The service and those beside it. A message beyond `limits` is refused.
///
/// # Errors
/// A text, if the descriptors are not what reflection can serve.
pub fn router(service: &Arc<Service>, limits: &Limits) -> Result<axum::Router, String> {
    let message_bytes = limits.decompressed_bytes;
    let mut inference = GrpcInferenceServiceServer::new(Inference(service.clone(), limits.clone()))
        .max_decoding_message_size(message_bytes)
        .max_encoding_message_size(usize::MAX);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        // Responses are not compressed: every client says that it accepts gzip, and tensors hardly become smaller.
        inference = inference.accept_compressed(encoding);
    }
    let (mut predictions, models) = tensorflow::services(service, message_bytes);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        predictions = predictions.accept_compressed(encoding);
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = tonic::service::Routes::builder();
    routes
        .add_service(inference)
        .add_service(predictions)
        .add_service(models)
        .add_service(HealthServer::new(HealthOf(service.clone())))
        .add_service(reflection().build_v1().map_err(|error| error.to_string())?)
        .add_service(reflection().build_v1alpha().map_err(|error| error.to_string())?);
    let guard = axum::middleware::from_fn_with_state(limits.clone(), messages::guard);
    Ok(routes.routes().into_axum_router().layer(guard))
}

/// The requests of one stream that may wait or run at once.
const STREAM_DEPTH: usize = 64;

struct Inference(Arc<Service>, Limits);

type Answer<T> = Result<Response<T>, Status>;

/// Who asks, and until when.
#[derive(Clone)]
struct Caller {
    deadline: Option<Instant>,
    tenant: Option<Tenant>,
    preference: Preference,
}

impl Caller {
    fn of<T>(request: &Request<T>) -> Caller {
        let tenant = request.extensions().get::<Tenant>().cloned();
        let preference = Preference::of(|name| Some(request.metadata().get(name)?.as_encoded_bytes()));
        Caller { deadline: deadline(request.metadata()), tenant, preference }
    }

    /// Whether the caller may use the model `name`.
    fn may_use(&self, name: &str) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| tenant.may_use(name))
    }

    /// Refuses a model that the caller may not use.
    fn allow(&self, name: &str) -> Result<(), Failure> {
        self.tenant.iter().try_for_each(|tenant| tenant.allow(name))
    }

    /// `request` as the caller's.
    fn asks(self, request: crate::Request) -> crate::Request {
        let Caller { deadline, tenant, preference } = self;
        crate::Request { deadline, tenant, preference, ..request }
    }
}

/// Answers one message, until the caller's deadline.
async fn answer(
    service: &Arc<Service>,
    limits: &Limits,
    message: ModelInferRequest,
    caller: Caller,
) -> Result<ModelInferResponse, Failure> {
    infer::refuse_many(&message, limits)?;
    // What lies in shared memory is copied by system calls.
    let shared = service.memory().is_on();
    let slow = shared || infer::is_slow(&message);
    let (here, there) = (service.clone(), service.clone());
    until(caller.deadline, async move {
        let (request, form) = off_the_reactor(slow, move || infer::request(message, here.memory())).await?;
        let response = there.infer(caller.asks(request)).await?;
        let slow = shared || infer::has_many_strings(&response);
        off_the_reactor(slow, move || infer::response(response, &form, there.memory())).await
    })
    .await
}

/// When the client stops waiting, as the header `grpc-timeout` says: at most eight digits and a unit
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn deadline(metadata: &MetadataMap) -> Option<Instant> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    let timeout = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Instant::now().checked_add(timeout)
}

/// The outcome of `work`, or that the deadline has passed; the work is dropped then.
async fn until<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(deadline) = deadline else { return work.await };
    match tokio::time::timeout_at(deadline.into(), work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(Reason::Expired, "the request's deadline has passed")),
    }
}

fn metadata_flag(metadata: &MetadataMap, name: &str) -> bool {
    metadata.get(name).is_some_and(|value| value == "true")
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: self.0.is_live() }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse { ready: self.0.is_ready() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let caller = Caller::of(&request);
        let ModelReadyRequest { name, version } = request.into_inner();
        caller.allow(&name)?;
        Ok(Response::new(ModelReadyResponse { ready: self.0.model_ready(&name, &version) }))
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Answer<ServerMetadataResponse> {
        Ok(Response::new(self.0.server_metadata()))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Answer<ModelMetadataResponse> {
        let caller = Caller::of(&request);
        let ModelMetadataRequest { name, version } = request.into_inner();
        caller.allow(&name)?;
        Ok(Response::new(self.0.metadata(&name, &version)?))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let caller = Caller::of(&request);
        let response = answer(&self.0, &self.1, request.into_inner(), caller).await?;
        Ok(Response::new(response))
    }

    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    /// Requests are answered in their order; a few of them wait or run at once. A failure is a message of its own, and ends the stream
    /// only if the client has set `triton_grpc_error`.
    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        let caller = Caller::of(&request);
        let ends = metadata_flag(request.metadata(), "triton_grpc_error");
        let (service, limits) = (self.0.clone(), self.1.clone());
        let (ending, stream) = (service.clone(), exchange::current());
        let messages = request.into_inner().take_until(async move { ending.ends().await }.boxed());
        let responses = messages.map(move |message| {
            let (service, caller, stream) = (service.clone(), caller.clone(), stream.clone());
            let limits = limits.clone();
            async move {
                let message = message?;
                let bytes = prost::Message::encoded_len(&message);
                let final_wanted = message.parameters.contains_key("triton_enable_empty_final_response");
                let id = message.id.clone();
                let answer = async {
                    let _in_flight = caller.tenant.as_ref().map(Tenant::begin).transpose()?;
                    answer(&service, &limits, message, caller.clone()).await
                };
                match exchange::within(stream, bytes, prost::Message::encoded_len, answer).await {
                    Ok(mut response) => {
                        if final_wanted {
                            let last = infer::shown(Parameter::Bool(true));
                            response.parameters.insert("triton_final_response".into(), last);
                        }
                        Ok(ModelStreamInferResponse {
                            error_message: String::new(),
                            infer_response: Some(response),
                        })
                    }
                    Err(failure) if ends => Err(failure.into()),
                    Err(failure) => {
                        let response = ModelInferResponse { id, ..Default::default() };
                        Ok(ModelStreamInferResponse {
                            error_message: failure.text,
                            infer_response: Some(response),
                        })
                    }
                }
            }
        });
        let responses = responses.buffered(STREAM_DEPTH);
        let mut ended = false;
        let responses = responses.take_while(move |response| {
            std::future::ready(!std::mem::replace(&mut ended, response.is_err()))
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Answer<ModelConfigResponse> {
        let caller = Caller::of(&request);
        let ModelConfigRequest { name, version } = request.into_inner();
        caller.allow(&name)?;
        let config = self.0.config(&name, &version)?;
        Ok(Response::new(ModelConfigResponse { config: Some(config.shown.clone()) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let caller = Caller::of(&request);
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let mut model_stats = self.0.statistics(&name, &version)?;
        model_stats.retain(|model| caller.may_use(&model.name));
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        let caller = Caller::of(&request);
        Ok(Response::new(repository::index(&self.0, request.into_inner(), &caller)?))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answer<RepositoryModelLoadResponse> {
        repository::load(&self.0, request.into_inner()).await?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answer<RepositoryModelUnloadResponse> {
        repository::unload(&self.0, request.into_inner()).await?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<SystemSharedMemoryStatusRequest>,
    ) -> Answer<SystemSharedMemoryStatusResponse> {
        let regions = self.0.memory().status(&request.into_inner().name)?;
        let region = |region: crate::shared_memory::Registered| {
            let shown = system_shared_memory_status_response::RegionStatus {
                name: region.name.clone(),
                key: region.key,
                offset: region.offset,
                byte_size: region.byte_size,
            };
            (region.name, shown)
        };
        Ok(Response::new(SystemSharedMemoryStatusResponse {
            regions: regions.into_iter().map(region).collect(),
        }))
    }

    async fn system_shared_memory_register(
        &self,
        request: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Answer<SystemSharedMemoryRegisterResponse> {
        let SystemSharedMemoryRegisterRequest { name, key, offset, byte_size } = request.into_inner();
        self.0.memory().register(&name, &key, offset, byte_size)?;
        Ok(Response::new(SystemSharedMemoryRegisterResponse {}))
    }

    async fn system_shared_memory_unregister(
        &self,
        request: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<SystemSharedMemoryUnregisterResponse> {
        self.0.memory().unregister(&request.into_inner().name);
        Ok(Response::new(SystemSharedMemoryUnregisterResponse {}))
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<CudaSharedMemoryStatusRequest>,
    ) -> Answer<CudaSharedMemoryStatusResponse> {
        Ok(Response::new(CudaSharedMemoryStatusResponse::default()))
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Answer<CudaSharedMemoryRegisterResponse> {
        Err(Status::unimplemented("this server has no CUDA shared memory; use system shared memory"))
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Answer<CudaSharedMemoryUnregisterResponse> {
        Ok(Response::new(CudaSharedMemoryUnregisterResponse {}))
    }

    async fn trace_setting(&self, request: Request<TraceSettingRequest>) -> Answer<TraceSettingResponse> {
        Ok(Response::new(settings::trace(&self.0, request.into_inner())?))
    }

    async fn log_settings(&self, request: Request<LogSettingsRequest>) -> Answer<LogSettingsResponse> {
        Ok(Response::new(settings::log(&self.0, request.into_inner())?))
    }
}
