//! `Device`: an adapter that was found or a wgpu device that the caller gave, with its pipelines.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::failure::Failures;
use crate::kernels::shared::Block;
use crate::kernels::{Class, Target, Variant};
use crate::{Error, Result};

/// What to install where no adapter is found.
const NO_ADAPTER_HINT: &str = "install a Vulkan driver (software: Debian/Ubuntu package mesa-vulkan-drivers), \
     or use the CPU reference (`Device::reference()`, `--device cpu`)";

/// Which device to take.
///
/// ```
/// use sardonyx::Select;
/// assert_eq!("auto".parse(), Ok(Select::Auto));
/// assert_eq!("llvmpipe".parse(), Ok(Select::Name("llvmpipe".into())));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Select {
    /// The best GPU adapter, or the CPU reference if there is none.
    #[default]
    Auto,
    /// The best GPU adapter.
    Gpu,
    /// The CPU reference.
    Cpu,
    /// The first adapter whose name, driver or backend contains this text, upper and lower case alike.
    Name(String),
}

impl std::str::FromStr for Select {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Select, Self::Err> {
        Ok(match text {
            "auto" => Select::Auto,
            "gpu" => Select::Gpu,
            "cpu" => Select::Cpu,
            name => Select::Name(name.into()),
        })
    }
}

/// How to make a [`Device`].
///
/// ```
/// use sardonyx::{DeviceOptions, Select};
/// let options = DeviceOptions { select: Select::Cpu, ..Default::default() };
/// ```
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// Which device to take.
    pub select: Select,
}

/// One adapter, as `sardonyx devices` lists it.
///
/// ```
/// for adapter in sardonyx::adapters() {
///     println!("{} ({})", adapter.name, adapter.backend);
/// }
/// ```
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct AdapterSummary {
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
}

/// Objects that Sardonyx created and work that it submitted on a device since the [`Device`] was made. What a host records
/// with [`Binding::record`](crate::Binding::record) is the host's, and not counted.
///
/// ```
/// let device = sardonyx::Device::reference();
/// assert_eq!(device.counters().pipelines, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Buffers created.
    pub buffers: u64,
    /// Bind groups created.
    pub bind_groups: u64,
    /// Compute pipelines created; they are shared by all sessions of the device.
    pub pipelines: u64,
    /// Compute passes submitted: one for each run.
    pub passes: u64,
    /// Submissions to the queue: one for each run.
    pub submits: u64,
    /// Kernel dispatches submitted.
    pub dispatches: u64,
    /// Bytes of all buffers ever created, those freed since included.
    pub bytes: u64,
}

/// What was created and submitted between two readings.
///
/// ```
/// let device = sardonyx::Device::reference();
/// let before = device.counters();
/// assert_eq!((device.counters() - before).dispatches, 0);
/// ```
impl std::ops::Sub for Counters {
    type Output = Counters;

    fn sub(self, before: Counters) -> Counters {
        Counters {
            buffers: self.buffers - before.buffers,
            bind_groups: self.bind_groups - before.bind_groups,
            pipelines: self.pipelines - before.pipelines,
            passes: self.passes - before.passes,
            submits: self.submits - before.submits,
            dispatches: self.dispatches - before.dispatches,
            bytes: self.bytes - before.bytes,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct AtomicCounters {
    pub(super) buffers: AtomicU64,
    pub(super) bind_groups: AtomicU64,
    pub(super) pipelines: AtomicU64,
    pub(super) passes: AtomicU64,
    pub(super) submits: AtomicU64,
    pub(super) dispatches: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// A compute pipeline with the layout of its bind group.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

/// A device that runs models: a wgpu device with Sardonyx's pipelines, or the CPU reference. Cheap to clone.
///
/// ```
/// use sardonyx::{Device, DeviceOptions};
/// let device = Device::new(DeviceOptions::default())?;
/// println!("{}", device.name());
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Device(Option<Arc<Gpu>>);

/// A wgpu device and what Sardonyx keeps with it.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) info: wgpu::AdapterInfo,
    pub(crate) target: Target,
    pub(super) counters: AtomicCounters,
    pipelines: Mutex<HashMap<Variant, Arc<Pipeline>>>,
    pub(super) failures: Failures,
    /// Tests let the allocation after this many fail; `usize::MAX` is never.
    pub(super) allocations_left: AtomicUsize,
    /// Tests let all loops of an invocation end after this many iterations, as some drivers do.
    #[cfg(test)]
    loops_end_after: Option<u32>,
}

/// What `make` makes of each, on as many threads as the machine has.
fn in_threads<'k, K: Sync, T: Send>(keys: Vec<&'k K>, make: impl Fn(&'k K) -> T + Sync) -> Vec<(&'k K, T)> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(keys.len());
    if threads < 2 {
        return keys.into_iter().map(|key| (key, make(key))).collect();
    }
    let (left, made) = (Mutex::new(keys), Mutex::new(Vec::new()));
    let take = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(key) = take() {
                    let new = (key, make(key));
                    made.lock().unwrap_or_else(PoisonError::into_inner).push(new);
                }
            });
        }
    });
    made.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        ..wgpu::InstanceDescriptor::new_without_display_handle_from_env()
    })
}

