//! `Device`: an adapter that was found, or a wgpu device that the caller gave, with Sardonyx's pipelines.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use super::adapters::{self, AdapterSummary, DeviceOptions};
use super::allocate::{Account, Resident};
use super::failure::Failures;
use super::preparing::Preparing;
use super::waiting::Waiting;
use super::weights::Uploads;
use crate::events::{event, milliseconds};
use crate::interrupt::GoOn;
use crate::kernels::shared::Block;
use crate::kernels::{Class, Target, Variant};
use crate::{Error, Interrupt, Result, heap};

/// The number of objects that Sardonyx created, and of work that it submitted, on a device since the [`Device`] was made.
/// Passes that a host program records with [`Binding::record`](crate::Binding::record) are its own, and not counted.
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
    /// Compute passes submitted: one for each run, for each segment of it, or for each iteration of a loop.
    pub passes: u64,
    /// Submissions to the queue: one for each run, or several for a run of several segments.
    pub submits: u64,
    /// Kernel dispatches submitted.
    pub dispatches: u64,
    /// Bytes of all buffers ever created, those that were freed since included.
    pub bytes: u64,
    /// Bytes of weights and tables ever uploaded; sessions of a device share them.
    pub weight_bytes: u64,
    /// Times that the host waited for tensors that a run left on the device: values between two segments, and
    /// [`DeviceTensor::read`](crate::DeviceTensor::read).
    pub read_backs: u64,
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
            weight_bytes: self.weight_bytes - before.weight_bytes,
            read_backs: self.read_backs - before.read_backs,
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
    pub(super) weight_bytes: AtomicU64,
    pub(super) read_backs: AtomicU64,
}

/// A compute pipeline and the layout of its bind group.
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
pub struct Device(Option<Arc<Gpu>>, Interrupt);

/// A wgpu device and what Sardonyx keeps with it.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) adapter: AdapterSummary,
    pub(crate) target: Target,
    /// Whether what the device cannot compute is refused.
    pub(crate) strict: bool,
    /// Whether timestamps measure each run.
    pub(super) timed: bool,
    pub(super) counters: AtomicCounters,
    pub(super) uploads: Arc<Uploads>,
    pipelines: Mutex<HashMap<Variant, Arc<Pipeline>>>,
    pub(super) failures: Failures,
    pub(super) waiting: Waiting,
    pub(super) preparing: Preparing,
    /// Bytes of uploads since the last submission, and of the buffers to which they go.
    pub(super) waiting_bytes: AtomicU64,
    /// The account of everything that Sardonyx holds on the device.
    pub(crate) account: Arc<Account>,
    /// The most bytes that the account may hold; `u64::MAX` for no limit.
    pub(super) memory_limit: AtomicU64,
    pub(super) residents: Mutex<Vec<Weak<dyn Resident>>>,
    pub(super) clock: AtomicU64,
    /// For tests: the number of allocations that succeed before one fails; `usize::MAX` for none.
    pub(super) allocations_left: AtomicUsize,
    /// For tests: the number of iterations of an invocation after which all its loops end, as on some drivers.
    #[cfg(test)]
    loops_end_after: Option<u32>,
}

/// The bytes of host memory that are asked for a pipeline: its text is parsed, checked and translated, and then the driver
/// compiles it.
const PIPELINE: u64 = 4 << 20;

/// Calls `make` with each key, on as many threads as the machine has.
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

impl Device {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if none fits, [`Error::BelowFloor`] if the one named cannot be used, [`Error::Gpu`] if its
    /// driver refuses.
    ///
    /// ```
    /// use sardonyx::{Device, DeviceOptions, Select};
    /// let nothing = Device::new(DeviceOptions::new().select(Select::Name("no such adapter".into())));
    /// assert!(nothing.is_err());
    /// ```
    pub fn new(options: DeviceOptions) -> Result<Device> {
        let Some((adapter, summary)) = adapters::choose(&options)? else { return Ok(Device::reference()) };
        let gpu = open(&adapter, summary)?;
        let has_timestamps = gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let timed = has_timestamps && options.timed.is_some_and(|timed| timed.holds(&gpu.adapter));
        let gpu = Gpu { strict: options.strict, timed, ..gpu };
        let device = Device(Some(Arc::new(gpu)), Interrupt::new());
        if let Some(bytes) = options.memory_limit {
            device.set_memory_limit(bytes);
        }
        Ok(device)
    }

    /// The CPU reference, which computes the same models: simple enough to be checked by reading, and slow.
    ///
    /// ```
    /// assert!(sardonyx::Device::reference().is_reference());
    /// ```
    pub fn reference() -> Device {
        Device(None, Interrupt::new())
    }

