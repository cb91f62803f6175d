//! Queues and batches of a configuration.

use std::collections::BTreeMap;

use super::{Batching, QueuePolicy, Scheduling, ensemble, numbers, parameters, sequences};
use crate::proto::model_config::SchedulingChoice;
use crate::proto::model_queue_policy::TimeoutAction;
use crate::proto::{ModelConfig, ModelDynamicBatching, ModelQueuePolicy};

/// The levels of priority at most.
const MAX_LEVELS: usize = 1024;

/// The typed scheduling of a complete configuration.
pub(super) fn scheduling(
    config: &ModelConfig,
    parameters: &BTreeMap<String, String>,
    files: &dyn super::Files,
) -> Result<Scheduling, String> {
    let pad = parameters::pad(parameters)?;
    match &config.scheduling_choice {
        None => Ok(Scheduling::Single(QueuePolicy::default())),
        Some(SchedulingChoice::DynamicBatching(given)) => {
            Ok(Scheduling::Batched(batching(config, given, pad)?))
        }
        Some(SchedulingChoice::SequenceBatching(given)) => {
            Ok(Scheduling::Sequences(sequences::sequencing(config, given, pad, files)?))
        }
        Some(SchedulingChoice::EnsembleScheduling(given)) => {
            Ok(Scheduling::Ensemble(ensemble::steps(config, given)?))
        }
    }
}

fn batching(config: &ModelConfig, given: &ModelDynamicBatching, pad: bool) -> Result<Batching, String> {
    let levels =
        numbers::within(given.priority_levels, 0, MAX_LEVELS, "dynamic_batching.priority_levels")? as u64;
    if levels > 0 && !(1..=levels).contains(&given.default_priority_level) {
        return Err(format!(
            "dynamic_batching.default_priority_level is {}; with {levels} priority_levels it must be between 1 and {levels}",
            given.default_priority_level
        ));
    }
    let policies = given.priority_queue_policy.iter().map(|(&level, given)| {
        if !(1..=levels).contains(&level) {
            return Err(format!(
                "dynamic_batching.priority_queue_policy is for level {level}, and there are {levels} levels"
            ));
        }
        Ok((level, policy(given)?))
    });
    Ok(Batching {
        preferred: preferred(config, &given.preferred_batch_size)?,
        delay: numbers::time(given.max_queue_delay_microseconds, "max_queue_delay_microseconds")?,
        keep_order: given.preserve_ordering,
        levels,
        default_level: given.default_priority_level,
        policy: given.default_queue_policy.as_ref().map_or(Ok(QueuePolicy::default()), policy)?,
        policies: policies.collect::<Result<_, _>>()?,
        pad,
    })
}

/// Sizes of batches that run well, in ascending order.
pub(super) fn preferred(config: &ModelConfig, given: &[i32]) -> Result<Vec<usize>, String> {
    let most = usize::try_from(config.max_batch_size).unwrap_or(0);
    if most == 0 && !given.is_empty() {
        return Err(
            "preferred_batch_size is given, and max_batch_size is 0: the model joins no requests".into()
        );
    }
    let size = |&size: &i32| numbers::within(size, 1, most, "preferred_batch_size");
    let mut sizes = given.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    sizes.sort_unstable();
    sizes.dedup();
    Ok(sizes)
}

fn policy(given: &ModelQueuePolicy) -> Result<QueuePolicy, String> {
    let action = TimeoutAction::try_from(given.timeout_action)
        .map_err(|_| format!("timeout_action {} is unknown; write REJECT or DELAY", given.timeout_action))?;
    let timeout = numbers::time(given.default_timeout_microseconds, "default_timeout_microseconds")?;
    Ok(QueuePolicy {
        max_size: given.max_queue_size as usize,
        timeout: (!timeout.is_zero()).then_some(timeout),
        may_shorten: given.allow_timeout_override,
        delays: action == TimeoutAction::Delay,
    })
}
