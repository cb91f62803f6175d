//! `Session`: a model on a device. It makes a plan for each signature of input shapes, keeps plans in a bounded cache, and
//! runs them.

mod appending;
mod decided;
mod entry;
mod integers;
mod larger;
mod options;
mod plans;
mod prepare;
mod segmented;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub(crate) use appending::Appending;
pub(crate) use entry::{Entry, Given, Ordered};
pub use options::{IntegerBits, SessionOptions};
pub(crate) use plans::Plans;
pub use prepare::Known;
use segmented::{Course, RunValue, read_together};

use decided::{Decision, InputFactOf};

use crate::budget::Budget;
use crate::facts::{InputFact, Signature};
use crate::gpu::{DeviceTensor, Executable, Gpu, Input, Weights};
use crate::graph::ValueId;
use crate::ops::mover::Mover;
use crate::ops::{Graph, Op};
use crate::plan::Plan;
use crate::shape::Room;
use crate::{
    DType, Datum, Device, Error, InputError, KernelTime, MemoryUse, Model, Outputs, PlanSummary, Result,
    Tensor, UnsupportedNode, ValueInfo, reference,
};

/// A model made ready on a device. `Send + Sync`; several threads may run it at once.
///
/// The first run for a signature of input shapes makes a plan and creates everything that it needs on the device. Each further
/// run creates nothing, with two exceptions: more runs are in flight at the same time than ever before, or a larger shape has
/// made the memory of runs grow in between, so that bind groups are made once more. The CPU reference makes no plans.
///
/// ```no_run
/// use sardonyx::{Device, DeviceOptions, Model, Session, Tensor};
/// let model = Model::load("model.onnx")?;
/// let device = Device::new(DeviceOptions::default())?;
/// let session = Session::new(&device, &model, Default::default())?;
/// let image = Tensor::from_slice(&[1, 3, 2, 2], &[0.5f32; 12])?;
/// let outputs = session.run(&[("image", &image)])?;
/// println!("{:?}", outputs["scores"].shape());
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Debug)]
pub struct Session {
    pub(crate) core: Arc<Core>,
}

/// What a session, its bindings, and the threads that prepare its plans share.
#[derive(Debug)]
pub(crate) struct Core {
    device: Device,
    inputs: Vec<ValueInfo>,
    /// The number of the model's input with each name, once somebody has asked for one.
    numbers: OnceLock<HashMap<String, usize>>,
    outputs: Vec<ValueInfo>,
    /// The graph before the passes, if the session runs the graph after them.
    before_passes: Option<Arc<Graph>>,
    entry: Arc<Entry>,
    /// Other graphs that calls have chosen; the last used comes first.
    chosen: Mutex<VecDeque<(Choice, Arc<Entry>)>>,
    /// Graphs that planning has chosen; the last used comes first.
    decisions: Mutex<VecDeque<Decision>>,
    /// Graphs that move elements on the device; the last used comes first.
    movers: Mutex<VecDeque<(Mover, Arc<Entry>)>>,
    /// `None` on the CPU reference.
    pub(crate) plans: Option<Arc<Plans>>,
    options: SessionOptions,
    keep: Vec<ValueId>,
    /// The same session with plans that hold 64-bit integers in 64 bits, once a run has needed them.
    wide: OnceLock<Arc<Core>>,
}

/// What distinguishes a graph of its own from the model's graph.
#[derive(Debug, PartialEq)]
struct Choice {
    /// Inputs with a default for which the caller gives a value.
    replaced: Vec<ValueId>,
    /// The values that the caller wants; `None` for the model's outputs.
    wanted: Option<Vec<String>>,
}

fn host<'a>(inputs: &[(&'a str, &'a Tensor)]) -> Vec<(&'a str, Input<'a>)> {
    inputs.iter().map(|(name, tensor)| (*name, Input::Tensor(tensor))).collect()
}

fn feeds<'n, 'a, V: Into<Input<'a>> + Clone>(inputs: &[(&'n str, V)]) -> Vec<(&'n str, Input<'a>)> {
    inputs.iter().map(|(name, given)| (*name, given.clone().into())).collect()
}

