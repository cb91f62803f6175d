//! Devices for tests: every adapter of this machine that models can run on.

#[cfg(test)]
use crate::kernels::Class;
use crate::{AdapterSummary, Device, DeviceOptions, Select};

/// The environment variable that lets tests pass on a machine without adapters.
const WITHOUT_ADAPTERS: &str = "SARDONYX_TEST_WITHOUT_ADAPTERS";

/// Every usable adapter. Tests on devices prove nothing without one, so that is a failure, unless the environment says that it
/// is meant.
pub fn usable() -> Vec<AdapterSummary> {
    let usable: Vec<AdapterSummary> =
        crate::adapters().into_iter().filter(|adapter| adapter.below_floor.is_none()).collect();
    assert!(
        !usable.is_empty() || std::env::var_os(WITHOUT_ADAPTERS).is_some(),
        "no adapter to test on: install a Vulkan driver, or set {WITHOUT_ADAPTERS}=1 to test without devices"
    );
    usable
}

/// A new device on each usable adapter.
pub fn each() -> Vec<Device> {
    usable().into_iter().map(|adapter| open(&adapter.name)).collect()
}

/// A new device on each usable adapter, which runs the kernels of `class`.
#[cfg(test)]
pub(crate) fn of_class(class: Class) -> impl Iterator<Item = Device> {
    each().into_iter().map(move |device| device.with_target(|target| target.class = class))
}

/// A new device on the adapter of this name. What it cannot compute is refused: a test is to see the device.
pub fn open(name: &str) -> Device {
    let opened = Device::new(DeviceOptions::new().select(Select::Name(name.into())).strict(true));
    opened.unwrap_or_else(|error| panic!("{error}"))
}
