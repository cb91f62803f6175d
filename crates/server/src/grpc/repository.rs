//! The repository extension: the index, loading and unloading.

use super::Caller;
use crate::proto::model_repository_parameter::ParameterChoice;
use crate::proto::repository_index_response::ModelIndex;
use crate::proto::{
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
};
use crate::repository::Overrides;
use crate::{Failure, Service};

pub(super) fn index(
    service: &Service,
    request: RepositoryIndexRequest,
    caller: &Caller,
) -> Result<RepositoryIndexResponse, Failure> {
    one_repository(&request.repository_name)?;
    let entries = service.index(request.ready).into_iter().filter(|entry| caller.may_use(&entry.name));
    let models = entries.map(|entry| ModelIndex {
        name: entry.name,
        version: entry.version,
        state: entry.state.to_string(),
        reason: entry.reason,
    });
    Ok(RepositoryIndexResponse { models: models.collect() })
}

pub(super) async fn load(service: &Service, request: RepositoryModelLoadRequest) -> Result<(), Failure> {
    one_repository(&request.repository_name)?;
    let mut overrides = Overrides::default();
    for (name, value) in request.parameters {
        match (name.as_str(), value.parameter_choice) {
            ("config", Some(ParameterChoice::StringParam(config))) => overrides.config = Some(config),
            _ => {
                return Err(Failure::invalid(format!(
                    "parameter '{name}' of a load is not supported; put files into the repository"
                )));
            }
        }
    }
    service.load(&request.model_name, overrides).await
}

pub(super) async fn unload(service: &Service, request: RepositoryModelUnloadRequest) -> Result<(), Failure> {
    one_repository(&request.repository_name)?;
    let mut dependents = false;
    for (name, value) in request.parameters {
        match (name.as_str(), value.parameter_choice) {
            ("unload_dependents", Some(ParameterChoice::BoolParam(value))) => dependents = value,
            _ => return Err(Failure::invalid(format!("parameter '{name:.80}' of an unload is not known"))),
        }
    }
    service.unload(&request.model_name, dependents).await
}

/// The server's repositories are one to its clients, as Triton's are.
fn one_repository(name: &str) -> Result<(), Failure> {
    match name {
        "" => Ok(()),
        name => Err(Failure::invalid(format!(
            "'repository_name' is '{name}'; leave it out, all repositories are one"
        ))),
    }
}
