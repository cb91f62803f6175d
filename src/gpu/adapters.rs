//! Adapters: what this machine has, and which one a [`Device`](crate::Device) takes.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::{Error, Result};

/// What to install where no adapter is found.
const NO_ADAPTER_HINT: &str = "install a Vulkan driver (software: Debian/Ubuntu package mesa-vulkan-drivers), \
     or take the CPU reference (`Device::reference()`)";

/// Which device to take.
///
/// ```
/// use sardonyx::Select;
/// assert_eq!("auto".parse(), Ok(Select::Auto));
/// assert_eq!("GPU".parse(), Ok(Select::Gpu));
/// assert_eq!("1".parse(), Ok(Select::Index(1)));
/// assert_eq!("0000:01:00.0".parse(), Ok(Select::Pci("0000:01:00.0".into())));
/// assert_eq!("llvmpipe".parse(), Ok(Select::Name("llvmpipe".into())));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Select {
    /// The best GPU adapter, or the CPU reference if there is none. Hardware comes before software: discrete, integrated,
    /// virtual, then lavapipe, then other software.
    #[default]
    Auto,
    /// The best GPU adapter.
    Gpu,
    /// The CPU reference.
    Cpu,
    /// The adapter at this index of the list of [`adapters`].
    Index(usize),
    /// The adapter at this PCI address (`0000:01:00.0`), which tells two equal GPUs apart. Only Vulkan reports addresses.
    Pci(String),
    /// The best adapter whose name, driver or backend contains this text, upper and lower case alike. Mesa's llvmpipe is also called
    /// lavapipe.
    Name(String),
}

impl std::str::FromStr for Select {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Select, Self::Err> {
        let is_hex = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_pci =
            text.contains('.') && text.matches(':').count() == 2 && text.split([':', '.']).all(is_hex);
        Ok(match text.to_ascii_lowercase().as_str() {
            "auto" => Select::Auto,
            "gpu" => Select::Gpu,
            "cpu" => Select::Cpu,
            address if is_pci => Select::Pci(address.into()),
            _ => text.parse().map_or_else(|_| Select::Name(text.into()), Select::Index),
        })
    }
}

/// How to make a [`Device`](crate::Device).
///
/// ```
/// use sardonyx::{DeviceOptions, Select};
/// let options = DeviceOptions::new().select(Select::Gpu).require_hardware(true);
/// let large = DeviceOptions::new().filter(|adapter| adapter.max_buffer_size >= 1 << 30);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DeviceOptions {
    pub(super) select: Select,
    pub(super) require_hardware: bool,
    pub(super) memory_limit: Option<u64>,
    pub(super) strict: bool,
    pub(super) timed: Option<Predicate>,
    filter: Option<Predicate>,
}

#[derive(Clone)]
pub(super) struct Predicate(Arc<dyn Fn(&AdapterSummary) -> bool + Send + Sync>);

impl Predicate {
    pub(super) fn holds(&self, adapter: &AdapterSummary) -> bool {
        self.0(adapter)
    }
}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Predicate")
    }
}

/// Bytes of the blocks that wgpu cuts small buffers from: inputs and outputs of a few MiB, which grow from run to run, reuse these
/// blocks. A larger buffer, as most arenas are, gets memory of its own, which goes back to the device when the arena grows: in a
/// block that small buffers share, the hole of the old arena would stay.
const MEMORY_BLOCK: Range<u64> = 8 << 20..16 << 20;

impl DeviceOptions {
    /// The best adapter of this machine.
    pub fn new() -> DeviceOptions {
        DeviceOptions::default()
    }

    /// Which device to take ([`Select::Auto`]).
    pub fn select(mut self, select: Select) -> DeviceOptions {
        self.select = select;
        self
    }

    /// Takes an adapter only if `accepts` does.
    pub fn filter(
        mut self,
        accepts: impl Fn(&AdapterSummary) -> bool + Send + Sync + 'static,
    ) -> DeviceOptions {
        self.filter = Some(Predicate(Arc::new(accepts)));
        self
    }

    /// Whether an adapter that computes on the CPU is refused, and with it the CPU reference (no).
    pub fn require_hardware(mut self, required: bool) -> DeviceOptions {
        self.require_hardware = required;
        self
    }

