//! Every adapter of this machine that models can run on.

use sardonyx::{Device, DeviceOptions, Select, adapters};

/// A new device on each usable adapter.
pub fn each() -> Vec<Device> {
    let usable = adapters().into_iter().filter(|adapter| adapter.below_floor.is_none());
    let mut names: Vec<String> = usable.map(|adapter| adapter.name).collect();
    names.dedup();
    names.into_iter().map(open).collect()
}

pub fn open(name: String) -> Device {
    Device::new(DeviceOptions::new().select(Select::Name(name))).unwrap_or_else(|error| panic!("{error}"))
}