/// A name that is given twice.
fn twice<'a, G>(given: &[(&'a str, G)]) -> Option<&'a str> {
    if given.len() > 16 {
        let mut seen = HashSet::new();
        return given.iter().find(|(name, _)| !seen.insert(*name)).map(|(name, _)| *name);
    }
    // A set would take longer to make.
    let twice = |&i: &usize| given[..i].iter().any(|(name, _)| *name == given[i].0);
    (0..given.len()).find(twice).map(|i| given[i].0)
}

impl Session {
    /// Makes `model` ready on `device`.
    ///
    /// Weights go to the device with the first run, or with [`Session::prepare`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] with every node that Sardonyx has no operator for.
    ///
    /// ```
    /// use sardonyx::{Device, Model, Session, SessionOptions};
    /// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
    /// let session = Session::new(&Device::reference(), &Model::from_bytes(bytes)?, SessionOptions::default())?;
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn new(device: &Device, model: &Model, options: SessionOptions) -> Result<Session> {
        let (graph, before_passes) = match device.gpu() {
            None => (model.graph().clone(), None),
            // The reference runs the graph without the passes.
            Some(_) => (model.optimized()?, Some(model.graph().clone())),
        };
        // A pass may have replaced an output by an equal value with another name.
        let names = model.outputs().iter().map(|output| output.name.as_str().into()).collect();
        let core = Core::new(device, graph, names, options.within(model), Vec::new())?;
        let (inputs, outputs) = (model.inputs().to_vec(), model.outputs().to_vec());
        Ok(Session { core: Arc::new(Core { inputs, outputs, before_passes, ..core }) })
    }

    pub(crate) fn of_graph(
        device: &Device,
        graph: Arc<Graph>,
        options: SessionOptions,
        keep: Vec<ValueId>,
    ) -> Result<Session> {
        let names = graph.outputs.iter().map(|id| graph.value(*id).name.as_str().into()).collect();
        Ok(Session { core: Arc::new(Core::new(device, graph, names, options, keep)?) })
    }

