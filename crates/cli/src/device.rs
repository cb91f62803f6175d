//! `--device`, `--require-gpu` and `--require-hardware`.

use clap_complete::engine::ArgValueCandidates;

use super::{Failure, complain, completions, signals};
use sardonyx::{Device, DeviceOptions, Select};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct DeviceArgs {
    /// auto, gpu, cpu (the reference), an index or PCI address from `sardonyx devices`, or a part of an adapter's name,
    /// driver or backend.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = select, help_heading = HEADING, add = ArgValueCandidates::new(completions::devices))]
    device: Select,
    /// Fail unless every node runs on a GPU, software or not.
    #[arg(long, help_heading = HEADING)]
    pub(super) require_gpu: bool,
    /// Fail unless every node runs on a GPU that is no software.
    #[arg(long, help_heading = HEADING)]
    require_hardware: bool,
}

/// The heading of these options in a command's help.
pub(super) const HEADING: &str = "Device";

/// Reads what `--device` says.
pub(super) fn select(text: &str) -> Result<Select, String> {
    match text.trim() {
        "" => Err("is empty; auto is what is taken without this option".into()),
        text => text.parse().map_err(|never| match never {}),
    }
}

/// The device, and whether it is what one hoped for.
pub(super) fn described(device: &Device) -> String {
    let software = device.adapter().is_some_and(|adapter| adapter.software);
    format!("{}{}", device.name(), if software { ", software" } else { "" })
}

impl DeviceArgs {
    /// Whether the reference is asked for by name.
    pub(super) fn is_reference(&self) -> bool {
        self.device == Select::Cpu
    }

    /// Opens the device. If that is the reference because there is no adapter, a line says so.
    pub(super) fn open(&self) -> Result<Device, Failure> {
        let select = match &self.device {
            Select::Cpu if self.require_gpu || self.require_hardware => {
                let flag = if self.require_gpu { "--require-gpu" } else { "--require-hardware" };
                return Err(format!("{flag} and --device cpu exclude each other").into());
            }
            Select::Auto if self.require_gpu => Select::Gpu,
            select => select.clone(),
        };
        let options = DeviceOptions::new().select(select).require_hardware(self.require_hardware);
        let options = options.strict(self.require_gpu || self.require_hardware);
        let refused = |error: sardonyx::Error| match self.require_gpu || self.require_hardware {
            true => Failure::from(error).without_reference(),
            false => error.into(),
        };
        let device = Device::new(options).map_err(refused)?.interrupted_by(signals::interrupt());
        if device.is_reference() && self.device == Select::Auto {
            complain(
                "no GPU adapter was found: running on the CPU reference, which is slow \
                 (a software Vulkan is in the Debian/Ubuntu package mesa-vulkan-drivers)",
            );
        }
        Ok(device)
    }

    /// Opens a device other than the reference.
    pub(super) fn open_gpu(&self) -> Result<Device, Failure> {
        match self.device {
            Select::Cpu => Err("the CPU reference is what a GPU is compared with; name a GPU".into()),
            _ => DeviceArgs { require_gpu: true, ..self.clone() }.open(),
        }
    }
}