    /// Whether a node is refused if the device cannot compute it (no). Not every device computes with float64, and those that do have
    /// no kernel for some operators; the host does, on the reference, and [`PlanSummary::host_nodes`](crate::PlanSummary::host_nodes) names what it computes.
    pub fn strict(mut self, strict: bool) -> DeviceOptions {
        self.strict = strict;
        self
    }

    /// Lets timestamps measure each run on an adapter for which `measures` is true (on none), where it has them; see
    /// [`Session::device_time`](crate::Session::device_time). [`Session::run_to_device`](crate::Session::run_to_device) then waits for
    /// its run. On software adapters timestamps may cost more than a small model's run: 0.2 ms of processor time on lavapipe.
    ///
    /// ```
    /// use sardonyx::DeviceOptions;
    /// let options = DeviceOptions::new().timed(|adapter| !adapter.software);
    /// ```
    pub fn timed(
        mut self,
        measures: impl Fn(&AdapterSummary) -> bool + Send + Sync + 'static,
    ) -> DeviceOptions {
        self.timed = Some(Predicate(Arc::new(measures)));
        self
    }

    /// Bounds the memory that Sardonyx takes on the device; see [`Device::set_memory_limit`].
    ///
    /// [`Device::set_memory_limit`]: crate::Device::set_memory_limit
    pub fn memory_limit(mut self, bytes: u64) -> DeviceOptions {
        self.memory_limit = Some(bytes);
        self
    }

    /// The features and limits that a program that creates its own wgpu device should ask `adapter` for, so that Sardonyx runs
    /// at full speed on it. The program may add others; [`Device::from_wgpu`] says which are required.
    ///
    /// [`Device::from_wgpu`]: crate::Device::from_wgpu
    ///
    /// ```no_run
    /// # async fn f(adapter: sardonyx::wgpu::Adapter) -> Result<(), Box<dyn std::error::Error>> {
    /// use sardonyx::{Device, DeviceOptions};
    /// let (device, queue) = adapter.request_device(&DeviceOptions::descriptor_for(&adapter)).await?;
    /// let device = Device::from_wgpu(device, queue)?;
    /// # Ok(()) }
    /// ```
    pub fn descriptor_for(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
        let features = wgpu::Features::SUBGROUP
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::SHADER_F64
            | wgpu::Features::SHADER_INT64;
        wgpu::DeviceDescriptor {
            label: Some("sardonyx"),
            required_features: adapter.features() & features,
            required_limits: adapter.limits(),
            memory_hints: wgpu::MemoryHints::Manual { suballocated_device_memory_block_size: MEMORY_BLOCK },
            ..Default::default()
        }
    }

    fn accepts(&self, adapter: &AdapterSummary) -> bool {
        let selected = match &self.select {
            Select::Auto | Select::Gpu => adapter.below_floor.is_none(),
            Select::Cpu => false,
            Select::Index(index) => adapter.index == Some(*index),
            Select::Pci(address) => adapter.pci.as_deref() == Some(address),
            Select::Name(text) => adapter.matches(text),
        };
        selected && self.filter.as_ref().is_none_or(|filter| filter.holds(adapter))
    }

    /// Whether these options name the CPU reference, whatever adapters there are.
    fn is_reference(&self) -> bool {
        self.select == Select::Cpu && !self.require_hardware
    }

    /// The index of the adapter that these options choose; `None` for the CPU reference.
    fn choose(&self, all: &[AdapterSummary]) -> Result<Option<usize>> {
        if self.is_reference() {
            return Ok(None);
        }
        let accepted: Vec<usize> = (0..all.len()).filter(|&i| self.accepts(&all[i])).collect();
        let hardware = |i: &usize| !(self.require_hardware && all[*i].software);
        let best = accepted.iter().copied().filter(hardware).min_by_key(|&i| all[i].preference);
        match best {
            Some(best) => Ok(Some(best)),
            None if self.select == Select::Auto && !self.require_hardware && self.filter.is_none() => {
                Ok(None)
            }
            None => Err(self.none(all, !accepted.is_empty())),
        }
    }