    /// Runs on the caller's own device and queue. Buffers of that device can be bound with `Session::bind`. The device computes with
    /// float64 if it was requested with `SHADER_F64` and `SHADER_INT64`, as [`DeviceOptions::descriptor_for`] does where the adapter has
    /// them; otherwise the host does.
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
        let summary = AdapterSummary::new(&device.adapter_info(), device.features(), &device.limits());
        if let Some(reason) = &summary.below_floor {
            let reason = format!("{reason}; request the device with at least `wgpu::Limits::default()`");
            return Err(Error::BelowFloor { adapter: summary.name, reason });
        }
        Ok(Device(Some(Arc::new(Gpu::new(device, queue, summary))), Interrupt::new()))
    }

    /// The same device, on which sessions that are made with it end their work once `interrupt` is raised. Sessions that are made
    /// with another clone of the device do not. See [`Interrupt`] for an example.
    pub fn interrupted_by(self, interrupt: &Interrupt) -> Device {
        Device(self.0, interrupt.clone())
    }

    /// The flag that ends work on this device early.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.1
    }

    /// Whether this is the CPU reference.
    pub fn is_reference(&self) -> bool {
        self.0.is_none()
    }

    /// The adapter's name, or `CPU reference`.
    pub fn name(&self) -> String {
        self.0.as_ref().map_or("CPU reference".into(), |gpu| gpu.adapter.name.clone())
    }

    /// Backend, driver, kind and limits of the adapter behind the device, and whether it is software; `None` for the CPU
    /// reference. A host's device has the features and limits that it was requested with.
    ///
    /// ```
    /// # use sardonyx::{Device, DeviceOptions};
    /// let device = Device::new(DeviceOptions::new())?;
    /// match device.adapter() {
    ///     Some(adapter) => println!("{} ({}, {})", adapter.name, adapter.backend, adapter.driver),
    ///     None => println!("the CPU reference"),
    /// }
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn adapter(&self) -> Option<&AdapterSummary> {
        self.0.as_ref().map(|gpu| &gpu.adapter)
    }

    /// Bounds the bytes of all buffers that Sardonyx holds on this device at the same time: weights, memory of runs, plans,
    /// and [`DeviceTensor`](crate::DeviceTensor)s. A run that would exceed the bound first drops idle frames and then the
    /// least recently used plans of all sessions. If that is not enough, the run fails with [`Error::MemoryLimit`] before
    /// anything is allocated. Pipelines, and what a driver keeps for itself, are not counted. The CPU reference has no limit.
    ///
    /// ```
    /// # use sardonyx::{Device, DeviceOptions};
    /// let device = Device::new(DeviceOptions::new())?;
    /// device.set_memory_limit(512 << 20);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn set_memory_limit(&self, bytes: u64) {
        if let Some(gpu) = &self.0 {
            gpu.memory_limit.store(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes of all buffers that Sardonyx holds on this device now; 0 for the CPU reference.
    pub fn memory_bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |gpu| gpu.account.now())
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
            weight_bytes: read(&c.weight_bytes),
            read_backs: read(&c.read_backs),
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

    /// The error of something that this device cannot do.
    pub(crate) fn cannot(&self, reason: &str) -> Error {
        Error::Device { device: self.name(), reason: reason.into() }
    }

    pub(crate) fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.0.as_ref()
    }

    /// A device that validates every call and computes nothing: outputs may hold anything. It has the least that a GPU must
    /// have, so plans made for it run on every GPU. It serves plans and tests where there is no GPU.
    ///
    /// ```
    /// assert!(!sardonyx::Device::noop().is_reference());
    /// ```
    pub fn noop() -> Device {
        Device::noop_for(Target::FLOOR)
    }

    /// A device that computes nothing, with kernels for `target`.
    pub(crate) fn noop_for(target: Target) -> Device {
        let required_features = wgpu::Features::SUBGROUP;
        let descriptor = wgpu::DeviceDescriptor { required_features, ..wgpu::DeviceDescriptor::default() };
        let (device, queue) = wgpu::Device::noop(&descriptor);
        let adapter = AdapterSummary::new(&device.adapter_info(), device.features(), &device.limits());
        Device(Some(Arc::new(Gpu { target, ..Gpu::new(device, queue, adapter) })), Interrupt::new())
    }

    /// This device, before it is shared, with a driver that ends loops early.
    #[cfg(test)]
    pub(crate) fn with_loops_ending_after(mut self, iterations: u32) -> Device {
        if let Some(gpu) = self.0.as_mut().and_then(Arc::get_mut) {
            gpu.loops_end_after = Some(iterations);
        }
        self
    }

    /// This device, before it is shared: whether it refuses what the host would compute.
    #[cfg(test)]
    pub(crate) fn with_strict(mut self, strict: bool) -> Device {
        if let Some(gpu) = self.0.as_mut().and_then(Arc::get_mut) {
            gpu.strict = strict;
        }
        self
    }

    /// This device, before it is shared, with kernels that are meant for another.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn with_target(mut self, change: impl FnOnce(&mut Target)) -> Device {
        if let Some(gpu) = self.0.as_mut().and_then(Arc::get_mut) {
            change(&mut gpu.target);
        }
        self
    }
}

