//! Where a configuration lets a model run.

use super::{InstanceGroup, Placement, numbers};
use crate::proto::model_instance_group::Kind;
use crate::proto::{self, ModelConfig};

/// The runs in flight of a group at most.
const MAX_COUNT: usize = 256;

/// The devices that a server may number.
const MAX_DEVICES: usize = 1024;

/// Gives groups a name and a count, and a configuration without any group one.
pub(super) fn complete(config: &mut ModelConfig) {
    if config.instance_group.is_empty() && config.platform != super::refused::ENSEMBLE {
        config.instance_group.push(proto::ModelInstanceGroup::default());
    }
    for (number, group) in config.instance_group.iter_mut().enumerate() {
        if group.name.is_empty() {
            group.name = format!("{}_{number}", config.name);
        }
        if group.count == 0 {
            group.count = 1;
        }
    }
}

/// The typed groups of a complete configuration.
pub(super) fn groups(config: &ModelConfig) -> Result<Vec<InstanceGroup>, String> {
    config.instance_group.iter().map(group).collect()
}

fn group(given: &proto::ModelInstanceGroup) -> Result<InstanceGroup, String> {
    let what = |text: &str| format!("instance_group '{}': {text}", given.name);
    if given.passive {
        return Err(what("passive instances are not served"));
    }
    if !given.secondary_devices.is_empty() {
        return Err(what("secondary_devices are not served"));
    }
    let gpus =
        given.gpus.iter().map(|&gpu| numbers::within(gpu, 0, MAX_DEVICES, &what("the number of a GPU")));
    let gpus: Vec<usize> = gpus.collect::<Result<_, _>>()?;
    let place = match Kind::try_from(given.kind) {
        Ok(Kind::Auto) if gpus.is_empty() => Placement::Any,
        Ok(Kind::Auto | Kind::Gpu) => Placement::Devices(gpus),
        Ok(Kind::Cpu) if gpus.is_empty() => Placement::Reference,
        Ok(Kind::Cpu) => return Err(what("KIND_CPU takes no gpus; leave one of them out")),
        Ok(Kind::Model) => return Err(what("KIND_MODEL is not served; write KIND_GPU or KIND_CPU")),
        Err(_) => return Err(what("its kind is unknown; write KIND_AUTO, KIND_GPU or KIND_CPU")),
    };
    Ok(InstanceGroup { count: numbers::within(given.count, 1, MAX_COUNT, &what("count"))?, place })
}