    /// The error where no adapter is chosen; `only_software`: whether only hardware was missing.
    fn none(&self, all: &[AdapterSummary], only_software: bool) -> Error {
        let wanted = match &self.select {
            Select::Cpu => "is what `cpu` says, which computes on no hardware".into(),
            Select::Index(_) | Select::Pci(_) | Select::Name(_) if only_software => {
                "of those asked for is hardware".into()
            }
            Select::Index(index) => format!("has the index {index}"),
            Select::Pci(address) => format!("has the PCI address {address}"),
            Select::Name(text) => format!("matches '{text}'"),
            _ if all.is_empty() => "was found".into(),
            _ if only_software => "is hardware".into(),
            _ if self.filter.is_some() => "passes the filter".into(),
            _ => "can be used".into(),
        };
        let shown = |adapter: &AdapterSummary| {
            let index = adapter.index.map_or(String::new(), |index| format!("[{index}] "));
            format!("{index}{}{}", adapter.name, if adapter.software { " (software)" } else { "" })
        };
        let hint = match all {
            [] => NO_ADAPTER_HINT.into(),
            all => {
                let shown: Vec<String> = all.iter().map(shown).collect();
                format!("there {} {}", if shown.len() == 1 { "is" } else { "are" }, shown.join(", "))
            }
        };
        Error::NoAdapter { wanted, hint }
    }
}

/// An adapter, as `sardonyx devices` lists it, or the adapter of a [`Device`](crate::Device).
///
/// ```
/// for adapter in sardonyx::adapters() {
///     println!("{} ({})", adapter.name, adapter.backend);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct AdapterSummary {
    /// Its index in the list of [`adapters`], which [`Select::Index`] takes; `None` for a device that the host program made.
    pub index: Option<usize>,
    /// The adapter's name.
    pub name: String,
    /// `vulkan`, `metal`, `dx12`, ...
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `Cpu`, ...
    pub kind: String,
    /// Whether it computes on the CPU.
    pub software: bool,
    /// Whether [`Select::Auto`] takes it.
    pub auto: bool,
    /// Its PCI address (`0000:01:00.0`), where the backend tells.
    pub pci: Option<String>,
    /// The PCI numbers of vendor and device, where the backend reports these; otherwise numbers of the backend's own.
    pub vendor_and_device: (u32, u32),
    /// Bytes of the largest memory that belongs to the device alone, where the backend reports it.
    pub memory_bytes: Option<u64>,
    /// Features that kernels may use.
    pub features: Vec<String>,
    /// Least and greatest subgroup size.
    pub subgroup_sizes: (u32, u32),
    /// Bytes that one binding may span.
    pub max_storage_buffer_binding_size: u64,
    /// Bytes of one buffer.
    pub max_buffer_size: u64,
    /// Storage buffers that one kernel may bind.
    pub max_storage_buffers_per_shader_stage: u32,
    /// Bytes of workgroup memory.
    pub max_compute_workgroup_storage_size: u32,
    /// Invocations in one workgroup.
    pub max_compute_invocations_per_workgroup: u32,
    /// Alignment of a binding's offset, in bytes.
    pub min_storage_buffer_offset_alignment: u32,
    /// Why the adapter cannot be used, if it cannot.
    pub below_floor: Option<String>,
    /// The adapter with the smallest number is preferred.
    #[serde(skip)]
    preference: u8,
}

impl AdapterSummary {
    pub(super) fn new(
        info: &wgpu::AdapterInfo,
        features: wgpu::Features,
        limits: &wgpu::Limits,
    ) -> AdapterSummary {
        let features = features.intersection(useful_features());
        AdapterSummary {
            index: None,
            name: info.name.clone(),
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            kind: format!("{:?}", info.device_type),
            software: info.device_type == wgpu::DeviceType::Cpu,
            auto: false,
            pci: Some(info.device_pci_bus_id.clone()).filter(|id| !id.is_empty()),
            vendor_and_device: (info.vendor, info.device),
            memory_bytes: None,
            features: features.iter_names().map(|feature| feature.0.into()).collect(),
            subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
            max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
            max_buffer_size: limits.max_buffer_size,
            max_storage_buffers_per_shader_stage: limits.max_storage_buffers_per_shader_stage,
            max_compute_workgroup_storage_size: limits.max_compute_workgroup_storage_size,
            max_compute_invocations_per_workgroup: limits.max_compute_invocations_per_workgroup,
            min_storage_buffer_offset_alignment: limits.min_storage_buffer_offset_alignment,
            below_floor: below_floor(limits),
            preference: preference(info),
        }
    }

