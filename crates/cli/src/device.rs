//! `--device`, `--require-gpu` and `--require-hardware`.

use clap_complete::engine::ArgValueCandidates;

use super::{Failure, complain, completions, signals};
use sardonyx::{Device, DeviceOptions, Select};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct DeviceArgs {
    /// auto, gpu, cpu (the reference), an index or PCI address from `sardonyx devices`, or a part of an adapter's name,
    /// driver or backend.
    #[arg(long, value_name = "NAME", default_value = "auto", add = ArgValueCandidates::new(completions::devices))]
    device: Select,
    /// Fail unless every node runs on a GPU, software or not.
    #[arg(long)]
    pub(super) require_gpu: bool,
    /// Fail unless every node runs on a GPU that is no software.
    #[arg(long)]
    require_hardware: bool,
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
        let device = Device::new(options)?.interrupted_by(signals::interrupt());
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