    /// The inputs of a run, in the model's order.
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.core.inputs
    }

    /// The outputs of a run, in the model's order.
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.core.outputs
    }

    /// The device on which the session runs.
    pub fn device(&self) -> &Device {
        &self.core.device
    }

    /// Runs the model on inputs by name and waits for the outputs. An input is a [`Tensor`] or a [`DeviceTensor`];
    /// [`inputs!`](crate::inputs) mixes them. [`Session::run_values`] also returns outputs that are no tensors.
    ///
    /// # Errors
    /// [`Error::Input`] if an input is missing, unknown, given twice, or of another dtype or shape than the model's, or if
    /// dimensions to which the model gives one name differ in size;
    /// [`Error::Node`] if the shapes do not fit an operator; [`Error::Unsupported`] with every node that the device has no
    /// kernel for; [`Error::Limit`], [`Error::MemoryLimit`], [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Gpu`]
    /// from the device. Except where the device is lost, the session can be used again.
    ///
    /// ```
    /// use sardonyx::{Device, Model, Session, SessionOptions, Tensor};
    /// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
    /// # let session = Session::new(&Device::reference(), &Model::from_bytes(bytes)?, SessionOptions::default())?;
    /// let x = Tensor::from_slice(&[2], &[-1.0f32, 2.0])?;
    /// let outputs = session.run(&[("x", &x)])?;
    /// assert_eq!(outputs["y"].as_slice::<f32>()?, [0.0, 2.0]);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn run<'a, V: Into<Input<'a>> + Clone>(&self, inputs: &[(&str, V)]) -> Result<Outputs> {
        self.in_enough_bits(&feeds(inputs), |core, given| core.run(&core.ordered(given, None)?))
    }

    /// As [`Session::run`], for a model with inputs or outputs that are sequences, optionals or maps. An input may be a [`Datum`].
    ///
    /// # Errors
    /// As [`Session::run`].
    ///
    /// ```
    /// # use sardonyx::{Device, Model, Session, Tensor};
    /// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
    /// # let session = Session::new(&Device::reference(), &Model::from_bytes(bytes)?, Default::default())?;
    /// # let x = Tensor::from_slice(&[1], &[2.0f32])?;
    /// let outputs = session.run_values(&[("x", &x)])?;
    /// assert_eq!(outputs["y"].tensor(), Some(&x));
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn run_values<'a, V: Into<Input<'a>> + Clone>(&self, inputs: &[(&str, V)]) -> Result<Outputs<Datum>> {
        self.in_enough_bits(&feeds(inputs), |core, given| {
            let given = core.ordered(given, None)?;
            Ok(Outputs::new(&given.entry.names, core.values(&given)?))
        })
    }

    /// Computes the values with these names, whether they are outputs of the model or not. Nodes that only other values need
    /// do not run, and inputs that only those need may be left out. Values inside functions and subgraphs that the model
    /// inlines have no names.
    ///
    /// # Errors
    /// [`Error::Output`] if the model has no value of this name; otherwise as [`Session::run`].
    ///
    /// ```
    /// # use sardonyx::{Device, Model, Session, Tensor};
    /// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
    /// # let session = Session::new(&Device::reference(), &Model::from_bytes(bytes)?, Default::default())?;
    /// # let x = Tensor::from_slice(&[1], &[2.0f32])?;
    /// let outputs = session.run_for(&["y"], &[("x", &x)])?;
    /// assert_eq!(outputs.len(), 1);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn run_for<'a, V: Into<Input<'a>> + Clone>(
        &self,
        wanted: &[&str],
        inputs: &[(&str, V)],
    ) -> Result<Outputs> {
        self.in_enough_bits(&feeds(inputs), |core, given| core.run(&core.ordered(given, Some(wanted))?))
    }

    /// As [`Session::run_for`], for values that may be sequences, optionals or maps.
    ///
    /// # Errors
    /// As [`Session::run_for`].
    ///
    /// ```
    /// # use sardonyx::{Device, Model, Session, Tensor};
    /// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
    /// # let session = Session::new(&Device::reference(), &Model::from_bytes(bytes)?, Default::default())?;
    /// # let x = Tensor::from_slice(&[1], &[2.0f32])?;
    /// let outputs = session.run_values_for(&["y"], &[("x", &x)])?;
    /// assert_eq!(outputs["y"].tensor(), Some(&x));
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn run_values_for<'a, V: Into<Input<'a>> + Clone>(
        &self,
        wanted: &[&str],
        inputs: &[(&str, V)],
    ) -> Result<Outputs<Datum>> {
        self.in_enough_bits(&feeds(inputs), |core, given| {
            let given = core.ordered(given, Some(wanted))?;
            Ok(Outputs::new(&given.entry.names, core.values(&given)?))
        })
    }

    /// Runs the model without blocking the calling task. A thread makes what is not ready for inputs of these shapes, and the
    /// future is woken when the device has finished. Dropping the future cancels what has not been submitted. On the CPU
    /// reference the call itself computes everything.
    ///
    /// # Errors
    /// As [`Session::run`].
    ///
    /// ```no_run
    /// # async fn f(session: &sardonyx::Session, x: &sardonyx::Tensor) -> sardonyx::Result<()> {
    /// let outputs = session.run_async(&[("x", x)]).await?;
    /// # Ok(()) }
    /// ```
    pub async fn run_async<'a, V: Into<Input<'a>> + Clone>(&self, inputs: &[(&str, V)]) -> Result<Outputs> {
        let (names, values) = self.in_enough_bits_async(&feeds(inputs)).await?;
        let tensors = names.iter().zip(values).map(|(name, value)| value.into_tensor(name));
        Ok(Outputs::new(&names, tensors.collect::<Result<_>>()?))
    }

    /// As [`Session::run_async`], for a model with inputs or outputs that are sequences, optionals or maps.
    ///
    /// # Errors
    /// As [`Session::run`].
    ///
    /// ```no_run
    /// # async fn f(session: &sardonyx::Session, texts: &sardonyx::Datum) -> sardonyx::Result<()> {
    /// let outputs = session.run_values_async(&[("texts", texts)]).await?;
    /// println!("{}", outputs["tokens"]);
    /// # Ok(()) }
    /// ```
    pub async fn run_values_async<'a, V: Into<Input<'a>> + Clone>(
        &self,
        inputs: &[(&str, V)],
    ) -> Result<Outputs<Datum>> {
        let (names, values) = self.in_enough_bits_async(&feeds(inputs)).await?;
        Ok(Outputs::new(&names, values))
    }

    /// Runs the model and leaves its outputs on the device, for further runs or for [`DeviceTensor::read`]. Returns without
    /// waiting, unless a kernel may report an error ([`Error::Node`]: an index outside of its axis, for example).
    ///
    /// # Errors
    /// As [`Session::run`].
    ///
    /// ```
    /// # use sardonyx::{Device, Model, Session, Tensor};
    /// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
    /// # let session = Session::new(&Device::reference(), &Model::from_bytes(bytes)?, Default::default())?;
    /// # let x = Tensor::from_slice(&[2], &[2.0f32, -1.0])?;
    /// let first = session.run_to_device(&[("x", &x)])?;
    /// let second = session.run(&[("x", &first["y"])])?;
    /// # assert_eq!(second["y"].as_slice::<f32>()?, [2.0, 0.0]);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn run_to_device<'a, V: Into<Input<'a>> + Clone>(
        &self,
        inputs: &[(&str, V)],
    ) -> Result<Outputs<DeviceTensor>> {
        self.in_enough_bits(&feeds(inputs), |core, given| core.run_to_device(&core.ordered(given, None)?))
    }

    /// What a run on inputs of these shapes dispatches, and the memory that it takes. Nothing runs, and nothing is created on
    /// the device ([`Session::prepare`] does that). An input whose value decides shapes is given by value. See [`PlanSummary`] for
    /// an example.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::Device`] on the CPU reference, which has no plans.
    pub fn plan<K: Into<Known> + Clone>(&self, inputs: &[(&str, K)]) -> Result<PlanSummary> {
        self.core.in_enough_bits(|core| {
            let given = core.declared(inputs)?;
            let budget = Arc::new(Budget::new(&core.options.limits));
            given.survey(core, &mut |entry, inputs| {
                let given = Ordered { entry: entry.clone(), inputs: inputs.to_vec() };
                core.plan_within(&given, Some(budget.clone()))
            })
        })
    }

    /// Calls `each` with every plan of a run on these inputs, except those that only a run can make.
    pub(crate) fn plans_of(
        &self,
        given: &Ordered<impl Given>,
        each: &mut dyn FnMut(&Ordered<InputFact>, &Plan) -> Result<()>,
    ) -> Result<PlanSummary> {
        let core = self.core.widest();
        given.survey(core, &mut |entry, inputs| {
            let given = Ordered { entry: entry.clone(), inputs: inputs.to_vec() };
            let plan = core.plan_within(&given, None)?;
            each(&given, &plan)?;
            Ok(plan)
        })
    }

    /// Runs once, with a pass for each kernel, and measures each pass on the device, in the order of dispatch. The times add
    /// up to less than a run, as the time between kernels is not measured. See [`KernelTime`] for an example. Of a run of several
    /// segments, all are measured, each iteration of a loop by itself; the nodes that the host runs are not listed.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::Device`] on the CPU reference, or if the device has no timestamp queries.
    pub fn profile(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<KernelTime>> {
        self.in_enough_bits(&host(inputs), |core, given| core.profile(&core.ordered(given, None)?))
    }

    /// The bytes that the session holds on its device. See [`MemoryUse`] for an example.
    pub fn memory(&self) -> MemoryUse {
        let memory = self.core.memory();
        match self.core.wide.get() {
            Some(wide) => memory + wide.memory(),
            None => memory,
        }
    }

    /// The time that the device has spent on the runs of this session up to now: of each run, or of each segment of it, from the
    /// beginning of its first pass to the end of its last, by timestamps. Bound runs ([`Session::bind`]) are not measured. `None` if
    /// the device is not timed ([`DeviceOptions::timed`](crate::DeviceOptions::timed)), or has no timestamps.
    ///
    /// ```no_run
    /// # fn f(model: &sardonyx::Model, x: &sardonyx::Tensor) -> sardonyx::Result<()> {
    /// use sardonyx::{Device, DeviceOptions, Session};
    /// let session = Session::new(&Device::new(DeviceOptions::new().timed(|_| true))?, model, Default::default())?;
    /// session.run(&[("x", x)])?;
    /// println!("{:?} of device time", session.device_time());
    /// # Ok(()) }
    /// ```
    pub fn device_time(&self) -> Option<std::time::Duration> {
        let cores = [Some(&self.core), self.core.wide.get()].into_iter().flatten();
        cores.filter_map(|core| core.plans.as_ref()?.frames.time()).reduce(|sum, time| sum + time)
    }

    /// Frees the memory of runs that are not in flight. Plans, pipelines and weights stay: the next run allocates memory, and
    /// compiles nothing.
    ///
    /// ```no_run
    /// # fn f(session: &sardonyx::Session) {
    /// session.trim();
    /// assert_eq!(session.memory().arena, 0);
    /// # }
    /// ```
    pub fn trim(&self) {
        for core in [Some(&self.core), self.core.wide.get()].into_iter().flatten() {
            if let Some(plans) = &core.plans {
                plans.trim();
            }
        }
    }

    /// Tensors by name, in the graph's order.
    pub(crate) fn given<'a>(&self, inputs: &[(&'a str, &'a Tensor)]) -> Result<Ordered<Input<'a>>> {
        self.core.widest().ordered(&host(inputs), None)
    }

    /// The same, after planning has found in how many bits integers are held.
    pub(crate) fn planned<'a>(&self, inputs: &[(&'a str, &'a Tensor)]) -> Result<Ordered<Input<'a>>> {
        self.plan(inputs)?;
        self.given(inputs)
    }

    /// The graph in which inputs with a default are the model's constants.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn graph(&self) -> &Graph {
        &self.core.entry.graph
    }
}