    fn matches(&self, text: &str) -> bool {
        let all = format!("{} {} {}", self.name, self.driver, self.backend).to_lowercase();
        // Mesa's software Vulkan is lavapipe, and its adapter is called after llvmpipe, which it is built on.
        let wanted = text.to_lowercase().replace("lavapipe", "llvmpipe");
        all.contains(&wanted)
    }
}

/// Every adapter of this machine, usable or not, in the order of the drivers.
///
/// ```
/// assert!(sardonyx::adapters().iter().all(|adapter| !adapter.backend.is_empty()));
/// ```
pub fn adapters() -> Vec<AdapterSummary> {
    summaries(&all_adapters())
}

/// The adapter that `options` choose; `None` for the CPU reference.
pub(super) fn choose(options: &DeviceOptions) -> Result<Option<(wgpu::Adapter, AdapterSummary)>> {
    // Some drivers take 200 MiB of addresses and a tenth of a second to say what they are.
    if options.is_reference() {
        return Ok(None);
    }
    let mut adapters = all_adapters();
    let mut all = summaries(&adapters);
    let chosen = options.choose(&all)?;
    Ok(chosen.map(|chosen| (adapters.swap_remove(chosen), all.swap_remove(chosen))))
}

fn all_adapters() -> Vec<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        ..wgpu::InstanceDescriptor::new_without_display_handle_from_env()
    });
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
}

fn summaries(adapters: &[wgpu::Adapter]) -> Vec<AdapterSummary> {
    let summary = |(index, adapter): (usize, &wgpu::Adapter)| AdapterSummary {
        index: Some(index),
        memory_bytes: memory_bytes(adapter),
        ..AdapterSummary::new(&adapter.get_info(), adapter.features(), &adapter.limits())
    };
    let mut all: Vec<AdapterSummary> = adapters.iter().enumerate().map(summary).collect();
    if let Ok(Some(auto)) = DeviceOptions::default().choose(&all) {
        all[auto].auto = true;
    }
    all
}

/// wgpu does not report memory; Vulkan does.
#[cfg(not(any(target_vendor = "apple", target_arch = "wasm32")))]
fn memory_bytes(adapter: &wgpu::Adapter) -> Option<u64> {
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the adapter is asked for properties, and nothing of it is changed or destroyed.
    #[allow(unsafe_code)]
    let memory = unsafe {
        let adapter = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = adapter.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(adapter.raw_physical_device())
    };
    let heaps = memory.memory_heaps_as_slice().iter();
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

#[cfg(any(target_vendor = "apple", target_arch = "wasm32"))]
fn memory_bytes(_: &wgpu::Adapter) -> Option<u64> {
    None
}

fn useful_features() -> wgpu::Features {
    wgpu::Features::SUBGROUP
        | wgpu::Features::SUBGROUP_BARRIER
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SHADER_INT64
        | wgpu::Features::SHADER_F64
        | wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::MAPPABLE_PRIMARY_BUFFERS
        | wgpu::Features::IMMEDIATES
        | wgpu::Features::PIPELINE_CACHE
        | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
}

/// What every kernel needs and the adapter lacks; `None` if it lacks nothing.
pub(super) fn below_floor(limits: &wgpu::Limits) -> Option<String> {
    let floor = [
        ("storage buffers per shader stage", limits.max_storage_buffers_per_shader_stage.into(), 8),
        ("invocations per workgroup", limits.max_compute_invocations_per_workgroup.into(), 256),
        ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size.into(), 16 << 10),
        ("workgroups per dimension", limits.max_compute_workgroups_per_dimension.into(), 65_535u64),
        ("bytes per binding", limits.max_storage_buffer_binding_size, 128 << 20),
    ];
    let lacking = floor.iter().filter(|(_, has, needs)| has < needs);
    let lacking: Vec<String> =
        lacking.map(|(what, has, needs)| format!("it has {has} {what}, and {needs} are needed")).collect();
    if lacking.is_empty() { None } else { Some(lacking.join("; ")) }
}

