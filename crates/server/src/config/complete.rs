//! From a configuration as it is written to one that is complete and typed.

use sardonyx::Model;

use super::{
    Config, Files, Lengths, Scheduling, Traffic, VersionPolicy, check_name, instances, parameters, ports,
    refused, scheduling, sequences, warmups,
};
use crate::Failure;
use crate::proto::model_config::SchedulingChoice;
use crate::proto::model_optimization_policy::PinnedMemoryBuffer;
use crate::proto::model_version_policy::{Latest, PolicyChoice};
use crate::proto::{ModelConfig, ModelDynamicBatching, ModelVersionPolicy};

/// The ONNX file of a version, where the configuration does not name it.
const DEFAULT_FILE: &str = "model.onnx";

impl Config {
    /// Completes `given`, the configuration of the model `name`, from its ONNX file. An ensemble has none: it is complete by itself.
    /// `files` are those that the configuration names: labels, values of warm-ups and of states.
    ///
    /// # Errors
    /// [`Reason::Invalid`](crate::Reason::Invalid) if the configuration contradicts itself or the ONNX file, or asks for what is
    /// not served.
    pub fn complete(
        given: ModelConfig,
        name: &str,
        model: Option<&Model>,
        files: &dyn Files,
    ) -> Result<Config, Failure> {
        check_name(name)?;
        complete(given, name, model, files)
            .map_err(|text| Failure::invalid(format!("model '{name}': {text}")))
    }
}

/// The name of the ONNX file in the folder of a version.
pub(crate) fn file(config: &ModelConfig) -> Result<String, String> {
    let name = match config.default_model_filename.as_str() {
        "" => DEFAULT_FILE,
        name => name,
    };
    match name.contains(['/', '\\', '\0']) || matches!(name, "." | "..") {
        true => Err(format!(
            "default_model_filename is '{}'; it is the name of a file, without folders",
            name.escape_default()
        )),
        false => Ok(name.to_string()),
    }
}

/// Whether other models do the work.
pub(crate) fn is_ensemble(config: &ModelConfig) -> bool {
    config.platform == refused::ENSEMBLE
        || matches!(config.scheduling_choice, Some(SchedulingChoice::EnsembleScheduling(_)))
}

fn complete(
    mut shown: ModelConfig,
    name: &str,
    model: Option<&Model>,
    files: &dyn Files,
) -> Result<Config, String> {
    if !shown.name.is_empty() && shown.name != name {
        return Err(format!(
            "the configuration has the name '{}'; it is the folder's name, or left out",
            shown.name
        ));
    }
    shown.name = name.to_string();
    refused::refuse(&shown)?;
    if is_ensemble(&shown) {
        if !matches!(shown.scheduling_choice, Some(SchedulingChoice::EnsembleScheduling(_))) {
            return Err("an ensemble needs ensemble_scheduling { step [ ... ] }".into());
        }
        if shown.input.is_empty() || shown.output.is_empty() {
            return Err("an ensemble has no ONNX file; its configuration must have inputs and outputs".into());
        }
        if !shown.instance_group.is_empty() {
            return Err("an ensemble has no instances of its own; leave instance_group out".into());
        }
        shown.platform = refused::ENSEMBLE.to_string();
    } else {
        let model = model.ok_or("there is no ONNX file")?;
        let kept = sequences::kept(&shown);
        let joins = ports::complete(&mut shown, model, &kept)?;
        if joins && shown.scheduling_choice.is_none() {
            shown.scheduling_choice =
                Some(SchedulingChoice::DynamicBatching(ModelDynamicBatching::default()));
        }
        sequences::complete(&mut shown, model)?;
        shown.default_model_filename = file(&shown)?;
        if shown.platform.is_empty() {
            shown.platform = "onnx_onnxv1".to_string();
        }
        if shown.backend.is_empty() {
            shown.backend = "sardonyx".to_string();
        }
    }
    instances::complete(&mut shown);
    let passed_over = refused::passed_over(&shown);
    if !passed_over.is_empty() {
        tracing::warn!(
            model = name,
            fields = passed_over.join(", "),
            "fields of the configuration have no effect here"
        );
    }
    let optimization = shown.optimization.get_or_insert_default();
    optimization.input_pinned_memory.get_or_insert(PinnedMemoryBuffer { enable: true });
    optimization.output_pinned_memory.get_or_insert(PinnedMemoryBuffer { enable: true });
    let versions = VersionPolicy::of(&shown)?;
    if versions == VersionPolicy::Latest(1) {
        shown.version_policy = Some(ModelVersionPolicy {
            policy_choice: Some(PolicyChoice::Latest(Latest { num_versions: 1 })),
        });
    }

    let given =
        shown.parameters.iter().map(|(name, value)| (name.clone(), value.string_value.clone())).collect();
    let inputs = ports::inputs(&shown)?;
    let file = file(&shown)?;
    let mut config = Config {
        name: name.to_string(),
        outputs: ports::outputs(&shown, files)?,
        max_batch: super::numbers::within(
            shown.max_batch_size,
            0,
            super::numbers::MAX_ROWS,
            "max_batch_size",
        )?,
        scheduling: scheduling::scheduling(&shown, &given, files)?,
        versions,
        version_labels: parameters::version_labels(&given)?,
        instances: instances::groups(&shown)?,
        warmups: warmups::warmups(&shown, &inputs, files)?,
        response_cache: shown.response_cache.as_ref().is_some_and(|cache| cache.enable),
        sha256: parameters::sha256(&given, &file)?,
        traffic: Traffic::of(name, &given)?,
        device_memory_limit: parameters::device_memory_limit(&given)?,
        file,
        texts: Default::default(),
        parameters: given,
        inputs,
        lengths: None,
        shown,
    };
    if config.response_cache && matches!(config.scheduling, Scheduling::Sequences(_)) {
        return Err("response_cache is not served with sequence_batching: an answer depends on the requests before it".into());
    }
    config.lengths = Lengths::of(&config)?;
    Ok(config)
}