fn open(adapter: &wgpu::Adapter, summary: AdapterSummary) -> Result<Gpu> {
    if let Some(reason) = &summary.below_floor {
        let reason =
            format!("{reason}; name another adapter, or take the CPU reference (`Device::reference()`)");
        return Err(Error::BelowFloor { adapter: summary.name, reason });
    }
    let opened = pollster::block_on(adapter.request_device(&DeviceOptions::descriptor_for(adapter)));
    let (device, queue) = opened.map_err(|error| Error::Gpu(format!("'{}': {error}", summary.name)))?;
    let gpu = Gpu::new(device, queue, summary);
    gpu.failures.listen(&gpu.device);
    Ok(gpu)
}

impl Gpu {
    fn new(device: wgpu::Device, queue: wgpu::Queue, adapter: AdapterSummary) -> Gpu {
        let target = target(&device, &adapter);
        Gpu {
            device,
            queue,
            adapter,
            target,
            strict: false,
            timed: false,
            counters: AtomicCounters::default(),
            uploads: Arc::default(),
            pipelines: Mutex::default(),
            failures: Failures::default(),
            waiting: Waiting::default(),
            preparing: Preparing::default(),
            waiting_bytes: AtomicU64::new(0),
            account: Arc::default(),
            memory_limit: AtomicU64::new(u64::MAX),
            residents: Mutex::default(),
            clock: AtomicU64::new(0),
            allocations_left: AtomicUsize::new(usize::MAX),
            #[cfg(test)]
            loops_end_after: None,
        }
    }

    /// The pipelines of these variants. Missing ones are compiled now, on several threads: compiling takes most of the time of
    /// a first run. `go_on` is asked before each.
    pub(super) fn pipelines(&self, wanted: &[Variant], go_on: &GoOn) -> Result<Vec<Arc<Pipeline>>> {
        let known = || self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: HashSet<&Variant> = {
            let known = known();
            wanted.iter().filter(|key| !known.contains_key(*key)).collect()
        };
        for variant in &missing {
            heap::ask(format_args!("kernel {}", variant.kernel.spec().label()), PIPELINE)?;
        }
        let make = |variant: &Variant| {
            go_on()?;
            let (label, start) = (variant.kernel.spec().label(), Instant::now());
            let made = self.attempt(&format!("kernel {label}"), 0, || self.make_pipeline(variant));
            event!(TRACE, "pipeline compiled", kernel = label, milliseconds = milliseconds(start));
            made
        };
        let (count, start) = (missing.len(), Instant::now());
        for (key, pipeline) in in_threads(missing.into_iter().collect(), make) {
            let pipeline = pipeline?;
            self.counters.pipelines.fetch_add(1, Ordering::Relaxed);
            known().entry(key.clone()).or_insert(Arc::new(pipeline));
        }
        if count > 0 {
            event!(DEBUG, "pipelines compiled", count = count, milliseconds = milliseconds(start));
        }
        let known = known();
        let all = wanted.iter().map(|key| known.get(key).cloned()).collect::<Option<_>>();
        all.ok_or_else(|| Error::Gpu("a kernel has no pipeline".into()))
    }

    #[cfg(not(test))]
    fn text(&self, variant: &Variant) -> String {
        variant.module(&self.target)
    }

    #[cfg(test)]
    fn text(&self, variant: &Variant) -> String {
        let text = variant.module(&self.target);
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
        // SAFETY: without loop bounding a shader must not loop forever. Every loop of every kernel counts to a parameter or a
        // constant, and memory accesses and divisions stay checked. (Loop bounding costs 2-3x: naga adds a 64-bit counter to
        // each loop.)
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

/// lavapipe before Mesa 25 ends loops after 65,535 iterations of an invocation, without an error. All devices have this bound,
/// so that there is only one set of kernels.
const MAX_ITERATIONS: u32 = 60_000;

fn target(device: &wgpu::Device, adapter: &AdapterSummary) -> Target {
    let limits = device.limits();
    let (least, greatest) = adapter.subgroup_sizes;
    let one_size = least == greatest;
    let subgroup = device.features().contains(wgpu::Features::SUBGROUP) && one_size;
    Target {
        class: if adapter.software { Class::Cpu } else { Class::Gpu },
        subgroup: if subgroup { least } else { 0 },
        max_binding: limits.max_storage_buffer_binding_size,
        offset_alignment: limits.min_storage_buffer_offset_alignment.into(),
        max_groups: limits.max_compute_workgroups_per_dimension,
        max_iterations: MAX_ITERATIONS,
        // Mesa's Vulkan drivers have the conversions wherever they have the type.
        converts_f16: device.features().contains(wgpu::Features::SHADER_F16),
        computes_f64: device.features().contains(wgpu::Features::SHADER_F64 | wgpu::Features::SHADER_INT64),
        blocks: &Block::ALL,
    }
}
