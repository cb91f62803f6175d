//! The settings of traces and of the log.

use std::collections::BTreeMap;

use crate::proto::{log_settings_request, log_settings_response, trace_setting_response};
use crate::proto::{LogSettingsRequest, LogSettingsResponse, TraceSettingRequest, TraceSettingResponse};
use crate::settings::Setting;
use crate::{Failure, Service};

pub(super) fn trace(service: &Service, request: TraceSettingRequest) -> Result<TraceSettingResponse, Failure> {
    if !request.model_name.is_empty() && !service.knows(&request.model_name) {
        return Err(Failure::invalid(format!("model '{}' is not found", request.model_name)));
    }
    // A setting without values is cleared.
    let values = |values: Vec<String>| (!values.is_empty()).then_some(values);
    let changes = request.settings.into_iter().map(|(name, setting)| (name, values(setting.value)));
    let settings = service.settings().trace(&request.model_name, changes.collect())?;
    let shown = |(name, value)| (name, trace_setting_response::SettingValue { value });
    Ok(TraceSettingResponse { settings: settings.into_iter().map(shown).collect() })
}

pub(super) fn log(service: &Service, request: LogSettingsRequest) -> Result<LogSettingsResponse, Failure> {
    use log_settings_request::setting_value::ParameterChoice as Given;
    use log_settings_response::setting_value::ParameterChoice as Shown;
    let mut changes = BTreeMap::new();
    for (name, value) in request.settings {
        let setting = match value.parameter_choice {
            Some(Given::BoolParam(value)) => Setting::Bool(value),
            Some(Given::Uint32Param(value)) => Setting::Number(value),
            Some(Given::StringParam(value)) => Setting::Text(value),
            None => return Err(Failure::invalid(format!("setting '{name}' has no value"))),
        };
        changes.insert(name, setting);
    }
    let shown = |(name, setting)| {
        let choice = match setting {
            Setting::Bool(value) => Shown::BoolParam(value),
            Setting::Number(value) => Shown::Uint32Param(value),
            Setting::Text(value) => Shown::StringParam(value),
        };
        (name, log_settings_response::SettingValue { parameter_choice: Some(choice) })
    };
    Ok(LogSettingsResponse { settings: service.settings().log(changes)?.into_iter().map(shown).collect() })
}