impl Core {
    fn new(
        device: &Device,
        graph: Arc<Graph>,
        names: Vec<Arc<str>>,
        options: SessionOptions,
        keep: Vec<ValueId>,
    ) -> Result<Core> {
        let unsupported = unsupported(&graph);
        if !unsupported.is_empty() {
            return Err(Error::Unsupported(unsupported));
        }
        let infos = |ids: &[ValueId]| ids.iter().map(|id| ValueInfo::of(&graph, *id)).collect();
        let (inputs, outputs) = (infos(&graph.listed_inputs()), infos(&graph.outputs));
        let entry = Arc::new(Entry::new(graph, names, device, &options, &keep)?);
        let plans = device.gpu().map(|gpu| Plans::new(gpu, options.plan_cache));
        if let Some(plans) = &plans {
            plans.make_room_for(entry.plans_of_a_run());
        }
        Ok(Core {
            device: device.clone(),
            inputs,
            numbers: OnceLock::new(),
            outputs,
            before_passes: None,
            entry,
            chosen: Mutex::default(),
            decisions: Mutex::default(),
            movers: Mutex::default(),
            plans,
            options,
            keep,
            wide: OnceLock::new(),
        })
    }

    /// All graphs that have been made for runs.
    fn entries(&self) -> Vec<Arc<Entry>> {
        let chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        let decisions = self.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        let movers = self.movers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_calls = chosen.iter().map(|(_, entry)| entry).chain([&self.entry]);
        let own = decisions.iter().map(Decision::entry).chain(movers.iter().map(|(_, entry)| entry));
        of_calls.chain(own).flat_map(Entry::all).collect()
    }