/// Discrete GPUs come before integrated ones, then virtual ones, then software. lavapipe comes before other software, as its
/// compiler is better.
fn preference(info: &wgpu::AdapterInfo) -> u8 {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu if info.driver.contains("llvmpipe") || info.name.contains("llvmpipe") => 4,
        wgpu::DeviceType::Cpu => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(index: usize, name: &str, kind: wgpu::DeviceType, pci: &str) -> AdapterSummary {
        let (device, _) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let info = wgpu::AdapterInfo {
            name: name.into(),
            device_type: kind,
            device_pci_bus_id: pci.into(),
            ..device.adapter_info()
        };
        let summary = AdapterSummary::new(&info, wgpu::Features::empty(), &wgpu::Limits::default());
        AdapterSummary { index: Some(index), ..summary }
    }

    /// A machine with software, two equal GPUs, and a GPU inside the processor.
    fn machine() -> Vec<AdapterSummary> {
        vec![
            adapter(0, "SwiftShader Device", wgpu::DeviceType::Cpu, ""),
            adapter(1, "llvmpipe (LLVM 15)", wgpu::DeviceType::Cpu, ""),
            adapter(2, "Iris", wgpu::DeviceType::IntegratedGpu, "0000:00:02.0"),
            adapter(3, "RTX 1", wgpu::DeviceType::DiscreteGpu, "0000:01:00.0"),
            adapter(4, "RTX 1", wgpu::DeviceType::DiscreteGpu, "0000:02:00.0"),
        ]
    }

    fn chosen(options: DeviceOptions, all: &[AdapterSummary]) -> Option<usize> {
        options.choose(all).unwrap_or_else(|error| panic!("{error}"))
    }

    fn named(text: &str) -> DeviceOptions {
        DeviceOptions::new().select(text.parse().unwrap())
    }

    #[test]
    fn two_equal_adapters_can_be_told_apart() {
        let all = machine();
        assert_eq!(chosen(named("RTX 1"), &all), Some(3));
        assert_eq!(chosen(named("4"), &all), Some(4));
        assert_eq!(chosen(named("0000:02:00.0"), &all), Some(4));
        let second = DeviceOptions::new().filter(|adapter| adapter.pci.as_deref() == Some("0000:02:00.0"));
        assert_eq!(chosen(second, &all), Some(4));
    }

    #[test]
    fn hardware_comes_first_and_then_lavapipe() {
        let all = machine();
        assert_eq!(chosen(named("auto"), &all), Some(3));
        assert_eq!(chosen(named("LavaPipe"), &all), Some(1));
        assert_eq!(chosen(named("Auto"), &all[..3]), Some(2));
        assert_eq!(chosen(named("auto"), &all[..2]), Some(1));
        assert_eq!(chosen(named("gpu"), &all[..1]), Some(0));
        assert_eq!(chosen(named("auto"), &[]), None);
        assert_eq!(chosen(named("cpu"), &all), None);
    }

    #[test]
    fn software_is_refused_where_hardware_is_required() {
        let all = machine();
        let error = |options: DeviceOptions, all: &[AdapterSummary]| {
            options.require_hardware(true).choose(all).unwrap_err().to_string()
        };
        assert_eq!(chosen(named("auto").require_hardware(true), &all), Some(3));
        let there = "there are [0] SwiftShader Device (software), [1] llvmpipe (LLVM 15) (software)";
        assert_eq!(error(named("auto"), &all[..2]), format!("no GPU adapter is hardware: {there}"));
        assert_eq!(error(named("gpu"), &all[..2]), format!("no GPU adapter is hardware: {there}"));
        assert_eq!(
            error(named("1"), &all[..2]),
            format!("no GPU adapter of those asked for is hardware: {there}")
        );
        assert!(error(named("llvmpipe"), &all).starts_with("no GPU adapter of those asked for is hardware"));
        assert!(error(named("cpu"), &all).contains("computes on no hardware"));
        assert!(error(named("auto"), &[]).contains("install a Vulkan driver"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let all = machine();
        let error = |options: DeviceOptions| options.choose(&all).unwrap_err().to_string();
        assert!(error(named("7")).starts_with("no GPU adapter has the index 7: there are [0] SwiftShader"));
        assert!(error(named("0000:09:00.0")).starts_with("no GPU adapter has the PCI address 0000:09:00.0"));
        assert!(error(named("voodoo")).starts_with("no GPU adapter matches 'voodoo'"));
        assert!(
            error(DeviceOptions::new().filter(|_| false)).starts_with("no GPU adapter passes the filter")
        );
    }
}
