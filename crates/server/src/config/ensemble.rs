//! Ensembles of a configuration: models that run one after the other.

use std::collections::HashSet;

use super::{Step, check_name};
use crate::proto::model_config::SchedulingChoice;
use crate::proto::{ModelConfig, ModelEnsembling};

/// The models of the steps and their versions, as they are written; none for what is no ensemble.
pub(crate) fn models(config: &ModelConfig) -> Vec<(String, String)> {
    let Some(SchedulingChoice::EnsembleScheduling(given)) = &config.scheduling_choice else {
        return Vec::new();
    };
    let version = |number: i64| if number > 0 { number.to_string() } else { String::new() };
    given.step.iter().map(|step| (step.model_name.clone(), version(step.model_version))).collect()
}

/// The steps, in an order in which each finds its inputs.
pub(super) fn steps(config: &ModelConfig, given: &ModelEnsembling) -> Result<Vec<Step>, String> {
    if given.step.is_empty() {
        return Err("ensemble_scheduling has no step".into());
    }
    let mut made: HashSet<&str> = config.input.iter().map(|input| input.name.as_str()).collect();
    let mut waiting = Vec::with_capacity(given.step.len());
    for (number, step) in given.step.iter().enumerate() {
        let what = |text: &str| {
            format!("step {} of ensemble_scheduling ('{}'): {text}", number + 1, step.model_name)
        };
        check_name(&step.model_name).map_err(|failure| what(&failure.text))?;
        if step.model_name == config.name {
            return Err(what("an ensemble cannot run itself"));
        }
        if !step.model_namespace.is_empty() {
            return Err(what("model_namespace is not served"));
        }
        if step.output_map.is_empty() {
            return Err(what("it has no output_map"));
        }
        let version = match step.model_version {
            -1 | 0 => None,
            number => {
                Some(u64::try_from(number).map_err(|_| what("model_version is -1 or a version's number"))?)
            }
        };
        waiting.push((step, version));
    }
    let mut steps = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let ready = waiting
            .iter()
            .position(|(step, _)| step.input_map.values().all(|tensor| made.contains(tensor.as_str())));
        let Some(ready) = ready else {
            let (step, _) = waiting[0];
            let missing = step.input_map.values().find(|tensor| !made.contains(tensor.as_str()));
            return Err(format!(
                "ensemble_scheduling: the step of '{}' takes '{}', which is neither an input of the ensemble nor an output of a \
                 step before it",
                step.model_name,
                missing.map_or("", String::as_str)
            ));
        };
        let (step, version) = waiting.remove(ready);
        for tensor in step.output_map.values() {
            if !made.insert(tensor) {
                return Err(format!("ensemble_scheduling makes '{tensor}' twice"));
            }
        }
        steps.push(Step {
            model: step.model_name.clone(),
            version,
            inputs: step.input_map.clone(),
            outputs: step.output_map.clone(),
        });
    }
    let produced = |name: &str| steps.iter().any(|step| step.outputs.values().any(|tensor| tensor == name));
    if let Some(output) = config.output.iter().find(|output| !produced(&output.name)) {
        return Err(format!("no step of ensemble_scheduling makes the output '{}'", output.name));
    }
    let taken = |name: &str| steps.iter().any(|step| step.inputs.values().any(|tensor| tensor == name));
    if let Some(input) = config.input.iter().find(|input| !taken(&input.name)) {
        return Err(format!("no step of ensemble_scheduling takes the input '{}'", input.name));
    }
    Ok(steps)
}