    /// The plan of a run on these inputs: a plan that is ready, or one that is made to be looked at.
    fn plan_within(&self, given: &Ordered<impl Given>, budget: Option<Arc<Budget>>) -> Result<Plan> {
        match self.plans()?.find(&given.entry, &given.signature()?) {
            Some(executable) => Ok(executable.plan.clone()),
            None => given.plan(budget),
        }
    }

    fn memory(&self) -> MemoryUse {
        let Some(plans) = &self.plans else { return MemoryUse::default() };
        let entries = self.entries();
        let weights = Weights::bytes_of(entries.iter().filter_map(|entry| entry.weights()));
        MemoryUse {
            weights,
            arena: plans.frames.bytes(),
            plans: plans.own.now(),
            peak: plans.all.peak() + weights,
        }
    }

    fn run(&self, given: &Ordered<Input<'_>>) -> Result<Outputs> {
        Ok(Outputs::new(&given.entry.names, self.tensors(given)?))
    }

    fn run_to_device(&self, given: &Ordered<Input<'_>>) -> Result<Outputs<DeviceTensor>> {
        let entry = &given.entry;
        let tensors = match &self.plans {
            Some(_) if entry.segmented().is_some() => {
                let (outputs, gpu) = (self.segments_of(given, None)?, self.gpu()?);
                let placed = |(name, output): (&Arc<str>, RunValue)| {
                    output.into_tensor(name)?.on_device(gpu, self.integers())
                };
                entry.names.iter().zip(outputs).map(placed).collect::<Result<_>>()?
            }
            Some(_) => {
                let (gpu, integers) = (self.gpu()?, self.integers());
                let outputs = self.run_in_place(given)?.into_iter();
                outputs.map(|output| output.on_device(gpu, integers)).collect::<Result<_>>()?
            }
            None => self.tensors(given)?.into_iter().map(DeviceTensor::on_host).collect(),
        };
        Ok(Outputs::new(&entry.names, tensors))
    }

