//! The settings of traces and of the log.

use crate::proto::{LogSettingsRequest, LogSettingsResponse, TraceSettingRequest, TraceSettingResponse};
use crate::proto::{log_settings_request, log_settings_response, trace_setting_response};
use crate::{Failure, Parameter, Parameters, Service};

pub(super) fn trace(
    service: &Service,
    request: TraceSettingRequest,
) -> Result<TraceSettingResponse, Failure> {
    if !request.model_name.is_empty() && !service.knows(&request.model_name) {
        return Err(Failure::invalid(format!("model '{}' is not found", request.model_name)));
    }
    let changes = request.settings.into_iter().map(|(name, setting)| (name, setting.value)).collect();
    let settings = service.settings().traces().set(&request.model_name, &changes)?;
    let shown = |(name, value)| (name, trace_setting_response::SettingValue { value });
    Ok(TraceSettingResponse { settings: settings.into_iter().map(shown).collect() })
}

pub(super) fn log(service: &Service, request: LogSettingsRequest) -> Result<LogSettingsResponse, Failure> {
    use log_settings_request::setting_value::ParameterChoice as Given;
    use log_settings_response::setting_value::ParameterChoice as Shown;
    let mut changes = Parameters::new();
    for (name, value) in request.settings {
        let setting = match value.parameter_choice {
            Some(Given::BoolParam(value)) => Parameter::Bool(value),
            Some(Given::Uint32Param(value)) => Parameter::Int(value.into()),
            Some(Given::StringParam(value)) => Parameter::Text(value),
            None => return Err(Failure::invalid(format!("setting '{name}' has no value"))),
        };
        changes.insert(name, setting);
    }
    let shown = |(name, setting)| {
        let choice = match setting {
            Parameter::Bool(value) => Shown::BoolParam(value),
            Parameter::Int(value) => Shown::Uint32Param(u32::try_from(value).unwrap_or(u32::MAX)),
            Parameter::Double(value) => Shown::StringParam(value.to_string()),
            Parameter::Text(value) => Shown::StringParam(value),
        };
        (name, log_settings_response::SettingValue { parameter_choice: Some(choice) })
    };
    Ok(LogSettingsResponse {
        settings: service.settings().set_log(changes)?.into_iter().map(shown).collect(),
    })
}
