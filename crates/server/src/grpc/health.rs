//! The standard service `grpc.health.v1.Health`: the name of a service is empty for the server, or a model's name.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::Service;
use crate::proto::grpc_inference_service_server::SERVICE_NAME;

pub(super) struct HealthOf(pub(super) Arc<Service>);

/// How often a watched state is looked at.
const LOOK: Duration = Duration::from_millis(250);

impl HealthOf {
    /// `None` if there is no such service.
    fn status(&self, name: &str) -> Option<ServingStatus> {
        let ready = match name {
            "" | SERVICE_NAME => self.0.is_ready(),
            model if self.0.knows(model) => self.0.model_ready(model, ""),
            _ => return None,
        };
        Some(if ready { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthOf {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.status(&request.get_ref().service);
        status.map(|status| Response::new(answer(status))).ok_or_else(|| Status::not_found("unknown service"))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let name = request.into_inner().service;
        let health = HealthOf(self.0.clone());
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let status = health.status(&name).unwrap_or(ServingStatus::ServiceUnknown);
                if last != Some(status) && sender.send(answer(status)).await.is_err() {
                    return;
                }
                last = Some(status);
                tokio::select! {
                    () = sender.closed() => return,
                    () = health.0.ends() => return,
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(Ok))))
    }
}