    fn profile(&self, given: &Ordered<Input<'_>>) -> Result<Vec<KernelTime>> {
        if given.entry.segmented().is_some() {
            let times = Mutex::default();
            self.segments_of(given, Some(&times))?;
            return Ok(times.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        let (executable, plans) = (self.executable(given)?, self.plans()?);
        executable.profile(&plans.frames, &given.entry.graph, &given.inputs)
    }

    /// The outputs of a run, and the values that the session keeps besides. All of them must be tensors.
    pub(crate) fn tensors(&self, given: &Ordered<Input<'_>>) -> Result<Vec<Tensor>> {
        let graph = &given.entry.graph;
        match &self.plans {
            Some(plans) if given.entry.segmented().is_none() => {
                let outputs = self.executable(given)?.run(&plans.frames, graph, &given.inputs)?;
                self.interrupt()?;
                Ok(outputs)
            }
            _ => {
                let kept = self.keep.iter().map(|id| graph.value(*id).name.as_str());
                let names = given.entry.names.iter().map(|name| name.as_ref()).chain(kept);
                names.zip(self.values(given)?).map(|(name, value)| value.into_tensor(name)).collect()
            }
        }
    }

    /// The outputs of a run, and the values that the session keeps besides.
    pub(crate) fn values(&self, given: &Ordered<Input<'_>>) -> Result<Vec<Datum>> {
        let graph = &given.entry.graph;
        match &self.plans {
            None => {
                let budget = self.options.reference_limits.as_ref().map(Budget::new);
                let (inputs, interrupt) = (given.values(), self.device.interrupt());
                let values = reference::run_within(graph, &inputs, false, interrupt, budget.as_ref())?;
                reference::values(graph, &values)
            }
            Some(_) if given.entry.segmented().is_some() => {
                let outputs = self.segments_of(given, None)?;
                read_together(&outputs.iter().collect::<Vec<_>>())
            }
            Some(_) => Ok(self.tensors(given)?.into_iter().map(Datum::Tensor).collect()),
        }
    }

    /// The outputs of a run of several segments, where they lie. `times`: where the time of each kernel goes.
    fn segments_of(
        &self,
        given: &Ordered<Input<'_>>,
        times: Option<&Mutex<Vec<KernelTime>>>,
    ) -> Result<Vec<RunValue>> {
        let budget = self.options.reference_limits.as_ref().map(Budget::new);
        let course = Course { go_on: &|| self.interrupt(), times, budget: budget.as_ref() };
        self.outputs_of(&given.entry, &given.placed(), &course)
    }

    /// The graph as the model has it.
    pub(crate) fn listed(&self) -> &Graph {
        self.before_passes.as_ref().unwrap_or(&self.entry.graph)
    }

    /// The element type that the model declares for an input.
    pub(crate) fn declared_dtype(&self, input: &str) -> DType {
        let graph = &self.entry.graph;
        let declared = match self.entry.number(input) {
            Some(number) => graph.value(graph.inputs[number]).dtype,
            // An input with a default is a constant of the graph.
            None => {
                let named = || self.inputs.iter().enumerate().map(|(i, info)| (info.name.clone(), i));
                let numbers = self.numbers.get_or_init(|| named().collect());
                numbers.get(input).and_then(|&number| self.inputs[number].dtype)
            }
        };
        declared.unwrap_or(DType::F32)
    }

    /// The inputs in the graph's order, after checking them against what the model declares.
    pub(crate) fn ordered<G: Given>(
        &self,
        given: &[(&str, G)],
        wanted: Option<&[&str]>,
    ) -> Result<Ordered<G>> {
        if let Some(name) = twice(given) {
            return Err(InputError::Twice { name: name.into() }.into());
        }
        let entry = self.entry_for(given, wanted)?;
        let graph = &entry.graph;
        let mut by_number: Vec<Option<&G>> = vec![None; graph.inputs.len()];
        for (name, given) in given {
            if let Some(number) = entry.number(name) {
                by_number[number] = Some(given);
            }
        }
        let mut inputs = Vec::with_capacity(graph.inputs.len());
        let mut missing = Vec::new();
        for (id, given) in graph.inputs.iter().zip(by_number) {
            let value = graph.value(*id);
            let Some(given) = given else {
                missing.push(ValueInfo::of(graph, *id));
                continue;
            };
            entry::check(given, value, self.device.gpu())?;
            inputs.push(given.clone());
        }
        if !missing.is_empty() {
            return Err(InputError::Missing(missing).into());
        }
        entry.check_names(&inputs)?;
        let entry = self.settled(entry, &|i, by_value| Given::known(&inputs[i], by_value))?;
        for (i, (id, given)) in entry.graph.inputs.iter().zip(&inputs).enumerate() {
            if given.value().is_none() && entry.decides_shapes(i) {
                let reason = "its value decides shapes, so it must be given as a `Tensor`".into();
                return Err(InputError::Value { name: entry.graph.value(*id).name.clone(), reason }.into());
            }
        }
        Ok(Ordered { entry, inputs })
    }

    /// The graph that runs for inputs of which this is known; a graph with open branches where their conditions are not known.
    fn settled(&self, mut entry: Arc<Entry>, fact: &InputFactOf) -> Result<Arc<Entry>> {
        while let Some(decided) = entry.decided() {
            let Some(conditions) = decided.conditions(&entry.graph, fact)? else { break };
            entry = self.decided(&entry, decided, conditions)?;
        }
        Ok(entry)
    }

    /// The graph that takes the given inputs and computes the wanted values. Defaults of inputs that are not given are its
    /// constants.
    fn entry_for<G>(&self, given: &[(&str, G)], wanted: Option<&[&str]>) -> Result<Arc<Entry>> {
        let is_input = |name: &str| self.entry.number(name).is_some();
        if wanted.is_none() && given.iter().all(|(name, _)| is_input(name)) {
            return Ok(self.entry.clone());
        }
        let listed = self.listed();
        let named = listed.defaults.iter().map(|(_, id)| (listed.value(*id).name.as_str(), *id));
        let defaults: HashMap<&str, ValueId> = named.collect();
        let mut replaced = Vec::new();
        for (name, _) in given.iter().filter(|(name, _)| !is_input(name)) {
            let Some(&id) = defaults.get(name) else { return Err(self.no_such_input(name)) };
            replaced.push(id);
        }
        replaced.sort();
        let wanted = wanted.map(|names| names.iter().map(|name| name.to_string()).collect());
        self.entry_of(Choice { replaced, wanted })
    }

    fn no_such_input(&self, name: &str) -> Error {
        let expected = self.inputs.iter().map(|info| info.name.clone()).collect();
        InputError::Unknown { name: name.into(), expected }.into()
    }

    /// The graph of this choice, from the cache, or made now.
    fn entry_of(&self, choice: Choice) -> Result<Arc<Entry>> {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = chosen.iter().position(|(own, _)| *own == choice)
            && let Some(found) = chosen.remove(at)
        {
            let entry = found.1.clone();
            chosen.push_front(found);
            return Ok(entry);
        }
        let mut graph = match &choice.replaced[..] {
            [] => self.listed().clone(),
            replaced => self.listed().without_defaults(replaced),
        };
        let names = match &choice.wanted {
            None => self.entry.names.clone(),
            Some(wanted) => {
                let outputs = self.values_of(wanted)?;
                graph = graph.selecting(outputs);
                wanted.iter().map(|name| name.as_str().into()).collect()
            }
        };
        if self.before_passes.is_some() {
            graph = crate::passes::run(graph, &self.options.limits)?;
        }
        let entry = Arc::new(Entry::new(Arc::new(graph), names, &self.device, &self.options, &self.keep)?);
        if let Some(plans) = &self.plans {
            plans.make_room_for(entry.plans_of_a_run());
        }
        chosen.push_front((choice, entry.clone()));
        chosen.truncate(self.options.plan_cache);
        Ok(entry)
    }

    /// The values with these names: nodes', inputs or constants.
    fn values_of(&self, names: &[String]) -> Result<Vec<ValueId>> {
        let values = self.listed().values.iter().enumerate().rev();
        let values = values.filter(|(_, value)| !value.name.is_empty());
        let numbers: HashMap<&str, usize> = values.map(|(i, value)| (value.name.as_str(), i)).collect();
        let value = |name: &String| {
            let found = numbers.get(name.as_str()).map(|&i| ValueId(i as u32));
            found.ok_or_else(|| Error::Output {
                name: name.clone(),
                reason: "the model has no value of this name; `sardonyx inspect --stage graph` prints all"
                    .into(),
            })
        };
        names.iter().map(value).collect()
    }

    /// The executable for inputs of these shapes, from the cache, or made now.
    pub(crate) fn executable(&self, given: &Ordered<impl Given>) -> Result<Arc<Executable>> {
        self.executable_with(given, Vec::new())
    }

    /// The same, where there is room behind some inputs.
    fn executable_with(
        &self,
        given: &Ordered<impl Given>,
        rooms: Vec<(usize, Room)>,
    ) -> Result<Arc<Executable>> {
        let (plans, signature) = (self.plans()?, Signature { rooms, ..given.signature()? });
        self.interrupt()?;
        if let Some(executable) = plans.find(&given.entry, &signature) {
            return Ok(executable);
        }
        let mut known = given.input_facts();
        signature.rooms.iter().for_each(|&(i, room)| known[i].room = Some(room));
        plans.make(&given.entry, &known, signature, &|| self.interrupt())
    }

    /// Runs, and leaves each output where it is made: in memory of its own, in an input's, or with the host.
    pub(crate) fn run_in_place(&self, given: &Ordered<Input<'_>>) -> Result<Vec<DeviceTensor>> {
        let Appending { executable, inputs: appended } = self.appending(given, &|_| false)?;
        let mut inputs = given.inputs.clone();
        for (i, tensor) in &appended {
            inputs[*i] = Input::Device(tensor);
        }
        executable.run_in_place(&self.plans()?.frames, &given.entry.graph, &inputs)
    }

    /// Fails if work on the session's device is to end early.
    pub(crate) fn interrupt(&self) -> Result<()> {
        self.device.interrupt().check()
    }

    pub(crate) fn gpu(&self) -> Result<&Arc<Gpu>> {
        self.device.gpu().ok_or_else(no_plans)
    }

    pub(crate) fn plans(&self) -> Result<&Arc<Plans>> {
        self.plans.as_ref().ok_or_else(no_plans)
    }
}

fn no_plans() -> Error {
    Device::reference().cannot("it has no plans; open a GPU (`Device::new`)")
}

/// Every node whose operator Sardonyx does not have, also in subgraphs.
pub(crate) fn unsupported(graph: &Graph) -> Vec<UnsupportedNode> {
    let nodes = |node: &crate::ops::Node| match &*node.op {
        Op::Unsupported(reason) => vec![UnsupportedNode {
            node: node.name.clone(),
            op: node.op_type.clone(),
            opset: node.opset,
            reason: reason.clone(),
        }],
        op => op.operator().subgraphs().into_iter().flat_map(|body| unsupported(body)).collect(),
    };
    graph.nodes.iter().flat_map(nodes).collect()
}