fn all_adapters() -> Vec<wgpu::Adapter> {
    pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()))
}

/// Every adapter of this machine, usable or not.
///
/// ```
/// assert!(sardonyx::adapters().iter().all(|adapter| !adapter.backend.is_empty()));
/// ```
pub fn adapters() -> Vec<AdapterSummary> {
    all_adapters().iter().map(summary).collect()
}

fn summary(adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    AdapterSummary {
        backend: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        kind: format!("{:?}", info.device_type),
        software: info.device_type == wgpu::DeviceType::Cpu,
        features: adapter
            .features()
            .intersection(useful_features())
            .iter_names()
            .map(|f| f.0.into())
            .collect(),
        subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
        max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
        max_buffer_size: limits.max_buffer_size,
        max_storage_buffers_per_shader_stage: limits.max_storage_buffers_per_shader_stage,
        max_compute_workgroup_storage_size: limits.max_compute_workgroup_storage_size,
        max_compute_invocations_per_workgroup: limits.max_compute_invocations_per_workgroup,
        min_storage_buffer_offset_alignment: limits.min_storage_buffer_offset_alignment,
        below_floor: below_floor(&limits),
        name: info.name,
    }
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

/// What every kernel needs, and an adapter may lack.
fn below_floor(limits: &wgpu::Limits) -> Option<String> {
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

/// Discrete before integrated before virtual before software.
fn rank(info: &wgpu::AdapterInfo) -> u8 {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

fn matches(info: &wgpu::AdapterInfo, text: &str) -> bool {
    let text = text.to_lowercase();
    let all = format!("{} {} {} {}", info.name, info.driver, info.driver_info, info.backend).to_lowercase();
    all.contains(&text)
}

impl Device {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if none fits, [`Error::BelowFloor`] if the one named cannot be used, [`Error::Gpu`] if its
    /// driver refuses.
    ///
    /// ```
    /// use sardonyx::{Device, DeviceOptions, Select};
    /// let nothing = Device::new(DeviceOptions { select: Select::Name("no such adapter".into()) });
    /// assert!(nothing.is_err());
    /// ```
    pub fn new(options: DeviceOptions) -> Result<Device> {
        if options.select == Select::Cpu {
            return Ok(Device::reference());
        }
        let mut adapters = all_adapters();
        adapters.sort_by_key(|adapter| rank(&adapter.get_info()));
        let names: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
        let found = match &options.select {
            Select::Name(text) => adapters.into_iter().find(|adapter| matches(&adapter.get_info(), text)),
            _ => adapters.into_iter().find(|adapter| below_floor(&adapter.limits()).is_none()),
        };
        match (found, &options.select) {
            (Some(adapter), _) => Ok(Device(Some(Arc::new(open(&adapter)?)))),
            (None, Select::Auto) => Ok(Device::reference()),
            (None, select) => Err(none(select, &names)),
        }
    }

    /// The CPU reference: the same models, obviously right and slow.
    ///
    /// ```
    /// assert!(sardonyx::Device::reference().is_reference());
    /// ```
    pub fn reference() -> Device {
        Device(None)
    }

    /// Runs on the caller's own device and queue. Buffers of that device can be bound with `Session::bind`.
    ///
    /// # Errors
    /// [`Error::BelowFloor`] if the device was requested with limits that kernels do not fit.
    ///
    /// ```no_run
    /// # fn with(device: wgpu::Device, queue: wgpu::Queue) -> sardonyx::Result<()> {
    /// let device = sardonyx::Device::from_wgpu(device, queue)?;
    /// # Ok(()) }
    /// ```
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Device> {
        let info = device.adapter_info();
        if let Some(reason) = below_floor(&device.limits()) {
            let reason = format!("{reason}; request the device with at least `wgpu::Limits::default()`");
            return Err(Error::BelowFloor { adapter: info.name, reason });
        }
        Ok(Device(Some(Arc::new(Gpu::new(device, queue, info)))))
    }

    /// Whether this is the CPU reference.
    pub fn is_reference(&self) -> bool {
        self.0.is_none()
    }

    /// The adapter's name, or `CPU reference`.
    pub fn name(&self) -> String {
        self.0.as_ref().map_or("CPU reference".into(), |gpu| gpu.info.name.clone())
    }

    /// What was created and submitted so far.
    pub fn counters(&self) -> Counters {
        let Some(gpu) = &self.0 else { return Counters::default() };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &gpu.counters;
        Counters {
            buffers: read(&c.buffers),
            bind_groups: read(&c.bind_groups),
            pipelines: read(&c.pipelines),
            passes: read(&c.passes),
            submits: read(&c.submits),
            dispatches: read(&c.dispatches),
            bytes: read(&c.bytes),
        }
    }

    /// The wgpu device, unless this is the CPU reference.
    ///
    /// ```
    /// assert!(sardonyx::Device::reference().wgpu().is_none());
    /// ```
    pub fn wgpu(&self) -> Option<(&wgpu::Device, &wgpu::Queue)> {
        self.0.as_ref().map(|gpu| (&gpu.device, &gpu.queue))
    }

    pub(crate) fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.0.as_ref()
    }

    /// A device that validates every call and computes nothing: outputs hold anything. It has the least that a GPU must have,
    /// so that plans for it run on every GPU. For plans and tests where there is no GPU.
    ///
    /// ```
    /// assert!(!sardonyx::Device::noop().is_reference());
    /// ```
    pub fn noop() -> Device {
        Device::noop_for(Target::FLOOR)
    }

    /// The same with kernels for `target`.
    pub(crate) fn noop_for(target: Target) -> Device {
        let required_features = wgpu::Features::SUBGROUP;
        let descriptor = wgpu::DeviceDescriptor { required_features, ..wgpu::DeviceDescriptor::default() };
        let (device, queue) = wgpu::Device::noop(&descriptor);
        let info = device.adapter_info();
        Device(Some(Arc::new(Gpu { target, ..Gpu::new(device, queue, info) })))
    }

    /// The device, before it is shared, as one whose driver ends loops early.
    #[cfg(test)]
    pub(crate) fn with_loops_ending_after(mut self, iterations: u32) -> Device {
        if let Some(gpu) = self.0.as_mut().and_then(Arc::get_mut) {
            gpu.loops_end_after = Some(iterations);
        }
        self
    }

    /// The device, before it is shared, with kernels that are meant for another.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn with_target(mut self, change: impl FnOnce(&mut Target)) -> Device {
        if let Some(gpu) = self.0.as_mut().and_then(Arc::get_mut) {
            change(&mut gpu.target);
        }
        self
    }
}

/// Why no adapter was taken, where there are those of these names.
fn none(select: &Select, names: &[String]) -> Error {
    let wanted = match select {
        Select::Name(text) => format!("matches '{text}'"),
        _ if names.is_empty() => "was found".into(),
        _ => "can be used".into(),
    };
    let hint = match names {
        [] => NO_ADAPTER_HINT.into(),
        names => format!("there are {}; see `sardonyx devices`", names.join(", ")),
    };
    Error::NoAdapter { wanted, hint }
}

fn open(adapter: &wgpu::Adapter) -> Result<Gpu> {
    let info = adapter.get_info();
    let limits = adapter.limits();
    if let Some(reason) = below_floor(&limits) {
        let reason = format!("{reason}; name another adapter, or use the CPU reference");
        return Err(Error::BelowFloor { adapter: info.name, reason });
    }
    let features = wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY;
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("sardonyx"),
        required_features: adapter.features() & features,
        required_limits: limits,
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    let opened = pollster::block_on(adapter.request_device(&descriptor));
    let (device, queue) = opened.map_err(|error| Error::Gpu(format!("'{}': {error}", info.name)))?;
    let gpu = Gpu::new(device, queue, info);
    gpu.failures.listen(&gpu.device);
    Ok(gpu)
}

impl Gpu {
    fn new(device: wgpu::Device, queue: wgpu::Queue, info: wgpu::AdapterInfo) -> Gpu {
        let target = target(&device, &info);
        Gpu {
            device,
            queue,
            info,
            target,
            counters: AtomicCounters::default(),
            pipelines: Mutex::default(),
            failures: Failures::default(),
            allocations_left: AtomicUsize::new(usize::MAX),
            #[cfg(test)]
            loops_end_after: None,
        }
    }

    /// The pipelines of kernels whose slots have these accesses; made on first use, side by side: the driver's compiler takes
    /// most of a first run.
    pub(super) fn pipelines(&self, wanted: &[Variant]) -> Result<Vec<Arc<Pipeline>>> {
        let known = || self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: HashSet<&Variant> = {
            let known = known();
            wanted.iter().filter(|key| !known.contains_key(*key)).collect()
        };
        let make = |variant: &Variant| {
            let what = format!("kernel {}", variant.kernel.spec().label());
            self.attempt(&what, 0, || self.make_pipeline(variant))
        };
        for (key, pipeline) in in_threads(missing.into_iter().collect(), make) {
            let pipeline = pipeline?;
            self.counters.pipelines.fetch_add(1, Ordering::Relaxed);
            known().entry(key.clone()).or_insert(Arc::new(pipeline));
        }
        let known = known();
        let all = wanted.iter().map(|key| known.get(key).cloned()).collect::<Option<_>>();
        all.ok_or_else(|| Error::Gpu("a kernel has no pipeline".into()))
    }

    #[cfg(not(test))]
    fn text(&self, variant: &Variant) -> String {
        variant.module()
    }

    #[cfg(test)]
    fn text(&self, variant: &Variant) -> String {
        let text = variant.module();
        let Some(limit) = self.loops_end_after else { return text };
        let is_loop = |line: &str| ["for (", "while ", "loop "].iter().any(|word| line.contains(word));
        let mut ended = String::from("var<private> iterations: u32;\n");
        for line in text.lines() {
            ended += &format!("{line}\n");
            let code = line.split("//").next().unwrap_or_default().trim();
            if is_loop(code) {
                assert!(code.ends_with('{'), "{line}");
                ended += &format!("if iterations >= {limit}u {{ break; }}\niterations += 1u;\n");
            }
        }
        ended
    }

    fn make_pipeline(&self, variant: &Variant) -> Pipeline {
        let label = variant.kernel.spec().label();
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(self.text(variant).into()),
        };
        let checks =
            wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() };
        // SAFETY: without loop bounding a shader must not loop forever. Every loop of every kernel counts to a parameter
        // or a constant; memory accesses and divisions stay checked. (Loop bounding costs 2-3x: naga adds a 64-bit
        // counter to each loop.)
        #[allow(unsafe_code)]
        let module = unsafe { self.device.create_shader_module_trusted(descriptor, checks) };
        let slots = variant.kernel.slots();
        let storage = slots.iter().enumerate().map(|(i, slot)| {
            let read_only = !variant.is_writable(i, slot);
            wgpu::BufferBindingType::Storage { read_only }
        });
        let entries: Vec<_> = storage
            .chain(std::iter::once(wgpu::BufferBindingType::Uniform))
            .enumerate()
            .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
                count: None,
            })
            .collect();
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(&label),
            entries: &entries,
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Kernels write workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    }
}

/// lavapipe before Mesa 25 ends loops after 65,535 iterations per invocation, without an error: all devices get the
/// bound, so that there is one set of kernels.
const MAX_ITERATIONS: u32 = 60_000;

fn target(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Target {
    let limits = device.limits();
    let software = info.device_type == wgpu::DeviceType::Cpu;
    let one_size = info.subgroup_min_size == info.subgroup_max_size;
    let subgroup = device.features().contains(wgpu::Features::SUBGROUP) && one_size;
    Target {
        class: if software { Class::Cpu } else { Class::Gpu },
        subgroup: if subgroup { info.subgroup_min_size } else { 0 },
        max_binding: limits.max_storage_buffer_binding_size,
        offset_alignment: limits.min_storage_buffer_offset_alignment.into(),
        max_groups: limits.max_compute_workgroups_per_dimension,
        max_iterations: MAX_ITERATIONS,
        blocks: &Block::ALL,
    }
}
